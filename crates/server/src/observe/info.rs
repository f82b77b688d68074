//! The text of INFO, from the tables of metrics: sections, which of them are shown, and how values look.

use std::fmt::{self, Write as _};

use larder_commands::Args;

use crate::observe::snapshot::Snapshot;
use crate::observe::{lists, memory, metrics, turns};

/// What a metric is, for those who collect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until CONFIG RESETSTAT or a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A fact that is no figure.
    Fact,
}

/// A value, and how it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Count(u64),
    /// One that may be negative.
    Signed(i64),
    /// With so many digits after the point.
    Decimal(f64, usize),
    /// Two digits and a percent sign.
    Percent(f64),
    /// Bytes, for people: `1.50K`.
    Size(u64),
    /// Words.
    Text(String),
    /// Words that are always the same.
    Word(&'static str),
    /// There is no such thing now: the line is left out.
    Absent,
}

impl Value {
    /// A count of things in memory.
    pub fn of(count: usize) -> Value {
        Value::Count(count as u64)
    }

    /// A count of bytes, for people.
    pub fn size(bytes: usize) -> Value {
        Value::Size(bytes as u64)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(count) => write!(f, "{count}"),
            Value::Signed(number) => write!(f, "{number}"),
            Value::Decimal(number, digits) => write!(f, "{number:.digits$}"),
            Value::Percent(number) => write!(f, "{number:.2}%"),
            Value::Size(bytes) => write_size(f, *bytes),
            Value::Text(text) => f.write_str(text),
            Value::Word(word) => f.write_str(word),
            Value::Absent => Ok(()),
        }
    }
}

fn write_size(f: &mut fmt::Formatter<'_>, bytes: u64) -> fmt::Result {
    let mut unit = 1024.0;
    if bytes < 1024 {
        return write!(f, "{bytes}B");
    }
    for letter in ['K', 'M', 'G', 'T'] {
        if (bytes as f64) < unit * 1024.0 {
            return write!(f, "{:.2}{letter}", bytes as f64 / unit);
        }
        unit *= 1024.0;
    }
    write!(f, "{:.2}P", bytes as f64 / unit)
}

/// One metric: a row.
pub struct Metric {
    /// Its name in INFO.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it says, for people.
    pub help: &'static str,
    /// Reads it.
    pub value: fn(&Snapshot<'_>) -> Value,
}

impl Metric {
    /// A row of a counter.
    pub const fn counter(
        name: &'static str,
        help: &'static str,
        value: fn(&Snapshot<'_>) -> Value,
    ) -> Metric {
        Metric { name, kind: Kind::Counter, help, value }
    }

    /// A row of a gauge.
    pub const fn gauge(
        name: &'static str,
        help: &'static str,
        value: fn(&Snapshot<'_>) -> Value,
    ) -> Metric {
        Metric { name, kind: Kind::Gauge, help, value }
    }

    /// A row of a fact.
    pub const fn fact(
        name: &'static str,
        help: &'static str,
        value: fn(&Snapshot<'_>) -> Value,
    ) -> Metric {
        Metric { name, kind: Kind::Fact, help, value }
    }
}

/// What a section holds.
pub enum Rows {
    /// Always the same metrics.
    Fixed(&'static [Metric]),
    /// A line for each of what there is.
    Each(fn(&Snapshot<'_>) -> Vec<(String, String)>),
}

/// When a section is shown that is not asked for by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// When no section is asked for.
    Usually,
    /// When all are asked for.
    WithAll,
    /// Never.
    Alone,
}

/// A section of INFO.
pub struct Section {
    /// As its head line says.
    pub name: &'static str,
    /// When it is shown besides.
    pub shown: Shown,
    /// Its lines.
    pub rows: Rows,
}

const fn fixed(name: &'static str, rows: &'static [Metric]) -> Section {
    Section { name, shown: Shown::Usually, rows: Rows::Fixed(rows) }
}

const fn each(
    name: &'static str,
    shown: Shown,
    lines: fn(&Snapshot<'_>) -> Vec<(String, String)>,
) -> Section {
    Section { name, shown, rows: Rows::Each(lines) }
}

/// All sections, in their order.
pub const SECTIONS: &[Section] = &[
    fixed("Server", metrics::SERVER),
    fixed("Clients", metrics::CLIENTS),
    fixed("Memory", memory::MEMORY),
    fixed("Persistence", metrics::PERSISTENCE),
    fixed("Stats", metrics::STATS),
    each("Replication", Shown::Usually, crate::replication::show::lines),
    fixed("CPU", metrics::CPU),
    each("Modules", Shown::Usually, |_| Vec::new()),
    each("Commandstats", Shown::WithAll, lists::command_stats),
    each("Errorstats", Shown::Usually, lists::error_stats),
    each("Latencystats", Shown::WithAll, lists::latency_stats),
    fixed("Cluster", metrics::CLUSTER),
    each("Keyspace", Shown::Usually, lists::keyspace),
    each("Eviction", Shown::WithAll, lists::evictions),
    Section { name: "Debug", shown: Shown::Alone, rows: Rows::Fixed(turns::DEBUG) },
];

/// The text for the sections that a request names (from its first argument on); all usual ones if it
/// names none. Sections that do not exist are passed over.
pub fn text(snapshot: &Snapshot<'_>, args: Args<'_>) -> String {
    let named = |name: &str| args.from(1).iter().any(|s| s.eq_ignore_ascii_case(name.as_bytes()));
    let all = named("all") || named("everything");
    let usual = args.len() == 1 || named("default");
    let mut text = String::new();
    for section in SECTIONS {
        let shown = match section.shown {
            Shown::Usually => all || usual,
            Shown::WithAll => all,
            Shown::Alone => false,
        };
        if !shown && !named(section.name) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "# {}\r\n", section.name);
        match section.rows {
            Rows::Fixed(rows) => {
                for metric in rows {
                    let value = (metric.value)(snapshot);
                    if !matches!(value, Value::Absent) {
                        let _ = write!(text, "{}:{value}\r\n", metric.name);
                    }
                }
            }
            Rows::Each(lines) => {
                for (name, value) in lines(snapshot) {
                    let _ = write!(text, "{name}:{value}\r\n");
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn values_look_as_redis_writes_them() {
        let shown = [
            Value::Size(1023),
            Value::Size(1536),
            Value::Size(25_276_510_208),
            Value::Size(3 << 50),
            Value::Decimal(0.5, 6),
            Value::Percent(99.999),
            Value::Signed(-1),
        ]
        .map(|value| value.to_string());
        assert_eq!(
            shown,
            ["1023B", "1.50K", "23.54G", "3.00P", "0.500000", "100.00%", "-1"].map(str::to_owned)
        );
    }

    /// Tools read fields by name alone, so a name stands once; and everything is explained.
    #[test]
    fn names_are_unique_and_explained() {
        let mut names = HashSet::new();
        for section in SECTIONS {
            let Rows::Fixed(rows) = section.rows else { continue };
            for metric in rows {
                assert!(names.insert(metric.name), "{} stands twice", metric.name);
                assert!(metric.help.ends_with('.'), "{}: {}", metric.name, metric.help);
            }
        }
        assert!(names.len() > 150);
    }
}
