//! Hashes: packed pairs, or a table of records with the value as payload. Fields may have deadlines of
//! their own; a hash with any is a table, with an index of deadlines. It knows no key and no clock: the
//! present moment comes in wherever it decides what exists.

mod build;

use larder_base::rng::Rng;
use larder_base::time::Millis;

use super::members::Members;
use super::ordered::{Entry, Ordered};
use super::packed::{Encoded, Form, FormMut, OneWord, Plain};
use super::{PACKED_BYTES_MAX, Text, Thresholds};
use crate::record::{Record, RecordRef};
pub use build::HashBuilder;

/// A map from texts to texts.
pub struct Hash {
    word: OneWord<Plain, Fields>,
}

/// The big form.
struct Fields {
    members: Members,
    /// The fields with a deadline, by deadline (whose milliseconds are exact as doubles up to 2^53).
    due: Ordered,
}

#[inline]
fn is_live(record: RecordRef<'_>, now: Millis) -> bool {
    record.deadline().is_none_or(|when| when > now)
}

fn key_of(when: Millis) -> f64 {
    when.0 as f64
}

impl Fields {
    /// Takes a record out of the index of deadlines; to be called before it changes or goes.
    fn forget_deadline(&mut self, field: &[u8]) {
        let when = self.members.get(field).and_then(RecordRef::deadline);
        if let Some(when) = when {
            self.due.remove(key_of(when), field);
        }
    }

    /// A random one of those whose deadline is ahead.
    fn random_dated(&self, rng: &mut Rng, now: Millis) -> Option<RecordRef<'_>> {
        let due = self.due_len(now);
        let ahead = self.due.len().checked_sub(due).filter(|ahead| *ahead > 0)?;
        let at = due + rng.below_usize(ahead);
        self.members.get(self.due.range(at..at + 1).next()?.key())
    }

    /// Number of fields that are due.
    fn due_len(&self, now: Millis) -> usize {
        let until = key_of(now);
        self.due.rank_where(|entry| entry.score <= until)
    }

    fn note_deadline(&mut self, field: &[u8]) {
        let Some(record) = self.members.get(field) else { return };
        if let Some(when) = record.deadline() {
            self.due.insert(Entry { score: key_of(when), member: record.raw() });
        }
    }

    /// Sets a field. Returns whether it was created (an expired one counts as absent).
    fn set(&mut self, field: &[u8], value: &[u8], keep_deadline: bool, now: Millis) -> bool {
        let Some(place) = self.members.find(field) else {
            self.members.insert(Record::text(field, value, None, false));
            return true;
        };
        let record = self.members.table.at(place);
        let created = !is_live(record, now);
        let old = record.deadline();
        let deadline = old.filter(|_| keep_deadline && !created);
        if old == deadline && self.members.overwrite(place, value) {
            return created;
        }
        if old.is_some() {
            self.forget_deadline(field);
        }
        let record = Record::text(field, value, deadline, false);
        self.members.replace(place, record);
        if deadline.is_some() {
            self.note_deadline(field);
        }
        created
    }

    fn remove(&mut self, field: &[u8], now: Millis) -> bool {
        let Some(place) = self.members.find(field) else { return false };
        if self.members.table.at(place).deadline().is_some() {
            self.forget_deadline(field);
        }
        let record = self.members.remove(place);
        is_live(record.as_ref(), now)
    }
}

impl Hash {
    /// Where its members begin, to fetch them ahead.
    #[inline]
    pub(crate) fn address(&self) -> *const u8 {
        self.word.address()
    }

    /// An empty hash; allocates nothing.
    pub fn new() -> Hash {
        Hash { word: OneWord::small(Plain::new()) }
    }

    /// Number of fields, expired ones that were not removed yet included.
    #[inline]
    pub fn len(&self) -> usize {
        match self.word.form() {
            Form::Small(packed) => packed.count() / 2,
            Form::Big(fields) => fields.members.table.len(),
        }
    }

    /// Whether there is no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of live fields.
    pub fn live_len(&self, now: Millis) -> usize {
        match self.word.form() {
            Form::Small(packed) => packed.count() / 2,
            Form::Big(fields) => fields.members.table.len().saturating_sub(fields.due_len(now)),
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: &[u8], now: Millis) -> Option<Text<'_>> {
        match self.word.form() {
            Form::Small(packed) => {
                let view = packed.as_view();
                let at = view.find(&Encoded::text(field), 0, 2)?;
                view.get(view.skip(at, 1))
            }
            Form::Big(fields) => {
                let record = fields.members.get(field).filter(|record| is_live(*record, now))?;
                Some(Text::Bytes(record.inline_text()))
            }
        }
    }

    /// Whether there is such a field.
    pub fn contains(&self, field: &[u8], now: Millis) -> bool {
        self.get(field, now).is_some()
    }

    /// Sets a field and clears its deadline. Returns whether the field is new.
    #[inline]
    pub fn set(&mut self, field: &[u8], value: &[u8], now: Millis, limits: &Thresholds) -> bool {
        self.put(field, value, false, now, limits)
    }

    /// As [`Hash::set`], but an existing field keeps its deadline.
    pub fn overwrite(
        &mut self,
        field: &[u8],
        value: &[u8],
        now: Millis,
        limits: &Thresholds,
    ) -> bool {
        self.put(field, value, true, now, limits)
    }

    fn put(
        &mut self,
        field: &[u8],
        value: &[u8],
        keep_deadline: bool,
        now: Millis,
        limits: &Thresholds,
    ) -> bool {
        match self.word.form_mut() {
            FormMut::Big(fields) => return fields.set(field, value, keep_deadline, now),
            FormMut::Small(packed) => {
                let (name, text) = (Encoded::text(field), Encoded::text(value));
                let fits = field.len().max(value.len()) <= limits.hash_value
                    && packed.end() + name.size() + text.size() <= PACKED_BYTES_MAX;
                let view = packed.as_view();
                if fits && let Some(at) = view.find(&name, 0, 2) {
                    let at = view.skip(at, 1);
                    packed.replace(at, 1, &[text]);
                    return false;
                }
                if fits && packed.count() / 2 < limits.hash_entries {
                    packed.push(&[name, text]);
                    return true;
                }
            }
        }
        self.enlarge(limits).set(field, value, keep_deadline, now)
    }

    /// Takes a field out. Returns whether a live one was there.
    pub fn remove(&mut self, field: &[u8], now: Millis) -> bool {
        match self.word.form_mut() {
            FormMut::Small(packed) => {
                let Some(at) = packed.as_view().find(&Encoded::text(field), 0, 2) else {
                    return false;
                };
                packed.remove(at, 2);
                true
            }
            FormMut::Big(fields) => fields.remove(field, now),
        }
    }

    /// All live fields with their values.
    pub fn iter(&self, now: Millis) -> impl Iterator<Item = (Text<'_>, Text<'_>)> {
        self.entries()
            .filter(move |(_, _, when)| when.is_none_or(|when| when > now))
            .map(|(field, value, _)| (field, value))
    }

    /// All fields, expired or not, with values and deadlines.
    pub fn entries(&self) -> impl Iterator<Item = (Text<'_>, Text<'_>, Option<Millis>)> {
        let (small, big) = match self.word.form() {
            Form::Small(packed) => (Some(packed), None),
            Form::Big(fields) => (None, Some(fields)),
        };
        let mut elements = small.map(|packed| packed.as_view().iter());
        let pairs = std::iter::from_fn(move || {
            let elements = elements.as_mut()?;
            Some((elements.next()?, elements.next()?, None))
        });
        let records = big.into_iter().flat_map(|fields| fields.members.table.iter());
        pairs.chain(records.map(|record| {
            (Text::Bytes(record.key()), Text::Bytes(record.inline_text()), record.deadline())
        }))
    }

    /// A random live field with its value; `None` if there is none. While nearly all fields are due and wait for
    /// their removal, it is one with a deadline, or `None` though there are some without.
    pub fn random(&self, rng: &mut Rng, now: Millis) -> Option<(Text<'_>, Text<'_>)> {
        const TRIES: usize = 100;
        match self.word.form() {
            Form::Small(packed) => {
                let view = packed.as_view();
                let at = view.skip(0, 2 * rng.below_usize(self.len()));
                let (field, next) = view.next(at)?;
                Some((field, view.get(next)?))
            }
            Form::Big(fields) => {
                let mut picks = (0..TRIES).filter_map(|_| fields.members.random(rng));
                let record = picks
                    .find(|record| is_live(*record, now))
                    .or_else(|| fields.random_dated(rng, now))?;
                Some((Text::Bytes(record.key()), Text::Bytes(record.inline_text())))
            }
        }
    }

    /// One step of a scan over about `count` fields, showing the live ones; as [`super::Set::scan`].
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        now: Millis,
        mut visit: impl FnMut(Text<'_>, Text<'_>),
    ) -> u64 {
        match self.word.form() {
            Form::Small(_) => {
                self.iter(now).for_each(|(field, value)| visit(field, value));
                0
            }
            Form::Big(fields) => fields.members.scan(cursor, count, |record| {
                if is_live(record, now) {
                    visit(Text::Bytes(record.key()), Text::Bytes(record.inline_text()));
                }
            }),
        }
    }

    /// The deadline of a live field: outer `None` = no such field, inner `None` = it has none.
    pub fn deadline(&self, field: &[u8], now: Millis) -> Option<Option<Millis>> {
        match self.word.form() {
            Form::Small(_) => self.contains(field, now).then_some(None),
            Form::Big(fields) => {
                let record = fields.members.get(field).filter(|record| is_live(*record, now))?;
                Some(record.deadline())
            }
        }
    }

    /// Gives a live field a deadline, or takes it away. Returns false if there is no such field.
    pub fn set_deadline(
        &mut self,
        field: &[u8],
        deadline: Option<Millis>,
        now: Millis,
        limits: &Thresholds,
    ) -> bool {
        match self.deadline(field, now) {
            None => return false,
            Some(old) if old == deadline => return true,
            Some(_) => {}
        }
        let fields = self.enlarge(limits);
        fields.forget_deadline(field);
        if let Some(place) = fields.members.find(field) {
            fields.members.set_deadline(place, deadline);
        }
        fields.note_deadline(field);
        true
    }

    /// The earliest deadline of any field.
    pub fn earliest_expiry(&self) -> Option<Millis> {
        match self.word.form() {
            Form::Small(_) => None,
            Form::Big(fields) => {
                let first = fields.due.range(0..1).next()?;
                fields.members.get(first.key()).and_then(RecordRef::deadline)
            }
        }
    }

    /// Number of fields with a deadline.
    pub fn volatile_len(&self) -> usize {
        match self.word.form() {
            Form::Small(_) => 0,
            Form::Big(fields) => fields.due.len(),
        }
    }

    /// Removes at most `budget` expired fields, telling each one's name. Returns how many.
    pub fn remove_expired(
        &mut self,
        now: Millis,
        budget: usize,
        mut removed: impl FnMut(&[u8]),
    ) -> usize {
        let FormMut::Big(fields) = self.word.form_mut() else { return 0 };
        let mut count = 0;
        while count < budget {
            let Some(first) = fields.due.range(0..1).next() else { break };
            if first.score > key_of(now) {
                break;
            }
            fields.due.remove_range(0..1, |_| {});
            let Some(place) = fields.members.find(first.key()) else { break };
            let record = fields.members.remove(place);
            removed(record.key());
            count += 1;
        }
        count
    }

    pub(super) fn members_mut(&mut self) -> Option<&mut Members> {
        match self.word.form_mut() {
            FormMut::Small(_) => None,
            FormMut::Big(fields) => Some(&mut fields.members),
        }
    }

    /// Takes the tree of the big form out, to be freed node by node.
    pub(super) fn take_tree(&mut self) -> Option<Ordered> {
        match self.word.form_mut() {
            FormMut::Small(_) => None,
            FormMut::Big(fields) => Some(std::mem::replace(&mut fields.due, Ordered::new())),
        }
    }

    /// How OBJECT ENCODING calls the form.
    pub fn encoding_name(&self) -> &'static str {
        match self.word.form() {
            Form::Small(_) => "listpack",
            Form::Big(_) => "hashtable",
        }
    }

    /// Bytes held on the heap.
    pub fn memory_usage(&self) -> usize {
        match self.word.form() {
            Form::Small(packed) => packed.memory_usage(),
            Form::Big(fields) => fields.members.memory_usage() + fields.due.memory_usage(),
        }
    }

    /// About how many allocations there are to free.
    pub fn deep_len(&self) -> usize {
        match self.word.form() {
            Form::Small(_) => 1,
            Form::Big(fields) => fields.members.table.len(),
        }
    }

    /// The big form, converting if need be.
    fn enlarge(&mut self, limits: &Thresholds) -> &mut Fields {
        self.word.enlarge(|packed| {
            let mut members = Members::new(limits.hasher);
            let mut elements = packed.as_view().iter();
            while let (Some(field), Some(value)) = (elements.next(), elements.next()) {
                let record = field.with_bytes(|field| {
                    value.with_bytes(|value| Record::text(field, value, None, false))
                });
                members.insert(record);
            }
            Box::new(Fields { members, due: Ordered::new() })
        })
    }
}

impl Clone for Fields {
    fn clone(&self) -> Fields {
        let members = self.members.clone();
        let mut due = Ordered::new();
        for entry in self.due.range(0..self.due.len()) {
            if let Some(record) = members.get(entry.key()) {
                due.insert(Entry { score: entry.score, member: record.raw() });
            }
        }
        Fields { members, due }
    }
}

impl Clone for Hash {
    fn clone(&self) -> Hash {
        Hash { word: self.word.clone() }
    }
}
