//! One exchange with an endpoint over HTTP/1.1. Whoever waits for the answer drives both directions: the request goes out
//! as the endpoint takes it, while the answer is read. No task of its own, no channel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{StatusCode, Version};

use super::body::{BodyError, Piece, RequestBody};
use super::exchange::Exchange;
use super::headers;
use super::output::Output;
use crate::buffers;
use crate::fields::names::CONTENT_LENGTH;
use crate::h1::head::{Parser, Step};
use crate::h1::{Decoded, Decoder, Fault, Limits, encode, request, response};
use crate::http::frame::{Body, Frame, SizeHint};
use crate::message::request::Parts;
use crate::splice::Pipe;
use crate::stream::EndpointStream;

/// Header section of an answer.
const LIMITS: Limits = Limits {
    head_bytes: 256 * 1024,
    fields: 256,
    uri_bytes: usize::MAX,
};
/// Interim answers before the answer.
const MAX_INTERIM: u8 = 32;
/// Pieces of a body that are copied together with what is before them.
const JOINED: usize = 8 * 1024;
const JOINED_ALL: usize = 32 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing of the request was sent, and nothing came.
    #[error("the connection was closed before the request was sent")]
    Unsent,
    /// The connection ended before an octet of an answer.
    #[error("the connection ended before the answer: {0}")]
    Closed(io::Error),
    /// It ended in the answer's header section.
    #[error("the connection ended in the header section")]
    Cut,
    /// What came is no answer.
    #[error("{0}")]
    Nonsense(#[from] Fault),
    /// Interim answers without end.
    #[error("there are too many interim answers")]
    Interim,
    /// The way to the endpoint was withdrawn.
    #[error("the route of the endpoint was withdrawn")]
    Unrouted,
    /// The body of the request is broken.
    #[error("{0}")]
    Request(BodyError),
}

/// An exchange on its way.
#[derive(Debug)]
pub(crate) struct Call {
    stream: Option<EndpointStream>,
    upload: Upload,
    /// Taken over with the header of the answer.
    body: RequestBody,
    input: BytesMut,
    parser: Parser,
    decoder: Decoder,
    interim: u8,
    /// Octets come faster than they are taken.
    streaming: bool,
    /// The connection may take another request.
    keep: bool,
}

/// Pieces of a request's body on their way out.
#[derive(Debug, Default)]
struct Gathered {
    /// A piece that was not copied.
    large: Option<Bytes>,
    /// What comes behind it.
    tail: &'static [u8],
    /// The first piece, if there is one.
    held: Option<Bytes>,
    /// Nothing more is there yet.
    pending: bool,
}

/// The way of the request.
#[derive(Debug)]
struct Upload {
    output: Output,
    state: Sending,
    /// Something of it has left.
    sent: bool,
}

#[derive(Debug)]
enum Sending {
    Head,
    Length(u64),
    Chunked,
    Done,
    /// The endpoint takes no more; it may still answer.
    Broken,
}

impl Call {
    pub(crate) fn new(stream: EndpointStream) -> Self {
        Self {
            stream: Some(stream),
            upload: Upload {
                output: Output::default(),
                state: Sending::Head,
                sent: false,
            },
            body: RequestBody::Empty,
            input: BytesMut::new(),
            parser: Parser::default(),
            decoder: Decoder::none(),
            interim: 0,
            streaming: false,
            keep: true,
        }
    }

    /// Sends the request and reads the header of its answer.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        parts: &Parts,
        body: &mut RequestBody,
        exchange: &Exchange,
    ) -> Poll<Result<crate::message::response::Parts, CallError>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(CallError::Cut));
        };
        self.upload.poll(cx, stream, Some(parts), body)?;
        loop {
            if !self.input.is_empty() {
                match response::advance(&mut self.parser, &self.input, &LIMITS)? {
                    Step::Partial => {}
                    Step::Complete(length) => {
                        let parser = std::mem::take(&mut self.parser);
                        let mut head = response::head(parser, self.input.get(..length).unwrap_or_default())?;
                        self.input.advance(length);
                        let informational =
                            head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
                        if !informational {
                            self.decoder = response::framing(&parts.method, &mut head)?;
                            self.keep = head.version == Version::HTTP_11
                                && !headers::connection_says(&head.headers, b"close");
                            return Poll::Ready(Ok(head));
                        }
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return Poll::Ready(Err(CallError::Interim));
                        }
                        headers::strip_hop_by_hop(&mut head.headers);
                        // It has no body (RFC 9110 section 15.2); who believed in one would wait for it.
                        head.headers.remove(CONTENT_LENGTH);
                        exchange.interim(cx, head.status, &head.headers);
                        continue;
                    }
                }
            }
            match ready!(buffers::poll_fill(stream, cx, &mut self.input, false)) {
                Ok(1..) => {}
                ended => {
                    let error = match ended {
                        Err(error) => error,
                        Ok(_) => io::ErrorKind::UnexpectedEof.into(),
                    };
                    return Poll::Ready(Err(if !self.input.is_empty() || self.interim > 0 {
                        CallError::Cut
                    } else if self.upload.sent {
                        CallError::Closed(error)
                    } else {
                        CallError::Unsent
                    }));
                }
            }
        }
    }

    /// The header was read: what follows needs the request's body, if there is still something of it.
    pub(crate) fn go_on(&mut self, body: RequestBody) {
        self.body = body;
    }

    /// The connection, when another request may go over it.
    pub(crate) fn reclaim(&mut self) -> Option<EndpointStream> {
        let sent = matches!(self.upload.state, Sending::Done) && self.upload.output.is_empty();
        let over = self.decoder.is_done() && !self.decoder.ends_with_connection() && self.input.is_empty();
        if sent && over && self.keep {
            self.stream.take()
        } else {
            None
        }
    }

    /// Whether what comes next is so much of a body, in the clear, and nothing else goes on: octets that need not be looked
    /// at.
    pub(crate) fn is_movable(&self, left: u64) -> bool {
        matches!(self.stream, Some(EndpointStream::Plain(_)))
            && matches!(self.upload.state, Sending::Done)
            && self.upload.output.is_empty()
            && self.input.is_empty()
            && self.decoder.left() == Some(left)
    }

    /// Takes what has come of such a body into a pipe, which must be empty. Gives the number of octets.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Result<usize, BodyError>> {
        let (Some(EndpointStream::Plain(stream)), Some(left)) = (&mut self.stream, self.decoder.left())
        else {
            return Poll::Ready(Err(BodyError::Length));
        };
        let count = ready!(pipe.poll_in(cx, stream.watch()?, left))?;
        if count == 0 {
            self.keep = false;
            self.decoder.end()?;
        }
        self.decoder.skip(count as u64);
        Poll::Ready(Ok(count))
    }

    /// The connection and what came behind the header, for a tunnel.
    pub(crate) fn into_tunnel(mut self: Box<Self>) -> Option<(EndpointStream, Bytes)> {
        let first = Bytes::copy_from_slice(&self.input);
        self.input.clear();
        self.stream.take().map(|stream| (stream, first))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        buffers::give(&mut self.input);
    }
}

impl Upload {
    /// Sends what can be sent. Errors are the request's own; those of the endpoint show when the answer is read.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut EndpointStream,
        parts: Option<&Parts>,
        body: &mut RequestBody,
    ) -> Result<(), CallError> {
        loop {
            match self.output.poll_drain(stream, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.refused(error),
            }
            let first = match &self.state {
                Sending::Done | Sending::Broken => return Ok(()),
                Sending::Head => true,
                Sending::Length(_) | Sending::Chunked => false,
            };
            let (written, pending) = buffers::with_scratch(|scratch| -> Result<_, CallError> {
                if first && let Some(parts) = parts {
                    self.begin(scratch, parts, body)?;
                }
                // What is not sent can be sent elsewhere, so the first write holds one piece of the body at most.
                let Gathered {
                    large,
                    tail,
                    held,
                    pending,
                } = self.gather(cx, scratch, body, first)?;
                if scratch.is_empty() && large.is_none() && tail.is_empty() {
                    return Ok((Ok(0), pending));
                }
                let put = self.output.put(stream, cx, scratch, large, tail);
                if put.is_err()
                    && !self.sent
                    && let Some(held) = held
                {
                    body.unread(held);
                }
                Ok((put, pending))
            })?;
            match written {
                Ok(count) => self.sent |= count > 0,
                Err(error) => return self.refused(error),
            }
            if pending {
                return Ok(());
            }
        }
    }

    fn refused(&mut self, error: io::Error) -> Result<(), CallError> {
        if self.sent {
            tracing::debug!(%error, "an endpoint takes no more of a request");
            self.state = Sending::Broken;
            Ok(())
        } else {
            Err(CallError::Unsent)
        }
    }

    /// The request's header section.
    fn begin(&mut self, out: &mut Vec<u8>, parts: &Parts, body: &RequestBody) -> Result<(), CallError> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        encode::request_line(out, parts.method.as_str(), target);
        encode::fields(out, &parts.headers);
        self.state = if body.is_end_stream() {
            Sending::Done
        } else if let Some(length) = parts.headers.get(CONTENT_LENGTH) {
            let length = request::content_length(length.as_bytes())?;
            Sending::Length(length)
        } else if let Some(length) = body.size_hint().exact() {
            encode::field(out, CONTENT_LENGTH.as_str(), length.to_string().as_bytes());
            Sending::Length(length)
        } else {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Sending::Chunked
        };
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Takes pieces of the body: small ones into `out`, a large one by itself.
    fn gather(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        body: &mut RequestBody,
        first: bool,
    ) -> Result<Gathered, CallError> {
        let mut got = Gathered::default();
        let short = || CallError::Request(BodyError::Length);
        loop {
            let chunked = match &self.state {
                Sending::Length(_) => false,
                Sending::Chunked => true,
                _ => return Ok(got),
            };
            if out.len() > JOINED_ALL || (first && got.held.is_some()) {
                return Ok(got);
            }
            let piece = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    got.pending = true;
                    return Ok(got);
                }
                Poll::Ready(Some(Err(error))) => return Err(CallError::Request(error)),
                Poll::Ready(None) => {
                    match self.state {
                        Sending::Length(1..) => return Err(short()),
                        Sending::Chunked => encode::last_chunk(out, None),
                        _ => {}
                    }
                    self.state = Sending::Done;
                    continue;
                }
                Poll::Ready(Some(Ok(piece))) => piece,
            };
            let data = match piece.into_data() {
                Ok(data) => data,
                Err(other) => {
                    // Behind a body of known length there is no place for trailers.
                    if chunked && let Ok(trailers) = other.into_trailers() {
                        encode::last_chunk(out, Some(&trailers));
                        self.state = Sending::Done;
                    }
                    continue;
                }
            };
            if data.is_empty() {
                continue;
            }
            if first {
                got.held = Some(data.clone());
            }
            if chunked {
                encode::chunk_size(out, data.len());
            }
            if let Sending::Length(left) = &mut self.state {
                *left = left.checked_sub(data.len() as u64).ok_or_else(short)?;
            }
            let last = body.is_end_stream();
            let tail: &[u8] = match (chunked, last) {
                (true, true) => b"\r\n0\r\n\r\n",
                (true, false) => b"\r\n",
                (false, _) => b"",
            };
            if last {
                if let Sending::Length(1..) = self.state {
                    return Err(short());
                }
                self.state = Sending::Done;
            }
            if data.len() > JOINED {
                got.large = Some(data);
                got.tail = tail;
                return Ok(got);
            }
            out.extend_from_slice(&data);
            out.extend_from_slice(tail);
        }
    }
}

impl Body for Call {
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        match this.upload.poll(cx, stream, None, &mut this.body) {
            Ok(()) => {}
            Err(CallError::Request(error)) => return Poll::Ready(Some(Err(error))),
            Err(_) => return Poll::Ready(Some(Err(BodyError::Length))),
        }
        loop {
            match this.decoder.decode(&mut this.input) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match ready!(buffers::poll_fill(stream, cx, &mut this.input, this.streaming)) {
                Ok(0) => {
                    this.keep = false;
                    this.decoder.end()?;
                }
                Ok(_) => this.streaming |= this.input.len() == this.input.capacity(),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder
            .left()
            .map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
