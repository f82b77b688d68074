//! One connection: a non-blocking TCP or unix stream. It moves bytes and knows nothing of what they mean.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddr {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket, by the path of the listener.
    Unix(String),
}

impl PeerAddr {
    /// Whether the peer is on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            PeerAddr::Tcp(addr) => match addr.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => {
                    ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
                }
            },
            PeerAddr::Unix(_) => true,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddr::Tcp(addr) => write!(f, "{addr}"),
            PeerAddr::Unix(path) => write!(f, "{path}:0"),
        }
    }
}

/// How a read ended.
#[derive(Debug)]
pub enum ReadOutcome {
    /// This many bytes were read.
    Bytes(usize),
    /// Nothing there now.
    WouldBlock,
    /// The peer is done.
    Closed,
    /// The connection broke.
    Failed(io::Error),
}

/// How a write ended.
#[derive(Debug)]
pub enum WriteOutcome {
    /// This many bytes went out; fewer than given = no more room now.
    Bytes(usize),
    /// The connection broke.
    Failed(io::Error),
}

/// What [`Stream::wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// There is something to read, or the peer is done.
    Readable,
    /// There is room for what is to be sent.
    Writable,
}

/// See the head of this file.
pub struct Stream {
    fd: OwnedFd,
    peer: PeerAddr,
    local: String,
}

impl Stream {
    pub(crate) fn new(fd: OwnedFd, peer: PeerAddr, local: String) -> Stream {
        if let PeerAddr::Tcp(_) = peer {
            // Replies are written once a turn: waiting for more would only delay them.
            let _ = sockopt::set_tcp_nodelay(&fd, true);
        }
        Stream { fd, peer, local }
    }

    /// Connects to a TCP port, from an address of this machine if one is given. The calling thread waits, at most so
    /// long for each address of the host.
    ///
    /// # Errors
    /// The system's, for the last address that was tried.
    pub fn connect(
        host: &str,
        port: u16,
        source: Option<IpAddr>,
        at_most: Duration,
    ) -> io::Result<Stream> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (host, port).to_socket_addrs()? {
            match connect_to(address, source, at_most) {
                Ok(fd) => {
                    let local = TcpStream::from(fd.try_clone()?).local_addr()?.to_string();
                    return Ok(Stream::new(fd, PeerAddr::Tcp(address), local));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Waits in the calling thread, for those that have one connection only. Spurious ends are possible.
    pub fn wait(&self, until: Until, at_most: Duration) {
        let flags = match until {
            Until::Readable => PollFlags::IN,
            Until::Writable => PollFlags::OUT,
        };
        // Whatever ends the wait, the next read or write says how the connection is.
        let _ = poll(&mut [PollFd::new(&self.fd, flags)], Some(&timespec(at_most)));
    }

    /// Ends the connection for both sides, while others may still hold it.
    pub fn shutdown(&self) {
        // One that is broken already has ended, too.
        let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
    }

    /// Whether small packets are sent at once (the usual way) or gathered.
    pub fn set_nodelay(&self, on: bool) {
        if let PeerAddr::Tcp(_) = &self.peer {
            let _ = sockopt::set_tcp_nodelay(&self.fd, on);
        }
    }

    /// The peer.
    pub fn peer(&self) -> &PeerAddr {
        &self.peer
    }

    /// Our own address, as text.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Probes a silent peer after this time (0 = never), as redis.conf's `tcp-keepalive` says.
    pub fn set_keepalive(&self, idle_s: u32) {
        if let (PeerAddr::Tcp(_), true) = (&self.peer, idle_s > 0) {
            // A peer that cannot be probed is only found out later: not worth refusing it.
            let _ = sockopt::set_socket_keepalive(&self.fd, true);
            let _ = sockopt::set_tcp_keepidle(&self.fd, Duration::from_secs(idle_s.into()));
            let gap = Duration::from_secs((idle_s / 3).max(1).into());
            let _ = sockopt::set_tcp_keepintvl(&self.fd, gap);
            let _ = sockopt::set_tcp_keepcnt(&self.fd, 3);
        }
    }

    /// Reads into a buffer.
    pub fn read(&self, buffer: &mut [u8]) -> ReadOutcome {
        match rustix::net::recv(&self.fd, buffer, RecvFlags::empty()) {
            Ok((_, 0)) => ReadOutcome::Closed,
            Ok((_, count)) => ReadOutcome::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR) => ReadOutcome::WouldBlock,
            Err(error) => ReadOutcome::Failed(error.into()),
        }
    }

    /// Writes as much as fits.
    pub fn write(&self, bytes: &[u8]) -> WriteOutcome {
        match rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL) {
            Ok(count) => WriteOutcome::Bytes(count),
            Err(Errno::AGAIN | Errno::INTR) => WriteOutcome::Bytes(0),
            Err(error) => WriteOutcome::Failed(error.into()),
        }
    }
}

/// A connected socket that does not block.
fn connect_to(
    address: SocketAddr,
    source: Option<IpAddr>,
    at_most: Duration,
) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if let Some(source) = source {
        // The port is the system's choice all the same.
        rustix::net::bind(&fd, &SocketAddr::new(source, 0))?;
    }
    match rustix::net::connect(&fd, &address) {
        Ok(()) => return Ok(fd),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let until = Instant::now() + at_most;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&timespec(left))) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    sockopt::socket_error(&fd)??;
    Ok(fd)
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
