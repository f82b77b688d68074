//! Turns on the processor: threads that work for nobody in particular (a save, a rewrite, a copy for a replica, freeing, making
//! pages ready) give way to those who serve. It knows the system's scheduler, and nothing of what the threads do.
#![allow(unsafe_code)]

/// The longest turn that the scheduler knows, in nanoseconds.
const LONGEST: u64 = 100_000_000;
/// `SCHED_OTHER`, the policy of whoever asked for none.
const OTHER: u32 = 0;
/// Politer than this nobody can be.
const NICE_MAX: i32 = 19;

/// How much a thread that gives way gets of a core that others want whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// A quarter: it may hold locks that who serves waits for, and is to come to an end.
    Quarter,
    /// A tenth.
    Tenth,
}

/// The calling thread, and those that it starts from here on, give way: whoever wakes up beside it on the same core
/// runs at once. By default it would wait for the end of the other's turn, which is looked at with each tick of
/// the system's clock: every 4 milliseconds where that has 250 a second.
///
/// The turn is what Linux 6.12 and later go by (sched(7), `sched_runtime` of `SCHED_OTHER`): the shorter goes first. Older
/// ones go by the share alone. A system that refuses it serves a little less evenly, so nobody is told.
pub fn give_way(share: Share) {
    let politer = match share {
        Share::Quarter => 5,
        Share::Tenth => 10,
    };
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or(0);
    let mut now = Attributes::default();
    // SAFETY: the call writes one such structure, of the size that it is told, and knows 0 as the calling thread.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size, 0) };
    // Batch work, or what runs only where nobody else does, was somebody's wish, and gives way as it is.
    if known != 0 || now.policy != OTHER {
        return;
    }
    let nice = now.nice.saturating_add(politer).min(NICE_MAX);
    let wanted = Attributes { size, nice, runtime: LONGEST, ..Attributes::default() };
    // SAFETY: the call reads one such structure, whose size stands in it, and changes the calling thread's turns alone.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
}

/// `struct sched_attr` in its first form, which every Linux from 3.14 on knows.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        // SAFETY: the call only reads how polite the calling thread is.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn only_the_thread_that_asks_gives_way() {
        let before = niceness();
        let inside = std::thread::spawn(|| {
            give_way(Share::Quarter);
            let first = niceness();
            give_way(Share::Tenth);
            (first, niceness())
        });
        assert_eq!(
            inside.join().unwrap(),
            ((before + 5).min(NICE_MAX), (before + 15).min(NICE_MAX))
        );
        assert_eq!(niceness(), before);
    }
}
