//! A timer for waits of which nearly all end long before their time.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// Made with the first wait and set again only when it fires or when a wait ends earlier than the last one: one wait
/// after the other, each as long, leave it alone.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready at `due`. The task may be woken earlier, for a wait that has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_time() {
        let begun = Instant::now();
        let mut timer = LazyTimer::default();
        let mut seconds = 0;
        // The first number is a wait that is given up, the second one that is waited out, both from now.
        for (given_up, waited) in [(60, 10), (5, 60), (1, 1), (100, 3), (3, 100)] {
            let now = Instant::now();
            let due = now + Duration::from_secs(given_up);
            assert!(poll_fn(|cx| timer.poll(cx, due)).now_or_never().is_none());
            let due = now + Duration::from_secs(waited);
            poll_fn(|cx| timer.poll(cx, due)).await;
            seconds += waited;
            assert_eq!(
                begun.elapsed(),
                Duration::from_secs(seconds),
                "{given_up} {waited}"
            );
        }
    }
}
