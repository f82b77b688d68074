//! From a command that ran to the journal: what went of itself, then what the command did, as one unit.
//! Called while the slots are still locked, so that the journal's order is the data's. It knows no types
//! and no command by name.

use larder_commands::{Args, Command, Context, Effects, Flags};
use larder_protocol::encode::encode_command;
use larder_store::{DbIndex, View};

use super::journal::Journal;

/// Effects of several commands that must stay together (a transaction), gathered until they are recorded.
#[derive(Debug, Default)]
pub struct Unit {
    count: usize,
    bytes: Vec<u8>,
}

impl Unit {
    /// Adds what the view let go of its selected database since the last call: a DEL for each key. Keys of
    /// other databases stay for [`record_gone`].
    pub fn add_gone(&mut self, view: &mut View<'_>) {
        let db = view.db();
        let (here, elsewhere) =
            std::mem::take(&mut view.gone).into_iter().partition(|(of, _)| *of == db);
        view.gone = elsewhere;
        let here: Vec<(DbIndex, Box<[u8]>)> = here;
        for (_, key) in here {
            encode_command(&mut self.bytes, &[b"DEL", &*key]);
            self.count += 1;
        }
    }

    /// Adds what a command did, which made `changes` changes and succeeded or not.
    pub fn add(
        &mut self,
        command: &Command,
        effects: &mut Effects,
        changes: u64,
        sent: Args<'_>,
        ok: bool,
    ) {
        let writes = command.flags.has(Flags::WRITE) || command.flags.has(Flags::MAY_REPLICATE);
        let changes = if writes && ok { changes } else { 0 };
        self.count += effects.close(changes, sent.all());
        self.bytes.extend_from_slice(effects.bytes());
    }

    /// Records all of it next to each other; several requests as a transaction.
    pub fn record(self, journal: &Journal, db: DbIndex) {
        match self.count {
            0 => {}
            1 => {
                journal.append(db, &self.bytes);
            }
            _ => {
                let mut whole = Vec::with_capacity(self.bytes.len() + 32);
                encode_command(&mut whole, &[b"MULTI"]);
                whole.extend_from_slice(&self.bytes);
                encode_command(&mut whole, &[b"EXEC"]);
                journal.append(db, &whole);
            }
        }
    }
}

/// A transaction in the exclusive section: its units go to the journal one by one, since nobody else writes
/// between them, and may be of several databases.
#[derive(Debug, Default)]
pub struct Transaction {
    db: Option<DbIndex>,
}

impl Transaction {
    /// Adds the effects of one command.
    pub fn add(&mut self, unit: Unit, db: DbIndex, journal: &Journal) {
        if unit.count > 0 {
            self.open(db, journal);
            journal.append(db, &unit.bytes);
        }
    }

    /// Begins it, if it has not begun: what is recorded from now on belongs to it.
    pub fn open(&mut self, db: DbIndex, journal: &Journal) {
        if self.db.is_none() && journal.records_effects() {
            let mut bytes = Vec::new();
            encode_command(&mut bytes, &[b"MULTI"]);
            journal.append(db, &bytes);
        }
        self.db = Some(db);
    }

    /// The transaction is over.
    pub fn end(self, journal: &Journal) {
        if let Some(db) = self.db.filter(|_| journal.records_effects()) {
            let mut bytes = Vec::new();
            encode_command(&mut bytes, &[b"EXEC"]);
            journal.append(db, &bytes);
        }
    }
}

/// Records what a view let go and no command has recorded: a sweep, a read, a transaction that was given up.
pub fn record_gone(journal: &Journal, view: &mut View<'_>) {
    for (db, key) in std::mem::take(&mut view.gone) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &[b"DEL", &*key]);
        journal.append(db, &bytes);
    }
    for gone in std::mem::take(&mut view.gone_members) {
        let mut words: Vec<&[u8]> = vec![b"HDEL", &gone.key];
        words.extend(gone.members.iter().map(|name| &**name));
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &words);
        journal.append(gone.db, &bytes);
    }
}

/// Records a request that changed databases as a whole, as it was sent. Only in the exclusive section.
pub fn record_request(journal: &Journal, db: DbIndex, sent: Args<'_>) {
    if journal.records_effects() {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, sent.all());
        journal.append(db, &bytes);
    }
}

/// Records what changes no data but is to be heard on the copies too: a published message.
pub fn record_message(journal: &Journal, sent: Args<'_>) {
    if journal.records_effects() {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, sent.all());
        journal.append_stream_only(&bytes);
    }
}

/// How many changes a view has made that are not expirations.
#[must_use]
pub fn changes(view: &View<'_>) -> u64 {
    view.tally.dirty.saturating_sub(view.tally.expired)
}

/// Records one command that ran alone; `before` is what [`changes`] said before it.
pub fn record(
    journal: &Journal,
    context: &mut Context<'_>,
    command: &Command,
    sent: Args<'_>,
    before: u64,
    ok: bool,
) {
    let mut unit = Unit::default();
    unit.add_gone(&mut context.keys);
    let changes = changes(&context.keys).saturating_sub(before);
    unit.add(command, &mut context.effects, changes, sent, ok);
    unit.record(journal, context.keys.db());
}
