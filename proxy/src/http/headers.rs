//! What is taken out of and put into header sections on their way through (RFC 9110 section 7.6.1).

use std::net::IpAddr;
use std::ops::Range;

use http::{HeaderName, HeaderValue, Version};
use sekisho_config::model::Prefix;
use smallvec::SmallVec;

use crate::fields::names::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, TE, TRAILER, UPGRADE,
};
use crate::fields::{Fields, Name, Value};
use crate::h1::chunked::is_claim;

const X_FORWARDED_FOR: Name<'static> = Name::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: Name<'static> = Name::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: Name<'static> = Name::from_static("x-forwarded-host");
const X_FORWARDED_PORT: Name<'static> = Name::from_static("x-forwarded-port");
const X_REAL_IP: Name<'static> = Name::from_static("x-real-ip");
const MAX_FORWARDS: Name<'static> = Name::from_static("max-forwards");
pub(crate) const X_REQUEST_ID: Name<'static> = Name::from_static("x-request-id");

pub(crate) fn tokens(value: Value<'_>) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|octet| *octet == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Whether Connection says `option`, in lower case.
pub(crate) fn connection_says(headers: &Fields, option: &[u8]) -> bool {
    headers
        .get_all(CONNECTION)
        .flat_map(tokens)
        .any(|token| token.eq_ignore_ascii_case(option))
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"transfer-encoding"
            | b"upgrade"
            | b"proxy-authenticate"
            | b"proxy-authorization"
    )
}

/// Removes the fields that are for one connection only, and those that Connection names.
/// Framing and Host are not Connection's to remove.
pub(crate) fn strip_hop_by_hop(headers: &mut Fields) {
    condemn(headers, is_hop_by_hop);
}

/// Takes out the fields that `is_out`, and those that Connection names. One look at each name costs less than a search for
/// each of those that might be there.
fn condemn(headers: &mut Fields, is_out: impl Fn(&[u8]) -> bool) {
    let spared = |token: &&[u8]| {
        [
            &b"keep-alive"[..],
            b"close",
            b"upgrade",
            b"host",
            b"content-length",
        ]
        .iter()
        .any(|spared| token.eq_ignore_ascii_case(spared))
    };
    let mut named: SmallVec<[HeaderName; 2]> = headers
        .get_all(CONNECTION)
        .flat_map(tokens)
        .filter(|token| !spared(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    // One line may name thousands, with which each of the others would be compared.
    let many = named.len() > FEW;
    if many {
        named.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    }
    let is_named = |name: Name<'_>| {
        if many {
            named
                .binary_search_by(|other| other.as_str().as_bytes().cmp(name.as_bytes()))
                .is_ok()
        } else {
            named.iter().any(|other| name == *other)
        }
    };
    headers.retain(|name, _| !is_out(name.as_bytes()) && !is_named(name));
}

/// Names that Connection may have before they are sorted.
const FEW: usize = 8;

/// The protocol that a request asks to change to, if it is one that may pass: HTTP itself and TLS are not, since both
/// sides would then speak past the box.
pub(crate) fn wanted_upgrade(version: Version, headers: &Fields) -> Option<HeaderValue> {
    let upgrade = headers.get(UPGRADE)?;
    if version != Version::HTTP_11 {
        return None;
    }
    let asked = connection_says(headers, b"upgrade");
    let mut values = headers.get_all(UPGRADE).flat_map(tokens);
    let forbidden = |token: &[u8]| {
        let name = token.split(|octet| *octet == b'/').next().unwrap_or(token);
        [&b"h2c"[..], b"h2", b"http", b"tls"]
            .iter()
            .any(|bad| name.eq_ignore_ascii_case(bad))
    };
    (asked && !values.any(forbidden)).then(|| upgrade.into())
}

/// What a request's forwarding headers are made from.
#[derive(Debug)]
pub(crate) struct Forwarding<'a> {
    /// The peer of the connection.
    pub(crate) peer: Value<'a>,
    /// What `Forwarded` says of the connection.
    pub(crate) element: Value<'a>,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// Port that the client connected to.
    pub(crate) port: &'a HeaderValue,
    /// Whether the peer's own forwarding headers are believed.
    pub(crate) trusted: bool,
    /// Host header.
    pub(crate) host: Option<&'a HeaderValue>,
}

/// Makes a request's header section fit for an endpoint. The order matters: what the client says of connections and of
/// itself goes out first, then ours goes in, so that a `Connection: x-forwarded-for` removes nothing of ours.
pub(crate) fn prepare_request(headers: &mut Fields, version: Version, forwarding: &Forwarding<'_>) {
    let trailers = headers
        .get_all(TE)
        .flat_map(tokens)
        .any(|token| token.eq_ignore_ascii_case(b"trailers"));
    condemn(headers, |name| {
        is_hop_by_hop(name)
            || matches!(name, b"te" | b"expect" | b"http2-settings")
            || is_suspect(name, forwarding.trusted)
    });
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if version >= Version::HTTP_2 {
        join_cookies(headers);
    }
    if let Some(host) = forwarding.host {
        // Where there is a Host header, it says the same.
        headers.or_insert(HOST, || host);
    }
    let peer = forwarding.peer;
    extend_list(headers, X_FORWARDED_FOR, peer);
    extend_list(headers, FORWARDED, forwarding.element);
    let ours = [
        (X_FORWARDED_PROTO, Some(Value::from_own(forwarding.scheme))),
        (X_FORWARDED_PORT, Some(forwarding.port.into())),
        (X_REAL_IP, Some(peer)),
        (X_FORWARDED_HOST, forwarding.host.map(Value::from)),
    ];
    for (name, value) in ours {
        // Of a peer that is not trusted there is none left.
        if let Some(value) = value
            && !(forwarding.trusted && headers.contains_key(name))
        {
            headers.append(name, value);
        }
    }
}

/// Counts an OPTIONS down on its way (RFC 9110 section 7.6.2). `true`: it goes no further than here.
pub(crate) fn is_last(headers: &mut Fields) -> bool {
    let Some(left) = headers
        .get(MAX_FORWARDS)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok())
    else {
        return false;
    };
    match left.checked_sub(1) {
        None => true,
        Some(left) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(left));
            false
        }
    }
}

/// Removes from a trailer section what must not come so late: framing, routing, authentication (RFC 9110 section 6.5.1).
pub(crate) fn clean_trailers(trailers: &mut Fields) {
    strip_hop_by_hop(trailers);
    let late = [HOST, CONTENT_LENGTH, TE, EXPECT, COOKIE, AUTHORIZATION, TRAILER];
    trailers.retain(|name, _| !late.contains(&name));
}

/// As [`clean_trailers`], of a request: what its header section must not have is not smuggled in behind the body.
pub(crate) fn clean_request_trailers(trailers: &mut Fields) {
    clean_trailers(trailers);
    trailers.retain(|name, _| !is_suspect(name.as_bytes(), false));
}

/// Puts `ours` behind what a list says already.
fn extend_list(headers: &mut Fields, name: Name<'_>, ours: Value<'_>) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        headers.append(name, ours);
    } else {
        list.extend_from_slice(ours.as_bytes());
        let list = HeaderValue::from_bytes(&list).unwrap_or_else(|_| ours.into());
        headers.insert(name, list);
    }
}

/// What is said of a connection's peer, in one piece: what stands in `Forwarded` (RFC 7239 section 4), and in it the
/// address.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    element: Box<str>,
    address: Range<u8>,
}

impl Said {
    /// An IPv6 address stands in brackets and quotes.
    pub(crate) fn new(peer: IpAddr, scheme: &str) -> Self {
        let (element, begin) = match peer {
            IpAddr::V4(v4) => (format!("for={v4};proto={scheme}"), 4),
            IpAddr::V6(v6) => (format!("for=\"[{v6}]\";proto={scheme}"), 6),
        };
        let end = element.find([';', ']']).and_then(|end| u8::try_from(end).ok());
        Self {
            address: begin..end.unwrap_or(begin),
            element: element.into(),
        }
    }

    /// The element of `Forwarded`, and the address alone.
    pub(crate) fn values(&self) -> (Value<'_>, Value<'_>) {
        let address = usize::from(self.address.start)..usize::from(self.address.end);
        let address = self.element.get(address).unwrap_or("unknown");
        (Value::from_own(&self.element), Value::from_own(address))
    }
}

/// Whether a name is to be dropped: one with an underscore, which some servers read as a dash and so as a header that was
/// removed; `Proxy`, which CGI programs take for their own setting (CVE-2016-5385); and, from peers that are not trusted,
/// everything that claims to come from a proxy.
fn is_suspect(name: &[u8], trusted: bool) -> bool {
    name.iter().any(|octet| matches!(octet, b'_' | b'"')) || name == b"proxy" || (!trusted && is_claim(name))
}

/// HTTP/2 may split Cookie into several fields; HTTP/1.1 must not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut Fields) {
    let cookies: SmallVec<[&[u8]; 4]> = headers.get_all(COOKIE).map(Value::as_bytes).collect();
    let joined = (cookies.len() > 1).then(|| HeaderValue::from_bytes(&cookies.join(&b"; "[..])));
    drop(cookies);
    if let Some(Ok(value)) = joined {
        headers.insert(COOKIE, value);
    }
}

/// The client as the log names it: the peer, or, behind trusted proxies, the last address that is not one of them.
pub(crate) fn client(headers: &Fields, peer: IpAddr, trusted: &[Prefix]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|prefix| prefix.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let lists: Vec<Value<'_>> = headers.get_all(X_FORWARDED_FOR).collect();
    for list in lists.into_iter().rev() {
        for token in list.as_bytes().rsplit(|octet| *octet == b',') {
            let Some(address) = std::str::from_utf8(token.trim_ascii())
                .ok()
                .and_then(|text| text.parse().ok())
            else {
                return client;
            };
            client = address;
            if !is_trusted(address) {
                return client;
            }
        }
    }
    client
}

/// Whether a trusted proxy says that the client came over TLS.
pub(crate) fn forwarded_over_tls(headers: &Fields) -> bool {
    let mut values = headers.get_all(X_FORWARDED_PROTO);
    let first = values.next();
    values.next().is_none() && first.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Whether a request id of a client is kept: short, and nothing that could confuse a log.
pub(crate) fn good_request_id(value: Value<'_>) -> bool {
    let text = value.as_bytes();
    (1..=128).contains(&text.len())
        && text
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:=+/".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Fields {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .fold(Fields::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn prepared(fields: &[(&str, &str)], version: Version, trusted: bool) -> Vec<String> {
        let mut headers = headers(fields);
        let port = HeaderValue::from_static("443");
        let host = HeaderValue::from_static("a.b");
        let said = Said::new("192.0.2.7".parse().unwrap(), "https");
        let (element, peer) = said.values();
        let forwarding = Forwarding {
            peer,
            element,
            scheme: "https",
            port: &port,
            trusted,
            host: Some(&host),
        };
        prepare_request(&mut headers, version, &forwarding);
        let ours = [
            "x-forwarded-proto: https",
            "forwarded: for=192.0.2.7;proto=https",
            "x-forwarded-port: 443",
            "x-forwarded-host: a.b",
            "host: a.b",
        ];
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.retain(|line| !ours.contains(&line.as_str()));
        lines.sort();
        lines
    }

    #[test]
    fn however_many_connection_names() {
        for count in [1, FEW, FEW + 1, 40] {
            let names: Vec<String> = (0..count).rev().map(|number| format!("X-{number}")).collect();
            let list = format!("{}, host, Standard, close", names.join(","));
            let mut all = headers(&[("host", "a.b"), ("x-kept", "1"), ("connection", &list)]);
            for name in &names {
                all.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_static("1"),
                );
            }
            strip_hop_by_hop(&mut all);
            let left: Vec<&str> = all.keys().map(Name::as_str).collect();
            assert_eq!(left, ["host", "x-kept"], "{count}");
        }
    }

    #[test]
    fn requests() {
        let ours = ["x-forwarded-for: 192.0.2.7", "x-real-ip: 192.0.2.7"];
        for (fields, version, trusted, want) in [
            (
                &[
                    ("connection", "close, X-Secret"),
                    ("x-secret", "1"),
                    ("keep-alive", "3"),
                ][..],
                Version::HTTP_11,
                false,
                &ours[..],
            ),
            (
                &[("connection", "x-forwarded-for, host")],
                Version::HTTP_11,
                false,
                &ours,
            ),
            (
                &[
                    ("x-forwarded-for", "6.6.6.6"),
                    ("x-forwarded-proto", "ftp"),
                    ("forwarded", "for=6.6.6.6"),
                    ("x-real-ip", "6.6.6.6"),
                ],
                Version::HTTP_11,
                false,
                &ours,
            ),
            (
                &[("x_forwarded_for", "6.6.6.6"), ("under_score", "1")],
                Version::HTTP_11,
                true,
                &ours,
            ),
            (
                &[("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "1.1.1.1")],
                Version::HTTP_11,
                true,
                &["x-forwarded-for: 1.1.1.1, 192.0.2.7", "x-real-ip: 1.1.1.1"],
            ),
            (
                &[("forwarded", "for=1.1.1.1"), ("forwarded", "for=_x")],
                Version::HTTP_11,
                true,
                &[
                    "forwarded: for=1.1.1.1, for=_x, for=192.0.2.7;proto=https",
                    ours[0],
                    ours[1],
                ],
            ),
            (
                &[
                    ("te", "gzip, trailers"),
                    ("upgrade", "h2c"),
                    ("http2-settings", "x"),
                    ("expect", "100-continue"),
                ],
                Version::HTTP_11,
                false,
                &["te: trailers", ours[0], ours[1]],
            ),
            (
                &[("cookie", "a=1"), ("cookie", "b=2")],
                Version::HTTP_2,
                false,
                &["cookie: a=1; b=2", ours[0], ours[1]],
            ),
        ] {
            assert_eq!(prepared(fields, version, trusted), want, "{fields:?}");
        }
    }

    #[test]
    fn elements() {
        for (address, want) in [
            ("192.0.2.7", "for=192.0.2.7;proto=http"),
            ("2001:db8::1", "for=\"[2001:db8::1]\";proto=http"),
        ] {
            let said = Said::new(address.parse().unwrap(), "http");
            let values = said.values();
            assert_eq!(
                (values.0, values.1),
                (Value::from_own(want), Value::from_own(address))
            );
        }
    }

    #[test]
    fn upgrades() {
        for (fields, want) in [
            (&[("connection", "Upgrade"), ("upgrade", "websocket")][..], true),
            (
                &[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")],
                true,
            ),
            (&[("upgrade", "websocket")], false),
            (&[("connection", "upgrade"), ("upgrade", "h2c")], false),
            (&[("connection", "upgrade"), ("upgrade", "websocket, h2c")], false),
            (&[("connection", "upgrade"), ("upgrade", "TLS/1.0")], false),
            (&[("connection", "upgrade"), ("upgrade", "HTTP/2.0")], false),
        ] {
            assert_eq!(
                wanted_upgrade(Version::HTTP_11, &headers(fields)).is_some(),
                want,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn clients() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (peer, list, want) in [
            ("192.0.2.1", "6.6.6.6", "192.0.2.1"),
            ("10.0.0.1", "6.6.6.6, 192.0.2.9", "192.0.2.9"),
            ("10.0.0.1", "192.0.2.9, 10.0.0.2", "192.0.2.9"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2"),
        ] {
            let headers = headers(&[("x-forwarded-for", list)]);
            assert_eq!(
                client(&headers, peer.parse().unwrap(), &trusted).to_string(),
                want,
                "{peer} {list}"
            );
        }
    }
}
