//! MEMORY: for operators who ask where memory went.

use larder_commands::{Args, Command, Fault, Flags, Group, KeySpec};

use super::{ControlCommand, Session, named};

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[ControlCommand::exclusive(
    Command {
        name: "memory",
        arity: -2,
        since: "4.0.0",
        complexity: "Depends on subcommand.",
        summary: "Asks about memory.",
        subcommands: MEMORY,
        ..Command::control(Group::Server)
    },
    memory,
)];

const MEMORY: &[Command] = &[
    Command::help(Group::Server, "4.0.0"),
    Command {
        name: "stats",
        arity: 2,
        since: "4.0.0",
        summary: "Figures on memory.",
        ..Command::control(Group::Server)
    },
    Command {
        name: "usage",
        arity: -3,
        since: "4.0.0",
        flags: Flags::READONLY,
        keys: &[KeySpec::one(2, "RO")],
        complexity: "O(N) where N is the number of samples.",
        summary: "Bytes that a key and its value hold.",
        usage: "key [SAMPLES count]",
        ..Command::control(Group::Server)
    },
];

fn memory(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    match named(args, MEMORY) {
        "usage" => return usage(session, args),
        _ => stats(session),
    }
    Ok(())
}

fn stats(session: &mut Session<'_, '_, '_>) {
    let server = session.turn.server;
    let used = (server.memory.used)();
    let databases = (0..server.keyspace.databases()).filter_map(|db| u8::try_from(db).ok());
    let keys: usize = databases.map(|db| server.keyspace.len(larder_store::DbIndex(db))).sum();
    let resident = super::server::resident_bytes();
    let mut reply = session.reply();
    reply.map(4);
    for (name, value) in [
        ("total.allocated", used),
        ("keys.count", keys),
        ("keys.bytes-per-key", used / keys.max(1)),
        ("allocator.resident", resident),
    ] {
        reply.bulk(name.as_bytes());
        reply.count(value);
    }
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
    let mut view = server.keyspace.view_all(&server.settings, session.client.db, session.turn.now);
    let usage = view.record(args.at(2)).map(|record| record.memory_usage());
    drop(view);
    match usage {
        // The table's share of a key is about 15 bytes.
        Some(bytes) => session.reply().count(bytes + 15),
        None => session.reply().null(),
    }
    Ok(())
}
