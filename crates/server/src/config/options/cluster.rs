//! Rows: cluster mode, which does not exist yet. They must never know nodes.

use super::{INT, Kind, NO_CLUSTER as WHY, Row};

pub(super) static ROWS: &[Row] = &[
    Row::new("cluster-enabled", Kind::Bool, "no", "Cluster mode.").immutable().later(WHY),
    Row::new("cluster-config-file", Kind::Text, "nodes.conf", "File of the nodes.")
        .immutable()
        .harmless(WHY),
    Row::new(
        "cluster-node-timeout",
        Kind::Integer(0, i64::MAX),
        "15000",
        "Milliseconds after which a node is suspected.",
    )
    .harmless(WHY),
    Row::new(
        "cluster-ping-interval",
        Kind::Integer(0, i64::MAX),
        "0",
        "Milliseconds between pings.",
    )
    .hidden()
    .harmless(WHY),
    Row::new(
        "cluster-port",
        Kind::Integer(0, 65535),
        "0",
        "Port of the cluster bus; 0 = port + 10000.",
    )
    .immutable()
    .harmless(WHY),
    Row::new(
        "cluster-require-full-coverage",
        Kind::Bool,
        "yes",
        "Refuses all keys while a slot has no owner.",
    )
    .harmless(WHY),
    Row::new(
        "cluster-replica-no-failover",
        Kind::Bool,
        "no",
        "This replica is never promoted by itself.",
    )
    .alias("cluster-slave-no-failover")
    .harmless(WHY),
    Row::new(
        "cluster-replica-validity-factor",
        Kind::Integer(0, INT),
        "10",
        "How stale a replica may be to be promoted.",
    )
    .alias("cluster-slave-validity-factor")
    .harmless(WHY),
    Row::new(
        "cluster-allow-replica-migration",
        Kind::Bool,
        "yes",
        "Replicas move to primaries that have none.",
    )
    .harmless(WHY),
    Row::new("cluster-migration-barrier", Kind::Integer(0, INT), "1", "Replicas a primary keeps.")
        .harmless(WHY),
    Row::new("cluster-allow-reads-when-down", Kind::Bool, "no", "Reads while the cluster is down.")
        .harmless(WHY),
    Row::new(
        "cluster-allow-pubsubshard-when-down",
        Kind::Bool,
        "yes",
        "Shard channels while the cluster is down.",
    )
    .harmless(WHY),
    Row::new(
        "cluster-link-sendbuf-limit",
        Kind::Memory(0, u64::MAX),
        "0",
        "Most bytes waiting on a link.",
    )
    .harmless(WHY),
    Row::new("cluster-announce-ip", Kind::Text, "", "Address this node gives itself.")
        .harmless(WHY),
    Row::new("cluster-announce-client-ipv4", Kind::Text, "", "IPv4 address shown to clients.")
        .harmless(WHY),
    Row::new("cluster-announce-client-ipv6", Kind::Text, "", "IPv6 address shown to clients.")
        .harmless(WHY),
    Row::new("cluster-announce-hostname", Kind::Text, "", "Host name this node gives itself.")
        .harmless(WHY),
    Row::new("cluster-announce-human-nodename", Kind::Text, "", "Name of this node in logs.")
        .harmless(WHY),
    Row::new("cluster-announce-port", Kind::Integer(0, 65535), "0", "Port this node gives itself.")
        .harmless(WHY),
    Row::new(
        "cluster-announce-tls-port",
        Kind::Integer(0, 65535),
        "0",
        "TLS port this node gives itself.",
    )
    .harmless(WHY),
    Row::new(
        "cluster-announce-bus-port",
        Kind::Integer(0, 65535),
        "0",
        "Bus port this node gives itself.",
    )
    .harmless(WHY),
    Row::new(
        "cluster-preferred-endpoint-type",
        Kind::Choice(&["ip", "hostname", "unknown-endpoint"]),
        "ip",
        "What redirections show.",
    )
    .harmless(WHY),
    Row::new(
        "cluster-blacklist-ttl",
        Kind::Integer(0, i64::MAX),
        "60",
        "Seconds a forgotten node stays forgotten.",
    )
    .harmless(WHY),
    Row::new("cluster-slot-stats-enabled", Kind::Bool, "no", "Counts for each slot.").harmless(WHY),
    Row::new(
        "cluster-manual-failover-timeout",
        Kind::Integer(1, INT),
        "5000",
        "Milliseconds of a failover by hand.",
    )
    .harmless(WHY),
    Row::new(
        "slot-migration-max-failover-repl-bytes",
        Kind::Integer(-1, i64::MAX),
        "0",
        "Bytes in flight at which a slot changes hands.",
    )
    .hidden()
    .harmless(WHY),
];
