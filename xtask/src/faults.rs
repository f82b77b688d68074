//! Lets the disk of a real server fail under load, once or for a while: EIO, ENOSPC, writes cut short, at every operation
//! that persistence makes. Whatever fails and whenever it ends, what is owed is there after the next start, nothing
//! panics, writes are refused while they could not be kept, and all of it ends by itself when the disk works again.

mod control;
mod plan;
mod subject;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_base::Rng;
use larder_protocol::response::Value;

use self::control::Control;
use self::plan::{End, MODES, Moment, Plan};
use self::subject::{Setup, Subject};
use crate::crash::ledger::{self, Ended, Ledger};
use crate::crash::saves::Saves;
use crate::process::{Client, Patience};

/// What all rounds found.
#[derive(Default)]
struct Tally {
    rounds: u64,
    /// Rounds in which something failed.
    faults: u64,
    failures: u64,
    refused_starts: u64,
    refused_writes: u64,
    acknowledged: u64,
    lost: u64,
    oldest_ms: u64,
}

/// A folder over its rounds, in one mode.
struct Life {
    mode: &'static str,
    folder: PathBuf,
    ledgers: Vec<Ledger>,
    saves: Saves,
    /// From when on what was acknowledged may be lost, and whether the last server ended in order.
    until: Option<Instant>,
    in_order: bool,
    /// When the log was turned off and on again, if the new one may not be complete: the old one counts then.
    turned: Option<Instant>,
    /// What was played before.
    before: Option<Plan>,
}

/// Plays rounds until as many faults have struck as the arguments say.
pub fn run(args: &[String]) -> Result<()> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let program = value("--subject").unwrap_or_else(|| "target/quick/larder".to_owned());
    let count: u64 = value("--count").map_or(Ok(50), |text| text.parse())?;
    let seed: u64 = value("--seed").map_or(Ok(1), |text| text.parse())?;
    let root = std::env::temp_dir().join(format!("larder-faults-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    // What the kernel shows of an open file has no links in it.
    let root = std::fs::canonicalize(root)?;
    let (shim, control) = (control::build_shim()?, Control::create(&root.join("control"))?);
    let (mut rng, mut tally, begun) = (Rng::new(seed), Tally::default(), Instant::now());
    let mut lives = Vec::new();
    for mode in MODES {
        lives.push(Life::new(mode, root.join(mode))?);
    }
    while tally.faults < count {
        let plan = Plan::draw(&mut rng);
        let life = lives.iter_mut().find(|life| life.mode == plan.mode).context("no such mode")?;
        if rng.below(6) == 0 {
            std::fs::remove_dir_all(&life.folder)?;
            *life = Life::new(plan.mode, life.folder.clone())?;
        }
        let (folder, log) = (life.folder.clone(), root.join(format!("{}.log", plan.mode)));
        let (shim, control) = (&shim, &control);
        let setup = Setup { program: &program, shim, control, folder: &folder, log: &log };
        let played = life.play(&setup, &plan, &mut rng, &mut tally);
        played.with_context(|| {
            let (round, before) = (tally.rounds, &life.before);
            format!(
                "round {round} of --seed {seed}: {plan:?}, after {before:?}; see {}",
                root.display()
            )
        })?;
        life.before = Some(plan);
        tally.rounds += 1;
    }
    std::fs::remove_dir_all(&root)?;
    println!(
        "{} faults in {} rounds ({} operations failed): {} starts and {} writes were refused, {} writes acknowledged, \
         nothing lost that was owed ({} that were not, at most {} ms old), no panic; {:.0} s",
        tally.faults,
        tally.rounds,
        tally.failures,
        tally.refused_starts,
        tally.refused_writes,
        tally.acknowledged,
        tally.lost,
        tally.oldest_ms,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Life {
    fn new(mode: &'static str, folder: PathBuf) -> Result<Life> {
        std::fs::create_dir_all(&folder)?;
        let (ledgers, saves) = (Ledger::fresh(), Saves::default());
        Ok(Life {
            mode,
            folder,
            ledgers,
            saves,
            until: None,
            in_order: false,
            turned: None,
            before: None,
        })
    }

    fn options(&self) -> Vec<&'static str> {
        match self.mode {
            // Save points that do not come, but let writes be refused where saving fails.
            "rdb" => vec!["--save", "3600 100000000"],
            mode => vec!["--save", "", "--appendonly", "yes", "--appendfsync", mode],
        }
    }

    /// One server: its start, a load, a fault, and its end. Then one more start, to see what is left.
    fn play(
        &mut self,
        setup: &Setup<'_>,
        plan: &Plan,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let control = setup.control;
        control.disarm()?;
        if plan.moment == Moment::Start {
            control.arm(&plan.fault)?;
            let started = setup.start(&self.options())?;
            let hits = control.hits()?;
            control.disarm()?;
            (tally.faults, tally.failures) =
                (tally.faults + u64::from(hits > 0), tally.failures + hits);
            match started {
                // What was kept must be there now, if it says that it has started.
                Some(subject) => return self.work(setup, subject, None, rng, tally),
                None => tally.refused_starts += 1,
            }
        }
        let subject =
            setup.start(&self.options())?.context("a start without a fault is refused")?;
        self.work(setup, subject, (plan.moment != Moment::Start).then_some(plan), rng, tally)
    }

    /// A check of what is there, a load, a fault, and the end.
    fn work(
        &mut self,
        setup: &Setup<'_>,
        mut subject: Subject,
        plan: Option<&Plan>,
        rng: &mut Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut client = subject.connect()?;
        self.check(&mut client, tally)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for ledger in self.ledgers.drain(..) {
            let (mut client, stop) = (subject.connect()?, Arc::clone(&stop));
            let (ledger, mut rng) = (Mutex::new(ledger), Rng::new(rng.next_u64()));
            threads.push(std::thread::spawn(move || {
                let go_on = || !stop.load(Ordering::Relaxed);
                let ended = ledger::write(&mut client, &ledger, &mut rng, &go_on);
                (ended, ledger)
            }));
        }
        pause(rng, 20, 100);
        let mut failed_at = None;
        if let Some(plan) = plan {
            failed_at = self.strike(setup, plan, &mut subject, &mut client, tally)?;
        }
        let end = plan.map_or(End::Killed, |plan| plan.end);
        if !matches!(end, End::KilledFailing | End::AskedFailing) {
            setup.control.disarm()?;
            (failed_at, self.turned) = (None, None);
            self.recover(plan, &subject, &mut client)?;
            pause(rng, 10, 100);
        }
        let now = Instant::now();
        self.until = Some(self.turned.or(failed_at).unwrap_or(now));
        self.in_order = matches!(end, End::Asked);
        if matches!(end, End::Asked | End::AskedFailing) {
            let code = subject.end()?;
            let expected = if end == End::Asked { code == 0 } else { matches!(code, 0 | 1) };
            ensure!(expected, "it ended with {code}");
        } else {
            subject.kill()?;
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            let (ended, ledger) =
                thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            ensure!(ended == Ended::Quietly, "a writer was refused: {ended:?}");
            self.ledgers.push(ledger.into_inner().map_err(|_| anyhow::anyhow!("poisoned"))?);
        }
        Ok(())
    }

    /// Lets the disk fail; since when it does.
    fn strike(
        &mut self,
        setup: &Setup<'_>,
        plan: &Plan,
        subject: &mut Subject,
        client: &mut Client,
        tally: &mut Tally,
    ) -> Result<Option<Instant>> {
        let control = setup.control;
        control.arm(&plan.fault)?;
        match plan.moment {
            Moment::Start | Moment::Write => {}
            Moment::Rewrite | Moment::Manifest => drop(client.call(&["BGREWRITEAOF"])?),
            Moment::Turn => {
                self.turned = Some(Instant::now());
                client.call(&["CONFIG", "SET", "appendonly", "no"])?;
                client.call(&["CONFIG", "SET", "appendonly", "yes"])?;
            }
            Moment::Save => drop(self.saves.begin(client)?),
        }
        let mut patience = Patience::of(Duration::from_millis(1000));
        while control.hits()? == 0 && patience.nap(Duration::from_millis(1)) {}
        let struck = Instant::now();
        std::thread::sleep(plan.lasts);
        if plan.refuses_writes() && control.hits()? > 0 {
            self.is_refused(subject, tally).context("while the log cannot be written")?;
        }
        if plan.moment == Moment::Save && !self.saves.wait(client)? {
            self.is_refused(subject, tally).context("after a save that failed")?;
        }
        let hits = control.hits()?;
        subject.is_alive()?;
        tally.failures += hits;
        tally.faults += u64::from(hits > 0);
        Ok((hits > 0).then_some(struck))
    }

    /// Whether writes are refused now, or soon, and reads are not.
    fn is_refused(&self, subject: &Subject, tally: &mut Tally) -> Result<()> {
        let mut patience = Patience::of(Duration::from_millis(2500));
        loop {
            let mut client = subject.connect()?;
            client.send(&["SET", "probe", "1"])?;
            // A write that came before the first failure has no reply until it is on disk.
            let answer = client.read(Duration::from_millis(300));
            match answer {
                Ok(Value::Error(text)) if text.starts_with(b"MISCONF") => break,
                Ok(Value::Simple(_)) | Err(_) => {}
                other => bail!("a write gets {other:?}"),
            }
            let nap = Duration::from_millis(20);
            ensure!(patience.nap(nap), "a write gets {answer:?}, and no MISCONF");
        }
        tally.refused_writes += 1;
        let read = subject.connect()?.call(&["GET", "w0:0"])?;
        ensure!(matches!(read, Value::Bulk(_) | Value::Null), "a read gets {read:?}");
        Ok(())
    }

    /// Whether all of it works again.
    fn recover(
        &mut self,
        plan: Option<&Plan>,
        subject: &Subject,
        client: &mut Client,
    ) -> Result<()> {
        if plan.is_some_and(|plan| plan.moment == Moment::Save) {
            self.saves.again(client)?;
            ensure!(self.saves.wait(client)?, "a save fails on a disk that works again");
        }
        if plan.is_some_and(|plan| plan.moment == Moment::Turn) {
            // It may have been refused.
            let turned = client.call(&["CONFIG", "SET", "appendonly", "yes"])?;
            ensure!(matches!(turned, Value::Simple(_)), "the log is not turned on: {turned:?}");
        }
        let mut patience = Patience::of(Duration::from_secs(5));
        loop {
            let written = subject.connect()?.call(&["SET", "probe", "2"]);
            if matches!(written, Ok(Value::Simple(_))) {
                break;
            }
            let nap = Duration::from_millis(10);
            ensure!(patience.nap(nap), "a write gets {written:?} on a disk that works again");
        }
        let rewrites = plan.is_some_and(|plan| {
            matches!(plan.moment, Moment::Rewrite | Moment::Manifest | Moment::Turn)
        });
        let before = count_of(&info(client)?, "aof_rewrites:")?;
        loop {
            let info = info(client)?;
            let is_idle = info.contains("aof_rewrite_in_progress:0");
            let done = !rewrites || (is_idle && count_of(&info, "aof_rewrites:")? > before);
            if done && info.contains("aof_last_write_status:ok") {
                return Ok(());
            }
            if rewrites && is_idle {
                client.call(&["BGREWRITEAOF"])?;
            }
            ensure!(patience.nap(Duration::from_millis(5)), "on a disk that works again: {info}");
        }
    }

    /// Whether what is there is what is owed.
    fn check(&mut self, client: &mut Client, tally: &mut Tally) -> Result<()> {
        let cut = ledger::settle(client, &mut self.ledgers)?;
        let age = self.until.and_then(|until| cut.oldest_lost(until));
        let age_ms = age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        (tally.acknowledged, tally.lost) =
            (tally.acknowledged + cut.acknowledged, tally.lost + cut.lost);
        if self.in_order {
            ensure!(
                cut.lost == 0,
                "{} writes are lost, though the server ended in order",
                cut.lost
            );
        }
        match self.mode {
            "always" => {
                let may_lack = self.turned.zip(cut.earliest_out).is_some_and(|(at, out)| out >= at);
                ensure!(cut.lost == 0 || may_lack, "{} acknowledged writes are lost", cut.lost);
            }
            "rdb" if self.in_order => self.saves.forget(client)?,
            "rdb" => self.saves.settle(client, &cut)?,
            _ => {
                tally.oldest_ms = tally.oldest_ms.max(age_ms);
                ensure!(age_ms <= 1000, "a write is lost that was acknowledged {age_ms} ms before");
            }
        }
        (self.until, self.in_order, self.turned) = (None, false, None);
        Ok(())
    }
}

fn pause(rng: &mut Rng, least_ms: u64, more_ms: u64) {
    std::thread::sleep(Duration::from_millis(least_ms + rng.below(more_ms)));
}

fn info(client: &mut Client) -> Result<String> {
    let Value::Bulk(info) = client.call(&["INFO", "persistence"])? else {
        bail!("INFO is no text")
    };
    Ok(String::from_utf8_lossy(&info).into_owned())
}

/// A number of INFO.
fn count_of(info: &str, name: &str) -> Result<u64> {
    let found = info.lines().find_map(|line| line.strip_prefix(name));
    Ok(found.context("INFO lacks a number")?.trim().parse()?)
}
