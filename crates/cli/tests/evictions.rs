//! Starts the real program and watches which keys go at the memory limit: no more than the data is too much. It must never touch
//! a server that it did not start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

mod harness;

use harness::{Client, Folder, Server, until};

/// A figure of INFO.
fn figure(server: &Server, name: &str) -> i64 {
    let text = server.ask("INFO").remove(0);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
    line.parse().unwrap()
}

/// What a replica has yet to be sent is none of the data: were keys to go for it, their ends had to be sent, too.
#[test]
fn no_key_goes_because_a_replica_does_not_read() {
    let folders = ["lag-primary", "lag-replica"].map(Folder::new);
    let primary = Server::in_folder(
        &folders[0],
        &["--maxmemory-policy", "allkeys-random", "--repl-backlog-size", "16kb"],
    );
    for number in 0..100 {
        primary.ask(&format!("SETRANGE key:{number} 10000 x"));
    }
    let replica = Server::in_folder(
        &folders[1],
        &["--replicaof", &format!("127.0.0.1 {}", primary.port), "--workers", "1"],
    );
    until("they are linked", || replica.ask("INFO replication")[0].contains("link_status:up"));
    replica.signal("-STOP");
    let limit = figure(&primary, "used_memory") + (2 << 20);
    assert_eq!(primary.ask(&format!("CONFIG SET maxmemory {limit}")), ["OK"]);
    let (mut writer, line) = (primary.connect(), "x".repeat(20_000));
    // More than the kernel takes on its way.
    for _ in 0..2000 {
        assert_eq!(writer.ask(&format!("SETRANGE key:0 0 {line}")), ["20000"]);
    }
    assert!(figure(&primary, "mem_not_counted_for_evict") > 10 << 20);
    assert!(figure(&primary, "used_memory") > limit);
    assert_eq!((figure(&primary, "evicted_keys"), primary.ask("DBSIZE")[0].as_str()), (0, "100"));
    replica.signal("-CONT");
    until("it has all", || figure(&primary, "mem_not_counted_for_evict") < 1 << 20);
}

/// That keys go is told to those who cached them, which takes memory for a moment: no reason for more keys to go.
#[test]
fn few_keys_go_although_many_hear_of_it() {
    let folder = Folder::new("invalidations");
    let options = ["--maxmemory-policy", "allkeys-lru", "--maxmemory-eviction-tenacity", "100"];
    let server = Server::in_folder(&folder, &[&options[..], &["--workers", "1"]].concat());
    let mut writer = server.connect();
    let mut readers: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for reader in &mut readers {
        reader.ask("HELLO 3");
        assert_eq!(reader.ask("CLIENT TRACKING ON"), ["OK"]);
    }
    for number in 0..300 {
        let key = format!("{number}{}", "k".repeat(1000));
        assert_eq!(writer.ask(&format!("SET {key} x")), ["OK"]);
        for reader in &mut readers {
            assert_eq!(reader.ask(&format!("GET {key}")), ["x"]);
        }
    }
    let limit = figure(&server, "used_memory") - 40_000;
    assert_eq!(writer.ask(&format!("CONFIG SET maxmemory {limit}")), ["OK"]);
    for _ in 0..5 {
        let left: i64 = writer.ask("DBSIZE")[0].parse().unwrap();
        assert!((170..300).contains(&left), "{left} keys of 300 are left");
    }
}
