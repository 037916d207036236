//! How a pool is used: who gets which request, what an endpoint may bear, when it is out, what is tried again.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// Everything that Service or Ingress may wish of a pool besides its balance.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct PoolPolicy {
    /// What stands for a client in consistent hashing.
    pub hash_by: HashBy,
    /// Whether clients stay with a pod by a cookie.
    pub affinity: Option<Affinity>,
    /// For how long a new or returned endpoint gets less than its share; zero: not at all.
    pub slow_start: Duration,
    /// What endpoints and pool bear at a time.
    pub limits: Limits,
    /// Whether and how endpoints are asked for their health.
    pub health_check: Option<Arc<HealthCheck>>,
    /// When traffic itself shows that an endpoint is out.
    pub outlier: Outlier,
    /// When less than this share of the endpoints, in percent, is healthy, health is no longer looked at.
    pub panic_percent: u8,
    /// What is tried again.
    pub retry: Retry,
    /// How long one try may take until the header of its answer; `None`: as `timeouts.response_read` says.
    pub per_try_timeout: Option<Duration>,
    /// How long all tries together may take until the header of an answer; `None`: no limit of its own.
    pub total_timeout: Option<Duration>,
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            hash_by: HashBy::default(),
            affinity: None,
            slow_start: Duration::ZERO,
            limits: Limits::default(),
            health_check: None,
            outlier: Outlier::default(),
            panic_percent: 25,
            retry: Retry::default(),
            per_try_timeout: None,
            total_timeout: None,
        }
    }
}

/// What stands for a client in consistent hashing; a request without it is balanced by least request.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashBy {
    /// The client's address.
    #[default]
    Address,
    /// A header field, by its name in lower case.
    Header(Arc<str>),
    /// A cookie.
    Cookie(Arc<str>),
    /// A parameter of the query.
    Query(Arc<str>),
    /// The path in normal form.
    Path,
}

/// Stickiness to a pod by a cookie of the box.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Affinity {
    /// Name of the cookie.
    pub name: Arc<str>,
    /// How long the client keeps it; `None`: until its session ends.
    pub max_age: Option<Duration>,
    /// `SameSite`
    pub same_site: Option<SameSite>,
    /// `Secure`; `None`: on TLS.
    pub secure: Option<bool>,
    /// `HttpOnly`
    pub http_only: bool,
    /// Whether a client gets the cookie of another pod while its own fails (and not only when it is gone).
    pub change_on_failure: bool,
}

impl Default for Affinity {
    fn default() -> Self {
        Self {
            name: "sekisho".into(),
            max_age: None,
            same_site: None,
            secure: None,
            http_only: true,
            change_on_failure: false,
        }
    }
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// Sent with requests from anywhere; browsers want `Secure` with it.
    None,
    /// Sent when the user follows a link.
    Lax,
    /// Sent from the site itself only.
    Strict,
}

/// Requests and TCP connections at a time. `None` is no limit.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// At one endpoint.
    pub per_endpoint: Option<NonZeroU32>,
    /// In the pool.
    pub in_flight: Option<NonZeroU32>,
    /// That wait for a place.
    pub waiting: u32,
    /// How long they wait.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_endpoint: None,
            in_flight: None,
            waiting: 0,
            wait: Duration::from_secs(1),
        }
    }
}

/// How an endpoint is asked for its health.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Another port than the endpoint's.
    pub port: Option<u16>,
    /// Time between two probes, from begin to begin.
    pub interval: Duration,
    /// Until a probe has failed.
    pub timeout: Duration,
    /// Good probes in a row until an unhealthy endpoint is healthy.
    pub rise: u32,
    /// Bad probes in a row until a healthy endpoint is unhealthy.
    pub fall: u32,
    /// Whether an endpoint has to show its health before it gets requests.
    pub strict: bool,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            probe: Probe::Tcp,
            port: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            strict: false,
        }
    }
}

/// What a health check asks.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Whether it takes connections.
    Tcp,
    /// `GET` over HTTP/1.1.
    Http {
        /// Path, with query if any.
        path: Arc<str>,
        /// `Host`; `None`: the endpoint's address.
        host: Option<Arc<str>>,
        /// Statuses that are good: ranges, both ends included.
        expect: Vec<(u16, u16)>,
    },
    /// `grpc.health.v1.Health/Check` over HTTP/2 in the clear.
    Grpc {
        /// The service asked for; empty: the server as a whole.
        service: Arc<str>,
    },
}

/// When traffic itself shows that an endpoint is out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Outlier {
    /// Failures in a row until an endpoint is ejected; 0: never.
    pub consecutive: u32,
    /// How long the first ejection lasts; the nth lasts n times as long.
    pub base: Duration,
    /// Share of a pool, in percent, that may be ejected at a time.
    pub max_percent: u8,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive: 5,
            base: Duration::from_secs(30),
            max_percent: 50,
        }
    }
}

/// What is tried again, always at another endpoint if there is one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Retry {
    /// Tries beyond the first.
    pub tries: u32,
    /// After what.
    pub on: RetryOn,
    /// Retries may be this share of the requests, in percent, ...
    pub budget_percent: u32,
    /// ... and this many a second in any case.
    pub budget_floor: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 2,
            on: RetryOn::default(),
            budget_percent: 20,
            budget_floor: 10,
        }
    }
}

/// After what a request is tried again. All but `connect` only where it may be sent twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect: bool,
    /// A kept connection broke off before any octet of the answer.
    pub reset: bool,
    /// A try took longer than `per_try_timeout`.
    pub timeout: bool,
    /// 502
    pub bad_gateway: bool,
    /// 503
    pub unavailable: bool,
    /// 504
    pub gateway_timeout: bool,
}

impl RetryOn {
    /// Nothing at all.
    pub const NEVER: Self = Self {
        connect: false,
        reset: false,
        timeout: false,
        bad_gateway: false,
        unavailable: false,
        gateway_timeout: false,
    };

    /// Whether an answer of this status is tried again.
    pub fn status(&self, status: u16) -> bool {
        match status {
            502 => self.bad_gateway,
            503 => self.unavailable,
            504 => self.gateway_timeout,
            _ => false,
        }
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            connect: true,
            reset: true,
            ..Self::NEVER
        }
    }
}
