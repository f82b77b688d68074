//! How far a reader of the journal may be behind: `client-output-buffer-limit replica`. It knows no connection.

use larder_base::time::Millis;

use crate::config::Config;

/// Keeps the time for the soft limit.
#[derive(Default)]
pub struct Lag {
    above_soft: Option<Millis>,
}

impl Lag {
    /// Whether it is too far behind. What the backlog keeps anyway is never too far.
    pub fn is_too_long(&mut self, config: &Config, bytes: u64, now: Millis) -> bool {
        let limit = config.client_output_buffer_limit.replica;
        let kept = config.repl_backlog_size as u64;
        if limit.hard > 0 && bytes >= limit.hard.max(kept) {
            return true;
        }
        if limit.soft == 0 || bytes < limit.soft.max(kept) {
            self.above_soft = None;
            return false;
        }
        let since = *self.above_soft.get_or_insert(now);
        u64::try_from(now.since(since) / 1000).unwrap_or(0) > limit.soft_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_holds_at_once_and_the_soft_one_after_a_while() {
        let set = |limits: &str| {
            let pairs: &[(&[u8], &[u8])] = &[
                (b"client-output-buffer-limit", limits.as_bytes()),
                (b"repl-backlog-size", b"100"),
            ];
            Config::default().set(pairs).expect("valid").0
        };
        let config = set("replica 2000 1000 5");
        let mut lag = Lag::default();
        assert!(!lag.is_too_long(&config, 1999, Millis(0)));
        assert!(!lag.is_too_long(&config, 1000, Millis(5_900)));
        assert!(lag.is_too_long(&config, 1000, Millis(6_000)));
        assert!(!lag.is_too_long(&config, 999, Millis(7_000)));
        assert!(!lag.is_too_long(&config, 1000, Millis(8_000)), "it was below meanwhile");
        assert!(lag.is_too_long(&config, 2000, Millis(8_000)));
        let config = set("replica 50 50 0");
        assert!(!lag.is_too_long(&config, 99, Millis(9_000)), "the backlog holds as much");
        assert!(lag.is_too_long(&config, 100, Millis(9_000)));
    }
}
