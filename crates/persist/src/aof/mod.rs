//! The append-only file: a log of commands, and the manifest that says which files make up the log. It knows no
//! command's meaning but MULTI and EXEC, and no file.

mod log;
mod manifest;
#[cfg(test)]
mod tests;

pub use log::{
    Item, LogError, LogReader, LogReason, checksum_line, encode_command, timestamp_line,
};
pub use manifest::{FileKind, LogFile, Manifest, ManifestError};
