//! Huge pages for the data, made before it needs them. With small pages nearly every key costs a walk through the
//! page tables, a seventh of a pipelined GET; but a huge page that is made at the moment of a fault holds the
//! command up, for milliseconds where the system must first make room, and one that is gathered from small
//! pages in use holds up whoever touches them meanwhile. So while memory grows a thread keeps a few pieces
//! ready for the allocator, and gives them back when it grows no more. What came in small pages all the same is gathered
//! (MADV_COLLAPSE of Linux 6.1) while the process does nothing.
//! Redis must do without huge pages: its forked child copies pages, we never fork.
//!
//! It knows addresses alone: neither the allocator nor what lies there.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::pieces::{self, HUGE};

const PAGE: usize = 4096;
const PAGES: usize = HUGE / PAGE;
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
/// What the process does is looked at so often.
const LOOK: Duration = Duration::from_millis(500);
/// Nobody wants anything of it if no command ran and it took less than this share of a core, a hundredth, for so many
/// looks: whoever asks while pages are gathered waits for as long as the system needs to copy them, which can be
/// tens of milliseconds.
const IDLE: u32 = 100;
const CALM: u32 = 20;
/// Gathering takes this share of a core at most, a thousandth: an idle server is to be one.
const SHARE: u32 = 1000;

/// The commands run so far; `None` while some are being run.
type Commands = Box<dyn Fn() -> Option<u64> + Send>;

/// Starts the thread. `used` tells the bytes allocated: while they hardly change there is nothing to gather.
pub fn start(used: fn() -> usize, commands: Commands) {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    if setting.is_ok_and(|setting| setting.contains("[never]")) {
        return;
    }
    let thread = std::thread::Builder::new().name("pages".to_owned());
    // Without it the pages stay small: slower, not wrong.
    drop(thread.spawn(move || work(used, commands)));
}

fn work(used: fn() -> usize, commands: Commands) {
    let none = libc::sched_param { sched_priority: 0 };
    // When it is woken it waits for its turn instead of interrupting whoever woke it: a worker, amid a command.
    // SAFETY: the call reads one such structure, and changes the calling thread's turns alone.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none) };
    pieces::keep();
    let mut huge = HashSet::new();
    let mut gathering = Gathering::new(used, commands);
    let (mut taken, mut when) = (pieces::taken(), None);
    loop {
        let now = pieces::taken();
        if now != taken {
            taken = now;
            when = (used() >= WORTH).then(Instant::now);
        }
        match when {
            Some(since) if since.elapsed() < GROWING => {
                if !stay_ahead(&mut huge) {
                    return;
                }
                std::thread::park_timeout(GROWING / 2);
            }
            _ => {
                while let Some(piece) = pieces::drop_one() {
                    huge.remove(&piece);
                }
                std::thread::park_timeout(LOOK);
                if pieces::taken() == taken {
                    gathering.look(&mut huge);
                }
            }
        }
    }
}

/// Makes pieces ready. Whether it is worth while to go on with that in this system.
fn stay_ahead(huge: &mut HashSet<usize>) -> bool {
    loop {
        let begun = spent(libc::CLOCK_THREAD_CPUTIME_ID);
        match pieces::add(AHEAD) {
            None => return true,
            Some(Ok(piece)) => {
                huge.insert(piece);
            }
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

/// Makes huge pages of small ones where and while nobody minds.
struct Gathering {
    used: fn() -> usize,
    commands: Commands,
    /// Those that had run at the last look, and looks since the last one that did.
    ran: Option<u64>,
    calm: u32,
    /// What was in use when all had been gathered.
    seen: usize,
    /// What the process had spent at the last look, and when that was.
    spent: Duration,
    looked: Instant,
    /// Not before.
    next: Instant,
    left: Vec<usize>,
}

impl Gathering {
    fn new(used: fn() -> usize, commands: Commands) -> Gathering {
        let now = Instant::now();
        Gathering {
            used,
            commands,
            ran: None,
            calm: 0,
            seen: 0,
            spent: spent_by_all(),
            looked: now,
            next: now,
            left: Vec::new(),
        }
    }

    /// Whether nobody has wanted anything for some looks.
    fn is_calm(&mut self) -> bool {
        let (spent, looked, ran) = (spent_by_all(), Instant::now(), (self.commands)());
        let (took, passed) = (spent.saturating_sub(self.spent), looked - self.looked);
        let calm = passed >= LOOK / 2 && took <= passed / IDLE && ran.is_some() && ran == self.ran;
        (self.spent, self.looked, self.ran) = (spent, looked, ran);
        self.calm = if calm { self.calm.saturating_add(1) } else { 0 };
        self.calm >= CALM
    }

    fn look(&mut self, huge: &mut HashSet<usize>) {
        if !self.is_calm() || Instant::now() < self.next {
            return;
        }
        if self.left.is_empty() {
            let now = (self.used)();
            if now.abs_diff(self.seen) < HUGE {
                return;
            }
            if now < self.seen / 2 {
                // Much was freed, and its huge pages with it.
                huge.clear();
            }
            self.seen = now;
            self.left = candidates();
        }
        while let Some(start) = self.left.pop() {
            if !huge.contains(&start) && is_full(start) {
                if gather(start).is_ok() {
                    huge.insert(start);
                }
                break;
            }
        }
        let after = Instant::now();
        self.next = after + (after - self.looked) * SHARE;
        // What this took is not what the process does.
        (self.spent, self.looked) = (spent_by_all(), after);
    }
}

/// Time on the processor of all threads.
fn spent_by_all() -> Duration {
    spent(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Time on the processor by one of the system's clocks for that.
fn spent(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one such structure.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Aligned pieces of the process's own anonymous memory.
fn candidates() -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut starts = Vec::new();
    for line in maps.lines() {
        // address range, rights, offset, device, inode, and a path where there is one
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, "rw-p", _, _, "0"] = fields.as_slice() else { continue };
        let Some((from, to)) = range.split_once('-') else { continue };
        let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        else {
            continue;
        };
        let mut at = from.next_multiple_of(HUGE);
        while at + HUGE <= to {
            starts.push(at);
            at += HUGE;
        }
    }
    starts
}

/// Whether nearly all pages of a piece are in memory: a huge page takes all of them.
fn is_full(start: usize) -> bool {
    let mut resident = [0u8; PAGES];
    // SAFETY: mincore only reads the page tables of the range and writes one byte a page into the array, which
    // has as many; a range that is not mapped any more is answered with an error.
    let answer = unsafe {
        libc::mincore(std::ptr::with_exposed_provenance_mut(start), HUGE, resident.as_mut_ptr())
    };
    answer == 0 && resident.iter().filter(|page| **page & 1 != 0).count() * 16 >= PAGES * 15
}

/// Lets the system put a piece into a huge page; the contents stay as they are.
fn gather(start: usize) -> Result<(), i32> {
    if !pieces::owns(start) {
        // Advice for a part would cut the mapping in two, which could not be enlarged as one then.
        return pieces::advise(start, libc::MADV_COLLAPSE);
    }
    pieces::advise(start, libc::MADV_HUGEPAGE)?;
    let gathered = pieces::advise(start, libc::MADV_COLLAPSE);
    pieces::advise(start, libc::MADV_NOHUGEPAGE)?;
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_gathered_pages_stays() {
        let _alone = crate::alloc::alone();
        let filled: Vec<u8> =
            (0..16 * HUGE).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
        let (first, last) = (filled.as_ptr().addr(), filled.as_ptr().addr() + filled.len());
        let own = candidates().into_iter().filter(|at| *at >= first && at + HUGE <= last);
        let full: Vec<usize> = own.filter(|at| is_full(*at)).collect();
        assert!(full.len() >= 8, "{} pieces", full.len());
        // A system without the call refuses all; then nothing may have changed either.
        let made = full.iter().filter(|at| gather(**at).is_ok()).count();
        println!("{made} of {} huge pages made", full.len());
        assert!(filled.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
    }
}
