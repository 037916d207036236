//! Why an order failed, in words for an operator, and whom it holds up.

use instant_acme::{Error, Identifier, Problem};
use jiff::Timestamp;
use sekisho_config::chain;
use sekisho_config::model::HostPattern;

/// Text of a CA goes into logs and views; this much of it.
const LONGEST_DETAIL: usize = 400;

/// Subproblems that are told; the rest is counted.
const MOST_SUBPROBLEMS: usize = 5;

/// Prefix of the problem types of RFC 8555 section 6.7.
const URN: &str = "urn:ietf:params:acme:error:";

/// A failed order.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What sort of failure.
    pub kind: FailureKind,
    /// What, where, remedy. Never key material.
    pub message: String,
    /// What the CA asked for by Retry-After.
    pub retry_after: Option<Timestamp>,
    /// Identifiers whose authorization the CA has counted as failed.
    pub authorizations: Vec<HostPattern>,
}

/// Sort of a failure, a metric label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FailureKind {
    /// No answer from the CA, or none that is ACME.
    Unreachable,
    /// The CA refuses the account, or to make one.
    Account,
    /// The CA does not know the account (any more).
    UnknownAccount,
    /// A limit of the CA is used up.
    RateLimited,
    /// The CA looked and did not find the answer to its challenge.
    Validation,
    /// The CA refuses the order for another reason.
    Refused,
    /// The CA did not finish in time.
    Slow,
    /// The control task did not publish the answer in time; the CA was not told to look.
    NotPublished,
    /// What the CA issued is not what was ordered.
    BadCertificate,
    /// The state directory cannot be written, so nothing is ordered.
    Store,
    /// A fault of our own.
    Internal,
    /// No longer wanted, another CA, or the process stops.
    Cancelled,
}

/// Whom a failure holds up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// The set of names.
    Names,
    /// Every set: the CA, the way to it or our disk is at fault.
    Ca,
    /// The set, and the others for a little.
    Both,
    /// Nobody.
    Nobody,
}

impl Blame {
    /// Whether the set is held up.
    pub fn names(self) -> bool {
        matches!(self, Self::Names | Self::Both)
    }

    /// Whether every set is held up.
    pub fn ca(self) -> bool {
        matches!(self, Self::Ca | Self::Both)
    }
}

impl FailureKind {
    /// Every kind, for the metrics.
    pub const ALL: [Self; 12] = [
        Self::Unreachable,
        Self::Account,
        Self::UnknownAccount,
        Self::RateLimited,
        Self::Validation,
        Self::Refused,
        Self::Slow,
        Self::NotPublished,
        Self::BadCertificate,
        Self::Store,
        Self::Internal,
        Self::Cancelled,
    ];

    /// Whom it holds up.
    pub fn blame(self) -> Blame {
        match self {
            Self::Unreachable | Self::Account | Self::UnknownAccount | Self::Store => Blame::Ca,
            Self::RateLimited => Blame::Both,
            Self::Validation
            | Self::Refused
            | Self::Slow
            | Self::NotPublished
            | Self::BadCertificate
            | Self::Internal => Blame::Names,
            Self::Cancelled => Blame::Nobody,
        }
    }

    /// As a metric label and log field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Account => "account",
            Self::UnknownAccount => "unknown_account",
            Self::RateLimited => "rate_limited",
            Self::Validation => "validation",
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::NotPublished => "not_published",
            Self::BadCertificate => "bad_certificate",
            Self::Store => "store",
            Self::Internal => "internal",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Failure {
    /// A failure without more to say than `message`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            authorizations: Vec::new(),
        }
    }

    /// The order was given up by us.
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "the order was given up")
    }

    /// From a client error while doing `what` (for example `making the order`).
    pub fn from_client(what: &str, error: &Error, retry_after: Option<Timestamp>) -> Self {
        let mut failure = match error {
            Error::Api(problem) => {
                let kind = kind_of(problem);
                Self::new(kind, format!("{what}: {}", describe(problem)))
            }
            Error::Timeout(_) => Self::new(
                FailureKind::Slow,
                format!("{what}: the CA did not finish in time; it is tried again"),
            ),
            Error::Json(error) => Self::new(
                FailureKind::Unreachable,
                format!(
                    "{what}: the answer is not ACME ({error}); check acme.directory, and what stands between here and the CA"
                ),
            ),
            Error::Other(other) => {
                let text = plain(&chain(&**other));
                Self::new(FailureKind::Unreachable, format!("{what}: {text}"))
            }
            Error::Crypto | Error::KeyRejected => Self::new(
                FailureKind::Account,
                format!(
                    "{what}: the account key cannot be used; move its file below acme/accounts away to get a new account"
                ),
            ),
            other => Self::new(
                FailureKind::Unreachable,
                format!("{what}: {}", plain(&other.to_string())),
            ),
        };
        failure.retry_after = retry_after;
        failure
    }

    /// From the problem of a challenge for `name`.
    pub fn of_validation(name: &HostPattern, problem: Option<&Problem>) -> Self {
        let why = problem.map_or_else(|| "the CA does not say why".to_owned(), describe);
        let mut failure = Self::new(
            FailureKind::Validation,
            format!("validation of {name} failed: {why}"),
        );
        failure.authorizations = vec![name.clone()];
        failure
    }
}

/// Whether the CA asks for the same request with another nonce (RFC 8555 section 6.5).
pub(crate) fn is_bad_nonce(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if acme_type(problem) == Some("badNonce"))
}

/// Whether repeating the request within seconds may help.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Api(problem) => {
            acme_type(problem) == Some("serverInternal") || problem.status.is_some_and(|s| s >= 500)
        }
        Error::Other(_) | Error::Hyper(_) => true,
        _ => false,
    }
}

fn acme_type(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref()?.strip_prefix(URN)
}

fn kind_of(problem: &Problem) -> FailureKind {
    match acme_type(problem) {
        Some("rateLimited") => FailureKind::RateLimited,
        Some("accountDoesNotExist") => FailureKind::UnknownAccount,
        Some("externalAccountRequired" | "invalidContact" | "unsupportedContact" | "userActionRequired") => {
            FailureKind::Account
        }
        Some("badNonce") => FailureKind::Unreachable,
        _ if problem.status == Some(503) => FailureKind::Unreachable,
        _ => FailureKind::Refused,
    }
}

/// Words and remedy for the problem types of RFC 8555 section 6.7 that an operator meets.
fn remedy(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "connection" => {
            "the CA could not connect; port 80 of the name must be reachable from the CA and lead to a VIP of this box"
        }
        "dns" => {
            "the CA could not look the name up; it must resolve, in the DNS that the CA sees, to a VIP of this box"
        }
        "unauthorized" | "incorrectResponse" => {
            "what answered was not this box, or not its answer; the name must lead to this box, all its A and AAAA records too"
        }
        "caa" => "a CAA record of the name forbids this CA; add the CA to it, or choose the CA that it names",
        "rejectedIdentifier" => {
            "the CA does not issue for this name; remove it from the TLS hosts of the Ingress"
        }
        "unsupportedIdentifier" => {
            "the CA does not issue for this sort of name; remove it from the TLS hosts of the Ingress"
        }
        "tls" => {
            "the CA met a TLS fault on its way to the name; the plain answer on port 80 must not redirect to a broken HTTPS"
        }
        "rateLimited" => "a limit of the CA is used up; it is tried again when the CA allows",
        "externalAccountRequired" => {
            "the CA wants an external account binding; set acme.eab_key_id and acme.eab_hmac_key_file"
        }
        "accountDoesNotExist" => "the CA does not know the account; a new one is made at the next attempt",
        "invalidContact" | "unsupportedContact" => {
            "the CA refuses acme.email; write an address that can be reached"
        }
        "userActionRequired" => {
            "the CA wants something done by hand, mostly agreeing to new terms; follow its words"
        }
        "serverInternal" => "a fault inside the CA; it is tried again",
        "badNonce" => "the CA refused every nonce it gave out; it is tried again",
        "badCSR" => "the CA refuses the request for the names or the kind of key",
        _ => return None,
    })
}

/// A problem document in one line: remedy first, then what the CA said.
fn describe(problem: &Problem) -> String {
    let kind = acme_type(problem);
    let mut text = kind.and_then(remedy).unwrap_or("the CA refused").to_owned();
    text.push_str(" (");
    text.push_str(&plain(kind.or(problem.r#type.as_deref()).unwrap_or("no type")));
    if let Some(detail) = &problem.detail {
        text.push_str(": ");
        text.push_str(&plain(detail));
    }
    text.push(')');
    for sub in problem.subproblems.iter().take(MOST_SUBPROBLEMS) {
        text.push_str("; ");
        match &sub.identifier {
            Some(Identifier::Dns(name)) => text.push_str(&plain(name)),
            _ => text.push_str("a name"),
        }
        if let Some(kind) = &sub.r#type {
            let kind = kind.strip_prefix(URN).unwrap_or(kind);
            text.push_str(": ");
            text.push_str(&plain(kind));
        }
        if let Some(detail) = &sub.detail {
            text.push_str(": ");
            text.push_str(&plain(detail));
        }
    }
    let more = problem.subproblems.len().saturating_sub(MOST_SUBPROBLEMS);
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// One line of printable text, bounded: it comes from outside and goes to a terminal.
fn plain(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(LONGEST_DETAIL)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(LONGEST_DETAIL).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> Error {
        Error::Api(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn problems_become_kind_and_words() {
        for (json, kind, words) in [
            (
                r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates","status":429}"#,
                FailureKind::RateLimited,
                "making the order: a limit of the CA is used up; it is tried again when the CA allows (rateLimited: too many certificates)",
            ),
            (
                r#"{"type":"urn:ietf:params:acme:error:externalAccountRequired","detail":"EAB"}"#,
                FailureKind::Account,
                "making the order: the CA wants an external account binding; set acme.eab_key_id and acme.eab_hmac_key_file (externalAccountRequired: EAB)",
            ),
            (
                r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist"}"#,
                FailureKind::UnknownAccount,
                "making the order: the CA does not know the account; a new one is made at the next attempt (accountDoesNotExist)",
            ),
            (
                r#"{"type":"about:blank","detail":"no\u001b[31m","status":400}"#,
                FailureKind::Refused,
                "making the order: the CA refused (about:blank: no [31m)",
            ),
            (
                r#"{"status":503}"#,
                FailureKind::Unreachable,
                "making the order: the CA refused (no type)",
            ),
            (
                r#"{"type":"urn:ietf:params:acme:error:malformed","detail":"some were rejected","subproblems":[
                    {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"policy","identifier":{"type":"dns","value":"b.example"}}]}"#,
                FailureKind::Refused,
                "making the order: the CA refused (malformed: some were rejected); b.example: rejectedIdentifier: policy",
            ),
        ] {
            let failure = Failure::from_client("making the order", &problem(json), None);
            assert_eq!((failure.kind, failure.message.as_str()), (kind, words), "{json}");
        }
    }

    #[test]
    fn the_text_of_a_ca_is_bounded() {
        let long = "x".repeat(100_000);
        let subs = vec![format!(r#"{{"detail":"{long}"}}"#); 100].join(",");
        let failure = Failure::from_client(
            "making the order",
            &problem(&format!(
                r#"{{"type":"{long}","detail":"{long}","subproblems":[{subs}]}}"#
            )),
            None,
        );
        assert!(failure.message.len() < 4000, "{}", failure.message.len());
        assert!(failure.message.ends_with("and 95 more"), "{}", failure.message);
    }

    #[test]
    fn a_validation_names_its_identifier() {
        let name: HostPattern = "a.example".parse().unwrap();
        let found: Problem = serde_json::from_str(
            r#"{"type":"urn:ietf:params:acme:error:connection","detail":"203.0.113.1: timeout"}"#,
        )
        .unwrap();
        let failure = Failure::of_validation(&name, Some(&found));
        assert_eq!(failure.authorizations, std::slice::from_ref(&name));
        assert_eq!(
            failure.message,
            "validation of a.example failed: the CA could not connect; port 80 of the name must be reachable from the CA \
             and lead to a VIP of this box (connection: 203.0.113.1: timeout)"
        );
        assert!(
            Failure::of_validation(&name, None)
                .message
                .ends_with("does not say why")
        );
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::BTreeSet<_> =
            FailureKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(labels.len(), FailureKind::ALL.len());
    }
}
