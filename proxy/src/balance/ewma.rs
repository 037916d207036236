//! Peak EWMA: the time that an endpoint takes, slow answers counted at once and forgotten slowly.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::moment::Moment;

/// After this time an old measurement has lost all but 1/e of its weight.
const DECAY_MS: f32 = 10_000.0;

/// The time to the first octet, in one atomic: the average in microseconds as the upper half, when it was taken in
/// milliseconds as the lower. Zero: not measured yet.
#[derive(Debug, Default)]
pub(crate) struct Ewma(AtomicU64);

fn unpack(packed: u64) -> (f32, u32) {
    (f32::from_bits((packed >> 32) as u32), packed as u32)
}

/// What an average of `micros`, taken `age` milliseconds ago, has become without a measurement since.
fn decayed(micros: f32, age: u32) -> f32 {
    micros * (-(age as f32) / DECAY_MS).exp()
}

impl Ewma {
    /// Takes in one measurement. Two workers at once may lose one of two; the next one comes soon.
    pub(crate) fn observe(&self, micros: u64, now: Moment) {
        let new = micros.clamp(1, 600_000_000) as f32;
        let stamp = now.raw() as u32;
        let packed = self.0.load(Ordering::Relaxed);
        let (old, taken) = unpack(packed);
        let next = if packed == 0 || new >= old {
            new
        } else {
            let left = (-(stamp.wrapping_sub(taken).min(u32::MAX / 2) as f32) / DECAY_MS).exp();
            old * left + new * (1.0 - left)
        };
        self.0.store(
            (u64::from(next.to_bits()) << 32) | u64::from(stamp),
            Ordering::Relaxed,
        );
    }

    /// The cost of one more request where `in_flight` are already: microseconds to wait, roughly. An endpoint that was not
    /// measured costs nothing while it is idle, and much while its first answer is awaited.
    pub(crate) fn cost(&self, in_flight: u32, now: Moment) -> f64 {
        let packed = self.0.load(Ordering::Relaxed);
        if packed == 0 {
            return if in_flight == 0 {
                0.0
            } else {
                1e9 * f64::from(in_flight)
            };
        }
        let (micros, taken) = unpack(packed);
        let age = (now.raw() as u32).wrapping_sub(taken);
        // A clock that went back a little is no great age.
        let age = if age > u32::MAX / 2 { 0 } else { age };
        f64::from(decayed(micros, age)) * (f64::from(in_flight) + 1.0)
    }

    /// The average in microseconds as it was last written; `None`: not measured.
    pub(crate) fn micros(&self) -> Option<u64> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            packed => Some(unpack(packed).0 as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let ewma = Ewma::default();
        let start = Moment::from_raw(1_000_000);
        assert!(ewma.cost(0, start) < f64::EPSILON && ewma.cost(1, start) > 1e8 && ewma.micros().is_none());
        ewma.observe(1_000, start);
        ewma.observe(100_000, start);
        assert_eq!(ewma.micros(), Some(100_000));
        // Good answers right after it change little.
        ewma.observe(1_000, start + Duration::from_millis(10));
        assert!(ewma.micros().unwrap() > 99_000);
        // Ten seconds later most is forgotten, with or without further answers.
        let later = start + Duration::from_secs(10);
        let idle = ewma.cost(0, later);
        assert!((30_000.0..40_000.0).contains(&idle), "{idle}");
        ewma.observe(1_000, later);
        let measured = ewma.micros().unwrap();
        assert!((30_000..40_000).contains(&measured), "{measured}");
        // Requests in flight multiply it.
        assert!((ewma.cost(3, later) - 4.0 * ewma.cost(0, later)).abs() < 1.0);
    }

    #[test]
    fn a_stamp_from_the_future_does_no_harm() {
        let ewma = Ewma::default();
        ewma.observe(5_000, Moment::from_raw(u64::from(u32::MAX)));
        ewma.observe(1_000, Moment::from_raw(10));
        let cost = ewma.cost(0, Moment::from_raw(5));
        assert!(cost.is_finite() && cost > 0.0, "{cost}");
    }
}
