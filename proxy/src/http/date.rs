//! The Date field: made once a second.

use std::cell::RefCell;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use crate::clock;

const FRESH: Duration = Duration::from_secs(1);

thread_local! {
    static LAST: RefCell<Option<(Instant, String)>> = const { RefCell::new(None) };
}

/// Appends the field line.
pub(super) fn write(out: &mut Vec<u8>) {
    let now = clock::now();
    LAST.with_borrow_mut(|last| {
        let line = match last {
            Some((at, line)) if now.saturating_duration_since(*at) < FRESH => line,
            _ => {
                let (wall, line) = line(Timestamp::now());
                // As old as the second that it names.
                let (_, line) = last.insert((now.checked_sub(wall).unwrap_or(now), line));
                line
            }
        };
        out.extend_from_slice(line.as_bytes());
    });
}

/// How old the second is, and the line that names it (RFC 9110 section 5.6.7).
fn line(now: Timestamp) -> (Duration, String) {
    let past = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    let zoned = now.to_zoned(TimeZone::UTC);
    let text = zoned.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string();
    (Duration::from_nanos(past.into()), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_the_rfc() {
        let (past, text) = line("1994-11-06T08:49:37.25Z".parse().unwrap());
        assert_eq!(text, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        assert_eq!(past, Duration::from_millis(250));
    }
}
