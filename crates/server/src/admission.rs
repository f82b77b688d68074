//! Who may come in, and what is held back: limits on connections, protected mode, CLIENT PAUSE.

use std::sync::atomic::Ordering;

use larder_base::time::Millis;
use larder_commands::{Args, Flags};
use larder_net::Stream;

use crate::client::Client;
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
    /// Whether CLIENT PAUSE holds this request back.
    pub fn holds(&self, client: &Client, args: Args<'_>, now: Millis) -> bool {
        let may_write = |name: &[u8]| {
            self.registry.find(name).is_some_and(|entry| {
                entry.command.flags.has(Flags::WRITE)
                    || entry.command.flags.has(Flags::MAY_REPLICATE)
            })
        };
        if args.is(0, "CLIENT") {
            return false;
        }
        let writes = match &client.multi {
            Some(multi) if args.is(0, "EXEC") => {
                multi.queue.iter().filter_map(|queued| queued.first()).any(|name| may_write(name))
            }
            Some(_) => false,
            None => may_write(args.at(0)),
        };
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
