//! `cargo xtask bad-input`: hostile and broken clients against the real program. After each attack a neighbour's data
//! must be whole, its commands answered in time, and the server's memory must not have grown beyond what the attack
//! may cost. The attacks are in the files below; this runs them and watches. It knows nothing of Larder's insides.

mod arguments;
mod broken;
mod known;
mod limits;
mod long;
mod starved;
mod waiting;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::foreign;
use crate::process::{Client, Patience, Server};
use starved::Starved;

/// A command of the neighbour takes no longer, whatever the attack.
const SLOW: Duration = Duration::from_secs(1);

/// One attack.
#[derive(Clone, Copy)]
struct Attack {
    name: &'static str,
    /// Options of the server that is attacked.
    options: &'static [&'static str],
    /// Growth of resident memory that is allowed after it, in MiB.
    growth_mib_max: u64,
    run: fn(&mut Scene) -> Result<()>,
}

/// The server under attack, a redis-server to compare with, and a client that wants to work in peace.
struct Scene {
    server: Server,
    oracle: Server,
    neighbour: Client,
    /// The slowest command of the neighbour so far.
    slowest: Duration,
    starved: Starved,
    rss_before: u64,
}

/// Runs all attacks, or those that are named.
pub fn run(args: &[String]) -> Result<()> {
    let subject = foreign::subject(args)?;
    let all = [
        broken::ATTACKS,
        limits::ATTACKS,
        known::ATTACKS,
        arguments::ATTACKS,
        long::ATTACKS,
        waiting::ATTACKS,
    ]
    .concat();
    let some = all.iter().any(|attack| args.iter().any(|arg| arg == attack.name));
    let mut failed = 0;
    for attack in all.iter().filter(|attack| !some || args.iter().any(|arg| arg == attack.name)) {
        let begin = Instant::now();
        match survive(&subject, attack) {
            Ok(said) => {
                println!("{:<24} {:>5.1} s  {said}", attack.name, begin.elapsed().as_secs_f64())
            }
            Err(error) => {
                failed += 1;
                println!("{:<24} FAILED: {error:#}", attack.name);
            }
        }
    }
    if failed > 0 {
        bail!("{failed} attacks did harm");
    }
    Ok(())
}

fn survive(subject: &str, attack: &Attack) -> Result<String> {
    let server = Server::start_with(subject, attack.options)?;
    let oracle = Server::start("redis-server")?;
    let mut neighbour = server.connect()?;
    if let Some(at) = attack.options.iter().position(|option| *option == "--requirepass") {
        let password = attack.options.get(at + 1).context("no password")?;
        neighbour.call(&["AUTH", password])?;
    }
    for n in 0..1000 {
        neighbour.send(&["SET", &format!("witness:{n}"), &n.to_string()])?;
    }
    for _ in 0..1000 {
        neighbour.read(Duration::from_secs(5))?;
    }
    let rss_before = rss_kib(&server)?;
    let starved = Starved::now(&server);
    let slowest = Duration::ZERO;
    let mut scene = Scene { server, oracle, neighbour, slowest, starved, rss_before };
    (attack.run)(&mut scene)?;
    for n in 0..1000 {
        let found = scene.call(&["GET", &format!("witness:{n}")])?;
        if found != Value::Bulk(n.to_string().into_bytes()) {
            bail!("witness:{n} became {found:?}");
        }
    }
    let grown = rss_kib(&scene.server)?.saturating_sub(scene.rss_before);
    if grown / 1024 > attack.growth_mib_max {
        bail!(
            "resident memory grew by {} MiB, allowed are {}",
            grown / 1024,
            attack.growth_mib_max
        );
    }
    if scene.slowest > SLOW {
        bail!("a command of the neighbour took {:?}", scene.slowest);
    }
    Ok(format!("memory +{:.1} MiB, neighbour at most {:.1?}", grown as f64 / 1024.0, scene.slowest))
}

impl Scene {
    /// A command of the neighbour.
    fn call(&mut self, args: &[&str]) -> Result<Value> {
        // Not each time: some attacks are thousands of commands.
        if self.starved.at.elapsed() > SLOW / 20 {
            self.starved = Starved::now(&self.server);
        }
        let begin = Instant::now();
        let reply =
            self.neighbour.call(args).with_context(|| format!("{args:?} of the neighbour"))?;
        let mut took = begin.elapsed();
        if took > SLOW {
            // A machine with more to do than it has cores is not the attack's doing.
            took = took.saturating_sub(self.starved.since(&self.server));
        }
        self.slowest = self.slowest.max(took);
        Ok(reply)
    }

    /// A raw connection to the server.
    fn raw(&self) -> Result<TcpStream> {
        raw(&self.server)
    }

    /// A field of INFO.
    fn info(&mut self, field: &str) -> Result<i64> {
        let Value::Bulk(text) = self.call(&["INFO", "everything"])? else { bail!("no INFO") };
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.with_context(|| format!("no {field} in INFO"))?.parse().context("not a number")
    }

    /// Waits until a field of INFO has a value.
    fn wait_for(&mut self, field: &str, wanted: i64) -> Result<()> {
        let mut patience = Patience::of(LONG);
        while self.info(field)? != wanted {
            if !patience.nap(Duration::from_millis(20)) {
                bail!("{field} is {} instead of {wanted}", self.info(field)?);
            }
        }
        Ok(())
    }
}

fn raw(server: &Server) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", server.port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Silence after which an answer is taken for whole.
const SHORT: Duration = Duration::from_millis(100);
/// Patience with what is expected: an answer, or that the connection closes. A busy machine may hold anybody up.
const LONG: Duration = Duration::from_secs(10);

/// Sends bytes and reads until the server closes or is silent for a while. The second part: whether it closed.
fn exchange(server: &Server, bytes: &[u8], silence: Duration) -> Result<(Vec<u8>, bool)> {
    let mut stream = raw(server)?;
    // The server may close before all is written.
    let _ = stream.write_all(bytes);
    read_out(&mut stream, silence)
}

/// Sends bytes, and fails unless just this is answered, and the connection then closed or not.
fn expect(server: &Server, bytes: &[u8], wanted: &[u8], closes: bool) -> Result<()> {
    let mut stream = raw(server)?;
    // The server may close before all is written.
    let _ = stream.write_all(bytes);
    expect_of(&mut stream, wanted, closes)
}

/// The same of what is still to come on a connection.
fn expect_of(stream: &mut TcpStream, wanted: &[u8], closes: bool) -> Result<()> {
    let (mut said, mut closed) =
        read_up_to(stream, if closes { usize::MAX } else { wanted.len() })?;
    if !closed && said == wanted {
        let (more, ended) = read_out(stream, Duration::from_millis(20))?;
        said.extend(more);
        closed = ended;
    }
    if said != wanted || closed != closes {
        bail!("answered {} closed: {closed}", said.escape_ascii());
    }
    Ok(())
}

/// Reads until there are so many bytes, or the server closes, or nothing comes for long.
fn read_up_to(stream: &mut TcpStream, len: usize) -> Result<(Vec<u8>, bool)> {
    let mut said = Vec::new();
    loop {
        if said.len() >= len {
            return Ok((said, false));
        }
        let (more, closed) = read_once(stream, LONG)?;
        said.extend_from_slice(&more);
        if closed || more.is_empty() {
            return Ok((said, closed));
        }
    }
}

fn read_out(stream: &mut TcpStream, silence: Duration) -> Result<(Vec<u8>, bool)> {
    let mut said = Vec::new();
    loop {
        let (more, closed) = read_once(stream, silence)?;
        said.extend_from_slice(&more);
        if closed || more.is_empty() {
            return Ok((said, closed));
        }
    }
}

/// What comes at once; nothing after a silence. The second part: whether the server closed.
fn read_once(stream: &mut TcpStream, silence: Duration) -> Result<(Vec<u8>, bool)> {
    stream.set_read_timeout(Some(silence))?;
    let mut buffer = vec![0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(count) => {
                buffer.truncate(count);
                return Ok((buffer, count == 0));
            }
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock => return Ok((Vec::new(), false)),
                // Closed with our bytes unread.
                std::io::ErrorKind::ConnectionReset => return Ok((Vec::new(), true)),
                // Stopped and set going again.
                std::io::ErrorKind::Interrupted => {}
                _ => return Err(error.into()),
            },
        }
    }
}

fn rss_kib(server: &Server) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
