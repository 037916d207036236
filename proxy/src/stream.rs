//! A TCP connection that writes what is small in one piece: send(2) of a piece costs the kernel less than writev(2) of
//! several, and copying a few kilobytes costs next to nothing.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::tunnel::Abort;

/// Octets that are copied together at most.
const SMALL: usize = 4096;
/// Octets that are read at once of a connection that nobody watches.
const FIRST_READ: usize = 4096;

thread_local! {
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static FIRST: RefCell<[u8; FIRST_READ]> = const { RefCell::new([0; FIRST_READ]) };
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Stream(State);

#[derive(Debug)]
enum State {
    /// Accepted, and the worker's poll does not know of it: where the request has come already and the answer fits into the socket, a
    /// connection for one request never needs it, which saves two calls of the system and two wake-ups. It is read once so; what comes
    /// after that may be a long body.
    Fresh {
        stream: std::net::TcpStream,
        read: bool,
    },
    Watched(TcpStream),
    /// It could not be watched.
    Lost,
}

impl Stream {
    /// One that was just accepted.
    pub(crate) fn fresh(stream: std::net::TcpStream) -> Self {
        Self(State::Fresh { stream, read: false })
    }

    pub(crate) fn watched(stream: TcpStream) -> Self {
        Self(State::Watched(stream))
    }

    /// Whether a change of it wakes its task.
    pub(crate) fn is_watched(&self) -> bool {
        !matches!(self.0, State::Fresh { .. })
    }

    /// Has it watched from now on.
    ///
    /// # Errors
    /// When the system cannot.
    pub(crate) fn watch(&mut self) -> io::Result<&mut TcpStream> {
        if !self.is_watched()
            && let State::Fresh { stream, .. } = std::mem::replace(&mut self.0, State::Lost)
        {
            stream.set_nonblocking(true)?;
            self.0 = State::Watched(TcpStream::from_std(stream)?);
        }
        match &mut self.0 {
            State::Watched(stream) => Ok(stream),
            State::Fresh { .. } | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The socket.
    ///
    /// # Errors
    /// When it is lost.
    pub(crate) fn socket(&self) -> io::Result<SockRef<'_>> {
        match &self.0 {
            State::Fresh { stream, .. } => Ok(stream.into()),
            State::Watched(stream) => Ok(stream.into()),
            State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Our end; `None`: it is gone.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.socket()
            .and_then(|socket| socket.local_addr())
            .ok()?
            .as_socket()
    }

    /// Writes the last octets, or some of them. The kernel holds the last segment back until the connection ends, which has to follow
    /// at once: then one segment carries both.
    ///
    /// # Errors
    /// As write(2); `WouldBlock` also where it is not known yet whether the socket takes anything.
    pub(crate) fn write_last(&self, octets: &[u8]) -> io::Result<usize> {
        let send = || self.socket()?.send_with_flags(octets, libc::MSG_MORE | NOW);
        match &self.0 {
            State::Watched(stream) => stream.try_io(Interest::WRITABLE, send),
            State::Fresh { .. } | State::Lost => send(),
        }
    }
}

/// Whatever mode the socket is in.
const NOW: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::Fresh {
            stream,
            read: read @ false,
        } = &mut self.0
        {
            *read = true;
            // What has come by now is a request of some hundred octets, if anything.
            let done = FIRST.with_borrow_mut(|first| {
                let room = first.len().min(buf.remaining());
                let room = first.get_mut(..room).unwrap_or_default();
                let count = recv(stream.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT)?;
                buf.put_slice(room.get(..count).unwrap_or_default());
                Ok(())
            });
            match done {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(()) => return Poll::Ready(Ok(())),
            }
        }
        Pin::new(self.watch()?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let State::Fresh { stream, .. } = &self.0 {
            match SockRef::from(stream).send_with_flags(buf, NOW) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                sent => return Poll::Ready(sent),
            }
        }
        Pin::new(self.watch()?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pieces = bufs.iter().filter(|piece| !piece.is_empty());
        match (pieces.next(), pieces.next()) {
            (None, _) => Poll::Ready(Ok(0)),
            (Some(piece), None) => self.poll_write(cx, piece),
            _ if bufs.iter().map(|piece| piece.len()).sum::<usize>() <= SMALL => {
                JOINED.with_borrow_mut(|joined| {
                    joined.clear();
                    for piece in bufs {
                        joined.extend_from_slice(piece);
                    }
                    self.poll_write(cx, joined)
                })
            }
            _ => Pin::new(self.watch()?).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket holds nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = self.socket().and_then(|socket| socket.shutdown(Shutdown::Write));
        Poll::Ready(match shut {
            // The other side has ended it already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        })
    }
}

/// A connection to an endpoint: TCP, or TLS over it.
#[derive(Debug)]
pub(crate) enum EndpointStream {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

impl EndpointStream {
    /// Whether nothing has come that was not asked for, the end neither, as far as the worker has been told: no call of
    /// the system where nothing has.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self)
            .poll_read(&mut cx, &mut ReadBuf::new(&mut [0]))
            .is_pending()
    }

    /// As `is_quiet`, but asks the system.
    pub(crate) fn is_open(&mut self) -> bool {
        let stream = match &*self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        let peeked = stream
            .socket()
            .and_then(|socket| socket.peek(&mut [MaybeUninit::uninit()]));
        match peeked {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            // A TLS session has something to say by itself.
            Ok(count) => count > 0 && matches!(self, Self::Tls(_)),
        }
    }
}

impl AsyncRead for EndpointStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for EndpointStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
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

impl Abort for EndpointStream {
    fn abort(&self) {
        match self {
            Self::Plain(stream) => stream.abort(),
            Self::Tls(stream) => stream.get_ref().0.abort(),
        }
    }
}

impl Abort for Stream {
    fn abort(&self) {
        if let Ok(socket) = self.socket() {
            // It may be gone already.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A connection that nobody watches, and its client.
    async fn accepted() -> (Stream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Stream::fresh(listener.accept().unwrap().0), client)
    }

    #[tokio::test]
    async fn one_request_needs_no_watch_and_more_do() {
        let (mut stream, mut client) = accepted().await;
        client.write_all(b"one").await.unwrap();
        // It waits until they are there: the socket is one that blocks.
        stream
            .socket()
            .unwrap()
            .peek(&mut [MaybeUninit::uninit()])
            .unwrap();
        let mut octets = [0; 64];
        assert_eq!(stream.read(&mut octets).await.unwrap(), 3);
        assert!(!stream.is_watched());
        stream.write_all(b"answer").await.unwrap();
        assert!(!stream.is_watched());
        client.read_exact(&mut octets[..6]).await.unwrap();
        client.write_all(b"another").await.unwrap();
        assert_eq!(stream.read(&mut octets).await.unwrap(), 7);
        assert!(stream.is_watched());
        client.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut octets).await.unwrap(), 0);
        assert_eq!(stream.local_address(), client.peer_addr().ok());
    }

    #[tokio::test]
    async fn what_has_not_come_wakes_its_reader() {
        let (mut stream, mut client) = accepted().await;
        let mut octets = [0; 64];
        let mut reading = Box::pin(stream.read(&mut octets));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(reading.as_mut().poll(&mut cx).is_pending());
        client.write_all(b"late").await.unwrap();
        assert_eq!(reading.await.unwrap(), 4);
        assert!(stream.is_watched());
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_goes_on() {
        let (mut stream, mut client) = accepted().await;
        let octets: Vec<u8> = (0..8_000_000).map(|n: u32| (n % 251) as u8).collect();
        let mut got = Vec::new();
        let (sent, read) = tokio::join!(
            async {
                stream.write_all(&octets).await.unwrap();
                stream.shutdown().await.unwrap();
                stream.is_watched()
            },
            client.read_to_end(&mut got)
        );
        assert!(sent, "it did not fit");
        read.unwrap();
        assert!(got == octets);
    }

    #[tokio::test]
    async fn the_last_octets_go_with_the_end() {
        let (stream, mut client) = accepted().await;
        assert_eq!(stream.write_last(b"end").unwrap(), 3);
        drop(stream);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"end");
        let (stream, mut client) = accepted().await;
        stream.abort();
        drop(stream);
        assert!(
            client
                .read_u8()
                .await
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
        );
    }

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let mut stream = Stream::watched(stream);
        for lengths in [
            &[][..],
            &[0, 0],
            &[5],
            &[0, 7, 0],
            &[3, 4, 5],
            &[4000, 97],
            &[9000, 1],
        ] {
            let octets: Vec<u8> = (0..lengths.iter().sum::<usize>())
                .map(|n| (n % 251) as u8)
                .collect();
            let mut rest = &octets[..];
            let pieces: Vec<IoSlice<'_>> = lengths
                .iter()
                .map(|length| {
                    let (piece, after) = rest.split_at(*length);
                    rest = after;
                    IoSlice::new(piece)
                })
                .collect();
            let written = stream.write_vectored(&pieces).await.unwrap();
            assert!(written > 0 || octets.is_empty(), "{lengths:?}");
            let mut got = vec![0; written];
            other.read_exact(&mut got).await.unwrap();
            assert_eq!(got, octets[..written], "{lengths:?}");
        }
    }
}
