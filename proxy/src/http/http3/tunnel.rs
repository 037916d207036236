//! A stream as one side of a tunnel: WebSocket over HTTP/3 (RFC 9220). The end of the stream is the end of a direction, a reset
//! is a reset.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Broken, Receiver};
use super::send::Respond;
use crate::h3::Code;
use crate::h3::frame::Piece;
use crate::tunnel::Abort;

/// Octets that are sent in one frame at most.
const PIECE: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct StreamTunnel {
    respond: Respond,
    receiver: Receiver,
    /// What has come and was not taken yet.
    held: Bytes,
}

impl StreamTunnel {
    pub(super) fn new(respond: Respond, receiver: Receiver) -> Self {
        // How long nothing may pass is the tunnel's business.
        respond.0.borrow_mut().be_patient();
        Self {
            respond,
            receiver,
            held: Bytes::new(),
        }
    }
}

impl AsyncRead for StreamTunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.held.is_empty() {
            match ready!(this.receiver.poll_piece(cx)) {
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(Some(Piece::Data(data))) => this.held = data,
                // RFC 9114 section 4.4: nothing but DATA.
                Ok(Some(Piece::Section(_))) => {
                    this.receiver.fail(Code::FRAME_UNEXPECTED);
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Err(Broken::Gone(error)) => return Poll::Ready(Err(error.into())),
                Err(Broken::Fault | Broken::Large) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
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
        let mut sender = self.respond.0.borrow_mut();
        ready!(sender.poll_flush(cx)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        let count = buf.len().min(PIECE);
        sender.data(Bytes::copy_from_slice(buf.get(..count).unwrap_or_default()));
        // What is not taken now is taken before the next piece.
        let _ = sender.poll_flush(cx);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.respond.0.borrow_mut().poll_flush(cx));
        Poll::Ready(flushed.map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sender = self.respond.0.borrow_mut();
        ready!(sender.poll_flush(cx)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        sender.finish();
        Poll::Ready(Ok(()))
    }
}

impl Abort for StreamTunnel {
    fn abort(&self) {
        self.respond.0.borrow_mut().reset(Code::REQUEST_CANCELLED);
    }
}
