//! The published holes of Redis and Valkey in what Larder has, each as its attack, named by its number. Scripts,
//! streams, modules, the cluster and ACL users come with those parts.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use super::{Attack, Scene, rss_kib};

pub const ATTACKS: &[Attack] = &[
    Attack { name: "known holes", options: SMALL, growth_mib_max: 64, run: known_holes },
    Attack { name: "patterns", options: &[], growth_mib_max: 16, run: patterns },
    Attack {
        name: "strangers that ask",
        options: LOCKED,
        growth_mib_max: 32,
        run: strangers_that_ask,
    },
    Attack { name: "secrets", options: LOCKED, growth_mib_max: 16, run: secrets },
];
const SMALL: &[&str] = &["--proto-max-bulk-len", "1mb"];
const LOCKED: &[&str] = &["--requirepass", "CANARY-7f3a"];

/// Requests that must be answered by an error that begins so (or, `+`, by anything that is none).
const REFUSED: &[(&str, &[&str], &str)] = &[
    (
        "CVE-2022-35977",
        &["SETRANGE", "s", "9223372036854775807", "x"],
        "ERR string exceeds maximum allowed size",
    ),
    ("CVE-2022-35977", &["SORT", "l", "LIMIT", "9223372036854775807", "9223372036854775807"], "+"),
    (
        "CVE-2023-22458",
        &["HRANDFIELD", "h", "-9223372036854775808", "WITHVALUES"],
        "ERR value is out of range",
    ),
    (
        "CVE-2023-22458",
        &["ZRANDMEMBER", "z", "-9223372036854775808", "WITHSCORES"],
        "ERR value is out of range",
    ),
    (
        "CVE-2023-25155",
        &["SRANDMEMBER", "set", "-9223372036854775808"],
        "ERR value is out of range",
    ),
    ("CVE-2023-28425", &["MSETNX", "s", "1", "s", "2"], "+"),
    ("CVE-2023-28856", &["HINCRBYFLOAT", "h", "a", "+inf"], "ERR "),
    ("CVE-2023-28856", &["HGET", "h", "a"], "+"),
    (
        "CVE-2021-32761",
        &["BITFIELD", "s", "SET", "u8", "18446744073709551615", "1"],
        "ERR bit offset is not an integer",
    ),
    (
        "CVE-2021-32761",
        &["BITFIELD", "s", "GET", "i64", "#9223372036854775807"],
        "ERR bit offset is not an integer",
    ),
    ("CVE-2021-32761", &["SETBIT", "s", "4294967296", "1"], "ERR bit offset is not an integer"),
    ("CVE-2021-29477", &["LCS", "s", "l"], "ERR "),
    ("CVE-2021-21309", &["APPEND", "s", "x"], "+"),
    ("CVE-2021-41099", &["CONFIG", "SET", "proto-max-bulk-len", "18446744073709551615"], "ERR "),
    ("CVE-2023-41056", &["GETRANGE", "s", "-9223372036854775808", "9223372036854775807"], "+"),
    ("CVE-2025-32023", &["PFCOUNT", "hll"], "INVALIDOBJ"),
    ("CVE-2025-32023", &["PFMERGE", "other", "hll"], "INVALIDOBJ"),
    ("CVE-2019-10192", &["PFCOUNT", "dense"], "WRONGTYPE"),
    ("CVE-2025-49112", &["HSCAN", "h", "18446744073709551616"], "ERR invalid cursor"),
    ("R27", &["CLIENT", "SETNAME", "a b"], "ERR Client names cannot contain spaces"),
    ("R27", &["CLIENT", "SETNAME", "a\nb"], "ERR Client names cannot contain spaces"),
    ("R27", &["CLIENT", "SETINFO", "LIB-NAME", "a b"], "ERR LIB-NAME cannot contain spaces"),
    ("R20", &["CONFIG", "SET", "dir", "/etc"], "ERR "),
    ("R20", &["CONFIG", "SET", "logfile", "/etc/cron.d/x"], "ERR "),
    ("R20", &["MODULE", "LOAD", "/tmp/x.so"], "ERR unknown command"),
];

fn known_holes(scene: &mut Scene) -> Result<()> {
    for args in [
        &["SET", "s", "12"][..],
        &["RPUSH", "l", "1", "2"],
        &["HSET", "h", "a", "1"],
        &["SADD", "set", "a", "1"],
        &["ZADD", "z", "1", "a"],
    ] {
        scene.call(args)?;
    }
    // A sparse HyperLogLog whose runs are longer than all registers; a dense one that is too short.
    let head = |kind: u8| [b"HYLL", &[kind, 0, 0, 0][..], &[0, 0, 0, 0, 0, 0, 0, 0x80]].concat();
    let sparse = [head(1), [0x7f, 0xff].repeat(8), vec![0x80, 0xff, 0x3f]].concat();
    let dense = [head(0), vec![0xff; 100]].concat();
    for (key, text) in [("hll", sparse), ("dense", dense)] {
        scene.neighbour.call(&[b"SET", key.as_bytes(), &text]).context("SET of a crafted value")?;
    }
    for (name, args, wanted) in REFUSED {
        let found = scene.call(args).with_context(|| format!("{name} {args:?}"))?;
        let right = match &found {
            Value::Error(text) => *wanted != "+" && text.starts_with(wanted.as_bytes()),
            _ => *wanted == "+",
        };
        if !right {
            bail!("{name} {args:?}: {found:?} instead of {wanted}");
        }
    }
    for key in ["s", "l", "h", "set", "z", "hll", "dense", "other"] {
        scene.call(&["DEL", key])?;
    }
    Ok(())
}

/// CVE-2022-36021, CVE-2024-31228: patterns that take exponential time, or the whole stack, elsewhere.
fn patterns(scene: &mut Scene) -> Result<()> {
    let key = "a".repeat(2000);
    scene.call(&["SET", &key, "1"])?;
    let patterns = [
        format!("{}b", "a*".repeat(500)),
        "*".repeat(100_000),
        format!("{}b", "*a".repeat(1000)),
        "[".repeat(50_000),
    ];
    for pattern in &patterns {
        scene.call(&["KEYS", pattern])?;
        scene.call(&["SCAN", "0", "MATCH", pattern, "COUNT", "2000"])?;
        scene.call(&["CONFIG", "GET", pattern])?;
        scene.call(&["PUBSUB", "CHANNELS", pattern])?;
        let mut listener = scene.raw()?;
        listener.write_all(
            format!("PSUBSCRIBE {}\r\n", pattern.get(..60_000).unwrap_or(pattern)).as_bytes(),
        )?;
        std::thread::sleep(Duration::from_millis(20));
        scene.call(&["PUBLISH", &key, "x"])?;
    }
    scene.call(&["DEL", &key])?;
    scene.wait_for("connected_clients", 1)
}

/// CVE-2025-21605: replies for a stranger who never reads do not pile up.
fn strangers_that_ask(scene: &mut Scene) -> Result<()> {
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let stream = scene.raw()?;
        stream.set_nonblocking(true)?;
        deaf.push(stream);
    }
    let requests = "GET x\r\n".repeat(20_000);
    for _ in 0..30 {
        for stream in &mut deaf {
            // As much as the socket takes.
            let _ = stream.write(requests.as_bytes());
        }
        scene.call(&["PING"])?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let grown = rss_kib(&scene.server)?.saturating_sub(scene.rss_before) / 1024;
    if grown > 32 {
        bail!("{grown} MiB of refusals that nobody reads");
    }
    drop(deaf);
    scene.wait_for("connected_clients", 1)
}

/// R26: passwords are in no log and no list, however they were sent.
fn secrets(scene: &mut Scene) -> Result<()> {
    let mut monitor = scene.server.connect()?;
    monitor.call(&["AUTH", "CANARY-7f3a"])?;
    monitor.call(&["MONITOR"])?;
    scene.call(&["CONFIG", "SET", "slowlog-log-slower-than", "0"])?;
    scene.call(&["AUTH", "default", "CANARY-7f3a"])?;
    scene.call(&["HELLO", "2", "AUTH", "default", "CANARY-7f3a"])?;
    scene.call(&["CONFIG", "SET", "requirepass", "CANARY-7f3a"])?;
    scene.call(&["AUTH", "CANARY-wrong"])?;
    scene.call(&["AUTH", "CANARY-7f3a"])?;
    scene.call(&["SET", "marker", "1"])?;
    let mut shown = String::new();
    for line in ["SLOWLOG GET 128", "CLIENT LIST", "INFO everything", "LATENCY LATEST"] {
        let words: Vec<&str> = line.split(' ').collect();
        shown.push_str(&text(&scene.call(&words)?));
    }
    loop {
        let line = text(&monitor.read(Duration::from_secs(5))?);
        shown.push_str(&line);
        if line.contains("marker") {
            break;
        }
    }
    scene.call(&["DEL", "marker"])?;
    if shown.contains("CANARY") {
        let at = shown.find("CANARY").unwrap_or(0);
        bail!("a password is shown: {:?}", shown.get(at.saturating_sub(120)..at + 12));
    }
    if !shown.contains("slowlog-log-slower-than") && !shown.contains("redacted") {
        bail!("nothing was logged, so nothing was proven");
    }
    Ok(())
}

/// All text in a value.
fn text(value: &Value) -> String {
    match value {
        Value::Simple(text) | Value::Error(text) | Value::Bulk(text) => {
            String::from_utf8_lossy(text).into_owned() + "\n"
        }
        Value::Array(parts) | Value::Set(parts) | Value::Push(parts) => {
            parts.iter().map(text).collect()
        }
        Value::Map(pairs) => pairs.iter().map(|(key, value)| text(key) + &text(value)).collect(),
        _ => String::new(),
    }
}
