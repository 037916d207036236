use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{PeerName, PolicyRule, Prefix};
use serde::Serialize;

use super::Rejected;
use crate::rib::{Relation, RouteQuery};
use crate::wire::{Family, NextHop, Nlri};

/// Paths of one peer that are listed; further ones are only counted. A peer must not fill our memory with what we refuse.
const LISTED: usize = 500;

/// What one peer says now and is not let in.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    paths: BTreeMap<Nlri, (IpAddr, Rejected, Option<Arc<PolicyRule>>)>,
}

impl Rejections {
    /// Takes note of a path.
    pub(crate) fn note(
        &mut self,
        nlri: Nlri,
        next_hop: NextHop,
        why: Rejected,
        rule: Option<Arc<PolicyRule>>,
    ) {
        if self.paths.len() < LISTED || self.paths.contains_key(&nlri) {
            self.paths.insert(nlri, (next_hop.address, why, rule));
        }
    }

    /// The peer takes it back, or says something else about it.
    pub(crate) fn forget(&mut self, nlri: &Nlri) {
        if !self.paths.is_empty() {
            self.paths.remove(nlri);
        }
    }

    /// The session is gone.
    pub(crate) fn clear(&mut self) {
        self.paths.clear();
    }

    /// Those that answer a query, in order; its limit and peer are the caller's business.
    pub(crate) fn views<'a>(
        &'a self,
        peer: &'a PeerName,
        query: &'a RouteQuery,
    ) -> impl Iterator<Item = RejectedView> + 'a {
        self.paths
            .iter()
            .filter(|(nlri, _)| answers(&nlri.prefix, query))
            .map(|(nlri, (next_hop, why, rule))| RejectedView {
                prefix: nlri.prefix,
                path_id: nlri.path_id,
                peer: peer.clone(),
                next_hop: *next_hop,
                why: *why,
                rule: rule.as_ref().map(|rule| Arc::clone(&rule.name)),
                text: match rule {
                    Some(rule) => format!("the import rule {} rejects it{}", rule.name, reason(rule)),
                    None => why.to_string(),
                },
            })
    }
}

/// What whoever wrote a rule says of it.
pub(crate) fn reason(rule: &PolicyRule) -> String {
    let reason = rule.reason.as_deref();
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

fn answers(prefix: &Prefix, query: &RouteQuery) -> bool {
    let family = query.family.is_none_or(|family| family == Family::of(prefix));
    let related = match &query.prefix {
        None => true,
        Some((Relation::Exact, wanted)) => prefix == wanted,
        Some((Relation::Longer, wanted)) => wanted.covers(prefix),
        // Nothing here carries packets: whatever could have done so tells why it does not.
        Some((Relation::Covering | Relation::LongestMatch, wanted)) => prefix.covers(wanted),
    };
    family && related
}

/// A path that is not let in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RejectedView {
    /// The prefix.
    pub prefix: Prefix,
    /// Path identifier (RFC 7911).
    pub path_id: Option<u32>,
    /// Who said so.
    pub peer: PeerName,
    /// Next hop as announced.
    pub next_hop: IpAddr,
    /// Why it is not let in.
    pub why: Rejected,
    /// The rule that does, where one does.
    pub rule: Option<Arc<str>>,
    /// The same in words.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_was_asked_for_and_no_more_than_it_may() {
        let mut rejections = Rejections::default();
        let nlri = |prefix: &str| Nlri {
            path_id: None,
            prefix: prefix.parse().unwrap(),
        };
        let next_hop = NextHop {
            address: "10.0.0.1".parse().unwrap(),
            link_local: None,
        };
        for prefix in ["0.0.0.0/0", "10.1.0.0/16", "10.1.2.0/24", "fd00::/64"] {
            rejections.note(nlri(prefix), next_hop, Rejected::NotPodPrefix, None);
        }
        let peer = PeerName::from(next_hop.address);
        let ask = |rejections: &Rejections, query: &RouteQuery| -> Vec<String> {
            rejections
                .views(&peer, query)
                .map(|view| view.prefix.to_string())
                .collect()
        };
        for (relation, wanted, want) in [
            (Relation::Exact, "10.1.0.0/16", "10.1.0.0/16"),
            (Relation::Longer, "10.1.0.0/16", "10.1.0.0/16 10.1.2.0/24"),
            (Relation::Covering, "10.1.0.0/16", "0.0.0.0/0 10.1.0.0/16"),
            (
                Relation::LongestMatch,
                "10.1.2.3/32",
                "0.0.0.0/0 10.1.0.0/16 10.1.2.0/24",
            ),
        ] {
            let query = RouteQuery {
                prefix: Some((relation, wanted.parse().unwrap())),
                ..RouteQuery::default()
            };
            assert_eq!(ask(&rejections, &query).join(" "), want, "{relation:?} {wanted}");
        }
        rejections.forget(&nlri("10.1.0.0/16"));
        assert_eq!(ask(&rejections, &RouteQuery::default()).len(), 3);
        for n in 0..2 * LISTED {
            let address = std::net::Ipv4Addr::from(u32::try_from(n).unwrap());
            rejections.note(nlri(&format!("{address}/32")), next_hop, Rejected::OwnVip, None);
        }
        assert_eq!(ask(&rejections, &RouteQuery::default()).len(), LISTED);
    }
}
