//! What the speaker shows of itself. Every view is `Serialize`; the command line and the admin page print these.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use sekisho_config::model::{Asn, PeerName, Prefix, Role, RouterId, Withhold};
use serde::Serialize;

use crate::bfd::BfdView;
use crate::fsm::State;
use crate::policy::export::{Advert, Via};
use crate::rib::{Counts, as_path_text, communities_text};
use crate::session::{CannotAnnounce, LastError, MessageCounts};
use crate::wire::{Capability, Family};

/// One peer.
#[derive(Clone, Debug, Serialize)]
pub struct PeerView {
    /// Its name.
    pub name: PeerName,
    /// Its address.
    pub address: IpAddr,
    /// What it is for.
    pub role: Role,
    /// Its AS: as its OPEN has it while the session stands, else the configured one, where that is one number.
    pub asn: Option<Asn>,
    /// Its AS as configured: a number, `1 or 2`, `internal`, `external`.
    pub configured_asn: String,
    /// The range that let it in; `None` for a peer that is configured by itself.
    pub range: Option<Prefix>,
    /// Never dialed, only accepted.
    pub passive: bool,
    /// Where its session is.
    pub state: State,
    /// Since when the session stands, or does not.
    pub since: Timestamp,
    /// Its BGP Identifier, while the session stands.
    pub router_id: Option<RouterId>,
    /// Our end of the connection.
    pub local_address: Option<SocketAddr>,
    /// The peer's end of the connection.
    pub remote_address: Option<SocketAddr>,
    /// Hold time agreed on, seconds; 0: off.
    pub hold_time_seconds: Option<u64>,
    /// Interval between our KEEPALIVEs, seconds.
    pub keepalive_seconds: Option<u64>,
    /// Families agreed on.
    pub families: Vec<Family>,
    /// What the peer offered in its OPEN.
    pub capabilities: Vec<String>,
    /// Paths that it sent, and how many are in use.
    pub received: Counts,
    /// How many it may send.
    pub max_prefixes: u32,
    /// It sent more and is kept away.
    pub over_max_prefixes: bool,
    /// Paths that were not let in since the session stands: a default route, one of our own VIPs.
    pub rejected_paths: u64,
    /// Host routes that it has from us.
    pub announced: usize,
    /// Messages received.
    pub messages_received: MessageCounts,
    /// Messages sent.
    pub messages_sent: MessageCounts,
    /// How much comes and goes.
    pub rates: RatesView,
    /// UPDATEs with faults that did not end the session (RFC 7606).
    pub faulty_updates: u64,
    /// Until when its routes are kept although it is away, seconds from now (RFC 4724).
    pub stale_for_seconds: Option<u64>,
    /// How often an established session was lost.
    pub flaps: u64,
    /// It is shut down by configuration; this is what it is told.
    pub shutdown: Option<Arc<str>>,
    /// The last NOTIFICATION that we sent, in words.
    pub notification_sent: Option<LastError>,
    /// The last NOTIFICATION of the peer, in words, with its text or data.
    pub notification_received: Option<LastError>,
    /// The BFD session with it, once there is one.
    pub bfd: Option<BfdView>,
    /// The last thing that went wrong, who ended it, and what may help.
    pub last_error: Option<LastError>,
    /// Why the last attempt to connect failed; `None` once a connection stands, and for a peer that is never dialed.
    pub connect_error: Option<LastError>,
}

/// Per second, over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RatesView {
    /// Messages from the peer.
    pub messages_received: f64,
    /// Messages to the peer.
    pub messages_sent: f64,
    /// UPDATEs from the peer.
    pub updates_received: f64,
    /// UPDATEs to the peer.
    pub updates_sent: f64,
    /// Prefixes that the peer announced or withdrew.
    pub prefixes_received: f64,
}

/// One service address.
#[derive(Clone, Debug, Serialize)]
pub struct VipView {
    /// Its host route.
    pub prefix: Prefix,
    /// The pool it is from.
    pub pool: String,
    /// Why it is announced to nobody, if so.
    pub withheld: Option<Withhold>,
    /// The same in words.
    pub withheld_text: Option<String>,
    /// Peers that have it.
    pub announced_to: Vec<PeerName>,
    /// What each of them was told.
    pub announcements: Vec<AnnouncementView>,
    /// Peers that should have it and do not.
    pub missing: Vec<MissingView>,
}

/// A VIP as one peer has it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AnnouncementView {
    /// The peer.
    pub peer: PeerName,
    /// Another next hop than our address towards the peer.
    pub next_hop: Option<IpAddr>,
    /// AS_PATH, our AS and what is prepended included; empty inside our AS.
    pub as_path: String,
    /// LOCAL_PREF; inside our AS only.
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities of every kind.
    pub communities: Vec<String>,
}

impl AnnouncementView {
    pub(crate) fn new(peer: PeerName, advert: &Advert) -> Self {
        let attributes = &advert.attributes;
        Self {
            peer,
            next_hop: match advert.next_hop {
                Via::Given(address) => Some(address),
                Via::Own => None,
            },
            as_path: as_path_text(&attributes.as_path),
            local_preference: attributes.local_preference,
            med: attributes.med,
            communities: communities_text(attributes),
        }
    }
}

/// A peer that should have a VIP and does not.
#[derive(Clone, Debug, Serialize)]
pub struct MissingView {
    /// The peer.
    pub peer: PeerName,
    /// Why.
    pub why: Missing,
    /// The same in words.
    pub text: String,
}

/// Why a peer does not have a VIP that it should have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Missing {
    /// No session.
    NotEstablished {
        /// Where its session is.
        state: State,
    },
    /// The session cannot carry it.
    CannotAnnounce {
        /// Why.
        why: CannotAnnounce,
    },
    /// One of the peer's `export` rules rejects it.
    ExportRule,
    /// On its way.
    Queued,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotEstablished { state } => write!(f, "its session is not established ({state})"),
            Self::CannotAnnounce { why } => why.fmt(f),
            Self::ExportRule => f.write_str("one of the peer's export rules rejects it"),
            Self::Queued => f.write_str("the announcement is on its way"),
        }
    }
}

/// One listening socket.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerView {
    /// As configured.
    pub address: SocketAddr,
    /// As bound (another port when port 0 was asked for).
    pub bound: Option<SocketAddr>,
    /// What stands in the way; it is tried again.
    pub error: Option<String>,
}

/// A capability in a few words.
pub(crate) fn capability(capability: &Capability) -> String {
    let family = |afi: u16, safi: u8| match Family::from_numbers(afi, safi) {
        Some(family) => family.to_string(),
        None => format!("AFI {afi} SAFI {safi}"),
    };
    let list = |items: Vec<String>| items.join(", ");
    match capability {
        Capability::Multiprotocol(family) => format!("multiprotocol {family}"),
        Capability::MultiprotocolOther(afi, safi) => format!("multiprotocol {}", family(*afi, *safi)),
        Capability::RouteRefresh => "route refresh".into(),
        Capability::ExtendedNextHop(_) => "extended next hop".into(),
        Capability::ExtendedMessage => "extended message".into(),
        Capability::Role(role) => format!("role {role}"),
        Capability::GracefulRestart { time, families, .. } => {
            let families = families
                .iter()
                .map(|(afi, safi, _)| family(*afi, *safi))
                .collect();
            format!("graceful restart {time} s [{}]", list(families))
        }
        Capability::FourOctetAs(number) => format!("4-octet AS {number}"),
        Capability::AddPath(offers) => {
            let offers = offers.iter().map(|(afi, safi, direction)| {
                let direction = match direction {
                    1 => "receive",
                    2 => "send",
                    3 => "send and receive",
                    _ => "invalid",
                };
                format!("{} {direction}", family(*afi, *safi))
            });
            format!("ADD-PATH [{}]", list(offers.collect()))
        }
        Capability::EnhancedRouteRefresh => "enhanced route refresh".into(),
        Capability::LongLivedGracefulRestart(_) => "long-lived graceful restart".into(),
        Capability::Hostname { host, .. } => format!("hostname {}", host.escape_debug()),
        Capability::Other { code, .. } => format!("capability {code}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A peer that stands.
    pub(crate) fn peer(name: &str, address: &str, asn: u32) -> PeerView {
        PeerView {
            name: name.parse().unwrap(),
            address: address.parse().unwrap(),
            role: Role::Cluster,
            asn: Some(Asn::try_from(asn).unwrap()),
            configured_asn: asn.to_string(),
            range: None,
            passive: false,
            state: State::Established,
            since: Timestamp::UNIX_EPOCH,
            router_id: RouterId::try_from(Ipv4Addr::new(10, 0, 0, 1)).ok(),
            local_address: None,
            remote_address: None,
            hold_time_seconds: None,
            keepalive_seconds: None,
            families: vec![],
            capabilities: vec![],
            received: Counts::default(),
            max_prefixes: 1,
            over_max_prefixes: false,
            rejected_paths: 0,
            announced: 0,
            messages_received: MessageCounts::default(),
            messages_sent: MessageCounts::default(),
            rates: RatesView::default(),
            faulty_updates: 0,
            stale_for_seconds: None,
            flaps: 0,
            shutdown: None,
            notification_sent: None,
            notification_received: None,
            bfd: None,
            last_error: None,
            connect_error: None,
        }
    }
}
