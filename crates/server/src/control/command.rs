//! COMMAND and its subcommands: everything about commands follows from their rows.

use larder_base::glob;
use larder_commands::{Args, Begin, Command, Fault, Find, Flags, Group, KeySpec};
use larder_protocol::reply::Reply;

use super::{ControlCommand, Session, docs, named};

const BASE: Command = Command { ..Command::control(Group::Server) };
const OPEN: Flags = Flags::LOADING.or(Flags::STALE);

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[ControlCommand::new(
    Command {
        name: "command",
        arity: -1,
        since: "2.8.13",
        flags: OPEN,
        categories: &["@connection"],
        complexity: "O(N) where N is the total number of commands",
        summary: "Describes the commands.",
        subcommands: COMMAND,
        ..BASE
    },
    command,
)];

const COMMAND_SUB: Command =
    Command { flags: OPEN, categories: &["@connection"], ..Command::control(Group::Server) };
const COMMAND: &[Command] = &[
    Command { categories: &["@connection"], ..Command::help(Group::Server, "5.0.0") },
    Command {
        name: "count",
        arity: 2,
        since: "2.8.13",
        summary: "Number of commands.",
        ..COMMAND_SUB
    },
    Command {
        name: "info",
        arity: -2,
        since: "2.8.13",
        summary: "Describes some commands.",
        usage: "[command-name [command-name ...]]",
        ..COMMAND_SUB
    },
    Command {
        name: "list",
        arity: -2,
        since: "7.0.0",
        summary: "Names of the commands.",
        ..COMMAND_SUB
    },
    Command {
        name: "docs",
        arity: -2,
        since: "7.0.0",
        summary: "Documentation of commands.",
        usage: "[command-name [command-name ...]]",
        ..COMMAND_SUB
    },
    Command {
        name: "getkeysandflags",
        arity: -3,
        since: "7.0.0",
        summary: "The keys in a request, and what happens to them.",
        usage: "command [arg [arg ...]]",
        ..COMMAND_SUB
    },
    Command {
        name: "getkeys",
        arity: -3,
        since: "2.8.13",
        summary: "The keys in a request.",
        usage: "command [arg [arg ...]]",
        ..COMMAND_SUB
    },
];

fn command(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let registry = &session.turn.server.registry;
    let mut all: Vec<&'static Command> = registry.iter().map(|entry| entry.command).collect();
    all.sort_by_key(|command| command.name);
    if args.len() == 1 {
        let mut reply = session.reply();
        reply.array(all.len());
        for command in all {
            describe(&mut reply, "", command);
        }
        return Ok(());
    }
    let find = |name: &[u8]| registry.find_row(name);
    match named(args, COMMAND) {
        "count" => session.reply().count(all.len()),
        "list" => {
            let chosen = filtered(all, args)?;
            let mut reply = session.reply();
            reply.array(chosen.len());
            chosen.iter().for_each(|name| reply.bulk(name.as_bytes()));
        }
        "info" => {
            let mut reply = session.reply();
            if args.len() == 2 {
                reply.array(all.len());
                for command in all {
                    describe(&mut reply, "", command);
                }
            } else {
                reply.array(args.len() - 2);
                for name in args.from(2) {
                    match find(name) {
                        Some((parent, command)) => describe(&mut reply, parent, command),
                        None => reply.null(),
                    }
                }
            }
        }
        "docs" => {
            let chosen: Vec<(&str, &Command)> = if args.len() == 2 {
                all.into_iter().map(|command| ("", command)).collect()
            } else {
                args.from(2).iter().filter_map(|name| find(name)).collect()
            };
            let mut reply = session.reply();
            reply.map(chosen.len());
            for (parent, command) in chosen {
                document(&mut reply, parent, command);
            }
        }
        name => return getkeys(session, args, name == "getkeysandflags"),
    }
    Ok(())
}

/// The names that COMMAND LIST FILTERBY asks for, those of subcommands behind those of their commands.
fn filtered(all: Vec<&'static Command>, args: Args<'_>) -> Result<Vec<String>, Fault> {
    let category = args.is(3, "ACLCAT");
    if args.len() > 2 {
        let known = category || args.is(3, "PATTERN") || args.is(3, "MODULE");
        if args.len() != 5 || !args.is(2, "FILTERBY") || !known {
            return Err(Fault::SYNTAX);
        }
        if args.is(3, "MODULE") {
            // There are no modules.
            return Ok(Vec::new());
        }
    }
    let wanted = args.at(4);
    let fits = |name: &str, command: &Command| {
        let is = |category: &&str| {
            category.as_bytes().get(1..).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
        };
        match (args.len(), category) {
            (2, _) => true,
            (_, true) => command.all_categories().iter().any(is),
            (_, false) => glob::matches_nocase(wanted, name.as_bytes()),
        }
    };
    let mut names = Vec::new();
    for command in all {
        let subs = command.subcommands.iter().map(|sub| (command.name, sub));
        for (parent, row) in std::iter::once(("", command)).chain(subs) {
            let name = full_name(parent, row);
            if fits(&name, row) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn getkeys(
    session: &mut Session<'_, '_, '_>,
    args: Args<'_>,
    with_flags: bool,
) -> Result<(), Fault> {
    let Some(entry) = session.turn.server.registry.find(args.at(2)) else {
        return Err(Fault::text("ERR Invalid command specified"));
    };
    let inner = Args::new(args.from(2));
    let command = entry.command.subcommand(inner).map_or(entry.command, |(_, sub)| sub);
    if command.keys.is_empty() {
        return Err(Fault::text("ERR The command has no key arguments"));
    }
    if !command.fits(inner.len()) {
        return Err(Fault::text("ERR Invalid number of arguments specified for command"));
    }
    let mut positions = Vec::new();
    for spec in command.keys.iter().filter(|spec| !spec.flags.contains("not_key")) {
        let flags = exact_flags(command.name, spec, inner);
        spec.positions(inner, |at| positions.push((at, flags)));
    }
    if positions.is_empty() {
        return Err(Fault::text("ERR Invalid arguments specified for command"));
    }
    let mut reply = session.reply();
    reply.array(positions.len());
    for (at, flags) in positions {
        if with_flags {
            reply.array(2);
        }
        reply.bulk(inner.at(at));
        if with_flags {
            let flags: Vec<&str> = flags.split_whitespace().collect();
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
    }
    Ok(())
}

/// What a request does to its keys, where that depends on its arguments.
fn exact_flags(name: &str, spec: &KeySpec, request: Args<'_>) -> &'static str {
    let has = |word: &str| (2..request.len()).any(|at| request.is(at, word));
    match name {
        _ if !spec.flags.contains("variable_flags") => spec.flags,
        "set" if has("GET") => "RW access update",
        "set" => "OW update",
        "bitfield" if has("SET") || has("INCRBY") => "RW access update",
        "bitfield" => "RO access",
        _ => spec.flags,
    }
}

/// The ten fields of COMMAND INFO.
fn describe(reply: &mut Reply<'_>, parent: &str, command: &Command) {
    let name = full_name(parent, command);
    reply.array(10);
    reply.bulk(name.as_bytes());
    reply.integer(command.arity.into());
    let mut flags: Vec<&str> = command.flags.names().collect();
    if command.has_movable_keys() && !flags.contains(&"movablekeys") {
        flags.push("movablekeys");
    }
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
    let (first, last, step) = command.key_range();
    reply.integer(first.into());
    reply.integer(last.into());
    reply.integer(step.into());
    let categories = command.all_categories();
    reply.set(categories.len());
    for category in categories {
        reply.simple(category);
    }
    reply.array(command.tips.len());
    for tip in command.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.array(command.keys.len());
    for spec in command.keys {
        describe_keys(reply, spec);
    }
    reply.array(command.subcommands.len());
    for sub in command.subcommands {
        describe(reply, command.name, sub);
    }
}

fn full_name(parent: &str, command: &Command) -> String {
    if parent.is_empty() { command.name.to_owned() } else { format!("{parent}|{}", command.name) }
}

fn describe_keys(reply: &mut Reply<'_>, spec: &KeySpec) {
    let number = |reply: &mut Reply<'_>, name: &str, value: i32| {
        reply.bulk(name.as_bytes());
        reply.integer(value.into());
    };
    reply.map(3);
    reply.bulk(b"flags");
    let flags: Vec<&str> = spec.flags.split_whitespace().collect();
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    match spec.begin {
        Begin::Index(at) => {
            reply.bulk(b"index");
            reply.bulk(b"spec");
            reply.map(1);
            number(reply, "index", at);
        }
        Begin::Keyword(word, from) => {
            reply.bulk(b"keyword");
            reply.bulk(b"spec");
            reply.map(2);
            reply.bulk(b"keyword");
            reply.bulk(word.as_bytes());
            number(reply, "startfrom", from);
        }
        Begin::LastOption(..) | Begin::Unknown => {
            reply.bulk(b"unknown");
            reply.bulk(b"spec");
            reply.map(0);
        }
    }
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    match spec.find {
        Find::Range { last, step, limit } => {
            reply.bulk(b"range");
            reply.bulk(b"spec");
            reply.map(3);
            number(reply, "lastkey", last);
            number(reply, "keystep", step);
            number(reply, "limit", limit);
        }
        Find::KeyNum { index, first, step } => {
            reply.bulk(b"keynum");
            reply.bulk(b"spec");
            reply.map(3);
            number(reply, "keynumidx", index);
            number(reply, "firstkey", first);
            number(reply, "keystep", step);
        }
        Find::Unknown => {
            reply.bulk(b"unknown");
            reply.bulk(b"spec");
            reply.map(0);
        }
    }
}

/// One entry of COMMAND DOCS.
fn document(reply: &mut Reply<'_>, parent: &str, command: &Command) {
    reply.bulk(full_name(parent, command).as_bytes());
    let subs = command.subcommands;
    // A test reads all usage lines.
    let arguments = docs::arguments(command.usage).unwrap_or_default();
    reply.map(4 + usize::from(!subs.is_empty()) + usize::from(!arguments.is_empty()));
    for (name, value) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        reply.array(arguments.len());
        let mut key_spec = 0;
        arguments.iter().for_each(|argument| argument.write(reply, &mut key_spec));
    }
    if !subs.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subs.len());
        for sub in subs {
            document(reply, command.name, sub);
        }
    }
}
