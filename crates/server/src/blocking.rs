//! Clients that wait for keys. Whoever makes a key ready serves those who wait for it, in the order in
//! which they began to wait, by running their commands again; the replies go to their workers by letter.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_commands::{Args, Context, Effects, Outcome, Run};
use larder_protocol::reply::{Reply, Version};
use larder_protocol::response::{self, Value};
use larder_store::{DbIndex, Interest};
use parking_lot::Mutex;

use crate::client::OwnedArgs;
use crate::clock::Ticks;
use crate::dispatch::{self, Ready};
use crate::durability::record;
use crate::pubsub::Address;
use crate::registry::Entry;
use crate::shared::{Letter, Server, now};
use crate::stats::Stats;

/// One waiting command.
pub struct Waiter {
    /// Whose it is.
    pub address: Address,
    /// The command.
    pub entry: Entry,
    /// Its arguments.
    pub args: OwnedArgs,
    /// Its database.
    pub db: DbIndex,
    /// Its protocol version.
    pub version: Version,
    /// When it began.
    pub begun: Ticks,
    /// When it gives up; `None` = never.
    pub deadline: Option<Millis>,
    /// Served, timed out or gone: set by whoever ends the wait, once; and while somebody tries to serve it.
    pub ended: AtomicBool,
    /// Held by whoever tries to serve it, before any slot is locked. Another key of it may become ready meanwhile: who
    /// made that ready must neither take it for served nor pass it over, since it may wait on.
    pub serving: Mutex<()>,
    /// Keys waited for.
    pub keys: Vec<Vec<u8>>,
}

impl Waiter {
    /// Ends the wait; false if somebody else did before.
    pub fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }
}

type Queues = HashMap<(DbIndex, Vec<u8>), VecDeque<Arc<Waiter>>>;

/// All waiters by key.
#[derive(Default)]
pub struct Blocked {
    queues: Mutex<Queues>,
    /// Keys waited for.
    count: AtomicUsize,
}

impl Blocked {
    /// How many keys somebody waits for.
    pub fn keys(&self) -> usize {
        self.queues.lock().len()
    }

    /// Adds a waiter to the queues of its keys.
    pub fn add(&self, waiter: &Arc<Waiter>) {
        let mut queues = self.queues.lock();
        for key in &waiter.keys {
            queues.entry((waiter.db, key.clone())).or_default().push_back(Arc::clone(waiter));
        }
        self.count.store(queues.len(), Ordering::Release);
    }

    /// Takes a waiter out of all its queues.
    pub fn remove(&self, waiter: &Arc<Waiter>) {
        let mut queues = self.queues.lock();
        for key in &waiter.keys {
            let name = (waiter.db, key.clone());
            if let Some(queue) = queues.get_mut(&name) {
                queue.retain(|other| !Arc::ptr_eq(other, waiter));
                if queue.is_empty() {
                    queues.remove(&name);
                }
            }
        }
        self.count.store(queues.len(), Ordering::Release);
    }

    /// Whether nobody waits for any key.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// All keys of a database that somebody waits for, as if they had become ready.
    pub fn waited_for(&self, db: DbIndex) -> Vec<Ready> {
        let queues = self.queues.lock();
        let keys = queues.keys().filter(|(of, _)| *of == db);
        keys.map(|(db, key)| Ready { db: *db, key: key.clone() }).collect()
    }

    /// Those who wait for a key, first come first.
    fn waiters(&self, db: DbIndex, key: &[u8]) -> Vec<Arc<Waiter>> {
        let queues = self.queues.lock();
        queues
            .get(&(db, key.to_vec()))
            .map(|queue| queue.iter().cloned().collect())
            .unwrap_or_default()
    }
}

impl Server {
    /// Serves those who wait for keys that became ready, at the present moment: what made them ready may
    /// have taken long. The caller holds no slot.
    pub fn serve_ready(
        &self,
        ready: &mut Vec<Ready>,
        since: Millis,
        stats: &mut Stats,
        rng: &mut Rng,
    ) {
        let now = now().max(since);
        let mut at = 0;
        while let Some(Ready { db, key }) = ready.get(at).cloned() {
            at += 1;
            let waiters = self.blocked.waiters(db, &key);
            if waiters.is_empty() && self.blocked.is_idle() {
                self.lose_interest(db, &key, now);
            }
            for waiter in waiters {
                if !self.serve(&waiter, &key, now, stats, rng, ready) {
                    continue;
                }
                self.blocked.remove(&waiter);
            }
        }
        ready.clear();
    }

    /// Lets the slot of a key report no more what nobody waits for.
    fn lose_interest(&self, db: DbIndex, key: &[u8], now: Millis) {
        let at = self.keyspace.locate(key);
        let mut view = self.keyspace.view(&self.settings, db, &[at], now);
        // Whoever begins to wait for a key of this slot does so under its lock.
        if self.blocked.is_idle() {
            view.set_interest(key, Interest::BLOCKED, false);
        }
    }

    /// Runs a waiter's command again for the sake of a key; true if it is over.
    fn serve(
        &self,
        waiter: &Arc<Waiter>,
        key: &[u8],
        now: Millis,
        stats: &mut Stats,
        rng: &mut Rng,
        ready: &mut Vec<Ready>,
    ) -> bool {
        let _one = waiter.serving.lock();
        if !waiter.end() {
            return true;
        }
        let slices: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
        let args = Args::new(&slices);
        let (entry, db, version) = (&waiter.entry, waiter.db, waiter.version);
        let answer = &mut |reply: &[u8]| {
            let Address { worker, token } = waiter.address;
            self.post(worker, Letter::Served(token, reply.to_vec(), Some(Arc::clone(waiter))));
        };
        if !self.run_apart(entry, db, version, args, Some(key), now, stats, rng, answer, ready) {
            // Nothing for it after all: it waits on, in its old place.
            waiter.ended.store(false, Ordering::Release);
            return false;
        }
        true
    }

    /// Puts back what a command took for a client that is gone: its reply never left. Moves (BLMOVE) need
    /// nothing, since what they took lies at its new place.
    pub fn give_back(
        &self,
        waiter: &Waiter,
        reply: &[u8],
        now: Millis,
        stats: &mut Stats,
        rng: &mut Rng,
        ready: &mut Vec<Ready>,
    ) {
        let Some(request) = undoing(waiter.entry.command.name, &waiter.args, reply) else { return };
        let slices: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        let Some(entry) = self.registry.find(slices.first().copied().unwrap_or(b"")) else {
            return;
        };
        let db = waiter.db;
        let args = Args::new(&slices);
        let unheard = &mut |_: &[u8]| {};
        self.run_apart(&entry, db, waiter.version, args, None, now, stats, rng, unheard, ready);
        let mut served = std::mem::take(ready);
        self.serve_ready(&mut served, now, stats, rng);
        *ready = served;
    }

    /// Runs a data command outside of any connection, for the sake of a key if it waited; false if it would wait on. Its reply goes to `answer` before
    /// anybody is told what it changed: who gets it may cache that.
    #[expect(clippy::too_many_arguments, reason = "what a command needs comes from several owners")]
    fn run_apart(
        &self,
        entry: &Entry,
        db: DbIndex,
        version: Version,
        args: Args<'_>,
        key: Option<&[u8]>,
        now: Millis,
        stats: &mut Stats,
        rng: &mut Rng,
        answer: &mut dyn FnMut(&[u8]),
        ready: &mut Vec<Ready>,
    ) -> bool {
        let Run::Data(handler) = entry.command.run else { return true };
        let located = dispatch::locate_keys(&self.keyspace, entry.command, args);
        let mut out = Vec::new();
        let mut context = Context {
            keys: self.keyspace.view(&self.settings, db, &located, now),
            reply: Reply::new(&mut out, version),
            effects: Effects::new(self.journal.records_effects()),
            rng,
            settings: &self.settings,
            may_block: true,
            ready: key,
            reply_max: usize::MAX,
        };
        let before = record::changes(&context.keys);
        let outcome = handler(&mut context, args);
        if context.effects.are_wanted() {
            let ok = matches!(outcome, Ok(Outcome::Done));
            record::record(self.books(), &mut context, entry.command, args, before, ok);
        }
        dispatch::tally(stats, &context.keys);
        match outcome {
            Ok(Outcome::Wait(_)) => {
                dispatch::settle(self, &mut context.keys, 0, ready);
                return false;
            }
            Ok(Outcome::Done) => {}
            Err(fault) => {
                context.reply.truncate(0);
                context.reply.error_bytes(fault.as_bytes());
            }
        }
        answer(context.reply.written_since(0));
        dispatch::settle(self, &mut context.keys, 0, ready);
        true
    }
}

/// The request that undoes what a command took, told from its reply.
fn undoing(name: &str, args: &[Vec<u8>], reply: &[u8]) -> Option<OwnedArgs> {
    let (Value::Array(parts), _) = response::parse(reply).ok()?? else { return None };
    let bytes = |value: &Value| match value {
        Value::Bulk(text) | Value::Double(text) => Some(text.clone()),
        _ => None,
    };
    let key = bytes(parts.first()?)?;
    let mut request = vec![Vec::new(), key];
    let verb: &[u8] = match (name, parts.get(1)?) {
        ("blpop", element) => {
            request.push(bytes(element)?);
            b"LPUSH"
        }
        ("brpop", element) => {
            request.push(bytes(element)?);
            b"RPUSH"
        }
        ("bzpopmin" | "bzpopmax", member) => {
            request.push(bytes(parts.get(2)?)?);
            request.push(bytes(member)?);
            b"ZADD"
        }
        ("bzmpop", Value::Array(rows)) => {
            for row in rows {
                let Value::Array(row) = row else { return None };
                request.push(bytes(row.get(1)?)?);
                request.push(bytes(row.first()?)?);
            }
            b"ZADD"
        }
        ("blmpop", Value::Array(elements)) => {
            // Taken from one end, the last taken goes back first.
            for element in elements.iter().rev() {
                request.push(bytes(element)?);
            }
            let keys: usize = std::str::from_utf8(args.get(2)?).ok()?.parse().ok()?;
            let end = args.get(keys.checked_add(3)?)?;
            if end.eq_ignore_ascii_case(b"LEFT") { b"LPUSH" } else { b"RPUSH" }
        }
        _ => return None,
    };
    request.first_mut()?.extend_from_slice(verb);
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_goes_back_where_it_was() {
        let undo = |sent: &str, reply: &str| {
            let args: OwnedArgs = sent.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            let name = sent.split(' ').next().unwrap().to_lowercase();
            let words = undoing(&name, &args, reply.as_bytes())?;
            Some(String::from_utf8(words.join(&b' ')).unwrap())
        };
        let pair = "*2\r\n$1\r\nk\r\n$1\r\na\r\n";
        assert_eq!(undo("BLPOP k 0", pair).unwrap(), "LPUSH k a");
        assert_eq!(undo("BRPOP k 0", pair).unwrap(), "RPUSH k a");
        let many = "*2\r\n$1\r\nk\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n";
        assert_eq!(undo("BLMPOP 0 1 k LEFT COUNT 2", many).unwrap(), "LPUSH k b a");
        assert_eq!(undo("BLMPOP 0 2 j k RIGHT", many).unwrap(), "RPUSH k b a");
        let scored = "*3\r\n$1\r\nk\r\n$1\r\nm\r\n$3\r\n1.5\r\n";
        assert_eq!(undo("BZPOPMIN k 0", scored).unwrap(), "ZADD k 1.5 m");
        let resp3 = "*3\r\n$1\r\nk\r\n$1\r\nm\r\n,1.5\r\n";
        assert_eq!(undo("BZPOPMAX k 0", resp3).unwrap(), "ZADD k 1.5 m");
        let rows = "*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$1\r\nm\r\n$1\r\n2\r\n";
        assert_eq!(undo("BZMPOP 0 1 k MIN", rows).unwrap(), "ZADD k 2 m");
        assert_eq!(undo("BLMOVE a b LEFT LEFT 0", "$1\r\na\r\n"), None);
        assert_eq!(undo("BLPOP k 0", "-WRONGTYPE x\r\n"), None);
    }
}
