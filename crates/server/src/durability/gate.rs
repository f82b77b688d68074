//! The commit gate: which replies may leave. A reply depends on everything that its command saw or did, which is
//! what the journal held when it had run; with `appendfsync always` it waits until that is on disk, with
//! `everysec` only if the disk is so slow that more than a second would be lost. It knows offsets and
//! moments: neither files nor connections.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use larder_base::time::Millis;
use larder_cluster::replication::Offset;
use parking_lot::Mutex;

/// What replies wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing.
    Nothing,
    /// That no more than a second is lost.
    Second,
    /// That nothing is lost.
    All,
}

/// What a connection's output depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Depends {
    /// The end of the journal when it last saw data.
    pub seen: Offset,
    /// The same when it last changed data.
    pub wrote: Offset,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Gate {
    promise: AtomicU8,
    durable: AtomicU64,
    /// From this moment on `Second` means `All`: what is not on disk may be a second old.
    late_ms: AtomicI64,
    failing: AtomicBool,
    /// Why.
    reason: Mutex<String>,
    /// Changes with each of the above.
    turns: AtomicU32,
    /// Connections that wait.
    waiting: AtomicU32,
    /// Bytes of the journal up to which the log has taken it.
    taken: AtomicU64,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            promise: AtomicU8::new(0),
            durable: AtomicU64::new(0),
            late_ms: AtomicI64::new(i64::MAX),
            failing: AtomicBool::new(false),
            reason: Mutex::default(),
            turns: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            taken: AtomicU64::new(u64::MAX),
        }
    }
}

impl Gate {
    /// Whether replies may have to wait at all.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.promise.load(Ordering::Relaxed) != 0
    }

    /// Whether what depends on this may leave now.
    #[inline]
    pub fn is_open(&self, depends: Depends, now: Millis) -> bool {
        match self.promise.load(Ordering::Acquire) {
            0 => return true,
            1 if now.0 < self.late_ms.load(Ordering::Acquire) => return true,
            _ => {}
        }
        let durable = self.durable.load(Ordering::SeqCst);
        // While the disk fails what was changed stays untold; but who only reads is not made to wait for
        // somebody who makes room on it.
        durable >= depends.seen.0 || (self.is_failing() && durable >= depends.wrote.0)
    }

    /// What is on disk.
    pub fn durable(&self) -> Offset {
        Offset(self.durable.load(Ordering::SeqCst))
    }

    /// Up to where the journal was taken; beyond it, memory holds it.
    pub fn taken(&self) -> Option<Offset> {
        let taken = self.taken.load(Ordering::Relaxed);
        (taken != u64::MAX).then_some(Offset(taken))
    }

    /// Whether the log cannot be written: no more changes are accepted.
    #[inline]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Why.
    pub fn reason(&self) -> String {
        self.reason.lock().clone()
    }

    /// A number that changes whenever the gate may have opened.
    #[inline]
    pub fn turns(&self) -> u32 {
        self.turns.load(Ordering::Acquire)
    }

    /// A connection begins to wait. It looks once more after this.
    pub fn park(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// It waits no more.
    pub fn unpark(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Connections that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// What replies wait for from now on.
    pub fn promise(&self, promise: Promise) {
        let number = match promise {
            Promise::Nothing => 0,
            Promise::Second => 1,
            Promise::All => 2,
        };
        if self.promise.swap(number, Ordering::SeqCst) != number {
            self.turns.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// This much is on disk. True if somebody waits, who is to be woken.
    pub fn reach(&self, durable: Offset) -> bool {
        self.durable.store(durable.0, Ordering::SeqCst);
        self.turns.fetch_add(1, Ordering::SeqCst);
        self.waiting() > 0
    }

    /// The log has taken the journal up to here; `None`: there is no log.
    pub fn take(&self, taken: Option<Offset>) {
        self.taken.store(taken.map_or(u64::MAX, |offset| offset.0), Ordering::Relaxed);
    }

    /// From when on what is not on disk then may be a second old.
    pub fn late_from(&self, moment: Millis) {
        self.late_ms.store(moment.0, Ordering::Release);
    }

    /// Whether the log cannot be written, and why.
    pub fn fail(&self, reason: Option<String>) {
        let failing = reason.is_some();
        *self.reason.lock() = reason.unwrap_or_default();
        if self.failing.swap(failing, Ordering::AcqRel) != failing {
            self.turns.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_wait_for_what_was_promised() {
        let gate = Gate::default();
        let at = |seen, wrote| Depends { seen: Offset(seen), wrote: Offset(wrote) };
        let now = Millis(1000);
        assert!(gate.is_open(at(10, 10), now), "nothing is promised");
        gate.promise(Promise::All);
        assert!(!gate.is_open(at(10, 10), now));
        assert!(!gate.reach(Offset(9)));
        assert!(!gate.is_open(at(10, 0), now), "who saw it waits as well");
        gate.park();
        assert!(gate.reach(Offset(10)));
        assert!(gate.is_open(at(10, 10), now));
        gate.fail(Some("No space left on device".to_owned()));
        assert!(gate.is_open(at(11, 10), now), "readers do not wait for room on a disk");
        assert!(!gate.is_open(at(11, 11), now), "what was changed stays untold");
        gate.promise(Promise::Second);
        assert!(gate.is_open(at(11, 11), now));
        gate.fail(None);
        gate.late_from(now);
        assert!(!gate.is_open(at(11, 0), now), "what is not on disk is a second old");
        assert!(gate.is_open(at(10, 10), now), "what is on disk is told at any time");
        gate.late_from(now.saturating_add(1));
        assert!(gate.is_open(at(11, 11), now));
    }
}
