//! The log itself: commands as clients send them, with lines of notes (`#TS:` of Redis 7, and `#CRC:` of our own,
//! which Redis skips) between them. The reader tells a torn end from damage in the middle, and up to
//! which byte everything is whole.
//!
//! `#CRC:<checksum> <lasting>` says what the bytes since the last such note sum up to, and how much of the file
//! was surely on disk when it was written. By the second number [`super::scan`] tells bytes that a power cut
//! took from bytes that were damaged. As the very first line it says instead what all sums of the file begin
//! with, a random number: whoever can write values cannot forge a note.
//!
//! `#REPL:<history> <offset>` says where in which replication history the log is at this line. The commands behind
//! it are bytes of that history, one after the other, up to the next such note.

use std::io::{self, BufRead, ErrorKind};

use larder_base::number;

use crate::crc64::Crc64;
use crate::limits::{COMMAND_ARGS_MAX, LINE_BYTES_MAX, TEXT_BYTES_MAX, TRUST_BYTES};

/// What the log says next.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A command and the byte where it begins.
    Command {
        /// Where it begins.
        offset: u64,
        /// Its name and arguments.
        args: Vec<Vec<u8>>,
    },
    /// What follows was written at this second.
    Timestamp(i64),
    /// Everything since the last such note, or since the beginning, is as it was written.
    Verified {
        /// So many bytes of the file were on disk for certain when it was written.
        lasting: u64,
    },
    /// The log is at this place of a history.
    Place(Place),
    /// Another note.
    Note(Vec<u8>),
}

/// A place in a replication history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The history's name.
    pub history: Vec<u8>,
    /// How many bytes of it are before.
    pub offset: u64,
}

/// Why the log breaks.
#[derive(Debug, thiserror::Error)]
pub enum LogReason {
    /// The source failed.
    #[error("read error: {0}")]
    Io(#[from] io::Error),
    /// The log ends in the middle of a command or line: cutting the tail mends it.
    #[error("Unexpected end of file reading the append only file")]
    Torn,
    /// The log ends within a transaction: cutting the tail mends it.
    #[error("Unexpected end of file reading the append only file, within a transaction")]
    OpenTransaction,
    /// The end was never forced to disk, and parts of it are missing: cutting the tail mends it.
    #[error("bytes that were never forced to disk are missing")]
    Unfinished,
    /// The bytes are no log.
    #[error("Bad file format reading the append only file: {0}")]
    Format(&'static str),
    /// A note says other bytes than these were written before it.
    #[error("wrong checksum of the bytes since {since}")]
    Checksum {
        /// Where the bytes begin that the note is about.
        since: u64,
    },
}

impl LogReason {
    /// The same reason, for a second report.
    pub(super) fn copy(&self) -> LogReason {
        match self {
            LogReason::Io(error) => LogReason::Io(error.kind().into()),
            LogReason::Torn => LogReason::Torn,
            LogReason::OpenTransaction => LogReason::OpenTransaction,
            LogReason::Unfinished => LogReason::Unfinished,
            LogReason::Format(what) => LogReason::Format(what),
            LogReason::Checksum { since } => LogReason::Checksum { since: *since },
        }
    }
}

/// Where and why the log breaks.
#[derive(Debug, thiserror::Error)]
#[error("{reason} at byte {offset}; whole up to byte {whole}")]
pub struct LogError {
    /// Where what is wrong begins.
    pub offset: u64,
    /// Everything before this byte is whole commands, and no transaction is open there.
    pub whole: u64,
    /// What is wrong.
    pub reason: LogReason,
}

impl LogError {
    /// Whether the end is missing, rather than something wrong in what is there.
    pub fn is_torn(&self) -> bool {
        matches!(self.reason, LogReason::Torn | LogReason::OpenTransaction | LogReason::Unfinished)
    }
}

/// A log that is being read.
pub struct LogReader<R> {
    source: R,
    offset: u64,
    /// Up to here everything is whole and outside of transactions.
    whole: u64,
    whole_crc: Crc64,
    in_transaction: bool,
    /// Whether arguments are kept, or only passed over.
    keeps: bool,
    crc: Crc64,
    /// What sums begin with.
    seed: Crc64,
    /// The first byte of the log.
    start: u64,
    /// Where the bytes that `crc` sums up begin.
    crc_since: u64,
    /// Checksums that were right.
    verified: u64,
}

impl<R: BufRead> LogReader<R> {
    /// Reads a log whose first byte is number `offset` of its file (behind a preamble in RDB form).
    pub fn new(source: R, offset: u64) -> LogReader<R> {
        LogReader {
            source,
            offset,
            whole: offset,
            whole_crc: Crc64::new(),
            in_transaction: false,
            keeps: true,
            crc: Crc64::new(),
            seed: Crc64::new(),
            start: offset,
            crc_since: offset,
            verified: 0,
        }
    }

    /// The same without keeping arguments but the first: to verify only.
    pub fn skimming(source: R, offset: u64) -> LogReader<R> {
        LogReader { keeps: false, ..LogReader::new(source, offset) }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Everything before this byte is whole commands, and no transaction is open there.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// The sum of the bytes before [`LogReader::whole`] that no note has summed up yet.
    pub fn whole_crc(&self) -> Crc64 {
        self.whole_crc
    }

    /// Where the bytes begin that no note has summed up yet.
    pub fn unverified(&self) -> u64 {
        self.crc_since
    }

    /// What the sums of this file begin with.
    pub fn seed(&self) -> Crc64 {
        self.seed
    }

    /// Checksums that were right so far.
    pub fn verified(&self) -> u64 {
        self.verified
    }

    /// The source, wherever it stands now.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The next item; `None` at a clean end.
    ///
    /// # Errors
    /// If the log breaks here. Nothing can be read after that.
    pub fn next_item(&mut self) -> Result<Option<Item>, LogError> {
        let begin = self.offset;
        let before = self.crc;
        if self.is_at_end().map_err(|reason| self.error(begin, reason))? {
            if self.in_transaction {
                return Err(self.error(begin, LogReason::OpenTransaction));
            }
            return Ok(None);
        }
        let item =
            self.item(begin, before).map_err(|(offset, reason)| self.error(offset, reason))?;
        if let Item::Command { args, .. } = &item {
            match args.first() {
                Some(name) if name.eq_ignore_ascii_case(b"MULTI") => self.in_transaction = true,
                Some(name) if name.eq_ignore_ascii_case(b"EXEC") => self.in_transaction = false,
                _ => {}
            }
        }
        if !self.in_transaction {
            self.whole = self.offset;
            self.whole_crc = self.crc;
        }
        Ok(Some(item))
    }

    fn error(&self, offset: u64, reason: LogReason) -> LogError {
        LogError { offset, whole: self.whole, reason }
    }

    fn item(&mut self, begin: u64, before: Crc64) -> Result<Item, (u64, LogReason)> {
        let line = self.line().map_err(|reason| (begin, reason))?;
        match line.split_first() {
            Some((b'#', note)) => self.note(begin, before, note),
            Some((b'*', count)) => {
                let count = number::parse_u64(count).filter(|n| (1..=COMMAND_ARGS_MAX).contains(n));
                let wrong = (begin, LogReason::Format("number of arguments"));
                let args = self.args(count.ok_or(wrong)?, begin)?;
                Ok(Item::Command { offset: begin, args })
            }
            _ => Err((begin, LogReason::Format("neither a command nor a note"))),
        }
    }

    fn args(&mut self, count: u64, begin: u64) -> Result<Vec<Vec<u8>>, (u64, LogReason)> {
        // What is torn is the whole command; what is wrong is one argument.
        let place = |offset, reason| match reason {
            LogReason::Torn => (begin, LogReason::Torn),
            other => (offset, other),
        };
        let mut args = Vec::new();
        for number in 0..count {
            let offset = self.offset;
            let fail = |reason| place(offset, reason);
            let line = self.line().map_err(fail)?;
            let len = line.strip_prefix(b"$").and_then(number::parse_u64);
            let len =
                len.filter(|len| *len <= TEXT_BYTES_MAX).and_then(|n| usize::try_from(n).ok());
            let len = len.ok_or(fail(LogReason::Format("length of an argument")))?;
            let keeps = self.keeps || number == 0;
            let mut arg = Vec::with_capacity(if keeps { len.min(TRUST_BYTES) } else { 0 });
            self.take(len, keeps.then_some(&mut arg)).map_err(fail)?;
            let mut end = Vec::new();
            self.take(2, Some(&mut end)).map_err(fail)?;
            if end != b"\r\n" {
                return Err(fail(LogReason::Format("argument of another length than it says")));
            }
            if keeps {
                args.push(arg);
            }
        }
        Ok(args)
    }

    fn note(&mut self, begin: u64, before: Crc64, note: &[u8]) -> Result<Item, (u64, LogReason)> {
        if let Some(seconds) = note.strip_prefix(b"TS:") {
            let seconds = number::parse_i64(seconds);
            let seconds = seconds.ok_or((begin, LogReason::Format("time of a note")))?;
            return Ok(Item::Timestamp(seconds));
        }
        if let Some(written) = note.strip_prefix(b"CRC:") {
            let wrong = (begin, LogReason::Checksum { since: self.crc_since });
            let Some((sum, lasting)) = parse_checksum(written) else { return Err(wrong) };
            if begin == self.start {
                self.seed = sum;
            } else if before != sum {
                return Err(wrong);
            }
            self.crc = self.seed;
            self.crc_since = self.offset;
            self.verified += 1;
            return Ok(Item::Verified { lasting });
        }
        let place = note.strip_prefix(b"REPL:").and_then(|text| {
            let mut words = text.split(|byte| *byte == b' ');
            let (history, offset) = (words.next()?.to_vec(), number::parse_u64(words.next()?)?);
            words.next().is_none().then_some(Place { history, offset })
        });
        Ok(place.map_or_else(|| Item::Note(note.to_vec()), Item::Place))
    }

    fn is_at_end(&mut self) -> Result<bool, LogReason> {
        loop {
            match self.source.fill_buf() {
                Ok(held) => return Ok(held.is_empty()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes exactly `len` bytes.
    fn take(&mut self, len: usize, mut into: Option<&mut Vec<u8>>) -> Result<(), LogReason> {
        let mut left = len;
        while left > 0 {
            if self.is_at_end()? {
                return Err(LogReason::Torn);
            }
            let held = self.source.fill_buf()?;
            let piece = held.get(..left.min(held.len())).unwrap_or_default();
            if let Some(into) = &mut into {
                into.extend_from_slice(piece);
            }
            self.crc.update(piece);
            let got = piece.len();
            self.source.consume(got);
            self.offset += got as u64;
            left -= got;
        }
        Ok(())
    }

    /// A line, without its end, which must be CR LF.
    fn line(&mut self) -> Result<Vec<u8>, LogReason> {
        let mut line = Vec::new();
        loop {
            if self.is_at_end()? {
                return Err(LogReason::Torn);
            }
            let held = self.source.fill_buf()?;
            let end = held.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let piece = held.get(..end.unwrap_or(held.len())).unwrap_or_default();
            if line.len() + piece.len() > LINE_BYTES_MAX {
                return Err(LogReason::Format("line too long"));
            }
            line.extend_from_slice(piece);
            self.crc.update(piece);
            let got = piece.len();
            self.source.consume(got);
            self.offset += got as u64;
            if end.is_some() {
                let whole = line.strip_suffix(b"\r\n").map(<[u8]>::to_vec);
                return whole.ok_or(LogReason::Format("line without CR"));
            }
        }
    }
}

/// Appends a command.
pub fn encode_command(out: &mut Vec<u8>, args: &[impl AsRef<[u8]>]) {
    out.push(b'*');
    number::write_u64(out, args.len() as u64);
    out.extend_from_slice(b"\r\n");
    for arg in args {
        let arg = arg.as_ref();
        out.push(b'$');
        number::write_u64(out, arg.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// The note that what follows is written at this second (`aof-timestamp-enabled`; Redis reads it from 7.0 on).
pub fn timestamp_line(seconds: i64) -> Vec<u8> {
    let mut line = b"#TS:".to_vec();
    number::write_i64(&mut line, seconds);
    line.extend_from_slice(b"\r\n");
    line
}

/// The note that the log is at this place of a history. Redis skips it, from 7.0 on.
pub fn place_line(history: &str, offset: u64) -> Vec<u8> {
    [b"#REPL:", history.as_bytes(), b" ", number::decimal(offset).as_bytes(), b"\r\n"].concat()
}

/// The note that the bytes since the last one have this checksum, and that so many bytes of the file are surely on
/// disk. Redis skips it, from 7.0 on.
pub fn checksum_line(crc: Crc64, lasting: u64) -> Vec<u8> {
    let lasting = number::decimal(lasting);
    [NOTE, hex(crc.value()).as_slice(), b" ", lasting.as_bytes(), b"\r\n"].concat()
}

/// The checksum of such a note and how much was on disk; what stands behind `#CRC:`, without the line's end.
pub(super) fn parse_checksum(text: &[u8]) -> Option<(Crc64, u64)> {
    let (sum, lasting) = text.split_at_checked(16)?;
    let sum = std::str::from_utf8(sum).ok()?;
    let plain = sum.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
    let sum = u64::from_str_radix(sum, 16).ok().filter(|_| plain)?;
    let lasting = match lasting {
        b"" => 0,
        text => text.strip_prefix(b" ").and_then(number::parse_u64)?,
    };
    Some((Crc64::continued(sum), lasting))
}

/// How the note of a checksum begins.
pub(super) const NOTE: &[u8] = b"#CRC:";

fn hex(value: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (n, place) in text.iter_mut().rev().enumerate() {
        let [digit, ..] = (value >> (4 * n) & 0xf).to_le_bytes();
        *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    }
    text
}
