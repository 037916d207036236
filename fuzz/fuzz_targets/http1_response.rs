//! Octets as they come from an endpoint: an answer with its body, whole and in pieces. The first octet is the length of the
//! pieces. However they are cut, the same is read.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho_proxy::h1::head::{Parser, Step};
use sekisho_proxy::h1::{Decoded, Limits, response};

const LIMITS: Limits = Limits {
    head_bytes: 2048,
    fields: 16,
    uri_bytes: usize::MAX,
};

/// The header section, the body, whether it came to its end.
fn read(stream: &[u8], piece: usize) -> Option<(String, Vec<u8>, bool)> {
    let mut buffer = BytesMut::new();
    let mut pieces = stream.chunks(piece);
    let mut parser = Parser::default();
    let length = loop {
        match response::advance(&mut parser, &buffer, &LIMITS) {
            Ok(Step::Complete(length)) => break length,
            Ok(Step::Partial) => buffer.extend_from_slice(pieces.next()?),
            Err(_) => return None,
        }
    };
    let section = buffer.split_to(length).freeze();
    let mut head = response::head(parser, &section).ok()?;
    let mut decoder = response::framing(&http::Method::GET, &mut head).ok()?;
    let text = format!("{} {:?}", head.status, head.headers);
    let mut body = Vec::new();
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
            Ok(Decoded::Trailers(_) | Decoded::End) => return Some((text, body, decoder.is_done())),
            Ok(Decoded::More) => match pieces.next() {
                Some(more) => buffer.extend_from_slice(more),
                None => return Some((text, body, decoder.end().is_ok())),
            },
            Err(_) => return Some((text, body, false)),
        }
    }
}

fuzz_target!(|octets: &[u8]| {
    let Some((piece, stream)) = octets.split_first() else {
        return;
    };
    let whole = read(stream, usize::MAX);
    let pieces = read(stream, usize::from(*piece).max(1));
    let (Some((head, body, good)), Some((other_head, other_body, other_good))) = (&whole, &pieces) else {
        return assert_eq!(whole, pieces);
    };
    assert_eq!((head, good), (other_head, other_good));
    // Of a body with a fault behind a piece the piece is given out if the fault has not come yet.
    if *good {
        assert_eq!(body, other_body);
    } else {
        assert!(other_body.starts_with(body), "{body:?} {other_body:?}");
    }
});
