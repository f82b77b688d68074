//! Descriptors are a bounded resource: how many this process may open, and what to do when none is
//! left. It knows nothing of what they are used for or how many anybody should want.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::listener::{AcceptError, Listener};

/// Makes sure that this process may open `wanted` descriptors, raising the soft limit and, where the
/// system lets us, the hard one. Returns how many it may open now: less than `wanted` where the system
/// allows no more, and more where it already allowed more.
///
/// # Errors
/// When the limit may not even be raised to the hard one.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    // No figure means that there is no limit.
    let Some(now) = limit.current else { return Ok(u64::MAX) };
    if now >= wanted {
        return Ok(now);
    }
    let within = limit.maximum.is_none_or(|most| wanted <= most);
    let full = Rlimit {
        current: Some(wanted),
        maximum: if within { limit.maximum } else { Some(wanted) },
    };
    if setrlimit(Resource::Nofile, full).is_ok() {
        return Ok(wanted);
    }
    // Not allowed beyond the hard limit: then up to it.
    let most = limit.maximum.unwrap_or(wanted).min(wanted);
    if most > now {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum })?;
    }
    Ok(most.max(now))
}

/// One descriptor kept in hand for the moment when there is no other. A listener whose connections
/// cannot be accepted stays readable, so a level-triggered loop would turn without end; giving the spare
/// one up lets the connection be accepted and closed at once, and its client be told so.
pub struct SpareDescriptor {
    held: Option<File>,
}

impl SpareDescriptor {
    /// Takes one; if there is none now, the first `turn_away` tries again.
    pub fn new() -> SpareDescriptor {
        SpareDescriptor { held: open() }
    }

    /// Accepts one waiting connection with the spare descriptor and closes it. False when nothing could
    /// be turned away, as when another thread took the descriptor first: then the caller should look
    /// away from the listener for a while.
    pub fn turn_away(&mut self, listener: &Listener) -> bool {
        self.held = None;
        let outcome = listener.accept();
        let gone = match outcome {
            Ok(stream) => {
                drop(stream);
                true
            }
            Err(AcceptError::WouldBlock | AcceptError::Failed(_)) => true,
            Err(AcceptError::OutOfDescriptors) => false,
        };
        self.held = open();
        gone
    }
}

impl Default for SpareDescriptor {
    fn default() -> SpareDescriptor {
        SpareDescriptor::new()
    }
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_limit_already_high_enough_stays() {
        let now = raise_descriptor_limit(1).unwrap();
        assert!(now >= 1);
        assert_eq!(raise_descriptor_limit(now).unwrap(), now);
    }

    #[test]
    fn turns_a_waiting_connection_away() {
        let path = std::env::temp_dir().join(format!("larder-spare-{}.sock", std::process::id()));
        let listener = Listener::unix(&path, 0o700, None, 16).unwrap();
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let mut spare = SpareDescriptor::new();
        assert!(spare.turn_away(&listener));
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert!(spare.held.is_some());
        assert!(spare.turn_away(&listener), "nobody waits: nothing is left to turn away");
    }
}
