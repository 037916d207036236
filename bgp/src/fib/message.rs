//! Routes and links as netlink messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use sekisho_config::model::Prefix;

use super::nexthop::{self, RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use super::objects::{IDS, Object};
use super::planner::{Key, LOCAL_TABLE, Op, Target};
use super::{METRIC, PROTOCOL};
use crate::rib::Gateway;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLM_F_DUMP_INTR: u16 = 0x10;
const HEADER: usize = 16;
const NLMSGERR_ATTR_MSG: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;

/// What the kernel said in one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Said {
    Link(Link),
    LinkGone(u32),
    Route(Route),
    RouteGone(Route),
    /// A nexthop object, and whether it is ours.
    Object(u32, Object, bool),
    ObjectGone(u32),
    /// End of a dump, with the error that ended it.
    DumpDone,
    /// The answer to a request; 0 is success.
    Answer {
        errno: i32,
        text: Option<String>,
    },
}

/// One message with what matters of its header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Heard {
    pub(super) sequence: u32,
    /// Port of the socket that caused it.
    pub(super) port: u32,
    /// The dump it belongs to is not of one moment.
    pub(super) interrupted: bool,
    pub(super) said: Option<Said>,
}

/// A link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: Arc<str>,
    /// Up, with carrier.
    pub(super) up: bool,
    pub(super) loopback: bool,
}

/// A route of the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Route {
    pub(super) table: u32,
    pub(super) prefix: Prefix,
    pub(super) protocol: u8,
    pub(super) metric: u32,
    pub(super) kind: Kind,
    /// Neighbour (none: destinations are on the link itself) and interface.
    pub(super) next_hops: Vec<(Option<IpAddr>, u32)>,
    /// The share of each of them, where there are several.
    pub(super) weights: Vec<u16>,
    /// The nexthop object that it leads to.
    pub(super) object: Option<u32>,
    /// The event says that this route took the place of another.
    pub(super) replaces: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Unicast,
    Local,
    /// Blackhole, unreachable, prohibit.
    Reject,
    Other,
}

impl Route {
    /// Whether it is one that we (or an earlier process) wrote.
    pub(super) fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }

    pub(super) fn key(&self) -> Key {
        Key {
            table: self.table,
            prefix: self.prefix,
        }
    }

    pub(super) fn target(&self) -> Target {
        let weights = self.weights.iter().copied().chain(std::iter::repeat(1));
        let gateways: Option<Vec<Gateway>> = self
            .next_hops
            .iter()
            .zip(weights)
            .map(|((via, interface), weight)| {
                Some(Gateway {
                    via: (*via)?,
                    interface: *interface,
                    weight,
                })
            })
            .collect();
        match (self.kind, gateways) {
            _ if self.metric != METRIC => Target::Foreign,
            _ if self.object.is_some() => match self.object {
                Some(id) if self.kind == Kind::Unicast && IDS.contains(&id) => Target::Object(id),
                _ => Target::Foreign,
            },
            (Kind::Local, _) => Target::Local,
            (Kind::Reject, _) if self.table == LOCAL_TABLE => Target::Unreachable,
            (Kind::Unicast, Some(mut gateways)) if !gateways.is_empty() => {
                gateways.sort_unstable();
                gateways.dedup();
                Target::Via(gateways.into())
            }
            _ => Target::Foreign,
        }
    }
}

/// Appends the message for one operation; only the last of several has to be answered where all goes well. `loopback` is the index
/// of `lo`.
pub(super) fn write(op: &Op, loopback: u32, sequence: u32, ack: bool, buffer: &mut Vec<u8>) {
    let key = match op {
        Op::Replace(key, Target::Object(id)) => return by_object(key, *id, sequence, ack, buffer),
        Op::Replace(key, _) | Op::Delete(key) => key,
        Op::Gateway(id, neighbour) => return nexthop::gateway(*id, neighbour, sequence, ack, buffer),
        Op::Group(id, members) => return nexthop::group(*id, members, sequence, ack, buffer),
        Op::DeleteObject(id) => return nexthop::delete(*id, sequence, ack, buffer),
    };
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: if key.prefix.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        destination_prefix_length: key.prefix.length(),
        // Tables beyond one octet are in the attribute alone.
        table: u8::try_from(key.table).unwrap_or_default(),
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    route.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(key.prefix.address())),
        RouteAttribute::Table(key.table),
        RouteAttribute::Priority(METRIC),
    ];
    let (message, flags) = match op {
        Op::Replace(_, target) => {
            match target {
                Target::Via(gateways) => route.attributes.extend(via(gateways, key.prefix.is_ipv4())),
                Target::Unreachable => route.header.kind = RouteType::Unreachable,
                Target::Local | Target::Foreign | Target::Object(_) => {
                    route.header.kind = RouteType::Local;
                    route.header.scope = RouteScope::Host;
                    route.attributes.push(RouteAttribute::Oif(loopback));
                }
            }
            (RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
        }
        Op::Delete(_) => {
            // Whatever it leads to: number, table, prefix and metric say which.
            route.header.kind = RouteType::Unspec;
            route.header.scope = RouteScope::NoWhere;
            (RouteNetlinkMessage::DelRoute(route), 0)
        }
        Op::Gateway(..) | Op::Group(..) | Op::DeleteObject(_) => return,
    };
    let ack = if ack { NLM_F_ACK } else { 0 };
    append(message, flags | ack, sequence, buffer);
}

/// A route to a nexthop object: there may be a million of them, so it is put together by hand.
fn by_object(key: &Key, id: u32, sequence: u32, ack: bool, buffer: &mut Vec<u8>) {
    const RTA_DST: u16 = 1;
    const RTA_PRIORITY: u16 = 6;
    const RTA_TABLE: u16 = 15;
    const RTA_NH_ID: u16 = 30;
    const RTN_UNICAST: u8 = 1;
    let table = u8::try_from(key.table).unwrap_or_default();
    let family = if key.prefix.is_ipv4() { 2 } else { 10 };
    let mut body: smallvec::SmallVec<[u8; 64]> = smallvec::SmallVec::new();
    body.extend([
        family,
        key.prefix.length(),
        0,
        0,
        table,
        PROTOCOL,
        0,
        RTN_UNICAST,
        0,
        0,
        0,
        0,
    ]);
    let mut put = |kind: u16, value: &[u8]| {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend_from_slice(value);
    };
    match key.prefix.address() {
        IpAddr::V4(address) => put(RTA_DST, &address.octets()),
        IpAddr::V6(address) => put(RTA_DST, &address.octets()),
    }
    // Others stand in the header.
    if table == 0 {
        put(RTA_TABLE, &key.table.to_ne_bytes());
    }
    put(RTA_PRIORITY, &METRIC.to_ne_bytes());
    put(RTA_NH_ID, &id.to_ne_bytes());
    let ack = if ack { NLM_F_ACK } else { 0 };
    let flags = NLM_F_CREATE | NLM_F_REPLACE | ack;
    nexthop::append(RTM_NEWROUTE, flags, sequence, &body, buffer);
}

fn via(gateways: &[Gateway], ipv4: bool) -> Vec<RouteAttribute> {
    match gateways {
        [only] => vec![neighbour(only.via, ipv4), RouteAttribute::Oif(only.interface)],
        several => {
            let hops = several.iter().map(|gateway| {
                let mut hop = RouteNextHop::default();
                hop.interface_index = gateway.interface;
                // The kernel counts from 0.
                hop.hops = u8::try_from(gateway.weight.saturating_sub(1)).unwrap_or(u8::MAX);
                hop.attributes = vec![neighbour(gateway.via, ipv4)];
                hop
            });
            vec![RouteAttribute::MultiPath(hops.collect())]
        }
    }
}

fn neighbour(via: IpAddr, ipv4: bool) -> RouteAttribute {
    match via {
        // An IPv4 prefix behind an IPv6 neighbour (RFC 8950).
        IpAddr::V6(via) if ipv4 => RouteAttribute::Via(RouteVia::Inet6(via)),
        via => RouteAttribute::Gateway(RouteAddress::from(via)),
    }
}

/// Appends a request for all links.
pub(super) fn dump_links(sequence: u32, buffer: &mut Vec<u8>) {
    append(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        NLM_F_DUMP,
        sequence,
        buffer,
    );
}

/// Appends a request for all routes of one family, in all tables.
pub(super) fn dump_routes(ipv4: bool, sequence: u32, buffer: &mut Vec<u8>) {
    let mut route = RouteMessage::default();
    route.header.address_family = if ipv4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    append(RouteNetlinkMessage::GetRoute(route), NLM_F_DUMP, sequence, buffer);
}

fn append(message: RouteNetlinkMessage, flags: u16, sequence: u32, buffer: &mut Vec<u8>) {
    let mut header = NetlinkHeader::default();
    header.flags = flags | NLM_F_REQUEST;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = buffer.len();
    // Messages start at multiples of four.
    buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
    if let Some(place) = buffer.get_mut(start..start + message.buffer_len()) {
        message.serialize(place);
    }
}

/// Reads the messages of one datagram. Stops at the first that is cut short.
pub(super) fn read(mut datagram: &[u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let Some((header, rest)) = datagram.split_at_checked(HEADER) {
        let word = |at: usize| {
            header
                .get(at..at + 4)
                .and_then(|octets| octets.try_into().ok())
                .map(u32::from_ne_bytes)
        };
        let half = |at: usize| {
            header
                .get(at..at + 2)
                .and_then(|octets| octets.try_into().ok())
                .map(u16::from_ne_bytes)
        };
        let (Some(length), Some(kind), Some(flags), Some(sequence), Some(port)) =
            (word(0), half(4), half(6), word(8), word(12))
        else {
            break;
        };
        let length = length as usize;
        let Some(body) = length.checked_sub(HEADER).and_then(|length| rest.get(..length)) else {
            break;
        };
        heard.push(Heard {
            sequence,
            port,
            interrupted: flags & NLM_F_DUMP_INTR != 0,
            said: said(kind, flags, body),
        });
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    heard
}

fn said(kind: u16, flags: u16, body: &[u8]) -> Option<Said> {
    match kind {
        NLMSG_DONE => Some(Said::DumpDone),
        NLMSG_ERROR => {
            let errno = body.first_chunk().copied().map(i32::from_ne_bytes)?;
            // The header of the request follows, then what the kernel has to say about it.
            let text = body
                .get(4 + HEADER..)
                .and_then(|attributes| text(attributes, NLMSGERR_ATTR_MSG));
            Some(Said::Answer {
                errno: errno.checked_neg()?,
                text,
            })
        }
        RTM_NEWLINK => Some(Said::Link(link(body)?)),
        RTM_DELLINK => Some(Said::LinkGone(link_index(body)?)),
        RTM_NEWROUTE => Some(Said::Route(route(flags, body)?)),
        RTM_DELROUTE => Some(Said::RouteGone(route(0, body)?)),
        RTM_NEWNEXTHOP => nexthop::read(body).map(|(id, object, ours)| Said::Object(id, object, ours)),
        RTM_DELNEXTHOP => nexthop::read(body).map(|(id, ..)| Said::ObjectGone(id)),
        _ => None,
    }
}

/// Of a link only index, flags and name matter; the many other attributes are not looked at.
fn link(body: &[u8]) -> Option<Link> {
    let flags = u32::from_ne_bytes(body.get(8..12)?.try_into().ok()?);
    Some(Link {
        index: link_index(body)?,
        name: text(body.get(16..)?, IFLA_IFNAME)?.into(),
        up: flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING,
        loopback: flags & IFF_LOOPBACK != 0,
    })
}

fn link_index(body: &[u8]) -> Option<u32> {
    u32::try_from(i32::from_ne_bytes(body.get(4..8)?.try_into().ok()?)).ok()
}

fn text(attributes: &[u8], kind: u16) -> Option<String> {
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == kind)
        .map(|attribute| {
            let octets: &[u8] = attribute.value();
            let end = octets
                .iter()
                .position(|octet| *octet == 0)
                .unwrap_or(octets.len());
            String::from_utf8_lossy(octets.get(..end).unwrap_or_default()).into_owned()
        })
}

fn route(flags: u16, body: &[u8]) -> Option<Route> {
    use netlink_packet_core::Parseable as _;
    if body.len() < 12 {
        return None;
    }
    let message = RouteMessage::parse(body).ok()?;
    let ipv4 = match message.header.address_family {
        AddressFamily::Inet => true,
        AddressFamily::Inet6 => false,
        _ => return None,
    };
    let unspecified = if ipv4 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let mut destination = unspecified;
    let mut table = u32::from(message.header.table);
    let (mut metric, mut interface, mut gateway) = (0, None, None);
    let mut next_hops = Vec::new();
    let (mut weights, mut object) = (Vec::new(), None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::NhId(id) => object = Some(*id),
            RouteAttribute::Destination(address) => destination = address_of(address)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::MultiPath(hops) => {
                weights.extend(hops.iter().map(|hop| u16::from(hop.hops) + 1));
                next_hops.extend(
                    hops.iter()
                        .map(|hop| (hop.attributes.iter().find_map(via_of), hop.interface_index)),
                );
            }
            other => gateway = gateway.or_else(|| via_of(other)),
        }
    }
    if let (Some(interface), true) = (interface, next_hops.is_empty()) {
        next_hops.push((gateway, interface));
    }
    Some(Route {
        table,
        prefix: Prefix::new(destination, message.header.destination_prefix_length)?,
        protocol: message.header.protocol.into(),
        metric,
        kind: match message.header.kind {
            RouteType::Unicast => Kind::Unicast,
            RouteType::Local => Kind::Local,
            RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Kind::Reject,
            _ => Kind::Other,
        },
        next_hops,
        weights,
        object,
        replaces: flags & NLM_F_REPLACE != 0,
    })
}

fn via_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => address_of(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> Key {
        Key {
            table: 254,
            prefix: text.parse().unwrap(),
        }
    }

    fn target(via: &[&str]) -> Target {
        let gateways: Vec<_> = via
            .iter()
            .map(|via| Gateway {
                via: via.parse().unwrap(),
                interface: 7,
                weight: 1,
            })
            .collect();
        Target::Via(gateways.into())
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for (key, target) in [
            (key("10.244.0.0/26"), target(&["10.0.0.1"])),
            (key("0.0.0.0/0"), target(&["10.0.0.1"])),
            (key("10.244.0.0/26"), target(&["10.0.0.1", "10.0.0.2"])),
            (key("10.244.0.0/26"), target(&["2001:db8::1"])),
            (key("10.244.0.0/26"), target(&["10.0.0.1", "fe80::1"])),
            (key("fd00::/122"), target(&["fe80::1", "2001:db8::1"])),
            (
                Key {
                    table: 100_000,
                    ..key("fd00::/122")
                },
                target(&["2001:db8::1"]),
            ),
            (key("10.244.0.0/26"), Target::Object(*IDS.start())),
            (key("fd00::/122"), Target::Object(*IDS.end())),
            (
                Key {
                    table: 255,
                    ..key("203.0.113.1")
                },
                Target::Local,
            ),
            (
                Key {
                    table: 255,
                    ..key("2001:db8:1::1")
                },
                Target::Local,
            ),
        ] {
            let mut sorted = target.clone();
            if let Target::Via(gateways) = &target {
                let mut gateways = gateways.to_vec();
                gateways.sort();
                sorted = Target::Via(gateways.into());
            }
            let mut buffer = Vec::new();
            write(&Op::Replace(key, target.clone()), 1, 8, true, &mut buffer);
            write(&Op::Delete(key), 1, 9, true, &mut buffer);
            let [written, deleted] = read(&buffer).try_into().unwrap();
            assert_eq!((written.sequence, deleted.sequence), (8, 9));
            let Some(Said::Route(route)) = written.said else {
                panic!("{target:?}: {written:?}")
            };
            assert!(route.is_ours() && route.replaces);
            assert_eq!((route.key(), route.target()), (key, sorted));
            let Some(Said::RouteGone(route)) = deleted.said else {
                panic!("{target:?}: {deleted:?}")
            };
            assert_eq!(
                (route.key(), route.metric, route.protocol),
                (key, METRIC, PROTOCOL)
            );
        }
    }

    #[test]
    fn a_route_of_another_shape_is_foreign() {
        let ours = Route {
            table: 254,
            prefix: "10.244.0.0/26".parse().unwrap(),
            protocol: PROTOCOL,
            metric: METRIC,
            kind: Kind::Unicast,
            next_hops: vec![(Some("10.0.0.1".parse().unwrap()), 7)],
            weights: vec![],
            object: None,
            replaces: false,
        };
        assert_eq!(ours.target(), target(&["10.0.0.1"]));
        for foreign in [
            Route {
                metric: 0,
                ..ours.clone()
            },
            Route {
                kind: Kind::Reject,
                ..ours.clone()
            },
            Route {
                next_hops: vec![(None, 7)],
                ..ours.clone()
            },
            Route {
                object: Some(7),
                ..ours.clone()
            },
            Route {
                next_hops: vec![],
                ..ours.clone()
            },
        ] {
            assert_eq!(foreign.target(), Target::Foreign, "{foreign:?}");
        }
    }

    #[test]
    fn answers_carry_the_words_of_the_kernel() {
        let mut body = (-101i32).to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        body.extend([14u8, 0, 1, 0].iter().chain(b"no way out\0\0"));
        let want = Said::Answer {
            errno: 101,
            text: Some("no way out".into()),
        };
        assert_eq!(said(NLMSG_ERROR, 0, &body), Some(want));
        let want = Said::Answer { errno: 0, text: None };
        assert_eq!(said(NLMSG_ERROR, 0, &[0; 20]), Some(want));
        assert_eq!(said(NLMSG_ERROR, 0, &i32::MIN.to_ne_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(
            kind in prop::sample::select(vec![NLMSG_ERROR, NLMSG_DONE, RTM_NEWLINK, RTM_DELLINK, RTM_NEWROUTE, RTM_DELROUTE]),
            family in prop::sample::select(vec![2u8, 10, 28, 0]),
            mut body in prop::collection::vec(any::<u8>(), 0..200),
            length in prop::option::of(any::<u32>()),
        ) {
            if let Some(first) = body.first_mut() {
                *first = family;
            }
            let real = u32::try_from(HEADER + body.len()).unwrap();
            let mut datagram = length.unwrap_or(real).to_ne_bytes().to_vec();
            datagram.extend(kind.to_ne_bytes());
            datagram.extend([0; 10]);
            datagram.extend(&body);
            let _ = read(&datagram);
            let _ = read(&body);
        }

        #[test]
        fn changed_octets_are_safe(at in 0usize..200, octet: u8, cut in 0usize..200) {
            let mut buffer = Vec::new();
            write(&Op::Replace(key("10.244.0.0/26"), target(&["10.0.0.1", "fe80::1"])), 1, 8, true, &mut buffer);
            if let Some(place) = buffer.get_mut(at) {
                *place = octet;
            }
            let _ = read(&buffer);
            let _ = read(buffer.get(..cut).unwrap_or(&buffer));
        }
    }
}
