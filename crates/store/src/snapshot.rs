//! Snapshots by cut: the whole keyspace as of one moment, without a copy and without stopping anybody.
//!
//! The cut is made in the exclusive section and costs nothing. From then on a record carries in one bit
//! whether the snapshot still has to save it. A walk goes through all slots, a small part of one under its
//! lock at a time; whoever changes, replaces or deletes a record before the walk has come to it first puts
//! a copy of it, as it was, beside its slot. Lists and long texts are copied by reference. Big
//! sets, hashes and sorted sets are saved piece by piece: their members have the same bit, and a change
//! keeps only the members that it touches (`value::members`). So memory grows by what is overwritten
//! meanwhile, and nothing else.
//!
//! Two snapshots may run at a time, each in a *lane* with a bit of its own in every record.
//! It knows no file and no format: the caller writes down what [`Snapshot::step`] shows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use larder_base::slot::Slot;
use larder_base::time::Millis;
use parking_lot::{Mutex, MutexGuard};

use crate::keyspace::{DbIndex, Keyspace, Located};
use crate::record::{Payload, Record, RecordMut, RecordRef};
use crate::value::{Hash, Kind, score_of};

/// Snapshots that may run at a time.
pub const LANES: usize = 2;

/// The state of all lanes in one byte, read on every write: bits 0 and 1 say what the bits of a saved
/// record are, bits 2 and 3 which lanes have a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(u8);

impl Lanes {
    /// The bits of a record that no snapshot has to save: of every new one.
    #[inline]
    pub fn saved(self) -> u8 {
        self.0 & 0b11
    }

    /// Whether no snapshot runs.
    #[inline]
    pub fn are_idle(self) -> bool {
        self.0 >> 2 == 0
    }

    /// The lanes that still have to save a record with these bits.
    #[inline]
    fn unsaved(self, bits: u8) -> u8 {
        (bits ^ self.0) & self.0 >> 2
    }
}

/// A big collection that is saved piece by piece.
#[derive(Clone, Debug)]
struct Big {
    id: u64,
    db: DbIndex,
    at: Located,
    key: Box<[u8]>,
    deadline: Option<Millis>,
    eviction_bits: u32,
    kind: Kind,
    len: usize,
    earliest_expiry: Option<Millis>,
}

/// What writers put aside in one slot, by lane.
#[derive(Default)]
pub(crate) struct Aside {
    lanes: [AsideLane; LANES],
}

#[derive(Default)]
struct AsideLane {
    records: Vec<Record>,
    begun: Vec<Big>,
}

impl AsideLane {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.begun.is_empty()
    }
}

impl Aside {
    fn bytes(&self) -> usize {
        let records = self.lanes.iter().flat_map(|lane| &lane.records);
        records.map(|record| record.as_ref().memory_usage()).sum()
    }
}

/// A physical database, a place in it, and the key.
type Whereabouts = (DbIndex, Located, Box<[u8]>);

/// Where big collections went that a snapshot is saving: by lane and id.
#[derive(Default)]
struct Strays {
    /// Under another key now (RENAME, MOVE).
    moved: HashMap<(usize, u64), Whereabouts>,
    /// Deleted, and kept here until they are saved.
    orphans: HashMap<(usize, u64), Record>,
}

/// The keyspace's side of all snapshots.
#[derive(Default)]
pub(crate) struct Snapshots {
    lanes: AtomicU8,
    next_id: AtomicU64,
    /// By lane, the slots (of physical databases) with something aside, to be emptied first.
    busy: [Mutex<Vec<(DbIndex, u16)>>; LANES],
    strays: Mutex<Strays>,
    aside_bytes: AtomicUsize,
    /// How often databases were flushed: a snapshot that sees this move is broken.
    flushes: AtomicU64,
}

impl Snapshots {
    #[inline]
    pub fn lanes(&self) -> Lanes {
        Lanes(self.lanes.load(Ordering::Relaxed))
    }

    /// Called before a record is changed or taken out, while a snapshot runs: keeps it as it is for the lanes
    /// that have not saved it. `db` is the physical database.
    #[cold]
    pub fn preserve(
        &self,
        aside: &mut Option<Box<Aside>>,
        db: DbIndex,
        at: Located,
        mut record: RecordMut<'_>,
    ) {
        let unsaved = self.lanes().unsaved(record.as_ref().lanes());
        if unsaved == 0 {
            return;
        }
        let places = &mut aside.get_or_insert_default().lanes;
        for (lane, (place, busy)) in places.iter_mut().zip(&self.busy).enumerate() {
            if unsaved & 1 << lane == 0 {
                continue;
            }
            if place.is_empty() {
                busy.lock().push((db, at.slot));
            }
            if is_big(record.as_ref()) {
                place.begun.extend(self.begin_big(lane, db, at, &mut record));
            } else {
                let copy = copy_of(record.as_ref());
                self.aside_bytes.fetch_add(copy.as_ref().memory_usage(), Ordering::Relaxed);
                place.records.push(copy);
            }
        }
        let lanes = record.as_ref().lanes() ^ unsaved;
        record.set_lanes(lanes);
    }

    /// Lets a big collection be saved piece by piece from now on.
    fn begin_big(
        &self,
        lane: usize,
        db: DbIndex,
        at: Located,
        record: &mut RecordMut<'_>,
    ) -> Option<Big> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let seen = record.as_ref();
        let (key, deadline) = (Box::from(seen.key()), seen.deadline());
        let (eviction_bits, kind) = (seen.eviction_bits(), seen.kind());
        let earliest_expiry = seen.get::<Hash>().and_then(Hash::earliest_expiry);
        let mut value = record.value_mut()?;
        let len = value.begin_saving(lane, id);
        Some(Big { id, db, at, key, deadline, eviction_bits, kind, len, earliest_expiry })
    }

    /// All records are new ones, with these bits: those of a saved record.
    pub fn adopt(&self, lanes: Lanes) {
        let running = self.lanes().0 & !0b11;
        self.lanes.store(running | lanes.saved(), Ordering::Release);
    }

    /// A database was flushed, and with it what lay aside in its slots.
    pub fn flushed(&self, asides: &[Box<Aside>]) {
        let bytes: usize = asides.iter().map(|aside| aside.bytes()).sum();
        self.aside_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.flushes.fetch_add(1, Ordering::AcqRel);
    }

    /// A record goes for good. `Err` gives it back to be freed; a collection that is being saved is kept.
    pub fn bury(&self, mut record: Record) -> Result<(), Record> {
        let ids = saving_ids(&mut record);
        let Some((lane, id)) = ids.into_iter().flatten().next() else { return Err(record) };
        // With two lanes at once the other one finds it by its own id: see `Strays::orphan`.
        self.strays.lock().orphans.insert((lane, id), record);
        Ok(())
    }

    /// A record gets another place.
    pub fn note_move(&self, record: &mut Record, db: DbIndex, at: Located) {
        for (lane, id) in saving_ids(record).into_iter().flatten() {
            let key = Box::from(record.key());
            self.strays.lock().moved.insert((lane, id), (db, at, key));
        }
    }
}

/// Whether copying the record would hold others up.
fn is_big(record: RecordRef<'_>) -> bool {
    match record.payload() {
        Payload::Boxed(value) => value.is_saved_by_pieces(),
        Payload::Text(_) | Payload::Int(_) => false,
    }
}

/// The lanes that are saving this record's collection, and under which names.
fn saving_ids(record: &mut Record) -> [Option<(usize, u64)>; LANES] {
    let mut ids = [None; LANES];
    if let Some(mut value) = record.as_mut().into_value() {
        for (lane, id) in ids.iter_mut().enumerate() {
            *id = value.saving_id(lane).map(|id| (lane, id));
        }
    }
    ids
}

/// A copy with everything that a snapshot writes down.
fn copy_of(record: RecordRef<'_>) -> Record {
    let mut copy = record.copy_as(record.key());
    copy.as_mut().set_eviction_bits(record.eviction_bits());
    copy
}

/// What a step shows. The databases are those that clients saw at the cut.
pub enum Item<'a> {
    /// A whole record.
    Record(DbIndex, RecordRef<'a>),
    /// A big collection begins; its members follow, in no order, then `End`.
    Begin(Head<'a>),
    /// A member of it; for a sorted set with its score.
    Member(RecordRef<'a>, Option<f64>),
    /// The collection is complete.
    End,
}

/// What is known of a big collection before its members.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its database.
    pub db: DbIndex,
    /// Its key.
    pub key: &'a [u8],
    /// When the key expires.
    pub deadline: Option<Millis>,
    /// The eviction policy's bits.
    pub eviction_bits: u32,
    /// Its type.
    pub kind: Kind,
    /// How many members follow, exactly.
    pub len: usize,
    /// Of a hash whose fields have deadlines: the earliest of them. File formats ask for it ahead.
    pub earliest_expiry: Option<Millis>,
}

/// No lane is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// One running snapshot. It must be walked to its end, with an idle `visit` if nobody wants it any more:
/// only then its lane is free again.
#[derive(Debug)]
pub struct Snapshot {
    lane: usize,
    /// The database that clients saw as n was this one, physically, at the cut.
    order: Vec<DbIndex>,
    /// Where the walk is: physical database, slot, bucket.
    at: (usize, u16, usize),
    current: Option<Big>,
    waiting: Vec<Big>,
    keys_at_cut: usize,
    seen: usize,
    flushes: u64,
    done: bool,
    disturbs: bool,
}

impl Keyspace {
    /// Makes the cut. Only in the exclusive section.
    ///
    /// # Errors
    /// `Busy` while both lanes are taken.
    pub fn begin_snapshot(&self) -> Result<Snapshot, Busy> {
        let snapshots = self.snapshots();
        let lanes = snapshots.lanes.load(Ordering::Acquire);
        let lane = (0..LANES).find(|lane| lanes & 0b100 << lane == 0).ok_or(Busy)?;
        // Every record has this lane's present bit: turning it makes all of them unsaved.
        snapshots.lanes.store((lanes ^ 1 << lane) | 0b100 << lane, Ordering::Release);
        let dbs = (0..self.databases()).filter_map(|db| u8::try_from(db).ok()).map(DbIndex);
        let keys_at_cut = dbs.clone().map(|db| self.len(db)).sum();
        Ok(Snapshot {
            lane,
            order: dbs.map(|db| self.physical(db)).collect(),
            at: (0, 0, 0),
            current: None,
            waiting: Vec::new(),
            keys_at_cut,
            seen: 0,
            flushes: snapshots.flushes.load(Ordering::Acquire),
            done: false,
            disturbs: false,
        })
    }

    /// Bytes that writers have put aside for snapshots and that are not saved yet.
    pub fn snapshot_bytes(&self) -> usize {
        self.snapshots().aside_bytes.load(Ordering::Relaxed)
    }
}

impl Snapshot {
    /// Keys at the cut, and how many were shown so far.
    pub fn progress(&self) -> (usize, usize) {
        (self.seen, self.keys_at_cut)
    }

    /// Whether the last step held up somebody who writes to a big collection: a short sleep before the next one
    /// lets him go on, and lets the next step run through undisturbed by the system's scheduler.
    pub fn disturbs(&self) -> bool {
        self.disturbs
    }

    /// Whether a database was flushed since the cut: what was shown is incomplete, and must be given up.
    pub fn is_broken(&self, keyspace: &Keyspace) -> bool {
        keyspace.snapshots().flushes.load(Ordering::Acquire) != self.flushes
    }

    /// Shows about `budget` records or members, each as it was at the cut, some under the lock of a slot: be
    /// quick. Returns false when all were shown; the lane is free then.
    pub fn step(
        &mut self,
        keyspace: &Keyspace,
        budget: usize,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> bool {
        if self.done {
            return false;
        }
        self.disturbs = false;
        if self.current.is_none() {
            // What was put aside goes first, so that it never gathers.
            if let Some((db, slot)) = self.busy_slot(keyspace) {
                self.empty_aside(keyspace, db, slot, visit);
                return true;
            }
            self.current = self.waiting.pop();
            if let Some(big) = &self.current {
                self.seen += 1;
                visit(Item::Begin(big.head(self.logical(big.db))));
            }
        }
        if let Some(big) = self.current.take() {
            if self.step_big(keyspace, &big, budget, visit) {
                visit(Item::End);
            } else {
                self.current = Some(big);
            }
            return true;
        }
        if self.walk(keyspace, budget, visit) {
            return true;
        }
        // Writers may have been busy to the last moment: only an end that finds nothing is the end.
        let busy =
            keyspace.snapshots().busy.get(self.lane).is_some_and(|all| !all.lock().is_empty());
        if busy || !self.waiting.is_empty() {
            return true;
        }
        self.finish(keyspace);
        false
    }

    fn busy_slot(&self, keyspace: &Keyspace) -> Option<(DbIndex, u16)> {
        keyspace.snapshots().busy.get(self.lane)?.lock().pop()
    }

    fn finish(&mut self, keyspace: &Keyspace) {
        self.done = true;
        let snapshots = keyspace.snapshots();
        snapshots.lanes.fetch_and(!(0b100 << self.lane), Ordering::AcqRel);
        let mut strays = snapshots.strays.lock();
        strays.moved.retain(|(lane, _), _| *lane != self.lane);
    }

    fn logical(&self, physical: DbIndex) -> DbIndex {
        let at = self.order.iter().position(|db| *db == physical);
        at.and_then(|at| u8::try_from(at).ok()).map_or(physical, DbIndex)
    }

    /// The next part of a slot's table; false when all slots are done.
    fn walk(
        &mut self,
        keyspace: &Keyspace,
        budget: usize,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> bool {
        let (db, slot, bucket) = self.at;
        let Some(physical) = self.order.iter().map(|db| usize::from(db.0)).nth(db) else {
            return false;
        };
        let physical = DbIndex(u8::try_from(physical).unwrap_or(u8::MAX));
        let next_slot = |from: u16| keyspace.physical_occupied_from(physical, from);
        let found = if bucket > 0 { Some(slot) } else { next_slot(slot) };
        let Some(slot) = found else {
            self.at = (db + 1, 0, 0);
            return true;
        };
        let Some(mut data) = keyspace.lock_physical(physical, slot) else {
            self.at = (db + 1, 0, 0);
            return true;
        };
        let logical = self.logical(physical);
        let (lane, snapshots) = (self.lane, keyspace.snapshots());
        let (bit, saved) = (1u8 << lane, snapshots.lanes().saved());
        let mut seen = 0;
        let begun = &mut self.waiting;
        data.table.hold(lane, true);
        let next = data.table.walk(bucket, budget, |mut record| {
            if (record.as_ref().lanes() ^ saved) & bit == 0 {
                return;
            }
            if is_big(record.as_ref()) {
                let at = keyspace.locate(record.as_ref().key());
                begun.extend(snapshots.begin_big(lane, physical, at, &mut record));
            } else {
                seen += 1;
                visit(Item::Record(logical, record.as_ref()));
            }
            let lanes = record.as_ref().lanes() ^ bit;
            record.set_lanes(lanes);
        });
        if next.is_none() {
            data.table.hold(lane, false);
        }
        // Whoever waits for the slot comes first: this thread would be back before it has woken up.
        MutexGuard::unlock_fair(data);
        self.seen += seen;
        self.at = match next {
            Some(bucket) => (db, slot, bucket),
            None if usize::from(slot) + 1 < Slot::COUNT => (db, slot + 1, 0),
            None => (db + 1, 0, 0),
        };
        true
    }

    /// Shows what writers put aside in one slot.
    fn empty_aside(
        &mut self,
        keyspace: &Keyspace,
        db: DbIndex,
        slot: u16,
        visit: &mut dyn FnMut(Item<'_>),
    ) {
        let Some(mut data) = keyspace.lock_physical(db, slot) else { return };
        let Some(aside) = &mut data.aside else { return };
        let mut mine = aside.lanes.get_mut(self.lane).map(std::mem::take).unwrap_or_default();
        if aside.lanes.iter().all(AsideLane::is_empty) {
            data.aside = None;
        }
        drop(data);
        let logical = self.logical(db);
        for record in &mine.records {
            self.seen += 1;
            visit(Item::Record(logical, record.as_ref()));
        }
        let bytes: usize = mine.records.iter().map(|record| record.as_ref().memory_usage()).sum();
        keyspace.snapshots().aside_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.waiting.append(&mut mine.begun);
    }

    /// The next members of a big collection, wherever it is by now. True when it is complete.
    fn step_big(
        &mut self,
        keyspace: &Keyspace,
        big: &Big,
        budget: usize,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> bool {
        let lane = self.lane;
        let scored = big.kind == Kind::SortedSet;
        let mut show = |record: RecordRef<'_>| {
            visit(Item::Member(record, scored.then(|| score_of(record))));
        };
        let name = (lane, big.id);
        let mut place = (big.db, big.at, big.key.clone());
        loop {
            if let Some(mut data) = keyspace.lock_physical(place.0, place.1.slot)
                && let Some(found) = data.table.find(place.1.hash, &place.2)
                && let Some(mut value) = data.table.at_mut(found).into_value()
                && value.saving_id(lane) == Some(big.id)
            {
                self.disturbs = value.was_disturbed(lane);
                let done = value.save_step(lane, budget, &mut show);
                MutexGuard::unlock_fair(data);
                return done;
            }
            let mut strays = keyspace.snapshots().strays.lock();
            if let Some(done) = strays.step_orphan(name, budget, &mut show) {
                return done;
            }
            match strays.moved.get(&name) {
                Some(moved) if *moved != place => place.clone_from(moved),
                // Nowhere: it cannot be, but waiting for ever would be worse than an incomplete file.
                Some(_) | None => return true,
            }
        }
    }
}

impl Strays {
    /// A step of a collection that was deleted meanwhile; `None` if it is not here.
    fn step_orphan(
        &mut self,
        (lane, id): (usize, u64),
        budget: usize,
        show: &mut dyn FnMut(RecordRef<'_>),
    ) -> Option<bool> {
        // Two lanes may be saving it: it lies here under the name that the first one gave it.
        let name = *self.orphans.iter_mut().find_map(|(name, record)| {
            let mut value = record.as_mut().into_value()?;
            (value.saving_id(lane) == Some(id)).then_some(name)
        })?;
        let mut value = self.orphans.get_mut(&name)?.as_mut().into_value()?;
        let done = value.save_step(lane, budget, show);
        if done {
            let idle = (0..LANES).all(|lane| value.saving_id(lane).is_none());
            if idle {
                self.orphans.remove(&name);
            }
        }
        Some(done)
    }
}

impl Big {
    fn head(&self, db: DbIndex) -> Head<'_> {
        Head {
            db,
            key: &self.key,
            deadline: self.deadline,
            eviction_bits: self.eviction_bits,
            kind: self.kind,
            len: self.len,
            earliest_expiry: self.earliest_expiry,
        }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
