//! Commands on keys of any type.

use larder_base::glob;
use larder_base::number;
use larder_store::{EventClass, Kind};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::deadline::Clock;
use crate::fault::Fault;
use crate::table::{Command, Flags, Group, Handler, KeySpec};

const RO: &[KeySpec] = &[KeySpec::one(1, "RO")];
const RW: &[KeySpec] = &[KeySpec::one(1, "RW update")];
const READ: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE.or(Flags::FAST);
const WHOLE: Flags = Flags::READONLY.or(Flags::WHOLE_KEYSPACE);

const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: &'static [KeySpec],
    handler: Handler,
) -> Command {
    Command { name, arity, flags, keys, ..Command::data(Group::Generic, handler) }
}

const EXPIRE: &str = "key seconds [NX | XX | GT | LT]";
const DELETE_KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1, "RM delete")];
const RENAME_KEYS: &[KeySpec] =
    &[KeySpec::one(1, "RW access delete"), KeySpec::one(2, "OW update")];

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command {
        summary: "Removes keys.",
        complexity: "O(N) where N is the number of keys that will be removed.",
        usage: "key [key ...]",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..row("del", -2, Flags::WRITE, DELETE_KEYS, del)
    },
    Command {
        summary: "Removes keys; big values are freed in the background.",
        since: "4.0.0",
        usage: "key [key ...]",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..row("unlink", -2, WRITE, DELETE_KEYS, del)
    },
    Command {
        summary: "How many of the keys are there.",
        complexity: "O(N) where N is the number of keys to check.",
        usage: "key [key ...]",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..row("exists", -2, READ, &[KeySpec::range(1, -1, 1, "RO")], exists)
    },
    Command {
        summary: "Marks keys as used, and counts those that are there.",
        since: "3.2.1",
        complexity: "O(N) where N is the number of keys.",
        usage: "key [key ...]",
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..row("touch", -2, READ, &[KeySpec::range(1, -1, 1, "RO")], exists)
    },
    Command { summary: "The type of a key.", usage: "key", ..row("type", 2, READ, RO, kind) },
    Command {
        summary: "Sets a key's time to live in seconds.",
        usage: EXPIRE,
        ..row("expire", -3, WRITE, RW, |ctx, args| expire_at(ctx, args, Clock::Seconds, "expire"))
    },
    Command {
        summary: "Sets a key's time to live in milliseconds.",
        since: "2.6.0",
        usage: "key milliseconds [NX | XX | GT | LT]",
        ..row("pexpire", -3, WRITE, RW, |ctx, args| expire_at(ctx, args, Clock::Millis, "pexpire"))
    },
    Command {
        summary: "Sets the second at which a key expires.",
        since: "1.2.0",
        usage: "key unix-time-seconds [NX | XX | GT | LT]",
        ..row("expireat", -3, WRITE, RW, |ctx, args| {
            expire_at(ctx, args, Clock::UnixSeconds, "expireat")
        })
    },
    Command {
        summary: "Sets the millisecond at which a key expires.",
        since: "2.6.0",
        usage: "key unix-time-milliseconds [NX | XX | GT | LT]",
        ..row("pexpireat", -3, WRITE, RW, |ctx, args| {
            expire_at(ctx, args, Clock::UnixMillis, "pexpireat")
        })
    },
    Command {
        summary: "Seconds that a key has left to live.",
        usage: "key",
        tips: &["nondeterministic_output"],
        ..row("ttl", 2, READ, &[KeySpec::one(1, "RO access")], |ctx, args| {
            left(ctx, args, |when, now| when.saturating_sub(now).max(0).saturating_add(500) / 1000)
        })
    },
    Command {
        summary: "Milliseconds that a key has left to live.",
        since: "2.6.0",
        usage: "key",
        tips: &["nondeterministic_output"],
        ..row("pttl", 2, READ, &[KeySpec::one(1, "RO access")], |ctx, args| {
            left(ctx, args, |when, now| when.saturating_sub(now).max(0))
        })
    },
    Command {
        summary: "The second at which a key expires.",
        since: "7.0.0",
        usage: "key",
        ..row("expiretime", 2, READ, &[KeySpec::one(1, "RO access")], |ctx, args| {
            left(ctx, args, |when, _| when.saturating_add(500) / 1000)
        })
    },
    Command {
        summary: "The millisecond at which a key expires.",
        since: "7.0.0",
        usage: "key",
        ..row("pexpiretime", 2, READ, &[KeySpec::one(1, "RO access")], |ctx, args| {
            left(ctx, args, |when, _| when)
        })
    },
    Command {
        summary: "Lets a key live for ever.",
        since: "2.2.0",
        usage: "key",
        ..row("persist", 2, WRITE, RW, persist)
    },
    Command {
        summary: "Gives a key another name.",
        usage: "key newkey",
        ..row("rename", 3, Flags::WRITE, RENAME_KEYS, |ctx, args| rename(ctx, args, false))
    },
    Command {
        summary: "Gives a key another name that is not taken yet.",
        usage: "key newkey",
        ..row(
            "renamenx",
            3,
            WRITE,
            &[KeySpec::one(1, "RW access delete"), KeySpec::one(2, "OW insert")],
            |ctx, args| rename(ctx, args, true),
        )
    },
    Command {
        summary: "All keys that match a pattern.",
        categories: &["@dangerous"],
        complexity: "O(N) with N being the number of keys in the database.",
        usage: "pattern",
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        ..row("keys", 2, WHOLE, &[], keys)
    },
    Command {
        summary: "A random key.",
        usage: "",
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        ..row("randomkey", 1, WHOLE, &[], random_key)
    },
    Command {
        summary: "Walks through the keys, a part at a time.",
        since: "2.8.0",
        complexity: "O(1) for every call. O(N) for a complete iteration.",
        usage: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        tips: &["nondeterministic_output", "request_policy:special"],
        ..row("scan", -2, WHOLE, &[], scan)
    },
    Command {
        summary: "How a value is kept.",
        since: "2.2.3",
        complexity: "Depends on subcommand.",
        subcommands: OBJECT,
        ..row("object", -2, Flags(0), &[], object)
    },
];

const OBJECT_BASE: Command = Command {
    arity: 3,
    flags: Flags::READONLY,
    keys: &[KeySpec::one(2, "RO")],
    usage: "key",
    since: "2.2.3",
    tips: &["nondeterministic_output"],
    ..Command::data(Group::Generic, object)
};

const OBJECT: &[Command] = &[
    Command { name: "encoding", summary: "The form of a value.", ..OBJECT_BASE },
    Command { name: "refcount", summary: "Always 1: values are not shared.", ..OBJECT_BASE },
    Command { name: "idletime", summary: "Seconds since the last use.", ..OBJECT_BASE },
    Command { name: "freq", since: "4.0.0", summary: "How often it is used.", ..OBJECT_BASE },
];

fn del(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let mut count = 0;
    for key in args.from(1) {
        if ctx.keys.remove(key) {
            ctx.keys.signal(key, EventClass::Generic, "del");
            count += 1;
        }
    }
    ctx.reply.integer(count);
    Ok(Outcome::Done)
}

fn exists(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let count = args.from(1).iter().filter(|key| ctx.keys.read_kind(key).is_some()).count();
    ctx.reply.count(count);
    Ok(Outcome::Done)
}

fn kind(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let kind = ctx.keys.record(args.at(1)).map(|record| record.kind());
    ctx.reply.simple(kind.map_or("none", Kind::name));
    Ok(Outcome::Done)
}

/// The conditions of EXPIRE and its kin.
#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

fn conditions(args: Args<'_>) -> Result<Conditions, Fault> {
    let mut found = Conditions::default();
    for at in 3..args.len() {
        if args.is(at, "NX") {
            found.nx = true;
        } else if args.is(at, "XX") {
            found.xx = true;
        } else if args.is(at, "GT") {
            found.gt = true;
        } else if args.is(at, "LT") {
            found.lt = true;
        } else {
            let option = String::from_utf8_lossy(args.at(at)).into_owned();
            return Err(Fault::new(format!("ERR Unsupported option {option}")));
        }
    }
    if found.nx && (found.xx || found.gt || found.lt) {
        return Err(Fault::text(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if found.gt && found.lt {
        return Err(Fault::text("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(found)
}

fn expire_at(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    clock: Clock,
    name: &str,
) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let wanted = conditions(args)?;
    let number = args.i64(2)?;
    let when = clock.moment(number, ctx.keys.now()).ok_or_else(|| Fault::expire_time(name))?;
    let Some(old) = ctx.keys.deadline(key) else {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    };
    // No deadline counts as infinitely far away.
    let refused = (wanted.nx && old.is_some())
        || (wanted.xx && old.is_none())
        || (wanted.gt && old.is_none_or(|old| when <= old))
        || (wanted.lt && old.is_some_and(|old| when >= old));
    if !refused {
        if when <= ctx.keys.now() {
            // In the past: as a deletion.
            ctx.keys.remove(key);
            ctx.keys.signal(key, EventClass::Generic, "del");
        } else {
            ctx.keys.set_deadline(key, Some(when));
            ctx.keys.signal(key, EventClass::Generic, "expire");
        }
    }
    ctx.reply.integer((!refused).into());
    Ok(Outcome::Done)
}

fn left(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    value: impl FnOnce(i64, i64) -> i64,
) -> Result<Outcome, Fault> {
    let now = ctx.keys.now();
    let answer = match ctx.keys.deadline(args.at(1)) {
        None => -2,
        Some(None) => -1,
        Some(Some(when)) => value(when.0, now.0),
    };
    ctx.reply.integer(answer);
    Ok(Outcome::Done)
}

fn persist(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let had = ctx.keys.deadline(key).flatten().is_some();
    if had {
        ctx.keys.set_deadline(key, None);
        ctx.keys.signal(key, EventClass::Generic, "persist");
    }
    ctx.reply.integer(had.into());
    Ok(Outcome::Done)
}

fn rename(ctx: &mut Context<'_>, args: Args<'_>, only_new: bool) -> Result<Outcome, Fault> {
    let (from, to) = (args.at(1), args.at(2));
    if !ctx.keys.contains(from) {
        return Err(Fault::NO_SUCH_KEY);
    }
    let taken = ctx.keys.contains(to);
    if only_new && (taken || from == to) {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    }
    if from != to
        && let Some(record) = ctx.keys.take_record(from)
    {
        ctx.keys.put_record(record.with_key(to));
        ctx.keys.signal(from, EventClass::Generic, "rename_from");
        ctx.keys.signal(to, EventClass::Generic, "rename_to");
    }
    if only_new {
        ctx.reply.integer(1)
    } else {
        ctx.reply.ok()
    }
    Ok(Outcome::Done)
}

fn matches(pattern: Option<&[u8]>, key: &[u8]) -> bool {
    pattern.is_none_or(|pattern| pattern == b"*" || glob::matches(pattern, key))
}

fn keys(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let pattern = args.get(1);
    let mark = ctx.reply.defer();
    let mut count = 0;
    let reply = &mut ctx.reply;
    ctx.keys.for_each_key(|key, _| {
        if matches(pattern, key) {
            reply.bulk(key);
            count += 1;
        }
    });
    ctx.reply.close_array(mark, count);
    Ok(Outcome::Done)
}

fn random_key(ctx: &mut Context<'_>, _: Args<'_>) -> Result<Outcome, Fault> {
    match ctx.keys.random_key(ctx.rng) {
        Some(key) => ctx.reply.bulk(&key),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn scan(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let cursor = number::parse_u64(args.at(1)).ok_or(Fault::text("ERR invalid cursor"))?;
    let (mut pattern, mut count, mut wanted) = (None, 10usize, None);
    let mut at = 2;
    while at < args.len() {
        if at + 1 >= args.len() {
            return Err(Fault::SYNTAX);
        }
        if args.is(at, "COUNT") {
            let number = args.i64(at + 1)?;
            count = usize::try_from(number).ok().filter(|n| *n > 0).ok_or(Fault::SYNTAX)?;
        } else if args.is(at, "MATCH") {
            pattern = args.get(at + 1);
        } else if args.is(at, "TYPE") {
            wanted = args.get(at + 1);
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 2;
    }
    let (mut found, mut number) = (Vec::new(), 0usize);
    let mut reply = larder_protocol::reply::Reply::new(&mut found, ctx.reply.version());
    let next = ctx.keys.scan(cursor, count, |key, record| {
        let fits =
            wanted.is_none_or(|name| name.eq_ignore_ascii_case(record.kind().name().as_bytes()));
        if fits && matches(pattern, key) {
            reply.bulk(key);
            number += 1;
        }
    });
    ctx.reply.array(2);
    ctx.reply.bulk(next.to_string().as_bytes());
    ctx.reply.array(number);
    ctx.reply.raw(&found);
    Ok(Outcome::Done)
}

fn object(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let name = String::from_utf8_lossy(args.at(1)).to_ascii_lowercase();
    let Some(row) = OBJECT.iter().find(|row| row.name == name) else {
        let sub = String::from_utf8_lossy(args.at(1)).into_owned();
        return Err(Fault::new(format!("ERR unknown subcommand '{sub}'. Try OBJECT HELP.")));
    };
    if !row.fits(args.len()) {
        return Err(Fault::arity(&format!("object|{name}")));
    }
    let (now, settings) = (ctx.keys.now(), ctx.settings);
    let Some(record) = ctx.keys.record(args.at(2)) else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    match row.name {
        "encoding" => ctx.reply.bulk(record.encoding_name().as_bytes()),
        "refcount" => ctx.reply.integer(1),
        "idletime" => {
            let idle = settings.eviction_bits.idle_ms(record.eviction_bits(), now) / 1000;
            ctx.reply.integer(i64::try_from(idle).unwrap_or(i64::MAX));
        }
        _ => {
            return Err(Fault::text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
                 note that when switching between policies at runtime LRU and LFU data will take \
                 some time to adjust.",
            ));
        }
    }
    Ok(Outcome::Done)
}
