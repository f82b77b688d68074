//! A keyspace beside the one that is served: filled where nobody sees it, and taken over at one moment. It knows nothing of where
//! the records come from.

use std::mem::take;

use crate::keyspace::{DbIndex, Keyspace};

impl Keyspace {
    /// An empty keyspace of the same form, whose keys this one can take over.
    pub fn beside(&self) -> Keyspace {
        Keyspace::new(*self.hasher(), self.databases())
    }

    /// Takes over all that a keyspace beside this one holds; every database has been flushed before. Only in the exclusive
    /// section. Interests in keys stay: they are those of who is served here.
    pub fn adopt(&self, other: &Keyspace) {
        // No record is left here, so that the newcomers may say which bits are those of a saved one: no snapshot has to
        // save any of them.
        self.snapshots().adopt(other.lanes());
        for db in (0..self.databases()).filter_map(|db| u8::try_from(db).ok()).map(DbIndex) {
            for slot in other.occupied_slots(db) {
                let places = (self.lock_for_command(db, slot), other.lock(db, slot));
                let (Some(mut ours), Some(mut theirs)) = places else { continue };
                debug_assert!(ours.table.is_empty(), "every database has been flushed");
                ours.table = take(&mut theirs.table);
                ours.volatile = take(&mut theirs.volatile);
                ours.calendar = theirs.calendar.take();
                self.set_due(db, slot, other.due(db, slot));
                let keys = i64::try_from(ours.table.len()).unwrap_or(i64::MAX);
                self.count(db, slot, keys, i64::from(ours.volatile), keys == 0);
                other.count(db, slot, -keys, -i64::from(ours.volatile), true);
            }
        }
        self.s3fifo().adopt(other.s3fifo(), |db| self.physical(db));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larder_base::hash::KeyHasher;
    use larder_base::time::Millis;

    use super::*;
    use crate::settings::Settings;
    use crate::snapshot::Item;
    use crate::value::Value;

    const NOW: Millis = Millis(1_000_000);

    fn put(keyspace: &Keyspace, db: u8, key: &str, when: Option<Millis>) {
        let settings = Settings::default();
        let mut view = keyspace.view_all(&settings, DbIndex(db), NOW);
        assert!(view.put_new(key.as_bytes(), Value::Text(Arc::new(b"text".to_vec())), when));
    }

    fn has(keyspace: &Keyspace, db: u8, key: &str, now: Millis) -> bool {
        keyspace.view_all(&Settings::default(), DbIndex(db), now).contains(key.as_bytes())
    }

    /// Keys that a snapshot of all shows now.
    fn saved(keyspace: &Keyspace) -> usize {
        let mut snapshot = keyspace.begin_snapshot().expect("a lane is free");
        let mut keys = 0;
        while snapshot
            .step(keyspace, 100, &mut |item| keys += usize::from(matches!(item, Item::Record(..))))
        {
        }
        keys
    }

    #[test]
    fn what_was_beside_is_all_there_is() {
        let keyspace = Keyspace::new(KeyHasher::new(1, 2), 4);
        put(&keyspace, 0, "old", None);
        // The bits of saved records are others than those of a keyspace that has just begun.
        assert_eq!(saved(&keyspace), 1);
        keyspace.swap(DbIndex(1), DbIndex(3));
        let beside = keyspace.beside();
        (0..1000).for_each(|number| put(&beside, 1, &format!("new:{number}"), None));
        put(&beside, 2, "mortal", Some(Millis(NOW.0 + 100)));
        assert!(has(&keyspace, 0, "old", NOW) && !has(&keyspace, 1, "new:1", NOW));
        // One that runs meanwhile is broken, and shows nothing of what is new.
        let mut broken = keyspace.begin_snapshot().expect("a lane is free");
        (0..4).for_each(|db| drop(keyspace.flush(DbIndex(db))));
        keyspace.adopt(&beside);
        assert!(broken.is_broken(&keyspace));
        let mut shown = 0;
        while broken.step(&keyspace, 100, &mut |_| shown += 1) {}
        assert_eq!(shown, 0);
        assert!(!has(&keyspace, 0, "old", NOW));
        let counts: Vec<usize> = (0..4).map(|db| keyspace.len(DbIndex(db))).collect();
        assert_eq!(counts, [0, 1000, 1, 0]);
        assert!((0..1000).all(|number| has(&keyspace, 1, &format!("new:{number}"), NOW)));
        assert_eq!(keyspace.volatile_len(DbIndex(2)), 1);
        assert!(has(&keyspace, 2, "mortal", NOW));
        assert!(!has(&keyspace, 2, "mortal", Millis(NOW.0 + 200)));
        assert_eq!(saved(&keyspace), 1000 + usize::from(keyspace.len(DbIndex(2)) == 1));
    }
}
