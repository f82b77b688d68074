//! `cargo xtask replication --restarts N`: a Larder that leads or follows is stopped or killed and comes back with what it
//! kept on disk, a log or a snapshot. Whoever held a part of the same history goes on from there without a full copy,
//! and then both hold the same. It knows no protocol but what clients see.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::Rng;

use super::{REST, Writer, data};
use crate::process::{Ending, Server};

/// What is tried once.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The one that comes back leads; else it follows.
    leads: bool,
    /// It keeps a log; else a snapshot.
    log: bool,
    ending: Ending,
    /// Clients write when it ends, if it leads.
    busy: bool,
    /// The other is a Larder, too.
    both_ours: bool,
}

impl Trial {
    fn draw(rng: &mut Rng) -> Trial {
        let mut coin = || rng.below(2) == 0;
        let ending = if coin() { Ending::Kill } else { Ending::Term };
        Trial { leads: coin(), log: coin(), ending, busy: coin(), both_ours: coin() }
    }

    /// Whether it comes back with all that the other has of the history, or with less if it follows.
    fn may_continue(self) -> bool {
        match (self.leads, self.ending) {
            (false, _) => true,
            // Clients that write until the end leave a replica that is ahead of the log.
            (true, Ending::Kill) => self.log && !self.busy,
            (true, Ending::Term) => true,
        }
    }
}

/// Plays so many.
pub fn run(subject: &str, peer: &str, count: u64, seed: u64) -> Result<()> {
    let (mut partial, mut full, mut keys) = (0, 0, 0);
    for number in 0..count {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(number));
        let trial = Trial::draw(&mut rng);
        let place = || format!("restart {number} of --seed {seed}: {trial:?}");
        let (copied, compared) = play(subject, peer, trial, &mut rng).with_context(place)?;
        keys += compared;
        if copied {
            full += 1;
        } else {
            partial += 1;
        }
        ensure!(!copied || !trial.may_continue(), "a full copy was not needed: {}", place());
    }
    println!(
        "{count} restarts beside {peer} and Larder: {partial} went on where they were, {full} with a full copy that was \
         needed, {keys} keys compared, 0 differences"
    );
    Ok(())
}

/// Whether it took a full copy, and how many keys were compared.
fn play(subject: &str, peer: &str, trial: Trial, rng: &mut Rng) -> Result<(bool, usize)> {
    let common = [
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "64mb",
        "--repl-ping-replica-period",
        "1",
    ];
    let keeps = if trial.log { ["--appendonly", "yes"] } else { ["--save", "3600 1"] };
    let other = if trial.both_ours { subject } else { peer };
    let with_file: Vec<&str> = common.into_iter().chain(keeps).collect();
    let (first, second) = if trial.leads { (subject, other) } else { (other, subject) };
    let options = |keeps: bool| if keeps { with_file.clone() } else { common.to_vec() };
    // Of the last trial; when something fails, that is the one to look into.
    let logs = std::env::temp_dir().join("larder-replication");
    std::fs::create_dir_all(&logs)?;
    let [above, below] = ["primary", "replica"].map(|name| {
        let log = logs.join(format!("{name}.log"));
        let _ = std::fs::remove_file(&log);
        log.to_string_lossy().into_owned()
    });
    let leads = options(trial.leads).into_iter().chain(["--logfile", &above]);
    let mut primary = Server::start_with(first, &leads.collect::<Vec<_>>())?;
    let port = primary.port.to_string();
    let follows = ["--replicaof", "127.0.0.1", &port, "--logfile", &below];
    let follows = options(!trial.leads).into_iter().chain(follows);
    let mut replica = Server::start_with(second, &follows.collect::<Vec<_>>())?;
    rest(&primary, &replica)?;

    let mut writer = Writer::start(&primary, rng.next_u64())?;
    std::thread::sleep(Duration::from_millis(100 + rng.below(300)));
    if !trial.log {
        let saver = if trial.leads { &primary } else { &replica };
        saver.connect()?.call(&["SAVE"])?;
        std::thread::sleep(Duration::from_millis(50 + rng.below(100)));
    }
    if trial.leads {
        if !trial.busy {
            writer.stop()?;
            rest(&primary, &replica)?;
            wait_for_ping(&primary)?;
        }
        primary.restart(trial.ending)?;
        writer.stop()?;
    } else {
        replica.restart(trial.ending)?;
        std::thread::sleep(Duration::from_millis(rng.below(200)));
        writer.stop()?;
    }
    rest(&primary, &replica)?;
    let mut keys = compare(&primary, &replica)?;
    let copies: u64 = field(&primary, "stats", "sync_full")?.parse()?;
    let mut writer = Writer::start(&primary, rng.next_u64())?;
    std::thread::sleep(Duration::from_millis(100));
    writer.stop()?;
    rest(&primary, &replica)?;
    keys += compare(&primary, &replica)?;
    // One that followed took a full copy when it first came.
    Ok((copies > u64::from(!trial.leads), keys))
}

fn field(server: &Server, section: &str, name: &str) -> Result<String> {
    let reply = server.connect()?.call(&["INFO", section])?;
    let text = String::from_utf8_lossy(reply.as_bytes().context("INFO is no text")?).into_owned();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.map(str::to_owned).with_context(|| format!("{name} in INFO {section}"))
}

/// Waits until a ping has come behind the last change, and was written down.
fn wait_for_ping(primary: &Server) -> Result<()> {
    let place = || field(primary, "replication", "master_repl_offset");
    let (before, until) = (place()?, Instant::now() + REST);
    while place()? == before {
        ensure!(Instant::now() < until, "no ping");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// Waits until both are at the same place.
fn rest(primary: &Server, replica: &Server) -> Result<()> {
    let until = Instant::now() + REST;
    loop {
        let place = |server| -> Result<[String; 2]> {
            let name = |name| field(server, "replication", name);
            Ok([name("master_replid")?, name("master_repl_offset")?])
        };
        // One of them may still load.
        let same = match (place(primary), place(replica)) {
            (Ok(end), Ok(there)) => end == there,
            _ => false,
        };
        if same && field(replica, "replication", "master_link_status")? == "up" {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("no rest within {REST:?}: {:?}, {:?}", place(primary), place(replica));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn compare(primary: &Server, replica: &Server) -> Result<usize> {
    let horizon = data::horizon()?;
    let expected = data::read(&mut primary.connect()?, horizon)?;
    data::same(&expected, &data::read(&mut replica.connect()?, horizon)?)?;
    Ok(expected.len())
}
