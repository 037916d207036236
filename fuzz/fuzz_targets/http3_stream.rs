//! Octets as they come from a client of HTTP/3: on a request stream, with its header and trailer sections, on the control stream,
//! and on those of QPACK. The first octet is the length of the pieces. However they are cut, the same is read.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sekisho_proxy::h3::control::{self, Control, Decoder};
use sekisho_proxy::h3::fields::{self, Limits};
use sekisho_proxy::h3::frame::{Piece, Reader};

const LIMITS: Limits = Limits {
    section: 2048,
    fields: 16,
    path: 256,
};

/// What was read of a request stream: sections, body, how it ended.
fn request(stream: &[u8], piece: usize) -> (Vec<String>, Vec<u8>, String) {
    let mut reader = Reader::new(1024);
    let (mut sections, mut body) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Piece::Data(data))) => body.extend_from_slice(&data),
                Ok(Some(Piece::Section(section))) => {
                    let read = fields::request(&section, &LIMITS);
                    if let Ok(head) = &read {
                        assert!(!head.parts.method.as_str().is_empty());
                        assert!(head.parts.uri.path().len() <= LIMITS.path);
                    }
                    let read = read.map(|head| {
                        format!(
                            "{} {} {:?}",
                            head.parts.method, head.parts.uri, head.parts.headers
                        )
                    });
                    sections.push(format!("{read:?} {:?}", fields::trailers(&section, &LIMITS)));
                }
                Err(fault) => return (sections, body, format!("{fault:?}")),
            }
        }
        assert!(input.is_empty());
    }
    (sections, body, format!("{:?}", reader.end()))
}

fn feed<E>(stream: &[u8], piece: usize, mut take: impl FnMut(&[u8]) -> Result<u32, E>) -> Result<u32, E> {
    stream
        .chunks(piece)
        .try_fold(0, |sum, piece| take(piece).map(|count| sum + count))
}

fuzz_target!(|octets: &[u8]| {
    let Some((piece, stream)) = octets.split_first() else {
        return;
    };
    let (piece, whole) = (usize::from(*piece).max(1), stream.len().max(1));
    assert_eq!(request(stream, piece), request(stream, whole));
    let (mut one, mut other) = (Control::default(), Control::default());
    assert_eq!(
        feed(stream, piece, |octets| one.feed(octets)),
        feed(stream, whole, |octets| other.feed(octets))
    );
    let (mut one, mut other) = (Decoder::default(), Decoder::default());
    assert_eq!(
        feed(stream, piece, |octets| one.feed(octets).map(|()| 0)),
        feed(stream, whole, |octets| other.feed(octets).map(|()| 0))
    );
    let _ = control::encoder(stream);
});
