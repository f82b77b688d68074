//! The server's own commands: connection, server, pub/sub, transactions. A row and a function each, in
//! the file of their theme; they see the session and, in the exclusive section, everybody's.

pub mod client;
pub mod command;
pub mod config;
pub mod connection;
pub mod debug;
mod docs;
pub mod latency;
pub mod memory;
pub mod observe;
pub mod persistence;
pub mod pubsub;
pub mod replication;
pub mod server;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use larder_base::time::Millis;
use larder_commands::{Args, Command, Fault};
use larder_protocol::reply::Reply;

use crate::blocking::Waiter;
use crate::client::Client;
use crate::clock::Ticks;
use crate::dispatch::{self, Others, Turn};
use crate::pubsub::Address;
use crate::registry::Entry;

/// The surroundings of one control command.
pub struct Session<'s, 'w, 'g> {
    /// The worker's part.
    pub turn: &'s mut Turn<'w>,
    /// Who asks.
    pub client: &'s mut Client,
    /// The client's token on this worker.
    pub token: u64,
    /// All workers' states, in the exclusive section; the asking client is not in them.
    pub others: Option<&'s mut Others<'g>>,
    /// It is part of a transaction, more of which may follow.
    pub in_exec: bool,
}

impl Session<'_, '_, '_> {
    /// The reply being written.
    pub fn reply(&mut self) -> Reply<'_> {
        Reply::new(&mut self.client.out, self.client.version)
    }
}

/// The function behind a control command.
pub type ControlFn =
    for<'s, 'w, 'g, 'x, 'b> fn(&'x mut Session<'s, 'w, 'g>, Args<'b>) -> Result<(), Fault>;

/// A control command: its row, its function, and whether it runs in the exclusive section.
pub struct ControlCommand {
    /// The row.
    pub command: Command,
    /// The function.
    pub run: ControlFn,
    /// Whether a request needs the exclusive section.
    pub exclusive: fn(Args<'_>) -> bool,
}

impl ControlCommand {
    /// One that runs on its own worker alone.
    pub const fn new(command: Command, run: ControlFn) -> ControlCommand {
        ControlCommand { command, run, exclusive: |_| false }
    }

    /// One that runs in the exclusive section.
    pub const fn exclusive(command: Command, run: ControlFn) -> ControlCommand {
        ControlCommand { command, run, exclusive: |_| true }
    }

    /// One of which only some requests run in the exclusive section.
    pub const fn sometimes_exclusive(
        command: Command,
        run: ControlFn,
        exclusive: fn(Args<'_>) -> bool,
    ) -> ControlCommand {
        ControlCommand { command, run, exclusive }
    }
}

/// All control commands.
pub fn commands() -> impl Iterator<Item = &'static ControlCommand> {
    [
        connection::COMMANDS,
        client::COMMANDS,
        server::COMMANDS,
        command::COMMANDS,
        debug::COMMANDS,
        latency::COMMANDS,
        memory::COMMANDS,
        observe::COMMANDS,
        persistence::COMMANDS,
        pubsub::COMMANDS,
        replication::COMMANDS,
        crate::transactions::COMMANDS,
    ]
    .into_iter()
    .flatten()
}

/// What a RESP2 connection may do while it is subscribed.
pub fn allowed_when_subscribed(name: &str) -> bool {
    matches!(
        name,
        "subscribe"
            | "unsubscribe"
            | "psubscribe"
            | "punsubscribe"
            | "ssubscribe"
            | "sunsubscribe"
            | "ping"
            | "quit"
            | "reset"
    )
}

/// Runs a control command; what is wrong with the choice of a subcommand is found here, for all of them.
///
/// # Errors
/// The command's own, and those of an unknown subcommand and of its number of arguments.
pub fn run(
    session: &mut Session<'_, '_, '_>,
    control: &'static ControlCommand,
    args: Args<'_>,
) -> Result<(), Fault> {
    let command = &control.command;
    if !command.subcommands.is_empty() && args.len() > 1 {
        let Some((_, sub)) = command.subcommand(args) else {
            return Err(unknown_subcommand(args));
        };
        if !sub.fits(args.len()) {
            return Err(Fault::arity(&format!("{}|{}", command.name, sub.name)));
        }
        if sub.name == "help" {
            help(session, command);
            return Ok(());
        }
    }
    (control.run)(session, args)
}

/// A client begins to wait for something other than a key.
fn waiter(
    session: &mut Session<'_, '_, '_>,
    entry: Entry,
    args: Args<'_>,
    deadline: Option<Millis>,
) -> Arc<Waiter> {
    let waiter = Arc::new(Waiter {
        address: Address { worker: session.turn.worker, token: session.token },
        entry,
        args: dispatch::owned(args),
        db: session.client.db,
        version: session.client.version,
        deadline,
        begun: Ticks::now(),
        ended: AtomicBool::new(false),
        serving: parking_lot::Mutex::default(),
        keys: Vec::new(),
    });
    session.client.waiting = Some(Arc::clone(&waiter));
    waiter
}

/// The name of the subcommand that a request chose; `run` has seen that there is one.
fn named(args: Args<'_>, rows: &'static [Command]) -> &'static str {
    rows.iter().find(|row| args.is(1, row.name)).map_or("", |row| row.name)
}

/// The error for a subcommand that does not exist.
fn unknown_subcommand(args: Args<'_>) -> Fault {
    let name = String::from_utf8_lossy(args.at(0)).to_ascii_uppercase();
    let sub: String = String::from_utf8_lossy(args.at(1)).chars().take(128).collect();
    Fault::new(format!("ERR unknown subcommand '{sub}'. Try {name} HELP."))
}

/// The error for a subcommand with words it does not take.
fn bad_subcommand(args: Args<'_>) -> Fault {
    let name = String::from_utf8_lossy(args.at(0)).to_ascii_uppercase();
    let sub: String = String::from_utf8_lossy(args.at(1)).chars().take(128).collect();
    Fault::new(format!(
        "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."
    ))
}

/// The answer to HELP: the subcommands with their arguments and what they are for.
fn help(session: &mut Session<'_, '_, '_>, command: &Command) {
    let subs = command.subcommands.iter().filter(|sub| sub.name != "help");
    help_of(session, command.name, subs.map(|sub| (sub.name, sub.usage, sub.summary)));
}

/// The same for subcommands that are no rows of the table: name, arguments, purpose.
fn help_of(
    session: &mut Session<'_, '_, '_>,
    name: &str,
    subs: impl Iterator<Item = (&'static str, &'static str, &'static str)> + Clone,
) {
    let name = name.to_ascii_uppercase();
    let mut reply = session.reply();
    reply.array(subs.clone().count() * 2 + 3);
    reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for (sub, usage, summary) in subs {
        reply.simple(format!("{} {usage}", sub.to_ascii_uppercase()).trim_end());
        reply.simple(&format!("    {summary}"));
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
