//! A stream as one side of a tunnel: WebSocket over HTTP/2 (RFC 8441). The end of the stream is the end of a direction,
//! a reset is a reset.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tunnel::Abort;

/// Octets that are sent in one piece at most.
const PIECE: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct StreamTunnel {
    send: RefCell<SendStream<Bytes>>,
    receive: RecvStream,
    /// What has come and was not taken yet.
    held: Bytes,
}

impl StreamTunnel {
    pub(super) fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self {
            send: RefCell::new(send),
            receive,
            held: Bytes::new(),
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

impl AsyncRead for StreamTunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.held.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                Some(Ok(data)) => this.held = data,
            }
        }
        let count = buf.remaining().min(this.held.len());
        buf.put_slice(this.held.get(..count).unwrap_or_default());
        this.held.advance(count);
        let _ = this.receive.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamTunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let send = &mut *self.send.borrow_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        send.reserve_capacity(buf.len().min(PIECE));
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = send.capacity().min(buf.len()).min(PIECE);
        let piece = Bytes::copy_from_slice(buf.get(..count).unwrap_or_default());
        send.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes what streams have.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(
            self.send
                .borrow_mut()
                .send_data(Bytes::new(), true)
                .map_err(broken),
        )
    }
}

impl Abort for StreamTunnel {
    fn abort(&self) {
        self.send.borrow_mut().send_reset(Reason::CANCEL);
    }
}
