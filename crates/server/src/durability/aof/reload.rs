//! DEBUG LOADAOF: the log is forced to disk, the data forgotten, and read back from the files as a start would. It
//! happens in the exclusive section, on the thread that owns the files.

use std::sync::Arc;

use larder_base::rng::Rng;
use larder_protocol::reply::Reply;
use larder_store::DbIndex;

use super::{Trouble, Writer, open, reason_of};
use crate::blocking::Waiter;
use crate::dispatch::Others;
use crate::durability::aof_load;
use crate::log::{notice, warning};
use crate::replication::roles;
use crate::shared::{Letter, Server, now};

impl Writer {
    /// Reads the data back, if somebody asked for it. While a rewrite runs they wait: the log may have no base yet.
    pub(super) fn reload(&mut self) {
        if self.rewrite.is_some() || self.reloads.is_empty() {
            return;
        }
        let server = Arc::clone(&self.server);
        let result = server.exclusively(|states| self.read_back(&server, states));
        if matches!(result, Ok(true)) && self.log.is_some() {
            self.begin_again();
        }
        match &result {
            Ok(_) => notice("Append Only File loaded by DEBUG LOADAOF"),
            Err(reason) => warning(&format!("DEBUG LOADAOF failed: {reason}")),
        }
        for waiter in std::mem::take(&mut self.reloads) {
            answer(&server, waiter, result.is_ok());
        }
        server.wake_all();
    }

    /// Returns whether the data is not what it was: no log is written, or the end of the log was missing.
    fn read_back(&mut self, server: &Server, states: &mut Others<'_>) -> Result<bool, String> {
        let config = server.config();
        let opened;
        let set = match &mut self.log {
            Some(log) if log.begins => return Err("the log has no base yet".to_owned()),
            Some(log) => {
                let drained = log.drain(server, &config, None);
                drained.and_then(|()| Ok(log.sync(server)?)).map_err(|trouble| match trouble {
                    Trouble::Disk(error) => reason_of(&error),
                    Trouble::Lost => "the journal began anew".to_owned(),
                })?;
                &log.set
            }
            None if server.aof.status().on => return Err("the log cannot be written".to_owned()),
            None => {
                opened = open(&config)?.1.ok_or("there is no append-only file")?;
                &opened
            }
        };
        let apart = states.last_mut().ok_or("no state")?;
        let loaded = aof_load::reload(server, set, apart);
        let other = self.log.is_none() || loaded.as_ref().is_ok_and(|loaded| loaded.cut.is_some());
        if other {
            roles::disown(server, states);
        }
        serve_waiting(server, states);
        loaded.map(|_| other)
    }
}

/// Those who wait for keys find them now.
fn serve_waiting(server: &Server, states: &mut Others<'_>) {
    let Some(apart) = states.last_mut() else { return };
    if server.journal.is_active() && !server.journal.records_effects() {
        return;
    }
    let databases = (0..server.keyspace.databases()).filter_map(|db| u8::try_from(db).ok());
    let mut ready = databases.flat_map(|db| server.blocked.waited_for(DbIndex(db))).collect();
    let mut rng = Rng::new(now().0.cast_unsigned());
    server.serve_ready(&mut ready, now(), &mut apart.stats, &mut rng);
}

fn answer(server: &Server, waiter: Arc<Waiter>, fine: bool) {
    if !waiter.end() {
        return;
    }
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, waiter.version);
    if fine {
        reply.ok();
    } else {
        reply.error("ERR Error trying to load the AOF files, check server logs.");
    }
    let address = waiter.address;
    server.post(address.worker, Letter::Served(address.token, out, Some(waiter)));
}
