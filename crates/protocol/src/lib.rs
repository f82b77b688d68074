//! The wire format: bytes to requests and replies to bytes, RESP2, RESP3 and inline.
//!
//! Pure and total: no socket, no clock, no keyspace; every input gives a request, a wish for more
//! bytes or an error in Redis's words, and nothing is allocated on the word of a length that a
//! client merely declared.

pub mod encode;
mod inline;
pub mod reply;
pub mod request;
pub mod response;

pub use encode::encode_command;
pub use reply::{Mark, Reply, Version};
pub use request::{ArgRange, ProtocolError, RequestLimits, RequestParser, Step};
pub use response::{Value, parse};
