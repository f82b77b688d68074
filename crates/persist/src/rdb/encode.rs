//! Values in their written forms: the plain types, which every Redis since 5 reads under any label, and hashes
//! whose fields have deadlines where the version has a form for them. It knows no file and no key.

use std::io::Write;

use larder_base::{Millis, number};
use larder_store::{Hash, Payload, Text, ValueRef};

use super::write::WriteError;
use super::{Version, code};
use crate::crc64::Crc64;
use crate::limits::{COMPRESS_BYTES_MIN, WRITE_BYTES};
use crate::lzf::Compressor;

/// Gathers bytes, sums them up and hands them on in large pieces.
pub(super) struct Output<W> {
    sink: W,
    held: Vec<u8>,
    /// Bytes already handed on.
    gone: u64,
    /// Nothing is summed up where nobody asks for it.
    crc: Option<Crc64>,
    compressor: Option<Compressor>,
    compressed: Vec<u8>,
}

impl<W: Write> Output<W> {
    pub fn new(sink: W, checksum: bool, compress: bool) -> Output<W> {
        Output {
            sink,
            held: Vec::with_capacity(WRITE_BYTES),
            gone: 0,
            crc: checksum.then(Crc64::new),
            compressor: compress.then(Compressor::new),
            compressed: Vec::new(),
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.gone + self.held.len() as u64
    }

    pub fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= WRITE_BYTES { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<(), WriteError> {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.held);
        }
        self.sink.write_all(&self.held)?;
        self.gone += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }

    /// The checksum of everything written; 0 without one.
    pub fn checksum(&mut self) -> Result<u64, WriteError> {
        self.hand_on()?;
        Ok(self.crc.map_or(0, Crc64::value))
    }

    /// Hands everything on and gives the sink back.
    pub fn into_sink(mut self) -> Result<W, WriteError> {
        self.hand_on()?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    pub fn length(&mut self, length: u64) -> Result<(), WriteError> {
        let [_, _, _, _, third, second, high, low] = length.to_be_bytes();
        match length {
            0..0x40 => self.put(&[low]),
            0x40..0x4000 => self.put(&[0x40 | high, low]),
            0x4000..0x1_0000_0000 => self.put(&[0x80, third, second, high, low]),
            _ => {
                self.put(&[0x81])?;
                self.put(&length.to_be_bytes())
            }
        }
    }

    pub fn text(&mut self, text: Text<'_>) -> Result<(), WriteError> {
        match text {
            Text::Int(value) => self.integer(value),
            Text::Bytes(bytes) => self.bytes(bytes),
        }
    }

    fn integer(&mut self, value: i64) -> Result<(), WriteError> {
        if let Ok(value) = i8::try_from(value) {
            let [byte] = value.to_le_bytes();
            return self.put(&[0xc0, byte]);
        }
        if let Ok(value) = i16::try_from(value) {
            let [low, high] = value.to_le_bytes();
            return self.put(&[0xc1, low, high]);
        }
        if let Ok(value) = i32::try_from(value) {
            self.put(&[0xc2])?;
            return self.put(&value.to_le_bytes());
        }
        let text = number::decimal_i64(value);
        self.length(text.as_bytes().len() as u64)?;
        self.put(text.as_bytes())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        const INTEGER_TEXT_MAX: usize = 11;
        if bytes.len() <= INTEGER_TEXT_MAX
            && let Some(value) = number::parse_i64(bytes)
            && i32::try_from(value).is_ok()
        {
            return self.integer(value);
        }
        if bytes.len() > COMPRESS_BYTES_MIN
            && let Some(compressor) = &mut self.compressor
            && compressor.compress(bytes, &mut self.compressed)
        {
            let compressed = std::mem::take(&mut self.compressed);
            self.put(&[0xc3])?;
            self.length(compressed.len() as u64)?;
            self.length(bytes.len() as u64)?;
            self.put(&compressed)?;
            self.compressed = compressed;
            return Ok(());
        }
        self.length(bytes.len() as u64)?;
        self.put(bytes)
    }

    /// The body of a value of the type that [`kind_of`] says.
    pub fn value(&mut self, payload: &Payload<'_>, version: Version) -> Result<(), WriteError> {
        let value = match payload {
            Payload::Text(text) => return self.bytes(text),
            Payload::Int(value) => return self.integer(*value),
            Payload::Boxed(value) => value,
        };
        match value {
            ValueRef::Text(text) => self.bytes(text),
            ValueRef::List(list) => {
                self.length(list.len() as u64)?;
                list.iter().try_for_each(|element| self.text(element))
            }
            ValueRef::Set(set) => {
                self.length(set.len() as u64)?;
                set.iter().try_for_each(|member| self.text(member))
            }
            ValueRef::SortedSet(sorted) => {
                self.length(sorted.len() as u64)?;
                sorted.iter().try_for_each(|(member, score)| {
                    self.text(member)?;
                    self.put(&score.to_le_bytes())
                })
            }
            ValueRef::Hash(hash) => self.hash(hash, version),
        }
    }

    fn hash(&mut self, hash: &Hash, version: Version) -> Result<(), WriteError> {
        let form = FieldForm::of(hash.earliest_expiry(), version)?;
        self.fields_head(form, hash.len() as u64)?;
        hash.entries().try_for_each(|(field, value, when)| self.field(form, field, value, when))
    }

    /// What precedes the fields of a hash.
    pub fn fields_head(&mut self, form: FieldForm, len: u64) -> Result<(), WriteError> {
        if let FieldForm::Counted(earliest) = form {
            self.put(&earliest.to_le_bytes())?;
        }
        self.length(len)
    }

    pub fn field(
        &mut self,
        form: FieldForm,
        field: Text<'_>,
        value: Text<'_>,
        when: Option<Millis>,
    ) -> Result<(), WriteError> {
        if let FieldForm::Counted(earliest) = form {
            let counted = when.map_or(0, |when| moment(when).saturating_sub(earliest) + 1);
            self.length(counted)?;
        }
        self.text(field)?;
        self.text(value)?;
        match form {
            FieldForm::Counted(_) => Ok(()),
            FieldForm::Absolute => self.put(&when.map_or(-1, |when| when.0.max(0)).to_le_bytes()),
            FieldForm::Bare if when.is_some() => Err(WriteError::Members),
            FieldForm::Bare => Ok(()),
        }
    }
}

/// How the fields of a hash are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldForm {
    /// No field has a deadline.
    Bare,
    /// With deadlines counted from the earliest one (Redis).
    Counted(u64),
    /// With absolute deadlines (Valkey).
    Absolute,
}

fn moment(when: Millis) -> u64 {
    u64::try_from(when.0).unwrap_or(0)
}

impl FieldForm {
    pub fn of(earliest: Option<Millis>, version: Version) -> Result<FieldForm, WriteError> {
        match (earliest, version) {
            (None, _) => Ok(FieldForm::Bare),
            (Some(_), Version::Valkey(_)) => Ok(FieldForm::Absolute),
            (Some(earliest), Version::Redis(12..)) => Ok(FieldForm::Counted(moment(earliest))),
            (Some(_), Version::Redis(number)) => Err(WriteError::FieldDeadlines(number)),
        }
    }

    /// The type of value that says so.
    pub fn kind(self) -> u8 {
        match self {
            FieldForm::Bare => code::HASH,
            FieldForm::Counted(_) => code::REDIS_HASH_DEADLINES,
            FieldForm::Absolute => code::HASH_DEADLINES_22,
        }
    }
}

/// The type under which a value is written.
pub(super) fn kind_of(payload: &Payload<'_>, version: Version) -> Result<u8, WriteError> {
    let value = match payload {
        Payload::Text(_) | Payload::Int(_) => return Ok(code::STRING),
        Payload::Boxed(value) => value,
    };
    Ok(match value {
        ValueRef::Text(_) => code::STRING,
        ValueRef::List(_) => code::LIST,
        ValueRef::Set(_) => code::SET,
        ValueRef::SortedSet(_) => code::ZSET_2,
        ValueRef::Hash(hash) => FieldForm::of(hash.earliest_expiry(), version)?.kind(),
    })
}
