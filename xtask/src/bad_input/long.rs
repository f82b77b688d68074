//! Arguments of megabytes, in any pieces and at any place: they take a way of their own through the server, and
//! must come out as they would of redis-server.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use larder_protocol::encode::encode_command;
use larder_protocol::response::Value;

use super::{Attack, Scene, raw, read_out, read_up_to};
use crate::process::Server;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "long arguments", options: &[], growth_mib_max: 200, run: long_arguments },
    Attack { name: "long and held back", options: &[], growth_mib_max: 100, run: held_back },
];

/// Two megabytes and a little more, not the same everywhere.
fn long(salt: usize) -> Vec<u8> {
    (0..2_100_000 + salt)
        .map(|at| b'a' + u8::try_from((at * 7 + at / 1000 + salt) % 26).unwrap_or(0))
        .collect()
}

fn requests(lists: &[&[&[u8]]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for words in lists {
        encode_command(&mut bytes, words);
    }
    bytes
}

/// What a server answers to bytes that come in pieces, up to the reply of a last request.
fn answer(server: &Server, bytes: &[u8], first: usize, piece: usize) -> Result<Vec<u8>> {
    const END: &[u8] = b"$15\r\nthe end is here\r\n";
    let mut stream = raw(server)?;
    let mut reader = stream.try_clone()?;
    reader.set_read_timeout(Some(Duration::from_secs(20)))?;
    let reading = std::thread::spawn(move || -> Result<Vec<u8>> {
        let (mut said, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while !said.ends_with(END) {
            let count = reader.read(&mut buffer).context("no reply in time")?;
            if count == 0 {
                bail!("closed after {} bytes", said.len());
            }
            said.extend_from_slice(&buffer[..count]);
        }
        Ok(said)
    });
    let whole = [bytes, b"ECHO \"the end is here\"\r\n"].concat();
    let (head, rest) = whole.split_at(first.min(whole.len()));
    stream.write_all(head)?;
    std::thread::sleep(Duration::from_millis(5));
    for chunk in rest.chunks(piece) {
        stream.write_all(chunk)?;
    }
    reading.join().map_err(|_| anyhow::anyhow!("the reader broke"))?
}

fn long_arguments(scene: &mut Scene) -> Result<()> {
    let (one, two) = (&long(0)[..], &long(5)[..]);
    let half = &one[..1_200_000];
    let cases: &[&[&[&[u8]]]] = &[
        &[&[b"SET", b"k", one, b"EX", b"100"], &[b"GET", b"k"], &[b"TTL", b"k"], &[b"DEL", b"k"]],
        &[&[b"SET", b"k", one], &[b"SET", b"k", two], &[b"APPEND", b"k", half], &[b"GET", b"k"]],
        &[
            &[b"MSET", b"a", one, b"b", two, b"c", half, b"d", b"x"],
            &[b"MGET", b"a", b"b", b"c", b"d"],
        ],
        &[&[b"PING"], &[b"SETEX", b"k", b"50", one], &[b"GETSET", b"k", two], &[b"STRLEN", b"k"]],
        &[&[b"SETRANGE", b"k", b"10", one], &[b"GETRANGE", b"k", b"5", b"30"], &[b"PING"]],
        &[
            &[b"HSET", b"h", b"f", one, b"g", b"x"],
            &[b"HGET", b"h", b"f"],
            &[b"RPUSH", b"l", two, one],
        ],
        &[&[b"LRANGE", b"l", b"0", b"-1"], &[b"DEL", b"l", b"h", b"a", b"b", b"c", b"k"]],
        &[&[b"MULTI"], &[b"SET", b"k", one], &[b"APPEND", b"k", b"y"], &[b"EXEC"], &[b"GET", b"k"]],
        &[
            &[b"SET", one, b"x"],
            &[b"GET", one],
            &[b"DEL", one],
            &[b"ECHO", two],
            &[b"LPUSH", b"k", one],
        ],
        &[
            &[b"SET", b"k", one, b"NX"],
            &[b"SET", b"k", two, b"XX", b"GET"],
            &[b"SET", b"k", half, b"oops"],
        ],
        &[&[b"GET", b"k"], &[b"DEL", b"k"]],
    ];
    for (number, case) in cases.iter().enumerate() {
        let bytes = requests(case);
        for (first, piece) in [(bytes.len(), 1), (20, 70_000), (34, 1_000_000), (100_000, 3_000)] {
            let ours = answer(&scene.server, &bytes, first, piece)?;
            let theirs = answer(&scene.oracle, &bytes, first, piece)?;
            if ours != theirs {
                let at = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
                bail!(
                    "case {number}, {first} bytes first: {} bytes instead of {}, different from {at} on",
                    ours.len(),
                    theirs.len()
                );
            }
        }
    }
    let name = answer(&scene.server, &requests(&[&[one, b"x"], &[b"PING"]]), 50, 100_000)?;
    if !name.starts_with(b"-ERR unknown command")
        || !name.ends_with(b"+PONG\r\n$15\r\nthe end is here\r\n")
    {
        bail!("a long name is answered by {} bytes", name.len());
    }
    Ok(())
}

/// A long argument whose command must wait for the end of a pause runs afterwards, and once.
fn held_back(scene: &mut Scene) -> Result<()> {
    let (one, bytes) =
        (long(0), requests(&[&[b"APPEND", b"held", &long(0)], &[b"STRLEN", b"held"]]));
    let mut other = scene.server.connect()?;
    let begun = Instant::now();
    other.call(&["CLIENT", "PAUSE", "1000", "WRITE"])?;
    let mut stream = raw(&scene.server)?;
    stream.write_all(&bytes)?;
    let (said, _) = read_out(&mut stream, Duration::from_millis(200))?;
    if !said.is_empty() && begun.elapsed() < Duration::from_secs(1) {
        bail!("answered {} while writes are held back", said.escape_ascii());
    }
    let wanted = format!(":{0}\r\n:{0}\r\n", one.len());
    let (later, _) = read_up_to(&mut stream, wanted.len() - said.len())?;
    if [&said[..], &later].concat() != wanted.as_bytes() {
        bail!("answered {} and {}", said.escape_ascii(), later.escape_ascii());
    }
    match other.call(&["GET", "held"])? {
        Value::Bulk(value) if value == one => Ok(()),
        _ => bail!("the value is another one"),
    }
}
