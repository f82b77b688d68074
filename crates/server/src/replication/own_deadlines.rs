//! Keys with deadlines that clients made in a replica that may be written to. The primary knows nothing of them, so
//! nobody would say that they go: this server deletes them itself when they are due, and nothing else. It must never
//! touch a key whose deadline is another by then.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_base::time::Millis;
use larder_commands::{Args, Command, Flags};
use larder_store::{DbIndex, Dues, View};
use parking_lot::Mutex;

use crate::dispatch;
use crate::shared::Server;

/// More are not remembered: they stay, unseen, until they are written to or the primary's data replaces all.
const KEYS_MAX: usize = 1 << 20;
/// As many go at once, between two of which commands run.
const TOGETHER: usize = 1000;

type Row = (Millis, DbIndex, Box<[u8]>);

/// See the head of this file. Its lock is a leaf.
#[derive(Default)]
pub struct OwnDeadlines {
    rows: Mutex<BTreeSet<Row>>,
    some: AtomicBool,
}

impl OwnDeadlines {
    /// Remembers the deadlines of the keys that a client's command wrote in a replica. The slots of the keys are locked.
    #[cold]
    pub fn note(&self, view: &mut View<'_>, command: &Command, args: Args<'_>) {
        if !command.flags.has(Flags::WRITE) {
            return;
        }
        let db = view.db();
        command.key_positions(args, |at| {
            if let Some(Some(when)) = view.deadline(args.at(at)) {
                let mut rows = self.rows.lock();
                if rows.len() < KEYS_MAX {
                    rows.insert((when, db, args.at(at).into()));
                    self.some.store(true, Ordering::Release);
                }
            }
        });
    }

    /// Takes some that are due.
    fn take_due(&self, now: Millis) -> Vec<Row> {
        let mut rows = self.rows.lock();
        let mut due = Vec::new();
        while due.len() < TOGETHER
            && rows.first().is_some_and(|(when, ..)| *when <= now)
            && let Some(row) = rows.pop_first()
        {
            due.push(row);
        }
        self.some.store(!rows.is_empty(), Ordering::Release);
        due
    }

    fn clear(&self) {
        self.rows.lock().clear();
        self.some.store(false, Ordering::Release);
    }
}

/// Deletes what is due; to be called some times a second, with no lock held.
pub fn tick(server: &Server, now: Millis) {
    let own = &server.replication.own_deadlines;
    if !own.some.load(Ordering::Acquire) {
        return;
    }
    if !server.replication.is_replica() {
        // What is due goes of itself again.
        return own.clear();
    }
    if server.paused.load(Ordering::Relaxed) || !server.sweeping.load(Ordering::Relaxed) {
        return;
    }
    let due = own.take_due(now);
    if due.is_empty() {
        return;
    }
    let (mut state, mut ready) = (server.apart.lock(), Vec::new());
    for (when, db, key) in due {
        let slot = server.keyspace.locate(&key).slot;
        let mut view = server.keyspace.view_slots(&server.settings, db, &[slot], now);
        view.set_dues(Dues::Keep);
        if view.deadline(&key) == Some(Some(when)) {
            view.set_dues(Dues::Delete);
            view.contains(&key);
        }
        dispatch::tally(&mut state.stats, &view);
        dispatch::settle(server, &mut view, 0, &mut ready);
    }
    drop(state);
    server.wake_all();
}
