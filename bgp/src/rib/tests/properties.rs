//! Whatever happens step by step, the table is what a fresh one would be.

use proptest::prelude::*;

use super::*;

/// One thing that may happen to a table.
#[derive(Clone, Debug)]
enum Step {
    Announce {
        peer: u8,
        path_id: Option<u32>,
        prefix: usize,
        next_hop: usize,
        attributes: Attributes,
    },
    Withdraw {
        peer: u8,
        path_id: Option<u32>,
        prefix: usize,
    },
    Down {
        peer: u8,
        keep: bool,
    },
    Sweep {
        peer: u8,
    },
    Kernel(u8),
    Owners(Vec<(usize, usize)>),
    Local(u8),
    Track(Vec<usize>),
}

const PREFIXES: [&str; 9] = [
    "0.0.0.0/0",
    "10.244.0.0/16",
    "10.244.0.0/26",
    "10.244.0.7/32",
    "10.244.0.64/26",
    "172.16.0.0/16",
    "172.16.0.1/32",
    "172.16.1.0/24",
    "fd00::/122",
];
const NEXT_HOPS: [&str; 7] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.8.0.1",
    "172.16.0.1",
    "172.16.1.1",
    "10.244.0.7",
    "fe80::1",
];
const ADDRESSES: [&str; 7] = [
    "10.244.0.7",
    "10.244.0.8",
    "10.244.0.70",
    "10.244.9.9",
    "172.16.0.1",
    "192.0.2.1",
    "fd00::1",
];

fn step() -> impl Strategy<Value = Step> {
    let peer = 1u8..=4;
    let path_id = prop::option::weighted(0.3, 0u32..2);
    prop_oneof![
        8 => (peer.clone(), path_id.clone(), 0..PREFIXES.len(), 0..NEXT_HOPS.len(), attributes())
            .prop_map(|(peer, path_id, prefix, next_hop, attributes)| Step::Announce { peer, path_id, prefix, next_hop, attributes }),
        4 => (peer.clone(), path_id, 0..PREFIXES.len()).prop_map(|(peer, path_id, prefix)| Step::Withdraw { peer, path_id, prefix }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, keep)| Step::Down { peer, keep }),
        1 => peer.prop_map(|peer| Step::Sweep { peer }),
        1 => (0u8..4).prop_map(Step::Kernel),
        1 => prop::collection::vec((0..ADDRESSES.len(), 0..NEXT_HOPS.len()), 0..5).prop_map(Step::Owners),
        1 => (0u8..4).prop_map(Step::Local),
        1 => prop::collection::vec(0..ADDRESSES.len(), 0..6).prop_map(Step::Track),
    ]
}

fn peer_of(number: u8) -> PeerInfo {
    match number {
        1 | 2 => node(number),
        3 => peer(3, 64513, Role::Cluster),
        _ => peer(4, 64999, Role::Upstream),
    }
}

fn kernel_of(number: u8) -> NextHops {
    let mut view = kernel();
    if number & 1 == 1 {
        view.routes.remove(&prefix("10.0.0.0/24"));
        view.links.remove(&2);
    }
    if number & 2 == 2 {
        view.routes.remove(&prefix("10.8.0.0/16"));
        view.routes.remove(&prefix("0.0.0.0/0"));
    }
    view
}

fn owners_of(pairs: &[(usize, usize)]) -> Owners {
    let pair = |(pod, node): &(usize, usize)| (ip(ADDRESSES[*pod]), Arc::from([ip(NEXT_HOPS[*node])]));
    pairs.iter().map(pair).collect()
}

fn local_of(number: u8, kernel_fallback: bool) -> Local {
    let multipath = Multipath {
        rule: if number & 1 == 1 {
            MultipathRule::Exact
        } else {
            MultipathRule::Relax
        },
        most: if number & 2 == 2 {
            std::num::NonZeroU8::MIN
        } else {
            Multipath::MOST
        },
        link_bandwidth: false,
    };
    Local {
        kernel_fallback,
        multipath,
        ..local()
    }
}

type Key = (u8, usize, Option<u32>);

/// What the steps add up to, kept in the plainest way.
#[derive(Default)]
struct Model {
    paths: BTreeMap<Key, (usize, Attributes, bool)>,
    kernel: u8,
    owners: Vec<(usize, usize)>,
    local: u8,
}

fn update_of(path_id: Option<u32>, at: usize, announced: Option<(usize, &Attributes)>) -> Update {
    let nlri = Nlri {
        path_id,
        prefix: prefix(PREFIXES[at]),
    };
    match announced {
        None => Update {
            withdrawn: vec![nlri],
            ..Update::default()
        },
        Some((next_hop, attributes)) => {
            let next_hop = NextHop {
                address: ip(NEXT_HOPS[next_hop]),
                link_local: None,
            };
            Update {
                announced: vec![(nlri, next_hop)],
                attributes: Some(Arc::new(attributes.clone())),
                ..Update::default()
            }
        }
    }
}

impl Model {
    fn apply(&mut self, step: &Step) {
        let v4 = |prefix: usize| !PREFIXES[prefix].contains(':');
        match step {
            Step::Announce {
                peer,
                path_id,
                prefix,
                next_hop,
                attributes,
            } => {
                self.paths
                    .insert((*peer, *prefix, *path_id), (*next_hop, attributes.clone(), false));
            }
            Step::Withdraw {
                peer,
                path_id,
                prefix,
            } => {
                self.paths.remove(&(*peer, *prefix, *path_id));
            }
            Step::Down { peer, keep } => self.paths.retain(|(of, prefix, _), (_, _, stale)| {
                if of != peer {
                    return true;
                }
                let kept = *keep && v4(*prefix) && !*stale;
                *stale = true;
                kept
            }),
            Step::Sweep { peer } => self
                .paths
                .retain(|(of, prefix, _), (_, _, stale)| of != peer || !v4(*prefix) || !*stale),
            Step::Kernel(number) => self.kernel = *number,
            Step::Owners(pairs) => self.owners.clone_from(pairs),
            Step::Local(number) => self.local = *number,
            Step::Track(_) => {}
        }
    }

    /// A fresh table with the same paths, put in backwards.
    fn rebuild(&self, kernel_fallback: bool) -> (Rib, BTreeMap<Prefix, Gateways>) {
        let mut rib = Rib::new(local_of(self.local, kernel_fallback));
        let mut installed = Kernel::default();
        installed.take(rib.set_owners(owners_of(&self.owners)));
        for ((peer, prefix, path_id), (next_hop, attributes, _)) in self.paths.iter().rev() {
            let (id, _) = rib.peer_up(peer_of(*peer));
            let delta = rib.update(id, &update_of(*path_id, *prefix, Some((*next_hop, attributes))));
            installed.take(delta);
        }
        let changed = rib.begin_next_hops(kernel_of(self.kernel));
        installed.take_pieces(&mut rib, changed);
        (rib, installed.routes())
    }
}

/// What the kernel would have, by what it was told.
#[derive(Default)]
struct Kernel {
    ways: BTreeMap<ForwardingId, Gateways>,
    routes: BTreeMap<Prefix, ForwardingId>,
}

impl Kernel {
    fn take(&mut self, delta: Delta) {
        assert!(delta.changed.is_sorted() && delta.fib.is_sorted_by_key(|(prefix, _)| *prefix));
        assert!(delta.ways.is_sorted_by_key(|(id, _)| *id));
        let mut gone = Vec::new();
        for (id, gateways) in delta.ways {
            match gateways {
                Some(gateways) => drop(self.ways.insert(id, gateways)),
                None => gone.push(id),
            }
        }
        for (prefix, way) in delta.fib {
            assert!(delta.changed.contains(&prefix), "{prefix} is in both lists");
            match way {
                Some(way) => self.routes.insert(prefix, way),
                None => self.routes.remove(&prefix),
            };
        }
        for id in gone {
            assert!(self.ways.remove(&id).is_some(), "{id:?} was told before");
        }
        for way in self.routes.values() {
            assert!(self.ways.contains_key(way), "{way:?} leads somewhere");
        }
    }

    fn take_pieces(&mut self, rib: &mut Rib, (first, mut rest): (Delta, Rest)) {
        self.take(first);
        while let Some(piece) = rib.go_on(&mut rest) {
            self.take(piece);
        }
    }

    fn routes(&self) -> BTreeMap<Prefix, Gateways> {
        let routes = self.routes.iter();
        routes
            .map(|(prefix, way)| (*prefix, Arc::clone(&self.ways[way])))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_step_leads_to_what_a_fresh_table_says(steps in prop::collection::vec(step(), 1..40), kernel_fallback: bool) {
        let mut rib = Rib::new(local_of(0, kernel_fallback));
        let ids: BTreeMap<u8, PeerId> = (1..=4).map(|number| (number, rib.peer_up(peer_of(number)).0)).collect();
        rib.next_hops_changed(kernel_of(0));
        let mut model = Model::default();
        let mut tracker = Tracker::default();
        let mut tracked = OrdSet::new();
        let mut answers: BTreeMap<IpAddr, Reach> = BTreeMap::new();
        let mut installed = Kernel::default();
        for step in &steps {
            model.apply(step);
            let mut told = Vec::new();
            let mut rest = None;
            let mut begin = |(first, others): (Delta, Rest)| {
                rest = Some(others);
                first
            };
            let first = match step {
                Step::Announce { peer, path_id, prefix, next_hop, attributes } =>
                    rib.update(ids[peer], &update_of(*path_id, *prefix, Some((*next_hop, attributes)))),
                Step::Withdraw { peer, path_id, prefix } => rib.update(ids[peer], &update_of(*path_id, *prefix, None)),
                Step::Down { peer, keep: true } => begin(rib.begin_peer_down(ids[peer], &[Family::Ipv4Unicast])),
                Step::Down { peer, keep: false } => begin(rib.begin_peer_down(ids[peer], &[])),
                Step::Sweep { peer } => rib.update(ids[peer], &end_of_rib(Family::Ipv4Unicast)),
                Step::Kernel(number) => begin(rib.begin_next_hops(kernel_of(*number))),
                Step::Owners(pairs) => rib.set_owners(owners_of(pairs)),
                Step::Local(number) => rib.configure(local_of(*number, kernel_fallback)),
                Step::Track(indices) => {
                    tracked = indices.iter().map(|index| ip(ADDRESSES[*index])).collect();
                    told.extend(tracker.track(tracked.clone(), &rib));
                    Delta::default()
                }
            };
            let mut next = Some(first);
            while let Some(delta) = next {
                told.extend(tracker.changed(&delta, &rib));
                installed.take(delta);
                next = rest.as_mut().and_then(|rest| rib.go_on(rest));
            }
            for (address, reach) in told {
                match reach {
                    Some(reach) => prop_assert!(answers.insert(address, reach.clone()) != Some(reach), "only news"),
                    None => prop_assert!(answers.remove(&address).is_some()),
                }
            }
            let (fresh, fresh_installed) = model.rebuild(kernel_fallback);
            prop_assert_eq!(&installed.routes(), &fresh_installed, "after {:?}", step);
            let want: BTreeMap<_, _> = tracked.iter().map(|address| (*address, fresh.reach(*address))).collect();
            prop_assert_eq!(&answers, &want, "after {:?}", step);
            let mut views = rib.routes(&RouteQuery::default());
            for view in &mut views {
                view.stale = false;
            }
            prop_assert_eq!(views, fresh.routes(&RouteQuery::default()), "after {:?}", step);
        }
        for (number, id) in &ids {
            let of = |counts: Counts| (counts.ipv4, counts.ipv6, counts.stale);
            let paths = || model.paths.iter().filter(|((peer, ..), _)| peer == number);
            let v6 = paths().filter(|((_, prefix, _), _)| PREFIXES[*prefix].contains(':')).count();
            let stale = paths().filter(|(_, (_, _, stale))| *stale).count();
            prop_assert_eq!(of(rib.counts(*id)), (paths().count() - v6, v6, stale));
            let used = rib.routes(&RouteQuery { peer: Some(peer_of(*number).name), ..RouteQuery::default() });
            prop_assert_eq!(rib.counts(*id).used, used.iter().filter(|view| view.used).count());
        }
        for id in ids.into_values() {
            let gone = rib.begin_peer_down(id, &[]);
            installed.take_pieces(&mut rib, gone);
            rib.forget(id);
        }
        prop_assert!(installed.routes.is_empty() && installed.ways.is_empty(), "nothing is left behind");
        prop_assert_eq!((rib.hops.len(), rib.ways.len(), rib.table.iter().count(), rib.sources.iter().count()), (0, 0, 0, 0));
        prop_assert_eq!(rib.attributes.len(), 0);
    }
}
