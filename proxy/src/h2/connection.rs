//! A connection of a client: frames in, what becomes of them, frames out.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::frame::{self, HEADER, Header, PAYLOAD, PREFACE, Reason, WINDOW};
use super::guard::{Fault, Guard, Limits};
use super::hpack::{Decoder, Encoder};
use super::section::Section;
use super::stream::{Key, Stream, Streams};

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
    Trailers(HeaderMap),
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

    /// RFC 9113 section 6.1.
    fn data_frame(&mut self, header: Header, input: &mut BytesMut) -> Result<(), Fault> {
        let payload = input.get(HEADER..HEADER + header.length).unwrap_or_default();
        if header.stream == 0 {
            return Err(Fault::PROTOCOL);
        }
        let (range, _) = frame::strip(header, payload).ok_or(Fault::PROTOCOL)?;
        if self.is_idle(header.stream) {
            return Err(Fault::PROTOCOL);
        }
        // All of it counts, the padding too.
        let count = u32::try_from(header.length).unwrap_or(u32::MAX);
        self.window -= i64::from(count);
        if self.window < 0 {
            return Err(Fault::FLOW);
        }
        let Some(key) = self.streams.find(header.stream) else {
            input.advance(HEADER + header.length);
            self.give_back(count);
            if self.streams.is_late(header.stream) {
                return Ok(());
            }
            return self.refuse(header.stream, Reason::STREAM_CLOSED);
        };
        let end = header.has(frame::END_STREAM);
        let wrong = self.streams.get_mut(key).and_then(|stream| {
            let data = range.len() as u64;
            if stream.reset.is_some() {
                return Some(None);
            }
            if stream.received {
                return Some(Some(Reason::STREAM_CLOSED));
            }
            stream.window -= i64::from(count);
            if stream.window < 0 {
                return Some(Some(Reason::FLOW_CONTROL_ERROR));
            }
            if let Some(left) = &mut stream.left {
                // RFC 9113 section 8.1.1.
                match left.checked_sub(data) {
                    Some(rest) if rest == 0 || !end => *left = rest,
                    _ => return Some(Some(Reason::PROTOCOL_ERROR)),
                }
            }
            None
        });
        if let Some(reason) = wrong {
            input.advance(HEADER + header.length);
            self.give_back(count);
            return match reason {
                Some(reason) => self.fail(key, reason),
                None => Ok(()),
            };
        }
        let data = take(input, &range, header.length);
        let padding = count - u32::try_from(range.len()).unwrap_or(count);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.owed += padding;
            if !data.is_empty() {
                stream.push(data);
            }
            if end {
                stream.received = true;
                if !stream.is_open() {
                    self.active -= 1;
                }
            }
            stream.wake_reader();
        }
        self.give_back(padding);
        Ok(())
    }

    /// RFC 9113 section 6.2.
    fn headers_frame(&mut self, header: Header, payload: &[u8], now: Instant) -> Result<(), Fault> {
        // Streams of clients have odd numbers (RFC 9113 section 5.1.1).
        if header.stream.is_multiple_of(2) {
            return Err(Fault::PROTOCOL);
        }
        let (range, parent) = frame::strip(header, payload).ok_or(Fault::PROTOCOL)?;
        let octets = payload.get(range).unwrap_or_default();
        let end = header.has(frame::END_STREAM);
        let depends_on_itself = parent == Some(header.stream);
        if header.has(frame::END_HEADERS) {
            self.open = None;
            return self.section(header.stream, end, depends_on_itself, octets);
        }
        self.open.get_or_insert(now);
        self.block = Some(Block {
            stream: header.stream,
            end,
            depends_on_itself,
            octets: octets.to_vec(),
            frames: 1,
        });
        Ok(())
    }

    /// RFC 9113 section 6.10.
    fn continuation_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        let block = self.block.as_mut().ok_or(Fault::PROTOCOL)?;
        let most = (self.settings.header_list as usize).saturating_mul(BLOCK);
        block.frames += 1;
        // CVE-2024-24549 and its kind: sections without end.
        if block.octets.len() + payload.len() > most || block.frames > CONTINUATIONS + most / PAYLOAD {
            return Err(Fault::CALM);
        }
        block.octets.extend_from_slice(payload);
        if header.has(frame::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            self.open = None;
            return self.section(block.stream, block.end, block.depends_on_itself, &block.octets);
        }
        Ok(())
    }

    /// A header section has come whole.
    fn section(&mut self, id: u32, end: bool, depends_on_itself: bool, octets: &[u8]) -> Result<(), Fault> {
        let fresh = id > self.last;
        let mut section = if fresh {
            Section::request()
        } else {
            Section::default()
        };
        let most = self.settings.header_list as usize;
        // It is read in any case: the table of the connection goes on with it.
        self.decoder
            .decode(octets, &mut self.room, |field, size| {
                section.take(field, size, most)
            })
            .map_err(|_| Fault::COMPRESSION)?;
        if self.room.capacity() > ROOM_KEPT {
            self.room = Vec::new();
        }
        if !fresh {
            return self.trailer_section(id, end, section);
        }
        self.last = id;
        if self.final_stream.is_some() {
            // RFC 9113 section 6.8: it was said that it would not be looked at.
            return Ok(());
        }
        if depends_on_itself {
            return self.refuse(id, Reason::PROTOCOL_ERROR);
        }
        if self.active >= self.settings.max_streams {
            // RFC 9113 section 5.1.2. It costs no more than the octets that it is, and those who began before they had
            // our SETTINGS are in the right.
            self.streams.late(id);
            self.say_reset(id, Reason::REFUSED_STREAM);
            return Ok(());
        }
        let head = match section.into_head() {
            Ok(head) if !(end && head.length.is_some_and(|length| length > 0)) => head,
            _ => return self.refuse(id, Reason::PROTOCOL_ERROR),
        };
        let stream = Stream::new(id, end, head.length, self.settings.stream_window, self.initial);
        let key = self.streams.insert(stream);
        self.active += 1;
        self.requests.push_back(Asked {
            key,
            parts: head.parts,
            protocol: head.protocol,
            length: head.length,
            end,
            too_large: head.too_large,
        });
        Ok(())
    }

    fn trailer_section(&mut self, id: u32, end: bool, section: Section) -> Result<(), Fault> {
        let Some(key) = self.streams.find(id) else {
            // RFC 9113 sections 5.1 and 5.1.1: it is over, or it was passed over and so never to be.
            return if self.streams.is_late(id) {
                Ok(())
            } else {
                Err(Fault::CLOSED)
            };
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        if stream.reset.is_some() {
            return Ok(());
        }
        if stream.received {
            return self.fail(key, Reason::STREAM_CLOSED);
        }
        // RFC 9113 section 8.1: a section behind the first one is the last, and the body is as long as was said.
        let short = stream.left.is_some_and(|left| left > 0);
        match section.into_trailers() {
            Ok(trailers) if end && !short => {
                stream.trailers = (!trailers.is_empty()).then_some(trailers);
                stream.received = true;
                stream.wake_reader();
                if !stream.is_open() {
                    self.active -= 1;
                }
                Ok(())
            }
            _ => self.fail(key, Reason::PROTOCOL_ERROR),
        }
    }

    /// RFC 9113 section 6.4.
    fn reset_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(Fault::SIZE);
        }
        if self.is_idle(header.stream) {
            return Err(Fault::PROTOCOL);
        }
        if let Some(stream) = self
            .streams
            .find(header.stream)
            .and_then(|key| self.streams.get_mut(key))
        {
            let was_open = stream.is_open();
            stream.end(Reason(frame::number(payload)));
            if was_open {
                self.active -= 1;
            }
        }
        Ok(())
    }

    /// RFC 9113 section 6.5.
    fn settings_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if header.stream != 0 {
            return Err(Fault::PROTOCOL);
        }
        if header.has(frame::ACK) {
            return if payload.is_empty() {
                Ok(())
            } else {
                Err(Fault::SIZE)
            };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault::SIZE);
        }
        for &[a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                frame::HEADER_TABLE_SIZE => self.encoder.limit(value as usize),
                frame::ENABLE_PUSH | frame::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Fault::PROTOCOL);
                }
                frame::INITIAL_WINDOW_SIZE => self.initial_window(i64::from(value))?,
                frame::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Fault::PROTOCOL);
                }
                _ => {}
            }
        }
        frame::write(&mut self.out, frame::SETTINGS, frame::ACK, 0, &[]);
        Ok(())
    }

    /// RFC 9113 section 6.9.2: it changes the windows of all streams by the difference.
    fn initial_window(&mut self, value: i64) -> Result<(), Fault> {
        if value > WINDOW {
            return Err(Fault::FLOW);
        }
        let more = value - self.initial;
        self.initial = value;
        for stream in self.streams.iter_mut() {
            stream.send_window += more;
            if stream.send_window > WINDOW {
                return Err(Fault::FLOW);
            }
            if more > 0 {
                stream.wake_writer();
            }
        }
        Ok(())
    }

    /// RFC 9113 section 6.9.
    fn window_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(Fault::SIZE);
        }
        let more = i64::from(frame::number(payload) & 0x7fff_ffff);
        if header.stream == 0 {
            if more == 0 {
                return Err(Fault::PROTOCOL);
            }
            self.send_window += more;
            if self.send_window > WINDOW {
                return Err(Fault::FLOW);
            }
            if self.send_window > 0 {
                self.unblock();
            }
            return Ok(());
        }
        if self.is_idle(header.stream) {
            return Err(Fault::PROTOCOL);
        }
        let Some(key) = self.streams.find(header.stream) else {
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.is_open()) else {
            return Ok(());
        };
        if more == 0 {
            return self.fail(key, Reason::PROTOCOL_ERROR);
        }
        stream.send_window += more;
        if stream.send_window > WINDOW {
            return self.fail(key, Reason::FLOW_CONTROL_ERROR);
        }
        stream.wake_writer();
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

    /// Resets a stream for a fault of the client.
    fn fail(&mut self, key: Key, reason: Reason) -> Result<(), Fault> {
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
    pub fn interim(&mut self, key: Key, status: StatusCode, fields: &HeaderMap) -> Result<(), Gone> {
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
        fields: &HeaderMap,
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
    pub fn trailers(&mut self, key: Key, fields: &HeaderMap) -> Result<(), Gone> {
        self.writable(key)?;
        self.write_section(key, None, fields, None, true);
        self.sent_all(key);
        Ok(())
    }

    fn write_section(
        &mut self,
        key: Key,
        status: Option<StatusCode>,
        fields: &HeaderMap,
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
                encoder.field(out, name, value);
            }
            if let Some(date) = date {
                encoder.field(out, &http::header::DATE, date);
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
        self.over || open == self.active as usize
    }
}

/// The stream that five octets say to depend on.
fn dependency(payload: &[u8]) -> u32 {
    frame::number(payload) & 0x7fff_ffff
}

/// Takes a DATA frame off the buffer; gives what is in it.
fn take(input: &mut BytesMut, range: &Range<usize>, length: usize) -> Bytes {
    let behind = length - range.end;
    input.advance(HEADER + range.start);
    let data = if range.len() <= COPIED {
        let data = input
            .get(..range.len())
            .map(Bytes::copy_from_slice)
            .unwrap_or_default();
        input.advance(range.len());
        data
    } else {
        input.split_to(range.len()).freeze()
    };
    input.advance(behind);
    data
}
