//! `maxmemory` under pressure: each policy while clients write twice what fits, for a while. The server must stay up,
//! within its limit, and go on serving others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::hit_ratio::info;
use crate::memory::resident;
use crate::process::Server;

const POLICIES: [&str; 10] = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
    "allkeys-s3fifo",
    "volatile-s3fifo",
];
const LIMIT: u64 = 100 << 20;
const WAIT: Duration = Duration::from_secs(20);

/// Runs all policies and prints a line for each.
pub fn run(args: &[String]) -> Result<()> {
    let (mut subject, mut seconds) = ("target/release/larder".to_owned(), 60.0);
    let mut policies: Vec<String> = POLICIES.iter().map(|&name| name.to_owned()).collect();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => subject.clone_from(value),
            "--seconds" => seconds = value.parse()?,
            "--policies" => policies = value.split(',').map(str::to_owned).collect(),
            other => bail!("no option {other}"),
        }
    }
    println!(
        "limit {} MiB, {seconds} s each; bytes in MiB\n\
         policy             writes  refused   evicted  used, at most  resident  longest GET of another",
        LIMIT >> 20
    );
    for policy in &policies {
        one(&subject, policy, Duration::from_secs_f64(seconds)).context(policy.clone())?;
    }
    Ok(())
}

/// Twice what fits, half of it with a deadline, written again and again.
fn one(subject: &str, policy: &str, time: Duration) -> Result<()> {
    let server = Server::start_with(
        subject,
        &["--maxmemory", &LIMIT.to_string(), "--maxmemory-policy", policy],
    )?;
    let stop = Arc::new(AtomicBool::new(false));
    let felt = Arc::new(AtomicU64::new(0));
    let mut probe = server.connect()?;
    let thread = std::thread::spawn({
        let (stop, felt) = (Arc::clone(&stop), Arc::clone(&felt));
        move || -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                probe.call(&["GET", "anything"])?;
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                felt.fetch_max(took, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }
    });
    let mut writer = server.connect()?;
    let mut watcher = server.connect()?;
    let (mut writes, mut refused, mut most) = (0u64, 0u64, 0u64);
    // About 256 bytes each: this many are twice the limit.
    let distinct = 2 * LIMIT / 256;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let batch: Vec<Vec<Vec<u8>>> = (writes..writes + 100)
            .map(|number| {
                let number = number.wrapping_mul(0x9e37_79b9) % distinct;
                let mut words = vec![
                    b"SET".to_vec(),
                    format!("key:{number:012}").into_bytes(),
                    vec![b'x'; 192],
                ];
                if number.is_multiple_of(2) {
                    words.extend([b"EX".to_vec(), (100 + number % 1000).to_string().into_bytes()]);
                }
                words
            })
            .collect();
        writer.send_all(&batch)?;
        for _ in &batch {
            match writer.read(WAIT)? {
                Value::Simple(_) => {}
                Value::Error(text) if text.starts_with(b"OOM") => refused += 1,
                other => bail!("SET answered {other:?}"),
            }
        }
        writes += 100;
        if writes.is_multiple_of(5000) {
            most = most.max(info(&mut watcher, "memory", "used_memory")?);
        }
    }
    stop.store(true, Ordering::Relaxed);
    match thread.join() {
        Ok(result) => result.context("another client was not served")?,
        Err(_) => bail!("the probing client panicked"),
    }
    let evicted: u64 = info(&mut watcher, "stats", "evicted_keys")?;
    println!(
        "{policy:<15} {writes:>9} {refused:>8} {evicted:>9} {:>14.1} {:>9.1} {:>20.2} ms",
        mib(most),
        mib(resident(server.pid())?),
        felt.load(Ordering::Relaxed) as f64 / 1e3
    );
    if most > LIMIT + LIMIT / 50 {
        bail!("used_memory went more than 2 % over the limit");
    }
    if policy != "noeviction" && !policy.starts_with("volatile") && refused > 0 {
        bail!("writes were refused though there was something to evict");
    }
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
