//! The commands of replication: REPLICAOF, ROLE, FAILOVER, WAIT for people and tools; PSYNC, SYNC and REPLCONF for
//! replicas. What they set going, `replication` knows.

use larder_cluster::replication::{Answer, Follower, SyncRequest};
use larder_commands::{Args, Command, Fault, Flags, Group};

use super::{ControlCommand, Session};
use crate::log::notice;
use crate::replication::failover::{self, Wanted};
use crate::replication::waiting::{self, Wish};
use crate::replication::{LinkState, Primary, roles, show};
use crate::shared::now;

const BASE: Command = Command { ..Command::control(Group::Server) };
const ADMIN: Flags = Flags::ADMIN.or(Flags::NOSCRIPT);
const SYNC: Flags = ADMIN.or(Flags::NO_ASYNC_LOADING).or(Flags::NO_MULTI);
const WAITS: Flags = Flags::BLOCKING.or(Flags::APART);
const FOLLOW: Command = Command {
    arity: 3,
    flags: ADMIN.or(Flags::NO_ASYNC_LOADING).or(Flags::STALE),
    summary: "Follows a primary, or ends that.",
    usage: "<host port | NO ONE>",
    ..BASE
};

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[
    ControlCommand::exclusive(Command { name: "replicaof", since: "5.0.0", ..FOLLOW }, replica_of),
    ControlCommand::exclusive(Command { name: "slaveof", ..FOLLOW }, replica_of),
    ControlCommand::new(
        Command {
            name: "role",
            since: "2.8.12",
            flags: Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST),
            categories: &["@admin", "@dangerous"],
            summary: "The part that this server plays in replication.",
            ..BASE
        },
        |session, _| {
            let server = session.turn.server;
            show::role(server, &mut session.reply());
            Ok(())
        },
    ),
    ControlCommand::exclusive(
        Command {
            name: "failover",
            arity: -1,
            since: "6.2.0",
            flags: ADMIN.or(Flags::STALE),
            summary: "Hands the primary's part over to a replica that has everything.",
            usage: "[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
            ..BASE
        },
        failover_command,
    ),
    ControlCommand::exclusive(
        Command {
            name: "psync",
            arity: -3,
            since: "2.8.0",
            flags: SYNC,
            summary: "For replicas: goes on from a point of a history, or sends all data.",
            usage: "replicationid offset [FAILOVER]",
            ..BASE
        },
        psync,
    ),
    ControlCommand::exclusive(
        Command { name: "sync", flags: SYNC, summary: "For old replicas: sends all data.", ..BASE },
        psync,
    ),
    ControlCommand::new(
        Command {
            name: "replconf",
            arity: -1,
            since: "3.0.0",
            flags: ADMIN.or(Flags::LOADING).or(Flags::STALE).or(Flags::ALLOW_BUSY),
            summary: "For replicas: what they are, and how far.",
            usage: "option value [option value ...]",
            ..BASE
        },
        replconf,
    ),
    ControlCommand::new(
        Command {
            name: "wait",
            arity: 3,
            since: "3.0.0",
            group: Group::Generic,
            flags: WAITS,
            categories: &["@connection"],
            summary: "Waits until so many replicas have applied what this connection wrote.",
            usage: "numreplicas timeout",
            ..BASE
        },
        wait,
    ),
    ControlCommand::new(
        Command {
            name: "waitaof",
            arity: 4,
            since: "7.2.0",
            group: Group::Generic,
            flags: WAITS,
            categories: &["@connection"],
            summary: "Waits until what this connection wrote is on disk, here and on so many replicas.",
            usage: "numlocal numreplicas timeout",
            ..BASE
        },
        wait_aof,
    ),
];

fn replica_of(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    let replication = &server.replication;
    if replication.failover.is_running() {
        return Err(Fault::text("ERR REPLICAOF not allowed while failing over."));
    }
    let peer = session.client.stream.peer().to_string();
    if args.is(1, "NO") && args.is(2, "ONE") {
        if replication.is_replica() {
            roles::lead(server);
            notice(&format!("MASTER MODE enabled (user request from {peer})"));
        }
        session.reply().ok();
        return Ok(());
    }
    if session.client.replica {
        return Err(Fault::text("ERR Command is not valid when client is a replica."));
    }
    let port = args.i64(2).map_err(|_| Fault::text("ERR Invalid master port"))?;
    let port = u16::try_from(port).map_err(|_| Fault::text("ERR Invalid master port"))?;
    let host = String::from_utf8_lossy(args.at(1)).into_owned();
    if host.is_empty() || host.contains([' ', '\r', '\n', '"', '\\']) {
        // It would not survive CONFIG REWRITE.
        return Err(Fault::text("ERR Invalid master host"));
    }
    let wanted = Primary { host, port };
    if replication.state().primary.as_ref() == Some(&wanted) {
        notice("REPLICAOF would result into synchronization with the primary we already follow");
        session.reply().simple("OK Already connected to specified master");
        return Ok(());
    }
    notice(&format!(
        "REPLICAOF {}:{} enabled (user request from {peer})",
        wanted.host, wanted.port
    ));
    match &mut session.others {
        Some(others) => roles::follow(server, others, wanted, false),
        None => roles::follow(server, &mut [], wanted, false),
    }
    session.reply().ok();
    Ok(())
}

fn failover_command(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let (mut target, mut timeout_ms, mut abort, mut force) = (None, None, false, false);
    let mut at = 1;
    while at < args.len() {
        if args.is(at, "TIMEOUT") && args.len() > at + 1 && timeout_ms.is_none() {
            let ms = args.i64(at + 1)?;
            if ms <= 0 {
                return Err(Fault::text("ERR FAILOVER timeout must be greater than 0"));
            }
            timeout_ms = Some(ms);
            at += 2;
        } else if args.is(at, "ABORT") && !abort {
            abort = true;
            at += 1;
        } else if args.is(at, "TO") && args.len() > at + 2 && target.is_none() {
            let host = String::from_utf8_lossy(args.at(at + 1)).into_owned();
            let port = args.i64(at + 2)?;
            let port = u16::try_from(port)
                .map_err(|_| Fault::text("ERR value is not an integer or out of range"))?;
            target = Some(Primary { host, port });
            at += 3;
        } else if args.is(at, "FORCE") && !force {
            force = true;
            at += 1;
        } else {
            return Err(Fault::SYNTAX);
        }
    }
    let server = session.turn.server;
    if abort {
        if args.len() > 2 {
            return Err(Fault::SYNTAX);
        }
        failover::abort(server)?;
    } else {
        failover::begin(server, Wanted { target, force, timeout_ms }, session.turn.now)?;
    }
    session.reply().ok();
    Ok(())
}

fn psync(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    let replication = &server.replication;
    let request = if args.is(0, "SYNC") || args.len() == 1 {
        SyncRequest::OLD
    } else {
        SyncRequest::parse(args.from(1)).map_err(|reason| {
            let peer = session.client.stream.peer();
            if reason != "ERR syntax error" {
                // Tools look for these words.
                notice(&format!("Replica {peer} asks for synchronization but with a wrong offset"));
            }
            Fault::text(reason)
        })?
    };
    if request.failover {
        if !replication.is_replica() {
            return Err(Fault::text("ERR PSYNC FAILOVER can't be sent to a master."));
        }
        let id = replication.state().lineage.id;
        if request.position.is_none_or(|position| position.id != id) {
            return Err(Fault::text("ERR PSYNC FAILOVER replid must match my replid."));
        }
        roles::lead(server);
        let peer = session.client.stream.peer().to_string();
        notice(&format!("MASTER MODE enabled (failover request from {peer})"));
    }
    {
        let state = replication.state();
        if state.primary.is_some() && state.link != LinkState::Connected {
            return Err(Fault::text("NOMASTERLINK Can't SYNC while not connected with my master"));
        }
    }
    let client = &mut *session.client;
    // Acknowledgements come on this connection, and nothing is answered any more.
    client.follower.get_or_insert_with(|| Box::new(Follower::new(session.turn.now)));
    client.wants_sync = Some(request);
    Ok(())
}

fn replconf(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let now = session.turn.now;
    let follower = session.client.follower.get_or_insert_with(|| Box::new(Follower::new(now)));
    match follower.replconf(now, args.from(1)) {
        Ok(Answer::Ok) => session.reply().ok(),
        Ok(Answer::Silence) => {}
        Err(text) => return Err(Fault::new(text)),
    }
    Ok(())
}

fn wait(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if session.turn.server.replication.is_replica() {
        return Err(Fault::text(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a \
             replica is configured to be writable (which is not the default) writes to replicas are just \
             local and are not propagated.",
        ));
    }
    let wanted = usize::try_from(args.i64(1)?).unwrap_or(0);
    let timeout = timeout_of(args, 2)?;
    begin_wait(session, args, Wish::Applied(wanted), timeout);
    Ok(())
}

fn wait_aof(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    const RANGE: Fault = Fault::text("ERR value is out of range, value must between 0 and 1");
    let local = args.i64(1)?;
    if !(0..=1).contains(&local) {
        return Err(RANGE);
    }
    let replicas = usize::try_from(args.i64(2)?)
        .map_err(|_| Fault::text("ERR value is out of range, must be positive"))?;
    let timeout = timeout_of(args, 3)?;
    let server = session.turn.server;
    if server.replication.is_replica() {
        return Err(Fault::text(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are \
             just local and are not propagated.",
        ));
    }
    if local > 0 && !server.aof.status().on {
        return Err(waiting::NO_LOG);
    }
    begin_wait(session, args, Wish::OnDisk { here: local > 0, replicas }, timeout);
    Ok(())
}

/// Milliseconds; 0 = as long as it takes.
fn timeout_of(args: Args<'_>, at: usize) -> Result<i64, Fault> {
    let timeout =
        args.i64(at).map_err(|_| Fault::text("ERR timeout is not an integer or out of range"))?;
    if timeout < 0 {
        return Err(Fault::text("ERR timeout is negative"));
    }
    if timeout > i64::MAX - now().0 {
        return Err(Fault::text("ERR timeout is out of range"));
    }
    Ok(timeout)
}

fn begin_wait(session: &mut Session<'_, '_, '_>, args: Args<'_>, wish: Wish, timeout: i64) {
    let server = session.turn.server;
    let offset = session.client.depends_on;
    let got = waiting::measure(server, offset, wish);
    // In the exclusive section it is part of a transaction, which waits for nothing.
    let entry = server.registry.find(args.at(0)).filter(|_| session.others.is_none());
    let (false, Some(entry)) = (waiting::is_enough(wish, got), entry) else {
        waiting::answer(&mut session.reply(), wish, got);
        return;
    };
    let deadline = (timeout > 0).then(|| session.turn.now.saturating_add(timeout));
    let waiter = super::waiter(session, entry, args, deadline);
    let waits = &server.replication.waits;
    waits.add(waiter, offset, wish);
    waits.ask(server, offset);
}
