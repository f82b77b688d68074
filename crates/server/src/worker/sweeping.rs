//! Deleting what is due: a pass over this worker's share of the slots ten times a second, in steps of bounded
//! time between which commands run. It visits only slots that hold something due by the keyspace's
//! calendar, so a pass in which nothing is due costs microseconds, however many keys have deadlines.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_base::time::Millis;
use larder_store::DbIndex;
use larder_store::expiry::Due;
use parking_lot::MutexGuard;

use super::{Worker, WorkerState};
use crate::dispatch;

/// The time of one step.
const STEP: Duration = Duration::from_micros(500);
/// Commands run at least so long before the next step: a quarter of a core goes to deleting at most, as with Redis.
const REST: Duration = Duration::from_micros(1500);

/// How far the sweeps are.
pub struct Sweeper {
    /// When the last pass began: what was due by then is deleted, or that pass is on its way to it.
    last: Millis,
    pass: Option<Box<Pass>>,
    /// When a pass that is not at its end goes on.
    pub again: Option<Instant>,
}

struct Pass {
    due: Due,
    began: Millis,
    db: u8,
    slot: u16,
    bucket: usize,
}

impl Sweeper {
    /// Nothing was due before now.
    pub fn new(now: Millis) -> Sweeper {
        Sweeper { last: now, pass: None, again: None }
    }

    fn next_pass(&mut self, now: Millis) -> Box<Pass> {
        let due = Due::between(self.last, now);
        self.last = now;
        Box::new(Pass { due, began: now, db: 0, slot: 0, bucket: 0 })
    }
}

impl Worker {
    /// One step of deleting what is due in this worker's share of the slots.
    pub(super) fn sweep(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        self.sweeper.again = None;
        if !self.server.sweeping.load(Ordering::Relaxed) || self.server.keyspace.is_passive() {
            return;
        }
        let begun = Instant::now();
        let mut pass = match self.sweeper.pass.take() {
            Some(pass) => pass,
            None => self.sweeper.next_pass(self.now),
        };
        if self.step(state, &mut pass, begun + STEP) {
            self.sweeper.pass = Some(pass);
            self.sweeper.again = Some(Instant::now() + REST);
        }
        let took = begun.elapsed();
        state.stats.sweep_usec += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        self.server.latency.note("expire-cycle", took, self.now);
    }

    /// Goes on with a pass until the time is over; false when the pass is at its end.
    fn step(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        pass: &mut Pass,
        until: Instant,
    ) -> bool {
        let server = Arc::clone(&self.server);
        let count = u16::try_from(server.workers.len()).unwrap_or(1).max(1);
        let mine = u16::try_from(self.number).unwrap_or(0);
        while usize::from(pass.db) < server.keyspace.databases() {
            let db = DbIndex(pass.db);
            let Some(slot) = server.keyspace.due_from(db, pass.slot, pass.began) else {
                let Some(next) = pass.db.checked_add(1) else { break };
                (pass.db, pass.slot, pass.bucket) = (next, 0, 0);
                continue;
            };
            if slot != pass.slot {
                (pass.slot, pass.bucket) = (slot, 0);
            }
            if slot % count != mine {
                pass.slot += 1;
                continue;
            }
            let mut view = server.keyspace.view_slot(&server.settings, db, slot, self.now);
            match view.sweep(slot, &pass.due, pass.bucket) {
                Some(bucket) => pass.bucket = bucket,
                None => (pass.slot, pass.bucket) = (slot + 1, 0),
            }
            state.stats.expired += view.tally.expired;
            state.stats.expired_members += view.tally.expired_members;
            dispatch::settle(&server, &mut view, 0, &mut self.ready);
            if Instant::now() >= until {
                return true;
            }
        }
        false
    }
}
