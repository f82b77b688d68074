//! The big form behind sets, hashes and sorted sets: a table of records with the hasher that places
//! them. Every change of a member passes here, so that a snapshot can save a big collection piece by piece
//! while it changes. It knows nothing of scores and of what a payload means.

use larder_base::hash::KeyHasher;
use larder_base::rng::Rng;
use larder_base::time::Millis;

use crate::record::{Record, RecordRef};
use crate::snapshot::LANES;
use crate::table::{Place, Table};

/// A scan step may look at this many times the wished number of buckets, so that it ends in a table
/// that is nearly empty.
const SCAN_PATIENCE: usize = 10;

pub(super) struct Members {
    pub table: Table,
    pub hasher: KeyHasher,
    /// What the snapshot bits of members are that no running snapshot has to save.
    lanes: u8,
    /// What snapshots still have to save, by lane.
    saving: Option<Box<[Option<Saving>; LANES]>>,
}

/// A big collection that a snapshot saves piece by piece, while it changes.
struct Saving {
    /// Names the collection wherever it goes meanwhile.
    id: u64,
    /// The next bucket to walk through.
    bucket: usize,
    /// Members as they were at the cut, which have changed or gone since.
    kept: Vec<Record>,
}

impl Clone for Members {
    fn clone(&self) -> Members {
        // A copy is born after the cut: no snapshot has to save it.
        let mut copy = Members::new(self.hasher);
        copy.table = self.table.clone();
        copy
    }
}

impl Members {
    pub fn new(hasher: KeyHasher) -> Members {
        Members { table: Table::new(), hasher, lanes: 0, saving: None }
    }

    #[inline]
    pub fn find(&self, member: &[u8]) -> Option<Place> {
        self.table.find(self.hasher.hash(member), member)
    }

    #[inline]
    pub fn get(&self, member: &[u8]) -> Option<RecordRef<'_>> {
        self.find(member).map(|place| self.table.at(place))
    }

    /// Adds a record whose key is not there yet.
    #[inline]
    pub fn insert(&mut self, mut record: Record) -> Place {
        if self.lanes != 0 {
            record.as_mut().set_lanes(self.lanes);
        }
        let hash = self.hasher.hash(record.key());
        self.table.insert(hash, record, 0, &self.hasher)
    }

    #[inline]
    pub fn remove(&mut self, place: Place) -> Record {
        self.preserve(place);
        self.table.remove(place, &self.hasher)
    }

    /// Puts a record in the place of the one with the same key.
    #[inline]
    pub fn replace(&mut self, place: Place, mut record: Record) {
        self.preserve(place);
        record.as_mut().set_lanes(self.lanes);
        drop(self.table.replace(place, record, 0));
    }

    /// Overwrites the text of a member by one of the same length; false, changing nothing, if it is not.
    #[inline]
    pub fn overwrite(&mut self, place: Place, text: &[u8]) -> bool {
        self.preserve(place);
        self.table.at_mut(place).overwrite_text(text)
    }

    /// Gives a member another deadline, or none.
    pub fn set_deadline(&mut self, place: Place, deadline: Option<Millis>) {
        self.preserve(place);
        self.table.update(place, |record| record.with_deadline(deadline));
    }

    /// Every change of a member passes here first: what a snapshot still has to save is kept for it.
    #[inline]
    fn preserve(&mut self, place: Place) {
        if self.saving.is_some() {
            self.keep(place);
        }
    }

    #[cold]
    fn keep(&mut self, place: Place) {
        let Some(saving) = &mut self.saving else { return };
        let mut record = self.table.at_mut(place);
        let unsaved = record.as_ref().lanes() ^ self.lanes;
        for (lane, saving) in saving.iter_mut().enumerate() {
            if unsaved & 1 << lane != 0
                && let Some(saving) = saving
            {
                let as_was = record.as_ref();
                saving.kept.push(as_was.copy_as(as_was.key()));
            }
        }
        record.set_lanes(self.lanes);
    }

    /// A snapshot takes this moment as its cut: from now on its members are kept for it, until
    /// [`Members::save_step`] has shown them all. Returns how many there are.
    pub fn begin_saving(&mut self, lane: usize, id: u64) -> usize {
        self.lanes ^= 1 << lane;
        let saving = self.saving.get_or_insert_default();
        if let Some(saving) = saving.get_mut(lane) {
            *saving = Some(Saving { id, bucket: 0, kept: Vec::new() });
        }
        self.table.hold(lane, true);
        self.table.len()
    }

    /// The name under which a snapshot saves this collection.
    pub fn saving_id(&self, lane: usize) -> Option<u64> {
        self.saving.as_ref()?.get(lane)?.as_ref().map(|saving| saving.id)
    }

    /// Whether members were changed since the last step, which a snapshot still has to save.
    pub fn was_disturbed(&self, lane: usize) -> bool {
        let saving = self.saving.as_ref().and_then(|all| all.get(lane)?.as_ref());
        saving.is_some_and(|saving| !saving.kept.is_empty())
    }

    /// Shows about `budget` members as they were at the cut. True when all were shown.
    pub fn save_step(
        &mut self,
        lane: usize,
        budget: usize,
        mut visit: impl FnMut(RecordRef<'_>),
    ) -> bool {
        let now = self.lanes;
        let Some(all) = &mut self.saving else { return true };
        let Some(Some(saving)) = all.get_mut(lane) else { return true };
        for record in std::mem::take(&mut saving.kept) {
            visit(record.as_ref());
        }
        let bit = 1u8 << lane;
        let next = self.table.walk(saving.bucket, budget, |mut record| {
            let lanes = record.as_ref().lanes();
            if (lanes ^ now) & bit != 0 {
                visit(record.as_ref());
                record.set_lanes(lanes ^ bit);
            }
        });
        if let Some(next) = next {
            saving.bucket = next;
            return false;
        }
        if let Some(saving) = all.get_mut(lane) {
            *saving = None;
        }
        if all.iter().all(Option::is_none) {
            self.saving = None;
        }
        self.table.hold(lane, false);
        true
    }

    pub fn random(&self, rng: &mut Rng) -> Option<RecordRef<'_>> {
        self.table.random(rng).map(|place| self.table.at(place))
    }

    /// Steps through the table until about `count` records were visited.
    pub fn scan(&self, mut cursor: u64, count: usize, mut visit: impl FnMut(RecordRef<'_>)) -> u64 {
        let mut seen = 0;
        for _ in 0..count.max(1).saturating_mul(SCAN_PATIENCE) {
            cursor = self.table.scan(cursor, |record| {
                seen += 1;
                visit(record);
            });
            if cursor == 0 || seen >= count {
                break;
            }
        }
        cursor
    }

    /// Bytes held, estimated for the records from a sample of them.
    pub fn memory_usage(&self) -> usize {
        // Each lies in a page of its own, see `Table::memory_usage`.
        const SAMPLE: usize = 8;
        let (mut sampled, mut bytes) = (0, 0);
        for record in self.table.iter().take(SAMPLE) {
            sampled += 1;
            bytes += record.shallow_size().next_multiple_of(8);
        }
        let records = (bytes * self.table.len()).checked_div(sampled).unwrap_or(0);
        self.table.memory_usage() + records + size_of::<Members>()
    }
}
