//! The real disk behind the seam of `persist`: files in the folder of the data (`dir`). The only place of the
//! durable parts that opens, writes, renames or deletes a file. It knows no format.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use larder_persist::disk::{Disk, DiskWriter};

/// A folder of the file system.
#[derive(Clone, Debug)]
pub struct FolderDisk {
    folder: PathBuf,
}

/// An open file in it, to write.
#[derive(Debug)]
pub struct FolderFile {
    file: File,
}

impl FolderDisk {
    /// The disk that is this folder; made if it is not there.
    ///
    /// # Errors
    /// If the folder can neither be found nor made.
    pub fn new(folder: &Path) -> io::Result<FolderDisk> {
        fs::create_dir_all(folder)?;
        Ok(FolderDisk { folder: folder.to_path_buf() })
    }

    /// Where a file lies. Names from a manifest must not lead out of the folder.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file name that is a path"));
        }
        Ok(self.folder.join(name))
    }
}

impl Disk for FolderDisk {
    type Writer = FolderFile;
    type Reader = File;

    fn create(&self, name: &str) -> io::Result<FolderFile> {
        Ok(FolderFile { file: File::create(self.path(name)?)? })
    }

    fn append(&self, name: &str) -> io::Result<FolderFile> {
        // As Redis has it, whatever the mask lets through: who may change the log may change the data.
        let mode = 0o644;
        let file =
            OpenOptions::new().append(true).create(true).mode(mode).open(self.path(name)?)?;
        Ok(FolderFile { file })
    }

    fn read(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Names that are no text are none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

impl Write for FolderFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskWriter for FolderFile {
    fn sync(&mut self) -> io::Result<()> {
        // The length is written too, where it changed; times are not worth a second write.
        self.file.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.seek(SeekFrom::End(0)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use larder_persist::disk::replace;

    #[test]
    fn a_folder_keeps_its_files_and_lets_no_name_lead_out() {
        let folder = std::env::temp_dir().join(format!("larder-files-{}", std::process::id()));
        let disk = FolderDisk::new(&folder).unwrap();
        replace(&disk, "manifest", b"old").unwrap();
        replace(&disk, "manifest", b"new").unwrap();
        let mut log = disk.append("log").unwrap();
        log.write_all(b"one two").unwrap();
        log.truncate(3).unwrap();
        log.write_all(b" three").unwrap();
        log.sync().unwrap();
        let read = |name: &str| {
            let mut bytes = Vec::new();
            disk.read(name).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read("manifest"), b"new");
        assert_eq!(read("log"), b"one three");
        assert_eq!(disk.list().unwrap(), ["log", "manifest"]);
        disk.remove("log").unwrap();
        assert_eq!(disk.read("log").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(disk.create("../manifest").is_err());
        assert!(disk.rename("manifest", "a/b").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
