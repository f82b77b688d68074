//! When a record is due, in eight bits beside its address, so that a sweep reads a dense array and
//! touches only records that are due now. It knows no table and no clock.
//!
//! A mark is 0 (never expires), a fine code (deadline within about 23 seconds, resolution 128 ms) or a
//! coarse code (resolution 16 s, wrapping after 17 minutes). Marks may lie about the lap but never
//! about the moment within it: every candidate is checked against the record's own deadline.

use larder_base::time::Millis;

const FINE_CODES: i64 = 191;
const COARSE_CODES: i64 = 64;
const FINE_SHIFT: u32 = 7;
const COARSE_SHIFT: u32 = 14;
/// Fine codes are given to deadlines at most this many ticks ahead, so that laps do not mix.
const FINE_HORIZON: i64 = 183;

/// The mark of a record with this deadline, set now.
pub fn mark(deadline: Option<Millis>, now: Millis) -> u8 {
    let Some(when) = deadline else { return 0 };
    let tick = when.0 >> FINE_SHIFT;
    if tick - (now.0 >> FINE_SHIFT) <= FINE_HORIZON {
        code(1 + tick.rem_euclid(FINE_CODES))
    } else {
        code(1 + FINE_CODES + (when.0 >> COARSE_SHIFT).rem_euclid(COARSE_CODES))
    }
}

fn code(value: i64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// When the moment of a mark comes next, seen from now: no record with this mark that a sweep has left
/// behind is due before. 0 marks records that never are.
fn next_moment(mark: i64, now: Millis) -> i64 {
    let ahead = |unit: i64, code: i64, codes: i64| unit + (code - unit).rem_euclid(codes);
    match mark - 1 {
        ..0 => i64::MAX,
        code @ 0..FINE_CODES => ahead(now.0 >> FINE_SHIFT, code, FINE_CODES) << FINE_SHIFT,
        // A deadline in the present unit has a fine mark by now: a coarse one means a later lap.
        code => ahead((now.0 >> COARSE_SHIFT) + 1, code - FINE_CODES, COARSE_CODES) << COARSE_SHIFT,
    }
}

/// The marks that are due in one sweep, and when the others will be.
pub struct Due {
    codes: [bool; 256],
    next: [i64; 256],
}

impl Due {
    /// Marks of records that became due, or whose coarse unit began, after `last` and up to `now`.
    pub fn between(last: Millis, now: Millis) -> Due {
        let mut codes = [false; 256];
        let mut flag = |code: i64| {
            if let Some(slot) = usize::try_from(code).ok().and_then(|at| codes.get_mut(at)) {
                *slot = true;
            }
        };
        let (from, to) = (last.0 >> FINE_SHIFT, now.0 >> FINE_SHIFT);
        for tick in from.max(to - FINE_CODES)..=to {
            flag(1 + tick.rem_euclid(FINE_CODES));
        }
        let (from, to) = (last.0 >> COARSE_SHIFT, now.0 >> COARSE_SHIFT);
        for unit in from.max(to - COARSE_CODES)..=to {
            flag(1 + FINE_CODES + unit.rem_euclid(COARSE_CODES));
        }
        let mut next = [i64::MAX; 256];
        for (mark, moment) in (0i64..).zip(&mut next) {
            *moment = next_moment(mark, now);
        }
        Due { codes, next }
    }

    /// Whether a record with this mark must be looked at.
    #[inline]
    pub fn has(&self, mark: u8) -> bool {
        self.codes.get(usize::from(mark)).copied().unwrap_or(false)
    }

    /// No record left with this mark is due before this moment.
    #[inline]
    pub fn next(&self, mark: u8) -> Millis {
        Millis(self.next.get(usize::from(mark)).copied().unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Sweeping every `step` ms, with records re-marked when looked at early, each is found within
        /// one step of its deadline.
        #[test]
        fn found_in_time(start in 0i64..2_000_000_000, ahead in 0i64..5_000_000, step in 10i64..900) {
            let deadline = Millis(start + ahead);
            let mut now = Millis(start);
            let mut at = mark(Some(deadline), now);
            loop {
                let next = Millis(now.0 + step);
                if Due::between(now, next).has(at) {
                    if deadline <= next { break; }
                    at = mark(Some(deadline), next);
                }
                prop_assert!(next.0 <= deadline.0 + step, "missed");
                now = next;
            }
        }

        /// A sweep that only comes when it was told to, by the moment of the mark, is never late.
        #[test]
        fn told_in_time(start in 0i64..2_000_000_000, ahead in 1i64..5_000_000, step in 10i64..900) {
            let deadline = Millis(start + ahead);
            let mut last = Millis(start);
            let mut at = mark(Some(deadline), last);
            let mut wake = Millis(0);
            loop {
                let now = Millis(last.0 + step);
                prop_assert!(now.0 <= deadline.0 + step, "missed");
                let due = Due::between(last, now);
                last = now;
                if wake > now {
                    continue;
                }
                if due.has(at) {
                    if deadline <= now { break; }
                    at = mark(Some(deadline), now);
                }
                wake = due.next(at);
                prop_assert!(wake <= deadline);
            }
        }
    }
}
