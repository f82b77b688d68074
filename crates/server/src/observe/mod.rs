//! What the server knows about itself: figures, how they are gathered, and how they are named. It changes
//! nothing but to set counts back.

pub mod histogram;
pub mod info;
pub mod lists;
pub mod memory;
pub mod metrics;
pub mod pulse;
pub mod snapshot;
pub mod turns;

use std::sync::atomic::Ordering;

use crate::control::Session;
use crate::shared::Server;
use crate::stats::{CommandStats, Stats};

impl Server {
    /// Notes how much memory is used: the most, and what it was when the server had just started. Returns
    /// what it is now.
    pub fn note_memory(&self) -> usize {
        let used = (self.memory.used)();
        self.memory_peak.fetch_max(used, Ordering::Relaxed);
        // Only the first call of all finds nothing there.
        let first = Ordering::Relaxed;
        let _ = self.memory_at_start.compare_exchange(0, used, first, Ordering::Relaxed);
        used
    }
}

/// CONFIG RESETSTAT: counts begin anew; what is there now stays.
pub fn reset(session: &mut Session<'_, '_, '_>) {
    *session.turn.stats = Stats::default();
    session.turn.commands.fill(CommandStats::default());
    let server = session.turn.server;
    server.errors.lock().clear();
    server.rejected.store(0, Ordering::Relaxed);
    server.replication.reset_counts();
    server.evictions.reset();
    server.background.reset();
    for state in session.others.iter_mut().flat_map(|others| others.iter_mut()) {
        state.stats = Stats::default();
        state.commands.fill(CommandStats::default());
        state.pulse.reset();
    }
}
