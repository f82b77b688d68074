//! Which key goes when memory is full: the policies by samples, and S3-FIFO with a sampled main queue. It
//! decides and does not delete: the caller evicts the victim through a view, so that everybody hears of it.
//!
//! It holds no lock but that of one slot at a time. Sampling follows Redis's: some random records, the best of
//! them kept in a small pool over many rounds.

pub mod bits;
pub(crate) mod s3fifo;

use larder_base::rng::Rng;
use larder_base::slot::Slot;
use larder_base::time::Millis;

use crate::keyspace::{DbIndex, Keyspace, Located, SlotData};
use crate::record::RecordRef;
use crate::settings::{EvictionBits, Settings};
use crate::table::Place;

/// What makes a key go before others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The longest time without use (sampled LRU).
    LeastRecent,
    /// The fewest uses of late (Redis's approximated LFU).
    LeastFrequent,
    /// Chance.
    Random,
    /// The earliest deadline.
    NextToExpire,
    /// S3-FIFO (Yang et al., SOSP 2023), its main queue sampled.
    S3Fifo,
}

/// A policy with its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eviction {
    /// What makes a key go.
    pub policy: Policy,
    /// Only keys with a deadline go.
    pub volatile_only: bool,
    /// Records looked at for each victim.
    pub samples: usize,
}

impl Eviction {
    /// How the bits of records are kept for it.
    pub fn bits(self) -> EvictionBits {
        match self.policy {
            Policy::LeastRecent | Policy::Random | Policy::NextToExpire => EvictionBits::LastAccess,
            Policy::LeastFrequent => EvictionBits::Frequency,
            Policy::S3Fifo => EvictionBits::Small,
        }
    }
}

/// A key that is to go.
#[derive(Clone, Debug)]
pub struct Victim {
    /// Its database.
    pub db: DbIndex,
    /// Its slot and hash.
    pub at: Located,
    /// The key.
    pub key: Box<[u8]>,
    /// The higher, the sooner it goes.
    score: u64,
    /// Milliseconds without use, as far as its bits tell.
    pub idle_ms: u64,
}

/// The best candidates of the last rounds, the best one last.
#[derive(Debug, Default)]
pub struct Pool {
    kept: Vec<Victim>,
    /// The database that a random policy looks at next.
    next_db: usize,
    /// Slots that a hash tag swells beyond the others.
    giants: Giants,
}

/// Slots with many more keys than others, and how many: chance by slots would hardly ever meet their keys.
#[derive(Debug, Default)]
struct Giants(Vec<(DbIndex, u16, usize)>);

impl Giants {
    const MOST: usize = 16;

    /// Notes how many keys a slot has, where it has on average `mean`.
    fn note(&mut self, db: DbIndex, slot: u16, len: usize, mean: usize) {
        self.0.retain(|known| (known.0, known.1) != (db, slot));
        if len > 16 + 8 * mean {
            if self.0.len() >= Giants::MOST {
                self.0.sort_unstable_by_key(|known| std::cmp::Reverse(known.2));
                self.0.pop();
            }
            self.0.push((db, slot, len));
        }
    }

    /// One of them, each as likely as its share of `keys` says.
    fn draw(&self, db: DbIndex, keys: usize, rng: &mut Rng) -> Option<u16> {
        let mut at = rng.below_usize(keys);
        for (of, slot, len) in &self.0 {
            if *of == db {
                at = match at.checked_sub(*len) {
                    Some(rest) => rest,
                    None => return Some(*slot),
                };
            }
        }
        None
    }
}

/// As many as Redis keeps.
const POOL: usize = 16;

/// Everything that a choice depends on.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// The data.
    pub keyspace: &'a Keyspace,
    /// Its settings.
    pub settings: &'a Settings,
    /// The policy.
    pub eviction: Eviction,
    /// The present moment.
    pub now: Millis,
}

impl Pool {
    /// The next key to go; `None` if the policy finds none. The caller holds no slot, and may find the key gone.
    pub fn victim(&mut self, choice: &Choice<'_>, rng: &mut Rng) -> Option<Victim> {
        match choice.eviction.policy {
            Policy::Random => self.any(choice, rng),
            Policy::S3Fifo => {
                let small = choice.keyspace.s3fifo().take_unused(choice);
                small.or_else(|| self.best(choice, rng))
            }
            Policy::LeastRecent | Policy::LeastFrequent | Policy::NextToExpire => {
                self.best(choice, rng)
            }
        }
    }

    /// Any key, of one database after the other.
    fn any(&mut self, choice: &Choice<'_>, rng: &mut Rng) -> Option<Victim> {
        let count = choice.keyspace.databases();
        for _ in 0..count {
            self.next_db = (self.next_db + 1) % count.max(1);
            let db = DbIndex(u8::try_from(self.next_db).unwrap_or(0));
            if choice.in_scope(db) > 0
                && let Some(victim) = choice.sample(db, &mut self.giants, rng)
            {
                return Some(victim);
            }
        }
        None
    }

    /// The best of what was kept and of fresh samples.
    fn best(&mut self, choice: &Choice<'_>, rng: &mut Rng) -> Option<Victim> {
        for db in 0..choice.keyspace.databases() {
            let db = DbIndex(u8::try_from(db).unwrap_or(0));
            let keys = choice.in_scope(db);
            for _ in 0..choice.eviction.samples.min(keys) {
                if let Some(victim) = choice.sample(db, &mut self.giants, rng) {
                    self.keep(victim);
                }
            }
        }
        self.kept.pop()
    }

    fn keep(&mut self, victim: Victim) {
        let known = |other: &Victim| other.db == victim.db && other.key == victim.key;
        if self.kept.iter().any(known) {
            return;
        }
        let at = self.kept.partition_point(|other| other.score <= victim.score);
        if self.kept.len() < POOL {
            self.kept.insert(at, victim);
        } else if at > 0 {
            self.kept.remove(0);
            self.kept.insert(at - 1, victim);
        }
    }
}

impl Choice<'_> {
    /// How many keys of a database the policy may take.
    fn in_scope(&self, db: DbIndex) -> usize {
        if self.eviction.volatile_only {
            self.keyspace.volatile_len(db)
        } else {
            self.keyspace.len(db)
        }
    }

    /// A random record that the policy may take, with its score.
    fn sample(&self, db: DbIndex, giants: &mut Giants, rng: &mut Rng) -> Option<Victim> {
        /// Slots tried; those with few keys are passed over most times, so that keys are about equally likely.
        const TRIES: usize = 24;
        let mut longest = 1;
        let keys = self.in_scope(db);
        let mean = keys / Slot::COUNT;
        for attempt in 0..TRIES {
            let drawn = giants.draw(db, keys, rng);
            let slot = match drawn {
                Some(slot) => slot,
                None => self.keyspace.random_occupied(db, rng)?,
            };
            let Some(data) = self.keyspace.lock(db, slot) else { continue };
            let len = if self.eviction.volatile_only {
                usize::try_from(data.volatile).unwrap_or(usize::MAX)
            } else {
                data.table.len()
            };
            giants.note(db, slot, len, mean);
            let ordinary = len <= 16 + 8 * mean;
            if ordinary {
                longest = longest.max(len);
            }
            let passed = ordinary && attempt + 4 < TRIES && rng.below_usize(longest) >= len;
            if len == 0 || (passed && attempt > 0) || (drawn.is_none() && !ordinary) {
                // A giant has its turn when it is drawn.
                continue;
            }
            let Some(place) = self.pick(&data, rng) else { continue };
            return Some(self.judge(db, slot, data.table.at(place)));
        }
        self.first_volatile(db, rng)
    }

    /// A random record of a slot that the policy may take.
    fn pick(&self, data: &SlotData, rng: &mut Rng) -> Option<Place> {
        const LOOK_MAX: usize = 64;
        if !self.eviction.volatile_only {
            return data.table.random(rng);
        }
        let chance = (0..8).filter_map(|_| data.table.random(rng));
        // A hash without a deadline bears the mark of its earliest field.
        let is_volatile = |place: &Place| {
            data.table.mark(*place) != 0 && data.table.at(*place).deadline().is_some()
        };
        if let Some(place) = chance.into_iter().find(is_volatile) {
            return Some(place);
        }
        let mut places = data.table.places_by_mark(LOOK_MAX, |mark| mark != 0);
        places.retain(is_volatile);
        let at = rng.below_usize(places.len());
        places.get(at).copied()
    }

    /// Where keys with a deadline are so rare that chance does not find them: the next slot that has one.
    fn first_volatile(&self, db: DbIndex, rng: &mut Rng) -> Option<Victim> {
        if !self.eviction.volatile_only {
            return None;
        }
        let slots = self.keyspace.occupied_slots(db);
        let start = rng.below_usize(slots.len());
        let (head, tail) = slots.split_at_checked(start)?;
        for slot in tail.iter().chain(head) {
            let Some(data) = self.keyspace.lock(db, *slot) else { continue };
            if data.volatile > 0
                && let Some(place) = self.pick(&data, rng)
            {
                return Some(self.judge(db, *slot, data.table.at(place)));
            }
        }
        None
    }

    fn judge(&self, db: DbIndex, slot: u16, record: RecordRef<'_>) -> Victim {
        let bits = record.eviction_bits();
        let moment = self.keyspace.moment(self.now);
        let meaning = self.settings.eviction_bits;
        let idle_ms = meaning.idle_ms(bits, moment);
        let score = match self.eviction.policy {
            Policy::Random => 0,
            Policy::LeastRecent => idle_ms,
            Policy::LeastFrequent => {
                u64::from(255 - bits::decayed(bits, self.now, self.settings).min(255))
            }
            Policy::NextToExpire => {
                let when = record.deadline().map_or(i64::MAX, |when| when.0);
                u64::MAX - u64::try_from(when).unwrap_or(0)
            }
            Policy::S3Fifo => bits::worth_keeping(bits, moment),
        };
        let key: Box<[u8]> = Box::from(record.key());
        let at = Located { slot, hash: self.keyspace.hasher().hash(&key) };
        Victim { db, at, key, score, idle_ms }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
