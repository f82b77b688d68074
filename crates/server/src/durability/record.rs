//! From a command that ran to the journal: what went of itself, then what the command did, as one unit.
//! Called while the slots are still locked, so that the journal's order is the data's. It knows no types
//! and no command by name.

use larder_commands::{Args, Command, Context, Effects, Flags};
use larder_protocol::encode::encode_command;
use larder_store::{DbIndex, View};
use smallvec::SmallVec;

use super::changed::{Changed, Tag};
use super::journal::Journal;

/// Where effects are recorded: the journal, and beside it which keys they changed.
#[derive(Clone, Copy)]
pub struct Books<'b> {
    /// The effects.
    pub journal: &'b Journal,
    /// The keys.
    pub changed: &'b Changed,
}

/// Effects of several commands that must stay together (a transaction), gathered until they are recorded.
#[derive(Debug, Default)]
pub struct Unit {
    count: usize,
    bytes: Vec<u8>,
    /// The keys are wanted.
    noted: bool,
    tags: SmallVec<[Tag; 2]>,
}

impl Unit {
    /// One that will be recorded there.
    #[must_use]
    pub fn of(books: Books<'_>) -> Unit {
        Unit { noted: books.changed.is_on(), ..Unit::default() }
    }

    /// Adds what the view let go of its selected database since the last call: a DEL for each key. Keys of
    /// other databases stay for [`record_gone`].
    pub fn add_gone(&mut self, view: &mut View<'_>) {
        if view.gone.is_empty() {
            return;
        }
        let db = view.db();
        let (here, elsewhere) =
            std::mem::take(&mut view.gone).into_iter().partition(|(of, _)| *of == db);
        view.gone = elsewhere;
        let here: Vec<(DbIndex, Box<[u8]>)> = here;
        for (_, key) in here {
            encode_command(&mut self.bytes, &[b"DEL", &*key]);
            self.count += 1;
            if self.noted {
                self.tags.push(Tag::of(&key));
            }
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
        let count = effects.close(changes, sent.all());
        self.count += count;
        if self.bytes.is_empty() {
            self.bytes = effects.take();
        } else {
            self.bytes.extend_from_slice(effects.bytes());
        }
        if self.noted && count > 0 {
            // A key that was only read among them costs its bytes in a copy, no more.
            command.key_positions(sent, |at| self.tags.push(Tag::of(sent.at(at))));
        }
    }

    /// Records all of it next to each other; several requests as a transaction.
    pub fn record(self, books: Books<'_>, db: DbIndex) {
        let journal = books.journal;
        let end = match self.count {
            0 => return,
            1 => journal.append(db, &self.bytes),
            _ => {
                let mut whole = Vec::with_capacity(self.bytes.len() + 32);
                encode_command(&mut whole, &[b"MULTI"]);
                whole.extend_from_slice(&self.bytes);
                encode_command(&mut whole, &[b"EXEC"]);
                journal.append(db, &whole)
            }
        };
        if self.noted {
            books.changed.note(end, self.tags);
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
    pub fn add(&mut self, unit: Unit, db: DbIndex, books: Books<'_>) {
        if unit.count > 0 {
            self.open(db, books.journal);
            let end = books.journal.append(db, &unit.bytes);
            books.changed.note(end, unit.tags);
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
pub fn record_gone(books: Books<'_>, view: &mut View<'_>) {
    let Books { journal, changed } = books;
    let note = |end, key: &[u8]| {
        if changed.is_on() {
            changed.note(end, [Tag::of(key)]);
        }
    };
    for (db, key) in std::mem::take(&mut view.gone) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &[b"DEL", &*key]);
        note(journal.append(db, &bytes), &key);
    }
    for gone in std::mem::take(&mut view.gone_members) {
        let mut words: Vec<&[u8]> = vec![b"HDEL", &gone.key];
        words.extend(gone.members.iter().map(|name| &**name));
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &words);
        note(journal.append(gone.db, &bytes), &gone.key);
    }
}

/// Records a request that changed databases as a whole, as it was sent. Only in the exclusive section.
pub fn record_request(books: Books<'_>, db: DbIndex, sent: Args<'_>) {
    if books.journal.records_effects() {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, sent.all());
        let end = books.journal.append(db, &bytes);
        books.changed.forget(end);
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
    books: Books<'_>,
    context: &mut Context<'_>,
    command: &Command,
    sent: Args<'_>,
    before: u64,
    ok: bool,
) {
    let mut unit = Unit::of(books);
    unit.add_gone(&mut context.keys);
    let changes = changes(&context.keys).saturating_sub(before);
    unit.add(command, &mut context.effects, changes, sent, ok);
    unit.record(books, context.keys.db());
}
