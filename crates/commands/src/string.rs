//! Strings: whole values, counters and parts of values. LCS lies in its own file.
//! Knows nothing of bits and of HyperLogLogs, which are strings too.

use larder_base::number::LongDouble;
use larder_protocol::reply::Reply;
use larder_store::{Deadline, EventClass, Kind, Text};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::deadline::Clock;
use crate::fault::Fault;

const TOO_LONG: Fault = Fault::text("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

mod rows;

pub use rows::COMMANDS;

/// Answers a string value.
pub(crate) fn answer(reply: &mut Reply<'_>, text: Text<'_>) {
    match text {
        Text::Int(value) => reply.bulk_integer(value),
        Text::Bytes(bytes) => reply.bulk(bytes),
    }
}

/// Refuses a string of more bytes than the configuration allows.
pub(crate) fn check_length(ctx: &Context<'_>, bytes: Option<usize>) -> Result<usize, Fault> {
    bytes.filter(|bytes| *bytes <= ctx.settings.text_max).ok_or(TOO_LONG)
}

/// The kind of a key, for a write: neither counted nor touched.
fn is_string(ctx: &mut Context<'_>, key: &[u8]) -> Result<bool, Fault> {
    match ctx.keys.record(key).map(|record| record.kind()) {
        None => Ok(false),
        Some(Kind::String) => Ok(true),
        Some(_) => Err(Fault::WRONG_TYPE),
    }
}

/// Answers the string at a key or null; false if there is none.
fn answer_old(ctx: &mut Context<'_>, key: &[u8]) -> Result<bool, Fault> {
    match ctx.keys.read_string(key)? {
        Some(text) => {
            answer(&mut ctx.reply, text);
            Ok(true)
        }
        None => {
            ctx.reply.null();
            Ok(false)
        }
    }
}

// ---- whole values ----

fn get(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer_old(ctx, args.at(1))?;
    Ok(Outcome::Done)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition<'a> {
    Always,
    Absent,
    Present,
    Equal(&'a [u8]),
}

struct SetOptions<'a> {
    condition: Condition<'a>,
    get: bool,
    keep: bool,
    expiry: Option<(Clock, usize)>,
}

/// Reads what may follow the values of SET (`whole`) and MSETEX.
fn set_options<'a>(args: Args<'a>, from: usize, whole: bool) -> Result<SetOptions<'a>, Fault> {
    let mut options =
        SetOptions { condition: Condition::Always, get: false, keep: false, expiry: None };
    let mut at = from;
    while at < args.len() {
        let condition = options.condition;
        if args.is(at, "NX") && matches!(condition, Condition::Always | Condition::Absent) {
            options.condition = Condition::Absent;
        } else if args.is(at, "XX") && matches!(condition, Condition::Always | Condition::Present) {
            options.condition = Condition::Present;
        } else if whole && args.is(at, "GET") {
            options.get = true;
        } else if whole
            && args.is(at, "IFEQ")
            && matches!(condition, Condition::Always | Condition::Equal(_))
            && let Some(value) = args.get(at + 1)
        {
            options.condition = Condition::Equal(value);
            at += 1;
        } else if args.is(at, "KEEPTTL") && options.expiry.is_none() {
            options.keep = true;
        } else if let Some(clock) = Clock::option(args, at)
            && !options.keep
            && options.expiry.is_none_or(|(known, _)| known == clock)
            && at + 1 < args.len()
        {
            options.expiry = Some((clock, at + 1));
            at += 1;
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 1;
    }
    Ok(options)
}

impl SetOptions<'_> {
    fn deadline(&self, ctx: &Context<'_>, args: Args<'_>, name: &str) -> Result<Deadline, Fault> {
        Ok(match self.expiry {
            Some((clock, at)) => Deadline::At(clock.positive(args, at, ctx.keys.now(), name)?),
            None if self.keep => Deadline::Keep,
            None => Deadline::None,
        })
    }
}

/// Writes the value and reports it.
fn store(ctx: &mut Context<'_>, key: &[u8], value: &[u8], deadline: Deadline) {
    ctx.keys.set_string(key, value, deadline);
    ctx.keys.signal(key, EventClass::String, "set");
    if let Deadline::At(when) = deadline {
        ctx.keys.notify(key, EventClass::Generic, "expire");
        if ctx.effects.are_wanted() {
            ctx.effects.instead(&[b"SET", key, value, b"PXAT", &number_text(when.get())]);
        }
    }
}

/// An integer as an argument.
fn number_text(value: i64) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn set(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (key, value) = (args.at(1), args.at(2));
    if args.len() == 3 {
        store(ctx, key, value, Deadline::None);
        ctx.reply.ok();
        return Ok(Outcome::Done);
    }
    let options = set_options(args, 3, true)?;
    let deadline = options.deadline(ctx, args, "set")?;
    if options.get {
        answer_old(ctx, key)?;
    }
    let holds = match options.condition {
        Condition::Always => true,
        Condition::Absent => !ctx.keys.contains(key),
        Condition::Present => ctx.keys.contains(key),
        Condition::Equal(wanted) => equals(ctx, key, wanted)?,
    };
    if holds {
        store(ctx, key, value, deadline);
        if options.get && options.expiry.is_none() {
            // Nobody reads the old value on a copy.
            let told = |at: &usize| *at < 3 || !args.is(*at, "GET");
            let words: Vec<&[u8]> = (0..args.len()).filter(told).map(|at| args.at(at)).collect();
            ctx.effects.instead(&words);
        }
    }
    match (options.get, holds) {
        (true, _) => {}
        (false, true) => ctx.reply.ok(),
        (false, false) => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

/// Whether the key holds exactly this string.
fn equals(ctx: &mut Context<'_>, key: &[u8], wanted: &[u8]) -> Result<bool, Fault> {
    let mut room = Vec::new();
    match ctx.keys.record(key) {
        None => Ok(false),
        Some(record) => {
            let text = record.text_value().ok_or(Fault::WRONG_TYPE)?;
            Ok(text.as_bytes(&mut room) == wanted)
        }
    }
}

fn setnx(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let absent = !ctx.keys.contains(args.at(1));
    if absent {
        store(ctx, args.at(1), args.at(2), Deadline::None);
    }
    ctx.reply.integer(i64::from(absent));
    Ok(Outcome::Done)
}

fn set_expiring(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    clock: Clock,
    name: &str,
) -> Result<Outcome, Fault> {
    let when = clock.positive(args, 2, ctx.keys.now(), name)?;
    store(ctx, args.at(1), args.at(3), Deadline::At(when));
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn setex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    set_expiring(ctx, args, Clock::Seconds, "setex")
}

fn psetex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    set_expiring(ctx, args, Clock::Millis, "psetex")
}

fn getset(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer_old(ctx, args.at(1))?;
    store(ctx, args.at(1), args.at(2), Deadline::None);
    ctx.effects.instead(&[b"SET", args.at(1), args.at(2)]);
    Ok(Outcome::Done)
}

fn getdel(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    if answer_old(ctx, key)? && ctx.keys.remove(key) {
        ctx.keys.signal(key, EventClass::Generic, "del");
        ctx.effects.instead(&[b"DEL", key]);
    }
    Ok(Outcome::Done)
}

fn getex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let mut persist = false;
    let mut expiry: Option<(Clock, usize)> = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "PERSIST") && expiry.is_none() {
            persist = true;
        } else if let Some(clock) = Clock::option(args, at)
            && !persist
            && expiry.is_none_or(|(known, _)| known == clock)
            && at + 1 < args.len()
        {
            at += 1;
            expiry = Some((clock, at));
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 1;
    }
    // Redis looks at the key before it reads the number: a missing key hides a bad number.
    if !answer_old(ctx, key)? {
        return Ok(Outcome::Done);
    }
    let now = ctx.keys.now();
    if let Some((clock, at)) = expiry {
        let when = clock.positive(args, at, now, "getex")?;
        if when <= ctx.keys.gone_by() {
            ctx.keys.remove(key);
            ctx.keys.signal(key, EventClass::Generic, "del");
            ctx.effects.instead(&[b"DEL", key]);
        } else {
            ctx.keys.set_deadline(key, Some(when));
            ctx.keys.signal(key, EventClass::Generic, "expire");
            ctx.effects.instead(&[b"PEXPIREAT", key, &number_text(when.get())]);
        }
    } else if persist && matches!(ctx.keys.deadline(key), Some(Some(_))) {
        ctx.keys.set_deadline(key, None);
        ctx.keys.signal(key, EventClass::Generic, "persist");
        ctx.effects.instead(&[b"PERSIST", key]);
    }
    Ok(Outcome::Done)
}

fn mget(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let keys = args.from(1);
    ctx.reply.array(keys.len());
    for key in keys {
        match ctx.keys.read_string(key) {
            Ok(Some(text)) => answer(&mut ctx.reply, text),
            Ok(None) | Err(_) => ctx.reply.null(),
        }
    }
    Ok(Outcome::Done)
}

/// Sets every pair of key and value.
fn store_pairs(ctx: &mut Context<'_>, pairs: &[&[u8]], deadline: Deadline) {
    for pair in pairs.chunks_exact(2) {
        if let [key, value] = pair {
            store(ctx, key, value, deadline);
        }
    }
}

fn any_exists(ctx: &mut Context<'_>, pairs: &[&[u8]]) -> bool {
    pairs.iter().step_by(2).any(|key| ctx.keys.contains(key))
}

fn mset(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    if args.len().is_multiple_of(2) {
        return Err(Fault::arity("mset"));
    }
    store_pairs(ctx, args.from(1), Deadline::None);
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn msetnx(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    if args.len().is_multiple_of(2) {
        return Err(Fault::arity("msetnx"));
    }
    let free = !any_exists(ctx, args.from(1));
    if free {
        store_pairs(ctx, args.from(1), Deadline::None);
    }
    ctx.reply.integer(i64::from(free));
    Ok(Outcome::Done)
}

fn msetex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let count = args
        .i64(1)
        .ok()
        .and_then(|count| i32::try_from(count).ok())
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(Fault::text("ERR invalid numkeys value"))?;
    let words = count.saturating_mul(2);
    if words > args.from(2).len() {
        return Err(Fault::text("ERR wrong number of key-value pairs"));
    }
    let pairs = args.span(2, words);
    let options = set_options(args, words.saturating_add(2), false)?;
    let deadline = options.deadline(ctx, args, "msetex")?;
    let holds = match options.condition {
        Condition::Absent => !any_exists(ctx, pairs),
        Condition::Present => pairs.iter().step_by(2).all(|key| ctx.keys.contains(key)),
        Condition::Always | Condition::Equal(_) => true,
    };
    if holds {
        store_pairs(ctx, pairs, deadline);
    }
    ctx.reply.integer(i64::from(holds));
    Ok(Outcome::Done)
}

fn delifeq(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let removed = equals(ctx, key, args.at(2))? && ctx.keys.remove(key);
    if removed {
        ctx.keys.signal(key, EventClass::Generic, "del");
        ctx.effects.instead(&[b"DEL", key]);
    }
    ctx.reply.integer(i64::from(removed));
    Ok(Outcome::Done)
}

// ---- counters ----

fn add(ctx: &mut Context<'_>, key: &[u8], increment: i64) -> Result<Outcome, Fault> {
    let old = match ctx.keys.record(key) {
        None => 0,
        Some(record) => {
            let text = record.text_value().ok_or(Fault::WRONG_TYPE)?;
            text.to_i64().ok_or(Fault::NOT_INTEGER)?
        }
    };
    let sum = old.checked_add(increment).ok_or(Fault::OVERFLOW)?;
    ctx.keys.set_integer(key, sum, Deadline::Keep);
    ctx.keys.signal(key, EventClass::String, "incrby");
    ctx.reply.integer(sum);
    Ok(Outcome::Done)
}

fn incr(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    add(ctx, args.at(1), 1)
}

fn decr(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    add(ctx, args.at(1), -1)
}

fn incrby(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    add(ctx, args.at(1), args.i64(2)?)
}

fn decrby(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let negated = args.i64(2)?.checked_neg();
    add(ctx, args.at(1), negated.ok_or(Fault::text("ERR decrement would overflow"))?)
}

fn incrbyfloat(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let old = match ctx.keys.record(key) {
        None => LongDouble::ZERO,
        Some(record) => match record.text_value().ok_or(Fault::WRONG_TYPE)? {
            Text::Int(value) => LongDouble::from_i64(value),
            Text::Bytes(bytes) => LongDouble::parse(bytes).ok_or(Fault::NOT_FLOAT)?,
        },
    };
    let sum = old.add(LongDouble::parse(args.at(2)).ok_or(Fault::NOT_FLOAT)?);
    if sum.is_nan() || sum.is_infinite() {
        return Err(Fault::text("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.to_text();
    ctx.keys.set_text(key, &text, Deadline::Keep, false);
    ctx.keys.signal(key, EventClass::String, "incrbyfloat");
    ctx.effects.instead(&[b"SET", key, &text, b"KEEPTTL"]);
    ctx.reply.bulk(&text);
    Ok(Outcome::Done)
}

// ---- parts ----

fn append(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (key, value) = (args.at(1), args.at(2));
    let len = if is_string(ctx, key)? {
        let old = text_len(ctx, key);
        check_length(ctx, old.checked_add(value.len()))?;
        ctx.keys.edit_string(key, |text| {
            text.extend_from_slice(value);
            text.len()
        })?
    } else {
        ctx.keys.set_string(key, value, Deadline::None);
        value.len()
    };
    ctx.keys.signal(key, EventClass::String, "append");
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

fn text_len(ctx: &mut Context<'_>, key: &[u8]) -> usize {
    ctx.keys.record(key).and_then(|record| record.text_value()).map_or(0, Text::len)
}

fn strlen(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let len = ctx.keys.read_string(args.at(1))?.map_or(0, Text::len);
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

fn setrange(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (key, value) = (args.at(1), args.at(3));
    let offset =
        usize::try_from(args.i64(2)?).map_err(|_| Fault::text("ERR offset is out of range"))?;
    is_string(ctx, key)?;
    if value.is_empty() {
        let len = text_len(ctx, key);
        ctx.reply.count(len);
        return Ok(Outcome::Done);
    }
    let end = check_length(ctx, offset.checked_add(value.len()))?;
    let len = ctx.keys.edit_string(key, |text| {
        if text.len() < end {
            text.resize(end, 0);
        }
        if let Some(part) = text.get_mut(offset..end) {
            part.copy_from_slice(value);
        }
        text.len()
    })?;
    ctx.keys.signal(key, EventClass::String, "setrange");
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

/// The bytes from `start` to `end`, both included and counted from the end if negative.
pub(crate) fn span(len: usize, start: i64, end: i64) -> std::ops::Range<usize> {
    let total = i64::try_from(len).unwrap_or(i64::MAX);
    if total == 0 || (start < 0 && end < 0 && start > end) {
        return 0..0;
    }
    let place = |at: i64| if at < 0 { at.saturating_add(total).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(total - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => start..end + 1,
        _ => 0..0,
    }
}

fn getrange(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (start, end) = (args.i64(2)?, args.i64(3)?);
    let mut room = Vec::new();
    let text = ctx.keys.read_string(args.at(1))?.unwrap_or(Text::Bytes(b""));
    let bytes = text.as_bytes(&mut room);
    ctx.reply.bulk(bytes.get(span(bytes.len(), start, end)).unwrap_or_default());
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn set_and_its_options() {
        let mut bench = Bench::new();
        bench.script(&[
            ("SET a 1", "+OK"),
            ("SET a 2 NX", "$-1"),
            ("SET a 2 NX GET", "$1 1"),
            ("SET a 2 XX EX 10 GET", "$1 1"),
            ("GET a", "$1 2"),
            ("SET a 3 NX XX", "-ERR syntax error"),
            ("SET a 3 EX 1 PX 1", "-ERR syntax error"),
            ("SET a 3 KEEPTTL EX 1", "-ERR syntax error"),
            ("SET a 3 EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET a 3 EX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
            ("SET a 3 PX 9223372036854775807", "-ERR invalid expire time in 'set' command"),
            ("SET a 3 EX x", "-ERR value is not an integer or out of range"),
            ("SET a 3 IFEQ 1", "$-1"),
            ("SET a 3 IFEQ 2", "+OK"),
            ("SET b 3 IFEQ 2", "$-1"),
            ("SET a 3 EXAT 1", "+OK"),
            ("GET a", "$-1"),
        ]);
        assert_eq!(bench.run("SET a 1 PX 100"), "+OK");
        assert_eq!(bench.events, ["set", "expire"]);
        bench.now.0 += 99;
        assert_eq!(bench.run("GET a"), "$1 1");
        bench.now.0 += 1;
        assert_eq!(bench.run("GET a"), "$-1");
    }

    #[test]
    fn counters() {
        Bench::new().script(&[
            ("INCR n", ":1"),
            ("DECRBY n 3", ":-2"),
            ("INCRBY n 9223372036854775807", ":9223372036854775805"),
            ("INCRBY n 3", "-ERR increment or decrement would overflow"),
            ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
            ("SET s x", "+OK"),
            ("INCR s", "-ERR value is not an integer or out of range"),
            ("INCRBYFLOAT s 1", "-ERR value is not a valid float"),
            ("INCRBYFLOAT f 5.1", "$3 5.1"),
            ("INCRBYFLOAT f 0.1", "$3 5.2"),
            ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity"),
        ]);
    }

    #[test]
    fn parts() {
        let mut bench = Bench::new();
        bench.script(&[
            ("APPEND a 12", ":2"),
            ("APPEND a 34", ":4"),
            ("GETRANGE a 0 -1", "$4 1234"),
            ("GETRANGE a -3 -2", "$2 23"),
            ("GETRANGE a 3 1", "$0"),
            ("GETRANGE a -1 -9223372036854775808", "$0"),
            ("GETRANGE none 0 -1", "$0"),
            ("SETRANGE a 1 xx", ":4"),
            ("SETRANGE a 6 y", ":7"),
            ("STRLEN a", ":7"),
            ("SETRANGE a -1 y", "-ERR offset is out of range"),
            ("SETRANGE none 5 ", ":0"),
            ("GET none", "$-1"),
        ]);
        let text = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        assert_eq!(bench.run("SETRANGE a 9223372036854775807 y"), text);
        assert_eq!(bench.run("SETRANGE a 536870912 y"), text);
    }

    #[test]
    fn several_keys() {
        Bench::new().script(&[
            ("MSET a 1 b 2", "+OK"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MGET a b c", "*3 $1 1 $1 2 $-1"),
            ("MSETNX c 1 a 2", ":0"),
            ("MSETNX c 1 d 2", ":1"),
            ("MSETEX 2 a 5 b 6 XX EX 10", ":1"),
            ("MSETEX 2 a 5 e 6 XX", ":0"),
            ("MSETEX 9 a 5", "-ERR wrong number of key-value pairs"),
            ("MSETEX 0 a 5", "-ERR invalid numkeys value"),
            ("DELIFEQ a 4", ":0"),
            ("DELIFEQ a 5", ":1"),
            ("GETDEL b", "$1 6"),
            ("GETDEL b", "$-1"),
            ("GETSET c 9", "$1 1"),
            ("GETEX c EX 0", "-ERR invalid expire time in 'getex' command"),
            ("GETEX c EXAT 1", "$1 9"),
            ("GET c", "$-1"),
        ]);
    }
}
