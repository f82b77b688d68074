//! Sockets and waiting: bytes and tokens only. This crate knows no protocol, no command and no policy;
//! what a connection means is the server's business. All system calls go through rustix; no `unsafe`.

pub mod descriptors;
pub mod listener;
pub mod mailbox;
pub mod reactor;
pub mod stream;

pub use descriptors::{SpareDescriptor, raise_descriptor_limit};
pub use listener::{AcceptError, Listener};
pub use mailbox::Mailbox;
pub use reactor::{Event, Interest, Reactor, Token, Wait, Waker};
pub use stream::{PeerAddr, ReadOutcome, Stream, Until, WriteOutcome};
