//! Walks over many keys: SCAN's steps, whole databases, sweeps of what is due, random picks. They
//! report and count through the same functions as a command's own changes.

use larder_base::rng::Rng;
use larder_base::slot::Slot;
use larder_base::time::Millis;

use super::{EventClass, GoneMembers, View, is_due};
use crate::expiry;
use crate::record::RecordRef;
use crate::value::Hash;

/// The sweep's bit among those who walk through a table's buckets; snapshots have the lowest ones.
const SWEEP: usize = 7;

impl View<'_> {
    /// Visits every live key of the selected database.
    pub fn for_each_key(&mut self, mut visit: impl FnMut(&[u8], RecordRef<'_>)) {
        let (db, now) = (self.db, self.gone_by());
        for slot in self.keyspace.occupied_slots(db) {
            let Some(index) = self.guard(slot) else { continue };
            let Some((_, _, data)) = self.guards.get(index) else { continue };
            for record in data.table.iter().filter(|record| !is_due(*record, now)) {
                visit(record.key(), record);
            }
        }
    }

    /// One step of SCAN over the selected database: looks at whole buckets until about `count` records
    /// were seen, and visits those that are wanted. Returns the next cursor; 0 = done. Wanted records that
    /// are due are deleted instead.
    pub fn scan(
        &mut self,
        cursor: u64,
        count: usize,
        wants: impl Fn(RecordRef<'_>) -> bool,
        mut visit: impl FnMut(&[u8]),
    ) -> u64 {
        const SLOT_BITS: u32 = 14;
        const LAST: u16 = 16_383;
        debug_assert_eq!(usize::from(LAST) + 1, Slot::COUNT);
        let (db, now) = (self.db, self.gone_by());
        let mut slot = u16::try_from(cursor & u64::from(LAST)).unwrap_or(0);
        let mut inner = cursor >> SLOT_BITS;
        let (mut seen, mut steps) = (0usize, 0usize);
        let budget = count.saturating_mul(10);
        let mut gone: Vec<Vec<u8>> = Vec::new();
        loop {
            if inner == 0 {
                match self.keyspace.occupied_from(db, slot) {
                    Some(next) => slot = next,
                    None => return 0,
                }
            }
            if let Some((_, _, data)) = self.guard(slot).and_then(|index| self.guards.get(index)) {
                loop {
                    inner = data.table.scan(inner, |record| {
                        seen += 1;
                        if wants(record) {
                            if is_due(record, now) {
                                gone.push(record.key().to_vec());
                            } else {
                                visit(record.key());
                            }
                        }
                    });
                    // The low bits of a cursor are its bucket: it must fit beside the slot.
                    steps += 1;
                    if inner == 0 || seen >= count || steps >= budget {
                        break;
                    }
                }
            } else {
                inner = 0;
            }
            for key in gone.drain(..) {
                // Looking at a record that is due deletes it.
                self.live(&key);
            }
            if inner != 0 {
                return inner << SLOT_BITS | u64::from(slot);
            }
            if slot >= LAST {
                return 0;
            }
            slot += 1;
            if seen >= count || steps >= budget {
                return self.keyspace.occupied_from(db, slot).map_or(0, u64::from);
            }
        }
    }

    /// One step through a locked slot, from bucket `from` on: deletes the records that are due and the
    /// members that are, and marks anew those that were only looked at early. Touches no record whose mark
    /// is not due. Returns where the next step begins; `None` when the slot is done.
    pub fn sweep(&mut self, slot: u16, due: &expiry::Due, from: usize) -> Option<usize> {
        /// A step reads at most this many buckets (256 KiB) ...
        const BUCKETS_MAX: usize = 4096;
        /// ... and looks at about as many records.
        const FOUND_MAX: usize = 64;
        let now = self.now;
        let guard = self.guard(slot)?;
        let mut places = Vec::new();
        let mut wake = Millis(i64::MAX);
        let (_, _, data) = self.guards.get_mut(guard)?;
        // Whoever emptied the database in between took the table away.
        let from = if data.table.is_held(SWEEP) { from } else { 0 };
        let wanted = |mark| {
            let wanted = due.has(mark);
            if !wanted {
                wake = wake.min(due.next(mark));
            }
            wanted
        };
        let next = data.table.places_by_mark(from, BUCKETS_MAX, FOUND_MAX, wanted, &mut places);
        let mut gone: Vec<Vec<u8>> = Vec::new();
        for place in places {
            let record = data.table.at(place);
            match super::wake(record) {
                Some(when) if when <= now => gone.push(record.key().to_vec()),
                when => {
                    data.table.set_mark(place, expiry::mark(when, now));
                    wake = when.map_or(wake, |when| wake.min(when));
                }
            }
        }
        for key in gone {
            // Looking at a record that is due deletes it; what is left has members that are.
            if self.live(&key).is_some()
                && let Some(when) = self.expire_members(&key)
            {
                wake = wake.min(when);
            }
        }
        self.note_swept(slot, from, next, wake);
        next
    }

    /// Removes a bounded number of a hash's fields that are due. Returns when to look again, if ever.
    fn expire_members(&mut self, key: &[u8]) -> Option<Millis> {
        const MAX: usize = 64;
        let (now, journaled) = (self.now, self.keyspace.journaled());
        let spot = self.live(key)?;
        self.preserve(spot);
        let mut members: Vec<Box<[u8]>> = Vec::new();
        let hash = self.typed_mut::<Hash>(spot).ok()?;
        let removed = hash.remove_expired(now, MAX, |field| {
            if journaled {
                members.push(field.into());
            }
        });
        if removed > 0 {
            self.tally.expired_members += removed as u64;
            if journaled {
                self.gone_members.push(GoneMembers { db: self.db, key: key.into(), members });
            }
            self.signal(key, EventClass::Hash, "hexpired");
            if self.remove_if_empty(key) {
                return None;
            }
        }
        let (_, _, data) = self.guards.get_mut(spot.guard)?;
        let when = super::wake(data.table.at(spot.place))?.max(now);
        data.table.set_mark(spot.place, expiry::mark(Some(when), now));
        Some(when)
    }

    /// Notes when a slot must be looked at next, after a step from bucket `from` up to `next`.
    fn note_swept(&mut self, slot: u16, from: usize, next: Option<usize>, wake: Millis) {
        /// What was put in between the steps of a large table may be due earlier than what they saw.
        const BETWEEN_MS: i64 = 1000;
        let (db, now, keyspace) = (self.db, self.now, self.keyspace);
        let Some((_, _, data)) = self.guard(slot).and_then(|at| self.guards.get_mut(at)) else {
            return;
        };
        // Several steps hold the buckets, so that none moves in front of the next step.
        data.table.hold(SWEEP, next.is_some());
        if next.is_none() && from > 0 {
            data.table.trim(keyspace.hasher());
        }
        keyspace.set_due(
            db,
            slot,
            match next {
                Some(_) => now,
                None if from > 0 => wake.min(Millis(now.0.saturating_add(BETWEEN_MS))),
                None => wake,
            },
        );
    }

    /// Deadlines among the first records of a locked slot, for an estimate: at most `max` of them.
    pub fn deadlines(&self, slot: u16, max: usize) -> Vec<Millis> {
        let data = self.guards.iter().find(|(_, number, _)| *number == slot);
        let records = data.into_iter().flat_map(|(_, _, data)| data.table.iter().take(4 * max));
        records.filter_map(|record| record.deadline()).take(max).collect()
    }

    /// A random live key of the selected database.
    pub fn random_key(&mut self, rng: &mut Rng) -> Option<Vec<u8>> {
        for _ in 0..100 {
            let slot = self.keyspace.random_occupied(self.db, rng)?;
            let index = self.guard(slot)?;
            let (_, _, data) = self.guards.get(index)?;
            if let Some(place) = data.table.random(rng) {
                let record = data.table.at(place);
                if !is_due(record, self.gone_by()) {
                    return Some(record.key().to_vec());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use larder_base::hash::KeyHasher;

    use super::*;
    use crate::expiry::Due;
    use crate::keyspace::{DbIndex, Keyspace};
    use crate::settings::Settings;
    use crate::view::Deadline;

    const DB: DbIndex = DbIndex(0);

    struct Bench {
        keyspace: Keyspace,
        settings: Settings,
        last: Millis,
        steps: usize,
        expired: u64,
        members: u64,
    }

    impl Bench {
        fn new() -> Bench {
            let keyspace = Keyspace::new(KeyHasher::new(1, 2), 2);
            let (settings, last) = (Settings::default(), Millis(1_000_000));
            Bench { keyspace, settings, last, steps: 0, expired: 0, members: 0 }
        }

        fn edit(&self, now: i64, edit: impl FnOnce(&mut View<'_>)) {
            edit(&mut self.keyspace.view_all(&self.settings, DB, Millis(now)));
        }

        /// One pass, with something done between its steps.
        fn pass(&mut self, now: i64, mut between: impl FnMut(&Bench)) {
            let now = Millis(now);
            let due = Due::between(self.last, now);
            self.last = now;
            let (mut slot, mut bucket) = (0, 0);
            while let Some(found) = self.keyspace.due_from(DB, slot, now) {
                if found != slot {
                    (slot, bucket) = (found, 0);
                }
                let mut view = self.keyspace.view_slot(&self.settings, DB, slot, now);
                let next = view.sweep(slot, &due, bucket);
                self.expired += view.tally.expired;
                self.members += view.tally.expired_members;
                drop(view);
                self.steps += 1;
                match next {
                    Some(next) => bucket = next,
                    None => (slot, bucket) = (slot + 1, 0),
                }
                between(self);
            }
        }
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
        assert!(bench.steps > 400, "{}", bench.steps);
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
                for number in 0..200 {
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
        for now in [1_000_500, 1_000_600, 1_000_700, 1_000_800] {
            bench.pass(now, |_| ());
        }
        assert_eq!((bench.members, bench.expired), (300, 0));
        bench.edit(1_000_800, |view| {
            assert!(!view.contains(b"all"));
            assert_eq!(view.peek::<Hash>(b"some").unwrap().map(Hash::len), Some(100));
        });
        let steps = bench.steps;
        bench.pass(1_000_900, |_| ());
        assert_eq!(bench.steps, steps, "nothing is left to visit");
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
