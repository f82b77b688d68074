//! What is kept of a command that ran: counts, statistics by command, the logs of remarkable ones, latency
//! events. The same for a command alone, in a transaction, and at the end of its wait. It runs nothing.

use larder_base::time::Millis;
use larder_commands::{Args, Flags};

use crate::client::Client;
use crate::clock::Ticks;
use crate::registry::Entry;
use crate::shared::Server;
use crate::stats::{CommandStats, Stats};

use crate::blocking::Waiter;

/// Where it is written.
pub struct Books<'b> {
    /// For the logs.
    pub server: &'b Server,
    /// The worker's counts.
    pub stats: &'b mut Stats,
    /// The worker's statistics by command.
    pub commands: &'b mut [CommandStats],
    /// The moment of this loop turn.
    pub now: Millis,
}

/// A command that ran.
pub struct Ran<'r> {
    /// Which.
    pub entry: Entry,
    /// The request.
    pub args: Args<'r>,
    /// How long it took.
    pub nanos: u64,
    /// Its reply is an error.
    pub failed: bool,
    /// Its reply.
    pub reply: &'r [u8],
}

impl Books<'_> {
    /// Enters a command of this client.
    #[inline]
    pub fn enter(&mut self, client: &Client, ran: &Ran<'_>) {
        self.stats.commands += 1;
        if let Some(stats) = self.commands.get_mut(ran.entry.number(ran.args)) {
            stats.note(ran.nanos, ran.failed, self.server.latency.is_tracking());
        }
        if ran.failed {
            self.stats.errors += 1;
            let text = ran.reply.get(1..).unwrap_or(&[]);
            self.server.count_error(&String::from_utf8_lossy(text));
        }
        let flags = ran.entry.command.flags;
        if flags.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        let usec = i64::try_from(ran.nanos / 1000).unwrap_or(i64::MAX);
        let [slow, requests, replies] = &self.server.logs;
        let asked: usize = ran.args.all().iter().map(|arg| arg.len()).sum();
        let sizes = [usec, to_i64(asked), to_i64(ran.reply.len())];
        for (log, amount) in [slow, requests, replies].into_iter().zip(sizes) {
            if log.wants(amount) {
                let short = crate::commandlog::shortened(ran.entry.command.name, ran.args);
                let peer = client.stream.peer().to_string();
                log.add(self.now.0 / 1000, amount, short, peer, client.name.clone());
            }
        }
        let event = if flags.has(Flags::FAST) { "fast-command" } else { "command" };
        self.server.latency.note(event, usec / 1000, self.now);
    }

    /// Enters a command whose wait is over; its reply begins at `start` of what is to be sent. A wait is no
    /// delay that somebody would have to look into, but it is time that the command took.
    pub fn end_wait(&mut self, client: &mut Client, waiter: &Waiter, start: usize) {
        let slices: Vec<&[u8]> = waiter.args.iter().map(Vec::as_slice).collect();
        let reply = client.out.get(start..).unwrap_or(&[]);
        let ran = Ran {
            entry: waiter.entry,
            args: Args::new(&slices),
            nanos: Ticks::now().nanos_since(waiter.begun),
            failed: reply.first() == Some(&b'-'),
            reply,
        };
        self.enter(client, &ran);
        let [.., commands] = &mut client.totals;
        *commands += 1;
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
