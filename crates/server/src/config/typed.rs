//! [`Config`]: one snapshot of all options, the supported ones as plain fields; CONFIG GET and CONFIG SET as pure
//! functions. It must never know files, nor who asks.

use std::fmt;

use larder_base::glob;

use super::options::{self, Change, Kind, OptionId, Row, Support};
use super::values::{
    AppendFsync, DisklessLoad, EvictionPolicy, FromValue, KeyspaceEvents, LogLevel, MemoryLimit,
    OomScoreAdj, OutputLimits, Permission, Reason, Secret, Supervision, Value, parse,
};

macro_rules! config {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        /// All options. Read the fields; change them only with [`Config::set`], which keeps fields and texts one.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[$doc])* pub $field: $type,)*
            /// `rename-command` lines, in order: the command and its new name; an empty one takes it away.
            pub renamed_commands: Vec<(String, String)>,
            values: Vec<Value>,
        }

        impl Config {
            fn from_values(
                values: Vec<Value>,
                renamed_commands: Vec<(String, String)>,
            ) -> Option<Config> {
                Some(Config {
                    $($field: field(&values, $name)?,)*
                    renamed_commands,
                    values,
                })
            }
        }

        #[cfg(test)]
        const FIELDS: &[&str] = &[$($name,)*];
    };
}

config! {
    /// Addresses to listen on; a leading `-` allows one to be missing.
    bind: Vec<String> = "bind",
    /// TCP port; 0 = none.
    port: u16 = "port",
    /// Refuses foreign hosts while there is no password.
    protected_mode: bool = "protected-mode",
    /// Connections waiting to be accepted.
    tcp_backlog: i32 = "tcp-backlog",
    /// Seconds; 0 = never.
    tcp_keepalive: u32 = "tcp-keepalive",
    /// Seconds of idleness; 0 = no limit.
    timeout: u64 = "timeout",
    /// Path of the Unix socket.
    unixsocket: Option<String> = "unixsocket",
    /// Its permissions; 0 = as the umask leaves them.
    unixsocketperm: u32 = "unixsocketperm",
    /// Group that owns it; empty = as the system decides.
    unixsocketgroup: String = "unixsocketgroup",
    /// Most clients at one time.
    maxclients: u32 = "maxclients",
    /// Bytes; 0 = no limit.
    maxmemory: u64 = "maxmemory",
    /// Which keys go first.
    maxmemory_policy: EvictionPolicy = "maxmemory-policy",
    /// Keys looked at for each eviction.
    maxmemory_samples: u32 = "maxmemory-samples",
    /// 0 to 100.
    maxmemory_eviction_tenacity: u32 = "maxmemory-eviction-tenacity",
    /// Most memory of all clients together.
    maxmemory_clients: MemoryLimit = "maxmemory-clients",
    /// Larger counts more slowly.
    lfu_log_factor: u32 = "lfu-log-factor",
    /// Minutes; 0 = never.
    lfu_decay_time: u32 = "lfu-decay-time",
    /// Fields.
    hash_max_listpack_entries: usize = "hash-max-listpack-entries",
    /// Bytes.
    hash_max_listpack_value: usize = "hash-max-listpack-value",
    /// Entries, or -1 to -5 for a size.
    list_max_listpack_size: i32 = "list-max-listpack-size",
    /// Integers.
    set_max_intset_entries: usize = "set-max-intset-entries",
    /// Members.
    set_max_listpack_entries: usize = "set-max-listpack-entries",
    /// Bytes.
    set_max_listpack_value: usize = "set-max-listpack-value",
    /// Members.
    zset_max_listpack_entries: usize = "zset-max-listpack-entries",
    /// Bytes.
    zset_max_listpack_value: usize = "zset-max-listpack-value",
    /// Bytes.
    hll_sparse_max_bytes: usize = "hll-sparse-max-bytes",
    /// Bytes of unread input of a client.
    client_query_buffer_limit: usize = "client-query-buffer-limit",
    /// Bytes of an argument and of a string.
    proto_max_bulk_len: usize = "proto-max-bulk-len",
    /// Bounds on waiting output.
    client_output_buffer_limit: OutputLimits = "client-output-buffer-limit",
    /// Password of the default user; empty = none.
    requirepass: Secret = "requirepass",
    /// 1 to 16.
    databases: u16 = "databases",
    /// Whether protected options may be set over the wire.
    enable_protected_configs: Permission = "enable-protected-configs",
    /// Whether DEBUG may be used.
    enable_debug_command: Permission = "enable-debug-command",
    /// Events that are published.
    notify_keyspace_events: KeyspaceEvents = "notify-keyspace-events",
    /// Keys; 0 = no limit.
    tracking_table_max_keys: usize = "tracking-table-max-keys",
    /// Microseconds; -1 = never.
    slowlog_log_slower_than: i64 = "slowlog-log-slower-than",
    /// Entries.
    slowlog_max_len: usize = "slowlog-max-len",
    /// Bytes; -1 = never.
    commandlog_request_larger_than: i64 = "commandlog-request-larger-than",
    /// Entries.
    commandlog_large_request_max_len: usize = "commandlog-large-request-max-len",
    /// Bytes; -1 = never.
    commandlog_reply_larger_than: i64 = "commandlog-reply-larger-than",
    /// Entries.
    commandlog_large_reply_max_len: usize = "commandlog-large-reply-max-len",
    /// Milliseconds; 0 = off.
    latency_monitor_threshold: u64 = "latency-monitor-threshold",
    /// Whether durations are counted.
    latency_tracking: bool = "latency-tracking",
    /// 0 to 100 each.
    latency_tracking_info_percentiles: Vec<f64> = "latency-tracking-info-percentiles",
    /// Shown by HELLO and INFO.
    availability_zone: String = "availability-zone",
    /// Threads; 0 = one for each core.
    workers: usize = "workers",
    /// Whether the data lies in huge pages.
    huge_pages: bool = "huge-pages",
    /// Rounds each second, as typed; use [`Config::rounds_per_second`].
    hz: u32 = "hz",
    /// Least important lines that are logged.
    loglevel: LogLevel = "loglevel",
    /// `None` = standard output.
    logfile: Option<String> = "logfile",
    /// Whether the kernel is told how willingly to kill this process.
    oom_score_adj: OomScoreAdj = "oom-score-adj",
    /// Its score as a primary, as a replica, and of a saving child.
    oom_score_adj_values: [i64; 3] = "oom-score-adj-values",
    /// Who is told that the server is ready.
    supervised: Supervision = "supervised",
    /// Save after so many seconds and changes.
    save: Vec<(u64, u64)> = "save",
    /// Directory of the data files.
    dir: String = "dir",
    /// Name of the snapshot.
    dbfilename: String = "dbfilename",
    /// Long texts are compressed in it.
    rdbcompression: bool = "rdbcompression",
    /// Microseconds that saving a key takes longer, for tests.
    rdb_key_save_delay: i64 = "rdb-key-save-delay",
    /// The same of loading one.
    key_load_delay: i64 = "key-load-delay",
    /// It ends with a checksum.
    rdbchecksum: bool = "rdbchecksum",
    /// Refuses writes after a failed save.
    stop_writes_on_bgsave_error: bool = "stop-writes-on-bgsave-error",
    /// A log of changes is written.
    appendonly: bool = "appendonly",
    /// When it is forced to disk.
    appendfsync: AppendFsync = "appendfsync",
    /// How the names of its files begin.
    appendfilename: String = "appendfilename",
    /// Their directory.
    appenddirname: String = "appenddirname",
    /// It is not forced to disk while it is rewritten.
    no_appendfsync_on_rewrite: bool = "no-appendfsync-on-rewrite",
    /// Growth in percent that starts a rewrite; 0 = none does.
    auto_aof_rewrite_percentage: u64 = "auto-aof-rewrite-percentage",
    /// Least bytes for that.
    auto_aof_rewrite_min_size: u64 = "auto-aof-rewrite-min-size",
    /// One with a torn end is loaded.
    aof_load_truncated: bool = "aof-load-truncated",
    /// Its base is an RDB file.
    aof_use_rdb_preamble: bool = "aof-use-rdb-preamble",
    /// Times are noted in it.
    aof_timestamp_enabled: bool = "aof-timestamp-enabled",
    /// Checksums are noted in it.
    aof_checksum_enabled: bool = "aof-checksum-enabled",
    /// Files that were replaced stay.
    aof_disable_auto_gc: bool = "aof-disable-auto-gc",
    /// File with the process number.
    pidfile: Option<String> = "pidfile",
    /// The primary to copy.
    replicaof: Option<(String, u16)> = "replicaof",
    /// Address from which a replica connects.
    bind_source_addr: Option<String> = "bind-source-addr",
    /// Password for the primary; empty = none.
    primaryauth: Secret = "primaryauth",
    /// User for the primary.
    primaryuser: Option<String> = "primaryuser",
    /// A replica answers while it has no link to its primary.
    replica_serve_stale_data: bool = "replica-serve-stale-data",
    /// A replica refuses writes.
    replica_read_only: bool = "replica-read-only",
    /// What a replica gives up for a full copy is freed in the background.
    replica_lazy_flush: bool = "replica-lazy-flush",
    /// A replica does not evict.
    replica_ignore_maxmemory: bool = "replica-ignore-maxmemory",
    /// Whether sentinels may show this replica.
    replica_announced: bool = "replica-announced",
    /// Address that it gives itself.
    replica_announce_ip: Option<String> = "replica-announce-ip",
    /// Port that it gives itself; 0 = the one that it listens on.
    replica_announce_port: u16 = "replica-announce-port",
    /// 0 = it is never promoted.
    replica_priority: u32 = "replica-priority",
    /// Packets to replicas are gathered.
    repl_disable_tcp_nodelay: bool = "repl-disable-tcp-nodelay",
    /// Full copies go straight to the socket.
    repl_diskless_sync: bool = "repl-diskless-sync",
    /// Seconds that the first replica waits for others to share its copy.
    repl_diskless_sync_delay: u32 = "repl-diskless-sync-delay",
    /// As many are not waited with any longer; 0 = no such number.
    repl_diskless_sync_max_replicas: u32 = "repl-diskless-sync-max-replicas",
    /// When a full copy is loaded straight from the socket.
    repl_diskless_load: DisklessLoad = "repl-diskless-load",
    /// Seconds of silence after which a link is dead.
    repl_timeout: u32 = "repl-timeout",
    /// Seconds between two signs of life to replicas.
    repl_ping_replica_period: u32 = "repl-ping-replica-period",
    /// Bytes kept for replicas that return.
    repl_backlog_size: usize = "repl-backlog-size",
    /// Changes remembered by key for replicas of this kind; 0 = none.
    repl_changed_keys: usize = "repl-changed-keys",
    /// Seconds that they are kept without any replica; 0 = for ever.
    repl_backlog_ttl: u64 = "repl-backlog-ttl",
    /// Replicas without which writes are refused; 0 = none is needed.
    min_replicas_to_write: usize = "min-replicas-to-write",
    /// Seconds after which a silent replica does not count; 0 = none is needed.
    min_replicas_max_lag: u32 = "min-replicas-max-lag",
    /// Seconds that the end waits for replicas.
    shutdown_timeout: u32 = "shutdown-timeout",
    /// What SIGINT asks for, as words of SHUTDOWN.
    shutdown_on_sigint: Vec<&'static str> = "shutdown-on-sigint",
    /// The same of SIGTERM.
    shutdown_on_sigterm: Vec<&'static str> = "shutdown-on-sigterm",
}

fn field<T: FromValue>(values: &[Value], name: &str) -> Option<T> {
    let (id, _, _) = options::find(name)?;
    T::from_value(values.get(id.0)?)
}

fn default_of(row: &Row) -> Value {
    let words: Vec<&str> = match row.takes_words() {
        true => row.default.split(' ').collect(),
        false => vec![row.default],
    };
    // A default that does not parse is a mistake in the table; a test reads them all.
    parse(row.kind, &Value::Bool(false), &words).unwrap_or(Value::Text(row.default.to_owned()))
}

impl Default for Config {
    #[expect(clippy::expect_used, reason = "the table is constant; a test builds it")]
    fn default() -> Config {
        let values = options::all().map(|(_, row)| default_of(row)).collect();
        Config::from_values(values, Vec::new()).expect("every field has the type of its option")
    }
}

/// Why CONFIG SET changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    /// No such option.
    Unknown(String),
    /// The option refuses; its name and the reason.
    Refused(String, Reason),
}

impl fmt::Display for SetError {
    /// The error reply, with its code word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Unknown(name) => {
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            SetError::Refused(name, reason) => write!(
                f,
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ),
        }
    }
}

impl std::error::Error for SetError {}

impl Config {
    /// CONFIG SET: the new configuration and the options whose values differ, or an error and no change at all.
    ///
    /// # Errors
    /// For the first pair that is unknown, may not be set, comes twice or has a bad value.
    pub fn set(&self, pairs: &[(&[u8], &[u8])]) -> Result<(Config, Vec<OptionId>), SetError> {
        self.set_from(pairs, false)
    }

    /// As [`Config::set`], for a client of which is known whether it sits on the own host.
    ///
    /// # Errors
    /// As [`Config::set`].
    pub fn set_from(
        &self,
        pairs: &[(&[u8], &[u8])],
        local: bool,
    ) -> Result<(Config, Vec<OptionId>), SetError> {
        let mut meant: Vec<(OptionId, &Row, &str)> = Vec::new();
        for (name, _) in pairs {
            let typed = String::from_utf8_lossy(name);
            let Some((id, row, name)) = options::find(&typed) else {
                return Err(SetError::Unknown(typed.into_owned()));
            };
            // Redis names an option as it was typed here, and by its own name where a value is bad.
            let refuse = |reason: &'static str| SetError::Refused(typed.to_string(), reason.into());
            match row.change {
                Change::Immutable => return Err(refuse("can't set immutable config")),
                Change::Protected if !self.allows_protected(local) => {
                    return Err(refuse("can't set protected config"));
                }
                Change::Protected | Change::Mutable => {}
            }
            if meant.iter().any(|(_, _, earlier)| *earlier == name) {
                return Err(refuse("duplicate parameter"));
            }
            meant.push((id, row, name));
        }
        let mut values = self.values.clone();
        for ((id, row, name), (_, text)) in meant.iter().zip(pairs) {
            let value = self.read(*id, row, text);
            let value = value.map_err(|reason| SetError::Refused((*name).to_owned(), reason))?;
            if let Some(slot) = values.get_mut(id.0) {
                *slot = value;
            }
        }
        let differs = |id: &OptionId| values.get(id.0) != self.values.get(id.0);
        let mut changed: Vec<OptionId> =
            meant.iter().map(|(id, _, _)| *id).filter(differs).collect();
        changed.sort();
        changed.dedup();
        let renamed = self.renamed_commands.clone();
        let config = Config::from_values(values, renamed).ok_or_else(|| {
            SetError::Unknown("a field of another type than its option".to_owned())
        })?;
        Ok((config, changed))
    }

    /// The same configuration with another primary, as REPLICAOF sets it.
    #[must_use]
    pub fn with_primary(&self, primary: Option<(String, u16)>) -> Config {
        let mut values = self.values.clone();
        if let Some((id, _, _)) = options::find("replicaof")
            && let Some(slot) = values.get_mut(id.0)
        {
            *slot = Value::ReplicaOf(primary);
        }
        Config::from_values(values, self.renamed_commands.clone()).unwrap_or_else(|| self.clone())
    }

    fn allows_protected(&self, local: bool) -> bool {
        match self.enable_protected_configs {
            Permission::No => false,
            Permission::Yes => true,
            Permission::Local => local,
        }
    }

    fn read(&self, id: OptionId, row: &Row, text: &[u8]) -> Result<Value, Reason> {
        let text = std::str::from_utf8(text).map_err(|_| "argument must be valid UTF-8")?;
        let words: Vec<&str> = match row.takes_words() {
            true if text.is_empty() && matches!(row.kind, Kind::Words(_)) => Vec::new(),
            true => text.split(' ').collect(),
            false => vec![text],
        };
        // Classes that are not named keep their limits; save points are replaced as a whole.
        let base = match row.kind {
            Kind::OutputLimits => self.values.get(id.0).cloned(),
            _ => None,
        };
        let value = parse(row.kind, &base.unwrap_or(Value::Bool(false)), &words)?;
        accept(row, value)
    }

    /// CONFIG GET: every option with a name that matches a pattern, once; an alias is an entry of its own.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(String, String)> {
        // A name without pattern letters is shown as it was typed.
        let shown = |name: &str, hidden: bool| {
            patterns.iter().find_map(|pattern| {
                if hidden || glob::is_literal(pattern) {
                    let same = pattern.eq_ignore_ascii_case(name.as_bytes());
                    same.then(|| String::from_utf8_lossy(pattern).into_owned())
                } else {
                    glob::matches_nocase(pattern, name.as_bytes()).then(|| name.to_owned())
                }
            })
        };
        let mut found = Vec::new();
        for ((_, row), value) in options::all().zip(&self.values) {
            for name in [Some(row.name), row.alias].into_iter().flatten() {
                if let Some(name) = shown(name, row.hidden) {
                    found.push((name, value.show()));
                }
            }
        }
        found
    }

    /// Lines for the log: options that differ from their default though nothing here obeys them.
    pub fn notices(&self) -> Vec<String> {
        options::all().filter_map(|(id, _)| self.notice(id)).collect()
    }

    /// The line for one option, if there is something to say; for use after CONFIG SET.
    pub fn notice(&self, id: OptionId) -> Option<String> {
        let row = options::row(id)?;
        let Support::Harmless(reason) = row.support else { return None };
        let differs = *self.values.get(id.0)? != default_of(row);
        differs.then(|| format!("The option '{}' has no effect: {reason}", row.name))
    }

    /// `hz`, held between 1 and 500.
    pub fn rounds_per_second(&self) -> u32 {
        self.hz.clamp(1, 500)
    }

    /// Takes one line of a file or of the command line; whether its value asks for too much is seen when all are
    /// taken ([`Config::refusal`]), as a later line may take it back. `first` = the first line for this option.
    pub(super) fn take_line(
        &mut self,
        name: &str,
        words: &[&str],
        first: bool,
    ) -> Result<(), Reason> {
        const BAD: &str = "Bad directive or wrong number of arguments";
        let (id, row, _) = options::find(name).ok_or(BAD)?;
        // Kinds with several words judge for themselves: `save` alone means none.
        if words.is_empty() && !row.takes_words() {
            return Err("wrong number of arguments".into());
        }
        let parted: Vec<&str> = match words {
            [one] if row.takes_words() && !one.is_empty() => one.split(' ').collect(),
            _ => words.to_vec(),
        };
        let base = match row.kind {
            Kind::Save if first => None,
            _ => self.values.get(id.0).cloned(),
        };
        let value = parse(row.kind, &base.unwrap_or(Value::Bool(false)), &parted)?;
        if let Some(slot) = self.values.get_mut(id.0) {
            *slot = value;
        }
        Ok(())
    }

    /// Why an option, given by one of its names, cannot have the value that its last line gave it.
    pub(super) fn refusal(&self, name: &str) -> Option<Reason> {
        let (id, row, _) = options::find(name)?;
        accept(row, self.values.get(id.0)?.clone()).err()
    }

    /// Makes the fields follow the values after lines were taken.
    pub(super) fn settle(self) -> Config {
        Config::from_values(self.values, self.renamed_commands).unwrap_or_default()
    }

    /// For CONFIG REWRITE: an option's lines without the name, and whether it has its default. A text that is
    /// empty by default and now needs no line.
    pub(super) fn file_lines(&self, id: OptionId, row: &Row) -> (Vec<String>, bool) {
        let Some(value) = self.values.get(id.0) else { return (Vec::new(), true) };
        let is_default = *value == default_of(row);
        let absent = matches!(row.kind, Kind::Text | Kind::Secret | Kind::ReplicaOf);
        if absent && row.default.is_empty() && is_default {
            return (Vec::new(), true);
        }
        (value.lines(), is_default)
    }
}

/// Refuses values that ask for what is not there.
fn accept(row: &Row, value: Value) -> Result<Value, Reason> {
    if let Support::Later(reason) = row.support
        && value != default_of(row)
        && !row.inert.contains(&value.show().as_str())
    {
        let only = if row.default.is_empty() { "an empty value" } else { row.default };
        return Err(format!("{reason}; only {only} is accepted").into());
    }
    Ok(value)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
