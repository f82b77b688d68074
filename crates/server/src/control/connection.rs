//! Connection commands: PING, ECHO, AUTH, HELLO, SELECT, QUIT and RESET.

use larder_base::number;
use larder_commands::{Args, Command, Fault, Flags, Group};
use larder_protocol::reply::{Reply, Version};
use larder_store::DbIndex;

use super::{ControlCommand, Session};
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
    let config = session.turn.server.config();
    let wanted = config.requirepass.reveal().as_bytes();
    if user == b"default" && (wanted.is_empty() || same(password, wanted)) {
        session.client.authenticated = true;
        return Ok(());
    }
    session.turn.stats.refused_passwords += 1;
    session.client.wrong_passwords = session.client.wrong_passwords.saturating_add(1);
    if session.client.wrong_passwords >= larder_base::limits::WRONG_PASSWORDS_MAX {
        session.client.closing = true;
    }
    Err(Fault::text("WRONGPASS invalid username-password pair or user is disabled."))
}

fn auth(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    match args.len() {
        2 if session.turn.server.config().requirepass.is_empty() => {
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

/// Whether a connection may be called so.
pub fn valid_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// The name cannot be used.
pub const BAD_NAME: Fault =
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
    let config = session.turn.server.config();
    let zone = &config.availability_zone;
    let mut reply = session.reply();
    reply.map(if zone.is_empty() { 7 } else { 8 });
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
    if !zone.is_empty() {
        text(&mut reply, "availability_zone", zone);
    }
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
    client.no_evict = false;
    client.caching = None;
    if let Some(tracker) = client.tracker.take() {
        server.tracking.end(&tracker);
        server.observe();
    }
    if std::mem::take(&mut client.monitor) {
        server.monitors.remove(who);
    }
    client.authenticated = server.config().requirepass.is_empty();
    session.reply().simple("RESET");
    Ok(())
}
