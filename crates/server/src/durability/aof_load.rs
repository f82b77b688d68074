//! The start from an append-only file: finds it (an old single file too), repeats it, and hands it over to be written
//! on. Where there is none yet, the first one begins with what `dbfilename` holds, or with nothing. It knows
//! files; what commands do, `apply` knows.

use std::fs::{self, File};
use std::io::{self, BufRead};
use std::path::Path;
use std::time::{Duration, Instant};

use larder_cluster::replication::{Offset, Position, ReplicationId};
use larder_commands::Args;
use larder_persist::aof::Place;
use larder_persist::aof::load::{Loaded, Repeat, load as repeat_all};
use larder_persist::aof::set::{LogSet, TEMPORARY};
use larder_persist::disk::{Disk, DiskWriter};
use larder_persist::rdb::{Options, WriteError};
use larder_store::DbIndex;
use parking_lot::MutexGuard;

use super::aof::{Started, notes, open, reason_of};
use super::apply::{Apart, Applier, ApplyError};
use super::cut::{Cut, cut};
use super::files::FolderDisk;
use super::journal::{Mode, OutOfReach, Reader};
use super::rdb_file::{self, Due};
use super::save::{self, SaveError};
use crate::config::Config;
use crate::databases;
use crate::log::{notice, warning};
use crate::replication::{Point, roles};
use crate::shared::{Server, now};

/// Commands repeated before others get to look at the data.
const TURN: u64 = 256;

/// Loads the log, or begins the first one.
///
/// # Errors
/// Why the server must not start: which file breaks, where and why.
pub fn start(server: &Server) -> Result<Started, String> {
    let config = server.config();
    adopt(&config)?;
    let (disk, set) = open(&config)?;
    let Some(mut set) = set else {
        return first(server, &config, disk);
    };
    let (loaded, database) = load(server, &config, &set)?;
    let (reader, history) = join(server, loaded.place.as_ref(), database)?;
    let mark = reader.position().0;
    let cut = loaded.cut.as_ref().map(|(name, len)| (name.as_str(), *len));
    set.resume(loaded.last.as_ref(), cut, mark, history.as_str())
        .map_err(|error| format!("the log cannot be continued: {}", reason_of(&error)))?;
    super::rewrite::collect(server, &mut set);
    let [_, all] = loaded.bytes;
    let before = all.saturating_sub(loaded.last.map_or(0, |last| last.end));
    server.aof.note(|status| status.base_size = all);
    Ok(Started { set, reader, before })
}

/// Repeats the files of a log while workers answer that data is loading; returns the database that it ends in, too.
fn load(
    server: &Server,
    config: &Config,
    set: &LogSet<FolderDisk>,
) -> Result<(Loaded, DbIndex), String> {
    let applier = Applier::new(server, DbIndex(0));
    repeat_files(server, config, set, applier, &mut server.apart.lock(), true)
}

/// Empties the databases and repeats the files of a log, which the journal knows already, with everybody waiting.
/// `apart` is the state of that name: only in the exclusive section.
///
/// # Errors
/// Which file breaks, where and why; the data is incomplete then.
pub(super) fn reload(
    server: &Server,
    set: &LogSet<FolderDisk>,
    apart: &mut Apart<'_>,
) -> Result<Loaded, String> {
    databases::flush_all(server, now(), false);
    let counted = (apart.stats, std::mem::take(&mut apart.commands));
    let config = server.config();
    let loaded = repeat_files(server, &config, set, Applier::alone(server), apart, false);
    // These changes were counted when they were made.
    (apart.stats, apart.commands) = counted;
    loaded.map(|(loaded, _)| loaded)
}

/// `shares`: others get to look at the data in between.
fn repeat_files(
    server: &Server,
    config: &Config,
    set: &LogSet<FolderDisk>,
    applier: Applier<'_>,
    apart: &mut Apart<'_>,
    shares: bool,
) -> Result<(Loaded, DbIndex), String> {
    let begun = Instant::now();
    let mut repeater = Repeater { server, applier, apart, shares, since_turn: 0, told: begun };
    let loaded = repeat_all(set, config.aof_load_truncated, &mut repeater);
    let database = repeater.applier.database();
    let loaded = loaded.map_err(|error| format!("{}/{error}", config.appenddirname))?;
    if let Some(text) = &loaded.warning {
        warning(&format!("!!! Warning: short read while loading the AOF file !!! {text}"));
    }
    notice(&format!(
        "DB loaded from append only file: {:.3} seconds, {} commands",
        begun.elapsed().as_secs_f64(),
        loaded.commands
    ));
    Ok((loaded, database))
}

/// From here on what happens is recorded, in the history of this name. It goes on where the log is, if that is known.
fn join(
    server: &Server,
    place: Option<&Place>,
    database: DbIndex,
) -> Result<(Reader, ReplicationId), String> {
    let position = place.and_then(|place| {
        let id = ReplicationId::parse(&place.history)?;
        Some(Position { id, offset: Offset(place.offset) })
    });
    server.exclusively(|_| {
        match position {
            Some(position) => roles::resume(server, Point { position, database }),
            None if !server.journal.is_active() => server.set_journal(Mode::Own, None),
            None => {}
        }
        if server.journal.records_effects() {
            server.journal.forget_database();
        }
        let reader = server.journal.join(server.journal.end());
        let id = server.replication.state().lineage.id;
        reader.map(|reader| (reader, id)).map_err(|OutOfReach| "the journal ended".to_owned())
    })
}

/// An old single file is moved into the folder, where it becomes the base.
fn adopt(config: &Config) -> Result<(), String> {
    let (name, folder) = (Path::new(&config.appendfilename), Path::new(&config.appenddirname));
    let (manifest, there) =
        (folder.join(format!("{}.manifest", config.appendfilename)), folder.join(name));
    if !is_there(name)? || is_there(&manifest)? || is_there(&there)? {
        return Ok(());
    }
    notice(&format!(
        "Successfully found an old-style AOF: it is migrated into the {} directory",
        config.appenddirname
    ));
    let moved = fs::create_dir_all(folder)
        .and_then(|()| fs::rename(name, &there))
        .and_then(|()| File::open(folder)?.sync_all())
        .and_then(|()| File::open(".")?.sync_all());
    moved.map_err(|error| format!("{} cannot be moved: {error}", name.display()))
}

/// Whether a file is there. A disk that does not say is no reason to begin with nothing.
fn is_there(path: &Path) -> Result<bool, String> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("{}: {}", path.display(), reason_of(&error))),
    }
}

/// The first start: nothing may be promised before a base and an increment are there.
fn first(server: &Server, config: &Config, disk: FolderDisk) -> Result<Started, String> {
    if is_there(Path::new(&config.dbfilename))? {
        notice("There is no append-only file yet: it begins with the data of the RDB file");
        save::load_at_start(server)?;
    }
    let fail = |error: io::Error| format!("the first log cannot be made: {}", reason_of(&error));
    let mut set = LogSet::fresh(disk, &config.appendfilename, notes(config))
        .map_err(|error| error.to_string())?;
    let made = server.exclusively(|_| {
        if !server.journal.is_active() {
            server.set_journal(Mode::Own, None);
        }
        cut(server)
    });
    let Ok(Cut { mut snapshot, offset, reader, .. }) = made else {
        return Err("too many snapshots at once".to_owned());
    };
    let temporary = format!("{TEMPORARY}first-{}.aof", std::process::id());
    let attempt = |snapshot: &mut _| -> Result<u64, SaveError> {
        let options = Options {
            version: server.saves.version(),
            compress: config.rdbcompression,
            checksum: config.rdbchecksum,
        };
        let mut file = set.disk().create(&temporary)?;
        let none = |_, _| Ok(());
        rdb_file::write(server, snapshot, options, &[("aof-base", "1")], &mut file, none)?;
        file.sync()?;
        Ok(set.disk().read(&temporary)?.metadata()?.len())
    };
    let mut written = attempt(&mut snapshot);
    rdb_file::finish(server, snapshot);
    if let Err(error @ SaveError::Write(WriteError::FieldDeadlines(_))) = &written {
        server.saves.note_failure(error);
        // Nobody changes anything yet: a second snapshot is the same.
        let again = server.exclusively(|_| server.keyspace.begin_snapshot());
        let Ok(mut snapshot) = again else { return Err("too many snapshots at once".to_owned()) };
        written = attempt(&mut snapshot);
        rdb_file::finish(server, snapshot);
    }
    let before = written.map_err(|error| format!("the first log cannot be made: {error}"))?;
    set.begin_anew(offset.0).map_err(fail)?;
    set.install_base(&temporary, true, set.increment()).map_err(fail)?;
    let reader = reader.ok_or("the journal ended")?;
    server.aof.note(|status| status.base_size = before);
    Ok(Started { set, reader, before })
}

/// Repeats commands.
struct Repeater<'s, 'a, 'g> {
    server: &'s Server,
    applier: Applier<'s>,
    apart: &'a mut Apart<'g>,
    shares: bool,
    since_turn: u64,
    told: Instant,
}

impl Repeat for Repeater<'_, '_, '_> {
    fn snapshot<R: BufRead>(&mut self, name: &str, source: &mut R) -> Result<u64, String> {
        notice(&format!("Reading RDB base file on AOF loading: {name}"));
        let server = self.server;
        let load = || rdb_file::load(server, source, Due::Keep);
        let loaded = if self.shares { MutexGuard::unlocked(self.apart, load) } else { load() }?;
        Ok(loaded.bytes)
    }

    fn command(&mut self, args: &[Vec<u8>]) -> Result<(), String> {
        self.since_turn += 1;
        if self.since_turn >= TURN {
            self.since_turn = 0;
            if self.shares {
                MutexGuard::bump(self.apart);
            }
        }
        let words: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        match self.applier.apply(self.apart, Args::new(&words), &[]) {
            Ok(_) => Ok(()),
            Err(ApplyError::Failed { name, reason }) => {
                // Redis goes on as well: an error then was an error when it was first run.
                warning(&format!("A command of the log failed: {name}: {reason}"));
                Ok(())
            }
            Err(ApplyError::Unknown(name)) => {
                Err(format!("Unknown command '{name}' reading the append only file"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn give_up_transaction(&mut self) {
        self.applier.give_up_transaction();
    }

    fn progress(&mut self, name: &str, read: u64) {
        if self.told.elapsed() > Duration::from_secs(5) {
            self.told = Instant::now();
            notice(&format!("Loading {name}: {read} bytes read"));
        }
    }
}
