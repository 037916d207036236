//! What Sekisho keeps of each Kubernetes object: the fields it reads, as they are written, and nothing else.
//!
//! Values are judged by `translate`, where a fault becomes a finding beside the object that uses it. Only what is dear
//! to judge (a certificate) is judged here, once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use sekisho_config::model::{Certificate, CertificateError, NodeName, ObjectName, Roots};

use super::Content;

/// Annotations under `sekisho.io/` and `kubernetes.io/ingress.class`; others are dropped.
pub type Annotations = BTreeMap<Arc<str>, Arc<str>>;

/// An Ingress (`networking.k8s.io/v1`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ingress {
    /// Its name.
    pub name: ObjectName,
    /// `metadata.creationTimestamp`; absent in files.
    pub created: Option<Timestamp>,
    /// Those that we read.
    pub annotations: Annotations,
    /// `spec.ingressClassName`
    pub class_name: Option<Arc<str>>,
    /// `spec.defaultBackend`
    pub default_backend: Option<Backend>,
    /// `spec.rules`
    pub rules: Vec<Rule>,
    /// `spec.tls`
    pub tls: Vec<Tls>,
    /// `status.loadBalancer.ingress`
    pub status: Status,
}

/// One of `spec.rules`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// `host`; empty for every host.
    pub host: Arc<str>,
    /// `http.paths`
    pub paths: Vec<RulePath>,
}

/// One of `http.paths`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RulePath {
    /// `path`
    pub path: Arc<str>,
    /// `pathType`
    pub path_type: PathType,
    /// `backend`
    pub backend: Backend,
}

/// `pathType`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathType {
    /// `Exact`
    Exact,
    /// `Prefix`
    Prefix,
    /// `ImplementationSpecific`
    ImplementationSpecific,
    /// Anything else.
    Other(Arc<str>),
}

/// `backend` or `defaultBackend`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Backend {
    /// `service`
    Service {
        /// `service.name`
        name: Arc<str>,
        /// `service.port`
        port: ServicePortRef,
    },
    /// `resource`, by kind and name.
    Resource {
        /// `resource.kind`
        kind: Arc<str>,
        /// `resource.name`
        name: Arc<str>,
    },
    /// Neither, or both.
    Invalid,
}

/// `service.port`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServicePortRef {
    /// `number`
    Number(i32),
    /// `name`
    Name(Arc<str>),
    /// Neither, or both.
    Invalid,
}

/// One of `spec.tls`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// `hosts`
    pub hosts: Vec<Arc<str>>,
    /// `secretName`; an empty one counts as absent.
    pub secret_name: Option<Arc<str>>,
}

/// What `status.loadBalancer.ingress` says now, and whether it was us who said it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// `ip` of each entry, in order.
    pub addresses: Vec<IpAddr>,
    /// Whether there is an entry that is not a plain `ip` (a host name, something unreadable).
    pub others: bool,
    /// Whether `metadata.managedFields` names our field manager for the status.
    pub ours: bool,
}

/// An IngressClass (`networking.k8s.io/v1`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IngressClass {
    /// Its name (cluster-scoped).
    pub name: ObjectName,
    /// `spec.controller`
    pub controller: Arc<str>,
    /// Annotation `ingressclass.kubernetes.io/is-default-class: "true"`.
    pub default: bool,
}

/// A Service (`v1`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// `metadata.creationTimestamp`; absent in files.
    pub created: Option<Timestamp>,
    /// Those that we read.
    pub annotations: Annotations,
    /// `spec.type`
    pub service_type: ServiceType,
    /// `spec.ports`
    pub ports: Vec<ServicePort>,
    /// `spec.loadBalancerClass`
    pub load_balancer_class: Option<Arc<str>>,
    /// `spec.loadBalancerIP`
    pub load_balancer_ip: Option<Arc<str>>,
    /// Whether there are `spec.loadBalancerSourceRanges`.
    pub source_ranges: bool,
    /// `spec.ipFamilies`; empty in most files.
    pub ip_families: Vec<Arc<str>>,
    /// `spec.ipFamilyPolicy`
    pub ip_family_policy: Option<Arc<str>>,
    /// `status.loadBalancer.ingress`
    pub status: Status,
}

/// `spec.type` of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServiceType {
    /// `ClusterIP`, `NodePort`, or anything that has endpoints and wants no address.
    Inside,
    /// `LoadBalancer`
    LoadBalancer,
    /// `ExternalName`
    ExternalName,
}

/// One of `spec.ports` of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// `name`; empty for the only port of a Service.
    pub name: Arc<str>,
    /// `port`
    pub port: i32,
    /// `protocol`
    pub protocol: Protocol,
    /// `appProtocol`; empty when absent.
    pub app_protocol: Arc<str>,
}

/// `protocol` of a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// `TCP`, also when absent.
    Tcp,
    /// `UDP`
    Udp,
    /// `SCTP` or anything else.
    Other,
}

/// A Node (`v1`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its name; no namespace.
    pub name: ObjectName,
    /// Addresses of its own: next hops of its pods' routes. Ordered, each once.
    pub addresses: Vec<IpAddr>,
}

/// An EndpointSlice (`discovery.k8s.io/v1`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointSlice {
    /// Its name.
    pub name: ObjectName,
    /// Those that we read.
    pub annotations: Annotations,
    /// The Service, from label `kubernetes.io/service-name`.
    pub service: Option<ObjectName>,
    /// `addressType`
    pub address_type: AddressType,
    /// `ports`
    pub ports: Vec<SlicePort>,
    /// `endpoints`
    pub endpoints: Vec<SliceEndpoint>,
}

/// `addressType` of an EndpointSlice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AddressType {
    /// `IPv4`
    Ipv4,
    /// `IPv6`
    Ipv6,
    /// `FQDN` or anything else.
    Other(Arc<str>),
}

/// One of `ports` of an EndpointSlice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlicePort {
    /// `name`; empty when absent.
    pub name: Arc<str>,
    /// `port`; absent means every port.
    pub port: Option<i32>,
    /// `protocol`
    pub protocol: Protocol,
    /// `appProtocol`; empty when absent.
    pub app_protocol: Arc<str>,
}

/// One of `endpoints` of an EndpointSlice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SliceEndpoint {
    /// `addresses`, as written.
    pub addresses: Vec<Arc<str>>,
    /// `conditions.ready`; absent means true.
    pub ready: bool,
    /// `conditions.serving`; absent means the same as `ready`.
    pub serving: bool,
    /// `conditions.terminating`
    pub terminating: bool,
    /// `nodeName`
    pub node: Option<NodeName>,
    /// `targetRef`, where it is a Pod.
    pub pod: Option<ObjectName>,
}

/// A Secret of type `kubernetes.io/tls` (`v1`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSecret {
    /// Its name.
    pub name: ObjectName,
    /// What it holds.
    pub certificate: Result<Arc<Certificate>, SecretFault>,
    /// `ca.crt`: the CAs that whoever uses this Secret is to believe.
    pub roots: Result<Roots, SecretFault>,
    /// What annotations may read of it.
    pub content: Arc<Content>,
}

/// Why a Secret holds no usable certificate. Never holds key material.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretFault {
    /// A key is missing.
    #[error(
        "it has no `{0}`; a Secret of type kubernetes.io/tls has tls.crt and tls.key, and ca.crt where it names a CA"
    )]
    KeyMissing(&'static str),
    /// The chain or key cannot be used.
    #[error(transparent)]
    Certificate(CertificateError),
}
