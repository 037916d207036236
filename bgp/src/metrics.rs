//! Metrics of sessions. Labels are names of configured peers (or addresses inside configured ranges) and enums.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use sekisho_config::model::PeerName;

use crate::bfd::{Discard, SessionMetrics};
use crate::wire::Message;

const TYPES: [&str; 5] = ["open", "update", "notification", "keepalive", "route_refresh"];
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// All series of the speaker.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    up: IntGaugeVec,
    prefixes: IntGaugeVec,
    announced: IntGaugeVec,
    messages: IntCounterVec,
    notifications: IntCounterVec,
    flaps: IntCounterVec,
    faulty_updates: IntCounterVec,
    bfd_up: IntGaugeVec,
    bfd_failures: IntCounterVec,
    bfd_packets: IntCounterVec,
    bfd_discarded: IntCounterVec,
    /// Whether a collector is connected.
    pub(crate) bmp_connected: IntGaugeVec,
    /// How often a collector had to be told everything anew.
    pub(crate) bmp_resyncs: IntCounterVec,
    /// Whether the BFD thread has real-time priority.
    pub(crate) bfd_real_time: IntGauge,
    /// Whether a restart of ours is going on (RFC 4724).
    pub(crate) restarting: IntGauge,
    /// Connections from addresses that are no peer's, or beyond a limit.
    pub(crate) refused: IntCounterVec,
    /// Paths that were not let in, by reason.
    pub(crate) rejected_paths: IntCounterVec,
    /// Whether a listening socket is bound.
    pub(crate) listening: IntGaugeVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let bfd_real_time = IntGauge::new(
            "sekisho_bfd_real_time",
            "1 while the BFD thread runs with real-time priority",
        )?;
        registry.register(Box::new(bfd_real_time.clone()))?;
        let restarting = IntGauge::new(
            "sekisho_bgp_restarting",
            "1 from a graceful restart of this process until peers have been told everything",
        )?;
        registry.register(Box::new(restarting.clone()))?;
        Ok(Self {
            restarting,
            up: gauge(
                "sekisho_bgp_peer_up",
                "1 while the session with the peer is established",
                &["peer"],
            )?,
            prefixes: gauge(
                "sekisho_bgp_peer_prefixes",
                "Paths received from the peer and held",
                &["peer", "family"],
            )?,
            announced: gauge(
                "sekisho_bgp_peer_announced_prefixes",
                "Host routes of VIPs that the peer has",
                &["peer"],
            )?,
            messages: counter(
                "sekisho_bgp_messages_total",
                "BGP messages",
                &["peer", "direction", "type"],
            )?,
            notifications: counter(
                "sekisho_bgp_notifications_total",
                "Connections ended by a NOTIFICATION",
                &["peer", "direction"],
            )?,
            flaps: counter(
                "sekisho_bgp_session_flaps_total",
                "Established sessions that were lost",
                &["peer"],
            )?,
            faulty_updates: counter(
                "sekisho_bgp_faulty_updates_total",
                "UPDATEs with faults that did not end the session (RFC 7606)",
                &["peer"],
            )?,
            bfd_up: gauge(
                "sekisho_bfd_up",
                "1 while the BFD session with the peer is up",
                &["peer"],
            )?,
            bfd_failures: counter(
                "sekisho_bfd_failures_total",
                "BFD sessions that were up and failed",
                &["peer"],
            )?,
            bfd_packets: counter(
                "sekisho_bfd_packets_total",
                "BFD Control packets of the session",
                &["peer", "direction"],
            )?,
            bfd_discarded: counter(
                "sekisho_bfd_discarded_packets_total",
                "BFD Control packets that were discarded",
                &["reason"],
            )?,
            bmp_connected: gauge(
                "sekisho_bmp_connected",
                "1 while the BMP collector is connected",
                &["collector"],
            )?,
            bmp_resyncs: counter(
                "sekisho_bmp_resyncs_total",
                "Connections to the BMP collector that ended, after which it is told everything anew",
                &["collector"],
            )?,
            bfd_real_time,
            refused: counter(
                "sekisho_bgp_refused_connections_total",
                "Connections that were closed before any message",
                &["reason"],
            )?,
            rejected_paths: counter(
                "sekisho_bgp_rejected_paths_total",
                "Paths that were not let in",
                &["peer", "reason"],
            )?,
            listening: gauge(
                "sekisho_bgp_listening",
                "1 while the socket is bound",
                &["address"],
            )?,
        })
    }

    /// The series of one peer, made at once so that a rate can be computed from the start.
    pub(crate) fn peer(&self, name: &PeerName) -> PeerMetrics {
        let peer = name.as_str();
        let messages = |direction: &str| {
            let of = |kind: &str| self.messages.with_label_values(&[peer, direction, kind]);
            MessageMetrics {
                open: of("open"),
                update: of("update"),
                notification: of("notification"),
                keepalive: of("keepalive"),
                route_refresh: of("route_refresh"),
            }
        };
        PeerMetrics(Arc::new(PeerSeries {
            up: self.up.with_label_values(&[peer]),
            ipv4: self.prefixes.with_label_values(&[peer, "ipv4"]),
            ipv6: self.prefixes.with_label_values(&[peer, "ipv6"]),
            announced: self.announced.with_label_values(&[peer]),
            messages_received: messages("in"),
            messages_sent: messages("out"),
            notifications_received: self.notifications.with_label_values(&[peer, "in"]),
            notifications_sent: self.notifications.with_label_values(&[peer, "out"]),
            flaps: self.flaps.with_label_values(&[peer]),
            faulty_updates: self.faulty_updates.with_label_values(&[peer]),
        }))
    }

    /// The series of a peer's BFD session.
    pub(crate) fn bfd(&self, name: &PeerName) -> SessionMetrics {
        let peer = name.as_str();
        SessionMetrics {
            up: self.bfd_up.with_label_values(&[peer]),
            failures: self.bfd_failures.with_label_values(&[peer]),
            received: self.bfd_packets.with_label_values(&[peer, "in"]),
            sent: self.bfd_packets.with_label_values(&[peer, "out"]),
        }
    }

    /// Takes the series of a peer's BFD session away.
    pub(crate) fn remove_bfd(&self, name: &PeerName) {
        let peer = name.as_str();
        let _ = self.bfd_up.remove_label_values(&[peer]);
        let _ = self.bfd_failures.remove_label_values(&[peer]);
        for direction in ["in", "out"] {
            let _ = self.bfd_packets.remove_label_values(&[peer, direction]);
        }
    }

    /// The counters of each of [`Discard::ALL`].
    pub(crate) fn bfd_discarded(&self) -> [IntCounter; 4] {
        Discard::ALL.map(|why| self.bfd_discarded.with_label_values(&[why.as_str()]))
    }

    /// Takes the series of a peer away.
    pub(crate) fn remove(&self, name: &PeerName) {
        let peer = name.as_str();
        // A series that is not there is nothing to complain about.
        self.remove_bfd(name);
        let _ = self.up.remove_label_values(&[peer]);
        let _ = self.announced.remove_label_values(&[peer]);
        let _ = self.flaps.remove_label_values(&[peer]);
        let _ = self.faulty_updates.remove_label_values(&[peer]);
        for family in FAMILIES {
            let _ = self.prefixes.remove_label_values(&[peer, family]);
        }
        for direction in ["in", "out"] {
            let _ = self.notifications.remove_label_values(&[peer, direction]);
            for kind in TYPES {
                let _ = self.messages.remove_label_values(&[peer, direction, kind]);
            }
        }
        for reason in crate::policy::Rejected::ALL {
            let _ = self.rejected_paths.remove_label_values(&[peer, reason.as_str()]);
        }
    }
}

/// The series of one peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerMetrics(Arc<PeerSeries>);

impl std::ops::Deref for PeerMetrics {
    type Target = PeerSeries;

    fn deref(&self) -> &PeerSeries {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct PeerSeries {
    pub(crate) up: IntGauge,
    pub(crate) ipv4: IntGauge,
    pub(crate) ipv6: IntGauge,
    pub(crate) announced: IntGauge,
    pub(crate) messages_received: MessageMetrics,
    pub(crate) messages_sent: MessageMetrics,
    pub(crate) notifications_received: IntCounter,
    pub(crate) notifications_sent: IntCounter,
    pub(crate) flaps: IntCounter,
    pub(crate) faulty_updates: IntCounter,
}

#[derive(Debug)]
pub(crate) struct MessageMetrics {
    open: IntCounter,
    pub(crate) update: IntCounter,
    notification: IntCounter,
    keepalive: IntCounter,
    route_refresh: IntCounter,
}

impl MessageMetrics {
    pub(crate) fn of(&self, message: &Message) -> &IntCounter {
        match message {
            Message::Open(_) => &self.open,
            Message::Update(_) => &self.update,
            Message::Notification(_) => &self.notification,
            Message::Keepalive => &self.keepalive,
            Message::RouteRefresh(_) => &self.route_refresh,
        }
    }
}
