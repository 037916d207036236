//! The request's side of a request stream: header section, body, trailers.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use quinn::{ReadError, RecvStream};

use super::endpoint::code;
use super::link::Link;
use super::send::Respond;
use crate::fields::Fields;
use crate::h3::Code;
use crate::h3::fields::{self, Bad};
use crate::h3::frame::{Fault, Piece, Reader};
use crate::http::body::BodyError;
use crate::http::frame::{Frame, SizeHint};
use crate::http::headers::{clean_request_trailers, clean_trailers};

/// Octets that are taken from a stream at a time.
const CHUNK: usize = 64 * 1024;

/// Why nothing more comes.
#[derive(Clone, Debug)]
pub(super) enum Broken {
    /// The client has taken the request back, or the connection has ended.
    Gone(ReadError),
    /// The connection was closed because of what came.
    Fault,
    /// A header section is too long.
    Large,
}

/// Reads a request stream. When it is dropped before its end the client is told to send no more.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: RecvStream,
    link: Rc<Link>,
    frames: Reader,
    input: Bytes,
    ended: bool,
    /// What was read to see whether there is something.
    ahead: Option<Result<Option<Piece>, Broken>>,
}

impl Receiver {
    pub(super) fn new(stream: RecvStream, link: Rc<Link>) -> Self {
        Self {
            stream,
            frames: Reader::new(link.client.live.http.max_header_bytes),
            link,
            input: Bytes::new(),
            ended: false,
            ahead: None,
        }
    }

    /// Takes what has come.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while self.input.is_empty() && !self.ended {
            let polled = pin!(self.stream.read_chunk(CHUNK, true)).poll(cx);
            match ready!(polled) {
                Ok(Some(chunk)) => self.input = chunk.bytes,
                Ok(None) => {
                    self.ended = true;
                    self.frames.end().map_err(|fault| self.fault(fault))?;
                }
                Err(error) => {
                    if let ReadError::Reset(_) = error {
                        self.link.reset();
                    }
                    self.ended = true;
                    return Poll::Ready(Err(Broken::Gone(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fault(&self, fault: Fault) -> Broken {
        match fault {
            Fault::Connection(why) => {
                self.link.fail(why);
                Broken::Fault
            }
            Fault::Large => Broken::Large,
        }
    }

    /// The next piece; `None`: the end.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Broken>> {
        match self.ahead.take() {
            Some(piece) => Poll::Ready(piece),
            None => self.poll_next(cx),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Broken>> {
        loop {
            let piece = self.frames.next(&mut self.input);
            self.link.idle(self.frames.take_idle());
            match piece {
                Ok(Some(piece)) => return Poll::Ready(Ok(Some(piece))),
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Err(self.fault(fault))),
            }
            ready!(self.poll_fill(cx))?;
            if self.ended && self.input.is_empty() {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// Whether the end has come, as far as that is known without waiting.
    pub(super) fn looks_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = self.poll_look(cx);
        self.is_ended()
    }

    /// Ready when there is something to look at, or the end.
    pub(super) fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ahead.is_none() {
            self.ahead = Some(ready!(self.poll_next(cx)));
        }
        Poll::Ready(())
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.ahead, Some(Ok(None)))
    }

    /// Closes the connection because of what came.
    pub(super) fn fail(&self, why: Code) {
        self.link.fail(why);
    }

    /// Tells the client to send no more.
    pub(super) fn stop(&mut self, why: Code) {
        if !self.ended {
            self.ended = true;
            let _ = self.stream.stop(code(why));
        }
        self.input = Bytes::new();
        self.ahead = None;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The answer does not need the rest (RFC 9114 section 4.1).
        self.stop(Code::NO_ERROR);
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Http3Request {
    receiver: Receiver,
    respond: Respond,
    /// Octets to come, where they were announced.
    length: Option<u64>,
    /// The client waits for 100 (Continue).
    expects: bool,
    over: bool,
}

impl Http3Request {
    pub(super) fn new(receiver: Receiver, respond: Respond, length: Option<u64>, expects: bool) -> Self {
        Self {
            over: receiver.is_ended() && length.is_none_or(|left| left == 0),
            receiver,
            respond,
            length,
            expects,
        }
    }

    /// Breaks the stream off.
    fn malformed(&mut self) -> BodyError {
        self.over = true;
        self.receiver.stop(Code::MESSAGE_ERROR);
        self.break_off(Code::MESSAGE_ERROR);
        BodyError::Length
    }

    /// Resets the answer for a fault of the client, which counts as if it had taken the request back: the endpoint has it.
    fn break_off(&self, why: Code) {
        self.receiver.link.reset();
        self.respond.0.borrow_mut().reset(why);
    }

    fn trailers(&mut self, section: &[u8]) -> Result<Fields, BodyError> {
        let link = Rc::clone(&self.receiver.link);
        let mut trailers = match fields::trailers(section, &link.limits()) {
            Ok(trailers) => trailers,
            Err(bad) => {
                if let Bad::Section(_) = bad {
                    link.fail(Code::QPACK_DECOMPRESSION_FAILED);
                }
                return Err(self.malformed());
            }
        };
        self.over = true;
        clean_trailers(&mut trailers);
        clean_request_trailers(&mut trailers);
        Ok(trailers)
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.expects) {
            self.respond.interim(StatusCode::CONTINUE, &Fields::new());
            // Now, since the client waits for it and the box for the client.
            let _ = self.respond.0.borrow_mut().poll_flush(cx);
        }
        let piece = match ready!(self.receiver.poll_piece(cx)) {
            Ok(piece) => piece,
            Err(broken) => {
                self.over = true;
                let error = match broken {
                    Broken::Gone(error) => io::Error::from(error),
                    Broken::Fault => io::ErrorKind::InvalidData.into(),
                    Broken::Large => {
                        // A trailer section; the answer may have begun.
                        self.break_off(Code::EXCESSIVE_LOAD);
                        io::ErrorKind::InvalidData.into()
                    }
                };
                return Poll::Ready(Some(Err(error.into())));
            }
        };
        let left = self.length;
        match piece {
            Some(Piece::Data(data)) => {
                if let Some(length) = &mut self.length {
                    match length.checked_sub(data.len() as u64) {
                        Some(left) => *length = left,
                        None => return Poll::Ready(Some(Err(self.malformed()))),
                    }
                }
                if self.receiver.looks_ended(cx) && self.length.is_none_or(|left| left == 0) {
                    self.over = true;
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            // It is shorter than it was to be.
            _ if left.is_some_and(|left| left > 0) => Poll::Ready(Some(Err(self.malformed()))),
            Some(Piece::Section(section)) => Poll::Ready(Some(self.trailers(&section).map(Frame::trailers))),
            None => {
                self.over = true;
                Poll::Ready(None)
            }
        }
    }

    /// Where interim answers go.
    pub(crate) fn respond(&self) -> Respond {
        self.respond.clone()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.over
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.over {
            return SizeHint::with_exact(0);
        }
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
