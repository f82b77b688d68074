//! Server commands: INFO, DBSIZE, FLUSHDB, FLUSHALL, SWAPDB, TIME, LOLWUT,
//! SHUTDOWN.

use std::time::Duration;

use larder_commands::{Args, Command, Fault, Flags, Group};
use larder_store::DbIndex;

use super::config::config;
use super::{ControlCommand, Session};
use crate::databases;
use crate::dispatch;
use crate::durability::{record, save};
use crate::ending::{self, Wish};
use crate::observe::info;
use crate::observe::snapshot::Snapshot;

/// The Redis version whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.4.0";

const BASE: Command = Command { ..Command::control(Group::Server) };
const OPEN: Flags = Flags::LOADING.or(Flags::STALE);
const FLUSH: Command = Command {
    arity: -1,
    flags: Flags::WRITE,
    categories: &["@keyspace", "@dangerous"],
    complexity: "O(N) where N is the number of keys",
    usage: "[ASYNC | SYNC]",
    ..BASE
};

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[
    ControlCommand::new(
        Command {
            name: "dbsize",
            flags: Flags::READONLY.or(Flags::FAST),
            categories: &["@keyspace"],
            summary: "Number of keys in the selected database.",
            ..BASE
        },
        dbsize,
    ),
    ControlCommand::exclusive(
        Command { name: "flushdb", summary: "Removes all keys of the selected database.", ..FLUSH },
        |session, args| flush(session, args, false),
    ),
    ControlCommand::exclusive(
        Command { name: "flushall", summary: "Removes all keys of all databases.", ..FLUSH },
        |session, args| flush(session, args, true),
    ),
    ControlCommand::exclusive(
        Command {
            name: "swapdb",
            arity: 3,
            since: "4.0.0",
            flags: Flags::WRITE.or(Flags::FAST),
            categories: &["@keyspace", "@dangerous"],
            complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
            summary: "Exchanges two databases.",
            usage: "index1 index2",
            ..BASE
        },
        swapdb,
    ),
    ControlCommand::new(
        Command {
            name: "time",
            since: "2.6.0",
            flags: OPEN.or(Flags::FAST),
            summary: "The server's time: seconds and microseconds.",
            ..BASE
        },
        time,
    ),
    ControlCommand::new(
        Command {
            name: "lolwut",
            arity: -1,
            since: "5.0.0",
            flags: Flags::READONLY.or(Flags::FAST),
            summary: "A picture and the version.",
            usage: "[VERSION version]",
            ..BASE
        },
        |session, _| {
            let text = format!("  ____\n |    |  Larder {}\n |____|\n", env!("CARGO_PKG_VERSION"));
            session.reply().verbatim(text.as_bytes());
            Ok(())
        },
    ),
    ControlCommand::exclusive(
        Command {
            name: "info",
            arity: -1,
            flags: OPEN,
            categories: &["@dangerous"],
            summary: "Facts and figures of the server, in sections.",
            usage: "[section [section ...]]",
            ..BASE
        },
        info,
    ),
    ControlCommand::sometimes_exclusive(
        Command {
            name: "config",
            arity: -2,
            since: "2.0.0",
            complexity: "Depends on subcommand.",
            summary: "Reads and changes the configuration.",
            subcommands: super::config::SUBCOMMANDS,
            ..BASE
        },
        config,
        // A rewrite waits for the disk: others must not wait along.
        |args| !args.is(1, "REWRITE"),
    ),
    ControlCommand::exclusive(
        Command {
            name: "shutdown",
            arity: -1,
            flags: Flags::ADMIN
                .or(Flags::NOSCRIPT)
                .or(OPEN)
                .or(Flags::NO_MULTI)
                .or(Flags::ALLOW_BUSY),
            summary: "Ends the server.",
            usage: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
            ..BASE
        },
        shutdown,
    ),
];

fn dbsize(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let count = session.turn.server.keyspace.len(session.client.db);
    session.reply().count(count);
    Ok(())
}

fn flush(session: &mut Session<'_, '_, '_>, args: Args<'_>, all: bool) -> Result<(), Fault> {
    if args.len() > 2 || (args.len() == 2 && !args.is(1, "ASYNC") && !args.is(1, "SYNC")) {
        return Err(Fault::SYNTAX);
    }
    let server = session.turn.server;
    // As Redis with lazyfree-lazy-user-flush yes, the default of Valkey 8.
    let at_once = args.is(1, "SYNC");
    let count = if all { server.keyspace.databases() } else { 1 };
    for number in 0..count {
        let db = if all { DbIndex(u8::try_from(number).unwrap_or(0)) } else { session.client.db };
        session.turn.stats.dirty += databases::flush(server, db, session.turn.now, at_once);
    }
    databases::tell_flushed(server);
    if all && !server.config().save.is_empty() {
        // The old file must not bring back what was thrown away. A save that runs notices by itself.
        let _ = save::save_now(server, super::persistence::modifications(session));
    }
    record::record_request(server.books(), session.client.db, args);
    session.reply().ok();
    Ok(())
}

fn swapdb(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    let number = |at: usize, which: &'static str| -> Result<i64, Fault> {
        args.i64(at).map_err(|_| Fault::new(format!("ERR invalid {which} DB index")))
    };
    let (a, b) = (number(1, "first")?, number(2, "second")?);
    let index = |number: i64| -> Result<DbIndex, Fault> {
        let index =
            u8::try_from(number).ok().filter(|db| usize::from(*db) < server.keyspace.databases());
        index.map(DbIndex).ok_or(Fault::text("ERR DB index is out of range"))
    };
    let (a, b) = (index(a)?, index(b)?);
    databases::swap(server, a, b, session.turn.now, session.turn.ready);
    session.turn.stats.dirty += 1;
    record::record_request(server.books(), session.client.db, args);
    session.reply().ok();
    Ok(())
}

fn time(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut reply = session.reply();
    reply.array(2);
    reply.bulk(since.as_secs().to_string().as_bytes());
    reply.bulk(since.subsec_micros().to_string().as_bytes());
    Ok(())
}

fn shutdown(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    const WORDS: [&str; 5] = ["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"];
    let asked = |word: &str| (1..args.len()).any(|at| args.is(at, word));
    let known = (1..args.len()).all(|at| WORDS.iter().any(|word| args.is(at, word)));
    let abort = asked("ABORT");
    let others = ["NOSAVE", "SAVE", "NOW", "FORCE"].iter().any(|word| asked(word));
    if !known || (abort && others) || (asked("SAVE") && asked("NOSAVE")) {
        return Err(Fault::SYNTAX);
    }
    let (server, dirty) = (session.turn.server, super::persistence::modifications(session));
    if abort {
        if !ending::abort(server) {
            return Err(Fault::text("ERR No shutdown in progress."));
        }
        session.reply().ok();
        return Ok(());
    }
    crate::log::notice("User requested shutdown...");
    ending::ask(server, Wish::of(asked), dirty).map_err(|_| Fault::text(ending::REFUSAL))?;
    match server.registry.find(args.at(0)) {
        Some(entry) if server.ending.is_underway() && !dispatch::is_stopping(server) => {
            let waiter = super::waiter(session, entry, args, None);
            server.ending.join(waiter);
        }
        _ => session.client.closing = true,
    }
    Ok(())
}

fn info(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let text = info::text(&Snapshot::take(session), args);
    session.reply().verbatim(text.as_bytes());
    Ok(())
}
