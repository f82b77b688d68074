//! `cargo xtask replication`: chains of Larder and real servers under random writes, while links are cut, servers are
//! stopped for a moment, and the primary's part moves. After each round all hold the same, key by key; and what could
//! go on without a full copy did.

mod data;
mod restarts;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::Rng;
use larder_protocol::response::Value;

use crate::differential::generator::Generator;
use crate::foreign;
use crate::process::{Client, Server};

/// Plays for as long as the arguments say.
pub fn run(args: &[String]) -> Result<()> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let subject = foreign::subject(args)?;
    let peer = value("--peer").unwrap_or_else(|| "redis-server".to_owned());
    let minutes: f64 = value("--minutes").map_or(Ok(1.0), |text| text.parse())?;
    let seed: u64 = value("--seed").map_or(Ok(1), |text| text.parse())?;
    if let Some(count) = value("--restarts") {
        return restarts::run(&subject, &peer, count.parse()?, seed);
    }
    let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut tally = Tally::default();
    let mut number = 0;
    while number == 0 || Instant::now() < until {
        let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(number));
        let kinds = *CHAINS.get(rng.below_usize(CHAINS.len())).context("a chain")?;
        let place = || format!("chain {number} of --seed {seed}: {kinds:?}");
        let mut chain = Chain::start(&subject, &peer, kinds, &mut rng).with_context(place)?;
        for round in 0..ROUNDS {
            if number > 0 && Instant::now() > until {
                break;
            }
            let place = || format!("round {round} of chain {number} of --seed {seed}: {kinds:?}");
            chain.round(&mut rng, &mut tally).with_context(place)?;
        }
        number += 1;
    }
    let Tally { rounds, writes, keys, cuts, stops, handed, abrupt, partial, full } = tally;
    println!(
        "{number} chains with {peer}: {rounds} rounds, {writes} commands, {cuts} links cut, {stops} servers stopped, \
         {handed} orderly and {abrupt} abrupt changes of the primary, {partial} partial and {full} full \
         resynchronisations, {keys} keys compared, 0 differences"
    );
    Ok(())
}

/// Rounds that a chain of servers lives.
const ROUNDS: usize = 12;
/// Which servers are ours, from the primary on.
const CHAINS: &[[bool; 3]] = &[
    [true, false, true],
    [false, true, false],
    [true, true, false],
    [false, true, true],
    [true, true, true],
    [true, false, false],
];
/// What a chain needs to come to rest.
const REST: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Tally {
    rounds: usize,
    writes: u64,
    keys: usize,
    cuts: usize,
    stops: usize,
    handed: usize,
    abrupt: usize,
    partial: u64,
    full: u64,
}

/// Servers, each but the first following another.
struct Chain {
    servers: Vec<Server>,
    /// Whom each follows.
    follows: Vec<Option<usize>>,
    seed: u64,
}

impl Chain {
    fn start(subject: &str, peer: &str, kinds: [bool; 3], rng: &mut Rng) -> Result<Chain> {
        let diskless = if rng.below(2) == 0 { "yes" } else { "no" };
        let load = match rng.below(3) {
            0 => "disabled",
            1 => "on-empty-db",
            _ => "swapdb",
        };
        let logs = std::env::temp_dir().join("larder-replication");
        std::fs::create_dir_all(&logs)?;
        let options = [
            "--repl-diskless-sync-delay",
            "0",
            "--repl-diskless-sync",
            diskless,
            "--repl-diskless-load",
            load,
            "--repl-backlog-size",
            "64mb",
            // Nothing is added to the stream of a primary at rest.
            "--repl-ping-replica-period",
            "3600",
        ];
        let start = |(number, ours): (usize, bool)| {
            // Of the last chain; when something fails, that is the one to look into.
            let log = logs.join(format!("server-{number}.log"));
            let _ = std::fs::remove_file(&log);
            let log = log.to_string_lossy().into_owned();
            let options: Vec<&str> = options.into_iter().chain(["--logfile", &log]).collect();
            Server::start_with(if ours { subject } else { peer }, &options)
        };
        let servers = kinds.into_iter().enumerate().map(start).collect::<Result<Vec<_>>>()?;
        let mut chain = Chain { servers, follows: vec![None, None, None], seed: rng.next_u64() };
        let mut before = Writer::start(chain.server(0)?, chain.seed)?;
        std::thread::sleep(Duration::from_millis(200));
        chain.follow(1, 0)?;
        chain.follow(2, if rng.below(3) == 0 { 0 } else { 1 })?;
        std::thread::sleep(Duration::from_millis(300));
        before.stop()?;
        chain.rest()?;
        Ok(chain)
    }

    fn server(&self, at: usize) -> Result<&Server> {
        self.servers.get(at).context("a server")
    }

    fn call(&self, at: usize, words: &[&str]) -> Result<Value> {
        self.server(at)?.connect()?.call(words)
    }

    fn primary(&self) -> Result<usize> {
        self.follows.iter().position(Option::is_none).context("a primary")
    }

    fn follow(&mut self, at: usize, whom: usize) -> Result<()> {
        let port = self.server(whom)?.port.to_string();
        self.call(at, &["REPLICAOF", "127.0.0.1", &port])?;
        if let Some(slot) = self.follows.get_mut(at) {
            *slot = Some(whom);
        }
        Ok(())
    }

    fn lead(&mut self, at: usize) -> Result<()> {
        self.call(at, &["REPLICAOF", "NO", "ONE"])?;
        if let Some(slot) = self.follows.get_mut(at) {
            *slot = None;
        }
        Ok(())
    }

    /// Fields of INFO.
    fn info(&self, at: usize, section: &str, names: &[&str]) -> Result<Vec<String>> {
        let reply = self.call(at, &["INFO", section])?;
        let text =
            String::from_utf8_lossy(reply.as_bytes().context("INFO is no text")?).into_owned();
        names
            .iter()
            .map(|name| {
                let found =
                    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                found.map(str::to_owned).with_context(|| format!("{name} in INFO {section}"))
            })
            .collect()
    }

    /// Waits until all have the same.
    fn rest(&self) -> Result<()> {
        let primary = self.primary()?;
        let until = Instant::now() + REST;
        loop {
            let end =
                self.info(primary, "replication", &["master_repl_offset", "master_replid"])?;
            let mut all = true;
            for at in (0..self.servers.len()).filter(|at| *at != primary) {
                let names = ["master_link_status", "master_repl_offset", "master_replid"];
                let found = match self.call(at, &["PING"])? {
                    // It loads what it got.
                    Value::Error(_) => Vec::new(),
                    _ => self.info(at, "replication", &names).unwrap_or_default(),
                };
                all &= found.first().is_some_and(|status| status == "up")
                    && found.get(1..).is_some_and(|rest| *rest == *end);
            }
            if all {
                return Ok(());
            }
            if Instant::now() > until {
                for at in 0..self.servers.len() {
                    let reply = self.call(at, &["INFO", "replication"])?;
                    eprintln!("{}", String::from_utf8_lossy(reply.as_bytes().unwrap_or(b"")));
                }
                bail!("no rest within {REST:?}");
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn resynchronisations(&self) -> Result<[u64; 2]> {
        let mut sum = [0; 2];
        for at in 0..self.servers.len() {
            let found = self.info(at, "stats", &["sync_full", "sync_partial_ok"])?;
            for (sum, one) in sum.iter_mut().zip(&found) {
                *sum += one.parse::<u64>()?;
            }
        }
        Ok(sum)
    }

    fn round(&mut self, rng: &mut Rng, tally: &mut Tally) -> Result<()> {
        let before = self.resynchronisations()?;
        self.seed = self.seed.wrapping_add(1);
        let mut writer = Writer::start(self.server(self.primary()?)?, self.seed)?;
        for _ in 0..1 + rng.below(4) {
            std::thread::sleep(Duration::from_millis(20 + rng.below(250)));
            self.disturb(rng, tally)?;
        }
        let abrupt = rng.below(6) == 0;
        if abrupt {
            tally.abrupt += 1;
            self.move_primary(rng)?;
        }
        tally.writes += writer.stop()?;
        self.rest()?;
        tally.keys += self.compare()?;
        if !abrupt && rng.below(2) == 0 {
            tally.handed += 1;
            if rng.below(2) == 0 {
                self.hand_over(rng)?
            } else {
                self.move_in_peace(rng)?
            }
            self.rest()?;
            tally.keys += self.compare()?;
        }
        let after = self.resynchronisations()?;
        let [full, partial] = [after[0] - before[0], after[1] - before[1]];
        // Writes that only the old primary had cost it a full copy; nothing else does.
        ensure!(full == 0 || abrupt, "{full} full resynchronisations were not needed");
        tally.full += full;
        tally.partial += partial;
        tally.rounds += 1;
        Ok(())
    }

    fn disturb(&self, rng: &mut Rng, tally: &mut Tally) -> Result<()> {
        let at = rng.below_usize(self.servers.len());
        match rng.below(4) {
            0 => {
                tally.stops += 1;
                let pid = self.server(at)?.pid().to_string();
                signal("-STOP", &pid)?;
                std::thread::sleep(Duration::from_millis(20 + rng.below(300)));
                signal("-CONT", &pid)?;
            }
            1 => {
                tally.cuts += 1;
                self.call(at, &["CLIENT", "KILL", "TYPE", "master"])?;
            }
            _ => {
                tally.cuts += 1;
                self.call(at, &["CLIENT", "KILL", "TYPE", "replica"])?;
            }
        }
        Ok(())
    }

    /// Another leads, and the others follow it in some order.
    fn move_primary(&mut self, rng: &mut Rng) -> Result<()> {
        let old = self.primary()?;
        let count = self.servers.len();
        let next = (old + 1 + rng.below_usize(count - 1)) % count;
        self.lead(next)?;
        self.follow(old, next)?;
        for at in (0..count).filter(|at| *at != old && *at != next) {
            let whom = if rng.below(2) == 0 { next } else { old };
            self.follow(at, whom)?;
        }
        Ok(())
    }

    /// The same while the old primary neither takes nor makes a change: a key whose time is over would be one that
    /// only it has.
    fn move_in_peace(&mut self, rng: &mut Rng) -> Result<()> {
        let old = self.primary()?;
        self.call(old, &["CLIENT", "PAUSE", "60000", "WRITE"])?;
        self.rest()?;
        self.move_primary(rng)?;
        self.call(old, &["CLIENT", "UNPAUSE"])?;
        Ok(())
    }

    /// The same by FAILOVER, while clients write.
    fn hand_over(&mut self, rng: &mut Rng) -> Result<()> {
        let old = self.primary()?;
        let near: Vec<usize> = (0..self.servers.len())
            .filter(|at| self.follows.get(*at) == Some(&Some(old)))
            .collect();
        let next = *near.get(rng.below_usize(near.len())).context("a replica")?;
        self.seed = self.seed.wrapping_add(1);
        let mut writer = Writer::start(self.server(old)?, self.seed)?;
        std::thread::sleep(Duration::from_millis(50));
        let port = self.server(next)?.port.to_string();
        let words = ["FAILOVER", "TO", "127.0.0.1", &port, "TIMEOUT", "20000"];
        let reply = self.call(old, &words)?;
        ensure!(!matches!(reply, Value::Error(_)), "FAILOVER: {reply:?}");
        let until = Instant::now() + REST;
        while self.info(next, "replication", &["role"])?.first().is_some_and(|role| role == "slave")
        {
            ensure!(Instant::now() < until, "FAILOVER does not come to an end");
            std::thread::sleep(Duration::from_millis(20));
        }
        writer.stop()?;
        for (at, whom) in [(next, None), (old, Some(next))] {
            if let Some(slot) = self.follows.get_mut(at) {
                *slot = whom;
            }
        }
        Ok(())
    }

    /// How many keys all have, if they have the same.
    fn compare(&self) -> Result<usize> {
        let horizon = data::horizon()?;
        let primary = self.primary()?;
        let expected = data::read(&mut self.server(primary)?.connect()?, horizon)?;
        for at in (0..self.servers.len()).filter(|at| *at != primary) {
            let found = data::read(&mut self.server(at)?.connect()?, horizon)?;
            data::same(&expected, &found)
                .with_context(|| format!("server {at} beside the primary {primary}"))?;
        }
        Ok(expected.len())
    }
}

fn signal(what: &str, pid: &str) -> Result<()> {
    let done = std::process::Command::new("kill").args([what, pid]).status()?;
    ensure!(done.success(), "kill {what} {pid}");
    Ok(())
}

/// A thread that writes at random until it is told to stop, or is refused.
struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Writer {
    fn start(server: &Server, seed: u64) -> Result<Writer> {
        let client = server.connect()?;
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            std::thread::spawn(move || write(client, seed, &stop, &count))
        };
        Ok(Writer { stop, count, thread: Some(thread) })
    }

    /// How many commands were answered.
    fn stop(&mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().ok().context("the writer broke")??;
        }
        Ok(self.count.load(Ordering::Acquire))
    }
}

fn write(mut client: Client, seed: u64, stop: &AtomicBool, count: &AtomicU64) -> Result<()> {
    let mut generator = Generator::of_all(seed);
    while !stop.load(Ordering::Acquire) {
        let events = generator.events(1, 600);
        let commands: Vec<_> = events
            .into_iter()
            .map(|event| event.words)
            .filter(|words| data::is_fit(words))
            .collect();
        for chunk in commands.chunks(40) {
            if stop.load(Ordering::Acquire) {
                break;
            }
            client.send_all(chunk)?;
            for _ in chunk {
                match client.read(Duration::from_secs(30)) {
                    Ok(_) => count.fetch_add(1, Ordering::Relaxed),
                    // It may have been stopped, or have become a replica.
                    Err(_) => return Ok(()),
                };
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // What was begun is not left open.
    client.call(&["DISCARD"])?;
    Ok(())
}
