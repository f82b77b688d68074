//! Rows: memory limits, eviction, expiry, freeing, sizes of the compact encodings. They must never know the
//! keyspace that obeys them.

use super::super::values::EvictionPolicy;
use super::{INT, Kind, LONG, MEBI, NO_STREAMS, Row};

const LAZY: &str = "big values are always freed off the hot path";
const DEFRAG: &str = "there is no active defragmentation";

pub(super) static ROWS: &[Row] = &[
    Row::new(
        "maxmemory",
        Kind::Memory(0, u64::MAX),
        "0",
        "Bytes above which keys are evicted; 0 = no limit.",
    ),
    Row::new(
        "maxmemory-policy",
        Kind::Choice(EvictionPolicy::NAMES),
        "noeviction",
        "Which keys go first.",
    ),
    Row::new("maxmemory-samples", Kind::Integer(1, 64), "5", "Keys looked at for each eviction."),
    Row::new(
        "maxmemory-eviction-tenacity",
        Kind::Integer(0, 100),
        "10",
        "How long eviction may hold up commands: 0 = shortest, 100 = as long as needed.",
    ),
    Row::new(
        "maxmemory-clients",
        Kind::MemoryOrPercent,
        "0",
        "Most memory of all clients together, in bytes or as a share of maxmemory; 0 = no limit (the default of Redis is kept: a limit that nobody asked for would close clients by surprise).",
    ),
    Row::new("lfu-log-factor", Kind::Integer(0, INT), "10", "Larger counts accesses more slowly."),
    Row::new(
        "lfu-decay-time",
        Kind::Integer(0, INT),
        "1",
        "Minutes after which a count loses one; 0 = never.",
    ),
    Row::new(
        "active-expire-effort",
        Kind::Integer(1, 10),
        "1",
        "How hard expired keys are looked for.",
    )
    .harmless(
        "a mark beside each key says when it is due: all of them are found, without searching",
    ),
    Row::new(
        "lazyfree-lazy-eviction",
        Kind::Bool,
        "yes",
        "Evicted values are freed in the background.",
    )
    .harmless(LAZY),
    Row::new(
        "lazyfree-lazy-expire",
        Kind::Bool,
        "yes",
        "Expired values are freed in the background.",
    )
    .harmless(LAZY),
    Row::new(
        "lazyfree-lazy-server-del",
        Kind::Bool,
        "yes",
        "Overwritten values are freed in the background.",
    )
    .harmless(LAZY),
    Row::new("lazyfree-lazy-user-del", Kind::Bool, "yes", "DEL frees as UNLINK does.")
        .harmless(LAZY),
    Row::new(
        "lazyfree-lazy-user-flush",
        Kind::Bool,
        "yes",
        "FLUSHALL and FLUSHDB free in the background unless told otherwise.",
    )
    .harmless(LAZY),
    Row::new(
        "hash-max-listpack-entries",
        Kind::Integer(0, i64::MAX),
        "512",
        "Fields of a hash in the compact encoding.",
    )
    .alias("hash-max-ziplist-entries"),
    Row::new(
        "hash-max-listpack-value",
        Kind::Memory(0, LONG),
        "64",
        "Bytes of a field or value in the compact encoding.",
    )
    .alias("hash-max-ziplist-value"),
    Row::new(
        "list-max-listpack-size",
        Kind::Integer(-2_147_483_648, INT),
        "-2",
        "Size of a list's node: entries, or -1 to -5 for 4 kB to 64 kB.",
    )
    .alias("list-max-ziplist-size"),
    Row::new(
        "list-compress-depth",
        Kind::Integer(0, INT),
        "0",
        "Nodes at both ends of a list that stay uncompressed; 0 = no compression.",
    )
    .harmless("lists are not compressed"),
    Row::new(
        "set-max-intset-entries",
        Kind::Integer(0, i64::MAX),
        "512",
        "Integers of a set in the compact encoding.",
    ),
    Row::new(
        "set-max-listpack-entries",
        Kind::Integer(0, i64::MAX),
        "128",
        "Members of a set in the compact encoding.",
    ),
    Row::new(
        "set-max-listpack-value",
        Kind::Integer(0, i64::MAX),
        "64",
        "Bytes of a member in the compact encoding.",
    ),
    Row::new(
        "zset-max-listpack-entries",
        Kind::Integer(0, i64::MAX),
        "128",
        "Members of a sorted set in the compact encoding.",
    )
    .alias("zset-max-ziplist-entries"),
    Row::new(
        "zset-max-listpack-value",
        Kind::Memory(0, LONG),
        "64",
        "Bytes of a member in the compact encoding.",
    )
    .alias("zset-max-ziplist-value"),
    Row::new(
        "hll-sparse-max-bytes",
        Kind::Memory(0, LONG),
        "3000",
        "Bytes above which a HyperLogLog becomes dense.",
    ),
    Row::new("stream-node-max-bytes", Kind::Memory(0, LONG), "4096", "Bytes of a stream's node.")
        .harmless(NO_STREAMS),
    Row::new(
        "stream-node-max-entries",
        Kind::Integer(0, i64::MAX),
        "100",
        "Entries of a stream's node.",
    )
    .harmless(NO_STREAMS),
    Row::new("activerehashing", Kind::Bool, "yes", "Spends idle time on growing tables.")
        .harmless("tables grow step by step with each write"),
    Row::new("activedefrag", Kind::Bool, "no", "Moves values to give memory back.").later(DEFRAG),
    Row::new(
        "active-defrag-ignore-bytes",
        Kind::Memory(1, LONG),
        "100mb",
        "Waste below which nothing is moved.",
    )
    .harmless(DEFRAG),
    Row::new(
        "active-defrag-threshold-lower",
        Kind::Integer(0, 1000),
        "10",
        "Percent of waste at which moving starts.",
    )
    .harmless(DEFRAG),
    Row::new(
        "active-defrag-threshold-upper",
        Kind::Integer(0, 1000),
        "100",
        "Percent of waste at which moving is hardest.",
    )
    .harmless(DEFRAG),
    Row::new(
        "active-defrag-cycle-min",
        Kind::Integer(1, 99),
        "1",
        "Least percent of a core for moving.",
    )
    .harmless(DEFRAG),
    Row::new(
        "active-defrag-cycle-max",
        Kind::Integer(1, 99),
        "25",
        "Most percent of a core for moving.",
    )
    .harmless(DEFRAG),
    Row::new(
        "active-defrag-cycle-us",
        Kind::Integer(0, 100_000),
        "500",
        "Microseconds of one step of moving.",
    )
    .harmless(DEFRAG),
    Row::new(
        "active-defrag-max-scan-fields",
        Kind::Integer(1, i64::MAX),
        "1000",
        "Elements above which a value is moved in parts.",
    )
    .harmless(DEFRAG),
    Row::new(
        "jemalloc-bg-thread",
        Kind::Bool,
        "yes",
        "The allocator gives memory back from a thread of its own.",
    )
    .harmless("the allocator is set up when the program is built"),
    Row::new(
        "client-query-buffer-limit",
        Kind::Memory(MEBI, LONG),
        "1gb",
        "Most bytes of unread input of one client.",
    ),
    Row::new(
        "proto-max-bulk-len",
        Kind::Memory(MEBI, LONG),
        "512mb",
        "Most bytes of one argument, and of a string.",
    ),
    Row::new(
        "client-output-buffer-limit",
        Kind::OutputLimits,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        "For each class of clients: bytes of waiting output at which it is closed at once, bytes at which it is closed after some seconds, and those seconds; 0 = no limit.",
    ),
];
