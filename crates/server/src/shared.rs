//! What all workers share, and the exclusive section.
//!
//! Lock order: `exclusive`, then worker states ascending, then `apart`, then slots ascending, then the small registries
//! (watch, blocked, pubsub), which are leaves. A worker holds its own state during a batch and never waits
//! for another's while it does: for the exclusive section it lets its own go first.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use larder_base::hash::KeyHasher;
use larder_base::limits;
use larder_base::time::Millis;
use larder_cluster::replication::Offset;
use larder_net::{Mailbox, Stream};
use larder_store::eviction::Eviction;
use larder_store::settings::EvictionBits;
use larder_store::{DbIndex, Keyspace, Settings, Thresholds};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::admission::Admitted;
use crate::background::Background;
use crate::blocking::{Blocked, Waiter};
use crate::client::Client;
use crate::commandlog::CommandLog;
use crate::config::Config;
use crate::durability::aof::{Aof, LAG_BYTES_MAX};
use crate::durability::changed::Changed;
use crate::durability::gate::Gate;
use crate::durability::journal::{Journal, Mode};
use crate::durability::record::Books;
use crate::durability::save::Saves;
use crate::ending::Ending;
use crate::events::EventFlags;
use crate::eviction::{Evictions, eviction_of};
use crate::latency::Latency;
use crate::listening::Doors;
use crate::monitor::Monitors;
use crate::oom_score::OomScore;
use crate::pubsub::{Message, PubSub};
use crate::registry::Registry;
use crate::replication::Replication;
use crate::tracking::Tracking;
use crate::unread::Unread;
use crate::versions::Versions;
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
    /// Begins to keep huge pages ready for what is to come, behind everybody's back.
    pub make_huge: fn(),
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

/// A letter to a worker. However busy it is, few can wait for it: one of a connection that is accepted, served, closed
/// or evicted, since each is marked when the letter is written; messages by their bytes; and one about doors.
pub enum Letter {
    /// A fresh connection to serve.
    Accepted(Stream, Admitted),
    /// A published message, an invalidation: to be encoded for the client's protocol.
    Deliver(u64, Arc<Message>),
    /// The reply of a command that had waited, and who waited if it was a key that ended the wait.
    Served(u64, Vec<u8>, Option<Arc<Waiter>>),
    /// Close this connection.
    Close(u64),
    /// The same, because what it was to be told found no room.
    Overrun(u64),
    /// There are new listening sockets.
    Doors,
    /// The same, because all connections together hold too much.
    Evict(u64),
}

/// One worker, as others see it.
pub struct WorkerHandle {
    /// Its state; see the head of this file for who may lock it when.
    pub state: Mutex<WorkerState>,
    /// Its letters.
    pub mailbox: Mailbox<Letter>,
    /// Bytes of the messages among them.
    messages: AtomicUsize,
    /// Connections for which a message found no room.
    overrun: Mutex<HashSet<u64>>,
    /// A letter about doors is on its way.
    doors: AtomicBool,
}

impl WorkerHandle {
    /// A worker without letters.
    pub fn new(mailbox: Mailbox<Letter>) -> WorkerHandle {
        WorkerHandle {
            state: Mutex::default(),
            mailbox,
            messages: AtomicUsize::new(0),
            overrun: Mutex::default(),
            doors: AtomicBool::new(false),
        }
    }

    /// Puts a letter in. A worker that is busy for long must not let what others tell its clients grow without
    /// end: a client for which there is no room is closed, rather than served with a gap.
    fn post(&self, letter: Letter) {
        if let Letter::Deliver(token, message) = &letter {
            let weight = message.weight();
            let waiting = self.messages.fetch_add(weight, Ordering::Relaxed);
            if waiting.saturating_add(weight) > limits::WORKER_MESSAGES_BYTES_MAX {
                self.messages.fetch_sub(weight, Ordering::Relaxed);
                if self.overrun.lock().insert(*token) {
                    self.mailbox.push(Letter::Overrun(*token));
                }
                return;
            }
        }
        if matches!(letter, Letter::Doors) && self.doors.swap(true, Ordering::AcqRel) {
            return;
        }
        self.mailbox.push(letter);
    }

    /// The worker is about to look at the doors: whatever changes from now on is written of again.
    pub fn look_at_doors(&self) {
        self.doors.store(false, Ordering::Release);
    }

    /// A message left the mailbox.
    pub fn hand_over(&self, message: &Message) {
        self.messages.fetch_sub(message.weight(), Ordering::Relaxed);
    }

    /// The worker closes a connection for which a message found no room.
    pub fn forget_overrun(&self, token: u64) {
        self.overrun.lock().remove(&token);
    }

    /// Whether so many messages wait that a turn should end for them.
    #[inline]
    pub fn has_much_to_tell(&self) -> bool {
        self.messages.load(Ordering::Relaxed) > limits::TURN_MESSAGES_BYTES_MAX
    }
}

/// Watched keys and the transactions that watch them.
pub type WatchTable = HashMap<(DbIndex, Box<[u8]>), Vec<Arc<AtomicBool>>>;

/// See the head of this file.
pub struct Server {
    /// The data.
    pub keyspace: Keyspace,
    /// How saving to disk stands.
    pub saves: Saves,
    /// The data is being loaded: most commands must wait.
    pub loading: AtomicBool,
    /// New data of the primary is being loaded beside the old, which is served.
    pub loading_beside: AtomicBool,
    /// Frees what is big.
    pub background: Background,
    /// What went to make room.
    pub evictions: Evictions,
    /// What was done to it, for those who follow.
    pub journal: Journal,
    /// Who is followed, and who follows.
    pub replication: Replication,
    /// Which keys changed, further back than the journal reaches.
    pub changed: Changed,
    /// The append-only file, which is written from that.
    pub aof: Aof,
    /// Which replies may leave.
    pub gate: Gate,
    /// The most memory used when somebody looked.
    pub memory_peak: AtomicUsize,
    /// Memory used when the server had just started.
    pub memory_at_start: AtomicUsize,
    /// Data-relevant settings.
    pub settings: Versions<Settings>,
    /// Counts the configurations that were in force, for those who keep what they need of it.
    pub revision: AtomicU64,
    /// Bytes that all connections hold; counted only while `maxmemory-clients` limits them.
    pub clients_memory: AtomicUsize,
    /// Replies that clients have yet to read.
    pub unread: Arc<Unread>,
    /// Connections that have yet to authenticate.
    pub strangers: AtomicUsize,
    /// The configuration in force; see [`Server::config`].
    config: RwLock<Arc<Config>>,
    /// Where it came from, for CONFIG REWRITE.
    pub config_path: Option<PathBuf>,
    /// The kernel's opinion of this process.
    pub oom_score: OomScore,
    /// Where the server listens; the first worker accepts.
    pub doors: Doors,
    /// `maxclients`, for whoever accepts.
    pub maxclients: AtomicUsize,
    /// Commands by name.
    pub registry: Registry,
    /// The workers.
    pub workers: Vec<WorkerHandle>,
    /// The state of the one thread beside the workers that changes data: it repeats a log or a primary's stream, and
    /// holds this meanwhile.
    pub apart: Mutex<WorkerState>,
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
    /// The end that is asked for and waits.
    pub ending: Ending,
    /// Whether there is a pause, or an end that waits, for the hot path.
    pub paused: AtomicBool,
    /// DEBUG PAUSE-CRON.
    pub ticks_paused: AtomicBool,
    /// See [`Server::reply_max`].
    pub output_max: AtomicUsize,
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
    /// When the log last told of a web page that speaks to the server.
    pub web_page_logged: AtomicI64,
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
        config: Config,
        config_path: Option<PathBuf>,
        doors: Doors,
        workers: Vec<WorkerHandle>,
        memory: MemoryProbe,
        seed: [u64; 2],
    ) -> Server {
        let [k0, k1] = seed;
        // Members and fields are keyed as keys are: nobody may choose where they fall.
        let settings = settings_of(&config, KeyHasher::new(k1, k0));
        let server = Server {
            memory_peak: AtomicUsize::new(0),
            memory_at_start: AtomicUsize::new(0),
            keyspace: Keyspace::new(KeyHasher::new(k0, k1), usize::from(config.databases)),
            saves: Saves::new(now().0 / 1000),
            loading: AtomicBool::new(false),
            loading_beside: AtomicBool::new(false),
            background: Background::default(),
            evictions: Evictions::default(),
            journal: Journal::default(),
            replication: Replication::default(),
            changed: Changed::default(),
            aof: Aof::default(),
            gate: Gate::default(),
            settings: Versions::new(settings),
            registry: Registry::new(&config.renamed_commands),
            workers,
            apart: Mutex::new(WorkerState::default()),
            exclusive: Mutex::new(()),
            watch: Mutex::new(HashMap::new()),
            blocked: Blocked::default(),
            pubsub: RwLock::default(),
            memory,
            maxmemory: AtomicUsize::new(0),
            maxclients: AtomicUsize::new(usize::MAX),
            protected: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            rejected: AtomicU64::new(0),
            web_page_logged: AtomicI64::new(0),
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
            ending: Ending::default(),
            paused: AtomicBool::new(false),
            ticks_paused: AtomicBool::new(false),
            output_max: AtomicUsize::new(usize::MAX),
            revision: AtomicU64::new(0),
            clients_memory: AtomicUsize::new(0),
            unread: Arc::default(),
            strangers: AtomicUsize::new(0),
            config: RwLock::new(Arc::new(Config::default())),
            config_path,
            doors,
            oom_score: OomScore::default(),
        };
        // The first settings are the current ones already: there is room for them.
        let _ = server.configure(config);
        server
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    /// Lets a configuration take effect: what the hot path reads is kept apart from it.
    ///
    /// # Errors
    /// A reason; nothing has changed then.
    pub fn configure(&self, config: Config) -> Result<(), String> {
        let settings = Settings {
            skip_checksums: self.settings.skip_checksums,
            ..settings_of(&config, self.settings.thresholds.hasher)
        };
        self.settings.set(&settings).map_err(|_| {
            "too many different settings of the data were in force since the start".to_owned()
        })?;
        // What is to go, the primary says, if there is one.
        let evicts = !(config.replica_ignore_maxmemory && self.replication.is_replica());
        let maxmemory = if evicts { config.maxmemory } else { 0 };
        let maxmemory = usize::try_from(maxmemory).unwrap_or(usize::MAX);
        self.maxmemory.store(maxmemory, Ordering::Release);
        self.unread.configure(config.maxmemory);
        let maxclients = usize::try_from(config.maxclients).unwrap_or(usize::MAX);
        self.maxclients.store(maxclients, Ordering::Release);
        self.protected.store(!config.requirepass.is_empty(), Ordering::Release);
        let events = EventFlags::parse(&config.notify_keyspace_events.render()).unwrap_or_default();
        self.events.store(events.0, Ordering::Release);
        self.latency.configure(config.latency_monitor_threshold, config.latency_tracking);
        self.tracking.configure(config.tracking_table_max_keys);
        self.output_max.store(output_max(&config), Ordering::Relaxed);
        let limits = [
            (config.slowlog_log_slower_than, config.slowlog_max_len),
            (config.commandlog_request_larger_than, config.commandlog_large_request_max_len),
            (config.commandlog_reply_larger_than, config.commandlog_large_reply_max_len),
        ];
        for (log, (limit, len_max)) in self.logs.iter().zip(limits) {
            log.configure(limit, len_max);
        }
        crate::log::set_level(config.loglevel.into());
        if self.replication.kept.load(Ordering::Acquire) {
            self.journal.set_backlog(config.repl_backlog_size);
        }
        self.replication.refresh(&config);
        *self.config.write() = Arc::new(config);
        self.revision.fetch_add(1, Ordering::AcqRel);
        self.observe();
        Ok(())
    }

    /// Bytes of output above which a connection is closed: known of ordinary ones only, whose replies grow.
    #[inline]
    pub fn reply_max(&self, client: &Client) -> usize {
        let most = self.output_max.load(Ordering::Relaxed);
        if most == usize::MAX || client.monitor || client.subscription_count() > 0 {
            return usize::MAX;
        }
        most.saturating_add(client.sent)
    }

    /// Whether a failed save is a reason to refuse writes.
    pub fn stops_writes(&self) -> bool {
        let config = self.config();
        config.stop_writes_on_bgsave_error && !config.save.is_empty()
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
        let pause = *self.pause.lock();
        let paused = match pause {
            Some((until, _)) if until <= now => {
                self.set_pause(None);
                false
            }
            Some((_, only_writes)) => writes || !only_writes,
            None => false,
        };
        paused || (writes && self.ending.is_underway())
    }

    /// Begins a pause of the clients (until when, and whether only of writes), or ends it. Nothing goes of itself
    /// meanwhile, so that the data stands still.
    pub fn set_pause(&self, pause: Option<(Millis, bool)>) {
        *self.pause.lock() = pause;
        self.refresh_pause();
    }

    /// A pause, or an end that waits, has begun or is over.
    pub fn refresh_pause(&self) {
        let paused = self.pause.lock().is_some() || self.ending.is_underway();
        self.paused.store(paused, Ordering::Release);
        self.keyspace.set_passive(paused || self.replication.is_replica());
    }

    /// Where effects are recorded.
    #[inline]
    pub fn books(&self) -> Books<'_> {
        Books { journal: &self.journal, changed: &self.changed }
    }

    /// Says who writes the journal, and from which offset on (`None`: it goes on): the keyspace tells what goes of itself
    /// only where this server decides it, and leaves what is due to the primary that it follows. Only in the
    /// exclusive section.
    pub fn set_journal(&self, mode: Mode, from: Option<Offset>) {
        if !self.journal.is_active() {
            self.replication.begin_history();
        }
        self.journal.set_mode(mode, from);
        self.name_history();
        if mode != Mode::Own || from.is_some() {
            self.changed.start(0, self.journal.end());
        }
        self.keyspace.set_journaled(mode == Mode::Own);
        let paused = self.paused.load(Ordering::Relaxed);
        self.keyspace.set_passive(mode == Mode::Follows || paused);
    }

    /// What the journal records from now on belongs to the present history. After every change of that, and only in
    /// the exclusive section.
    pub fn name_history(&self) {
        self.journal.name(self.replication.state().lineage.id);
    }

    /// Runs `work` while nobody changes anything: with all states locked, those of the workers ascending, then
    /// the one apart. The caller must hold no state.
    pub fn exclusively<R>(&self, work: impl FnOnce(&mut [MutexGuard<'_, WorkerState>]) -> R) -> R {
        let _only = self.exclusive.lock();
        let mut states: Vec<_> = self.workers.iter().map(|worker| worker.state.lock()).collect();
        states.push(self.apart.lock());
        work(&mut states)
    }

    /// Up to where the journal is on this server's disk, if it is kept there.
    pub fn durable(&self) -> Option<Offset> {
        self.gate.taken().map(|_| self.gate.durable())
    }

    /// Puts a letter into the mailbox of the client's worker. Whoever wrote letters calls `wake_all` later,
    /// outside all slot locks.
    pub fn post(&self, worker: usize, letter: Letter) {
        if let Some(handle) = self.workers.get(worker) {
            handle.post(letter);
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
        self.memory_excess() > 0
    }

    /// By how much memory exceeds `maxmemory`.
    #[inline]
    pub fn memory_excess(&self) -> usize {
        let limit = self.maxmemory.load(Ordering::Relaxed);
        let used = if limit == 0 { 0 } else { (self.memory.used)() };
        if used <= limit {
            return 0;
        }
        self.background.press();
        // What waits to be freed is as good as free. What replicas and the log have yet to take no key must go for:
        // that would be one more thing for them to take.
        let counted = used.saturating_sub(self.journal.surplus());
        counted.saturating_sub(self.background.waiting_bytes()).saturating_sub(limit)
    }

    /// Holds a worker back that is about to go on, while the append-only file lags far behind: memory keeps what
    /// it has yet to write. Not where the disk fails, since writes are refused then. Outside of all locks.
    #[inline]
    pub fn keep_pace(&self) {
        let lags = || {
            let taken = self.gate.taken().unwrap_or(self.journal.end());
            self.journal.end().since(taken) > LAG_BYTES_MAX && !self.gate.is_failing()
        };
        for _ in 0..100 {
            if !lags() || self.stopping.load(Ordering::Relaxed) {
                return;
            }
            self.journal.wake();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Tells everybody to end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for worker in &self.workers {
            worker.mailbox.wake();
        }
    }
}

/// The hard limit of ordinary connections, and what it does not count.
fn output_max(config: &Config) -> usize {
    match config.client_output_buffer_limit.normal.hard {
        0 => usize::MAX,
        hard => {
            let hard = usize::try_from(hard).unwrap_or(usize::MAX);
            hard.saturating_add(crate::client::UNCOUNTED_OUTPUT)
        }
    }
}

/// The part of the configuration that the data depends on.
fn settings_of(config: &Config, hasher: KeyHasher) -> Settings {
    let eviction = eviction_of(config.maxmemory_policy, config.maxmemory_samples);
    Settings {
        thresholds: Thresholds {
            hash_entries: config.hash_max_listpack_entries,
            hash_value: config.hash_max_listpack_value,
            set_intset: config.set_max_intset_entries,
            set_entries: config.set_max_listpack_entries,
            set_value: config.set_max_listpack_value,
            zset_entries: config.zset_max_listpack_entries,
            zset_value: config.zset_max_listpack_value,
            list_size: config.list_max_listpack_size,
            hasher,
        },
        eviction,
        eviction_bits: eviction.map_or(EvictionBits::LastAccess, Eviction::bits),
        lfu_log_factor: config.lfu_log_factor,
        lfu_decay_minutes: config.lfu_decay_time,
        text_max: config.proto_max_bulk_len,
        hll_sparse_max: config.hll_sparse_max_bytes,
        skip_checksums: false,
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

#[cfg(test)]
mod tests {
    use larder_net::Reactor;

    use super::*;

    #[test]
    fn what_a_busy_worker_is_to_tell_does_not_grow_without_end() {
        const SIZE: usize = 1 << 20;
        let reactor = Reactor::new().unwrap();
        let handle = WorkerHandle::new(Mailbox::new(reactor.waker()));
        let message = Arc::new(Message::Raw(vec![0; SIZE]));
        let room = limits::WORKER_MESSAGES_BYTES_MAX / SIZE;
        for _ in 0..3 * room {
            handle.post(Letter::Deliver(7, Arc::clone(&message)));
        }
        assert!(handle.has_much_to_tell());
        let mut letters = Vec::new();
        handle.mailbox.drain(&mut letters);
        let last = letters.pop();
        assert!(matches!(last, Some(Letter::Overrun(7))), "told once, after what found room");
        assert_eq!(letters.len(), room - 1);
        for letter in letters {
            let Letter::Deliver(7, message) = letter else { panic!("another letter") };
            handle.hand_over(&message);
        }
        handle.forget_overrun(7);
        assert!(!handle.has_much_to_tell());
        handle.post(Letter::Deliver(7, message));
        assert_eq!(handle.mailbox.len(), 1);
    }

    #[test]
    fn one_letter_about_doors_waits() {
        let reactor = Reactor::new().unwrap();
        let handle = WorkerHandle::new(Mailbox::new(reactor.waker()));
        (0..5).for_each(|_| handle.post(Letter::Doors));
        assert_eq!(handle.mailbox.len(), 1);
        handle.look_at_doors();
        handle.post(Letter::Doors);
        assert_eq!(handle.mailbox.len(), 2);
    }
}
