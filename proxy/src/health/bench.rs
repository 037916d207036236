//! Who is out, and until when: of endpoints and of nodes. Written by whichever worker sees it and seen by all at once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::moment::Moment;

/// An ejection lasts at most this many times as long as the first one.
const MOST: u32 = 10;
/// Once its time is over, one request in so many milliseconds tries whether it is back.
const TRIAL_EVERY: u64 = 1_000;

/// Whether something is out. All zero: it never was.
#[derive(Debug, Default)]
pub(crate) struct Bench {
    /// 0: in. Otherwise out, and from then on tried.
    until: AtomicU64,
    /// When the next trial may begin.
    trial: AtomicU64,
    /// Ejections in a row.
    times: AtomicU32,
    /// When it came back last.
    back: AtomicU64,
}

/// How something stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It gets requests.
    In,
    /// It gets none until then.
    Out(Moment),
    /// Its time is over; single requests try it, and the first success brings it back.
    Trial,
}

impl Bench {
    pub(crate) fn standing(&self, now: Moment) -> Standing {
        match self.until.load(Relaxed) {
            0 => Standing::In,
            until if until > now.raw() => Standing::Out(Moment::from_raw(until)),
            _ => Standing::Trial,
        }
    }

    pub(crate) fn is_in(&self) -> bool {
        self.until.load(Relaxed) == 0
    }

    /// Ejects it: for `base` times the ejections in a row. `None` when it is out already.
    pub(crate) fn eject(&self, base: Duration, now: Moment) -> Option<(Duration, u32)> {
        let until = self.until.load(Relaxed);
        if until > now.raw() {
            return None;
        }
        let times = self.times.load(Relaxed);
        let long_back = u64::try_from(base.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(MOST.into());
        let back = self.back.load(Relaxed);
        let times = if until == 0 && (back == 0 || now.raw().saturating_sub(back) > long_back) {
            1
        } else {
            times.saturating_add(1).min(MOST)
        };
        let lasts = base.saturating_mul(times).max(Duration::from_millis(1));
        let end = (now + lasts).raw();
        self.until.compare_exchange(until, end, Relaxed, Relaxed).ok()?;
        self.times.store(times, Relaxed);
        self.trial.store(end, Relaxed);
        Some((lasts, times))
    }

    /// Whether the caller may be the one that tries it now.
    pub(crate) fn claim_trial(&self, now: Moment) -> bool {
        let next = self.trial.load(Relaxed);
        next <= now.raw()
            && self
                .trial
                .compare_exchange(next, now.raw().saturating_add(TRIAL_EVERY), Relaxed, Relaxed)
                .is_ok()
    }

    /// It has shown that it is well. Whether that brings it back: during its time only with `at_once`.
    pub(crate) fn restore(&self, at_once: bool, now: Moment) -> bool {
        let until = self.until.load(Relaxed);
        if until == 0 || (until > now.raw() && !at_once) {
            return false;
        }
        let restored = self.until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok();
        if restored {
            self.back.store(now.raw(), Relaxed);
        }
        restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(30);

    #[test]
    fn out_for_longer_each_time_and_forgiven_in_the_end() {
        let bench = Bench::default();
        let mut now = Moment::from_raw(1_000);
        assert_eq!(bench.standing(now), Standing::In);
        for times in [1, 2, 3] {
            let (lasts, counted) = bench.eject(BASE, now).unwrap();
            assert_eq!((lasts, counted), (BASE * times, times));
            assert_eq!(bench.standing(now), Standing::Out(now + lasts));
            assert!(bench.eject(BASE, now).is_none(), "it is out already");
            assert!(!bench.restore(false, now), "a success from before means nothing");
            now = now + lasts;
            assert_eq!(bench.standing(now), Standing::Trial);
        }
        assert!(bench.restore(false, now) && bench.is_in() && !bench.restore(false, now));
        // Soon after, the count goes on; long after, it begins anew.
        assert_eq!(bench.eject(BASE, now + BASE).unwrap().1, 4);
        assert!(
            bench.restore(true, now + BASE),
            "a good probe brings it back at once"
        );
        assert_eq!(bench.eject(BASE, now + BASE * 12).unwrap().1, 1);
    }

    #[test]
    fn an_ejection_has_a_longest_time() {
        let bench = Bench::default();
        let mut now = Moment::from_raw(1);
        for _ in 0..20 {
            let (lasts, _) = bench.eject(BASE, now).unwrap();
            assert!(lasts <= BASE * MOST);
            now = now + lasts;
        }
    }

    #[test]
    fn one_trial_a_second() {
        let bench = Bench::default();
        let now = Moment::from_raw(1_000);
        bench.eject(BASE, now);
        assert!(!bench.claim_trial(now));
        let over = now + BASE;
        assert!(bench.claim_trial(over) && !bench.claim_trial(over));
        assert!(!bench.claim_trial(over + Duration::from_millis(999)));
        assert!(bench.claim_trial(over + Duration::from_millis(1_000)));
    }
}
