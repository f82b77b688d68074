//! Walks over many keys: SCAN's steps, whole databases, random picks. They
//! report and count through the same functions as a command's own changes.

use larder_base::rng::Rng;
use larder_base::slot::Slot;
use larder_base::time::Millis;

use super::{Dues, View, is_due};
use crate::record::RecordRef;

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

    /// Deadlines among the first records of a locked slot, for an estimate: at most `max` of them.
    pub fn deadlines(&self, slot: u16, max: usize) -> Vec<Millis> {
        let data = self.guards.iter().find(|(_, number, _)| *number == slot);
        let records = data.into_iter().flat_map(|(_, _, data)| data.table.iter().take(4 * max));
        records.filter_map(|record| record.deadline()).take(max).collect()
    }

    /// Removes the keys of a locked slot that are unwanted, alive or due; reports nothing. Returns how many.
    pub fn remove_where(&mut self, slot: u16, unwanted: impl Fn(&[u8]) -> bool) -> usize {
        let data = self.guard(slot).and_then(|index| self.guards.get(index));
        let records = data.into_iter().flat_map(|(_, _, data)| data.table.iter());
        let keys: Vec<Vec<u8>> = records
            .map(|record| record.key())
            .filter(|key| unwanted(key))
            .map(<[u8]>::to_vec)
            .collect();
        let dues = std::mem::replace(&mut self.dues, Dues::Keep);
        let removed = keys.iter().filter(|key| self.remove(key)).count();
        self.dues = dues;
        removed
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
