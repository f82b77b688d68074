//! Processor time of a process from /proc: all threads' exactly, and its split in ticks.

use std::fs;

use anyhow::{Context, Result};

/// See the head of this file.
#[derive(Default)]
pub struct Cpu {
    run_ns: u64,
    user: u64,
    system: u64,
}

impl Cpu {
    /// What a process has spent so far.
    pub fn of(pid: u32) -> Result<Cpu> {
        let mut run_ns = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            run_ns += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The program's name may hold blanks; what follows its bracket may not.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let field = |at: usize| -> Result<u64> { Ok(fields.get(at).context("stat")?.parse()?) };
        Ok(Cpu { run_ns, user: field(11)?, system: field(12)? })
    }

    /// Adds what was spent between two readings.
    pub fn add(&mut self, before: &Cpu, after: &Cpu) {
        self.run_ns += after.run_ns.saturating_sub(before.run_ns);
        self.user += after.user.saturating_sub(before.user);
        self.system += after.system.saturating_sub(before.system);
    }

    /// Microseconds in all, in user mode, in the system.
    pub fn micros(&self) -> [f64; 3] {
        let all = self.run_ns as f64 / 1e3;
        let share = self.user as f64 / (self.user + self.system).max(1) as f64;
        [all, all * share, all * (1.0 - share)]
    }
}
