//! LZF, the compression of long texts in RDB files: literal runs and references up to 8 KiB back. It
//! knows only bytes.

/// The farthest that a reference reaches back.
const DISTANCE_MAX: usize = 1 << 13;
/// The longest copy of one reference.
const COPY_MAX: usize = 264;
/// The longest literal run.
const LITERAL_MAX: usize = 32;
/// The most that one byte of compressed text can stand for: three bytes copy 264.
const RATIO_MAX: usize = 88;
const HASH_BITS_MAX: u32 = 14;

/// Restores a text of exactly `len` bytes; `None` if `packed` does not hold one. Takes no more memory
/// than about 88 times the bytes given, whatever `len` says.
pub fn decompress(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > packed.len().saturating_mul(RATIO_MAX) {
        return None;
    }
    let mut text = Vec::with_capacity(len);
    let mut rest = packed;
    while let Some((&control, after)) = rest.split_first() {
        rest = after;
        let head = usize::from(control);
        if head < LITERAL_MAX {
            let (run, after) = rest.split_at_checked(head + 1)?;
            text.extend_from_slice(run);
            rest = after;
        } else {
            let mut copy = head >> 5;
            if copy == 7 {
                let (&more, after) = rest.split_first()?;
                copy += usize::from(more);
                rest = after;
            }
            let (&low, after) = rest.split_first()?;
            rest = after;
            let distance = ((head & 0x1f) << 8 | usize::from(low)) + 1;
            copy_back(&mut text, distance, copy + 2)?;
        }
        if text.len() > len {
            return None;
        }
    }
    (text.len() == len).then_some(text)
}

/// Appends `len` bytes from `distance` back, which may overlap with what is being written.
fn copy_back(text: &mut Vec<u8>, distance: usize, len: usize) -> Option<()> {
    let from = text.len().checked_sub(distance)?;
    let mut left = len;
    while left > 0 {
        // What was just written belongs to what is repeated: each round has at least as much as the one before.
        let run = left.min(text.len() - from);
        text.extend_from_within(from..from + run);
        left -= run;
    }
    Some(())
}

/// Compresses texts one after the other, keeping its table.
pub struct Compressor {
    /// Where three bytes with this hash were seen last, plus 1.
    seen: Vec<u32>,
}

impl Default for Compressor {
    fn default() -> Compressor {
        Compressor::new()
    }
}

impl Compressor {
    /// A fresh one.
    pub fn new() -> Compressor {
        Compressor { seen: Vec::new() }
    }

    /// Writes the compressed text into `out` (emptied first); false if it would not be shorter by at least four
    /// bytes.
    pub fn compress(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let Some(room) = text.len().checked_sub(4) else { return false };
        if u32::try_from(text.len()).is_err() {
            return false;
        }
        // A short text gets a short table: emptying a long one would cost more than all the rest.
        let bits = (text.len().ilog2() + 1).clamp(6, HASH_BITS_MAX);
        self.seen.clear();
        self.seen.resize(1 << bits, 0);
        let (mut at, mut literals) = (0, 0);
        while let Some(&[a, b, c]) = text.get(at..).and_then(<[u8]>::first_chunk::<3>) {
            match self.earlier(text, at, [a, b, c], bits) {
                Some((distance, len)) => {
                    literal_runs(out, text.get(literals..at).unwrap_or_default());
                    reference(out, distance, len);
                    at += len;
                    literals = at;
                }
                None => at += 1,
            }
            if out.len() > room {
                return false;
            }
        }
        literal_runs(out, text.get(literals..).unwrap_or_default());
        out.len() <= room
    }

    /// Notes the three bytes at `at`; if they were seen within reach: how far back, and how many bytes agree.
    fn earlier(
        &mut self,
        text: &[u8],
        at: usize,
        [a, b, c]: [u8; 3],
        bits: u32,
    ) -> Option<(usize, usize)> {
        let word = u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c);
        let hash = word.wrapping_mul(0x9e37_79b1) >> (32 - bits);
        let slot = self.seen.get_mut(usize::try_from(hash).ok()?)?;
        let before = std::mem::replace(slot, u32::try_from(at + 1).ok()?);
        let from = usize::try_from(before).ok()?.checked_sub(1)?;
        let distance = at.checked_sub(from)?;
        if distance == 0 || distance > DISTANCE_MAX {
            return None;
        }
        let (old, new) = (text.get(from..)?, text.get(at..)?);
        let agree = old.iter().zip(new.iter().take(COPY_MAX)).take_while(|(x, y)| x == y).count();
        (agree >= 3).then_some((distance, agree))
    }
}

fn literal_runs(out: &mut Vec<u8>, text: &[u8]) {
    for run in text.chunks(LITERAL_MAX) {
        out.extend(u8::try_from(run.len() - 1));
        out.extend_from_slice(run);
    }
}

/// `distance` 1 to 8192, `len` 3 to 264.
fn reference(out: &mut Vec<u8>, distance: usize, len: usize) {
    let [_, _, _, _, _, _, high, low] = (distance as u64 - 1).to_be_bytes();
    let len = len - 2;
    if len < 7 {
        out.extend(u8::try_from(len << 5).map(|len| len | high));
    } else {
        out.push(7 << 5 | high);
        out.extend(u8::try_from(len - 7));
    }
    out.push(low);
}

#[cfg(test)]
mod tests {
    use super::{Compressor, decompress};
    use proptest::prelude::*;

    #[test]
    fn a_text_of_one_byte_shrinks_and_returns() {
        for len in [5usize, 30, 264, 265, 266, 5_000, 100_000] {
            let text = vec![b'x'; len];
            let mut packed = Vec::new();
            if Compressor::new().compress(&text, &mut packed) {
                assert!(packed.len() <= len - 4);
                assert_eq!(decompress(&packed, len).unwrap(), text);
            } else {
                assert!(len < 20, "{len} bytes of one kind must shrink");
            }
        }
    }

    #[test]
    fn lies_about_the_length_are_refused() {
        let mut packed = Vec::new();
        assert!(Compressor::new().compress(&[b'a'; 100], &mut packed));
        assert_eq!(decompress(&packed, 99), None);
        assert_eq!(decompress(&packed, 101), None);
        assert_eq!(decompress(&packed, usize::MAX), None);
        assert_eq!(decompress(&[0x20, 5], 3), None, "a reference before the beginning");
    }

    proptest! {
        #[test]
        fn what_was_compressed_returns(
            pieces in proptest::collection::vec(("[a-d]{1,40}", 1usize..30), 0..20)
        ) {
            let text: Vec<u8> =
                pieces.iter().flat_map(|(piece, n)| piece.repeat(*n).into_bytes()).collect();
            let mut packed = Vec::new();
            if Compressor::new().compress(&text, &mut packed) {
                prop_assert!(packed.len() + 4 <= text.len());
                prop_assert_eq!(decompress(&packed, text.len()).unwrap(), text);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_give_the_length_asked(
            packed in proptest::collection::vec(any::<u8>(), 0..60), len in 0usize..3000
        ) {
            if let Some(text) = decompress(&packed, len) {
                prop_assert_eq!(text.len(), len);
            }
        }
    }
}
