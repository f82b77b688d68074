//! The manifest of a multi-part log (Redis 7.0): one line a file, `file NAME seq N type b|i|h`. A file is the
//! base (at most one), an increment, or history that waits for its deletion. It knows no file.
//!
//! Each of our lines (unless `aof-checksum-enabled` is off) ends with `crc SUM`, the sum of what stands before it: by one bit an increment would be history, which
//! is not read but deleted. Redis skips keys that it does not know, and lines without a sum are as good as its.

use larder_base::number;

use crate::crc64::Crc64;
use crate::limits::{LINE_BYTES_MAX, MANIFEST_BYTES_MAX};

/// What a file of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Everything up to a moment.
    Base,
    /// Commands after the base and earlier increments.
    Increment,
    /// Replaced, to be deleted.
    History,
}

impl FileKind {
    fn letter(self) -> &'static str {
        match self {
            FileKind::Base => "b",
            FileKind::Increment => "i",
            FileKind::History => "h",
        }
    }
}

/// One file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its name, without a directory.
    pub name: Vec<u8>,
    /// Its number among those of its kind.
    pub seq: u64,
}

/// Which files make up the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Everything up to the last rewrite.
    pub base: Option<LogFile>,
    /// What came after, in order.
    pub increments: Vec<LogFile>,
    /// To be deleted.
    pub history: Vec<LogFile>,
}

/// Why a manifest is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} in line {line} of the manifest")]
pub struct ManifestError {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// Longest name, as it is written: a line holds it with its number and type.
const NAME_BYTES_MAX: usize = LINE_BYTES_MAX - 64;

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// At the first line that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError { line: 1, reason: "more than 1 MiB" });
        }
        if bytes.is_empty() {
            return Err(ManifestError { line: 1, reason: "Found an empty AOF manifest" });
        }
        for (n, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let added = line
                .strip_suffix(b"\n")
                .ok_or("Invalid AOF manifest file format (a line that does not end)")
                .and_then(|line| manifest.add_line(line));
            added.map_err(|reason| ManifestError { line: n + 1, reason })?;
        }
        Ok(manifest)
    }

    fn add_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if line.len() > LINE_BYTES_MAX {
            return Err("The AOF manifest file contains too long line");
        }
        if line.first() == Some(&b'#') {
            return Ok(());
        }
        let words = words(line).ok_or("Invalid AOF manifest file format (quotes)")?;
        let (pairs, []) = words.as_chunks::<2>() else {
            return Err("Invalid AOF manifest file format (a key without a value)");
        };
        let (mut name, mut seq, mut kind) = (None, None, None);
        for [key, value] in pairs {
            if key == b"crc" && !is_sum(line, value) {
                return Err("a wrong checksum");
            }
            // Keys of later versions are skipped, as Redis does.
            match key.to_ascii_lowercase().as_slice() {
                b"file" => name = Some(value.clone()),
                b"seq" => seq = number::parse_u64(value),
                b"type" => {
                    kind = match value.as_slice() {
                        b"b" => Some(FileKind::Base),
                        b"i" => Some(FileKind::Increment),
                        b"h" => Some(FileKind::History),
                        _ => return Err("Unknown AOF file type"),
                    };
                }
                _ => {}
            }
        }
        let name = name.ok_or("Invalid AOF manifest file format (no name)")?;
        if name.is_empty() || name.contains(&b'/') || name.contains(&b'\\') || name.contains(&0) {
            return Err("a name that is a path");
        }
        let mut written = Vec::new();
        quote(&mut written, &name);
        if written.len() > NAME_BYTES_MAX {
            return Err("too long a name");
        }
        let file = LogFile {
            name,
            seq: seq
                .filter(|seq| *seq > 0)
                .ok_or("Invalid AOF manifest file format (no number)")?,
        };
        match kind.ok_or("Invalid AOF manifest file format (no type)")? {
            FileKind::Base if self.base.is_some() => {
                return Err("Found duplicate base file information");
            }
            FileKind::Base => self.base = Some(file),
            FileKind::Increment => {
                if self.increments.last().is_some_and(|last| last.seq >= file.seq) {
                    return Err("Found a non-monotonic sequence number");
                }
                self.increments.push(file);
            }
            FileKind::History => self.history.push(file),
        }
        Ok(())
    }

    /// The text of the manifest; `sums`: each line is summed up.
    pub fn render(&self, sums: bool) -> Vec<u8> {
        let mut text = Vec::new();
        let base = self.base.iter().map(|file| (file, FileKind::Base));
        let history = self.history.iter().map(|file| (file, FileKind::History));
        let increments = self.increments.iter().map(|file| (file, FileKind::Increment));
        for (file, kind) in base.chain(history).chain(increments) {
            let begin = text.len();
            text.extend_from_slice(b"file ");
            quote(&mut text, &file.name);
            text.extend_from_slice(b" seq ");
            number::write_u64(&mut text, file.seq);
            text.extend_from_slice(b" type ");
            text.extend_from_slice(kind.letter().as_bytes());
            if sums {
                let sum = sum(text.get(begin..).unwrap_or_default());
                text.extend_from_slice(&[SUM, sum.as_slice()].concat());
            }
            text.push(b'\n');
        }
        text
    }

    /// The next base, for files named after `prefix` (`appendfilename`).
    pub fn next_base(&self, prefix: &[u8], rdb: bool) -> LogFile {
        let all = self.base.iter().chain(&self.history);
        let seq = all.map(|file| file.seq).max().unwrap_or(0).saturating_add(1);
        let end: &[u8] = if rdb { b".base.rdb" } else { b".base.aof" };
        LogFile { name: numbered(prefix, seq, end), seq }
    }

    /// The next increment.
    pub fn next_increment(&self, prefix: &[u8]) -> LogFile {
        let all = self.increments.iter().chain(&self.history);
        let seq = all.map(|file| file.seq).max().unwrap_or(0).saturating_add(1);
        LogFile { name: numbered(prefix, seq, b".incr.aof"), seq }
    }
}

/// What stands between a line and its sum.
const SUM: &[u8] = b" crc ";

fn sum(line: &[u8]) -> Vec<u8> {
    format!("{:016x}", Crc64::of(line)).into_bytes()
}

/// Whether this is the sum at the end of a line.
fn is_sum(line: &[u8], value: &[u8]) -> bool {
    let summed = line.strip_suffix(value).and_then(|line| line.strip_suffix(SUM));
    summed.is_some_and(|summed| sum(summed) == value)
}

fn numbered(prefix: &[u8], seq: u64, end: &[u8]) -> Vec<u8> {
    [prefix, b".", number::decimal(seq).as_bytes(), end].concat()
}

/// Words separated by spaces; one in double quotes may hold anything, escaped. `None`: a quote does not close.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let Some((&first, after)) = rest.split_first() {
        let mut word = Vec::new();
        if first == b'"' {
            rest = quoted(after, &mut word)?;
            if rest.first().is_some_and(|next| !next.is_ascii_whitespace()) {
                return None;
            }
        } else {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let (taken, after) = rest.split_at(end);
            word.extend_from_slice(taken);
            rest = after;
        }
        words.push(word);
        rest = rest.trim_ascii_start();
    }
    Some(words)
}

/// Reads up to the closing quote; returns what follows it.
fn quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some(rest),
            b'\\' => {
                let (&escape, after) = rest.split_first()?;
                rest = after;
                let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
                let hex = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
                match (escape, hex) {
                    (b'x', Some(value)) => {
                        word.push(value);
                        rest = after.get(2..)?;
                    }
                    (b'n', _) => word.push(b'\n'),
                    (b'r', _) => word.push(b'\r'),
                    (b't', _) => word.push(b'\t'),
                    (b'a', _) => word.push(7),
                    (b'b', _) => word.push(8),
                    (other, _) => word.push(other),
                }
            }
            other => word.push(other),
        }
    }
}

fn quote(out: &mut Vec<u8>, name: &[u8]) {
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\\';
    if name.iter().all(plain) {
        return out.extend_from_slice(name);
    }
    out.push(b'"');
    for byte in name {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
    }
    out.push(b'"');
}
