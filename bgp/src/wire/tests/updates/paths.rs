//! AS_PATH, AS4_PATH and AGGREGATOR.

use super::*;

#[test]
fn as_paths() {
    let bad = Withdraw;
    for (name, internal_peer, path, want) in [
        ("empty", true, "", Accept),
        ("sequence", true, "0202 0000fc00 00011170", Accept),
        ("set", true, "0102 0000fc00 00011170", Accept),
        (
            "sequence and set",
            true,
            "0201 0000fc00 0102 00000001 00000002",
            Accept,
        ),
        ("255 numbers", true, "02ff", Accept),
        (
            "confederation from an internal peer",
            true,
            "0301 0000fde8 0201 0000fc00 0401 0000fde9",
            Accept,
        ),
        (
            "confederation from an external peer (RFC 5065)",
            false,
            "0301 0000fde8 0201 0000fc00",
            bad("confederation segment"),
        ),
        (
            "confederation set from an external peer",
            false,
            "0401 0000fde8",
            bad("confederation segment"),
        ),
        ("segment type 0", true, "0001 0000fde8", bad("unknown type")),
        ("segment type 5", true, "0501 0000fde8", bad("unknown type")),
        ("segment type 255", true, "ff01 0000fde8", bad("unknown type")),
        (
            "second segment bad",
            true,
            "0201 0000fde8 0901 0000fde8",
            bad("unknown type"),
        ),
        ("empty segment", true, "0200", bad("a segment is empty")),
        (
            "empty segment after a good one",
            true,
            "0201 0000fde8 0100",
            bad("a segment is empty"),
        ),
        (
            "segment longer than the attribute",
            true,
            "0202 0000fde8",
            bad("reaches past"),
        ),
        (
            "segment of 255 numbers with one",
            true,
            "02ff 0000fde8",
            bad("reaches past"),
        ),
        (
            "2-octet numbers from a 4-octet peer",
            true,
            "0202 fde8 fde9",
            bad("reaches past"),
        ),
        ("half a number", true, "0201 0000", bad("reaches past")),
        (
            "one octet left over: the endless loop",
            true,
            "0201 0000fde8 02",
            bad("cut off"),
        ),
        ("one octet in all", true, "02", bad("cut off")),
        ("AS 0 (RFC 7607)", true, "0202 0000fde8 00000000", bad("AS 0")),
        ("AS 0 in a set", true, "0201 0000fde8 0101 00000000", bad("AS 0")),
    ] {
        let mut path = hex(path);
        if path == [2, 255] {
            path.extend([0, 0, 0xfd, 0xe8].repeat(255));
        }
        let [high, low] = u16::try_from(path.len()).unwrap().to_be_bytes();
        let attributes = [hex(ORIGIN), hex(HOP), vec![0x50, 2, high, low], path].concat();
        let field = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        let octets = [vec![0, 0], field.to_vec(), attributes, hex(NLRI)].concat();
        let negotiated = if internal_peer { internal() } else { external() };
        check(name, &negotiated, &octets, want);
    }
}

#[test]
fn paths_of_peers_with_two_octet_numbers() {
    let old = Negotiated {
        four_octet_as: false,
        ..external()
    };
    let sequence = |numbers: &[u32]| Segment::Sequence(numbers.to_vec());
    for (name, attributes, want_path, want_aggregator, fault) in [
        (
            "no AS4_PATH",
            "400206 0202 fde8 5ba0",
            vec![sequence(&[65000, 23456])],
            None,
            "",
        ),
        (
            "same length",
            "400206 0202 5ba0 fde8 c0110a 0202 00011170 0000fde8",
            vec![sequence(&[70000, 65000])],
            None,
            "",
        ),
        (
            "longer AS_PATH leads",
            "400208 0203 0001 5ba0 fde8 c0110a 0202 00011170 0000fde8",
            vec![sequence(&[1, 70000, 65000])],
            None,
            "",
        ),
        (
            "longer AS4_PATH is ignored",
            "400204 0201 5ba0 c0110a 0202 00011170 0000fde8",
            vec![sequence(&[23456])],
            None,
            "",
        ),
        (
            "a set counts one",
            "40020c 0202 0001 5ba0 0102 5ba0 5ba0 c0110c 0201 00011170 0101 00011171",
            vec![sequence(&[1, 70000]), Segment::Set(vec![70001])],
            None,
            "",
        ),
        (
            "malformed AS4_PATH is ignored",
            "400204 0201 5ba0 c01103 020100",
            vec![sequence(&[23456])],
            None,
            "AS4_PATH",
        ),
        (
            "AS4_PATH with AS 0 is ignored",
            "400204 0201 5ba0 c01106 0201 00000000",
            vec![sequence(&[23456])],
            None,
            "AS4_PATH",
        ),
        (
            "empty AS4_PATH",
            "400204 0201 5ba0 c01100",
            vec![sequence(&[23456])],
            None,
            "AS4_PATH: it holds no AS",
        ),
        (
            "confederation segments of AS4_PATH are dropped",
            "400204 0201 5ba0 c0110c 0301 0000fde8 0201 00011170",
            vec![sequence(&[70000])],
            None,
            "",
        ),
        (
            "AS4_AGGREGATOR counts beside AS_TRANS",
            "400204 0201 5ba0 c01106 0201 00011170 c00706 5ba0 0a000001 c01208 00011170 0a000002",
            vec![sequence(&[70000])],
            Some((70000, [10, 0, 0, 2])),
            "",
        ),
        (
            "an old speaker aggregated later: both AS4 attributes are out of date",
            "400204 0201 5ba0 c01106 0201 00011170 c00706 fde8 0a000001 c01208 00011170 0a000002",
            vec![sequence(&[23456])],
            Some((65000, [10, 0, 0, 1])),
            "",
        ),
        (
            "AS4_AGGREGATOR alone",
            "400204 0201 5ba0 c01208 00011170 0a000002",
            vec![sequence(&[23456])],
            None,
            "AS4_AGGREGATOR",
        ),
        (
            "AS4_AGGREGATOR too short",
            "400204 0201 5ba0 c01207 00011170 0a0000",
            vec![sequence(&[23456])],
            None,
            "AS4_AGGREGATOR is 7",
        ),
        (
            "AS4_AGGREGATOR with AS 0",
            "400204 0201 5ba0 c01208 00000000 0a000002",
            vec![sequence(&[23456])],
            None,
            "AS4_AGGREGATOR names AS 0",
        ),
        (
            "AGGREGATOR of 8 octets",
            "400204 0201 fde8 c00708 0000fde8 0a000001",
            vec![sequence(&[65000])],
            None,
            "AGGREGATOR is 8",
        ),
    ] {
        let octets = body("", &format!("{ORIGIN} {HOP} {attributes}"), NLRI);
        let Ok(Message::Update(update)) = read(&message(2, &octets), &old) else {
            panic!("{name}")
        };
        let got = update
            .attributes
            .as_ref()
            .unwrap_or_else(|| panic!("{name}: {update:?}"));
        assert_eq!(got.as_path.segments, want_path, "{name}");
        assert_eq!(
            got.aggregator.map(|one| (one.asn, one.router_id.octets())),
            want_aggregator,
            "{name}"
        );
        assert_eq!(
            update.faults.is_empty(),
            fault.is_empty(),
            "{name}: {:?}",
            update.faults
        );
        assert!(
            update.faults.iter().all(|told| told.contains(fault)),
            "{name}: {:?}",
            update.faults
        );
    }
    let octets = body(
        "",
        &format!("{ORIGIN} {HOP} 400204 0201 fde8 801106 0201 00011170"),
        NLRI,
    );
    check(
        "AS4_PATH with wrong flags",
        &old,
        &octets,
        Withdraw("AS4_PATH has flags"),
    );
    let octets = body("", &format!("{ORIGIN} {HOP} 400206 0201 0000fde8"), NLRI);
    check(
        "4-octet numbers from a 2-octet peer",
        &old,
        &octets,
        Withdraw("AS 0"),
    );
}
