//! Connections to endpoints: HTTP/1.1, kept alive, one pool for each worker, so that nothing is shared.

mod multiplex;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

pub(crate) use self::multiplex::Handle;
use self::multiplex::{Asked, Multiplexed};
use crate::clock;
use crate::metrics::{Cell, Counters};
use crate::proxy_protocol::{self, Ends};
use crate::snapshot::Withdrawn;
use crate::start::Live;
use crate::stream::{EndpointStream, Stream};
use crate::transport::Transport;
use crate::wire::{Wire, Wires};

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The system or the endpoint refused.
    #[error("{0}")]
    Failed(#[source] std::io::Error),
    /// Nothing answered in time.
    #[error("no answer in time")]
    Timeout,
    /// The box is out of files, ports or memory: no endpoint's fault, and another one would not help.
    #[error("{0}; raise the limit on open files or the range of local ports")]
    Exhausted(#[source] std::io::Error),
    /// The endpoint's route was withdrawn meanwhile.
    #[error("its route was withdrawn")]
    Unrouted,
}

impl From<std::io::Error> for ConnectError {
    fn from(error: std::io::Error) -> Self {
        // ENOMEM, ENFILE, EMFILE, EADDRNOTAVAIL, ENOBUFS.
        match error.raw_os_error() {
            Some(12 | 23 | 24 | 99 | 105) => Self::Exhausted(error),
            _ => Self::Failed(error),
        }
    }
}

/// A TCP connection to an endpoint, begun with `greeting` (a PROXY header, or nothing).
pub(crate) async fn connect(
    address: SocketAddr,
    greeting: &[u8],
    limit: Duration,
    wire: &Wire,
) -> Result<TcpStream, ConnectError> {
    within(limit, wire, open(address, greeting)).await
}

async fn open(address: SocketAddr, greeting: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // It fits into the empty buffer of a new connection.
    stream.write_all(greeting).await?;
    Ok(stream)
}

/// Bounds a connection being made by time, and by the withdrawal of its route.
async fn within<T>(
    limit: Duration,
    wire: &Wire,
    connecting: impl Future<Output = io::Result<T>>,
) -> Result<T, ConnectError> {
    let connected = tokio::select! {
        biased;
        connected = timeout(limit, connecting) => connected,
        () = wire.cut() => return Err(ConnectError::Unrouted),
    };
    match connected {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// Where a request is to go, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) transport: &'a Transport,
    /// Whose connection it is to be, where endpoints are told that.
    pub(crate) guest: Option<&'a Rc<Guest>>,
    pub(crate) live: &'a Live,
}

impl Dial<'_> {
    fn key(&self) -> Key {
        (self.address, self.transport.id)
    }

    /// Whether requests share connections.
    fn is_multiplexed(&self) -> bool {
        self.transport.is_multiplexed()
    }
}

/// The connection of a client, as far as endpoints hear of it.
#[derive(Debug)]
pub(crate) struct Guest {
    ends: Ends,
    /// Connections that were opened with a PROXY header in its name. They end with it.
    kept: RefCell<Vec<(Key, Idle)>>,
    multiplexed: OnceCell<Rc<Multiplexed>>,
}

impl Guest {
    pub(crate) fn new(ends: Ends) -> Rc<Self> {
        Rc::new(Self {
            ends,
            kept: RefCell::default(),
            multiplexed: OnceCell::new(),
        })
    }
}

/// Endpoint and transport.
type Key = (SocketAddr, u64);

/// Keys are the box's own, not what somebody sends: they need no hash that withstands attacks, and each request asks twice.
type ByKey<T> = HashMap<Key, T, hashbrown::DefaultHashBuilder>;

#[derive(Debug)]
struct Idle {
    // First, so that it is counted no more when the endpoint sees it close.
    _counted: Counted,
    stream: EndpointStream,
    wire: Rc<Wire>,
    until: Instant,
}

impl Idle {
    fn is_good(&mut self, now: Instant) -> bool {
        self.until > now && self.wire.is_good() && self.stream.is_quiet()
    }
}

/// One in the gauge of kept connections.
#[derive(Debug)]
struct Counted(Arc<Counters>);

impl Counted {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.inc(Cell::UpstreamIdle);
        Self(Arc::clone(counters))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec(Cell::UpstreamIdle);
    }
}

/// The kept connections of one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    idle: RefCell<ByKey<Vec<Idle>>>,
    multiplexed: Rc<Multiplexed>,
    /// Tasks that drive HTTP/2 connections, and bodies of requests that are longer than their answers' headers.
    pub(crate) drivers: TaskTracker,
    counters: Arc<Counters>,
    pub(crate) wires: Rc<Wires>,
}

/// A place for a connection in use; the connection itself goes into the exchange. [`Lease::keep`] keeps it for the next
/// request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) stream: Option<EndpointStream>,
    /// The stream of a connection that others use, too.
    pub(crate) handle: Option<Handle>,
    pub(crate) reused: bool,
    pub(crate) wire: Rc<Wire>,
    key: Key,
    /// For whom alone it is.
    guest: Option<Rc<Guest>>,
    pool: Rc<Upstreams>,
}

impl Upstreams {
    pub(crate) fn new(counters: Arc<Counters>, wires: Rc<Wires>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            multiplexed: Rc::default(),
            drivers: TaskTracker::new(),
            counters,
            wires,
        })
    }

    /// A kept connection that is known to be good at this moment; the one used last comes first.
    pub(crate) fn kept(self: &Rc<Self>, dial: &Dial<'_>) -> Option<Lease> {
        if dial.is_multiplexed() {
            let handle = self
                .set(dial)
                .stream(dial.key(), dial.live.http.max_upstream_streams)?;
            self.counters.inc(Cell::UpstreamReused);
            return Some(self.shared(dial, handle, true));
        }
        let (key, now) = (dial.key(), clock::now());
        let idle = if let Some(guest) = dial.guest {
            let mut kept = guest.kept.borrow_mut();
            kept.retain_mut(|(_, idle)| idle.is_good(now));
            let place = kept.iter().rposition(|(of, _)| *of == key)?;
            kept.swap_remove(place).1
        } else {
            let mut idle = self.idle.borrow_mut();
            let list = idle.get_mut(&key)?;
            std::iter::from_fn(|| list.pop()).find_map(|mut idle| idle.is_good(now).then_some(idle))?
        };
        self.counters.inc(Cell::UpstreamReused);
        Some(self.lease(dial, idle.stream, idle.wire, true))
    }

    fn lease(
        self: &Rc<Self>,
        dial: &Dial<'_>,
        stream: EndpointStream,
        wire: Rc<Wire>,
        reused: bool,
    ) -> Lease {
        Lease {
            stream: Some(stream),
            handle: None,
            reused,
            wire,
            key: dial.key(),
            guest: dial.guest.map(Rc::clone),
            pool: Rc::clone(self),
        }
    }

    /// A stream of a connection that others use, too. It has a wire of its own, for its own waits.
    fn shared(self: &Rc<Self>, dial: &Dial<'_>, handle: Handle, reused: bool) -> Lease {
        Lease {
            stream: None,
            handle: Some(handle),
            reused,
            wire: self.wires.add(dial.address),
            key: dial.key(),
            guest: None,
            pool: Rc::clone(self),
        }
    }

    /// The HTTP/2 connections among which one for `dial` is looked for.
    fn set<'a>(&'a self, dial: &Dial<'a>) -> &'a Rc<Multiplexed> {
        match dial.guest {
            Some(guest) => guest.multiplexed.get_or_init(Rc::default),
            None => &self.multiplexed,
        }
    }

    /// A stream of an HTTP/2 connection. Whoever finds none makes one; those that come meanwhile wait for it.
    async fn open_shared(self: &Rc<Self>, dial: &Dial<'_>, limit: Duration) -> Result<Lease, ConnectError> {
        let http = &dial.live.http;
        let set = self.set(dial);
        let due = Instant::now() + limit;
        loop {
            let dialer = match set.ask(dial.key(), http.max_upstream_streams) {
                Asked::Stream(handle) => return Ok(self.shared(dial, handle, false)),
                Asked::Wait(waiting) => match tokio::time::timeout_at(due, waiting.over()).await {
                    Ok(true) => continue,
                    Ok(false) => {
                        let what = "the connection that others were making failed";
                        return Err(ConnectError::Failed(io::Error::other(what)));
                    }
                    Err(_) => return Err(ConnectError::Timeout),
                },
                Asked::Dial(dialer) => dialer,
            };
            let wire = self.wires.add(dial.address);
            let stream = match self
                .dial(dial, due.saturating_duration_since(Instant::now()), &wire)
                .await
            {
                Ok(stream) => stream,
                Err(error) => {
                    dialer.failed();
                    return Err(error);
                }
            };
            let limits = multiplex::Limits {
                streams: http.max_upstream_streams,
                idle: dial.live.timeouts.upstream_idle,
                ping: dial.live.timeouts.connect,
            };
            let begun = dialer.begin(
                stream,
                dial.transport.scheme(),
                wire,
                limits,
                &self.drivers,
                &self.counters,
            );
            return match begun.await {
                Ok(handle) => Ok(self.shared(dial, handle, false)),
                Err(error) => Err(ConnectError::Failed(io::Error::other(error))),
            };
        }
    }

    /// A connection over which nothing was sent yet but a PROXY header.
    async fn dial(
        &self,
        dial: &Dial<'_>,
        limit: Duration,
        wire: &Wire,
    ) -> Result<EndpointStream, ConnectError> {
        let greeting = match (dial.transport.proxy_protocol, dial.guest) {
            (Some(version), Some(guest)) => {
                proxy_protocol::write(version, guest.ends.client, guest.ends.server)
            }
            _ => Vec::new(),
        };
        let secured = within(limit, wire, async {
            let stream = Stream::watched(open(dial.address, &greeting).await?);
            dial.transport.secure(stream).await.inspect_err(|error| {
                self.counters.inc(Cell::UpstreamTlsFailed);
                tracing::debug!(endpoint = %dial.address, %error, "a TLS handshake with an endpoint failed");
            })
        });
        let connected = secured.await;
        self.counters.inc(match &connected {
            Ok(_) => Cell::UpstreamConnected,
            Err(ConnectError::Failed(_)) => Cell::UpstreamConnectFailed,
            Err(ConnectError::Timeout) => Cell::UpstreamConnectTimeout,
            Err(ConnectError::Exhausted(_)) => Cell::UpstreamExhausted,
            Err(ConnectError::Unrouted) => Cell::UpstreamConnectUnrouted,
        });
        connected
    }

    /// A new connection.
    pub(crate) async fn open(
        self: &Rc<Self>,
        dial: &Dial<'_>,
        limit: Duration,
    ) -> Result<Lease, ConnectError> {
        if dial.is_multiplexed() {
            return self.open_shared(dial, limit).await;
        }
        let wire = self.wires.add(dial.address);
        let stream = self.dial(dial, limit, &wire).await?;
        Ok(self.lease(dial, stream, wire, false))
    }

    /// Closes what has been idle for too long; to be called now and then.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, list| {
            list.retain_mut(|idle| idle.is_good(now));
            !list.is_empty()
        });
        self.multiplexed.sweep(now);
    }

    /// Ends what leads to endpoints that were withdrawn: kept connections at once, others by whoever uses them.
    pub(crate) fn withdraw(&self, withdrawn: &Withdrawn) {
        let cut = self.wires.withdraw(withdrawn);
        self.counters.add(Cell::UpstreamUnrouted, cut as u64);
        self.idle
            .borrow_mut()
            .retain(|_, list| list.first().is_some_and(|idle| idle.wire.is_good()));
        self.multiplexed.sweep(Instant::now());
    }

    /// Closes every kept connection.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.multiplexed.clear();
    }
}

impl Lease {
    /// Keeps a connection for `idle`, unless there are `most` for its endpoint or that is gone.
    pub(crate) fn keep(self, stream: EndpointStream, idle: Duration, most: usize) {
        if !self.wire.is_good() {
            return;
        }
        self.wire.answering(false);
        let kept = |wire| Idle {
            stream,
            wire,
            until: clock::now() + idle,
            _counted: Counted::new(&self.pool.counters),
        };
        if let Some(guest) = self.guest {
            let mut list = guest.kept.borrow_mut();
            if list.len() < most {
                list.push((self.key, kept(self.wire)));
            }
            return;
        }
        let mut pool = self.pool.idle.borrow_mut();
        let list = pool.entry(self.key).or_default();
        if list.len() < most {
            list.push(kept(self.wire));
        }
    }
}
