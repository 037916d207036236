//! What we write we read again, octet by octet.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;

fn announce(
    prefixes: &[Nlri],
    next_hop: NextHop,
    attributes: &Attributes,
    negotiated: &Negotiated,
) -> Vec<Bytes> {
    let what = UpdateOut::Announce {
        prefixes,
        next_hop,
        attributes,
    };
    encode_update(what, negotiated).unwrap()
}

fn update(octets: &[u8], negotiated: &Negotiated) -> Update {
    match read(octets, negotiated) {
        Ok(Message::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

#[test]
fn announcements_are_exact() {
    let attributes = Attributes {
        as_path: AsPath {
            segments: vec![Segment::Sequence(vec![64512, 70000])],
        },
        med: Some(5),
        ..Attributes::default()
    };
    let v4 = [nlri("203.0.113.7/32"), nlri("10.0.0.0/8"), nlri("0.0.0.0/0")];
    let v6 = [nlri("2001:db8::7/128"), nlri("2001:db8:1::/48")];
    let both = NextHop {
        address: via("2001:db8::1").address,
        link_local: Some(link_local(1)),
    };
    let path = "4002 0a 0202 0000fc00 00011170";
    let old = Negotiated {
        four_octet_as: false,
        ..external()
    };
    let id = |id, text| Nlri {
        path_id: Some(id),
        prefix: prefix(text),
    };
    let add_path = Negotiated {
        add_path_send: Families::ALL,
        ..external()
    };
    let extended = Negotiated {
        extended_next_hop_send: true,
        extended_next_hop_receive: true,
        ..external()
    };
    for (name, prefixes, next_hop, negotiated, want) in [
        (
            "IPv4 with an IPv6 next hop",
            &v4[..2],
            both,
            extended,
            format!(
                "0000 0047 800e2c 0001 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00
                 20cb007107 080a 400101 00 {path} 800404 00000005"
            ),
        ),
        (
            "IPv4 with its own next hop beside that",
            &v4[1..2],
            via("192.0.2.1"),
            extended,
            format!("0000 001f 400101 00 {path} 400304 c0000201 800404 00000005 080a"),
        ),
        (
            "IPv4 to eBGP",
            &v4[..],
            via("192.0.2.1"),
            external(),
            format!("0000 001f 400101 00 {path} 400304 c0000201 800404 00000005 20cb007107 080a 00"),
        ),
        (
            "IPv4 to iBGP: LOCAL_PREF 100",
            &v4[..1],
            via("192.0.2.1"),
            internal(),
            format!("0000 0026 400101 00 {path} 400304 c0000201 800404 00000005 400504 00000064 20cb007107"),
        ),
        (
            "IPv4 to a peer with 2-octet AS numbers",
            &v4[..1],
            via("192.0.2.1"),
            old,
            "0000 0028 400101 00 4002 06 0202 fc00 5ba0 400304 c0000201 800404 00000005
             c0110a 0202 0000fc00 00011170 20cb007107"
                .to_owned(),
        ),
        (
            "IPv6: MP_REACH_NLRI first",
            &v6[..],
            via("2001:db8::1"),
            external(),
            format!(
                "0000 0048 800e2d 0002 01 10 20010db8000000000000000000000001 00
                 80 20010db8000000000000000000000007 30 20010db80001 400101 00 {path} 800404 00000005"
            ),
        ),
        (
            "IPv6 with link-local next hop",
            &v6[1..],
            both,
            external(),
            format!(
                "0000 0047 800e2c 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00
                 30 20010db80001 400101 00 {path} 800404 00000005"
            ),
        ),
        (
            "ADD-PATH",
            &[id(9, "10.1.0.0/16"), nlri("10.2.0.0/16")][..],
            via("192.0.2.1"),
            add_path,
            format!(
                "0000 001f 400101 00 {path} 400304 c0000201 800404 00000005 00000009 100a01 00000000 100a02"
            ),
        ),
    ] {
        let messages = announce(prefixes, next_hop, &attributes, &negotiated);
        assert_eq!(messages.len(), 1, "{name}");
        assert_eq!(messages[0], message(2, &hex(&want)), "{name}");
        let mut reader = negotiated;
        reader.add_path_receive = negotiated.add_path_send;
        let update = update(&messages[0], &reader);
        assert!(update.faults.is_empty(), "{name}: {:?}", update.faults);
        let got: Vec<Prefix> = update.announced.iter().map(|(nlri, _)| nlri.prefix).collect();
        let want: Vec<Prefix> = prefixes.iter().map(|nlri| nlri.prefix).collect();
        assert_eq!(got, want, "{name}");
        assert!(update.announced.iter().all(|(_, hop)| *hop == next_hop), "{name}");
        let got = update.attributes.unwrap();
        assert_eq!(got.as_path, attributes.as_path, "{name}");
        assert_eq!(got.med, attributes.med, "{name}");
    }
}

#[test]
fn withdrawals_and_markers_are_exact() {
    let mixed = [nlri("10.1.2.0/24"), nlri("2001:db8::/32"), nlri("10.2.0.0/15")];
    let messages = encode_update(UpdateOut::Withdraw(&mixed), &external()).unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0], message(2, &hex("0007 18 0a0102 0f 0a02 0000")));
    assert_eq!(
        messages[1],
        message(2, &hex("0000 000b 800f08 0002 01 20 20010db8"))
    );
    assert_eq!(update(&messages[0], &external()).withdrawn, [mixed[0], mixed[2]]);
    assert_eq!(update(&messages[1], &external()).withdrawn, [mixed[1]]);
    for (family, want) in [
        (Family::Ipv4Unicast, "0000 0000"),
        (Family::Ipv6Unicast, "0000 0006 800f03 0002 01"),
    ] {
        let messages = encode_update(UpdateOut::EndOfRib(family), &external()).unwrap();
        assert_eq!(messages, [message(2, &hex(want))], "{family}");
        assert_eq!(update(&messages[0], &external()).end_of_rib, Some(family));
    }
}

#[test]
fn many_prefixes_become_few_full_messages() {
    let v4: Vec<Nlri> = (0..5000u32)
        .map(|n| Nlri {
            path_id: None,
            prefix: Prefix::host(Ipv4Addr::from_bits(0x0a00_0000 + n).into()),
        })
        .collect();
    let v6: Vec<Nlri> = (0..2000u128)
        .map(|n| Nlri {
            path_id: None,
            prefix: Prefix::host(Ipv6Addr::from_bits((0x2001_0db8 << 96) + n).into()),
        })
        .collect();
    let attributes = Attributes::default();
    let big = Negotiated {
        extended_message_receive: true,
        extended_message_send: true,
        ..internal()
    };
    for (prefixes, next_hop, negotiated, count) in [
        (&v4, via("192.0.2.1"), internal(), 7),
        (&v4, via("192.0.2.1"), big, 1),
        (&v6, via("2001:db8::1"), internal(), 9),
        (&v6, via("2001:db8::1"), big, 1),
    ] {
        let most = negotiated.max_send_length();
        for announcing in [true, false] {
            let messages = if announcing {
                announce(prefixes, next_hop, &attributes, &negotiated)
            } else {
                encode_update(UpdateOut::Withdraw(prefixes), &negotiated).unwrap()
            };
            assert_eq!(messages.len(), count, "{next_hop:?} {most} {announcing}");
            let mut got = Vec::new();
            for (at, octets) in messages.iter().enumerate() {
                assert!(octets.len() <= most);
                assert!(
                    at + 1 == count || octets.len() > most - 17,
                    "message {at} is not full"
                );
                let update = update(octets, &negotiated);
                assert!(update.faults.is_empty(), "{:?}", update.faults);
                got.extend(update.announced.into_iter().map(|(nlri, _)| nlri));
                got.extend(update.withdrawn);
            }
            assert_eq!(&got, prefixes);
        }
    }
}

#[test]
fn what_cannot_be_said_is_refused() {
    let attributes = Attributes::default();
    let huge = Attributes {
        communities: (0..1100).collect(),
        ..Attributes::default()
    };
    let v4 = [nlri("10.0.0.0/8")];
    let ipv6_only = Negotiated {
        families: Families::NONE.with(Family::Ipv6Unicast),
        ..external()
    };
    let try_announce = |next_hop, attributes, negotiated: &Negotiated| {
        let what = UpdateOut::Announce {
            prefixes: &v4,
            next_hop,
            attributes,
        };
        encode_update(what, negotiated)
    };
    assert_eq!(
        try_announce(via("192.0.2.1"), &attributes, &ipv6_only),
        Err(EncodeError::Family(Family::Ipv4Unicast))
    );
    assert_eq!(
        try_announce(via("2001:db8::1"), &attributes, &external()),
        Err(EncodeError::NextHop {
            prefix: v4[0].prefix,
            next_hop: via("2001:db8::1").address
        })
    );
    assert!(matches!(
        try_announce(via("192.0.2.1"), &huge, &external()),
        Err(EncodeError::TooLarge {
            length: 4418,
            most: 4096
        })
    ));
    assert!(encode_update(UpdateOut::EndOfRib(Family::Ipv4Unicast), &ipv6_only).is_err());
    assert!(encode_update(UpdateOut::Withdraw(&v4), &ipv6_only).is_err());
}

#[test]
fn every_attribute_survives() {
    let attributes = Attributes {
        origin: Origin::Incomplete,
        as_path: AsPath {
            segments: vec![
                Segment::Sequence(vec![4_200_000_000, 65536, 1]),
                Segment::Set(vec![3, 2]),
            ],
        },
        med: Some(u32::MAX),
        local_preference: Some(2_147_482_623),
        atomic_aggregate: true,
        aggregator: Some(Aggregator {
            asn: 131_072,
            router_id: Ipv4Addr::new(192, 0, 2, 9),
        }),
        communities: vec![0xffff_0000, 0xffff_ff01],
        originator_id: Some(Ipv4Addr::new(10, 0, 0, 9)),
        cluster_list: vec![Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(1, 1, 1, 0)],
        extended_communities: vec![
            [0, 2, 0xfc, 0, 0, 0, 0, 1],
            [0x40, 4, 0xfc, 0, 0x49, 0x74, 0x24, 0],
        ],
        large_communities: vec![LargeCommunity(64512, 1, 2), LargeCommunity(64512, 1, 3)],
        unknown: vec![RawAttribute {
            flags: 0xe0,
            code: 200,
            value: vec![7; 300].into(),
        }],
    };
    let prefixes = [nlri("10.0.0.0/26")];
    for wide in [true, false] {
        let negotiated = Negotiated {
            four_octet_as: wide,
            ..internal()
        };
        let messages = announce(&prefixes, via("10.0.0.1"), &attributes, &negotiated);
        let got = update(&messages[0], &negotiated);
        assert_eq!(got.faults, [""; 0], "wide: {wide}");
        assert_eq!(got.attributes, Some(Arc::new(attributes.clone())), "wide: {wide}");
    }
    let external = announce(&prefixes, via("10.0.0.1"), &attributes, &external());
    let got = update(&external[0], &super::external());
    assert_eq!(
        got.faults, [""; 0],
        "nothing for internal peers only may be sent to external ones"
    );
}
