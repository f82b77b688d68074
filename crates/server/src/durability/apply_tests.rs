//! Streams, repeated on a server without workers.

use larder_cluster::replication::Offset;
use larder_protocol::encode::encode_command;

use super::*;
use crate::config::Config;
use crate::durability::journal::Mode;
use crate::listening::Doors;
use crate::shared::{AllocatorFigures, MemoryProbe};

fn server() -> Server {
    let memory = MemoryProbe {
        used: || 0,
        allocator: "none",
        figures: AllocatorFigures::default,
        report: String::new,
        purge: || (),
        make_huge: || (),
    };
    Server::new(Config::default(), None, Doors::default(), Vec::new(), memory, [1, 2])
}

/// Repeats these lines; returns what each was, and the bytes that it was in the stream.
fn play(server: &Server, lines: &[&str]) -> (Vec<Result<Applied, String>>, Vec<u8>) {
    let mut applier = Applier::new(server, DbIndex(0));
    let mut apart = server.apart.lock();
    let mut stream = Vec::new();
    let mut results = Vec::new();
    for line in lines {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut raw = Vec::new();
        encode_command(&mut raw, &words);
        stream.extend_from_slice(&raw);
        let result = applier.apply(&mut apart, Args::new(&words), &raw);
        results.push(result.map_err(|error| error.to_string()));
    }
    (results, stream)
}

fn text(server: &Server, db: u8, key: &str) -> Option<String> {
    let at = server.keyspace.locate(key.as_bytes());
    let mut view = server.keyspace.view(&server.settings, DbIndex(db), &[at], now());
    let text = view.read_string(key.as_bytes()).expect("a string")?;
    Some(String::from_utf8_lossy(&text.to_vec()).into_owned())
}

fn recorded(server: &Server) -> Vec<u8> {
    let parts = server.journal.read(Offset(0), usize::MAX).expect("within reach");
    parts.iter().flat_map(|part| part.bytes().to_vec()).collect()
}

#[test]
fn a_stream_is_repeated_and_passed_on_byte_by_byte() {
    let server = server();
    server.set_journal(Mode::Follows, Some(Offset(0)));
    let lines = [
        "SELECT 3",
        "SET a 1",
        "INCR a",
        "PING",
        "MULTI",
        "SET b x",
        "SELECT 4",
        "SET c y",
        "EXEC",
        "REPLCONF GETACK *",
        "SWAPDB 3 5",
        "SET d z",
        "MULTI",
        "FLUSHDB",
        "SET e 1",
        "EXEC",
    ];
    let (results, stream) = play(&server, &lines);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!((&results[3], &results[9]), (&Ok(Applied::Ping), &Ok(Applied::GetAck)));
    assert_eq!(text(&server, 5, "a").as_deref(), Some("2"));
    assert_eq!(text(&server, 5, "b").as_deref(), Some("x"));
    assert_eq!(text(&server, 4, "c"), None, "flushed by the last transaction");
    assert_eq!(text(&server, 4, "e").as_deref(), Some("1"));
    assert_eq!(recorded(&server), stream);
    assert_eq!(server.journal.database(), Some(DbIndex(4)));
    let reader = server.journal.join(Offset(0)).expect("the beginning");
    let marks = reader.marks(&server.journal, Offset(0)).expect("current");
    assert_eq!(marks.hidden.len(), 2, "PING and GETACK");
}

#[test]
fn a_transaction_that_is_given_up_selects_nothing() {
    let server = server();
    server.set_journal(Mode::Follows, Some(Offset(0)));
    let mut applier = Applier::new(&server, DbIndex(2));
    let mut apart = server.apart.lock();
    let mut play = |applier: &mut Applier<'_>, words: &[&[u8]]| {
        let mut raw = Vec::new();
        encode_command(&mut raw, words);
        applier.apply(&mut apart, Args::new(words), &raw).expect("repeated");
    };
    play(&mut applier, &[b"MULTI"]);
    play(&mut applier, &[b"SELECT", b"7"]);
    play(&mut applier, &[b"SET", b"a", b"1"]);
    applier.give_up_transaction();
    // The next link begins before the transaction: there the stream was in the database before it.
    assert!(!applier.is_in_transaction());
    play(&mut applier, &[b"SET", b"b", b"2"]);
    drop(apart);
    assert_eq!(text(&server, 7, "b"), None);
    assert_eq!(text(&server, 2, "b").as_deref(), Some("2"));
    assert_eq!(server.journal.database(), Some(DbIndex(2)));
}

#[test]
fn what_is_due_lives_until_the_stream_says_so() {
    let server = server();
    server.set_journal(Mode::Follows, Some(Offset(0)));
    let lines = [
        "SET n 5 PXAT 1000",
        "INCR n",
        "PEXPIREAT n 2000",
        "HSET h f 1",
        "HPEXPIREAT h 1000 FIELDS 1 f",
        "HINCRBY h f 2",
    ];
    let (results, _) = play(&server, &lines);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(text(&server, 0, "n"), None, "hidden from clients");
    assert_eq!(server.keyspace.len(DbIndex(0)), 2, "but not deleted");
    let (results, _) =
        play(&server, &["RENAME n m", "HSETEX h FXX KEEPTTL FIELDS 1 f 3", "PERSIST m"]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(text(&server, 0, "m").as_deref(), Some("6"));
    let (results, _) = play(&server, &["HPERSIST h FIELDS 1 f"]);
    assert_eq!(results, [Ok(Applied::Done)]);
    let mut view = server.keyspace.view_all(&server.settings, DbIndex(0), now());
    let hash = view.read::<larder_store::Hash>(b"h").expect("a hash").expect("there");
    assert!(hash.get(b"f", now()).is_some_and(|value| value.is(b"3")));
}

#[test]
fn what_has_no_place_in_a_stream_is_refused() {
    let server = server();
    server.set_journal(Mode::Follows, Some(Offset(0)));
    let lines = ["NOSUCH a", "SET a", "CONFIG GET x", "EXEC", "SELECT 99", "LPUSH l a", "INCR l"];
    let (results, _) = play(&server, &lines);
    let errors: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert_eq!(
        errors,
        [
            "unknown command 'NOSUCH'",
            "bad arguments of 'set'",
            "command 'config' has no place in a log or stream",
            "command 'exec' has no place in a log or stream",
            "bad arguments of 'select'",
            "command 'incr' failed: WRONGTYPE Operation against a key holding the wrong kind of value",
        ]
    );
}

#[test]
fn changed_keys_alone_bring_a_copy_up_to_date() {
    use crate::durability::changed::Tag;
    use crate::durability::rdb_file;
    use larder_persist::rdb::{Options, Version};

    let (ours, copy) = (server(), server());
    let many: Vec<String> = (0..2000).map(|n| format!("SET key:{n} {n}")).collect();
    let mut lines: Vec<&str> = many.iter().map(String::as_str).collect();
    lines.extend(["SADD s a b c", "SELECT 3", "SET key:5 other"]);
    for server in [&ours, &copy] {
        let (results, _) = play(server, &lines);
        assert!(results.iter().all(Result::is_ok));
    }
    let later = ["SET key:7 new", "DEL key:8", "SADD s d", "SET fresh 1", "SELECT 3", "DEL key:5"];
    play(&ours, &later);
    let tags = ["key:7", "key:8", "s", "fresh", "key:5"].map(|key| Tag::of(key.as_bytes()));
    let tags = tags.into_iter().collect();
    let mut snapshot = ours.exclusively(|_| ours.keyspace.begin_snapshot()).expect("a lane");
    let options = Options { version: Version::DEFAULT, compress: false, checksum: true };
    let mut wire = Vec::new();
    rdb_file::write_changes(&ours, &mut snapshot, &tags, options, &[("a", "b")], &mut wire)
        .expect("written");
    assert!(wire.len() < 400, "{} bytes for five of two thousand keys", wire.len());
    let loaded = rdb_file::load_changes(&copy, wire.as_slice()).expect("loaded");
    assert_eq!((loaded.keys, loaded.note("a")), (4, Some(&b"b"[..])));
    for key in (0..2000).map(|n| format!("key:{n}")).chain(["fresh".to_owned()]) {
        assert_eq!(text(&ours, 0, &key), text(&copy, 0, &key), "{key}");
    }
    assert_eq!(text(&copy, 3, "key:5"), None);
    let mut view = copy.keyspace.view_all(&copy.settings, DbIndex(0), now());
    assert_eq!(view.read::<larder_store::Set>(b"s").expect("a set").expect("there").len(), 4);
}

#[test]
fn commands_that_reach_other_databases_are_repeated_alone_and_in_transactions() {
    let server = server();
    server.set_journal(Mode::Follows, Some(Offset(0)));
    let lines = [
        "SELECT 1",
        "SET a 1",
        "COPY a b DB 2",
        "MULTI",
        "INCR a",
        "COPY a c DB 3",
        "MOVE a 4",
        "EXEC",
        "RPUSH l 3 1 2",
        "SORT l STORE sorted",
    ];
    let (results, stream) = play(&server, &lines);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(text(&server, 2, "b").as_deref(), Some("1"));
    assert_eq!(text(&server, 3, "c").as_deref(), Some("2"));
    assert_eq!(text(&server, 4, "a").as_deref(), Some("2"));
    assert_eq!(text(&server, 1, "a"), None);
    assert_eq!(recorded(&server), stream);
}
