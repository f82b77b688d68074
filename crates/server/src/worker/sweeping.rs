//! Deleting what is due: a pass over this worker's share of the slots at the beginning of every tick in which
//! something is, in steps of bounded time between which commands run. It visits only slots that hold
//! something due by the keyspace's calendar, so a pass in which nothing is due costs microseconds,
//! however many keys have deadlines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_base::time::Millis;
use larder_store::expiry::{Due, Tick};
use larder_store::view::{SWEPT_TOGETHER, Stop};
use larder_store::{DbIndex, Keyspace};
use parking_lot::MutexGuard;

use super::{Worker, WorkerState};
use crate::dispatch;

/// The time of one step.
const STEP: Duration = Duration::from_micros(500);
/// Commands run at least so long before the next step: a quarter of a core goes to deleting at most, as with Redis.
const REST: Duration = Duration::from_micros(1500);

/// How far the sweeps are.
pub struct Sweeper {
    /// The tick that had just begun when the last pass did: what was due before is deleted, or that pass is on
    /// its way to it.
    last: Tick,
    pass: Option<Box<Pass>>,
    /// Hashes with many fields that are due, each to be gone on with from step to step.
    hashes: VecDeque<(DbIndex, Box<[u8]>)>,
    /// When a pass that is not at its end goes on, or the next one begins.
    pub again: Option<Instant>,
}

struct Pass {
    due: Due,
    db: u8,
    /// The first slot that was not looked for yet.
    slot: u16,
    /// Where the last step stopped in the middle of a slot.
    stop: Option<Stop>,
    /// The slots of the next step, on their way into the cache.
    next: Vec<u16>,
    /// Those of the present one.
    slots: Vec<u16>,
}

impl Sweeper {
    /// Nothing was due before now.
    pub fn new(now: Millis) -> Sweeper {
        Sweeper { last: Tick::begun(now), pass: None, hashes: VecDeque::new(), again: None }
    }

    /// Remembers hashes to go on with. Those for which there is no room are met again by the calendar.
    fn go_on_with(&mut self, db: DbIndex, keys: Vec<Box<[u8]>>) {
        const MAX: usize = 64;
        for key in keys {
            let known = self.hashes.iter().any(|(of, hash)| *of == db && *hash == key);
            if !known && self.hashes.len() < MAX {
                self.hashes.push_back((db, key));
            }
        }
    }

    /// No pass is on its way, and no hash is left to go on with.
    fn is_at_rest(&self) -> bool {
        self.pass.is_none() && self.hashes.is_empty()
    }

    fn next_pass(&mut self, now: Millis) -> Box<Pass> {
        let cut = Tick::begun(now);
        let due = Due::between(self.last, cut);
        self.last = cut;
        Box::new(Pass { due, db: 0, slot: 0, stop: None, next: Vec::new(), slots: Vec::new() })
    }
}

impl Pass {
    /// The slots of the next step: those of the database that it is at, as far as they are this worker's.
    fn fetch(&mut self, keyspace: &Keyspace, is_mine: impl Fn(u16) -> bool) {
        let db = DbIndex(self.db);
        let due = keyspace.due_from(db, self.slot, self.due.cut());
        self.next.clear();
        self.next.extend(due.filter(|slot| is_mine(*slot)).take(SWEPT_TOGETHER));
        for slot in &self.next {
            keyspace.prefetch_head(db, *slot);
        }
        self.slot = self.next.last().map_or(u16::MAX, |last| last + 1);
    }

    /// Goes on to the slots of the next step, in the next database if need be; false at the end.
    fn advance(&mut self, keyspace: &Keyspace, is_mine: impl Fn(u16) -> bool) -> bool {
        while usize::from(self.db) < keyspace.databases() {
            if self.next.is_empty() {
                self.fetch(keyspace, &is_mine);
            }
            std::mem::swap(&mut self.slots, &mut self.next);
            if !self.slots.is_empty() {
                return true;
            }
            // Those of the step before, which came back with the exchange, are of this database.
            self.next.clear();
            let Some(next) = self.db.checked_add(1) else { break };
            (self.db, self.slot, self.stop) = (next, 0, None);
        }
        false
    }
}

impl Worker {
    /// One step of deleting what is due in this worker's share of the slots.
    pub(super) fn sweep(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        self.sweeper.again = None;
        let Worker { server, now, .. } = self;
        // While writes are held back, nothing goes of itself either.
        let held = server.paused.load(Ordering::Relaxed) && server.is_paused(true, *now);
        if held || !server.sweeping.load(Ordering::Relaxed) || server.keyspace.is_passive() {
            return;
        }
        let begun = Instant::now();
        if self.sweeper.is_at_rest() && server.keyspace.next_due() > Tick::begun(*now) {
            self.sweeper.last = Tick::begun(*now);
            self.sweeper.again = self.next_pass_at();
            return;
        }
        let mut pass = match self.sweeper.pass.take() {
            Some(pass) => pass,
            None => self.sweeper.next_pass(self.now),
        };
        if self.step(state, &mut pass, begun + STEP) {
            self.sweeper.pass = Some(pass);
        }
        self.sweep_hashes(state, begun + STEP);
        if self.sweeper.pass.is_some() || !self.sweeper.hashes.is_empty() {
            self.sweeper.again = Some(Instant::now() + REST);
        } else {
            self.sweeper.again = self.next_pass_at();
        }
        let took = begun.elapsed();
        state.stats.sweep_usec += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        self.server.latency.note("expire-cycle", took, self.now);
    }

    /// The beginning of the tick in which something is due next, if it is not far off: the round of background
    /// work has a look anyway.
    fn next_pass_at(&self) -> Option<Instant> {
        const FAR: i64 = 1000;
        let next = self.server.keyspace.next_due().max(Tick(self.sweeper.last.0 + 1));
        let left = next.moment().since(crate::shared::now());
        let left =
            u64::try_from(left.clamp(0, FAR)).ok().filter(|left| *left < FAR.unsigned_abs())?;
        Some(Instant::now() + Duration::from_millis(left + 1))
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
        let is_mine = |slot: u16| slot % count == mine;
        while pass.advance(&server.keyspace, is_mine) {
            let db = DbIndex(pass.db);
            let from = pass.stop.filter(|stop| pass.slots.first() == Some(&stop.slot));
            pass.fetch(&server.keyspace, is_mine);
            let mut view = server.keyspace.view_slots(&server.settings, db, &pass.slots, self.now);
            pass.stop = view.sweep(&pass.due, from);
            self.sweeper.go_on_with(db, std::mem::take(&mut view.unfinished));
            if let Some(stop) = pass.stop {
                pass.slot = stop.slot;
                pass.next.clear();
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

    /// Goes on with the hashes that have many fields to lose, in turn, until the time is over: one visit at least.
    fn sweep_hashes(&mut self, state: &mut MutexGuard<'_, WorkerState>, until: Instant) {
        let server = Arc::clone(&self.server);
        while let Some((db, key)) = self.sweeper.hashes.pop_front() {
            let at = server.keyspace.locate(&key);
            let mut view = server.keyspace.view_slots(&server.settings, db, &[at.slot], self.now);
            view.sweep_members(&key);
            self.sweeper.go_on_with(db, std::mem::take(&mut view.unfinished));
            state.stats.expired += view.tally.expired;
            state.stats.expired_members += view.tally.expired_members;
            dispatch::settle(&server, &mut view, 0, &mut self.ready);
            if Instant::now() >= until {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_base::hash::KeyHasher;
    use larder_store::{Deadline, Settings};

    use super::*;

    #[test]
    fn a_pass_visits_no_slot_of_another_database() {
        let keyspace = Keyspace::new(KeyHasher::new(1, 2), 16);
        let settings = Settings::default();
        let now = Millis(1_000_000);
        let mut visits = Vec::new();
        for (db, key) in [(0, b"one".as_slice()), (0, b"two"), (5, b"three")] {
            let at = keyspace.locate(key);
            let mut view = keyspace.view_slots(&settings, DbIndex(db), &[at.slot], now);
            view.set_string(key, b"x", Deadline::At(Millis(1_000_100)));
            visits.push((db, at.slot));
        }
        visits.sort_unstable();
        let mut pass = Sweeper::new(now).next_pass(Millis(1_000_200));
        let mut seen = Vec::new();
        while pass.advance(&keyspace, |_| true) {
            seen.extend(pass.slots.iter().map(|slot| (pass.db, *slot)));
            pass.fetch(&keyspace, |_| true);
        }
        assert_eq!(seen, visits);
    }
}
