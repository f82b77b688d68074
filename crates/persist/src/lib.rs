//! What the data looks like outside memory: RDB files and DUMP payloads (`rdb`), the append-only file and
//! its manifest (`aof`), their verification (`check`), and the seam for file work (`disk`).
//!
//! Codecs over `Read` and `Write`: the caller owns the file or socket. Nothing here may know a
//! socket, a clock, a thread or the operating system's files.

pub mod aof;
pub mod check;
pub mod crc64;
pub mod disk;
pub mod limits;
pub mod lzf;
pub mod rdb;
