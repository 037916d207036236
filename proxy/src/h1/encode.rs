//! Header sections and chunks as octets.

use http::{StatusCode, Version};

use crate::fields::Fields;

/// A request line; the target must be in the form in which it goes out.
pub(crate) fn request_line(out: &mut Vec<u8>, method: &str, target: &str) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    if !target.starts_with('/') && target != "*" {
        // A path may be left out of an absolute form, not out of this one (RFC 9112 section 3.2.1).
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// A status line.
pub(crate) fn status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    if version == Version::HTTP_10 {
        out.extend_from_slice(b"HTTP/1.0 ");
    } else if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
    }
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// All fields of a map.
pub(crate) fn fields(out: &mut Vec<u8>, headers: &Fields) {
    headers.encode(out, |_| true);
}

/// One field line.
pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The line before the data of a chunk.
pub(crate) fn chunk_size(out: &mut Vec<u8>, size: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (size >> (place * 4)) & 15;
        out.push(HEX.get(digit).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// The last chunk and the trailer section.
pub(crate) fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        fields(out, trailers);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::h1::{Decoded, Decoder};

    #[test]
    fn targets() {
        for (target, want) in [("/a?b", "/a?b"), ("?b", "/?b"), ("", "/"), ("*", "*")] {
            let mut out = Vec::new();
            request_line(&mut out, "GET", target);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("GET {want} HTTP/1.1\r\n")
            );
        }
    }

    #[test]
    fn sizes() {
        for size in [0, 1, 9, 10, 15, 16, 255, 256, 65536, usize::MAX] {
            let mut out = Vec::new();
            chunk_size(&mut out, size);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{size:x}\r\n"));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(pieces: Vec<Vec<u8>>) {
            let mut out = Vec::new();
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                chunk_size(&mut out, piece.len());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            last_chunk(&mut out, None);
            let mut buffer = BytesMut::from(&out[..]);
            let mut decoder = Decoder::chunked();
            let mut got = Vec::new();
            while let Decoded::Data(piece) = decoder.decode(&mut buffer).unwrap() {
                got.extend_from_slice(&piece);
            }
            proptest::prop_assert!(decoder.is_done() && buffer.is_empty());
            proptest::prop_assert_eq!(got, pieces.concat());
        }
    }
}
