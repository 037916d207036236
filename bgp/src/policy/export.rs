//! What a peer is told: the attributes of VIPs and of routes that are passed on. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use sekisho_config::model::{Asn, PassedNextHop, PathChange, PolicyRule, Prefix, RuleNextHop};

use super::rules;
use crate::wire::{Attributes, Origin};

/// GRACEFUL_SHUTDOWN (RFC 8326 section 5).
const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
/// Well-known communities that say who may not hear of a path (RFC 1997).
const NO_EXPORT: u32 = 0xffff_ff01;
const NO_ADVERTISE: u32 = 0xffff_ff02;
const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;

/// LOCAL_PREF of what we originate.
const LOCAL_PREFERENCE: u32 = 100;

/// A path as it goes to peers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Advert {
    /// Complete: our AS stands in front where the peer is of another one.
    pub(crate) attributes: Arc<Attributes>,
    pub(crate) next_hop: Via,
    /// The peer whose path it is; `None`: ours.
    pub(crate) from: Option<IpAddr>,
}

/// The next hop of an [`Advert`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Via {
    /// Ours, as seen from the peer.
    Own,
    /// This one.
    Given(IpAddr),
}

/// To whom: peers that all hear the same share one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Export {
    /// Our AS.
    pub(crate) asn: Asn,
    /// Our CLUSTER_ID.
    pub(crate) cluster_id: Ipv4Addr,
    /// They are of our AS.
    pub(crate) internal: bool,
    /// They are clients of ours.
    pub(crate) client: bool,
    pub(crate) next_hop: PassedNextHop,
    /// Everything is about to go (RFC 8326).
    pub(crate) draining: bool,
    pub(crate) rules: Vec<Arc<PolicyRule>>,
}

/// A path of the table that may be passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) attributes: &'a Attributes,
    pub(crate) next_hop: IpAddr,
    /// The peer it is from: its address, its identifier, whether it is of another AS, whether it is a client of ours.
    pub(crate) from: IpAddr,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) external: bool,
    pub(crate) client: bool,
    /// As the decision took it.
    pub(crate) local_preference: u32,
}

/// Why a path is not passed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    /// From one peer of our AS to another, and neither is a client (RFC 4456 section 6).
    NotReflected,
    /// Its communities forbid it (RFC 1997).
    Community,
    /// A rule rejects it.
    Rule,
}

impl Export {
    /// A VIP: ORIGIN IGP, our AS on the way out of it. `set` comes first, then the rules.
    ///
    /// # Errors
    /// The rule that rejects it.
    pub(crate) fn vip(&self, prefix: &Prefix, set: &PathChange) -> Result<Advert, &Arc<PolicyRule>> {
        let mut attributes = Attributes {
            origin: Origin::Igp,
            local_preference: self.internal.then_some(LOCAL_PREFERENCE),
            ..Attributes::default()
        };
        rules::apply(set, self.nearest(), &mut attributes);
        let change = rules::ask(&self.rules, prefix, None, &attributes)?;
        self.finish(&change, &mut attributes);
        let next_hop = match change.next_hop.or(set.next_hop) {
            Some(RuleNextHop::Address(address)) if fits(prefix, address) => Via::Given(address),
            _ => Via::Own,
        };
        Ok(Advert {
            attributes: Arc::new(attributes),
            next_hop,
            from: None,
        })
    }

    /// A path that somebody told us.
    ///
    /// # Errors
    /// Why it is not passed on.
    pub(crate) fn pod(&self, prefix: &Prefix, heard: &Heard<'_>) -> Result<Advert, Kept> {
        let has = |community| heard.attributes.communities.contains(&community);
        if has(NO_ADVERTISE) || (!self.internal && (has(NO_EXPORT) || has(NO_EXPORT_SUBCONFED))) {
            return Err(Kept::Community);
        }
        let reflected = self.internal && !heard.external;
        if reflected && !heard.client && !self.client {
            return Err(Kept::NotReflected);
        }
        let change = rules::ask(&self.rules, prefix, Some(heard.next_hop), heard.attributes)
            .map_err(|_| Kept::Rule)?;
        let mut attributes = heard.attributes.clone();
        if self.internal {
            attributes.local_preference = Some(heard.local_preference);
        } else {
            // What one neighbouring AS says of its links is none of the next one's business (RFC 4271 section 5.1.4), and what
            // we say inside our AS none of another's.
            attributes.med = None;
            attributes.local_preference = None;
            attributes.originator_id = None;
            attributes.cluster_list.clear();
            // Not transitive across ASes (RFC 4360 section 6).
            attributes
                .extended_communities
                .retain(|[kind, ..]| kind & 0x40 == 0);
        }
        if reflected {
            attributes.originator_id.get_or_insert(heard.router_id);
            attributes.cluster_list.insert(0, self.cluster_id);
        }
        self.finish(&change, &mut attributes);
        let usual = match self.next_hop {
            PassedNextHop::Usual if self.internal => Via::Given(heard.next_hop),
            PassedNextHop::Usual | PassedNextHop::Own => Via::Own,
            PassedNextHop::Unchanged => Via::Given(heard.next_hop),
        };
        Ok(Advert {
            attributes: Arc::new(attributes),
            next_hop: match change.next_hop {
                Some(RuleNextHop::Own) => Via::Own,
                Some(RuleNextHop::Unchanged) => Via::Given(heard.next_hop),
                Some(RuleNextHop::Address(address)) if fits(prefix, address) => Via::Given(address),
                Some(RuleNextHop::Address(_)) | None => usual,
            },
            from: Some(heard.from),
        })
    }

    /// The AS that prepending adds: ours, on the way out of it.
    fn nearest(&self) -> Option<Asn> {
        (!self.internal).then_some(self.asn)
    }

    fn finish(&self, change: &PathChange, attributes: &mut Attributes) {
        rules::apply(change, self.nearest(), attributes);
        if let Some(asn) = self.nearest() {
            rules::prepend(asn, 1, &mut attributes.as_path);
            attributes.local_preference = None;
        }
        if self.draining {
            if !attributes.communities.contains(&GRACEFUL_SHUTDOWN) {
                attributes.communities.push(GRACEFUL_SHUTDOWN);
            }
            // Nothing is preferred that is about to go.
            attributes.local_preference = self.internal.then_some(0);
        }
    }
}

/// Whether an address may be the next hop of a prefix: it is of its family.
fn fits(prefix: &Prefix, address: IpAddr) -> bool {
    prefix.is_ipv4() == address.is_ipv4()
}

#[cfg(test)]
mod tests {
    use sekisho_config::model::{Community, CommunityChange, RuleAction};

    use super::*;
    use crate::wire::{AsPath, Segment};

    fn export(internal: bool, client: bool) -> Export {
        Export {
            asn: Asn::try_from(64512).unwrap(),
            cluster_id: Ipv4Addr::new(192, 0, 2, 10),
            internal,
            client,
            next_hop: PassedNextHop::Usual,
            draining: false,
            rules: vec![],
        }
    }

    fn path() -> Attributes {
        Attributes {
            as_path: AsPath {
                segments: vec![Segment::Sequence(vec![65001])],
            },
            med: Some(7),
            local_preference: Some(200),
            communities: vec![5],
            extended_communities: vec![[0x40, 4, 0, 1, 0, 0, 0, 1], [0, 2, 0, 1, 0, 0, 0, 1]],
            ..Attributes::default()
        }
    }

    fn heard(attributes: &Attributes, external: bool, client: bool) -> Heard<'_> {
        Heard {
            attributes,
            next_hop: "10.0.0.11".parse().unwrap(),
            from: "10.0.0.11".parse().unwrap(),
            router_id: Ipv4Addr::new(10, 0, 0, 11),
            external,
            client,
            local_preference: 200,
        }
    }

    fn pod(export: &Export, attributes: &Attributes, external: bool, client: bool) -> Result<Advert, Kept> {
        export.pod(
            &"10.244.1.0/26".parse().unwrap(),
            &heard(attributes, external, client),
        )
    }

    #[test]
    fn who_hears_what_of_whom() {
        let path = path();
        // (to one of our AS, to a client, from another AS, from a client) -> passed on, reflected
        for (internal, client, external, from_client, want) in [
            (true, false, false, false, Err(Kept::NotReflected)),
            (true, true, false, false, Ok(true)),
            (true, false, false, true, Ok(true)),
            (true, true, false, true, Ok(true)),
            (true, false, true, false, Ok(false)),
            (false, false, false, false, Ok(false)),
            (false, false, true, false, Ok(false)),
        ] {
            let got = pod(&export(internal, client), &path, external, from_client);
            let got = got.map(|advert| !advert.attributes.cluster_list.is_empty());
            assert_eq!(got, want, "{internal} {client} {external} {from_client}");
        }
    }

    #[test]
    fn what_leaves_the_as_and_what_stays() {
        let path = path();
        let out = pod(&export(false, false), &path, false, false).unwrap();
        let numbers: Vec<_> = out.attributes.as_path.numbers().collect();
        assert_eq!(numbers, [64512, 65001]);
        assert_eq!(
            (out.attributes.med, out.attributes.local_preference),
            (None, None)
        );
        assert_eq!(out.next_hop, Via::Own);
        assert_eq!(out.attributes.communities, [5]);
        assert_eq!(out.attributes.extended_communities, [[0, 2, 0, 1, 0, 0, 0, 1]]);

        let out = pod(&export(true, true), &path, false, false).unwrap();
        assert_eq!(out.attributes.as_path, path.as_path);
        assert_eq!(
            (out.attributes.med, out.attributes.local_preference),
            (Some(7), Some(200))
        );
        assert_eq!(out.attributes.originator_id, Some(Ipv4Addr::new(10, 0, 0, 11)));
        assert_eq!(out.attributes.cluster_list, [Ipv4Addr::new(192, 0, 2, 10)]);
        assert_eq!(out.next_hop, Via::Given("10.0.0.11".parse().unwrap()));

        // Reflected once more: who began it stays, the list grows at its front.
        let again = pod(&export(true, true), &out.attributes, false, true).unwrap();
        assert_eq!(again.attributes.originator_id, Some(Ipv4Addr::new(10, 0, 0, 11)));
        assert_eq!(again.attributes.cluster_list.len(), 2);
    }

    #[test]
    fn the_next_hop_is_as_told() {
        let path = path();
        let own = Via::Own;
        let given = Via::Given("10.0.0.11".parse().unwrap());
        for (internal, next_hop, want) in [
            (true, PassedNextHop::Usual, given),
            (true, PassedNextHop::Own, own),
            (true, PassedNextHop::Unchanged, given),
            (false, PassedNextHop::Usual, own),
            (false, PassedNextHop::Own, own),
            (false, PassedNextHop::Unchanged, given),
        ] {
            let export = Export {
                next_hop,
                ..export(internal, true)
            };
            let got = pod(&export, &path, false, false).unwrap().next_hop;
            assert_eq!(got, want, "{internal} {next_hop:?}");
        }
    }

    #[test]
    fn a_rule_names_the_next_hop() {
        let path = path();
        let address: IpAddr = "10.0.0.99".parse().unwrap();
        let given = Via::Given("10.0.0.11".parse().unwrap());
        let with = |next_hop| {
            let change = PathChange {
                next_hop: Some(next_hop),
                ..PathChange::default()
            };
            Export {
                rules: vec![Arc::new(PolicyRule {
                    change,
                    ..PolicyRule::default()
                })],
                ..export(false, false)
            }
        };
        for (next_hop, pod_has, vip_has) in [
            (RuleNextHop::Own, Via::Own, Via::Own),
            (RuleNextHop::Unchanged, given, Via::Own),
            (
                RuleNextHop::Address(address),
                Via::Given(address),
                Via::Given(address),
            ),
            (
                RuleNextHop::Address("2001:db8::1".parse().unwrap()),
                Via::Own,
                Via::Own,
            ),
        ] {
            let export = with(next_hop);
            let vip = export.vip(&"203.0.113.1/32".parse().unwrap(), &PathChange::default());
            assert_eq!(vip.unwrap().next_hop, vip_has, "{next_hop:?}");
            let pod = pod(&export, &path, false, false);
            assert_eq!(pod.unwrap().next_hop, pod_has, "{next_hop:?}");
        }
    }

    #[test]
    fn communities_keep_a_path_back() {
        for (community, internal, external) in [
            (NO_EXPORT, true, false),
            (NO_EXPORT_SUBCONFED, true, false),
            (NO_ADVERTISE, false, false),
            (0xfde8_0001, true, true),
        ] {
            let path = Attributes {
                communities: vec![community],
                ..path()
            };
            assert_eq!(
                pod(&export(true, true), &path, false, false).is_ok(),
                internal,
                "{community:x}"
            );
            assert_eq!(
                pod(&export(false, false), &path, false, false).is_ok(),
                external,
                "{community:x}"
            );
        }
    }

    #[test]
    fn vips_have_what_pool_and_rules_give_them() {
        let prefix = "203.0.113.1/32".parse().unwrap();
        let set = PathChange {
            med: Some(5),
            prepend: 1,
            communities: vec![CommunityChange::Add(Community::Standard(9))],
            ..PathChange::default()
        };
        let rule = |then| {
            Arc::new(PolicyRule {
                change: PathChange {
                    med: Some(6),
                    prepend: 1,
                    local_preference: Some(300),
                    ..PathChange::default()
                },
                communities: vec!["0:9".parse().unwrap()],
                ..rules::tests::rule("r", then)
            })
        };
        for (internal, draining, med, path, preference, communities) in [
            (true, false, 6, 0, Some(300), &[9][..]),
            (true, true, 6, 0, Some(0), &[9, GRACEFUL_SHUTDOWN]),
            (false, false, 6, 3, None, &[9]),
            (false, true, 6, 3, None, &[9, GRACEFUL_SHUTDOWN]),
        ] {
            let export = Export {
                draining,
                rules: vec![rule(RuleAction::Accept)],
                ..export(internal, false)
            };
            let got = export.vip(&prefix, &set).unwrap().attributes;
            assert_eq!(
                (got.med, got.as_path.length()),
                (Some(med), path),
                "{internal} {draining}"
            );
            assert_eq!(got.local_preference, preference, "{internal} {draining}");
            assert_eq!(got.communities, communities, "{internal} {draining}");
        }
        let export = Export {
            rules: vec![rule(RuleAction::Reject)],
            ..export(false, false)
        };
        assert_eq!(&*export.vip(&prefix, &set).unwrap_err().name, "r");
        assert!(export.vip(&prefix, &PathChange::default()).is_ok());
    }
}
