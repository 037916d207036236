//! What the frames of a client do to its connection, a function a type of frame.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Instant;

use super::*;

impl Connection {
    /// RFC 9113 section 6.1.
    pub(super) fn data_frame(&mut self, header: Header, input: &mut BytesMut) -> Result<(), Fault> {
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
        let late = self.streams.is_late(header.stream);
        let wrong = self.streams.get_mut(key).and_then(|stream| {
            let data = range.len() as u64;
            if stream.reset.is_some() {
                // Reset by us, or by the client itself.
                return Some((!late).then_some(Reason::STREAM_CLOSED));
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
    pub(super) fn headers_frame(
        &mut self,
        header: Header,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Fault> {
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
    pub(super) fn continuation_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
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
    pub(super) fn section(
        &mut self,
        id: u32,
        end: bool,
        depends_on_itself: bool,
        octets: &[u8],
    ) -> Result<(), Fault> {
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
        if self.active >= self.settings.max_streams || self.streams.len() >= self.most_held() {
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

    pub(super) fn trailer_section(&mut self, id: u32, end: bool, section: Section) -> Result<(), Fault> {
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
            // Reset by us, or by the client itself.
            return if self.streams.is_late(id) {
                Ok(())
            } else {
                Err(Fault::CLOSED)
            };
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
    pub(super) fn reset_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
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
    pub(super) fn settings_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
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
        // Of several values the last one holds: each would be one walk over all streams.
        let mut window = None;
        for &[a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                frame::HEADER_TABLE_SIZE => self.encoder.limit(value as usize),
                frame::ENABLE_PUSH | frame::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Fault::PROTOCOL);
                }
                frame::INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW => return Err(Fault::FLOW),
                frame::INITIAL_WINDOW_SIZE => window = Some(i64::from(value)),
                frame::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Fault::PROTOCOL);
                }
                _ => {}
            }
        }
        if let Some(window) = window {
            self.initial_window(window)?;
        }
        frame::write(&mut self.out, frame::SETTINGS, frame::ACK, 0, &[]);
        Ok(())
    }

    /// RFC 9113 section 6.9.2: it changes the windows of all streams by the difference.
    pub(super) fn initial_window(&mut self, value: i64) -> Result<(), Fault> {
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
    pub(super) fn window_frame(&mut self, header: Header, payload: &[u8]) -> Result<(), Fault> {
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
