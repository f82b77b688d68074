//! Hit ratios of the eviction policies: traces replayed through the wire, Larder beside redis-server. A
//! request is GET, and SET of 32 bytes if it missed; first requests count as misses too.
//!
//! Two tables: with as many resident keys (`maxmemory` is steered until DBSIZE says so), which compares the
//! policies, and with as many bytes for data, which compares what a user gets for his memory. It knows
//! nothing of how a policy works.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::process::{Client, Server};

const VALUE: [u8; 32] = [b'v'; 32];
const WAIT: Duration = Duration::from_secs(20);
/// Of the loop, this many requests, each for a row of so many keys.
const LOOP_REQUESTS: usize = 15_000;
const LOOP_ROW: u64 = 50;
/// Room for these shares of a trace's distinct keys.
const SHARES: [(&str, f64); 2] = [("1 %", 0.01), ("10 %", 0.1)];

struct Options {
    subject: String,
    peer: String,
    traces: String,
    /// Only this many requests of each trace; for trying out.
    requests: usize,
}

struct Trace {
    name: &'static str,
    keys: Vec<u64>,
    distinct: usize,
}

/// How much may stay.
#[derive(Clone, Copy)]
enum Room {
    Keys(usize),
    /// Bytes beyond what the server used when it held one key.
    Bytes(u64),
}

struct Outcome {
    misses: usize,
    requests: usize,
    refused: usize,
    /// Keys that were there, on average once it was full.
    resident: usize,
    /// Bytes for data that the limit left at the end.
    bytes: u64,
}

impl Outcome {
    fn miss_percent(&self) -> f64 {
        100.0 * self.misses as f64 / self.requests.max(1) as f64
    }
}

/// Replays the traces and prints both tables.
pub fn run(args: &[String]) -> Result<()> {
    let options = options(args)?;
    let traces = [web(&options)?, looping(&options)?];
    let title = |text| {
        println!(
            "\n{text}\ntrace room  server       policy           miss %  resident  data bytes"
        );
    };
    title("As many resident keys:");
    let mut rooms = Vec::new();
    for trace in &traces {
        for (share, part) in SHARES {
            let room = Room::Keys((trace.distinct as f64 * part) as usize);
            for policy in ["allkeys-lru", "allkeys-lfu"] {
                let outcome = replay(&options.peer, policy, trace, room)?;
                show(trace, share, &options.peer, policy, &outcome);
                if policy == "allkeys-lru" {
                    rooms.push((trace, share, Room::Bytes(outcome.bytes)));
                }
            }
            ours(&options, trace, share, room)?;
        }
    }
    title("As many bytes for data (those that redis-server's allkeys-lru had above):");
    for (trace, share, room) in rooms {
        ours(&options, trace, share, room)?;
    }
    Ok(())
}

fn ours(options: &Options, trace: &Trace, share: &str, room: Room) -> Result<()> {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-s3fifo"] {
        let outcome = replay(&options.subject, policy, trace, room)?;
        show(trace, share, "larder", policy, &outcome);
    }
    Ok(())
}

fn show(trace: &Trace, share: &str, server: &str, policy: &str, outcome: &Outcome) {
    let Outcome { resident, bytes, refused, .. } = outcome;
    let note = if *refused > 0 { format!("  {refused} writes refused") } else { String::new() };
    println!(
        "{:<5} {share:>4}  {server:<12} {policy:<15} {:>7.2}  {resident:>8}  {bytes:>10}{note}",
        trace.name,
        outcome.miss_percent()
    );
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options {
        subject: "target/release/larder".to_owned(),
        peer: "redis-server".to_owned(),
        traces: "../shared/traces".to_owned(),
        requests: usize::MAX,
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => options.subject.clone_from(value),
            "--peer" => options.peer.clone_from(value),
            "--traces" => options.traces.clone_from(value),
            "--requests" => options.requests = value.parse()?,
            other => bail!("no option {other}"),
        }
    }
    Ok(options)
}

fn web(options: &Options) -> Result<Trace> {
    let path = Path::new(&options.traces).join("web-recommendations.u64be.xz");
    let bytes = unpacked("xz", &path)?;
    let (records, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        bail!("{} ends within a record", path.display());
    }
    Ok(trace("web", records.iter().map(|record| u64::from_be_bytes(*record)), options))
}

fn looping(options: &Options) -> Result<Trace> {
    let path = Path::new(&options.traces).join("loop.txt.gz");
    let text = String::from_utf8(unpacked("gzip", &path)?)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "*");
    let laps = lines.map(str::parse).take(LOOP_REQUESTS).collect::<Result<Vec<u64>, _>>()?;
    // The loop is of a few hundred keys, whose bytes would be lost beside those of the connections: each
    // stands for a row of keys.
    let keys =
        laps.into_iter().flat_map(|number| (0..LOOP_ROW).map(move |at| number * LOOP_ROW + at));
    Ok(trace("loop", keys, options))
}

fn trace(name: &'static str, keys: impl Iterator<Item = u64>, options: &Options) -> Trace {
    let keys: Vec<u64> = keys.take(options.requests).collect();
    let distinct = keys.iter().collect::<HashSet<_>>().len();
    Trace { name, keys, distinct }
}

fn unpacked(program: &str, path: &Path) -> Result<Vec<u8>> {
    let output = Command::new(program).arg("-dc").arg(path).output();
    let output = output.with_context(|| format!("{program} is needed"))?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}", path.display());
    }
    Ok(output.stdout)
}

/// One replay on a fresh server.
fn replay(program: &str, policy: &str, trace: &Trace, room: Room) -> Result<Outcome> {
    let server = Server::start_with(program, &["--maxmemory-policy", policy])?;
    let mut keeper = Keeper::new(&server, room)?;
    let mut client = server.connect()?;
    let mut outcome =
        Outcome { misses: 0, requests: trace.keys.len(), refused: 0, resident: 0, bytes: 0 };
    // Requests of one batch see none of each other's effects: a batch is a small part of the cache.
    let depth = match room {
        Room::Keys(keys) => (keys / 80).clamp(4, 64),
        Room::Bytes(bytes) => usize::try_from(bytes / 12_000)?.clamp(4, 64),
    };
    let begun = Instant::now();
    let mut rest = trace.keys.as_slice();
    while !rest.is_empty() {
        let count = independent(rest, depth);
        let (batch, later) = rest.split_at(count);
        rest = later;
        let missed = look(&mut client, batch)?;
        outcome.misses += missed.len();
        let (refused, size) = fill(&mut client, &missed)?;
        outcome.refused += refused;
        keeper.steer(size)?;
        if begun.elapsed() > Duration::from_secs(900) {
            bail!("a replay on {program} takes too long");
        }
    }
    outcome.resident = keeper.mean_size();
    outcome.bytes = keeper.limit.saturating_sub(keeper.empty);
    Ok(outcome)
}

/// How many of the first keys differ from each other, at most `most`.
fn independent(keys: &[u64], most: usize) -> usize {
    let end = keys.len().min(most);
    (1..end).find(|at| keys[..*at].contains(&keys[*at])).unwrap_or(end)
}

fn name(key: u64) -> Vec<u8> {
    format!("{key:016x}").into_bytes()
}

/// Gets the keys; returns those that were not there.
fn look(client: &mut Client, keys: &[u64]) -> Result<Vec<u64>> {
    let gets: Vec<Vec<Vec<u8>>> =
        keys.iter().map(|key| vec![b"GET".to_vec(), name(*key)]).collect();
    client.send_all(&gets)?;
    let mut missed = Vec::new();
    for key in keys {
        match client.read(WAIT)? {
            Value::Null => missed.push(*key),
            Value::Bulk(value) if value == VALUE => {}
            other => bail!("GET answered {other:?}"),
        }
    }
    Ok(missed)
}

/// Sets the keys; returns how many were refused, and the number of keys afterwards.
fn fill(client: &mut Client, keys: &[u64]) -> Result<(usize, usize)> {
    let set = |key: &u64| vec![b"SET".to_vec(), name(*key), VALUE.to_vec()];
    let mut sets: Vec<Vec<Vec<u8>>> = keys.iter().map(set).collect();
    sets.push(vec![b"DBSIZE".to_vec()]);
    client.send_all(&sets)?;
    let mut refused = 0;
    for _ in keys {
        match client.read(WAIT)? {
            Value::Simple(_) => {}
            Value::Error(text) if text.starts_with(b"OOM") => refused += 1,
            other => bail!("SET answered {other:?}"),
        }
    }
    match client.read(WAIT)? {
        Value::Integer(size) => Ok((refused, usize::try_from(size)?)),
        other => bail!("DBSIZE answered {other:?}"),
    }
}

/// Keeps the room: sets the limit once, or steers it until as many keys stay as shall.
struct Keeper {
    client: Client,
    room: Room,
    /// Bytes in use with one key.
    empty: u64,
    limit: u64,
    a_key: f64,
    batches: usize,
    sizes: (usize, usize),
}

impl Keeper {
    fn new(server: &Server, room: Room) -> Result<Keeper> {
        let mut client = server.connect()?;
        client.call(&["SET", "first", "1"])?;
        let empty = used(&mut client)?;
        client.call(&["DEL", "first"])?;
        let mut keeper =
            Keeper { client, room, empty, limit: 0, a_key: 0.0, batches: 0, sizes: (0, 0) };
        if let Room::Bytes(bytes) = room {
            keeper.set(empty + bytes)?;
        }
        Ok(keeper)
    }

    fn set(&mut self, limit: u64) -> Result<()> {
        self.limit = limit;
        match self.client.call(&["CONFIG", "SET", "maxmemory", &limit.to_string()])? {
            Value::Simple(_) => Ok(()),
            other => bail!("CONFIG SET answered {other:?}"),
        }
    }

    fn steer(&mut self, size: usize) -> Result<()> {
        self.batches += 1;
        let Room::Keys(wanted) = self.room else {
            self.note(size);
            return Ok(());
        };
        if self.limit == 0 {
            if size >= wanted {
                let used = used(&mut self.client)?;
                self.a_key = used.saturating_sub(self.empty) as f64 / size as f64;
                self.set(used)?;
            }
            return Ok(());
        }
        self.note(size);
        let off = wanted as f64 - size as f64;
        if self.batches.is_multiple_of(8) && off.abs() > 1.0 + wanted as f64 / 500.0 {
            let limit = self.limit as f64 + off * self.a_key * 0.5;
            self.set(limit.max(self.empty as f64) as u64)?;
        }
        Ok(())
    }

    fn note(&mut self, size: usize) {
        self.sizes.0 += size;
        self.sizes.1 += 1;
    }

    fn mean_size(&self) -> usize {
        self.sizes.0 / self.sizes.1.max(1)
    }
}

fn used(client: &mut Client) -> Result<u64> {
    info(client, "memory", "used_memory")
}

/// A number that INFO tells.
pub fn info<N: std::str::FromStr>(client: &mut Client, section: &str, field: &str) -> Result<N>
where
    N::Err: fmt::Debug,
{
    client.send(&["INFO", section])?;
    // A server that loads or copies may answer late.
    let Value::Bulk(text) = client.read(Duration::from_secs(60))? else { bail!("INFO fails") };
    let text = String::from_utf8(text)?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) =
        pairs.find(|(name, _)| *name == field).with_context(|| format!("INFO has no {field}"))?;
    value.parse().map_err(|error| anyhow::anyhow!("{field} is {value}: {error:?}"))
}
