//! Latency events: delays from a threshold on, by name, each with a bounded history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use larder_base::time::Millis;
use parking_lot::Mutex;

/// Samples kept of an event.
const HISTORY_MAX: usize = 160;

/// What is known of one event.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Seconds since 1970 and milliseconds of delay, oldest first; one a second, the longest.
    pub samples: VecDeque<(i64, i64)>,
    /// The longest delay ever.
    pub longest_ms: i64,
}

/// See the head of this file.
#[derive(Default)]
pub struct Latency {
    threshold_ms: AtomicI64,
    tracking: AtomicBool,
    events: Mutex<BTreeMap<&'static str, Event>>,
}

impl Latency {
    /// Delays from so many milliseconds on are kept; 0 = none. `tracking`: commands' durations are counted.
    pub fn configure(&self, threshold_ms: u64, tracking: bool) {
        self.tracking.store(tracking, Ordering::Relaxed);
        let threshold = i64::try_from(threshold_ms).unwrap_or(i64::MAX);
        self.threshold_ms.store(threshold, Ordering::Relaxed);
    }

    /// Whether each command has a histogram of its durations (`latency-tracking`).
    #[inline]
    pub fn is_tracking(&self) -> bool {
        self.tracking.load(Ordering::Relaxed)
    }

    /// Whether delays are kept.
    pub fn is_on(&self) -> bool {
        self.threshold_ms.load(Ordering::Relaxed) > 0
    }

    /// Notes a delay.
    #[inline]
    pub fn note(&self, event: &'static str, took_ms: i64, now: Millis) {
        let threshold = self.threshold_ms.load(Ordering::Relaxed);
        if threshold > 0 && took_ms >= threshold {
            self.keep(event, took_ms, now.0 / 1000);
        }
    }

    fn keep(&self, event: &'static str, took_ms: i64, at_s: i64) {
        let mut events = self.events.lock();
        let event = events.entry(event).or_default();
        event.longest_ms = event.longest_ms.max(took_ms);
        match event.samples.back_mut() {
            Some((second, longest)) if *second == at_s => *longest = (*longest).max(took_ms),
            _ => event.samples.push_back((at_s, took_ms)),
        }
        if event.samples.len() > HISTORY_MAX {
            event.samples.pop_front();
        }
    }

    /// All events that ever happened, by name.
    pub fn events(&self) -> Vec<(&'static str, Event)> {
        self.events.lock().iter().map(|(name, event)| (*name, event.clone())).collect()
    }

    /// Forgets the named events, or all if none is named. Returns how many there were.
    pub fn reset(&self, named: &[&[u8]]) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|name, _| {
            !named.is_empty() && !named.iter().any(|n| n.eq_ignore_ascii_case(name.as_bytes()))
        });
        before - events.len()
    }
}
