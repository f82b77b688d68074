//! What is repeated to replicas: the conformance scripts once more, with a raw replica at Larder and one at
//! redis-server, and what the two hear compared line by line. It compares no replies, and applies nothing.
//!
//! Left out: SELECT (each effect is shown with its database instead), PING and REPLCONF. Moments within a day of
//! now are shown as `<soon>`. Differences that are meant stand in `tests/propagation-waivers.txt`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use larder_protocol::response::{Value, parse};

use crate::conformance::{self, Observer, Tally};
use crate::differential::waivers::Waivers;
use crate::process::{Client, Server};

/// Families that cut replicas off or restart what they run on.
const LEFT_OUT: &[&str] = &["replication", "persistence", "debug"];

/// Plays the named families, or all that leave their server alone.
pub fn run(args: &[String]) -> Result<()> {
    let (subject, families) = conformance::options(args)?;
    let waivers = Waivers::read("tests/propagation-waivers.txt")?;
    let disk = ["--repl-diskless-sync", "no"];
    // With one worker an effect is recorded before the next line is read, as with redis-server.
    let ours = Server::start_with(&subject, &[&disk[..], &["--workers", "1"]].concat())?;
    let oracle = Server::start_with("redis-server", &disk)?;
    let mut pair = Pair {
        ours: Ear::attach(&ours)?,
        oracle: Ear::attach(&oracle)?,
        servers: (&ours, &oracle),
        waivers: &waivers,
        equal: 0,
        different: 0,
        cut: 0,
    };
    for (family, script) in conformance::scripts(&families)? {
        if families.is_empty() && LEFT_OUT.contains(&family.as_str()) {
            continue;
        }
        for server in [&ours, &oracle] {
            // What goes by itself goes at no fixed moment.
            server.connect()?.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"])?;
        }
        let mut replies = Tally { quiet: true, ..Tally::default() };
        conformance::play(&script, "2", (&ours, &oracle), &mut replies, &mut pair)?;
    }
    waivers.print();
    let Pair { equal, different, cut, .. } = pair;
    println!("{equal} lines repeated alike, {different} not; links cut by the scripts {cut} times");
    if different > 0 || equal == 0 || cut > 20 {
        bail!("Larder and redis-server repeat different things");
    }
    Ok(())
}

/// A listener at each server.
struct Pair<'w> {
    ours: Ear,
    oracle: Ear,
    servers: (&'w Server, &'w Server),
    waivers: &'w Waivers,
    equal: usize,
    different: usize,
    cut: usize,
}

impl Pair<'_> {
    /// What both have heard since the last call. A script may have cut a link (CLIENT KILL): both begin anew.
    fn hear(&mut self) -> Result<Option<(String, String)>> {
        if let (Ok(ours), Ok(oracle)) = (self.ours.hear(), self.oracle.hear()) {
            return Ok(Some((ours, oracle)));
        }
        self.cut += 1;
        self.ours = Ear::attach(self.servers.0)?;
        self.oracle = Ear::attach(self.servers.1)?;
        Ok(None)
    }
}

impl Observer for Pair<'_> {
    fn played(&mut self, place: &str, command: &str) -> Result<()> {
        let Some((ours, oracle)) = self.hear()? else { return Ok(()) };
        if ours == oracle {
            // Most lines only read.
            self.equal += usize::from(!ours.is_empty());
        } else if !self.waivers.cover_line(command, &ours, &oracle) {
            self.different += 1;
            println!("{place}\n   Larder {ours}\n   Redis  {oracle}");
        }
        Ok(())
    }

    fn played_alone(&mut self) -> Result<()> {
        self.hear().map(drop)
    }
}

/// A replica that takes the snapshot and then only listens.
struct Ear {
    /// Asks how far the stream has come.
    admin: Client,
    stream: TcpStream,
    /// The offset of the last byte that was taken.
    offset: u64,
    bytes: Vec<u8>,
    db: String,
}

impl Ear {
    fn attach(server: &Server) -> Result<Ear> {
        let stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let admin = server.connect()?;
        let mut ear = Ear { admin, stream, offset: 0, bytes: Vec::new(), db: "0".to_owned() };
        ear.stream.write_all(b"REPLCONF capa psync2\r\n")?;
        ear.line()?;
        ear.stream.write_all(b"PSYNC ? -1\r\n")?;
        let answer = ear.line()?;
        let offset = answer.strip_prefix("+FULLRESYNC ").and_then(|rest| rest.split(' ').nth(1));
        ear.offset = offset.with_context(|| answer.clone())?.parse()?;
        // Newlines keep the link alive while the snapshot is made.
        let mut length = ear.line()?;
        while length.is_empty() {
            length = ear.line()?;
        }
        let length = length.strip_prefix('$').with_context(|| length.clone())?.parse()?;
        while ear.bytes.len() < length {
            ear.receive()?;
        }
        ear.bytes.drain(..length);
        ear.stream.write_all(format!("REPLCONF ACK {}\r\n", ear.offset).as_bytes())?;
        Ok(ear)
    }

    /// What has been repeated since the last call, in one line.
    fn hear(&mut self) -> Result<String> {
        let Value::Array(role) = self.admin.call(&["ROLE"])? else { bail!("ROLE is no array") };
        let Some(Value::Integer(end)) = role.get(1) else { bail!("ROLE without an offset") };
        let end = u64::try_from(*end)?;
        let mut heard = Vec::new();
        while self.offset < end {
            while let Some((value, used)) = parse(&self.bytes).context("not RESP")? {
                self.bytes.drain(..used);
                self.offset += used as u64;
                heard.extend(self.show(&value));
            }
            if self.offset < end {
                self.receive()?;
            }
        }
        Ok(heard.join("; "))
    }

    fn show(&mut self, value: &Value) -> Option<String> {
        let Value::Array(items) = value else { return None };
        let mut words = items.iter().map(|item| match item {
            Value::Bulk(bytes) => bytes.escape_ascii().to_string(),
            other => conformance::render(other),
        });
        let name = words.next()?.to_ascii_uppercase();
        let words: Vec<String> = words.map(|word| soon(&word).unwrap_or(word)).collect();
        match name.as_str() {
            "SELECT" => words.first()?.clone_into(&mut self.db),
            "PING" | "REPLCONF" => {}
            // Redis repeats these to replicas with the database of whoever came before.
            "PUBLISH" | "SPUBLISH" => return Some(format!("{name} {}", words.join(" "))),
            _ => {
                return Some(format!("[{}] {name} {}", self.db, words.join(" ")).trim().to_owned());
            }
        }
        None
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = self.bytes.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=at).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 65_536];
        let count = self.stream.read(&mut buffer).context("the stream says nothing")?;
        if count == 0 {
            bail!("the stream ended");
        }
        self.bytes.extend_from_slice(buffer.get(..count).unwrap_or(&[]));
        Ok(())
    }
}

/// How a moment near now is shown.
fn soon(word: &str) -> Option<String> {
    const DAY: i128 = 86_400_000;
    let number: i128 = word.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as i128;
    let near = |moment: i128| (moment - now).abs() < DAY;
    if near(number) || near(number * 1000) { Some("<soon>".to_owned()) } else { None }
}
