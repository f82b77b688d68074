//! Saves and loads that take their time, for tests (`rdb-key-save-delay`, `key-load-delay`): what happens meanwhile can
//! be looked at then. It knows no data.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longer sleeps are cut, so that whoever ends the work is heard.
const SLICE: Duration = Duration::from_millis(10);

/// What a key takes beside its work.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    nanos: u64,
    /// Too short to sleep alone: gathered until it is worth it.
    owed: u64,
}

impl Pace {
    /// Of an option: microseconds a key or, negative, keys a microsecond.
    pub fn of(option: i64) -> Pace {
        let nanos = match option {
            0.. => option.unsigned_abs().saturating_mul(1000),
            _ => 1000 / option.unsigned_abs(),
        };
        Pace { nanos, owed: 0 }
    }

    /// Whether there is any delay.
    pub fn is_slow(self) -> bool {
        self.nanos > 0
    }

    /// A key is done. `look` is asked from time to time; its error ends the wait. Nobody waits once the server `ends`.
    ///
    /// # Errors
    /// That of `look`.
    pub fn wait<E>(
        &mut self,
        ends: &AtomicBool,
        mut look: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        const LEAST: u64 = 100_000;
        self.owed = self.owed.saturating_add(self.nanos);
        if self.owed < LEAST {
            return Ok(());
        }
        let mut left = Duration::from_nanos(std::mem::take(&mut self.owed));
        while !left.is_zero() {
            look()?;
            if ends.load(Ordering::Relaxed) {
                break;
            }
            let part = left.min(SLICE);
            std::thread::sleep(part);
            left -= part;
        }
        Ok(())
    }
}

/// Nobody wants the work any more.
pub fn given_up() -> io::Error {
    io::Error::other("given up")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn short_delays_are_gathered_and_long_ones_end_when_nobody_waits() {
        let begun = Instant::now();
        let mut pace = Pace::of(-2);
        let mut looks = 0;
        for _ in 0..400 {
            let look = || {
                looks += 1;
                Ok::<_, ()>(())
            };
            pace.wait(&AtomicBool::new(false), look).expect("nothing ends it");
        }
        assert_eq!(looks, 2, "half a microsecond each");
        assert!(!Pace::of(0).is_slow());
        let mut long = Pace::of(60_000_000);
        assert_eq!(long.wait(&AtomicBool::new(false), || Err::<(), _>(7)), Err(7));
        assert_eq!(long.wait(&AtomicBool::new(true), || Ok::<_, ()>(())), Ok(()));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
