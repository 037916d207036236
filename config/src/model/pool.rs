use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::Arc;

use serde::Serialize;

use super::{NodeName, ObjectName, PoolId, PoolPolicy, Unroutable, Upstream};

/// How a request finds its endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The less loaded of two picked at random (power of two choices).
    #[default]
    LeastRequest,
    /// Each in turn.
    RoundRobin,
    /// Of two, the one where time to the first octet times requests in flight is smaller; slow answers count at once and
    /// are forgotten slowly.
    PeakEwma,
    /// The same endpoint for the same client ([`super::HashBy`]), as long as it is not overloaded.
    ConsistentHash,
}

/// The backends of one Service port, as EndpointSlices name them; never a ClusterIP.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Pool {
    /// Which Service port.
    pub id: PoolId,
    /// How requests are spread.
    pub balance: Balance,
    /// How the box speaks to them.
    pub upstream: Upstream,
    /// What else is wished of it.
    pub policy: Arc<PoolPolicy>,
    /// Every endpoint the slices name, ready or not; ordered by address, each address once.
    pub endpoints: Vec<Endpoint>,
}

/// One pod behind a Service port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Endpoint {
    /// Pod address and resolved container port.
    pub address: SocketAddr,
    /// The pod (`targetRef`), where the slice names it.
    pub pod: Option<ObjectName>,
    /// The node that runs it, where the slice names it.
    pub node: Option<NodeName>,
    /// What the slice says of it.
    pub condition: Condition,
    /// Its share of the requests, in proportion to the others'.
    pub weight: NonZeroU8,
}

impl Endpoint {
    /// The pod's address, without port.
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

/// The slice's `conditions`, folded (absent `ready` and `serving` mean true).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Takes new requests.
    Ready,
    /// Terminating but still serving: used only when no endpoint of the pool is ready.
    ServingTerminating,
    /// Takes nothing.
    NotReady,
}

/// Why an endpoint gets no request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason", content = "detail")]
pub enum Ineligible {
    /// The slice says it is not ready.
    NotReady,
    /// It is terminating and others are ready.
    Terminating,
    /// No route to it.
    Unrouted(Unroutable),
    /// Its health check fails.
    Unhealthy,
    /// Its health check has no result yet, and the check is strict.
    Unchecked,
}

impl std::fmt::Display for Ineligible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotReady => f.write_str("its EndpointSlice says it is not ready"),
            Self::Terminating => f.write_str("it is terminating and others are ready"),
            Self::Unrouted(why) => why.fmt(f),
            Self::Unhealthy => f.write_str("its health check fails"),
            Self::Unchecked => f.write_str("its health check has no result yet"),
        }
    }
}
