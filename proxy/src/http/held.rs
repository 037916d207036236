//! An answer that is taken from its endpoint as fast as it comes, where the route wants that: a slow client holds up no pod, and
//! an answer that breaks off while nothing of it was passed on is none.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::answer::Refusal;
use super::body::{BodyError, Piece, Reply, ahead};
use super::exchange::Exchange;
use super::frame::{Body, Frame, SizeHint};
use crate::budget::Share;
use crate::compress;
use crate::fields::names::{CONTENT_LENGTH, TRAILER};
use crate::message::Response;
use crate::metrics::Cell;

/// A body of which a part has come already.
#[derive(Debug)]
pub(super) struct Held {
    ahead: VecDeque<Frame>,
    inner: Reply,
    exchange: Rc<Exchange>,
    _room: Share,
}

/// Waits for an answer to come whole, or for `most` octets of it.
pub(super) async fn hold(
    response: Response<Reply>,
    most: u64,
    exchange: &Rc<Exchange>,
) -> Result<Response<Reply>, Refusal> {
    let (mut parts, mut body) = response.into_parts();
    let pass = compress::media_type(&parts.headers).is_some_and(compress::is_stream)
        || exchange.grpc.is_some()
        || exchange.method == Method::HEAD;
    if pass || !body.is_endpoints() || body.is_end_stream() || body.size_hint().lower() > most {
        return Ok(Response::from_parts(parts, body));
    }
    let worker = &exchange.client.worker;
    let memory = exchange.client.live.http.buffer_memory;
    let Some(mut room) = worker.shared.metrics.held.take(0, usize::MAX) else {
        return Ok(Response::from_parts(parts, body));
    };
    let (mut ahead, mut count, mut plain, mut fits) = (VecDeque::new(), 0u64, true, true);
    while fits && !body.is_end_stream() {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => break,
            Some(Err(BodyError::Timeout)) => return Err(Refusal::UpstreamTimeout),
            Some(Err(_)) => return Err(Refusal::UpstreamFailed),
            Some(Ok(frame)) => {
                plain &= !frame.is_trailers();
                let size = frame.data_ref().map_or(0, Bytes::len);
                count += size as u64;
                // Its memory is in use already: what does not fit is passed on as it comes.
                fits = room.grow(size, memory) && count <= most;
                ahead.push_back(frame);
            }
        }
    }
    if fits {
        worker.counters.inc(Cell::AnswerWhole);
        // The endpoint has done its part.
        exchange.release();
        if plain {
            parts.headers.remove(TRAILER);
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(count));
        }
    } else {
        worker.counters.inc(Cell::AnswerPart);
    }
    // What has come is not yet with the client.
    exchange.complete.set(false);
    exchange.bytes_out.set(0);
    let held = Held {
        ahead,
        inner: body,
        exchange: Rc::clone(exchange),
        _room: room,
    };
    Ok(Response::from_parts(parts, Reply::held(held)))
}

impl Held {
    pub(super) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    pub(super) fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.inner.is_end_stream()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let Some(frame) = self.ahead.pop_front() else {
            return Pin::new(&mut self.inner).poll_frame(cx);
        };
        let bytes_out = &self.exchange.bytes_out;
        bytes_out.set(bytes_out.get() + frame.data_ref().map_or(0, |data| data.len() as u64));
        if self.is_over() {
            self.exchange.complete.set(true);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.ahead.iter().any(Frame::is_trailers) {
            // Behind a body of known length there is no place for them.
            return SizeHint::new();
        }
        let held = self.ahead.iter().filter_map(Frame::data_ref);
        ahead(self.inner.size_hint(), held.map(|data| data.len() as u64).sum())
    }
}
