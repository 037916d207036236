//! BFD: what the death of a neighbour means (RFC 5882).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::Bfd as Settings;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::super::peer::Peer;
use super::{FOR_GOOD, Speaker};
use crate::bfd::{BfdView, Live, Priority, State, Timing, Wanted};
use crate::error::cease;
use crate::fsm::Ended;
use crate::wire::Notification;

/// How long a peer is kept away whose BFD session failed, unless the BFD session has to be up first.
const REST: Duration = Duration::from_secs(1);

/// The BFD session beside a BGP session.
#[derive(Debug)]
pub(in super::super) struct Liveness {
    wanted: Wanted,
    live: Arc<Live>,
    settings: Settings,
    /// Failures that have been dealt with.
    failures: u64,
    /// The state that was last logged.
    told: State,
    obstacle: Option<String>,
}

impl Liveness {
    /// Whether a BGP session may stand where BFD has to be up: an operator who holds BFD down does not mean BGP
    /// (RFC 5882 section 3.2).
    fn lets_go(&self) -> bool {
        self.live.state() == State::Up || self.live.remote_state() == State::AdminDown
    }
}

impl Peer {
    /// Whether a failure of BFD belongs to a graceful restart that is going on.
    fn restarts_with_bfd(&self) -> bool {
        let independent = |bfd: &Liveness| bfd.live.remote_independent();
        !self.established() && self.stale.is_some() && !self.liveness.as_ref().is_some_and(independent)
    }

    /// Keeps the session away until BFD lets it come, if it has to wait for that.
    pub(super) fn hold_for_bfd(&mut self) {
        if self.wanted.bfd.is_some_and(|bfd| bfd.strict) && !self.held_by_bfd {
            self.held_by_bfd = true;
            self.reset(Notification::cease(cease::BFD_DOWN), FOR_GOOD);
        }
    }

    fn release(&mut self) {
        self.held_by_bfd = false;
        // Whoever is kept away for another reason as well stays away.
        if !self.over_limit {
            self.reset(Notification::cease(cease::CONFIGURATION), Duration::ZERO);
        }
    }

    fn reset(&mut self, notification: Notification, hold_off: Duration) {
        self.resets = self.resets.saturating_add(1);
        let reset = (self.resets, notification, hold_off);
        self.orders.send_modify(|orders| orders.reset = Some(reset));
    }

    /// Both ends of its BFD session; `None`: the interface of a link-local peer is not there, or not known yet.
    fn bfd_ends(&self, port: u16) -> Option<(SocketAddr, Option<IpAddr>)> {
        let ends = self.shared.lock().ends;
        let before = self
            .liveness
            .as_ref()
            .map(|bfd| (bfd.wanted.peer, bfd.wanted.local));
        let local = ends
            .map(|(local, _)| local.ip().to_canonical())
            .or_else(|| before.and_then(|(_, local)| local))
            .or(self.wanted.transport.source_address)
            .or_else(|| source_towards(self.wanted.address));
        let mut peer = SocketAddr::new(self.wanted.address, port);
        if let SocketAddr::V6(address) = &mut peer
            && address.ip().is_unicast_link_local()
        {
            let scope = |address: SocketAddr| match address {
                SocketAddr::V6(address) => Some(address.scope_id()),
                SocketAddr::V4(_) => None,
            };
            let named = || nix::net::if_::if_nametoindex(self.wanted.interface.as_deref()?).ok();
            let scope = ends
                .and_then(|(_, remote)| scope(remote))
                .or_else(named)
                .or_else(|| before.and_then(|(peer, _)| scope(peer)))?;
            address.set_scope_id(scope);
        }
        Some((peer, local))
    }

    /// What is shown of its BFD session.
    pub(super) fn bfd_view(&self, thread: &crate::bfd::Handle) -> Option<BfdView> {
        let bfd = self.liveness.as_ref()?;
        let error = thread.obstacle(&bfd.live, self.wanted.address.is_ipv4(), bfd.settings.multihop);
        Some(bfd.live.view(&bfd.settings, self.held_by_bfd, error))
    }
}

/// The address that the system would send from. A session between other addresses later would be another one.
fn source_towards(peer: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Sends nothing; it asks the routing table.
    socket.connect((peer, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

impl Speaker {
    /// Makes the BFD session of a peer what it is to be. One begins with the BGP session, or before it where that has to
    /// wait; it goes on when the BGP session ends, until the peer is no peer any more.
    pub(super) fn watch(&mut self, address: IpAddr) {
        let [single, multi] = crate::bfd::PORTS;
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let begins = |settings: &Settings| settings.strict || peer.established() || peer.liveness.is_some();
        let Some(settings) = peer.wanted.bfd.filter(begins) else {
            if peer.liveness.take().is_some() {
                info!(peer = %peer.wanted.name, "BFD session ended");
                self.metrics.remove_bfd(&peer.wanted.name);
                self.ask_bfd(address, None);
            }
            if let Some(peer) = self.peers.get_mut(&address)
                && peer.held_by_bfd
            {
                peer.release();
            }
            return;
        };
        let Some((ends, local)) = peer.bfd_ends(if settings.multihop { multi } else { single }) else {
            return;
        };
        let live = match &peer.liveness {
            Some(bfd) => Arc::clone(&bfd.live),
            None => Arc::new(Live::new(self.metrics.bfd(&peer.wanted.name))),
        };
        let wanted = Wanted {
            timing: Timing {
                interval: u32::try_from(settings.interval.as_micros()).unwrap_or(u32::MAX),
                multiplier: settings.multiplier,
            },
            peer: ends,
            local,
            multihop: settings.multihop,
            min_ttl: if settings.multihop {
                settings.min_ttl
            } else {
                u8::MAX
            },
            auth: settings.auth,
            live: Arc::clone(&live),
        };
        match &mut peer.liveness {
            Some(bfd) if bfd.settings == settings && (bfd.wanted.peer, bfd.wanted.local) == (ends, local) => {
                return;
            }
            Some(bfd) => (bfd.settings, bfd.wanted) = (settings, wanted.clone()),
            None => {
                info!(peer = %peer.wanted.name, interval_ms = settings.interval.as_millis(), multiplier = settings.multiplier, multihop = settings.multihop, "BFD session begins");
                peer.liveness = Some(Liveness {
                    wanted: wanted.clone(),
                    live,
                    settings,
                    failures: 0,
                    told: State::Down,
                    obstacle: None,
                });
            }
        }
        // Strict was turned off, or the session is up already.
        if peer.held_by_bfd && (!settings.strict || peer.liveness.as_ref().is_some_and(Liveness::lets_go)) {
            peer.release();
        }
        self.ask_bfd(address, Some(wanted));
    }

    /// Takes the BFD session of a peer away that is no peer any more.
    pub(super) fn unwatch(&mut self, address: IpAddr, peer: &Peer) {
        if peer.liveness.is_some() {
            self.ask_bfd(address, None);
        }
    }

    fn ask_bfd(&mut self, peer: IpAddr, wanted: Option<Wanted>) {
        if let Err(error) = self.bfd.set(peer, wanted) {
            error!(%error, "no thread for BFD; raise the limit of tasks of this service (TasksMax, RLIMIT_NPROC)");
        }
    }

    /// Looks at every BFD session: something has changed in one of them.
    pub(super) fn look_at_bfd(&mut self) {
        let mut failed = Vec::new();
        for (address, peer) in &mut self.peers {
            let Some(bfd) = &mut peer.liveness else {
                continue;
            };
            let (state, name) = (bfd.live.state(), &peer.wanted.name);
            let failures = bfd.live.failures();
            if failures != bfd.failures {
                bfd.failures = failures;
                bfd.told = state;
                let reason = bfd.live.failure();
                warn!(peer = %name, %reason, "BFD session failed");
                failed.push(*address);
            } else if bfd.told != state {
                bfd.told = state;
                match state {
                    State::Up => info!(peer = %name, "BFD session up"),
                    State::Down => info!(peer = %name, reason = %bfd.live.failure(), "BFD session down"),
                    _ => {}
                }
            }
            if peer.held_by_bfd && peer.liveness.as_ref().is_some_and(Liveness::lets_go) {
                peer.release();
            }
        }
        for address in failed {
            self.lost(address);
        }
    }

    /// RFC 5882 section 4.3: what BFD says of the way to the peer counts for its routes. Those that are kept for a graceful
    /// restart are spared if the peer's BFD ends with its control plane (no C bit): then it had to fail, and says nothing of
    /// the way. The session ends with Cease, BFD Down (RFC 9384).
    fn lost(&mut self, address: IpAddr) {
        // As a hard reset: nothing is kept, whatever the OPENs agreed on (RFC 8538).
        let ended = Ended::Sent(Notification::cease(cease::BFD_DOWN).hard());
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        if peer.restarts_with_bfd() {
            info!(peer = %peer.wanted.name, "the peer restarts, and its BFD with it: its routes are kept");
            peer.hold_for_bfd();
            return;
        }
        if !peer.over_limit {
            let strict = peer.wanted.bfd.is_some_and(|bfd| bfd.strict);
            peer.held_by_bfd = strict;
            let hold_off = if strict { FOR_GOOD } else { REST };
            peer.reset(Notification::cease(cease::BFD_DOWN), hold_off);
        }
        // The session's own report would come in time, but behind whatever else it has to tell.
        self.down(address, &ended);
        if let Some(peer) = self.peers.get_mut(&address)
            && peer.stale.is_some()
        {
            peer.stale = Some((crate::wire::Families::ALL, Instant::now()));
            peer.long_lived.clear();
            self.keep_house();
        }
    }

    /// What is due by the clock: obstacles are said, a thread that died is started anew.
    pub(super) fn check_bfd(&mut self) {
        if self.bfd.died() {
            error!("the BFD thread died and is started anew; please report this");
            self.bfd.restart();
            let watched = self
                .peers
                .iter()
                .filter_map(|(address, peer)| Some((*address, peer.liveness.as_ref()?.wanted.clone())));
            for (address, wanted) in watched.collect::<Vec<_>>() {
                self.ask_bfd(address, Some(wanted));
            }
        }
        if let Some(priority) = self.bfd.priority()
            && self.bfd_priority != Some(priority)
        {
            self.bfd_priority = Some(priority);
            self.metrics
                .bfd_real_time
                .set((priority == Priority::RealTime).into());
            if priority == Priority::RealTime {
                info!("the BFD thread has real-time priority");
            } else {
                warn!(
                    ?priority,
                    "the BFD thread has no real-time priority: on a loaded box keep interval times multiplier above some hundred milliseconds, or grant it (LimitRTPRIO=10 or CAP_SYS_NICE, RestrictRealtime=no)"
                );
            }
        }
        // Interfaces come and go.
        let waiting = |peer: &Peer| peer.held_by_bfd && peer.liveness.is_none();
        let waiting = self
            .peers
            .iter()
            .filter(|(_, peer)| waiting(peer))
            .map(|(address, _)| *address);
        for address in waiting.collect::<Vec<_>>() {
            self.watch(address);
        }
        for peer in self.peers.values_mut() {
            let Some(bfd) = &mut peer.liveness else {
                continue;
            };
            let obstacle = self
                .bfd
                .obstacle(&bfd.live, peer.wanted.address.is_ipv4(), bfd.settings.multihop);
            if obstacle != bfd.obstacle {
                if let Some(obstacle) = &obstacle {
                    warn!(peer = %peer.wanted.name, obstacle, "BFD does not get on; it is tried again");
                }
                bfd.obstacle = obstacle;
            }
        }
    }
}
