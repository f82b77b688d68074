//! The metrics of INFO but those of memory: one row each. How figures are gathered, and how they are
//! written, is known elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_base::hash::KeyHasher;

use crate::control::server::REDIS_VERSION;
use crate::durability::aof::Status;
use crate::observe::info::Metric;
use crate::observe::info::Value::{self, Absent, Count, Decimal, Signed, Text, Word};
use crate::observe::snapshot::Snapshot;
use crate::observe::turns;
use crate::pubsub::Space;

const fn of(count: usize) -> crate::observe::info::Value {
    Count(count as u64)
}

/// The program and the process.
pub const SERVER: &[Metric] = &[
    Metric::fact("redis_version", "The Redis version whose behaviour clients may expect.", |_| {
        Word(REDIS_VERSION)
    }),
    Metric::fact("server_name", "What this is.", |_| Word("larder")),
    Metric::fact("larder_version", "The version of Larder.", |_| Word(env!("CARGO_PKG_VERSION"))),
    Metric::fact("redis_git_sha1", "Commit of the source; builds do not look it up.", |_| {
        Word("00000000")
    }),
    Metric::fact(
        "redis_git_dirty",
        "Whether the source was changed; builds do not look it up.",
        |_| Word("0"),
    ),
    Metric::fact("redis_build_id", "A number of this version.", |_| Text(build_id())),
    Metric::fact("redis_mode", "standalone, as there is no cluster.", |_| Word("standalone")),
    Metric::fact("server_mode", "The same under the name that Valkey gives it.", |_| {
        Word("standalone")
    }),
    Metric::fact("os", "The operating system.", |_| Text(system())),
    Metric::fact("arch_bits", "Bits of an address.", |_| of(usize::BITS as usize)),
    Metric::fact("monotonic_clock", "Which clock measures durations.", |_| {
        Word("POSIX clock_gettime")
    }),
    Metric::fact("multiplexing_api", "How the server waits for its connections.", |_| {
        Word("epoll")
    }),
    Metric::fact("process_id", "Number of the process.", |_| of(std::process::id() as usize)),
    Metric::fact("process_supervised", "Who supervises the process.", |s| {
        Word(crate::supervisor::Supervisor::find(s.options.supervised).name())
    }),
    Metric::fact("run_id", "A random name of this run.", |s| Text(s.server.run_id.clone())),
    Metric::fact("tcp_port", "The port.", |s| of(s.options.port.into())),
    Metric::gauge("server_time_usec", "The server's clock.", |_| Count(clock_usec())),
    Metric::gauge("uptime_in_seconds", "Time since the start.", |s| Signed(s.uptime_s())),
    Metric::gauge("uptime_in_days", "The same in days.", |s| Signed(s.uptime_s() / 86_400)),
    Metric::gauge(
        "shutdown_in_milliseconds",
        "How long an end that was asked for waits for replicas at most.",
        |s| s.server.ending.left_ms(s.now).map_or(Absent, Signed),
    ),
    Metric::fact("hz", "Rounds of housekeeping per second.", |s| {
        Count(s.options.rounds_per_second().into())
    }),
    Metric::fact("configured_hz", "Rounds that were asked for.", |s| Count(s.options.hz.into())),
    Metric::gauge("lru_clock", "Seconds, in the 24 bits that Redis keeps.", |s| {
        Signed((s.now.0 / 1000) & 0xff_ffff)
    }),
    Metric::fact("executable", "Path of the program.", |_| Text(executable())),
    Metric::fact("config_file", "Path of the configuration, if it was read from a file.", |s| {
        Text(s.server.config_path.as_ref().map_or_else(String::new, |p| p.display().to_string()))
    }),
    Metric::fact("availability_zone", "Where it stands, as configured.", |s| {
        Text(s.options.availability_zone.clone())
    }),
    Metric::gauge(
        "io_threads_active",
        "Threads that only read and write; workers do everything.",
        |_| Count(0),
    ),
    Metric::gauge("workers", "Threads that serve connections.", |s| of(s.server.workers.len())),
    Metric::fact("listener0", "Where TCP connections are accepted.", |s| Text(listener(s))),
];

/// Connections.
pub const CLIENTS: &[Metric] = &[
    Metric::gauge("connected_clients", "Connections now.", |s| of(s.clients.connected)),
    Metric::gauge(
        "cluster_connections",
        "Connections of a cluster's bus; there is no cluster.",
        |_| Count(0),
    ),
    Metric::gauge("maxclients", "Connections allowed.", |s| {
        of(usize::try_from(s.options.maxclients).unwrap_or(usize::MAX))
    }),
    Metric::gauge(
        "client_recent_max_input_buffer",
        "The largest input buffer of the last seconds.",
        |s| of(s.clients.largest[0]),
    ),
    Metric::gauge(
        "client_recent_max_output_buffer",
        "The largest output buffer of the last seconds.",
        |s| of(s.clients.largest[1]),
    ),
    Metric::gauge(
        "blocked_clients",
        "Connections that wait for keys or the end of a pause.",
        |s| of(s.clients.blocked),
    ),
    Metric::gauge("tracking_clients", "Connections that cache keys.", |s| {
        of(s.server.tracking.figures().trackers)
    }),
    Metric::gauge("pubsub_clients", "Connections that subscribe.", |s| of(s.clients.pubsub)),
    Metric::gauge("watching_clients", "Connections with watched keys.", |s| of(s.clients.watching)),
    Metric::gauge(
        "clients_in_timeout_table",
        "Connections that wait for keys, but not for ever.",
        |s| of(s.clients.with_timeout),
    ),
    Metric::gauge("total_watched_keys", "Keys that are watched.", |s| {
        of(s.server.watch.lock().len())
    }),
    Metric::gauge("total_blocking_keys", "Keys that connections wait for.", |s| {
        of(s.server.blocked.keys())
    }),
    Metric::gauge(
        "total_blocking_keys_on_nokey",
        "Of these, with connections that end their wait when the key goes; no command does that yet.",
        |_| Count(0),
    ),
];

fn replicated(count: &AtomicU64) -> Value {
    Count(count.load(Ordering::Relaxed))
}

fn running_save(snapshot: &Snapshot<'_>) -> [usize; 2] {
    if snapshot.server.saves.is_running() { snapshot.server.saves.progress() } else { [0, 0] }
}

fn seconds(seconds: Option<u64>) -> Value {
    Signed(seconds.and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(-1))
}

/// A figure that there is only while a log is written.
fn of_log(snapshot: &Snapshot<'_>, value: impl FnOnce(&Status) -> Value) -> Value {
    let status = snapshot.server.aof.status();
    if status.on { value(&status) } else { Absent }
}

/// Bytes of the journal that the log has not taken.
pub fn unwritten(snapshot: &Snapshot<'_>) -> u64 {
    let server = snapshot.server;
    server.gate.taken().map_or(0, |taken| server.journal.end().since(taken))
}

/// What is kept on disk.
pub const PERSISTENCE: &[Metric] = &[
    Metric::gauge("loading", "Whether data is loading.", |s| {
        of(usize::from(s.server.loading.load(Ordering::Relaxed)))
    }),
    Metric::gauge(
        "async_loading",
        "Whether new data is being loaded while the old is served (repl-diskless-load swapdb).",
        |s| of(usize::from(s.server.loading_beside.load(Ordering::Relaxed))),
    ),
    Metric::gauge("current_cow_peak", "Most bytes copied by a save that runs.", |_| Count(0)),
    Metric::gauge("current_cow_size", "Bytes copied by a save that runs.", |s| {
        of(s.server.keyspace.snapshot_bytes())
    }),
    Metric::gauge("current_cow_size_age", "Age of that figure.", |_| Count(0)),
    Metric::gauge("current_fork_perc", "Progress of a save that runs.", |s| {
        let [seen, all] = running_save(s);
        Decimal(100.0 * seen as f64 / all.max(1) as f64, 2)
    }),
    Metric::gauge("current_save_keys_processed", "Keys written by a save that runs.", |s| {
        let [seen, _] = running_save(s);
        of(seen)
    }),
    Metric::gauge("current_save_keys_total", "Keys that it is to write.", |s| {
        let [_, all] = running_save(s);
        of(all)
    }),
    Metric::gauge(
        "rdb_changes_since_last_save",
        "Modifications since the last save, or the start.",
        |s| Count(s.stats.dirty.saturating_sub(s.server.saves.last().dirty)),
    ),
    Metric::gauge("rdb_bgsave_in_progress", "Whether a save or a copy to a replica runs.", |s| {
        of(usize::from(s.server.saves.is_running() || s.server.replication.gathering.is_copying()))
    }),
    Metric::gauge(
        "rdb_last_save_time",
        "When the data was saved last; the start, if never.",
        |s| Signed(s.server.saves.last().at_s),
    ),
    Metric::fact("rdb_last_bgsave_status", "How it ended.", |s| {
        Word(if s.server.saves.last().ok { "ok" } else { "err" })
    }),
    Metric::gauge("rdb_last_bgsave_time_sec", "How long it took; -1 = never.", |s| {
        seconds(s.server.saves.last().took_s)
    }),
    Metric::gauge("rdb_current_bgsave_time_sec", "How long the one that runs takes.", |s| {
        seconds(s.server.saves.last().running_since.map(|since| since.elapsed().as_secs()))
    }),
    Metric::counter("rdb_saves", "Saves.", |s| Count(s.server.saves.last().count)),
    Metric::gauge("rdb_last_cow_size", "Bytes that the last save copied.", |_| Count(0)),
    Metric::gauge(
        "rdb_last_load_keys_expired",
        "Keys that were due when the data was loaded.",
        |s| {
            let [_, expired] = s.server.saves.loaded();
            of(expired)
        },
    ),
    Metric::gauge("rdb_last_load_keys_loaded", "Keys loaded at the start.", |s| {
        let [keys, _] = s.server.saves.loaded();
        of(keys)
    }),
    Metric::gauge("aof_enabled", "Whether a log of changes is written.", |s| {
        of(usize::from(s.server.aof.status().on))
    }),
    Metric::gauge("aof_rewrite_in_progress", "Whether it is rewritten now.", |s| {
        of(usize::from(s.server.aof.is_rewriting(s.server)))
    }),
    Metric::gauge("aof_rewrite_scheduled", "Whether it will be.", |s| {
        of(usize::from(s.server.aof.status().scheduled && s.server.saves.is_running()))
    }),
    Metric::gauge(
        "aof_last_rewrite_time_sec",
        "How long the last rewriting took; -1 = never.",
        |s| seconds(s.server.aof.status().last_rewrite_s),
    ),
    Metric::gauge("aof_current_rewrite_time_sec", "How long the one that runs takes.", |s| {
        seconds(s.server.aof.status().rewriting.map(|since| since.elapsed().as_secs()))
    }),
    Metric::fact("aof_last_bgrewrite_status", "How the last ended.", |s| {
        Word(if s.server.aof.status().last_rewrite_ok { "ok" } else { "err" })
    }),
    Metric::counter("aof_rewrites", "Times that the log was rewritten.", |s| {
        Count(s.server.aof.status().rewrites)
    }),
    Metric::gauge("aof_rewrites_consecutive_failures", "Failures since the last success.", |s| {
        Count(s.server.aof.status().failures)
    }),
    Metric::fact("aof_last_write_status", "How the last write to the log ended.", |s| {
        Word(if s.server.gate.is_failing() { "err" } else { "ok" })
    }),
    Metric::gauge("aof_last_cow_size", "Bytes that the last rewriting copied.", |_| Count(0)),
    Metric::gauge("aof_current_size", "Bytes of the log's files.", |s| {
        of_log(s, |status| Count(status.size))
    }),
    Metric::gauge("aof_base_size", "The same after the last rewriting, or the start.", |s| {
        of_log(s, |status| Count(status.base_size))
    }),
    Metric::gauge("aof_pending_rewrite", "Whether one waits for a save to end.", |s| {
        of_log(s, |status| Count(u64::from(status.scheduled)))
    }),
    Metric::gauge("aof_buffer_length", "Bytes that wait to be written to the log.", |s| {
        of_log(s, |_| Count(unwritten(s)))
    }),
    Metric::gauge("aof_pending_bio_fsync", "Times that it is forced to disk later.", |s| {
        of_log(s, |_| Count(0))
    }),
    Metric::counter(
        "aof_delayed_fsync",
        "Times that forcing it to disk took so long that replies waited.",
        |s| of_log(s, |status| Count(status.delayed)),
    ),
    Metric::gauge("aof_waiting_clients", "Connections whose replies wait for the disk.", |s| {
        of_log(s, |_| Count(s.server.gate.waiting().into()))
    }),
    Metric::gauge(
        "module_fork_in_progress",
        "Whether a module runs a process; there are no modules.",
        |_| Count(0),
    ),
    Metric::gauge("module_fork_last_cow_size", "Bytes that it copied.", |_| Count(0)),
];

/// Counts since the start or CONFIG RESETSTAT.
pub const STATS: &[Metric] = &[
    Metric::counter("total_connections_received", "Connections accepted.", |s| {
        Count(s.stats.connections)
    }),
    Metric::counter("total_commands_processed", "Commands run.", |s| Count(s.stats.commands)),
    Metric::gauge("instantaneous_ops_per_sec", "Commands per second, lately.", |s| {
        Count(s.rates[0])
    }),
    Metric::counter("total_net_input_bytes", "Bytes read.", |s| Count(s.stats.bytes_in)),
    Metric::counter("total_net_output_bytes", "Bytes written.", |s| Count(s.stats.bytes_out)),
    Metric::counter("total_net_repl_input_bytes", "Of these, of replication.", |s| {
        replicated(&s.server.replication.counts.received)
    }),
    Metric::counter("total_net_repl_output_bytes", "Of these, of replication.", |s| {
        replicated(&s.server.replication.counts.sent)
    }),
    Metric::gauge("instantaneous_input_kbps", "Kilobytes read per second, lately.", |s| {
        Decimal(s.rates[1] as f64 / 1024.0, 2)
    }),
    Metric::gauge("instantaneous_output_kbps", "Kilobytes written per second, lately.", |s| {
        Decimal(s.rates[2] as f64 / 1024.0, 2)
    }),
    Metric::gauge("instantaneous_input_repl_kbps", "Of these, of replication.", |_| {
        Decimal(0.0, 2)
    }),
    Metric::gauge("instantaneous_output_repl_kbps", "Of these, of replication.", |_| {
        Decimal(0.0, 2)
    }),
    Metric::counter(
        "rejected_connections",
        "Connections refused because there were too many.",
        |s| Count(s.rejected()),
    ),
    Metric::counter("sync_full", "Replicas that took all data.", |s| {
        replicated(&s.server.replication.counts.full)
    }),
    Metric::counter("sync_partial_ok", "Replicas that went on where they were.", |s| {
        replicated(&s.server.replication.counts.partial)
    }),
    Metric::counter("sync_changes_ok", "Replicas that were sent the changed keys alone.", |s| {
        replicated(&s.server.replication.counts.changes)
    }),
    Metric::counter("sync_partial_err", "Replicas that could not.", |s| {
        replicated(&s.server.replication.counts.refused)
    }),
    Metric::counter("expired_fields", "Fields of hashes that expired.", |s| {
        Count(s.stats.expired_members)
    }),
    Metric::counter("expired_keys", "Keys that expired.", |s| Count(s.stats.expired)),
    Metric::gauge(
        "expired_stale_perc",
        "Share of keys that are due but still there; each round takes all that are due.",
        |_| Decimal(0.0, 2),
    ),
    Metric::counter(
        "expired_time_cap_reached_count",
        "Rounds that left due keys for the next one.",
        |_| Count(0),
    ),
    Metric::counter(
        "expire_cycle_cpu_milliseconds",
        "Time spent on looking for keys that are due.",
        |s| Count(s.stats.sweep_usec / 1000),
    ),
    Metric::counter("evicted_keys", "Keys evicted.", |s| Count(s.stats.evicted)),
    Metric::counter(
        "evicted_clients",
        "Connections closed because all of them held too much memory.",
        |s| Count(s.stats.evicted_clients),
    ),
    Metric::counter("evicted_scripts", "Scripts forgotten; there are none.", |_| Count(0)),
    Metric::counter("total_eviction_exceeded_time", "Time above the memory limit.", |_| Count(0)),
    Metric::gauge("current_eviction_exceeded_time", "Time above it now.", |_| Count(0)),
    Metric::counter("keyspace_hits", "Reads that found their key.", |s| Count(s.stats.hits)),
    Metric::counter("keyspace_misses", "Reads that did not.", |s| Count(s.stats.misses)),
    Metric::gauge("pubsub_channels", "Channels with listeners.", |s| {
        of(s.server.pubsub.read().names(Space::Channel).count())
    }),
    Metric::gauge("pubsub_patterns", "Patterns with listeners.", |s| {
        of(s.server.pubsub.read().names(Space::Pattern).count())
    }),
    Metric::gauge("pubsubshard_channels", "Shard channels with listeners.", |s| {
        of(s.server.pubsub.read().names(Space::Shard).count())
    }),
    Metric::gauge(
        "latest_fork_usec",
        "How long the last fork took; the server does not fork.",
        |_| Count(0),
    ),
    Metric::counter("total_forks", "Forks.", |_| Count(0)),
    Metric::gauge("migrate_cached_sockets", "Connections kept for MIGRATE.", |_| Count(0)),
    Metric::gauge(
        "slave_expires_tracked_keys",
        "Keys with deadlines that a writable replica minds.",
        |_| Count(0),
    ),
    Metric::counter("active_defrag_hits", "Of moving data together; the server does not.", |_| {
        Count(0)
    }),
    Metric::counter(
        "active_defrag_misses",
        "Of moving data together; the server does not.",
        |_| Count(0),
    ),
    Metric::counter(
        "active_defrag_key_hits",
        "Of moving data together; the server does not.",
        |_| Count(0),
    ),
    Metric::counter(
        "active_defrag_key_misses",
        "Of moving data together; the server does not.",
        |_| Count(0),
    ),
    Metric::counter("total_active_defrag_time", "Time spent on that.", |_| Count(0)),
    Metric::gauge("current_active_defrag_time", "Time spent now.", |_| Count(0)),
    Metric::gauge("tracking_total_keys", "Keys that connections cache.", |s| {
        of(s.server.tracking.figures().keys)
    }),
    Metric::gauge("tracking_total_items", "Pairs of key and connection.", |s| {
        of(s.server.tracking.figures().items)
    }),
    Metric::gauge("tracking_total_prefixes", "Prefixes that connections broadcast.", |s| {
        of(s.server.tracking.figures().prefixes)
    }),
    Metric::counter("unexpected_error_replies", "Requests of the primary that failed here.", |s| {
        replicated(&s.server.replication.counts.failed)
    }),
    Metric::counter("total_error_replies", "Errors answered.", |s| Count(s.stats.errors)),
    Metric::counter("dump_payload_sanitizations", "Dumps that were checked.", |_| Count(0)),
    Metric::counter("total_reads_processed", "Times that a connection was read.", |s| {
        Count(s.stats.reads)
    }),
    Metric::counter("total_writes_processed", "Times that a connection was written.", |s| {
        Count(s.stats.writes)
    }),
    Metric::counter("io_threaded_reads_processed", "Of these, by threads that only read.", |_| {
        Count(0)
    }),
    Metric::counter(
        "io_threaded_writes_processed",
        "Of these, by threads that only write.",
        |_| Count(0),
    ),
    Metric::counter(
        "client_query_buffer_limit_disconnections",
        "Connections closed for the size of a request.",
        |s| Count(s.stats.overfed),
    ),
    Metric::counter(
        "client_output_buffer_limit_disconnections",
        "Connections closed for what they did not read.",
        |s| Count(s.stats.dropped),
    ),
    Metric::counter(
        "reply_buffer_shrinks",
        "Reply buffers made smaller; they are given back whole.",
        |_| Count(0),
    ),
    Metric::counter("reply_buffer_expands", "Reply buffers made larger.", |_| Count(0)),
    turns::CYCLES,
    turns::DURATION,
    turns::COMMANDS_DURATION,
    turns::CYCLES_PER_SECOND,
    turns::DURATION_OF_ONE,
    Metric::counter("acl_access_denied_auth", "Wrong passwords.", |s| {
        Count(s.stats.refused_passwords)
    }),
    Metric::counter(
        "acl_access_denied_cmd",
        "Commands that a user may not run; there is one user.",
        |_| Count(0),
    ),
    Metric::counter("acl_access_denied_key", "Keys that a user may not touch.", |_| Count(0)),
    Metric::counter("acl_access_denied_channel", "Channels that a user may not touch.", |_| {
        Count(0)
    }),
];

/// Processor time.
pub const CPU: &[Metric] = &[
    Metric::counter("used_cpu_sys", "Seconds in the system.", |s| Decimal(s.cpu.all.0, 6)),
    Metric::counter("used_cpu_user", "Seconds of the program itself.", |s| Decimal(s.cpu.all.1, 6)),
    Metric::counter(
        "used_cpu_sys_children",
        "Seconds in the system, of processes that ended.",
        |s| Decimal(s.cpu.children.0, 6),
    ),
    Metric::counter("used_cpu_user_children", "Seconds of processes that ended.", |s| {
        Decimal(s.cpu.children.1, 6)
    }),
    Metric::counter(
        "used_cpu_sys_main_thread",
        "Seconds in the system, of the first thread.",
        |s| Decimal(s.cpu.main.0, 6),
    ),
    Metric::counter("used_cpu_user_main_thread", "Seconds of the first thread.", |s| {
        Decimal(s.cpu.main.1, 6)
    }),
];

/// The cluster: none.
pub const CLUSTER: &[Metric] =
    &[Metric::gauge("cluster_enabled", "Whether this is part of a cluster.", |_| Count(0))];

fn build_id() -> String {
    // The same for everybody who runs this version.
    let hasher = KeyHasher::new(0, 0);
    format!("{:016x}", hasher.hash(concat!("larder ", env!("CARGO_PKG_VERSION")).as_bytes()))
}

fn system() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

fn executable() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}

fn clock_usec() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

fn listener(snapshot: &Snapshot<'_>) -> String {
    let options = &snapshot.options;
    let mut text = "name=tcp".to_owned();
    for host in &options.bind {
        text.push_str(&format!(",bind={host}"));
    }
    format!("{text},port={}", options.port)
}
