//! Unions, intersections and differences of sets. All operands are lent at once, so nothing is copied but
//! what is stored.

use larder_store::value::Set;
use larder_store::{Deadline, EventClass, RecordRef, Text, Value};

use super::show;
use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::support::{at_least_one, bulk};

/// How sets are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Union,
    Inter,
    Diff,
}

/// The sets at the keys; all keys are checked for their type.
fn operands<'r>(records: &[Option<RecordRef<'r>>]) -> Result<Vec<Option<&'r Set>>, Fault> {
    let set = |record: &Option<RecordRef<'r>>| match record {
        Some(record) => record.get::<Set>().map(Some).ok_or(Fault::WRONG_TYPE),
        None => Ok(None),
    };
    records.iter().map(set).collect()
}

/// Visits the members common to all sets until the visitor has enough.
fn meet(sets: &[Option<&Set>], mut visit: impl FnMut(Text<'_>) -> bool) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else { return };
    // The smallest is walked; the next smallest most likely lack a member.
    sets.sort_by_key(|set| set.len());
    let Some((first, others)) = sets.split_first() else { return };
    for member in first.iter() {
        let common = member.with_bytes(|bytes| others.iter().all(|set| set.contains(bytes)));
        if common && !visit(member) {
            return;
        }
    }
}

/// Visits the members of the first set that are in none of the others.
fn differ(sets: &[Option<&Set>], mut visit: impl FnMut(Text<'_>)) {
    let Some((Some(first), others)) = sets.split_first() else { return };
    let mut others: Vec<&Set> = others.iter().flatten().copied().collect();
    // The largest most likely has a member.
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    for member in first.iter() {
        if !member.with_bytes(|bytes| others.iter().any(|set| set.contains(bytes))) {
            visit(member);
        }
    }
}

fn answer(ctx: &mut Context<'_>, args: Args<'_>, how: How) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let records = ctx.keys.read_all(args.from(1));
    let sets = operands(&records)?;
    if how == How::Union {
        let mut result = Set::new();
        for set in sets.iter().flatten() {
            set.iter().for_each(|member| insert(&mut result, member, limits));
        }
        show(&mut ctx.reply, &result);
        return Ok(Outcome::Done);
    }
    let mark = ctx.reply.defer();
    let mut count = 0;
    let mut tell = |member: Text<'_>| {
        bulk(&mut ctx.reply, member);
        count += 1;
    };
    if how == How::Inter {
        meet(&sets, |member| {
            tell(member);
            true
        });
    } else {
        differ(&sets, tell);
    }
    ctx.reply.close_set(mark, count);
    Ok(Outcome::Done)
}

fn insert(set: &mut Set, member: Text<'_>, limits: &larder_store::Thresholds) {
    member.with_bytes(|bytes| set.insert(bytes, limits));
}

fn store(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    how: How,
    event: &'static str,
) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let mut result = Set::new();
    let records = ctx.keys.read_all(args.from(2));
    let sets = operands(&records)?;
    match how {
        How::Union => {
            for set in sets.iter().flatten() {
                set.iter().for_each(|member| insert(&mut result, member, limits));
            }
        }
        How::Inter => meet(&sets, |member| {
            insert(&mut result, member, limits);
            true
        }),
        How::Diff => differ(&sets, |member| insert(&mut result, member, limits)),
    }
    let key = args.at(1);
    ctx.reply.count(result.len());
    if result.is_empty() {
        if ctx.keys.remove(key) {
            ctx.keys.signal(key, EventClass::Generic, "del");
        }
    } else {
        ctx.keys.put(key, Value::Set(result), Deadline::None);
        ctx.keys.signal(key, EventClass::Set, event);
    }
    Ok(Outcome::Done)
}

pub(super) fn sinter(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer(ctx, args, How::Inter)
}

pub(super) fn sunion(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer(ctx, args, How::Union)
}

pub(super) fn sdiff(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer(ctx, args, How::Diff)
}

pub(super) fn sinterstore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    store(ctx, args, How::Inter, "sinterstore")
}

pub(super) fn sunionstore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    store(ctx, args, How::Union, "sunionstore")
}

pub(super) fn sdiffstore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    store(ctx, args, How::Diff, "sdiffstore")
}

pub(super) fn sintercard(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let keys = at_least_one(args, 1, "ERR numkeys should be greater than 0")?;
    if keys > args.len() - 2 {
        return Err(Fault::text("ERR Number of keys can't be greater than number of args"));
    }
    let mut limit = 0;
    let mut at = keys + 2;
    while at < args.len() {
        if !args.is(at, "LIMIT") || at + 1 >= args.len() {
            return Err(Fault::SYNTAX);
        }
        const NEGATIVE: Fault = Fault::text("ERR LIMIT can't be negative");
        let value = args.i64(at + 1).map_err(|_| NEGATIVE)?;
        limit = usize::try_from(value).map_err(|_| NEGATIVE)?;
        at += 2;
    }
    let records = ctx.keys.read_all(args.span(2, keys));
    let mut common = 0;
    meet(&operands(&records)?, |_| {
        common += 1;
        common != limit
    });
    ctx.reply.count(common);
    Ok(Outcome::Done)
}
