//! Append-only files between us and a real server: random data, written by the server and loaded by us, written on by us
//! and loaded by the server, compared key by key with what each answers. Both rewrite now and then. It knows
//! nothing of how either keeps its data.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::Rng;
use larder_protocol::response::Value as Reply;

use crate::process::{Client, Server};
use crate::rdb_matrix::{Args, Pictures, all, ask, bytes, data_set, forms, same, words};

/// Data sets in one log: starts of servers are what takes time.
const TOGETHER: u64 = 25;

/// Plays as many data sets as the arguments say, each way.
pub fn run(args: &[String]) -> Result<()> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let number = |name: &str, default: u64| value(name).map_or(Ok(default), |text| text.parse());
    let (sets, seed) = (number("--sets", 20)?, number("--seed", 1)?);
    let peer = value("--peer").unwrap_or_else(|| "redis-server".to_owned());
    let subject = value("--subject").unwrap_or_else(|| "target/quick/larder".to_owned());
    let folder = std::env::temp_dir().join(format!("larder-aof-matrix-{}", std::process::id()));
    let (begun, mut keys) = (Instant::now(), 0);
    let logs = sets.div_ceil(TOGETHER);
    for log in 0..logs {
        std::fs::create_dir_all(&folder)?;
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(log));
        let dir = folder.to_str().context("folder's name")?;
        let count = TOGETHER.min(sets - log * TOGETHER);
        keys += play(&subject, &peer, dir, count, &mut rng)
            .with_context(|| format!("log {log} of --seed {seed}; see {dir}"))?;
        std::fs::remove_dir_all(&folder)?;
    }
    println!(
        "{peer}: {sets} data sets in {logs} logs written by it and loaded by us, as many written behind them by us and loaded \
         by it; {keys} keys compared, 0 differences, all logs accepted by its tool; {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// There and back again.
fn play(subject: &str, peer: &str, dir: &str, count: u64, rng: &mut Rng) -> Result<usize> {
    let mut options = vec!["--dir", dir, "--appendonly", "yes", "--appendfsync", "always"];
    for name in ["--aof-use-rdb-preamble", "--aof-timestamp-enabled"] {
        options.extend([name, if rng.below(2) == 0 { "yes" } else { "no" }]);
    }
    let server = Server::start_with(peer, &options)?;
    let mut client = server.connect()?;
    let written = work(&mut client, count, rng)?;
    end(server, client, rng)?;

    let server = Server::start_with(subject, &options)?;
    let mut client = server.connect()?;
    loaded(&mut client)?;
    same(&written, &pictures(&mut client)?).context("their log, loaded by us")?;
    let ours = work(&mut client, count, rng)?;
    end(server, client, rng)?;
    let manifest = format!("{dir}/appendonlydir/appendonly.aof.manifest");
    let tool = Command::new("redis-check-aof").arg(&manifest).output()?;
    ensure!(tool.status.success(), "{}", String::from_utf8_lossy(&tool.stdout));
    let check = Command::new(subject).args(["check", &manifest]).output()?;
    ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    let server = Server::start_with(peer, &options)?;
    let mut client = server.connect()?;
    loaded(&mut client)?;
    same(&ours, &pictures(&mut client)?).context("our log, loaded by them")?;
    Ok(written.len() + ours.len())
}

/// So many data sets, rewrites among them; returns what is there then.
fn work(client: &mut Client, count: u64, rng: &mut Rng) -> Result<Pictures> {
    for _ in 0..count {
        // The first of these commands empties the databases.
        all(client, forms(rng).get(1..).unwrap_or(&[]))?;
        if rng.below(8) == 0 {
            client.call(&["BGREWRITEAOF"])?;
        }
        let mut commands = data_set(rng);
        // What is there of another type goes first.
        let mut gone: Vec<Args> = Vec::new();
        for command in &commands {
            if let Some(key) = command.get(1)
                && rng.below(4) == 0
            {
                gone.push([words(&["DEL"]), vec![key.clone()]].concat());
            }
        }
        let keys: Vec<Vec<u8>> = commands.iter().filter_map(|args| args.get(1).cloned()).collect();
        let clear = keys.iter().map(|key| [words(&["DEL"]), vec![key.clone()]].concat());
        all(client, &clear.collect::<Vec<_>>())?;
        if rng.below(3) == 0 {
            commands.insert(0, words(&["MULTI"]));
            commands.push(words(&["EXEC"]));
        }
        all(client, &commands)?;
        all(client, &gone)?;
        all(client, &[words(&["INCR", "counter"]), words(&["APPEND", "text", "more"])])?;
        let other = [words(&["SELECT", "3"]), words(&["INCR", "counter"]), words(&["SELECT", "0"])];
        all(client, &other)?;
        if rng.below(4) == 0 {
            all(client, &[words(&["SWAPDB", "3", "5"])])?;
        }
    }
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let info = bytes(&client.call(&["INFO", "persistence"])?)?;
        let info = String::from_utf8_lossy(&info).into_owned();
        if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") {
            ensure!(info.contains("aof_last_bgrewrite_status:ok"), "a rewrite failed");
            break;
        }
        ensure!(Instant::now() < until, "a rewrite takes for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    pictures(client)
}

/// What is there, of all databases in use.
fn pictures(client: &mut Client) -> Result<Pictures> {
    let mut found = Pictures::new();
    for db in ["3", "5", "0"] {
        all(client, &[words(&["SELECT", db])])?;
        let keys: Vec<Vec<u8>> = match all(client, &[words(&["KEYS", "*"])])?.pop() {
            Some(Reply::Array(keys)) => keys.iter().map(bytes).collect::<Result<_>>()?,
            other => bail!("KEYS answers {other:?}"),
        };
        for (key, picture) in ask(client, &keys)? {
            found.insert([db.as_bytes(), b":", &key].concat(), picture);
        }
    }
    Ok(found)
}

/// An orderly end, or a death: everything was forced to disk.
fn end(server: Server, mut client: Client, rng: &mut Rng) -> Result<()> {
    if rng.below(2) == 0 {
        client.send(&["SHUTDOWN"])?;
        let until = Instant::now() + Duration::from_secs(10);
        while client.read(Duration::from_millis(200)).is_ok() || server.connect().is_ok() {
            ensure!(Instant::now() < until, "it does not end");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(server);
    Ok(())
}

fn loaded(client: &mut Client) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while client.call(&["DBSIZE"])?.is_error() {
        ensure!(Instant::now() < until, "it loads for ever");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
