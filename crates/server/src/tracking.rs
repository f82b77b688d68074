//! Client-side caching: who caches which keys, and who is told when they change. It knows no command.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

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
    pub prefixes: Vec<Vec<u8>>,
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

type Readers = HashMap<Box<[u8]>, Vec<Arc<Tracker>>>;

/// All trackers and the keys that they cache.
#[derive(Default)]
pub struct Tracking {
    keys: Mutex<Readers>,
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
            Mode::Broadcast => tracker.prefixes.len().max(1),
            Mode::Read | Mode::OptIn | Mode::OptOut => 0,
        };
        let prefixes = trackers.iter().map(prefixes).sum();
        drop(trackers);
        let keys = self.keys.lock();
        Figures {
            trackers: self.count.load(Ordering::Relaxed),
            keys: keys.len(),
            items: keys.values().map(Vec::len).sum(),
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
            self.keys.lock().clear();
        }
    }

    /// A tracker read a key. Called under the key's slot lock.
    pub fn remember(&self, tracker: &Arc<Tracker>, key: &[u8]) {
        let mut keys = self.keys.lock();
        let readers = keys.entry(Box::from(key)).or_default();
        readers.retain(|other| !other.ended.load(Ordering::Acquire));
        if !readers.iter().any(|other| Arc::ptr_eq(other, tracker)) {
            readers.push(Arc::clone(tracker));
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
            let fits = |key: &[u8]| {
                tracker.prefixes.is_empty() || tracker.prefixes.iter().any(|p| key.starts_with(p))
            };
            let keys: Vec<Box<[u8]>> = changed.iter().filter(|key| fits(key)).cloned().collect();
            if !keys.is_empty() {
                tracker.tell(server, &Arc::new(Message::Invalidate(Some(keys))));
            }
        }
    }

    /// Everything is gone: all trackers are told so.
    pub fn flushed(&self, server: &Server) {
        self.keys.lock().clear();
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
