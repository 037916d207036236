use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use imbl::{OrdMap, OrdSet};
use proptest::prelude::*;
use sekisho_config::model::{Reach, Role, Unroutable};

use super::decide::tests::attributes;
use super::*;
use crate::wire::{AsPath, NextHop, Nlri, Segment};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn local() -> Local {
    Local {
        asn: Asn::try_from(64512).unwrap(),
        router_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, 10)).unwrap(),
        kernel_fallback: false,
    }
}

fn peer(last: u8, asn: u32, role: Role) -> PeerInfo {
    let address = Ipv4Addr::new(10, 0, 0, last);
    PeerInfo {
        name: PeerName::from(IpAddr::V4(address)),
        address: IpAddr::V4(address),
        asn: Asn::try_from(asn).unwrap(),
        router_id: RouterId::try_from(address).unwrap(),
        role,
        interface: Some(2),
    }
}

fn node(last: u8) -> PeerInfo {
    peer(last, 64512, Role::Cluster)
}

/// eth0 with 10.0.0.0/24 and 2001:db8::/64, a router for 10.8.0.0/16, a default route.
fn kernel() -> NextHops {
    let mut view = NextHops::default();
    let route = |target| KernelRoute { target, metric: 0 };
    let connected = KernelTarget::Connected { interface: 2 };
    let via = KernelTarget::Via {
        gateway: ip("10.0.0.254"),
        interface: 2,
    };
    view.routes.insert(prefix("10.0.0.0/24"), route(connected));
    view.routes.insert(prefix("2001:db8::/64"), route(connected));
    view.routes.insert(prefix("10.8.0.0/16"), route(via));
    view.routes.insert(prefix("0.0.0.0/0"), route(via));
    view.routes
        .insert(prefix("10.9.0.0/16"), route(KernelTarget::Reject));
    view.local.insert(ip("10.0.0.10"));
    view.links.insert(2, "eth0".into());
    view
}

fn rib() -> Rib {
    let mut rib = Rib::new(local());
    rib.next_hops_changed(kernel());
    rib
}

fn nlri(text: &str) -> Nlri {
    Nlri {
        path_id: None,
        prefix: prefix(text),
    }
}

fn announce(prefixes: &[&str], next_hop: &str) -> Update {
    announce_with(prefixes, next_hop, Attributes::default())
}

fn announce_with(prefixes: &[&str], next_hop: &str, attributes: Attributes) -> Update {
    let next_hop = NextHop {
        address: ip(next_hop),
        link_local: None,
    };
    Update {
        announced: prefixes.iter().map(|text| (nlri(text), next_hop)).collect(),
        attributes: Some(Arc::new(attributes)),
        ..Update::default()
    }
}

fn withdraw(prefixes: &[&str]) -> Update {
    Update {
        withdrawn: prefixes.iter().map(|text| nlri(text)).collect(),
        ..Update::default()
    }
}

fn end_of_rib(family: Family) -> Update {
    Update {
        end_of_rib: Some(family),
        ..Update::default()
    }
}

fn via(rib: &Rib, address: &str) -> String {
    match rib.reach(ip(address)) {
        Reach::Routed(via) => format!("{} via {:?}", via.prefix, via.next_hops),
        Reach::Unroutable { why } => why.to_string(),
    }
}

fn fib(delta: &Delta) -> Vec<String> {
    delta
        .fib
        .iter()
        .map(|(prefix, gateways)| match gateways {
            Some(gateways) => {
                let via: Vec<_> = gateways
                    .iter()
                    .map(|g| format!("{}@{}", g.via, g.interface))
                    .collect();
                format!("{prefix} {}", via.join(" "))
            }
            None => format!("{prefix} -"),
        })
        .collect()
}

#[test]
fn a_borrowed_address_beats_the_block() {
    let mut rib = rib();
    let (one, _) = rib.peer_up(node(1));
    let (two, _) = rib.peer_up(node(2));
    let delta = rib.update(one, &announce(&["10.244.0.0/26", "fd00::/122"], "10.0.0.1"));
    assert_eq!(fib(&delta), ["10.244.0.0/26 10.0.0.1@2", "fd00::/122 10.0.0.1@2"]);
    let delta = rib.update(two, &announce(&["10.244.0.7/32"], "10.0.0.2"));
    assert_eq!(fib(&delta), ["10.244.0.7/32 10.0.0.2@2"]);
    assert_eq!(via(&rib, "10.244.0.7"), "10.244.0.7/32 via [10.0.0.2]");
    assert_eq!(via(&rib, "10.244.0.8"), "10.244.0.0/26 via [10.0.0.1]");
    assert_eq!(via(&rib, "10.244.1.8"), Unroutable::NoRoute.to_string());
    let Reach::Routed(found) = rib.reach(ip("10.244.0.7")) else {
        panic!("routed")
    };
    assert_eq!(found.interface.as_deref(), Some("eth0"));
    assert_eq!(found.peers, [PeerName::from(ip("10.0.0.2"))]);

    let delta = rib.update(two, &withdraw(&["10.244.0.7/32"]));
    assert_eq!(fib(&delta), ["10.244.0.7/32 -"]);
    assert_eq!(via(&rib, "10.244.0.7"), "10.244.0.0/26 via [10.0.0.1]");
    let delta = rib.update(two, &withdraw(&["10.244.0.7/32"]));
    assert!(delta.is_empty(), "withdrawn twice");
}

#[test]
fn equal_paths_become_one_multipath_route() {
    let mut rib = rib();
    let ids: Vec<_> = (1..=3).map(|last| rib.peer_up(node(last)).0).collect();
    for (last, id) in (1..=3).zip(&ids) {
        rib.update(*id, &announce(&["10.96.0.0/12"], &format!("10.0.0.{last}")));
    }
    assert_eq!(
        via(&rib, "10.96.0.1"),
        "10.96.0.0/12 via [10.0.0.1, 10.0.0.2, 10.0.0.3]"
    );
    assert_eq!(rib.counts(ids[2]).used, 1);
    let delta = rib.peer_down(ids[0], &[]);
    assert_eq!(
        fib(&delta),
        ["10.96.0.0/12 10.0.0.2@2 10.0.0.3@2"],
        "replaced, not removed"
    );
    let delta = rib.update(
        ids[1],
        &announce_with(
            &["10.96.0.0/12"],
            "10.0.0.2",
            Attributes {
                local_preference: Some(200),
                ..Attributes::default()
            },
        ),
    );
    assert_eq!(fib(&delta), ["10.96.0.0/12 10.0.0.2@2"]);
    assert_eq!((rib.counts(ids[1]).used, rib.counts(ids[2]).used), (1, 0));
    let views = rib.routes(&RouteQuery::default());
    assert!(views[0].best && views[0].reason.is_none());
    assert_eq!(
        views[1].reason.as_deref(),
        Some("LOCAL_PREF 100 is lower than 200")
    );
    let delta = rib.update(ids[2], &announce(&["10.96.0.0/12"], "10.0.0.3"));
    assert!(delta.is_empty(), "the same again is no change");
}

#[test]
fn next_hops_follow_the_kernel() {
    let mut rib = rib();
    let (id, _) = rib.peer_up(node(1));
    let cases = [
        (
            "10.244.1.0/26",
            "10.0.0.1",
            "10.0.0.1@2",
            "10.244.1.0/26 via [10.0.0.1]",
        ),
        (
            "10.244.2.0/26",
            "10.8.1.1",
            "10.0.0.254@2",
            "10.244.2.0/26 via [10.8.1.1]",
        ),
        (
            "10.244.3.0/26",
            "172.16.0.1",
            "",
            "the next hop of its route cannot be reached",
        ),
        ("10.244.4.0/26", "10.0.0.10", "", "no route covers it"),
        (
            "10.244.5.0/26",
            "10.9.0.1",
            "",
            "the next hop of its route cannot be reached",
        ),
        ("127.0.0.0/26", "10.0.0.1", "", "no route covers it"),
    ];
    for (block, next_hop, gateway, reach) in cases {
        let delta = rib.update(id, &announce(&[block], next_hop));
        let want: Vec<_> = (!gateway.is_empty())
            .then(|| format!("{block} {gateway}"))
            .into_iter()
            .collect();
        assert_eq!(fib(&delta), want, "{block} via {next_hop}");
        let inside = block.replace(".0/26", ".1");
        assert_eq!(via(&rib, &inside), reach, "{block} via {next_hop}");
    }
    let delta = rib.next_hops_changed(NextHops::default());
    assert_eq!(
        fib(&delta),
        ["10.244.1.0/26 -", "10.244.2.0/26 -"],
        "the link is down"
    );
    assert_eq!(
        via(&rib, "10.244.1.1"),
        Unroutable::NextHopUnreachable.to_string()
    );
    let delta = rib.next_hops_changed(kernel());
    assert_eq!(
        fib(&delta),
        ["10.244.1.0/26 10.0.0.1@2", "10.244.2.0/26 10.0.0.254@2"]
    );
    assert!(rib.next_hops_changed(kernel()).is_empty());
}

#[test]
fn link_local_next_hops_are_on_the_link_of_the_session() {
    let mut rib = rib();
    let (id, _) = rib.peer_up(node(1));
    let mut update = announce(&["fd00::/122"], "fe80::1");
    assert_eq!(fib(&rib.update(id, &update)), ["fd00::/122 fe80::1@2"]);
    update.announced[0].1 = NextHop {
        address: ip("2001:db8:ffff::1"),
        link_local: Some("fe80::2".parse().unwrap()),
    };
    assert_eq!(
        fib(&rib.update(id, &update)),
        ["fd00::/122 fe80::2@2"],
        "the global one is nowhere"
    );
    update.announced[0].1.address = ip("2001:db8::1");
    assert_eq!(fib(&rib.update(id, &update)), ["fd00::/122 2001:db8::1@2"]);
}

#[test]
fn a_next_hop_may_be_reached_by_bgp_itself() {
    let mut rib = rib();
    let (one, _) = rib.peer_up(node(1));
    let (two, _) = rib.peer_up(node(2));
    // Pods behind a loopback that is known by BGP only, and one more step; the order does not matter.
    rib.update(two, &announce(&["10.244.0.0/26"], "172.16.0.9"));
    rib.update(two, &announce(&["172.16.0.9/32"], "172.16.0.1"));
    assert_eq!(
        via(&rib, "10.244.0.1"),
        Unroutable::NextHopUnreachable.to_string()
    );
    let delta = rib.update(one, &announce(&["172.16.0.0/30"], "10.0.0.1"));
    assert_eq!(
        fib(&delta),
        [
            "10.244.0.0/26 10.0.0.1@2",
            "172.16.0.0/30 10.0.0.1@2",
            "172.16.0.9/32 10.0.0.1@2"
        ]
    );
    let delta = rib.update(one, &withdraw(&["172.16.0.0/30"]));
    assert_eq!(
        fib(&delta),
        ["10.244.0.0/26 -", "172.16.0.0/30 -", "172.16.0.9/32 -"]
    );
}

#[test]
fn routes_that_lean_on_each_other_lead_nowhere() {
    let mut rib = rib();
    let (one, _) = rib.peer_up(node(1));
    rib.update(one, &announce(&["172.16.0.0/16"], "172.16.0.1"));
    rib.update(one, &announce(&["172.17.0.0/16"], "172.18.0.1"));
    rib.update(one, &announce(&["172.18.0.0/16"], "172.17.0.1"));
    for address in ["172.16.5.5", "172.17.5.5", "172.18.5.5"] {
        assert_eq!(
            via(&rib, address),
            Unroutable::NextHopUnreachable.to_string(),
            "{address}"
        );
    }
    rib.update(one, &announce(&["172.18.0.0/24"], "10.0.0.1"));
    assert_eq!(via(&rib, "172.17.5.5"), "172.17.0.0/16 via [172.18.0.1]");
    assert_eq!(
        via(&rib, "172.18.5.5"),
        "172.18.0.0/16 via [172.17.0.1]",
        "now there is a way out"
    );
}

#[test]
fn graceful_restart_keeps_and_sweeps() {
    let mut rib = rib();
    let (id, _) = rib.peer_up(node(1));
    rib.update(id, &announce(&["10.244.0.0/26", "10.244.1.0/26"], "10.0.0.1"));
    rib.update(id, &announce(&["fd00::/122"], "2001:db8::1"));
    let delta = rib.peer_down(id, &[Family::Ipv4Unicast]);
    assert_eq!(fib(&delta), ["fd00::/122 -"]);
    assert_eq!(
        rib.counts(id),
        Counts {
            ipv4: 2,
            used: 2,
            stale: 2,
            ..Counts::default()
        }
    );
    assert!(rib.routes(&RouteQuery::default()).iter().all(|route| route.stale));

    let (again, delta) = rib.peer_up(node(1));
    assert_eq!(again, id, "the same name");
    assert!(delta.is_empty());
    let delta = rib.update(id, &announce(&["10.244.0.0/26"], "10.0.0.1"));
    assert!(delta.is_empty(), "nothing flaps");
    assert_eq!(rib.counts(id).stale, 1);
    assert!(rib.update(id, &end_of_rib(Family::Ipv6Unicast)).is_empty());
    let delta = rib.update(id, &end_of_rib(Family::Ipv4Unicast));
    assert_eq!(fib(&delta), ["10.244.1.0/26 -"]);

    rib.peer_down(id, &[Family::Ipv4Unicast]);
    let delta = rib.peer_down(id, &[Family::Ipv4Unicast]);
    assert_eq!(
        fib(&delta),
        ["10.244.0.0/26 -"],
        "stale twice is gone (RFC 4724 section 4.2)"
    );

    rib.update(id, &announce(&["10.244.0.0/26"], "10.0.0.1"));
    rib.mark_stale(id, Family::Ipv4Unicast);
    rib.mark_stale(id, Family::Ipv4Unicast);
    assert_eq!(rib.counts(id).stale, 1);
    assert_eq!(
        fib(&rib.sweep_stale(id, Family::Ipv4Unicast)),
        ["10.244.0.0/26 -"]
    );
    assert_eq!(rib.counts(id), Counts::default());
}

#[test]
fn routes_from_above_are_shown_and_not_used() {
    let mut rib = rib();
    let (tor, _) = rib.peer_up(peer(254, 64999, Role::Upstream));
    let delta = rib.update(tor, &announce(&["0.0.0.0/0", "10.244.0.0/26"], "10.0.0.254"));
    assert!(delta.fib.is_empty());
    assert_eq!(via(&rib, "10.244.0.1"), Unroutable::NoRoute.to_string());
    let views = rib.routes(&RouteQuery::default());
    assert_eq!(views.len(), 2);
    assert_eq!(
        views[0].lost,
        Some(Lost::Ineligible {
            why: Ineligible::Upstream
        })
    );
    let (one, _) = rib.peer_up(node(1));
    rib.update(one, &announce(&["10.244.0.0/26"], "10.0.0.1"));
    assert_eq!(via(&rib, "10.244.0.1"), "10.244.0.0/26 via [10.0.0.1]");
}

#[test]
fn loops_are_refused_and_named() {
    let mut rib = rib();
    let (id, _) = rib.peer_up(node(1));
    let with = |change: fn(&mut Attributes)| {
        let mut attributes = Attributes::default();
        change(&mut attributes);
        attributes
    };
    let cases = [
        (
            with(|a| a.as_path.segments = vec![Segment::Sequence(vec![64600, 64512])]),
            Ineligible::AsLoop,
        ),
        (
            with(|a| a.originator_id = Some(Ipv4Addr::new(192, 0, 2, 10))),
            Ineligible::OriginatorLoop,
        ),
    ];
    for (attributes, why) in cases {
        rib.update(id, &announce_with(&["10.244.0.0/26"], "10.0.0.1", attributes));
        let views = rib.routes(&RouteQuery::default());
        assert_eq!(views[0].lost, Some(Lost::Ineligible { why }));
        assert!(!views[0].used);
    }
}

#[test]
fn the_kernels_own_route_stands_in_when_preferred() {
    let mut rib = Rib::new(Local {
        kernel_fallback: true,
        ..local()
    });
    rib.next_hops_changed(kernel());
    let (id, _) = rib.peer_up(node(1));
    rib.update(
        id,
        &announce(&["10.8.0.0/24", "10.8.0.0/16", "10.0.0.0/25"], "10.0.0.1"),
    );
    let mut tracker = Tracker::default();
    let tracked: OrdSet<IpAddr> = [
        "10.8.0.1",
        "10.8.1.1",
        "10.0.0.77",
        "198.51.100.1",
        "10.9.0.1",
        "10.0.0.10",
        "fd00::1",
    ]
    .into_iter()
    .map(ip)
    .collect();
    tracker.track(tracked, &rib);
    for (address, kernel, want) in [
        ("10.8.0.1", false, "10.8.0.0/24 via [10.0.0.1]"),
        ("10.8.1.1", true, "10.8.0.0/16 via [10.0.0.254]"),
        ("10.0.0.77", false, "10.0.0.0/25 via [10.0.0.1]"),
        ("198.51.100.1", true, "0.0.0.0/0 via [10.0.0.254]"),
        ("10.9.0.1", false, "no route covers it"),
        ("10.0.0.10", true, "10.0.0.10/32 via []"),
        ("fd00::1", false, "no route covers it"),
    ] {
        assert_eq!(via(&rib, address), want, "{address}");
        let by_kernel = matches!(rib.reach(ip(address)), Reach::Routed(found) if found.kernel);
        assert_eq!(by_kernel, kernel, "{address}");
    }
    let mut view = kernel();
    view.routes.remove(&prefix("0.0.0.0/0"));
    let delta = rib.next_hops_changed(view);
    let answers = tracker.changed(&delta, &rib);
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].0, ip("198.51.100.1"));
    let delta = rib.configure(local());
    let answers: Vec<_> = tracker
        .changed(&delta, &rib)
        .into_iter()
        .map(|(address, _)| address)
        .collect();
    assert_eq!(answers, [ip("10.0.0.10"), ip("10.8.1.1")]);
}

#[test]
fn queries() {
    let mut rib = rib();
    let (one, _) = rib.peer_up(node(1));
    let (two, _) = rib.peer_up(node(2));
    rib.update(
        one,
        &announce(&["10.244.0.0/16", "10.244.0.0/26", "10.244.1.0/26"], "10.0.0.1"),
    );
    rib.update(one, &announce(&["fd00::/122"], "2001:db8::1"));
    rib.update(two, &announce(&["10.244.0.0/26"], "172.16.0.1"));
    rib.update(two, &announce(&["10.244.0.7"], "172.16.0.1"));
    let all = RouteQuery::default();
    let related = |relation, text| RouteQuery {
        prefix: Some((relation, prefix(text))),
        ..all.clone()
    };
    for (query, want) in [
        (
            all.clone(),
            vec![
                "10.244.0.0/16",
                "10.244.0.0/26",
                "10.244.0.0/26",
                "10.244.0.7/32",
                "10.244.1.0/26",
                "fd00::/122",
            ],
        ),
        (
            related(Relation::Exact, "10.244.0.0/26"),
            vec!["10.244.0.0/26", "10.244.0.0/26"],
        ),
        (related(Relation::Exact, "10.244.0.0/25"), vec![]),
        (related(Relation::Longer, "10.244.1.0/24"), vec!["10.244.1.0/26"]),
        (
            related(Relation::Covering, "10.244.1.7"),
            vec!["10.244.1.0/26", "10.244.0.0/16"],
        ),
        (
            related(Relation::LongestMatch, "10.244.0.7"),
            vec!["10.244.0.0/26", "10.244.0.0/26"],
        ),
        (related(Relation::LongestMatch, "11.244.0.7"), vec![]),
        (
            RouteQuery {
                peer: Some(PeerName::from(ip("10.0.0.2"))),
                ..all.clone()
            },
            vec!["10.244.0.0/26", "10.244.0.7/32"],
        ),
        (
            RouteQuery {
                family: Some(Family::Ipv6Unicast),
                ..all.clone()
            },
            vec!["fd00::/122"],
        ),
        (
            RouteQuery {
                limit: 2,
                ..all.clone()
            },
            vec!["10.244.0.0/16", "10.244.0.0/26"],
        ),
    ] {
        let found: Vec<_> = rib
            .routes(&query)
            .iter()
            .map(|view| view.prefix.to_string())
            .collect();
        assert_eq!(found, want, "{query:?}");
    }
}

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

type Key = (u8, usize, Option<u32>);

/// What the steps add up to, kept in the plainest way.
#[derive(Default)]
struct Model {
    paths: BTreeMap<Key, (usize, Attributes, bool)>,
    kernel: u8,
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
            Step::Track(_) => {}
        }
    }

    /// A fresh table with the same paths, put in backwards.
    fn rebuild(&self, local: Local) -> (Rib, OrdMap<Prefix, Gateways>) {
        let mut rib = Rib::new(local);
        let mut installed = OrdMap::new();
        for ((peer, prefix, path_id), (next_hop, attributes, _)) in self.paths.iter().rev() {
            let (id, _) = rib.peer_up(peer_of(*peer));
            let delta = rib.update(id, &update_of(*path_id, *prefix, Some((*next_hop, attributes))));
            install(&mut installed, delta);
        }
        install(&mut installed, rib.next_hops_changed(kernel_of(self.kernel)));
        (rib, installed)
    }
}

fn install(installed: &mut OrdMap<Prefix, Gateways>, delta: Delta) {
    assert!(delta.changed.is_sorted() && delta.fib.is_sorted_by_key(|(prefix, _)| *prefix));
    for (prefix, gateways) in delta.fib {
        assert!(delta.changed.contains(&prefix), "{prefix} is in both lists");
        match gateways {
            Some(gateways) => installed.insert(prefix, gateways),
            None => installed.remove(&prefix),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_step_leads_to_what_a_fresh_table_says(steps in prop::collection::vec(step(), 1..40), kernel_fallback: bool) {
        let local = Local { kernel_fallback, ..local() };
        let mut rib = Rib::new(local);
        let ids: BTreeMap<u8, PeerId> = (1..=4).map(|number| (number, rib.peer_up(peer_of(number)).0)).collect();
        rib.next_hops_changed(kernel_of(0));
        let mut model = Model::default();
        let mut tracker = Tracker::default();
        let mut tracked = OrdSet::new();
        let mut answers: BTreeMap<IpAddr, Reach> = BTreeMap::new();
        let mut installed = OrdMap::new();
        for step in &steps {
            model.apply(step);
            let mut told = Vec::new();
            let delta = match step {
                Step::Announce { peer, path_id, prefix, next_hop, attributes } =>
                    rib.update(ids[peer], &update_of(*path_id, *prefix, Some((*next_hop, attributes)))),
                Step::Withdraw { peer, path_id, prefix } => rib.update(ids[peer], &update_of(*path_id, *prefix, None)),
                Step::Down { peer, keep: true } => rib.peer_down(ids[peer], &[Family::Ipv4Unicast]),
                Step::Down { peer, keep: false } => rib.peer_down(ids[peer], &[]),
                Step::Sweep { peer } => rib.update(ids[peer], &end_of_rib(Family::Ipv4Unicast)),
                Step::Kernel(number) => rib.next_hops_changed(kernel_of(*number)),
                Step::Track(indices) => {
                    tracked = indices.iter().map(|index| ip(ADDRESSES[*index])).collect();
                    told.extend(tracker.track(tracked.clone(), &rib));
                    Delta::default()
                }
            };
            told.extend(tracker.changed(&delta, &rib));
            install(&mut installed, delta);
            for (address, reach) in told {
                match reach {
                    Some(reach) => prop_assert!(answers.insert(address, reach.clone()) != Some(reach), "only news"),
                    None => prop_assert!(answers.remove(&address).is_some()),
                }
            }
            let (fresh, fresh_installed) = model.rebuild(local);
            prop_assert_eq!(&installed, &fresh_installed, "after {:?}", step);
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
            install(&mut installed, rib.forget(id));
        }
        prop_assert!(installed.is_empty(), "nothing is left behind: {:?}", installed);
        prop_assert_eq!((rib.hops.len(), rib.gateways.len(), rib.table.iter().count()), (0, 0, 0));
        prop_assert_eq!(rib.attributes.len(), 0);
    }
}

#[test]
fn as_sets_do_not_confuse_the_neighbour() {
    let path = AsPath {
        segments: vec![Segment::Set(vec![64513])],
    };
    let mut rib = rib();
    let (id, _) = rib.peer_up(peer(3, 64513, Role::Cluster));
    let attributes = Attributes {
        as_path: path,
        ..Attributes::default()
    };
    rib.update(id, &announce_with(&["10.244.0.0/26"], "10.0.0.3", attributes));
    assert_eq!(rib.routes(&RouteQuery::default())[0].as_path, "{64513}");
}
