//! The table against a map, through growth, shrinking and scans.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use larder_base::rng::Rng;
use proptest::prelude::*;

use super::*;

fn hasher() -> KeyHasher {
    KeyHasher::new(1, 2)
}

fn put(table: &mut Table, key: &[u8], value: &[u8]) {
    let hash = hasher().hash(key);
    let record = Record::text(key, value, None, false);
    match table.find(hash, key) {
        Some(place) => drop(table.replace(place, record, 7)),
        None => {
            table.insert(hash, record, 7, &hasher());
        }
    }
}

fn take(table: &mut Table, key: &[u8]) -> Option<Record> {
    let place = table.find(hasher().hash(key), key)?;
    Some(table.remove(place, &hasher()))
}

proptest! {
    #[test]
    fn behaves_as_a_map(
        steps in prop::collection::vec((0u16..400, any::<bool>(), any::<u8>()), 1..2000), expected in 0usize..1500,
    ) {
        let mut table = Table::new();
        table.expect(expected);
        let mut model = HashMap::new();
        for (key, add, value) in steps {
            let key = format!("key:{key}").into_bytes();
            if add {
                put(&mut table, &key, &[value]);
                model.insert(key, vec![value]);
            } else {
                let gone = take(&mut table, &key).map(|record| record.as_ref().inline_text().to_vec());
                prop_assert_eq!(gone, model.remove(&key));
            }
            prop_assert_eq!(table.len(), model.len());
        }
        for (key, value) in &model {
            let place = table.find(hasher().hash(key), key);
            prop_assert!(place.is_some_and(|place| table.at(place).inline_text() == value.as_slice()));
        }
        prop_assert_eq!(table.iter().count(), model.len());
    }

    #[test]
    fn scan_returns_all_that_stays(grow in 0usize..3000, stay in 1usize..300, every in 1usize..40) {
        let mut table = Table::new();
        for n in 0..stay {
            put(&mut table, format!("stay:{n}").as_bytes(), b"");
        }
        let (mut seen, mut cursor, mut added, mut shrinking) = (HashSet::new(), 0, 0, false);
        loop {
            cursor = table.scan(cursor, |record| { seen.insert(record.key().to_vec()); });
            if cursor == 0 { break; }
            for _ in 0..every {
                if !shrinking && added < grow {
                    put(&mut table, format!("more:{added}").as_bytes(), b"");
                    added += 1;
                } else {
                    shrinking = true;
                    if added > 0 {
                        added -= 1;
                        take(&mut table, format!("more:{added}").as_bytes());
                    }
                }
            }
        }
        for n in 0..stay {
            let key = format!("stay:{n}").into_bytes();
            prop_assert!(seen.contains(&key));
        }
    }
}

#[test]
fn grows_and_shrinks_evenly() {
    let mut table = Table::new();
    for n in 0..20_000 {
        put(&mut table, format!("k{n}").as_bytes(), b"v");
    }
    assert!(table.memory_usage() < 20_000 * 17, "{} bytes", table.memory_usage());
    let mut rng = Rng::new(1);
    let place = table.random(&mut rng).unwrap();
    assert!(table.at(place).key().starts_with(b"k"));
    for n in 0..20_000 {
        assert!(take(&mut table, format!("k{n}").as_bytes()).is_some());
    }
    assert!(table.is_empty() && table.memory_usage() == 0);
}
