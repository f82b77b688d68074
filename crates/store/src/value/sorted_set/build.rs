//! Building a sorted set from members in any order (a file, another set): a big one gets its order once, at the end,
//! instead of by one search through cold memory for each member.

use super::{Entry, FormMut, Ordered, Record, SortedSet};
use crate::value::Thresholds;

/// Runs up to this length are sorted by looking at the members again and again.
const SHORT_RUN: usize = 16;

/// A sorted set that is being built. Dropped, its members are forgotten.
pub struct SortedSetBuilder {
    set: SortedSet,
    /// Members in the table that are not in the tree yet.
    deferred: Vec<Entry>,
}

impl SortedSetBuilder {
    /// One without members.
    #[must_use]
    pub fn new() -> SortedSetBuilder {
        SortedSetBuilder { set: SortedSet::new(), deferred: Vec::new() }
    }

    /// Adds a member; false, and nothing is added, if it is there already. The score must not be NaN.
    pub fn add(&mut self, member: &[u8], score: f64, limits: &Thresholds) -> bool {
        let FormMut::Big(scored) = self.set.word.form_mut() else {
            let fresh = self.set.score(member).is_none();
            if fresh {
                self.set.insert(member, score, limits);
            }
            return fresh;
        };
        if scored.members.find(member).is_some() {
            return false;
        }
        let record = Record::text(member, &score.to_ne_bytes(), None, false);
        let place = scored.members.insert(record);
        let member = scored.members.table.at(place).raw();
        self.deferred.push(Entry { score, member });
        true
    }

    /// The set.
    #[must_use]
    pub fn finish(mut self) -> SortedSet {
        if let FormMut::Big(scored) = self.set.word.form_mut()
            && !self.deferred.is_empty()
        {
            let mut entries = std::mem::take(&mut self.deferred);
            entries.extend(scored.tree.range(0..scored.tree.len()));
            sort(&mut entries);
            scored.tree = Ordered::from_sorted(entries);
        }
        self.set
    }
}

impl Default for SortedSetBuilder {
    fn default() -> SortedSetBuilder {
        SortedSetBuilder::new()
    }
}

/// Sorts by score, then by member.
fn sort(entries: &mut [Entry]) {
    // A negative zero equals zero.
    entries.sort_unstable_by(|a, b| (a.score + 0.0).total_cmp(&(b.score + 0.0)));
    for run in entries.chunk_by_mut(|a, b| a.score == b.score) {
        match run.len() {
            0 | 1 => {}
            2..=SHORT_RUN => run.sort_unstable_by(|a, b| a.key().cmp(b.key())),
            _ => sort_run(run),
        }
    }
}

/// Sorts many members of one score: the bytes in which they first differ are looked up once each.
fn sort_run(run: &mut [Entry]) {
    let Some(first) = run.first().map(|entry| entry.key()) else { return };
    let common = run.iter().fold(first.len(), |common, entry| {
        let pairs = first.iter().zip(entry.key()).take(common);
        pairs.take_while(|(a, b)| a == b).count()
    });
    let head = |entry: &Entry| {
        let rest = entry.key().get(common..).unwrap_or(&[]);
        let mut head = [0; 8];
        for (to, from) in head.iter_mut().zip(rest) {
            *to = *from;
        }
        u64::from_be_bytes(head)
    };
    let mut keyed: Vec<(u64, Entry)> = run.iter().map(|entry| (head(entry), *entry)).collect();
    keyed
        .sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.key().cmp(other.key())));
    for (place, (_, entry)) in run.iter_mut().zip(keyed) {
        *place = entry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_members_one_by_one_make(
            members in proptest::collection::vec(("(ab|abc|abcdefgh)?[a-c]{0,12}", -2i8..3), 0..400), small: bool,
        ) {
            let limits = Thresholds { zset_entries: if small { 128 } else { 4 }, ..Thresholds::default() };
            let (mut builder, mut one_by_one) = (SortedSetBuilder::new(), SortedSet::new());
            for (member, score) in &members {
                let score = if *score == -2 { -0.0 } else { f64::from(*score) };
                let fresh = one_by_one.score(member.as_bytes()).is_none();
                prop_assert_eq!(builder.add(member.as_bytes(), score, &limits), fresh);
                if fresh {
                    one_by_one.insert(member.as_bytes(), score, &limits);
                }
            }
            let mut built = builder.finish();
            let all = |set: &SortedSet| -> Vec<(Vec<u8>, u64)> {
                set.iter().map(|(member, score)| (member.to_vec(), score.to_bits())).collect()
            };
            prop_assert_eq!(all(&built), all(&one_by_one));
            prop_assert_eq!(built.encoding_name(), one_by_one.encoding_name());
            // It is a tree like any other: it can be changed and asked.
            for (number, (member, _)) in members.iter().enumerate() {
                prop_assert_eq!(built.rank(member.as_bytes()), one_by_one.rank(member.as_bytes()));
                match number % 3 {
                    0 => prop_assert_eq!(built.remove(member.as_bytes()), one_by_one.remove(member.as_bytes())),
                    1 => {
                        built.insert(member.as_bytes(), 7.5, &limits);
                        one_by_one.insert(member.as_bytes(), 7.5, &limits);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(all(&built), all(&one_by_one));
        }
    }
}
