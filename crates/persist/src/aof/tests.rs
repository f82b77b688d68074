//! The log's reader, the manifest and `check` against what was written, cut and damaged.

use proptest::prelude::*;

use super::*;
use crate::check::{CheckError, check};
use crate::crc64::Crc64;

fn log(commands: &[&[&str]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for args in commands {
        encode_command(&mut bytes, args);
    }
    bytes
}

fn read_all(bytes: &[u8]) -> Result<Vec<Item>, LogError> {
    let mut reader = LogReader::new(bytes, 0);
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok(items)
}

#[test]
fn a_torn_tail_is_cut_before_the_command_or_the_transaction() {
    let whole = log(&[&["SELECT", "0"], &["SET", "a", "1"]]);
    let tail = log(&[&["MULTI"], &["SET", "a", "2"], &["SET", "b", "2"], &["EXEC"]]);
    let bytes = [whole.as_slice(), &tail].concat();
    assert_eq!(read_all(&bytes).unwrap().len(), 6);
    let first = log(&[&["SELECT", "0"]]).len();
    for len in 0..bytes.len() {
        let expected = if len < first {
            0
        } else if len < whole.len() {
            first
        } else {
            whole.len()
        };
        match read_all(&bytes[..len]) {
            Ok(_) => assert_eq!(len, expected),
            Err(error) => {
                assert!(error.is_torn(), "{error}");
                assert_eq!(error.whole, expected as u64, "cut at {len}");
            }
        }
    }
}

#[test]
fn damage_is_told_from_a_torn_tail() {
    let bytes = log(&[&["SET", "a", "1"], &["SET", "b", "2"]]);
    let mut damaged = bytes.clone();
    damaged[4] = b'x';
    let error = read_all(&damaged).unwrap_err();
    assert!(!error.is_torn());
    assert_eq!(
        error.to_string(),
        "Bad file format reading the append only file: length of an argument at byte 4; whole up to byte 0"
    );
    let error = read_all(b"SET a 1\r\n").unwrap_err();
    assert!(!error.is_torn(), "{error}");
    let error = read_all(b"*2000000000\r\n").unwrap_err();
    assert!(!error.is_torn(), "{error}");
}

#[test]
fn a_checksum_finds_what_the_format_cannot() {
    let mut bytes = timestamp_line(1_700_000_000);
    bytes.extend(log(&[&["SET", "a", "1"], &["SET", "b", "2"]]));
    let line = checksum_line(
        {
            let mut crc = Crc64::new();
            crc.update(&bytes);
            crc
        },
        7,
    );
    bytes.extend(&line);
    bytes.extend(log(&[&["SET", "c", "3"]]));
    let items = read_all(&bytes).unwrap();
    assert_eq!(items[0], Item::Timestamp(1_700_000_000));
    assert_eq!(items[3], Item::Verified { lasting: 7 });
    let covered = bytes.len() - log(&[&["SET", "c", "3"]]).len() - line.len();
    for at in 0..covered {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(read_all(&damaged).is_err(), "byte {at}");
    }
}

#[test]
fn a_manifest_returns_and_wrong_ones_are_refused_by_line() {
    let text = b"file appendonly.aof.2.base.rdb seq 2 type b\n\
        file appendonly.aof.1.incr.aof seq 1 type h startoffset 5\n\
        file \"a b.2.incr.aof\" seq 2 type i\n# a note\nfile appendonly.aof.3.incr.aof seq 3 type i\n";
    let manifest = Manifest::parse(text).unwrap();
    assert_eq!(manifest.base.as_ref().unwrap().seq, 2);
    assert_eq!(manifest.increments[0].name, b"a b.2.incr.aof");
    assert_eq!(Manifest::parse(&manifest.render(true)).unwrap(), manifest);
    let plain = manifest.render(false);
    assert!(!plain.windows(4).any(|part| part == b"crc "), "without sums, as Redis writes it");
    assert_eq!(Manifest::parse(&plain).unwrap(), manifest);
    assert_eq!(manifest.next_base(b"x", true).name, b"x.3.base.rdb");
    assert_eq!(manifest.next_increment(b"x").name, b"x.4.incr.aof");
    // Short enough a line, but not so once its bytes are escaped (found by fuzzing).
    let long = [b"file ".as_slice(), &[7; 300], b" seq 1 type b\n"].concat();
    assert_eq!(Manifest::parse(&long).unwrap_err().reason, "too long a name");
    for (text, line, reason) in [
        ("file a seq 1 type b\nfile b seq 2 type b\n", 2, "Found duplicate base file information"),
        ("file a seq 2 type i\nfile b seq 2 type i\n", 2, "Found a non-monotonic sequence number"),
        ("file ../a seq 1 type b\n", 1, "a name that is a path"),
        ("file a seq 1 type z\n", 1, "Unknown AOF file type"),
        ("file a seq 0 type b\n", 1, "Invalid AOF manifest file format (no number)"),
        ("file a seq 1\n", 1, "Invalid AOF manifest file format (no type)"),
        ("file a seq\n", 1, "Invalid AOF manifest file format (a key without a value)"),
        ("file a seq 1 type b", 1, "Invalid AOF manifest file format (a line that does not end)"),
        ("file \"a seq 1 type b\n", 1, "Invalid AOF manifest file format (quotes)"),
        ("", 1, "Found an empty AOF manifest"),
    ] {
        let error = Manifest::parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.line, error.reason), (line, reason), "{text:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_manifest_of_ours_is_found_or_changes_nothing() {
    let text = b"file a.7.base.rdb seq 7 type b\nfile a.3.incr.aof seq 3 type h\n\
        file \"a \\x01.4.incr.aof\" seq 4 type i\nfile a.5.incr.aof seq 5 type i\n";
    let manifest = Manifest::parse(text).unwrap();
    let written = manifest.render(true);
    for at in 0..written.len() {
        for flip in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut damaged = written.clone();
            damaged[at] ^= flip;
            if let Ok(read) = Manifest::parse(&damaged) {
                assert_eq!(read, manifest, "byte {at}, {flip:#x}");
            }
        }
    }
    let foreign = String::from_utf8(written).unwrap().replace(" type h crc ", " type i crc ");
    let error = Manifest::parse(foreign.as_bytes()).unwrap_err();
    assert_eq!((error.line, error.reason), (2, "a wrong checksum"));
}

#[test]
fn check_follows_a_manifest_and_says_what_to_cut() {
    let manifest = b"file base seq 1 type b\nfile one seq 1 type i\nfile two seq 2 type i\n";
    let good = log(&[&["SET", "a", "1"]]);
    let torn = &good[..good.len() - 3];
    let base = crate::rdb::Writer::new(Vec::new(), crate::rdb::Options::default()).unwrap();
    let base = base.finish().unwrap();
    let run = |one: &[u8], two: &[u8]| {
        check(std::io::Cursor::new(manifest.to_vec()), &mut |name| {
            Ok(std::io::Cursor::new(match name {
                b"base" => base.clone(),
                b"one" => one.to_vec(),
                b"two" => two.to_vec(),
                _ => return Err(std::io::ErrorKind::NotFound.into()),
            }))
        })
    };
    let summary = run(&good, &good).unwrap();
    assert_eq!((summary.files, summary.commands), (3, 2));
    let error = run(&good, torn).unwrap_err();
    assert_eq!(error.cut(), Some((Some("two"), 0)));
    let error = run(torn, &good).unwrap_err();
    assert_eq!(error.cut(), None);
    assert!(error.to_string().starts_with("one: Unexpected end"), "{error}");
    let preamble = [base.as_slice(), &good, torn].concat();
    let error = check(std::io::Cursor::new(&preamble[..]), &mut |_| {
        Err(std::io::ErrorKind::NotFound.into())
    });
    let whole = (base.len() + good.len()) as u64;
    assert_eq!(error.unwrap_err().cut(), Some((None, whole)));
    let trailing = [base.as_slice(), b"x"].concat();
    let error = check(std::io::Cursor::new(&trailing[..]), &mut |_| {
        Err(std::io::ErrorKind::NotFound.into())
    });
    assert!(matches!(error, Err(CheckError::Trailing(1, _))));
}

/// Takes whatever comes.
struct Anything;

impl load::Repeat for Anything {
    fn snapshot<R: std::io::BufRead>(&mut self, _: &str, _: &mut R) -> Result<u64, String> {
        Err("no snapshot is expected".to_owned())
    }
    fn command(&mut self, _: &[Vec<u8>]) -> Result<(), String> {
        Ok(())
    }
    fn give_up_transaction(&mut self) {}
    fn progress(&mut self, _: &str, _: u64) {}
}

#[test]
fn a_log_says_where_in_which_history_it_ends_if_sums_vouch_for_it() {
    use crate::disk::{Disk, DiskWriter, simulated::SimulatedDisk};
    let (disk, prefix) = (SimulatedDisk::new(), "a.aof");
    let (one, two) = ("1".repeat(40), "2".repeat(40));
    let command = log(&[&["SET", "a", "1"]]);
    let len = command.len() as u64;
    let place = || {
        let set = set::LogSet::open(disk.clone(), prefix, Some(9)).unwrap().unwrap();
        let loaded = load::load(&set, true, &mut Anything).unwrap();
        let place = loaded.place.clone();
        (set, loaded, place.map(|place| (String::from_utf8(place.history).unwrap(), place.offset)))
    };
    let mut set = set::LogSet::fresh(disk.clone(), prefix, Some(9)).unwrap();
    set.roll(1000).unwrap();
    // What selects a database at a file's beginning is in no history.
    set.append(&log(&[&["SELECT", "3"]]), 1000).unwrap();
    set.flush().unwrap();
    assert_eq!(place().2, None);
    set.place(&one, 1000).unwrap();
    set.append(&command, 1000 + len).unwrap();
    set.flush().unwrap();
    assert_eq!(place().2, Some((one.clone(), 1000 + len)));
    // Bytes that only replicas see were passed over, and the history was named anew.
    set.place(&two, 2000).unwrap();
    set.append(&timestamp_line(7), 2000).unwrap();
    set.append(&command, 2000 + len).unwrap();
    set.close().unwrap();
    assert_eq!(place().2, Some((two.clone(), 2000 + len)));
    set.roll(2000 + len).unwrap();
    set.flush().unwrap();
    assert_eq!(place().2, Some((two.clone(), 2000 + len)), "nothing came in the next file");
    // Another program goes on with the file.
    let mut file = disk.append("a.aof.2.incr.aof").unwrap();
    std::io::Write::write_all(&mut file, &command).unwrap();
    file.sync().unwrap();
    let (mut set, loaded, found) = place();
    assert_eq!(found, None);
    // From now on the sums vouch for it, too; the place was told before.
    set.resume(loaded.last.as_ref(), None, 5000, &one).unwrap();
    assert_eq!(place().2, Some((one.clone(), 5000)));
    let (mut set, loaded, _) = place();
    set.resume(loaded.last.as_ref(), None, 5000, &one).unwrap();
    set.append(&command, 5000 + len).unwrap();
    set.sync().unwrap();
    assert_eq!(place().2, Some((one, 5000 + len)));
}

/// A log as it is written, closed in an orderly way: its bytes and how many commands it has.
fn closed_log() -> (Vec<u8>, u64) {
    use crate::disk::{Disk, simulated::SimulatedDisk};
    let disk = SimulatedDisk::new();
    let mut set = set::LogSet::fresh(disk.clone(), "log", Some(7)).unwrap();
    set.roll(0).unwrap();
    for number in 0..120u64 {
        let value = "v".repeat(usize::try_from(number).unwrap());
        set.append(&log(&[&["SET", "key", &value]]), number + 1).unwrap();
        if number % 5 == 0 {
            set.sync().unwrap();
        }
    }
    assert_eq!(set.close().unwrap(), 120);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut disk.read("log.1.incr.aof").unwrap(), &mut bytes).unwrap();
    (bytes, 120)
}

#[test]
fn every_flipped_bit_of_a_closed_log_is_found_or_changes_nothing() {
    let (bytes, count) = closed_log();
    let read = |bytes: &[u8]| scan(&mut std::io::Cursor::new(bytes), 0);
    let whole = read(&bytes).unwrap();
    assert_eq!((whole.commands, whole.cut.is_none()), (count, true));
    let commands = |bytes: &[u8], end: u64| {
        let end = usize::try_from(end).unwrap();
        let items = read_all(&bytes[..end]).unwrap().into_iter();
        items
            .filter_map(|item| match item {
                Item::Command { args, .. } => Some(args),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let expected = commands(&bytes, whole.end);
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        match read(&damaged) {
            Ok(found) => assert_eq!(commands(&damaged, found.end), expected, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > bytes.len() - 100, "{refused} of {}", bytes.len());
}

#[test]
fn every_cut_of_a_log_is_found_torn_and_every_hole_in_what_was_synced_is_damage() {
    let (bytes, _) = closed_log();
    for at in 0..bytes.len() {
        let found = scan(&mut std::io::Cursor::new(&bytes[..at]), 0).unwrap();
        assert!(found.end <= at as u64);
    }
    for sector in 0..bytes.len() / 512 {
        let mut holed = bytes.clone();
        holed[sector * 512..(sector + 1) * 512].fill(0);
        let found = scan(&mut std::io::Cursor::new(&holed), 0);
        assert!(found.is_err(), "sector {sector} of what was on disk");
    }
}

proptest! {
    #[test]
    fn commands_return(commands in prop::collection::vec(
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 0..6)
    ) {
        let mut bytes = Vec::new();
        for args in &commands {
            encode_command(&mut bytes, args);
        }
        let seen = read_all(&bytes);
        // A random MULTI without its EXEC is as unlikely as it is right to refuse it.
        let seen: Vec<_> = seen.unwrap().into_iter().map(|item| match item {
            Item::Command { args, .. } => args,
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(seen, commands);
    }

    #[test]
    fn any_bytes_are_a_log_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Err(error) = read_all(&bytes) {
            prop_assert!(error.whole <= error.offset && error.offset <= bytes.len() as u64);
        }
        if let Ok(manifest) = Manifest::parse(&bytes) {
            prop_assert_eq!(Manifest::parse(&manifest.render(true)).unwrap_or_default(), manifest);
        }
    }
}
