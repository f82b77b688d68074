//! Commands on keys of any type: deleting, renaming, copying, listing, looking into them.
//! Expiry lies in `expire`, sorting in `sort`. Knows nothing of what values hold.

use larder_base::glob;
use larder_protocol::reply::Reply;
use larder_store::eviction::bits::decayed;
use larder_store::settings::EvictionBits;
use larder_store::{DbIndex, EventClass, RecordRef};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::table::{Command, Flags, Group, KeySpec, Run};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.or(Flags::FAST);
const REMOVE_ALL: &[KeySpec] = &[KeySpec::range(1, -1, 1, "RM delete")];
const PEEK_ALL: &[KeySpec] = &[KeySpec::range(1, -1, 1, "RO")];
const PEEK_SECOND: &[KeySpec] = &[KeySpec::one(2, "RO")];
const SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const UNSTEADY: &[&str] = &["nondeterministic_output"];
const DB_RANGE: Fault = Fault::text("ERR DB index is out of range");

/// The commands on keys.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "copy",
        arity: -3,
        flags: Flags::WRITE.or(Flags::DENYOOM).or(Flags::WHOLE_KEYSPACE),
        keys: &[KeySpec::one(1, "RO access"), KeySpec::one(2, "OW update")],
        since: "6.2.0",
        complexity: "O(N) where N is the number of elements of the value",
        summary: "Copies a key with its value and its time to expire.",
        usage: "source destination [DB destination-db] [REPLACE]",
        ..Command::data(Group::Generic, copy)
    },
    Command {
        name: "del",
        arity: -2,
        flags: Flags::WRITE,
        keys: REMOVE_ALL,
        complexity: "O(N) where N is the number of keys; big values are freed in the background",
        summary: "Deletes keys and answers how many there were.",
        usage: "key [key ...]",
        tips: SUM,
        ..Command::data(Group::Generic, del)
    },
    Command {
        name: "exists",
        arity: -2,
        flags: READ_FAST,
        keys: PEEK_ALL,
        complexity: "O(N) where N is the number of keys",
        summary: "Counts which of the named keys exist, repeated names repeatedly.",
        usage: "key [key ...]",
        tips: SUM,
        ..Command::data(Group::Generic, exists)
    },
    Command {
        name: "keys",
        arity: 2,
        flags: READ.or(Flags::WHOLE_KEYSPACE),
        categories: &["@dangerous"],
        complexity: "O(N) where N is the number of keys in the database",
        summary: "Lists all keys whose names match a pattern.",
        usage: "pattern",
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        ..Command::data(Group::Generic, keys)
    },
    Command {
        name: "move",
        arity: 3,
        flags: WRITE_FAST.or(Flags::WHOLE_KEYSPACE),
        keys: &[KeySpec::one(1, "RW access update")],
        summary: "Moves a key to another database, unless that has a key of its name.",
        usage: "key db",
        ..Command::data(Group::Generic, move_key)
    },
    Command {
        name: "object",
        arity: -2,
        since: "2.2.3",
        complexity: "depends on the subcommand",
        summary: "Container of commands that look into how keys are held.",
        usage: "",
        subcommands: OBJECT,
        ..Command::data(Group::Generic, object)
    },
    Command {
        name: "randomkey",
        arity: 1,
        flags: READ.or(Flags::WHOLE_KEYSPACE),
        summary: "Answers the name of a key picked at random.",
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        ..Command::data(Group::Generic, randomkey)
    },
    Command {
        name: "rename",
        arity: 3,
        flags: Flags::WRITE,
        keys: &[KeySpec::one(1, "RW access delete"), KeySpec::one(2, "OW update")],
        summary: "Gives a key another name; a key that has that name goes.",
        usage: "key newkey",
        ..Command::data(Group::Generic, rename)
    },
    Command {
        name: "renamenx",
        arity: 3,
        flags: WRITE_FAST,
        keys: &[KeySpec::one(1, "RW access delete"), KeySpec::one(2, "OW insert")],
        summary: "Gives a key another name if no key has that name.",
        usage: "key newkey",
        ..Command::data(Group::Generic, renamenx)
    },
    Command {
        name: "scan",
        arity: -2,
        flags: READ.or(Flags::WHOLE_KEYSPACE),
        since: "2.8.0",
        complexity: "O(1) a call, O(N) for all N keys",
        summary: "Lists the keys of the database in steps, led by a cursor.",
        usage: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        tips: &["nondeterministic_output", "request_policy:special"],
        ..Command::data(Group::Generic, scan)
    },
    Command {
        name: "touch",
        arity: -2,
        flags: READ_FAST,
        keys: PEEK_ALL,
        since: "3.2.1",
        complexity: "O(N) where N is the number of keys",
        summary: "Marks keys as used just now and answers how many of them exist.",
        usage: "key [key ...]",
        tips: SUM,
        ..Command::data(Group::Generic, exists)
    },
    Command {
        name: "type",
        arity: 2,
        flags: READ_FAST,
        keys: &[KeySpec::one(1, "RO")],
        summary: "Answers the type of the value at a key.",
        usage: "key",
        ..Command::data(Group::Generic, kind)
    },
    Command {
        name: "unlink",
        arity: -2,
        flags: WRITE_FAST,
        keys: REMOVE_ALL,
        since: "4.0.0",
        complexity: "O(N) where N is the number of keys; values are freed in the background",
        summary: "Deletes keys without waiting until their memory is free.",
        usage: "key [key ...]",
        tips: SUM,
        ..Command::data(Group::Generic, del)
    },
];

const OBJECT: &[Command] = &[
    Command {
        name: "encoding",
        arity: 3,
        flags: READ,
        keys: PEEK_SECOND,
        since: "2.2.3",
        summary: "Answers the form in which the value at a key is held.",
        usage: "key",
        tips: UNSTEADY,
        ..Command::data(Group::Generic, object_encoding)
    },
    Command {
        name: "freq",
        arity: 3,
        flags: READ,
        keys: PEEK_SECOND,
        since: "4.0.0",
        summary: "Answers the logarithmic counter of a key's uses.",
        usage: "key",
        tips: UNSTEADY,
        ..Command::data(Group::Generic, object_freq)
    },
    Command {
        name: "help",
        arity: 2,
        flags: Flags::LOADING.or(Flags::STALE),
        since: "6.2.0",
        summary: "Explains the subcommands.",
        ..Command::data(Group::Generic, object_help)
    },
    Command {
        name: "idletime",
        arity: 3,
        flags: READ,
        keys: PEEK_SECOND,
        since: "2.2.3",
        summary: "Answers the seconds since a key was used last.",
        usage: "key",
        tips: UNSTEADY,
        ..Command::data(Group::Generic, object_idletime)
    },
    Command {
        name: "refcount",
        arity: 3,
        flags: READ,
        keys: PEEK_SECOND,
        since: "2.2.3",
        summary: "Answers how often the value at a key is referred to.",
        usage: "key",
        tips: UNSTEADY,
        ..Command::data(Group::Generic, object_refcount)
    },
];

// ---- one or several keys ----

fn del(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let mut count = 0usize;
    for key in args.from(1) {
        if ctx.keys.remove(key) {
            ctx.keys.signal(key, EventClass::Generic, "del");
            count += 1;
        }
    }
    ctx.reply.count(count);
    Ok(Outcome::Done)
}

fn exists(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    // EXISTS as well as TOUCH is a read: it counts hits and misses. Only EXISTS leaves the clock of
    // last use alone.
    let quiet = ctx.keys.no_touch;
    ctx.keys.no_touch = quiet || args.is(0, "EXISTS");
    let count = args.from(1).iter().filter(|key| ctx.keys.read_kind(key).is_some()).count();
    ctx.keys.no_touch = quiet;
    ctx.reply.count(count);
    Ok(Outcome::Done)
}

fn kind(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let name = ctx.keys.record(args.at(1)).map_or("none", |record| record.kind().name());
    ctx.reply.simple(name);
    Ok(Outcome::Done)
}

/// Moves the record; the caller has checked that the source is there.
fn carry(ctx: &mut Context<'_>, from: &[u8], to: &[u8]) -> Result<(), Fault> {
    let record = ctx.keys.take_record(from).ok_or(Fault::NO_SUCH_KEY)?;
    ctx.keys.put_record(record.with_key(to));
    ctx.keys.signal(from, EventClass::Generic, "rename_from");
    ctx.keys.signal_also(to, EventClass::Generic, "rename_to");
    Ok(())
}

fn rename(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (from, to) = (args.at(1), args.at(2));
    if !ctx.keys.contains(from) {
        return Err(Fault::NO_SUCH_KEY);
    }
    if from != to {
        carry(ctx, from, to)?;
    }
    ctx.reply.ok();
    Ok(Outcome::Done)
}

fn renamenx(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (from, to) = (args.at(1), args.at(2));
    if !ctx.keys.contains(from) {
        return Err(Fault::NO_SUCH_KEY);
    }
    let free = from != to && !ctx.keys.contains(to);
    if free {
        carry(ctx, from, to)?;
    }
    ctx.reply.integer(i64::from(free));
    Ok(Outcome::Done)
}

/// A database by its number.
fn database(ctx: &Context<'_>, index: i64) -> Option<DbIndex> {
    let index = u8::try_from(index).ok()?;
    (usize::from(index) < ctx.keys.keyspace().databases()).then_some(DbIndex(index))
}

fn copy(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let (from, to) = (args.at(1), args.at(2));
    let home = ctx.keys.db();
    let (mut target, mut replace, mut at) = (home, false, 3);
    while at < args.len() {
        if args.is(at, "REPLACE") {
            replace = true;
        } else if args.is(at, "DB") && at + 1 < args.len() {
            at += 1;
            target = database(ctx, args.i64(at)?).ok_or(DB_RANGE)?;
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 1;
    }
    if target == home && from == to {
        return Err(Fault::text("ERR source and destination objects are the same"));
    }
    let Some(record) = ctx.keys.record(from).map(|record| record.copy_as(to)) else {
        ctx.reply.integer(0);
        return Ok(Outcome::Done);
    };
    ctx.keys.select(target);
    let free = replace || !ctx.keys.contains(to);
    if free {
        ctx.keys.put_record(record);
        ctx.keys.signal(to, EventClass::Generic, "copy_to");
    }
    ctx.keys.select(home);
    ctx.reply.integer(i64::from(free));
    Ok(Outcome::Done)
}

fn move_key(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let key = args.at(1);
    let home = ctx.keys.db();
    let target = database(ctx, args.i64(2)?).ok_or(DB_RANGE)?;
    if target == home {
        return Err(Fault::text("ERR source and destination objects are the same"));
    }
    let mut moved = false;
    if ctx.keys.contains(key) {
        ctx.keys.select(target);
        let free = !ctx.keys.contains(key);
        ctx.keys.select(home);
        if free && let Some(record) = ctx.keys.take_record(key) {
            ctx.keys.signal(key, EventClass::Generic, "move_from");
            ctx.keys.select(target);
            ctx.keys.put_record(record);
            ctx.keys.signal(key, EventClass::Generic, "move_to");
            ctx.keys.select(home);
            moved = true;
        }
    }
    ctx.reply.integer(i64::from(moved));
    Ok(Outcome::Done)
}

// ---- the keyspace ----

fn keys(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let pattern = args.at(1);
    let mark = ctx.reply.defer();
    let mut count = 0usize;
    let (reply, reply_max) = (&mut ctx.reply, ctx.reply_max);
    ctx.keys.for_each_key(|key, _| {
        if reply.len() <= reply_max && (pattern == b"*" || glob::matches(pattern, key)) {
            reply.bulk(key);
            count += 1;
        }
    });
    ctx.reply.close_array(mark, count);
    Ok(Outcome::Done)
}

fn randomkey(ctx: &mut Context<'_>, _: Args<'_>) -> Result<Outcome, Fault> {
    match ctx.keys.random_key(ctx.rng) {
        Some(key) => ctx.reply.bulk(&key),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn scan(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let cursor = crate::support::cursor(args.at(1))?;
    let (mut pattern, mut wanted, mut count) = (None, None, 10usize);
    let mut at = 2;
    while at < args.len() {
        let value = args.get(at + 1).ok_or(Fault::SYNTAX)?;
        if args.is(at, "COUNT") {
            let number = args.i64(at + 1)?;
            count = usize::try_from(number).ok().filter(|n| *n > 0).ok_or(Fault::SYNTAX)?;
        } else if args.is(at, "MATCH") {
            pattern = (value != b"*").then_some(value);
        } else if args.is(at, "TYPE") {
            wanted = Some(value);
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 2;
    }
    let mut inner = Vec::new();
    let mut found = 0usize;
    let mut list = Reply::new(&mut inner, ctx.reply.version());
    let wants = |record: RecordRef<'_>| {
        let kind = || record.kind().name().as_bytes();
        pattern.is_none_or(|pattern| glob::matches(pattern, record.key()))
            && wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind()))
    };
    let next = ctx.keys.scan(cursor, count, wants, |key| {
        list.bulk(key);
        found += 1;
    });
    ctx.reply.array(2);
    let mut text = Vec::new();
    larder_base::number::write_u64(&mut text, next);
    ctx.reply.bulk(&text);
    ctx.reply.array(found);
    ctx.reply.raw(&inner);
    Ok(Outcome::Done)
}

// ---- OBJECT ----

/// Runs the subcommand that the second argument names.
fn object(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let Some(row) = OBJECT.iter().find(|row| args.is(1, row.name)) else {
        let name = String::from_utf8_lossy(args.at(1)).into_owned();
        return Err(Fault::new(format!("ERR unknown subcommand '{name}'. Try OBJECT HELP.")));
    };
    if !row.fits(args.len()) {
        return Err(Fault::arity(&format!("object|{}", row.name)));
    }
    match row.run {
        Run::Data(handler) => handler(ctx, args),
        Run::Control => Err(Fault::SYNTAX),
    }
}

fn object_encoding(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    match ctx.keys.record(args.at(2)) {
        Some(record) => ctx.reply.bulk(record.encoding_name().as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn object_refcount(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    match ctx.keys.record(args.at(2)) {
        Some(_) => ctx.reply.integer(1),
        None => ctx.reply.null(),
    }
    Ok(Outcome::Done)
}

fn object_freq(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.now();
    let Some(bits) = ctx.keys.record(args.at(2)).map(|record| record.eviction_bits()) else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    if ctx.settings.eviction_bits != EvictionBits::Frequency {
        return Err(Fault::text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
             that when switching between policies at runtime LRU and LFU data will take some time \
             to adjust.",
        ));
    }
    ctx.reply.integer(i64::from(decayed(bits, now, ctx.settings)));
    Ok(Outcome::Done)
}

fn object_idletime(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let now = ctx.keys.now();
    let Some(bits) = ctx.keys.record(args.at(2)).map(|record| record.eviction_bits()) else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    let meaning = ctx.settings.eviction_bits;
    if meaning == EvictionBits::Frequency {
        return Err(Fault::text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let moment = ctx.keys.keyspace().moment(now);
    ctx.reply.integer(i64::try_from(meaning.idle_ms(bits, moment) / 1000).unwrap_or(i64::MAX));
    Ok(Outcome::Done)
}

fn object_help(ctx: &mut Context<'_>, _: Args<'_>) -> Result<Outcome, Fault> {
    const LINES: &[&str] = &[
        "OBJECT <subcommand> <key>. The subcommands:",
        "ENCODING <key>",
        "    The form in which the value is held.",
        "FREQ <key>",
        "    The counter of uses, under an LFU policy.",
        "IDLETIME <key>",
        "    Seconds since the last use, unless under an LFU policy.",
        "REFCOUNT <key>",
        "    How often the value is referred to.",
        "HELP",
        "    This text.",
    ];
    ctx.reply.array(LINES.len());
    for line in LINES {
        ctx.reply.simple(line);
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn names_and_databases() {
        let mut bench = Bench::new();
        bench.script(&[
            ("MSET a 1 b 2", "+OK"),
            ("EXISTS a a c", ":2"),
            ("TOUCH a c", ":1"),
            ("TYPE a", "+string"),
            ("TYPE c", "+none"),
            ("RENAME c d", "-ERR no such key"),
            ("RENAME a a", "+OK"),
            ("RENAMENX a b", ":0"),
            ("SET a 1 EX 10", "+OK"),
            ("RENAME a b", "+OK"),
            ("PTTL b", ":10000"),
            ("COPY b c", ":1"),
            ("PTTL c", ":10000"),
            ("COPY b c", ":0"),
            ("COPY b b", "-ERR source and destination objects are the same"),
            ("COPY b b DB 1", ":1"),
            ("COPY b b DB 16", "-ERR DB index is out of range"),
            ("MOVE b 1", ":0"),
            ("MOVE c 1", ":1"),
            ("EXISTS c", ":0"),
            ("DEL b b", ":1"),
            ("RANDOMKEY", "$-1"),
        ]);
    }

    #[test]
    fn walking_the_keyspace() {
        let mut bench = Bench::new();
        for i in 0..1000 {
            assert_eq!(bench.run(&format!("SET key:{i} x")), "+OK");
        }
        let mut cursor = "0".to_owned();
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let reply = bench.run(&format!("SCAN {cursor} COUNT 30"));
            let words: Vec<&str> = reply.split(' ').collect();
            seen.extend(words.iter().filter(|w| w.starts_with("key:")).map(|w| (*w).to_owned()));
            cursor = words[2].to_owned();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
        assert!(bench.run("KEYS key:99?").starts_with("*10 "));
        assert_eq!(bench.run("SCAN 0 COUNT 0"), "-ERR syntax error");
        assert_eq!(bench.run("SCAN x"), "-ERR invalid cursor");
        assert_eq!(bench.run("SCAN 0 COUNT 5000 TYPE list"), "*2 $1 0 *0");
    }

    #[test]
    fn objects() {
        let mut bench = Bench::new();
        bench.script(&[
            ("SET a 1", "+OK"),
            ("OBJECT ENCODING a", "$3 int"),
            ("OBJECT REFCOUNT a", ":1"),
            ("OBJECT ENCODING none", "$-1"),
            ("APPEND a x", ":2"),
            ("OBJECT ENCODING a", "$3 raw"),
            ("OBJECT BAD a", "-ERR unknown subcommand 'BAD'. Try OBJECT HELP."),
        ]);
        bench.now.0 += 20_500;
        bench.run("EXISTS a");
        assert_eq!(bench.run("OBJECT IDLETIME a"), ":20");
        bench.run("TOUCH a");
        assert_eq!(bench.run("OBJECT IDLETIME a"), ":0");
    }
}
