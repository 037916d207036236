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
                Some(later) => sleep.as_mut().reset(later),
                None => return Poll::Ready(()),
            }
        }
    }
}
