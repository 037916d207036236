//! Counts the frames that cost a client nothing and a server something, and refuses those whose length cannot be right. It
//! reads frame headers beside the parser, and the values of SETTINGS: what it has counted in a span of time is all that it
//! knows.
//!
//! Frames of which a peer may send as many as flow control lets it are not its business. CONTINUATION without end, header
//! lists without end, streams that the client provokes the box to reset, and floods of tiny DATA are bounded by the parser.

use std::time::Duration;

use tokio::time::Instant;

/// How long frames are counted together.
pub(crate) const SPAN: Duration = Duration::from_secs(10);

const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
/// Octets of one setting, and the one that is looked at.
const SETTING: usize = 6;
const INITIAL_WINDOW_SIZE: u64 = 4;

const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// How many frames a client may send in a span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// SETTINGS, PING, PRIORITY, unknown types, and DATA, HEADERS and CONTINUATION that carry nothing.
    pub(crate) control: u32,
    /// RST_STREAM, as soon as they are more than half as many as there are new streams.
    pub(crate) resets: u32,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Offence {
    /// Too many frames that move nothing on.
    Control,
    /// Too many streams that are reset.
    Resets,
    /// A frame of a length that its type does not have (RFC 9113 section 4.2).
    Size,
    /// A window over 2^31 - 1 (RFC 9113 section 6.5.2).
    Window,
}

/// What was seen of a connection.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: Limits,
    /// Octets that are not looked at: the preface, then payloads.
    skip: usize,
    header: [u8; HEADER],
    held: usize,
    /// When the header section began that has not ended.
    open: Option<Instant>,
    /// Octets of SETTINGS that are being read.
    settings: usize,
    setting: u64,
    /// The frame whose payload is being skipped ends a header section.
    ends: bool,
    since: Instant,
    control: u32,
    resets: u32,
    streams: u32,
}

impl Guard {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            skip: PREFACE,
            header: [0; HEADER],
            held: 0,
            open: None,
            settings: 0,
            setting: 0,
            ends: false,
            since: now,
            control: 0,
            resets: 0,
            streams: 0,
        }
    }

    /// Since when a header section has been coming.
    pub(crate) fn open_since(&self) -> Option<Instant> {
        self.open
    }

    /// Takes octets as they come.
    ///
    /// # Errors
    /// [`Offence`] at the first one.
    pub(crate) fn feed(&mut self, mut octets: &[u8], now: Instant) -> Result<(), Offence> {
        if now.saturating_duration_since(self.since) >= SPAN {
            self.since = now;
            (self.control, self.resets, self.streams) = (0, 0, 0);
        }
        while let Some((octet, after)) = octets.split_first() {
            if self.settings > 0 {
                octets = after;
                self.settings -= 1;
                self.setting = (self.setting << 8) | u64::from(*octet);
                if self.settings.is_multiple_of(SETTING) {
                    let setting = std::mem::take(&mut self.setting);
                    if setting >> 32 == INITIAL_WINDOW_SIZE && setting & 0x8000_0000 != 0 {
                        return Err(Offence::Window);
                    }
                }
                continue;
            }
            if self.skip > 0 {
                let step = self.skip.min(octets.len());
                self.skip -= step;
                octets = octets.get(step..).unwrap_or_default();
                if self.skip == 0 && std::mem::take(&mut self.ends) {
                    self.open = None;
                }
                continue;
            }
            let room = self.header.get_mut(self.held..).unwrap_or_default();
            let step = room.len().min(octets.len());
            let (taken, rest) = octets.split_at(step);
            room.get_mut(..step).unwrap_or_default().copy_from_slice(taken);
            self.held += step;
            octets = rest;
            if self.held == HEADER {
                self.held = 0;
                self.frame(now)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: Instant) -> Result<(), Offence> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let fits = match kind {
            RST_STREAM | WINDOW_UPDATE => length == 4,
            PING => length == 8,
            GOAWAY => length >= 8,
            SETTINGS if flags & ACK != 0 => length == 0,
            SETTINGS => length.is_multiple_of(SETTING),
            _ => true,
        };
        if !fits {
            return Err(Offence::Size);
        }
        if kind == SETTINGS {
            self.settings = length;
        } else {
            self.skip = length;
        }
        if matches!(kind, HEADERS | CONTINUATION) {
            self.ends = flags & END_HEADERS != 0;
            if self.ends && length == 0 {
                (self.open, self.ends) = (None, false);
            } else {
                self.open.get_or_insert(now);
            }
        }
        match kind {
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            HEADERS if length > 0 => self.streams += 1,
            CONTINUATION if length > 0 => {}
            SETTINGS | PING if flags & ACK != 0 => {}
            WINDOW_UPDATE | GOAWAY | PUSH_PROMISE => {}
            RST_STREAM => {
                self.resets += 1;
                if self.resets > self.limits.resets && self.resets > self.streams / 2 {
                    return Err(Offence::Resets);
                }
            }
            // What is left: SETTINGS, PING, PRIORITY, frames that carry nothing, types that nobody knows.
            DATA | HEADERS | PRIORITY | SETTINGS | PING | CONTINUATION | 10.. => {
                self.control += 1;
                if self.control > self.limits.control {
                    return Err(Offence::Control);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        control: 10,
        resets: 4,
    };

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut octets = vec![0, 0, length as u8, kind, flags, 0, 0, 0, 1];
        octets.resize(HEADER + length, 0xff);
        octets
    }

    fn guard() -> (Guard, Instant) {
        let now = Instant::now();
        let mut guard = Guard::new(LIMITS, now);
        guard.feed(&[9; PREFACE], now).unwrap();
        (guard, now)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted() {
        let setting =
            |id: u8, value: u8| [frame(SETTINGS, 0, 6)[..9].to_vec(), vec![0, id, value, 0, 0, 1]].concat();
        for (octets, count, want) in [
            (frame(PING, 0, 7), 1, Err(Offence::Size)),
            (frame(PING, ACK, 9), 1, Err(Offence::Size)),
            (frame(RST_STREAM, 0, 3), 1, Err(Offence::Size)),
            (frame(WINDOW_UPDATE, 0, 5), 1, Err(Offence::Size)),
            (frame(GOAWAY, 0, 7), 1, Err(Offence::Size)),
            (frame(GOAWAY, 0, 20), 1, Ok(())),
            (frame(SETTINGS, 0, 5), 1, Err(Offence::Size)),
            (frame(SETTINGS, ACK, 6), 1, Err(Offence::Size)),
            (setting(4, 0x7f), 1, Ok(())),
            (setting(4, 0x80), 1, Err(Offence::Window)),
            (setting(5, 0x80), 1, Ok(())),
            (frame(PING, 0, 8), 11, Err(Offence::Control)),
            (frame(PING, 0, 8), 10, Ok(())),
            (frame(PING, ACK, 8), 100, Ok(())),
            (frame(SETTINGS, 0, 0), 11, Err(Offence::Control)),
            (frame(SETTINGS, ACK, 0), 100, Ok(())),
            (frame(PRIORITY, 0, 5), 11, Err(Offence::Control)),
            (frame(0xbe, 0, 5), 11, Err(Offence::Control)),
            (frame(DATA, 0, 0), 11, Err(Offence::Control)),
            (frame(DATA, END_STREAM, 0), 100, Ok(())),
            (frame(DATA, 0, 1), 100, Ok(())),
            (frame(CONTINUATION, 0, 0), 11, Err(Offence::Control)),
            (frame(WINDOW_UPDATE, 0, 4), 100, Ok(())),
            (frame(RST_STREAM, 0, 4), 5, Err(Offence::Resets)),
            (frame(RST_STREAM, 0, 4), 4, Ok(())),
            // Every stream is reset, and every third one.
            (
                [frame(HEADERS, 5, 9), frame(RST_STREAM, 0, 4)].concat(),
                5,
                Err(Offence::Resets),
            ),
            (
                [
                    frame(HEADERS, 5, 9),
                    frame(HEADERS, 5, 9),
                    frame(HEADERS, 5, 9),
                    frame(RST_STREAM, 0, 4),
                ]
                .concat(),
                50,
                Ok(()),
            ),
        ] {
            let (mut guard, now) = guard();
            let mut got = Ok(());
            for _ in 0..count {
                if got.is_ok() {
                    got = guard.feed(&octets, now);
                }
            }
            assert_eq!(got, want, "{count} × {octets:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_span_begins_anew() {
        let (mut guard, mut now) = guard();
        for _ in 0..10 {
            for _ in 0..10 {
                guard.feed(&frame(PING, 0, 8), now).unwrap();
            }
            now += SPAN;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_section_is_open_until_its_end() {
        let (mut guard, now) = guard();
        for (octets, open) in [
            (frame(HEADERS, END_STREAM, 7), true),
            (frame(CONTINUATION, 0, 7), true),
            (frame(CONTINUATION, END_HEADERS, 7)[..12].to_vec(), true),
            (vec![0; 4], false),
            (frame(DATA, 0, 7), false),
            (frame(HEADERS, END_HEADERS, 7)[..9].to_vec(), true),
            (vec![0; 7], false),
            (frame(HEADERS, 0, 0), true),
            (frame(CONTINUATION, END_HEADERS, 0), false),
        ] {
            guard.feed(&octets, now).unwrap();
            assert_eq!(guard.open_since().is_some(), open, "{octets:?}");
        }
    }

    proptest! {
        /// However the octets are cut, the same is counted.
        #[test]
        fn pieces_do_not_matter(octets: Vec<u8>, cuts in prop::collection::vec(1..20usize, 1..20)) {
            let now = Instant::now();
            let whole = {
                let mut guard = Guard::new(LIMITS, now);
                (guard.feed(&octets, now), guard.control, guard.resets, guard.streams, guard.skip, guard.held)
            };
            let mut guard = Guard::new(LIMITS, now);
            let mut rest = &octets[..];
            let mut got = Ok(());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || got.is_err() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                got = guard.feed(piece, now);
                rest = after;
            }
            prop_assert_eq!(got, whole.0);
            if got.is_ok() {
                prop_assert_eq!((guard.control, guard.resets, guard.streams, guard.skip, guard.held), (whole.1, whole.2, whole.3, whole.4, whole.5));
            }
        }
    }
}
