//! Whether a server endures what hostile or careless clients do, while it serves the others: thousands of
//! idle connections, a client that never reads, an endless pipeline, huge values at once.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::process::Server;

/// Connections held open, and how many of them are used.
const OPEN: usize = 15_000;
const ACTIVE: usize = 500;
/// Memory that an idle connection may take beyond the kernel's.
const IDLE_BYTES_MAX: u64 = 4096;
/// What somebody else waits at most while one client does its worst.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// Commands of the endless pipeline.
const PIPELINE: usize = 10_000_000;
/// Values at once, and their size.
const VALUES: usize = 8;
const VALUE_BYTES: usize = 512 << 20;

type Trial = (&'static str, fn(&Server) -> Result<String>);

const TRIALS: &[Trial] = &[
    ("connections", connections),
    ("never-reads", never_reads),
    ("pipeline", pipeline),
    ("values", values),
];

/// Runs the named trials, or all.
pub fn run(args: &[String]) -> Result<()> {
    let (mut subject, mut named) = ("target/release/larder".to_owned(), Vec::new());
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--subject" => {
                words.next().context("--subject wants a value")?.clone_into(&mut subject);
            }
            name if TRIALS.iter().any(|(known, _)| *known == name) => named.push(name),
            other => bail!("no trial {other}"),
        }
    }
    larder_net::raise_descriptor_limit(2 * OPEN as u64)?;
    for (name, trial) in TRIALS {
        if !named.is_empty() && !named.contains(name) {
            continue;
        }
        let options = ["--maxclients", "20000", "--maxmemory", "6gb", "--workers", "1"];
        let server = Server::start_with(&subject, &options)?;
        let begun = Instant::now();
        let said = trial(&server).with_context(|| (*name).to_owned())?;
        // Whoever comes afterwards is served as ever.
        server.connect()?.call(&["PING"])?;
        println!("{name:<12} {said} ({:.1} s)", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Thousands of connections, few of them active: all are served, and an idle one costs little.
fn connections(server: &Server) -> Result<String> {
    let before = resident(server)?;
    let mut open = Vec::with_capacity(OPEN);
    for number in 0..OPEN {
        let client = server.connect().with_context(|| format!("connection {number}"))?;
        open.push(client);
    }
    // Every one is served, the first and the last alike, and has used its buffers once.
    let key = |number: usize| format!("key:{number}");
    for (number, client) in open.iter_mut().enumerate() {
        client.send(&["SET", &key(number), &"v".repeat(100)])?;
    }
    for (number, client) in open.iter_mut().enumerate() {
        let value = client.read(Duration::from_secs(20))?;
        if value != Value::Simple(b"OK".to_vec()) {
            bail!("connection {number} got {value:?}");
        }
    }
    open[0].call(&["FLUSHALL", "SYNC"])?;
    let each = resident(server)?.saturating_sub(before) / OPEN as u64;
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        let begun = Instant::now();
        let stride = OPEN / ACTIVE;
        for client in open.iter_mut().step_by(stride) {
            client.send(&["INCR", "rounds"])?;
        }
        for client in open.iter_mut().step_by(stride) {
            client.read(Duration::from_secs(5))?;
        }
        longest = longest.max(begun.elapsed());
        rounds += 1;
    }
    if each > IDLE_BYTES_MAX {
        bail!("an idle connection takes {each} bytes");
    }
    Ok(format!(
        "{OPEN} open, {each} bytes each; {rounds} rounds of {ACTIVE}, the longest {} ms",
        longest.as_millis()
    ))
}

/// A client that sends and never reads: it is not read on, and its output stays bounded.
fn never_reads(server: &Server) -> Result<String> {
    let value = "x".repeat(100_000);
    server.connect()?.call(&["SET", "big", &value])?;
    let before = resident(server)?;
    let mut deaf = TcpStream::connect(("127.0.0.1", server.port))?;
    deaf.set_nonblocking(true)?;
    let request = b"GET big\r\n".repeat(1000);
    let (mut sent, mut longest) = (0, Duration::ZERO);
    let mut other = server.connect()?;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        match deaf.write(&request) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        longest = longest.max(ping(&mut other)?);
    }
    let grown = resident(server)?.saturating_sub(before) >> 20;
    if grown > 64 || longest > WAIT_MAX {
        bail!("the server grew by {grown} MiB, and somebody else waited {longest:?}");
    }
    Ok(format!(
        "{} requests taken, {grown} MiB held; others waited {} us at most",
        sent / 9,
        longest.as_micros()
    ))
}

/// One pipeline of millions of commands, its replies read as they come.
fn pipeline(server: &Server) -> Result<String> {
    let before = resident(server)?;
    let stream = TcpStream::connect(("127.0.0.1", server.port))?;
    let mut writer = stream.try_clone()?;
    let writing = std::thread::spawn(move || -> Result<()> {
        let request = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(1000);
        for _ in 0..PIPELINE / 1000 {
            writer.write_all(&request)?;
        }
        Ok(())
    });
    let mut reader = stream;
    let (mut buffer, mut replies, mut last) = (vec![0; 1 << 16], 0, Vec::new());
    let (mut longest, mut grown) = (Duration::ZERO, 0);
    let mut other = server.connect()?;
    let mut next = Instant::now();
    while replies < PIPELINE {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            bail!("closed after {replies} replies");
        }
        let bytes = &buffer[..count];
        replies += bytes.iter().filter(|byte| **byte == b'\n').count();
        last = bytes[bytes.len().saturating_sub(24)..].to_vec();
        if Instant::now() >= next {
            longest = longest.max(ping(&mut other)?);
            grown = grown.max(resident(server)?.saturating_sub(before) >> 20);
            next = Instant::now() + Duration::from_millis(10);
        }
    }
    writing.join().map_err(|_| anyhow::anyhow!("the writer broke"))??;
    if !last.ends_with(format!(":{PIPELINE}\r\n").as_bytes()) {
        bail!("the last reply is {}", last.escape_ascii());
    }
    if grown > 64 || longest > WAIT_MAX {
        bail!("the server grew by {grown} MiB, and somebody else waited {longest:?}");
    }
    Ok(format!(
        "{PIPELINE} commands, {grown} MiB held at most; others waited {} us at most",
        longest.as_micros()
    ))
}

/// Values of the largest size, all at the same time.
fn values(server: &Server) -> Result<String> {
    let mut writers = Vec::new();
    for number in 0..VALUES {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
        writers.push(std::thread::spawn(move || -> Result<String> {
            let head = format!("*3\r\n$3\r\nSET\r\n$5\r\nbig:{number}\r\n${VALUE_BYTES}\r\n");
            stream.write_all(head.as_bytes())?;
            let chunk = vec![b'z'; 1 << 20];
            for _ in 0..VALUE_BYTES >> 20 {
                stream.write_all(&chunk)?;
            }
            stream.write_all(b"\r\n")?;
            let mut reply = [0; 256];
            let count = stream.read(&mut reply)?;
            Ok(String::from_utf8_lossy(&reply[..count]).trim_end().to_owned())
        }));
    }
    let (mut longest, mut peak) = (Duration::ZERO, 0);
    let mut other = server.connect()?;
    while writers.iter().any(|writer| !writer.is_finished()) {
        longest = longest.max(ping(&mut other)?);
        peak = peak.max(resident(server)? >> 20);
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut stored = 0;
    for writer in writers {
        let reply = writer.join().map_err(|_| anyhow::anyhow!("a writer broke"))??;
        match reply.as_str() {
            "+OK" => stored += 1,
            full if full.starts_with("-OOM") => {}
            other => bail!("answered {other}"),
        }
    }
    if longest > WAIT_MAX {
        bail!("somebody else waited {longest:?}");
    }
    Ok(format!(
        "{VALUES} values of {} MiB at once: {stored} stored, the others refused for memory; {peak} MiB at \
         most; others waited {} ms at most",
        VALUE_BYTES >> 20,
        longest.as_millis()
    ))
}

fn ping(client: &mut crate::process::Client) -> Result<Duration> {
    let begun = Instant::now();
    client.send(&["PING"])?;
    // Generous, because the figure says more than a failure.
    client.read(Duration::from_secs(60))?;
    Ok(begun.elapsed())
}

/// Bytes of a server in physical memory.
fn resident(server: &Server) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmRSS")?.parse()?;
    Ok(kib << 10)
}
