//! Strings as arrays of bits: single bits, counts, searches, operations between strings. Bit 0 is the
//! highest bit of the first byte. BITFIELD lies in its own file.

use larder_store::{Deadline, EventClass, Kind, Text};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::string::{check_length, span};
use crate::table::{Command, Flags, Group, KeySpec};

const GROW: Flags = Flags::WRITE.or(Flags::DENYOOM);
const ACCESS: &[KeySpec] = &[KeySpec::one(1, "RO access")];
const BAD_OFFSET: Fault = Fault::text("ERR bit offset is not an integer or out of range");

/// The commands on bits.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "bitcount",
        arity: -2,
        flags: Flags::READONLY,
        keys: ACCESS,
        since: "2.6.0",
        complexity: "O(N) where N is the number of bytes looked at",
        summary: "Counts the bits that are set in a string or a part of it.",
        usage: "key [start [end [BYTE | BIT]]]",
        ..Command::data(Group::Bitmap, bitcount)
    },
    Command {
        name: "bitop",
        arity: -4,
        flags: GROW,
        keys: &[KeySpec::one(2, "OW update"), KeySpec::range(3, -1, 1, "RO access")],
        since: "2.6.0",
        complexity: "O(N) where N is the length of the longest string",
        summary: "Combines strings bit by bit and stores the result.",
        usage: "<AND | OR | XOR | NOT> destkey key [key ...]",
        ..Command::data(Group::Bitmap, bitop)
    },
    Command {
        name: "bitpos",
        arity: -3,
        flags: Flags::READONLY,
        keys: ACCESS,
        since: "2.8.7",
        complexity: "O(N) where N is the number of bytes looked at",
        summary: "Finds the first bit that is set or not set.",
        usage: "key bit [start [end [BYTE | BIT]]]",
        ..Command::data(Group::Bitmap, bitpos)
    },
    Command {
        name: "getbit",
        arity: 3,
        flags: Flags::READONLY.or(Flags::FAST),
        keys: ACCESS,
        since: "2.2.0",
        summary: "Answers one bit of a string.",
        usage: "key offset",
        ..Command::data(Group::Bitmap, getbit)
    },
    Command {
        name: "setbit",
        arity: 4,
        flags: GROW,
        keys: &[KeySpec::one(1, "RW access update")],
        since: "2.2.0",
        summary: "Sets or clears one bit of a string and answers what it was.",
        usage: "key offset value",
        ..Command::data(Group::Bitmap, setbit)
    },
];

/// A bit offset whose byte lies within the longest string allowed. With `field` a leading `#`
/// multiplies by that many bits.
pub(crate) fn offset(ctx: &Context<'_>, text: &[u8], field: Option<u64>) -> Result<u64, Fault> {
    let (digits, factor) = match (text, field) {
        ([b'#', digits @ ..], Some(bits)) => (digits, bits),
        _ => (text, 1),
    };
    larder_base::number::parse_i64(digits)
        .and_then(|value| u64::try_from(value).ok())
        .and_then(|value| value.checked_mul(factor))
        .filter(|bit| usize::try_from(bit / 8).is_ok_and(|byte| byte < ctx.settings.text_max))
        .ok_or(BAD_OFFSET)
}

/// Refuses keys that hold no string, without counting a read.
pub(crate) fn expect_string(ctx: &mut Context<'_>, key: &[u8]) -> Result<(), Fault> {
    match ctx.keys.record(key).map(|record| record.kind()) {
        None | Some(Kind::String) => Ok(()),
        Some(_) => Err(Fault::WRONG_TYPE),
    }
}

/// Index of the byte that a bit lies in.
pub(crate) fn byte_of(bit: u64) -> usize {
    usize::try_from(bit / 8).unwrap_or(usize::MAX)
}

/// The mask of a bit within its byte.
fn mask(bit: u64) -> u8 {
    0x80 >> (bit % 8)
}

fn bit_at(bytes: &[u8], bit: u64) -> bool {
    bytes.get(byte_of(bit)).is_some_and(|byte| byte & mask(bit) != 0)
}

fn setbit(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let bit = offset(ctx, args.at(2), None)?;
    let on = match larder_base::number::parse_i64(args.at(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Fault::text("ERR bit is not an integer or out of range")),
    };
    expect_string(ctx, key)?;
    check_length(ctx, byte_of(bit).checked_add(1))?;
    let (old, grown) = ctx.keys.edit_string(key, |text| {
        let end = byte_of(bit) + 1;
        let grown = text.len() < end;
        if grown {
            text.resize(end, 0);
        }
        let old = bit_at(text, bit);
        if let Some(byte) = text.get_mut(byte_of(bit)) {
            *byte = if on { *byte | mask(bit) } else { *byte & !mask(bit) };
        }
        (old, grown)
    })?;
    // What changes nothing is told to nobody.
    if grown || old != on {
        ctx.keys.signal(key, EventClass::String, "setbit");
    }
    ctx.reply.integer(i64::from(old));
    Ok(Outcome::Done)
}

fn getbit(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let bit = offset(ctx, args.at(2), None)?;
    let mut room = Vec::new();
    let text = ctx.keys.read_string(args.at(1))?.unwrap_or(Text::Bytes(b""));
    ctx.reply.integer(i64::from(bit_at(text.as_bytes(&mut room), bit)));
    Ok(Outcome::Done)
}

/// Whether the word at a position, if there is one, counts in bits.
fn in_bits(args: Args<'_>, at: usize) -> Result<bool, Fault> {
    match args.get(at) {
        None => Ok(false),
        Some(_) if args.is(at, "BYTE") => Ok(false),
        Some(_) if args.is(at, "BIT") => Ok(true),
        Some(_) => Err(Fault::SYNTAX),
    }
}

/// The bits from `start` to `end` (both included; bytes or bits), as a half-open range of bits.
fn bit_range(len: usize, start: i64, end: i64, bits: bool) -> (u64, u64) {
    let total = if bits { len.saturating_mul(8) } else { len };
    let part = span(total, start, end);
    let scale = if bits { 1 } else { 8 };
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).saturating_mul(scale);
    (wide(part.start), wide(part.end))
}

/// Counts set bits between two bit positions.
fn count_ones(bytes: &[u8], from: u64, to: u64) -> u64 {
    let (first, last) = (byte_of(from), byte_of(to));
    let keep_low = |byte: u8| byte & (0xff_u8 >> (from % 8));
    let keep_high = |byte: u8| byte & !(0xff_u8 >> (to % 8));
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    if from >= to {
        return 0;
    }
    if first == last {
        return u64::from(keep_high(keep_low(at(first))).count_ones());
    }
    let middle = bytes.get(first + 1..last.min(bytes.len())).unwrap_or_default();
    let (words, rest) = middle.as_chunks::<8>();
    let inner: u64 = words.iter().map(|w| u64::from(u64::from_ne_bytes(*w).count_ones())).sum();
    let outer: u64 = rest.iter().map(|byte| u64::from(byte.count_ones())).sum();
    let ends = keep_low(at(first)).count_ones() + keep_high(at(last)).count_ones();
    inner + outer + u64::from(ends)
}

fn bitcount(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    // The range is read before the key is looked at only if it is there in full; a bad number of
    // arguments is told last, as Redis does.
    let (start, end, bits) = match args.len() {
        2 => (0, -1, false),
        3 => (args.i64(2)?, -1, false),
        4 | 5 => {
            let (start, end) = (args.i64(2)?, args.i64(3)?);
            (start, end, in_bits(args, 4)?)
        }
        _ => return Err(Fault::SYNTAX),
    };
    let mut room = Vec::new();
    let text = ctx.keys.read_string(args.at(1))?.unwrap_or(Text::Bytes(b""));
    let bytes = text.as_bytes(&mut room);
    let (from, to) = bit_range(bytes.len(), start, end, bits);
    ctx.reply.integer(i64::try_from(count_ones(bytes, from, to)).unwrap_or(i64::MAX));
    Ok(Outcome::Done)
}

/// Position of the first bit of this value between two bit positions.
fn find_bit(bytes: &[u8], wanted: bool, from: u64, to: u64) -> Option<u64> {
    let dull = if wanted { 0x00 } else { 0xff };
    let mut bit = from;
    while bit < to {
        if bit.is_multiple_of(8) {
            let rest = bytes.get(byte_of(bit)..byte_of(to)).unwrap_or_default();
            let skip = rest.iter().take_while(|byte| **byte == dull).count();
            bit = bit.saturating_add(u64::try_from(skip).unwrap_or(0).saturating_mul(8));
            if bit >= to {
                return None;
            }
        }
        if bit_at(bytes, bit) == wanted {
            return Some(bit);
        }
        bit += 1;
    }
    None
}

fn bitpos(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let wanted = match args.i64(2)? {
        0 => false,
        1 => true,
        _ => return Err(Fault::text("ERR The bit argument must be 1 or 0.")),
    };
    let (start, end, bits) = match args.len() {
        3 => (0, -1, false),
        4 => (args.i64(3)?, -1, false),
        5 | 6 => {
            let start = args.i64(3)?;
            let bits = in_bits(args, 5)?;
            (start, args.i64(4)?, bits)
        }
        _ => return Err(Fault::SYNTAX),
    };
    let mut room = Vec::new();
    let Some(text) = ctx.keys.read_string(args.at(1))? else {
        ctx.reply.integer(if wanted { -1 } else { 0 });
        return Ok(Outcome::Done);
    };
    let bytes = text.as_bytes(&mut room);
    // Unlike BITCOUNT, it moves an end before the first byte to the first byte.
    let total = bytes.len().saturating_mul(if bits { 8 } else { 1 });
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    let place = |at: i64| if at < 0 { at.saturating_add(total).max(0) } else { at };
    let (from, to) = bit_range(bytes.len(), place(start), place(end), bits);
    let found = find_bit(bytes, wanted, from, to);
    let answer = match found {
        Some(bit) => i64::try_from(bit).unwrap_or(i64::MAX),
        // Without an end, a string is thought to go on with zero bits.
        None if !wanted && from < to && args.len() < 5 => i64::try_from(to).unwrap_or(i64::MAX),
        None => -1,
    };
    ctx.reply.integer(answer);
    Ok(Outcome::Done)
}

fn bitop(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let combine: fn(u8, u8) -> u8 = match () {
        () if args.is(1, "AND") => |a, b| a & b,
        () if args.is(1, "OR") => |a, b| a | b,
        () if args.is(1, "XOR") => |a, b| a ^ b,
        () if args.is(1, "NOT") => |a, _| !a,
        () => return Err(Fault::SYNTAX),
    };
    let (target, sources) = (args.at(2), args.from(3));
    let not = args.is(1, "NOT");
    if not && sources.len() != 1 {
        return Err(Fault::text("ERR BITOP NOT must be called with a single source key."));
    }
    let mut longest = 0;
    for source in sources {
        longest = longest.max(ctx.keys.read_string(source)?.map_or(0, Text::len));
    }
    let mut result = Vec::with_capacity(longest);
    let mut room = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let text = ctx.keys.record(source).and_then(|record| record.text_value());
        let bytes = text.unwrap_or(Text::Bytes(b"")).as_bytes(&mut room);
        if index == 0 {
            result.extend_from_slice(bytes);
            result.resize(longest, 0);
        }
        if index > 0 || not {
            for (byte, other) in result.iter_mut().zip(bytes.iter().chain(std::iter::repeat(&0))) {
                *byte = combine(*byte, *other);
            }
        }
    }
    if result.is_empty() {
        if ctx.keys.remove(target) {
            ctx.keys.signal(target, EventClass::Generic, "del");
        }
    } else {
        ctx.keys.set_text(target, &result, Deadline::None, true);
        ctx.keys.signal(target, EventClass::String, "set");
    }
    ctx.reply.count(result.len());
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn single_bits() {
        Bench::new().script(&[
            ("SETBIT a 7 1", ":0"),
            ("SETBIT a 7 0", ":1"),
            ("SETBIT a 8 1", ":0"),
            ("GETBIT a 8", ":1"),
            ("GETBIT a 4000000000", ":0"),
            ("STRLEN a", ":2"),
            ("SETBIT a 4294967296 1", "-ERR bit offset is not an integer or out of range"),
            ("SETBIT a -1 1", "-ERR bit offset is not an integer or out of range"),
            ("SETBIT a 1 2", "-ERR bit is not an integer or out of range"),
        ]);
    }

    #[test]
    fn counts_and_positions() {
        Bench::new().script(&[
            ("SET a foobar", "+OK"),
            ("BITCOUNT a", ":26"),
            ("BITCOUNT a 0 0", ":4"),
            ("BITCOUNT a 1 1", ":6"),
            ("BITCOUNT a 1 -2", ":18"),
            ("BITCOUNT a 5 30 BIT", ":17"),
            ("BITCOUNT a 0 5 FOO", "-ERR syntax error"),
            ("BITCOUNT none", ":0"),
            ("BITPOS a 1", ":1"),
            ("BITPOS a 0", ":0"),
            ("BITPOS a 1 8 9 BIT", ":9"),
            ("BITPOS none 1", ":-1"),
            ("BITPOS none 0", ":0"),
            ("BITPOS a 2", "-ERR The bit argument must be 1 or 0."),
        ]);
        let mut bench = Bench::new();
        bench.raw(&[b"SET", b"a", b"\xff\xff"]);
        bench.script(&[("BITPOS a 0", ":16"), ("BITPOS a 0 0 -1", ":-1"), ("BITPOS a 0 5", ":-1")]);
    }

    #[test]
    fn operations() {
        let mut bench = Bench::new();
        bench.script(&[
            ("MSET a abc b a", "+OK"),
            ("BITOP AND c a b", ":3"),
            ("BITOP XOR c a a", ":3"),
            ("BITCOUNT c", ":0"),
            ("BITOP OR c none", ":0"),
            ("EXISTS c", ":0"),
            ("BITOP NOT c a", ":3"),
            ("BITCOUNT c", ":14"),
            ("BITOP NOT c a b", "-ERR BITOP NOT must be called with a single source key."),
        ]);
    }
}
