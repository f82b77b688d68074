//! `cargo xtask sentinel`: three real sentinels watch a Larder primary and its replica. The primary is killed or stopped,
//! again and again; the sentinels let the other one lead, the old one comes back as its replica, and a client that asks
//! the sentinels follows.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_protocol::response::Value;

use crate::foreign;
use crate::process::{Client, free_port};

/// Plays as many rounds as the arguments say.
pub fn run(args: &[String]) -> Result<()> {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let rounds: usize = value("--rounds").map_or(Ok(4), |text| text.parse())?;
    let subject = foreign::subject(args)?;
    let folder = std::env::temp_dir().join(format!("larder-sentinel-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let mut stage = Stage::start(&subject, &folder)?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let outcome = stage.round(round % 2 == 0);
        let took =
            outcome.with_context(|| format!("round {round}; logs are in {}", folder.display()))?;
        times.push(took);
    }
    let client = stage.client_writes.load(Ordering::Relaxed);
    drop(stage);
    fs::remove_dir_all(&folder)?;
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    let most = times.last().copied().unwrap_or_default();
    println!(
        "{rounds} failovers (kill -9 and SIGSTOP in turn), the old primary back as a replica each time; a new primary known after \
         {:.1} s in the middle, {:.1} s at most; redis-py followed with {client} writes",
        middle.as_secs_f64(),
        most.as_secs_f64()
    );
    Ok(())
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "mymaster";

/// A server that can be killed and started again where it was.
struct Node {
    subject: String,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Node {
    fn start(&mut self) -> Result<()> {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join("out.log"))?;
        let child = Command::new(&self.subject)
            .arg("server")
            .arg(self.folder.join("larder.conf"))
            .stdout(log)
            .spawn()
            .context("Larder does not start")?;
        self.child = Some(child);
        wait_for("the server to answer", || Ok(call(self.port, &["PING"]).is_ok()))
    }

    fn signal(&self, what: &str) -> Result<()> {
        let pid = self.child.as_ref().context("it runs")?.id().to_string();
        let done = Command::new("kill").args([what, &pid]).status()?;
        ensure!(done.success(), "kill {what}");
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Stage {
    nodes: Vec<Node>,
    sentinels: Vec<Node>,
    /// Ports that the client wrote to last, and how often it wrote.
    client_port: Arc<Mutex<String>>,
    client_writes: Arc<AtomicU64>,
    client: Child,
}

impl Stage {
    fn start(subject: &str, folder: &Path) -> Result<Stage> {
        let mut nodes = Vec::new();
        for number in 0..2 {
            let (folder, port) = (folder.join(format!("node-{number}")), free_port()?);
            fs::create_dir_all(&folder)?;
            let follows = nodes.first().map_or(String::new(), |first: &Node| {
                format!("replicaof 127.0.0.1 {}\n", first.port)
            });
            let dir = folder.display();
            let text = format!("port {port}\nbind 127.0.0.1\ndir {dir}\nsave \"\"\n{follows}");
            fs::write(folder.join("larder.conf"), text)?;
            let mut node = Node { subject: subject.to_owned(), folder, port, child: None };
            node.start()?;
            nodes.push(node);
        }
        let first = nodes.first().context("a node")?.port;
        let mut sentinels = Vec::new();
        for number in 0..3 {
            let (folder, port) = (folder.join(format!("sentinel-{number}")), free_port()?);
            fs::create_dir_all(&folder)?;
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {first} 2\n\
                 sentinel down-after-milliseconds {NAME} 2500\nsentinel failover-timeout {NAME} 10000\n\
                 sentinel parallel-syncs {NAME} 1\n",
                folder.display()
            );
            let conf = folder.join("sentinel.conf");
            fs::write(&conf, text)?;
            let log = fs::File::create(folder.join("out.log"))?;
            let child = Command::new("redis-sentinel")
                .arg(&conf)
                .stdout(log)
                .spawn()
                .context("redis-sentinel does not start")?;
            let subject = "redis-sentinel".to_owned();
            sentinels.push(Node { subject, folder, port, child: Some(child) });
        }
        let ports: Vec<String> = sentinels.iter().map(|node| node.port.to_string()).collect();
        let (client, client_port, client_writes) = start_client(&ports)?;
        Ok(Stage { nodes, sentinels, client_port, client_writes, client })
    }

    /// The port of the primary, if all sentinels say the same.
    fn agreed(&self) -> Result<Option<u16>> {
        let mut agreed = None;
        for sentinel in &self.sentinels {
            let words = ["SENTINEL", "get-master-addr-by-name", NAME];
            let Ok(reply) = call(sentinel.port, &words) else { return Ok(None) };
            let port = reply.as_array().and_then(|parts| parts.get(1)?.as_bytes());
            let port = port.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            if port.is_none() || agreed.is_some_and(|agreed| Some(agreed) != port) {
                return Ok(None);
            }
            agreed = port;
        }
        Ok(agreed)
    }

    /// The primary goes away in one of two ways. Returns after how long the sentinels named another.
    fn round(&mut self, kills: bool) -> Result<Duration> {
        let mut primary = 0;
        wait_for("the sentinels to agree, and the replica to follow", || {
            let Some(port) = self.agreed()? else { return Ok(false) };
            let at = self.nodes.iter().position(|node| node.port == port);
            primary = at.context("a primary that is ours")?;
            let other = self.nodes.get(1 - primary).context("two nodes")?;
            Ok(self.follows(other, port)? && self.sentinels_know_all()? && self.client_is_at(port))
        })?;
        let (old, new) = (
            self.nodes.get(primary).context("two nodes")?.port,
            self.nodes.get(1 - primary).context("two nodes")?.port,
        );
        let node = self.nodes.get_mut(primary).context("two nodes")?;
        let begun = Instant::now();
        if kills {
            if let Some(mut child) = node.child.take() {
                child.kill()?;
                child.wait()?;
            }
        } else {
            node.signal("-STOP")?;
        }
        wait_for("another primary", || Ok(self.agreed()? == Some(new)))?;
        let took = begun.elapsed();
        wait_for("the client to follow", || Ok(self.client_is_at(new)))?;
        let node = self.nodes.get_mut(primary).context("two nodes")?;
        if kills {
            node.start()?;
        } else {
            node.signal("-CONT")?;
        }
        wait_for("the old primary to come back as a replica", || {
            let node = self.nodes.get(primary).context("two nodes")?;
            self.follows(node, new)
        })?;
        let same = || -> Result<bool> {
            let digest = |port| -> Result<Vec<u8>> {
                let reply = call(port, &["DEBUG", "DIGEST"])?;
                Ok(reply.as_bytes().context("a digest")?.to_vec())
            };
            // The client goes on writing: sooner or later they are seen at the same point.
            Ok(digest(old)? == digest(new)?)
        };
        wait_for("both to hold the same", same)?;
        Ok(took)
    }

    fn client_is_at(&self, port: u16) -> bool {
        self.client_port.lock().is_ok_and(|last| *last == port.to_string())
    }

    fn sentinels_know_all(&self) -> Result<bool> {
        for sentinel in &self.sentinels {
            let Ok(reply) = call(sentinel.port, &["SENTINEL", "master", NAME]) else {
                return Ok(false);
            };
            let parts: Vec<_> = reply.as_array().context("an array")?.iter().collect();
            let field = |name: &str| {
                let at = parts.iter().position(|part| part.as_bytes() == Some(name.as_bytes()))?;
                parts.get(at + 1)?.as_bytes()
            };
            let whole = field("num-slaves") == Some(b"1")
                && field("num-other-sentinels") == Some(b"2")
                && field("flags") == Some(b"master");
            if !whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a node follows the one at this port, and has a link to it.
    fn follows(&self, node: &Node, port: u16) -> Result<bool> {
        let Ok(reply) = call(node.port, &["ROLE"]) else { return Ok(false) };
        let parts = reply.as_array().context("ROLE answers no array")?;
        let role = parts.first().and_then(Value::as_bytes) == Some(b"slave");
        let at = parts.get(2).and_then(Value::as_integer) == Some(port.into());
        let state = parts.get(3).and_then(Value::as_bytes) == Some(b"connected");
        Ok(role && at && state)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
        for node in &self.nodes {
            // One that is stopped could not be waited for.
            let _ = node.signal("-CONT");
        }
    }
}

type Watched = (Child, Arc<Mutex<String>>, Arc<AtomicU64>);

fn start_client(sentinels: &[String]) -> Result<Watched> {
    let scripts = foreign::root().join("tests/clients/python");
    let python = foreign::python("clients/python", &scripts.join("requirements.txt"))?;
    let mut child = Command::new(python)
        .arg(scripts.join("sentinel.py"))
        .args(sentinels)
        .stdout(Stdio::piped())
        .spawn()
        .context("the client does not start")?;
    let out = child.stdout.take().context("its output")?;
    let (port, count) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicU64::new(0)));
    let (port_there, count_there) = (Arc::clone(&port), Arc::clone(&count));
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Ok(mut last) = port_there.lock() {
                *last = line;
            }
            count_there.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((child, port, count))
}

fn call(port: u16, words: &[&str]) -> Result<Value> {
    let mut client = Client::connect(port)?;
    client.send(words)?;
    client.read(Duration::from_millis(500))
}

fn wait_for(what: &str, mut there: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !there()? {
        if Instant::now() > until {
            bail!("no {what} within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
