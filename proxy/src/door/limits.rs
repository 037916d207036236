//! How often somebody may come: the generic cell rate algorithm, in a table of fixed size.
//!
//! Of each of those who are counted together the table holds one point in time: that at which the bucket would be full
//! again. Whoever is not in the table has a full bucket, so that forgetting those that are full again costs nothing. When
//! a set of the table is full of others, the one that is nearest to it is forgotten; an attacker with hundreds of thousands
//! of addresses gains a burst for each, and no memory.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sekisho_config::model::RateLimit;
use tokio::time::Instant;

/// Places that a key may stand in.
const WAYS: usize = 8;
/// Sets; with eight places each, a hundred thousand keys in 2 MiB.
const SETS: usize = 1 << 14;

/// A limit in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two requests.
    interval: u64,
    /// How far ahead of that pace somebody may be.
    ahead: u64,
}

impl Pace {
    pub(super) fn compile(rate: &RateLimit) -> Self {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / u64::from(rate.requests.max(1))).max(1);
        Self {
            interval,
            ahead: interval.saturating_mul(u64::from(rate.burst.max(1) - 1)),
        }
    }

    /// The next point in time of somebody whose last one is `full`, or how long there is to wait.
    fn next(self, full: u64, now: u64) -> Result<u64, u64> {
        let earliest = full.saturating_sub(self.ahead);
        if earliest > now {
            return Err(earliest - now);
        }
        Ok(full.max(now).saturating_add(self.interval))
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    tags: [AtomicU64; WAYS],
    full: [AtomicU64; WAYS],
}

/// The table, made when it is first used.
#[derive(Debug)]
pub(crate) struct Rates {
    sets: OnceLock<Box<[Set]>>,
    begun: Instant,
    /// Keyed, so that nobody can choose who shares a set.
    hasher: RandomState,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            sets: OnceLock::new(),
            begun: Instant::now(),
            hasher: RandomState::new(),
        }
    }
}

impl Rates {
    pub(super) fn hash(&self, key: &impl Hash) -> u64 {
        // 0 stands for nobody.
        self.hasher.hash_one(key).max(1)
    }

    /// Counts a request of `key`; else the seconds to wait, at least one. `true`: somebody was forgotten before their
    /// bucket was full.
    pub(super) fn take(&self, key: u64, pace: &Pace) -> Result<bool, u32> {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_at(key, pace, now)
    }

    fn take_at(&self, key: u64, pace: &Pace, now: u64) -> Result<bool, u32> {
        let sets = self
            .sets
            .get_or_init(|| (0..SETS).map(|_| Set::default()).collect());
        let Some(set) = sets.get(key as usize % SETS) else {
            return Ok(false);
        };
        let mut mine = None;
        let mut oldest: Option<(u64, &AtomicU64, &AtomicU64)> = None;
        for (tag, full) in set.tags.iter().zip(&set.full) {
            if tag.load(Relaxed) == key {
                mine = Some(full);
                break;
            }
            let age = full.load(Relaxed);
            if oldest.is_none_or(|(least, ..)| age < least) {
                oldest = Some((age, tag, full));
            }
        }
        let Some(full) = mine else {
            let Some((age, tag, full)) = oldest else {
                return Ok(false);
            };
            // Two who take the same place at a time both come in; so would they have with a full bucket.
            tag.store(key, Relaxed);
            full.store(now.saturating_add(pace.interval), Relaxed);
            return Ok(age > now);
        };
        let mut wait = 0;
        let taken = full.fetch_update(Relaxed, Relaxed, |full| match pace.next(full, now) {
            Ok(next) => Some(next),
            Err(left) => {
                wait = left;
                None
            }
        });
        match taken {
            Ok(_) => Ok(false),
            Err(_) => Err(u32::try_from(wait.div_ceil(1_000_000_000))
                .unwrap_or(u32::MAX)
                .max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sekisho_config::model::LimitBy;

    use super::*;

    fn pace(requests: u32, burst: u32) -> Pace {
        Pace::compile(&RateLimit {
            requests,
            per: Duration::from_secs(1),
            burst,
            by: LimitBy::Ingress,
        })
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_and_then_the_pace() {
        let (rates, pace) = (Rates::default(), pace(10, 5));
        let mut passed = 0;
        // A hundred tries at one moment: the burst. Then ten seconds of trying: the pace.
        for _ in 0..100 {
            passed += u32::from(rates.take_at(7, &pace, 5 * SECOND).is_ok());
        }
        assert_eq!(passed, 5);
        for millisecond in 1..=10_000 {
            passed += u32::from(
                rates
                    .take_at(7, &pace, 5 * SECOND + millisecond * 1_000_000)
                    .is_ok(),
            );
        }
        assert_eq!(passed, 105);
        assert_eq!(rates.take_at(7, &pace, 15 * SECOND), Err(1));
        // Another one is not touched, and after a pause the bucket is full again.
        assert!(rates.take_at(8, &pace, 15 * SECOND).is_ok());
        assert!((0..5).all(|_| rates.take_at(7, &pace, 60 * SECOND).is_ok()));
        assert!(rates.take_at(7, &pace, 60 * SECOND).is_err());
    }

    #[test]
    fn the_wait_is_told() {
        let rates = Rates::default();
        let pace = Pace::compile(&RateLimit {
            requests: 1,
            per: Duration::from_secs(60),
            burst: 1,
            by: LimitBy::Ingress,
        });
        assert_eq!(rates.take_at(1, &pace, 0), Ok(false));
        assert_eq!(rates.take_at(1, &pace, SECOND / 2), Err(60));
        assert_eq!(rates.take_at(1, &pace, 59 * SECOND), Err(1));
        assert_eq!(rates.take_at(1, &pace, 60 * SECOND), Ok(false));
    }

    /// Many more keys than places: memory stays what it is, and who was seen last is still counted.
    #[test]
    fn a_flood_of_keys_is_bounded() {
        let (rates, pace) = (Rates::default(), pace(1, 1));
        for key in 1..1_000_000u64 {
            assert!(
                rates
                    .take_at(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), &pace, key)
                    .is_ok()
            );
        }
        let last = 999_999u64.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        assert!(rates.take_at(last, &pace, 1_000_000).is_err());
        assert_eq!(rates.sets.get().unwrap().len(), SETS);
    }

    #[test]
    fn threads_together_get_no_more_than_one() {
        let (rates, pace) = (Rates::default(), pace(1, 100));
        rates.take_at(3, &pace, 0).unwrap();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| rates.take_at(3, &pace, 0).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 99);
    }
}
