//! Read back by a library that is not ours.

use std::io::Cursor;
use std::sync::Arc;

use bgpkit_parser::BgpkitParser;
use bgpkit_parser::models::{MrtMessage, TableDumpV2Message};

use super::*;
use crate::wire::{AsPath, Attributes, LargeCommunity, NextHop, Segment};

fn path(prefix: &str, peer: &str, next_hop: &str, path_id: Option<u32>) -> HeldPath {
    HeldPath {
        prefix: prefix.parse().unwrap(),
        path_id,
        peer: peer.parse().unwrap(),
        internal: peer == "inside",
        stale: false,
        next_hop: NextHop {
            address: next_hop.parse().unwrap(),
            link_local: None,
        },
        attributes: Arc::new(Attributes {
            as_path: AsPath {
                segments: vec![Segment::Sequence(vec![65000, 4_200_000_000])],
            },
            med: Some(7),
            local_preference: Some(200),
            communities: vec![65000 << 16 | 1],
            large_communities: vec![LargeCommunity(65000, 1, 2)],
            ..Attributes::default()
        }),
    }
}

fn dump(paths: &[HeldPath]) -> Vec<u8> {
    let peers = [
        crate::view::tests::peer("inside", "10.0.0.1", 64512),
        crate::view::tests::peer("outside", "2001:db8::1", 4_200_000_001),
    ];
    let collector = RouterId::try_from(std::net::Ipv4Addr::new(192, 0, 2, 10)).unwrap();
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let (mut dump, head) = Dump::begin(now, collector, &peers);
    [&head[..], &dump.page(paths)].concat()
}

#[test]
fn another_reader_finds_what_was_written() {
    let paths = [
        path("10.244.0.0/26", "inside", "10.0.0.1", None),
        path("10.244.0.0/26", "outside", "2001:db8::1", None),
        path("10.244.1.0/26", "inside", "10.0.0.1", Some(9)),
        path("10.244.1.0/26", "inside", "10.0.0.2", Some(10)),
        path("0.0.0.0/0", "inside", "10.0.0.1", None),
        path("2001:db8:1::/48", "outside", "2001:db8::1", None),
        // Of a peer that is no peer any more.
        path("10.244.2.0/26", "gone", "10.0.0.1", None),
    ];
    let elems: Vec<_> = BgpkitParser::from_reader(Cursor::new(dump(&paths)))
        .into_elem_iter()
        .collect();
    assert_eq!(elems.len(), 6, "{elems:?}");
    for (elem, path) in elems.iter().zip(&paths) {
        assert_eq!(elem.prefix.prefix.to_string(), path.prefix.to_string());
        assert_eq!(elem.next_hop, Some(path.next_hop.address), "{elem}");
        assert_eq!(elem.as_path.as_ref().unwrap().to_string(), "65000 4200000000");
        assert_eq!(elem.med, Some(7));
        let communities: Vec<_> = elem
            .communities
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        assert!(
            communities.iter().any(|one| one.ends_with("65000:1")),
            "{communities:?}"
        );
        assert!(
            communities.iter().any(|one| one.ends_with("65000:1:2")),
            "{communities:?}"
        );
        let (address, asn, preference) = if path.internal {
            ("10.0.0.1", 64512, Some(200))
        } else {
            // The reader says 0 where there is none.
            ("2001:db8::1", 4_200_000_001, Some(0))
        };
        assert_eq!(elem.peer_ip.to_string(), address);
        assert_eq!(elem.peer_asn.to_u32(), asn);
        assert_eq!(elem.local_pref, preference, "{elem}");
        assert_eq!(elem.timestamp, 1_700_000_000.0);
    }
}

#[test]
fn path_identifiers_come_back() {
    let paths = [
        path("10.244.0.0/26", "inside", "10.0.0.1", None),
        path("10.244.1.0/26", "inside", "10.0.0.1", Some(9)),
        path("10.244.1.0/26", "inside", "10.0.0.2", Some(10)),
        path("2001:db8:1::/48", "outside", "2001:db8::1", Some(0)),
    ];
    let mut ids = Vec::new();
    for record in BgpkitParser::from_reader(Cursor::new(dump(&paths))).into_record_iter() {
        if let MrtMessage::TableDumpV2Message(TableDumpV2Message::RibAfi(entries)) = record.message {
            ids.extend(entries.rib_entries.iter().map(|entry| entry.path_id));
        }
    }
    assert_eq!(ids, [None, Some(9), Some(10), Some(0)]);
}

#[test]
fn octets_of_the_smallest_dump() {
    let octets = dump(&[]);
    let want = [
        // Time, type 13, subtype 1, length; collector, no view name, two peers.
        &[
            0x65, 0x53, 0xf1, 0x00, 0, 13, 0, 1, 0, 0, 0, 46, 192, 0, 2, 10, 0, 0, 0, 2,
        ][..],
        &[2, 10, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0xfc, 0],
        &[
            3, 10, 0, 0, 1, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfa, 0x56, 0xea, 1,
        ],
    ]
    .concat();
    assert_eq!(octets, want);
}
