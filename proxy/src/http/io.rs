//! The client's connection, watched: what it is doing and since when, so that one timer serves every time-out.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use sekisho_config::model::Timeouts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::connection::Client;
use crate::clock;
use crate::stream::Stream;
use crate::tunnel::Abort;

/// TCP, or TLS over it.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

/// What a client connection is doing.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    http1: bool,
    phase: Cell<u8>,
    /// Milliseconds after `start` at which the phase began.
    since: Cell<u64>,
    /// Milliseconds after `start`, plus one, at which writing began to stall; 0: it does not.
    stalled: Cell<u64>,
    pub(crate) in_flight: Cell<u32>,
    pub(crate) requests: Cell<u64>,
    /// The connection is to be closed when its exchanges have ended.
    pub(crate) closing: Cell<bool>,
}

/// How long a connection that has said nothing is kept while the box is stopping.
pub(crate) const ENDING_FRESH: Duration = Duration::from_secs(1);

/// Phases of [`Activity`].
const FRESH: u8 = 0;
const IDLE: u8 = 2;
const BUSY: u8 = 3;

/// Which wait has ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expired {
    /// Nothing was sent since the connection or the last exchange.
    Idle,
    /// The client does not read.
    Write,
}

impl Activity {
    pub(crate) fn new(http1: bool) -> Self {
        Self {
            start: Instant::now(),
            http1,
            phase: Cell::new(FRESH),
            since: Cell::new(0),
            stalled: Cell::new(0),
            in_flight: Cell::new(0),
            requests: Cell::new(0),
            closing: Cell::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.start)
    }

    pub(crate) fn request_began(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.requests.set(self.requests.get() + 1);
        self.phase.set(BUSY);
    }

    pub(crate) fn request_ended(&self) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 {
            self.phase.set(IDLE);
            self.since.set(self.now());
        }
    }

    /// Whether exchanges run that may end without waking the connection: streams of HTTP/2.
    pub(crate) fn has_streams(&self) -> bool {
        !self.http1 && self.in_flight.get() > 0
    }

    /// When the present wait is too long, and which one it is. `ending`: no further request is wanted.
    pub(crate) fn deadline(&self, timeouts: &Timeouts, ending: bool) -> Option<(Instant, Expired)> {
        let at = |since: u64, limit: Duration| self.start + Duration::from_millis(since) + limit;
        let stalled = self
            .stalled
            .get()
            .checked_sub(1)
            .map(|since| (at(since, timeouts.response_write), Expired::Write));
        let since = self.since.get();
        let phase = match self.phase.get() {
            // A client that has just connected gets a moment to say what it wants, even when the box is stopping.
            FRESH if ending => Some((
                at(since, timeouts.request_header.min(ENDING_FRESH)),
                Expired::Idle,
            )),
            FRESH => Some((at(since, timeouts.request_header), Expired::Idle)),
            IDLE => Some((at(since, timeouts.keep_alive), Expired::Idle)),
            _ => None,
        };
        match (stalled, phase) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    fn wrote(&self, pending: bool) {
        let stalled = self.stalled.get() != 0;
        if pending && !stalled {
            self.stalled.set(self.now().saturating_add(1));
        } else if !pending && stalled {
            self.stalled.set(0);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Abort for ClientStream {
    fn abort(&self) {
        match self {
            Self::Plain(stream) => stream.abort(),
            Self::Tls(stream) => stream.get_ref().0.abort(),
        }
    }
}

/// A client's stream that notes in its [`Activity`] when writing stalls.
#[derive(Debug)]
pub(crate) struct ClientIo {
    stream: ClientStream,
    client: Rc<Client>,
}

impl ClientIo {
    pub(crate) fn new(stream: ClientStream, client: Rc<Client>) -> Self {
        Self { stream, client }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.client.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.client.activity.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.client.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
