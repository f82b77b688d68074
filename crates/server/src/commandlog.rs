//! Logs of remarkable commands: slow ones, large requests, large replies. Each keeps a bounded number of
//! entries with shortened arguments. It knows no command but those whose arguments are secret.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use larder_commands::Args;
use parking_lot::Mutex;

use crate::client::OwnedArgs;
use crate::config::options;

/// Arguments kept of an entry.
const ARGS_MAX: usize = 32;
/// Bytes kept of an argument.
const ARG_BYTES_MAX: usize = 128;

/// One entry.
#[derive(Clone, Debug)]
pub struct Remarkable {
    /// Number, counting since the start.
    pub id: i64,
    /// Seconds since 1970.
    pub at_s: i64,
    /// Microseconds or bytes, as the log goes.
    pub amount: i64,
    /// The request, shortened.
    pub args: OwnedArgs,
    /// The client's address.
    pub peer: String,
    /// The client's name.
    pub name: Vec<u8>,
}

/// One log.
pub struct CommandLog {
    limit: AtomicI64,
    len_max: AtomicUsize,
    inner: Mutex<(i64, VecDeque<Remarkable>)>,
}

impl CommandLog {
    /// An empty log: amounts from `limit` on are kept (-1 = none), at most `len_max` of them.
    pub const fn new(limit: i64, len_max: usize) -> CommandLog {
        CommandLog {
            limit: AtomicI64::new(limit),
            len_max: AtomicUsize::new(len_max),
            inner: Mutex::new((0, VecDeque::new())),
        }
    }

    /// Changes limit and length.
    pub fn configure(&self, limit: i64, len_max: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.len_max.store(len_max, Ordering::Relaxed);
        self.inner.lock().1.truncate(len_max);
    }

    /// Whether this amount is remarkable.
    #[inline]
    pub fn wants(&self, amount: i64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit >= 0 && amount >= limit
    }

    /// Adds an entry.
    pub fn add(&self, at_s: i64, amount: i64, args: OwnedArgs, peer: String, name: Vec<u8>) {
        if self.len_max.load(Ordering::Relaxed) == 0 {
            // Off: no number is given away.
            return;
        }
        let mut inner = self.inner.lock();
        let id = inner.0;
        inner.0 += 1;
        inner.1.push_front(Remarkable { id, at_s, amount, args, peer, name });
        inner.1.truncate(self.len_max.load(Ordering::Relaxed));
    }

    /// The newest entries, at most `count`.
    pub fn newest(&self, count: usize) -> Vec<Remarkable> {
        self.inner.lock().1.iter().take(count).cloned().collect()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.inner.lock().1.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all entries.
    pub fn clear(&self) {
        self.inner.lock().1.clear();
    }
}

/// Which arguments of a request must never be shown: passwords. `name` is the command's own, by whatever name
/// it was called.
fn is_secret(name: &str, args: Args<'_>, at: usize) -> bool {
    if name == "auth" {
        return at > 0;
    }
    if name == "hello" {
        return at > 2 && (args.is(at - 1, "AUTH") || args.is(at - 2, "AUTH"));
    }
    let sets = name == "config" && args.is(1, "SET");
    let is_secret_option = |name: &[u8]| {
        let row = std::str::from_utf8(name).ok().and_then(options::find);
        row.is_some_and(|(_, row, _)| row.kind == options::Kind::Secret)
    };
    sets && at > 2 && is_secret_option(args.at(at - 1))
}

/// The arguments of a request as others may see them.
pub fn presentable(name: &str, args: Args<'_>) -> OwnedArgs {
    let show = |(at, arg): (usize, &&[u8])| {
        if is_secret(name, args, at) { b"(redacted)".to_vec() } else { arg.to_vec() }
    };
    args.all().iter().enumerate().map(show).collect()
}

/// The same, shortened to what a log keeps.
pub fn shortened(name: &str, args: Args<'_>) -> OwnedArgs {
    let count = args.len();
    let kept = if count > ARGS_MAX { ARGS_MAX - 1 } else { count };
    let mut short: OwnedArgs = Vec::with_capacity(kept + 1);
    for (at, arg) in args.all().iter().enumerate().take(kept) {
        short.push(match arg.get(..ARG_BYTES_MAX) {
            _ if is_secret(name, args, at) => b"(redacted)".to_vec(),
            Some(head) if arg.len() > ARG_BYTES_MAX => {
                let mut head = head.to_vec();
                let more = arg.len() - ARG_BYTES_MAX;
                head.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
                head
            }
            _ => arg.to_vec(),
        });
    }
    if kept < count {
        short.push(format!("... ({} more arguments)", count - kept).into_bytes());
    }
    short
}
