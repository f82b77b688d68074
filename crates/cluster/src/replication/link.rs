//! A replica's side of one link to its primary: handshake, full or partial resynchronisation, then the
//! stream. Bytes and time go in, [`Output`]s come out; it knows neither sockets nor what the bytes of the
//! snapshot and of the stream mean.
//!
//! Use: `connected` once the transport stands, `received` for its bytes while [`Link::wants_bytes`],
//! `loaded` when a snapshot was taken over, `applied` after each applied part of the stream, `tick` about
//! ten times a second; after each call drain `poll`. A failed link is dropped, and a new one made.

use std::collections::VecDeque;

use larder_base::number;
use larder_base::time::Millis;
use thiserror::Error;

use super::lineage::{Offset, Position, ReplicationId};
use super::snapshot_feed::{Fed, SnapshotFeed};

/// How a link introduces itself.
#[derive(Clone, Debug, Default)]
pub struct LinkConfig {
    /// User (none: the default user) and password for the primary.
    pub auth: Option<(Option<String>, String)>,
    /// Port on which this node serves.
    pub listening_port: u16,
    /// Address to announce, if not the socket's.
    pub announce_ip: Option<String>,
    /// The version told to a Valkey primary.
    pub version: String,
    /// Milliseconds without a byte after which the link is given up (`repl-timeout`).
    pub timeout_ms: i64,
    /// What this node holds already: asks for a partial resynchronisation.
    pub position: Option<Position>,
    /// Asks the other side to lead (the hand-over of FAILOVER).
    pub failover: bool,
}

/// What the driver is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes to the primary.
    Send(Vec<u8>),
    /// A full resynchronisation begins: a snapshot as of this position follows. `None`: an old primary
    /// (SYNC) that names none.
    FullSync(Option<Position>),
    /// A primary of our kind sends what changed since the position that was asked for: a snapshot of those keys
    /// alone follows, as of this position.
    Changes(Position),
    /// The next bytes of the snapshot.
    Snapshot(Vec<u8>),
    /// The snapshot is complete: load it, then call [`Link::loaded`].
    SnapshotEnd,
    /// A partial resynchronisation: the stream goes on where this node stood, under this history.
    Continue(ReplicationId),
    /// The next bytes of the stream.
    Stream(Vec<u8>),
}

/// Why a link ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// The primary cannot serve now (it loads, or has lost its own primary): try again later.
    #[error("the primary is not ready: {0}")]
    NotReady(String),
    /// It refused the password, or the user's rights.
    #[error("the primary refused: {0}")]
    Refused(String),
    /// It said something that the protocol does not allow here.
    #[error("unexpected reply from the primary: {0}")]
    Protocol(String),
    /// It was silent for too long.
    #[error("no data from the primary for {0} ms")]
    Timeout(i64),
    /// The snapshot could not be taken over.
    #[error("the snapshot was refused: {0}")]
    Snapshot(String),
}

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not connected yet.
    Connecting,
    /// Introducing itself.
    Handshake,
    /// Waiting for the answer to PSYNC, or for the snapshot to begin.
    Waiting,
    /// Receiving the snapshot.
    Receiving,
    /// The driver loads the snapshot.
    Loading,
    /// Receiving the stream.
    Streaming,
}

/// What a line of the handshake answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Ping,
    Auth,
    /// Whatever it says, we go on: older primaries know fewer options.
    Option,
    /// As `Option`; success tells that the primary is of our kind.
    OwnKind,
    Psync,
    /// The announcement of a snapshot.
    Announcement,
}

/// Longest line of the handshake.
const LINE_MAX: usize = 4096;
/// Milliseconds between two acknowledgements, and between two signs of life while loading.
const ACK_EVERY_MS: i64 = 1000;

/// See the head of this file.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    phase: Phase,
    asked: VecDeque<Asked>,
    line: Vec<u8>,
    feed: Option<SnapshotFeed>,
    diskless: bool,
    own_kind: bool,
    /// End of what was received of the stream.
    offset: Offset,
    applied: Offset,
    durable: Option<Offset>,
    heard: Millis,
    acked: Millis,
    /// Bytes that came together with the end of a snapshot; they are stream.
    early: Vec<u8>,
    outputs: VecDeque<Output>,
}

impl Link {
    /// A link that is about to connect.
    #[must_use]
    pub fn new(config: LinkConfig, now: Millis) -> Link {
        let offset = config.position.map_or(Offset(0), |position| position.offset);
        Link {
            config,
            phase: Phase::Connecting,
            asked: VecDeque::new(),
            line: Vec::new(),
            feed: None,
            diskless: false,
            own_kind: false,
            offset,
            applied: offset,
            durable: None,
            heard: now,
            acked: now,
            early: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// End of the stream received so far.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Whether the primary is a Larder: it takes an acknowledgement after every applied batch.
    #[must_use]
    pub fn primary_is_own_kind(&self) -> bool {
        self.own_kind
    }

    /// When the primary was last heard of.
    #[must_use]
    pub fn heard(&self) -> Millis {
        self.heard
    }

    /// False while a snapshot is loaded: let the transport hold the bytes back.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        self.phase != Phase::Loading
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The transport stands.
    pub fn connected(&mut self, now: Millis) {
        self.heard = now;
        self.phase = Phase::Handshake;
        self.ask(Asked::Ping, &["PING"]);
    }

    /// Bytes from the primary.
    ///
    /// # Errors
    /// When the link is of no more use.
    pub fn received(&mut self, now: Millis, mut bytes: &[u8]) -> Result<(), LinkError> {
        self.heard = now;
        while !bytes.is_empty() {
            match self.phase {
                Phase::Connecting => {
                    return Err(LinkError::Protocol("data before the connection".to_owned()));
                }
                Phase::Handshake | Phase::Waiting => {
                    let Some((line, rest)) = self.take_line(bytes)? else { return Ok(()) };
                    bytes = rest;
                    self.on_line(&line)?;
                }
                Phase::Receiving => bytes = self.on_snapshot(bytes),
                Phase::Loading => {
                    // Only what came in the same read as the snapshot's end; the driver reads no more.
                    self.early.extend_from_slice(bytes);
                    return Ok(());
                }
                Phase::Streaming => {
                    self.on_stream(bytes);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The snapshot was taken over (or why not); the stream begins.
    ///
    /// # Errors
    /// `LinkError::Snapshot` with the reason given.
    pub fn loaded(&mut self, now: Millis, result: Result<(), String>) -> Result<(), LinkError> {
        result.map_err(LinkError::Snapshot)?;
        self.heard = now;
        self.phase = Phase::Streaming;
        self.applied = self.offset;
        // A diskless primary holds the stream back until it hears this.
        self.acknowledge(now);
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            self.on_stream(&early);
        }
        Ok(())
    }

    /// The stream was applied up to here, and is on this node's disk up to `durable`, if it keeps one.
    pub fn applied(&mut self, now: Millis, offset: Offset, durable: Option<Offset>) {
        let news = offset > self.applied || durable > self.durable;
        self.applied = self.applied.max(offset);
        self.durable = durable;
        if self.own_kind && news {
            self.acknowledge(now);
        }
    }

    /// The primary asks for an acknowledgement (`REPLCONF GETACK *` in the stream).
    pub fn acknowledge(&mut self, now: Millis) {
        self.acked = now;
        let offset = self.applied.to_string();
        let mut words = vec!["REPLCONF", "ACK", &offset];
        let durable = self.durable.map(|offset| offset.to_string());
        if let Some(durable) = &durable {
            words.extend(["FACK", durable]);
        }
        self.send(&words);
    }

    /// Silence is borne so long from now on.
    pub fn set_timeout(&mut self, timeout_ms: i64) {
        self.config.timeout_ms = timeout_ms;
    }

    /// Time passes.
    ///
    /// # Errors
    /// `LinkError::Timeout` when the primary was silent for too long.
    pub fn tick(&mut self, now: Millis) -> Result<(), LinkError> {
        let silence = now.since(self.heard);
        if self.phase != Phase::Loading && silence > self.config.timeout_ms {
            return Err(LinkError::Timeout(silence));
        }
        if now.since(self.acked) >= ACK_EVERY_MS {
            match self.phase {
                Phase::Streaming => self.acknowledge(now),
                Phase::Loading => {
                    // An empty line keeps the primary from giving us up.
                    self.acked = now;
                    self.outputs.push_back(Output::Send(b"\n".to_vec()));
                }
                Phase::Connecting | Phase::Handshake | Phase::Waiting | Phase::Receiving => {}
            }
        }
        Ok(())
    }

    /// A whole line, without its end, and what follows it. Bare newlines are signs of life: skipped.
    #[expect(clippy::type_complexity, reason = "a line and a rest, or neither")]
    fn take_line<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<(Vec<u8>, &'b [u8])>, LinkError> {
        let mut bytes = bytes;
        loop {
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                if self.line.len() > LINE_MAX {
                    return Err(LinkError::Protocol("a line without an end".to_owned()));
                }
                return Ok(None);
            };
            let (head, rest) = bytes.split_at_checked(end + 1).unwrap_or((bytes, &[]));
            self.line.extend_from_slice(head);
            bytes = rest;
            let mut line = std::mem::take(&mut self.line);
            while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                line.pop();
            }
            if line.len() > LINE_MAX {
                return Err(LinkError::Protocol("a line too long".to_owned()));
            }
            if !line.is_empty() {
                return Ok(Some((line, bytes)));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
        }
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), LinkError> {
        let text = || String::from_utf8_lossy(line).into_owned();
        let is_error = line.first() == Some(&b'-');
        match self.asked.pop_front() {
            Some(Asked::Ping) => {
                // A primary that wants a password first may say so even to PING.
                let fine = !is_error
                    || [&b"-NOAUTH"[..], b"-NOPERM", b"-ERR operation not permitted"]
                        .iter()
                        .any(|prefix| line.starts_with(prefix));
                if !fine {
                    return Err(LinkError::NotReady(text()));
                }
                self.introduce();
                Ok(())
            }
            Some(Asked::Auth) if is_error => Err(LinkError::Refused(text())),
            Some(Asked::Auth | Asked::Option) => Ok(()),
            Some(Asked::OwnKind) => {
                self.own_kind = !is_error;
                self.ask_for_sync();
                Ok(())
            }
            Some(Asked::Psync) => self.on_sync_reply(line),
            Some(Asked::Announcement) => {
                let Some(feed) = SnapshotFeed::announced(line) else {
                    return Err(LinkError::Protocol(text()));
                };
                self.diskless = feed.is_diskless();
                self.feed = Some(feed);
                self.phase = Phase::Receiving;
                // An empty snapshot of known length ends at once.
                self.on_snapshot(&[]);
                Ok(())
            }
            None => Err(LinkError::Protocol(text())),
        }
    }

    /// Who we are; one packet, answered in order.
    fn introduce(&mut self) {
        if let Some((user, password)) = self.config.auth.clone() {
            match user {
                Some(user) => self.ask(Asked::Auth, &["AUTH", &user, &password]),
                None => self.ask(Asked::Auth, &["AUTH", &password]),
            }
        }
        let port = self.config.listening_port.to_string();
        self.ask(Asked::Option, &["REPLCONF", "listening-port", &port]);
        if let Some(address) = self.config.announce_ip.clone() {
            self.ask(Asked::Option, &["REPLCONF", "ip-address", &address]);
        }
        self.ask(Asked::Option, &["REPLCONF", "capa", "eof", "capa", "psync2"]);
        let version = self.config.version.clone();
        self.ask(Asked::Option, &["REPLCONF", "version", &version]);
        self.ask(Asked::OwnKind, &["REPLCONF", "larder", "1"]);
    }

    fn ask_for_sync(&mut self) {
        self.phase = Phase::Waiting;
        match self.config.position {
            Some(Position { id, offset }) => {
                let next = offset.plus(1).to_string();
                let words = ["PSYNC", id.as_str(), &next, "FAILOVER"];
                let count = if self.config.failover { 4 } else { 3 };
                self.ask(Asked::Psync, words.get(..count).unwrap_or(&words));
            }
            None => self.ask(Asked::Psync, &["PSYNC", "?", "-1"]),
        }
    }

    fn on_sync_reply(&mut self, line: &[u8]) -> Result<(), LinkError> {
        let text = || String::from_utf8_lossy(line).into_owned();
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        match words.next().unwrap_or(&[]) {
            b"+FULLRESYNC" => {
                let id = words.next().and_then(ReplicationId::parse);
                let offset = words.next().and_then(number::parse_u64).map(Offset);
                let (Some(id), Some(offset)) = (id, offset) else {
                    return Err(LinkError::Protocol(text()));
                };
                (self.offset, self.applied) = (offset, offset);
                self.outputs.push_back(Output::FullSync(Some(Position { id, offset })));
                self.asked.push_back(Asked::Announcement);
            }
            b"+CHANGES" if self.config.position.is_some() => {
                let id = words.next().and_then(ReplicationId::parse);
                let offset = words.next().and_then(number::parse_u64).map(Offset);
                let (Some(id), Some(offset)) = (id, offset) else {
                    return Err(LinkError::Protocol(text()));
                };
                (self.offset, self.applied) = (offset, offset);
                self.outputs.push_back(Output::Changes(Position { id, offset }));
                self.asked.push_back(Asked::Announcement);
            }
            b"+CONTINUE" => {
                let Some(position) = self.config.position else {
                    return Err(LinkError::Protocol(text()));
                };
                let id = match words.next() {
                    Some(word) => {
                        ReplicationId::parse(word).ok_or_else(|| LinkError::Protocol(text()))?
                    }
                    None => position.id,
                };
                self.outputs.push_back(Output::Continue(id));
                self.phase = Phase::Streaming;
            }
            b"-NOMASTERLINK" | b"-LOADING" | b"-BUSY" => return Err(LinkError::NotReady(text())),
            b"-NOAUTH" | b"-NOPERM" => return Err(LinkError::Refused(text())),
            word if word.first() == Some(&b'-') && self.config.failover => {
                return Err(LinkError::Refused(text()));
            }
            word if word.first() == Some(&b'-') => {
                // Before 2.8 there was only SYNC, which names no history.
                (self.offset, self.applied) = (Offset(0), Offset(0));
                self.outputs.push_back(Output::FullSync(None));
                self.ask(Asked::Announcement, &["SYNC"]);
            }
            _ => return Err(LinkError::Protocol(text())),
        }
        Ok(())
    }

    fn on_snapshot<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(feed) = &mut self.feed else { return &[] };
        let mut part = Vec::with_capacity(bytes.len());
        let fed = feed.feed(bytes, &mut part);
        if !part.is_empty() {
            self.outputs.push_back(Output::Snapshot(part));
        }
        match fed {
            Fed::More => &[],
            Fed::End { rest } => {
                self.feed = None;
                self.phase = Phase::Loading;
                self.outputs.push_back(Output::SnapshotEnd);
                bytes.get(bytes.len() - rest.min(bytes.len())..).unwrap_or(&[])
            }
        }
    }

    fn on_stream(&mut self, bytes: &[u8]) {
        self.offset = self.offset.plus(bytes.len() as u64);
        self.outputs.push_back(Output::Stream(bytes.to_vec()));
    }

    fn ask(&mut self, asked: Asked, words: &[&str]) {
        self.asked.push_back(asked);
        self.send(words);
    }

    fn send(&mut self, words: &[&str]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        match self.outputs.back_mut() {
            Some(Output::Send(before)) => before.extend_from_slice(&bytes),
            _ => self.outputs.push_back(Output::Send(bytes)),
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
