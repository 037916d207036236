//! The host that a request names: exactly one, said in one way (RFC 9112 section 3.2).

use std::borrow::Cow;

use http::uri::Authority;
use http::{HeaderValue, Uri, Version};

use crate::fields::Fields;
use crate::fields::names::HOST;

/// Why a request's host is refused (400).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadHost {
    #[error("the request has no Host header")]
    Missing,
    #[error("the request has more than one Host header")]
    Several,
    #[error("the request target and the Host header name different hosts")]
    Disagree,
    #[error("the host is not a DNS name or an address with an optional port")]
    Malformed,
}

/// Takes the host from the request target and the header: what is forwarded in the Host header. `None` only for
/// HTTP/1.0 without one. Whether it is a host at all is for [`name`] to say.
pub(crate) fn of(version: Version, uri: &Uri, headers: &Fields) -> Result<Option<HeaderValue>, BadHost> {
    let mut given = headers.get_all(HOST);
    let header = given.next();
    if given.next().is_some() {
        return Err(BadHost::Several);
    }
    match (uri.authority(), header) {
        (Some(authority), Some(header)) => {
            let same = header
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes());
            if same {
                Ok(Some(header.into()))
            } else {
                Err(BadHost::Disagree)
            }
        }
        (Some(_), None) if version == Version::HTTP_11 => Err(BadHost::Missing),
        (Some(authority), None) => from_authority(authority).map(Some),
        (None, Some(header)) => Ok(Some(header.into())),
        (None, None) if version <= Version::HTTP_10 => Ok(None),
        (None, None) => Err(BadHost::Missing),
    }
}

fn from_authority(authority: &Authority) -> Result<HeaderValue, BadHost> {
    HeaderValue::from_str(authority.as_str()).map_err(|_| BadHost::Malformed)
}

/// The DNS name in `name[:port]`, in lower case without a final dot; `None` for an address and for nothing.
pub(crate) fn name(text: &str) -> Result<Option<Cow<'_, str>>, BadHost> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(BadHost::Malformed)?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| BadHost::Malformed)?;
            let port = if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':').ok_or(BadHost::Malformed)?)
            };
            (None, port)
        }
        None => match text.bytes().position(|octet| octet == b':') {
            Some(colon) => (text.get(..colon), text.get(colon + 1..)),
            None => (Some(text), None),
        },
    };
    if let Some(port) = port {
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        if !digits || (!port.is_empty() && port.parse::<u16>().is_err()) {
            return Err(BadHost::Malformed);
        }
    }
    let Some(host) = host else { return Ok(None) };
    if host.is_empty() {
        return if port.is_none() {
            Ok(None)
        } else {
            Err(BadHost::Malformed)
        };
    }
    // An address ends with a digit; most names do not.
    if host.ends_with(|last: char| last.is_ascii_digit()) && host.parse::<std::net::Ipv4Addr>().is_ok() {
        return Ok(None);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 253 {
        return Err(BadHost::Malformed);
    }
    // Where the label in hand begins, and what stands before the octet in hand.
    let (mut label, mut before, mut upper) = (0, b'.', false);
    // Labels have 1 to 63 octets, and no hyphen at an end.
    let ends = |label: usize, end: usize, before: u8| !matches!(before, b'.' | b'-') && end - label <= 63;
    for (place, octet) in host.bytes().enumerate() {
        match octet {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => {}
            b'.' if ends(label, place, before) => label = place + 1,
            b'-' if before != b'.' => {}
            b'A'..=b'Z' => upper = true,
            _ => return Err(BadHost::Malformed),
        }
        before = octet;
    }
    if !ends(label, host.len(), before) {
        return Err(BadHost::Malformed);
    }
    Ok(Some(if upper {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (input, want) in [
            ("a.b", Ok(Some("a.b"))),
            ("A.b:8443", Ok(Some("a.b"))),
            ("a.b.", Ok(Some("a.b"))),
            ("a.b:", Ok(Some("a.b"))),
            ("", Ok(None)),
            ("192.0.2.1:80", Ok(None)),
            ("[2001:db8::1]", Ok(None)),
            ("[2001:db8::1]:80", Ok(None)),
            (":80", Err(BadHost::Malformed)),
            ("a.b:http", Err(BadHost::Malformed)),
            ("a.b:99999", Err(BadHost::Malformed)),
            ("a.b:80:80", Err(BadHost::Malformed)),
            ("a b", Err(BadHost::Malformed)),
            ("a/b", Err(BadHost::Malformed)),
            ("u@a", Err(BadHost::Malformed)),
            ("a,b", Err(BadHost::Malformed)),
            ("a..b", Err(BadHost::Malformed)),
            ("[::1", Err(BadHost::Malformed)),
            ("[::1]x", Err(BadHost::Malformed)),
            ("2001:db8::1", Err(BadHost::Malformed)),
            ("a-1.b_c", Ok(Some("a-1.b_c"))),
            ("a.1", Ok(Some("a.1"))),
            ("-a.b", Err(BadHost::Malformed)),
            ("a-.b", Err(BadHost::Malformed)),
            ("a.-b", Err(BadHost::Malformed)),
            ("a.b-", Err(BadHost::Malformed)),
            (".", Err(BadHost::Malformed)),
            (".a", Err(BadHost::Malformed)),
        ] {
            assert_eq!(
                name(input).map(|n| n.map(Cow::into_owned)),
                want.map(|n| n.map(str::to_owned)),
                "{input:?}"
            );
        }
    }

    #[test]
    fn lengths() {
        for (label, good) in [(63, true), (64, false)] {
            let label = "a".repeat(label);
            for host in [label.clone(), format!("{label}.b"), format!("b.{label}")] {
                assert_eq!(name(&host).is_ok(), good, "{host}");
            }
        }
        assert!(name(&"a.".repeat(126)).is_ok() && name(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn agreement() {
        let header = |hosts: &[&str]| {
            let mut headers = Fields::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_str(host).unwrap());
            }
            headers
        };
        for (version, target, hosts, want) in [
            (Version::HTTP_11, "/", &["a.b"][..], Ok(Some("a.b"))),
            (Version::HTTP_11, "/", &[], Err(BadHost::Missing)),
            (Version::HTTP_10, "/", &[], Ok(None)),
            (Version::HTTP_11, "/", &["a.b", "a.b"], Err(BadHost::Several)),
            (Version::HTTP_11, "http://a.b/", &["A.B"], Ok(Some("a.b"))),
            (Version::HTTP_11, "http://a.b/", &["c.d"], Err(BadHost::Disagree)),
            (Version::HTTP_11, "http://a.b/", &[], Err(BadHost::Missing)),
            (
                Version::HTTP_11,
                "http://u@a.b/",
                &["u@a.b"],
                Err(BadHost::Malformed),
            ),
            (Version::HTTP_2, "https://a.b/", &[], Ok(Some("a.b"))),
            (Version::HTTP_2, "https://a.b/", &["c.d"], Err(BadHost::Disagree)),
            (Version::HTTP_2, "/", &[], Err(BadHost::Missing)),
        ] {
            let got = of(version, &target.parse().unwrap(), &header(hosts)).and_then(|value| {
                let Some(value) = value else { return Ok(None) };
                name(value.to_str().unwrap()).map(|name| name.map(Cow::into_owned))
            });
            assert_eq!(
                got,
                want.map(|name| name.map(str::to_owned)),
                "{version:?} {target} {hosts:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_safe(text: String) {
            if let Ok(Some(name)) = name(&text) {
                proptest::prop_assert!(name.parse::<sekisho_config::model::HostName>().is_ok(), "{}", name);
            }
        }
    }
}
