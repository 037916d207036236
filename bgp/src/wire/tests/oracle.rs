//! A second opinion: what we write, another codec (rustbgpd-wire) reads without complaint and with the same meaning,
//! and what it writes we read.

use std::net::IpAddr;

use proptest::prelude::*;
use rustbgpd_wire as oracle;

use super::properties::{Announcement, announcement, open_message};
use super::*;

fn prefix_of(prefix: oracle::Prefix) -> Prefix {
    match prefix {
        oracle::Prefix::V4(one) => Prefix::new(IpAddr::V4(one.addr), one.len),
        oracle::Prefix::V6(one) => Prefix::new(IpAddr::V6(one.addr), one.len),
    }
    .unwrap()
}

fn segment_of(segment: oracle::AsPathSegment) -> Segment {
    match segment {
        oracle::AsPathSegment::AsSet(numbers) => Segment::Set(numbers),
        oracle::AsPathSegment::AsSequence(numbers) => Segment::Sequence(numbers),
    }
}

/// What the oracle makes of one of our UPDATEs, in our terms.
fn opinion(octets: &Bytes, negotiated: &Negotiated) -> Update {
    let most = u16::try_from(negotiated.max_send_length()).unwrap();
    let message = oracle::decode_message(&mut octets.clone(), most).unwrap();
    let oracle::Message::Update(message) = message else {
        panic!("{message:?}")
    };
    let path_ids = |family| negotiated.add_path_send.contains(family);
    let families: Vec<_> = [
        (Family::Ipv4Unicast, oracle::Afi::Ipv4),
        (Family::Ipv6Unicast, oracle::Afi::Ipv6),
    ]
    .into_iter()
    .filter(|(family, _)| path_ids(*family))
    .map(|(_, afi)| (afi, oracle::Safi::Unicast))
    .collect();
    let parsed = message
        .parse_revised(
            negotiated.four_octet_as,
            negotiated.internal,
            path_ids(Family::Ipv4Unicast),
            &families,
        )
        .unwrap();
    assert!(parsed.malformed.is_empty(), "{:?}", parsed.malformed);
    let parsed = parsed.update;
    let nlri = |family, id, prefix| Nlri {
        path_id: path_ids(family).then_some(id),
        prefix,
    };
    let v4 = |one: &oracle::Ipv4NlriEntry| {
        nlri(
            Family::Ipv4Unicast,
            one.path_id,
            prefix_of(oracle::Prefix::V4(one.prefix)),
        )
    };
    // MP_REACH_NLRI carries IPv4 as well (RFC 8950).
    let multiprotocol = |one: &oracle::NlriEntry| {
        let prefix = prefix_of(one.prefix);
        nlri(Family::of(&prefix), one.path_id, prefix)
    };
    let mut update = Update {
        withdrawn: parsed.withdrawn.iter().map(v4).collect(),
        ..Update::default()
    };
    let mut attributes = Attributes::default();
    let mut plain_hop = None;
    for attribute in parsed.attributes {
        match attribute {
            oracle::PathAttribute::Origin(origin) => {
                attributes.origin = match origin {
                    oracle::Origin::Igp => Origin::Igp,
                    oracle::Origin::Egp => Origin::Egp,
                    oracle::Origin::Incomplete => Origin::Incomplete,
                }
            }
            oracle::PathAttribute::AsPath(path) => {
                attributes.as_path.segments = path.segments.into_iter().map(segment_of).collect();
            }
            oracle::PathAttribute::NextHop(address) => plain_hop = Some(address),
            oracle::PathAttribute::Med(med) => attributes.med = Some(med),
            oracle::PathAttribute::LocalPref(preference) => attributes.local_preference = Some(preference),
            oracle::PathAttribute::AtomicAggregate => attributes.atomic_aggregate = true,
            oracle::PathAttribute::Aggregator(one) => {
                attributes.aggregator = Some(Aggregator {
                    asn: one.asn,
                    router_id: one.router_id,
                });
            }
            oracle::PathAttribute::Communities(list) => attributes.communities = list,
            oracle::PathAttribute::OriginatorId(address) => attributes.originator_id = Some(address),
            oracle::PathAttribute::ClusterList(list) => attributes.cluster_list = list,
            oracle::PathAttribute::ExtendedCommunities(list) => {
                attributes.extended_communities = list.iter().map(|one| one.as_u64().to_be_bytes()).collect();
            }
            oracle::PathAttribute::LargeCommunities(list) => {
                attributes.large_communities = list
                    .iter()
                    .map(|one| LargeCommunity(one.global_admin, one.local_data1, one.local_data2))
                    .collect();
            }
            oracle::PathAttribute::MpReachNlri(reach) => {
                let next_hop = NextHop {
                    address: reach.next_hop,
                    link_local: reach.link_local_next_hop,
                };
                update
                    .announced
                    .extend(reach.announced.iter().map(|one| (multiprotocol(one), next_hop)));
            }
            oracle::PathAttribute::MpUnreachNlri(unreach) => {
                update
                    .withdrawn
                    .extend(unreach.withdrawn.iter().map(multiprotocol));
            }
            oracle::PathAttribute::Unknown(raw) => attributes.unknown.push(RawAttribute {
                flags: raw.flags & 0xe0,
                code: raw.type_code,
                value: raw.data,
            }),
            other => panic!("{other:?}"),
        }
    }
    if let Some(address) = plain_hop {
        let next_hop = NextHop {
            address: address.into(),
            link_local: None,
        };
        update
            .announced
            .extend(parsed.announced.iter().map(|one| (v4(one), next_hop)));
    }
    update.attributes = (!update.announced.is_empty()).then(|| attributes.into());
    update
}

proptest! {
    #[test]
    fn announcements_mean_the_same(mut one in announcement()) {
        // Type 200 is unknown to both; the others mean something to the oracle.
        one.attributes.unknown.retain(|raw| raw.code == 200);
        // It refuses AS_SET (RFC 9774), which the routers around us still send.
        one.attributes.as_path.segments.retain(|segment| matches!(segment, Segment::Sequence(_)));
        for octets in one.octets() {
            let Ok(Message::Update(ours)) = read(&octets, &one.negotiated) else { panic!() };
            prop_assert_eq!(opinion(&octets, &one.negotiated), ours);
        }
    }

    #[test]
    fn withdrawals_mean_the_same(one in announcement()) {
        let Announcement { prefixes, negotiated, .. } = one;
        for octets in encode_update(UpdateOut::Withdraw(&prefixes), &negotiated).unwrap() {
            let Ok(Message::Update(ours)) = read(&octets, &negotiated) else { panic!() };
            prop_assert_eq!(opinion(&octets, &negotiated), ours);
        }
    }

    #[test]
    fn opens_mean_the_same(ours in open_message()) {
        let octets = encode_open(&ours).unwrap();
        let Ok(oracle::Message::Open(theirs)) = oracle::decode_message(&mut octets.clone(), 4096) else {
            return Err(TestCaseError::fail(format!("refused: {ours:?}")));
        };
        prop_assert_eq!(theirs.my_as, ours.my_as);
        prop_assert_eq!(theirs.hold_time, ours.hold_time);
        prop_assert_eq!(theirs.bgp_identifier, ours.router_id.address());
        prop_assert_eq!(theirs.capabilities.len(), ours.capabilities.len());
        // It drops families that it does not know: compare where it knows all of them.
        for (theirs, ours) in theirs.capabilities.into_iter().zip(ours.capabilities) {
            let same = match (&theirs, &ours) {
                (oracle::Capability::MultiProtocol { afi, safi }, Capability::Multiprotocol(family)) => {
                    (*afi as u16, *safi as u8) == family.numbers()
                }
                (oracle::Capability::FourOctetAs { asn }, Capability::FourOctetAs(number)) => asn == number,
                (oracle::Capability::MultiProtocol { .. } | oracle::Capability::FourOctetAs { .. }, other) => {
                    matches!(other, Capability::MultiprotocolOther(..))
                }
                (_, Capability::Multiprotocol(_) | Capability::FourOctetAs(_)) => false,
                _ => true,
            };
            prop_assert!(same, "{:?} and {:?}", theirs, ours);
        }
    }
}
