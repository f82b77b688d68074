//! Which keys changed, further back than the journal's bytes reach: eight bytes a change instead of the change itself.
//! A replica of our kind that was away for longer than the backlog lasts is sent those keys alone. It knows tags of
//! keys and offsets; what a key holds, it never sees.
//!
//! A tag names a key on any server: its slot, and the rest of a hash that all servers compute alike. Two keys that
//! share a tag are both sent again, which costs their bytes and nothing else.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use larder_base::hash::KeyHasher;
use larder_base::slot::Slot;
use larder_cluster::replication::Offset;
use parking_lot::Mutex;

/// Bits of a tag that are not the slot's.
const HASH_BITS: u32 = 50;
/// Tags that are forgotten together.
const CHUNK: usize = 4096;

/// The name of a key among servers: see the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Tag {
        // Not secret, and need not be: who makes tags collide has his own keys sent again.
        const COMMON: KeyHasher = KeyHasher::new(0, 0);
        Tag((Slot::of_key(key).index() as u64) << HASH_BITS | COMMON.hash(key) >> (64 - HASH_BITS))
    }

    /// The slot of its key.
    #[must_use]
    pub fn slot(self) -> u16 {
        u16::try_from(self.0 >> HASH_BITS).unwrap_or(0)
    }
}

struct Chunk {
    /// The end of the last change in it.
    end: Offset,
    tags: Vec<Tag>,
}

struct Log {
    /// Everything that changed after this offset is here.
    since: Offset,
    chunks: VecDeque<Chunk>,
    /// Those since the last chunk, always in the same memory: fresh memory would make each wait for it.
    open: Vec<Tag>,
    /// The end of the last change in `open`.
    open_end: Offset,
    held: usize,
    most: usize,
}

/// See the head of this file.
pub struct Changed {
    on: AtomicBool,
    log: Mutex<Log>,
}

impl Default for Changed {
    fn default() -> Changed {
        let log = Log {
            since: Offset(0),
            chunks: VecDeque::new(),
            open: Vec::new(),
            open_end: Offset(0),
            held: 0,
            most: 0,
        };
        Changed { on: AtomicBool::new(false), log: Mutex::new(log) }
    }
}

impl Changed {
    /// Whether changes are to be noted.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Notes changes from now on, at most so many; 0 = none. Only in the exclusive section, where the journal
    /// is at `end`.
    pub fn start(&self, most: usize, end: Offset) {
        let mut log = self.log.lock();
        log.most = most;
        if !self.on.swap(most > 0, Ordering::AcqRel) || most == 0 {
            log.forget(end);
        }
        log.trim();
    }

    /// What came before can no longer be told by keys: databases were emptied or exchanged, or the history is
    /// another. Only in the exclusive section.
    pub fn forget(&self, end: Offset) {
        self.log.lock().forget(end);
    }

    /// These keys changed; the change ends at this offset. Call it while their slots are locked.
    pub fn note(&self, end: Offset, tags: impl IntoIterator<Item = Tag>) {
        let mut log = self.log.lock();
        for tag in tags {
            if log.open.len() == CHUNK {
                log.seal();
            }
            log.open.push(tag);
            // Slots are locked apart, so that changes may be noted in another order than they were recorded.
            log.open_end = log.open_end.max(end);
        }
    }

    /// The keys that changed after an offset, and perhaps some more; `None` if that is not known so far back. Only
    /// in the exclusive section.
    #[must_use]
    pub fn after(&self, offset: Offset) -> Option<HashSet<Tag>> {
        let log = self.log.lock();
        if !self.is_on() || offset < log.since {
            return None;
        }
        let chunks = log.chunks.iter().filter(|chunk| chunk.end > offset);
        let open = if log.open_end > offset { log.open.as_slice() } else { &[] };
        Some(chunks.flat_map(|chunk| &chunk.tags).chain(open).copied().collect())
    }

    /// Changes noted, and the bytes that they take.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let log = self.log.lock();
        let bytes = log.chunks.len() * CHUNK + log.open.capacity();
        (log.held + log.open.len(), bytes * size_of::<Tag>())
    }
}

impl Log {
    fn forget(&mut self, end: Offset) {
        self.chunks.clear();
        self.open.clear();
        self.open_end = end;
        self.held = 0;
        self.since = end;
    }

    #[cold]
    fn seal(&mut self) {
        self.chunks.push_back(Chunk { end: self.open_end, tags: self.open.clone() });
        self.held += self.open.len();
        self.open.clear();
        self.trim();
    }

    /// Forgets the oldest until there is room for those that are open, too.
    fn trim(&mut self) {
        while (self.chunks.len() + 1) * CHUNK > self.most {
            let Some(chunk) = self.chunks.pop_front() else { return };
            self.held -= chunk.tags.len();
            self.since = self.since.max(chunk.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_are_the_same_everywhere() {
        // Written into no file, but sent between servers of different versions.
        assert_eq!(Tag::of(b"user:1000").slot(), 1649);
        assert_eq!(Tag::of(b"{a}1").slot(), Tag::of(b"{a}2").slot());
        assert_ne!(Tag::of(b"{a}1"), Tag::of(b"{a}2"));
    }

    #[test]
    fn what_was_forgotten_is_not_told() {
        let changed = Changed::default();
        assert!(changed.after(Offset(0)).is_none(), "off");
        changed.start(10 * CHUNK, Offset(100));
        assert!(changed.after(Offset(99)).is_none());
        changed.note(Offset(110), [Tag(1)]);
        changed.note(Offset(120), [Tag(2), Tag(3)]);
        assert_eq!(changed.after(Offset(100)).expect("known").len(), 3);
        assert_eq!(changed.after(Offset(120)).expect("known").len(), 0);
        changed.forget(Offset(130));
        assert!(changed.after(Offset(120)).is_none());
        assert_eq!(changed.after(Offset(130)).expect("known").len(), 0);
        changed.start(0, Offset(140));
        assert!(changed.after(Offset(140)).is_none() && !changed.is_on());
    }

    proptest! {
        #[test]
        fn every_later_change_is_told_or_nothing_is(
            steps in proptest::collection::vec((1u64..50, 1usize..3000), 1..40), most in 1usize..10, from in any::<prop::sample::Index>(),
        ) {
            let changed = Changed::default();
            changed.start(most * CHUNK, Offset(0));
            let (mut end, mut number, mut model) = (0, 0, Vec::new());
            for (bytes, count) in steps {
                end += bytes;
                let tags: Vec<Tag> = (0..count).map(|at| Tag(number + at as u64)).collect();
                number += count as u64;
                model.extend(tags.iter().map(|tag| (end, *tag)));
                changed.note(Offset(end), tags);
            }
            let (_, bytes) = changed.held();
            prop_assert!(bytes <= (most + 1) * CHUNK * 8);
            let from = from.index(usize::try_from(end).unwrap_or(0) + 1) as u64;
            if let Some(told) = changed.after(Offset(from)) {
                for (at, tag) in model {
                    prop_assert!(at <= from || told.contains(&tag));
                }
            }
        }
    }
}
