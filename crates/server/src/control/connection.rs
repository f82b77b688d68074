//! Connection commands: PING, ECHO, AUTH, HELLO, SELECT, QUIT, RESET and CLIENT.

use larder_base::number;
use larder_commands::{Args, Command, Fault, Flags, Group};
use larder_protocol::reply::{Reply, Version};
use larder_store::DbIndex;

use super::{ControlCommand, Session, unknown_subcommand};
use crate::client::ReplyMode;
use crate::pubsub::{Address, Space};
use crate::transactions;

const BASE: Command = Command {
    flags: Flags::NOSCRIPT
        .or(Flags::LOADING)
        .or(Flags::STALE)
        .or(Flags::FAST)
        .or(Flags::NO_AUTH)
        .or(Flags::ALLOW_BUSY),
    ..Command::control(Group::Connection)
};

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[
    ControlCommand::new(
        Command {
            name: "ping",
            arity: -1,
            flags: Flags::FAST,
            summary: "Answers, to show that the server is there.",
            usage: "[message]",
            ..BASE
        },
        ping,
    ),
    ControlCommand::new(
        Command {
            name: "echo",
            arity: 2,
            flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
            summary: "Answers the given text.",
            usage: "message",
            ..BASE
        },
        echo,
    ),
    ControlCommand::new(
        Command {
            name: "auth",
            arity: -2,
            complexity: "O(N) where N is the number of passwords of the user",
            summary: "Authenticates the connection.",
            usage: "[username] password",
            ..BASE
        },
        auth,
    ),
    ControlCommand::new(
        Command {
            name: "hello",
            arity: -1,
            since: "6.0.0",
            summary: "Chooses the protocol version, and may authenticate and name the connection.",
            usage: "[protover [AUTH username password] [SETNAME clientname]]",
            ..BASE
        },
        hello,
    ),
    ControlCommand::new(
        Command {
            name: "select",
            arity: 2,
            flags: Flags::LOADING.or(Flags::STALE).or(Flags::FAST),
            summary: "Chooses the database of the connection.",
            usage: "index",
            ..BASE
        },
        select,
    ),
    ControlCommand::new(
        Command { name: "quit", arity: -1, summary: "Closes the connection.", ..BASE },
        quit,
    ),
    ControlCommand::new(
        Command {
            name: "reset",
            since: "6.2.0",
            summary: "Brings the connection back to its first state.",
            ..BASE
        },
        reset,
    ),
    ControlCommand::exclusive(
        Command {
            name: "client",
            arity: -2,
            since: "2.4.0",
            flags: Flags(0),
            complexity: "Depends on subcommand.",
            summary: "Asks about connections and changes them.",
            subcommands: CLIENT,
            ..BASE
        },
        client,
    ),
];

const SUB: Command = Command {
    flags: Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE),
    ..Command::control(Group::Connection)
};

const ADMIN: Command = Command {
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    ..Command::control(Group::Connection)
};

const CLIENT: &[Command] = &[
    Command { name: "id", arity: 2, since: "5.0.0", summary: "Number of this connection.", ..SUB },
    Command {
        name: "info",
        arity: 2,
        since: "6.2.0",
        summary: "Describes this connection.",
        ..SUB
    },
    Command {
        name: "getname",
        arity: 2,
        since: "2.6.9",
        summary: "Name of this connection.",
        ..SUB
    },
    Command {
        name: "setname",
        arity: 3,
        since: "2.6.9",
        summary: "Names this connection.",
        usage: "connection-name",
        ..SUB
    },
    Command {
        name: "setinfo",
        arity: 4,
        since: "7.2.0",
        summary: "Tells the server which library talks to it.",
        usage: "<LIB-NAME libname | LIB-VER libver>",
        ..SUB
    },
    Command {
        name: "list",
        arity: -2,
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Lists the connections.",
        ..ADMIN
    },
    Command {
        name: "kill",
        arity: -3,
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Closes connections.",
        ..ADMIN
    },
    Command {
        name: "reply",
        arity: 3,
        since: "3.2.0",
        summary: "Chooses which replies the connection gets.",
        usage: "<ON | OFF | SKIP>",
        ..SUB
    },
    Command {
        name: "no-touch",
        arity: 3,
        since: "7.2.0",
        summary: "Chooses whether reads count as uses for eviction.",
        usage: "<ON | OFF>",
        ..SUB
    },
    Command {
        name: "unblock",
        arity: -3,
        since: "5.0.0",
        complexity: "O(log N) where N is the number of client connections",
        summary: "Ends the wait of a blocked connection.",
        usage: "client-id [TIMEOUT | ERROR]",
        ..ADMIN
    },
];

fn ping(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if args.len() > 2 {
        return Err(Fault::arity("ping"));
    }
    let subscribed =
        session.client.version == Version::Resp2 && session.client.subscription_count() > 0;
    let mut reply = session.reply();
    match (subscribed, args.get(1)) {
        (true, text) => {
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(text.unwrap_or(b""));
        }
        (false, Some(text)) => reply.bulk(text),
        (false, None) => reply.simple("PONG"),
    }
    Ok(())
}

fn echo(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    session.reply().bulk(args.at(1));
    Ok(())
}

/// Compares without telling by its time how much of the password was right.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let mut difference = given.len() ^ wanted.len();
    for (at, byte) in given.iter().enumerate() {
        difference |= usize::from(byte ^ wanted.get(at).copied().unwrap_or(0));
    }
    difference == 0
}

fn authenticate(
    session: &mut Session<'_, '_, '_>,
    user: &[u8],
    password: &[u8],
) -> Result<(), Fault> {
    let options = session.turn.server.options.read();
    let open = options.requirepass.is_empty();
    if user == b"default" && (open || same(password, options.requirepass.as_bytes())) {
        drop(options);
        session.client.authenticated = true;
        return Ok(());
    }
    Err(Fault::text("WRONGPASS invalid username-password pair or user is disabled."))
}

fn auth(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    match args.len() {
        2 if session.turn.server.options.read().requirepass.is_empty() => {
            return Err(Fault::text(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => authenticate(session, b"default", args.at(1))?,
        3 => authenticate(session, args.at(1), args.at(2))?,
        _ => return Err(Fault::SYNTAX),
    }
    session.reply().ok();
    Ok(())
}

fn valid_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

const BAD_NAME: Fault =
    Fault::text("ERR Client names cannot contain spaces, newlines or special characters.");

fn hello(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let mut version = session.client.version;
    if args.len() > 1 {
        let wanted = number::parse_i64(args.at(1))
            .ok_or(Fault::text("ERR Protocol version is not an integer or out of range"))?;
        version = match wanted {
            2 => Version::Resp2,
            3 => Version::Resp3,
            _ => return Err(Fault::text("NOPROTO unsupported protocol version")),
        };
    }
    let mut name = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "AUTH") && at + 2 < args.len() {
            authenticate(session, args.at(at + 1), args.at(at + 2))?;
            at += 3;
        } else if args.is(at, "SETNAME") && at + 1 < args.len() {
            if !valid_name(args.at(at + 1)) {
                return Err(BAD_NAME);
            }
            name = Some(args.at(at + 1).to_vec());
            at += 2;
        } else {
            let option = String::from_utf8_lossy(args.at(at)).into_owned();
            return Err(Fault::new(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if !session.client.authenticated {
        return Err(Fault::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
             <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
             RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        session.client.name = name;
    }
    session.client.version = version;
    let id = session.client.id;
    let mut reply = session.reply();
    reply.map(7);
    let text = |reply: &mut Reply<'_>, name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text(&mut reply, "server", "redis");
    text(&mut reply, "version", super::server::REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(if version == Version::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(i64::try_from(id).unwrap_or(i64::MAX));
    text(&mut reply, "mode", "standalone");
    text(&mut reply, "role", "master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn select(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let index = args.i64(1)?;
    let count = session.turn.server.keyspace.databases();
    match u8::try_from(index) {
        Ok(db) if usize::from(db) < count => session.client.db = DbIndex(db),
        _ => return Err(Fault::text("ERR DB index is out of range")),
    }
    session.reply().ok();
    Ok(())
}

fn quit(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    session.reply().ok();
    session.client.closing = true;
    Ok(())
}

fn reset(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    let who = Address { worker: session.turn.worker, token: session.token };
    let client = &mut *session.client;
    client.multi = None;
    transactions::forget_watches(server, client);
    let mut pubsub = server.pubsub.write();
    for (space, names) in
        [Space::Channel, Space::Pattern, Space::Shard].into_iter().zip(&mut client.subscriptions)
    {
        for name in names.drain() {
            pubsub.unsubscribe(space, &name, who);
        }
    }
    drop(pubsub);
    client.db = DbIndex(0);
    client.version = Version::Resp2;
    client.name.clear();
    client.reply_mode = ReplyMode::On;
    client.no_touch = false;
    client.authenticated = server.options.read().requirepass.is_empty();
    session.reply().simple("RESET");
    Ok(())
}

fn client(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let name = String::from_utf8_lossy(args.at(1)).to_ascii_lowercase();
    let Some(row) = CLIENT.iter().find(|row| row.name == name) else {
        return Err(unknown_subcommand(args));
    };
    if !row.fits(args.len()) {
        return Err(Fault::arity(&format!("client|{name}")));
    }
    match row.name {
        "id" => {
            let id = i64::try_from(session.client.id).unwrap_or(i64::MAX);
            session.reply().integer(id);
        }
        "info" => {
            let line = session.client.describe(session.turn.now) + "\n";
            session.reply().verbatim(line.as_bytes());
        }
        "getname" => {
            let name = session.client.name.clone();
            if name.is_empty() { session.reply().null() } else { session.reply().bulk(&name) }
        }
        "setname" => {
            if !valid_name(args.at(2)) {
                return Err(BAD_NAME);
            }
            session.client.name = args.at(2).to_vec();
            session.reply().ok();
        }
        "setinfo" => set_info(session, args)?,
        "list" => list(session),
        "kill" => kill(session, args)?,
        "reply" => reply_mode(session, args)?,
        "no-touch" => {
            session.client.no_touch = on_off(args)?;
            session.reply().ok();
        }
        _ => unblock(session, args)?,
    }
    Ok(())
}

fn on_off(args: Args<'_>) -> Result<bool, Fault> {
    match (args.is(2, "ON"), args.is(2, "OFF")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(Fault::SYNTAX),
    }
}

fn set_info(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let (name, value) = (args.at(2), args.at(3));
    let field = if args.is(2, "LIB-NAME") {
        &mut session.client.lib.0
    } else if args.is(2, "LIB-VER") {
        &mut session.client.lib.1
    } else {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(Fault::new(format!("ERR Unrecognized option '{name}'")));
    };
    if !valid_name(value) {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(Fault::new(format!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    *field = value.to_vec();
    session.reply().ok();
    Ok(())
}

fn list(session: &mut Session<'_, '_, '_>) {
    let now = session.turn.now;
    let mut lines = vec![(session.client.id, session.client.describe(now))];
    if let Some(others) = &session.others {
        let clients = others.iter().flat_map(|state| &state.clients);
        lines.extend(
            clients.filter_map(|seat| seat.client.as_ref()).map(|c| (c.id, c.describe(now))),
        );
    }
    lines.sort();
    let mut text = String::new();
    for (_, line) in lines {
        text.push_str(&line);
        text.push('\n');
    }
    session.reply().verbatim(text.as_bytes());
}

fn kill(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let old_form = args.len() == 3;
    let (mut id, mut addr, mut laddr, mut skip_me) = (None, None, None, !old_form);
    if old_form {
        addr = Some(args.at(2));
    } else {
        let mut at = 2;
        while at < args.len() {
            if at + 1 >= args.len() {
                return Err(Fault::SYNTAX);
            }
            if args.is(at, "ID") {
                let wanted = number::parse_i64(args.at(at + 1)).filter(|id| *id > 0);
                id = Some(wanted.ok_or(Fault::text("ERR client-id should be greater than 0"))?);
            } else if args.is(at, "ADDR") {
                addr = args.get(at + 1);
            } else if args.is(at, "LADDR") {
                laddr = args.get(at + 1);
            } else if args.is(at, "SKIPME") {
                skip_me = match (args.is(at + 1, "yes"), args.is(at + 1, "no")) {
                    (true, _) => true,
                    (_, true) => false,
                    _ => return Err(Fault::SYNTAX),
                };
            } else {
                return Err(Fault::SYNTAX);
            }
            at += 2;
        }
    }
    let fits = |client: &crate::client::Client| {
        id.is_none_or(|id| i64::try_from(client.id).is_ok_and(|own| own == id))
            && addr.is_none_or(|addr| client.stream.peer().to_string().as_bytes() == addr)
            && laddr.is_none_or(|laddr| client.stream.local().as_bytes() == laddr)
    };
    let mut killed = 0;
    if let Some(others) = &mut session.others {
        for (worker, state) in others.iter_mut().enumerate() {
            for (at, seat) in state.clients.iter_mut().enumerate() {
                let generation = seat.generation();
                if let Some(client) = seat.client.as_mut().filter(|client| fits(client)) {
                    client.closing = true;
                    let token = u64::from(generation) << 32 | at as u64;
                    session.turn.server.post(worker, crate::shared::Letter::Close(token));
                    killed += 1;
                }
            }
        }
    }
    if !skip_me && fits(session.client) {
        session.client.closing = true;
        killed += 1;
    }
    match (old_form, killed) {
        (true, 0) => return Err(Fault::text("ERR No such client")),
        (true, _) => session.reply().ok(),
        (false, count) => session.reply().integer(count),
    }
    Ok(())
}

fn reply_mode(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if args.is(2, "ON") {
        session.client.reply_mode = ReplyMode::On;
        session.reply().ok();
    } else if args.is(2, "OFF") {
        session.client.reply_mode = ReplyMode::Off;
    } else if args.is(2, "SKIP") {
        if session.client.reply_mode == ReplyMode::On {
            session.client.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(Fault::SYNTAX);
    }
    Ok(())
}

fn unblock(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let wanted = args.i64(2)?;
    let error = match (args.len(), args.is(3, "ERROR"), args.is(3, "TIMEOUT")) {
        (3, ..) | (4, _, true) => false,
        (4, true, _) => true,
        _ => {
            return Err(Fault::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
    };
    let server = session.turn.server;
    let mut count = 0;
    if let Some(others) = &session.others {
        for client in
            others.iter().flat_map(|state| &state.clients).filter_map(|seat| seat.client.as_ref())
        {
            let Some(waiter) = &client.waiting else { continue };
            if i64::try_from(client.id).is_ok_and(|id| id == wanted) && waiter.end() {
                server.blocked.remove(waiter);
                let mut out = Vec::new();
                let mut reply = Reply::new(&mut out, client.version);
                if error {
                    reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK");
                } else {
                    reply.null_array();
                }
                let Address { worker, token } = waiter.address;
                server.post(worker, crate::shared::Letter::Served(token, out));
                count += 1;
            }
        }
    }
    session.reply().integer(count);
    Ok(())
}
