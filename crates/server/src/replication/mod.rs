//! Replication: which history of changes this server writes or follows, who follows it, and what that forbids its
//! clients. The bytes of the stream are the journal's; what is said on a link, `cluster::replication` knows.
//!
//! The part that a server plays changes in the exclusive section only. The locks here are leaves.

pub mod failover;
pub mod feeding;
pub mod following;
pub mod lag;
pub mod own_deadlines;
pub mod replicas;
pub mod roles;
pub mod show;
pub mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use larder_base::number;
use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_cluster::replication::{Lineage, Offset, Position, ReplicationId};
use larder_commands::Fault;
use larder_store::DbIndex;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::client::Client;
use crate::config::Config;
use crate::durability::journal::Mode;
use crate::durability::rdb_file::Loaded;
use crate::shared::{Server, now};

/// Writes are refused: this server follows another.
const READ_ONLY: u8 = 1;
/// Reads are refused: it has no link to the primary, and may not answer from what it has.
const STALE: u8 = 2;
/// Writes are refused: too few replicas are near.
const STARVED: u8 = 4;

/// The primary that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// How the link to the primary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Not begun, or to be begun again.
    Connect,
    /// Being connected.
    Connecting,
    /// Introducing itself, or waiting for what the primary says to that.
    Handshake,
    /// Taking over a snapshot.
    Sync,
    /// Following the stream.
    Connected,
}

impl LinkState {
    /// The word for it in ROLE.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Sync => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// What may change; see [`Replication::state`].
pub struct State {
    /// The history that the journal holds.
    pub lineage: Lineage,
    /// The data is a point of that history: whoever holds the same point may continue.
    pub synced: bool,
    /// Who is followed; `None`: this is a primary.
    pub primary: Option<Primary>,
    /// Grows with every change of the primary: a link of an older one ends.
    pub generation: u64,
    /// How the link is.
    pub link: LinkState,
    /// Since when it is not connected.
    pub down_since: Option<Millis>,
    /// The connection to the primary.
    pub peer: Option<Arc<Client>>,
    /// Bytes of a snapshot received, and of all that is announced.
    pub sync_bytes: [u64; 2],
    /// The hand-over of FAILOVER is asked for with the next PSYNC.
    pub asks_failover: bool,
}

/// A point of a history, as files and snapshots note it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The history, and how much of it.
    pub position: Position,
    /// The database that its stream is in.
    pub database: DbIndex,
}

impl Point {
    /// What is written beside the data.
    pub fn notes(&self) -> [(&'static str, String); 3] {
        [
            ("repl-stream-db", self.database.0.to_string()),
            ("repl-id", self.position.id.to_string()),
            ("repl-offset", self.position.offset.to_string()),
        ]
    }

    /// What was written beside the data.
    pub fn noted(loaded: &Loaded, databases: usize) -> Option<Point> {
        let id = ReplicationId::parse(loaded.note("repl-id")?)?;
        let offset = Offset(number::parse_u64(loaded.note("repl-offset")?)?);
        let database = number::parse_u64(loaded.note("repl-stream-db")?)?;
        let database = u8::try_from(database).ok().filter(|db| usize::from(*db) < databases)?;
        Some(Point { position: Position { id, offset }, database: DbIndex(database) })
    }
}

/// The point of a history that the data is now. Only in the exclusive section.
pub fn point(server: &Server) -> Option<Point> {
    let (id, synced) = {
        let state = server.replication.state();
        (state.lineage.id, state.synced)
    };
    if !synced || !server.replication.kept.load(Ordering::Acquire) {
        return None;
    }
    if server.journal.records_effects() {
        // Who goes on from here knows no database.
        server.journal.forget_database();
    }
    let database = server.journal.database().unwrap_or(DbIndex(0));
    Some(Point { position: Position { id, offset: server.journal.end() }, database })
}

/// Counts since the start or CONFIG RESETSTAT.
#[derive(Default)]
pub struct Counts {
    /// Replicas that took all data.
    pub full: AtomicU64,
    /// Replicas that went on where they were.
    pub partial: AtomicU64,
    /// Replicas that were sent the changed keys alone.
    pub changes: AtomicU64,
    /// Replicas that could not.
    pub refused: AtomicU64,
    /// Bytes received from the primary.
    pub received: AtomicU64,
    /// Bytes sent to replicas.
    pub sent: AtomicU64,
    /// Requests of the primary that failed here.
    pub failed: AtomicU64,
}

/// See the head of this file.
pub struct Replication {
    state: Mutex<State>,
    /// Rung when the primary changes.
    bell: Condvar,
    /// What clients wrote here while another server is followed.
    pub own_deadlines: own_deadlines::OwnDeadlines,
    /// Those who wait for a copy of the data.
    pub gathering: feeding::Gathering,
    /// Those who follow.
    pub replicas: replicas::Replicas,
    /// Clients that wait for acknowledgements.
    pub waits: waiting::Waits,
    /// The hand-over that runs.
    pub failover: failover::Failover,
    /// Counters for INFO.
    pub counts: Counts,
    gates: AtomicU8,
    /// When something came from the primary last.
    pub heard: AtomicI64,
    /// The history is kept for those who come back.
    pub kept: AtomicBool,
    /// The server ends without waiting for replicas (SHUTDOWN NOW).
    pub hurries: AtomicBool,
    /// The server ends, and nothing is recorded any more.
    pub over: AtomicBool,
    /// When the last replica left.
    alone_since: AtomicI64,
    pinged: AtomicI64,
}

impl Default for Replication {
    fn default() -> Replication {
        let state = State {
            lineage: Lineage::new(fresh_id()),
            synced: true,
            primary: None,
            generation: 0,
            link: LinkState::Connect,
            down_since: None,
            peer: None,
            sync_bytes: [0; 2],
            asks_failover: false,
        };
        Replication {
            state: Mutex::new(state),
            bell: Condvar::new(),
            own_deadlines: own_deadlines::OwnDeadlines::default(),
            gathering: feeding::Gathering::default(),
            replicas: replicas::Replicas::default(),
            waits: waiting::Waits::default(),
            failover: failover::Failover::default(),
            counts: Counts::default(),
            gates: AtomicU8::new(0),
            heard: AtomicI64::new(0),
            kept: AtomicBool::new(false),
            hurries: AtomicBool::new(false),
            over: AtomicBool::new(false),
            alone_since: AtomicI64::new(now().0),
            pinged: AtomicI64::new(now().0),
        }
    }
}

/// A random name for a history that begins.
pub fn fresh_id() -> ReplicationId {
    let mut bits = [0; 20];
    if getrandom::fill(&mut bits).is_err() {
        // A name that is unlikely twice is better than no server.
        let mut rng = Rng::new(now().0.cast_unsigned());
        bits.fill_with(|| rng.next_u64().to_le_bytes()[0]);
    }
    ReplicationId::from_bits(bits)
}

impl Replication {
    /// What may change. A leaf: nothing is locked while it is held.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Tells the thread that follows that the primary changed.
    pub fn ring(&self) {
        self.bell.notify_all();
    }

    /// Sleeps until the primary changes, or the time is over.
    pub fn wait_for_change(&self, state: &mut MutexGuard<'_, State>, at_most: Duration) {
        let _ = self.bell.wait_for(state, at_most);
    }

    /// Whether another server is followed.
    pub fn is_replica(&self) -> bool {
        self.state.lock().primary.is_some()
    }

    /// The journal begins to record: what was changed before is in no history that anybody could continue.
    pub fn begin_history(&self) {
        let mut state = self.state.lock();
        state.lineage.replace(fresh_id());
        state.synced = true;
    }

    fn set_gate(&self, gate: u8, on: bool) {
        if on {
            self.gates.fetch_or(gate, Ordering::Release);
        } else {
            self.gates.fetch_and(!gate, Ordering::Release);
        }
    }

    /// What configuration and part in replication forbid from now on.
    pub fn refresh(&self, config: &Config) {
        let (follows, connected) = {
            let state = self.state.lock();
            (state.primary.is_some(), state.link == LinkState::Connected)
        };
        self.set_gate(READ_ONLY, follows && config.replica_read_only);
        self.set_gate(STALE, follows && !connected && !config.replica_serve_stale_data);
        let near = self.replicas.near(config.min_replicas_max_lag, now());
        let wanted = config.min_replicas_to_write;
        let counts = wanted > 0 && config.min_replicas_max_lag > 0;
        self.set_gate(STARVED, counts && !follows && near < wanted);
    }

    /// Whether anything is forbidden, for the hot path.
    #[inline]
    pub fn restricts(&self) -> bool {
        self.gates.load(Ordering::Relaxed) != 0
    }

    /// Judges a request while something is forbidden; `fresh`: it may not run without a link to the primary;
    /// `writes`: it may change data.
    ///
    /// # Errors
    /// Redis's, for what is forbidden.
    #[cold]
    pub fn admit(&self, fresh: bool, writes: bool) -> Result<(), Fault> {
        const STARVED_FAULT: Fault = Fault::text("NOREPLICAS Not enough good replicas to write.");
        const READ_ONLY_FAULT: Fault =
            Fault::text("READONLY You can't write against a read only replica.");
        const STALE_FAULT: Fault = Fault::text(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        );
        let gates = self.gates.load(Ordering::Acquire);
        if writes && gates & STARVED != 0 {
            return Err(STARVED_FAULT);
        }
        if writes && gates & READ_ONLY != 0 {
            return Err(READ_ONLY_FAULT);
        }
        if fresh && gates & STALE != 0 {
            return Err(STALE_FAULT);
        }
        Ok(())
    }

    /// Forgets the counters.
    pub fn reset_counts(&self) {
        let Counts { full, partial, changes, refused, received, sent, failed } = &self.counts;
        for count in [full, partial, changes, refused, received, sent, failed] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// Bytes of a sign of life.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Plays the part that the configuration says; the data is loaded.
///
/// # Errors
/// If there is no thread to be had.
pub fn begin(server: &Arc<Server>) -> std::io::Result<()> {
    if let Some((host, port)) = server.config().replicaof.clone() {
        let primary = Primary { host, port };
        server.exclusively(|states| {
            let database = server.journal.database();
            roles::follow(server, states, primary, false);
            if let Some(database) = database {
                // The stream goes on where the file ended.
                server.journal.append_raw(database, &[]);
            }
        });
    }
    following::start(server)
}

/// What replication does by the clock: to be called about ten times a second, with no lock held.
pub fn tick(server: &Server) {
    let replication = &server.replication;
    let (config, now) = (server.config(), now());
    replication.refresh(&config);
    replication.waits.check(server);
    if server.paused.load(Ordering::Relaxed) {
        // One that is over ends, whether anybody asks or not.
        server.is_paused(false, now);
    }
    own_deadlines::tick(server, now);
    failover::tick(server, now);
    let follows = replication.is_replica();
    let count = replication.replicas.len();
    if count > 0 {
        replication.alone_since.store(now.0, Ordering::Relaxed);
        let period = i64::from(config.repl_ping_replica_period) * 1000;
        let last = replication.pinged.load(Ordering::Relaxed);
        // Nothing is added to a history that is about to be handed over.
        if !follows && now.0 - last >= period && !replication.failover.is_running() {
            replication.pinged.store(now.0, Ordering::Relaxed);
            ping(server);
        }
        return;
    }
    // The first of them hears the first sign of life a period after it came.
    replication.pinged.store(now.0, Ordering::Relaxed);
    if !follows && replication.kept.load(Ordering::Relaxed) && config.repl_backlog_ttl > 0 {
        let alone = now.since(Millis(replication.alone_since.load(Ordering::Relaxed))) / 1000;
        if u64::try_from(alone).unwrap_or(0) >= config.repl_backlog_ttl {
            forget_history(server);
        }
    }
}

fn ping(server: &Server) {
    // Under a lock of the exclusive section: nobody may turn the journal into another's meanwhile.
    server.exclusively(|_| {
        if server.journal.records_effects() {
            server.journal.append_stream_only(PING);
        }
    });
    server.journal.wake();
}

/// Nobody came back for long: the past is not kept any more. Who comes later takes all data.
fn forget_history(server: &Server) {
    server.exclusively(|_| {
        let replication = &server.replication;
        if !replication.replicas.is_empty() || replication.is_replica() {
            return;
        }
        replication.kept.store(false, Ordering::Release);
        server.journal.set_backlog(0);
        replication.begin_history();
        server.name_history();
        if !server.journal.has_readers() {
            server.set_journal(Mode::Off, None);
        }
    });
    crate::log::notice(
        "Replication backlog freed: no replica was connected for repl-backlog-ttl seconds",
    );
}

/// From now on the history is kept for those who come back. Only in the exclusive section.
pub fn keep_history(server: &Server) {
    if !server.replication.kept.swap(true, Ordering::AcqRel) {
        server.journal.set_backlog(server.config().repl_backlog_size);
    }
    if !server.journal.is_active() {
        server.set_journal(Mode::Own, None);
    }
}

/// Lets replicas have what is still on its way to them, so that they can go on when this server comes back; the workers
/// have ended.
pub fn finish(server: &Server) {
    let until = now().saturating_add(i64::from(server.config().shutdown_timeout) * 1000);
    let lag = || server.replication.replicas.some_lag(server.journal.end());
    if server.replication.hurries.load(Ordering::Acquire) || !lag() {
        return;
    }
    server.exclusively(|_| server.replication.waits.ask(server, server.journal.end()));
    server.replication.over.store(true, Ordering::Release);
    server.journal.wake();
    while now() < until && lag() {
        std::thread::sleep(Duration::from_millis(10));
    }
    if lag() {
        crate::log::warning(
            "Some replicas do not have everything yet: the server ends nevertheless",
        );
    }
}
