//! Requests: the request line, the target's form, where the body ends.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderValue, Method, Uri, Version};

use super::body::Decoder;
use super::head::{Fault, Limits, Parser, Step, is_token};
use crate::fields::Fields;
use crate::fields::names::{CONTENT_LENGTH, TRANSFER_ENCODING};
use crate::message::request::Parts;

/// Octets of a method at most. The longest registered one has 17.
pub(crate) const MAX_METHOD: usize = 32;

/// A request line in its parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Line<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
}

/// `method SP request-target SP HTTP-version`: single spaces, nothing around them (RFC 9112 section 3).
fn line(octets: &[u8], uri_bytes: usize) -> Result<Line<'_>, Fault> {
    let method = octets
        .iter()
        .position(|octet| !is_token(*octet))
        .filter(|end| (1..=MAX_METHOD).contains(end) && octets.get(*end) == Some(&b' '))
        .ok_or(Fault::Malformed)?;
    let (method, rest) = octets.split_at(method);
    let rest = rest.get(1..).unwrap_or_default();
    let target = rest
        .iter()
        .position(|octet| *octet <= b' ' || *octet == 0x7f || *octet == b'#')
        .unwrap_or(rest.len());
    if target > uri_bytes {
        return Err(Fault::Uri);
    }
    let (target, version) = rest.split_at(target);
    let Some((b' ', version)) = version.split_first() else {
        return Err(Fault::Malformed);
    };
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Fault::Version);
        }
        _ => return Err(Fault::Malformed),
    };
    let form = match target {
        [b'/', ..] => true,
        b"*" => method == b"OPTIONS",
        [] => false,
        _ if method == b"CONNECT" => true,
        _ => target.windows(3).any(|window| window == b"://"),
    };
    if !form {
        return Err(Fault::Malformed);
    }
    Ok(Line {
        method,
        target,
        version,
    })
}

/// Goes on reading a request's header section from `buffer`.
///
/// # Errors
/// [`Fault`] when it must be refused.
pub fn advance(parser: &mut Parser, buffer: &[u8], limits: &Limits) -> Result<Step, Fault> {
    parser.advance(buffer, limits, |octets| line(octets, limits.uri_bytes).map(drop))
}

/// The header section that `parser` has read to its end out of `section`.
///
/// # Errors
/// [`Fault::Malformed`] when the target is no URI.
pub fn head(parser: Parser, section: &[u8]) -> Result<Parts, Fault> {
    let start = parser.start(section);
    let Line {
        method,
        target,
        version,
    } = line(start, usize::MAX)?;
    let mut uri = Uri::from_maybe_shared(Bytes::copy_from_slice(target)).map_err(|_| Fault::Malformed)?;
    if method == b"OPTIONS" && names_a_server(target) {
        // What the last proxy makes of it (RFC 9112 section 3.2.4).
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static("*"));
        uri = Uri::from_parts(parts).map_err(|_| Fault::Malformed)?;
    }
    Ok(Parts {
        method: Method::from_bytes(method).map_err(|_| Fault::Malformed)?,
        uri,
        version,
        headers: parser.into_fields(section),
        extensions: Extensions::new(),
    })
}

/// Whether a target in absolute form has neither path nor query.
fn names_a_server(target: &[u8]) -> bool {
    let scheme = target.windows(3).position(|window| window == b"://");
    let rest = scheme.and_then(|scheme| target.get(scheme + 3..));
    !target.starts_with(b"/") && rest.is_some_and(|rest| !rest.iter().any(|octet| b"/?".contains(octet)))
}

/// Where a request's body ends (RFC 9112 section 6.3). One `Transfer-Encoding: chunked`, or one Content-Length of
/// digits, or neither.
///
/// # Errors
/// [`Fault::Framing`] for anything else.
pub fn framing(version: Version, headers: &Fields) -> Result<Decoder, Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING);
    let mut lengths = headers.get_all(CONTENT_LENGTH);
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (None, None, None, None) => Ok(Decoder::none()),
        (Some(coding), None, None, None)
            if version == Version::HTTP_11 && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(Decoder::chunked())
        }
        (None, None, Some(length), None) => content_length(length.as_bytes()).map(Decoder::length),
        _ => Err(Fault::Framing),
    }
}

/// Digits, nothing else, in 63 bits: beyond them a server that counts with a sign sees another number.
pub(crate) fn content_length(octets: &[u8]) -> Result<u64, Fault> {
    if octets.is_empty() || !octets.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Framing);
    }
    std::str::from_utf8(octets)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|length| i64::try_from(*length).is_ok())
        .ok_or(Fault::Framing)
}

/// Writes a length that begins with zeros, which some read as octal, without them.
///
/// # Errors
/// [`Fault::Framing`] when there are several, or one that is none.
pub(crate) fn plain_length(headers: &mut Fields) -> Result<(), Fault> {
    let Some(length) = headers.get(CONTENT_LENGTH) else {
        return Ok(());
    };
    if headers.get_all(CONTENT_LENGTH).count() > 1 {
        return Err(Fault::Framing);
    }
    let value = content_length(length.as_bytes())?;
    if length.len() > 1 && length.as_bytes().starts_with(b"0") {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 4096,
        fields: 32,
        uri_bytes: 100,
    };

    fn read(input: &[u8]) -> Result<Option<(Parts, usize)>, Fault> {
        let mut parser = Parser::default();
        match advance(&mut parser, input, &LIMITS)? {
            Step::Partial => Ok(None),
            Step::Complete(length) => head(parser, &input[..length]).map(|head| Some((head, length))),
        }
    }

    #[test]
    fn request_lines() {
        for (input, want) in [
            ("GET / HTTP/1.1", None),
            ("GET /a?b=c HTTP/1.0", None),
            ("GET http://a.b/c HTTP/1.1", None),
            ("OPTIONS * HTTP/1.1", None),
            ("CONNECT a.b:443 HTTP/1.1", None),
            ("M-SEARCH / HTTP/1.1", None),
            ("get / HTTP/1.1", None),
            ("GET * HTTP/1.1", Some(Fault::Malformed)),
            ("GET a.b HTTP/1.1", Some(Fault::Malformed)),
            ("GET a.b:80 HTTP/1.1", Some(Fault::Malformed)),
            ("GET  / HTTP/1.1", Some(Fault::Malformed)),
            ("GET /  HTTP/1.1", Some(Fault::Malformed)),
            ("GET / HTTP/1.1 ", Some(Fault::Malformed)),
            (" GET / HTTP/1.1", Some(Fault::Malformed)),
            ("GET\t/ HTTP/1.1", Some(Fault::Malformed)),
            ("GET /\tHTTP/1.1", Some(Fault::Malformed)),
            ("GET /a b HTTP/1.1", Some(Fault::Malformed)),
            ("GET /a#b HTTP/1.1", Some(Fault::Malformed)),
            ("GET /\u{7f} HTTP/1.1", Some(Fault::Malformed)),
            ("GET /\0 HTTP/1.1", Some(Fault::Malformed)),
            ("GET /", Some(Fault::Malformed)),
            ("GET", Some(Fault::Malformed)),
            ("G(T / HTTP/1.1", Some(Fault::Malformed)),
            ("GET / http/1.1", Some(Fault::Malformed)),
            ("GET / HTTP/1.10", Some(Fault::Malformed)),
            ("GET / HTTP/11", Some(Fault::Malformed)),
            ("GET / HTTP/1,1", Some(Fault::Malformed)),
            ("GET / HTTP/2.0", Some(Fault::Version)),
            ("GET / HTTP/1.2", Some(Fault::Version)),
            ("GET / HTTP/0.9", Some(Fault::Version)),
            ("PRI * HTTP/2.0", Some(Fault::Version)),
        ] {
            let got = read(format!("{input}\r\nhost: a\r\n\r\n").as_bytes());
            assert_eq!(got.as_ref().err().copied(), want, "{input:?} {got:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100));
        assert_eq!(read(long.as_bytes()).unwrap_err(), Fault::Uri);
        let long = format!("{} / HTTP/1.1\r\n\r\n", "A".repeat(MAX_METHOD + 1));
        assert_eq!(read(long.as_bytes()).unwrap_err(), Fault::Malformed);
    }

    #[test]
    fn framings() {
        for (version, fields, want) in [
            (Version::HTTP_11, &[][..], Ok(Decoder::none())),
            (
                Version::HTTP_11,
                &[("content-length", "0")],
                Ok(Decoder::length(0)),
            ),
            (
                Version::HTTP_10,
                &[("content-length", "12")],
                Ok(Decoder::length(12)),
            ),
            (
                Version::HTTP_11,
                &[("content-length", "9223372036854775807")],
                Ok(Decoder::length(i64::MAX.unsigned_abs())),
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "Chunked")],
                Ok(Decoder::chunked()),
            ),
            (
                Version::HTTP_10,
                &[("transfer-encoding", "chunked")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("content-length", "9223372036854775808")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("content-length", "18446744073709551616")],
                Err(Fault::Framing),
            ),
            (Version::HTTP_11, &[("content-length", "")], Err(Fault::Framing)),
            (Version::HTTP_11, &[("content-length", "+1")], Err(Fault::Framing)),
            (
                Version::HTTP_11,
                &[("content-length", "1, 1")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("content-length", "1"), ("content-length", "1")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "chunked"), ("content-length", "1")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "gzip, chunked")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "")],
                Err(Fault::Framing),
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "identity")],
                Err(Fault::Framing),
            ),
        ] {
            let mut headers = Fields::new();
            for (name, value) in fields {
                headers.append(
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static(value),
                );
            }
            let got = framing(version, &headers);
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{version:?} {fields:?}");
        }
    }

    proptest::proptest! {
        /// What is accepted, a parser written by others accepts and reads in the same way.
        #[test]
        fn agrees_with_httparse(
            method in "[A-Z]{1,4}|[a-zA-Z!(]{1,3}",
            target in "(/|http://a/|\\*)?[ -~]{0,8}",
            fields in proptest::collection::vec(("[a-zA-Z_ -]{0,5}", "[ -~\t\r\n\u{e9}]{0,6}"), 0..4),
            ending in "\r\n|\n|\r",
        ) {
            let mut text = format!("{method} {target} HTTP/1.1\r\n");
            for (name, value) in &fields {
                text.push_str(&format!("{name}:{value}{ending}"));
            }
            text.push_str("\r\n");
            if let Ok(Some((head, length))) = read(text.as_bytes()) {
                let mut others = [httparse::EMPTY_HEADER; 64];
                let mut other = httparse::Request::new(&mut others);
                let status = other.parse(text.as_bytes());
                proptest::prop_assert_eq!(status, Ok(httparse::Status::Complete(length)), "{:?}", text);
                proptest::prop_assert_eq!(other.method, Some(head.method.as_str()));
                proptest::prop_assert_eq!(other.headers.len(), head.headers.len());
                for field in other.headers.iter() {
                    let found = head.headers.get_all(field.name.to_ascii_lowercase().as_str()).any(|value| value.as_bytes() == field.value);
                    proptest::prop_assert!(found, "{:?} {}", text, field.name);
                }
            }
        }

        #[test]
        fn any_octets_are_safe(input: Vec<u8>) { let _ = read(&input); }
    }
}
