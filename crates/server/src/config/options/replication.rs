//! Rows: primaries and replicas. They must never know links.

use super::{INT, Kind, LONG, Row};

pub(super) static ROWS: &[Row] = &[
    Row::new("replicaof", Kind::ReplicaOf, "", "The primary to copy.").alias("slaveof").immutable(),
    Row::new("primaryauth", Kind::Secret, "", "Password for the primary.").alias("masterauth"),
    Row::new("primaryuser", Kind::Text, "", "User for the primary.").alias("masteruser"),
    Row::new(
        "replica-serve-stale-data",
        Kind::Bool,
        "yes",
        "A replica without its primary still answers.",
    )
    .alias("slave-serve-stale-data"),
    Row::new("replica-read-only", Kind::Bool, "yes", "A replica refuses writes.")
        .alias("slave-read-only"),
    Row::new(
        "replica-lazy-flush",
        Kind::Bool,
        "yes",
        "A replica empties itself in the background.",
    )
    .alias("slave-lazy-flush"),
    Row::new("replica-ignore-maxmemory", Kind::Bool, "yes", "A replica does not evict.")
        .alias("slave-ignore-maxmemory"),
    Row::new(
        "replica-ignore-disk-write-errors",
        Kind::Bool,
        "no",
        "A replica goes on when it cannot write.",
    )
    .harmless("a replica goes on in any case; INFO says how the last write ended"),
    Row::new("replica-announced", Kind::Bool, "yes", "Sentinels may show this replica."),
    Row::new("replica-announce-ip", Kind::Text, "", "Address a replica gives itself.")
        .alias("slave-announce-ip"),
    Row::new("replica-announce-port", Kind::Integer(0, 65535), "0", "Port a replica gives itself.")
        .alias("slave-announce-port"),
    Row::new(
        "replica-priority",
        Kind::Integer(0, INT),
        "100",
        "Order in which replicas are promoted.",
    )
    .alias("slave-priority"),
    Row::new("repl-disable-tcp-nodelay", Kind::Bool, "no", "Fewer, larger packets to replicas."),
    Row::new("repl-diskless-sync", Kind::Bool, "yes", "Full copies go straight to the socket."),
    Row::new(
        "repl-diskless-sync-delay",
        Kind::Integer(0, INT),
        "0",
        "Seconds that a replica waits for others to share a full copy.",
    ),
    Row::new(
        "repl-diskless-sync-max-replicas",
        Kind::Integer(0, INT),
        "0",
        "Replicas after which waiting ends; 0 = time alone.",
    ),
    Row::new(
        "repl-diskless-load",
        Kind::Choice(&["disabled", "on-empty-db", "swapdb", "flush-before-load"]),
        "disabled",
        "A replica loads straight from the socket; swapdb: beside its data.",
    ),
    Row::new(
        "dual-channel-replication-enabled",
        Kind::Bool,
        "no",
        "Copy and stream on two connections.",
    )
    .harmless("the stream waits in the journal while the copy is sent, on one connection"),
    Row::new("repl-timeout", Kind::Integer(1, INT), "60", "Seconds after which a link is dead."),
    Row::new(
        "repl-ping-replica-period",
        Kind::Integer(1, INT),
        "10",
        "Seconds between pings to replicas.",
    )
    .alias("repl-ping-slave-period"),
    Row::new(
        "repl-backlog-size",
        Kind::Memory(1, LONG),
        "1mb",
        "Bytes kept for replicas that return.",
    ),
    Row::new(
        "repl-changed-keys",
        Kind::Integer(0, 1 << 30),
        "4194304",
        "Changes remembered by key (8 bytes each) for replicas of this kind that were away for longer than the \
         backlog lasts; 0 = none.",
    ),
    Row::new(
        "repl-backlog-ttl",
        Kind::Integer(0, i64::MAX),
        "3600",
        "Seconds those bytes are kept without a replica.",
    ),
    Row::new(
        "min-replicas-to-write",
        Kind::Integer(0, INT),
        "0",
        "Replicas without which writes are refused.",
    )
    .alias("min-slaves-to-write"),
    Row::new(
        "min-replicas-max-lag",
        Kind::Integer(0, INT),
        "10",
        "Seconds a replica may lag to count.",
    )
    .alias("min-slaves-max-lag"),
];
