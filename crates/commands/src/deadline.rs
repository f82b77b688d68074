//! Expiry options as clients write them, turned into moments. Knows no command's other options.

use larder_base::time::Millis;

use crate::args::Args;
use crate::fault::Fault;

/// Units and origin of an expiry argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// EX: seconds from now.
    Seconds,
    /// PX: milliseconds from now.
    Millis,
    /// EXAT: seconds since the epoch.
    UnixSeconds,
    /// PXAT: milliseconds since the epoch.
    UnixMillis,
}

impl Clock {
    /// The option at a position, if it is one of the four words.
    pub(crate) fn option(args: Args<'_>, at: usize) -> Option<Clock> {
        match args.at(at).len() {
            2 if args.is(at, "EX") => Some(Clock::Seconds),
            2 if args.is(at, "PX") => Some(Clock::Millis),
            4 if args.is(at, "EXAT") => Some(Clock::UnixSeconds),
            4 if args.is(at, "PXAT") => Some(Clock::UnixMillis),
            _ => None,
        }
    }

    /// The moment that `value` means; `None` if it cannot be represented.
    pub(crate) fn moment(self, value: i64, now: Millis) -> Option<Millis> {
        let ms = match self {
            Clock::Seconds | Clock::UnixSeconds => value.checked_mul(1000)?,
            Clock::Millis | Clock::UnixMillis => value,
        };
        match self {
            Clock::Seconds | Clock::Millis => now.checked_add(ms),
            Clock::UnixSeconds | Clock::UnixMillis => Some(Millis(ms)),
        }
    }

    /// The moment named by the argument at a position; zero and negative values are refused.
    ///
    /// # Errors
    /// No integer, or `invalid expire time in '<name>' command`.
    pub(crate) fn positive(
        self,
        args: Args<'_>,
        at: usize,
        now: Millis,
        name: &str,
    ) -> Result<Millis, Fault> {
        let value = args.i64(at)?;
        if value <= 0 {
            return Err(Fault::expire_time(name));
        }
        self.moment(value, now).ok_or_else(|| Fault::expire_time(name))
    }
}
