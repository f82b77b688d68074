//! Commands on one set, and SMOVE. Several sets are combined in `combine`.

use larder_protocol::reply::Reply;
use larder_store::EventClass;
use larder_store::value::Set;

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::support::{ScanOptions, bulk, positive, write_scan};

mod combine;
mod rows;

pub use rows::COMMANDS;

fn sadd(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let limits = &ctx.settings.thresholds;
    let set = ctx.keys.write_or_create::<Set>(key)?;
    let added = args.from(2).iter().filter(|member| set.insert(member, limits)).count();
    ctx.reply.count(added);
    if added > 0 {
        ctx.keys.signal(key, EventClass::Set, "sadd");
    }
    Ok(Outcome::Done)
}

fn srem(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let removed = match ctx.keys.write::<Set>(key)? {
        Some(set) => args.from(2).iter().filter(|member| set.remove(member)).count(),
        None => 0,
    };
    ctx.reply.count(removed);
    if removed > 0 {
        ctx.keys.signal(key, EventClass::Set, "srem");
        ctx.keys.remove_if_empty(key);
    }
    Ok(Outcome::Done)
}

fn scard(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let len = ctx.keys.read::<Set>(args.at(1))?.map_or(0, Set::len);
    ctx.reply.count(len);
    Ok(Outcome::Done)
}

fn sismember(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let found = ctx.keys.read::<Set>(args.at(1))?.is_some_and(|set| set.contains(args.at(2)));
    ctx.reply.integer(i64::from(found));
    Ok(Outcome::Done)
}

fn smismember(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let set = ctx.keys.read::<Set>(args.at(1))?;
    let members = args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        ctx.reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(Outcome::Done)
}

fn smembers(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    match ctx.keys.read::<Set>(args.at(1))? {
        Some(set) => show(&mut ctx.reply, set),
        None => ctx.reply.set(0),
    }
    Ok(Outcome::Done)
}

fn show(reply: &mut Reply<'_>, set: &Set) {
    reply.set(set.len());
    set.iter().for_each(|member| bulk(reply, member));
}

fn smove(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (source, destination, member) = (args.at(1), args.at(2), args.at(3));
    let limits = &ctx.settings.thresholds;
    if !ctx.keys.contains(source) {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    }
    let found = ctx.keys.peek::<Set>(source)?.is_some_and(|set| set.contains(member));
    ctx.keys.peek::<Set>(destination)?;
    ctx.reply.integer(i64::from(found));
    if !found || source == destination {
        return Ok(Outcome::Done);
    }
    if let Some(set) = ctx.keys.write::<Set>(source)? {
        set.remove(member);
    }
    ctx.keys.signal(source, EventClass::Set, "srem");
    ctx.keys.remove_if_empty(source);
    if ctx.keys.write_or_create::<Set>(destination)?.insert(member, limits) {
        ctx.keys.signal(destination, EventClass::Set, "sadd");
    }
    Ok(Outcome::Done)
}

fn spop(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    if args.len() > 3 {
        return Err(Fault::SYNTAX);
    }
    let count = if args.len() == 3 { Some(positive(args, 2)?) } else { None };
    let key = args.at(1);
    let Some(set) = ctx.keys.write::<Set>(key)? else {
        match count {
            Some(_) => ctx.reply.set(0),
            None => ctx.reply.null(),
        }
        return Ok(Outcome::Done);
    };
    let wanted = count.unwrap_or(1).min(set.len());
    if count.is_some() {
        ctx.reply.set(wanted);
    }
    let mut gone: Vec<Vec<u8>> = vec![b"SREM".to_vec(), key.to_vec()];
    for _ in 0..wanted {
        if let Some(member) = set.pop_random(ctx.rng) {
            ctx.reply.bulk(&member);
            if ctx.effects.are_wanted() {
                gone.push(member);
            }
        }
    }
    if wanted > 0 {
        ctx.keys.signal(key, EventClass::Set, "spop");
        if ctx.keys.remove_if_empty(key) && count.is_some() {
            ctx.effects.instead(&[b"DEL", key]);
        } else {
            let words: Vec<&[u8]> = gone.iter().map(Vec::as_slice).collect();
            ctx.effects.instead(&words);
        }
    }
    Ok(Outcome::Done)
}

fn srandmember(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    if args.len() > 3 {
        return Err(Fault::SYNTAX);
    }
    if args.len() == 2 {
        match ctx.keys.read::<Set>(key)?.and_then(|set| set.random(ctx.rng)) {
            Some(member) => bulk(&mut ctx.reply, member),
            None => ctx.reply.null(),
        }
        return Ok(Outcome::Done);
    }
    let count = args.i64(2)?;
    ctx.allow_draws(count)?;
    let reply_max = ctx.reply_max;
    let Some(set) = ctx.keys.read::<Set>(key)? else {
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    if count < 0 {
        let count = usize::try_from(count.unsigned_abs()).unwrap_or(0);
        ctx.reply.array(count);
        for _ in 0..count {
            if ctx.reply.len() > reply_max {
                break;
            }
            match set.random(ctx.rng) {
                Some(member) => bulk(&mut ctx.reply, member),
                None => ctx.reply.null(),
            }
        }
        return Ok(Outcome::Done);
    }
    let mut open = usize::try_from(count).unwrap_or(usize::MAX).min(set.len());
    ctx.reply.array(open);
    // Every subset of that size is equally likely: a member is taken with (open / left).
    for (seen, member) in set.iter().enumerate() {
        if open > 0 && ctx.rng.below_usize(set.len() - seen) < open {
            bulk(&mut ctx.reply, member);
            open -= 1;
        }
    }
    Ok(Outcome::Done)
}

fn sscan(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    ScanOptions::cursor(args)?;
    ctx.reply.array(2);
    let Some(set) = ctx.keys.read::<Set>(args.at(1))? else {
        ctx.reply.bulk(b"0");
        ctx.reply.array(0);
        return Ok(Outcome::Done);
    };
    let options = ScanOptions::parse(args, None)?;
    let mut shown = Vec::new();
    let mut count = 0;
    let mut inner = Reply::new(&mut shown, ctx.reply.version());
    let next = set.scan(options.cursor, options.count, |member| {
        if member.with_bytes(|bytes| options.shows(bytes)) {
            bulk(&mut inner, member);
            count += 1;
        }
    });
    write_scan(&mut ctx.reply, next, count, &shown);
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn members_and_combinations() {
        let mut bench = Bench::new();
        bench.script(&[
            ("SADD s 1 2 3 3", ":3"),
            ("SADD t 2 3 4", ":3"),
            ("SINTER s t", "*2 $1 2 $1 3"),
            ("SINTERCARD 2 s t LIMIT 1", ":1"),
            ("SDIFF s t", "*1 $1 1"),
            ("SUNIONSTORE u s t", ":4"),
            ("SINTERSTORE u s none", ":0"),
            ("EXISTS u", ":0"),
            ("SMOVE s t 1", ":1"),
            ("SMISMEMBER t 1 9", "*2 :1 :0"),
            ("SRANDMEMBER s 9223372036854775807", "*2 $1 2 $1 3"),
            ("SRANDMEMBER s -9223372036854775808", "-ERR value is out of range"),
            ("SPOP s 9", "*2 $1 2 $1 3"),
            ("SPOP s", "$-1"),
            ("SSCAN t 0 MATCH 1", "*2 $1 0 *1 $1 1"),
        ]);
    }
}
