//! The chunked transfer coding (RFC 9112 section 7.1), read strictly: hexadecimal digits, an extension or none, CRLF.

use bytes::{Buf, BytesMut};

use super::body::{BadBody, Decoded};
use super::head::{Limits, Parser, Step};
use crate::fields::names::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use crate::fields::{Fields, Name};

/// Octets of one chunk, as of a whole body (Content-Length).
const MAX_SIZE: u64 = i64::MAX.cast_unsigned();

/// Octets of one chunk extension, and of all extensions of a body.
const MAX_EXTENSION: u32 = 1024;
const MAX_EXTENSIONS: u32 = 16 * 1024;

/// Trailer section.
const TRAILERS: Limits = Limits {
    head_bytes: 16 * 1024,
    fields: 64,
    uri_bytes: usize::MAX,
};

/// Where in the coding the next octet stands.
#[derive(Debug)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64, octets: u32 },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers(Parser),
    Done,
}

/// A reader of chunks.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    extensions: u32,
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            state: State::Size { value: 0, digits: 0 },
            extensions: 0,
        }
    }
}

impl Chunks {
    /// Whether the last chunk and the trailers were read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next piece out of `buffer`.
    ///
    /// # Errors
    /// [`BadBody`] when the coding is broken.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BadBody> {
        loop {
            if let Some(decoded) = self.data(buffer)? {
                return Ok(decoded);
            }
            let mut used = 0;
            // All of a line that is there, then its octets go at once.
            for octet in buffer.iter() {
                if matches!(self.state, State::Data { .. } | State::Trailers(_) | State::Done) {
                    break;
                }
                used += 1;
                self.line(*octet)?;
            }
            if used == 0 {
                return Ok(Decoded::More);
            }
            drop(buffer.split_to(used));
        }
    }

    /// Reads ahead over the framing behind a piece, so that the end is known when it is there.
    pub(crate) fn look_ahead(&mut self, buffer: &mut BytesMut) -> Result<(), BadBody> {
        let mut used = 0;
        for octet in buffer.iter() {
            if matches!(self.state, State::Data { .. } | State::Trailers(_) | State::Done) {
                break;
            }
            used += 1;
            self.line(*octet)?;
        }
        if used > 0 {
            drop(buffer.split_to(used));
        }
        // No trailers are the rule.
        if matches!(&self.state, State::Trailers(_)) && buffer.starts_with(b"\r\n") {
            drop(buffer.split_to(2));
            self.state = State::Done;
        }
        Ok(())
    }

    fn data(&mut self, buffer: &mut BytesMut) -> Result<Option<Decoded>, BadBody> {
        match &mut self.state {
            State::Data { left } => {
                if buffer.is_empty() {
                    return Ok(Some(Decoded::More));
                }
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= count as u64;
                let piece = buffer.split_to(count).freeze();
                if *left == 0 {
                    self.state = State::DataCr;
                    self.look_ahead(buffer)?;
                }
                Ok(Some(Decoded::Data(piece)))
            }
            State::Trailers(parser) => {
                let step = parser
                    .advance(buffer, &TRAILERS, |_| Ok(()))
                    .map_err(|_| BadBody::Trailers)?;
                let Step::Complete(length) = step else {
                    return Ok(Some(Decoded::More));
                };
                let section = buffer.get(..length).unwrap_or_default();
                let mut map = std::mem::take(parser).into_fields(section);
                buffer.advance(length);
                self.state = State::Done;
                strip_forbidden(&mut map);
                Ok(Some(if map.is_empty() {
                    Decoded::End
                } else {
                    Decoded::Trailers(map)
                }))
            }
            State::Done => Ok(Some(Decoded::End)),
            _ => Ok(None),
        }
    }

    fn line(&mut self, octet: u8) -> Result<(), BadBody> {
        self.state = match (&self.state, octet) {
            (State::Size { value, digits }, octet) if octet.is_ascii_hexdigit() => {
                let digit = char::from(octet).to_digit(16).unwrap_or(0);
                // Sixteen digits may still be a number that others read as a negative one.
                if *digits >= 16 || *value > MAX_SIZE >> 4 {
                    return Err(BadBody::ChunkSize);
                }
                State::Size {
                    value: (*value << 4) | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { value, digits: 1.. }, b'\r') => State::SizeEnd { value: *value },
            (State::Size { value, digits: 1.. }, b';') => State::Extension {
                value: *value,
                octets: 0,
            },
            (State::Extension { value, .. }, b'\r') => State::SizeEnd { value: *value },
            (State::Extension { value, octets }, octet) => {
                self.extensions += 1;
                let too_long = *octets >= MAX_EXTENSION || self.extensions > MAX_EXTENSIONS;
                if too_long || (octet < b' ' && octet != b'\t') || octet == 0x7f {
                    return Err(BadBody::ChunkExtension);
                }
                State::Extension {
                    value: *value,
                    octets: octets + 1,
                }
            }
            (State::SizeEnd { value: 0 }, b'\n') => State::Trailers(Parser::trailers()),
            (State::SizeEnd { value }, b'\n') => State::Data { left: *value },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            _ => return Err(BadBody::ChunkSize),
        };
        Ok(())
    }
}

/// Drops fields that decide about framing, routing, authority or content, which nobody looks for behind a body
/// (RFC 9110 section 6.5.1), and those that a request may not bring with it at all.
pub(crate) fn strip_forbidden(trailers: &mut Fields) {
    const FORBIDDEN: [Name<'static>; 18] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        FORWARDED,
        HOST,
        PROXY_AUTHORIZATION,
        RANGE,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let suspect = |name: &[u8]| {
        name.contains(&b'_')
            || name.starts_with(b"proxy-")
            || matches!(name, b"proxy" | b"x-request-id" | b"keep-alive")
            || is_claim(name)
    };
    trailers.retain(|name, _| !FORBIDDEN.contains(&name) && !suspect(name.as_bytes()));
}

/// Whether only a proxy has a reason to send a field. From `X-Original-URL` and `X-Rewrite-URL` some servers take the
/// path, past whatever was decided on that of the request.
pub(crate) fn is_claim(name: &[u8]) -> bool {
    match name.first() {
        Some(b'x') => {
            name.starts_with(b"x-forwarded-")
                || name.starts_with(b"x-original-")
                || matches!(name, b"x-rewrite-url" | b"x-real-ip")
        }
        Some(b'f') => name == b"forwarded",
        // What is said of the certificate of a client (RFC 9440, ingress-nginx).
        Some(b'c') => matches!(name, b"client-cert" | b"client-cert-chain"),
        Some(b's') => name.starts_with(b"ssl-client-"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Body = (Vec<u8>, Option<Fields>, Vec<u8>);

    /// Data, trailers, rest; or the fault.
    fn read(input: &[u8], piece: usize) -> Result<Body, BadBody> {
        let mut chunks = Chunks::default();
        let (mut data, mut trailers) = (Vec::new(), None);
        let mut buffer = BytesMut::new();
        for part in input.chunks(piece) {
            buffer.extend_from_slice(part);
            loop {
                match chunks.decode(&mut buffer)? {
                    Decoded::Data(octets) => data.extend_from_slice(&octets),
                    Decoded::Trailers(map) => trailers = Some(map),
                    Decoded::More | Decoded::End => break,
                }
            }
        }
        Ok((
            data,
            trailers,
            if chunks.is_done() {
                buffer.to_vec()
            } else {
                b"open".to_vec()
            },
        ))
    }

    #[test]
    fn codings() {
        let big = format!("5;{}\r\nabcde\r\n", "x".repeat(1025));
        let many = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(17);
        for (input, want) in [
            ("5\r\nabcde\r\n0\r\n\r\nrest", Ok(("abcde", "rest"))),
            ("0\r\n\r\n", Ok(("", ""))),
            ("00000005\r\nabcde\r\n000\r\n\r\n", Ok(("abcde", ""))),
            (
                "A\r\nabcdefghij\r\na\r\nabcdefghij\r\n0\r\n\r\n",
                Ok(("abcdefghijabcdefghij", "")),
            ),
            ("5;a=b\r\nabcde\r\n0;c\r\n\r\n", Ok(("abcde", ""))),
            ("3\r\nabc\r\n0\r\nx-sum: 1\r\nhost: b\r\n\r\n", Ok(("abc", ""))),
            ("3\r\nab", Ok(("ab", "open"))),
            ("3\r\nabc\r\n0\r\n", Ok(("abc", "open"))),
            ("3\nabc\r\n0\r\n\r\n", Err(BadBody::ChunkSize)),
            ("3\r\nabcd\r\n0\r\n\r\n", Err(BadBody::ChunkSize)),
            ("3\r\nabc\n0\r\n\r\n", Err(BadBody::ChunkSize)),
            ("3\r\nabc0\r\n\r\n", Err(BadBody::ChunkSize)),
            ("\r\n", Err(BadBody::ChunkSize)),
            (";a\r\n", Err(BadBody::ChunkSize)),
            ("3 \r\nabc\r\n", Err(BadBody::ChunkSize)),
            (" 3\r\nabc\r\n", Err(BadBody::ChunkSize)),
            ("3 ;a\r\nabc\r\n", Err(BadBody::ChunkSize)),
            ("0x3\r\nabc\r\n", Err(BadBody::ChunkSize)),
            ("+3\r\nabc\r\n", Err(BadBody::ChunkSize)),
            ("-3\r\nabc\r\n", Err(BadBody::ChunkSize)),
            ("g\r\n", Err(BadBody::ChunkSize)),
            ("10000000000000000\r\n", Err(BadBody::ChunkSize)),
            ("00000000000000003\r\nabc\r\n", Err(BadBody::ChunkSize)),
            ("3\r\r\nabc\r\n", Err(BadBody::ChunkSize)),
            ("3;a\nabc\r\n", Err(BadBody::ChunkExtension)),
            ("3;a\0\r\nabc\r\n", Err(BadBody::ChunkExtension)),
            (&big, Err(BadBody::ChunkExtension)),
            (&many, Err(BadBody::ChunkExtension)),
            ("0\r\na : b\r\n\r\n", Err(BadBody::Trailers)),
            ("0\r\na: b\n\r\n", Err(BadBody::Trailers)),
        ] {
            for piece in [1, 2, 3, 1000, usize::MAX] {
                let got = read(input.as_bytes(), piece);
                let got = got.map(|(data, _, rest)| {
                    (String::from_utf8(data).unwrap(), String::from_utf8(rest).unwrap())
                });
                let want = want.map(|(data, rest)| (data.to_owned(), rest.to_owned()));
                assert_eq!(got, want, "{input:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn trailers() {
        let (_, trailers, _) = read(
            b"0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nX-Forwarded-For: x\r\na_b: c\r\nCookie: d\r\n\r\n",
            7,
        )
        .unwrap();
        let trailers = trailers.unwrap();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    }

    proptest::proptest! {
        #[test]
        fn any_octets_in_any_pieces_are_safe(
            input in proptest::collection::vec(proptest::sample::select(&b"0123af\r\n\r\n;: x\0\xff"[..]), 0..64),
            piece in 1usize..9,
        ) {
            let whole = read(&input, usize::MAX).map(|(data, _, rest)| (data, rest));
            let pieces = read(&input, piece).map(|(data, _, rest)| (data, rest));
            proptest::prop_assert_eq!(whole, pieces);
        }
    }
}
