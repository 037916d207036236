//! The client's connection, watched: what it is doing and since when, so that one timer serves every time-out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use sekisho_config::model::Timeouts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use crate::clock;
use crate::stream::Stream;
use crate::tunnel::Abort;

/// TCP, or TLS over it.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

/// What a client connection is doing. The atomics are written by one thread; they are atomics because hyper wants the
/// stream to be `Send` for upgrades.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    http1: bool,
    phase: AtomicU8,
    /// Milliseconds after `start` at which the phase began.
    since: AtomicU64,
    /// Milliseconds after `start`, plus one, at which writing began to stall; 0: it does not.
    stalled: AtomicU64,
    pub(crate) in_flight: AtomicU32,
    pub(crate) requests: AtomicU64,
    /// The connection is to be closed when its exchanges have ended.
    pub(crate) closing: AtomicBool,
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
    pub(crate) fn new(http1: bool) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            http1,
            phase: AtomicU8::new(FRESH),
            since: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.start)
    }

    pub(crate) fn request_began(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.phase.store(BUSY, Relaxed);
    }

    pub(crate) fn request_ended(&self) {
        if self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.phase.store(IDLE, Relaxed);
            self.since.store(self.now(), Relaxed);
        }
    }

    /// Whether exchanges run that may end without waking the connection: streams of HTTP/2.
    pub(crate) fn has_streams(&self) -> bool {
        !self.http1 && self.in_flight.load(Relaxed) > 0
    }

    /// When the present wait is too long, and which one it is. `ending`: no further request is wanted.
    pub(crate) fn deadline(&self, timeouts: &Timeouts, ending: bool) -> Option<(Instant, Expired)> {
        let at = |since: u64, limit: Duration| self.start + Duration::from_millis(since) + limit;
        let stalled = self
            .stalled
            .load(Relaxed)
            .checked_sub(1)
            .map(|since| (at(since, timeouts.response_write), Expired::Write));
        let since = self.since.load(Relaxed);
        let phase = match self.phase.load(Relaxed) {
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
        let stalled = self.stalled.load(Relaxed) != 0;
        if pending && !stalled {
            self.stalled.store(self.now().saturating_add(1), Relaxed);
        } else if !pending && stalled {
            self.stalled.store(0, Relaxed);
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
    activity: Arc<Activity>,
}

impl ClientIo {
    pub(crate) fn new(stream: ClientStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
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
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.wrote(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
