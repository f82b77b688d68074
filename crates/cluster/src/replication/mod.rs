//! Replication over PSYNC: the replica's side of a link, the primary's side of one, and the lineage of
//! histories that decides between a partial and a full resynchronisation.
//!
//! The stream itself (commands in RESP) is opaque here: a byte has a number, its offset, and nothing else.
//! Protocol: the PSYNC2 handshake as Redis 7 and Valkey 8 speak it.

mod follower;
mod lineage;
mod link;
mod snapshot_feed;

pub use follower::{Answer, Capabilities, Decision, Follower, Stage, SyncRequest};
pub use lineage::{Lineage, Offset, Position, ReplicationId};
pub use link::{Link, LinkConfig, LinkError, Output, Phase};
pub use snapshot_feed::{Fed, SnapshotFeed};
