//! The bytes of an RDB file as they come: counts them, sums them up, and reads the format's lengths and
//! texts. Takes room only for bytes that came. It knows no type and no opcode.

use std::io::{BufRead, ErrorKind};

use super::{Error, Reason};
use crate::crc64::Crc64;
use crate::limits::{TEXT_BYTES_MAX, TRUST_BYTES};
use crate::lzf;

/// A source of bytes with its position and checksum.
pub(super) struct Input<R> {
    source: R,
    /// Bytes of the source's buffer that were taken, but not yet handed back nor summed up: to do so once
    /// a buffer instead of once a byte.
    taken: usize,
    /// Position of the source's buffer.
    base: u64,
    crc: Crc64,
    /// Where compressed texts are gathered.
    packed: Vec<u8>,
}

/// A length, or how a text follows instead of a length.
pub(super) enum Length {
    /// A length.
    Plain(u64),
    /// An integer of 1, 2 or 4 bytes.
    Integer(u8),
    /// A compressed text.
    Compressed,
}

/// A text as it is written.
pub(super) enum Raw {
    Integer(i64),
    Bytes(Vec<u8>),
}

impl Raw {
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Raw::Integer(value) => larder_base::number::decimal_i64(value).as_bytes().to_vec(),
            Raw::Bytes(bytes) => bytes,
        }
    }
}

impl<R: BufRead> Input<R> {
    pub fn new(source: R) -> Input<R> {
        Input { source, taken: 0, base: 0, crc: Crc64::new(), packed: Vec::new() }
    }

    /// The position of the next byte.
    pub fn offset(&self) -> u64 {
        self.base + self.taken as u64
    }

    pub fn error(&self, reason: Reason) -> Error {
        Error { offset: self.offset(), reason }
    }

    /// The checksum of everything taken so far.
    pub fn checksum(&mut self) -> Result<u64, Error> {
        self.settle()?;
        Ok(self.crc.value())
    }

    /// The source, right behind what was taken.
    pub fn into_source(mut self) -> Result<R, Error> {
        self.settle()?;
        Ok(self.source)
    }

    /// Sums up what was taken and hands it back.
    fn settle(&mut self) -> Result<(), Error> {
        if self.taken > 0 {
            // No source is asked here: its buffer still holds at least what was taken.
            let held = self.source.fill_buf();
            let held = held.map_err(|error| Error { offset: self.base, reason: error.into() })?;
            self.crc.update(held.get(..self.taken).unwrap_or_default());
            self.source.consume(self.taken);
            self.base += self.taken as u64;
            self.taken = 0;
        }
        Ok(())
    }

    /// Takes 1 to `max` bytes by `take`; an error at the end.
    fn piece<T>(&mut self, max: usize, take: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        if let Ok(held) = self.source.fill_buf()
            && let Some(fresh) = held.get(self.taken..).filter(|fresh| !fresh.is_empty())
        {
            let piece = fresh.get(..max).unwrap_or(fresh);
            self.taken += piece.len();
            return Ok(take(piece));
        }
        let offset = self.offset();
        let fail = |reason| Error { offset, reason };
        let held = retry(|| self.source.fill_buf().map(<[u8]>::len)).map_err(fail)?;
        if held <= self.taken {
            self.settle()?;
            if retry(|| self.source.fill_buf().map(<[u8]>::len)).map_err(fail)? == 0 {
                return Err(fail(Reason::Truncated));
            }
        }
        let held = self.source.fill_buf().map_err(|error| fail(Reason::Io(error)))?;
        let fresh = held.get(self.taken..).unwrap_or_default();
        let Some(piece) = fresh.get(..max.min(fresh.len())).filter(|piece| !piece.is_empty())
        else {
            return Err(fail(Reason::Truncated));
        };
        self.taken += piece.len();
        Ok(take(piece))
    }

    pub fn byte(&mut self) -> Result<u8, Error> {
        self.piece(1, |piece| piece.first().copied().unwrap_or_default())
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let offset = self.offset();
        let mut array = [0; N];
        let mut rest = array.as_mut_slice();
        while !rest.is_empty() {
            let got = self.piece(rest.len(), |piece| {
                if let Some(room) = rest.get_mut(..piece.len()) {
                    room.copy_from_slice(piece);
                }
                piece.len()
            });
            let got = got.map_err(|error| moved(error, offset))?;
            rest = rest.get_mut(got..).unwrap_or_default();
        }
        Ok(array)
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: u64) -> Result<Vec<u8>, Error> {
        self.bytes_into(Vec::new(), len)
    }

    /// `len` bytes, in the room of `bytes`.
    fn bytes_into(&mut self, mut bytes: Vec<u8>, len: u64) -> Result<Vec<u8>, Error> {
        let offset = self.offset();
        let len = usize::try_from(len).ok().filter(|_| len <= TEXT_BYTES_MAX);
        let len = len.ok_or(Error { offset, reason: Reason::Invalid("text longer than 2 GiB") })?;
        bytes.clear();
        bytes.reserve_exact(len.min(TRUST_BYTES));
        while bytes.len() < len {
            let left = len - bytes.len();
            self.piece(left, |piece| bytes.extend_from_slice(piece))
                .map_err(|error| moved(error, offset))?;
        }
        Ok(bytes)
    }

    /// Skips `len` bytes.
    pub fn skip(&mut self, mut len: u64) -> Result<(), Error> {
        let offset = self.offset();
        while len > 0 {
            let max = usize::try_from(len).unwrap_or(usize::MAX);
            let got = self.piece(max, <[u8]>::len).map_err(|error| moved(error, offset))?;
            len -= got as u64;
        }
        Ok(())
    }

    pub fn length_or_form(&mut self) -> Result<Length, Error> {
        let offset = self.offset();
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first & 0x3f)),
            1 => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            2 => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => {
                    return Err(Error {
                        offset,
                        reason: Reason::Invalid("unknown form of a length"),
                    });
                }
            },
            _ => match first & 0x3f {
                0 => Length::Integer(1),
                1 => Length::Integer(2),
                2 => Length::Integer(4),
                3 => Length::Compressed,
                _ => {
                    return Err(Error {
                        offset,
                        reason: Reason::Invalid("unknown form of a text"),
                    });
                }
            },
        })
    }

    pub fn length(&mut self) -> Result<u64, Error> {
        let offset = self.offset();
        match self.length_or_form()? {
            Length::Plain(length) => Ok(length),
            Length::Integer(_) | Length::Compressed => {
                Err(Error { offset, reason: Reason::Invalid("a text where a length belongs") })
            }
        }
    }

    /// The bytes of a text, in `room` unless they come in room of their own.
    pub fn text_into(&mut self, room: &mut Vec<u8>) -> Result<(), Error> {
        match self.text_in(std::mem::take(room))? {
            Raw::Bytes(bytes) => *room = bytes,
            Raw::Integer(value) => {
                *room = larder_base::number::decimal_i64(value).as_bytes().to_vec();
            }
        }
        Ok(())
    }

    /// A text in any of its forms.
    pub fn text(&mut self) -> Result<Raw, Error> {
        self.text_in(Vec::new())
    }

    fn text_in(&mut self, room: Vec<u8>) -> Result<Raw, Error> {
        let offset = self.offset();
        let fail = |reason| Error { offset, reason: Reason::Invalid(reason) };
        Ok(match self.length_or_form()? {
            Length::Plain(length) => Raw::Bytes(self.bytes_into(room, length)?),
            Length::Integer(1) => Raw::Integer(i8::from_le_bytes(self.array()?).into()),
            Length::Integer(2) => Raw::Integer(i16::from_le_bytes(self.array()?).into()),
            Length::Integer(_) => Raw::Integer(i32::from_le_bytes(self.array()?).into()),
            Length::Compressed => {
                let packed_len = self.length()?;
                let len = self.length()?;
                let room = std::mem::take(&mut self.packed);
                let packed = self.bytes_into(room, packed_len)?;
                let len = usize::try_from(len).ok().filter(|_| len <= TEXT_BYTES_MAX);
                let len = len.ok_or(fail("text longer than 2 GiB"))?;
                let text = lzf::decompress(&packed, len);
                if packed.capacity() <= TRUST_BYTES {
                    self.packed = packed;
                }
                Raw::Bytes(text.ok_or(fail("invalid compressed text"))?)
            }
        })
    }
}

/// What failed is the whole thing that begins at `offset`, if bytes are missing.
fn moved(error: Error, offset: u64) -> Error {
    match error.reason {
        Reason::Truncated => Error { offset, reason: Reason::Truncated },
        _ => error,
    }
}

/// Repeats what a signal interrupted.
fn retry<T>(mut read: impl FnMut() -> std::io::Result<T>) -> Result<T, Reason> {
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return Ok(done?),
        }
    }
}
