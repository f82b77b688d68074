//! RDB files from hostile bytes: no panic, any split reads the same, and what was read is written and read again.
#![no_main]

use std::io::{BufRead, BufReader};

use larder_persist::rdb::{Item, Options, Reader, Version, Writer};
use larder_store::{Payload, Thresholds};
use libfuzzer_sys::fuzz_target;

/// The keys with their values, as far as they are whole, and how it ended.
fn read(source: impl BufRead) -> (Vec<Item>, String) {
    let mut items = Vec::new();
    let mut reader = match Reader::new(source, &Thresholds::default()) {
        Ok(reader) => reader,
        Err(error) => return (items, error.to_string()),
    };
    loop {
        match reader.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, "end".into()),
            Err(error) => return (items, error.to_string()),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (items, end) = read(bytes);
    let (again, same_end) = read(BufReader::with_capacity(3, bytes));
    assert_eq!(end, same_end);
    assert_eq!(items.len(), again.len());
    let options = Options { version: Version::Valkey(80), ..Options::default() };
    let mut writer = Writer::new(Vec::new(), options).expect("80 is written");
    let mut keys = 0;
    for item in &items {
        if let Item::Entry(entry) = item {
            let payload = Payload::Boxed(entry.value.as_ref());
            writer
                .entry(&entry.key, entry.deadline, entry.eviction, &payload)
                .expect("80 has all forms");
            keys += 1;
        }
    }
    let written = writer.finish().expect("into memory");
    let (back, end) = read(written.as_slice());
    assert_eq!(end, "end");
    assert_eq!(back.len(), keys + 1);
});
