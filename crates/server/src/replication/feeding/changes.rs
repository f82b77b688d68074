//! A replica of our kind that was away for longer than the backlog lasts is sent the keys that changed since, and
//! nothing else: `durability::changed` knows which.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use larder_cluster::replication::{Offset, Position, ReplicationId, Stage, SyncRequest};
use larder_persist::rdb;
use larder_store::DbIndex;
use larder_store::snapshot::Snapshot;

use super::{End, Feed, Wire, failed, mark, may_follow, version_for};
use crate::durability::changed::Tag;
use crate::durability::cut::{Cut, cut};
use crate::durability::journal::Reader;
use crate::durability::rdb_file;
use crate::log::notice;
use crate::shared::Server;

/// From now on changes are noted for replicas, if one of them is of our kind and none are yet. Only in the exclusive
/// section.
pub(super) fn note_from_now(server: &Server, own_kind: bool) {
    let writes = server.journal.records_effects();
    if own_kind && writes && !server.changed.is_on() {
        server.changed.start(server.config().repl_changed_keys, server.journal.end());
    }
}

impl Feed<'_> {
    /// Sends the keys that changed since the replica's position, if that is known so far back and they are few;
    /// returns a reader of what happens since.
    pub(super) fn changes(&mut self, request: &SyncRequest) -> Result<Option<Reader>, End> {
        let server = self.server;
        let follower = self.replica.follower.lock().clone();
        let Some(position) = request.position else { return Ok(None) };
        if !follower.own_kind || !follower.capabilities.eof || follower.snapshot_only {
            return Ok(None);
        }
        let taken = server.exclusively(|_| self.cut_since(position));
        let Some((taken, tags, id)) = taken else { return Ok(None) };
        let Cut { mut snapshot, offset, database, reader } = taken;
        let sent = match reader {
            Some(reader) => {
                let at = Position { id, offset };
                let database = database.map_or(0, |db| db.0).to_string();
                self.send_changes(at, &tags, &database, &mut snapshot, &reader).map(|()| reader)
            }
            None => Err(End::OutOfReach),
        };
        rdb_file::finish(server, snapshot);
        let reader = sent?;
        self.wait_until_loaded(&reader)?;
        Ok(Some(reader))
    }

    fn cut_since(&self, from: Position) -> Option<(Cut, HashSet<Tag>, ReplicationId)> {
        let server = self.server;
        let lineage = server.replication.state().lineage;
        let writes = server.journal.records_effects() && may_follow(server);
        if !writes || !lineage.can_continue(from, Offset(0), server.journal.end()) {
            return None;
        }
        let tags = server.changed.after(from.offset)?;
        let dbs = (0..server.keyspace.databases()).filter_map(|db| u8::try_from(db).ok());
        let keys: usize = dbs.map(|db| server.keyspace.len(DbIndex(db))).sum();
        // With most of them changed, all of them are simpler.
        let few = tags.len() <= keys / 2;
        few.then(|| cut(server).ok()).flatten().map(|taken| (taken, tags, lineage.id))
    }

    fn send_changes(
        &mut self,
        position: Position,
        tags: &HashSet<Tag>,
        database: &str,
        snapshot: &mut Snapshot,
        reader: &Reader,
    ) -> Result<(), End> {
        let (server, config) = (self.server, self.server.config());
        let follower = {
            let mut follower = self.replica.follower.lock();
            follower.stage = Stage::Sending;
            follower.clone()
        };
        let peer = self.replica.client.stream.peer();
        let (count, offset) = (tags.len(), position.offset);
        notice(&format!("{peer} is sent {count} changed keys, as of offset {offset}"));
        server.replication.counts.changes.fetch_add(1, Ordering::Relaxed);
        self.replica.note_sent(offset);
        let mark = mark();
        let line = format!("+CHANGES {} {offset}\r\n", position.id);
        self.send(&[line.as_bytes(), b"$EOF:", &mark, b"\r\n"].concat(), Some(reader))?;
        let options = rdb::Options {
            version: version_for(server, &follower),
            compress: config.rdbcompression,
            checksum: config.rdbchecksum,
        };
        let notes = [("repl-stream-db", database)];
        let mut wire = Wire { feed: self, reader, end: None };
        let written = rdb_file::write_changes(server, snapshot, tags, options, &notes, &mut wire);
        let end = wire.end.take();
        written.map_err(|error| end.unwrap_or_else(|| failed(server, &error)))?;
        self.send(&mark, Some(reader))
    }
}
