//! Conformance scripts: the same lines played against Larder and against redis-server, in RESP2 and in
//! RESP3, every reply compared, error texts included.
//!
//! A script is `tests/conformance/<family>.resp`. A line is a command in redis-cli's quoting. Lines
//! beginning with `#` are comments; `@` begins a directive for what follows:
//! `@conn NAME` the connection to use; `@wait COMMAND` sends one that waits, and goes on when both servers have met
//! it; `@send COMMAND` sends without reading; `@read` reads one reply;
//! `@until TEXT COMMAND` repeats a command until its reply holds a text;
//! `@near COMMAND` takes numbers for equal that differ by one: seconds, of which one may end between the two replies;
//! `@unordered COMMAND` compares a reply as a set; `@shape COMMAND` compares only its type;
//! `@expect TEXT` the reply of the next command on Larder alone, for commands newer than the oracle.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use larder_protocol::response::Value;

use crate::process::{Client, Server};

/// Patience for one reply. Those who wait in a script wait for less.
const WAIT: Duration = Duration::from_secs(20);

/// How many replies agreed and how many did not.
#[derive(Default)]
pub struct Tally {
    /// Equal replies.
    pub passed: usize,
    /// Different ones.
    pub failed: usize,
    /// Differences are counted and not shown.
    pub quiet: bool,
}

impl Tally {
    fn count(&mut self, place: &str, ours: &str, oracle: &str) {
        if ours == oracle {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        if !self.quiet {
            println!("{place}\n   Larder {ours}\n   Redis  {oracle}");
        }
    }
}

/// Sees what a script does, beside the replies.
pub trait Observer {
    /// A line has been played on both servers; `command` is what it sent.
    fn played(&mut self, place: &str, command: &str) -> Result<()>;
    /// A line has been played on Larder alone.
    fn played_alone(&mut self) -> Result<()>;
}

/// Looks at replies only.
struct NoObserver;

impl Observer for NoObserver {
    fn played(&mut self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }

    fn played_alone(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What the command line says: the program, and the families to play (none: all).
pub fn options(args: &[String]) -> Result<(String, Vec<String>)> {
    let mut subject = "target/release/larder".to_owned();
    let mut families = Vec::new();
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--subject" {
            subject = words.next().context("--subject wants a path")?.clone();
        } else {
            families.push(word.clone());
        }
    }
    Ok((subject, families))
}

/// The scripts of these families, or all, with their names.
pub fn scripts(families: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let mut scripts: Vec<_> = fs::read_dir("tests/conformance")
        .context("run it at the root of the repository")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "resp"))
        .filter_map(|path| Some((path.file_stem()?.to_string_lossy().into_owned(), path)))
        .filter(|(family, _)| families.is_empty() || families.contains(family))
        .collect();
    scripts.sort();
    Ok(scripts)
}

/// Plays the named families, or all.
pub fn run(args: &[String]) -> Result<Tally> {
    let (subject, families) = options(args)?;
    let mut tally = Tally::default();
    let ours = Server::start(&subject)?;
    let oracle = Server::start("redis-server")?;
    for (family, script) in scripts(&families)? {
        let before = (tally.passed, tally.failed);
        for version in ["2", "3"] {
            play(&script, version, (&ours, &oracle), &mut tally, &mut NoObserver)?;
        }
        println!(
            "{family}: {} equal, {} different",
            tally.passed - before.0,
            tally.failed - before.1
        );
    }
    Ok(tally)
}

/// The two servers' connections of one name.
struct Pair {
    ours: Client,
    oracle: Client,
}

impl Pair {
    fn open(ours: &Server, oracle: &Server, version: &str) -> Result<Pair> {
        let mut pair = Pair { ours: ours.connect()?, oracle: oracle.connect()? };
        pair.ours.call(&["HELLO", version])?;
        pair.oracle.call(&["HELLO", version])?;
        Ok(pair)
    }

    /// Sends a command whose reply comes later. The answer to a PING before it, in the same write, says that it was met.
    fn begin_waiting(&mut self, args: Vec<Vec<u8>>) -> Result<()> {
        let requests = [vec![b"PING".to_vec()], args];
        for client in [&mut self.ours, &mut self.oracle] {
            client.send_all(&requests)?;
            let answer = client.read(WAIT)?;
            ensure!(answer == Value::Simple(b"PONG".to_vec()), "PING: {}", render(&answer));
        }
        Ok(())
    }

    /// Both servers come to a state by themselves, each in its time.
    fn wait_until(&mut self, rest: &str) -> Result<()> {
        let (text, command) = rest.split_once(' ').context("a text and a command")?;
        let args = split(command).context("quotes")?;
        for (name, client) in [("Larder", &mut self.ours), ("Redis", &mut self.oracle)] {
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                client.send(&args)?;
                let reply = render(&client.read(WAIT)?);
                if reply.contains(text) {
                    break;
                }
                if Instant::now() > until {
                    bail!("{name} does not come to that: {reply}");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

/// Plays a script in a version of the protocol against Larder and the oracle.
pub fn play(
    path: &Path,
    version: &str,
    servers: (&Server, &Server),
    tally: &mut Tally,
    observer: &mut dyn Observer,
) -> Result<()> {
    let (ours, oracle) = servers;
    let text = fs::read_to_string(path)?;
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    let mut current = "main".to_owned();
    pairs.insert(current.clone(), Pair::open(ours, oracle, version)?);
    for server in [ours, oracle] {
        server.connect()?.call(&["FLUSHALL"])?;
    }
    let mut expected: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{}:{} RESP{version}: {line}", path.display(), number + 1);
        let (directive, rest) = match line.strip_prefix('@') {
            Some(line) => line.split_once(' ').unwrap_or((line, "")),
            None => ("call", line),
        };
        if directive == "conn" {
            current = rest.to_owned();
            if !pairs.contains_key(rest) {
                pairs.insert(current.clone(), Pair::open(ours, oracle, version)?);
            }
            continue;
        }
        if directive == "expect" {
            expected = Some(rest.to_owned());
            continue;
        }
        let pair = pairs.get_mut(&current).context("no such connection")?;
        if directive == "until" {
            pair.wait_until(rest).with_context(|| place.clone())?;
            continue;
        }
        let args = split(rest).with_context(|| format!("{place}: quotes"))?;
        if directive == "wait" {
            pair.begin_waiting(args).with_context(|| place.clone())?;
            continue;
        }
        if directive != "read" {
            pair.ours.send(&args)?;
            if expected.is_none() {
                pair.oracle.send(&args)?;
            }
        }
        if directive == "send" {
            continue;
        }
        let got = pair.ours.read(WAIT).with_context(|| place.clone())?;
        if let Some(wanted) = expected.take() {
            tally.count(&place, &render(&got), &wanted);
            observer.played_alone()?;
            continue;
        }
        let wanted = pair.oracle.read(WAIT).with_context(|| place.clone())?;
        let forms = forms(directive, &got, &wanted);
        let (got, wanted) = forms.with_context(|| format!("{place}: no such directive"))?;
        tally.count(&place, &got, &wanted);
        observer.played(&place, rest)?;
    }
    Ok(())
}

/// Two replies as a directive compares them.
fn forms(directive: &str, ours: &Value, oracle: &Value) -> Option<(String, String)> {
    let form: fn(&Value) -> String = match (directive, ours, oracle) {
        ("near", Value::Integer(one), Value::Integer(two)) if one.abs_diff(*two) <= 1 => {
            return Some((render(oracle), render(oracle)));
        }
        ("unordered", ..) => sorted,
        ("shape", ..) => shape,
        ("call" | "read" | "near", ..) => render,
        _ => return None,
    };
    Some((form(ours), form(oracle)))
}

/// A reply as a line: its kind's sign and its text, escaped.
pub fn render(value: &Value) -> String {
    let list = |sign: &str, items: &[Value]| {
        let items: Vec<String> = items.iter().map(render).collect();
        format!("{sign}[{}]", items.join(", "))
    };
    match value {
        Value::Simple(text) => format!("+{}", text.escape_ascii()),
        Value::Error(text) => format!("-{}", text.escape_ascii()),
        Value::Integer(number) => format!(":{number}"),
        Value::Bulk(bytes) => format!("${}", bytes.escape_ascii()),
        Value::Verbatim(kind, text) => {
            format!("={}:{}", kind.escape_ascii(), text.escape_ascii())
        }
        Value::Array(items) => list("*", items),
        Value::Set(items) => list("~", items),
        Value::Push(items) => list(">", items),
        other => format!("{other:?}"),
    }
}

fn sorted(value: &Value) -> String {
    match value {
        Value::Array(items) | Value::Set(items) => {
            let mut texts: Vec<String> = items.iter().map(sorted).collect();
            texts.sort();
            texts.join(",")
        }
        Value::Map(pairs) => {
            let text =
                |(name, value): &(Value, Value)| format!("{}={}", sorted(name), sorted(value));
            let mut texts: Vec<String> = pairs.iter().map(text).collect();
            texts.sort();
            texts.join(",")
        }
        other => render(other),
    }
}

fn shape(value: &Value) -> String {
    let text = format!("{value:?}");
    text.split(['(', '[']).next().unwrap_or_default().to_owned()
}

/// Words in redis-cli's quoting.
fn split(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    loop {
        while bytes.next_if(|b| b.is_ascii_whitespace()).is_some() {}
        let Some(first) = bytes.peek().copied() else { return Some(words) };
        let mut word = Vec::new();
        if first == b'"' || first == b'\'' {
            bytes.next();
            loop {
                match bytes.next()? {
                    b if b == first => break,
                    b'\\' if first == b'"' => word.push(match bytes.next()? {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'x' => {
                            let high = char::from(bytes.next()?).to_digit(16)?;
                            let low = char::from(bytes.next()?).to_digit(16)?;
                            u8::try_from(high * 16 + low).ok()?
                        }
                        other => other,
                    }),
                    other => word.push(other),
                }
            }
        } else {
            while let Some(b) = bytes.next_if(|b| !b.is_ascii_whitespace()) {
                word.push(b);
            }
        }
        words.push(word);
    }
}
