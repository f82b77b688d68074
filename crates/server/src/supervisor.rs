//! Who started this process and wants to hear of it (`supervised`): systemd, through the socket that it names in the
//! environment. It must never know what the server does.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::config::Supervision;
use crate::log::warning;

/// A supervisor, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// Nobody listens.
    Nobody,
    /// systemd, with a service of type `notify`.
    Systemd,
}

impl Supervisor {
    /// Finds the supervisor that the configuration asks for.
    pub fn find(wanted: Supervision) -> Supervisor {
        let there = env::var_os("NOTIFY_SOCKET").is_some_and(|name| !name.is_empty());
        match wanted {
            Supervision::Systemd | Supervision::Auto if there => Supervisor::Systemd,
            Supervision::Systemd | Supervision::Auto | Supervision::No => Supervisor::Nobody,
        }
    }

    /// The name that INFO shows.
    pub fn name(self) -> &'static str {
        match self {
            Supervisor::Nobody => "no",
            Supervisor::Systemd => "systemd",
        }
    }

    /// Tells that clients are served now.
    pub fn ready(self) {
        self.tell("READY=1\nSTATUS=Ready to accept connections\n");
    }

    /// Tells that the end has begun.
    pub fn stopping(self) {
        self.tell("STOPPING=1\nSTATUS=Shutting down\n");
    }

    fn tell(self, message: &str) {
        if self == Supervisor::Systemd
            && let Some(name) = env::var_os("NOTIFY_SOCKET")
            && let Err(error) = send(&name, message)
        {
            warning(&format!("Can't send to the supervisor: {error}"));
        }
    }
}

fn send(name: &OsStr, message: &str) -> io::Result<()> {
    let address = match name.as_bytes().split_first() {
        // A name that is no file: systemd writes its zero byte as '@'.
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}
