//! Counters of one worker: plain numbers, written by its owner alone and summed when somebody asks.

use crate::observe::histogram::Histogram;

macro_rules! counters {
    ($($name:ident: $doc:literal,)*) => {
        /// Counts since the start or the last CONFIG RESETSTAT.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Stats {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Stats {
            /// Adds another worker's counts.
            pub fn add(&mut self, other: &Stats) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    connections: "Connections accepted.",
    commands: "Commands run.",
    bytes_in: "Bytes read.",
    bytes_out: "Bytes written.",
    reads: "Times that a connection was read.",
    writes: "Times that a connection was written.",
    hits: "Reads that found a key.",
    misses: "Reads that found none.",
    expired: "Keys that expired.",
    evicted: "Keys evicted to make room.",
    expired_members: "Members of collections that were found due.",
    sweep_usec: "Microseconds spent on looking for expired keys.",
    dirty: "Modifications of keys.",
    errors: "Error replies.",
    refused_passwords: "AUTH and HELLO AUTH with a wrong password.",
    dropped: "Connections dropped because they did not read their output.",
    overfed: "Connections dropped because they sent more than may wait.",
    evicted_clients: "Connections closed because all of them held too much memory.",
    turns: "Turns of the event loop.",
    turn_nanos: "Nanoseconds of them, without sleep.",
    command_nanos: "Of these, spent on running commands.",
    tick_nanos: "Of these, spent on what is due by the clock.",
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
    /// Nanoseconds spent.
    pub nanos: u64,
    /// Microseconds, call by call.
    pub took: Histogram,
}

impl CommandStats {
    /// Counts a call; `tracked`: its duration goes into the histogram.
    #[inline]
    pub fn note(&mut self, nanos: u64, failed: bool, tracked: bool) {
        self.calls += 1;
        self.nanos += nanos;
        self.failed += u64::from(failed);
        if tracked {
            self.took.record(nanos / 1000);
        }
    }

    /// Adds another worker's counts.
    pub fn add(&mut self, other: &CommandStats) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.nanos += other.nanos;
        self.took.add(&other.took);
    }
}
