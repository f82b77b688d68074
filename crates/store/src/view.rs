//! A view: the locked slots of one command (or of one transaction), at one moment. It is the only way
//! to records, so every mutation passes here: expiry on access, eviction bits, change reports, counts
//! and the snapshot hook hang here and nowhere else. It knows no client and no protocol.
//!
//! This file holds the view, its locks, reading, and the few functions that every change ends in; see
//! `writing` for the changes themselves, `walk` for many keys at once, `sweep` for what is due, `changes` for
//! what it reports.

mod changes;
mod payload;
mod sweep;
mod walk;
mod writing;

use std::cell::Cell;
use std::sync::Arc;

use larder_base::rng::Rng;
use larder_base::time::Millis;
use smallvec::SmallVec;

pub use self::changes::{Change, Deadline, EventClass, GoneMembers, Tally, What, WrongType};
pub use self::sweep::{SWEPT_TOGETHER, Stop};
use crate::expiry;
use crate::keyspace::{DbIndex, Interest, Keyspace, Located, SlotData, SlotGuard};
use crate::record::{Payload, Record, RecordRef};
use crate::settings::{EvictionBits, Settings};
use crate::table::{Place, Table};
pub use crate::value::Text;
use crate::value::{Kind, Typed, ValueRef};

/// Texts up to this many bytes lie inside their record.
pub const INLINE_TEXT_MAX: usize = 1024;
/// Values that take more allocations than this are freed by the background.
const FREE_COST_MAX: usize = 64;

/// Where a key of the command is. The key is known by its place in the request, which stays for as long as the
/// command runs.
struct Hint {
    address: usize,
    len: usize,
    at: Located,
}

impl Hint {
    #[inline]
    fn is_of(&self, key: &[u8]) -> bool {
        self.address == key.as_ptr().addr() && self.len == key.len()
    }
}

#[derive(Clone, Copy)]
struct Spot {
    guard: usize,
    place: Place,
    hash: u64,
}

/// What a view does with what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dues {
    /// It is deleted, and reported as expired.
    Delete,
    /// It is not shown, and stays: somebody else decides when it goes (a replica's clients).
    Hide,
    /// It is shown as if it lived for ever: what is repeated here happened when it did live.
    Keep,
}

/// See the head of this file.
pub struct View<'k> {
    keyspace: &'k Keyspace,
    settings: &'k Settings,
    db: DbIndex,
    now: Millis,
    guards: SmallVec<[(DbIndex, u16, SlotGuard<'k>); 2]>,
    /// Slots may be locked on demand, in any order.
    exclusive: bool,
    dues: Dues,
    /// The command's keys, located already.
    hints: SmallVec<[Hint; 1]>,
    /// The hint that was right last.
    hinted: Cell<usize>,
    /// Reads leave the eviction bits alone (CLIENT NO-TOUCH).
    pub no_touch: bool,
    /// A text among the command's arguments that may become a value without being copied.
    offered: Option<Arc<Vec<u8>>>,
    /// What happened, in order; only what somebody wants to hear.
    pub changes: Vec<Change>,
    /// Counts for the statistics.
    pub tally: Tally,
    /// Values to be freed off the hot path.
    pub trash: Vec<Record>,
    /// Keys that went of themselves (expired), in order, while the keyspace is journaled: copies of the data
    /// wait to be told.
    pub gone: Vec<(DbIndex, Box<[u8]>)>,
    /// The same of members of collections.
    pub gone_members: Vec<GoneMembers>,
    /// Collections with more due members than a visit takes: whoever sweeps goes on with them.
    pub unfinished: Vec<Box<[u8]>>,
    rng: Rng,
}

impl Keyspace {
    /// Locks the slots of these keys, in ascending order. Keys that are not named here are not there for
    /// the view.
    #[inline]
    pub fn view<'k>(
        &'k self,
        settings: &'k Settings,
        db: DbIndex,
        keys: &[Located],
        now: Millis,
    ) -> View<'k> {
        let mut view = View::new(self, settings, db, now, false);
        view.lock_keys(keys);
        view
    }

    /// A view of nothing yet: `lock_key` or `lock_keys` follows, once.
    #[inline]
    pub fn view_none<'k>(&'k self, settings: &'k Settings, db: DbIndex, now: Millis) -> View<'k> {
        View::new(self, settings, db, now, false)
    }

    /// A view that locks what it touches as it goes. Only in the exclusive section.
    pub fn view_all<'k>(&'k self, settings: &'k Settings, db: DbIndex, now: Millis) -> View<'k> {
        View::new(self, settings, db, now, true)
    }

    /// A view of a few whole slots, ascending, for a sweep.
    pub fn view_slots<'k>(
        &'k self,
        settings: &'k Settings,
        db: DbIndex,
        slots: &[u16],
        now: Millis,
    ) -> View<'k> {
        let mut view = View::new(self, settings, db, now, false);
        view.guards.reserve(slots.len());
        for slot in slots {
            view.lock(db, *slot);
        }
        view
    }

    /// Locks the slots of keys in several databases (a transaction with SELECT inside).
    pub fn view_many<'k>(
        &'k self,
        settings: &'k Settings,
        db: DbIndex,
        keys: &[(DbIndex, Located)],
        now: Millis,
    ) -> View<'k> {
        let mut view = View::new(self, settings, db, now, false);
        let mut slots: Vec<(DbIndex, u16)> = keys.iter().map(|(db, at)| (*db, at.slot)).collect();
        slots.sort_unstable();
        slots.dedup();
        for (db, slot) in slots {
            view.lock(db, slot);
        }
        view
    }
}

impl<'k> View<'k> {
    #[inline]
    fn new(
        keyspace: &'k Keyspace,
        settings: &'k Settings,
        db: DbIndex,
        now: Millis,
        exclusive: bool,
    ) -> View<'k> {
        View {
            keyspace,
            settings,
            db,
            now,
            guards: SmallVec::new(),
            exclusive,
            dues: if keyspace.is_passive() { Dues::Hide } else { Dues::Delete },
            hints: SmallVec::new(),
            hinted: Cell::new(0),
            no_touch: false,
            offered: None,
            changes: Vec::new(),
            tally: Tally::default(),
            trash: Vec::new(),
            gone: Vec::new(),
            gone_members: Vec::new(),
            unfinished: Vec::new(),
            rng: Rng::new(now.0.cast_unsigned()),
        }
    }

    /// Locks the slots of these keys, in ascending order.
    pub fn lock_keys(&mut self, keys: &[Located]) {
        let db = self.db;
        if let [only] = keys {
            return self.lock(db, only.slot);
        }
        let mut slots: SmallVec<[u16; 16]> = keys.iter().map(|at| at.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.lock(db, slot);
        }
    }

    /// Locks the slots of a command's keys in ascending order, and fetches their records: each key's misses
    /// overlap with the others'.
    pub fn lock_each(&mut self, keys: &[(&[u8], Located)]) {
        /// More would push each other out of the cache.
        const FETCH_MAX: usize = 256;
        let fetched = keys.get(..FETCH_MAX.min(keys.len())).filter(|keys| keys.len() > 1);
        for (_, at) in fetched.unwrap_or(&[]) {
            self.keyspace.prefetch_slot(self.db, *at);
        }
        let places: SmallVec<[Located; 16]> = keys.iter().map(|(_, at)| *at).collect();
        self.lock_keys(&places);
        for fetch in [Table::prefetch_bucket, Table::prefetch_record] {
            for (_, at) in fetched.unwrap_or(&[]) {
                if let Some(guard) = self.guard(at.slot)
                    && let Some((_, _, data)) = self.guards.get(guard)
                {
                    fetch(&data.table, at.hash);
                }
            }
        }
        for (key, at) in keys {
            self.set_hint(key, *at);
        }
    }

    /// Locks the slot of a command's only key.
    #[inline]
    pub fn lock_key(&mut self, key: &[u8], at: Located) {
        self.set_hint(key, at);
        self.lock(self.db, at.slot);
    }

    /// Makes room for about so many keys in a locked slot that has none yet.
    pub fn expect_keys(&mut self, at: Located, keys: usize) {
        if let Some(guard) = self.guard(at.slot)
            && let Some((_, _, data)) = self.guards.get_mut(guard)
        {
            data.table.expect(keys);
        }
    }

    /// Lets the slots go; what the view has to report stays.
    pub fn release(&mut self) {
        self.guards.clear();
    }

    /// The moment of the command.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// What has a deadline up to this moment is gone for this view: the moment of the command, or the beginning of
    /// time if it keeps what is due.
    #[inline]
    pub fn gone_by(&self) -> Millis {
        match self.dues {
            Dues::Keep => Millis(i64::MIN),
            Dues::Delete | Dues::Hide => self.now,
        }
    }

    /// Whether it deletes what is due.
    pub fn deletes_due(&self) -> bool {
        self.dues == Dues::Delete
    }

    /// Says what is to become of what is due; of itself a view deletes, or hides if its keyspace is passive.
    pub fn set_dues(&mut self, dues: Dues) {
        self.dues = dues;
    }

    /// Who the command is of: whether its reads leave no trace, and a long text among its arguments that may
    /// become a value without being copied.
    #[inline]
    pub fn serve(&mut self, no_touch: bool, offered: Option<&Arc<Vec<u8>>>) {
        self.no_touch = no_touch;
        self.offered = offered.cloned();
    }

    /// The selected database.
    pub fn db(&self) -> DbIndex {
        self.db
    }

    /// Selects another database. Its keys are there only if they were locked, or in the exclusive section.
    pub fn select(&mut self, db: DbIndex) {
        self.db = db;
        self.hints.clear();
    }

    /// The keyspace below.
    pub fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// The settings of this moment.
    pub fn settings(&self) -> &'k Settings {
        self.settings
    }

    /// Remembers where the first key is, so that it is not hashed again.
    #[inline]
    pub fn set_hint(&mut self, key: &[u8], at: Located) {
        self.hints.push(Hint { address: key.as_ptr().addr(), len: key.len(), at });
    }

    /// Tells that somebody wants to hear of changes to a key (or no longer).
    pub fn set_interest(&mut self, key: &[u8], interest: Interest, on: bool) {
        let at = self.locate(key);
        if let Some(index) = self.guard(at.slot)
            && let Some((_, _, data)) = self.guards.get_mut(index)
        {
            if on {
                data.interest |= interest.0;
            } else {
                data.interest &= !interest.0;
            }
        }
    }

    /// Nobody watches or caches keys of the slot of this key any more.
    pub fn lose_interest(&mut self, db: DbIndex, key: &[u8]) {
        let slot = self.keyspace.locate(key).slot;
        let held = self.guards.iter_mut().find(|held| held.1 == slot && held.0 == db);
        if let Some((_, _, data)) = held {
            data.interest &= !(Interest::WATCHED.0 | Interest::TRACKED.0);
        }
    }

    // ---- reading ----

    /// The collection at a key, as a read: counted as hit or miss, and the key touched.
    ///
    /// # Errors
    /// `WrongType` if the key holds another type.
    #[inline]
    pub fn read<T: Typed>(&mut self, key: &[u8]) -> Result<Option<&T>, WrongType> {
        let Some(spot) = self.live_read(key) else { return Ok(None) };
        self.typed(spot)
    }

    /// The string at a key, as a read.
    ///
    /// # Errors
    /// `WrongType` if the key holds another type.
    #[inline]
    pub fn read_string(&mut self, key: &[u8]) -> Result<Option<Text<'_>>, WrongType> {
        let Some(spot) = self.live_read(key) else { return Ok(None) };
        self.text_at(spot).map(Some)
    }

    /// The type of a key, as a read.
    pub fn read_kind(&mut self, key: &[u8]) -> Option<Kind> {
        let spot = self.live_read(key)?;
        self.at(spot).map(RecordRef::kind)
    }

    /// The records of several keys at once, each as a read: commands that combine keys look from one
    /// into the others without copying. A key that is named twice is lent twice.
    pub fn read_all(&mut self, keys: &[&[u8]]) -> Vec<Option<RecordRef<'_>>> {
        for key in keys {
            if self.exclusive {
                self.hold(key);
            }
            self.live_read(key);
        }
        // The first look deleted what was due, and all slots are held: the second changes nothing.
        let find = |key: &&[u8]| {
            let at = self.locate(key);
            let held =
                |held: &&(DbIndex, u16, SlotGuard<'_>)| held.1 == at.slot && held.0 == self.db;
            let (_, _, data) = self.guards.iter().find(held)?;
            Some(data.table.at(data.table.find(at.hash, key)?))
        };
        keys.iter().map(find).collect()
    }

    /// The record of a live key, without counting or touching.
    pub fn record(&mut self, key: &[u8]) -> Option<RecordRef<'_>> {
        let spot = self.live(key)?;
        self.at(spot)
    }

    /// The collection at a key, without counting or touching (write commands look first).
    ///
    /// # Errors
    /// `WrongType` if the key holds another type.
    pub fn peek<T: Typed>(&mut self, key: &[u8]) -> Result<Option<&T>, WrongType> {
        let Some(spot) = self.live(key) else { return Ok(None) };
        self.typed(spot)
    }

    /// Whether there is a live key, without counting or touching.
    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.live(key).is_some()
    }

    /// The deadline of a key: outer `None` = no such key, inner = it never expires.
    pub fn deadline(&mut self, key: &[u8]) -> Option<Option<Millis>> {
        let spot = self.live(key)?;
        self.at(spot).map(RecordRef::deadline)
    }

    // ---- reports ----

    /// A key was modified, and this notification is due: every mutation ends with one of these per key.
    #[inline]
    pub fn signal(&mut self, key: &[u8], class: EventClass, event: &'static str) {
        self.modified(key);
        self.notify(key, class, event);
    }

    /// As `signal`, for the other key of one change (an element that moved): it counts once.
    pub fn signal_also(&mut self, key: &[u8], class: EventClass, event: &'static str) {
        self.tell_modified(key);
        self.notify(key, class, event);
    }

    /// A key was modified.
    #[inline]
    pub fn modified(&mut self, key: &[u8]) {
        self.tally.dirty += 1;
        self.tell_modified(key);
    }

    #[inline]
    fn tell_modified(&mut self, key: &[u8]) {
        let interest = self.interest(key);
        if interest & (Interest::WATCHED.0 | Interest::TRACKED.0) != 0 || self.keyspace.observed() {
            self.report(key, What::Modified);
        }
        if interest & Interest::BLOCKED.0 != 0 {
            self.report(key, What::Ready);
        }
    }

    /// A notification without a modification.
    #[inline]
    pub fn notify(&mut self, key: &[u8], class: EventClass, event: &'static str) {
        if self.keyspace.observed() {
            self.report(key, What::Event(class, event));
        }
    }

    // ---- inside ----

    #[inline]
    fn locate(&self, key: &[u8]) -> Located {
        // Commands look at a key several times, and at their keys in order.
        let last = self.hinted.get();
        for number in last..last + 2 {
            if let Some(hint) = self.hints.get(number).filter(|hint| hint.is_of(key)) {
                self.hinted.set(number);
                return hint.at;
            }
        }
        self.keyspace.locate(key)
    }

    #[inline]
    fn lock(&mut self, db: DbIndex, slot: u16) {
        if let Some(guard) = self.keyspace.lock_for_command(db, slot) {
            self.guards.push((db, slot, guard));
        }
    }

    /// Locks the slot of a key on demand, and lets no other go for it.
    fn hold(&mut self, key: &[u8]) {
        let (db, slot) = (self.db, self.locate(key).slot);
        if !self.guards.iter().any(|held| held.1 == slot && held.0 == db) {
            self.lock(db, slot);
        }
    }

    #[inline]
    fn guard(&mut self, slot: u16) -> Option<usize> {
        let db = self.db;
        let found = if self.exclusive || self.guards.len() < 16 {
            self.guards.iter().position(|held| held.1 == slot && held.0 == db)
        } else {
            self.guards.binary_search_by_key(&(db, slot), |held| (held.0, held.1)).ok()
        };
        if found.is_some() {
            return found;
        }
        if !self.exclusive {
            debug_assert!(false, "a key outside the command's declared keys");
            return None;
        }
        if self.guards.len() >= 64 {
            // Nobody else locks anything now, so slots can be let go at will.
            self.guards.clear();
        }
        self.lock(db, slot);
        self.guards.len().checked_sub(1)
    }

    #[inline]
    fn live(&mut self, key: &[u8]) -> Option<Spot> {
        let at = self.locate(key);
        let guard = self.guard(at.slot)?;
        let (_, _, data) = self.guards.get(guard)?;
        let place = data.table.find(at.hash, key)?;
        let spot = Spot { guard, place, hash: at.hash };
        if data.volatile > 0 && is_due(data.table.at(spot.place), self.gone_by()) {
            if self.dues == Dues::Delete {
                self.expire(spot, key);
            }
            return None;
        }
        Some(spot)
    }

    #[inline]
    fn live_read(&mut self, key: &[u8]) -> Option<Spot> {
        match self.live(key) {
            Some(spot) => {
                self.tally.hits += 1;
                self.touch(spot);
                Some(spot)
            }
            None => {
                self.tally.misses += 1;
                self.notify(key, EventClass::KeyMiss, "keymiss");
                None
            }
        }
    }

    fn expire(&mut self, spot: Spot, key: &[u8]) {
        if let Some(record) = self.take_at(spot, key) {
            self.discard(record);
        }
        self.tally.expired += 1;
        if self.keyspace.journaled() {
            self.gone.push((self.db, key.into()));
        }
        self.signal(key, EventClass::Expired, "expired");
    }

    #[inline]
    fn at(&self, spot: Spot) -> Option<RecordRef<'_>> {
        self.guards.get(spot.guard).map(|(_, _, data)| data.table.at(spot.place))
    }

    #[inline]
    fn at_mut(&mut self, spot: Spot) -> Option<crate::record::RecordMut<'_>> {
        self.guards.get_mut(spot.guard).map(|(_, _, data)| data.table.at_mut(spot.place))
    }

    #[inline]
    fn typed<T: Typed>(&self, spot: Spot) -> Result<Option<&T>, WrongType> {
        match self.at(spot).map(RecordRef::payload) {
            Some(Payload::Boxed(value)) => T::of(value).map(Some).ok_or(WrongType),
            _ => Err(WrongType),
        }
    }

    #[inline]
    fn typed_mut<T: Typed>(&mut self, spot: Spot) -> Result<&mut T, WrongType> {
        self.at_mut(spot)
            .and_then(|record| record.into_value())
            .and_then(T::of_mut)
            .ok_or(WrongType)
    }

    #[inline]
    fn text_at(&self, spot: Spot) -> Result<Text<'_>, WrongType> {
        self.at(spot).and_then(RecordRef::text_value).ok_or(WrongType)
    }

    fn replace(&mut self, spot: Spot, mut record: Record) {
        self.preserve(spot);
        let old = self.at(spot).map_or(0, RecordRef::eviction_bits);
        let moment = self.keyspace.moment(self.now);
        let meaning = self.settings.eviction_bits;
        let bits = meaning.replaced(old, moment, self.settings, &mut self.rng);
        record.as_mut().set_eviction_bits(bits);
        record.as_mut().set_lanes(self.keyspace.lanes().saved());
        let (db, now, keyspace) = (self.db, self.now, self.keyspace);
        let (when, wake) = (record.deadline(), wake(record.as_ref()));
        let Some((_, slot, data)) = self.guards.get_mut(spot.guard) else { return };
        if let Some(wake) = wake {
            keyspace.note_due((db, *slot), data, spot.hash, wake, now);
        }
        let old = data.table.replace(spot.place, record, expiry::mark(wake, now));
        let change = i32::from(when.is_some()) - i32::from(old.deadline().is_some());
        if change != 0 {
            data.volatile = data.volatile.saturating_add_signed(change);
            keyspace.count(db, *slot, 0, i64::from(change), false);
        }
        self.discard(old);
    }

    fn add(&mut self, mut record: Record) -> Option<Spot> {
        let at = self.locate(record.key());
        let bits = self.fresh_bits(at, record.deadline().is_some());
        record.as_mut().set_eviction_bits(bits);
        record.as_mut().set_lanes(self.keyspace.lanes().saved());
        let guard = self.guard(at.slot)?;
        if self.keyspace.observed() {
            let key = record.key().to_vec();
            self.notify(&key, EventClass::New, "new");
        }
        let (db, now, keyspace) = (self.db, self.now, self.keyspace);
        let (when, wake) = (record.deadline(), wake(record.as_ref()));
        let (_, slot, data) = self.guards.get_mut(guard)?;
        if let Some(wake) = wake {
            keyspace.note_due((db, *slot), data, at.hash, wake, now);
        }
        let place = data.table.insert(at.hash, record, expiry::mark(wake, now), keyspace.hasher());
        let volatile = u32::from(when.is_some());
        data.volatile = data.volatile.saturating_add(volatile);
        keyspace.count(db, *slot, 1, i64::from(volatile), false);
        Some(Spot { guard, place, hash: at.hash })
    }

    fn take_at(&mut self, spot: Spot, _key: &[u8]) -> Option<Record> {
        self.preserve(spot);
        let (db, keyspace) = (self.db, self.keyspace);
        let (_, slot, data) = self.guards.get_mut(spot.guard)?;
        let record = data.table.remove(spot.place, keyspace.hasher());
        let volatile = u32::from(record.deadline().is_some());
        data.volatile = data.volatile.saturating_sub(volatile);
        keyspace.count(db, *slot, -1, -i64::from(volatile), data.table.is_empty());
        if data.table.is_empty() {
            data.calendar = None;
        }
        Some(record)
    }

    fn discard(&mut self, record: Record) {
        // A snapshot may be in the middle of a collection, even of one that is empty by now.
        let record = if self.keyspace.lanes().are_idle() {
            record
        } else {
            match self.keyspace.snapshots().bury(record) {
                Ok(()) => return,
                Err(record) => record,
            }
        };
        if let Payload::Boxed(value) = record.as_ref().payload()
            && value.free_cost() > FREE_COST_MAX
        {
            self.trash.push(record);
        }
    }

    /// Every change of a record, and every removal, passes here first: a snapshot that has not saved it yet
    /// keeps it as it is.
    #[inline]
    fn preserve(&mut self, spot: Spot) {
        if !self.keyspace.lanes().are_idle() {
            self.preserve_now(spot);
        }
    }

    #[cold]
    fn preserve_now(&mut self, spot: Spot) {
        let keyspace = self.keyspace;
        let Some((db, slot, data)) = self.guards.get_mut(spot.guard) else { return };
        let SlotData { table, aside, .. } = &mut **data;
        let record = table.at_mut(spot.place);
        let at = Located { slot: *slot, hash: spot.hash };
        keyspace.snapshots().preserve(aside, keyspace.physical(*db), at, record);
    }

    #[inline]
    fn touch(&mut self, spot: Spot) {
        if self.no_touch {
            return;
        }
        let (moment, settings) = (self.keyspace.moment(self.now), self.settings);
        let rng = &mut self.rng;
        let Some((_, _, data)) = self.guards.get_mut(spot.guard) else { return };
        let mut record = data.table.at_mut(spot.place);
        let old = record.as_ref().eviction_bits();
        let bits = settings.eviction_bits.touched(old, moment, settings, rng);
        if bits != old {
            record.set_eviction_bits(bits);
        }
    }

    #[inline]
    fn fresh_bits(&self, at: Located, volatile: bool) -> u32 {
        let meaning = self.settings.eviction_bits;
        let queues = self.settings.eviction.is_some_and(|e| volatile || !e.volatile_only);
        let remembered = meaning == EvictionBits::Small && queues && self.queue_newborn(at);
        meaning.fresh(self.keyspace.moment(self.now), remembered)
    }

    /// Tells S3-FIFO of a new key; true if it remembers it.
    #[cold]
    fn queue_newborn(&self, at: Located) -> bool {
        let keyspace = self.keyspace;
        let keys = || {
            let dbs = (0..keyspace.databases()).filter_map(|db| u8::try_from(db).ok());
            dbs.map(|db| keyspace.len(DbIndex(db))).sum()
        };
        keyspace.s3fifo().born(keyspace.physical(self.db), at, self.now, keys)
    }

    #[inline]
    fn interest(&mut self, key: &[u8]) -> u8 {
        let at = self.locate(key);
        let db = self.db;
        self.guards
            .iter()
            .find(|held| held.1 == at.slot && held.0 == db)
            .map_or(0, |(_, _, data)| data.interest)
    }

    #[cold]
    fn report(&mut self, key: &[u8], what: What) {
        self.changes.push(Change { db: self.db, key: key.into(), what });
    }
}

/// When a sweep must look at a record: its deadline, or the earliest of its members'.
#[inline]
fn wake(record: RecordRef<'_>) -> Option<Millis> {
    let own = record.deadline();
    match record.payload() {
        Payload::Boxed(ValueRef::Hash(hash)) => own.into_iter().chain(hash.earliest_expiry()).min(),
        Payload::Boxed(_) | Payload::Text(_) | Payload::Int(_) => own,
    }
}

fn is_due(record: RecordRef<'_>, now: Millis) -> bool {
    record.deadline().is_some_and(|when| when <= now)
}

#[cfg(test)]
mod tests {
    use larder_base::hash::KeyHasher;

    use super::*;

    /// Beyond 64 locked slots, an exclusive view lets some go: not while it lends many records.
    #[test]
    fn many_records_are_lent_at_once() {
        let keyspace = Keyspace::new(KeyHasher::new(1, 2), 16);
        let settings = Settings::default();
        let names: Vec<String> = (0..300).map(|number| format!("key:{number}")).collect();
        let keys: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let mut view = keyspace.view_all(&settings, DbIndex(0), Millis(1000));
        for key in keys.iter().skip(1) {
            view.set_string(key, key, Deadline::None);
        }
        view.set_string(b"key:5", b"gone", Deadline::At(Millis(2000)));
        drop(view);
        let mut view = keyspace.view_all(&settings, DbIndex(0), Millis(3000));
        let records = view.read_all(&keys);
        for (at, (key, record)) in keys.iter().zip(records).enumerate() {
            assert_eq!(record.is_some(), at != 0 && at != 5, "{at}");
            assert!(record.is_none_or(|record| record.text_value().unwrap().is(key)));
        }
        assert_eq!((view.tally.hits, view.tally.misses, view.tally.expired), (298, 2, 1));
    }
}
