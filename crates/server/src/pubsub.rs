//! Channels, patterns and shard channels: who listens, and what is sent to them. Messages are encoded
//! by the worker of each listener, for its protocol version.

use std::collections::HashMap;
use std::sync::Arc;

use larder_base::glob;
use larder_protocol::reply::Reply;

use crate::shared::{Letter, Server};

/// Where a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its worker.
    pub worker: usize,
    /// Its token there.
    pub token: u64,
}

/// The three name spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// SUBSCRIBE
    Channel = 0,
    /// PSUBSCRIBE
    Pattern = 1,
    /// SSUBSCRIBE
    Shard = 2,
}

/// Who listens to what.
#[derive(Default)]
pub struct PubSub {
    spaces: [HashMap<Vec<u8>, Vec<Address>>; 3],
}

/// What a listener is sent.
#[derive(Debug)]
pub enum Message {
    /// Channel and payload.
    Channel(Vec<u8>, Vec<u8>),
    /// Pattern, channel and payload.
    Pattern(Vec<u8>, Vec<u8>, Vec<u8>),
    /// Shard channel and payload.
    Shard(Vec<u8>, Vec<u8>),
    /// Keys that a client caches changed; `None` = all of them are gone.
    Invalidate(Option<Vec<Box<[u8]>>>),
    /// The connection of this number, to which invalidations were redirected, is gone.
    RedirectBroken(u64),
    /// A line for MONITOR, encoded already.
    Raw(Vec<u8>),
}

/// The channel on which RESP2 connections hear of invalidations.
pub const INVALIDATIONS: &[u8] = b"__redis__:invalidate";

impl Message {
    /// Whether a connection of this kind is to see it.
    pub fn is_for(&self, resp3: bool, hears_invalidations: bool) -> bool {
        match self {
            Message::Invalidate(_) => resp3 || hears_invalidations,
            Message::RedirectBroken(_) => resp3,
            _ => true,
        }
    }

    /// Bytes that it takes while it waits, roughly, and on its way to each client.
    pub fn weight(&self) -> usize {
        let parts = match self {
            Message::Channel(channel, payload) | Message::Shard(channel, payload) => {
                channel.len() + payload.len()
            }
            Message::Pattern(pattern, channel, payload) => {
                pattern.len() + channel.len() + payload.len()
            }
            Message::Invalidate(keys) => {
                keys.iter().flatten().map(|key| size_of::<Box<[u8]>>() + key.len()).sum()
            }
            Message::RedirectBroken(_) => 0,
            Message::Raw(line) => line.len(),
        };
        size_of::<Message>() + parts
    }

    /// Writes the push.
    pub fn encode(&self, reply: &mut Reply<'_>) {
        let parts: &[&[u8]] = match self {
            Message::Channel(channel, payload) => &[b"message", channel, payload],
            Message::Pattern(pattern, channel, payload) => {
                &[b"pmessage", pattern, channel, payload]
            }
            Message::Shard(channel, payload) => &[b"smessage", channel, payload],
            Message::Invalidate(keys) => {
                if reply.is_resp3() {
                    reply.push(2);
                    reply.bulk(b"invalidate");
                } else {
                    reply.push(3);
                    reply.bulk(b"message");
                    reply.bulk(INVALIDATIONS);
                }
                match keys {
                    Some(keys) => {
                        reply.array(keys.len());
                        keys.iter().for_each(|key| reply.bulk(key));
                    }
                    None => reply.null_array(),
                }
                return;
            }
            Message::RedirectBroken(id) => {
                reply.push(2);
                reply.bulk(b"tracking-redir-broken");
                reply.integer(i64::try_from(*id).unwrap_or(i64::MAX));
                return;
            }
            Message::Raw(line) => {
                reply.raw(line);
                return;
            }
        };
        reply.push(parts.len());
        for part in parts {
            reply.bulk(part);
        }
    }
}

impl PubSub {
    /// Adds a listener.
    pub fn subscribe(&mut self, space: Space, name: &[u8], who: Address) {
        if let Some(names) = self.spaces.get_mut(space as usize) {
            names.entry(name.to_vec()).or_default().push(who);
        }
    }

    /// Removes a listener.
    pub fn unsubscribe(&mut self, space: Space, name: &[u8], who: Address) {
        let Some(names) = self.spaces.get_mut(space as usize) else { return };
        if let Some(listeners) = names.get_mut(name) {
            listeners.retain(|at| *at != who);
            if listeners.is_empty() {
                names.remove(name);
            }
        }
    }

    /// The names in a space, with their numbers of listeners.
    pub fn names(&self, space: Space) -> impl Iterator<Item = (&[u8], usize)> {
        self.spaces
            .iter()
            .skip(space as usize)
            .take(1)
            .flatten()
            .map(|(n, l)| (n.as_slice(), l.len()))
    }

    /// Number of listeners of one name.
    pub fn listeners(&self, space: Space, name: &[u8]) -> usize {
        self.spaces.get(space as usize).and_then(|names| names.get(name)).map_or(0, Vec::len)
    }
}

impl Server {
    /// Sends a message to the listeners of a channel and of the patterns that match it. Returns how
    /// many there were. The caller wakes the workers.
    pub fn publish(&self, channel: &[u8], payload: &[u8]) -> usize {
        let pubsub = self.pubsub.read();
        let mut count = 0;
        let [channels, patterns, _] = &pubsub.spaces;
        let mut send = |listeners: &[Address], message: Message| {
            let message = Arc::new(message);
            for at in listeners {
                self.post(at.worker, Letter::Deliver(at.token, Arc::clone(&message)));
            }
            count += listeners.len();
        };
        if let Some(listeners) = channels.get(channel) {
            send(listeners, Message::Channel(channel.to_vec(), payload.to_vec()));
        }
        for (pattern, listeners) in patterns {
            if pattern == b"*" || glob::matches(pattern, channel) {
                let message = Message::Pattern(pattern.clone(), channel.to_vec(), payload.to_vec());
                send(listeners, message);
            }
        }
        count
    }

    /// Sends a message to the listeners of a shard channel.
    pub fn publish_shard(&self, channel: &[u8], payload: &[u8]) -> usize {
        let pubsub = self.pubsub.read();
        let [_, _, shards] = &pubsub.spaces;
        let Some(listeners) = shards.get(channel) else { return 0 };
        let message = Arc::new(Message::Shard(channel.to_vec(), payload.to_vec()));
        for at in listeners {
            self.post(at.worker, Letter::Deliver(at.token, Arc::clone(&message)));
        }
        listeners.len()
    }
}
