//! Where jemalloc's memory comes from: pieces of a huge page's size, handed out one by one, and taken back whole. Those
//! that were made ready beforehand are huge pages already; where none is ready a piece has small pages, which cost
//! a fault each. Nobody is kept waiting for a huge page here.
//!
//! It never knows what lies in a piece, nor when it is worth while to have some ready: that is for [`crate::pages`].
#![allow(unsafe_code)]

use std::ffi::{c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use tikv_jemalloc_sys as jemalloc;

/// A huge page, and a piece.
pub const HUGE: usize = 2 << 20;
/// Address space comes in so much at a time.
const REGION: usize = 32 * HUGE;
/// Most pieces that are ready.
const READY: usize = 8;
/// Most pieces that are kept after their end, without memory behind them; jemalloc keeps what is beyond.
const FREE: usize = 4096;
/// jemalloc has four arenas a core; more than this many are not looked for.
const ARENAS: usize = 4096;

/// Pieces and address space that nobody has. It lies in static memory: whoever allocates stands here.
struct Pool {
    ready: Stack<READY>,
    free: Stack<FREE>,
    /// Address space never handed out.
    next: usize,
    end: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    ready: Stack { addresses: [0; READY], len: 0 },
    free: Stack { addresses: [0; FREE], len: 0 },
    next: 0,
    end: 0,
});
static TAKEN: AtomicU64 = AtomicU64::new(0);
static KEEPER: OnceLock<Thread> = OnceLock::new();

struct Stack<const MOST: usize> {
    addresses: [usize; MOST],
    len: usize,
}

impl<const MOST: usize> Stack<MOST> {
    /// Whether there was room.
    fn push(&mut self, address: usize) -> bool {
        let Some(place) = self.addresses.get_mut(self.len) else { return false };
        *place = address;
        self.len += 1;
        true
    }

    fn pop(&mut self) -> Option<usize> {
        self.len = self.len.checked_sub(1)?;
        self.addresses.get(self.len).copied()
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    // Nothing in here panics half way; and an allocator must not.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Address space without memory behind it.
    fn take_cold(&mut self, size: usize, align: usize) -> Option<usize> {
        if size == HUGE
            && align <= HUGE
            && let Some(piece) = self.free.pop()
        {
            return Some(piece);
        }
        let fits = |next: usize, end: usize| {
            let at = next.checked_next_multiple_of(align.max(HUGE))?;
            Some((at, at.checked_add(size)?)).filter(|(_, until)| *until <= end)
        };
        if let Some((at, until)) = fits(self.next, self.end) {
            self.next = until;
            return Some(at);
        }
        let length = size.checked_add(align.max(HUGE))?.max(REGION);
        let start = reserve(length)?;
        // What is left of the last region is lost: address space alone.
        self.end = start + length;
        let (at, until) = fits(start, self.end)?;
        self.next = until;
        Some(at)
    }
}

/// Fresh address space, with small pages unless a huge one is asked for.
fn reserve(length: usize) -> Option<usize> {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping wherever the system likes disturbs nobody.
    let at = unsafe { libc::mmap(ptr::null_mut(), length, access, kind, -1, 0) };
    if at == libc::MAP_FAILED {
        return None;
    }
    // A system that knows no huge pages says so, and has small ones.
    // SAFETY: the mapping is ours, and this says only of what size its pages shall be.
    unsafe { libc::madvise(at, length, libc::MADV_NOHUGEPAGE) };
    Some(at.expose_provenance())
}

/// Lets all arenas of jemalloc take their memory here. What they took before stays where it is.
pub fn install() {
    let mut hooks: *mut jemalloc::extent_hooks_t = ptr::null_mut();
    let mut length = size_of_val(&hooks);
    let name = c"arena.0.extent_hooks".as_ptr();
    // SAFETY: this name has a value of this type in jemalloc.
    let known = unsafe {
        jemalloc::mallctl(name, (&raw mut hooks).cast(), &raw mut length, ptr::null_mut(), 0)
    };
    if known != 0 || hooks.is_null() {
        return;
    }
    // SAFETY: jemalloc's own hooks, which live as long as it does.
    let theirs = unsafe { *hooks };
    let ours = Box::new(jemalloc::extent_hooks_t {
        alloc: Some(allocate),
        dalloc: Some(take_back),
        destroy: None,
        merge: Some(merge),
        ..theirs
    });
    let mut ours: *mut jemalloc::extent_hooks_t = Box::into_raw(ours);
    for arena in 0..ARENAS {
        let (Ok(hooks), Ok(limit)) = (
            std::ffi::CString::new(format!("arena.{arena}.extent_hooks")),
            std::ffi::CString::new(format!("arena.{arena}.retain_grow_limit")),
        ) else {
            return;
        };
        let mut piece = HUGE;
        let (none, length) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: these names take values of these types; the hooks are never freed.
        let refused = unsafe {
            jemalloc::mallctl(hooks.as_ptr(), none, length, (&raw mut ours).cast(), size_of_val(&ours))
                != 0
                // Piece by piece, not ever larger extents.
                || jemalloc::mallctl(limit.as_ptr(), none, length, (&raw mut piece).cast(), size_of_val(&piece))
                    != 0
        };
        if refused {
            return;
        }
    }
}

/// jemalloc wants memory. It holds locks of its own meanwhile, and its caller perhaps some of ours.
unsafe extern "C" fn allocate(
    _hooks: *mut jemalloc::extent_hooks_t,
    wanted: *mut c_void,
    size: usize,
    align: usize,
    zero: *mut bool,
    commit: *mut bool,
    _arena: c_uint,
) -> *mut c_void {
    if !wanted.is_null() {
        return ptr::null_mut();
    }
    let size = size.next_multiple_of(HUGE);
    let mut pool = pool();
    let ready = if size == HUGE && align <= HUGE { pool.ready.pop() } else { None };
    let taken = ready.or_else(|| pool.take_cold(size, align));
    drop(pool);
    let Some(address) = taken else { return ptr::null_mut() };
    TAKEN.fetch_add(1, Ordering::Relaxed);
    if let Some(keeper) = KEEPER.get() {
        keeper.unpark();
    }
    // SAFETY: jemalloc gives two places to write to. Pieces are zero: fresh, or emptied when they came back.
    unsafe {
        *zero = true;
        *commit = true;
    }
    ptr::with_exposed_provenance_mut(address)
}

/// jemalloc wants to be rid of memory. Answers whether it must keep it (as its interface has it).
unsafe extern "C" fn take_back(
    _hooks: *mut jemalloc::extent_hooks_t,
    start: *mut c_void,
    size: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    let address = start.expose_provenance();
    if size != HUGE || !address.is_multiple_of(HUGE) || !empty(address) {
        return true;
    }
    !pool().free.push(address)
}

/// jemalloc makes one of two neighbours: of what came as one, it alone knows that. Its own hook says yes, too, but first
/// asks for the data of the calling thread, and makes them where there are none yet: it would take memory for
/// them from the arena that it holds locked, for ever, where a thread frees something before it ever took anything.
unsafe extern "C" fn merge(
    _hooks: *mut jemalloc::extent_hooks_t,
    _first: *mut c_void,
    _first_size: usize,
    _second: *mut c_void,
    _second_size: usize,
    _committed: bool,
    _arena: c_uint,
) -> bool {
    false
}

/// Takes the memory from behind a piece.
fn empty(address: usize) -> bool {
    // SAFETY: whoever calls has this piece for itself, and nothing lies in it.
    unsafe {
        libc::madvise(ptr::with_exposed_provenance_mut(address), HUGE, libc::MADV_DONTNEED) == 0
    }
}

/// The calling thread keeps pieces ready from here on, and is woken whenever one is taken.
pub fn keep() {
    // Should another have been first, it stays the one.
    let _ = KEEPER.set(std::thread::current());
}

/// Pieces taken so far.
pub fn taken() -> u64 {
    TAKEN.load(Ordering::Relaxed)
}

/// Makes a piece ready if fewer than `most` are. `None` if there was nothing to do, else whether it worked.
pub fn add(most: usize) -> Option<Result<(), i32>> {
    let address = {
        let mut pool = pool();
        if pool.ready.len >= most.min(READY) {
            return None;
        }
        pool.take_cold(HUGE, HUGE)?
    };
    let made = populate(address);
    let mut pool = pool();
    // One thread adds, and looked before; a piece that finds no place would be lost, not wrong.
    let _ = if made.is_ok() { pool.ready.push(address) } else { pool.free.push(address) };
    Some(made)
}

/// Gives the memory of a ready piece back. Whether there was one.
pub fn drop_one() -> bool {
    let Some(address) = pool().ready.pop() else { return false };
    if empty(address) {
        pool().free.push(address);
    }
    true
}

/// Puts memory behind a piece: one huge page, where the system has one.
fn populate(address: usize) -> Result<(), i32> {
    advise(address, libc::MADV_HUGEPAGE)?;
    let made = advise(address, libc::MADV_POPULATE_WRITE);
    // From here on it says nothing but that a later fault brings a small page.
    advise(address, libc::MADV_NOHUGEPAGE)?;
    made
}

/// Tells the system something about a piece that changes nothing of what it holds.
fn advise(address: usize, advice: i32) -> Result<(), i32> {
    debug_assert!(advice != libc::MADV_DONTNEED && advice != libc::MADV_FREE);
    // SAFETY: these kinds of advice change how a range is mapped and never what it holds; a range that is not mapped
    // any more is answered with an error.
    let answer = unsafe { libc::madvise(ptr::with_exposed_provenance_mut(address), HUGE, advice) };
    if answer == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_pool() -> Box<Pool> {
        Box::new(Pool {
            ready: Stack { addresses: [0; READY], len: 0 },
            free: Stack { addresses: [0; FREE], len: 0 },
            next: 0,
            end: 0,
        })
    }

    #[test]
    fn pieces_are_aligned_and_nobody_elses() {
        let mut pool = empty_pool();
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for number in 0..100 {
            let (size, align) = ((1 + number % 3) * HUGE, HUGE << (number % 2));
            let at = pool.take_cold(size, align).unwrap();
            assert!(at.is_multiple_of(align));
            assert!(taken.iter().all(|(from, to)| at + size <= *from || *to <= at));
            taken.push((at, at + size));
        }
        assert!(pool.free.push(taken[0].0));
        assert_eq!(pool.take_cold(HUGE, HUGE), Some(taken[0].0));
        assert_ne!(pool.take_cold(HUGE, HUGE), Some(taken[0].0));
    }

    #[test]
    fn a_full_stack_takes_no_more() {
        let mut stack = Stack::<2> { addresses: [0; 2], len: 0 };
        assert!(stack.push(1) && stack.push(2) && !stack.push(3));
        assert_eq!((stack.pop(), stack.pop(), stack.pop()), (Some(2), Some(1), None));
    }

    /// The half of the test below that would stand still.
    #[test]
    #[ignore = "stands still where it fails"]
    fn threads_free_before_they_take() {
        install();
        for _ in 0..50 {
            let kept: Vec<_> = (0..100).map(|_| vec![1u8; 100_000]).collect();
            // Neighbours become one as they are freed, while the arena is locked.
            std::thread::spawn(move || drop(kept)).join().unwrap();
        }
    }

    #[test]
    fn a_thread_may_free_before_it_takes_anything() {
        let own = std::env::current_exe().unwrap();
        let mut half = std::process::Command::new(own);
        half.args(["--ignored", "--exact", "pieces::tests::threads_free_before_they_take"]);
        // So the thread's own memory comes from where it frees, as on a machine with one core.
        half.env("_RJEM_MALLOC_CONF", "narenas:1");
        let mut half = half.stdout(std::process::Stdio::null()).spawn().unwrap();
        for _ in 0..600 {
            if let Some(status) = half.try_wait().unwrap() {
                return assert!(status.success(), "{status}");
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        half.kill().unwrap();
        half.wait().unwrap();
        panic!("it stands still");
    }

    /// What was given back is zero when it comes again, whether its pages are huge or not.
    #[test]
    fn what_comes_again_is_zero() {
        let _alone = crate::alloc::alone();
        install();
        for round in 0..3 {
            let ahead: Vec<_> = (0..READY).filter_map(|_| add(READY)).collect();
            println!("{} made ready", ahead.iter().filter(|made| made.is_ok()).count());
            let (before, mut held) = (taken(), Vec::new());
            // What other tests have left with jemalloc goes first.
            while taken() < before + 2 * READY as u64 && held.len() < 4000 {
                held.push(vec![0u8; HUGE / 2]);
            }
            assert!(taken() > before, "{} allocations took no piece", held.len());
            for bytes in held.iter_mut().rev().take(4 * READY) {
                assert!(bytes.iter().all(|byte| *byte == 0), "round {round}");
                bytes.fill(7);
            }
            drop(held);
            crate::alloc::purge();
            while drop_one() {}
        }
    }
}
