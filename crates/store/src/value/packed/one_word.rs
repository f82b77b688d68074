//! One word that holds either a small form (a blob) or a big one (a box), told apart by the lowest bit
//! of the address. So a collection takes 8 bytes, whatever its form, and a record needs no more for it.
//! It knows nothing of what the two forms mean.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::blob::Blob;

const BIG: usize = 1;

/// A small `S` (which must be a transparent wrapper of a blob) or a boxed `B`, in one word.
pub(in crate::value) struct OneWord<S: Small, B> {
    at: NonNull<u8>,
    owns: PhantomData<(S, Box<B>)>,
}

/// Wrappers of a blob that may be the small form.
///
/// # Safety
/// The implementor must be `repr(transparent)` over `Blob`, whose addresses are multiples of 8.
pub(in crate::value) unsafe trait Small: Sized {}

// SAFETY: the blob itself.
unsafe impl Small for Blob {}

// SAFETY: owns one `S` or one `Box<B>`, nothing else.
unsafe impl<S: Small + Send, B: Send> Send for OneWord<S, B> {}
// SAFETY: gives shared references to them only.
unsafe impl<S: Small + Sync, B: Sync> Sync for OneWord<S, B> {}

/// Which form it has, to read.
pub(in crate::value) enum Form<'a, S, B> {
    /// The small one.
    Small(&'a S),
    /// The big one.
    Big(&'a B),
}

/// Which form it has, to change.
pub(in crate::value) enum FormMut<'a, S, B> {
    /// The small one.
    Small(&'a mut S),
    /// The big one.
    Big(&'a mut B),
}

impl<S: Small, B> OneWord<S, B> {
    const SHAPES: () = {
        assert!(size_of::<S>() == size_of::<NonNull<u8>>());
        assert!(align_of::<B>() > BIG);
    };

    /// Holds a small one.
    #[inline]
    pub fn small(small: S) -> OneWord<S, B> {
        let () = Self::SHAPES;
        let small = ManuallyDrop::new(small);
        // SAFETY: `S` is a transparent wrapper of one non-null address.
        let at = unsafe { std::mem::transmute_copy::<ManuallyDrop<S>, NonNull<u8>>(&small) };
        OneWord { at, owns: PhantomData }
    }

    /// Holds a big one.
    #[inline]
    pub fn big(big: Box<B>) -> OneWord<S, B> {
        let () = Self::SHAPES;
        let at = NonNull::from(Box::leak(big)).cast::<u8>();
        OneWord { at: at.map_addr(|address| address | BIG), owns: PhantomData }
    }

    #[inline]
    fn is_big(&self) -> bool {
        self.at.addr().get() & BIG != 0
    }

    #[inline]
    fn boxed(&self) -> *mut B {
        self.at.as_ptr().map_addr(|address| address & !BIG).cast::<B>()
    }

    /// Where what it owns begins, to fetch it ahead.
    #[inline]
    pub fn address(&self) -> *const u8 {
        self.boxed().cast()
    }

    /// To read.
    #[inline]
    pub fn form(&self) -> Form<'_, S, B> {
        if self.is_big() {
            // SAFETY: the bit says that a box was leaked into the word; we are borrowed.
            Form::Big(unsafe { &*self.boxed() })
        } else {
            // SAFETY: without the bit the word is bit for bit an `S`.
            Form::Small(unsafe { &*(&raw const self.at).cast::<S>() })
        }
    }

    /// To change.
    #[inline]
    pub fn form_mut(&mut self) -> FormMut<'_, S, B> {
        if self.is_big() {
            // SAFETY: as `form`; we are borrowed exclusively.
            FormMut::Big(unsafe { &mut *self.boxed() })
        } else {
            // SAFETY: as `form`; whatever `S` is written has the bit clear again.
            FormMut::Small(unsafe { &mut *(&raw mut self.at).cast::<S>() })
        }
    }
}

impl<S: Small, B> OneWord<S, B> {
    /// The big form, made from the small one if need be.
    #[inline]
    pub fn enlarge(&mut self, make: impl FnOnce(&mut S) -> Box<B>) -> &mut B {
        if let FormMut::Small(small) = self.form_mut() {
            let big = make(small);
            *self = OneWord::big(big);
        }
        // SAFETY: it was big, or was made so just now; we are borrowed exclusively.
        unsafe { &mut *self.boxed() }
    }
}

impl<S: Small, B> Drop for OneWord<S, B> {
    fn drop(&mut self) {
        if self.is_big() {
            // SAFETY: the word owns the box, and this is its end.
            drop(unsafe { Box::from_raw(self.boxed()) });
        } else {
            // SAFETY: the word is an `S`, and this is its end.
            unsafe { std::ptr::drop_in_place((&raw mut self.at).cast::<S>()) };
        }
    }
}

impl<S: Small + Clone, B: Clone> Clone for OneWord<S, B> {
    fn clone(&self) -> OneWord<S, B> {
        match self.form() {
            Form::Small(small) => OneWord::small(small.clone()),
            Form::Big(big) => OneWord::big(Box::new(big.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_base::Millis;

    use crate::{End, Hash, List, Set, SortedSet, Thresholds};

    /// Small enough for Miri, which sees here what reaches a word in both of its forms.
    #[test]
    fn a_word_becomes_big_is_copied_and_ends() {
        let limits = Thresholds {
            hash_entries: 3,
            set_intset: 3,
            set_entries: 3,
            zset_entries: 3,
            list_size: 3,
            ..Thresholds::default()
        };
        let (mut list, mut set, mut hash, mut sorted) =
            (List::new(), Set::new(), Hash::new(), SortedSet::new());
        for number in 0..8u8 {
            let member = [b'a' + number; 20];
            list.push(&member, End::Back, &limits);
            set.insert(&member, &limits);
            hash.set(&member, b"value", Millis(0), &limits);
            sorted.insert(&member, number.into(), &limits);
            let copies = (list.clone(), set.clone(), hash.clone(), sorted.clone());
            assert_eq!(copies.0.len() + copies.1.len(), 2 * list.len());
            assert_eq!(copies.2.len() + copies.3.len(), 2 * list.len());
        }
        assert_eq!(set.encoding_name(), "hashtable");
        assert_eq!(list.iter().count() + hash.len() + sorted.len(), 24);
    }
}
