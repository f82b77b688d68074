//! RDB files and DUMP payloads between us and a real server: random data sets, written by the server and read by us,
//! written by us and loaded by the server, compared key by key with what the server answers. It knows
//! nothing of how either keeps its data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::{Millis, Rng};
use larder_persist::crc64::Crc64;
use larder_persist::rdb::{Entry, Item, Options, Reader, Version, Writer, dump, restore};
use larder_protocol::response::Value as Reply;
use larder_store::snapshot::Head;
use larder_store::{DbIndex, Payload, Record, Thresholds, Value};

use crate::process::{Client, Server};

pub type Args = Vec<Vec<u8>>;
/// What a key holds, as text that can be compared.
pub type Pictures = BTreeMap<Vec<u8>, String>;

/// Plays as many data sets as the arguments say.
pub fn run(args: &[String]) -> Result<()> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let number = |name: &str, default: u64| value(name).map_or(Ok(default), |text| text.parse());
    let (sets, seed) = (number("--sets", 200)?, number("--seed", 1)?);
    let program = value("--peer").unwrap_or_else(|| "redis-server".to_string());
    let folder = std::env::temp_dir().join(format!("larder-rdb-matrix-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let begin = Instant::now();
    let files = value("--files");
    let outcome = Matrix::start(&program, &folder).and_then(|mut matrix| {
        if let Some(files) = &files {
            matrix.old_files(Path::new(files))?;
        }
        for set in 0..sets {
            let place = || format!("data set {set} of --seed {seed}");
            let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(set));
            matrix.play(&mut rng, set % 10 == 0).with_context(place)?;
        }
        Ok(matrix)
    });
    if outcome.is_ok() {
        std::fs::remove_dir_all(&folder)?;
    }
    let matrix = outcome?;
    println!(
        "{program}: {sets} data sets each way, {} keys, {} payloads each way, {} damaged ones, {} files checked by its tool, \
         0 differences, {:.0} s",
        matrix.keys,
        matrix.payloads,
        matrix.damaged,
        matrix.checked,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

struct Matrix {
    program: String,
    folder: PathBuf,
    client: Client,
    /// Stops the server in the end.
    _server: Server,
    keys: usize,
    payloads: usize,
    /// Payloads of theirs that were damaged and refused or restored as something whole.
    damaged: usize,
    checked: usize,
}

impl Matrix {
    fn start(program: &str, folder: &Path) -> Result<Matrix> {
        let dir = folder.to_str().context("folder's name")?;
        let server = Server::start_with(program, &["--dir", dir, "--dbfilename", "dump.rdb"])?;
        let client = server.connect()?;
        let (program, folder) = (program.to_string(), folder.to_path_buf());
        Ok(Matrix {
            program,
            folder,
            client,
            _server: server,
            keys: 0,
            payloads: 0,
            damaged: 0,
            checked: 0,
        })
    }

    /// One data set, both ways.
    fn play(&mut self, rng: &mut Rng, check: bool) -> Result<()> {
        all(&mut self.client, &forms(rng))?;
        all(&mut self.client, &data_set(rng))?;
        all(&mut self.client, &[words(&["SAVE"])])?;
        let keys: Vec<Vec<u8>> = match all(&mut self.client, &[words(&["KEYS", "*"])])?.pop() {
            Some(Reply::Array(keys)) => keys.iter().map(bytes).collect::<Result<_>>()?,
            other => bail!("KEYS answers {other:?}"),
        };
        let answers = ask(&mut self.client, &keys)?;
        let entries = read_file(&self.folder.join("dump.rdb"))?;
        let read: Pictures = entries
            .iter()
            .map(|entry| (entry.key.clone(), dated(entry.deadline, &picture(&entry.value))))
            .collect();
        same(&answers, &read).context("their file, read by us")?;
        self.payloads(rng, &entries).context("payloads")?;
        write_file(&self.folder.join("dump.rdb"), &entries, rng, self.takes_11())?;
        if check {
            self.check_file()?;
        }
        all(&mut self.client, &[words(&["DEBUG", "RELOAD", "NOSAVE"])])?;
        same(&answers, &ask(&mut self.client, &keys)?).context("our file, loaded by them")?;
        let (mine, theirs) = (entries.len(), all(&mut self.client, &[words(&["DBSIZE"])])?);
        ensure!(theirs.first().and_then(Reply::as_integer) == i64::try_from(mine).ok(), "DBSIZE");
        self.keys += mine;
        Ok(())
    }

    /// Files of other times and hands: what we read of each is what the server reads, or we say why we refuse it.
    fn old_files(&mut self, files: &Path) -> Result<()> {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(files)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "rdb"));
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let entries = match read_entries(&path) {
                Ok((entries, _)) => entries,
                Err(error) => {
                    println!("{name}: refused: {error}");
                    continue;
                }
            };
            std::fs::copy(&path, self.folder.join("dump.rdb"))?;
            all(&mut self.client, &[words(&["DEBUG", "RELOAD", "NOSAVE"])])?;
            let keys: Vec<Vec<u8>> = entries.iter().map(|entry| entry.key.clone()).collect();
            let read = entries
                .iter()
                .map(|entry| (entry.key.clone(), dated(entry.deadline, &picture(&entry.value))))
                .collect();
            same(&ask(&mut self.client, &keys)?, &read).with_context(|| name.clone())?;
            let size = all(&mut self.client, &[words(&["DBSIZE"])])?;
            let size = size.first().and_then(Reply::as_integer);
            ensure!(size == i64::try_from(keys.len()).ok(), "{name}: {size:?} keys");
            println!("{name}: {} keys, equal", keys.len());
        }
        Ok(())
    }

    /// Valkey reads one version more than Redis 7.0.
    fn takes_11(&self) -> bool {
        self.program.contains("valkey")
    }

    /// DUMP of theirs is restored by us, ours by them.
    fn payloads(&mut self, rng: &mut Rng, entries: &[Entry]) -> Result<()> {
        for _ in 0..3 {
            let Some(entry) = entries.get(rng.below_usize(entries.len())) else { return Ok(()) };
            let theirs = all(&mut self.client, &[vec![b"DUMP".to_vec(), entry.key.clone()]])?;
            let theirs = bytes(theirs.first().context("no answer")?)?;
            let value = restore(&theirs, &Thresholds::default())?;
            ensure!(picture(&value) == picture(&entry.value), "their payload of {:?}", entry.key);
            self.damaged += damaged(&theirs, rng)?;
            let ours = dump(&Payload::Boxed(entry.value.as_ref()), Version::DEFAULT)?;
            let copy = b"{copy of a key}".to_vec();
            let command = [b"RESTORE", copy.as_slice(), b"0", &ours, b"REPLACE"];
            all(&mut self.client, &[command.iter().map(|arg| arg.to_vec()).collect()])?;
            let back = ask(&mut self.client, std::slice::from_ref(&copy))?;
            let expected = dated(None, &picture(&entry.value));
            ensure!(back.get(&copy) == Some(&expected), "our payload of {:?}", entry.key);
            all(&mut self.client, &[vec![b"DEL".to_vec(), copy]])?;
            self.payloads += 1;
        }
        Ok(())
    }

    fn check_file(&mut self) -> Result<()> {
        let tool = self.program.replace("-server", "-check-rdb");
        let mut command = Command::new(tool);
        command.arg(self.folder.join("dump.rdb")).stdout(Stdio::null());
        ensure!(command.status()?.success(), "their tool refuses our file");
        self.checked += 1;
        Ok(())
    }
}

/// What a server answers about these keys.
pub fn ask(client: &mut Client, keys: &[Vec<u8>]) -> Result<Pictures> {
    let about = |name: &str| keys.iter().map(|key| vec![name.into(), key.clone()]).collect();
    let (kinds, deadlines): (Vec<Args>, Vec<Args>) = (about("TYPE"), about("PEXPIRETIME"));
    let (kinds, deadlines) = (all(client, &kinds)?, all(client, &deadlines)?);
    let mut questions = Vec::new();
    for (key, kind) in keys.iter().zip(&kinds) {
        let name: &[&str] = match bytes(kind)?.as_slice() {
            b"string" => &["GET"],
            b"list" => &["LRANGE", "0", "-1"],
            b"set" => &["SMEMBERS"],
            b"hash" => &["HGETALL"],
            b"zset" => &["ZRANGE", "0", "-1", "WITHSCORES"],
            b"none" => &["GET"],
            other => bail!("type {:?}", String::from_utf8_lossy(other)),
        };
        let (name, rest) = name.split_at(1);
        questions.push([words(name), vec![key.clone()], words(rest)].concat());
    }
    let answers = all(client, &questions)?;
    let mut pictures = Pictures::new();
    for ((key, kind), (answer, when)) in keys.iter().zip(&kinds).zip(answers.iter().zip(deadlines))
    {
        let when = when.as_integer().filter(|when| *when >= 0).map(Millis);
        let kind = bytes(kind)?;
        let told = dated(when, &told(&kind, answer)?);
        pictures.insert(key.clone(), told);
    }
    Ok(pictures)
}

/// Sends commands and returns the answers, none of which may be an error.
pub fn all(client: &mut Client, commands: &[Args]) -> Result<Vec<Reply>> {
    client.send_all(commands)?;
    let mut answers = Vec::new();
    for command in commands {
        let answer = client.read(Duration::from_secs(30))?;
        if answer.is_error() {
            let name = command.first().map(|name| String::from_utf8_lossy(name).into_owned());
            bail!("{name:?} answers {answer:?}");
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// Damages a payload many times as a hostile client can, with a right checksum: each is refused, or is a whole value that
/// survives our own forms.
fn damaged(payload: &[u8], rng: &mut Rng) -> Result<usize> {
    const TIMES: usize = 30;
    let (limits, body) = (Thresholds::default(), payload.len() - 8);
    for _ in 0..TIMES {
        let mut other = payload.to_vec();
        for _ in 0..1 + rng.below(3) {
            let at = 1 + rng.below_usize(body - 3);
            match rng.below(2) {
                0 => other[at] = rng.next_u64().to_le_bytes()[0],
                _ => other[at] ^= 1 << rng.below(8),
            }
        }
        let checksum = Crc64::of(&other[..body]);
        other[body..].copy_from_slice(&checksum.to_le_bytes());
        let Ok(value) = restore(&other, &limits) else { continue };
        let again = dump(&Payload::Boxed(value.as_ref()), Version::Valkey(80))?;
        ensure!(picture(&restore(&again, &limits)?) == picture(&value), "damaged {payload:?}");
    }
    Ok(TIMES)
}

/// Makes the server keep small collections in one form or another.
pub fn forms(rng: &mut Rng) -> Vec<Args> {
    let mut pick =
        |from: &[&str]| (*from.get(rng.below_usize(from.len())).unwrap_or(&"1")).to_string();
    let options = [
        ("hash-max-listpack-entries", pick(&["0", "16", "512"])),
        ("zset-max-listpack-entries", pick(&["0", "16", "128"])),
        ("set-max-intset-entries", pick(&["0", "16", "512"])),
        ("list-max-listpack-size", pick(&["-2", "-1", "1", "16"])),
        ("list-compress-depth", pick(&["0", "1"])),
        ("rdbcompression", pick(&["yes", "no"])),
    ];
    let mut commands: Vec<Args> =
        options.iter().map(|(name, value)| words(&["CONFIG", "SET", name, value])).collect();
    commands.insert(0, words(&["FLUSHALL"]));
    commands
}

/// Commands that make a data set; keys tell their type, so that no command can fail.
pub fn data_set(rng: &mut Rng) -> Vec<Args> {
    let mut commands = Vec::new();
    for n in 0..1 + rng.below(40) {
        let kind = rng.below_usize(5);
        let key = [text(rng), format!(":{n}").into_bytes()].concat();
        let most = [3, 40, 600][rng.below_usize(3)];
        let count = 1 + rng.below(most);
        let integers = rng.below(2) == 0;
        for _ in 0..if kind == 0 { 1 } else { count } {
            let element = if integers { integer(rng) } else { text(rng) };
            let args: Vec<Vec<u8>> = match kind {
                0 => vec![b"SET".to_vec(), key.clone(), element],
                1 => vec![b"RPUSH".to_vec(), key.clone(), element],
                2 => vec![b"SADD".to_vec(), key.clone(), element],
                3 => vec![b"HSET".to_vec(), key.clone(), element, text(rng)],
                _ => vec![b"ZADD".to_vec(), key.clone(), score(rng), element],
            };
            commands.push(args);
        }
        if rng.below(3) == 0 {
            let when = 2_000_000_000_000 + rng.below(1 << 40);
            commands.push(vec![b"PEXPIREAT".to_vec(), key, when.to_string().into_bytes()]);
        }
    }
    commands
}

fn integer(rng: &mut Rng) -> Vec<u8> {
    (rng.next_u64().cast_signed() >> rng.below(64)).to_string().into_bytes()
}

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(8) {
        0 => integer(rng),
        1 => rng.below(300).to_string().into_bytes(),
        2 => b"abcabcabd".repeat(rng.below_usize(12)),
        3 => vec![b'x'; rng.below_usize(5000)],
        4 | 5 => (0..rng.below(80)).map(|_| rng.next_u64().to_le_bytes()[0]).collect(),
        6 => format!("field:{}", rng.below(100)).into_bytes(),
        _ => (0..rng.below(9)).flat_map(|_| rng.next_u64().to_string().into_bytes()).collect(),
    }
}

fn score(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => b"inf".to_vec(),
        1 => b"-inf".to_vec(),
        2 => integer(rng),
        3 => format!("{:e}", rng.unit_f64() * 1e-290).into_bytes(),
        4 => rng.below(5).to_string().into_bytes(),
        _ => format!("{}", (rng.unit_f64() - 0.5) * 1e6).into_bytes(),
    }
}

pub fn words(words: &[&str]) -> Args {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

pub fn bytes(reply: &Reply) -> Result<Vec<u8>> {
    reply.as_bytes().map(<[u8]>::to_vec).with_context(|| format!("no text: {reply:?}"))
}

fn dated(when: Option<Millis>, picture: &str) -> String {
    format!("{when:?} {picture}")
}

fn read_file(path: &Path) -> Result<Vec<Entry>> {
    let (entries, checked) = read_entries(path)?;
    ensure!(checked, "no checksum");
    Ok(entries)
}

/// The keys of a file, and whether it has a checksum.
fn read_entries(path: &Path) -> Result<(Vec<Entry>, bool)> {
    let mut reader = Reader::new(BufReader::new(File::open(path)?), &Thresholds::default())?;
    let (mut entries, mut checked) = (Vec::new(), false);
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Entry(entry) => entries.push(entry),
            Item::End { checked: found } => checked = found,
            _ => {}
        }
    }
    Ok((entries, checked))
}

/// Writes the keys in a version and with options that chance picks.
fn write_file(path: &Path, entries: &[Entry], rng: &mut Rng, version_11: bool) -> Result<()> {
    let version = match rng.below(if version_11 { 3 } else { 2 }) {
        0 => 9,
        1 => 10,
        _ => 11,
    };
    let options = Options {
        version: Version::Redis(version),
        compress: rng.below(2) == 0,
        checksum: rng.below(4) > 0,
    };
    let mut writer = Writer::new(File::create(path)?, options)?;
    writer.aux(b"redis-ver", b"7.0.15")?;
    writer.select(0)?;
    writer.sizes(entries.len() as u64, 0)?;
    for entry in entries {
        if rng.below(2) == 0 || !write_pieces(&mut writer, entry)? {
            let payload = Payload::Boxed(entry.value.as_ref());
            writer.entry(&entry.key, entry.deadline, entry.eviction, &payload)?;
        }
    }
    writer.finish()?;
    Ok(())
}

/// Writes a collection as a snapshot does that finds it too big to copy; false for types without members.
fn write_pieces(writer: &mut Writer<File>, entry: &Entry) -> Result<bool> {
    let record = |key: &[u8], text: &[u8]| Record::text(key, text, None, false);
    let members: Vec<(Record, Option<f64>)> = match &entry.value {
        Value::Text(_) | Value::List(_) => return Ok(false),
        Value::Set(set) => set.iter().map(|m| (record(&m.to_vec(), b""), None)).collect(),
        Value::Hash(hash) => {
            hash.entries().map(|(f, v, _)| (record(&f.to_vec(), &v.to_vec()), None)).collect()
        }
        Value::SortedSet(sorted) => {
            sorted.iter().map(|(m, score)| (record(&m.to_vec(), b""), Some(score))).collect()
        }
    };
    let head = Head {
        db: DbIndex(0),
        key: &entry.key,
        deadline: entry.deadline,
        eviction_bits: 0,
        kind: entry.value.as_ref().kind(),
        len: members.len(),
        earliest_expiry: None,
    };
    writer.begin(&head, entry.eviction)?;
    for (member, score) in &members {
        writer.member(member.as_ref(), *score)?;
    }
    writer.end()?;
    Ok(true)
}

/// What a value of ours is.
pub fn picture(value: &Value) -> String {
    match value {
        Value::Text(text) => one(text),
        Value::List(list) => many("list", list.iter().map(|element| one(&element.to_vec()))),
        Value::Set(set) => sorted("set", set.iter().map(|member| one(&member.to_vec()))),
        Value::Hash(hash) => sorted(
            "hash",
            hash.entries()
                .map(|(f, v, when)| format!("{}={}{when:?}", one(&f.to_vec()), one(&v.to_vec()))),
        ),
        Value::SortedSet(all) => {
            many("zset", all.iter().map(|(m, s)| format!("{}={:x}", one(&m.to_vec()), s.to_bits())))
        }
    }
}

/// What the server's answer says that a value is, in the same words.
fn told(kind: &[u8], answer: &Reply) -> Result<String> {
    if kind == b"string" {
        return Ok(one(&bytes(answer)?));
    }
    let parts = answer.as_array().context("no array")?;
    let parts: Vec<Vec<u8>> = parts.iter().map(bytes).collect::<Result<_>>()?;
    Ok(match kind {
        b"list" => many("list", parts.iter().map(|part| one(part))),
        b"set" => sorted("set", parts.iter().map(|part| one(part))),
        b"hash" => sorted(
            "hash",
            parts.chunks(2).map(|pair| format!("{}={}None", one(&pair[0]), one(&pair[1]))),
        ),
        _ => {
            let mut pairs = Vec::new();
            for pair in parts.chunks(2) {
                let score = larder_base::number::parse_f64(&pair[1]).context("no score")?;
                pairs.push(format!("{}={:x}", one(&pair[0]), score.to_bits()));
            }
            many("zset", pairs.into_iter())
        }
    })
}

fn one(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

fn many(kind: &str, parts: impl Iterator<Item = String>) -> String {
    format!("{kind} {}", parts.collect::<Vec<_>>().join(" "))
}

fn sorted(kind: &str, parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.collect();
    parts.sort();
    many(kind, parts.into_iter())
}

pub fn same(expected: &Pictures, found: &Pictures) -> Result<()> {
    for (key, picture) in expected {
        let other = found.get(key);
        ensure!(
            other == Some(picture),
            "key {}:\nthe server says {picture:.300}\nthe other says {:.300}",
            key.escape_ascii(),
            other.map_or("nothing", String::as_str)
        );
    }
    ensure!(expected.len() == found.len(), "{} keys, not {}", found.len(), expected.len());
    Ok(())
}
