//! A set of names that a client chose (channels, patterns), which knows what it holds of memory: names may be long,
//! and `maxmemory-clients` is to see them. It does not know what the names are for.

use std::collections::HashSet;

/// See the head of this file.
#[derive(Default)]
pub struct Names {
    set: HashSet<Vec<u8>>,
    /// Bytes of all names.
    bytes: usize,
}

impl Names {
    /// What the table, the box and the allocator take for each name beside its text, roughly; the other
    /// half is in the table of those who listen to that name.
    pub const EACH: usize = 96;

    /// Whether it is new.
    pub fn insert(&mut self, name: &[u8]) -> bool {
        let fresh = self.set.insert(name.to_vec());
        self.bytes += if fresh { name.len() } else { 0 };
        fresh
    }

    /// Whether it was there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let had = self.set.remove(name);
        self.bytes -= if had { name.len() } else { 0 };
        had
    }

    /// Whether it is there.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.set.contains(name)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// One by one, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.set.iter()
    }

    /// Takes all out.
    pub fn drain(&mut self) -> impl Iterator<Item = Vec<u8>> {
        self.bytes = 0;
        self.set.drain()
    }

    /// Bytes that they hold.
    pub fn memory(&self) -> usize {
        self.bytes + self.set.len() * Names::EACH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_goes_with_the_names() {
        let mut names = Names::default();
        assert!(names.insert(&[b'a'; 1000]) && names.insert(b"b") && !names.insert(b"b"));
        assert_eq!(names.memory(), 1001 + 2 * Names::EACH);
        assert!(names.remove(&[b'a'; 1000]) && !names.remove(b"c"));
        assert_eq!((names.memory(), names.len()), (1 + Names::EACH, 1));
        assert_eq!(names.drain().collect::<Vec<_>>(), [b"b".to_vec()]);
        assert_eq!(names.memory(), 0);
    }
}
