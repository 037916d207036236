use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::view::RatesView;

/// Between two samples.
const STEP: Duration = Duration::from_secs(5);

/// Samples that are kept: a minute, and the one before it.
const KEPT: usize = 13;

/// Counts of one peer that only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    pub(super) messages_received: u64,
    pub(super) messages_sent: u64,
    pub(super) updates_received: u64,
    pub(super) updates_sent: u64,
    /// Prefixes announced and withdrawn by the peer.
    pub(super) prefixes_received: u64,
}

/// How fast they grew in the last minute.
#[derive(Debug, Default)]
pub(super) struct Rates(VecDeque<(Instant, Totals)>);

impl Rates {
    /// Whether it is time for a sample.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.0
            .back()
            .is_none_or(|(last, _)| now.saturating_duration_since(*last) >= STEP)
    }

    pub(super) fn sample(&mut self, now: Instant, totals: Totals) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, totals));
    }

    /// Per second, from the oldest sample to `now`.
    pub(super) fn view(&self, now: Instant, totals: Totals) -> RatesView {
        let Some((since, then)) = self.0.front() else {
            return RatesView::default();
        };
        let seconds = now.saturating_duration_since(*since).as_secs_f64();
        let rate = |now: u64, then: u64| {
            if seconds < 1.0 {
                return 0.0;
            }
            // Counts of a minute are far from where f64 has gaps; three digits are enough for anybody.
            let grown = u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX);
            (f64::from(grown) / seconds * 1000.0).round() / 1000.0
        };
        RatesView {
            messages_received: rate(totals.messages_received, then.messages_received),
            messages_sent: rate(totals.messages_sent, then.messages_sent),
            updates_received: rate(totals.updates_received, then.updates_received),
            updates_sent: rate(totals.updates_sent, then.updates_sent),
            prefixes_received: rate(totals.prefixes_received, then.prefixes_received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_minute_counts() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let totals = |updates_received| Totals {
            updates_received,
            ..Totals::default()
        };
        assert_eq!(rates.view(start, totals(5)).updates_received, 0.0);
        // Ten a second for two minutes, then nothing.
        for second in 0..240u64 {
            let now = start + Duration::from_secs(second);
            let count = totals(10 * second.min(120));
            if rates.is_due(now) {
                rates.sample(now, count);
            }
            let want = match second {
                0 => 0.0,
                1..=120 => 10.0,
                180.. => 0.0,
                _ => continue,
            };
            let got = rates.view(now, count).updates_received;
            assert!((got - want).abs() < 0.01, "{second}: {got} where {want} is right");
            assert!(rates.0.len() <= KEPT);
        }
    }
}
