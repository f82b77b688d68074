//! CONFIG: shows and changes options of the running server. What an option is and which values it takes, the
//! table of `config` knows; what it does, those who read the configuration.

use larder_commands::{Args, Command, Fault, Flags, Group};

use super::Session;
use crate::observe;

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
        "rewrite" => return rewrite(session),
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
        return Err(Fault::arity("config|set"));
    }
    let pairs: Vec<(&[u8], &[u8])> = args
        .from(2)
        .chunks_exact(2)
        .filter_map(|pair| if let [name, value] = pair { Some((*name, *value)) } else { None })
        .collect();
    let server = session.turn.server;
    let local = session.client.stream.peer().is_local();
    let (fresh, changed) =
        server.config().set_from(&pairs, local).map_err(|error| Fault::new(error.to_string()))?;
    for line in changed.iter().filter_map(|id| fresh.notice(*id)) {
        crate::log::notice(&line);
    }
    server.configure(fresh).map_err(|reason| {
        let names: Vec<_> = pairs.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        let names = names.join(", ");
        Fault::new(format!(
            "ERR CONFIG SET failed (possibly related to argument '{names}') - {reason}"
        ))
    })?;
    session.reply().ok();
    Ok(())
}

fn rewrite(session: &mut Session<'_, '_, '_>) -> Result<(), Fault> {
    let server = session.turn.server;
    let Some(path) = &server.config_path else {
        return Err(Fault::text("ERR The server is running without a config file"));
    };
    crate::config::rewrite::rewrite_file(path, &server.config()).map_err(|error| {
        crate::log::warning(&format!("CONFIG REWRITE failed: {error}"));
        Fault::new(format!("ERR Rewriting config file: {error}"))
    })?;
    crate::log::notice("CONFIG REWRITE executed with success.");
    session.reply().ok();
    Ok(())
}
