//! From a parsed request to its reply: the gates in their order, each a line, then the command. It knows
//! neither sockets nor how requests arrive.

use std::sync::atomic::Ordering;

use larder_base::limits;
use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_commands::{Args, Command, Context, Effects, Fault, Flags, Outcome, Run, Wait};
use larder_persist::rdb::{DumpError, restore_unsummed};
use larder_protocol::reply::{Reply, Version};
use larder_store::keyspace::Located;
use larder_store::{DbIndex, Dues, Interest, Keyspace, View, What};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::blocking::Waiter;
use crate::books::{Books, Ran};
use crate::client::{Client, Multi, OwnedArgs, ReplyMode};
use crate::clock::Ticks;
use crate::control::Session;
use crate::durability::record;
use crate::events::EventFlags;
use crate::pubsub::Address;
use crate::registry::Entry;
use crate::shared::{Letter, Server};
use crate::stats::{CommandStats, Stats};

/// A key that may serve clients that wait for it.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its database.
    pub db: DbIndex,
    /// The key.
    pub key: Vec<u8>,
}

/// What a worker lends to the commands that it runs.
pub struct Turn<'w> {
    /// The server.
    pub server: &'w Server,
    /// Which worker this is.
    pub worker: usize,
    /// The moment of this loop turn.
    pub now: Millis,
    /// The worker's randomness.
    pub rng: &'w mut Rng,
    /// The worker's counters.
    pub stats: &'w mut Stats,
    /// The worker's counters per command.
    pub commands: &'w mut Vec<CommandStats>,
    /// Keys that became ready in this command.
    pub ready: &'w mut Vec<Ready>,
    /// When the command before ended: one reading of the clock a command.
    pub clock: &'w mut Ticks,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answered (or queued, or waiting).
    Done,
    /// Not begun: it must run in the exclusive section.
    NeedsExclusive,
}

const NO_AUTH: Fault = Fault::text("NOAUTH Authentication required.");
/// Data is being loaded.
pub const LOADING: Fault = Fault::text("LOADING Redis is loading the dataset in memory");
const NOT_SAVED: Fault = Fault::text(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
     Commands that may modify the data set are disabled, because this instance is configured to report \
     errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
     the Redis logs for details about the RDB error.",
);
const OUT_OF_MEMORY: Fault = Fault::text("OOM command not allowed when used memory > 'maxmemory'.");

impl Turn<'_> {
    /// Runs one request of a client; `entry` is what its name says.
    pub fn run(
        &mut self,
        client: &mut Client,
        token: u64,
        entry: Option<Entry>,
        args: Args<'_>,
        at: Option<Located>,
    ) -> Verdict {
        let entry = match self.admit(client, token, entry, args) {
            Ok(entry) => entry,
            Err(_) if is_web_request(args) => {
                self.dismiss_web_page(client);
                return Verdict::Done;
            }
            Err(fault) => {
                self.refuse(client, args, &fault);
                return Verdict::Done;
            }
        };
        client.last_command = (entry.command.name, "");
        if !entry.command.subcommands.is_empty() {
            client.last_command.1 = entry.command.subcommand(args).map_or("", |(_, sub)| sub.name);
        }
        let queues =
            client.multi.is_some() && !crate::transactions::runs_at_once(entry.command.name);
        if queues {
            let sub = entry.command.subcommand(args).map(|(_, sub)| sub.flags);
            crate::transactions::queue(client, args, sub.unwrap_or(entry.command.flags));
            return Verdict::Done;
        }
        if needs_exclusive(entry, args)
            || (entry.control.is_some()
                && crate::transactions::needs_exclusive(self.server, client, entry))
        {
            return Verdict::NeedsExclusive;
        }
        self.execute(client, token, entry, args, at, None);
        Verdict::Done
    }

    /// Runs one request of a client in the exclusive section.
    pub fn run_exclusive(
        &mut self,
        client: &mut Client,
        token: u64,
        args: Args<'_>,
        others: &mut Others<'_>,
    ) {
        // It was admitted before; only the look-up is repeated.
        if let Some(entry) = self.server.registry.find(args.at(0)) {
            self.execute(client, token, entry, args, None, Some(others));
        }
    }

    /// The gates.
    fn admit(
        &mut self,
        client: &mut Client,
        token: u64,
        entry: Option<Entry>,
        args: Args<'_>,
    ) -> Result<Entry, Fault> {
        let Some(entry) = entry else {
            if !client.authenticated {
                return Err(NO_AUTH);
            }
            return Err(unknown_command(args));
        };
        let flags = entry.command.flags;
        let sub = entry.command.subcommand(args).map(|(_, sub)| sub);
        let name = || match sub {
            Some(sub) => format!("{}|{}", entry.command.name, sub.name),
            None => entry.command.name.to_owned(),
        };
        if !entry.command.subcommands.is_empty() && sub.is_none() && args.len() > 1 {
            return Err(unknown_subcommand(args));
        }
        if !entry.command.fits(args.len()) || sub.is_some_and(|sub| !sub.fits(args.len())) {
            return Err(Fault::arity(&name()));
        }
        if !client.authenticated && !flags.has(Flags::NO_AUTH) {
            return Err(NO_AUTH);
        }
        if client.version == Version::Resp2
            && client.subscription_count() > 0
            && !crate::control::allowed_when_subscribed(entry.command.name)
        {
            return Err(Fault::new(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                name()
            )));
        }
        let queued = ended(client, entry).is_some_and(|multi| multi.needs_memory && !multi.broken);
        // A queue takes memory without end, whatever is queued.
        let queues =
            client.multi.is_some() && !crate::transactions::runs_at_once(entry.command.name);
        let needs_memory = flags.has(Flags::DENYOOM) || queued || queues;
        if self.server.is_out_of_memory() && !self.make_room(client, token) && needs_memory {
            return Err(OUT_OF_MEMORY);
        }
        // What is allowed at such times, the subcommand says.
        let at_hard_times = sub.map_or(flags, |sub| sub.flags);
        self.check_loaded(client, entry, at_hard_times)?;
        self.check_disk(entry)?;
        if self.server.replication.restricts() {
            let ended = ended(client, entry);
            let writes = flags.has(Flags::WRITE) || ended.is_some_and(|multi| multi.writes);
            let fresh =
                !at_hard_times.has(Flags::STALE) || ended.is_some_and(|multi| multi.needs_fresh);
            self.server.replication.admit(fresh, writes)?;
        }
        if client.multi.is_some() && flags.has(Flags::NO_MULTI) {
            return Err(Fault::text("ERR Command not allowed inside a transaction"));
        }
        Ok(entry)
    }

    /// Whether the data is there that a command wants.
    #[inline]
    fn check_loaded(&self, client: &Client, entry: Entry, flags: Flags) -> Result<(), Fault> {
        let server = self.server;
        let ended = || ended(client, entry);
        if server.loading.load(Ordering::Relaxed)
            && (!flags.has(Flags::LOADING) || ended().is_some_and(|multi| multi.needs_loaded))
        {
            return Err(LOADING);
        }
        if server.loading_beside.load(Ordering::Relaxed)
            && (flags.has(Flags::NO_ASYNC_LOADING)
                || ended().is_some_and(|multi| multi.needs_settled))
        {
            return Err(LOADING);
        }
        Ok(())
    }

    /// Nothing is changed that could not be kept.
    #[inline]
    fn check_disk(&self, entry: Entry) -> Result<(), Fault> {
        let server = self.server;
        let writes = entry.command.flags.has(Flags::WRITE) || entry.command.name == "ping";
        if writes && server.saves.have_failed() && server.stops_writes() {
            return Err(NOT_SAVED);
        }
        if writes && server.gate.is_failing() {
            let reason = server.gate.reason();
            return Err(Fault::new(format!("MISCONF Errors writing to the AOF file: {reason}")));
        }
        Ok(())
    }

    /// Evicts; false if that was in vain.
    #[cold]
    fn make_room(&mut self, client: &mut Client, token: u64) -> bool {
        let Turn { server, now, rng, stats, ready, .. } = self;
        let made = server.make_room(*now, rng, stats, ready);
        // It hears of what it cached before the reply of the command that made others go.
        if client.tracker.is_some()
            && let Some(own) = server.workers.get(self.worker)
        {
            let mut letters = Vec::new();
            own.mailbox.drain_if(
                &mut letters,
                |letter| matches!(letter, Letter::Deliver(to, _) if *to == token),
            );
            for letter in letters {
                if let Letter::Deliver(_, message) = letter {
                    own.hand_over(&message);
                    client.hear(&message);
                }
            }
        }
        made
    }

    /// A browser was made to speak to us, by a page that somebody else wrote: it gets no answer, not even an error, and
    /// may send no second line.
    fn dismiss_web_page(&mut self, client: &mut Client) {
        const LOG_EVERY_MS: i64 = 60_000;
        client.closing = true;
        self.stats.errors += 1;
        let last = self.server.web_page_logged.load(Ordering::Relaxed);
        if self.now.since(Millis(last)) >= LOG_EVERY_MS {
            self.server.web_page_logged.store(self.now.0, Ordering::Relaxed);
            crate::log::warning(&format!(
                "Possible SECURITY ATTACK: a client at {} speaks HTTP, so a web page may be made to send commands \
                 here. The connection was closed; further ones are not logged for a minute.",
                client.stream.peer()
            ));
        }
    }

    fn refuse(&mut self, client: &mut Client, args: Args<'_>, fault: &Fault) {
        let entry = self.server.registry.find(args.at(0));
        if let Some(entry) = entry
            && let Some(stats) = self.commands.get_mut(entry.number(args))
        {
            stats.rejected += 1;
        }
        let ends = entry.is_some_and(|entry| entry.command.name == "exec");
        let aborted;
        let fault = if ends {
            // What cannot begin now will not begin later: the transaction is over.
            aborted = crate::transactions::abort(self.server, client, fault);
            &aborted
        } else {
            fault
        };
        self.stats.errors += 1;
        self.server.count_error(&String::from_utf8_lossy(fault.as_bytes()));
        if let Some(multi) = &mut client.multi {
            multi.broken = true;
        }
        let wanted = takes_reply(client);
        let start = client.out.len();
        Reply::new(&mut client.out, client.version).error_bytes(fault.as_bytes());
        if !wanted {
            client.out.truncate(start);
        }
    }

    /// Runs an admitted command, whatever its kind, and keeps the books.
    fn execute(
        &mut self,
        client: &mut Client,
        token: u64,
        entry: Entry,
        args: Args<'_>,
        at: Option<Located>,
        others: Option<&mut Others<'_>>,
    ) {
        let start = client.out.len();
        let wanted = takes_reply(client);
        if others.is_some() {
            *self.clock = Ticks::now();
        }
        let reply_max = self.server.reply_max(client);
        let failed = match entry.command.run {
            Run::Data(_) => {
                self.run_data(client, token, entry, args, at, others.is_some()).is_err()
            }
            Run::Control => {
                let mut session = Session { turn: self, client, token, others, in_exec: false };
                let result =
                    entry.control.map(|control| crate::control::run(&mut session, control, args));
                match result {
                    Some(Err(fault)) => {
                        client.out.truncate(start);
                        Reply::new(&mut client.out, client.version).error_bytes(fault.as_bytes());
                        true
                    }
                    _ => false,
                }
            }
        };
        // After it ran: EXEC comes behind the commands that it ran.
        if !self.server.monitors.is_idle() && is_shown(entry.command, args) {
            self.server.monitors.show(self.server, client, entry.command, args);
        }
        if self.server.journal.records_effects() && may_record(entry) {
            client.depends_on = self.server.journal.end();
        }
        self.account(client, entry, args, failed, start);
        // CLIENT REPLY ON is answered, though replies were off when it came; and what subscriptions answer
        // are messages, not replies.
        let message = entry.command.flags.has(Flags::PUBSUB.or(Flags::NOSCRIPT)) && !failed;
        let on = client.reply_mode == ReplyMode::On && entry.command.name == "client";
        if !wanted && !on && !message {
            client.out.truncate(start);
        } else if client.out.len() > reply_max {
            // It may have ended early, so nobody is to read it.
            client.overflown = true;
        }
        if client.caching.is_some() && entry.command.name != "client" && client.multi.is_none() {
            client.caching = None;
        }
        if !self.ready.is_empty() {
            let mut ready = std::mem::take(self.ready);
            self.server.serve_ready(&mut ready, self.now, self.stats, self.rng);
            *self.ready = ready;
        }
    }

    /// Counts, times and logs a command that ran; its reply begins at `start`.
    fn account(
        &mut self,
        client: &Client,
        entry: Entry,
        args: Args<'_>,
        failed: bool,
        start: usize,
    ) {
        let now = Ticks::now();
        let nanos = now.nanos_since(*self.clock);
        *self.clock = now;
        if client.waiting.is_some() {
            // It is not over: who ends its wait enters it.
            return;
        }
        let reply = client.out.get(start..).unwrap_or(&[]);
        self.books().enter(client, &Ran { entry, args, nanos, failed, reply });
    }

    /// Where commands are entered that ran.
    pub fn books(&mut self) -> Books<'_> {
        let Turn { server, stats, commands, now, .. } = self;
        Books { server, stats, commands, now: *now }
    }

    /// A data command of a client outside transactions. `Err` = it answered an error.
    fn run_data(
        &mut self,
        client: &mut Client,
        token: u64,
        entry: Entry,
        args: Args<'_>,
        at: Option<Located>,
        exclusive: bool,
    ) -> Result<(), ()> {
        let Run::Data(handler) = entry.command.run else { return Err(()) };
        let server = self.server;
        let keyspace = &server.keyspace;
        let tracker = client.caches().cloned();
        let (start, reply_max) = (client.out.len(), server.reply_max(client));
        let mut context = Context {
            keys: keyspace.view_none(&server.settings, client.db, self.now),
            reply: Reply::new(&mut client.out, client.version),
            effects: Effects::new(server.journal.records_effects()),
            rng: self.rng,
            settings: &server.settings,
            may_block: true,
            ready: None,
            reply_max,
        };
        match at {
            Some(at) => context.keys.lock_key(args.at(1), at),
            None if exclusive => {
                context.keys = keyspace.view_all(&server.settings, client.db, self.now);
            }
            None => lock_keys(&mut context.keys, entry, args),
        }
        context.keys.serve(client.no_touch, client.offered.as_ref());
        context.keys.set_dues(dues(server, entry.command));
        let before = record::changes(&context.keys);
        let outcome = handler(&mut context, args);
        if context.effects.are_wanted() {
            let ok = matches!(outcome, Ok(Outcome::Done));
            record::record(server.books(), &mut context, entry.command, args, before, ok);
        } else if keyspace.is_passive() {
            server.replication.own_deadlines.note(&mut context.keys, entry.command, args);
        }
        let result = match outcome {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Wait(wait)) => {
                let address = Address { worker: self.worker, token };
                let waiter =
                    waiter(client.db, client.version, address, entry, args, wait, self.now);
                for key in &waiter.keys {
                    context.keys.set_interest(key, Interest::BLOCKED, true);
                }
                // Queued while the slots of its keys are still locked: nothing can be missed.
                server.blocked.add(&waiter);
                client.waiting = Some(waiter);
                Ok(())
            }
            Err(fault) => {
                context.reply.truncate(start);
                context.reply.error_bytes(fault.as_bytes());
                Err(())
            }
        };
        if let Some(tracker) = &tracker {
            remember(server, tracker, &mut context.keys, entry.command, args);
        }
        tally(self.stats, &context.keys);
        settle(server, &mut context.keys, client.id, self.ready);
        result.inspect_err(|()| explain_refusal(server, entry.command, args))
    }
}

/// Tells the operator what is wrong with a payload, if that is why it was refused.
#[cold]
fn explain_refusal(server: &Server, command: &Command, args: Args<'_>) {
    use std::error::Error as _;
    if command.name != "restore" {
        return;
    }
    let payload = restore_unsummed(args.at(3), &server.settings.thresholds);
    if let Err(error @ DumpError::Format(_)) = payload {
        let reason = error.source().map_or(String::new(), ToString::to_string);
        // Tools look for these words.
        crate::log::verbose(&format!("A payload is refused, its integrity check failed: {reason}"));
    }
}

/// What becomes of what is due when a command meets it. While writes are held back nothing changes, not even by looking at
/// it, nor in a replica; but who writes into one begins with what it sees: nothing of what is due may live on in it.
#[inline]
pub fn dues(server: &Server, command: &Command) -> Dues {
    let stands_still = server.keyspace.is_passive() || server.paused.load(Ordering::Relaxed);
    match stands_still && !command.flags.has(Flags::WRITE) {
        true => Dues::Hide,
        false => Dues::Delete,
    }
}

/// The transaction that a command ends, if it is EXEC: it is judged by what it would run.
fn ended(client: &Client, entry: Entry) -> Option<&Multi> {
    let ends = entry.control.is_some() && entry.command.name == "exec";
    client.multi.as_ref().filter(|_| ends)
}

fn waiter(
    db: DbIndex,
    version: Version,
    address: Address,
    entry: Entry,
    args: Args<'_>,
    wait: Wait,
    now: Millis,
) -> Arc<Waiter> {
    let deadline =
        wait.timeout_ms.map(|ms| now.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
    let mut keys: Vec<Vec<u8>> = wait.keys.iter().map(|at| args.at(*at).to_vec()).collect();
    keys.sort();
    keys.dedup();
    let ended = AtomicBool::new(false);
    let serving = parking_lot::Mutex::default();
    let (args, begun) = (owned(args), Ticks::now());
    Arc::new(Waiter { address, entry, args, db, version, deadline, begun, ended, serving, keys })
}

/// Adds a view's counts to a worker's.
pub fn tally(stats: &mut Stats, view: &View<'_>) {
    stats.hits += view.tally.hits;
    stats.misses += view.tally.misses;
    stats.expired += view.tally.expired;
    stats.expired_members += view.tally.expired_members;
    stats.evicted += view.tally.evicted;
    stats.dirty += view.tally.dirty;
}

/// The other workers' states, in the exclusive section; the own one is lent apart.
pub type Others<'g> = [parking_lot::MutexGuard<'g, crate::worker::WorkerState>];

/// Locks the slots of all keys that a command names.
fn lock_keys(view: &mut View<'_>, entry: Entry, args: Args<'_>) {
    let mut keys: SmallVec<[(&[u8], Located); 12]> = SmallVec::new();
    entry.command.key_positions(args, |at| {
        let key = args.at(at);
        keys.push((key, view.keyspace().locate(key)));
    });
    view.lock_each(&keys);
}

/// Hands on what a view has to report, and lets its slots go. Watchers are told while the slots are
/// still locked, so that no EXEC can slip in between.
pub fn settle(server: &Server, view: &mut View<'_>, by: u64, ready: &mut Vec<Ready>) {
    report(server, view, by, ready);
    view.release();
    let trash = std::mem::take(&mut view.trash);
    if !trash.is_empty() {
        // Big values must not hold up a loop turn.
        server.background.free(trash);
    }
}

/// Hands on what a view has to report so far, and keeps its slots.
pub fn report(server: &Server, view: &mut View<'_>, by: u64, ready: &mut Vec<Ready>) {
    if !view.gone.is_empty() || !view.gone_members.is_empty() {
        record::record_gone(server.books(), view);
    }
    if !view.changes.is_empty() {
        let events = EventFlags(server.events.load(Ordering::Relaxed));
        let tracks = !server.tracking.is_idle();
        let mut changed: Vec<Box<[u8]>> = Vec::new();
        for change in std::mem::take(&mut view.changes) {
            match change.what {
                What::Modified => {
                    let watched =
                        crate::transactions::touch_watchers(server, change.db, &change.key);
                    if !watched && !tracks {
                        // Whoever begins to watch a key of this slot does so under its lock.
                        view.lose_interest(change.db, &change.key);
                    }
                    if tracks && !changed.contains(&change.key) {
                        changed.push(change.key);
                    }
                }
                What::Ready => ready.push(Ready { db: change.db, key: change.key.into_vec() }),
                What::Event(class, event) => {
                    server.announce(events, change.db, class, event, &change.key);
                }
            }
        }
        if !changed.is_empty() {
            server.tracking.changed(server, &changed, by);
        }
    }
}

/// Remembers which keys a read command showed to a client that caches them.
pub fn remember(
    server: &Server,
    tracker: &Arc<crate::tracking::Tracker>,
    view: &mut View<'_>,
    command: &Command,
    args: Args<'_>,
) {
    if command.flags.has(Flags::READONLY) {
        command.key_positions(args, |at| {
            view.set_interest(args.at(at), Interest::TRACKED, true);
            server.tracking.remember(server, tracker, args.at(at));
        });
    }
}

/// Whether MONITOR shows a request: not those for administrators, which may hold secrets.
pub fn is_shown(command: &Command, args: Args<'_>) -> bool {
    let shown = |flags: Flags| !flags.has(Flags::ADMIN) && !flags.has(Flags::SKIP_MONITOR);
    shown(command.flags) && command.subcommand(args).is_none_or(|(_, sub)| shown(sub.flags))
}

/// Slots and hashes of a command's keys.
pub fn locate_keys(
    keyspace: &Keyspace,
    command: &Command,
    args: Args<'_>,
) -> SmallVec<[Located; 4]> {
    let mut located = SmallVec::new();
    command.key_positions(args, |at| located.push(keyspace.locate(args.at(at))));
    located
}

/// Whether the only key of a command is its first argument.
#[inline]
pub fn has_one_key(command: &Command) -> bool {
    use larder_commands::{Begin, Find};
    match command.keys {
        [only] => only.begin == Begin::Index(1) && matches!(only.find, Find::Range { last: 0, .. }),
        _ => false,
    }
}

/// Whether a command may have put something into the journal.
#[inline]
fn may_record(entry: Entry) -> bool {
    let flags = entry.command.flags;
    flags.has(Flags::WRITE)
        || flags.has(Flags::MAY_REPLICATE)
        || (entry.control.is_some() && entry.command.name == "exec")
}

/// A copy of a request.
pub fn owned(args: Args<'_>) -> OwnedArgs {
    args.all().iter().map(|arg| arg.to_vec()).collect()
}

/// Whether the reply of the command that begins now is wanted; moves CLIENT REPLY SKIP on.
fn takes_reply(client: &mut Client) -> bool {
    match client.reply_mode {
        ReplyMode::On => true,
        ReplyMode::Off => false,
        ReplyMode::SkipNext => {
            client.reply_mode = ReplyMode::On;
            false
        }
        ReplyMode::Skipping => false,
    }
}

fn needs_exclusive(entry: Entry, args: Args<'_>) -> bool {
    entry.command.flags.has(Flags::WHOLE_KEYSPACE)
        || entry.control.is_some_and(|control| (control.exclusive)(args))
}

/// Whether the line is one that only HTTP has: no command is called so, and every request has a `Host`.
fn is_web_request(args: Args<'_>) -> bool {
    args.is(0, "POST") || args.is(0, "Host:")
}

fn unknown_command(args: Args<'_>) -> Fault {
    let mut echoed = Vec::new();
    for arg in args.from(1) {
        if echoed.len() >= limits::ERROR_ECHO_BYTES_MAX {
            break;
        }
        let room = limits::ERROR_ECHO_BYTES_MAX - echoed.len();
        echoed.extend_from_slice(&[b"'", cut(arg, room), b"' "].concat());
    }
    let name = cut(args.at(0), limits::ERROR_ECHO_BYTES_MAX);
    let parts = [b"ERR unknown command '", name, b"', with args beginning with: ", &echoed];
    Fault::quoting(parts.concat())
}

fn unknown_subcommand(args: Args<'_>) -> Fault {
    let name = args.at(0).to_ascii_uppercase();
    let sub = cut(args.at(1), limits::ERROR_ECHO_BYTES_MAX);
    Fault::quoting([b"ERR unknown subcommand '", sub, b"'. Try ", &name, b" HELP."].concat())
}

/// As many bytes as an error may quote; a zero byte ends a text, as it does for C.
fn cut(bytes: &[u8], room: usize) -> &[u8] {
    let bytes = bytes.get(..room).unwrap_or(bytes);
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}

/// Whether the server is to end.
pub fn is_stopping(server: &Server) -> bool {
    server.stopping.load(Ordering::Acquire)
}
