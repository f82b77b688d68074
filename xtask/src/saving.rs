//! What a save costs, Larder beside redis-server (or another peer): how long BGSAVE takes under steady writes, how
//! much memory it takes meanwhile, how long commands take, how fast a server starts from the file; and what a
//! huge sorted set feels that is written to while it is saved. It measures from outside: INFO, SLOWLOG, /proc.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_base::rng::Rng;
use larder_protocol::response::Value;

use crate::compare::Cpu;
use crate::hit_ratio::info;
use crate::memory::resident;
use crate::process::{Client, Server};
use crate::stall::{Request, exchange, longest, request};

const BATCH: u64 = 500;

struct Options {
    subject: String,
    peers: Vec<String>,
    keys: u64,
    members: u64,
    /// Writes a second while it is saved.
    rate: u64,
}

/// Measures and prints.
pub fn run(args: &[String]) -> Result<()> {
    let mut options = Options {
        subject: "target/release/larder".to_owned(),
        peers: Vec::new(),
        keys: 5_000_000,
        members: 5_000_000,
        rate: 20_000,
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => options.subject.clone_from(value),
            "--peer" => options.peers.push(value.clone()),
            "--keys" => options.keys = value.parse()?,
            "--members" => options.members = value.parse()?,
            "--rate" => options.rate = value.parse()?,
            other => bail!("no option {other}"),
        }
    }
    if options.peers.is_empty() {
        options.peers.push("redis-server".to_owned());
    }
    println!(
        "{} keys of 16 bytes, values of 32, {} writes/s meanwhile",
        options.keys, options.rate
    );
    for program in std::iter::once(&options.subject).chain(&options.peers) {
        save_and_start(&options, program).with_context(|| program.clone())?;
    }
    for program in std::iter::once(&options.subject).chain(&options.peers) {
        big_set(&options, program).with_context(|| program.clone())?;
    }
    Ok(())
}

fn short(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// Sets the key of a number to 32 bytes, others for every salt.
pub fn set(number: u64, salt: u64) -> Request {
    let value = format!("{:016x}{salt:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    request(&["SET", &format!("key:{number:012}"), &value])
}

/// Steady writes from a thread of their own, until told to end; returns how many there were and the longest wait.
struct Writer {
    stop: Arc<AtomicBool>,
    longest_us: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Result<u64>>,
}

impl Writer {
    fn start(
        server: &Server,
        rate: u64,
        mut make: impl FnMut(&mut Rng) -> Request + Send + 'static,
    ) -> Result<Writer> {
        const TURN: Duration = Duration::from_millis(10);
        let stop = Arc::new(AtomicBool::new(false));
        let longest_us = Arc::new(AtomicU64::new(0));
        let mut client = server.connect()?;
        let (stopped, felt) = (Arc::clone(&stop), Arc::clone(&longest_us));
        let thread = std::thread::spawn(move || {
            let (begun, mut sent, mut rng) = (Instant::now(), 0u64, Rng::new(7));
            while !stopped.load(Ordering::Relaxed) {
                let due = u64::try_from(begun.elapsed().as_millis())? * rate / 1000;
                let batch: Vec<Request> =
                    (sent..due.min(sent + 1000)).map(|_| make(&mut rng)).collect();
                sent += batch.len() as u64;
                if !batch.is_empty() {
                    let asked = Instant::now();
                    exchange(&mut client, &batch)?;
                    let took = u64::try_from(asked.elapsed().as_micros())?;
                    felt.fetch_max(took, Ordering::Relaxed);
                }
                std::thread::sleep(TURN);
            }
            Ok(sent)
        });
        Ok(Writer { stop, longest_us, thread })
    }

    fn end(self) -> Result<(u64, f64)> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok((sent, self.longest_us.load(Ordering::Relaxed) as f64 / 1e3))
    }
}

/// Memory of a process and its children in bytes, each page counted once.
fn memory(pid: u32) -> Result<u64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    if children.trim().is_empty() {
        // Nothing is shared: the counter will do. A walk over the pages holds the process up.
        return resident(pid);
    }
    let mut total = proportional(pid)?;
    for child in children.split_whitespace() {
        // It may have ended meanwhile.
        total += child.parse().map(|pid| proportional(pid).unwrap_or(0)).unwrap_or(0);
    }
    Ok(total)
}

fn proportional(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
    let kilobytes = line.split_whitespace().nth(1).context("Pss")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

fn prepare(client: &mut Client) -> Result<()> {
    for (name, value) in [("slowlog-log-slower-than", "500"), ("slowlog-max-len", "1000")] {
        exchange(client, &[request(&["CONFIG", "SET", name, value])])?;
    }
    Ok(())
}

struct Saved {
    seconds: f64,
    grown: f64,
    peak: u64,
}

/// BGSAVE, watched until it is over.
fn save(server: &Server, client: &mut Client) -> Result<Saved> {
    exchange(client, &[request(&["SLOWLOG", "RESET"])])?;
    let before = memory(server.pid())?;
    let (mut peak, begun, mut looked) = (before, Instant::now(), Instant::now());
    exchange(client, &[request(&["BGSAVE"])])?;
    let mut seconds;
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let running: u8 = info(client, "persistence", "rdb_bgsave_in_progress")?;
        seconds = begun.elapsed().as_secs_f64();
        if looked.elapsed() > Duration::from_millis(200) || running == 0 {
            // Walking over the pages holds the process up for a moment: not too often.
            peak = peak.max(memory(server.pid())?);
            looked = Instant::now();
        }
        if running == 0 {
            break;
        }
    }
    let status: String = info(client, "persistence", "rdb_last_bgsave_status")?;
    if status != "ok" {
        bail!("the save failed");
    }
    Ok(Saved { seconds, grown: (peak as f64 / before as f64 - 1.0) * 100.0, peak })
}

fn save_and_start(options: &Options, program: &str) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("larder-saving-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = save_and_start_in(options, program, &folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn save_and_start_in(options: &Options, program: &str, folder: &Path) -> Result<()> {
    let dir = folder.to_str().context("a folder's name")?;
    let is_ours = !program.ends_with("-server");
    let one: &[&str] = if is_ours { &["--dir", dir, "--workers", "1"] } else { &["--dir", dir] };
    let server = Server::start_with(program, one)?;
    let mut client = server.connect()?;
    prepare(&mut client)?;
    for first in (0..options.keys).step_by(usize::try_from(BATCH)?) {
        let batch: Vec<Request> = (first..first + BATCH).map(|number| set(number, 0)).collect();
        exchange(&mut client, &batch)?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let name = short(program);
    for rate in [0, options.rate] {
        let keys = options.keys;
        let writer = (rate > 0)
            .then(|| Writer::start(&server, rate, move |rng| set(rng.below(keys), 1)))
            .transpose()?;
        std::thread::sleep(Duration::from_secs(1));
        let saved = save(&server, &mut client)?;
        let (took, command) = longest(&mut client)?;
        let fork: u64 = info(&mut client, "stats", "latest_fork_usec")?;
        let (written, felt) = writer.map_or(Ok((0, 0.0)), Writer::end)?;
        println!(
            "{name:<14} BGSAVE at {rate} writes/s: {:.2} s; memory +{:.1} % (at most {} MiB); longest command {took:.2} ms \
             ({command}), fork {:.1} ms; {written} writes, longest batch {felt:.1} ms",
            saved.seconds,
            saved.grown,
            saved.peak >> 20,
            fork as f64 / 1e3,
        );
    }
    drop(client);
    drop(server);
    let starts: &[(&str, &[&str])] = if is_ours {
        &[("one worker", &["--workers", "1"]), ("two workers", &["--workers", "2"])]
    } else {
        &[("", &[])]
    };
    for (how, more) in starts {
        let begun = Instant::now();
        let server = Server::start_with(program, &[&["--dir", dir], *more].concat())?;
        let mut client = server.connect()?;
        while info::<u8>(&mut client, "persistence", "loading")? != 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let Value::Integer(keys) = client.call(&["DBSIZE"])? else { bail!("DBSIZE fails") };
        let [all, ..] = Cpu::of(server.pid())?.micros();
        println!(
            "{name:<14} start {how}: {seconds:.2} s, {:.2} s of processor; {keys} keys",
            all / 1e6
        );
    }
    Ok(())
}

fn big_set(options: &Options, program: &str) -> Result<()> {
    let is_ours = !program.ends_with("-server");
    let more: &[&str] = if is_ours { &["--workers", "1"] } else { &[] };
    let server = Server::start_with(program, more)?;
    let mut client = server.connect()?;
    prepare(&mut client)?;
    for first in (0..options.members).step_by(1000) {
        let mut add = request(&["ZADD", "big"]);
        for number in first..first + 1000 {
            add.extend(request(&[&(number % 977).to_string(), &format!("member:{number}")]));
        }
        exchange(&mut client, &[add])?;
    }
    let members = options.members;
    let writer = Writer::start(&server, options.rate, move |rng| {
        let member = format!("member:{}", rng.below(members));
        request(&["ZINCRBY", "big", "1", &member])
    })?;
    std::thread::sleep(Duration::from_secs(1));
    let saved = save(&server, &mut client)?;
    let (took, command) = longest(&mut client)?;
    let (written, felt) = writer.end()?;
    println!(
        "{:<14} sorted set of {members} saved in {:.2} s under {written} ZINCRBY; memory +{:.1} %; longest command {took:.2} ms \
         ({command}), longest batch {felt:.1} ms",
        short(program),
        saved.seconds,
        saved.grown,
    );
    Ok(())
}
