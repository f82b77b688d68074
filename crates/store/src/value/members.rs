//! The big form behind sets, hashes and sorted sets: a table of records with the hasher that places
//! them. It knows nothing of scores, values or deadlines.

use larder_base::hash::KeyHasher;
use larder_base::rng::Rng;

use crate::record::{Record, RecordRef};
use crate::table::{Place, Table};

/// A scan step may look at this many times the wished number of buckets, so that it ends in a table
/// that is nearly empty.
const SCAN_PATIENCE: usize = 10;

#[derive(Clone)]
pub(super) struct Members {
    pub table: Table,
    pub hasher: KeyHasher,
}

impl Members {
    pub fn new(hasher: KeyHasher) -> Members {
        Members { table: Table::new(), hasher }
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
    pub fn insert(&mut self, record: Record) -> Place {
        let hash = self.hasher.hash(record.key());
        self.table.insert(hash, record, 0, &self.hasher)
    }

    #[inline]
    pub fn remove(&mut self, place: Place) -> Record {
        self.table.remove(place, &self.hasher)
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
        const SAMPLE: usize = 64;
        let (mut sampled, mut bytes) = (0, 0);
        for record in self.table.iter().take(SAMPLE) {
            sampled += 1;
            bytes += record.shallow_size().next_multiple_of(8);
        }
        let records = (bytes * self.table.len()).checked_div(sampled).unwrap_or(0);
        self.table.memory_usage() + records + size_of::<Members>()
    }
}
