//! CLIENT and its subcommands: what connections are, and what one may do to others. Those that look at
//! others run in the exclusive section.

mod filter;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_commands::{Args, Command, Fault, Flags, Group};
use larder_protocol::reply::Reply;

use self::filter::Filter;
use super::connection::{BAD_NAME, valid_name};
use super::{ControlCommand, Session, named};
use crate::client::{Client, ReplyMode};
use crate::pubsub::Address;
use crate::replication::replicas::Replica;
use crate::shared::Server;
use crate::tracking::{Mode, Prefixes, Tracker};

/// The row.
pub const COMMANDS: &[ControlCommand] = &[ControlCommand::sometimes_exclusive(
    Command {
        name: "client",
        arity: -2,
        since: "2.4.0",
        complexity: "Depends on subcommand.",
        summary: "Asks about connections and changes them.",
        subcommands: CLIENT,
        ..Command::control(Group::Connection)
    },
    client,
    looks_at_others,
)];

/// Requests that look at other connections; libraries send the rest of them whenever they connect, and
/// nobody is to be stopped for those.
fn looks_at_others(args: Args<'_>) -> bool {
    let redirects = || (3..args.len()).any(|at| args.is(at, "REDIRECT"));
    ["LIST", "KILL", "UNBLOCK", "PAUSE"].iter().any(|name| args.is(1, name))
        || (args.is(1, "TRACKING") && redirects())
}

const SUB: Command = Command {
    flags: Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE),
    ..Command::control(Group::Connection)
};

const ADMIN: Command = Command {
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    ..Command::control(Group::Connection)
};

/// Every condition may also be asked for in the contrary: `NOT-ID`, `NOT-TYPE` and so on.
const LIST_USAGE: &str = "[ID client-id [client-id ...]] [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] \
    [USER username] [ADDR ip:port] [LADDR ip:port] [IP ip] [SKIPME <YES | NO>] [MAXAGE seconds] \
    [IDLE seconds] [NAME name] [FLAGS flags] [LIB-NAME name] [LIB-VER version] [DB db] [CAPA letters]";
const KILL_USAGE: &str = "<ip:port | [ID client-id [client-id ...]] \
    [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [USER username] [ADDR ip:port] [LADDR ip:port] [IP ip] \
    [SKIPME <YES | NO>] [MAXAGE seconds] [IDLE seconds] [NAME name] [FLAGS flags] [LIB-NAME name] \
    [LIB-VER version] [DB db] [CAPA letters]>";

const CLIENT: &[Command] = &[
    Command::help(Group::Connection, "5.0.0"),
    Command {
        name: "caching",
        arity: 3,
        since: "6.0.0",
        summary: "Chooses whether the keys of the next command are tracked.",
        usage: "<YES | NO>",
        ..SUB
    },
    Command {
        name: "capa",
        arity: -3,
        since: "8.0.0",
        summary: "Tells the server what the client is able to do.",
        usage: "capability [capability ...]",
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
        name: "getredir",
        arity: 2,
        since: "6.0.0",
        summary: "Where invalidations of this connection go.",
        ..SUB
    },
    Command { name: "id", arity: 2, since: "5.0.0", summary: "Number of this connection.", ..SUB },
    Command {
        name: "import-source",
        arity: 3,
        since: "8.1.0",
        summary: "Marks this connection as one that imports keys from another server.",
        usage: "<ON | OFF>",
        ..SUB
    },
    Command {
        name: "info",
        arity: 2,
        since: "6.2.0",
        summary: "Describes this connection.",
        ..SUB
    },
    Command {
        name: "kill",
        arity: -3,
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Closes connections.",
        usage: KILL_USAGE,
        ..ADMIN
    },
    Command {
        name: "list",
        arity: -2,
        since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Lists the connections.",
        usage: LIST_USAGE,
        ..ADMIN
    },
    Command {
        name: "no-evict",
        arity: 3,
        since: "7.0.0",
        summary: "Chooses whether this connection is spared when memory for connections runs out.",
        usage: "<ON | OFF>",
        ..ADMIN
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
        name: "pause",
        arity: -3,
        since: "2.9.50",
        summary: "Holds commands back for a time.",
        usage: "timeout [WRITE | ALL]",
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
        name: "setinfo",
        arity: 4,
        since: "7.2.0",
        summary: "Tells the server which library talks to it.",
        usage: "<LIB-NAME libname | LIB-VER libver>",
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
        name: "tracking",
        arity: -3,
        since: "6.0.0",
        complexity: "O(1). Some options may introduce additional complexity.",
        summary: "Chooses whether the server tells when keys change that this connection caches.",
        usage: "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        ..SUB
    },
    Command {
        name: "trackinginfo",
        arity: 2,
        since: "6.2.0",
        summary: "How this connection tracks keys.",
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
    Command {
        name: "unpause",
        arity: 2,
        since: "6.2.0",
        complexity: "O(N) Where N is the number of paused clients",
        summary: "Lets commands go on.",
        ..ADMIN
    },
];

fn client(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    match named(args, CLIENT) {
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
        "list" => list(session, args)?,
        "no-evict" => {
            session.client.no_evict = on_off(args)?;
            session.reply().ok();
        }
        "pause" => pause(session, args)?,
        "unpause" => {
            // The pause of a hand-over is not a client's to end.
            if !session.turn.server.replication.failover.is_running() {
                session.turn.server.set_pause(None);
            }
            session.reply().ok();
        }
        "tracking" => tracking(session, args)?,
        "trackinginfo" => tracking_info(session),
        "caching" => caching(session, args)?,
        "getredir" => {
            let redirect = match &session.client.tracker {
                None => -1,
                Some(tracker) => tracker.redirect.map_or(0, |(id, _)| to_i64(id)),
            };
            session.reply().integer(redirect);
        }
        "kill" => kill(session, args)?,
        "capa" => {
            // Capabilities that are not known yet are passed over, so that newer clients may name them.
            if (2..args.len()).any(|at| args.is(at, "REDIRECT")) {
                session.client.redirects = true;
            }
            session.reply().ok();
        }
        "import-source" => {
            if on_off(args)? {
                return Err(Fault::text("ERR Server is not in import mode"));
            }
            session.reply().ok();
        }
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

fn list(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let filter = Filter::for_list(args)?;
    let now = session.turn.now;
    let own = Some(&*session.client).filter(|_| !filter.skip_me);
    let others = session.others.iter().flat_map(|others| others.iter());
    let others = others.flat_map(|state| &state.clients).filter_map(|seat| seat.client.as_deref());
    let others = others.filter(|client| !client.evicted);
    let (replicas, primary) = links(session.turn.server);
    let links = replicas.iter().map(|replica| &replica.client).chain(primary.as_deref());
    let mut chosen: Vec<&Client> = own
        .into_iter()
        .chain(others)
        .chain(links)
        .filter(|client| filter.has(client, now))
        .collect();
    chosen.sort_by_key(|client| client.id);
    let mut text = String::new();
    for client in chosen {
        text.push_str(&client.describe(now));
        text.push('\n');
    }
    session.reply().verbatim(text.as_bytes());
    Ok(())
}

/// The connections of replication, which no worker has.
fn links(server: &Server) -> (Vec<Arc<Replica>>, Option<Arc<Client>>) {
    (server.replication.replicas.all(), server.replication.state().peer.clone())
}

fn kill(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let old_form = args.len() == 3;
    let filter = if old_form { Filter::address(args.at(2)) } else { Filter::for_kill(args)? };
    let now = session.turn.now;
    let mut killed = 0;
    if let Some(others) = &mut session.others {
        for (worker, state) in others.iter_mut().enumerate() {
            for (at, seat) in state.clients.iter_mut().enumerate() {
                let generation = seat.generation();
                if let Some(client) =
                    seat.client.as_mut().filter(|c| !c.closing && filter.has(c, now))
                {
                    client.closing = true;
                    let token = u64::from(generation) << 32 | at as u64;
                    session.turn.server.post(worker, crate::shared::Letter::Close(token));
                    killed += 1;
                }
            }
        }
    }
    let (replicas, primary) = links(session.turn.server);
    for replica in replicas.iter().filter(|replica| filter.has(&replica.client, now)) {
        replica.close();
        killed += 1;
    }
    if let Some(primary) = primary.filter(|primary| filter.has(primary, now)) {
        primary.stream.shutdown();
        killed += 1;
    }
    if !filter.skip_me && filter.has(session.client, now) {
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

fn to_i64(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn pause(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if args.len() > 4 {
        return Err(super::bad_subcommand(args));
    }
    let only_writes = match (args.len(), args.is(3, "WRITE"), args.is(3, "ALL")) {
        (3, ..) | (4, _, true) => false,
        (4, true, _) => true,
        _ => return Err(Fault::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let wanted =
        args.i64(2).map_err(|_| Fault::text("ERR timeout is not an integer or out of range"))?;
    if wanted < 0 {
        return Err(Fault::text("ERR timeout is negative"));
    }
    let server = session.turn.server;
    let mut until = session.turn.now.saturating_add(wanted);
    let mut mode = only_writes;
    let before = *server.pause.lock();
    // A pause that lasts longer, or holds more back, is not weakened by another.
    if let Some((running, weaker)) = before
        && running > session.turn.now
    {
        until = until.max(running);
        mode = mode && weaker;
    }
    server.set_pause(Some((until, mode)));
    session.reply().ok();
    Ok(())
}

/// Where the connection of a number is.
fn address_of(session: &Session<'_, '_, '_>, id: i64) -> Option<Address> {
    if to_i64(session.client.id) == id {
        return Some(Address { worker: session.turn.worker, token: session.token });
    }
    for (worker, state) in session.others.iter().flat_map(|others| others.iter()).enumerate() {
        for (at, seat) in state.clients.iter().enumerate() {
            if seat.client.as_ref().is_some_and(|client| to_i64(client.id) == id) {
                return Some(Address {
                    worker,
                    token: u64::from(seat.generation()) << 32 | at as u64,
                });
            }
        }
    }
    None
}

/// Options of CLIENT TRACKING.
#[derive(Default)]
struct Wishes {
    redirect: Option<(u64, Address)>,
    prefixes: Vec<Vec<u8>>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
}

fn wishes(session: &Session<'_, '_, '_>, args: Args<'_>) -> Result<Wishes, Fault> {
    let mut wishes = Wishes::default();
    let mut at = 3;
    while at < args.len() {
        let value = args.get(at + 1);
        if args.is(at, "REDIRECT") && value.is_some() {
            if wishes.redirect.is_some() {
                return Err(Fault::text("ERR A client can only redirect to a single other client"));
            }
            let id = args.i64(at + 1)?;
            let target = address_of(session, id)
                .ok_or(Fault::text("ERR The client ID you want redirect to does not exist"))?;
            wishes.redirect = Some((u64::try_from(id).unwrap_or(0), target));
            at += 1;
        } else if args.is(at, "BCAST") {
            wishes.broadcast = true;
        } else if args.is(at, "OPTIN") {
            wishes.opt_in = true;
        } else if args.is(at, "OPTOUT") {
            wishes.opt_out = true;
        } else if args.is(at, "NOLOOP") {
            wishes.noloop = true;
        } else if let (true, Some(prefix)) = (args.is(at, "PREFIX"), value) {
            wishes.prefixes.push(prefix.to_vec());
            at += 1;
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 1;
    }
    Ok(wishes)
}

fn tracking(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let wishes = wishes(session, args)?;
    let server = session.turn.server;
    if args.is(2, "OFF") {
        if let Some(tracker) = session.client.tracker.take() {
            server.tracking.end(&tracker);
            server.observe();
        }
        session.client.caching = None;
        session.reply().ok();
        return Ok(());
    }
    if !args.is(2, "ON") {
        return Err(Fault::SYNTAX);
    }
    if !wishes.broadcast && !wishes.prefixes.is_empty() {
        return Err(Fault::text("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if (wishes.opt_in || wishes.opt_out) && wishes.broadcast {
        return Err(Fault::text("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if wishes.opt_in && wishes.opt_out {
        return Err(Fault::text("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    let mode = match (wishes.broadcast, wishes.opt_in, wishes.opt_out) {
        (true, ..) => Mode::Broadcast,
        (_, true, _) => Mode::OptIn,
        (_, _, true) => Mode::OptOut,
        _ => Mode::Read,
    };
    if let Some(old) = &session.client.tracker {
        if (old.mode == Mode::Broadcast) != wishes.broadcast {
            return Err(Fault::text(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and \
                 then re-enabling it with a different mode.",
            ));
        }
        if (old.mode == Mode::OptIn && wishes.opt_out)
            || (old.mode == Mode::OptOut && wishes.opt_in)
        {
            return Err(Fault::text(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and \
                 then re-enabling it with a different mode.",
            ));
        }
    }
    let old = session.client.tracker.as_ref().map_or(&[][..], |old| old.prefixes.all());
    let prefixes = merged(wishes.broadcast, wishes.prefixes, old)?;
    let tracker = Arc::new(Tracker {
        owner: Address { worker: session.turn.worker, token: session.token },
        id: session.client.id,
        redirect: wishes.redirect,
        mode,
        noloop: wishes.noloop,
        prefixes: Prefixes::new(prefixes),
        ended: AtomicBool::new(false),
        broken: AtomicBool::new(false),
    });
    server.tracking.begin(Arc::clone(&tracker));
    if let Some(old) = session.client.tracker.replace(tracker) {
        server.tracking.end(&old);
    }
    server.observe();
    session.reply().ok();
    Ok(())
}

/// The prefixes that a connection has with those that it names now, in their order.
fn merged(
    broadcast: bool,
    mut fresh: Vec<Vec<u8>>,
    old: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, Fault> {
    let mut all = old.to_vec();
    all.retain(|prefix| !fresh.contains(prefix));
    check_prefixes(&fresh, &all)?;
    // Without a prefix it is the empty one, which every key begins with.
    if broadcast && fresh.is_empty() && !all.iter().any(Vec::is_empty) {
        fresh.push(Vec::new());
    }
    all.append(&mut fresh);
    all.sort_unstable();
    Ok(all)
}

/// Prefixes of one connection must not overlap: it would be told twice.
fn check_prefixes(fresh: &[Vec<u8>], old: &[Vec<u8>]) -> Result<(), Fault> {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    for (at, prefix) in fresh.iter().enumerate() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Some(other) = old.iter().find(|other| overlap(prefix, other)) {
            return Err(Fault::new(format!(
                "ERR Prefix '{}' overlaps with an existing prefix '{}'. Prefixes for a single client must not overlap.",
                text(prefix),
                text(other)
            )));
        }
        if let Some(other) = fresh.iter().skip(at + 1).find(|other| overlap(prefix, other)) {
            return Err(Fault::new(format!(
                "ERR Prefix '{}' overlaps with another provided prefix '{}'. Prefixes for a single client must not overlap.",
                text(prefix),
                text(other)
            )));
        }
    }
    Ok(())
}

fn tracking_info(session: &mut Session<'_, '_, '_>) {
    let tracker = session.client.tracker.clone();
    let caching = session.client.caching;
    let mut flags = Vec::new();
    match &tracker {
        None => flags.push("off"),
        Some(tracker) => {
            flags.push("on");
            match tracker.mode {
                Mode::Read => {}
                Mode::Broadcast => flags.push("bcast"),
                Mode::OptIn => flags.push("optin"),
                Mode::OptOut => flags.push("optout"),
            }
            match (tracker.mode, caching) {
                (Mode::OptIn, Some(true)) => flags.push("caching-yes"),
                (Mode::OptOut, Some(false)) => flags.push("caching-no"),
                _ => {}
            }
            if tracker.noloop {
                flags.push("noloop");
            }
            if tracker.broken.load(Ordering::Acquire) {
                flags.push("broken_redirect");
            }
        }
    }
    let mut reply = session.reply();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(match &tracker {
        None => -1,
        Some(tracker) => tracker.redirect.map_or(0, |(id, _)| to_i64(id)),
    });
    reply.bulk(b"prefixes");
    let prefixes = tracker.as_ref().map_or(&[][..], |tracker| tracker.prefixes.all());
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
}

fn caching(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let Some(mode) = session.client.tracker.as_ref().map(|tracker| tracker.mode) else {
        return Err(Fault::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
             OPTOUT mode enabled",
        ));
    };
    session.client.caching = match (args.is(2, "YES"), args.is(2, "NO"), mode) {
        (true, _, Mode::OptIn) => Some(true),
        (_, true, Mode::OptOut) => Some(false),
        (true, ..) => {
            return Err(Fault::text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        (_, true, _) => {
            return Err(Fault::text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        _ => return Err(Fault::SYNTAX),
    };
    session.reply().ok();
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
    if args.len() > 4 {
        return Err(super::bad_subcommand(args));
    }
    let error = match (args.len(), args.is(3, "ERROR"), args.is(3, "TIMEOUT")) {
        (3, ..) | (4, _, true) => false,
        (4, true, _) => true,
        _ => {
            return Err(Fault::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
    };
    let wanted = args.i64(2)?;
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
                } else if !server.replication.waits.give_up(server, waiter, &mut reply) {
                    reply.null_array();
                }
                let Address { worker, token } = waiter.address;
                server.post(worker, crate::shared::Letter::Served(token, out, None));
                count += 1;
            }
        }
    }
    session.reply().integer(count);
    Ok(())
}
