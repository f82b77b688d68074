//! Replicas of the real program: those who wait share a copy, those who ask are shown out, and what clients write into
//! one goes when it is due.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where it is surprised"
)]

use std::io::{BufRead, Write};
use std::time::Duration;

mod harness;

use harness::{Client, Folder, Server, in_log, until};

fn asking(server: &Server) -> Client {
    let mut client = server.connect();
    assert_eq!(client.ask("REPLCONF capa eof capa psync2"), ["OK"]);
    client.0.get_mut().write_all(b"PSYNC ? -1\r\n").unwrap();
    client
}

/// The first line that is no sign of life.
fn line(client: &mut Client) -> String {
    loop {
        let mut line = String::new();
        client.0.read_line(&mut line).unwrap();
        if !line.trim().is_empty() {
            return line;
        }
    }
}

#[test]
fn those_who_wait_for_a_copy_share_it() {
    let folder = Folder::new("shared-copy");
    let options = ["--repl-diskless-sync-delay", "3600", "--repl-diskless-sync-max-replicas", "2"];
    let server = Server::in_folder(&folder, &options);
    assert_eq!(server.ask("SET key 1"), ["OK"]);
    let waits = || server.ask("INFO replication")[0].contains("slave0:");
    let mut one = asking(&server);
    until("it waits", || server.ask("INFO replication")[0].contains("state=wait_bgsave"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(waits() && server.ask("INFO stats")[0].contains("sync_full:0"));
    let mut two = asking(&server);
    let (first, second) = (line(&mut one), line(&mut two));
    assert!(first.starts_with("+FULLRESYNC"), "{first}");
    assert_eq!(first, second);
    until("it is told", || in_log(&folder, "for 2 replicas"));
}

#[test]
fn a_replica_that_asks_is_shown_out() {
    let folder = Folder::new("asking-replica");
    let server = Server::in_folder(&folder, &["--repl-diskless-sync-delay", "3600"]);
    let mut replica = asking(&server);
    replica.0.get_mut().write_all(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n").unwrap();
    until("it is told", || in_log(&folder, "Replica generated a reply to command 'get'"));
    until("it goes", || server.ask("INFO replication")[0].contains("connected_slaves:0"));
    let mut unknown = asking(&server);
    unknown.0.get_mut().write_all(b"*1\r\n$6\r\nNOSUCH\r\n").unwrap();
    until("it is told", || in_log(&folder, "Replica generated a reply to command '<unset>'"));
    until("it goes", || server.ask("INFO replication")[0].contains("connected_slaves:0"));
    let wrong = "asks for synchronization but with a wrong offset";
    assert_eq!(server.ask("PSYNC ? ? ?"), ["ERR syntax error"]);
    assert!(!in_log(&folder, wrong));
    assert_eq!(server.ask("PSYNC ? none"), ["ERR value is not an integer or out of range"]);
    assert!(in_log(&folder, wrong));
}

#[test]
fn what_clients_write_into_a_replica_goes_when_it_is_due() {
    let (folder, other) = (Folder::new("of-replica"), Folder::new("of-replica-primary"));
    let primary = Server::in_folder(&other, &[]);
    let replicaof = format!("127.0.0.1 {}", primary.port);
    let replica =
        Server::in_folder(&folder, &["--replicaof", &replicaof, "--replica-read-only", "no"]);
    until("it follows", || replica.ask("INFO replication")[0].contains("master_link_status:up"));
    assert_eq!(primary.ask("SET theirs 1"), ["OK"]);
    until("it came", || replica.ask("DBSIZE") == ["1"]);
    let mut client = replica.connect();
    assert_eq!(client.ask("SET own 1 PX 2000"), ["OK"]);
    assert_eq!(client.ask("SET longer 1 PX 2000"), ["OK"]);
    assert_eq!(client.ask("PEXPIRE longer 3600000"), ["1"]);
    client.ask("MULTI");
    client.ask("SET within 1");
    client.ask("PEXPIRE within 2000");
    assert_eq!(client.ask("EXEC"), ["OK", "1"]);
    assert_eq!(client.ask("DBSIZE"), ["4"]);
    until("two go", || client.ask("DBSIZE") == ["2"]);
    assert_eq!(client.ask("EXISTS theirs longer"), ["2"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.ask("DBSIZE"), ["2"]);
}

/// What is due is hidden in a replica until its primary says that it goes; a write must not bring its deadline back.
#[test]
fn a_write_into_a_replica_begins_where_what_is_due_ends() {
    let (folder, other) = (Folder::new("of-writer"), Folder::new("of-writer-primary"));
    let primary = Server::in_folder(&other, &["--enable-debug-command", "yes"]);
    assert_eq!(primary.ask("DEBUG SET-ACTIVE-EXPIRE 0"), ["OK"]);
    let replicaof = format!("127.0.0.1 {}", primary.port);
    let replica =
        Server::in_folder(&folder, &["--replicaof", &replicaof, "--replica-read-only", "no"]);
    until("it follows", || replica.ask("INFO replication")[0].contains("master_link_status:up"));
    assert_eq!(primary.ask("SET one 5 PX 20"), ["OK"]);
    assert_eq!(primary.ask("SET two 5 PX 20"), ["OK"]);
    until("they came and are due", || {
        replica.ask("DBSIZE") == ["2"] && replica.ask("EXISTS one two") == ["0"]
    });
    let mut client = replica.connect();
    assert_eq!(client.ask("INCR one"), ["1"]);
    assert_eq!(client.ask("TTL one"), ["-1"]);
    assert_eq!(client.ask("MULTI"), ["OK"]);
    client.ask("EXISTS two");
    client.ask("INCR two");
    assert_eq!(client.ask("EXEC"), ["0", "1"]);
    assert_eq!(client.ask("TTL two"), ["-1"]);
}
