//! Building a hash from fields without deadlines (a file): a small one is packed at once, and looked at once for fields
//! that came twice.

use larder_base::time::Millis;

use super::{Hash, OneWord};
use crate::value::packed::{Encoded, Gathered};
use crate::value::{PACKED_BYTES_MAX, Text, Thresholds};

/// No field here has a deadline, so any moment will do.
const NOW: Millis = Millis(i64::MIN);

/// A hash that is being built. Dropped, its fields are forgotten.
#[derive(Default)]
pub struct HashBuilder {
    /// Fields with their values, as long as they fit the small form.
    small: Gathered,
    /// Empty as long as they do.
    hash: Hash,
}

impl HashBuilder {
    /// Adds a field. False if it, or another one, was seen to come twice; that may also come to light at the end.
    pub fn add(&mut self, field: Text<'_>, value: Text<'_>, limits: &Thresholds) -> bool {
        if self.hash.is_empty() {
            let (name, text) = (Encoded::of(field), Encoded::of(value));
            let fits = field.len().max(value.len()) <= limits.hash_value
                && self.small.end() + name.size() + text.size() <= PACKED_BYTES_MAX
                && self.small.count() / 2 < limits.hash_entries;
            if fits {
                self.small.push(&name);
                self.small.push(&text);
                return true;
            }
            if !self.settle() {
                return false;
            }
        }
        field.with_bytes(|field| value.with_bytes(|value| self.hash.set(field, value, NOW, limits)))
    }

    /// The hash; `None` if a field came twice.
    #[must_use]
    pub fn finish(mut self) -> Option<Hash> {
        (!self.hash.is_empty() || self.settle()).then_some(self.hash)
    }

    /// Makes a hash of what was gathered; false if a field came twice.
    fn settle(&mut self) -> bool {
        let small = std::mem::take(&mut self.small);
        self.hash = Hash { word: OneWord::small(small.pack()) };
        small.are_distinct(2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_fields_one_by_one_make(
            pairs in proptest::collection::vec(("[a-c]{0,4}|[0-9]{1,2}", "[a-z]{0,9}|[0-9]{1,9}"), 0..60),
            entries in 0usize..70, bytes in 1usize..12, distinct: bool,
        ) {
            let limits =
                Thresholds { hash_entries: entries, hash_value: bytes, ..Thresholds::default() };
            let (mut builder, mut one_by_one) = (HashBuilder::default(), Hash::new());
            let (mut refused, mut twice) = (false, false);
            for (field, value) in &pairs {
                let (field, value) = (field.as_bytes(), value.as_bytes());
                if one_by_one.contains(field, NOW) {
                    if distinct {
                        continue;
                    }
                    twice = true;
                }
                one_by_one.set(field, value, NOW, &limits);
                refused |= !builder.add(Text::Bytes(field), Text::Bytes(value), &limits);
            }
            let built = builder.finish();
            prop_assert_eq!(refused || built.is_none(), twice);
            let Some(built) = built.filter(|_| !twice) else { return Ok(()) };
            let all = |hash: &Hash| -> Vec<(Vec<u8>, Vec<u8>)> {
                hash.iter(NOW).map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
            };
            prop_assert_eq!(all(&built), all(&one_by_one));
            prop_assert_eq!(built.encoding_name(), one_by_one.encoding_name());
        }
    }
}
