//! Full copies: replicas that wait for one at the same time share a snapshot, which a thread of its own writes. How
//! long the first waits for others is configured; beyond that a copy begins as soon as there is room for one more
//! snapshot. It knows no sockets: what is written goes to those who serve the replicas, piece by piece, and none is
//! more than a few pieces ahead of the slowest.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use larder_cluster::replication::Position;
use larder_persist::rdb::{Options, Version};
use larder_store::snapshot::Snapshot;
use parking_lot::Mutex;

use super::super::keep_history;
use super::{changes, may_follow};
use crate::config::Config;
use crate::durability::cut::{Cut, cut};
use crate::durability::journal::Reader;
use crate::durability::rdb_file;
use crate::durability::save::SaveError;
use crate::log::{notice, warning};
use crate::shared::Server;
use crate::turns::{self, Share};

/// Bytes of a piece.
const PIECE: usize = 1 << 20;
/// Pieces that wait for one replica.
const AHEAD: usize = 3;

/// What a copy must be for a replica: those who agree can share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    pub version: Version,
    /// Straight into the socket; else through a file, whose length is known.
    pub diskless: bool,
}

/// A part of a copy.
pub(super) enum Piece {
    Bytes(Arc<[u8]>),
    /// All of it.
    File(Arc<Temporary>),
    End,
    /// It will not be whole.
    Failed(String),
}

/// A file that goes with the last who needs it.
pub(super) struct Temporary(pub PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The place of a replica in a copy that begins.
pub(super) struct Ticket {
    /// What the copy is.
    pub position: Position,
    /// Reads the journal from there.
    pub reader: Reader,
    pub pieces: Receiver<Piece>,
}

/// A replica that waits.
struct Seat {
    number: u64,
    recipe: Recipe,
    own_kind: bool,
    since: Instant,
    door: SyncSender<Ticket>,
    gone: Arc<AtomicBool>,
}

/// All who wait. Its lock is a leaf.
#[derive(Default)]
pub struct Gathering {
    seats: Mutex<Vec<Seat>>,
    copies: AtomicUsize,
    numbers: AtomicU64,
}

/// Dropped, the replica neither waits nor takes any more.
pub(super) struct Waiting<'s> {
    server: &'s Server,
    number: u64,
    gone: Arc<AtomicBool>,
    /// Where its ticket comes.
    pub tickets: Receiver<Ticket>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
        let number = self.number;
        self.server.replication.gathering.seats.lock().retain(|seat| seat.number != number);
    }
}

impl Gathering {
    /// Whether a copy is being written.
    pub fn is_copying(&self) -> bool {
        self.copies.load(Ordering::Acquire) > 0
    }

    /// Those whose copy is to begin now; they wait no longer.
    fn take_due(&self, config: &Config, now: Instant) -> Vec<Seat> {
        let mut seats = self.seats.lock();
        let Some(first) = seats.first() else { return Vec::new() };
        let (recipe, since) = (first.recipe, first.since);
        let is_along = |seat: &Seat| seat.recipe == recipe;
        let count = seats.iter().filter(|seat| is_along(seat)).count();
        let most = config.repl_diskless_sync_max_replicas;
        let delay = Duration::from_secs(config.repl_diskless_sync_delay.into());
        let is_full = most > 0 && count >= most as usize;
        if recipe.diskless && !is_full && now.saturating_duration_since(since) < delay {
            return Vec::new();
        }
        let (due, rest) = seats.drain(..).partition(is_along);
        *seats = rest;
        due
    }

    /// There was no room for their copy: they wait on, before all others.
    fn put_back(&self, mut due: Vec<Seat>) {
        let mut seats = self.seats.lock();
        due.retain(|seat| !seat.gone.load(Ordering::Acquire));
        due.append(&mut seats);
        *seats = due;
    }
}

/// A replica begins to wait for a copy.
pub(super) fn wait(server: &Server, recipe: Recipe, own_kind: bool) -> Waiting<'_> {
    let gathering = &server.replication.gathering;
    let number = gathering.numbers.fetch_add(1, Ordering::Relaxed);
    let (door, tickets) = sync_channel(1);
    let gone = Arc::new(AtomicBool::new(false));
    let (since, theirs) = (Instant::now(), Arc::clone(&gone));
    gathering.seats.lock().push(Seat { number, recipe, own_kind, since, door, gone: theirs });
    Waiting { server, number, gone, tickets }
}

/// Begins a copy for those who have waited long enough, if there is room for one.
pub(super) fn begin_due(server: &Arc<Server>) {
    let gathering = &server.replication.gathering;
    let due = gathering.take_due(&server.config(), Instant::now());
    let Some(recipe) = due.first().map(|seat| seat.recipe) else { return };
    let made = server.exclusively(|_| {
        if !may_follow(server) {
            return None;
        }
        keep_history(server);
        changes::note_from_now(server, due.iter().any(|seat| seat.own_kind));
        let id = server.replication.state().lineage.id;
        let taken = cut(server).ok()?;
        // A reader each, from the same moment on.
        let readers = due.iter().map(|_| server.journal.join(taken.offset).ok()).collect();
        Some((taken, id, readers))
    });
    let Some((taken, id, readers)) = made else { return gathering.put_back(due) };
    let readers: Vec<Option<Reader>> = readers;
    let Cut { snapshot, offset, database, reader } = taken;
    drop(reader);
    let position = Position { id, offset };
    let mut takers = Vec::new();
    for (seat, reader) in due.into_iter().zip(readers) {
        let (sink, pieces) = sync_channel(AHEAD);
        // Who has none, or is gone, finds out by itself.
        if let Some(reader) = reader
            && seat.door.send(Ticket { position, reader, pieces }).is_ok()
        {
            takers.push(Taker { sink, gone: seat.gone });
        }
    }
    let copy = Copy {
        server: Arc::clone(server),
        recipe,
        position,
        database: database.map_or(0, |db| db.0),
        takers,
    };
    gathering.copies.fetch_add(1, Ordering::AcqRel);
    spawn(server, copy, snapshot);
}

fn spawn(server: &Arc<Server>, copy: Copy, snapshot: Snapshot) {
    let handed = Arc::new(Mutex::new(Some((copy, snapshot))));
    let taken = Arc::clone(&handed);
    let thread = std::thread::Builder::new().name("copy".to_owned()).spawn(move || {
        turns::give_way(Share::Quarter);
        if let Some((copy, snapshot)) = taken.lock().take() {
            copy.run(snapshot);
        }
    });
    if let Err(error) = thread {
        warning(&format!("No thread to copy the data: {error}"));
        if let Some((_, snapshot)) = handed.lock().take() {
            rdb_file::finish(server, snapshot);
        }
        server.replication.gathering.copies.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One who takes a copy.
struct Taker {
    sink: SyncSender<Piece>,
    gone: Arc<AtomicBool>,
}

impl Taker {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// A copy that is being written.
struct Copy {
    server: Arc<Server>,
    recipe: Recipe,
    position: Position,
    database: u8,
    takers: Vec<Taker>,
}

impl Copy {
    fn run(mut self, mut snapshot: Snapshot) {
        let (count, pid) = (self.takers.len(), std::process::id());
        notice(&format!("Background RDB transfer started by pid {pid}, for {count} replicas"));
        let written = match self.recipe.diskless {
            true => self.write_pieces(&mut snapshot),
            false => self.write_file(&mut snapshot),
        };
        rdb_file::finish(&self.server, snapshot);
        let last = |_: &Taker| match &written {
            Ok(None) => Piece::End,
            Ok(Some(file)) => Piece::File(Arc::clone(file)),
            Err(error) => Piece::Failed(error.to_string()),
        };
        if let Err(error) = &written {
            self.server.saves.note_failure(error);
        }
        self.takers.retain(|taker| !taker.is_gone() && taker.sink.send(last(taker)).is_ok());
        let left = self.takers.len();
        match written {
            // Tools look for these words.
            Ok(None) => notice(&format!(
                "Diskless rdb transfer, done reading from pipe, {left} replicas still up."
            )),
            Ok(Some(_)) => notice(&format!("The copy is written, {left} replicas take it")),
            Err(error) => notice(&format!("The copy for {count} replicas was given up: {error}")),
        }
        self.server.replication.gathering.copies.fetch_sub(1, Ordering::AcqRel);
    }

    fn write_pieces(
        &mut self,
        snapshot: &mut Snapshot,
    ) -> Result<Option<Arc<Temporary>>, SaveError> {
        let takers = std::mem::take(&mut self.takers);
        let watched: Vec<_> = takers.iter().map(|taker| Arc::clone(&taker.gone)).collect();
        let mut fan = Fan(takers);
        let written = self.write(snapshot, &watched, &mut fan);
        self.takers = fan.0;
        written.map(|()| None)
    }

    fn write_file(&mut self, snapshot: &mut Snapshot) -> Result<Option<Arc<Temporary>>, SaveError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let (pid, number) = (std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed));
        let path = Temporary(PathBuf::from(format!("temp-replica-{pid}-{number}.rdb")));
        let watched: Vec<_> = self.takers.iter().map(|taker| Arc::clone(&taker.gone)).collect();
        let mut file = File::create(&path.0)?;
        self.write(snapshot, &watched, &mut file)?;
        Ok(Some(Arc::new(path)))
    }

    fn write(
        &self,
        snapshot: &mut Snapshot,
        watched: &[Arc<AtomicBool>],
        sink: &mut dyn Write,
    ) -> Result<(), SaveError> {
        let config = self.server.config();
        let (offset, database) = (self.position.offset.to_string(), self.database.to_string());
        let notes = [
            ("repl-stream-db", &*database),
            ("repl-id", self.position.id.as_str()),
            ("repl-offset", &*offset),
        ];
        let options = Options {
            version: self.recipe.version,
            compress: config.rdbcompression,
            checksum: config.rdbchecksum,
        };
        rdb_file::write(&self.server, snapshot, options, &notes, sink, |_, _| {
            match watched.iter().all(|gone| gone.load(Ordering::Relaxed)) {
                true => Err(nobody()),
                false => Ok(()),
            }
        })
    }
}

fn nobody() -> io::Error {
    io::Error::other("the last replica is gone")
}

/// Writes to all who are there.
struct Fan(Vec<Taker>);

impl Write for Fan {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.chunks(PIECE) {
            let piece: Arc<[u8]> = Arc::from(piece);
            // Who goes away while it is waited for takes its end of the channel along.
            self.0.retain(|taker| taker.sink.send(Piece::Bytes(Arc::clone(&piece))).is_ok());
            if self.0.is_empty() {
                return Err(nobody());
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKLESS: Recipe = Recipe { version: Version::DEFAULT, diskless: true };
    const BY_FILE: Recipe = Recipe { version: Version::DEFAULT, diskless: false };

    fn seat(gathering: &Gathering, recipe: Recipe, since: Instant) -> Arc<AtomicBool> {
        let gone = Arc::new(AtomicBool::new(false));
        let number = gathering.numbers.fetch_add(1, Ordering::Relaxed);
        let (door, _) = sync_channel(1);
        let theirs = Arc::clone(&gone);
        let seat = Seat { number, recipe, own_kind: false, since, door, gone: theirs };
        gathering.seats.lock().push(seat);
        gone
    }

    fn numbers(seats: &[Seat]) -> Vec<u64> {
        seats.iter().map(|seat| seat.number).collect()
    }

    #[test]
    fn those_who_want_the_same_go_together_when_the_first_has_waited() {
        let set = |delay: &str, most: &str| {
            let pairs: &[(&[u8], &[u8])] = &[
                (b"repl-diskless-sync-delay", delay.as_bytes()),
                (b"repl-diskless-sync-max-replicas", most.as_bytes()),
            ];
            Config::default().set(pairs).expect("valid").0
        };
        let (gathering, begun) = (Gathering::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(gathering.take_due(&set("0", "0"), begun).is_empty());
        seat(&gathering, DISKLESS, begun);
        seat(&gathering, BY_FILE, begun + second);
        let gone = seat(&gathering, DISKLESS, begun + 2 * second);
        let config = set("5", "3");
        assert!(gathering.take_due(&config, begun + 4 * second).is_empty());
        let due = gathering.take_due(&config, begun + 5 * second);
        assert_eq!(numbers(&due), [0, 2]);
        gone.store(true, Ordering::Release);
        gathering.put_back(due);
        assert_eq!(numbers(&gathering.seats.lock()), [0, 1], "who is gone does not come back");
        assert_eq!(numbers(&gathering.take_due(&config, begun + 5 * second)), [0]);
        let due = gathering.take_due(&config, begun + second);
        assert_eq!(numbers(&due), [1], "a file is not waited with");
        // As many as are wanted are waited for no longer.
        seat(&gathering, DISKLESS, begun);
        assert!(gathering.take_due(&set("5", "2"), begun).is_empty());
        seat(&gathering, DISKLESS, begun);
        assert_eq!(gathering.take_due(&set("5", "2"), begun).len(), 2);
    }

    #[test]
    fn a_fan_forgets_who_goes_and_ends_with_the_last() {
        let taker = || {
            let (sink, pieces) = sync_channel(AHEAD);
            (Taker { sink, gone: Arc::new(AtomicBool::new(false)) }, pieces)
        };
        let ((one, of_one), (two, of_two)) = (taker(), taker());
        let mut fan = Fan(vec![one, two]);
        fan.write_all(b"abc").unwrap();
        drop(of_one);
        fan.write_all(b"def").unwrap();
        let text: Vec<u8> = of_two
            .try_iter()
            .flat_map(|piece| match piece {
                Piece::Bytes(bytes) => bytes.to_vec(),
                Piece::File(_) | Piece::End | Piece::Failed(_) => panic!("another piece"),
            })
            .collect();
        assert_eq!(text, b"abcdef");
        drop(of_two);
        assert!(fan.write_all(b"ghi").is_err());
    }
}
