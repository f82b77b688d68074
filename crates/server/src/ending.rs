//! How the server is asked to end, by SHUTDOWN or by a signal, and what must be done before it may. It knows no
//! connections; what comes after the workers have ended is the start's to do, in its order (`startup`).

use std::sync::atomic::Ordering;

use crate::durability::save::{self, SaveError};
use crate::log::{notice, warning};
use crate::shared::Server;

/// What was said about the end.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Save or do not; `None` = save where there are save points.
    save: Option<bool>,
    /// Wait for no replica.
    now: bool,
    /// End even if the data cannot be saved.
    force: bool,
}

impl Wish {
    /// From the words that were said, which `said` knows in lower case.
    pub fn of(said: impl Fn(&str) -> bool) -> Wish {
        let save = match (said("save"), said("nosave")) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        Wish { save, now: said("now"), force: said("force") }
    }
}

/// Begins the end. What is to be saved is saved before anything ends: a server that cannot save goes on rather than
/// lose what it holds. While it loads there is nothing to save. Only in the exclusive section; `dirty` are all
/// modifications so far.
///
/// # Errors
/// Why the data could not be saved; the server goes on.
pub fn begin(server: &Server, wish: Wish, dirty: u64) -> Result<(), SaveError> {
    let wanted = wish.save.unwrap_or(!server.config().save.is_empty());
    let saves = wanted && !server.loading.load(Ordering::Acquire);
    if saves && !wish.force {
        save::save_before_end(server, dirty)?;
    }
    server.saves.ask_at_end(saves);
    server.replication.hurries.store(wish.now, Ordering::Release);
    server.stop();
    Ok(())
}

/// Begins the end because a signal came, as configured for it.
pub fn begin_by_signal(server: &Server, signal: i32) {
    let config = server.config();
    let (name, words) = match signal {
        signal_hook::consts::SIGINT => ("SIGINT", &config.shutdown_on_sigint),
        _ => ("SIGTERM", &config.shutdown_on_sigterm),
    };
    notice(&format!("Received {name} scheduling shutdown..."));
    let wish = Wish::of(|word| words.contains(&word));
    let begun = server.exclusively(|states| {
        begin(server, wish, states.iter().map(|state| state.stats.dirty).sum())
    });
    if let Err(error) = begun {
        warning(&format!(
            "{name} received but the data cannot be saved ({error}): the server goes on; SHUTDOWN NOSAVE ends it without"
        ));
    }
}
