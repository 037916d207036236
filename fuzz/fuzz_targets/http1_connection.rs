//! Octets of a client on a whole connection of HTTP/1.1: what the endpoint gets is exactly the requests that a strict
//! reader finds in them, in their order, as far as they were let pass; and each has its answer.

#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use sekisho_fuzz::{MARK, Next, Plane, Reader, connect, read_all};

static PLANE: OnceLock<Plane> = OnceLock::new();

fuzz_target!(|octets: &[u8]| {
    // That is HTTP/2: see `http2_client`.
    if octets.starts_with(b"PRI * HTTP/2.0\r\n") {
        return;
    }
    let plane = PLANE.get_or_init(Plane::start);
    plane.take();
    let mut stream = connect(plane.http);
    let sent = stream.write_all(octets).is_ok() && stream.shutdown(Shutdown::Write).is_ok();
    let (answers, in_order) = read_all(&mut stream);
    let marked = answers
        .windows(MARK.len())
        .filter(|window| *window == MARK)
        .count();
    let got = plane.take();
    if sent && in_order {
        assert_eq!(
            marked,
            got.len(),
            "{:?} {got:?}",
            String::from_utf8_lossy(&answers)
        );
    } else {
        assert!(
            marked <= got.len(),
            "{:?} {got:?}",
            String::from_utf8_lossy(&answers)
        );
    }
    let mut reader = Reader::new(octets);
    for request in &got {
        loop {
            match reader.next() {
                Next::Request(read)
                    if read.head.method == request.head.method && read.body == request.body =>
                {
                    break;
                }
                // It was refused for what it asks.
                Next::Request(_) => {}
                Next::More | Next::Fault => panic!("nobody has sent {request:?}"),
            }
        }
    }
});
