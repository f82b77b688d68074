//! Commands on sorted sets: members one by one, from the ends and at random. Ranges lie in `ranges`,
//! combinations of several sets in `combine`.

use larder_base::number;
use larder_protocol::reply::Reply;
use larder_store::value::{SortedSet, Thresholds};
use larder_store::{EventClass, Text};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::pops::{self, Ends, taken};
use crate::support::{ScanOptions, bulk, positive, write_scan};

mod combine;
pub(crate) mod ranges;
mod rows;

pub use rows::COMMANDS;

/// Writes a member with its score, as a pair of its own or flat.
fn pair(reply: &mut Reply<'_>, member: Text<'_>, score: f64, nested: bool) {
    if nested {
        reply.array(2);
    }
    bulk(reply, member);
    reply.double(score);
}

/// Which scores ZADD may write.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub only_new: bool,
    pub only_old: bool,
    greater: bool,
    less: bool,
    pub changed: bool,
    increment: bool,
}

impl Options {
    /// The options from position 2 on, and where the scores begin.
    fn parse(args: Args<'_>) -> (Options, usize) {
        let mut options = Options::default();
        let mut at = 2;
        loop {
            let flag = match args.at(at).to_ascii_uppercase().as_slice() {
                b"NX" => &mut options.only_new,
                b"XX" => &mut options.only_old,
                b"GT" => &mut options.greater,
                b"LT" => &mut options.less,
                b"CH" => &mut options.changed,
                b"INCR" => &mut options.increment,
                _ => return (options, at),
            };
            *flag = true;
            at += 1;
        }
    }

    fn check(self) -> Result<(), Fault> {
        if self.only_new && self.only_old {
            return Err(Fault::text("ERR XX and NX options at the same time are not compatible"));
        }
        if (self.greater && (self.less || self.only_new)) || (self.less && self.only_new) {
            return Err(Fault::text(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        Ok(())
    }

    /// The score to write. NaN stands for a sum that is no number.
    fn decide(self, old: Option<f64>, score: f64) -> Option<f64> {
        let Some(old) = old else { return Some(score).filter(|_| !self.only_old) };
        if self.only_new {
            return None;
        }
        let new = if self.increment { old + score } else { score };
        if new.is_nan() {
            return Some(new);
        }
        let refused = (self.greater && new <= old) || (self.less && new >= old);
        Some(new).filter(|_| !refused)
    }
}

pub(crate) fn add(
    ctx: &mut Context<'_>,
    key: &[u8],
    pairs: &[(f64, &[u8])],
    options: Options,
) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    if options.only_old && ctx.keys.peek::<SortedSet>(key)?.is_none() {
        if options.increment {
            ctx.reply.null();
        } else {
            ctx.reply.integer(0);
        }
        return Ok(Outcome::Done);
    }
    let sorted = ctx.keys.write_or_create::<SortedSet>(key)?;
    let (mut added, mut updated, mut last) = (0, 0, None);
    for (score, member) in pairs {
        let mut no_number = false;
        let mut allowed = None;
        let result = sorted.update(member, limits, |old| {
            allowed = options.decide(old, *score);
            no_number = allowed.is_some_and(f64::is_nan);
            // An equal score is not written: a negative zero stays what it is, here as on every copy.
            allowed.filter(|new| !new.is_nan() && old != Some(*new))
        });
        if no_number {
            return Err(Fault::text("ERR resulting score is not a number (NaN)"));
        }
        last = allowed;
        match (result.old, allowed) {
            (None, Some(_)) => added += 1,
            (Some(old), Some(new)) if old != new => updated += 1,
            _ => {}
        }
    }
    if options.increment {
        match last {
            Some(score) => ctx.reply.double(score),
            None => ctx.reply.null(),
        }
    } else {
        ctx.reply.count(if options.changed { added + updated } else { added });
    }
    if added + updated > 0 {
        let event = if options.increment { "zincr" } else { "zadd" };
        ctx.keys.signal(key, EventClass::SortedSet, event);
    }
    Ok(Outcome::Done)
}

fn zadd(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (options, at) = Options::parse(args);
    let rest = args.from(at);
    if rest.is_empty() || rest.len() % 2 == 1 {
        return Err(Fault::SYNTAX);
    }
    options.check()?;
    if options.increment && rest.len() > 2 {
        return Err(Fault::text("ERR INCR option supports a single increment-element pair"));
    }
    let mut pairs = Vec::with_capacity(rest.len() / 2);
    for (index, member) in rest.iter().enumerate().skip(1).step_by(2) {
        pairs.push((args.f64(at + index - 1)?, *member));
    }
    add(ctx, args.at(1), &pairs, options)
}

fn zincrby(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let options = Options { increment: true, ..Options::default() };
    add(ctx, args.at(1), &[(args.f64(2)?, args.at(3))], options)
}

fn zrem(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let removed = match ctx.keys.write::<SortedSet>(key)? {
        Some(sorted) => {
            args.from(2).iter().filter(|member| sorted.remove(member).is_some()).count()
        }
        None => 0,
    };
    ctx.reply.count(removed);
    if removed > 0 {
        ctx.keys.signal(key, EventClass::SortedSet, "zrem");
        ctx.keys.remove_if_empty(key);
    }
    Ok(Outcome::Done)
}

fn zcard(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let len = ctx.keys.read::<SortedSet>(args.at(1))?.map_or(0, SortedSet::len);
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

fn zscore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    match ctx.keys.read::<SortedSet>(args.at(1))?.and_then(|sorted| sorted.score(args.at(2))) {
        Some(score) => ctx.reply.double(score),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn zmscore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let sorted = ctx.keys.read::<SortedSet>(args.at(1))?;
    let members = args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        match sorted.and_then(|sorted| sorted.score(member)) {
            Some(score) => ctx.reply.double(score),
            None => ctx.reply.null(),
        }
    }
    Ok(Outcome::Done)
}

fn rank(ctx: &mut Context<'_>, args: Args<'_>, reverse: bool) -> Result<Outcome, Fault> {
    let with_score = args.len() > 3;
    if with_score && (args.len() > 4 || !args.is(3, "WITHSCORE")) {
        return Err(Fault::SYNTAX);
    }
    let sorted = ctx.keys.read::<SortedSet>(args.at(1))?;
    let found = sorted.and_then(|sorted| {
        let (rank, score) = sorted.rank(args.at(2))?;
        Some((if reverse { sorted.len().checked_sub(rank + 1)? } else { rank }, score))
    });
    match found {
        Some((rank, score)) if with_score => {
            ctx.reply.array(2);
            ctx.reply.count(rank);
            ctx.reply.double(score);
        }
        Some((rank, _)) => ctx.reply.count(rank),
        None if with_score => ctx.reply.null_array(),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn zrank(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    rank(ctx, args, false)
}

fn zrevrank(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    rank(ctx, args, true)
}

// ---- from the ends ----

/// An end of the order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Least {
    Min,
    Max,
}

impl Ends for SortedSet {
    type End = Least;
    const CLASS: EventClass = EventClass::SortedSet;
    const PARTS: usize = 3;

    fn end(args: Args<'_>, at: usize) -> Result<Least, Fault> {
        if args.is(at, "MIN") {
            Ok(Least::Min)
        } else if args.is(at, "MAX") {
            Ok(Least::Max)
        } else {
            Err(Fault::SYNTAX)
        }
    }

    fn command(end: Least) -> &'static str {
        match end {
            Least::Min => "zpopmin",
            Least::Max => "zpopmax",
        }
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn take(
        &mut self,
        reply: &mut Reply<'_>,
        end: Least,
        count: usize,
        nested: bool,
        _: &Thresholds,
    ) {
        let len = self.len();
        let count = count.min(len);
        let ranks = if end == Least::Min { 0..count } else { len - count..len };
        let found = self.range(ranks.clone());
        let show = |(member, score)| pair(reply, member, score, nested);
        match end {
            Least::Min => found.for_each(show),
            Least::Max => found.rev().for_each(show),
        }
        self.remove_range(ranks);
    }
}

fn pop(ctx: &mut Context<'_>, args: Args<'_>, end: Least) -> Result<Outcome, Fault> {
    if args.len() > 3 {
        return Err(Fault::SYNTAX);
    }
    let count = if args.len() == 3 { Some(positive(args, 2)?) } else { None };
    let key = args.at(1);
    let Some(sorted) = ctx.keys.write::<SortedSet>(key)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let wanted = count.unwrap_or(1).min(sorted.len());
    let nested = count.is_some() && ctx.reply.is_resp3();
    ctx.reply.array(if nested { wanted } else { wanted * 2 });
    if wanted > 0 {
        sorted.take(&mut ctx.reply, end, wanted, nested, &ctx.settings.thresholds);
        taken::<SortedSet>(ctx, key, end);
    }
    Ok(Outcome::Done)
}

fn zpopmin(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pop(ctx, args, Least::Min)
}

fn zpopmax(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pop(ctx, args, Least::Max)
}

fn bzpopmin(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pops::blocking_pop::<SortedSet>(ctx, args, Least::Min)
}

fn bzpopmax(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pops::blocking_pop::<SortedSet>(ctx, args, Least::Max)
}

// ---- at random, and all ----

fn zrandmember(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    if args.len() == 2 {
        match ctx.keys.read::<SortedSet>(key)?.and_then(|sorted| sorted.random(ctx.rng)) {
            Some((member, _)) => bulk(&mut ctx.reply, member),
            None => ctx.reply.null(),
        }
        return Ok(Outcome::Done);
    }
    let count = args.i64(2)?;
    let with_scores = args.len() == 4 && args.is(3, "WITHSCORES");
    if args.len() > 4 || (args.len() == 4 && !with_scores) {
        return Err(Fault::SYNTAX);
    }
    ctx.allow_draws(count)?;
    let reply_max = ctx.reply_max;
    let Some(sorted) = ctx.keys.read::<SortedSet>(key)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let nested = with_scores && ctx.reply.is_resp3();
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let wanted = if count < 0 { wanted } else { wanted.min(sorted.len()) };
    ctx.reply.array(if with_scores && !nested { wanted * 2 } else { wanted });
    let mut show = |member: Text<'_>, score: f64| {
        match with_scores {
            true => pair(&mut ctx.reply, member, score, nested),
            false => bulk(&mut ctx.reply, member),
        }
        ctx.reply.len() <= reply_max
    };
    if count < 0 {
        for _ in 0..wanted {
            if let Some((member, score)) = sorted.random(ctx.rng)
                && !show(member, score)
            {
                break;
            }
        }
    } else {
        let mut open = wanted;
        for (seen, (member, score)) in sorted.iter().enumerate() {
            if open > 0 && ctx.rng.below_usize(sorted.len() - seen) < open {
                show(member, score);
                open -= 1;
            }
        }
    }
    Ok(Outcome::Done)
}

/// The integer that Redis keeps in a listpack for this score, and which ZSCAN alone shows as it lies there.
fn listed(score: f64) -> Option<i64> {
    const MAX: f64 = 4_611_686_018_427_387_904.0;
    if score.is_nan() || score.abs() > MAX {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^62, and compared again below")]
    let whole = score as i64;
    (whole as f64 == score).then_some(whole)
}

fn zscan(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    ScanOptions::cursor(args)?;
    ctx.reply.array(2);
    let Some(sorted) = ctx.keys.read::<SortedSet>(args.at(1))? else {
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let options = ScanOptions::parse(args, Some("NOSCORES"))?;
    let mut shown = Vec::new();
    let (mut count, mut text) = (0, Vec::new());
    let mut inner = Reply::new(&mut shown, ctx.reply.version());
    let is_list = sorted.encoding_name() == "listpack";
    let next = sorted.scan(options.cursor, options.count, |member, score| {
        if member.with_bytes(|bytes| options.shows(bytes)) {
            bulk(&mut inner, member);
            count += 1;
            if !options.bare {
                text.clear();
                match listed(score).filter(|_| is_list) {
                    Some(whole) => number::write_i64(&mut text, whole),
                    None => number::write_f64(&mut text, score),
                }
                inner.bulk(&text);
                count += 1;
            }
        }
    });
    write_scan(&mut ctx.reply, next, count, &shown);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn a_scan_shows_whole_scores_of_a_small_set_as_integers() {
        let mut bench = Bench::new();
        bench.script(&[
            ("ZADD z 1427559239369981952 a", ":1"),
            ("ZSCAN z 0", "*2 $1 0 *2 $1 a $19 1427559239369981952"),
            ("ZSCORE z a", "$21 1.427559239369982e+18"),
            ("ZADD z 4611686018427388928 a", ":0"),
            ("ZSCAN z 0", "*2 $1 0 *2 $1 a $22 4.6116860184273889e+18"),
        ]);
        bench.settings.thresholds.zset_entries = 0;
        bench.script(&[
            ("ZADD y 1427559239369981952 a", ":1"),
            ("ZSCAN y 0", "*2 $1 0 *2 $1 a $21 1.427559239369982e+18"),
        ]);
    }

    #[test]
    fn scores_are_written_under_conditions() {
        let mut bench = Bench::new();
        bench.script(&[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("ZADD z GT CH 0 a 5 b", ":1"),
            ("ZADD z XX INCR 1 none", "$-1"),
            ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
            ("ZADD z nan a", "-ERR value is not a valid float"),
            ("ZINCRBY z inf a", "$3 inf"),
            ("ZINCRBY z -inf a", "-ERR resulting score is not a number (NaN)"),
            ("ZRANGE z 0 -1 WITHSCORES", "*6 $1 c $1 3 $1 b $1 5 $1 a $3 inf"),
            ("ZRANGE z (3 +inf BYSCORE LIMIT 0 1", "*1 $1 b"),
            ("ZREVRANGEBYSCORE z +inf -inf LIMIT 1 9", "*2 $1 b $1 c"),
            ("ZREVRANK z a WITHSCORE", "*2 :0 $3 inf"),
            ("ZCOUNT z 3 (inf", ":2"),
            ("ZUNION 2 z z WEIGHTS 1 2 WITHSCORES", "*6 $1 c $1 9 $1 b $2 15 $1 a $3 inf"),
            ("ZPOPMAX z 9223372036854775807", "*6 $1 a $3 inf $1 b $1 5 $1 c $1 3"),
            ("ZPOPMIN z", "*0"),
            ("BZPOPMIN z 0", "(waits)"),
        ]);
    }

    #[test]
    fn ranges_by_bytes_and_combinations() {
        let mut bench = Bench::new();
        bench.script(&[
            ("ZADD z 0 a 0 b 0 c", ":3"),
            ("ZRANGEBYLEX z [b +", "*2 $1 b $1 c"),
            ("ZRANGE z + (a BYLEX REV", "*2 $1 c $1 b"),
            ("ZLEXCOUNT z + -", ":0"),
            ("ZRANGESTORE y z 0 1", ":2"),
            ("ZDIFF 2 z y", "*1 $1 c"),
            ("ZINTERCARD 2 z y LIMIT 1", ":1"),
            ("ZINTERSTORE x 2 z y AGGREGATE MAX", ":2"),
            ("ZDIFFSTORE x 2 y z", ":0"),
            ("EXISTS x", ":0"),
            ("ZREMRANGEBYRANK z 0 -9223372036854775808", ":0"),
            ("ZREMRANGEBYLEX z - (c", ":2"),
            ("ZRANGE z a 1", "-ERR value is not an integer or out of range"),
            ("ZRANGEBYSCORE z a 1", "-ERR min or max is not a float"),
            ("ZMPOP 2 none z MIN", "*2 $1 z *1 *2 $1 c $1 0"),
        ]);
    }
}
