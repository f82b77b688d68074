//! Ranges of sorted sets by rank, score and bytes: read, counted, removed and stored.

use std::ops::{Bound, Range};

use larder_base::number;
use larder_store::value::{SortedSet, Text};
use larder_store::{Deadline, EventClass, Value};

use super::pair;
use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::support::{bulk, rank_range};

/// By what a range is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A parsed range.
enum Span<'a> {
    Rank(i64, i64),
    Score(Bound<f64>, Bound<f64>),
    Lex(Bound<&'a [u8]>, Bound<&'a [u8]>),
    Empty,
}

fn score_bound(text: &[u8]) -> Result<Bound<f64>, Fault> {
    let parsed = match text {
        [b'(', rest @ ..] => lenient(rest).map(Bound::Excluded),
        text => lenient(text).map(Bound::Included),
    };
    parsed.ok_or(Fault::text("ERR min or max is not a float"))
}

/// A bound as `strtod` reads it: blanks before it, nothing at all (0) and numbers too large for a double
/// (infinite) are taken here, though not as scores.
fn lenient(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return Some(0.0);
    }
    let parsed = || std::str::from_utf8(text).ok()?.parse::<f64>().ok();
    number::parse_f64(text).or_else(parsed).filter(|bound| !bound.is_nan())
}

fn lex_bound(text: &[u8]) -> Result<Bound<&[u8]>, Fault> {
    match text {
        b"-" | b"+" => Ok(Bound::Unbounded),
        [b'[', rest @ ..] => Ok(Bound::Included(rest)),
        [b'(', rest @ ..] => Ok(Bound::Excluded(rest)),
        _ => Err(Fault::text("ERR min or max not valid string range item")),
    }
}

impl<'a> Span<'a> {
    /// The range whose ends stand at two positions.
    fn parse(args: Args<'a>, by: By, min: usize, max: usize) -> Result<Span<'a>, Fault> {
        Ok(match by {
            By::Rank => Span::Rank(args.i64(min)?, args.i64(max)?),
            By::Score => Span::Score(score_bound(args.at(min))?, score_bound(args.at(max))?),
            By::Lex => {
                let (low, high) = (lex_bound(args.at(min))?, lex_bound(args.at(max))?);
                // Nothing is above the greatest text or below the least one.
                if args.at(min) == b"+" || args.at(max) == b"-" {
                    Span::Empty
                } else {
                    Span::Lex(low, high)
                }
            }
        })
    }

    /// The ranks that it covers; of ranks counted from the end those from the front.
    fn ranks(&self, sorted: &SortedSet, reverse: bool) -> Range<usize> {
        let found = match *self {
            Span::Rank(start, stop) => {
                let (first, end) = rank_range(start, stop, sorted.len());
                if reverse { sorted.len() - end..sorted.len() - first } else { first..end }
            }
            Span::Score(min, max) => sorted.score_range(min, max),
            Span::Lex(min, max) => sorted.lex_range(min, max),
            Span::Empty => 0..0,
        };
        if found.start < found.end { found } else { 0..0 }
    }
}

/// A whole query.
struct Query<'a> {
    span: Span<'a>,
    reverse: bool,
    limit: Option<(i64, i64)>,
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads `min max [options]` from a position on. `fixed` = the command's name says by what and
    /// from which end.
    fn parse(
        args: Args<'a>,
        at: usize,
        fixed: Option<(By, bool)>,
        store: bool,
    ) -> Result<Query<'a>, Fault> {
        let (mut by, mut reverse) = fixed.unwrap_or((By::Rank, false));
        // What is said once, by the command's name or by an option, is not said again.
        let (mut is_by_free, mut is_end_free) = (fixed.is_none(), fixed.is_none());
        let (mut limit, mut with_scores) = (None, false);
        let mut next = at + 2;
        while next < args.len() {
            if !store && args.is(next, "WITHSCORES") {
                with_scores = true;
            } else if args.is(next, "LIMIT") && next + 2 < args.len() {
                limit = Some((args.i64(next + 1)?, args.i64(next + 2)?));
                next += 2;
            } else if is_end_free && args.is(next, "REV") {
                (reverse, is_end_free) = (true, false);
            } else if is_by_free && args.is(next, "BYLEX") {
                (by, is_by_free) = (By::Lex, false);
            } else if is_by_free && args.is(next, "BYSCORE") {
                (by, is_by_free) = (By::Score, false);
            } else {
                return Err(Fault::SYNTAX);
            }
            next += 1;
        }
        if limit.is_some_and(|(_, count)| count != -1) && by == By::Rank {
            return Err(Fault::text(LIMIT_NEEDS_BY));
        }
        if with_scores && by == By::Lex {
            return Err(Fault::text(NO_SCORES_BY_LEX));
        }
        let swapped = reverse && by != By::Rank;
        let (min, max) = if swapped { (at + 1, at) } else { (at, at + 1) };
        let span = Span::parse(args, by, min, max)?;
        Ok(Query { span, reverse, limit: limit.filter(|_| by != By::Rank), with_scores })
    }

    /// The ranks asked for.
    fn ranks(&self, sorted: &SortedSet) -> Range<usize> {
        let found = self.span.ranks(sorted, self.reverse);
        let Some((offset, count)) = self.limit else { return found };
        let Ok(offset) = usize::try_from(offset) else { return 0..0 };
        let skip = offset.min(found.len());
        let keep = usize::try_from(count).unwrap_or(usize::MAX).min(found.len() - skip);
        if self.reverse {
            let end = found.end - skip;
            end - keep..end
        } else {
            let start = found.start + skip;
            start..start + keep
        }
    }

    fn answer(&self, ctx: &mut Context<'_>, key: &[u8]) -> Result<Outcome, Fault> {
        let Some(sorted) = ctx.keys.read::<SortedSet>(key)? else {
            ctx.reply.array(0);
            return Ok(Outcome::Done);
        };
        let ranks = self.ranks(sorted);
        let nested = ctx.reply.is_resp3();
        let flat = self.with_scores && !nested;
        ctx.reply.array(if flat { ranks.len() * 2 } else { ranks.len() });
        let reply = &mut ctx.reply;
        let mut show = |member, score| match self.with_scores {
            true => pair(reply, member, score, nested),
            false => bulk(reply, member),
        };
        let found = sorted.range(ranks);
        if self.reverse {
            found.rev().for_each(|(member, score)| show(member, score));
        } else {
            found.for_each(|(member, score)| show(member, score));
        }
        Ok(Outcome::Done)
    }
}

const LIMIT_NEEDS_BY: &str = "ERR syntax error, LIMIT is only supported in combination with \
                              either BYSCORE or BYLEX";
const NO_SCORES_BY_LEX: &str =
    "ERR syntax error, WITHSCORES not supported in combination with BYLEX";

fn fixed(ctx: &mut Context<'_>, args: Args<'_>, by: By, reverse: bool) -> Result<Outcome, Fault> {
    Query::parse(args, 2, Some((by, reverse)), false)?.answer(ctx, args.at(1))
}

pub(super) fn zrange(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    Query::parse(args, 2, None, false)?.answer(ctx, args.at(1))
}

pub(super) fn zrevrange(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    fixed(ctx, args, By::Rank, true)
}

pub(super) fn zrangebyscore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    fixed(ctx, args, By::Score, false)
}

pub(super) fn zrevrangebyscore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    fixed(ctx, args, By::Score, true)
}

pub(super) fn zrangebylex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    fixed(ctx, args, By::Lex, false)
}

pub(super) fn zrevrangebylex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    fixed(ctx, args, By::Lex, true)
}

pub(super) fn zrangestore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let query = Query::parse(args, 3, None, true)?;
    let mut limits = ctx.settings.thresholds;
    let mut result = SortedSet::new();
    if let Some(sorted) = ctx.keys.read::<SortedSet>(args.at(2))? {
        let ranks = query.ranks(sorted);
        if ranks.len() > limits.zset_entries {
            // In the big form from the beginning: only that one keeps negative zeros.
            limits.zset_entries = 0;
        }
        let mut put = |(member, score): (Text<'_>, f64)| {
            member.with_bytes(|bytes| result.insert(bytes, score, &limits));
        };
        let found = sorted.range(ranks);
        // The order matters where a long member makes it big half-way: up to there zeros lose their sign.
        if query.reverse { found.rev().for_each(&mut put) } else { found.for_each(&mut put) }
    }
    store(ctx, args.at(1), result, "zrangestore");
    Ok(Outcome::Done)
}

/// Stores a result and answers with its size; an empty one removes the key.
pub(crate) fn store(ctx: &mut Context<'_>, key: &[u8], result: SortedSet, event: &'static str) {
    ctx.reply.count(result.len());
    if result.is_empty() {
        if ctx.keys.remove(key) {
            ctx.keys.signal(key, EventClass::Generic, "del");
        }
    } else {
        ctx.keys.put(key, Value::SortedSet(result), Deadline::None);
        ctx.keys.signal(key, EventClass::SortedSet, event);
    }
}

fn count(ctx: &mut Context<'_>, args: Args<'_>, by: By) -> Result<Outcome, Fault> {
    let span = Span::parse(args, by, 2, 3)?;
    let sorted = ctx.keys.read::<SortedSet>(args.at(1))?;
    ctx.reply.count(sorted.map_or(0, |sorted| span.ranks(sorted, false).len()));
    Ok(Outcome::Done)
}

pub(super) fn zcount(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    count(ctx, args, By::Score)
}

pub(super) fn zlexcount(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    count(ctx, args, By::Lex)
}

fn remove(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    by: By,
    event: &'static str,
) -> Result<Outcome, Fault> {
    let span = Span::parse(args, by, 2, 3)?;
    let key = args.at(1);
    let removed = match ctx.keys.write::<SortedSet>(key)? {
        Some(sorted) => {
            let ranks = span.ranks(sorted, false);
            sorted.remove_range(ranks)
        }
        None => 0,
    };
    ctx.reply.count(removed);
    if removed > 0 {
        ctx.keys.signal(key, EventClass::SortedSet, event);
        ctx.keys.remove_if_empty(key);
    }
    Ok(Outcome::Done)
}

pub(super) fn zremrangebyrank(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    remove(ctx, args, By::Rank, "zremrangebyrank")
}

pub(super) fn zremrangebyscore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    remove(ctx, args, By::Score, "zremrangebyscore")
}

pub(super) fn zremrangebylex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    remove(ctx, args, By::Lex, "zremrangebylex")
}
