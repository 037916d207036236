//! HTTP/2 connections to endpoints: several requests at a time on each, one more connection when all are full.
//!
//! A connection is driven by a task of its own; requests hold a [`Handle`] on it, which counts as one of its streams.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::uri::Scheme;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::Key;
use crate::clock;
use crate::metrics::{self, Counters};
use crate::stream::EndpointStream;
use crate::wire::Wire;

/// What one stream may have on its way that was not passed on yet.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Octets of an answer's header section.
const MAX_HEADER_BYTES: u32 = 256 * 1024;
/// Octets of a request's body that wait in a connection for one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// The HTTP/2 connections of one worker, or of one client where they name the client.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed(RefCell<HashMap<Key, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    open: Vec<Open>,
    dialing: Option<Rc<Dialing>>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

/// What is known of a connection, for its driver and its streams.
#[derive(Debug)]
struct State {
    address: SocketAddr,
    scheme: Scheme,
    wire: Rc<Wire>,
    streams: Cell<u32>,
    /// It takes no further request: GOAWAY, a refused stream, an error.
    closing: Cell<bool>,
    /// Until when it is kept without a stream.
    until: Cell<Instant>,
    idle: Duration,
    /// Told when an answer did not come in time.
    suspected: Notify,
    counters: Arc<Counters>,
}

/// A connection being made, for those that wait for it.
#[derive(Debug, Default)]
struct Dialing {
    done: Notify,
    failed: Cell<bool>,
}

/// One stream of a connection. Dropped, it makes room for another one.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) sender: SendRequest<Bytes>,
    state: Rc<State>,
}

/// What came of asking for a stream.
pub(super) enum Asked {
    /// There is room on a connection.
    Stream(Handle),
    /// Somebody makes a connection already.
    Wait(Waiting),
    /// The asker is to make one.
    Dial(Dialer),
}

/// Waits for a connection that somebody else makes.
pub(super) struct Waiting(Rc<Dialing>);

impl Waiting {
    /// Ends when it is made or given up; `false`: it failed.
    pub(super) async fn over(self) -> bool {
        self.0.done.notified().await;
        !self.0.failed.get()
    }
}

/// Whoever makes a connection. Dropped without having said how it went, another one may try.
pub(super) struct Dialer {
    set: Rc<Multiplexed>,
    key: Key,
    dialing: Rc<Dialing>,
}

impl Dialer {
    /// No connection came about; those that wait hear it.
    pub(super) fn failed(self) {
        self.dialing.failed.set(true);
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        if let Some(entry) = self.set.0.borrow_mut().get_mut(&self.key) {
            entry.dialing = None;
        }
        self.dialing.done.notify_waiters();
    }
}

impl Multiplexed {
    /// A stream on a connection that is there, if it has room: fewer than `most` run on it.
    pub(super) fn stream(&self, key: Key, most: u32) -> Option<Handle> {
        let mut entries = self.0.borrow_mut();
        let open = &mut entries.get_mut(&key)?.open;
        open.iter_mut().find_map(|open| open.stream(most))
    }

    /// As [`Multiplexed::stream`]; else what to do to get one.
    pub(super) fn ask(self: &Rc<Self>, key: Key, most: u32) -> Asked {
        let mut entries = self.0.borrow_mut();
        let entry = entries.entry(key).or_default();
        if let Some(handle) = entry.open.iter_mut().find_map(|open| open.stream(most)) {
            return Asked::Stream(handle);
        }
        match &entry.dialing {
            Some(dialing) => Asked::Wait(Waiting(Rc::clone(dialing))),
            None => {
                let dialing = Rc::new(Dialing::default());
                entry.dialing = Some(Rc::clone(&dialing));
                Asked::Dial(Dialer {
                    set: Rc::clone(self),
                    key,
                    dialing,
                })
            }
        }
    }

    /// Forgets what is closing, and what has had no stream for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, entry| {
            entry.open.retain(|open| {
                let state = &open.state;
                state.is_good() && (state.streams.get() > 0 || state.until.get() > now)
            });
            !entry.open.is_empty() || entry.dialing.is_some()
        });
    }

    /// Lets go of every connection: each ends when its streams have ended.
    pub(super) fn clear(&self) {
        for entry in self.0.borrow_mut().values_mut() {
            entry.open.clear();
        }
    }
}

impl Dialer {
    /// Begins HTTP/2 on a new connection and takes its first stream.
    pub(super) async fn begin(
        self,
        stream: EndpointStream,
        scheme: Scheme,
        wire: Rc<Wire>,
        limits: Limits,
        drivers: &TaskTracker,
        counters: &Arc<Counters>,
    ) -> Result<Handle, h2::Error> {
        // Every stream may have its window full: none keeps the others from going on.
        let whole = STREAM_WINDOW.saturating_mul(limits.streams).min(1 << 30);
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(whole)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(stream)
            .await?;
        counters.inc(metrics::Cell::UpstreamHttp2Connections);
        let state = Rc::new(State {
            address: self.key.0,
            scheme,
            wire,
            streams: Cell::new(0),
            closing: Cell::new(false),
            until: Cell::new(clock::now() + limits.idle),
            idle: limits.idle,
            suspected: Notify::new(),
            counters: Arc::clone(counters),
        });
        drivers.spawn_local(drive(connection, Rc::clone(&state), limits.ping));
        let open = Open { sender, state };
        let handle = open.handle();
        if let Some(entry) = self.set.0.borrow_mut().get_mut(&self.key) {
            entry.open.push(open);
        }
        Ok(handle)
    }
}

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) streams: u32,
    pub(super) idle: Duration,
    /// How long the answer to a PING may take.
    pub(super) ping: Duration,
}

impl State {
    fn is_good(&self) -> bool {
        !self.closing.get() && self.wire.is_good()
    }
}

impl Open {
    /// A stream, if there is room.
    fn stream(&mut self, most: u32) -> Option<Handle> {
        let allowed = u32::try_from(self.sender.current_max_send_streams()).unwrap_or(u32::MAX);
        if !self.state.is_good() || self.state.streams.get() >= allowed.min(most) {
            return None;
        }
        let handle = self.handle();
        // A connection that has seen GOAWAY or an error says so here.
        let mut nobody = Context::from_waker(Waker::noop());
        match self.sender.poll_ready(&mut nobody) {
            Poll::Ready(Err(_)) => {
                self.state.closing.set(true);
                None
            }
            _ => Some(handle),
        }
    }

    fn handle(&self) -> Handle {
        let state = Rc::clone(&self.state);
        state.streams.set(state.streams.get() + 1);
        Handle {
            sender: self.sender.clone(),
            state,
        }
    }
}

impl Handle {
    /// Where it leads.
    pub(crate) fn address(&self) -> SocketAddr {
        self.state.address
    }

    /// Whether over TLS.
    pub(crate) fn scheme(&self) -> Scheme {
        self.state.scheme.clone()
    }

    /// No further request is to go over this connection.
    pub(crate) fn retire(&self) {
        self.state.closing.set(true);
    }

    /// An answer did not come in time: whether the connection is alive at all is to be found out.
    pub(crate) fn suspect(&self) {
        self.state.suspected.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let state = &self.state;
        state.streams.set(state.streams.get().saturating_sub(1));
        state.until.set(clock::now() + state.idle);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.counters.dec(metrics::Cell::UpstreamHttp2Connections);
    }
}

/// Moves frames until the connection ends, or a PING that was sent because of a suspicion stays without an answer. No PINGs
/// without reason: servers count them as an attack. When the route is withdrawn every stream decides for itself.
async fn drive(mut connection: Connection<EndpointStream, Bytes>, state: Rc<State>, limit: Duration) {
    let mut pings = connection.ping_pong();
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection to an endpoint ended");
                }
                break;
            }
            () = state.suspected.notified(), if asked.is_none() => {
                let sent = pings.as_mut().is_some_and(|pings| pings.send_ping(h2::Ping::opaque()).is_ok());
                asked = sent.then(|| Instant::now() + limit);
            }
            _ = poll_fn(|cx| pings.as_mut().map_or(Poll::Pending, |pings| pings.poll_pong(cx))), if asked.is_some() => {
                asked = None;
            }
            () = sleep_until(asked.unwrap_or_else(Instant::now)), if asked.is_some() => {
                tracing::debug!("an endpoint does not answer a PING: its connection is closed");
                break;
            }
        }
    }
    state.closing.set(true);
}
