use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use imbl::OrdSet;
use sekisho_config::model::{MultipathRule, Reach, Role, Unroutable};

use super::decide::tests::attributes;
use super::*;
use crate::wire::{AsPath, NextHop, Nlri, Segment};

mod properties;

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
        cluster_id: RouterId::try_from(Ipv4Addr::new(192, 0, 2, 11)).unwrap(),
        kernel_fallback: false,
        multipath: Multipath::default(),
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

/// What the kernel was told, with where its ways lead.
fn fib(rib: &Rib, delta: &Delta) -> Vec<String> {
    delta
        .fib
        .iter()
        .map(|(prefix, way)| match way {
            Some(way) => {
                let via: Vec<_> = rib
                    .ways
                    .gateways(*way)
                    .unwrap()
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
    assert_eq!(
        fib(&rib, &delta),
        ["10.244.0.0/26 10.0.0.1@2", "fd00::/122 10.0.0.1@2"]
    );
    let delta = rib.update(two, &announce(&["10.244.0.7/32"], "10.0.0.2"));
    assert_eq!(fib(&rib, &delta), ["10.244.0.7/32 10.0.0.2@2"]);
    assert_eq!(via(&rib, "10.244.0.7"), "10.244.0.7/32 via [10.0.0.2]");
    assert_eq!(via(&rib, "10.244.0.8"), "10.244.0.0/26 via [10.0.0.1]");
    assert_eq!(via(&rib, "10.244.1.8"), Unroutable::NoRoute.to_string());
    let Reach::Routed(found) = rib.reach(ip("10.244.0.7")) else {
        panic!("routed")
    };
    assert_eq!(found.interface.as_deref(), Some("eth0"));
    assert_eq!(found.peers, [PeerName::from(ip("10.0.0.2"))]);

    let delta = rib.update(two, &withdraw(&["10.244.0.7/32"]));
    assert_eq!(fib(&rib, &delta), ["10.244.0.7/32 -"]);
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
        fib(&rib, &delta),
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
    assert_eq!(fib(&rib, &delta), ["10.96.0.0/12 10.0.0.2@2"]);
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
        assert_eq!(fib(&rib, &delta), want, "{block} via {next_hop}");
        let inside = block.replace(".0/26", ".1");
        assert_eq!(via(&rib, &inside), reach, "{block} via {next_hop}");
    }
    let delta = rib.next_hops_changed(NextHops::default());
    assert_eq!(
        fib(&rib, &delta),
        ["10.244.1.0/26 -", "10.244.2.0/26 -"],
        "the link is down"
    );
    assert_eq!(
        via(&rib, "10.244.1.1"),
        Unroutable::NextHopUnreachable.to_string()
    );
    let delta = rib.next_hops_changed(kernel());
    assert_eq!(
        fib(&rib, &delta),
        ["10.244.1.0/26 10.0.0.1@2", "10.244.2.0/26 10.0.0.254@2"]
    );
    assert!(rib.next_hops_changed(kernel()).is_empty());
}

#[test]
fn link_local_next_hops_are_on_the_link_of_the_session() {
    let mut rib = rib();
    let (id, _) = rib.peer_up(node(1));
    let mut update = announce(&["fd00::/122"], "fe80::1");
    let delta = rib.update(id, &update);
    assert_eq!(fib(&rib, &delta), ["fd00::/122 fe80::1@2"]);
    update.announced[0].1 = NextHop {
        address: ip("2001:db8:ffff::1"),
        link_local: Some("fe80::2".parse().unwrap()),
    };
    let delta = rib.update(id, &update);
    assert_eq!(
        fib(&rib, &delta),
        ["fd00::/122 fe80::2@2"],
        "the global one is nowhere"
    );
    update.announced[0].1.address = ip("2001:db8::1");
    let delta = rib.update(id, &update);
    assert_eq!(fib(&rib, &delta), ["fd00::/122 2001:db8::1@2"]);
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
        fib(&rib, &delta),
        [
            "10.244.0.0/26 10.0.0.1@2",
            "172.16.0.0/30 10.0.0.1@2",
            "172.16.0.9/32 10.0.0.1@2"
        ]
    );
    let delta = rib.update(one, &withdraw(&["172.16.0.0/30"]));
    assert_eq!(
        fib(&rib, &delta),
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
    assert_eq!(fib(&rib, &delta), ["fd00::/122 -"]);
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
    assert_eq!(fib(&rib, &delta), ["10.244.1.0/26 -"]);

    rib.peer_down(id, &[Family::Ipv4Unicast]);
    let delta = rib.peer_down(id, &[Family::Ipv4Unicast]);
    assert_eq!(
        fib(&rib, &delta),
        ["10.244.0.0/26 -"],
        "stale twice is gone (RFC 4724 section 4.2)"
    );

    rib.update(id, &announce(&["10.244.0.0/26"], "10.0.0.1"));
    rib.mark_stale(id, Family::Ipv4Unicast);
    rib.mark_stale(id, Family::Ipv4Unicast);
    assert_eq!(rib.counts(id).stale, 1);
    let delta = rib.sweep_stale(id, Family::Ipv4Unicast);
    assert_eq!(fib(&rib, &delta), ["10.244.0.0/26 -"]);
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
            vec!["10.244.0.0/16", "10.244.0.0/26", "10.244.0.0/26"],
        ),
        (
            RouteQuery {
                limit: 1,
                after: Some(prefix("10.244.0.0/26")),
                ..all.clone()
            },
            vec!["10.244.0.7/32"],
        ),
        (
            RouteQuery {
                best: true,
                prefix: Some((Relation::Longer, prefix("10.244.0.0/24"))),
                ..all.clone()
            },
            // Nothing leads to the next hop of 10.244.0.7, so it has no best path.
            vec!["10.244.0.0/26"],
        ),
    ] {
        let found: Vec<_> = rib
            .routes(&query)
            .iter()
            .map(|view| view.prefix.to_string())
            .collect();
        assert_eq!(found, want, "{query:?}");
        // Counting knows no limit and looks at the same paths.
        let whole = RouteQuery {
            limit: 1000,
            ..query.clone()
        };
        let mut prefixes: Vec<_> = rib.routes(&whole).iter().map(|view| view.prefix).collect();
        let paths = prefixes.len();
        prefixes.dedup();
        let count = rib.count(&query);
        assert_eq!(
            (count.prefixes, count.paths),
            (prefixes.len(), paths),
            "{query:?}"
        );
    }
}

#[test]
fn the_node_that_runs_the_pods_is_the_way_to_them() {
    let mut rib = rib();
    // Three nodes of another AS, each with every block and itself as next hop.
    let ids: Vec<_> = (1..=3)
        .map(|last| rib.peer_up(peer(last, 64513, Role::Cluster)).0)
        .collect();
    let attributes = || Attributes {
        as_path: AsPath {
            segments: vec![Segment::Sequence(vec![64513])],
        },
        ..Attributes::default()
    };
    for (last, id) in (1..=3).zip(&ids) {
        let update = announce_with(
            &["10.244.0.0/26", "10.244.1.0/26"],
            &format!("10.0.0.{last}"),
            attributes(),
        );
        rib.update(*id, &update);
    }
    assert_eq!(
        via(&rib, "10.244.0.1"),
        "10.244.0.0/26 via [10.0.0.1, 10.0.0.2, 10.0.0.3]"
    );
    let runs = |pods: &[(&str, &str)]| -> Owners {
        let pod = |(pod, node): &(&str, &str)| (ip(pod), Arc::from([ip(node), ip("2001:db8::99")]));
        pods.iter().map(pod).collect()
    };
    let delta = rib.set_owners(runs(&[("10.244.0.1", "10.0.0.3"), ("10.244.0.2", "10.0.0.3")]));
    assert_eq!(
        fib(&rib, &delta),
        ["10.244.0.0/26 10.0.0.3@2"],
        "the other block has no pod"
    );
    assert_eq!(via(&rib, "10.244.0.1"), "10.244.0.0/26 via [10.0.0.3]");
    let views = rib.routes(&RouteQuery {
        prefix: Some((Relation::Exact, prefix("10.244.0.0/26"))),
        ..RouteQuery::default()
    });
    assert_eq!(views[1].lost, Some(Lost::Owner));
    assert_eq!(
        views[1].reason.as_deref(),
        Some("its next hop is not the node that runs the pods")
    );
    // The node is gone: at first the way leads to a backup, then the table has decided.
    let (first, mut rest) = rib.begin_peer_down(ids[2], &[]);
    // One way is that of the block that shares, the other leads to the dead node alone.
    let [_, (_, Some(gateways))] = &first.ways[..] else {
        panic!("{first:?}")
    };
    assert_eq!((gateways.len(), gateways[0].via), (1, ip("10.0.0.1")));
    assert!(first.fib.is_empty(), "no prefix was looked at");
    let delta = rib.go_on(&mut rest).unwrap();
    assert_eq!(rib.go_on(&mut rest), None, "few prefixes are one piece");
    assert_eq!(
        fib(&rib, &delta),
        [
            "10.244.0.0/26 10.0.0.1@2 10.0.0.2@2",
            "10.244.1.0/26 10.0.0.1@2 10.0.0.2@2"
        ]
    );
    // An address that nobody announces as next hop, and a pod that has moved.
    let delta = rib.set_owners(runs(&[("10.244.0.1", "10.0.0.77")]));
    assert!(fib(&rib, &delta).is_empty());
    let delta = rib.set_owners(runs(&[("10.244.0.1", "10.0.0.2")]));
    assert_eq!(fib(&rib, &delta), ["10.244.0.0/26 10.0.0.2@2"]);
    let delta = rib.set_owners(Owners::new());
    assert_eq!(fib(&rib, &delta), ["10.244.0.0/26 10.0.0.1@2 10.0.0.2@2"]);
}

#[test]
fn who_shares_follows_the_settings() {
    let mut rib = rib();
    let with = |first: u32, bandwidth: f32| {
        let [a, b, c, d] = bandwidth.to_be_bytes();
        Attributes {
            as_path: AsPath {
                segments: vec![Segment::Sequence(vec![64513, first])],
            },
            extended_communities: vec![[0x40, 0x04, 0xfc, 0x01, a, b, c, d]],
            ..Attributes::default()
        }
    };
    for (last, first, bandwidth) in [(1, 1, 1e9), (2, 1, 4e9), (3, 2, 4e9)] {
        let (id, _) = rib.peer_up(peer(last, 64513, Role::Cluster));
        rib.update(
            id,
            &announce_with(
                &["10.96.0.0/12"],
                &format!("10.0.0.{last}"),
                with(first, bandwidth),
            ),
        );
    }
    let shares = |rib: &Rib| -> Vec<(String, u16)> {
        let destination = rib.table.get(&prefix("10.96.0.0/12")).unwrap();
        let gateways = rib.ways.gateways(destination.forwarding.unwrap()).unwrap();
        gateways
            .iter()
            .map(|one| (one.via.to_string(), one.weight))
            .collect()
    };
    let want = |list: &[(&str, u16)]| -> Vec<(String, u16)> {
        list.iter()
            .map(|(via, weight)| ((*via).to_owned(), *weight))
            .collect()
    };
    assert_eq!(
        shares(&rib),
        want(&[("10.0.0.1", 1), ("10.0.0.2", 1), ("10.0.0.3", 1)])
    );
    let mut set = local();
    set.multipath.link_bandwidth = true;
    rib.configure(set);
    assert_eq!(
        shares(&rib),
        want(&[("10.0.0.1", 64), ("10.0.0.2", 256), ("10.0.0.3", 256)])
    );
    set.multipath.rule = MultipathRule::Exact;
    rib.configure(set);
    assert_eq!(shares(&rib), want(&[("10.0.0.1", 64), ("10.0.0.2", 256)]));
    set.multipath.most = std::num::NonZeroU8::MIN;
    rib.configure(set);
    assert_eq!(shares(&rib), want(&[("10.0.0.1", 1)]));
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
