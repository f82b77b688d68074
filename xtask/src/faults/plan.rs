//! What is to fail, and when: drawn at random, from what a server does in a mode.

use std::time::Duration;

use larder_base::Rng;

use super::control::{CHANGES, Fault, LASTING, LOOK, OPEN, READ, RENAME, SYNC, TRUNCATE, WRITE};

/// Ways to keep the data.
pub const MODES: [&str; 4] = ["always", "everysec", "no", "rdb"];

/// What the server is doing when the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It starts.
    Start,
    /// It writes its log.
    Write,
    /// It rewrites its log.
    Rewrite,
    /// It changes what the manifest says.
    Manifest,
    /// The log is turned off and on again.
    Turn,
    /// It saves.
    Save,
}

/// How the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Killed while the disk fails.
    KilledFailing,
    /// Asked to end while the disk fails.
    AskedFailing,
    /// Killed after it has recovered.
    Killed,
    /// Asked to end after it has recovered.
    Asked,
}

/// A round.
#[derive(Clone, Debug)]
pub struct Plan {
    pub mode: &'static str,
    pub moment: Moment,
    pub fault: Fault,
    /// How long it fails at least, once it does.
    pub lasts: Duration,
    pub end: End,
}

/// The system's numbers of EIO and ENOSPC.
const ERRORS: [u64; 2] = [5, 28];

impl Plan {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Plan {
        let mode = pick(rng, &MODES);
        let moment = if mode == "rdb" {
            pick(rng, &[Moment::Start, Moment::Save, Moment::Save, Moment::Save])
        } else {
            let moments = [Moment::Write, Moment::Rewrite, Moment::Manifest, Moment::Turn];
            pick(rng, &[&[Moment::Start, Moment::Write], &moments[..]].concat())
        };
        let count = pick(rng, &[1, 1, 2, 5, LASTING, LASTING]);
        let end = pick(rng, &[End::KilledFailing, End::AskedFailing, End::Killed, End::Asked]);
        Plan {
            mode,
            moment,
            fault: Fault {
                count,
                error: pick(rng, &ERRORS),
                cut: rng.below(3) == 0,
                ..kind(rng, moment)
            },
            lasts: Duration::from_millis(if count == LASTING { 50 + rng.below(600) } else { 0 }),
            // A server that has save points keeps running where it cannot save: it is not asked then.
            end: if mode == "rdb" && end == End::AskedFailing { End::Asked } else { end },
        }
    }

    /// Whether writes must be refused while it lasts.
    pub fn refuses_writes(&self) -> bool {
        let (mask, syncs) = (self.fault.mask, matches!(self.mode, "always" | "everysec"));
        let is_met = mask & WRITE != 0 || (syncs && mask & SYNC != 0);
        self.fault.count == LASTING && self.moment == Moment::Write && is_met
    }
}

/// Operations and files that a moment is about.
fn kind(rng: &mut Rng, moment: Moment) -> Fault {
    let (mask, first, part) = match moment {
        Moment::Start => {
            let mask = pick(rng, &[CHANGES, CHANGES, READ, LOOK, SYNC, CHANGES | READ | LOOK]);
            (mask, 1 + rng.below(24), "")
        }
        Moment::Write => {
            let mask = pick(rng, &[WRITE, SYNC, WRITE | SYNC, WRITE | SYNC | TRUNCATE | OPEN]);
            (mask, 1 + rng.below(4), ".incr.")
        }
        Moment::Rewrite => {
            let mask = pick(rng, &[CHANGES, WRITE, SYNC, RENAME | OPEN]);
            (mask, 1 + rng.below(6), pick(rng, &["", "temp-", ".base.", "appendonlydir"]))
        }
        Moment::Manifest => {
            let mask = pick(rng, &[CHANGES, OPEN, WRITE, SYNC, RENAME]);
            (mask, 1 + rng.below(3), "manifest")
        }
        Moment::Turn => (pick(rng, &[CHANGES, SYNC, OPEN | RENAME]), 1 + rng.below(16), ""),
        Moment::Save => {
            let mask = pick(rng, &[CHANGES, WRITE, SYNC, RENAME, OPEN]);
            (mask, 1 + rng.below(2), "")
        }
    };
    Fault { mask, first, count: 1, error: 5, cut: false, part }
}

#[expect(clippy::indexing_slicing, reason = "the place is drawn below the length")]
fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below_usize(from.len())]
}
