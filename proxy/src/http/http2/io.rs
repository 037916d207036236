//! A client's connection as the HTTP/2 parser reads it: counted, and silent once its client has gone too far.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{Guard, Offence};
use crate::clock;
use crate::http::io::ClientIo;

/// What the connection's task asks of the guard.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) guard: RefCell<Guard>,
    pub(crate) offence: Cell<Option<Offence>>,
}

#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) io: ClientIo,
    pub(crate) watched: Rc<Watched>,
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watched.offence.get().is_some() {
            // The task has been told and closes the connection.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if !fresh.is_empty() {
            let judged = self.watched.guard.borrow_mut().feed(fresh, clock::now());
            if let Err(offence) = judged {
                self.watched.offence.set(Some(offence));
                // The parser must not see it: it would find another word for it.
                buf.set_filled(before);
                return Poll::Pending;
            }
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
