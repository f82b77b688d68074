//! Kills a server with SIGKILL under load, again and again, at random moments: while it writes, rewrites its log, saves,
//! or has just begun to start. After each death it must start, hold everything that it owes, and nothing that was never
//! sent. What it owes depends on the mode: `always` everything acknowledged, `everysec` what was acknowledged more than
//! a second before, `rdb` what was acknowledged before the last finished save began.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::Rng;
use larder_protocol::response::Value;

use crate::process::{Client, Server};
use crate::volume::Volume;

const WRITERS: usize = 6;
const KEYS: usize = 40;

/// One writer's keys: what was sent to each, and what was acknowledged, with the moments.
struct Ledger {
    sent: Vec<u64>,
    acknowledged: Vec<Vec<(Instant, u64)>>,
}

/// What all rounds found.
#[derive(Default)]
struct Tally {
    rounds: u64,
    acknowledged: u64,
    lost: u64,
    /// Milliseconds before the death of the oldest acknowledged write that was lost.
    oldest_ms: u64,
    rewrites: u64,
}

/// Plays as many rounds as the arguments say, in one mode or in all.
pub fn run(args: &[String]) -> Result<()> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let program = value("--subject").unwrap_or_else(|| "target/quick/larder".to_owned());
    let rounds: u64 = value("--rounds").map_or(Ok(20), |text| text.parse())?;
    let seed: u64 = value("--seed").map_or(Ok(1), |text| text.parse())?;
    let modes = value("--modes").unwrap_or_else(|| "always,everysec,rdb".to_owned());
    let power = args.iter().any(|arg| arg == "--power");
    for mode in modes.split(',') {
        let (begun, mut tally) = (Instant::now(), Tally::default());
        let volume = power.then(|| Volume::create(256)).transpose()?;
        let folder = match &volume {
            Some(volume) => volume.folder().join("data"),
            None => {
                std::env::temp_dir().join(format!("larder-crash-{mode}-{}", std::process::id()))
            }
        };
        std::fs::create_dir_all(&folder)?;
        let mut ledgers = fresh();
        let mut rng = Rng::new(seed);
        for round in 0..rounds {
            // Now and then from nothing, to die in a first start too.
            if rng.below(12) == 0 {
                std::fs::remove_dir_all(&folder)?;
                std::fs::create_dir_all(&folder)?;
                ledgers = fresh();
            }
            let dir = folder.to_str().context("folder's name")?;
            let cut = volume.as_ref();
            let played = play(&program, mode, dir, cut, &mut ledgers, &mut rng, &mut tally);
            played.with_context(|| format!("{mode}, round {round} of --seed {seed}; see {dir}"))?;
            if let Some(volume) = cut {
                volume.revive()?;
                // Even the folder may be gone, as long as nothing in it was forced to disk.
                std::fs::create_dir_all(&folder)?;
            }
        }
        std::fs::remove_dir_all(&folder)?;
        let deaths = if power { "power cuts" } else { "deaths" };
        println!(
            "{mode}: {} {deaths}, {} acknowledged writes, {} of them lost, the oldest {} ms before the death, {} rewrites or \
             saves; {:.0} s",
            tally.rounds,
            tally.acknowledged,
            tally.lost,
            tally.oldest_ms,
            tally.rewrites,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn fresh() -> Vec<Ledger> {
    let one = || Ledger { sent: vec![0; KEYS], acknowledged: vec![Vec::new(); KEYS] };
    (0..WRITERS).map(|_| one()).collect()
}

fn options<'a>(mode: &'a str, dir: &'a str) -> Vec<&'a str> {
    let mut options = vec!["--dir", dir, "--workers", "2"];
    match mode {
        "rdb" => options.extend(["--save", "1 1"]),
        mode => options.extend(["--appendonly", "yes", "--appendfsync", mode]),
    }
    options
}

/// A start, a check of what the last death left, a load, and a death.
fn play(
    program: &str,
    mode: &str,
    dir: &str,
    power: Option<&Volume>,
    ledgers: &mut Vec<Ledger>,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<()> {
    if rng.below(4) == 0 {
        die_early(program, mode, dir, rng)?;
    }
    let server = Server::start_with(program, &options(mode, dir))?;
    let mut client = server.connect()?;
    let died = Instant::now();
    check(&mut client, mode, ledgers, died, tally)?;
    let stop = Arc::new(AtomicBool::new(false));
    let shared: Vec<_> = ledgers.drain(..).map(|ledger| Arc::new(Mutex::new(ledger))).collect();
    let mut threads = Vec::new();
    for (number, ledger) in shared.iter().enumerate() {
        let (mut client, stop) = (server.connect()?, Arc::clone(&stop));
        let (ledger, mut rng) = (Arc::clone(ledger), Rng::new(rng.next_u64()));
        threads.push(std::thread::spawn(move || {
            write(&mut client, number, &ledger, &mut rng, &stop);
        }));
    }
    let until = Instant::now() + Duration::from_millis(30 + rng.below(500));
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5 + rng.below(60)));
        if rng.below(3) == 0 {
            let command = if mode == "rdb" { "BGSAVE" } else { "BGREWRITEAOF" };
            client.call(&[command])?;
            tally.rewrites += 1;
        }
    }
    let died = match power {
        Some(volume) => volume.cut()?,
        None => Instant::now(),
    };
    drop(server);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
    }
    for ledger in shared {
        let ledger = Arc::into_inner(ledger).context("a ledger in use")?;
        let mut ledger = ledger.into_inner().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        // Moments count back from this death.
        for list in &mut ledger.acknowledged {
            let grace = Duration::from_millis(if power.is_some() { 0 } else { 50 });
            list.retain(|(moment, _)| *moment <= died + grace);
        }
        ledgers.push(ledger);
    }
    LAST_DEATH.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.replace(died);
    tally.rounds += 1;
    Ok(())
}

/// When the last server died: the check of the next start counts back from it.
static LAST_DEATH: Mutex<Option<Instant>> = Mutex::new(None);

/// Dies within the first moments of a start.
fn die_early(program: &str, mode: &str, dir: &str, rng: &mut Rng) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let mut child = Command::new(program)
        .args(["server", "--port", &port, "--save", ""])
        .args(options(mode, dir))
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(rng.below(60)));
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Writes growing numbers until the server is gone.
fn write(
    client: &mut Client,
    number: usize,
    ledger: &Mutex<Ledger>,
    rng: &mut Rng,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let key = rng.below_usize(KEYS);
        let Ok(mut locked) = ledger.lock() else { return };
        let Some(sent) = locked.sent.get_mut(key) else { return };
        *sent += 1;
        let value = *sent;
        drop(locked);
        let name = format!("w{number}:{key}");
        // Half of them as increments: a write repeated twice would show.
        let answer = if rng.below(2) == 0 {
            client.call(&["SET", &name, &value.to_string()])
        } else {
            client.call(&["INCR", &name])
        };
        let Ok(answer) = answer else { return };
        if let Value::Error(text) = &answer {
            // A disk without power: refused, so nothing is owed.
            if text.starts_with(b"MISCONF") {
                return;
            }
            eprintln!("{name}: {answer:?}");
            return;
        }
        let Ok(mut locked) = ledger.lock() else { return };
        if let Some(list) = locked.acknowledged.get_mut(key) {
            list.push((Instant::now(), value));
        }
    }
}

/// Whether everything is there that is owed; the ledgers then go on from what is there.
fn check(
    client: &mut Client,
    mode: &str,
    ledgers: &mut [Ledger],
    now: Instant,
    tally: &mut Tally,
) -> Result<()> {
    let died = LAST_DEATH.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.unwrap_or(now);
    let until = Instant::now() + Duration::from_secs(10);
    while matches!(client.call(&["DBSIZE"])?, Value::Error(_)) {
        ensure!(Instant::now() < until, "it loads for ever");
        std::thread::sleep(Duration::from_millis(5));
    }
    for (number, ledger) in ledgers.iter_mut().enumerate() {
        for key in 0..KEYS {
            let name = format!("w{number}:{key}");
            let found = match client.call(&["GET", &name])? {
                Value::Bulk(text) => String::from_utf8_lossy(&text).parse::<u64>()?,
                Value::Null => 0,
                other => bail!("{name}: {other:?}"),
            };
            let (Some(sent), Some(list)) =
                (ledger.sent.get_mut(key), ledger.acknowledged.get_mut(key))
            else {
                bail!("no such key")
            };
            ensure!(found <= *sent, "{name} is {found}, though only {sent} was sent");
            for (moment, value) in list.iter() {
                tally.acknowledged += 1;
                if *value > found {
                    let age = died.saturating_duration_since(*moment);
                    tally.lost += 1;
                    tally.oldest_ms =
                        tally.oldest_ms.max(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                    ensure!(mode != "always", "{name}: {value} was acknowledged, {found} is there");
                    ensure!(
                        mode != "everysec" || age <= Duration::from_secs(1),
                        "{name}: {value} was acknowledged {age:?} before the death, {found} is there"
                    );
                }
            }
            list.clear();
            *sent = found;
        }
    }
    Ok(())
}
