//! No stall: what commands and clients feel while the server grows, deletes something big and expires much.
//!
//! Five shows, each on a fresh server with one worker: ten million keys inserted; a set of five million members
//! deleted, unlinked and expired; a hash of five million fields that fall due together, all or every other one;
//! steady states of a million keys with short lives. The server's own clock
//! (SLOWLOG, INFO) judges commands; a client that asks all the time feels the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::hit_ratio::info;
use crate::process::{Client, Server};

const WAIT: Duration = Duration::from_secs(60);
const BATCH: usize = 200;

/// The words of a request.
pub type Request = Vec<Vec<u8>>;

struct Options {
    subject: String,
    /// Percent of the sizes, for trying out.
    percent: usize,
    shows: Vec<String>,
}

/// Runs the shows and prints what was felt.
pub fn run(args: &[String]) -> Result<()> {
    let mut options = Options {
        subject: "target/release/larder".to_owned(),
        percent: 100,
        shows: ["insert", "big", "fields", "steady"].map(str::to_owned).to_vec(),
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => options.subject.clone_from(value),
            "--percent" => options.percent = value.parse::<usize>()?.clamp(1, 100),
            "--shows" => options.shows = value.split(',').map(str::to_owned).collect(),
            other => bail!("no option {other}"),
        }
    }
    for show in &options.shows {
        match show.as_str() {
            "insert" => insert(&options)?,
            "big" => big(&options)?,
            "fields" => {
                fields(&options, 1)?;
                fields(&options, 2)?;
            }
            "steady" => {
                steady(&options, 60)?;
                steady(&options, 10)?;
            }
            "steady-60" => steady(&options, 60)?,
            "steady-10" => steady(&options, 10)?,
            other => bail!("no show {other}"),
        }
    }
    Ok(())
}

/// A request of these words.
pub fn request(words: &[&str]) -> Request {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Sends requests in one go and reads their replies, of which none may be an error.
pub fn exchange(client: &mut Client, batch: &[Request]) -> Result<()> {
    client.send_all(batch)?;
    for _ in batch {
        if let Value::Error(text) = client.read(WAIT)? {
            bail!("{}", String::from_utf8_lossy(&text));
        }
    }
    Ok(())
}

fn start(options: &Options) -> Result<(Server, Client)> {
    let server = Server::start_with(&options.subject, &["--workers", "1"])?;
    let mut client = server.connect()?;
    // Everything from half a millisecond on goes to the log, whose lengths are then looked at.
    for (name, value) in [("slowlog-log-slower-than", "500"), ("slowlog-max-len", "1000")] {
        exchange(&mut client, &[request(&["CONFIG", "SET", name, value])])?;
    }
    exchange(&mut client, &[request(&["SET", "probe", "1"])])?;
    Ok((server, client))
}

/// The longest command by the server's own clock, in milliseconds, with its name.
pub fn longest(client: &mut Client) -> Result<(f64, String)> {
    let Value::Array(entries) = client.call(&["SLOWLOG", "GET", "1000"])? else {
        bail!("SLOWLOG GET fails")
    };
    let mut longest = (0, "none over 0.5 ms".to_owned());
    for entry in entries {
        let Value::Array(parts) = entry else { bail!("SLOWLOG's entry") };
        let (Some(Value::Integer(micros)), Some(Value::Array(words))) =
            (parts.get(2), parts.get(3))
        else {
            bail!("SLOWLOG's entry")
        };
        if *micros > longest.0
            && let Some(Value::Bulk(name)) = words.first()
        {
            longest = (*micros, String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok((longest.0 as f64 / 1e3, longest.1))
}

/// A client that asks all the time, and remembers the longest wait.
struct Probe {
    stop: Arc<AtomicBool>,
    longest: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Probe {
    fn start(server: &Server) -> Result<Probe> {
        let (stop, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut client = server.connect()?;
        let shared = (Arc::clone(&stop), Arc::clone(&longest));
        let thread = std::thread::spawn(move || {
            let (stop, longest) = shared;
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client.call(&["GET", "probe"])?;
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                longest.fetch_max(took, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(100));
            }
            Ok(())
        });
        Ok(Probe { stop, longest, thread: Some(thread) })
    }

    /// The longest wait in milliseconds since the last call.
    fn take(&self) -> f64 {
        self.longest.swap(0, Ordering::Relaxed) as f64 / 1e3
    }

    fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => bail!("the probing client panicked"),
        }
    }
}

fn insert(options: &Options) -> Result<()> {
    let keys = 100_000 * options.percent;
    let (server, mut client) = start(options)?;
    let probe = Probe::start(&server)?;
    let begun = Instant::now();
    for first in (0..keys).step_by(BATCH) {
        let batch: Vec<Request> = (first..first + BATCH)
            .map(|number| request(&["SET", &format!("key:{number:012}"), &"x".repeat(32)]))
            .collect();
        exchange(&mut client, &batch)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let felt = probe.take();
    probe.end()?;
    let (took, name) = longest(&mut client)?;
    println!(
        "insert   {keys} keys in {seconds:.1} s: longest command {took:.2} ms ({name}); longest GET of another \
         client, pipelines of {BATCH} included, {felt:.2} ms"
    );
    Ok(())
}

fn big(options: &Options) -> Result<()> {
    let members = 50_000 * options.percent;
    let (server, mut client) = start(options)?;
    for way in ["DEL", "UNLINK", "PEXPIRE"] {
        for first in (0..members).step_by(1000) {
            let mut add = request(&["SADD", "big"]);
            add.extend((first..first + 1000).map(|number| format!("member:{number}").into_bytes()));
            exchange(&mut client, &[add])?;
        }
        exchange(&mut client, &[request(&["SLOWLOG", "RESET"])])?;
        let probe = Probe::start(&server)?;
        std::thread::sleep(Duration::from_secs(2));
        let before = probe.take();
        let command = match way {
            "PEXPIRE" => request(&["PEXPIRE", "big", "300"]),
            way => request(&[way, "big"]),
        };
        exchange(&mut client, &[command])?;
        std::thread::sleep(Duration::from_secs(2));
        let during = probe.take();
        probe.end()?;
        let Value::Integer(0) = client.call(&["EXISTS", "big"])? else {
            bail!("{way} left the set")
        };
        let (took, name) = longest(&mut client)?;
        println!(
            "big      {way} of a set of {members}: longest command {took:.2} ms ({name}); another client's \
             longest GET {during:.2} ms, {before:.2} ms in the two seconds before"
        );
    }
    Ok(())
}

/// A hash in which every so many-th field falls due at one moment, while it is read and written.
fn fields(options: &Options, every: usize) -> Result<()> {
    let count = 50_000 * options.percent;
    let (server, mut client) = start(options)?;
    let due = now_ms()? + 2000 + count as u64 / 50;
    for first in (0..count).step_by(500) {
        let name = |number: usize| format!("field:{number}").into_bytes();
        let mut dated = request(&[
            "HSETEX",
            "big",
            "PXAT",
            &due.to_string(),
            "FIELDS",
            &(500 / every).to_string(),
        ]);
        let mut plain = request(&["HSET", "big", "stays", "1"]);
        for number in first..first + 500 {
            let words = if number % every == 0 { &mut dated } else { &mut plain };
            words.extend([name(number), b"value".to_vec()]);
        }
        exchange(&mut client, &[dated])?;
        if every > 1 {
            exchange(&mut client, &[plain])?;
        }
    }
    let left = due.checked_sub(now_ms()? + 1000).context("filling took too long for this show")?;
    std::thread::sleep(Duration::from_millis(left));
    exchange(&mut client, &[request(&["SLOWLOG", "RESET"])])?;
    let probe = Probe::start(&server)?;
    std::thread::sleep(Duration::from_millis(900));
    let before = probe.take();
    let stays = if every > 1 { count - count.div_ceil(every) + 1 } else { 0 };
    let mut at = 0;
    let mut clean = None;
    while now_ms()? < due + 60_000 && clean.is_none() {
        at += 7919;
        let field = format!("field:{}", at % count);
        exchange(&mut client, &[request(&["HGET", "big", &field])])?;
        let len = client.call(&["HLEN", "big"])?;
        if now_ms()? > due + 2 && len != Value::Integer(i64::try_from(stays)?) {
            // Written to after its end, it has the fields of that.
            bail!("HLEN answers {len:?}, there are {stays} live fields");
        }
        let expired: u64 = info(&mut client, "stats", "expired_fields")?;
        if expired as usize >= count.div_ceil(every) {
            clean = Some(now_ms()?.saturating_sub(due));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let during = probe.take();
    probe.end()?;
    let (took, name) = longest(&mut client)?;
    let clean = clean.map_or("not".to_owned(), |ms| format!("after {ms} ms"));
    println!(
        "fields   {} of {count} fields of a hash due at once: longest command {took:.2} ms ({name}); another \
         client's longest GET {during:.2} ms, {before:.2} ms in the second before; all removed {clean}",
        count.div_ceil(every)
    );
    Ok(())
}

fn now_ms() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// A million keys, each living for `life` seconds, replaced as they go.
fn steady(options: &Options, life: u64) -> Result<()> {
    const TURN_MS: u64 = 20;
    let keys = 10_000 * options.percent as u64;
    let (server, mut client) = start(options)?;
    let mut alive: VecDeque<u64> = VecDeque::new();
    let mut number = 0u64;
    // The first lives end evenly over one life from the end of the filling on.
    let filled = now_ms()? + 1000 + keys / 50;
    let mut put = |client: &mut Client,
                   deadlines: &mut dyn Iterator<Item = u64>,
                   alive: &mut VecDeque<u64>| {
        let mut batch = Vec::new();
        for deadline in deadlines {
            let name = format!("key:{number:012}");
            number += 1;
            alive.push_back(deadline);
            batch.push(request(&["SET", &name, "x", "PXAT", &deadline.to_string()]));
        }
        exchange(client, &batch)
    };
    for first in (0..keys).step_by(BATCH) {
        let mut deadlines =
            (first..first + BATCH as u64).map(|at| filled + at * life * 1000 / keys);
        put(&mut client, &mut deadlines, &mut alive)?;
    }
    let left = filled.checked_sub(now_ms()?).context("filling took too long for this show")?;
    std::thread::sleep(Duration::from_millis(left));
    exchange(&mut client, &[request(&["SLOWLOG", "RESET"])])?;
    let (mut dead, mut worst, mut samples) = (0.0, 0.0f64, 0u32);
    let mut swept = 0;
    let mut last = filled;
    let end = filled + 20_000;
    let mut sampled = filled + 3_000;
    while last < end {
        let now = now_ms()?;
        if now < last + TURN_MS {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        let count = (now - last) * keys / (life * 1000);
        let span = now - last;
        let mut deadlines = (0..count).map(|at| last + life * 1000 + at * span / count.max(1));
        put(&mut client, &mut deadlines, &mut alive)?;
        last = now;
        if now >= sampled {
            if samples == 0 {
                swept = info(&mut client, "stats", "expire_cycle_cpu_milliseconds")?;
            }
            sampled = now + 500;
            let Value::Integer(size) = client.call(&["DBSIZE"])? else { bail!("DBSIZE fails") };
            let now = now_ms()?;
            while alive.front().is_some_and(|deadline| *deadline <= now) {
                alive.pop_front();
            }
            let share = (size as f64 - 1.0 - alive.len() as f64) / size as f64 * 100.0;
            (dead, worst, samples) = (dead + share, worst.max(share), samples + 1);
        }
    }
    let spent: u64 = info(&mut client, "stats", "expire_cycle_cpu_milliseconds")?;
    let expired: u64 = info(&mut client, "stats", "expired_keys")?;
    let core = (spent - swept) as f64 / (end - filled - 3000) as f64 * 100.0;
    let (took, name) = longest(&mut client)?;
    println!(
        "steady   {keys} keys living {life} s ({expired} expired): dead {:.2} % on average, {worst:.2} % at most; \
         sweeps take {core:.2} % of a core; longest command {took:.2} ms ({name})",
        dead / f64::from(samples.max(1)),
    );
    drop(server);
    Ok(())
}
