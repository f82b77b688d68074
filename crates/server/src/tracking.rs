//! Client-side caching: who caches which keys, and who is told when they change. It knows no command.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::pubsub::{Address, Message};
use crate::shared::{Letter, Server};

/// How a connection wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Of every key that it read.
    Read,
    /// Of keys read by commands after CLIENT CACHING yes.
    OptIn,
    /// Of keys read, but not by commands after CLIENT CACHING no.
    OptOut,
    /// Of every key with one of its prefixes.
    Broadcast,
}

/// The beginnings of keys that one connection is told of, and what they hold of memory: it may name many, and is
/// charged for them whenever its memory is looked at.
#[derive(Default)]
pub struct Prefixes {
    list: Vec<Vec<u8>>,
    memory: usize,
}

impl Prefixes {
    /// These, which do not overlap.
    pub fn new(list: Vec<Vec<u8>>) -> Prefixes {
        let texts: usize = list.iter().map(Vec::capacity).sum();
        Prefixes { memory: texts + list.capacity() * size_of::<Vec<u8>>(), list }
    }

    /// One by one.
    pub fn all(&self) -> &[Vec<u8>] {
        &self.list
    }

    /// Bytes that they hold.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

/// One connection that tracks.
pub struct Tracker {
    /// The connection.
    pub owner: Address,
    /// Its number.
    pub id: u64,
    /// Who is told in its place: number and place.
    pub redirect: Option<(u64, Address)>,
    /// See there.
    pub mode: Mode,
    /// It is not told of its own changes.
    pub noloop: bool,
    /// Broadcast prefixes; none = every key.
    pub prefixes: Prefixes,
    /// It ended: entries that still name it are stale.
    pub ended: AtomicBool,
    /// The connection that it redirects to is gone.
    pub broken: AtomicBool,
}

impl Tracker {
    fn tell(&self, server: &Server, message: &Arc<Message>) {
        let to = self.redirect.map_or(self.owner, |(_, at)| at);
        server.post(to.worker, Letter::Deliver(to.token, Arc::clone(message)));
    }
}

/// How much tracking remembers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Connections that track.
    pub trackers: usize,
    /// Keys that they cache.
    pub keys: usize,
    /// Pairs of key and connection.
    pub items: usize,
    /// Prefixes that they broadcast.
    pub prefixes: usize,
}

/// Who caches a key.
type Readers = Vec<Arc<Tracker>>;

/// The keys that connections cache, and in which order they came to be known.
#[derive(Default)]
struct Cached {
    readers: HashMap<Arc<[u8]>, Readers>,
    /// Oldest first; one that nobody else holds is not in the map any more.
    order: VecDeque<Arc<[u8]>>,
    /// Pairs of key and connection.
    items: usize,
}

impl Cached {
    fn add(&mut self, tracker: &Arc<Tracker>, key: &[u8]) {
        if !self.readers.contains_key(key) {
            let key: Arc<[u8]> = Arc::from(key);
            self.order.push_back(Arc::clone(&key));
            self.readers.insert(key, Vec::new());
            if self.order.len() > 2 * self.readers.len() + 64 {
                self.order.retain(|key| Arc::strong_count(key) > 1);
            }
        }
        let Some(readers) = self.readers.get_mut(key) else { return };
        let before = readers.len();
        readers.retain(|other| !other.ended.load(Ordering::Acquire));
        if !readers.iter().any(|other| Arc::ptr_eq(other, tracker)) {
            readers.push(Arc::clone(tracker));
        }
        self.items = self.items + readers.len() - before;
    }

    fn remove(&mut self, key: &[u8]) -> Option<Readers> {
        let readers = self.readers.remove(key)?;
        self.items -= readers.len();
        Some(readers)
    }

    /// Forgets the key that is known longest.
    fn remove_oldest(&mut self) -> Option<(Arc<[u8]>, Readers)> {
        loop {
            let key = self.order.pop_front()?;
            if Arc::strong_count(&key) > 1
                && let Some(readers) = self.remove(&key)
            {
                return Some((key, readers));
            }
        }
    }
}

/// All trackers and the keys that they cache.
#[derive(Default)]
pub struct Tracking {
    keys: Mutex<Cached>,
    /// Keys remembered at most; 0 = no limit.
    limit: AtomicUsize,
    trackers: Mutex<Vec<Arc<Tracker>>>,
    count: AtomicUsize,
    broadcasts: AtomicUsize,
}

impl Tracking {
    /// Whether nobody tracks anything.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether some tracker must hear of every key.
    pub fn broadcasts(&self) -> bool {
        self.broadcasts.load(Ordering::Acquire) > 0
    }

    /// How much there is to remember.
    pub fn figures(&self) -> Figures {
        let trackers = self.trackers.lock();
        let prefixes = |tracker: &Arc<Tracker>| match tracker.mode {
            // Every key: the empty prefix.
            Mode::Broadcast => tracker.prefixes.all().len().max(1),
            Mode::Read | Mode::OptIn | Mode::OptOut => 0,
        };
        let prefixes = trackers.iter().map(prefixes).sum();
        drop(trackers);
        let keys = self.keys.lock();
        Figures {
            trackers: self.count.load(Ordering::Relaxed),
            keys: keys.readers.len(),
            items: keys.items,
            prefixes,
        }
    }

    /// Adds a tracker.
    pub fn begin(&self, tracker: Arc<Tracker>) {
        self.count.fetch_add(1, Ordering::AcqRel);
        if tracker.mode == Mode::Broadcast {
            self.broadcasts.fetch_add(1, Ordering::AcqRel);
        }
        self.trackers.lock().push(tracker);
    }

    /// Removes a tracker; the keys that it cached are forgotten as they change.
    pub fn end(&self, tracker: &Arc<Tracker>) {
        if tracker.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
        if tracker.mode == Mode::Broadcast {
            self.broadcasts.fetch_sub(1, Ordering::AcqRel);
        }
        self.trackers.lock().retain(|other| !Arc::ptr_eq(other, tracker));
        if self.is_idle() {
            *self.keys.lock() = Cached::default();
        }
    }

    /// Changes how many keys are remembered at most; 0 = no limit.
    pub fn configure(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A tracker read a key. Called under the key's slot lock. Above the limit the keys that are known
    /// longest are forgotten: those who cache them are told so, as if they had changed.
    pub fn remember(&self, server: &Server, tracker: &Arc<Tracker>, key: &[u8]) {
        let mut keys = self.keys.lock();
        keys.add(tracker, key);
        // A limit that was lowered is reached step by step.
        self.trim(server, keys, 4);
    }

    /// Forgets what a lowered limit leaves no room for, whether or not anybody reads; so many keys at most at one go.
    pub fn keep_limit(&self, server: &Server) {
        const AT_ONCE: usize = 1000;
        let limit = self.limit.load(Ordering::Relaxed);
        if limit > 0 && !self.is_idle() {
            self.trim(server, self.keys.lock(), AT_ONCE);
        }
    }

    fn trim(&self, server: &Server, mut keys: MutexGuard<'_, Cached>, at_once: usize) {
        let limit = self.limit.load(Ordering::Relaxed);
        for _ in 0..at_once {
            if limit == 0 || keys.readers.len() <= limit {
                break;
            }
            let Some((key, readers)) = keys.remove_oldest() else { break };
            let message = Arc::new(Message::Invalidate(Some(vec![Box::from(&*key)])));
            for reader in readers.iter().filter(|reader| !reader.ended.load(Ordering::Acquire)) {
                reader.tell(server, &message);
            }
        }
    }

    /// Tells of changed keys. `by`: the number of the connection that changed them, 0 = none.
    pub fn changed(&self, server: &Server, changed: &[Box<[u8]>], by: u64) {
        let wants = |tracker: &Tracker| {
            let own = tracker.noloop && tracker.id == by;
            !own && !tracker.ended.load(Ordering::Acquire)
        };
        for key in changed {
            let Some(readers) = self.keys.lock().remove(key) else { continue };
            let message = Arc::new(Message::Invalidate(Some(vec![key.clone()])));
            for tracker in readers.iter().filter(|tracker| wants(tracker)) {
                tracker.tell(server, &message);
            }
        }
        if !self.broadcasts() {
            return;
        }
        let trackers = self.trackers.lock();
        for tracker in trackers.iter().filter(|t| t.mode == Mode::Broadcast && wants(t)) {
            // A message for each prefix; prefixes of one connection do not overlap.
            let every: &[Vec<u8>] = &[Vec::new()];
            let named = tracker.prefixes.all();
            let prefixes = if named.is_empty() { every } else { named };
            for prefix in prefixes {
                let keys = changed.iter().filter(|key| key.starts_with(prefix));
                let keys: Vec<Box<[u8]>> = keys.cloned().collect();
                if !keys.is_empty() {
                    tracker.tell(server, &Arc::new(Message::Invalidate(Some(keys))));
                }
            }
        }
    }

    /// Everything is gone: all trackers are told so.
    pub fn flushed(&self, server: &Server) {
        *self.keys.lock() = Cached::default();
        let message = Arc::new(Message::Invalidate(None));
        for tracker in self.trackers.lock().iter() {
            tracker.tell(server, &message);
        }
    }

    /// A connection closed: those that redirect to it are told.
    pub fn closed(&self, server: &Server, id: u64) {
        for tracker in self.trackers.lock().iter() {
            if tracker.redirect.is_some_and(|(to, _)| to == id) {
                tracker.broken.store(true, Ordering::Release);
                let at = tracker.owner;
                let message = Arc::new(Message::RedirectBroken(id));
                server.post(at.worker, Letter::Deliver(at.token, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(id: u64) -> Arc<Tracker> {
        Arc::new(Tracker {
            owner: Address { worker: 0, token: id },
            id,
            redirect: None,
            mode: Mode::Read,
            noloop: false,
            prefixes: Prefixes::default(),
            ended: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    #[test]
    fn the_oldest_key_goes_first_and_pairs_are_counted() {
        let (one, two) = (tracker(1), tracker(2));
        let mut cached = Cached::default();
        for key in [b"a", b"b", b"c"] {
            cached.add(&one, key);
            cached.add(&one, key);
            cached.add(&two, key);
        }
        assert_eq!((cached.readers.len(), cached.items), (3, 6));
        assert!(cached.remove(b"a").is_some() && cached.remove(b"a").is_none());
        cached.add(&two, b"a");
        // A connection that ended is counted no more once somebody reads the key again.
        one.ended.store(true, Ordering::Release);
        cached.add(&two, b"b");
        assert_eq!(cached.items, 4);
        let oldest = || cached.remove_oldest().map(|(key, readers)| (key.to_vec(), readers.len()));
        let order: Vec<_> = std::iter::from_fn(oldest).collect();
        assert_eq!(order, [(b"b".to_vec(), 1), (b"c".to_vec(), 2), (b"a".to_vec(), 1)]);
        assert_eq!((cached.items, cached.order.len()), (0, 0));
    }

    #[test]
    fn the_order_does_not_outgrow_the_keys() {
        let (tracker, mut cached) = (tracker(1), Cached::default());
        for round in 0..10_000u32 {
            cached.add(&tracker, &round.to_le_bytes());
            cached.remove(&round.to_le_bytes());
        }
        assert!(cached.order.len() <= 66, "{}", cached.order.len());
    }
}
