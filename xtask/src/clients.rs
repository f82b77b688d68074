//! `cargo xtask clients`: real clients, as their registries carry them, drive a server: redis-cli, redis-benchmark,
//! redis-py with and without hiredis, ioredis, node-redis, redis-rs. The scripts lie in tests/clients; this starts a server for each.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::foreign::{self, root};
use crate::process::Server;

type Check = fn(&Server) -> Result<String>;

const CHECKS: &[(&str, Check)] = &[
    ("redis-cli", redis_cli),
    ("redis-benchmark", redis_benchmark),
    ("redis-py", |server| redis_py(server, "clients/python", "requirements.txt")),
    ("hiredis", |server| redis_py(server, "clients/hiredis", "with_hiredis.txt")),
    ("ioredis", |server| node(server, "ioredis.mjs")),
    ("node-redis", |server| node(server, "node_redis.mjs")),
    ("redis-rs", redis_rs),
];

/// Runs all of them, or those that are named.
pub fn run(args: &[String]) -> Result<()> {
    let subject = foreign::subject(args)?;
    let named = |name: &str| args.iter().any(|arg| arg == name);
    let some = CHECKS.iter().any(|(name, _)| named(name));
    let mut failed = 0;
    for (name, check) in CHECKS.iter().filter(|(name, _)| !some || named(name)) {
        let begin = Instant::now();
        let server = Server::start(&subject)?;
        match check(&server) {
            Ok(said) => println!("{name:<16} {:>5.1} s  {said}", begin.elapsed().as_secs_f64()),
            Err(error) => {
                failed += 1;
                println!("{name:<16} FAILED: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} clients do not work");
    }
    Ok(())
}

/// Runs a program to its end; its output, which must come with success.
fn output(command: &mut Command, input: &[u8]) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} does not start"))?;
    child.stdin.take().context("no input")?.write_all(input)?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{name}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}

fn cli(server: &Server, line: &str, input: &[u8]) -> Result<String> {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &server.port.to_string()]).args(line.split(' '));
    output(&mut command, input)
}

/// The modes of redis-cli that talk to a server in ways of their own.
fn redis_cli(server: &Server) -> Result<String> {
    const STEPS: &[(&str, &str, &str)] = &[
        ("set key value", "", "OK\n"),
        ("-3 hset h a 1 b 2", "", "2\n"),
        ("-3 hgetall h", "", "a 1\nb 2\n"),
        ("--json -3 hgetall h", "", "{\"a\":\"1\",\"b\":\"2\"}\n"),
        ("--csv lrange missing 0 -1", "", "\n"),
        ("-x set from-input", "text", "OK\n"),
        ("get from-input", "", "text\n"),
        ("-n 3 set other 1", "", "OK\n"),
        ("-n 3 dbsize", "", "1\n"),
        ("-e lpush key 1", "", ""),
        ("-r 3 -i 0 incr counter", "", "1\n2\n3\n"),
    ];
    let mut done = 0;
    for (line, input, wanted) in STEPS {
        let found = cli(server, line, input.as_bytes());
        match (*line, found) {
            ("-e lpush key 1", Err(error)) if error.to_string().contains("WRONGTYPE") => {}
            (_, Ok(said)) if said == *wanted => {}
            (_, other) => bail!("redis-cli {line}: {other:?} instead of {wanted:?}"),
        }
        done += 1;
    }
    // A million commands would do; a hundred thousand tell the same.
    let mut requests = Vec::new();
    for n in 0..100_000 {
        larder_protocol::encode_command(&mut requests, &["SET", &format!("key:{n}"), "x"]);
    }
    let long: &[(&str, &[u8], &str)] = &[
        ("--pipe", &requests, "errors: 0, replies: 100000"),
        ("--scan --pattern key:9999?", b"", "key:99999\n"),
        ("--bigkeys", b"", "Sampled 100004 keys in the keyspace!"),
        ("--memkeys --memkeys-samples 0", b"", "Sampled 100004 keys in the keyspace!"),
        ("info", b"", "redis_version:"),
        ("command docs get", b"", "summary"),
        ("command", b"", "zadd"),
        ("client list", b"", "cmd=client|list"),
    ];
    for (line, input, part) in long {
        let said = cli(server, line, input)?;
        if !said.contains(part) {
            bail!("redis-cli {line}: no {part:?} in {:?}", said.get(..500).unwrap_or(&said));
        }
        done += 1;
    }
    cli(server, "config set maxmemory-policy allkeys-lfu", b"")?;
    let said = cli(server, "--hotkeys", b"")?;
    if !said.contains("Sampled 100004 keys in the keyspace!") {
        bail!("redis-cli --hotkeys: {said}");
    }
    Ok(format!("{} uses", done + 1))
}

/// All tests of redis-benchmark that run by default, once plain and once pipelined with threads.
fn redis_benchmark(server: &Server) -> Result<String> {
    const TESTS: &[&str] = &[
        "PING_INLINE",
        "PING_MBULK",
        "SET",
        "GET",
        "INCR",
        "LPUSH",
        "RPUSH",
        "LPOP",
        "RPOP",
        "SADD",
        "HSET",
        "SPOP",
        "ZADD",
        "ZPOPMIN",
        "LPUSH (needed to benchmark LRANGE)",
        "LRANGE_100 (first 100 elements)",
        "LRANGE_300 (first 300 elements)",
        "LRANGE_500 (first 500 elements)",
        "LRANGE_600 (first 600 elements)",
        "MSET (10 keys)",
    ];
    let port = server.port.to_string();
    for line in ["-n 2000", "-n 20000 -P 16 -r 100000 --threads 2"] {
        let mut command = Command::new("redis-benchmark");
        let said = output(command.args(["-p", &port, "-q"]).args(line.split(' ')), b"")?;
        // Lines of progress end in a carriage return: the last one stays.
        let lines: Vec<&str> = said.lines().filter_map(|line| line.rsplit('\r').next()).collect();
        for test in TESTS {
            let wanted = format!("{test}: ");
            if !lines
                .iter()
                .any(|line| line.starts_with(&wanted) && line.contains("requests per second"))
            {
                bail!("redis-benchmark {line}: no result of {test} in\n{said}");
            }
        }
        if said.contains("Error") || said.contains("WARNING") {
            bail!("redis-benchmark {line}:\n{said}");
        }
    }
    Ok(format!("{} default tests, plain and pipelined", TESTS.len()))
}

/// redis-py alone, or over hiredis: the same script.
fn redis_py(server: &Server, target: &str, requirements: &str) -> Result<String> {
    let folder = root().join("tests/clients/python");
    let python = foreign::python(target, &folder.join(requirements))?;
    let mut command = Command::new(python);
    last_line(command.arg(folder.join("redis_py.py")).arg(server.port.to_string()))
}

fn node(server: &Server, script: &str) -> Result<String> {
    let folder = foreign::node("clients/node", &root().join("tests/clients/node"))?;
    last_line(Command::new("node").arg(folder.join(script)).arg(server.port.to_string()))
}

fn redis_rs(server: &Server) -> Result<String> {
    let manifest = root().join("tests/clients/redis_rs/Cargo.toml");
    let target = root().join("target/clients/redis_rs");
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    last_line(cargo.arg("--target-dir").arg(target).arg("--").arg(server.port.to_string()))
}

fn last_line(command: &mut Command) -> Result<String> {
    let said = output(command, b"")?;
    Ok(said.trim_end().lines().last().unwrap_or("nothing said").to_owned())
}
