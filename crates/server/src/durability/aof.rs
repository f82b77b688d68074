//! The append-only file: what others may ask of it, how it stands, and the thread that writes it. The thread reads
//! the journal, hands its bytes to the files (`persist::aof::set`), forces them to disk as often as
//! `appendfsync` says, and tells the gate how far it is. It knows no command.
//!
//! Where the disk fails it says so (`Gate::fail`) and tries again until it works: what was acknowledged is on
//! disk by then, what was not is still in the journal.

mod log;
mod reload;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_cluster::replication::Offset;
use larder_persist::aof::set::LogSet;
use larder_protocol::encode::encode_command;
use larder_store::DbIndex;
use parking_lot::{Condvar, Mutex};

use super::cut::{Cut, cut};
use super::files::FolderDisk;
use super::gate::Promise;
use super::journal::{Mode, OutOfReach, Reader};
use super::rewrite::{self, Rewrite};
use crate::blocking::Waiter;
use crate::config::{AppendFsync, Config};
use crate::log::{notice, warning};
use crate::shared::Server;
pub(super) use log::Log;

/// How long the thread sleeps at most before it looks whether anything was asked.
const LOOK: Duration = Duration::from_millis(100);
/// Between two writes where replies do not wait for them.
const PACE: Duration = Duration::from_millis(10);
/// What is not on disk grows no older than this before it is forced there (`everysec`), so that with the time that
/// this takes no more than a second is ever lost.
const SYNC_AFTER: Duration = Duration::from_millis(500);
/// As many bytes are forced to disk sooner: until then the journal keeps them, and what it keeps pushes the data out
/// of the caches.
const SYNC_BYTES: u64 = 4 << 20;
/// Bytes that the log may lag behind before commands are held back.
pub const LAG_BYTES_MAX: u64 = 64 << 20;
/// An error that stays is logged once in this time.
const REPEAT_ERROR: Duration = Duration::from_secs(30);

/// What others want of the thread.
#[derive(Default)]
struct Wish {
    on: bool,
    rewrite: bool,
    ended: bool,
    /// Clients that want the data to be read back.
    reloads: Vec<Arc<Waiter>>,
}

/// How the log stands; INFO shows it.
#[derive(Clone, Debug)]
pub struct Status {
    /// It is written, or begins to be.
    pub on: bool,
    /// Its first base is not there yet.
    pub begins: bool,
    /// When the rewrite that runs began.
    pub rewriting: Option<Instant>,
    /// One is to begin.
    pub scheduled: bool,
    /// How long the last one took, in seconds.
    pub last_rewrite_s: Option<u64>,
    /// Whether it succeeded.
    pub last_rewrite_ok: bool,
    /// Rewrites so far.
    pub rewrites: u64,
    /// Failures since the last that succeeded.
    pub failures: u64,
    /// When the last one ended.
    pub rewrite_ended: Option<Instant>,
    /// Bytes of all files.
    pub size: u64,
    /// The same after the last rewrite, or the start.
    pub base_size: u64,
    /// Times that forcing to disk took so long that replies had to wait.
    pub delayed: u64,
}

/// See the head of this file.
pub struct Aof {
    wish: Mutex<Wish>,
    bell: Condvar,
    status: Mutex<Status>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Default for Aof {
    fn default() -> Aof {
        let status = Status {
            on: false,
            begins: false,
            rewriting: None,
            scheduled: false,
            last_rewrite_s: None,
            last_rewrite_ok: true,
            rewrites: 0,
            failures: 0,
            rewrite_ended: None,
            size: 0,
            base_size: 0,
            delayed: 0,
        };
        Aof {
            wish: Mutex::default(),
            bell: Condvar::new(),
            status: Mutex::new(status),
            thread: Mutex::default(),
        }
    }
}

impl Aof {
    /// How it stands.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// CONFIG SET appendonly: the thread begins or ends a log.
    pub fn turn(&self, server: &Server, on: bool) {
        if !on && self.is_rewriting(server) {
            notice("Killing running AOF child: its rewrite is given up");
        }
        self.wish.lock().on = on;
        {
            let mut status = self.status.lock();
            if status.on != on {
                // A new log needs what happens from now on.
                (status.on, status.begins) = (on, on);
                // A rewrite of the log that ends is not wanted any more.
                status.scheduled &= on;
            }
        }
        self.ring(server);
        // Who waits for a log that ends is told.
        server.replication.waits.check(server);
    }

    /// CONFIG SET: what is acknowledged from now on is as safe as `appendfsync` promises, whenever the thread comes to know.
    pub fn heed(&self, server: &Server) {
        {
            let status = self.status.lock();
            if status.on && !status.begins {
                let rewrites = status.rewriting.is_some();
                server.gate.promise(promise(&server.config(), false, rewrites));
            }
        }
        self.ring(server);
    }

    /// Whether a rewrite runs, or is about to begin.
    pub fn is_rewriting(&self, server: &Server) -> bool {
        let status = self.status.lock();
        status.rewriting.is_some()
            || (status.begins && status.last_rewrite_ok)
            || (status.scheduled && !server.saves.is_running())
    }

    /// A rewrite is wanted. False if one runs already.
    pub fn ask_rewrite(&self, server: &Server) -> bool {
        if self.is_rewriting(server) {
            return false;
        }
        self.status.lock().scheduled = true;
        self.wish.lock().rewrite = true;
        self.ring(server);
        true
    }

    /// DEBUG LOADAOF: the data is forgotten and read back from the log; the client is answered then.
    pub fn ask_reload(&self, server: &Server, waiter: Arc<Waiter>) {
        self.wish.lock().reloads.push(waiter);
        self.ring(server);
    }

    /// Ends the thread, with everything on disk.
    pub fn end(&self, server: &Server) {
        self.wish.lock().ended = true;
        self.ring(server);
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            warning("The thread of the append-only file panicked");
        }
    }

    fn ring(&self, server: &Server) {
        self.bell.notify_all();
        server.journal.wake();
    }

    /// Changes what INFO shows.
    pub(super) fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock());
    }
}

/// A log that is open.
pub struct Started {
    /// Its files.
    pub set: LogSet<FolderDisk>,
    /// Reads the journal for it, from where the files end.
    pub reader: Reader,
    /// Bytes of the files before the one that is written to.
    pub before: u64,
}

/// Opens the folder of the log, and its files if there are any.
///
/// # Errors
/// Why it cannot be used.
pub fn open(config: &Config) -> Result<(FolderDisk, Option<LogSet<FolderDisk>>), String> {
    for (option, name) in
        [("appendfilename", &config.appendfilename), ("appenddirname", &config.appenddirname)]
    {
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(format!("{option} can't be a path, just a name"));
        }
    }
    let folder = Path::new(&config.appenddirname);
    let fail = |error: io::Error| format!("{}: {error}", folder.display());
    let disk = FolderDisk::new(folder).map_err(fail)?;
    let set = LogSet::open(disk.clone(), &config.appendfilename, notes(config));
    Ok((disk, set.map_err(|error| error.to_string())?))
}

/// What the sums of the files' notes begin with.
pub fn notes(config: &Config) -> Option<u64> {
    use std::hash::{BuildHasher, Hasher};
    // Keyed by the system's randomness: nobody outside can know it.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    config.aof_checksum_enabled.then_some(random)
}

/// Starts the thread, with the log that the start has loaded or made, if there is one.
///
/// # Errors
/// If there is no thread to be had.
pub fn start(server: &Arc<Server>, started: Option<Started>) -> io::Result<()> {
    let on = started.is_some();
    server.aof.wish.lock().on = on;
    server.aof.note(|status| status.on = on);
    // Before anybody is served, and not when the thread comes to run.
    let log = started.map(|started| Log::new(started, server));
    if let Some(log) = &log {
        log.publish(server);
        server.gate.promise(promise(&server.config(), log.begins, false));
    }
    let theirs = Arc::clone(server);
    let thread = std::thread::Builder::new().name("aof".to_owned()).spawn(move || {
        let mut writer = Writer {
            log,
            server: theirs,
            rewrite: None,
            failed: None,
            not_before: Instant::now(),
            reloads: Vec::new(),
        };
        writer.run();
    })?;
    *server.aof.thread.lock() = Some(thread);
    Ok(())
}

/// What replies wait for, where a log is written.
fn promise(config: &Config, begins: bool, rewrites: bool) -> Promise {
    match config.appendfsync {
        _ if begins || (config.no_appendfsync_on_rewrite && rewrites) => Promise::Nothing,
        AppendFsync::Always => Promise::All,
        AppendFsync::EverySec => Promise::Second,
        AppendFsync::No => Promise::Nothing,
    }
}

/// What keeps the thread from going on.
enum Trouble {
    /// The disk fails.
    Disk(io::Error),
    /// The journal began anew: so must the log.
    Lost,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Disk(error)
    }
}

impl From<OutOfReach> for Trouble {
    fn from(_: OutOfReach) -> Trouble {
        Trouble::Lost
    }
}

fn wake_workers(server: &Server) {
    for worker in &server.workers {
        worker.mailbox.wake();
    }
}

/// The thread.
struct Writer {
    server: Arc<Server>,
    log: Option<Log>,
    rewrite: Option<Rewrite>,
    /// When a failure was told last.
    failed: Option<Instant>,
    /// No log is begun before: the last attempt failed.
    not_before: Instant,
    /// Clients that want the data to be read back.
    reloads: Vec<Arc<Waiter>>,
}

impl Writer {
    fn run(&mut self) {
        let server = Arc::clone(&self.server);
        loop {
            let (on, rewrite, ended) = {
                let mut wish = server.aof.wish.lock();
                self.reloads.append(&mut wish.reloads);
                (wish.on, std::mem::take(&mut wish.rewrite), wish.ended)
            };
            if ended {
                self.complete();
            }
            if ended || !on {
                self.close(on, ended);
            }
            if ended {
                return;
            }
            if on && self.log.is_none() && (rewrite || Instant::now() >= self.not_before) {
                self.begin();
            }
            self.rewrites();
            self.note_state();
            self.reload();
            let config = server.config();
            let worked = self.turn(&config);
            match worked {
                Ok(()) => {}
                Err(Trouble::Disk(error)) => self.fail(&error),
                Err(Trouble::Lost) => self.begin_again(),
            }
        }
    }

    /// One round: takes what there is, writes it, forces it to disk if it is time to.
    fn turn(&mut self, config: &Config) -> Result<(), Trouble> {
        let server = Arc::clone(&self.server);
        let Some(log) = &mut self.log else {
            let busy = self.rewrite.is_some() || server.aof.status.lock().scheduled;
            let mut wish = server.aof.wish.lock();
            if wish.on || busy {
                // A log that could not be begun is tried again.
                server.aof.bell.wait_for(&mut wish, LOOK);
            } else if !wish.ended && !wish.rewrite && wish.reloads.is_empty() {
                server.aof.bell.wait(&mut wish);
            }
            return Ok(());
        };
        if server.gate.is_failing() {
            return self.mend(config);
        }
        let held = config.no_appendfsync_on_rewrite && self.rewrite.is_some();
        let promise = {
            // One at a time, by what is configured then: see `Aof::heed`.
            let _status = server.aof.status.lock();
            let promise = promise(&server.config(), log.begins, self.rewrite.is_some());
            server.gate.promise(promise);
            promise
        };
        let idle = server.journal.end() <= log.position;
        if idle && !log.reader.is_current(&server.journal) {
            return Err(Trouble::Lost);
        }
        if idle {
            self.rest(promise)?;
        } else if promise == Promise::All {
            log.gather(&server);
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        log.drain(&server, config, None)?;
        if log.gap && server.journal.records_effects() {
            // Replicas count the keep-alives that are not in the log. (What a replica passed over, it may be sent again.)
            log.note_rest(&server)?;
        }
        let Some(since) = log.unsynced else {
            log.note_clean(&server);
            return Ok(());
        };
        match config.appendfsync {
            AppendFsync::Always => log.sync(&server)?,
            AppendFsync::EverySec if !held => {
                let waiting = log.position.since(log.reader.position());
                if since.elapsed() >= SYNC_AFTER || waiting >= SYNC_BYTES {
                    log.sync(&server)?;
                } else {
                    log.set.flush()?;
                    log.publish(&server);
                }
            }
            AppendFsync::EverySec | AppendFsync::No => {
                log.set.flush()?;
                // The system keeps it from here on.
                log.reader.advance(Offset(log.set.written()));
                log.publish(&server);
            }
        }
        if promise != Promise::All && !idle {
            std::thread::sleep(PACE);
        }
        Ok(())
    }

    /// After a failure: puts everything on disk that is not there, if the disk works again.
    fn mend(&mut self, config: &Config) -> Result<(), Trouble> {
        let server = Arc::clone(&self.server);
        let Some(log) = &mut self.log else { return Ok(()) };
        log.mend()?;
        log.drain(&server, config, None)?;
        log.sync(&server)?;
        self.failed = None;
        server.gate.fail(None);
        notice("AOF write error looks solved, the server can write again.");
        wake_workers(&server);
        Ok(())
    }

    /// There is nothing to take: sleeps until there is, or until something is due.
    fn rest(&mut self, promise: Promise) -> Result<(), Trouble> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let due = match log.unsynced.filter(|_| promise == Promise::Second) {
            Some(since) => SYNC_AFTER.saturating_sub(since.elapsed()),
            None => LOOK,
        };
        if log.unsynced.is_none() && !log.confirmed && log.synced.elapsed() > SYNC_AFTER {
            log.confirmed = true;
            if log.told.is_none() {
                log.note_rest(&self.server)?;
            }
            log.set.confirm()?;
            log.set.flush()?;
        }
        // For more than the files have been handed: what is only not on disk yet is no reason to get up.
        self.server.journal.wait_beyond(log.position, due.min(LOOK));
        Ok(())
    }

    /// The disk fails: says so, and waits a little before the next attempt.
    fn fail(&mut self, error: &io::Error) {
        let reason = reason_of(error);
        if self.failed.is_none_or(|told| told.elapsed() > REPEAT_ERROR) {
            self.failed = Some(Instant::now());
            warning(&format!("Error writing to the AOF file: {reason}"));
        }
        self.server.gate.fail(Some(reason));
        wake_workers(&self.server);
        let mut wish = self.server.aof.wish.lock();
        if !wish.ended {
            self.server.aof.bell.wait_for(&mut wish, LOOK);
        }
    }

    /// Begins a log while the server runs: its base is what there is at a cut.
    fn begin(&mut self) {
        let config = self.server.config();
        let begun = open(&config).and_then(|(disk, set)| match set {
            Some(set) => Ok(set),
            None => LogSet::fresh(disk, &config.appendfilename, notes(&config))
                .map_err(|error| error.to_string()),
        });
        if let Err(reason) = begun.and_then(|set| self.begin_with(set)) {
            self.begin_later(&reason);
        }
    }

    /// The log could not be begun: says so, for nothing is kept before it is.
    fn begin_later(&mut self, reason: &str) {
        warning(&format!("The append-only file cannot be begun, it is tried again: {reason}"));
        self.not_before = Instant::now() + Duration::from_secs(1);
        rewrite::note_failure(&self.server);
    }

    /// The journal began anew, as a replica's does after a full copy: the log begins anew with it.
    fn begin_again(&mut self) {
        notice("The journal began anew: the append-only file does, too");
        self.cancel();
        self.server.gate.promise(Promise::Nothing);
        let Some(log) = self.log.take() else { return };
        if let Err(reason) = self.begin_with(log.set) {
            self.begin_later(&reason);
        }
    }

    fn begin_with(&mut self, mut set: LogSet<FolderDisk>) -> Result<(), String> {
        let server = Arc::clone(&self.server);
        self.cancel();
        let made = server.exclusively(|_| {
            if !server.journal.is_active() {
                server.set_journal(Mode::Own, None);
            }
            cut(&server)
        });
        let Ok(Cut { snapshot, offset, database, reader }) = made else {
            return Err("too many snapshots at once".to_owned());
        };
        let begun = set.begin_anew(offset.0).and_then(|()| {
            let select = database.map_or(Vec::new(), select);
            set.append(&select, offset.0)
        });
        let (Ok(()), Some(reader)) = (&begun, reader) else {
            super::rdb_file::finish(&server, snapshot);
            return Err(begun.err().map_or("no journal".to_owned(), |error| reason_of(&error)));
        };
        let from = set.increment();
        let mut log = Log::new(Started { set, reader, before: 0 }, &server);
        log.begins = true;
        self.log = Some(log);
        server.aof.note(|status| (status.on, status.begins) = (true, true));
        self.rewrite = rewrite::spawn(&server, snapshot, from, None);
        Ok(())
    }

    /// A log that begins counts once its base is there: at the end it is waited for, as a save would be.
    fn complete(&mut self) {
        let begins = self.log.as_ref().is_some_and(|log| log.begins);
        if let Some(rewrite) = self.rewrite.take_if(|_| begins) {
            notice("The append-only file is being begun: its base is written first");
            while !rewrite.is_done() {
                std::thread::sleep(Duration::from_millis(1));
            }
            rewrite.finish(&self.server, self.log.as_mut());
        }
    }

    /// Ends the log: everything is on disk afterwards, if the disk works. `wanted`: it is to go on after a restart.
    fn close(&mut self, wanted: bool, ended: bool) {
        if ended || self.rewrite.as_ref().is_some_and(|rewrite| rewrite.is_of_log()) {
            self.cancel();
        }
        if wanted && self.log.as_ref().is_none_or(|log| log.begins) {
            warning("The append-only file was never begun: it ends where the one before it did");
        }
        let Some(mut log) = self.log.take() else { return };
        let config = self.server.config();
        if self.server.gate.is_failing() {
            // The last chance.
            let _ = log.mend();
        }
        let ended = log.drain(&self.server, &config, None).and_then(|()| {
            log.note_rest(&self.server)?;
            log.sync(&self.server)?;
            log.set.close().map_err(Trouble::Disk)
        });
        match ended {
            Ok(_) => notice("The append-only file was forced to disk and closed"),
            Err(Trouble::Disk(error)) => {
                warning(&format!(
                    "The end of the append-only file is not on disk: {}",
                    reason_of(&error)
                ));
            }
            Err(Trouble::Lost) => warning("The append-only file ends where the journal began anew"),
        }
        let server = &self.server;
        server.gate.fail(None);
        server.gate.promise(Promise::Nothing);
        server.gate.take(None);
        self.note_state();
        server.aof.note(|status| (status.size, status.base_size) = (0, 0));
        wake_workers(server);
        drop(log);
        server.exclusively(|_| {
            let replication = &server.replication;
            let kept = replication.kept.load(std::sync::atomic::Ordering::Acquire);
            if !kept && !replication.is_replica() && !server.journal.has_readers() {
                server.set_journal(Mode::Off, None);
            }
        });
    }

    /// Says how the log stands: by what is wanted now, which may have changed within this round.
    fn note_state(&self) {
        let wish = self.server.aof.wish.lock();
        let on = wish.on && !wish.ended;
        let begins = on && self.log.as_ref().is_none_or(|log| log.begins);
        self.server.aof.note(|status| (status.on, status.begins) = (on, begins));
    }

    /// Gives a rewrite up.
    fn cancel(&mut self) {
        if let Some(rewrite) = self.rewrite.take() {
            rewrite.cancel(&self.server);
        }
    }

    /// Ends the rewrite that is done, begins the one that is due.
    fn rewrites(&mut self) {
        let server = Arc::clone(&self.server);
        if let Some(done) = self.rewrite.take_if(|rewrite| rewrite.is_done()) {
            done.finish(&server, self.log.as_mut());
            if let Some(log) = &mut self.log {
                // Without its base it was not there; it is tried again.
                log.confirmed = false;
                if log.begins {
                    server.aof.note(|status| status.scheduled = true);
                }
                log.publish(&server);
            }
        }
        if self.rewrite.is_some() || server.gate.is_failing() || !rewrite::is_due(&server) {
            return;
        }
        self.rewrite = match &mut self.log {
            Some(log) if log.begins => {
                let Some(log) = self.log.take() else { return };
                if let Err(reason) = self.begin_with(log.set) {
                    self.begin_later(&reason);
                }
                return;
            }
            Some(log) => match roll(&server, log) {
                Ok(begun) => begun,
                Err(trouble) => {
                    rewrite::note_failure(&server);
                    match trouble {
                        Trouble::Disk(error) => self.fail(&error),
                        Trouble::Lost => {}
                    }
                    None
                }
            },
            // It is to be begun, by which it is as good as rewritten.
            None if server.aof.status().on => return,
            None => rewrite::alone(&server),
        };
    }
}

/// Cuts: the snapshot is to be the base, the next increment begins where it was taken.
fn roll(server: &Arc<Server>, log: &mut Log) -> Result<Option<Rewrite>, Trouble> {
    let made = server.exclusively(|_| cut(server));
    // Another one will be at an end.
    let Ok(Cut { snapshot, offset, database, reader }) = made else { return Ok(None) };
    drop(reader);
    let config = server.config();
    let rolled = log.drain(server, &config, Some(offset)).and_then(|()| {
        log.sync(server)?;
        let len = log.set.len();
        log.set.roll(offset.0)?;
        log.before += len;
        log.told = None;
        let select = database.map_or(Vec::new(), select);
        Ok(log.set.append(&select, offset.0)?)
    });
    match rolled {
        Ok(()) => Ok(rewrite::spawn(server, snapshot, log.set.increment(), None)),
        Err(trouble) => {
            super::rdb_file::finish(server, snapshot);
            Err(trouble)
        }
    }
}

/// What selects a database.
fn select(db: DbIndex) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, &[b"SELECT".as_slice(), db.0.to_string().as_bytes()]);
    bytes
}

/// An error in the system's words, without its number.
pub(super) fn reason_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}
