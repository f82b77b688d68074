//! One worker: its event loop and the connections that live on it. A loop turn reads and parses everything
//! that is ready, fetches the memory that it will touch, runs it in order, and writes each connection
//! once. It knows no command.

mod batch;
mod execution;
mod gating;
pub mod limits;
mod seats;
mod sweeping;
mod timers;
mod writing;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_net::{
    AcceptError, Event, Interest, Reactor, ReadOutcome, SpareDescriptor, Token, Wait,
};
use parking_lot::MutexGuard;

use crate::admission::Admitted;
use crate::books::Books;
use crate::client::Client;
use crate::clock::{self, Ticks};
use crate::dispatch::{self, Ready};
use crate::durability::gate::Depends;
use crate::pubsub::{Address, Space};
use crate::shared::{Letter, Server, now};
use crate::stats::CommandStats;
use crate::transactions;
use batch::Batch;
use limits::Limits;
pub use seats::{Seat, WorkerState};
use sweeping::Sweeper;
use timers::Timers;

/// How long a worker without descriptors does not look for connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of huge requests that are moved in one turn: the next such request waits for the next turn, so that others
/// are served in between.
const HEAVY_MAX: usize = 64 << 20;
/// Tokens of listeners start here.
const LISTENERS: u64 = 1 << 63;

/// Whether one connection alone keeps this worker busy: only then it pays to look before sleeping.
#[derive(Default)]
struct Load {
    last: u64,
    reads: u32,
    switches: u32,
    lone: bool,
    missed: u32,
}

impl Load {
    fn note(&mut self, token: u64) {
        self.reads = self.reads.saturating_add(1);
        if token != self.last {
            self.last = token;
            self.switches = self.switches.saturating_add(1);
        }
    }

    fn judge(&mut self) {
        self.lone = self.reads > 20 && self.switches < self.reads / 8;
        (self.reads, self.switches) = (0, 0);
    }
}

/// The thread's own part.
pub struct Worker {
    server: Arc<Server>,
    number: usize,
    reactor: Reactor,
    spare: SpareDescriptor,
    /// Listeners are looked at again then: there were no descriptors left.
    accept_again: Option<Instant>,
    rng: Rng,
    ready: Vec<Ready>,
    now: Millis,
    batch: Batch,
    /// Connections to be written in this turn.
    dirty: Vec<u64>,
    /// Connections that have more requests, to be looked at again without an event.
    again: Vec<u64>,
    sweeper: Sweeper,
    beaten: Millis,
    next_worker: usize,
    spare_out: Vec<Vec<u8>>,
    load: Load,
    /// When the last command ended.
    clock: Ticks,
    timers: Timers,
    limits: Limits,
    /// Bytes of huge requests that were moved in this turn.
    heavy: usize,
    /// Connections above a soft limit of output.
    above_soft: Vec<u64>,
    /// Which share of the connections was looked at last for idle ones.
    share: usize,
    /// Connections that wait for CLIENT PAUSE to end.
    paused: Vec<u64>,
    /// Connections that wait at the commit gate.
    gated: gating::Gated,
}

impl Worker {
    /// A worker; the first one accepts, and hands connections out in turn.
    pub fn new(server: Arc<Server>, number: usize, reactor: Reactor, seed: u64) -> Worker {
        clock::calibrate();
        Worker {
            server,
            number,
            reactor,
            spare: SpareDescriptor::new(),
            accept_again: None,
            rng: Rng::new(seed),
            ready: Vec::new(),
            now: now(),
            batch: Batch::new(),
            dirty: Vec::new(),
            again: Vec::new(),
            sweeper: Sweeper::new(now()),
            beaten: Millis(0),
            next_worker: number,
            spare_out: Vec::new(),
            load: Load::default(),
            clock: Ticks::now(),
            timers: Timers::default(),
            limits: Limits::default(),
            heavy: 0,
            above_soft: Vec::new(),
            share: 0,
            paused: Vec::new(),
            gated: gating::Gated::default(),
        }
    }

    /// Runs until the server stops.
    ///
    /// # Errors
    /// When the event loop itself breaks.
    pub fn run(mut self) -> io::Result<()> {
        self.watch_listeners()?;
        let server = Arc::clone(&self.server);
        let Some(handle) = server.workers.get(self.number) else { return Ok(()) };
        handle.state.lock().commands.resize(server.registry.numbers(), CommandStats::default());
        let mut events = Vec::new();
        let mut letters = Vec::new();
        let mut next_tick = Instant::now() + self.period();
        while !dispatch::is_stopping(&server) {
            let wake = self.sweeper.again.map_or(next_tick, |again| again.min(next_tick));
            self.wait(&mut events, wake)?;
            self.now = now();
            let begun = Ticks::now();
            let mut state = handle.state.lock();
            let commands = state.stats.commands;
            self.heavy = 0;
            self.refresh_limits(&mut state);
            // Before anything that was sent later: who has seen the reply of a change elsewhere must find
            // its invalidation before the reply of the next request.
            handle.mailbox.drain(&mut letters);
            for letter in letters.drain(..) {
                self.on_letter(&mut state, letter);
            }
            self.pass_gate(&mut state);
            for event in &events {
                self.on_event(&mut state, *event);
            }
            self.on_again(&mut state);
            self.execute(&mut state);
            self.on_deadlines(&mut state);
            if Instant::now() >= next_tick {
                let ticked = Ticks::now();
                self.tick(&mut state)?;
                state.stats.tick_nanos += Ticks::now().nanos_since(ticked);
                next_tick = Instant::now() + self.period();
            } else if self.sweeper.again.is_some_and(|again| again <= Instant::now()) {
                self.sweep(&mut state);
            }
            // Own letters (a publisher that listens itself) belong to this turn.
            handle.mailbox.drain(&mut letters);
            for letter in letters.drain(..) {
                self.on_letter(&mut state, letter);
            }
            self.flush(&mut state);
            self.give_back(&mut letters);
            state.note_turn(Ticks::now().nanos_since(begun), commands);
            drop(state);
            server.wake_all();
            server.journal.wake();
            server.keep_pace();
            self.evict_clients();
        }
        Ok(())
    }

    /// A burst of letters leaves no room behind that is never used again, nor any while keys must go for the memory.
    fn give_back(&self, letters: &mut Vec<Letter>) {
        const KEPT: usize = 16 * 1024;
        const KEPT_IN_NEED: usize = 64;
        let room = letters.capacity();
        if room > KEPT || (room > KEPT_IN_NEED && self.server.is_out_of_memory()) {
            *letters = Vec::new();
            if let Some(own) = self.server.workers.get(self.number) {
                own.mailbox.shrink_to(0);
            }
        }
    }

    /// Sleeps; but right after a lone connection's request it looks a few times more, since the next one
    /// is on its way and waking up costs more than looking.
    fn wait(&mut self, events: &mut Vec<Event>, next_tick: Instant) -> io::Result<()> {
        const SPIN: Duration = Duration::from_micros(40);
        /// Looks before sleeping where several workers share the cores, half a microsecond each.
        const LOOKS: u32 = 8;
        if !self.again.is_empty() || !self.mailbox_is_empty() {
            return self.reactor.poll(Wait::Now, events);
        }
        if self.load.lone && self.load.missed < 8 {
            let until = Instant::now() + SPIN;
            loop {
                self.reactor.poll(Wait::Now, events)?;
                if !events.is_empty() || !self.mailbox_is_empty() {
                    self.load.missed = 0;
                    return Ok(());
                }
                if Instant::now() >= until {
                    break;
                }
                std::thread::yield_now();
            }
            self.load.missed += 1;
        }
        if self.server.workers.len() > 1 && !events.is_empty() {
            // Several threads wait for few cores: whoever runs instead makes more work ready, and a turn's
            // cost is shared by more commands. Falling asleep costs more than a few looks, too, not least whoever
            // wakes the sleeper.
            for _ in 0..LOOKS {
                std::thread::yield_now();
                self.reactor.poll(Wait::Now, events)?;
                if !events.is_empty() || !self.mailbox_is_empty() {
                    return Ok(());
                }
            }
        }
        let left = next_tick.saturating_duration_since(Instant::now());
        let left = left.min(self.until_deadline());
        self.reactor.poll(Wait::AtMost(left), events)?;
        if !events.is_empty() && self.load.missed < 64 {
            // Work came after all: one more try.
            self.load.missed = self.load.missed.saturating_sub(1);
        }
        Ok(())
    }

    fn mailbox_is_empty(&self) -> bool {
        self.server.workers.get(self.number).is_none_or(|handle| handle.mailbox.is_empty())
    }

    fn on_event(&mut self, state: &mut MutexGuard<'_, WorkerState>, event: Event) {
        let Token(token) = event.token;
        if token >= LISTENERS {
            self.accept(token - LISTENERS);
            return;
        }
        if event.readable {
            self.load.note(token);
            self.read(state, token);
        }
        if event.closed && state.client(token).is_some_and(|client| client.gated) {
            // What it waits for cannot reach it any more.
            self.close(state, token);
        } else if event.writable || event.closed {
            self.dirty.push(token);
        }
    }

    /// Looks for connections from now on, wherever the first worker does not yet.
    fn watch_listeners(&self) -> io::Result<()> {
        if self.number > 0 {
            return Ok(());
        }
        for door in self.server.doors.all().iter_mut().filter(|door| !door.watched) {
            let token = Token(LISTENERS + door.number);
            self.reactor.register(&door.listener, token, Interest::Read)?;
            door.watched = true;
        }
        Ok(())
    }

    /// The time between two rounds of background work.
    fn period(&self) -> Duration {
        Duration::from_secs(1) / self.server.config().rounds_per_second()
    }

    fn accept(&mut self, number: u64) {
        let server = Arc::clone(&self.server);
        let mut doors = server.doors.all();
        // A bounded number a turn, so that a storm of connections leaves room for commands.
        for _ in 0..256 {
            // It may have been closed by CONFIG SET.
            let Some(listener) = doors.find(number) else { return };
            let stream = match listener.accept() {
                Ok(stream) => stream,
                Err(AcceptError::WouldBlock) => return,
                Err(AcceptError::Failed(error)) => {
                    crate::log::warning(&format!(
                        "A connection failed before it was accepted: {error}"
                    ));
                    return;
                }
                Err(AcceptError::OutOfDescriptors) => {
                    if !self.spare.turn_away(listener) {
                        // A listener that stays readable would keep the loop turning: look away.
                        crate::log::warning("No descriptors left to accept connections");
                        for door in doors.iter_mut().filter(|door| door.watched) {
                            self.reactor.deregister(&door.listener);
                            door.watched = false;
                        }
                        self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
                    }
                    return;
                }
            };
            let Some(admitted) = self.server.admit(&stream) else { continue };
            self.next_worker = (self.next_worker + 1) % self.server.workers.len().max(1);
            self.server.post(self.next_worker, Letter::Accepted(stream, admitted));
        }
    }

    fn deliver(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        token: u64,
        message: &crate::pubsub::Message,
    ) {
        if let Some(handle) = self.server.workers.get(self.number) {
            handle.hand_over(message);
        }
        if let Some(client) = state.client(token)
            && client.hear(message)
        {
            self.limits.weigh(&self.server, client);
            if self.limits.output_exceeded(client, self.now) {
                state.stats.dropped += 1;
                self.close(state, token);
            } else {
                self.dirty.push(token);
            }
        }
    }

    fn on_letter(&mut self, state: &mut MutexGuard<'_, WorkerState>, letter: Letter) {
        match letter {
            Letter::Accepted(stream, Admitted { id, stranger }) => {
                stream.set_keepalive(self.server.config().tcp_keepalive);
                state.stats.connections += 1;
                let mut client = Client::new(stream, id, !stranger, self.now);
                client.stranger = stranger;
                let token = state.seat(client);
                if let Some(client) = state.client(token)
                    && self.reactor.register(&client.stream, Token(token), Interest::Read).is_err()
                {
                    self.close(state, token);
                }
            }
            Letter::Deliver(token, message) => self.deliver(state, token, &message),
            Letter::Served(token, bytes, waiter) => {
                let WorkerState { clients, stats, commands, .. } = &mut **state;
                if let Some(client) = seats::find(clients, token) {
                    let start = client.out.len();
                    client.out.extend_from_slice(&bytes);
                    if waiter.as_ref().is_some_and(|waiter| !waiter.keys.is_empty()) {
                        // A WAIT that follows is about this change, too.
                        client.depends_on = self.server.journal.end();
                    }
                    if self.server.gate.is_closing() {
                        // Whoever served it has changed data.
                        let end = self.server.journal.end();
                        client.depends = Depends { seen: end, wrote: end };
                    }
                    if let Some(waiter) = client.waiting.take() {
                        self.timers.cancel(&waiter, token);
                        let mut books =
                            Books { server: &self.server, stats, commands, now: self.now };
                        books.end_wait(client, &waiter, start);
                    }
                    self.dirty.push(token);
                    self.again.push(token);
                } else if let Some(waiter) = waiter {
                    // It went away in the moment it was served: what was taken for it goes back.
                    let (rng, ready) = (&mut self.rng, &mut self.ready);
                    self.server.give_back(&waiter, &bytes, self.now, stats, rng, ready);
                }
            }
            Letter::Close(token) => self.close(state, token),
            Letter::Overrun(token) => {
                if let Some(handle) = self.server.workers.get(self.number) {
                    handle.forget_overrun(token);
                }
                if state.client(token).is_some() {
                    state.stats.dropped += 1;
                    self.close(state, token);
                }
            }
            Letter::Doors => {
                if let Some(handle) = self.server.workers.get(self.number) {
                    handle.look_at_doors();
                }
                if let Err(error) = self.watch_listeners() {
                    crate::log::warning(&format!("New addresses cannot be watched: {error}"));
                }
            }
            Letter::Evict(token) => {
                if state.client(token).is_some() {
                    state.stats.evicted_clients += 1;
                    self.close(state, token);
                }
            }
        }
    }

    fn read(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        if self.batch.is_full() {
            self.execute(state);
        }
        let WorkerState { clients, stats, .. } = &mut **state;
        let Some(client) = seats::find(clients, token) else { return };
        if client.gated {
            return self.look_away(state, token);
        }
        // Who does not read its replies is not read either, nor who has sent more than has run yet.
        if client.batched || client.pending || !client.takes_replies(&self.server.unread) {
            return;
        }
        let (len, room) = (client.input.len(), client.input.capacity());
        if self.heavy >= HEAVY_MAX && len >= HEAVY_MAX {
            return;
        }
        match self.batch.read(&self.server, client, token) {
            ReadOutcome::Bytes(count) => {
                if len >= HEAVY_MAX && len + count > room {
                    // All of it had to move to a larger place.
                    self.heavy += len;
                }
                client.active = self.now;
                stats.bytes_in += count as u64;
                stats.reads += 1;
                if self.limits.input_exceeded(client, len + count) {
                    stats.overfed += 1;
                    self.close(state, token);
                }
            }
            ReadOutcome::WouldBlock => {}
            ReadOutcome::Closed | ReadOutcome::Failed(_) => self.close(state, token),
        }
    }

    fn on_again(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        for token in std::mem::take(&mut self.again) {
            if self.batch.is_full() {
                self.execute(state);
            }
            if let Some(client) = state.client(token) {
                client.pending = false;
                if client.gated {
                    continue;
                }
                self.batch.resume(&self.server, client, token);
            }
        }
    }

    fn close(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        if self.release(state, token).is_some() {
            self.server.connections.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Lets a connection go that asked to follow: threads of its own serve it.
    fn hand_over(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        let Some(mut client) = self.release(state, token) else { return };
        if let Some(request) = client.wants_sync.take() {
            crate::replication::feeding::take_over(&self.server, *client, request);
        }
    }

    /// Takes a connection out of everything that this worker and others know of it.
    fn release(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        token: u64,
    ) -> Option<Box<Client>> {
        let mut client = state.remove(token)?;
        self.reactor.deregister(&client.stream);
        if let Some(waiter) = &client.waiting {
            self.timers.cancel(waiter, token);
        }
        if client.gated {
            self.server.gate.unpark();
        }
        if client.accounted > 0 {
            self.server.clients_memory.fetch_sub(client.accounted, Ordering::Relaxed);
        }
        if client.stranger {
            self.server.strangers.fetch_sub(1, Ordering::Relaxed);
        }
        forget(&self.server, self.number, token, &mut client);
        Some(client)
    }
}

/// Undoes everything that others know of a connection.
fn forget(server: &Server, worker: usize, token: u64, client: &mut Client) {
    if let Some(waiter) = client.waiting.take() {
        waiter.end();
        server.blocked.remove(&waiter);
    }
    transactions::forget_watches(server, client);
    if let Some(tracker) = client.tracker.take() {
        server.tracking.end(&tracker);
        server.observe();
    }
    if !server.tracking.is_idle() {
        server.tracking.closed(server, client.id);
    }
    if client.monitor {
        server.monitors.remove(Address { worker, token });
    }
    if client.subscription_count() > 0 {
        let mut pubsub = server.pubsub.write();
        let spaces = [Space::Channel, Space::Pattern, Space::Shard];
        for (space, names) in spaces.into_iter().zip(&mut client.subscriptions) {
            for name in names.drain() {
                pubsub.unsubscribe(space, &name, Address { worker, token });
            }
        }
    }
}
