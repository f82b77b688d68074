//! DEBUG: probes and switches that test suites need. Nothing here is for applications.

use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_base::glob;
use larder_commands::digest::Digest;
use larder_commands::{Args, Command, Fault, Flags, Group};
use larder_store::value::{Hash, List, Set, SortedSet};
use larder_store::{DbIndex, Deadline, Dues, EventClass, RecordRef, Settings, View};

use super::{ControlCommand, Session, help_of};
use crate::config::Permission;
use crate::dispatch;
use crate::durability::save;

/// The rows.
pub const COMMANDS: &[ControlCommand] =
    &[ControlCommand::sometimes_exclusive(DEBUG, debug, |args| {
        // It waits for a thread that wants the exclusive section itself.
        !args.is(1, "LOADAOF")
    })];

const DEBUG: Command = Command {
    name: "debug",
    arity: -2,
    flags: Flags::ADMIN
        .or(Flags::NOSCRIPT)
        .or(Flags::LOADING)
        .or(Flags::STALE)
        .or(Flags::PROTECTED),
    complexity: "Depends on subcommand.",
    summary: "For tests.",
    ..Command::control(Group::Server)
};

/// What one subcommand does.
type Probe = fn(&mut Session<'_, '_, '_>, Args<'_>) -> Result<(), Fault>;

/// One subcommand: name, arguments, what it does, least and most arguments. COMMAND lists none of
/// them, as in Redis.
type Row = (&'static str, &'static str, &'static str, usize, usize, Probe);

const PROBES: &[Row] = &[
    ("digest", "", "A digest of all the data, equal for equal data.", 0, 0, digest),
    ("digest-value", "key [key ...]", "Digests of values.", 0, usize::MAX, digest_values),
    ("error", "text", "Answers with this error.", 1, 1, error),
    ("listpack", "key", "How large a value in the small form is.", 1, 1, listpack),
    (
        "loadaof",
        "",
        "Forces the append-only file to disk, forgets the data, and loads the file.",
        0,
        0,
        load_aof,
    ),
    ("object", "key", "How a key is held in memory.", 1, 2, object),
    (
        "pause-cron",
        "<0 | 1>",
        "Whether what is due by the clock waits: expiry unasked, closing of idle connections, rates.",
        1,
        1,
        pause_cron,
    ),
    ("populate", "count [prefix [size]]", "Creates strings, if absent.", 1, 3, populate),
    ("protocol", "type", "Answers with an example of a type of reply.", 1, 1, protocol),
    (
        "quicklist-packed-threshold",
        "size",
        "Checked and nothing else: large elements of lists always lie alone here.",
        1,
        1,
        packed_threshold,
    ),
    (
        "set-active-expire",
        "<0 | 1>",
        "Whether keys that are due are deleted unasked.",
        1,
        1,
        set_active_expire,
    ),
    (
        "set-skip-checksum-validation",
        "<0 | 1>",
        "Whether payloads of RESTORE are judged without their checksum: for tests, which damage them.",
        1,
        1,
        skip_checksums,
    ),
    (
        "reload",
        "[NOSAVE] [NOFLUSH]",
        "Saves the data, forgets it, and loads it; without saving or forgetting if so told.",
        0,
        2,
        reload,
    ),
    (
        "config-rewrite-force-all",
        "",
        "As CONFIG REWRITE, and writes options that have their default, too.",
        0,
        0,
        |session, _| super::config::rewrite(session, true),
    ),
    ("log", "message", "Writes a line to the log.", 1, 1, log),
    ("sleep", "seconds", "Holds the whole server up.", 1, 1, sleep),
    (
        "stringmatch-len",
        "length pattern",
        "Fits a pattern on a text of so many letters a.",
        2,
        2,
        match_letters,
    ),
];

/// `enable-debug-command`: DEBUG can stop a server, so it must be asked for.
fn allowed(session: &Session<'_, '_, '_>) -> Result<(), Fault> {
    let fine = match session.turn.server.config().enable_debug_command {
        Permission::Yes => true,
        Permission::Local => session.client.stream.peer().is_local(),
        Permission::No => false,
    };
    if fine {
        return Ok(());
    }
    Err(Fault::text(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can \
         run it from a local connection, otherwise you need to set this option in the configuration \
         file, and then restart the server.",
    ))
}

fn debug(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    allowed(session)?;
    if args.is(1, "HELP") && args.len() == 2 {
        let subs = PROBES.iter().map(|(name, usage, summary, ..)| (*name, *usage, *summary));
        help_of(session, DEBUG.name, subs);
        return Ok(());
    }
    let given = args.len() - 2;
    let fits = |row: &&Row| args.is(1, row.0) && (row.3..=row.4).contains(&given);
    let (.., run) = PROBES.iter().find(fits).ok_or_else(|| {
        let name: String = String::from_utf8_lossy(args.at(1)).chars().take(128).collect();
        Fault::new(format!(
            "ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP."
        ))
    })?;
    run(session, args)
}

/// The selected database, in the exclusive section.
fn view<'s>(session: &Session<'s, '_, '_>) -> View<'s> {
    let server = session.turn.server;
    server.keyspace.view_all(&server.settings, session.client.db, session.turn.now)
}

fn digest(session: &mut Session<'_, '_, '_>, _: Args<'_>) -> Result<(), Fault> {
    let keyspace = &session.turn.server.keyspace;
    let mut digest = Digest::default();
    let now = session.turn.now;
    let mut view = view(session);
    for db in (0..keyspace.databases()).filter_map(|db| u8::try_from(db).ok()) {
        if keyspace.len(DbIndex(db)) > 0 {
            digest.then(&u32::from(db).to_be_bytes());
            view.select(DbIndex(db));
            view.for_each_key(|_, record| digest.add_record(record, now));
        }
    }
    drop(view);
    session.reply().simple(&digest.to_hex());
    Ok(())
}

fn digest_values(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let now = session.turn.now;
    let mut view = view(session);
    let digests: Vec<Digest> = args
        .from(2)
        .iter()
        .map(|key| {
            let mut digest = Digest::default();
            if let Some(record) = view.record(key) {
                digest.then_value(record, now);
            }
            digest
        })
        .collect();
    drop(view);
    let mut reply = session.reply();
    reply.array(digests.len());
    digests.iter().for_each(|digest| reply.simple(&digest.to_hex()));
    Ok(())
}

fn error(_: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    Err(Fault::new(String::from_utf8_lossy(args.at(2)).into_owned()))
}

fn object(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    if args.len() == 4 && !args.is(3, "FAST") {
        return Err(Fault::SYNTAX);
    }
    let server = session.turn.server;
    let now = session.turn.now;
    let mut view = view(session);
    // What is due shows as well, as long as it is there.
    view.set_dues(Dues::Keep);
    let describe = |record: RecordRef<'_>| {
        let bits = record.eviction_bits();
        format!(
            "Value at:{:p} refcount:1 encoding:{} memory:{} lru:{} lru_seconds_idle:{}",
            record.key().as_ptr(),
            record.encoding_name(),
            record.memory_usage(),
            bits,
            server.settings.eviction_bits.idle_ms(bits, server.keyspace.moment(now)) / 1000,
        )
    };
    let text = view.record(args.at(2)).map(describe);
    drop(view);
    session.reply().simple(&text.ok_or(Fault::NO_SUCH_KEY)?);
    Ok(())
}

fn listpack(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let mut view = view(session);
    let record = view.record(args.at(2)).ok_or(Fault::NO_SUCH_KEY)?;
    if record.encoding_name() != "listpack" {
        return Err(Fault::text("ERR Not a listpack encoded object."));
    }
    let elements = record.get::<List>().map_or(0, List::len)
        + record.get::<Set>().map_or(0, Set::len)
        + record.get::<Hash>().map_or(0, Hash::len) * 2
        + record.get::<SortedSet>().map_or(0, SortedSet::len) * 2;
    let text = format!("elements:{elements} bytes:{}", record.memory_usage());
    drop(view);
    session.reply().simple(&text);
    Ok(())
}

fn reload(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let (mut saves, mut empties) = (true, true);
    for at in 2..args.len() {
        match (args.is(at, "NOSAVE"), args.is(at, "NOFLUSH")) {
            (true, _) => saves = false,
            (_, true) => empties = false,
            // MERGE, which lets the file win over what is there, is not for a loader that refuses a key twice.
            _ => {
                return Err(Fault::text(
                    "ERR DEBUG RELOAD only supports the NOSAVE and NOFLUSH options.",
                ));
            }
        }
    }
    let dirty = super::persistence::modifications(session);
    save::reload(session.turn.server, dirty, saves, empties).map_err(|error| {
        crate::log::warning(&format!("DEBUG RELOAD failed: {error}"));
        Fault::text("ERR Error trying to load the RDB dump, check server logs.")
    })?;
    session.reply().ok();
    Ok(())
}

fn load_aof(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    let entry = server.registry.find(args.at(0)).filter(|_| session.others.is_none());
    let Some(entry) = entry else {
        return Err(Fault::text("ERR Command not allowed inside a transaction"));
    };
    let waiter = super::waiter(session, entry, args, None);
    server.aof.ask_reload(server, waiter);
    Ok(())
}

fn pause_cron(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let paused = args.i64(2)? != 0;
    session.turn.server.ticks_paused.store(paused, Ordering::Relaxed);
    session.reply().ok();
    Ok(())
}

fn populate(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let natural = |at| args.i64(at).ok().filter(|value| *value >= 0).ok_or(Fault::NOT_POSITIVE);
    let count = natural(2)?;
    let prefix = args.get(3).unwrap_or(b"key");
    let size = match args.get(4) {
        Some(_) => usize::try_from(natural(4)?).unwrap_or(usize::MAX),
        None => 0,
    };
    let server = session.turn.server;
    if size > server.settings.text_max {
        return Err(Fault::OUT_OF_RANGE);
    }
    // A part at a time: what a view has to report is bounded. As in Redis, no copy of the data hears of it.
    const PART: i64 = 10_000;
    let mut from = 0;
    while from < count {
        let mut view = view(session);
        for number in from..count.min(from.saturating_add(PART)) {
            let key = [prefix, b":", number.to_string().as_bytes()].concat();
            if !view.contains(&key) {
                let mut value = format!("value:{number}").into_bytes();
                if size > 0 {
                    value.resize(size, 0);
                }
                view.set_string(&key, &value, Deadline::None);
                view.signal(&key, EventClass::String, "set");
            }
        }
        dispatch::settle(server, &mut view, session.client.id, session.turn.ready);
        from = from.saturating_add(PART);
    }
    session.reply().ok();
    Ok(())
}

fn protocol(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let mut reply = session.reply();
    match args.at(2).to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12_345),
        #[expect(clippy::approx_constant, reason = "the number that Redis shows")]
        b"double" => reply.double(3.141),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.integer(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.integer(number);
                reply.boolean(number == 1);
            }
        }
        b"attrib" => {
            if reply.is_resp3() {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            // What the attribute belongs to.
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !reply.is_resp3() {
                return Err(Fault::text("ERR RESP2 is not supported by this command"));
            }
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"verbatim" => reply.verbatim(b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        b"bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        _ => {
            return Err(Fault::text(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|\
                 double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}

fn packed_threshold(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let size = larder_base::number::parse_memory(args.at(2));
    if size.is_none_or(|bytes| bytes > 1 << 32) {
        return Err(Fault::text(
            "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
        ));
    }
    session.reply().ok();
    Ok(())
}

fn set_active_expire(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    session.turn.server.sweeping.store(args.i64(2)? != 0, Ordering::Relaxed);
    session.reply().ok();
    Ok(())
}

fn skip_checksums(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let (settings, skip_checksums) = (&session.turn.server.settings, args.i64(2)? != 0);
    settings
        .set(&Settings { skip_checksums, ..(**settings).clone() })
        .map_err(|_| Fault::text("ERR too many different settings were in force"))?;
    session.reply().ok();
    Ok(())
}

fn log(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    crate::log::warning(&format!("DEBUG LOG: {}", args.at(2).escape_ascii()));
    session.reply().ok();
    Ok(())
}

fn sleep(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let seconds = args.f64(2)?.clamp(0.0, 3600.0);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    session.reply().ok();
    Ok(())
}

fn match_letters(session: &mut Session<'_, '_, '_>, args: Args<'_>) -> Result<(), Fault> {
    let server = session.turn.server;
    let len = usize::try_from(args.i64(2)?).map_err(|_| Fault::NOT_POSITIVE)?;
    if len > server.settings.text_max {
        return Err(Fault::OUT_OF_RANGE);
    }
    let fits = glob::matches(args.at(3), &vec![b'a'; len]);
    session.reply().integer(i64::from(fits));
    Ok(())
}
