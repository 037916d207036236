//! The Date field: made once a second.

use std::cell::RefCell;
use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

use crate::clock;

const FRESH: Duration = Duration::from_secs(1);

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

struct Last {
    at: Instant,
    line: String,
    value: HeaderValue,
}

/// Appends the field line.
pub(super) fn write(out: &mut Vec<u8>) {
    with(|last| out.extend_from_slice(last.line.as_bytes()));
}

/// The value of the field.
pub(super) fn value() -> HeaderValue {
    with(|last| last.value.clone())
}

fn with<T>(take: impl FnOnce(&Last) -> T) -> T {
    let now = clock::now();
    LAST.with_borrow_mut(|last| match last {
        Some(last) if now.saturating_duration_since(last.at) < FRESH => take(last),
        _ => {
            let (wall, line) = line(Timestamp::now());
            let value = line.trim_start_matches("date: ").trim_end();
            take(last.insert(Last {
                // As old as the second that it names.
                at: now.checked_sub(wall).unwrap_or(now),
                value: HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("")),
                line,
            }))
        }
    })
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
