//! Octets as they come from a client on HTTP/2, behind the preface: whole and in pieces, with streams that are answered,
//! read, reset and let go meanwhile. The first two octets of an input choose the length of the pieces and what is done with
//! the streams. However the octets are cut, the same is read; whatever is done, the counts are right.

#![no_main]

use std::task::{Context, Waker};

use bytes::BytesMut;
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use sekisho_proxy::fields::Fields;
use sekisho_proxy::h2::{Connection, Limits, Reason, Settings};
use tokio::time::Instant;

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn begun() -> Connection {
    Connection::new(Settings {
        max_streams: 4,
        header_list: 2048,
        stream_window: 65_536,
        connection_window: 100_000,
        limits: Limits {
            control: 50,
            resets: 20,
        },
    })
}

/// What was read, and what was said to it.
fn read(stream: &[u8], piece: usize) -> (Vec<String>, Vec<u8>, bool) {
    let mut core = begun();
    let mut input = BytesMut::from(BEGIN);
    let mut broken = core.receive(&mut input, Instant::now()).is_err();
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        broken = broken || core.receive(&mut input, Instant::now()).is_err();
        assert!(core.is_sound());
        if broken {
            break;
        }
    }
    let mut seen = Vec::new();
    while let Some(asked) = core.next_request() {
        seen.push(format!("{:?} {:?} {}", asked.key, asked.parts, asked.end));
    }
    (seen, std::mem::take(core.output()), broken)
}

/// Does something with the streams after each piece.
fn meddle(stream: &[u8], piece: usize, mut deeds: u8) {
    let cx = Context::from_waker(Waker::noop());
    let mut core = begun();
    let mut input = BytesMut::from(BEGIN);
    let mut keys = Vec::new();
    for piece in stream.chunks(piece) {
        input.extend_from_slice(piece);
        if core.receive(&mut input, Instant::now()).is_err() {
            break;
        }
        while let Some(asked) = core.next_request() {
            keys.push(asked.key);
        }
        deeds = deeds.wrapping_mul(5).wrapping_add(1);
        if let Some(key) = keys.get(usize::from(deeds) % keys.len().max(1)).copied() {
            let _ = core.poll_piece(&cx, key);
            match deeds >> 5 {
                0 => {
                    let _ = core.respond(key, StatusCode::OK, &Fields::new(), None, false);
                }
                1 => {
                    let _ = core.data(key, b"x", true);
                }
                2 => core.reset(key, Reason::CANCEL),
                3 => {
                    let _ = core.poll_capacity(&cx, key);
                }
                4 => {
                    core.release(key);
                    keys.retain(|other| *other != key);
                }
                _ => {}
            }
        }
        assert!(core.is_sound());
    }
    core.lost();
    for key in keys {
        assert!(core.poll_reset(&cx, key).is_ready());
        core.release(key);
    }
}

fuzz_target!(|octets: &[u8]| {
    let [piece, deeds, stream @ ..] = octets else {
        return;
    };
    let piece = usize::from(*piece).max(1);
    assert_eq!(read(stream, usize::MAX), read(stream, piece));
    meddle(stream, piece, *deeds);
});
