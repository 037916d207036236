//! The answer's side of a request stream.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use quinn::{SendStream, StoppedError, VarInt};
use smallvec::SmallVec;

use super::endpoint::code;
use super::link::Link;
use crate::fields::Fields;
use crate::h3::{Code, fields, frame};
use crate::http::patience::Patience;

/// The other side takes nothing more, or the connection has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gone;

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

/// Writes frames as flow control allows. A stream that is dropped before its end is reset, so that half an answer never looks
/// whole.
pub(super) struct Sender {
    stream: SendStream,
    link: Rc<Link>,
    /// What was not taken yet.
    queue: SmallVec<[Bytes; 4]>,
    /// `None`: it has ended.
    stopped: Option<Stopped>,
    /// Nothing more is to be sent, or can be.
    over: bool,
    /// For a client that does not read; `None`: as long as it likes.
    patience: Option<Patience>,
}

impl Sender {
    pub(super) fn new(stream: SendStream, link: Rc<Link>) -> Self {
        let wait = link.client.live.timeouts.response_write;
        Self {
            stopped: Some(Box::pin(stream.stopped())),
            stream,
            link,
            queue: SmallVec::new(),
            over: false,
            patience: Some(Patience::new(wait)),
        }
    }

    /// A header section, or without a status a trailer section.
    pub(super) fn section(&mut self, status: Option<StatusCode>, fields: &Fields) {
        let (mut section, mut out) = (Vec::with_capacity(256), Vec::with_capacity(264));
        fields::section(&mut section, status, fields);
        frame::headers(&mut out, &section);
        self.queue.push(Bytes::from(out));
    }

    /// A piece of the body.
    pub(super) fn data(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let mut head = Vec::with_capacity(9);
        frame::data(&mut head, data.len());
        self.queue.push(Bytes::from(head));
        self.queue.push(data);
    }

    /// Whether another piece may be put behind what waits.
    pub(super) fn is_room(&self) -> bool {
        self.queue.len() <= 1
    }

    /// Ready when the connection has taken everything. A stream that is not read for too long is reset.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.queue.is_empty() && !self.over {
            let polled = pin!(self.stream.write_chunks(&mut self.queue)).poll(cx);
            let written = match polled {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => {
                    self.over = true;
                    break;
                }
                Poll::Pending => {
                    let Some(patience) = &mut self.patience else {
                        return Poll::Pending;
                    };
                    ready!(patience.poll(cx, None, || None));
                    self.reset(Code::REQUEST_CANCELLED);
                    break;
                }
            };
            if let Some(patience) = &mut self.patience {
                patience.calm();
            }
            self.queue.drain(..written.chunks.min(self.queue.len()));
        }
        Poll::Ready(if self.over { Err(Gone) } else { Ok(()) })
    }

    /// From now on whoever does not read is waited for.
    pub(super) fn be_patient(&mut self) {
        self.patience = None;
    }

    /// Nothing follows what was sent.
    pub(super) fn finish(&mut self) {
        if !self.over {
            self.over = true;
            let _ = self.stream.finish();
        }
    }

    /// Breaks the answer off.
    pub(super) fn reset(&mut self, why: Code) {
        self.over = true;
        // Also behind the end, as long as it was not acknowledged.
        let _ = self.stream.reset(code(why));
    }

    /// Ready when the client wants no answer any more, or has it whole.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.stopped else {
            return Poll::Ready(());
        };
        let stopped = ready!(waiting.as_mut().poll(cx));
        self.stopped = None;
        if let Ok(Some(_)) = stopped {
            self.link.reset();
            self.reset(Code::REQUEST_CANCELLED);
        }
        Poll::Ready(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.over {
            self.reset(Code::INTERNAL_ERROR);
        }
    }
}

/// Where the answer goes; shared with the request's body, which asks the client to go on, and with whoever has interim
/// answers to pass on.
#[derive(Clone)]
pub(crate) struct Respond(pub(super) Rc<RefCell<Sender>>);

impl Respond {
    /// Sends an interim answer. A client that has left gets nothing.
    pub(crate) fn interim(&self, status: StatusCode, fields: &Fields) {
        // What is not taken at once goes when the stream's task has its turn.
        self.0.borrow_mut().section(Some(status), fields);
    }
}

impl std::fmt::Debug for Respond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Respond")
    }
}
