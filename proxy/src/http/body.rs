//! Bodies on their way through: never held whole, timed, counted.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::call::Call;
use super::coded::Coded;
use super::exchange::{Exchange, Fault};
use super::forward::Mirror;
use super::held::Held;
use super::http2::StreamRequest;
use super::http3::Http3Request;
use super::patience::Patience;
use super::respond::Respond;
use super::server::Http1Body;
use super::stream_body::StreamBody;
use super::upgrade::Switched;
use crate::clock;
use crate::h1::body::BadBody;
use crate::health::Sign;
use crate::http::frame::{Body, Frame, SizeHint};
use crate::splice::Pipe;
use crate::stream::EndpointStream;
use crate::upstream::Lease;
use crate::wire::GRACE;

/// What a body gives when it is asked; `None` is its end.
pub(crate) type Piece = Option<Result<Frame, BodyError>>;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The client has reset the stream, or its connection has ended.
    #[error("{0}")]
    Gone(#[from] crate::h2::Gone),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Its framing is broken, or its connection ended before it did.
    #[error("{0}")]
    Malformed(#[from] BadBody),
    #[error("it is not as long as its length says")]
    Length,
    #[error("it is larger than http.max_body_bytes")]
    TooLarge,
    #[error("the route of its endpoint was withdrawn")]
    Unrouted,
    #[error("nothing came in time")]
    Timeout,
}

/// The body of a request as its client sends it, by the protocol of the client.
#[derive(Debug)]
pub(crate) enum ClientBody {
    Http1(Http1Body),
    Http2(StreamRequest),
    Http3(Box<Http3Request>),
    /// There is none: what follows the header is no body.
    Empty,
    /// It has come already.
    Whole(Option<Bytes>),
}

/// The body of an answer as its endpoint sends it, by the protocol of the endpoint.
#[derive(Debug)]
pub(crate) enum EndpointBody {
    Http1(Box<Call>),
    Http2(Box<StreamBody>),
}

impl EndpointBody {
    /// The connection, when another request may go over it.
    pub(crate) fn reclaim(&mut self) -> Option<EndpointStream> {
        match self {
            Self::Http1(call) => call.reclaim(),
            Self::Http2(_) => None,
        }
    }
}

impl ClientBody {
    /// Where interim answers go, if a stream carries the request.
    pub(crate) fn respond(&self) -> Option<Respond> {
        match self {
            Self::Http1(_) | Self::Empty | Self::Whole(_) => None,
            Self::Http2(body) => Some(Respond::Http2(body.respond())),
            Self::Http3(body) => Some(Respond::Http3(body.respond())),
        }
    }

    /// Whether the client would send if it might: it is not the one that is waited for then.
    fn is_held_up(&self) -> bool {
        matches!(self, Self::Http2(body) if body.is_shut())
    }
}

impl Body for ClientBody {
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        match self.get_mut() {
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
            Self::Http3(body) => body.poll_frame(cx),
            Self::Empty => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Http3(body) => body.is_end_stream(),
            Self::Empty => true,
            Self::Whole(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Http3(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
        }
    }
}

impl Body for EndpointBody {
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        match self.get_mut() {
            Self::Http1(call) => Pin::new(&mut **call).poll_frame(cx),
            Self::Http2(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// Until when a direction may rest because the other one moved at `other`.
fn still(other: Instant, limit: Duration) -> Option<Instant> {
    Some(other + limit).filter(|due| *due > Instant::now())
}

/// A request body on its way to an endpoint.
#[derive(Debug, Default)]
pub(crate) enum RequestBody {
    #[default]
    Empty,
    Stream(Box<Upload>),
}

#[derive(Debug)]
pub(crate) struct Upload {
    body: ClientBody,
    exchange: Rc<Exchange>,
    limit: Duration,
    patience: Patience,
    /// A piece that was taken and could not be sent.
    unread: Option<Bytes>,
    /// A copy that is made of it.
    mirror: Option<Box<Mirror>>,
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
            limit,
            patience: Patience::new(limit),
            unread: None,
            mirror: None,
        }))
    }

    /// Has a copy made of it, which is sent when it has come whole.
    pub(crate) fn mirror(&mut self, mirror: Box<Mirror>) {
        match self {
            Self::Empty => mirror.send(),
            Self::Stream(upload) => upload.mirror = Some(mirror),
        }
    }

    /// Takes a piece back that could not be sent; it comes first again.
    pub(crate) fn unread(&mut self, piece: Bytes) {
        if let Self::Stream(upload) = self {
            upload.unread = Some(piece);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Body for RequestBody {
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        let Self::Stream(upload) = self.get_mut() else {
            return Poll::Ready(None);
        };
        if let Some(piece) = upload.unread.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let exchange = &upload.exchange;
        let limit = upload.limit;
        match Pin::new(&mut upload.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                upload.patience.calm();
                exchange.body_last.set(Instant::now());
                match frame {
                    Some(Ok(mut frame)) => {
                        if let Some(trailers) = frame.trailers_mut() {
                            exchange.clean_trailers(trailers);
                        }
                        if let (Some(data), Some(mirror)) = (frame.data_ref(), &mut upload.mirror)
                            && !mirror.take(data)
                        {
                            upload.mirror = None;
                        }
                        // What is whole was counted when it came.
                        if let Some(data) = frame.data_ref()
                            && !matches!(upload.body, ClientBody::Whole(_))
                        {
                            let count = exchange.bytes_in.get() + data.len() as u64;
                            exchange.bytes_in.set(count);
                            let most = exchange.max_body_bytes();
                            if most != 0 && count > most {
                                exchange.blame(Fault::Proxy);
                                return Poll::Ready(Some(Err(BodyError::TooLarge)));
                            }
                        }
                        let over = upload.body.is_end_stream();
                        if over {
                            exchange.body_read.set(true);
                        }
                        if over || frame.is_trailers() {
                            upload.mirror.take().into_iter().for_each(Mirror::send);
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        exchange.blame(Fault::Client);
                        Poll::Ready(Some(Err(error)))
                    }
                    None => {
                        exchange.body_read.set(true);
                        upload.mirror.take().into_iter().for_each(Mirror::send);
                        Poll::Ready(None)
                    }
                }
            }
            Poll::Pending => {
                // Once it is answered, there may be nothing to say for as long as the answer may take.
                let body = &upload.body;
                let longer = || match exchange.answer_last.get() {
                    _ if body.is_held_up() => Some(Instant::now() + limit),
                    Some(moved) => still(moved, exchange.response_read_wait()),
                    None => None,
                };
                ready!(upload.patience.poll(cx, exchange.earned_wait(), longer));
                exchange.blame(Fault::Client);
                Poll::Ready(Some(Err(BodyError::Timeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(upload) => upload.unread.is_none() && upload.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(upload) => {
                let held = upload.unread.as_ref().map_or(0, |piece| piece.len() as u64);
                ahead(upload.body.size_hint(), held)
            }
        }
    }
}

/// The size of a body of which `count` octets more stand ahead.
pub(super) fn ahead(rest: SizeHint, count: u64) -> SizeHint {
    let mut whole = SizeHint::new();
    if let Some(upper) = rest.upper() {
        whole.set_upper(upper.saturating_add(count));
    }
    whole.set_lower(rest.lower().saturating_add(count));
    whole
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
    Switched(Box<Switched>),
    Coded(Box<Coded>),
    Held(Box<Held>),
}

#[derive(Debug)]
struct Download {
    body: EndpointBody,
    /// A piece that came with the header.
    first: Option<Piece>,
    lease: Option<Lease>,
    /// Until when the piece that is awaited may take.
    due: Option<Instant>,
    /// Until when something must come although the endpoint is unrouted.
    grace: Option<Instant>,
    limit: Duration,
    /// When the whole exchange has to be over.
    deadline: Option<Instant>,
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

    /// A body that is compressed on its way.
    pub(super) fn coded(coded: Coded) -> Self {
        Self {
            kind: Kind::Coded(Box::new(coded)),
            exchange: None,
        }
    }

    /// A body of which a part has come already.
    pub(super) fn held(held: Held) -> Self {
        Self {
            kind: Kind::Held(Box::new(held)),
            exchange: None,
        }
    }

    /// Whether it comes from an endpoint as it is, with something in it or not.
    pub(super) fn is_endpoints(&self) -> bool {
        matches!(self.kind, Kind::Stream(_) | Kind::Held(_))
    }

    /// The body of an upgrade's answer; the exchange lives on in the tunnel.
    pub(crate) fn switched(switched: Switched) -> Self {
        Self {
            kind: Kind::Switched(Box::new(switched)),
            exchange: None,
        }
    }

    /// What was handed over last did not reach the client.
    pub(crate) fn was_cut(&self) {
        let exchange = match &self.kind {
            Kind::Coded(coded) => Some(coded.exchange()),
            Kind::Held(held) => Some(held.exchange()),
            _ => self.exchange.as_deref(),
        };
        if let Some(exchange) = exchange {
            exchange.complete.set(false);
        }
    }

    /// The endpoint's side of an upgrade, to be joined with the client's.
    pub(crate) fn into_switched(mut self) -> Option<Switched> {
        match std::mem::replace(&mut self.kind, Kind::Full(None)) {
            Kind::Switched(switched) => Some(*switched),
            _ => None,
        }
    }

    /// Whether the box has written it itself, so that nobody reads the request's body any more.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Full(_))
    }

    /// Whether the rest of it is so long, and may go on without being looked at.
    pub(crate) fn is_movable(&self, left: u64) -> bool {
        // What is made of a body here, or is no body, has to be looked at.
        let Kind::Stream(download) = &self.kind else {
            return false;
        };
        match &download.body {
            EndpointBody::Http1(call) => download.first.is_none() && call.is_movable(left),
            EndpointBody::Http2(_) => false,
        }
    }

    /// Takes what has come of a body that is movable into a pipe, which must be empty. Gives the number of octets.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
    ) -> Poll<Result<usize, BodyError>> {
        let (Kind::Stream(download), Some(exchange)) = (&mut self.kind, &self.exchange) else {
            return Poll::Ready(Err(BodyError::Length));
        };
        let moved = ready!(download.poll_move(cx, pipe, exchange));
        match &moved {
            Ok(count) => {
                exchange.bytes_out.set(exchange.bytes_out.get() + *count as u64);
                if download.body.is_end_stream() {
                    download.finish(exchange);
                }
            }
            Err(error) => broke_off(exchange, error),
        }
        Poll::Ready(moved)
    }

    /// A body from an endpoint, over `lease`, which is kept for others when the body has ended well.
    /// `first` was taken out of it already.
    pub(crate) fn stream(
        body: EndpointBody,
        first: Option<Piece>,
        lease: Lease,
        exchange: Rc<Exchange>,
    ) -> Self {
        let limit = exchange.response_read_wait();
        let mut download = Box::new(Download {
            body,
            first,
            lease: Some(lease),
            due: None,
            grace: None,
            limit,
            deadline: exchange.deadline,
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

/// An answer ended before its end, by its endpoint.
fn broke_off(exchange: &Exchange, error: &BodyError) {
    exchange.blame(Fault::Upstream);
    if !exchange.is_late() {
        exchange.endpoint_failed(match error {
            BodyError::Timeout => Sign::Late,
            _ => Sign::Broken,
        });
    }
}

impl Download {
    /// The next piece, an error when it does not come in time.
    fn poll(&mut self, cx: &mut Context<'_>, exchange: &Exchange) -> Poll<Piece> {
        let piece = match self.first.take() {
            Some(piece) => Poll::Ready(piece),
            None => Pin::new(&mut self.body).poll_frame(cx),
        };
        if piece.is_ready() {
            self.moved(exchange);
            return piece;
        }
        self.poll_late(cx, exchange).map(|late| Some(Err(late)))
    }

    /// As `poll`, of a body that [`Reply::is_movable`].
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &mut Pipe,
        exchange: &Exchange,
    ) -> Poll<Result<usize, BodyError>> {
        let EndpointBody::Http1(call) = &mut self.body else {
            return Poll::Ready(Err(BodyError::Length));
        };
        let count = call.poll_move(cx, pipe);
        if count.is_ready() {
            self.moved(exchange);
            return count;
        }
        self.poll_late(cx, exchange).map(Err)
    }

    /// Something came.
    fn moved(&mut self, exchange: &Exchange) {
        exchange.answer_last.set(Some(clock::now()));
        if let Some(lease) = &self.lease {
            self.due = None;
            self.grace = None;
            lease.wire.moved();
        }
    }

    /// Ready when what is awaited does not come in time.
    fn poll_late(&mut self, cx: &mut Context<'_>, exchange: &Exchange) -> Poll<BodyError> {
        let Some(lease) = &self.lease else {
            return Poll::Pending;
        };
        let mut due = *self.due.get_or_insert_with(|| clock::now() + self.limit);
        due = self.deadline.map_or(due, |deadline| deadline.min(due));
        loop {
            if self.grace.is_none() && lease.wire.poll_unrouted(cx).is_ready() {
                self.grace = Some(Instant::now() + GRACE);
            }
            let Some(grace) = self.grace.filter(|grace| *grace < due) else {
                ready!(lease.wire.poll_timer(cx, due));
                let later = still(exchange.body_last.get(), self.limit);
                let Some(later) = later.filter(|_| self.deadline.is_none_or(|deadline| due < deadline))
                else {
                    return Poll::Ready(BodyError::Timeout);
                };
                self.due = Some(later);
                due = self.deadline.map_or(later, |deadline| deadline.min(later));
                continue;
            };
            ready!(lease.wire.poll_timer(cx, grace));
            if lease.wire.is_unrouted_still() {
                return Poll::Ready(BodyError::Unrouted);
            }
            self.grace = None;
        }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        let Some(Some(Ok(first))) = &self.first else {
            return rest;
        };
        ahead(rest, first.data_ref().map_or(0, |data| data.len() as u64))
    }

    fn finish(&mut self, exchange: &Exchange) {
        exchange.complete.set(true);
        // A connection that still waits for the rest of a request cannot take another one.
        if let Some(lease) = self.lease.take()
            && exchange.body_read.get()
            && let Some(stream) = self.body.reclaim()
        {
            let live = &exchange.client.live;
            lease.keep(
                stream,
                live.timeouts.upstream_idle,
                live.http.max_idle_per_endpoint,
            );
        }
    }
}

impl Body for Reply {
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Piece> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Coded(coded) => return coded.poll(cx),
            Kind::Held(held) => return held.poll(cx),
            _ => {}
        }
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
            Kind::Switched(_) | Kind::Coded(_) | Kind::Held(_) => Poll::Ready(None),
            Kind::Stream(download) => {
                let piece = ready!(download.poll(cx, exchange));
                match piece {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            count(data);
                        }
                        if download.body.is_end_stream() {
                            download.finish(exchange);
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        broke_off(exchange, &error);
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
            Kind::Switched(_) => true,
            Kind::Coded(coded) => coded.is_over(),
            Kind::Held(held) => held.is_over(),
            Kind::Stream(download) => download.first.is_none() && download.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Kind::Switched(_) => SizeHint::with_exact(0),
            Kind::Coded(_) => SizeHint::new(),
            Kind::Held(held) => held.size_hint(),
            Kind::Stream(download) => download.size_hint(),
        }
    }
}
