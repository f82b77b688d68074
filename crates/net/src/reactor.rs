//! The event loop's waiting place: epoll, level-triggered, and a waker for other threads. It knows
//! descriptors and tokens, never what is behind them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// What the caller calls a registered descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// The token of the reactor's own waker; callers must not use it.
const WAKER: u64 = u64::MAX;
/// Events taken from the system at once.
const EVENTS_MAX: usize = 512;

/// The longest wait handed to the system, which refuses what exceeds 31 bits of milliseconds; waking
/// early is within the meaning of `Wait::AtMost`.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
    /// Only that the peer goes away.
    Hangup,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::Read => EventFlags::IN | EventFlags::RDHUP,
            Interest::Write => EventFlags::OUT,
            Interest::Both => EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT,
            Interest::Hangup => EventFlags::empty(),
        }
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Now,
    /// At most this long.
    AtMost(Duration),
    /// Until something happens.
    Forever,
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Whose.
    pub token: Token,
    /// There are bytes, or the end of the stream.
    pub readable: bool,
    /// There is room.
    pub writable: bool,
    /// The connection broke.
    pub closed: bool,
}

/// Epoll and the waker.
pub struct Reactor {
    epoll: OwnedFd,
    waker: Waker,
}

impl Reactor {
    /// A reactor with nothing registered.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub fn new() -> io::Result<Reactor> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        epoll::add(&epoll, &*event, EventData::new_u64(WAKER), EventFlags::IN)?;
        let waker = Waker { event, pending: Arc::new(AtomicBool::new(false)) };
        Ok(Reactor { epoll, waker })
    }

    /// A handle that wakes this reactor from any thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Starts watching a descriptor.
    ///
    /// # Errors
    /// What the system says.
    pub fn register(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token.0), interest.flags())?)
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// What the system says.
    pub fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(token.0), interest.flags())?)
    }

    /// Stops watching a descriptor. Closing it does the same.
    pub fn deregister(&self, fd: impl AsFd) {
        // A descriptor that is not registered needs nothing.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits and fills `events` (cleared first). Wakes by the waker are taken here and show only as an
    /// early return.
    ///
    /// # Errors
    /// What the system says; interruption by a signal is no error.
    pub fn poll(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
        let limit = match wait {
            Wait::Now => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            Wait::AtMost(time) => {
                let time = time.min(WAIT_MAX);
                Some(Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }))
            }
            Wait::Forever => None,
        };
        let found = match epoll::wait(&self.epoll, &mut buffer, limit.as_ref()) {
            Ok((found, _)) => found,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in found {
            let (token, flags) = (event.data.u64(), event.flags);
            if token == WAKER {
                self.waker.drain();
                continue;
            }
            let closed = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            events.push(Event {
                token: Token(token),
                readable: closed || flags.intersects(EventFlags::IN | EventFlags::RDHUP),
                writable: flags.contains(EventFlags::OUT),
                closed,
            });
        }
        Ok(())
    }
}

/// Wakes a reactor; further wakes before it has woken cost no system call.
#[derive(Clone)]
pub struct Waker {
    event: Arc<OwnedFd>,
    pending: Arc<AtomicBool>,
}

impl Waker {
    /// Wakes.
    pub fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // The counter cannot overflow: at most one wake is pending.
            let _ = rustix::io::write(&*self.event, &1u64.to_ne_bytes());
        }
    }

    fn drain(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&*self.event, &mut count);
        // The order matters: the mark falls after the counter is emptied, or the event of a wake in
        // between would be swallowed with the mark left up. And it is a swap, not a store: a waker that
        // still found the mark up wrote no event, so what it did before waking must be visible to
        // whatever the owner looks at next, which only a read-modify-write promises.
        self.pending.swap(false, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_once_for_many_wakes() {
        let mut reactor = Reactor::new().unwrap();
        let waker = reactor.waker();
        let mut events = Vec::new();
        for _ in 0..3 {
            waker.wake();
        }
        reactor.poll(Wait::Forever, &mut events).unwrap();
        assert!(events.is_empty());
        let started = std::time::Instant::now();
        reactor.poll(Wait::AtMost(Duration::from_millis(5)), &mut events).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(4), "the wake was not taken");
    }

    #[test]
    fn an_endless_limit_is_no_error() {
        let (mut reactor, mut events) = (Reactor::new().unwrap(), Vec::new());
        reactor.waker().wake();
        reactor.poll(Wait::AtMost(Duration::MAX), &mut events).unwrap();
    }

    #[test]
    fn no_wake_is_lost_between_threads() {
        use std::sync::atomic::AtomicUsize;
        const LETTERS: usize = 20_000;
        let mut reactor = Reactor::new().unwrap();
        let (waker, sent) = (reactor.waker(), Arc::new(AtomicUsize::new(0)));
        let sender = Arc::clone(&sent);
        let thread = std::thread::spawn(move || {
            for number in 1..=LETTERS {
                sender.store(number, Ordering::Release);
                waker.wake();
            }
        });
        let mut events = Vec::new();
        while sent.load(Ordering::Acquire) < LETTERS {
            let started = std::time::Instant::now();
            reactor.poll(Wait::AtMost(Duration::from_secs(5)), &mut events).unwrap();
            assert!(started.elapsed() < Duration::from_secs(4), "a wake was lost");
        }
        thread.join().unwrap();
    }
}
