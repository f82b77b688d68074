//! How often each command and each of its options was compared, and how often the reply was an error. A
//! command of the groups that was never compared fails the run. It knows nothing of connections.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use larder_protocol::response::Value;

use super::event::name;
use crate::process::Server;

/// The groups of commands that the test is about, as COMMAND DOCS names them.
pub const GROUPS: &[&str] = &[
    "string",
    "generic",
    "hash",
    "list",
    "set",
    "sorted-set",
    "bitmap",
    "hyperloglog",
    "geo",
    "pubsub",
    "transactions",
    "connection",
];

/// Commands of these groups that are not compared, and why.
const ABSENT: &[(&str, &str)] = &[
    ("DUMP", "comes with persistence"),
    ("RESTORE", "comes with persistence"),
    ("MIGRATE", "comes with the cluster"),
    ("PFDEBUG", "the inside of another program"),
    ("PFSELFTEST", "the inside of another program"),
];

#[derive(Default, Clone, Copy)]
struct Count {
    compared: u64,
    errors: u64,
}

#[derive(Default)]
struct Row {
    all: Count,
    options: HashMap<Vec<u8>, Count>,
}

/// The table.
#[derive(Default)]
pub struct Coverage {
    rows: HashMap<String, Row>,
    /// Replies compared, one a command sent.
    pub compared: usize,
}

impl Coverage {
    /// Announces an option, so that its absence is seen.
    pub fn expect(&mut self, command: &str, option: &str) {
        let row = self.rows.entry(command.to_owned()).or_default();
        row.options.entry(option.as_bytes().to_vec()).or_default();
    }

    /// Counts a reply, by the oracle's frame.
    pub fn count(&mut self, words: &[Vec<u8>], frame: &[u8]) {
        let error = u64::from(frame.first() == Some(&b'-'));
        let name = name(words);
        let row = match self.rows.get_mut(&name) {
            Some(row) => row,
            None => self.rows.entry(name).or_default(),
        };
        row.all.compared += 1;
        row.all.errors += error;
        for word in words.iter().skip(1) {
            if let Some(option) = row.options.get_mut(word) {
                option.compared += 1;
                option.errors += error;
            }
        }
    }

    /// Adds another run's table.
    pub fn add(&mut self, other: Coverage) {
        self.compared += other.compared;
        for (name, row) in other.rows {
            let mine = self.rows.entry(name).or_default();
            mine.all.compared += row.all.compared;
            mine.all.errors += row.all.errors;
            for (option, count) in row.options {
                let mine = mine.options.entry(option).or_default();
                mine.compared += count.compared;
                mine.errors += count.errors;
            }
        }
    }

    /// Prints the table; returns what was never compared with success.
    pub fn print(&self, required: &[String]) -> Vec<String> {
        let mut missing = Vec::new();
        let share = |count: Count| 100.0 * count.errors as f64 / count.compared.max(1) as f64;
        println!(
            "{:22} {:>9} {:>7}  options (replies, of these errors)",
            "command", "replies", "errors"
        );
        let rows: BTreeMap<_, _> = self.rows.iter().collect();
        for (name, row) in rows {
            let options: BTreeMap<_, _> = row.options.iter().collect();
            let mut text = String::new();
            for (option, count) in options {
                let option = String::from_utf8_lossy(option);
                text.push_str(&format!(" {option} {} {:.0}%", count.compared, share(*count)));
                if count.compared == count.errors {
                    missing.push(format!("{name} {option}"));
                }
            }
            println!("{name:22} {:9} {:6.1}% {text}", row.all.compared, share(row.all));
        }
        for name in required {
            let met = self.rows.get(name).is_some_and(|row| row.all.compared > row.all.errors);
            if !met && !missing.contains(name) {
                missing.push(name.clone());
            }
        }
        missing
    }
}

/// Every command of these groups that the oracle has.
pub fn required(oracle: &Server, groups: &[&str]) -> Result<Vec<String>> {
    let mut client = oracle.connect()?;
    client.call(&["HELLO", "3"])?;
    let Value::Map(docs) = client.call(&["COMMAND", "DOCS"])? else {
        anyhow::bail!("COMMAND DOCS is no map");
    };
    let mut names = Vec::new();
    for (name, doc) in &docs {
        let Value::Map(fields) = doc else { continue };
        let field = |wanted: &[u8]| {
            let found = fields.iter().find(|(key, _)| key.as_bytes() == Some(wanted));
            found.map(|(_, value)| value)
        };
        let group =
            field(b"group").and_then(Value::as_bytes).context("a command without a group")?;
        if !groups.iter().any(|wanted| wanted.as_bytes() == group) {
            continue;
        }
        let parts: Vec<&Value> = match field(b"subcommands") {
            Some(Value::Map(parts)) => parts.iter().map(|(name, _)| name).collect(),
            _ => vec![name],
        };
        for part in parts {
            let text = String::from_utf8_lossy(part.as_bytes().unwrap_or_default());
            let text = text.to_ascii_uppercase();
            if !ABSENT.iter().any(|(absent, _)| *absent == text) {
                names.push(text);
            }
        }
    }
    Ok(names)
}
