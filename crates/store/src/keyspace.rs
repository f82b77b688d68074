//! The keyspace: databases of 16384 slots, each a small table behind its own lock. It knows which slot
//! a key belongs to, how many keys there are and which slots have any; what happens to the records
//! inside a slot is `view`'s business.
//!
//! Lock order: slots ascending by (database, slot). Whoever runs in the server's exclusive section may
//! take them in any order, since nobody else takes any.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};

use larder_base::hash::KeyHasher;
use larder_base::rng::Rng;
use larder_base::slot::Slot;
use larder_base::time::Millis;
use parking_lot::{Mutex, MutexGuard};

use crate::eviction::bits::Moment;
use crate::eviction::s3fifo::S3Fifo;
use crate::expiry::{Calendar, Tick};
use crate::snapshot::{Aside, Lanes, Snapshots};
use crate::table::Table;
use crate::trash::Trash;

/// A logical database, 0..16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct DbIndex(pub u8);

/// Who wants to hear of changes in a slot (bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Interest(pub u8);

impl Interest {
    /// A transaction watches a key here.
    pub const WATCHED: Interest = Interest(1);
    /// A client caches a key from here.
    pub const TRACKED: Interest = Interest(2);
    /// A client waits for a key here.
    pub const BLOCKED: Interest = Interest(4);
}

/// The contents of one slot of one database.
#[derive(Default)]
pub struct SlotData {
    pub(crate) table: Table,
    /// Records with a deadline (for collections with expiring members: the collection counts).
    pub(crate) volatile: u32,
    pub(crate) interest: u8,
    /// When its groups are due, as soon as anything in it is.
    pub(crate) calendar: Option<Box<Calendar>>,
    /// What snapshots still have to save of records that changed.
    pub(crate) aside: Option<Box<Aside>>,
}

pub(crate) type SlotGuard<'k> = MutexGuard<'k, SlotData>;

const COUNTERS: usize = 8;

#[repr(align(64))]
#[derive(Default)]
struct Counter {
    keys: AtomicI64,
    volatile: AtomicI64,
}

/// One database, its slots allocated at the first write.
#[derive(Default)]
struct Database {
    slots: OnceLock<Box<[Mutex<SlotData>]>>,
    /// Bit per slot: it has at least one key.
    occupied: OnceLock<Box<[AtomicU64]>>,
    counters: [Counter; COUNTERS],
    /// A tick per slot: nothing in it is to be looked at before. Written under the slot's lock.
    due: OnceLock<Box<[AtomicI64]>>,
}

impl Database {
    /// The first slot at or after `from` that has keys.
    fn occupied_from(&self, from: u16) -> Option<u16> {
        let words = self.occupied.get()?;
        let first = usize::from(from) / 64;
        for (at, word) in words.iter().enumerate().skip(first) {
            let mut bits = word.load(Ordering::Relaxed);
            if at == first {
                bits &= u64::MAX << (from % 64);
            }
            if bits != 0 {
                return u16::try_from(at * 64)
                    .ok()?
                    .checked_add(u16::try_from(bits.trailing_zeros()).ok()?);
            }
        }
        None
    }
}

/// A key's place: slot and hash, computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The slot.
    pub slot: u16,
    /// The keyed hash.
    pub hash: u64,
}

/// All databases of a server.
pub struct Keyspace {
    hasher: KeyHasher,
    /// Which physical database a logical one is: SWAPDB exchanges two entries.
    order: Vec<AtomicU8>,
    databases: Vec<Database>,
    /// Every change is to be reported, whatever the slots' interests say.
    observed: AtomicBool,
    /// Copies of the data are told what goes of itself.
    journaled: AtomicBool,
    /// Somebody else says what goes: see [`Keyspace::set_passive`].
    passive: AtomicBool,
    snapshots: Snapshots,
    s3fifo: S3Fifo,
}

impl Keyspace {
    /// An empty keyspace with this many databases (at most 256). The hasher's key must be random per process.
    pub fn new(hasher: KeyHasher, databases: usize) -> Keyspace {
        let count = u8::try_from(databases).unwrap_or(u8::MAX);
        Keyspace {
            hasher,
            order: (0..count).map(AtomicU8::new).collect(),
            databases: (0..count).map(|_| Database::default()).collect(),
            observed: AtomicBool::new(false),
            journaled: AtomicBool::new(false),
            passive: AtomicBool::new(false),
            snapshots: Snapshots::default(),
            s3fifo: S3Fifo::default(),
        }
    }

    /// The keyed hash function of all tables.
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// Number of databases.
    pub fn databases(&self) -> usize {
        self.databases.len()
    }

    /// Slot and hash of a key.
    #[inline]
    pub fn locate(&self, key: &[u8]) -> Located {
        let slot = u16::try_from(Slot::of_key(key).index()).unwrap_or(0);
        Located { slot, hash: self.hasher.hash(key) }
    }

    /// Number of keys, expired but not yet deleted ones included.
    pub fn len(&self, db: DbIndex) -> usize {
        self.sum(db, |counter| &counter.keys)
    }

    /// Whether a database has no key.
    pub fn is_empty(&self, db: DbIndex) -> bool {
        self.len(db) == 0
    }

    /// Number of keys with a deadline.
    pub fn volatile_len(&self, db: DbIndex) -> usize {
        self.sum(db, |counter| &counter.volatile)
    }

    /// Reports every change from now on (keyspace notifications, broadcast tracking), or only those in
    /// slots with an interest.
    pub fn observe_all(&self, on: bool) {
        self.observed.store(on, Ordering::Release);
    }

    /// Views report the keys that go of themselves, or no longer. Only in the exclusive section.
    pub fn set_journaled(&self, on: bool) {
        self.journaled.store(on, Ordering::Release);
    }

    /// A copy that follows another keyspace deletes nothing of itself: what is due is hidden from views until the
    /// other one says that it goes. Only in the exclusive section.
    pub fn set_passive(&self, on: bool) {
        self.passive.store(on, Ordering::Release);
    }

    /// Whether it follows another keyspace.
    #[inline]
    pub fn is_passive(&self) -> bool {
        self.passive.load(Ordering::Relaxed)
    }

    /// Exchanges two databases. Only in the exclusive section. Who waits for keys or watches them means the
    /// database's number, so that stays where it is.
    pub fn swap(&self, a: DbIndex, b: DbIndex) {
        if a != b {
            self.swap_interest(a, b);
        }
        let (Some(a), Some(b)) =
            (self.order.get(usize::from(a.0)), self.order.get(usize::from(b.0)))
        else {
            return;
        };
        let was = a.load(Ordering::Acquire);
        a.store(b.load(Ordering::Acquire), Ordering::Release);
        b.store(was, Ordering::Release);
    }

    fn swap_interest(&self, a: DbIndex, b: DbIndex) {
        let has_any = |db| {
            self.slots(db).is_some_and(|slots| slots.iter().any(|slot| slot.lock().interest != 0))
        };
        if !has_any(a) && !has_any(b) {
            return;
        }
        for slot in (0..Slot::COUNT).filter_map(|slot| u16::try_from(slot).ok()) {
            let (one, other) = (self.lock_for_command(a, slot), self.lock_for_command(b, slot));
            if let (Some(mut one), Some(mut other)) = (one, other) {
                std::mem::swap(&mut one.interest, &mut other.interest);
                // Caches know keys without databases.
                let cached = (one.interest | other.interest) & Interest::TRACKED.0;
                one.interest |= cached;
                other.interest |= cached;
            }
        }
    }

    /// Empties a database and returns what was in it, to be dropped off the hot path. Only in the
    /// exclusive section.
    pub fn flush(&self, db: DbIndex) -> Trash {
        let (mut tables, mut asides) = (Vec::new(), Vec::new());
        for slot in self.occupied_slots(db) {
            if let Some(mut guard) = self.lock(db, slot) {
                asides.extend(guard.aside.take());
                let (keys, volatile) = (guard.table.len(), guard.volatile);
                tables.push(std::mem::take(&mut guard.table));
                (guard.volatile, guard.calendar) = (0, None);
                self.count(db, slot, -signed(keys), -i64::from(volatile), true);
            }
        }
        self.snapshots.flushed(&asides);
        Trash::from(tables)
    }

    /// Fetches the slot's head into the cache.
    #[inline]
    pub fn prefetch_slot(&self, db: DbIndex, at: Located) {
        if let Some(slot) = self.slots(db).and_then(|slots| slots.get(usize::from(at.slot))) {
            prefetch_address(std::ptr::from_ref(slot).cast());
        }
    }

    /// Fetches all of a slot's head into the cache.
    #[inline]
    pub fn prefetch_head(&self, db: DbIndex, slot: u16) {
        if let Some(slot) = self.slots(db).and_then(|slots| slots.get(usize::from(slot))) {
            let at = std::ptr::from_ref(slot).cast::<u8>();
            prefetch_address(at);
            prefetch_address(at.wrapping_add(size_of_val(slot) - 1));
        }
    }

    /// Fetches the bucket of a key into the cache, if the slot is free.
    #[inline]
    pub fn prefetch_bucket(&self, db: DbIndex, at: Located) {
        if let Some(guard) = self.try_lock(db, at.slot) {
            guard.table.prefetch_bucket(at.hash);
        }
    }

    /// Fetches what a new deadline of a key is noted in into the cache, if the slot is free.
    #[inline]
    pub fn prefetch_calendar(&self, db: DbIndex, at: Located) {
        if let Some(guard) = self.try_lock(db, at.slot)
            && let Some(calendar) = guard.calendar.as_deref()
        {
            calendar.prefetch();
        }
    }

    /// Fetches the record of a key into the cache, if the slot is free.
    #[inline]
    pub fn prefetch_record(&self, db: DbIndex, at: Located) {
        if let Some(guard) = self.try_lock(db, at.slot) {
            guard.table.prefetch_record(at.hash);
        }
    }

    /// Fetches what the record of a key points to into the cache, if the slot is free.
    #[inline]
    pub fn prefetch_value(&self, db: DbIndex, at: Located) {
        if let Some(guard) = self.try_lock(db, at.slot) {
            guard.table.prefetch_value(at.hash);
        }
    }

    /// Locks a slot; `None` while the database was never written to or does not exist.
    #[inline]
    pub(crate) fn lock(&self, db: DbIndex, slot: u16) -> Option<SlotGuard<'_>> {
        self.slots(db)?.get(usize::from(slot)).map(Mutex::lock)
    }

    /// Locks a slot, allocating the database if need be.
    #[inline]
    pub(crate) fn lock_for_command(&self, db: DbIndex, slot: u16) -> Option<SlotGuard<'_>> {
        let database = self.database(db)?;
        let slots = database.slots.get_or_init(|| {
            // All at once: whoever looks at the memory in use sees one step, not one more at the first deadline.
            let _ = database.due.get_or_init(never_due);
            (0..Slot::COUNT).map(|_| Mutex::new(SlotData::default())).collect()
        });
        slots.get(usize::from(slot)).map(Mutex::lock)
    }

    /// Locks a slot if nobody holds it.
    #[inline]
    pub(crate) fn try_lock(&self, db: DbIndex, slot: u16) -> Option<SlotGuard<'_>> {
        self.slots(db)?.get(usize::from(slot))?.try_lock()
    }

    pub(crate) fn s3fifo(&self) -> &S3Fifo {
        &self.s3fifo
    }

    /// The present, as eviction bits hold it.
    #[inline]
    pub fn moment(&self, now: Millis) -> Moment<'_> {
        self.s3fifo.moment(now)
    }

    /// Bytes that the eviction policy holds beside the keys.
    pub fn eviction_bytes(&self) -> usize {
        self.s3fifo.memory_usage()
    }

    /// The logical database that a physical one is behind.
    pub(crate) fn logical(&self, physical: DbIndex) -> Option<DbIndex> {
        let is_it = |order: &AtomicU8| order.load(Ordering::Relaxed) == physical.0;
        let at = self.order.iter().position(is_it)?;
        u8::try_from(at).ok().map(DbIndex)
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// The state of the snapshots, as every write must know it.
    #[inline]
    pub(crate) fn lanes(&self) -> Lanes {
        self.snapshots.lanes()
    }

    /// The physical database behind a logical one.
    pub(crate) fn physical(&self, db: DbIndex) -> DbIndex {
        let order = self.order.get(usize::from(db.0));
        DbIndex(order.map_or(db.0, |order| order.load(Ordering::Relaxed)))
    }

    /// As [`Keyspace::occupied_from`], of a physical database.
    pub(crate) fn physical_occupied_from(&self, db: DbIndex, from: u16) -> Option<u16> {
        self.databases.get(usize::from(db.0))?.occupied_from(from)
    }

    /// Locks a slot of a physical database; `None` while it was never written to.
    pub(crate) fn lock_physical(&self, db: DbIndex, slot: u16) -> Option<SlotGuard<'_>> {
        let slots = self.databases.get(usize::from(db.0))?.slots.get()?;
        slots.get(usize::from(slot)).map(Mutex::lock)
    }

    #[inline]
    pub(crate) fn journaled(&self) -> bool {
        self.journaled.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn observed(&self) -> bool {
        self.observed.load(Ordering::Relaxed)
    }

    /// Counts keys that came or went, under the slot's lock. `empty`: the slot has none left.
    #[inline]
    pub(crate) fn count(&self, db: DbIndex, slot: u16, keys: i64, volatile: i64, empty: bool) {
        let Some(database) = self.database(db) else { return };
        if let Some(counter) = database.counters.get(usize::from(slot) % COUNTERS) {
            if keys != 0 {
                counter.keys.fetch_add(keys, Ordering::Relaxed);
            }
            if volatile != 0 {
                counter.volatile.fetch_add(volatile, Ordering::Relaxed);
            }
        }
        let words = database.occupied.get_or_init(|| (0..256).map(|_| AtomicU64::new(0)).collect());
        let Some(word) = words.get(usize::from(slot) / 64) else { return };
        let bit = 1u64 << (slot % 64);
        if empty {
            word.fetch_and(!bit, Ordering::Relaxed);
        } else if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Something in a slot, a key with this hash or a member of it, is due at this moment; under the slot's
    /// lock.
    #[inline]
    pub(crate) fn note_due(
        &self,
        (db, slot): (DbIndex, u16),
        data: &mut SlotData,
        hash: u64,
        when: Millis,
        now: Millis,
    ) {
        let Some(database) = self.database(db) else { return };
        let (tick, now) = (Tick::after(when.max(now)), Tick::begun(now));
        let [group, ..] = hash.to_le_bytes();
        let calendar = data.calendar.get_or_insert_with(|| Box::new(Calendar::EMPTY));
        calendar.note(1 << (group % 32), tick, now);
        if let Some(due) = database.due.get_or_init(never_due).get(usize::from(slot))
            && tick.0 < due.load(Ordering::Relaxed)
        {
            due.store(tick.0, Ordering::Relaxed);
        }
    }

    /// A sweep has seen all of a slot that was due: nothing is before this tick. Under the slot's lock.
    pub(crate) fn set_due(&self, db: DbIndex, slot: u16, tick: Tick) {
        let due = self.database(db).and_then(|database| database.due.get());
        if let Some(due) = due.and_then(|due| due.get(usize::from(slot))) {
            due.store(tick.0, Ordering::Relaxed);
        }
    }

    /// When something in a slot is to be looked at.
    pub(crate) fn due(&self, db: DbIndex, slot: u16) -> Tick {
        let due = self.database(db).and_then(|database| database.due.get());
        let due = due.and_then(|due| due.get(usize::from(slot)));
        due.map_or(Tick::NEVER, |due| Tick(due.load(Ordering::Relaxed)))
    }

    /// The slots at or after `from` that may hold something to be looked at by this tick, ascending.
    pub fn due_from(&self, db: DbIndex, from: u16, cut: Tick) -> impl Iterator<Item = u16> {
        let due = self.database(db).and_then(|database| database.due.get());
        let rest = due.and_then(|due| due.get(usize::from(from)..)).unwrap_or(&[]);
        (from..u16::MAX)
            .zip(rest)
            .filter_map(move |(slot, due)| (due.load(Ordering::Relaxed) <= cut.0).then_some(slot))
    }

    /// The tick at which something is to be looked at next, in any database.
    pub fn next_due(&self) -> Tick {
        let due = self.databases.iter().filter_map(|database| database.due.get());
        let ticks = due.flatten().map(|due| due.load(Ordering::Relaxed));
        Tick(ticks.min().unwrap_or(i64::MAX))
    }

    /// The first slot at or after `from` that has keys.
    pub fn occupied_from(&self, db: DbIndex, from: u16) -> Option<u16> {
        self.database(db)?.occupied_from(from)
    }

    /// All slots that have keys, ascending.
    pub fn occupied_slots(&self, db: DbIndex) -> Vec<u16> {
        let mut slots = Vec::new();
        let mut from = 0;
        while let Some(slot) = self.occupied_from(db, from) {
            slots.push(slot);
            from = slot + 1;
            if usize::from(from) >= Slot::COUNT {
                break;
            }
        }
        slots
    }

    /// A random slot that has keys.
    pub fn random_occupied(&self, db: DbIndex, rng: &mut Rng) -> Option<u16> {
        let words = self.database(db)?.occupied.get()?;
        for _ in 0..64 {
            let slot = rng.below_usize(Slot::COUNT);
            let word = words.get(slot / 64).map_or(0, |word| word.load(Ordering::Relaxed));
            if word & 1 << (slot % 64) != 0 {
                return u16::try_from(slot).ok();
            }
        }
        let from = u16::try_from(rng.below_usize(Slot::COUNT)).unwrap_or(0);
        self.occupied_from(db, from).or_else(|| self.occupied_from(db, 0))
    }

    fn sum(&self, db: DbIndex, field: impl Fn(&Counter) -> &AtomicI64) -> usize {
        let Some(database) = self.database(db) else { return 0 };
        let total: i64 = database.counters.iter().map(|c| field(c).load(Ordering::Relaxed)).sum();
        usize::try_from(total).unwrap_or(0)
    }

    #[inline]
    fn slots(&self, db: DbIndex) -> Option<&[Mutex<SlotData>]> {
        self.database(db)?.slots.get().map(|slots| &**slots)
    }

    #[inline]
    fn database(&self, db: DbIndex) -> Option<&Database> {
        let physical = self.order.get(usize::from(db.0))?.load(Ordering::Relaxed);
        self.databases.get(usize::from(physical))
    }
}

fn never_due() -> Box<[AtomicI64]> {
    (0..Slot::COUNT).map(|_| AtomicI64::new(i64::MAX)).collect()
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[inline]
fn prefetch_address(at: *const u8) {
    crate::table::prefetch(at);
}
