//! What a handler answers when it refuses: an error line in Redis's words. Knows no reply encoding.

use std::borrow::Cow;

use larder_store::WrongType;

/// An error reply, its code word included; the reply writer keeps line breaks out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Cow<'static, [u8]>);

impl Fault {
    /// Options that do not fit together, or are unknown.
    pub const SYNTAX: Fault = Fault::text("ERR syntax error");
    /// An argument is no 64-bit integer.
    pub const NOT_INTEGER: Fault = Fault::text("ERR value is not an integer or out of range");
    /// An argument is no float.
    pub const NOT_FLOAT: Fault = Fault::text("ERR value is not a valid float");
    /// The key holds another type.
    pub const WRONG_TYPE: Fault =
        Fault::text("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// The key must exist and does not.
    pub const NO_SUCH_KEY: Fault = Fault::text("ERR no such key");
    /// An index beyond the collection.
    pub const OUT_OF_RANGE: Fault = Fault::text("ERR index out of range");
    /// A number that must not be negative.
    pub const NOT_POSITIVE: Fault = Fault::text("ERR value is out of range, must be positive");
    /// The result of an addition does not fit.
    pub const OVERFLOW: Fault = Fault::text("ERR increment or decrement would overflow");

    /// A fixed text.
    pub const fn text(text: &'static str) -> Fault {
        Fault(Cow::Borrowed(text.as_bytes()))
    }

    /// A composed text.
    pub fn new(text: String) -> Fault {
        Fault(Cow::Owned(text.into_bytes()))
    }

    /// A text that quotes bytes of any kind.
    pub fn quoting(text: Vec<u8>) -> Fault {
        Fault(Cow::Owned(text))
    }

    /// The wrong number of arguments for a command, named as COMMAND names it ("config|get").
    pub fn arity(name: &str) -> Fault {
        Fault::new(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// `invalid expire time in 'set' command`.
    pub fn expire_time(name: &str) -> Fault {
        Fault::new(format!("ERR invalid expire time in '{name}' command"))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<WrongType> for Fault {
    fn from(_: WrongType) -> Fault {
        Fault::WRONG_TYPE
    }
}
