//! A value that every command reads and that seldom changes: readers get a plain reference without a lock
//! or a count, because a version lives as long as the server once it was current. Equal versions are one.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Different versions that a server may see in its life; each is some hundred bytes.
const VERSIONS_MAX: usize = 4096;

/// See the head of this file.
pub struct Versions<T> {
    all: Box<[OnceLock<T>]>,
    current: AtomicUsize,
    /// How many of `all` are set; held by whoever adds one.
    len: Mutex<usize>,
    first: T,
}

/// All versions are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

impl<T: PartialEq + Clone> Versions<T> {
    /// One version.
    pub fn new(first: T) -> Versions<T> {
        Versions {
            all: (0..VERSIONS_MAX).map(|_| OnceLock::new()).collect(),
            // Beyond the end stands for the first.
            current: AtomicUsize::new(VERSIONS_MAX),
            len: Mutex::new(0),
            first,
        }
    }

    /// Makes this version the current one.
    ///
    /// # Errors
    /// `Exhausted` if it is new and there is no room for it; nothing has changed then.
    pub fn set(&self, value: &T) -> Result<(), Exhausted> {
        let mut len = self.len.lock();
        let known = self.all.iter().take(*len).position(|slot| slot.get() == Some(value));
        let at = if *value == self.first {
            VERSIONS_MAX
        } else if let Some(at) = known {
            at
        } else {
            let slot = self.all.get(*len).ok_or(Exhausted)?;
            slot.get_or_init(|| value.clone());
            *len += 1;
            *len - 1
        };
        self.current.store(at, Ordering::Release);
        Ok(())
    }
}

impl<T> Deref for Versions<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        let at = self.current.load(Ordering::Acquire);
        self.all.get(at).and_then(OnceLock::get).unwrap_or(&self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_stay_and_equal_ones_are_one() {
        let versions = Versions::new(0);
        let first: &i32 = &versions;
        for round in 0..3 {
            for value in [1, 2, 0] {
                versions.set(&value).expect("room");
                assert_eq!(*versions, value, "round {round}");
            }
        }
        assert_eq!((*first, *versions.len.lock()), (0, 2));
    }

    #[test]
    fn a_full_store_of_versions_says_so() {
        let versions = Versions::new(0);
        for value in 1..=VERSIONS_MAX {
            versions.set(&value).expect("room");
        }
        assert_eq!(versions.set(&usize::MAX), Err(Exhausted));
        assert_eq!(*versions, VERSIONS_MAX);
    }
}
