//! Compares the configuration with a real redis-server 7.0, if one is installed: names, defaults, error texts. Without
//! one it says so and passes. It must never touch a server that it did not start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use larder_server::config::{Config, options};

/// Defaults that differ on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("bind", "own host only"),
    ("port", "the test chooses it"),
    ("repl-diskless-sync-delay", "a copy costs no fork, so none waits for others unasked"),
    ("dir", "shown as typed"),
    ("syslog-ident", "our name"),
    ("lazyfree-lazy-eviction", "as Valkey 8"),
    ("lazyfree-lazy-expire", "as Valkey 8"),
    ("lazyfree-lazy-server-del", "as Valkey 8"),
    ("lazyfree-lazy-user-del", "as Valkey 8"),
    ("lazyfree-lazy-user-flush", "as Valkey 8"),
    ("replica-lazy-flush", "as Valkey 8"),
    ("slave-lazy-flush", "as Valkey 8"),
];

/// Pairs for CONFIG SET; the answers must be the same to the byte.
const SETS: &[&[(&str, &str)]] = &[
    &[("foo", "1")],
    &[("", "x")],
    &[("port", "70000")],
    &[("port", "x")],
    &[("port", "")],
    &[("port", "007")],
    &[("timeout", "-1")],
    &[("timeout", "x")],
    &[("timeout", "")],
    &[("timeout", "007")],
    &[("bind", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17")],
    &[("hz", "+5")],
    &[("hz", "-0")],
    &[("hz", "-1")],
    &[("hz", "99999999999999999999")],
    &[("hz", "10"), ("HZ", "10")],
    &[("hz", "11"), ("foo", "1"), ("daemonize", "yes")],
    &[("maxmemory", "x")],
    &[("maxmemory", "-1")],
    &[("maxmemory", "1.5gb")],
    &[("maxmemory", "1gbx")],
    &[("maxmemory", "")],
    &[("lfu-log-factor", "1"), ("Maxmemory", "zz")],
    &[("maxmemory-clients", "101%")],
    &[("maxmemory-clients", "-5")],
    &[("maxmemory-clients", "x")],
    &[("maxmemory-clients", "50%")],
    &[("appendonly", "maybe")],
    &[("slave-read-only", "maybe")],
    &[("daemonize", "yes")],
    &[("Daemonize", "yes")],
    &[("DIR", "/tmp")],
    &[("hz", "a"), ("hz", "10")],
    &[("enable-debug-command", "yes")],
    &[("unixsocketperm", "9")],
    &[("replicaof", "a 1")],
    &[("dir", "/tmp")],
    &[("dbfilename", "x")],
    &[("save", "3600")],
    &[("save", "3600 x")],
    &[("save", "0 1")],
    &[("save", "100 -1")],
    &[("save", "1 2 3")],
    &[("save", "")],
    &[("notify-keyspace-events", "q!")],
    &[("client-output-buffer-limit", "normal 0 0")],
    &[("client-output-buffer-limit", "foo 0 0 0")],
    &[("client-output-buffer-limit", "master 0 0 0")],
    &[("client-output-buffer-limit", "normal x 0 0")],
    &[("client-output-buffer-limit", "normal 1mb 1kb 5 pubsub 1 2 3")],
    &[("oom-score-adj", "foo")],
    &[("oom-score-adj-values", "1 2")],
    &[("oom-score-adj-values", "a 2 3")],
    &[("oom-score-adj-values", "1 2 3000")],
    &[("latency-tracking-info-percentiles", "101")],
    &[("latency-tracking-info-percentiles", "x")],
    &[("latency-tracking-info-percentiles", "50 99.99 99")],
    &[("maxclients", "0")],
    &[("maxclients", "4294967296")],
    &[("slowlog-log-slower-than", "-2")],
    &[("proto-max-bulk-len", "5")],
    &[("client-query-buffer-limit", "1k")],
    &[("list-max-listpack-size", "99999999999")],
    &[("list-max-ziplist-size", "3"), ("list-max-listpack-size", "3")],
    &[("hash-max-listpack-value", "-1")],
    &[("repl-backlog-size", "0")],
    &[("shutdown-on-sigterm", "save foo")],
    &[("shutdown-on-sigterm", "nosave save")],
    &[("shutdown-on-sigterm", "")],
    &[("proc-title-template", "{foo}")],
    &[("watchdog-period", "5x")],
    &[("appendfsync", "x")],
    &[("acl-pubsub-default", "x")],
    &[("requirepass", "")],
];

struct Redis {
    child: Child,
    port: u16,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port below those that the system gives to clients, and the file that keeps other tests from taking it.
fn free_port() -> (u16, File) {
    let folder = std::env::temp_dir().join("larder-ports");
    std::fs::create_dir_all(&folder).unwrap();
    let begin = std::process::id() * 131 % 20_000;
    for number in 0..20_000 {
        let port = u16::try_from(11_000 + (begin + number) % 20_000).unwrap();
        let file = File::create(folder.join(port.to_string())).unwrap();
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return (port, file);
        }
    }
    panic!("no port is free");
}

impl Redis {
    /// A server of our own on a free port, or `None` without an installed 7.0.
    fn start() -> Option<Redis> {
        let version = Command::new("redis-server").arg("--version").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains("v=7.0.") {
            return None;
        }
        let (port, _lock) = free_port();
        let child = Command::new("redis-server")
            .args(["--save", "", "--port", &port.to_string(), "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let mut redis = Redis { child, port };
        for _ in 0..400 {
            assert!(redis.child.try_wait().unwrap().is_none(), "redis-server ended at its start");
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(redis);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("redis-server does not answer");
    }

    /// Sends one command and reads a status, an error or a list of texts.
    fn ask(&self, words: &[&str]) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let line = |reader: &mut BufReader<TcpStream>| {
            let mut text = String::new();
            reader.read_line(&mut text).unwrap();
            text.trim_end().to_owned()
        };
        let head = line(&mut reader);
        let Some(count) = head.strip_prefix('*') else { return vec![head[1..].to_owned()] };
        let mut texts = Vec::new();
        for _ in 0..count.parse().unwrap() {
            let size: usize = line(&mut reader)[1..].parse().unwrap();
            let mut text = vec![0; size + 2];
            reader.read_exact(&mut text).unwrap();
            texts.push(String::from_utf8_lossy(&text[..size]).into_owned());
        }
        texts
    }
}

#[test]
fn names_defaults_and_errors_agree() {
    let Some(redis) = Redis::start() else {
        println!("skipped: no redis-server 7.0 is installed");
        return;
    };
    let config = Config::default();
    let mut faults = Vec::new();
    for pair in redis.ask(&["CONFIG", "GET", "*"]).chunks(2) {
        let (name, theirs) = (&pair[0], &pair[1]);
        if options::find(name).is_none() {
            faults.push(format!("unknown: {name}"));
            continue;
        }
        let ours = config.get(&[name.as_bytes()]);
        let excused = DIFFERENT.iter().any(|(known, _)| known == name);
        if !excused && ours != [(name.clone(), theirs.clone())] {
            faults.push(format!("default: {name} = {theirs}, here {ours:?}"));
        }
    }
    for pairs in SETS {
        let mut words = vec!["CONFIG", "SET"];
        words.extend(pairs.iter().flat_map(|(name, value)| [*name, *value]));
        let theirs = redis.ask(&words).remove(0);
        let bytes: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let (ours, shown) = match config.set(&bytes) {
            Ok((new, _)) => ("OK".to_owned(), Some(new)),
            Err(error) => (error.to_string(), None),
        };
        // Our eviction policies and log levels are more; nothing else in an answer may differ.
        if ours != theirs {
            faults.push(format!("{pairs:?}\n  redis {theirs}\n  here  {ours}"));
        } else if let Some(new) = shown {
            let (name, _) = pairs[0];
            let theirs = redis.ask(&["CONFIG", "GET", name]);
            let (_, value) = new.get(&[name.as_bytes()]).remove(0);
            if theirs.get(1) != Some(&value) {
                faults.push(format!("{pairs:?}: shown as {theirs:?}, here {value}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
