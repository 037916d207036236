//! Plain types shared by every room. `Eq`, ordered maps, no I/O, no locks, no tokio.
//!
//! Collections that grow with the cluster are [`imbl::OrdMap`]s of `Arc`s: handing over the whole wished state
//! costs one pointer, and comparing two of them costs what changed, not what exists.

mod as_path;
mod bgp;
mod certificate;
mod client_auth;
mod community;
mod compression;
mod condition;
mod desired;
mod door;
mod error_page;
mod filter;
mod finding;
mod host;
mod ids;
mod observed;
mod password;
mod pattern;
mod policy;
mod pool;
mod pool_policy;
mod prefix;
mod route;
mod secret;
mod settings;
mod upstream;
mod vip;

pub use as_path::AsPathPattern;
pub use bgp::{
    AoAlgorithm, AoKey, Asn, Bfd, BfdAlgorithm, BfdAuth, BfdKey, Bgp, BgpIdentity, BgpRole, ErrorWait,
    GracefulRestart, MaxPrefixes, Multipath, MultipathRule, PassOn, PassedNextHop, Peer, PeerAs, PeerName,
    PeerRange, Role, RouterId, SessionSettings, Transport,
};
pub use certificate::{Certificate, CertificateError, CertificateSource, NameSet};
pub use client_auth::{ClientAuth, ClientCas};
pub use community::{Community, CommunityPattern};
pub use compression::{Compression, Encoding, MediaRange, takes};
pub use condition::{Conditions, FieldCondition, ValueMatch};
pub use desired::{ClusterPart, Desired, NodeAddresses, TcpRoute};
pub use door::{Basic, ConcurrentLimit, Door, ForwardAuth, Jwt, LimitBy, RateLimit};
pub use error_page::{ErrorPage, ErrorPages, PageFor};
pub use filter::{
    Cors, Filters, FixedAnswer, HeaderChanges, Mirror, Origin, PathTemplate, Redirect, TemplatePiece, Waits,
};
pub use finding::{Finding, FindingKind};
pub use host::{HostName, HostPattern};
pub use ids::{Invalid, NodeName, ObjectName, PoolId, Revision, RouteId, ServiceStatus};
pub use observed::{
    ChallengeAnswer, Health, ListenerState, Observed, Reach, RoutedVia, Unroutable, VipServing,
};
pub use password::{PasswordHash, Scheme, UserFault, Users};
pub use pattern::Pattern;
pub use policy::{
    AsPathCondition, CommunityChange, PathChange, PolicyRule, PrefixRange, RuleAction, RuleNextHop,
};
pub use pool::{Balance, Condition, Endpoint, Ineligible, Pool};
pub use pool_policy::{
    Affinity, HashBy, HealthCheck, Limits, Outlier, PoolPolicy, Probe, Retry, RetryOn, SameSite,
};
pub use prefix::Prefix;
pub use route::{Action, PathMatch, Route, Share, Unavailable, VirtualHost};
pub use secret::Secret;
pub use settings::{
    AccessLog, Acme, Appliance, Http, KeySets, Listen, LogFormat, Routing, Settings, Source, SourceKind,
    Timeouts, Tracing, is_https_url,
};
pub use upstream::{ProxyProtocol, Roots, Trust, Upstream, UpstreamProtocol, UpstreamTls};
pub use vip::{AddressPool, AggregateWhen, AnnounceTo, Announcement, Vip, VipPurpose, Withhold};
