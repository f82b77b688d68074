//! The files of a log in their folder: which there are, in what order they change so that at every moment,
//! power cuts included, they make up one whole log, and what is done when the disk fails. One owner changes
//! them. It knows no command, no clock and no thread; how often what is written is forced to disk, the owner
//! decides.
//!
//! The owner hands over bytes with *marks*, growing numbers of its own (offsets of the journal): a mark is
//! lasting once everything up to it is on disk, and after a failure [`LogSet::mend`] says from which mark
//! on it must hand over again.

use std::io::{self, Read, Write};

use super::log::{checksum_line, place_line};
use super::manifest::{LogFile, Manifest, ManifestError};
use super::scan::Scan;
use crate::crc64::Crc64;
use crate::disk::{Disk, DiskWriter, replace};
use crate::limits::MANIFEST_BYTES_MAX;

/// Bytes gathered before they are written.
const GATHER_BYTES: usize = 256 << 10;
/// How the names of files begin that are not finished.
pub const TEMPORARY: &str = "temp-rewriteaof-";

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The disk fails.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The manifest is wrong.
    #[error("{0}: {1}")]
    Manifest(String, ManifestError),
}

/// A place in the file that is written to.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    len: u64,
    mark: u64,
    /// The sum since the last note.
    crc: Crc64,
    /// Bytes since the last note.
    unsummed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    /// A write failed: what follows `written` is rubbish.
    Unwritten,
    /// A sync failed: nobody knows what of what follows `lasting` is on disk.
    Unsynced,
}

/// The increment that is written to.
struct Current<W> {
    file: LogFile,
    /// Whether the manifest names it.
    listed: bool,
    writer: W,
    /// Gathered, up to `gathered`.
    pending: Vec<u8>,
    gathered: Point,
    written: Point,
    lasting: Point,
    health: Health,
    seed: Crc64,
}

/// See the head of this file.
pub struct LogSet<D: Disk> {
    disk: D,
    /// `appendfilename`.
    prefix: String,
    /// As it is on disk, but see `strays`.
    manifest: Manifest,
    /// Files that the manifest on disk may name: writing one that did failed in the end.
    strays: Vec<LogFile>,
    /// The highest numbers in use.
    numbers: [u64; 2],
    current: Option<Current<D::Writer>>,
    /// Notes of checksums are written, beginning with what follows from this number.
    seed: Option<u64>,
}

impl<D: Disk> LogSet<D> {
    /// The log that is in the folder, if there is one. A file that bears the bare name is a log of the time
    /// before manifests, and becomes the base. `seed`: notes of checksums are to be written.
    ///
    /// # Errors
    /// If the folder cannot be read, or its manifest is wrong.
    pub fn open(disk: D, prefix: &str, seed: Option<u64>) -> Result<Option<LogSet<D>>, SetError> {
        let mut set = LogSet::fresh(disk, prefix, seed)?;
        let name = set.manifest_name();
        let fail = |error| SetError::Io(name.clone(), error);
        // A name that we see must not be gone after the next power cut.
        set.disk.sync_folder().map_err(fail)?;
        let names = set.disk.list().map_err(fail)?;
        let beside = format!("temp-{name}");
        for left in names.iter().filter(|name| name.starts_with(TEMPORARY) || **name == beside) {
            // It is in nobody's way.
            let _ = set.disk.remove(left);
        }
        if names.contains(&name) {
            let mut text = Vec::new();
            let mut source =
                set.disk.read(&name).map_err(fail)?.take(MANIFEST_BYTES_MAX as u64 + 1);
            source.read_to_end(&mut text).map_err(fail)?;
            let manifest = Manifest::parse(&text);
            set.manifest = manifest.map_err(|error| SetError::Manifest(name, error))?;
        } else if names.iter().any(|name| name == prefix) {
            let base = LogFile { name: prefix.as_bytes().to_vec(), seq: 1 };
            set.write_manifest(Manifest { base: Some(base), ..Manifest::default() })
                .map_err(fail)?;
        } else {
            return Ok(None);
        }
        let Manifest { base, increments, history } = &set.manifest;
        let [bases, others] = &mut set.numbers;
        let highest = |files: &mut dyn Iterator<Item = &LogFile>| files.map(|file| file.seq).max();
        *bases = highest(&mut base.iter().chain(history)).unwrap_or(0);
        *others = highest(&mut increments.iter().chain(history)).unwrap_or(0);
        Ok(Some(set))
    }

    /// A log that does not exist yet. Files that look like parts of one stay untouched: numbers begin behind theirs.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn fresh(disk: D, prefix: &str, seed: Option<u64>) -> Result<LogSet<D>, SetError> {
        let names = disk.list().map_err(|error| SetError::Io(prefix.to_owned(), error))?;
        let number = |name: &String| {
            let (number, _) = name.strip_prefix(prefix)?.strip_prefix('.')?.split_once('.')?;
            number.parse::<u64>().ok()
        };
        let highest = names.iter().filter_map(number).max().unwrap_or(0);
        Ok(LogSet {
            disk,
            prefix: prefix.to_owned(),
            manifest: Manifest::default(),
            strays: Vec::new(),
            numbers: [highest; 2],
            current: None,
            seed,
        })
    }

    /// Its disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The files to be loaded, in order.
    ///
    /// # Errors
    /// If a name is no text.
    pub fn files(&self) -> io::Result<Vec<String>> {
        self.manifest.base.iter().chain(&self.manifest.increments).map(name_of).collect()
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Goes on writing after a start: the last file is cut where the scan says, and what is there is forced to
    /// disk, so that `mark` is lasting. `scan` is `None` if there is no increment, and `cut` names a file to be
    /// cut that is not the last. `history` is what the mark is an offset of: whatever the notes in the file said of
    /// its commands, it holds from here on.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn resume(
        &mut self,
        scan: Option<&Scan>,
        cut: Option<(&str, u64)>,
        mark: u64,
        history: &str,
    ) -> io::Result<()> {
        if let Some((name, len)) = cut {
            let mut torn = self.disk.append(name)?;
            torn.truncate(len)?;
            torn.sync()?;
        }
        // What was read may be in memory only: all of it counts from now on.
        for name in self.files()? {
            self.disk.append(&name)?.sync()?;
        }
        let last = self.manifest.increments.last().cloned();
        let (Some(file), Some(scan)) = (last, scan) else {
            return self.roll(mark);
        };
        let mut writer = self.disk.append(&name_of(&file)?)?;
        writer.truncate(scan.end)?;
        let unsummed = scan.end.saturating_sub(scan.verified_to);
        let point = Point { len: scan.end, mark, crc: scan.crc, unsummed };
        let mut current = Current::new(file, writer, point, scan.seed);
        if self.seed.is_some() {
            current.gather(&place_line(history, mark));
            current.note();
        } else if scan.verified > 0 {
            // Unsummed bytes behind notes would look as if they had never been forced to disk.
            current.flush()?;
            current.sync()?;
            self.current = Some(current);
            return self.roll(mark);
        }
        current.flush()?;
        current.sync()?;
        self.current = Some(current);
        Ok(())
    }

    /// Hands bytes over that end at `mark`: whole commands, a transaction not necessarily.
    ///
    /// # Errors
    /// As the disk has them; then it must be mended.
    pub fn append(&mut self, bytes: &[u8], mark: u64) -> io::Result<()> {
        let current = self.current()?;
        if current.health != Health::Sound {
            return Err(io::Error::other("the log must be mended first"));
        }
        current.gather(bytes);
        current.gathered.mark = mark;
        if current.pending.len() >= GATHER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Hands over the note that what follows is this history from `mark` on, where notes are written.
    ///
    /// # Errors
    /// As the disk has them; then it must be mended.
    pub fn place(&mut self, history: &str, mark: u64) -> io::Result<()> {
        match self.seed {
            Some(_) => self.append(&place_line(history, mark), mark),
            None => Ok(()),
        }
    }

    /// Writes what was handed over, to where the end of this process does not harm it.
    ///
    /// # Errors
    /// As the disk has them; then it must be mended.
    pub fn flush(&mut self) -> io::Result<()> {
        let notes = self.seed.is_some();
        let current = self.current()?;
        if notes && current.gathered.unsummed > 0 {
            current.note();
        }
        current.flush()
    }

    /// Forces everything that was handed over to disk; returns the mark that is lasting.
    ///
    /// # Errors
    /// As the disk has them; then it must be mended.
    pub fn sync(&mut self) -> io::Result<u64> {
        self.flush()?;
        let current = self.current()?;
        current.sync()?;
        Ok(current.lasting.mark)
    }

    /// A note that what is on disk is on disk, if the last one does not say so: when there is nothing else to do.
    ///
    /// # Errors
    /// As the disk has them; then it must be mended.
    pub fn confirm(&mut self) -> io::Result<()> {
        if self.seed.is_none() {
            return Ok(());
        }
        let current = self.current()?;
        current.note();
        current.flush()
    }

    /// Puts the file that is written to in order after a failure; returns the mark after which everything
    /// must be handed over again.
    ///
    /// # Errors
    /// As the disk has them; it is no worse than before.
    pub fn mend(&mut self) -> io::Result<u64> {
        let name = name_of(&self.current()?.file)?;
        let writer = self.disk.append(&name)?;
        let current = self.current()?;
        let point = match current.health {
            Health::Sound => return Ok(current.gathered.mark),
            Health::Unwritten => current.written,
            Health::Unsynced => current.lasting,
        };
        // Not the descriptor that an error was reported to: the next would be told again only here.
        current.writer = writer;
        current.writer.truncate(point.len)?;
        if current.health == Health::Unsynced {
            current.writer.sync()?;
            current.written = point;
        }
        current.pending.clear();
        current.gathered = point;
        current.health = Health::Sound;
        Ok(point.mark)
    }

    /// Begins the next increment, after everything before it is on disk: so never a torn file stands
    /// before another. At the start, or at the cut of a snapshot.
    ///
    /// # Errors
    /// As the disk has them; then writing goes on where it was, which may have to be mended.
    pub fn roll(&mut self, mark: u64) -> io::Result<()> {
        self.next_file(mark, true)
    }

    /// The same with an increment that the manifest does not name until its base is there: the log begins anew.
    ///
    /// # Errors
    /// As the disk has them; nothing has changed then.
    pub fn begin_anew(&mut self, mark: u64) -> io::Result<()> {
        self.next_file(mark, false)
    }

    fn next_file(&mut self, mark: u64, listed: bool) -> io::Result<()> {
        if let Some(current) = &self.current
            && current.listed
        {
            self.sync()?;
            self.confirm()?;
            self.sync()?;
        }
        let [_, number] = &mut self.numbers;
        *number += 1;
        let seq = *number;
        let file = LogFile { name: format!("{}.{seq}.incr.aof", self.prefix).into(), seq };
        let name = name_of(&file)?;
        let mut writer = self.disk.create(&name)?;
        let seed = self.seed.map_or(Crc64::new(), |seed| {
            let mut crc = Crc64::continued(seed);
            crc.update(&seq.to_le_bytes());
            crc
        });
        let head = if self.seed.is_some() { checksum_line(seed, 0) } else { Vec::new() };
        let begun = writer.write_all(&head).and_then(|()| writer.sync());
        if let Err(error) = begun.and_then(|()| self.disk.sync_folder()) {
            // It is named nowhere.
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        if listed {
            let mut manifest = self.manifest.clone();
            manifest.increments.push(file.clone());
            if let Err(error) = self.write_manifest(manifest) {
                self.strays.push(file);
                return Err(error);
            }
        }
        let point = Point { len: head.len() as u64, mark, crc: seed, unsummed: 0 };
        let before = self.current.replace(Current::new(file, writer, point, seed));
        if let Some(current) = &mut self.current {
            current.listed = listed;
        }
        // What the manifest on disk may name stays until another one does not.
        let unnamed = before.filter(|before| !before.listed && !self.strays.contains(&before.file));
        if let Some(before) = unnamed {
            let _ = self.disk.remove(&name_of(&before.file)?);
        }
        Ok(())
    }

    /// The number of the increment that is written to now.
    pub fn increment(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.file.seq)
    }

    /// Makes a finished file of that temporary name the base; the increments from number `from` on follow it.
    /// Everything else becomes history.
    ///
    /// # Errors
    /// As the disk has them; the log is what it was, then.
    pub fn install_base(&mut self, temporary: &str, rdb: bool, from: u64) -> io::Result<()> {
        let unlisted = self.current.as_ref().filter(|current| !current.listed);
        let unlisted = unlisted.map(|current| current.file.clone());
        if unlisted.is_some() {
            self.sync()?;
        }
        let [number, _] = &mut self.numbers;
        *number += 1;
        let (seq, end) = (*number, if rdb { "rdb" } else { "aof" });
        let file = LogFile { name: format!("{}.{seq}.base.{end}", self.prefix).into(), seq };
        self.disk.rename(temporary, &name_of(&file)?)?;
        self.disk.sync_folder()?;
        let Manifest { base, increments, history } = self.manifest.clone();
        let (kept, old) = increments.into_iter().partition(|file| file.seq >= from);
        let mut manifest = Manifest { base: Some(file.clone()), increments: kept, history };
        manifest.history.extend(base);
        manifest.history.extend::<Vec<_>>(old);
        manifest.increments.extend(unlisted.clone());
        if let Err(error) = self.write_manifest(manifest) {
            self.strays.push(file);
            self.strays.extend(unlisted);
            return Err(error);
        }
        if let Some(current) = &mut self.current {
            current.listed = true;
        }
        Ok(())
    }

    /// Deletes history. What cannot be deleted now will be next time.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn collect(&mut self) -> io::Result<()> {
        if self.manifest.history.is_empty() {
            return Ok(());
        }
        for file in &self.manifest.history {
            match self.disk.remove(&name_of(file)?) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.write_manifest(Manifest { history: Vec::new(), ..self.manifest.clone() })
    }

    /// Forces everything to disk and says so in the file, as the last thing.
    ///
    /// # Errors
    /// As the disk has them.
    pub fn close(&mut self) -> io::Result<u64> {
        if self.current.is_none() {
            return Ok(0);
        }
        let mark = self.sync()?;
        self.confirm()?;
        self.sync()?;
        Ok(mark)
    }

    /// The mark up to which bytes were written.
    pub fn written(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.written.mark)
    }

    /// Bytes of the file that is written to.
    pub fn len(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| current.gathered.len)
    }

    /// Whether nothing is written to.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn current(&mut self) -> io::Result<&mut Current<D::Writer>> {
        self.current.as_mut().ok_or_else(|| io::Error::other("no log is open"))
    }

    fn manifest_name(&self) -> String {
        format!("{}.manifest", self.prefix)
    }

    fn write_manifest(&mut self, mut manifest: Manifest) -> io::Result<()> {
        // What an earlier manifest may name, and this one does not, is to be deleted in the end.
        let is_named = |stray: &&LogFile| {
            let Manifest { base, increments, history } = &manifest;
            base.iter().chain(increments).chain(history).any(|file| file.name == stray.name)
        };
        let strays: Vec<_> = self.strays.iter().filter(|file| !is_named(file)).cloned().collect();
        manifest.history.extend(strays);
        replace(&self.disk, &self.manifest_name(), &manifest.render(self.seed.is_some()))?;
        self.manifest = manifest;
        self.strays.clear();
        Ok(())
    }
}

impl Point {
    fn advance(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.unsummed += bytes.len() as u64;
        self.crc.update(bytes);
    }
}

impl<W: DiskWriter> Current<W> {
    /// What is there up to the point is on disk.
    fn new(file: LogFile, writer: W, point: Point, seed: Crc64) -> Current<W> {
        Current {
            file,
            listed: true,
            writer,
            pending: Vec::new(),
            gathered: point,
            written: point,
            lasting: point,
            health: Health::Sound,
            seed,
        }
    }

    fn gather(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.gathered.advance(bytes);
    }

    /// Gathers the note of what was gathered since the last.
    fn note(&mut self) {
        let line = checksum_line(self.gathered.crc, self.lasting.len);
        self.gathered.len += line.len() as u64;
        self.gathered.crc = self.seed;
        self.gathered.unsummed = 0;
        self.pending.extend_from_slice(&line);
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.health != Health::Sound {
            return Err(io::Error::other("the log must be mended first"));
        }
        if let Err(error) = self.writer.write_all(&self.pending) {
            self.health = Health::Unwritten;
            return Err(error);
        }
        self.pending.clear();
        self.written = self.gathered;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.writer.sync() {
            self.health = Health::Unsynced;
            return Err(error);
        }
        self.lasting = self.written;
        Ok(())
    }
}

/// The name as the disk takes it.
fn name_of(file: &LogFile) -> io::Result<String> {
    String::from_utf8(file.name.clone())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a file name that is no text"))
}
