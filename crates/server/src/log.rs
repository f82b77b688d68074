//! The server's log: lines as Redis writes them (process, role, local time, level, text), to the standard output or
//! to a file. It must never be given a secret, nor a client's bytes that were not escaped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::config::LogLevel;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `.`
    Debug,
    /// `-`
    Verbose,
    /// `*`
    Notice,
    /// `#`
    Warning,
    /// No line has it.
    Nothing,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Level {
        match level {
            LogLevel::Debug => Level::Debug,
            LogLevel::Verbose => Level::Verbose,
            LogLevel::Notice => Level::Notice,
            LogLevel::Warning => Level::Warning,
            LogLevel::Nothing => Level::Nothing,
        }
    }
}

static LEAST: AtomicU8 = AtomicU8::new(Level::Notice as u8);
/// The file is opened for each line, so that a file moved away by a log rotation is let go.
static FILE: OnceLock<String> = OnceLock::new();

/// Lines go to this file from now on; to be called once.
///
/// # Errors
/// Those of the file system.
pub fn open(path: &str) -> io::Result<()> {
    append(path)?;
    // A second call keeps the first file.
    let _ = FILE.set(path.to_owned());
    Ok(())
}

fn append(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Sets the least important level that is written.
pub fn set_level(level: Level) {
    LEAST.store(level as u8, Ordering::Relaxed);
}

/// Writes a line. What cannot be written is lost: there is nobody left to tell.
pub fn line(level: Level, text: &str) {
    if (level as u8) < LEAST.load(Ordering::Relaxed) {
        return;
    }
    let mark = match level {
        Level::Debug => '.',
        Level::Verbose => '-',
        Level::Notice => '*',
        Level::Warning | Level::Nothing => '#',
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_s = i64::try_from(since.as_secs()).unwrap_or(0);
    let local_s = at_s.saturating_add(clock::local_offset_s(at_s));
    let local = Duration::new(u64::try_from(local_s).unwrap_or(0), since.subsec_nanos());
    let line = format!("{}:M {} {mark} {text}\n", std::process::id(), moment(local));
    let _ = match FILE.get() {
        Some(path) => append(path).and_then(|mut file| file.write_all(line.as_bytes())),
        None => io::stdout().lock().write_all(line.as_bytes()),
    };
}

/// Writes an important line.
pub fn warning(text: &str) {
    line(Level::Warning, text);
}

/// Writes a line of usual importance.
pub fn notice(text: &str) {
    line(Level::Notice, text);
}

/// Writes a line for those who look closely.
pub fn verbose(text: &str) {
    line(Level::Verbose, text);
}

/// `24 Nov 2026 20:15:36.123`.
fn moment(since: Duration) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date of the Gregorian calendar, in years that begin in March (so that leap days come last).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let index = if month < 10 { month + 2 } else { month - 10 };
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    let name = usize::try_from(index).ok().and_then(|at| MONTHS.get(at)).unwrap_or(&"???");
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let ms = since.subsec_millis();
    format!("{day:02} {name} {year} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        let at = |secs: u64, ms: u64| moment(Duration::from_millis(secs * 1000 + ms));
        assert_eq!(at(0, 7), "01 Jan 1970 00:00:00.007");
        assert_eq!(at(951_782_399, 0), "28 Feb 2000 23:59:59.000");
        assert_eq!(at(951_782_400, 0), "29 Feb 2000 00:00:00.000");
        assert_eq!(at(1_795_551_336, 123), "24 Nov 2026 20:15:36.123");
    }
}
