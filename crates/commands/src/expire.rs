//! When keys expire: setting, asking, taking back. Knows nothing of how due keys are found.

use larder_base::time::Millis;
use larder_store::EventClass;

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::deadline::Clock;
use crate::fault::Fault;
use crate::table::{Command, Flags, Group, KeySpec};

const READ_FAST: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.or(Flags::FAST);
const UPDATE: &[KeySpec] = &[KeySpec::one(1, "RW update")];
const ACCESS: &[KeySpec] = &[KeySpec::one(1, "RO access")];

/// The commands on deadlines.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "expire",
        arity: -3,
        flags: WRITE_FAST,
        keys: UPDATE,
        summary: "Lets a key expire after some seconds.",
        usage: "key seconds [NX | XX | GT | LT]",
        ..Command::data(Group::Generic, expire)
    },
    Command {
        name: "expireat",
        arity: -3,
        flags: WRITE_FAST,
        keys: UPDATE,
        since: "1.2.0",
        summary: "Lets a key expire at a moment given in Unix seconds.",
        usage: "key unix-time-seconds [NX | XX | GT | LT]",
        ..Command::data(Group::Generic, expireat)
    },
    Command {
        name: "expiretime",
        arity: 2,
        flags: READ_FAST,
        keys: ACCESS,
        since: "7.0.0",
        summary: "Answers when a key expires, in Unix seconds.",
        usage: "key",
        ..Command::data(Group::Generic, expiretime)
    },
    Command {
        name: "persist",
        arity: 2,
        flags: WRITE_FAST,
        keys: UPDATE,
        since: "2.2.0",
        summary: "Takes a key's time to expire away.",
        usage: "key",
        ..Command::data(Group::Generic, persist)
    },
    Command {
        name: "pexpire",
        arity: -3,
        flags: WRITE_FAST,
        keys: UPDATE,
        since: "2.6.0",
        summary: "Lets a key expire after some milliseconds.",
        usage: "key milliseconds [NX | XX | GT | LT]",
        ..Command::data(Group::Generic, pexpire)
    },
    Command {
        name: "pexpireat",
        arity: -3,
        flags: WRITE_FAST,
        keys: UPDATE,
        since: "2.6.0",
        summary: "Lets a key expire at a moment given in Unix milliseconds.",
        usage: "key unix-time-milliseconds [NX | XX | GT | LT]",
        ..Command::data(Group::Generic, pexpireat)
    },
    Command {
        name: "pexpiretime",
        arity: 2,
        flags: READ_FAST,
        keys: ACCESS,
        since: "7.0.0",
        summary: "Answers when a key expires, in Unix milliseconds.",
        usage: "key",
        ..Command::data(Group::Generic, pexpiretime)
    },
    Command {
        name: "pttl",
        arity: 2,
        flags: READ_FAST,
        keys: ACCESS,
        since: "2.6.0",
        summary: "Answers how many milliseconds a key has to live.",
        usage: "key",
        tips: &["nondeterministic_output"],
        ..Command::data(Group::Generic, pttl)
    },
    Command {
        name: "ttl",
        arity: 2,
        flags: READ_FAST,
        keys: ACCESS,
        summary: "Answers how many seconds a key has to live.",
        usage: "key",
        tips: &["nondeterministic_output"],
        ..Command::data(Group::Generic, ttl)
    },
];

#[derive(Default)]
struct Conditions {
    absent: bool,
    present: bool,
    greater: bool,
    less: bool,
}

impl Conditions {
    fn parse(args: Args<'_>) -> Result<Conditions, Fault> {
        let mut all = Conditions::default();
        for at in 3..args.len() {
            let flag = match () {
                () if args.is(at, "NX") => &mut all.absent,
                () if args.is(at, "XX") => &mut all.present,
                () if args.is(at, "GT") => &mut all.greater,
                () if args.is(at, "LT") => &mut all.less,
                () => {
                    let word = String::from_utf8_lossy(args.at(at)).into_owned();
                    return Err(Fault::new(format!("ERR Unsupported option {word}")));
                }
            };
            *flag = true;
        }
        if all.absent && (all.present || all.greater || all.less) {
            return Err(Fault::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if all.greater && all.less {
            return Err(Fault::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(all)
    }

    /// No deadline counts as one infinitely far away.
    fn hold(&self, old: Option<Millis>, new: Millis) -> bool {
        !(self.absent && old.is_some()
            || self.present && old.is_none()
            || self.greater && old.is_none_or(|old| new <= old)
            || self.less && old.is_some_and(|old| new >= old))
    }
}

fn set_deadline(
    ctx: &mut Context<'_>,
    args: Args<'_>,
    clock: Clock,
    name: &str,
) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let conditions = Conditions::parse(args)?;
    let value = args.i64(2)?;
    let now = ctx.keys.now();
    let when = clock.moment(value, now).ok_or_else(|| Fault::expire_time(name))?;
    let Some(old) = ctx.keys.deadline(key) else {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    };
    let holds = conditions.hold(old, when);
    if holds && when <= ctx.keys.gone_by() {
        ctx.keys.remove(key);
        ctx.keys.signal(key, EventClass::Generic, "del");
        ctx.effects.instead(&[b"DEL", key]);
    } else if holds {
        ctx.keys.set_deadline(key, Some(when));
        ctx.keys.signal(key, EventClass::Generic, "expire");
        if ctx.effects.are_wanted() {
            ctx.effects.instead(&[b"PEXPIREAT", key, when.get().to_string().as_bytes()]);
        }
    }
    ctx.reply.integer(i64::from(holds));
    Ok(Outcome::Done)
}

fn expire(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    set_deadline(ctx, args, Clock::Seconds, "expire")
}

fn pexpire(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    set_deadline(ctx, args, Clock::Millis, "pexpire")
}

fn expireat(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    set_deadline(ctx, args, Clock::UnixSeconds, "expireat")
}

fn pexpireat(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    set_deadline(ctx, args, Clock::UnixMillis, "pexpireat")
}

fn persist(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let had = matches!(ctx.keys.deadline(key), Some(Some(_)));
    if had {
        ctx.keys.set_deadline(key, None);
        ctx.keys.signal(key, EventClass::Generic, "persist");
    }
    ctx.reply.integer(i64::from(had));
    Ok(Outcome::Done)
}

/// -2 for no key, -1 for no deadline, else what `show` makes of it.
fn ask(ctx: &mut Context<'_>, args: Args<'_>, show: impl Fn(Millis, Millis) -> i64) -> Outcome {
    let now = ctx.keys.now();
    let answer = match ctx.keys.deadline(args.at(1)) {
        None => -2,
        Some(None) => -1,
        Some(Some(when)) => show(when, now),
    };
    ctx.reply.integer(answer);
    Outcome::Done
}

/// Milliseconds as seconds, halves rounded up.
fn seconds(ms: i64) -> i64 {
    ms.saturating_add(500) / 1000
}

fn ttl(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    Ok(ask(ctx, args, |when, now| seconds(when.since(now).max(0))))
}

fn pttl(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    Ok(ask(ctx, args, |when, now| when.since(now).max(0)))
}

fn expiretime(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    Ok(ask(ctx, args, |when, _| seconds(when.0)))
}

fn pexpiretime(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    Ok(ask(ctx, args, |when, _| when.0))
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn deadlines_come_and_go() {
        let mut bench = Bench::new();
        bench.script(&[
            ("TTL a", ":-2"),
            ("SET a 1", "+OK"),
            ("TTL a", ":-1"),
            ("EXPIRE a 10 GT", ":0"),
            ("EXPIRE a 10 XX", ":0"),
            ("EXPIRE a 10 LT", ":1"),
            ("EXPIRE a 10 NX", ":0"),
            ("EXPIRE a 20 LT", ":0"),
            ("EXPIRE a 20 GT XX", ":1"),
            ("PEXPIRE a 2499", ":1"),
            ("TTL a", ":2"),
            ("PTTL a", ":2499"),
            ("PEXPIRETIME a", ":1700000002499"),
            ("EXPIRETIME a", ":1700000002"),
            ("PERSIST a", ":1"),
            ("PERSIST a", ":0"),
            ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("PEXPIRE a 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("EXPIRE none abc", "-ERR value is not an integer or out of range"),
            ("EXPIRE a 1 FOO", "-ERR Unsupported option FOO"),
            ("EXPIRE a -1", ":1"),
        ]);
        assert_eq!(bench.events, ["del"]);
        assert_eq!(bench.run("EXISTS a"), ":0");
    }
}
