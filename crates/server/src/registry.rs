//! All commands by name: the data commands' rows and the server's own, found in one look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use larder_commands::{Args, Command};

use crate::control::{self, ControlCommand};

/// Names are ours and few: a multiplicative hash is enough, and no attacker chooses them.
#[derive(Default)]
pub struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
}

/// The longest command name.
const NAME_MAX: usize = 32;

/// A command as the server runs it.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its row.
    pub command: &'static Command,
    /// The server's function, for control commands.
    pub control: Option<&'static ControlCommand>,
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
    by_name: HashMap<&'static [u8], Entry, BuildHasherDefault<NameHasher>>,
    numbers: usize,
}

impl Default for Registry {
    fn default() -> Registry {
        let mut by_name = HashMap::default();
        let data = larder_commands::families().map(|command| (command, None));
        let own = control::commands().map(|control| (&control.command, Some(control)));
        let mut number = 0;
        for (command, control) in data.chain(own) {
            by_name.insert(command.name.as_bytes(), Entry { command, control, number });
            number += 1 + command.subcommands.len();
        }
        Registry { by_name, numbers: number }
    }
}

impl Registry {
    /// The command of this name, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<Entry> {
        let mut lower = [0u8; NAME_MAX];
        let room = lower.get_mut(..name.len())?;
        room.copy_from_slice(name);
        room.make_ascii_lowercase();
        self.by_name.get(&*room).copied()
    }

    /// All commands, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_name.values()
    }

    /// Positions in per-command statistics.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// Every command and subcommand that can run, with its full name (`config|get`) and its position in
    /// per-command statistics; by name.
    pub fn rows(&self) -> Vec<(String, usize)> {
        let mut rows = Vec::with_capacity(self.numbers);
        for entry in self.by_name.values() {
            rows.push((entry.command.name.to_owned(), entry.number));
            for (at, sub) in entry.command.subcommands.iter().enumerate() {
                rows.push((format!("{}|{}", entry.command.name, sub.name), entry.number + 1 + at));
            }
        }
        rows.sort();
        rows
    }
}
