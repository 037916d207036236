//! Lengths, attribute headers, duplicates, what is missing.

use super::*;

#[test]
fn lengths_and_prefix_fields() {
    for (name, octets, want) in [
        (
            "withdrawn length reaches past the end",
            "0005 0000 00",
            Reset(1, ""),
        ),
        ("no room for the attribute length", "0002 08 0a 00", Reset(1, "")),
        ("attribute length reaches past the end", "0000 0001", Reset(1, "")),
        (
            "attribute length by one too large",
            "0000 0005 400101 00",
            Reset(1, ""),
        ),
        ("withdrawn /33 (3/10)", "0006 21 0a000000 00 0000", Reset(10, "")),
        ("withdrawn /255", "0001 ff 0000", Reset(10, "")),
        ("withdrawn prefix cut off", "0003 18 0a00 0000", Reset(10, "")),
        (
            "second withdrawn prefix cut off",
            "0005 08 0a 18 0a00 0000",
            Reset(10, ""),
        ),
        ("NLRI /33", "0000 0000 21 0a000000 00", Reset(10, "")),
        ("NLRI cut off", "0000 0000 18 0a00", Reset(10, "")),
        ("NLRI: a length and nothing else", "0000 0000 01", Reset(10, "")),
    ] {
        for negotiated in [internal(), external()] {
            check(name, &negotiated, &hex(octets), want);
        }
    }
    // The lengths come first: attributes that make no sense are not looked at (RFC 7606 section 3 (j)).
    check(
        "NLRI cut off, attributes bad",
        &internal(),
        &body("", "400101 07", "18 0a00"),
        Reset(10, ""),
    );
    check(
        "/0 and /32",
        &internal(),
        &body("", BASE, "00 20 cb007101"),
        Accept,
    );
}

#[test]
fn markers_and_empty_updates() {
    let marker = |octets: &str, negotiated: &Negotiated| match read(&message(2, &hex(octets)), negotiated) {
        Ok(Message::Update(update)) => {
            assert!(
                update.announced.is_empty() && update.withdrawn.is_empty() && update.attributes.is_none()
            );
            (update.end_of_rib, update.faults.len())
        }
        other => panic!("{octets}: {other:?}"),
    };
    let v6_only = Negotiated {
        families: Families::NONE.with(Family::Ipv6Unicast),
        ..internal()
    };
    assert_eq!(marker("0000 0000", &internal()), (Some(Family::Ipv4Unicast), 0));
    assert_eq!(marker("0000 0000", &v6_only), (None, 0));
    assert_eq!(
        marker("0000 0006 800f03 0002 01", &internal()),
        (Some(Family::Ipv6Unicast), 0)
    );
    assert_eq!(
        marker("0000 0007 900f0003 0002 01", &internal()),
        (Some(Family::Ipv6Unicast), 0)
    );
    assert_eq!(
        marker("0000 0006 800f03 0001 01", &internal()),
        (Some(Family::Ipv4Unicast), 0)
    );
    assert_eq!(marker("0000 0006 800f03 0019 46", &internal()), (None, 1));
    // Attributes without a prefix are no marker and say nothing.
    assert_eq!(marker("0000 0004 400101 00", &internal()), (None, 0));
    assert_eq!(
        marker("0000 000a 800f03 0002 01 400101 00", &internal()),
        (None, 0)
    );
}

#[test]
fn attribute_headers() {
    for (name, attributes, nlri, want) in [
        (
            "one octet left over (RFC 7606 section 4)",
            format!("{BASE} 80"),
            NLRI,
            Withdraw("cut off"),
        ),
        (
            "two octets left over",
            format!("{BASE} 8004"),
            NLRI,
            Withdraw("cut off"),
        ),
        (
            "extended length, three octets left over",
            format!("{BASE} 900400"),
            NLRI,
            Withdraw("cut off"),
        ),
        (
            "attribute longer than the rest",
            format!("{BASE} 800404 000000"),
            NLRI,
            Withdraw("cut off"),
        ),
        (
            "attribute with no value at all",
            format!("{BASE} 800404"),
            NLRI,
            Withdraw("cut off"),
        ),
        (
            "extended length 65535",
            format!("{BASE} 9004ffff 00"),
            NLRI,
            Withdraw("cut off"),
        ),
        (
            "only a cut off attribute and NLRI",
            "4001".into(),
            NLRI,
            Withdraw("cut off"),
        ),
        (
            "cut off and nothing reachable (RFC 7606 section 5.2)",
            format!("{BASE} 8004"),
            "",
            Reset(1, ""),
        ),
        (
            "cut off after MP_UNREACH_NLRI",
            format!("{UNREACH} 80"),
            "",
            Reset(1, ""),
        ),
        (
            "cut off MP_REACH_NLRI: its prefixes are lost",
            format!("{BASE} 800e20 0002"),
            NLRI,
            Reset(9, "800e200002"),
        ),
        (
            "cut off MP_UNREACH_NLRI",
            format!("{BASE} 800f"),
            NLRI,
            Reset(9, "800f"),
        ),
        (
            "extended length for a short attribute",
            "50010001 00 50020006 0201 0000fde8 50030004 c0000201".into(),
            NLRI,
            Accept,
        ),
        (
            "the four low flag bits are ignored",
            "4f0101 00 400206 0201 0000fde8 400304 c0000201".into(),
            NLRI,
            Accept,
        ),
        (
            "attributes in any order",
            format!("{HOP} {PATH} {ORIGIN}"),
            NLRI,
            Accept,
        ),
        (
            "ORIGIN twice: the first counts (3g)",
            format!("{BASE} 400101 07"),
            NLRI,
            Discard("ORIGIN appears more than once"),
        ),
        (
            "AS_PATH twice",
            format!("{BASE} {PATH}"),
            NLRI,
            Discard("AS_PATH appears more than once"),
        ),
        (
            "an unknown attribute twice",
            format!("{BASE} c0c801 00 c0c801 01"),
            NLRI,
            Discard("attribute 200 appears more than once"),
        ),
        (
            "a malformed one, then a good one",
            format!("400101 07 {PATH} {HOP} {ORIGIN}"),
            NLRI,
            Withdraw("ORIGIN has the value 7"),
        ),
        (
            "MP_REACH_NLRI twice",
            format!("{ORIGIN} {PATH} {REACH} {REACH}"),
            "",
            Reset(1, ""),
        ),
        (
            "MP_UNREACH_NLRI twice",
            format!("{UNREACH} {UNREACH}"),
            "",
            Reset(1, ""),
        ),
        (
            "unknown well-known",
            format!("{BASE} 40c801 07"),
            NLRI,
            Reset(2, "40c80107"),
        ),
        (
            "unknown, neither optional nor transitive",
            format!("{BASE} 006300"),
            NLRI,
            Reset(2, "006300"),
        ),
        (
            "unknown optional transitive",
            format!("{BASE} c0c801 07"),
            NLRI,
            Accept,
        ),
        (
            "unknown optional transitive, empty",
            format!("{BASE} c0c800"),
            NLRI,
            Accept,
        ),
        (
            "unknown optional non-transitive",
            format!("{BASE} 80c801 07"),
            NLRI,
            Accept,
        ),
        ("attribute 0, optional", format!("{BASE} 800000"), NLRI, Accept),
        (
            "ATTR_SET is not looked into",
            format!("{BASE} c08008 0000fde8 40010100"),
            NLRI,
            Accept,
        ),
        (
            "PMSI tunnel is not looked into",
            format!("{BASE} c01605 0006fe0000"),
            NLRI,
            Accept,
        ),
    ] {
        for negotiated in [internal(), external()] {
            check(name, &negotiated, &body("", &attributes, nlri), want);
        }
    }
}

#[test]
fn missing_attributes() {
    for (name, attributes, nlri, want) in [
        (
            "no ORIGIN (3d)",
            format!("{PATH} {HOP}"),
            NLRI,
            Withdraw("ORIGIN is missing"),
        ),
        (
            "no AS_PATH",
            format!("{ORIGIN} {HOP}"),
            NLRI,
            Withdraw("AS_PATH is missing"),
        ),
        (
            "no NEXT_HOP",
            format!("{ORIGIN} {PATH}"),
            NLRI,
            Withdraw("NEXT_HOP is missing"),
        ),
        ("none at all", String::new(), NLRI, Withdraw("ORIGIN is missing")),
        (
            "MP_REACH_NLRI without ORIGIN",
            format!("{REACH} {PATH}"),
            "",
            Withdraw("ORIGIN is missing"),
        ),
        (
            "MP_REACH_NLRI without AS_PATH",
            format!("{REACH} {ORIGIN}"),
            "",
            Withdraw("AS_PATH is missing"),
        ),
        (
            "MP_REACH_NLRI needs no NEXT_HOP",
            format!("{REACH} {ORIGIN} {PATH}"),
            "",
            Accept,
        ),
        (
            "MP_REACH_NLRI does not replace NEXT_HOP for NLRI",
            format!("{REACH} {ORIGIN} {PATH}"),
            NLRI,
            Withdraw("NEXT_HOP is missing"),
        ),
        (
            "no LOCAL_PREF from an internal peer: ours is used",
            BASE.to_owned(),
            NLRI,
            Accept,
        ),
    ] {
        check(name, &internal(), &body("", &attributes, nlri), want);
    }
    assert_eq!(
        WireError::Update {
            fault: Fault::Missing(3),
            attribute: Bytes::new()
        }
        .notification()
        .data[..],
        [3]
    );
}

#[test]
fn a_thousand_faults_are_told_in_nine_lines() {
    let octets = body("", &format!("{BASE} {}", "c0c800".repeat(1000)), NLRI);
    let Ok(Message::Update(update)) = read(&message(2, &octets), &internal()) else {
        panic!()
    };
    assert_eq!(update.faults.len(), 9);
    assert_eq!(update.faults[8], "and 991 faults more");
    assert_eq!(update.attributes.unwrap().unknown.len(), 1);
}

#[test]
fn treat_as_withdraw_covers_every_field() {
    let octets = body(
        "08 0b",
        &format!("{REACH} {UNREACH} 400101 09 {PATH} {HOP}"),
        NLRI,
    );
    let Ok(Message::Update(update)) = read(&message(2, &octets), &internal()) else {
        panic!()
    };
    let want = [
        "11.0.0.0/8",
        "2001:db8:2::/48",
        "203.0.113.0/24",
        "2001:db8:1::/48",
    ]
    .map(nlri);
    assert_eq!(update.withdrawn, want);
    assert!(update.announced.is_empty() && update.attributes.is_none());
}
