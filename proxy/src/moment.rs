//! Time that fits into an atomic: milliseconds, counted from about when the process began.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// A point in time. Never zero, so that zero can stand for "never" in an atomic.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment(u64);

/// As late as it gets; far enough from the end for a bit to be put beside it.
const LAST: u64 = u64::MAX / 4;

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self::of(Instant::now())
    }

    /// The moment of an instant; what is before the first one that was asked for counts as that.
    pub fn of(instant: Instant) -> Self {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let first = *FIRST.get_or_init(|| instant);
        let since = instant.saturating_duration_since(first).as_millis();
        Self(u64::try_from(since).unwrap_or(LAST).saturating_add(1))
    }

    #[cfg(test)]
    pub(crate) const fn at(millis: u64) -> Self {
        Self(millis)
    }

    pub(crate) fn from_raw(raw: u64) -> Self {
        Self(raw.max(1))
    }

    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    /// The time from here to `later`; zero when that is past.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        let time = u64::try_from(time.as_millis()).unwrap_or(LAST);
        Self(self.0.saturating_add(time))
    }
}
