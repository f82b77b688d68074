//! BITFIELD: integers of any width within a string, read, written and counted up.

use larder_store::{EventClass, Text};

use crate::args::Args;
use crate::bitmap::{byte_of, expect_string, offset};
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::string::check_length;
use crate::table::{Command, Flags, Group, KeySpec};

/// BITFIELD and its read-only form.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "bitfield",
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: &[KeySpec::one(1, "RW access update variable_flags")],
        since: "3.2.0",
        complexity: "O(1) an operation",
        summary: "Reads, writes and counts up integers of any width within a string.",
        usage: "key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset \
                value | INCRBY encoding offset increment>> [<GET encoding offset | [OVERFLOW <WRAP | \
                SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment>> ...]]",
        ..Command::data(Group::Bitmap, bitfield)
    },
    Command {
        name: "bitfield_ro",
        arity: -2,
        flags: Flags::READONLY.or(Flags::FAST),
        keys: &[KeySpec::one(1, "RO access")],
        since: "6.0.0",
        complexity: "O(1) an operation",
        summary: "Reads integers of any width within a string.",
        usage: "key [GET encoding offset [GET encoding offset ...]]",
        ..Command::data(Group::Bitmap, bitfield)
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
struct Field {
    signed: bool,
    /// Bits: 1 to 64 signed, to 63 unsigned.
    width: u32,
    /// First bit.
    at: u64,
}

#[derive(Clone, Copy)]
enum Operation {
    Get,
    Set(i64),
    Add(i64),
}

struct Step {
    field: Field,
    operation: Operation,
    overflow: Overflow,
}

impl Field {
    fn parse(ctx: &Context<'_>, kind: &[u8], at: &[u8]) -> Result<Field, Fault> {
        const BAD: Fault = Fault::text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported \
             but i64 is.",
        );
        let (signed, digits) = match kind {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(BAD),
        };
        let width = larder_base::number::parse_i64(digits)
            .and_then(|width| u32::try_from(width).ok())
            .filter(|width| (1..=if signed { 64 } else { 63 }).contains(width))
            .ok_or(BAD)?;
        Ok(Field { signed, width, at: offset(ctx, at, Some(u64::from(width)))? })
    }

    /// First byte after the field.
    fn end(self) -> usize {
        byte_of(self.at.saturating_add(u64::from(self.width) + 7))
    }

    fn bounds(self) -> (i128, i128) {
        if self.signed {
            (-(1i128 << (self.width - 1)), (1i128 << (self.width - 1)) - 1)
        } else {
            (0, (1i128 << self.width) - 1)
        }
    }

    fn read(self, bytes: &[u8]) -> i128 {
        let mut value = 0i128;
        for bit in self.at..self.at + u64::from(self.width) {
            let byte = bytes.get(byte_of(bit)).copied().unwrap_or(0);
            value = value << 1 | i128::from(byte >> (7 - bit % 8) & 1);
        }
        self.wrapped(value)
    }

    /// Writes the low bits of `value`; the bytes are there.
    fn write(self, bytes: &mut [u8], value: i128) {
        let mut value = value;
        for bit in (self.at..self.at + u64::from(self.width)).rev() {
            if let Some(byte) = bytes.get_mut(byte_of(bit)) {
                let mask = 0x80 >> (bit % 8);
                *byte = if value & 1 == 1 { *byte | mask } else { *byte & !mask };
            }
            value >>= 1;
        }
    }

    fn wrapped(self, value: i128) -> i128 {
        let low = value & ((1i128 << self.width) - 1);
        let (_, max) = self.bounds();
        if low > max { low - (1i128 << self.width) } else { low }
    }

    /// The value as it will be stored; `None` if that is refused.
    fn fitted(self, value: i128, overflow: Overflow) -> Option<i128> {
        let (min, max) = self.bounds();
        match overflow {
            _ if (min..=max).contains(&value) => Some(value),
            Overflow::Wrap => Some(self.wrapped(value)),
            Overflow::Saturate => Some(value.clamp(min, max)),
            Overflow::Fail => None,
        }
    }
}

fn parse(ctx: &Context<'_>, args: Args<'_>) -> Result<Vec<Step>, Fault> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.is(at, "OVERFLOW") && left >= 1 {
            overflow = match () {
                () if args.is(at + 1, "WRAP") => Overflow::Wrap,
                () if args.is(at + 1, "SAT") => Overflow::Saturate,
                () if args.is(at + 1, "FAIL") => Overflow::Fail,
                () => return Err(Fault::text("ERR Invalid OVERFLOW type specified")),
            };
            at += 2;
            continue;
        }
        let is_get = args.is(at, "GET") && left >= 2;
        let is_set = args.is(at, "SET") && left >= 3;
        let is_add = args.is(at, "INCRBY") && left >= 3;
        if !is_get && !is_set && !is_add {
            return Err(Fault::SYNTAX);
        }
        let field = Field::parse(ctx, args.at(at + 1), args.at(at + 2))?;
        let operation = match () {
            () if is_get => Operation::Get,
            () if is_set => Operation::Set(args.i64(at + 3)?),
            () => Operation::Add(args.i64(at + 3)?),
        };
        at += if is_get { 3 } else { 4 };
        steps.push(Step { field, operation, overflow });
    }
    Ok(steps)
}

/// What one step answers, and what it writes.
fn run(step: &Step, bytes: &[u8]) -> (Option<i128>, Option<i128>) {
    let old = step.field.read(bytes);
    match step.operation {
        Operation::Get => (Some(old), None),
        Operation::Set(value) => {
            // A value beyond the field is an overflow too; unsigned fields see its bits.
            let wanted = if step.field.signed || value >= 0 {
                i128::from(value)
            } else {
                i128::from(value.cast_unsigned())
            };
            let new = step.field.fitted(wanted, step.overflow);
            (new.map(|_| old), new)
        }
        Operation::Add(value) => {
            let new = step.field.fitted(old + i128::from(value), step.overflow);
            (new, new)
        }
    }
}

fn answer(ctx: &mut Context<'_>, value: Option<i128>) {
    match value.and_then(|value| i64::try_from(value).ok()) {
        Some(value) => ctx.reply.integer(value),
        None => ctx.reply.null(),
    }
}

fn bitfield(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let steps = parse(ctx, args)?;
    let is_write = |step: &&Step| !matches!(step.operation, Operation::Get);
    let end = steps.iter().filter(is_write).map(|step| step.field.end()).max();
    let Some(end) = end else {
        let mut room = Vec::new();
        let text = ctx.keys.read_string(key)?.unwrap_or(Text::Bytes(b""));
        let bytes = text.as_bytes(&mut room);
        ctx.reply.array(steps.len());
        let answers: Vec<_> = steps.iter().map(|step| run(step, bytes).0).collect();
        answers.into_iter().for_each(|value| answer(ctx, value));
        return Ok(Outcome::Done);
    };
    if args.is(0, "BITFIELD_RO") {
        return Err(Fault::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    expect_string(ctx, key)?;
    check_length(ctx, Some(end))?;
    let (answers, grown, written) = ctx.keys.edit_string(key, |text| {
        let grown = text.len() < end;
        if grown {
            text.resize(end, 0);
        }
        let mut written = false;
        let mut answers = Vec::with_capacity(steps.len());
        for step in &steps {
            let (value, new) = run(step, text);
            if let Some(new) = new {
                // What was there already is no change, for watchers either.
                written |= grown || step.field.read(text) != new;
                step.field.write(text, new);
            }
            answers.push(value);
        }
        (answers, grown, written)
    })?;
    if written {
        ctx.keys.signal(key, EventClass::String, "setbit");
    } else if grown {
        // All overflowed, but the text is longer by now: copies must hear of it, though watchers do not. (Redis
        // forgets them.)
        ctx.effects.instead(args.all());
    }
    ctx.reply.array(answers.len());
    answers.into_iter().for_each(|value| answer(ctx, value));
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn fields() {
        Bench::new().script(&[
            ("BITFIELD a SET u8 0 255 GET i8 0", "*2 :0 :-1"),
            ("BITFIELD a INCRBY u8 0 2", "*1 :1"),
            ("BITFIELD a OVERFLOW SAT INCRBY u2 #3 9", "*1 :3"),
            ("BITFIELD a OVERFLOW FAIL INCRBY u2 #3 1", "*1 $-1"),
            (
                "BITFIELD a SET i64 0 -1 GET i64 0 GET u63 1",
                "*3 :216172782113783808 :-1 :9223372036854775807",
            ),
            ("BITFIELD a OVERFLOW FAIL INCRBY i64 0 -9223372036854775808", "*1 $-1"),
            ("BITFIELD a INCRBY i64 0 -9223372036854775808", "*1 :9223372036854775807"),
            ("BITFIELD_RO a GET u4 0", "*1 :7"),
            ("BITFIELD_RO a SET u4 0 1", "-ERR BITFIELD_RO only supports the GET subcommand"),
            ("BITFIELD a GET u4", "-ERR syntax error"),
            ("BITFIELD a OVERFLOW X", "-ERR Invalid OVERFLOW type specified"),
            ("BITFIELD a GET u4 -1", "-ERR bit offset is not an integer or out of range"),
            ("BITFIELD none GET u4 0", "*1 :0"),
            ("EXISTS none", ":0"),
        ]);
    }
}
