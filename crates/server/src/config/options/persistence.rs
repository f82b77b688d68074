//! Rows: snapshots and the append-only file. They must never know files.

use super::{INT, Kind, LONG, Row};

pub(super) static ROWS: &[Row] = &[
    Row::new(
        "save",
        Kind::Save,
        "",
        "Snapshot after so many seconds and changes; the default of Redis is 3600 1 300 100 60 10000.",
    ),
    Row::new("appendonly", Kind::Bool, "no", "Append-only file."),
    Row::new(
        "appendfsync",
        Kind::Choice(&["everysec", "always", "no"]),
        "everysec",
        "When the append-only file is forced to disk.",
    ),
    Row::new("appendfilename", Kind::Text, "appendonly.aof", "Name of the append-only file.")
        .immutable(),
    Row::new("appenddirname", Kind::Text, "appendonlydir", "Directory of the append-only files.")
        .immutable(),
    Row::new("dbfilename", Kind::Text, "dump.rdb", "Name of the snapshot.").protected(),
    Row::new("rdbchecksum", Kind::Bool, "yes", "Checksum in the snapshot.").immutable(),
    Row::new("rdbcompression", Kind::Bool, "yes", "Compressed texts in the snapshot."),
    Row::new(
        "rdb-version-check",
        Kind::Choice(&["strict", "relaxed"]),
        "strict",
        "Whether snapshots of newer versions are read.",
    )
    .harmless("newer versions are refused by their number, as with strict"),
    Row::new("rdb-del-sync-files", Kind::Bool, "no", "Deletes snapshots made for replicas.")
        .harmless("a snapshot for a replica is no file that stays"),
    Row::new(
        "rdb-save-incremental-fsync",
        Kind::Bool,
        "yes",
        "Forces the snapshot to disk in parts.",
    )
    .harmless("a snapshot is forced to disk once, at its end"),
    Row::new(
        "rdb-key-save-delay",
        Kind::Integer(-2_147_483_648, INT),
        "0",
        "Microseconds that saving a key takes longer, for tests; negative: keys a microsecond.",
    )
    .hidden(),
    Row::new(
        "key-load-delay",
        Kind::Integer(-2_147_483_648, INT),
        "0",
        "Microseconds that loading a key takes longer, for tests; negative: keys a microsecond.",
    )
    .hidden(),
    Row::new(
        "stop-writes-on-bgsave-error",
        Kind::Bool,
        "yes",
        "Refuses writes after a failed snapshot.",
    ),
    Row::new("no-appendfsync-on-rewrite", Kind::Bool, "no", "No forcing to disk during a rewrite."),
    Row::new(
        "auto-aof-rewrite-percentage",
        Kind::Integer(0, INT),
        "100",
        "Growth that starts a rewrite.",
    ),
    Row::new(
        "auto-aof-rewrite-min-size",
        Kind::Memory(0, LONG),
        "64mb",
        "Least size for a rewrite.",
    ),
    Row::new(
        "aof-rewrite-incremental-fsync",
        Kind::Bool,
        "yes",
        "Forces a rewrite to disk in parts.",
    )
    .harmless("a rewrite is forced to disk once, at its end"),
    Row::new("aof-load-truncated", Kind::Bool, "yes", "Loads a file with a cut tail."),
    Row::new("aof-use-rdb-preamble", Kind::Bool, "yes", "Rewritten files start as a snapshot."),
    Row::new("aof-timestamp-enabled", Kind::Bool, "no", "Times in the append-only file."),
    Row::new(
        "aof-checksum-enabled",
        Kind::Bool,
        "yes",
        "Checksums in the append-only file, and where in the replication history it is, as notes that Redis 7 \
         skips.",
    )
    .immutable(),
    Row::new("aof-disable-auto-gc", Kind::Bool, "no", "Keeps old append-only files."),
];
