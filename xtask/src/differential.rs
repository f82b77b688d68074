//! Differential test: random commands, the same to Larder and to redis-server, every reply compared.
//! A difference is shrunk to the fewest commands that still show it, on emptied servers. What differs on
//! purpose stands in `tests/differential-waivers.txt`, each with its reason.

mod generator;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::conformance::render;
use crate::process::{Client, Server};
use generator::Generator;

type Words = Vec<Vec<u8>>;

const BATCH: usize = 100;
/// Batches between two FLUSHALL: what a shrink starts from.
const EPOCH: usize = 30;
const WAIT: Duration = Duration::from_secs(20);
const WAIVERS: &str = "tests/differential-waivers.txt";
const WAIVERS_MAX: usize = 20;

/// What a run found.
pub struct Outcome {
    /// Replies compared.
    pub compared: usize,
    /// Differences without a waiver, one a command name.
    pub differences: usize,
}

struct Options {
    subject: String,
    commands: usize,
    seed: u64,
    until: Option<Instant>,
}

fn options(args: &[String]) -> Result<Options> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let mut options = Options {
        subject: "target/release/larder".to_owned(),
        commands: 300_000,
        seed: u64::from(now),
        until: None,
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => options.subject.clone_from(value),
            "--commands" => options.commands = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--seconds" => {
                options.until = Some(Instant::now() + Duration::from_secs(value.parse()?));
                options.commands = usize::MAX;
            }
            other => bail!("no option {other}"),
        }
    }
    Ok(options)
}

/// Lines of `needle # reason`: a difference whose text holds the needle is expected.
fn waivers() -> Result<Vec<String>> {
    let mut needles = Vec::new();
    for line in fs::read_to_string(WAIVERS).unwrap_or_default().lines() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (needle, _) = line.split_once(" # ").context("a waiver without a reason")?;
        needles.push(needle.trim().to_owned());
    }
    if needles.len() > WAIVERS_MAX {
        bail!("{} waivers: at most {WAIVERS_MAX}", needles.len());
    }
    Ok(needles)
}

/// Runs until the commands or the seconds are spent.
pub fn run(args: &[String]) -> Result<Outcome> {
    let options = options(args)?;
    let waivers = waivers()?;
    println!("seed {}", options.seed);
    let ours = Server::start(&options.subject)?;
    let oracle = Server::start("redis-server")?;
    let mut generator = Generator::new(options.seed);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut outcome = Outcome { compared: 0, differences: 0 };
    let (started, mut epoch) = (Instant::now(), 0_u64);
    let mut missing = Vec::new();
    while outcome.compared < options.commands
        && options.until.is_none_or(|until| Instant::now() < until)
        && found.len() < 40
    {
        let version = if epoch.is_multiple_of(2) { "2" } else { "3" };
        epoch += 1;
        let mut pair = Pair::open(&ours, &oracle, version)?;
        let mut history: Vec<Words> = Vec::new();
        for _ in 0..EPOCH {
            let batch: Vec<Words> = (0..BATCH).map(|_| generator.command()).collect();
            let result = pair.play(&batch)?;
            outcome.compared += result.compared;
            let Some(difference) = result.difference else {
                history.extend(batch);
                continue;
            };
            let words = &batch[difference.at];
            if difference.ours.contains("unknown command") {
                generator.skip(&words[0]);
                missing.push(String::from_utf8_lossy(&words[0]).into_owned());
                break;
            }
            let text = difference.text(words);
            if waivers.iter().any(|needle| text.contains(needle)) {
                break;
            }
            let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
            if let Entry::Vacant(free) = found.entry(name) {
                history.extend(batch.into_iter().take(difference.at + 1));
                let script = shrink(history, version, &ours, &oracle, &waivers)?;
                println!("-- {} (RESP{version})\n{script}{text}", free.key());
                free.insert(script);
            }
            break;
        }
    }
    outcome.differences = found.len();
    let rate = outcome.compared as f64 / started.elapsed().as_secs_f64();
    println!("{} replies compared, {rate:.0}/s, {} differences", outcome.compared, found.len());
    if !missing.is_empty() {
        println!("not in the subject: {}", missing.join(" "));
    }
    Ok(outcome)
}

struct Difference {
    at: usize,
    ours: String,
    oracle: String,
}

impl Difference {
    fn text(&self, words: &Words) -> String {
        format!("   {}\n   Larder {}\n   Redis  {}\n", line(words), self.ours, self.oracle)
    }
}

struct Played {
    compared: usize,
    difference: Option<Difference>,
}

/// Both servers, emptied, on fresh connections.
struct Pair {
    ours: Client,
    oracle: Client,
    queued: Option<Vec<Words>>,
}

impl Pair {
    fn open(ours: &Server, oracle: &Server, version: &str) -> Result<Pair> {
        let mut pair = Pair { ours: ours.connect()?, oracle: oracle.connect()?, queued: None };
        for client in [&mut pair.ours, &mut pair.oracle] {
            client.call(&["FLUSHALL"])?;
            client.call(&["HELLO", version])?;
        }
        Ok(pair)
    }

    /// Plays a pipeline on both and compares up to the first difference.
    fn play(&mut self, batch: &[Words]) -> Result<Played> {
        self.ours.send_all(batch)?;
        self.oracle.send_all(batch)?;
        for (at, words) in batch.iter().enumerate() {
            let dead = || format!("after {}", line(words));
            let ours = self.ours.read(WAIT).with_context(dead)?;
            let oracle = self.oracle.read(WAIT).context("redis-server").with_context(dead)?;
            if let Some((ours, oracle)) = self.compare(words, &ours, &oracle) {
                let difference = Some(Difference { at, ours, oracle });
                return Ok(Played { compared: at + 1, difference });
            }
        }
        Ok(Played { compared: batch.len(), difference: None })
    }

    fn compare(&mut self, words: &Words, ours: &Value, oracle: &Value) -> Option<(String, String)> {
        let name = words[0].to_ascii_uppercase();
        if let (b"EXEC", Some(queued), Value::Array(left), Value::Array(right)) =
            (&name[..], self.queued.take_if(|_| name == b"EXEC"), ours, oracle)
            && left.len() == right.len()
            && left.len() == queued.len()
        {
            return left.iter().zip(right).zip(queued).find_map(|((left, right), words)| {
                let (left, right) = (canonical(&words, left), canonical(&words, right));
                (left != right).then_some((left, right))
            });
        }
        match oracle {
            Value::Simple(text) if text == b"QUEUED" => {
                if let Some(queued) = &mut self.queued {
                    queued.push(words.clone());
                }
            }
            Value::Simple(_) if name == b"MULTI" => self.queued = Some(Vec::new()),
            Value::Simple(_) if name == b"DISCARD" => self.queued = None,
            _ => {}
        }
        let (ours, oracle) = (canonical(words, ours), canonical(words, oracle));
        (ours != oracle).then_some((ours, oracle))
    }
}

/// A reply as text, without what may rightly differ.
fn canonical(words: &Words, value: &Value) -> String {
    let name = words[0].to_ascii_uppercase();
    let pairs = |items: &[Value], width: usize| {
        let mut parts: Vec<String> = items
            .chunks(width)
            .map(|part| part.iter().map(render).collect::<Vec<_>>().join("="))
            .collect();
        parts.sort();
        parts.join(" ")
    };
    match (&name[..], value) {
        (
            b"SMEMBERS" | b"SINTER" | b"SUNION" | b"SDIFF" | b"HKEYS" | b"HVALS" | b"KEYS"
            | b"SPOP",
            Value::Array(items) | Value::Set(items),
        ) => pairs(items, 1),
        (b"HGETALL", Value::Array(items)) => pairs(items, 2),
        (b"HGETALL", Value::Map(items)) => {
            let mut parts: Vec<String> =
                items.iter().map(|(k, v)| format!("{}={}", render(k), render(v))).collect();
            parts.sort();
            parts.join(" ")
        }
        // A whole iteration, since COUNT is larger than any key.
        (b"SCAN" | b"SSCAN" | b"HSCAN" | b"ZSCAN", Value::Array(items)) => match &items[..] {
            [_, Value::Array(items)] => {
                pairs(items, if matches!(&name[..], b"HSCAN" | b"ZSCAN") { 2 } else { 1 })
            }
            _ => render(value),
        },
        // What is drawn is random: its number is not, if no member may come twice.
        (b"SRANDMEMBER" | b"HRANDFIELD" | b"ZRANDMEMBER", Value::Array(items)) => {
            format!("{} drawn", items.len())
        }
        (
            b"SRANDMEMBER" | b"HRANDFIELD" | b"ZRANDMEMBER" | b"RANDOMKEY" | b"SPOP",
            Value::Bulk(_),
        ) => "one drawn".to_owned(),
        // It counts dead keys that the sweep has not come to.
        (b"DBSIZE", Value::Integer(_)) => "a count".to_owned(),
        // The clock went on between the two servers.
        (b"TTL" | b"EXPIRETIME", Value::Integer(time)) if *time > 0 => "a time".to_owned(),
        (b"PTTL" | b"PEXPIRETIME", Value::Integer(time)) if *time > 0 => "a time".to_owned(),
        _ => render(value),
    }
}

/// The fewest commands that still end in a difference, by leaving out ever smaller runs of them.
fn shrink(
    mut script: Vec<Words>,
    version: &str,
    ours: &Server,
    oracle: &Server,
    waivers: &[String],
) -> Result<String> {
    let shown = script.last().and_then(|words| words.first()).cloned().unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(8);
    let differs = |script: &[Words]| -> Result<Option<usize>> {
        let mut pair = Pair::open(ours, oracle, version)?;
        for (number, batch) in script.chunks(BATCH).enumerate() {
            if let Some(difference) = pair.play(batch)?.difference {
                // Another difference, met on the way, is not the one to show.
                let words = &batch[difference.at];
                let text = difference.text(words);
                let same = words[0].eq_ignore_ascii_case(&shown)
                    && !waivers.iter().any(|needle| text.contains(needle));
                return Ok(same.then_some(number * BATCH + difference.at));
            }
        }
        Ok(None)
    };
    let mut run = script.len() / 2;
    while run > 0 && Instant::now() < until {
        let mut from = 0;
        while from < script.len() && Instant::now() < until {
            let mut shorter = script.clone();
            shorter.drain(from..(from + run).min(script.len()));
            if let Some(at) = differs(&shorter)? {
                shorter.truncate(at + 1);
                script = shorter;
            } else {
                from += run;
            }
        }
        run /= 2;
    }
    Ok(script.iter().map(|words| format!("{}\n", line(words))).collect())
}

/// A command in redis-cli's quoting.
fn line(words: &Words) -> String {
    let quoted = words.iter().map(|word| {
        let plain = !word.is_empty() && word.iter().all(|b| b.is_ascii_graphic() && *b != b'"');
        match std::str::from_utf8(word) {
            Ok(text) if plain => text.to_owned(),
            _ => format!("\"{}\"", word.escape_ascii()),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}
