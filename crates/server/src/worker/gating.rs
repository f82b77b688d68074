//! Connections whose output waits at the commit gate: what their commands saw or did is not yet as safe as the
//! configuration promises. They are neither read nor run meanwhile. It knows no files.

use larder_cluster::replication::Offset;
use larder_commands::{Flags, Run};
use larder_net::{Interest, Token};
use parking_lot::MutexGuard;

use super::{Worker, WorkerState, seats};
use crate::client::Client;
use crate::registry::Entry;
use crate::shared::Server;

/// The waiting ones of a worker.
#[derive(Default)]
pub(super) struct Gated {
    tokens: Vec<u64>,
    /// How often the gate had turned when they were looked at.
    turns: u32,
}

/// Notes what the output of a command depends on that has just run, or was refused; `before` is where the journal
/// ended before it.
#[inline]
pub(super) fn note(server: &Server, client: &mut Client, entry: Option<Entry>, before: Offset) {
    if !server.gate.is_closing() {
        return;
    }
    let Some(entry) = entry else { return };
    let flags = entry.command.flags;
    let executes = entry.control.is_some() && entry.command.name == "exec";
    if !matches!(entry.command.run, Run::Data(_)) && !flags.has(Flags::WRITE) && !executes {
        return;
    }
    let end = server.journal.end();
    client.depends.seen = end;
    // Where nothing was recorded, nothing was changed: a refusal above all is not held back.
    if (flags.has(Flags::WRITE) || executes) && end != before {
        client.depends.wrote = end;
    }
}

impl Worker {
    /// Whether the output of a connection must wait; it is entered among those who do, then.
    #[inline]
    pub(super) fn must_wait(
        &mut self,
        state: &mut MutexGuard<'_, WorkerState>,
        token: u64,
    ) -> bool {
        let server = &self.server;
        if !server.gate.is_closing() {
            return false;
        }
        let WorkerState { clients, .. } = &mut **state;
        let Some(client) = seats::find(clients, token) else { return true };
        if client.gated {
            return true;
        }
        if client.out.is_empty() || server.gate.is_open(client.depends, self.now) {
            return false;
        }
        server.gate.park();
        // Once more: whoever reaches something now sees that somebody waits.
        if server.gate.is_open(client.depends, self.now) {
            server.gate.unpark();
            return false;
        }
        client.gated = true;
        self.gated.tokens.push(token);
        true
    }

    /// Lets those pass for whom the gate has opened.
    pub(super) fn pass_gate(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        if self.gated.tokens.is_empty() || self.gated.turns == self.server.gate.turns() {
            return;
        }
        self.gated.turns = self.server.gate.turns();
        let mut tokens = std::mem::take(&mut self.gated.tokens);
        tokens.retain(|token| {
            let WorkerState { clients, .. } = &mut **state;
            let Some(client) = seats::find(clients, *token) else { return false };
            if !self.server.gate.is_open(client.depends, self.now) {
                return true;
            }
            client.gated = false;
            self.server.gate.unpark();
            self.dirty.push(*token);
            if !client.input.is_empty() && !client.pending && !client.batched {
                client.pending = true;
                self.again.push(*token);
            }
            false
        });
        self.gated.tokens = tokens;
    }

    /// A connection that waits has sent more: its socket would be ready all the time.
    pub(super) fn look_away(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        let WorkerState { clients, .. } = &mut **state;
        let Some(client) = seats::find(clients, token) else { return };
        if client.interest != Interest::Hangup {
            client.interest = Interest::Hangup;
            if self.reactor.modify(&client.stream, Token(token), Interest::Hangup).is_err() {
                self.close(state, token);
            }
        }
    }
}
