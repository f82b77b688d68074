//! Freeing of big values off the hot path: one thread with a bounded queue. When the queue is full, whoever
//! brings more frees it itself: memory that waits to be freed is bounded, too. It knows no key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use larder_store::Record;
use larder_store::keyspace::Trash;

/// Batches that may wait.
const QUEUE: usize = 4096;

/// What waits.
enum Job {
    Records(Vec<Record>, usize),
    Tables(Trash),
}

/// The counts of what waits and of what was freed.
#[derive(Debug, Default)]
struct Books {
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    freed: AtomicU64,
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
    for job in jobs {
        finish(job, books);
    }
}

fn finish(job: Job, books: &Books) {
    let (count, bytes) = job.size();
    drop(job);
    books.waiting.fetch_sub(count, Ordering::Relaxed);
    books.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    books.freed.fetch_add(count as u64, Ordering::Relaxed);
}

impl Job {
    fn size(&self) -> (usize, usize) {
        match self {
            Job::Records(records, bytes) => (records.len(), *bytes),
            Job::Tables(trash) => (trash.len(), 0),
        }
    }
}

impl Background {
    /// Frees values.
    pub fn free(&self, records: Vec<Record>) {
        let bytes = records.iter().map(|record| record.as_ref().memory_usage()).sum();
        self.bring(Job::Records(records, bytes));
    }

    /// Frees what a flush took out; at once if that is wanted.
    pub fn free_tables(&self, trash: Trash, at_once: bool) {
        if at_once {
            drop(trash);
        } else if !trash.is_empty() {
            self.bring(Job::Tables(trash));
        }
    }

    fn bring(&self, job: Job) {
        let (count, bytes) = job.size();
        self.books.waiting.fetch_add(count, Ordering::Relaxed);
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
        for _ in 0..1000 {
            if background.waiting() == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!((background.freed(), background.waiting_bytes()), (100, 0));
    }
}
