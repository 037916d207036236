//! Connections to endpoints: HTTP/1.1, kept alive, one pool for each worker, so that nothing is shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::http::RequestBody;
use crate::metrics::{Cell, Counters};

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

/// A TCP connection to an endpoint.
pub(crate) async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ConnectError::Timeout),
    }
}

type Sender = SendRequest<RequestBody>;

#[derive(Debug)]
struct Idle {
    sender: Sender,
    until: Instant,
}

/// The kept connections of one worker.
#[derive(Debug)]
pub(crate) struct Upstreams {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>>>,
    /// Tasks that drive the connections.
    drivers: TaskTracker,
    counters: Arc<Counters>,
}

/// A connection in use. Dropped, it is closed; [`Lease::keep`] keeps it for the next request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    pub(crate) reused: bool,
    address: SocketAddr,
    pool: Rc<Upstreams>,
}

impl Upstreams {
    pub(crate) fn new(counters: Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            drivers: TaskTracker::new(),
            counters,
        })
    }

    /// A kept connection to `address` that is known to be good at this moment; the one used last comes first.
    pub(crate) fn kept(self: &Rc<Self>, address: SocketAddr) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&address)?;
        let now = Instant::now();
        while let Some(Idle { sender, until }) = list.pop() {
            self.counters.dec(Cell::UpstreamIdle);
            if until > now && sender.is_ready() {
                self.counters.inc(Cell::UpstreamReused);
                return Some(Lease {
                    sender,
                    reused: true,
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
        let connected = connect(address, limit).await;
        self.counters.inc(match &connected {
            Ok(_) => Cell::UpstreamConnected,
            Err(ConnectError::Failed(_)) => Cell::UpstreamConnectFailed,
            Err(ConnectError::Timeout) => Cell::UpstreamConnectTimeout,
            Err(ConnectError::Exhausted(_)) => Cell::UpstreamExhausted,
        });
        let (sender, connection) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES)
            .handshake(TokioIo::new(connected?))
            .await
            .map_err(|error| ConnectError::Failed(std::io::Error::other(error)))?;
        self.drivers.spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(endpoint = %address, %error, "connection to an endpoint ended");
            }
        });
        Ok(Lease {
            sender,
            reused: false,
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
        if self.sender.is_closed() {
            return;
        }
        let mut pool = self.pool.idle.borrow_mut();
        let list = pool.entry(self.address).or_default();
        if list.len() < most {
            list.push(Idle {
                sender: self.sender,
                until: Instant::now() + idle,
            });
            self.pool.counters.inc(Cell::UpstreamIdle);
        }
    }
}
