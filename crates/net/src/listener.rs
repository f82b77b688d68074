//! Listening sockets, TCP and unix. They hand out streams and know nothing of who may connect.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, chmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind,
    getsockname, listen, socket_with, sockopt,
};

use crate::stream::{PeerAddr, Stream};

/// Why no stream came.
#[derive(Debug)]
pub enum AcceptError {
    /// Nobody waits.
    WouldBlock,
    /// This process or system has no descriptors left: accepting again at once would only spin.
    OutOfDescriptors,
    /// One connection failed before it was accepted; others may wait.
    Failed(io::Error),
}

enum Kind {
    Tcp,
    Unix(PathBuf),
}

/// A listening socket; a unix one removes its file when dropped.
pub struct Listener {
    fd: OwnedFd,
    kind: Kind,
}

impl Listener {
    /// Listens on a TCP address; `host` may be `*` or `::*` for every address of a family.
    ///
    /// # Errors
    /// When the name cannot be resolved or the address cannot be bound.
    pub fn tcp(host: &str, port: u16, backlog: i32) -> io::Result<Listener> {
        let host = match host {
            "*" => "0.0.0.0",
            "::*" => "::",
            other => other,
        };
        let address = (host, port).to_socket_addrs()?.next();
        let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if address.is_ipv6() {
            // IPv4 has a listener of its own.
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        bind(&fd, &address)?;
        listen(&fd, backlog)?;
        Ok(Listener { fd, kind: Kind::Tcp })
    }

    /// Listens on a unix socket with these permissions (octal mode) and this group, replacing a stale socket file.
    ///
    /// # Errors
    /// When the path cannot be bound, which includes that something other than a socket is there; or the file
    /// cannot be given to the group.
    pub fn unix(path: &Path, mode: u32, group: Option<u32>, backlog: i32) -> io::Result<Listener> {
        remove_socket(path);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&fd, &SocketAddrUnix::new(path)?)?;
        // Before listening, so that nobody connects under other permissions.
        if mode != 0 {
            chmod(path, Mode::from_raw_mode(mode))?;
        }
        if let Some(group) = group {
            std::os::unix::fs::chown(path, None, Some(group))?;
        }
        listen(&fd, backlog)?;
        Ok(Listener { fd, kind: Kind::Unix(path.to_owned()) })
    }

    /// Takes one waiting connection.
    ///
    /// # Errors
    /// See `AcceptError`.
    pub fn accept(&self) -> Result<Stream, AcceptError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (fd, peer) = match acceptfrom_with(&self.fd, flags) {
            Ok(accepted) => accepted,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {
                return Err(AcceptError::WouldBlock);
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                return Err(AcceptError::OutOfDescriptors);
            }
            Err(error) => return Err(AcceptError::Failed(error.into())),
        };
        match &self.kind {
            Kind::Unix(path) => {
                let path = path.display().to_string();
                Ok(Stream::new(fd, PeerAddr::Unix(path.clone()), format!("{path}:0")))
            }
            Kind::Tcp => {
                let failed = |error: Errno| AcceptError::Failed(error.into());
                // A peer without an address must not pass for a local one.
                let peer = peer.and_then(to_socket_addr).ok_or(Errno::NOTCONN).map_err(failed)?;
                let local = getsockname(&fd).ok().and_then(to_socket_addr);
                let local = local.map_or_else(|| "?:0".to_owned(), |addr| addr.to_string());
                Ok(Stream::new(fd, PeerAddr::Tcp(peer), local))
            }
        }
    }
}

fn to_socket_addr(addr: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(addr).ok()
}

/// Removes a socket file. Anything else at that path is somebody's data behind a mistyped setting, and
/// stays; so does, in effect, a file that is gone already or may not be removed: binding tells.
fn remove_socket(path: &Path) {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix(path) = &self.kind {
            remove_socket(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::reactor::{Interest, Reactor, Token, Wait};
    use crate::stream::{ReadOutcome, WriteOutcome};

    #[test]
    fn echoes_over_loopback() {
        let listener = Listener::tcp("127.0.0.1", 0, 16).unwrap();
        let port = to_socket_addr(getsockname(&listener.fd).unwrap()).unwrap().port();
        let mut reactor = Reactor::new().unwrap();
        reactor.register(&listener, Token(1), Interest::Read).unwrap();
        let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut events = Vec::new();
        reactor.poll(Wait::Forever, &mut events).unwrap();
        assert_eq!(events[0].token, Token(1));
        let stream = listener.accept().unwrap();
        assert!(stream.peer().is_local());
        assert!(matches!(listener.accept(), Err(AcceptError::WouldBlock)));
        reactor.register(&stream, Token(2), Interest::Read).unwrap();
        client.write_all(b"hello").unwrap();
        reactor.poll(Wait::Forever, &mut events).unwrap();
        let mut buffer = [0; 16];
        assert!(matches!(stream.read(&mut buffer), ReadOutcome::Bytes(5)));
        assert!(matches!(stream.read(&mut buffer), ReadOutcome::WouldBlock));
        assert!(matches!(stream.write(b"hello"), WriteOutcome::Bytes(5)));
        client.read_exact(&mut buffer[..5]).unwrap();
        drop(client);
        reactor.poll(Wait::Forever, &mut events).unwrap();
        assert!(matches!(stream.read(&mut buffer), ReadOutcome::Closed));
    }

    #[test]
    fn unix_socket_has_its_mode_and_goes_with_the_listener() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("larder-net-{}.sock", std::process::id()));
        let listener = Listener::unix(&path, 0o700, None, 16).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(listener.accept().is_ok());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn unix_listener_spares_what_is_no_socket() {
        let path = std::env::temp_dir().join(format!("larder-net-{}.txt", std::process::id()));
        std::fs::write(&path, b"data").unwrap();
        assert!(Listener::unix(&path, 0o700, None, 16).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn waits_for_room_and_tells_when_it_comes() {
        let path = std::env::temp_dir().join(format!("larder-room-{}.sock", std::process::id()));
        let listener = Listener::unix(&path, 0o700, None, 16).unwrap();
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let stream = listener.accept().unwrap();
        let chunk = [7u8; 65536];
        let mut sent = 0;
        loop {
            match stream.write(&chunk) {
                WriteOutcome::Bytes(0) => break,
                WriteOutcome::Bytes(count) => sent += count,
                WriteOutcome::Failed(error) => panic!("{error}"),
            }
        }
        let (mut reactor, mut events) = (Reactor::new().unwrap(), Vec::new());
        reactor.register(&stream, Token(3), Interest::Both).unwrap();
        reactor.poll(Wait::Now, &mut events).unwrap();
        assert!(events.is_empty(), "no room, no bytes");
        client.read_exact(&mut vec![0; sent]).unwrap();
        reactor.poll(Wait::Forever, &mut events).unwrap();
        assert!(events[0].writable && !events[0].readable && !events[0].closed);
        // Half a close is the end of the stream, not a broken connection.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        reactor.modify(&stream, Token(4), Interest::Read).unwrap();
        reactor.poll(Wait::Forever, &mut events).unwrap();
        assert!(events[0].token == Token(4) && events[0].readable && !events[0].closed);
        assert!(matches!(stream.read(&mut [0; 8]), ReadOutcome::Closed));
        drop(client);
        reactor.poll(Wait::Forever, &mut events).unwrap();
        assert!(events[0].closed);
        assert!(matches!(stream.write(b"x"), WriteOutcome::Failed(_)));
    }

    #[test]
    fn a_connection_comes_from_the_address_that_was_asked_for() {
        let listener = Listener::tcp("127.0.0.1", 0, 16).unwrap();
        let port = to_socket_addr(getsockname(&listener.fd).unwrap()).unwrap().port();
        let second = std::time::Duration::from_secs(1);
        for (source, seen) in
            [(None, "127.0.0.1:"), (Some("127.0.0.3".parse().unwrap()), "127.0.0.3:")]
        {
            let stream = Stream::connect("127.0.0.1", port, source, second).unwrap();
            assert!(stream.local().starts_with(seen), "{}", stream.local());
            assert_eq!(listener.accept().unwrap().peer().to_string(), stream.local());
        }
        // An address that is not of this machine (documentation, RFC 5737), and one of another family.
        for source in ["192.0.2.1", "::1"] {
            let refused = Stream::connect("127.0.0.1", port, Some(source.parse().unwrap()), second);
            assert!(refused.is_err());
        }
        drop(listener);
        let refused = Stream::connect("127.0.0.1", port, None, second).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn ipv6_peers_are_written_in_brackets() {
        // A machine without IPv6 has nothing to show here.
        let Ok(listener) = Listener::tcp("::1", 0, 16) else { return };
        let port = to_socket_addr(getsockname(&listener.fd).unwrap()).unwrap().port();
        let client = std::net::TcpStream::connect(("::1", port)).unwrap();
        let stream = listener.accept().unwrap();
        let port_of_client = client.local_addr().unwrap().port();
        assert_eq!(stream.peer().to_string(), format!("[::1]:{port_of_client}"));
        assert_eq!(stream.local(), format!("[::1]:{port}"));
        assert!(stream.peer().is_local());
        let mapped = PeerAddr::Tcp("[::ffff:127.0.0.1]:1".parse().unwrap());
        assert!(mapped.is_local());
        assert!(!PeerAddr::Tcp("[::ffff:10.0.0.1]:1".parse().unwrap()).is_local());
    }
}
