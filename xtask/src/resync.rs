//! What copying to a replica costs: a full synchronisation beside redis-server's, in seconds and bytes, and what a
//! replica of our kind is sent that was away for longer than the backlog lasts while one key in a hundred changed.
//! It measures from outside: INFO.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_base::rng::Rng;
use larder_protocol::response::Value;

use crate::hit_ratio::info;
use crate::process::{Client, Server};
use crate::saving::set;
use crate::stall::{Request, exchange, request};

const WAIT: Duration = Duration::from_secs(60);
const BATCH: usize = 500;

/// Measures and prints.
pub fn run(args: &[String]) -> Result<()> {
    let (mut subject, mut peer) = ("target/release/larder".to_owned(), "redis-server".to_owned());
    let mut keys = 5_000_000usize;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => subject.clone_from(value),
            "--peer" => peer.clone_from(value),
            "--keys" => keys = value.parse()?,
            other => bail!("no option {other}"),
        }
    }
    for program in [&subject, &peer] {
        measure(program, keys, *program == subject).with_context(|| program.clone())?;
    }
    Ok(())
}

/// Waits until the replica follows the stream and has all of it; the seconds since `begun`.
fn until_linked(primary: &mut Client, replica: &mut Client, begun: Instant) -> Result<f64> {
    while begun.elapsed() < Duration::from_secs(120) {
        let link: String = info(replica, "replication", "master_link_status")?;
        if link == "up" {
            let sent: u64 = info(primary, "replication", "master_repl_offset")?;
            let has: u64 = info(replica, "replication", "slave_repl_offset")?;
            if has >= sent {
                return Ok(begun.elapsed().as_secs_f64());
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the replica does not get there")
}

fn equal(a: &mut Client, b: &mut Client) -> Result<()> {
    let [Value::Simple(a), Value::Simple(b)] = [a, b].map(|client| {
        client.send(&["DEBUG", "DIGEST"]).and_then(|()| client.read(WAIT)).unwrap_or(Value::Null)
    }) else {
        bail!("DEBUG DIGEST fails")
    };
    if a != b {
        bail!("the copies differ");
    }
    Ok(())
}

fn measure(program: &str, keys: usize, is_ours: bool) -> Result<()> {
    let backlog = ["--repl-backlog-size", "1mb", "--repl-diskless-sync-delay", "0"];
    let workers: &[&str] = if is_ours { &["--workers", "1"] } else { &[] };
    let options = [&backlog[..], workers].concat();
    let (primary, replica) =
        (Server::start_with(program, &options)?, Server::start_with(program, &options)?);
    let (mut one, mut other) = (primary.connect()?, replica.connect()?);
    for first in (0..keys).step_by(BATCH) {
        let batch: Vec<Request> =
            (first..first + BATCH).map(|number| set(number as u64, 0)).collect();
        exchange(&mut one, &batch)?;
    }
    let sent = |client: &mut Client| info::<u64>(client, "stats", "total_net_repl_output_bytes");
    let port = primary.port.to_string();
    let follow = request(&["REPLICAOF", "127.0.0.1", &port]);
    let (begun, before) = (Instant::now(), sent(&mut one)?);
    exchange(&mut other, std::slice::from_ref(&follow))?;
    let full_seconds = until_linked(&mut one, &mut other, begun)?;
    let full = sent(&mut one)? - before;
    equal(&mut one, &mut other)?;
    let name = program.rsplit('/').next().unwrap_or(program);
    println!("{name:<14} full synchronisation of {keys} keys: {full_seconds:.2} s, {full} bytes");
    // Away: it follows somebody who is not there.
    exchange(&mut other, &[request(&["REPLICAOF", "127.0.0.1", "1"])])?;
    std::thread::sleep(Duration::from_millis(200));
    let mut rng = Rng::new(11);
    for _ in (0..keys / 100).step_by(BATCH) {
        let batch: Vec<Request> = (0..BATCH).map(|_| set(rng.below(keys as u64), 1)).collect();
        exchange(&mut one, &batch)?;
    }
    let (begun, before) = (Instant::now(), sent(&mut one)?);
    exchange(&mut other, &[follow])?;
    let seconds = until_linked(&mut one, &mut other, begun)?;
    let bytes = sent(&mut one)? - before;
    equal(&mut one, &mut other)?;
    println!(
        "{name:<14} after 1 % changed beyond the backlog: {seconds:.2} s, {bytes} bytes, {:.2} % of a full one",
        bytes as f64 / full.max(1) as f64 * 100.0
    );
    Ok(())
}
