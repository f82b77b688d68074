//! One loop turn's requests: what every ready connection has sent, parsed before any of it runs, and the
//! memory fetched ahead of the commands that touch it. It knows no command by name.
//!
//! Bytes lie in the arena that the system wrote them into, one connection's behind another's. What is
//! not a whole request moves to its connection when the turn is over, and next time the new bytes are
//! put behind it there.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use larder_commands::Args;
use larder_net::ReadOutcome;
use larder_protocol::request::{ArgRange, ProtocolError, RequestLimits, RequestParser, Step};
use larder_store::DbIndex;
use larder_store::keyspace::Located;
use smallvec::SmallVec;

use crate::client::{Aside, Client};
use crate::registry::Entry;
use crate::shared::Server;

/// Requests taken from one connection in one turn: the others wait no longer than these take.
pub const REQUESTS_MAX: usize = 256;
/// Requests of all connections that are parsed before they run.
const TURN_MAX: usize = 4096;
/// Bytes read from a connection at once.
const READ_MAX: usize = 64 * 1024;
/// Bytes read in one turn.
const ARENA: usize = 16 * READ_MAX;
/// A read is not worth its system call with less room than this.
const ROOM_MIN: usize = 16 * 1024;
/// How many commands ahead of its own turn a command's slot, bucket and record are fetched: each step
/// needs what the one before fetched.
const SLOT_AHEAD: usize = 9;
const BUCKET_AHEAD: usize = 6;
const RECORD_AHEAD: usize = 4;
/// And the contents of collections, which lie apart from their records.
const VALUE_AHEAD: usize = 2;

/// An argument of which so much is still to come gets a buffer to itself, and is not copied to become a value.
const LONG_MIN: usize = 1 << 20;
/// Unless so much follows it that moving that would cost more.
const REST_MAX: usize = 16 * READ_MAX;

/// A parsed request.
pub struct Parsed {
    /// The command, if there is one of this name.
    pub entry: Option<Entry>,
    /// Where its key is, if it has exactly one.
    pub at: Option<Located>,
    db: DbIndex,
    first: usize,
    count: usize,
    /// Where it ends in its connection's bytes.
    pub end: usize,
}

/// Where the bytes of a piece are.
enum Source {
    Arena(Range<usize>),
    /// In `Piece::own`: the connection's own buffer.
    Own,
}

impl Source {
    #[inline]
    fn bytes<'b>(&self, own: &'b [u8], arena: &'b [u8]) -> &'b [u8] {
        match self {
            Source::Arena(range) => arena.get(range.clone()).unwrap_or(&[]),
            Source::Own => own,
        }
    }
}

/// What one connection has sent in this turn.
pub struct Piece {
    /// Whose it is.
    pub token: u64,
    /// Its requests.
    pub requests: Range<usize>,
    /// Bytes of input that `requests` take.
    pub used: usize,
    /// What is wrong with the bytes behind them.
    pub failure: Option<ProtocolError>,
    /// There may be more whole requests behind them.
    pub more: bool,
    /// Bytes that are missing at least.
    wanted: usize,
    source: Source,
    own: Vec<u8>,
    /// What stands before those bytes, which begin with a long argument then.
    aside: Option<Box<Aside>>,
    /// That argument, once its request is whole: `own` holds what follows it.
    long: Option<Arc<Vec<u8>>>,
    /// The words of inline requests, which the arguments are places in.
    inline: Option<Vec<u8>>,
}

impl Piece {
    /// Whether a request is of another kind, inline or not, than those before; `begun`: there are some.
    fn differs(&self, step: &Result<Step, ProtocolError>, begun: bool) -> bool {
        match step {
            Ok(Step::Request { .. }) => self.inline.is_some(),
            Ok(Step::Inline { .. }) => self.inline.is_none() && begun,
            Ok(Step::Incomplete { .. }) | Err(_) => false,
        }
    }

    /// The bytes that arguments are places in.
    fn text<'b>(&'b self, arena: &'b [u8]) -> &'b [u8] {
        self.inline.as_deref().unwrap_or_else(|| self.source.bytes(&self.own, arena))
    }

    /// The arguments of its only request, some of which were put aside.
    fn put_together<'b>(
        &'b self,
        aside: &'b Aside,
        ranges: &[ArgRange],
    ) -> SmallVec<[&'b [u8]; 16]> {
        let long = self.long.as_ref().map_or(&[][..], |long| long);
        let places = ranges.iter().enumerate().map(|(at, range)| {
            let (start, end) = (range.start, range.end);
            match at.cmp(&aside.args) {
                Ordering::Less => range.of(&aside.bytes),
                Ordering::Equal if !long.is_empty() => long,
                _ => self
                    .own
                    .get(start.saturating_sub(long.len())..end.saturating_sub(long.len()))
                    .unwrap_or(&[]),
            }
        });
        places.collect()
    }

    /// Makes the long argument, which `own` begins with, a value of its own.
    fn split_long(&mut self, len: usize) {
        if len == 0 || self.own.len() - len > REST_MAX {
            return;
        }
        let rest = self.own.split_off(len);
        let mut long = std::mem::replace(&mut self.own, rest);
        if long.capacity() - len > len / 16 {
            long.shrink_to_fit();
        }
        self.long = Some(Arc::new(long));
    }
}

/// See the head of this file.
pub struct Batch {
    arena: Vec<u8>,
    filled: usize,
    ranges: Vec<ArgRange>,
    /// All requests, in the order in which they run.
    pub requests: Vec<Parsed>,
    /// The connections, in the same order.
    pub pieces: Vec<Piece>,
    scratch: Vec<ArgRange>,
    spare: Vec<Vec<u8>>,
    ahead: Ahead,
}

/// How far memory was fetched.
#[derive(Default)]
struct Ahead {
    slots: usize,
    buckets: usize,
    records: usize,
    values: usize,
}

/// Places of arguments for which room is kept: those of a full turn of requests with eight each.
const RANGES_KEPT_MAX: usize = 8 * TURN_MAX;
/// Own buffers kept for reuse, and the largest of them.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;

impl Batch {
    /// A batch with room to read.
    pub fn new() -> Batch {
        Batch { arena: vec![0; ARENA], ..Batch::empty() }
    }

    /// A batch without room, to stand in its place while it runs.
    pub fn empty() -> Batch {
        Batch {
            arena: Vec::new(),
            filled: 0,
            ranges: Vec::new(),
            requests: Vec::new(),
            pieces: Vec::new(),
            scratch: Vec::new(),
            spare: Vec::new(),
            ahead: Ahead { slots: 0, buckets: 0, records: 0, values: 0 },
        }
    }

    /// Whether it should run before more is read.
    pub fn is_full(&self) -> bool {
        self.requests.len() >= TURN_MAX || self.arena.len() - self.filled < ROOM_MIN
    }

    /// Reads from a connection and parses what came. The caller has seen that it is not full.
    pub fn read(&mut self, server: &Server, client: &mut Client, token: u64) -> ReadOutcome {
        let from = self.filled;
        let until = self.arena.len().min(from + READ_MAX);
        let Some(room) = self.arena.get_mut(from..until) else { return ReadOutcome::WouldBlock };
        let outcome = client.stream.read(room);
        if let ReadOutcome::Bytes(count) = outcome {
            let [received, _, commands] = &mut client.totals;
            *received += count as u64;
            // A TLS greeting on a plain port gets no answer that could be mistaken for one.
            if *commands == 0 && self.arena.get(from..from + count).is_some_and(is_tls) {
                return ReadOutcome::Closed;
            }
            let bytes = from..from + count;
            if client.input.is_empty() && !client.batched {
                self.filled += count;
                self.parse(server, client, token, Source::Arena(bytes));
            } else {
                // Room for a long argument is made as its bytes arrive, eight times as much at a time and never
                // more than is still to come: it is seldom moved, and untouched pages cost nothing.
                if client.input.capacity() - client.input.len() < count {
                    let ahead = client.wanted.min(client.input.len() * 7);
                    client.input.reserve_exact(ahead.max(count));
                }
                client.input.extend_from_slice(self.arena.get(bytes).unwrap_or(&[]));
                self.resume(server, client, token);
            }
        }
        outcome
    }

    /// Parses what a connection has left.
    pub fn resume(&mut self, server: &Server, client: &mut Client, token: u64) {
        if !client.batched && !client.input.is_empty() {
            self.parse(server, client, token, Source::Own);
        }
    }

    fn parse(&mut self, server: &Server, client: &mut Client, token: u64, source: Source) {
        if client.closing || client.waiting.is_some() || !client.takes_replies(&server.unread) {
            client.behind |= client.waiting.is_none();
            if let Source::Arena(range) = source {
                client.input.extend_from_slice(self.arena.get(range).unwrap_or(&[]));
            }
            return;
        }
        client.batched = true;
        let own = match &source {
            Source::Own => std::mem::take(&mut client.input),
            Source::Arena(_) => Vec::new(),
        };
        let from = self.requests.len();
        let mut piece = Piece {
            token,
            requests: from..from,
            used: 0,
            failure: None,
            more: false,
            wanted: 0,
            source,
            own,
            aside: client.aside.take(),
            long: None,
            inline: None,
        };
        let mut parser = std::mem::take(&mut client.parser);
        self.parse_piece(server, client, &mut parser, &mut piece);
        piece.requests.end = self.requests.len();
        client.parser = parser;
        self.pieces.push(piece);
    }

    fn parse_piece(
        &mut self,
        server: &Server,
        client: &Client,
        parser: &mut RequestParser,
        piece: &mut Piece,
    ) {
        let limits = RequestLimits {
            max_bulk: server.settings.text_max,
            auth_required: !client.authenticated,
            ..RequestLimits::default()
        };
        // The next request of a stranger is judged by what this one makes of him.
        let limit = if client.authenticated { REQUESTS_MAX } else { 1 };
        let from = self.requests.len();
        while self.requests.len() - from < limit {
            let input = piece.source.bytes(&piece.own, &self.arena);
            let Some(rest) = input.get(piece.used..).filter(|rest| !rest.is_empty()) else {
                return;
            };
            let step = parser.next(rest, &limits, &mut self.scratch);
            if piece.differs(&step, self.requests.len() > from) {
                // Inline requests are places in other bytes than the others: it runs next time.
                *parser = RequestParser::default();
                break;
            }
            match step {
                Ok(Step::Request { consumed }) => {
                    self.push_request(server, client, consumed, piece);
                    if piece.aside.is_some() {
                        // It runs alone: what follows is in another place by then.
                        piece.more = true;
                        return;
                    }
                }
                Ok(Step::Inline { consumed }) => {
                    piece.used += consumed;
                    if !self.scratch.is_empty() {
                        self.push_inline(server, client, parser.inline_text(), piece);
                    }
                }
                Ok(Step::Incomplete { wanted }) => {
                    piece.wanted = wanted;
                    return;
                }
                Err(error) => {
                    piece.failure = Some(error);
                    return;
                }
            }
        }
        piece.more = true;
    }

    /// Takes the request that the parser found.
    #[inline]
    fn push_request(
        &mut self,
        server: &Server,
        client: &Client,
        consumed: usize,
        piece: &mut Piece,
    ) {
        let input = piece.source.bytes(&piece.own, &self.arena);
        let (first, base) = (self.ranges.len(), piece.used);
        let moved =
            |range: &ArgRange| ArgRange { start: range.start + base, end: range.end + base };
        self.ranges.extend(self.scratch.iter().map(moved));
        piece.used += consumed;
        let args = self.ranges.get(first..).unwrap_or(&[]);
        let place = (first, args.len(), piece.used);
        if let Some(aside) = &piece.aside {
            let (words, long) = first_words(aside, args, input);
            self.requests.push(recognise(server, client.db, words, place));
            piece.split_long(long);
        } else if !args.is_empty() {
            let words = [0, 1].map(|at| args.get(at).map(|arg| arg.of(input)));
            self.requests.push(recognise(server, client.db, words, place));
        }
    }

    /// Takes an inline request, whose words are in `text`.
    fn push_inline(&mut self, server: &Server, client: &Client, text: &[u8], piece: &mut Piece) {
        let words = [0, 1].map(|at| self.scratch.get(at).map(|arg| arg.of(text)));
        let place = (self.ranges.len(), self.scratch.len(), piece.used);
        self.requests.push(recognise(server, client.db, words, place));
        let inline = piece.inline.get_or_insert_default();
        let base = inline.len();
        inline.extend_from_slice(text);
        let moved =
            |range: &ArgRange| ArgRange { start: range.start + base, end: range.end + base };
        self.ranges.extend(self.scratch.iter().map(moved));
    }

    /// Bytes that running a request of this piece moved, if they are many.
    #[inline]
    pub fn weight(&self, piece: usize) -> usize {
        let Some(piece) = self.pieces.get(piece) else { return 0 };
        if let Some(long) = &piece.long {
            // Somebody else has it now: it became a value where it lies.
            return if Arc::strong_count(long) > 1 { 0 } else { long.len() };
        }
        if piece.own.len() > READ_MAX { piece.own.len() } else { 0 }
    }

    /// Where these requests end in their connection's bytes.
    pub fn end_of(&self, requests: Range<usize>) -> usize {
        self.requests.get(requests).and_then(<[Parsed]>::last).map_or(0, |last| last.end)
    }

    /// The long argument of a piece's request.
    #[inline]
    pub fn long(&self, piece: usize) -> Option<&Arc<Vec<u8>>> {
        self.pieces.get(piece)?.long.as_ref()
    }

    /// Fetches memory for the commands that run after the one with this number.
    #[inline]
    pub fn look_ahead(&mut self, server: &Server, running: usize) {
        let keyspace = &server.keyspace;
        let Batch { requests, ahead, .. } = self;
        if requests.len() < 2 {
            return;
        }
        let until = |distance: usize| (running + distance).min(requests.len());
        while ahead.slots < until(SLOT_AHEAD) {
            if let Some(Parsed { at: Some(at), db, .. }) = requests.get(ahead.slots) {
                keyspace.prefetch_slot(*db, *at);
            }
            ahead.slots += 1;
        }
        while ahead.buckets < until(BUCKET_AHEAD) {
            if let Some(Parsed { at: Some(at), db, entry: Some(entry), count, .. }) =
                requests.get(ahead.buckets)
            {
                keyspace.prefetch_bucket(*db, *at);
                // It may bring a deadline: SET key value EX seconds, SETEX.
                if *count >= 4 && !entry.collection {
                    keyspace.prefetch_calendar(*db, *at);
                }
            }
            ahead.buckets += 1;
        }
        while ahead.records < until(RECORD_AHEAD) {
            if let Some(Parsed { at: Some(at), db, .. }) = requests.get(ahead.records) {
                keyspace.prefetch_record(*db, *at);
            }
            ahead.records += 1;
        }
        while ahead.values < until(VALUE_AHEAD) {
            if let Some(Parsed { at: Some(at), db, entry: Some(entry), .. }) =
                requests.get(ahead.values)
                && entry.collection
            {
                keyspace.prefetch_value(*db, *at);
            }
            ahead.values += 1;
        }
    }

    /// Gives `run` the arguments of a request.
    #[inline]
    pub fn with_args<R>(
        &self,
        piece: usize,
        request: usize,
        run: impl FnOnce(&Parsed, Args<'_>) -> R,
    ) -> Option<R> {
        const FEW: usize = 6;
        let piece = self.pieces.get(piece)?;
        let text = piece.text(&self.arena);
        let parsed = self.requests.get(request)?;
        let ranges = self.ranges.get(parsed.first..parsed.first + parsed.count)?;
        if let Some(aside) = &piece.aside {
            return Some(run(parsed, Args::new(&piece.put_together(aside, ranges))));
        }
        if ranges.len() > FEW {
            let args: SmallVec<[&[u8]; 16]> = ranges.iter().map(|range| range.of(text)).collect();
            return Some(run(parsed, Args::new(&args)));
        }
        let mut args: [&[u8]; FEW] = [&[]; FEW];
        for (arg, range) in args.iter_mut().zip(ranges) {
            *arg = range.of(text);
        }
        Some(run(parsed, Args::new(args.get(..ranges.len())?)))
    }

    /// Gives a connection back what was not used of its input, of which the first `used` bytes ran.
    pub fn give_back(&mut self, piece: usize, client: &mut Client, used: usize) {
        client.batched = false;
        let Some(piece) = self.pieces.get_mut(piece) else { return };
        client.wanted = piece.wanted;
        if piece.aside.is_some() && !piece.requests.is_empty() {
            return Self::give_long_back(piece, &self.requests, &self.ranges, client, used);
        }
        client.aside = piece.aside.take();
        let mut own = std::mem::take(&mut piece.own);
        match &piece.source {
            Source::Own if used < own.len() => {
                own.drain(..used);
                client.input = own;
            }
            // An idle connection holds no buffer.
            Source::Own => {
                own.clear();
                if own.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_MAX {
                    self.spare.push(own);
                }
            }
            Source::Arena(range) => {
                let rest = self.arena.get(range.start + used..range.end).unwrap_or(&[]);
                if !rest.is_empty() {
                    client.input = self.spare.pop().unwrap_or_default();
                    client.input.extend_from_slice(rest);
                }
            }
        }
        if client.wanted >= LONG_MIN
            && client.aside.is_none()
            && let Some((len, args)) = client.parser.detach()
        {
            let rest = client.input.split_off(len);
            let bytes = std::mem::replace(&mut client.input, rest);
            client.aside = Some(Box::new(Aside { bytes, args }));
        }
    }

    /// The same after a request with a long argument: what follows it, or all if it did not run.
    fn give_long_back(
        piece: &mut Piece,
        requests: &[Parsed],
        ranges: &[ArgRange],
        client: &mut Client,
        used: usize,
    ) {
        let (long, mut own) = (piece.long.take(), std::mem::take(&mut piece.own));
        if used > 0 {
            own.drain(..used - long.map_or(0, |long| long.len()));
            client.input = own;
            return;
        }
        client.input = match long {
            Some(long) => {
                let mut whole = Arc::unwrap_or_clone(long);
                whole.extend_from_slice(&own);
                whole
            }
            None => own,
        };
        let parsed = requests.get(piece.requests.start);
        let args = parsed.and_then(|parsed| ranges.get(parsed.first..parsed.first + parsed.count));
        let at = piece.aside.as_ref().map_or(0, |aside| aside.args);
        client.parser.reattach(args.unwrap_or(&[]), at);
        client.aside = piece.aside.take();
    }

    /// Forgets everything: it has run.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.ranges.clear();
        self.requests.clear();
        self.pieces.clear();
        self.ahead = Ahead::default();
        // A request of very many arguments must not hold memory for ever.
        for ranges in [&mut self.ranges, &mut self.scratch] {
            if ranges.capacity() > RANGES_KEPT_MAX {
                *ranges = Vec::new();
            }
        }
    }
}

/// Whether bytes begin a TLS handshake.
fn is_tls(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x16, 0x03])
}

/// The first two words of a request with a long argument, and the length of that.
fn first_words<'b>(
    aside: &'b Aside,
    args: &[ArgRange],
    input: &'b [u8],
) -> ([Option<&'b [u8]>; 2], usize) {
    let long = args.get(aside.args).map_or(0, ArgRange::len);
    let text = |at| if at < aside.args { &aside.bytes } else { input };
    ([0, 1].map(|at| args.get(at).map(|arg| arg.of(text(at)))), long)
}

/// Finds the command of a request by its first two words, and where its key is. `place`: its first argument and
/// how many there are, and where it ends.
#[inline]
fn recognise(
    server: &Server,
    db: DbIndex,
    words: [Option<&[u8]>; 2],
    place: (usize, usize, usize),
) -> Parsed {
    let ([name, key], (first, count, end)) = (words, place);
    let entry = server.registry.find(name.unwrap_or(&[]));
    let at = match (&entry, key) {
        (Some(entry), Some(key)) if entry.one_key => Some(server.keyspace.locate(key)),
        _ => None,
    };
    Parsed { entry, at, db, first, count, end }
}
