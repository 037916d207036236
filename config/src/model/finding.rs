use serde::Serialize;

use super::ObjectName;

/// Something in an object or file that cannot be used as written. It never stops the good parts.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Finding {
    /// What kind, for metrics and conditions.
    pub kind: FindingKind,
    /// Kind of the object: `Ingress`, `Service`, `Secret`, `EndpointSlice`, `File`…
    pub object_kind: &'static str,
    /// The object.
    pub object: ObjectName,
    /// Where in the object: `spec.rules[0].http.paths[1].backend`, `line 12`, or empty.
    pub place: String,
    /// What is wrong and what to do, in one line; never secret material, control characters escaped.
    pub message: String,
}

/// Kinds of findings; a bounded set (it labels a metric).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A Service, its port, or endpoints that an Ingress needs are missing.
    BackendMissing,
    /// A TLS Secret is missing, unreadable, or its names do not cover the host.
    CertificateUnusable,
    /// A field has a value that cannot be used.
    InvalidValue,
    /// Two objects claim the same host and path, certificate host, or address; the message names the winner.
    Conflict,
    /// The object asks for something that is not supported.
    Unsupported,
    /// No address could be given.
    AddressUnavailable,
    /// A file cannot be read or parsed.
    Unreadable,
    /// A Secret or ConfigMap that an annotation names is missing, or does not hold what it is to hold.
    ReferenceUnusable,
}

impl FindingKind {
    /// Every kind, for metrics.
    pub const ALL: [Self; 8] = [
        Self::BackendMissing,
        Self::CertificateUnusable,
        Self::InvalidValue,
        Self::Conflict,
        Self::Unsupported,
        Self::AddressUnavailable,
        Self::Unreadable,
        Self::ReferenceUnusable,
    ];

    /// The kind in snake case, as metrics and JSON write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackendMissing => "backend_missing",
            Self::CertificateUnusable => "certificate_unusable",
            Self::InvalidValue => "invalid_value",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::AddressUnavailable => "address_unavailable",
            Self::Unreadable => "unreadable",
            Self::ReferenceUnusable => "reference_unusable",
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.object_kind, self.object)?;
        if !self.place.is_empty() {
            write!(f, " {}", self.place)?;
        }
        write!(f, ": {}", self.message)
    }
}
