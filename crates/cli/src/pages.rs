//! Huge pages for the data, made before it needs them. With small pages nearly every key costs a walk through the
//! page tables, a seventh of a pipelined GET; but a huge page that is made at the moment of a fault holds the
//! command up, for milliseconds where the system must first make room, and one that is gathered from small
//! pages afterwards holds up whoever touches them meanwhile. So while memory grows a thread keeps a few pieces
//! ready for the allocator, and gives them back when it grows no more. What came in small pages all the same stays there.
//! Redis must do without huge pages: its forked child copies pages, we never fork.
//!
//! It knows addresses alone: neither the allocator nor what lies there.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use larder_server::turns::{self, Share};

use crate::pieces::{self, HUGE};

/// Pieces ready while memory grows.
const AHEAD: usize = 3;
/// Less memory than this is at home in the processor's own table of pages, more or less; and the arenas of threads that do
/// nothing take a piece each, which would be a whole huge page.
const WORTH: usize = 8 * HUGE;
/// Memory grows no more if none was taken for so long.
const GROWING: Duration = Duration::from_millis(250);
/// Where a huge page took more of the processor the system had to make room first, ...
const SLOW: Duration = Duration::from_millis(20);
/// ... and is left alone for so many times that.
const REST: u32 = 16;

/// Starts the thread. `used` tells the bytes allocated.
pub fn start(used: fn() -> usize) {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    if setting.is_ok_and(|setting| setting.contains("[never]")) {
        return;
    }
    let thread = std::thread::Builder::new().name("pages".to_owned());
    // Without it the pages stay small: slower, not wrong.
    drop(thread.spawn(move || work(used)));
}

fn work(used: fn() -> usize) {
    turns::give_way(Share::Tenth);
    pieces::keep();
    let (mut taken, mut when) = (pieces::taken(), None);
    loop {
        let now = pieces::taken();
        if now != taken {
            taken = now;
            when = (used() >= WORTH).then(Instant::now);
        }
        match when {
            Some(since) if since.elapsed() < GROWING => {
                if !stay_ahead() {
                    return;
                }
                std::thread::park_timeout(GROWING / 2);
            }
            _ => {
                while pieces::drop_one() {}
                // Until a piece is taken.
                std::thread::park();
            }
        }
    }
}

/// Makes pieces ready. Whether it is worth while to go on with that in this system.
fn stay_ahead() -> bool {
    loop {
        let begun = spent(libc::CLOCK_THREAD_CPUTIME_ID);
        match pieces::add(AHEAD) {
            None => return true,
            Some(Ok(())) => {}
            // Not known to this system: never.
            Some(Err(libc::EINVAL | libc::ENOSYS)) => return false,
            // No room: another time.
            Some(Err(_)) => return true,
        }
        let took = spent(libc::CLOCK_THREAD_CPUTIME_ID).saturating_sub(begun);
        if took > SLOW {
            std::thread::sleep(took * REST);
        }
    }
}

/// Time on the processor by one of the system's clocks for that.
fn spent(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one such structure.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}
