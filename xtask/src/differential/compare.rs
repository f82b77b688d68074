//! Whether two replies say the same. What is random, unordered or of the clock is compared as far as it is
//! determined. It knows nothing of connections.

use larder_protocol::response::{Value, parse};

use super::event::name;
use crate::conformance::render;

/// How far the two clocks may stand apart at one command, in milliseconds.
const CLOCK_MS: i64 = 5_000;

/// The two replies as text if they differ.
pub fn difference(words: &[Vec<u8>], ours: &[u8], oracle: &[u8]) -> Option<(String, String)> {
    if ours == oracle {
        return None;
    }
    match (whole(ours), whole(oracle)) {
        (Some(ours), Some(oracle)) => {
            if near(words, &ours, &oracle) {
                return None;
            }
            let (ours, oracle) = (canonical(words, &ours), canonical(words, &oracle));
            (ours != oracle).then_some((ours, oracle))
        }
        _ => Some((ours.escape_ascii().to_string(), oracle.escape_ascii().to_string())),
    }
}

/// A frame as a report shows it.
pub fn shown(words: &[Vec<u8>], frame: &[u8]) -> String {
    whole(frame).map_or_else(|| frame.escape_ascii().to_string(), |value| canonical(words, &value))
}

fn whole(frame: &[u8]) -> Option<Value> {
    match parse(frame) {
        Ok(Some((value, used))) if used == frame.len() => Some(value),
        _ => None,
    }
}

/// Times: the clock went on between the two servers.
fn near(words: &[Vec<u8>], ours: &Value, oracle: &Value) -> bool {
    let unit_ms = match &name(words)[..] {
        "TTL" | "EXPIRETIME" | "OBJECT|IDLETIME" | "HTTL" | "HEXPIRETIME" => 1_000,
        "PTTL" | "PEXPIRETIME" | "HPTTL" | "HPEXPIRETIME" => 1,
        _ => return false,
    };
    let near = |ours: i64, oracle: i64| {
        ours == oracle || ours >= 0 && oracle >= 0 && (ours - oracle).abs() <= CLOCK_MS / unit_ms
    };
    match (ours, oracle) {
        (Value::Integer(ours), Value::Integer(oracle)) => near(*ours, *oracle),
        (Value::Array(ours), Value::Array(oracle)) if ours.len() == oracle.len() => {
            ours.iter().zip(oracle).all(|pair| match pair {
                (Value::Integer(ours), Value::Integer(oracle)) => near(*ours, *oracle),
                _ => false,
            })
        }
        _ => false,
    }
}

fn pairs(items: &[Value], width: usize) -> String {
    let parts = items.chunks(width);
    sorted(parts.map(|part| part.iter().map(render).collect::<Vec<_>>().join("=")).collect())
}

fn sorted(mut parts: Vec<String>) -> String {
    parts.sort();
    parts.join(" ")
}

/// A reply as text, without what may rightly differ.
fn canonical(words: &[Vec<u8>], value: &Value) -> String {
    let has = |word: &[u8]| words.iter().any(|other| other.eq_ignore_ascii_case(word));
    match (&name(words)[..], value) {
        (
            "SMEMBERS"
            | "SINTER"
            | "SUNION"
            | "SDIFF"
            | "HKEYS"
            | "HVALS"
            | "KEYS"
            | "SPOP"
            | "PUBSUB|CHANNELS"
            | "PUBSUB|SHARDCHANNELS",
            Value::Array(items) | Value::Set(items),
        ) => pairs(items, 1),
        ("HGETALL", Value::Array(items)) => pairs(items, 2),
        ("HGETALL", Value::Map(items)) => {
            sorted(items.iter().map(|(k, v)| format!("{}={}", render(k), render(v))).collect())
        }
        // Weights that are equal texts, or none, leave the order open; `SORT i0 BY nosort` is of a list.
        ("SORT" | "SORT_RO", Value::Array(items))
            if has(b"BY") && has(b"ALPHA") && words[1] != b"i0" =>
        {
            pairs(
                items,
                words.iter().filter(|word| word.eq_ignore_ascii_case(b"GET")).count().max(1),
            )
        }
        // A whole iteration, since COUNT is larger than any key.
        ("SCAN" | "SSCAN" | "HSCAN" | "ZSCAN", Value::Array(items)) => match &items[..] {
            [cursor, Value::Array(items)] => {
                let paired = matches!(&words[0][..], b"HSCAN" | b"ZSCAN") && !has(b"NOVALUES");
                let width = if paired { 2 } else { 1 };
                format!("{} {}", render(cursor), pairs(items, width))
            }
            _ => render(value),
        },
        // What is drawn is random; its number is not, if no member may come twice.
        ("SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER", Value::Array(items)) => {
            let nested = matches!(items.first(), Some(Value::Array(_)));
            format!("{} drawn{}", items.len(), if nested { ", in pairs" } else { "" })
        }
        ("SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER" | "RANDOMKEY", Value::Bulk(_)) => {
            "one drawn".to_owned()
        }
        // From all subscriptions in any order.
        (
            "UNSUBSCRIBE" | "PUNSUBSCRIBE" | "SUNSUBSCRIBE",
            Value::Array(items) | Value::Push(items),
        ) if words.len() == 1 => {
            let left = items.last().map(render).unwrap_or_default();
            let none = items.get(1).is_some_and(|name| *name == Value::Null);
            format!("{left} left{}", if none { ", nothing" } else { "" })
        }
        ("CLIENT|ID", Value::Integer(_)) => "an id".to_owned(),
        // Lines about the server itself, or in our own words: of the same kind.
        ("CLIENT|INFO" | "CLIENT|LIST", Value::Bulk(_)) => "$lines".to_owned(),
        ("CLIENT|INFO" | "CLIENT|LIST", Value::Verbatim(format, _)) => {
            format!("{} lines", format.escape_ascii())
        }
        ("CLIENT|HELP" | "OBJECT|HELP" | "PUBSUB|HELP", Value::Array(_)) => "lines".to_owned(),
        ("HELLO", Value::Array(items)) => hello(items.chunks(2).filter_map(|pair| match pair {
            [key, value] => Some((key, value)),
            _ => None,
        })),
        ("HELLO", Value::Map(items)) => format!("%{}", hello(items.iter().map(|(k, v)| (k, v)))),
        _ => render(value),
    }
}

/// HELLO's fields without the version and the connection's number.
fn hello<'v>(fields: impl Iterator<Item = (&'v Value, &'v Value)>) -> String {
    let shown = fields.map(|(key, value)| match key.as_bytes() {
        Some(b"version" | b"id") => render(key),
        _ => format!("{}={}", render(key), render(value)),
    });
    shown.collect::<Vec<_>>().join(" ")
}
