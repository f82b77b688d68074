//! RDB: the file format of snapshots, and DUMP payloads, which are one value of it. Here: the names of the
//! format's numbers, its versions, and why reading fails. It knows no file.

mod decode;
mod dump;
mod encode;
mod input;
mod packed;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;

pub use dump::{DumpError, dump, restore, restore_unsummed};
pub use read::{Entry, Eviction, Item, Reader};
pub use write::{Options, WriteError, Writer};

/// Who wrote a file and in which version of the format. Numbers of types and opcodes mean different
/// things in the two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `REDIS0001` to `REDIS0014`.
    Redis(u16),
    /// `VALKEY080` and later.
    Valkey(u16),
}

impl Version {
    /// The last version of Redis's line that we read (Redis 8.8).
    pub const REDIS_MAX: u16 = 14;
    /// The first and the last version of Valkey's line that we read.
    pub const VALKEY: std::ops::RangeInclusive<u16> = 80..=81;
    /// What Redis 7.0 writes, and everything after it reads.
    pub const DEFAULT: Version = Version::Redis(10);

    /// The version with this number, as DUMP payloads and the option `rdb-version` give it.
    pub fn from_number(number: u16) -> Option<Version> {
        if (1..=Version::REDIS_MAX).contains(&number) {
            Some(Version::Redis(number))
        } else {
            Version::VALKEY.contains(&number).then_some(Version::Valkey(number))
        }
    }

    /// Its number.
    pub fn number(self) -> u16 {
        match self {
            Version::Redis(number) | Version::Valkey(number) => number,
        }
    }

    /// Whether fields of hashes can keep their deadlines in it.
    pub fn has_field_deadlines(self) -> bool {
        match self {
            Version::Redis(number) => number >= 12,
            Version::Valkey(_) => true,
        }
    }

    /// The nine bytes that begin a file.
    fn magic(self) -> [u8; 9] {
        let (mut magic, number, digits) = match self {
            Version::Redis(number) => (*b"REDIS0000", number, 4),
            Version::Valkey(number) => (*b"VALKEY000", number, 3),
        };
        let mut rest = number;
        for place in magic.iter_mut().rev().take(digits) {
            let [digit, _] = (rest % 10).to_le_bytes();
            *place = b'0' + digit;
            rest /= 10;
        }
        magic
    }

    /// The version that these first nine bytes of a file tell; `None` if they are not RDB.
    fn from_magic(magic: &[u8; 9]) -> Option<Result<Version, (bool, u16)>> {
        let (valkey, digits) = match magic.strip_prefix(b"REDIS") {
            Some(digits) => (false, digits),
            None => (true, magic.strip_prefix(b"VALKEY")?),
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
        let version = Version::from_number(number);
        Some(version.filter(|v| matches!(v, Version::Valkey(_)) == valkey).ok_or((valkey, number)))
    }
}

/// Why reading failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct Error {
    /// The byte at which what is wrong begins.
    pub offset: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a file or payload.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The source failed.
    #[error("read error: {0}")]
    Io(#[from] io::Error),
    /// The bytes end too early.
    #[error("unexpected end")]
    Truncated,
    /// The first bytes are of something else.
    #[error("not an RDB file")]
    NotRdb,
    /// A version that we do not read.
    #[error("{} RDB version {number} is not supported", if *valkey { "Valkey" } else { "Redis" })]
    Version {
        /// Of Valkey's line.
        valkey: bool,
        /// The number.
        number: u16,
    },
    /// Something whole that we do not have.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A type or opcode that nobody is known to write.
    #[error("unknown type or opcode {0}")]
    Unknown(u8),
    /// A structure that contradicts itself.
    #[error("{0}")]
    Invalid(&'static str),
    /// The checksum at the end is that of other bytes.
    #[error("CRC error: the file says {expected:016x}, its bytes give {found:016x}")]
    Checksum {
        /// In the file.
        expected: u64,
        /// Of what was read.
        found: u64,
    },
}

/// The first byte of a record that is no value.
mod opcode {
    pub const VALKEY_UPDATE: u8 = 242;
    /// Valkey 80: slot import; Redis 13: metadata of keys.
    pub const SLOT_IMPORT: u8 = 243;
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION: u8 = 245;
    pub const FUNCTION_PRE_GA: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQUENCY: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZE: u8 = 251;
    pub const EXPIRE_MS: u8 = 252;
    pub const EXPIRE_S: u8 = 253;
    pub const SELECT: u8 = 254;
    pub const END: u8 = 255;
}

/// The types of values.
mod code {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const MODULE_PRE_GA: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    /// Valkey 80: a hash with deadlines; Redis: candidates of 7.4, with absolute deadlines.
    pub const HASH_DEADLINES_22: u8 = 22;
    /// Redis: candidates of 7.4; Valkey 81: something else.
    pub const HASH_LISTPACK_DEADLINES_23: u8 = 23;
    pub const REDIS_HASH_DEADLINES: u8 = 24;
    pub const REDIS_HASH_LISTPACK_DEADLINES: u8 = 25;
    pub const REDIS_STREAM_4: u8 = 26;
}
