use std::sync::Arc;

use serde::Serialize;

use super::{Conditions, Filters, HostPattern, ObjectName, Pattern, PoolId, RouteId};

/// All routes of one host, in the order in which they are tried.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct VirtualHost {
    /// Which host.
    pub host: HostPattern,
    /// Its routes, best first: longest path, then by kind of path, then more conditions, then the older Ingress, then its
    /// name. Two routes never have the same path match and the same conditions; who lost is a finding.
    pub routes: Vec<Route>,
    /// What answers when no route matches: `spec.defaultBackend` of the oldest Ingress that names this host.
    /// On [`HostPattern::Any`] it is the default of the whole box.
    pub fallback: Option<Route>,
}

/// One path of one Ingress rule, with what it leads to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Route {
    /// Which one.
    pub id: RouteId,
    /// Which request paths it takes.
    pub path: PathMatch,
    /// What else a request has to have.
    pub conditions: Conditions,
    /// What is done with its requests and answers beside forwarding them.
    pub filters: Option<Arc<Filters>>,
    /// Where they go.
    pub action: Action,
}

/// Ingress v1 path types, and regular expressions, on the normalised request path, without query.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The same octets.
    Exact(Arc<str>),
    /// Element-wise prefix: `/aaa` takes `/aaa`, `/aaa/` and `/aaa/b`, not `/aaab`. Holds the path as written.
    Prefix(Arc<str>),
    /// The whole path matches.
    Regex(Pattern),
}

impl PathMatch {
    /// The path as the Ingress writes it.
    pub fn path(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
            Self::Regex(pattern) => pattern.as_str(),
        }
    }
}

impl std::fmt::Display for PathMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Exact(_) => "Exact",
            Self::Prefix(_) => "Prefix",
            Self::Regex(_) => "regular expression",
        };
        write!(f, "{kind} {}", self.path())
    }
}

/// What happens with a request that a route takes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// To an endpoint of this pool; 503 when it has none that is eligible.
    Forward(PoolId),
    /// Shared out by chance among several. A share that is unavailable answers 503 and is not given to the others.
    Split(Arc<[Share]>),
    /// 503: the route exists and its backend cannot be resolved. It never falls through to another route.
    Unavailable(Unavailable),
}

/// One of several that share the requests of a route.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Share {
    /// How much of the sum of all weights; none when it is 0.
    pub weight: u16,
    /// What happens with it; never a split again.
    pub action: Action,
}

impl Action {
    /// Every pool that requests may go to.
    pub fn pools(&self) -> impl Iterator<Item = &PoolId> {
        let (one, many) = match self {
            Self::Forward(pool) => (Some(pool), &[][..]),
            Self::Split(shares) => (None, &shares[..]),
            Self::Unavailable(_) => (None, &[][..]),
        };
        one.into_iter()
            .chain(many.iter().filter_map(|share| match &share.action {
                Self::Forward(pool) => Some(pool),
                Self::Split(_) | Self::Unavailable(_) => None,
            }))
    }

    /// What is done with a request for which the die shows `roll`: everything shares alike over many rolls.
    pub fn rolled(&self, roll: u64) -> &Self {
        let Self::Split(shares) = self else { return self };
        let sum: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
        let mut left = roll.checked_rem(sum).unwrap_or(0);
        for share in shares.iter() {
            let weight = u64::from(share.weight);
            if left < weight {
                return &share.action;
            }
            left -= weight;
        }
        shares.first().map_or(self, |share| &share.action)
    }
}

/// Why a route has no pool.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Unavailable {
    /// The Service does not exist.
    ServiceMissing {
        /// Its name.
        service: ObjectName,
    },
    /// The Service has no such port.
    PortMissing {
        /// The Service.
        service: ObjectName,
        /// Port name or number as the Ingress writes it.
        port: Arc<str>,
    },
    /// The Service is of a type that has no endpoints (ExternalName).
    UnsupportedService {
        /// The Service.
        service: ObjectName,
    },
    /// The backend is a `resource`, not a Service.
    UnsupportedBackend,
    /// An annotation without which more would pass than is meant cannot be read.
    Unreadable {
        /// Its name.
        annotation: Arc<str>,
    },
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ServiceMissing { service } => write!(f, "Service {service} does not exist"),
            Self::PortMissing { service, port } => write!(f, "Service {service} has no port {port}"),
            Self::UnsupportedService { service } => write!(f, "Service {service} is of type ExternalName"),
            Self::Unreadable { annotation } => {
                write!(
                    f,
                    "annotation {annotation} cannot be read, so that nothing passes"
                )
            }
            Self::UnsupportedBackend => f.write_str("the backend is a resource, not a Service"),
        }
    }
}
