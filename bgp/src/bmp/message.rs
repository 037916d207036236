use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use sekisho_config::model::{Asn, RouterId};

use crate::fsm::Ended;
use crate::wire::encode_notification;

/// Octets of the common header.
const HEADER: usize = 6;

const ROUTE_MONITORING: u8 = 0;
const STATISTICS: u8 = 1;
const PEER_DOWN: u8 = 2;
const PEER_UP: u8 = 3;
const INITIATION: u8 = 4;
const TERMINATION: u8 = 5;

/// Whose a message is (RFC 7854 section 4.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PeerHead {
    pub(crate) address: IpAddr,
    pub(crate) asn: Asn,
    pub(crate) router_id: RouterId,
}

impl PeerHead {
    fn put(&self, out: &mut BytesMut) {
        // A global instance peer; V: IPv6; L: after the rules of import. AS numbers have 4 octets.
        out.put_u8(0);
        out.put_u8(if self.address.is_ipv6() { 0xc0 } else { 0x40 });
        out.put_u64(0);
        put_address(out, self.address);
        out.put_u32(self.asn.number());
        out.put_slice(&self.router_id.address().octets());
        let now = Timestamp::now();
        out.put_u32(u32::try_from(now.as_second()).unwrap_or(u32::MAX));
        out.put_u32(u32::try_from(now.subsec_microsecond()).unwrap_or_default());
    }
}

/// IPv4 stands in the last four of sixteen octets.
fn put_address(out: &mut BytesMut, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.put_bytes(0, 12);
            out.put_slice(&address.octets());
        }
        IpAddr::V6(address) => out.put_slice(&address.octets()),
    }
}

fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len().saturating_add(HEADER));
    out.put_u8(3);
    out.put_u32(u32::try_from(body.len().saturating_add(HEADER)).unwrap_or(u32::MAX));
    out.put_u8(kind);
    out.put_slice(body);
    out.freeze()
}

fn of_peer(kind: u8, head: &PeerHead, rest: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(rest.len().saturating_add(42));
    head.put(&mut body);
    body.put_slice(rest);
    message(kind, &body)
}

fn put_text(out: &mut BytesMut, kind: u16, text: &str) {
    out.put_u16(kind);
    let text = text.as_bytes();
    let text = text.get(..usize::from(u16::MAX)).unwrap_or(text);
    out.put_u16(u16::try_from(text.len()).unwrap_or_default());
    out.put_slice(text);
}

/// Section 4.3: who speaks.
pub(crate) fn initiation(description: &str, name: &str) -> Bytes {
    let mut body = BytesMut::new();
    put_text(&mut body, 1, description);
    put_text(&mut body, 2, name);
    message(INITIATION, &body)
}

/// Section 4.5: the end, for administrative reasons.
pub(crate) fn termination() -> Bytes {
    let mut body = BytesMut::new();
    body.put_u16(1);
    body.put_u16(2);
    body.put_u16(0);
    message(TERMINATION, &body)
}

/// Section 4.10. The OPENs are whole messages.
pub(crate) fn peer_up(
    head: &PeerHead,
    ends: Option<(SocketAddr, SocketAddr)>,
    sent: &[u8],
    received: &[u8],
) -> Bytes {
    let mut rest = BytesMut::new();
    match ends {
        Some((local, remote)) => {
            put_address(&mut rest, local.ip().to_canonical());
            rest.put_u16(local.port());
            rest.put_u16(remote.port());
        }
        None => rest.put_bytes(0, 20),
    }
    rest.put_slice(sent);
    rest.put_slice(received);
    of_peer(PEER_UP, head, &rest)
}

/// Section 4.9.
pub(crate) fn peer_down(head: &PeerHead, ended: &Ended) -> Bytes {
    let mut rest = BytesMut::new();
    match ended {
        Ended::Sent(notification) => {
            rest.put_u8(1);
            rest.put_slice(&encode_notification(notification));
        }
        Ended::Received(notification) => {
            rest.put_u8(3);
            rest.put_slice(&encode_notification(notification));
        }
        Ended::Lost(_) | Ended::Restarted => rest.put_u8(4),
    }
    of_peer(PEER_DOWN, head, &rest)
}

/// Section 4.6: one UPDATE, a whole message.
pub(crate) fn route_monitoring(head: &PeerHead, update: &[u8]) -> Bytes {
    of_peer(ROUTE_MONITORING, head, update)
}

/// Section 4.8: prefixes rejected since the session stands (0), paths held (7).
pub(crate) fn statistics(head: &PeerHead, rejected: u64, held: u64) -> Bytes {
    let mut rest = BytesMut::new();
    rest.put_u32(2);
    rest.put_u16(0);
    rest.put_u16(4);
    rest.put_u32(u32::try_from(rejected).unwrap_or(u32::MAX));
    rest.put_u16(7);
    rest.put_u16(8);
    rest.put_u64(held);
    of_peer(STATISTICS, head, &rest)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bgpkit_parser::parse_bmp_msg;
    use bgpkit_parser::parser::bmp::messages::BmpMessageBody;

    use super::*;
    use crate::session::hand::Hand;
    use crate::wire::Notification;

    fn head(address: &str) -> PeerHead {
        PeerHead {
            address: address.parse().unwrap(),
            asn: Asn::try_from(4_200_000_000).unwrap(),
            router_id: RouterId::try_from(Ipv4Addr::new(10, 0, 0, 1)).unwrap(),
        }
    }

    /// What an independent reader makes of it; the whole message is read.
    fn read(message: Bytes) -> (Option<String>, BmpMessageBody) {
        let mut rest = message.clone();
        let read = parse_bmp_msg(&mut rest).unwrap();
        assert!(rest.is_empty(), "{} octets are left of {message:?}", rest.len());
        let peer = read
            .per_peer_header
            .map(|peer| format!("{} AS{} {}", peer.peer_ip, peer.peer_asn, peer.peer_bgp_id));
        (peer, read.message_body)
    }

    #[test]
    fn another_reader_understands_every_message() {
        assert!(matches!(
            read(initiation("Sekisho", "edge-1")),
            (None, BmpMessageBody::InitiationMessage(_))
        ));
        assert!(matches!(
            read(termination()),
            (None, BmpMessageBody::TerminationMessage(_))
        ));
        for address in ["192.0.2.1", "2001:db8::1"] {
            let head = head(address);
            let whose = Some(format!("{address} AS4200000000 10.0.0.1"));
            let open = Hand::<tokio::io::DuplexStream>::open(7);
            let ends = (
                SocketAddr::new(head.address, 179),
                SocketAddr::new(head.address, 40000),
            );
            let (peer, body) = read(peer_up(&head, Some(ends), &open, &open));
            assert_eq!(peer, whose);
            let BmpMessageBody::PeerUpNotification(up) = body else {
                panic!("{body:?}")
            };
            assert_eq!(
                (up.local_addr, up.local_port, up.remote_port),
                (head.address, 179, 40000)
            );
            for ended in [
                Ended::Sent(Notification::cease(10)),
                Ended::Received(Notification::shutdown("bye")),
                Ended::Lost("gone".into()),
            ] {
                let (peer, body) = read(peer_down(&head, &ended));
                assert!(
                    matches!(body, BmpMessageBody::PeerDownNotification(_)),
                    "{body:?}"
                );
                assert_eq!(peer, whose);
            }
            let (_, body) = read(statistics(&head, 3, 1 << 40));
            assert!(matches!(body, BmpMessageBody::StatsReport(stats) if stats.stats_count == 2));
        }
    }
}
