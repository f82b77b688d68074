//! A counted B+tree of (score, member): finds by order, by rank and by bounds in O(log n). The members
//! lie in records that the owner keeps beside the tree: it must take an entry out before its record goes.
//! It knows no table and no command.
//!
//! Invariants: no node but the root leaf is empty; every inner node knows each child's first entry
//! and number of entries exactly.
#![expect(clippy::indexing_slicing, reason = "positions come from searches in the same node")]

use std::cmp::Ordering;
use std::ops::Range;

use smallvec::SmallVec;

use crate::record::Raw;

/// Entries in a leaf: 512 bytes with the length.
const LEAF: usize = 31;
const INNER: usize = 32;

/// A score and the record of its member.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub score: f64,
    pub member: Raw,
}

impl Entry {
    /// The member; valid as long as the record, which the tree's owner keeps.
    #[inline]
    pub fn key<'a>(self) -> &'a [u8] {
        self.member.key()
    }

    #[inline]
    fn compare(self, score: f64, key: &[u8]) -> Ordering {
        if self.score < score {
            Ordering::Less
        } else if self.score > score {
            Ordering::Greater
        } else {
            self.key().cmp(key)
        }
    }
}

type Leaf = SmallVec<[Entry; LEAF]>;
type Inner = SmallVec<[Child; INNER]>;

enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

struct Child {
    first: Entry,
    count: usize,
    node: Node,
}

/// The tree. See the head of this file.
pub(super) struct Ordered {
    root: Node,
    len: usize,
}

impl Node {
    fn first(&self) -> Option<Entry> {
        match self {
            Node::Leaf(leaf) => leaf.first().copied(),
            Node::Inner(children) => children.first().map(|child| child.first),
        }
    }

    fn width(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn visit(&self, seen: &mut dyn FnMut(Entry)) {
        match self {
            Node::Leaf(leaf) => leaf.iter().for_each(|entry| seen(*entry)),
            Node::Inner(children) => children.iter().for_each(|child| child.node.visit(seen)),
        }
    }

    /// Adds an entry; gives back a new right sibling if the node had to be split. The last node of its
    /// level is split at its end, so that ascending scores leave full nodes behind.
    fn insert(&mut self, entry: Entry, is_last: bool) -> Option<Child> {
        let (score, key) = (entry.score, entry.key());
        let before = |other: &Entry| other.compare(score, key) == Ordering::Less;
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.partition_point(before);
                let right = insert_or_split(leaf, at, entry, LEAF, is_last)?;
                let (first, count) = (right[0], right.len());
                Some(Child { first, count, node: Node::Leaf(Box::new(right)) })
            }
            Node::Inner(children) => {
                let at = children.partition_point(|child| before(&child.first)).saturating_sub(1);
                let is_last = is_last && at + 1 == children.len();
                let child = &mut children[at];
                let split = child.node.insert(entry, is_last);
                child.count += 1;
                child.first = child.node.first().unwrap_or(child.first);
                let sibling = split?;
                child.count -= sibling.count;
                let right = insert_or_split(children, at + 1, sibling, INNER, is_last)?;
                let count = right.iter().map(|child| child.count).sum();
                Some(Child { first: right[0].first, count, node: Node::Inner(Box::new(right)) })
            }
        }
    }

    /// Takes the entries with these ranks out, in order.
    fn remove_range(&mut self, range: Range<usize>, seen: &mut dyn FnMut(Entry)) {
        let children = match self {
            Node::Leaf(leaf) => return leaf.drain(range).for_each(seen),
            Node::Inner(children) => children,
        };
        let mut start = 0;
        let mut touched: SmallVec<[usize; 2]> = SmallVec::new();
        let mut kept = 0;
        for child in children.iter_mut() {
            let end = start + child.count;
            let from = range.start.clamp(start, end) - start;
            let to = range.end.clamp(start, end) - start;
            start = end;
            if to - from == child.count {
                child.node.visit(seen);
                child.count = 0;
                continue;
            }
            if from < to {
                child.node.remove_range(from..to, seen);
                child.count -= to - from;
                child.first = child.node.first().unwrap_or(child.first);
                touched.push(kept);
            }
            kept += 1;
        }
        children.retain(|child| child.count > 0);
        for at in touched.into_iter().rev() {
            merge_if_sparse(children, at);
        }
    }

    /// Frees the last leaf below; true when none is left.
    fn fell(&mut self) -> bool {
        let Node::Inner(children) = self else { return true };
        if children.last_mut().is_none_or(|last| last.node.fell()) {
            children.pop();
        }
        children.is_empty()
    }

    /// Bytes of the nodes, estimated from a few of each: a walk through all would hold others up.
    fn size(&self) -> usize {
        /// Of each node so many children are looked at.
        const SAMPLE: usize = 2;
        let Node::Inner(children) = self else { return size_of::<Leaf>() };
        let stride = children.len().div_ceil(SAMPLE).max(1);
        let (mut sampled, mut below) = (0, 0);
        for child in children.iter().step_by(stride) {
            sampled += 1;
            // Of a leaf only the address is read.
            below += child.node.size();
        }
        size_of::<Inner>() + (below * children.len()).checked_div(sampled).unwrap_or(0)
    }
}

/// Inserts into a full or not yet full node; gives back the right part if it had to be split.
fn insert_or_split<T, const N: usize>(
    node: &mut SmallVec<[T; N]>,
    at: usize,
    item: T,
    max: usize,
    is_last: bool,
) -> Option<SmallVec<[T; N]>>
where
    [T; N]: smallvec::Array<Item = T>,
{
    if node.len() < max {
        node.insert(at, item);
        return None;
    }
    let keep = if is_last && at == node.len() { node.len() } else { max / 2 };
    let mut right: SmallVec<[T; N]> = node.drain(keep..).collect();
    if at > keep || right.is_empty() {
        right.insert(at - keep, item)
    } else {
        node.insert(at, item)
    }
    Some(right)
}

/// Joins the child with a neighbour if it is nearly empty and both fit well.
fn merge_if_sparse(children: &mut Inner, at: usize) {
    let Some(width) = children.get(at).map(|child| child.node.width()) else { return };
    if width > LEAF / 4 {
        return;
    }
    let fits = |other: usize| {
        children.get(other).is_some_and(|child| child.node.width() + width <= LEAF * 3 / 4)
    };
    let left = if at > 0 && fits(at - 1) {
        at - 1
    } else if fits(at + 1) {
        at
    } else {
        return;
    };
    let right = children.remove(left + 1);
    let target = &mut children[left];
    match (&mut target.node, right.node) {
        (Node::Leaf(into), Node::Leaf(from)) => into.extend(*from),
        (Node::Inner(into), Node::Inner(from)) => into.extend(*from),
        (_, node) => {
            // All children of a node are of one height; were they not, nothing is joined.
            children.insert(left + 1, Child { node, ..right });
            return;
        }
    }
    target.count += right.count;
}

impl Ordered {
    pub fn new() -> Ordered {
        Ordered { root: Node::Leaf(Box::default()), len: 0 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// A tree of these entries, which are in order.
    pub fn from_sorted(entries: Vec<Entry>) -> Ordered {
        /// Room is left in the nodes, so that the first changes do not split them all.
        const FILL: usize = LEAF - 3;
        let len = entries.len();
        let mut level: Vec<Child> = entries
            .chunks(FILL)
            .map(|part| Child {
                first: part[0],
                count: part.len(),
                node: Node::Leaf(Box::new(part.iter().copied().collect())),
            })
            .collect();
        drop(entries);
        while level.len() > 1 {
            let mut below = level.into_iter().peekable();
            level = Vec::new();
            while below.peek().is_some() {
                let children: Inner = below.by_ref().take(FILL).collect();
                let count = children.iter().map(|child| child.count).sum();
                let first = children[0].first;
                level.push(Child { first, count, node: Node::Inner(Box::new(children)) });
            }
        }
        level.pop().map_or_else(Ordered::new, |root| Ordered { root: root.node, len })
    }

    /// Adds an entry that is not there yet.
    pub fn insert(&mut self, entry: Entry) {
        let split = self.root.insert(entry, true);
        self.len += 1;
        let Some(right) = split else { return };
        let count = self.len - right.count;
        let left = std::mem::replace(&mut self.root, Node::Inner(Box::default()));
        let first = left.first().unwrap_or(right.first);
        if let Node::Inner(children) = &mut self.root {
            children.push(Child { first, count, node: left });
            children.push(right);
        }
    }

    /// Takes an entry out; false if it is not there.
    pub fn remove(&mut self, score: f64, key: &[u8]) -> bool {
        let Some(rank) = self.rank(score, key) else { return false };
        self.remove_range(rank..rank + 1, |_| {});
        true
    }

    /// How many entries come before this one; `None` if it is not there.
    pub fn rank(&self, score: f64, key: &[u8]) -> Option<usize> {
        let rank = self.rank_where(|entry| entry.compare(score, key) == Ordering::Less);
        let (leaf, at) = self.leaf_at(rank)?;
        leaf.get(at).is_some_and(|entry| entry.compare(score, key).is_eq()).then_some(rank)
    }

    /// The number of entries for which `before` holds; it must hold for a prefix of the order.
    pub fn rank_where(&self, before: impl Fn(Entry) -> bool) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(leaf) => return rank + leaf.partition_point(|entry| before(*entry)),
                Node::Inner(children) => {
                    let after = children.partition_point(|child| before(child.first));
                    let at = after.saturating_sub(1);
                    rank += children[..at].iter().map(|child| child.count).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// The leaf that holds a rank, and where in it.
    fn leaf_at(&self, mut rank: usize) -> Option<(&[Entry], usize)> {
        let mut node = &self.root;
        if rank >= self.len {
            return None;
        }
        loop {
            match node {
                Node::Leaf(leaf) => return Some((leaf, rank)),
                Node::Inner(children) => {
                    for child in children.iter() {
                        node = &child.node;
                        if rank < child.count {
                            break;
                        }
                        rank -= child.count;
                    }
                }
            }
        }
    }

    /// The entries with these ranks, from either end.
    pub fn range(&self, range: Range<usize>) -> Entries<'_> {
        let end = range.end.min(self.len);
        Entries { tree: self, start: range.start.min(end), end, front: &[], back: &[] }
    }

    /// Takes the entries with these ranks out, telling each.
    pub fn remove_range(&mut self, range: Range<usize>, mut seen: impl FnMut(Entry)) {
        let range = range.start.min(self.len)..range.end.min(self.len);
        if range.is_empty() {
            return;
        }
        self.len -= range.len();
        if self.len == 0 {
            self.root.visit(&mut seen);
            self.root = Node::Leaf(Box::default());
            return;
        }
        self.root.remove_range(range, &mut seen);
        while let Node::Inner(children) = &mut self.root {
            if children.len() > 1 {
                break;
            }
            let Some(only) = children.pop() else { break };
            self.root = only.node;
        }
    }

    /// Frees the last leaf, without mending counts: the tree can only be felled further or dropped after that. False
    /// when none was left. Looks at no record.
    pub fn fell(&mut self) -> bool {
        let none_left = self.len == 0;
        if self.root.fell() {
            self.len = 0;
        }
        !none_left
    }

    /// Bytes held on the heap.
    pub fn memory_usage(&self) -> usize {
        self.root.size()
    }

    #[cfg(test)]
    fn check(&self) {
        fn walk(node: &Node, is_root: bool) -> (usize, usize) {
            match node {
                Node::Leaf(leaf) => {
                    assert!((is_root || !leaf.is_empty()) && leaf.len() <= LEAF);
                    assert!(leaf.windows(2).all(|w| w[0].compare(w[1].score, w[1].key()).is_lt()));
                    (leaf.len(), 1)
                }
                Node::Inner(children) => {
                    assert!(!children.is_empty() && children.len() <= INNER);
                    let mut heights = Vec::new();
                    let mut count = 0;
                    for child in children.iter() {
                        let first = child.node.first().unwrap();
                        assert!(first.member == child.first.member);
                        let (len, height) = walk(&child.node, false);
                        assert_eq!(len, child.count);
                        count += len;
                        heights.push(height);
                    }
                    assert!(heights.windows(2).all(|w| w[0] == w[1]));
                    (count, heights[0] + 1)
                }
            }
        }
        assert_eq!(walk(&self.root, true).0, self.len);
    }
}

/// Entries of a range of ranks.
pub(super) struct Entries<'a> {
    tree: &'a Ordered,
    start: usize,
    end: usize,
    front: &'a [Entry],
    back: &'a [Entry],
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.start >= self.end {
            return None;
        }
        if self.front.is_empty() {
            let (leaf, at) = self.tree.leaf_at(self.start)?;
            self.front = &leaf[at..];
        }
        let (entry, rest) = self.front.split_first()?;
        self.front = rest;
        self.start += 1;
        Some(*entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.start, Some(self.end - self.start))
    }
}

impl DoubleEndedIterator for Entries<'_> {
    fn next_back(&mut self) -> Option<Entry> {
        if self.start >= self.end {
            return None;
        }
        if self.back.is_empty() {
            let (leaf, at) = self.tree.leaf_at(self.end - 1)?;
            self.back = &leaf[..=at];
        }
        let (entry, rest) = self.back.split_last()?;
        self.back = rest;
        self.end -= 1;
        Some(*entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::record::Record;

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(steps in prop::collection::vec((0u8..8, 0i32..40, 0u16..600), 1..1500), ascending in any::<bool>()) {
            let records: Vec<Record> = (0..600)
                .map(|n| Record::text(format!("m{n:03}").as_bytes(), b"", None, false))
                .collect();
            let mut tree = Ordered::new();
            let mut model: BTreeMap<(i32, u16), ()> = BTreeMap::new();
            for (step, (what, score, n)) in steps.into_iter().enumerate() {
                let score = if ascending { i32::try_from(step).unwrap() } else { score };
                let record = records[usize::from(n)].as_ref();
                match what {
                    0..=4 => {
                        if model.insert((score, n), ()).is_none() {
                            tree.insert(Entry { score: f64::from(score), member: record.raw() });
                        }
                    }
                    5 | 6 => {
                        let there = model.remove(&(score, n)).is_some();
                        prop_assert_eq!(tree.remove(f64::from(score), record.key()), there);
                    }
                    _ => {
                        let from = usize::from(n) % (model.len() + 1);
                        let to = (from + usize::from(n) / 7).min(model.len());
                        let gone: Vec<_> = model.keys().skip(from).take(to - from).copied().collect();
                        let mut seen = Vec::new();
                        tree.remove_range(from..to, |entry| seen.push(entry.key().to_vec()));
                        let keys: Vec<_> = gone.iter().map(|(_, n)| format!("m{n:03}").into_bytes()).collect();
                        prop_assert_eq!(seen, keys);
                        gone.iter().for_each(|key| { model.remove(key); });
                    }
                }
                tree.check();
                prop_assert_eq!(tree.len(), model.len());
            }
            let all: Vec<f64> = tree.range(0..usize::MAX).map(|entry| entry.score).collect();
            let expected: Vec<f64> = model.keys().map(|(score, _)| f64::from(*score)).collect();
            prop_assert_eq!(&all, &expected);
            let mut back: Vec<f64> = tree.range(0..usize::MAX).rev().map(|entry| entry.score).collect();
            back.reverse();
            prop_assert_eq!(&all, &back);
            for (rank, (score, n)) in model.keys().enumerate() {
                let key = records[usize::from(*n)].key();
                prop_assert_eq!(tree.rank(f64::from(*score), key), Some(rank));
            }
            for score in -1..42 {
                let below = model.keys().filter(|(other, _)| *other < score).count();
                prop_assert_eq!(tree.rank_where(|entry| entry.score < f64::from(score)), below);
            }
        }
    }
}
