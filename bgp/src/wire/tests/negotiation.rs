//! Two OPENs and what is agreed on by them.

use super::opens::open;
use super::*;

#[test]
fn negotiation() {
    let v4 = Capability::Multiprotocol(Family::Ipv4Unicast);
    let v6 = Capability::Multiprotocol(Family::Ipv6Unicast);
    let none = Negotiated {
        internal: true,
        ..Negotiated::default()
    };
    let only_v4 = Families::NONE.with(Family::Ipv4Unicast);
    let only_v6 = Families::NONE.with(Family::Ipv6Unicast);
    let add_path = |entries: &[(u16, u8, u8)]| Capability::AddPath(entries.to_vec());
    for (name, ours, theirs, want) in [
        (
            "a peer that lists no family means IPv4",
            vec![v4.clone(), v6.clone()],
            vec![],
            Negotiated {
                families: only_v4,
                ..none
            },
        ),
        (
            "a peer that lists IPv6 does not mean IPv4",
            vec![v4.clone(), v6.clone()],
            vec![v6.clone()],
            Negotiated {
                families: only_v6,
                ..none
            },
        ),
        ("nothing in common", vec![v4.clone()], vec![v6.clone()], none),
        (
            "only foreign families",
            vec![v4.clone()],
            vec![Capability::MultiprotocolOther(25, 70)],
            none,
        ),
        (
            "4-octet AS needs both",
            vec![Capability::FourOctetAs(64512)],
            vec![],
            Negotiated {
                families: only_v4,
                ..none
            },
        ),
        (
            "ADD-PATH: we receive what they send",
            vec![v4.clone(), v6.clone(), add_path(&[(1, 1, 1), (2, 1, 3)])],
            vec![v4.clone(), v6.clone(), add_path(&[(1, 1, 3), (2, 1, 1)])],
            Negotiated {
                families: Families::ALL,
                add_path_receive: only_v4,
                add_path_send: only_v6,
                ..none
            },
        ),
        (
            "ADD-PATH for a family that is not in use",
            vec![v4.clone(), add_path(&[(2, 1, 3)])],
            vec![v4.clone(), add_path(&[(2, 1, 3), (25, 70, 3)])],
            Negotiated {
                families: only_v4,
                ..none
            },
        ),
        (
            "extended messages need both",
            vec![],
            vec![Capability::ExtendedMessage],
            Negotiated {
                families: only_v4,
                ..none
            },
        ),
        (
            "extended messages",
            vec![Capability::ExtendedMessage],
            vec![Capability::ExtendedMessage],
            Negotiated {
                families: only_v4,
                extended_message_receive: true,
                extended_message_send: true,
                ..none
            },
        ),
        (
            "IPv6 next hops for IPv4 need both",
            vec![Capability::ExtendedNextHop(vec![(1, 1, 2)])],
            vec![Capability::ExtendedNextHop(vec![(1, 2, 2)])],
            Negotiated {
                families: only_v4,
                ..none
            },
        ),
        (
            "IPv6 next hops for IPv4",
            vec![Capability::ExtendedNextHop(vec![(1, 1, 2)])],
            vec![Capability::ExtendedNextHop(vec![(1, 2, 2), (1, 1, 2)])],
            Negotiated {
                families: only_v4,
                extended_next_hop_receive: true,
                extended_next_hop_send: true,
                ..none
            },
        ),
        (
            "route refresh is the peer's to take, its extension needs both",
            vec![Capability::EnhancedRouteRefresh],
            vec![Capability::RouteRefresh],
            Negotiated {
                families: only_v4,
                route_refresh: true,
                ..none
            },
        ),
    ] {
        assert_eq!(Negotiated::between(&open(ours), &open(theirs)), want, "{name}");
    }
    let mut foreign = open(vec![]);
    foreign.my_as = 64513;
    assert!(!Negotiated::between(&open(vec![]), &foreign).internal);
    assert_eq!(only_v6.iter().collect::<Families>(), only_v6);
    assert!(Families::NONE.is_empty());
}
