//! Who may come in, and what is held back: limits on connections, protected mode, CLIENT PAUSE.

use std::sync::atomic::Ordering;

use larder_base::time::Millis;
use larder_commands::{Args, Flags};
use larder_net::Stream;

use crate::client::Client;
use crate::registry::Entry;
use crate::shared::Server;

/// A connection that may stay.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// Its number.
    pub id: u64,
    /// It has yet to show the password, and is counted as one of those.
    pub stranger: bool,
}

impl Server {
    /// Whether CLIENT PAUSE holds this request back. What would be refused anyway is refused at once.
    pub fn holds(
        &self,
        client: &Client,
        entry: Option<Entry>,
        args: Args<'_>,
        now: Millis,
    ) -> bool {
        let Some(Entry { command, .. }) = entry else { return false };
        let refused = !command.fits(args.len())
            || !(client.authenticated || command.flags.has(Flags::NO_AUTH));
        // Who would end the pause must not have to wait for its end.
        if refused || (command.name == "client" && args.is(1, "UNPAUSE")) {
            return false;
        }
        let may_write = |flags: Flags| flags.has(Flags::WRITE) || flags.has(Flags::MAY_REPLICATE);
        let queued = || client.multi.iter().flat_map(|multi| &multi.queue);
        let writes = may_write(command.flags)
            || command.name == "exec"
                && queued()
                    .filter_map(|queued| self.registry.find(queued.first()?))
                    .any(|entry| may_write(entry.command.flags));
        self.is_paused(writes, now)
    }

    /// Whether a connection may stay: answers and drops it if not.
    pub fn admit(&self, stream: &Stream) -> Option<Admitted> {
        let config = self.config();
        let stranger = self.protected.load(Ordering::Relaxed);
        let refusal: Option<&[u8]> = if self.connections.load(Ordering::Acquire)
            >= self.maxclients.load(Ordering::Relaxed)
        {
            Some(b"-ERR max number of clients reached\r\n")
        } else if stranger
            && self.strangers.load(Ordering::Relaxed)
                >= (self.maxclients.load(Ordering::Relaxed) / 4).max(1)
        {
            // Who never authenticates must not keep out those who do.
            Some(b"-ERR max number of unauthenticated clients reached\r\n")
        } else if config.protected_mode
            && config.requirepass.is_empty()
            && !stream.peer().is_local()
        {
            Some(
                b"-DENIED Larder is running in protected mode: no password is set, so only connections \
                  from this machine are accepted. Set requirepass, or protected-mode no.\r\n",
            )
        } else {
            None
        };
        if let Some(text) = refusal {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            // Best effort: the connection is closed anyway.
            let _ = stream.write(text);
            return None;
        }
        self.connections.fetch_add(1, Ordering::AcqRel);
        // Counted here, not where it is seated: a burst is admitted before the first of it has a seat.
        self.strangers.fetch_add(usize::from(stranger), Ordering::Relaxed);
        Some(Admitted { id: self.next_client.fetch_add(1, Ordering::Relaxed), stranger })
    }
}
