//! A thin, growable byte buffer: one word to hold, one allocation with its lengths in front. It knows
//! nothing of what the bytes mean.
//!
//! Its capacity is not stored but follows from its length: the size class that a size-class allocator
//! would hand out anyway, so that slack costs nothing and growth copies each byte a bounded number of
//! times.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::{self, NonNull};

/// What stands before the bytes.
#[repr(C, align(8))]
struct Head {
    /// Bytes in use after the head.
    len: u32,
    /// Low 28 bits: number of elements; high 4 bits: form. Both belong to the user.
    count: u32,
}

const HEAD: usize = size_of::<Head>();
const FORM_SHIFT: u32 = 28;
const COUNT_MASK: u32 = (1 << FORM_SHIFT) - 1;

/// All empty blobs point here; it is never written.
static EMPTY: Head = Head { len: 0, count: 0 };

/// An owned byte buffer behind one word. An empty one owns no allocation.
#[repr(transparent)]
pub(in crate::value) struct Blob {
    at: NonNull<Head>,
}

// SAFETY: a blob owns its allocation alone (the shared empty head is never written).
unsafe impl Send for Blob {}
// SAFETY: shared references only read.
unsafe impl Sync for Blob {}

/// Bytes that the allocator holds for a blob of this many bytes.
#[inline]
fn allocation_size(len: usize) -> usize {
    let total = HEAD + len;
    let step = if total <= 128 { 8 } else { 1 << ((total - 1).ilog2() - 2) };
    total.next_multiple_of(step)
}

#[inline]
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap_or(Layout::new::<Head>())
}

#[inline]
#[expect(clippy::expect_used, reason = "a length that wraps would corrupt memory")]
fn len32(len: usize) -> u32 {
    u32::try_from(len).expect("packed elements are bounded by the longest argument, below 4 GiB")
}

impl Blob {
    /// An empty blob; allocates nothing.
    pub const fn new() -> Blob {
        Blob { at: NonNull::from_ref(&EMPTY) }
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: always a live head, our own or the shared empty one.
        unsafe { self.at.as_ref() }
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.head().len as usize
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let len = self.len();
        // SAFETY: `len` initialised bytes follow the head (none after the shared empty head).
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast::<u8>().add(HEAD), len) }
    }

    /// The bytes, to overwrite.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        // SAFETY: as `bytes`; we own the allocation, and the slice of a shared empty head is empty.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().cast::<u8>().add(HEAD), len) }
    }

    /// Number of elements, as the user counted.
    #[inline]
    pub fn count(&self) -> usize {
        (self.head().count & COUNT_MASK) as usize
    }

    /// The user's form, 0 for an empty blob.
    #[inline]
    pub fn form(&self) -> u32 {
        self.head().count >> FORM_SHIFT
    }

    /// Sets count (below 2^28) and form (below 16). Without effect on an empty blob.
    #[inline]
    pub fn set_count(&mut self, count: usize, form: u32) {
        if self.len() > 0 {
            let word = len32(count) & COUNT_MASK | form << FORM_SHIFT;
            // SAFETY: not empty, so the head is our own.
            unsafe { (*self.at.as_ptr()).count = word };
        }
    }

    /// Bytes held on the heap.
    pub fn memory_usage(&self) -> usize {
        if self.len() == 0 { 0 } else { allocation_size(self.len()) }
    }

    /// Replaces `removed` bytes at `at` by the pieces. Count and form stay, unless it becomes empty.
    pub fn splice(&mut self, at: usize, removed: usize, pieces: &[&[u8]]) {
        let old = self.len();
        assert!(at <= old && removed <= old - at, "a splice outside of its blob");
        let added: usize = pieces.iter().map(|piece| piece.len()).sum();
        let new = old - removed + added;
        if new == 0 {
            *self = Blob::new();
            return;
        }
        if new > old {
            self.resize_allocation(old, new);
        }
        // SAFETY: the allocation now holds the greater of the two lengths; the pieces borrow other memory,
        // since we are borrowed exclusively.
        unsafe {
            let gap = self.at.as_ptr().cast::<u8>().add(HEAD + at);
            ptr::copy(gap.add(removed), gap.add(added), old - at - removed);
            let mut to = gap;
            for piece in pieces {
                ptr::copy_nonoverlapping(piece.as_ptr(), to, piece.len());
                to = to.add(piece.len());
            }
            (*self.at.as_ptr()).len = len32(new);
        }
        if new < old {
            self.resize_allocation(old, new);
        }
    }

    /// Gives the allocation the size for `new` bytes. The bytes up to the lesser length stay.
    #[inline]
    fn resize_allocation(&mut self, old: usize, new: usize) {
        let size = allocation_size(new);
        let fresh = layout(size);
        if old == 0 {
            // SAFETY: the size is at least that of the head.
            let Some(at) = NonNull::new(unsafe { alloc(fresh) }.cast::<Head>()) else {
                handle_alloc_error(fresh)
            };
            // SAFETY: freshly allocated for a head and more.
            unsafe { at.write(Head { len: 0, count: 0 }) };
            self.at = at;
            return;
        }
        let held = allocation_size(old);
        if held == size {
            return;
        }
        let from = self.at.as_ptr().cast::<u8>();
        // SAFETY: allocated with exactly this layout, since the size follows from the length.
        let Some(at) = NonNull::new(unsafe { realloc(from, layout(held), size) }.cast::<Head>())
        else {
            handle_alloc_error(fresh)
        };
        self.at = at;
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        let len = self.len();
        if len > 0 {
            // SAFETY: not empty, so we own an allocation of the size that follows from the length.
            unsafe { dealloc(self.at.as_ptr().cast::<u8>(), layout(allocation_size(len))) };
        }
    }
}

impl Clone for Blob {
    fn clone(&self) -> Blob {
        let mut copy = Blob::new();
        copy.splice(0, 0, &[self.bytes()]);
        copy.set_count(self.count(), self.form());
        copy
    }
}
