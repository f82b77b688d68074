//! Repeats a log from its files. Each is scanned before it is repeated, so that nothing is repeated that does not
//! count. It knows neither what a command does nor how a snapshot is taken in.

use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::ops::Range;

use super::log::{Item, LogError, LogReader, Place};
use super::scan::{Scan, scan};
use super::set::LogSet;
use crate::disk::Disk;

const BUFFER_BYTES: usize = 256 << 10;

/// Who repeats a log.
pub trait Repeat {
    /// Takes in the data in RDB form that the source begins with; returns its length.
    ///
    /// # Errors
    /// Why it is refused, and where.
    fn snapshot<R: BufRead>(&mut self, name: &str, source: &mut R) -> Result<u64, String>;

    /// Repeats a command.
    ///
    /// # Errors
    /// Why it is refused.
    fn command(&mut self, args: &[Vec<u8>]) -> Result<(), String>;

    /// The log is cut behind this: a transaction that has begun is forgotten.
    fn give_up_transaction(&mut self);

    /// So much of a file was read.
    fn progress(&mut self, name: &str, read: u64);
}

/// Why a log is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Io(String, io::Error),
    /// A file breaks.
    #[error("{0}: {1}")]
    Log(String, LogError),
    /// A file's end is missing, but what others hold follows it.
    #[error("{0}: {1}, and it is not the last file of the log")]
    TornInside(String, LogError),
    /// The end is missing, and that is not accepted (`aof-load-truncated no`).
    #[error("{0}: {1}, and aof-load-truncated is off")]
    Torn(String, LogError),
    /// Its snapshot is refused.
    #[error("{0}: {1}")]
    Snapshot(String, String),
    /// A command is refused.
    #[error("{0}: {2}, at byte {1}")]
    Command(String, u64, String),
}

/// What was loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Commands repeated.
    pub commands: u64,
    /// Bytes of the base, and of all files.
    pub bytes: [u64; 2],
    /// How the last increment stands.
    pub last: Option<Scan>,
    /// A file with a missing end, and the length to which it is to be cut.
    pub cut: Option<(String, u64)>,
    /// What was said about it.
    pub warning: Option<String>,
    /// Where in which history its end is: known if the notes say so, and their sums vouch for every byte since.
    pub place: Option<Place>,
}

/// Repeats all of it. `accepts_torn`: an end that is missing is accepted.
///
/// # Errors
/// Why it is refused; a part of it may have been repeated.
pub fn load<D: Disk>(
    set: &LogSet<D>,
    accepts_torn: bool,
    repeat: &mut impl Repeat,
) -> Result<Loaded, LoadError> {
    let io = |name: &str| {
        let name = name.to_owned();
        move |error| LoadError::Io(name, error)
    };
    let mut loaded = Loaded::default();
    let files = set.files().map_err(io("manifest"))?;
    let has_base = set.manifest().base.is_some();
    for (number, name) in files.iter().enumerate() {
        loaded.last = None;
        let file = set.disk().read(name).map_err(io(name))?;
        let mut source = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut offset = 0;
        if matches!(first_byte(&mut source).map_err(io(name))?, Some(b'R' | b'V')) {
            offset = repeat
                .snapshot(name, &mut source)
                .map_err(|reason| LoadError::Snapshot(name.clone(), reason))?;
        }
        let found =
            scan(&mut source, offset).map_err(|error| LoadError::Log(name.clone(), error))?;
        if let Some(torn) = &found.cut {
            if is_followed(set, files.get(number + 1..).unwrap_or_default())? {
                return Err(LoadError::TornInside(name.clone(), copy(torn)));
            }
            if !accepts_torn {
                return Err(LoadError::Torn(name.clone(), copy(torn)));
            }
            loaded.warning = Some(format!("{name}: {torn}; what follows is cut off"));
            loaded.cut = Some((name.clone(), found.end));
        }
        let part = offset..found.end;
        let mut whereabouts = Whereabouts::of_a_file(loaded.place.take());
        loaded.commands += commands(&mut source, name, part, repeat, &mut whereabouts)?;
        loaded.place = whereabouts.place();
        repeat.give_up_transaction();
        let [base, all] = &mut loaded.bytes;
        *all += found.end;
        if number == 0 && has_base {
            *base = found.end;
        } else {
            loaded.last = Some(found);
        }
    }
    Ok(loaded)
}

/// Follows the notes of places through a file. What no sum vouches for may have come from elsewhere, another program
/// or a hand: then nobody knows the place any more.
struct Whereabouts {
    place: Option<Place>,
    /// A note of this file says it.
    is_told: bool,
    /// Commands since the last right sum.
    unsealed: u64,
}

impl Whereabouts {
    /// At the beginning of a file; `before`: where the file before ended.
    fn of_a_file(before: Option<Place>) -> Whereabouts {
        Whereabouts { place: before, is_told: false, unsealed: 0 }
    }

    fn take(&mut self, item: &Item, end: u64) {
        match item {
            Item::Place(place) => {
                self.place = Some(place.clone());
                self.is_told = true;
            }
            Item::Command { offset, .. } => {
                self.unsealed += 1;
                // A file's first command may be one that the history lacks: it selects a database.
                self.place = self.place.take().filter(|_| self.is_told);
                if let Some(place) = &mut self.place {
                    place.offset = place.offset.saturating_add(end.saturating_sub(*offset));
                }
            }
            Item::Verified { .. } => self.unsealed = 0,
            Item::Timestamp(_) | Item::Note(_) => {}
        }
    }

    fn place(self) -> Option<Place> {
        self.place.filter(|_| self.unsealed == 0)
    }
}

/// Repeats the commands between two bytes of a file.
fn commands<R: BufRead + Seek>(
    source: &mut R,
    name: &str,
    Range { start: offset, end }: Range<u64>,
    repeat: &mut impl Repeat,
    whereabouts: &mut Whereabouts,
) -> Result<u64, LoadError> {
    let fail = |error| LoadError::Log(name.to_owned(), error);
    source.seek(SeekFrom::Start(offset)).map_err(|error| LoadError::Io(name.to_owned(), error))?;
    let mut reader = LogReader::new(io::Read::take(source, end.saturating_sub(offset)), offset);
    let mut count = 0u64;
    while let Some(item) = reader.next_item().map_err(fail)? {
        whereabouts.take(&item, reader.offset());
        if let Item::Command { offset, args } = item {
            let refuse = |reason| LoadError::Command(name.to_owned(), offset, reason);
            repeat.command(&args).map_err(refuse)?;
            count += 1;
            if count.is_multiple_of(1024) {
                repeat.progress(name, reader.offset());
            }
        }
    }
    Ok(count)
}

/// Whether one of these files holds a command. One that was begun when the disk failed may hold none.
fn is_followed<D: Disk>(set: &LogSet<D>, files: &[String]) -> Result<bool, LoadError> {
    for name in files {
        let file = set.disk().read(name).map_err(|error| LoadError::Io(name.clone(), error))?;
        let found = scan(&mut BufReader::new(file), 0);
        if found.map_err(|error| LoadError::Log(name.clone(), error))?.commands > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn copy(error: &LogError) -> LogError {
    LogError { offset: error.offset, whole: error.whole, reason: error.reason.copy() }
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
