//! The table of records: linear hashing over buckets of one cache line.
//!
//! It grows and shrinks one bucket at a time, so no insert ever pays for the whole (a slot that one hash
//! tag swells to millions of keys grows as smoothly as a small one), and it stays about equally full.
//! It serves the keyspace (one table a slot) and the big hashes, sets and sorted sets.
//! It knows nothing of expiry, policies or types; an 8-bit *mark* beside each record belongs to its user.
//!
//! A bucket is 7 words and the address of an overflow bucket. A word is
//! `tag (8) | mark (8) | address (48)`; tag = high hash bits, never 0; 0 = empty; full words come first.
//! Bucket numbers follow Litwin (1980): with `2^level <= n < 2^(level+1)` buckets, a hash belongs to
//! `h mod 2^(level+1)` if that is below `n`, else to `h mod 2^level`.
#![allow(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "positions are bounded by the invariants above")]
#![expect(clippy::cast_possible_truncation, reason = "addresses and bucket numbers fit a word")]

pub(crate) mod groups;

use larder_base::hash::KeyHasher;
use larder_base::rng::Rng;

use crate::record::{Payload, Raw, Record, RecordMut, RecordRef};

const WORDS: usize = 7;
const ADDRESS: u64 = (1 << 48) - 1;
const MARK_SHIFT: u32 = 48;
/// Grow when there are more records than this many per bucket, on average.
const FILL_MAX: usize = 5;
/// Shrink below this many per bucket.
const FILL_MIN: usize = 2;
/// Buckets in one segment: segments are never moved once full.
const SEGMENT: usize = 256;

#[repr(C, align(64))]
#[derive(Default)]
struct Bucket {
    words: [u64; WORDS],
    overflow: Option<Box<Bucket>>,
}

impl Bucket {
    /// A bit for each word with this tag. Without branches: which word it is cannot be guessed, and a
    /// wrong guess costs more than looking at all seven.
    #[inline]
    fn tagged(&self, tag: u64) -> u32 {
        let mut bits = 0;
        for (at, word) in self.words.iter().enumerate() {
            bits |= u32::from(word >> 56 == tag) << at;
        }
        bits
    }
}

/// A table of records. See the head of this file.
#[derive(Default)]
pub struct Table {
    /// Buckets 0..256, in one allocation that grows by about an eighth.
    first: Vec<Bucket>,
    /// The buckets beyond, in segments of 256.
    more: Vec<Vec<Bucket>>,
    len: usize,
    /// Who walks through the buckets in order (a bit each): none may go.
    held: u8,
}

/// Where a record sits; valid until the table changes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    bucket: usize,
    depth: usize,
    word: usize,
}

impl Table {
    /// An empty table; allocates nothing.
    pub const fn new() -> Table {
        Table { first: Vec::new(), more: Vec::new(), len: 0, held: 0 }
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the record with this key is.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let buckets = self.buckets();
        if buckets == 0 {
            return None;
        }
        let index = bucket_of(hash, buckets);
        let tag = tag_of(hash);
        let mut bucket = self.bucket(index);
        let mut depth = 0;
        loop {
            let mut candidates = bucket.tagged(tag);
            while candidates != 0 {
                let at = candidates.trailing_zeros() as usize;
                if raw_of(bucket.words[at]).key() == key {
                    return Some(Place { bucket: index, depth, word: at });
                }
                candidates &= candidates - 1;
            }
            bucket = bucket.overflow.as_deref()?;
            depth += 1;
        }
    }

    /// Where the record with exactly this hash is (two of them are as good as impossible).
    pub(crate) fn find_by_hash(&self, hash: u64, hasher: &KeyHasher) -> Option<Place> {
        let buckets = self.buckets();
        if buckets == 0 {
            return None;
        }
        let index = bucket_of(hash, buckets);
        let tag = tag_of(hash);
        let mut bucket = Some(self.bucket(index));
        let mut depth = 0;
        while let Some(here) = bucket {
            for (at, word) in here.words.iter().enumerate() {
                if word >> 56 == tag && hasher.hash(raw_of(*word).key()) == hash {
                    return Some(Place { bucket: index, depth, word: at });
                }
            }
            bucket = here.overflow.as_deref();
            depth += 1;
        }
        None
    }

    /// Asks the processor to fetch the bucket of this hash.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        let buckets = self.buckets();
        if buckets > 0 {
            prefetch(std::ptr::from_ref(self.bucket(bucket_of(hash, buckets))).cast());
        }
    }

    /// Asks the processor to fetch the records that may be the one of this hash (its bucket should
    /// have been fetched before).
    #[inline]
    pub fn prefetch_record(&self, hash: u64) {
        let buckets = self.buckets();
        if buckets == 0 {
            return;
        }
        let tag = tag_of(hash);
        let bucket = self.bucket(bucket_of(hash, buckets));
        let mut candidates = bucket.tagged(tag);
        while candidates != 0 {
            let word = bucket.words[candidates.trailing_zeros() as usize];
            let at = std::ptr::with_exposed_provenance::<u8>((word & ADDRESS) as usize);
            prefetch(at);
            prefetch(at.wrapping_add(56));
            candidates &= candidates - 1;
        }
    }

    /// Asks the processor to fetch what the record of this hash points to (the record should have been
    /// fetched before).
    #[inline]
    pub fn prefetch_value(&self, hash: u64) {
        let buckets = self.buckets();
        if buckets == 0 {
            return;
        }
        let bucket = self.bucket(bucket_of(hash, buckets));
        let candidates = bucket.tagged(tag_of(hash));
        if candidates == 0 {
            return;
        }
        let word = bucket.words[candidates.trailing_zeros() as usize];
        // SAFETY: the table owns the record and is borrowed.
        if let Payload::Boxed(value) = unsafe { raw_of(word).borrow() }.payload() {
            let at = value.address();
            prefetch(at);
            prefetch(at.wrapping_add(64));
        }
    }

    /// The record at a place.
    #[inline]
    pub fn at(&self, place: Place) -> RecordRef<'_> {
        // SAFETY: the table owns the record and is borrowed for as long as the reference lives.
        unsafe { raw_of(self.word(place)).borrow() }
    }

    /// The record at a place, to change.
    #[inline]
    pub fn at_mut(&mut self, place: Place) -> RecordMut<'_> {
        // SAFETY: the table owns the record and is borrowed exclusively.
        unsafe { raw_of(self.word(place)).borrow_mut() }
    }

    /// The user's mark at a place.
    #[inline]
    pub fn mark(&self, place: Place) -> u8 {
        mark_of(self.word(place))
    }

    /// Sets the user's mark.
    #[inline]
    pub fn set_mark(&mut self, place: Place, mark: u8) {
        let word = self.word_mut(place);
        *word = *word & !(0xff << MARK_SHIFT) | u64::from(mark) << MARK_SHIFT;
    }

    /// Puts a record in the place of another with the same key, and returns the old one. The mark
    /// becomes `mark`.
    #[inline]
    pub fn replace(&mut self, place: Place, record: Record, mark: u8) -> Record {
        let word = self.word_mut(place);
        let old = raw_of(*word);
        *word = *word & (0xff << 56) | u64::from(mark) << MARK_SHIFT | record.into_raw().address();
        // SAFETY: its word was just overwritten, so the table owns it no longer.
        unsafe { old.own() }
    }

    /// Replaces a record by what `change` makes of it (same key).
    pub fn update(&mut self, place: Place, change: impl FnOnce(Record) -> Record) {
        let word = self.word(place);
        // SAFETY: taken out and put back below; a panic in `change` cannot leave the word behind a freed
        // record, because it is cleared to a leak-free state only on success: we abort the word first.
        let old = unsafe { raw_of(word).own() };
        let fresh = change(old).into_raw().address();
        *self.word_mut(place) = word & !ADDRESS | fresh;
    }

    /// Adds a record whose key is not in the table yet.
    pub fn insert(&mut self, hash: u64, record: Record, mark: u8, hasher: &KeyHasher) -> Place {
        if self.len >= self.buckets() * FILL_MAX {
            self.grow(hasher);
        }
        let index = bucket_of(hash, self.buckets());
        let word = tag_of(hash) << 56 | u64::from(mark) << MARK_SHIFT | record.into_raw().address();
        self.len += 1;
        let (depth, at) = push_word(self.bucket_mut(index), word);
        Place { bucket: index, depth, word: at }
    }

    /// Makes room at once for about so many records, where there are none yet: growing to that would mean to read every
    /// key again and again.
    pub fn expect(&mut self, records: usize) {
        if self.first.is_empty() {
            let buckets = (records / FILL_MAX).min(SEGMENT);
            self.first.reserve_exact(buckets);
            self.first.resize_with(buckets, Bucket::default);
        }
    }

    /// Takes the record at a place out.
    pub fn remove(&mut self, place: Place, hasher: &KeyHasher) -> Record {
        let raw = raw_of(self.word(place));
        let last = pop_word(self.bucket_mut(place.bucket));
        if raw_of(last) != raw {
            // The last word of the chain fills the hole.
            *self.word_mut(place) = last;
        }
        self.len -= 1;
        if self.held == 0 && self.len < self.buckets().saturating_sub(1) * FILL_MIN {
            self.shrink(hasher);
        }
        self.leave_nothing();
        // SAFETY: its word is gone, so the table owns it no longer.
        unsafe { raw.own() }
    }

    /// Keeps every bucket, so that a walk by [`Table::walk`] misses no record: growing only moves records
    /// behind it. To be let go afterwards.
    pub(crate) fn hold(&mut self, walker: usize, on: bool) {
        let bit = 1 << (walker & 7);
        self.held = if on { self.held | bit } else { self.held & !bit };
    }

    /// Takes back some of the buckets that are too many since they were held.
    pub(crate) fn trim(&mut self, hasher: &KeyHasher) {
        const MAX: usize = 1024;
        for _ in 0..MAX {
            if self.held != 0 || self.len >= self.buckets().saturating_sub(1) * FILL_MIN {
                break;
            }
            self.shrink(hasher);
        }
        self.leave_nothing();
    }

    /// There are many tables: what all of them keep for nothing, eviction could not get at.
    #[inline]
    fn leave_nothing(&mut self) {
        if self.len == 0 && self.held == 0 && self.more.is_empty() {
            self.first = Vec::new();
        }
    }

    /// Visits the records of whole buckets from number `from` on, until about `budget` records were seen.
    /// Returns the next number; `None` at the end.
    pub(crate) fn walk(
        &mut self,
        from: usize,
        budget: usize,
        mut visit: impl FnMut(RecordMut<'_>),
    ) -> Option<usize> {
        let (buckets, mut seen) = (self.buckets(), 0);
        for index in from..buckets {
            let mut bucket = Some(self.bucket(index));
            while let Some(here) = bucket {
                for word in here.words.iter().filter(|word| **word != 0) {
                    seen += 1;
                    // SAFETY: the table owns its records and is borrowed exclusively; no other reference
                    // to this record is alive.
                    visit(unsafe { raw_of(*word).borrow_mut() });
                }
                bucket = here.overflow.as_deref();
            }
            // An empty bucket is not free either.
            seen += 1;
            if seen >= budget && index + 1 < buckets {
                return Some(index + 1);
            }
        }
        None
    }

    /// All records, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.marked().map(|(record, _)| record)
    }

    /// All records with their marks.
    pub fn marked(&self) -> impl Iterator<Item = (RecordRef<'_>, u8)> {
        let chains = self.first.iter().chain(self.more.iter().flatten());
        chains
            .flat_map(|head| std::iter::successors(Some(head), |bucket| bucket.overflow.as_deref()))
            .flat_map(|bucket| bucket.words.iter())
            .filter(|word| **word != 0)
            // SAFETY: the table owns its records and is borrowed.
            .map(|word| (unsafe { raw_of(*word).borrow() }, mark_of(*word)))
    }

    /// The places of the first `max` records whose mark is wanted.
    pub fn places_by_mark(&self, max: usize, mut wanted: impl FnMut(u8) -> bool) -> Vec<Place> {
        let mut places = Vec::new();
        for index in 0..self.buckets() {
            let mut bucket = Some(self.bucket(index));
            let mut depth = 0;
            while let Some(here) = bucket {
                for (at, word) in here.words.iter().enumerate().take_while(|(_, word)| **word != 0)
                {
                    if wanted(mark_of(*word)) {
                        places.push(Place { bucket: index, depth, word: at });
                    }
                }
                bucket = here.overflow.as_deref();
                depth += 1;
            }
            if places.len() >= max {
                break;
            }
        }
        places
    }

    /// Whether a walker holds the buckets.
    pub(crate) fn is_held(&self, walker: usize) -> bool {
        self.held & 1 << (walker & 7) != 0
    }

    /// One step of a scan that returns every record present throughout at least once, whatever the
    /// table does between steps (reverse binary cursor, as Pieter Noordhuis devised for Redis).
    /// Start with 0; 0 comes back at the end.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(RecordRef<'_>)) -> u64 {
        let buckets = self.buckets();
        if buckets == 0 {
            return 0;
        }
        let (low, high) = masks(buckets);
        let small = (cursor & low) as usize;
        // A bucket that was split already has a twin: then the finer mask counts.
        let split = small + low as usize + 1 < buckets;
        let mask = if split { high } else { low };
        let mut bucket = Some(self.bucket((cursor & mask) as usize));
        while let Some(here) = bucket {
            for word in here.words.iter().filter(|word| **word != 0) {
                // SAFETY: the table owns its records and is borrowed.
                visit(unsafe { raw_of(*word).borrow() });
            }
            bucket = here.overflow.as_deref();
        }
        let mut next = (cursor | !mask).reverse_bits();
        next = next.wrapping_add(1);
        next.reverse_bits()
    }

    /// A random record, nearly uniform; `None` when empty.
    pub fn random(&self, rng: &mut Rng) -> Option<Place> {
        if self.len == 0 {
            return None;
        }
        let buckets = self.buckets();
        loop {
            let index = rng.below_usize(buckets);
            // Rejection by chain length keeps records of full buckets from being disfavoured.
            let pick = rng.below_usize(WORDS + 1);
            let mut bucket = self.bucket(index);
            let mut skip = pick;
            let mut depth = 0;
            if bucket.overflow.is_some() {
                let chain = chain_len(bucket);
                skip = rng.below_usize(chain.max(WORDS + 1));
            }
            while skip >= WORDS {
                let Some(next) = bucket.overflow.as_deref() else { break };
                bucket = next;
                skip -= WORDS;
                depth += 1;
            }
            if skip < WORDS && bucket.words[skip] != 0 {
                return Some(Place { bucket: index, depth, word: skip });
            }
        }
    }

    /// Bytes of the table itself, without the records.
    pub fn memory_usage(&self) -> usize {
        /// Overflow is counted in about so many buckets, spread evenly: each may lie in a page that nobody touched for
        /// long, which can cost 0.1 ms where the machine is a virtual one.
        const SAMPLE: usize = 16;
        let stride = self.buckets().div_ceil(SAMPLE).max(1);
        let overflow: usize = (0..self.buckets())
            .step_by(stride)
            .map(|index| {
                std::iter::successors(self.bucket(index).overflow.as_deref(), |b| {
                    b.overflow.as_deref()
                })
                .count()
            })
            .sum::<usize>()
            * stride;
        (self.first.capacity() + self.more.len() * SEGMENT + overflow) * size_of::<Bucket>()
    }

    #[inline]
    fn buckets(&self) -> usize {
        match self.more.last() {
            None => self.first.len(),
            Some(last) => SEGMENT * self.more.len() + last.len(),
        }
    }

    #[inline]
    fn bucket(&self, index: usize) -> &Bucket {
        if index < SEGMENT {
            &self.first[index]
        } else {
            &self.more[index / SEGMENT - 1][index % SEGMENT]
        }
    }

    #[inline]
    fn bucket_mut(&mut self, index: usize) -> &mut Bucket {
        if index < SEGMENT {
            &mut self.first[index]
        } else {
            &mut self.more[index / SEGMENT - 1][index % SEGMENT]
        }
    }

    #[inline]
    fn word(&self, place: Place) -> u64 {
        let mut bucket = self.bucket(place.bucket);
        for _ in 0..place.depth {
            match bucket.overflow.as_deref() {
                Some(next) => bucket = next,
                None => break,
            }
        }
        bucket.words[place.word]
    }

    #[inline]
    fn word_mut(&mut self, place: Place) -> &mut u64 {
        let mut bucket = self.bucket_mut(place.bucket);
        for _ in 0..place.depth {
            bucket = bucket.overflow.get_or_insert_default();
        }
        &mut bucket.words[place.word]
    }

    /// Adds one bucket and moves what belongs there.
    fn grow(&mut self, hasher: &KeyHasher) {
        let fresh = self.buckets();
        if fresh < SEGMENT {
            if self.first.len() == self.first.capacity() {
                let more = (self.first.len() / 8).max(1);
                self.first.reserve_exact(more.min(SEGMENT - self.first.len()));
            }
            self.first.push(Bucket::default());
        } else {
            if fresh.is_multiple_of(SEGMENT) {
                self.more.push(Vec::with_capacity(SEGMENT));
            }
            if let Some(last) = self.more.last_mut() {
                last.push(Bucket::default());
            }
        }
        let buckets = fresh + 1;
        if fresh == 0 {
            return;
        }
        let (low, _) = masks(fresh);
        let source = fresh & low as usize;
        let mut chain = std::mem::take(self.bucket_mut(source));
        loop {
            // Each key is to be read: they are fetched together, not one by one.
            for word in chain.words {
                prefetch(std::ptr::with_exposed_provenance((word & ADDRESS) as usize));
            }
            for word in chain.words.into_iter().filter(|word| *word != 0) {
                let home = bucket_of(hasher.hash(raw_of(word).key()), buckets);
                push_word(self.bucket_mut(home), word);
            }
            match chain.overflow.take() {
                Some(next) => chain = *next,
                None => break,
            }
        }
    }

    /// Takes the last bucket away and moves its records to its twin.
    fn shrink(&mut self, _hasher: &KeyHasher) {
        let gone = self.buckets() - 1;
        let removed = match self.more.last_mut() {
            Some(last) => {
                let bucket = last.pop();
                if last.is_empty() {
                    self.more.pop();
                }
                bucket
            }
            None => {
                let bucket = self.first.pop();
                if self.first.capacity() > self.first.len() * 5 / 4 + 2 {
                    self.first.shrink_to(self.first.len());
                }
                bucket
            }
        };
        let Some(mut chain) = removed else { return };
        let (low, _) = masks(gone);
        let twin = gone & low as usize;
        loop {
            for word in chain.words.into_iter().filter(|word| *word != 0) {
                push_word(self.bucket_mut(twin), word);
            }
            match chain.overflow.take() {
                Some(next) => chain = *next,
                None => break,
            }
        }
    }
}

impl Table {
    /// Hands out what is in the last bucket and takes that away, without moving anything: the table can only be torn
    /// further or dropped after that. False when none is left.
    pub(crate) fn tear(&mut self, mut gone: impl FnMut(Record)) -> bool {
        let last = match self.more.last_mut() {
            Some(segment) => segment.pop(),
            None => self.first.pop(),
        };
        if self.more.last().is_some_and(Vec::is_empty) {
            self.more.pop();
        }
        // Those of the next step, so that they come while the ones at hand are freed.
        if let Some(next) = self.buckets().checked_sub(1) {
            for word in self.bucket(next).words.into_iter().filter(|word| *word != 0) {
                prefetch(std::ptr::with_exposed_provenance::<u8>((word & ADDRESS) as usize));
            }
        }
        let Some(mut chain) = last else { return false };
        loop {
            for word in chain.words.into_iter().filter(|word| *word != 0) {
                self.len -= 1;
                // SAFETY: every word is a record that this table owns; its bucket was taken out.
                gone(unsafe { raw_of(word).own() });
            }
            match chain.overflow.take() {
                Some(next) => chain = *next,
                None => break,
            }
        }
        self.buckets() > 0
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for head in self.first.iter_mut().chain(self.more.iter_mut().flatten()) {
            let mut chain = std::mem::take(head);
            loop {
                for word in chain.words.into_iter().filter(|word| *word != 0) {
                    // SAFETY: every word is a record that this table owns; each is dropped once.
                    drop(unsafe { raw_of(word).own() });
                }
                match chain.overflow.take() {
                    Some(next) => chain = *next,
                    None => break,
                }
            }
        }
    }
}

impl Clone for Table {
    fn clone(&self) -> Table {
        let copy = |bucket: &Bucket| copy_chain(bucket);
        Table {
            first: self.first.iter().map(copy).collect(),
            more: self
                .more
                .iter()
                .map(|segment| {
                    let mut fresh = Vec::with_capacity(SEGMENT);
                    fresh.extend(segment.iter().map(copy));
                    fresh
                })
                .collect(),
            len: self.len,
            held: 0,
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("len", &self.len).field("buckets", &self.buckets()).finish()
    }
}

fn copy_chain(bucket: &Bucket) -> Bucket {
    let mut fresh = Bucket::default();
    for (to, from) in fresh.words.iter_mut().zip(&bucket.words).filter(|(_, from)| **from != 0) {
        // SAFETY: the table owns the record and is borrowed.
        let record = unsafe { raw_of(*from).borrow() };
        let mut copy = record.copy_as(record.key());
        copy.as_mut().set_eviction_bits(record.eviction_bits());
        *to = *from & !ADDRESS | copy.into_raw().address();
    }
    fresh.overflow = bucket.overflow.as_deref().map(|next| Box::new(copy_chain(next)));
    fresh
}

#[inline]
fn tag_of(hash: u64) -> u64 {
    (hash >> 56).max(1)
}

#[inline]
fn mark_of(word: u64) -> u8 {
    (word >> MARK_SHIFT).to_le_bytes()[0]
}

#[inline]
fn raw_of(word: u64) -> Raw {
    debug_assert!(word != 0);
    // SAFETY: words hold addresses of live records only.
    unsafe { Raw::from_address(word & ADDRESS) }
}

/// The coarse and the fine mask for a number of buckets.
#[inline]
fn masks(buckets: usize) -> (u64, u64) {
    let level = buckets.ilog2();
    ((1 << level) - 1, (2 << level) - 1)
}

#[inline]
fn bucket_of(hash: u64, buckets: usize) -> usize {
    let (low, high) = masks(buckets);
    let fine = (hash & high) as usize;
    if fine < buckets { fine } else { (hash & low) as usize }
}

fn chain_len(bucket: &Bucket) -> usize {
    let links = std::iter::successors(Some(bucket), |b| b.overflow.as_deref());
    links.map(|b| b.words.iter().filter(|word| **word != 0).count()).sum()
}

fn push_word(mut bucket: &mut Bucket, word: u64) -> (usize, usize) {
    let mut depth = 0;
    loop {
        if let Some(at) = bucket.words.iter().position(|word| *word == 0) {
            bucket.words[at] = word;
            return (depth, at);
        }
        bucket = bucket.overflow.get_or_insert_default();
        depth += 1;
    }
}

/// Takes the last word of a chain, freeing an overflow bucket that becomes empty.
fn pop_word(bucket: &mut Bucket) -> u64 {
    if let Some(next) = bucket.overflow.as_deref_mut() {
        let word = pop_word(next);
        if next.words[0] == 0 {
            bucket.overflow = None;
        }
        return word;
    }
    let filled = bucket.words.iter().take_while(|word| **word != 0).count();
    filled.checked_sub(1).map_or(0, |last| std::mem::take(&mut bucket.words[last]))
}

#[inline]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests;
