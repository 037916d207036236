//! Any octets are safe, any message is read as it was written, any damage is told.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn families() -> impl Strategy<Value = Families> {
    vec(prop::sample::select(Family::ALL.to_vec()), 0..3).prop_map(Families::from_iter)
}

fn negotiated() -> impl Strategy<Value = Negotiated> {
    (any::<[bool; 5]>(), families(), families()).prop_map(|(flag, used, add_path)| Negotiated {
        internal: flag[0],
        four_octet_as: flag[1],
        families: used,
        add_path_receive: add_path,
        add_path_send: add_path,
        extended_message_receive: flag[2],
        extended_message_send: flag[2],
        extended_next_hop_receive: flag[3],
        extended_next_hop_send: flag[3],
        route_refresh: true,
        enhanced_route_refresh: flag[4],
        only_to_customer: None,
    })
}

fn prefix_of(family: Family) -> BoxedStrategy<Prefix> {
    match family {
        Family::Ipv4Unicast => (1u8..=126, any::<[u8; 3]>(), 8u8..=32)
            .prop_map(|(a, [b, c, d], length)| Prefix::new(Ipv4Addr::new(a, b, c, d).into(), length).unwrap())
            .boxed(),
        Family::Ipv6Unicast => (any::<u128>(), 3u8..=128)
            .prop_map(|(low, length)| {
                let address = Ipv6Addr::from_bits(low >> 3 | 1 << 125);
                Prefix::new(address.into(), length).unwrap()
            })
            .boxed(),
    }
}

fn nlri_of(family: Family, path_ids: bool) -> impl Strategy<Value = Nlri> {
    (any::<u32>(), prefix_of(family)).prop_map(move |(id, prefix)| Nlri {
        path_id: path_ids.then_some(id),
        prefix,
    })
}

fn segment(wide: bool) -> impl Strategy<Value = Segment> {
    let most = if wide { u32::MAX } else { 65535 };
    (any::<bool>(), vec(1..=most, 1..20)).prop_map(|(set, numbers)| {
        if set {
            Segment::Set(numbers)
        } else {
            Segment::Sequence(numbers)
        }
    })
}

/// Attributes that the peer may send and that come back the same: communities sorted, unknown ones marked partial.
fn attributes(negotiated: Negotiated) -> impl Strategy<Value = Attributes> {
    let address = || any::<u32>().prop_map(Ipv4Addr::from_bits);
    let internal = negotiated.internal;
    let aggregator = (1..=u32::MAX, address()).prop_map(|(asn, router_id)| Aggregator { asn, router_id });
    let unknown = (
        prop::sample::select(vec![13u8, 26, 128, 200, 255]),
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(code, value)| RawAttribute {
            flags: 0xe0,
            code,
            value: value.into(),
        });
    let first = (
        prop::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]),
        vec(segment(negotiated.four_octet_as), 0..4),
        option::of(any::<u32>()),
        any::<u32>(),
        any::<bool>(),
        option::of(aggregator),
        btree_set(any::<u32>(), 0..80),
    );
    let second = (
        option::of(address()),
        vec(address(), 0..5),
        btree_set(any::<[u8; 8]>(), 0..40),
        btree_set(any::<(u32, u32, u32)>(), 0..30),
        option::of(unknown),
    );
    (first, second).prop_map(move |(first, second)| {
        let (origin, segments, med, preference, atomic_aggregate, aggregator, communities) = first;
        let (originator, cluster_list, extended_communities, large, unknown) = second;
        Attributes {
            origin,
            as_path: AsPath { segments },
            med,
            local_preference: internal.then_some(preference),
            atomic_aggregate,
            aggregator,
            communities: communities.into_iter().collect(),
            originator_id: originator.filter(|_| internal),
            cluster_list: if internal { cluster_list } else { Vec::new() },
            extended_communities: extended_communities.into_iter().collect(),
            large_communities: large
                .into_iter()
                .map(|(a, b, c)| LargeCommunity(a, b, c))
                .collect(),
            unknown: unknown.into_iter().collect(),
        }
    })
}

#[derive(Clone, Debug)]
pub(super) struct Announcement {
    pub(super) negotiated: Negotiated,
    pub(super) prefixes: Vec<Nlri>,
    next_hop: NextHop,
    pub(super) attributes: Attributes,
}

pub(super) fn announcement() -> impl Strategy<Value = Announcement> {
    (negotiated(), prop::sample::select(Family::ALL.to_vec())).prop_flat_map(|(mut negotiated, family)| {
        negotiated.families = negotiated.families.with(family);
        let next_hop = match family {
            Family::Ipv4Unicast if !negotiated.extended_next_hop_send => via("192.0.2.1"),
            // IPv4 with an IPv6 next hop as well (RFC 8950).
            _ => NextHop {
                link_local: negotiated.internal.then(|| link_local(7)),
                ..via("2001:db8::1")
            },
        };
        let path_ids = negotiated.add_path_send.contains(family);
        (vec(nlri_of(family, path_ids), 1..500), attributes(negotiated)).prop_map(
            move |(prefixes, attributes)| Announcement {
                negotiated,
                prefixes,
                next_hop,
                attributes,
            },
        )
    })
}

impl Announcement {
    pub(super) fn octets(&self) -> Vec<Bytes> {
        let what = UpdateOut::Announce {
            prefixes: &self.prefixes,
            next_hop: self.next_hop,
            attributes: &self.attributes,
        };
        encode_update(what, &self.negotiated).unwrap()
    }
}

fn capability() -> impl Strategy<Value = Capability> {
    let families = || vec((any::<u16>(), any::<u8>()), 0..5);
    prop_oneof![
        prop::sample::select(Family::ALL.to_vec()).prop_map(Capability::Multiprotocol),
        (3u16.., any::<u8>()).prop_map(|(afi, safi)| Capability::MultiprotocolOther(afi, safi)),
        Just(Capability::RouteRefresh),
        vec(any::<(u16, u16, u16)>(), 0..5).prop_map(Capability::ExtendedNextHop),
        Just(Capability::ExtendedMessage),
        any::<u8>().prop_map(Capability::Role),
        (any::<[bool; 2]>(), 0u16..4096, families(), any::<bool>()).prop_map(
            |(flag, time, families, kept)| {
                Capability::GracefulRestart {
                    restarted: flag[0],
                    notification: flag[1],
                    time,
                    families: families
                        .into_iter()
                        .map(|(afi, safi)| (afi, safi, kept))
                        .collect(),
                }
            }
        ),
        (1..=u32::MAX).prop_map(Capability::FourOctetAs),
        vec((any::<u16>(), any::<u8>(), 1u8..=3), 0..5).prop_map(Capability::AddPath),
        Just(Capability::EnhancedRouteRefresh),
        vec((any::<u16>(), any::<u8>(), any::<u8>(), 0u32..1 << 24), 0..5)
            .prop_map(Capability::LongLivedGracefulRestart),
        ("[a-z0-9.ü-]{0,30}", "[a-z.]{0,30}")
            .prop_map(|(host, domain)| Capability::Hostname { host, domain }),
        (74u8.., vec(any::<u8>(), 0..256)).prop_map(|(code, value)| Capability::Other {
            code,
            value: value.into()
        }),
    ]
}

pub(super) fn open_message() -> impl Strategy<Value = Open> {
    (1..=u16::MAX, 3u16.., 1..=u32::MAX, vec(capability(), 0..12)).prop_map(
        |(my_as, hold_time, identifier, capabilities)| Open {
            my_as,
            hold_time,
            router_id: Ipv4Addr::from_bits(identifier).try_into().unwrap(),
            capabilities,
        },
    )
}

/// One change of one octet, or one cut, or octets put in.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<prop::sample::Index>;
    let edit = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, value)| Edit::Set(at, value)),
        (at(), 0u8..8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), 1usize..9).prop_map(|(at, count)| Edit::Cut(at, count)),
        (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, octets)| Edit::Insert(at, octets)),
    ];
    vec(edit, 1..5)
}

fn damage(body: &mut Vec<u8>, edits: &[Edit]) {
    for edit in edits {
        if body.is_empty() {
            return;
        }
        match edit {
            Edit::Set(at, value) => *at.get_mut(body) = *value,
            Edit::Flip(at, bit) => *at.get_mut(body) ^= 1 << bit,
            Edit::Cut(at, count) => {
                let start = at.index(body.len());
                body.drain(start..body.len().min(start + count));
            }
            Edit::Insert(at, octets) => {
                let start = at.index(body.len());
                body.splice(start..start, octets.iter().copied());
            }
        }
    }
}

/// Reads what may be anything and checks what must hold of whatever comes out.
fn read_anything(octets: &[u8], negotiated: &Negotiated) -> Result<(), TestCaseError> {
    let mut buffer = BytesMut::from(octets);
    let outcome = match frame(&mut buffer, negotiated) {
        Ok(Some(frame)) => decode(&frame, negotiated),
        Ok(None) => return Ok(()),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(Message::Update(update)) => {
            prop_assert_eq!(update.attributes.is_some(), !update.announced.is_empty());
            prop_assert!(update.faults.len() <= 9);
            let in_use = |nlri: &Nlri| negotiated.families.contains(Family::of(&nlri.prefix));
            prop_assert!(update.announced.iter().all(|(nlri, _)| in_use(nlri)));
            prop_assert!(update.withdrawn.iter().all(in_use));
            if let Some(attributes) = &update.attributes {
                prop_assert!(attributes.as_path.numbers().all(|number| number != 0));
                prop_assert!(negotiated.internal || attributes.local_preference.is_none());
            }
        }
        Ok(_) => {}
        Err(error) => {
            let notification = error.notification();
            prop_assert!(matches!(notification.code, 1 | 2 | 3 | 7), "{}", error);
            prop_assert!(!notification.to_string().contains("unknown"));
            prop_assert!(encode_notification(&notification).len() <= 4096);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_octets_are_safe(octets: Vec<u8>, kind in 0u8..7, negotiated in negotiated()) {
        read_anything(&octets, &negotiated)?;
        read_anything(&message(kind, &octets), &negotiated)?;
    }

    #[test]
    fn any_attributes_are_safe(
        attributes in vec((any::<u8>(), 0u8..40, vec(any::<u8>(), 0..40)), 0..8),
        nlri in vec(any::<u8>(), 0..20),
        negotiated in negotiated(),
    ) {
        let mut field = Vec::new();
        for (flags, code, value) in attributes {
            field.extend([flags & !0x10, code, u8::try_from(value.len()).unwrap()]);
            field.extend(value);
        }
        let length = u16::try_from(field.len()).unwrap().to_be_bytes();
        read_anything(&message(2, &[&[0, 0], &length[..], &field, &nlri].concat()), &negotiated)?;
    }

    #[test]
    fn any_damage_is_safe(one in announcement(), edits in edits()) {
        for octets in one.octets() {
            let mut body = octets[19..].to_vec();
            damage(&mut body, &edits);
            body.truncate(65_000);
            read_anything(&message(2, &body), &one.negotiated)?;
        }
    }

    #[test]
    fn announcements_come_back(one in announcement()) {
        let mut got = Vec::new();
        for octets in one.octets() {
            prop_assert!(octets.len() <= one.negotiated.max_send_length());
            let Ok(Message::Update(update)) = read(&octets, &one.negotiated) else {
                panic!("not read: {octets:?}");
            };
            prop_assert_eq!(&update.faults, &Vec::<String>::new());
            prop_assert_eq!(update.attributes, Some(Arc::new(one.attributes.clone())));
            prop_assert!(update.announced.iter().all(|(_, next_hop)| *next_hop == one.next_hop));
            got.extend(update.announced.into_iter().map(|(nlri, _)| nlri));
        }
        prop_assert_eq!(got, one.prefixes);
    }

    #[test]
    fn withdrawals_come_back(one in announcement()) {
        let mut got = Vec::new();
        for octets in encode_update(UpdateOut::Withdraw(&one.prefixes), &one.negotiated).unwrap() {
            prop_assert!(octets.len() <= one.negotiated.max_send_length());
            let Ok(Message::Update(update)) = read(&octets, &one.negotiated) else {
                panic!("not read: {octets:?}");
            };
            prop_assert_eq!(&update.faults, &Vec::<String>::new());
            got.extend(update.withdrawn);
        }
        prop_assert_eq!(got, one.prefixes);
    }

    #[test]
    fn opens_come_back(open in open_message(), edits in edits()) {
        let octets = encode_open(&open).unwrap();
        prop_assert_eq!(read(&octets, &Negotiated::default()), Ok(Message::Open(open)));
        let mut body = octets[19..].to_vec();
        damage(&mut body, &edits);
        read_anything(&message(1, &body), &Negotiated::default())?;
    }

    #[test]
    fn notifications_come_back(code: u8, subcode: u8, data in vec(any::<u8>(), 0..300), text: String) {
        let notification = Notification { code, subcode, data: data.into() };
        let octets = encode_notification(&notification);
        prop_assert_eq!(read(&octets, &internal()), Ok(Message::Notification(notification.clone())));
        prop_assert!(!notification.to_string().contains(|c: char| c.is_control()));
        let shutdown = Notification::shutdown(&text);
        prop_assert!(shutdown.data.len() <= 256);
        prop_assert!(!shutdown.to_string().contains(|c: char| c.is_control()));
    }
}
