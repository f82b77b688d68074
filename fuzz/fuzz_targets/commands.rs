//! Sequences of commands from arbitrary bytes, over the whole table of data commands and few keys: no panic, one
//! whole reply a command, the store's counts true, no empty collection left, and a copy that repeats only the
//! effects holds the same data. A byte picks a command or an argument, so that most sequences mean something;
//! any bytes can stand as an argument too.
#![no_main]

use larder_base::hash::KeyHasher;
use larder_base::rng::Rng;
use larder_base::time::Millis;
use larder_commands::digest::Digest;
use larder_commands::{Args, Command, Context, Effects, Flags, Outcome, Run};
use larder_protocol::reply::{Reply, Version};
use larder_protocol::{RequestLimits, RequestParser, Step};
use larder_store::value::{Hash, List, Set, SortedSet};
use larder_store::{DbIndex, Keyspace, Settings, Thresholds};
use libfuzzer_sys::fuzz_target;
use std::sync::{LazyLock, Mutex};

const DATABASES: u8 = 2;
const COMMANDS_MAX: usize = 64;
const ARGS_MAX: usize = 24;
const START: Millis = Millis(1_700_000_000_000);

/// All but PFSELFTEST, which takes no arguments and a second.
static ROWS: LazyLock<Vec<&'static Command>> =
    LazyLock::new(|| larder_commands::families().filter(|row| row.name != "pfselftest").collect());
/// Every word in capitals of the usage lines: the options, whatever command they belong to.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let usages =
        ROWS.iter().flat_map(|row| row.subcommands.iter().map(|sub| sub.usage).chain([row.usage]));
    let mut words: Vec<String> = usages
        .flat_map(|usage| usage.split(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()))
        .map(str::to_owned)
        .collect();
    words.extend(ROWS.iter().flat_map(|row| row.subcommands).map(|sub| sub.name.to_owned()));
    words.sort();
    words.dedup();
    words
});
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "-2",
    "5",
    "10",
    "-10",
    "100",
    "127",
    "128",
    "255",
    "511",
    "1000",
    "65536",
    "100000",
    "2147483647",
    "-2147483648",
    "4294967295",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1.5",
    "-0.25",
    "3e2",
    "inf",
    "-inf",
    "nan",
    "-0",
    "+1",
    " 1",
    "0x10",
    "(1",
    "(5",
    "[a",
    "(b",
    "-",
    "+",
    "1700000000",
    "1700000001000",
    "1699999999000",
    "i8",
    "u16",
    "i64",
    "u63",
    "#1",
    "13.361389",
    "38.115556",
    "0-0",
    "*",
    "k*",
    "?[a-c]",
];

/// What the bytes say: one program.
struct Input<'b> {
    bytes: &'b [u8],
}

impl<'b> Input<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn take(&mut self, len: usize) -> &'b [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    fn argument(&mut self) -> Option<Vec<u8>> {
        let pick = self.byte()?;
        Some(match pick {
            0..=63 => format!("k{}", pick % 8).into_bytes(),
            64..=103 => vec![b'a' + pick % 12],
            104..=167 => NUMBERS[usize::from(self.byte()?) % NUMBERS.len()].into(),
            168..=219 => WORDS[usize::from(self.byte()?) % WORDS.len()].clone().into_bytes(),
            220..=239 => {
                let len = usize::from(self.byte()? % 32);
                self.take(len).to_vec()
            }
            // Long, and of few bytes: past every threshold of the small forms.
            240..=250 => vec![pick; usize::from(self.byte()?) * 4],
            _ => self.byte()?.to_string().into_bytes(),
        })
    }

    /// The next command: a row, then as many arguments as its arity wants and a few more.
    fn command(&mut self) -> Option<Vec<Vec<u8>>> {
        let row = ROWS[usize::from(self.byte()?) % ROWS.len()];
        let shape = usize::from(self.byte()?);
        let mut wanted = usize::try_from(row.arity.abs()).unwrap_or(1).saturating_sub(1);
        let mut args = vec![row.name.as_bytes().to_vec()];
        if !row.subcommands.is_empty() {
            let sub = &row.subcommands[shape % row.subcommands.len()];
            args.push(sub.name.as_bytes().to_vec());
            wanted = usize::try_from(sub.arity.abs()).unwrap_or(2).saturating_sub(2);
        }
        // Rarely too few or too many.
        let more = if row.arity < 0 || shape > 250 { shape % 10 } else { 0 };
        for _ in 0..(wanted + more).min(ARGS_MAX) {
            let Some(arg) = self.argument() else { break };
            args.push(arg);
        }
        Some(args)
    }
}

/// One server's data, without the server.
struct Data {
    keyspace: Keyspace,
    settings: Settings,
    now: Millis,
    version: Version,
}

impl Data {
    /// Making the slots anew for every input would take nearly all of the time.
    fn new() -> Data {
        let keyspace = Keyspace::new(KeyHasher::new(1, 2), usize::from(DATABASES));
        keyspace.observe_all(true);
        keyspace.set_journaled(true);
        Data { keyspace, settings: Settings::default(), now: START, version: Version::Resp2 }
    }

    /// Empties it and begins anew.
    fn begin(&mut self, tiny: bool, version: Version) {
        for db in (0..DATABASES).map(DbIndex) {
            drop(self.keyspace.flush(db));
            assert!(self.keyspace.is_empty(db) && self.keyspace.volatile_len(db) == 0);
        }
        let mut settings = Settings { text_max: 1 << 20, ..Settings::default() };
        if tiny {
            settings.thresholds = Thresholds {
                hash_entries: 3,
                set_entries: 3,
                zset_entries: 3,
                set_intset: 3,
                hash_value: 8,
                set_value: 8,
                zset_value: 8,
                list_size: 3,
                ..settings.thresholds
            };
        }
        (self.settings, self.now, self.version) = (settings, START, version);
    }

    /// Runs one command as the server would; what a copy must repeat is added to `journal`.
    fn run(&self, args: &[&[u8]], journal: &mut Vec<u8>) {
        let view = Args::new(args);
        let Some(row) = ROWS.iter().find(|row| view.is(0, row.name)) else {
            panic!("an effect names {:?}", String::from_utf8_lossy(view.at(0)))
        };
        let command = row.subcommands.iter().find(|sub| view.is(1, sub.name)).unwrap_or(row);
        let Run::Data(handler) = command.run else { return };
        if !command.fits(args.len()) || !row.fits(args.len()) {
            return;
        }
        let (mut reply, mut rng) = (Vec::new(), Rng::new(7));
        let mut located = Vec::new();
        row.key_positions(view, |at| located.push(self.keyspace.locate(args[at])));
        let whole = row.flags.has(Flags::WHOLE_KEYSPACE);
        let keys = match whole {
            true => self.keyspace.view_all(&self.settings, DbIndex(0), self.now),
            false => self.keyspace.view(&self.settings, DbIndex(0), &located, self.now),
        };
        let mut context = Context {
            keys,
            reply: Reply::new(&mut reply, self.version),
            effects: Effects::new(true),
            rng: &mut rng,
            settings: &self.settings,
            may_block: true,
            ready: None,
            reply_max: usize::MAX,
        };
        let outcome = handler(&mut context, view);
        let changes = context.keys.tally.dirty - context.keys.tally.expired;
        for (_, key) in std::mem::take(&mut context.keys.gone) {
            larder_protocol::encode_command(journal, &[b"DEL", &*key]);
        }
        let done = outcome == Ok(Outcome::Done)
            && (command.flags.has(Flags::WRITE) || command.flags.has(Flags::MAY_REPLICATE));
        context.effects.close(if done { changes } else { 0 }, args);
        journal.extend_from_slice(context.effects.bytes());
        drop(context);
        match outcome {
            Ok(Outcome::Done) => assert_one_reply(&reply),
            Ok(Outcome::Wait(wait)) => {
                assert!(reply.is_empty(), "a waiting command answered");
                assert!(wait.keys.iter().all(|at| *at < args.len()));
            }
            Err(fault) => {
                assert_eq!(changes, 0, "{args:?} failed and changed something");
                // Bytes of the client may be quoted in it; the line must be one all the same.
                let mut line = Vec::new();
                Reply::new(&mut line, Version::Resp2).error_bytes(fault.as_bytes());
                assert_one_reply(&line);
            }
        }
    }

    /// The counts are those of what is there, and nothing empty is left.
    fn check(&self) {
        for db in (0..DATABASES).map(DbIndex) {
            let (mut keys, mut volatile) = (0, 0);
            let mut view = self.keyspace.view_all(&self.settings, db, Millis(i64::MIN));
            view.for_each_key(|key, record| {
                keys += 1;
                volatile += usize::from(record.deadline().is_some());
                assert!(record.memory_usage() >= key.len());
                let lens = [
                    record.get::<List>().map(|v| (v.len(), v.iter().count())),
                    record.get::<Set>().map(|v| (v.len(), v.iter().count())),
                    record.get::<SortedSet>().map(|v| (v.len(), v.iter().count())),
                    record.get::<Hash>().map(|v| (v.len(), v.entries().count())),
                ];
                for (said, found) in lens.into_iter().flatten() {
                    assert_eq!(said, found, "{key:?}");
                    assert!(found > 0, "{key:?} is empty");
                }
                if let Some(sorted) = record.get::<SortedSet>() {
                    let order = |a: f64, b: f64| a <= b && !a.is_nan();
                    assert!(
                        sorted.iter().map(|(_, score)| score).is_sorted_by(|a, b| order(*a, *b))
                    );
                }
            });
            drop(view);
            assert_eq!(keys, self.keyspace.len(db), "keys of {db:?}");
            assert_eq!(volatile, self.keyspace.volatile_len(db), "volatile keys of {db:?}");
        }
    }

    fn digest(&self) -> Vec<String> {
        let databases = (0..DATABASES).map(|db| {
            let mut digest = Digest::default();
            let mut view = self.keyspace.view_all(&self.settings, DbIndex(db), self.now);
            view.for_each_key(|_, record| digest.add_record(record, self.now));
            digest.to_hex()
        });
        databases.collect()
    }

    /// Repeats effects as a replica does.
    fn repeat(&self, journal: &[u8]) {
        let limits = RequestLimits {
            max_inline: 1 << 20,
            max_args: 1 << 20,
            max_bulk: 1 << 24,
            auth_required: false,
        };
        let (mut parser, mut ranges, mut rest) = (RequestParser::default(), Vec::new(), journal);
        while !rest.is_empty() {
            let Ok(Step::Request { consumed }) = parser.next(rest, &limits, &mut ranges) else {
                panic!("the effects are no requests: {:?}", String::from_utf8_lossy(rest))
            };
            let args: Vec<&[u8]> = ranges.iter().map(|range| range.of(rest)).collect();
            self.run(&args, &mut Vec::new());
            rest = &rest[consumed..];
        }
    }
}

fn assert_one_reply(reply: &[u8]) {
    match larder_protocol::parse(reply) {
        Ok(Some((_, used))) if used == reply.len() => {}
        other => panic!("{other:?} from {:?}", String::from_utf8_lossy(reply)),
    }
}

/// Whether to print the commands of an input: `SHOW=1 commands FILE` reads a finding.
static SHOWN: LazyLock<bool> = LazyLock::new(|| std::env::var_os("SHOW").is_some());
static PAIR: LazyLock<Mutex<[Data; 2]>> = LazyLock::new(|| Mutex::new([Data::new(), Data::new()]));

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input { bytes };
    let Some(mode) = input.byte() else { return };
    let version = if mode & 1 == 0 { Version::Resp2 } else { Version::Resp3 };
    let moves = mode & 4 != 0;
    let mut pair = PAIR.lock().unwrap();
    let [data, copy] = &mut *pair;
    data.begin(mode & 2 != 0, version);
    copy.begin(mode & 2 != 0, version);
    for _ in 0..COMMANDS_MAX {
        let Some(args) = input.command() else { break };
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        if *SHOWN {
            println!(
                "{}",
                args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
            );
        }
        let mut journal = Vec::new();
        data.run(&args, &mut journal);
        copy.repeat(&journal);
        if *SHOWN {
            println!("    {} {}", journal.escape_ascii(), data.digest() == copy.digest());
        }
        if moves {
            data.now.0 += 300;
            copy.now.0 += 300;
        }
    }
    data.check();
    assert_eq!(data.digest(), copy.digest(), "a copy that repeats the effects differs");
    // The table's words are no plain pointers: what they hold at the end would look leaked.
    data.begin(false, version);
    copy.begin(false, version);
});
