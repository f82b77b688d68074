//! The log as it is written: what of the journal the files were handed, with the notes between, and how much of it is on
//! disk. When that is done, and what happens where it fails, the thread decides.

use std::io;
use std::time::{Duration, Instant};

use larder_base::time::Millis;
use larder_cluster::replication::{Offset, ReplicationId};
use larder_persist::aof::set::LogSet;
use larder_persist::aof::timestamp_line;

use super::{FolderDisk, Started, Trouble, wake_workers};
use crate::config::Config;
use crate::durability::journal::{Marks, Part, Reader};
use crate::shared::{Server, now};

/// From this age on replies wait. A tenth of the second is for the way of a reply that has passed: its worker looks at the
/// clock once in each turn.
const LATE_AFTER_MS: i64 = 900;
/// Bytes of the journal taken at once.
const TAKE_BYTES: usize = 4 << 20;

/// The log that is written, and how far it is.
pub struct Log {
    pub set: LogSet<FolderDisk>,
    pub(super) reader: Reader,
    /// Up to where the files were handed the journal.
    pub(super) position: Offset,
    /// Bytes of the files before the one that is written to.
    pub before: u64,
    /// Its first base is not there yet.
    pub begins: bool,
    /// Since when there is something that is not on disk.
    pub(super) unsynced: Option<Instant>,
    /// A moment, by both clocks: what was recorded up to then is on disk.
    clean: (Instant, i64),
    /// The same: what was recorded up to then was handed to the files.
    handed: (Instant, i64),
    /// How long the last sync took.
    took: Duration,
    /// The second of the last timestamp.
    timestamp: i64,
    /// The note that everything is on disk was written.
    pub(super) confirmed: bool,
    /// When everything was forced to disk last.
    pub(super) synced: Instant,
    /// The history that the last note of a place names; `None`: there is none that holds.
    pub(super) told: Option<ReplicationId>,
    /// Bytes of the journal were passed over since that note.
    pub(super) gap: bool,
}

impl Log {
    pub(super) fn new(started: Started, server: &Server) -> Log {
        let Started { set, reader, before } = started;
        let position = reader.position();
        server.gate.reach(position);
        let begun = (Instant::now(), now().0);
        let mut log = Log {
            set,
            reader,
            position,
            before,
            begins: false,
            unsynced: None,
            clean: begun,
            handed: begun,
            took: Duration::ZERO,
            timestamp: 0,
            confirmed: false,
            synced: begun.0,
            told: None,
            gap: false,
        };
        log.note_clean(server);
        log
    }

    /// What was handed over is on disk. The gate hears of it even where nothing happens: it closes by itself once this thread is
    /// held up, by whatever it is.
    pub(super) fn note_clean(&mut self, server: &Server) {
        self.clean = self.handed;
        server.gate.late_from(Millis(self.clean.1 + LATE_AFTER_MS));
    }

    /// Hands over what the journal has, up to an offset if one is given.
    pub(super) fn drain(
        &mut self,
        server: &Server,
        config: &Config,
        to: Option<Offset>,
    ) -> Result<(), Trouble> {
        // Before it looks how much there is: what comes later counts as not handed over.
        let begun = to.is_none().then(|| (Instant::now(), now().0));
        let to = to.unwrap_or_else(|| server.journal.end());
        while self.position < to {
            let parts = self.reader.read_from(&server.journal, self.position, TAKE_BYTES)?;
            if parts.is_empty() {
                return Ok(());
            }
            self.note_time(config)?;
            let marks = self.reader.marks(&server.journal, self.position)?;
            for part in &parts {
                for (bytes, end) in pieces(part, &marks, to) {
                    if bytes.is_empty() {
                        self.gap |= end > self.position;
                    } else {
                        self.note_place(&marks)?;
                    }
                    self.set.append(bytes, end.0)?;
                    self.position = end;
                }
            }
            self.confirmed = false;
            // It came at some time since everything was on disk.
            self.unsynced.get_or_insert(self.clean.0);
        }
        self.handed = begun.unwrap_or(self.handed);
        Ok(())
    }

    /// Says where in which history the log is, unless the last note and what follows it do: a replica that starts from
    /// it goes on from there, and those who follow a primary may, too.
    fn note_place(&mut self, marks: &Marks) -> io::Result<()> {
        let Some(id) = marks.name_at(self.position) else { return Ok(()) };
        if self.told != Some(id) || self.gap {
            self.set.place(id.as_str(), self.position.0)?;
            (self.told, self.gap) = (Some(id), false);
        }
        Ok(())
    }

    /// Says so at an end, or in a pause that may be one.
    pub(super) fn note_rest(&mut self, server: &Server) -> Result<(), Trouble> {
        let marks = self.reader.marks(&server.journal, self.position)?;
        Ok(self.note_place(&marks)?)
    }

    /// Puts the files in order after a failure: what is not in them is handed over again.
    pub(super) fn mend(&mut self) -> io::Result<()> {
        self.position = Offset(self.set.mend()?);
        // The last note may be gone.
        self.told = None;
        Ok(())
    }

    fn note_time(&mut self, config: &Config) -> io::Result<()> {
        let second = now().0 / 1000;
        if config.aof_timestamp_enabled && second != self.timestamp {
            self.timestamp = second;
            self.set.append(&timestamp_line(second), self.position.0)?;
        }
        Ok(())
    }

    /// Forces everything that was handed over to disk.
    pub(super) fn sync(&mut self, server: &Server) -> io::Result<()> {
        let begun = Instant::now();
        let age = self.unsynced.map(|since| begun - since).unwrap_or_default();
        let mark = self.set.sync()?;
        self.took = begun.elapsed();
        if age + self.took > Duration::from_millis(LATE_AFTER_MS.unsigned_abs()) {
            server.aof.note(|status| status.delayed += 1);
        }
        self.synced = Instant::now();
        self.unsynced = None;
        self.reader.advance(Offset(mark));
        self.note_clean(server);
        server.journal.trim();
        self.publish(server);
        if server.gate.reach(Offset(mark)) {
            wake_workers(server);
        }
        server.replication.waits.check(server);
        Ok(())
    }

    pub(super) fn publish(&self, server: &Server) {
        server.gate.take(Some(self.reader.position()));
        let size = self.before + self.set.len();
        server.aof.note(|status| status.size = size);
    }

    /// Waits a little for those who are about to write, so that one sync serves more of them.
    pub(super) fn gather(&self, server: &Server) {
        let (begun, budget) = (Instant::now(), (self.took / 4).min(Duration::from_micros(500)));
        let mut end = server.journal.end();
        let mut quiet = 0;
        while quiet < 3 && begun.elapsed() < budget {
            std::thread::yield_now();
            let next = server.journal.end();
            quiet = if next == end { quiet + 1 } else { 0 };
            end = next;
        }
    }
}

/// The bytes of a part that the log is to have, each with the offset where it ends, up to an offset. Where it is to have
/// none, they are empty; none crosses a place where the history is named anew.
fn pieces<'p>(part: &'p Part, marks: &Marks, to: Offset) -> Vec<(&'p [u8], Offset)> {
    let (mut at, end) = (part.start, part.end().min(to));
    if at >= end {
        return Vec::new();
    }
    let place = |offset: Offset| usize::try_from(offset.since(part.start)).unwrap_or(usize::MAX);
    let hidden = marks.hidden.iter().map(|range| (range.start, range.start.plus(range.len)));
    let bounds = hidden.clone().flat_map(|(from, until)| [from, until]);
    let names = marks.names.iter().map(|named| named.from);
    let mut bounds: Vec<Offset> =
        bounds.chain(names).filter(|bound| at < *bound && *bound < end).collect();
    bounds.push(end);
    bounds.sort_unstable();
    bounds.dedup();
    let mut hidden = hidden.peekable();
    let mut pieces = Vec::with_capacity(bounds.len());
    for bound in bounds {
        while hidden.next_if(|(_, until)| *until <= at).is_some() {}
        let is_hidden = hidden.peek().is_some_and(|(from, _)| *from <= at);
        let bytes = part.bytes().get(place(at)..place(bound)).filter(|_| !is_hidden);
        pieces.push((bytes.unwrap_or(&[]), bound));
        at = bound;
    }
    pieces
}
