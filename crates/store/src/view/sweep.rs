//! Sweeps: deleting what is due without anybody looking. A step takes a few locked slots together, so that
//! the misses of one overlap with those of the others: first the calendars, then the buckets that they
//! name, then the records whose marks are due. What goes is reported as if a command had found it.

use smallvec::SmallVec;

use super::{Dues, EventClass, GoneMembers, Spot, View, is_due, wake};
use crate::expiry::{self, Calendar, Due, Tick};
use crate::keyspace::SlotData;
use crate::table::{Place, Table};
use crate::value::Hash;

/// Slots that a step takes at most. Of 16 the first were still on their way when they were looked at: a twelfth more time.
pub const SWEPT_TOGETHER: usize = 64;
/// The sweep's bit among those who walk through a table's buckets; snapshots have the lowest ones.
const SWEEP: usize = 7;
/// A step reads about this many buckets (256 KiB) ...
const BUCKETS_MAX: usize = 4096;
/// ... and looks at about as many records of a slot.
const FOUND_MAX: usize = 64;
/// A step begins with no other slot after so many of all its slots.
const FOUND_TOGETHER: usize = 256;

/// Where a sweep goes on in a slot whose share of due records is too large for one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The slot.
    pub slot: u16,
    group: usize,
    bucket: usize,
}

/// What there is to look at in one slot.
struct Work {
    groups: u32,
    /// The bucket to go on with in the first group; 0 = its first.
    bucket: usize,
    deleted: u32,
    /// Its buckets are held.
    begun: bool,
}

impl View<'_> {
    /// One step of a sweep through the locked slots: deletes the records that are due and the members that
    /// are, and marks anew those that were only looked at early. Touches no record whose mark is not due.
    /// `from`: where the step before stopped in the first slot. Returns where this one stopped, having looked
    /// at no slot beyond; `None` when the slots are done.
    pub fn sweep(&mut self, due: &Due, from: Option<Stop>) -> Option<Stop> {
        if self.dues != Dues::Delete {
            return None;
        }
        for (_, _, data) in &self.guards {
            if let Some(calendar) = data.calendar.as_deref() {
                calendar.prefetch();
            }
        }
        let mut works: SmallVec<[Work; SWEPT_TOGETHER]> = SmallVec::new();
        for guard in 0..self.guards.len() {
            works.push(self.plan(guard, due, from.filter(|_| guard == 0)));
        }
        let mut found: SmallVec<[(usize, Place); 64]> = SmallVec::new();
        let (mut seen, mut stop) = (0, None);
        for ((guard, (_, slot, data)), work) in self.guards.iter_mut().enumerate().zip(&mut works) {
            if found.len() >= FOUND_TOGETHER {
                stop = Some(Stop { slot: *slot, group: 0, bucket: 0 });
                break;
            }
            work.begun = true;
            data.table.hold(SWEEP, true);
            stop = look(data, work, due, &mut seen, |place| found.push((guard, place)))
                .map(|(group, bucket)| Stop { slot: *slot, group, bucket });
            if stop.is_some() {
                break;
            }
        }
        for (guard, place) in &found {
            if let Some((_, _, data)) = self.guards.get(*guard) {
                data.table.prefetch_place(*place);
            }
        }
        // From the last to the first: the hole that one leaves is filled with one that stays.
        while let Some((guard, place)) = found.pop() {
            let deleted = self.judge(guard, place, due.cut());
            if let Some(work) = works.get_mut(guard).filter(|_| deleted) {
                work.deleted += 1;
            }
        }
        for (guard, work) in works.iter().enumerate().filter(|(_, work)| work.begun) {
            self.finish(guard, work.deleted, due.cut(), stop);
        }
        stop
    }

    /// Finds out which groups of a slot are due, and fetches their buckets.
    fn plan(&self, guard: usize, due: &Due, from: Option<Stop>) -> Work {
        let mut work = Work { groups: 0, bucket: 0, deleted: 0, begun: false };
        let (db, keyspace) = (self.db, self.keyspace);
        let Some((_, slot, data)) = self.guards.get(guard) else { return work };
        let Some(calendar) = data.calendar.as_deref() else { return work };
        work.groups = if keyspace.due(db, *slot) < Calendar::oldest(due.cut()) {
            calendar.all()
        } else {
            calendar.due(due.cut())
        };
        // Whoever emptied the database in between took the table away.
        if let Some(stop) = from.filter(|stop| stop.slot == *slot && data.table.is_held(SWEEP)) {
            work.groups = (work.groups | 1 << stop.group) & (u32::MAX << stop.group);
            work.bucket = stop.bucket;
        }
        let mut left = work.groups;
        while left != 0 {
            data.table.prefetch_group(left.trailing_zeros() as usize);
            left &= left - 1;
        }
        work
    }

    /// Looks at a record whose mark is due. True if it was deleted as a whole.
    fn judge(&mut self, guard: usize, place: Place, cut: Tick) -> bool {
        let now = self.now;
        let Some((_, _, data)) = self.guards.get_mut(guard) else { return false };
        let record = data.table.at(place);
        match wake(record) {
            Some(when) if when > now => {
                data.table.set_mark(place, expiry::mark(Some(when), now));
                note(data, place, Tick::after(when), cut);
                false
            }
            None => {
                data.table.set_mark(place, 0);
                false
            }
            Some(_) if is_due(record, now) => {
                self.expire_at(guard, place);
                true
            }
            Some(_) => {
                let key = record.key().to_vec();
                self.expire_members(&key);
                false
            }
        }
    }

    /// As `expire`, of a record that is not looked up; the keyspace's counts follow for all of the slot.
    fn expire_at(&mut self, guard: usize, place: Place) {
        if !self.keyspace.lanes().are_idle()
            && let Some((_, _, data)) = self.guards.get(guard)
        {
            let hash = self.keyspace.hasher().hash(data.table.at(place).key());
            self.preserve(Spot { guard, place, hash });
        }
        let keyspace = self.keyspace;
        let Some((_, _, data)) = self.guards.get_mut(guard) else { return };
        let record = data.table.remove(place, keyspace.hasher());
        let heard = data.interest != 0 || keyspace.observed();
        self.tally.expired += 1;
        if keyspace.journaled() {
            self.gone.push((self.db, record.key().into()));
        }
        if heard {
            self.signal(record.key(), EventClass::Expired, "expired");
        } else {
            self.tally.dirty += 1;
        }
        self.discard(record);
    }

    /// Goes on with a hash that had more due fields than a visit takes. Its slot is locked; it may be gone by now.
    pub fn sweep_members(&mut self, key: &[u8]) {
        if self.dues == Dues::Delete {
            self.expire_members(key);
        }
    }

    /// Removes a bounded number of a hash's fields that are due, or all of it if they all are. If some are left,
    /// it is unfinished; should nobody go on with it, the calendar says when to look again.
    fn expire_members(&mut self, key: &[u8]) {
        /// Each field lies in pages of its own, which cost microseconds if nobody touched them for long: the caller
        /// looks at the clock between visits.
        const MAX: usize = 32;
        /// As many in all of one step.
        const STEP_MAX: u64 = 256;
        /// A hash of more fields goes as a whole when all are due.
        const WHOLE_MIN: usize = 256;
        if self.tally.expired_members >= STEP_MAX {
            return self.note_members(key);
        }
        let (now, journaled) = (self.now, self.keyspace.journaled());
        let Some(spot) = self.live(key) else { return };
        let Ok(Some(hash)) = self.typed::<Hash>(spot) else { return };
        let len = hash.len();
        if len > WHOLE_MIN && hash.live_len(now) == 0 {
            if journaled {
                self.gone.push((self.db, key.into()));
            }
            return self.remove_expired_hash(key, len);
        }
        self.preserve(spot);
        let mut members: Vec<Box<[u8]>> = Vec::new();
        let Ok(hash) = self.typed_mut::<Hash>(spot) else { return };
        let removed = hash.remove_expired(now, MAX, |field| {
            if journaled {
                members.push(field.into());
            }
        });
        let left = hash.earliest_expiry().is_some_and(|when| when <= now);
        if removed > 0 {
            self.tally.expired_members += removed as u64;
            if journaled {
                self.gone_members.push(GoneMembers { db: self.db, key: key.into(), members });
            }
            self.signal(key, EventClass::Hash, "hexpired");
            if self.remove_if_empty(key) {
                return;
            }
        }
        if left && removed > 0 {
            self.unfinished.push(key.into());
        }
        self.note_members(key);
    }

    /// Notes when a slot must be looked at next, and what went.
    fn finish(&mut self, guard: usize, deleted: u32, cut: Tick, stop: Option<Stop>) {
        let (db, keyspace) = (self.db, self.keyspace);
        let Some((_, slot, data)) = self.guards.get_mut(guard) else { return };
        if deleted > 0 {
            data.volatile = data.volatile.saturating_sub(deleted);
            let (gone, empty) = (-i64::from(deleted), data.table.is_empty());
            keyspace.count(db, *slot, gone, gone, empty);
        }
        if stop.is_some_and(|stop| stop.slot == *slot) {
            // The next step goes on in the same buckets.
            return;
        }
        data.table.hold(SWEEP, false);
        data.table.trim(keyspace.hasher());
        if data.table.is_empty() {
            data.calendar = None;
        }
        let next = data.calendar.as_deref().map_or(Tick::NEVER, |calendar| calendar.next(cut));
        keyspace.set_due(db, *slot, next);
    }
}

/// Looks through the due groups of a slot, and notes when they are next. `seen`: the buckets that this step has read.
/// Returns the group and the bucket to go on with, if there is too much for one step.
fn look(
    data: &mut SlotData,
    work: &Work,
    due: &Due,
    seen: &mut usize,
    mut found: impl FnMut(Place),
) -> Option<(usize, usize)> {
    /// Buckets between two looks at the limits.
    const BUCKETS: usize = 16;
    let calendar = data.calendar.as_deref_mut()?;
    let (mut left, mut bucket) = (work.groups, work.bucket);
    let mut count = 0;
    while left != 0 {
        let group = left.trailing_zeros() as usize;
        if *seen >= BUCKETS_MAX || count >= FOUND_MAX {
            return Some((group, bucket));
        }
        let groups = data.table.groups_with(group);
        if bucket == 0 {
            calendar.forget(groups);
        }
        let mut nearest = u16::MAX;
        let rest = data.table.visit_group(group, bucket, BUCKETS, |place, mark| {
            match due.distance(mark) {
                0 => {
                    count += 1;
                    found(place);
                }
                distance => nearest = nearest.min(distance),
            }
        });
        calendar.note(groups, due.at(nearest), due.cut());
        *seen += BUCKETS;
        bucket = rest.unwrap_or(0);
        if rest.is_none() {
            left &= !groups;
        }
    }
    None
}

/// Notes in the calendar when the record at a place is to be looked at.
fn note(data: &mut SlotData, place: Place, tick: Tick, cut: Tick) {
    let groups = data.table.groups_with(Table::group(place));
    if let Some(calendar) = data.calendar.as_deref_mut() {
        calendar.note(groups, tick, cut);
    }
}

#[cfg(test)]
mod tests {
    use larder_base::hash::KeyHasher;
    use larder_base::time::Millis;

    use super::*;
    use crate::keyspace::Interest;
    use crate::keyspace::{DbIndex, Keyspace};
    use crate::settings::Settings;
    use crate::view::{Change, Deadline, What};

    const DB: DbIndex = DbIndex(0);

    struct Bench {
        keyspace: Keyspace,
        settings: Settings,
        last: Millis,
        steps: usize,
        expired: u64,
        members: u64,
        changes: Vec<Change>,
        gone: usize,
    }

    impl Bench {
        fn new() -> Bench {
            let keyspace = Keyspace::new(KeyHasher::new(1, 2), 2);
            let (settings, last) = (Settings::default(), Millis(1_000_000));
            let (changes, gone) = (Vec::new(), 0);
            Bench { keyspace, settings, last, steps: 0, expired: 0, members: 0, changes, gone }
        }

        fn edit(&self, now: i64, edit: impl FnOnce(&mut View<'_>)) {
            edit(&mut self.keyspace.view_all(&self.settings, DB, Millis(now)));
        }

        /// One pass, with something done between its steps.
        fn pass(&mut self, now: i64, mut between: impl FnMut(&Bench)) {
            let now = Millis(now);
            let cut = Tick::begun(now);
            let due = Due::between(Tick::begun(self.last), cut);
            self.last = now;
            let (mut slot, mut stop) = (0, None);
            loop {
                let slots = self.keyspace.due_from(DB, slot, cut).take(3).collect::<Vec<_>>();
                let Some(last) = slots.last() else { break };
                let mut view = self.keyspace.view_slots(&self.settings, DB, &slots, now);
                stop = view.sweep(&due, stop);
                self.expired += view.tally.expired;
                self.members += view.tally.expired_members;
                self.changes.append(&mut view.changes);
                self.gone += view.gone.len();
                drop(view);
                self.steps += slots.len();
                slot = stop.map_or(last + 1, |stop| stop.slot);
                between(self);
            }
        }
    }

    #[test]
    fn a_step_ends_before_it_has_found_too_much() {
        let bench = Bench::new();
        bench.edit(1_000_000, |view| {
            for number in 0..160_000 {
                let key = format!("key:{number}");
                view.set_string(key.as_bytes(), b"x", Deadline::At(Millis(1_000_500)));
            }
        });
        let now = Millis(1_001_000);
        let cut = Tick::begun(now);
        let due = Due::between(Tick::begun(Millis(1_000_000)), cut);
        let (mut slot, mut stop, mut most, mut steps) = (0, None, 0, 0);
        loop {
            let slots: Vec<u16> =
                bench.keyspace.due_from(DB, slot, cut).take(SWEPT_TOGETHER).collect();
            let Some(last) = slots.last() else { break };
            let mut view = bench.keyspace.view_slots(&bench.settings, DB, &slots, now);
            stop = view.sweep(&due, stop);
            most = most.max(view.tally.expired);
            slot = stop.map_or(last + 1, |stop: Stop| stop.slot);
            steps += 1;
        }
        assert_eq!(bench.keyspace.len(DB), 0);
        assert!((256..=320).contains(&most), "{most} in a step of {steps}");
    }

    #[test]
    fn only_slots_with_something_due_are_visited() {
        let mut bench = Bench::new();
        bench.edit(1_000_000, |view| {
            for number in 0..10_000i64 {
                let key = format!("key:{number}");
                view.set_string(key.as_bytes(), b"x", Deadline::At(Millis(1_060_000 + number % 7)));
            }
            view.set_string(b"soon", b"x", Deadline::At(Millis(1_000_500)));
        });
        // Marks with coarse units are looked at once when their unit begins, and then not before they are due.
        bench.pass(1_000_600, |_| ());
        assert_eq!((bench.expired, bench.keyspace.len(DB)), (1, 10_000));
        for now in (1_000_700..1_060_000).step_by(100) {
            bench.pass(now, |_| ());
        }
        assert!(bench.steps < 30_000, "{}", bench.steps);
        bench.pass(1_060_100, |_| ());
        assert_eq!((bench.expired, bench.keyspace.len(DB)), (10_001, 0));
        let steps = bench.steps;
        bench.pass(1_060_200, |_| ());
        assert_eq!(bench.steps, steps, "nothing is left to visit");
    }

    #[test]
    fn a_large_slot_is_swept_in_steps_and_misses_nothing() {
        let mut bench = Bench::new();
        let put = |view: &mut View<'_>, number: i64, when: i64| {
            let key = format!("{{tag}}:{number}");
            view.set_string(key.as_bytes(), b"x", Deadline::At(Millis(when)));
        };
        bench.edit(1_000_000, |view| {
            for number in 0..60_000 {
                put(view, number, 1_000_050 + number % 2 * 100_000);
            }
        });
        let mut more = 60_000;
        bench.pass(1_000_100, |bench| {
            bench.edit(1_000_100, |view| {
                for _ in 0..20 {
                    put(view, more, 1_090_000);
                    more += 1;
                }
            });
        });
        assert!(bench.steps > 300, "{}", bench.steps);
        assert_eq!(bench.expired, 30_000);
        // Every other one was put in between, and all of them go in time.
        for now in (1_000_200..1_102_000).step_by(100) {
            bench.pass(now, |_| ());
            let late = i64::from(now > 1_091_100) * (more - 60_000);
            assert!(bench.expired >= 30_000 + u64::try_from(late).unwrap());
        }
        assert_eq!(bench.keyspace.len(DB), 0);
        assert_eq!(bench.keyspace.volatile_len(DB), 0);
    }

    #[test]
    fn fields_go_without_anybody_looking() {
        let mut bench = Bench::new();
        let limits = bench.settings.thresholds;
        bench.keyspace.set_journaled(true);
        bench.edit(1_000_000, |view| {
            for key in [b"all".as_slice(), b"some"] {
                let hash = view.write_or_create::<Hash>(key).unwrap();
                for number in 0..30 {
                    let (field, now) = (format!("f{number}"), Millis(1_000_000));
                    hash.set(field.as_bytes(), b"v", now, &limits);
                    if key == b"all" || number % 2 == 0 {
                        hash.set_deadline(field.as_bytes(), Some(Millis(1_000_450)), now, &limits);
                    }
                }
                view.note_members(key);
            }
        });
        bench.pass(1_000_400, |_| ());
        assert_eq!(bench.members, 0);
        bench.pass(1_000_500, |_| ());
        assert_eq!(bench.members, 0, "their tick is not over");
        bench.pass(1_000_600, |_| ());
        assert_eq!(bench.members, 45);
        assert_eq!((bench.members, bench.expired), (45, 0));
        bench.edit(1_000_800, |view| {
            assert!(!view.contains(b"all"));
            assert_eq!(view.peek::<Hash>(b"some").unwrap().map(Hash::len), Some(15));
        });
        let steps = bench.steps;
        bench.pass(1_000_900, |_| ());
        assert_eq!(bench.steps, steps, "nothing is left to visit");
    }

    #[test]
    fn a_hash_with_many_due_fields_is_gone_on_with() {
        let mut bench = Bench::new();
        let limits = bench.settings.thresholds;
        bench.keyspace.set_journaled(true);
        bench.keyspace.observe_all(true);
        bench.edit(1_000_000, |view| {
            for (key, every) in [(b"all".as_slice(), 1), (b"half", 2)] {
                let hash = view.write_or_create::<Hash>(key).unwrap();
                for number in 0..5000 {
                    let (field, now) = (format!("f{number}"), Millis(1_000_000));
                    hash.set(field.as_bytes(), b"v", now, &limits);
                    if number % every == 0 {
                        hash.set_deadline(field.as_bytes(), Some(Millis(1_000_050)), now, &limits);
                    }
                }
                view.note_members(key);
            }
        });
        bench.pass(1_000_200, |_| ());
        assert_eq!(
            (bench.members, bench.gone),
            (5000 + 32, 1),
            "one as a whole, some of the other"
        );
        assert_eq!(bench.keyspace.len(DB), 1);
        let deleted = bench.changes.iter().filter(|c| &*c.key == b"all").map(|change| change.what);
        let events: Vec<What> = deleted.filter(|what| *what != What::Modified).collect();
        let event = |class, name| What::Event(class, name);
        assert_eq!(
            events[events.len() - 2..],
            [event(EventClass::Hash, "hexpired"), event(EventClass::Generic, "del")]
        );
        let mut visits = 0;
        loop {
            let slot = bench.keyspace.locate(b"half").slot;
            let (keyspace, settings) = (&bench.keyspace, &bench.settings);
            let mut view = keyspace.view_slots(settings, DB, &[slot], Millis(1_000_201));
            view.sweep_members(b"half");
            bench.members += view.tally.expired_members;
            visits += 1;
            if view.unfinished.is_empty() {
                break;
            }
            assert_eq!(view.tally.expired_members, 32);
        }
        assert_eq!((bench.members, visits), (7500, 78));
        // Without anybody who goes on with it, the calendar has it looked at.
        bench.pass(1_000_300, |_| ());
        bench.edit(1_000_300, |view| {
            assert_eq!(view.peek::<Hash>(b"half").unwrap().map(Hash::len), Some(2500));
        });
    }

    #[test]
    fn what_goes_is_reported_to_those_who_want_to_hear() {
        let put = |bench: &Bench, when: i64| {
            bench.edit(when - 100, |view| {
                for key in [b"{tag}1".as_slice(), b"{tag}2", b"other"] {
                    view.set_string(key, b"x", Deadline::At(Millis(when)));
                }
            });
        };
        let mut bench = Bench::new();
        put(&bench, 1_000_300);
        bench.pass(1_000_400, |_| ());
        assert_eq!((bench.expired, bench.changes.len(), bench.gone), (3, 0, 0));
        // Somebody watches one key: its slot's are told of.
        bench.edit(1_000_500, |view| view.set_interest(b"{tag}1", Interest::WATCHED, true));
        bench.keyspace.set_journaled(true);
        put(&bench, 1_000_700);
        bench.pass(1_000_800, |_| ());
        let mut told: Vec<_> =
            bench.changes.drain(..).map(|change| (change.key, change.what)).collect();
        told.sort_by(|a, b| a.0.cmp(&b.0));
        let expected =
            [b"{tag}1", b"{tag}2"].map(|key| (Box::from(key.as_slice()), What::Modified));
        assert_eq!((told, bench.gone), (expected.to_vec(), 3));
        bench.edit(1_000_900, |view| view.set_interest(b"{tag}1", Interest::WATCHED, false));
        bench.keyspace.observe_all(true);
        put(&bench, 1_001_100);
        bench.pass(1_001_200, |_| ());
        let events = |what| matches!(what, What::Event(EventClass::Expired, "expired"));
        assert_eq!(bench.changes.iter().filter(|change| events(change.what)).count(), 3);
        assert_eq!((bench.expired, bench.keyspace.volatile_len(DB)), (9, 0));
    }

    #[test]
    fn a_flush_between_steps_starts_the_slot_anew() {
        let mut bench = Bench::new();
        bench.edit(1_000_000, |view| {
            for number in 0..40_000 {
                let key = format!("{{tag}}:{number}");
                view.set_string(key.as_bytes(), b"x", Deadline::At(Millis(1_000_050)));
            }
        });
        let mut before = 0;
        bench.pass(1_000_100, |bench| {
            if before == 0 {
                before = bench.expired;
                drop(bench.keyspace.flush(DB));
                bench.edit(1_000_100, |view| {
                    for number in 0..5 {
                        let key = format!("{{tag}}:{number}");
                        view.set_string(key.as_bytes(), b"x", Deadline::At(Millis(1_000_150)));
                    }
                });
            }
        });
        bench.pass(1_000_200, |_| ());
        assert!((1..1000).contains(&before), "the flush came between two steps");
        assert_eq!((bench.keyspace.len(DB), bench.expired), (0, before + 5));
    }
}
