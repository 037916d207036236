//! Everything the request path reads, immutable, compiled from the wished and the seen.
//!
//! [`compile`] takes the previous snapshot and follows the difference: tables are persistent maps of `Arc`s, so that
//! one endpoint that moves among a hundred thousand costs one pool. What changes per request (requests in flight,
//! counters) lives in `Arc`s that are carried from one snapshot to the next.

mod certificates;
mod compile;
mod hosts;
mod nodes;
mod pools;
mod state;
#[cfg(test)]
mod tests;
mod withdrawn;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use rustls::sign::CertifiedKey;
use sekisho_config::model::{
    Certificate, ChallengeAnswer, ClusterPart, Health, HealthCheck, HostName, HostPattern, PoolId, Reach,
    Revision, Routing, Secret, TcpRoute,
};

pub use certificates::{PlaceholderReason, ServedCertificate};
pub use compile::compile;
use hosts::Hosts;
pub use pools::{CompiledEndpoint, CompiledPool};
pub(crate) use state::{BUCKETS, Finished, InFlight, Place};
pub use state::{EndpointState, PoolState, PoolTotals};
pub(crate) use withdrawn::Withdrawn;

use crate::route::{self, Asked, CompiledHost, Found};

/// What a listening socket is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenerKind {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    Https,
    /// TCP connections to a pool.
    Tcp(Arc<TcpRoute>),
}

/// One published state of the data plane.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: Revision,
    routing: Routing,
    /// Whether a first complete view of the source was there.
    source_ready: bool,
    /// What this was compiled from, for the next difference.
    wished: ClusterPart,
    reach: OrdMap<IpAddr, Reach>,
    health: OrdMap<(SocketAddr, Arc<HealthCheck>), Health>,
    sticky_key: Option<Secret>,
    obtained: certificates::Obtained,
    answers: OrdMap<Arc<str>, ChallengeAnswer>,

    exact: Hosts,
    /// By suffix.
    wildcard: Hosts,
    any: Option<Arc<CompiledHost>>,
    pools: imbl::HashMap<PoolId, Arc<CompiledPool>>,
    /// Which pools have an endpoint at an address.
    by_address: imbl::HashMap<IpAddr, OrdSet<PoolId>>,
    /// Evidence on the nodes behind the endpoints.
    nodes: nodes::Nodes,
    /// How many routes lead to a pool, with the sum of eligible endpoints over the pools that have any.
    routes_to: imbl::HashMap<PoolId, u32>,
    eligible_http: usize,
    /// Hosts that ask for certificates of clients.
    asking: usize,
    certificates: certificates::Table,
    placeholder: Option<Arc<CertifiedKey>>,
    listeners: OrdMap<SocketAddr, ListenerKind>,
    /// The listeners among them that are the file's.
    from_file: Vec<SocketAddr>,
    /// HTTPS listeners beside which HTTP/3 is served.
    http3: Vec<SocketAddr>,
}

impl Default for Snapshot {
    /// The state before anything is known: nothing listens, every request is answered 503.
    fn default() -> Self {
        Self {
            revision: Revision::default(),
            routing: Routing::Off,
            source_ready: false,
            wished: ClusterPart::default(),
            reach: OrdMap::new(),
            health: OrdMap::new(),
            sticky_key: None,
            obtained: OrdMap::new(),
            answers: OrdMap::new(),
            exact: Hosts::default(),
            wildcard: Hosts::default(),
            any: None,
            pools: imbl::HashMap::new(),
            by_address: imbl::HashMap::new(),
            nodes: nodes::Nodes::default(),
            routes_to: imbl::HashMap::new(),
            eligible_http: 0,
            asking: 0,
            certificates: certificates::Table::default(),
            placeholder: certificates::placeholder(),
            listeners: OrdMap::new(),
            from_file: Vec::new(),
            http3: Vec::new(),
        }
    }
}

impl Snapshot {
    /// Number of the published state.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether the first complete view of cluster or directory is in it. Until then unknown hosts get 503, not 404.
    pub fn source_ready(&self) -> bool {
        self.source_ready
    }

    /// Finds the route for a host (`None`: an address, or no host at all) and a request: the winner, and for `explain`
    /// the losers with their reasons.
    pub fn find<'a>(&'a self, host: Option<&HostName>, asked: Asked<'a>) -> Found<'a> {
        self.find_text(host.map(HostName::as_str), asked)
    }

    /// As [`Snapshot::find`], with a host in lower case; allocates nothing.
    pub(crate) fn find_text<'a>(&'a self, host: Option<&str>, asked: Asked<'a>) -> Found<'a> {
        let exact = host.and_then(|host| self.exact.get(host));
        let wildcard = host
            .filter(|_| !self.wildcard.is_empty())
            .and_then(|host| host.split_once('.'))
            .and_then(|(_, suffix)| self.wildcard.get(suffix));
        route::find(
            exact.map(AsRef::as_ref),
            wildcard.map(AsRef::as_ref),
            self.any.as_deref(),
            asked,
        )
    }

    /// A pool, with every endpoint and its verdict.
    pub fn pool(&self, id: &PoolId) -> Option<&Arc<CompiledPool>> {
        self.pools.get(id)
    }

    /// All pools, in no order.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<CompiledPool>> {
        self.pools.values()
    }

    /// Eligible endpoints in all pools that HTTP routes lead to; costs nothing.
    pub fn eligible_http(&self) -> usize {
        self.eligible_http
    }

    /// What a client that sends `host` as SNI would get, and why.
    pub fn certificate(&self, host: &HostName) -> ServedCertificate<'_> {
        self.certificates.served(host.as_str())
    }

    /// Every TLS host with what it gets, ordered.
    pub fn certificates(&self) -> impl Iterator<Item = ServedCertificate<'_>> {
        self.wished
            .certificates
            .keys()
            .filter_map(|pattern| self.certificates.of(pattern))
    }

    /// The certificate for an SNI in lower case; `None` means the placeholder.
    pub(crate) fn certificate_for(&self, sni: &str) -> Option<&Arc<Certificate>> {
        self.certificates.certificate(sni)
    }

    /// The signing key for an SNI in lower case, and whether it is a real one.
    pub(crate) fn signing_key(&self, sni: Option<&str>) -> (Option<Arc<CertifiedKey>>, bool) {
        match sni.and_then(|sni| self.certificates.key(sni)) {
            Some(key) => (Some(Arc::clone(key)), true),
            None => (self.placeholder.clone(), false),
        }
    }

    /// Whether any host asks for certificates of clients.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.asking > 0
    }

    /// What the host of an SNI in lower case wants of them.
    pub(crate) fn client_auth(&self, sni: Option<&str>) -> Option<&Arc<crate::client_auth::Compiled>> {
        let exact = sni.and_then(|sni| self.exact.get(sni));
        let wildcard = || {
            let (_, suffix) = sni?.split_once('.')?;
            self.wildcard.get(suffix)
        };
        exact.or_else(wildcard).or(self.any.as_ref())?.client_auth()
    }

    /// The answer to an HTTP-01 challenge (RFC 8555 section 8.3).
    pub(crate) fn answer(&self, token: &str) -> Option<&ChallengeAnswer> {
        self.answers.get(token)
    }

    /// Sockets that are to listen.
    pub fn listeners(&self) -> &OrdMap<SocketAddr, ListenerKind> {
        &self.listeners
    }

    /// HTTPS listeners beside which HTTP/3 is to be served, on the same address and port.
    pub fn http3(&self) -> &[SocketAddr] {
        &self.http3
    }

    /// A key for `purpose` that stays as long as the key of the cookies does; `None` where there is none.
    pub(crate) fn derived_key(&self, purpose: &[u8]) -> Option<[u8; 32]> {
        use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
        let key = Key::new(HMAC_SHA256, self.sticky_key.as_ref()?.expose());
        sign(&key, purpose).as_ref().try_into().ok()
    }

    /// Virtual hosts, ordered by pattern.
    pub fn hosts(&self) -> &OrdMap<HostPattern, Arc<sekisho_config::model::VirtualHost>> {
        &self.wished.hosts
    }
}
