//! Every fixed bound of the server, with its name and reason, in one place.
//!
//! A bound that an operator may change is given here by its default; the configuration table refers
//! to these names. Nothing but constants belongs here.

/// One kibibyte.
pub const KIB: usize = 1024;
/// One mebibyte.
pub const MIB: usize = 1024 * KIB;
/// One gibibyte.
pub const GIB: usize = 1024 * MIB;

// ---- Requests ------------------------------------------------------------------------------------

/// Longest inline request, and longest header line of a multibulk request, in bytes.
pub const INLINE_BYTES_MAX: usize = 64 * KIB;
/// Longest single argument in bytes unless `proto-max-bulk-len` says otherwise.
pub const BULK_BYTES_MAX_DEFAULT: usize = 512 * MIB;
/// Smallest value that `proto-max-bulk-len` accepts, in bytes.
pub const BULK_BYTES_MAX_FLOOR: usize = MIB;
/// Most arguments of one request, its name included.
pub const REQUEST_ARGS_MAX: usize = 1_048_576;
/// Most arguments of one request while the connection has yet to authenticate.
pub const UNAUTHENTICATED_ARGS_MAX: usize = 10;
/// Longest argument in bytes while the connection has yet to authenticate.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16_384;
/// Most bytes of unprocessed input of a connection that has yet to authenticate.
pub const UNAUTHENTICATED_INPUT_BYTES_MAX: usize = 64 * KIB;
/// Most bytes of unsent output of a connection that has yet to authenticate.
pub const UNAUTHENTICATED_OUTPUT_BYTES_MAX: usize = 64 * KIB;
/// Milliseconds within which a connection must authenticate, where that is asked of it.
pub const UNAUTHENTICATED_MS_MAX: i64 = 10_000;
/// Wrong passwords after which a connection is closed.
pub const WRONG_PASSWORDS_MAX: u8 = 16;
/// Most bytes of unprocessed input that one connection may hold, unless
/// `client-query-buffer-limit` says otherwise.
pub const QUERY_BUFFER_BYTES_MAX_DEFAULT: usize = GIB;
/// Smallest value that `client-query-buffer-limit` accepts, in bytes.
pub const QUERY_BUFFER_BYTES_MAX_FLOOR: usize = MIB;
/// Most bytes of messages (publications, invalidations, lines of MONITOR) that may wait for one worker; a connection for which
/// there is no room is closed, as one that reads too slowly is.
pub const WORKER_MESSAGES_BYTES_MAX: usize = 256 * MIB;
/// Bytes of messages for a worker's own connections after which it ends its turn, to hand them on.
pub const TURN_MESSAGES_BYTES_MAX: usize = 32 * MIB;
/// Bytes that a connection asks the kernel for in one read when it has no better knowledge.
pub const READ_CHUNK_BYTES: usize = 16 * KIB;
/// From this length on, an argument is worth a buffer sized for it alone.
pub const BIG_BULK_BYTES: usize = 32 * KIB;

// ---- Replies -------------------------------------------------------------------------------------

/// Bytes of unread replies that every connection may have waiting before it is no longer read.
pub const UNREAD_OWN_BYTES_MAX: usize = MIB;
/// The same beyond that, of all connections together; one of them has at most half.
pub const UNREAD_SHARED_BYTES_MAX: usize = 64 * MIB;
/// Where memory is limited, at most this part of it.
pub const UNREAD_SHARE_OF_MEMORY: usize = 16;
/// Deepest nesting of aggregates that the reply parser follows.
pub const RESPONSE_DEPTH_MAX: usize = 32;
/// Longest part of a client's own bytes that is quoted back inside an error message.
pub const ERROR_ECHO_BYTES_MAX: usize = 128;

// ---- Keys and values -----------------------------------------------------------------------------

/// Longest value of a string key in bytes unless `proto-max-bulk-len` says otherwise.
pub const STRING_BYTES_MAX_DEFAULT: usize = BULK_BYTES_MAX_DEFAULT;
/// Longest text that is read as an extended-precision number.
pub const LONG_DOUBLE_TEXT_BYTES_MAX: usize = 5 * KIB - 1;
/// Longest decimal text of a 64-bit integer: 19 digits and a sign.
pub const INTEGER_TEXT_BYTES_MAX: usize = 20;
/// Number of databases unless `databases` says otherwise.
pub const DATABASES_DEFAULT: usize = 16;

// ---- Connections ---------------------------------------------------------------------------------

/// Most connections at a time unless `maxclients` says otherwise.
pub const CLIENTS_MAX_DEFAULT: usize = 10_000;
/// Length of the kernel's accept queue unless `tcp-backlog` says otherwise.
pub const TCP_BACKLOG_DEFAULT: u32 = 511;
