//! Differences that are meant: a file of them, each with its reason. It knows nothing of
//! servers.
//!
//! A line is `COMMAND | Larder | Redis # reason`, three glob patterns: of the command in redis-cli's
//! quoting and of the two replies as reports show them.

use std::cell::Cell;
use std::fs;

use anyhow::{Context, Result, bail};
use larder_base::glob;

use super::event::{Words, line};

const MAX: usize = 20;

struct Waiver {
    text: String,
    command: String,
    ours: String,
    oracle: String,
    used: Cell<usize>,
}

/// All waivers.
pub struct Waivers(Vec<Waiver>);

impl Waivers {
    /// Reads them from a file of tests/.
    pub fn read(file: &str) -> Result<Waivers> {
        let mut waivers = Vec::new();
        for text in fs::read_to_string(file).with_context(|| file.to_owned())?.lines() {
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let (rule, reason) = text.split_once(" # ").context("a waiver without a reason")?;
            let parts: Vec<&str> = rule.split(" | ").map(str::trim).collect();
            let [command, ours, oracle] = parts[..] else { bail!("no waiver: {text}") };
            if reason.trim().is_empty() || command.is_empty() {
                bail!("no waiver: {text}");
            }
            waivers.push(Waiver {
                text: rule.to_owned(),
                command: command.to_owned(),
                ours: ours.to_owned(),
                oracle: oracle.to_owned(),
                used: Cell::new(0),
            });
        }
        if waivers.len() > MAX {
            bail!("{} waivers: at most {MAX}", waivers.len());
        }
        Ok(Waivers(waivers))
    }

    /// Whether a difference is meant.
    pub fn cover(&self, words: &Words, ours: &str, oracle: &str) -> bool {
        self.cover_line(&line(words), ours, oracle)
    }

    /// The same for a command that is a line already.
    pub fn cover_line(&self, text: &str, ours: &str, oracle: &str) -> bool {
        let fits = |pattern: &str, text: &str| glob::matches(pattern.as_bytes(), text.as_bytes());
        let found = self.0.iter().find(|waiver| {
            fits(&waiver.command, text) && fits(&waiver.ours, ours) && fits(&waiver.oracle, oracle)
        });
        if let Some(waiver) = found {
            waiver.used.set(waiver.used.get() + 1);
        }
        found.is_some()
    }

    /// Prints how often each was used.
    pub fn print(&self) {
        for waiver in &self.0 {
            println!("waived {:7} times: {}", waiver.used.get(), waiver.text);
        }
    }
}
