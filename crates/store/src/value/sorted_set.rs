//! Sorted sets: packed pairs of member and score in order, or a table of records (with the score as
//! payload) and an ordered tree over them. It knows no key, no option of a command and no reply.

mod build;

use std::ops::{Bound, Range};

use larder_base::rng::Rng;

use super::members::Members;
use super::ordered::{Entries, Entry, Ordered};
use super::packed::{Encoded, Form, FormMut, OneWord, PackedView, Plain};
use super::{PACKED_BYTES_MAX, Text, Thresholds};
use crate::record::{Record, RecordRef};
use crate::table::Place;
pub use build::SortedSetBuilder;

/// A set of distinct texts, each with a score, ordered by score and then by bytes.
#[derive(Clone)]
pub struct SortedSet {
    word: OneWord<Plain, Scored>,
}

/// The big form.
struct Scored {
    members: Members,
    tree: Ordered,
}

/// What [`SortedSet::update`] found and did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Updated {
    /// The score before; `None` if the member was not there.
    pub old: Option<f64>,
    /// The score now; `None` if the member is not there.
    pub new: Option<f64>,
}

/// The score in a member's record.
#[inline]
pub(crate) fn score_of(record: RecordRef<'_>) -> f64 {
    record.inline_text().first_chunk::<8>().map_or(0.0, |bytes| f64::from_ne_bytes(*bytes))
}

impl Scored {
    fn add(&mut self, member: &[u8], score: f64) {
        let place = self.members.insert(Record::text(member, &score.to_ne_bytes(), None, false));
        let record = self.members.table.at(place);
        self.tree.insert(Entry { score, member: record.raw() });
    }

    fn rescore(&mut self, place: Place, old: f64, score: f64) {
        let record = self.members.table.at(place);
        let (raw, key) = (record.raw(), record.key());
        if old != score {
            self.tree.remove(old, key);
            self.tree.insert(Entry { score, member: raw });
        }
        self.members.overwrite(place, &score.to_ne_bytes());
    }
}

/// A small sorted set to read: members and scores by turns.
#[derive(Clone, Copy)]
struct Pairs<'a>(PackedView<'a, false>);

impl<'a> Pairs<'a> {
    /// The pair at a position, and the next position.
    #[inline]
    fn next(self, at: usize) -> Option<(Text<'a>, f64, usize)> {
        let (member, at) = self.0.next(at)?;
        let (score, next) = self.0.next_score(at);
        Some((member, score, next))
    }

    /// Position and score of a member.
    fn find(self, member: &Encoded<'_>) -> Option<(usize, f64)> {
        let at = self.0.find(member, 0, 2)?;
        Some((at, self.0.next_score(self.0.skip(at, 1)).0))
    }

    /// Position and rank of the first pair for which `before` does not hold.
    fn partition(self, before: impl Fn(Text<'_>, f64) -> bool) -> (usize, usize) {
        self.partition_from(0, before)
    }

    /// As `partition`, looking and counting from a position on.
    fn partition_from(
        self,
        mut at: usize,
        before: impl Fn(Text<'_>, f64) -> bool,
    ) -> (usize, usize) {
        let mut rank = 0;
        while let Some((member, score, next)) = self.next(at) {
            if !before(member, score) {
                break;
            }
            at = next;
            rank += 1;
        }
        (at, rank)
    }
}

/// Gives the pair at a position, which is that of `member`, a new score and its new place.
fn rescore_packed(packed: &mut Plain, at: usize, member: &[u8], score: f64) {
    let score_at = packed.as_view().skip(at, 1);
    let rises = packed.as_view().next_score(score_at).0 <= score;
    packed.replace(score_at, 1, &[Encoded::score(score)]);
    let until = packed.as_view().skip(score_at, 1);
    // The others are in order: the new place is behind the pair if the score rises, else ahead of it.
    let from = if rises { until } else { 0 };
    let (to, _) = Pairs(packed.as_view()).partition_from(from, |other, at| {
        at < score || (at == score && other.cmp_bytes(member).is_lt())
    });
    if to < at || to > until {
        packed.relocate(at, until, to);
    }
}

impl SortedSet {
    /// Where its members begin, to fetch them ahead.
    #[inline]
    pub(crate) fn address(&self) -> *const u8 {
        self.word.address()
    }

    /// An empty sorted set; allocates nothing.
    pub fn new() -> SortedSet {
        SortedSet { word: OneWord::small(Plain::new()) }
    }

    /// Number of members.
    #[inline]
    pub fn len(&self) -> usize {
        match self.word.form() {
            Form::Small(packed) => packed.count() / 2,
            Form::Big(scored) => scored.tree.len(),
        }
    }

    /// Whether there is no member.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of a member.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.word.form() {
            Form::Small(packed) => {
                Pairs(packed.as_view()).find(&Encoded::text(member)).map(|(_, score)| score)
            }
            Form::Big(scored) => scored.members.get(member).map(score_of),
        }
    }

    /// Sets the score of a member, adding it if need be. The score must not be NaN. Returns the score
    /// that it had.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Thresholds) -> Option<f64> {
        self.update(member, limits, |_| Some(score)).old
    }

    /// Looks a member up once: `decide` gets its score and says what it shall be; `None` leaves
    /// things as they are. The new score must not be NaN.
    pub fn update(
        &mut self,
        member: &[u8],
        limits: &Thresholds,
        decide: impl FnOnce(Option<f64>) -> Option<f64>,
    ) -> Updated {
        match self.word.form_mut() {
            FormMut::Big(scored) => {
                let place = scored.members.find(member);
                let old = place.map(|place| score_of(scored.members.table.at(place)));
                let Some(score) = decide(old) else { return Updated { old, new: old } };
                match (place, old) {
                    (Some(place), Some(old)) => scored.rescore(place, old, score),
                    _ => scored.add(member, score),
                }
                Updated { old, new: Some(score) }
            }
            FormMut::Small(packed) => {
                let element = Encoded::text(member);
                let found = Pairs(packed.as_view()).find(&element);
                let old = found.map(|(_, score)| score);
                let Some(wanted) = decide(old) else { return Updated { old, new: old } };
                let updated = Updated { old, new: Some(wanted) };
                // The small form of Redis keeps integers as such: a negative zero becomes zero.
                let score = wanted + 0.0;
                if old.is_some_and(|old| old.to_bits() == score.to_bits()) {
                    return updated;
                }
                if let Some((at, _)) = found {
                    rescore_packed(packed, at, member, score);
                    return updated;
                }
                if packed.count() / 2 >= limits.zset_entries
                    || member.len() > limits.zset_value
                    || packed.end() + member.len() > PACKED_BYTES_MAX
                {
                    self.enlarge(limits).add(member, wanted);
                    return updated;
                }
                let (at, _) = Pairs(packed.as_view()).partition(|other, at| {
                    at < score || (at == score && other.cmp_bytes(member).is_lt())
                });
                packed.insert(at, &[element, Encoded::score(score)]);
                updated
            }
        }
    }

    /// Takes a member out and returns its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self.word.form_mut() {
            FormMut::Small(packed) => {
                let (at, score) = Pairs(packed.as_view()).find(&Encoded::text(member))?;
                packed.remove(at, 2);
                Some(score)
            }
            FormMut::Big(scored) => {
                let place = scored.members.find(member)?;
                let score = score_of(scored.members.table.at(place));
                scored.tree.remove(score, member);
                drop(scored.members.remove(place));
                Some(score)
            }
        }
    }

    /// How many members come before this one, and its score. (From the other end: `len - 1 - rank`.)
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.word.form() {
            Form::Small(packed) => {
                let pairs = Pairs(packed.as_view());
                let (at, score) = pairs.find(&Encoded::text(member))?;
                let (mut here, mut rank) = (0, 0);
                while here < at {
                    here = pairs.0.skip(here, 2);
                    rank += 1;
                }
                Some((rank, score))
            }
            Form::Big(scored) => {
                let score = score_of(scored.members.get(member)?);
                Some((scored.tree.rank(score, member)?, score))
            }
        }
    }

    /// The ranks of the members with scores within bounds; may be empty.
    pub fn score_range(&self, min: Bound<f64>, max: Bound<f64>) -> Range<usize> {
        let start = match min {
            Bound::Included(min) => self.rank_where(|_, score| score < min),
            Bound::Excluded(min) => self.rank_where(|_, score| score <= min),
            Bound::Unbounded => 0,
        };
        let end = match max {
            Bound::Included(max) => self.rank_where(|_, score| score <= max),
            Bound::Excluded(max) => self.rank_where(|_, score| score < max),
            Bound::Unbounded => self.len(),
        };
        start..end.max(start)
    }

    /// The ranks of the members within bounds by bytes, if all scores are equal (else unspecified).
    pub fn lex_range(&self, min: Bound<&[u8]>, max: Bound<&[u8]>) -> Range<usize> {
        let start = match min {
            Bound::Included(min) => self.rank_where(|member, _| member.cmp_bytes(min).is_lt()),
            Bound::Excluded(min) => self.rank_where(|member, _| member.cmp_bytes(min).is_le()),
            Bound::Unbounded => 0,
        };
        let end = match max {
            Bound::Included(max) => self.rank_where(|member, _| member.cmp_bytes(max).is_le()),
            Bound::Excluded(max) => self.rank_where(|member, _| member.cmp_bytes(max).is_lt()),
            Bound::Unbounded => self.len(),
        };
        start..end.max(start)
    }

    fn rank_where(&self, before: impl Fn(Text<'_>, f64) -> bool) -> usize {
        match self.word.form() {
            Form::Small(packed) => Pairs(packed.as_view()).partition(before).1,
            Form::Big(scored) => {
                scored.tree.rank_where(|entry| before(Text::Bytes(entry.key()), entry.score))
            }
        }
    }

    /// The members with these ranks in order, from either end (`.rev()`), with their scores.
    pub fn range(&self, ranks: Range<usize>) -> Ranked<'_> {
        let end = ranks.end.min(self.len());
        let start = ranks.start.min(end);
        match self.word.form() {
            Form::Small(packed) => {
                let view = packed.as_view();
                let at = view.skip(0, 2 * start);
                Ranked::Small { view, at, left: end - start, back: Vec::new() }
            }
            Form::Big(scored) => Ranked::Big(scored.tree.range(start..end)),
        }
    }

    /// All members in order with their scores.
    pub fn iter(&self) -> Ranked<'_> {
        self.range(0..self.len())
    }

    /// The member with this rank.
    pub fn at(&self, rank: usize) -> Option<(Text<'_>, f64)> {
        self.range(rank..rank.saturating_add(1)).next()
    }

    /// Removes the members with these ranks; returns how many there were.
    pub fn remove_range(&mut self, ranks: Range<usize>) -> usize {
        let end = ranks.end.min(self.len());
        let start = ranks.start.min(end);
        match self.word.form_mut() {
            FormMut::Small(packed) => {
                let at = packed.as_view().skip(0, 2 * start);
                packed.remove(at, 2 * (end - start));
            }
            FormMut::Big(scored) => {
                let members = &mut scored.members;
                scored.tree.remove_range(start..end, |entry| {
                    if let Some(place) = members.find(entry.key()) {
                        drop(members.remove(place));
                    }
                });
            }
        }
        end - start
    }

    /// Takes the member with the lowest score out.
    pub fn pop_min(&mut self) -> Option<(Vec<u8>, f64)> {
        self.pop(0)
    }

    /// Takes the member with the highest score out.
    pub fn pop_max(&mut self) -> Option<(Vec<u8>, f64)> {
        self.pop(self.len().checked_sub(1)?)
    }

    fn pop(&mut self, rank: usize) -> Option<(Vec<u8>, f64)> {
        let popped = self.at(rank).map(|(member, score)| (member.to_vec(), score))?;
        self.remove_range(rank..rank + 1);
        Some(popped)
    }

    /// A random member, each equally likely.
    pub fn random(&self, rng: &mut Rng) -> Option<(Text<'_>, f64)> {
        match self.word.form() {
            Form::Small(_) => self.at(rng.below_usize(self.len())),
            Form::Big(scored) => {
                let record = scored.members.random(rng)?;
                Some((Text::Bytes(record.key()), score_of(record)))
            }
        }
    }

    /// One step of a scan over about `count` members; as [`super::Set::scan`].
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Text<'_>, f64)) -> u64 {
        match self.word.form() {
            Form::Small(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                0
            }
            Form::Big(scored) => scored.members.scan(cursor, count, |record| {
                visit(Text::Bytes(record.key()), score_of(record));
            }),
        }
    }

    pub(super) fn members_mut(&mut self) -> Option<&mut Members> {
        match self.word.form_mut() {
            FormMut::Small(_) => None,
            FormMut::Big(scored) => Some(&mut scored.members),
        }
    }

    /// Takes the tree of the big form out, to be freed node by node.
    pub(super) fn take_tree(&mut self) -> Option<Ordered> {
        match self.word.form_mut() {
            FormMut::Small(_) => None,
            FormMut::Big(scored) => Some(std::mem::replace(&mut scored.tree, Ordered::new())),
        }
    }

    /// How OBJECT ENCODING calls the form.
    pub fn encoding_name(&self) -> &'static str {
        match self.word.form() {
            Form::Small(_) => "listpack",
            Form::Big(_) => "skiplist",
        }
    }

    /// Bytes held on the heap.
    pub fn memory_usage(&self) -> usize {
        match self.word.form() {
            Form::Small(packed) => packed.memory_usage(),
            Form::Big(scored) => scored.members.memory_usage() + scored.tree.memory_usage(),
        }
    }

    /// About how many allocations there are to free.
    pub fn deep_len(&self) -> usize {
        match self.word.form() {
            Form::Small(_) => 1,
            Form::Big(scored) => scored.tree.len() + scored.tree.len() / 16,
        }
    }

    fn enlarge(&mut self, limits: &Thresholds) -> &mut Scored {
        self.word.enlarge(|packed| {
            let mut scored = Scored { members: Members::new(limits.hasher), tree: Ordered::new() };
            let (pairs, mut at) = (Pairs(packed.as_view()), 0);
            while let Some((member, score, next)) = pairs.next(at) {
                member.with_bytes(|member| scored.add(member, score));
                at = next;
            }
            Box::new(scored)
        })
    }
}

/// Members of a range of ranks with their scores.
pub enum Ranked<'a> {
    /// Of a small sorted set.
    #[expect(private_interfaces, reason = "only iterated from outside")]
    Small {
        /// The pairs.
        view: PackedView<'a, false>,
        /// The next one.
        at: usize,
        /// How many are left.
        left: usize,
        /// The positions of those left, once somebody asked from behind.
        back: Vec<usize>,
    },
    /// Of a big one.
    #[expect(private_interfaces, reason = "only iterated from outside")]
    Big(Entries<'a>),
}

impl<'a> Iterator for Ranked<'a> {
    type Item = (Text<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Text<'a>, f64)> {
        match self {
            Ranked::Small { view, at, left, .. } => {
                *left = left.checked_sub(1)?;
                let (member, score, next) = Pairs(*view).next(*at)?;
                *at = next;
                Some((member, score))
            }
            Ranked::Big(entries) => {
                entries.next().map(|entry| (Text::Bytes(entry.key()), entry.score))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Ranked::Small { left, .. } => (*left, Some(*left)),
            Ranked::Big(entries) => entries.size_hint(),
        }
    }
}

impl DoubleEndedIterator for Ranked<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Ranked::Small { view, at, left, back } => {
                if back.is_empty() {
                    let mut position = *at;
                    for _ in 0..*left {
                        back.push(position);
                        position = view.skip(position, 2);
                    }
                }
                *left = left.checked_sub(1)?;
                let (member, score, _) = Pairs(*view).next(back.pop()?)?;
                Some((member, score))
            }
            Ranked::Big(entries) => {
                entries.next_back().map(|entry| (Text::Bytes(entry.key()), entry.score))
            }
        }
    }
}

impl ExactSizeIterator for Ranked<'_> {}

impl Clone for Scored {
    fn clone(&self) -> Scored {
        let members = self.members.clone();
        let entries = self.tree.range(0..self.tree.len()).filter_map(|entry| {
            let record = members.get(entry.key())?;
            Some(Entry { score: entry.score, member: record.raw() })
        });
        let tree = Ordered::from_sorted(entries.collect());
        Scored { members, tree }
    }
}
