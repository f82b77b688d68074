//! Rows: passwords, renamed rights, databases, notifications, slow log, latency. They must never know sessions.

use super::super::values::Permission;
use super::{INT, Kind, LONG, NO_ACL, NO_MODULES, NO_SCRIPTS, Row};

pub(super) static ROWS: &[Row] = &[
    Row::new("requirepass", Kind::Secret, "", "Password of the default user; empty = none."),
    Row::new(
        "databases",
        Kind::Integer(1, 16),
        "16",
        "Number of databases; Redis allows more than 16.",
    )
    .immutable(),
    Row::new(
        "enable-protected-configs",
        Kind::Choice(Permission::NAMES),
        "no",
        "Whether CONFIG SET may change where files are written.",
    )
    .immutable(),
    Row::new(
        "enable-debug-command",
        Kind::Choice(Permission::NAMES),
        "no",
        "Whether DEBUG may be used.",
    )
    .immutable(),
    Row::new(
        "enable-module-command",
        Kind::Choice(Permission::NAMES),
        "no",
        "Whether MODULE may be used.",
    )
    .immutable()
    .later(NO_MODULES),
    Row::new(
        "notify-keyspace-events",
        Kind::KeyspaceEvents,
        "",
        "Keyspace events that are published.",
    ),
    Row::new(
        "tracking-table-max-keys",
        Kind::Integer(0, i64::MAX),
        "1000000",
        "Keys remembered for client-side caching; 0 = no limit.",
    ),
    Row::new(
        "slowlog-log-slower-than",
        Kind::Integer(-1, i64::MAX),
        "10000",
        "Microseconds above which a command is logged; -1 = never, 0 = always.",
    )
    .alias("commandlog-execution-slower-than"),
    Row::new("slowlog-max-len", Kind::Integer(0, i64::MAX), "128", "Entries kept in the slow log.")
        .alias("commandlog-slow-execution-max-len"),
    Row::new(
        "commandlog-request-larger-than",
        Kind::Integer(-1, i64::MAX),
        "1048576",
        "Bytes above which a request is logged; -1 = never.",
    ),
    Row::new(
        "commandlog-large-request-max-len",
        Kind::Integer(0, i64::MAX),
        "128",
        "Entries kept of large requests.",
    ),
    Row::new(
        "commandlog-reply-larger-than",
        Kind::Integer(-1, i64::MAX),
        "1048576",
        "Bytes above which a reply is logged; -1 = never.",
    ),
    Row::new(
        "commandlog-large-reply-max-len",
        Kind::Integer(0, i64::MAX),
        "128",
        "Entries kept of large replies.",
    ),
    Row::new(
        "latency-monitor-threshold",
        Kind::Integer(0, i64::MAX),
        "0",
        "Milliseconds above which LATENCY keeps an event; 0 = off.",
    ),
    Row::new(
        "latency-tracking",
        Kind::Bool,
        "yes",
        "Keeps a histogram of durations for each command.",
    ),
    Row::new(
        "latency-tracking-info-percentiles",
        Kind::Percentiles,
        "50 99 99.9",
        "Percentiles shown by INFO latencystats.",
    ),
    Row::new(
        "busy-reply-threshold",
        Kind::Integer(0, i64::MAX),
        "5000",
        "Milliseconds after which a script counts as stuck.",
    )
    .alias("lua-time-limit")
    .harmless(NO_SCRIPTS),
    Row::new("lua-enable-deprecated-api", Kind::Bool, "no", "Old functions in scripts.")
        .immutable()
        .hidden()
        .harmless(NO_SCRIPTS),
    Row::new(
        "acl-pubsub-default",
        Kind::Choice(&["allchannels", "resetchannels"]),
        "resetchannels",
        "Channels a new user may use.",
    )
    .harmless(NO_ACL),
    Row::new("acllog-max-len", Kind::Integer(0, i64::MAX), "128", "Entries kept by ACL LOG.")
        .harmless(NO_ACL),
    Row::new("aclfile", Kind::Text, "", "File of users.").immutable().later(NO_ACL),
    Row::new(
        "extended-redis-compatibility",
        Kind::Bool,
        "no",
        "Names this server as Redis wherever clients look.",
    )
    .harmless("this server always answers with the names and versions that Redis clients expect"),
    Row::new("availability-zone", Kind::Text, "", "Zone shown by HELLO and INFO."),
    Row::new("hide-user-data-from-log", Kind::Bool, "yes", "Keeps keys and values out of the log.")
        .harmless("keys and values are never logged"),
    Row::new(
        "sanitize-dump-payload",
        Kind::Choice(&["no", "yes", "clients"]),
        "no",
        "How deeply RESTORE checks what it is given.",
    )
    .harmless("what RESTORE is given is always checked in full"),
    Row::new(
        "client-default-resp",
        Kind::Integer(2, 3),
        "2",
        "Protocol version of a new connection.",
    )
    .immutable()
    .hidden()
    .later("only HELLO changes the protocol version"),
    Row::new("import-mode", Kind::Bool, "no", "Holds back expiry while data are imported.")
        .later("holding back expiry is not implemented"),
    Row::new("debug-context", Kind::Text, "", "Text for crash reports.")
        .hidden()
        .harmless("there is no crash report"),
    Row::new("req-res-logfile", Kind::Text, "", "File in which requests and replies are recorded.")
        .immutable()
        .hidden()
        .later("recording is not implemented"),
    Row::new("close-on-replica-write", Kind::Bool, "yes", "Closes a replica that sends writes.")
        .hidden()
        .harmless("what a replica sends besides acknowledgements is passed over"),
    Row::new(
        "prefetch-batch-max-size",
        Kind::Integer(0, 128),
        "16",
        "Commands whose keys are fetched ahead together.",
    )
    .harmless("pipelined keys are fetched ahead without a setting"),
    Row::new(
        "events-per-io-thread",
        Kind::Integer(0, INT),
        "2",
        "Events for which one more thread is woken.",
    )
    .harmless("'workers' says how many threads run"),
    Row::new(
        "min-string-size-avoid-copy-reply",
        Kind::Integer(0, INT),
        "16384",
        "Bytes from which a reply is not copied.",
    )
    .hidden()
    .harmless("the server chooses by itself"),
    Row::new(
        "min-string-size-avoid-copy-reply-threaded",
        Kind::Integer(0, INT),
        "65536",
        "As above, with threads.",
    )
    .hidden()
    .harmless("the server chooses by itself"),
    Row::new(
        "min-io-threads-avoid-copy-reply",
        Kind::Integer(0, INT),
        "7",
        "Threads from which a reply is not copied.",
    )
    .hidden()
    .harmless("the server chooses by itself"),
    Row::new(
        "loading-process-events-interval-bytes",
        Kind::Memory(1024, LONG >> 32),
        "2mb",
        "Bytes loaded between two looks at the clients.",
    )
    .hidden()
    .harmless("clients are served by other threads than the one that loads"),
];
