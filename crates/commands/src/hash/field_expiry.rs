//! Commands on the deadlines of a hash's fields. Knows no key's deadline.

use larder_base::time::Millis;
use larder_store::EventClass;
use larder_store::value::Hash;

use super::expire_fields;
use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::deadline::Clock;
use crate::fault::Fault;
use crate::support::bulk;

const FIELD_COUNT: Fault =
    Fault::text("ERR numfields should be greater than 0 and match the provided number of fields");

/// `FIELDS numfields field ...` from a position on, with `width` arguments a field.
fn fields<'b>(args: Args<'b>, at: usize, width: usize) -> Result<&'b [&'b [u8]], Fault> {
    if !args.is(at, "FIELDS") {
        return Err(Fault::SYNTAX);
    }
    let count = usize::try_from(args.i64(at + 1)?).map_err(|_| FIELD_COUNT)?;
    let named = args.from(at + 2);
    if count == 0 || count.checked_mul(width) != Some(named.len()) {
        return Err(FIELD_COUNT);
    }
    Ok(named)
}

/// The deadline named by the argument at a position, which may have passed. What is repeated is not judged by its size.
///
/// # Errors
/// No integer, a negative one, or a moment beyond what Redis can hold: it keeps deadlines of fields in 46 bits, and
/// reads no file with a later one.
fn moment(
    ctx: &Context<'_>,
    args: Args<'_>,
    at: usize,
    clock: Clock,
    name: &str,
) -> Result<Millis, Fault> {
    const LATEST: Millis = Millis((1 << 46) - 1);
    let value = args.i64(at)?;
    let fits = |when: &Millis| *when <= LATEST || !ctx.keys.deletes_due();
    let when = clock.moment(value, ctx.keys.now()).filter(fits);
    when.filter(|_| value >= 0).ok_or_else(|| Fault::expire_time(name))
}

/// When a field may get a new deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    HasNone,
    HasOne,
    Later,
    Sooner,
}

impl Condition {
    fn allows(self, old: Option<Millis>, new: Millis) -> bool {
        match self {
            Condition::Always => true,
            Condition::HasNone => old.is_none(),
            Condition::HasOne => old.is_some(),
            Condition::Later => old.is_some_and(|old| new > old),
            Condition::Sooner => old.is_none_or(|old| new < old),
        }
    }
}

fn expire(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    clock: Clock,
    name: &str,
) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let key = args.at(1);
    let now = ctx.keys.gone_by();
    let when = moment(ctx, args, 2, clock, name)?;
    let words = [
        ("NX", Condition::HasNone),
        ("XX", Condition::HasOne),
        ("GT", Condition::Later),
        ("LT", Condition::Sooner),
    ];
    let found = words.iter().find(|(word, _)| args.is(3, word)).map(|(_, condition)| *condition);
    let named = fields(args, if found.is_some() { 4 } else { 3 }, 1)?;
    let condition = found.unwrap_or(Condition::Always);
    expire_fields(ctx, key)?;
    ctx.reply.array(named.len());
    let Some(hash) = ctx.keys.write::<Hash>(key)? else {
        named.iter().for_each(|_| ctx.reply.integer(-2));
        return Ok(Outcome::Done);
    };
    let (mut dated, mut deleted): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    for field in named {
        let answer = match hash.deadline(field, now) {
            None => -2,
            Some(old) if !condition.allows(old, when) => 0,
            Some(_) if when <= now => {
                if hash.remove(field, now) {
                    deleted.push(field);
                }
                2
            }
            Some(_) => {
                hash.set_deadline(field, Some(when), now, limits);
                dated.push(field);
                1
            }
        };
        ctx.reply.integer(answer);
    }
    let (changed, removed) = (!dated.is_empty(), !deleted.is_empty());
    finish(ctx, key, changed.then_some("hexpire"), removed.then_some("hexpired"));
    repeat_dated(ctx, key, Some(when), &dated);
    repeat_removed(ctx, key, &deleted);
    Ok(Outcome::Done)
}

/// Reports what happened to a hash, and removes it if nothing is left.
fn finish(
    ctx: &mut Context<'_>,
    key: &[u8],
    changed: Option<&'static str>,
    removed: Option<&'static str>,
) {
    if changed.is_some() {
        ctx.keys.note_members(key);
    }
    match (changed, removed) {
        (Some(first), second) => {
            ctx.keys.signal(key, EventClass::Hash, first);
            if let Some(second) = second {
                ctx.keys.notify(key, EventClass::Hash, second);
            }
        }
        (None, Some(only)) => ctx.keys.signal(key, EventClass::Hash, only),
        (None, None) => return,
    }
    if removed.is_some() {
        ctx.keys.remove_if_empty(key);
    }
}

/// A copy gives these fields this deadline, or takes theirs.
fn repeat_dated(ctx: &mut Context<'_>, key: &[u8], when: Option<Millis>, fields: &[&[u8]]) {
    if fields.is_empty() || !ctx.effects.are_wanted() {
        return;
    }
    let count = fields.len().to_string();
    let text = when.map(|when| when.get().to_string());
    let mut words: Vec<&[u8]> = match &text {
        Some(text) => vec![b"HPEXPIREAT", key, text.as_bytes()],
        None => vec![b"HPERSIST", key],
    };
    words.extend([&b"FIELDS"[..], count.as_bytes()]);
    words.extend(fields);
    ctx.effects.instead(&words);
}

/// A copy deletes these fields.
fn repeat_removed(ctx: &mut Context<'_>, key: &[u8], fields: &[&[u8]]) {
    if !fields.is_empty() && ctx.effects.are_wanted() {
        let mut words: Vec<&[u8]> = vec![b"HDEL", key];
        words.extend(fields);
        ctx.effects.instead(&words);
    }
}

pub(super) fn hexpire(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    expire(ctx, args, Clock::Seconds, "hexpire")
}

pub(super) fn hpexpire(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    expire(ctx, args, Clock::Millis, "hpexpire")
}

pub(super) fn hexpireat(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    expire(ctx, args, Clock::UnixSeconds, "hexpireat")
}

pub(super) fn hpexpireat(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    expire(ctx, args, Clock::UnixMillis, "hpexpireat")
}

/// Answers for each field: -2 = no such field, -1 = no deadline, or what `show` makes of it.
fn tell(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    show: impl Fn(Millis, Millis) -> i64,
) -> Result<Outcome, Fault> {
    let named = fields(args, 2, 1)?;
    expire_fields(ctx, args.at(1))?;
    let now = ctx.keys.now();
    let hash = ctx.keys.read::<Hash>(args.at(1))?;
    ctx.reply.array(named.len());
    for field in named {
        ctx.reply.integer(match hash.and_then(|hash| hash.deadline(field, now)) {
            None => -2,
            Some(None) => -1,
            Some(Some(when)) => show(when, now),
        });
    }
    Ok(Outcome::Done)
}

fn rounded(ms: i64) -> i64 {
    ms.saturating_add(500) / 1000
}

pub(super) fn httl(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    tell(ctx, args, |when, now| rounded(when.since(now)))
}

pub(super) fn hpttl(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    tell(ctx, args, |when, now| when.since(now))
}

pub(super) fn hexpiretime(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    tell(ctx, args, |when, _| rounded(when.get()))
}

pub(super) fn hpexpiretime(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    tell(ctx, args, |when, _| when.get())
}

pub(super) fn hpersist(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let now = ctx.keys.gone_by();
    let named = fields(args, 2, 1)?;
    let key = args.at(1);
    expire_fields(ctx, key)?;
    let mut hash = ctx.keys.write::<Hash>(key)?;
    ctx.reply.array(named.len());
    let mut changed = false;
    for field in named {
        ctx.reply.integer(match hash.as_ref().and_then(|hash| hash.deadline(field, now)) {
            None => -2,
            Some(None) => -1,
            Some(Some(_)) => {
                if let Some(hash) = hash.as_mut() {
                    hash.set_deadline(field, None, now, limits);
                }
                changed = true;
                1
            }
        });
    }
    finish(ctx, key, changed.then_some("hpersist"), None);
    Ok(Outcome::Done)
}

pub(super) fn hgetdel(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let named = fields(args, 2, 1)?;
    let key = args.at(1);
    expire_fields(ctx, key)?;
    let mut hash = ctx.keys.write::<Hash>(key)?;
    ctx.reply.array(named.len());
    let mut removed: Vec<&[u8]> = Vec::new();
    for field in named {
        match hash.as_ref().and_then(|hash| hash.get(field, now)) {
            Some(value) => bulk(&mut ctx.reply, value),
            None => ctx.reply.null(),
        }
        if hash.as_mut().is_some_and(|hash| hash.remove(field, now)) {
            removed.push(field);
        }
    }
    finish(ctx, key, None, (!removed.is_empty()).then_some("hdel"));
    repeat_removed(ctx, key, &removed);
    Ok(Outcome::Done)
}

pub(super) fn hgetex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let (key, now) = (args.at(1), ctx.keys.gone_by());
    let (mut at, mut wanted) = (2, None);
    if args.is(2, "PERSIST") {
        wanted = Some(None);
        at = 3;
    } else if let Some(clock) = Clock::option(args, 2) {
        wanted = Some(Some(moment(ctx, args, 3, clock, "hgetex")?));
        at = 4;
    }
    let named = fields(args, at, 1)?;
    expire_fields(ctx, key)?;
    let mut hash = ctx.keys.write::<Hash>(key)?;
    ctx.reply.array(named.len());
    let (mut changed, mut removed) = (None, None);
    let mut touched: Vec<&[u8]> = Vec::new();
    for field in named {
        match hash.as_ref().and_then(|hash| hash.get(field, now)) {
            Some(value) => bulk(&mut ctx.reply, value),
            None => {
                ctx.reply.null();
                continue;
            }
        }
        let (Some(hash), Some(wanted)) = (hash.as_mut(), wanted) else { continue };
        match wanted {
            Some(when) if when <= now => {
                hash.remove(field, now);
                removed = Some("hexpired");
                touched.push(field);
            }
            Some(when) => {
                hash.set_deadline(field, Some(when), now, limits);
                changed = Some("hexpire");
                touched.push(field);
            }
            None if hash.deadline(field, now).flatten().is_some() => {
                hash.set_deadline(field, None, now, limits);
                changed = Some("hpersist");
                touched.push(field);
            }
            None => {}
        }
    }
    finish(ctx, key, changed, removed);
    if removed.is_some() {
        repeat_removed(ctx, key, &touched);
    } else {
        repeat_dated(ctx, key, wanted.flatten(), &touched);
    }
    Ok(Outcome::Done)
}

/// What becomes of the deadlines of fields that HSETEX sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NewDeadline {
    Drop,
    Keep,
    At(Millis),
}

pub(super) fn hsetex(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let (key, now) = (args.at(1), ctx.keys.gone_by());
    let (mut at, mut must_exist, mut when) = (2, None, NewDeadline::Drop);
    while at < args.len() && !args.is(at, "FIELDS") {
        if let Some(clock) = Clock::option(args, at).filter(|_| when == NewDeadline::Drop) {
            when = NewDeadline::At(moment(ctx, args, at + 1, clock, "hsetex")?);
            at += 1;
        } else if args.is(at, "KEEPTTL") && when == NewDeadline::Drop {
            when = NewDeadline::Keep;
        } else if args.is(at, "FNX") && must_exist.is_none() {
            must_exist = Some(false);
        } else if args.is(at, "FXX") && must_exist.is_none() {
            must_exist = Some(true);
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 1;
    }
    let pairs = fields(args, at, 2)?;
    expire_fields(ctx, key)?;
    let hash = ctx.keys.peek::<Hash>(key)?;
    let exists = |field: &[u8]| hash.is_some_and(|hash| hash.get(field, now).is_some());
    if let Some(must) = must_exist
        && !pairs.iter().step_by(2).all(|field| exists(field) == must)
    {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    }
    let hash = ctx.keys.write_or_create::<Hash>(key)?;
    for pair in pairs.chunks_exact(2) {
        let [field, value] = pair else { continue };
        let old = hash.deadline(field, now).flatten();
        hash.set(field, value, now, limits);
        match when {
            NewDeadline::At(when) if when <= now => {
                hash.remove(field, now);
            }
            NewDeadline::At(when) => {
                hash.set_deadline(field, Some(when), now, limits);
            }
            NewDeadline::Keep if old.is_some() => {
                hash.set_deadline(field, old, now, limits);
            }
            NewDeadline::Keep | NewDeadline::Drop => {}
        }
    }
    ctx.keys.note_members(key);
    ctx.keys.signal(key, EventClass::Hash, "hset");
    match when {
        NewDeadline::At(when) if when <= now => {
            ctx.keys.notify(key, EventClass::Hash, "hexpired");
            ctx.keys.remove_if_empty(key);
        }
        NewDeadline::At(_) => ctx.keys.notify(key, EventClass::Hash, "hexpire"),
        NewDeadline::Keep | NewDeadline::Drop => {}
    }
    repeat_set(ctx, key, pairs, when);
    ctx.reply.integer(1);
    Ok(Outcome::Done)
}

/// What a copy does of an HSETEX whose conditions held.
fn repeat_set(ctx: &mut Context<'_>, key: &[u8], pairs: &[&[u8]], when: NewDeadline) {
    if !ctx.effects.are_wanted() {
        return;
    }
    let count = (pairs.len() / 2).to_string();
    let text;
    let mut words: Vec<&[u8]> = vec![b"HSETEX", key];
    match when {
        NewDeadline::At(moment) if moment <= ctx.keys.gone_by() => {
            let fields: Vec<&[u8]> = pairs.iter().step_by(2).copied().collect();
            return repeat_removed(ctx, key, &fields);
        }
        NewDeadline::At(moment) => {
            text = moment.get().to_string();
            words.extend([&b"PXAT"[..], text.as_bytes()]);
        }
        NewDeadline::Keep => words.push(b"KEEPTTL"),
        NewDeadline::Drop => {}
    }
    words.extend([&b"FIELDS"[..], count.as_bytes()]);
    words.extend(pairs);
    ctx.effects.instead(&words);
}
