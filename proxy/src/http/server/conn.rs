//! A client's connection as its exchange sees it: octets in, octets out, the body of the request in hand.

use std::cell::{RefCell, RefMut};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, Version};
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::fields::Fields;
use crate::h1::body::BadBody;
use crate::h1::{Decoded, Decoder, encode};
use crate::http::body::{BodyError, Piece};
use crate::http::frame::{Frame, SizeHint};
use crate::http::io::ClientStream;
use crate::http::output::Output;
use crate::splice::Pipe;
use crate::{buffers, clock};

/// Octets of further requests that are read while one is answered.
const READ_AHEAD: usize = 16 * 1024;
/// Octets of a body that nobody wants any more, read so that the connection can go on.
const LEFTOVER: u64 = 64 * 1024;

/// The connection. The task that serves it and the body of its request share it.
#[derive(Debug)]
pub(crate) struct Conn {
    io: RefCell<Io>,
    /// For the waits of the task that serves it.
    pub(super) alarm: Alarm,
}

#[derive(Debug)]
pub(super) struct Io {
    /// Gone when it has become a tunnel.
    pub(super) stream: Option<ClientStream>,
    /// Octets read and not used yet.
    pub(super) input: BytesMut,
    pub(super) output: Output,
    /// Octets behind those of `output`, while a large answer is on its way.
    pub(super) pipe: Option<Pipe>,
    /// The body of the request in hand.
    pub(super) body: Decoder,
    /// The client waits for 100 before it sends the body.
    pub(super) owes_continue: bool,
    /// Interim answers may still be sent.
    pub(super) takes_interim: bool,
    /// The client has closed its sending side.
    pub(super) eof: bool,
    /// Since when the client takes nothing.
    pub(super) stalled: Option<Instant>,
    streaming: bool,
}

impl Conn {
    pub(crate) fn new(stream: ClientStream, alarm: Alarm) -> Rc<Self> {
        let io = RefCell::new(Io {
            stream: Some(stream),
            input: BytesMut::new(),
            output: Output::default(),
            pipe: None,
            body: Decoder::none(),
            owes_continue: false,
            takes_interim: false,
            eof: false,
            stalled: None,
            streaming: false,
        });
        Rc::new(Self { io, alarm })
    }

    pub(super) fn io(&self) -> RefMut<'_, Io> {
        self.io.borrow_mut()
    }

    /// Passes an interim answer on. 100 answers the expectation of the client; others are news for HTTP/1.1 clients.
    pub(crate) fn interim(&self, cx: &mut Context<'_>, status: StatusCode, headers: &Fields) {
        let io = &mut *self.io();
        let wanted = match status {
            StatusCode::CONTINUE => std::mem::take(&mut io.owes_continue),
            _ => true,
        };
        if wanted && io.takes_interim {
            io.say(cx, status, headers);
        }
    }
}

impl Io {
    /// Reads what has come.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(0));
        };
        let read = ready!(buffers::poll_fill(stream, cx, &mut self.input, self.streaming));
        match &read {
            Ok(0) => self.eof = true,
            Ok(_) => self.streaming |= self.input.len() == self.input.capacity(),
            Err(_) => {}
        }
        Poll::Ready(read)
    }

    /// An exchange has ended.
    pub(super) fn calm(&mut self) {
        self.streaming = false;
        self.pipe = None;
    }

    /// Gives the buffer back when nothing is in it.
    pub(super) fn let_go(&mut self) {
        if self.input.is_empty() {
            buffers::give(&mut self.input);
        }
    }

    /// Whether a change of the connection wakes its task.
    pub(super) fn is_watched(&self) -> bool {
        !matches!(&self.stream, Some(ClientStream::Plain(stream)) if !stream.is_watched())
    }

    /// Notices that the client has gone, and sends what waits. Ready when it has gone.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, half_close_is_end: bool) -> Poll<()> {
        if matches!(self.poll_drain(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        // Whoever reads the body notices it otherwise.
        while self.body.is_done() && !self.eof && self.input.len() < READ_AHEAD {
            if ready!(self.poll_fill(cx)).is_err() {
                return Poll::Ready(());
            }
        }
        if self.eof && half_close_is_end {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Sends what waits, and notes since when it cannot.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(()));
        };
        let held = self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty());
        if self.output.is_empty() && !held {
            return Poll::Ready(Ok(()));
        }
        let mut drained = self.output.poll_drain(stream, cx);
        if let (Poll::Ready(Ok(())), Some(pipe), ClientStream::Plain(stream)) =
            (&drained, &mut self.pipe, stream)
        {
            let (some, emptied) = pipe.poll_out(cx, stream.watch()?);
            if some {
                self.stalled = None;
            }
            drained = emptied;
        }
        if drained.is_pending() {
            self.stalled.get_or_insert_with(clock::now);
        } else {
            self.stalled = None;
        }
        drained
    }

    /// As [`Self::put`], of octets that the end of the connection follows at once.
    pub(super) fn put_last(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> io::Result<()> {
        let written = match &self.stream {
            Some(ClientStream::Plain(stream)) if self.output.is_empty() => stream.write_last(octets),
            _ => Ok(0),
        };
        // What went wrong shows again.
        let rest = octets.get(written.unwrap_or(0)..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        self.put(cx, rest, None, b"")
    }

    /// Sends octets, or keeps those that the client does not take now.
    pub(super) fn put(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        body: Option<Bytes>,
        tail: &'static [u8],
    ) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let written = self.output.put(stream, cx, head, body, tail)?;
        if written > 0 {
            self.stalled = None;
        }
        Ok(())
    }

    fn say(&mut self, cx: &mut Context<'_>, status: StatusCode, headers: &Fields) {
        let put = buffers::with_scratch(|scratch| {
            encode::status_line(scratch, Version::HTTP_11, status);
            encode::fields(scratch, headers);
            scratch.extend_from_slice(b"\r\n");
            self.put(cx, scratch, None, b"")
        });
        // Whoever reads or writes next notices it, too.
        if let Err(error) = put {
            tracing::debug!(%error, "a client takes no interim answer");
        }
    }

    /// Takes the next piece of the request's body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if std::mem::take(&mut self.owes_continue) && self.takes_interim && self.input.is_empty() {
            self.say(cx, StatusCode::CONTINUE, &Fields::new());
        }
        loop {
            match self.body.decode(&mut self.input) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) if self.eof => {
                    return Poll::Ready(Some(Err(BodyError::Malformed(BadBody::Short))));
                }
                Ok(Decoded::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            if let Err(error) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
    }

    /// Reads the rest of a small body that nobody wants, as far as it is there, so that the connection can go on. Says
    /// whether the body is over.
    pub(super) fn skip_body(&mut self, cx: &mut Context<'_>) -> bool {
        // It is not sent before it is asked for.
        if self.owes_continue || self.body.left().is_some_and(|left| left > LEFTOVER) {
            return self.body.is_done();
        }
        let mut skipped = 0;
        while skipped <= LEFTOVER {
            match self.poll_body(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    skipped += piece.data_ref().map_or(0, |data| data.len() as u64);
                }
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
        self.body.is_done()
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        buffers::give(&mut self.input);
    }
}

/// The body of the request that its connection is reading.
#[derive(Debug)]
pub(crate) struct Http1Body(pub(super) Rc<Conn>);

impl Http1Body {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        self.0.io().poll_body(cx)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.0.io().body.is_done()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let left = self.0.io().body.left();
        left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
