//! The socket of a connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::buffers;
use crate::h2::{Connection, Fault};
use crate::http::io::ClientIo;

/// Octets that are read and thrown away behind the last frame, so that it arrives at a client that is still sending.
const LINGER: usize = 1024 * 1024;
/// A buffer for output that is larger is not kept.
const SPARE: usize = 256 * 1024;

thread_local! {
    /// A buffer for the output of whichever connection has its turn.
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The socket, and what was read from it and is not a whole frame yet.
#[derive(Debug)]
pub(super) struct Wire {
    io: ClientIo,
    input: BytesMut,
    /// What was read before nobody has looked at.
    unread: bool,
    /// Octets come faster than they are taken.
    streaming: bool,
    /// The stream holds octets itself (TLS).
    unflushed: bool,
    /// It took nothing more when it was asked last.
    stalls: bool,
    told: bool,
    thrown: usize,
}

/// What came of reading.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    Some,
    /// Nothing is there.
    Waits,
    /// So much is to be written that nothing is read.
    Full,
    /// The client has closed.
    Gone,
    Fault(Fault),
}

impl Wire {
    pub(super) fn new(io: ClientIo, input: BytesMut) -> Self {
        Self {
            io,
            unread: !input.is_empty(),
            input,
            streaming: false,
            unflushed: false,
            stalls: false,
            told: false,
            thrown: 0,
        }
    }

    /// Whether what is to be written can be.
    pub(super) fn is_free(&self) -> bool {
        !self.stalls
    }

    /// Reads once, and has the machine take it.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, core: &mut Connection, now: Instant) -> Read {
        if core.output().capacity() == 0 {
            *core.output() = OUTPUT.take();
        }
        // Who does not read the answers gets no further ones.
        if core.is_full() {
            return Read::Full;
        }
        if std::mem::take(&mut self.unread) {
            return match core.receive(&mut self.input, now) {
                Ok(()) => Read::Some,
                Err(fault) => Read::Fault(fault),
            };
        }
        match buffers::poll_fill(&mut self.io, cx, &mut self.input, self.streaming) {
            Poll::Ready(Ok(1..)) => {
                self.streaming |= self.input.len() == self.input.capacity();
                match core.receive(&mut self.input, now) {
                    Ok(()) => Read::Some,
                    Err(fault) => Read::Fault(fault),
                }
            }
            Poll::Ready(Ok(0) | Err(_)) => Read::Gone,
            Poll::Pending => {
                self.streaming = false;
                if self.input.is_empty() {
                    buffers::give(&mut self.input);
                }
                Read::Waits
            }
        }
    }

    /// Writes what the machine says.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, core: &mut Connection) -> Poll<io::Result<()>> {
        loop {
            let written = self.write(cx, core.output());
            self.stalls = written.is_pending();
            ready!(written)?;
            // What was held back for want of room is written as soon as it is there: those streams have their turn next.
            core.drained();
            let out = core.output();
            if out.is_empty() {
                let out = std::mem::take(out);
                OUTPUT.with_borrow_mut(|spare| {
                    if spare.capacity() < out.capacity() && out.capacity() <= SPARE {
                        *spare = out;
                    }
                });
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let mut written = 0;
        while let Some(rest) = out.get(written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    written += count;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    out.drain(..written);
                    return Poll::Pending;
                }
            }
        }
        out.clear();
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is left, closes, and listens for a moment. Ready when nothing more is to be done.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, core: &mut Connection) -> Poll<()> {
        if !self.told {
            if ready!(self.poll_write(cx, core)).is_err()
                || ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_err()
            {
                return Poll::Ready(());
            }
            self.told = true;
        }
        while self.thrown < LINGER {
            self.input.clear();
            match ready!(buffers::poll_fill(&mut self.io, cx, &mut self.input, false)) {
                Ok(count @ 1..) => self.thrown += count,
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        buffers::give(&mut self.input);
    }
}
