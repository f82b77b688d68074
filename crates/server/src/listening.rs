//! The listening sockets of a running server: opened at the start, and opened anew when CONFIG SET changes `bind` or
//! `port`. It must never know who connects.

use std::io;
use std::path::Path;

use larder_net::Listener;
use parking_lot::{Mutex, MutexGuard};

use crate::config::Config;
use crate::log::warning;

/// One socket.
pub struct Door {
    /// Its number, never used again.
    pub number: u64,
    /// Where it listens, for people.
    pub place: String,
    /// Whether the event loop knows it.
    pub watched: bool,
    /// The socket.
    pub listener: Listener,
    tcp: bool,
}

/// All of them. Whoever drops a socket takes it out of the event loop by that alone: there is no second
/// descriptor of it.
#[derive(Default)]
pub struct Doors {
    inner: Mutex<(Vec<Door>, u64)>,
}

impl Doors {
    /// Opens everything that the configuration asks for.
    ///
    /// # Errors
    /// A text that says what could not be opened.
    pub fn open(config: &Config) -> Result<Doors, String> {
        let doors = Doors::default();
        let mut inner = doors.inner.lock();
        open_tcp(&mut inner, config)?;
        if let Some(path) = &config.unixsocket {
            let group = match config.unixsocketgroup.as_str() {
                "" => None,
                name => Some(group(name).ok_or_else(|| format!("There is no group '{name}'"))?),
            };
            let (path_of, mode) = (Path::new(path), config.unixsocketperm);
            let listener = Listener::unix(path_of, mode, group, config.tcp_backlog)
                .map_err(|error| format!("Could not listen on the unix socket {path}: {error}"))?;
            add(&mut inner, format!("the unix socket {path}"), listener, false);
        }
        if inner.0.is_empty() {
            return Err("Nothing to listen on: set port, bind or unixsocket".to_owned());
        }
        drop(inner);
        warn_of_backlog(config);
        Ok(doors)
    }

    /// Exchanges the TCP sockets for those that `config` asks for; if that fails, those of `old` are opened again.
    /// The caller is in the exclusive section, and tells the first worker to watch the new ones.
    ///
    /// # Errors
    /// A text that says what could not be opened.
    pub fn reopen(&self, old: &Config, config: &Config) -> Result<(), String> {
        let mut inner = self.inner.lock();
        // The old ones first: an address and "all addresses" exclude each other.
        inner.0.retain(|door| !door.tcp);
        let result = open_tcp(&mut inner, config);
        if let Err(reason) = &result {
            warning(reason);
            inner.0.retain(|door| !door.tcp);
            if let Err(reason) = open_tcp(&mut inner, old) {
                warning(&format!("The former addresses are lost, too: {reason}"));
            }
        }
        result
    }

    /// All sockets; to be held for as long as one turn accepts.
    pub fn all(&self) -> DoorsGuard<'_> {
        DoorsGuard(self.inner.lock())
    }

    /// Closes everything, and removes the files of unix sockets.
    pub fn close(&self) {
        self.inner.lock().0.clear();
    }
}

/// The sockets, locked.
pub struct DoorsGuard<'d>(MutexGuard<'d, (Vec<Door>, u64)>);

impl DoorsGuard<'_> {
    /// Each of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Door> {
        self.0.0.iter_mut()
    }

    /// The one of this number, if it is still open.
    pub fn find(&self, number: u64) -> Option<&Listener> {
        self.0.0.iter().find(|door| door.number == number).map(|door| &door.listener)
    }
}

fn add(inner: &mut (Vec<Door>, u64), place: String, listener: Listener, tcp: bool) {
    let (doors, next) = inner;
    doors.push(Door { number: *next, place, watched: false, listener, tcp });
    *next += 1;
}

fn open_tcp(inner: &mut (Vec<Door>, u64), config: &Config) -> Result<(), String> {
    let port = config.port;
    for host in config.bind.iter().filter(|_| port != 0) {
        let (optional, host) = match host.strip_prefix('-') {
            Some(host) => (true, host),
            None => (false, host.as_str()),
        };
        match Listener::tcp(host, port, config.tcp_backlog) {
            Ok(listener) => add(inner, format!("{host} port {port}"), listener, true),
            // An address that this machine lacks may be missing; a taken port may not.
            Err(error) if optional && error.kind() != io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(format!("Could not listen on {host} port {port}: {error}")),
        }
    }
    Ok(())
}

/// The kernel shortens longer queues without a word.
fn warn_of_backlog(config: &Config) {
    const PATH: &str = "/proc/sys/net/core/somaxconn";
    let most = std::fs::read_to_string(PATH).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(most) = most.filter(|most| *most < config.tcp_backlog) {
        warning(&format!(
            "WARNING: The TCP backlog setting of {} cannot be enforced because {PATH} is set to the lower value of {most}.",
            config.tcp_backlog
        ));
    }
}
/// The number of a group, from its name in /etc/group or the number itself.
fn group(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let text = std::fs::read_to_string("/etc/group").ok()?;
    group_in(&text, name)
}

/// A line is `name:password:number:members`.
fn group_in(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find_map(|line| match line.as_slice() {
        [of, _, number, ..] if *of == name => number.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_number() {
        let text = "root:x:0:\n# no group\nwheel:x:10:anna,otto\n";
        assert_eq!((group_in(text, "wheel"), group_in(text, "otto")), (Some(10), None));
        assert_eq!(group("4711"), Some(4711));
    }
}
