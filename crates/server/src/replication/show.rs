//! How replication stands, as ROLE and INFO show it; sentinels and tools read these words.

use larder_base::time::Millis;
use larder_cluster::replication::Stage;
use larder_protocol::reply::Reply;

use super::{LinkState, Replication};
use crate::observe::snapshot::Snapshot;
use crate::shared::Server;

/// The answer to ROLE.
pub fn role(server: &Server, reply: &mut Reply<'_>) {
    let replication = &server.replication;
    let (primary, link) = {
        let state = replication.state();
        (state.primary.clone(), state.link)
    };
    if let Some(primary) = primary {
        let offset = i64::try_from(server.journal.end().0).unwrap_or(i64::MAX);
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(primary.host.as_bytes());
        reply.integer(primary.port.into());
        reply.bulk(link.name().as_bytes());
        reply.integer(if link == LinkState::Connected { offset } else { -1 });
        return;
    }
    let rows: Vec<[String; 3]> = replication
        .replicas
        .all()
        .iter()
        .filter_map(|replica| {
            let follower = replica.follower.lock();
            (follower.stage == Stage::Online).then(|| {
                let host = replica.host(&follower);
                [host, follower.port.to_string(), follower.acked.to_string()]
            })
        })
        .collect();
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(i64::try_from(server.journal.end().0).unwrap_or(i64::MAX));
    reply.array(rows.len());
    for row in rows {
        reply.array(3);
        row.iter().for_each(|text| reply.bulk(text.as_bytes()));
    }
}

/// The lines of INFO's section.
pub fn lines(snapshot: &Snapshot<'_>) -> Vec<(String, String)> {
    let server = snapshot.server;
    let replication = &server.replication;
    let mut lines = Vec::new();
    let mut put = |name: &str, value: String| lines.push((name.to_owned(), value));
    let follows = replication.is_replica();
    put("role", if follows { "slave" } else { "master" }.to_owned());
    if follows {
        following(snapshot, &mut put);
    }
    let all = replication.replicas.all();
    put("connected_slaves", all.len().to_string());
    let config = &snapshot.options;
    if !follows && config.min_replicas_to_write > 0 && config.min_replicas_max_lag > 0 {
        let near = replication.replicas.near(config.min_replicas_max_lag, snapshot.now);
        put("min_slaves_good_slaves", near.to_string());
    }
    for (at, replica) in all.iter().enumerate() {
        let follower = replica.follower.lock();
        put(
            &format!("slave{at}"),
            format!(
                "ip={},port={},state={},offset={},lag={},type={}",
                replica.host(&follower),
                follower.port,
                follower.stage.name(),
                follower.acked,
                follower.lag_s(snapshot.now),
                if follower.snapshot_only { "rdb-only" } else { "replica" },
            ),
        );
    }
    let waiting = all.iter().filter(|replica| replica.follower.lock().stage == Stage::Waiting);
    put("replicas_waiting_psync", waiting.count().to_string());
    history(server, replication, snapshot, &mut put);
    lines
}

fn history(
    server: &Server,
    replication: &Replication,
    snapshot: &Snapshot<'_>,
    put: &mut impl FnMut(&str, String),
) {
    let lineage = replication.state().lineage;
    let (first, end) = (server.journal.first(), server.journal.end());
    let kept = replication.kept.load(std::sync::atomic::Ordering::Acquire);
    put("master_failover_state", replication.failover.name().to_owned());
    put("master_replid", lineage.id.to_string());
    put("master_replid2", lineage.previous.to_string());
    put("master_repl_offset", end.to_string());
    put("second_repl_offset", lineage.fork.map_or("-1".to_owned(), |fork| fork.to_string()));
    put("repl_backlog_active", u8::from(kept).to_string());
    put("repl_backlog_size", snapshot.options.repl_backlog_size.to_string());
    // Redis counts bytes from 1.
    let first_byte = if kept { first.plus(1).to_string() } else { "0".to_owned() };
    put("repl_backlog_first_byte_offset", first_byte);
    put("repl_backlog_histlen", if kept { end.since(first) } else { 0 }.to_string());
}

fn following(snapshot: &Snapshot<'_>, put: &mut impl FnMut(&str, String)) {
    let server = snapshot.server;
    let replication = &server.replication;
    let state = replication.state();
    let Some(primary) = &state.primary else { return };
    let connected = state.link == LinkState::Connected;
    let seconds = |since: Millis| (snapshot.now.since(since).max(0) / 1000).to_string();
    put("master_host", primary.host.clone());
    put("master_port", primary.port.to_string());
    put("master_link_status", if connected { "up" } else { "down" }.to_owned());
    let heard = Millis(replication.heard.load(std::sync::atomic::Ordering::Relaxed));
    let ago = if connected { seconds(heard) } else { "-1".to_owned() };
    put("master_last_io_seconds_ago", ago);
    let syncs = state.link == LinkState::Sync;
    put("master_sync_in_progress", u8::from(syncs).to_string());
    let end = server.journal.end().to_string();
    put("slave_read_repl_offset", end.clone());
    put("slave_repl_offset", end);
    if syncs {
        let [read, total] = state.sync_bytes;
        put("master_sync_total_bytes", total.to_string());
        put("master_sync_read_bytes", read.to_string());
        put("master_sync_left_bytes", total.saturating_sub(read).to_string());
        let share = if total == 0 { 0.0 } else { read as f64 * 100.0 / total as f64 };
        put("master_sync_perc", format!("{share:.2}"));
        put("master_sync_last_io_seconds_ago", seconds(heard));
    }
    if !connected {
        put("master_link_down_since_seconds", state.down_since.map_or("-1".to_owned(), seconds));
    }
    let config = &snapshot.options;
    put("slave_priority", config.replica_priority.to_string());
    put("slave_read_only", u8::from(config.replica_read_only).to_string());
    put("replica_announced", u8::from(config.replica_announced).to_string());
}
