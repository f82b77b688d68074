//! Freeing of big values off the hot path: one thread with a bounded queue. When the queue is full, whoever
//! brings more frees it itself: memory that waits to be freed is bounded, too. It knows no key.
//!
//! The thread works in short turns with rests between: where cores are scarce, the system would let it go on for several
//! milliseconds while a worker has requests to answer. It rests only as long as nobody is in need of the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use larder_store::{Record, Trash};

use crate::turns::{self, Share};

/// Batches that may wait.
const QUEUE: usize = 4096;
/// From so many on the thread works without a rest.
const CROWD: usize = QUEUE / 8;
/// The thread works for so long,
const TURN: Duration = Duration::from_micros(200);
/// and rests for so long.
const REST: Duration = Duration::from_micros(800);
/// Allocations between two looks at the clock: about ten microseconds.
const BETWEEN_LOOKS: usize = 100;

/// What waits.
struct Job {
    trash: Trash,
    /// Values or keys in it.
    count: usize,
    /// What is known of its size.
    bytes: usize,
}

/// The counts of what waits and of what was freed.
#[derive(Debug, Default)]
struct Books {
    jobs: AtomicUsize,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    freed: AtomicU64,
    /// Somebody needs memory.
    pressed: AtomicBool,
}

/// See the head of this file.
pub struct Background {
    queue: Option<SyncSender<Job>>,
    books: Arc<Books>,
}

impl Default for Background {
    fn default() -> Background {
        let (queue, jobs) = sync_channel(QUEUE);
        let books = Arc::new(Books::default());
        let theirs = Arc::clone(&books);
        let thread = std::thread::Builder::new().name("free".to_owned());
        match thread.spawn(move || work(&jobs, &theirs)) {
            Ok(_) => Background { queue: Some(queue), books },
            Err(error) => {
                crate::log::warning(&format!("No thread to free big values: {error}"));
                Background { queue: None, books }
            }
        }
    }
}

fn work(jobs: &Receiver<Job>, books: &Books) {
    turns::give_way(Share::Quarter);
    let mut pace = Pace { since: Instant::now() };
    for mut job in jobs {
        // What was freed counts as used no longer, so it must not count as waiting either.
        let bytes_each = job.bytes / job.trash.cost().max(1);
        loop {
            let freed = free_some(&mut job.trash);
            if freed == 0 {
                break;
            }
            let gone = bytes_each.saturating_mul(freed).min(job.bytes);
            books.waiting_bytes.fetch_sub(gone, Ordering::Relaxed);
            job.bytes -= gone;
            pace.keep(books);
        }
        finish(job, books);
    }
}

/// The turns of the thread.
struct Pace {
    /// When this one began.
    since: Instant,
}

impl Pace {
    /// Rests after a turn, if that can be.
    fn keep(&mut self, books: &Books) {
        if self.since.elapsed() < TURN {
            return;
        }
        let in_need = books.pressed.swap(false, Ordering::Relaxed)
            || books.jobs.load(Ordering::Relaxed) > CROWD;
        if !in_need {
            std::thread::sleep(REST);
        }
        self.since = Instant::now();
    }
}

/// Frees about as many allocations as fit between two looks at the clock; returns how many, 0 when nothing is left.
fn free_some(trash: &mut Trash) -> usize {
    let mut freed = 0;
    while freed < BETWEEN_LOOKS {
        match trash.free_some() {
            0 => break,
            step => freed += step,
        }
    }
    freed
}

/// Frees what is left of it.
fn finish(job: Job, books: &Books) {
    let Job { trash, count, bytes } = job;
    drop(trash);
    books.jobs.fetch_sub(1, Ordering::Relaxed);
    books.waiting.fetch_sub(count, Ordering::Relaxed);
    books.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    books.freed.fetch_add(count as u64, Ordering::Relaxed);
}

impl Background {
    /// Frees values.
    pub fn free(&self, records: Vec<Record>) {
        let bytes = records.iter().map(|record| record.as_ref().memory_usage()).sum();
        self.bring(Trash::from(records), bytes);
    }

    /// Frees what a flush took out; at once if that is wanted.
    pub fn free_tables(&self, trash: Trash, at_once: bool) {
        if at_once {
            drop(trash);
        } else if !trash.is_empty() {
            self.bring(trash, 0);
        }
    }

    /// Says that the memory of what waits is wanted now.
    #[inline]
    pub fn press(&self) {
        self.books.pressed.store(true, Ordering::Relaxed);
    }

    fn bring(&self, trash: Trash, bytes: usize) {
        let job = Job { count: trash.len(), trash, bytes };
        self.books.jobs.fetch_add(1, Ordering::Relaxed);
        self.books.waiting.fetch_add(job.count, Ordering::Relaxed);
        self.books.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let back = match &self.queue {
            Some(queue) => match queue.try_send(job) {
                Ok(()) => return,
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
            },
            None => job,
        };
        finish(back, &self.books);
    }

    /// Values that wait (`lazyfree_pending_objects`).
    pub fn waiting(&self) -> usize {
        self.books.waiting.load(Ordering::Relaxed)
    }

    /// Bytes of them: as good as free.
    #[inline]
    pub fn waiting_bytes(&self) -> usize {
        self.books.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Values freed (`lazyfreed_objects`).
    pub fn freed(&self) -> u64 {
        self.books.freed.load(Ordering::Relaxed)
    }

    /// CONFIG RESETSTAT.
    pub fn reset(&self) {
        self.books.freed.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_freed_and_counted() {
        let background = Background::default();
        for _ in 0..100 {
            background.free(vec![Record::text(b"key", b"value", None, false)]);
        }
        let books = || (background.freed(), background.waiting(), background.waiting_bytes());
        let mut naps = 0;
        while books() != (100, 0, 0) && naps < 10_000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            naps += 1;
        }
        assert_eq!(books(), (100, 0, 0));
    }
}
