//! From a command that ran to the journal: what went of itself, then what the command did, as one unit.
//! Called while the slots are still locked, so that the journal's order is the data's. It knows no types
//! and no command by name.

use larder_cluster::replication::Offset;
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

impl Books<'_> {
    /// Notes which keys the effects up to the offset `end` changed, where somebody asks for them.
    fn note(&self, end: Offset, tags: impl IntoIterator<Item = Tag>) {
        if self.changed.is_on() {
            self.changed.note(end, tags);
        }
    }

    /// Records that a key went of itself.
    fn record_deleted(&self, db: DbIndex, key: &[u8]) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &[b"DEL", key]);
        self.note(self.journal.append(db, &bytes), [Tag::of(key)]);
    }
}

/// Effects of several commands that must stay together (a transaction), gathered until they are recorded.
pub struct Unit<'b> {
    books: Books<'b>,
    count: usize,
    bytes: Vec<u8>,
    /// The keys are wanted.
    noted: bool,
    tags: SmallVec<[Tag; 2]>,
}

impl<'b> Unit<'b> {
    /// One that will be recorded there.
    #[must_use]
    pub fn of(books: Books<'b>) -> Unit<'b> {
        let noted = books.changed.is_on();
        Unit { books, count: 0, bytes: Vec::new(), noted, tags: SmallVec::new() }
    }

    /// Adds what the view let go since the last call: a DEL for each key. Keys of another database than the
    /// selected one are recorded at once, before the unit: what a command puts there (MOVE, COPY) comes after.
    pub fn add_gone(&mut self, view: &mut View<'_>) {
        if view.gone.is_empty() {
            return;
        }
        let here = view.db();
        for (db, key) in std::mem::take(&mut view.gone) {
            if db != here {
                self.books.record_deleted(db, &key);
                continue;
            }
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
        let changes = if repeats(command) && ok { changes } else { 0 };
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
    pub fn record(self, db: DbIndex) {
        let journal = self.books.journal;
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
        self.books.note(end, self.tags);
    }
}

/// A transaction in the exclusive section: its units go to the journal one by one, since nobody else writes
/// between them, and may be of several databases. A single unit stands for itself, as in Redis: the first is
/// held until a second one comes.
pub struct Transaction<'b> {
    books: Books<'b>,
    first: Option<(Unit<'b>, DbIndex)>,
    /// The database of its last unit, once it has begun in the journal.
    begun: Option<DbIndex>,
}

impl<'b> Transaction<'b> {
    /// One without effects as yet.
    #[must_use]
    pub fn of(books: Books<'b>) -> Transaction<'b> {
        Transaction { books, first: None, begun: None }
    }

    /// Adds the effects of one command.
    pub fn add(&mut self, unit: Unit<'b>, db: DbIndex) {
        if unit.count == 0 {
            return;
        }
        if self.first.is_none() && self.begun.is_none() {
            self.first = Some((unit, db));
            return;
        }
        self.open(db);
        self.append(&unit, db);
    }

    /// A command with these flags comes, the only one of the transaction or not, that records what it does at
    /// once: what came before must stand in the journal first.
    pub fn make_way(&mut self, flags: Flags, db: DbIndex, alone: bool) {
        let writes = flags.has(Flags::WRITE);
        let begun = self.first.is_some() && (writes || flags.has(Flags::MAY_REPLICATE));
        if begun || (writes && !alone) {
            self.open(db);
        }
    }

    /// Begins it in the journal, if it has not begun: what is recorded from now on belongs to it.
    fn open(&mut self, db: DbIndex) {
        if !self.books.journal.records_effects() {
            return;
        }
        let first = self.first.take();
        if self.begun.is_none() {
            self.append_word("MULTI", first.as_ref().map_or(db, |(_, db)| *db));
            self.begun = Some(db);
        }
        if let Some((unit, db)) = first {
            self.append(&unit, db);
        }
    }

    /// The transaction is over.
    pub fn end(mut self) {
        if let Some(db) = self.begun {
            self.append_word("EXEC", db);
        } else if let Some((unit, db)) = self.first.take() {
            unit.record(db);
        }
    }

    fn append(&mut self, unit: &Unit<'b>, db: DbIndex) {
        let end = self.books.journal.append(db, &unit.bytes);
        self.books.note(end, unit.tags.iter().copied());
        self.begun = Some(db);
    }

    fn append_word(&self, word: &str, db: DbIndex) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &[word.as_bytes()]);
        self.books.journal.append(db, &bytes);
    }
}

/// Records what a view let go and no command has recorded: a sweep, a read, a transaction that was given up.
pub fn record_gone(books: Books<'_>, view: &mut View<'_>) {
    for (db, key) in std::mem::take(&mut view.gone) {
        books.record_deleted(db, &key);
    }
    for gone in std::mem::take(&mut view.gone_members) {
        let mut words: Vec<&[u8]> = vec![b"HDEL", &gone.key];
        words.extend(gone.members.iter().map(|name| &**name));
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &words);
        books.note(books.journal.append(gone.db, &bytes), [Tag::of(&gone.key)]);
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

/// Whether a copy repeats a command that has changed something.
#[inline]
fn repeats(command: &Command) -> bool {
    command.flags.has(Flags::WRITE) || command.flags.has(Flags::MAY_REPLICATE)
}

/// Notes that a command changed its keys.
#[inline]
fn note_keys(books: Books<'_>, end: Offset, command: &Command, sent: Args<'_>) {
    if books.changed.is_on() {
        let mut tags: SmallVec<[Tag; 2]> = SmallVec::new();
        // A key that was only read among them costs its bytes in a copy, no more.
        command.key_positions(sent, |at| tags.push(Tag::of(sent.at(at))));
        books.changed.note(end, tags);
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
    let changes = changes(&context.keys).saturating_sub(before);
    if context.keys.gone.is_empty() && context.effects.is_plain() {
        // Most writes: written once, where it is to lie.
        if ok && changes > 0 && repeats(command) {
            let end = books.journal.append_request(context.keys.db(), sent.all());
            note_keys(books, end, command, sent);
        }
        return;
    }
    let mut unit = Unit::of(books);
    unit.add_gone(&mut context.keys);
    unit.add(command, &mut context.effects, changes, sent, ok);
    unit.record(context.keys.db());
}
