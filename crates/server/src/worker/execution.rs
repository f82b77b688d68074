//! Running a turn's requests in order, and what becomes of their connections. It knows no command.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_base::limits::UNREAD_OWN_BYTES_MAX;
use larder_commands::Args;
use larder_protocol::reply::Reply;
use larder_protocol::request::RequestParser;
use parking_lot::MutexGuard;

use super::batch::{Batch, Parsed};
use super::{HEAVY_MAX, Worker, WorkerState};
use crate::client::Client;
use crate::clock::Ticks;
use crate::dispatch::{Turn, Verdict};

impl Worker {
    /// Runs everything that was parsed.
    pub(super) fn execute(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        if self.batch.pieces.is_empty() {
            return;
        }
        let mut batch = std::mem::replace(&mut self.batch, Batch::empty());
        let begun = Ticks::now();
        self.clock = begun;
        for piece in 0..batch.pieces.len() {
            self.run_piece(state, &mut batch, piece);
        }
        // The last command's end is the end of all.
        state.stats.command_nanos += self.clock.nanos_since(begun);
        batch.clear();
        self.batch = batch;
    }

    /// Runs what one connection has sent, until something stops it.
    fn run_piece(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        batch: &mut Batch,
        number: usize,
    ) {
        let Some(piece) = batch.pieces.get(number) else { return };
        let (token, requests) = (piece.token, piece.requests.clone());
        let (mut used, failure, mut more) = (piece.used, piece.failure, piece.more);
        // It may have been closed by a command of another connection.
        let Some(mut client) = state.take(token) else { return };
        if client.out.capacity() == 0 {
            client.out = self.spare_out.pop().unwrap_or_default();
        }
        let mut held = false;
        let mut done = requests.start;
        // However many replies may wait, no more of them are made in one go: others wait, too.
        let in_one_go = client.unsent().saturating_add(UNREAD_OWN_BYTES_MAX);
        while done < requests.end && self.heavy < HEAVY_MAX {
            batch.look_ahead(&self.server, done);
            client.offered = batch.long(number).cloned();
            let ran = batch.with_args(number, done, |parsed, args| {
                self.run_one(state, &mut client, token, parsed, args)
            });
            client.offered = None;
            self.heavy += batch.weight(number);
            if self.has_much_to_tell() {
                self.heavy = HEAVY_MAX;
            }
            if ran != Some(true) {
                held = true;
                break;
            }
            done += 1;
            if client.closing
                || client.waiting.is_some()
                || client.wants_sync.is_some()
                || client.unsent() > in_one_go
                || !client.takes_replies(&self.server.unread)
            {
                break;
            }
        }
        let stopped = done < requests.end;
        if stopped {
            // What follows is parsed again later.
            more = true;
            used = batch.end_of(requests.start..done);
            client.parser = RequestParser::default();
        } else if let Some(error) = failure {
            Reply::new(&mut client.out, client.version).error_bytes(&error.reply_text());
            client.closing = true;
        }
        client.held = held;
        batch.give_back(number, &mut client, used);
        self.look_again(&mut client, token, held, more);
        client.count_commands(done - requests.start);
        self.greet(&mut client);
        let full = self.limits.input_exceeded(&client, client.input.len());
        let follows = client.wants_sync.is_some();
        state.put_back(token, client);
        if follows {
            self.hand_over(state, token);
        } else if full {
            state.stats.overfed += 1;
            self.close(state, token);
        } else {
            self.dirty.push(token);
        }
    }

    /// Says when a connection is looked at again that has not run all that it sent.
    fn look_again(&mut self, client: &mut Client, token: u64, held: bool, more: bool) {
        if let Some(waiter) = &client.waiting {
            self.timers.start(waiter, token);
        } else if held {
            client.pending = true;
            self.paused.push(token);
        } else if more && !client.input.is_empty() && !client.closing && client.wants_sync.is_none()
        {
            client.behind = !client.takes_replies(&self.server.unread);
            if !client.behind {
                client.pending = true;
                self.again.push(token);
            }
        }
    }

    /// Whether its own connections should be told what happened before more happens.
    #[inline]
    fn has_much_to_tell(&self) -> bool {
        let own = self.server.workers.get(self.number);
        own.is_some_and(crate::shared::WorkerHandle::has_much_to_tell)
    }

    /// Runs one request; false if a pause holds it back.
    #[inline]
    fn run_one(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        client: &mut Client,
        token: u64,
        parsed: &Parsed,
        args: Args<'_>,
    ) -> bool {
        if self.server.paused.load(Ordering::Relaxed)
            && self.server.holds(client, parsed.entry, args, self.now)
        {
            return false;
        }
        let before = self.server.journal.end();
        let WorkerState { stats, commands, .. } = &mut **state;
        let mut turn = Turn {
            server: &self.server,
            worker: self.number,
            now: self.now,
            rng: &mut self.rng,
            stats,
            commands,
            ready: &mut self.ready,
            clock: &mut self.clock,
        };
        let verdict = turn.run(client, token, parsed.entry, args, parsed.at);
        if verdict == Verdict::NeedsExclusive {
            self.run_exclusive(state, client, token, args);
        }
        super::gating::note(&self.server, client, parsed.entry, before);
        true
    }

    /// Lets everybody leave their batch, runs one command, and goes on.
    #[cold]
    fn run_exclusive(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        client: &mut Client,
        token: u64,
        args: Args<'_>,
    ) {
        let server = Arc::clone(&self.server);
        let mut stats = std::mem::take(&mut state.stats);
        let mut commands = std::mem::take(&mut state.commands);
        MutexGuard::unlocked(state, || {
            server.exclusively(|others| {
                // Who is to go for what it holds does not show any more.
                self.limits.evict(&server, others);
                let mut turn = Turn {
                    server: &server,
                    worker: self.number,
                    now: self.now,
                    rng: &mut self.rng,
                    stats: &mut stats,
                    commands: &mut commands,
                    ready: &mut self.ready,
                    clock: &mut self.clock,
                };
                turn.run_exclusive(client, token, args, others);
            });
        });
        state.stats.add(&stats);
        state.commands = commands;
    }
}
