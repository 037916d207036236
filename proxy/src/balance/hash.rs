//! The number that stands for a client in consistent hashing. Every box makes the same of the same request, so that a
//! connection that lands on another box still finds the same pod.

use std::net::IpAddr;

use http::{HeaderName, Uri};
use sekisho_config::model::HashBy;

use crate::fields::Fields;
use crate::fields::names::COOKIE;

/// FNV-1a with a last mix (the finaliser of splitmix64): small, the same on every machine and in every version.
pub(crate) fn of(octets: &[u8]) -> u64 {
    seeded(0, octets)
}

pub(crate) fn seeded(seed: u64, octets: &[u8]) -> u64 {
    let mut state = 0xCBF2_9CE4_8422_2325 ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for octet in octets {
        state = (state ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    mix(state)
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The number of a client's address; an IPv4 address in IPv6 clothing counts as what it is.
pub(crate) fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => of(&address.octets()),
        IpAddr::V6(address) => of(&address.octets()),
    }
}

/// The number of a request; `None` when it does not have what is hashed.
pub(crate) fn of_request(by: &HashBy, client: IpAddr, headers: &Fields, uri: &Uri) -> Option<u64> {
    match by {
        HashBy::Address => Some(of_address(client)),
        HashBy::Header(name) => {
            let name: &str = name;
            let value = match HeaderName::try_from(name) {
                Ok(name) => headers.get(name),
                Err(_) => None,
            };
            value.map(|value| of(value.as_bytes()))
        }
        HashBy::Cookie(name) => cookie(headers, name).map(of),
        HashBy::Query(name) => {
            let mut pairs = uri.query()?.split('&');
            pairs
                .find_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (key == &**name).then_some(value)
                })
                .map(|value| of(value.as_bytes()))
        }
        HashBy::Path => Some(of(uri.path().as_bytes())),
    }
}

/// The value of the first cookie of that name (RFC 6265 section 4.2.1), without quotes.
pub(crate) fn cookie<'a>(headers: &'a Fields, name: &str) -> Option<&'a [u8]> {
    for field in headers.get_all(COOKIE) {
        for pair in field.as_bytes().split(|octet| *octet == b';') {
            let pair = pair.trim_ascii();
            let Some(value) = pair
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
            else {
                continue;
            };
            let quoted = value
                .strip_prefix(b"\"")
                .and_then(|rest| rest.strip_suffix(b"\""));
            return Some(quoted.unwrap_or(value));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Another version of the box has to come to the same number.
    #[test]
    fn numbers_are_fixed_for_ever() {
        assert_eq!(of(b""), 0xF52A_15E9_A9B5_E89B);
        assert_eq!(of(b"client"), of(b"client"));
        assert_ne!(of(b"client"), of(b"clienu"));
        assert_eq!(
            of_address("::ffff:192.0.2.1".parse().unwrap()),
            of_address("192.0.2.1".parse().unwrap())
        );
    }

    #[test]
    fn what_is_hashed_is_found() {
        let mut headers = Fields::new();
        headers.append(
            http::HeaderName::from_static("cookie"),
            HeaderValue::from_static("a=1; b=2"),
        );
        headers.append(
            http::HeaderName::from_static("cookie"),
            HeaderValue::from_static("c=\"3\";d="),
        );
        headers.insert(
            http::HeaderName::from_static("x-user"),
            HeaderValue::from_static("tanaka"),
        );
        let uri: Uri = "/shop/x?id=7&flag&q=a=b".parse().unwrap();
        let client = "192.0.2.1".parse().unwrap();
        let number = |by: HashBy| of_request(&by, client, &headers, &uri);
        for (by, want) in [
            (HashBy::Cookie("a".into()), Some(&b"1"[..])),
            (HashBy::Cookie("b".into()), Some(b"2")),
            (HashBy::Cookie("c".into()), Some(b"3")),
            (HashBy::Cookie("d".into()), Some(b"")),
            (HashBy::Cookie("e".into()), None),
            (HashBy::Header("x-user".into()), Some(b"tanaka")),
            (HashBy::Header("x-other".into()), None),
            (HashBy::Header("not a name".into()), None),
            (HashBy::Query("id".into()), Some(b"7")),
            (HashBy::Query("flag".into()), Some(b"")),
            (HashBy::Query("q".into()), Some(b"a=b")),
            (HashBy::Query("i".into()), None),
            (HashBy::Path, Some(b"/shop/x")),
        ] {
            assert_eq!(number(by.clone()), want.map(of), "{by:?}");
        }
        assert_eq!(number(HashBy::Address), Some(of(&[192, 0, 2, 1])));
    }
}
