//! Speed of Larder beside a peer: same load in alternating slices, medians, and the server's CPU time
//! per command, which says more than requests per second when the generator is the slower side.
//!
//! The generator is one thread of its own core; a server has core 0, with several workers both cores.
//! A run is many short slices of each server in turn, since the speed of a virtual machine swings
//! within a second; figures are medians of the runs, ratios included.

mod cpu;
mod load;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_base::rng::Rng;

use crate::process::Server;
pub use cpu::Cpu;
use load::{Lanes, Pipeline, WORKLOADS, Workload};

/// One server's share of a run, in turns.
const SLICE: Duration = Duration::from_millis(100);
/// The seven that are run unless others are named.
const DEFAULT: &str = "get,set,incr,hset,lpush,zadd,mget10";

struct Options {
    subject: String,
    peer: String,
    workloads: Vec<Workload>,
    pipelines: Vec<usize>,
    connections: usize,
    runs: usize,
    seconds: f64,
    workers: usize,
    /// Of a peer that is a Larder.
    peer_workers: usize,
    /// More options of each.
    with: [Vec<String>; 2],
    /// Which of them feed a replica (a redis-server).
    feeds: [bool; 2],
    keys: u64,
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options {
        subject: "target/release/larder".to_owned(),
        peer: "redis-server".to_owned(),
        workloads: workloads(DEFAULT)?,
        pipelines: vec![1, 16, 64],
        connections: 50,
        runs: 5,
        seconds: 1.0,
        workers: 1,
        peer_workers: 1,
        with: [Vec::new(), Vec::new()],
        feeds: [false, false],
        keys: 1_000_000,
    };
    let mut words = args.iter();
    let list = |text: &String| text.split_whitespace().map(str::to_owned).collect();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => (options.runs, options.seconds, options.keys) = (3, 0.6, 200_000),
            "--replica" => options.feeds[0] = true,
            "--peer-replica" => options.feeds[1] = true,
            _ => {}
        }
        if matches!(word.as_str(), "--quick" | "--replica" | "--peer-replica") {
            continue;
        }
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => options.subject.clone_from(value),
            "--peer" => options.peer.clone_from(value),
            "--workloads" => options.workloads = workloads(value)?,
            "--pipelines" => {
                options.pipelines = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--connections" => options.connections = value.parse()?,
            "--runs" => options.runs = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--workers" => options.workers = value.parse()?,
            "--peer-workers" => options.peer_workers = value.parse()?,
            "--with" => options.with[0] = list(value),
            "--peer-with" => options.with[1] = list(value),
            "--keys" => options.keys = value.parse()?,
            other => bail!("no option {other}"),
        }
    }
    if options.runs == 0
        || options.keys == 0
        || options.connections == 0
        || options.pipelines.contains(&0)
    {
        bail!("--runs, --keys, --connections and --pipelines are at least 1");
    }
    Ok(options)
}

fn workloads(names: &str) -> Result<Vec<Workload>> {
    let find = |name: &str| {
        let known = WORKLOADS.iter().copied().find(|known| known.name == name);
        known.with_context(|| format!("no workload {name}"))
    };
    names.split(',').map(find).collect()
}

/// Runs every workload at every pipeline depth and prints a table.
pub fn run(args: &[String]) -> Result<()> {
    let options = options(args)?;
    let servers = start(&options)?;
    let fed = servers.iter().zip(options.feeds).filter(|(_, feeds)| *feeds);
    let _replicas = fed.map(|(server, _)| replica(server)).collect::<Result<Vec<_>>>()?;
    println!(
        "{} connections, {} keys of 16 bytes, values of 32; {} runs of {} s in slices of {} ms, medians; \
         latency of a whole pipeline in us; CPU of the server in us a command",
        options.connections,
        options.keys,
        options.runs,
        options.seconds,
        SLICE.as_millis()
    );
    println!(
        "workload   depth server      requests/s     p50     p99   p99.9     CPU    user  system"
    );
    for workload in &options.workloads {
        for &depth in &options.pipelines {
            compare(&options, &servers, *workload, depth)
                .with_context(|| format!("{} at depth {depth}", workload.name))?;
        }
    }
    for (server, name) in servers.iter().zip(NAMES) {
        idle(server, name)?;
    }
    Ok(())
}

/// A server with the options that were asked for; a Larder has so many workers.
fn server(program: &str, workers: usize, with: &[String]) -> Result<Server> {
    let workers = ["--workers".to_owned(), workers.to_string()];
    let is_larder = !program.ends_with("-server");
    let options = workers.iter().filter(|_| is_larder).chain(with);
    Server::start_with(program, &options.map(String::as_str).collect::<Vec<_>>())
}

/// A replica of it, on the generator's core, once it has everything.
fn replica(of: &Server) -> Result<Server> {
    let port = of.port.to_string();
    let replica =
        Server::start_with("redis-server", &["--replicaof", &format!("127.0.0.1 {port}")])?;
    pin(replica.pid(), "1")?;
    let mut client = replica.connect()?;
    let begun = Instant::now();
    loop {
        let info = client.call(&["INFO", "replication"])?;
        let text = info.as_bytes().unwrap_or_default();
        if String::from_utf8_lossy(text).contains("master_link_status:up") {
            return Ok(replica);
        }
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("the replica gets no copy");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

const NAMES: [&str; 2] = ["larder", "peer"];

/// Starts both servers, binds everybody to cores, and fills the keyspaces.
fn start(options: &Options) -> Result<[Server; 2]> {
    let ours = server(&options.subject, options.workers, &options.with[0])?;
    let peer = server(&options.peer, options.peer_workers, &options.with[1])?;
    if options.workers > 1 {
        // Two workers and the generator share both cores, and so does whoever is compared.
        for pid in [ours.pid(), peer.pid(), std::process::id()] {
            pin(pid, "0-1")?;
        }
    } else {
        pin(ours.pid(), "0")?;
        pin(peer.pid(), "0")?;
        pin(std::process::id(), "1")?;
    }
    let servers = [ours, peer];
    for server in &servers {
        preload(server, options.keys)?;
    }
    Ok(servers)
}

/// Binds all threads of a process to cores.
fn pin(pid: u32, cores: &str) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-p", "-c", cores, &pid.to_string()])
        .stdout(std::process::Stdio::null())
        .status()
        .context("taskset of util-linux is needed")?;
    if status.success() { Ok(()) } else { bail!("cannot bind {pid} to core {cores}") }
}

fn preload(server: &Server, keys: u64) -> Result<()> {
    let mut client = server.connect()?;
    let mut number = 0;
    while number < keys {
        let until = (number + 1_000).min(keys);
        let key = |number| format!("key:{number:012}").into_bytes();
        let batch: Vec<Vec<Vec<u8>>> =
            (number..until).map(|at| vec![b"SET".to_vec(), key(at), vec![b'x'; 32]]).collect();
        client.send_all(&batch)?;
        for _ in &batch {
            client.read(Duration::from_secs(10))?;
        }
        number = until;
    }
    Ok(())
}

/// All runs of one workload at one depth; prints three lines.
fn compare(
    options: &Options,
    servers: &[Server; 2],
    workload: Workload,
    depth: usize,
) -> Result<()> {
    let mut pipeline = Pipeline::new(workload, depth, options.keys);
    let mut rng = Rng::new(7);
    // Beside one worker a core is free for a generator that never sleeps.
    let spin = options.workers == 1;
    let connect = |server: &Server| Lanes::connect(server.port, options.connections, spin);
    let mut lanes = [connect(&servers[0])?, connect(&servers[1])?];
    for lanes in &mut lanes {
        lanes.drive(&mut pipeline, &mut rng, SLICE, &mut Vec::new())?;
    }
    let mut runs: [Vec<Figures>; 2] = Default::default();
    for _ in 0..options.runs {
        let mut totals = [Total::default(), Total::default()];
        for _ in 0..slices(options.seconds) {
            for ((server, lanes), total) in servers.iter().zip(&mut lanes).zip(&mut totals) {
                total.slice(server, lanes, &mut pipeline, &mut rng)?;
            }
        }
        for (runs, total) in runs.iter_mut().zip(totals) {
            runs.push(total.figures(depth)?);
        }
    }
    let name = workload.name;
    for (server, runs) in NAMES.iter().zip(&runs) {
        let [rate, p50, p99, p999, cpu, user, system] = median(runs.iter().map(|run| run.0));
        println!(
            "{name:<10} {depth:>5} {server:<11} {rate:>10.0} {p50:>7.0} {p99:>7.0} {p999:>7.0} \
             {cpu:>7.3} {user:>7.3} {system:>7.3}"
        );
    }
    let [ours, peer] = &runs;
    let ratio = |(ours, peer): (&Figures, &Figures)| {
        std::array::from_fn(|at| ours.0[at] / peer.0[at].max(1e-9))
    };
    let [rate, p50, p99, p999, cpu, user, system] = median(ours.iter().zip(peer).map(ratio));
    println!(
        "{name:<10} {depth:>5} ratio       {rate:>10.2} {p50:>7.2} {p99:>7.2} {p999:>7.2} {cpu:>7.2} \
         {user:>7.2} {system:>7.2}"
    );
    Ok(())
}

fn slices(seconds: f64) -> u64 {
    let slices = Duration::from_secs_f64(seconds.max(0.1)).as_millis() / SLICE.as_millis();
    u64::try_from(slices).unwrap_or(1).max(1)
}

/// Requests a second; p50, p99, p99.9 of a pipeline; CPU, user, system a command.
struct Figures([f64; 7]);

/// What one server did in the slices of one run.
#[derive(Default)]
struct Total {
    took: Vec<u32>,
    time: Duration,
    cpu: Cpu,
}

impl Total {
    fn slice(
        &mut self,
        server: &Server,
        lanes: &mut Lanes,
        pipeline: &mut Pipeline,
        rng: &mut Rng,
    ) -> Result<()> {
        let (before, begun) = (Cpu::of(server.pid())?, Instant::now());
        lanes.drive(pipeline, rng, SLICE, &mut self.took)?;
        self.time += begun.elapsed();
        self.cpu.add(&before, &Cpu::of(server.pid())?);
        Ok(())
    }

    fn figures(mut self, depth: usize) -> Result<Figures> {
        if self.took.is_empty() {
            bail!("no reply");
        }
        self.took.sort_unstable();
        let at = |thousandths: usize| {
            f64::from(self.took[(self.took.len() - 1) * thousandths / 1000]) / 1e3
        };
        let commands = (self.took.len() * depth) as f64;
        let [cpu, user, system] = self.cpu.micros().map(|micros| micros / commands);
        let rate = commands / self.time.as_secs_f64();
        Ok(Figures([rate, at(500), at(990), at(999), cpu, user, system]))
    }
}

fn median(runs: impl Iterator<Item = [f64; 7]> + Clone) -> [f64; 7] {
    std::array::from_fn(|at| {
        let mut values: Vec<f64> = runs.clone().map(|run| run[at]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}

/// What a server costs that nobody asks anything.
fn idle(server: &Server, name: &str) -> Result<()> {
    let before = Cpu::of(server.pid())?;
    std::thread::sleep(Duration::from_secs(5));
    let mut spent = Cpu::default();
    spent.add(&before, &Cpu::of(server.pid())?);
    let [micros, ..] = spent.micros();
    println!("idle             {name:<11} {:.2} % of a core", micros / 5e6 * 100.0);
    Ok(())
}
