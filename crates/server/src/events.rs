//! Keyspace notifications: which classes are wanted, and their way to pub/sub.

use larder_store::{DbIndex, EventClass};

use crate::shared::Server;

/// Wanted classes of notifications, a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFlags(pub u32);

/// Letters, bits and, for most, classes; `A` stands for those up to the letter `d`.
const LETTERS: &[(char, u32, Option<EventClass>)] = &[
    ('g', 1, Some(EventClass::Generic)),
    ('$', 2, Some(EventClass::String)),
    ('l', 4, Some(EventClass::List)),
    ('s', 8, Some(EventClass::Set)),
    ('h', 16, Some(EventClass::Hash)),
    ('z', 32, Some(EventClass::SortedSet)),
    ('x', 64, Some(EventClass::Expired)),
    ('e', 128, Some(EventClass::Evicted)),
    ('t', 256, Some(EventClass::Stream)),
    ('d', 512, None),
    ('m', 1024, Some(EventClass::KeyMiss)),
    ('n', 2048, Some(EventClass::New)),
    ('K', 4096, None),
    ('E', 8192, None),
];
const ALL: u32 = 1023;
const KEYSPACE: u32 = 4096;
const KEYEVENT: u32 = 8192;

impl EventFlags {
    /// Reads `KEA` and the like; `None` on an unknown letter.
    pub fn parse(text: &str) -> Option<EventFlags> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= match letter {
                'A' => ALL,
                other => LETTERS.iter().find(|(known, ..)| *known == other)?.1,
            };
        }
        Some(EventFlags(bits))
    }

    /// The letters, as CONFIG GET shows them.
    pub fn to_text(self) -> String {
        let mut text = String::new();
        let all = self.0 & ALL == ALL;
        if all {
            text.push('A');
        }
        for (letter, bit, _) in LETTERS {
            if self.0 & bit != 0 && !(all && bit & ALL != 0) {
                text.push(*letter);
            }
        }
        text
    }

    /// Whether notifications of this class go anywhere.
    #[inline]
    pub fn wants(self, class: EventClass) -> bool {
        let bit = LETTERS.iter().find(|(_, _, known)| *known == Some(class)).map_or(0, |row| row.1);
        self.0 & bit != 0 && self.0 & (KEYSPACE | KEYEVENT) != 0
    }
}

impl Server {
    /// Publishes a notification if its class is wanted. The caller wakes the workers.
    pub fn announce(
        &self,
        flags: EventFlags,
        db: DbIndex,
        class: EventClass,
        event: &str,
        key: &[u8],
    ) {
        if !flags.wants(class) {
            return;
        }
        if flags.0 & KEYSPACE != 0 {
            let mut channel = format!("__keyspace@{}__:", db.0).into_bytes();
            channel.extend_from_slice(key);
            self.publish(&channel, event.as_bytes());
        }
        if flags.0 & KEYEVENT != 0 {
            let channel = format!("__keyevent@{}__:{event}", db.0).into_bytes();
            self.publish(&channel, key);
        }
    }
}
