//! SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF: the commands around the files of the data. How they are written, `durability`
//! knows.

use larder_commands::{Args, Command, Fault, Flags, Group};

use super::{ControlCommand, Session};
use crate::durability::save;

const BASE: Command = Command { ..Command::control(Group::Server) };
const RARE: Flags = Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::NO_ASYNC_LOADING);

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[
    ControlCommand::new(
        Command {
            name: "bgrewriteaof",
            flags: RARE,
            summary: "Writes the append-only file anew, as short as it can be, while everybody goes on.",
            ..BASE
        },
        bgrewriteaof,
    ),
    ControlCommand::exclusive(
        Command {
            name: "bgsave",
            arity: -1,
            flags: RARE,
            summary: "Saves the data to disk, while everybody goes on.",
            usage: "[SCHEDULE]",
            ..BASE
        },
        bgsave,
    ),
    ControlCommand::new(
        Command {
            name: "lastsave",
            flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
            categories: &["@admin", "@dangerous"],
            summary: "When the data was last saved to disk, in Unix seconds.",
            tips: &["nondeterministic_output"],
            ..BASE
        },
        lastsave,
    ),
    ControlCommand::exclusive(
        Command {
            name: "save",
            flags: RARE.or(Flags::NO_MULTI),
            complexity: "O(N) where N is the total number of keys in all databases",
            summary: "Saves the data to disk; everybody waits.",
            ..BASE
        },
        save_command,
    ),
];

/// Modifications so far. Complete only in the exclusive section.
pub fn modifications(session: &Session<'_, '_, '_>) -> u64 {
    let others = session.others.iter().flat_map(|others| others.iter());
    session.turn.stats.dirty + others.map(|state| state.stats.dirty).sum::<u64>()
}

fn bgsave(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if args.len() > 2 || (args.len() == 2 && !args.is(1, "SCHEDULE")) {
        return Err(Fault::SYNTAX);
    }
    let saves = &session.turn.server.saves;
    if session.in_exec && !saves.is_running() {
        // A save of this moment would have half of the transaction.
        saves.schedule();
        session.reply().simple("Background saving scheduled");
        return Ok(());
    }
    let dirty = modifications(session);
    save::begin(session.turn.server, dirty).map_err(|error| match error {
        save::SaveError::Busy => Fault::text("ERR Background save already in progress"),
        other => Fault::new(format!("ERR {other}")),
    })?;
    session.reply().simple("Background saving started");
    Ok(())
}

fn bgrewriteaof(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    if !server.aof.ask_rewrite(server) {
        return Err(Fault::text("ERR Background append only file rewriting already in progress"));
    }
    let waits = session.in_exec || server.saves.is_running();
    session.reply().simple(match waits {
        true => "Background append only file rewriting scheduled",
        false => "Background append only file rewriting started",
    });
    Ok(())
}

fn save_command(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let dirty = modifications(session);
    save::save_now(session.turn.server, dirty).map_err(|error| match error {
        save::SaveError::Busy => Fault::text("ERR Background save already in progress"),
        // The reason is in the log; Redis says no more either.
        _ => Fault::text("ERR"),
    })?;
    session.reply().ok();
    Ok(())
}

fn lastsave(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let at = session.turn.server.saves.last().at_s;
    session.reply().integer(at);
    Ok(())
}
