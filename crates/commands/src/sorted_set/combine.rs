//! Unions, intersections and differences of sorted sets and sets. All operands are lent at once, so
//! nothing is copied but the result.

use std::collections::HashMap;

use larder_base::number;
use larder_store::value::{Set, SortedSet};
use larder_store::{RecordRef, Text, Thresholds};

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
            // As Redis compares them: of two zeros, or beside NaN, the first stays.
            Aggregate::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Aggregate::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// An operand: a sorted set, or a set whose members all have score 1.
enum Source<'a> {
    Sorted(&'a SortedSet),
    Plain(&'a Set),
}

impl<'a> Source<'a> {
    fn of(record: RecordRef<'a>) -> Option<Source<'a>> {
        let sorted = record.get::<SortedSet>().map(Source::Sorted);
        sorted.or_else(|| record.get::<Set>().map(Source::Plain))
    }

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

    /// Visits the members until the visitor has enough.
    fn until(&self, mut visit: impl FnMut(Text<'_>, f64) -> bool) {
        // The value only says where `all` ended.
        let _ = match self {
            Source::Sorted(sorted) => sorted.iter().all(|(member, score)| visit(member, score)),
            Source::Plain(set) => set.iter().all(|member| visit(member, 1.0)),
        };
    }

    fn for_each(&self, mut visit: impl FnMut(Text<'_>, f64)) {
        self.until(|member, score| {
            visit(member, score);
            true
        });
    }
}

/// An operand and the weight of its scores.
type Weighted<'r> = (Source<'r>, f64);

/// The keys of `numkeys key ...` from a position on.
fn keys_of<'a>(args: Args<'a>, at: usize, name: &str) -> Result<&'a [&'a [u8]], Fault> {
    let number = args.i64(at)?;
    if number < 1 {
        return Err(Fault::new(format!("ERR at least 1 input key is needed for '{name}' command")));
    }
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    if number > args.len() - at - 1 {
        return Err(Fault::SYNTAX);
    }
    Ok(args.span(at + 1, number))
}

/// The operands at the keys; `None` where there is no key.
fn operands<'r>(records: &[Option<RecordRef<'r>>]) -> Result<Vec<Option<Source<'r>>>, Fault> {
    let source = |record: &Option<RecordRef<'r>>| match record {
        Some(record) => Source::of(*record).map(Some).ok_or(Fault::WRONG_TYPE),
        None => Ok(None),
    };
    records.iter().map(source).collect()
}

/// What follows the keys.
struct Options {
    weights: Vec<f64>,
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

impl Options {
    /// Reads what follows `number` keys from a position on.
    fn parse(
        args: Args<'_>,
        mut next: usize,
        number: usize,
        allowed: Allowed,
    ) -> Result<Options, Fault> {
        let mut options = Options {
            weights: vec![1.0; number],
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        while next < args.len() {
            let left = args.len() - next;
            if allowed.weights && args.is(next, "WEIGHTS") && left > number {
                for (index, weight) in options.weights.iter_mut().enumerate() {
                    *weight = number::parse_f64(args.at(next + 1 + index))
                        .ok_or(Fault::text("ERR weight value is not a float"))?;
                }
                next += 1 + number;
            } else if allowed.weights && args.is(next, "AGGREGATE") && left > 1 {
                options.aggregate = match args.at(next + 1).to_ascii_uppercase().as_slice() {
                    b"SUM" => Aggregate::Sum,
                    b"MIN" => Aggregate::Min,
                    b"MAX" => Aggregate::Max,
                    _ => return Err(Fault::SYNTAX),
                };
                next += 2;
            } else if allowed.scores && args.is(next, "WITHSCORES") {
                options.with_scores = true;
                next += 1;
            } else if allowed.limit && args.is(next, "LIMIT") && left > 1 {
                const NEGATIVE: Fault = Fault::text("ERR LIMIT can't be negative");
                let value = args.i64(next + 1).map_err(|_| NEGATIVE)?;
                options.limit = usize::try_from(value).map_err(|_| NEGATIVE)?;
                next += 2;
            } else {
                return Err(Fault::SYNTAX);
            }
        }
        Ok(options)
    }
}

/// The smallest operand first: least to walk, and sums in the order that Redis forms them.
fn by_size<'r>(sources: Vec<Option<Source<'r>>>, weights: &[f64]) -> Vec<Option<Weighted<'r>>> {
    let pair = |(source, weight): (Option<Source<'r>>, &f64)| Some((source?, *weight));
    let mut sources: Vec<_> = sources.into_iter().zip(weights).map(pair).collect();
    sources.sort_by_key(|source| source.as_ref().map_or(0, |(source, _)| source.len()));
    sources
}

fn product(score: f64, weight: f64) -> f64 {
    Some(score * weight).filter(|product| !product.is_nan()).unwrap_or(0.0)
}

fn unite(sources: &[Option<Weighted<'_>>], aggregate: Aggregate, limits: &Thresholds) -> SortedSet {
    // Added up aside: a member would move within the order with every operand that has it.
    let mut scores: HashMap<Vec<u8>, f64> = HashMap::new();
    for (source, weight) in sources.iter().flatten() {
        source.for_each(|member, score| {
            let score = product(score, *weight);
            scores
                .entry(member.to_vec())
                .and_modify(|known| *known = aggregate.join(*known, score))
                .or_insert(score);
        });
    }
    let mut result = SortedSet::new();
    for (member, score) in scores {
        result.insert(&member, score, limits);
    }
    result
}

/// Visits the members that all operands have, until the visitor has enough.
fn meet(
    sources: Vec<Option<Weighted<'_>>>,
    aggregate: Aggregate,
    mut visit: impl FnMut(&[u8], f64) -> bool,
) {
    let Some(sources) = sources.into_iter().collect::<Option<Vec<Weighted<'_>>>>() else { return };
    let Some(((first, weight), others)) = sources.split_first() else { return };
    first.until(|member, score| {
        member.with_bytes(|bytes| {
            let joined = others.iter().try_fold(product(score, *weight), |sum, (other, weight)| {
                // Here Redis lets infinity times zero into the sum, where it makes zero.
                Some(aggregate.join(sum, other.score(bytes)? * *weight))
            });
            joined.is_none_or(|score| visit(bytes, score))
        })
    });
}

/// Visits the members of the first operand that none of the others has.
fn differ(sources: &[Option<Source<'_>>], mut visit: impl FnMut(&[u8], f64)) {
    let Some((Some(first), others)) = sources.split_first() else { return };
    first.for_each(|member, score| {
        member.with_bytes(|bytes| {
            if !others.iter().flatten().any(|other| other.score(bytes).is_some()) {
                visit(bytes, score);
            }
        });
    });
}

fn combine(
    sources: Vec<Option<Source<'_>>>,
    options: &Options,
    how: How,
    limits: &Thresholds,
) -> SortedSet {
    let mut result = SortedSet::new();
    match how {
        How::Diff => differ(&sources, |member, score| {
            result.insert(member, score, limits);
        }),
        How::Inter => {
            meet(by_size(sources, &options.weights), options.aggregate, |member, score| {
                result.insert(member, score, limits);
                true
            });
        }
        How::Union => {
            return unite(&by_size(sources, &options.weights), options.aggregate, limits);
        }
    }
    result
}

fn answer(ctx: &mut Context<'_>, args: Args<'_>, how: How, name: &str) -> Result<Outcome, Fault> {
    let allowed = Allowed { weights: how != How::Diff, scores: true, limit: false };
    let keys = keys_of(args, 1, name)?;
    let records = ctx.keys.read_all(keys);
    let sources = operands(&records)?;
    let options = Options::parse(args, 2 + keys.len(), keys.len(), allowed)?;
    // In the big form, which keeps negative zeros: so does Redis in what it does not store.
    let limits = Thresholds { zset_entries: 0, ..ctx.settings.thresholds };
    let result = combine(sources, &options, how, &limits);
    let nested = ctx.reply.is_resp3();
    let flat = options.with_scores && !nested;
    ctx.reply.array(if flat { result.len() * 2 } else { result.len() });
    for (member, score) in result.iter() {
        if options.with_scores {
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
    let keys = keys_of(args, 2, name)?;
    let records = ctx.keys.read_all(keys);
    let sources = operands(&records)?;
    let options = Options::parse(args, 3 + keys.len(), keys.len(), allowed)?;
    let limits = &ctx.settings.thresholds;
    let result = combine(sources, &options, how, &Thresholds { zset_entries: 0, ..*limits });
    let result = settled(result, limits);
    store(ctx, args.at(1), result, name);
    Ok(Outcome::Done)
}

/// A result in the form that its size asks for. It is put together in the big form, as Redis does, since
/// only that one keeps negative zeros.
fn settled(big: SortedSet, limits: &Thresholds) -> SortedSet {
    let fits = |(member, _): (Text<'_>, f64)| member.len() <= limits.zset_value;
    if big.len() > limits.zset_entries || !big.iter().all(fits) {
        return big;
    }
    let mut small = SortedSet::new();
    for (member, score) in big.iter() {
        small.insert(&member.to_vec(), score, limits);
    }
    small
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
    let keys = keys_of(args, 1, "zintercard")?;
    let records = ctx.keys.read_all(keys);
    let sources = operands(&records)?;
    let options = Options::parse(args, 2 + keys.len(), keys.len(), allowed)?;
    let mut common = 0;
    meet(by_size(sources, &options.weights), options.aggregate, |_, _| {
        common += 1;
        common != options.limit
    });
    ctx.reply.count(common);
    Ok(Outcome::Done)
}
