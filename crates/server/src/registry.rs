//! All commands by name: the data commands' rows and the server's own, found in one look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use larder_commands::Command;

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
    /// Position in per-command statistics.
    pub number: usize,
}

/// See the head of this file.
pub struct Registry {
    by_name: HashMap<&'static [u8], Entry, BuildHasherDefault<NameHasher>>,
}

impl Default for Registry {
    fn default() -> Registry {
        let mut by_name = HashMap::default();
        let data = larder_commands::families().map(|command| (command, None));
        let own = control::commands().map(|control| (&control.command, Some(control)));
        for (number, (command, control)) in data.chain(own).enumerate() {
            by_name.insert(command.name.as_bytes(), Entry { command, control, number });
        }
        Registry { by_name }
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

    /// Number of commands.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
