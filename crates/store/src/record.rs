//! One record: a key and what belongs to it, in a single heap allocation behind one word.
//!
//! The keyspace, big hashes, big sets and big sorted sets are all tables of records: a key with its value,
//! a field with its value, a bare member, a member with its score. A record knows nothing of tables,
//! slots, clocks or policies; it only stores and returns bytes.
//!
//! Layout (native endian, no padding but where said):
//!
//! ```text
//! 0   u32  meta: bits 0..2 form, 2 has deadline, 6..8 snapshot lanes, 8..32 eviction bits;
//!          bits 3..6 of boxed records: type of the value; of others: 3 wide lengths, 4 raw mark
//! 4   [boxed records: key length as u32, then the one word that the value is]
//! 4   [others: key length and payload length: two u8, or two u32 when wide]
//! ..  i64 deadline in unix milliseconds, if there is one
//! ..  key bytes
//! ..  payload: text bytes, or 8 bytes of i64; nothing when boxed
//! ```
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use larder_base::time::Millis;

use crate::value::{Hash, Kind, List, Set, SortedSet, Value, ValueMut, ValueRef};

const FORM_MASK: u32 = 0b11;
const FORM_TEXT: u32 = 0;
const FORM_INT: u32 = 1;
const FORM_BOXED: u32 = 2;
const HAS_DEADLINE: u32 = 1 << 2;
const WIDE: u32 = 1 << 3;
const RAW: u32 = 1 << 4;
const LANES_SHIFT: u32 = 6;
const LANES: u32 = 0b11 << LANES_SHIFT;
const EVICTION_SHIFT: u32 = 8;
/// Of boxed records, in the place of `WIDE` and `RAW`.
const KIND_SHIFT: u32 = 3;
const KIND: u32 = 0b111 << KIND_SHIFT;
const VALUE_OFFSET: usize = 8;
const BOXED_HEAD: usize = VALUE_OFFSET + size_of::<u64>();
const NARROW_MAX: usize = 255;

/// What a record carries besides its key.
#[derive(Debug)]
pub enum Payload<'a> {
    /// Text stored inline.
    Text(&'a [u8]),
    /// An integer in canonical decimal form, stored as 8 bytes.
    Int(i64),
    /// A value with a life of its own (collection, big text).
    Boxed(ValueRef<'a>),
}

/// An owned record; one word.
pub struct Record {
    raw: Raw,
}

/// A record that somebody else owns, to read; one word.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    raw: Raw,
    owner: PhantomData<&'a Record>,
}

/// A record that somebody else owns, to change in place.
pub struct RecordMut<'a> {
    raw: Raw,
    owner: PhantomData<&'a mut Record>,
}

/// The address of a live record. The reading functions give any lifetime asked for: only the three
/// wrappers above call them, each with the lifetime that it vouches for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw {
    at: NonNull<u8>,
}

// SAFETY: a record owns its allocation alone, and everything in it is `Send`.
unsafe impl Send for Record {}
// SAFETY: shared references only read.
unsafe impl Sync for Record {}
// SAFETY: as shared and exclusive references to a record.
unsafe impl Send for RecordRef<'_> {}
// SAFETY: an address; reading through it has a contract of its own.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

/// Where the parts of a record with this head lie.
#[derive(Clone, Copy)]
struct Parts {
    deadline: usize,
    key: usize,
    key_len: usize,
    payload: usize,
    payload_len: usize,
}

impl Parts {
    fn size(self) -> usize {
        self.payload + self.payload_len
    }

    #[inline]
    fn of(meta: u32, key_len: usize, payload_len: usize) -> Parts {
        let deadline = if meta & FORM_MASK == FORM_BOXED {
            BOXED_HEAD
        } else if meta & WIDE != 0 {
            4 + 8
        } else {
            4 + 2
        };
        let key = deadline + if meta & HAS_DEADLINE != 0 { 8 } else { 0 };
        Parts { deadline, key, key_len, payload: key + key_len, payload_len }
    }
}

fn layout(size: usize) -> Layout {
    // Eight bytes of alignment: boxed values need it, and the low bits stay free.
    Layout::from_size_align(size, 8).unwrap_or(Layout::new::<u64>())
}

impl Raw {
    #[inline]
    fn meta(self) -> u32 {
        // SAFETY: every live record starts with its meta word.
        unsafe { ptr::read(self.at.as_ptr().cast::<u32>()) }
    }

    #[inline]
    fn set_meta(self, meta: u32) {
        // SAFETY: as `meta`; callers own the record or borrow it exclusively.
        unsafe { ptr::write(self.at.as_ptr().cast::<u32>(), meta) }
    }

    #[inline]
    fn parts(self) -> Parts {
        let meta = self.meta();
        let lengths = self.at.as_ptr().wrapping_add(4);
        // SAFETY: the lengths follow the meta word in the width that form and flag say.
        let (key_len, payload_len) = unsafe {
            if meta & FORM_MASK == FORM_BOXED {
                (ptr::read(lengths.cast::<u32>()) as usize, 0)
            } else if meta & WIDE != 0 {
                let [key, payload] = ptr::read_unaligned(lengths.cast::<[u32; 2]>());
                (key as usize, payload as usize)
            } else {
                let [key, payload] = ptr::read(lengths.cast::<[u8; 2]>());
                (usize::from(key), usize::from(payload))
            }
        };
        Parts::of(meta, key_len, payload_len)
    }

    #[inline]
    pub(crate) fn key<'a>(self) -> &'a [u8] {
        let parts = self.parts();
        // SAFETY: the constructor wrote `key_len` bytes there.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().add(parts.key), parts.key_len) }
    }

    #[inline]
    fn payload<'a>(self) -> Payload<'a> {
        let meta = self.meta();
        if meta & FORM_MASK == FORM_BOXED {
            // SAFETY: it is a boxed record.
            return Payload::Boxed(unsafe { word::borrow(self.word(), kind(meta)) });
        }
        let parts = self.parts();
        let start = self.at.as_ptr().wrapping_add(parts.payload);
        if meta & FORM_MASK == FORM_INT {
            // SAFETY: integer payloads are 8 bytes, unaligned.
            return Payload::Int(unsafe { ptr::read_unaligned(start.cast::<i64>()) });
        }
        // SAFETY: the constructor wrote `payload_len` bytes there.
        Payload::Text(unsafe { std::slice::from_raw_parts(start, parts.payload_len) })
    }

    /// Where a boxed record has its value.
    #[inline]
    fn word(self) -> *mut u8 {
        self.at.as_ptr().wrapping_add(VALUE_OFFSET)
    }

    #[inline]
    fn deadline(self) -> Option<Millis> {
        if self.meta() & HAS_DEADLINE == 0 {
            return None;
        }
        let at = self.at.as_ptr().wrapping_add(self.parts().deadline);
        // SAFETY: the flag says that 8 bytes of deadline are there.
        Some(Millis(unsafe { ptr::read_unaligned(at.cast::<i64>()) }))
    }

    fn write_payload(self, bytes: &[u8]) {
        let parts = self.parts();
        let room = parts.payload_len.min(bytes.len());
        // SAFETY: at most the payload area is written; callers own the record or borrow it exclusively.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.as_ptr().add(parts.payload), room)
        };
    }

    #[inline]
    fn set_eviction_bits(self, bits: u32) {
        let low = self.meta() & ((1 << EVICTION_SHIFT) - 1);
        self.set_meta(low | (bits & 0x00ff_ffff) << EVICTION_SHIFT);
    }

    #[inline]
    fn lanes(self) -> u8 {
        u8::try_from((self.meta() & LANES) >> LANES_SHIFT).unwrap_or(0)
    }

    #[inline]
    fn set_lanes(self, lanes: u8) {
        let lanes = u32::from(lanes) << LANES_SHIFT & LANES;
        self.set_meta(self.meta() & !LANES | lanes);
    }

    /// The address as a number: fits 48 bits on every supported system.
    #[inline]
    pub(crate) fn address(self) -> u64 {
        self.at.as_ptr().expose_provenance() as u64
    }

    /// The record at an address that `address` gave.
    ///
    /// # Safety
    /// The record must be alive.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "an address fits a word")]
    pub(crate) unsafe fn from_address(address: u64) -> Raw {
        let at = ptr::with_exposed_provenance_mut::<u8>(address as usize);
        // SAFETY: by contract the address is that of a live record, so it is not null.
        Raw { at: unsafe { NonNull::new_unchecked(at) } }
    }

    /// # Safety
    /// The record must be alive and nobody may change or drop it during `'a`.
    #[inline]
    pub(crate) unsafe fn borrow<'a>(self) -> RecordRef<'a> {
        RecordRef { raw: self, owner: PhantomData }
    }

    /// # Safety
    /// The record must be alive and nobody else may touch it during `'a`.
    #[inline]
    pub(crate) unsafe fn borrow_mut<'a>(self) -> RecordMut<'a> {
        RecordMut { raw: self, owner: PhantomData }
    }

    /// Frees the record, but not what its value holds.
    ///
    /// # Safety
    /// The record must be alive and owned by the caller; it is gone afterwards.
    #[inline]
    unsafe fn free(self) {
        let size = self.parts().size();
        // SAFETY: allocated in `shell` with this very layout.
        unsafe { dealloc(self.at.as_ptr(), layout(size)) };
    }

    /// # Safety
    /// Takes ownership: the record must be alive, and owned by nobody else from now on.
    #[inline]
    pub(crate) unsafe fn own(self) -> Record {
        Record { raw: self }
    }
}

impl<'a> RecordRef<'a> {
    /// The key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        self.raw.key()
    }

    /// The payload.
    #[inline]
    pub fn payload(self) -> Payload<'a> {
        self.raw.payload()
    }

    /// The inline text; empty for other payloads. For members and fields, whose payload is always text.
    #[inline]
    pub fn inline_text(self) -> &'a [u8] {
        match self.raw.payload() {
            Payload::Text(text) => text,
            Payload::Int(_) | Payload::Boxed(_) => b"",
        }
    }

    /// When the record expires; `None` = never.
    #[inline]
    pub fn deadline(self) -> Option<Millis> {
        self.raw.deadline()
    }

    /// Whether the text was grown in place (OBJECT ENCODING says `raw`).
    pub fn is_raw(self) -> bool {
        self.raw.meta() & (FORM_MASK | RAW) == FORM_TEXT | RAW
    }

    /// The 24 bits that the eviction policy keeps here.
    #[inline]
    pub fn eviction_bits(self) -> u32 {
        self.raw.meta() >> EVICTION_SHIFT
    }

    /// One bit for each snapshot that may run; what they mean is `snapshot`'s business.
    #[inline]
    pub(crate) fn lanes(self) -> u8 {
        self.raw.lanes()
    }

    /// Bytes of this allocation as asked for, without what a boxed value holds.
    pub fn shallow_size(self) -> usize {
        self.raw.parts().size()
    }

    /// The bare address, for an index that its owner keeps beside the records.
    #[inline]
    pub(crate) fn raw(self) -> Raw {
        self.raw
    }

    /// A deep copy under another key, keeping the deadline.
    pub fn copy_as(self, key: &[u8]) -> Record {
        match self.payload() {
            Payload::Text(text) => Record::text(key, text, self.deadline(), self.is_raw()),
            Payload::Int(value) => Record::integer(key, value, self.deadline()),
            Payload::Boxed(value) => Record::boxed(key, value.to_value(), self.deadline()),
        }
    }
}

impl<'a> RecordMut<'a> {
    /// To read.
    #[inline]
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef { raw: self.raw, owner: PhantomData }
    }

    /// The boxed value, to change it in place.
    #[inline]
    pub(crate) fn value_mut(&mut self) -> Option<ValueMut<'_>> {
        RecordMut { raw: self.raw, owner: PhantomData }.into_value()
    }

    /// The boxed value, to change it in place, for as long as the record is borrowed.
    #[inline]
    pub fn into_value(self) -> Option<ValueMut<'a>> {
        let meta = self.raw.meta();
        if meta & FORM_MASK != FORM_BOXED {
            return None;
        }
        // SAFETY: it is a boxed record, and we borrow it exclusively.
        Some(unsafe { word::borrow_mut(self.raw.word(), kind(meta)) })
    }

    /// Overwrites inline text by text of the same length, clearing the raw mark. Returns false,
    /// changing nothing, when the record has another form or length.
    #[inline]
    pub fn overwrite_text(&mut self, text: &[u8]) -> bool {
        let meta = self.raw.meta();
        if meta & FORM_MASK != FORM_TEXT || self.raw.parts().payload_len != text.len() {
            return false;
        }
        self.raw.write_payload(text);
        self.raw.set_meta(meta & !RAW);
        true
    }

    /// Overwrites an integer payload. Returns false for other forms.
    #[inline]
    pub fn overwrite_integer(&mut self, value: i64) -> bool {
        if self.raw.meta() & FORM_MASK != FORM_INT {
            return false;
        }
        self.raw.write_payload(&value.to_ne_bytes());
        true
    }

    /// Moves an existing deadline. Returns false, changing nothing, when the record has none.
    #[inline]
    pub fn overwrite_deadline(&mut self, when: Millis) -> bool {
        if self.raw.meta() & HAS_DEADLINE == 0 {
            return false;
        }
        let at = self.raw.at.as_ptr().wrapping_add(self.raw.parts().deadline);
        // SAFETY: the flag says that 8 bytes of deadline are there; we borrow exclusively.
        unsafe { ptr::write_unaligned(at.cast::<i64>(), when.0) };
        true
    }

    /// Sets the snapshot bits.
    #[inline]
    pub(crate) fn set_lanes(&mut self, lanes: u8) {
        self.raw.set_lanes(lanes);
    }

    /// Sets the 24 eviction bits; higher bits are cut off.
    #[inline]
    pub fn set_eviction_bits(&mut self, bits: u32) {
        self.raw.set_eviction_bits(bits);
    }
}

impl Record {
    /// A record with text stored inline. `raw` marks a string that grew by APPEND or SETRANGE, so
    /// that OBJECT ENCODING can say so.
    pub fn text(key: &[u8], text: &[u8], deadline: Option<Millis>, raw: bool) -> Record {
        let record = Record::shell(FORM_TEXT, key, text.len(), deadline);
        record.raw.write_payload(text);
        if raw {
            record.raw.set_meta(record.raw.meta() | RAW);
        }
        record
    }

    /// A record with an integer payload.
    pub fn integer(key: &[u8], value: i64, deadline: Option<Millis>) -> Record {
        let record = Record::shell(FORM_INT, key, 8, deadline);
        record.raw.write_payload(&value.to_ne_bytes());
        record
    }

    /// A record with a value of its own.
    pub fn boxed(key: &[u8], value: Value, deadline: Option<Millis>) -> Record {
        let form = FORM_BOXED | (value.as_ref().kind() as u32) << KIND_SHIFT;
        let record = Record::shell(form, key, 0, deadline);
        // SAFETY: a boxed shell has its word, not yet initialised, and its type is that of the value.
        unsafe { word::write(record.raw.word(), value) };
        record
    }

    /// To read.
    #[inline]
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef { raw: self.raw, owner: PhantomData }
    }

    /// To change in place.
    #[inline]
    pub fn as_mut(&mut self) -> RecordMut<'_> {
        RecordMut { raw: self.raw, owner: PhantomData }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.raw.key()
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> Payload<'_> {
        self.raw.payload()
    }

    /// When the record expires; `None` = never.
    #[inline]
    pub fn deadline(&self) -> Option<Millis> {
        self.raw.deadline()
    }

    /// The same record with another deadline; reallocates only when the field appears or goes.
    pub fn with_deadline(mut self, deadline: Option<Millis>) -> Record {
        match deadline {
            Some(when) if self.as_mut().overwrite_deadline(when) => self,
            None if self.deadline().is_none() => self,
            _ => self.rebuild(None, deadline),
        }
    }

    /// The same payload under another key, keeping deadline and eviction bits.
    pub fn with_key(self, key: &[u8]) -> Record {
        let deadline = self.deadline();
        self.rebuild(Some(key), deadline)
    }

    /// The boxed value itself, freeing the rest; `Err(self)` for inline payloads.
    pub fn into_value(self) -> Result<Value, Record> {
        if self.raw.meta() & FORM_MASK != FORM_BOXED {
            return Err(self);
        }
        Ok(self.move_value_out())
    }

    /// Hands the allocation over; `Raw::own` must take it back.
    #[inline]
    pub(crate) fn into_raw(self) -> Raw {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }

    fn rebuild(self, key: Option<&[u8]>, deadline: Option<Millis>) -> Record {
        let bits = self.as_ref().eviction_bits();
        let lanes = self.as_ref().lanes();
        let name = key.unwrap_or(self.raw.key());
        let fresh = match self.raw.payload() {
            Payload::Text(text) => Record::text(name, text, deadline, self.as_ref().is_raw()),
            Payload::Int(value) => Record::integer(name, value, deadline),
            Payload::Boxed(_) => {
                let name = name.to_vec();
                Record::boxed(&name, self.move_value_out(), deadline)
            }
        };
        fresh.raw.set_eviction_bits(bits);
        fresh.raw.set_lanes(lanes);
        fresh
    }

    /// Only for boxed records.
    fn move_value_out(self) -> Value {
        let raw = self.into_raw();
        // SAFETY: a boxed record that was ours: its value goes to the caller, and the rest ends here.
        unsafe {
            let value = word::read(raw.word(), kind(raw.meta()));
            raw.free();
            value
        }
    }

    fn shell(form: u32, key: &[u8], payload_len: usize, deadline: Option<Millis>) -> Record {
        let boxed = form & FORM_MASK == FORM_BOXED;
        let wide = !boxed && (key.len() > NARROW_MAX || payload_len > NARROW_MAX);
        let meta =
            form | if deadline.is_some() { HAS_DEADLINE } else { 0 } | if wide { WIDE } else { 0 };
        let parts = Parts::of(meta, key.len(), payload_len);
        let layout = layout(parts.size());
        // SAFETY: the size is never zero: there are at least 6 bytes of head.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let start = at.as_ptr();
        let lengths = start.wrapping_add(4);
        // SAFETY: all offsets come from `parts`, within the allocation of `parts.size()` bytes.
        unsafe {
            ptr::write(start.cast::<u32>(), meta);
            if boxed {
                ptr::write(lengths.cast::<u32>(), len32(key.len()));
            } else if wide {
                let both = [len32(key.len()), len32(payload_len)];
                ptr::write_unaligned(lengths.cast::<[u32; 2]>(), both);
            } else {
                ptr::write(lengths.cast::<[u8; 2]>(), [len8(key.len()), len8(payload_len)]);
            }
            if let Some(when) = deadline {
                ptr::write_unaligned(start.add(parts.deadline).cast::<i64>(), when.0);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), start.add(parts.key), key.len());
        }
        Record { raw: Raw { at } }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "callers compare with NARROW_MAX first")]
fn len8(len: usize) -> u8 {
    len as u8
}

fn len32(len: usize) -> u32 {
    // Keys and inline texts come from requests, which are bounded far below 4 GiB.
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The type of a boxed record's value.
#[inline]
fn kind(meta: u32) -> Kind {
    match (meta & KIND) >> KIND_SHIFT {
        0 => Kind::String,
        1 => Kind::List,
        2 => Kind::Set,
        3 => Kind::Hash,
        _ => Kind::SortedSet,
    }
}

/// A value in the one word that each type takes, apart from the type itself, which the meta word says.
mod word {
    use super::{Arc, Hash, Kind, List, Set, SortedSet, Value, ValueMut, ValueRef, ptr};

    type Shared = Arc<Vec<u8>>;

    const fn is_a_word<T>() -> bool {
        size_of::<T>() == 8 && align_of::<T>() <= 8
    }
    const _: () = assert!(
        is_a_word::<Shared>()
            && is_a_word::<List>()
            && is_a_word::<Set>()
            && is_a_word::<Hash>()
            && is_a_word::<SortedSet>()
    );

    /// # Safety
    /// `at` is aligned to 8 and may be written to.
    #[inline]
    pub unsafe fn write(at: *mut u8, value: Value) {
        // SAFETY: by contract there is room for a word.
        unsafe {
            match value {
                Value::Text(text) => ptr::write(at.cast::<Shared>(), text),
                Value::List(list) => ptr::write(at.cast::<List>(), list),
                Value::Set(set) => ptr::write(at.cast::<Set>(), set),
                Value::Hash(hash) => ptr::write(at.cast::<Hash>(), hash),
                Value::SortedSet(sorted) => ptr::write(at.cast::<SortedSet>(), sorted),
            }
        }
    }

    /// # Safety
    /// A value of this type was written there, and is nobody else's from now on.
    #[inline]
    pub unsafe fn read(at: *mut u8, kind: Kind) -> Value {
        // SAFETY: as the contract says.
        unsafe {
            match kind {
                Kind::String => Value::Text(ptr::read(at.cast::<Shared>())),
                Kind::List => Value::List(ptr::read(at.cast::<List>())),
                Kind::Set => Value::Set(ptr::read(at.cast::<Set>())),
                Kind::Hash => Value::Hash(ptr::read(at.cast::<Hash>())),
                Kind::SortedSet => Value::SortedSet(ptr::read(at.cast::<SortedSet>())),
            }
        }
    }

    /// # Safety
    /// A value of this type was written there, and nobody changes or drops it during `'a`.
    #[inline]
    pub unsafe fn borrow<'a>(at: *mut u8, kind: Kind) -> ValueRef<'a> {
        // SAFETY: as the contract says.
        unsafe {
            match kind {
                Kind::String => ValueRef::Text(&*at.cast::<Shared>()),
                Kind::List => ValueRef::List(&*at.cast::<List>()),
                Kind::Set => ValueRef::Set(&*at.cast::<Set>()),
                Kind::Hash => ValueRef::Hash(&*at.cast::<Hash>()),
                Kind::SortedSet => ValueRef::SortedSet(&*at.cast::<SortedSet>()),
            }
        }
    }

    /// # Safety
    /// A value of this type was written there, and nobody else touches it during `'a`.
    #[inline]
    pub unsafe fn borrow_mut<'a>(at: *mut u8, kind: Kind) -> ValueMut<'a> {
        // SAFETY: as the contract says.
        unsafe {
            match kind {
                Kind::String => ValueMut::Text(&mut *at.cast::<Shared>()),
                Kind::List => ValueMut::List(&mut *at.cast::<List>()),
                Kind::Set => ValueMut::Set(&mut *at.cast::<Set>()),
                Kind::Hash => ValueMut::Hash(&mut *at.cast::<Hash>()),
                Kind::SortedSet => ValueMut::SortedSet(&mut *at.cast::<SortedSet>()),
            }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let meta = self.raw.meta();
        // SAFETY: the record is ours; if it is boxed its value is read, and so dropped, this once.
        unsafe {
            if meta & FORM_MASK == FORM_BOXED {
                drop(word::read(self.raw.word(), kind(meta)));
            }
            self.raw.free();
        }
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key().escape_ascii().to_string())
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Thresholds;
    use crate::value::End;

    /// Small enough for Miri: a value of each type goes into a record, is seen, changed, moved and freed.
    #[test]
    fn a_value_of_each_type_is_one_word_of_its_record() {
        let limits = Thresholds::default();
        let (mut list, mut set, mut hash, mut sorted) =
            (List::new(), Set::new(), Hash::new(), SortedSet::new());
        list.push(b"element", End::Back, &limits);
        set.insert(b"member", &limits);
        hash.set(b"field", b"value", Millis(0), &limits);
        sorted.insert(b"member", 1.0, &limits);
        let values = [
            Value::Text(Arc::new(vec![b'x'; 300])),
            Value::List(list),
            Value::Set(set),
            Value::Hash(hash),
            Value::SortedSet(sorted),
        ];
        for value in values {
            let kind = value.as_ref().kind();
            let record = Record::boxed(b"key", value, None);
            assert_eq!(record.as_ref().shallow_size(), 16 + 3);
            assert!(!record.as_ref().is_raw());
            let copy = record.as_ref().copy_as(b"copy");
            let mut record = record.with_deadline(Some(Millis(7))).with_key(b"another key");
            assert_eq!((record.key(), record.deadline()), (&b"another key"[..], Some(Millis(7))));
            match record.as_mut().into_value().unwrap() {
                ValueMut::Text(text) => Arc::make_mut(text).clear(),
                ValueMut::List(list) => list.push(b"more", End::Front, &limits),
                ValueMut::Set(set) => assert!(set.insert(b"more", &limits)),
                ValueMut::Hash(hash) => assert!(hash.set(b"more", b"", Millis(0), &limits)),
                ValueMut::SortedSet(sorted) => {
                    assert_eq!(sorted.insert(b"more", 2.0, &limits), None)
                }
            }
            let size = |value: ValueRef<'_>| match value {
                ValueRef::Text(text) => text.len(),
                ValueRef::List(list) => list.len(),
                ValueRef::Set(set) => set.len(),
                ValueRef::Hash(hash) => hash.len(),
                ValueRef::SortedSet(sorted) => sorted.len(),
            };
            let Payload::Boxed(seen) = copy.payload() else { panic!("{copy:?}") };
            let changed = record.into_value().unwrap();
            assert_eq!((seen.kind(), changed.as_ref().kind()), (kind, kind));
            let text = kind == Kind::String;
            let sizes = (size(seen), size(changed.as_ref()));
            assert_eq!(sizes, if text { (300, 0) } else { (1, 2) });
        }
    }
}
