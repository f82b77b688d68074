//! How willingly the kernel kills this process when memory runs out (`oom-score-adj`). It must never know what else
//! options do.

use std::fs;
use std::io;

use parking_lot::Mutex;

use crate::config::{Config, OomScoreAdj};

const PATH: &str = "/proc/self/oom_score_adj";

/// The score that the process had before it was changed, if it was.
#[derive(Debug, Default)]
pub struct OomScore {
    base: Mutex<Option<i64>>,
}

impl OomScore {
    /// Sets the score that the configuration asks for; `no` brings the first one back.
    ///
    /// # Errors
    /// When the kernel refuses: a lower score than the first one needs a privilege.
    pub fn apply(&self, config: &Config) -> io::Result<()> {
        let mut base = self.base.lock();
        let [score, ..] = config.oom_score_adj_values;
        let wanted = match (config.oom_score_adj, *base) {
            (OomScoreAdj::No, None) => return Ok(()),
            (OomScoreAdj::No, Some(first)) => first,
            (OomScoreAdj::Absolute, _) => score,
            (OomScoreAdj::Yes | OomScoreAdj::Relative, Some(first)) => first + score,
            (OomScoreAdj::Yes | OomScoreAdj::Relative, None) => score + read()?,
        };
        if base.is_none() {
            *base = Some(read()?);
        }
        fs::write(PATH, wanted.clamp(-1000, 1000).to_string())
    }
}

fn read() -> io::Result<i64> {
    fs::read_to_string(PATH)?.trim().parse().map_err(io::Error::other)
}
