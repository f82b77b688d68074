//! Flips bits in files that the real server has written, one byte at a time: an RDB file with all types, the parts of an
//! append-only file, with and without notes of checksums, ended in order and killed, and its manifest. What is
//! loaded then must be exactly what was there, or refused with its place; where a file has nothing to tell by, it is
//! counted what came of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, Cursor, Read, Seek, SeekFrom};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::Rng;
use larder_persist::aof::{Item as LogItem, LogReader, Manifest, scan};
use larder_persist::rdb::{Entry, Item, Reader};
use larder_protocol::response::Value;
use larder_store::Thresholds;

use crate::process::{Client, Patience, Server, wait_until_loaded};
use crate::rdb_matrix::picture;

/// Bytes of each file at least.
const BYTES: u64 = 64 << 10;
/// The files, as they are named on the command line.
const KINDS: [&str; 5] = ["rdb", "aof", "killed", "plain", "manifest"];
/// What a byte is changed by: all of its bits, and (`--all-bits`) each of them.
const FLIPS: [u8; 9] = [255, 1, 2, 4, 8, 16, 32, 64, 128];

/// What became of a damaged file.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Read, to this sum of all that is in it.
    Read(u64),
    /// Refused, and whether a place was named.
    Refused(bool),
    /// The end was cut off with a warning: what stands before it has this sum.
    Cut(u64),
}

type Load = fn(&[u8]) -> Outcome;

#[derive(Default)]
struct Counts {
    exact: u64,
    refused: u64,
    placeless: u64,
    /// Cut, and all that was in it is there: the end that is missing is a note's.
    cut_whole: u64,
    cut: u64,
    wrong: u64,
    /// The first byte that gave wrong data.
    first_wrong: Option<usize>,
}

/// A file, and what may become of it.
struct Case {
    title: &'static str,
    bytes: Vec<u8>,
    load: Load,
    /// Wrong data is a failure; and so is a cut end.
    strict: [bool; 2],
}

/// Makes the files and flips all of their bytes.
pub fn run(args: &[String]) -> Result<()> {
    let at = args.iter().position(|arg| arg == "--subject");
    let program = at.and_then(|at| args.get(at + 1)).map_or("target/quick/larder", String::as_str);
    let folder = std::env::temp_dir().join(format!("larder-flips-{}", std::process::id()));
    let all = args.iter().any(|arg| arg == "--all-bits");
    let flips = if all { FLIPS.as_slice() } else { &[255] };
    let mut failed = false;
    for kind in kinds(args)? {
        let case = case(program, &folder, kind)?;
        let begun = Instant::now();
        let counts = flip_all(&case, flips)?;
        let [wrong, cut] = case.strict;
        let fails = (wrong && counts.wrong > 0) || (cut && counts.cut > 0) || counts.placeless > 0;
        failed |= fails;
        println!(
            "{}{}: {} bytes, {} flips: {} exact, {} refused with position, {} without; {} cut at the end with a warning and \
             exact, {} cut and less; {} silently wrong{}; {:.0} s",
            if fails { "FAILED " } else { "" },
            case.title,
            case.bytes.len(),
            case.bytes.len() * flips.len(),
            counts.exact,
            counts.refused,
            counts.placeless,
            counts.cut_whole,
            counts.cut,
            counts.wrong,
            counts.first_wrong.map_or(String::new(), |at| format!(" (the first at byte {at})")),
            begun.elapsed().as_secs_f64()
        );
    }
    ensure!(!failed, "damage went unseen");
    Ok(())
}

/// The kinds of files that are asked for by name, or all.
fn kinds(args: &[String]) -> Result<Vec<&'static str>> {
    let mut named = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--all-bits" => {}
            "--subject" => drop(words.next()),
            other => match KINDS.iter().find(|kind| **kind == other) {
                Some(kind) => named.push(*kind),
                None => bail!("no kind {other}, but {}", KINDS.join(", ")),
            },
        }
    }
    Ok(if named.is_empty() { KINDS.to_vec() } else { named })
}

/// A file of that kind, written by a real server.
fn case(program: &str, folder: &Path, kind: &str) -> Result<Case> {
    let (increment, manifest) = ("appendonlydir/a.1.incr.aof", "appendonlydir/a.manifest");
    let notes = ["--appendonly", "yes", "--appendfilename", "a"];
    let plain = [&notes[..], &["--aof-checksum-enabled", "no"]].concat();
    let (title, options, name, in_order, load): (_, &[&str], _, _, Load) = match kind {
        "rdb" => ("RDB file", &["--save", "3600 100000"], "dump.rdb", true, load_rdb),
        "aof" => ("AOF, ended in order", &notes, increment, true, load_log),
        "killed" => ("AOF, killed", &notes, increment, false, load_log),
        "plain" => ("AOF without checksums, as Redis's", &plain, increment, true, load_log as Load),
        _ => ("manifest", &notes, increment, true, load_manifest),
    };
    let strict = match kind {
        "plain" => [false, false],
        // Behind the last note that says so nothing is known to have been on disk.
        "killed" => [true, false],
        _ => [true, true],
    };
    let mut bytes = make(program, folder, options, name, in_order)?;
    if kind == "manifest" {
        bytes = read(folder, manifest)?;
    }
    Ok(Case { title, bytes, load, strict })
}

/// Lets a server write until a file is long enough; then it ends in order, or is killed.
fn make(
    program: &str,
    folder: &Path,
    options: &[&str],
    name: &str,
    in_order: bool,
) -> Result<Vec<u8>> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    let dir = folder.to_str().context("folder's name")?;
    let server = Server::start_with(program, &[&["--dir", dir], options].concat())?;
    let (mut client, mut rng) = (server.connect()?, Rng::new(7));
    wait_until_loaded(&mut client)?;
    let mut round = 0;
    let len = || std::fs::metadata(folder.join(name)).map_or(0, |found| found.len());
    while len() < BYTES {
        ensure!(round < 10_000, "{name} does not grow");
        fill(&mut client, &mut rng, round)?;
        round += 1;
        if name.ends_with(".rdb") {
            client.call(&["SAVE"])?;
        } else if round.is_multiple_of(8) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // What is acknowledged is on disk soon, and a note says so.
    std::thread::sleep(Duration::from_millis(1500));
    if in_order {
        client.send(&["SHUTDOWN"])?;
        let mut patience = Patience::of(Duration::from_secs(10));
        while Client::connect(server.port).is_ok() {
            ensure!(patience.nap(Duration::from_millis(20)), "it does not end");
        }
    }
    drop(server);
    read(folder, name)
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path: PathBuf = folder.join(name);
    std::fs::read(&path).with_context(|| format!("no {}", path.display()))
}

/// A few keys of every type, small and big.
fn fill(client: &mut Client, rng: &mut Rng, round: u64) -> Result<()> {
    let key = |kind: &str| format!("{kind}:{round}");
    let many = if round.is_multiple_of(5) { 150 } else { 8 };
    let mut commands = vec![
        vec!["SET".to_owned(), key("text"), format!("value {}", rng.next_u64())],
        vec!["SET".to_owned(), key("number"), (rng.next_u64() >> rng.below(63)).to_string()],
        vec!["SET".to_owned(), key("long"), "compressible ".repeat(1 + rng.below_usize(20))],
        vec!["EXPIRE".to_owned(), key("text"), "1000000".to_owned()],
    ];
    let kinds = ["RPUSH", "SADD", "HSET", "ZADD", "SADD"];
    for (number, name) in kinds.into_iter().enumerate() {
        let mut words = vec![name.to_owned(), format!("{name}{number}:{round}")];
        for member in 0..many {
            match name {
                "HSET" => words.extend([format!("field:{member}"), rng.below(1000).to_string()]),
                "ZADD" => words.extend([rng.below(1000).to_string(), format!("member:{member}")]),
                // A set of integers, and one of texts.
                _ if number == 4 => words.push((member * 3).to_string()),
                _ => words.push(format!("{member}:{}", rng.below(100_000))),
            }
        }
        commands.push(words);
    }
    commands.push(vec!["HPEXPIRE".to_owned(), format!("HSET2:{round}"), "900000000".to_owned()]);
    if let Some(last) = commands.last_mut() {
        last.extend(["FIELDS", "1", "field:1"].map(str::to_owned));
    }
    for words in &commands {
        if let Value::Error(text) = client.call(words)? {
            bail!("{words:?}: {}", String::from_utf8_lossy(&text));
        }
    }
    Ok(())
}

/// Flips every byte of a file, on all processors.
fn flip_all(case: &Case, flips: &[u8]) -> Result<Counts> {
    let Outcome::Read(sum) = (case.load)(&case.bytes) else {
        bail!("{} is refused as it is", case.title)
    };
    let parts = std::thread::available_parallelism().map_or(1, NonZero::get);
    let part = |number: usize| {
        let mut counts = Counts::default();
        let mut bytes = case.bytes.clone();
        for at in (number..bytes.len()).step_by(parts) {
            for flip in flips.iter().copied() {
                change(&mut bytes, at, flip);
                counts.add((case.load)(&bytes), sum, at);
                change(&mut bytes, at, flip);
            }
        }
        counts
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parts).map(|number| scope.spawn(move || part(number))).collect();
        let mut all = Counts::default();
        for thread in threads {
            let counts = thread.join().map_err(|_| anyhow::anyhow!("a panic in {}", case.title))?;
            all.exact += counts.exact;
            all.refused += counts.refused;
            all.placeless += counts.placeless;
            all.cut_whole += counts.cut_whole;
            all.cut += counts.cut;
            all.wrong += counts.wrong;
            all.first_wrong = all.first_wrong.into_iter().chain(counts.first_wrong).min();
        }
        Ok(all)
    })
}

fn change(bytes: &mut [u8], at: usize, flip: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= flip;
    }
}

impl Counts {
    fn add(&mut self, outcome: Outcome, sum: u64, at: usize) {
        match outcome {
            Outcome::Read(found) if found == sum => self.exact += 1,
            Outcome::Read(_) => {
                self.wrong += 1;
                self.first_wrong.get_or_insert(at);
            }
            Outcome::Refused(true) => self.refused += 1,
            Outcome::Refused(false) => self.placeless += 1,
            Outcome::Cut(found) if found == sum => self.cut_whole += 1,
            Outcome::Cut(_) => self.cut += 1,
        }
    }
}

/// Everything that a file in RDB form says, its notes aside.
fn load_rdb(bytes: &[u8]) -> Outcome {
    let limits = Thresholds::default();
    let read = || -> Result<Vec<Entry>, String> {
        let mut reader = Reader::new(bytes, &limits).map_err(|error| error.to_string())?;
        let mut entries = Vec::new();
        while let Some(item) = reader.next_item().map_err(|error| error.to_string())? {
            if let Item::Entry(entry) = item {
                entries.push(entry);
            }
        }
        Ok(entries)
    };
    match read() {
        Ok(entries) => {
            let mut sum = DefaultHasher::new();
            for entry in entries {
                (entry.db, &entry.key, entry.deadline, picture(&entry.value)).hash(&mut sum);
            }
            Outcome::Read(sum.finish())
        }
        Err(reason) => Outcome::Refused(reason.contains(" byte ")),
    }
}

/// Everything that a start would repeat of a log.
fn load_log(bytes: &[u8]) -> Outcome {
    let mut source = Cursor::new(bytes);
    let found = match scan(&mut source, 0) {
        Ok(found) => found,
        Err(error) => return Outcome::Refused(error.to_string().contains(" byte ")),
    };
    let mut sum = DefaultHasher::new();
    let mut rewind = || source.seek(SeekFrom::Start(0));
    if rewind().is_err() {
        return Outcome::Refused(false);
    }
    let mut reader = LogReader::new(Read::take(source, found.end), 0);
    loop {
        match next(&mut reader) {
            Ok(Some(args)) => args.hash(&mut sum),
            Ok(None) => break,
            Err(reason) => return Outcome::Refused(reason.contains(" byte ")),
        }
    }
    match found.cut {
        Some(_) => Outcome::Cut(sum.finish()),
        None => Outcome::Read(sum.finish()),
    }
}

fn next(reader: &mut LogReader<impl BufRead>) -> Result<Option<Vec<Vec<u8>>>, String> {
    loop {
        match reader.next_item().map_err(|error| error.to_string())? {
            Some(LogItem::Command { args, .. }) => return Ok(Some(args)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// What a manifest says.
fn load_manifest(bytes: &[u8]) -> Outcome {
    match Manifest::parse(bytes) {
        Ok(manifest) => {
            let mut sum = DefaultHasher::new();
            format!("{manifest:?}").hash(&mut sum);
            Outcome::Read(sum.finish())
        }
        Err(error) => Outcome::Refused(error.to_string().contains(" line ")),
    }
}
