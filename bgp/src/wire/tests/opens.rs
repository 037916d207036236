//! OPEN: octets and what becomes of them.

use std::net::Ipv4Addr;

use sekisho_config::model::RouterId;

use super::*;

/// Version 4, AS 64512, hold time 90, identifier 10.0.0.1.
const FIXED: &str = "04 fc00 005a 0a000001";

pub(super) fn open(capabilities: Vec<Capability>) -> Open {
    Open {
        my_as: 64512,
        hold_time: 90,
        router_id: RouterId::try_from(Ipv4Addr::new(10, 0, 0, 1)).unwrap(),
        capabilities,
    }
}

fn other(code: u8, value: &str) -> Capability {
    Capability::Other {
        code,
        value: hex(value).into(),
    }
}

#[test]
fn capabilities_are_read_and_written() {
    let restart = |restarted, notification, time, families| Capability::GracefulRestart {
        restarted,
        notification,
        time,
        families,
    };
    let hostname = |host: &str, domain: &str| Capability::Hostname {
        host: host.to_owned(),
        domain: domain.to_owned(),
    };
    let v4 = Capability::Multiprotocol(Family::Ipv4Unicast);
    let v6 = Capability::Multiprotocol(Family::Ipv6Unicast);
    for (octets, want) in [
        ("0104 00010001", v4.clone()),
        ("0104 00020001", v6.clone()),
        ("0104 00190046", Capability::MultiprotocolOther(25, 70)),
        ("0104 00020002", Capability::MultiprotocolOther(2, 2)),
        ("0200", Capability::RouteRefresh),
        ("0506 000100010002", Capability::ExtendedNextHop(vec![(1, 1, 2)])),
        (
            "050c 000100010002 000100800002",
            Capability::ExtendedNextHop(vec![(1, 1, 2), (1, 128, 2)]),
        ),
        ("0500", Capability::ExtendedNextHop(vec![])),
        ("0600", Capability::ExtendedMessage),
        ("0901 04", Capability::Role(4)),
        ("4002 8078", restart(true, false, 120, vec![])),
        ("4002 4fff", restart(false, true, 4095, vec![])),
        (
            "400a 0078 00010180 00020100",
            restart(false, false, 120, vec![(1, 1, true), (2, 1, false)]),
        ),
        ("4104 0000fc00", Capability::FourOctetAs(64512)),
        ("4504 00010103", Capability::AddPath(vec![(1, 1, 3)])),
        (
            "4508 00010101 00020102",
            Capability::AddPath(vec![(1, 1, 1), (2, 1, 2)]),
        ),
        ("4504 00010100", other(69, "00010100")),
        ("4508 00010103 00020104", other(69, "00010103 00020104")),
        ("4600", Capability::EnhancedRouteRefresh),
        (
            "4707 00010180 000e10",
            Capability::LongLivedGracefulRestart(vec![(1, 1, 0x80, 3600)]),
        ),
        ("4906 046e6f6465 00", hostname("node", "")),
        ("4908 046e6f6465 026878", hostname("node", "hx")),
        ("4902 0000", hostname("", "")),
        ("4903 0000 00", other(73, "0000 00")),
        ("4904 02ff 4100", other(73, "02ff 4100")),
        ("4a00", other(74, "")),
        ("8003 010203", other(128, "010203")),
        ("0000", other(0, "")),
        ("ff01 ff", other(255, "ff")),
    ] {
        let capability = hex(octets);
        let body = [
            hex(FIXED),
            vec![u8::try_from(capability.len() + 2).unwrap(), 2],
            vec![u8::try_from(capability.len()).unwrap()],
            capability,
        ]
        .concat();
        let octets_of_open = message(1, &body);
        let want = open(vec![want]);
        assert_eq!(
            read(&octets_of_open, &Negotiated::default()),
            Ok(Message::Open(want.clone())),
            "{octets}"
        );
        assert_eq!(
            encode_open(&want).unwrap(),
            octets_of_open,
            "{octets}: written as read"
        );
    }
}

/// RFC 4271 section 6.2: an optional parameter that is recognized and malformed is 2/0.
#[test]
fn capabilities_of_a_wrong_length_are_refused() {
    for octets in [
        "0103 000100",
        "0105 0001000100",
        "0100",
        "0201 00",
        "0505 0001000100",
        "0601 01",
        "0900",
        "0902 0401",
        "4000",
        "4001 80",
        "4005 8078 000101",
        "4102 fc00",
        "4105 0000fc0000",
        "4503 000101",
        "4601 00",
        "4706 00010180 000e",
        "4901 00",
        "4902 0500",
    ] {
        let capability = hex(octets);
        let length = u8::try_from(capability.len()).unwrap();
        let body = [hex(FIXED), vec![length + 2, 2, length], capability].concat();
        let error = read(&message(1, &body), &Negotiated::default()).expect_err(octets);
        let got = error.notification();
        assert_eq!((got.code, got.subcode), (2, 0), "{octets}: {error}");
    }
}

#[test]
fn optional_parameters_fold_together() {
    let (v4, refresh) = (
        Capability::Multiprotocol(Family::Ipv4Unicast),
        Capability::RouteRefresh,
    );
    let both = vec![v4, refresh];
    for (name, parameters, want) in [
        ("no parameters", "00", vec![]),
        ("one empty parameter", "02 0200", vec![]),
        (
            "one parameter with both",
            "0a 0208 010400010001 0200",
            both.clone(),
        ),
        (
            "one parameter each",
            "0c 0206 010400010001 0202 0200",
            both.clone(),
        ),
        ("RFC 9072", "ff ff 000b 02 0008 010400010001 0200", both.clone()),
        (
            "RFC 9072, one each",
            "ff ff 000e 02 0006 010400010001 02 0002 0200",
            both.clone(),
        ),
        (
            "RFC 9072, the one-octet length says something else",
            "01 ff 000b 02 0008 010400010001 0200",
            both,
        ),
        ("RFC 9072, no parameters", "ff ff 0000", vec![]),
    ] {
        let octets = message(1, &hex(&format!("{FIXED} {parameters}")));
        assert_eq!(
            read(&octets, &Negotiated::default()),
            Ok(Message::Open(open(want))),
            "{name}"
        );
    }
}

#[test]
fn bad_opens_are_refused() {
    for (name, body, subcode, data) in [
        ("version 3", "03 fc00 005a 0a000001 00", 1, "0004"),
        ("version 5", "05 fc00 005a 0a000001 00", 1, "0004"),
        ("version 0 and garbage", "00 0000 0001 00000000 ff", 1, "0004"),
        ("AS 0", "04 0000 005a 0a000001 00", 2, ""),
        (
            "4-octet AS 0",
            "04 fc00 005a 0a000001 08 0206 410400000000",
            2,
            "",
        ),
        ("AS_TRANS and no capability", "04 5ba0 005a 0a000001 00", 2, ""),
        (
            "AS_TRANS in the capability",
            "04 5ba0 005a 0a000001 08 0206 410400005ba0",
            2,
            "",
        ),
        ("identifier 0", "04 fc00 005a 00000000 00", 3, ""),
        ("hold time 1", "04 fc00 0001 0a000001 00", 6, ""),
        ("hold time 2", "04 fc00 0002 0a000001 00", 6, ""),
        (
            "parameter 1 (authentication)",
            "04 fc00 005a 0a000001 03 0101 00",
            4,
            "",
        ),
        ("parameter 3", "04 fc00 005a 0a000001 02 0300", 4, ""),
        (
            "parameter 255 inside RFC 9072",
            "04 fc00 005a 0a000001 ff ff 0003 ff 0000",
            4,
            "",
        ),
        (
            "octets after parameter length 0",
            "04 fc00 005a 0a000001 00 00",
            0,
            "",
        ),
        (
            "fewer parameters than told",
            "04 fc00 005a 0a000001 05 0202 0200",
            0,
            "",
        ),
        (
            "more parameters than told",
            "04 fc00 005a 0a000001 03 0202 0200",
            0,
            "",
        ),
        ("half a parameter header", "04 fc00 005a 0a000001 01 02", 0, ""),
        (
            "parameter longer than the rest",
            "04 fc00 005a 0a000001 04 0203 0200",
            0,
            "",
        ),
        (
            "half a capability header",
            "04 fc00 005a 0a000001 03 0201 02",
            0,
            "",
        ),
        (
            "capability longer than its parameter",
            "04 fc00 005a 0a000001 04 0202 0201",
            0,
            "",
        ),
        (
            "capability running into the next parameter",
            "04 fc00 005a 0a000001 08 0202 4104 0202 0200",
            0,
            "",
        ),
        (
            "RFC 9072 length too large",
            "04 fc00 005a 0a000001 ff ff 0004 02 0000",
            0,
            "",
        ),
        (
            "RFC 9072 length too small",
            "04 fc00 005a 0a000001 ff ff 0002 02 0000",
            0,
            "",
        ),
        (
            "RFC 9072 parameter cut off",
            "04 fc00 005a 0a000001 ff ff 0002 02 00",
            0,
            "",
        ),
        (
            "RFC 9072 parameter too long",
            "04 fc00 005a 0a000001 ff ff 0003 02 0001",
            0,
            "",
        ),
        (
            "RFC 9072 without its length",
            "04 fc00 005a 0a000001 ff ff 00",
            0,
            "",
        ),
    ] {
        let error = read(&message(1, &hex(body)), &Negotiated::default()).expect_err(name);
        let got = error.notification();
        assert_eq!((got.code, got.subcode), (2, subcode), "{name}: {error}");
        assert_eq!(&got.data[..], hex(data), "{name}: {error}");
    }
    for hold_time in ["0000", "0003", "ffff"] {
        let body = hex(&format!("04 fc00 {hold_time} 0a000001 00"));
        assert!(
            read(&message(1, &body), &Negotiated::default()).is_ok(),
            "hold time {hold_time}"
        );
    }
}

#[test]
fn large_opens_use_rfc_9072_and_too_large_ones_are_refused() {
    let raw = |length| Capability::Other {
        code: 200,
        value: vec![1; length].into(),
    };
    // 253 octets of capabilities are the most that fit into the short form.
    for (lengths, extended) in [
        (vec![251], false),
        (vec![252], true),
        (vec![255; 10], true),
        (vec![255; 15], true),
    ] {
        let want = open(lengths.iter().map(|length| raw(*length)).collect());
        let octets = encode_open(&want).unwrap();
        assert_eq!(octets[19 + 10] == 255, extended, "{lengths:?}");
        assert_eq!(
            read(&octets, &Negotiated::default()),
            Ok(Message::Open(want)),
            "{lengths:?}"
        );
    }
    assert_eq!(encode_open(&open(vec![raw(256)])), Err(EncodeError::Capabilities));
    assert_eq!(
        encode_open(&open(vec![raw(255); 16])),
        Err(EncodeError::Capabilities)
    );
}

#[test]
fn the_offered_as() {
    for (my_as, four_octet, want) in [
        (64512, None, 64512),
        (23456, Some(70000), 70000),
        (64512, Some(64512), 64512),
    ] {
        let mut one = open(four_octet.map(Capability::FourOctetAs).into_iter().collect());
        one.my_as = my_as;
        assert_eq!(one.asn().map(|asn| asn.number()), Some(want));
    }
    assert_eq!(
        WireError::MissingCapabilities(vec![Capability::Multiprotocol(Family::Ipv6Unicast)])
            .notification()
            .data,
        hex("0104 00020001")
    );
}
