//! Nanoseconds of parsing a request, writing a reply and hashing a key, printed as a table.
//!
//! `cargo run --profile quick -p larder-protocol --example speed`

use std::hint::black_box;
use std::time::Instant;

use larder_base::{KeyHasher, Slot, glob, number};
use larder_protocol::{Reply, RequestLimits, RequestParser, Step, Version, encode_command};

/// Commands in one buffer, as a pipelining client sends them.
const PIPELINE: usize = 64;
const ROUNDS: usize = 20_000;

fn main() {
    let key = b"key:0123456789ab".as_slice();
    let short_key = b"key:012345678".as_slice();
    let value = [b'v'; 32];
    parse("parse GET key16", &[b"GET", key]);
    parse("parse SET key16 value32", &[b"SET", key, &value]);
    parse("parse PING", &[b"PING"]);
    parse("parse MSET, 21 arguments", &[key; 21]);
    write("write +OK", |reply| reply.ok());
    write("write :7", |reply| reply.integer(black_box(7)));
    write("write :1234567", |reply| reply.integer(black_box(1_234_567)));
    write("write bulk 32", |reply| reply.bulk(black_box(&value)));
    write("write bulk 1000", |reply| reply.bulk(black_box(&[b'v'; 1000])));
    write("write null", |reply| reply.null());
    write("write double 2.5", |reply| reply.double(black_box(2.5)));
    write("write double 7", |reply| reply.double(black_box(7.0)));
    let hasher = KeyHasher::new(1, 2);
    one("siphash-1-3 of 16 bytes", || hasher.hash(black_box(key)));
    one("siphash-1-3 of 13 bytes", || hasher.hash(black_box(short_key)));
    one("crc16 of 16 bytes", || larder_base::slot::crc16(black_box(key)));
    one("slot of a 16-byte key", || Slot::of_key(black_box(key)));
    one("parse_i64 of 10 digits", || number::parse_i64(black_box(b"1234567890")));
    one("parse_f64 of 12.345", || number::parse_f64(black_box(b"12.345")));
    one("glob key:*ab", || glob::matches(black_box(b"key:*ab"), black_box(key)));
}

fn print(name: &str, started: Instant, count: usize) {
    println!("{name:32} {:8.2} ns", started.elapsed().as_nanos() as f64 / count as f64);
}

fn one<T>(name: &str, mut act: impl FnMut() -> T) {
    let started = Instant::now();
    for _ in 0..ROUNDS * PIPELINE {
        black_box(act());
    }
    print(name, started, ROUNDS * PIPELINE);
}

fn parse(name: &str, command: &[&[u8]]) {
    let mut buf = Vec::new();
    for _ in 0..PIPELINE {
        encode_command(&mut buf, command);
    }
    let limits = RequestLimits::default();
    let mut parser = RequestParser::default();
    let mut args = Vec::new();
    let started = Instant::now();
    for _ in 0..ROUNDS {
        let mut rest = black_box(buf.as_slice());
        while let Ok(Step::Request { consumed }) = parser.next(rest, &limits, &mut args) {
            assert_eq!(black_box(&args).len(), command.len());
            rest = rest.get(consumed..).unwrap_or_default();
        }
        assert!(rest.is_empty());
    }
    print(name, started, ROUNDS * PIPELINE);
}

fn write(name: &str, act: impl Fn(&mut Reply<'_>)) {
    let mut out = Vec::new();
    let started = Instant::now();
    for _ in 0..ROUNDS {
        out.clear();
        for _ in 0..PIPELINE {
            act(&mut Reply::new(black_box(&mut out), Version::Resp2));
        }
        black_box(&out);
    }
    print(name, started, ROUNDS * PIPELINE);
}
