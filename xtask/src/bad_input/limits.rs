//! Strangers before the password, too many clients, a full memory.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_protocol::response::Value;

use super::{Attack, LONG, SHORT, Scene, expect, expect_of, read_out, read_up_to};
use crate::process::Patience;

const LOCKED: &[&str] = &["--requirepass", "CANARY-7f3a"];

pub const ATTACKS: &[Attack] = &[
    Attack { name: "strangers", options: LOCKED, growth_mib_max: 16, run: strangers },
    Attack {
        name: "strangers that wait",
        options: LOCKED,
        growth_mib_max: 16,
        run: strangers_that_wait,
    },
    Attack {
        name: "too many clients",
        options: &["--maxclients", "60"],
        growth_mib_max: 16,
        run: too_many_clients,
    },
    Attack {
        name: "too many strangers",
        options: &["--requirepass", "CANARY-7f3a", "--maxclients", "40"],
        growth_mib_max: 16,
        run: too_many_strangers,
    },
    Attack {
        name: "deaf subscribers",
        options: &["--client-output-buffer-limit", "pubsub 2mb 0 0"],
        growth_mib_max: 96,
        run: deaf_subscribers,
    },
    Attack {
        name: "an endless request",
        options: &["--client-query-buffer-limit", "2mb"],
        growth_mib_max: 64,
        run: an_endless_request,
    },
    Attack {
        name: "names without end",
        options: &["--maxmemory-clients", "4mb"],
        growth_mib_max: 64,
        run: names_without_end,
    },
    Attack {
        name: "full memory",
        options: &["--maxmemory", "40mb", "--maxmemory-policy", "noeviction"],
        growth_mib_max: 60,
        run: full_memory,
    },
];

/// Before the password: few arguments, short ones, and nothing of the data.
fn strangers(scene: &mut Scene) -> Result<()> {
    let many = format!("*11\r\n{}", "$1\r\na\r\n".repeat(11));
    let cases = [
        ("GET witness:1\r\n".to_owned(), "-NOAUTH Authentication required.\r\n", false),
        ("CONFIG GET requirepass\r\n".to_owned(), "-NOAUTH Authentication required.\r\n", false),
        (many, "-ERR Protocol error: unauthenticated multibulk length\r\n", true),
        (
            "*2\r\n$4\r\nAUTH\r\n$16385\r\n".to_owned(),
            "-ERR Protocol error: unauthenticated bulk length\r\n",
            true,
        ),
        // More than a stranger may send ahead: closed without a word.
        ("x".repeat(70_000), "", true),
    ];
    for (text, wanted, closes) in cases {
        expect(&scene.server, text.as_bytes(), wanted.as_bytes(), closes)
            .with_context(|| text.get(..60).unwrap_or(&text).to_owned())?;
    }
    // Wrong passwords: every one is refused, none is shown anywhere.
    let mut stream = scene.raw()?;
    let _ = stream.write_all("AUTH CANARY-wrong\r\n".repeat(200).as_bytes());
    let mut said = read_up_to(&mut stream, 1)?.0;
    said.extend(read_out(&mut stream, SHORT)?.0);
    let refusals =
        said.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"-WRONGPASS")).count();
    if refusals == 0 || said.windows(6).any(|part| part == b"CANARY") {
        bail!("{refusals} refusals: {}", said.escape_ascii());
    }
    for line in
        ["SLOWLOG GET 128", "CLIENT LIST", "INFO everything", "COMMANDLOG GET 128 large-request"]
    {
        let words: Vec<&str> = line.split(' ').collect();
        if format!("{:?}", scene.call(&words)?).contains("CANARY") {
            bail!("{line} shows a password");
        }
    }
    Ok(())
}

/// A stranger who says nothing, or a byte a second, does not hold his place for ever.
fn strangers_that_wait(scene: &mut Scene) -> Result<()> {
    let mut idle: Vec<_> = (0..20).map(|_| scene.raw()).collect::<Result<_>>()?;
    let mut drip = scene.raw()?;
    let begin = Instant::now();
    let text = b"*2\r\n$4\r\nAUTH\r\n$11\r\n";
    for byte in text.iter().chain(b"waits-and-waits").take(13) {
        let _ = drip.write_all(&[*byte]);
        scene.call(&["PING"])?;
        std::thread::sleep(Duration::from_secs(1));
    }
    for stream in idle.iter_mut().chain([&mut drip]) {
        let (said, closed) = read_up_to(stream, usize::MAX)?;
        if !closed {
            bail!(
                "still open after {:?}, having said {:?}",
                begin.elapsed(),
                said.escape_ascii().to_string()
            );
        }
    }
    // The neighbour, who knows the password, has stayed.
    scene.wait_for("connected_clients", 1)
}

/// Those who come too late are told so; those inside go on; a place that is free is given again.
fn too_many_clients(scene: &mut Scene) -> Result<()> {
    let mut inside: Vec<_> = (0..59).map(|_| scene.raw()).collect::<Result<_>>()?;
    for stream in &mut inside {
        stream.write_all(b"PING\r\n")?;
        expect_of(stream, b"+PONG\r\n", false).context("a client within the limit")?;
    }
    for _ in 0..20 {
        expect(&scene.server, b"", b"-ERR max number of clients reached\r\n", true)
            .context("one too many")?;
        scene.call(&["PING"])?;
    }
    drop(inside);
    scene.wait_for("connected_clients", 1)?;
    expect(&scene.server, b"PING\r\n", b"+PONG\r\n", false).context("a place is free")
}

/// Those who do not know the password cannot take the places of those who do.
fn too_many_strangers(scene: &mut Scene) -> Result<()> {
    let mut strangers: Vec<_> = (0..60).map(|_| scene.raw()).collect::<Result<_>>()?;
    let mut patience = Patience::of(LONG);
    let mut refused = 0;
    while refused < 40 {
        let before = strangers.len();
        let mut still_in = Vec::new();
        for mut stream in strangers.drain(..) {
            if !read_out(&mut stream, Duration::from_millis(1))?.1 {
                still_in.push(stream);
            }
        }
        refused += before - still_in.len();
        strangers = still_in;
        if !patience.nap(Duration::from_millis(20)) {
            bail!("only {refused} of 60 strangers were refused where 40 clients have room");
        }
    }
    let connected = scene.info("connected_clients")?;
    if connected > 12 {
        bail!("{connected} connections, most of them strangers, hold places");
    }
    drop(strangers);
    scene.wait_for("connected_clients", 1)?;
    expect(&scene.server, b"AUTH CANARY-7f3a\r\n", b"+OK\r\n", false)
        .context("one who knows the password")
}

/// A subscriber that does not read is dropped at the limit; one that reads gets everything.
fn deaf_subscribers(scene: &mut Scene) -> Result<()> {
    let mut deaf: Vec<_> = (0..5).map(|_| scene.raw()).collect::<Result<_>>()?;
    for stream in &mut deaf {
        stream.write_all(b"SUBSCRIBE news\r\n")?;
    }
    scene.wait_for("pubsub_clients", 5)?;
    let text = "x".repeat(100_000);
    for _ in 0..400 {
        scene.call(&["PUBLISH", "news", &text])?;
        if scene.info("pubsub_clients")? == 0 {
            return Ok(());
        }
    }
    bail!("{} subscribers hold 40 MB each that they do not read", scene.info("pubsub_clients")?)
}

/// A request that goes on and on ends at the limit of what one client may send ahead.
fn an_endless_request(scene: &mut Scene) -> Result<()> {
    let mut stream = scene.raw()?;
    stream.write_all(b"*1000000\r\n")?;
    let piece = format!("$100000\r\n{}\r\n", "x".repeat(100_000));
    for _ in 0..200 {
        if stream.write_all(piece.as_bytes()).is_err() {
            return scene.wait_for("connected_clients", 1);
        }
        scene.call(&["PING"])?;
    }
    if !read_up_to(&mut stream, usize::MAX)?.1 {
        bail!("20 MB of one request are held where 2 are allowed");
    }
    Ok(())
}

/// At the limit writes are refused, in Redis's words, and everything else goes on; then room is made, and they are not.
fn full_memory(scene: &mut Scene) -> Result<()> {
    let value = "x".repeat(10_000);
    let mut refused = 0;
    for n in 0..8000 {
        match scene.call(&["SET", &format!("fill:{n}"), &value])? {
            Value::Error(text)
                if text.starts_with(b"OOM command not allowed when used memory > 'maxmemory'") =>
            {
                refused += 1;
            }
            Value::Simple(_) if refused == 0 => {}
            other => bail!("SET {n} after {refused} refusals: {other:?}"),
        }
        if refused > 100 {
            break;
        }
    }
    if refused == 0 {
        bail!("80 MB fitted into 40");
    }
    let (used, limit) = (scene.info("used_memory")?, 40 << 20);
    if used > limit + limit / 20 {
        bail!("used_memory is {used}");
    }
    if scene.call(&["GET", "fill:0"])? != Value::Bulk(value.clone().into_bytes()) {
        bail!("what was stored is gone");
    }
    for n in 0..1000 {
        scene.call(&["DEL", &format!("fill:{n}")])?;
    }
    match scene.call(&["SET", "fill:again", &value])? {
        Value::Simple(_) => Ok(()),
        other => bail!("room was made, and still {other:?}"),
    }
}

/// Names that a client leaves with the server (channels, patterns, watched keys, prefixes) are its memory too.
fn names_without_end(scene: &mut Scene) -> Result<()> {
    type Request = fn(&str, usize) -> String;
    let long = "n".repeat(50_000);
    let ways: [(&str, Request); 5] = [
        ("SUBSCRIBE", |long, at| format!("SUBSCRIBE {at}:{long}\r\n")),
        ("PSUBSCRIBE", |long, at| format!("PSUBSCRIBE {at}:{long}\r\n")),
        ("WATCH", |long, at| format!("WATCH {at}:{long}\r\n")),
        ("long prefixes", |long, at| format!("CLIENT TRACKING on BCAST PREFIX {at}:{long}\r\n")),
        ("many prefixes", |_, at| {
            let prefixes: Vec<String> = (0..100)
                .map(|one| format!("PREFIX {at}:{one}:{:100}", "").replace("  ", "--"))
                .collect();
            format!("CLIENT TRACKING on BCAST {}\r\n", prefixes.join(" "))
        }),
    ];
    for (way, request) in ways {
        let mut stream = scene.raw()?;
        let mut open = true;
        for at in 0..1500 {
            open = stream.write_all(request(&long, at).as_bytes()).is_ok()
                && !read_out(&mut stream, Duration::from_millis(2))?.1;
            if !open {
                break;
            }
        }
        if open {
            bail!("{way}: far more than 4 MB of names are held where 4 are allowed");
        }
        scene.wait_for("connected_clients", 1)?;
    }
    Ok(())
}
