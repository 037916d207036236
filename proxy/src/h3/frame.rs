//! Frames on a request stream (RFC 9114 sections 4.1 and 7): header section, body, trailer section. Types that nobody knows are
//! skipped as they come; nothing but header sections is held, and those up to a limit.

use bytes::{Buf, Bytes, BytesMut};

use super::{Code, varint};

/// Types of frames (RFC 9114 section 7.2).
pub(super) const DATA: u64 = 0x00;
pub(super) const HEADERS: u64 = 0x01;
pub(super) const CANCEL_PUSH: u64 = 0x03;
pub(super) const SETTINGS: u64 = 0x04;
pub(super) const PUSH_PROMISE: u64 = 0x05;
pub(super) const GOAWAY: u64 = 0x07;
pub(super) const MAX_PUSH_ID: u64 = 0x0d;

/// Types that were HTTP/2's and have no meaning here (RFC 9114 section 7.2.8).
pub(super) fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 0x02 | 0x06 | 0x08 | 0x09)
}

/// Octets of the two numbers that a frame begins with, at most.
const HEAD: usize = 16;

/// The numbers that a frame begins with, octet by octet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    octets: [u8; HEAD],
    held: usize,
}

impl Head {
    /// Takes what belongs to the head; type and length when it is there.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<(u64, u64)> {
        while let Some((octet, rest)) = input.split_first() {
            *input = rest;
            if let Some(place) = self.octets.get_mut(self.held) {
                *place = *octet;
                self.held += 1;
            }
            let held = self.octets.get(..self.held).unwrap_or_default();
            if let Some((kind, taken)) = varint::read(held)
                && let Some((length, _)) = varint::read(held.get(taken..).unwrap_or_default())
            {
                self.held = 0;
                return Some((kind, length));
            }
        }
        None
    }

    /// Whether a head was begun.
    pub(super) fn is_begun(&self) -> bool {
        self.held > 0
    }
}

/// What a request stream brings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// A header or trailer section, compressed.
    Section(Bytes),
    /// A piece of the body, not empty.
    Data(Bytes),
}

/// What a request stream must not bring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The connection is broken.
    Connection(Code),
    /// A header section is longer than it may be, even before it is uncompressed.
    Large,
}

#[derive(Debug)]
enum State {
    Between,
    Data(u64),
    Skip(u64),
    Section { left: usize, section: BytesMut },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seen {
    Nothing,
    Header,
    Trailers,
}

/// Reads the frames of one request stream.
#[derive(Debug)]
pub struct Reader {
    head: Head,
    state: State,
    seen: Seen,
    longest: usize,
    idle: u32,
}

impl Reader {
    /// A reader that holds header sections of up to `longest` octets.
    pub fn new(longest: usize) -> Self {
        Self {
            head: Head::default(),
            state: State::Between,
            seen: Seen::Nothing,
            longest,
            idle: 0,
        }
    }

    /// Takes octets from `input` until something can be said of them. `None`: they are all taken.
    ///
    /// # Errors
    /// [`Fault`]; there is no going on after it.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Fault> {
        loop {
            match &mut self.state {
                State::Between => {
                    let mut rest = &input[..];
                    let head = self.head.take(&mut rest);
                    let taken = input.len() - rest.len();
                    input.advance(taken);
                    let Some((kind, length)) = head else {
                        return Ok(None);
                    };
                    self.begin(kind, length)?;
                }
                State::Data(left) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let step = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= step as u64;
                    if *left == 0 {
                        self.state = State::Between;
                    }
                    return Ok(Some(Piece::Data(input.split_to(step))));
                }
                State::Skip(left) => {
                    let step = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= step as u64;
                    input.advance(step);
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Between;
                }
                State::Section { left, section } => {
                    let step = (*left).min(input.len());
                    *left -= step;
                    let whole = if section.is_empty() && *left == 0 {
                        input.split_to(step)
                    } else {
                        section.extend_from_slice(&input.split_to(step));
                        if *left > 0 {
                            return Ok(None);
                        }
                        std::mem::take(section).freeze()
                    };
                    self.state = State::Between;
                    return Ok(Some(Piece::Section(whole)));
                }
            }
        }
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Fault> {
        let unexpected = Err(Fault::Connection(Code::FRAME_UNEXPECTED));
        match (kind, self.seen) {
            (DATA, Seen::Header) => {
                self.idle += u32::from(length == 0);
                self.state = if length == 0 {
                    State::Between
                } else {
                    State::Data(length)
                };
            }
            (HEADERS, Seen::Nothing | Seen::Header) => {
                self.seen = match self.seen {
                    Seen::Nothing => Seen::Header,
                    _ => Seen::Trailers,
                };
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > self.longest {
                    return Err(Fault::Large);
                }
                self.state = State::Section {
                    left: length,
                    section: BytesMut::new(),
                };
            }
            (DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID, _) => {
                return unexpected;
            }
            (kind, _) if is_of_http2(kind) => return unexpected,
            _ => {
                self.idle += 1;
                self.state = State::Skip(length);
            }
        }
        Ok(())
    }

    /// Frames since the last time that this was asked that carry nothing and move nothing on.
    pub fn take_idle(&mut self) -> u32 {
        std::mem::take(&mut self.idle)
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// In the middle of a frame (RFC 9114 section 7.1).
    pub fn end(&self) -> Result<(), Fault> {
        match self.state {
            State::Between if !self.head.is_begun() => Ok(()),
            _ => Err(Fault::Connection(Code::FRAME_ERROR)),
        }
    }
}

/// Appends the head of a frame.
pub fn head(out: &mut Vec<u8>, kind: u64, length: usize) {
    varint::write(out, kind);
    varint::write(out, length as u64);
}

/// Appends the head of DATA.
pub fn data(out: &mut Vec<u8>, length: usize) {
    head(out, DATA, length);
}

/// Appends HEADERS.
pub fn headers(out: &mut Vec<u8>, section: &[u8]) {
    head(out, HEADERS, section.len());
    out.extend_from_slice(section);
}

/// Appends GOAWAY: requests from this stream on are not answered.
pub fn goaway(out: &mut Vec<u8>, stream: u64) {
    let mut payload = Vec::new();
    varint::write(&mut payload, stream);
    head(out, GOAWAY, payload.len());
    out.extend_from_slice(&payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        head(&mut out, kind, payload.len());
        out.extend_from_slice(payload);
        out
    }

    /// What comes out: sections in brackets, body as it is; and how it ends.
    fn read(octets: &[u8], step: usize) -> (String, Result<(), Fault>) {
        let mut reader = Reader::new(10);
        let mut out = String::new();
        for chunk in octets.chunks(step) {
            let mut input = Bytes::copy_from_slice(chunk);
            loop {
                match reader.next(&mut input) {
                    Ok(None) => break,
                    Ok(Some(Piece::Section(section))) => {
                        out.push_str(&format!("[{}]", String::from_utf8_lossy(&section)));
                    }
                    Ok(Some(Piece::Data(data))) => out.push_str(&String::from_utf8_lossy(&data)),
                    Err(fault) => return (out, Err(fault)),
                }
            }
            assert!(input.is_empty());
        }
        (out, reader.end())
    }

    #[test]
    fn streams() {
        let unexpected = Err(Fault::Connection(Code::FRAME_UNEXPECTED));
        let cut = Err(Fault::Connection(Code::FRAME_ERROR));
        let header = || frame(HEADERS, b"h");
        for (name, octets, out, end) in [
            ("nothing", vec![], "", Ok(())),
            ("header", header(), "[h]", Ok(())),
            ("empty header", frame(HEADERS, b""), "[]", Ok(())),
            (
                "all",
                [
                    frame(0x21, b"grease"),
                    header(),
                    frame(DATA, b"ab"),
                    frame(DATA, b""),
                    frame(0x40, &[0; 70]),
                    frame(DATA, b"cd"),
                    frame(HEADERS, b"t"),
                    frame(0x21 + 0x1f, b""),
                ]
                .concat(),
                "[h]abcd[t]",
                Ok(()),
            ),
            ("body first", frame(DATA, b"ab"), "", unexpected),
            (
                "body after trailers",
                [header(), header(), frame(DATA, b"a")].concat(),
                "[h][h]",
                unexpected,
            ),
            ("three sections", header().repeat(3), "[h][h]", unexpected),
            ("settings", frame(SETTINGS, b""), "", unexpected),
            (
                "push",
                [header(), frame(PUSH_PROMISE, b"a")].concat(),
                "[h]",
                unexpected,
            ),
            ("goaway", frame(GOAWAY, b"a"), "", unexpected),
            ("max push", frame(MAX_PUSH_ID, b"a"), "", unexpected),
            ("cancel push", frame(CANCEL_PUSH, b"a"), "", unexpected),
            (
                "ping of HTTP/2",
                [header(), frame(0x06, b"12345678")].concat(),
                "[h]",
                unexpected,
            ),
            ("cut in a head", vec![0x40], "", cut),
            ("cut between type and length", vec![0x01], "", cut),
            ("cut in a section", vec![0x01, 0x02, b'a'], "", cut),
            (
                "cut in the body",
                [header(), vec![0x00, 0x03, b'a']].concat(),
                "[h]a",
                cut,
            ),
            ("cut in what nobody knows", vec![0x21, 0x03, b'a'], "", cut),
            ("long section", frame(HEADERS, &[0; 11]), "", Err(Fault::Large)),
            (
                "endless section",
                vec![0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "",
                Err(Fault::Large),
            ),
        ] {
            for step in [1, 2, 3, 1000] {
                assert_eq!(read(&octets, step), (out.to_owned(), end), "{name} by {step}");
            }
        }
    }

    #[test]
    fn what_moves_nothing_on_is_counted() {
        let mut reader = Reader::new(10);
        let octets = [
            frame(0x21, b"x"),
            frame(HEADERS, b"h"),
            frame(DATA, b""),
            frame(DATA, b"a"),
        ]
        .concat();
        let mut input = Bytes::from(octets);
        while let Ok(Some(_)) = reader.next(&mut input) {}
        assert_eq!((reader.take_idle(), reader.take_idle()), (2, 0));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(octets in proptest::collection::vec(0u8..16, 0..200), step in 1usize..20) {
            prop_assert_eq!(read(&octets, step), read(&octets, 1000));
        }
    }
}
