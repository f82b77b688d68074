//! The one seam for file work: what persistence asks of a disk. Names are relative to the folder of the data. The real
//! disk is the server's; here is a simulated one, for tests, that loses what a real one may lose. It knows no
//! format.

pub mod simulated;

use std::io::{self, Read, Seek, Write};

/// A folder on a disk.
pub trait Disk {
    /// An open file, to write.
    type Writer: DiskWriter;
    /// An open file, to read from its beginning.
    type Reader: Read + Seek;

    /// A new file, empty; what had the name is emptied.
    ///
    /// # Errors
    /// As the disk has them.
    fn create(&self, name: &str) -> io::Result<Self::Writer>;

    /// A file to be continued at its end; made if it is not there.
    ///
    /// # Errors
    /// As the disk has them.
    fn append(&self, name: &str) -> io::Result<Self::Writer>;

    /// A file to read.
    ///
    /// # Errors
    /// As the disk has them.
    fn read(&self, name: &str) -> io::Result<Self::Reader>;

    /// Gives a file another name; a file that had it is gone. Lasting only after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// As the disk has them.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Deletes a file. Lasting only after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// As the disk has them.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// As the disk has them.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes creations, renames and deletions lasting.
    ///
    /// # Errors
    /// As the disk has them.
    fn sync_folder(&self) -> io::Result<()>;
}

/// An open file to write.
pub trait DiskWriter: Write {
    /// Makes what was written lasting. After an error nobody knows what is: the file must be written anew.
    ///
    /// # Errors
    /// As the disk has them.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// As the disk has them.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Puts a whole file in place of another such that at every moment, power cuts included, either the old or the new one
/// is there: written beside, synced, renamed, and the folder synced.
///
/// # Errors
/// As the disk has them; the old file is still there, or its replacement is complete.
pub fn replace<D: Disk>(disk: &D, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!("temp-{name}");
    let written = disk.create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.flush()?;
        file.sync()
    });
    if let Err(error) = written.and_then(|()| disk.rename(&beside, name)) {
        // What lies beside is rubbish either way; that it cannot be deleted changes nothing.
        let _ = disk.remove(&beside);
        return Err(error);
    }
    disk.sync_folder()
}
