//! Every fixed bound of this crate, with its reason. Nothing but constants belongs here.

/// Longest text in an RDB file or a log, in bytes: the store writes lengths in 32 bits, and Redis accepts no
/// `proto-max-bulk-len` that would let a real text come near.
pub const TEXT_BYTES_MAX: u64 = 1 << 31;
/// How much room is made ahead of bytes that are promised but have not come.
pub const TRUST_BYTES: usize = 64 << 10;
/// The writer hands its bytes on in pieces of at least this size.
pub const WRITE_BYTES: usize = 64 << 10;
/// Texts up to this length are not worth compressing.
pub const COMPRESS_BYTES_MIN: usize = 20;
/// Most arguments of one logged command: what a request may have.
pub const COMMAND_ARGS_MAX: u64 = larder_base::limits::REQUEST_ARGS_MAX as u64;
/// Longest line of a log that is no text: a header or an annotation.
pub const LINE_BYTES_MAX: usize = 1024;
/// Longest manifest, in bytes: Redis keeps a handful of lines in it.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;
