//! LATENCY: delays that the server noticed, and how long commands take. It reads what others record.

use larder_commands::{Args, Command, Fault, Flags, Group};

use super::{ControlCommand, Session, named};
use crate::latency::Event;
use crate::observe::snapshot::Snapshot;

const BASE: Command = Command { since: "2.8.13", ..Command::control(Group::Server) };
const DELAYS: Command = Command {
    flags: Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE),
    arity: 2,
    ..BASE
};

/// The row.
pub const COMMANDS: &[ControlCommand] = &[ControlCommand::sometimes_exclusive(
    Command {
        name: "latency",
        arity: -2,
        complexity: "Depends on subcommand.",
        summary: "Delays that the server noticed.",
        subcommands: LATENCY,
        ..BASE
    },
    latency,
    |args| args.is(1, "HISTOGRAM"),
)];

const LATENCY: &[Command] = &[
    Command { name: "doctor", summary: "Says in words what was slow.", ..DELAYS },
    Command {
        name: "graph",
        arity: 3,
        summary: "Draws the delays of one event over time.",
        usage: "event",
        ..DELAYS
    },
    Command::help(Group::Server, "2.8.13"),
    Command {
        name: "histogram",
        arity: -2,
        since: "7.0.0",
        complexity: "O(N) where N is the number of commands with latency information being retrieved.",
        summary: "How many calls of commands took how long.",
        usage: "[command [command ...]]",
        ..DELAYS
    },
    Command {
        name: "history",
        arity: 3,
        summary: "Times and delays of one event.",
        usage: "event",
        ..DELAYS
    },
    Command { name: "latest", summary: "The latest delay of every event.", ..DELAYS },
    Command {
        name: "reset",
        arity: -2,
        summary: "Forgets events.",
        usage: "[event [event ...]]",
        ..DELAYS
    },
];

fn latency(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    match named(args, LATENCY) {
        "reset" => session.reply().count(server.latency.reset(args.from(2))),
        "histogram" => histogram(session, args),
        "doctor" => {
            let text = diagnosis(session);
            session.reply().verbatim(text.as_bytes());
        }
        "graph" => {
            let Some((name, event)) = find(session, args.at(2)) else {
                let name = String::from_utf8_lossy(args.at(2)).into_owned();
                return Err(Fault::new(format!("ERR No samples available for event '{name}'")));
            };
            let text = graph(name, &event, session.turn.now.0 / 1000);
            session.reply().verbatim(text.as_bytes());
        }
        "history" => {
            let samples = find(session, args.at(2)).map(|(_, event)| event.samples);
            let samples = samples.unwrap_or_default();
            let mut reply = session.reply();
            reply.array(samples.len());
            for (second, took_ms) in samples {
                reply.array(2);
                reply.integer(second);
                reply.integer(took_ms);
            }
        }
        _ => latest(session),
    }
    Ok(())
}

fn find(session: &Session<'_, '_, '_>, wanted: &[u8]) -> Option<(&'static str, Event)> {
    let events = session.turn.server.latency.events();
    events.into_iter().find(|(name, _)| wanted.eq_ignore_ascii_case(name.as_bytes()))
}

fn latest(session: &mut Session<'_, '_, '_>) {
    let events = session.turn.server.latency.events();
    let mut reply = session.reply();
    reply.array(events.len());
    for (name, event) in events {
        let (second, took_ms) = event.samples.back().copied().unwrap_or_default();
        reply.array(4);
        reply.bulk(name.as_bytes());
        reply.integer(second);
        reply.integer(took_ms);
        reply.integer(event.longest_ms);
    }
}

/// Calls and microseconds of the named commands, or of all that ran; a command stands for its subcommands.
fn histogram(session: &mut Session<'_, '_, '_>, args: Args<'_>) {
    let snapshot = Snapshot::take(session);
    if !snapshot.options.latency_tracking {
        session.reply().map(0);
        return;
    }
    let rows = snapshot.server.registry.rows();
    let asked: Vec<String> =
        args.from(2).iter().map(|n| String::from_utf8_lossy(n).to_ascii_lowercase()).collect();
    let is = |name: &str, wanted: &String| {
        name == wanted || name.split_once('|').is_some_and(|(parent, _)| parent == wanted)
    };
    let mut chosen = Vec::new();
    if asked.is_empty() {
        chosen.extend(rows.iter());
    }
    for wanted in &asked {
        chosen.extend(rows.iter().filter(|(name, _)| is(name, wanted)));
    }
    let found: Vec<_> = chosen
        .into_iter()
        .filter_map(|(name, number)| Some((name, snapshot.commands.get(*number)?)))
        .filter(|(_, one)| one.calls > 0)
        .collect();
    let mut reply = session.reply();
    reply.map(found.len());
    for (name, one) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(i64::try_from(one.calls).unwrap_or(i64::MAX));
        reply.bulk(b"histogram_usec");
        let rows = one.took.by_doubling();
        reply.map(rows.len());
        for (usec, calls) in rows {
            reply.integer(i64::try_from(usec).unwrap_or(i64::MAX));
            reply.integer(i64::try_from(calls).unwrap_or(i64::MAX));
        }
    }
}

/// Columns for the last samples, a row for each quarter of the range, and below them how long ago.
fn graph(name: &str, event: &Event, now_s: i64) -> String {
    const COLUMNS: usize = 80;
    const ROWS: i64 = 4;
    let skipped = event.samples.len().saturating_sub(COLUMNS);
    let samples: Vec<(i64, i64)> = event.samples.iter().skip(skipped).copied().collect();
    let low = samples.iter().map(|(_, took)| *took).min().unwrap_or(0);
    let high = samples.iter().map(|(_, took)| *took).max().unwrap_or(0);
    let mut text = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        event.longest_ms,
        "-".repeat(COLUMNS)
    );
    let range = (high - low).max(1);
    for row in (0..ROWS).rev() {
        let line: String = samples
            .iter()
            .map(|(_, took)| match ((took - low) * ROWS * 3 / range).min(ROWS * 3 - 1) - row * 3 {
                ..0 => ' ',
                0 => '_',
                1 => 'o',
                2 => '#',
                _ => '|',
            })
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    // How long ago, written downwards.
    let ages: Vec<String> = samples.iter().map(|(second, _)| age(now_s - second)).collect();
    let longest = ages.iter().map(String::len).max().unwrap_or(0);
    text.push('\n');
    for at in 0..longest {
        let line: String = ages.iter().map(|age| age.chars().nth(at).unwrap_or(' ')).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{}s", seconds.max(0)),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn diagnosis(session: &Session<'_, '_, '_>) -> String {
    let server = session.turn.server;
    let events = server.latency.events();
    if !server.latency.is_on() && events.is_empty() {
        return "Delays are not watched. CONFIG SET latency-monitor-threshold <milliseconds> lets the \
                server note everything that takes at least so long.\n"
            .to_owned();
    }
    if events.is_empty() {
        return "No delay reached the threshold so far.\n".to_owned();
    }
    let mut text = "Delays that reached the threshold:\n\n".to_owned();
    let mut advice = Vec::new();
    for (name, event) in &events {
        let count = i64::try_from(event.samples.len()).unwrap_or(1).max(1);
        let sum: i64 = event.samples.iter().map(|(_, took)| took).sum();
        let first = event.samples.front().map_or(0, |(second, _)| *second);
        let last = event.samples.back().map_or(0, |(second, _)| *second);
        let gap = (last - first) / (count - 1).max(1);
        text.push_str(&format!(
            " * {name}: {count} samples, {} ms on average, {gap} s between them, the longest {} ms.\n",
            sum / count,
            event.longest_ms
        ));
        let hint = match *name {
            "command" => {
                "command: SLOWLOG GET shows which commands were slow; those that look at many \
                          keys or elements hold up others with keys in the same slots."
            }
            "fast-command" => {
                "fast-command: these take constant time, so the machine was busy, swapping \
                               or too small; or a memory limit made them wait."
            }
            "expire-cycle" => {
                "expire-cycle: many keys are due at the same moment; deadlines spread over \
                               time cost less."
            }
            _ => continue,
        };
        advice.push(hint);
    }
    for hint in advice {
        text.push_str(&format!("\n{hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_a_column_for_each_sample() {
        let samples = [(100, 10), (160, 20), (3700, 90), (3999, 50)].into();
        let event = Event { samples, longest_ms: 95 };
        let text = graph("command", &event, 4000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 90 ms, low 10 ms (all time high 95 ms)");
        assert_eq!(lines[2], "  #");
        assert_eq!(lines[5], "_o||");
        assert_eq!((lines[7], lines[8]), ("1151", "hhms"));
    }
}
