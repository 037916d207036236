//! How long something may be waited for.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer that exists only while something is awaited.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the present wait began.
    since: Option<Instant>,
    /// What all waits before it took.
    spent: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            sleep: None,
            since: None,
            spent: Duration::ZERO,
        }
    }

    pub(super) fn calm(&mut self) {
        if let Some(since) = self.since.take() {
            self.spent += Instant::now().saturating_duration_since(since);
        }
    }

    /// Ready when the wait that began with the first call after [`Patience::calm`] is too long, or all of them are: beyond the limit
    /// for one they may take what was `earned`. `longer` says until when it may go on in spite of that.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        earned: Option<Duration>,
        longer: impl Fn() -> Option<Instant>,
    ) -> Poll<()> {
        let begins = self.since.is_none();
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = earned.map(|earned| (self.limit + earned).saturating_sub(self.spent));
        let due = since + left.map_or(self.limit, |left| left.min(self.limit));
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if begins {
                    sleep.as_mut().reset(due);
                }
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(due))),
        };
        loop {
            ready!(sleep.as_mut().poll(cx));
            match longer() {
                Some(later) => {
                    // What was waited until then is not held against anybody.
                    self.since = Some(later);
                    sleep.as_mut().reset(later);
                }
                None => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Whether it is over after this time; if it is not, what was awaited has come.
    async fn ends(patience: &mut Patience, after: u64, earned: Option<u64>, granted: u64) -> bool {
        let granted = Cell::new(granted);
        let longer = || {
            granted.set(granted.get().checked_sub(1)?);
            Some(Instant::now() + LIMIT)
        };
        let wait = poll_fn(|cx| patience.poll(cx, earned.map(Duration::from_secs), longer));
        let ended = timeout(Duration::from_secs(after), wait).await.is_ok();
        patience.calm();
        ended
    }

    #[tokio::test(start_paused = true)]
    async fn one_wait_and_all_of_them() {
        let mut patience = Patience::new(LIMIT);
        assert!(!ends(&mut patience, 59, None, 0).await);
        // Nobody was waited for.
        advance(LIMIT * 10).await;
        assert!(!ends(&mut patience, 59, None, 0).await);
        assert!(ends(&mut patience, 61, None, 0).await);

        let mut patience = Patience::new(LIMIT);
        for (after, earned, ended) in [(30, 0, false), (29, 0, false), (9, 10, false), (3, 10, true)] {
            assert_eq!(
                ends(&mut patience, after, Some(earned), 0).await,
                ended,
                "{after}"
            );
        }
    }

    /// Time that was granted is not counted.
    #[tokio::test(start_paused = true)]
    async fn grants() {
        let mut patience = Patience::new(LIMIT);
        assert!(!ends(&mut patience, 230, Some(0), 3).await);
        assert!(!ends(&mut patience, 59, Some(0), 0).await);
        assert!(ends(&mut patience, 2, Some(0), 0).await);
    }
}
