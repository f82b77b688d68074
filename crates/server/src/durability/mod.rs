//! What survives, and what others follow: the journal of effects, and who reads it. It knows no command
//! and no layout of values.

pub mod aof;
pub mod aof_base;
pub mod aof_load;
pub mod apply;
pub mod changed;
pub mod cut;
pub mod files;
pub mod gate;
pub mod journal;
mod pace;
pub mod rdb_file;
pub mod record;
mod rewrite;
pub mod save;
