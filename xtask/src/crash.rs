//! Kills a server with SIGKILL under load, again and again, at random moments: while it writes, rewrites its log, saves,
//! or has just begun to start. After each death it must start and hold a cut of what was sent (`ledger`) with everything
//! that it owes. What it owes depends on the mode: `always` everything acknowledged, `everysec` all but the last second of
//! what was acknowledged (a disk that hangs for longer takes no more: nothing is acknowledged meanwhile), `rdb` exactly
//! what the last completed save saw (`saves`).

pub mod ledger;
pub mod saves;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::Rng;
use larder_protocol::response::Value;

use self::ledger::{Ended, Ledger};
use self::saves::Saves;
use crate::process::{Client, Server, wait_until_loaded};
use crate::volume::Volume;

/// Keys that nobody changes, so that a save and a rewrite last long enough to be hit.
const FILLER: usize = 20_000;

/// What all rounds found.
#[derive(Default)]
struct Tally {
    rounds: u64,
    early: u64,
    acknowledged: u64,
    lost: u64,
    /// Milliseconds before the death of the oldest acknowledged write that was lost.
    oldest_ms: u64,
    /// The same before the last acknowledgement, which comes long before the death where the disk hangs.
    span_ms: u64,
    rewrites: u64,
}

/// A server's folder over its deaths, and what is owed by what lies in it.
struct Life<'a> {
    program: &'a str,
    mode: &'a str,
    dir: &'a str,
    power: Option<&'a Volume>,
    ledgers: Vec<Ledger>,
    saves: Saves,
    died: Option<Instant>,
    tally: Tally,
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
        ensure!(matches!(mode, "always" | "everysec" | "rdb"), "no such mode: {mode}");
        let begun = Instant::now();
        let tally = rounds_of(mode, &program, rounds, seed, power)?;
        let deaths = if power { "power cuts" } else { "deaths" };
        println!(
            "{mode}: {} {deaths} ({} right after the start), {} acknowledged writes, {} of them lost, the oldest {} ms before \
             the death and {} ms before the last acknowledgement, {} rewrites or saves; {:.0} s",
            tally.rounds + tally.early,
            tally.early,
            tally.acknowledged,
            tally.lost,
            tally.oldest_ms,
            tally.span_ms,
            tally.rewrites,
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn rounds_of(mode: &str, program: &str, rounds: u64, seed: u64, power: bool) -> Result<Tally> {
    let volume = power.then(|| Volume::create(256)).transpose()?;
    let folder = match &volume {
        Some(volume) => volume.folder().join("data"),
        None => std::env::temp_dir().join(format!("larder-crash-{mode}-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)?;
    let mut rng = Rng::new(seed);
    let mut life = Life {
        program,
        mode,
        dir: folder.to_str().context("folder's name")?,
        power: volume.as_ref(),
        ledgers: Ledger::fresh(),
        saves: Saves::default(),
        died: None,
        tally: Tally::default(),
    };
    for round in 0..rounds {
        // Now and then from nothing, to die in a first start too.
        if rng.below(12) == 0 {
            std::fs::remove_dir_all(&folder)?;
            std::fs::create_dir_all(&folder)?;
            (life.ledgers, life.saves) = (Ledger::fresh(), Saves::default());
        }
        let played = life.play(&mut rng);
        played
            .with_context(|| format!("{mode}, round {round} of --seed {seed}; see {}", life.dir))?;
        if let Some(volume) = &volume {
            volume.revive()?;
            // Even the folder may be gone, as long as nothing in it was forced to disk.
            std::fs::create_dir_all(&folder)?;
        }
    }
    let tally = life.tally;
    std::fs::remove_dir_all(&folder)?;
    Ok(tally)
}

fn options<'a>(mode: &'a str, dir: &'a str) -> Vec<&'a str> {
    let mut options = vec!["--dir", dir, "--workers", "2"];
    match mode {
        "rdb" => {}
        mode => options.extend(["--appendonly", "yes", "--appendfsync", mode]),
    }
    options
}

impl Life<'_> {
    /// A start, a check of what the last death left, a load, and a death.
    fn play(&mut self, rng: &mut Rng) -> Result<()> {
        if rng.below(4) == 0 {
            self.die_early(rng)?;
        }
        let server = Server::start_with(self.program, &options(self.mode, self.dir))?;
        let mut client = server.connect()?;
        self.check(&mut client)?;
        fill(&mut client)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, threads) = self.set_off(&server, &stop, rng)?;
        let until = Instant::now() + Duration::from_millis(30 + rng.below(500));
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5 + rng.below(60)));
            if rng.below(3) == 0 {
                self.tally.rewrites += 1;
                self.save_or_rewrite(&mut client, rng)?;
            }
        }
        let died = match self.power {
            Some(volume) => volume.cut()?,
            None => Instant::now(),
        };
        drop(server);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            let ended = thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            ensure!(ended == Ended::Quietly, "a writer was refused: {ended:?}");
        }
        for ledger in shared {
            let ledger = Arc::into_inner(ledger).context("a ledger in use")?;
            let mut ledger =
                ledger.into_inner().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            if self.power.is_some() {
                ledger.forget_after(died);
            }
            self.ledgers.push(ledger);
        }
        self.died = Some(died);
        self.tally.rounds += 1;
        Ok(())
    }

    /// Lets the writers loose.
    #[expect(clippy::type_complexity, reason = "two lists that one place takes apart")]
    fn set_off(
        &mut self,
        server: &Server,
        stop: &Arc<AtomicBool>,
        rng: &mut Rng,
    ) -> Result<(Vec<Arc<Mutex<Ledger>>>, Vec<JoinHandle<Ended>>)> {
        let shared: Vec<_> =
            self.ledgers.drain(..).map(|ledger| Arc::new(Mutex::new(ledger))).collect();
        let mut threads = Vec::new();
        for ledger in &shared {
            let (mut client, stop) = (server.connect()?, Arc::clone(stop));
            let (ledger, mut rng) = (Arc::clone(ledger), Rng::new(rng.next_u64()));
            threads.push(std::thread::spawn(move || {
                let go_on = || !stop.load(Ordering::Relaxed);
                ledger::write(&mut client, &ledger, &mut rng, &go_on)
            }));
        }
        Ok((shared, threads))
    }

    fn save_or_rewrite(&mut self, client: &mut Client, rng: &mut Rng) -> Result<()> {
        if self.mode != "rdb" {
            client.call(&["BGREWRITEAOF"])?;
            return Ok(());
        }
        self.saves.begin(client)?;
        // Some of them are known to be complete, others are hit.
        if rng.below(2) == 0 {
            ensure!(self.saves.wait(client)?, "a save failed");
        }
        Ok(())
    }

    /// Dies within the first moments of a start.
    fn die_early(&mut self, rng: &mut Rng) -> Result<()> {
        let port = crate::process::free_port()?.to_string();
        let mut child = Command::new(self.program)
            .args(["server", "--port", &port, "--save", ""])
            .args(options(self.mode, self.dir))
            .stdout(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(rng.below(60)));
        child.kill()?;
        child.wait()?;
        self.tally.early += 1;
        Ok(())
    }

    /// Whether everything is there that is owed; the ledgers then go on from what is there.
    fn check(&mut self, client: &mut Client) -> Result<()> {
        wait_until_loaded(client)?;
        let cut = ledger::settle(client, &mut self.ledgers)?;
        self.tally.acknowledged += cut.acknowledged;
        self.tally.lost += cut.lost;
        let age = self.died.and_then(|died| cut.oldest_lost(died));
        let age_ms = age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self.tally.oldest_ms = self.tally.oldest_ms.max(age_ms);
        let span = cut.last_acknowledged.and_then(|last| cut.oldest_lost(last));
        let span_ms = span.map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        self.tally.span_ms = self.tally.span_ms.max(span_ms.min(age_ms));
        match self.mode {
            "always" => ensure!(cut.lost == 0, "{} acknowledged writes are lost", cut.lost),
            "everysec" => ensure!(
                age_ms.min(span_ms) <= 1000,
                "a write is lost that was acknowledged {age_ms} ms before the death and {span_ms} ms before the last was"
            ),
            "rdb" => self.saves.settle(client, &cut)?,
            other => bail!("no such mode: {other}"),
        }
        Ok(())
    }
}

/// Puts the filler in, where it is not there yet.
fn fill(client: &mut Client) -> Result<()> {
    let Value::Integer(there) = client.call(&["DBSIZE"])? else { bail!("DBSIZE is no number") };
    if usize::try_from(there)? >= FILLER {
        return Ok(());
    }
    for part in 0..FILLER / 1000 {
        let mut words = vec!["MSET".to_owned()];
        for key in part * 1000..(part + 1) * 1000 {
            words.extend([format!("filler:{key}"), "x".repeat(100)]);
        }
        ensure!(matches!(client.call(&words)?, Value::Simple(_)), "the filler is refused");
    }
    Ok(())
}
