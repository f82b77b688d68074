//! How nodes follow each other, as state machines over bytes and time. It holds no data, reads no clock,
//! opens no socket and draws no randomness of its own: whoever drives it passes all of that in, so a test
//! can replay any run.
//!
//! Today: replication (PSYNC of Redis 7 and Valkey 8, both sides). Membership and failover join it later.

pub mod replication;
