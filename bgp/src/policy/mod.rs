//! What is let in from a peer. Pure: a path, who said it, and what the box knows; a "no" carries its reason.
//!
//! These rules hold whatever is configured; the file can only narrow them. Loops are the table's business.

pub(crate) mod export;
mod floor;
mod rejections;
pub(crate) mod rules;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use sekisho_config::model::{Asn, PathChange, PolicyRule, Prefix, Role, RuleNextHop};
use serde::Serialize;

pub(crate) use floor::Floor;
pub use rejections::RejectedView;
pub(crate) use rejections::{Rejections, reason};

use crate::wire::{Attributes, NextHop, Nlri, Update};

/// Why a path is not let in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    /// A node that says it is the way to everywhere would draw the box's own traffic.
    DefaultRoute,
    /// So wide that it is a default route in pieces.
    TooWide,
    /// An address of ours, in use or not: it would lead packets for us away from us.
    OwnVip,
    /// Inside a network that the box is connected to: it would take a neighbour off the link.
    Connected,
    /// Holds the address of a peer or of the box, and is longer than the way there: it would cut the box off.
    Infrastructure,
    /// Inside none of `bgp.pod_prefixes`.
    NotPodPrefix,
    /// From another AS, and that AS does not stand first in the AS_PATH (RFC 4271 section 6.3).
    FirstAs,
    /// By one of the peer's `import` rules.
    Rule,
}

impl Rejected {
    pub(crate) const ALL: [Self; 8] = [
        Self::DefaultRoute,
        Self::TooWide,
        Self::OwnVip,
        Self::Connected,
        Self::Infrastructure,
        Self::NotPodPrefix,
        Self::FirstAs,
        Self::Rule,
    ];

    /// As a metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::DefaultRoute => "default_route",
            Self::TooWide => "too_wide",
            Self::OwnVip => "own_vip",
            Self::Connected => "connected",
            Self::Infrastructure => "infrastructure",
            Self::NotPodPrefix => "not_pod_prefix",
            Self::FirstAs => "first_as",
            Self::Rule => "rule",
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DefaultRoute => "a node must not be the way to everywhere",
            Self::TooWide => "wider than /8 (IPv4) or /16 (IPv6), which no pod network is",
            Self::OwnVip => "inside [[vips]], which belong to the box",
            Self::Connected => "inside a network that the box is connected to",
            Self::Infrastructure => "would lead a peer's or the box's own address elsewhere",
            Self::NotPodPrefix => "inside none of bgp.pod_prefixes or Calico's IP pools; add it there if it is a network of pods",
            Self::Rule => "an import rule of the peer rejects it",
            Self::FirstAs => {
                "the peer's AS does not stand first in its AS_PATH; for a route server write enforce_first_as = false"
            }
        })
    }
}

/// Who says it, and what is to be let in from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import<'a> {
    pub(crate) role: Role,
    /// The peer's AS, where it is not ours and has to stand first.
    pub(crate) first_as: Option<Asn>,
    /// From `cluster` peers only prefixes inside these; empty: any.
    pub(crate) pod_prefixes: &'a [Prefix],
    pub(crate) floor: &'a Floor,
    /// The peer's own rules, asked last.
    pub(crate) rules: &'a [Arc<PolicyRule>],
    /// The peer's AS, where it is not ours.
    pub(crate) external: Option<Asn>,
}

impl Import<'_> {
    /// Whether a path is let in. What `upstream` peers say is only looked at, so there any prefix may.
    fn judge(&self, prefix: &Prefix, attributes: Option<&Attributes>) -> Result<(), Rejected> {
        if let (Some(wanted), Some(attributes)) = (self.first_as, attributes)
            && attributes.as_path.first() != Some(wanted.number())
        {
            return Err(Rejected::FirstAs);
        }
        self.floor.judge(prefix, self.role)?;
        if self.role != Role::Cluster {
            return Ok(());
        }
        if !self.pod_prefixes.is_empty() && !self.pod_prefixes.iter().any(|pool| pool.covers(prefix)) {
            return Err(Rejected::NotPodPrefix);
        }
        Ok(())
    }

    /// What is let in of an UPDATE, in parts that have their attributes in common. A path that is not let in still replaces an
    /// earlier one, so its prefix is withdrawn.
    pub(crate) fn filter<'u>(
        &self,
        update: &'u Update,
        mut rejected: impl FnMut(Nlri, NextHop, Rejected, Option<Arc<PolicyRule>>),
    ) -> Vec<Cow<'u, Update>> {
        let attributes = update.attributes.as_deref();
        let passes = |(nlri, _): &(Nlri, NextHop)| self.judge(&nlri.prefix, attributes).is_ok();
        if self.rules.is_empty() && update.announced.iter().all(passes) {
            return vec![Cow::Borrowed(update)];
        }
        let mut first = Update {
            announced: Vec::new(),
            ..update.clone()
        };
        let mut changed: Vec<(PathChange, Vec<(Nlri, NextHop)>)> = Vec::new();
        for (nlri, next_hop) in &update.announced {
            let judged = self
                .judge(&nlri.prefix, attributes)
                .map_err(|why| (why, None))
                .and_then(|()| {
                    attributes.map_or_else(
                        || Ok(PathChange::default()),
                        |attributes| {
                            rules::ask(self.rules, &nlri.prefix, Some(next_hop.address), attributes)
                                .map_err(|rule| (Rejected::Rule, Some(Arc::clone(rule))))
                        },
                    )
                });
            match judged {
                Ok(change) if change == PathChange::default() => first.announced.push((*nlri, *next_hop)),
                Ok(change) => match changed.iter_mut().find(|(known, _)| *known == change) {
                    Some((_, paths)) => paths.push((*nlri, *next_hop)),
                    None => changed.push((change, vec![(*nlri, *next_hop)])),
                },
                Err((why, rule)) => {
                    rejected(*nlri, *next_hop, why, rule);
                    first.withdrawn.push(*nlri);
                }
            }
        }
        let rest = changed.into_iter().filter_map(|(change, announced)| {
            let mut attributes = attributes?.clone();
            rules::apply(&change, self.external, &mut attributes);
            let announced = announced
                .into_iter()
                .map(|(nlri, next_hop)| (nlri, changed_next_hop(&change, &nlri, next_hop)))
                .collect();
            Some(Cow::Owned(Update {
                announced,
                attributes: Some(Arc::new(attributes)),
                ..Update::default()
            }))
        });
        std::iter::once(Cow::Owned(first)).chain(rest).collect()
    }
}

/// On the way in only an address says something, and only to paths of its family.
fn changed_next_hop(change: &PathChange, nlri: &Nlri, next_hop: NextHop) -> NextHop {
    match change.next_hop {
        Some(RuleNextHop::Address(address)) if address.is_ipv4() == nlri.prefix.is_ipv4() => NextHop {
            address,
            link_local: None,
        },
        _ => next_hop,
    }
}

#[cfg(test)]
mod tests {
    use sekisho_config::model::RuleAction;

    use super::*;
    use crate::wire::{AsPath, Segment};

    #[test]
    fn only_pods_come_from_the_cluster() {
        let floor = Floor::default();
        let pools: Vec<Prefix> = vec!["10.244.0.0/16".parse().unwrap(), "fd44::/48".parse().unwrap()];
        let (any, pools) = (&[][..], &pools[..]);
        for (prefix, role, pod_prefixes, want) in [
            ("10.1.2.0/26", Role::Cluster, any, None),
            ("0.0.0.0/0", Role::Cluster, any, Some(Rejected::DefaultRoute)),
            ("::/0", Role::Cluster, any, Some(Rejected::DefaultRoute)),
            ("0.0.0.0/0", Role::Upstream, any, None),
            ("10.244.7.0/26", Role::Cluster, pools, None),
            ("10.244.0.0/16", Role::Cluster, pools, None),
            ("10.244.7.9/32", Role::Cluster, pools, None),
            ("fd44::1:0/112", Role::Cluster, pools, None),
            ("10.0.0.0/8", Role::Cluster, pools, Some(Rejected::NotPodPrefix)),
            (
                "10.245.0.0/26",
                Role::Cluster,
                pools,
                Some(Rejected::NotPodPrefix),
            ),
            ("fd45::/64", Role::Cluster, pools, Some(Rejected::NotPodPrefix)),
            ("10.245.0.0/26", Role::Upstream, pools, None),
            ("0.0.0.0/0", Role::Cluster, pools, Some(Rejected::DefaultRoute)),
        ] {
            let nlri = Nlri {
                path_id: Some(7),
                prefix: prefix.parse().unwrap(),
            };
            let fine = Nlri {
                path_id: Some(7),
                prefix: "10.244.9.0/26".parse().unwrap(),
            };
            let next_hop = NextHop {
                address: "10.0.0.1".parse().unwrap(),
                link_local: None,
            };
            let update = Update {
                announced: vec![(nlri, next_hop), (fine, next_hop)],
                attributes: Some(Arc::new(Attributes::default())),
                ..Update::default()
            };
            let import = Import {
                role,
                first_as: None,
                pod_prefixes,
                floor: &floor,
                rules: &[],
                external: None,
            };
            let mut got = None;
            let let_in = import.filter(&update, |nlri, _, why, _| got = Some((nlri, why)));
            let [let_in] = &let_in[..] else {
                panic!("{let_in:?}")
            };
            assert_eq!(got, want.map(|why| (nlri, why)), "{prefix} from {role}");
            let taken = if want.is_some() { 1 } else { 2 };
            assert_eq!(let_in.announced.len(), taken, "{prefix} from {role}");
            let gone = if want.is_some() { vec![nlri] } else { vec![] };
            assert_eq!(let_in.withdrawn, gone, "{prefix} from {role}");
        }
    }

    #[test]
    fn the_peer_stands_first_in_what_comes_from_another_as() {
        let floor = Floor::default();
        let sequence = |numbers: &[u32]| vec![Segment::Sequence(numbers.to_vec())];
        for (first_as, segments, want) in [
            (Some(65001), sequence(&[65001]), Ok(())),
            (Some(65001), sequence(&[65001, 65002]), Ok(())),
            (Some(65001), sequence(&[65002, 65001]), Err(Rejected::FirstAs)),
            (Some(65001), vec![], Err(Rejected::FirstAs)),
            (
                Some(65001),
                vec![Segment::Set(vec![65001])],
                Err(Rejected::FirstAs),
            ),
            (None, sequence(&[65002]), Ok(())),
            (None, vec![], Ok(())),
        ] {
            let attributes = Attributes {
                as_path: AsPath { segments },
                ..Attributes::default()
            };
            for role in [Role::Cluster, Role::Upstream] {
                let import = Import {
                    role,
                    first_as: first_as.map(|number| Asn::try_from(number).unwrap()),
                    pod_prefixes: &[],
                    floor: &floor,
                    rules: &[],
                    external: None,
                };
                let got = import.judge(&"10.1.2.0/26".parse().unwrap(), Some(&attributes));
                assert_eq!(got, want, "{first_as:?} {:?} {role}", attributes.as_path);
            }
        }
    }

    #[test]
    fn rules_split_an_update_by_what_they_change() {
        let rule = |name: &str, prefix: &str, preference: Option<u32>| {
            let change = PathChange {
                local_preference: preference,
                next_hop: preference.map(|_| RuleNextHop::Address("10.0.0.9".parse().unwrap())),
                ..PathChange::default()
            };
            Arc::new(PolicyRule {
                name: name.into(),
                prefixes: vec![prefix.parse().unwrap()],
                change,
                then: if preference.is_some() {
                    RuleAction::Accept
                } else {
                    RuleAction::Reject
                },
                ..PolicyRule::default()
            })
        };
        let rules = [
            rule("near", "10.1.0.0/16 le 32", Some(200)),
            rule("none", "10.2.0.0/16 le 32", None),
        ];
        let next_hop = NextHop {
            address: "10.0.0.1".parse().unwrap(),
            link_local: None,
        };
        let nlri = |text: &str| Nlri {
            path_id: None,
            prefix: text.parse().unwrap(),
        };
        let all = ["10.1.0.0/26", "10.2.0.0/26", "10.3.0.0/26", "10.1.1.0/26"];
        let update = Update {
            announced: all.iter().map(|prefix| (nlri(prefix), next_hop)).collect(),
            attributes: Some(Arc::new(Attributes::default())),
            ..Update::default()
        };
        let import = Import {
            role: Role::Cluster,
            first_as: None,
            pod_prefixes: &[],
            floor: &Floor::default(),
            rules: &rules,
            external: None,
        };
        let mut rejected = Vec::new();
        let parts = import.filter(&update, |nlri, _, why, rule| {
            rejected.push((nlri, why, rule.map(|rule| rule.name.to_string())));
        });
        let hops: Vec<_> = parts
            .iter()
            .flat_map(|part| &part.announced)
            .map(|(_, next_hop)| next_hop.address.to_string())
            .collect();
        assert_eq!(hops, ["10.0.0.1", "10.0.0.9", "10.0.0.9"]);
        assert_eq!(
            rejected,
            [(nlri("10.2.0.0/26"), Rejected::Rule, Some("none".into()))]
        );
        let shown: Vec<_> = parts
            .iter()
            .map(|part| {
                let announced = part.announced.iter().map(|(nlri, _)| nlri.prefix.to_string());
                let preference = part.attributes.as_ref().and_then(|one| one.local_preference);
                (
                    announced.collect::<Vec<_>>().join(" "),
                    preference,
                    part.withdrawn.len(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("10.3.0.0/26".to_owned(), None, 1),
                ("10.1.0.0/26 10.1.1.0/26".to_owned(), Some(200), 0)
            ]
        );
    }
}
