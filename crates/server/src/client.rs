//! One connection's state on its worker: what it sent, what it is owed, how it stands. It knows no
//! socket events and no command; the worker and the dispatcher do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder_base::time::Millis;
use larder_cluster::replication::{Follower, Offset, SyncRequest};
use larder_net::{Interest, Stream};
use larder_protocol::reply::{Reply, Version};
use larder_protocol::request::RequestParser;
use larder_store::DbIndex;

use crate::blocking::Waiter;
use crate::durability::gate::Depends;
use crate::names::Names;
use crate::pubsub::Message;
use crate::tracking::{Mode, Tracker};
use crate::unread::{Share, Unread};

/// Output up to this many bytes is what Redis keeps in a client's own buffer, the rest in a list.
const FIRST_BUFFER: usize = 16 * 1024;

/// What Redis takes for 16 KiB of the list: the allocator's next size without the head, and the entry of the list.
const BLOCK: usize = 20 * 1024 - 16;
const BLOCK_OVERHEAD: usize = 40;
/// Output that no limit counts.
pub const UNCOUNTED_OUTPUT: usize = FIRST_BUFFER;

/// A request kept for later (MULTI, blocking): its arguments, owned.
pub type OwnedArgs = Vec<Vec<u8>>;

/// A transaction being queued.
#[derive(Default)]
pub struct Multi {
    /// The commands, in order.
    pub queue: Vec<OwnedArgs>,
    /// Bytes of their arguments.
    pub bytes: usize,
    /// A command was refused: EXEC will refuse all.
    pub broken: bool,
    /// Some command needs memory: EXEC is refused when it is used up.
    pub needs_memory: bool,
    /// Some command may change data.
    pub writes: bool,
    /// Some command is not for a time of loading.
    pub needs_loaded: bool,
    /// Some command is not for a time in which new data is loaded beside the old.
    pub needs_settled: bool,
    /// Some command is not for a replica that has lost its primary.
    pub needs_fresh: bool,
}

/// Which replies the client wants (CLIENT REPLY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// All.
    On,
    /// None.
    Off,
    /// Not the reply of the next command.
    SkipNext,
    /// Not the reply of this command.
    Skipping,
}

/// The beginning of a request whose long argument has a buffer to itself.
pub struct Aside {
    /// All that stands before the long argument.
    pub bytes: Vec<u8>,
    /// How many arguments that are.
    pub args: usize,
}

/// See the head of this file.
pub struct Client {
    /// The connection.
    pub stream: Stream,
    /// Server-wide number, never used again.
    pub id: u64,
    /// Bytes received and not yet consumed.
    pub input: Vec<u8>,
    /// Requests in `input` wait until it has taken more of its replies.
    pub behind: bool,
    /// What stands before `input` in its first request, if `input` begins with a long argument.
    pub aside: Option<Box<Aside>>,
    /// The long argument of the request that runs, for whom it may become a value as it is.
    pub offered: Option<Arc<Vec<u8>>>,
    /// Bytes that its first request still lacks, at least.
    pub wanted: usize,
    /// How far the first request in `input` is parsed.
    pub parser: RequestParser,
    /// Bytes to send, after the first `sent` of them.
    pub out: Vec<u8>,
    /// A reply became larger than may ever be sent: what is in `out` is not sent any more.
    pub overflown: bool,
    /// How much of `out` is sent already.
    pub sent: usize,
    /// What it has of the room for replies that nobody has read yet.
    pub unread: Share,
    /// When its unsent output came above the soft limit.
    pub above_soft: Option<Millis>,
    /// Bytes counted for it under `maxmemory-clients`.
    pub accounted: usize,
    /// Chosen to be closed for what it holds.
    pub evicted: bool,
    /// It is counted among those who have yet to authenticate.
    pub stranger: bool,
    /// Passwords that were wrong.
    pub wrong_passwords: u8,
    /// Bytes received, bytes sent, and commands run since it connected.
    pub totals: [u64; 3],
    /// What the reactor watches for.
    pub interest: Interest,
    /// Its input is part of the batch that runs next.
    pub batched: bool,
    /// It has whole requests that wait for their turn: nothing more is read until they have run.
    pub pending: bool,
    /// CLIENT PAUSE holds its next request back.
    pub held: bool,
    /// Selected database.
    pub db: DbIndex,
    /// Protocol version.
    pub version: Version,
    /// Has given the password, or none is needed.
    pub authenticated: bool,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO.
    pub lib: (Vec<u8>, Vec<u8>),
    /// The open transaction.
    pub multi: Option<Multi>,
    /// Set when a watched key changed.
    pub watch: Option<Arc<AtomicBool>>,
    /// Watched keys.
    pub watched: Vec<(DbIndex, Vec<u8>)>,
    /// Bytes of their names.
    pub watched_bytes: usize,
    /// What it waits for.
    pub waiting: Option<Arc<Waiter>>,
    /// Channels, patterns and shard channels.
    pub subscriptions: [Names; 3],
    /// What its output depends on, while the commit gate is closing.
    pub depends: Depends,
    /// Its output waits at the commit gate; until it leaves nothing more is read or run.
    pub gated: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT TRACKING.
    pub tracker: Option<Arc<Tracker>>,
    /// CLIENT CACHING, for the next command.
    pub caching: Option<bool>,
    /// CLIENT CAPA REDIRECT: it follows redirections of a server that is not in a cluster.
    pub redirects: bool,
    /// MONITOR.
    pub monitor: bool,
    /// What it told of itself as a replica.
    pub follower: Option<Box<Follower>>,
    /// It asked to follow: it leaves its worker.
    pub wants_sync: Option<SyncRequest>,
    /// It follows this server.
    pub replica: bool,
    /// It is the link to the primary.
    pub primary: bool,
    /// Where the journal ended after its last write.
    pub depends_on: Offset,
    /// Close when everything is sent.
    pub closing: bool,
    /// When it connected.
    pub since: Millis,
    /// When it last sent something.
    pub active: Millis,
    /// Name of the last command, and of its subcommand.
    pub last_command: (&'static str, &'static str),
}

impl Client {
    /// A fresh connection.
    pub fn new(stream: Stream, id: u64, authenticated: bool, now: Millis) -> Client {
        Client {
            stream,
            id,
            input: Vec::new(),
            behind: false,
            aside: None,
            offered: None,
            wanted: 0,
            parser: RequestParser::default(),
            out: Vec::new(),
            overflown: false,
            sent: 0,
            unread: Share::default(),
            above_soft: None,
            accounted: 0,
            evicted: false,
            stranger: false,
            wrong_passwords: 0,
            totals: [0; 3],
            interest: Interest::Read,
            batched: false,
            pending: false,
            held: false,
            db: DbIndex(0),
            version: Version::Resp2,
            authenticated,
            name: Vec::new(),
            lib: (Vec::new(), Vec::new()),
            multi: None,
            watch: None,
            watched: Vec::new(),
            watched_bytes: 0,
            waiting: None,
            subscriptions: Default::default(),
            depends: Depends::default(),
            gated: false,
            reply_mode: ReplyMode::On,
            no_touch: false,
            no_evict: false,
            tracker: None,
            caching: None,
            redirects: false,
            monitor: false,
            follower: None,
            wants_sync: None,
            replica: false,
            primary: false,
            depends_on: Offset(0),
            closing: false,
            since: now,
            active: now,
            last_command: ("NULL", ""),
        }
    }

    /// Whether it takes its replies quickly enough to get more of them.
    #[inline]
    pub fn takes_replies(&mut self, store: &Arc<Unread>) -> bool {
        let unsent = self.unsent();
        self.unread.has_room(store, unsent)
    }

    /// The same after some of them were sent.
    pub fn has_taken_replies(&mut self, store: &Arc<Unread>) -> bool {
        self.unread.shrink(self.unsent());
        self.takes_replies(store)
    }

    /// Writes a message behind what it is owed already, if it is one for a connection of its kind.
    pub fn hear(&mut self, message: &Message) -> bool {
        let [channels, ..] = &self.subscriptions;
        let resp3 = self.version == Version::Resp3;
        let heard = message.is_for(resp3, channels.contains(crate::pubsub::INVALIDATIONS));
        if heard {
            message.encode(&mut Reply::new(&mut self.out, self.version));
        }
        heard
    }

    /// How many channels, patterns and shard channels it listens to.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.iter().map(Names::len).sum()
    }

    /// The tracker that remembers the keys which the command that ran now has read, if any.
    #[inline]
    pub fn caches(&self) -> Option<&Arc<Tracker>> {
        let tracker = self.tracker.as_ref()?;
        let caches = match tracker.mode {
            Mode::Read => true,
            Mode::OptIn => self.caching == Some(true),
            Mode::OptOut => self.caching != Some(false),
            Mode::Broadcast => false,
        };
        caches.then_some(tracker)
    }

    /// `normal`, `pubsub`, `replica` or `master`, as CLIENT LIST TYPE and CLIENT KILL TYPE ask.
    pub fn kind(&self) -> &'static str {
        match () {
            () if self.replica => "replica",
            () if self.primary => "master",
            () if self.subscription_count() > 0 => "pubsub",
            () => "normal",
        }
    }

    /// Bytes of output that wait to be sent.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.out.len().saturating_sub(self.sent)
    }

    /// The same as Redis counts it: whole blocks, without what would fit into the first buffer.
    pub fn output_memory(&self) -> usize {
        self.output_blocks() * (BLOCK + BLOCK_OVERHEAD)
    }

    fn output_blocks(&self) -> usize {
        self.unsent().saturating_sub(FIRST_BUFFER).div_ceil(BLOCK)
    }

    /// Bytes that it holds, its buffers included.
    pub fn memory(&self) -> usize {
        size_of::<Client>()
            + self.input.capacity()
            + self.aside.as_ref().map_or(0, |aside| aside.bytes.capacity())
            + self.out.capacity()
            + self.parser.memory()
            + self.multi.as_ref().map_or(0, |multi| multi.bytes)
            + self.subscriptions.iter().map(Names::memory).sum::<usize>()
            + self.watched.len() * Names::EACH
            + self.watched_bytes
            + self.name.capacity()
            + self.tracker.as_ref().map_or(0, |tracker| tracker.prefixes.memory())
    }

    /// Notes that so many commands ran; one that waits is counted when its wait ends.
    pub fn count_commands(&mut self, ran: usize) {
        let [.., commands] = &mut self.totals;
        *commands += ran.saturating_sub(usize::from(self.waiting.is_some())) as u64;
    }

    /// Whether it waits for a key, or for the end of a pause: no more, once somebody ended the wait, even if
    /// the answer is still on its way.
    pub fn is_blocked(&self) -> bool {
        let waits = |waiter: &Arc<Waiter>| !waiter.ended.load(Ordering::Acquire);
        self.waiting.as_ref().is_some_and(waits) || self.held
    }

    /// The letters of CLIENT LIST's `flags`.
    pub fn flags(&self) -> String {
        let dirty =
            self.watch.as_ref().is_some_and(|w| w.load(std::sync::atomic::Ordering::Acquire));
        let broken = self
            .tracker
            .as_ref()
            .is_some_and(|t| t.broken.load(std::sync::atomic::Ordering::Acquire));
        let broadcast = self.tracker.as_ref().is_some_and(|t| t.mode == Mode::Broadcast);
        let all = [
            (self.replica, 'S'),
            (self.monitor, 'O'),
            (self.primary, 'M'),
            (self.subscription_count() > 0, 'P'),
            (self.multi.is_some(), 'x'),
            (self.is_blocked(), 'b'),
            (self.tracker.is_some(), 't'),
            (broken, 'R'),
            (broadcast, 'B'),
            (dirty, 'd'),
            (self.closing, 'c'),
            (self.stream.local().starts_with('/'), 'U'),
            (self.no_evict, 'e'),
            (self.no_touch, 'T'),
        ];
        let text: String = all.iter().filter(|(on, _)| *on).map(|(_, letter)| *letter).collect();
        if text.is_empty() { "N".to_owned() } else { text }
    }

    /// The line of CLIENT LIST.
    pub fn describe(&self, now: Millis) -> String {
        let flags = self.flags();
        let redirect = self.tracker.as_ref().map_or(-1, |tracker| {
            tracker.redirect.map_or(0, |(id, _)| i64::try_from(id).unwrap_or(0))
        });
        let multi = self.multi.as_ref().map_or(-1, |m| i64::try_from(m.queue.len()).unwrap_or(0));
        format!(
            "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} \
             multi={} watch={} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll={} omem={} \
             tot-mem={} events={} cmd={} user=default redir={} resp={} lib-name={} lib-ver={} \
             tot-net-in={} tot-net-out={} tot-cmds={}",
            self.id,
            self.stream.peer(),
            self.stream.local(),
            String::from_utf8_lossy(&self.name),
            now.since(self.since) / 1000,
            now.since(self.active) / 1000,
            flags,
            self.db.0,
            self.subscriptions[0].len(),
            self.subscriptions[1].len(),
            self.subscriptions[2].len(),
            multi,
            self.watched.len(),
            self.input.len(),
            self.input.capacity() - self.input.len(),
            self.parser.memory(),
            self.multi.as_ref().map_or(0, |multi| multi.bytes),
            self.out.capacity(),
            self.unsent(),
            self.unsent().min(FIRST_BUFFER),
            self.output_blocks(),
            self.output_memory(),
            self.memory(),
            match self.interest {
                Interest::Read | Interest::Hangup => "r",
                Interest::Write => "w",
                Interest::Both => "rw",
            },
            match self.last_command {
                (name, "") => name.to_owned(),
                (name, sub) => format!("{name}|{sub}"),
            },
            redirect,
            if self.version == Version::Resp3 { 3 } else { 2 },
            String::from_utf8_lossy(&self.lib.0),
            String::from_utf8_lossy(&self.lib.1),
            self.totals[0],
            self.totals[1],
            self.totals[2],
        )
    }
}
