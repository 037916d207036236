//! MP attributes, next hops, path identifiers.

use super::*;

#[test]
fn multiprotocol_attributes() {
    let attributes = |reach: &str| format!("{reach} {ORIGIN} {PATH}");
    let both_hops = "800e2c 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00 30 20010db80001";
    for (name, reach, want) in [
        ("one next hop", REACH, Accept),
        ("two next hops", both_hops, Accept),
        (
            "IPv4 prefixes with an IPv4 next hop",
            "800e0d 0001 01 04 c0000201 00 18 cb0071",
            Accept,
        ),
        (
            "the reserved octet is ignored",
            "800e1c 0002 01 10 20010db8000000000000000000000001 05 30 20010db80001",
            Accept,
        ),
        ("no octet", "800e00", Reset(9, "800e00")),
        ("cut off in the family", "800e02 0002", Reset(9, "800e020002")),
        (
            "cut off before the next hop",
            "800e04 0002 01 10",
            Reset(9, "800e0400020110"),
        ),
        (
            "cut off in the next hop",
            "800e06 0002 01 10 2001",
            Reset(9, "800e06000201102001"),
        ),
        (
            "nothing after the next hop",
            "800e08 0001 01 04 c0000201",
            Reset(9, "800e0800010104c0000201"),
        ),
        (
            "no next hop",
            "800e0c 0002 01 00 00 30 20010db80001",
            Reset(9, "800e0c00020100003020010db80001"),
        ),
        (
            "IPv6 with an IPv4 next hop",
            "800e10 0002 01 04 c0000201 00 30 20010db80001",
            Reset(9, "800e1000020104c0000201003020010db80001"),
        ),
        (
            "next hop of 24 octets",
            "800e24 0002 01 18 000000000000000020010db8000000000000000000000001 00 30 20010db80001",
            Reset(
                9,
                "800e2400020118000000000000000020010db8000000000000000000000001003020010db80001",
            ),
        ),
        (
            "IPv4 with an IPv6 next hop, not agreed on",
            "800e19 0001 01 10 20010db8000000000000000000000001 00 18 cb0071",
            Reset(9, "800e1900010110 20010db8000000000000000000000001 0018cb0071"),
        ),
        (
            "/129",
            "800e16 0002 01 10 20010db8000000000000000000000001 00 81",
            Reset(9, "800e1600020110 20010db8000000000000000000000001 0081"),
        ),
        (
            "prefix cut off",
            "800e17 0002 01 10 20010db8000000000000000000000001 00 30 20",
            Reset(9, "800e1700020110 20010db8000000000000000000000001 003020"),
        ),
        (
            "next hop ::",
            "800e1c 0002 01 10 00000000000000000000000000000000 00 30 20010db80001",
            Withdraw("next hop ::"),
        ),
        (
            "next hop ::1",
            "800e1c 0002 01 10 00000000000000000000000000000001 00 30 20010db80001",
            Withdraw("next hop ::1"),
        ),
        (
            "next hop multicast",
            "800e1c 0002 01 10 ff020000000000000000000000000001 00 30 20010db80001",
            Withdraw("next hop ff02::1"),
        ),
        (
            "next hop IPv4-mapped",
            "800e1c 0002 01 10 00000000000000000000ffffc0000201 00 30 20010db80001",
            Withdraw("next hop ::ffff:192.0.2.1"),
        ),
        (
            "IPv4 next hop 0.0.0.0",
            "800e0d 0001 01 04 00000000 00 18 cb0071",
            Withdraw("next hop 0.0.0.0"),
        ),
        (
            "EVPN is not in use",
            "800e0b 0019 46 04 c0000201 00 0000",
            Nothing("AFI 25 SAFI 70"),
        ),
        (
            "IPv6 multicast is not in use",
            "800e1c 0002 02 10 20010db8000000000000000000000001 00 30 20010db80001",
            Nothing("AFI 2 SAFI 2"),
        ),
        (
            "a prefix that cannot be routed",
            "800e17 0002 01 10 20010db8000000000000000000000001 00 08 ff",
            Nothing("prefix ff00::/8"),
        ),
        (
            "an IPv4-mapped prefix",
            "800e22 0002 01 10 20010db8000000000000000000000001 00 60 00000000000000000000ffff",
            Nothing("prefix ::ffff:"),
        ),
        (
            "a link-local prefix",
            "800e18 0002 01 10 20010db8000000000000000000000001 00 10 fe80",
            Nothing("prefix fe80::/16"),
        ),
    ] {
        check(name, &internal(), &body("", &attributes(reach), ""), want);
    }
    for (name, unreach, want) in [
        ("no octet", "800f00", Reset(9, "800f00")),
        ("cut off in the family", "800f02 0002", Reset(9, "800f020002")),
        ("/129", "800f04 0002 01 81", Reset(9, "800f0400020181")),
        (
            "prefix cut off",
            "800f05 0002 01 30 20",
            Reset(9, "800f050002013020"),
        ),
        ("not in use", "800f05 0019 46 0000", Nothing("AFI 25 SAFI 70")),
    ] {
        check(
            &format!("MP_UNREACH_NLRI: {name}"),
            &internal(),
            &body("", unreach, ""),
            want,
        );
    }
    // Wrong flags do not keep the prefixes from being found.
    let octets = body("", &attributes(&format!("c0{}", &REACH[2..])), "");
    check(
        "MP_REACH_NLRI with wrong flags",
        &internal(),
        &octets,
        Withdraw("MP_REACH_NLRI has flags 0xc0"),
    );
    // Family of the plain fields not in use: ignored, whatever else the message says is kept.
    let v6_only = Negotiated {
        families: Families::NONE.with(Family::Ipv6Unicast),
        ..internal()
    };
    check(
        "NLRI on an IPv6 connection",
        &v6_only,
        &body("", BASE, NLRI),
        Nothing("AFI 1 SAFI 1"),
    );
    check(
        "NLRI and MP_REACH_NLRI on an IPv6 connection",
        &v6_only,
        &body("", &attributes(REACH), NLRI),
        Discard("AFI 1 SAFI 1"),
    );
}

#[test]
fn next_hops() {
    let extended = Negotiated {
        extended_next_hop_receive: true,
        ..internal()
    };
    let global = via("2001:db8::1");
    let beside = NextHop {
        link_local: Some(link_local(1)),
        ..global
    };
    let alone = NextHop {
        address: link_local(1).into(),
        link_local: None,
    };
    let (g, l, z) = (
        "20010db8000000000000000000000001",
        "fe800000000000000000000000000001",
        "00000000000000000000000000000000",
    );
    for (name, next_hop, want) in [
        ("global", format!("10 {g}"), global),
        ("link-local alone", format!("10 {l}"), alone),
        ("both (RFC 2545)", format!("20 {g} {l}"), beside),
        ("second is not link-local", format!("20 {g} {g}"), global),
        ("second is ::", format!("20 {g} {z}"), global),
        ("first is ::", format!("20 {z} {l}"), alone),
        ("link-local twice", format!("20 {l} {l}"), alone),
    ] {
        for (family, prefix) in [("0002 01", "30 20010db80001"), ("0001 01", "18 cb0071")] {
            let value = hex(&format!("{family} {next_hop} 00 {prefix}"));
            let header = vec![0x80, 14, u8::try_from(value.len()).unwrap()];
            let attributes = [header, value, hex(ORIGIN), hex(PATH)].concat();
            let field = u16::try_from(attributes.len()).unwrap().to_be_bytes();
            let octets = [vec![0, 0], field.to_vec(), attributes].concat();
            let Ok(Message::Update(update)) = read(&message(2, &octets), &extended) else {
                panic!("{name} {family}")
            };
            assert_eq!(update.faults, [""; 0], "{name} {family}");
            assert_eq!(update.announced.len(), 1, "{name} {family}");
            assert_eq!(update.announced[0].1, want, "{name} {family}");
        }
    }
}

#[test]
fn path_identifiers() {
    let both = Negotiated {
        add_path_receive: Families::ALL,
        ..internal()
    };
    let reach = "800e20 0002 01 10 20010db8000000000000000000000001 00 00000007 30 20010db80001";
    let octets = body(
        "00000001 08 0a",
        &format!("{reach} {BASE}"),
        "00000002 18 cb0071 00000000 18 cb0071",
    );
    let Ok(Message::Update(update)) = read(&message(2, &octets), &both) else {
        panic!()
    };
    let id = |id, text| Nlri {
        path_id: Some(id),
        prefix: prefix(text),
    };
    assert_eq!(update.withdrawn, [id(1, "10.0.0.0/8")]);
    let announced: Vec<Nlri> = update.announced.iter().map(|(nlri, _)| *nlri).collect();
    assert_eq!(
        announced,
        [
            id(2, "203.0.113.0/24"),
            id(0, "203.0.113.0/24"),
            id(7, "2001:db8:1::/48")
        ]
    );
    for (name, withdrawn, nlri) in [
        ("identifier cut off", "", "000000"),
        ("identifier without a prefix", "", "00000001"),
        ("prefix cut off", "", "00000001 18 cb00"),
        ("length too large", "", "00000001 21 cb00000000"),
        ("withdrawn without identifier", "08 0a", ""),
    ] {
        check(name, &both, &body(withdrawn, BASE, nlri), Reset(10, ""));
    }
    // Two zero octets in front are a default route and 0.0.0.0/0 again, never a guess at path identifiers.
    let octets = body("", BASE, "00 00 00 00 08 0a");
    let Ok(Message::Update(update)) = read(&message(2, &octets), &internal()) else {
        panic!()
    };
    assert_eq!(update.announced.len(), 5);
    assert!(update.announced.iter().all(|(nlri, _)| nlri.path_id.is_none()));
}

#[test]
fn host_bits_are_cleared_and_order_is_kept() {
    let octets = body("0c 0aff", BASE, "19 cb0071ff 08 0a");
    let Ok(Message::Update(update)) = read(&message(2, &octets), &internal()) else {
        panic!()
    };
    assert_eq!(update.withdrawn, [nlri("10.240.0.0/12")]);
    let announced: Vec<Nlri> = update.announced.iter().map(|(nlri, _)| *nlri).collect();
    assert_eq!(announced, [nlri("203.0.113.128/25"), nlri("10.0.0.0/8")]);
}
