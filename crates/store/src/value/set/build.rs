//! Building a set (from a file): a small one that is not of integers is packed at once, and looked at once for members
//! that came twice.

use super::{OneWord, Set};
use crate::value::packed::{Encoded, Gathered};
use crate::value::{PACKED_BYTES_MAX, Text, Thresholds};

/// A set that is being built. Dropped, its members are forgotten.
#[derive(Default)]
pub struct SetBuilder {
    /// Members, as long as they fit the packed form; the first of them is no integer.
    small: Gathered,
    /// Empty as long as they do.
    set: Set,
}

impl SetBuilder {
    /// Adds a member. False if it, or another one, was seen to come twice; that may also come to light at the end.
    pub fn add(&mut self, member: Text<'_>, limits: &Thresholds) -> bool {
        if self.set.is_empty() {
            if self.gather(member, limits) {
                return true;
            }
            if !self.settle() {
                return false;
            }
        }
        member.with_bytes(|member| self.set.insert(member, limits))
    }

    /// The set; `None` if a member came twice.
    #[must_use]
    pub fn finish(mut self) -> Option<Set> {
        (!self.set.is_empty() || self.settle()).then_some(self.set)
    }

    fn gather(&mut self, member: Text<'_>, limits: &Thresholds) -> bool {
        let element = Encoded::of(member);
        let count = self.small.count();
        let fits = count < limits.set_entries
            && member.len() <= limits.set_value
            && self.small.end() + element.size() <= PACKED_BYTES_MAX
            // Sorted integers have a form of their own.
            && (count > 0 || member.to_i64().is_none());
        if fits {
            self.small.push(&element);
        }
        fits
    }

    /// Makes a set of what was gathered; false if a member came twice.
    fn settle(&mut self) -> bool {
        let small = std::mem::take(&mut self.small);
        self.set = Set { word: OneWord::small(small.pack().into_blob()) };
        small.are_distinct(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_members_one_by_one_make(
            members in proptest::collection::vec("[a-c]{0,4}|[0-9]{1,2}", 0..60), integers in 0usize..10,
            entries in 0usize..70, most in 0usize..9, bytes in 1usize..30, distinct: bool,
        ) {
            let limits = Thresholds {
                set_entries: entries, set_value: bytes, set_intset: most, ..Thresholds::default()
            };
            let (mut builder, mut one_by_one) = (SetBuilder::default(), Set::new());
            let (mut refused, mut twice) = (false, false);
            let first = (0..integers).map(|number| (number * 7 % 100).to_string());
            for member in first.chain(members) {
                let fresh = one_by_one.insert(member.as_bytes(), &limits);
                if fresh || !distinct {
                    twice |= !fresh;
                    refused |= !builder.add(Text::Bytes(member.as_bytes()), &limits);
                }
            }
            let built = builder.finish();
            prop_assert_eq!(refused || built.is_none(), twice);
            let Some(built) = built.filter(|_| !twice) else { return Ok(()) };
            let all = |set: &Set| -> Vec<Vec<u8>> { set.iter().map(Text::to_vec).collect() };
            prop_assert_eq!(all(&built), all(&one_by_one));
            prop_assert_eq!(built.encoding_name(), one_by_one.encoding_name());
        }
    }
}
