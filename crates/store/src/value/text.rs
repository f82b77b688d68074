//! A text as the store hands it out: bytes, or an integer whose canonical decimal form is the text.
//! It knows nothing of where the text lies.

use std::cmp::Ordering;

use larder_base::number;

/// A text stored as bytes or as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text<'a> {
    /// An integer in canonical form.
    Int(i64),
    /// Any bytes.
    Bytes(&'a [u8]),
}

impl<'a> Text<'a> {
    /// Length in bytes as text.
    #[inline]
    pub fn len(self) -> usize {
        match self {
            Text::Int(value) => number::i64_len(value),
            Text::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether the text is empty.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Appends the text.
    #[inline]
    pub fn append_to(self, out: &mut Vec<u8>) {
        match self {
            Text::Int(value) => number::write_i64(out, value),
            Text::Bytes(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The text as bytes; integers are written into `room`.
    #[inline]
    pub fn as_bytes<'r>(self, room: &'r mut Vec<u8>) -> &'r [u8]
    where
        'a: 'r,
    {
        match self {
            Text::Int(value) => {
                room.clear();
                number::write_i64(room, value);
                room
            }
            Text::Bytes(bytes) => bytes,
        }
    }

    /// Lends the text as bytes, integers from the stack.
    #[inline]
    pub fn with_bytes<R>(self, read: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Text::Int(value) => read(number::decimal_i64(value).as_bytes()),
            Text::Bytes(bytes) => read(bytes),
        }
    }

    /// Whether the text is these bytes.
    #[inline]
    pub fn is(self, other: &[u8]) -> bool {
        match self {
            Text::Int(value) => number::parse_i64(other) == Some(value),
            Text::Bytes(bytes) => bytes == other,
        }
    }

    /// Compares byte by byte.
    #[inline]
    pub fn cmp_bytes(self, other: &[u8]) -> Ordering {
        self.with_bytes(|bytes| bytes.cmp(other))
    }

    /// The integer that the text is, in Redis's strict form.
    #[inline]
    pub fn to_i64(self) -> Option<i64> {
        match self {
            Text::Int(value) => Some(value),
            Text::Bytes(bytes) => number::parse_i64(bytes),
        }
    }

    /// A copy.
    pub fn to_vec(self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.len());
        self.append_to(&mut copy);
        copy
    }
}
