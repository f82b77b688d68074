//! The control file of the disk that fails: which operations, from which one on, how many, and with what error. `shim.c`
//! reads it in the server under test; both hold the same order of words.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Opening to write, and making folders.
pub const OPEN: u64 = 1;
pub const WRITE: u64 = 2;
/// Of files and folders.
pub const SYNC: u64 = 4;
pub const RENAME: u64 = 8;
pub const TRUNCATE: u64 = 16;
pub const REMOVE: u64 = 32;
/// Opening to read, and reading.
pub const READ: u64 = 64;
/// Asking what a file is.
pub const LOOK: u64 = 128;
/// Everything that changes the disk.
pub const CHANGES: u64 = OPEN | WRITE | SYNC | RENAME | TRUNCATE | REMOVE;

/// As many as there come until the fault is taken back.
pub const LASTING: u64 = 1 << 40;

/// What is to fail.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Operations that count.
    pub mask: u64,
    /// The first of them to fail.
    pub first: u64,
    /// And how many fail.
    pub count: u64,
    /// The system's number of the error.
    pub error: u64,
    /// Every other of the writes is cut short instead.
    pub cut: bool,
    /// Only where the path has this in it.
    pub part: &'static str,
}

/// See the head of this file.
pub struct Control {
    path: PathBuf,
    file: File,
}

/// Places of the words.
const ARMED: u64 = 0;
const FAULT: u64 = 8;
const SEEN: u64 = 48;
const HITS: u64 = 56;
const PART: u64 = 64;
const BYTES: u64 = 4096;

impl Control {
    /// A file of this name, with nothing to fail.
    pub fn create(path: &Path) -> Result<Control> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(BYTES)?;
        Ok(Control { path: path.to_path_buf(), file })
    }

    /// Lets a command run on the disk that fails, for what is below a folder.
    pub fn put_under(&self, command: &mut Command, shim: &Path, folder: &Path) {
        command.env("LD_PRELOAD", shim);
        command.env("LARDER_FAULTS_CONTROL", &self.path).env("LARDER_FAULTS_FOLDER", folder);
    }

    /// From now on this fails.
    pub fn arm(&self, fault: &Fault) -> Result<()> {
        self.put(ARMED, 0)?;
        let words = [fault.mask, fault.first, fault.count, fault.error, u64::from(fault.cut)];
        for (at, word) in (FAULT..).step_by(8).zip(words) {
            self.put(at, word)?;
        }
        self.put(SEEN, 0)?;
        self.put(HITS, 0)?;
        let mut part = [0; 64];
        ensure!(fault.part.len() < part.len(), "too long");
        for (place, byte) in part.iter_mut().zip(fault.part.bytes()) {
            *place = byte;
        }
        self.file.write_all_at(&part, PART)?;
        self.put(ARMED, 1)
    }

    /// Nothing fails any more.
    pub fn disarm(&self) -> Result<()> {
        self.put(ARMED, 0)
    }

    /// Operations that have failed.
    pub fn hits(&self) -> Result<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, HITS)?;
        Ok(u64::from_ne_bytes(word))
    }

    fn put(&self, at: u64, word: u64) -> Result<()> {
        Ok(self.file.write_all_at(&word.to_ne_bytes(), at)?)
    }
}

/// Compiles the shim; where it is.
pub fn build_shim() -> Result<PathBuf> {
    let folder = Path::new("target/faults");
    std::fs::create_dir_all(folder)?;
    // Another run may use the one that is there.
    let (made, shim) = (folder.join(format!("{}.so", std::process::id())), folder.join("shim.so"));
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&made)
        .arg("xtask/src/faults/shim.c")
        .status()
        .context("cc does not start")?;
    ensure!(done.success(), "the shim does not compile");
    std::fs::rename(&made, &shim)?;
    Ok(std::fs::canonicalize(shim)?)
}
