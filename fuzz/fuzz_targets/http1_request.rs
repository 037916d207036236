//! Octets as they come from a client: requests one after the other, with their bodies, whole and in pieces. The first octet
//! is the length of the pieces. However they are cut, the same is read.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho_proxy::h1::head::{Parser, Step};
use sekisho_proxy::h1::{Decoded, Limits, request};

const LIMITS: Limits = Limits {
    head_bytes: 2048,
    fields: 16,
    uri_bytes: 256,
};

/// What was read: request lines, bodies, and whether it ended with a fault.
fn read(stream: &[u8], piece: usize) -> (Vec<String>, Vec<u8>, bool) {
    let (mut heads, mut bodies) = (Vec::new(), Vec::new());
    let mut buffer = BytesMut::new();
    let mut pieces = stream.chunks(piece);
    loop {
        let mut parser = Parser::default();
        let length = loop {
            match request::advance(&mut parser, &buffer, &LIMITS) {
                Ok(Step::Complete(length)) => break length,
                Ok(Step::Partial) => match pieces.next() {
                    Some(more) => buffer.extend_from_slice(more),
                    None => return (heads, bodies, false),
                },
                Err(_) => return (heads, bodies, true),
            }
        };
        let section = buffer.split_to(length).freeze();
        let Ok(head) = request::head(parser, &section) else {
            return (heads, bodies, true);
        };
        heads.push(format!("{} {} {:?}", head.method, head.uri, head.headers));
        let Ok(mut decoder) = request::framing(head.version, &head.headers) else {
            return (heads, bodies, true);
        };
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Decoded::Data(data)) => bodies.extend_from_slice(&data),
                Ok(Decoded::Trailers(trailers)) => heads.push(format!("{trailers:?}")),
                Ok(Decoded::End) => break,
                Ok(Decoded::More) => match pieces.next() {
                    Some(more) => buffer.extend_from_slice(more),
                    None => return (heads, bodies, false),
                },
                Err(_) => return (heads, bodies, true),
            }
        }
        assert!(decoder.is_done());
    }
}

fuzz_target!(|octets: &[u8]| {
    let Some((piece, stream)) = octets.split_first() else {
        return;
    };
    let whole = read(stream, usize::MAX);
    let pieces = read(stream, usize::from(*piece).max(1));
    let ((heads, body, fault), (other_heads, other_body, other_fault)) = (whole, pieces);
    assert_eq!((heads, fault), (other_heads, other_fault));
    // Of a body with a fault behind a piece the piece is given out if the fault has not come yet.
    if fault {
        assert!(other_body.starts_with(&body), "{body:?} {other_body:?}");
    } else {
        assert_eq!(body, other_body);
    }
});
