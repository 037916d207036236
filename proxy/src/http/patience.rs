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
    waiting: bool,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            sleep: None,
            waiting: false,
        }
    }

    pub(super) fn calm(&mut self) {
        self.waiting = false;
    }

    /// Ready when the wait that began with the first call after [`Patience::calm`] is too long, unless it may go on for longer.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, longer: impl Fn() -> Option<Instant>) -> Poll<()> {
        let begins = !std::mem::replace(&mut self.waiting, true);
        let due = Instant::now() + self.limit;
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
