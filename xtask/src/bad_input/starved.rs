//! How long a server was kept from running by the machine alone: time that it is not to blame for. The kernel counts for
//! each thread how long it was ready and had no core. It knows no attack.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::process::Server;

/// What had been counted at a moment, of each thread of a server and of the calling one.
pub struct Starved {
    /// When it was looked at.
    pub at: Instant,
    threads: HashMap<OsString, Duration>,
    own: Duration,
}

impl Starved {
    /// As it stands. A kernel that does not count says nothing.
    pub fn now(server: &Server) -> Starved {
        let folder = format!("/proc/{}/task", server.pid());
        let threads = fs::read_dir(folder).into_iter().flatten().flatten();
        let threads = threads.map(|thread| (thread.file_name(), delay(&thread.path())));
        Starved {
            at: Instant::now(),
            threads: threads.collect(),
            own: delay(Path::new("/proc/thread-self")),
        }
    }

    /// What has come since then: of the thread that it hit most, and of the calling one, which waits for the other.
    pub fn since(&self, server: &Server) -> Duration {
        let now = Starved::now(server);
        let grown = now.threads.iter().map(|(thread, delay)| {
            delay.saturating_sub(self.threads.get(thread).copied().unwrap_or_default())
        });
        grown.max().unwrap_or_default() + now.own.saturating_sub(self.own)
    }
}

/// The second number of `schedstat`, in nanoseconds.
fn delay(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let nanos = text.split(' ').nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
