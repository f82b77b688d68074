//! Every command of the server's own table, with too few and too many arguments, on keys of every type, with hostile
//! numbers in every place: an answer, or a closed connection where that is the command's sense, but no harm.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use super::{Attack, Scene};
use crate::process::Client;

/// So that no SETBIT far out takes half a gigabyte, as it may by default.
const SMALL: &[&str] = &["--proto-max-bulk-len", "1mb"];

pub const ATTACKS: &[Attack] = &[Attack {
    name: "hostile arguments",
    options: SMALL,
    growth_mib_max: 96,
    run: hostile_arguments,
}];

/// They end or stop the server, by design, or speak at any time afterwards.
const LEFT_OUT: &[&str] = &[
    "shutdown",
    "debug",
    "monitor",
    "flushall",
    "flushdb",
    "swapdb",
    "client",
    "quit",
    "config",
    // Many failures end a connection: see "strangers".
    "auth",
    "replicaof",
    "slaveof",
    "failover",
    "sync",
    "psync",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "pfselftest",
    "pfdebug",
];
const CORPUS: &[&str] = &[
    "",
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "2147483647",
    "-2147483648",
    "4294967296",
    "1e308",
    "-1e400",
    "nan",
    "inf",
    "-inf",
    "0x7fffffff",
    "1.5",
    " 1",
    "1 ",
    "text",
    "\r\n",
    "COUNT",
    "LIMIT",
    "EX",
    "*",
    "[a",
    "(1",
    "u64",
    "i65",
];
const KEYS: &[&str] =
    &["hostile:string", "hostile:list", "hostile:set", "hostile:hash", "hostile:zset", "missing"];

fn hostile_arguments(scene: &mut Scene) -> Result<()> {
    let Value::Array(rows) = scene.call(&["COMMAND"])? else { bail!("no COMMAND") };
    let names: Vec<String> = rows.iter().filter_map(name).collect();
    if names.len() < 200 {
        bail!("only {} commands", names.len());
    }
    let mut client = scene.server.connect()?;
    // The neighbour's data are in database 0.
    client.call(&["SELECT", "1"])?;
    let mut asked = 0;
    for name in names.iter().filter(|name| !LEFT_OUT.contains(&name.as_str())) {
        make_keys(&mut client)?;
        for count in 0..6 {
            for (at, filler) in CORPUS.iter().enumerate() {
                let mut args = vec![name.as_str()];
                if count > 0 {
                    args.push(KEYS.get(at % KEYS.len()).context("no key")?);
                }
                // The hostile word in each place in turn, plain numbers elsewhere.
                args.extend((1..count).map(|place| match at % count == place {
                    true => *filler,
                    false => CORPUS.get((at + place) % CORPUS.len()).copied().unwrap_or(""),
                }));
                ask(&mut client, &args).with_context(|| format!("{args:?}"))?;
                asked += 1;
            }
            scene.call(&["PING"])?;
        }
    }
    println!("  {} commands, {asked} requests", names.len());
    Ok(())
}

/// One request, within a transaction, where nothing waits; those that rule transactions or the connection stand alone.
fn ask(client: &mut Client, args: &[&str]) -> Result<()> {
    const ALONE: &[&str] =
        &["multi", "exec", "discard", "watch", "unwatch", "reset", "hello", "select"];
    if args.first().is_some_and(|name| ALONE.contains(name)) {
        client.call(args)?;
        client.call(&["RESET"])?;
        client.call(&["SELECT", "1"])?;
        return Ok(());
    }
    client.send(&["MULTI"])?;
    client.send(args)?;
    client.send(&["EXEC"])?;
    for _ in 0..3 {
        client.read(Duration::from_secs(10))?;
    }
    Ok(())
}

fn name(row: &Value) -> Option<String> {
    let Value::Array(fields) = row else { return None };
    match fields.first()? {
        Value::Bulk(name) => Some(String::from_utf8_lossy(name).into_owned()),
        Value::Simple(name) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    }
}

fn make_keys(client: &mut Client) -> Result<()> {
    let setup: &[&[&str]] = &[
        &["FLUSHDB"],
        &["SET", "hostile:string", "12"],
        &["RPUSH", "hostile:list", "a", "b", "1"],
        &["SADD", "hostile:set", "a", "b", "1"],
        &["HSET", "hostile:hash", "a", "1", "b", "x"],
        &["ZADD", "hostile:zset", "1", "a", "2", "b"],
    ];
    for args in setup {
        client.call(args)?;
    }
    Ok(())
}
