use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{ClientAuth, PoolId, Prefix, Users};

/// Who may come in, and how often.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Door {
    /// Networks that are let in; everybody when there is none. Of those that hold an address, the longest of `allow` and
    /// `deny` decides; of two as long, `deny`.
    pub allow: Vec<Prefix>,
    /// Networks that are turned away.
    pub deny: Vec<Prefix>,
    /// How often.
    pub rate: Option<RateLimit>,
    /// How many requests at a time.
    pub concurrent: Option<ConcurrentLimit>,
    /// Which certificates of clients are believed.
    pub client_auth: Option<Arc<ClientAuth>>,
    /// Whose passwords let in.
    pub basic: Option<Basic>,
    /// Which tokens are believed.
    pub jwt: Option<Jwt>,
    /// Whom to ask.
    pub forward_auth: Option<ForwardAuth>,
}

impl Door {
    /// Whether everybody may come in, always.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// So many requests in a time, for each of those who are counted together; more are refused (429).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RateLimit {
    /// From 1.
    pub requests: u32,
    /// In which they may come.
    pub per: Duration,
    /// How many may come at once after a pause; from 1.
    pub burst: u32,
    /// Who is counted together.
    pub by: LimitBy,
}

/// So many requests in progress, for each of those who are counted together; more are refused (429).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ConcurrentLimit {
    /// From 1.
    pub most: u32,
    /// Who is counted together.
    pub by: LimitBy,
}

/// Who is counted together.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// Clients with the same address; of IPv6 the same /64, which is one customer.
    #[default]
    Address,
    /// Requests with the same value in this field; those without it are counted by address.
    Header(Arc<str>),
    /// All of the Ingress.
    Ingress,
}

/// Names and passwords in `Authorization: Basic` (RFC 7617), without which nothing passes (401).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Basic {
    /// Who may come in.
    pub users: Arc<Users>,
    /// What browsers show: printable ASCII without `"` and `\`.
    pub realm: Arc<str>,
    /// Whether the field is taken out before the request goes on.
    pub strip: bool,
    /// The field in which the name goes on; what the client sends in it is taken out.
    pub user_header: Option<Arc<str>>,
}

/// JSON Web Tokens (RFC 7519) in `Authorization: Bearer`, without which nothing passes (401).
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Jwt {
    /// The public keys: a JSON Web Key Set (RFC 7517).
    pub keys: Arc<str>,
    /// What `iss` has to be.
    pub issuer: Option<Arc<str>>,
    /// Of which `aud` has to hold one.
    pub audiences: Vec<Arc<str>>,
    /// How far the clocks may be apart.
    pub leeway: Duration,
    /// Claims and the header fields in which they go on; what the client sends in them is taken out.
    pub claims: Vec<(Arc<str>, Arc<str>)>,
}

/// A Service that is asked about every request before it goes on: an answer with 2xx lets it pass, any other is given
/// to the client, and when there is none, nothing passes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ForwardAuth {
    /// Where the Service's pods are; `None` while it does not exist: nothing passes.
    pub pool: Option<PoolId>,
    /// The `Host` it is asked with.
    pub host: Arc<str>,
    /// Path and query it is asked with.
    pub path: Arc<str>,
    /// Until its answer has come.
    pub timeout: Duration,
    /// Fields of its answer that go on with the request; what the client sends in them is taken out.
    pub copy: Vec<Arc<str>>,
}
