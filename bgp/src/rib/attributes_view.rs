use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::wire::{Attributes, RawAttribute};

/// The attributes of a path that take no part in most decisions, as people read them.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct MoreAttributes {
    /// ORIGINATOR_ID: who said it first inside the AS (RFC 4456).
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST: the route reflectors it came through, nearest first.
    pub cluster_list: Vec<Ipv4Addr>,
    /// AGGREGATOR: AS and identifier.
    pub aggregator: Option<String>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// Attributes that we do not know: type, flags and value, in hexadecimal digits.
    pub unknown_attributes: Vec<String>,
}

impl From<&Attributes> for MoreAttributes {
    fn from(attributes: &Attributes) -> Self {
        Self {
            originator_id: attributes.originator_id,
            cluster_list: attributes.cluster_list.clone(),
            aggregator: attributes
                .aggregator
                .map(|aggregator| format!("AS {} {}", aggregator.asn, aggregator.router_id)),
            atomic_aggregate: attributes.atomic_aggregate,
            unknown_attributes: attributes.unknown.iter().map(unknown).collect(),
        }
    }
}

/// Octets of an unknown attribute that are shown.
const SHOWN: usize = 64;

fn unknown(attribute: &RawAttribute) -> String {
    let mut text = format!("type {} flags 0x{:02x}: ", attribute.code, attribute.flags);
    for octet in attribute.value.iter().take(SHOWN) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    match attribute.value.len().saturating_sub(SHOWN) {
        0 => {}
        more => drop(write!(text, " and {more} octets more")),
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::Aggregator;

    #[test]
    fn what_is_there_is_shown() {
        let attributes = Attributes {
            originator_id: Some(Ipv4Addr::new(10, 0, 0, 1)),
            cluster_list: vec![Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(2, 2, 2, 2)],
            aggregator: Some(Aggregator {
                asn: 65000,
                router_id: Ipv4Addr::new(10, 0, 0, 9),
            }),
            atomic_aggregate: true,
            unknown: vec![
                RawAttribute {
                    flags: 0xc0,
                    code: 99,
                    value: Bytes::from_static(&[1, 0xfe]),
                },
                RawAttribute {
                    flags: 0xe0,
                    code: 100,
                    value: Bytes::from(vec![0; 70]),
                },
            ],
            ..Attributes::default()
        };
        let got = MoreAttributes::from(&attributes);
        assert_eq!(got.aggregator.as_deref(), Some("AS 65000 10.0.0.9"));
        assert_eq!(got.cluster_list.len(), 2);
        assert_eq!(got.unknown_attributes[0], "type 99 flags 0xc0: 01fe");
        assert!(got.unknown_attributes[1].ends_with("00 and 6 octets more"));
        assert_eq!(
            MoreAttributes::from(&Attributes::default()),
            MoreAttributes::default()
        );
    }
}
