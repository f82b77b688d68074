//! The keyspace in RDB form: a snapshot written to whatever takes bytes, and the keyspace filled from whatever gives
//! them. It knows neither files nor links: who saves, rewrites a log or copies to a replica owns those.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_persist::rdb::{self, Item, Options, Reader, WriteError, Writer};
use larder_store::snapshot::{self, Snapshot};
use larder_store::{DbIndex, Deadline, Dues};
use parking_lot::Mutex;

use super::save::SaveError;
use crate::log::{notice, warning};
use crate::shared::{Server, now};

/// Records or members shown in one go, under the lock of a slot.
const STEP: usize = 128;
/// Bytes gathered before they go to their place.
const STAGED: usize = 1 << 20;

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
    mut progress: impl FnMut(usize, usize) -> io::Result<()>,
) -> Result<(), SaveError> {
    let staging = Staging::default();
    let mut writer = Writer::new(staging.clone(), options)?;
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
    let (mut selected, mut failed) = (None, None);
    loop {
        let more = snapshot.step(&server.keyspace, STEP, &mut |item| {
            if failed.is_none()
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
        staging.pour(sink, STAGED)?;
        let (seen, all) = snapshot.progress();
        progress(seen, all)?;
        if !more {
            break;
        }
    }
    writer.finish()?;
    staging.pour(sink, 0)?;
    sink.flush()?;
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
}

/// Puts what a source holds into the keyspace, beside what is there. The source may go on after the end.
///
/// # Errors
/// Why the data is refused, and at which byte. What came before is in the keyspace then.
pub fn load(server: &Server, source: impl BufRead, due: Due) -> Result<Loaded, String> {
    let refuse = |error: rdb::Error| error.to_string();
    let mut reader = Reader::new(source, &server.settings.thresholds).map_err(refuse)?;
    let (moment, mut loaded, mut told) = (now(), Loaded::default(), Instant::now());
    while let Some(item) = reader.next_item().map_err(refuse)? {
        let entry = match item {
            Item::Entry(entry) => entry,
            Item::Function(_) => {
                warning("The data has functions; there is no scripting yet: they are passed over");
                continue;
            }
            Item::Aux(name, value) => {
                /// More than any program writes.
                const NOTES_MAX: usize = 64;
                if loaded.notes.len() < NOTES_MAX {
                    loaded.notes.push((name, value));
                }
                continue;
            }
            _ => continue,
        };
        if entry.deadline.is_some_and(|when| when <= moment) {
            loaded.expired += 1;
            if due == Due::Skip {
                continue;
            }
        }
        let db =
            u8::try_from(entry.db).ok().filter(|db| usize::from(*db) < server.keyspace.databases());
        let Some(db) = db else {
            return Err(format!("database {} at byte {}: too many", entry.db, entry.offset));
        };
        let at = server.keyspace.locate(&entry.key);
        let mut view = server.keyspace.view(&server.settings, DbIndex(db), &[at], moment);
        view.set_dues(Dues::Keep);
        if view.contains(&entry.key) {
            return Err(format!("a key twice, at byte {}", entry.offset));
        }
        view.put(&entry.key, entry.value, entry.deadline.map_or(Deadline::None, Deadline::At));
        loaded.keys += 1;
        if loaded.keys.is_multiple_of(4096) && told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            notice(&format!("Loading: {} keys, {} bytes read", loaded.keys, reader.offset()));
        }
    }
    loaded.bytes = reader.offset();
    Ok(loaded)
}
