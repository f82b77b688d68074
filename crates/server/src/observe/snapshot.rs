//! All figures of one moment, gathered in the exclusive section. What they are called is written
//! elsewhere.

use std::cell::LazyCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_base::time::Millis;
use larder_store::DbIndex;

use crate::client::Client;
use crate::config::Config;
use crate::control::Session;
use crate::observe::pulse::Rates;
use crate::shared::{AllocatorFigures, Server};
use crate::stats::{CommandStats, Stats};

/// See the head of this file.
pub struct Snapshot<'s> {
    /// The server, for what needs no gathering.
    pub server: &'s Server,
    /// Its options.
    pub options: Arc<Config>,
    /// When it was taken.
    pub now: Millis,
    /// Counts of all workers.
    pub stats: Stats,
    /// Recent rates of all workers.
    pub rates: Rates,
    /// The longest turn of a worker's event loop in nanoseconds, and the most commands of one.
    pub largest_turn: [u64; 2],
    /// Statistics of all workers by command.
    pub commands: Vec<CommandStats>,
    /// Connections.
    pub clients: Clients,
    /// Memory.
    pub memory: Memory,
    /// Seconds of processor time. It, and what memory says of process and machine, is read from files of the system, and so only
    /// where somebody wants to know: all workers wait meanwhile.
    pub cpu: LazyCell<Cpu>,
    /// Per database: its number, keys, and keys with a deadline; empty ones are left out.
    pub databases: Vec<(usize, usize, usize)>,
}

/// What connections are and do.
#[derive(Debug, Default)]
pub struct Clients {
    /// All.
    pub connected: usize,
    /// Waiting for keys, or held by a pause.
    pub blocked: usize,
    /// Of these, with a limit of time.
    pub with_timeout: usize,
    /// Subscribed.
    pub pubsub: usize,
    /// With watched keys.
    pub watching: usize,
    /// Watching with MONITOR.
    pub monitors: usize,
    /// Bytes that their buffers and records hold.
    pub bytes: usize,
    /// The largest input and output buffers of the last seconds.
    pub largest: [usize; 2],
}

/// Where memory is.
#[derive(Debug)]
pub struct Memory {
    /// Allocated, as we count.
    pub used: usize,
    /// The most that was allocated when somebody looked, at least ten times a second.
    pub peak: usize,
    /// Allocated when the server had just started.
    pub startup: usize,
    /// In physical memory.
    pub resident: LazyCell<usize>,
    /// Of `used`: what is not data.
    pub overhead: usize,
    /// The share of tables in that.
    pub tables: usize,
    /// The allocator's own view. It is asked only where somebody wants to know: it visits all its arenas, and waits
    /// for whoever is giving memory back there.
    pub allocator: LazyCell<AllocatorFigures>,
    /// The machine's.
    pub machine: LazyCell<usize>,
}

impl Memory {
    /// What is data.
    pub fn dataset(&self) -> usize {
        self.used.saturating_sub(self.overhead)
    }

    /// Its share of what was allocated since the start, in percent.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.saturating_sub(self.startup))
    }
}

/// Seconds of processor time: in the system and for ourselves; of all, of children that ended, and of the
/// first thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// Of all threads.
    pub all: (f64, f64),
    /// Of children.
    pub children: (f64, f64),
    /// Of the first thread.
    pub main: (f64, f64),
}

/// A share in percent; 0 of nothing.
pub fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// A quotient; 0 by nothing.
pub fn ratio(a: usize, b: usize) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// Bytes that the table spends on a key besides its record.
pub const TABLE_BYTES_PER_KEY: usize = 15;

impl<'s> Snapshot<'s> {
    /// Gathers everything. Complete only in the exclusive section.
    pub fn take<'w: 's>(session: &Session<'_, 'w, '_>) -> Snapshot<'s> {
        let server = session.turn.server;
        // What nobody needs any more is not shown as used.
        server.journal.trim();
        // Before anything is gathered: what that takes is gone again when the caller reads of it.
        let used = server.note_memory();
        let mut stats = *session.turn.stats;
        let mut commands = session.turn.commands.clone();
        let mut rates = Rates::default();
        let mut largest_turn = [0; 2];
        let mut clients = Clients::default();
        clients.count(session.client);
        for state in session.others.iter().flat_map(|others| others.iter()) {
            stats.add(&state.stats);
            state.clients.iter().filter_map(|seat| seat.client.as_deref()).for_each(|client| {
                clients.count(client);
            });
            for (sum, one) in commands.iter_mut().zip(&state.commands) {
                sum.add(one);
            }
            for (sum, one) in rates.iter_mut().zip(state.pulse.rates()) {
                *sum += one;
            }
            let turn = [state.pulse.turn_nanos_max, state.pulse.turn_commands_max];
            for (most, one) in largest_turn.iter_mut().zip(turn) {
                *most = (*most).max(one);
            }
            for (most, one) in clients.largest.iter_mut().zip(state.pulse.largest()) {
                *most = (*most).max(one);
            }
        }
        let databases: Vec<_> = (0..server.keyspace.databases())
            .map(|number| (number, DbIndex(u8::try_from(number).unwrap_or(0))))
            .map(|(number, db)| (number, server.keyspace.len(db), server.keyspace.volatile_len(db)))
            .filter(|(_, keys, _)| *keys > 0)
            .collect();
        let memory = memory(server, used, &databases, clients.bytes);
        let options = server.config();
        let now = session.turn.now;
        Snapshot {
            server,
            options,
            now,
            stats,
            rates,
            largest_turn,
            commands,
            clients,
            memory,
            cpu: LazyCell::new(cpu),
            databases,
        }
    }

    /// Connections refused.
    pub fn rejected(&self) -> u64 {
        self.server.rejected.load(Ordering::Relaxed)
    }

    /// Seconds since the start.
    pub fn uptime_s(&self) -> i64 {
        self.now.since(self.server.started) / 1000
    }
}

impl Clients {
    fn count(&mut self, client: &Client) {
        self.connected += 1;
        self.blocked += usize::from(client.is_blocked());
        if let Some(waiter) = &client.waiting {
            self.with_timeout += usize::from(waiter.deadline.is_some());
        }
        self.pubsub += usize::from(client.subscription_count() > 0);
        self.watching += usize::from(!client.watched.is_empty());
        self.monitors += usize::from(client.monitor);
        self.bytes += client.memory();
        let [input, output] = &mut self.largest;
        *input = (*input).max(client.input.len());
        *output = (*output).max(client.out.len());
    }
}

fn memory(
    server: &Server,
    used: usize,
    databases: &[(usize, usize, usize)],
    clients: usize,
) -> Memory {
    let peak = server.memory_peak.load(Ordering::Relaxed);
    let startup = server.memory_at_start.load(Ordering::Relaxed);
    let keys: usize = databases.iter().map(|(_, keys, _)| keys).sum();
    let tables = keys * TABLE_BYTES_PER_KEY;
    Memory {
        used,
        peak,
        startup,
        resident: LazyCell::new(resident_bytes),
        overhead: startup + clients + tables,
        tables,
        allocator: LazyCell::new(server.memory.figures),
        machine: LazyCell::new(machine_bytes),
    }
}

/// Resident bytes of this process, from /proc; 0 where there is none.
pub fn resident_bytes() -> usize {
    const PAGE: usize = 4096;
    field("/proc/self/statm", 1).saturating_mul(PAGE)
}

fn field(path: &str, at: usize) -> usize {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().nth(at).and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn machine_bytes() -> usize {
    // "MemTotal:       24684092 kB" is the first line.
    field("/proc/meminfo", 1).saturating_mul(1024)
}

fn cpu() -> Cpu {
    let (all, children) = times("/proc/self/stat");
    let (main, _) = times(&format!("/proc/self/task/{}/stat", std::process::id()));
    Cpu { all, children, main }
}

/// System and user seconds: own, and of children that ended.
fn times(path: &str) -> ((f64, f64), (f64, f64)) {
    /// The unit of /proc on every Linux that we know.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The name of the program, in brackets, may contain anything; what follows is numbers.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let seconds = |at: usize| {
        let ticks = rest.split_whitespace().nth(at).and_then(|word| word.parse::<f64>().ok());
        ticks.unwrap_or(0.0) / TICKS_PER_SECOND
    };
    ((seconds(12), seconds(11)), (seconds(14), seconds(13)))
}
