//! The language of the tables: hexadecimal with some words.
//!
//! - `update W | A | N`: an UPDATE with withdrawn routes, attributes and NLRI; both lengths are put in.
//! - `type T BODY`: a message of this type; marker and length are put in. `raw OCTETS`: nothing is put in.
//! - `open BODY`: the same as `type 01`.
//! - `A ; B`: one after the other.
//! - `flags:code:value`: an attribute, its length put in (two octets with flag 10). Parts of a value are joined by `+`.
//! - `cap:code:value`: a capability. `params(…)`: a parameter of these capabilities, and the length of all parameters.
//! - `x*N`: a part N times.
//! - Words: see [`word`].

use std::net::Ipv4Addr;

use super::Kind;

/// What belongs to one case alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

impl Place {
    pub(super) fn new(number: usize) -> Self {
        Self(number)
    }

    fn octets(self) -> [u8; 2] {
        u16::try_from(self.0).unwrap().to_be_bytes()
    }

    /// Where the peer is.
    pub(super) fn address(self) -> Ipv4Addr {
        let [high, low] = self.octets();
        Ipv4Addr::new(127, 10 + high, 1, low)
    }

    /// The prefix that the case is about.
    pub(super) fn prefix(self) -> String {
        let [high, low] = self.octets();
        format!("198.{}.{low}.0/24", 18 + high)
    }

    /// The same for IPv6.
    pub(super) fn prefix6(self) -> String {
        format!("2001:db8:{:x}::/48", self.0 + 1)
    }

    /// What is announced last.
    pub(super) fn sentinel(self) -> String {
        let [high, low] = self.octets();
        format!("203.{high}.{low}.0/24")
    }
}

/// A word of the tables.
fn word(word: &str, kind: Kind, place: Place) -> Option<String> {
    let [high, low] = place.octets();
    let internal = kind.internal();
    Some(match word {
        "ORIGIN" => "40010100".into(),
        // The peer's AS.
        "PATH" => match (internal, kind.wide()) {
            (true, true) => "40020602010000fde8".into(),
            (false, true) => "40020602010000fde9".into(),
            (true, false) => "4002040201fde8".into(),
            (false, false) => "4002040201fde9".into(),
        },
        "HOP" => "400304c0000201".into(),
        "BASE" => ["ORIGIN", "PATH", "HOP"]
            .iter()
            .filter_map(|part| self::word(part, kind, place))
            .collect(),
        // The case's prefix, and as IPv6.
        "P" => format!("18c6{:02x}{low:02x}", 18 + high),
        "Q" => format!("3020010db8{:04x}", place.0 + 1),
        // The last word of the case.
        "SENTINEL" => format!("18cb{high:02x}{low:02x}"),
        "HOP6" => "20010db8000000000000000000000001".into(),
        "REACH" => attribute(
            "80",
            "0e",
            &format!(
                "000201{}{}00{}",
                "10",
                "20010db8000000000000000000000001",
                self::word("Q", kind, place)?
            ),
        ),
        "UNREACH" => attribute("80", "0f", &format!("000201{}", self::word("Q", kind, place)?)),
        "MARKER" => "ff".repeat(16),
        _ => return None,
    })
}

/// The octets that a text stands for.
pub(super) fn octets(text: &str, kind: Kind, place: Place) -> Vec<u8> {
    text.split(';')
        .flat_map(|one| message(one.trim(), kind, place))
        .collect()
}

fn message(text: &str, kind: Kind, place: Place) -> Vec<u8> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    match verb {
        "raw" => bytes(rest, kind, place),
        "open" => whole(1, &bytes(rest, kind, place)),
        "type" => {
            let (number, body) = rest.split_once(' ').unwrap_or((rest, ""));
            whole(u8::from_str_radix(number, 16).unwrap(), &bytes(body, kind, place))
        }
        "update" => {
            let parts: Vec<_> = rest.split('|').map(|part| bytes(part, kind, place)).collect();
            let [withdrawn, attributes, nlri] = &parts[..] else {
                panic!("{text}: three parts");
            };
            let counted =
                |part: &[u8]| [&u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat();
            whole(
                2,
                &[counted(withdrawn), counted(attributes), nlri.clone()].concat(),
            )
        }
        _ => panic!("{text}: no such verb"),
    }
}

/// Marker, length, type, body.
pub(super) fn whole(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap().to_be_bytes();
    [&[0xff; 16][..], &length, &[number], body].concat()
}

/// Hexadecimal digits and words.
pub(super) fn bytes(text: &str, kind: Kind, place: Place) -> Vec<u8> {
    let digits: String = text
        .split_whitespace()
        .map(|part| digits(part, kind, place))
        .collect();
    assert!(digits.len().is_multiple_of(2), "{text}: {digits}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|_| panic!("{text}")))
        .collect()
}

fn digits(part: &str, kind: Kind, place: Place) -> String {
    if let Some(inner) = part
        .strip_prefix("params(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        let inner: String = inner.split(',').map(|one| digits(one, kind, place)).collect();
        return format!("{:02x}02{:02x}{inner}", inner.len() / 2 + 2, inner.len() / 2);
    }
    if let [first, code, value] = &part.split(':').collect::<Vec<_>>()[..] {
        let value: String = value.split('+').map(|one| digits(one, kind, place)).collect();
        return if *first == "cap" {
            format!("{code}{:02x}{value}", value.len() / 2)
        } else {
            attribute(first, code, &value)
        };
    }
    if let Some((one, times)) = part.split_once('*') {
        return digits(one, kind, place).repeat(times.parse().unwrap());
    }
    word(part, kind, place).unwrap_or_else(|| part.to_owned())
}

fn attribute(flags: &str, code: &str, value: &str) -> String {
    let length = value.len() / 2;
    if u8::from_str_radix(flags, 16).unwrap() & 0x10 == 0 {
        format!("{flags}{code}{length:02x}{value}")
    } else {
        format!("{flags}{code}{length:04x}{value}")
    }
}
