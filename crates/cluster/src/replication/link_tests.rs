//! The replica's side against scripted primaries, whose bytes arrive in any split.

use super::*;
use proptest::prelude::*;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";

fn link(position: Option<u64>) -> Link {
    let position = position.map(|offset| Position {
        id: ReplicationId::parse(ID.as_bytes()).expect("id"),
        offset: Offset(offset),
    });
    let config = LinkConfig {
        listening_port: 7000,
        version: "8.0.0".to_owned(),
        timeout_ms: 60_000,
        position,
        ..LinkConfig::default()
    };
    Link::new(config, Millis(0))
}

/// What came out, parts of the same kind joined.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    sent: Vec<u8>,
    full: Vec<Option<Position>>,
    continued: Vec<ReplicationId>,
    changes: Vec<Position>,
    snapshot: Vec<u8>,
    ended: usize,
    stream: Vec<u8>,
}

fn drain(link: &mut Link, seen: &mut Seen) {
    while let Some(output) = link.poll() {
        match output {
            Output::Send(bytes) => seen.sent.extend(bytes),
            Output::FullSync(position) => seen.full.push(position),
            Output::Continue(id) => seen.continued.push(id),
            Output::Changes(position) => seen.changes.push(position),
            Output::Snapshot(bytes) => seen.snapshot.extend(bytes),
            Output::SnapshotEnd => {
                seen.ended += 1;
                link.loaded(Millis(1), Ok(())).expect("loaded");
            }
            Output::Stream(bytes) => seen.stream.extend(bytes),
        }
    }
}

/// Plays a primary's bytes in pieces of these sizes.
fn play(position: Option<u64>, bytes: &[u8], sizes: &[usize]) -> (Link, Result<Seen, LinkError>) {
    let (mut link, mut seen) = (link(position), Seen::default());
    link.connected(Millis(0));
    drain(&mut link, &mut seen);
    let (mut at, mut turn) = (0, 0);
    while at < bytes.len() {
        let size = sizes[turn % sizes.len()].min(bytes.len() - at);
        turn += 1;
        if let Err(error) = link.received(Millis(1), &bytes[at..at + size]) {
            return (link, Err(error));
        }
        drain(&mut link, &mut seen);
        at += size;
    }
    (link, Ok(seen))
}

/// Replies to everything before PSYNC; `own` = the primary is of our kind.
fn greeting(own: bool) -> String {
    let last = if own { "+OK\r\n" } else { "-ERR Unrecognized REPLCONF option: larder\r\n" };
    format!("+PONG\r\n+OK\r\n+OK\r\n-ERR Unrecognized REPLCONF option: version\r\n{last}")
}

proptest! {
    #[test]
    fn a_full_sync_is_the_same_in_any_split(
        sizes in proptest::collection::vec(1usize..50, 1..6), diskless: bool, body in "[a-d]{1,90}",
    ) {
        let mark = "d".repeat(20) + &"c".repeat(20);
        prop_assume!(!body.contains("dc") || !diskless);
        let announced = if diskless {
            format!("$EOF:{mark}\r\n{body}{mark}")
        } else {
            format!("${}\r\n{body}", body.len())
        };
        let script = format!("{}\n\n+FULLRESYNC {ID} 41\r\n\n{announced}*1\r\n$4\r\nPING\r\n", greeting(false));
        let (link, seen) = play(None, script.as_bytes(), &sizes);
        let seen = seen.expect("no error");
        let id = ReplicationId::parse(ID.as_bytes()).expect("id");
        prop_assert_eq!(seen.full, vec![Some(Position { id, offset: Offset(41) })]);
        prop_assert_eq!(seen.snapshot, body.as_bytes());
        prop_assert_eq!(seen.ended, 1);
        prop_assert_eq!(seen.stream, b"*1\r\n$4\r\nPING\r\n");
        prop_assert_eq!(link.offset(), Offset(41 + 14));
        prop_assert_eq!(link.phase(), Phase::Streaming);
        let sent = String::from_utf8_lossy(&seen.sent).into_owned();
        prop_assert!(sent.contains("$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"));
        prop_assert!(sent.ends_with("$3\r\nACK\r\n$2\r\n41\r\n"), "acknowledged once loaded: {}", sent);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), sizes in proptest::collection::vec(1usize..50, 1..4)) {
        let script = [greeting(true).as_bytes(), &bytes].concat();
        let _ = play(Some(5), &script, &sizes);
        let _ = play(None, &bytes, &sizes);
    }
}

#[test]
fn a_partial_sync_goes_on_under_the_name_that_the_primary_gives() {
    let script = format!("{}+CONTINUE {OTHER}\r\nabc", greeting(true));
    let (mut link, seen) = play(Some(99), script.as_bytes(), &[1000]);
    let mut seen = seen.expect("no error");
    assert!(String::from_utf8_lossy(&seen.sent).contains(&format!("{ID}\r\n$3\r\n100\r\n")));
    assert_eq!(seen.continued, vec![ReplicationId::parse(OTHER.as_bytes()).expect("id")]);
    assert_eq!((seen.stream.as_slice(), link.offset()), (&b"abc"[..], Offset(102)));
    seen.sent.clear();
    link.applied(Millis(2), Offset(102), Some(Offset(100)));
    drain(&mut link, &mut seen);
    let sent = String::from_utf8_lossy(&seen.sent).into_owned();
    assert!(sent.contains("ACK\r\n$3\r\n102\r\n$4\r\nFACK\r\n$3\r\n100\r\n"), "{sent}");
}

#[test]
fn changes_come_as_a_snapshot_of_some_keys() {
    let mark = "e".repeat(40);
    let answer = format!("+CHANGES {ID} 500\r\n$EOF:{mark}\r\nRDB{mark}more");
    let script = format!("{}{answer}", greeting(true));
    let (link, seen) = play(Some(99), script.as_bytes(), &[7]);
    let seen = seen.expect("no error");
    let id = ReplicationId::parse(ID.as_bytes()).expect("id");
    assert_eq!(seen.changes, vec![Position { id, offset: Offset(500) }]);
    assert_eq!((seen.snapshot.as_slice(), seen.stream.as_slice()), (&b"RDB"[..], &b"more"[..]));
    assert_eq!(link.offset(), Offset(504));
    let (_, refused) = play(None, script.as_bytes(), &[7]);
    assert!(refused.is_err(), "whoever has nothing cannot be sent changes alone");
}

#[test]
fn a_foreign_primary_hears_once_a_second_only() {
    let script = format!("{}+CONTINUE\r\n", greeting(false));
    let (mut link, seen) = play(Some(7), script.as_bytes(), &[3]);
    let mut seen = seen.expect("no error");
    seen.sent.clear();
    link.applied(Millis(2), Offset(7), None);
    link.tick(Millis(900)).expect("tick");
    drain(&mut link, &mut seen);
    assert!(seen.sent.is_empty());
    link.tick(Millis(1001)).expect("tick");
    drain(&mut link, &mut seen);
    assert!(seen.sent.ends_with(b"ACK\r\n$1\r\n7\r\n"));
}

#[test]
fn refusals_name_their_kind() {
    let cases = [
        ("-LOADING dataset\r\n".to_owned(), "not ready"),
        (format!("{}-NOMASTERLINK\r\n", greeting(false)), "not ready"),
        (format!("{}-NOPERM no\r\n", greeting(false)), "refused"),
        (format!("{}+WHAT\r\n", greeting(false)), "unexpected"),
        (format!("{}+FULLRESYNC {ID} 12x\r\n", greeting(false)), "unexpected"),
        ("x".repeat(5000), "unexpected"),
    ];
    for (script, word) in cases {
        let (_, seen) = play(None, script.as_bytes(), &[17]);
        let error = seen.expect_err("an error").to_string();
        assert!(error.contains(word), "{script}: {error}");
    }
}

#[test]
fn an_old_primary_is_asked_with_sync() {
    let script = format!("{}-ERR unknown command 'PSYNC'\r\n$3\r\nabcSTREAM", greeting(false));
    let (link, seen) = play(None, script.as_bytes(), &[5]);
    let seen = seen.expect("no error");
    assert_eq!((seen.full, seen.snapshot.as_slice()), (vec![None], &b"abc"[..]));
    assert_eq!((seen.stream.as_slice(), link.offset()), (&b"STREAM"[..], Offset(6)));
}

#[test]
fn silence_ends_a_link_but_not_while_it_loads() {
    let mut idle = link(None);
    idle.connected(Millis(0));
    assert_eq!(idle.tick(Millis(60_001)), Err(LinkError::Timeout(60_001)));
    let mut loading = link(None);
    loading.connected(Millis(0));
    let script = format!("{}+FULLRESYNC {ID} 0\r\n$1\r\nx", greeting(false));
    loading.received(Millis(0), script.as_bytes()).expect("fine");
    assert_eq!(loading.phase(), Phase::Loading);
    assert!(!loading.wants_bytes());
    while loading.poll().is_some() {}
    loading.tick(Millis(600_000)).expect("still loading");
    assert_eq!(loading.poll(), Some(Output::Send(b"\n".to_vec())));
    assert!(matches!(
        loading.loaded(Millis(600_001), Err("bad".to_owned())),
        Err(LinkError::Snapshot(_))
    ));
}
