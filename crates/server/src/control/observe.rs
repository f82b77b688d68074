//! SLOWLOG, COMMANDLOG and MONITOR: what operators look at while the server runs.

use larder_commands::{Args, Command, Fault, Flags, Group};

use super::{ControlCommand, Session, named};
use crate::commandlog::CommandLog;
use crate::pubsub::Address;

const ADMIN: Flags = Flags::ADMIN.or(Flags::LOADING).or(Flags::STALE);
const BASE: Command = Command { arity: -2, complexity: "Depends on subcommand.", ..SUB };
const SUB: Command = Command { ..Command::control(Group::Server) };
const LOG: Command = Command { flags: ADMIN, ..SUB };

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[
    ControlCommand::new(
        Command {
            name: "slowlog",
            since: "2.2.12",
            summary: "The log of slow commands.",
            subcommands: SLOWLOG,
            ..BASE
        },
        slowlog,
    ),
    ControlCommand::new(
        Command {
            name: "commandlog",
            since: "8.1.0",
            summary: "The logs of slow commands, large requests and large replies.",
            subcommands: COMMANDLOG,
            ..BASE
        },
        commandlog,
    ),
    ControlCommand::new(
        Command {
            name: "monitor",
            flags: ADMIN.or(Flags::NOSCRIPT),
            summary: "Shows every command that the server runs.",
            ..SUB
        },
        monitor,
    ),
];

const SLOWLOG: &[Command] = &[
    Command::help(Group::Server, "6.2.0"),
    Command {
        name: "get",
        arity: -2,
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries returned",
        summary: "The newest entries.",
        usage: "[count]",
        ..LOG
    },
    Command { name: "len", arity: 2, since: "2.2.12", summary: "Number of entries.", ..LOG },
    Command {
        name: "reset",
        arity: 2,
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries in the slowlog",
        summary: "Forgets all entries.",
        ..LOG
    },
];

const COMMANDLOG: &[Command] = &[
    Command::help(Group::Server, "8.1.0"),
    Command {
        name: "get",
        arity: 4,
        since: "8.1.0",
        complexity: "O(N) where N is the number of entries returned",
        summary: "The newest entries of one log.",
        usage: "count <SLOW | LARGE-REQUEST | LARGE-REPLY>",
        ..LOG
    },
    Command {
        name: "len",
        arity: 3,
        since: "8.1.0",
        summary: "Number of entries of one log.",
        usage: "<SLOW | LARGE-REQUEST | LARGE-REPLY>",
        ..LOG
    },
    Command {
        name: "reset",
        arity: 3,
        since: "8.1.0",
        complexity: "O(N) where N is the number of entries in the commandlog",
        summary: "Forgets all entries of one log.",
        usage: "<SLOW | LARGE-REQUEST | LARGE-REPLY>",
        ..LOG
    },
];

fn slowlog(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let what = named(args, SLOWLOG);
    let count = match (what, args.len()) {
        ("get", 3) => count(args)?,
        ("get", 4..) => return Err(Fault::SYNTAX),
        _ => 10,
    };
    let [slow, ..] = &session.turn.server.logs;
    answer(session, slow, what, count);
    Ok(())
}

fn commandlog(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let what = named(args, COMMANDLOG);
    let (count, kind) = if what == "get" { (count(args)?, 3) } else { (0, 2) };
    let [slow, requests, replies] = &session.turn.server.logs;
    let log = if args.is(kind, "SLOW") {
        slow
    } else if args.is(kind, "LARGE-REQUEST") {
        requests
    } else if args.is(kind, "LARGE-REPLY") {
        replies
    } else {
        return Err(Fault::text(
            "ERR type should be one of the following: slow, large-request, large-reply",
        ));
    };
    answer(session, log, what, count);
    Ok(())
}

fn count(args: Args<'_>) -> Result<usize, Fault> {
    match args.i64(2) {
        Ok(-1) => Ok(usize::MAX),
        Ok(count) if count >= 0 => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        _ => Err(Fault::text("ERR count should be greater than or equal to -1")),
    }
}

fn answer(session: &mut Session<'_, '_, '_>, log: &CommandLog, what: &str, count: usize) {
    let mut reply = session.reply();
    match what {
        "len" => reply.count(log.len()),
        "reset" => {
            log.clear();
            reply.ok();
        }
        _ => {
            let entries = log.newest(count);
            reply.array(entries.len());
            for entry in entries {
                reply.array(6);
                reply.integer(entry.id);
                reply.integer(entry.at_s);
                reply.integer(entry.amount);
                reply.array(entry.args.len());
                entry.args.iter().for_each(|arg| reply.bulk(arg));
                reply.bulk(entry.peer.as_bytes());
                reply.bulk(&entry.name);
            }
        }
    }
}

fn monitor(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let who = Address { worker: session.turn.worker, token: session.token };
    session.client.monitor = true;
    session.turn.server.monitors.add(who);
    session.reply().ok();
    Ok(())
}
