//! An answer that is compressed on its way to the client, and the memory that is set aside for it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Method, StatusCode};
use sekisho_config::model::Encoding;

use super::body::{Piece, Reply};
use super::coder::Coder;
use super::exchange::{Exchange, Fault};
use crate::budget::Share;
use crate::compress::{self, Change, Encoder};
use crate::http::frame::Body;
use crate::message::Response;
use crate::metrics::Cell;

/// A body on its way through an encoder.
#[derive(Debug)]
pub(super) struct Coded {
    inner: Reply,
    coder: Coder,
    exchange: Rc<Exchange>,
    _room: Share,
}

/// Compresses an answer where that may be done and is worth it; `encoding` is what the client prefers.
pub(super) fn compress(
    response: Response<Reply>,
    encoding: Option<Encoding>,
    exchange: &Rc<Exchange>,
) -> Response<Reply> {
    let (mut parts, body) = response.into_parts();
    // Nothing comes, although nothing forbids it.
    let empty =
        body.is_end_stream() && exchange.method != Method::HEAD && parts.status != StatusCode::NOT_MODIFIED;
    if !body.is_endpoints() || empty {
        return Response::from_parts(parts, body);
    }
    let worker = &exchange.client.worker;
    let http = &exchange.client.live.http;
    let target = exchange.target.borrow();
    let filters = target.as_ref().and_then(|target| target.filters.as_deref());
    let mut taken = None;
    let change = compress::judge(
        compress::Wish::new(filters.map(|filters| filters.wished()), &http.compression),
        &exchange.method,
        parts.status,
        &mut parts.headers,
        encoding,
        |encoding, length| {
            let bytes = Encoder::memory(encoding, length);
            let room = worker
                .shared
                .metrics
                .compressing
                .take(bytes, http.compression_memory);
            let encoder = room.and_then(|room| Some((Encoder::new(encoding, length).ok()?, room)));
            if encoder.is_none() {
                worker.counters.inc(Cell::CompressionNoRoom);
            }
            taken = encoder;
            taken.is_some()
        },
    );
    let body = match (change, taken) {
        (Change::Encode(encoding, _), Some((encoder, room))) => {
            worker.counters.inc(match encoding {
                Encoding::Gzip => Cell::CompressedGzip,
                Encoding::Brotli => Cell::CompressedBrotli,
                Encoding::Zstd => Cell::CompressedZstd,
            });
            // What the endpoint has said is whole is not yet with the client.
            exchange.complete.set(false);
            Reply::coded(Coded {
                inner: body,
                coder: Coder::new(encoder),
                exchange: Rc::clone(exchange),
                _room: room,
            })
        }
        _ => body,
    };
    drop(target);
    Response::from_parts(parts, body)
}

impl Coded {
    pub(super) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    pub(super) fn is_over(&self) -> bool {
        self.coder.is_over()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        let exchange = &self.exchange;
        // What the client gets counts, not what the endpoint has sent.
        let (sent, taken) = (exchange.bytes_out.get(), self.coder.taken);
        let inner = &mut self.inner;
        let piece = self
            .coder
            .poll(cx, &mut |cx| Pin::new(&mut *inner).poll_frame(cx));
        exchange.bytes_out.set(sent);
        exchange.complete.set(self.coder.is_over());
        let counters = &exchange.client.worker.counters;
        counters.add(Cell::CompressionIn, self.coder.taken - taken);
        match &piece {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    exchange.bytes_out.set(sent + data.len() as u64);
                    counters.add(Cell::CompressionOut, data.len() as u64);
                }
            }
            // The first to blame counts: an endpoint that broke off was blamed already.
            Poll::Ready(Some(Err(_))) => exchange.blame(Fault::Proxy),
            _ => {}
        }
        piece
    }
}
