use std::time::{Duration, Instant};

/// First wait after the kernel refused something; doubled each time, up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How often the kernel has refused something, and when it is tried again.
#[derive(Debug)]
pub(in crate::fib) struct Failure {
    attempts: u32,
    pub(in crate::fib) retry_at: Instant,
}

impl Failure {
    /// One refusal more.
    pub(in crate::fib) fn after(earlier: Option<&Self>, now: Instant) -> Self {
        let attempts = earlier.map_or(0, |failure| failure.attempts);
        let wait = RETRY_FIRST
            .saturating_mul(2u32.saturating_pow(attempts))
            .min(RETRY_MAX);
        Self {
            attempts: attempts.saturating_add(1),
            retry_at: now + wait,
        }
    }

    /// Not due again before it has been tried.
    pub(in crate::fib) fn postpone(&mut self, now: Instant) {
        self.retry_at = now + RETRY_MAX;
    }
}
