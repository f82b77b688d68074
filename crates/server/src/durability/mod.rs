//! What survives, and what others follow: the journal of effects, and who reads it. It knows no command
//! and no layout of values.

pub mod apply;
pub mod changed;
pub mod cut;
pub mod files;
pub mod journal;
pub mod rdb_file;
pub mod record;
pub mod save;
