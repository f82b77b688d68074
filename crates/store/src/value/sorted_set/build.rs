//! Building a sorted set from members in any order (a file, another set): a small one is packed at once and looked at
//! once for members that came twice; a big one gets its order once, at the end, instead of by one search through cold
//! memory for each member.

use super::{Entry, FormMut, OneWord, Ordered, Pairs, Record, SortedSet};
use crate::value::packed::{Encoded, Gathered};
use crate::value::{PACKED_BYTES_MAX, Text, Thresholds};

/// Runs up to this length are sorted by looking at the members again and again.
const SHORT_RUN: usize = 16;

/// A sorted set that is being built. Dropped, its members are forgotten.
pub struct SortedSetBuilder {
    /// Members with their scores as they came, as long as they fit the small form.
    small: Gathered,
    /// Where the last of them begins, and its score.
    last: (usize, f64),
    /// Whether they came in the order that they are to have.
    in_order: bool,
    /// Empty as long as they fit.
    set: SortedSet,
    /// Members in the table that are not in the tree yet.
    deferred: Vec<Entry>,
}

impl SortedSetBuilder {
    /// One without members.
    #[must_use]
    pub fn new() -> SortedSetBuilder {
        SortedSetBuilder {
            small: Gathered::default(),
            last: (0, 0.0),
            in_order: true,
            set: SortedSet::new(),
            deferred: Vec::new(),
        }
    }

    /// Adds a member. False if it, or another one, was seen to come twice; that may also come to light at the end. The
    /// score must not be NaN.
    pub fn add(&mut self, member: Text<'_>, score: f64, limits: &Thresholds) -> bool {
        if self.set.is_empty() {
            if self.gather(member, score, limits) {
                return true;
            }
            if !self.settle(limits) {
                return false;
            }
        }
        member.with_bytes(|member| self.add_to_set(member, score, limits))
    }

    /// The set; `None` if a member came twice.
    #[must_use]
    pub fn finish(mut self, limits: &Thresholds) -> Option<SortedSet> {
        if self.set.is_empty() && !self.settle(limits) {
            return None;
        }
        if let FormMut::Big(scored) = self.set.word.form_mut()
            && !self.deferred.is_empty()
        {
            let mut entries = std::mem::take(&mut self.deferred);
            entries.extend(scored.tree.range(0..scored.tree.len()));
            sort(&mut entries);
            scored.tree = Ordered::from_sorted(entries);
        }
        Some(self.set)
    }

    /// Keeps a member for the small form, if it fits.
    fn gather(&mut self, member: Text<'_>, score: f64, limits: &Thresholds) -> bool {
        let at = self.small.end();
        let fits = self.small.count() / 2 < limits.zset_entries
            && member.len() <= limits.zset_value
            && at + member.len() <= PACKED_BYTES_MAX;
        if !fits {
            return false;
        }
        // The small form has no negative zero.
        let score = score + 0.0;
        let (last_at, last_score) = self.last;
        if at > 0 && last_score >= score {
            let last = self.small.as_view().get(last_at);
            self.in_order &= last_score == score
                && last.is_some_and(|last| member.with_bytes(|now| last.cmp_bytes(now).is_lt()));
        }
        self.last = (at, score);
        self.small.push(&Encoded::of(member));
        self.small.push(&Encoded::score(score));
        true
    }

    /// Makes a set of what was gathered; false if a member came twice.
    fn settle(&mut self, limits: &Thresholds) -> bool {
        let small = std::mem::take(&mut self.small);
        if self.in_order {
            self.set = SortedSet { word: OneWord::small(small.pack()) };
            return small.are_distinct(2);
        }
        let (pairs, mut at) = (Pairs(small.as_view()), 0);
        while let Some((member, score, next)) = pairs.next(at) {
            if member.with_bytes(|member| self.set.insert(member, score, limits)).is_some() {
                return false;
            }
            at = next;
        }
        true
    }

    fn add_to_set(&mut self, member: &[u8], score: f64, limits: &Thresholds) -> bool {
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
            mut members in proptest::collection::vec(("(ab|abc|abcdefgh)?[a-c]{0,12}|[0-9]{1,3}", -2i8..3), 0..200),
            small: bool, distinct: bool, sorted: bool,
        ) {
            let limits = Thresholds { zset_entries: if small { 128 } else { 4 }, ..Thresholds::default() };
            if sorted {
                members.sort_by(|(a, one), (b, other)| one.cmp(other).then_with(|| a.cmp(b)));
            }
            let (mut builder, mut one_by_one) = (SortedSetBuilder::new(), SortedSet::new());
            let (mut refused, mut twice) = (false, false);
            for (member, score) in &members {
                let score = if *score == -2 { -0.0 } else { f64::from(*score) };
                let fresh = one_by_one.score(member.as_bytes()).is_none();
                if !fresh && distinct {
                    continue;
                }
                twice |= !fresh;
                refused |= !builder.add(Text::Bytes(member.as_bytes()), score, &limits);
                if fresh {
                    one_by_one.insert(member.as_bytes(), score, &limits);
                }
            }
            let built = builder.finish(&limits);
            prop_assert_eq!(refused || built.is_none(), twice);
            let Some(mut built) = built.filter(|_| !twice) else { return Ok(()) };
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
