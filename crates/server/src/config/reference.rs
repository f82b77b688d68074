//! Texts made from the table: the reference page, and what `--help` and `--version` print. It must never know a value
//! in use.

use std::fmt::Write;

use super::options::{self, Change, Kind, Row, Support};

/// What `larder --version` prints.
pub fn version() -> String {
    format!("Larder server v={} bits={}\n", env!("CARGO_PKG_VERSION"), usize::BITS)
}

/// What `larder --help` prints.
pub fn help() -> String {
    "Usage: larder [file] [-] [--option value ...]\n       \
     larder --version\n       larder --help\n\n\
     Reads the file, then the standard input if '-' is given, then the options; later ones win.\n\
     Options have the names of redis.conf.\n\nExamples:\n  \
     larder                            all defaults: port 6379 of this host only\n  \
     larder /etc/larder.conf --loglevel verbose\n  \
     larder --port 7000 --maxmemory 1gb --maxmemory-policy allkeys-lru\n  \
     echo 'port 7000' | larder -\n"
        .to_owned()
}

/// The page `docs/configuration.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Made from the option table by a test; change the table, not this page. -->\n\n\
         Larder reads `redis.conf`: `larder [file] [-] [--option value ...]`; a later line wins. Every option of \
         Redis 7.0 and Valkey 8 is known.\n\n\
         - **works**: as described.\n\
         - **no effect**: accepted, checked and shown, and a line in the log says that nothing obeys it.\n\
         - **refused**: only the default is accepted, because the feature behind it is not there.\n\n\
         Defaults are those of Redis 7.0 but for these: `bind` is the own host only; `save` is empty; `lazyfree-*`, \
         `replica-lazy-flush` are `yes` as in Valkey 8; \
         `syslog-ident` is `larder`; `dir` is shown as typed. `maxmemory-clients` and the output limit of normal \
         clients stay off as in Redis, so that no client is closed by a limit that nobody set. `databases` ends at \
         16.\n\n\
         Lines that are no options: `include` (nested 16 deep; the last part of the path may hold a pattern), \
         `rename-command NAME NEW` (an empty name takes the command away). `user` is accepted for the \
         user `default` with all rights only, as CONFIG REWRITE of Redis writes it (its password comes from \
         `requirepass`); `loadmodule` and `sentinel` are refused. Values with control characters are refused, passwords apart. CONFIG SET cannot change options marked *at start*, \
         and those marked *protected* only if `enable-protected-configs` allows it.\n",
    );
    for (theme, rows) in options::THEMES {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n## {theme}\n\n| Option | Takes | Default | Change | Here | Meaning |\n|---|---|---|---|---|---|\n"
        );
        for row in *rows {
            page.push_str(&table_row(row));
        }
    }
    page
}

fn table_row(row: &Row) -> String {
    let alias = row.alias.map(|alias| format!(" (`{alias}`)")).unwrap_or_default();
    let default =
        if row.default.is_empty() { "empty".to_owned() } else { format!("`{}`", row.default) };
    let change = match row.change {
        Change::Mutable => "any time",
        Change::Immutable => "at start",
        Change::Protected => "protected",
    };
    let hidden = if row.hidden { ", hidden" } else { "" };
    let here = match row.support {
        Support::Supported => "works".to_owned(),
        Support::Harmless(reason) => format!("no effect: {reason}"),
        Support::Later(reason) => format!("refused: {reason}"),
    };
    let (name, takes, about) = (row.name, takes(row.kind), row.about);
    format!("| `{name}`{alias} | {takes} | {default} | {change}{hidden} | {here} | {about} |\n")
}

fn takes(kind: Kind) -> String {
    match kind {
        Kind::Bool => "yes, no".to_owned(),
        Kind::Integer(low, high) => format!("integer, {low} to {high}"),
        Kind::Octal(low, high) => format!("octal, {low:o} to {high:o}"),
        Kind::Memory(low, high) => format!("memory, {low} to {high}"),
        Kind::MemoryOrPercent => "memory, or 0% to 100%".to_owned(),
        Kind::Text | Kind::Title => "text".to_owned(),
        Kind::Secret => "secret text".to_owned(),
        Kind::Choice(names) => names.join(", "),
        Kind::Words(names) => format!("some of {}", names.join(", ")),
        Kind::Save => "pairs of seconds and changes".to_owned(),
        Kind::Bind => "up to 16 addresses".to_owned(),
        Kind::OutputLimits => "class, memory, memory, seconds".to_owned(),
        Kind::OomScores => "three integers, -2000 to 2000".to_owned(),
        Kind::KeyspaceEvents => "letters of `Ag$lshzxeKEtmdn`".to_owned(),
        Kind::Percentiles => "numbers, 0 to 100".to_owned(),
        Kind::ReplicaOf => "host and port, or `no one`".to_owned(),
    }
}
