//! The data commands: one file a family, each command a row of the table, a function and its tests.
//! Handlers see their arguments, the locked keys and the reply; never a connection, a thread, a file
//! or the server's state.

pub mod args;
pub mod bitfield;
pub mod bitmap;
pub mod context;
mod deadline;
pub mod digest;
pub mod dump;
pub mod effects;
pub mod expire;
pub mod fault;
pub mod generic;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod lcs;
pub mod list;
#[cfg(test)]
mod models;
mod pops;
pub mod set;
pub mod sort;
pub mod sorted_set;
pub mod string;
mod support;
pub mod table;
#[cfg(test)]
mod testing;

pub use args::Args;
pub use context::{Context, Outcome, Wait};
pub use effects::Effects;
pub use fault::Fault;
pub use table::{Begin, Command, Find, Flags, Group, Handler, KeySpec, Run};

/// All data commands.
pub fn families() -> impl Iterator<Item = &'static Command> {
    let families: &[&'static [Command]] = &[
        bitfield::COMMANDS,
        bitmap::COMMANDS,
        dump::COMMANDS,
        expire::COMMANDS,
        generic::COMMANDS,
        geo::COMMANDS,
        hash::COMMANDS,
        hyperloglog::COMMANDS,
        lcs::COMMANDS,
        list::COMMANDS,
        set::COMMANDS,
        sorted_set::COMMANDS,
        sort::COMMANDS,
        string::COMMANDS,
    ];
    families.iter().copied().flatten()
}
