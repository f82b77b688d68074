//! The checksum of RDB files and DUMP payloads: CRC-64 with the polynomial of Jones, reflected, beginning
//! with 0. Eight bytes a step by eight tables; in long texts four steps at a time, at four places that do not wait
//! for each other. It knows no file.

/// The polynomial 0xad93d23594c935a9, bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// Table n says what a byte does to the remainder when n more bytes follow it.
static TABLES: [[u64; 256]; 8] = tables();

/// Bytes that one of four lanes takes of a block.
const LANE: usize = 1024;
/// What four lanes take together.
const BLOCK: usize = 4 * LANE;

/// Table n says what byte n of a remainder becomes when a lane of zeros follows it: what is left of one lane and of
/// the next adds up so.
static OVER_A_LANE: [[u64; 256]; 8] = over_a_lane();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, in bounds")]
const fn over_a_lane() -> [[u64; 256]; 8] {
    let step = tables();
    // A remainder becomes the sum of what its bits become.
    let mut bits = [0u64; 64];
    let mut bit = 0;
    while bit < 64 {
        let mut rest = 1u64 << bit;
        let mut words = 0;
        while words < LANE / 8 {
            let bytes = rest.to_le_bytes();
            rest = 0;
            let mut n = 0;
            while n < 8 {
                rest ^= step[7 - n][bytes[n] as usize];
                n += 1;
            }
            words += 1;
        }
        bits[bit] = rest;
        bit += 1;
    }
    let mut tables = [[0u64; 256]; 8];
    let mut at = 0;
    while at < 8 * 256 * 8 {
        let (n, byte, bit) = (at / 2048, at / 8 % 256, at % 8);
        if byte >> bit & 1 == 1 {
            tables[n][byte] ^= bits[n * 8 + bit];
        }
        at += 1;
    }
    tables
}

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0u64; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, in bounds")]
        {
            tables[0][byte] = rest;
        }
        byte += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut byte = 0;
        while byte < 256 {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, in bounds")]
            {
                let before = tables[n - 1][byte];
                tables[n][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            }
            byte += 1;
        }
        n += 1;
    }
    tables
}

/// A checksum that grows with its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc64(u64);

impl Crc64 {
    /// Of no bytes.
    pub fn new() -> Crc64 {
        Crc64(0)
    }

    /// One that goes on from this value.
    pub fn continued(value: u64) -> Crc64 {
        Crc64(value)
    }

    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut crc = Crc64::new();
        crc.update(bytes);
        crc.value()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let (blocks, bytes) = bytes.as_chunks::<BLOCK>();
        let mut crc = blocks.iter().fold(self.0, in_four_lanes);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            crc = step(crc, word);
        }
        for &byte in rest {
            let [low, ..] = crc.to_le_bytes();
            crc = at(0, low ^ byte) ^ crc >> 8;
        }
        self.0 = crc;
    }

    /// The checksum so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// The remainder after one more block.
fn in_four_lanes(crc: u64, block: &[u8; BLOCK]) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    let (first, second) = words.split_at(words.len() / 2);
    let (a, b) = first.split_at(first.len() / 2);
    let (c, d) = second.split_at(second.len() / 2);
    let mut lanes = [crc, 0, 0, 0];
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        let [la, lb, lc, ld] = lanes;
        lanes = [step(la, a), step(lb, b), step(lc, c), step(ld, d)];
    }
    let [first, others @ ..] = lanes;
    others.iter().fold(first, |crc, lane| over(crc) ^ lane)
}

/// The remainder after eight more bytes.
#[inline(always)]
fn step(crc: u64, word: &[u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
    let first = at(7, a) ^ at(6, b) ^ at(5, c) ^ at(4, d);
    first ^ at(3, e) ^ at(2, f) ^ at(1, g) ^ at(0, h)
}

/// The remainder after a lane of zeros.
fn over(crc: u64) -> u64 {
    let pairs = OVER_A_LANE.iter().zip(crc.to_le_bytes());
    pairs.fold(0, |sum, (table, byte)| sum ^ table.get(usize::from(byte)).copied().unwrap_or(0))
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a byte is below 256, and n is written out above")]
fn at(n: usize, byte: u8) -> u64 {
    TABLES[n][usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Crc64};

    #[test]
    fn the_check_values_of_the_polynomial_come_out() {
        assert_eq!(Crc64::of(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(Crc64::of(b""), 0);
    }

    #[test]
    fn any_split_gives_the_same_checksum() {
        let bytes: Vec<u8> = (0..100u8).map(|n| n.wrapping_mul(37)).collect();
        for split in 0..bytes.len() {
            let mut crc = Crc64::new();
            crc.update(&bytes[..split]);
            crc.update(&bytes[split..]);
            assert_eq!(crc.value(), Crc64::of(&bytes));
        }
    }

    #[test]
    fn blocks_are_summed_as_their_bytes_are() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 77).map(|n| (n * n % 253).to_le_bytes()[0]).collect();
        let mut slowly = Crc64::continued(7);
        for byte in &bytes {
            slowly.update(&[*byte]);
        }
        for from in [0, 1, 9, BLOCK - 1, BLOCK] {
            let mut crc = Crc64::continued(7);
            crc.update(&bytes[..from]);
            crc.update(&bytes[from..]);
            assert_eq!(crc, slowly, "split at {from}");
        }
    }
}
