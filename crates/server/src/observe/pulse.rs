//! The recent past of one worker: rates over the last second and a half, and the largest buffers of the
//! last seconds. Beaten ten times a second by the worker; knows no connections.

use std::time::Instant;

/// Samples that a rate is the mean of.
const SAMPLES: usize = 16;
/// Beats over which the largest buffers are kept: five to ten seconds.
const EPOCH: u32 = 50;

/// Commands, bytes read, bytes written, turns of the event loop and their nanoseconds, per second.
pub type Rates = [u64; 5];

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Pulse {
    last: Option<(Instant, Rates)>,
    samples: [Rates; SAMPLES],
    beats: usize,
    /// The largest input and output buffers: in this epoch and in the one before.
    largest: [[usize; 2]; 2],
    epoch: u32,
    /// The longest turn of the event loop, and the most commands of one, since RESETSTAT.
    pub turn_nanos_max: u64,
    /// See before.
    pub turn_commands_max: u64,
}

impl Pulse {
    /// Takes the counts so far of what rates are of, and the largest buffers now.
    pub fn beat(&mut self, at: Instant, counts: Rates, buffers: [usize; 2]) {
        if let Some((before, old)) = self.last {
            let usec = u64::try_from(at.saturating_duration_since(before).as_micros());
            let usec = usec.unwrap_or(u64::MAX).max(1);
            // CONFIG RESETSTAT sets counts back: such a beat saw nothing.
            let mut sample = Rates::default();
            for ((rate, count), old) in sample.iter_mut().zip(counts).zip(old) {
                *rate = count.saturating_sub(old).saturating_mul(1_000_000) / usec;
            }
            if let Some(place) = self.samples.get_mut(self.beats % SAMPLES) {
                *place = sample;
            }
            self.beats = self.beats.wrapping_add(1);
        }
        self.last = Some((at, counts));
        let [now, before] = &mut self.largest;
        self.epoch += 1;
        if self.epoch >= EPOCH {
            self.epoch = 0;
            *before = std::mem::take(now);
        }
        for (most, size) in now.iter_mut().zip(buffers) {
            *most = (*most).max(size);
        }
    }

    /// The rates of the recent past.
    pub fn rates(&self) -> Rates {
        let mut sum = Rates::default();
        for sample in &self.samples {
            for (sum, rate) in sum.iter_mut().zip(sample) {
                *sum = sum.saturating_add(*rate);
            }
        }
        sum.map(|sum| sum / SAMPLES as u64)
    }

    /// The largest input and output buffers of the last seconds.
    pub fn largest(&self) -> [usize; 2] {
        let [[input, output], [old_input, old_output]] = self.largest;
        [input.max(old_input), output.max(old_output)]
    }

    /// Forgets the rates.
    pub fn reset(&mut self) {
        (self.last, self.samples) = (None, [Rates::default(); SAMPLES]);
        (self.turn_nanos_max, self.turn_commands_max) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_are_means_and_buffers_are_forgotten() {
        let mut pulse = Pulse::default();
        let begin = Instant::now();
        for beat in 0..200u32 {
            let at = begin + Duration::from_millis(100) * beat;
            let buffer = if beat == 3 { 1000 } else { 10 };
            let beat = u64::from(beat);
            pulse.beat(at, [beat * 50, beat * 1000, 0, beat, beat * 100], [buffer, 5]);
            if beat == 40 {
                assert_eq!(pulse.largest(), [1000, 5]);
            }
        }
        assert_eq!(pulse.rates(), [500, 10_000, 0, 10, 1000]);
        assert_eq!(pulse.largest(), [10, 5]);
        pulse.beat(begin + Duration::from_secs(30), Rates::default(), [0, 0]);
        pulse.reset();
        assert_eq!(pulse.rates(), Rates::default());
    }
}
