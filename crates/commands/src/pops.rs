//! Taking from the first of several keys that has anything, waiting if none has: what lists and sorted
//! sets have in common. Who waits and who is served is the server's matter. Knows neither type.

use std::ops::Range;

use larder_protocol::reply::Reply;
use larder_store::{EventClass, Thresholds, Typed};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::support::{at_least_one, timeout, wait};

/// A collection with two ends to take from.
pub(crate) trait Ends: Typed {
    /// One of them.
    type End: Copy;
    /// The class of its notifications.
    const CLASS: EventClass;
    /// Parts of the reply for one element taken from a key, the key included.
    const PARTS: usize;

    /// Reads the name of an end.
    fn end(args: Args<'_>, at: usize) -> Result<Self::End, Fault>;

    /// The command that takes from an end of one key: the event, and what a copy of the data repeats.
    fn command(end: Self::End) -> &'static str;

    /// How much there is to take.
    fn count(&self) -> usize;

    /// Writes so many elements, at most as many as there are, and removes them. `nested`: elements of
    /// several parts are arrays.
    fn take(
        &mut self,
        reply: &mut Reply<'_>,
        end: Self::End,
        count: usize,
        nested: bool,
        limits: &Thresholds,
    );
}

/// Reports that elements were taken from a key.
pub(crate) fn taken<T: Ends>(ctx: &mut Context<'_>, key: &[u8], end: T::End) {
    ctx.keys.signal(key, T::CLASS, T::command(end));
    ctx.keys.remove_if_empty(key);
}

/// Takes from the first key that has anything: one element beside the key's name (`count` = `None`), or
/// up to so many in an array. False if no key has.
fn take_first<T: Ends>(
    ctx: &mut Context<'_>,
    keys: &[&[u8]],
    end: T::End,
    count: Option<usize>,
) -> Result<bool, Fault> {
    let limits = &ctx.settings.thresholds;
    for key in keys {
        if ctx.ready.is_some_and(|ready| ready != *key) {
            continue;
        }
        match ctx.keys.peek::<T>(key) {
            Ok(found) if found.is_none_or(Typed::is_empty) => continue,
            Ok(_) => {}
            // Who waits already is blind to keys of other types.
            Err(_) if ctx.ready.is_some() => continue,
            Err(wrong) => return Err(wrong.into()),
        }
        let Some(found) = ctx.keys.write::<T>(key)? else { continue };
        let wanted = count.map(|count| count.min(found.count()));
        ctx.reply.array(if wanted.is_some() { 2 } else { T::PARTS });
        ctx.reply.bulk(key);
        if let Some(wanted) = wanted {
            ctx.reply.array(wanted);
        }
        found.take(&mut ctx.reply, end, wanted.unwrap_or(1), wanted.is_some(), limits);
        taken::<T>(ctx, key, end);
        repeat::<T>(ctx, key, end, wanted);
        return Ok(true);
    }
    Ok(false)
}

/// A copy takes from the key that was found, without waiting.
fn repeat<T: Ends>(ctx: &mut Context<'_>, key: &[u8], end: T::End, count: Option<usize>) {
    if ctx.effects.are_wanted() {
        let name = T::command(end).to_ascii_uppercase();
        match count {
            Some(count) => {
                ctx.effects.instead(&[name.as_bytes(), key, count.to_string().as_bytes()]);
            }
            None => ctx.effects.instead(&[name.as_bytes(), key]),
        }
    }
}

/// `key [key ...] timeout`: BLPOP and its kin.
pub(crate) fn blocking_pop<T: Ends>(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    end: T::End,
) -> Result<Outcome, Fault> {
    let last = args.len() - 1;
    let timeout_ms = timeout(args, last)?;
    if take_first::<T>(ctx, args.span(1, last - 1), end, None)? {
        return Ok(Outcome::Done);
    }
    Ok(wait(ctx, 1..last, T::KIND, timeout_ms))
}

/// `numkeys key [key ...] <end> [COUNT count]` from a position on.
fn parse<T: Ends>(args: Args<'_>, at: usize) -> Result<(Range<usize>, T::End, usize), Fault> {
    let keys = at_least_one(args, at, "ERR numkeys should be greater than 0")?;
    let after = at.saturating_add(1).saturating_add(keys);
    let end = T::end(args, after)?;
    let mut count = None;
    let mut next = after + 1;
    while next < args.len() {
        if count.is_some() || !args.is(next, "COUNT") || next + 1 >= args.len() {
            return Err(Fault::SYNTAX);
        }
        count = Some(at_least_one(args, next + 1, "ERR count should be greater than 0")?);
        next += 2;
    }
    Ok((at + 1..after, end, count.unwrap_or(1)))
}

/// LMPOP and its kin.
pub(crate) fn pop_many<T: Ends>(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (keys, end, count) = parse::<T>(args, 1)?;
    if !take_first::<T>(ctx, args.span(keys.start, keys.len()), end, Some(count))? {
        ctx.reply.null_array();
    }
    Ok(Outcome::Done)
}

/// BLMPOP and its kin.
pub(crate) fn blocking_pop_many<T: Ends>(
    ctx: &mut Context<'_>,
    args: Args<'_>,
) -> Result<Outcome, Fault> {
    let (keys, end, count) = parse::<T>(args, 2)?;
    let timeout_ms = timeout(args, 1)?;
    if take_first::<T>(ctx, args.span(keys.start, keys.len()), end, Some(count))? {
        return Ok(Outcome::Done);
    }
    Ok(wait(ctx, keys, T::KIND, timeout_ms))
}
