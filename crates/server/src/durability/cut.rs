//! A cut: the data and the journal at one and the same moment, for whoever needs a whole copy and then what
//! happens to it.

use larder_cluster::replication::Offset;
use larder_store::DbIndex;
use larder_store::snapshot::{Busy, Snapshot};

use super::journal::Reader;
use crate::shared::Server;

/// See the head of this file.
pub struct Cut {
    /// The data at the cut.
    pub snapshot: Snapshot,
    /// Where the journal was.
    pub offset: Offset,
    /// The database that the stream is in there; `None`: it selects one before the next effect.
    pub database: Option<DbIndex>,
    /// Reads the journal from the cut on; `None` if nothing is recorded.
    pub reader: Option<Reader>,
}

/// Makes a cut. Only in the exclusive section.
///
/// # Errors
/// `Busy` if there are as many snapshots already as there can be.
pub fn cut(server: &Server) -> Result<Cut, Busy> {
    let snapshot = server.keyspace.begin_snapshot()?;
    let journal = &server.journal;
    if journal.records_effects() {
        // Who reads from here knows no database.
        journal.forget_database();
    }
    let offset = journal.end();
    let reader = journal.is_active().then(|| journal.join(offset).ok()).flatten();
    Ok(Cut { snapshot, offset, database: journal.database(), reader })
}
