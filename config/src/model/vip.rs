use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::{ObjectName, PathChange, PeerName, PoolId, Prefix, Role};

/// A `[[vips]]` pool: addresses for Services of type LoadBalancer and for the Ingress listeners.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressPool {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses.
    pub addresses: Vec<Prefix>,
    /// To whom its addresses are announced.
    pub announce_to: Vec<AnnounceTo>,
    /// How.
    pub announcement: Announcement,
}

/// How the addresses of a pool are announced.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Announcement {
    /// What their paths have; rules of the peers come after.
    pub set: PathChange,
    /// Whether the prefixes of the pool are announced in place of the addresses in use.
    pub aggregate: Option<AggregateWhen>,
}

/// When the prefix of a pool is announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AggregateWhen {
    /// While one address in use inside it can serve.
    Any,
    /// While all addresses in use inside it can serve, and there is one.
    All,
}

/// One entry of `announce_to`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnnounceTo {
    /// Every peer of this role.
    Role(Role),
    /// This peer.
    Peer(PeerName),
}

/// A service address of the box.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// The `[[vips]]` pool it is from.
    pub pool: Arc<str>,
    /// To whom it is announced.
    pub announce_to: Vec<AnnounceTo>,
    /// What it serves.
    pub purpose: VipPurpose,
}

/// What a VIP serves, and so what must work before it may be announced.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VipPurpose {
    /// The HTTP and HTTPS listeners: every Ingress.
    Ingress,
    /// A Service of type LoadBalancer.
    Service {
        /// The Service.
        service: ObjectName,
        /// The pools behind its ports.
        pools: Vec<PoolId>,
    },
}

/// Why a VIP is not announced.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Withhold {
    /// No pool behind it has an eligible endpoint.
    NoEligibleEndpoint,
    /// A listener on it is not bound.
    ListenerNotBound {
        /// The socket address.
        listener: std::net::SocketAddr,
        /// What the system said, if it failed.
        error: Option<String>,
    },
    /// The first complete view of the cluster or directory is not there yet.
    SourceNotReady,
    /// Its prefix is announced only while all addresses in use inside it can serve, and one cannot.
    Together {
        /// The prefix.
        prefix: Prefix,
        /// The address that cannot.
        address: IpAddr,
    },
    /// The box is stopping.
    Stopping,
}

impl std::fmt::Display for Withhold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEligibleEndpoint => f.write_str("no eligible endpoint behind it"),
            Self::ListenerNotBound {
                listener,
                error: Some(error),
            } => write!(f, "{listener} is not bound: {error}"),
            Self::ListenerNotBound {
                listener,
                error: None,
            } => write!(f, "{listener} is not bound yet"),
            Self::SourceNotReady => f.write_str("the first complete view of the source is not there yet"),
            Self::Together { prefix, address } => {
                write!(
                    f,
                    "{prefix} is announced as a whole, and {address} inside it cannot serve"
                )
            }
            Self::Stopping => f.write_str("the box is stopping"),
        }
    }
}
