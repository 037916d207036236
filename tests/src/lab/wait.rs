use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// The clock of the lab, which deals with real daemons in real time.
#[expect(clippy::disallowed_methods, reason = "real daemons know no paused time")]
pub fn now() -> Instant {
    Instant::now()
}

/// A process that was waited for has ended: waiting on would be in vain.
#[derive(Debug)]
pub struct Ended(pub String);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Ended {}

/// Asks `probe` until it answers, at most for `limit`; gives the answer and how long it took.
///
/// # Errors
/// When `limit` has passed, or at once when `probe` says [`Ended`]: what was waited for and what `probe` said last.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<(T, Duration)> {
    let start = now();
    loop {
        match probe() {
            Ok(answer) => return Ok((answer, start.elapsed())),
            Err(last) if start.elapsed() >= limit || last.is::<Ended>() => {
                return Err(anyhow!(
                    "waited {:.1} s for {what}; last: {last:#}",
                    start.elapsed().as_secs_f64()
                ));
            }
            Err(_) => sleep(Duration::from_millis(20)),
        }
    }
}
