//! Taking over all data of the primary: received into a file, loaded as it comes, or loaded as it comes beside the old data. The
//! old data goes when the new was found to be whole, but where the configuration says that it may go before. Beside the old,
//! the new takes memory of its own; the old is served meanwhile if it is of the same history, and stays if the link
//! breaks. From a file or in place of the old, until all is loaded there is no history that others could follow.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use larder_cluster::replication::{Output, Position};
use larder_persist::rdb::Reader;
use larder_store::{DbIndex, Keyspace};

use super::{End, Session, Wire};
use crate::config::DisklessLoad;
use crate::databases;
use crate::durability::apply::Applier;
use crate::durability::journal::Mode;
use crate::durability::rdb_file::{self, Due, Loaded};
use crate::log::notice;
use crate::replication::{LinkState, failover, fresh_id};
use crate::shared::{Server, now};

/// Where what comes goes.
enum Place {
    /// Into a file first.
    File(File, PathBuf),
    /// Into the place of the old data.
    Direct,
    /// Beside the old data.
    Beside,
}

/// What is being received.
pub struct Copying {
    /// The point in the primary's history that it is; `None`: an old primary does not say.
    position: Option<Position>,
    /// Where it is kept meanwhile.
    place: Place,
    /// It holds only the keys that changed since our position: the others stay.
    changes: bool,
}

impl Drop for Copying {
    fn drop(&mut self) {
        if let Place::File(_, path) = &self.place {
            // Whatever is left of it is of no use.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The snapshot as it comes from the link.
struct Incoming<'x, 's, 'a> {
    session: &'x mut Session<'s, 'a>,
    wire: &'x mut Wire,
    part: Vec<u8>,
    at: usize,
    ended: bool,
    failed: Option<End>,
}

impl Incoming<'_, '_, '_> {
    fn fill(&mut self) -> Result<(), End> {
        while self.at == self.part.len() && !self.ended {
            match self.wire.link.poll() {
                Some(Output::Snapshot(bytes)) => (self.part, self.at) = (bytes, 0),
                Some(Output::SnapshotEnd) => self.ended = true,
                Some(Output::Send(bytes)) => {
                    self.wire.send(&bytes, self.session.timeout())?;
                }
                Some(_) => {}
                None => {
                    self.session.check()?;
                    self.session.receive(self.wire)?;
                    self.wire.link.tick(now())?;
                }
            }
        }
        Ok(())
    }
}

impl Read for Incoming<'_, '_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Err(end) = self.fill() {
            let text = end.to_string();
            self.failed = Some(end);
            return Err(io::Error::other(text));
        }
        let rest = self.part.get(self.at..).unwrap_or(&[]);
        let count = rest.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

impl<'s> Session<'s, '_> {
    pub(super) fn begin_copy(&mut self, position: Option<Position>) -> Result<(), End> {
        let server = self.server;
        let config = server.config();
        let databases = 0..server.keyspace.databases();
        let is_empty = databases
            .filter_map(|number| u8::try_from(number).ok())
            .all(|number| server.keyspace.len(DbIndex(number)) == 0);
        let place = match config.repl_diskless_load {
            DisklessLoad::SwapDb => Place::Beside,
            DisklessLoad::FlushBeforeLoad => Place::Direct,
            DisklessLoad::OnEmptyDb if is_empty => Place::Direct,
            DisklessLoad::Disabled | DisklessLoad::OnEmptyDb => fresh_file()?,
        };
        {
            let mut state = server.replication.state();
            state.link = LinkState::Sync;
            state.sync_bytes = [0; 2];
        }
        notice(match &position {
            Some(_) => "Full resync from the primary",
            None => "Full resync from a primary that knows no history",
        });
        self.copying = Some(Copying { position, place, changes: false });
        Ok(())
    }

    pub(super) fn begin_changes(&mut self, position: Position) -> Result<(), End> {
        let place = fresh_file()?;
        {
            let mut state = self.server.replication.state();
            state.link = LinkState::Sync;
            state.sync_bytes = [0; 2];
        }
        notice("The primary sends what changed");
        self.copying = Some(Copying { position: Some(position), place, changes: true });
        Ok(())
    }

    pub(super) fn copy(&mut self, wire: &mut Wire, bytes: Vec<u8>) -> Result<(), End> {
        {
            let mut state = self.server.replication.state();
            let [read, total] = &mut state.sync_bytes;
            *read += bytes.len() as u64;
            *total = (*total).max(*read);
        }
        match &mut self.copying {
            None => Ok(()),
            Some(Copying { place: Place::File(file, _), .. }) => Ok(file.write_all(&bytes)?),
            Some(Copying { place: Place::Direct | Place::Beside, .. }) => {
                let Some(copying) = self.copying.take() else { return Ok(()) };
                self.load_as_it_comes(wire, &copying, bytes)
            }
        }
    }

    fn load_as_it_comes(
        &mut self,
        wire: &mut Wire,
        copying: &Copying,
        part: Vec<u8>,
    ) -> Result<(), End> {
        let server = self.server;
        let beside = match copying.place {
            Place::Beside => Some(server.keyspace.beside()),
            Place::Direct | Place::File(..) => None,
        };
        match &beside {
            Some(_) => self.begin_beside(copying)?,
            None => self.empty(false)?,
        }
        let mut incoming =
            Incoming { session: self, wire, part, at: 0, ended: false, failed: None };
        let source = BufReader::new(&mut incoming);
        let loaded = match &beside {
            Some(beside) => rdb_file::load_beside(server, beside, source),
            None => rdb_file::load(server, source, Due::Keep),
        };
        let mut failed = incoming.failed.take();
        if loaded.is_ok() && failed.is_none() {
            // What is behind the data is read, too: the end must be seen.
            failed = io::copy(&mut incoming, &mut io::sink()).err().map(End::Io);
        }
        let result = self.take_over(wire, copying, beside.as_ref(), loaded, failed);
        if let Some(beside) = beside {
            databases::give_up(server, &beside);
        }
        result
    }

    /// The old data stays for now. Whoever asks for it is served, unless it is of another history.
    fn begin_beside(&self, copying: &Copying) -> Result<(), End> {
        let server = self.server;
        notice("MASTER <-> REPLICA sync: Loading DB in memory");
        server.exclusively(|_| {
            self.check()?;
            let same = {
                let state = server.replication.state();
                let id = copying.position.map(|position| position.id);
                state.synced && id == Some(state.lineage.id)
            };
            let flag = if same { &server.loading_beside } else { &server.loading };
            flag.store(true, Ordering::Release);
            Ok(())
        })
    }

    pub(super) fn end_copy(&mut self, wire: &mut Wire) -> Result<(), End> {
        let Some(copying) = self.copying.take() else { return Ok(()) };
        let Place::File(file, path) = &copying.place else { return Ok(()) };
        file.sync_all()?;
        let server = self.server;
        verify(server, BufReader::with_capacity(1 << 20, File::open(path)?))
            .map_err(|reason| End::Stream(format!("the snapshot is refused: {reason}")))?;
        self.empty(copying.changes)?;
        let source = BufReader::with_capacity(1 << 20, File::open(path)?);
        let loaded = match copying.changes {
            true => rdb_file::load_changes(server, source),
            false => rdb_file::load(server, source, Due::Keep),
        };
        self.take_over(wire, &copying, None, loaded, None)
    }

    /// The old data goes, or is about to be changed.
    fn empty(&mut self, stays: bool) -> Result<(), End> {
        let server = self.server;
        notice("MASTER <-> REPLICA sync: Loading DB in memory");
        let at_once = !server.config().replica_lazy_flush;
        server.exclusively(|_| {
            self.check()?;
            server.loading.store(true, Ordering::Release);
            server.replication.state().synced = false;
            server.replication.replicas.close_all();
            if !stays {
                databases::flush_all(server, now(), at_once);
            }
            Ok(())
        })
    }

    /// The new data is there, or not.
    fn take_over(
        &mut self,
        wire: &mut Wire,
        copying: &Copying,
        beside: Option<&Keyspace>,
        loaded: Result<Loaded, String>,
        failed: Option<End>,
    ) -> Result<(), End> {
        let server = self.server;
        let at_once = !server.config().replica_lazy_flush;
        let result = server.exclusively(|_| {
            let result = match (&loaded, failed) {
                (_, Some(end)) => Err(end),
                (Err(reason), None) => {
                    Err(End::Stream(format!("the snapshot is refused: {reason}")))
                }
                (Ok(loaded), None) => self.check().map(|()| {
                    if let Some(beside) = beside {
                        server.replication.replicas.close_all();
                        databases::replace(server, beside, now(), at_once);
                    }
                    self.adopt(copying, loaded);
                }),
            };
            if result.is_err() && beside.is_none() {
                // Part of the data is worse than none.
                databases::flush_all(server, now(), false);
            }
            server.loading.store(false, Ordering::Release);
            server.loading_beside.store(false, Ordering::Release);
            result
        });
        result?;
        let keys = loaded.as_ref().map_or(0, |loaded| loaded.keys);
        let what = if copying.changes { "changed keys" } else { "full copy" };
        notice(&format!("MASTER <-> REPLICA sync: Finished with success ({what}: {keys} keys)"));
        failover::succeeded(server);
        self.copying = None;
        wire.link.loaded(now(), Ok(()))?;
        Ok(())
    }

    /// The data is a point of the primary's history now.
    fn adopt(&mut self, copying: &Copying, loaded: &Loaded) {
        let server = self.server;
        let database = loaded
            .note("repl-stream-db")
            .and_then(larder_base::number::parse_u64)
            .and_then(|number| u8::try_from(number).ok())
            .filter(|number| usize::from(*number) < server.keyspace.databases())
            .map_or(DbIndex(0), DbIndex);
        let (id, offset) = match copying.position {
            Some(Position { id, offset }) => (id, offset),
            None => (fresh_id(), larder_cluster::replication::Offset(0)),
        };
        server.set_journal(Mode::Follows, Some(offset));
        server.journal.append_raw(database, &[]);
        {
            let mut state = server.replication.state();
            state.lineage.replace(id);
            state.synced = true;
        }
        server.name_history();
        *self.applier = Applier::new(server, database);
        self.connected();
    }
}

/// A file for what comes.
fn fresh_file() -> io::Result<Place> {
    let path = PathBuf::from(format!("temp-primary-{}.rdb", std::process::id()));
    Ok(Place::File(File::create(&path)?, path))
}

/// Reads all of it and keeps nothing: whether it is whole.
fn verify(server: &Server, source: impl BufRead) -> Result<(), String> {
    let refuse = |error: larder_persist::rdb::Error| error.to_string();
    let mut reader = Reader::new(source, &server.settings.thresholds).map_err(refuse)?;
    while reader.next_item().map_err(refuse)?.is_some() {}
    Ok(())
}
