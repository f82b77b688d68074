//! Becoming a replica, and a primary again. Everything here runs in the exclusive section.

use larder_cluster::replication::{Position, ReplicationId};

use super::{LinkState, Point, Primary, fresh_id, keep_history};
use crate::dispatch::Others;
use crate::durability::journal::Mode;
use crate::shared::{Letter, Server, now};

/// Follows a primary from now on. What this server holds stays until the primary sends all of its data; if it
/// holds a part of the primary's history, it goes on from there.
pub fn follow(server: &Server, others: &mut Others<'_>, primary: Primary, asks_failover: bool) {
    let replication = &server.replication;
    let recorded = server.journal.is_active();
    let was_primary = {
        let mut state = replication.state();
        let was_primary = state.primary.replace(primary).is_none();
        state.generation += 1;
        state.link = LinkState::Connect;
        state.down_since = Some(now());
        state.asks_failover = asks_failover;
        state.synced = state.synced && recorded;
        if let Some(peer) = state.peer.take() {
            peer.stream.shutdown();
        }
        was_primary
    };
    if was_primary {
        server.set_journal(Mode::Follows, None);
        keep_history(server);
        dismiss_waiting(server, others);
    }
    enact(server);
}

/// Is a primary from now on: what it followed stays known, so that those who followed the same can go on here.
pub fn lead(server: &Server) {
    let replication = &server.replication;
    let was_synced;
    {
        let mut state = replication.state();
        if state.primary.take().is_none() {
            return;
        }
        state.generation += 1;
        state.link = LinkState::Connect;
        state.down_since = None;
        state.asks_failover = false;
        if let Some(peer) = state.peer.take() {
            peer.stream.shutdown();
        }
        was_synced = state.synced;
        if was_synced {
            state.lineage.promote(fresh_id(), server.journal.end());
        } else {
            state.lineage.replace(fresh_id());
        }
        state.synced = true;
    }
    // What a copy that failed left behind is in no log: it begins anew.
    let anew = (!was_synced).then(|| server.journal.end());
    server.set_journal(Mode::Own, anew);
    keep_history(server);
    // They learn the new name of the history when they come back.
    replication.replicas.close_all();
    enact(server);
}

/// The data that a start finds is this point of a history, and nothing was recorded since. One that is to follow goes
/// on from there, if its primary still can. One that leads begins a history of its own there, which those who hold no
/// more than this may go over to.
pub fn resume(server: &Server, point: Point) {
    let Position { id, offset } = point.position;
    let follows = server.config().replicaof.is_some();
    server.set_journal(if follows { Mode::Follows } else { Mode::Own }, Some(offset));
    {
        let mut state = server.replication.state();
        state.lineage.replace(id);
        if !follows {
            state.lineage.promote(fresh_id(), offset);
        }
        state.synced = true;
    }
    server.name_history();
    if follows {
        server.journal.append_raw(point.database, &[]);
    } else {
        keep_history(server);
    }
}

/// The data is no longer what the history says: who follows this server takes all of it anew, and so does this
/// server, if it follows another.
pub fn disown(server: &Server, others: &mut Others<'_>) {
    let replication = &server.replication;
    let primary = {
        let mut state = replication.state();
        state.synced = false;
        state.primary.clone()
    };
    replication.replicas.close_all();
    if let Some(primary) = primary {
        follow(server, others, primary, false);
    } else if server.journal.is_active() {
        replication.begin_history();
        server.set_journal(Mode::Own, Some(server.journal.end()));
    }
}

/// The primary gave the history another name, or goes on under the known one.
pub fn rename(server: &Server, id: ReplicationId) {
    let mut state = server.replication.state();
    if state.lineage.id != id {
        let end = server.journal.end();
        state.lineage.continue_as(id, end);
        drop(state);
        server.name_history();
        server.replication.replicas.close_all();
    }
}

/// Lets configuration and gates follow the part that is played.
fn enact(server: &Server) {
    let replication = &server.replication;
    let primary = replication.state().primary.clone();
    let config = server.config().with_primary(primary.map(|Primary { host, port }| (host, port)));
    // The settings of the data are those that are in force.
    let _ = server.configure(config);
    replication.ring();
}

/// Who waits for a key waits in vain on a replica: they are told, and may look for the new primary.
fn dismiss_waiting(server: &Server, others: &mut Others<'_>) {
    const REASON: &[u8] = b"-UNBLOCKED force unblock from blocking operation, instance state \
        changed (master -> replica?)\r\n";
    for client in others
        .iter_mut()
        .flat_map(|state| state.clients.iter_mut())
        .filter_map(|seat| seat.client.as_deref_mut())
    {
        if let Some(waiter) = client.waiting.as_ref().filter(|waiter| waiter.end()) {
            server.blocked.remove(waiter);
            client.closing = true;
            let address = waiter.address;
            server.post(address.worker, Letter::Served(address.token, REASON.to_vec(), None));
        }
    }
}
