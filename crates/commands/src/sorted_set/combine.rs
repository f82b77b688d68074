//! Unions, intersections and differences of sorted sets and sets. A view lends one key at a time, so
//! the members of one operand are copied and the others are looked up in their turn.

use std::collections::HashMap;

use larder_base::number;
use larder_store::value::{Set, SortedSet};
use larder_store::{Kind, Text};

use super::pair;
use super::ranges::store;
use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::support::bulk;

/// How operands are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Union,
    Inter,
    Diff,
}

/// How the scores of one member are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            // Opposite infinities cancel out.
            Aggregate::Sum => Some(a + b).filter(|sum| !sum.is_nan()).unwrap_or(0.0),
            Aggregate::Min => a.min(b),
            Aggregate::Max => a.max(b),
        }
    }
}

/// An operand: a sorted set, or a set whose members all have score 1.
enum Source<'a> {
    Sorted(&'a SortedSet),
    Plain(&'a Set),
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::Sorted(sorted) => sorted.len(),
            Source::Plain(set) => set.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Sorted(sorted) => sorted.score(member),
            Source::Plain(set) => set.contains(member).then_some(1.0),
        }
    }

    fn for_each(&self, mut visit: impl FnMut(Text<'_>, f64)) {
        match self {
            Source::Sorted(sorted) => {
                sorted.iter().for_each(|(member, score)| visit(member, score));
            }
            Source::Plain(set) => set.iter().for_each(|member| visit(member, 1.0)),
        }
    }
}

/// The operand at a key.
fn source<'c>(ctx: &'c mut Context<'_>, key: &[u8]) -> Result<Option<Source<'c>>, Fault> {
    Ok(match ctx.keys.read_kind(key) {
        None => None,
        Some(Kind::Set) => ctx.keys.peek::<Set>(key)?.map(Source::Plain),
        Some(Kind::SortedSet) => ctx.keys.peek::<SortedSet>(key)?.map(Source::Sorted),
        Some(_) => return Err(Fault::WRONG_TYPE),
    })
}

/// The operands and options of one command.
struct Query<'a> {
    keys: Vec<(&'a [u8], f64, usize)>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

/// What a command allows beside its keys.
#[derive(Clone, Copy)]
struct Allowed {
    weights: bool,
    scores: bool,
    limit: bool,
}

impl<'a> Query<'a> {
    /// Reads `numkeys key ... [options]` from a position on; the types of the keys are checked before
    /// the options are.
    fn parse(
        ctx: &mut Context<'_>,
        args: Args<'a>,
        at: usize,
        name: &str,
        allowed: Allowed,
    ) -> Result<Query<'a>, Fault> {
        let number = args.i64(at)?;
        if number < 1 {
            return Err(Fault::new(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if number > args.len() - at - 1 {
            return Err(Fault::SYNTAX);
        }
        let mut keys = Vec::with_capacity(number);
        for key in args.span(at + 1, number) {
            let len = source(ctx, key)?.map_or(0, |source| source.len());
            keys.push((*key, 1.0, len));
        }
        let mut query = Query { keys, aggregate: Aggregate::Sum, with_scores: false, limit: 0 };
        let mut next = at + 1 + number;
        while next < args.len() {
            let left = args.len() - next;
            if allowed.weights && args.is(next, "WEIGHTS") && left > number {
                for (index, operand) in query.keys.iter_mut().enumerate() {
                    operand.1 = number::parse_f64(args.at(next + 1 + index))
                        .ok_or(Fault::text("ERR weight value is not a float"))?;
                }
                next += 1 + number;
            } else if allowed.weights && args.is(next, "AGGREGATE") && left > 1 {
                query.aggregate = match args.at(next + 1).to_ascii_uppercase().as_slice() {
                    b"SUM" => Aggregate::Sum,
                    b"MIN" => Aggregate::Min,
                    b"MAX" => Aggregate::Max,
                    _ => return Err(Fault::SYNTAX),
                };
                next += 2;
            } else if allowed.scores && args.is(next, "WITHSCORES") {
                query.with_scores = true;
                next += 1;
            } else if allowed.limit && args.is(next, "LIMIT") && left > 1 {
                const NEGATIVE: Fault = Fault::text("ERR LIMIT can't be negative");
                let value = args.i64(next + 1).map_err(|_| NEGATIVE)?;
                query.limit = usize::try_from(value).map_err(|_| NEGATIVE)?;
                next += 2;
            } else {
                return Err(Fault::SYNTAX);
            }
        }
        Ok(query)
    }

    /// The members of the result with their scores.
    fn run(&mut self, ctx: &mut Context<'_>, how: How) -> Result<HashMap<Vec<u8>, f64>, Fault> {
        let mut result = HashMap::new();
        if how != How::Diff {
            // The smallest operand first: least to copy, and sums in the order that Redis forms them.
            self.keys.sort_by_key(|(_, _, len)| *len);
        }
        for (index, (key, weight, _)) in self.keys.iter().enumerate() {
            let weighted = |score: f64| {
                let product = if how == How::Diff { score } else { score * weight };
                if product.is_nan() { 0.0 } else { product }
            };
            let operand = source(ctx, key)?;
            if index == 0 || how == How::Union {
                let Some(operand) = operand else { continue };
                operand.for_each(|member, score| {
                    let score = weighted(score);
                    let aggregate = self.aggregate;
                    result
                        .entry(member.to_vec())
                        .and_modify(|known| *known = aggregate.join(*known, score))
                        .or_insert(score);
                });
            } else if how == How::Inter {
                let Some(operand) = operand else { return Ok(HashMap::new()) };
                result.retain(|member, known| match operand.score(member) {
                    Some(score) => {
                        *known = self.aggregate.join(*known, weighted(score));
                        true
                    }
                    None => false,
                });
            } else if let Some(operand) = operand {
                result.retain(|member, _| operand.score(member).is_none());
            }
        }
        Ok(result)
    }
}

/// The result in order.
fn sorted(ctx: &Context<'_>, members: &HashMap<Vec<u8>, f64>) -> SortedSet {
    let mut result = SortedSet::new();
    for (member, score) in members {
        result.insert(member, *score, &ctx.settings.thresholds);
    }
    result
}

fn answer(ctx: &mut Context<'_>, args: Args<'_>, how: How, name: &str) -> Result<Outcome, Fault> {
    let allowed = Allowed { weights: how != How::Diff, scores: true, limit: false };
    let mut query = Query::parse(ctx, args, 1, name, allowed)?;
    let members = query.run(ctx, how)?;
    let result = sorted(ctx, &members);
    let nested = ctx.reply.is_resp3();
    let flat = query.with_scores && !nested;
    ctx.reply.array(if flat { result.len() * 2 } else { result.len() });
    for (member, score) in result.iter() {
        if query.with_scores {
            pair(&mut ctx.reply, member, score, nested);
        } else {
            bulk(&mut ctx.reply, member);
        }
    }
    Ok(Outcome::Done)
}

fn keep(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    how: How,
    name: &'static str,
) -> Result<Outcome, Fault> {
    let allowed = Allowed { weights: how != How::Diff, scores: false, limit: false };
    let mut query = Query::parse(ctx, args, 2, name, allowed)?;
    let members = query.run(ctx, how)?;
    let result = sorted(ctx, &members);
    store(ctx, args.at(1), result, name);
    Ok(Outcome::Done)
}

pub(super) fn zunion(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer(ctx, args, How::Union, "zunion")
}

pub(super) fn zinter(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer(ctx, args, How::Inter, "zinter")
}

pub(super) fn zdiff(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    answer(ctx, args, How::Diff, "zdiff")
}

pub(super) fn zunionstore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    keep(ctx, args, How::Union, "zunionstore")
}

pub(super) fn zinterstore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    keep(ctx, args, How::Inter, "zinterstore")
}

pub(super) fn zdiffstore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    keep(ctx, args, How::Diff, "zdiffstore")
}

pub(super) fn zintercard(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let allowed = Allowed { weights: false, scores: false, limit: true };
    let mut query = Query::parse(ctx, args, 1, "zintercard", allowed)?;
    let common = query.run(ctx, How::Inter)?.len();
    ctx.reply.count(if query.limit == 0 { common } else { common.min(query.limit) });
    Ok(Outcome::Done)
}
