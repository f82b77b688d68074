//! The checksum of RDB files and DUMP payloads: CRC-64 with the polynomial of Jones, reflected, beginning
//! with 0. Eight bytes a step by eight tables. It knows no file.

/// The polynomial 0xad93d23594c935a9, bits reversed.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// Table n says what a byte does to the remainder when n more bytes follow it.
static TABLES: [[u64; 256]; 8] = tables();

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
        let (words, rest) = bytes.as_chunks::<8>();
        let mut crc = self.0;
        for word in words {
            let [a, b, c, d, e, f, g, h] = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
            crc = at(7, a) ^ at(6, b) ^ at(5, c) ^ at(4, d);
            crc ^= at(3, e) ^ at(2, f) ^ at(1, g) ^ at(0, h);
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

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a byte is below 256, and n is written out above")]
fn at(n: usize, byte: u8) -> u64 {
    TABLES[n][usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::Crc64;

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
}
