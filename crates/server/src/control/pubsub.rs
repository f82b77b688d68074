//! SUBSCRIBE and its kin, PUBLISH, SPUBLISH and PUBSUB.

use larder_base::glob;
use larder_commands::{Args, Command, Fault, Flags, Group, KeySpec};

use super::{ControlCommand, Session, bad_subcommand, unknown_subcommand};
use crate::durability::record;
use crate::names::Names;
use crate::pubsub::{Address, Space};

const BASE: Command = Command {
    flags: Flags::PUBSUB.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    ..Command::control(Group::PubSub)
};

const fn listen(
    name: &'static str,
    arity: i32,
    since: &'static str,
    summary: &'static str,
    usage: &'static str,
) -> Command {
    Command {
        name,
        arity,
        since,
        summary,
        usage,
        complexity: "O(N) where N is the number of names",
        ..BASE
    }
}

const SHARD_KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, "not_key")];

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[
    ControlCommand::new(
        listen("subscribe", -2, "2.0.0", "Listens to channels.", "channel [channel ...]"),
        |session, args| subscribe(session, args, Space::Channel, "subscribe"),
    ),
    ControlCommand::new(
        listen(
            "psubscribe",
            -2,
            "2.0.0",
            "Listens to patterns of channels.",
            "pattern [pattern ...]",
        ),
        |session, args| subscribe(session, args, Space::Pattern, "psubscribe"),
    ),
    ControlCommand::new(
        Command {
            keys: SHARD_KEYS,
            ..listen(
                "ssubscribe",
                -2,
                "7.0.0",
                "Listens to shard channels.",
                "shardchannel [shardchannel ...]",
            )
        },
        |session, args| subscribe(session, args, Space::Shard, "ssubscribe"),
    ),
    ControlCommand::new(
        listen(
            "unsubscribe",
            -1,
            "2.0.0",
            "Stops listening to channels.",
            "[channel [channel ...]]",
        ),
        |session, args| unsubscribe(session, args, Space::Channel, "unsubscribe"),
    ),
    ControlCommand::new(
        listen(
            "punsubscribe",
            -1,
            "2.0.0",
            "Stops listening to patterns.",
            "[pattern [pattern ...]]",
        ),
        |session, args| unsubscribe(session, args, Space::Pattern, "punsubscribe"),
    ),
    ControlCommand::new(
        Command {
            keys: SHARD_KEYS,
            ..listen(
                "sunsubscribe",
                -1,
                "7.0.0",
                "Stops listening to shard channels.",
                "[shardchannel [shardchannel ...]]",
            )
        },
        |session, args| unsubscribe(session, args, Space::Shard, "sunsubscribe"),
    ),
    ControlCommand::new(
        Command {
            name: "publish",
            arity: 3,
            since: "2.0.0",
            flags: Flags::PUBSUB
                .or(Flags::LOADING)
                .or(Flags::STALE)
                .or(Flags::FAST)
                .or(Flags::MAY_REPLICATE),
            complexity: "O(N+M) where N is the number of clients on the channel and M of all patterns",
            summary: "Sends a message to a channel.",
            usage: "channel message",
            ..BASE
        },
        |session, args| {
            let count = session.turn.server.publish(args.at(1), args.at(2));
            record::record_message(&session.turn.server.journal, args);
            session.reply().count(count);
            Ok(())
        },
    ),
    ControlCommand::new(
        Command {
            name: "spublish",
            arity: 3,
            since: "7.0.0",
            keys: &[KeySpec::one(1, "not_key")],
            flags: Flags::PUBSUB
                .or(Flags::LOADING)
                .or(Flags::STALE)
                .or(Flags::FAST)
                .or(Flags::MAY_REPLICATE),
            complexity: "O(N) where N is the number of clients on the shard channel",
            summary: "Sends a message to a shard channel.",
            usage: "shardchannel message",
            ..BASE
        },
        |session, args| {
            let count = session.turn.server.publish_shard(args.at(1), args.at(2));
            record::record_message(&session.turn.server.journal, args);
            session.reply().count(count);
            Ok(())
        },
    ),
    ControlCommand::new(
        Command {
            name: "pubsub",
            arity: -2,
            since: "2.8.0",
            flags: Flags(0),
            complexity: "Depends on subcommand.",
            summary: "Asks about channels and listeners.",
            subcommands: PUBSUB,
            ..BASE
        },
        pubsub,
    ),
];

const SUB: Command = Command {
    flags: Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE),
    ..Command::control(Group::PubSub)
};

const PUBSUB: &[Command] = &[
    Command {
        flags: Flags::LOADING.or(Flags::STALE).or(Flags::APART),
        ..Command::help(Group::PubSub, "6.2.0")
    },
    Command {
        name: "channels",
        arity: -2,
        since: "2.8.0",
        summary: "Channels with listeners.",
        usage: "[pattern]",
        ..SUB
    },
    Command {
        name: "numsub",
        arity: -2,
        since: "2.8.0",
        summary: "Listeners per channel.",
        usage: "[channel [channel ...]]",
        ..SUB
    },
    Command {
        name: "numpat",
        arity: 2,
        since: "2.8.0",
        summary: "Number of patterns listened to.",
        ..SUB
    },
    Command {
        name: "shardchannels",
        arity: -2,
        since: "7.0.0",
        summary: "Shard channels with listeners.",
        usage: "[pattern]",
        ..SUB
    },
    Command {
        name: "shardnumsub",
        arity: -2,
        since: "7.0.0",
        summary: "Listeners per shard channel.",
        usage: "[shardchannel [shardchannel ...]]",
        ..SUB
    },
];

/// The number that a (un)subscribe reply tells: channels and patterns together, shard channels apart.
fn told_count(session: &Session<'_, '_, '_>, space: Space) -> usize {
    let [channels, patterns, shards] = &session.client.subscriptions;
    match space {
        Space::Shard => shards.len(),
        Space::Channel | Space::Pattern => channels.len() + patterns.len(),
    }
}

fn subscribe(
    session: &mut Session<'_, '_, '_>,
    args: Args<'_>,
    space: Space,
    word: &str,
) -> Result<(), Fault> {
    let who = Address { worker: session.turn.worker, token: session.token };
    for name in args.from(1) {
        let fresh = session
            .client
            .subscriptions
            .get_mut(space as usize)
            .is_some_and(|names| names.insert(name));
        if fresh {
            session.turn.server.pubsub.write().subscribe(space, name, who);
        }
        let count = told_count(session, space);
        let mut reply = session.reply();
        reply.push(3);
        reply.bulk(word.as_bytes());
        reply.bulk(name);
        reply.count(count);
    }
    Ok(())
}

fn unsubscribe(
    session: &mut Session<'_, '_, '_>,
    args: Args<'_>,
    space: Space,
    word: &str,
) -> Result<(), Fault> {
    let who = Address { worker: session.turn.worker, token: session.token };
    let names: Vec<Vec<u8>> = if args.len() > 1 {
        args.from(1).iter().map(|name| name.to_vec()).collect()
    } else {
        session
            .client
            .subscriptions
            .iter()
            .skip(space as usize)
            .take(1)
            .flat_map(Names::iter)
            .cloned()
            .collect()
    };
    if names.is_empty() {
        let count = told_count(session, space);
        let mut reply = session.reply();
        reply.push(3);
        reply.bulk(word.as_bytes());
        reply.null();
        reply.count(count);
        return Ok(());
    }
    for name in names {
        let had = session
            .client
            .subscriptions
            .get_mut(space as usize)
            .is_some_and(|names| names.remove(&name));
        if had {
            session.turn.server.pubsub.write().unsubscribe(space, &name, who);
        }
        let count = told_count(session, space);
        let mut reply = session.reply();
        reply.push(3);
        reply.bulk(word.as_bytes());
        reply.bulk(&name);
        reply.count(count);
    }
    Ok(())
}

fn pubsub(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let name = String::from_utf8_lossy(args.at(1)).to_ascii_lowercase();
    let Some(row) = PUBSUB.iter().find(|row| row.name == name) else {
        return Err(unknown_subcommand(args));
    };
    if !row.fits(args.len()) {
        return Err(Fault::arity(&format!("pubsub|{name}")));
    }
    if row.name.ends_with("channels") && args.len() > 3 {
        return Err(bad_subcommand(args));
    }
    let server = session.turn.server;
    let registry = server.pubsub.read();
    match row.name {
        "channels" | "shardchannels" => {
            let space = if row.name == "channels" { Space::Channel } else { Space::Shard };
            let fits =
                |name: &[u8]| args.get(2).is_none_or(|p| p == b"*" || glob::matches(p, name));
            let names: Vec<&[u8]> =
                registry.names(space).map(|(name, _)| name).filter(|name| fits(name)).collect();
            let mut reply = session.reply();
            reply.array(names.len());
            for name in names {
                reply.bulk(name);
            }
        }
        "numpat" => {
            let count = registry.names(Space::Pattern).count();
            session.reply().count(count);
        }
        _ => {
            let space = if row.name == "numsub" { Space::Channel } else { Space::Shard };
            let mut reply = session.reply();
            reply.array(2 * args.from(2).len());
            for name in args.from(2) {
                reply.bulk(name);
                reply.count(registry.listeners(space, name));
            }
        }
    }
    Ok(())
}
