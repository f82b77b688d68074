//! How the server is asked to end, by SHUTDOWN or by a signal, and what must be done before it may. While replicas lack
//! something, everybody is served on, but nothing is changed any more, and the end can be called off. It knows no
//! connections; what comes after the workers have ended is the start's to do, in its order (`startup`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_base::time::Millis;
use larder_cluster::replication::Offset;
use larder_protocol::reply::Reply;
use parking_lot::Mutex;

use crate::blocking::Waiter;
use crate::durability::save::{self, SaveError};
use crate::log::{notice, warning};
use crate::shared::{Letter, Server, now};

/// What was said about the end.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Save or do not; `None` = save where there are save points.
    save: Option<bool>,
    /// Wait for no replica.
    now: bool,
    /// End even if the data cannot be saved.
    force: bool,
    /// Nobody can be told to ask again: a log that is being begun is waited for.
    by_signal: bool,
}

impl Wish {
    /// From the words that were said, which `said` knows in lower case.
    pub fn of(said: impl Fn(&str) -> bool) -> Wish {
        let save = match (said("save"), said("nosave")) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        Wish { save, now: said("now"), force: said("force"), by_signal: false }
    }
}

/// An end that waits for replicas, if there is one. Its lock is a leaf.
#[derive(Default)]
pub struct Ending {
    run: Mutex<Option<Run>>,
    underway: AtomicBool,
}

struct Run {
    wish: Wish,
    /// It comes then, whoever lacks something.
    until: Millis,
    /// What replicas are to have.
    offset: Offset,
    /// Clients that are told if nothing comes of it.
    waiters: Vec<Arc<Waiter>>,
}

impl Ending {
    /// Whether it is waited for replicas: nothing is changed meanwhile.
    pub fn is_underway(&self) -> bool {
        self.underway.load(Ordering::Acquire)
    }

    /// How long it waits at most.
    pub fn left_ms(&self, now: Millis) -> Option<i64> {
        self.run.lock().as_ref().map(|run| run.until.since(now))
    }

    /// One more client waits for the end that is underway.
    pub fn join(&self, waiter: Arc<Waiter>) {
        if let Some(run) = &mut *self.run.lock() {
            // Those who went away make room.
            run.waiters.retain(|waiter| !waiter.ended.load(Ordering::Acquire));
            run.waiters.push(waiter);
        }
    }
}

/// Why the server goes on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The data is not safe.
    #[error("Error trying to save the DB, can't exit: {0}")]
    Unsaved(#[from] SaveError),
    /// A start would not find the log that is configured.
    #[error("Writing initial AOF, can't exit")]
    LogBegins,
}

/// Asks for the end: it comes at once, or is underway afterwards, since replicas lack something. One that is underway
/// already goes on as it was asked for, unless it is to come now. Only in the exclusive section; `dirty` are all
/// modifications so far.
///
/// # Errors
/// Why the server goes on.
pub fn ask(server: &Server, wish: Wish, dirty: u64) -> Result<(), Refused> {
    let ending = &server.ending;
    if ending.is_underway() {
        return if wish.now { come(server, wish, dirty) } else { Ok(()) };
    }
    let (offset, timeout_s) = (server.journal.end(), server.config().shutdown_timeout);
    if wish.now || timeout_s == 0 || !server.replication.replicas.some_lag(offset) {
        return come(server, wish, dirty);
    }
    notice("Waiting for replicas before shutting down.");
    let until = now().saturating_add(i64::from(timeout_s) * 1000);
    *ending.run.lock() = Some(Run { wish, until, offset, waiters: Vec::new() });
    ending.underway.store(true, Ordering::Release);
    server.refresh_pause();
    server.replication.waits.ask(server, offset);
    Ok(())
}

/// Asks for the end because a signal came, as configured for it.
pub fn ask_by_signal(server: &Server, signal: i32) {
    let config = server.config();
    let (name, words) = match signal {
        signal_hook::consts::SIGINT => ("SIGINT", &config.shutdown_on_sigint),
        _ => ("SIGTERM", &config.shutdown_on_sigterm),
    };
    notice(&format!("Received {name} scheduling shutdown..."));
    let wish = Wish { by_signal: true, ..Wish::of(|word| words.contains(&word)) };
    // Why it may not end is in the log.
    let _ = server.exclusively(|states| {
        ask(server, wish, states.iter().map(|state| state.stats.dirty).sum())
    });
    server.journal.wake();
    server.wake_all();
}

/// Lets an end come that has waited for replicas long enough.
pub fn tick(server: &Server) {
    let is_due = || {
        let waited = server.ending.run.lock().as_ref().map(|run| (run.until, run.offset, run.wish));
        waited.filter(|(until, offset, _)| {
            *until <= now() || !server.replication.replicas.some_lag(*offset)
        })
    };
    if is_due().is_none() {
        return;
    }
    server.exclusively(|states| {
        // It may have been called off meanwhile.
        if let Some((.., wish)) = is_due() {
            let _ = come(server, wish, states.iter().map(|state| state.stats.dirty).sum());
        }
    });
    server.wake_all();
}

/// Calls the end off that is underway; false if none is. Only in the exclusive section.
pub fn abort(server: &Server) -> bool {
    let underway = server.ending.is_underway();
    if underway {
        notice("Shutdown manually aborted.");
        call_off(server);
    }
    underway
}

/// The end. What is to be saved is saved before anything ends: a server that cannot save goes on rather than lose what
/// it holds. While it loads there is nothing to save.
fn come(server: &Server, wish: Wish, dirty: u64) -> Result<(), Refused> {
    tell_of_replicas(server);
    let wanted = wish.save.unwrap_or(!server.config().save.is_empty());
    let saves = wanted && !server.loading.load(Ordering::Acquire);
    let prepared = match wish.force {
        true => Ok(()),
        false => prepare(server, wish, saves, dirty),
    };
    if let Err(reason) = prepared {
        warning(&reason.to_string());
        warning("Errors trying to shut down the server. Check the logs for more information.");
        call_off(server);
        return Err(reason);
    }
    server.saves.ask_at_end(saves);
    // Who was waited for is not waited for again: nothing was changed since.
    let hurries = wish.now || server.ending.is_underway();
    server.replication.hurries.store(hurries, Ordering::Release);
    server.stop();
    Ok(())
}

fn prepare(server: &Server, wish: Wish, saves: bool, dirty: u64) -> Result<(), Refused> {
    let log = server.aof.status();
    // Its base is written, or will be as soon as the thread of the log hears of it.
    let is_coming = log.rewriting.is_some() || log.last_rewrite_ok;
    if log.begins && is_coming && !wish.by_signal {
        return Err(Refused::LogBegins);
    }
    if saves {
        save::save_before_end(server, dirty)?;
    }
    Ok(())
}

/// Says which replicas have everything.
fn tell_of_replicas(server: &Server) {
    let waited = server.ending.run.lock().as_ref().map(|run| run.offset);
    let offset = waited.unwrap_or(server.journal.end());
    let all = server.replication.replicas.all();
    let mut in_sync = 0;
    for replica in &all {
        if !replica.lags(offset) {
            in_sync += 1;
            continue;
        }
        let follower = replica.follower.lock().clone();
        notice(&format!(
            "Lagging replica {}:{} reported offset {} behind master, lag={}, state={}.",
            replica.host(&follower),
            follower.port,
            offset.since(follower.acked),
            follower.lag_s(now()),
            follower.stage.name(),
        ));
    }
    if !all.is_empty() {
        let count = all.len();
        notice(&format!("{in_sync} of {count} replicas are in sync when shutting down."));
    }
}

/// The server goes on, and whoever waited for its end is told.
fn call_off(server: &Server) {
    let Some(run) = server.ending.run.lock().take() else { return };
    server.ending.underway.store(false, Ordering::Release);
    server.refresh_pause();
    for waiter in run.waiters.into_iter().filter(|waiter| waiter.end()) {
        let mut out = Vec::new();
        Reply::new(&mut out, waiter.version).error_bytes(REFUSAL.as_bytes());
        let address = waiter.address;
        server.post(address.worker, Letter::Served(address.token, out, Some(waiter)));
    }
}

/// What SHUTDOWN answers where the server goes on; the log says why.
pub const REFUSAL: &str = "ERR Errors trying to SHUTDOWN. Check logs.";
