//! Which history a node holds, and how far. Two nodes with the same replication id and the same offset
//! hold the same bytes; nothing else may be concluded from offsets.

use std::fmt;

/// A place in a replication stream: the number of bytes before it since the history began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// This place moved on by `bytes`.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Offset {
        Offset(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here; 0 if it is later.
    #[must_use]
    pub const fn since(self, earlier: Offset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a history: 40 hexadecimal digits, drawn at random when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplicationId([u8; 40]);

impl ReplicationId {
    /// The id that names no history (forty zeros, as INFO shows it).
    pub const NONE: ReplicationId = ReplicationId([b'0'; 40]);

    /// The id with these random bits.
    #[must_use]
    pub fn from_bits(bits: [u8; 20]) -> ReplicationId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'0'; 40];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bits) {
            for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
            }
        }
        ReplicationId(text)
    }

    /// Reads an id; anything but 40 hexadecimal digits is none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<ReplicationId> {
        let digits: [u8; 40] = text.try_into().ok()?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(ReplicationId(digits))
    }

    /// The forty digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A point in a named history: what a replica asks to continue from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The history.
    pub id: ReplicationId,
    /// How much of it is held.
    pub offset: Offset,
}

/// The history that a node writes or follows, and the one that it continued from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The present history.
    pub id: ReplicationId,
    /// The history before the last promotion (`master_replid2`), or [`ReplicationId::NONE`].
    pub previous: ReplicationId,
    /// The first offset that is no longer common with `previous`; `None` while there is none.
    pub fork: Option<Offset>,
}

impl Lineage {
    /// A history that begins here.
    #[must_use]
    pub const fn new(id: ReplicationId) -> Lineage {
        Lineage { id, previous: ReplicationId::NONE, fork: None }
    }

    /// A replica becomes a primary: what it followed up to `end` stays known as the previous history.
    pub fn promote(&mut self, fresh: ReplicationId, end: Offset) {
        self.previous = self.id;
        self.fork = Some(end.plus(1));
        self.id = fresh;
    }

    /// The primary names its history anew while the bytes go on (`+CONTINUE <id>`).
    pub fn continue_as(&mut self, id: ReplicationId, end: Offset) {
        if id != self.id {
            self.promote(id, end);
        }
    }

    /// Another history altogether, after a full resynchronisation. What came before means nothing now.
    pub fn replace(&mut self, id: ReplicationId) {
        *self = Lineage::new(id);
    }

    /// Whether a node of this lineage, which still holds the bytes from `first` (an offset) up to `end`, can
    /// go on from where a replica stands that asks for the byte after `asked.offset`.
    ///
    /// As Redis: the id is the present one, or the previous one up to the fork.
    #[must_use]
    pub fn can_continue(&self, asked: Position, first: Offset, end: Offset) -> bool {
        let known = asked.id == self.id
            || (asked.id == self.previous
                && self.previous != ReplicationId::NONE
                && self.fork.is_some_and(|fork| asked.offset < fork));
        known && asked.offset >= first && asked.offset <= end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: u8) -> ReplicationId {
        ReplicationId::from_bits([seed; 20])
    }

    #[test]
    fn ids_are_forty_hex_digits() {
        assert_eq!(id(0xa5).as_str(), "a5".repeat(20));
        assert_eq!(ReplicationId::parse(id(7).as_str().as_bytes()), Some(id(7)));
        assert_eq!(ReplicationId::parse(b"?"), None);
        assert_eq!(ReplicationId::parse(&[b'g'; 40]), None);
    }

    #[test]
    fn a_promoted_node_continues_the_old_history_up_to_the_fork_only() {
        let mut lineage = Lineage::new(id(1));
        lineage.promote(id(2), Offset(100));
        let ask = |id, offset| {
            lineage.can_continue(Position { id, offset: Offset(offset) }, Offset(50), Offset(300))
        };
        assert!(ask(id(1), 100), "it holds exactly what the old primary had sent");
        assert!(!ask(id(1), 101), "it has a byte of the old history that nobody else has");
        assert!(ask(id(2), 300));
        assert!(!ask(id(2), 301), "it is ahead");
        assert!(!ask(id(2), 49), "the backlog no longer reaches");
        assert!(!ask(id(3), 100));
        assert!(!ask(ReplicationId::NONE, 100));
    }

    #[test]
    fn nothing_continues_from_no_history() {
        let lineage = Lineage::new(id(1));
        let asked = Position { id: ReplicationId::NONE, offset: Offset(0) };
        assert!(!lineage.can_continue(asked, Offset(0), Offset(10)));
    }

    #[test]
    fn a_renamed_history_forks_and_a_replaced_one_forgets() {
        let mut lineage = Lineage::new(id(1));
        lineage.continue_as(id(1), Offset(5));
        assert_eq!(lineage, Lineage::new(id(1)));
        lineage.continue_as(id(2), Offset(5));
        assert_eq!((lineage.previous, lineage.fork), (id(1), Some(Offset(6))));
        lineage.replace(id(3));
        assert_eq!(lineage, Lineage::new(id(3)));
    }
}
