//! CONFIG: shows and changes options of the running server. What an option is and which values it takes, the
//! table of `config` knows; what it does, those who read the configuration.

use std::sync::atomic::Ordering;

use larder_commands::{Args, Command, Fault, Flags, Group};

use super::Session;
use crate::config::{Config, OptionId, SetError, options};
use crate::dispatch;
use crate::durability::aof;
use crate::observe;
use crate::shared::{Letter, Server};
use crate::startup;

const SUB: Command = Command {
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    ..Command::control(Group::Server)
};

/// The subcommands' rows.
pub const SUBCOMMANDS: &[Command] = &[
    Command {
        name: "get",
        arity: -3,
        since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Values of options.",
        usage: "parameter [parameter ...]",
        ..SUB
    },
    Command::help(Group::Server, "5.0.0"),
    Command {
        name: "resetstat",
        arity: 2,
        since: "2.0.0",
        summary: "Counters of INFO begin anew.",
        ..SUB
    },
    Command {
        name: "rewrite",
        arity: 2,
        since: "2.8.0",
        summary: "Writes the options in force into the configuration file.",
        ..SUB
    },
    Command {
        name: "set",
        arity: -4,
        since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Changes options.",
        usage: "parameter value [parameter value ...]",
        ..SUB
    },
];

/// CONFIG.
pub fn config(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    match super::named(args, SUBCOMMANDS) {
        "get" => get(session, args),
        "set" => return set(session, args),
        "rewrite" => return rewrite(session, false),
        _ => {
            observe::reset(session);
            session.reply().ok();
        }
    }
    Ok(())
}

fn get(session: &mut Session<'_, '_, '_>, args: Args<'_>) {
    let found = session.turn.server.config().get(args.from(2));
    let mut reply = session.reply();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

fn set(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if !args.len().is_multiple_of(2) {
        return Err(Fault::SYNTAX);
    }
    let pairs: Vec<(&[u8], &[u8])> = args
        .from(2)
        .chunks_exact(2)
        .filter_map(|pair| if let [name, value] = pair { Some((*name, *value)) } else { None })
        .collect();
    let server = session.turn.server;
    let loads = server.loading.load(Ordering::Relaxed);
    // A log begins with the data that there is, in the folder where the server lives.
    let settled = |name: &[u8]| {
        [b"appendonly".as_slice(), b"dir"].iter().any(|of| name.eq_ignore_ascii_case(of))
    };
    if (loads || server.loading_beside.load(Ordering::Relaxed))
        && pairs.iter().any(|(name, _)| settled(name))
    {
        return Err(dispatch::LOADING);
    }
    let local = session.client.stream.peer().is_local();
    let (fresh, changed) =
        server.config().set_from(&pairs, local).map_err(|error| Fault::new(error.to_string()))?;
    let notices: Vec<_> = changed.iter().filter_map(|id| fresh.notice(*id)).collect();
    let opens = fresh.requirepass.is_empty();
    enact(server, fresh, &changed).map_err(|error| Fault::new(error.to_string()))?;
    for line in notices {
        crate::log::notice(&line);
    }
    if pairs.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"maxmemory-clients"))
        && let Some(others) = &mut session.others
    {
        crate::worker::limits::enact(server, others);
    }
    if opens {
        // Without a password nobody has to give one: not those either who came when there was one.
        let others = session.others.iter_mut().flat_map(|others| others.iter_mut());
        let seats = others.flat_map(|state| state.clients.iter_mut());
        for client in seats.filter_map(|seat| seat.client.as_deref_mut()) {
            client.authenticated = true;
        }
    }
    session.reply().ok();
    Ok(())
}

/// Lets a configuration take effect, or changes nothing: some options need the system's consent.
fn enact(server: &Server, fresh: Config, changed: &[OptionId]) -> Result<(), SetError> {
    let refuse = |name: &str, reason: String| SetError::Refused(name.to_owned(), reason.into());
    let names: Vec<&str> = changed.iter().filter_map(|id| Some(options::row(*id)?.name)).collect();
    let old = server.config();
    if names.contains(&"maxclients") {
        let possible = startup::clients_possible(fresh.maxclients);
        if possible < fresh.maxclients {
            return Err(refuse(
                "maxclients",
                format!(
                    "The operating system is not able to handle the specified number of clients, try with {possible}"
                ),
            ));
        }
    }
    if names.contains(&"appendonly") && fresh.appendonly && !old.appendonly {
        // What can be told now is told now; the log itself begins in its thread.
        aof::open(&fresh).map_err(|reason| {
            crate::log::warning(&format!("appendonly cannot be turned on: {reason}"));
            let reason = "Unable to turn on AOF. Check server logs.";
            refuse("appendonly", reason.to_owned())
        })?;
    }
    let scored = names.iter().find(|name| name.starts_with("oom-score-adj"));
    if let Some(name) = scored
        && let Err(error) = server.oom_score.apply(&fresh)
    {
        crate::log::warning(&format!("Unable to write oom_score_adj: {error}"));
        let reason = "Failed to apply new oom_score_adj configuration, check server logs.";
        return Err(refuse(name, reason.to_owned()));
    }
    let first = names.first().copied().unwrap_or_default();
    server.configure(fresh).map_err(|reason| refuse(first, reason))?;
    if names.iter().any(|name| name.contains("appendfsync")) {
        server.aof.heed(server);
    }
    let on = server.config().appendonly;
    if on != old.appendonly {
        server.aof.turn(server, on);
    }
    let moved = names.iter().find(|name| **name == "port" || **name == "bind");
    if let Some(name) = moved {
        let fresh = server.config();
        if server.doors.reopen(&old, &fresh).is_err() {
            // Versions of the settings that were in force before are never missing.
            let _ = server.configure((*old).clone());
            let _ = server.oom_score.apply(&old);
            let reason = match *name {
                "port" => "Unable to listen on this port. Check server logs.",
                _ => "Failed to bind to specified addresses.",
            };
            server.post(0, Letter::Doors);
            return Err(refuse(name, reason.to_owned()));
        }
        server.post(0, Letter::Doors);
    }
    Ok(())
}

/// CONFIG REWRITE; `everything`: options that have their default are written, too.
pub fn rewrite(session: &mut Session<'_, '_, '_>, everything: bool) -> Result<(), Fault> {
    let server = session.turn.server;
    let Some(path) = &server.config_path else {
        return Err(Fault::text("ERR The server is running without a config file"));
    };
    crate::config::rewrite::rewrite_file(path, &server.config(), everything).map_err(|error| {
        crate::log::warning(&format!("CONFIG REWRITE failed: {error}"));
        Fault::new(format!("ERR Rewriting config file: {error}"))
    })?;
    crate::log::notice("CONFIG REWRITE executed with success.");
    session.reply().ok();
    Ok(())
}
