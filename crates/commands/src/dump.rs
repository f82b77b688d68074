//! DUMP and RESTORE: a value as bytes, and back. The bytes are those of RDB (`persist::rdb`); nothing here
//! knows their layout.

use larder_base::time::Millis;
use larder_persist::rdb::{self, DumpError, Version};
use larder_store::eviction::bits;
use larder_store::settings::EvictionBits;
use larder_store::{Deadline, EventClass, RecordRef};

use crate::args::Args;
use crate::context::{Context, Outcome};
use crate::fault::Fault;
use crate::table::{Command, Flags, Group, KeySpec};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "dump",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::one(1, "RO access")],
        since: "2.6.0",
        complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of objects composing the value and M their average size",
        summary: "Answers the value of a key as bytes that RESTORE takes.",
        usage: "key",
        tips: &["nondeterministic_output"],
        ..Command::data(Group::Generic, dump)
    },
    Command {
        name: "restore",
        arity: -4,
        flags: Flags::WRITE.or(Flags::DENYOOM),
        keys: &[KeySpec::one(1, "OW update")],
        categories: &["@dangerous"],
        since: "2.6.0",
        complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the value",
        summary: "Creates a key from bytes that DUMP gave.",
        usage: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        ..Command::data(Group::Generic, restore)
    },
];

/// What RESTORE was told beside the value.
#[derive(Default)]
struct Told {
    replace: bool,
    absolute: bool,
    idle_s: Option<i64>,
    frequency: Option<i64>,
}

fn dump(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    // Counted as a read, as Redis does.
    ctx.keys.read_kind(args.at(1));
    let Some(payload) = ctx.keys.record(args.at(1)).map(RecordRef::payload) else {
        ctx.reply.null();
        return Ok(Outcome::Done);
    };
    // The oldest version that can say it is understood by most.
    let bytes = rdb::dump(&payload, Version::DEFAULT)
        .or_else(|_| rdb::dump(&payload, Version::Redis(12)))
        .map_err(|error| Fault::new(format!("ERR {error}")))?;
    ctx.reply.bulk(&bytes);
    Ok(Outcome::Done)
}

fn told(args: Args<'_>) -> Result<Told, Fault> {
    let mut told = Told::default();
    let mut at = 4;
    while at < args.len() {
        let more = at + 1 < args.len();
        if args.is(at, "REPLACE") {
            told.replace = true;
        } else if args.is(at, "ABSTTL") {
            told.absolute = true;
        } else if args.is(at, "IDLETIME") && more && told.frequency.is_none() {
            at += 1;
            let seconds = args.i64(at)?;
            if seconds < 0 {
                return Err(Fault::text("ERR Invalid IDLETIME value, must be >= 0"));
            }
            told.idle_s = Some(seconds);
        } else if args.is(at, "FREQ") && more && told.idle_s.is_none() {
            at += 1;
            let frequency = args.i64(at)?;
            if !(0..=255).contains(&frequency) {
                return Err(Fault::text("ERR Invalid FREQ value, must be >= 0 and <= 255"));
            }
            told.frequency = Some(frequency);
        } else {
            return Err(Fault::SYNTAX);
        }
        at += 1;
    }
    Ok(told)
}

fn restore(ctx: &mut Context<'_>, args: Args<'_>) -> Result<Outcome, Fault> {
    let told = told(args)?;
    let key = args.at(1);
    if !told.replace && ctx.keys.contains(key) {
        return Err(Fault::text("BUSYKEY Target key name already exists."));
    }
    let ttl = args.i64(2)?;
    if ttl < 0 {
        return Err(Fault::text("ERR Invalid TTL value, must be >= 0"));
    }
    let read = if ctx.settings.skip_checksums { rdb::restore_unsummed } else { rdb::restore };
    let value = read(args.at(3), &ctx.settings.thresholds).map_err(|error| {
        // The place is for the operator, whom the server tells; the client gets Redis's words.
        match error {
            DumpError::Footer => Fault::text("ERR DUMP payload version or checksum are wrong"),
            DumpError::Format(_) => Fault::text("ERR Bad data format"),
        }
    })?;
    let now = ctx.keys.now();
    let when = match ttl {
        0 => None,
        _ if told.absolute => Some(Millis(ttl)),
        _ => Some(now.saturating_add(ttl)),
    };
    let had = told.replace && ctx.keys.remove(key);
    if when.is_some_and(|when| when <= ctx.keys.gone_by()) {
        // It would be gone at once.
        if had {
            ctx.keys.signal(key, EventClass::Generic, "del");
            ctx.effects.instead(&[b"DEL", key]);
        }
        ctx.reply.ok();
        return Ok(Outcome::Done);
    }
    ctx.keys.put(key, value, when.map_or(Deadline::None, Deadline::At));
    mark(ctx, key, &told);
    ctx.keys.signal(key, EventClass::Generic, "restore");
    if ctx.effects.are_wanted()
        && let Some(when) = when
    {
        let when = when.get().to_string();
        let mut words: Vec<&[u8]> = vec![b"RESTORE", key, when.as_bytes(), args.at(3), b"ABSTTL"];
        words.extend((4..args.len()).filter(|at| !args.is(*at, "ABSTTL")).map(|at| args.at(at)));
        ctx.effects.instead(&words);
    }
    ctx.reply.ok();
    Ok(Outcome::Done)
}

/// Lets the eviction policy know what it knew of the key elsewhere.
fn mark(ctx: &mut Context<'_>, key: &[u8], told: &Told) {
    let now = ctx.keys.now();
    let bits = match (ctx.settings.eviction_bits, told.idle_s, told.frequency) {
        (EvictionBits::LastAccess, Some(idle), _) => {
            bits::last_access(now.saturating_add(idle.saturating_mul(-1000)))
        }
        (EvictionBits::Frequency, _, Some(frequency)) => {
            bits::frequency(now, u8::try_from(frequency).unwrap_or(u8::MAX))
        }
        _ => return,
    };
    ctx.keys.set_eviction_bits(key, bits);
}

#[cfg(test)]
mod tests {
    use crate::testing::Bench;

    #[test]
    fn every_type_comes_back_as_it_was() {
        let mut bench = Bench::new();
        for line in [
            "SET text hello",
            "SET number 12345",
            "RPUSH list a b c 1 2 3",
            "SADD ints 1 2 3",
            "SADD set a b c",
            "HSET hash f v g w",
            "ZADD zset 1 a 2.5 b -3 c",
        ] {
            bench.run(line);
        }
        for key in ["text", "number", "list", "ints", "set", "hash", "zset"] {
            let reply = bench.raw(&[b"DUMP", key.as_bytes()]);
            let start = reply.iter().position(|byte| *byte == b'\n').expect("a bulk") + 1;
            let payload = &reply[start..reply.len() - 2];
            assert_eq!(bench.raw(&[b"RESTORE", b"copy", b"0", payload]), b"+OK\r\n", "{key}");
            assert_eq!(
                bench.raw(&[b"RESTORE", b"copy", b"0", payload]),
                b"-BUSYKEY Target key name already exists.\r\n"
            );
            assert_eq!(bench.raw(&[b"DUMP", b"copy"]), reply, "{key}");
            let mut broken = payload.to_vec();
            broken[0] ^= 1;
            assert_eq!(
                bench.raw(&[b"RESTORE", b"copy", b"0", &broken, b"REPLACE"]),
                b"-ERR DUMP payload version or checksum are wrong\r\n"
            );
            bench.run("DEL copy");
        }
    }

    #[test]
    fn deadlines_are_relative_or_absolute_and_past_ones_delete() {
        let mut bench = Bench::new();
        bench.run("SET a v");
        let reply = bench.raw(&[b"DUMP", b"a"]);
        let start = reply.iter().position(|byte| *byte == b'\n').expect("a bulk") + 1;
        let payload = reply[start..reply.len() - 2].to_vec();
        bench.raw(&[b"RESTORE", b"b", b"5000", &payload]);
        assert_eq!(bench.run("PTTL b"), ":5000");
        assert!(
            bench.raw(&[b"RESTORE", b"b", b"1", &payload, b"REPLACE", b"ABSTTL"]) == b"+OK\r\n"
        );
        assert_eq!(bench.effects, "DEL b");
        assert_eq!(bench.run("EXISTS b"), ":0");
        bench.raw(&[b"RESTORE", b"c", b"0", &payload, b"IDLETIME", b"100"]);
        assert_eq!(bench.run("OBJECT IDLETIME c"), ":100");
        assert_eq!(
            bench.raw(&[b"RESTORE", b"d", b"-1", &payload]),
            b"-ERR Invalid TTL value, must be >= 0\r\n"
        );
    }
}
