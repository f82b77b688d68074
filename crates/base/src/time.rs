//! Points in time as the keyspace stores them: milliseconds since the Unix epoch.
//!
//! Only the value: no clock is read here, the caller always passes the present moment in.

/// A moment in milliseconds since the Unix epoch. Negative values are moments before 1970, which
/// clients may name (`PEXPIREAT key -1`) and which have always passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

impl Millis {
    /// The Unix epoch itself.
    pub const ZERO: Self = Self(0);
    /// The last moment that can be written.
    pub const MAX: Self = Self(i64::MAX);

    /// The moment `secs` seconds after the epoch, or `None` where milliseconds cannot hold it.
    #[inline]
    #[must_use]
    pub const fn from_secs(secs: i64) -> Option<Self> {
        match secs.checked_mul(1000) {
            Some(ms) => Some(Self(ms)),
            None => None,
        }
    }

    /// Whole milliseconds since the epoch.
    #[inline]
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[inline]
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment moved by `ms` milliseconds, or `None` on overflow: the caller owes the client
    /// an "invalid expire time" error then.
    #[inline]
    #[must_use]
    pub const fn checked_add(self, ms: i64) -> Option<Self> {
        match self.0.checked_add(ms) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// This moment moved by `ms` milliseconds, held at the ends of the range.
    #[inline]
    #[must_use]
    pub const fn saturating_add(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; negative when `earlier` is in fact later.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Millis::from_secs(2), Some(Millis(2000)));
        assert_eq!(Millis::from_secs(i64::MAX / 999), None);
        assert_eq!(Millis(-1).as_secs(), -1);
        assert_eq!(Millis(1999).as_secs(), 1);
        assert_eq!(Millis::MAX.checked_add(1), None);
        assert_eq!(Millis::MAX.saturating_add(1), Millis::MAX);
        assert_eq!(Millis(5).since(Millis(7)), -2);
        assert_eq!(Millis(i64::MIN).since(Millis::MAX), i64::MIN);
    }
}
