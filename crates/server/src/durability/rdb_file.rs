//! The keyspace in RDB form: a snapshot written to whatever takes bytes, and the keyspace filled from whatever gives
//! them. It knows neither files nor links: who saves, rewrites a log or copies to a replica owns those.

use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{TrySendError, sync_channel};
use std::time::{Duration, Instant};

use larder_base::slot::Slot;
use larder_persist::rdb::{self, Entry, Item, Options, Reader, WriteError, Writer};
use larder_protocol::encode::encode_command;
use larder_store::keyspace::Located;
use larder_store::snapshot::{self, Snapshot};
use larder_store::{DbIndex, Dues, Keyspace};
use parking_lot::Mutex;

use super::changed::Tag;
use super::pace::Pace;
use super::save::SaveError;
use crate::log::{notice, warning};
use crate::replication::{Point, roles};
use crate::shared::{Server, now};

/// Records or members shown in one go, under the lock of a slot.
const STEP: usize = 256;
/// What a writer is given between two steps that held him up.
const BREATH: Duration = Duration::from_micros(50);
/// Bytes gathered before they go to their place.
const STAGED: usize = 1 << 20;
/// The note that names changed keys.
const CHANGED: &[u8] = b"larder-changed";
/// Tags in one such note.
const TAGS_TOGETHER: usize = 4096;
/// Keys that are put into the keyspace in one go.
const BATCH: usize = 128;
/// More threads than this wait for the one that reads.
const HELPERS_MAX: usize = 3;

/// What is written while slots are locked gathers here; the place itself is written to afterwards.
#[derive(Clone, Default)]
struct Staging(Arc<Mutex<Vec<u8>>>);

impl Write for Staging {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staging {
    fn pour(&self, sink: &mut dyn Write, at_least: usize) -> io::Result<()> {
        let mut staged = self.0.lock();
        if staged.len() >= at_least {
            let bytes = std::mem::take(&mut *staged);
            drop(staged);
            sink.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// Writes a snapshot, with these notes (`AUX` fields) beside the usual ones. `progress` hears of the keys written and
/// the keys there are, from time to time; an error that it returns ends the writing.
///
/// # Errors
/// If the sink fails, a database was flushed meanwhile, or the version cannot hold the data. The snapshot must be
/// dropped then: see [`finish`].
pub fn write(
    server: &Server,
    snapshot: &mut Snapshot,
    options: Options,
    notes: &[(&str, &str)],
    sink: &mut dyn Write,
    progress: impl FnMut(usize, usize) -> io::Result<()>,
) -> Result<(), SaveError> {
    write_keys(server, snapshot, None, options, notes, sink, progress)
}

/// As [`write`], of some keys only, which are named first, whether they are still there or not: whoever has the
/// others takes this over by [`load_changes`]. Only servers of our kind understand it.
///
/// # Errors
/// As [`write`].
pub fn write_changes(
    server: &Server,
    snapshot: &mut Snapshot,
    only: &HashSet<Tag>,
    options: Options,
    notes: &[(&str, &str)],
    sink: &mut dyn Write,
) -> Result<(), SaveError> {
    write_keys(server, snapshot, Some(only), options, notes, sink, |_, _| Ok(()))
}

fn write_keys(
    server: &Server,
    snapshot: &mut Snapshot,
    only: Option<&HashSet<Tag>>,
    options: Options,
    notes: &[(&str, &str)],
    sink: &mut dyn Write,
    mut progress: impl FnMut(usize, usize) -> io::Result<()>,
) -> Result<(), SaveError> {
    let staging = Staging::default();
    let mut writer = Writer::new(staging.clone(), options)?;
    write_notes(server, &mut writer, only, notes)?;
    let (mut selected, mut failed) = (None, None);
    let mut wanted = true;
    let mut pace = Pace::of(server.config().rdb_key_save_delay);
    let (step, staged) = if pace.is_slow() { (1, 0) } else { (STEP, STAGED) };
    loop {
        let more = snapshot.step(&server.keyspace, step, &mut |item| {
            if let Some(only) = only {
                match &item {
                    snapshot::Item::Record(_, record) => {
                        wanted = only.contains(&Tag::of(record.key()));
                    }
                    snapshot::Item::Begin(head) => wanted = only.contains(&Tag::of(head.key)),
                    snapshot::Item::Member(..) | snapshot::Item::End => {}
                }
            }
            if wanted
                && failed.is_none()
                && let Err(error) = put(&mut writer, &mut selected, item)
            {
                failed = Some(error);
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        if snapshot.is_broken(&server.keyspace) {
            return Err(SaveError::Flushed);
        }
        staging.pour(sink, staged)?;
        if snapshot.disturbs() {
            std::thread::sleep(BREATH);
        }
        let (seen, all) = snapshot.progress();
        progress(seen, all)?;
        if !more {
            break;
        }
        pace.wait(&server.stopping, || match snapshot.is_broken(&server.keyspace) {
            true => Err(SaveError::Flushed),
            false => Ok(progress(seen, all)?),
        })?;
    }
    writer.finish()?;
    staging.pour(sink, 0)?;
    sink.flush()?;
    Ok(())
}

/// What stands before the data: notes, and the keys that are named.
fn write_notes(
    server: &Server,
    writer: &mut Writer<Staging>,
    only: Option<&HashSet<Tag>>,
    notes: &[(&str, &str)],
) -> Result<(), SaveError> {
    let used = (server.memory.used)().to_string();
    let seconds = (now().0 / 1000).to_string();
    let usual = [
        ("redis-ver", crate::control::server::REDIS_VERSION),
        ("redis-bits", "64"),
        ("ctime", &*seconds),
        ("used-mem", &*used),
    ];
    for (name, text) in usual.iter().chain(notes) {
        writer.aux(name.as_bytes(), text.as_bytes())?;
    }
    let mut tags: Vec<u64> = only.into_iter().flatten().map(|tag| tag.0).collect();
    // By slot, as they will be looked for.
    tags.sort_unstable();
    for part in tags.chunks(TAGS_TOGETHER) {
        let bytes: Vec<u8> = part.iter().flat_map(|tag| tag.to_le_bytes()).collect();
        writer.aux(CHANGED, &bytes)?;
    }
    Ok(())
}

/// Ends a snapshot that nobody will read to its end: only then its lane is free again.
pub fn finish(server: &Server, mut snapshot: Snapshot) {
    while snapshot.step(&server.keyspace, 4096, &mut |_| {}) {}
}

fn put(
    writer: &mut Writer<Staging>,
    selected: &mut Option<DbIndex>,
    item: snapshot::Item<'_>,
) -> Result<(), WriteError> {
    let mut select = |writer: &mut Writer<Staging>, db: DbIndex| {
        if *selected != Some(db) {
            *selected = Some(db);
            return writer.select(u64::from(db.0));
        }
        Ok(())
    };
    match item {
        snapshot::Item::Record(db, record) => {
            select(writer, db)?;
            writer.record(record, None)
        }
        snapshot::Item::Begin(head) => {
            select(writer, head.db)?;
            writer.begin(&head, None)
        }
        snapshot::Item::Member(member, score) => writer.member(member, score),
        snapshot::Item::End => writer.end(),
    }
}

/// What becomes of keys that are due already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// They are passed over: nobody will hear of them again.
    Skip,
    /// The same, but where the notes name a point of a history, that goes on from there, and the journal tells those
    /// who hold these keys that they go.
    Tell,
    /// They are kept: a log or a primary says when they go.
    Keep,
}

/// What was loaded.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Keys put into the keyspace.
    pub keys: usize,
    /// Keys that were due already.
    pub expired: usize,
    /// Notes (`AUX` fields) in the file's order.
    pub notes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes read.
    pub bytes: u64,
}

impl Loaded {
    /// The text of a note.
    pub fn note(&self, name: &str) -> Option<&[u8]> {
        let found = self.notes.iter().find(|(of, _)| of == name.as_bytes());
        found.map(|(_, text)| text.as_slice())
    }

    fn keep_note(&mut self, name: Vec<u8>, text: Vec<u8>) {
        /// More than any program writes.
        const NOTES_MAX: usize = 64;
        if self.notes.len() < NOTES_MAX {
            self.notes.push((name, text));
        }
    }
}

/// Puts what a source holds into the keyspace, beside what is there. The source may go on after the end. With
/// several workers one thread reads while others put, as many as there are workers in all.
///
/// # Errors
/// Why the data is refused, and at which byte. What came before is in the keyspace then.
pub fn load(server: &Server, source: impl BufRead, due: Due) -> Result<Loaded, String> {
    load_keys(server, &server.keyspace, source, due, false)
}

/// Puts what a source holds into an empty keyspace beside the one that is served; what is due is kept.
///
/// # Errors
/// As [`load`].
pub fn load_beside(
    server: &Server,
    keyspace: &Keyspace,
    source: impl BufRead,
) -> Result<Loaded, String> {
    load_keys(server, keyspace, source, Due::Keep, false)
}

/// Takes over what [`write_changes`] wrote: the keys that it names go, and those that it holds come in their place.
/// Whoever reads meanwhile may miss some.
///
/// # Errors
/// As [`load`]: the data is neither the old nor the new then.
pub fn load_changes(server: &Server, source: impl BufRead) -> Result<Loaded, String> {
    load_keys(server, &server.keyspace, source, Due::Keep, true)
}

fn load_keys(
    server: &Server,
    keyspace: &Keyspace,
    source: impl BufRead,
    due: Due,
    changes: bool,
) -> Result<Loaded, String> {
    let helpers = server.workers.len().clamp(1, HELPERS_MAX + 1) - 1;
    let putting =
        Putting { server, keyspace, failed: Mutex::default(), expected: AtomicUsize::new(0) };
    let result = if helpers == 0 {
        read(server, source, due, changes, &putting, &mut |batch| putting.put_all(batch))
    } else {
        let (queue, batches) = sync_channel::<Vec<Entry>>(2 * helpers);
        let batches = Mutex::new(batches);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| {
                    loop {
                        let next = batches.lock().recv();
                        let Ok(mut batch) = next else { return };
                        putting.put_all(&mut batch);
                    }
                });
            }
            let result = read(server, source, due, changes, &putting, &mut |batch| {
                let next = std::mem::replace(batch, Vec::with_capacity(BATCH));
                // Putting takes longer than reading: while all of them are busy, whoever reads puts too.
                if let Err(TrySendError::Full(mut mine) | TrySendError::Disconnected(mut mine)) =
                    queue.try_send(next)
                {
                    putting.put_all(&mut mine);
                }
            });
            // They end when the queue does.
            drop(queue);
            result
        })
    };
    match putting.failed.into_inner() {
        Some(reason) => Err(reason),
        None => result,
    }
}

/// Reads a source to its end, and hands its entries on in batches.
fn read(
    server: &Server,
    source: impl BufRead,
    due: Due,
    changes: bool,
    putting: &Putting<'_>,
    hand_on: &mut dyn FnMut(&mut Vec<Entry>),
) -> Result<Loaded, String> {
    let refuse = |error: rdb::Error| error.to_string();
    let mut reader = Reader::new(source, &server.settings.thresholds).map_err(refuse)?;
    let (moment, mut loaded, mut told) = (now(), Loaded::default(), Instant::now());
    let mut batch: Vec<Entry> = Vec::with_capacity(BATCH);
    let mut pace = Pace::of(server.config().key_load_delay);
    while let Some(item) = reader.next_item().map_err(refuse)? {
        let entry = match item {
            Item::Entry(entry) => entry,
            Item::Function(_) => {
                warning("The data has functions; there is no scripting yet: they are passed over");
                continue;
            }
            Item::Aux(name, value) if changes && name == CHANGED => {
                remove_keys(server, &value);
                continue;
            }
            Item::Aux(name, value) => {
                loaded.keep_note(name, value);
                continue;
            }
            Item::Sizes { keys, .. } => {
                putting.expect(keys);
                continue;
            }
            _ => continue,
        };
        if entry.deadline.is_some_and(|when| when <= moment) {
            loaded.expired += 1;
            match due {
                Due::Keep => {}
                Due::Skip => continue,
                Due::Tell => {
                    tell_gone(server, &loaded, &entry);
                    continue;
                }
            }
        }
        if usize::try_from(entry.db).map_or(true, |db| db >= server.keyspace.databases()) {
            return Err(format!("database {} at byte {}: too many", entry.db, entry.offset));
        }
        batch.push(entry);
        loaded.keys += 1;
        pace.wait(&server.stopping, || match server.stopping.load(Ordering::Relaxed) {
            true => Err("the server ends".to_owned()),
            false => Ok(()),
        })?;
        if batch.len() == BATCH {
            hand_on(&mut batch);
            batch.clear();
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                notice(&format!("Loading: {} keys, {} bytes read", loaded.keys, reader.offset()));
            }
        }
    }
    hand_on(&mut batch);
    loaded.bytes = reader.offset();
    Ok(loaded)
}

/// A key of the file is no more: those who have it hear of it, if the data is a point of a history.
fn tell_gone(server: &Server, loaded: &Loaded, entry: &Entry) {
    if !server.journal.is_active() {
        let Some(point) = Point::noted(loaded, server.keyspace.databases()) else { return };
        server.exclusively(|_| roles::resume(server, point));
    }
    let mut effect = Vec::new();
    encode_command(&mut effect, &[b"DEL".as_slice(), &entry.key]);
    server.journal.append(DbIndex(u8::try_from(entry.db).unwrap_or(0)), &effect);
}

/// Removes the keys that a note names, in all databases.
fn remove_keys(server: &Server, note: &[u8]) {
    let (words, _) = note.as_chunks::<8>();
    let tags: Vec<Tag> = words.iter().map(|word| Tag(u64::from_le_bytes(*word))).collect();
    for of_slot in tags.chunk_by(|a, b| a.slot() == b.slot()) {
        let Some(slot) = of_slot.first().map(|tag| tag.slot()) else { continue };
        let gone: HashSet<Tag> = of_slot.iter().copied().collect();
        let dbs = (0..server.keyspace.databases()).filter_map(|db| u8::try_from(db).ok());
        for db in dbs.map(DbIndex).filter(|db| !server.keyspace.is_empty(*db)) {
            let keyspace = &server.keyspace;
            let mut view = keyspace.view_slots(&server.settings, db, &[slot], now());
            view.remove_where(slot, |key| gone.contains(&Tag::of(key)));
            view.release();
            server.background.free(std::mem::take(&mut view.trash));
        }
    }
}

/// What those have in common who put entries into a keyspace.
struct Putting<'a> {
    server: &'a Server,
    keyspace: &'a Keyspace,
    /// Why the data cannot be what it says.
    failed: Mutex<Option<String>>,
    /// Keys that a slot is expected to get.
    expected: AtomicUsize,
}

impl Putting<'_> {
    /// So many keys are announced. That is believed as far as it costs 16 MiB in all, should none of them come.
    fn expect(&self, keys: u64) {
        const SLOT_MAX: usize = 80;
        let of_slot = usize::try_from(keys).unwrap_or(usize::MAX) / Slot::COUNT;
        self.expected.store(of_slot.min(SLOT_MAX), Ordering::Relaxed);
    }

    /// Puts a batch into it; the memory of those a few places ahead is fetched meanwhile.
    fn put_all(&self, batch: &mut Vec<Entry>) {
        /// How far ahead a slot and a bucket are fetched.
        const AHEAD: [usize; 2] = [12, 6];
        let keyspace = self.keyspace;
        let (moment, expected) = (now(), self.expected.load(Ordering::Relaxed));
        let places: Vec<(DbIndex, Located)> = batch
            .iter()
            .map(|entry| {
                (DbIndex(u8::try_from(entry.db).unwrap_or(0)), keyspace.locate(&entry.key))
            })
            .collect();
        for (number, entry) in batch.drain(..).enumerate() {
            let [far, near] = AHEAD.map(|ahead| places.get(number + ahead));
            if let Some((db, at)) = far {
                keyspace.prefetch_slot(*db, *at);
            }
            if let Some((db, at)) = near {
                keyspace.prefetch_bucket(*db, *at);
            }
            let Some((db, at)) = places.get(number) else { continue };
            let mut view = keyspace.view_none(&self.server.settings, *db, moment);
            view.set_dues(Dues::Keep);
            view.lock_key(&entry.key, *at);
            view.expect_keys(*at, expected);
            if !view.put_new(&entry.key, entry.value, entry.deadline) {
                self.failed.lock().get_or_insert(format!("a key twice, at byte {}", entry.offset));
            }
        }
    }
}
