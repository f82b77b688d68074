//! One worker: its event loop and the connections that live on it. A loop turn reads everything that is
//! ready, parses it, fetches the memory that it will touch, runs it in order, and writes each
//! connection once. It knows no command.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_commands::{Args, Run};
use larder_net::{
    AcceptError, Event, Interest, Listener, Reactor, ReadOutcome, Token, Wait, WriteOutcome,
};
use larder_protocol::reply::Reply;
use larder_protocol::request::{ArgRange, RequestLimits, RequestParser, Step};
use larder_store::DbIndex;
use larder_store::expiry::Due;
use larder_store::keyspace::Located;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use crate::client::Client;
use crate::dispatch::{self, Ready, TICK, Turn, Verdict};
use crate::observe::pulse::Pulse;
use crate::pubsub::{Address, Space};
use crate::shared::{Letter, Server, now};
use crate::stats::{CommandStats, Stats};
use crate::transactions;

/// Requests taken from one connection in one go.
const BATCH_MAX: usize = 128;
/// Unsent bytes above which a connection is not read.
const BACKLOG_MAX: usize = 1 << 20;
/// Unread messages above which a subscriber is dropped: it would cost everybody's memory.
const UNREAD_MESSAGES_MAX: usize = 32 << 20;
/// Unparsed input above which a connection is dropped.
const INPUT_MAX: usize = 1 << 30;
/// Buffers larger than this are given back when empty.
const KEEP_BUFFER: usize = 64 * 1024;
/// Bytes read from a connection at once.
const INCOMING: usize = 64 * 1024;
/// Tokens of listeners start here.
const LISTENERS: u64 = 1 << 63;

/// The state that the exclusive section may see; everything else of a worker is its thread's own.
#[derive(Default)]
pub struct WorkerState {
    /// Connections by position; the high half of a token is the generation.
    pub clients: Vec<Seat>,
    /// Free positions.
    free: Vec<usize>,
    /// Counters.
    pub stats: Stats,
    /// Counters per command, by the registry's numbers.
    pub commands: Vec<CommandStats>,
    /// The recent past.
    pub pulse: Pulse,
}

/// One position of the connection table.
#[derive(Default)]
pub struct Seat {
    generation: u32,
    /// Who sits here.
    pub client: Option<Box<Client>>,
}

impl Seat {
    /// Which tenant of this position it is.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

impl WorkerState {
    fn seat(&mut self, client: Client) -> u64 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.clients.push(Seat::default());
            self.clients.len() - 1
        });
        let Some(seat) = self.clients.get_mut(at) else { return 0 };
        seat.generation = seat.generation.wrapping_add(1) & 0x7fff_ffff;
        seat.client = Some(Box::new(client));
        u64::from(seat.generation) << 32 | at as u64
    }

    fn index(&self, token: u64) -> Option<usize> {
        let at = usize::try_from(token & u64::from(u32::MAX)).ok()?;
        let seat = self.clients.get(at)?;
        (u64::from(seat.generation) == token >> 32 && seat.client.is_some()).then_some(at)
    }

    /// The connection with this token, unless it is gone.
    pub fn client(&mut self, token: u64) -> Option<&mut Client> {
        let at = self.index(token)?;
        self.clients.get_mut(at)?.client.as_deref_mut()
    }

    fn take(&mut self, token: u64) -> Option<Box<Client>> {
        let at = self.index(token)?;
        self.clients.get_mut(at)?.client.take()
    }

    fn put_back(&mut self, token: u64, client: Box<Client>) {
        let at = usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        if let Some(seat) = self.clients.get_mut(at) {
            seat.client = Some(client);
        }
    }

    fn remove(&mut self, token: u64) -> Option<Box<Client>> {
        let at = self.index(token)?;
        self.free.push(at);
        self.clients.get_mut(at)?.client.take()
    }

    fn tokens(&self) -> Vec<u64> {
        let seats = self.clients.iter().enumerate().filter(|(_, seat)| seat.client.is_some());
        seats.map(|(at, seat)| u64::from(seat.generation) << 32 | at as u64).collect()
    }
}

/// A parsed request of the current batch: where its arguments are in its connection's input.
struct Parsed {
    first: usize,
    count: usize,
    at: Option<Located>,
}

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
    listeners: Vec<Listener>,
    rng: Rng,
    ready: Vec<Ready>,
    now: Millis,
    /// Connections to be looked at again without an event: more input, or to be written.
    dirty: Vec<u64>,
    again: Vec<u64>,
    ranges: Vec<ArgRange>,
    scratch: Vec<ArgRange>,
    swept: Millis,
    next_worker: usize,
    spare_out: Vec<Vec<u8>>,
    spare_in: Vec<Vec<u8>>,
    /// Where the system writes what it received.
    incoming: Vec<u8>,
    load: Load,
    /// When the last command ended.
    clock: Instant,
    /// Connections that wait for CLIENT PAUSE to end.
    paused: Vec<u64>,
}

impl Worker {
    /// A worker; listeners belong to the first one, which hands connections out in turn.
    pub fn new(
        server: Arc<Server>,
        number: usize,
        reactor: Reactor,
        listeners: Vec<Listener>,
        seed: u64,
    ) -> Worker {
        Worker {
            server,
            number,
            reactor,
            listeners,
            rng: Rng::new(seed),
            ready: Vec::new(),
            now: now(),
            dirty: Vec::new(),
            again: Vec::new(),
            ranges: Vec::new(),
            scratch: Vec::new(),
            swept: now(),
            next_worker: number,
            spare_out: Vec::new(),
            spare_in: Vec::new(),
            incoming: vec![0; INCOMING],
            load: Load::default(),
            clock: Instant::now(),
            paused: Vec::new(),
        }
    }

    /// Runs until the server stops.
    ///
    /// # Errors
    /// When the event loop itself breaks.
    pub fn run(mut self) -> io::Result<()> {
        for (at, listener) in self.listeners.iter().enumerate() {
            self.reactor.register(listener, Token(LISTENERS + at as u64), Interest::Read)?;
        }
        let server = Arc::clone(&self.server);
        let Some(handle) = server.workers.get(self.number) else { return Ok(()) };
        handle.state.lock().commands.resize(server.registry.numbers(), CommandStats::default());
        let mut events = Vec::new();
        let mut letters = Vec::new();
        let mut next_tick = Instant::now() + TICK;
        while !dispatch::is_stopping(&server) {
            self.wait(&mut events, next_tick)?;
            self.now = now();
            let mut state = handle.state.lock();
            for event in &events {
                self.on_event(&mut state, *event);
            }
            self.on_again(&mut state);
            handle.mailbox.drain(&mut letters);
            for letter in letters.drain(..) {
                self.on_letter(&mut state, letter);
            }
            if Instant::now() >= next_tick {
                self.tick(&mut state);
                next_tick = Instant::now() + TICK;
            }
            // Own letters (a publisher that listens itself) belong to this turn.
            handle.mailbox.drain(&mut letters);
            for letter in letters.drain(..) {
                self.on_letter(&mut state, letter);
            }
            self.flush(&mut state);
            drop(state);
            server.wake_all();
        }
        Ok(())
    }

    /// Sleeps; but right after a lone connection's request it looks a few times more, since the next one
    /// is on its way and waking up costs more than looking.
    fn wait(&mut self, events: &mut Vec<Event>, next_tick: Instant) -> io::Result<()> {
        const SPIN: Duration = Duration::from_micros(40);
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
        let left = next_tick.saturating_duration_since(Instant::now());
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
        if event.writable || event.closed {
            self.dirty.push(token);
        }
    }

    fn accept(&mut self, number: u64) {
        let Some(listener) = usize::try_from(number).ok().and_then(|at| self.listeners.get(at))
        else {
            return;
        };
        // A bounded number a turn, so that a storm of connections leaves room for commands.
        for _ in 0..256 {
            let stream = match listener.accept() {
                Ok(stream) => stream,
                Err(AcceptError::WouldBlock) => return,
                Err(AcceptError::Failed(error)) => {
                    eprintln!("# a connection failed before it was accepted: {error}");
                    return;
                }
                Err(AcceptError::OutOfDescriptors) => {
                    eprintln!("# no descriptors left to accept connections");
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            };
            let Some(id) = self.server.admit(&stream) else { continue };
            self.next_worker = (self.next_worker + 1) % self.server.workers.len().max(1);
            self.server.post(self.next_worker, Letter::Accepted(stream, id));
        }
    }

    fn on_letter(&mut self, state: &mut MutexGuard<'_, WorkerState>, letter: Letter) {
        match letter {
            Letter::Accepted(stream, id) => {
                let options = self.server.options.read();
                stream.set_keepalive(options.tcp_keepalive_s);
                drop(options);
                let open = !self.server.protected.load(Ordering::Relaxed);
                state.stats.connections += 1;
                let token = state.seat(Client::new(stream, id, open, self.now));
                if let Some(client) = state.client(token)
                    && self.reactor.register(&client.stream, Token(token), Interest::Read).is_err()
                {
                    self.close(state, token);
                }
            }
            Letter::Deliver(token, message) => {
                if let Some(client) = state.client(token).filter(|client| {
                    let resp3 = client.version == larder_protocol::reply::Version::Resp3;
                    let [channels, ..] = &client.subscriptions;
                    message.is_for(resp3, channels.contains(crate::pubsub::INVALIDATIONS))
                }) {
                    message.encode(&mut Reply::new(&mut client.out, client.version));
                    if client.out.len() > UNREAD_MESSAGES_MAX {
                        state.stats.dropped += 1;
                        self.close(state, token);
                    } else {
                        self.dirty.push(token);
                    }
                }
            }
            Letter::Served(token, bytes) => {
                if let Some(client) = state.client(token) {
                    client.out.extend_from_slice(&bytes);
                    client.waiting = None;
                    self.dirty.push(token);
                    self.again.push(token);
                }
            }
            Letter::Close(token) => self.close(state, token),
        }
    }

    fn read(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        let Some(client) = state.client(token) else { return };
        if client.out.len() > BACKLOG_MAX {
            // It does not read its replies: it is not read either.
            return;
        }
        match client.stream.read(&mut self.incoming) {
            ReadOutcome::Bytes(count) => {
                let bytes = self.incoming.get(..count).unwrap_or(&[]);
                if client.input.capacity() == 0
                    && let Some(spare) = self.spare_in.pop()
                {
                    client.input = spare;
                }
                client.input.extend_from_slice(bytes);
                client.active = self.now;
                let full = client.input.len() > INPUT_MAX;
                state.stats.bytes_in += count as u64;
                state.stats.reads += 1;
                self.process(state, token);
                if full && state.client(token).is_some_and(|c| c.input.len() > INPUT_MAX) {
                    state.stats.dropped += 1;
                    self.close(state, token);
                }
            }
            ReadOutcome::WouldBlock => {}
            ReadOutcome::Closed | ReadOutcome::Failed(_) => self.close(state, token),
        }
    }

    fn on_again(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        for token in std::mem::take(&mut self.again) {
            self.process(state, token);
        }
    }

    /// Parses and runs what a connection has sent, up to a batch.
    fn process(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        let Some(client) = state.client(token) else { return };
        // Who does not read its replies gets no more of them; it goes on when they are written.
        if client.closing || client.waiting.is_some() || client.out.len() > BACKLOG_MAX {
            return;
        }
        let mut input = std::mem::take(&mut client.input);
        let mut parser = std::mem::take(&mut client.parser);
        let mut used = 0;
        let mut limit = if client.authenticated { BATCH_MAX } else { 1 };
        let mut batch: SmallVec<[Parsed; 16]> = SmallVec::new();
        let mut failure = None;
        self.ranges.clear();
        let limits =
            RequestLimits { auth_required: !client.authenticated, ..RequestLimits::default() };
        let mut inline: Vec<u8> = Vec::new();
        while batch.len() < limit {
            let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) else { break };
            match parser.next(rest, &limits, &mut self.scratch) {
                Ok(Step::Request { consumed }) => {
                    let first = self.ranges.len();
                    let moved = |range: &ArgRange| ArgRange {
                        start: range.start + used,
                        end: range.end + used,
                    };
                    self.ranges.extend(self.scratch.iter().map(moved));
                    used += consumed;
                    if !self.scratch.is_empty() {
                        batch.push(Parsed { first, count: self.scratch.len(), at: None });
                    }
                }
                Ok(Step::Inline { consumed }) => {
                    if !batch.is_empty() {
                        // Its bytes are the parser's own: it is run alone, next time.
                        parser = RequestParser::default();
                        break;
                    }
                    used += consumed;
                    inline.extend_from_slice(parser.inline_text());
                    self.ranges.extend_from_slice(&self.scratch);
                    if !self.scratch.is_empty() {
                        batch.push(Parsed { first: 0, count: self.scratch.len(), at: None });
                        limit = 1;
                    }
                }
                Ok(Step::Incomplete { .. }) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let db = client.db;
        let source: &[u8] = if inline.is_empty() { &input } else { &inline };
        self.prefetch(db, source, &mut batch);
        self.clock = Instant::now();
        let mut done = 0;
        let mut held = false;
        for parsed in &batch {
            let ranges = self.ranges.get(parsed.first..parsed.first + parsed.count).unwrap_or(&[]);
            let slices: SmallVec<[&[u8]; 8]> =
                ranges.iter().map(|range| range.of(source)).collect();
            if self.server.paused.load(Ordering::Relaxed)
                && state
                    .client(token)
                    .is_some_and(|client| self.server.holds(client, Args::new(&slices), self.now))
            {
                held = true;
                break;
            }
            done += 1;
            self.run_one(state, token, Args::new(&slices), parsed.at);
            match state.client(token) {
                None => return,
                Some(client)
                    if client.closing
                        || client.waiting.is_some()
                        || client.out.len() > BACKLOG_MAX =>
                {
                    break;
                }
                Some(_) => {}
            }
        }
        // A command stopped the batch: what follows it is parsed again later.
        if done < batch.len() {
            let next = batch.get(done).and_then(|parsed| self.ranges.get(parsed.first));
            used = match next {
                _ if !inline.is_empty() => 0,
                Some(range) => start_of_request(&input, range.start),
                None => used,
            };
            parser = RequestParser::default();
        }
        let more = used < input.len() && failure.is_none() && (done == limit || done < batch.len());
        let Some(client) = state.client(token) else { return };
        if let Some(error) = failure {
            Reply::new(&mut client.out, client.version).error_bytes(&error.reply_text());
            client.closing = true;
        }
        if used >= input.len() {
            // An idle connection holds no buffer.
            input.clear();
            if input.capacity() <= KEEP_BUFFER && self.spare_in.len() < 64 {
                self.spare_in.push(std::mem::take(&mut input));
            } else {
                input = Vec::new();
            }
        } else if used > 0 {
            input.drain(..used);
        }
        let stuck = !inline.is_empty() || !batch.is_empty();
        if held {
            self.paused.push(token);
        } else if more
            || (stuck && !input.is_empty() && client.waiting.is_none() && !client.closing)
        {
            self.again.push(token);
        }
        client.input = input;
        client.parser = parser;
        self.dirty.push(token);
    }

    /// Finds the keys of a batch and asks for the memory that running it will touch, a step at a time for
    /// all, so that the waits for memory overlap.
    fn prefetch(&self, db: DbIndex, source: &[u8], batch: &mut [Parsed]) {
        let keyspace = &self.server.keyspace;
        for parsed in batch.iter_mut() {
            let name = self.ranges.get(parsed.first).map_or(&b""[..], |range| range.of(source));
            let Some(entry) = self.server.registry.find(name) else { continue };
            if parsed.count < 2 || !dispatch::has_one_key(entry.command) {
                continue;
            }
            if let (Run::Data(_), Some(key)) =
                (entry.command.run, self.ranges.get(parsed.first + 1))
            {
                let at = keyspace.locate(key.of(source));
                keyspace.prefetch_slot(db, at);
                parsed.at = Some(at);
            }
        }
        if batch.len() > 1 {
            for at in batch.iter().filter_map(|parsed| parsed.at) {
                keyspace.prefetch_bucket(db, at);
            }
            for at in batch.iter().filter_map(|parsed| parsed.at) {
                keyspace.prefetch_record(db, at);
            }
        }
    }

    fn run_one(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        token: u64,
        args: Args<'_>,
        at: Option<Located>,
    ) {
        let Some(mut client) = state.take(token) else { return };
        if client.out.capacity() == 0 {
            client.out = self.spare_out.pop().unwrap_or_default();
        }
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
        let verdict = turn.run(&mut client, token, args, at);
        if verdict == Verdict::NeedsExclusive {
            client = self.run_exclusive(state, token, client, args);
        }
        state.put_back(token, client);
    }

    /// Lets everybody leave their batch, runs one command, and goes on.
    fn run_exclusive(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        token: u64,
        mut client: Box<Client>,
        args: Args<'_>,
    ) -> Box<Client> {
        let server = Arc::clone(&self.server);
        let mut stats = std::mem::take(&mut state.stats);
        let mut commands = std::mem::take(&mut state.commands);
        MutexGuard::unlocked(state, || {
            server.exclusively(|others| {
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
                turn.run_exclusive(&mut client, token, args, others);
            });
        });
        state.stats.add(&stats);
        state.commands = commands;
        client
    }

    /// Writes every connection that has something to send, once.
    fn flush(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for token in dirty.drain(..) {
            self.write(state, token);
        }
        self.dirty = dirty;
    }

    fn write(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        let Some(client) = state.client(token) else { return };
        let mut gone = false;
        if !client.out.is_empty() {
            match client.stream.write(&client.out) {
                WriteOutcome::Bytes(count) => {
                    if count == client.out.len() {
                        client.out.clear();
                        let mut spare = std::mem::take(&mut client.out);
                        if spare.capacity() > KEEP_BUFFER {
                            spare = Vec::new();
                        }
                        if self.spare_out.len() < 64 {
                            self.spare_out.push(spare);
                        }
                    } else {
                        client.out.drain(..count);
                    }
                    let wants = !client.out.is_empty();
                    if wants != client.writing {
                        client.writing = wants;
                        let interest = if wants { Interest::Both } else { Interest::Read };
                        gone = self.reactor.modify(&client.stream, Token(token), interest).is_err();
                    }
                    let full = client.out.len() > BACKLOG_MAX;
                    if full && client.writing {
                        gone |= self
                            .reactor
                            .modify(&client.stream, Token(token), Interest::Write)
                            .is_err();
                        // Read again once it has taken its replies.
                        client.writing = true;
                    } else if !client.input.is_empty() && !wants {
                        self.again.push(token);
                    }
                    state.stats.bytes_out += count as u64;
                    state.stats.writes += 1;
                }
                WriteOutcome::Failed(_) => gone = true,
            }
        }
        let done =
            state.client(token).is_some_and(|client| client.closing && client.out.is_empty());
        if gone || done {
            self.close(state, token);
        }
    }

    fn close(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        let Some(mut client) = state.remove(token) else { return };
        self.reactor.deregister(&client.stream);
        forget(&self.server, self.number, token, &mut client);
        self.server.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// What is due ten times a second: waits that are over, idle connections, expired keys.
    fn tick(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        self.load.judge();
        let idle_ms =
            i64::try_from(self.server.options.read().timeout_s * 1000).unwrap_or(i64::MAX);
        for token in state.tokens() {
            let Some(client) = state.client(token) else { continue };
            if let Some(waiter) = &client.waiting {
                if waiter.deadline.is_some_and(|when| when <= self.now) && waiter.end() {
                    self.server.blocked.remove(waiter);
                    client.waiting = None;
                    Reply::new(&mut client.out, client.version).null_array();
                    self.dirty.push(token);
                    self.again.push(token);
                }
            } else if idle_ms > 0
                && client.subscription_count() == 0
                && self.now.since(client.active) > idle_ms
            {
                self.close(state, token);
            }
        }
        if !self.paused.is_empty() {
            self.again.append(&mut self.paused);
        }
        if self.server.sweeping.load(Ordering::Relaxed) {
            let begun = Instant::now();
            self.sweep(state);
            let took = begun.elapsed();
            state.stats.sweep_usec += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
            self.server.latency.note("expire-cycle", took, self.now);
        }
        self.beat(state);
    }

    /// Notes the recent past, for those who ask.
    fn beat(&self, state: &mut MutexGuard<'_, WorkerState>) {
        let mut buffers = [0; 2];
        for client in state.clients.iter().filter_map(|seat| seat.client.as_deref()) {
            let [input, output] = &mut buffers;
            *input = (*input).max(client.input.len());
            *output = (*output).max(client.out.len());
        }
        let Stats { commands, bytes_in, bytes_out, .. } = state.stats;
        state.pulse.beat(Instant::now(), [commands, bytes_in, bytes_out], buffers);
        if self.number == 0 {
            self.server.note_memory();
        }
    }

    /// Deletes the keys that became due since the last sweep, in this worker's share of the slots.
    fn sweep(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        let due = Due::between(self.swept, self.now);
        self.swept = self.now;
        let server = Arc::clone(&self.server);
        let count = u16::try_from(server.workers.len()).unwrap_or(1).max(1);
        let mine = u16::try_from(self.number).unwrap_or(0);
        for db in 0..server.keyspace.databases() {
            let db = DbIndex(u8::try_from(db).unwrap_or(0));
            if server.keyspace.volatile_len(db) == 0 {
                continue;
            }
            for slot in server.keyspace.occupied_slots(db) {
                if slot % count != mine {
                    continue;
                }
                let mut view = server.keyspace.view_slot(&server.settings, db, slot, self.now);
                view.sweep(slot, &due);
                state.stats.expired += view.tally.expired;
                dispatch::settle(&server, view, 0, &mut self.ready);
            }
        }
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

/// Where the request begins whose first argument starts here: back over `*n\r\n$m\r\n`.
fn start_of_request(input: &[u8], first_arg: usize) -> usize {
    let head = input.get(..first_arg).unwrap_or(&[]);
    head.iter().rposition(|byte| *byte == b'*').unwrap_or(first_arg)
}
