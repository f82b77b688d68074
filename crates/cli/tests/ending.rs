//! Ends the real program while a replica lacks something: it is served on, changes nothing, and the end comes, fails or
//! is called off. The replica is the test itself, which acknowledges when it likes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

use std::fs;
use std::io::{BufRead, Read, Write};
use std::time::Duration;

mod harness;

use harness::{Client, Folder, Server, in_log, until};

const REFUSAL: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// A server whose replicas are not asked for signs of life meanwhile.
fn started(folder: &Folder, options: &[&str]) -> Server {
    Server::in_folder(folder, &[&["--repl-ping-replica-period", "3600"], options].concat())
}

/// One that follows and acknowledges nothing of itself.
struct Replica(Client);

impl Replica {
    fn of(server: &Server) -> Replica {
        let mut client = server.connect();
        assert_eq!(client.ask("REPLCONF capa psync2"), ["OK"]);
        client.0.get_mut().write_all(b"PSYNC ? -1\r\n").unwrap();
        let mut line = String::new();
        client.0.read_line(&mut line).unwrap();
        assert!(line.starts_with("+FULLRESYNC"), "{line}");
        while !line.starts_with('$') {
            // Empty lines are signs of life.
            line.clear();
            client.0.read_line(&mut line).unwrap();
        }
        let mut file = vec![0; line[1..].trim_end().parse().unwrap()];
        client.0.read_exact(&mut file).unwrap();
        let replica = Replica(client);
        // No sign of life comes within an hour.
        until("it follows", || {
            let info = server.ask("INFO replication").remove(0);
            info.contains("state=online") && info.contains("master_repl_offset:0\r\n")
        });
        replica
    }

    /// Acknowledges everything that there is.
    fn acknowledge(&mut self, server: &Server) {
        let info = server.ask("INFO replication").remove(0);
        let (_, rest) = info.split_once("master_repl_offset:").unwrap();
        let offset = rest.lines().next().unwrap();
        let size = offset.len();
        let request = format!("*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n${size}\r\n{offset}\r\n");
        self.0.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// The same, where nothing happens when it is heard.
    fn acknowledge_and_be_heard(&mut self, server: &Server) {
        self.acknowledge(server);
        until("it is heard", || {
            let info = server.ask("INFO replication").remove(0);
            let of = |name: &str, end: &[char]| {
                let (_, text) = info.split_once(name).unwrap();
                text.split(end).next().unwrap().parse::<u64>().unwrap()
            };
            of(",offset=", &[',']) == of("master_repl_offset:", &['\r'])
        });
    }
}

fn begin_shutdown(server: &Server, words: &str) -> Client {
    let mut client = server.connect();
    let id = client.ask("CLIENT ID").remove(0);
    client.0.get_mut().write_all(format!("SHUTDOWN {words}\r\n").as_bytes()).unwrap();
    until("the end waits", || {
        server.ask("INFO server")[0].contains("shutdown_in_milliseconds:")
            && server.ask(&format!("CLIENT LIST ID {id}"))[0].contains("cmd=shutdown")
    });
    client
}

#[test]
fn an_end_waits_for_replicas_and_serves_on() {
    let folder = Folder::new("end-waits");
    for way in ["SHUTDOWN", "-TERM"] {
        let mut server = started(&folder, &["--shutdown-timeout", "300"]);
        let mut replica = Replica::of(&server);
        assert_eq!(server.ask("SET key 1"), ["OK"]);
        if way == "SHUTDOWN" {
            begin_shutdown(&server, "");
            // A second one waits along.
            begin_shutdown(&server, "");
        } else {
            server.signal(way);
        }
        until("the end waits", || {
            server.ask("INFO server")[0].contains("shutdown_in_milliseconds:")
        });
        assert_eq!(server.ask("GET key"), ["1"]);
        let mut writer = server.connect();
        writer.0.get_mut().write_all(b"SET key 2\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.ask("GET key"), ["1"], "nothing is changed any more");
        replica.acknowledge(&server);
        assert_eq!(server.ended(), Some(0));
        assert!(writer.is_closed_within(Duration::from_secs(1)), "it was never answered");
        assert!(in_log(&folder, "1 of 1 replicas are in sync"));
        assert!(!in_log(&folder, "Lagging replica"));
    }
}

#[test]
fn an_end_that_waits_comes_when_its_time_is_over_or_is_hurried() {
    let folder = Folder::new("end-comes");
    for timeout in ["3", "300"] {
        let mut server = started(&folder, &["--shutdown-timeout", timeout]);
        let _replica = Replica::of(&server);
        assert_eq!(server.ask("SET key 1"), ["OK"]);
        begin_shutdown(&server, "NOSAVE");
        let memory = server.ask("INFO memory").remove(0);
        assert!(!memory.contains("mem_total_replication_buffers:0\r\n"), "{memory}");
        if timeout == "300" {
            assert_eq!(server.ask("SHUTDOWN NOW"), ["closed"]);
        }
        assert_eq!(server.ended(), Some(0));
        assert!(in_log(&folder, "Lagging replica") && in_log(&folder, "0 of 1 replicas"));
    }
}

#[test]
fn an_end_that_waits_can_be_called_off() {
    let folder = Folder::new("end-called-off");
    let mut server = started(&folder, &["--shutdown-timeout", "300"]);
    let mut replica = Replica::of(&server);
    assert_eq!(server.ask("SET key 1"), ["OK"]);
    let mut waiting = [begin_shutdown(&server, ""), begin_shutdown(&server, "SAVE")];
    let info = server.ask("INFO clients").remove(0);
    assert!(info.contains("blocked_clients:2"), "{info}");
    assert_eq!(server.ask("SHUTDOWN ABORT"), ["OK"]);
    assert_eq!(server.ask("SHUTDOWN ABORT"), ["ERR No shutdown in progress."]);
    for client in &mut waiting {
        let mut texts = Vec::new();
        client.reply(&mut texts);
        assert_eq!(texts, [REFUSAL]);
        assert_eq!(client.ask("PING"), ["PONG"]);
    }
    assert!(in_log(&folder, "Shutdown manually aborted"));
    assert_eq!(server.ask("SET key 2"), ["OK"]);
    // It may be asked for again, and finds nobody who lacks anything.
    replica.acknowledge_and_be_heard(&server);
    assert_eq!(server.ask("SHUTDOWN"), ["closed"]);
    assert_eq!(server.ended(), Some(0));
}

/// What is wanted at the end may fail after the wait: then everybody goes on.
#[test]
fn an_end_that_fails_after_its_wait_is_none() {
    let folder = Folder::new("end-fails");
    let mut server = started(&folder, &["--shutdown-timeout", "300"]);
    let mut replica = Replica::of(&server);
    assert_eq!(server.ask("SET key 1"), ["OK"]);
    let mut waiting = begin_shutdown(&server, "SAVE");
    // No file can replace it.
    fs::create_dir_all(folder.path("dump.rdb/full")).unwrap();
    replica.acknowledge(&server);
    let mut texts = Vec::new();
    waiting.reply(&mut texts);
    assert_eq!(texts, [REFUSAL]);
    assert!(in_log(&folder, "Errors trying to shut down"));
    assert_eq!(server.ask("SET key 2"), ["OK"]);
    // A log whose first base is not written yet would not be found by the next start.
    assert_eq!(server.ask("CONFIG SET rdb-key-save-delay 30000000"), ["OK"]);
    replica.acknowledge_and_be_heard(&server);
    // Whether the thread of the log has heard of it yet or not.
    let mut client = server.connect();
    client.0.get_mut().write_all(b"CONFIG SET appendonly yes\r\nSHUTDOWN NOSAVE\r\n").unwrap();
    let mut texts = Vec::new();
    client.reply(&mut texts);
    client.reply(&mut texts);
    assert_eq!(texts, ["OK", REFUSAL]);
    until("the log begins", || {
        server.ask("INFO persistence")[0].contains("aof_rewrite_in_progress:1")
    });
    assert_eq!(server.ask("SHUTDOWN NOSAVE"), [REFUSAL]);
    assert!(in_log(&folder, "Writing initial AOF, can't exit"));
    assert_eq!(server.ask("SHUTDOWN NOSAVE FORCE"), ["closed"]);
    assert_eq!(server.ended(), Some(0));
}
