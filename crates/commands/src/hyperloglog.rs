//! HyperLogLogs: strings that estimate how many different elements were added. The bytes are those of
//! Redis: a header of 16 bytes (magic, encoding, cached count), then 16,384 registers of 6 bits, or
//! runs of equal registers while most are zero. Any client may write any bytes into such a string, so
//! everything is checked on every way in. Knows nothing of keys beyond its commands.

use larder_store::{EventClass, Text};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::table::{Command, Flags, Group, KeySpec};

/// Registers.
const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash that are left to count zeros in.
const COUNTED_BITS: u32 = 64 - INDEX_BITS;
const HEADER: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// A dense string: six bits a register.
const DENSE_LEN: usize = HEADER + REGISTERS * 6 / 8;
/// The largest value that a sparse run can carry.
const SPARSE_VALUE_MAX: u8 = 32;
const SEED: u64 = 0xadc8_3b19;

const NOT_VALID: Fault = Fault::text("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPTED: Fault = Fault::text("INVALIDOBJ Corrupted HLL object detected");

/// The HyperLogLog commands.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "pfadd",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST),
        keys: &[KeySpec::one(1, "RW insert")],
        since: "2.8.9",
        complexity: "O(1) an element",
        summary: "Adds elements to a HyperLogLog and tells whether its registers changed.",
        usage: "key [element [element ...]]",
        ..Command::data(Group::HyperLogLog, pfadd)
    },
    Command {
        name: "pfcount",
        arity: -2,
        flags: Flags::READONLY.or(Flags::MAY_REPLICATE),
        keys: &[KeySpec::range(1, -1, 1, "RW access")],
        since: "2.8.9",
        complexity: "O(1) for one key, O(N) for the union of N keys",
        summary: "Estimates how many different elements one or several HyperLogLogs have seen.",
        usage: "key [key ...]",
        ..Command::data(Group::HyperLogLog, pfcount)
    },
    Command {
        name: "pfdebug",
        arity: 3,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::ADMIN),
        keys: &[KeySpec::one(2, "RW access")],
        since: "2.8.9",
        complexity: "O(1), the number of registers being fixed",
        summary: "Looks into the bytes of a HyperLogLog, for developers.",
        usage: "<GETREG | DECODE | ENCODING | TODENSE> key",
        ..Command::data(Group::HyperLogLog, pfdebug)
    },
    Command {
        name: "pfmerge",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: &[KeySpec::one(1, "RW access insert"), KeySpec::range(2, -1, 1, "RO access")],
        since: "2.8.9",
        complexity: "O(N) where N is the number of keys",
        summary: "Merges HyperLogLogs into one that has seen what each of them has.",
        usage: "destkey [sourcekey [sourcekey ...]]",
        ..Command::data(Group::HyperLogLog, pfmerge)
    },
    Command {
        name: "pfselftest",
        arity: 1,
        flags: Flags::ADMIN,
        since: "2.8.9",
        complexity: "O(1), though a large one",
        summary: "Checks registers, encodings and estimates against each other.",
        ..Command::data(Group::HyperLogLog, pfselftest)
    },
];

// ---- hashing ----

/// MurmurHash64A, whose results the registers of every existing HyperLogLog depend on.
fn murmur(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |word: u64| {
        let word = word.wrapping_mul(M);
        (word ^ (word >> 47)).wrapping_mul(M)
    };
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut hash = SEED ^ len.wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ mix(u64::from_le_bytes(*word))).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0u64, |tail, byte| tail << 8 | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 47)).wrapping_mul(M);
    hash ^ (hash >> 47)
}

/// The register of an element, and the value that it would raise the register to.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur(element);
    let index = usize::try_from(hash & ((1 << INDEX_BITS) - 1)).unwrap_or(0);
    // The bit set above the counted ones bounds the run of zeros.
    let rest = hash >> INDEX_BITS | 1 << COUNTED_BITS;
    (index, u8::try_from(rest.trailing_zeros() + 1).unwrap_or(u8::MAX))
}

// ---- registers ----

/// All registers, a byte each.
struct Registers(Box<[u8; REGISTERS]>);

impl Registers {
    fn new() -> Registers {
        Registers(Box::new([0; REGISTERS]))
    }

    /// Raises one register; true if that changed it.
    fn raise(&mut self, index: usize, value: u8) -> bool {
        match self.0.get_mut(index) {
            Some(register) if *register < value => {
                *register = value;
                true
            }
            _ => false,
        }
    }

    /// Raises each register to the other's.
    fn merge(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        visit(bytes, |index, run, value| {
            if value > 0 {
                (index..index + run).for_each(|at| {
                    self.raise(at, value);
                });
            }
        })
    }

    fn estimate(&self) -> u64 {
        let mut histogram = [0u32; 64];
        for register in self.0.iter() {
            if let Some(bar) = histogram.get_mut(usize::from(*register & 63)) {
                *bar += 1;
            }
        }
        estimate(&histogram)
    }

    fn dense(&self) -> Vec<u8> {
        let mut out = header(DENSE);
        for four in self.0.as_chunks::<4>().0 {
            let bits =
                four.iter().rev().fold(0u32, |bits, value| bits << 6 | u32::from(value & 63));
            let [a, b, c, _] = bits.to_le_bytes();
            out.extend_from_slice(&[a, b, c]);
        }
        out
    }

    /// The sparse form; `None` if a value does not fit into one.
    fn sparse(&self) -> Option<Vec<u8>> {
        let mut out = header(SPARSE);
        for run in self.0.chunk_by(|a, b| a == b) {
            let value = run.first().copied().unwrap_or(0);
            if value > SPARSE_VALUE_MAX {
                return None;
            }
            push_run(&mut out, run.len(), value);
        }
        Some(out)
    }

    /// The sparse form while it is small enough, else the dense one.
    fn encode(&self, sparse_max: usize) -> Vec<u8> {
        match self.sparse() {
            Some(text) if text.len() <= sparse_max => text,
            _ => self.dense(),
        }
    }
}

/// A header whose cached count is not valid.
fn header(encoding: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[encoding, 0, 0, 0]);
    out.extend_from_slice(&(1u64 << 63).to_le_bytes());
    out
}

/// Appends a run of equal registers: `00llllll` zeros, `01llllll llllllll` many zeros, `1vvvvvll`.
fn push_run(out: &mut Vec<u8>, len: usize, value: u8) {
    let low = |n: usize| u8::try_from(n & 0xff).unwrap_or(0);
    if value > 0 {
        let mut left = len;
        while left > 0 {
            let now = left.min(4);
            out.push(0x80 | (value - 1) << 2 | low(now - 1));
            left -= now;
        }
    } else if len > 64 {
        let len = len.min(REGISTERS) - 1;
        out.extend_from_slice(&[0x40 | low(len >> 8), low(len)]);
    } else {
        out.push(low(len - 1));
    }
}

/// One sparse run at a position of `bytes`: registers, value, bytes taken.
fn run_at(bytes: &[u8], at: usize) -> Option<(usize, u8, usize)> {
    let first = *bytes.get(at)?;
    Some(match first {
        0x00..=0x3f => (usize::from(first) + 1, 0, 1),
        0x40..=0x7f => {
            let second = *bytes.get(at + 1)?;
            ((usize::from(first & 0x3f) << 8 | usize::from(second)) + 1, 0, 2)
        }
        _ => (usize::from(first & 3) + 1, (first >> 2 & 0x1f) + 1, 1),
    })
}

/// The dense register at an index.
fn dense_at(bytes: &[u8], index: usize) -> u8 {
    let bit = index * 6;
    let at = HEADER + bit / 8;
    let low = bytes.get(at).copied().unwrap_or(0);
    let high = bytes.get(at + 1).copied().unwrap_or(0);
    let [value, _] = (u16::from_le_bytes([low, high]) >> (bit % 8) & 63).to_le_bytes();
    value
}

fn set_dense(bytes: &mut [u8], index: usize, value: u8) {
    let bit = index * 6;
    let at = HEADER + bit / 8;
    let shift = bit % 8;
    let (mask, value) = (63u16 << shift, u16::from(value & 63) << shift);
    let pairs = mask.to_le_bytes().into_iter().zip(value.to_le_bytes());
    for (byte, (mask, value)) in bytes.iter_mut().skip(at).zip(pairs) {
        *byte = *byte & !mask | value;
    }
}

/// Calls `each` with first register, number and value of every run of equal registers.
fn visit(bytes: &[u8], mut each: impl FnMut(usize, usize, u8)) -> Result<(), Fault> {
    if bytes.get(4) == Some(&DENSE) {
        (0..REGISTERS).for_each(|index| each(index, 1, dense_at(bytes, index)));
        return Ok(());
    }
    let (mut at, mut index) = (HEADER, 0usize);
    while at < bytes.len() {
        let (run, value, taken) = run_at(bytes, at).ok_or(CORRUPTED)?;
        if index + run > REGISTERS {
            return Err(CORRUPTED);
        }
        each(index, run, value);
        index += run;
        at += taken;
    }
    if index == REGISTERS { Ok(()) } else { Err(CORRUPTED) }
}

/// The sparse register at an index.
fn sparse_at(bytes: &[u8], index: usize) -> Result<u8, Fault> {
    let (mut at, mut end) = (HEADER, 0usize);
    loop {
        let (run, value, taken) = run_at(bytes, at).ok_or(CORRUPTED)?;
        end += run;
        at += taken;
        if index < end {
            return Ok(value);
        }
    }
}

/// Otmar Ertl's estimator over the histogram of register values.
fn estimate(histogram: &[u32; 64]) -> u64 {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let registers = f64::from(1u32 << INDEX_BITS);
    let bar = |at: u32| {
        let at = usize::try_from(at).unwrap_or(0);
        f64::from(histogram.get(at).copied().unwrap_or(0))
    };
    let mut z = registers * tau((registers - bar(COUNTED_BITS + 1)) / registers);
    for at in (1..=COUNTED_BITS).rev() {
        z = (z + bar(at)) * 0.5;
    }
    z += registers * sigma(bar(0) / registers);
    let count = (ALPHA * registers * registers / z).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float to integer cast saturates; the estimate is never negative"
    )]
    let count = count as u64;
    count
}

fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

// ---- strings ----

/// Refuses strings that are no HyperLogLog.
fn check(bytes: &[u8]) -> Result<&[u8], Fault> {
    let fits = bytes.len() >= HEADER
        && bytes.starts_with(MAGIC)
        && match bytes.get(4) {
            Some(&DENSE) => bytes.len() == DENSE_LEN,
            Some(&SPARSE) => true,
            _ => false,
        };
    if fits { Ok(bytes) } else { Err(NOT_VALID) }
}

/// The checked bytes of a key.
fn find<'a>(ctx: &'a mut Context<'_>, key: &[u8]) -> Result<Option<&'a [u8]>, Fault> {
    let Some(record) = ctx.keys.record(key) else { return Ok(None) };
    match record.text_value().ok_or(Fault::WRONG_TYPE)? {
        Text::Int(_) => Err(NOT_VALID),
        Text::Bytes(bytes) => check(bytes).map(Some),
    }
}

/// Marks the cached count as not valid.
fn forget_count(bytes: &mut [u8]) {
    if let Some(byte) = bytes.get_mut(HEADER - 1) {
        *byte |= 0x80;
    }
}

/// The cached count, if valid.
fn cached(bytes: &[u8]) -> Option<u64> {
    let count = u64::from_le_bytes(*bytes.get(8..HEADER)?.as_array::<8>()?);
    (count >> 63 == 0).then_some(count)
}

/// Puts a new form in the place of an old one. The old count stays to be seen, though it is not valid.
fn replace(text: &mut Vec<u8>, mut new: Vec<u8>) {
    let counts = |bytes: &[u8]| bytes.get(8..HEADER).map(<[u8]>::to_vec);
    if let (Some(old), Some(place)) = (counts(text), new.get_mut(8..HEADER)) {
        place.copy_from_slice(&old);
    }
    forget_count(&mut new);
    *text = new;
}

/// Adds elements to checked bytes; true if a register changed.
fn add(text: &mut Vec<u8>, elements: &[&[u8]], sparse_max: usize) -> Result<bool, Fault> {
    let mut changed = false;
    // Decoded when the first element changes something, and written back at the end.
    let mut registers: Option<Registers> = None;
    for element in elements {
        let (index, value) = place(element);
        if let Some(registers) = &mut registers {
            registers.raise(index, value);
        } else if text.get(4) == Some(&DENSE) {
            if dense_at(text, index) < value {
                set_dense(text, index, value);
                changed = true;
            }
        } else if sparse_at(text, index)? < value {
            let mut all = Registers::new();
            all.merge(text)?;
            all.raise(index, value);
            registers = Some(all);
            changed = true;
        }
    }
    if let Some(registers) = registers {
        replace(text, registers.encode(sparse_max));
    }
    if changed {
        forget_count(text);
    }
    Ok(changed)
}

fn pfadd(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let created = find(ctx, key)?.is_none();
    let sparse_max = ctx.settings.hll_sparse_max;
    let changed = ctx.keys.edit_string(key, |text| {
        if created {
            *text = header(SPARSE);
            push_run(text, REGISTERS, 0);
        }
        add(text, args.from(2), sparse_max)
    })??;
    let changed = changed || created;
    if changed {
        ctx.keys.signal(key, EventClass::String, "pfadd");
    }
    ctx.reply.integer(i64::from(changed));
    Ok(Outcome::Done)
}

fn pfcount(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let mut registers = Registers::new();
    let key = args.at(1);
    if args.len() > 2 {
        for key in args.from(1) {
            ctx.keys.read_kind(key);
            if let Some(bytes) = find(ctx, key)? {
                registers.merge(bytes)?;
            }
        }
        ctx.reply.integer(i64::try_from(registers.estimate()).unwrap_or(i64::MAX));
        return Ok(Outcome::Done);
    }
    ctx.keys.read_kind(key);
    let Some(bytes) = find(ctx, key)? else {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let count = match cached(bytes) {
        Some(count) => count,
        None => {
            registers.merge(bytes)?;
            let count = registers.estimate();
            ctx.keys.edit_string(key, |text| {
                if let Some(cache) = text.get_mut(8..HEADER) {
                    cache.copy_from_slice(&count.to_le_bytes());
                }
            })?;
            ctx.keys.modified(key);
            count
        }
    };
    ctx.reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(Outcome::Done)
}

fn pfmerge(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let target = args.at(1);
    let mut registers = Registers::new();
    let mut dense = false;
    for key in args.from(1) {
        ctx.keys.read_kind(key);
        if let Some(bytes) = find(ctx, key)? {
            dense = dense || bytes.get(4) == Some(&DENSE);
            registers.merge(bytes)?;
        }
    }
    let sparse_max = ctx.settings.hll_sparse_max;
    let text = if dense { registers.dense() } else { registers.encode(sparse_max) };
    ctx.keys.edit_string(target, |old| replace(old, text))?;
    ctx.keys.signal(target, EventClass::String, "pfadd");
    ctx.reply.ok();
    Ok(Outcome::Done)
}

// ---- for developers ----

/// Makes a key's HyperLogLog dense; true if it was not.
fn to_dense(ctx: &mut Context<'_>, key: &[u8]) -> Result<bool, Fault> {
    let mut registers = Registers::new();
    let Some(bytes) = find(ctx, key)? else { return Ok(false) };
    if bytes.get(4) == Some(&DENSE) {
        return Ok(false);
    }
    registers.merge(bytes)?;
    ctx.keys.edit_string(key, |text| *text = registers.dense())?;
    ctx.keys.modified(key);
    Ok(true)
}

fn pfdebug(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(2);
    let Some(bytes) = find(ctx, key)? else {
        return Err(Fault::text("ERR The specified key does not exist"));
    };
    let sparse = bytes.get(4) == Some(&SPARSE);
    if args.is(1, "GETREG") {
        to_dense(ctx, key)?;
        let mut registers = Registers::new();
        if let Some(bytes) = find(ctx, key)? {
            registers.merge(bytes)?;
        }
        ctx.reply.array(REGISTERS);
        registers.0.iter().for_each(|register| ctx.reply.integer(i64::from(*register)));
    } else if args.is(1, "DECODE") {
        if !sparse {
            return Err(Fault::text("ERR HLL encoding is not sparse"));
        }
        let mut text = String::new();
        visit(bytes, |_, run, value| {
            let word = match (value, run) {
                (0, 65..) => format!("Z:{run} "),
                (0, _) => format!("z:{run} "),
                _ => format!("v:{value},{run} "),
            };
            text.push_str(&word);
        })?;
        ctx.reply.bulk(text.trim_end().as_bytes());
    } else if args.is(1, "ENCODING") {
        ctx.reply.simple(if sparse { "sparse" } else { "dense" });
    } else if args.is(1, "TODENSE") {
        let changed = to_dense(ctx, key)?;
        ctx.reply.integer(i64::from(changed));
    } else {
        let name = String::from_utf8_lossy(args.at(1)).into_owned();
        return Err(Fault::new(format!("ERR Unknown PFDEBUG subcommand '{name}'")));
    }
    Ok(Outcome::Done)
}

fn pfselftest(ctx: &mut Context<'_>, _: Args<'_>) -> Result<Outcome, Fault> {
    const FAILED: Fault = Fault::text("TESTFAILED registers, encodings or estimates disagree");
    let mut registers = Registers::new();
    let mut text = header(SPARSE);
    push_run(&mut text, REGISTERS, 0);
    let mut added = 0u32;
    while added < 20_000 {
        let element = ctx.rng.next_u64().to_le_bytes();
        let (index, value) = place(&element);
        registers.raise(index, value);
        add(&mut text, &[&element], ctx.settings.hll_sparse_max)?;
        added += 1;
        if added.is_power_of_two() {
            let mut decoded = Registers::new();
            decoded.merge(&text)?;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let estimate = registers.estimate() as f64;
            let error = (estimate - f64::from(added)).abs();
            // Seven times the standard error of 0.81 %, and some for small counts.
            if *decoded.0 != *registers.0 || error > 8.0 + 0.057 * f64::from(added) {
                return Err(FAILED);
            }
        }
    }
    ctx.reply.ok();
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn adding_counting_merging() {
        Bench::new().script(&[
            ("PFADD a 1 2 3", ":1"),
            ("PFADD a 1 2 3", ":0"),
            ("PFCOUNT a", ":3"),
            ("PFADD b", ":1"),
            ("PFADD b", ":0"),
            ("PFCOUNT b none", ":0"),
            ("PFADD b 3 4", ":1"),
            ("PFCOUNT a b", ":4"),
            ("PFMERGE c a b", "+OK"),
            ("PFCOUNT c", ":4"),
            ("PFDEBUG ENCODING c", "+sparse"),
            ("PFDEBUG TODENSE c", ":1"),
            ("PFCOUNT c", ":4"),
            ("PFSELFTEST", "+OK"),
            ("SET s x", "+OK"),
            ("PFADD s 1", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
            ("PFCOUNT s", "-WRONGTYPE Key is not a valid HyperLogLog string value."),
        ]);
    }

    #[test]
    fn dense_registers_round_trip() {
        let mut bytes = Registers::new().dense();
        assert_eq!(bytes.len(), DENSE_LEN);
        for index in 0..REGISTERS {
            set_dense(&mut bytes, index, u8::try_from(index % 52).unwrap());
        }
        for index in 0..REGISTERS {
            assert_eq!(usize::from(dense_at(&bytes, index)), index % 52);
        }
    }

    #[test]
    fn hostile_strings_are_refused() {
        let mut bench = Bench::new();
        let mut rng = larder_base::rng::Rng::new(5);
        for _ in 0..2000 {
            let mut text = header(SPARSE);
            for _ in 0..rng.below_usize(40) {
                text.push(rng.next_u64().to_le_bytes()[0]);
            }
            bench.raw(&[b"SET", b"h", &text]);
            for command in ["PFCOUNT h", "PFCOUNT h h", "PFADD h x y z", "PFMERGE g h"] {
                bench.run(command);
            }
            for command in ["PFDEBUG DECODE h", "PFDEBUG GETREG h"] {
                bench.run(command);
            }
        }
        bench.raw(&[b"SET", b"h", &header(SPARSE)]);
        assert_eq!(bench.run("PFCOUNT h"), "-INVALIDOBJ Corrupted HLL object detected");
    }
}
