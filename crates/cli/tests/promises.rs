//! Promises that only the whole program can keep or break: no secret is shown anywhere, a flush does not make a save
//! fail, a save has no half transaction, an append-only file that only waits for its sync costs nothing, the log tells local time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Folder, PROGRAM, Server, free_port};

#[test]
fn no_secret_is_shown_whatever_the_commands_are_called() {
    let folder = Folder::new("secrets");
    let log = folder.path("log");
    let port = free_port();
    let conf = format!(
        "port {port}\nloglevel debug\nlogfile {}\nrequirepass s3cret-one\nrename-command AUTH letmein\n\
         rename-command CONFIG setup\nrename-command HELLO greet\nslowlog-log-slower-than 0\nslowlog-max-len 1000\n",
        log.display()
    );
    let server = Server::larder(&[&folder.file("larder.conf", &conf)], port);
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("letmein s3cret-one"), ["OK"]);
    assert_eq!(watcher.ask("MONITOR"), ["OK"]);
    let mut client = server.connect();
    assert!(client.ask("letmein s3cret-wrong")[0].starts_with("WRONGPASS"));
    assert_eq!(client.ask("letmein default s3cret-one"), ["OK"]);
    client.ask("greet 2 AUTH default s3cret-one SETNAME me");
    client.ask("greet 2 AUTH default s3cret-wrong");
    assert_eq!(client.ask("setup SET requirepass s3cret-two masterauth s3cret-three"), ["OK"]);
    client.ask("setup SET requirepass s3cret-four nosuchoption x");
    client.ask("setup SET requirepass s3cret-four port abc");
    client.ask("letmein s3cret-two s3cret-two s3cret-two");
    assert_eq!(client.ask("letmein s3cret-two"), ["OK"]);
    client.ask("MULTI");
    client.ask("letmein s3cret-two");
    client.ask("setup SET requirepass s3cret-five");
    client.ask("EXEC");
    let mut shown = client.ask("SLOWLOG GET -1");
    assert!(shown.iter().any(|text| text == "(redacted)"), "{shown:?}");
    for asked in [
        "CLIENT LIST",
        "CLIENT INFO",
        "INFO everything",
        "COMMANDLOG GET -1 large-request",
        "PING seen",
    ] {
        shown.extend(client.ask(asked));
    }
    loop {
        let mut line = String::new();
        watcher.0.read_line(&mut line).unwrap();
        let last = line.contains("seen");
        shown.push(line);
        if last {
            break;
        }
    }
    shown.push(fs::read_to_string(&log).unwrap());
    for text in &shown {
        assert!(!text.contains("s3cret"), "{text}");
    }
    let greeting = shown.iter().find(|text| text.contains("\"greet\"")).unwrap();
    assert!(greeting.contains("(redacted)"), "{greeting}");
}

#[test]
fn a_flush_begins_a_save_anew() {
    let folder = Folder::new("flush");
    let port = free_port();
    let (port_text, dir) = (port.to_string(), folder.0.display().to_string());
    let args = [
        "--port",
        &port_text,
        "--dir",
        &dir,
        "--save",
        "3600 1000000",
        "--enable-debug-command",
        "yes",
    ];
    let server = Server::larder(&args, port);
    let mut client = server.connect();
    for database in 0..3 {
        assert_eq!(client.ask(&format!("SELECT {database}")), ["OK"]);
        assert_eq!(client.ask("DEBUG POPULATE 200000"), ["OK"]);
    }
    // The flush comes while the save has just begun: they are sent together.
    let flushes = "FLUSHDB\r\n".repeat(3);
    client
        .0
        .get_mut()
        .write_all(format!("BGSAVE\r\n{flushes}SET after flush\r\n").as_bytes())
        .unwrap();
    let mut replies = Vec::new();
    for _ in 0..5 {
        client.reply(&mut replies);
    }
    assert_eq!(replies, ["Background saving started", "OK", "OK", "OK", "OK"]);
    let begun = Instant::now();
    let info = loop {
        let info = client.ask("INFO persistence").concat();
        if info.contains("rdb_bgsave_in_progress:0") {
            break info;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{info}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
    assert_eq!(client.ask("SET more writes"), ["OK"]);
    assert!(folder.path("dump.rdb").exists());
}

#[test]
fn a_save_within_a_transaction_has_all_of_it() {
    let folder = Folder::new("half");
    let dir = folder.0.display().to_string();
    let start = || {
        let port = free_port();
        Server::larder(&["--port", &port.to_string(), "--dir", &dir, "--save", ""], port)
    };
    let server = start();
    let mut client = server.connect();
    for (line, answer) in
        [("MULTI", "OK"), ("SET a 1", "QUEUED"), ("BGSAVE", "QUEUED"), ("SET b 1", "QUEUED")]
    {
        assert_eq!(client.ask(line), [answer]);
    }
    assert_eq!(client.ask("EXEC"), ["OK", "Background saving scheduled", "OK"]);
    let begun = Instant::now();
    while !client.ask("INFO persistence").concat().contains("rdb_saves:1") {
        assert!(begun.elapsed() < Duration::from_secs(20), "no save");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop((client, server));
    let server = start();
    while server.ask("DBSIZE")[0].contains("LOADING") {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.ask("MGET a b"), ["1", "1"]);
}

/// Nanoseconds that the threads of a process with this name have run.
#[cfg(target_os = "linux")]
fn thread_time(pid: u32, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let times = tasks.map(|task| {
        let path = task.unwrap().path();
        if fs::read_to_string(path.join("comm")).unwrap().trim_end() != name {
            return 0;
        }
        let text = fs::read_to_string(path.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    times.sum()
}

/// Between the write and its sync, half a second later, the thread of the append-only file sleeps.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_waits_for_its_sync_costs_nothing() {
    let folder = Folder::new("sync");
    let port = free_port();
    let (port_text, dir) = (port.to_string(), folder.0.display().to_string());
    let args = ["--port", &port_text, "--dir", &dir, "--appendonly", "yes"];
    let server = Server::larder(&args, port);
    let mut client = server.connect();
    while client.ask("SET key begins") != ["OK"] {
        // It answers while it loads what is there, be it nothing.
        std::thread::sleep(Duration::from_millis(10));
    }
    let (before, begun) = (thread_time(server.child.id(), "aof"), Instant::now());
    for number in 0..5 {
        assert_eq!(client.ask(&format!("SET key {number}")), ["OK"]);
        std::thread::sleep(Duration::from_millis(300));
    }
    let ran = Duration::from_nanos(thread_time(server.child.id(), "aof") - before);
    assert!(ran * 20 < begun.elapsed(), "{ran:?} of {:?}", begun.elapsed());
}

#[test]
fn the_log_tells_local_time() {
    let port = free_port();
    let mut child = Command::new(PROGRAM)
        .args(["--port", &port.to_string()])
        .env("TZ", "XXX-5:30")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let utc_s =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    child.kill().unwrap();
    child.wait().unwrap();
    let clock = line.split(' ').nth(4).unwrap();
    let parts: Vec<u64> = clock.split([':', '.']).map(|part| part.parse().unwrap()).collect();
    let told_s = parts[0] * 3600 + parts[1] * 60 + parts[2];
    let local_s = (utc_s + 5 * 3600 + 30 * 60) % 86_400;
    // The line may be some seconds old.
    assert!((local_s + 86_400 - told_s) % 86_400 < 60, "{line}");
}
