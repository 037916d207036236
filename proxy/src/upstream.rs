//! Connections to endpoints: HTTP/1.1, kept alive, one pool for each worker, so that nothing is shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::http::RequestBody;
use crate::metrics::{Cell, Counters};
use crate::snapshot::Withdrawn;
use crate::stream::Stream;
use crate::wire::{Wire, Wires};

/// Fields and octets of a response's header section that are read at most.
const MAX_HEADERS: usize = 256;
const MAX_HEADER_BYTES: usize = 256 * 1024;

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
    let connecting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // It fits into the empty buffer of a new connection.
        stream.write_all(greeting).await?;
        Ok(stream)
    };
    let connected: Result<std::io::Result<TcpStream>, _> = tokio::select! {
        biased;
        connected = timeout(limit, connecting) => connected,
        () = wire.cut() => return Err(ConnectError::Unrouted),
    };
    match connected {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ConnectError::Timeout),
    }
}

type Sender = SendRequest<RequestBody>;

#[derive(Debug)]
struct Idle {
    sender: Sender,
    wire: Rc<Wire>,
    until: Instant,
}

/// The kept connections of one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
    /// Tasks that drive the connections.
    drivers: TaskTracker,
    counters: Arc<Counters>,
    pub(crate) wires: Rc<Wires>,
}

/// A connection in use. Dropped, it is closed; [`Lease::keep`] keeps it for the next request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    pub(crate) reused: bool,
    pub(crate) wire: Rc<Wire>,
    address: SocketAddr,
    pool: Rc<Upstreams>,
}

impl Upstreams {
    pub(crate) fn new(counters: Arc<Counters>, wires: Rc<Wires>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            drivers: TaskTracker::new(),
            counters,
            wires,
        })
    }

    /// A kept connection to `address` that is known to be good at this moment; the one used last comes first.
    pub(crate) fn kept(self: &Rc<Self>, address: SocketAddr) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&address)?;
        let now = clock::now();
        while let Some(Idle { sender, wire, until }) = list.pop() {
            self.counters.dec(Cell::UpstreamIdle);
            if until > now && sender.is_ready() {
                self.counters.inc(Cell::UpstreamReused);
                return Some(Lease {
                    sender,
                    reused: true,
                    wire,
                    address,
                    pool: Rc::clone(self),
                });
            }
        }
        None
    }

    /// A new connection.
    pub(crate) async fn open(
        self: &Rc<Self>,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<Lease, ConnectError> {
        let wire = self.wires.add(address);
        let connected = connect(address, &[], limit, &wire).await;
        self.counters.inc(match &connected {
            Ok(_) => Cell::UpstreamConnected,
            Err(ConnectError::Failed(_)) => Cell::UpstreamConnectFailed,
            Err(ConnectError::Timeout) => Cell::UpstreamConnectTimeout,
            Err(ConnectError::Exhausted(_)) => Cell::UpstreamExhausted,
            Err(ConnectError::Unrouted) => Cell::UpstreamConnectUnrouted,
        });
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .handshake(TokioIo::new(Stream(connected?)))
            .await
            .map_err(|error| ConnectError::Failed(std::io::Error::other(error)))?;
        let driven = Rc::clone(&wire);
        self.drivers.spawn_local(async move {
            tokio::select! {
                biased;
                ended = connection.with_upgrades() => if let Err(error) = ended {
                    tracing::debug!(endpoint = %address, %error, "connection to an endpoint ended");
                },
                // Whoever waits for something from it hears that it is closed.
                () = driven.cut() => {}
            }
        });
        Ok(Lease {
            sender,
            reused: false,
            wire,
            address,
            pool: Rc::clone(self),
        })
    }

    /// Closes what has been idle for too long; to be called now and then.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, list| {
            let before = list.len();
            list.retain(|idle| idle.until > now && !idle.sender.is_closed());
            self.counters.add(
                Cell::UpstreamIdle,
                (list.len() as u64).wrapping_sub(before as u64),
            );
            !list.is_empty()
        });
    }

    /// Ends what leads to endpoints that were withdrawn: kept connections at once, others by their drivers.
    pub(crate) fn withdraw(&self, withdrawn: &Withdrawn) {
        let cut = self.wires.withdraw(withdrawn);
        self.counters.add(Cell::UpstreamUnrouted, cut as u64);
        self.idle.borrow_mut().retain(|_, list| {
            if list.first().is_some_and(|idle| idle.wire.is_good()) {
                return true;
            }
            self.counters
                .add(Cell::UpstreamIdle, (list.len() as u64).wrapping_neg());
            false
        });
    }

    /// Closes every kept connection.
    pub(crate) fn clear(&self) {
        for (_, list) in self.idle.borrow_mut().drain() {
            self.counters
                .add(Cell::UpstreamIdle, (list.len() as u64).wrapping_neg());
        }
    }
}

impl Lease {
    /// Keeps the connection for `idle`, unless there are `most` for its endpoint or it is closing.
    pub(crate) fn keep(self, idle: Duration, most: usize) {
        if self.sender.is_closed() || !self.wire.is_good() {
            return;
        }
        self.wire.answering(false);
        let mut pool = self.pool.idle.borrow_mut();
        let list = pool.entry(self.address).or_default();
        if list.len() < most {
            list.push(Idle {
                sender: self.sender,
                wire: self.wire,
                until: clock::now() + idle,
            });
            self.pool.counters.inc(Cell::UpstreamIdle);
        }
    }
}
