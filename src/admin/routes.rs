//! What is asked for with `/api/v1/routes?…`.

use sekisho_bgp::rib::{Relation, RouteQuery};
use sekisho_bgp::wire::Family;
use sekisho_config::model::{PeerName, Prefix};

use super::api::{Refused, parameter};

/// Rows of one answer: the table's owner does nothing else while it makes them.
const LARGEST_PAGE: usize = 10_000;

/// `prefix`, `match`, `peer`, `family`, `best`, `after`, `limit`.
pub(super) fn query(query: &str) -> Result<RouteQuery, Refused> {
    let prefix = |text: &str| {
        text.parse::<Prefix>()
            .map_err(|error| Refused::bad(error.to_string()))
    };
    let relation = parameter(query, "match")?;
    let asked = match parameter(query, "prefix")? {
        None if relation.is_some() => return Err(Refused::bad("match needs a prefix")),
        None => None,
        Some(text) => {
            let relation = match relation.as_deref() {
                // An address stands for what leads to it.
                None if !text.contains('/') => Relation::Covering,
                None | Some("exact") => Relation::Exact,
                Some("longer") => Relation::Longer,
                Some("covering") => Relation::Covering,
                Some("longest") => Relation::LongestMatch,
                Some(_) => return Err(Refused::bad("match is exact, longer, covering or longest")),
            };
            Some((relation, prefix(&text)?))
        }
    };
    let family = match parameter(query, "family")?.as_deref() {
        None => None,
        Some("ipv4") => Some(Family::Ipv4Unicast),
        Some("ipv6") => Some(Family::Ipv6Unicast),
        Some(_) => return Err(Refused::bad("family is ipv4 or ipv6")),
    };
    let peer = match parameter(query, "peer")? {
        None => None,
        Some(name) => Some(
            name.parse::<PeerName>()
                .map_err(|error| Refused::bad(error.to_string()))?,
        ),
    };
    let limit = match parameter(query, "limit")? {
        None => LARGEST_PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LARGEST_PAGE).contains(limit))
            .ok_or_else(|| Refused::bad(format!("limit is a number from 1 to {LARGEST_PAGE}")))?,
    };
    let after = match parameter(query, "after")? {
        None => None,
        Some(text) => Some(prefix(&text)?),
    };
    Ok(RouteQuery {
        prefix: asked,
        peer,
        family,
        best: truth(query, "best")?,
        after,
        limit,
    })
}

/// `true` or `false`; absent is `false`.
pub(super) fn truth(query: &str, key: &str) -> Result<bool, Refused> {
    match parameter(query, key)?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refused::bad(format!("{key} is true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let read = |text: &str| query(text).map_err(|refused| refused.why);
        assert_eq!(read(""), Ok(RouteQuery::default()));
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        for (text, want) in [
            ("prefix=10.0.0.0%2F8", (Relation::Exact, prefix("10.0.0.0/8"))),
            ("prefix=10.0.0.1", (Relation::Covering, prefix("10.0.0.1/32"))),
            (
                "prefix=10.0.0.1&match=longest",
                (Relation::LongestMatch, prefix("10.0.0.1/32")),
            ),
            (
                "prefix=2001:db8::/32&match=longer",
                (Relation::Longer, prefix("2001:db8::/32")),
            ),
        ] {
            assert_eq!(read(text).unwrap().prefix, Some(want), "{text}");
        }
        let got = read("peer=tor-1&family=ipv6&best=true&after=10.0.0.0/8&limit=7").unwrap();
        assert_eq!(
            (got.peer.unwrap().as_str(), got.family),
            ("tor-1", Some(Family::Ipv6Unicast))
        );
        assert_eq!(
            (got.best, got.after, got.limit),
            (true, Some(prefix("10.0.0.0/8")), 7)
        );
        for bad in [
            "prefix=x",
            "match=exact",
            "prefix=10.0.0.0/8&match=near",
            "family=ipv5",
            "peer=a b",
            "limit=0",
            "limit=10001",
            "best=maybe",
            "after=x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
