//! Bodies on their way through: never held whole, timed, counted.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::exchange::{Exchange, Fault};
use crate::upstream::Lease;

/// What a body gives when it is asked; `None` is its end.
pub(crate) type Piece = Option<Result<Frame<Bytes>, BodyError>>;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    #[error("nothing came in time")]
    Timeout,
}

/// The body of a request as its client sends it, by the protocol of the client.
#[derive(Debug)]
pub(crate) enum ClientBody {
    Hyper(Incoming),
}

/// The body of an answer as its endpoint sends it, by the protocol of the endpoint.
#[derive(Debug)]
pub(crate) enum EndpointBody {
    Hyper(Incoming),
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        match self.get_mut() {
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
        }
    }
}

impl Body for EndpointBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        match self.get_mut() {
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
        }
    }
}

/// A timer that exists only while something is awaited.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            sleep: None,
            waiting: false,
        }
    }

    fn calm(&mut self) {
        self.waiting = false;
    }

    /// Ready when the wait that began with the first call after [`Patience::calm`] is too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            let due = Instant::now() + self.limit;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(due),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(due))),
            }
        }
        self.sleep
            .as_mut()
            .map_or(Poll::Ready(()), |sleep| sleep.as_mut().poll(cx))
    }
}

/// A request body on its way to an endpoint.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Stream(Box<Upload>),
}

#[derive(Debug)]
pub(crate) struct Upload {
    body: ClientBody,
    exchange: Rc<Exchange>,
    patience: Patience,
}

impl RequestBody {
    pub(crate) fn new(body: ClientBody, exchange: &Rc<Exchange>, limit: Duration) -> Self {
        if body.is_end_stream() {
            exchange.body_read.set(true);
            return Self::Empty;
        }
        Self::Stream(Box::new(Upload {
            body,
            exchange: Rc::clone(exchange),
            patience: Patience::new(limit),
        }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Stream(upload) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let exchange = &upload.exchange;
        match Pin::new(&mut upload.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                upload.patience.calm();
                exchange.body_last.set(Instant::now());
                match frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            exchange.bytes_in.set(exchange.bytes_in.get() + data.len() as u64);
                        }
                        if upload.body.is_end_stream() {
                            exchange.body_read.set(true);
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        exchange.blame(Fault::Client);
                        Poll::Ready(Some(Err(error)))
                    }
                    None => {
                        exchange.body_read.set(true);
                        Poll::Ready(None)
                    }
                }
            }
            Poll::Pending => {
                ready!(upload.patience.poll(cx));
                exchange.blame(Fault::Client);
                Poll::Ready(Some(Err(BodyError::Timeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(upload) => upload.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(upload) => upload.body.size_hint(),
        }
    }
}

/// A response body on its way to a client. It keeps the exchange alive.
#[derive(Debug)]
pub(crate) struct Reply {
    kind: Kind,
    exchange: Option<Rc<Exchange>>,
}

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Stream(Box<Download>),
}

#[derive(Debug)]
struct Download {
    body: EndpointBody,
    /// A piece that came with the header.
    first: Option<Piece>,
    lease: Option<Lease>,
    /// Until when the piece that is awaited may take.
    due: Option<Instant>,
    limit: Duration,
    /// A piece was handed over and the next one not asked for yet.
    handed: bool,
}

impl Reply {
    /// A body of the box's own.
    pub(crate) fn full(text: Bytes, exchange: Rc<Exchange>) -> Self {
        let kind = if text.is_empty() {
            exchange.complete.set(true);
            Kind::Full(None)
        } else {
            Kind::Full(Some(text))
        };
        Self {
            kind,
            exchange: Some(exchange),
        }
    }

    /// The body of an upgrade's answer; the exchange lives on in the tunnel.
    pub(crate) fn none() -> Self {
        Self {
            kind: Kind::Full(None),
            exchange: None,
        }
    }

    /// A body from an endpoint, over `lease`, which is kept for others when the body has ended well.
    /// `first` was taken out of it already.
    pub(crate) fn stream(
        body: EndpointBody,
        first: Option<Piece>,
        lease: Lease,
        exchange: Rc<Exchange>,
    ) -> Self {
        let limit = exchange.client.live.timeouts.response_read;
        let mut download = Box::new(Download {
            body,
            first,
            lease: Some(lease),
            due: None,
            limit,
            handed: false,
        });
        if download.first.is_none() && download.body.is_end_stream() {
            download.finish(&exchange);
        }
        Self {
            kind: Kind::Stream(download),
            exchange: Some(exchange),
        }
    }
}

impl Download {
    /// The next piece, an error when it does not come in time.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = match self.first.take() {
            Some(piece) => Poll::Ready(piece),
            None => Pin::new(&mut self.body).poll_frame(cx),
        };
        let Some(lease) = &self.lease else {
            return piece;
        };
        if piece.is_ready() {
            self.due = None;
            lease.wire.moved();
            return piece;
        }
        let due = *self.due.get_or_insert_with(|| Instant::now() + self.limit);
        ready!(lease.wire.poll_timer(cx, due));
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        let Some(Some(Ok(first))) = &self.first else {
            return rest;
        };
        let ahead = first.data_ref().map_or(0, |data| data.len() as u64);
        let mut whole = SizeHint::new();
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(ahead));
        }
        whole.set_lower(rest.lower().saturating_add(ahead));
        whole
    }

    fn finish(&mut self, exchange: &Exchange) {
        exchange.complete.set(true);
        // A connection that still waits for the rest of a request cannot take another one.
        if let Some(lease) = self.lease.take()
            && exchange.body_read.get()
        {
            let live = &exchange.client.live;
            lease.keep(live.timeouts.upstream_idle, live.http.max_idle_per_endpoint);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(exchange) = &this.exchange else {
            return Poll::Ready(None);
        };
        let count = |data: &Bytes| {
            exchange
                .bytes_out
                .set(exchange.bytes_out.get() + data.len() as u64)
        };
        match &mut this.kind {
            Kind::Full(text) => {
                exchange.complete.set(true);
                Poll::Ready(text.take().map(|text| {
                    count(&text);
                    Ok(Frame::data(text))
                }))
            }
            Kind::Stream(download) => {
                let activity = &exchange.client.activity;
                activity.pulled(std::mem::take(&mut download.handed));
                let piece = ready!(download.poll(cx));
                match piece {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            count(data);
                        }
                        if download.body.is_end_stream() {
                            download.finish(exchange);
                        } else {
                            download.handed = true;
                            activity.handed();
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        exchange.blame(Fault::Upstream);
                        exchange.endpoint_failed();
                        Poll::Ready(Some(Err(error)))
                    }
                    None => {
                        download.finish(exchange);
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(text) => text.is_none(),
            Kind::Stream(download) => download.first.is_none() && download.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Kind::Stream(download) => download.size_hint(),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let (Kind::Stream(download), Some(exchange)) = (&mut self.kind, &self.exchange) {
            exchange
                .client
                .activity
                .pulled(std::mem::take(&mut download.handed));
        }
    }
}
