//! The base of the append-only file as commands (`aof-use-rdb-preamble no`): what would make the data again. It
//! knows the commands that make each type, and neither files nor links.

use std::io::{self, Write};

use larder_base::{Millis, number};
use larder_protocol::encode::encode_command;
use larder_store::snapshot::{Head, Item, Snapshot};
use larder_store::value::Kind;
use larder_store::{DbIndex, Payload, RecordRef, Text, ValueRef};

use super::pace::Pace;
use super::save::SaveError;
use crate::shared::Server;

/// Records or members shown in one go, under the lock of a slot.
const STEP: usize = 128;
/// Bytes gathered before they are written.
const STAGED: usize = 1 << 20;
/// Members of one command.
const MEMBERS: usize = 64;

/// Writes a snapshot as commands. `progress` as for data in RDB form.
///
/// # Errors
/// If the sink fails, or a database was flushed meanwhile.
pub fn write(
    server: &Server,
    snapshot: &mut Snapshot,
    sink: &mut dyn Write,
    mut progress: impl FnMut(usize, usize) -> io::Result<()>,
) -> Result<(), SaveError> {
    let mut base = Base::default();
    let mut pace = Pace::of(server.config().rdb_key_save_delay);
    let step = if pace.is_slow() { 1 } else { STEP };
    loop {
        let more = snapshot.step(&server.keyspace, step, &mut |item| base.put(&item));
        if snapshot.is_broken(&server.keyspace) {
            return Err(SaveError::Flushed);
        }
        if base.out.len() >= STAGED || !more {
            sink.write_all(&base.out)?;
            base.out.clear();
        }
        let (seen, all) = snapshot.progress();
        progress(seen, all)?;
        if !more {
            return Ok(sink.flush()?);
        }
        pace.wait(&server.stopping, || match snapshot.is_broken(&server.keyspace) {
            true => Err(SaveError::Flushed),
            false => Ok(progress(seen, all)?),
        })?;
    }
}

#[derive(Default)]
struct Base {
    out: Vec<u8>,
    db: Option<DbIndex>,
    /// The collection whose members come.
    key: Vec<u8>,
    kind: Option<Kind>,
    deadline: Option<Millis>,
    /// Words of its next command.
    words: Vec<Vec<u8>>,
    /// Fields with deadlines.
    fields: Vec<(Vec<u8>, Millis)>,
}

impl Base {
    fn put(&mut self, item: &Item<'_>) {
        match item {
            Item::Record(db, record) => self.record(*db, *record),
            Item::Begin(head) => self.begin(head),
            Item::Member(member, score) => {
                let key = Text::Bytes(member.key());
                match (self.kind, score) {
                    (Some(Kind::SortedSet), Some(score)) => self.scored(key, *score),
                    (Some(Kind::Hash), _) => {
                        self.field(key, Text::Bytes(member.inline_text()), member.deadline());
                    }
                    (Some(_) | None, _) => self.member(&[key]),
                }
            }
            Item::End => self.end(),
        }
    }

    fn select(&mut self, db: DbIndex) {
        if self.db != Some(db) {
            self.db = Some(db);
            let number = db.0.to_string();
            encode_command(&mut self.out, &[b"SELECT", number.as_bytes()]);
        }
    }

    fn record(&mut self, db: DbIndex, record: RecordRef<'_>) {
        self.select(db);
        let (key, payload) = (record.key(), record.payload());
        let text = match payload {
            Payload::Text(text) => Some(text.to_vec()),
            Payload::Int(value) => Some(number::decimal_i64(value).as_bytes().to_vec()),
            Payload::Boxed(ValueRef::Text(text)) => Some(text.to_vec()),
            Payload::Boxed(_) => None,
        };
        if let Some(text) = text {
            encode_command(&mut self.out, &[b"SET", key, &text]);
            expire(&mut self.out, key, record.deadline());
            return;
        }
        let Payload::Boxed(value) = payload else { return };
        self.open(key, value.kind(), record.deadline());
        match value {
            ValueRef::Text(_) => {}
            ValueRef::List(list) => list.iter().for_each(|element| self.member(&[element])),
            ValueRef::Set(set) => set.iter().for_each(|member| self.member(&[member])),
            ValueRef::Hash(hash) => {
                hash.entries().for_each(|(field, value, when)| self.field(field, value, when));
            }
            ValueRef::SortedSet(sorted) => {
                sorted.iter().for_each(|(member, score)| self.scored(member, score));
            }
        }
        self.end();
    }

    fn begin(&mut self, head: &Head<'_>) {
        self.select(head.db);
        self.open(head.key, head.kind, head.deadline);
    }

    fn open(&mut self, key: &[u8], kind: Kind, deadline: Option<Millis>) {
        (self.key, self.kind, self.deadline) = (key.to_vec(), Some(kind), deadline);
    }

    fn member(&mut self, parts: &[Text<'_>]) {
        self.words.extend(parts.iter().map(|part| part.to_vec()));
        if self.words.len() >= MEMBERS * parts.len() {
            self.close_command();
        }
    }

    fn scored(&mut self, member: Text<'_>, score: f64) {
        let mut text = Vec::new();
        number::write_f64(&mut text, score);
        self.member(&[Text::Bytes(&text), member]);
    }

    fn field(&mut self, field: Text<'_>, value: Text<'_>, when: Option<Millis>) {
        if let Some(when) = when {
            self.fields.push((field.to_vec(), when));
        }
        self.member(&[field, value]);
    }

    /// Writes the members gathered so far.
    fn close_command(&mut self) {
        let name: &[u8] = match self.kind {
            Some(Kind::List) => b"RPUSH",
            Some(Kind::Set) => b"SADD",
            Some(Kind::Hash) => b"HMSET",
            Some(Kind::SortedSet) => b"ZADD",
            Some(Kind::String) | None => return,
        };
        if !self.words.is_empty() {
            let mut words: Vec<&[u8]> = vec![name, &self.key];
            words.extend(self.words.iter().map(Vec::as_slice));
            encode_command(&mut self.out, &words);
        }
        self.words.clear();
        for (field, when) in self.fields.drain(..) {
            let when = number::decimal_i64(when.0);
            let words: [&[u8]; 6] =
                [b"HPEXPIREAT", &self.key, when.as_bytes(), b"FIELDS", b"1", &field];
            encode_command(&mut self.out, &words);
        }
    }

    fn end(&mut self) {
        self.close_command();
        expire(&mut self.out, &self.key, self.deadline);
        self.kind = None;
    }
}

fn expire(out: &mut Vec<u8>, key: &[u8], deadline: Option<Millis>) {
    if let Some(when) = deadline {
        encode_command(out, &[b"PEXPIREAT", key, number::decimal_i64(when.0).as_bytes()]);
    }
}
