//! The server: workers with their event loops, sessions, dispatch, control commands. The only crate
//! that meets the operating system for the data path, and the only one that reads configuration.

pub mod admission;
pub mod background;
pub mod blocking;
pub mod books;
pub mod client;
pub mod clock;
pub mod commandlog;
pub mod config;
pub mod control;
pub mod databases;
pub mod dispatch;
pub mod durability;
pub mod ending;
pub mod events;
pub mod eviction;
pub mod latency;
pub mod listening;
pub mod log;
pub mod monitor;
pub mod names;
pub mod observe;
pub mod oom_score;
pub mod pubsub;
pub mod registry;
pub mod replication;
pub mod shared;
pub mod startup;
pub mod stats;
pub mod supervisor;
pub mod tracking;
pub mod transactions;
pub mod turns;
pub mod unread;
pub mod versions;
pub mod worker;

pub use shared::{AllocatorFigures, MemoryProbe, Server};
