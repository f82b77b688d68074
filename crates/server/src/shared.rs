//! What all workers share, and the exclusive section.
//!
//! Lock order: `exclusive`, then worker states ascending, then slots ascending, then the small registries
//! (watch, blocked, pubsub), which are leaves. A worker holds its own state during a batch and never waits
//! for another's while it does: for the exclusive section it lets its own go first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use larder_base::hash::KeyHasher;
use larder_base::time::Millis;
use larder_net::{Mailbox, Stream};
use larder_store::{DbIndex, Keyspace, Settings};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::blocking::Blocked;
use crate::commandlog::CommandLog;
use crate::durability::journal::Journal;
use crate::latency::Latency;
use crate::monitor::Monitors;
use crate::options::Options;
use crate::pubsub::{Message, PubSub};
use crate::registry::Registry;
use crate::tracking::Tracking;
use crate::worker::WorkerState;

/// How the server learns about its allocator.
#[derive(Clone, Copy)]
pub struct MemoryProbe {
    /// Bytes allocated now, counted exactly.
    pub used: fn() -> usize,
    /// The allocator's name for INFO.
    pub allocator: &'static str,
    /// What the allocator says itself.
    pub figures: fn() -> AllocatorFigures,
    /// The allocator's report for people.
    pub report: fn() -> String,
    /// Gives free memory back to the system.
    pub purge: fn(),
}

/// The allocator's own view, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllocatorFigures {
    /// Handed out.
    pub allocated: usize,
    /// In pages that hold something handed out.
    pub active: usize,
    /// In physical memory, the allocator's own needs included.
    pub resident: usize,
    /// In pages that the system may take at any time.
    pub muzzy: usize,
}

/// A letter to a worker.
pub enum Letter {
    /// A fresh connection to serve.
    Accepted(Stream, u64),
    /// A published message, an invalidation: to be encoded for the client's protocol.
    Deliver(u64, Arc<Message>),
    /// The reply of a command that had waited.
    Served(u64, Vec<u8>),
    /// Close this connection.
    Close(u64),
}

/// One worker, as others see it.
pub struct WorkerHandle {
    /// Its state; see the head of this file for who may lock it when.
    pub state: Mutex<WorkerState>,
    /// Its letters.
    pub mailbox: Mailbox<Letter>,
}

/// Watched keys and the transactions that watch them.
pub type WatchTable = HashMap<(DbIndex, Box<[u8]>), Vec<Arc<AtomicBool>>>;

/// See the head of this file.
pub struct Server {
    /// The data.
    pub keyspace: Keyspace,
    /// What was done to it, for those who follow.
    pub journal: Journal,
    /// The most memory used when somebody looked.
    pub memory_peak: AtomicUsize,
    /// Memory used when the server had just started.
    pub memory_at_start: AtomicUsize,
    /// Data-relevant settings.
    pub settings: Settings,
    /// Options.
    pub options: RwLock<Options>,
    /// Commands by name.
    pub registry: Registry,
    /// The workers.
    pub workers: Vec<WorkerHandle>,
    /// Held by whoever runs in the exclusive section.
    pub exclusive: Mutex<()>,
    /// Watched keys.
    pub watch: Mutex<WatchTable>,
    /// Clients that wait for keys.
    pub blocked: Blocked,
    /// Channels and patterns.
    pub pubsub: RwLock<PubSub>,
    /// Client-side caching.
    pub tracking: Tracking,
    /// MONITOR.
    pub monitors: Monitors,
    /// Slow commands (microseconds), large requests and large replies (bytes).
    pub logs: [CommandLog; 3],
    /// Latency events.
    pub latency: Latency,
    /// Wanted keyspace notifications.
    pub events: AtomicU32,
    /// Errors answered, by code word.
    pub errors: Mutex<std::collections::BTreeMap<String, u64>>,
    /// CLIENT PAUSE: until when, and whether only writes.
    pub pause: Mutex<Option<(Millis, bool)>>,
    /// Whether there is a pause, for the hot path.
    pub paused: AtomicBool,
    /// The memory used, and the limit (0 = none).
    pub memory: MemoryProbe,
    /// `maxmemory`, for the hot path.
    pub maxmemory: AtomicUsize,
    /// Whether a password is needed.
    pub protected: AtomicBool,
    /// Connections now.
    pub connections: AtomicUsize,
    /// Connections refused since the start or CONFIG RESETSTAT.
    pub rejected: AtomicU64,
    /// The next client's number.
    pub next_client: AtomicU64,
    /// Keys that are due are deleted unasked; DEBUG SET-ACTIVE-EXPIRE turns it off for tests.
    pub sweeping: AtomicBool,
    /// The server is to end.
    pub stopping: AtomicBool,
    /// When it started.
    pub started: Millis,
    /// A random name of this run, 40 hex digits.
    pub run_id: String,
}

impl Server {
    /// A server over these workers.
    pub fn new(
        options: Options,
        workers: Vec<WorkerHandle>,
        memory: MemoryProbe,
        seed: [u64; 2],
    ) -> Server {
        let [k0, k1] = seed;
        let mut settings = Settings::default();
        // Members and fields are keyed as keys are: nobody may choose where they fall.
        settings.thresholds.hasher = KeyHasher::new(k1, k0);
        let server = Server {
            memory_peak: AtomicUsize::new(0),
            memory_at_start: AtomicUsize::new(0),
            keyspace: Keyspace::new(KeyHasher::new(k0, k1), options.databases),
            journal: Journal::default(),
            settings,
            registry: Registry::default(),
            workers,
            exclusive: Mutex::new(()),
            watch: Mutex::new(HashMap::new()),
            blocked: Blocked::default(),
            pubsub: RwLock::default(),
            memory,
            maxmemory: AtomicUsize::new(usize::try_from(options.maxmemory).unwrap_or(usize::MAX)),
            protected: AtomicBool::new(!options.requirepass.is_empty()),
            connections: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            next_client: AtomicU64::new(1),
            sweeping: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
            started: now(),
            run_id: format!("{:016x}{:016x}{:08x}", mix(k0), mix(k1), mix(k0 ^ k1) >> 32),
            tracking: Tracking::default(),
            monitors: Monitors::default(),
            logs: [const { CommandLog::new(-1, 0) }; 3],
            latency: Latency::default(),
            events: AtomicU32::new(0),
            errors: Mutex::default(),
            pause: Mutex::new(None),
            paused: AtomicBool::new(false),
            options: RwLock::new(options),
        };
        server.apply();
        server
    }

    /// Lets options take effect that are kept elsewhere for the hot path.
    pub fn apply(&self) {
        let options = self.options.read();
        let maxmemory = usize::try_from(options.maxmemory).unwrap_or(usize::MAX);
        self.maxmemory.store(maxmemory, Ordering::Release);
        self.protected.store(!options.requirepass.is_empty(), Ordering::Release);
        self.events.store(options.notify_keyspace_events.0, Ordering::Release);
        self.latency.configure(options.latency_monitor_threshold_ms);
        for (log, (limit, len_max)) in self.logs.iter().zip(options.commandlogs) {
            log.configure(limit, len_max);
        }
        drop(options);
        self.observe();
    }

    /// Tells the keyspace whether every change is to be reported.
    pub fn observe(&self) {
        let all = self.events.load(Ordering::Acquire) != 0 || self.tracking.broadcasts();
        self.keyspace.observe_all(all);
    }

    /// Counts an error reply by its code word.
    pub fn count_error(&self, text: &str) {
        /// More kinds than this are an accident or an attack.
        const KINDS_MAX: usize = 128;
        let code = text.split(' ').next().unwrap_or("ERR");
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < KINDS_MAX {
            errors.insert(code.to_owned(), 1);
        }
    }

    /// Whether commands (only writes: those that may write) are paused now.
    pub fn is_paused(&self, writes: bool, now: Millis) -> bool {
        let mut pause = self.pause.lock();
        match *pause {
            Some((until, _)) if until <= now => {
                *pause = None;
                self.paused.store(false, Ordering::Release);
                false
            }
            Some((_, only_writes)) => writes || !only_writes,
            None => false,
        }
    }

    /// Runs `work` while no worker runs anything: with all states locked, ascending. The caller must
    /// hold no state.
    pub fn exclusively<R>(&self, work: impl FnOnce(&mut [MutexGuard<'_, WorkerState>]) -> R) -> R {
        let _only = self.exclusive.lock();
        let mut states: Vec<_> = self.workers.iter().map(|worker| worker.state.lock()).collect();
        work(&mut states)
    }

    /// Puts a letter into the mailbox of the client's worker. Whoever wrote letters calls `wake_all` later,
    /// outside all slot locks.
    pub fn post(&self, worker: usize, letter: Letter) {
        if let Some(handle) = self.workers.get(worker) {
            handle.mailbox.push(letter);
        }
    }

    /// Wakes every worker that has letters.
    pub fn wake_all(&self) {
        for worker in self.workers.iter().filter(|worker| !worker.mailbox.is_empty()) {
            worker.mailbox.wake();
        }
    }

    /// Whether memory is used up.
    #[inline]
    pub fn is_out_of_memory(&self) -> bool {
        let limit = self.maxmemory.load(Ordering::Relaxed);
        limit != 0 && (self.memory.used)() > limit
    }

    /// Tells everybody to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for worker in &self.workers {
            worker.mailbox.wake();
        }
    }
}

/// Now, by the system's clock.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Seeds must not show in names that clients see.
fn mix(seed: u64) -> u64 {
    let mut x = seed ^ 0x9e37_79b9_7f4a_7c15;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
