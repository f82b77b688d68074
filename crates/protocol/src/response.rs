//! Bytes to replies, RESP2 and RESP3: for tests, tools and clients.
//!
//! Reads one whole reply or asks for more bytes, from the reply's beginning each time. Depth is
//! bounded, and memory grows only with bytes that have arrived, not with lengths declared.

use larder_base::limits::RESPONSE_DEPTH_MAX;
use larder_base::number::parse_i64;

/// A reply. Text that is not the server's own is kept as bytes, doubles as the text they came as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A status line, such as `OK`.
    Simple(Vec<u8>),
    /// An error, its code word first.
    Error(Vec<u8>),
    /// An integer.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Vec<u8>),
    /// No value: `$-1` or `_`.
    Null,
    /// No aggregate: `*-1`, in RESP2 only.
    NullArray,
    /// Values in order.
    Array(Vec<Value>),
    /// Keys and values in the order sent.
    Map(Vec<(Value, Value)>),
    /// Values without order, in the order sent.
    Set(Vec<Value>),
    /// A message outside of the order of replies.
    Push(Vec<Value>),
    /// A double, as the text sent.
    Double(Vec<u8>),
    /// A truth value.
    Boolean(bool),
    /// Text and its format, such as `txt`.
    Verbatim([u8; 3], Vec<u8>),
    /// The digits of an integer of any size.
    BigNumber(Vec<u8>),
    /// Something said about the reply that it comes before, and that reply.
    Attribute(Vec<(Value, Value)>, Box<Value>),
    /// A long error, which RESP3 sends like a bulk string.
    BulkError(Vec<u8>),
}

impl Value {
    /// The bytes of a reply that is one text, of whatever kind.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(text)
            | Self::Error(text)
            | Self::BulkError(text)
            | Self::Bulk(text)
            | Self::Double(text)
            | Self::Verbatim(_, text)
            | Self::BigNumber(text) => Some(text),
            Self::Integer(_)
            | Self::Null
            | Self::NullArray
            | Self::Array(_)
            | Self::Map(_)
            | Self::Set(_)
            | Self::Push(_)
            | Self::Boolean(_)
            | Self::Attribute(..) => None,
        }
    }

    /// The number of an integer reply.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) | Self::Set(values) | Self::Push(values) => Some(values),
            _ => None,
        }
    }

    /// Whether the reply is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_) | Self::BulkError(_))
    }

    /// Appends the reply as it came, in RESP3's form for kinds that only RESP3 has.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Simple(text) => line(out, b'+', text),
            Self::Error(text) => line(out, b'-', text),
            Self::Double(text) => line(out, b',', text),
            Self::BigNumber(text) => line(out, b'(', text),
            Self::Integer(value) => line(out, b':', value.to_string().as_bytes()),
            Self::Boolean(value) => line(out, b'#', if *value { b"t" } else { b"f" }),
            Self::Null => line(out, b'_', b""),
            Self::NullArray => line(out, b'*', b"-1"),
            Self::Bulk(text) => sized(out, b'$', &[text]),
            Self::BulkError(text) => sized(out, b'!', &[text]),
            Self::Verbatim(format, text) => sized(out, b'=', &[format, b":", text]),
            Self::Array(values) => sequence(out, b'*', values),
            Self::Set(values) => sequence(out, b'~', values),
            Self::Push(values) => sequence(out, b'>', values),
            Self::Map(pairs) => pair_sequence(out, b'%', pairs),
            Self::Attribute(pairs, value) => {
                pair_sequence(out, b'|', pairs);
                value.encode(out);
            }
        }
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn sized(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    line(out, kind, len.to_string().as_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

fn sequence(out: &mut Vec<u8>, kind: u8, values: &[Value]) {
    line(out, kind, values.len().to_string().as_bytes());
    for value in values {
        value.encode(out);
    }
}

fn pair_sequence(out: &mut Vec<u8>, kind: u8, pairs: &[(Value, Value)]) {
    line(out, kind, pairs.len().to_string().as_bytes());
    for (key, value) in pairs {
        key.encode(out);
        value.encode(out);
    }
}

/// Why bytes are no reply. The connection they came from is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A reply begins with a byte that names no kind.
    UnknownKind(u8),
    /// A length, an integer or a truth value is not one.
    BadLine,
    /// A string is not followed by the end of a line, or a verbatim text has no format.
    BadString,
    /// Aggregates nest deeper than [`RESPONSE_DEPTH_MAX`].
    TooDeep,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownKind(byte) => write!(f, "no reply begins with byte {byte:#04x}"),
            Self::BadLine => f.write_str("malformed number or length in a reply"),
            Self::BadString => f.write_str("malformed string in a reply"),
            Self::TooDeep => f.write_str("reply nests too deep"),
        }
    }
}

impl std::error::Error for Error {}

/// Reads the reply at the beginning of `buf`: the reply and the bytes it takes, or `None` if it is
/// not whole yet.
///
/// # Errors
/// When no further bytes could make it a reply.
pub fn parse(buf: &[u8]) -> Result<Option<(Value, usize)>, Error> {
    let mut reader = Reader { rest: buf };
    match reader.value(RESPONSE_DEPTH_MAX) {
        Ok(value) => Ok(Some((value, buf.len() - reader.rest.len()))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Broken(error)) => Err(error),
    }
}

/// Why reading stopped.
enum Stop {
    Incomplete,
    Broken(Error),
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        let (&kind, rest) = self.rest.split_first().ok_or(Stop::Incomplete)?;
        if !b"+-:$*%~>,#=(_|!".contains(&kind) {
            return Err(Stop::Broken(Error::UnknownKind(kind)));
        }
        self.rest = rest;
        let line = self.line()?;
        Ok(match kind {
            b'+' => Value::Simple(line.to_vec()),
            b'-' => Value::Error(line.to_vec()),
            b',' => Value::Double(line.to_vec()),
            b'(' => Value::BigNumber(line.to_vec()),
            b':' => Value::Integer(parse_i64(line).ok_or(Stop::Broken(Error::BadLine))?),
            b'#' => match line {
                b"t" => Value::Boolean(true),
                b"f" => Value::Boolean(false),
                _ => return Err(Stop::Broken(Error::BadLine)),
            },
            b'_' if line.is_empty() => Value::Null,
            b'_' => return Err(Stop::Broken(Error::BadLine)),
            b'$' if line == b"-1" => Value::Null,
            b'*' if line == b"-1" => Value::NullArray,
            b'$' => Value::Bulk(self.string(length(line)?)?.to_vec()),
            b'!' => Value::BulkError(self.string(length(line)?)?.to_vec()),
            b'=' => match self.string(length(line)?)? {
                [a, b, c, b':', text @ ..] => Value::Verbatim([*a, *b, *c], text.to_vec()),
                _ => return Err(Stop::Broken(Error::BadString)),
            },
            _ => self.aggregate(kind, length(line)?, depth)?,
        })
    }

    fn aggregate(&mut self, kind: u8, len: usize, depth: usize) -> Result<Value, Stop> {
        let depth = depth.checked_sub(1).ok_or(Stop::Broken(Error::TooDeep))?;
        Ok(match kind {
            b'%' => Value::Map(self.pairs(len, depth)?),
            b'|' => {
                let pairs = self.pairs(len, depth)?;
                Value::Attribute(pairs, Box::new(self.value(depth)?))
            }
            b'~' => Value::Set(self.values(len, depth)?),
            b'>' => Value::Push(self.values(len, depth)?),
            _ => Value::Array(self.values(len, depth)?),
        })
    }

    fn values(&mut self, len: usize, depth: usize) -> Result<Vec<Value>, Stop> {
        // Grows as elements arrive: the length is only what the other side says.
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(depth)?);
        }
        Ok(values)
    }

    fn pairs(&mut self, len: usize, depth: usize) -> Result<Vec<(Value, Value)>, Stop> {
        let mut pairs = Vec::new();
        for _ in 0..len {
            let key = self.value(depth)?;
            pairs.push((key, self.value(depth)?));
        }
        Ok(pairs)
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> Result<&'b [u8], Stop> {
        let end = memchr::memchr(b'\r', self.rest).ok_or(Stop::Incomplete)?;
        let (line, rest) = self.rest.split_at_checked(end).ok_or(Stop::Incomplete)?;
        match rest {
            [_, b'\n', rest @ ..] => {
                self.rest = rest;
                Ok(line)
            }
            [_] => Err(Stop::Incomplete),
            _ => Err(Stop::Broken(Error::BadLine)),
        }
    }

    /// `len` bytes and the end of the line behind them.
    fn string(&mut self, len: usize) -> Result<&'b [u8], Stop> {
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Stop::Incomplete)?;
        match rest {
            [b'\r', b'\n', rest @ ..] => {
                self.rest = rest;
                Ok(text)
            }
            [] | [b'\r'] => Err(Stop::Incomplete),
            _ => Err(Stop::Broken(Error::BadString)),
        }
    }
}

fn length(line: &[u8]) -> Result<usize, Stop> {
    let len = parse_i64(line).and_then(|len| usize::try_from(len).ok());
    len.ok_or(Stop::Broken(Error::BadLine))
}

#[cfg(test)]
#[path = "response/tests.rs"]
mod tests;
