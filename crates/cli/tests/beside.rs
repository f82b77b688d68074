//! Replicas of the real program that load their primary's data beside their own (`repl-diskless-load swapdb`). It must never talk
//! to a server that it did not start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

mod harness;

use harness::{Folder, Server, until};

fn has(server: &Server, words: &str) -> bool {
    server.ask("INFO")[0].lines().any(|line| line == words)
}

/// A primary with 500 keys, whose copies take half a minute.
fn primary(folder: &Folder) -> Server {
    let options = [
        "--repl-diskless-sync",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
        "--repl-changed-keys",
        "0",
        "--rdb-key-save-delay",
        "60000",
        "--enable-debug-command",
        "yes",
    ];
    let server = Server::in_folder(folder, &options);
    assert_eq!(server.ask("DEBUG POPULATE 500 primary 30000"), ["OK"]);
    server
}

fn replica(folder: &Folder) -> Server {
    let options =
        ["--repl-diskless-load", "swapdb", "--replica-read-only", "no", "--repl-changed-keys", "0"];
    let server = Server::in_folder(folder, &options);
    assert_eq!(server.ask("MSET own 1 two 2"), ["OK"]);
    server
}

fn follow(replica: &Server, primary: &Server) {
    assert_eq!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), ["OK"]);
}

/// The link breaks, and no other copy begins.
fn break_off(primary: &Server) {
    assert_eq!(primary.ask("CONFIG SET repl-diskless-sync-delay 3600"), ["OK"]);
    assert_eq!(primary.ask("CLIENT KILL TYPE replica"), ["1"]);
}

/// Another copy comes, quickly: then there is nothing but the primary's keys.
fn copy_to_the_end(primary: &Server, replica: &Server, keys: &str) {
    let settings = "CONFIG SET rdb-key-save-delay 0 repl-diskless-sync-delay 0";
    assert_eq!(primary.ask(settings), ["OK"]);
    until("it is linked", || has(replica, "master_link_status:up"));
    assert_eq!(replica.ask("EXISTS own"), ["0"]);
    assert_eq!(replica.ask("DBSIZE"), [keys]);
}

#[test]
fn data_of_another_history_comes_back_when_the_link_breaks() {
    let folders = ["beside-primary", "beside-replica"].map(Folder::new);
    let (primary, replica) = (primary(&folders[0]), replica(&folders[1]));
    follow(&replica, &primary);
    until("it loads", || has(&replica, "loading:1"));
    assert!(has(&replica, "async_loading:0"));
    assert!(replica.ask("GET own")[0].starts_with("LOADING"));
    break_off(&primary);
    until("it gives up", || has(&replica, "loading:0"));
    assert_eq!(replica.ask("MGET own two"), ["1", "2"]);
    assert_eq!(replica.ask("DBSIZE"), ["2"]);
    copy_to_the_end(&primary, &replica, "500");
}

#[test]
fn data_of_the_same_history_is_served_meanwhile() {
    let folders = ["same-primary", "same-replica"].map(Folder::new);
    let (primary, replica) = (primary(&folders[0]), replica(&folders[1]));
    assert_eq!(primary.ask("CONFIG SET rdb-key-save-delay 0"), ["OK"]);
    follow(&replica, &primary);
    until("it is linked", || has(&replica, "master_link_status:up"));
    assert_eq!(replica.ask("SET own 3"), ["OK"]);
    let mut watcher = replica.connect();
    assert_eq!(watcher.ask("WATCH own"), ["OK"]);
    // It comes back for more than is kept.
    assert_eq!(primary.ask("CONFIG SET rdb-key-save-delay 60000"), ["OK"]);
    replica.signal("-STOP");
    assert_eq!(primary.ask("CONFIG SET repl-backlog-size 16kb"), ["OK"]);
    assert_eq!(primary.ask("CLIENT KILL TYPE replica"), ["1"]);
    until("it is forgotten", || has(&primary, "connected_slaves:0"));
    let piece = "x".repeat(20_000);
    for number in 0..20 {
        assert_eq!(primary.ask(&format!("SET more:{number} {piece}")), ["OK"]);
    }
    replica.signal("-CONT");
    until("it loads", || has(&replica, "async_loading:1"));
    assert!(has(&replica, "loading:0"));
    assert_eq!(
        (replica.ask("GET own"), replica.ask("DBSIZE")),
        (vec!["3".into()], vec!["501".into()])
    );
    for line in ["REPLICAOF NO ONE", "BGSAVE", "CONFIG SET appendonly no", "CONFIG SET dir ."] {
        assert!(replica.ask(line)[0].starts_with("LOADING"), "{line}");
    }
    assert!(has(&replica, "async_loading:1"));
    break_off(&primary);
    until("it gives up", || has(&replica, "async_loading:0"));
    assert_eq!(
        (replica.ask("GET own"), replica.ask("DBSIZE")),
        (vec!["3".into()], vec!["501".into()])
    );
    copy_to_the_end(&primary, &replica, "520");
    // Who watched a key that has gone hears of it, and what follows is the primary's stream.
    watcher.ask("MULTI");
    watcher.ask("PING");
    assert_eq!(watcher.ask("EXEC"), ["nil"]);
    assert_eq!(primary.ask("SET after 1"), ["OK"]);
    until("it follows", || replica.ask("GET after") == ["1"]);
}
