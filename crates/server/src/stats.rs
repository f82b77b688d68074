//! Counters of one worker: plain numbers, written by its owner alone and summed when somebody asks.

use crate::observe::histogram::Histogram;

/// Counts since the start or the last CONFIG RESETSTAT.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused because there were too many.
    pub rejected: u64,
    /// Commands run.
    pub commands: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Reads that found a key.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Keys that expired.
    pub expired: u64,
    /// Modifications of keys.
    pub dirty: u64,
    /// Error replies.
    pub errors: u64,
    /// Connections dropped because their buffers grew too large.
    pub dropped: u64,
}

impl Stats {
    /// Adds another worker's counts.
    pub fn add(&mut self, other: &Stats) {
        self.connections += other.connections;
        self.rejected += other.rejected;
        self.commands += other.commands;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.hits += other.hits;
        self.misses += other.misses;
        self.expired += other.expired;
        self.dirty += other.dirty;
        self.errors += other.errors;
        self.dropped += other.dropped;
    }
}

/// Calls and time of one command on one worker.
#[derive(Clone, Debug, Default)]
pub struct CommandStats {
    /// Finished runs.
    pub calls: u64,
    /// Runs that answered an error.
    pub failed: u64,
    /// Requests refused before they ran.
    pub rejected: u64,
    /// Microseconds spent.
    pub usec: u64,
    /// The same, call by call.
    pub took: Histogram,
}

impl CommandStats {
    /// Counts a call.
    #[inline]
    pub fn note(&mut self, usec: u64, failed: bool) {
        self.calls += 1;
        self.usec += usec;
        self.failed += u64::from(failed);
        self.took.record(usec);
    }

    /// Adds another worker's counts.
    pub fn add(&mut self, other: &CommandStats) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.usec += other.usec;
        self.took.add(&other.took);
    }
}
