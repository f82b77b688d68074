//! The replica's side of a link: one thread that connects to the primary, takes its data over, and repeats its stream.
//! What is said, `cluster::replication::Link` knows; how requests are repeated, `durability::apply` knows.

mod copying;

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_cluster::replication::{Link, LinkConfig, LinkError, Output, Phase, Position};
use larder_commands::Args;
use larder_net::{ReadOutcome, Stream, Until, WriteOutcome};
use larder_protocol::request::{RequestLimits, RequestParser, Step};
use larder_store::DbIndex;

use super::{LinkState, Primary, failover, roles};
use crate::client::Client;
use crate::durability::apply::{Applied, Applier, ApplyError};
use crate::log::{notice, warning};
use crate::shared::{Server, now};
use copying::Copying;

/// How long the thread sleeps before it looks around.
const LOOK: Duration = Duration::from_millis(100);
/// How long it waits before it tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("there is another primary now")]
    Changed,
    #[error("the server ends")]
    Stopping,
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the primary closed the connection")]
    Closed,
    #[error("the stream makes no sense: {0}")]
    Stream(String),
}

/// Starts the thread; it sleeps while there is no primary.
///
/// # Errors
/// If there is no thread to be had.
pub fn start(server: &Arc<Server>) -> io::Result<()> {
    let server = Arc::clone(server);
    std::thread::Builder::new().name("follow".to_owned()).spawn(move || follow(&server))?;
    Ok(())
}

fn follow(server: &Server) {
    let replication = &server.replication;
    let mut applier = Applier::new(server, server.journal.database().unwrap_or(DbIndex(0)));
    while !server.stopping.load(Ordering::Acquire) {
        let mut state = replication.state();
        let Some(primary) = state.primary.clone() else {
            replication.wait_for_change(&mut state, AGAIN);
            continue;
        };
        let generation = state.generation;
        state.link = LinkState::Connecting;
        drop(state);
        let begun = Instant::now();
        let end = Session::new(server, &primary, generation, &mut applier).run();
        applier.give_up_transaction();
        if !matches!(end, End::Changed | End::Stopping) {
            let Primary { host, port } = &primary;
            let link = replication.state().link;
            if let End::Link(LinkError::Timeout(_)) = end {
                // Tools look for these words.
                warning(match link {
                    LinkState::Sync => "Timeout receiving bulk data from PRIMARY",
                    LinkState::Connected => "PRIMARY timeout: no data nor PING received...",
                    LinkState::Connect | LinkState::Connecting | LinkState::Handshake => {
                        "Timeout connecting to the PRIMARY..."
                    }
                });
            }
            warning(&format!("The link to the primary {host}:{port} ended: {end}"));
        }
        let refuses = matches!(end, End::Link(LinkError::Protocol(_) | LinkError::Refused(_)));
        let mut state = replication.state();
        if state.generation != generation {
            continue;
        }
        // Only a link that lived is worth an attempt at once.
        let worked = state.link == LinkState::Connected && begun.elapsed() > LOOK;
        state.link = LinkState::Connect;
        state.down_since = state.down_since.or(Some(now()));
        state.peer = None;
        let hands_over = state.asks_failover;
        drop(state);
        replication.refresh(&server.config());
        if hands_over && refuses {
            failover::refused(server);
        }
        let mut state = replication.state();
        if !worked && state.generation == generation {
            replication.wait_for_change(&mut state, AGAIN);
        }
    }
}

/// One link, from its connection to its end.
struct Session<'s, 'a> {
    server: &'s Server,
    primary: &'a Primary,
    generation: u64,
    applier: &'a mut Applier<'s>,
    /// Of the stream, not yet repeated.
    input: Vec<u8>,
    parser: RequestParser,
    copying: Option<Copying>,
}

/// A link and what it runs over.
struct Wire {
    link: Link,
    peer: Arc<Client>,
    buffer: Vec<u8>,
}

impl Wire {
    fn send(&self, bytes: &[u8], timeout: Duration) -> Result<(), End> {
        let (mut rest, begun) = (bytes, Instant::now());
        while !rest.is_empty() {
            match self.peer.stream.write(rest) {
                WriteOutcome::Bytes(0) if begun.elapsed() > timeout => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                WriteOutcome::Bytes(0) => self.peer.stream.wait(Until::Writable, LOOK),
                WriteOutcome::Bytes(count) => rest = rest.get(count..).unwrap_or(&[]),
                WriteOutcome::Failed(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl<'s, 'a> Session<'s, 'a> {
    fn new(
        server: &'s Server,
        primary: &'a Primary,
        generation: u64,
        applier: &'a mut Applier<'s>,
    ) -> Session<'s, 'a> {
        let (input, parser) = (Vec::new(), RequestParser::default());
        Session { server, primary, generation, applier, input, parser, copying: None }
    }

    fn run(mut self) -> End {
        match self.live() {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.server.config().repl_timeout.into())
    }

    fn live(&mut self) -> Result<std::convert::Infallible, End> {
        let mut wire = self.connect()?;
        loop {
            self.check()?;
            while let Some(output) = wire.link.poll() {
                self.obey(&mut wire, output)?;
            }
            self.receive(&mut wire)?;
            if wire.link.phase() == Phase::Streaming {
                // What has come to the disk meanwhile is news, too.
                wire.link.applied(now(), self.server.journal.end(), self.server.durable());
            }
            wire.link.set_timeout(i64::from(self.server.config().repl_timeout) * 1000);
            wire.link.tick(now())?;
        }
    }

    /// A connection from the address that is configured, or from any if that one will not do, as in Redis.
    fn reach(&self, host: &str, port: u16) -> io::Result<Stream> {
        if let Some(source) = &self.server.config().bind_source_addr {
            let address = (source.as_str(), 0).to_socket_addrs().map(|mut found| found.next());
            let stream = address.and_then(|address| {
                Stream::connect(host, port, address.map(|found| found.ip()), self.timeout())
            });
            match stream {
                Ok(stream) => return Ok(stream),
                // It is the primary that cannot be reached: from another address neither.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut
                    ) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    warning(&format!("Cannot connect from bind-source-addr {source}: {error}"));
                }
            }
        }
        Stream::connect(host, port, None, self.timeout())
    }

    fn connect(&self) -> Result<Wire, End> {
        let (server, config) = (self.server, self.server.config());
        let Primary { host, port } = self.primary;
        notice(&format!("Connecting to the primary {host}:{port}"));
        let stream = self.reach(host, *port)?;
        stream.set_keepalive(config.tcp_keepalive);
        let id = server.next_client.fetch_add(1, Ordering::Relaxed);
        let mut client = Client::new(stream, id, true, now());
        client.primary = true;
        let peer = Arc::new(client);
        let (position, failover) = {
            let mut state = server.replication.state();
            if state.generation != self.generation {
                return Err(End::Changed);
            }
            state.peer = Some(Arc::clone(&peer));
            state.link = LinkState::Handshake;
            let Position { id, offset } =
                Position { id: state.lineage.id, offset: server.journal.end() };
            (state.synced.then_some(Position { id, offset }), state.asks_failover)
        };
        let password = config.primaryauth.reveal();
        let auth =
            (!password.is_empty()).then(|| (config.primaryuser.clone(), password.to_owned()));
        let own_port = match config.replica_announce_port {
            0 => config.port,
            announced => announced,
        };
        let link = Link::new(
            LinkConfig {
                auth,
                listening_port: own_port,
                announce_ip: config.replica_announce_ip.clone(),
                // What Valkey sends to this version, every version of ours reads.
                version: "8.1.0".to_owned(),
                timeout_ms: i64::from(config.repl_timeout) * 1000,
                position,
                failover,
            },
            now(),
        );
        let mut wire = Wire { link, peer, buffer: vec![0; 256 * 1024] };
        wire.link.connected(now());
        Ok(wire)
    }

    /// Whether this link is still wanted.
    fn check(&self) -> Result<(), End> {
        if self.server.stopping.load(Ordering::Acquire) {
            return Err(End::Stopping);
        }
        match self.server.replication.state().generation == self.generation {
            true => Ok(()),
            false => Err(End::Changed),
        }
    }

    /// Takes what has come, or waits a little for it.
    fn receive(&self, wire: &mut Wire) -> Result<(), End> {
        if !wire.link.wants_bytes() {
            return Ok(());
        }
        match wire.peer.stream.read(&mut wire.buffer) {
            ReadOutcome::Bytes(count) => {
                let replication = &self.server.replication;
                replication.heard.store(now().0, Ordering::Relaxed);
                replication.counts.received.fetch_add(count as u64, Ordering::Relaxed);
                wire.link.received(now(), wire.buffer.get(..count).unwrap_or(&[]))?;
            }
            ReadOutcome::WouldBlock => wire.peer.stream.wait(Until::Readable, LOOK),
            ReadOutcome::Closed => return Err(End::Closed),
            ReadOutcome::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn obey(&mut self, wire: &mut Wire, output: Output) -> Result<(), End> {
        match output {
            Output::Send(bytes) => wire.send(&bytes, self.timeout()),
            Output::FullSync(position) => self.begin_copy(position),
            Output::Changes(position) => self.begin_changes(position),
            Output::Snapshot(bytes) => self.copy(wire, bytes),
            Output::SnapshotEnd => self.end_copy(wire),
            Output::Continue(id) => {
                let server = self.server;
                server.exclusively(|_| {
                    self.check()?;
                    roles::rename(server, id);
                    self.connected();
                    Ok::<_, End>(())
                })?;
                notice("Successful partial resynchronization with the primary");
                failover::succeeded(server);
                Ok(())
            }
            Output::Stream(bytes) => {
                self.input.extend_from_slice(&bytes);
                self.repeat(wire)
            }
        }
    }

    /// The stream flows.
    fn connected(&self) {
        {
            let mut state = self.server.replication.state();
            state.link = LinkState::Connected;
            state.down_since = None;
            state.asks_failover = false;
        }
        self.server.replication.refresh(&self.server.config());
    }

    /// Repeats the whole requests that have come.
    fn repeat(&mut self, wire: &mut Wire) -> Result<(), End> {
        let server = self.server;
        let mut asked = false;
        let result = self.repeat_input(&mut asked);
        server.wake_all();
        server.journal.wake();
        wire.link.applied(now(), server.journal.end(), server.durable());
        if asked {
            wire.link.acknowledge(now());
        }
        result
    }

    fn repeat_input(&mut self, asked: &mut bool) -> Result<(), End> {
        let server = self.server;
        // Whatever the primary takes, its replicas must take.
        let limits = RequestLimits { max_bulk: usize::MAX >> 2, ..RequestLimits::default() };
        let (mut ranges, mut used) = (Vec::new(), 0);
        let mut apart = server.apart.lock();
        let mut result = Ok(());
        loop {
            let text = self.input.get(used..).unwrap_or(&[]);
            let step = self.parser.next(text, &limits, &mut ranges);
            let (consumed, source) = match step {
                Ok(Step::Request { consumed }) => (consumed, text),
                Ok(Step::Inline { consumed }) => (consumed, self.parser.inline_text()),
                Ok(Step::Incomplete { .. }) => break,
                Err(error) => {
                    let text = String::from_utf8_lossy(&error.reply_text()).into_owned();
                    result = Err(End::Stream(text));
                    break;
                }
            };
            if server.replication.state().generation != self.generation {
                result = Err(End::Changed);
                break;
            }
            let words: Vec<&[u8]> = ranges.iter().map(|range| range.of(source)).collect();
            let raw = text.get(..consumed).unwrap_or(&[]);
            let outcome = if words.is_empty() {
                server.journal.append_stream_only(raw);
                Ok(Applied::Ping)
            } else {
                self.applier.apply(&mut apart, Args::new(&words), raw)
            };
            match outcome {
                Ok(applied) => *asked |= applied == Applied::GetAck,
                Err(error @ ApplyError::Failed { .. }) => {
                    // As Redis does: the primary is right, whatever it says.
                    server.replication.counts.failed.fetch_add(1, Ordering::Relaxed);
                    warning(&format!("The primary's stream could not be repeated: {error}"));
                }
                Err(error) => {
                    result = Err(End::Stream(error.to_string()));
                    break;
                }
            }
            used += consumed;
        }
        drop(apart);
        self.input.drain(..used);
        result
    }
}
