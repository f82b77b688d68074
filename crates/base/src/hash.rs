//! Keyed hashing of keys: SipHash-1-3 over a byte slice.
//!
//! Keys come from untrusted clients, so the hash is keyed with a secret drawn at start, or one client
//! could fill a bucket chain. Written out here, over whole slices, because the streaming interface of
//! a general hasher costs more than the hash itself on keys of a dozen bytes.

/// A secret pair of keys, and the hash function under it. Copies are cheap and equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHasher {
    k0: u64,
    k1: u64,
}

impl KeyHasher {
    /// A hasher under the secret `(k0, k1)`, which the caller draws from the system's entropy.
    #[inline]
    #[must_use]
    pub const fn new(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// The SipHash-1-3 of `bytes`: 64 well mixed bits, so any subset of them may index a table.
    #[inline]
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut state = State::new(self.k0, self.k1);
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        // The last word carries the tail in its low bytes and the length, modulo 256, on top.
        state.absorb(tail_word(tail) | ((bytes.len() as u64) << 56));
        state.finish()
    }
}

/// Up to seven bytes as the low bytes of a little-endian word, by two or three overlapping loads in
/// place of a loop over bytes.
#[inline(always)]
fn tail_word(tail: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (tail.first_chunk::<4>(), tail.last_chunk::<4>()) {
        let low = u64::from(u32::from_le_bytes(*first));
        let high = u64::from(u32::from_le_bytes(*last));
        // 4 to 7 bytes: the two loads overlap in equal bits.
        low | (high << ((tail.len() & 3) * 8))
    } else {
        match *tail {
            [a, b, c] => u64::from(a) | (u64::from(b) << 8) | (u64::from(c) << 16),
            [a, b] => u64::from(a) | (u64::from(b) << 8),
            [a] => u64::from(a),
            _ => 0,
        }
    }
}

/// The four words of SipHash.
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    fn new(k0: u64, k1: u64) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    #[test]
    fn equals_the_reference_for_every_length() {
        let bytes: Vec<u8> = (0..=255u8).chain(0..=255).map(|b| b.wrapping_mul(167)).collect();
        for (k0, k1) in [(0, 0), (1, 2), (u64::MAX, 0x0123_4567_89ab_cdef)] {
            let hasher = KeyHasher::new(k0, k1);
            for len in 0..=300 {
                let mut reference = SipHasher13::new_with_keys(k0, k1);
                reference.write(&bytes[..len]);
                assert_eq!(hasher.hash(&bytes[..len]), reference.finish(), "length {len}");
            }
        }
    }
}
