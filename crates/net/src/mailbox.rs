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

    /// Gives back room that is not needed now, down to so many letters.
    pub fn shrink_to(&self, letters: usize) {
        self.letters.lock().shrink_to(letters);
    }

    /// Takes the letters that `wanted` chooses, in their order; the others stay in theirs.
    pub fn drain_if(&self, out: &mut Vec<T>, mut wanted: impl FnMut(&T) -> bool) {
        if self.is_empty() {
            return;
        }
        let mut letters = self.letters.lock();
        out.extend(letters.extract_if(.., |letter| wanted(letter)));
        self.count.store(letters.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::reactor::{Reactor, Wait};

    #[test]
    fn some_letters_are_taken_and_the_others_keep_their_order() {
        let mailbox = Mailbox::new(Reactor::new().unwrap().waker());
        (0..6).for_each(|number| mailbox.push(number));
        let mut letters = Vec::new();
        mailbox.drain_if(&mut letters, |number| number % 2 == 1);
        assert_eq!((letters.as_slice(), mailbox.len()), (&[1, 3, 5][..], 3));
        letters.clear();
        mailbox.drain(&mut letters);
        assert_eq!((letters.as_slice(), mailbox.len()), (&[0, 2, 4][..], 0));
    }

    #[test]
    fn every_sender_keeps_its_order_and_no_letter_is_lost() {
        const SENDERS: usize = 3;
        const LETTERS: usize = 5_000;
        let mut reactor = Reactor::new().unwrap();
        let mailbox = Arc::new(Mailbox::new(reactor.waker()));
        let send = |sender: usize| {
            let mailbox = Arc::clone(&mailbox);
            std::thread::spawn(move || {
                for number in 0..LETTERS {
                    mailbox.push((sender, number));
                    mailbox.wake();
                }
            })
        };
        let senders: Vec<_> = (0..SENDERS).map(send).collect();
        let (mut letters, mut events) = (Vec::new(), Vec::new());
        while letters.len() < SENDERS * LETTERS {
            let limit = std::time::Duration::from_secs(5);
            let started = std::time::Instant::now();
            reactor.poll(Wait::AtMost(limit), &mut events).unwrap();
            assert!(started.elapsed() < limit, "a wake was lost");
            mailbox.drain(&mut letters);
        }
        assert!(mailbox.is_empty());
        for sender in senders {
            sender.join().unwrap();
        }
        for sender in 0..SENDERS {
            let numbers = letters.iter().filter(|(from, _)| *from == sender).map(|(_, n)| *n);
            assert!(numbers.eq(0..LETTERS), "sender {sender} was reordered");
        }
    }
}
