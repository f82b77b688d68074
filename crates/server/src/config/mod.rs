//! The configuration: from text to a typed, immutable [`Config`], and back for CONFIG GET and CONFIG REWRITE.
//! The server holds `Arc<Config>` snapshots. Nothing here may know sockets, sessions or the keyspace.

pub mod file;
pub mod options;
pub mod reference;
pub mod rewrite;
pub mod split;
mod typed;
pub mod values;

pub use file::{LoadError, RawConfig};
pub use options::{Change, Kind, OptionId, Row, Support};
pub use typed::{Config, SetError};
pub use values::{
    AppendFsync, DisklessLoad, EvictionPolicy, KeyspaceEvents, LogLevel, MemoryLimit, OomScoreAdj,
    OutputLimit, OutputLimits, Permission, Secret, Supervision,
};
