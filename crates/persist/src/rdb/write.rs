//! Writes an RDB file, a record at a time, so that a snapshot can be written while it is walked. It knows no
//! keyspace and no clock: the caller says what there is.

use std::io::{self, Write};

use larder_base::Millis;
use larder_store::snapshot::Head;
use larder_store::{Kind, Payload, RecordRef, Text};

use super::encode::{FieldForm, Output, kind_of};
use super::read::Eviction;
use super::{Version, code, opcode};

/// Why writing failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The sink failed.
    #[error("write error: {0}")]
    Io(#[from] io::Error),
    /// A version that we do not write.
    #[error("RDB version {0} cannot be written: it must be 9 to 12, or 80")]
    Version(u16),
    /// The version has no form for fields with deadlines.
    #[error("RDB version {0} has no deadlines of hash fields: they need version 12 or 80")]
    FieldDeadlines(u16),
    /// The version has no libraries of functions.
    #[error("RDB version {0} has no functions: they need version 10")]
    Functions(u16),
    /// The caller gave other members than it had announced.
    #[error("a collection with other members than announced")]
    Members,
}

/// How a file is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `rdb-version`: 9 to 12 of Redis's line, or 80 of Valkey's.
    pub version: Version,
    /// `rdbcompression`: long texts are compressed.
    pub compress: bool,
    /// `rdbchecksum`: the file ends with a checksum instead of 0.
    pub checksum: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { version: Version::DEFAULT, compress: true, checksum: true }
    }
}

/// The collection that is being written by pieces.
struct Open {
    kind: Kind,
    form: FieldForm,
    left: u64,
}

/// A file that is being written.
pub struct Writer<W> {
    out: Output<W>,
    version: Version,
    open: Option<Open>,
}

/// Whether we write this version.
pub(super) fn check_version(version: Version) -> Result<(), WriteError> {
    match version {
        Version::Redis(9..=12) | Version::Valkey(80) => Ok(()),
        Version::Redis(number) | Version::Valkey(number) => Err(WriteError::Version(number)),
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// If the version is not one that we write, or the sink fails.
    pub fn new(sink: W, options: Options) -> Result<Writer<W>, WriteError> {
        check_version(options.version)?;
        let mut out = Output::new(sink, options.checksum, options.compress);
        out.put(&options.version.magic())?;
        Ok(Writer { out, version: options.version, open: None })
    }

    /// Bytes written so far, those included that wait to be handed on.
    pub fn written(&self) -> u64 {
        self.out.written()
    }

    /// A note: `redis-ver`, `ctime`, `repl-id` and the like.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn aux(&mut self, name: &[u8], text: &[u8]) -> Result<(), WriteError> {
        self.out.put(&[opcode::AUX])?;
        self.out.bytes(name)?;
        self.out.bytes(text)
    }

    /// The source of a library of functions.
    ///
    /// # Errors
    /// If the version has none, or the sink fails.
    pub fn function(&mut self, source: &[u8]) -> Result<(), WriteError> {
        if matches!(self.version, Version::Redis(..10)) {
            return Err(WriteError::Functions(self.version.number()));
        }
        self.out.put(&[opcode::FUNCTION])?;
        self.out.bytes(source)
    }

    /// The keys that follow belong to this database.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn select(&mut self, db: u64) -> Result<(), WriteError> {
        self.out.put(&[opcode::SELECT])?;
        self.out.length(db)
    }

    /// About how many keys the database has, and how many of them with deadlines.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn sizes(&mut self, keys: u64, volatile: u64) -> Result<(), WriteError> {
        self.out.put(&[opcode::RESIZE])?;
        self.out.length(keys)?;
        self.out.length(volatile)
    }

    /// A whole key. Must hold something: an empty collection has no written form.
    ///
    /// # Errors
    /// If the version has no form for it, or the sink fails. What was written so far is useless then.
    pub fn entry(
        &mut self,
        key: &[u8],
        deadline: Option<Millis>,
        eviction: Option<Eviction>,
        payload: &Payload<'_>,
    ) -> Result<(), WriteError> {
        let kind = kind_of(payload, self.version)?;
        self.head(kind, key, deadline, eviction)?;
        self.out.value(payload, self.version)
    }

    /// A whole record.
    ///
    /// # Errors
    /// As [`Writer::entry`].
    pub fn record(
        &mut self,
        record: RecordRef<'_>,
        eviction: Option<Eviction>,
    ) -> Result<(), WriteError> {
        self.entry(record.key(), record.deadline(), eviction, &record.payload())
    }

    /// A collection whose members follow one by one, then [`Writer::end`].
    ///
    /// # Errors
    /// As [`Writer::entry`].
    pub fn begin(&mut self, head: &Head<'_>, eviction: Option<Eviction>) -> Result<(), WriteError> {
        let form = FieldForm::of(head.earliest_expiry, self.version)?;
        let kind = match head.kind {
            Kind::String => return Err(WriteError::Members),
            Kind::List => code::LIST,
            Kind::Set => code::SET,
            Kind::SortedSet => code::ZSET_2,
            Kind::Hash => form.kind(),
        };
        self.head(kind, head.key, head.deadline, eviction)?;
        let left = head.len as u64;
        match head.kind {
            Kind::Hash => self.out.fields_head(form, left)?,
            Kind::String | Kind::List | Kind::Set | Kind::SortedSet => self.out.length(left)?,
        }
        self.open = Some(Open { kind: head.kind, form, left });
        Ok(())
    }

    /// A member of the collection that was begun; of a sorted set with its score.
    ///
    /// # Errors
    /// If it is one too many or does not fit, or the sink fails.
    pub fn member(&mut self, member: RecordRef<'_>, score: Option<f64>) -> Result<(), WriteError> {
        let open = self.open.as_mut().ok_or(WriteError::Members)?;
        open.left = open.left.checked_sub(1).ok_or(WriteError::Members)?;
        let key = Text::Bytes(member.key());
        match (open.kind, score) {
            (Kind::Hash, None) => {
                let value = Text::Bytes(member.inline_text());
                self.out.field(open.form, key, value, member.deadline())
            }
            (Kind::Set | Kind::List, None) => self.out.text(key),
            (Kind::SortedSet, Some(score)) => {
                self.out.text(key)?;
                self.out.put(&score.to_le_bytes())
            }
            (Kind::String | Kind::List | Kind::Set | Kind::Hash | Kind::SortedSet, _) => {
                Err(WriteError::Members)
            }
        }
    }

    /// The collection that was begun is complete.
    ///
    /// # Errors
    /// If members are missing.
    pub fn end(&mut self) -> Result<(), WriteError> {
        match self.open.take() {
            Some(Open { left: 0, .. }) => Ok(()),
            Some(_) | None => Err(WriteError::Members),
        }
    }

    /// Ends the file with its checksum and gives the sink back, flushed but not synced.
    ///
    /// # Errors
    /// If a collection is open, or the sink fails.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if self.open.is_some() {
            return Err(WriteError::Members);
        }
        self.out.put(&[opcode::END])?;
        let checksum = self.out.checksum()?;
        self.out.put(&checksum.to_le_bytes())?;
        self.out.into_sink()
    }

    fn head(
        &mut self,
        kind: u8,
        key: &[u8],
        deadline: Option<Millis>,
        eviction: Option<Eviction>,
    ) -> Result<(), WriteError> {
        if self.open.is_some() {
            return Err(WriteError::Members);
        }
        if let Some(when) = deadline {
            self.out.put(&[opcode::EXPIRE_MS])?;
            self.out.put(&when.0.to_le_bytes())?;
        }
        match eviction {
            Some(Eviction::IdleSeconds(idle)) => {
                self.out.put(&[opcode::IDLE])?;
                self.out.length(idle)?;
            }
            Some(Eviction::Frequency(count)) => self.out.put(&[opcode::FREQUENCY, count])?,
            None => {}
        }
        self.out.put(&[kind])?;
        self.out.bytes(key)
    }
}
