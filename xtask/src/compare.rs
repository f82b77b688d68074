//! Speed of Larder beside a peer: same load, alternating runs, medians, and the server's CPU time per
//! command, which says more than requests per second when the generator is the slower side.
//!
//! The generator is one thread of its own core: it keeps every connection at one pipeline of prepared
//! requests and counts the line ends of the replies. The server has core 0 (with several workers all cores).

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_base::rng::Rng;
use larder_protocol::encode::encode_command;

use crate::process::Server;

/// Name, line ends of one reply.
const WORKLOADS: &[(&str, usize)] = &[
    ("get", 2),
    ("set", 1),
    ("incr", 1),
    ("hset", 1),
    ("lpush", 1),
    ("zadd", 1),
    ("mget10", 21),
    ("hot-get", 2),
    ("hot-set", 1),
];
const CONNECTIONS: usize = 50;
/// Prepared pipelines that a run goes round in.
const PREPARED: usize = 4_000;

struct Options {
    subject: String,
    peer: String,
    workloads: Vec<String>,
    pipelines: Vec<usize>,
    runs: usize,
    seconds: f64,
    workers: usize,
    keys: u64,
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options {
        subject: "target/release/larder".to_owned(),
        peer: "redis-server".to_owned(),
        workloads: WORKLOADS.iter().take(7).map(|(name, _)| (*name).to_owned()).collect(),
        pipelines: vec![1, 16, 64],
        runs: 5,
        seconds: 2.0,
        workers: 1,
        keys: 1_000_000,
    };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--quick" {
            (options.runs, options.seconds, options.keys) = (3, 0.6, 200_000);
            continue;
        }
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--subject" => options.subject.clone_from(value),
            "--peer" => options.peer.clone_from(value),
            "--workloads" => options.workloads = value.split(',').map(str::to_owned).collect(),
            "--pipelines" => {
                options.pipelines = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--runs" => options.runs = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--workers" => options.workers = value.parse()?,
            "--keys" => options.keys = value.parse()?,
            other => bail!("no option {other}"),
        }
    }
    if options.runs == 0 || options.keys == 0 || options.pipelines.contains(&0) {
        bail!("--runs, --keys and --pipelines are at least 1");
    }
    Ok(options)
}

/// Runs every workload at every pipeline depth and prints a table.
pub fn run(args: &[String]) -> Result<()> {
    let options = options(args)?;
    let workers = options.workers.to_string();
    let ours = Server::start_with(&options.subject, &["--workers", &workers])?;
    let peer = Server::start(&options.peer)?;
    let cores = if options.workers > 1 { "0-1" } else { "0" };
    pin(ours.pid(), cores)?;
    pin(peer.pid(), "0")?;
    pin(std::process::id(), "1")?;
    for server in [&ours, &peer] {
        preload(server, options.keys)?;
    }
    println!(
        "{CONNECTIONS} connections, {} keys of 16 bytes, values of 32; {} runs of {} s, medians; \
         latency of a whole pipeline in us; CPU of the server in us a command (user + system)",
        options.keys, options.runs, options.seconds
    );
    println!(
        "workload   depth server      requests/s     p50     p99   p99.9     CPU    user  system"
    );
    for name in &options.workloads {
        let (name, lines) = WORKLOADS
            .iter()
            .find(|known| known.0 == name)
            .with_context(|| format!("no workload {name}"))?;
        for &depth in &options.pipelines {
            let load = prepare(name, depth, options.keys);
            let mut figures = [Vec::new(), Vec::new()];
            for _ in 0..options.runs {
                for (server, figures) in [&ours, &peer].into_iter().zip(&mut figures) {
                    figures.push(
                        measure(server, &load, depth, lines * depth, options.seconds)
                            .with_context(|| format!("{name} at depth {depth}"))?,
                    );
                }
            }
            let [ours, peer] = figures.map(|runs| medians(&runs));
            print(name, depth, "larder", &ours);
            print(name, depth, "peer", &peer);
            println!(
                "{name:<10} {depth:>5} ratio       {:>10.2} {:>7.2} {:>7.2} {:>7.2} {:>7.2}",
                ours.rate / peer.rate,
                ours.p50 / peer.p50,
                ours.p99 / peer.p99,
                ours.p999 / peer.p999,
                ours.cpu / peer.cpu
            );
        }
    }
    idle(&ours, "larder")?;
    idle(&peer, "peer")
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

fn key(prefix: &str, number: u64) -> Vec<u8> {
    format!("{prefix}{number:012}").into_bytes()
}

fn preload(server: &Server, keys: u64) -> Result<()> {
    let mut client = server.connect()?;
    let mut number = 0;
    while number < keys {
        let until = (number + 1_000).min(keys);
        let batch: Vec<Vec<Vec<u8>>> = (number..until)
            .map(|number| vec![b"SET".to_vec(), key("key:", number), vec![b'x'; 32]])
            .collect();
        client.send_all(&batch)?;
        for _ in &batch {
            client.read(Duration::from_secs(10))?;
        }
        number = until;
    }
    Ok(())
}

/// Pipelines of random requests.
fn prepare(name: &str, depth: usize, keys: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(7);
    let value = [b'y'; 32];
    (0..(PREPARED / depth.min(8)).max(500))
        .map(|_| {
            let mut bytes = Vec::new();
            for _ in 0..depth {
                let number = rng.below(keys);
                // Few enough that each collection fills, many enough that none grows large.
                let group = number % (keys / 10).max(1);
                let words: Vec<Vec<u8>> = match name {
                    "get" => vec![b"GET".to_vec(), key("key:", number)],
                    "set" => vec![b"SET".to_vec(), key("key:", number), value.to_vec()],
                    "hot-get" => vec![b"GET".to_vec(), key("key:", 0)],
                    "hot-set" => vec![b"SET".to_vec(), key("key:", 0), value.to_vec()],
                    "incr" => vec![b"INCR".to_vec(), key("int:", number)],
                    "hset" => {
                        let field = format!("field{}", rng.below(10)).into_bytes();
                        vec![b"HSET".to_vec(), key("has:", group), field, value.to_vec()]
                    }
                    "lpush" => vec![b"LPUSH".to_vec(), key("lis:", group), value.to_vec()],
                    "zadd" => {
                        let member = format!("member{}", rng.below(20)).into_bytes();
                        let score = rng.below(1_000).to_string().into_bytes();
                        vec![b"ZADD".to_vec(), key("zse:", group), score, member]
                    }
                    _ => std::iter::once(b"MGET".to_vec())
                        .chain((0..10).map(|_| key("key:", rng.below(keys))))
                        .collect(),
                };
                encode_command(&mut bytes, &words);
            }
            bytes
        })
        .collect()
}

/// Figures of one run, or their medians.
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    cpu: f64,
    user: f64,
    system: f64,
}

/// A connection with one pipeline under way.
struct Lane {
    stream: TcpStream,
    sent: Instant,
    lines: usize,
}

fn measure(
    server: &Server,
    load: &[Vec<u8>],
    depth: usize,
    lines: usize,
    seconds: f64,
) -> Result<Figures> {
    let mut next = 0;
    let mut lanes = Vec::with_capacity(CONNECTIONS);
    let mut send = |stream: &mut TcpStream| -> Result<()> {
        next = (next + 1) % load.len();
        // A pipeline is far smaller than a socket's buffer, and the one before has been answered.
        Ok(stream.write_all(&load[next])?)
    };
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        send(&mut stream)?;
        lanes.push(Lane { stream, sent: Instant::now(), lines: 0 });
    }
    let mut buffer = vec![0; 1 << 17];
    let mut latencies: Vec<u32> = Vec::with_capacity(1 << 20);
    // The first tenth warms up.
    let warm = Instant::now() + Duration::from_secs_f64(seconds / 10.0);
    let end = warm + Duration::from_secs_f64(seconds);
    let mut before = None;
    loop {
        let now = Instant::now();
        if before.is_none() && now >= warm {
            latencies.clear();
            before = Some((Cpu::of(server.pid())?, now));
        }
        if now >= end {
            break;
        }
        for lane in &mut lanes {
            match lane.stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => {
                    if buffer[0] == b'-' && lane.lines == 0 {
                        bail!("answered {}", buffer[..count.min(80)].escape_ascii());
                    }
                    lane.lines += buffer[..count].iter().filter(|byte| **byte == b'\n').count();
                    if lane.lines >= lines {
                        let now = Instant::now();
                        let time = now.duration_since(lane.sent).as_nanos();
                        latencies.push(u32::try_from(time).unwrap_or(u32::MAX));
                        (lane.lines, lane.sent) = (0, now);
                        send(&mut lane.stream)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let (before, since) = before.context("the run is too short")?;
    let elapsed = since.elapsed().as_secs_f64();
    let after = Cpu::of(server.pid())?;
    if latencies.is_empty() {
        bail!("no reply in {seconds} s");
    }
    latencies.sort_unstable();
    let commands = (latencies.len() * depth) as f64;
    let at = |share: f64| {
        let index = ((latencies.len() - 1) as f64 * share) as usize;
        f64::from(latencies[index]) / 1e3
    };
    let cpu = (after.run_ns - before.run_ns) as f64 / 1e3 / commands;
    let (user, system) = (after.user - before.user, after.system - before.system);
    let share = user as f64 / (user + system).max(1) as f64;
    Ok(Figures {
        rate: commands / elapsed,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        cpu,
        user: cpu * share,
        system: cpu * (1.0 - share),
    })
}

/// Processor time of a process: all threads' exactly, and its split in ticks.
struct Cpu {
    run_ns: u64,
    user: u64,
    system: u64,
}

impl Cpu {
    fn of(pid: u32) -> Result<Cpu> {
        let mut run_ns = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            run_ns += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program's name may hold blanks; what follows its bracket may not.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let field = |at: usize| -> Result<u64> { Ok(fields.get(at).context("stat")?.parse()?) };
        Ok(Cpu { run_ns, user: field(11)?, system: field(12)? })
    }
}

fn medians(runs: &[Figures]) -> Figures {
    let median = |of: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Figures {
        rate: median(|f| f.rate),
        p50: median(|f| f.p50),
        p99: median(|f| f.p99),
        p999: median(|f| f.p999),
        cpu: median(|f| f.cpu),
        user: median(|f| f.user),
        system: median(|f| f.system),
    }
}

fn print(name: &str, depth: usize, server: &str, figures: &Figures) {
    println!(
        "{name:<10} {depth:>5} {server:<11} {:>10.0} {:>7.0} {:>7.0} {:>7.0} {:>7.3} {:>7.3} {:>7.3}",
        figures.rate,
        figures.p50,
        figures.p99,
        figures.p999,
        figures.cpu,
        figures.user,
        figures.system
    );
}

/// What a server costs that nobody asks anything.
fn idle(server: &Server, name: &str) -> Result<()> {
    let before = Cpu::of(server.pid())?.run_ns;
    std::thread::sleep(Duration::from_secs(5));
    let spent = (Cpu::of(server.pid())?.run_ns - before) as f64 / 5e9 * 100.0;
    println!("idle             {name:<11} {spent:.2} % of a core");
    Ok(())
}
