//! Tests of the wire layer as a whole: octets in, octets out.

mod headers;
mod hostile;
mod negotiation;
mod opens;
mod oracle;
mod properties;
mod round_trip;
mod updates;

use std::net::{IpAddr, Ipv6Addr};

use bytes::BytesMut;
use sekisho_config::model::Prefix;

use super::*;

/// Octets from hexadecimal; spaces are for the eye.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "{text}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|_| panic!("{text}")))
        .collect()
}

/// A whole message: marker, length, type, body.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend(u16::try_from(body.len() + 19).unwrap().to_be_bytes());
    octets.push(kind);
    octets.extend(body);
    octets
}

/// Frames and decodes exactly one message.
pub(super) fn read(octets: &[u8], negotiated: &Negotiated) -> Result<Message, WireError> {
    let mut buffer = BytesMut::from(octets);
    let frame = frame(&mut buffer, negotiated)?.expect("a whole message");
    assert!(buffer.is_empty(), "octets left over");
    decode(&frame, negotiated)
}

/// An iBGP connection like those of Calico nodes, but with both families.
pub(super) fn internal() -> Negotiated {
    Negotiated {
        internal: true,
        four_octet_as: true,
        families: Families::ALL,
        route_refresh: true,
        enhanced_route_refresh: true,
        ..Negotiated::default()
    }
}

/// The same with another AS.
pub(super) fn external() -> Negotiated {
    Negotiated {
        internal: false,
        ..internal()
    }
}

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

pub(super) fn nlri(text: &str) -> Nlri {
    Nlri {
        path_id: None,
        prefix: prefix(text),
    }
}

pub(super) fn via(text: &str) -> NextHop {
    NextHop {
        address: text.parse::<IpAddr>().unwrap_or_else(|_| panic!("{text}")),
        link_local: None,
    }
}

pub(super) fn link_local(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number)
}
