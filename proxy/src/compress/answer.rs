//! Which answers are compressed, and what that changes in their header section.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use sekisho_config::model::Encoding;

use super::Wish;
use crate::fields::Fields;
use crate::fields::names::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use crate::http::headers::tokens;

/// Digests of what goes over the wire or of the chosen representation (RFC 9530 and before): they would be wrong then.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// What is done with the body of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// It stays as it is.
    None,
    /// It is compressed; so many octets of it are announced.
    Encode(Encoding, Option<u64>),
}

/// Whether a cache directive forbids that the content is changed on its way.
pub(super) fn no_transform(fields: &Fields) -> bool {
    fields
        .get_all(CACHE_CONTROL)
        .flat_map(tokens)
        .any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// Decides about an answer of an endpoint to a request whose client prefers `encoding`, and changes its header section.
/// `room`: whether there is memory for another one; asked last.
///
/// Of what depends on the client's word `Vary` speaks in either case. The `ETag` becomes weak, for the octets are others
/// than those it was made for (RFC 9110 section 8.8.1).
pub(crate) fn judge(
    wish: Wish<'_>,
    method: &Method,
    status: StatusCode,
    fields: &mut Fields,
    encoding: Option<Encoding>,
    room: impl FnOnce(Encoding, Option<u64>) -> bool,
) -> Change {
    if status == StatusCode::NOT_MODIFIED {
        // It stands for an answer that may have been compressed, of which it does not tell the type.
        add_vary(fields);
        if encoding.is_some() {
            weaken(fields);
        }
        return Change::None;
    }
    let length = fields
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if !suits(wish, status, fields, length) {
        return Change::None;
    }
    add_vary(fields);
    let Some(encoding) = encoding else {
        return Change::None;
    };
    // HEAD is answered as GET would be, without a body for which there had to be room.
    if *method != Method::HEAD && !room(encoding, length) {
        return Change::None;
    }
    fields.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
    fields.remove(CONTENT_LENGTH);
    fields.remove(ACCEPT_RANGES);
    weaken(fields);
    if *method == Method::HEAD {
        return Change::None;
    }
    Change::Encode(encoding, length)
}

fn suits(wish: Wish<'_>, status: StatusCode, fields: &Fields, length: Option<u64>) -> bool {
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::RESET_CONTENT
        || status == StatusCode::PARTIAL_CONTENT;
    if bodiless || fields.contains_key(CONTENT_ENCODING) || fields.contains_key(CONTENT_RANGE) {
        return false;
    }
    if length.is_some_and(|length| length == 0 || length < wish.min_bytes()) {
        return false;
    }
    media_type(fields).is_some_and(|media_type| !is_stream(media_type) && wish.takes_type(media_type))
        && !no_transform(fields)
        && !DIGESTS.iter().any(|name| fields.contains_key(name))
}

/// The media type of an answer, without its parameters.
pub(crate) fn media_type(fields: &Fields) -> Option<&str> {
    let value = fields.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// Whoever sends events wants each of them to arrive by itself, and gRPC has messages of its own.
pub(crate) fn is_stream(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case("text/event-stream")
        || media_type
            .get(..16)
            .is_some_and(|begins| begins.eq_ignore_ascii_case("application/grpc"))
}

/// Says that the answer depends on `Accept-Encoding`, if that is not said.
fn add_vary(fields: &mut Fields) {
    let said = fields
        .get_all(VARY)
        .flat_map(tokens)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if !said {
        fields.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

fn weaken(fields: &mut Fields) {
    let Some(tag) = fields.get(ETAG) else { return };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => fields.insert(ETAG, weak),
        Err(_) => fields.remove(ETAG),
    }
}

#[cfg(test)]
mod tests {
    use sekisho_config::model::Compression;
    use sekisho_config::model::Encoding::Gzip;

    use super::*;

    /// What becomes of `200` to `GET` with these fields, as `name: value` in order of names; `=`: nothing is changed.
    fn judged(status: u16, method: Method, with: &[(&'static str, &str)], asked: bool, room: bool) -> String {
        let file = Compression::default();
        let mut fields = Fields::new();
        for (name, value) in with {
            fields.append(
                http::HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let before = fields.clone();
        let change = judge(
            Wish::new(None, &file),
            &method,
            StatusCode::from_u16(status).unwrap(),
            &mut fields,
            asked.then_some(Gzip),
            |_, _| room,
        );
        if fields == before {
            assert_eq!(change, Change::None);
            return "=".to_owned();
        }
        let mut lines: Vec<String> = fields
            .iter()
            .filter(|(name, _)| *name != CONTENT_TYPE)
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        if change != Change::None {
            lines.push("!".to_owned());
        }
        lines.join(" | ")
    }

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

    #[test]
    fn answers() {
        let get = Method::GET;
        let coded = "content-encoding: gzip | vary: Accept-Encoding | !";
        for (with, want) in [
            (&[HTML][..], coded),
            (&[("content-type", "Application/JSON")], coded),
            (
                &[HTML, ("content-length", "2000"), ("accept-ranges", "bytes")],
                coded,
            ),
            (
                &[HTML, ("vary", "Origin")],
                "content-encoding: gzip | vary: Accept-Encoding | vary: Origin | !",
            ),
            (
                &[HTML, ("vary", "Origin, accept-encoding")],
                "content-encoding: gzip | vary: Origin, accept-encoding | !",
            ),
            (&[HTML, ("vary", "*")], "content-encoding: gzip | vary: * | !"),
            (
                &[HTML, ("etag", "\"a\"")],
                "content-encoding: gzip | etag: W/\"a\" | vary: Accept-Encoding | !",
            ),
            (
                &[HTML, ("etag", "W/\"a\"")],
                "content-encoding: gzip | etag: W/\"a\" | vary: Accept-Encoding | !",
            ),
            (
                &[HTML, ("cache-control", "no-cache, max-age=3")],
                "cache-control: no-cache, max-age=3 | content-encoding: gzip | vary: Accept-Encoding | !",
            ),
            (&[HTML, ("content-length", "1023")], "="),
            (&[HTML, ("content-length", "0")], "="),
            (&[HTML, ("content-encoding", "br")], "="),
            (&[HTML, ("content-encoding", "identity")], "="),
            (&[HTML, ("content-range", "bytes 0-1/2")], "="),
            (&[HTML, ("cache-control", "public, No-Transform")], "="),
            (&[HTML, ("repr-digest", "sha-256=:x:")], "="),
            (&[HTML, ("content-md5", "x")], "="),
            (&[("content-type", "text/event-stream")], "="),
            (&[("content-type", "application/grpc+proto")], "="),
            (&[("content-type", "application/grpc-web")], "="),
            (&[("content-type", "image/png")], "="),
            (&[("content-type", "video/mp4")], "="),
            (&[("content-type", "")], "="),
            (&[], "="),
        ] {
            assert_eq!(judged(200, get.clone(), with, true, true), want, "{with:?}");
        }
        for (status, want) in [
            (200, coded),
            (404, coded),
            (503, coded),
            (204, "="),
            (205, "="),
            (206, "="),
            (304, "vary: Accept-Encoding"),
        ] {
            assert_eq!(judged(status, get.clone(), &[HTML], true, true), want, "{status}");
        }
    }

    #[test]
    fn what_the_client_says_shows_in_vary_alone() {
        let with = &[HTML, ("content-length", "2000"), ("etag", "\"a\"")];
        let plain = "content-length: 2000 | etag: \"a\" | vary: Accept-Encoding";
        for (asked, room, want) in [
            (false, true, plain),
            (true, false, plain),
            (
                true,
                true,
                "content-encoding: gzip | etag: W/\"a\" | vary: Accept-Encoding | !",
            ),
        ] {
            assert_eq!(
                judged(200, Method::GET, with, asked, room),
                want,
                "{asked} {room}"
            );
        }
        // As GET would be answered, and no body that could be compressed.
        for room in [true, false] {
            assert_eq!(
                judged(200, Method::HEAD, with, true, room),
                "content-encoding: gzip | etag: W/\"a\" | vary: Accept-Encoding"
            );
        }
        assert_eq!(
            judged(304, Method::GET, &[("etag", "\"a\"")], true, true),
            "etag: W/\"a\" | vary: Accept-Encoding"
        );
    }
}
