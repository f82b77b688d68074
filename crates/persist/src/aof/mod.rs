//! The append-only file: a log of commands, the manifest that says which files make it up, and the work on these
//! files. It knows no command's meaning but MULTI and EXEC, and no file but through `disk`.

pub mod load;
mod log;
mod manifest;
mod scan;
pub mod set;
#[cfg(test)]
mod tests;
pub mod trial;

pub use log::{
    Item, LogError, LogReader, LogReason, Place, checksum_line, encode_command, place_line,
    timestamp_line,
};
pub use manifest::{FileKind, LogFile, Manifest, ManifestError};
pub use scan::{Scan, scan};
