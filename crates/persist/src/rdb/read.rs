//! Reads an RDB file from its first byte to its checksum, an item at a time. It knows no keyspace: whether a
//! key comes twice is for the caller to see.

use std::io::BufRead;

use larder_base::Millis;
use larder_store::{Thresholds, Value};

use super::decode;
use super::input::Input;
use super::{Error, Reason, Version, code, opcode};

/// What a file says next.
#[derive(Debug)]
pub enum Item {
    /// A note of the writer: name and text.
    Aux(Vec<u8>, Vec<u8>),
    /// The keys that follow belong to this database.
    Select(u64),
    /// About how many keys the database has, and how many with deadlines: a hint, not to be believed.
    Sizes {
        /// Keys.
        keys: u64,
        /// Keys with deadlines.
        volatile: u64,
    },
    /// About how much a slot holds: a hint.
    SlotSizes {
        /// The slot.
        slot: u64,
        /// Its keys.
        keys: u64,
        /// Its keys with deadlines.
        volatile: u64,
    },
    /// Slots that were being imported (Valkey 9).
    SlotImport {
        /// The name of the import.
        name: Vec<u8>,
        /// First and last slots.
        ranges: Vec<(u64, u64)>,
    },
    /// The source of a library of functions.
    Function(Vec<u8>),
    /// Data of a module, by its name, were skipped.
    ModuleAux(String),
    /// A key with its value.
    Entry(Entry),
    /// A key whose collection is empty: old versions wrote such keys by mistake, and Redis drops them.
    EmptyKey(Vec<u8>),
    /// The end, after a right checksum (if the file has one).
    End {
        /// Whether the file had one.
        checked: bool,
    },
}

/// A key as the file has it.
#[derive(Debug)]
pub struct Entry {
    /// Where it begins.
    pub offset: u64,
    /// Its database.
    pub db: u64,
    /// The key.
    pub key: Vec<u8>,
    /// When it expires; it may have passed.
    pub deadline: Option<Millis>,
    /// What the eviction policy of the writer knew.
    pub eviction: Option<Eviction>,
    /// The value; never an empty collection.
    pub value: Value,
}

/// What an eviction policy knew of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Seconds since the last access.
    IdleSeconds(u64),
    /// The logarithmic counter of accesses.
    Frequency(u8),
}

/// A file that is being read.
pub struct Reader<R> {
    input: Input<R>,
    version: Version,
    limits: Thresholds,
    db: u64,
    done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the head of a file. Collections take the forms that `limits` says.
    ///
    /// # Errors
    /// If it is no RDB file, or of a version that we do not read.
    pub fn new(source: R, limits: &Thresholds) -> Result<Reader<R>, Error> {
        let mut input = Input::new(source);
        let fail = |reason| Error { offset: 0, reason };
        let version = match Version::from_magic(&input.array()?) {
            Some(Ok(version)) => version,
            Some(Err((valkey, number))) => return Err(fail(Reason::Version { valkey, number })),
            None => return Err(fail(Reason::NotRdb)),
        };
        Ok(Reader { input, version, limits: *limits, db: 0, done: false })
    }

    /// The version that the file says.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many bytes were read.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// The source, right behind the last item: after `End`, behind the file.
    ///
    /// # Errors
    /// If the source fails.
    pub fn into_source(self) -> Result<R, Error> {
        self.input.into_source()
    }

    /// The next item; `None` after `End`.
    ///
    /// # Errors
    /// If the file breaks here. Nothing can be read after that.
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        if self.done {
            return Ok(None);
        }
        let offset = self.input.offset();
        let item = match self.input.byte()? {
            opcode::AUX => Item::Aux(self.text()?, self.text()?),
            opcode::SELECT => {
                self.db = self.input.length()?;
                Item::Select(self.db)
            }
            opcode::RESIZE => {
                Item::Sizes { keys: self.input.length()?, volatile: self.input.length()? }
            }
            opcode::SLOT_INFO => Item::SlotSizes {
                slot: self.input.length()?,
                keys: self.input.length()?,
                volatile: self.input.length()?,
            },
            opcode::FUNCTION => Item::Function(self.text()?),
            opcode::MODULE_AUX => Item::ModuleAux(self.module_aux()?),
            opcode::SLOT_IMPORT if matches!(self.version, Version::Valkey(_)) => {
                self.slot_import()?
            }
            opcode::END => self.end()?,
            first => self.entry(offset, first)?,
        };
        Ok(Some(item))
    }

    fn text(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.input.text()?.into_bytes())
    }

    /// A key with what precedes it.
    fn entry(&mut self, offset: u64, first: u8) -> Result<Item, Error> {
        let (mut deadline, mut eviction, mut kind) = (None, None, first);
        loop {
            match kind {
                opcode::EXPIRE_MS => {
                    deadline = Some(Millis(i64::from_le_bytes(self.input.array()?)));
                }
                opcode::EXPIRE_S => {
                    deadline = Millis::from_secs(i32::from_le_bytes(self.input.array()?).into());
                }
                opcode::FREQUENCY => eviction = Some(Eviction::Frequency(self.input.byte()?)),
                opcode::IDLE => eviction = Some(Eviction::IdleSeconds(self.input.length()?)),
                _ => break,
            }
            kind = self.input.byte()?;
        }
        if let Some(reason) = self.refused(kind) {
            return Err(Error { offset: self.input.offset() - 1, reason });
        }
        let key = self.text()?;
        let value = decode::value(&mut self.input, kind, self.version, &self.limits)?;
        if value.as_ref().is_empty() {
            return Ok(Item::EmptyKey(key));
        }
        Ok(Item::Entry(Entry { offset, db: self.db, key, deadline, eviction, value }))
    }

    /// Why this cannot be the type of a value that we have.
    fn refused(&self, kind: u8) -> Option<Reason> {
        let valkey = matches!(self.version, Version::Valkey(_));
        match kind {
            code::MODULE_PRE_GA | code::MODULE_2 | code::STREAM | code::STREAM_2 => {
                Some(decode::refusal(kind))
            }
            code::STREAM_3 | code::REDIS_STREAM_4 => Some(decode::refusal(kind)),
            opcode::VALKEY_UPDATE if valkey => {
                Some(Reason::Unsupported("Valkey's opcode 242 (commands within the file)"))
            }
            opcode::SLOT_IMPORT => {
                Some(Reason::Unsupported("Redis's opcode 243 (metadata of keys)"))
            }
            opcode::FUNCTION_PRE_GA => {
                Some(Reason::Unsupported("opcode 246 (functions of a candidate of Redis 7.0)"))
            }
            code::HASH_DEADLINES_22 if !valkey && self.version.number() < 12 => {
                Some(Reason::Unknown(kind))
            }
            0..=code::REDIS_HASH_LISTPACK_DEADLINES if kind != 8 => None,
            other => Some(Reason::Unknown(other)),
        }
    }

    fn slot_import(&mut self) -> Result<Item, Error> {
        let name = self.input.array::<40>()?.to_vec();
        let mut ranges = Vec::new();
        for _ in 0..self.input.length()? {
            ranges.push((self.input.length()?, self.input.length()?));
        }
        Ok(Item::SlotImport { name, ranges })
    }

    /// Skips the data of a module, which tell how long they are; returns its name.
    fn module_aux(&mut self) -> Result<String, Error> {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let id = self.input.length()?;
        let letters = (0..9u32).filter_map(|n| {
            let [letter, ..] = (id >> (58 - 6 * n)).to_le_bytes();
            ALPHABET.get(usize::from(letter & 0x3f)).copied().map(char::from)
        });
        let name = letters.collect();
        loop {
            let offset = self.input.offset();
            match self.input.length()? {
                0 => return Ok(name),
                1 | 2 => drop(self.input.length()?),
                3 => self.input.skip(4)?,
                4 => self.input.skip(8)?,
                5 => drop(self.input.text()?),
                _ => {
                    let reason = Reason::Invalid("unknown data of a module");
                    return Err(Error { offset, reason });
                }
            }
        }
    }

    fn end(&mut self) -> Result<Item, Error> {
        self.done = true;
        if matches!(self.version, Version::Redis(..5)) {
            return Ok(Item::End { checked: false });
        }
        let found = self.input.checksum()?;
        let offset = self.input.offset();
        let expected = u64::from_le_bytes(self.input.array()?);
        // `rdbchecksum no` writes 0.
        if expected != 0 && expected != found {
            return Err(Error { offset, reason: Reason::Checksum { expected, found } });
        }
        Ok(Item::End { checked: expected != 0 })
    }
}
