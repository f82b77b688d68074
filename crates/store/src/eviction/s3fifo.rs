//! The queues of S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): a small
//! queue of the newest keys, and a ghost of fingerprints of those that it let go. The main queue is no
//! queue here: it is sampled (`super`), which loses little and needs no list.
//!
//! Both are bounded by the number of keys: about 2 bytes a key for the small queue, 2 to 4 for the ghost,
//! and nothing at all before the policy is chosen. Locks here are leaves.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use larder_base::time::Millis;
use parking_lot::Mutex;

use super::bits::{self, Moment, Times};
use super::{Choice, Victim};
use crate::keyspace::{DbIndex, Located};

/// The small queue aims at this share of the keys.
const SMALL_SHARE: usize = 10;
/// Uses in the small queue that earn a place in the main one.
const USES_MIN: u32 = 1;
const SHARDS: usize = 8;
/// Recent ticks whose beginning is known.
const TIMES: usize = 4096;
/// Ticks in the time in which as many keys are born as there are.
const TICKS_A_ROUND: u64 = 1024;
/// One turn of the cache in units of the logical clock.
const ROUND: u64 = 1 << 30;

#[derive(Clone, Copy)]
struct Newborn {
    hash: u64,
    slot: u16,
    db: DbIndex,
}

/// See the head of this file.
pub(crate) struct S3Fifo {
    small: [Mutex<VecDeque<Newborn>>; SHARDS],
    small_len: AtomicUsize,
    next_shard: AtomicUsize,
    ghost: Mutex<Ghost>,
    /// Logical time: a turn of the cache is `ROUND`.
    clock: AtomicU64,
    times: OnceLock<Box<[AtomicI64]>>,
    /// Keys in scope, counted now and then.
    keys: AtomicUsize,
    born: AtomicUsize,
}

impl Default for S3Fifo {
    fn default() -> S3Fifo {
        S3Fifo {
            small: std::array::from_fn(|_| Mutex::default()),
            small_len: AtomicUsize::new(0),
            next_shard: AtomicUsize::new(0),
            ghost: Mutex::default(),
            clock: AtomicU64::new(0),
            times: OnceLock::new(),
            keys: AtomicUsize::new(0),
            born: AtomicUsize::new(0),
        }
    }
}

impl S3Fifo {
    /// The logical time.
    #[inline]
    pub fn tick(&self) -> u32 {
        let tick = self.clock.load(Ordering::Relaxed) / (ROUND / TICKS_A_ROUND);
        u32::try_from(tick & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// The present with this logical time.
    #[inline]
    pub fn moment(&self, now: Millis) -> Moment<'_> {
        let times = self.times.get().map_or(&[][..], |times| times);
        Moment { now, tick: self.tick(), times: Times(times) }
    }

    /// A key was born: queues it, unless it is remembered as one that went too early. `keys`: asked now and
    /// then for their number.
    pub fn born(
        &self,
        db: DbIndex,
        at: Located,
        now: Millis,
        keys: impl FnOnce() -> usize,
    ) -> bool {
        const COUNT_EVERY: usize = 256;
        if self.born.fetch_add(1, Ordering::Relaxed).is_multiple_of(COUNT_EVERY) {
            self.keys.store(keys(), Ordering::Relaxed);
        }
        self.advance(now);
        if self.ghost.lock().take(at.hash) {
            return true;
        }
        let cap = (2 * self.keys.load(Ordering::Relaxed) / SMALL_SHARE).max(64);
        let shard = usize::from(at.slot) % SHARDS;
        if let Some(queue) = self.small.get(shard) {
            let mut queue = queue.lock();
            queue.push_back(Newborn { hash: at.hash, slot: at.slot, db });
            // Without pressure nobody takes from it: then the oldest count as of the main queue.
            if queue.len() > cap / SHARDS + 8 {
                queue.pop_front();
            } else {
                self.small_len.fetch_add(1, Ordering::Relaxed);
            }
        }
        false
    }

    fn advance(&self, now: Millis) {
        let keys = u64::try_from(self.keys.load(Ordering::Relaxed)).unwrap_or(1).max(64);
        let step = (ROUND / keys).max(1);
        let before = self.clock.fetch_add(step, Ordering::Relaxed);
        let unit = ROUND / TICKS_A_ROUND;
        if before / unit != (before + step) / unit || before == 0 {
            let times = self.times.get_or_init(|| (0..TIMES).map(|_| AtomicI64::new(0)).collect());
            let at = usize::try_from((before + step) / unit % TIMES as u64).unwrap_or(0);
            if let Some(time) = times.get(at) {
                time.store(now.0, Ordering::Relaxed);
            }
        }
    }

    /// The oldest key of the small queue that was not used, if the queue is over its share; used ones are
    /// promoted on the way.
    pub fn take_unused(&self, choice: &Choice<'_>) -> Option<Victim> {
        const LOOK_MAX: usize = 128;
        let keyspace = choice.keyspace;
        let dbs = (0..keyspace.databases()).filter_map(|db| u8::try_from(db).ok());
        let keys: usize = dbs.map(|db| choice.in_scope(DbIndex(db))).sum();
        self.keys.store(keys, Ordering::Relaxed);
        for _ in 0..LOOK_MAX {
            if self.small_len.load(Ordering::Relaxed) <= keys / SMALL_SHARE {
                return None;
            }
            let newborn = self.oldest()?;
            let Some(mut data) = keyspace.lock_physical(newborn.db, newborn.slot) else { continue };
            let hasher = keyspace.hasher();
            let Some(place) = data.table.find_by_hash(newborn.hash, hasher) else { continue };
            let record = data.table.at(place);
            let seen = record.eviction_bits();
            if !bits::is_small(seen)
                || (choice.eviction.volatile_only && record.deadline().is_none())
            {
                continue;
            }
            if bits::uses(seen) >= USES_MIN {
                data.table.at_mut(place).set_eviction_bits(bits::promoted(self.tick()));
                continue;
            }
            let key: Box<[u8]> = Box::from(record.key());
            let idle_ms = choice.settings.eviction_bits.idle_ms(seen, self.moment(choice.now));
            drop(data);
            self.ghost.lock().add(newborn.hash, keys);
            let Some(db) = keyspace.logical(newborn.db) else { continue };
            let at = Located { slot: newborn.slot, hash: newborn.hash };
            return Some(Victim { db, at, key, score: u64::MAX, idle_ms });
        }
        None
    }

    /// Goes on where another one stands; what it calls a database is this one here now. The ghost stays: it knows hashes.
    pub fn adopt(&self, other: &S3Fifo, place: impl Fn(DbIndex) -> DbIndex) {
        for (ours, theirs) in self.small.iter().zip(&other.small) {
            let mut newborns = std::mem::take(&mut *theirs.lock());
            newborns.iter_mut().for_each(|newborn| newborn.db = place(newborn.db));
            *ours.lock() = newborns;
        }
        for (ours, theirs) in [(&self.small_len, &other.small_len), (&self.keys, &other.keys)] {
            ours.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.clock.store(other.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        if let Some(theirs) = other.times.get() {
            let ours = self.times.get_or_init(|| (0..TIMES).map(|_| AtomicI64::new(0)).collect());
            for (ours, theirs) in ours.iter().zip(theirs) {
                ours.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    fn oldest(&self) -> Option<Newborn> {
        for _ in 0..SHARDS {
            let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
            if let Some(newborn) = self.small.get(shard).and_then(|queue| queue.lock().pop_front())
            {
                self.small_len.fetch_sub(1, Ordering::Relaxed);
                return Some(newborn);
            }
        }
        None
    }

    /// Bytes held.
    pub fn memory_usage(&self) -> usize {
        let queues: usize = self.small.iter().map(|queue| queue.lock().capacity()).sum();
        let times = self.times.get().map_or(0, |times| times.len() * size_of::<AtomicI64>());
        queues * size_of::<Newborn>() + self.ghost.lock().sets.len() * size_of::<Set>() + times
    }
}

type Set = [u16; 8];

/// Fingerprints of about as many keys as there are, first in first out within a set of eight.
#[derive(Default)]
struct Ghost {
    sets: Vec<Set>,
}

impl Ghost {
    /// Remembers a key that goes. Grows with the number of keys, forgetting all then.
    fn add(&mut self, hash: u64, keys: usize) {
        let wanted = (keys / size_of::<Set>().div_euclid(2)).max(8).next_power_of_two();
        if self.sets.len() < wanted || self.sets.len() > wanted.saturating_mul(4) {
            self.sets = vec![Set::default(); wanted];
        }
        let fingerprint = fingerprint(hash);
        if let Some(set) = self.set(hash) {
            set.rotate_right(1);
            if let Some(newest) = set.first_mut() {
                *newest = fingerprint;
            }
        }
    }

    /// Whether a key is remembered; it is forgotten then.
    fn take(&mut self, hash: u64) -> bool {
        let wanted = fingerprint(hash);
        let Some(set) = self.set(hash) else { return false };
        let Some(found) = set.iter_mut().find(|known| **known == wanted) else { return false };
        *found = 0;
        true
    }

    fn set(&mut self, hash: u64) -> Option<&mut Set> {
        let mask = u64::try_from(self.sets.len()).ok()?.checked_sub(1)?;
        let at = usize::try_from(hash & mask).ok()?;
        self.sets.get_mut(at)
    }
}

/// 16 bits that the set does not tell; 0 stands for nobody.
fn fingerprint(hash: u64) -> u16 {
    u16::try_from(hash >> 40 & 0xffff).unwrap_or(0).max(1)
}
