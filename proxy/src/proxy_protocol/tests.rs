use proptest::prelude::*;
use sekisho_config::model::ProxyProtocol;

use super::*;

fn proxied(client: &str, server: &str) -> Said {
    Said::Proxied {
        client: client.parse().unwrap(),
        server: server.parse().unwrap(),
    }
}

/// A header of version 2 with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend_from_slice(rest);
    header
}

#[test]
fn lines_of_version_1() {
    let ipv4 = proxied("192.0.2.1:56324", "198.51.100.7:443");
    for (line, want) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", Ok(ipv4)),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            Ok(proxied("[2001:db8::1]:1", "[2001:db8::2]:65535")),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 56324 443\r\n",
            Ok(ipv4),
        ),
        ("PROXY UNKNOWN\r\n", Ok(Said::Own)),
        ("PROXY UNKNOWN ff:: whatever 9 9\r\n", Ok(Said::Own)),
        ("PROXY UNKNOWNX\r\n", Err(Malformed::Line)),
        ("PROXY unknown\r\n", Err(Malformed::Line)),
        ("PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n", Err(Malformed::Line)),
        ("PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n", Err(Malformed::Line)),
        ("PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n", Err(Malformed::Line)),
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\r\n",
            Err(Malformed::Line),
        ),
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
            Err(Malformed::Address),
        ),
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n",
            Err(Malformed::Address),
        ),
        (
            "PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n",
            Err(Malformed::Address),
        ),
        (
            "PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
            Err(Malformed::Address),
        ),
        ("PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n", Err(Malformed::Address)),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Err(Malformed::Address)),
        (
            "PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
            Err(Malformed::Address),
        ),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Err(Malformed::Address)),
        ("GET / HTTP/1.1\r\n", Err(Malformed::NoHeader)),
        ("proxy TCP4", Err(Malformed::NoHeader)),
        ("PROXY TCP4 \0", Err(Malformed::Line)),
        ("PROXY TCP4\r1", Err(Malformed::Line)),
    ] {
        let with_more = format!("{line}GET / HTTP/1.1\r\n");
        let got = parse(with_more.as_bytes());
        assert_eq!(got, want.map(|said| Some((said, line.len()))), "{line:?}");
    }
}

#[test]
fn a_line_is_no_longer_than_it_may_be() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16));
    assert_eq!(parse(line(107).as_bytes()), Ok(Some((Said::Own, 107))));
    assert_eq!(parse(line(108).as_bytes()), Err(Malformed::Line));
    assert_eq!(parse(&line(400).as_bytes()[..107]), Err(Malformed::Line));
    assert_eq!(parse(&line(107).as_bytes()[..106]), Ok(None));
}

#[test]
fn headers_of_version_2() {
    let four = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];
    let with = |tlvs: &[u8]| [&four[..], tlvs].concat();
    let ipv4 = Ok(proxied("192.0.2.1:56324", "198.51.100.7:443"));
    let mut six = [0u8; 36];
    (six[15], six[31], six[33], six[35]) = (1, 2, 80, 90);
    for (header, want) in [
        (v2(0x21, 0x11, &four), ipv4),
        (v2(0x21, 0x21, &six), Ok(proxied("[::1]:80", "[::2]:90"))),
        // TLVs are skipped, an empty one too.
        (
            v2(0x21, 0x11, &with(&[0x02, 0, 3, b'a', b'.', b'b', 0x04, 0, 0])),
            ipv4,
        ),
        (v2(0x21, 0x11, &with(&[0x02, 0, 3, b'a'])), Err(Malformed::Tlv)),
        (v2(0x21, 0x11, &with(&[0x02, 0])), Err(Malformed::Tlv)),
        (
            v2(0x21, 0x11, &with(&[0x03, 0, 4, 1, 2, 3, 4])),
            Err(Malformed::Tlv),
        ),
        (v2(0x21, 0x11, &with(&[0x03, 0, 1, 0])), Err(Malformed::Tlv)),
        (v2(0x21, 0x11, &four[..11]), Err(Malformed::Length)),
        (v2(0x21, 0x21, &four), Err(Malformed::Length)),
        (v2(0x20, 0x00, &[]), Ok(Said::Own)),
        (v2(0x20, 0x11, &four), Ok(Said::Own)),
        (v2(0x20, 0xff, &[9; 40]), Ok(Said::Own)),
        (v2(0x21, 0x00, &[]), Ok(Said::Own)),
        (v2(0x21, 0x31, &[0; 216]), Ok(Said::Own)),
        (v2(0x21, 0x31, &[0; 215]), Err(Malformed::Length)),
        (v2(0x21, 0x12, &four), Err(Malformed::Kind)),
        (v2(0x21, 0x10, &four), Err(Malformed::Kind)),
        (v2(0x21, 0x41, &four), Err(Malformed::Kind)),
        (v2(0x22, 0x11, &four), Err(Malformed::Kind)),
        (v2(0x11, 0x11, &four), Err(Malformed::Kind)),
        (v2(0x21, 0x11, &with(&[0; LONGEST_REST])), Err(Malformed::Length)),
    ] {
        let with_more = [&header[..], b"\x16\x03\x01"].concat();
        assert_eq!(
            parse(&with_more),
            want.map(|said| Some((said, header.len()))),
            "{header:02x?}"
        );
    }
}

#[test]
fn a_good_checksum_is_good() {
    let mut header = v2(
        0x21,
        0x11,
        &[1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 0, 10, CRC32C, 0, 4, 0, 0, 0, 0],
    );
    let place = header.len() - 4..header.len();
    let sum = crc32c::of_header(&header, place.clone()).to_be_bytes();
    header[place].copy_from_slice(&sum);
    assert!(parse(&header).is_ok(), "{header:02x?}");
}

fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let ends = |a: IpAddr, b: IpAddr, c, d| (socket(a, c), socket(b, d));
    prop_oneof![
        any::<([u8; 4], [u8; 4], u16, u16)>().prop_map(move |(a, b, c, d)| ends(a.into(), b.into(), c, d)),
        any::<([u8; 16], [u8; 16], u16, u16)>().prop_map(move |(a, b, c, d)| ends(a.into(), b.into(), c, d)),
    ]
}

proptest! {
    #[test]
    fn any_octets_are_safe(octets: Vec<u8>, choice in 0..3u8) {
        let begin: &[u8] = match choice {
            0 => SIGNATURE,
            1 => WORD,
            _ => b"",
        };
        let octets = [begin, &octets].concat();
        if let Ok(Some((_, length))) = parse(&octets) {
            prop_assert!(length <= octets.len() && length <= LONGEST);
            // A header does not depend on what follows it, and none of its beginnings is one.
            prop_assert_eq!(parse(&octets[..length]), parse(&octets));
            prop_assert_eq!(parse(&octets[..length - 1]), Ok(None));
        }
    }

    #[test]
    fn what_is_written_is_read((client, server) in ends(), second: bool, more: Vec<u8>) {
        let version = if second { ProxyProtocol::V2 } else { ProxyProtocol::V1 };
        let header = write(version, client, server);
        prop_assert!(second || header.len() <= LONGEST_V1);
        let said = Said::Proxied { client, server };
        prop_assert_eq!(parse(&[&header[..], &more].concat()), Ok(Some((said, header.len()))));
        for length in 0..header.len() {
            prop_assert_eq!(parse(&header[..length]), Ok(None));
        }
    }
}
