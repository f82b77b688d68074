//! Repeating what happened elsewhere: requests of a log or of a primary's stream, in order, on the data of this
//! server. Nothing is judged anew: what is due lives until the stream says that it goes, conditions and
//! limits were decided where the request was first run. It knows neither files nor links.
//!
//! The one who repeats holds `Server::apart` for it, so that no cut falls between a change and its bytes in the
//! journal.

use larder_base::rng::Rng;
use larder_commands::{Args, Context, Effects, Flags, Run};
use larder_protocol::reply::{Reply, Version};
use larder_store::keyspace::Located;
use larder_store::{DbIndex, Dues};
use parking_lot::MutexGuard;

use crate::client::OwnedArgs;
use crate::clock::Ticks;
use crate::databases;
use crate::dispatch::{self, Ready};
use crate::registry::Entry;
use crate::shared::{Server, now};
use crate::worker::WorkerState;

/// Why a request cannot be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nobody knows this command.
    #[error("unknown command '{0}'")]
    Unknown(String),
    /// It is not one that changes data.
    #[error("command '{0}' has no place in a log or stream")]
    Misplaced(&'static str),
    /// It has too few or too many arguments, or they make no sense.
    #[error("bad arguments of '{0}'")]
    Arguments(&'static str),
    /// It was refused, though it had succeeded elsewhere: the copies differ.
    #[error("command '{name}' failed: {reason}")]
    Failed {
        /// The command.
        name: &'static str,
        /// Its error.
        reason: String,
    },
}

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A change, a part of a transaction, or a message: done or queued.
    Done,
    /// The primary is alive, nothing more.
    Ping,
    /// The primary wants to hear how far this server is.
    GetAck,
}

/// A transaction that is being read.
struct Queue {
    /// The database that was selected when it began.
    begun: DbIndex,
    requests: Vec<(DbIndex, OwnedArgs)>,
    /// Its bytes, for the journal.
    raw: Vec<u8>,
}

/// See the head of this file.
pub struct Applier<'s> {
    server: &'s Server,
    db: DbIndex,
    alone: bool,
    queue: Option<Queue>,
    rng: Rng,
    out: Vec<u8>,
    ready: Vec<Ready>,
}

/// Which slots a repetition locks.
#[derive(Clone, Copy)]
enum Slots<'a> {
    /// Those of keys in one database.
    Of(&'a [Located]),
    /// Those of keys in several.
    Many(&'a [(DbIndex, Located)]),
    /// What it touches, in the exclusive section.
    All,
}

/// A state that is held while requests are repeated.
pub type Apart<'g> = MutexGuard<'g, WorkerState>;

impl<'s> Applier<'s> {
    /// One that begins in this database, outside of any transaction.
    pub fn new(server: &'s Server, db: DbIndex) -> Applier<'s> {
        let rng = Rng::new(now().0.cast_unsigned());
        Applier { server, db, alone: false, queue: None, rng, out: Vec::new(), ready: Vec::new() }
    }

    /// The same within the exclusive section, of what the journal knows already: it is not recorded, and nobody who
    /// waits for a key is served.
    pub fn alone(server: &'s Server) -> Applier<'s> {
        Applier { alone: true, ..Applier::new(server, DbIndex(0)) }
    }

    /// The database that is selected.
    pub fn database(&self) -> DbIndex {
        self.db
    }

    /// Whether a transaction has begun and not ended: its requests are not repeated yet.
    pub fn is_in_transaction(&self) -> bool {
        self.queue.is_some()
    }

    /// Repeats one request. `raw` is what it was in the stream; it is recorded with the change, if anything is
    /// recorded at all. The state is let go and taken again where the exclusive section is needed. Whoever
    /// calls this wakes workers (`Server::wake_all`) and readers of the journal afterwards.
    ///
    /// # Errors
    /// Why it cannot be repeated. Only what `Failed` is recorded nevertheless: it has its place in the stream.
    pub fn apply(
        &mut self,
        apart: &mut Apart<'_>,
        args: Args<'_>,
        raw: &[u8],
    ) -> Result<Applied, ApplyError> {
        if args.is(0, "REPLCONF") && self.queue.is_none() {
            self.record_stream_only(raw);
            return Ok(if args.is(1, "GETACK") { Applied::GetAck } else { Applied::Ping });
        }
        let Some(entry) = self.server.registry.find(args.at(0)) else {
            return Err(ApplyError::Unknown(String::from_utf8_lossy(args.at(0)).into_owned()));
        };
        let name = entry.command.name;
        if !entry.command.fits(args.len()) {
            return Err(ApplyError::Arguments(name));
        }
        let selected = self.index(args.at(1)).filter(|_| name == "select");
        match (name, &mut self.queue) {
            ("multi", None) => {
                let (begun, raw) = (self.db, raw.to_vec());
                self.queue = Some(Queue { begun, requests: Vec::new(), raw });
            }
            ("multi", Some(_)) => return Err(ApplyError::Misplaced(name)),
            ("exec", _) => {
                let queue = self.queue.take().ok_or(ApplyError::Misplaced(name))?;
                self.run_transaction(apart, queue, raw)?;
            }
            ("select", queue) => {
                self.db = selected.ok_or(ApplyError::Arguments(name))?;
                match queue {
                    Some(queue) => queue.raw.extend_from_slice(raw),
                    None => self.record(raw),
                }
            }
            (_, Some(queue)) => {
                queue.raw.extend_from_slice(raw);
                queue.requests.push((self.db, dispatch::owned(args)));
            }
            ("ping", None) => {
                self.record_stream_only(raw);
                return Ok(Applied::Ping);
            }
            (_, None) => self.run(apart, entry, args, raw)?,
        }
        Ok(Applied::Done)
    }

    /// A transaction whose end was never read is forgotten, as if it had never begun; what it selected, too.
    pub fn give_up_transaction(&mut self) {
        if let Some(queue) = self.queue.take() {
            self.db = queue.begun;
        }
    }

    fn index(&self, text: &[u8]) -> Option<DbIndex> {
        let number = larder_base::number::parse_i64(text)?;
        let db = u8::try_from(number).ok()?;
        (usize::from(db) < self.server.keyspace.databases()).then_some(DbIndex(db))
    }

    fn records(&self) -> bool {
        !self.alone && self.server.journal.is_active()
    }

    fn record(&self, raw: &[u8]) {
        if self.records() {
            self.server.journal.append_raw(self.db, raw);
        }
    }

    fn record_stream_only(&self, raw: &[u8]) {
        if self.records() {
            self.server.journal.append_stream_only(raw);
        }
    }

    /// One request outside of transactions.
    fn run(
        &mut self,
        apart: &mut Apart<'_>,
        entry: Entry,
        args: Args<'_>,
        raw: &[u8],
    ) -> Result<(), ApplyError> {
        let (server, db) = (self.server, self.db);
        if matches!(entry.command.run, Run::Control) {
            check_control(entry)?;
            let change = |this: &mut Self, state: &mut WorkerState| {
                let result = this.control(state, db, entry, args);
                this.record(raw);
                result
            };
            return if entry.command.flags.has(Flags::WRITE) {
                self.exclusively(apart, change)
            } else {
                change(self, apart)
            };
        }
        if entry.command.flags.has(Flags::WHOLE_KEYSPACE) {
            let request = [(db, entry, args)];
            let result = self.exclusively(apart, |this, state| {
                this.repeat(state, Slots::All, &request, Some(raw))
            });
            self.serve(apart);
            return result;
        }
        let at = dispatch::locate_keys(&server.keyspace, entry.command, args);
        let request = [(db, entry, args)];
        let result = self.repeat(apart, Slots::Of(&at), &request, Some(raw));
        self.serve(apart);
        result
    }

    /// A whole transaction, of which nobody sees a part.
    fn run_transaction(
        &mut self,
        apart: &mut Apart<'_>,
        mut queue: Queue,
        raw: &[u8],
    ) -> Result<(), ApplyError> {
        queue.raw.extend_from_slice(raw);
        let server = self.server;
        let slices: Vec<(DbIndex, Vec<&[u8]>)> = queue
            .requests
            .iter()
            .map(|(db, words)| (*db, words.iter().map(Vec::as_slice).collect()))
            .collect();
        let mut requests = Vec::new();
        let mut keys = Vec::new();
        let mut needs_all = false;
        for (db, words) in &slices {
            let args = Args::new(words);
            let Some(entry) = server.registry.find(args.at(0)) else {
                let name = String::from_utf8_lossy(args.at(0)).into_owned();
                return Err(ApplyError::Unknown(name));
            };
            if !entry.command.fits(args.len()) {
                return Err(ApplyError::Arguments(entry.command.name));
            }
            if matches!(entry.command.run, Run::Control) {
                check_control(entry)?;
                needs_all = true;
            }
            needs_all |= entry.command.flags.has(Flags::WHOLE_KEYSPACE);
            let located = dispatch::locate_keys(&server.keyspace, entry.command, args);
            keys.extend(located.into_iter().map(|at| (*db, at)));
            requests.push((*db, entry, args));
        }
        let result = if needs_all {
            self.exclusively(apart, |this, state| {
                let mut result = Ok(());
                for (db, entry, args) in &requests {
                    let one = if matches!(entry.command.run, Run::Control) {
                        this.control(state, *db, *entry, *args)
                    } else {
                        this.repeat(state, Slots::All, &[(*db, *entry, *args)], None)
                    };
                    result = result.and(one);
                }
                this.record(&queue.raw);
                result
            })
        } else {
            self.repeat(apart, Slots::Many(&keys), &requests, Some(&queue.raw))
        };
        self.serve(apart);
        result
    }

    /// Data commands, with all their slots locked. The first error is told; the others are run nevertheless.
    fn repeat(
        &mut self,
        state: &mut WorkerState,
        slots: Slots<'_>,
        requests: &[(DbIndex, Entry, Args<'_>)],
        raw: Option<&[u8]>,
    ) -> Result<(), ApplyError> {
        let records = self.records();
        let Applier { server, db: selected, rng, out, ready, .. } = self;
        let (keyspace, settings) = (&server.keyspace, &*server.settings);
        let db = requests.first().map_or(*selected, |(db, _, _)| *db);
        let mut view = match slots {
            Slots::Of(keys) => keyspace.view(settings, db, keys, now()),
            Slots::Many(keys) => keyspace.view_many(settings, db, keys, now()),
            Slots::All => keyspace.view_all(settings, db, now()),
        };
        view.set_dues(Dues::Keep);
        out.clear();
        let mut context = Context {
            keys: view,
            reply: Reply::new(out, Version::Resp2),
            effects: Effects::new(false),
            rng,
            settings: &server.settings,
            may_block: false,
            ready: None,
            reply_max: usize::MAX,
        };
        let mut result = Ok(());
        let mut begun = Ticks::now();
        for (db, entry, args) in requests {
            let Run::Data(handler) = entry.command.run else { continue };
            if context.keys.db() != *db {
                context.keys.select(*db);
            }
            let outcome = handler(&mut context, *args);
            let failed = outcome.is_err();
            if let Err(fault) = outcome {
                let reason = String::from_utf8_lossy(fault.as_bytes()).into_owned();
                let name = entry.command.name;
                result = result.and(Err(ApplyError::Failed { name, reason }));
            }
            // Nobody reads the answers.
            context.reply.truncate(0);
            let ended = Ticks::now();
            let nanos = ended.nanos_since(std::mem::replace(&mut begun, ended));
            state.count(entry.number(*args), nanos, failed, server.latency.is_tracking());
        }
        if let Some(raw) = raw.filter(|_| records) {
            server.journal.append_raw(*selected, raw);
        }
        dispatch::tally(&mut state.stats, &context.keys);
        dispatch::settle(server, &mut context.keys, 0, ready);
        result
    }

    /// What changes no single key: databases as a whole, and messages.
    fn control(
        &mut self,
        state: &mut WorkerState,
        db: DbIndex,
        entry: Entry,
        args: Args<'_>,
    ) -> Result<(), ApplyError> {
        let (server, name) = (self.server, entry.command.name);
        let begun = Ticks::now();
        let stats = &mut state.stats;
        match name {
            "flushdb" => {
                stats.dirty += databases::flush(server, db, now(), false);
                databases::tell_flushed(server);
            }
            "flushall" => stats.dirty += databases::flush_all(server, now(), false),
            "swapdb" => {
                let (Some(a), Some(b)) = (self.index(args.at(1)), self.index(args.at(2))) else {
                    return Err(ApplyError::Arguments(name));
                };
                databases::swap(server, a, b, now(), &mut self.ready);
                stats.dirty += 1;
            }
            "publish" => {
                server.publish(args.at(1), args.at(2));
            }
            "spublish" => {
                server.publish_shard(args.at(1), args.at(2));
            }
            _ => return Err(ApplyError::Misplaced(name)),
        }
        let nanos = Ticks::now().nanos_since(begun);
        state.count(entry.number(args), nanos, false, server.latency.is_tracking());
        Ok(())
    }

    /// Those who wait for a key here (on a replica that takes writes).
    fn serve(&mut self, state: &mut WorkerState) {
        if !self.ready.is_empty() {
            let mut ready = std::mem::take(&mut self.ready);
            if !self.alone
                && (!self.server.journal.is_active() || self.server.journal.records_effects())
            {
                self.server.serve_ready(&mut ready, now(), &mut state.stats, &mut self.rng);
            }
            ready.clear();
            self.ready = ready;
        }
    }

    /// Lets the own state go for the exclusive section, in which it is locked again.
    fn exclusively<R>(
        &mut self,
        apart: &mut Apart<'_>,
        change: impl FnOnce(&mut Self, &mut WorkerState) -> R,
    ) -> R {
        if self.alone {
            return change(self, apart);
        }
        let server = self.server;
        let mut own = WorkerState::default();
        let result = MutexGuard::unlocked(apart, || server.exclusively(|_| change(self, &mut own)));
        apart.add_counts(&own);
        result
    }
}

/// Which control commands a stream may hold.
fn check_control(entry: Entry) -> Result<(), ApplyError> {
    match entry.command.name {
        "flushdb" | "flushall" | "swapdb" | "publish" | "spublish" => Ok(()),
        name => Err(ApplyError::Misplaced(name)),
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
