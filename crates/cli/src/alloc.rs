//! The allocator: jemalloc, and for huge sizes the system itself, behind a front that counts. What is allocated is known exactly, at the size
//! class that jemalloc really spends, without asking it. Knows nothing of what the memory is for.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use larder_server::AllocatorFigures;
use larder_server::turns::{self, Share};
use tikv_jemalloc_sys as jemalloc;

/// Counters, each with a cache line of its own. The first is everybody's; each other is written by one thread alone, which
/// therefore needs no atomic addition: that would be a fiftieth of a pipelined SET.
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
        USED.iter().take(threads + 1).map(|counter| counter.0.load(Ordering::Relaxed)).sum();
    usize::try_from(sum).unwrap_or(0)
}

/// What jemalloc itself says of the memory that it holds. Costs microseconds: for INFO, not for commands.
pub fn figures() -> AllocatorFigures {
    use tikv_jemalloc_ctl::{epoch, raw, stats};
    // Figures are those of the moment of this call; if it fails they are older ones.
    let _ = epoch::advance();
    // SAFETY: this name has a value of this type in jemalloc.
    let muzzy = unsafe { raw::read::<usize>(b"stats.arenas.4096.pmuzzy\0") };
    let mapped = MAPPED_BYTES.load(Ordering::Relaxed);
    AllocatorFigures {
        allocated: stats::allocated::read().unwrap_or(0) + mapped,
        active: stats::active::read().unwrap_or(0) + mapped,
        resident: stats::resident::read().unwrap_or(0) + mapped,
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

/// From here on threads of jemalloc's own look for such pages. Otherwise whoever allocates or frees does so now and then: a
/// thousand calls of the system amid one SET, 5 milliseconds, after tables had grown.
pub fn purge_beside() {
    // They are started by whoever asks for them, and are as polite as that one.
    let asking = std::thread::Builder::new().spawn(|| {
        turns::give_way(Share::Quarter);
        let mut on = true;
        let (old, length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let name = c"background_thread".as_ptr();
        // SAFETY: this name takes a value of this type. Where there can be no such threads all stays as it was.
        unsafe {
            jemalloc::mallctl(name, old, length, (&raw mut on).cast(), size_of_val(&on));
        }
    });
    if let Ok(asking) = asking {
        // It only asks, and cannot panic.
        let _ = asking.join();
    }
}

#[inline]
fn count(bytes: isize) {
    // A thread that ends may free after its thread-local is gone: the first counter takes it.
    let mine = MINE.try_with(|mine| match mine.get() {
        usize::MAX => take_counter(mine),
        at => at,
    });
    let (first, own) = USED.split_at(1);
    match mine.ok().and_then(|at| own.get(at)) {
        Some(Counter(own)) => {
            own.store(own.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
        }
        None => {
            for Counter(everybodys) in first {
                everybodys.fetch_add(bytes, Ordering::Relaxed);
            }
        }
    }
}

/// A counter for this thread alone, behind the first; those that come late have none.
#[cold]
fn take_counter(mine: &Cell<usize>) -> usize {
    let at = THREADS.fetch_add(1, Ordering::Relaxed).min(COUNTERS);
    mine.set(at);
    at
}

/// From here on jemalloc rounds to whole pages.
const LARGE: usize = 16 * 1024;
/// Up to here allocations share slabs, whatever they are aligned to.
const SMALL: isize = 8 * 1024;
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

/// From here on memory comes from the system itself, which can enlarge it without copying: the input of a huge
/// request grows as its bytes come. And it is gone at once when it is freed: what jemalloc calls oversize stays for
/// ten seconds where its own threads purge, 36 MB behind the replies to one client that does not read.
const MAPPED: usize = 8 << 20;

/// Bytes of such memory.
static MAPPED_BYTES: AtomicUsize = AtomicUsize::new(0);

#[inline]
fn is_mapped(size: usize, align: usize) -> bool {
    size >= MAPPED && align <= PAGE
}

#[cold]
fn map(size: usize) -> *mut u8 {
    let size = size.next_multiple_of(PAGE);
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping wherever the system likes disturbs nobody.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    if at == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    MAPPED_BYTES.fetch_add(size, Ordering::Relaxed);
    at.cast()
}

/// # Safety
/// `map` or `remap` gave `at` for `size`, and nobody uses it any more.
#[cold]
unsafe fn unmap(at: *mut u8, size: usize) {
    let size = size.next_multiple_of(PAGE);
    // SAFETY: by contract these pages are ours alone. It can only fail for addresses that are not.
    unsafe { libc::munmap(at.cast(), size) };
    MAPPED_BYTES.fetch_sub(size, Ordering::Relaxed);
}

/// # Safety
/// `map` or `remap` gave `at` for `old`; it is at the new address alone afterwards, unless that is null.
#[cold]
unsafe fn remap(at: *mut u8, old: usize, size: usize) -> *mut u8 {
    let (old, size) = (old.next_multiple_of(PAGE), size.next_multiple_of(PAGE));
    // SAFETY: by contract these pages are ours alone.
    let fresh = unsafe { libc::mremap(at.cast(), old, size, libc::MREMAP_MAYMOVE) };
    if fresh == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    MAPPED_BYTES.fetch_add(size.wrapping_sub(old), Ordering::Relaxed);
    fresh.cast()
}

/// The global allocator.
pub struct Counting;

// SAFETY: jemalloc's own functions, each given size and alignment as the layout says, or for huge sizes the system's;
// which of them follows from the layout alone. The counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(class(layout.size(), layout.align()));
        if is_mapped(layout.size(), layout.align()) {
            return map(layout.size());
        }
        // SAFETY: the size is not zero, as the trait demands of callers.
        unsafe { jemalloc::mallocx(layout.size(), flags(layout.align())).cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(class(layout.size(), layout.align()));
        if is_mapped(layout.size(), layout.align()) {
            // Fresh pages are zero.
            return map(layout.size());
        }
        // SAFETY: as above.
        unsafe {
            jemalloc::mallocx(layout.size(), flags(layout.align()) | jemalloc::MALLOCX_ZERO).cast()
        }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-class(layout.size(), layout.align()));
        if is_mapped(layout.size(), layout.align()) {
            // SAFETY: mapped by this allocator with this size, as the trait demands.
            return unsafe { unmap(at, layout.size()) };
        }
        // SAFETY: allocated by this allocator with this layout, as the trait demands.
        unsafe { jemalloc::sdallocx(at.cast(), layout.size(), flags(layout.align())) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (was, will) =
            (is_mapped(layout.size(), layout.align()), is_mapped(size, layout.align()));
        let (old, new) = (class(layout.size(), layout.align()), class(size, layout.align()));
        if old == new && !was {
            // Jemalloc would find the same, after it has looked up what is here: two misses of the cache.
            return at;
        }
        // What has its place in a slab is never enlarged where it lies; and here, too, nothing need be looked up.
        if was != will || old.max(new) <= SMALL {
            // SAFETY: the alignment is a valid one, the size not zero; what is copied fits both, and what was there
            // is not used afterwards.
            return unsafe {
                let fresh = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                if !fresh.is_null() {
                    std::ptr::copy_nonoverlapping(at, fresh, size.min(layout.size()));
                    self.dealloc(at, layout);
                }
                fresh
            };
        }
        count(new - old);
        if was {
            // SAFETY: mapped by this allocator with this size, as the trait demands.
            return unsafe { remap(at, layout.size(), size) };
        }
        // SAFETY: as above, and the new size is not zero.
        unsafe { jemalloc::rallocx(at.cast(), size, flags(layout.align())).cast() }
    }
}

/// Held by tests that take much memory, or look at how much there is: what one takes is not to show in another.
#[cfg(test)]
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A test that failed is over.
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jemalloc_says_what_it_holds() {
        let _alone = alone();
        let kept = vec![1u8; 10 << 20];
        let figures = figures();
        assert!(figures.allocated >= kept.len() && figures.active >= figures.allocated);
        assert!(figures.resident >= figures.active);
        purge();
        assert!(report().contains("jemalloc statistics"));
    }

    /// What grows beyond jemalloc's share and back keeps its bytes, and is counted meanwhile.
    #[test]
    fn huge_memory_grows_where_it_lies() {
        let _alone = alone();
        let mut bytes: Vec<u8> = (0..=255u8).cycle().take(1 << 20).collect();
        for size in [MAPPED, MAPPED + 1, 3 * MAPPED, 2 * MAPPED] {
            bytes.resize(size, 7);
            bytes.shrink_to_fit();
            assert!(bytes.capacity() == size && figures().allocated >= size);
            assert!(MAPPED_BYTES.load(Ordering::Relaxed) >= size.next_multiple_of(PAGE));
        }
        bytes.truncate(1 << 20);
        bytes.shrink_to_fit();
        assert!(bytes.iter().zip((0..=255u8).cycle()).all(|(byte, want)| *byte == want));
        let zero = vec![0u8; 2 * MAPPED];
        assert!(zero.iter().all(|byte| *byte == 0));
    }

    /// Small memory keeps its bytes and is counted while it grows and shrinks, by whichever thread.
    #[test]
    fn small_memory_grows_and_is_counted() {
        let _alone = alone();
        let mut kept: Vec<Vec<u8>> = vec![Vec::new(); 2000];
        let before = used_memory();
        for len in (1..9000).step_by(97) {
            for (number, bytes) in kept.iter_mut().enumerate().take(20) {
                bytes.resize(len, u8::try_from(number).unwrap());
                bytes.shrink_to_fit();
                assert!(bytes.iter().all(|byte| usize::from(*byte) == number));
            }
        }
        kept.iter_mut().for_each(|bytes| *bytes = vec![1; 100_000]);
        assert!(used_memory() - before >= 190_000_000);
        std::thread::spawn(move || drop(kept)).join().unwrap();
        assert!(used_memory() < before + 10_000_000);
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
