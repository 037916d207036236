//! Octets of a client on a whole connection of HTTP/2, behind its preface and SETTINGS: what the endpoint gets are whole requests
//! that keep every promise, no more of them than streams were opened; what the client gets are whole frames; and it ends.

#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use sekisho_fuzz::{Plane, connect, read_all};

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
/// The last type that RFC 9113 has.
const CONTINUATION: u8 = 9;

static PLANE: OnceLock<Plane> = OnceLock::new();

/// Types of the frames in `octets`, as far as they are whole, and whether all are.
fn frames(mut octets: &[u8]) -> (Vec<u8>, bool) {
    let mut types = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = octets {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(behind) = rest.get(length..) else { break };
        types.push(*kind);
        octets = behind;
    }
    (types, octets.is_empty())
}

fuzz_target!(|octets: &[u8]| {
    let plane = PLANE.get_or_init(Plane::start);
    plane.take();
    let mut stream = connect(plane.http);
    let sent = stream.write_all(BEGIN).is_ok()
        && stream.write_all(octets).is_ok()
        && stream.shutdown(Shutdown::Write).is_ok();
    let (answer, in_order) = read_all(&mut stream);
    let (said, whole) = frames(&answer);
    assert!(said.iter().all(|kind| *kind <= CONTINUATION), "{said:?}");
    assert!(whole || !sent || !in_order, "{answer:?}");
    let opened = frames(octets).0.iter().filter(|kind| **kind == HEADERS).count();
    let got = plane.take();
    assert!(got.len() <= opened, "{got:?}");
});
