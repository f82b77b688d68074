//! The packed forms in which files hold small collections: ziplist, listpack, intset, zipmap. Each function
//! checks a whole one and returns its elements. It knows no type of the store and no file.

use larder_store::Text;

/// What is wrong.
type Wrong = &'static str;

/// Reads from the front of some bytes.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A text whose length may be a wide one.
    fn text(&mut self, len: u32) -> Option<Text<'a>> {
        self.take(usize::try_from(len).ok()?).map(Text::Bytes)
    }
}

/// An integer of N little-endian bytes, N at most 8, sign extended.
fn integer<const N: usize>(bytes: [u8; N]) -> Text<'static> {
    let mut value = 0i64;
    for byte in bytes.iter().rev() {
        value = value << 8 | i64::from(*byte);
    }
    let unused = 64u32.saturating_sub(8 * u32::try_from(N).unwrap_or(8));
    Text::Int(value << unused >> unused)
}

/// Whether a written number of elements can be that of `count`: 65535 says nothing.
fn agrees(written: u16, count: usize) -> bool {
    written == u16::MAX || usize::from(written) == count
}

/// The elements of a ziplist (Redis 2.6 to 6.2).
pub(super) fn ziplist(bytes: &[u8]) -> Result<Vec<Text<'_>>, Wrong> {
    const WRONG: Wrong = "invalid ziplist";
    let mut cursor = Cursor { bytes, at: 0 };
    let total = cursor.u32().ok_or(WRONG)?;
    let tail = cursor.u32().ok_or(WRONG)?;
    let written = u16::from_le_bytes(cursor.array().ok_or(WRONG)?);
    if usize::try_from(total) != Ok(bytes.len()) {
        return Err("ziplist of another length than it says");
    }
    let (mut elements, mut before, mut last) = (Vec::new(), 0, cursor.at);
    loop {
        let start = cursor.at;
        let back = match cursor.byte().ok_or(WRONG)? {
            0xff => break,
            0xfe => cursor.u32().ok_or(WRONG)?,
            short => u32::from(short),
        };
        if usize::try_from(back) != Ok(before) {
            return Err("ziplist whose elements do not follow each other");
        }
        elements.push(ziplist_element(&mut cursor).ok_or(WRONG)?);
        before = cursor.at - start;
        last = start;
    }
    let whole = cursor.at == bytes.len() && agrees(written, elements.len());
    if !whole || usize::try_from(tail) != Ok(last) {
        return Err("ziplist that ends elsewhere than it says");
    }
    Ok(elements)
}

fn ziplist_element<'a>(cursor: &mut Cursor<'a>) -> Option<Text<'a>> {
    let first = cursor.byte()?;
    match first {
        0..0x40 => cursor.text(u32::from(first)),
        0x40..0x80 => {
            let len = u32::from(first & 0x3f) << 8 | u32::from(cursor.byte()?);
            cursor.text(len)
        }
        0x80 => {
            let len = cursor.array().map(u32::from_be_bytes)?;
            cursor.text(len)
        }
        0xc0 => cursor.array::<2>().map(integer),
        0xd0 => cursor.array::<4>().map(integer),
        0xe0 => cursor.array::<8>().map(integer),
        0xf0 => cursor.array::<3>().map(integer),
        0xfe => cursor.array::<1>().map(integer),
        0xf1..=0xfd => Some(Text::Int(i64::from(first & 0x0f) - 1)),
        _ => None,
    }
}

/// The elements of a listpack (Redis 7.0 on).
pub(super) fn listpack(bytes: &[u8]) -> Result<Vec<Text<'_>>, Wrong> {
    const WRONG: Wrong = "invalid listpack";
    let mut cursor = Cursor { bytes, at: 0 };
    let total = cursor.u32().ok_or(WRONG)?;
    let written = u16::from_le_bytes(cursor.array().ok_or(WRONG)?);
    if usize::try_from(total) != Ok(bytes.len()) {
        return Err("listpack of another length than it says");
    }
    // Each takes two bytes at least.
    let mut elements = Vec::with_capacity(usize::from(written).min(bytes.len() / 2));
    loop {
        let start = cursor.at;
        let first = cursor.byte().ok_or(WRONG)?;
        if first == 0xff {
            break;
        }
        elements.push(listpack_element(&mut cursor, first).ok_or(WRONG)?);
        skip_back_length(&mut cursor, start)
            .ok_or("listpack element of another length than it says")?;
    }
    if cursor.at != bytes.len() || !agrees(written, elements.len()) {
        return Err("listpack that ends elsewhere than it says");
    }
    Ok(elements)
}

fn listpack_element<'a>(cursor: &mut Cursor<'a>, first: u8) -> Option<Text<'a>> {
    match first {
        0..0x80 => Some(Text::Int(i64::from(first))),
        0x80..0xc0 => cursor.text(u32::from(first & 0x3f)),
        0xc0..0xe0 => {
            let value = i64::from(first & 0x1f) << 8 | i64::from(cursor.byte()?);
            Some(Text::Int(if value >= 1 << 12 { value - (1 << 13) } else { value }))
        }
        0xe0..0xf0 => {
            let len = u32::from(first & 0x0f) << 8 | u32::from(cursor.byte()?);
            cursor.text(len)
        }
        0xf0 => {
            let len = cursor.u32()?;
            cursor.text(len)
        }
        0xf1 => cursor.array::<2>().map(integer),
        0xf2 => cursor.array::<3>().map(integer),
        0xf3 => cursor.array::<4>().map(integer),
        0xf4 => cursor.array::<8>().map(integer),
        _ => None,
    }
}

/// The length of the element that began at `start` follows, to be read backwards, seven bits a byte.
fn skip_back_length(cursor: &mut Cursor<'_>, start: usize) -> Option<()> {
    let len = cursor.at - start;
    // The borders are one less than seven bits a byte would allow, but for the first: so they are written.
    let groups = match len {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    for group in (0..groups).rev() {
        let part = len >> (7 * group) & 0x7f;
        let mark = if group + 1 == groups { 0 } else { 0x80 };
        if usize::from(cursor.byte()?) != part | mark {
            return None;
        }
    }
    Some(())
}

/// The integers of an intset, ascending.
pub(super) fn intset(bytes: &[u8]) -> Result<Vec<i64>, Wrong> {
    const WRONG: Wrong = "invalid intset";
    let mut cursor = Cursor { bytes, at: 0 };
    let width = cursor.u32().ok_or(WRONG)?;
    let count = cursor.u32().ok_or(WRONG)?;
    let size = u64::from(width) * u64::from(count);
    if ![2, 4, 8].contains(&width) || (bytes.len() as u64).checked_sub(8) != Some(size) {
        return Err("intset of another length than it says");
    }
    let mut integers = Vec::with_capacity(bytes.len() / 2);
    for _ in 0..count {
        let element = match width {
            2 => cursor.array::<2>().map(integer),
            4 => cursor.array::<4>().map(integer),
            _ => cursor.array::<8>().map(integer),
        };
        let Some(Text::Int(value)) = element else { return Err(WRONG) };
        if integers.last().is_some_and(|last| *last >= value) {
            return Err("intset whose integers do not ascend");
        }
        integers.push(value);
    }
    Ok(integers)
}

/// The fields and values of a zipmap (Redis 2.4 and before, still found in files of 2.6).
pub(super) fn zipmap(bytes: &[u8]) -> Result<Vec<Text<'_>>, Wrong> {
    const WRONG: Wrong = "invalid zipmap";
    let mut cursor = Cursor { bytes, at: 0 };
    let written = cursor.byte().ok_or(WRONG)?;
    let mut elements = Vec::new();
    while let Some(len) = zipmap_length(&mut cursor).ok_or(WRONG)? {
        elements.push(cursor.text(len).ok_or(WRONG)?);
        let len = zipmap_length(&mut cursor).flatten().ok_or(WRONG)?;
        let free = cursor.byte().ok_or(WRONG)?;
        elements.push(cursor.text(len).ok_or(WRONG)?);
        cursor.take(usize::from(free)).ok_or(WRONG)?;
    }
    let counted = written >= 254 || usize::from(written) * 2 == elements.len();
    if cursor.at != bytes.len() || !counted {
        return Err("zipmap that ends elsewhere than it says");
    }
    Ok(elements)
}

/// A length; inner `None` at the end of the zipmap.
fn zipmap_length(cursor: &mut Cursor<'_>) -> Option<Option<u32>> {
    Some(match cursor.byte()? {
        255 => None,
        254 => Some(cursor.u32()?),
        short => Some(u32::from(short)),
    })
}
