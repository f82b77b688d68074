//! The journal: one totally ordered log of effects. A write appends what it did while it still holds the
//! locks of its slots, so the order here is the order of the data. The offset of a byte in it *is* the
//! replication offset; the AOF, replicas and the backlog are readers of the same bytes.
//!
//! It knows bytes and offsets: not what a command is, nor who reads. Its lock is a leaf: taken last, held
//! for a copy of one request, and nothing is locked under it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Duration;

use larder_cluster::replication::{Offset, ReplicationId};
use larder_protocol::encode::encode_command;
use larder_store::DbIndex;
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Bytes of a block; a longer effect makes a longer block of its own.
const BLOCK: usize = 64 * 1024;
/// From this length on what is open becomes a block: the next effect seldom makes it longer than a block, for which the
/// allocator would take a quarter more.
const FULL: usize = BLOCK - 512;
/// From this length on a block takes the memory that it was written into.
const OPEN_MAX: usize = 4 * BLOCK;

/// A part of the journal, shared or copied.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where its first byte is.
    pub start: Offset,
    block: Arc<Vec<u8>>,
    from: usize,
}

impl Part {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.get(self.from..).unwrap_or(&[])
    }

    /// Where the next part begins.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.start.plus(self.bytes().len() as u64)
    }
}

/// What is asked for is no longer there, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfReach;

/// Who writes the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody: nothing reads, and nobody may come back to read.
    Off,
    /// This server's commands.
    Own,
    /// The primary that this server follows; what is done here of itself is not recorded.
    Follows,
}

impl Mode {
    fn number(self) -> u8 {
        match self {
            Mode::Off => 0,
            Mode::Own => 1,
            Mode::Follows => 2,
        }
    }
}

/// One who reads: the blocks that it has yet to read are kept. Dropped, it is forgotten.
#[derive(Debug)]
pub struct Reader {
    place: Arc<Place>,
    /// Which beginning of the journal its offsets are about.
    generation: u64,
}

impl Reader {
    /// Up to where it has read.
    #[must_use]
    pub fn position(&self) -> Offset {
        Offset(self.place.at.load(Ordering::Acquire))
    }

    /// What comes next, in parts of at most `max` bytes and a part together.
    ///
    /// # Errors
    /// `OutOfReach` if the journal began anew.
    pub fn read(&self, journal: &Journal, max: usize) -> Result<Vec<Part>, OutOfReach> {
        self.read_from(journal, self.position(), max)
    }

    /// The same from an offset that it has not yet done with.
    ///
    /// # Errors
    /// `OutOfReach` if the journal began anew.
    pub fn read_from(
        &self,
        journal: &Journal,
        from: Offset,
        max: usize,
    ) -> Result<Vec<Part>, OutOfReach> {
        let tail = journal.tail.lock();
        // The same numbers may stand for other bytes now.
        if tail.generation != self.generation {
            return Err(OutOfReach);
        }
        let parts = tail.read(from, max)?;
        let copy = parts.last().filter(|part| part.start >= tail.open_start);
        self.place.copied.store(copy.map_or(0, |part| part.block.len()), Ordering::Relaxed);
        journal.note_surplus(&tail);
        Ok(parts)
    }

    /// What is to be known of the bytes from an offset on.
    ///
    /// # Errors
    /// `OutOfReach` if the journal began anew.
    pub fn marks(&self, journal: &Journal, from: Offset) -> Result<Marks, OutOfReach> {
        let tail = journal.tail.lock();
        if tail.generation != self.generation {
            return Err(OutOfReach);
        }
        let hidden = tail.stream_only.iter().filter(|range| range.start >= from);
        let hidden = hidden.copied().collect();
        Ok(Marks { hidden, names: tail.names.iter().copied().collect() })
    }

    /// Whether the journal has not begun anew since.
    #[must_use]
    pub fn is_current(&self, journal: &Journal) -> bool {
        journal.tail.lock().generation == self.generation
    }

    /// It has done with everything before this offset.
    pub fn advance(&self, to: Offset) {
        self.place.at.fetch_max(to.0, Ordering::AcqRel);
    }

    /// Sleeps until somebody is in a hurry, or the time is over: who has just read lets a little gather, so that it
    /// is not woken, nor calls the system, for each piece of it.
    pub fn pause(&self, journal: &Journal, at_most: Duration) {
        journal.pause(at_most);
    }

    /// Sleeps until there is something that it has not read, or the time is over.
    pub fn wait(&self, journal: &Journal, at_most: Duration) {
        journal.wait_beyond(self.position(), at_most);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.place.at.store(GONE, Ordering::Release);
    }
}

/// The position of a reader that is no more.
const GONE: u64 = u64::MAX;

/// What the journal knows of a reader.
#[derive(Debug)]
struct Place {
    /// Up to where it has read.
    at: AtomicU64,
    /// Bytes of what was open when it last read: it was given a copy.
    copied: AtomicUsize,
}

impl Place {
    fn is_taken(&self) -> bool {
        self.at.load(Ordering::Acquire) != GONE
    }
}

#[derive(Debug)]
struct Block {
    start: Offset,
    bytes: Arc<Vec<u8>>,
}

/// A range that only replicas are to see (keep-alives): no other reader writes it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOnly {
    /// Where it begins.
    pub start: Offset,
    /// Its length.
    pub len: u64,
}

/// From this offset on the history has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Where it begins.
    pub from: Offset,
    /// The name.
    pub id: ReplicationId,
}

/// What is to be known of some bytes beside the bytes.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Ranges that only replicas are to see, in order.
    pub hidden: Vec<StreamOnly>,
    /// How the history is called, and from where on, in order.
    pub names: Vec<Named>,
}

impl Marks {
    /// What the history is called at an offset.
    #[must_use]
    pub fn name_at(&self, offset: Offset) -> Option<ReplicationId> {
        self.names.iter().rev().find(|named| named.from <= offset).map(|named| named.id)
    }
}

#[derive(Debug, Default)]
struct Tail {
    sealed: VecDeque<Block>,
    open: Vec<u8>,
    open_start: Offset,
    /// Memory that `sealed` takes.
    held: usize,
    /// The database that the stream is in; `None`: a SELECT must come first.
    db: Option<DbIndex>,
    stream_only: VecDeque<StreamOnly>,
    /// Its names; the first holds for what is held from the beginning on.
    names: VecDeque<Named>,
    /// Bytes always kept for replicas that come back (`repl-backlog-size`).
    backlog: usize,
    /// Where its readers are.
    readers: Vec<Arc<Place>>,
    /// How often the journal began anew.
    generation: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Journal {
    mode: AtomicU8,
    end: AtomicU64,
    /// See [`Journal::surplus`].
    surplus: AtomicUsize,
    tail: Mutex<Tail>,
    /// Readers that sleep.
    sleepers: AtomicU32,
    /// Somebody waits for the readers: those that pause go on.
    hurried: AtomicBool,
    bed: Mutex<()>,
    bell: Condvar,
}

impl Journal {
    /// Whether anything is recorded at all: somebody reads, or may come back to.
    #[inline]
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.mode.load(Ordering::Relaxed) != Mode::Off.number()
    }

    /// Whether the effects of this server's own commands are to be recorded.
    #[inline]
    #[must_use]
    pub fn records_effects(&self) -> bool {
        self.mode.load(Ordering::Relaxed) == Mode::Own.number()
    }

    /// Who writes from now on. `from`: at this offset, forgetting everything before; else it goes on. Only in the
    /// exclusive section, so that no write is half recorded.
    pub fn set_mode(&self, mode: Mode, from: Option<Offset>) {
        let mut tail = self.tail.lock();
        if let Some(start) = from {
            let backlog = tail.backlog;
            // Readers of what was before learn that it is out of reach.
            let generation = tail.generation + 1;
            *tail = Tail { open_start: start, backlog, generation, ..Tail::default() };
            self.end.store(start.0, Ordering::Release);
            self.trim_held(&mut tail);
        }
        if mode != Mode::Off {
            // All at once, so that the first effects do not seem to cost memory.
            let missing = BLOCK.saturating_sub(tail.open.len());
            tail.open.reserve_exact(missing);
        }
        tail.db = None;
        self.mode.store(mode.number(), Ordering::Release);
    }

    /// A reader that begins here.
    ///
    /// # Errors
    /// `OutOfReach` if the bytes are gone, or the offset is beyond the end.
    pub fn join(&self, from: Offset) -> Result<Reader, OutOfReach> {
        let mut tail = self.tail.lock();
        if from < tail.first() || from > tail.end() {
            return Err(OutOfReach);
        }
        let place = Arc::new(Place { at: AtomicU64::new(from.0), copied: AtomicUsize::new(0) });
        tail.readers.push(Arc::clone(&place));
        Ok(Reader { place, generation: tail.generation })
    }

    /// Whether anybody reads.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        let mut tail = self.tail.lock();
        tail.readers.retain(|reader| reader.is_taken());
        !tail.readers.is_empty()
    }

    /// Wakes the readers that sleep, if there is something for them. Outside of all slot locks.
    #[inline]
    pub fn wake(&self) {
        // Pairs with the fence of a reader that is about to sleep: one of both sees the other.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 || self.hurried.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Somebody waits for what is recorded so far: the next `wake` ends the readers' pauses, too. It rings no bell
    /// itself, so it may be called anywhere.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Release);
    }

    /// Wakes the readers that sleep, whether there is something for them or not.
    #[cold]
    pub fn ring(&self) {
        // Not between a reader's last look and its sleep.
        let bed = self.bed.lock();
        self.hurried.store(false, Ordering::Relaxed);
        drop(bed);
        self.bell.notify_all();
    }

    /// Sleeps until somebody is in a hurry, or the time is over.
    fn pause(&self, at_most: Duration) {
        let mut bed = self.bed.lock();
        if !self.hurried.load(Ordering::Acquire) {
            let _ = self.bell.wait_for(&mut bed, at_most);
        }
    }

    /// Sleeps until something is recorded beyond this offset, or the time is over.
    pub fn wait_beyond(&self, offset: Offset, at_most: Duration) {
        let mut bed = self.bed.lock();
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.end() <= offset {
            // Whoever is woken looks again, for whatever reason it was.
            let _ = self.bell.wait_for(&mut bed, at_most);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets how many bytes are kept for replicas that come back.
    pub fn set_backlog(&self, bytes: usize) {
        let mut tail = self.tail.lock();
        tail.backlog = bytes;
        self.trim_held(&mut tail);
    }

    /// The end of what was recorded.
    #[inline]
    #[must_use]
    pub fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    /// The first offset that can still be read.
    #[must_use]
    pub fn first(&self) -> Offset {
        self.tail.lock().first()
    }

    /// Records effects on one database, which end up next to each other. Returns the end: what the reply to
    /// their command depends on. Call it while the slots of the effects are locked.
    pub fn append(&self, db: DbIndex, effects: &[u8]) -> Offset {
        let mut tail = self.tail.lock();
        tail.select(db);
        tail.push(effects);
        self.finish(tail)
    }

    /// The same with one request, which is written where it is to lie.
    #[inline]
    pub fn append_request(&self, db: DbIndex, request: &[&[u8]]) -> Offset {
        let mut tail = self.tail.lock();
        tail.select(db);
        encode_command(&mut tail.open, request);
        self.finish(tail)
    }

    /// Records bytes as they came from a primary; after them the stream is in this database.
    pub fn append_raw(&self, db: DbIndex, bytes: &[u8]) -> Offset {
        let mut tail = self.tail.lock();
        tail.db = Some(db);
        tail.push(bytes);
        self.finish(tail)
    }

    /// Records bytes for replicas only.
    pub fn append_stream_only(&self, bytes: &[u8]) -> Offset {
        let mut tail = self.tail.lock();
        let mark = StreamOnly { start: tail.end(), len: bytes.len() as u64 };
        tail.stream_only.push_back(mark);
        tail.push(bytes);
        self.finish(tail)
    }

    /// What is recorded from now on belongs to the history of this name.
    pub fn name(&self, id: ReplicationId) {
        let mut tail = self.tail.lock();
        let from = tail.end();
        if tail.names.back().is_some_and(|named| named.id == id) {
            return;
        }
        // Nothing was recorded under the last name.
        tail.names.pop_back_if(|named| named.from == from);
        tail.names.push_back(Named { from, id });
    }

    /// The next effect is preceded by a SELECT: a reader begins here that knows no database.
    pub fn forget_database(&self) {
        self.tail.lock().db = None;
    }

    /// The database that the stream is in at its end; `None`: the next effect selects one.
    #[must_use]
    pub fn database(&self) -> Option<DbIndex> {
        self.tail.lock().db
    }

    /// The parts from an offset on, at most `max` bytes and a part; none at the end.
    ///
    /// # Errors
    /// `OutOfReach` if the bytes are gone, or the offset is beyond the end.
    pub fn read(&self, from: Offset, max: usize) -> Result<Vec<Part>, OutOfReach> {
        self.tail.lock().read(from, max)
    }

    /// Lets go what no reader needs and what exceeds the backlog.
    pub fn trim(&self) {
        self.trim_held(&mut self.tail.lock());
    }

    fn trim_held(&self, tail: &mut Tail) {
        tail.trim();
        self.note_surplus(tail);
    }

    fn note_surplus(&self, tail: &Tail) {
        let copied = tail.readers.iter().map(|reader| reader.copied.load(Ordering::Relaxed));
        let held = tail.held + tail.open.capacity() + copied.sum::<usize>();
        self.surplus.store(held.saturating_sub(tail.backlog), Ordering::Relaxed);
    }

    /// Bytes held beyond the backlog, for readers that lag behind, and what they were given of what is open.
    #[inline]
    #[must_use]
    pub fn surplus(&self) -> usize {
        self.surplus.load(Ordering::Relaxed)
    }

    /// Memory held now.
    #[must_use]
    pub fn held(&self) -> usize {
        let mut tail = self.tail.lock();
        self.trim_held(&mut tail);
        tail.held + tail.open.capacity()
    }

    #[inline]
    fn finish(&self, mut tail: MutexGuard<'_, Tail>) -> Offset {
        let end = tail.end();
        if tail.open.len() >= FULL {
            tail.seal();
            self.trim_held(&mut tail);
        }
        self.end.store(end.0, Ordering::Release);
        end
    }
}

/// The memory that a block of so many bytes takes: the allocator knows four sizes between a power of two and the next.
fn footprint(len: usize) -> usize {
    /// The place in the queue and the head of what is shared.
    const AROUND: usize = 64;
    len.next_multiple_of((len.next_power_of_two() / 8).max(1)) + AROUND
}

impl Tail {
    fn end(&self) -> Offset {
        self.open_start.plus(self.open.len() as u64)
    }

    fn first(&self) -> Offset {
        self.sealed.front().map_or(self.open_start, |block| block.start)
    }

    fn read(&self, from: Offset, max: usize) -> Result<Vec<Part>, OutOfReach> {
        if from < self.first() || from > self.end() {
            return Err(OutOfReach);
        }
        let after = self.sealed.partition_point(|block| block.start <= from);
        let (mut parts, mut total) = (Vec::new(), 0);
        for block in self.sealed.iter().skip(after.saturating_sub(1)) {
            let skip = usize::try_from(from.since(block.start)).unwrap_or(usize::MAX);
            if skip >= block.bytes.len() {
                continue;
            }
            if total >= max {
                break;
            }
            let part = Part {
                start: block.start.plus(skip as u64),
                block: Arc::clone(&block.bytes),
                from: skip,
            };
            total += part.bytes().len();
            parts.push(part);
        }
        let reached = parts.last().map_or(from, Part::end);
        if total < max && reached >= self.open_start && reached < self.end() {
            // A copy: what is open still grows, and is at most a block.
            let skip = usize::try_from(reached.since(self.open_start)).unwrap_or(usize::MAX);
            let bytes = self.open.get(skip..).unwrap_or(&[]).to_vec();
            parts.push(Part { start: reached, block: Arc::new(bytes), from: 0 });
        }
        Ok(parts)
    }

    fn push(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    /// What follows is in this database.
    #[inline]
    fn select(&mut self, db: DbIndex) {
        if self.db != Some(db) {
            self.db = Some(db);
            let number = db.0.to_string();
            encode_command(&mut self.open, &[b"SELECT", number.as_bytes()]);
        }
    }

    /// Copies what is open into a block of its own. Effects are written into the same memory over and over, which
    /// stays in the nearest caches: fresh memory made each of them wait for it when its lock was let go, which costs
    /// several times this copy.
    #[cold]
    fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let start = self.open_start;
        self.open_start = self.end();
        // A huge effect is not copied.
        let bytes = match self.open.len() {
            ..OPEN_MAX => self.open.as_slice().to_vec(),
            OPEN_MAX.. => std::mem::replace(&mut self.open, Vec::with_capacity(BLOCK)),
        };
        self.open.clear();
        self.held += footprint(bytes.len());
        self.sealed.push_back(Block { start, bytes: Arc::new(bytes) });
    }

    /// Where the slowest reader is.
    fn needed(&mut self) -> Offset {
        self.readers.retain(|reader| reader.is_taken());
        let slowest = self.readers.iter().map(|reader| reader.at.load(Ordering::Acquire)).min();
        slowest.map_or(self.end(), Offset)
    }

    /// Lets blocks go that nobody needs and that exceed the backlog.
    fn trim(&mut self) {
        let needed = self.needed();
        while let Some(block) = self.sealed.front() {
            let end = block.start.plus(block.bytes.len() as u64);
            let after = self.end().since(end);
            if end > needed || after < self.backlog as u64 {
                break;
            }
            self.held -= footprint(block.bytes.len());
            self.sealed.pop_front();
        }
        let first = self.first();
        while self.stream_only.front().is_some_and(|range| range.start < first) {
            self.stream_only.pop_front();
        }
        while self.names.get(1).is_some_and(|named| named.from <= first) {
            self.names.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(journal: &Journal, from: Offset) -> Vec<u8> {
        let (mut at, mut all) = (from, Vec::new());
        loop {
            let parts = journal.read(at, 10).expect("within reach");
            let Some(last) = parts.last() else { return all };
            at = last.end();
            for part in &parts {
                all.extend_from_slice(part.bytes());
            }
        }
    }

    #[test]
    fn a_database_is_selected_once() {
        let journal = Journal::default();
        journal.set_mode(Mode::Own, Some(Offset(100)));
        assert_eq!(journal.append(DbIndex(0), b"a"), Offset(100 + 23 + 1));
        journal.append(DbIndex(0), b"b");
        journal.append(DbIndex(12), b"c");
        let select = |db: &str| format!("*2\r\n$6\r\nSELECT\r\n${}\r\n{db}\r\n", db.len());
        let all = format!("{}ab{}c", select("0"), select("12"));
        assert_eq!(text(&journal, Offset(100)), all.as_bytes());
        journal.forget_database();
        let end = journal.end();
        journal.append(DbIndex(12), b"d");
        assert_eq!(text(&journal, end), format!("{}d", select("12")).as_bytes());
    }

    #[test]
    fn only_what_is_held_can_be_read() {
        let journal = Journal::default();
        journal.set_mode(Mode::Own, Some(Offset(10)));
        journal.append_raw(DbIndex(0), b"abc");
        assert!(journal.read(Offset(9), 1).is_err());
        assert!(journal.read(Offset(14), 1).is_err());
        assert_eq!(text(&journal, Offset(12)), b"c");
        assert!(journal.read(Offset(13), 1).expect("the end").is_empty());
    }

    #[test]
    fn the_backlog_stays_and_the_rest_goes_when_nobody_needs_it() {
        let journal = Journal::default();
        journal.set_mode(Mode::Own, Some(Offset(0)));
        journal.set_backlog(3 * BLOCK);
        let reader = journal.join(Offset(0)).expect("the beginning");
        for _ in 0..20 {
            journal.append_raw(DbIndex(0), &vec![b'x'; BLOCK]);
        }
        assert_eq!(journal.first(), Offset(0), "a reader still needs all of it");
        reader.advance(Offset(15 * BLOCK as u64));
        journal.trim();
        assert_eq!(journal.first(), Offset(15 * BLOCK as u64));
        drop(reader);
        journal.trim();
        let kept = journal.end().since(journal.first());
        assert!((3 * BLOCK as u64..5 * BLOCK as u64).contains(&kept), "{kept}");
        assert!(journal.held() < 6 * BLOCK);
    }

    #[test]
    fn a_reader_that_sleeps_is_woken_and_one_of_an_old_journal_is_told() {
        let journal = Journal::default();
        journal.set_mode(Mode::Own, Some(Offset(0)));
        let reader = journal.join(Offset(0)).expect("the beginning");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                journal.append(DbIndex(0), b"x");
                journal.wake();
            });
            let begun = std::time::Instant::now();
            reader.wait(&journal, Duration::from_secs(30));
            assert!(begun.elapsed() < Duration::from_secs(20));
        });
        assert_eq!(reader.read(&journal, 100).expect("within reach").len(), 1);
        journal.set_mode(Mode::Follows, Some(Offset(900)));
        assert_eq!(reader.read(&journal, 100).unwrap_err(), OutOfReach);
    }

    #[test]
    fn a_pause_ends_when_somebody_is_in_a_hurry_and_not_for_what_is_recorded() {
        let long = Duration::from_secs(30);
        let journal = Journal::default();
        journal.set_mode(Mode::Own, Some(Offset(0)));
        let reader = journal.join(Offset(0)).expect("the beginning");
        let took = |until: fn(&Journal), at_most| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(20));
                    journal.append(DbIndex(0), b"x");
                    until(&journal);
                    journal.wake();
                });
                let begun = std::time::Instant::now();
                reader.pause(&journal, at_most);
                begun.elapsed()
            })
        };
        assert!(took(|_| {}, Duration::from_millis(200)) >= Duration::from_millis(200));
        assert!(took(Journal::hurry, long) < long / 2);
        // Who came before the pause is not forgotten, and who was heard is.
        journal.hurry();
        let begun = std::time::Instant::now();
        reader.pause(&journal, long);
        assert!(begun.elapsed() < long / 2);
        journal.wake();
        assert!(took(|_| {}, Duration::from_millis(200)) >= Duration::from_millis(200));
    }

    #[test]
    fn keep_alives_are_for_replicas_only() {
        let journal = Journal::default();
        journal.set_mode(Mode::Own, Some(Offset(0)));
        journal.append_raw(DbIndex(0), b"abc");
        journal.append_stream_only(b"PING");
        journal.append_raw(DbIndex(0), b"d");
        assert_eq!(text(&journal, Offset(0)), b"abcPINGd");
        let reader = journal.join(Offset(0)).expect("the beginning");
        let hidden = |from| reader.marks(&journal, Offset(from)).expect("current").hidden;
        assert_eq!(hidden(0), [StreamOnly { start: Offset(3), len: 4 }]);
        assert!(hidden(4).is_empty());
    }

    #[test]
    fn a_name_holds_from_where_it_was_given() {
        let journal = Journal::default();
        let id = |seed: u8| ReplicationId::from_bits([seed; 20]);
        journal.set_mode(Mode::Own, Some(Offset(10)));
        journal.name(id(1));
        journal.append_raw(DbIndex(0), b"abc");
        journal.name(id(2));
        journal.name(id(3));
        journal.append_raw(DbIndex(0), b"d");
        let reader = journal.join(Offset(10)).expect("the beginning");
        let marks = reader.marks(&journal, Offset(10)).expect("current");
        assert_eq!(marks.names.len(), 2, "nothing was ever called by the second name");
        let at = |offset| marks.name_at(Offset(offset));
        assert_eq!([at(9), at(10), at(12)], [None, Some(id(1)), Some(id(1))]);
        assert_eq!([at(13), at(99)], [Some(id(3)); 2]);
        drop(reader);
        for _ in 0..3 {
            journal.append_raw(DbIndex(0), &vec![b'x'; BLOCK]);
        }
        let reader = journal.join(journal.end()).expect("the end");
        let marks = reader.marks(&journal, journal.end()).expect("current");
        assert_eq!(marks.names, [Named { from: Offset(13), id: id(3) }]);
        journal.set_mode(Mode::Follows, Some(Offset(5)));
        assert!(reader.marks(&journal, Offset(5)).is_err(), "of another journal");
    }

    proptest! {
        #[test]
        fn every_reader_sees_the_same_bytes(
            pieces in proptest::collection::vec((0usize..3 * BLOCK, any::<bool>()), 1..12), from in any::<prop::sample::Index>(),
        ) {
            let journal = Journal::default();
            journal.set_mode(Mode::Own, Some(Offset(0)));
            let _reader = journal.join(Offset(0)).expect("the beginning");
            let mut model = Vec::new();
            for (at, (len, read)) in pieces.iter().enumerate() {
                let piece = vec![u8::try_from(at).unwrap_or(0); *len];
                model.extend_from_slice(&piece);
                prop_assert_eq!(journal.append_raw(DbIndex(0), &piece), Offset(model.len() as u64));
                if *read {
                    let _ = journal.read(journal.end(), 1);
                }
            }
            let from = from.index(model.len() + 1);
            prop_assert_eq!(text(&journal, Offset(from as u64)), &model[from..]);
        }
    }
}
