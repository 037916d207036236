//! A TCP connection that writes what is small in one piece: send(2) of a piece costs the kernel less than writev(2) of
//! several, and copying a few kilobytes costs next to nothing.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use nix::libc;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::tunnel::Abort;

/// Octets that are copied together at most.
const SMALL: usize = 4096;

thread_local! {
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Stream(pub(crate) TcpStream);

impl Stream {
    /// Writes the last octets, or some of them. The kernel holds the last segment back until the connection ends, which has to follow
    /// at once: then one segment carries both.
    ///
    /// # Errors
    /// As write(2); `WouldBlock` also where it is not known yet whether the socket takes anything.
    pub(crate) fn write_last(&self, octets: &[u8]) -> io::Result<usize> {
        self.0.try_io(Interest::WRITABLE, || {
            SockRef::from(&self.0).send_with_flags(octets, libc::MSG_MORE | libc::MSG_NOSIGNAL)
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        let mut pieces = bufs.iter().filter(|piece| !piece.is_empty());
        match (pieces.next(), pieces.next()) {
            (None, _) => stream.poll_write(cx, &[]),
            (Some(piece), None) => stream.poll_write(cx, piece),
            _ if bufs.iter().map(|piece| piece.len()).sum::<usize>() <= SMALL => {
                JOINED.with_borrow_mut(|joined| {
                    joined.clear();
                    for piece in bufs {
                        joined.extend_from_slice(piece);
                    }
                    stream.poll_write(cx, joined)
                })
            }
            _ => stream.poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
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
        let tcp = match &*self {
            Self::Plain(stream) => &stream.0,
            Self::Tls(stream) => &stream.get_ref().0.0,
        };
        match SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]) {
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
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let mut stream = Stream(stream);
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
