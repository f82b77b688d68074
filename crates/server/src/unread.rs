//! Replies that clients have yet to read, and how many of them may wait before a client is no longer read itself. A megabyte each
//! is everybody's own. What lies beyond comes from one store for all, so that whoever sends a long pipeline before reading its first
//! reply is served to its end: held back, it and the server would wait for each other for ever. Nobody takes more of the store
//! than is left in it, so that the next one finds some, too. It knows no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_base::limits::{UNREAD_OWN_BYTES_MAX, UNREAD_SHARE_OF_MEMORY, UNREAD_SHARED_BYTES_MAX};

/// The store for all.
#[derive(Debug)]
pub struct Unread {
    taken: AtomicUsize,
    most: AtomicUsize,
}

impl Default for Unread {
    fn default() -> Unread {
        Unread { taken: AtomicUsize::new(0), most: AtomicUsize::new(UNREAD_SHARED_BYTES_MAX) }
    }
}

impl Unread {
    /// Where memory is limited (0: it is not), the store is, too.
    pub fn configure(&self, maxmemory: u64) {
        let memory = usize::try_from(maxmemory).unwrap_or(usize::MAX);
        let most = match memory {
            0 => UNREAD_SHARED_BYTES_MAX,
            limit => UNREAD_SHARED_BYTES_MAX.min(limit / UNREAD_SHARE_OF_MEMORY),
        };
        self.most.store(most, Ordering::Relaxed);
    }
}

/// What one connection has taken of it.
#[derive(Debug, Default)]
pub struct Share {
    bytes: usize,
    of: Option<Arc<Unread>>,
}

impl Share {
    /// Whether a connection with so many unread bytes may have more of them.
    #[inline]
    pub fn has_room(&mut self, store: &Arc<Unread>, unread: usize) -> bool {
        unread <= UNREAD_OWN_BYTES_MAX || self.take(store, unread - UNREAD_OWN_BYTES_MAX)
    }

    /// So many bytes are unread now, which are fewer than before.
    #[inline]
    pub fn shrink(&mut self, unread: usize) {
        if self.bytes > 0 {
            self.set(unread.saturating_sub(UNREAD_OWN_BYTES_MAX));
        }
    }

    #[cold]
    fn take(&mut self, store: &Arc<Unread>, bytes: usize) -> bool {
        self.of.get_or_insert_with(|| Arc::clone(store));
        self.set(bytes);
        let (taken, most) =
            (store.taken.load(Ordering::Relaxed), store.most.load(Ordering::Relaxed));
        bytes <= most.saturating_sub(taken)
    }

    fn set(&mut self, bytes: usize) {
        let Some(store) = &self.of else { return };
        if bytes >= self.bytes {
            store.taken.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            store.taken.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_takes_half_and_two_leave_something_for_the_third() {
        let store = Arc::new(Unread::default());
        let most = |share: &mut Share| {
            (0..).map(|step| step << 16).take_while(|bytes| share.has_room(&store, *bytes)).last()
        };
        let mut shares: [Share; 3] = Default::default();
        let [first, second, third] = shares.each_mut().map(|share| most(share).unwrap_or(0));
        let near = |got: usize, wanted: usize| got.abs_diff(wanted) <= 2 << 16;
        assert!(near(first, UNREAD_OWN_BYTES_MAX + UNREAD_SHARED_BYTES_MAX / 2), "{first}");
        assert!(near(second, UNREAD_OWN_BYTES_MAX + UNREAD_SHARED_BYTES_MAX / 4), "{second}");
        assert!(near(third, UNREAD_OWN_BYTES_MAX + UNREAD_SHARED_BYTES_MAX / 8), "{third}");
        let [mut one, two, three] = shares;
        one.shrink(UNREAD_OWN_BYTES_MAX + 7);
        drop((two, three));
        assert_eq!(store.taken.load(Ordering::Relaxed), 7);
        one.shrink(5);
        assert_eq!(store.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_small_memory_has_a_small_store() {
        let store = Arc::new(Unread::default());
        store.configure(16 << 20);
        let mut share = Share::default();
        assert!(share.has_room(&store, UNREAD_OWN_BYTES_MAX + (512 << 10)));
        assert!(!share.has_room(&store, UNREAD_OWN_BYTES_MAX + (513 << 10)));
        store.configure(0);
        assert!(share.has_room(&store, UNREAD_OWN_BYTES_MAX + (513 << 10)));
    }
}
