//! Replies to bytes, in RESP2 or RESP3.
//!
//! Writes straight into the connection's output buffer. Knows no command: the caller sees to it that
//! an aggregate gets as many elements as it announced.

use larder_base::number;

/// Which dialect a connection speaks, as it chose with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The dialect of old, and of every connection at first.
    #[default]
    Resp2,
    /// The dialect with maps, sets, doubles and pushes.
    Resp3,
}

/// A place in the output where an aggregate's header will stand, once its length is known.
///
/// Must come back to one of the `close_` methods of the reply that gave it, inner aggregates first.
#[derive(Debug)]
#[must_use = "an aggregate without its header breaks the stream"]
pub struct Mark(usize);

/// The writer of replies: an output buffer and a dialect.
#[derive(Debug)]
pub struct Reply<'o> {
    out: &'o mut Vec<u8>,
    resp3: bool,
}

/// An integer reply or a short length needs no formatting.
static SMALL_INTEGERS: [[u8; 4]; 10] = [
    *b":0\r\n", *b":1\r\n", *b":2\r\n", *b":3\r\n", *b":4\r\n", *b":5\r\n", *b":6\r\n", *b":7\r\n",
    *b":8\r\n", *b":9\r\n",
];

impl<'o> Reply<'o> {
    /// A writer that appends to `out` in the dialect `version`.
    #[inline]
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, version: Version) -> Self {
        Self { out, resp3: version == Version::Resp3 }
    }

    /// The dialect written.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        if self.resp3 { Version::Resp3 } else { Version::Resp2 }
    }

    /// Whether the dialect is RESP3.
    #[inline]
    #[must_use]
    pub fn is_resp3(&self) -> bool {
        self.resp3
    }

    /// Writes in another dialect from now on: the reply to `HELLO` is already in the new one.
    #[inline]
    pub fn set_version(&mut self, version: Version) {
        self.resp3 = version == Version::Resp3;
    }

    /// Bytes now in the output buffer, those of earlier replies included. Only differences and
    /// [`Reply::truncate`] give it a meaning.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a position, not a collection's length")]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes back everything written since [`Reply::len`] gave `len`.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// What has been written since [`Reply::len`] gave `len`.
    #[inline]
    #[must_use]
    pub fn written_since(&self, len: usize) -> &[u8] {
        self.out.get(len..).unwrap_or_default()
    }

    /// Makes room for `bytes` more, for callers that know how much is to come.
    #[inline]
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    // ---- Single values ---------------------------------------------------------------------------

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status line. Line ends within `text` become spaces.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error, its code word first: `"ERR syntax error"`. Line ends within `text` become spaces,
    /// so bytes quoted from a client can never pass for a reply of their own; those at its end go.
    #[inline]
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// As [`Reply::error`], for texts that quote bytes of any kind.
    #[inline]
    pub fn error_bytes(&mut self, text: &[u8]) {
        let ends = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let end = text.iter().rposition(|byte| !ends(byte)).map_or(0, |last| last + 1);
        self.line(b'-', text.get(..end).unwrap_or(text));
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        match usize::try_from(value).ok().and_then(|n| SMALL_INTEGERS.get(n)) {
            Some(small) => self.out.extend_from_slice(small),
            None => number::write_framed(self.out, b':', value, *b"\r\n"),
        }
    }

    /// A length or a count as an integer.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + HEADER_BYTES_MAX + 2);
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// The decimal text of `value` as a string.
    #[inline]
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(number::decimal_i64(value).as_bytes());
    }

    /// Nothing, where a value would stand: `$-1`, in RESP3 `_`.
    #[inline]
    pub fn null(&mut self) {
        let text: &[u8] = if self.resp3 { b"_\r\n" } else { b"$-1\r\n" };
        self.out.extend_from_slice(text);
    }

    /// Nothing, where an aggregate would stand: `*-1`, in RESP3 `_`.
    #[inline]
    pub fn null_array(&mut self) {
        let text: &[u8] = if self.resp3 { b"_\r\n" } else { b"*-1\r\n" };
        self.out.extend_from_slice(text);
    }

    /// A double; in RESP2 its text as a string.
    pub fn double(&mut self, value: f64) {
        let start = self.out.len();
        if self.resp3 {
            self.out.push(b',');
            number::write_f64(self.out, value);
        } else {
            number::write_f64(self.out, value);
            let len = self.out.len() - start;
            self.close(Mark(start), b'$', len);
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// A truth value; in RESP2 the integer 1 or 0.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        let text: &[u8] = match (self.resp3, value) {
            (true, true) => b"#t\r\n",
            (true, false) => b"#f\r\n",
            (false, true) => b":1\r\n",
            (false, false) => b":0\r\n",
        };
        self.out.extend_from_slice(text);
    }

    /// Plain text meant for human eyes (`INFO`, `CLIENT LIST`); in RESP2 a string.
    pub fn verbatim(&mut self, text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        self.header(b'=', text.len() + 4);
        self.out.extend_from_slice(b"txt:");
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer of any size, given by its digits; in RESP2 a string.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.resp3 { self.line(b'(', digits) } else { self.bulk(digits) }
    }

    /// Bytes that are already a whole reply, or whole elements of one, in the right dialect.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    // ---- Aggregates ------------------------------------------------------------------------------

    /// Begins an array: `n` values follow.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n);
    }

    /// Begins a map: `pairs` keys and values follow in turn. In RESP2 an array of twice as many.
    #[inline]
    pub fn map(&mut self, pairs: usize) {
        let (kind, n) = self.map_shape(pairs);
        self.header(kind, n);
    }

    /// Begins a set: `n` values follow. In RESP2 an array.
    #[inline]
    pub fn set(&mut self, n: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, n);
    }

    /// Begins a push, a message outside of the order of replies: `n` values follow. In RESP2 an
    /// array.
    #[inline]
    pub fn push(&mut self, n: usize) {
        self.header(if self.resp3 { b'>' } else { b'*' }, n);
    }

    /// Begins an attribute, which says something about the reply after it: `pairs` keys and values
    /// follow. RESP2 has nothing like it, so there the caller leaves it out.
    #[inline]
    pub fn attribute(&mut self, pairs: usize) {
        debug_assert!(self.resp3, "RESP2 has no attributes");
        self.header(b'|', pairs);
    }

    /// Keeps the place of an aggregate whose length is not known yet. Its elements are written next,
    /// then one of the `close_` methods; closing costs a copy of what was written in between.
    #[inline]
    pub fn defer(&mut self) -> Mark {
        Mark(self.out.len())
    }

    /// Makes what was written since `mark` an array of `n` values.
    pub fn close_array(&mut self, mark: Mark, n: usize) {
        self.close(mark, b'*', n);
    }

    /// Makes what was written since `mark` a map of `pairs` pairs.
    pub fn close_map(&mut self, mark: Mark, pairs: usize) {
        let (kind, n) = self.map_shape(pairs);
        self.close(mark, kind, n);
    }

    /// Makes what was written since `mark` a set of `n` values.
    pub fn close_set(&mut self, mark: Mark, n: usize) {
        self.close(mark, if self.resp3 { b'~' } else { b'*' }, n);
    }

    /// Makes what was written since `mark` a push of `n` values.
    pub fn close_push(&mut self, mark: Mark, n: usize) {
        self.close(mark, if self.resp3 { b'>' } else { b'*' }, n);
    }

    // ---- Pieces ----------------------------------------------------------------------------------

    #[inline]
    fn map_shape(&self, pairs: usize) -> (u8, usize) {
        if self.resp3 { (b'%', pairs) } else { (b'*', pairs.saturating_mul(2)) }
    }

    /// Type byte, length, end of line. One and two digits, nearly every length there is, are written
    /// as one copy of fixed size.
    #[inline]
    fn header(&mut self, kind: u8, len: usize) {
        match u8::try_from(len) {
            Ok(ones @ 0..=9) => self.out.extend_from_slice(&[kind, b'0' + ones, b'\r', b'\n']),
            Ok(n @ 10..=99) => {
                let text = [kind, b'0' + n / 10, b'0' + n % 10, b'\r', b'\n'];
                self.out.extend_from_slice(&text);
            }
            _ => self.long_header(kind, len),
        }
    }

    fn long_header(&mut self, kind: u8, len: usize) {
        // No length beyond i64 exists: memory ends long before.
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        number::write_framed(self.out, kind, len, *b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.push(kind);
        let start = self.out.len();
        self.out.extend_from_slice(text);
        if memchr::memchr2(b'\r', b'\n', text).is_some() {
            for byte in self.out.iter_mut().skip(start) {
                if matches!(*byte, b'\r' | b'\n') {
                    *byte = b' ';
                }
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn close(&mut self, mark: Mark, kind: u8, n: usize) {
        let end = self.out.len();
        debug_assert!(mark.0 <= end, "closed after the reply was taken back");
        self.header(kind, n);
        let header_len = self.out.len() - end;
        if let Some(tail) = self.out.get_mut(mark.0..) {
            tail.rotate_right(header_len);
        }
    }
}

/// Type byte, sign, nineteen digits and the end of a line.
const HEADER_BYTES_MAX: usize = 23;

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Reply<'_>)) -> (String, String) {
        let text = |version| {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, version));
            String::from_utf8(out).unwrap()
        };
        (text(Version::Resp2), text(Version::Resp3))
    }

    fn assert_both(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
    }

    fn assert_same(write: impl Fn(&mut Reply<'_>), text: &str) {
        assert_both(write, text, text);
    }

    #[test]
    fn single_values() {
        assert_same(|r| r.ok(), "+OK\r\n");
        assert_same(|r| r.simple("QUEUED"), "+QUEUED\r\n");
        assert_same(|r| r.integer(0), ":0\r\n");
        assert_same(|r| r.integer(10), ":10\r\n");
        assert_same(|r| r.integer(i64::MIN), ":-9223372036854775808\r\n");
        assert_same(|r| r.count(123), ":123\r\n");
        assert_same(|r| r.bulk(b""), "$0\r\n\r\n");
        assert_same(|r| r.bulk(b"0123456789"), "$10\r\n0123456789\r\n");
        assert_same(|r| r.bulk_integer(-12), "$3\r\n-12\r\n");
        assert_both(|r| r.null(), "$-1\r\n", "_\r\n");
        assert_both(|r| r.null_array(), "*-1\r\n", "_\r\n");
        assert_both(
            |r| r.double(0.1),
            "$19\r\n0.10000000000000001\r\n",
            ",0.10000000000000001\r\n",
        );
        assert_both(|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        assert_both(|r| r.boolean(true), ":1\r\n", "#t\r\n");
        assert_both(|r| r.verbatim(b"a\r\nb"), "$4\r\na\r\nb\r\n", "=8\r\ntxt:a\r\nb\r\n");
        assert_both(|r| r.big_number(b"123"), "$3\r\n123\r\n", "(123\r\n");
    }

    #[test]
    fn headers_of_every_width() {
        for n in [0, 9, 10, 99, 100, 255, 256, 65_536, 536_870_912] {
            assert_same(|r| r.array(n), &format!("*{n}\r\n"));
        }
        assert_both(|r| r.map(2), "*4\r\n", "%2\r\n");
        assert_both(|r| r.set(2), "*2\r\n", "~2\r\n");
        assert_both(|r| r.push(3), "*3\r\n", ">3\r\n");
    }

    #[test]
    fn errors_cannot_hold_a_line_end() {
        assert_same(|r| r.error("ERR bad\r\n:1\n"), "-ERR bad  :1\r\n");
        let mut out = Vec::new();
        Reply::new(&mut out, Version::Resp2).error_bytes(b"ERR \xff\r\n");
        assert_eq!(out, b"-ERR \xff\r\n");
    }

    #[test]
    fn deferred_aggregates_nest() {
        let write = |r: &mut Reply<'_>| {
            r.ok();
            let outer = r.defer();
            r.bulk(b"k");
            let inner = r.defer();
            for n in 0..12 {
                r.integer(n);
            }
            r.close_set(inner, 12);
            r.close_map(outer, 1);
        };
        let elements: String = (0..12).map(|n| format!(":{n}\r\n")).collect();
        assert_both(
            write,
            &format!("+OK\r\n*2\r\n$1\r\nk\r\n*12\r\n{elements}"),
            &format!("+OK\r\n%1\r\n$1\r\nk\r\n~12\r\n{elements}"),
        );
        assert_same(
            |r| {
                let mark = r.defer();
                r.close_array(mark, 0);
            },
            "*0\r\n",
        );
    }

    #[test]
    fn half_a_reply_can_be_taken_back() {
        assert_same(
            |r| {
                r.ok();
                let before = r.len();
                r.array(3);
                r.bulk(b"x");
                assert_eq!(r.written_since(before), b"*3\r\n$1\r\nx\r\n");
                r.truncate(before);
                r.error("ERR no");
            },
            "+OK\r\n-ERR no\r\n",
        );
    }
}
