//! What a connection may hold: input, output, memory of all together, and how long a stranger may stay. Each
//! worker keeps the configured figures, so that nothing is looked up while nobody is near a limit. It
//! knows no command.

use std::sync::atomic::Ordering;

use larder_base::limits::{
    UNAUTHENTICATED_INPUT_BYTES_MAX, UNAUTHENTICATED_MS_MAX, UNAUTHENTICATED_OUTPUT_BYTES_MAX,
};
use larder_base::time::Millis;
use parking_lot::MutexGuard;

use super::{Worker, WorkerState};
use crate::client::Client;
use crate::config::values::{OutputLimit, OutputLimits};
use crate::shared::{Letter, Server};

/// The configured figures.
#[derive(Default)]
pub struct Limits {
    revision: u64,
    query_buffer: usize,
    output: OutputLimits,
    /// Less unsent output than this breaks no limit.
    output_watch: usize,
    /// `maxmemory-clients`, if any.
    clients: Option<usize>,
    idle_ms: i64,
}

impl Limits {
    /// Takes over a configuration that changed.
    pub fn refresh(&mut self, server: &Server) -> bool {
        let revision = server.revision.load(Ordering::Acquire);
        if revision == self.revision {
            return false;
        }
        let config = server.config();
        self.revision = revision;
        self.query_buffer = config.client_query_buffer_limit;
        self.output = config.client_output_buffer_limit;
        let OutputLimits { normal, replica, pubsub } = self.output;
        let all = [normal, replica, pubsub].into_iter().flat_map(|of| [of.hard, of.soft]);
        let least = all.filter(|bytes| *bytes > 0).min().unwrap_or(u64::MAX);
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        self.output_watch = least.min(UNAUTHENTICATED_OUTPUT_BYTES_MAX);
        let clients = config.maxmemory_clients.resolve(config.maxmemory);
        self.clients = clients.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.idle_ms = i64::try_from(config.timeout.saturating_mul(1000)).unwrap_or(i64::MAX);
        true
    }

    /// Whether a connection has sent more than may wait to be run: `input` bytes that have not run yet.
    #[inline]
    pub fn input_exceeded(&self, client: &Client, input: usize) -> bool {
        let most = if client.authenticated {
            self.query_buffer
        } else {
            self.query_buffer.min(UNAUTHENTICATED_INPUT_BYTES_MAX)
        };
        input > most || client.multi.as_ref().is_some_and(|m| m.bytes + input > most)
    }

    /// Whether a connection has more output waiting than it may. Notes when it came above the soft limit.
    #[inline]
    pub fn output_exceeded(&self, client: &mut Client, now: Millis) -> bool {
        client.unsent() > self.output_watch && self.judge_output(client, now)
    }

    #[cold]
    fn judge_output(&self, client: &mut Client, now: Millis) -> bool {
        if !client.authenticated && client.unsent() > UNAUTHENTICATED_OUTPUT_BYTES_MAX {
            return true;
        }
        let OutputLimit { hard, soft, soft_seconds } = match client.kind() {
            "pubsub" => self.output.pubsub,
            _ if client.monitor => self.output.replica,
            _ => self.output.normal,
        };
        let used = client.output_memory() as u64;
        if hard > 0 && used >= hard {
            return true;
        }
        if soft == 0 || used < soft {
            client.above_soft = None;
            return false;
        }
        let since = *client.above_soft.get_or_insert(now);
        let seconds = u64::try_from(now.since(since) / 1000).unwrap_or(0);
        seconds > soft_seconds
    }

    /// Notes what a connection holds, if there is a limit for all together.
    #[inline]
    pub fn weigh(&self, server: &Server, client: &mut Client) {
        if self.clients.is_some() {
            account(server, client);
        }
    }

    /// Whether all connections together hold more than they may.
    #[inline]
    pub fn clients_exceed(&self, server: &Server) -> bool {
        self.clients.is_some_and(|limit| server.clients_memory.load(Ordering::Relaxed) > limit)
    }

    /// Chooses those that hold most until the others hold no more than they may; their workers close them.
    pub fn evict(&self, server: &Server, states: &mut [MutexGuard<'_, WorkerState>]) {
        if !self.clients_exceed(server) {
            return;
        }
        let mut held = Vec::new();
        for (worker, state) in states.iter().enumerate() {
            for (at, seat) in state.clients.iter().enumerate() {
                if let Some(client) = seat.client.as_ref().filter(|client| !client.no_evict) {
                    held.push((client.accounted, worker, at));
                }
            }
        }
        held.sort_unstable();
        while let Some((bytes, worker, at)) = held.pop()
            && bytes > 0
            && self.clients_exceed(server)
        {
            let seat = states.get_mut(worker).and_then(|state| state.clients.get_mut(at));
            if let Some(seat) = seat
                && let Some(client) = &mut seat.client
            {
                // No longer counted, so that nobody else pays for it before it is closed.
                server.clients_memory.fetch_sub(client.accounted, Ordering::Relaxed);
                client.accounted = 0;
                client.evicted = true;
                let token = u64::from(seat.generation()) << 32 | at as u64;
                server.post(worker, Letter::Evict(token));
            }
        }
    }

    /// Whether a connection has been idle, or a stranger, for too long.
    fn overstays(&self, client: &Client, now: Millis) -> bool {
        if !client.authenticated && now.since(client.since) > UNAUTHENTICATED_MS_MAX {
            return true;
        }
        self.idle_ms > 0
            && client.waiting.is_none()
            && !client.held
            && client.subscription_count() == 0
            && !client.monitor
            && now.since(client.active) > self.idle_ms
    }
}

impl Worker {
    /// Takes over a changed configuration, at the beginning of a turn.
    pub(super) fn refresh_limits(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        if self.limits.refresh(&self.server) && self.limits.clients.is_some() {
            for client in state.clients.iter_mut().filter_map(|seat| seat.client.as_mut()) {
                account(&self.server, client);
            }
        }
    }

    /// A stranger who has authenticated is none any more.
    #[inline]
    pub(super) fn greet(&self, client: &mut Client) {
        if client.stranger && client.authenticated {
            client.stranger = false;
            self.server.strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Closes those that hold most while all together hold too much. The caller holds no state.
    pub(super) fn evict_clients(&self) {
        if self.limits.clients_exceed(&self.server) {
            self.server.exclusively(|states| self.limits.evict(&self.server, states));
            self.server.wake_all();
        }
    }

    /// Closes those whose time is over: a share of the connections at each tick, all once a second; and
    /// those above a soft limit.
    pub(super) fn close_overdue(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        const SHARES: usize = 10;
        let strangers = self.server.protected.load(Ordering::Relaxed);
        if self.limits.idle_ms > 0 || strangers {
            self.share = (self.share + 1) % SHARES;
            for token in state.tokens_from(self.share, SHARES) {
                if state.client(token).is_some_and(|c| self.limits.overstays(c, self.now)) {
                    self.close(state, token);
                }
            }
        }
        for token in std::mem::take(&mut self.above_soft) {
            if let Some(client) = state.client(token)
                && client.above_soft.is_some()
            {
                // Written again, and judged then.
                self.dirty.push(token);
                self.above_soft.push(token);
            }
        }
    }
}

/// Lets a changed limit for all connections together take effect before anybody is told that it is set: who asks next finds
/// no more than it allows. The states are all workers'; the connection that set it is judged at its turn's end.
pub fn enact(server: &Server, states: &mut [MutexGuard<'_, WorkerState>]) {
    let mut limits = Limits::default();
    limits.refresh(server);
    if limits.clients.is_none() {
        return;
    }
    let seats = states.iter_mut().flat_map(|state| state.clients.iter_mut());
    for client in seats.filter_map(|seat| seat.client.as_mut()) {
        account(server, client);
    }
    limits.evict(server, states);
}

fn account(server: &Server, client: &mut Client) {
    if client.evicted {
        return;
    }
    let bytes = client.memory();
    if bytes >= client.accounted {
        server.clients_memory.fetch_add(bytes - client.accounted, Ordering::Relaxed);
    } else {
        server.clients_memory.fetch_sub(client.accounted - bytes, Ordering::Relaxed);
    }
    client.accounted = bytes;
}
