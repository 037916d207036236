//! Counts the frames that cost a client nothing and a server something. What it has counted in a span of time is all that
//! it knows.
//!
//! Frames of which a peer may send as many as flow control lets it are not its business.

use std::time::Duration;

use tokio::time::Instant;

use super::frame::{
    ACK, CONTINUATION, DATA, END_STREAM, GOAWAY, HEADERS, Header, PING, PUSH_PROMISE, RST_STREAM, Reason,
    SETTINGS, WINDOW_UPDATE,
};

/// How long frames are counted together.
const SPAN: Duration = Duration::from_secs(10);

/// How many frames a client may send in a span.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// SETTINGS, PING, PRIORITY, unknown types, and DATA, HEADERS and CONTINUATION that carry nothing.
    pub control: u32,
    /// RST_STREAM, as soon as they are more than half as many as there are new streams; and faults of the client for which
    /// a stream was reset.
    pub resets: u32,
}

/// What a connection is closed for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offence {
    /// Too many frames that move nothing on.
    Control,
    /// Too many streams that are reset.
    Resets,
    /// Too much of something else.
    Calm,
    /// What the protocol does not have.
    Protocol,
}

/// The end of a connection because of its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What the client is told.
    pub reason: Reason,
    /// What is counted.
    pub offence: Offence,
}

impl Fault {
    pub(crate) const PROTOCOL: Self = Self::of(Reason::PROTOCOL_ERROR);
    pub(crate) const SIZE: Self = Self::of(Reason::FRAME_SIZE_ERROR);
    pub(crate) const FLOW: Self = Self::of(Reason::FLOW_CONTROL_ERROR);
    pub(crate) const CLOSED: Self = Self::of(Reason::STREAM_CLOSED);
    pub(crate) const COMPRESSION: Self = Self::of(Reason::COMPRESSION_ERROR);
    pub(crate) const CALM: Self = Self::calm(Offence::Calm);

    const fn of(reason: Reason) -> Self {
        Self {
            reason,
            offence: Offence::Protocol,
        }
    }

    const fn calm(offence: Offence) -> Self {
        Self {
            reason: Reason::ENHANCE_YOUR_CALM,
            offence,
        }
    }
}

/// What was counted of a connection.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: Limits,
    since: Option<Instant>,
    control: u32,
    resets: u32,
    provoked: u32,
    streams: u32,
}

impl Guard {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            since: None,
            control: 0,
            resets: 0,
            provoked: 0,
            streams: 0,
        }
    }

    /// Octets have come.
    pub(crate) fn at(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= SPAN {
            self.since = Some(now);
            (self.control, self.resets, self.provoked, self.streams) = (0, 0, 0, 0);
        }
    }

    /// A frame has come.
    ///
    /// # Errors
    /// It is one too many.
    pub(crate) fn frame(&mut self, header: Header) -> Result<(), Fault> {
        match header.kind {
            DATA if header.length > 0 || header.has(END_STREAM) => {}
            HEADERS if header.length > 0 => self.streams += 1,
            CONTINUATION if header.length > 0 => {}
            SETTINGS | PING if header.has(ACK) => {}
            WINDOW_UPDATE | GOAWAY | PUSH_PROMISE => {}
            RST_STREAM => {
                self.resets += 1;
                if self.resets > self.limits.resets && self.resets > self.streams / 2 {
                    return Err(Fault::calm(Offence::Resets));
                }
            }
            // What is left: SETTINGS, PING, PRIORITY, frames that carry nothing, types that nobody knows.
            _ => {
                self.control += 1;
                if self.control > self.limits.control {
                    return Err(Fault::calm(Offence::Control));
                }
            }
        }
        Ok(())
    }

    /// A stream is reset for a fault of the client (CVE-2025-8671: it may do so without an RST_STREAM of its own).
    ///
    /// # Errors
    /// It is one too many.
    pub(crate) fn provoked(&mut self) -> Result<(), Fault> {
        self.provoked += 1;
        if self.provoked > self.limits.resets {
            return Err(Fault::CALM);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{END_HEADERS, PRIORITY};
    use super::*;

    const LIMITS: Limits = Limits {
        control: 10,
        resets: 4,
    };
    const CONTROL: Result<(), Fault> = Err(Fault::calm(Offence::Control));
    const RESETS: Result<(), Fault> = Err(Fault::calm(Offence::Resets));

    fn frame(kind: u8, flags: u8, length: usize) -> Header {
        Header {
            length,
            kind,
            flags,
            stream: 1,
        }
    }

    #[test]
    fn what_is_counted() {
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, 9);
        let reset = frame(RST_STREAM, 0, 4);
        for (frames, count, want) in [
            (&[frame(PING, 0, 8)][..], 11, CONTROL),
            (&[frame(PING, 0, 8)], 10, Ok(())),
            (&[frame(PING, ACK, 8)], 100, Ok(())),
            (&[frame(SETTINGS, 0, 0)], 11, CONTROL),
            (&[frame(SETTINGS, ACK, 0)], 100, Ok(())),
            (&[frame(PRIORITY, 0, 5)], 11, CONTROL),
            (&[frame(0xbe, 0, 5)], 11, CONTROL),
            (&[frame(DATA, 0, 0)], 11, CONTROL),
            (&[frame(DATA, END_STREAM, 0)], 100, Ok(())),
            (&[frame(DATA, 0, 1)], 100, Ok(())),
            (&[frame(HEADERS, 0, 0)], 11, CONTROL),
            (&[frame(CONTINUATION, 0, 0)], 11, CONTROL),
            (&[frame(CONTINUATION, 0, 1)], 100, Ok(())),
            (&[frame(WINDOW_UPDATE, 0, 4)], 100, Ok(())),
            (&[reset], 5, RESETS),
            (&[reset], 4, Ok(())),
            // Every stream is reset, and every third one.
            (&[headers, reset], 5, RESETS),
            (&[headers, headers, headers, reset], 50, Ok(())),
        ] {
            let mut guard = Guard::new(LIMITS);
            let mut got = Ok(());
            for _ in 0..count {
                for frame in frames {
                    got = got.and_then(|()| guard.frame(*frame));
                }
            }
            assert_eq!(got, want, "{count} × {frames:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_span_begins_anew() {
        let mut guard = Guard::new(LIMITS);
        let mut now = Instant::now();
        for _ in 0..10 {
            guard.at(now);
            for _ in 0..10 {
                guard.frame(frame(PING, 0, 8)).unwrap();
            }
            for _ in 0..4 {
                guard.provoked().unwrap();
            }
            now += SPAN;
        }
    }

    #[test]
    fn faults_of_the_client() {
        let mut guard = Guard::new(LIMITS);
        let got: Vec<_> = (0..5).map(|_| guard.provoked().is_ok()).collect();
        assert_eq!(got, [true, true, true, true, false]);
    }
}
