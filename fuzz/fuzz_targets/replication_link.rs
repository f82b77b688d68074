//! A primary that sends anything: no panic, memory bounded by what came, and the same whatever the split of its bytes.
#![no_main]

use larder_base::time::Millis;
use larder_cluster::replication::{
    Follower, Link, LinkConfig, Offset, Output, Position, ReplicationId, SyncRequest,
};
use libfuzzer_sys::fuzz_target;

/// Everything that a link made of some bytes.
#[derive(Debug, Default, PartialEq)]
struct Made {
    sent: Vec<u8>,
    snapshot: Vec<u8>,
    stream: Vec<u8>,
    others: Vec<String>,
}

fn feed(bytes: &[u8], size: usize, config: &LinkConfig) -> Result<(Made, Offset), Made> {
    let mut link = Link::new(config.clone(), Millis(0));
    let mut made = Made::default();
    link.connected(Millis(0));
    for piece in bytes.chunks(size) {
        let result = link.received(Millis(0), piece);
        while let Some(output) = link.poll() {
            match output {
                Output::Send(bytes) => made.sent.extend(bytes),
                Output::Snapshot(bytes) => made.snapshot.extend(bytes),
                Output::Stream(bytes) => made.stream.extend(bytes),
                Output::SnapshotEnd => {
                    made.others.push("end".to_owned());
                    if link.loaded(Millis(0), Ok(())).is_err() {
                        return Err(made);
                    }
                }
                other => made.others.push(format!("{other:?}")),
            }
        }
        if result.is_err() || link.tick(Millis(1)).is_err() {
            return Err(made);
        }
    }
    assert!(made.snapshot.len() + made.stream.len() <= bytes.len());
    Ok((made, link.offset()))
}

/// What a primary says to get us past the introduction, so that the bytes reach what comes after it.
const INTRODUCTION: &[u8] = b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";

fuzz_target!(|bytes: &[u8]| {
    let Some(([how, size], rest)) = bytes.split_first_chunk::<2>() else { return };
    let position =
        Position { id: ReplicationId::from_bits([7; 20]), offset: Offset(u64::from(*size)) };
    let config = LinkConfig {
        auth: (how & 1 != 0).then(|| (None, "secret".to_owned())),
        position: (how & 2 != 0).then_some(position),
        failover: how & 4 != 0,
        timeout_ms: 1000,
        version: "8.1.0".to_owned(),
        ..LinkConfig::default()
    };
    let mut all = Vec::new();
    if how & 8 != 0 {
        all.extend_from_slice(INTRODUCTION);
    }
    all.extend_from_slice(rest);
    let whole = feed(&all, all.len().max(1), &config);
    let split = feed(&all, usize::from(*size).max(1), &config);
    match (whole, split) {
        (Ok(whole), Ok(split)) => assert_eq!(whole, split),
        (Err(_), Err(_)) => {}
        (whole, split) => panic!("one split is refused: {whole:?} {split:?}"),
    }
    // The other side: what a replica tells, word by word.
    let words: Vec<&[u8]> = rest.split(|byte| *byte == b' ').collect();
    let mut follower = Follower::new(Millis(0));
    let _ = follower.replconf(Millis(0), &words);
    if let Ok(request) = SyncRequest::parse(&words) {
        assert!(request.position.is_none_or(|position| position.offset.0 < u64::MAX));
    }
});
