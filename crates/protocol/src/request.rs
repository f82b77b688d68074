//! Bytes to requests: a parser that takes its input in any pieces, never twice, and within bounds.
//!
//! Knows the shape of requests only, not which commands exist, and keeps no input: it gives out
//! places in the caller's buffer. Where Redis is lenient (the two bytes behind a length or an
//! argument are skipped unread, a NUL hides the rest of a line) so is this parser, since both must
//! find the same requests in the same bytes.

use larder_base::limits;
use larder_base::number::parse_i64;

use crate::inline;

/// Where an argument stands: `start..end` in the buffer that the [`Step`] names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArgRange {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl ArgRange {
    /// The argument's bytes in `buf`; empty if `buf` is not the buffer that the range is of.
    #[inline]
    #[must_use]
    pub fn of<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        buf.get(self.start..self.end).unwrap_or_default()
    }

    /// The argument's length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether the argument is the empty string.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The bounds that requests of one connection keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Longest argument, in bytes.
    pub max_bulk: usize,
    /// Most arguments of a request.
    pub max_args: usize,
    /// Longest inline request and longest header line, in bytes.
    pub max_inline: usize,
    /// Whether the connection has yet to authenticate: then the far lower
    /// [`limits::UNAUTHENTICATED_ARGS_MAX`] and [`limits::UNAUTHENTICATED_BULK_BYTES_MAX`] hold too,
    /// with errors of their own.
    pub auth_required: bool,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            max_bulk: limits::BULK_BYTES_MAX_DEFAULT,
            max_args: limits::REQUEST_ARGS_MAX,
            max_inline: limits::INLINE_BYTES_MAX,
            auth_required: false,
        }
    }
}

/// What [`RequestParser::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// A whole request in the first `consumed` bytes; its arguments are places in the buffer given.
    /// There may be none (an empty line, `*0`, `*-1`): such a request is skipped without a reply.
    Request {
        /// Bytes that belong to the request, to be dropped before the next call.
        consumed: usize,
    },
    /// A whole inline request; its arguments are places in [`RequestParser::inline_text`].
    Inline {
        /// Bytes that belong to the request, to be dropped before the next call.
        consumed: usize,
    },
    /// The buffer ends within a request. The next call must get the same bytes and more.
    Incomplete {
        /// Bytes that are missing for certain, at least 1 and never more than the limits allow an
        /// argument: what the next read may make room for. A client can declare much and send
        /// little, so room is better made as bytes arrive.
        wanted: usize,
    },
}

/// A breach of the protocol: the connection gets this as its last reply and is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A line without end where an inline request was to be.
    TooBigInline,
    /// A line without end where a number of arguments was to be.
    TooBigMultibulkCount,
    /// A line without end where an argument's length was to be.
    TooBigBulkCount,
    /// No number of arguments, or more than allowed.
    InvalidMultibulkLength,
    /// No length of an argument, or more than allowed.
    InvalidBulkLength,
    /// More arguments than are allowed before authentication.
    UnauthenticatedMultibulkLength,
    /// A longer argument than is allowed before authentication.
    UnauthenticatedBulkLength,
    /// This byte stood where an argument's `$` was to be.
    ExpectedDollar(u8),
    /// An inline request with a quote left open.
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The reply in Redis's words, code word included. Not always UTF-8: one error quotes a byte of
    /// the client, which may be a line end.
    #[must_use]
    pub fn reply_text(self) -> Vec<u8> {
        let mut text = b"ERR Protocol error: ".to_vec();
        text.extend_from_slice(match self {
            Self::TooBigInline => b"too big inline request",
            Self::TooBigMultibulkCount => b"too big mbulk count string",
            Self::TooBigBulkCount => b"too big bulk count string",
            Self::InvalidMultibulkLength => b"invalid multibulk length",
            Self::InvalidBulkLength => b"invalid bulk length",
            Self::UnauthenticatedMultibulkLength => b"unauthenticated multibulk length",
            Self::UnauthenticatedBulkLength => b"unauthenticated bulk length",
            Self::ExpectedDollar(_) => b"expected '$', got '",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
        });
        if let Self::ExpectedDollar(byte) = self {
            text.extend_from_slice(&[byte, b'\'']);
        }
        text
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.reply_text()))
    }
}

impl std::error::Error for ProtocolError {}

/// The state of one connection between two pieces of input.
///
/// Small and without allocation as long as requests arrive whole and are not inline.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Arguments of the request under way that are still to be found; 0 between requests.
    remaining: usize,
    /// Offset, from the request's beginning, of the first byte not yet understood.
    cursor: usize,
    /// Length of the argument at the cursor, once its header has been read.
    bulk_len: Option<usize>,
    /// Bytes from the cursor on that are known to hold no end of a line.
    searched: usize,
    /// Arguments found so far, kept here only while the request is incomplete.
    found: Vec<ArgRange>,
    /// The words of the last inline request.
    inline_text: Vec<u8>,
}

impl RequestParser {
    /// Looks for the request that begins at the first byte of `buf`, and fills `args` with its
    /// arguments.
    ///
    /// # Errors
    /// Any error is final: the stream has no point at which reading could start again.
    #[inline]
    pub fn next(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
        args: &mut Vec<ArgRange>,
    ) -> Result<Step, ProtocolError> {
        args.clear();
        if self.remaining == 0 {
            // The whole of a small request in one go is nearly every call.
            match buf {
                [] => return Ok(Step::Incomplete { wanted: 1 }),
                [b'*', ..] => match self.begin_multibulk(buf, limits)? {
                    Begin::Arguments => {}
                    Begin::Done(step) => return Ok(step),
                },
                _ => return self.inline(buf, limits, args),
            }
        } else {
            std::mem::swap(args, &mut self.found);
        }
        self.arguments(buf, limits, args)
    }

    /// The bytes that the arguments of a [`Step::Inline`] are places in.
    #[inline]
    #[must_use]
    pub fn inline_text(&self) -> &[u8] {
        &self.inline_text
    }

    /// If the input ended within an argument: how many bytes stood before it, with how many arguments, since the
    /// request's beginning. From now on that argument is what buffers begin with, and places of arguments before
    /// it are places in the bytes before. So a long argument gets a buffer to itself.
    pub fn detach(&mut self) -> Option<(usize, usize)> {
        if self.remaining == 0 || self.bulk_len.is_none() || self.cursor == 0 {
            return None;
        }
        Some((std::mem::take(&mut self.cursor), self.found.len()))
    }

    /// Goes back to before the long argument of a request that was found whole, but did not run: `args` are its
    /// arguments, the long one at `at`.
    pub fn reattach(&mut self, args: &[ArgRange], at: usize) {
        let (before, from) = args.split_at_checked(at).unwrap_or((args, &[]));
        *self = Self {
            remaining: from.len(),
            bulk_len: from.first().map(ArgRange::len),
            found: before.to_vec(),
            ..Self::default()
        };
    }

    /// Whether part of a request has been seen: an end of input now would cut it off.
    #[inline]
    #[must_use]
    pub fn is_mid_request(&self) -> bool {
        self.remaining != 0 || self.searched != 0
    }

    /// Bytes of memory that the parser holds besides itself.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.found.capacity() * size_of::<ArgRange>() + self.inline_text.capacity()
    }

    /// Reads the number of arguments at the beginning of `buf`.
    #[inline(always)]
    fn begin_multibulk(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
    ) -> Result<Begin, ProtocolError> {
        let (count, end) = match short_length(buf) {
            Some(found) => found,
            None => match self.long_line(buf, 0, limits.max_inline) {
                Line::Partial => return Ok(Begin::Done(Step::Incomplete { wanted: 1 })),
                Line::TooLong => return Err(ProtocolError::TooBigMultibulkCount),
                Line::Whole(line) => {
                    let count = line.get(1..).and_then(parse_i64);
                    let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
                    // Below zero is as good as zero: a request without arguments.
                    (u64::try_from(count).unwrap_or(0), line.len() + 2)
                }
            },
        };
        if count == 0 {
            self.searched = 0;
            return Ok(Begin::Done(Step::Request { consumed: end }));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > limits.max_args {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if limits.auth_required && count > limits::UNAUTHENTICATED_ARGS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.remaining = count;
        self.cursor = end;
        self.searched = 0;
        Ok(Begin::Arguments)
    }

    /// Reads the arguments from the cursor on, until all are there or the buffer ends.
    #[inline(always)]
    fn arguments(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
        args: &mut Vec<ArgRange>,
    ) -> Result<Step, ProtocolError> {
        let mut cursor = self.cursor;
        let mut remaining = self.remaining;
        let mut known_len = self.bulk_len.take();
        while remaining > 0 {
            let len = match known_len.take() {
                Some(len) => len,
                None => match bulk_header(buf, cursor, limits) {
                    Some((len, end)) => {
                        // A former call may have searched this line while it was cut off.
                        self.searched = 0;
                        cursor = end;
                        len
                    }
                    None => match self.slow_bulk_header(buf, cursor, limits)? {
                        Some((len, end)) => {
                            cursor = end;
                            len
                        }
                        None => {
                            self.suspend(cursor, remaining, None, args);
                            return Ok(Step::Incomplete { wanted: 1 });
                        }
                    },
                },
            };
            // Lengths are bounded by `max_bulk`, so the sum is far from overflow.
            let end = cursor.saturating_add(len);
            let behind = end.saturating_add(2);
            if behind > buf.len() {
                self.suspend(cursor, remaining, Some(len), args);
                return Ok(Step::Incomplete { wanted: behind - buf.len() });
            }
            args.push(ArgRange { start: cursor, end });
            cursor = behind;
            remaining -= 1;
        }
        self.remaining = 0;
        Ok(Step::Request { consumed: cursor })
    }

    /// Keeps what has been found until more bytes come.
    #[cold]
    fn suspend(
        &mut self,
        cursor: usize,
        remaining: usize,
        bulk_len: Option<usize>,
        args: &mut Vec<ArgRange>,
    ) {
        self.cursor = cursor;
        self.remaining = remaining;
        self.bulk_len = bulk_len;
        std::mem::swap(args, &mut self.found);
        args.clear();
    }

    /// The length of the argument at `at` and where its bytes begin, or `None` if the line is not
    /// whole yet: every case that [`bulk_header`] leaves, errors among them.
    #[cold]
    fn slow_bulk_header(
        &mut self,
        buf: &[u8],
        at: usize,
        limits: &RequestLimits,
    ) -> Result<Option<(usize, usize)>, ProtocolError> {
        let line = match self.long_line(buf, at, limits.max_inline) {
            Line::Partial => return Ok(None),
            Line::TooLong => return Err(ProtocolError::TooBigBulkCount),
            Line::Whole(line) => line,
        };
        let digits = match line {
            [b'$', digits @ ..] => digits,
            // An empty line: what stands there is the carriage return itself.
            _ => return Err(ProtocolError::ExpectedDollar(*line.first().unwrap_or(&b'\r'))),
        };
        let len = parse_i64(digits).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|&len| len <= limits.max_bulk);
        let len = len.ok_or(ProtocolError::InvalidBulkLength)?;
        if limits.auth_required && len > limits::UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        Ok(Some((len, at + line.len() + 2)))
    }

    /// The line that begins at `at`, up to its carriage return and if one more byte follows.
    #[cold]
    fn long_line<'b>(&mut self, buf: &'b [u8], at: usize, max: usize) -> Line<'b> {
        let rest = buf.get(at..).unwrap_or_default();
        match self.find_line_end(rest, b'\r', max) {
            Err(()) => Line::TooLong,
            Ok(Some(len)) if len + 2 <= rest.len() => {
                self.searched = 0;
                Line::Whole(rest.get(..len).unwrap_or_default())
            }
            Ok(_) => Line::Partial,
        }
    }

    /// Searches `rest` for `end`, going on where the last call for the same line stopped. A NUL
    /// before it hides it, and everything after it, for good: Redis reads lines as C strings. `Err`
    /// if no end can come within `max` bytes any more.
    fn find_line_end(&mut self, rest: &[u8], end: u8, max: usize) -> Result<Option<usize>, ()> {
        let window = rest.get(..rest.len().min(max.saturating_add(1))).unwrap_or_default();
        let fresh = window.get(self.searched..).unwrap_or_default();
        match memchr::memchr2(end, 0, fresh) {
            Some(at) if fresh.get(at) == Some(&end) => {
                // Found again by the next call if the byte after it is still to come.
                self.searched += at;
                return Ok(Some(self.searched));
            }
            // Stay before the NUL, so that every later call finds it again.
            Some(at) => self.searched += at,
            None => self.searched = window.len(),
        }
        if rest.len() > max { Err(()) } else { Ok(None) }
    }

    /// Reads a request of one line.
    #[cold]
    fn inline(
        &mut self,
        buf: &[u8],
        limits: &RequestLimits,
        args: &mut Vec<ArgRange>,
    ) -> Result<Step, ProtocolError> {
        let len = match self.find_line_end(buf, b'\n', limits.max_inline) {
            Err(()) => return Err(ProtocolError::TooBigInline),
            Ok(None) => return Ok(Step::Incomplete { wanted: 1 }),
            Ok(Some(len)) => len,
        };
        self.searched = 0;
        let line = buf.get(..len).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // A word never grows by its unescaping, so the line bounds what is held here.
        self.inline_text.clear();
        self.inline_text.shrink_to(INLINE_TEXT_KEPT_BYTES);
        inline::split(line, &mut self.inline_text, args)
            .map_err(|inline::Unbalanced| ProtocolError::UnbalancedQuotes)?;
        Ok(Step::Inline { consumed: len + 1 })
    }
}

/// What the first line of a multibulk request led to.
enum Begin {
    /// The parser's state now says how many arguments to read and from where.
    Arguments,
    /// There is nothing more to read in this call.
    Done(Step),
}

/// What [`RequestParser::long_line`] found.
enum Line<'b> {
    /// A line, without its end.
    Whole(&'b [u8]),
    /// The buffer ends before the line does.
    Partial,
    /// The line is longer than any can be.
    TooLong,
}

/// Room for inline words that a connection keeps between requests.
const INLINE_TEXT_KEPT_BYTES: usize = 1024;

/// A type byte, one to six digits without a leading zero, a carriage return and one more byte at the
/// beginning of `line`: the number and what these take. Whatever is longer, odd, wrong or cut off is
/// `None`, and left to the slow path.
#[inline(always)]
fn short_length(line: &[u8]) -> Option<(u64, usize)> {
    let digit = |b: u8| u64::from(b - b'0');
    match *line {
        [_, a @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a), 4)),
        [_, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a) * 10 + digit(b), 5)),
        [_, a @ b'1'..=b'9', ref rest @ ..] => {
            let mut value = digit(a);
            for (at, &byte) in rest.iter().take(6).enumerate() {
                match byte {
                    b'0'..=b'9' => value = value * 10 + digit(byte),
                    b'\r' if rest.len() > at + 1 => return Some((value, at + 4)),
                    _ => return None,
                }
            }
            None
        }
        _ => None,
    }
}

/// The length of the argument at `at` and where its bytes begin, for an ordinary header within the
/// tightest limits; all else is left to the slow path.
#[inline(always)]
fn bulk_header(buf: &[u8], at: usize, limits: &RequestLimits) -> Option<(usize, usize)> {
    let line = buf.get(at..)?;
    if line.first() != Some(&b'$') {
        return None;
    }
    let (len, header) = short_length(line)?;
    let len = usize::try_from(len).ok()?;
    let max = if limits.auth_required {
        limits.max_bulk.min(limits::UNAUTHENTICATED_BULK_BYTES_MAX)
    } else {
        limits.max_bulk
    };
    (len <= max).then_some((len, at + header))
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
