//! FAILOVER: the hand-over of the primary's part to a replica that has everything. Writes pause, a replica catches up,
//! this server follows it and asks it to lead; if that fails, it leads again itself.

use std::sync::atomic::{AtomicBool, Ordering};

use larder_base::time::Millis;
use larder_cluster::replication::Stage;
use larder_commands::Fault;
use parking_lot::Mutex;

use super::{Primary, roles};
use crate::dispatch::Others;
use crate::log::notice;
use crate::shared::Server;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The replica that is to lead; `None`: the first that has everything.
    pub target: Option<Primary>,
    /// It is to lead when the time is over, even if it lacks something.
    pub force: bool,
    /// Milliseconds; `None`: as long as it takes.
    pub timeout_ms: Option<i64>,
}

struct Run {
    wanted: Wanted,
    deadline: Option<Millis>,
    /// The replica was asked to lead.
    asked: bool,
}

/// See the head of this file.
#[derive(Default)]
pub struct Failover {
    run: Mutex<Option<Run>>,
    running: AtomicBool,
}

impl Failover {
    /// Whether one runs.
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// The word for it in INFO.
    pub fn name(&self) -> &'static str {
        match &*self.run.lock() {
            None => "no-failover",
            Some(run) if run.asked => "failover-in-progress",
            Some(_) => "waiting-for-sync",
        }
    }

    /// Whether a replica was asked to lead.
    pub fn has_asked(&self) -> bool {
        self.run.lock().as_ref().is_some_and(|run| run.asked)
    }
}

/// Begins one. Only in the exclusive section.
///
/// # Errors
/// Redis's, for what stands in the way.
pub fn begin(server: &Server, wanted: Wanted, now: Millis) -> Result<(), Fault> {
    let replication = &server.replication;
    if replication.failover.is_running() {
        return Err(Fault::text("ERR FAILOVER already in progress."));
    }
    if replication.is_replica() {
        return Err(Fault::text("ERR FAILOVER is not valid when server is a replica."));
    }
    if replication.replicas.is_empty() {
        return Err(Fault::text("ERR FAILOVER requires connected replicas."));
    }
    if wanted.force && (wanted.timeout_ms.is_none() || wanted.target.is_none()) {
        return Err(Fault::text(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        ));
    }
    if let Some(target) = &wanted.target {
        match stage_of(server, target) {
            None => {
                return Err(Fault::text("ERR FAILOVER target HOST and PORT is not a replica."));
            }
            Some(Stage::Online) => {}
            Some(_) => return Err(Fault::text("ERR FAILOVER target replica is not online.")),
        }
    }
    notice("FAILOVER requested: writes pause until a replica has everything");
    let deadline = wanted.timeout_ms.map(|ms| now.saturating_add(ms));
    *replication.failover.run.lock() = Some(Run { wanted, deadline, asked: false });
    replication.failover.running.store(true, Ordering::Release);
    server.set_pause(Some((Millis(i64::MAX), true)));
    Ok(())
}

/// Gives one up on request. Only in the exclusive section.
///
/// # Errors
/// If none runs.
pub fn abort(server: &Server) -> Result<(), Fault> {
    if !server.replication.failover.is_running() {
        return Err(Fault::text("ERR No failover in progress."));
    }
    give_up(server, "it was aborted");
    Ok(())
}

fn give_up(server: &Server, why: &str) {
    notice(&format!("FAILOVER given up: {why}"));
    if server.replication.failover.has_asked() {
        roles::lead(server);
    }
    end(server);
}

fn end(server: &Server) {
    let failover = &server.replication.failover;
    *failover.run.lock() = None;
    failover.running.store(false, Ordering::Release);
    server.set_pause(None);
}

/// The link to the replica stands: it leads now.
pub fn succeeded(server: &Server) {
    if server.replication.failover.has_asked() {
        notice("FAILOVER done: this server is a replica now");
        end(server);
    }
}

/// The replica refused.
pub fn refused(server: &Server) {
    if server.replication.failover.has_asked() {
        server.exclusively(|_| give_up(server, "Failover target rejected psync request"));
    }
}

fn stage_of(server: &Server, target: &Primary) -> Option<Stage> {
    server.replication.replicas.all().iter().find_map(|replica| {
        let follower = replica.follower.lock();
        let same = replica.host(&follower) == target.host && follower.port == target.port;
        same.then_some(follower.stage)
    })
}

/// A replica that has everything, if it is one that may lead.
fn caught_up(server: &Server, target: Option<&Primary>) -> Option<Primary> {
    let end = server.journal.end();
    server.replication.replicas.all().iter().find_map(|replica| {
        let follower = replica.follower.lock();
        let place = Primary { host: replica.host(&follower), port: follower.port };
        let fits = target.is_none_or(|target| *target == place);
        (fits && follower.stage == Stage::Online && follower.acked >= end).then_some(place)
    })
}

/// Looks whether it can go on.
pub fn tick(server: &Server, now: Millis) {
    let failover = &server.replication.failover;
    if !failover.is_running() {
        return;
    }
    let (wanted, late, asked) = match &*failover.run.lock() {
        None => return,
        Some(run) => {
            let late = run.deadline.is_some_and(|deadline| deadline <= now);
            (run.wanted.clone(), late, run.asked)
        }
    };
    if asked {
        if late && !wanted.force {
            server.exclusively(|_| give_up(server, "the time is over"));
        }
        return;
    }
    let mut next = caught_up(server, wanted.target.as_ref());
    if next.is_none() && late {
        if !wanted.force {
            server.exclusively(|_| give_up(server, "no replica caught up in time"));
            return;
        }
        notice("FAILOVER: time out exceeded, failing over.");
        next = wanted.target;
    }
    if let Some(next) = next {
        server.exclusively(|states| ask(server, states, next));
    }
}

fn ask(server: &Server, states: &mut Others<'_>, next: Primary) {
    notice(&format!("FAILOVER: asking {}:{} to lead", next.host, next.port));
    if let Some(run) = &mut *server.replication.failover.run.lock() {
        run.asked = true;
    }
    roles::follow(server, states, next, true);
}
