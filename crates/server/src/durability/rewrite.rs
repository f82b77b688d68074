//! Rewriting the append-only file: when it is due, the thread that writes a snapshot as the new base, and how it
//! ends. Nothing forks, and nobody waits: what happens meanwhile is in the increment that began at the cut.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_persist::aof::set::{LogSet, TEMPORARY};
use larder_persist::disk::{Disk, DiskWriter};
use larder_persist::rdb::{Options, WriteError};
use larder_store::snapshot::Snapshot;
use parking_lot::Mutex;

use super::aof::{Log, notes, open, reason_of};
use super::files::FolderDisk;
use super::save::SaveError;
use super::{aof_base, rdb_file};
use crate::config::Config;
use crate::log::{notice, warning};
use crate::shared::Server;
use crate::turns::{self, Share};

/// After so many failures in a row the automatic rewrites become rarer.
const FAILURES_FREE: u64 = 3;
/// The longest time between two of them then.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// A rewrite that runs.
pub(super) struct Rewrite {
    begun: Instant,
    temporary: String,
    rdb: bool,
    /// The increment that begins at the cut.
    from: u64,
    /// The files, where no log is written meanwhile.
    alone: Option<LogSet<FolderDisk>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    result: Mutex<Option<Result<u64, SaveError>>>,
}

/// Whether a rewrite is to begin: one was asked for, or the log has grown.
pub(super) fn is_due(server: &Server) -> bool {
    let (config, status) = (server.config(), server.aof.status());
    if status.scheduled {
        // One after the other on the disk, as with Redis.
        return !server.saves.is_running();
    }
    if !status.on || status.begins || config.auto_aof_rewrite_percentage == 0 {
        return false;
    }
    let base = status.base_size.max(1);
    let grown = status.size > config.auto_aof_rewrite_min_size
        && status.size.saturating_sub(base) as u128 * 100
            >= u128::from(base) * u128::from(config.auto_aof_rewrite_percentage);
    if !grown || server.saves.is_running() {
        return false;
    }
    let pause = match status.failures.checked_sub(FAILURES_FREE) {
        None => Duration::ZERO,
        Some(more) => Duration::from_secs(60 << more.min(6)).min(PAUSE_MAX),
    };
    let ended = status.rewrite_ended;
    if ended.is_some_and(|ended| ended.elapsed() < pause) {
        return false;
    }
    notice(&format!(
        "Starting automatic rewriting of AOF on {}% growth",
        status.size.saturating_sub(base) * 100 / base
    ));
    true
}

/// Begins to write a snapshot as the base.
pub(super) fn spawn(
    server: &Arc<Server>,
    snapshot: Snapshot,
    from: u64,
    alone: Option<LogSet<FolderDisk>>,
) -> Option<Rewrite> {
    let config = server.config();
    let temporary = format!("{TEMPORARY}bg-{}.aof", std::process::id());
    let rdb = config.aof_use_rdb_preamble;
    let state = Arc::new(State::default());
    let (theirs, shared, name) = (Arc::clone(server), Arc::clone(&state), temporary.clone());
    let handed = Arc::new(Mutex::new(Some(snapshot)));
    let taken = Arc::clone(&handed);
    let thread = std::thread::Builder::new().name("rewrite".to_owned()).spawn(move || {
        turns::give_way(Share::Quarter);
        let Some(snapshot) = taken.lock().take() else { return };
        let result = base(&theirs, &config, snapshot, &name, rdb, &shared.cancelled);
        *shared.result.lock() = Some(result);
        theirs.journal.wake();
    });
    if let Err(error) = thread {
        warning(&format!("No thread to rewrite the append-only file: {error}"));
        if let Some(snapshot) = handed.lock().take() {
            rdb_file::finish(server, snapshot);
        }
        note_failure(server);
        return None;
    }
    notice("Background append only file rewriting started");
    let begun = Instant::now();
    server.aof.note(|status| (status.rewriting, status.scheduled) = (Some(begun), false));
    Some(Rewrite { begun, temporary, rdb, from, alone, state })
}

/// A rewrite where no log is written: the result is a base and nothing more.
pub(super) fn alone(server: &Arc<Server>) -> Option<Rewrite> {
    let config = server.config();
    let set = open(&config).and_then(|(disk, set)| match set {
        Some(set) => Ok(set),
        None => LogSet::fresh(disk, &config.appendfilename, notes(&config))
            .map_err(|error| error.to_string()),
    });
    let set = match set {
        Ok(set) => set,
        Err(reason) => {
            warning(&format!("Can't rewrite the append only file: {reason}"));
            note_failure(server);
            return None;
        }
    };
    let snapshot = server.exclusively(|_| server.keyspace.begin_snapshot()).ok()?;
    spawn(server, snapshot, u64::MAX, Some(set))
}

/// Writes the base beside the log, and forces it to disk.
fn base(
    server: &Server,
    config: &Config,
    mut snapshot: Snapshot,
    name: &str,
    rdb: bool,
    cancelled: &AtomicBool,
) -> Result<u64, SaveError> {
    let attempt = |snapshot: &mut Snapshot| {
        let disk = FolderDisk::new(Path::new(&config.appenddirname))?;
        let mut file = Counted { inner: disk.create(name)?, bytes: 0 };
        let progress = |_, _| match cancelled.load(Ordering::Relaxed) {
            true => Err(super::pace::given_up()),
            false => Ok(()),
        };
        if rdb {
            let options = Options {
                version: server.saves.version(),
                compress: config.rdbcompression,
                checksum: config.rdbchecksum,
            };
            rdb_file::write(server, snapshot, options, &[("aof-base", "1")], &mut file, progress)?;
        } else {
            aof_base::write(server, snapshot, &mut file, progress)?;
        }
        file.inner.sync()?;
        Ok(file.bytes)
    };
    let result = attempt(&mut snapshot);
    rdb_file::finish(server, snapshot);
    if let Err(error) = &result {
        server.saves.note_failure(error);
    }
    result
}

/// A file that knows its length.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: io::Write> io::Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Rewrite {
    /// Whether it is for the log that is written, not one by itself.
    pub(super) fn is_of_log(&self) -> bool {
        self.alone.is_none()
    }

    /// Whether the base is there, or failed.
    pub(super) fn is_done(&self) -> bool {
        self.state.result.lock().is_some()
    }

    /// Nobody wants it any more.
    pub(super) fn cancel(self, server: &Server) {
        self.state.cancelled.store(true, Ordering::Relaxed);
        // It is soon over; the next one writes to a file of the same name.
        while !self.is_done() {
            std::thread::sleep(Duration::from_millis(1));
        }
        remove(server, &self.temporary);
        server.aof.note(|status| status.rewriting = None);
    }

    /// Makes what was written the base of the log.
    pub(super) fn finish(mut self, server: &Server, log: Option<&mut Log>) {
        let Some(result) = self.state.result.lock().take() else { return };
        let again = matches!(
            result,
            Err(SaveError::Flushed | SaveError::Write(WriteError::FieldDeadlines(_)))
        );
        let installed = result.map_err(|error| error.to_string()).and_then(|bytes| {
            let set = match (&mut self.alone, log) {
                (Some(set), _) => set,
                (None, Some(log)) => {
                    let set = install(&mut log.set, &self)?;
                    log.before = bytes;
                    log.begins = false;
                    collect(server, set);
                    let size = bytes + log.set.len();
                    server.aof.note(|status| (status.size, status.base_size) = (size, size));
                    return Ok(());
                }
                (None, None) => return Err("the log was closed".to_owned()),
            };
            let (temporary, rdb, from) = (&self.temporary, self.rdb, self.from);
            set.install_base(temporary, rdb, from).map_err(|error| reason_of(&error))?;
            collect(server, set);
            Ok(())
        });
        let took = self.begun.elapsed().as_secs();
        match installed {
            Ok(()) => {
                notice("Background AOF rewrite finished successfully");
                server.aof.note(|status| {
                    (status.rewriting, status.last_rewrite_s) = (None, Some(took));
                    (status.last_rewrite_ok, status.failures) = (true, 0);
                    status.rewrites += 1;
                    status.rewrite_ended = Some(Instant::now());
                });
            }
            Err(reason) => {
                remove(server, &self.temporary);
                warning(&format!(
                    "Background AOF rewrite failed, the log stays as it was: {reason}"
                ));
                note_failure(server);
                server.aof.note(|status| {
                    (status.last_rewrite_s, status.scheduled) = (Some(took), again);
                });
            }
        }
    }
}

fn install<'s>(
    set: &'s mut LogSet<FolderDisk>,
    rewrite: &Rewrite,
) -> Result<&'s mut LogSet<FolderDisk>, String> {
    set.install_base(&rewrite.temporary, rewrite.rdb, rewrite.from)
        .map_err(|error| reason_of(&error))?;
    Ok(set)
}

/// Deletes what was replaced, where that is wanted.
pub(super) fn collect(server: &Server, set: &mut LogSet<FolderDisk>) {
    if !server.config().aof_disable_auto_gc
        && let Err(error) = set.collect()
    {
        warning(&format!("Old files of the log could not be deleted: {}", reason_of(&error)));
    }
}

fn remove(server: &Server, name: &str) {
    // It may never have been there.
    let folder = server.config().appenddirname.clone();
    let _ = FolderDisk::new(Path::new(&folder)).and_then(|disk| disk.remove(name));
}

/// A rewrite failed.
pub(super) fn note_failure(server: &Server) {
    server.aof.note(|status| {
        (status.rewriting, status.scheduled, status.last_rewrite_ok) = (None, false, false);
        status.failures += 1;
        status.rewrite_ended = Some(Instant::now());
    });
}
