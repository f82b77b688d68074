//! The ways in which a view changes values: collections in place, strings, whole records, deadlines. Each
//! ends in `add`, `replace`, `take_at` or a change in place behind `preserve`; what is reported is the
//! caller's business.

use std::sync::Arc;

use larder_base::number;
use larder_base::time::Millis;

use super::{Deadline, EventClass, INLINE_TEXT_MAX, Spot, View, WrongType, wake};
use crate::expiry;
use crate::record::{Payload, Record, RecordRef};
use crate::value::{Kind, Typed, Value, ValueMut};

impl View<'_> {
    /// The collection at a key, to change in place.
    ///
    /// # Errors
    /// `WrongType` if the key holds another type.
    #[inline]
    pub fn write<T: Typed>(&mut self, key: &[u8]) -> Result<Option<&mut T>, WrongType> {
        let Some(spot) = self.live(key) else { return Ok(None) };
        self.touch(spot);
        self.preserve(spot);
        self.typed_mut(spot).map(Some)
    }

    /// The collection at a key to change in place, created empty if need be: put something into it, or
    /// call `remove_if_empty`.
    ///
    /// # Errors
    /// `WrongType` if the key holds another type.
    #[inline]
    pub fn write_or_create<T: Typed>(&mut self, key: &[u8]) -> Result<&mut T, WrongType> {
        let spot = match self.live(key) {
            Some(spot) => {
                self.touch(spot);
                self.preserve(spot);
                spot
            }
            None => self.add(Record::boxed(key, T::fresh().wrap(), None)).ok_or(WrongType)?,
        };
        self.typed_mut(spot)
    }

    /// Removes the key if its collection is empty, and reports `del`. True if it did.
    pub fn remove_if_empty(&mut self, key: &[u8]) -> bool {
        let Some(spot) = self.live(key) else { return false };
        let empty = self.at(spot).is_some_and(|record| match record.payload() {
            Payload::Boxed(value) => value.is_empty(),
            Payload::Text(_) | Payload::Int(_) => false,
        });
        if empty && let Some(record) = self.take_at(spot, key) {
            self.discard(record);
            self.notify(key, EventClass::Generic, "del");
        }
        empty
    }

    /// Removes a hash of that many fields, which are all due, at once, and reports it as if they had gone one by one; the
    /// background frees it.
    pub fn remove_expired_hash(&mut self, key: &[u8], len: usize) {
        self.tally.expired_members += len as u64;
        self.signal(key, EventClass::Hash, "hexpired");
        if self.remove(key) {
            self.notify(key, EventClass::Generic, "del");
        }
    }

    /// Writes a string over whatever the key held. Integers in canonical form are kept as integers.
    #[inline]
    pub fn set_string(&mut self, key: &[u8], text: &[u8], deadline: Deadline) {
        if text.len() <= 20
            && let Some(value) = number::parse_i64(text)
        {
            return self.set_integer(key, value, deadline);
        }
        self.set_text(key, text, deadline, false);
    }

    /// Writes an integer over whatever the key held.
    #[inline]
    pub fn set_integer(&mut self, key: &[u8], value: i64, deadline: Deadline) {
        if let Some(spot) = self.live(key) {
            let when = self.resolve(spot, deadline);
            if self.redate_in_place(spot, when)
                && let Some(mut record) = self.at_mut(spot)
                && record.overwrite_integer(value)
            {
                return self.touch(spot);
            }
            return self.replace(spot, Record::integer(key, value, when));
        }
        let when = deadline_of_new(deadline);
        self.add(Record::integer(key, value, when));
    }

    /// Lets `edit` change the text at a key in place; an absent key is an empty text. The deadline stays.
    /// If the text is empty afterwards and the key was absent, it is not created.
    ///
    /// # Errors
    /// `WrongType` if the key holds another type.
    pub fn edit_string<R>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Result<R, WrongType> {
        let Some(spot) = self.live(key) else {
            let mut text = Vec::new();
            let result = edit(&mut text);
            if !text.is_empty() {
                self.set_text(key, &text, Deadline::None, true);
            }
            return Ok(result);
        };
        self.touch(spot);
        if self.at(spot).is_some_and(|record| record.kind() != Kind::String) {
            return Err(WrongType);
        }
        self.preserve(spot);
        if let Some(ValueMut::Text(text)) = self.at_mut(spot).and_then(|record| record.into_value())
        {
            return Ok(edit(Arc::make_mut(text)));
        }
        let mut text = self.text_at(spot)?.to_vec();
        let result = edit(&mut text);
        let when = self.resolve(spot, Deadline::Keep);
        let record = text_record(key, text, when, true);
        self.replace(spot, record);
        Ok(result)
    }

    /// Writes a value over whatever the key held.
    pub fn put(&mut self, key: &[u8], value: Value, deadline: Deadline) {
        let value = match value {
            Value::Text(text) if text.len() <= INLINE_TEXT_MAX => {
                return self.set_string(key, &text, deadline);
            }
            other => other,
        };
        match self.live(key) {
            Some(spot) => {
                let when = self.resolve(spot, deadline);
                self.replace(spot, Record::boxed(key, value, when));
            }
            None => {
                self.add(Record::boxed(key, value, deadline_of_new(deadline)));
            }
        }
    }

    /// Writes a value under a key that is not there. False, and nothing is written, if it is.
    pub fn put_new(&mut self, key: &[u8], value: Value, when: Option<Millis>) -> bool {
        if self.live(key).is_some() {
            return false;
        }
        let record = match value {
            Value::Text(text) if text.len() <= 20 => match number::parse_i64(&text) {
                Some(value) => Record::integer(key, value, when),
                None => Record::text(key, &text, when, false),
            },
            Value::Text(text) if text.len() <= INLINE_TEXT_MAX => {
                Record::text(key, &text, when, false)
            }
            other => Record::boxed(key, other, when),
        };
        self.add(record);
        true
    }

    /// Puts a whole record, its deadline included, over whatever its key held (RENAME, COPY, MOVE).
    pub fn put_record(&mut self, mut record: Record) {
        let key = record.key().to_vec();
        if !self.keyspace.lanes().are_idle() {
            let (db, at) = (self.keyspace.physical(self.db), self.locate(&key));
            self.keyspace.snapshots().note_move(&mut record, db, at);
        }
        match self.live(&key) {
            Some(spot) => self.replace(spot, record),
            None => {
                self.add(record);
            }
        }
    }

    /// Takes a live key's record out; reports nothing.
    pub fn take_record(&mut self, key: &[u8]) -> Option<Record> {
        let spot = self.live(key)?;
        self.take_at(spot, key)
    }

    /// Removes a live key; big values are freed by the background. Reports nothing.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        match self.take_record(key) {
            Some(record) => {
                self.discard(record);
                true
            }
            None => false,
        }
    }

    /// Tells the eviction policy what it knew of a key elsewhere.
    pub fn set_eviction_bits(&mut self, key: &[u8], bits: u32) {
        if let Some(spot) = self.live(key)
            && let Some(mut record) = self.at_mut(spot)
        {
            record.set_eviction_bits(bits);
        }
    }

    /// Deletes a key to make room, and reports it. How many bytes go with it, or will go; `None` if it is not there.
    pub fn evict(&mut self, key: &[u8]) -> Option<usize> {
        let spot = self.live(key)?;
        let mut bytes = 0;
        if let Some(record) = self.take_at(spot, key) {
            bytes = record.as_ref().memory_usage();
            self.discard(record);
        }
        self.tally.evicted += 1;
        if self.keyspace.journaled() {
            self.gone.push((self.db, key.into()));
        }
        self.signal(key, EventClass::Evicted, "evicted");
        Some(bytes)
    }

    /// Gives a live key another deadline, or none. False if there is no such key.
    pub fn set_deadline(&mut self, key: &[u8], when: Option<Millis>) -> bool {
        let Some(spot) = self.live(key) else { return false };
        if self.redate_in_place(spot, when) {
            return true;
        }
        self.preserve(spot);
        let (db, now, keyspace) = (self.db, self.now, self.keyspace);
        let Some((_, slot, data)) = self.guards.get_mut(spot.guard) else { return false };
        data.table.update(spot.place, |record| record.with_deadline(when));
        let wake = wake(data.table.at(spot.place));
        data.table.set_mark(spot.place, expiry::mark(wake, now));
        if let Some(wake) = wake {
            keyspace.note_due((db, *slot), data, spot.hash, wake, now);
        }
        // In place was not possible, so the deadline appeared or went.
        let change = if when.is_some() { 1 } else { -1 };
        data.volatile = data.volatile.saturating_add_signed(change);
        keyspace.count(db, *slot, 0, i64::from(change), false);
        true
    }

    /// Members of the collection at a key got deadlines: the sweep is to come in time for them.
    pub fn note_members(&mut self, key: &[u8]) {
        let Some(spot) = self.live(key) else { return };
        let (now, keyspace) = (self.now, self.keyspace);
        let Some((db, slot, data)) = self.guards.get_mut(spot.guard) else { return };
        if let Some(wake) = wake(data.table.at(spot.place)) {
            data.table.set_mark(spot.place, expiry::mark(Some(wake), now));
            keyspace.note_due((*db, *slot), data, spot.hash, wake, now);
        }
    }

    /// Writes a text over whatever the key held, never as an integer; `raw`: OBJECT ENCODING says so,
    /// however short it is.
    pub fn set_text(&mut self, key: &[u8], text: &[u8], deadline: Deadline, raw: bool) {
        let Some(spot) = self.live(key) else {
            let when = deadline_of_new(deadline);
            let record = if text.len() <= INLINE_TEXT_MAX {
                Record::text(key, text, when, raw)
            } else {
                Record::boxed(key, self.text_value(text), when)
            };
            self.add(record);
            return;
        };
        let when = self.resolve(spot, deadline);
        if !raw
            && self.redate_in_place(spot, when)
            && let Some(mut record) = self.at_mut(spot)
            && record.overwrite_text(text)
        {
            return self.touch(spot);
        }
        if text.len() <= INLINE_TEXT_MAX {
            self.replace(spot, Record::text(key, text, when, raw));
        } else {
            self.replace(spot, Record::boxed(key, self.text_value(text), when));
        }
    }

    /// A long text as a value: the one that is offered, if it is that.
    fn text_value(&self, text: &[u8]) -> Value {
        let same = |offered: &&Arc<Vec<u8>>| std::ptr::eq(offered.as_slice(), text);
        Value::Text(match self.offered.as_ref().filter(same) {
            Some(offered) => Arc::clone(offered),
            None => Arc::new(text.to_vec()),
        })
    }

    fn resolve(&self, spot: Spot, deadline: Deadline) -> Option<Millis> {
        match deadline {
            Deadline::None => None,
            Deadline::At(when) => Some(when),
            Deadline::Keep => self.at(spot).and_then(RecordRef::deadline),
        }
    }

    /// Sets the deadline if that needs no other allocation; false if it does.
    fn redate_in_place(&mut self, spot: Spot, when: Option<Millis>) -> bool {
        self.preserve(spot);
        let (now, keyspace) = (self.now, self.keyspace);
        let Some((db, slot, data)) = self.guards.get_mut(spot.guard) else { return false };
        match (data.table.at(spot.place).deadline(), when) {
            (None, None) => true,
            (Some(old), Some(new)) => {
                if old != new {
                    data.table.at_mut(spot.place).overwrite_deadline(new);
                    let wake = wake(data.table.at(spot.place));
                    data.table.set_mark(spot.place, expiry::mark(wake, now));
                    keyspace.note_due((*db, *slot), data, spot.hash, new, now);
                }
                true
            }
            _ => false,
        }
    }
}

fn deadline_of_new(deadline: Deadline) -> Option<Millis> {
    match deadline {
        Deadline::Keep | Deadline::None => None,
        Deadline::At(when) => Some(when),
    }
}

fn text_record(key: &[u8], text: Vec<u8>, when: Option<Millis>, raw: bool) -> Record {
    if text.len() <= INLINE_TEXT_MAX {
        Record::text(key, &text, when, raw)
    } else {
        Record::boxed(key, Value::Text(Arc::new(text)), when)
    }
}
