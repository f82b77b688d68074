//! How long calls took: a few counters per power of two, so that recording is one increment and
//! percentiles are right within an eighth. Knows neither commands nor clocks.

/// Values below this have a counter of their own.
const EXACT: u64 = 16;
/// Counters per doubling.
const PARTS: u32 = 8;
/// The largest doubling told apart: 2^25 us are half a minute.
const TOP: u32 = 25;
const COUNTERS: usize = 16 + (TOP as usize - 3) * PARTS as usize;

/// Microseconds of calls.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: [u32; COUNTERS],
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; COUNTERS] }
    }
}

impl Histogram {
    /// Counts one call.
    #[inline]
    pub fn record(&mut self, usec: u64) {
        if let Some(count) = self.counts.get_mut(position(usec)) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Number of calls.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The microseconds that this share (0..=100) of the calls did not exceed: the upper end of the
    /// counter in which the last of them fell.
    pub fn percentile(&self, share: f64) -> u64 {
        let total = self.total();
        // At least one call, at most all.
        let wanted = (share / 100.0 * total as f64).ceil().max(1.0);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen as f64 >= wanted {
                return upper(at);
            }
        }
        0
    }

    /// For each power of two from 1 on that adds some: it, and how many calls took less microseconds.
    pub fn by_doubling(&self) -> Vec<(u64, u64)> {
        let total = self.total();
        let (mut rows, mut seen) = (Vec::new(), 0);
        for power in 0..=TOP + 1 {
            let limit = 1u64 << power;
            let below: u64 = self
                .counts
                .iter()
                .enumerate()
                .filter(|(at, _)| upper(*at) < limit || power == TOP + 1)
                .map(|(_, count)| u64::from(*count))
                .sum();
            if below > seen {
                rows.push((limit, below));
                seen = below;
            }
            if seen == total {
                break;
            }
        }
        rows
    }
}

#[inline]
fn position(usec: u64) -> usize {
    if usec < EXACT {
        return usize::try_from(usec).unwrap_or(0);
    }
    let doubling = (63 - usec.leading_zeros()).min(TOP);
    let part = if usec >> TOP > 1 { u64::from(PARTS) - 1 } else { usec >> (doubling - 3) & 7 };
    let before = 16 + (doubling - 4) * PARTS;
    usize::try_from(u64::from(before) + part).unwrap_or(0)
}

/// The largest value of a counter.
fn upper(at: usize) -> u64 {
    let at = u64::try_from(at).unwrap_or(u64::MAX);
    if at < EXACT {
        return at;
    }
    let (doubling, part) = ((at - EXACT) / u64::from(PARTS) + 4, (at - EXACT) % u64::from(PARTS));
    (1 << doubling) + ((part + 1) << (doubling - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_counter() {
        for usec in (0..5000).chain([1 << 20, (1 << 25) + 12345, (1 << 26) - 1]) {
            let at = position(usec);
            assert!(upper(at) >= usec && (at == 0 || upper(at - 1) < usec), "{usec}");
            assert!(upper(at) - usec <= usec / 8, "{usec}: {}", upper(at));
        }
        assert_eq!(position(u64::MAX), COUNTERS - 1);
    }

    #[test]
    fn percentiles_and_doublings() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50.0), histogram.by_doubling()), (0, Vec::new()));
        (0..100).for_each(|usec| histogram.record(usec));
        assert_eq!(histogram.percentile(10.0), 9);
        assert!((49..=55).contains(&histogram.percentile(50.0)));
        assert!((98..=103).contains(&histogram.percentile(100.0)));
        let rows = histogram.by_doubling();
        assert_eq!(rows.first(), Some(&(1, 1)));
        assert_eq!(rows.get(4), Some(&(16, 16)));
        assert_eq!(rows.last(), Some(&(128, 100)));
        histogram.record(u64::MAX);
        assert_eq!(histogram.by_doubling().last(), Some(&(1 << 26, 101)));
    }
}
