//! Responses of endpoints: the status line, where the body ends.

use http::{HeaderValue, Method, StatusCode, Version};

use super::body::Decoder;
use super::head::{Fault, Limits, Parser, Step};
use super::request::content_length;
use crate::fields::names::{CONTENT_LENGTH, TRANSFER_ENCODING};
use crate::message::response::Parts;

/// `HTTP-version SP status-code SP [ reason-phrase ]`; the last space is often missing where no phrase follows.
fn line(octets: &[u8]) -> Result<(Version, StatusCode), Fault> {
    let (version, rest) = match octets.split_at_checked(9) {
        Some((b"HTTP/1.1 ", rest)) => (Version::HTTP_11, rest),
        Some((b"HTTP/1.0 ", rest)) => (Version::HTTP_10, rest),
        _ => return Err(Fault::Malformed),
    };
    let (code, phrase) = rest.split_at_checked(3).ok_or(Fault::Malformed)?;
    let good = match phrase {
        [] => true,
        [b' ', phrase @ ..] => phrase
            .iter()
            .all(|octet| *octet == b'\t' || (*octet >= b' ' && *octet != 0x7f)),
        _ => false,
    };
    if !good || !code.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Malformed);
    }
    let status = StatusCode::from_bytes(code).map_err(|_| Fault::Malformed)?;
    Ok((version, status))
}

/// Goes on reading a response's header section from `buffer`.
///
/// # Errors
/// [`Fault`] when it must be refused.
pub fn advance(parser: &mut Parser, buffer: &[u8], limits: &Limits) -> Result<Step, Fault> {
    parser.advance(buffer, limits, |octets| line(octets).map(drop))
}

/// The header section that `parser` has read to its end out of `section`.
///
/// # Errors
/// [`Fault`] when it must be refused.
pub fn head(parser: Parser, section: &[u8]) -> Result<Parts, Fault> {
    let (version, status) = line(parser.start(section))?;
    Ok(Parts {
        status,
        version,
        headers: parser.into_fields(section),
    })
}

/// Where the body of an answer to `method` ends (RFC 9112 section 6.3). Fields that say the same twice are made one,
/// what could be read in two ways is refused.
///
/// # Errors
/// [`Fault::Framing`].
pub fn framing(method: &Method, head: &mut Parts) -> Result<Decoder, Fault> {
    let headers = &mut head.headers;
    let mut chunked = false;
    for coding in headers.get_all(TRANSFER_ENCODING) {
        // Some frameworks write the field twice; RFC 9112 section 6.1 leaves no other reading of it.
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::Framing);
        }
        chunked = true;
    }
    let mut length = None;
    let mut plain = true;
    for text in headers.get_all(CONTENT_LENGTH) {
        let value = content_length(text.as_bytes())?;
        if length.is_some_and(|other| other != value) {
            return Err(Fault::Framing);
        }
        // Said twice, or with zeros in front that some read as octal.
        plain &= length.is_none() && (text.len() == 1 || !text.as_bytes().starts_with(b"0"));
        length = Some(value);
    }
    if chunked && (length.is_some() || head.version == Version::HTTP_10) {
        return Err(Fault::Framing);
    }
    if let Some(length) = length
        && !plain
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let status = head.status;
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // Neither may have one (RFC 9110 section 8.6).
        headers.remove(CONTENT_LENGTH);
        return Ok(Decoder::none());
    }
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return Ok(Decoder::none());
    }
    Ok(match length {
        _ if chunked => Decoder::chunked(),
        Some(length) => Decoder::length(length),
        None => Decoder::until_close(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 4096,
        fields: 32,
        uri_bytes: usize::MAX,
    };

    fn read(input: &[u8]) -> Result<Option<Parts>, Fault> {
        let mut parser = Parser::default();
        match advance(&mut parser, input, &LIMITS)? {
            Step::Partial => Ok(None),
            Step::Complete(length) => head(parser, &input[..length]).map(Some),
        }
    }

    #[test]
    fn status_lines() {
        for (input, want) in [
            ("HTTP/1.1 200 OK", Ok(200)),
            ("HTTP/1.0 404 ", Ok(404)),
            ("HTTP/1.1 599", Ok(599)),
            ("HTTP/1.1 200 Tr\u{e8}s bien", Ok(200)),
            ("HTTP/1.1 99 x", Err(Fault::Malformed)),
            ("HTTP/1.1 2000 x", Err(Fault::Malformed)),
            ("HTTP/1.1 099 x", Err(Fault::Malformed)),
            ("HTTP/1.1  200 x", Err(Fault::Malformed)),
            ("HTTP/1.1 2x0 x", Err(Fault::Malformed)),
            ("HTTP/1.1 200\tOK", Err(Fault::Malformed)),
            ("HTTP/2.0 200 OK", Err(Fault::Malformed)),
            ("HTTP/1.1", Err(Fault::Malformed)),
            ("http/1.1 200 OK", Err(Fault::Malformed)),
            ("HTTP/1.1 200 a\rb", Err(Fault::Malformed)),
            ("<html>", Err(Fault::Malformed)),
        ] {
            let got = read(format!("{input}\r\n\r\n").as_bytes());
            assert_eq!(got.map(|head| head.unwrap().status.as_u16()), want, "{input:?}");
        }
    }

    #[test]
    fn framings() {
        for (method, text, want) in [
            (
                Method::GET,
                "1.1 200\r\ncontent-length: 3",
                Ok(Decoder::length(3)),
            ),
            (
                Method::GET,
                "1.1 200\r\ncontent-length: 3\r\ncontent-length: 3",
                Ok(Decoder::length(3)),
            ),
            (
                Method::GET,
                "1.1 200\r\ntransfer-encoding: chunked",
                Ok(Decoder::chunked()),
            ),
            (
                Method::GET,
                "1.1 200\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
                Ok(Decoder::chunked()),
            ),
            (Method::GET, "1.0 200", Ok(Decoder::until_close())),
            (Method::HEAD, "1.1 200\r\ncontent-length: 3", Ok(Decoder::none())),
            (Method::GET, "1.1 304\r\ncontent-length: 3", Ok(Decoder::none())),
            (Method::GET, "1.1 204\r\ncontent-length: 3", Ok(Decoder::none())),
            (
                Method::GET,
                "1.1 200\r\ncontent-length: 3\r\ncontent-length: 4",
                Err(Fault::Framing),
            ),
            (
                Method::GET,
                "1.1 200\r\ncontent-length: 3, 3",
                Err(Fault::Framing),
            ),
            (Method::GET, "1.1 200\r\ncontent-length: -3", Err(Fault::Framing)),
            (
                Method::GET,
                "1.1 200\r\ncontent-length: 3\r\ntransfer-encoding: chunked",
                Err(Fault::Framing),
            ),
            (
                Method::GET,
                "1.1 200\r\ntransfer-encoding: gzip",
                Err(Fault::Framing),
            ),
            (
                Method::GET,
                "1.0 200\r\ntransfer-encoding: chunked",
                Err(Fault::Framing),
            ),
        ] {
            let mut head = read(format!("HTTP/{text}\r\n\r\n").as_bytes()).unwrap().unwrap();
            let got = framing(&method, &mut head);
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{method} {text}");
            let lengths = head.headers.get_all(CONTENT_LENGTH).count();
            assert!(lengths <= 1 || got.is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_safe(input: Vec<u8>) {
            if let Ok(Some(mut head)) = read(&input) {
                let _ = framing(&Method::GET, &mut head);
            }
        }
    }
}
