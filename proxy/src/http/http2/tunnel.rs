//! A stream as one side of a tunnel: WebSocket over HTTP/2 (RFC 8441). The end of the stream is the end of a direction,
//! a reset is a reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::Respond;
use crate::h2::{Gone, Piece, Reason};
use crate::tunnel::Abort;

/// Octets that are sent in one piece at most.
const PIECE: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct StreamTunnel {
    stream: Respond,
    /// What has come and was not taken yet.
    held: Bytes,
}

impl StreamTunnel {
    pub(super) fn new(stream: Respond) -> Self {
        Self {
            stream,
            held: Bytes::new(),
        }
    }
}

fn broken(gone: Gone) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, gone)
}

impl AsyncRead for StreamTunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.held.is_empty() {
            match ready!(this.stream.poll_piece(cx)).map_err(broken)? {
                Piece::Data(data) => this.held = data,
                Piece::Trailers(_) | Piece::End => return Poll::Ready(Ok(())),
            }
        }
        let count = buf.remaining().min(this.held.len());
        buf.put_slice(this.held.get(..count).unwrap_or_default());
        this.held.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamTunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let capacity = ready!(self.stream.poll_capacity(cx)).map_err(broken)?;
        let count = capacity.min(buf.len()).min(PIECE);
        self.stream
            .data(buf.get(..count).unwrap_or_default(), false)
            .map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes what streams have.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.data(b"", true).map_err(broken))
    }
}

impl Abort for StreamTunnel {
    fn abort(&self) {
        self.stream.reset(Reason::CANCEL);
    }
}
