//! SAVE, BGSAVE and the start from a file: the keyspace as an RDB file, by a snapshot that stops nobody. A
//! new file is written beside the old one, forced to disk, and takes its name; a failure leaves the old one.
//! It knows files; what is in them, `rdb_file` knows.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use larder_persist::rdb::{self, Version, WriteError};
use larder_store::DbIndex;
use larder_store::snapshot::{self, Snapshot};
use parking_lot::Mutex;

use super::rdb_file::{self, Due, Loaded};
use crate::config::Config;
use crate::log::{notice, warning};
use crate::replication::{self, Point, roles};
use crate::shared::{Server, now};
use crate::turns::{self, Share};

/// How saving stands; INFO shows it.
#[derive(Debug)]
pub struct Saves {
    /// A save runs.
    running: AtomicBool,
    /// The one in the background is to be given up.
    cancelled: AtomicBool,
    /// One is wanted as soon as it may begin.
    scheduled: AtomicBool,
    /// The last one failed.
    failed: AtomicBool,
    /// Hashes have fields with deadlines, which the usual version cannot hold.
    field_deadlines: AtomicBool,
    /// Keys saved, and keys there are, of the one that runs.
    progress: [AtomicUsize; 2],
    last: Mutex<Last>,
    /// To the thread that saves.
    queue: OnceLock<SyncSender<Job>>,
    /// The data is to be saved at the end, as far as it is not.
    at_end: AtomicBool,
    /// Keys loaded at the start, and keys that had expired by then.
    loaded: [AtomicUsize; 2],
}

/// What became of the last save, and when.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// Seconds since 1970 of the last good one; the start, if none.
    pub at_s: i64,
    /// Whether the last one did not fail.
    pub ok: bool,
    /// Seconds it took; `None` = there was none.
    pub took_s: Option<u64>,
    /// Since when one runs.
    pub running_since: Option<Instant>,
    /// Modifications when the last good one began.
    pub dirty: u64,
    /// Good ones since the start.
    pub count: u64,
    /// When the last one ended, good or not.
    ended: Option<Instant>,
}

impl Saves {
    /// Nothing was saved yet.
    #[must_use]
    pub fn new(at_s: i64) -> Saves {
        let last = Last {
            at_s,
            ok: true,
            took_s: None,
            running_since: None,
            dirty: 0,
            count: 0,
            ended: None,
        };
        Saves {
            running: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            scheduled: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            field_deadlines: AtomicBool::new(false),
            progress: [AtomicUsize::new(0), AtomicUsize::new(0)],
            last: Mutex::new(last),
            queue: OnceLock::new(),
            at_end: AtomicBool::new(false),
            loaded: [AtomicUsize::new(0), AtomicUsize::new(0)],
        }
    }

    /// Keys loaded at the start, and keys that had expired by then.
    pub fn loaded(&self) -> [usize; 2] {
        let [keys, expired] = &self.loaded;
        [keys.load(Ordering::Relaxed), expired.load(Ordering::Relaxed)]
    }

    /// Says whether to save at the end.
    pub fn ask_at_end(&self, save: bool) {
        self.at_end.store(save, Ordering::Release);
    }

    /// Whether to save at the end.
    pub fn is_wanted_at_end(&self) -> bool {
        self.at_end.load(Ordering::Acquire)
    }

    /// One is to begin when the transaction that asks for it is over.
    pub fn schedule(&self) {
        self.scheduled.store(true, Ordering::Release);
    }

    /// Has the save that runs given up; false if it does not end within a few seconds.
    fn give_up_running(&self) -> bool {
        let begun = Instant::now();
        self.cancelled.store(true, Ordering::Release);
        while self.is_running() && begun.elapsed() < GIVING_UP_MAX {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.cancelled.store(false, Ordering::Release);
        !self.is_running()
    }

    /// Whether the last one failed.
    #[inline]
    pub fn have_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether a save runs.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// What became of the last one.
    pub fn last(&self) -> Last {
        *self.last.lock()
    }

    /// Keys saved and keys in all, of the save that runs.
    pub fn progress(&self) -> [usize; 2] {
        let [seen, all] = &self.progress;
        [seen.load(Ordering::Relaxed), all.load(Ordering::Relaxed)]
    }

    /// The version to write: Redis 7.0's, unless it was seen that it cannot hold the data.
    pub fn version(&self) -> Version {
        if self.field_deadlines.load(Ordering::Relaxed) {
            Version::Redis(12)
        } else {
            Version::DEFAULT
        }
    }

    /// Learns from an error what the usual version cannot hold: from now on a newer one is written.
    pub fn note_failure(&self, error: &SaveError) {
        if let SaveError::Write(WriteError::FieldDeadlines(_)) = error {
            self.field_deadlines.store(true, Ordering::Relaxed);
        }
    }

    fn begin(&self) -> bool {
        let begun = !self.running.swap(true, Ordering::AcqRel);
        if begun {
            self.last.lock().running_since = Some(Instant::now());
        }
        begun
    }

    fn end(&self, dirty: u64, result: &Result<(), SaveError>) {
        let mut last = self.last.lock();
        let took = last.running_since.take().map_or(0, |since| since.elapsed().as_secs());
        last.took_s = Some(took);
        // Clients that flush without end did not break the disk: nobody's writes are refused for that.
        let failed = result.as_ref().is_err_and(|error| !matches!(error, SaveError::Flushed));
        last.ok = !failed;
        last.ended = Some(Instant::now());
        if result.is_ok() {
            last.at_s = now().0 / 1000;
            last.dirty = dirty;
            last.count += 1;
        }
        drop(last);
        self.failed.store(failed, Ordering::Relaxed);
        self.running.store(false, Ordering::Release);
    }
}

/// Why a save failed.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another one runs.
    #[error("Background save already in progress")]
    Busy,
    /// A database was flushed meanwhile.
    #[error("a database was flushed while it was saved")]
    Flushed,
    /// The file could not be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The format could not hold it.
    #[error("{0}")]
    Write(#[from] WriteError),
}

/// Where the file is.
fn path(config: &Config) -> PathBuf {
    PathBuf::from(&config.dbfilename)
}

/// What is to be written: the data, and the point of a history that it is, if it is one.
struct Picture {
    snapshot: Snapshot,
    point: Option<Point>,
}

/// A picture of this moment. Only in the exclusive section.
fn picture(server: &Server) -> Result<Picture, SaveError> {
    let snapshot = server.keyspace.begin_snapshot().map_err(|snapshot::Busy| SaveError::Busy)?;
    Ok(Picture { snapshot, point: replication::point(server) })
}

/// A picture that is to be written, and the modifications at its cut.
type Job = (Picture, u64);

/// Begins a save in the background. Only in the exclusive section.
///
/// # Errors
/// `Busy`.
pub fn begin(server: &Server, dirty: u64) -> Result<(), SaveError> {
    let saves = &server.saves;
    if !saves.begin() {
        return Err(SaveError::Busy);
    }
    let queue = saves.queue.get();
    let begun = match (queue, picture(server)) {
        // The queue holds one, and only one save runs: it is never full.
        (Some(queue), Ok(picture)) => queue.try_send((picture, dirty)).is_ok(),
        (None, _) | (_, Err(_)) => false,
    };
    if !begun {
        saves.end(dirty, &Err(SaveError::Busy));
        return Err(SaveError::Busy);
    }
    Ok(())
}

/// Begins a save that was scheduled, or leaves it so where it cannot begin yet. Only in the exclusive section.
pub fn begin_scheduled(server: &Server, dirty: u64) {
    let scheduled = &server.saves.scheduled;
    if scheduled.swap(false, Ordering::AcqRel) && begin(server, dirty).is_err() {
        scheduled.store(true, Ordering::Release);
    }
}

/// The thread that writes what `begin` begins, for as long as the server runs.
///
/// # Errors
/// If there is no thread to be had.
pub fn start(server: &Arc<Server>) -> io::Result<()> {
    let (queue, jobs) = sync_channel::<Job>(1);
    // A second start keeps the first thread.
    let _ = server.saves.queue.set(queue);
    // It must not keep the server alive: the queue's end, which is in the server, ends it.
    let theirs = Arc::downgrade(server);
    let thread = std::thread::Builder::new().name("save".to_owned());
    thread.spawn(move || {
        turns::give_way(Share::Quarter);
        for job in jobs {
            let Some(theirs) = theirs.upgrade() else { return };
            run(&theirs, job);
        }
    })?;
    Ok(())
}

/// Attempts that flushes may break before a save is given up.
const ATTEMPTS_MAX: u32 = 20;

/// Writes a snapshot, and begins anew where a flush broke it or its version cannot hold the data.
fn run(server: &Server, (first, mut dirty): Job) {
    let mut result = save(server, first);
    let mut attempts = 1;
    while attempts < ATTEMPTS_MAX
        && (wants_newer_version(&result) || matches!(result, Err(SaveError::Flushed)))
    {
        attempts += 1;
        let again = server.exclusively(|states| {
            dirty = states.iter().map(|state| state.stats.dirty).sum();
            picture(server)
        });
        result = again.and_then(|picture| save(server, picture));
    }
    report(&result);
    server.saves.end(dirty, &result);
}

/// Begins a save if one is scheduled or a save point says so; to be called every second or so.
pub fn tick(server: &Server) {
    let config = server.config();
    if server.saves.is_running() {
        return;
    }
    if server.saves.scheduled.load(Ordering::Acquire) {
        server.exclusively(|states| {
            let dirty = states.iter().map(|state| state.stats.dirty).sum();
            begin_scheduled(server, dirty);
        });
        return;
    }
    if config.save.is_empty() {
        return;
    }
    let last = server.saves.last();
    let idle_s = u64::try_from(now().0 / 1000 - last.at_s).unwrap_or(0);
    // After a failure it waits a little, as Redis does.
    if !last.ok && last.ended.is_some_and(|ended| ended.elapsed() < Duration::from_secs(5)) {
        return;
    }
    server.exclusively(|states| {
        let dirty: u64 = states.iter().map(|state| state.stats.dirty).sum();
        let changes = dirty.saturating_sub(last.dirty);
        let due =
            config.save.iter().find(|(seconds, count)| idle_s > *seconds && changes >= *count);
        if let Some((seconds, count)) = due {
            notice(&format!("{count} changes in {seconds} seconds. Saving..."));
            // Somebody else's save serves as well.
            let _ = begin(server, dirty);
        }
    });
}

/// How long a save in the background may take to be given up: one that begins anew meanwhile waits for the exclusive
/// section that its end is waited for in.
const GIVING_UP_MAX: Duration = Duration::from_secs(5);

/// Saves before the server begins to end. Only in the exclusive section.
///
/// # Errors
/// Why it failed; the old file is untouched then.
pub fn save_before_end(server: &Server, dirty: u64) -> Result<(), SaveError> {
    // One that runs has the data of an earlier moment.
    if !server.saves.give_up_running() {
        return Err(SaveError::Busy);
    }
    notice("Saving the final RDB snapshot before exiting.");
    save_now(server, dirty)
}

/// Saves what the last workers changed while they ended, if anything. The workers have ended.
///
/// # Errors
/// Why it failed.
pub fn save_at_end(server: &Server) -> Result<(), SaveError> {
    server.exclusively(|states| {
        let dirty = states.iter().map(|state| state.stats.dirty).sum();
        let last = server.saves.last();
        if last.ok && last.count > 0 && last.dirty == dirty {
            return Ok(());
        }
        save_before_end(server, dirty)
    })
}

/// Saves now, with everybody waiting. Only in the exclusive section.
///
/// # Errors
/// Why it failed; the old file is untouched then.
pub fn save_now(server: &Server, dirty: u64) -> Result<(), SaveError> {
    if !server.saves.begin() {
        return Err(SaveError::Busy);
    }
    let attempt = || picture(server).and_then(|picture| save(server, picture));
    let mut result = attempt();
    if wants_newer_version(&result) {
        result = attempt();
    }
    report(&result);
    server.saves.end(dirty, &result);
    result
}

/// Whether the file was given up because its version has no deadlines of fields: the next attempt takes one
/// that has them.
fn wants_newer_version(result: &Result<(), SaveError>) -> bool {
    matches!(result, Err(SaveError::Write(WriteError::FieldDeadlines(_))))
}

fn report(result: &Result<(), SaveError>) {
    match result {
        Ok(()) => notice("DB saved on disk"),
        Err(error) => warning(&format!("Saving failed, the old file stays: {error}")),
    }
}

/// Writes the snapshot to its end, whatever becomes of the file: only then its lane is free again.
fn save(server: &Server, picture: Picture) -> Result<(), SaveError> {
    let Picture { mut snapshot, point } = picture;
    let config = server.config();
    let target = path(&config);
    let temporary = PathBuf::from(format!("temp-{}.rdb", std::process::id()));
    let result = write(server, &config, &temporary, &mut snapshot, point);
    while snapshot.step(&server.keyspace, 4096, &mut |_| {}) {}
    let result = result.and_then(|()| {
        fs::rename(&temporary, &target)?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    });
    if result.is_err() {
        // It may not be there; the first error is the one to report.
        drop(fs::remove_file(&temporary));
    }
    if let Err(error) = &result {
        // From now on in the version of Redis 7.4, which has them.
        server.saves.note_failure(error);
    }
    result
}

fn write(
    server: &Server,
    config: &Config,
    path: &Path,
    snapshot: &mut Snapshot,
    point: Option<Point>,
) -> Result<(), SaveError> {
    let mut file = File::create(path)?;
    let version = server.saves.version();
    let options =
        rdb::Options { version, compress: config.rdbcompression, checksum: config.rdbchecksum };
    let mut told = Instant::now();
    let named = point.map(|point| point.notes());
    let mut notes = vec![("aof-base", "0")];
    notes.extend(named.iter().flatten().map(|(name, text)| (*name, text.as_str())));
    rdb_file::write(server, snapshot, options, &notes, &mut file, |seen, all| {
        for (place, count) in server.saves.progress.iter().zip([seen, all]) {
            place.store(count, Ordering::Relaxed);
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            notice(&format!("Saving: {seen} of {all} keys"));
        }
        match server.saves.cancelled.load(Ordering::Relaxed) {
            true => Err(super::pace::given_up()),
            false => Ok(()),
        }
    })?;
    file.sync_all()?;
    Ok(())
}

/// Reads the file back, as after a restart: saves first if `saves`, and empties the databases first if `empties`.
/// For tests, and only in the exclusive section.
///
/// # Errors
/// What went wrong; after a failed load the data is incomplete.
pub fn reload(server: &Server, dirty: u64, saves: bool, empties: bool) -> Result<(), String> {
    if saves {
        save_now(server, dirty).map_err(|error| error.to_string())?;
    }
    if empties {
        for db in (0..server.keyspace.databases()).filter_map(|db| u8::try_from(db).ok()) {
            server.background.free_tables(server.keyspace.flush(DbIndex(db)), true);
        }
    }
    load(server, Due::Skip).map(drop)
}

/// Fills the keyspace from the file, if there is one, at the start: if its data is a point of a history, that goes on.
///
/// # Errors
/// As [`load`].
pub fn load_at_start(server: &Server) -> Result<(), String> {
    // What is due, the primary says.
    let follows = server.config().replicaof.is_some();
    let loaded = load(server, if follows { Due::Keep } else { Due::Tell })?;
    let point = loaded.and_then(|loaded| Point::noted(&loaded, server.keyspace.databases()));
    if let Some(point) = point
        && !server.journal.is_active()
    {
        server.exclusively(|_| roles::resume(server, point));
    }
    Ok(())
}

/// Fills the keyspace from the file, if there is one.
///
/// # Errors
/// Why the file is refused, and where; or that it cannot be read.
fn load(server: &Server, due: Due) -> Result<Option<Loaded>, String> {
    let config = server.config();
    let path = path(&config);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("Can't open {}: {error}", path.display())),
    };
    let begun = Instant::now();
    let source = BufReader::with_capacity(1 << 20, file);
    let loaded = rdb_file::load(server, source, due)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    for (place, count) in server.saves.loaded.iter().zip([loaded.keys, loaded.expired]) {
        place.store(count, Ordering::Relaxed);
    }
    notice(&format!(
        "DB loaded from disk: {:.3} seconds, {} keys, {} expired",
        begun.elapsed().as_secs_f64(),
        loaded.keys,
        loaded.expired
    ));
    Ok(Some(loaded))
}
