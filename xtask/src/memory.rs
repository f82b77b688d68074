//! Resident bytes per key, Larder beside redis-server (and any other peer), each on a fresh server; and how far
//! `used_memory` is from what the allocator says. It measures from outside: /proc and INFO.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::hit_ratio::info;
use crate::process::{Client, Server};

const WAIT: Duration = Duration::from_secs(30);
const BATCH: u64 = 500;

type Request = Vec<Vec<u8>>;

struct Content {
    name: &'static str,
    /// Keys, in thousands, unless fewer are asked for.
    thousands: u64,
    request: fn(u64) -> Request,
}

const CONTENTS: [Content; 4] = [
    Content { name: "strings", thousands: 5000, request: |number| string(number, false) },
    Content { name: "strings, TTL", thousands: 5000, request: |number| string(number, true) },
    Content { name: "hashes of 5", thousands: 1000, request: hash },
    Content { name: "sorted sets of 10", thousands: 1000, request: sorted_set },
];

fn words(parts: &[&str]) -> Request {
    parts.iter().map(|part| part.as_bytes().to_vec()).collect()
}

fn string(number: u64, expires: bool) -> Request {
    let (key, value) = (format!("key:{number:012}"), format!("{number:032}"));
    // As text, not as a number that takes less.
    let mut request = words(&["SET", &key, &value.replace('0', "x")]);
    if expires {
        request.extend(words(&["EX", &(100_000 + number % 100_000).to_string()]));
    }
    request
}

fn hash(number: u64) -> Request {
    let mut request = words(&["HSET", &format!("key:{number:012}")]);
    for field in 0..5 {
        request
            .extend(words(&[&format!("fld{field:02}"), &format!("val{:07}", number % 10_000_000)]));
    }
    request
}

fn sorted_set(number: u64) -> Request {
    let mut request = words(&["ZADD", &format!("key:{number:012}")]);
    for member in 0..10 {
        request.extend(words(&[
            &(number % 1000 + member).to_string(),
            &format!("member:{member:03}"),
        ]));
    }
    request
}

/// Measures and prints a table.
pub fn run(args: &[String]) -> Result<()> {
    let (mut subject, mut peers) = ("target/release/larder".to_owned(), Vec::new());
    let mut share = 100;
    let mut options = args.iter();
    while let Some(word) = options.next() {
        let value = options.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => subject.clone_from(value),
            "--peer" => peers.push(value.clone()),
            "--percent" => share = value.parse::<u64>()?.clamp(1, 100),
            other => bail!("no option {other}"),
        }
    }
    if peers.is_empty() {
        peers.push("redis-server".to_owned());
    }
    println!(
        "keys of 16 bytes; strings of 32, fields 5 + 10, members of 10 bytes; bytes a key\n\
         content               keys  server          resident  used_memory  beside the allocator"
    );
    for content in &CONTENTS {
        let keys = content.thousands * 10 * share;
        for program in std::iter::once(&subject).chain(&peers) {
            measure(program, content, keys)
                .with_context(|| format!("{program}: {}", content.name))?;
        }
    }
    Ok(())
}

fn measure(program: &str, content: &Content, keys: u64) -> Result<()> {
    let server = Server::start(program)?;
    let mut client = server.connect()?;
    let resident = resident(server.pid())?;
    let used: u64 = info(&mut client, "memory", "used_memory")?;
    let mut number = 0;
    while number < keys {
        let until = (number + BATCH).min(keys);
        let batch: Vec<Request> = (number..until).map(content.request).collect();
        client.send_all(&batch)?;
        for _ in &batch {
            client.read(WAIT)?;
        }
        number = until;
    }
    std::thread::sleep(Duration::from_secs(2));
    let each = |bytes: u64| bytes as f64 / keys as f64;
    let (deviation, after) = deviation(&mut client)?;
    let name = program.rsplit('/').next().unwrap_or(program);
    println!(
        "{:<17} {keys:>8}  {name:<14} {:>9.1}  {:>11.1}  {deviation:>+18.2} %",
        content.name,
        each(self::resident(server.pid())?.saturating_sub(resident)),
        each(after.saturating_sub(used)),
    );
    Ok(())
}

/// How far `used_memory` is from the allocator's own figure, in percent; and `used_memory`.
fn deviation(client: &mut Client) -> Result<(f64, u64)> {
    let used: u64 = info(client, "memory", "used_memory")?;
    let allocated: u64 = info(client, "memory", "allocator_allocated")?;
    Ok(((used as f64 / allocated.max(1) as f64 - 1.0) * 100.0, used))
}

/// Bytes of a process in physical memory.
pub fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes = line.split_whitespace().nth(1).context("VmRSS")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}
