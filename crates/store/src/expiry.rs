//! When records are due: eight bits beside each address say it roughly, and a calendar of each slot says
//! which 32nd of the slot to look at next. A sweep so reads few words, and touches only records that are
//! due. It knows no record and no clock.
//!
//! Time goes in ticks of 64 ms here: a record is looked at when the tick of its deadline is over, so that
//! it is due for certain. A mark is 0 (never expires), a fine code (a tick within the next 11 seconds) or a
//! coarse code (a unit of 8 seconds, wrapping after 9 minutes). Marks may lie about the lap but never about
//! the moment within it: every candidate is checked against the record's own deadline.

use larder_base::time::Millis;

use crate::table::{groups::GROUPS, prefetch};

const FINE_CODES: i64 = 191;
const COARSE_CODES: i64 = 64;
const TICK_SHIFT: u32 = 6;
const COARSE_SHIFT: u32 = 13;
/// Fine codes are given to deadlines at most this many ticks ahead, so that laps do not mix.
const FINE_HORIZON: i64 = 183;

/// A number of ticks since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub i64);

impl Tick {
    /// Later than everything.
    pub const NEVER: Tick = Tick(i64::MAX);

    /// The tick that has just begun at this moment: what is due in an earlier one is due.
    #[inline]
    pub fn begun(now: Millis) -> Tick {
        Tick(now.0 >> TICK_SHIFT)
    }

    /// The tick at whose beginning something with this deadline is to be looked at.
    #[inline]
    pub fn after(when: Millis) -> Tick {
        Tick((when.0 >> TICK_SHIFT) + 1)
    }

    /// When it begins.
    #[inline]
    pub fn moment(self) -> Millis {
        Millis(self.0.saturating_mul(1 << TICK_SHIFT))
    }

    #[inline]
    fn plus(self, ticks: u16) -> Tick {
        Tick(self.0.saturating_add(i64::from(ticks)))
    }

    /// The low bits, as a calendar keeps them.
    #[inline]
    fn low(self) -> u16 {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }
}

/// The mark of a record with this deadline, set now.
#[inline]
pub fn mark(deadline: Option<Millis>, now: Millis) -> u8 {
    let Some(when) = deadline else { return 0 };
    // What should have gone already is to go with the present tick.
    let when = when.max(now);
    let tick = when.0 >> TICK_SHIFT;
    if tick - (now.0 >> TICK_SHIFT) <= FINE_HORIZON {
        code(1 + tick.rem_euclid(FINE_CODES))
    } else {
        code(1 + FINE_CODES + (when.0 >> COARSE_SHIFT).rem_euclid(COARSE_CODES))
    }
}

fn code(value: i64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// What one sweep makes of marks: which are due, and when the others will be.
pub struct Due {
    cut: Tick,
    /// By mark, how many ticks after the cut it is to be looked at: 0 = in this sweep.
    distance: [u16; 256],
}

impl Due {
    /// A sweep of what became due, or whose coarse unit began, since the cut of the sweep before.
    pub fn between(last: Tick, cut: Tick) -> Due {
        let (fine_from, from) = (last.0.max(cut.0 - FINE_CODES), last.moment().0 >> COARSE_SHIFT);
        let unit = cut.moment().0 >> COARSE_SHIFT;
        let units = (unit - from).clamp(0, COARSE_CODES);
        let distance = |mark: i64| match mark - 1 {
            ..0 => i64::MAX,
            code @ 0..FINE_CODES => {
                let ahead = (code - cut.0).rem_euclid(FINE_CODES);
                // As many ticks back as there were since the last sweep.
                if ahead >= FINE_CODES - (cut.0 - fine_from) { 0 } else { ahead + 1 }
            }
            code => {
                let back = (unit - (code - FINE_CODES)).rem_euclid(COARSE_CODES);
                if back <= units {
                    return 0;
                }
                // A deadline in the present unit has a fine mark by now: a coarse one means a later lap.
                let begins = (unit + COARSE_CODES - back) << (COARSE_SHIFT - TICK_SHIFT);
                begins - cut.0
            }
        };
        let mut table = [0; 256];
        for (mark, entry) in (0i64..).zip(&mut table) {
            *entry = u16::try_from(distance(mark)).unwrap_or(u16::MAX);
        }
        Due { cut, distance: table }
    }

    /// The tick that had just begun when the sweep did.
    #[inline]
    pub fn cut(&self) -> Tick {
        self.cut
    }

    /// How many ticks after the cut a record with this mark is to be looked at: 0 = now, the largest
    /// number = never.
    #[inline]
    pub fn distance(&self, mark: u8) -> u16 {
        self.distance.get(usize::from(mark)).copied().unwrap_or(0)
    }

    /// The tick at this distance.
    #[inline]
    pub fn at(&self, distance: u16) -> Tick {
        if distance == u16::MAX { Tick::NEVER } else { self.cut.plus(distance) }
    }
}

/// For each group of a slot's records, by the low bits of their hashes, when something in it must be looked
/// at next. An entry may be too early, never too late.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    /// Low bits of ticks. They are right for half an hour to either side, and nothing is noted for later.
    ticks: [u16; GROUPS],
    /// A bit for each group that has a tick.
    noted: u32,
}

impl Calendar {
    /// Nothing is noted further ahead than this.
    const AHEAD_MAX: i64 = 30_000;

    /// Nothing is due, ever.
    pub const EMPTY: Calendar = Calendar { ticks: [0; GROUPS], noted: 0 };

    /// Asks the processor to fetch it.
    #[inline]
    pub fn prefetch(&self) {
        let at = std::ptr::from_ref(self).cast::<u8>();
        prefetch(at);
        prefetch(at.wrapping_add(size_of::<Calendar>() - 1));
    }

    /// Something in these groups (a bit each) is to be looked at then.
    #[inline]
    pub fn note(&mut self, groups: u32, tick: Tick, now: Tick) {
        if tick == Tick::NEVER {
            return;
        }
        let ahead = (tick.0.saturating_sub(now.0)).clamp(0, Self::AHEAD_MAX);
        let entry = Tick(now.0 + ahead).low();
        let ahead = i16::try_from(ahead).unwrap_or(i16::MAX);
        let mut left = groups;
        while left != 0 {
            let bit = left & left.wrapping_neg();
            if let Some(old) = self.ticks.get_mut(bit.trailing_zeros() as usize)
                && (self.noted & bit == 0 || ahead < distance(*old, now))
            {
                *old = entry;
            }
            left &= left - 1;
        }
        self.noted |= groups;
    }

    /// Forgets when these groups are due.
    #[inline]
    pub fn forget(&mut self, groups: u32) {
        self.noted &= !groups;
    }

    /// Ticks before this one may seem to be in the future.
    pub fn oldest(cut: Tick) -> Tick {
        Tick(cut.0 - Self::AHEAD_MAX)
    }

    /// All groups with something noted.
    pub fn all(&self) -> u32 {
        self.noted
    }

    /// The groups (a bit each) to be looked at by this tick.
    #[inline]
    pub fn due(&self, cut: Tick) -> u32 {
        let mut due = 0;
        for (at, tick) in self.ticks.iter().enumerate() {
            due |= u32::from(distance(*tick, cut) <= 0) << at;
        }
        due & self.noted
    }

    /// The earliest tick at which a group is to be looked at.
    #[inline]
    pub fn next(&self, cut: Tick) -> Tick {
        let mut next = i16::MAX;
        for (at, tick) in self.ticks.iter().enumerate() {
            let distance = distance(*tick, cut);
            next = next.min(if self.noted >> at & 1 == 0 { i16::MAX } else { distance });
        }
        if self.noted == 0 { Tick::NEVER } else { Tick(cut.0 + i64::from(next)) }
    }
}

/// How many ticks after `from` one with these low bits comes.
#[inline]
fn distance(low: u16, from: Tick) -> i16 {
    low.wrapping_sub(from.low()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Sweeping every `step` ms, with records re-marked when looked at early, each is found in the
        /// first sweep after its tick.
        #[test]
        fn found_in_time(start in 0i64..2_000_000_000, ahead in 0i64..5_000_000, step in 10i64..900) {
            let deadline = Millis(start + ahead);
            let mut now = Millis(start);
            let mut at = mark(Some(deadline), now);
            loop {
                let next = Millis(now.0 + step);
                let due = Due::between(Tick::begun(now), Tick::begun(next));
                if due.distance(at) == 0 {
                    if deadline <= next { break; }
                    at = mark(Some(deadline), next);
                }
                prop_assert!(next.0 <= deadline.0 + step + 64, "missed");
                now = next;
            }
        }

        /// A sweep that only comes when it was told to, by the mark or by the calendar, is never late.
        #[test]
        fn told_in_time(
            start in 0i64..2_000_000_000,
            ahead in 1i64..5_000_000,
            step in 10i64..900,
            group in 0usize..GROUPS,
            others in proptest::collection::vec(0i64..5_000_000, 0..4),
        ) {
            let deadline = Millis(start + ahead);
            let mut last = Tick::begun(Millis(start));
            let mut now = Millis(start);
            let mut at = mark(Some(deadline), now);
            let mut calendar = Calendar::EMPTY;
            let bit = 1u32 << group;
            calendar.note(bit, Tick::after(deadline), last);
            for other in others {
                calendar.note(bit.rotate_left(1), Tick::after(Millis(start + other)), last);
                calendar.note(bit, Tick::after(Millis(start + other)), last);
            }
            loop {
                now = Millis(now.0 + step);
                prop_assert!(now.0 <= deadline.0 + step + 64, "missed");
                let cut = Tick::begun(now);
                let due = Due::between(last, cut);
                last = cut;
                let groups = calendar.due(cut);
                prop_assert_eq!(groups != 0, calendar.next(cut) <= cut);
                if groups & bit == 0 {
                    continue;
                }
                calendar.forget(groups);
                if due.distance(at) == 0 {
                    if deadline <= now { break; }
                    at = mark(Some(deadline), now);
                    calendar.note(bit, Tick::after(deadline), cut);
                } else {
                    let next = due.at(due.distance(at));
                    prop_assert!(next > cut);
                    prop_assert!(next <= Tick::after(deadline));
                    calendar.note(bit, next, cut);
                }
            }
        }
    }

    #[test]
    fn a_calendar_keeps_the_earliest_of_each_group() {
        let (now, mut calendar) = (Tick(70_000), Calendar::EMPTY);
        assert_eq!((calendar.due(now), calendar.next(now)), (0, Tick::NEVER));
        calendar.note(0b110, Tick(70_010), now);
        calendar.note(0b010, Tick(70_005), now);
        calendar.note(0b100, Tick(70_020), now);
        calendar.note(0b1000, Tick(i64::MAX - 1), now);
        assert_eq!(calendar.next(now), Tick(70_005));
        assert_eq!(calendar.due(Tick(70_004)), 0);
        assert_eq!(calendar.due(Tick(70_005)), 0b010);
        assert_eq!(calendar.due(Tick(70_010)), 0b110);
        calendar.forget(0b010);
        assert_eq!(calendar.next(now), Tick(70_010));
        calendar.forget(0b100);
        // What is far off is looked at after half an hour already.
        assert_eq!(calendar.next(now), Tick(100_000));
    }
}
