//! Nexthop objects as netlink messages (linux/nexthop.h); the crate that we use for routes does not know them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NlasIterator};

use super::PROTOCOL;
use super::objects::{IDS, Neighbour, Object};

pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Family, scope, protocol, reserved, flags.
const HEADER: usize = 8;

/// Appends a message of ours: header, then `body`.
pub(super) fn append(kind: u16, flags: u16, sequence: u32, body: &[u8], buffer: &mut Vec<u8>) {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    buffer.extend(length.to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    buffer.extend(sequence.to_ne_bytes());
    buffer.extend([0; 4]);
    buffer.extend(body);
    // Messages start at multiples of four.
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// Appends an attribute.
pub(super) fn attribute(kind: u16, value: &[u8], body: &mut Vec<u8>) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn octets(address: IpAddr, body: &mut Vec<u8>, kind: u16) {
    match address {
        IpAddr::V4(address) => attribute(kind, &address.octets(), body),
        IpAddr::V6(address) => attribute(kind, &address.octets(), body),
    }
}

/// Writes an object with one gateway, or another one in its place.
pub(super) fn gateway(id: u32, neighbour: &Neighbour, sequence: u32, ack: bool, buffer: &mut Vec<u8>) {
    let (via, interface) = neighbour;
    let family = if via.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut body = vec![family, 0, PROTOCOL, 0, 0, 0, 0, 0];
    attribute(NHA_ID, &id.to_ne_bytes(), &mut body);
    attribute(NHA_OIF, &interface.to_ne_bytes(), &mut body);
    octets(*via, &mut body, NHA_GATEWAY);
    append(
        RTM_NEWNEXTHOP,
        NLM_F_CREATE | NLM_F_REPLACE | flag(ack),
        sequence,
        &body,
        buffer,
    );
}

/// Writes a group, or other members of it.
pub(super) fn group(id: u32, members: &[(u32, u16)], sequence: u32, ack: bool, buffer: &mut Vec<u8>) {
    let mut body = vec![AF_UNSPEC, 0, PROTOCOL, 0, 0, 0, 0, 0];
    attribute(NHA_ID, &id.to_ne_bytes(), &mut body);
    let mut list = Vec::with_capacity(members.len() * 8);
    for (member, weight) in members {
        list.extend(member.to_ne_bytes());
        // One octet of weight less one, and reserved ones.
        let weight = u8::try_from(weight.saturating_sub(1)).unwrap_or(u8::MAX);
        list.extend([weight, 0, 0, 0]);
    }
    attribute(NHA_GROUP, &list, &mut body);
    append(
        RTM_NEWNEXTHOP,
        NLM_F_CREATE | NLM_F_REPLACE | flag(ack),
        sequence,
        &body,
        buffer,
    );
}

/// Removes an object, and every route that leads there.
pub(super) fn delete(id: u32, sequence: u32, ack: bool, buffer: &mut Vec<u8>) {
    let mut body = vec![0; HEADER];
    attribute(NHA_ID, &id.to_ne_bytes(), &mut body);
    append(RTM_DELNEXTHOP, flag(ack), sequence, &body, buffer);
}

/// Asks for all objects.
pub(super) fn dump(sequence: u32, buffer: &mut Vec<u8>) {
    append(RTM_GETNEXTHOP, NLM_F_DUMP, sequence, &[0; HEADER], buffer);
}

fn flag(ack: bool) -> u16 {
    if ack { NLM_F_ACK } else { 0 }
}

/// Reads an object, and whether it is ours by protocol and number.
pub(super) fn read(body: &[u8]) -> Option<(u32, Object, bool)> {
    let (header, attributes) = body.split_first_chunk::<HEADER>()?;
    let [_, _, protocol, ..] = *header;
    let (mut id, mut interface, mut via, mut members) = (None, None, None, None);
    for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
        let value: &[u8] = attribute.value();
        match attribute.kind() {
            NHA_ID => id = word(value),
            NHA_OIF => interface = word(value),
            NHA_GATEWAY => via = address(value),
            NHA_GROUP => {
                let (list, _) = value.as_chunks::<8>();
                let read = |[a, b, c, d, weight, ..]: &[u8; 8]| {
                    (u32::from_ne_bytes([*a, *b, *c, *d]), u16::from(*weight) + 1)
                };
                members = Some(list.iter().map(read).collect());
            }
            _ => {}
        }
    }
    let id = id?;
    let object = match (members, via, interface) {
        (Some(members), _, _) => Object::Group(members),
        (None, Some(via), Some(interface)) => Object::Gateway((via, interface)),
        (None, None, Some(interface)) => Object::Link(interface),
        _ => Object::Other,
    };
    Some((id, object, protocol == PROTOCOL && IDS.contains(&id)))
}

fn word(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from_octets(*value.first_chunk()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from_octets(*value.first_chunk()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        let id = *IDS.start() + 7;
        for via in ["10.0.0.1", "2001:db8::1", "fe80::1"] {
            let neighbour: Neighbour = (via.parse().unwrap(), 3);
            let mut buffer = Vec::new();
            gateway(id, &neighbour, 8, true, &mut buffer);
            assert_eq!(read(&buffer[16..]), Some((id, Object::Gateway(neighbour), true)));
        }
        let members = vec![(id, 1), (id + 1, 256), (id + 2, 128)];
        let mut buffer = Vec::new();
        group(id + 3, &members, 8, true, &mut buffer);
        assert_eq!(read(&buffer[16..]), Some((id + 3, Object::Group(members), true)));
    }

    #[test]
    fn what_is_not_ours_is_known_as_such() {
        for (id, protocol) in [(7, PROTOCOL), (*IDS.start(), 4), (*IDS.end() + 1, PROTOCOL)] {
            let mut body = vec![AF_INET, 0, protocol, 0, 0, 0, 0, 0];
            attribute(NHA_ID, &u32::to_ne_bytes(id), &mut body);
            attribute(NHA_OIF, &3u32.to_ne_bytes(), &mut body);
            attribute(NHA_GATEWAY, &[10, 0, 0, 1], &mut body);
            let want = (id, Object::Gateway(("10.0.0.1".parse().unwrap(), 3)), false);
            assert_eq!(read(&body), Some(want), "{id} {protocol}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&body);
        }
    }
}
