//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: queueing, and running a queue as one. All keys of all queued
//! commands are locked at once, so a transaction is as atomic as one command.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_commands::{
    Args, Command, Context, Effects, Fault, Flags, Group, KeySpec, Outcome, Run,
};
use larder_protocol::reply::Reply;
use larder_store::{DbIndex, Interest};

use crate::books::Ran;
use crate::client::{Client, Multi, OwnedArgs};
use crate::clock::Ticks;
use crate::control::{ControlCommand, Session, persistence};
use crate::dispatch::{self, Ready};
use crate::durability::record::{self, Transaction, Unit};
use crate::durability::save;
use crate::registry::Entry;
use crate::shared::Server;
use crate::tracking::Tracker;

const BASE: Command = Command {
    flags: Flags::NOSCRIPT
        .or(Flags::LOADING)
        .or(Flags::STALE)
        .or(Flags::FAST)
        .or(Flags::ALLOW_BUSY),
    ..Command::control(Group::Transactions)
};

/// The rows.
pub const COMMANDS: &[ControlCommand] = &[
    ControlCommand::new(
        Command {
            name: "multi",
            since: "1.2.0",
            summary: "Begins a transaction: what follows is queued.",
            ..BASE
        },
        multi,
    ),
    ControlCommand::new(
        Command {
            name: "exec",
            since: "1.2.0",
            flags: Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE).or(Flags::SKIP_SLOWLOG),
            complexity: "Depends on commands in the transaction",
            summary: "Runs all that was queued, as one.",
            ..BASE
        },
        exec,
    ),
    ControlCommand::new(
        Command { name: "discard", since: "2.0.0", summary: "Forgets what was queued.", ..BASE },
        discard,
    ),
    ControlCommand::new(
        Command {
            name: "watch",
            arity: -2,
            since: "2.2.0",
            keys: &[KeySpec::range(1, -1, 1, "RO")],
            complexity: "O(1) for every key.",
            summary: "Lets the next EXEC fail if one of these keys changes before.",
            usage: "key [key ...]",
            ..BASE
        },
        watch,
    ),
    ControlCommand::new(
        Command { name: "unwatch", since: "2.2.0", summary: "Forgets all watched keys.", ..BASE },
        unwatch,
    ),
];

/// Commands that a transaction does not queue.
pub fn runs_at_once(name: &str) -> bool {
    matches!(name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// Queues a request of a command with these flags.
pub fn queue(client: &mut Client, args: Args<'_>, flags: Flags) {
    if let Some(multi) = &mut client.multi {
        multi.needs_memory |= flags.has(Flags::DENYOOM);
        multi.writes |= flags.has(Flags::WRITE);
        multi.needs_loaded |= !flags.has(Flags::LOADING);
        multi.needs_settled |= flags.has(Flags::NO_ASYNC_LOADING);
        multi.needs_fresh |= !flags.has(Flags::STALE);
        multi.bytes += args.all().iter().map(|arg| arg.len()).sum::<usize>();
        multi.queue.push(dispatch::owned(args));
        Reply::new(&mut client.out, client.version).simple("QUEUED");
    }
}

/// Ends a transaction whose EXEC was refused.
pub fn abort(server: &Server, client: &mut Client, fault: &Fault) -> Fault {
    client.multi = None;
    forget_watches(server, client);
    let text = fault.as_bytes();
    let reason = text.strip_prefix(b"ERR ").unwrap_or(text);
    Fault::quoting([b"EXECABORT Transaction discarded because of: ", reason].concat())
}

/// Whether this EXEC has a command that must run in the exclusive section.
pub fn needs_exclusive(server: &Server, client: &Client, entry: Entry) -> bool {
    if entry.command.name != "exec" {
        return false;
    }
    let queue = client.multi.as_ref().map_or(&[][..], |multi| &multi.queue);
    queue.iter().filter_map(|args| server.registry.find(args.first()?)).any(|entry| {
        entry.command.flags.has(Flags::WHOLE_KEYSPACE) || matches!(entry.command.run, Run::Control)
    })
}

/// Tells the transactions that watch a key. False if nobody watches any key.
pub fn touch_watchers(server: &Server, db: DbIndex, key: &[u8]) -> bool {
    let watch = server.watch.lock();
    if let Some(flags) = watch.get(&(db, Box::from(key))) {
        for flag in flags {
            flag.store(true, Ordering::Release);
        }
    }
    !watch.is_empty()
}

/// Forgets a client's watched keys.
pub fn forget_watches(server: &Server, client: &mut Client) {
    let Some(flag) = client.watch.take() else { return };
    let mut watch = server.watch.lock();
    client.watched_bytes = 0;
    for (db, key) in client.watched.drain(..) {
        let name = (db, key.into_boxed_slice());
        if let Some(flags) = watch.get_mut(&name) {
            flags.retain(|other| !Arc::ptr_eq(other, &flag));
            if flags.is_empty() {
                watch.remove(&name);
            }
        }
    }
}

fn multi(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    if session.client.multi.is_some() {
        return Err(Fault::text("ERR MULTI calls can not be nested"));
    }
    session.client.multi = Some(Multi::default());
    session.reply().ok();
    Ok(())
}

fn discard(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    if session.client.multi.take().is_none() {
        return Err(Fault::text("ERR DISCARD without MULTI"));
    }
    forget_watches(session.turn.server, session.client);
    session.reply().ok();
    Ok(())
}

fn watch(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if session.client.multi.is_some() {
        return Err(Fault::text("ERR WATCH inside MULTI is not allowed"));
    }
    let server = session.turn.server;
    let db = session.client.db;
    let flag = session.client.watch.get_or_insert_with(|| Arc::new(AtomicBool::new(false))).clone();
    for key in args.from(1) {
        if session.client.watched.iter().any(|(d, k)| *d == db && k == key) {
            continue;
        }
        let at = server.keyspace.locate(key);
        // A key that is due already is gone before it is watched: its end is told to others, not to us.
        let mut view = server.keyspace.view(&server.settings, db, &[at], session.turn.now);
        view.contains(key);
        dispatch::settle(server, &mut view, session.client.id, session.turn.ready);
        let mut view = server.keyspace.view(&server.settings, db, &[at], session.turn.now);
        view.set_interest(key, Interest::WATCHED, true);
        server.watch.lock().entry((db, Box::from(*key))).or_default().push(Arc::clone(&flag));
        drop(view);
        session.client.watched.push((db, key.to_vec()));
        session.client.watched_bytes += key.len();
    }
    session.reply().ok();
    Ok(())
}

/// Shows a queued command to those who monitor.
fn show(server: &Server, client: &Client, owned: &OwnedArgs) {
    let slices: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
    let args = Args::new(&slices);
    if let Some(Entry { command, .. }) = server.registry.find(args.at(0))
        && dispatch::is_shown(command, args)
    {
        server.monitors.show(server, client, command, args);
    }
}

fn unwatch(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    forget_watches(session.turn.server, session.client);
    session.reply().ok();
    Ok(())
}

fn exec(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let Some(multi) = session.client.multi.take() else {
        return Err(Fault::text("ERR EXEC without MULTI"));
    };
    let flag = session.client.watch.clone();
    let server = session.turn.server;
    if multi.broken {
        forget_watches(server, session.client);
        return Err(Fault::text("EXECABORT Transaction discarded because of previous errors."));
    }
    if session.others.is_some() {
        session.in_exec = true;
        run_exclusive(session, &multi, flag.as_deref());
        session.in_exec = false;
        let dirty = persistence::modifications(session);
        save::begin_scheduled(server, dirty);
    } else {
        run_locked(session, &multi, flag.as_deref());
    }
    forget_watches(server, session.client);
    Ok(())
}

/// Data commands only.
fn run_locked(session: &mut Session<'_, '_, '_>, multi: &Multi, flag: Option<&AtomicBool>) {
    let books = run_queue(session, multi, flag);
    for (done, owned) in books.iter().zip(&multi.queue) {
        book(session, owned, done);
    }
}

/// One command of a transaction that ran.
struct Done {
    nanos: u64,
    failed: bool,
    /// Where its reply is, of what is to be sent.
    reply: Range<usize>,
}

/// Runs a queue with all its slots, and those of the watched keys, locked at once.
fn run_queue(
    session: &mut Session<'_, '_, '_>,
    multi: &Multi,
    flag: Option<&AtomicBool>,
) -> Vec<Done> {
    let server = session.turn.server;
    let mut keys: Vec<_> = Vec::new();
    let db = session.client.db;
    for owned in &multi.queue {
        let slices: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        if let Some(entry) = slices.first().and_then(|name| server.registry.find(name)) {
            let located =
                dispatch::locate_keys(&server.keyspace, entry.command, Args::new(&slices));
            keys.extend(located.into_iter().map(|at| (db, at)));
        }
    }
    let watched = session.client.watched.iter();
    keys.extend(watched.map(|(db, key)| (*db, server.keyspace.locate(key))));
    let mut view = server.keyspace.view_many(&server.settings, db, &keys, session.turn.now);
    // A watched key that is due by now counts as changed.
    for (db, key) in &session.client.watched {
        view.select(*db);
        view.contains(key);
    }
    view.select(db);
    let expired = view.changes.iter().any(|c| c.what == larder_store::What::Modified);
    if flag.is_some_and(|flag| flag.load(Ordering::Acquire)) || (flag.is_some() && expired) {
        dispatch::settle(server, &mut view, session.client.id, session.turn.ready);
        session.reply().null_array();
        return Vec::new();
    }
    let client = &mut *session.client;
    let id = client.id;
    let tracker = client.caches().cloned();
    let client_view = tracker.as_ref();
    if !server.monitors.is_idle() {
        for owned in &multi.queue {
            show(server, client, owned);
        }
    }
    let reply_max = server.reply_max(client);
    let mut context = Context {
        keys: view,
        reply: Reply::new(&mut client.out, client.version),
        effects: Effects::default(),
        rng: session.turn.rng,
        settings: &server.settings,
        may_block: false,
        ready: None,
        reply_max,
    };
    context.reply.array(multi.queue.len());
    let mut books = Vec::with_capacity(multi.queue.len());
    let mut unit = Unit::of(server.books());
    for owned in &multi.queue {
        let (begun, start) = (Ticks::now(), context.reply.len());
        let ready = &mut *session.turn.ready;
        let failed = run_queued(server, &mut context, client_view, owned, &mut unit, ready);
        let nanos = Ticks::now().nanos_since(begun);
        books.push(Done { nanos, failed, reply: start..context.reply.len() });
    }
    unit.record(db);
    dispatch::tally(session.turn.stats, &context.keys);
    dispatch::settle(server, &mut context.keys, id, session.turn.ready);
    books
}

fn book(session: &mut Session<'_, '_, '_>, owned: &OwnedArgs, done: &Done) {
    let slices: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
    let args = Args::new(&slices);
    let Some(entry) = session.turn.server.registry.find(args.at(0)) else { return };
    let client = &*session.client;
    let reply = client.out.get(done.reply.clone()).unwrap_or(&[]);
    let ran = Ran { entry, args, nanos: done.nanos, failed: done.failed, reply };
    session.turn.books().enter(client, &ran);
}

/// One data command of a transaction; true if it answered an error.
fn run_queued(
    server: &Server,
    context: &mut Context<'_>,
    tracker: Option<&Arc<Tracker>>,
    owned: &OwnedArgs,
    unit: &mut Unit<'_>,
    ready: &mut Vec<Ready>,
) -> bool {
    let slices: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
    let args = Args::new(&slices);
    let Some(entry) = server.registry.find(args.at(0)) else { return false };
    let Run::Data(handler) = entry.command.run else { return false };
    let start = context.reply.len();
    let mut failed = false;
    let before = record::changes(&context.keys);
    context.effects = Effects::new(server.journal.records_effects());
    context.keys.set_dues(dispatch::dues(server, entry.command));
    let outcome = handler(context, args);
    if context.effects.are_wanted() {
        unit.add_gone(&mut context.keys);
        let changes = record::changes(&context.keys).saturating_sub(before);
        let ok = matches!(outcome, Ok(Outcome::Done));
        unit.add(entry.command, &mut context.effects, changes, args, ok);
    } else if server.keyspace.is_passive() {
        server.replication.own_deadlines.note(&mut context.keys, entry.command, args);
    }
    match outcome {
        Ok(Outcome::Done) => {}
        // Within a transaction nothing waits: as if the time were over at once.
        Ok(Outcome::Wait(_)) => context.reply.null_array(),
        Err(fault) => {
            context.reply.truncate(start);
            context.reply.error_bytes(fault.as_bytes());
            failed = true;
        }
    }
    if let Some(tracker) = tracker {
        // What it has changed up to here is not news about what it reads now.
        dispatch::report(server, &mut context.keys, tracker.id, ready);
        dispatch::remember(server, tracker, &mut context.keys, entry.command, args);
    }
    failed
}

/// With control commands or such that touch undeclared keys: one by one, while nobody else runs.
fn run_exclusive(session: &mut Session<'_, '_, '_>, multi: &Multi, flag: Option<&AtomicBool>) {
    let server = session.turn.server;
    let watched = std::mem::take(&mut session.client.watched);
    for (db, key) in &watched {
        let mut view = server.keyspace.view_all(&server.settings, *db, session.turn.now);
        view.contains(key);
        dispatch::settle(server, &mut view, session.client.id, session.turn.ready);
    }
    session.client.watched = watched;
    if flag.is_some_and(|flag| flag.load(Ordering::Acquire)) {
        session.reply().null_array();
        return;
    }
    session.reply().array(multi.queue.len());
    let mut whole = Transaction::of(server.books());
    for owned in &multi.queue {
        let slices: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        let args = Args::new(&slices);
        let Some(entry) = server.registry.find(args.at(0)) else { continue };
        let id = session.client.id;
        if !server.monitors.is_idle() {
            show(server, session.client, owned);
        }
        let (begun, start) = (Ticks::now(), session.client.out.len());
        let mut failed = false;
        match entry.command.run {
            Run::Data(_) => {
                let client = &mut *session.client;
                let tracker = client.caches().cloned();
                let reply_max = server.reply_max(client);
                let mut context = Context {
                    keys: server.keyspace.view_all(&server.settings, client.db, session.turn.now),
                    reply: Reply::new(&mut client.out, client.version),
                    effects: Effects::default(),
                    rng: session.turn.rng,
                    settings: &server.settings,
                    may_block: false,
                    ready: None,
                    reply_max,
                };
                let mut unit = Unit::of(server.books());
                let ready = &mut *session.turn.ready;
                let tracker = tracker.as_ref();
                failed = run_queued(server, &mut context, tracker, owned, &mut unit, ready);
                whole.add(unit, context.keys.db());
                dispatch::tally(session.turn.stats, &context.keys);
                dispatch::settle(server, &mut context.keys, id, session.turn.ready);
            }
            Run::Control => {
                whole.make_way(entry.command.flags, session.client.db, multi.queue.len() == 1);
                if let Some(Err(fault)) =
                    entry.control.map(|control| crate::control::run(session, control, args))
                {
                    session.client.out.truncate(start);
                    session.reply().error_bytes(fault.as_bytes());
                    failed = true;
                }
            }
        }
        let nanos = Ticks::now().nanos_since(begun);
        let done = Done { nanos, failed, reply: start..session.client.out.len() };
        book(session, owned, &done);
    }
    whole.end();
}
