//! What leaves: every connection that has something to send is written once a turn. The one place where
//! output becomes sendable.

use larder_net::{Interest, Token, WriteOutcome};
use parking_lot::MutexGuard;

use super::{Worker, WorkerState, seats};

/// Buffers larger than this are given back when empty.
const KEEP_BUFFER: usize = 64 * 1024;
/// The same while keys must go for the memory.
const KEEP_SMALL: usize = 4 * 1024;
/// Empty buffers kept for reuse.
const SPARE_MAX: usize = 64;

impl Worker {
    /// Keeps an empty buffer for the next who needs one; a large one only while memory is not short.
    #[inline]
    fn keep(&mut self, spare: Vec<u8>) {
        let fits = spare.capacity() <= KEEP_SMALL
            || (spare.capacity() <= KEEP_BUFFER && !self.server.is_out_of_memory());
        if fits && self.spare_out.len() < SPARE_MAX {
            self.spare_out.push(spare);
        }
    }

    /// Writes every connection that has something to send, once.
    pub(super) fn flush(&mut self, state: &mut MutexGuard<'_, WorkerState>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for token in dirty.drain(..) {
            self.write(state, token);
        }
        self.dirty = dirty;
    }

    fn write(&mut self, state: &mut MutexGuard<'_, WorkerState>, token: u64) {
        let WorkerState { clients, stats, .. } = &mut **state;
        let Some(client) = seats::find(clients, token) else { return };
        if client.overflown || self.limits.output_exceeded(client, self.now) {
            stats.dropped += 1;
            let id = client.id;
            crate::log::warning(&format!("Client {id} is closed: it does not read its output"));
            return self.close(state, token);
        }
        if self.must_wait(state, token) {
            return;
        }
        let WorkerState { clients, stats, .. } = &mut **state;
        let Some(client) = seats::find(clients, token) else { return };
        if !client.out.is_empty() {
            let unsent = client.out.get(client.sent..).unwrap_or(&[]);
            match client.stream.write(unsent) {
                WriteOutcome::Bytes(count) => {
                    stats.bytes_out += count as u64;
                    stats.writes += 1;
                    let [_, sent, _] = &mut client.totals;
                    *sent += count as u64;
                    client.sent += count;
                    if client.sent == client.out.len() {
                        client.sent = 0;
                        client.above_soft = None;
                        client.out.clear();
                        let spare = std::mem::take(&mut client.out);
                        self.keep(spare);
                    } else {
                        // Moved up only when that costs less than what was sent.
                        if client.sent > client.out.len() / 2 {
                            client.out.drain(..client.sent);
                            client.sent = 0;
                        }
                        if client.above_soft.is_some() && !self.above_soft.contains(&token) {
                            self.above_soft.push(token);
                        }
                    }
                }
                WriteOutcome::Failed(_) => return self.close(state, token),
            }
        }
        let takes_replies = client.has_taken_replies(&self.server.unread);
        let wanted = match (client.out.is_empty(), takes_replies) {
            (true, _) => Interest::Read,
            (false, true) => Interest::Both,
            // It is read again once it has taken its replies.
            (false, false) => Interest::Write,
        };
        if wanted != client.interest {
            client.interest = wanted;
            if self.reactor.modify(&client.stream, Token(token), wanted).is_err() {
                return self.close(state, token);
            }
        }
        if client.behind && takes_replies {
            client.behind = false;
            if !client.pending {
                client.pending = true;
                self.again.push(token);
            }
        }
        self.limits.weigh(&self.server, client);
        if client.closing && client.out.is_empty() {
            self.close(state, token);
        }
    }
}
