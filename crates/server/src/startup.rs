//! From arguments and configuration file to a running server: reads them, opens the listeners, starts
//! the workers, says what it does, and waits for the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder_net::{Mailbox, Reactor};

use crate::config::{Config, RawConfig, Supervision};
use crate::durability::{aof, aof_load, save};
use crate::listening::Doors;
use crate::log::{notice, warning};
use crate::shared::{MemoryProbe, Server, WorkerHandle};
use crate::supervisor::Supervisor;
use crate::worker::Worker;
use crate::{ending, registry, replication};

/// Runs a server until it is told to end.
///
/// # Errors
/// A text that says what could not be opened.
pub fn serve(raw: &RawConfig, memory: MemoryProbe) -> Result<(), String> {
    let mut config = raw.parse().map_err(|error| error.to_string())?;
    registry::check(&config.renamed_commands)?;
    if let Some(path) = &config.logfile {
        crate::log::open(path)
            .map_err(|error| format!("Can't open the log file {path}: {error}"))?;
    }
    crate::log::set_level(config.loglevel.into());
    let version = env!("CARGO_PKG_VERSION");
    notice(&format!("Larder {version} is starting, PID {}", std::process::id()));
    for line in raw.notices().into_iter().chain(config.notices()) {
        notice(&line);
    }
    lower_maxclients(&mut config);
    let doors = Doors::open(&config)?;
    let pid_file = PidFile::write(config.pidfile.clone())?;
    let mut reactors = Vec::new();
    let mut workers = Vec::new();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for _ in 0..if config.workers == 0 { cores } else { config.workers } {
        let reactor = Reactor::new().map_err(|error| format!("No event loop: {error}"))?;
        let mailbox = Mailbox::new(reactor.waker());
        workers.push(WorkerHandle::new(mailbox));
        reactors.push(reactor);
    }
    let seed = [random()?, random()?];
    let server = Arc::new(Server::new(config, raw.path.clone(), doors, workers, memory, seed));
    if server.config().huge_pages {
        (memory.make_huge)();
    }
    if let Err(error) = server.oom_score.apply(&server.config()) {
        warning(&format!("Unable to write oom_score_adj: {error}"));
    }
    let supervisor = Supervisor::find(server.config().supervised);
    if server.config().supervised == Supervision::Systemd && supervisor == Supervisor::Nobody {
        warning("WARNING: supervised by systemd, but NOTIFY_SOCKET is not in the environment");
    }
    std::env::set_current_dir(&server.config().dir)
        .map_err(|error| format!("Can't chdir to '{}': {error}", server.config().dir))?;
    save::start(&server).map_err(|error| format!("No thread to save: {error}"))?;
    server.loading.store(true, Ordering::Release);
    let signalled = watch_signals()?;
    let mut threads = Vec::new();
    for (number, reactor) in reactors.into_iter().enumerate() {
        let worker = Worker::new(Arc::clone(&server), number, reactor, random()?);
        let stop = Arc::clone(&server);
        let thread =
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let result = worker.run();
                // One worker that breaks ends the server: half a server answers half its clients.
                stop.stop();
                result
            });
        threads.push(thread.map_err(|error| format!("No thread for a worker: {error}"))?);
    }
    notice(&format!("PID: {} - Server initialized", std::process::id()));
    load(&server)?;
    server.loading.store(false, Ordering::Release);
    replication::begin(&server)
        .map_err(|error| format!("No thread to follow a primary: {error}"))?;
    announce(&server);
    supervisor.ready();
    keep_running(&server, &signalled);
    supervisor.stopping();
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("A worker's event loop broke: {error}")),
            Err(_) => return Err("A worker panicked".to_owned()),
        }
    }
    replication::finish(&server);
    server.aof.end(&server);
    if server.saves.is_wanted_at_end()
        && let Err(error) = save::save_at_end(&server)
    {
        warning(&format!("The data was not saved: {error}"));
    }
    drop(pid_file);
    notice("Larder is now ready to exit, bye bye...");
    server.doors.close();
    // The system takes all memory at once; giving back every record by itself would take seconds.
    std::mem::forget(server);
    Ok(())
}

/// What is due from time to time, until the end.
fn keep_running(server: &Arc<Server>, signalled: &AtomicUsize) {
    /// Each round costs an idle server a waking.
    const ROUND: Duration = Duration::from_millis(100);
    let mut rounds = 0u32;
    while !server.stopping.load(Ordering::Acquire) {
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(10) {
            save::tick(server);
        }
        replication::tick(server);
        std::thread::sleep(ROUND);
        match signalled.swap(0, Ordering::AcqRel) {
            0 => {}
            signal => ending::ask_by_signal(server, i32::try_from(signal).unwrap_or(0)),
        }
        ending::tick(server);
    }
}

/// Fills the keyspace from the log or the snapshot, as configured, and lets the log be written on.
fn load(server: &Arc<Server>) -> Result<(), String> {
    let loaded = match server.config().appendonly {
        true => aof_load::start(server).map(Some),
        false => save::load_at_start(server).map(|()| None),
    };
    let started = loaded.and_then(|log| {
        aof::start(server, log).map_err(|error| format!("No thread for the log: {error}"))
    });
    started.inspect_err(|reason| {
        warning(&format!("Fatal error loading the DB, check server logs. Exiting. {reason}"));
        server.stop();
    })
}

/// The file with the process's number, removed at an orderly end.
struct PidFile {
    path: Option<String>,
}

impl PidFile {
    fn write(path: Option<String>) -> Result<PidFile, String> {
        if let Some(path) = &path {
            let text = format!("{}\n", std::process::id());
            std::fs::write(path, text)
                .map_err(|error| format!("Can't write the pidfile {path}: {error}"))?;
        }
        Ok(PidFile { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            warning(&format!("Can't remove the pidfile {path}: {error}"));
        }
    }
}

/// What an operator must know at once: where it listens, where data is, what is unsafe.
fn announce(server: &Server) {
    let config = server.config();
    for door in server.doors.all().iter_mut() {
        notice(&format!("Listening on {}", door.place));
    }
    notice(&format!("{} workers, {} databases", server.workers.len(), config.databases));
    if config.appendonly {
        let fsync = config.appendfsync.name();
        notice(&format!(
            "Changes are logged in {}/{} (appendfsync {fsync})",
            config.dir, config.appenddirname
        ));
    } else if config.save.is_empty() {
        notice("Data is in memory only: it is kept on disk by SAVE and BGSAVE alone");
    } else {
        notice(&format!("Data is saved to {}/{}", config.dir, config.dbfilename));
    }
    if config.requirepass.is_empty() {
        warning("WARNING: no password is set (requirepass)");
    }
    if !config.protected_mode {
        warning("WARNING: protected mode is off");
    }
    if config.maxmemory == 0 {
        warning("WARNING: maxmemory is 0: memory is not limited");
    }
    // Tools wait for these two lines.
    notice("Ready to accept connections");
}

/// Lowers `maxclients` to what the system grants descriptors for.
fn lower_maxclients(config: &mut Config) {
    let possible = clients_possible(config.maxclients);
    if possible < config.maxclients
        && let Ok((lowered, _)) = config.set(&[(b"maxclients", possible.to_string().as_bytes())])
    {
        warning(&format!(
            "WARNING: the system grants too few open files for maxclients {}: it is {possible} now",
            config.maxclients
        ));
        *config = lowered;
    }
}

/// Asks the system for descriptors for that many clients. Returns how many can be served.
pub fn clients_possible(wanted: u32) -> u32 {
    /// For listeners, event loops and files.
    const OWN: u64 = 32;
    let granted = larder_net::raise_descriptor_limit(u64::from(wanted) + OWN).unwrap_or(1024);
    u32::try_from(granted.saturating_sub(OWN).max(1)).unwrap_or(u32::MAX).min(wanted)
}

/// The last signal to end that came; 0 = none.
fn watch_signals() -> Result<Arc<AtomicUsize>, String> {
    let signalled = Arc::new(AtomicUsize::new(0));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let number = usize::try_from(signal).unwrap_or(0);
        signal_hook::flag::register_usize(signal, Arc::clone(&signalled), number)
            .map_err(|error| format!("Cannot watch for signals: {error}"))?;
    }
    Ok(signalled)
}

fn random() -> Result<u64, String> {
    getrandom::u64().map_err(|error| format!("The system gives no randomness: {error}"))
}
