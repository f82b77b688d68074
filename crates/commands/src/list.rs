//! Commands on lists. What waits and who is served is the server's matter: a blocking command here only
//! says that it found nothing.

use larder_protocol::reply::Reply;
use larder_store::value::{End, List, Thresholds};
use larder_store::{EventClass, Kind};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::pops::{self, Ends, taken};
use crate::support::{bulk, index_in, positive, rank_range, timeout, wait};

mod rows;

pub use rows::COMMANDS;

fn parse_end(args: Args<'_>, at: usize) -> Result<End, Fault> {
    if args.is(at, "LEFT") {
        Ok(End::Front)
    } else if args.is(at, "RIGHT") {
        Ok(End::Back)
    } else {
        Err(Fault::SYNTAX)
    }
}

fn push_event(end: End) -> &'static str {
    match end {
        End::Front => "lpush",
        End::Back => "rpush",
    }
}

impl Ends for List {
    type End = End;
    const CLASS: EventClass = EventClass::List;
    const PARTS: usize = 2;

    fn end(args: Args<'_>, at: usize) -> Result<End, Fault> {
        parse_end(args, at)
    }

    fn command(end: End) -> &'static str {
        match end {
            End::Front => "lpop",
            End::Back => "rpop",
        }
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn take(
        &mut self,
        reply: &mut Reply<'_>,
        end: End,
        count: usize,
        _: bool,
        limits: &Thresholds,
    ) {
        let len = self.len();
        let count = count.min(len);
        match end {
            End::Front => {
                self.iter().take(count).for_each(|text| bulk(reply, text));
                self.trim(count, len - count, limits);
            }
            End::Back => {
                self.iter_back_from(len).take(count).for_each(|text| bulk(reply, text));
                self.trim(0, len - count, limits);
            }
        }
    }
}

// ---- putting ----

fn push(ctx: &mut Context<'_>, args: Args<'_>, end: End, create: bool) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let key = args.at(1);
    let list = if create {
        ctx.keys.write_or_create::<List>(key)?
    } else {
        match ctx.keys.write::<List>(key)? {
            Some(list) => list,
            None => {
                ctx.reply.integer(0);
                return Ok(Outcome::Done);
            }
        }
    };
    for element in args.from(2) {
        list.push(element, end, limits);
    }
    ctx.reply.count(list.len());
    ctx.keys.signal(key, EventClass::List, push_event(end));
    Ok(Outcome::Done)
}

fn lpush(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    push(ctx, args, End::Front, true)
}

fn rpush(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    push(ctx, args, End::Back, true)
}

fn lpushx(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    push(ctx, args, End::Front, false)
}

fn rpushx(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    push(ctx, args, End::Back, false)
}

fn linsert(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let after = if args.is(2, "AFTER") {
        true
    } else if args.is(2, "BEFORE") {
        false
    } else {
        return Err(Fault::SYNTAX);
    };
    let (key, pivot) = (args.at(1), args.at(3));
    let Some(list) = ctx.keys.write::<List>(key)? else {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    };
    if !list.insert_beside(pivot, args.at(4), after, limits) {
        ctx.reply.integer(-1);
        return Ok(Outcome::Done);
    }
    ctx.reply.count(list.len());
    ctx.keys.signal(key, EventClass::List, "linsert");
    Ok(Outcome::Done)
}

fn lset(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let key = args.at(1);
    let Some(list) = ctx.keys.write::<List>(key)? else { return Err(Fault::NO_SUCH_KEY) };
    let at = index_in(args.i64(2)?, list.len()).ok_or(Fault::OUT_OF_RANGE)?;
    list.set(at, args.at(3), limits);
    ctx.reply.ok();
    ctx.keys.signal(key, EventClass::List, "lset");
    Ok(Outcome::Done)
}

// ---- reading ----

fn llen(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let len = ctx.keys.read::<List>(args.at(1))?.map_or(0, List::len);
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

fn lindex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let Some(list) = ctx.keys.read::<List>(args.at(1))? else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    match index_in(args.i64(2)?, list.len()).and_then(|at| list.get(at)) {
        Some(text) => bulk(&mut ctx.reply, text),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn lrange(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (start, stop) = (args.i64(2)?, args.i64(3)?);
    let Some(list) = ctx.keys.read::<List>(args.at(1))? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let (first, end) = rank_range(start, stop, list.len());
    ctx.reply.array(end - first);
    for text in list.iter_from(first).take(end - first) {
        bulk(&mut ctx.reply, text);
    }
    Ok(Outcome::Done)
}

/// What `LPOS` is asked for.
struct Search {
    rank: i64,
    count: Option<usize>,
    max: usize,
}

impl Search {
    fn parse(args: Args<'_>) -> Result<Search, Fault> {
        let mut search = Search { rank: 1, count: None, max: 0 };
        let mut at = 3;
        while at < args.len() {
            if at + 1 >= args.len() {
                return Err(Fault::SYNTAX);
            }
            let not_negative = |text| {
                let value = args.i64(at + 1).map_err(|_| Fault::text(text))?;
                usize::try_from(value).map_err(|_| Fault::text(text))
            };
            if args.is(at, "RANK") {
                search.rank = args.i64(at + 1)?;
                if search.rank == i64::MIN {
                    return Err(Fault::text("ERR value is out of range"));
                }
                if search.rank == 0 {
                    return Err(Fault::text(RANK_ZERO));
                }
            } else if args.is(at, "COUNT") {
                search.count = Some(not_negative("ERR COUNT can't be negative")?);
            } else if args.is(at, "MAXLEN") {
                search.max = not_negative("ERR MAXLEN can't be negative")?;
            } else {
                return Err(Fault::SYNTAX);
            }
            at += 2;
        }
        Ok(search)
    }
}

const RANK_ZERO: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                         second ... or use negative to start from the end of the list";

fn lpos(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let search = Search::parse(args)?;
    let Some(list) = ctx.keys.read::<List>(args.at(1))? else {
        match search.count {
            Some(_) => ctx.reply.array(0),
            None => ctx.reply.null(),
        }
        return Ok(Outcome::Done);
    };
    let len = list.len();
    let look = if search.max == 0 { len } else { search.max.min(len) };
    let skip = usize::try_from(search.rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let wanted = match search.count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let from = if search.rank > 0 { End::Front } else { End::Back };
    let found: Vec<usize> =
        list.positions(args.at(2), from, look).skip(skip).take(wanted).collect();
    if search.count.is_some() {
        ctx.reply.array(found.len());
        found.iter().for_each(|at| ctx.reply.count(*at));
    } else {
        match found.first() {
            Some(at) => ctx.reply.count(*at),
            None => ctx.reply.null(),
        }
    }
    Ok(Outcome::Done)
}

// ---- taking ----

fn pop(ctx: &mut Context<'_>, args: Args<'_>, end: End, name: &str) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    if args.len() > 3 {
        return Err(Fault::arity(name));
    }
    let count = if args.len() == 3 { Some(positive(args, 2)?) } else { None };
    let key = args.at(1);
    let Some(list) = ctx.keys.write::<List>(key)? else {
        match count {
            Some(_) => ctx.reply.null_array(),
            None => ctx.reply.null(),
        }
        return Ok(Outcome::Done);
    };
    if let Some(count) = count {
        ctx.reply.array(count.min(list.len()));
        if count == 0 {
            return Ok(Outcome::Done);
        }
    }
    list.take(&mut ctx.reply, end, count.unwrap_or(1), false, limits);
    taken::<List>(ctx, key, end);
    Ok(Outcome::Done)
}

fn lpop(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pop(ctx, args, End::Front, "lpop")
}

fn rpop(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pop(ctx, args, End::Back, "rpop")
}

fn lrem(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let count = args.i64(2)?;
    let key = args.at(1);
    let Some(list) = ctx.keys.write::<List>(key)? else {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let max = match count {
        0 => usize::MAX,
        count => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
    };
    let from = if count < 0 { End::Back } else { End::Front };
    let removed = list.remove(args.at(3), max, from, limits);
    ctx.reply.count(removed);
    if removed > 0 {
        if count == i64::MIN {
            // Later servers refuse the least of all numbers; no list is so long that the next would not do.
            let all = (i64::MIN + 1).to_string();
            ctx.effects.instead(&[b"LREM", key, all.as_bytes(), args.at(3)]);
        }
        ctx.keys.signal(key, EventClass::List, "lrem");
        ctx.keys.remove_if_empty(key);
    }
    Ok(Outcome::Done)
}

fn ltrim(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let (start, stop) = (args.i64(2)?, args.i64(3)?);
    let key = args.at(1);
    let Some(list) = ctx.keys.write::<List>(key)? else {
        ctx.reply.ok();
        return Ok(Outcome::Done);
    };
    let before = list.len();
    let (first, end) = rank_range(start, stop, before);
    list.trim(first, end - first, limits);
    ctx.reply.ok();
    if end - first < before {
        ctx.keys.signal(key, EventClass::List, "ltrim");
    } else {
        // Nothing went: it is told, as Redis does, but there is nothing to repeat.
        ctx.keys.signal_also(key, EventClass::List, "ltrim");
    }
    ctx.keys.remove_if_empty(key);
    Ok(Outcome::Done)
}

// ---- moving ----

/// Moves one element and answers with it; false if there is none.
fn shift(
    ctx: &mut Context<'_>,
    source: &[u8],
    destination: &[u8],
    from: End,
    to: End,
) -> Result<bool, Fault> {
    let limits = &ctx.settings.thresholds;
    if ctx.keys.peek::<List>(source)?.is_none() {
        return Ok(false);
    }
    ctx.keys.peek::<List>(destination)?;
    let taken_out = ctx.keys.write::<List>(source)?.and_then(|list| list.pop(from, limits));
    let Some(element) = taken_out else { return Ok(false) };
    ctx.keys.write_or_create::<List>(destination)?.push(&element, to, limits);
    ctx.keys.signal_also(destination, EventClass::List, push_event(to));
    taken::<List>(ctx, source, from);
    ctx.reply.bulk(&element);
    Ok(true)
}

fn lmove(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (from, to) = (parse_end(args, 3)?, parse_end(args, 4)?);
    if !shift(ctx, args.at(1), args.at(2), from, to)? {
        ctx.reply.null();
    }
    Ok(Outcome::Done)
}

fn rpoplpush(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    if !shift(ctx, args.at(1), args.at(2), End::Back, End::Front)? {
        ctx.reply.null();
    }
    Ok(Outcome::Done)
}

fn shift_or_wait(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    from: End,
    to: End,
    timeout_ms: Option<u64>,
) -> Result<Outcome, Fault> {
    let turned = ctx.ready.is_some() && ctx.keys.peek::<List>(args.at(1)).is_err();
    if !turned && shift(ctx, args.at(1), args.at(2), from, to)? {
        return Ok(Outcome::Done);
    }
    if !ctx.may_block {
        ctx.reply.null();
        return Ok(Outcome::Done);
    }
    Ok(wait(ctx, 1..2, Kind::List, timeout_ms))
}

fn blmove(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (from, to) = (parse_end(args, 3)?, parse_end(args, 4)?);
    let timeout_ms = timeout(args, 5)?;
    let outcome = shift_or_wait(ctx, args, from, to, timeout_ms)?;
    ctx.effects.instead_if_changed(&[b"LMOVE", args.at(1), args.at(2), args.at(3), args.at(4)]);
    Ok(outcome)
}

fn brpoplpush(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let timeout_ms = timeout(args, 3)?;
    let outcome = shift_or_wait(ctx, args, End::Back, End::Front, timeout_ms)?;
    ctx.effects.instead_if_changed(&[b"RPOPLPUSH", args.at(1), args.at(2)]);
    Ok(outcome)
}

// ---- taking from the first of several ----

fn blpop(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pops::blocking_pop::<List>(ctx, args, End::Front)
}

fn brpop(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    pops::blocking_pop::<List>(ctx, args, End::Back)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn elements_go_in_and_out_at_both_ends() {
        let mut bench = Bench::new();
        bench.script(&[
            ("RPUSH l a b c", ":3"),
            ("LPUSH l z", ":4"),
            ("LRANGE l 0 -1", "*4 $1 z $1 a $1 b $1 c"),
            ("LRANGE l 9223372036854775807 -9223372036854775808", "*0"),
            ("LPOP l", "$1 z"),
            ("RPOP l 9223372036854775807", "*3 $1 c $1 b $1 a"),
            ("LPOP l", "$-1"),
            ("LPOP l 1", "*-1"),
            ("LPOP l -1", "-ERR value is out of range, must be positive"),
        ]);
        bench.run("RPUSH l a");
        bench.run("RPOP l");
        assert_eq!(bench.events, ["rpop", "del"]);
    }

    #[test]
    fn edits_in_the_middle() {
        let mut bench = Bench::new();
        bench.script(&[
            ("RPUSH l a b a c a", ":5"),
            ("LPOS l a RANK -1", ":4"),
            ("LPOS l a COUNT 0", "*3 :0 :2 :4"),
            ("LPOS l a RANK -2 COUNT 0", "*2 :2 :0"),
            ("LPOS l x", "$-1"),
            ("LREM l -2 a", ":2"),
            ("LINSERT l AFTER b x", ":4"),
            ("LSET l -1 y", "+OK"),
            ("LSET l 9 y", "-ERR index out of range"),
            ("LRANGE l 0 -1", "*4 $1 a $1 b $1 x $1 y"),
            ("LTRIM l 1 2", "+OK"),
            ("LINDEX l 0", "$1 b"),
            ("LINDEX l -9223372036854775808", "$-1"),
            ("LREM l -9223372036854775808 b", ":1"),
            ("LMOVE l d RIGHT LEFT", "$1 x"),
            ("EXISTS l", ":0"),
            ("RPOPLPUSH d d", "$1 x"),
            ("LMPOP 2 l d LEFT COUNT 5", "*2 $1 d *1 $1 x"),
            ("LMPOP 2 l d LEFT", "*-1"),
            ("BLPOP l d 0", "(waits)"),
            ("BLMPOP 0.1 1 l RIGHT", "(waits)"),
            ("BLPOP l -1", "-ERR timeout is negative"),
        ]);
    }
}
