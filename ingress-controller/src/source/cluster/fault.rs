//! What a failed request to the API server means, and what to do about it.

use std::time::Duration;

use kube::core::Status;
use sekisho_config::chain;

use crate::world::Kind;

/// A failed list or watch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    /// What, and what to do.
    pub(super) message: String,
    /// The version that was asked for is no longer known: only a new list helps.
    pub(super) gone: bool,
    /// The way to the server or the credentials may have changed.
    pub(super) stale: bool,
    /// How long the server asks us to wait.
    pub(super) retry_after: Duration,
}

/// A server cannot make us wait longer.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

impl Fault {
    pub(super) fn of(kind: Kind, verb: &str, error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(kind, verb, status),
            other => Self {
                message: format!(
                    "{verb} failed: {}; check that the API server is up and reachable",
                    bounded(&chain(other))
                ),
                gone: false,
                stale: true,
                retry_after: Duration::ZERO,
            },
        }
    }

    /// Both forms of 410 look the same here: the answer to a request, and the ERROR event within a watch.
    pub(super) fn of_status(kind: Kind, verb: &str, status: &Status) -> Self {
        let (group, resource) = kind.resource();
        let said = bounded(&status.message);
        let message = match status.code {
            401 => format!(
                "the API server refuses our credentials ({said}); renew the token or certificate in the kubeconfig"
            ),
            403 => format!(
                "not permitted to {verb} {resource}; add the rule apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: \
                 [\"list\", \"watch\"] (deploy/kubernetes/rbac.yaml has them all)"
            ),
            404 => format!(
                "the API server does not know {resource} of {}; Kubernetes 1.21 or newer is needed",
                kind.api_version()
            ),
            410 => format!("{verb} has fallen too far behind ({said}); listing anew"),
            code => format!("{verb} failed: {code} {said}; look at the log of the API server"),
        };
        let retry_after = status
            .details
            .as_ref()
            .map_or(0, |details| details.retry_after_seconds);
        Self {
            message,
            gone: status.code == 410 || status.reason == "Expired" || status.reason == "Gone",
            stale: status.code == 401,
            retry_after: Duration::from_secs(u64::from(retry_after)).min(LONGEST_RETRY_AFTER),
        }
    }

    pub(super) fn timed_out(verb: &str, after: Duration) -> Self {
        Self {
            message: format!(
                "{verb}: nothing heard for {} s; check that the API server is up and reachable",
                after.as_secs()
            ),
            gone: false,
            stale: true,
            retry_after: Duration::ZERO,
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(400).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str) -> Status {
        Status {
            code,
            reason: reason.to_owned(),
            message: "said".to_owned(),
            ..Status::default()
        }
    }

    #[test]
    fn a_missing_rule_is_named() {
        let fault = Fault::of_status(Kind::EndpointSlice, "list", &status(403, "Forbidden"));
        for part in [
            "list",
            "discovery.k8s.io",
            "endpointslices",
            "deploy/kubernetes/rbac.yaml",
        ] {
            assert!(fault.message.contains(part), "{part} in {}", fault.message);
        }
    }

    #[test]
    fn gone_in_every_spelling() {
        for (code, reason, want) in [
            (410, "Gone", true),
            (410, "Expired", true),
            (410, "", true),
            (500, "Expired", true),
            (500, "", false),
        ] {
            assert_eq!(
                Fault::of_status(Kind::Ingress, "watch", &status(code, reason)).gone,
                want,
                "{code} {reason}"
            );
        }
    }
}
