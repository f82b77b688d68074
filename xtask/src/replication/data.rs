//! All data of a server as text that can be compared, and the commands that may be played. It knows no roles.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use crate::process::Client;

/// What each key of each database holds, and when it goes.
pub type Data = BTreeMap<(usize, Vec<u8>), String>;

/// Databases that commands select.
const DATABASES: usize = 10;

/// Keys that go before then are passed over: they may be gone here and not yet there.
pub fn horizon() -> Result<i64> {
    const MARGIN_MS: u128 = 60_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(i64::try_from(now + MARGIN_MS)?)
}

/// Whether a generated command may be played: it is about data, and every server here has it.
pub fn is_fit(words: &[Vec<u8>]) -> bool {
    const OTHERS: &[&str] = &[
        "CLIENT",
        "CONFIG",
        "DEBUG",
        "WAIT",
        "WAITAOF",
        "AUTH",
        "HELLO",
        "RESET",
        "QUIT",
        "SAVE",
        "BGSAVE",
        "SHUTDOWN",
        "MONITOR",
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "SSUBSCRIBE",
        "REPLICAOF",
        "SLAVEOF",
        "FAILOVER",
        "PSYNC",
        "SYNC",
        "REPLCONF",
        "LATENCY",
        "SLOWLOG",
        "COMMANDLOG",
        "MEMORY",
        "COMMAND",
        "INFO",
        "BLPOP",
        "BRPOP",
        "BLMOVE",
        "BRPOPLPUSH",
        "BLMPOP",
        "BZPOPMIN",
        "BZPOPMAX",
        "BZMPOP",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "SUNSUBSCRIBE",
        "RESTORE",
        "LOLWUT",
    ];
    // Fields with deadlines are newer than the oldest server here.
    const NEWER: &[&str] =
        &["HEXPIRE", "HPEXPIRE", "HPERSIST", "HTTL", "HPTTL", "HGETEX", "HSETEX", "HGETDEL"];
    let Some(name) = words.first() else { return false };
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    // It may lengthen a text and repeat nothing: servers of Redis 7.0 differ from each other then.
    if name == "BITFIELD" && words.iter().any(|word| word.eq_ignore_ascii_case(b"FAIL")) {
        return false;
    }
    // Valkey counts a negative offset of a big sorted set from the end; Redis, and a small one of Valkey, find nothing.
    let skips = words.iter().position(|word| word.eq_ignore_ascii_case(b"LIMIT"));
    let offset = skips.and_then(|at| words.get(at + 1));
    if name == "ZRANGESTORE" && offset.is_some_and(|offset| offset.starts_with(b"-")) {
        return false;
    }
    !name.starts_with('@')
        && !OTHERS.contains(&&*name)
        && !NEWER.iter().any(|newer| name.starts_with(newer))
}

/// All data.
pub fn read(client: &mut Client, horizon: i64) -> Result<Data> {
    let mut data = Data::new();
    for db in 0..DATABASES {
        client.call(&["SELECT", &db.to_string()])?;
        let keys = client.call(&["KEYS", "*"])?;
        let keys = keys.as_array().context("KEYS answers no array")?;
        for key in keys.iter().filter_map(Value::as_bytes) {
            if let Some(text) = describe(client, key, horizon)? {
                data.insert((db, key.to_vec()), text);
            }
        }
    }
    Ok(data)
}

fn describe(client: &mut Client, key: &[u8], horizon: i64) -> Result<Option<String>> {
    let when = client.call(&[b"PEXPIRETIME", key])?;
    let Value::Integer(when) = when else { bail!("PEXPIRETIME answers {when:?}") };
    if when != -1 && when < horizon {
        return Ok(None);
    }
    let kind = client.call(&[b"TYPE", key])?;
    let kind = kind.as_bytes().context("TYPE answers no text")?.to_vec();
    let reply = match &*kind {
        b"string" => client.call(&[b"GET", key])?,
        b"list" => client.call(&[&b"LRANGE"[..], key, b"0", b"-1"])?,
        b"set" => client.call(&[b"SMEMBERS", key])?,
        b"hash" => client.call(&[b"HGETALL", key])?,
        b"zset" => client.call(&[&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"])?,
        other => bail!("a {}", other.escape_ascii()),
    };
    if let Some(estimate) = reply.as_bytes().filter(|text| text.starts_with(b"HYLL")) {
        // Bytes 8 to 16 are a count that may be remembered or not; the registers are what counts.
        let registers = estimate.get(16..).unwrap_or(b"").escape_ascii();
        return Ok(Some(format!("estimate {when} {registers}")));
    }
    let mut parts: Vec<String> = match &reply {
        Value::Array(parts) => parts
            .iter()
            .map(|part| part.as_bytes().unwrap_or(b"?").escape_ascii().to_string())
            .collect(),
        other => vec![other.as_bytes().unwrap_or(b"?").escape_ascii().to_string()],
    };
    match &*kind {
        b"set" => parts.sort(),
        b"zset" => {
            // The same number has several texts; and a full copy of a small set that was big, Redis's too, loses the
            // sign of its zeros.
            for score in parts.iter_mut().skip(1).step_by(2) {
                let number =
                    larder_base::number::parse_f64(score.as_bytes()).context("no score")?;
                *score = format!("{:?}", number + 0.0);
            }
        }
        b"hash" => {
            let mut pairs: Vec<String> = parts.chunks(2).map(|pair| pair.join("=")).collect();
            pairs.sort();
            parts = pairs;
        }
        _ => {}
    }
    Ok(Some(format!("{} {when} {}", kind.escape_ascii(), parts.join(" "))))
}

/// Whether two servers hold the same.
pub fn same(expected: &Data, found: &Data) -> Result<()> {
    for (key, text) in expected {
        match found.get(key) {
            Some(other) if other == text => {}
            other => bail!("{} {}: {text} there, {other:?} here", key.0, key.1.escape_ascii()),
        }
    }
    match found.keys().find(|key| !expected.contains_key(*key)) {
        Some(key) => bail!("{} {}: not there, but here", key.0, key.1.escape_ascii()),
        None => Ok(()),
    }
}
