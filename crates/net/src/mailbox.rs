//! Letters from other threads to one worker: many write, one takes all at once. It knows nothing of
//! what the letters say. Its length is bounded by those who write (every letter answers for a bounded
//! amount of work); `len` lets them see it.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::reactor::Waker;

/// See the head of this file.
pub struct Mailbox<T> {
    letters: Mutex<Vec<T>>,
    count: AtomicUsize,
    waker: Waker,
}

impl<T> Mailbox<T> {
    /// An empty mailbox whose owner is woken by `waker`.
    pub fn new(waker: Waker) -> Mailbox<T> {
        Mailbox { letters: Mutex::new(Vec::new()), count: AtomicUsize::new(0), waker }
    }

    /// Puts a letter in without waking the owner: may be called under a slot lock, since it makes no
    /// system call.
    pub fn push(&self, letter: T) {
        let mut letters = self.letters.lock();
        letters.push(letter);
        self.count.store(letters.len(), Ordering::Release);
    }

    /// Wakes the owner.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Letters waiting.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all letters, in the order in which each sender put them.
    pub fn drain(&self, out: &mut Vec<T>) {
        if self.is_empty() {
            return;
        }
        let mut letters = self.letters.lock();
        out.append(&mut letters);
        self.count.store(0, Ordering::Release);
    }
}
