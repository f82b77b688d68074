//! What a worker does by the clock: waits that are over, pauses that end, idle connections.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_base::time::Millis;
use larder_protocol::reply::Reply;
use parking_lot::MutexGuard;

use super::{Worker, WorkerState, seats};
use crate::blocking::Waiter;
use crate::books::Books;
use crate::stats::Stats;

/// The deadlines of clients that wait, earliest first. It holds one entry for each that waits, no more.
#[derive(Default)]
pub struct Timers(BTreeSet<(Millis, u64)>);

impl Timers {
    /// A connection waits.
    pub fn start(&mut self, waiter: &Waiter, token: u64) {
        if let Some(when) = waiter.deadline {
            self.0.insert((when, token));
        }
    }

    /// It does no longer.
    pub fn cancel(&mut self, waiter: &Waiter, token: u64) {
        if let Some(when) = waiter.deadline {
            self.0.remove(&(when, token));
        }
    }

    fn next(&self) -> Option<(Millis, u64)> {
        self.0.first().copied()
    }
}

impl Worker {
    /// How long nothing is due but the tick.
    pub(super) fn until_deadline(&self) -> Duration {
        let mut next = self.timers.next().map(|(when, _)| when);
        if !self.paused.is_empty()
            && let Some((until, _)) = *self.server.pause.lock()
        {
            next = Some(next.map_or(until, |when| when.min(until)));
        }
        let Some(when) = next else { return Duration::MAX };
        let left = when.since(crate::shared::now());
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// Ends the waits whose time is over, and looks at held connections when a pause has ended.
    pub(super) fn on_deadlines(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        while let Some((when, token)) = self.timers.next()
            && when <= self.now
        {
            self.timers.0.pop_first();
            let WorkerState { clients, stats, commands, .. } = &mut **state;
            let Some(client) = seats::find(clients, token) else { continue };
            // Whoever ended the wait before has sent a letter.
            if let Some(waiter) = client.waiting.take_if(|waiter| waiter.end()) {
                self.server.blocked.remove(&waiter);
                let start = client.out.len();
                let mut reply = Reply::new(&mut client.out, client.version);
                if !self.server.replication.waits.give_up(&self.server, &waiter, &mut reply) {
                    reply.null_array();
                }
                let mut books = Books { server: &self.server, stats, commands, now: self.now };
                books.end_wait(client, &waiter, start);
                self.dirty.push(token);
                self.again.push(token);
            } else if client.waiting.is_some() {
                // Somebody is about to serve it, or finds that there is nothing for it after all.
                self.timers.0.insert((self.now.saturating_add(5), token));
            }
        }
        if !self.paused.is_empty() && !self.server.is_paused(true, self.now) {
            self.again.append(&mut self.paused);
        }
    }

    /// What is due `hz` times a second: idle connections, expired keys.
    pub(super) fn tick(&mut self, state: &mut MutexGuard<'_, WorkerState>) -> io::Result<()> {
        self.load.judge();
        if self.server.ticks_paused.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.accept_again.is_some_and(|when| when <= Instant::now()) {
            self.accept_again = None;
            self.watch_listeners()?;
        }
        self.close_overdue(state);
        self.server.tracking.keep_limit(&self.server);
        // A pause may have been weakened: they look again, and wait on if it holds them still.
        self.again.append(&mut self.paused);
        self.sweep(state);
        if self.server.is_out_of_memory() {
            let WorkerState { stats, .. } = &mut **state;
            self.server.make_room(self.now, &mut self.rng, stats, &mut self.ready);
        }
        // Rates are means of tenths of a second, however often there is a tick.
        if self.now.since(self.beaten) >= 90 {
            self.beaten = self.now;
            self.beat(state);
        }
        Ok(())
    }

    /// Notes the recent past, for those who ask.
    fn beat(&self, state: &mut MutexGuard<'_, WorkerState>) {
        let mut buffers = [0; 2];
        for client in state.clients.iter().filter_map(|seat| seat.client.as_deref()) {
            let [input, output] = &mut buffers;
            *input = (*input).max(client.input.len());
            *output = (*output).max(client.out.len());
        }
        let Stats { commands, bytes_in, bytes_out, turns, turn_nanos, .. } = state.stats;
        let counts = [commands, bytes_in, bytes_out, turns, turn_nanos];
        state.pulse.beat(Instant::now(), counts, buffers);
        if self.number == 0 {
            self.server.note_memory();
        }
    }
}
