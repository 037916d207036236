use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;
use serde::Serialize;

use super::{CertificateSource, HostPattern, NodeName, ObjectName, Pool, PoolId, Secret, Vip, VirtualHost};

/// What the cluster (or the directory of manifests) asks for: the result of `ingress_controller::translate`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterPart {
    /// HTTP routes by host.
    pub hosts: OrdMap<HostPattern, Arc<VirtualHost>>,
    /// Pools that routes and TCP listeners lead to.
    pub pools: OrdMap<PoolId, Arc<Pool>>,
    /// TLS hosts. Never [`HostPattern::Any`].
    pub certificates: OrdMap<HostPattern, Arc<CertificateSource>>,
    /// TCP listeners on VIPs.
    pub tcp: OrdMap<SocketAddr, Arc<TcpRoute>>,
    /// Addresses in use.
    pub vips: OrdMap<IpAddr, Arc<Vip>>,
    /// The cluster's nodes.
    pub nodes: OrdMap<NodeName, Arc<NodeAddresses>>,
}

/// Addresses of a node: next hops of its pods' routes. Ordered, each once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeAddresses(pub Vec<IpAddr>);

/// A TCP listener and where its connections go.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TcpRoute {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The Service of type LoadBalancer.
    pub service: ObjectName,
    /// Its pool.
    pub pool: PoolId,
}

/// Everything that is wished and that the compilers need, from file and cluster. The control task owns the only
/// mutable copy; what only one room reads of the file (peers, limits) goes to that room directly.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Desired {
    /// From the cluster or the directory. `None` until its first complete view.
    pub cluster: Option<ClusterPart>,
    /// From the file: HTTP listeners.
    pub http: Vec<SocketAddr>,
    /// From the file: HTTPS listeners.
    pub https: Vec<SocketAddr>,
    /// From the file: HTTPS listeners beside which HTTP/3 is served.
    pub http3: Vec<SocketAddr>,
    /// Key of the cookies by which clients stay with a pod; without it there are none.
    pub sticky_key: Option<Secret>,
}
