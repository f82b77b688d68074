//! Verifies RDB files, logs and manifests and says where they break; tells how long a log with a torn tail must
//! be cut. It opens no file: the caller hands the bytes over, and cuts.

use std::io::{self, BufRead, Read, Seek};

use larder_store::Thresholds;

use crate::aof::{LogError, Manifest, ManifestError, scan};
use crate::limits::MANIFEST_BYTES_MAX;
use crate::rdb::{self, Version};

/// What a file turned out to be, and what is in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The version of an RDB file or preamble.
    pub version: Option<Version>,
    /// Keys in RDB form.
    pub keys: u64,
    /// Of these, keys that have a deadline.
    pub volatile: u64,
    /// Empty collections, which loading drops.
    pub empty: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// Logged commands.
    pub commands: u64,
    /// Whether an RDB part had a checksum.
    pub checksum: bool,
    /// Checksums of the log that were right.
    pub verified: u64,
    /// Files that a manifest names and that were verified.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl Summary {
    fn add(&mut self, other: &Summary) {
        self.keys += other.keys;
        self.volatile += other.volatile;
        self.empty += other.empty;
        self.functions += other.functions;
        self.commands += other.commands;
        self.verified += other.verified;
        self.bytes += other.bytes;
        self.files += 1;
    }
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It breaks in its RDB part.
    #[error("{0}")]
    Rdb(#[from] rdb::Error),
    /// Bytes follow an RDB file that are no log.
    #[error("{0} more bytes than the RDB file has, at byte {1}")]
    Trailing(u64, u64),
    /// It breaks in its log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The manifest breaks.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// A file that the manifest names breaks or cannot be read.
    #[error("{name}: {error}")]
    Part {
        /// Its name.
        name: String,
        /// Why.
        error: Box<CheckError>,
    },
    /// A log other than the last one of a manifest has a torn tail: cutting it would lose what follows.
    #[error("{0}, but it is not the last file of the log")]
    TornInside(LogError),
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It begins like nothing that we know.
    #[error("neither an RDB file nor a log nor a manifest")]
    Unknown,
}

impl CheckError {
    /// The name of the file that a manifest names (`None`: the file itself), and the length to which it must be cut,
    /// if nothing but a torn tail is wrong.
    pub fn cut(&self) -> Option<(Option<&str>, u64)> {
        match self {
            CheckError::Log(error) if error.is_torn() => Some((None, error.whole)),
            CheckError::Part { name, error } => {
                error.cut().map(|(_, len)| (Some(name.as_str()), len))
            }
            CheckError::Log(_)
            | CheckError::Rdb(_)
            | CheckError::Trailing(..)
            | CheckError::Manifest(_)
            | CheckError::TornInside(_)
            | CheckError::Io(_)
            | CheckError::Unknown => None,
        }
    }
}

/// Verifies a file of any of the three kinds. `open` opens a file beside it by its name.
///
/// # Errors
/// Where and why it breaks.
pub fn check<R: BufRead + Seek>(
    mut source: R,
    open: &mut dyn FnMut(&[u8]) -> io::Result<R>,
) -> Result<Summary, CheckError> {
    match first_byte(&mut source)? {
        Some(b'f') => check_manifest(source, open),
        Some(b'R' | b'V' | b'*' | b'#') | None => check_data(source),
        Some(_) => Err(CheckError::Unknown),
    }
}

/// Verifies an RDB file, a log, or a log with a preamble in RDB form. An empty file is an empty log.
///
/// # Errors
/// Where and why it breaks.
pub fn check_data<R: BufRead + Seek>(mut source: R) -> Result<Summary, CheckError> {
    let mut summary = Summary::default();
    if !matches!(first_byte(&mut source)?, Some(b'R' | b'V')) {
        return check_log(source, 0, summary);
    }
    let mut reader = rdb::Reader::new(source, &Thresholds::default())?;
    summary.version = Some(reader.version());
    while let Some(item) = reader.next_item()? {
        match item {
            rdb::Item::Entry(entry) => {
                summary.keys += 1;
                summary.volatile += u64::from(entry.deadline.is_some());
            }
            rdb::Item::EmptyKey(_) => summary.empty += 1,
            rdb::Item::Function(_) => summary.functions += 1,
            rdb::Item::End { checked } => summary.checksum = checked,
            rdb::Item::Aux(..)
            | rdb::Item::Select(_)
            | rdb::Item::Sizes { .. }
            | rdb::Item::SlotSizes { .. }
            | rdb::Item::SlotImport { .. }
            | rdb::Item::ModuleAux(_) => {}
        }
    }
    summary.bytes = reader.offset();
    let offset = reader.offset();
    let mut source = reader.into_source()?;
    match first_byte(&mut source)? {
        None => Ok(summary),
        Some(b'*' | b'#') => check_log(source, offset, summary),
        Some(_) => Err(CheckError::Trailing(rest_len(source)?, offset)),
    }
}

fn check_log<R: BufRead + Seek>(
    mut source: R,
    offset: u64,
    mut summary: Summary,
) -> Result<Summary, CheckError> {
    let found = scan(&mut source, offset)?;
    if let Some(torn) = found.cut {
        return Err(torn.into());
    }
    summary.commands = found.commands;
    summary.verified = found.verified;
    summary.bytes = found.end;
    Ok(summary)
}

fn check_manifest<R: BufRead + Seek>(
    source: R,
    open: &mut dyn FnMut(&[u8]) -> io::Result<R>,
) -> Result<Summary, CheckError> {
    let mut text = Vec::new();
    source.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
    let manifest = Manifest::parse(&text)?;
    let mut summary = Summary::default();
    let files: Vec<_> = manifest.base.iter().chain(&manifest.increments).collect();
    for (n, file) in files.iter().enumerate() {
        let part = open(&file.name).map_err(CheckError::Io).and_then(check_data);
        match part {
            Ok(part) => {
                summary.version = summary.version.or(part.version);
                summary.checksum |= part.checksum;
                summary.add(&part);
            }
            Err(error) => {
                let error = match error {
                    CheckError::Log(torn) if torn.is_torn() && n + 1 < files.len() => {
                        CheckError::TornInside(torn)
                    }
                    other => other,
                };
                let name = String::from_utf8_lossy(&file.name).into_owned();
                return Err(CheckError::Part { name, error: Box::new(error) });
            }
        }
    }
    Ok(summary)
}

fn first_byte(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        match source.fill_buf() {
            Ok(held) => return Ok(held.first().copied()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn rest_len(mut source: impl BufRead) -> io::Result<u64> {
    let mut len = 0;
    while first_byte(&mut source)?.is_some() {
        let held = source.fill_buf()?.len();
        source.consume(held);
        len += held as u64;
    }
    Ok(len)
}
