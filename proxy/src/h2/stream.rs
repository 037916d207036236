//! The streams that are open.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};

use super::frame::Reason;
use crate::fields::Fields;

/// Pieces of a body that are put together when others wait already.
const SMALL: usize = 512;
/// Streams that were reset and of which frames may still be on their way.
const LATE: usize = 64;

/// One stream of a connection. Of another connection it names nothing, or the wrong one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key {
    pub(crate) slot: usize,
    pub(crate) id: u32,
}

/// What is known of a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// What has come and was not taken.
    body: VecDeque<Bytes>,
    /// Small pieces behind it.
    tail: BytesMut,
    pub(crate) trailers: Option<Fields>,
    /// The client has sent all.
    pub(crate) received: bool,
    /// Octets that Content-Length still announces.
    pub(crate) left: Option<u64>,
    /// What the client may still send, and what of the taken it was not told yet.
    pub(crate) window: i64,
    pub(crate) owed: u32,
    /// The header section of the answer was sent.
    pub(crate) headed: bool,
    /// We have sent all.
    pub(crate) sent: bool,
    /// What we may still send.
    pub(crate) send_window: i64,
    /// It ended before its end, because of either side.
    pub(crate) reset: Option<Reason>,
    /// It is among those that wait for the whole connection.
    pub(crate) blocked: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl Stream {
    pub(crate) fn new(id: u32, received: bool, left: Option<u64>, window: u32, send_window: i64) -> Self {
        Self {
            id,
            body: VecDeque::new(),
            tail: BytesMut::new(),
            trailers: None,
            received,
            left,
            window: i64::from(window),
            owed: 0,
            headed: false,
            sent: false,
            send_window,
            reset: None,
            blocked: false,
            reader: None,
            writer: None,
        }
    }

    /// Whether it counts as open (RFC 9113 section 5.1.2).
    pub(crate) fn is_open(&self) -> bool {
        self.reset.is_none() && !(self.received && self.sent)
    }

    /// A piece of its body. What is small is put together, so that many small pieces take no more room than they are.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.body.is_empty() && self.tail.is_empty() {
            self.body.push_back(piece);
        } else if piece.len() < SMALL {
            self.tail.extend_from_slice(&piece);
        } else {
            if !self.tail.is_empty() {
                self.body.push_back(self.tail.split().freeze());
            }
            self.body.push_back(piece);
        }
    }

    /// The next piece of its body.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.body
            .pop_front()
            .or_else(|| (!self.tail.is_empty()).then(|| self.tail.split().freeze()))
    }

    /// Octets of the body that were not taken.
    pub(crate) fn held(&self) -> usize {
        self.body.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    /// Whether nothing of the request is to come any more.
    pub(crate) fn is_read(&self) -> bool {
        self.received && self.body.is_empty() && self.tail.is_empty() && self.trailers.is_none()
    }

    pub(crate) fn read_by(&mut self, cx: &Context<'_>) {
        register(&mut self.reader, cx);
    }

    pub(crate) fn written_by(&mut self, cx: &Context<'_>) {
        register(&mut self.writer, cx);
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(crate) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// It has ended before its end.
    pub(crate) fn end(&mut self, reason: Reason) {
        self.reset.get_or_insert(reason);
        self.wake_reader();
        self.wake_writer();
    }
}

/// All streams of a connection of which somebody still knows.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: Vec<Option<Stream>>,
    /// The numbers of the streams in the slots; 0: it is free. Looked through for each frame that is not the first of its
    /// stream: a hundred numbers are two hundred octets of instructions away.
    ids: Vec<u32>,
    free: Vec<usize>,
    late: VecDeque<u32>,
}

impl Streams {
    pub(crate) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.ids.push(0);
            self.slots.len() - 1
        });
        if let (Some(place), Some(number)) = (self.slots.get_mut(slot), self.ids.get_mut(slot)) {
            *place = Some(stream);
            *number = id;
        }
        Key { slot, id }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Stream> {
        self.slots
            .get(key.slot)?
            .as_ref()
            .filter(|stream| stream.id == key.id)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.slots
            .get_mut(key.slot)?
            .as_mut()
            .filter(|stream| stream.id == key.id)
    }

    pub(crate) fn find(&self, id: u32) -> Option<Key> {
        let slot = self.ids.iter().position(|other| *other == id)?;
        Some(Key { slot, id })
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Stream> {
        self.get(key)?;
        let stream = self.slots.get_mut(key.slot)?.take();
        if let Some(number) = self.ids.get_mut(key.slot) {
            *number = 0;
        }
        self.free.push(key.slot);
        stream
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.slots.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A stream was reset by us: the client may not have heard it yet (RFC 9113 section 5.1).
    pub(crate) fn late(&mut self, id: u32) {
        if self.late.len() >= LATE {
            self.late.pop_front();
        }
        self.late.push_back(id);
    }

    pub(crate) fn is_late(&self, id: u32) -> bool {
        self.late.contains(&id)
    }
}
