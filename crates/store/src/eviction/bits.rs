//! The 24 eviction bits of a record: what each policy writes there at a record's birth and at each use, and
//! what can be read from them later. It knows no table.

use larder_base::rng::Rng;
use larder_base::time::Millis;

use crate::settings::{EvictionBits, Settings};

/// The present, as the bits can hold it: the clock, and the logical time of S3-FIFO.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'k> {
    /// The clock.
    pub now: Millis,
    /// The logical time, which counts keys that were born.
    pub tick: u32,
    /// When recent ticks began.
    pub times: Times<'k>,
}

/// When recent ticks of the logical time began, by the clock.
#[derive(Clone, Copy, Debug)]
pub struct Times<'k>(pub(crate) &'k [std::sync::atomic::AtomicI64]);

impl Times<'_> {
    /// When a tick began that lies `age` ticks back; the oldest known one if it is forgotten.
    fn began(self, tick: u32, age: u32) -> Option<Millis> {
        let len = u32::try_from(self.0.len()).unwrap_or(1).max(1);
        let back = age.min(len - 1);
        let at = usize::try_from(tick.wrapping_sub(back) % len).unwrap_or(0);
        let when = self.0.get(at)?.load(std::sync::atomic::Ordering::Relaxed);
        (when > 0).then_some(Millis(when))
    }
}

/// The counter that a new key starts with under LFU, so that it is not evicted at once.
const LFU_START: u32 = 5;
/// Bits of S3-FIFO's logical time.
const TICK_WIDTH: u32 = 21;
const TICK_MASK: u32 = (1 << TICK_WIDTH) - 1;
/// The record has left S3-FIFO's small queue.
const MAIN: u32 = 1 << TICK_WIDTH;
const USES_SHIFT: u32 = 22;

impl EvictionBits {
    /// The bits of a key created now. `remembered`: S3-FIFO evicted it not long ago.
    pub fn fresh(self, moment: Moment<'_>, remembered: bool) -> u32 {
        match self {
            EvictionBits::LastAccess => clock(moment.now, 24),
            EvictionBits::Frequency => minutes(moment.now) << 8 | LFU_START,
            EvictionBits::Small => {
                let class = if remembered { MAIN } else { 0 };
                class | moment.tick & TICK_MASK
            }
        }
    }

    /// The bits of a record that takes the place of one with the bits `old`: overwriting is a use.
    pub fn replaced(self, old: u32, moment: Moment<'_>, settings: &Settings, rng: &mut Rng) -> u32 {
        match self {
            EvictionBits::LastAccess => self.fresh(moment, false),
            EvictionBits::Frequency | EvictionBits::Small => {
                self.touched(old, moment, settings, rng)
            }
        }
    }

    /// The bits after an access now.
    pub fn touched(self, bits: u32, moment: Moment<'_>, settings: &Settings, rng: &mut Rng) -> u32 {
        match self {
            EvictionBits::LastAccess => clock(moment.now, 24),
            EvictionBits::Frequency => {
                let counter = decayed(bits, moment.now, settings);
                let base = f64::from(counter.saturating_sub(LFU_START));
                let odds = 1.0 / (base * f64::from(settings.lfu_log_factor) + 1.0);
                let counter =
                    if counter < 255 && rng.unit_f64() < odds { counter + 1 } else { counter };
                minutes(moment.now) << 8 | counter
            }
            EvictionBits::Small => {
                let uses = (uses(bits) + 1).min(3);
                uses << USES_SHIFT | bits & MAIN | moment.tick & TICK_MASK
            }
        }
    }

    /// Milliseconds since the last access, as far as the bits tell.
    pub fn idle_ms(self, bits: u32, moment: Moment<'_>) -> u64 {
        match self {
            EvictionBits::LastAccess => {
                let mask = (1u32 << 24) - 1;
                u64::from(clock(moment.now, 24).wrapping_sub(bits) & mask) << 7
            }
            EvictionBits::Small => {
                let began = moment.times.began(moment.tick, age_ticks(bits, moment));
                began.map_or(0, |began| u64::try_from(moment.now.since(began)).unwrap_or(0))
            }
            EvictionBits::Frequency => {
                u64::from(minutes(moment.now).wrapping_sub(bits >> 8) & 0xffff) * 60_000
            }
        }
    }
}

/// Uses since birth or promotion, 0 to 3, as S3-FIFO counts.
pub(crate) fn uses(bits: u32) -> u32 {
    bits >> USES_SHIFT & 3
}

/// Whether the record is still in S3-FIFO's small queue.
pub(crate) fn is_small(bits: u32) -> bool {
    bits & MAIN == 0
}

/// The bits of a record that leaves the small queue for the main one.
pub(crate) fn promoted(tick: u32) -> u32 {
    MAIN | tick & TICK_MASK
}

/// LRU bits of a key that was used then.
pub fn last_access(when: Millis) -> u32 {
    clock(when, 24)
}

/// LFU bits of a key with this counter now.
pub fn frequency(now: Millis, counter: u8) -> u32 {
    minutes(now) << 8 | u32::from(counter)
}

fn age_ticks(bits: u32, moment: Moment<'_>) -> u32 {
    moment.tick.wrapping_sub(bits) & TICK_MASK
}

/// S3-FIFO's main queue, sampled: the age halves with each use.
pub(crate) fn worth_keeping(bits: u32, moment: Moment<'_>) -> u64 {
    u64::from(age_ticks(bits, moment)) << 3 >> uses(bits)
}

/// The LFU counter after the decay that is due by now.
pub fn decayed(bits: u32, now: Millis, settings: &Settings) -> u32 {
    let counter = bits & 0xff;
    if settings.lfu_decay_minutes == 0 {
        return counter;
    }
    let elapsed = minutes(now).wrapping_sub(bits >> 8) & 0xffff;
    counter.saturating_sub(elapsed / settings.lfu_decay_minutes)
}

fn clock(now: Millis, width: u32) -> u32 {
    u32::try_from(now.0 >> 7 & ((1 << width) - 1)).unwrap_or(0)
}

fn minutes(now: Millis) -> u32 {
    u32::try_from((now.0 / 60_000) & 0xffff).unwrap_or(0)
}
