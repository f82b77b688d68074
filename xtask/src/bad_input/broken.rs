//! Broken protocol, absurd lengths, clients that stop, die or dawdle in the middle.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use larder_protocol::response::Value;

use super::{Attack, LONG, SHORT, Scene, exchange, expect_of, rss_kib};

pub const ATTACKS: &[Attack] = &[
    Attack { name: "malformed", options: &[], growth_mib_max: 16, run: malformed },
    Attack { name: "web pages", options: &[], growth_mib_max: 16, run: web_pages },
    Attack { name: "declared lengths", options: &[], growth_mib_max: 48, run: declared_lengths },
    Attack {
        name: "death in the middle",
        options: &[],
        growth_mib_max: 48,
        run: death_in_the_middle,
    },
    Attack { name: "byte by byte", options: &[], growth_mib_max: 16, run: byte_by_byte },
    Attack { name: "never reads", options: &[], growth_mib_max: 128, run: never_reads },
    Attack { name: "a flood of garbage", options: &[], growth_mib_max: 64, run: flood },
];

/// Each is answered as redis-server answers it, to the byte, and closed if it closes.
fn malformed(scene: &mut Scene) -> Result<()> {
    let long = "x".repeat(70_000);
    let inputs: Vec<Vec<u8>> = [
        "*1\r\n$-1\r\n",
        "*-1\r\nPING\r\n",
        "*0\r\nPING\r\n",
        "\r\n\r\nPING\r\n",
        "PING\n",
        "*1\r\nGET\r\n",
        "*99999999999999999999\r\n",
        "*2147483648\r\n",
        "*-99999999999999999999\r\n",
        "*a\r\n",
        "*\r\n",
        "* 1\r\n",
        "*1\r\n$536870913\r\n",
        "*1\r\n$-5\r\n",
        "*1\r\n$a\r\n",
        "*1\r\n$ 4\r\nPING\r\n",
        "*1\r\n$\r\n",
        "*1\r\n$04\r\nPING\r\n",
        "*01\r\n$4\r\nPING\r\n",
        "*1\r\n$+4\r\nPING\r\n",
        "*1\r\n\r\n",
        "*1\r\n:1\r\n",
        "*2\r\n$3\r\nGET\r\n:1\r\n",
        "*1\r\n$4\r\nPING\r\n*z\r\n",
        "set \"a\r\nPING\r\n",
        "set 'a'b c\r\nPING\r\n",
        "ping \"a\\x41\\n\"\r\n",
        "*1\r\n$12\r\nfoo\r\n+OK\r\nba\r\n",
        "*2\r\n$4\r\nno\r\n\r\n$2\r\n\r\n\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabcd\r\nPING\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([long.clone(), format!("*{long}"), format!("*1\r\n${long}")].map(String::into_bytes))
    .chain([vec![0; 300], vec![0xff; 300], (0..=255).collect()])
    .collect();
    let mut differences = Vec::new();
    for bytes in inputs {
        let mut ours = exchange(&scene.server, &bytes, SHORT)?;
        let mut theirs = exchange(&scene.oracle, &bytes, SHORT)?;
        if ours != theirs {
            // One of them may only have been slow, on a busy machine.
            ours = exchange(&scene.server, &bytes, LONG)?;
            theirs = exchange(&scene.oracle, &bytes, LONG)?;
        }
        let shown = bytes.escape_ascii().to_string();
        let shown = shown.get(..80).unwrap_or(&shown).to_owned();
        if ours != theirs {
            let text = |(said, closed): &(Vec<u8>, bool)| {
                format!("{} closed: {closed}", said.escape_ascii())
            };
            differences.push(format!(
                "{shown}\n  Larder {}\n  Redis  {}",
                text(&ours),
                text(&theirs)
            ));
        }
        scene.call(&["PING"])?;
    }
    if !differences.is_empty() {
        bail!("{} inputs are answered otherwise:\n{}", differences.len(), differences.join("\n"));
    }
    Ok(())
}

/// What a browser can be made to send is not obeyed, and closed without an echo.
fn web_pages(scene: &mut Scene) -> Result<()> {
    const BODY: &str = "Content-Length: 20\r\n\r\nSET web 1\r\nFLUSHALL\r\n";
    for head in [
        "POST / HTTP/1.1\r\n",
        "post /x HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "PUT / HTTP/1.1\r\nHost: evil.example\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: 127.0.0.1\r\n",
    ] {
        let (said, closed) = exchange(&scene.server, format!("{head}{BODY}").as_bytes(), LONG)?;
        if !closed || said.windows(4).any(|part| part.eq_ignore_ascii_case(b"host")) {
            bail!("{head:?}: {} closed: {closed}", said.escape_ascii());
        }
    }
    // The greeting of TLS, on a port without it: there is nothing to say to it.
    let (said, closed) =
        exchange(&scene.server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", LONG)?;
    if !closed || !said.is_empty() {
        bail!("TLS: {} closed: {closed}", said.escape_ascii());
    }
    match scene.call(&["EXISTS", "web"])? {
        Value::Integer(0) => Ok(()),
        other => bail!("a web page wrote: {other:?}"),
    }
}

/// Half a gigabyte that is only announced, a million arguments that never come: nothing is allocated for them.
fn declared_lengths(scene: &mut Scene) -> Result<()> {
    let mut open = Vec::new();
    for n in 0..200 {
        let mut stream = scene.raw()?;
        let text = match n % 4 {
            0 => "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$536870912\r\nbegun",
            1 => "*1000000\r\n$1\r\n",
            2 => "*3\r\n$536870912\r\n",
            _ => "*1000000\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\nb\r\n",
        };
        stream.write_all(text.as_bytes())?;
        open.push(stream);
        if n % 20 == 0 {
            scene.call(&["PING"])?;
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    let grown = rss_kib(&scene.server)?.saturating_sub(scene.rss_before) / 1024;
    if grown > 48 {
        bail!("{grown} MiB for lengths that were only declared");
    }
    drop(open);
    scene.wait_for("connected_clients", 1)
}

/// Clients that die with half a command, within a transaction, waiting or subscribed leave nothing behind.
fn death_in_the_middle(scene: &mut Scene) -> Result<()> {
    let half = format!("*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$2000000\r\n{}", "x".repeat(1_500_000));
    let ends = [
        half.as_str(),
        "MULTI\r\nSET half 1\r\n",
        "WATCH half\r\nMULTI\r\nSET half 1\r\n*1\r\n$4\r\nEXE",
        "BLPOP half 0\r\n",
        "BZPOPMIN half other 0\r\n",
        "SUBSCRIBE a b c\r\nPSUBSCRIBE a*\r\nSSUBSCRIBE s\r\n",
        "HELLO 3\r\nCLIENT TRACKING ON BCAST\r\n",
        "MONITOR\r\n",
    ];
    for _ in 0..10 {
        for text in ends {
            let mut stream = scene.raw()?;
            stream.write_all(text.as_bytes())?;
            if text.len() < 1000 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        scene.call(&["PING"])?;
    }
    for (field, wanted) in [
        ("connected_clients", 1),
        ("blocked_clients", 0),
        ("pubsub_channels", 0),
        ("pubsub_patterns", 0),
    ] {
        scene.wait_for(field, wanted)?;
    }
    if scene.call(&["EXISTS", "half"])? != Value::Integer(0) {
        bail!("half a command was executed");
    }
    // What is pushed now is for nobody: it stays.
    scene.call(&["RPUSH", "half", "1"])?;
    match scene.call(&["LLEN", "half"])? {
        Value::Integer(1) => Ok(()),
        other => bail!("an element went to a dead client: {other:?}"),
    }
}

/// A client that sends one byte at a time is served, and holds nobody up.
fn byte_by_byte(scene: &mut Scene) -> Result<()> {
    let mut slow: Vec<_> = (0..50).map(|_| scene.raw()).collect::<Result<_>>()?;
    for byte in b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$5\r\nvalue\r\n" {
        for stream in &mut slow {
            stream.write_all(&[*byte])?;
        }
        scene.call(&["PING"])?;
        std::thread::sleep(Duration::from_millis(5));
    }
    slow.iter_mut().try_for_each(|stream| expect_of(stream, b"+OK\r\n", false))
}

/// A client that asks and never reads is held back: the replies do not pile up in the server.
fn never_reads(scene: &mut Scene) -> Result<()> {
    let big = "x".repeat(1 << 20);
    scene.call(&["SET", "big", &big])?;
    let mut deaf = scene.raw()?;
    deaf.set_nonblocking(true)?;
    let requests = "*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(20_000);
    // As much as the socket takes.
    let _ = deaf.write(requests.as_bytes());
    for _ in 0..50 {
        scene.call(&["PING"])?;
        std::thread::sleep(Duration::from_millis(10));
        let grown = rss_kib(&scene.server)?.saturating_sub(scene.rss_before) / 1024;
        if grown > 128 {
            bail!("{grown} MiB of replies that nobody reads");
        }
    }
    drop(deaf);
    scene.wait_for("connected_clients", 1)?;
    scene.call(&["DEL", "big"]).map(drop)
}

/// Bytes of a poor generator from many connections, which are opened again when the server has had enough.
fn flood(scene: &mut Scene) -> Result<()> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..150 {
        let mut garbage = Vec::with_capacity(16_384);
        while garbage.len() < 16_384 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            garbage.extend_from_slice(&state.to_le_bytes());
            if state.is_multiple_of(11) {
                garbage.extend_from_slice(b"\r\n*2\r\n$3\r\n");
            }
        }
        let mut stream = scene.raw()?;
        let _ = stream.write_all(&garbage);
        scene.call(&["PING"])?;
    }
    scene.wait_for("connected_clients", 1)
}
