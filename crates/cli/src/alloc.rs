//! The allocator: jemalloc behind a front that counts. What is allocated is known exactly, at the size
//! class that jemalloc really spends, without asking it. Knows nothing of what the memory is for.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use larder_server::AllocatorFigures;
use tikv_jemalloc_sys as jemalloc;

/// Counters, each with a cache line of its own; threads beyond share.
const COUNTERS: usize = 64;

#[repr(align(128))]
struct Counter(AtomicIsize);

static USED: [Counter; COUNTERS] = [const { Counter(AtomicIsize::new(0)) }; COUNTERS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Bytes allocated now, at size classes.
pub fn used_memory() -> usize {
    let threads = THREADS.load(Ordering::Relaxed).min(COUNTERS);
    let sum: isize =
        USED.iter().take(threads).map(|counter| counter.0.load(Ordering::Relaxed)).sum();
    usize::try_from(sum).unwrap_or(0)
}

/// What jemalloc itself says of the memory that it holds. Costs microseconds: for INFO, not for commands.
pub fn figures() -> AllocatorFigures {
    use tikv_jemalloc_ctl::{epoch, raw, stats};
    // Figures are those of the moment of this call; if it fails they are older ones.
    let _ = epoch::advance();
    // SAFETY: this name has a value of this type in jemalloc.
    let muzzy = unsafe { raw::read::<usize>(b"stats.arenas.4096.pmuzzy\0") };
    AllocatorFigures {
        allocated: stats::allocated::read().unwrap_or(0),
        active: stats::active::read().unwrap_or(0),
        resident: stats::resident::read().unwrap_or(0),
        muzzy: muzzy.unwrap_or(0) * PAGE,
    }
}

/// Jemalloc's own report, for people.
pub fn report() -> String {
    let mut text = Vec::new();
    match tikv_jemalloc_ctl::stats_print::stats_print(&mut text, Default::default()) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("The allocator gave no report: {error}"),
    }
}

/// Gives pages that nothing lies in back to the system.
pub fn purge() {
    let (no_value, no_size) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: 4096 stands for all arenas; this name takes no value and gives none.
    unsafe {
        jemalloc::mallctl(c"arena.4096.purge".as_ptr(), no_value, no_size, std::ptr::null_mut(), 0);
    }
}

#[inline]
fn count(bytes: isize) {
    // A thread that ends may free after its thread-local is gone: the first counter takes it.
    let at = MINE
        .try_with(|mine| {
            if mine.get() == usize::MAX {
                mine.set(THREADS.fetch_add(1, Ordering::Relaxed) % COUNTERS);
            }
            mine.get()
        })
        .unwrap_or(0);
    if let Some(counter) = USED.get(at) {
        counter.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// From here on jemalloc rounds to whole pages.
const LARGE: usize = 16 * 1024;
const PAGE: usize = 4096;

/// The size class of a request: every 8 bytes up to 64, then four per doubling, then whole pages.
#[inline]
fn class(size: usize, align: usize) -> isize {
    let size = size.max(8);
    let rounded = if align > 8 {
        // Aligned requests come from a class that is a multiple of the alignment.
        size.next_multiple_of(align)
    } else {
        size
    };
    let spacing = match rounded {
        ..=64 => 8,
        65..=LARGE => rounded.next_power_of_two() / 8,
        _ => PAGE,
    };
    isize::try_from(rounded.next_multiple_of(spacing)).unwrap_or(isize::MAX)
}

/// Jemalloc is built with 8-byte size classes, so it aligns to 8 by itself and to more only if told.
#[inline]
fn flags(align: usize) -> c_int {
    if align <= 8 { 0 } else { jemalloc::MALLOCX_ALIGN(align) }
}

/// The global allocator.
pub struct Counting;

// SAFETY: jemalloc's own functions, each given size and alignment as the layout says; the counting
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(class(layout.size(), layout.align()));
        // SAFETY: the size is not zero, as the trait demands of callers.
        unsafe { jemalloc::mallocx(layout.size(), flags(layout.align())).cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(class(layout.size(), layout.align()));
        // SAFETY: as above.
        unsafe {
            jemalloc::mallocx(layout.size(), flags(layout.align()) | jemalloc::MALLOCX_ZERO).cast()
        }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-class(layout.size(), layout.align()));
        // SAFETY: allocated by this allocator with this layout, as the trait demands.
        unsafe { jemalloc::sdallocx(at.cast(), layout.size(), flags(layout.align())) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(class(size, layout.align()) - class(layout.size(), layout.align()));
        // SAFETY: as above, and the new size is not zero.
        unsafe { jemalloc::rallocx(at.cast(), size, flags(layout.align())).cast() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jemalloc_says_what_it_holds() {
        let kept = vec![1u8; 10 << 20];
        let figures = figures();
        assert!(figures.allocated >= kept.len() && figures.active >= figures.allocated);
        assert!(figures.resident >= figures.active);
        purge();
        assert!(report().contains("jemalloc statistics"));
    }

    /// Our arithmetic is jemalloc's.
    #[test]
    fn classes_agree_with_jemalloc() {
        for align in [1usize, 8, 16, 64] {
            for size in (1..5000).chain([16_384, 16_385, 100_000, 1 << 20, (1 << 20) + 1]) {
                // SAFETY: the size is not zero.
                let real = unsafe { jemalloc::nallocx(size, flags(align)) };
                assert_eq!(class(size, align).cast_unsigned(), real, "size {size} align {align}");
            }
        }
    }
}
