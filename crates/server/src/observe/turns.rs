//! What the event loops do, as figures of the sections Stats and Debug: one row each. How they are measured,
//! the worker knows.

use crate::observe::info::Metric;
use crate::observe::info::Value::Count;
use crate::observe::snapshot::Snapshot;

/// Rows of the section Stats.
pub const CYCLES: Metric =
    Metric::counter("eventloop_cycles", "Turns of all event loops.", |s| Count(s.stats.turns));
/// See [`CYCLES`].
pub const DURATION: Metric = Metric::counter(
    "eventloop_duration_sum",
    "Microseconds of all turns, without the time asleep.",
    |s| Count(s.stats.turn_nanos / 1000),
);
/// See [`CYCLES`].
pub const COMMANDS_DURATION: Metric = Metric::counter(
    "eventloop_duration_cmd_sum",
    "Microseconds of them spent on running commands.",
    |s| Count(s.stats.command_nanos / 1000),
);
/// See [`CYCLES`].
pub const CYCLES_PER_SECOND: Metric = Metric::gauge(
    "instantaneous_eventloop_cycles_per_sec",
    "Turns of a worker per second, lately: the mean of all workers.",
    |s| Count(cycles(s) / s.server.workers.len().max(1) as u64),
);
/// See [`CYCLES`].
pub const DURATION_OF_ONE: Metric = Metric::gauge(
    "instantaneous_eventloop_duration_usec",
    "Microseconds of a turn, lately.",
    |s| {
        let [.., nanos] = s.rates;
        Count(nanos / cycles(s).max(1) / 1000)
    },
);

/// The section Debug, shown to those who ask for it alone.
pub const DEBUG: &[Metric] = &[
    Metric::counter(
        "eventloop_duration_aof_sum",
        "Microseconds of turns spent on writing changes down; other threads do that.",
        |_| Count(0),
    ),
    Metric::counter(
        "eventloop_duration_cron_sum",
        "Microseconds of turns spent on what is due by the clock.",
        |s| Count(s.stats.tick_nanos / 1000),
    ),
    Metric::gauge("eventloop_duration_max", "Microseconds of the longest turn.", |s| {
        let [nanos, _] = s.largest_turn;
        Count(nanos / 1000)
    }),
    Metric::gauge("eventloop_cmd_per_cycle_max", "The most commands of one turn.", |s| {
        let [_, commands] = s.largest_turn;
        Count(commands)
    }),
];

fn cycles(snapshot: &Snapshot<'_>) -> u64 {
    let [_, _, _, turns, _] = snapshot.rates;
    turns
}
