//! All commands by name: the data commands' rows and the server's own, found in one look-up.

use std::collections::HashSet;

use larder_commands::{Args, Command, Group};

use crate::control::{self, ControlCommand};
use crate::dispatch;

/// Places of the hash table of names, a power of two: several times the names, so that most look-ups
/// find theirs at the first place.
const PLACES: usize = 2048;
/// An empty place.
const NOBODY: u16 = u16::MAX;

/// A command as the server runs it.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its row.
    pub command: &'static Command,
    /// The name that it is found by.
    called: &'static str,
    /// The server's function, for control commands.
    pub control: Option<&'static ControlCommand>,
    /// A data command whose only key is its first argument.
    pub one_key: bool,
    /// Its value is a collection, which lies apart from its record.
    pub collection: bool,
    /// Position in per-command statistics; those of its subcommands follow.
    number: usize,
}

impl Entry {
    /// Position of a request in per-command statistics: its subcommand's, if it names one.
    #[inline]
    pub fn number(&self, args: Args<'_>) -> usize {
        if self.command.subcommands.is_empty() {
            return self.number;
        }
        self.command.subcommand(args).map_or(self.number, |(at, _)| self.number + 1 + at)
    }
}

/// See the head of this file.
pub struct Registry {
    entries: Vec<Entry>,
    /// Positions in `entries`, by open addressing.
    places: Box<[u16]>,
    numbers: usize,
}

impl Registry {
    /// All commands, some under other names, or under none where that is empty (`rename-command`).
    pub fn new(renamed: &[(String, String)]) -> Registry {
        let mut registry =
            Registry { entries: Vec::new(), places: vec![NOBODY; PLACES].into(), numbers: 0 };
        let data = larder_commands::families().map(|command| (command, None));
        let own = control::commands().map(|control| (&control.command, Some(control)));
        for (command, control) in data.chain(own) {
            let called = match called(renamed, command.name) {
                name if name == command.name => command.name,
                // Rows live as long as the program; so must the names that they are found by.
                name => &*name.to_owned().leak(),
            };
            let one_key = control.is_none() && dispatch::has_one_key(command);
            let collection = matches!(
                command.group,
                Group::Hash | Group::List | Group::Set | Group::SortedSet | Group::Geo
            );
            let number = registry.numbers;
            registry.add(Entry { command, called, control, one_key, collection, number });
            registry.numbers += 1 + command.subcommands.len();
        }
        registry
    }

    fn add(&mut self, entry: Entry) {
        if entry.called.is_empty() {
            return;
        }
        let number = u16::try_from(self.entries.len()).unwrap_or(NOBODY);
        let mut at = place_of(entry.called.as_bytes());
        while self.places.get(at).is_some_and(|taken| *taken != NOBODY) {
            at = (at + 1) % PLACES;
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = number;
        }
        self.entries.push(entry);
    }

    /// The command of this name, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<Entry> {
        let mut at = place_of(name);
        loop {
            // An empty place ends the search, and most places are empty.
            let entry = self.entries.get(usize::from(*self.places.get(at)?))?;
            if entry.called.as_bytes().eq_ignore_ascii_case(name) {
                return Some(*entry);
            }
            at = (at + 1) % PLACES;
        }
    }

    /// A command, or a subcommand by its full name (`config|get`); before it the name of its parent, if any.
    pub fn find_row(&self, name: &[u8]) -> Option<(&'static str, &'static Command)> {
        let Some(at) = name.iter().position(|byte| *byte == b'|') else {
            return Some(("", self.find(name)?.command));
        };
        let (parent, sub) = name.split_at_checked(at)?;
        let parent = self.find(parent)?.command;
        let wanted = sub.get(1..)?;
        let is = |row: &&'static Command| wanted.eq_ignore_ascii_case(row.name.as_bytes());
        Some((parent.name, parent.subcommands.iter().find(is)?))
    }

    /// All commands, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Positions in per-command statistics.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// Every command and subcommand that can run, with its full name (`config|get`) and its position in
    /// per-command statistics; by name.
    pub fn rows(&self) -> Vec<(String, usize)> {
        let mut rows = Vec::with_capacity(self.numbers);
        for entry in &self.entries {
            rows.push((entry.command.name.to_owned(), entry.number));
            for (at, sub) in entry.command.subcommands.iter().enumerate() {
                rows.push((format!("{}|{}", entry.command.name, sub.name), entry.number + 1 + at));
            }
        }
        rows.sort();
        rows
    }
}

/// What a command is called after these lines, each of which goes by the names that the lines before it left.
fn called<'n>(renamed: &'n [(String, String)], name: &'n str) -> &'n str {
    renamed.iter().fold(name, |name, (from, to)| if name == from { to } else { name })
}

/// Whether the `rename-command` lines (in lower case) can be followed.
///
/// # Errors
/// For the first line that names no command, or takes a name that another command has.
pub fn check(renamed: &[(String, String)]) -> Result<(), String> {
    let registry = Registry::new(&[]);
    let mut names: HashSet<&str> = registry.iter().map(|entry| entry.command.name).collect();
    for (from, to) in renamed {
        let reason = if !names.remove(from.as_str()) {
            "No such command in rename-command"
        } else if !to.is_empty() && !names.insert(to) {
            "Target command name already exists"
        } else {
            continue;
        };
        return Err(format!(
            "\n*** FATAL CONFIG FILE ERROR (Larder {}) ***\n>>> 'rename-command {from} {to}'\n{reason}",
            env!("CARGO_PKG_VERSION")
        ));
    }
    Ok(())
}

/// Where the search for a name begins. Names are ours and few, and no attacker chooses them: length, first
/// and last bytes tell nearly all apart. Letters of both cases give the same.
#[inline]
fn place_of(name: &[u8]) -> usize {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let ends = if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>())
    {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
    } else {
        name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    let mixed = ((ends | FOLD) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The highest bits are the best mixed.
    usize::try_from(mixed >> (64 - PLACES.trailing_zeros())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_renamed_line_by_line() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let lines = [pair("get", "fetch"), pair("set", "get"), pair("fetch", "f"), pair("del", "")];
        assert_eq!(check(&lines), Ok(()));
        let registry = Registry::new(&lines);
        let name = |called: &str| registry.find(called.as_bytes()).map(|entry| entry.command.name);
        assert_eq!((name("f"), name("GET"), name("fetch")), (Some("get"), Some("set"), None));
        assert_eq!((name("del"), name("")), (None, None));
        assert!(check(&[pair("gett", "x")]).is_err_and(|text| text.ends_with("rename-command")));
        assert!(check(&[pair("get", "set")]).is_err_and(|text| text.ends_with("already exists")));
    }

    #[test]
    fn every_name_is_found_in_any_case_and_nearly_at_once() {
        let registry = Registry::new(&[]);
        let mut steps = 0;
        for entry in registry.iter() {
            let name = entry.command.name;
            for name in [name.to_owned(), name.to_uppercase()] {
                let found = registry.find(name.as_bytes()).map(|entry| entry.command.name);
                assert_eq!(found, Some(entry.command.name));
            }
            let mut at = place_of(name.as_bytes());
            while registry.entries.get(usize::from(registry.places[at])).unwrap().command.name
                != name
            {
                at = (at + 1) % PLACES;
                steps += 1;
            }
        }
        assert!(steps < registry.entries.len() / 4, "{steps} extra steps");
        for stranger in ["", "g", "gets", "get\0", "config|get", &"x".repeat(500)] {
            assert!(registry.find(stranger.as_bytes()).is_none(), "{stranger}");
        }
    }
}
