//! What the append-only file does over the life of the real program: with `appendfsync no`, rewritten by itself, moved in
//! from Redis 6, torn, with times in it. What it holds in memory meanwhile, other tests know.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

mod harness;

use std::fs;
use std::time::Duration;

use harness::{Client, Folder, Server, free_port, in_log, refusal, until};

/// A server with an append-only file in a folder, and more options.
fn logging(folder: &Folder, more: &[&str]) -> Server {
    let (port, dir) = (free_port(), folder.0.display().to_string());
    let text = port.to_string();
    let log = folder.path("log").display().to_string();
    let mut args = vec!["--port", &text, "--dir", &dir, "--logfile", &log, "--appendonly", "yes"];
    args.extend(more);
    let server = Server::larder(&args, port);
    // It answers while it loads, too.
    until("it has loaded", || server.ask("DBSIZE")[0].parse::<u64>().is_ok());
    server
}

/// A number or word of INFO persistence.
fn told(client: &mut Client, name: &str) -> String {
    let info = client.ask("INFO persistence").concat();
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {name} in {info}")).to_owned()
}

#[test]
fn without_forcing_a_kill_loses_nothing_that_the_system_was_given() {
    let folder = Folder::new("fsync-no");
    let options = ["--appendfsync", "no"];
    let server = logging(&folder, &options);
    for number in 0..100 {
        assert_eq!(server.ask(&format!("SET key:{number} {number}")), ["OK"]);
    }
    // Written at most some hundredths of a second later, though never forced to disk.
    let file = folder.path("appendonlydir/appendonly.aof.1.incr.aof");
    until("the last is written", || fs::read_to_string(&file).unwrap().contains("key:99"));
    drop(server);
    let mut server = logging(&folder, &options);
    assert_eq!(server.ask("DBSIZE"), ["100"]);
    server.ask("SET last write");
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
    assert_eq!(logging(&folder, &options).ask("GET last"), ["write"]);
}

#[test]
fn a_log_that_has_grown_is_rewritten_by_itself_and_less_often_where_that_fails() {
    let folder = Folder::new("auto-rewrite");
    let options = ["--auto-aof-rewrite-min-size", "100kb", "--auto-aof-rewrite-percentage", "100"];
    let server = logging(&folder, &options);
    let mut client = server.connect();
    let value = "x".repeat(2000);
    let grow = |client: &mut Client| {
        for _ in 0..100 {
            assert_eq!(client.ask(&format!("SET key {value}")), ["OK"]);
        }
    };
    grow(&mut client);
    until("it is rewritten", || told(&mut client, "aof_rewrites") != "0");
    until("it is small again", || {
        told(&mut client, "aof_current_size").parse::<u64>().unwrap() < 100 << 10
    });
    assert_eq!(told(&mut client, "aof_last_bgrewrite_status"), "ok");
    // Something is in the way of the next ones.
    let way = format!("appendonlydir/temp-rewriteaof-bg-{}.aof", server.child.id());
    fs::create_dir(folder.path(&way)).unwrap();
    grow(&mut client);
    until("three have failed", || told(&mut client, "aof_rewrites_consecutive_failures") == "3");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(told(&mut client, "aof_rewrites_consecutive_failures"), "3", "a minute apart now");
    assert_eq!(told(&mut client, "aof_last_bgrewrite_status"), "err");
    assert_eq!(client.ask("SET other value"), ["OK"], "the log itself is written on");
    fs::remove_dir(folder.path(&way)).unwrap();
    client.ask("BGREWRITEAOF");
    until("an asked one is not held back", || {
        told(&mut client, "aof_rewrites_consecutive_failures") == "0"
    });
    drop(server);
    let server = logging(&folder, &options);
    assert_eq!(server.ask("GET other"), ["value"]);
    assert_eq!(server.ask("STRLEN key"), ["2000"]);
}

#[test]
fn a_log_is_rewritten_where_none_is_written_and_begins_when_it_is_turned_on() {
    let folder = Folder::new("rewrite-alone");
    let options = ["--appendonly", "no"];
    let server = logging(&folder, &options);
    let mut client = server.connect();
    client.ask("SET key 1");
    client.ask("BGREWRITEAOF");
    until("it is written", || told(&mut client, "aof_rewrites") == "1");
    assert_eq!(told(&mut client, "aof_last_bgrewrite_status"), "ok");
    let named =
        || fs::read_to_string(folder.path("appendonlydir/appendonly.aof.manifest")).unwrap();
    assert!(named().contains(".base.rdb") && !named().contains(".incr.aof"), "{}", named());
    client.ask("SET key 2");
    // Off and on again within a moment, too.
    for turn in ["yes", "no", "yes"] {
        assert_eq!(client.ask(&format!("CONFIG SET appendonly {turn}")), ["OK"]);
    }
    until("it has begun", || told(&mut client, "aof_rewrite_in_progress") == "0");
    assert!(named().contains(".incr.aof"), "{}", named());
    assert_eq!(told(&mut client, "aof_enabled"), "1");
    client.ask("CONFIG SET appendfsync always");
    client.ask("SET key 3");
    drop(server);
    assert_eq!(logging(&folder, &[]).ask("GET key"), ["3"]);
}

#[test]
fn a_log_that_is_being_begun_at_the_end_is_completed() {
    let folder = Folder::new("begun-at-end");
    let mut server = logging(&folder, &["--appendonly", "no", "--enable-debug-command", "yes"]);
    let mut client = server.connect();
    assert_eq!(client.ask("DEBUG POPULATE 300000"), ["OK"]);
    assert_eq!(client.ask("CONFIG SET appendonly yes"), ["OK"]);
    assert_eq!(client.ask("SET key 1"), ["OK"]);
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
    let server = logging(&folder, &[]);
    assert_eq!(
        (server.ask("GET key"), server.ask("DBSIZE")),
        (vec!["1".into()], vec!["300001".into()])
    );
}

#[test]
fn writes_are_refused_after_a_save_that_failed_until_one_succeeds() {
    let folder = Folder::new("misconf");
    // No file may be called that.
    let long = "x".repeat(300);
    let options = ["--appendonly", "no", "--enable-protected-configs", "yes"];
    let server = logging(&folder, &[&options[..], &["--save", "3600 100000"]].concat());
    let mut client = server.connect();
    assert_eq!(client.ask("SET key 1"), ["OK"]);
    assert_eq!(client.ask(&format!("CONFIG SET dbfilename {long}")), ["OK"]);
    client.ask("BGSAVE");
    until("it fails", || told(&mut client, "rdb_last_bgsave_status") == "err");
    for refused in ["SET key 2", "DEL nokey", "PING"] {
        let told = client.ask(refused).concat();
        assert!(told.starts_with("MISCONF Redis is configured to save RDB snapshots"), "{told}");
    }
    assert_eq!(client.ask("GET key"), ["1"]);
    assert_eq!(client.ask("CONFIG SET stop-writes-on-bgsave-error no"), ["OK"]);
    assert_eq!(client.ask("SET key 2"), ["OK"]);
    assert_eq!(client.ask("CONFIG SET stop-writes-on-bgsave-error yes"), ["OK"]);
    assert!(client.ask("SET key 3")[0].starts_with("MISCONF"));
    assert_eq!(client.ask("CONFIG SET dbfilename dump.rdb"), ["OK"]);
    client.ask("BGSAVE");
    until("one succeeds", || told(&mut client, "rdb_last_bgsave_status") == "ok");
    assert_eq!(
        (client.ask("SET key 4"), client.ask("PING")),
        (vec!["OK".into()], vec!["PONG".into()])
    );
}

#[test]
fn a_single_file_of_redis_6_becomes_the_base() {
    let folder = Folder::new("adoption");
    // The first part in RDB form, as Redis 6 rewrites it.
    let port = free_port();
    let (text, dir) = (port.to_string(), folder.0.display().to_string());
    let saver = Server::larder(&["--port", &text, "--dir", &dir], port);
    saver.ask("RPUSH list a b c");
    assert_eq!(saver.ask("SAVE"), ["OK"]);
    drop(saver);
    let mut old = fs::read(folder.path("dump.rdb")).unwrap();
    fs::remove_file(folder.path("dump.rdb")).unwrap();
    old.extend(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\nold\r\n");
    old.extend(b"*3\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n$1\r\nd\r\n");
    fs::write(folder.path("appendonly.aof"), &old).unwrap();
    let server = logging(&folder, &[]);
    assert!(in_log(&folder, "old-style AOF"));
    assert_eq!(server.ask("GET key"), ["old"]);
    assert_eq!(server.ask("LRANGE list 0 -1"), ["a", "b", "c", "d"]);
    assert!(!folder.path("appendonly.aof").exists());
    assert_eq!(fs::read(folder.path("appendonlydir/appendonly.aof")).unwrap(), old);
    server.ask("SET key new");
    until("it is written", || {
        let increment = fs::read(folder.path("appendonlydir/appendonly.aof.1.incr.aof")).unwrap();
        increment.windows(3).any(|part| part == b"new")
    });
    drop(server);
    let server = logging(&folder, &[]);
    assert_eq!(server.ask("GET key"), ["new"]);
    server.ask("BGREWRITEAOF");
    until("the old file is gone", || !folder.path("appendonlydir/appendonly.aof").exists());
    drop(server);
    assert_eq!(logging(&folder, &[]).ask("GET key"), ["new"]);
}

#[test]
fn a_torn_end_is_cut_or_refused_as_the_option_says() {
    let folder = Folder::new("torn");
    let mut server = logging(&folder, &["--appendfsync", "always"]);
    server.ask("SET whole 1");
    server.signal("-TERM");
    assert_eq!(server.ended(), Some(0));
    let file = folder.path("appendonlydir/appendonly.aof.1.incr.aof");
    let whole = fs::read(&file).unwrap();
    let torn = [&whole[..], b"*3\r\n$3\r\nSET\r\n$4\r\ntorn\r\n$1"].concat();
    fs::write(&file, &torn).unwrap();
    let (port, dir) = (free_port().to_string(), folder.0.display().to_string());
    let args =
        ["--port", &port, "--dir", &dir, "--appendonly", "yes", "--aof-load-truncated", "no"];
    let told = refusal(&args);
    let place = format!("at byte {}", whole.len());
    assert!(told.contains("aof-load-truncated") && told.contains(&place), "{told}");
    assert_eq!(fs::read(&file).unwrap(), torn, "a refusal changes nothing");
    let server = logging(&folder, &["--aof-load-truncated", "yes"]);
    assert!(in_log(&folder, "short read while loading the AOF file"));
    assert_eq!(server.ask("GET whole"), ["1"]);
    assert_eq!(server.ask("EXISTS torn"), ["0"]);
    server.ask("SET after 2");
    until("it is written behind the cut", || {
        fs::read(&file).unwrap().windows(5).any(|part| part == b"after")
    });
    drop(server);
    let server = logging(&folder, &["--aof-load-truncated", "no"]);
    assert_eq!(
        (server.ask("GET after"), server.ask("GET whole")),
        (vec!["2".into()], vec!["1".into()])
    );
}

#[test]
fn times_are_noted_where_that_is_wanted_and_read_over_at_the_start() {
    let folder = Folder::new("timestamps");
    let options = ["--aof-timestamp-enabled", "yes", "--appendfsync", "always"];
    let server = logging(&folder, &options);
    server.ask("SET first 1");
    std::thread::sleep(Duration::from_millis(1100));
    server.ask("SET second 2");
    let text = fs::read_to_string(folder.path("appendonlydir/appendonly.aof.1.incr.aof")).unwrap();
    let times: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#TS:"))
        .map(|seconds| seconds.parse().unwrap())
        .collect();
    assert_eq!(times.len(), 2, "{text}");
    assert!(times[0] < times[1] && text.find("#TS:").unwrap() < text.find("first").unwrap());
    drop(server);
    let server = logging(&folder, &options);
    assert_eq!(
        (server.ask("GET first"), server.ask("GET second")),
        (vec!["1".into()], vec!["2".into()])
    );
    assert_eq!(server.ask("CONFIG SET aof-timestamp-enabled no"), ["OK"]);
}

/// SHUTDOWN and signals alike; what is configured for a signal is obeyed.
#[test]
fn a_server_that_cannot_save_goes_on_rather_than_end() {
    let folder = Folder::new("end-without-disk");
    let options = ["--appendonly", "no", "--save", "3600 1"];
    let mut server = logging(&folder, &options);
    let mut client = server.connect();
    assert_eq!(client.ask("SET key 1"), ["OK"]);
    // No file can replace it.
    fs::create_dir_all(folder.path("dump.rdb/full")).unwrap();
    assert_eq!(client.ask("SHUTDOWN"), ["ERR Errors trying to SHUTDOWN. Check logs."]);
    server.signal("-TERM");
    until("it is refused", || in_log(&folder, "Received SIGTERM"));
    until("it goes on", || in_log(&folder, "Error trying to save the DB, can't exit"));
    assert_eq!(client.ask("GET key"), ["1"]);
    fs::remove_dir_all(folder.path("dump.rdb")).unwrap();
    assert_eq!(client.ask("SHUTDOWN"), ["closed"]);
    assert_eq!(server.ended(), Some(0));
    let mut server = logging(&folder, &options);
    let mut client = server.connect();
    assert_eq!(client.ask("GET key"), ["1"]);
    assert_eq!(client.ask("SET key 2"), ["OK"]);
    assert_eq!(client.ask("CONFIG SET shutdown-on-sigint \"nosave now\""), ["OK"]);
    server.signal("-INT");
    assert_eq!(server.ended(), Some(0));
    let mut server = logging(&folder, &options);
    assert_eq!(server.ask("GET key"), ["1"]);
    assert_eq!(server.ask("SET key 3"), ["OK"]);
    fs::remove_file(folder.path("dump.rdb")).unwrap();
    fs::create_dir_all(folder.path("dump.rdb/full")).unwrap();
    assert_eq!(server.ask("SHUTDOWN SAVE FORCE"), ["closed"]);
    assert_eq!(server.ended(), Some(0));
    assert!(in_log(&folder, "The data was not saved"));
}
