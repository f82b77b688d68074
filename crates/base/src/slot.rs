//! Hash slots: which of the 16,384 shares of the keyspace a key belongs to.
//!
//! CRC16 (XMODEM: polynomial 0x1021, no reflection, start 0) of the key or of its hash tag. Who
//! serves a slot is the cluster's knowledge and has no place here.

/// A hash slot, always below [`Slot::COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// How many slots there are.
    pub const COUNT: usize = 16_384;

    /// Slot number `n`, or `None` when there is none such.
    #[inline]
    #[must_use]
    pub const fn new(n: u16) -> Option<Self> {
        if (n as usize) < Self::COUNT { Some(Self(n)) } else { None }
    }

    /// The slot of `key`: that of its hash tag if it has one.
    #[inline]
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) & 0x3fff)
    }

    /// The slot as an index, below [`Slot::COUNT`].
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The slot's number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The part of `key` that chooses its slot: what stands between the first `{` and the first `}`
/// after it, unless that is empty or either brace is missing; else the whole key.
#[inline]
#[must_use]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    // Nearly no key has a brace, so the scan for it is all that most keys pay.
    match key.iter().position(|&b| b == b'{') {
        None => key,
        Some(open) => tag_after(key, open),
    }
}

#[cold]
fn tag_after(key: &[u8], open: usize) -> &[u8] {
    let after = key.get(open + 1..).unwrap_or_default();
    match after.iter().position(|&b| b == b'}') {
        Some(len) if len > 0 => after.get(..len).unwrap_or(key),
        _ => key,
    }
}

/// `TABLES[n][b]`: the register after byte `b` and then `n` zero bytes, from an empty register.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop stops at 256")]
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, in bounds")]
        {
            tables[0][byte] = crc;
        }
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, in bounds")]
            {
                let before = tables[zeros - 1][byte];
                tables[zeros][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            }
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// CRC16-XMODEM of `bytes`, eight bytes a step.
#[inline]
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let at = |table: &[u16; 256], byte: u8| {
        #[expect(clippy::indexing_slicing, reason = "a byte is always below 256")]
        table[usize::from(byte)]
    };
    let mut crc = 0u16;
    let (words, tail) = bytes.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in words {
        let [high, low] = crc.to_be_bytes();
        crc = at(t7, a ^ high)
            ^ at(t6, b ^ low)
            ^ at(t5, c)
            ^ at(t4, d)
            ^ at(t3, e)
            ^ at(t2, f)
            ^ at(t1, g)
            ^ at(t0, h);
    }
    for &byte in tail {
        let [high, _] = crc.to_be_bytes();
        crc = (crc << 8) ^ at(t0, byte ^ high);
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitwise(bytes: &[u8]) -> u16 {
        let mut crc = 0u16;
        for &byte in bytes {
            crc ^= u16::from(byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            }
        }
        crc
    }

    #[test]
    fn crc_equals_the_bitwise_definition() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let bytes: Vec<u8> = (0..200u8).map(|b| b.wrapping_mul(73).wrapping_add(5)).collect();
        for start in 0..20 {
            for end in start..bytes.len() {
                assert_eq!(crc16(&bytes[start..end]), bitwise(&bytes[start..end]));
            }
        }
    }

    #[test]
    fn tags_are_taken_as_redis_takes_them() {
        assert_eq!(hash_tag(b"{user}.a"), b"user");
        assert_eq!(hash_tag(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(hash_tag(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(hash_tag(b"foo{bar}{zap}"), b"bar");
        assert_eq!(hash_tag(b"foo{bar"), b"foo{bar");
        assert_eq!(hash_tag(b"}{"), b"}{");
        assert_eq!(hash_tag(b"{"), b"{");
        assert_eq!(hash_tag(b""), b"");
    }

    #[test]
    fn slots_agree_with_cluster_keyslot() {
        // Answers of redis-server to CLUSTER KEYSLOT.
        assert_eq!(Slot::of_key(b"foo").get(), 12182);
        assert_eq!(Slot::of_key(b"somekey").get(), 11058);
        assert_eq!(Slot::of_key(b"foo{hash_tag}").get(), 2515);
        assert_eq!(Slot::of_key(b"").get(), 0);
        assert_eq!(Slot::of_key(b"{user1000}.a"), Slot::of_key(b"user1000"));
        assert_eq!(Slot::new(16_384), None);
        assert_eq!(Slot::new(16_383).map(Slot::index), Some(16_383));
    }
}
