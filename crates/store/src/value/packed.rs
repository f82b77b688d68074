//! Packed elements: texts and numbers one after the other in a single thin allocation. The small form of
//! every collection, and the chunks of long lists. It knows no collection and no threshold.
//!
//! An element starts with a tag byte; numbers are little endian:
//!
//! ```text
//! 0..=127     text of that many bytes          0xE5  f64 (scores only)
//! 128..=191   integer 0..=63                   0xE6  text, u16 length
//! 192..=223   integer 64..=8255, with a byte   0xE7  text, u32 length
//! 0xE0..=0xE4 integer of 2, 3, 4, 6, 8 bytes   0xE8  3 bytes of hundredths (scores only)
//! ```
//!
//! Every text has one encoding only (canonical decimal integers are stored as integers), so equal
//! texts are equal bytes. In the list flavour (`BACK`) each element is followed by its size in groups
//! of 7 bits, to be read backwards: the high bit says that another group stands before this one.

mod blob;
mod gathered;
mod one_word;

use larder_base::number;

pub(in crate::value) use blob::Blob;
pub(in crate::value) use gathered::Gathered;
pub(in crate::value) use one_word::{Form, FormMut, OneWord, Small};

use super::Text;

const SMALL_TEXT_MAX: usize = 127;
const TINY_INT: u8 = 128;
const SHORT_INT: u8 = 192;
const SHORT_INT_BASE: i64 = 64;
const SHORT_INT_MAX: i64 = SHORT_INT_BASE + (32 << 8) - 1;
const INT_2: u8 = 0xE0;
const INT_3: u8 = 0xE1;
const INT_4: u8 = 0xE2;
const INT_6: u8 = 0xE3;
const INT_8: u8 = 0xE4;
const DOUBLE: u8 = 0xE5;
const TEXT_2: u8 = 0xE6;
const TEXT_4: u8 = 0xE7;
const HUNDREDTHS: u8 = 0xE8;

/// Integers beyond this magnitude are not exact as doubles.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// An element in its stored form: up to 9 bytes of our own and the text that it borrows.
#[derive(Clone, Copy)]
pub(in crate::value) struct Encoded<'a> {
    head: [u8; 9],
    head_len: u8,
    tail: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// A text; a canonical integer becomes one.
    #[inline]
    pub fn text(text: &'a [u8]) -> Encoded<'a> {
        let maybe_number =
            text.len() <= 20 && text.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-');
        if maybe_number && let Some(value) = number::parse_i64(text) {
            return Encoded::integer(value);
        }
        let len = text.len().to_le_bytes();
        let [a, b, c, d, ..] = len;
        match text.len() {
            0..=SMALL_TEXT_MAX => Encoded::head(&[a], text),
            128..=0xffff => Encoded::head(&[TEXT_2, a, b], text),
            _ => Encoded::head(&[TEXT_4, a, b, c, d], text),
        }
    }

    /// A text that is known to be an integer, or not known.
    #[inline]
    pub fn of(text: Text<'a>) -> Encoded<'a> {
        match text {
            Text::Int(value) => Encoded::integer(value),
            Text::Bytes(text) => Encoded::text(text),
        }
    }

    /// An integer.
    #[inline]
    pub fn integer(value: i64) -> Encoded<'static> {
        let [a, b, c, d, e, f, ..] = value.to_le_bytes();
        let fits = |bits: u32| (value << (64 - bits)) >> (64 - bits) == value;
        match value {
            0..SHORT_INT_BASE => Encoded::head(&[TINY_INT | a], b""),
            SHORT_INT_BASE..=SHORT_INT_MAX => {
                let [low, high, ..] = (value - SHORT_INT_BASE).to_le_bytes();
                Encoded::head(&[SHORT_INT | high, low], b"")
            }
            _ if fits(16) => Encoded::head(&[INT_2, a, b], b""),
            _ if fits(24) => Encoded::head(&[INT_3, a, b, c], b""),
            _ if fits(32) => Encoded::head(&[INT_4, a, b, c, d], b""),
            _ if fits(48) => Encoded::head(&[INT_6, a, b, c, d, e, f], b""),
            _ => Encoded::wide(INT_8, value.to_le_bytes()),
        }
    }

    /// A score, in the shortest form that gives back the very same double.
    #[inline]
    pub fn score(score: f64) -> Encoded<'static> {
        let whole = score.is_sign_positive() || score != 0.0;
        if whole && score.fract() == 0.0 && score.abs() <= EXACT_MAX {
            return Encoded::integer(truncated(score));
        }
        let hundredths = (score * 100.0).round();
        if hundredths.abs() < f64::from(1 << 23) && hundredths / 100.0 == score && whole {
            let [a, b, c, ..] = truncated(hundredths).to_le_bytes();
            return Encoded::head(&[HUNDREDTHS, a, b, c], b"");
        }
        Encoded::wide(DOUBLE, score.to_le_bytes())
    }

    /// Size as stored, without the back-length.
    #[inline]
    pub fn size(&self) -> usize {
        usize::from(self.head_len) + self.tail.len()
    }

    /// Size as stored in the list flavour.
    #[inline]
    pub fn size_with_back(&self) -> usize {
        self.size() + BackLength::of(self.size()).len
    }

    #[inline]
    fn head_bytes(&self) -> &[u8] {
        self.head.get(..usize::from(self.head_len)).unwrap_or_default()
    }

    #[inline]
    fn head(bytes: &[u8], tail: &'a [u8]) -> Encoded<'a> {
        let mut head = [0; 9];
        let mut head_len = 0;
        for (to, from) in head.iter_mut().zip(bytes) {
            *to = *from;
            head_len += 1;
        }
        Encoded { head, head_len, tail }
    }

    #[inline]
    fn wide(tag: u8, [a, b, c, d, e, f, g, h]: [u8; 8]) -> Encoded<'static> {
        Encoded { head: [tag, a, b, c, d, e, f, g, h], head_len: 9, tail: b"" }
    }

    #[inline]
    fn is_at(&self, bytes: &[u8]) -> bool {
        bytes.strip_prefix(self.head_bytes()) == Some(self.tail)
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "saturates, and callers bound the magnitude")]
fn truncated(value: f64) -> i64 {
    value as i64
}

/// The size of an element, written to be read backwards.
struct BackLength {
    bytes: [u8; 5],
    len: usize,
}

impl BackLength {
    #[inline]
    fn of(size: usize) -> BackLength {
        let mut bytes = [0; 5];
        let group = |shift: u32, more: u8| (size >> shift).to_le_bytes()[0] & 127 | more;
        let len = match size {
            0..0x80 => 1,
            0x80..0x4000 => 2,
            0x4000..0x20_0000 => 3,
            0x20_0000..0x1000_0000 => 4,
            _ => 5,
        };
        let (mut shift, mut left) = (0, len);
        for to in bytes.iter_mut().take(len).rev() {
            left -= 1;
            *to = group(shift, if left > 0 { 128 } else { 0 });
            shift += 7;
        }
        BackLength { bytes, len }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Reads the one that ends where `bytes` end: the element's size and how many bytes tell it.
    #[inline]
    fn read(bytes: &[u8]) -> (usize, usize) {
        let (mut size, mut len) = (0, 0);
        for byte in bytes.iter().rev() {
            size |= usize::from(byte & 127) << (7 * len);
            len += 1;
            if byte & 128 == 0 {
                break;
            }
        }
        (size, len)
    }
}

/// Sizes of elements by tag; 0 where the length follows the tag. A table, because a mix of texts and
/// numbers would defeat the prediction of branches.
static SIZES: [u8; 256] = sizes();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, in bounds")]
const fn sizes() -> [u8; 256] {
    let mut sizes = [0; 256];
    let mut tag = 0u8;
    loop {
        sizes[tag as usize] = match tag {
            0..TINY_INT => 1 + tag,
            TINY_INT..SHORT_INT => 1,
            SHORT_INT..INT_2 => 2,
            INT_2 => 3,
            INT_3 | HUNDREDTHS => 4,
            INT_4 => 5,
            INT_6 => 7,
            INT_8 | DOUBLE => 9,
            TEXT_2 | TEXT_4 | 0xE9.. => 0,
        };
        if tag == u8::MAX {
            return sizes;
        }
        tag += 1;
    }
}

/// Size of the element that starts `bytes`, without back-length; 0 at the end.
#[inline]
fn size_of_first(bytes: &[u8]) -> usize {
    let Some(tag) = bytes.first() else { return 0 };
    match SIZES.get(usize::from(*tag)) {
        None | Some(0) => size_of_long(bytes),
        Some(size) => usize::from(*size),
    }
}

#[cold]
fn size_of_long(bytes: &[u8]) -> usize {
    match bytes {
        [TEXT_2, a, b, ..] => 3 + usize::from(u16::from_le_bytes([*a, *b])),
        [TEXT_4, a, b, c, d, ..] => 5 + u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    }
}

/// The integer of up to 8 little-endian bytes, sign extended.
#[inline]
fn integer_of(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    let unused = 8 - bytes.len().min(8);
    for (to, from) in wide.iter_mut().skip(unused).zip(bytes) {
        *to = *from;
    }
    i64::from_le_bytes(wide) >> (8 * unused)
}

/// What `element`, the exact bytes of one, holds.
#[inline]
fn decode(element: &[u8]) -> Text<'_> {
    let Some((tag, rest)) = element.split_first() else { return Text::Bytes(b"") };
    match *tag {
        0..TINY_INT => Text::Bytes(rest),
        TINY_INT..SHORT_INT => Text::Int(i64::from(tag & 63)),
        SHORT_INT..INT_2 => {
            let low = rest.first().copied().unwrap_or(0);
            Text::Int(SHORT_INT_BASE + (i64::from(tag & 31) << 8) + i64::from(low))
        }
        TEXT_2 => Text::Bytes(rest.get(2..).unwrap_or_default()),
        TEXT_4 => Text::Bytes(rest.get(4..).unwrap_or_default()),
        _ => Text::Int(integer_of(rest)),
    }
}

/// Packed elements behind one word; empty ones own no allocation. Positions are byte offsets, valid
/// until the next change: 0 is the first element, [`Packed::end`] is past the last one.
#[repr(transparent)]
#[derive(Clone)]
pub(in crate::value) struct Packed<const BACK: bool>(Blob);

#[expect(unsafe_code, reason = "a promise about the layout")]
// SAFETY: a transparent wrapper.
unsafe impl<const BACK: bool> Small for Packed<BACK> {}

/// Elements to be read in one direction only.
pub(in crate::value) type Plain = Packed<false>;
/// Elements to be read in both directions.
pub(in crate::value) type Linked = Packed<true>;

impl<const BACK: bool> Packed<BACK> {
    /// No elements.
    pub const fn new() -> Self {
        Packed(Blob::new())
    }

    /// The elements in a blob that was filled by another `Packed` of this flavour.
    pub fn from_blob(blob: Blob) -> Self {
        Packed(blob)
    }

    /// The blob, to be told apart by its form.
    pub fn into_blob(self) -> Blob {
        self.0
    }

    /// The elements in a blob of this flavour.
    #[inline]
    pub fn view(blob: &Blob) -> PackedView<'_, BACK> {
        PackedView { bytes: blob.bytes(), count: blob.count() }
    }

    /// To read.
    #[inline]
    pub fn as_view(&self) -> PackedView<'_, BACK> {
        Self::view(&self.0)
    }

    /// Number of elements.
    #[inline]
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// Bytes of the elements; also the position past the last one.
    #[inline]
    pub fn end(&self) -> usize {
        self.0.len()
    }

    /// Bytes held on the heap.
    pub fn memory_usage(&self) -> usize {
        self.0.memory_usage()
    }

    /// Puts elements before the one at `at`.
    #[inline]
    pub fn insert(&mut self, at: usize, elements: &[Encoded<'_>]) {
        self.replace(at, 0, elements);
    }

    /// Adds elements at the end.
    #[inline]
    pub fn push(&mut self, elements: &[Encoded<'_>]) {
        self.replace(self.end(), 0, elements);
    }

    /// Takes `removed` elements from `at` on.
    pub fn remove(&mut self, at: usize, removed: usize) {
        self.replace(at, removed, &[]);
    }

    /// Replaces `removed` elements from `at` on by others (at most two).
    pub fn replace(&mut self, at: usize, removed: usize, elements: &[Encoded<'_>]) {
        let until = self.as_view().skip(at, removed);
        let count = (self.count() + elements.len()).saturating_sub(removed);
        match elements {
            [] => self.0.splice(at, until - at, &[]),
            [one] => {
                let back = BackLength::of(one.size());
                let back = if BACK { back.bytes() } else { b"" };
                self.0.splice(at, until - at, &[one.head_bytes(), one.tail, back]);
            }
            [one, two, ..] => {
                let (back_one, back_two) = (BackLength::of(one.size()), BackLength::of(two.size()));
                let (back_one, back_two) =
                    if BACK { (back_one.bytes(), back_two.bytes()) } else { (&b""[..], &b""[..]) };
                let (head_one, head_two) = (one.head_bytes(), two.head_bytes());
                let pieces = [head_one, one.tail, back_one, head_two, two.tail, back_two];
                self.0.splice(at, until - at, &pieces);
            }
        }
        self.0.set_count(count, 0);
    }

    /// Moves the elements that lie from `from` to `until` before the one at `to`, which must not be
    /// among them.
    pub fn relocate(&mut self, from: usize, until: usize, to: usize) {
        let bytes = self.0.bytes_mut();
        if to >= until {
            if let Some(span) = bytes.get_mut(from..to) {
                span.rotate_left(until - from);
            }
        } else if let Some(span) = bytes.get_mut(to..until) {
            span.rotate_right(until - from);
        }
    }

    /// Cuts the elements from `at` on off and returns them.
    pub fn split_off(&mut self, at: usize) -> Self {
        let view = self.as_view();
        let moved = view.from(at).count();
        let mut rest = Blob::new();
        rest.splice(0, 0, &[view.bytes.get(at..).unwrap_or_default()]);
        rest.set_count(moved, 0);
        let kept = self.count() - moved;
        self.0.splice(at, self.end() - at, &[]);
        self.0.set_count(kept, 0);
        Packed(rest)
    }

    /// Adds all elements of another one at the end.
    pub fn append(&mut self, other: &Self) {
        let count = self.count() + other.count();
        self.0.splice(self.end(), 0, &[other.0.bytes()]);
        self.0.set_count(count, 0);
    }
}

/// Packed elements, to read.
#[derive(Clone, Copy)]
pub(in crate::value) struct PackedView<'a, const BACK: bool> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a, const BACK: bool> PackedView<'a, BACK> {
    #[inline]
    fn rest(self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    /// The bytes of the element at `at`, and where the next one starts.
    #[inline]
    fn step(self, at: usize) -> Option<(&'a [u8], usize)> {
        let rest = self.rest(at);
        let size = size_of_first(rest);
        let element = rest.get(..size).filter(|element| !element.is_empty())?;
        let back = if BACK { BackLength::of(size).len } else { 0 };
        Some((element, at + size + back))
    }

    /// The element at `at`; `None` past the end.
    #[inline]
    pub fn get(self, at: usize) -> Option<Text<'a>> {
        self.step(at).map(|(element, _)| decode(element))
    }

    /// The element at `at` and the position of the next one.
    #[inline]
    pub fn next(self, at: usize) -> Option<(Text<'a>, usize)> {
        self.step(at).map(|(element, next)| (decode(element), next))
    }

    /// The score at `at` and the position of the next element. 0 for what is no score.
    #[inline]
    pub fn next_score(self, at: usize) -> (f64, usize) {
        let Some((element, next)) = self.step(at) else { return (0.0, at) };
        let score = match element {
            [DOUBLE, a, b, c, d, e, f, g, h] => {
                f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])
            }
            [HUNDREDTHS, rest @ ..] => integer_of(rest) as f64 / 100.0,
            _ => match decode(element) {
                Text::Int(value) => value as f64,
                Text::Bytes(_) => 0.0,
            },
        };
        (score, next)
    }

    /// The position `n` elements after `at`, or the end.
    #[inline]
    pub fn skip(self, mut at: usize, n: usize) -> usize {
        for _ in 0..n {
            match self.step(at) {
                Some((_, next)) => at = next,
                None => return self.bytes.len(),
            }
        }
        at
    }

    /// The first element from `at` on that equals `needle`, looking at every `stride`th one.
    #[inline]
    pub fn find(self, needle: &Encoded<'_>, mut at: usize, stride: usize) -> Option<usize> {
        let size = needle.size();
        let first = needle.head.first();
        while let Some((element, next)) = self.step(at) {
            if element.len() == size && element.first() == first && needle.is_at(element) {
                return Some(at);
            }
            at = match stride {
                1 => next,
                2 => self.step(next).map_or(self.bytes.len(), |(_, after)| after),
                _ => self.skip(next, stride - 1),
            };
        }
        None
    }

    /// Elements from a position on.
    #[inline]
    pub fn from(self, at: usize) -> Elements<'a, BACK> {
        Elements { view: self, at }
    }

    /// All elements.
    #[inline]
    pub fn iter(self) -> Elements<'a, BACK> {
        self.from(0)
    }
}

impl<'a> PackedView<'a, true> {
    /// The position of the element before `at`; `None` at the front.
    #[inline]
    pub fn before(self, at: usize) -> Option<usize> {
        let ahead = self.bytes.get(..at).filter(|ahead| !ahead.is_empty())?;
        let (size, len) = BackLength::read(ahead);
        at.checked_sub(size + len)
    }

    /// The position of the element with this index, from the nearer end.
    #[inline]
    pub fn position(self, index: usize) -> usize {
        let behind = self.count.saturating_sub(index);
        if behind > index {
            return self.skip(0, index);
        }
        let mut at = self.bytes.len();
        for _ in 0..behind {
            at = self.before(at).unwrap_or(0);
        }
        at
    }
}

/// An iterator over packed elements.
#[derive(Clone)]
pub(in crate::value) struct Elements<'a, const BACK: bool> {
    view: PackedView<'a, BACK>,
    at: usize,
}

impl<'a, const BACK: bool> Iterator for Elements<'a, BACK> {
    type Item = Text<'a>;

    #[inline]
    fn next(&mut self) -> Option<Text<'a>> {
        let (element, next) = self.view.next(self.at)?;
        self.at = next;
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            (-9000i64..9000).prop_map(|n| n.to_string().into_bytes()),
            (any::<i64>(), 0u32..64).prop_map(|(n, by)| (n >> by).to_string().into_bytes()),
            prop::sample::select(vec!["007", "-0", "+1", "", "-", "9223372036854775808", "1 "])
                .prop_map(|text| text.as_bytes().to_vec()),
            prop::sample::select(vec![126usize, 127, 128, 300, 65535, 65536])
                .prop_map(|len| vec![b'x'; len]),
        ]
    }

    fn compare<const BACK: bool>(packed: &Packed<BACK>, model: &[Vec<u8>]) {
        assert_eq!(packed.count(), model.len());
        let texts: Vec<Vec<u8>> = packed.as_view().iter().map(|text| text.to_vec()).collect();
        assert_eq!(texts, model);
    }

    proptest! {
        #[test]
        fn behaves_as_a_vector(steps in prop::collection::vec((0u8..4, any::<u16>(), texts()), 1..60)) {
            let (mut plain, mut linked) = (Plain::new(), Linked::new());
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (what, place, text) in steps {
                let place = usize::from(place) % (model.len() + 1);
                let element = Encoded::text(&text);
                let (at, at_linked) =
                    (plain.as_view().skip(0, place), linked.as_view().position(place));
                match what {
                    0 | 1 => {
                        plain.insert(at, &[element]);
                        linked.insert(at_linked, &[element]);
                        model.insert(place, text.clone());
                    }
                    2 if place < model.len() => {
                        plain.replace(at, 1, &[element]);
                        linked.replace(at_linked, 1, &[element]);
                        model[place] = text.clone();
                    }
                    _ => {
                        let n = 3.min(model.len() - place);
                        plain.remove(at, n);
                        linked.remove(at_linked, n);
                        model.drain(place..place + n);
                    }
                }
                compare(&plain, &model);
                compare(&linked, &model);
                let found = plain.as_view().find(&Encoded::text(&text), 0, 1);
                let index = model.iter().position(|other| *other == text);
                prop_assert_eq!(found, index.map(|index| plain.as_view().skip(0, index)));
            }
            let mut backwards = Vec::new();
            let mut at = linked.end();
            while let Some(before) = linked.as_view().before(at) {
                backwards.push(linked.as_view().get(before).unwrap().to_vec());
                at = before;
            }
            backwards.reverse();
            prop_assert_eq!(&backwards, &model);
            let half = linked.as_view().position(model.len() / 2);
            let rest = linked.split_off(half);
            compare(&linked, &model[..model.len() / 2]);
            compare(&rest, &model[model.len() / 2..]);
            linked.append(&rest);
            compare(&linked, &model);
            compare(&linked.clone(), &model);
        }

        #[test]
        fn scores_come_back_bit_for_bit(bits in any::<u64>(), hundredths in -2_000_000_000i64..2_000_000_000) {
            for score in [f64::from_bits(bits), hundredths as f64 / 100.0, hundredths as f64, -0.0, 0.0,
                f64::INFINITY, f64::NEG_INFINITY, EXACT_MAX, 1e300]
            {
                if score.is_nan() { continue; }
                let mut packed = Plain::new();
                packed.push(&[Encoded::score(score)]);
                let (back, _) = packed.as_view().next_score(0);
                prop_assert_eq!(back.to_bits(), score.to_bits());
            }
        }
    }

    #[test]
    fn small_numbers_take_few_bytes() {
        let size = |text: &str| Encoded::text(text.as_bytes()).size();
        assert_eq!([size("5"), size("12"), size("8255"), size("12345")], [1, 1, 2, 3]);
        assert_eq!([size("-1"), size("hello"), size("9223372036854775807")], [3, 6, 9]);
        assert_eq!([Encoded::score(17.0).size(), Encoded::score(3.25).size()], [1, 4]);
    }
}
