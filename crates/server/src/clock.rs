//! The time that commands take, at a few nanoseconds a reading: the processor's time stamp counter where
//! the kernel itself keeps its time by it, else the system's monotonic clock. It knows durations only (what
//! day it is, `shared::now` says), and how far the local time is from UTC.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds a tick, times 2^32; 0 = ticks are the system clock's nanoseconds.
static SCALE: AtomicU64 = AtomicU64::new(0);
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// A moment, meaningful only as a difference to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks(u64);

impl Ticks {
    /// Now.
    #[inline]
    pub fn now() -> Ticks {
        if SCALE.load(Ordering::Relaxed) == 0 { Ticks::of_system() } else { Ticks(counter()) }
    }

    /// Nanoseconds since an earlier moment; 0 if it is not earlier.
    #[inline]
    pub fn nanos_since(self, earlier: Ticks) -> u64 {
        let ticks = self.0.saturating_sub(earlier.0);
        match SCALE.load(Ordering::Relaxed) {
            0 => ticks,
            scale => {
                let nanos = (u128::from(ticks) * u128::from(scale)) >> 32;
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
        }
    }

    fn of_system() -> Ticks {
        let origin = ORIGIN.get_or_init(Instant::now);
        Ticks(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Seconds that the local time is ahead of UTC at a moment (in seconds since 1970), daylight saving included.
pub fn local_offset_s(at_s: i64) -> i64 {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both addresses are of memory of ours, for the time of the call; all zeroes are a valid `tm`.
    let parts = unsafe {
        libc::localtime_r(&raw const at_s, parts.as_mut_ptr());
        parts.assume_init()
    };
    parts.tm_gmtoff
}

/// Finds out how long a tick is. Called once before the first command; moments read before mean nothing
/// afterwards.
pub fn calibrate() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        if std::fs::read_to_string(path).is_ok_and(|name| name.trim() == "tsc") {
            SCALE.store(scale().unwrap_or(0), Ordering::Relaxed);
        }
    });
}

/// Nanoseconds a tick, times 2^32, measured over a millisecond.
fn scale() -> Option<u64> {
    let (begin, first) = reading();
    while begin.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    let (end, last) = reading();
    let nanos = end.duration_since(begin).as_nanos();
    let ticks = u128::from(last.checked_sub(first)?);
    // A counter slower than 10 MHz is none that a kernel would keep time by.
    let scale = u64::try_from((nanos << 32).checked_div(ticks)?).ok()?;
    (1 << 24..100 << 32).contains(&scale).then_some(scale)
}

/// Both clocks at one moment: the best of some tries, since a thread may lose its core in between.
fn reading() -> (Instant, u64) {
    let tries = (0..8).map(|_| {
        let before = counter();
        let now = Instant::now();
        (counter().saturating_sub(before), now, before)
    });
    tries.min_by_key(|(width, ..)| *width).map_or_else(
        || (Instant::now(), counter()),
        |(width, now, before)| (now, before + width / 2),
    )
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; a system that forbids it does not keep its time
    // by it, and then only `reading` during start-up comes here, after the kernel's word.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_system_clock() {
        calibrate();
        // The system's moments lie around ours, since the thread may lose its core in between.
        let around = || (Instant::now(), Ticks::now(), Instant::now());
        let (before, ticks, after) = around();
        std::thread::sleep(Duration::from_millis(20));
        let (later_before, later, later_after) = around();
        let ours = later.nanos_since(ticks) as f64;
        let least = later_before.duration_since(after).as_nanos() as f64;
        let most = later_after.duration_since(before).as_nanos() as f64;
        assert!(ours > least * 0.98 && ours < most * 1.02, "{ours} within {least} and {most}");
        assert_eq!(ticks.nanos_since(Ticks::now()), 0);
    }
}
