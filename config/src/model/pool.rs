use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{NodeName, ObjectName, PoolId, Unroutable, Upstream};

/// How a request finds its endpoint.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The less loaded of two picked at random (power of two choices).
    #[default]
    LeastRequest,
    /// Each in turn.
    RoundRobin,
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
    /// Health evidence is against it.
    Unhealthy,
}

impl std::fmt::Display for Ineligible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotReady => f.write_str("its EndpointSlice says it is not ready"),
            Self::Terminating => f.write_str("it is terminating and others are ready"),
            Self::Unrouted(why) => why.fmt(f),
            Self::Unhealthy => f.write_str("health evidence is against it"),
        }
    }
}
