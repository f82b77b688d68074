//! Differential test: random commands, the same to Larder and to redis-server, every reply compared.
//! A difference is shrunk to the fewest commands that still show it, on emptied servers. What differs on
//! purpose stands in `tests/differential-waivers.txt`, each with its reason. `--fields` plays commands on deadlines of
//! fields, on a newer redis-server (`--peer`, or one that a package carries).

mod compare;
mod coverage;
mod event;
mod fields;
pub mod generator;
mod shrink;
mod stage;
mod templates;
pub mod waivers;
mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::foreign;
use crate::process::Server;
use coverage::Coverage;
use event::{Event, name, script};
use generator::Generator;
use shrink::shrink;
use stage::{Servers, Stage};
use templates::Group;
use waivers::Waivers;

/// Events between two FLUSHALL, on one connection and on three: what a shrink starts from.
const SOLO: usize = 4_000;
const CROWD: usize = 1_500;
const LANES: usize = 3;
const WAIT: Duration = Duration::from_secs(20);
/// Different commands with differences after which a run gives up.
const FOUND_MAX: usize = 30;
/// Replies from which a run must have met every command and option.
const WHOLE: usize = 1_000_000;

/// Small forms left early: every encoding is met with few members.
const TINY: &[&str] = &[
    "--hash-max-listpack-entries",
    "4",
    "--hash-max-listpack-value",
    "8",
    "--set-max-intset-entries",
    "4",
    "--zset-max-listpack-entries",
    "4",
    "--zset-max-listpack-value",
    "8",
    "--list-max-listpack-size",
    "4",
    "--hll-sparse-max-bytes",
    "40",
];

/// What a run is about.
struct Subjects {
    groups: &'static [Group],
    /// As COMMAND DOCS names them: each of their commands must be met.
    families: &'static [&'static str],
    waivers: &'static str,
}

const ALL: Subjects = Subjects {
    groups: templates::GROUPS,
    families: coverage::GROUPS,
    waivers: "tests/differential-waivers.txt",
};
const FIELDS: Subjects = Subjects {
    groups: fields::GROUPS,
    families: &["hash"],
    waivers: "tests/differential-fields-waivers.txt",
};

/// What a run found.
pub struct Outcome {
    /// Differences without a waiver, one a command name, and commands never compared.
    pub failures: usize,
}

struct Options {
    subject: String,
    commands: usize,
    seed: u64,
    lasts: Option<Duration>,
    workers: String,
    tiny: bool,
    fields: bool,
    peer: Option<String>,
}

fn options(args: &[String]) -> Result<Options> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let mut options = Options {
        subject: "target/release/larder".to_owned(),
        commands: 300_000,
        seed: u64::from(now),
        lasts: None,
        workers: "1".to_owned(),
        tiny: false,
        fields: false,
        peer: None,
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--tiny" {
            options.tiny = true;
            continue;
        }
        if word == "--fields" {
            options.fields = true;
            continue;
        }
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => options.subject.clone_from(value),
            "--peer" => options.peer = Some(value.clone()),
            "--commands" => options.commands = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--workers" => options.workers.clone_from(value),
            "--seconds" => {
                options.lasts = Some(Duration::from_secs(value.parse()?));
                options.commands = usize::MAX;
            }
            other => bail!("no option {other}"),
        }
    }
    Ok(options)
}

/// Runs until the commands or the seconds are spent.
pub fn run(args: &[String]) -> Result<Outcome> {
    let options = options(args)?;
    let subjects = if options.fields { &FIELDS } else { &ALL };
    let waivers = Waivers::read(subjects.waivers)?;
    let peer = match &options.peer {
        Some(peer) => peer.clone(),
        None if options.fields => foreign::newer_redis()?,
        None => "redis-server".to_owned(),
    };
    println!(
        "seed {}, {} workers{}, beside {peer}",
        options.seed,
        options.workers,
        if options.tiny { ", tiny" } else { "" }
    );
    let tiny = if options.tiny { TINY } else { &[] };
    let mut own = vec!["--workers", &options.workers];
    own.extend(tiny);
    let servers = Servers {
        ours: Server::start_with(&options.subject, &own)?,
        // It looks at the deadlines of those who wait by its tick only.
        oracle: Server::start_with(&peer, &[tiny, &["--hz", "500"]].concat())?,
    };
    println!("Larder on port {}, redis-server on {}", servers.ours.port, servers.oracle.port);
    let required = coverage::required(&servers.oracle, subjects.families)?;
    let mut search = Search {
        servers: &servers,
        waivers: &waivers,
        generator: Generator::new(options.seed, subjects.groups),
        coverage: Coverage::default(),
        found: BTreeMap::new(),
    };
    search.generator.announce(&mut search.coverage);
    let mut epoch = 0_u64;
    // Both servers are there: what had to be fetched and started for that does not count.
    let started = Instant::now();
    while search.coverage.compared < options.commands
        && options.lasts.is_none_or(|lasts| started.elapsed() < lasts)
        && search.found.len() < FOUND_MAX
    {
        search.epoch(epoch)?;
        epoch += 1;
    }
    let compared = search.coverage.compared;
    let rate = compared as f64 / started.elapsed().as_secs_f64();
    let missing = search.coverage.print(&required);
    waivers.print();
    ensure!(compared > 0, "nothing was compared");
    let mut failures = search.found.len();
    if !missing.is_empty() {
        println!("never compared with success: {}", missing.join(", "));
        if compared >= WHOLE {
            failures += missing.len();
        }
    }
    for (name, times) in &search.found {
        println!("differs {times} times: {name}");
    }
    println!(
        "{compared} replies compared, {rate:.0}/s, {} differences, seed {}",
        search.found.len(),
        options.seed
    );
    Ok(Outcome { failures })
}

struct Search<'s> {
    servers: &'s Servers,
    waivers: &'s Waivers,
    generator: Generator,
    coverage: Coverage,
    /// Names of commands that differed, and how often.
    found: BTreeMap<String, usize>,
}

impl Search<'_> {
    /// From emptied servers to the first difference or the events' end.
    fn epoch(&mut self, number: u64) -> Result<()> {
        let version = if number & 1 == 0 { "2" } else { "3" };
        let lanes = if number & 2 == 0 { 1 } else { LANES };
        let events = self.generator.events(lanes, if lanes == 1 { SOLO } else { CROWD });
        let mut stage = Stage::open(self.servers, self.waivers, version, lanes, WAIT)?;
        self.generator.announce(&mut stage.coverage);
        let found = stage.play(&events);
        if found.is_err() {
            println!("{}", script(&events));
        }
        let found = found?;
        stage.close()?;
        self.coverage.add(std::mem::take(&mut stage.coverage));
        let Some(found) = found else { return Ok(()) };
        let name = name(&found.words);
        let times = self.found.entry(name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            return Ok(());
        }
        let events: Vec<Event> = events.into_iter().take(found.at + 1).collect();
        let played = events.clone();
        match shrink(events, &name, version, self.servers, self.waivers)? {
            Some((events, text)) => {
                println!("-- {name} (RESP{version})\n{}{text}", script(&events))
            }
            None => {
                let last = script(&played[played.len().saturating_sub(60)..]);
                println!("-- {name} (RESP{version}), not again, after\n{last}{}", found.text());
            }
        }
        Ok(())
    }
}
