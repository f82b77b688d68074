//! MONITOR: every command that runs, shown to those who asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use larder_commands::{Args, Command};
use parking_lot::Mutex;

use crate::client::Client;
use crate::commandlog;
use crate::pubsub::{Address, Message};
use crate::shared::{Letter, Server};

/// Who watches.
#[derive(Default)]
pub struct Monitors {
    all: Mutex<Vec<Address>>,
    count: AtomicUsize,
}

impl Monitors {
    /// Whether nobody watches.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Adds a watcher.
    pub fn add(&self, who: Address) {
        let mut all = self.all.lock();
        if !all.contains(&who) {
            all.push(who);
        }
        self.count.store(all.len(), Ordering::Release);
    }

    /// Removes a watcher.
    pub fn remove(&self, who: Address) {
        let mut all = self.all.lock();
        all.retain(|other| *other != who);
        self.count.store(all.len(), Ordering::Release);
    }

    /// Shows a request.
    pub fn show(&self, server: &Server, client: &Client, command: &Command, args: Args<'_>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = format!(
            "+{}.{:06} [{} {}]",
            since.as_secs(),
            since.subsec_micros(),
            client.db.0,
            client.stream.peer()
        )
        .into_bytes();
        for arg in commandlog::presentable(command.name, args) {
            line.push(b' ');
            quote(&mut line, &arg);
        }
        line.extend_from_slice(b"\r\n");
        let message = Arc::new(Message::Raw(line));
        for at in self.all.lock().iter() {
            server.post(at.worker, Letter::Deliver(at.token, Arc::clone(&message)));
        }
    }
}

/// Writes bytes in double quotes, with escapes for what is not printable.
fn quote(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(*byte),
            other => out.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}
