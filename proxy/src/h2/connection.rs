//! A connection of a client: frames in, what becomes of them, frames out.

mod receive;

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::frame::{self, HEADER, Header, PAYLOAD, PREFACE, Reason, WINDOW};
use super::guard::{Fault, Guard, Limits};
use super::hpack::{Decoder, Encoder};
use super::section::Section;
use super::stream::{Key, Stream, Streams};
use crate::fields::Fields;
use crate::message::request::Parts;

/// What a window is before anybody says otherwise (RFC 9113 section 6.9.2).
const INITIAL_WINDOW: i64 = 65_535;
/// Octets that wait to be written before streams wait, too.
const ROOM: usize = 128 * 1024;
/// Pieces of a body up to this size are copied out of the buffer that they came in: a client could keep a whole one occupied
/// with each of them.
const COPIED: usize = 4096;
/// Octets kept for strings that have to be decoded.
const ROOM_KEPT: usize = 1024;
/// What the PING says that asks whether a client has heard of the end.
const LAST_PING: [u8; 8] = *b"sekisho.";
/// How much larger than a header section its block may be, as it comes.
const BLOCK: usize = 4;
/// CONTINUATION frames beyond those that a block of full frames has.
const CONTINUATIONS: usize = 8;

/// How a connection is served.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Streams that may be open at a time.
    pub max_streams: u32,
    /// Octets of a header section, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub header_list: u32,
    /// What a stream may send ahead.
    pub stream_window: u32,
    /// What the whole connection may.
    pub connection_window: u32,
    /// Frames that may come in a span of time.
    pub limits: Limits,
}

/// A request that has come.
#[derive(Debug)]
pub struct Asked {
    /// Its stream.
    pub key: Key,
    /// Its header section.
    pub parts: Parts,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<Bytes>,
    /// Octets of the body, where they are announced.
    pub length: Option<u64>,
    /// Nothing follows the header section.
    pub end: bool,
    /// The header section is over the limit and not all of it is here.
    pub too_large: bool,
}

/// The stream is over for a reason that is not its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the stream was reset, or its connection has ended")]
pub struct Gone;

/// What comes behind the header section of a request.
#[derive(Debug)]
pub enum Piece {
    /// A piece of the body.
    Data(Bytes),
    /// The trailer section; it is the last.
    Trailers(Fields),
    /// Nothing more.
    End,
}

/// A header section of which the end has not come yet.
#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    depends_on_itself: bool,
    octets: Vec<u8>,
    frames: usize,
}

/// What is known of a connection.
#[derive(Debug)]
pub struct Connection {
    settings: Settings,
    decoder: Decoder,
    encoder: Encoder,
    guard: Guard,
    streams: Streams,
    requests: VecDeque<Asked>,
    /// Streams that wait until the connection has room or a window.
    blocked: VecDeque<Key>,
    out: Vec<u8>,
    room: Vec<u8>,
    /// The preface has come, and the SETTINGS behind it.
    greeted: bool,
    settled: bool,
    block: Option<Block>,
    /// Since when a header section has been coming.
    open: Option<Instant>,
    /// The newest stream.
    last: u32,
    /// Streams that count as open.
    active: u32,
    window: i64,
    owed: u32,
    send_window: i64,
    /// What new streams may send to the client.
    initial: i64,
    /// The client was told that this is the end: no stream behind this one is looked at.
    final_stream: Option<u32>,
    /// The client has heard that the end comes.
    heard: bool,
    /// The client says that it will open no more streams.
    leaves: bool,
    over: bool,
}

impl Connection {
    /// Begins a connection, with what a server says first.
    pub fn new(settings: Settings) -> Self {
        let mut out = Vec::with_capacity(128);
        let mut said = Vec::with_capacity(24);
        for (id, value) in [
            (frame::MAX_CONCURRENT_STREAMS, settings.max_streams),
            (frame::INITIAL_WINDOW_SIZE, settings.stream_window),
            (frame::MAX_HEADER_LIST_SIZE, settings.header_list),
            (frame::ENABLE_CONNECT_PROTOCOL, 1),
        ] {
            said.extend_from_slice(&id.to_be_bytes());
            said.extend_from_slice(&value.to_be_bytes());
        }
        frame::write(&mut out, frame::SETTINGS, 0, 0, &said);
        let window = i64::from(settings.connection_window).max(INITIAL_WINDOW);
        if let Ok(more @ 1..) = u32::try_from(window - INITIAL_WINDOW) {
            frame::write(&mut out, frame::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
        Self {
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            guard: Guard::new(settings.limits),
            settings,
            streams: Streams::default(),
            requests: VecDeque::new(),
            blocked: VecDeque::new(),
            out,
            room: Vec::new(),
            greeted: false,
            settled: false,
            block: None,
            open: None,
            last: 0,
            active: 0,
            window,
            owed: 0,
            send_window: INITIAL_WINDOW,
            initial: INITIAL_WINDOW,
            final_stream: None,
            heard: false,
            leaves: false,
            over: false,
        }
    }

    /// Whether the preface has come.
    pub fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Since when a header section has been coming that has not ended.
    pub fn open_since(&self) -> Option<Instant> {
        self.open
    }

    /// What is to be written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether something is to be written.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether so much is to be written that no more should be read.
    pub fn is_full(&self) -> bool {
        self.out.len() >= ROOM
    }

    /// Output was written: streams that waited for it go on.
    pub fn drained(&mut self) {
        if self.out.len() < ROOM / 2 && self.send_window > 0 {
            self.unblock();
        }
    }

    /// Streams of which somebody may know at a time. Those that are over and were not let go yet are among them: a client that
    /// resets its streams makes them faster than anybody looks at them.
    fn most_held(&self) -> usize {
        (self.settings.max_streams as usize).saturating_mul(2)
    }

    fn unblock(&mut self) {
        while let Some(key) = self.blocked.pop_front() {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.blocked = false;
                stream.wake_writer();
            }
        }
    }

    /// The next request.
    pub fn next_request(&mut self) -> Option<Asked> {
        loop {
            let asked = self.requests.pop_front()?;
            match self.streams.get(asked.key) {
                Some(stream) if stream.reset.is_none() => return Some(asked),
                // It was reset before anybody looked at it.
                _ => self.release(asked.key),
            }
        }
    }

    /// Takes what has come; what is left in `input` is a piece of a frame.
    ///
    /// # Errors
    /// [`Fault`] when the connection must end. Nothing that comes behind is to be taken.
    pub fn receive(&mut self, input: &mut BytesMut, now: Instant) -> Result<(), Fault> {
        self.guard.at(now);
        if !self.greeted {
            // RFC 9113 section 3.4.
            let length = input.len().min(PREFACE.len());
            if input.get(..length) != PREFACE.get(..length) {
                return Err(Fault::PROTOCOL);
            }
            if length < PREFACE.len() {
                return Ok(());
            }
            input.advance(length);
            self.greeted = true;
        }
        let mut partial = false;
        while let Some(header) = Header::read(input) {
            // RFC 9113 section 4.2.
            if header.length > PAYLOAD {
                return Err(Fault::SIZE);
            }
            if input.len() < HEADER + header.length {
                partial = matches!(header.kind, frame::HEADERS | frame::CONTINUATION);
                break;
            }
            self.guard.frame(header)?;
            self.frame(header, input, now)?;
        }
        if partial {
            self.open.get_or_insert(now);
        } else if self.block.is_none() {
            self.open = None;
        }
        Ok(())
    }

    /// Takes a frame that is whole.
    fn frame(&mut self, header: Header, input: &mut BytesMut, now: Instant) -> Result<(), Fault> {
        if !self.settled {
            if header.kind != frame::SETTINGS || header.has(frame::ACK) {
                return Err(Fault::PROTOCOL);
            }
            self.settled = true;
        }
        // RFC 9113 section 6.10: nothing comes between the frames of a header section.
        if let Some(block) = &self.block
            && (header.kind != frame::CONTINUATION || header.stream != block.stream)
        {
            return Err(Fault::PROTOCOL);
        }
        if header.kind == frame::DATA {
            return self.data_frame(header, input);
        }
        let whole = HEADER + header.length;
        let payload = input.get(HEADER..whole).unwrap_or_default();
        match header.kind {
            frame::HEADERS => self.headers_frame(header, payload, now)?,
            frame::CONTINUATION => self.continuation_frame(header, payload)?,
            frame::PRIORITY => {
                // What it says means nothing any more (RFC 9113 section 5.3.2).
                if header.stream == 0 || (payload.len() == 5 && dependency(payload) == header.stream) {
                    return Err(Fault::PROTOCOL);
                }
                if payload.len() != 5 {
                    return Err(Fault::SIZE);
                }
            }
            frame::RST_STREAM => self.reset_frame(header, payload)?,
            frame::SETTINGS => self.settings_frame(header, payload)?,
            // A client promises nothing (RFC 9113 section 8.4).
            frame::PUSH_PROMISE => return Err(Fault::PROTOCOL),
            frame::PING => {
                if payload.len() != 8 {
                    return Err(Fault::SIZE);
                }
                if header.stream != 0 {
                    return Err(Fault::PROTOCOL);
                }
                if !header.has(frame::ACK) {
                    frame::write(&mut self.out, frame::PING, frame::ACK, 0, payload);
                } else if payload == LAST_PING {
                    self.heard = true;
                }
            }
            frame::GOAWAY => {
                if payload.len() < 8 {
                    return Err(Fault::SIZE);
                }
                if header.stream != 0 {
                    return Err(Fault::PROTOCOL);
                }
                self.leaves = true;
            }
            frame::WINDOW_UPDATE => self.window_frame(header, payload)?,
            // RFC 9113 section 4.1: what nobody knows is nothing.
            _ => {}
        }
        input.advance(whole.min(input.len()));
        Ok(())
    }

    /// Whether a stream was never opened (RFC 9113 section 5.1); ours would have even numbers and are never opened.
    fn is_idle(&self, id: u32) -> bool {
        id > self.last || id.is_multiple_of(2)
    }

    fn say_reset(&mut self, id: u32, reason: Reason) {
        frame::write(&mut self.out, frame::RST_STREAM, 0, id, &reason.0.to_be_bytes());
    }

    /// Resets a stream that nobody knows, for a fault of the client.
    fn refuse(&mut self, id: u32, reason: Reason) -> Result<(), Fault> {
        self.streams.late(id);
        self.say_reset(id, reason);
        self.guard.provoked()
    }

    /// Resets a stream for a fault of the client, who may have ended it himself.
    fn fail(&mut self, key: Key, reason: Reason) -> Result<(), Fault> {
        if self.streams.get(key).is_none_or(|stream| !stream.is_open()) {
            return self.refuse(key.id, reason);
        }
        self.reset(key, reason);
        self.guard.provoked()
    }

    /// The connection may send so much again. What is small waits for more (RFC 9113 section 6.9 leaves it to us).
    fn give_back(&mut self, count: u32) {
        self.owed = self.owed.saturating_add(count);
        if self.owed >= self.settings.connection_window / 2 {
            self.window += i64::from(self.owed);
            let octets = self.owed.to_be_bytes();
            self.owed = 0;
            frame::write(&mut self.out, frame::WINDOW_UPDATE, 0, 0, &octets);
        }
    }

    /// Whether the client may send nothing, since what it has sent on all streams together was not taken yet.
    pub fn is_shut(&self) -> bool {
        self.window <= 0
    }

    /// Takes the next piece of a request's body: the client may send as much again.
    pub fn poll_piece(&mut self, cx: &Context<'_>, key: Key) -> Poll<Result<Piece, Gone>> {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.reset.is_none()) else {
            return Poll::Ready(Err(Gone));
        };
        let Some(data) = stream.pop() else {
            if !stream.received {
                stream.read_by(cx);
                return Poll::Pending;
            }
            return Poll::Ready(Ok(stream.trailers.take().map_or(Piece::End, Piece::Trailers)));
        };
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        stream.owed = stream.owed.saturating_add(count);
        if !stream.received && stream.owed >= self.settings.stream_window / 2 {
            stream.window += i64::from(stream.owed);
            let octets = stream.owed.to_be_bytes();
            stream.owed = 0;
            frame::write(&mut self.out, frame::WINDOW_UPDATE, 0, key.id, &octets);
        }
        self.give_back(count);
        Poll::Ready(Ok(Piece::Data(data)))
    }

    /// Whether nothing of a request is to come any more.
    pub fn is_read(&self, key: Key) -> bool {
        self.streams.get(key).is_none_or(Stream::is_read)
    }

    /// The stream, if it can still be written to.
    fn writable(&mut self, key: Key) -> Result<&mut Stream, Gone> {
        self.streams
            .get_mut(key)
            .filter(|stream| stream.reset.is_none() && !stream.sent)
            .ok_or(Gone)
    }

    /// Sends an interim answer.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn interim(&mut self, key: Key, status: StatusCode, fields: &Fields) -> Result<(), Gone> {
        // A section behind that of the answer would be its trailers.
        if self.writable(key)?.headed {
            return Err(Gone);
        }
        self.write_section(key, Some(status), fields, None, false);
        Ok(())
    }

    /// Sends the header section of the answer; `date` where it has none; `end`: nothing follows it.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn respond(
        &mut self,
        key: Key,
        status: StatusCode,
        fields: &Fields,
        date: Option<&HeaderValue>,
        end: bool,
    ) -> Result<(), Gone> {
        let stream = self.writable(key)?;
        if std::mem::replace(&mut stream.headed, true) {
            return Err(Gone);
        }
        self.write_section(key, Some(status), fields, date, end);
        if end {
            self.sent_all(key);
        }
        Ok(())
    }

    /// Sends the trailer section of an answer, its end.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn trailers(&mut self, key: Key, fields: &Fields) -> Result<(), Gone> {
        self.writable(key)?;
        self.write_section(key, None, fields, None, true);
        self.sent_all(key);
        Ok(())
    }

    fn write_section(
        &mut self,
        key: Key,
        status: Option<StatusCode>,
        fields: &Fields,
        date: Option<&HeaderValue>,
        end: bool,
    ) {
        let encoder = &mut self.encoder;
        frame::section(&mut self.out, key.id, end, |out| {
            match status {
                Some(status) => encoder.status(out, status),
                None => encoder.trailers(out),
            }
            for (name, value) in fields {
                encoder.field(out, name.as_bytes(), value.as_bytes());
            }
            if let Some(date) = date {
                encoder.field(out, b"date", date.as_bytes());
            }
        });
    }

    /// How much of an answer may be sent now.
    pub fn poll_capacity(&mut self, cx: &Context<'_>, key: Key) -> Poll<Result<usize, Gone>> {
        let most = self
            .send_window
            .min(i64::try_from(ROOM.saturating_sub(self.out.len())).unwrap_or_default());
        let Ok(stream) = self.writable(key) else {
            return Poll::Ready(Err(Gone));
        };
        let count = stream.send_window.min(most);
        if let Ok(count @ 1..) = usize::try_from(count) {
            return Poll::Ready(Ok(count));
        }
        stream.written_by(cx);
        if most <= 0 && !stream.blocked {
            stream.blocked = true;
            self.blocked.push_back(key);
        }
        Poll::Pending
    }

    /// Sends a piece of an answer, no more than [`Connection::poll_capacity`] has said; `end`: nothing follows it.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn data(&mut self, key: Key, octets: &[u8], end: bool) -> Result<(), Gone> {
        let count = i64::try_from(octets.len()).unwrap_or(WINDOW);
        self.writable(key)?.send_window -= count;
        self.send_window -= count;
        let mut rest = octets;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PAYLOAD));
            rest = after;
            let last = end && rest.is_empty();
            let flags = if last { frame::END_STREAM } else { 0 };
            if !piece.is_empty() || last {
                frame::write(&mut self.out, frame::DATA, flags, key.id, piece);
            }
            if rest.is_empty() {
                break;
            }
        }
        if end {
            self.sent_all(key);
        }
        Ok(())
    }

    fn sent_all(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.sent = true;
            if !stream.is_open() {
                self.active -= 1;
            }
        }
    }

    /// Resets a stream, if it is still open.
    pub fn reset(&mut self, key: Key, reason: Reason) {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.is_open()) else {
            return;
        };
        stream.end(reason);
        self.active -= 1;
        self.streams.late(key.id);
        self.say_reset(key.id, reason);
    }

    /// Ready when the stream was reset, or its connection has ended.
    pub fn poll_reset(&mut self, cx: &Context<'_>, key: Key) -> Poll<()> {
        match self.streams.get_mut(key) {
            Some(stream) if stream.reset.is_none() => {
                stream.written_by(cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Nobody knows of a stream any more. What was not ended is reset: with NO_ERROR where the answer is whole and the client
    /// need not go on (RFC 9113 section 8.1).
    pub fn release(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        self.reset(
            key,
            if stream.sent {
                Reason::NO_ERROR
            } else {
                Reason::CANCEL
            },
        );
        if let Some(stream) = self.streams.remove(key)
            && let Ok(held @ 1..) = u32::try_from(stream.held())
            && !self.over
        {
            self.give_back(held);
        }
    }

    /// Tells the client that the connection is about to end; what it opens until it has heard it is still served
    /// (RFC 9113 section 6.8).
    pub fn announce_end(&mut self) {
        self.go_away(0x7fff_ffff, Reason::NO_ERROR);
        frame::write(&mut self.out, frame::PING, 0, 0, &LAST_PING);
    }

    /// Whether the client has heard what [`Connection::announce_end`] says, or says itself that it leaves.
    pub fn has_heard(&self) -> bool {
        self.heard || self.leaves
    }

    /// Ends the connection with the streams that are open now. Only the first call says something.
    pub fn end(&mut self, reason: Reason) {
        if self.final_stream.is_none() {
            self.final_stream = Some(self.last);
            self.go_away(self.last, reason);
        }
    }

    /// Whether nothing more is to be done, but to write the output.
    pub fn is_over(&self) -> bool {
        (self.final_stream.is_some() || self.leaves) && self.streams.is_empty() && self.requests.is_empty()
    }

    fn go_away(&mut self, last: u32, reason: Reason) {
        let mut payload = [0; 8];
        if let Some((stream, code)) = payload.split_at_mut_checked(4) {
            stream.copy_from_slice(&last.to_be_bytes());
            code.copy_from_slice(&reason.0.to_be_bytes());
        }
        frame::write(&mut self.out, frame::GOAWAY, 0, 0, &payload);
    }

    /// The connection is gone: every stream hears it.
    pub fn lost(&mut self) {
        self.over = true;
        self.blocked.clear();
        for stream in self.streams.iter_mut() {
            stream.end(Reason::CANCEL);
        }
        self.active = 0;
        // Those that nobody has seen go with it.
        while self.next_request().is_some() {}
    }

    #[cfg(test)]
    pub(super) fn streams_are_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Whether what it counts is what there is.
    #[doc(hidden)]
    pub fn is_sound(&self) -> bool {
        let open = self.streams.iter().filter(|stream| stream.is_open()).count();
        self.over || (open == self.active as usize && self.streams.len() <= self.most_held())
    }
}

/// The stream that five octets say to depend on.
fn dependency(payload: &[u8]) -> u32 {
    frame::number(payload) & 0x7fff_ffff
}
