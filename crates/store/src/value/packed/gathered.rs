//! Elements that come one after the other, from a file for instance, and become packed all at once: with one
//! allocation, and looked at once to see that none came twice. It knows no collection and no threshold.

use super::{Blob, Encoded, Packed, PackedView, Plain};

/// Room that most small collections need no more than.
const ROOM: usize = 256;
/// The prints of so many are compared each with each, without branches, instead of being sorted.
const FEW: usize = 16;

/// See the head of this file.
#[derive(Default)]
pub(in crate::value) struct Gathered {
    bytes: Vec<u8>,
    count: usize,
}

impl Gathered {
    /// Adds an element at the end.
    #[inline]
    pub fn push(&mut self, element: &Encoded<'_>) {
        if self.bytes.is_empty() {
            self.bytes.reserve(ROOM);
        }
        self.bytes.extend_from_slice(element.head_bytes());
        self.bytes.extend_from_slice(element.tail);
        self.count += 1;
    }

    /// Number of elements.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the elements; also the position of the next one.
    #[inline]
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// To read.
    #[inline]
    pub fn as_view(&self) -> PackedView<'_, false> {
        PackedView { bytes: &self.bytes, count: self.count }
    }

    /// Packed.
    pub fn pack(&self) -> Plain {
        let mut blob = Blob::new();
        blob.splice(0, 0, &[&self.bytes]);
        blob.set_count(self.count, 0);
        Packed(blob)
    }

    /// Whether no two are equal of the first, the one after `stride` and so on.
    pub fn are_distinct(&self, stride: usize) -> bool {
        let (view, mut at) = (self.as_view(), 0);
        let prints = std::iter::from_fn(|| {
            let (element, next) = view.step(at)?;
            at = view.skip(next, stride - 1);
            Some(print_of(element))
        });
        let mut few = [0; FEW];
        let wanted = self.count.div_ceil(stride.max(1));
        let differ = match few.get_mut(..wanted) {
            Some(few) => {
                few.iter_mut().zip(prints).for_each(|(place, print)| *place = print);
                all_differ(few)
            }
            None => {
                let mut many: Vec<u64> = prints.collect();
                many.sort_unstable();
                many.windows(2).all(|pair| pair.first() != pair.last())
            }
        };
        // Whoever has an equal print is equal, but for those that somebody made so: they are not worth more care.
        differ || self.are_surely_distinct(stride)
    }

    #[cold]
    fn are_surely_distinct(&self, stride: usize) -> bool {
        let (view, mut at, mut seen) = (self.as_view(), 0, Vec::new());
        while let Some((element, next)) = view.step(at) {
            seen.push(element);
            at = view.skip(next, stride - 1);
        }
        seen.sort_unstable();
        seen.windows(2).all(|pair| pair.first() != pair.last())
    }
}

/// A number that equal elements have in common, and others seldom.
#[inline]
fn print_of(element: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |print: u64, word: u64| {
        let mixed = (print ^ word).wrapping_mul(FACTOR);
        mixed ^ mixed >> 32
    };
    let (words, rest) = element.as_chunks::<8>();
    let print = words.iter().fold(0, |print, word| mix(print, u64::from_le_bytes(*word)));
    // The last eight bytes, or as many as there are: the first of them, the tag, says how many.
    let last = element.last_chunk::<8>().map_or_else(
        || rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        |last| u64::from_le_bytes(*last),
    );
    mix(print, last)
}

fn all_differ(prints: &[u64]) -> bool {
    let mut equal = false;
    for (at, print) in prints.iter().enumerate() {
        for other in prints.get(at + 1..).unwrap_or_default() {
            equal |= print == other;
        }
    }
    !equal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_was_pushed_one_by_one(
            texts in prop::collection::vec("[0-9a-c]{0,3}", 0..80), stride in 1usize..3,
        ) {
            let (mut gathered, mut packed) = (Gathered::default(), Plain::new());
            for text in &texts {
                gathered.push(&Encoded::text(text.as_bytes()));
                packed.push(&[Encoded::text(text.as_bytes())]);
            }
            let view = gathered.pack();
            prop_assert_eq!(view.as_view().bytes, packed.as_view().bytes);
            prop_assert_eq!((view.count(), gathered.count()), (packed.count(), texts.len()));
            let mut keys: Vec<&String> = texts.iter().step_by(stride).collect();
            let all = keys.len();
            keys.sort();
            keys.dedup();
            let distinct = gathered.are_distinct(stride);
            prop_assert_eq!(distinct, keys.len() == all);
            prop_assert_eq!(gathered.are_surely_distinct(stride), distinct);
        }
    }
}
