//! Commands on hashes. Some of the fields that are due are removed before a command looks at its hash, so that
//! a small one is clean; of a large one the sweep removes the rest, and the handlers see live fields only. See
//! `field_expiry` for the commands on deadlines of fields.

use larder_base::number::LongDouble;
use larder_protocol::reply::Reply;
use larder_store::value::Hash;
use larder_store::{EventClass, Text};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::support::{ScanOptions, bulk, write_scan};

mod field_expiry;

mod rows;

pub use rows::COMMANDS;

/// Removes fields that are due: all of them, as long as that does not hold others up.
///
/// # Errors
/// The key holds another type.
pub(crate) fn expire_fields(ctx: &mut Context<'_>, key: &[u8]) -> Result<(), Fault> {
    /// Removing so many takes a tenth of a millisecond.
    const MAX: usize = 128;
    let now = ctx.keys.gone_by();
    let deletes = ctx.keys.deletes_due();
    let Some(hash) = ctx.keys.peek::<Hash>(key)?.filter(|_| deletes) else { return Ok(()) };
    if hash.earliest_expiry().is_none_or(|when| when > now) {
        return Ok(());
    }
    let len = hash.len();
    if len > MAX && hash.live_len(now) == 0 {
        // Whatever its size, the background frees it.
        ctx.keys.remove_expired_hash(key, len);
        ctx.effects.aside(&[b"DEL", key]);
        return Ok(());
    }
    let mut gone: Vec<Vec<u8>> = Vec::new();
    let wanted = ctx.effects.are_wanted();
    let Some(hash) = ctx.keys.write::<Hash>(key)? else { return Ok(()) };
    let removed = hash.remove_expired(now, MAX, |field| {
        if wanted {
            gone.push(field.to_vec());
        }
    });
    if removed > 0 {
        ctx.keys.tally.expired_members += removed as u64;
        ctx.keys.signal(key, EventClass::Hash, "hexpired");
        ctx.keys.remove_if_empty(key);
        let mut words: Vec<&[u8]> = vec![b"HDEL", key];
        words.extend(gone.iter().map(Vec::as_slice));
        ctx.effects.aside(&words);
    }
    Ok(())
}

/// The hash at a key, to read.
fn look<'c>(ctx: &'c mut Context<'_>, key: &[u8]) -> Result<Option<&'c Hash>, Fault> {
    expire_fields(ctx, key)?;
    Ok(ctx.keys.read::<Hash>(key)?)
}

fn hget(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    expire_fields(ctx, args.at(1))?;
    match ctx.keys.read::<Hash>(args.at(1))?.and_then(|hash| hash.get(args.at(2), now)) {
        Some(value) => bulk(&mut ctx.reply, value),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn hmget(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    expire_fields(ctx, args.at(1))?;
    let hash = ctx.keys.read::<Hash>(args.at(1))?;
    let fields = args.from(2);
    ctx.reply.array(fields.len());
    for field in fields {
        match hash.and_then(|hash| hash.get(field, now)) {
            Some(value) => bulk(&mut ctx.reply, value),
            None => ctx.reply.null(),
        }
    }
    Ok(Outcome::Done)
}

fn hexists(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let found = look(ctx, args.at(1))?.is_some_and(|hash| hash.get(args.at(2), now).is_some());
    ctx.reply.integer(i64::from(found));
    Ok(Outcome::Done)
}

fn hstrlen(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let len =
        look(ctx, args.at(1))?.and_then(|hash| hash.get(args.at(2), now)).map_or(0, Text::len);
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

fn hlen(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let len = look(ctx, args.at(1))?.map_or(0, |hash| hash.live_len(now));
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

fn hgetall(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    expire_fields(ctx, args.at(1))?;
    let Some(hash) = ctx.keys.read::<Hash>(args.at(1))? else {
        ctx.reply.map(0);
        return Ok(Outcome::Done);
    };
    ctx.reply.map(hash.live_len(now));
    for (field, value) in hash.iter(now) {
        bulk(&mut ctx.reply, field);
        bulk(&mut ctx.reply, value);
    }
    Ok(Outcome::Done)
}

fn halves(ctx: &mut Context<'_>, key: &[u8], values: bool) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    expire_fields(ctx, key)?;
    let Some(hash) = ctx.keys.read::<Hash>(key)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    ctx.reply.array(hash.live_len(now));
    for (field, value) in hash.iter(now) {
        bulk(&mut ctx.reply, if values { value } else { field });
    }
    Ok(Outcome::Done)
}

fn hkeys(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    halves(ctx, args.at(1), false)
}

fn hvals(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    halves(ctx, args.at(1), true)
}

/// Sets the pairs of the arguments; how many fields are new.
fn set_pairs(ctx: &mut Context<'_>, args: Args<'_>, name: &str) -> Result<usize, Fault> {
    let limits = &ctx.settings.thresholds;
    let now = ctx.keys.gone_by();
    if args.len() % 2 == 1 {
        return Err(Fault::arity(name));
    }
    let key = args.at(1);
    expire_fields(ctx, key)?;
    let hash = ctx.keys.write_or_create::<Hash>(key)?;
    let mut created = 0;
    for pair in args.from(2).chunks_exact(2) {
        if let [field, value] = pair {
            created += usize::from(hash.set(field, value, now, limits));
        }
    }
    ctx.keys.signal(key, EventClass::Hash, "hset");
    Ok(created)
}

fn hset(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let created = set_pairs(ctx, args, "hset")?;
    ctx.reply.count(created);
    Ok(Outcome::Done)
}

fn hmset(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    set_pairs(ctx, args, "hmset")?;
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn hsetnx(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let limits = &ctx.settings.thresholds;
    let now = ctx.keys.gone_by();
    let key = args.at(1);
    let exists = look(ctx, key)?.is_some_and(|hash| hash.get(args.at(2), now).is_some());
    if !exists {
        ctx.keys.write_or_create::<Hash>(key)?.set(args.at(2), args.at(3), now, limits);
        ctx.keys.signal(key, EventClass::Hash, "hset");
    }
    ctx.reply.integer(i64::from(!exists));
    Ok(Outcome::Done)
}

fn hdel(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let key = args.at(1);
    expire_fields(ctx, key)?;
    let removed = match ctx.keys.write::<Hash>(key)? {
        Some(hash) => args.from(2).iter().filter(|field| hash.remove(field, now)).count(),
        None => 0,
    };
    if removed > 0 {
        ctx.keys.signal(key, EventClass::Hash, "hdel");
        ctx.keys.remove_if_empty(key);
    }
    ctx.reply.count(removed);
    Ok(Outcome::Done)
}

fn hincrby(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let increment = args.i64(3)?;
    let (key, field) = (args.at(1), args.at(2));
    expire_fields(ctx, key)?;
    let old = match ctx.keys.peek::<Hash>(key)?.and_then(|hash| hash.get(field, now)) {
        Some(text) => text.to_i64().ok_or(Fault::text("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = old.checked_add(increment).ok_or(Fault::OVERFLOW)?;
    let mut text = Vec::new();
    Text::Int(sum).append_to(&mut text);
    set_value(ctx, key, field, &text)?;
    ctx.keys.signal(key, EventClass::Hash, "hincrby");
    ctx.reply.integer(sum);
    Ok(Outcome::Done)
}

fn hincrbyfloat(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let increment = LongDouble::parse(args.at(3)).ok_or(Fault::NOT_FLOAT)?;
    if increment.is_infinite() {
        return Err(Fault::text("ERR value is NaN or Infinity"));
    }
    let (key, field) = (args.at(1), args.at(2));
    expire_fields(ctx, key)?;
    let mut room = Vec::new();
    let old = match ctx.keys.peek::<Hash>(key)?.and_then(|hash| hash.get(field, now)) {
        Some(text) => LongDouble::parse(text.as_bytes(&mut room))
            .ok_or(Fault::text("ERR hash value is not a float"))?,
        None => LongDouble::from_i64(0),
    };
    let sum = old.add(increment);
    if sum.is_nan() || sum.is_infinite() {
        return Err(Fault::text("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.to_text();
    set_value(ctx, key, field, &text)?;
    ctx.keys.signal(key, EventClass::Hash, "hincrbyfloat");
    if ctx.effects.are_wanted() {
        repeat_value(ctx, key, field, &text)?;
    }
    ctx.reply.bulk(&text);
    Ok(Outcome::Done)
}

/// A copy sets the sum; HSET takes the field's deadline, which HINCRBYFLOAT keeps.
fn repeat_value(ctx: &mut Context<'_>, key: &[u8], field: &[u8], text: &[u8]) -> Result<(), Fault> {
    let now = ctx.keys.gone_by();
    let deadline = ctx.keys.peek::<Hash>(key)?.and_then(|hash| hash.deadline(field, now)).flatten();
    ctx.effects.instead(&[b"HSET", key, field, text]);
    if let Some(when) = deadline {
        let when = when.get().to_string();
        ctx.effects.instead(&[b"HPEXPIREAT", key, when.as_bytes(), b"FIELDS", b"1", field]);
    }
    Ok(())
}

/// Sets a value and keeps the field's deadline.
fn set_value(ctx: &mut Context<'_>, key: &[u8], field: &[u8], value: &[u8]) -> Result<(), Fault> {
    let limits = &ctx.settings.thresholds;
    let now = ctx.keys.gone_by();
    let hash = ctx.keys.write_or_create::<Hash>(key)?;
    hash.overwrite(field, value, now, limits);
    Ok(())
}

fn hrandfield(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    let key = args.at(1);
    if args.len() == 2 {
        expire_fields(ctx, key)?;
        match ctx.keys.read::<Hash>(key)?.and_then(|hash| hash.random(ctx.rng, now)) {
            Some((field, _)) => bulk(&mut ctx.reply, field),
            None => ctx.reply.null(),
        }
        return Ok(Outcome::Done);
    }
    let count = args.i64(2)?;
    let with_values = args.len() == 4 && args.is(3, "WITHVALUES");
    if args.len() > 4 || (args.len() == 4 && !with_values) {
        return Err(Fault::SYNTAX);
    }
    ctx.allow_draws(count)?;
    let reply_max = ctx.reply_max;
    expire_fields(ctx, key)?;
    let Some(hash) = ctx.keys.read::<Hash>(key)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let mark = ctx.reply.defer();
    let pairs = ctx.reply.is_resp3();
    let mut written = 0;
    let mut show = |field: Text<'_>, value: Text<'_>| {
        if with_values && pairs {
            ctx.reply.array(2);
        }
        bulk(&mut ctx.reply, field);
        written += 1;
        if with_values {
            bulk(&mut ctx.reply, value);
            written += usize::from(!pairs);
        }
        ctx.reply.len() <= reply_max
    };
    if count < 0 {
        for _ in 0..count.unsigned_abs() {
            if let Some((field, value)) = hash.random(ctx.rng, now)
                && !show(field, value)
            {
                break;
            }
        }
    } else {
        let mut left = hash.live_len(now);
        let mut open = usize::try_from(count).unwrap_or(usize::MAX).min(left);
        for (field, value) in hash.iter(now) {
            if open > 0 && ctx.rng.below_usize(left) < open {
                show(field, value);
                open -= 1;
            }
            left = left.saturating_sub(1);
        }
    }
    ctx.reply.close_array(mark, written);
    Ok(Outcome::Done)
}

fn hscan(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.gone_by();
    ScanOptions::cursor(args)?;
    expire_fields(ctx, args.at(1))?;
    ctx.reply.array(2);
    let Some(hash) = ctx.keys.read::<Hash>(args.at(1))? else {
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let options = ScanOptions::parse(args, Some("NOVALUES"))?;
    let mut shown = Vec::new();
    let (mut room, mut count) = (Vec::new(), 0);
    let mut inner = Reply::new(&mut shown, ctx.reply.version());
    let next = hash.scan(options.cursor, options.count, now, |field, value| {
        if options.shows(field.as_bytes(&mut room)) {
            bulk(&mut inner, field);
            count += 1;
            if !options.bare {
                bulk(&mut inner, value);
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
    fn fields_are_set_read_and_removed() {
        let mut bench = Bench::new();
        bench.script(&[
            ("HSET h a 1 b 2", ":2"),
            ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
            ("HMGET h a x", "*2 $1 1 $-1"),
            ("HINCRBY h a 9223372036854775807", "-ERR increment or decrement would overflow"),
            ("HINCRBYFLOAT h a 0.5", "$3 1.5"),
            ("HINCRBY h a 1", "-ERR hash value is not an integer"),
            ("HSTRLEN h a", ":3"),
            ("HSCAN h 0 NOVALUES", "*2 $1 0 *2 $1 a $1 b"),
            ("HRANDFIELD h 9223372036854775807", "*2 $1 a $1 b"),
            ("HRANDFIELD h -9223372036854775808", "-ERR value is out of range"),
            ("HDEL h a b", ":2"),
            ("HGETALL h", "*0"),
        ]);
        assert_eq!(bench.run("HSETNX h f v"), ":1");
        bench.run("HDEL h f");
        assert_eq!(bench.events, ["hdel", "del"]);
    }

    #[test]
    fn fields_expire() {
        let mut bench = Bench::new();
        bench.script(&[
            ("HSET h a 1 b 2", ":2"),
            ("HEXPIRE h 10 FIELDS 2 a x", "*2 :1 :-2"),
            ("HEXPIRE h 5 GT FIELDS 1 a", "*1 :0"),
            ("HTTL h FIELDS 3 a b x", "*3 :10 :-1 :-2"),
            ("HPERSIST h FIELDS 1 a", "*1 :1"),
            ("HSETEX h FNX FIELDS 1 a 7", ":0"),
            ("HSETEX h PX 100 FIELDS 1 a 7", ":1"),
            ("HGETEX h EX 1 FIELDS 1 a", "*1 $1 7"),
            // As far as Redis reads deadlines of fields back.
            ("HPEXPIREAT h 70368744177663 FIELDS 1 b", "*1 :1"),
            (
                "HPEXPIREAT h 70368744177664 FIELDS 1 b",
                "-ERR invalid expire time in 'hpexpireat' command",
            ),
            (
                "HSETEX h EX 70368744177 FIELDS 1 a 7",
                "-ERR invalid expire time in 'hsetex' command",
            ),
            ("HPERSIST h FIELDS 1 b", "*1 :1"),
            // Zero has passed, as Redis 8 and Valkey 9 take it.
            ("HSETEX other EX 0 FIELDS 1 a 1", ":1"),
            ("EXISTS other", ":0"),
            ("HSET other a 1 b 2", ":2"),
            ("HGETEX other EX 0 FIELDS 1 a", "*1 $1 1"),
            ("HGETEX other PXAT 0 FIELDS 2 a b", "*2 $-1 $1 2"),
            ("HGETEX other EX -1 FIELDS 1 b", "-ERR invalid expire time in 'hgetex' command"),
            ("EXISTS other", ":0"),
        ]);
        bench.now = bench.now.saturating_add(1000);
        bench.script(&[
            ("HGET h a", "$-1"),
            ("HLEN h", ":1"),
            ("HGETDEL h FIELDS 1 b", "*1 $1 2"),
            ("EXISTS h", ":0"),
        ]);
    }

    #[test]
    fn a_command_removes_few_of_many_due_fields_and_shows_none() {
        let mut bench = Bench::new();
        for number in 0..2000 {
            let life = if number % 2 == 0 { 100 } else { 10_000 };
            bench.run(&format!("HSETEX h PX {life} FIELDS 1 f{number} v"));
        }
        bench.now = bench.now.saturating_add(1000);
        assert_eq!(bench.run("HLEN h"), ":1000");
        assert_eq!(
            bench.effects.split(' ').count(),
            2 + 128,
            "HDEL, the key and some of the fields"
        );
        assert_eq!(bench.events, ["hexpired"]);
        let all = bench.run("HGETALL h");
        assert!(all.starts_with("*2000 "));
        assert_eq!(all.matches('v').count(), 1000);
        let (keys, values) = (bench.run("HKEYS h"), bench.run("HVALS h"));
        assert!(keys.starts_with("*1000 ") && values.starts_with("*1000 "));
        assert_eq!((keys.matches('f').count(), values.matches('v').count()), (1000, 1000));
        assert_eq!(bench.run("HRANDFIELD h 5000").matches('f').count(), 1000);
        assert_eq!(bench.run("HSETNX h f1998 w"), ":1");
        assert_eq!(bench.run("HINCRBY h f1996 7"), ":7");
        assert_eq!(bench.run("HPTTL h FIELDS 3 f1994 f1996 f1999"), "*3 :-2 :-1 :9000");
        // What is left of them goes with the key.
        bench.now = bench.now.saturating_add(10_000);
        bench.run("HDEL h f1998 f1996");
        assert_eq!(bench.run("HGET h f1"), "$-1");
        assert_eq!(
            (bench.effects.as_str(), &bench.events[..]),
            ("DEL h", &["hexpired", "del"][..])
        );
        assert_eq!(bench.run("EXISTS h"), ":0");
    }

    #[test]
    fn a_random_field_is_found_among_many_that_are_due() {
        let mut bench = Bench::new();
        for number in 0..5000 {
            bench.run(&format!("HSETEX h PX 100 FIELDS 1 f{number} v"));
        }
        bench.run("HSETEX h PX 5000 FIELDS 1 live v");
        bench.now = bench.now.saturating_add(1000);
        assert_eq!(bench.run("HRANDFIELD h"), "$4 live");
        assert_eq!(bench.run("HRANDFIELD h -2"), "*2 $4 live $4 live");
    }

    #[test]
    fn a_copy_that_only_follows_removes_nothing_of_itself() {
        let mut bench = Bench::new();
        bench.script(&[("HSET h a 1 b 2", ":2"), ("HPEXPIRE h 10 FIELDS 1 a", "*1 :1")]);
        bench.now = bench.now.saturating_add(1000);
        bench.keyspace.set_passive(true);
        bench.script(&[("HLEN h", ":1"), ("HGETALL h", "*2 $1 b $1 2"), ("HRANDFIELD h", "$1 b")]);
        assert_eq!((bench.effects.as_str(), bench.events.len()), ("", 0));
        bench.keyspace.set_passive(false);
        assert_eq!(bench.run("HLEN h"), ":1");
        assert_eq!((bench.effects.as_str(), &bench.events[..]), ("HDEL h a", &["hexpired"][..]));
    }
}
