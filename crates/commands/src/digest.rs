//! Digests of values and of the whole data, as DEBUG DIGEST shows them: equal data gives the digest that
//! Redis gives, whatever the forms in memory, so that two servers can be compared.
//! Knows no command and no reply.

use std::fmt::Write;

use larder_base::number;
use larder_base::time::Millis;
use larder_store::value::{Hash, List, Set, SortedSet};
use larder_store::{Kind, RecordRef, Text};
use sha1::{Digest as _, Sha1};

/// Twenty bytes of SHA-1, joined from parts: `add` does not depend on the order of the parts, `then` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    /// A part of something without order.
    pub fn add(&mut self, part: &[u8]) {
        let hash: [u8; 20] = Sha1::digest(part).into();
        self.0.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
    }

    /// The next part of a sequence.
    pub fn then(&mut self, part: &[u8]) {
        self.add(part);
        self.0 = Sha1::digest(self.0).into();
    }

    fn then_text(&mut self, text: Text<'_>) {
        text.with_bytes(|bytes| self.then(bytes));
    }

    /// A whole key of the database: its name, its value and whether it expires.
    pub fn add_record(&mut self, record: RecordRef<'_>, now: Millis) {
        let mut digest = Digest::default();
        digest.then(record.key());
        digest.then_value(record, now);
        self.add(&digest.0);
    }

    /// A value, and whether it expires.
    pub fn then_value(&mut self, record: RecordRef<'_>, now: Millis) {
        let kind: u32 = match record.kind() {
            Kind::String => 0,
            Kind::List => 1,
            Kind::Set => 2,
            Kind::SortedSet => 3,
            Kind::Hash => 4,
        };
        self.then(&kind.to_be_bytes());
        if let Some(text) = record.text_value() {
            self.then_text(text);
        }
        if let Some(list) = record.get::<List>() {
            list.iter().for_each(|element| self.then_text(element));
        }
        if let Some(set) = record.get::<Set>() {
            set.iter().for_each(|member| member.with_bytes(|bytes| self.add(bytes)));
        }
        if let Some(sorted) = record.get::<SortedSet>() {
            for (member, score) in sorted.iter() {
                let mut text = Vec::new();
                number::write_f64(&mut text, score);
                let mut digest = Digest::default();
                digest.then_text(member);
                digest.then(&text);
                self.add(&digest.0);
            }
        }
        if let Some(hash) = record.get::<Hash>() {
            let live = |when: &Option<Millis>| when.is_none_or(|when| when > now);
            for (field, value, when) in hash.entries().filter(|(_, _, when)| live(when)) {
                let mut digest = Digest::default();
                digest.then_text(field);
                digest.then_text(value);
                if when.is_some() {
                    digest.add(b"!!hexpire!!");
                }
                self.add(&digest.0);
            }
        }
        if record.deadline().is_some() {
            self.add(b"!!expire!!");
        }
    }

    /// Forty hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(40), |mut text, byte| {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
