//! Clients that wait for keys while much happens to them at once, on several workers: keys that become ready together,
//! connections that are killed or told to give up in the moment they are served (the class of CVE-2026-23479).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use super::{Attack, Scene};
use crate::process::{Client, Server};

pub const ATTACKS: &[Attack] = &[
    Attack { name: "ready together", options: FOUR, growth_mib_max: 64, run: ready_together },
    Attack { name: "killed while served", options: FOUR, growth_mib_max: 64, run: killed },
    Attack { name: "told to give up", options: FOUR, growth_mib_max: 64, run: give_up },
];
const FOUR: &[&str] = &["--workers", "4"];
/// Each attack comes from so many threads, and takes so long.
const GROUPS: usize = 4;
const TIME: Duration = Duration::from_secs(4);
const WAIT: Duration = Duration::from_secs(5);

/// Runs rounds of an attack in several threads, each with a number of its own.
fn in_groups(scene: &mut Scene, round: impl Fn(&Server, usize) -> Result<()> + Sync) -> Result<()> {
    let (server, round) = (&scene.server, &round);
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..GROUPS).map(|group| scope.spawn(move || round(server, group))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(()))).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    scene.wait_for("blocked_clients", 0)
}

/// One waits for one key, another for that and a second one; both keys get an element at the same time, so both are
/// served, whoever tries first and finds nothing for one of them.
fn ready_together(scene: &mut Scene) -> Result<()> {
    in_groups(scene, |server, group| {
        let (one, two) = (format!("one:{group}"), format!("two:{group}"));
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(server.connect()?);
        }
        let [short, long, first, second] = &mut clients[..] else { bail!("not four") };
        let end = Instant::now() + TIME;
        let mut rounds = 0u32;
        while Instant::now() < end {
            // The answer to PING says that the command behind it, in the same write, has begun to wait.
            short.send_all(&[words(&["PING"]), words(&["BZPOPMIN", &one, "0"])])?;
            short.read(WAIT)?;
            long.send_all(&[words(&["PING"]), words(&["BZPOPMIN", &one, &two, "0"])])?;
            long.read(WAIT)?;
            first.send(&["ZADD", &one, "1", "x"])?;
            second.send(&["ZADD", &two, "1", "x"])?;
            first.read(WAIT)?;
            second.read(WAIT)?;
            for client in [&mut *short, &mut *long] {
                client.read(WAIT).with_context(|| format!("not served in round {rounds}"))?;
            }
            rounds += 1;
        }
        Ok(())
    })
}

/// A client is killed while another one serves it: what was taken for it is delivered or lies at its place again, once.
/// It may come back a little later, so each round has a key of its own, which is looked at once more at the end.
fn killed(scene: &mut Scene) -> Result<()> {
    in_groups(scene, |server, group| {
        let (mut first, mut second) = (server.connect()?, server.connect()?);
        let end = Instant::now() + TIME;
        let mut keys = Vec::new();
        while Instant::now() < end {
            let key = format!("list:{group}:{}", keys.len());
            let mut waits = server.connect()?;
            let Value::Integer(id) = waits.call(&["CLIENT", "ID"])? else { bail!("no id") };
            waits.send_all(&[words(&["PING"]), words(&["BLPOP", &key, "0"])])?;
            waits.read(WAIT)?;
            first.send(&["RPUSH", &key, "x"])?;
            second.send(&["CLIENT", "KILL", "ID", &id.to_string()])?;
            first.read(WAIT)?;
            second.read(WAIT)?;
            at_most_one(&mut first, &key)?;
            keys.push(key);
        }
        std::thread::sleep(Duration::from_millis(200));
        keys.iter().try_for_each(|key| at_most_one(&mut first, key))
    })
}

/// One element was pushed there, for somebody who may have got it.
fn at_most_one(client: &mut Client, key: &str) -> Result<()> {
    let len = client.call(&["LLEN", key])?;
    if !matches!(len, Value::Integer(0 | 1)) {
        bail!("{len:?} elements of one");
    }
    Ok(())
}

/// Whoever waits is told to give up while its keys come and go within transactions: it waits, so it is told.
fn give_up(scene: &mut Scene) -> Result<()> {
    in_groups(scene, |server, group| {
        let key = format!("set:{}", group % 2);
        let mut other = server.connect()?;
        let mut waits = server.connect()?;
        let Value::Integer(id) = waits.call(&["CLIENT", "ID"])? else { bail!("no id") };
        let comes_and_goes =
            [&["MULTI"][..], &["ZADD", &key, "1", "x"], &["DEL", &key], &["EXEC"]].map(words);
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            waits.send_all(&[words(&["PING"]), words(&["BZMPOP", "0", "1", &key, "MIN"])])?;
            waits.read(WAIT)?;
            other.send_all(&comes_and_goes)?;
            for _ in &comes_and_goes {
                other.read(WAIT)?;
            }
            let told = other.call(&["CLIENT", "UNBLOCK", &id.to_string()])?;
            if told != Value::Integer(1) {
                bail!("CLIENT UNBLOCK of a client that waits: {told:?}");
            }
            waits.read(WAIT)?;
        }
        Ok(())
    })
}

fn words(line: &[&str]) -> Vec<Vec<u8>> {
    line.iter().map(|word| word.as_bytes().to_vec()).collect()
}
