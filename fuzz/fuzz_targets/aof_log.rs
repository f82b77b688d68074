//! Logs from hostile bytes: no panic, any split reads the same, and up to where it is whole it reads without error.
#![no_main]

use std::io::{BufRead, BufReader, Cursor};

use larder_persist::aof::{Item, LogError, LogReader, scan};
use larder_persist::check::check_data;
use libfuzzer_sys::fuzz_target;

fn read(source: impl BufRead) -> (Vec<Item>, Option<LogError>) {
    let mut reader = LogReader::new(source, 0);
    let mut items = Vec::new();
    loop {
        match reader.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (items, error) = read(bytes);
    let (again, same) = read(BufReader::with_capacity(3, bytes));
    assert_eq!(items, again);
    assert_eq!(error.as_ref().map(ToString::to_string), same.map(|error| error.to_string()));
    if let Some(error) = error {
        let whole = usize::try_from(error.whole).expect("within the bytes");
        let (_, error) = read(&bytes[..whole]);
        assert!(error.is_none(), "the whole part is whole");
    }
    let _ = check_data(Cursor::new(bytes));
    if let Ok(found) = scan(&mut Cursor::new(bytes), 0) {
        let end = usize::try_from(found.end).expect("within the bytes");
        let (_, error) = read(&bytes[..end]);
        assert!(error.is_none(), "what is to be loaded is whole");
    }
});
