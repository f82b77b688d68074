//! Huge pages for the data, made behind its back. With small pages nearly every key costs a walk through the
//! page tables, a seventh of a pipelined GET; but a huge page that is made at the moment of a fault holds the
//! command up, for milliseconds where the system must first make room. So memory comes in small pages, and
//! a thread gathers them into huge ones afterwards, a few at a time (MADV_COLLAPSE of Linux 6.1; elsewhere
//! the pages stay small). Redis must do without: its forked child copies pages, we never fork.
//!
//! It knows addresses alone: neither the allocator nor what lies there.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A huge page.
const HUGE: usize = 2 << 20;
const PAGE: usize = 4096;
const PAGES: usize = HUGE / PAGE;
/// The rest before each huge page. The system copies one within a fraction of a millisecond, and whoever touches it
/// meanwhile waits: a thread that has just slept is not put aside in the middle of that for others' turns.
const REST: Duration = Duration::from_millis(4);
/// Where it was put aside all the same, the cores are busy: it rests for so many times what that took, ...
const SLOW: u32 = 16;
/// ... but not longer.
const REST_MAX: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(2);

/// While more than this share of the memory in use is faulted in between two looks, memory grows.
const GROWTH: usize = 128;

/// Starts the thread. `used` tells the bytes allocated: while they hardly change there is nothing to do.
pub fn start(used: fn() -> usize) {
    let thread = std::thread::Builder::new().name("pages".to_owned());
    // Without it the pages stay small: slower, not wrong.
    drop(thread.spawn(move || work(used)));
}

fn work(used: fn() -> usize) {
    let (mut done, mut seen, mut rest) = (HashSet::new(), 0usize, REST);
    loop {
        let before = faulted();
        std::thread::sleep(IDLE / 4);
        let (now, after) = (used(), faulted());
        // While memory grows fast its pages are being faulted in, and both would wait for one lock. What is only taken
        // and given back, as the journal's blocks are, does not count.
        if after.saturating_sub(before) > now / GROWTH || now.abs_diff(seen) < HUGE {
            std::thread::sleep(IDLE / 2);
            continue;
        }
        if now < seen / 2 {
            // Much was freed, and its huge pages with it.
            done.clear();
        }
        seen = now;
        for start in candidates() {
            if done.contains(&start) || !is_full(start) {
                continue;
            }
            if faulted().saturating_sub(after) > now / GROWTH * 2 {
                // Growing again: the rest waits.
                seen = 0;
                break;
            }
            std::thread::sleep(rest);
            let begun = Instant::now();
            let gathered = gather(start);
            rest = (begun.elapsed() * SLOW).clamp(REST, REST_MAX);
            match gathered {
                Ok(()) => {
                    done.insert(start);
                }
                // Not known to this system, or not for such memory: never.
                Err(libc::EINVAL | libc::ENOSYS | libc::EPERM) if done.is_empty() => return,
                // No room, or in use: another time.
                Err(_) => {}
            }
        }
    }
}

/// Bytes of pages that were faulted in since the start.
fn faulted() -> usize {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name may hold blanks; what follows its bracket may not.
    let fields = stat.rsplit(')').next().unwrap_or("");
    let faults = fields.split_whitespace().nth(7).and_then(|count| count.parse::<usize>().ok());
    faults.unwrap_or(0).saturating_mul(PAGE)
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
    // SAFETY: MADV_COLLAPSE changes how a range is mapped and never what it holds; a range that is not mapped
    // any more is answered with an error.
    let answer = unsafe {
        libc::madvise(std::ptr::with_exposed_provenance_mut(start), HUGE, libc::MADV_COLLAPSE)
    };
    if answer == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_gathered_pages_stays() {
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
