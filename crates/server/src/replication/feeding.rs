//! The primary's side of a link: a connection that asked to follow leaves its worker for two threads of its own. One
//! sends what it lacks (a snapshot, or nothing) and then the journal as it grows, the other hears its
//! acknowledgements. They know no command but REPLCONF.

mod changes;
mod sharing;

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use larder_base::time::Millis;
use larder_cluster::replication::{Decision, Follower, Offset, Stage, SyncRequest};
use larder_commands::{Args, Run};
use larder_net::{ReadOutcome, Until, WriteOutcome};
use larder_persist::rdb::Version;
use larder_protocol::request::{RequestLimits, RequestParser, Step};

use super::LinkState;
use super::lag::Lag;
use super::replicas::Replica;
use crate::client::Client;
use crate::durability::journal::{OutOfReach, Reader};
use crate::durability::save::SaveError;
use crate::log::{notice, warning};
use crate::shared::{Server, now};
pub use sharing::Gathering;
use sharing::{Piece, Recipe, Ticket, Waiting};

/// How long a thread sleeps before it looks around.
const LOOK: Duration = Duration::from_millis(100);
/// What comes within this time is sent together, unless somebody waits for it.
const PAUSE: Duration = Duration::from_micros(500);
/// Between two signs of life to one who waits.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Bytes taken from the journal at a time.
const PORTION: usize = 1 << 20;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the connection was closed")]
    Gone,
    #[error("it was silent for too long (repl-timeout)")]
    Silent,
    #[error("it is too far behind (client-output-buffer-limit replica)")]
    Behind,
    #[error("the history began anew")]
    OutOfReach,
    #[error("this server has lost its own primary")]
    NoPrimary,
    #[error("the snapshot failed: {0}")]
    Snapshot(String),
    #[error("it has the snapshot that it wanted")]
    Done,
    #[error("the server ends")]
    Stopping,
}

impl From<OutOfReach> for End {
    fn from(_: OutOfReach) -> End {
        End::OutOfReach
    }
}

/// Takes a connection over that asked to follow; it has left its worker.
pub fn take_over(server: &Arc<Server>, mut client: Client, request: SyncRequest) {
    let mut follower = client.follower.take().map_or_else(|| Follower::new(now()), |told| *told);
    follower.stage = Stage::Waiting;
    client.replica = true;
    let input = std::mem::take(&mut client.input);
    let before = std::mem::take(&mut client.out).split_off(client.sent);
    if server.config().repl_disable_tcp_nodelay {
        client.stream.set_nodelay(false);
    }
    let replica = Arc::new(Replica::new(client, follower));
    server.replication.replicas.add(Arc::clone(&replica));
    let hearing = {
        let (server, replica) = (Arc::clone(server), Arc::clone(&replica));
        let thread = std::thread::Builder::new().name("replica-in".to_owned());
        thread.spawn(move || listen(&server, &replica, input))
    };
    let feeding = {
        let (server, replica) = (Arc::clone(server), Arc::clone(&replica));
        let thread = std::thread::Builder::new().name("replica-out".to_owned());
        thread.spawn(move || {
            let end = Feed::new(&server, &replica).run(&request, &before);
            let peer = replica.client.stream.peer().to_string();
            notice(&format!("Connection with replica {peer} ends: {end}"));
            leave(&server, &replica);
        })
    };
    if let (Err(error), _) | (_, Err(error)) = (hearing, feeding) {
        warning(&format!("No thread for a replica: {error}"));
        leave(server, &replica);
    }
}

fn leave(server: &Server, replica: &Arc<Replica>) {
    replica.close();
    server.replication.replicas.remove(replica);
    server.connections.fetch_sub(1, Ordering::AcqRel);
    server.replication.refresh(&server.config());
}

/// Whether this server has what others may follow. Only in the exclusive section.
fn may_follow(server: &Server) -> bool {
    let state = server.replication.state();
    state.synced && (state.primary.is_none() || state.link == LinkState::Connected)
}

/// The thread that sends.
struct Feed<'s> {
    server: &'s Arc<Server>,
    replica: &'s Replica,
    lag: Lag,
    /// When something could be sent last.
    moved: Instant,
}

impl<'s> Feed<'s> {
    fn new(server: &'s Arc<Server>, replica: &'s Replica) -> Feed<'s> {
        Feed { server, replica, lag: Lag::default(), moved: Instant::now() }
    }

    fn run(&mut self, request: &SyncRequest, before: &[u8]) -> End {
        match self.serve(request, before) {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    fn serve(
        &mut self,
        request: &SyncRequest,
        before: &[u8],
    ) -> Result<std::convert::Infallible, End> {
        self.send(before, None)?;
        let reader = match self.continued(request)? {
            Some(reader) => reader,
            None => match self.changes(request)? {
                Some(reader) => reader,
                None => self.full_sync(request)?,
            },
        };
        let mut follower = self.replica.follower.lock();
        follower.stage = Stage::Online;
        // It counts as near from now on.
        follower.acked_at = now();
        drop(follower);
        self.server.replication.refresh(&self.server.config());
        self.stream(&reader)
    }

    /// A reader from where the replica stands, if it can go on from there.
    fn continued(&mut self, request: &SyncRequest) -> Result<Option<Reader>, End> {
        let server = self.server;
        let follower = self.replica.follower.lock().clone();
        let joined = server.exclusively(|_| {
            let lineage = server.replication.state().lineage;
            let journal = &server.journal;
            if !may_follow(server) {
                // A moment later it might, and would send everything for nothing: the replica shall ask again.
                return Err(End::NoPrimary);
            }
            if !journal.is_active() {
                return Ok(None);
            }
            Ok(match follower.decide(request, &lineage, journal.first(), journal.end()) {
                Decision::Continue { from, line } => {
                    journal.join(from).ok().map(|reader| (reader, from, line))
                }
                Decision::Full => None,
            })
        })?;
        let counts = &server.replication.counts;
        let Some((reader, from, line)) = joined else {
            return Ok(None);
        };
        counts.partial.fetch_add(1, Ordering::Relaxed);
        let peer = self.replica.client.stream.peer();
        notice(&format!("Partial resynchronization of {peer} from offset {from}"));
        self.replica.note_sent(from);
        self.send(line.as_bytes(), None)?;
        Ok(Some(reader))
    }

    /// Sends all data as of a moment; returns a reader of what happens since.
    fn full_sync(&mut self, request: &SyncRequest) -> Result<Reader, End> {
        let server = self.server;
        let follower = self.replica.follower.lock().clone();
        let recipe = Recipe {
            version: version_for(server, &follower),
            diskless: follower.capabilities.eof && server.config().repl_diskless_sync,
        };
        let waiting = sharing::wait(server, recipe, follower.own_kind);
        let Ticket { position, reader, pieces } = self.wait_for_copy(&waiting)?;
        server.replication.counts.full.fetch_add(1, Ordering::Relaxed);
        if request.position.is_some() {
            server.replication.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        let peer = self.replica.client.stream.peer();
        notice(&format!("Full resynchronization of {peer} from offset {}", position.offset));
        self.replica.note_sent(position.offset);
        self.send(Follower::full_sync_line(request, position).as_bytes(), Some(&reader))?;
        match recipe.diskless {
            true => self.send_pieces(&pieces, &reader)?,
            false => self.send_file(&pieces, &reader)?,
        }
        notice(&format!("Synchronization with replica {peer} succeeded"));
        drop(waiting);
        if follower.snapshot_only {
            return Err(End::Done);
        }
        if recipe.diskless && !request.old {
            self.wait_until_loaded(&reader)?;
        }
        Ok(reader)
    }

    /// Waits until a copy begins, alone or with others.
    fn wait_for_copy(&mut self, waiting: &Waiting<'_>) -> Result<Ticket, End> {
        let mut told = Instant::now();
        loop {
            sharing::begin_due(self.server);
            match waiting.tickets.recv_timeout(LOOK) {
                Ok(ticket) => return Ok(ticket),
                Err(RecvTimeoutError::Timeout) => self.judge(None)?,
                Err(RecvTimeoutError::Disconnected) => return Err(End::OutOfReach),
            }
            if told.elapsed() > SIGN_OF_LIFE {
                told = Instant::now();
                // A server that hangs must not seem alive.
                if !self.server.exclusively(|_| may_follow(self.server)) {
                    return Err(End::NoPrimary);
                }
                self.send(b"\n", None)?;
            }
        }
    }

    /// The copy as it is written.
    fn send_pieces(&mut self, pieces: &Receiver<Piece>, reader: &Reader) -> Result<(), End> {
        let mark = mark();
        self.send(&[b"$EOF:", &mark[..], b"\r\n"].concat(), Some(reader))?;
        loop {
            match self.next_piece(pieces, reader)? {
                Some(Piece::Bytes(bytes)) => self.send(&bytes, Some(reader))?,
                Some(Piece::End) => {
                    // Until then it is at the pace of the copy that it waits.
                    self.replica.follower.lock().stage = Stage::Sending;
                    return self.send(&mark, Some(reader));
                }
                Some(Piece::Failed(reason)) => return Err(End::Snapshot(reason)),
                Some(Piece::File(_)) | None => {}
            }
        }
    }

    /// For those who must know the length before: through a file.
    fn send_file(&mut self, pieces: &Receiver<Piece>, reader: &Reader) -> Result<(), End> {
        let mut told = Instant::now();
        let path = loop {
            match self.next_piece(pieces, reader)? {
                Some(Piece::File(path)) => break path,
                Some(Piece::Failed(reason)) => return Err(End::Snapshot(reason)),
                Some(Piece::Bytes(_) | Piece::End) | None => {}
            }
            if told.elapsed() > SIGN_OF_LIFE {
                told = Instant::now();
                self.send(b"\n", Some(reader))?;
            }
        };
        self.replica.follower.lock().stage = Stage::Sending;
        let io_failed = |error: io::Error| End::Snapshot(error.to_string());
        let mut file = File::open(&path.0).map_err(io_failed)?;
        let length = file.metadata().map_err(io_failed)?.len();
        self.send(format!("${length}\r\n").as_bytes(), Some(reader))?;
        let mut buffer = vec![0; 1 << 18];
        let mut left = length;
        while left > 0 {
            let count = file.read(&mut buffer).map_err(io_failed)?;
            if count == 0 {
                return Err(End::Snapshot("the file ended early".to_owned()));
            }
            self.send(buffer.get(..count).unwrap_or(&[]), Some(reader))?;
            left = left.saturating_sub(count as u64);
        }
        Ok(())
    }

    /// The next piece, if there is one soon.
    fn next_piece(
        &mut self,
        pieces: &Receiver<Piece>,
        reader: &Reader,
    ) -> Result<Option<Piece>, End> {
        match pieces.recv_timeout(LOOK) {
            Ok(piece) => Ok(Some(piece)),
            Err(RecvTimeoutError::Timeout) => {
                // It is not the replica that holds things up.
                self.moved = Instant::now();
                self.judge(Some(reader)).map(|()| None)
            }
            Err(RecvTimeoutError::Disconnected) => Err(End::Snapshot("it was given up".to_owned())),
        }
    }

    /// One that reads a snapshot of unknown length wants nothing behind it before it says that it has it.
    fn wait_until_loaded(&mut self, reader: &Reader) -> Result<(), End> {
        while !self.replica.acknowledged.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(2));
            // Its signs of life are all that moves.
            self.moved = Instant::now();
            self.judge(Some(reader))?;
        }
        Ok(())
    }

    /// The journal as it grows, for as long as the link lives.
    fn stream(&mut self, reader: &Reader) -> Result<std::convert::Infallible, End> {
        let journal = &self.server.journal;
        let mut looked = Instant::now();
        loop {
            let parts = reader.read(journal, PORTION)?;
            if parts.is_empty() {
                if self.server.replication.over.load(Ordering::Acquire)
                    && !self.replica.lags(journal.end())
                {
                    return Err(End::Stopping);
                }
                reader.wait(journal, LOOK);
                self.moved = Instant::now();
            }
            for part in &parts {
                self.send(part.bytes(), Some(reader))?;
                reader.advance(part.end());
                self.replica.note_sent(part.end());
            }
            let sent: usize = parts.iter().map(|part| part.bytes().len()).sum();
            // One that catches up is not held back.
            if (1..PORTION).contains(&sent) {
                reader.pause(journal, PAUSE);
            }
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                self.judge(Some(reader))?;
            }
        }
    }

    fn send(&mut self, bytes: &[u8], reader: Option<&Reader>) -> Result<(), End> {
        let stream = &self.replica.client.stream;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.replica.is_gone() {
                return Err(End::Gone);
            }
            match stream.write(rest) {
                WriteOutcome::Bytes(0) => {
                    stream.wait(Until::Writable, LOOK);
                    self.judge(reader)?;
                }
                WriteOutcome::Bytes(count) => {
                    rest = rest.get(count..).unwrap_or(&[]);
                    self.moved = Instant::now();
                    self.server.replication.counts.sent.fetch_add(count as u64, Ordering::Relaxed);
                }
                WriteOutcome::Failed(_) => return Err(End::Gone),
            }
        }
        Ok(())
    }

    /// Whether the link may go on.
    fn judge(&mut self, reader: Option<&Reader>) -> Result<(), End> {
        if self.replica.is_gone() {
            return Err(End::Gone);
        }
        let (config, moment) = (self.server.config(), now());
        if let Some(reader) = reader {
            let behind = self.server.journal.end().since(reader.position());
            if self.lag.is_too_long(&config, behind, moment) {
                return Err(End::Behind);
            }
        }
        let most = i64::from(config.repl_timeout) * 1000;
        let (stage, old) = {
            let follower = self.replica.follower.lock();
            (follower.stage, !follower.capabilities.psync2 && follower.acked == Offset(0))
        };
        let heard = self.replica.heard();
        let silent = stage == Stage::Online && !old && moment.since(heard) > most;
        let stuck = i64::try_from(self.moved.elapsed().as_millis()).unwrap_or(i64::MAX) > most;
        let lost = stage != Stage::Online && stuck && moment.since(heard) > most;
        if silent || lost {
            // Tools look for these words.
            let what = if silent { "streaming sync" } else { "full sync" };
            let peer = self.replica.client.stream.peer();
            warning(&format!("Disconnecting timedout replica ({what}): {peer}"));
            return Err(End::Silent);
        }
        Ok(())
    }
}

/// A snapshot on its way into the socket.
struct Wire<'f, 's> {
    feed: &'f mut Feed<'s>,
    reader: &'f Reader,
    end: Option<End>,
}

impl Write for Wire<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.feed.send(bytes, Some(self.reader)).map_err(|end| {
            self.end = Some(end);
            io::Error::other("the replica is gone")
        })?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(server: &Server, error: &SaveError) -> End {
    server.saves.note_failure(error);
    End::Snapshot(error.to_string())
}

/// The version that a replica can read.
fn version_for(server: &Server, follower: &Follower) -> Version {
    match follower.version {
        _ if follower.own_kind => Version::Redis(12),
        // A build of a branch, of whatever age: what every Valkey reads.
        0x00ff_ffff => Version::Redis(11),
        0x0009_0000.. => Version::Valkey(80),
        0x0008_0000.. => Version::Redis(11),
        // A Redis does not say which it is: what 7.0 reads, if that can hold the data.
        _ => server.saves.version(),
    }
}

/// What ends a snapshot of unknown length.
fn mark() -> [u8; 40] {
    let mut mark = [b'0'; 40];
    mark.copy_from_slice(
        super::fresh_id().as_str().as_bytes().first_chunk().unwrap_or(&[b'0'; 40]),
    );
    mark
}

/// The thread that hears: acknowledgements, and nothing else.
fn listen(server: &Server, replica: &Replica, input: Vec<u8>) {
    /// More than any acknowledgement.
    const INPUT_MAX: usize = 64 * 1024;
    let mut input = input;
    let mut parser = RequestParser::default();
    let mut buffer = vec![0; 16 * 1024];
    while !replica.is_gone() {
        if hear(server, replica, &mut parser, &mut input).is_err() || input.len() > INPUT_MAX {
            break;
        }
        match replica.client.stream.read(&mut buffer) {
            ReadOutcome::Bytes(count) => {
                replica.note_heard(now());
                input.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
            }
            ReadOutcome::WouldBlock => replica.client.stream.wait(Until::Readable, LOOK),
            ReadOutcome::Closed | ReadOutcome::Failed(_) => break,
        }
    }
    replica.close();
    server.journal.ring();
}

/// It says what none has to say.
struct Disobeys;

fn hear(
    server: &Server,
    replica: &Replica,
    parser: &mut RequestParser,
    input: &mut Vec<u8>,
) -> Result<(), Disobeys> {
    let limits = RequestLimits::default();
    let (mut ranges, mut used, mut news) = (Vec::new(), 0, false);
    loop {
        let text = input.get(used..).unwrap_or(&[]);
        let consumed = match parser.next(text, &limits, &mut ranges).map_err(|_| Disobeys)? {
            Step::Request { consumed } => {
                let words: Vec<&[u8]> = ranges.iter().map(|range| range.of(text)).collect();
                if asks(server, replica, Args::new(&words)) {
                    return Err(Disobeys);
                }
                news |= take(server, replica, &words, now());
                consumed
            }
            // An empty line is a sign of life.
            Step::Inline { consumed } => consumed,
            Step::Incomplete { .. } => break,
        };
        used += consumed;
    }
    input.drain(..used);
    if news {
        server.replication.waits.check(server);
    }
    Ok(())
}

/// Whether it sends a command that would be answered: it has nothing to ask, and where the answer would be, it reads the
/// stream.
fn asks(server: &Server, replica: &Replica, args: Args<'_>) -> bool {
    let peer = replica.client.stream.peer();
    // An unknown command would be answered, too: with an error.
    let command = server.registry.find(args.at(0)).map(|entry| entry.command);
    let name = command.map_or("<unset>", |command| command.name);
    if args.len() == 0 || name == "replconf" {
        return false;
    }
    let sub = command.and_then(|command| command.subcommand(args));
    let sub = sub.map_or(String::new(), |(_, sub)| format!("|{}", sub.name));
    if command.is_some_and(|command| matches!(command.run, Run::Data(_))) {
        warning(&format!(
            "== CRITICAL == This primary is sending an error to its replica: 'Replica can't interact with the \
             keyspace' after processing the command '{name}'"
        ));
    }
    // Tools look for these words.
    warning(&format!(
        "Replica generated a reply to command '{name}{sub}', disconnecting it: {peer}"
    ));
    true
}

/// Takes what a replica tells; true if it is an acknowledgement.
fn take(server: &Server, replica: &Replica, words: &[&[u8]], now: Millis) -> bool {
    let Some((name, rest)) = words.split_first() else { return false };
    if !name.eq_ignore_ascii_case(b"REPLCONF") {
        return false;
    }
    let mut follower = replica.follower.lock();
    if follower.replconf(now, rest).is_err() {
        return false;
    }
    // Nobody has what there is not yet.
    let end = server.journal.end();
    follower.acked = follower.acked.min(end);
    follower.durable = follower.durable.map(|durable| durable.min(end));
    let acknowledges = rest.first().is_some_and(|word| word.eq_ignore_ascii_case(b"ACK"));
    drop(follower);
    if acknowledges {
        replica.acknowledged.store(true, Ordering::Release);
    }
    acknowledges
}
