//! Length, flags and value of every attribute.

use super::*;

/// What RFC 7606 section 7 asks for when the length of an attribute is wrong.
#[test]
fn lengths_of_every_attribute() {
    let mut cases = 0;
    for (code, flags, fits, wrong) in [
        (1u8, 0x40u8, &[1usize][..], &[0usize, 2, 255, 256][..]),
        (3, 0x40, &[4], &[0, 1, 3, 5, 16, 300]),
        (4, 0x80, &[4], &[0, 1, 3, 5, 8]),
        (5, 0x40, &[4], &[0, 1, 3, 5, 8]),
        (6, 0x40, &[0], &[1, 4, 256]),
        (7, 0xc0, &[8], &[0, 4, 6, 7, 9, 16]),
        (8, 0xc0, &[4, 8, 256], &[0, 1, 3, 5, 257]),
        (9, 0x80, &[4], &[0, 3, 5, 16]),
        (10, 0x80, &[4, 8, 256], &[0, 1, 3, 5, 18]),
        (16, 0xc0, &[8, 16, 256], &[0, 1, 7, 9, 12]),
        (25, 0xc0, &[20, 40], &[0, 1, 8, 19, 21]),
        (32, 0xc0, &[12, 24, 264], &[0, 1, 8, 11, 13, 16]),
        (35, 0xc0, &[4], &[0, 1, 3, 5, 8]),
    ] {
        for (lengths, right) in [(fits, true), (wrong, false)] {
            for length in lengths {
                // Each octet 1: a legal ORIGIN, address, AS and so on.
                let mut attribute = if *length > 255 {
                    let [high, low] = u16::try_from(*length).unwrap().to_be_bytes();
                    vec![flags | 0x10, code, high, low]
                } else {
                    vec![flags, code, u8::try_from(*length).unwrap()]
                };
                attribute.resize(attribute.len() + length, 1);
                let others: String = [(1, ORIGIN), (2, PATH), (3, HOP)]
                    .into_iter()
                    .filter(|(other, _)| *other != code)
                    .map(|(_, text)| text)
                    .collect();
                let attributes = [attribute, hex(&others)].concat();
                let field = u16::try_from(attributes.len()).unwrap().to_be_bytes();
                let octets = [vec![0, 0], field.to_vec(), attributes, hex(NLRI)].concat();
                for negotiated in [internal(), external()] {
                    let ignored = matches!(code, 5 | 9 | 10) && !negotiated.internal;
                    let want = match (right, ignored, code) {
                        (_, true, _) => Discard("is not for this kind of peer"),
                        (true, false, _) => Accept,
                        (false, false, 6 | 7) => Discard("octets long"),
                        (false, false, _) => Withdraw("octets long"),
                    };
                    let name = format!(
                        "attribute {code} of {length} octets, internal: {}",
                        negotiated.internal
                    );
                    check(&name, &negotiated, &octets, want);
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 150, "{cases}");
}

/// RFC 7606 section 3 (c): Optional and Transitive must be right; Partial says nothing.
#[test]
fn flags_of_every_attribute() {
    let mut cases = 0;
    for (code, right, attribute) in [
        (1, 0x40, ORIGIN),
        (2, 0x40, PATH),
        (3, 0x40, HOP),
        (4, 0x80, "800404 00000001"),
        (5, 0x40, "400504 00000001"),
        (6, 0x40, "400600"),
        (7, 0xc0, "c00708 0000fde8 0a000001"),
        (8, 0xc0, "c00804 fde80001"),
        (9, 0x80, "800904 0a000001"),
        (10, 0x80, "800a04 0a000001"),
        (14, 0x80, REACH),
        (15, 0x80, UNREACH),
        (16, 0xc0, "c01008 0002fde800000001"),
        (25, 0xc0, "c01914 0002 20010db8000000000000000000000001 0001"),
        (32, 0xc0, "c0200c 0000fde8 00000001 00000002"),
        (35, 0xc0, "c02304 0000fde8"),
    ] {
        for flags in [0x00u8, 0x20, 0x40, 0x60, 0x80, 0xa0, 0xc0, 0xe0] {
            let mut octets = hex(attribute);
            octets[0] = flags;
            let others: String = [(1, ORIGIN), (2, PATH), (3, HOP)]
                .into_iter()
                .filter(|(other, _)| *other != code)
                .map(|(_, text)| text)
                .collect();
            let attributes = [octets, hex(&others)].concat();
            let field = u16::try_from(attributes.len()).unwrap().to_be_bytes();
            let update = [vec![0, 0], field.to_vec(), attributes, hex(NLRI)].concat();
            let want = if flags & 0xc0 == right {
                Accept
            } else {
                Withdraw("has flags")
            };
            check(
                &format!("attribute {code} with flags {flags:#04x}"),
                &internal(),
                &update,
                want,
            );
            cases += 1;
        }
    }
    assert_eq!(cases, 128);
    // Without anything reachable the connection must end, and the attribute comes back as it was.
    check(
        "flags, nothing reachable",
        &internal(),
        &body("", "c00101 00", ""),
        Reset(4, "c0010100"),
    );
    check(
        "length, nothing reachable",
        &internal(),
        &body("", "400102 0000", ""),
        Reset(5, "4001020000"),
    );
    check(
        "origin, nothing reachable",
        &internal(),
        &body("08 0a", "400101 03", ""),
        Reset(6, "40010103"),
    );
    check(
        "next hop, nothing reachable",
        &internal(),
        &body("", "400304 00000000", ""),
        Reset(8, "40030400000000"),
    );
    check(
        "path, nothing reachable",
        &internal(),
        &body("", "400202 0200", ""),
        Reset(11, ""),
    );
    // An error that only discards leaves the message alone, and MP_UNREACH_NLRI alone is not in question.
    check(
        "aggregator, nothing reachable",
        &internal(),
        &body("", "c00701 00", ""),
        Nothing("AGGREGATOR is 1 octets"),
    );
    check(
        "flags of MP_UNREACH_NLRI alone",
        &internal(),
        &body("", "c00f0a 0002 01 30 20010db80002", ""),
        Withdraw("has flags 0xc0"),
    );
}

#[test]
fn values() {
    for (name, attributes, nlri, want) in [
        ("ORIGIN EGP", format!("400101 01 {PATH} {HOP}"), NLRI, Accept),
        (
            "ORIGIN incomplete",
            format!("400101 02 {PATH} {HOP}"),
            NLRI,
            Accept,
        ),
        (
            "ORIGIN 3",
            format!("400101 03 {PATH} {HOP}"),
            NLRI,
            Withdraw("ORIGIN has the value 3"),
        ),
        (
            "ORIGIN 255",
            format!("400101 ff {PATH} {HOP}"),
            NLRI,
            Withdraw("ORIGIN has the value 255"),
        ),
        (
            "NEXT_HOP 0.0.0.0",
            format!("{ORIGIN} {PATH} 400304 00000000"),
            NLRI,
            Withdraw("next hop 0.0.0.0"),
        ),
        (
            "NEXT_HOP loopback",
            format!("{ORIGIN} {PATH} 400304 7f000001"),
            NLRI,
            Withdraw("next hop 127.0.0.1"),
        ),
        (
            "NEXT_HOP multicast",
            format!("{ORIGIN} {PATH} 400304 e0000001"),
            NLRI,
            Withdraw("next hop 224.0.0.1"),
        ),
        (
            "NEXT_HOP class E",
            format!("{ORIGIN} {PATH} 400304 f0000001"),
            NLRI,
            Withdraw("next hop 240.0.0.1"),
        ),
        (
            "NEXT_HOP broadcast",
            format!("{ORIGIN} {PATH} 400304 ffffffff"),
            NLRI,
            Withdraw("next hop 255.255.255.255"),
        ),
        (
            "AGGREGATOR with AS 0 (RFC 7607)",
            format!("{BASE} c00708 00000000 0a000001"),
            NLRI,
            Discard("AGGREGATOR names AS 0"),
        ),
        (
            "AS4_PATH from a 4-octet peer (RFC 6793)",
            format!("{BASE} c01106 0201 0000fde8"),
            NLRI,
            Discard("AS4_PATH is not for"),
        ),
        (
            "AS4_AGGREGATOR from a 4-octet peer",
            format!("{BASE} c01208 0000fde8 0a000001"),
            NLRI,
            Discard("AS4_AGGREGATOR is not for"),
        ),
        (
            "multicast prefix",
            BASE.to_owned(),
            "08 e1",
            Nothing("prefix 225.0.0.0/8 cannot be routed"),
        ),
        (
            "loopback prefix",
            BASE.to_owned(),
            "20 7f000001",
            Nothing("prefix 127.0.0.1/32 cannot be routed"),
        ),
        (
            "one of two prefixes cannot be routed",
            BASE.to_owned(),
            "20 7f000001 08 0a",
            Discard("prefix 127.0.0.1/32"),
        ),
        (
            "this-network prefix",
            BASE.to_owned(),
            "08 00",
            Nothing("prefix 0.0.0.0/8"),
        ),
        ("half of everything", BASE.to_owned(), "01 00", Accept),
        ("class E can be routed", BASE.to_owned(), "04 f0", Accept),
        (
            "discard and withdraw: withdraw is stronger (3h)",
            format!("{BASE} c00701 00 800401 00"),
            NLRI,
            Withdraw("MULTI_EXIT_DISC is 1"),
        ),
        (
            "withdraw and reset: reset is stronger",
            format!("{BASE} 800401 00 800e02 0002"),
            NLRI,
            Reset(9, "800e020002"),
        ),
    ] {
        check(name, &internal(), &body("", &attributes, nlri), want);
    }
}
