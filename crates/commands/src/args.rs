//! The arguments of one request, read without ever panicking. Knows nothing of commands.

use larder_base::number;

use crate::fault::Fault;

/// The arguments; position 0 is the command's name.
#[derive(Clone, Copy, Debug)]
pub struct Args<'b>(&'b [&'b [u8]]);

impl<'b> Args<'b> {
    /// Wraps a request.
    pub fn new(args: &'b [&'b [u8]]) -> Args<'b> {
        Args(args)
    }

    /// How many there are, the name included.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "there is always the name")]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// The argument at a position; empty past the end (arity was checked before).
    #[inline]
    pub fn at(self, index: usize) -> &'b [u8] {
        self.0.get(index).copied().unwrap_or(b"")
    }

    /// The argument at a position, if there is one.
    #[inline]
    pub fn get(self, index: usize) -> Option<&'b [u8]> {
        self.0.get(index).copied()
    }

    /// The arguments from a position on.
    #[inline]
    pub fn from(self, index: usize) -> &'b [&'b [u8]] {
        self.0.get(index..).unwrap_or(&[])
    }

    /// `count` arguments from a position on, as many as there are.
    pub fn span(self, index: usize, count: usize) -> &'b [&'b [u8]] {
        let rest = self.from(index);
        rest.get(..count).unwrap_or(rest)
    }

    /// All of them.
    pub fn all(self) -> &'b [&'b [u8]] {
        self.0
    }

    /// Whether the argument at a position is this word, in any case.
    #[inline]
    pub fn is(self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The argument as a 64-bit integer.
    ///
    /// # Errors
    /// `ERR value is not an integer or out of range`.
    #[inline]
    pub fn i64(self, index: usize) -> Result<i64, Fault> {
        number::parse_i64(self.at(index)).ok_or(Fault::NOT_INTEGER)
    }

    /// The argument as a float.
    ///
    /// # Errors
    /// `ERR value is not a valid float`.
    pub fn f64(self, index: usize) -> Result<f64, Fault> {
        number::parse_f64(self.at(index)).ok_or(Fault::NOT_FLOAT)
    }
}
