//! The metrics of INFO that are about memory: one row each.

use crate::observe::info::Metric;
use crate::observe::info::Value::{self, Count, Decimal, Percent, Signed, Size, Word};
use crate::observe::snapshot::{Snapshot, percent, ratio};

const fn of(count: usize) -> Value {
    Count(count as u64)
}

fn difference(a: usize, b: usize) -> Value {
    let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    Signed(signed(a) - signed(b))
}

/// Where memory is.
pub const MEMORY: &[Metric] = &[
    Metric::gauge("used_memory", "Bytes allocated.", |s| of(s.memory.used)),
    Metric::gauge("used_memory_human", "The same, for people.", |s| Value::size(s.memory.used)),
    Metric::gauge("used_memory_rss", "Bytes in physical memory.", |s| of(*s.memory.resident)),
    Metric::gauge("used_memory_rss_human", "The same, for people.", |s| {
        Value::size(*s.memory.resident)
    }),
    Metric::gauge("used_memory_peak", "The most that was allocated.", |s| of(s.memory.peak)),
    Metric::gauge("used_memory_peak_human", "The same, for people.", |s| {
        Value::size(s.memory.peak)
    }),
    Metric::gauge("used_memory_peak_perc", "What is allocated now, as a share of that.", |s| {
        Percent(percent(s.memory.used, s.memory.peak))
    }),
    Metric::gauge(
        "used_memory_overhead",
        "Bytes that are not data: the start, tables, connections.",
        |s| of(s.memory.overhead),
    ),
    Metric::gauge(
        "used_memory_startup",
        "Bytes allocated when the server had just started.",
        |s| of(s.memory.startup),
    ),
    Metric::gauge("used_memory_dataset", "Bytes that are data.", |s| of(s.memory.dataset())),
    Metric::gauge(
        "used_memory_dataset_perc",
        "Their share of what was allocated since the start.",
        |s| Percent(s.memory.dataset_percent()),
    ),
    Metric::gauge("allocator_allocated", "Bytes handed out, as the allocator counts.", |s| {
        of(s.memory.allocator.allocated)
    }),
    Metric::gauge("allocator_active", "Bytes in pages that hold something.", |s| {
        of(s.memory.allocator.active)
    }),
    Metric::gauge("allocator_resident", "Bytes of the allocator in physical memory.", |s| {
        of(s.memory.allocator.resident)
    }),
    Metric::gauge("allocator_muzzy", "Bytes in pages that the system may take.", |s| {
        of(s.memory.allocator.muzzy)
    }),
    Metric::gauge("total_system_memory", "Memory of the machine.", |s| of(*s.memory.machine)),
    Metric::gauge("total_system_memory_human", "The same, for people.", |s| {
        Value::size(*s.memory.machine)
    }),
    Metric::gauge("used_memory_lua", "Bytes of scripts; there are none.", |_| Count(0)),
    Metric::gauge("used_memory_vm_eval", "Bytes of the language of scripts.", |_| Count(0)),
    Metric::gauge("used_memory_lua_human", "The same, for people.", |_| Size(0)),
    Metric::gauge("used_memory_scripts_eval", "Bytes of scripts that clients sent.", |_| Count(0)),
    Metric::gauge("number_of_cached_scripts", "Scripts that clients sent.", |_| Count(0)),
    Metric::gauge("number_of_functions", "Functions; there are none.", |_| Count(0)),
    Metric::gauge("number_of_libraries", "Libraries of functions.", |_| Count(0)),
    Metric::gauge("used_memory_vm_functions", "Bytes of the language of functions.", |_| Count(0)),
    Metric::gauge("used_memory_vm_total", "Bytes of both languages.", |_| Count(0)),
    Metric::gauge("used_memory_vm_total_human", "The same, for people.", |_| Size(0)),
    Metric::gauge("used_memory_functions", "Bytes of functions.", |_| Count(0)),
    Metric::gauge("used_memory_scripts", "Bytes of scripts and functions.", |_| Count(0)),
    Metric::gauge("used_memory_scripts_human", "The same, for people.", |_| Size(0)),
    Metric::gauge("maxmemory", "The limit; 0 = none.", |s| Count(s.options.maxmemory)),
    Metric::gauge("maxmemory_human", "The same, for people.", |s| Size(s.options.maxmemory)),
    Metric::fact("maxmemory_policy", "What goes first at the limit.", |s| {
        Word(s.options.maxmemory_policy.name())
    }),
    Metric::gauge(
        "allocator_frag_ratio",
        "Pages that hold something, by what was handed out.",
        |s| Decimal(ratio(s.memory.allocator.active, s.memory.allocator.allocated), 2),
    ),
    Metric::gauge("allocator_frag_bytes", "Their difference.", |s| {
        difference(s.memory.allocator.active, s.memory.allocator.allocated)
    }),
    Metric::gauge(
        "allocator_rss_ratio",
        "Physical memory of the allocator, by pages that hold something.",
        |s| Decimal(ratio(s.memory.allocator.resident, s.memory.allocator.active), 2),
    ),
    Metric::gauge("allocator_rss_bytes", "Their difference.", |s| {
        difference(s.memory.allocator.resident, s.memory.allocator.active)
    }),
    Metric::gauge(
        "rss_overhead_ratio",
        "Physical memory of the process, by that of the allocator.",
        |s| Decimal(ratio(*s.memory.resident, s.memory.allocator.resident), 2),
    ),
    Metric::gauge("rss_overhead_bytes", "Their difference.", |s| {
        difference(*s.memory.resident, s.memory.allocator.resident)
    }),
    Metric::gauge("mem_fragmentation_ratio", "Physical memory, by what is allocated.", |s| {
        Decimal(ratio(*s.memory.resident, s.memory.used), 2)
    }),
    Metric::gauge("mem_fragmentation_bytes", "Their difference.", |s| {
        difference(*s.memory.resident, s.memory.used)
    }),
    Metric::gauge(
        "mem_not_counted_for_evict",
        "Bytes that the limit does not count: what replicas and the log have yet to take.",
        |s| of(beyond_backlog(s)),
    ),
    Metric::gauge("mem_replication_backlog", "Bytes of history kept for replicas.", |s| {
        of(kept_for_replicas(s).min(s.options.repl_backlog_size))
    }),
    Metric::gauge(
        "mem_total_replication_buffers",
        "The same, and what replicas that lag behind have yet to be sent: once for all.",
        |s| of(kept_for_replicas(s)),
    ),
    Metric::gauge("mem_clients_slaves", "What is kept for replicas that lag behind alone.", |s| {
        match s.server.replication.replicas.is_empty() {
            true => Count(0),
            false => of(beyond_backlog(s)),
        }
    }),
    Metric::gauge("mem_clients_normal", "Bytes of connections of clients.", |s| {
        of(s.clients.bytes)
    }),
    Metric::gauge("mem_cluster_links", "Bytes of connections of a cluster.", |_| Count(0)),
    Metric::gauge("mem_aof_buffer", "Bytes that wait to be written to a log.", |s| {
        Count(super::metrics::unwritten(s))
    }),
    Metric::fact("mem_allocator", "The allocator.", |s| Word(s.server.memory.allocator)),
    Metric::gauge(
        "mem_overhead_db_hashtable_rehashing",
        "Bytes of tables that are being replaced; ours grow in place.",
        |_| Count(0),
    ),
    Metric::gauge("active_defrag_running", "Whether data is being moved together.", |_| Count(0)),
    Metric::gauge("lazyfree_pending_objects", "Values that wait to be freed.", |s| {
        of(s.server.background.waiting())
    }),
    Metric::counter("lazyfreed_objects", "Values freed in the background.", |s| {
        Count(s.server.background.freed())
    }),
];

/// Bytes of the journal that nobody keeps but those who have yet to read them.
fn beyond_backlog(snapshot: &Snapshot<'_>) -> usize {
    snapshot.server.journal.surplus()
}

/// Bytes of the journal that are there for replicas, or for those who may come back.
fn kept_for_replicas(snapshot: &Snapshot<'_>) -> usize {
    let server = snapshot.server;
    match server.replication.kept.load(std::sync::atomic::Ordering::Acquire) {
        true => server.journal.held(),
        false => 0,
    }
}
