//! The sections of INFO that have a line for each of what there is: commands, errors, databases.

use larder_store::DbIndex;

use crate::observe::snapshot::Snapshot;
use crate::stats::CommandStats;

type Lines = Vec<(String, String)>;

/// Commands that ran or were refused.
pub fn command_stats(snapshot: &Snapshot<'_>) -> Lines {
    let line = |name: &str, one: &CommandStats| {
        let per_call = one.nanos as f64 / 1e3 / one.calls.max(1) as f64;
        let value = format!(
            "calls={},usec={},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
            one.calls,
            one.nanos / 1000,
            one.rejected,
            one.failed
        );
        (format!("cmdstat_{name}"), value)
    };
    used(snapshot).iter().map(|(name, one)| line(name, one)).collect()
}

/// Percentiles of the time of commands that ran.
pub fn latency_stats(snapshot: &Snapshot<'_>) -> Lines {
    if !snapshot.options.latency_tracking {
        return Vec::new();
    }
    let percentiles = &snapshot.options.latency_tracking_info_percentiles;
    let line = |name: &str, one: &CommandStats| {
        let shares: Vec<String> = percentiles
            .iter()
            .map(|share| format!("p{share}={}.000", one.took.percentile(*share)))
            .collect();
        (format!("latency_percentiles_usec_{name}"), shares.join(","))
    };
    let ran = used(snapshot).into_iter().filter(|(_, one)| one.calls > 0);
    ran.map(|(name, one)| line(&name, one)).collect()
}

fn used<'a>(snapshot: &'a Snapshot<'_>) -> Vec<(String, &'a CommandStats)> {
    let rows = snapshot.server.registry.rows().into_iter();
    rows.filter_map(|(name, number)| Some((name, snapshot.commands.get(number)?)))
        .filter(|(_, one)| one.calls > 0 || one.rejected > 0)
        .collect()
}

/// Errors by their code word.
pub fn error_stats(snapshot: &Snapshot<'_>) -> Lines {
    let errors = snapshot.server.errors.lock();
    errors
        .iter()
        .map(|(code, count)| (format!("errorstat_{code}"), format!("count={count}")))
        .collect()
}

/// What was evicted, by policy, and how long it had not been used.
pub fn evictions(snapshot: &Snapshot<'_>) -> Lines {
    let line = |one: crate::eviction::Evicted| {
        let [half, most] = one.ages_ms;
        let value = format!("keys={},idle_ms_p50={half},idle_ms_p99={most}", one.count);
        (format!("evicted_{}", one.policy.replace('-', "_")), value)
    };
    snapshot.server.evictions.by_policy().into_iter().map(line).collect()
}

/// Databases with keys.
pub fn keyspace(snapshot: &Snapshot<'_>) -> Lines {
    let line = |(number, keys, expires): &(usize, usize, usize)| {
        let ttl = if *expires > 0 { mean_ttl_ms(snapshot, *number) } else { 0 };
        let value = format!("keys={keys},expires={expires},avg_ttl={ttl}");
        (format!("db{number}"), value)
    };
    snapshot.databases.iter().map(line).collect()
}

/// The mean time to live of a few keys, in milliseconds: an estimate, as Redis's is.
fn mean_ttl_ms(snapshot: &Snapshot<'_>, number: usize) -> i64 {
    /// Slots looked at; one is held at a time, and INFO holds everybody up already.
    const SLOTS: u16 = 16;
    /// Keys looked at in a slot.
    const KEYS: usize = 64;
    let server = snapshot.server;
    let db = DbIndex(u8::try_from(number).unwrap_or(0));
    let (mut sum, mut count) = (0i64, 0i64);
    let slots = server.keyspace.occupied_slots(db);
    let step = (slots.len() / usize::from(SLOTS)).max(1);
    for slot in slots.into_iter().step_by(step) {
        let view = server.keyspace.view_slots(&server.settings, db, &[slot], snapshot.now);
        for deadline in view.deadlines(slot, KEYS) {
            sum = sum.saturating_add(deadline.since(snapshot.now).max(0));
            count += 1;
        }
    }
    if count == 0 { 0 } else { sum / count }
}
