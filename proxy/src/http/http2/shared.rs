//! What the task of a connection and its streams share: the machine that is the protocol.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::StatusCode;

use crate::fields::Fields;
use crate::fields::names::DATE;
use crate::h2::{Asked, Connection, Gone, Key, Piece, Reason};
use crate::http::date;
use crate::http::headers::clean_trailers;
use crate::message::response::Parts;

/// A connection.
pub(super) struct Shared {
    core: RefCell<Connection>,
    /// The task of the connection, which writes what the machine says.
    task: RefCell<Option<Waker>>,
    /// It has its turn, and will write without being told.
    in_turn: Cell<bool>,
}

/// A turn of the connection's task, to its end.
pub(super) struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.in_turn.set(false);
    }
}

impl Shared {
    pub(super) fn new(core: Connection) -> Rc<Self> {
        Rc::new(Self {
            core: RefCell::new(core),
            task: RefCell::default(),
            in_turn: Cell::new(false),
        })
    }

    pub(super) fn begin_turn(&self, cx: &Context<'_>) -> Turn<'_> {
        self.in_turn.set(true);
        match &mut *self.task.borrow_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
        Turn(self)
    }

    /// Asks the machine. Whoever does so outside of the connection's turn wakes its task: a request's body may be in the
    /// hands of another one.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut Connection) -> T) -> T {
        let answer = ask(&mut self.core.borrow_mut());
        if !self.in_turn.get()
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
        answer
    }
}

/// One stream, for everybody who reads from it or writes to it: the answer, the body of the request, whoever has interim
/// answers to pass on. When the last one lets go it is over.
#[derive(Clone)]
pub(crate) struct Respond(Rc<Open>);

struct Open {
    shared: Rc<Shared>,
    key: Key,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.with(|core| core.release(self.key));
    }
}

impl std::fmt::Debug for Respond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Respond").field(&self.0.key).finish()
    }
}

impl Respond {
    pub(super) fn new(shared: &Rc<Shared>, asked: &Asked) -> Self {
        Self(Rc::new(Open {
            shared: Rc::clone(shared),
            key: asked.key,
        }))
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Connection, Key) -> T) -> T {
        self.0.shared.with(|core| ask(core, self.0.key))
    }

    /// Sends an interim answer. A client that has left gets nothing.
    pub(crate) fn interim(&self, status: StatusCode, fields: &Fields) {
        let _ = self.with(|core, key| core.interim(key, status, fields));
    }

    /// Sends the header section of the answer.
    pub(super) fn begin(&self, parts: &Parts, end: bool) -> Result<(), Gone> {
        let date = (!parts.headers.contains_key(DATE)).then(date::value);
        self.with(|core, key| core.respond(key, parts.status, &parts.headers, date.as_ref(), end))
    }

    /// Sends a trailer section, without what has no place there, and so ends the stream.
    pub(super) fn trailers(&self, mut trailers: Fields) {
        clean_trailers(&mut trailers);
        let _ = self.with(|core, key| {
            if trailers.is_empty() {
                core.data(key, b"", true)
            } else {
                core.trailers(key, &trailers)
            }
        });
    }

    pub(super) fn poll_capacity(&self, cx: &Context<'_>) -> Poll<Result<usize, Gone>> {
        self.with(|core, key| core.poll_capacity(cx, key))
    }

    /// Sends what there is capacity for.
    pub(super) fn data(&self, octets: &[u8], end: bool) -> Result<(), Gone> {
        self.with(|core, key| core.data(key, octets, end))
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.with(|core, key| core.reset(key, reason));
    }

    /// Ready when the client has reset the stream, or the connection has ended.
    pub(super) fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        self.with(|core, key| core.poll_reset(cx, key))
    }

    pub(super) fn poll_piece(&self, cx: &Context<'_>) -> Poll<Result<Piece, Gone>> {
        self.with(|core, key| core.poll_piece(cx, key))
    }

    pub(super) fn is_shut(&self) -> bool {
        self.with(|core, _| core.is_shut())
    }

    pub(super) fn is_read(&self) -> bool {
        self.with(|core, key| core.is_read(key))
    }
}
