//! A disk in memory that keeps only what it must. After a power cut, of what was not synced each sector may
//! be there or not, a file may be longer than its data, and each creation, rename and deletion may be lost.
//! Before that, any single operation may fail: with an error, out of space, after a part of a write, or because the
//! power goes. One seed decides everything. It knows no clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::rc::Rc;

use larder_base::Rng;

use super::{Disk, DiskWriter};

/// What a real disk writes whole or not at all.
const SECTOR: usize = 512;
/// `ENOSPC` and `EIO`, as Linux numbers them.
const NO_SPACE: i32 = 28;
const BAD_IO: i32 = 5;

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this operation and all later ones fail.
    PowerCut,
    /// This operation fails. A failing sync leaves nobody knowing what is lasting.
    Error,
    /// This operation, if it writes, writes only a part.
    Short,
}

/// A file's bytes now, and as they surely are after a power cut.
#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    lasting: Vec<u8>,
    /// Parts written since the last sync: offset and length. Truncations are of length 0.
    unsynced: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    /// Names now.
    names: BTreeMap<String, usize>,
    /// Names as they surely are after a power cut.
    lasting_names: BTreeMap<String, usize>,
    /// Changes of names since the last sync of the folder, in order: name, and what it stands for since.
    unsynced_names: Vec<Vec<(String, Option<usize>)>>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    powerless: bool,
    space: Option<usize>,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    state: Rc<RefCell<State>>,
}

/// A file on it, open to write.
#[derive(Debug)]
pub struct SimulatedFile {
    state: Rc<RefCell<State>>,
    inode: usize,
}

impl State {
    /// Every operation passes here first; says whether only a part of it shall be done.
    fn begin(&mut self) -> io::Result<bool> {
        if self.powerless {
            return Err(io::Error::from_raw_os_error(BAD_IO));
        }
        let at = self.operations;
        self.operations += 1;
        match self.fault.filter(|(when, _)| *when == at) {
            Some((_, Fault::PowerCut)) => {
                self.powerless = true;
                Err(io::Error::from_raw_os_error(BAD_IO))
            }
            Some((_, Fault::Error)) => Err(io::Error::from_raw_os_error(BAD_IO)),
            Some((_, Fault::Short)) => Ok(true),
            None => Ok(false),
        }
    }

    fn used(&self) -> usize {
        self.names.values().filter_map(|inode| self.inodes.get(*inode)).map(|i| i.now.len()).sum()
    }

    fn rename_names(&mut self, changes: Vec<(String, Option<usize>)>) {
        apply(&mut self.names, &changes);
        self.unsynced_names.push(changes);
    }

    fn open(&mut self, name: &str) -> usize {
        if let Some(inode) = self.names.get(name) {
            return *inode;
        }
        self.inodes.push(Inode::default());
        let inode = self.inodes.len() - 1;
        self.rename_names(vec![(name.to_string(), Some(inode))]);
        inode
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn apply(names: &mut BTreeMap<String, usize>, changes: &[(String, Option<usize>)]) {
    for (name, inode) in changes {
        match inode {
            Some(inode) => drop(names.insert(name.clone(), *inode)),
            None => drop(names.remove(name)),
        }
    }
}

impl Inode {
    /// What a power cut may leave: each sector written since the last sync as it was or as it is.
    fn after_power_cut(&self, rng: &mut Rng) -> Vec<u8> {
        let mut left = self.lasting.clone();
        if self.unsynced.is_empty() {
            return left;
        }
        // The length is written apart from the data.
        if rng.below(2) == 0 {
            left.resize(self.now.len(), 0);
        }
        let first = self.unsynced.iter().map(|(start, _)| start / SECTOR).min().unwrap_or(0);
        for sector in first..self.now.len().div_ceil(SECTOR) {
            let (begin, end) = (sector * SECTOR, (sector + 1) * SECTOR);
            let of_sector = |&(start, len): &(usize, usize)| {
                let (from, to) = (start.max(begin), (start + len).min(end).min(self.now.len()));
                (from < to).then_some((from, to))
            };
            // A sector is written as a whole, as it is at some moment: with the first few changes of it.
            let changes: Vec<_> = self.unsynced.iter().filter_map(of_sector).collect();
            let count = rng.below_usize(changes.len() + 1);
            for (from, to) in changes.into_iter().take(count) {
                left.resize(left.len().max(to), 0);
                if let (Some(left), Some(now)) = (left.get_mut(from..to), self.now.get(from..to)) {
                    left.copy_from_slice(now);
                }
            }
        }
        left
    }
}

impl SimulatedDisk {
    /// An empty disk without limit and without faults.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// Lets the operation with this number go wrong (the first is 0).
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.state.borrow_mut().fault = Some((operation, fault));
    }

    /// No operation goes wrong any more, unless the power is gone.
    pub fn heal(&self) {
        let mut state = self.state.borrow_mut();
        state.fault = None;
        state.space = None;
    }

    /// Whether the power is gone.
    pub fn is_powerless(&self) -> bool {
        self.state.borrow().powerless
    }

    /// Limits the bytes in all files; `None` for no limit.
    pub fn set_space(&self, bytes: Option<usize>) {
        self.state.borrow_mut().space = bytes;
    }

    /// Operations so far: the number of points at which the power can go.
    pub fn operations(&self) -> u64 {
        self.state.borrow().operations
    }

    /// The disk after a power cut: of all that was not synced, chance says what is left. The disk itself stays
    /// as it is, so that several outcomes of one moment can be seen.
    pub fn after_power_cut(&self, rng: &mut Rng) -> SimulatedDisk {
        let state = self.state.borrow();
        let mut names = state.lasting_names.clone();
        for changes in &state.unsynced_names {
            if rng.below(2) == 0 {
                apply(&mut names, changes);
            }
        }
        let inodes = state.inodes.iter().map(|inode| {
            let left = inode.after_power_cut(rng);
            Inode { now: left.clone(), lasting: left, unsynced: Vec::new() }
        });
        let inodes = inodes.collect();
        let state = State { inodes, lasting_names: names.clone(), names, ..State::default() };
        SimulatedDisk { state: Rc::new(RefCell::new(state)) }
    }

    fn file(&self, inode: usize) -> SimulatedFile {
        SimulatedFile { state: Rc::clone(&self.state), inode }
    }
}

impl Disk for SimulatedDisk {
    type Writer = SimulatedFile;
    type Reader = Cursor<Vec<u8>>;

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        let inode = state.open(name);
        if let Some(inode) = state.inodes.get_mut(inode) {
            inode.now.clear();
            inode.unsynced.push((0, 0));
        }
        Ok(self.file(inode))
    }

    fn append(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        let inode = state.open(name);
        Ok(self.file(inode))
    }

    fn read(&self, name: &str) -> io::Result<Cursor<Vec<u8>>> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        let inode = state.find(name)?;
        Ok(Cursor::new(state.inodes.get(inode).map(|inode| inode.now.clone()).unwrap_or_default()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        let inode = state.find(from)?;
        state.rename_names(vec![(from.to_string(), None), (to.to_string(), Some(inode))]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        state.find(name)?;
        state.rename_names(vec![(name.to_string(), None)]);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        state.lasting_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }
}

impl Write for SimulatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        let short = state.begin()?;
        let room = state.space.map_or(usize::MAX, |space| space.saturating_sub(state.used()));
        let len = if short { bytes.len().div_ceil(2) } else { bytes.len() }.min(room);
        if len == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(NO_SPACE));
        }
        if let Some(inode) = state.inodes.get_mut(self.inode) {
            let start = inode.now.len();
            inode.now.extend_from_slice(bytes.get(..len).unwrap_or_default());
            inode.unsynced.push((start, len));
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskWriter for SimulatedFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        if let Some(inode) = state.inodes.get_mut(self.inode) {
            inode.lasting.clone_from(&inode.now);
            inode.unsynced.clear();
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.begin()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        if let Some(inode) = state.inodes.get_mut(self.inode) {
            inode.now.resize(len, 0);
            inode.unsynced.push((len, 0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::replace;
    use super::*;

    fn content(disk: &SimulatedDisk, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        disk.read(name).ok()?.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let disk = SimulatedDisk::new();
        let mut file = disk.create("log").unwrap();
        file.write_all(&[1; 1500]).unwrap();
        file.sync().unwrap();
        disk.sync_folder().unwrap();
        file.write_all(&[2; 1500]).unwrap();
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..300 {
            let after = disk.after_power_cut(&mut Rng::new(seed));
            let bytes = content(&after, "log").unwrap();
            assert_eq!(&bytes[..1500], &[1; 1500]);
            match bytes[1500..].iter().filter(|byte| **byte == 2).count() {
                0 => lost += 1,
                1500 => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 0 && kept > 0 && torn > 0, "{lost} {kept} {torn}");
    }

    #[test]
    fn a_name_lasts_once_its_folder_is_synced() {
        let disk = SimulatedDisk::new();
        disk.create("a").unwrap().sync().unwrap();
        let seen = |disk: &SimulatedDisk| {
            let after = (0..50).map(|seed| disk.after_power_cut(&mut Rng::new(seed)));
            after.map(|disk| disk.list().unwrap()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(seen(&disk).len(), 2, "there or not");
        disk.sync_folder().unwrap();
        assert_eq!(seen(&disk).into_iter().collect::<Vec<_>>(), [["a"]]);
        disk.rename("a", "b").unwrap();
        assert_eq!(seen(&disk).into_iter().collect::<Vec<_>>(), [["a"], ["b"]]);
    }

    /// The power goes at every operation in turn, with many outcomes each.
    #[test]
    fn a_replaced_file_is_always_the_old_or_the_new_one() {
        let (old, new) = (vec![b'o'; 3000], vec![b'n'; 2000]);
        for cut in 0..20 {
            for fault in [Fault::PowerCut, Fault::Error, Fault::Short] {
                let disk = SimulatedDisk::new();
                replace(&disk, "manifest", &old).unwrap();
                disk.fail_at(disk.operations() + cut, fault);
                let done = replace(&disk, "manifest", &new).is_ok();
                for seed in 0..40 {
                    let after = disk.after_power_cut(&mut Rng::new(seed));
                    let found = content(&after, "manifest").expect("one of the two");
                    assert!(found == old || found == new, "operation {cut}, {fault:?}");
                    assert!(!done || found == new, "said done, but it is not");
                }
            }
        }
    }

    #[test]
    fn a_full_disk_says_so_and_recovers() {
        let disk = SimulatedDisk::new();
        replace(&disk, "m", &[1; 100]).unwrap();
        disk.set_space(Some(150));
        let error = replace(&disk, "m", &[2; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(content(&disk, "m").unwrap(), [1; 100]);
        disk.set_space(None);
        replace(&disk, "m", &[2; 100]).unwrap();
        assert_eq!(content(&disk, "m").unwrap(), [2; 100]);
        assert_eq!(disk.list().unwrap(), ["m"]);
    }
}
