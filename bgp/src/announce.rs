//! Which service addresses are announced, and to whom; or why not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{
    AddressPool, AggregateWhen, AnnounceTo, ListenerState, PathChange, PeerName, Prefix, Role, Vip,
    VipServing, Withhold,
};

/// The whole wanted set of service addresses: what [`plan`] compiles and the speaker diffs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// By address. Every one of them is local to the box, announced or not.
    pub vips: BTreeMap<IpAddr, PlannedVip>,
    /// The prefixes that service addresses are taken from: what a node says about them is not let in.
    pub pools: Vec<Prefix>,
}

/// One service address of a [`Plan`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlannedVip {
    /// The address and to whom it belongs.
    pub vip: Arc<Vip>,
    /// Whether it is announced, or why it is withheld.
    pub announce: Result<(), Withhold>,
    /// As what: its host route, or the prefix of its pool around it.
    pub prefix: Prefix,
    /// What its path has, beyond what every VIP has.
    pub set: Arc<PathChange>,
}

impl PlannedVip {
    /// One that is announced as a host route, with nothing special.
    pub fn host(vip: Arc<Vip>, announce: Result<(), Withhold>) -> Self {
        Self {
            prefix: Prefix::host(vip.address),
            vip,
            announce,
            set: Arc::default(),
        }
    }

    /// Whether this peer is to hear of it. Peers of role `cluster` never are, not even by name: a node would install
    /// the host route and pull the service's traffic into the cluster.
    pub fn goes_to(&self, peer: &PeerName, role: Role) -> bool {
        self.announce.is_ok()
            && role != Role::Cluster
            && self.vip.announce_to.iter().any(|to| match to {
                AnnounceTo::Role(named) => *named == role,
                AnnounceTo::Peer(named) => named == peer,
            })
    }
}

impl Plan {
    /// Prefixes to announce to one peer, each with what its path has.
    pub fn announced_to(&self, peer: &PeerName, role: Role) -> BTreeMap<Prefix, &Arc<PathChange>> {
        self.vips
            .values()
            .filter(|planned| planned.goes_to(peer, role))
            .map(|planned| (planned.prefix, &planned.set))
            .collect()
    }

    /// Addresses that the box must accept packets for, ordered: all of them, also those that are withheld, so that
    /// connections end by themselves when a service address is withdrawn.
    pub fn local(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.vips.keys().copied()
    }

    /// Prefixes that are announced as a whole, now or when they can serve: what is not in use of them must not be sent back to
    /// where it came from.
    pub fn wholes(&self) -> BTreeSet<Prefix> {
        let prefixes = self.vips.values().map(|planned| planned.prefix);
        prefixes.filter(|prefix| !prefix.is_host()).collect()
    }
}

/// Compiles the plan of `vips`, which are taken from `pools`. Of several entries with one address the first counts.
///
/// `source_ready`: the first complete view of cluster or directory is there. `stopping`: the box is on its way out.
pub fn plan(
    vips: &[(Arc<Vip>, VipServing)],
    pools: &[AddressPool],
    source_ready: bool,
    stopping: bool,
) -> Plan {
    let mut plan = Plan {
        vips: BTreeMap::new(),
        pools: pools
            .iter()
            .flat_map(|pool| pool.addresses.iter().copied())
            .collect(),
    };
    let sets: BTreeMap<&str, Arc<PathChange>> = pools
        .iter()
        .map(|pool| (&*pool.name, Arc::new(pool.announcement.set.clone())))
        .collect();
    // Prefixes that stand or fall as a whole, with the first address that cannot serve.
    let mut fallen: BTreeMap<Prefix, IpAddr> = BTreeMap::new();
    for (vip, serving) in vips {
        if plan.vips.contains_key(&vip.address) {
            continue;
        }
        let mut planned = PlannedVip::host(Arc::clone(vip), decide(serving, source_ready, stopping));
        if let Some(pool) = pools.iter().find(|pool| pool.name == vip.pool) {
            planned.set = sets.get(&*pool.name).map(Arc::clone).unwrap_or_default();
            let around = pool.addresses.iter().find(|prefix| prefix.contains(vip.address));
            if let (Some(when), Some(prefix)) = (pool.announcement.aggregate, around) {
                planned.prefix = *prefix;
                if when == AggregateWhen::All && planned.announce.is_err() {
                    fallen.entry(*prefix).or_insert(vip.address);
                }
            }
        }
        plan.vips.insert(vip.address, planned);
    }
    for planned in plan.vips.values_mut() {
        if let (Ok(()), Some(address)) = (&planned.announce, fallen.get(&planned.prefix)) {
            planned.announce = Err(Withhold::Together {
                prefix: planned.prefix,
                address: *address,
            });
        }
    }
    plan
}

/// The most telling reason first: what explains the others is named before them.
fn decide(serving: &VipServing, source_ready: bool, stopping: bool) -> Result<(), Withhold> {
    if stopping {
        return Err(Withhold::Stopping);
    }
    if !source_ready {
        return Err(Withhold::SourceNotReady);
    }
    for (listener, state) in &serving.listeners {
        let error = match state {
            Some(ListenerState::Bound) => continue,
            Some(ListenerState::Failed { error }) => Some(error.clone()),
            None => None,
        };
        return Err(Withhold::ListenerNotBound {
            listener: *listener,
            error,
        });
    }
    if !serving.can_serve {
        return Err(Withhold::NoEligibleEndpoint);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sekisho_config::model::VipPurpose;
    use std::net::SocketAddr;

    fn vip(address: &str, announce_to: Vec<AnnounceTo>) -> Arc<Vip> {
        Arc::new(Vip {
            address: address.parse().unwrap(),
            pool: "public".into(),
            announce_to,
            purpose: VipPurpose::Ingress,
        })
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn announced_only_when_everything_works() {
        let bound = Some(ListenerState::Bound);
        let failed = Some(ListenerState::Failed {
            error: "Address already in use".into(),
        });
        let listener = socket("203.0.113.1:443");
        let not_bound = |error: Option<&str>| {
            Err(Withhold::ListenerNotBound {
                listener,
                error: error.map(str::to_owned),
            })
        };
        // (state of :443, can serve, source ready, stopping) -> decision
        for (state, can_serve, source_ready, stopping, want) in [
            (bound.clone(), true, true, false, Ok(())),
            (
                bound.clone(),
                false,
                true,
                false,
                Err(Withhold::NoEligibleEndpoint),
            ),
            (None, true, true, false, not_bound(None)),
            (
                failed.clone(),
                true,
                true,
                false,
                not_bound(Some("Address already in use")),
            ),
            (
                failed.clone(),
                false,
                true,
                false,
                not_bound(Some("Address already in use")),
            ),
            (bound.clone(), true, false, false, Err(Withhold::SourceNotReady)),
            (failed, false, false, false, Err(Withhold::SourceNotReady)),
            (bound.clone(), true, true, true, Err(Withhold::Stopping)),
            (None, false, false, true, Err(Withhold::Stopping)),
        ] {
            let input = format!("{state:?} {can_serve} {source_ready} {stopping}");
            let serving = VipServing {
                listeners: vec![(socket("203.0.113.1:80"), bound.clone()), (listener, state)],
                can_serve,
            };
            let plan = plan(
                &[(
                    vip("203.0.113.1", vec![AnnounceTo::Role(Role::Upstream)]),
                    serving,
                )],
                &[],
                source_ready,
                stopping,
            );
            let planned = plan.vips.values().next().unwrap();
            assert_eq!(planned.announce, want, "{input}");
            assert_eq!(plan.local().count(), 1, "local whatever happens: {input}");
        }
    }

    #[test]
    fn goes_to_the_named_and_never_to_the_cluster() {
        let tor: PeerName = "tor-1".parse().unwrap();
        let node: PeerName = "node-1".parse().unwrap();
        let upstream = AnnounceTo::Role(Role::Upstream);
        let to = |name: &PeerName| AnnounceTo::Peer(name.clone());
        for (announce_to, peer, role, want) in [
            (vec![upstream.clone()], &tor, Role::Upstream, true),
            (vec![to(&tor)], &tor, Role::Upstream, true),
            (vec![to(&node)], &tor, Role::Upstream, false),
            (vec![], &tor, Role::Upstream, false),
            (vec![upstream], &node, Role::Cluster, false),
            (vec![AnnounceTo::Role(Role::Cluster)], &node, Role::Cluster, false),
            (vec![to(&node)], &node, Role::Cluster, false),
        ] {
            let planned = PlannedVip::host(vip("2001:db8:1::1", announce_to.clone()), Ok(()));
            assert_eq!(
                planned.goes_to(peer, role),
                want,
                "{announce_to:?} to {peer}, {role}"
            );
            let withheld = PlannedVip {
                announce: Err(Withhold::Stopping),
                ..planned
            };
            assert!(!withheld.goes_to(peer, role), "withheld: {announce_to:?}");
        }
    }

    #[test]
    fn the_first_of_one_address_counts() {
        let serving = |can_serve| VipServing {
            listeners: vec![],
            can_serve,
        };
        let plan = plan(
            &[
                (vip("203.0.113.1", vec![]), serving(true)),
                (vip("203.0.113.1", vec![]), serving(false)),
            ],
            &[],
            true,
            false,
        );
        assert_eq!(plan.vips.len(), 1);
        assert!(plan.vips.values().all(|planned| planned.announce.is_ok()));
    }

    #[test]
    fn a_pool_is_announced_by_address_or_as_a_whole() {
        let tor: PeerName = "tor-1".parse().unwrap();
        let serving = |can_serve| VipServing {
            listeners: vec![],
            can_serve,
        };
        let upstream = || vec![AnnounceTo::Role(Role::Upstream)];
        // (aggregate, can .1 serve, can .2 serve) -> announced, why .1 is withheld, why .2 is
        let (any, all) = (Some(AggregateWhen::Any), Some(AggregateWhen::All));
        for (aggregate, one, two, announced, withheld) in [
            (None, true, true, "203.0.113.1/32 203.0.113.2/32", [false, false]),
            (None, true, false, "203.0.113.1/32", [false, true]),
            (any, true, true, "203.0.113.0/28", [false, false]),
            (any, true, false, "203.0.113.0/28", [false, true]),
            (any, false, false, "", [true, true]),
            (all, true, true, "203.0.113.0/28", [false, false]),
            (all, true, false, "", [true, true]),
            (all, false, false, "", [true, true]),
        ] {
            let set = PathChange {
                med: Some(7),
                ..PathChange::default()
            };
            let pool = AddressPool {
                name: "public".into(),
                addresses: vec!["203.0.113.0/28".parse().unwrap()],
                announce_to: upstream(),
                announcement: sekisho_config::model::Announcement { set, aggregate },
            };
            let vips = [
                (vip("203.0.113.1", upstream()), serving(one)),
                (vip("203.0.113.2", upstream()), serving(two)),
            ];
            let plan = plan(&vips, &[pool], true, false);
            let to = plan.announced_to(&tor, Role::Upstream);
            let prefixes: Vec<_> = to.keys().map(ToString::to_string).collect();
            assert_eq!(prefixes.join(" "), announced, "{aggregate:?} {one} {two}");
            assert!(to.values().all(|set| set.med == Some(7)));
            let got: Vec<_> = plan
                .vips
                .values()
                .map(|planned| planned.announce.is_err())
                .collect();
            assert_eq!(got, withheld, "{aggregate:?} {one} {two}");
            assert_eq!(plan.wholes().len(), usize::from(aggregate.is_some()));
            assert_eq!(plan.pools.len(), 1);
        }
    }
}
