//! MEMORY: where memory went, for operators. It reads figures that others gather.

use larder_commands::{Args, Command, Fault, Flags, Group, KeySpec};

use super::{ControlCommand, Session, named};
use crate::observe::snapshot::{Memory, Snapshot, TABLE_BYTES_PER_KEY, percent, ratio};

const BASE: Command =
    Command { since: "4.0.0", summary: "Asks about memory.", ..Command::control(Group::Server) };

/// The row.
pub const COMMANDS: &[ControlCommand] = &[ControlCommand::sometimes_exclusive(
    Command {
        name: "memory",
        arity: -2,
        complexity: "Depends on subcommand.",
        subcommands: MEMORY,
        ..BASE
    },
    memory,
    |args| args.is(1, "STATS") || args.is(1, "DOCTOR"),
)];

const MEMORY: &[Command] = &[
    Command {
        name: "doctor",
        arity: 2,
        summary: "Says in words what is remarkable about the use of memory.",
        ..BASE
    },
    Command::help(Group::Server, "4.0.0"),
    Command {
        name: "malloc-stats",
        arity: 2,
        flags: Flags::LOADING,
        complexity: "Depends on how much memory is allocated, could be slow",
        summary: "The allocator's own report.",
        ..BASE
    },
    Command {
        name: "purge",
        arity: 2,
        flags: Flags::LOADING,
        complexity: "Depends on how much memory is allocated, could be slow",
        summary: "Gives free memory back to the system.",
        ..BASE
    },
    Command { name: "stats", arity: 2, summary: "Figures on memory.", ..BASE },
    Command {
        name: "usage",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(2, "RO")],
        complexity: "O(N) where N is the number of samples.",
        summary: "Bytes that a key and its value hold.",
        usage: "key [SAMPLES count]",
        ..BASE
    },
];

fn memory(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    match named(args, MEMORY) {
        "usage" => return usage(session, args),
        "doctor" => {
            let text = diagnosis(&Snapshot::take(session));
            session.reply().verbatim(text.as_bytes());
        }
        "malloc-stats" => {
            let text = (session.turn.server.memory.report)();
            session.reply().verbatim(text.as_bytes());
        }
        "purge" => {
            (session.turn.server.memory.purge)();
            session.reply().ok();
        }
        _ => stats(session),
    }
    Ok(())
}

/// A figure of MEMORY STATS.
enum Figure {
    Bytes(usize),
    Ratio(f64),
    /// Of a database: bytes of its table of keys, and of its deadlines.
    Tables(usize, usize),
}

fn stats(session: &mut Session<'_, '_, '_>) {
    let snapshot = Snapshot::take(session);
    let memory = &snapshot.memory;
    let Memory { used, peak, startup, overhead, .. } = *memory;
    let resident = *memory.resident;
    let allocator = *memory.allocator;
    let keys: usize = snapshot.databases.iter().map(|(_, keys, _)| keys).sum();
    let data = used.saturating_sub(startup);
    let mut figures: Vec<(String, Figure)> = Vec::new();
    let mut add = |name: &str, figure: Figure| figures.push((name.to_owned(), figure));
    add("peak.allocated", Figure::Bytes(peak));
    add("total.allocated", Figure::Bytes(used));
    add("startup.allocated", Figure::Bytes(startup));
    for nothing in ["replication.backlog", "clients.slaves"] {
        add(nothing, Figure::Bytes(0));
    }
    add("clients.normal", Figure::Bytes(snapshot.clients.bytes));
    for nothing in ["cluster.links", "aof.buffer", "lua.caches", "functions.caches"] {
        add(nothing, Figure::Bytes(0));
    }
    for (number, keys, _) in &snapshot.databases {
        // Deadlines lie beside the addresses of their records, in the same table.
        add(&format!("db.{number}"), Figure::Tables(keys * TABLE_BYTES_PER_KEY, 0));
    }
    // No table is ever rebuilt: it grows and shrinks by one bucket.
    add("overhead.db.hashtable.lut", Figure::Bytes(snapshot.memory.tables));
    add("overhead.db.hashtable.rehashing", Figure::Bytes(0));
    add("db.dict.rehashing.count", Figure::Bytes(0));
    add("overhead.total", Figure::Bytes(overhead));
    add("keys.count", Figure::Bytes(keys));
    add("keys.bytes-per-key", Figure::Bytes(data / keys.max(1)));
    add("dataset.bytes", Figure::Bytes(snapshot.memory.dataset()));
    add("dataset.percentage", Figure::Ratio(snapshot.memory.dataset_percent()));
    add("peak.percentage", Figure::Ratio(percent(used, peak)));
    add("allocator.allocated", Figure::Bytes(allocator.allocated));
    add("allocator.active", Figure::Bytes(allocator.active));
    add("allocator.resident", Figure::Bytes(allocator.resident));
    add("allocator.muzzy", Figure::Bytes(allocator.muzzy));
    for (name, a, b) in [
        ("allocator-fragmentation", allocator.active, allocator.allocated),
        ("allocator-rss", allocator.resident, allocator.active),
        ("rss-overhead", resident, allocator.resident),
    ] {
        add(&format!("{name}.ratio"), Figure::Ratio(ratio(a, b)));
        add(&format!("{name}.bytes"), Figure::Bytes(a.saturating_sub(b)));
    }
    add("fragmentation", Figure::Ratio(ratio(resident, used)));
    add("fragmentation.bytes", Figure::Bytes(resident.saturating_sub(used)));
    let mut reply = session.reply();
    reply.map(figures.len());
    for (name, figure) in figures {
        reply.bulk(name.as_bytes());
        match figure {
            Figure::Bytes(bytes) => reply.count(bytes),
            Figure::Ratio(ratio) => reply.double(ratio),
            Figure::Tables(main, expires) => {
                reply.map(2);
                reply.bulk(b"overhead.hashtable.main");
                reply.count(main);
                reply.bulk(b"overhead.hashtable.expires");
                reply.count(expires);
            }
        }
    }
}

/// What is remarkable, in words.
fn diagnosis(snapshot: &Snapshot<'_>) -> String {
    /// Below this everything is startup and chance.
    const SMALL: usize = 5 << 20;
    const REMARKABLE: usize = 10 << 20;
    let memory = &snapshot.memory;
    if memory.used < SMALL {
        return "Little memory is in use: there is nothing to be found yet.\n".to_owned();
    }
    let mut findings = Vec::new();
    let mut find = |when: bool, text: String| {
        if when {
            findings.push(text);
        }
    };
    let past = ratio(memory.peak, memory.used);
    find(
        past > 1.5,
        format!(
            "Peak: {past:.1} times as much memory was in use before as is now. Resident memory may stay \
             high until new data fills it; MEMORY PURGE gives free pages back."
        ),
    );
    let allocator = *memory.allocator;
    let spread = allocator.active.saturating_sub(allocator.allocated);
    let share = ratio(allocator.active, allocator.allocated);
    find(
        share > 1.1 && spread > REMARKABLE,
        format!(
            "Fragmentation: pages in use hold {share:.2} times the bytes that were handed out \
             ({spread} bytes lie between them). Values of changing sizes do that."
        ),
    );
    let kept = allocator.resident.saturating_sub(allocator.active);
    find(
        ratio(allocator.resident, allocator.active) > 1.1 && kept > REMARKABLE,
        format!(
            "Free pages: the allocator keeps {kept} bytes that hold nothing. It gives them back by and \
             by; MEMORY PURGE does so at once."
        ),
    );
    let beyond = memory.resident.saturating_sub(allocator.resident);
    find(
        ratio(*memory.resident, allocator.resident) > 1.1 && beyond > REMARKABLE,
        format!(
            "Beyond the allocator: the process holds {beyond} bytes besides what it allocates."
        ),
    );
    let each = snapshot.clients.bytes / snapshot.clients.connected.max(1);
    find(
        each > 200 << 10,
        format!(
            "Connections: each holds {each} bytes on average. Long pipelines, large requests or clients \
             that do not read their replies do that; CLIENT LIST shows who."
        ),
    );
    let limit = usize::try_from(snapshot.options.maxmemory).unwrap_or(usize::MAX);
    find(
        limit > 0 && memory.used > limit / 100 * 95,
        format!("Limit: {} of {limit} bytes (maxmemory) are in use.", memory.used),
    );
    if findings.is_empty() {
        return "Nothing is remarkable about the use of memory.\n".to_owned();
    }
    let mut text = "What is remarkable about the use of memory:\n\n".to_owned();
    for finding in findings {
        text.push_str(&format!(" * {finding}\n"));
    }
    text
}

fn usage(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    match args.len() {
        3 => {}
        5 if args.is(3, "SAMPLES") => {
            if args.i64(4)? < 0 {
                return Err(Fault::SYNTAX);
            }
        }
        _ => return Err(Fault::SYNTAX),
    }
    let server = session.turn.server;
    let db = session.client.db;
    let at = server.keyspace.locate(args.at(2));
    let mut view = server.keyspace.view(&server.settings, db, &[at], session.turn.now);
    let usage = view.record(args.at(2)).map(|record| record.memory_usage());
    crate::dispatch::settle(server, &mut view, session.client.id, session.turn.ready);
    match usage {
        Some(bytes) => session.reply().count(bytes + TABLE_BYTES_PER_KEY),
        None => session.reply().null(),
    }
    Ok(())
}
