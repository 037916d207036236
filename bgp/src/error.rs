//! Errors of this crate's edge.

use std::net::SocketAddr;

/// Why the speaker could not start. Sockets that cannot be bound are not among these: they are retried.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A metric could not be registered.
    #[error("BGP metrics cannot be registered: {0}; start the speaker once per registry")]
    Metrics(#[from] prometheus::Error),
    /// No thread for the sessions.
    #[error(
        "no thread for BGP sessions: {0}; raise the limit of tasks of this service (TasksMax, RLIMIT_NPROC)"
    )]
    Thread(#[source] std::io::Error),
}

/// A listening socket that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "BGP cannot listen on {address}: {source}; it is tried again every few seconds (port 179 needs CAP_NET_BIND_SERVICE; another BGP daemon may hold it)"
)]
pub(crate) struct ListenError {
    pub(crate) address: SocketAddr,
    pub(crate) source: std::io::Error,
}

/// Subcodes of Cease (RFC 4486, RFC 9384).
pub(crate) mod cease {
    /// Maximum number of prefixes reached.
    pub(crate) const PREFIX_LIMIT: u8 = 1;
    /// Administrative shutdown.
    pub(crate) const SHUTDOWN: u8 = 2;
    /// Peer de-configured.
    pub(crate) const DECONFIGURED: u8 = 3;
    /// Connection rejected.
    pub(crate) const REJECTED: u8 = 5;
    /// Other configuration change.
    pub(crate) const CONFIGURATION: u8 = 6;
    /// Connection collision resolution.
    pub(crate) const COLLISION: u8 = 7;
    /// BFD down (RFC 9384).
    pub(crate) const BFD_DOWN: u8 = 10;
}
