//! What a client says on its unidirectional streams (RFC 9114 sections 6.2 and 7.2, RFC 9204 section 4.2).

use super::frame::{
    CANCEL_PUSH, DATA, GOAWAY, HEADERS, Head, MAX_PUSH_ID, PUSH_PROMISE, SETTINGS, is_of_http2,
};
use super::{Code, varint};

/// Octets of SETTINGS at most.
const SETTINGS_AT_MOST: u64 = 4096;
/// Octets of a frame that holds one number.
const NUMBER_AT_MOST: u64 = 8;

/// Settings (RFC 9114 section 7.2.4.1, RFC 9220, RFC 9297).
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;

/// What a unidirectional stream of a client is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Settings and the like.
    Control,
    /// What a client puts into the dynamic table of the box.
    Encoder,
    /// What a client says of that of its own.
    Decoder,
    /// Something that nobody knows.
    Unknown,
}

/// The kind of a stream by its type.
///
/// # Errors
/// A push is a server's (RFC 9114 section 6.2.2).
pub fn kind(kind: u64) -> Result<Kind, Code> {
    match kind {
        0x00 => Ok(Kind::Control),
        0x01 => Err(Code::STREAM_CREATION_ERROR),
        0x02 => Ok(Kind::Encoder),
        0x03 => Ok(Kind::Decoder),
        _ => Ok(Kind::Unknown),
    }
}

/// The beginning of the box's control stream: its type and SETTINGS.
pub fn greeting(max_field_section: u64) -> Vec<u8> {
    let mut settings = Vec::new();
    for (id, value) in [
        (MAX_FIELD_SECTION_SIZE, max_field_section),
        (ENABLE_CONNECT_PROTOCOL, 1),
        // One that nobody knows, so that nobody forgets to expect such (RFC 9114 section 7.2.4.1).
        (0x1f * 7 + 0x21, 0),
    ] {
        varint::write(&mut settings, id);
        varint::write(&mut settings, value);
    }
    let mut out = vec![0x00];
    super::frame::head(&mut out, SETTINGS, settings.len());
    out.extend_from_slice(&settings);
    out
}

#[derive(Debug)]
enum State {
    Between,
    Skip(u64),
    Hold { kind: u64, left: usize },
}

/// Reads a client's control stream.
#[derive(Debug)]
pub struct Control {
    head: Head,
    state: State,
    held: Vec<u8>,
    settled: bool,
    max_push: Option<u64>,
    goaway: Option<u64>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            head: Head::default(),
            state: State::Between,
            held: Vec::new(),
            settled: false,
            max_push: None,
            goaway: None,
        }
    }
}

impl Control {
    /// Takes octets as they come; gives how many frames have begun.
    ///
    /// # Errors
    /// Why the connection is broken.
    pub fn feed(&mut self, mut octets: &[u8]) -> Result<u32, Code> {
        let mut frames = 0;
        loop {
            match &mut self.state {
                State::Between => {
                    let Some((kind, length)) = self.head.take(&mut octets) else {
                        return Ok(frames);
                    };
                    frames += 1;
                    self.begin(kind, length)?;
                }
                State::Skip(left) => {
                    let step = usize::try_from(*left).unwrap_or(usize::MAX).min(octets.len());
                    *left -= step as u64;
                    octets = octets.get(step..).unwrap_or_default();
                    if *left > 0 {
                        return Ok(frames);
                    }
                    self.state = State::Between;
                }
                State::Hold { kind, left } => {
                    let step = (*left).min(octets.len());
                    let (taken, rest) = octets.split_at(step);
                    self.held.extend_from_slice(taken);
                    octets = rest;
                    *left -= step;
                    if *left > 0 {
                        return Ok(frames);
                    }
                    let (kind, held) = (*kind, std::mem::take(&mut self.held));
                    self.state = State::Between;
                    self.whole(kind, &held)?;
                }
            }
        }
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Code> {
        if !self.settled && kind != SETTINGS {
            return Err(Code::MISSING_SETTINGS);
        }
        let at_most = match kind {
            SETTINGS if self.settled => return Err(Code::FRAME_UNEXPECTED),
            SETTINGS => SETTINGS_AT_MOST,
            GOAWAY | MAX_PUSH_ID | CANCEL_PUSH => NUMBER_AT_MOST,
            DATA | HEADERS | PUSH_PROMISE => return Err(Code::FRAME_UNEXPECTED),
            kind if is_of_http2(kind) => return Err(Code::FRAME_UNEXPECTED),
            _ => {
                self.state = State::Skip(length);
                return Ok(());
            }
        };
        self.settled = true;
        match usize::try_from(length) {
            Ok(left) if length <= at_most => {
                self.state = State::Hold { kind, left };
                Ok(())
            }
            _ if kind == SETTINGS => Err(Code::EXCESSIVE_LOAD),
            _ => Err(Code::FRAME_ERROR),
        }
    }

    fn whole(&mut self, kind: u64, payload: &[u8]) -> Result<(), Code> {
        if kind == SETTINGS {
            return settings(payload);
        }
        let number = match varint::read(payload) {
            Some((number, taken)) if taken == payload.len() => number,
            _ => return Err(Code::FRAME_ERROR),
        };
        match kind {
            // The box promises nothing, so there is nothing to take back.
            CANCEL_PUSH => Err(Code::ID_ERROR),
            MAX_PUSH_ID if self.max_push.is_some_and(|before| number < before) => Err(Code::ID_ERROR),
            MAX_PUSH_ID => {
                self.max_push = Some(number);
                Ok(())
            }
            _ if self.goaway.is_some_and(|before| number > before) => Err(Code::ID_ERROR),
            _ => {
                self.goaway = Some(number);
                Ok(())
            }
        }
    }
}

fn settings(mut payload: &[u8]) -> Result<(), Code> {
    let mut seen = Vec::new();
    let mut next = || -> Result<Option<u64>, Code> {
        if payload.is_empty() {
            return Ok(None);
        }
        let (value, taken) = varint::read(payload).ok_or(Code::FRAME_ERROR)?;
        payload = payload.get(taken..).unwrap_or_default();
        Ok(Some(value))
    };
    while let Some(id) = next()? {
        let value = next()?.ok_or(Code::FRAME_ERROR)?;
        let wrong = match id {
            // HTTP/2's (RFC 9114 section 7.2.4.1).
            0x02..=0x05 => true,
            ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM => value > 1,
            _ => false,
        };
        if wrong {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(id);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() == count {
        Ok(())
    } else {
        Err(Code::SETTINGS_ERROR)
    }
}

/// Judges what comes on a client's QPACK encoder stream: its table has no room, and to say so is all that it may do.
///
/// # Errors
/// Anything else.
pub fn encoder(octets: &[u8]) -> Result<(), Code> {
    // Set Dynamic Table Capacity (RFC 9204 section 4.3.1) to 0.
    if octets.iter().all(|octet| *octet == 0x20) {
        Ok(())
    } else {
        Err(Code::QPACK_ENCODER_STREAM_ERROR)
    }
}

/// Reads a client's QPACK decoder stream: the box's sections refer to no entry, so that there is nothing to acknowledge.
#[derive(Debug, Default)]
pub struct Decoder {
    /// A number goes on.
    within: bool,
}

impl Decoder {
    /// Takes octets as they come.
    ///
    /// # Errors
    /// An acknowledgement, or an increment (RFC 9204 sections 4.4.1 and 4.4.3).
    pub fn feed(&mut self, octets: &[u8]) -> Result<(), Code> {
        for octet in octets {
            if self.within {
                self.within = octet & 0x80 != 0;
            } else if octet & 0xc0 == 0x40 {
                // Stream Cancellation.
                self.within = octet & 0x3f == 0x3f;
            } else {
                return Err(Code::QPACK_DECODER_STREAM_ERROR);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::head;
    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        head(&mut out, kind, payload.len());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn control_streams() {
        let greet = || frame(SETTINGS, &[0x06, 0x40, 0x64]);
        let then = |octets: Vec<u8>| [greet(), octets].concat();
        for (name, octets, want) in [
            ("settings", greet(), Ok(1)),
            ("none", frame(SETTINGS, &[]), Ok(1)),
            (
                "late",
                [frame(0x21, b"x"), greet()].concat(),
                Err(Code::MISSING_SETTINGS),
            ),
            ("twice", then(greet()), Err(Code::FRAME_UNEXPECTED)),
            (
                "one id twice",
                frame(SETTINGS, &[6, 1, 7, 1, 6, 1]),
                Err(Code::SETTINGS_ERROR),
            ),
            (
                "of HTTP/2",
                frame(SETTINGS, &[0x02, 0]),
                Err(Code::SETTINGS_ERROR),
            ),
            ("connect", frame(SETTINGS, &[0x08, 1]), Ok(1)),
            (
                "connect, odd",
                frame(SETTINGS, &[0x08, 2]),
                Err(Code::SETTINGS_ERROR),
            ),
            (
                "datagrams, odd",
                frame(SETTINGS, &[0x33, 2]),
                Err(Code::SETTINGS_ERROR),
            ),
            (
                "id without value",
                frame(SETTINGS, &[0x06]),
                Err(Code::FRAME_ERROR),
            ),
            (
                "long",
                vec![0x04, 0x80, 0x01, 0x00, 0x00],
                Err(Code::EXCESSIVE_LOAD),
            ),
            ("data", then(frame(DATA, b"a")), Err(Code::FRAME_UNEXPECTED)),
            ("headers", then(frame(HEADERS, b"a")), Err(Code::FRAME_UNEXPECTED)),
            (
                "push promise",
                then(frame(PUSH_PROMISE, b"a")),
                Err(Code::FRAME_UNEXPECTED),
            ),
            (
                "window update",
                then(frame(0x08, b"a")),
                Err(Code::FRAME_UNEXPECTED),
            ),
            ("grease", then(frame(0x21 + 0x1f * 3, &[0; 100])), Ok(2)),
            (
                "max push",
                then([frame(MAX_PUSH_ID, &[3]), frame(MAX_PUSH_ID, &[3])].concat()),
                Ok(3),
            ),
            (
                "max push, smaller",
                then([frame(MAX_PUSH_ID, &[3]), frame(MAX_PUSH_ID, &[2])].concat()),
                Err(Code::ID_ERROR),
            ),
            ("cancel push", then(frame(CANCEL_PUSH, &[0])), Err(Code::ID_ERROR)),
            (
                "goaway",
                then([frame(GOAWAY, &[3]), frame(GOAWAY, &[0])].concat()),
                Ok(3),
            ),
            (
                "goaway, larger",
                then([frame(GOAWAY, &[3]), frame(GOAWAY, &[4])].concat()),
                Err(Code::ID_ERROR),
            ),
            (
                "goaway, two numbers",
                then(frame(GOAWAY, &[3, 3])),
                Err(Code::FRAME_ERROR),
            ),
            ("goaway, empty", then(frame(GOAWAY, &[])), Err(Code::FRAME_ERROR)),
            (
                "goaway, long",
                then(frame(GOAWAY, &[0; 9])),
                Err(Code::FRAME_ERROR),
            ),
        ] {
            for step in [1, 3, 1000] {
                let mut control = Control::default();
                let got = octets
                    .chunks(step)
                    .try_fold(0, |sum, chunk| control.feed(chunk).map(|count| sum + count));
                assert_eq!(got, want, "{name} by {step}");
            }
        }
        let mut own = Control::default();
        assert_eq!(own.feed(greeting(1000).get(1..).unwrap()), Ok(1));
    }

    #[test]
    fn streams_of_qpack() {
        assert_eq!(encoder(&[0x20, 0x20]), Ok(()));
        assert_eq!(
            encoder(&[0x3f, 0xe1, 0x1f]),
            Err(Code::QPACK_ENCODER_STREAM_ERROR)
        );
        for (octets, good) in [
            (&[0x41, 0x7f, 0xff, 0x01, 0x40][..], true),
            (&[0x81], false),
            (&[0x01], false),
            (&[0x7f, 0x80, 0x00, 0x01], false),
        ] {
            assert_eq!(Decoder::default().feed(octets).is_ok(), good, "{octets:02x?}");
        }
    }

    proptest! {
        #[test]
        fn anything_goes_in(octets in proptest::collection::vec(0u8..16, 0..200)) {
            let _ = Control::default().feed(&octets);
            let _ = Decoder::default().feed(&octets);
        }
    }
}
