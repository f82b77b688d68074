//! The lowest layer: small pure things that every other crate needs.
//!
//! Numbers as Redis reads and writes them, hash slots, glob patterns, hashing, time values, a seeded
//! random generator and every named bound of the server. Nothing here may know a socket, a clock, a
//! file, a keyspace or the wire format.

pub mod glob;
pub mod hash;
pub mod limits;
pub mod number;
pub mod rng;
pub mod slot;
pub mod time;

pub use hash::KeyHasher;
pub use rng::Rng;
pub use slot::Slot;
pub use time::Millis;
