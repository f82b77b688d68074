//! Tests of the RDB codec: what is written is read again, however the bytes come, and every damage is told with its place.

use std::io::{BufRead, Read};
use std::sync::Arc;

use larder_base::{Millis, Rng};
use larder_store::{End, Hash, List, Payload, Set, SortedSet, Thresholds, Typed, Value};
use proptest::prelude::*;

use super::*;

const ALWAYS: Millis = Millis(i64::MIN);

/// A value in a form that can be compared and printed.
fn picture(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("text {:?}", text.as_slice()),
        Value::List(list) => {
            format!("list {:?}", list.iter().map(|e| e.to_vec()).collect::<Vec<_>>())
        }
        Value::Set(set) => {
            let mut all: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
            all.sort();
            format!("set {all:?}")
        }
        Value::Hash(hash) => {
            let mut all: Vec<_> =
                hash.entries().map(|(f, v, when)| (f.to_vec(), v.to_vec(), when)).collect();
            all.sort();
            format!("hash {all:?}")
        }
        Value::SortedSet(sorted) => {
            let all: Vec<_> = sorted.iter().map(|(m, s)| (m.to_vec(), s.to_bits())).collect();
            format!("zset {all:?}")
        }
    }
}

/// Gives bytes in pieces of sizes that a seed tells.
struct Split<'a> {
    rest: &'a [u8],
    rng: Rng,
    piece: usize,
}

impl Read for Split<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let held = self.fill_buf()?;
        let n = held.len().min(buf.len());
        buf[..n].copy_from_slice(&held[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Split<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.piece == 0 {
            if self.rng.below(4) == 0 {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            self.piece = (1 + self.rng.below_usize(9)).min(self.rest.len());
        }
        Ok(&self.rest[..self.piece])
    }
    fn consume(&mut self, n: usize) {
        self.rest = &self.rest[n..];
        self.piece -= n;
    }
}

/// Everything that a file says, or the error as text.
fn read_all(source: impl BufRead) -> Result<Vec<String>, String> {
    let limits = Thresholds::default();
    let mut reader = Reader::new(source, &limits).map_err(|error| error.to_string())?;
    let mut seen = Vec::new();
    while let Some(item) = reader.next_item().map_err(|error| error.to_string())? {
        seen.push(match item {
            Item::Entry(e) => {
                format!(
                    "{} {:?} {:?} {:?} {}",
                    e.db,
                    e.key,
                    e.deadline,
                    e.eviction,
                    picture(&e.value)
                )
            }
            other => format!("{other:?}"),
        });
    }
    Ok(seen)
}

/// Below `n`.
fn byte(rng: &mut Rng, n: u8) -> u8 {
    u8::try_from(rng.below(n.into())).unwrap()
}

fn text(rng: &mut Rng) -> Vec<u8> {
    match rng.below(6) {
        0 => rng.below(100).to_string().into_bytes(),
        1 => (rng.next_u64().cast_signed() >> rng.below(64)).to_string().into_bytes(),
        2 => vec![b'a' + byte(rng, 26); rng.below_usize(100)],
        3 => (0..rng.below(40)).map(|_| byte(rng, 255)).collect(),
        4 => format!("field:{}", rng.below(1000)).into_bytes(),
        _ => b"abcabcabd".repeat(rng.below_usize(12)),
    }
}

fn random_value(rng: &mut Rng, field_deadlines: bool) -> Value {
    let limits = Thresholds::default();
    let n = 1 + [3, 30, 300][rng.below_usize(3)].min(1 + rng.below_usize(300));
    match rng.below(5) {
        0 => Value::Text(Arc::new(text(rng))),
        1 => {
            let mut list = List::new();
            (0..n).for_each(|_| list.push(&text(rng), End::Back, &limits));
            list.wrap()
        }
        2 => {
            let mut set = Set::new();
            let integers = rng.below(2) == 0;
            for _ in 0..n {
                let member = text(rng);
                let number =
                    (rng.next_u64().cast_signed() >> rng.below(64)).to_string().into_bytes();
                set.insert(if integers { &number } else { &member }, &limits);
            }
            set.wrap()
        }
        3 => {
            let mut hash = Hash::new();
            for _ in 0..n {
                let (field, value) = (text(rng), text(rng));
                hash.set(&field, &value, ALWAYS, &limits);
                if field_deadlines && rng.below(3) == 0 {
                    let when = Some(Millis(rng.below(1 << 45).cast_signed()));
                    hash.set_deadline(&field, when, ALWAYS, &limits);
                }
            }
            hash.wrap()
        }
        _ => {
            let mut sorted = SortedSet::new();
            for _ in 0..n {
                let score = match rng.below(5) {
                    0 => rng.below(50) as f64,
                    4 => -0.0,
                    1 => f64::INFINITY,
                    2 => -rng.unit_f64() * 1e-300,
                    _ => rng.unit_f64() * 1e9,
                };
                sorted.insert(&text(rng), score, &limits);
            }
            sorted.wrap()
        }
    }
}

fn options(version: Version) -> Options {
    Options { version, ..Options::default() }
}

/// A file with random keys, and what reading it must say of them.
fn random_file(seed: u64, version: Version, keys: usize) -> (Vec<u8>, Vec<String>) {
    let mut rng = Rng::new(seed);
    let mut writer = Writer::new(Vec::new(), options(version)).unwrap();
    writer.aux(b"redis-ver", b"7.0.15").unwrap();
    writer.select(3).unwrap();
    writer.sizes(keys as u64, 0).unwrap();
    let mut expected = Vec::new();
    for n in 0..keys {
        let key = [text(&mut rng), n.to_string().into_bytes()].concat();
        let value = random_value(&mut rng, version.has_field_deadlines());
        let deadline = (rng.below(2) == 0).then(|| Millis(rng.next_u64().cast_signed() >> 1));
        let eviction = match rng.below(3) {
            0 => None,
            1 => Some(Eviction::Frequency(byte(&mut rng, 255))),
            _ => Some(Eviction::IdleSeconds(rng.next_u64() >> rng.below(64))),
        };
        writer.entry(&key, deadline, eviction, &Payload::Boxed(value.as_ref())).unwrap();
        expected.push(format!("3 {key:?} {deadline:?} {eviction:?} {}", picture(&value)));
    }
    (writer.finish().unwrap(), expected)
}

fn version_of(n: usize) -> Version {
    [9, 10, 11, 12].map(Version::Redis).get(n).copied().unwrap_or(Version::Valkey(80))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_was_written_is_read_in_any_split(seed in any::<u64>(), version in 0usize..5) {
        let (file, expected) = random_file(seed, version_of(version), 8);
        let seen = read_all(file.as_slice()).unwrap();
        prop_assert_eq!(&seen[3..seen.len() - 1], expected.as_slice());
        prop_assert_eq!(seen.last().unwrap(), "End { checked: true }");
        let split = Split { rest: &file, rng: Rng::new(seed ^ 1), piece: 0 };
        prop_assert_eq!(read_all(split).unwrap(), seen);
    }

    #[test]
    fn errors_do_not_depend_on_the_split(
        seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let (mut file, _) = random_file(seed, Version::Valkey(80), 3);
        let at = at.index(file.len());
        if cut { file.truncate(at) } else { file[at] = byte }
        let split = Split { rest: &file, rng: Rng::new(seed), piece: 0 };
        prop_assert_eq!(read_all(split), read_all(file.as_slice()));
    }

    #[test]
    fn any_bytes_behind_a_head_are_read_or_refused(
        tail in prop::collection::vec(any::<u8>(), 0..200), valkey in any::<bool>()
    ) {
        let head: &[u8] = if valkey { b"VALKEY080" } else { b"REDIS0012" };
        let _ = read_all([head, &tail].concat().as_slice());
    }

    #[test]
    fn dumped_values_return_and_damaged_ones_do_not(seed in any::<u64>(), version in 0usize..5) {
        let version = version_of(version);
        let mut rng = Rng::new(seed);
        let limits = Thresholds::default();
        let value = random_value(&mut rng, version.has_field_deadlines());
        let payload = dump(&Payload::Boxed(value.as_ref()), version).unwrap();
        prop_assert_eq!(picture(&restore(&payload, &limits).unwrap()), picture(&value));
        let mut damaged = payload.clone();
        let at = rng.below_usize(payload.len());
        damaged[at] ^= 1 << rng.below(8);
        prop_assert!(matches!(restore(&damaged, &limits), Err(DumpError::Footer)));
        prop_assert!(restore(&payload[..at], &limits).is_err());
    }
}

/// Turns a few bytes into others, or moves a part over another.
fn damage(bytes: &mut [u8], rng: &mut Rng) {
    for _ in 0..1 + rng.below(4) {
        let at = rng.below_usize(bytes.len());
        match rng.below(3) {
            0 => bytes[at] = byte(rng, 255),
            1 => bytes[at] ^= 1 << rng.below(8),
            _ => {
                let from = rng.below_usize(bytes.len());
                let len = rng.below_usize(16).min(bytes.len() - at.max(from));
                bytes.copy_within(from..from + len, at);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
    ))]
    /// Without a checksum the damage reaches the structures themselves.
    #[test]
    fn damage_that_no_checksum_catches_is_read_or_refused_with_its_place(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let (mut file, _) = random_file(seed, version_of(rng.below_usize(5)), 2);
        let body = file.len() - 8;
        file[body..].fill(0);
        damage(&mut file[9..body], &mut rng);
        if let Err(error) = read_all(file.as_slice()) {
            let (_, place) = error.rsplit_once(" at byte ").unwrap();
            prop_assert!(place.parse::<usize>().unwrap() <= file.len());
        }
    }

    /// As a hostile client can send it: with a right checksum.
    #[test]
    fn payloads_damaged_on_purpose_are_refused_or_restored_as_something_whole(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let (version, limits) = (version_of(rng.below_usize(5)), Thresholds::default());
        let value = random_value(&mut rng, version.has_field_deadlines());
        let mut payload = dump(&Payload::Boxed(value.as_ref()), version).unwrap();
        let body = payload.len() - 8;
        damage(&mut payload[..body - 2], &mut rng);
        let checksum = crate::crc64::Crc64::of(&payload[..body]);
        payload[body..].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(value) = restore(&payload, &limits) {
            let again = dump(&Payload::Boxed(value.as_ref()), Version::Valkey(80)).unwrap();
            prop_assert_eq!(picture(&restore(&again, &limits).unwrap()), picture(&value));
        }
    }
}

#[test]
fn every_damaged_byte_is_refused_with_its_place_or_changes_nothing() {
    let (file, _) = random_file(7, Version::Redis(12), 3);
    let right = read_all(file.as_slice()).unwrap();
    let (mut exact, mut refused) = (0, 0);
    for at in 0..file.len() {
        for bit in [at % 8, (at + 3) % 8] {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            match read_all(damaged.as_slice()) {
                Ok(seen) => {
                    // A lower version in the head has no checksum: the end says so.
                    let same = seen[..seen.len() - 1] == right[..right.len() - 1];
                    assert!(same, "bit {bit} of byte {at}");
                    exact += 1;
                }
                Err(error) => {
                    assert!(error.contains(" at byte "), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 50 * exact, "{exact} exact, {refused} refused");
}

#[test]
fn every_cut_is_refused() {
    let (file, _) = random_file(11, Version::DEFAULT, 4);
    for len in 0..file.len() {
        let error = read_all(&file[..len]).unwrap_err();
        assert!(error.starts_with("unexpected end at byte "), "{error}");
    }
}

#[test]
fn field_deadlines_need_a_version_that_has_them() {
    let mut hash = Hash::new();
    hash.set(b"f", b"v", ALWAYS, &Thresholds::default());
    hash.set_deadline(b"f", Some(Millis(5)), ALWAYS, &Thresholds::default());
    let value = hash.wrap();
    let error = dump(&Payload::Boxed(value.as_ref()), Version::DEFAULT).unwrap_err();
    assert!(matches!(error, WriteError::FieldDeadlines(10)));
}

#[test]
fn members_that_were_not_announced_are_refused() {
    let head = larder_store::snapshot::Head {
        db: larder_store::DbIndex(0),
        key: b"k",
        deadline: None,
        eviction_bits: 0,
        kind: larder_store::Kind::Set,
        len: 1,
        earliest_expiry: None,
    };
    let mut writer = Writer::new(Vec::new(), Options::default()).unwrap();
    writer.begin(&head, None).unwrap();
    assert!(matches!(writer.end(), Err(WriteError::Members)));
    let mut writer = Writer::new(Vec::new(), Options::default()).unwrap();
    writer.begin(&head, None).unwrap();
    let member = larder_store::Record::text(b"m", b"", None, false);
    writer.member(member.as_ref(), None).unwrap();
    assert!(matches!(writer.member(member.as_ref(), None), Err(WriteError::Members)));
}

/// A value of an old form under a key `k`, and what it must be.
fn read_one(kind: u8, body: &[u8]) -> Result<String, String> {
    let file = [b"REDIS0009".as_slice(), &[kind, 1, b'k'], body, &[255], &[0; 8]].concat();
    let seen = read_all(file.as_slice())?;
    Ok(seen[0].strip_prefix("0 [107] None None ").unwrap_or(&seen[0]).to_string())
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

#[test]
fn the_packed_forms_of_old_versions_are_read() {
    let zipmap = with_length(b"\x02\x01a\x01\x02x__\x02bc\x00\x00\xff");
    assert_eq!(read_one(9, &zipmap).unwrap(), "hash [([97], [120], None), ([98, 99], [], None)]");
    // "a", 12, -1, 300
    let ziplist = with_length(
        b"\x18\0\0\0\x13\0\0\0\x04\0\x00\x01a\x03\xfd\x02\xfe\xff\x03\xc0\x2c\x01\xff".as_slice(),
    );
    assert_eq!(ziplist.len(), 0x18);
    let mut ziplist = ziplist;
    ziplist[1] = 0x17;
    ziplist[5] = 0x12;
    assert_eq!(read_one(10, &ziplist).unwrap(), "list [[97], [49, 50], [45, 49], [51, 48, 48]]");
    let intset = with_length(b"\x02\0\0\0\x02\0\0\0\xff\xff\x05\0");
    assert_eq!(read_one(11, &intset).unwrap(), "set [[45, 49], [53]]");
    let unordered = with_length(b"\x02\0\0\0\x02\0\0\0\x05\0\xff\xff");
    assert!(read_one(11, &unordered).unwrap_err().contains("do not ascend"));
    // "a", 5, -3, 1000000
    let listpack = with_length(
        b"\x15\0\0\0\x04\0\x81a\x02\x05\x01\xdf\xfd\x02\xf2\x40\x42\x0f\x04\xff".as_slice(),
    );
    let mut listpack = listpack;
    listpack[1] = listpack[0];
    assert_eq!(
        read_one(16, &listpack).unwrap(),
        "hash [([45, 51], [49, 48, 48, 48, 48, 48, 48], None), ([97], [53], None)]"
    );
    let score = b"\x02\x01a\x011\x01b\xfe";
    assert!(read_one(3, score).unwrap().starts_with("zset [([97]"));
    assert!(read_one(3, b"\x01\x01a\xfd").unwrap_err().contains("no number"));
    assert_eq!(read_one(2, b"\x00").unwrap(), "EmptyKey([107])");
    assert!(read_one(2, b"\x02\x01a\x01a").unwrap_err().contains("twice"));
}

#[test]
fn what_we_lack_is_refused_by_name_and_place() {
    assert_eq!(read_one(19, b"").unwrap_err(), "the type stream is not supported at byte 9");
    assert_eq!(read_one(7, b"").unwrap_err(), "a value of a module is not supported at byte 9");
    assert_eq!(read_one(99, b"").unwrap_err(), "unknown type or opcode 99 at byte 9");
    let newer = read_all(b"REDIS0015".as_slice()).unwrap_err();
    assert_eq!(newer, "Redis RDB version 15 is not supported at byte 0");
    assert_eq!(read_all(b"*1\r\n$4\r\nPING".as_slice()).unwrap_err(), "not an RDB file at byte 0");
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let error = read_one(0, b"\x80\x7f\xff\xff\xffab").unwrap_err();
    assert!(error.starts_with("unexpected end"), "{error}");
    let error = read_one(0, b"\x81\xff\xff\xff\xff\xff\xff\xff\xffab").unwrap_err();
    assert!(error.starts_with("text longer"), "{error}");
    let error = read_one(0, b"\xc3\x02\x80\x7f\xff\xff\xff\x00a").unwrap_err();
    assert!(error.starts_with("invalid compressed text"), "{error}");
}
