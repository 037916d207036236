//! How long to wait before trying again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Doubles from `FIRST` to `LONGEST`; each wait is drawn from its upper half, so that many boxes do not come back together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);

impl Backoff {
    /// It works again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure; `dice` is any number.
    pub(crate) fn next(&mut self, dice: u64) -> Duration {
        let whole = FIRST
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + half.mul_f64(f64::from(u32::try_from(dice % 1024).unwrap_or(0)) / 1024.0)
    }
}

/// A number that nobody can foresee; good enough for jitter.
pub(crate) fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_limits() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..10).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(waits, [125, 250, 500, 1000, 2000, 4000, 7500, 7500, 7500, 7500]);
        assert!(backoff.next(u64::MAX) < LONGEST);
        backoff.reset();
        assert_eq!(backoff.next(512).as_micros(), 187_500);
        for _ in 0..100 {
            assert!(backoff.next(dice()) <= LONGEST);
        }
    }
}
