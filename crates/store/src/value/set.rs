//! Sets: sorted integers, packed members, or a table of bare records. The rules of conversion are those
//! of Redis 7.2. It knows no key, no reply and no clock.

mod build;

use larder_base::number;
use larder_base::rng::Rng;

use super::members::Members;
use super::packed::{Blob, Encoded, Form, FormMut, OneWord, Plain};
use super::{PACKED_BYTES_MAX, Text, Thresholds, ints};
use crate::record::Record;
pub use build::SetBuilder;

/// The longest text of an integer.
const INTEGER_TEXT_MAX: usize = 20;

/// A set of distinct texts.
#[derive(Clone)]
pub struct Set {
    word: OneWord<Blob, Members>,
}

impl Set {
    /// Where its members begin, to fetch them ahead.
    #[inline]
    pub(crate) fn address(&self) -> *const u8 {
        self.word.address()
    }

    /// An empty set; allocates nothing.
    pub fn new() -> Set {
        Set { word: OneWord::small(Blob::new()) }
    }

    /// Number of members.
    #[inline]
    pub fn len(&self) -> usize {
        match self.word.form() {
            Form::Small(blob) => blob.count(),
            Form::Big(members) => members.table.len(),
        }
    }

    /// Whether there is no member.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is in the set.
    pub fn contains(&self, member: &[u8]) -> bool {
        match self.word.form() {
            Form::Small(blob) if blob.form() > 0 => {
                number::parse_i64(member).is_some_and(|value| ints::search(blob, value).is_ok())
            }
            Form::Small(blob) => Plain::view(blob).find(&Encoded::text(member), 0, 1).is_some(),
            Form::Big(members) => members.find(member).is_some(),
        }
    }

    /// Adds a member; false if it is there already.
    pub fn insert(&mut self, member: &[u8], limits: &Thresholds) -> bool {
        if let FormMut::Big(members) = self.word.form_mut() {
            if members.find(member).is_some() {
                return false;
            }
            members.insert(Record::text(member, b"", None, false));
            return true;
        }
        self.insert_small(member, limits)
    }

    fn insert_small(&mut self, member: &[u8], limits: &Thresholds) -> bool {
        let FormMut::Small(blob) = self.word.form_mut() else { return false };
        let count = blob.count();
        let integer = number::parse_i64(member);
        if blob.form() > 0 || count == 0 {
            if let Some(value) = integer
                && (count > 0 || limits.set_intset > 0)
            {
                let added = ints::insert(blob, value);
                if added && blob.count() > limits.set_intset {
                    self.enlarge(limits);
                }
                return added;
            }
            let stays_packed = count < limits.set_entries
                && member.len() <= limits.set_value
                && (count == 0 || limits.set_value >= INTEGER_TEXT_MAX);
            if !stays_packed {
                self.enlarge(limits);
                return self.insert(member, limits);
            }
            pack_integers(blob);
        }
        let element = Encoded::text(member);
        if Plain::view(blob).find(&element, 0, 1).is_some() {
            return false;
        }
        let too_much = blob.len() + element.size() > PACKED_BYTES_MAX;
        if blob.count() >= limits.set_entries || member.len() > limits.set_value || too_much {
            self.enlarge(limits);
            return self.insert(member, limits);
        }
        change_packed(blob, |packed| packed.push(&[element]));
        true
    }

    /// Takes a member out; false if it is not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.word.form_mut() {
            FormMut::Small(blob) if blob.form() > 0 => {
                number::parse_i64(member).is_some_and(|value| ints::remove(blob, value))
            }
            FormMut::Small(blob) => {
                let Some(at) = Plain::view(blob).find(&Encoded::text(member), 0, 1) else {
                    return false;
                };
                change_packed(blob, |packed| packed.remove(at, 1));
                true
            }
            FormMut::Big(members) => match members.find(member) {
                Some(place) => {
                    drop(members.remove(place));
                    true
                }
                None => false,
            },
        }
    }

    /// All members, in no particular order (integers ascending while there are only integers).
    pub fn iter(&self) -> impl Iterator<Item = Text<'_>> {
        let (small, big) = match self.word.form() {
            Form::Small(blob) => (Some(blob), None),
            Form::Big(members) => (None, Some(members)),
        };
        let integers = small.filter(|blob| blob.form() > 0);
        let packed = small.filter(|blob| blob.form() == 0);
        let integers = integers.into_iter().flat_map(ints::iter).map(Text::Int);
        let packed = packed.into_iter().flat_map(|blob| Plain::view(blob).iter());
        let records = big.into_iter().flat_map(|members| members.table.iter());
        integers.chain(packed).chain(records.map(|record| Text::Bytes(record.key())))
    }

    /// A random member, each about as likely; `None` when empty.
    pub fn random(&self, rng: &mut Rng) -> Option<Text<'_>> {
        match self.word.form() {
            Form::Small(blob) => {
                let index = rng.below_usize(blob.count());
                if blob.form() > 0 {
                    return ints::get(blob, index).map(Text::Int);
                }
                let view = Plain::view(blob);
                view.get(view.skip(0, index))
            }
            Form::Big(members) => members.random(rng).map(|record| Text::Bytes(record.key())),
        }
    }

    /// Takes a random member out.
    pub fn pop_random(&mut self, rng: &mut Rng) -> Option<Vec<u8>> {
        let member = self.random(rng)?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// One step of a scan over about `count` members; every member that stays throughout is visited at
    /// least once. Start with 0; 0 comes back at the end. Small sets are visited whole.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Text<'_>)) -> u64 {
        match self.word.form() {
            Form::Small(_) => {
                self.iter().for_each(visit);
                0
            }
            Form::Big(members) => {
                members.scan(cursor, count, |record| visit(Text::Bytes(record.key())))
            }
        }
    }

    pub(super) fn members_mut(&mut self) -> Option<&mut Members> {
        match self.word.form_mut() {
            FormMut::Small(_) => None,
            FormMut::Big(members) => Some(members),
        }
    }

    /// How OBJECT ENCODING calls the form.
    pub fn encoding_name(&self) -> &'static str {
        match self.word.form() {
            Form::Small(blob) if blob.form() > 0 => "intset",
            Form::Small(_) => "listpack",
            Form::Big(_) => "hashtable",
        }
    }

    /// Bytes held on the heap.
    pub fn memory_usage(&self) -> usize {
        match self.word.form() {
            Form::Small(blob) => blob.memory_usage(),
            Form::Big(members) => members.memory_usage(),
        }
    }

    /// About how many allocations there are to free.
    pub fn deep_len(&self) -> usize {
        match self.word.form() {
            Form::Small(_) => 1,
            Form::Big(members) => members.table.len(),
        }
    }

    fn enlarge(&mut self, limits: &Thresholds) {
        let mut members = Members::new(limits.hasher);
        for member in self.iter() {
            let record = member.with_bytes(|bytes| Record::text(bytes, b"", None, false));
            members.insert(record);
        }
        self.word = OneWord::big(Box::new(members));
    }
}

/// Changes the packed members in a blob.
fn change_packed(blob: &mut Blob, change: impl FnOnce(&mut Plain)) {
    let mut packed = Plain::from_blob(std::mem::replace(blob, Blob::new()));
    change(&mut packed);
    *blob = packed.into_blob();
}

/// Turns sorted integers into packed members.
fn pack_integers(blob: &mut Blob) {
    let mut packed = Plain::new();
    for value in ints::iter(blob) {
        packed.push(&[Encoded::integer(value)]);
    }
    *blob = packed.into_blob();
}
