use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A value that its type forbids: which, and what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what}; {instead}")]
pub struct Invalid {
    /// What is wrong, with the value.
    pub what: String,
    /// What to write instead.
    pub instead: &'static str,
}

impl Invalid {
    /// An error that names what is wrong and the way out.
    pub fn new(what: impl Into<String>, instead: &'static str) -> Self {
        Self {
            what: what.into(),
            instead,
        }
    }
}

/// Number of a published state: grows by one with every change the control task publishes; 0 is "nothing yet".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Namespace and name of a Kubernetes object. Prints as `namespace/name`; cluster-scoped objects have an empty namespace.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectName {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name within the namespace.
    pub name: Arc<str>,
}

impl ObjectName {
    /// Names the object `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl Serialize for ObjectName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Name of a Kubernetes Node.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct NodeName(pub Arc<str>);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The endpoints behind one port of one Service. Prints as `namespace/service:port`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PoolId {
    /// The Service.
    pub service: ObjectName,
    /// Its `spec.ports[].port`, the number even where the Ingress gave a name.
    pub port: u16,
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl Serialize for PoolId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// One path of one rule of one Ingress. Prints as `namespace/ingress[rule.path]`, or `namespace/ingress[default]`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteId {
    /// The Ingress.
    pub ingress: ObjectName,
    /// Indexes into `spec.rules` and `http.paths`; `None` for `spec.defaultBackend`.
    pub place: Option<(u32, u32)>,
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((rule, path)) => write!(f, "{}[{rule}.{path}]", self.ingress),
            None => write!(f, "{}[default]", self.ingress),
        }
    }
}

impl Serialize for RouteId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A Service of type LoadBalancer as the address allocator sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceStatus {
    /// The Service.
    pub service: ObjectName,
    /// Addresses now in `status.loadBalancer.ingress[].ip`.
    pub addresses: Vec<std::net::IpAddr>,
}
