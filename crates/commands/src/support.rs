//! What several families of collection commands share: bounds of ranges, counts, time-outs of blocking
//! commands, rows of the table. Knows no data type.

use larder_base::number;
use larder_protocol::reply::Reply;
use larder_store::{Kind, Text};

use crate::args::Args;
use crate::context::{Context, Outcome, Wait};
use crate::fault::Fault;
use crate::table::{Command, Flags, Group, Handler, KeySpec};

/// The rows of one family: what all of them share is said once.
pub(crate) struct Family(pub Group);

impl Family {
    /// A row of the table; `words` are the arguments in the usual notation and what the command is for.
    #[expect(clippy::too_many_arguments, reason = "the columns of a table")]
    pub(crate) const fn row(
        self,
        name: &'static str,
        arity: i32,
        flags: Flags,
        keys: &'static [KeySpec],
        since: &'static str,
        complexity: &'static str,
        words: (&'static str, &'static str),
        handler: Handler,
    ) -> Command {
        let (usage, summary) = words;
        Command {
            name,
            arity,
            flags,
            keys,
            since,
            complexity,
            usage,
            summary,
            ..Command::data(self.0, handler)
        }
    }
}

/// One key that is only read.
pub(crate) const READ_ONE: &[KeySpec] = &[KeySpec::one(1, "RO access")];

/// A range of ranks as `LRANGE` means it: negative counts from the end. The half-open part of
/// `0..len` that it covers, empty as `(0, 0)`.
pub(crate) fn rank_range(start: i64, stop: i64, len: usize) -> (usize, usize) {
    let total = i64::try_from(len).unwrap_or(i64::MAX);
    let place = |index: i64| if index < 0 { index.saturating_add(total) } else { index };
    let first = place(start).max(0);
    let last = place(stop).min(total - 1);
    if first > last {
        return (0, 0);
    }
    let first = usize::try_from(first).unwrap_or(0);
    let end = usize::try_from(last).map_or(0, |last| last.saturating_add(1));
    (first, end)
}

/// An index as `LINDEX` means it, if it lies within.
pub(crate) fn index_in(index: i64, len: usize) -> Option<usize> {
    let total = i64::try_from(len).ok()?;
    let at = if index < 0 { index.checked_add(total)? } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// A count that may be zero.
pub(crate) fn positive(args: Args<'_>, index: usize) -> Result<usize, Fault> {
    let value = args.i64(index).map_err(|_| Fault::NOT_POSITIVE)?;
    usize::try_from(value).map_err(|_| Fault::NOT_POSITIVE)
}

/// A count that must be at least one, with the error text if it is not.
pub(crate) fn at_least_one(
    args: Args<'_>,
    index: usize,
    text: &'static str,
) -> Result<usize, Fault> {
    match args.i64(index).ok().and_then(|value| usize::try_from(value).ok()) {
        Some(value) if value > 0 => Ok(value),
        _ => Err(Fault::text(text)),
    }
}

/// The time-out of a blocking command in milliseconds; `None` = for ever.
pub(crate) fn timeout(args: Args<'_>, index: usize) -> Result<Option<u64>, Fault> {
    let seconds = number::parse_f64(args.at(index))
        .ok_or(Fault::text("ERR timeout is not a float or out of range"))?;
    if seconds < 0.0 {
        return Err(Fault::text("ERR timeout is negative"));
    }
    let ms = (seconds * 1000.0).ceil();
    if ms > 9.2e18 {
        return Err(Fault::text("ERR timeout is out of range"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, not negative, and below 2^63 by the checks above"
    )]
    let ms = ms as u64;
    Ok(Some(ms).filter(|ms| *ms > 0))
}

/// How a blocking command ends that found nothing: it waits, or within a transaction answers null.
pub(crate) fn wait(
    ctx: &mut Context<'_>,
    keys: std::ops::Range<usize>,
    wants: Kind,
    timeout_ms: Option<u64>,
) -> Outcome {
    if ctx.may_block {
        return Outcome::Wait(Wait { keys: keys.collect(), wants, timeout_ms });
    }
    ctx.reply.null_array();
    Outcome::Done
}

/// Writes a text as a string.
#[inline]
pub(crate) fn bulk(reply: &mut Reply<'_>, text: Text<'_>) {
    match text {
        Text::Int(value) => reply.bulk_integer(value),
        Text::Bytes(bytes) => reply.bulk(bytes),
    }
}

/// A cursor of the SCAN family, as `strtoul` reads it: a sign is taken, and nothing at all is 0.
pub(crate) fn cursor(text: &[u8]) -> Result<u64, Fault> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let step = |sum: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    };
    let empty = digits.is_empty() && !text.is_empty();
    let value = digits.iter().try_fold(0, step).filter(|_| !empty);
    let value = value.ok_or(Fault::text("ERR invalid cursor"))?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// Options of SCAN within one key.
pub(crate) struct ScanOptions<'a> {
    /// Where to go on.
    pub cursor: u64,
    /// About how many elements to look at.
    pub count: usize,
    /// Which elements to show; `None` = all.
    pub pattern: Option<&'a [u8]>,
    /// Only fields or members, without their values or scores.
    pub bare: bool,
}

impl<'a> ScanOptions<'a> {
    /// Reads the cursor: Redis refuses a bad one before it looks at the key, and all else after.
    pub fn cursor(args: Args<'_>) -> Result<u64, Fault> {
        cursor(args.at(2))
    }

    /// Reads `cursor [MATCH pattern] [COUNT count]` from position 2 on, and the word that leaves values out,
    /// if there is one.
    pub fn parse(args: Args<'a>, bare_word: Option<&str>) -> Result<ScanOptions<'a>, Fault> {
        let cursor = ScanOptions::cursor(args)?;
        let mut options = ScanOptions { cursor, count: 10, pattern: None, bare: false };
        let mut at = 3;
        while at < args.len() {
            let more = at + 1 < args.len();
            if args.is(at, "COUNT") && more {
                options.count = usize::try_from(args.i64(at + 1)?).map_err(|_| Fault::SYNTAX)?;
                if options.count == 0 {
                    return Err(Fault::SYNTAX);
                }
                at += 2;
            } else if args.is(at, "MATCH") && more {
                options.pattern = args.get(at + 1).filter(|pattern| *pattern != b"*");
                at += 2;
            } else if bare_word.is_some_and(|word| args.is(at, word)) {
                options.bare = true;
                at += 1;
            } else {
                return Err(Fault::SYNTAX);
            }
        }
        Ok(options)
    }

    /// Whether an element is to be shown.
    pub fn shows(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| larder_base::glob::matches(pattern, element))
    }
}

/// Finishes the reply of a SCAN within a key: the next cursor and the elements already encoded.
pub(crate) fn write_scan(reply: &mut Reply<'_>, next: u64, count: usize, elements: &[u8]) {
    reply.bulk(number::decimal(next).as_bytes());
    reply.array(count);
    reply.raw(elements);
}
