//! The table of all configuration options: one row an option, split by theme. A row says everything that
//! CONFIG GET, SET, REWRITE, the loader and the reference page need. It must never know a running server.

mod advanced;
mod clients;
mod cluster;
mod memory;
mod network;
mod persistence;
mod replication;

/// A place in the table; stable while the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionId(pub usize);

/// What the value of an option may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A whole number within bounds, both included.
    Integer(i64, i64),
    /// A number written in base eight (file permissions), bounds included.
    Octal(i64, i64),
    /// Bytes, with an optional suffix (`k` = 1000, `kb` = 1024 and so on), bounds included.
    Memory(u64, u64),
    /// Bytes, or a share of `maxmemory` in percent; 0 = no limit.
    MemoryOrPercent,
    /// Any text without control characters.
    Text,
    /// As `Text`, never shown in logs.
    Secret,
    /// A text with the variables of a process title.
    Title,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One or more of these words; the first one stands for "none of them".
    Words(&'static [&'static str]),
    /// Pairs of seconds and changes.
    Save,
    /// Addresses to listen on.
    Bind,
    /// Three numbers for a class of clients.
    OutputLimits,
    /// Three numbers from -2000 to 2000.
    OomScores,
    /// Letters that choose keyspace events.
    KeyspaceEvents,
    /// Numbers from 0 to 100.
    Percentiles,
    /// A host and a port, or `no one`.
    ReplicaOf,
}

/// Who may change an option, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// CONFIG SET may change it.
    Mutable,
    /// Only the file or the command line set it.
    Immutable,
    /// CONFIG SET may change it only where `enable-protected-configs` allows that.
    Protected,
}

/// What an option does in this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It works as described.
    Supported,
    /// Accepted, checked and shown, without effect; the text says why that does no harm.
    Harmless(&'static str),
    /// Needs a feature that is not there; only values that ask nothing of it are accepted.
    Later(&'static str),
}

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The name in lower case.
    pub name: &'static str,
    /// An older or newer name of the same option.
    pub alias: Option<&'static str>,
    /// What it takes.
    pub kind: Kind,
    /// The default as it would be written in a file.
    pub default: &'static str,
    /// Who may change it.
    pub change: Change,
    /// CONFIG GET shows it only when it is asked for by its full name.
    pub hidden: bool,
    /// What it does here.
    pub support: Support,
    /// For `Later`: values accepted besides the default.
    pub inert: &'static [&'static str],
    /// One sentence for the reference page.
    pub about: &'static str,
}

impl Row {
    const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        about: &'static str,
    ) -> Row {
        Row {
            name,
            alias: None,
            kind,
            default,
            change: Change::Mutable,
            hidden: false,
            support: Support::Supported,
            inert: &[],
            about,
        }
    }
    const fn alias(mut self, alias: &'static str) -> Row {
        self.alias = Some(alias);
        self
    }
    const fn immutable(mut self) -> Row {
        self.change = Change::Immutable;
        self
    }
    const fn protected(mut self) -> Row {
        self.change = Change::Protected;
        self
    }
    const fn hidden(mut self) -> Row {
        self.hidden = true;
        self
    }
    const fn harmless(mut self, reason: &'static str) -> Row {
        self.support = Support::Harmless(reason);
        self
    }
    const fn later(mut self, reason: &'static str) -> Row {
        self.support = Support::Later(reason);
        self
    }
    const fn inert(mut self, values: &'static [&'static str]) -> Row {
        self.inert = values;
        self
    }

    /// Whether one argument of CONFIG SET, or of a line, holds several words.
    pub fn takes_words(&self) -> bool {
        match self.kind {
            Kind::Words(_)
            | Kind::Save
            | Kind::Bind
            | Kind::OutputLimits
            | Kind::OomScores
            | Kind::Percentiles
            | Kind::ReplicaOf => true,
            Kind::Bool
            | Kind::Integer(..)
            | Kind::Octal(..)
            | Kind::Memory(..)
            | Kind::MemoryOrPercent
            | Kind::Text
            | Kind::Secret
            | Kind::Title
            | Kind::Choice(_)
            | Kind::KeyspaceEvents => false,
        }
    }
}

/// Themes with their rows, in the order of the reference page.
pub static THEMES: &[(&str, &[Row])] = &[
    ("Network", network::ROWS),
    ("Memory and eviction", memory::ROWS),
    ("Clients, commands and observation", clients::ROWS),
    ("Process and internals", advanced::ROWS),
    ("Persistence", persistence::ROWS),
    ("Replication", replication::ROWS),
    ("Cluster", cluster::ROWS),
];

/// All options with their places.
pub fn all() -> impl Iterator<Item = (OptionId, &'static Row)> {
    THEMES.iter().flat_map(|(_, rows)| rows.iter()).enumerate().map(|(at, row)| (OptionId(at), row))
}

/// The row at a place.
pub fn row(id: OptionId) -> Option<&'static Row> {
    all().nth(id.0).map(|(_, row)| row)
}

/// Finds an option by name or alias, in any case. The third part is the name that was meant, in lower case.
pub fn find(name: &str) -> Option<(OptionId, &'static Row, &'static str)> {
    all().find_map(|(id, row)| {
        if row.name.eq_ignore_ascii_case(name) {
            return Some((id, row, row.name));
        }
        let alias = row.alias.filter(|alias| alias.eq_ignore_ascii_case(name))?;
        Some((id, row, alias))
    })
}

const INT: i64 = i32::MAX as i64;
const LONG: u64 = i64::MAX as u64;
const MEBI: u64 = 1 << 20;
const NO_CLUSTER: &str = "cluster mode is not part of this version";
const NO_TLS: &str = "TLS is not part of this version";
const NO_STREAMS: &str = "streams are not part of this version";
const NO_ACL: &str = "access control lists are not part of this version";
const NO_SCRIPTS: &str = "scripting is not part of this version";
const NO_MODULES: &str = "modules are not part of this version";
