//! Clients that wait for keys. Whoever makes a key ready serves those who wait for it, in the order in
//! which they began to wait, by running their commands again; the replies go to their workers by letter.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_commands::{Args, Context, Effects, Handler, Outcome, Run};
use larder_protocol::reply::{Reply, Version};
use larder_store::DbIndex;
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
    /// Served, timed out or gone: set by whoever ends the wait, once.
    pub ended: AtomicBool,
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
            for waiter in self.blocked.waiters(db, &key) {
                if !self.serve(&waiter, now, stats, rng, ready) {
                    continue;
                }
                self.blocked.remove(&waiter);
            }
        }
        ready.clear();
    }

    /// Runs a waiter's command again; true if it is over.
    fn serve(
        &self,
        waiter: &Arc<Waiter>,
        now: Millis,
        stats: &mut Stats,
        rng: &mut Rng,
        ready: &mut Vec<Ready>,
    ) -> bool {
        let Run::Data(handler) = waiter.entry.command.run else { return true };
        if !waiter.end() {
            return true;
        }
        let slices: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
        let args = Args::new(&slices);
        let mut out = Vec::new();
        if !self.run_again(waiter, handler, args, now, stats, rng, &mut out, ready) {
            // Nothing for it after all: it waits on, in its old place.
            waiter.ended.store(false, Ordering::Release);
            return false;
        }
        self.post(waiter.address.worker, Letter::Served(waiter.address.token, out));
        true
    }

    /// False if the command would still wait.
    #[expect(clippy::too_many_arguments, reason = "what a command needs comes from several owners")]
    fn run_again(
        &self,
        waiter: &Waiter,
        handler: Handler,
        args: Args<'_>,
        now: Millis,
        stats: &mut Stats,
        rng: &mut Rng,
        out: &mut Vec<u8>,
        ready: &mut Vec<Ready>,
    ) -> bool {
        let located = dispatch::locate_keys(&self.keyspace, waiter.entry.command, args);
        let mut context = Context {
            keys: self.keyspace.view(&self.settings, waiter.db, &located, now),
            reply: Reply::new(out, waiter.version),
            effects: Effects::new(self.journal.is_active()),
            rng,
            settings: &self.settings,
            may_block: true,
            retry: true,
        };
        let before = record::changes(&context.keys);
        let outcome = handler(&mut context, args);
        if context.effects.are_wanted() {
            let ok = matches!(outcome, Ok(Outcome::Done));
            record::record(&self.journal, &mut context, waiter.entry.command, args, before, ok);
        }
        dispatch::tally(stats, &context.keys);
        match outcome {
            Ok(Outcome::Wait(_)) => return false,
            Ok(Outcome::Done) => {}
            Err(fault) => {
                context.reply.truncate(0);
                context.reply.error(fault.as_str());
            }
        }
        dispatch::settle(self, &mut context.keys, 0, ready);
        true
    }
}
