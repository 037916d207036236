//! gRPC over HTTP/2 and HTTP/3: what its clients understand of the box's own answers, and how long a call may take.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version};

use super::body::Reply;
use super::exchange::Exchange;
use crate::fields::names::CONTENT_TYPE;
use crate::fields::{Fields, Name};
use crate::message::Response;

const GRPC_STATUS: Name<'static> = Name::from_static("grpc-status");
const GRPC_MESSAGE: Name<'static> = Name::from_static("grpc-message");
const GRPC_TIMEOUT: Name<'static> = Name::from_static("grpc-timeout");
const PREFIX: &[u8] = b"application/grpc";

/// The content type of a gRPC call; `None` for anything else, gRPC-Web too.
pub(super) fn content_type(version: Version, fields: &Fields) -> Option<HeaderValue> {
    let value = fields.get(CONTENT_TYPE)?;
    let rest = value.as_bytes().strip_prefix(PREFIX)?;
    let is_grpc = rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";");
    (version >= Version::HTTP_2 && is_grpc).then(|| value.into())
}

/// How long the client waits for the whole call: at most eight digits and a unit.
pub(super) fn timeout(fields: &Fields) -> Option<Duration> {
    let (unit, digits) = fields.get(GRPC_TIMEOUT)?.as_bytes().split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(count.saturating_mul(3600))),
        b'M' => Some(Duration::from_secs(count.saturating_mul(60))),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// The status of gRPC for one of HTTP that the box answers with.
fn code(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,                   // INTERNAL
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 | 405 => 12,             // UNIMPLEMENTED
        408 | 504 => 4,              // DEADLINE_EXCEEDED
        413 | 431 => 8,              // RESOURCE_EXHAUSTED
        421 | 429 | 502 | 503 => 14, // UNAVAILABLE
        _ => 2,                      // UNKNOWN
    }
}

/// An answer without a body: status and message in one header section ("Trailers-Only").
pub(super) fn status_response(
    status: StatusCode,
    text: &str,
    content_type: HeaderValue,
    exchange: Rc<Exchange>,
) -> Response<Reply> {
    exchange.status.set(StatusCode::OK.as_u16());
    let mut response = Response::new(Reply::full(Bytes::new(), exchange));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, content_type);
    fields.insert(GRPC_STATUS, HeaderValue::from(u16::from(code(status))));
    // What the box says is printable ASCII without a percent sign and needs no coding.
    if let Ok(message) = HeaderValue::from_str(text.trim_end()) {
        fields.insert(GRPC_MESSAGE, message);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: Name<'_>, value: &str) -> Fields {
        let mut fields = Fields::new();
        fields.insert(name, HeaderValue::from_str(value).unwrap());
        fields
    }

    #[test]
    fn content_types() {
        for (text, want) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;a=b", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let fields = fields(CONTENT_TYPE, text);
            assert_eq!(content_type(Version::HTTP_2, &fields).is_some(), want, "{text}");
            assert_eq!(content_type(Version::HTTP_11, &fields), None);
        }
    }

    #[test]
    fn timeouts() {
        for (text, want) in [
            ("1S", Some(1000)),
            ("250m", Some(250)),
            ("2M", Some(120_000)),
            ("99999999H", Some(359_999_996_400_000)),
            ("1000u", Some(1)),
            ("0n", Some(0)),
            ("100000000S", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
        ] {
            let got = timeout(&fields(GRPC_TIMEOUT, text)).map(|time| time.as_millis());
            assert_eq!(got, want, "{text}");
        }
    }
}
