//! How many retries a pool may have: a share of its requests, so that a pool in trouble is not given more to do by the very
//! attempt to help.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::moment::Moment;

/// The share is taken over this time, sliding.
const WINDOW_MS: u64 = 10_000;

/// Retries and requests of this window and the one before it. Touched by retries only, never by a request that goes well.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    began: AtomicU64,
    /// Requests that the pool had had when the window began.
    requests: AtomicU64,
    retries: AtomicU64,
    before_requests: AtomicU64,
    before_retries: AtomicU64,
}

impl Budget {
    /// Whether one more retry may be; it is counted if so. `requests` is how many the pool has had so far.
    pub(crate) fn charge(&self, percent: u32, floor: u32, requests: u64, now: Moment) -> bool {
        let began = self.began.load(Relaxed);
        let age = now.raw().saturating_sub(began);
        if (began == 0 || age >= WINDOW_MS)
            && self
                .began
                .compare_exchange(began, now.raw(), Relaxed, Relaxed)
                .is_ok()
        {
            let retries = self.retries.swap(0, Relaxed);
            let since = requests.saturating_sub(self.requests.swap(requests, Relaxed));
            let fresh = began != 0 && age < 2 * WINDOW_MS;
            self.before_retries
                .store(if fresh { retries } else { 0 }, Relaxed);
            self.before_requests.store(if fresh { since } else { 0 }, Relaxed);
        }
        let age = now.raw().saturating_sub(self.began.load(Relaxed)).min(WINDOW_MS);
        let fading = |count: u64| count.saturating_mul(WINDOW_MS - age) / WINDOW_MS;
        let used = self.retries.load(Relaxed) + fading(self.before_retries.load(Relaxed));
        let had =
            requests.saturating_sub(self.requests.load(Relaxed)) + fading(self.before_requests.load(Relaxed));
        let allowed = had.saturating_mul(percent.into()) / 100 + u64::from(floor) * WINDOW_MS / 1_000;
        let granted = used < allowed;
        if granted {
            self.retries.fetch_add(1, Relaxed);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whatever is asked for, in any second no more than the share (of what comes in a window) and the floor are granted.
    #[test]
    fn a_share_of_the_requests_and_a_floor() {
        for (per_second, percent, floor, want) in [
            (1_000, 20, 0, 2_000.0),
            (1_000, 20, 10, 2_100.0),
            (0, 20, 10, 100.0),
            (1_000, 0, 0, 0.0),
        ] {
            let budget = Budget::default();
            let mut now = Moment::from_raw(50_000);
            let (mut requests, mut granted) = (0, Vec::new());
            for _ in 0..60 {
                let mut second = 0;
                for _ in 0..1_000 {
                    requests += per_second / 1_000;
                    now = now + Duration::from_millis(1);
                    second += u64::from(budget.charge(percent, floor, requests, now));
                }
                granted.push(second);
            }
            // Over ten seconds in the steady state.
            let got: u64 = granted[40..50].iter().sum();
            assert!(
                (got as f64 - want).abs() <= want * 0.15,
                "{per_second} {percent} {floor}: {got}, wanted about {want}"
            );
        }
    }

    #[test]
    fn old_windows_are_forgotten() {
        let budget = Budget::default();
        let now = Moment::from_raw(50_000);
        while budget.charge(20, 1, 1_000_000, now) {}
        assert!(!budget.charge(20, 1, 1_000_000, now));
        assert!(budget.charge(20, 1, 1_000_000, now + Duration::from_secs(60)));
    }
}
