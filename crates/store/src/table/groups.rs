//! A table's records in 32 groups by the low bits of their hashes, for those who remember something of each
//! group: which bucket a group is in changes as the table grows, which group a record is in never does. It
//! knows as little as the table of what is remembered.
#![expect(clippy::cast_possible_truncation, reason = "the groups of a table fit a word")]

use super::{ADDRESS, Place, Table, bucket_of, mark_of, prefetch};

/// Records are in so many groups by the low bits of their hashes: with as many buckets or more, every bucket is in
/// one group, and stays there however the table grows.
pub const GROUPS: usize = 32;

impl Table {
    /// The groups (a bit each) whose records are in the bucket where this group begins: one, unless there are
    /// fewer buckets than groups.
    #[inline]
    pub fn groups_with(&self, group: usize) -> u32 {
        let buckets = self.buckets();
        if !(1..GROUPS).contains(&buckets) {
            return 1 << (group % GROUPS);
        }
        let every = |from: usize, step: usize| (((1 << GROUPS) - 1) / ((1u64 << step) - 1)) << from;
        let bucket = bucket_of(group as u64, buckets);
        let half = 1 << buckets.ilog2();
        let mut groups = every(bucket, 2 * half);
        if bucket < half && bucket + half >= buckets {
            groups |= every(bucket + half, 2 * half);
        }
        groups as u32
    }

    /// The group of a place, or one of those that share its bucket.
    #[inline]
    pub fn group(place: Place) -> usize {
        place.bucket % GROUPS
    }

    /// Visits the places of a group with their marks, from bucket `from` on (0 = its first), until `max` buckets
    /// were seen. Other groups of these buckets are visited too. Returns the next bucket; `None` at the end.
    #[inline]
    pub fn visit_group(
        &self,
        group: usize,
        from: usize,
        max: usize,
        mut visit: impl FnMut(Place, u8),
    ) -> Option<usize> {
        let buckets = self.buckets();
        if buckets == 0 {
            return None;
        }
        let first = bucket_of((group % GROUPS) as u64, buckets);
        let mut index = from.max(first);
        for _ in 0..max {
            let mut bucket = Some(self.bucket(index));
            let mut depth = 0;
            while let Some(here) = bucket {
                for (at, word) in here.words.iter().enumerate().take_while(|(_, word)| **word != 0)
                {
                    visit(Place { bucket: index, depth, word: at }, mark_of(*word));
                }
                bucket = here.overflow.as_deref();
                depth += 1;
            }
            index += GROUPS;
            if index >= buckets {
                return None;
            }
        }
        Some(index)
    }

    /// Asks the processor to fetch the first bucket of a group.
    #[inline]
    pub fn prefetch_group(&self, group: usize) {
        self.prefetch_bucket(group as u64);
    }

    /// Asks the processor to fetch the record at a place.
    #[inline]
    pub fn prefetch_place(&self, place: Place) {
        let at = std::ptr::with_exposed_provenance::<u8>((self.word(place) & ADDRESS) as usize);
        prefetch(at);
        prefetch(at.wrapping_add(56));
    }
}

#[cfg(test)]
mod tests {
    use larder_base::hash::KeyHasher;

    use super::*;
    use crate::record::Record;

    #[test]
    fn a_record_is_found_in_its_group_at_every_size() {
        let (hasher, mut table) = (KeyHasher::new(1, 2), Table::new());
        for number in 0..1200 {
            let key = format!("key:{number}");
            let record = Record::text(key.as_bytes(), b"", None, false);
            table.insert(hasher.hash(key.as_bytes()), record, 0, &hasher);
            let mut seen = 0;
            for group in 0..GROUPS {
                let (groups, mut from, mut steps) = (table.groups_with(group), 0, 0);
                assert!(groups & 1 << group != 0);
                loop {
                    let next = table.visit_group(group, from, 2, |place, _| {
                        let at = hasher.hash(table.at(place).key()) as usize % GROUPS;
                        assert!(groups & 1 << at != 0, "{group} visits {at}");
                        seen += usize::from(at == group);
                    });
                    steps += 1;
                    match next {
                        Some(next) => from = next,
                        None => break,
                    }
                }
                assert!(steps <= 1 + table.len() / 64);
            }
            assert_eq!(seen, table.len());
        }
    }
}
