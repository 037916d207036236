//! Frames (RFC 9113 section 4): their header, their types, their flags, what is wrong with them.

/// Octets of a frame's header.
pub(crate) const HEADER: usize = 9;
/// What a client begins with (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of a frame's payload that either side takes before it says otherwise; we never do, and never send more.
pub(crate) const PAYLOAD: usize = 16_384;
/// The largest window.
pub(crate) const WINDOW: i64 = 0x7fff_ffff;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// Settings (RFC 9113 section 6.5.2, RFC 8441 section 3).
pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Why a stream or a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reason(pub u32);

impl Reason {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0);
    /// Something that the protocol does not have.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The box has failed.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More was sent than the window had room for.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// The stream is over.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A length that a frame of the type does not have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not looked at.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody wants it any more.
    pub const CANCEL: Self = Self(8);
    /// A header block cannot be read.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Header {
    /// Reads it from the beginning of `octets`; `None`: it is not there yet.
    pub(crate) fn read(octets: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, d, e, f, g] = octets.first_chunk::<HEADER>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The highest bit means nothing.
            stream: u32::from_be_bytes([d & 0x7f, e, f, g]),
        })
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.octets());
    }

    fn octets(self) -> [u8; HEADER] {
        let [_, a, b, c] = u32::try_from(self.length).unwrap_or_default().to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }
}

/// Writes a frame with a small payload.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    Header {
        length: payload.len(),
        kind,
        flags,
        stream,
    }
    .write(out);
    out.extend_from_slice(payload);
}

/// Writes a header section of which `block` writes the block: one frame, or as many as it takes.
pub(crate) fn section(out: &mut Vec<u8>, stream: u32, end: bool, block: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEADER]);
    block(out);
    let length = out.len() - begin - HEADER;
    let end = if end { END_STREAM } else { 0 };
    let mut header = Header {
        length: length.min(PAYLOAD),
        kind: HEADERS,
        flags: end | if length <= PAYLOAD { END_HEADERS } else { 0 },
        stream,
    };
    if let Some(place) = out.get_mut(begin..begin + HEADER) {
        place.copy_from_slice(&header.octets());
    }
    if length > PAYLOAD {
        let rest = out.split_off(begin + HEADER + PAYLOAD);
        let mut pieces = rest.chunks(PAYLOAD).peekable();
        while let Some(piece) = pieces.next() {
            header = Header {
                length: piece.len(),
                kind: CONTINUATION,
                flags: if pieces.peek().is_none() { END_HEADERS } else { 0 },
                stream,
            };
            header.write(out);
            out.extend_from_slice(piece);
        }
    }
}

/// Takes padding and priority off the payload of DATA or HEADERS; gives what is left, and the stream that it is said to
/// depend on.
pub(crate) fn strip(header: Header, payload: &[u8]) -> Option<(std::ops::Range<usize>, Option<u32>)> {
    let mut begin = 0;
    let mut end = payload.len();
    if header.has(PADDED) {
        // RFC 9113 section 6.1: padding of the length of the payload or more is an error.
        let padding = usize::from(*payload.first()?);
        begin = 1;
        end = end.checked_sub(padding)?;
    }
    let mut parent = None;
    if header.kind == HEADERS && header.has(WITH_PRIORITY) {
        let octets = payload.get(begin..begin + 4)?;
        parent = Some(number(octets) & 0x7fff_ffff);
        begin += 5;
    }
    (begin <= end).then_some((begin..end, parent))
}

/// The number that four octets are.
pub(crate) fn number(octets: &[u8]) -> u32 {
    octets
        .first_chunk::<4>()
        .map_or(0, |octets| u32::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let header = Header {
            length: 0x01_02_03,
            kind: HEADERS,
            flags: 5,
            stream: 0x7fff_fffe,
        };
        let mut out = Vec::new();
        header.write(&mut out);
        assert_eq!(out, [1, 2, 3, 1, 5, 0x7f, 0xff, 0xff, 0xfe]);
        assert_eq!(Header::read(&out), Some(header));
        out[5] = 0xff;
        assert_eq!(Header::read(&out), Some(header));
        assert_eq!(Header::read(&out[..8]), None);
    }

    #[test]
    fn padding_and_priority() {
        let of = |kind, flags, payload: &[u8]| {
            let header = Header {
                length: payload.len(),
                kind,
                flags,
                stream: 1,
            };
            strip(header, payload)
        };
        for (kind, flags, payload, want) in [
            (DATA, 0, &b"abc"[..], Some((0..3, None))),
            (DATA, PADDED, b"\x01abc", Some((1..3, None))),
            (DATA, PADDED, b"\x03abc", Some((1..1, None))),
            (DATA, PADDED, b"\x04abc", None),
            (DATA, PADDED, b"", None),
            (DATA, PADDED, b"\0", Some((1..1, None))),
            (DATA, WITH_PRIORITY, b"abc", Some((0..3, None))),
            (
                HEADERS,
                WITH_PRIORITY,
                b"\x80\0\0\x07\x10x",
                Some((5..6, Some(7))),
            ),
            (HEADERS, WITH_PRIORITY, b"\0\0\0\x07", None),
            (
                HEADERS,
                WITH_PRIORITY | PADDED,
                b"\x01\0\0\0\x07\x10x",
                Some((6..6, Some(7))),
            ),
            (HEADERS, WITH_PRIORITY | PADDED, b"\x02\0\0\0\x07\x10x", None),
        ] {
            assert_eq!(of(kind, flags, payload), want, "{kind} {flags} {payload:?}");
        }
    }

    #[test]
    fn long_sections_take_several_frames() {
        for (length, want) in [
            (0, 1),
            (10, 1),
            (PAYLOAD, 1),
            (PAYLOAD + 1, 2),
            (2 * PAYLOAD, 2),
            (2 * PAYLOAD + 1, 3),
        ] {
            let mut out = vec![7; 3];
            section(&mut out, 5, true, |out| out.extend((0..length).map(|n| n as u8)));
            let mut rest = &out[3..];
            let mut block = Vec::new();
            let mut frames = 0;
            while let Some(header) = Header::read(rest) {
                let payload = &rest[HEADER..HEADER + header.length];
                rest = &rest[HEADER + header.length..];
                assert_eq!(header.kind, if frames == 0 { HEADERS } else { CONTINUATION });
                assert_eq!(header.has(END_HEADERS), rest.is_empty());
                assert_eq!(header.has(END_STREAM), frames == 0);
                assert_eq!(header.stream, 5);
                block.extend_from_slice(payload);
                frames += 1;
            }
            assert_eq!((frames, block.len(), rest.len()), (want, length, 0));
            assert!(block.iter().enumerate().all(|(n, octet)| n as u8 == *octet));
        }
    }
}
