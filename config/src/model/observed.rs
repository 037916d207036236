use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;
use serde::Serialize;

use super::{Certificate, HealthCheck, NameSet, PeerName, Prefix};

/// Everything that is seen. The control task owns the only mutable copy.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What the RIB says of the addresses that control tracks. Absent: not asked yet.
    pub reach: OrdMap<IpAddr, Reach>,
    /// Certificates that ACME has obtained, by identifiers.
    pub certificates: OrdMap<Arc<NameSet>, Arc<Certificate>>,
    /// HTTP-01 answers to serve, by token.
    pub answers: OrdMap<Arc<str>, ChallengeAnswer>,
    /// What health checks say of endpoints. Absent: no result yet.
    pub health: OrdMap<(SocketAddr, Arc<HealthCheck>), Health>,
    /// Listening sockets.
    pub listeners: OrdMap<SocketAddr, ListenerState>,
}

/// What a health check says of an endpoint.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Health {
    /// Whether it passes.
    pub well: bool,
    /// What the probe that decided it met.
    pub detail: Arc<str>,
}

/// Whether and how an address is reached.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Reach {
    /// A usable route exists.
    Routed(RoutedVia),
    /// None does.
    Unroutable {
        /// Why.
        why: Unroutable,
    },
}

/// The route to an address.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RoutedVia {
    /// Longest matching prefix.
    pub prefix: Prefix,
    /// Next hops, ordered; more than one for ECMP.
    pub next_hops: Vec<IpAddr>,
    /// Who said so; empty for a kernel route that is not ours.
    pub peers: Vec<PeerName>,
    /// Outgoing interface, where known.
    pub interface: Option<Arc<str>>,
    /// Whether the route is the kernel's own (`routing = "preferred"`), not learned by BGP.
    pub kernel: bool,
}

/// Why there is no usable route.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unroutable {
    /// No route covers the address.
    NoRoute,
    /// A route covers it, but no next hop of it can be reached.
    NextHopUnreachable,
    /// The RIB has not answered yet.
    NotAsked,
}

impl std::fmt::Display for Unroutable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "no route covers it",
            Self::NextHopUnreachable => "the next hop of its route cannot be reached",
            Self::NotAsked => "the routing table has not answered yet",
        })
    }
}

/// The answer to an HTTP-01 challenge (RFC 8555 section 8.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChallengeAnswer {
    /// Body: the key authorization.
    pub key_authorization: Arc<str>,
}

/// State of a listening socket.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ListenerState {
    /// Bound on every worker.
    Bound,
    /// Refused by the system; tried again.
    Failed {
        /// What it said.
        error: String,
    },
}

/// Facts about one VIP, for `bgp::announce::plan`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VipServing {
    /// Sockets that must be bound, with their state (`None`: not heard of yet).
    pub listeners: Vec<(SocketAddr, Option<ListenerState>)>,
    /// Whether any pool behind it has an eligible endpoint.
    pub can_serve: bool,
}
