use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{
    Asn, Bfd, Bgp, BgpIdentity, MaxPrefixes, PassOn, Peer as PeerSettings, PeerAs, PeerName, PeerRange,
    PolicyRule, Prefix, Role, SessionSettings, Transport,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::next_hop::interface_to;
use super::rates::{Rates, Totals};
use super::task::Liveness;
use crate::bfd::BfdView;
use crate::error::cease;
use crate::fsm::{Identity, LongLived, Restart, State, Terms};
use crate::metrics::PeerMetrics;
use crate::policy::export::Export;
use crate::policy::{Rejected, Rejections};
use crate::rib::{Counts, NextHops, PeerId};
use crate::session::{Orders, Protection, SessionKey, Shared, Status};
use crate::view::{self, PeerView};
use crate::wire::{Families, Notification};

/// How long a peer of a range is remembered after its session is gone, for whoever asks what happened.
const REMEMBERED: Duration = Duration::from_secs(600);

/// How long one is remembered that never had a session.
const STRANGER: Duration = Duration::from_secs(60);

/// Settings of a peer, whether it is configured by itself or came out of a range.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: PeerName,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) asn: PeerAs,
    pub(super) role: Role,
    pub(super) passive: bool,
    pub(super) transport: Transport,
    pub(super) interface: Option<Arc<str>>,
    pub(super) max_prefixes: MaxPrefixes,
    pub(super) enforce_first_as: bool,
    pub(super) import: Vec<Arc<PolicyRule>>,
    pub(super) export: Vec<Arc<PolicyRule>>,
    pub(super) pass_on: PassOn,
    pub(super) bfd: Option<Bfd>,
    pub(super) range: Option<Prefix>,
    pub(super) session: SessionSettings,
}

impl From<&PeerSettings> for Wanted {
    fn from(peer: &PeerSettings) -> Self {
        Self {
            name: peer.name.clone(),
            address: peer.address.to_canonical(),
            port: peer.port,
            asn: peer.asn.clone(),
            role: peer.role,
            passive: peer.passive,
            transport: peer.transport.clone(),
            interface: peer.interface.clone(),
            max_prefixes: peer.max_prefixes,
            enforce_first_as: peer.enforce_first_as,
            import: peer.import.clone(),
            export: peer.export.clone(),
            pass_on: peer.pass_on,
            bfd: peer.bfd,
            range: None,
            session: peer.session.clone(),
        }
    }
}

impl Wanted {
    /// The peer that connects from `address`, if a range lets it in; of several ranges the longest counts.
    pub(super) fn from_ranges(address: IpAddr, bgp: &Bgp) -> Option<Self> {
        let fits = |range: &&PeerRange| range.prefix.contains(address);
        let range = bgp
            .peer_ranges
            .iter()
            .filter(fits)
            .max_by_key(|range| range.prefix.length())?;
        Some(Self {
            name: PeerName::from(address),
            address,
            port: 179,
            asn: range.asn.clone(),
            role: range.role,
            passive: true,
            transport: range.transport.clone(),
            interface: None,
            max_prefixes: range.max_prefixes,
            enforce_first_as: range.enforce_first_as,
            import: range.import.clone(),
            export: range.export.clone(),
            pass_on: range.pass_on,
            bfd: range.bfd,
            range: Some(range.prefix),
            session: range.session.clone(),
        })
    }

    /// Whether `other` differs at most in what changes under a session that stands.
    pub(super) fn same_session(&self, other: &Self) -> bool {
        let mut as_other = self.clone();
        as_other.max_prefixes = other.max_prefixes;
        as_other.enforce_first_as = other.enforce_first_as;
        as_other.import.clone_from(&other.import);
        as_other.export.clone_from(&other.export);
        // Whether pods are passed on stands in our OPEN (ADD-PATH).
        let pods = as_other.pass_on.pods;
        as_other.pass_on = PassOn {
            pods,
            ..other.pass_on
        };
        as_other.session.shutdown.clone_from(&other.session.shutdown);
        as_other.bfd = other.bfd;
        as_other == *other
    }

    pub(super) fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    pub(super) fn protection(&self, ours: &BgpIdentity) -> Protection {
        Protection {
            transport: self.transport.clone(),
            interface: self.interface.clone(),
            external: !self.asn.admits(ours.asn, ours.asn),
        }
    }

    pub(super) fn identity(&self, ours: &BgpIdentity, restart: Restart) -> Identity {
        Identity {
            asn: ours.asn,
            router_id: ours.router_id,
            hold_time: u16::try_from(ours.hold_time.as_secs()).unwrap_or(u16::MAX),
            restart,
            peer_as: self.asn.clone(),
            add_path_send: self.pass_on.pods,
            role: self.session.role,
            role_strict: self.session.role_strict,
        }
    }
}

/// A peer as the speaker holds it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) wanted: Wanted,
    pub(super) key: SessionKey,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) accepted: mpsc::Sender<TcpStream>,
    pub(super) shared: Shared,
    pub(super) metrics: PeerMetrics,
    pub(super) task: JoinHandle<()>,
    /// Its place in the routing table, once it had a session.
    pub(super) id: Option<PeerId>,
    /// Terms of the session that stands.
    pub(super) terms: Option<Arc<Terms>>,
    /// Routes of these families are kept although the session is gone or has not said all again, until then.
    pub(super) stale: Option<(Families, Instant)>,
    /// Of these, what may be kept after the restart time, and since when it is over (RFC 9494).
    pub(super) long_lived: Vec<LongLived>,
    pub(super) long_lived_since: Option<Instant>,
    /// Families that the peer is saying again, and until when it may (RFC 7313).
    pub(super) refreshing: Option<(Families, Instant)>,
    /// Families whose End-of-RIB has not come since the session stands.
    pub(super) awaited: Families,
    pub(super) rejected_paths: u64,
    /// What it says now and is not let in.
    pub(super) rejections: Rejections,
    /// Reasons that were logged since the session stands.
    pub(super) rejections_told: BTreeSet<Rejected>,
    pub(super) resets: u64,
    /// Its session was ended because of too many paths.
    pub(super) over_limit: bool,
    /// That it comes near that was said.
    pub(super) near_limit: bool,
    /// Prefixes that it announced or withdrew.
    pub(super) prefixes_received: u64,
    pub(super) rates: Rates,
    /// The BFD session beside it.
    pub(super) liveness: Option<Liveness>,
    /// Its session is kept away until that is up.
    pub(super) held_by_bfd: bool,
    /// Since when there is no session.
    pub(super) idle_since: Instant,
    pub(super) was_established: bool,
    /// How many sessions it had.
    pub(super) sessions: u64,
}

impl Peer {
    /// The interface of its session. A link-local address is on every one, so there the connection itself tells.
    pub(super) fn interface(&self, next_hops: &NextHops) -> Option<u32> {
        match self.shared.lock().ends {
            Some((_, SocketAddr::V6(remote))) if remote.ip().is_unicast_link_local() => {
                Some(remote.scope_id())
            }
            _ if self.wanted.interface.is_some() => None,
            _ => interface_to(self.wanted.address, next_hops),
        }
    }

    /// Ends or wants its session, as the settings have it.
    pub(super) fn shut_down_or_start(&self) {
        let shutdown = &self.wanted.session.shutdown;
        self.orders.send_if_modified(|orders| {
            let differs = orders.shutdown != *shutdown;
            orders.shutdown.clone_from(shutdown);
            differs
        });
    }

    pub(super) fn established(&self) -> bool {
        self.terms.is_some()
    }

    /// Whether a peer of a range has been away long enough to be forgotten.
    pub(super) fn forgotten(&self, now: Instant) -> bool {
        let patience = if self.was_established {
            REMEMBERED
        } else {
            STRANGER
        };
        self.wanted.range.is_some()
            && !self.established()
            && self.stale.is_none()
            && now.saturating_duration_since(self.idle_since) >= patience
            && self.shared.lock().state < State::OpenSent
    }

    /// What makes an announcement to it, as far as it is known who it is: of a peer whose session does not stand, by its
    /// configured AS.
    pub(super) fn export(&self, ours: &BgpIdentity, draining: bool) -> Export {
        let internal = self.terms.as_ref().map_or_else(
            || self.wanted.asn.number(ours.asn) == Some(ours.asn),
            |terms| terms.wire.internal,
        );
        Export {
            asn: ours.asn,
            cluster_id: ours.cluster_id.address(),
            internal,
            client: self.wanted.pass_on.reflector_client,
            next_hop: self.wanted.pass_on.next_hop,
            draining,
            rules: self.wanted.export.clone(),
        }
    }

    /// Families in which it takes several paths of a prefix.
    pub(super) fn add_path(&self) -> Families {
        let terms = self.terms.as_ref();
        terms.map_or(Families::NONE, |terms| terms.wire.add_path_send)
    }

    /// Asks it to say everything again, because what is let in has changed. One that knows no route refresh gets a new
    /// session.
    pub(super) fn ask_again(&mut self) {
        let Some(terms) = &self.terms else {
            return;
        };
        if terms.wire.route_refresh {
            self.orders
                .send_modify(|orders| orders.refresh = orders.refresh.saturating_add(1));
        } else {
            self.resets = self.resets.saturating_add(1);
            let reset = (
                self.resets,
                Notification::cease(cease::CONFIGURATION),
                Duration::from_secs(1),
            );
            self.orders.send_modify(|orders| orders.reset = Some(reset));
        }
    }

    /// Whether it has told everything it has, in every family of its session.
    pub(super) fn has_told_all(&self) -> bool {
        self.established() && self.awaited.is_empty()
    }

    fn totals(&self, status: &Status) -> Totals {
        Totals {
            messages_received: status.received.total(),
            messages_sent: status.sent.total(),
            updates_received: status.received.update,
            updates_sent: status.sent.update,
            prefixes_received: self.prefixes_received,
        }
    }

    /// Takes note of how much came and went, every few seconds.
    pub(super) fn sample(&mut self, now: Instant) {
        if self.rates.is_due(now) {
            let totals = self.totals(&self.shared.lock());
            self.rates.sample(now, totals);
        }
    }

    pub(super) fn view(&self, received: Counts, ours: Asn, bfd: Option<BfdView>, now: Instant) -> PeerView {
        let status = self.shared.lock();
        let terms = status.terms.as_ref();
        PeerView {
            name: self.wanted.name.clone(),
            address: self.wanted.address,
            role: self.wanted.role,
            asn: terms
                .map(|terms| terms.asn)
                .or_else(|| self.wanted.asn.number(ours)),
            configured_asn: self.wanted.asn.to_string(),
            range: self.wanted.range,
            passive: self.wanted.passive,
            state: status.state,
            since: status.since,
            router_id: terms.map(|terms| terms.router_id),
            local_address: status.ends.map(|(local, _)| local),
            remote_address: status.ends.map(|(_, remote)| remote),
            hold_time_seconds: terms.map(|terms| terms.hold_time.map_or(0, |hold| hold.as_secs())),
            keepalive_seconds: terms.map(|terms| terms.keepalive_time().map_or(0, |time| time.as_secs())),
            families: terms
                .map(|terms| terms.wire.families.iter().collect())
                .unwrap_or_default(),
            capabilities: terms
                .map(|terms| terms.capabilities.iter().map(view::capability).collect())
                .unwrap_or_default(),
            received,
            max_prefixes: self.wanted.max_prefixes.limit,
            over_max_prefixes: self.over_limit,
            rejected_paths: self.rejected_paths,
            announced: status.announced,
            messages_received: status.received,
            messages_sent: status.sent,
            rates: self.rates.view(now, self.totals(&status)),
            faulty_updates: status.faulty_updates,
            stale_for_seconds: self
                .stale
                .map(|(_, until)| until.saturating_duration_since(now).as_secs()),
            flaps: status.flaps,
            shutdown: self.wanted.session.shutdown.clone(),
            last_error: status.last_error.clone(),
            notification_sent: status.notification_sent.clone(),
            notification_received: status.notification_received.clone(),
            bfd,
            connect_error: status.connect_error.clone(),
        }
    }
}
