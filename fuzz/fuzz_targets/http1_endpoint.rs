//! Octets of an endpoint that answers a request over HTTP/1.1: an answer that looks whole to the client is whole, and the
//! answer to the request behind it is another one. The first octet says how the endpoint ends: FIN or reset.

#![no_main]

use std::io::Write;
use std::sync::OnceLock;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sekisho_proxy::h1::head::{Parser, Step};
use sekisho_proxy::h1::{Decoded, Limits, response};

use sekisho_fuzz::{Plane, Script, connect, read_all};

static PLANE: OnceLock<Plane> = OnceLock::new();
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
const LIMITS: Limits = Limits {
    head_bytes: 256 * 1024,
    fields: 256,
    uri_bytes: usize::MAX,
};

/// An answer: status, body, whether it came to its end; `None`: it is none. Interim answers are passed over.
fn read(octets: &[u8], closed_in_order: bool) -> Option<(u16, Vec<u8>, bool)> {
    let mut buffer = BytesMut::from(octets);
    let mut interim = 0;
    loop {
        let mut parser = Parser::default();
        let Ok(Step::Complete(length)) = response::advance(&mut parser, &buffer, &LIMITS) else {
            return None;
        };
        let section = buffer.split_to(length).freeze();
        let mut head = response::head(parser, &section).ok()?;
        if head.status.is_informational() && head.status.as_u16() != 101 {
            interim += 1;
            if interim > 32 {
                return None;
            }
            continue;
        }
        let mut decoder = response::framing(&http::Method::GET, &mut head).ok()?;
        let status = head.status.as_u16();
        let mut body = Vec::new();
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Decoded::Data(data)) => body.extend_from_slice(&data),
                Ok(Decoded::Trailers(_) | Decoded::End) => return Some((status, body, true)),
                Ok(Decoded::More) => {
                    let whole = closed_in_order && decoder.end().is_ok();
                    return Some((status, body, whole));
                }
                Err(_) => return Some((status, body, false)),
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((how, answer)) = input.split_first() else {
        return;
    };
    let plane = PLANE.get_or_init(Plane::start);
    let reset = how & 1 == 1;
    plane.play(Script::Play {
        answer: answer.to_vec(),
        reset,
    });
    let mut stream = connect(plane.http);
    stream.write_all(REQUEST).unwrap();
    let (told, in_order) = read_all(&mut stream);
    let Some((status, body, whole)) = read(&told, in_order) else {
        // Half a header section is nothing; the box does not begin one that it cannot end.
        assert!(
            !in_order || told.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&told)
        );
        return;
    };
    if !whole || matches!(status, 502 | 504) {
        return;
    }
    let Some((meant, sent, is_whole)) = read(answer, !reset) else {
        panic!("no answer became {:?}", String::from_utf8_lossy(&told));
    };
    assert!(
        is_whole && meant == status && sent == body,
        "{:?}",
        String::from_utf8_lossy(&told)
    );
});
