//! What was taken out of the keyspace and waits to be freed, in steps as small as wished: a set of five million
//! members is five million allocations. It knows no key, and nothing of who frees, and when.

use crate::record::{Payload, Record};
use crate::table::Table;
use crate::value::Remains;

/// Values of fewer allocations than this are freed at one go.
const PIECE: usize = 64;

/// See the head of this file. Dropping it frees the rest at one go.
#[derive(Default)]
pub struct Trash {
    records: Vec<Record>,
    tables: Vec<Table>,
    /// The rest of values that were taken apart: what is no table of records.
    remains: Vec<Remains>,
}

impl From<Vec<Record>> for Trash {
    fn from(records: Vec<Record>) -> Trash {
        Trash { records, ..Trash::default() }
    }
}

impl From<Vec<Table>> for Trash {
    fn from(tables: Vec<Table>) -> Trash {
        Trash { tables, ..Trash::default() }
    }
}

impl Trash {
    /// Number of keys in it, as long as nothing was freed.
    pub fn len(&self) -> usize {
        self.records.len() + self.tables.iter().map(Table::len).sum::<usize>()
    }

    /// Whether there is nothing to free.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.tables.is_empty() && self.remains.is_empty()
    }

    /// About how many allocations its records are, big values with all that they hold; tables of keys are not looked
    /// into.
    pub fn cost(&self) -> usize {
        self.records.iter().map(cost).sum::<usize>() + self.len()
    }

    /// Frees some dozens of allocations; returns about how many, 0 when nothing is left.
    pub fn free_some(&mut self) -> usize {
        if let Some(record) = self.records.pop() {
            return 1 + self.free(record);
        }
        while let Some(mut table) = self.tables.pop() {
            let mut freed = 0;
            let more = table.tear(|record| freed += 1 + self.free(record));
            if more {
                self.tables.push(table);
            }
            if freed > 0 {
                return freed;
            }
        }
        while let Some(remains) = self.remains.last_mut() {
            if remains.free_some() {
                return 1;
            }
            self.remains.pop();
        }
        0
    }

    /// Frees a record, or what is small of it, and keeps the pieces of what is big.
    fn free(&mut self, record: Record) -> usize {
        let cost = cost(&record);
        if cost < PIECE {
            return cost;
        }
        let Ok(mut value) = record.into_value() else { return 0 };
        let (table, remains) = value.as_mut().take_apart();
        self.tables.extend(table);
        self.remains.extend(remains);
        0
    }
}

/// About how many allocations a record has besides its own.
fn cost(record: &Record) -> usize {
    match record.payload() {
        Payload::Boxed(value) => value.free_cost(),
        Payload::Text(_) | Payload::Int(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use larder_base::Millis;

    use super::*;
    use crate::{End, Hash, List, Set, SortedSet, Thresholds, Value};

    /// A big value of each type whose members are `count`.
    fn big(count: u32) -> Vec<Record> {
        let limits = Thresholds::default();
        let (mut list, mut set, mut hash, mut sorted) =
            (List::new(), Set::new(), Hash::new(), SortedSet::new());
        for number in 0..count {
            let member = format!("member:{number:05}:{}", "x".repeat(64)).into_bytes();
            list.push(&member, End::Back, &limits);
            set.insert(&member, &limits);
            hash.set(&member, b"value", Millis(0), &limits);
            hash.set_deadline(&member, Some(Millis(9)), Millis(0), &limits);
            sorted.insert(&member, number.into(), &limits);
        }
        let values =
            [Value::List(list), Value::Set(set), Value::Hash(hash), Value::SortedSet(sorted)];
        values.into_iter().map(|value| Record::boxed(b"key", value, None)).collect()
    }

    #[test]
    fn big_values_go_in_small_steps() {
        let mut trash = Trash::from(big(10_000));
        let cost = trash.cost();
        let (mut freed, mut steps) = (0, 0);
        loop {
            let step = trash.free_some();
            if step == 0 {
                break;
            }
            assert!(step < 2 * PIECE, "{step} at one go");
            (freed, steps) = (freed + step, steps + 1);
        }
        assert!(trash.is_empty());
        assert!(steps > 3 * 10_000 / PIECE, "{steps} steps");
        // What was announced is what was done, but for the pieces of trees and lists.
        assert!(freed > cost * 9 / 10 && freed < cost * 11 / 10, "{freed} of {cost}");
    }

    #[test]
    fn tables_of_keys_go_with_the_big_values_in_them() {
        let hasher = larder_base::hash::KeyHasher::new(1, 2);
        let mut table = Table::new();
        for (number, record) in (0u8..).zip(big(1000)) {
            let record = record.with_key(&[b'a', number]);
            table.insert(hasher.hash(record.key()), record, 0, &hasher);
        }
        let mut trash = Trash::from(vec![table]);
        assert_eq!(trash.len(), 4);
        let mut freed = 0;
        while !trash.is_empty() {
            freed += trash.free_some();
        }
        assert!(freed > 3000, "{freed}");
    }
}
