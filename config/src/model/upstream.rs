use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use serde::{Serialize, Serializer};

use super::HostName;

/// Versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// How the box speaks to the endpoints of a pool.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Upstream {
    /// What requests are written in.
    pub protocol: UpstreamProtocol,
    /// TLS, where the endpoints speak it.
    pub tls: Option<UpstreamTls>,
    /// Header that begins every connection and says who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// What requests to endpoints are written in.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: in the clear with prior knowledge (h2c), or over TLS.
    Http2,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct UpstreamTls {
    /// The name that is asked for (SNI) and that the certificate must carry.
    pub server_name: HostName,
    /// Whose certificates are believed.
    pub trust: Trust,
}

/// Certificates of CAs, DER.
pub type Roots = Arc<[CertificateDer<'static>]>;

/// Whose certificates are believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trust {
    /// The CAs that the system of the box trusts.
    System,
    /// These CAs and no other; none at all where the CA that was named cannot be used.
    Roots(Roots),
    /// Everybody: the connection is encrypted, and with whom is not known.
    Anybody,
}

impl Serialize for Trust {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::System => s.serialize_str("system"),
            Self::Roots(roots) => s.collect_str(&format_args!("{} roots", roots.len())),
            Self::Anybody => s.serialize_str("off"),
        }
    }
}
