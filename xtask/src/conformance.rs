//! Conformance scripts: the same lines played against Larder and against redis-server, in RESP2 and in
//! RESP3, every reply compared, error texts included.
//!
//! A script is `tests/conformance/<family>.resp`. A line is a command in redis-cli's quoting. Lines
//! beginning with `#` are comments; `@` begins a directive for what follows:
//! `@conn NAME` the connection to use; `@send COMMAND` sends without reading; `@read` reads one reply;
//! `@unordered COMMAND` compares a reply as a set; `@shape COMMAND` compares only its type;
//! `@expect TEXT` the reply of the next command on Larder alone, for commands newer than the oracle.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::process::{Client, Server};

/// How many replies agreed and how many did not.
#[derive(Default)]
pub struct Tally {
    /// Equal replies.
    pub passed: usize,
    /// Different ones.
    pub failed: usize,
}

/// Plays the named families, or all.
pub fn run(args: &[String]) -> Result<Tally> {
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
    let mut scripts: Vec<_> = fs::read_dir("tests/conformance")
        .context("run it at the root of the repository")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "resp"))
        .collect();
    scripts.sort();
    let mut tally = Tally::default();
    let ours = Server::start(&subject)?;
    // Larder serves DEBUG without being told; redis-server does not.
    let oracle = Server::start_with("redis-server", &["--enable-debug-command", "yes"])?;
    for script in scripts {
        let family = script.file_stem().map(|name| name.to_string_lossy().into_owned());
        let family = family.unwrap_or_default();
        if !families.is_empty() && !families.contains(&family) {
            continue;
        }
        let before = (tally.passed, tally.failed);
        for version in ["2", "3"] {
            play(&script, version, &ours, &oracle, &mut tally)
                .with_context(|| format!("{} in RESP{version}", script.display()))?;
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
}

fn play(
    path: &Path,
    version: &str,
    ours: &Server,
    oracle: &Server,
    tally: &mut Tally,
) -> Result<()> {
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
        let args = split(rest).with_context(|| format!("line {}: quotes", number + 1))?;
        let wait = Duration::from_secs(5);
        if directive != "read" {
            pair.ours.send(&args)?;
            if expected.is_none() {
                pair.oracle.send(&args)?;
            }
        }
        if directive == "send" {
            continue;
        }
        let got = pair.ours.read(wait).with_context(|| format!("line {}: {line}", number + 1))?;
        let (got, wanted) = match expected.take() {
            Some(wanted) => (render(&got), wanted),
            None => {
                let wanted = pair.oracle.read(wait)?;
                match directive {
                    "unordered" => (sorted(&got), sorted(&wanted)),
                    "shape" => (shape(&got), shape(&wanted)),
                    "call" | "read" => (render(&got), render(&wanted)),
                    other => bail!("line {}: no directive @{other}", number + 1),
                }
            }
        };
        if got == wanted {
            tally.passed += 1;
        } else {
            tally.failed += 1;
            let name = path.display();
            println!(
                "{name}:{} RESP{version}: {line}\n   Larder {got}\n   Redis  {wanted}",
                number + 1
            );
        }
    }
    Ok(())
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
