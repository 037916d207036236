//! Peers: who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use sekisho_config::model::{Bgp, Role};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::super::listen::signers;
use super::super::peer::{Peer, Wanted};
use super::super::rates::Rates;
use super::sessions::limit;
use super::{ACCEPTED, MAX_RANGE_PEERS, STRANGER_LOG, Speaker, local};
use crate::error::cease;
use crate::fib;
use crate::fsm::Timers;
use crate::policy::Rejections;
use crate::session::{Channels, Orders, Session, Settings, Shared};
use crate::wire::{Families, Notification};

impl Speaker {
    pub(super) fn configure(&mut self, bgp: Bgp) {
        if bgp.listen != self.bgp.listen {
            warn!("bgp.listen has changed; it names sockets and takes effect after a restart");
        }
        let settings = fib::Settings {
            install_routes: bgp.install_routes,
            table: bgp.table,
            nexthop_objects: bgp.nexthop_objects,
        };
        let installs = self.bgp.install_routes;
        self.kernel.configure(settings);
        let identity_changed = bgp.identity != self.bgp.identity || bgp.error_wait != self.bgp.error_wait;
        let pods_changed = bgp.pod_prefixes != self.bgp.pod_prefixes;
        self.bgp = bgp;
        self.signers.send_if_modified(|now| {
            let next = signers(&self.bgp);
            let differs = *now != next;
            *now = next;
            differs
        });
        if identity_changed {
            info!("AS, router id, hold time or error wait changed; every session is opened anew");
            let all: Vec<_> = self.peers.keys().copied().collect();
            for address in all {
                self.remove(address, &Notification::cease(cease::CONFIGURATION));
            }
        }
        let delta = self.rib.configure(local(&self.bgp, self.routing));
        self.spread(delta);
        match (installs, self.bgp.install_routes) {
            // It has heard nothing while nothing was to be written.
            (false, true) => {
                let all = self.rib.all_forwarding();
                self.kernel.routes_anew(all.ways, all.fib);
            }
            (true, false) => self.kernel.routes_anew(Vec::new(), Vec::new()),
            _ => {}
        }
        self.match_peers();
        if pods_changed {
            info!("the networks of pods have changed; cluster peers are asked for their routes again");
            let cluster = |peer: &&mut Peer| peer.wanted.role == Role::Cluster;
            self.peers.values_mut().filter(cluster).for_each(Peer::ask_again);
        }
    }

    /// Makes the peers match the configuration; leaves alone those that do.
    pub(super) fn match_peers(&mut self) {
        let mut wanted: BTreeMap<IpAddr, Wanted> = BTreeMap::new();
        for peer in &self.bgp.peers {
            let peer = Wanted::from(peer);
            wanted.entry(peer.address).or_insert(peer);
        }
        let mut same = Vec::new();
        let gone: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(address, peer)| {
                let now = wanted.get(address).cloned();
                let now = now.or_else(|| Wanted::from_ranges(*address, &self.bgp));
                match now {
                    Some(now) if now == peer.wanted => None,
                    // Whoever is kept away by an old limit may try the new one.
                    Some(now) if now.same_session(&peer.wanted) && !peer.over_limit => {
                        same.push((*address, now));
                        None
                    }
                    Some(_) => Some((*address, cease::CONFIGURATION)),
                    None => Some((*address, cease::DECONFIGURED)),
                }
            })
            .collect();
        for (address, now) in same {
            self.retune(address, now);
        }
        for (address, subcode) in gone {
            self.remove(address, &Notification::cease(subcode));
        }
        for (address, peer) in wanted {
            if !self.peers.contains_key(&address) {
                self.add(peer);
            }
        }
    }

    /// Takes settings that change under the session.
    fn retune(&mut self, address: IpAddr, now: Wanted) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        info!(peer = %peer.wanted.name, "BGP peer has new settings; its session stays");
        let client_changed = peer.wanted.pass_on.reflector_client != now.pass_on.reflector_client;
        let rules_changed =
            peer.wanted.enforce_first_as != now.enforce_first_as || peer.wanted.import != now.import;
        peer.wanted = now;
        if rules_changed {
            peer.ask_again();
        }
        peer.shut_down_or_start();
        if let Some(id) = peer.id {
            limit(peer, self.rib.counts(id));
        }
        self.order(address);
        if client_changed && !self.exports.is_empty() {
            self.pass_on_anew();
        }
        self.watch(address);
    }

    fn add(&mut self, wanted: Wanted) {
        let key = self.next_key;
        self.next_key = self.next_key.saturating_add(1);
        info!(peer = %wanted.name, address = %wanted.address, asn = %wanted.asn, role = %wanted.role, "BGP peer added");
        let (orders, orders_taken) = watch::channel(Orders::default());
        let (accepted, accepted_taken) = mpsc::channel(ACCEPTED);
        let shared = Shared::new();
        let metrics = self.metrics.peer(&wanted.name);
        let settings = Settings {
            name: wanted.name.clone(),
            address: wanted.socket_address(),
            passive: wanted.passive,
            protection: wanted.protection(&self.bgp.identity),
            identity: wanted.identity(&self.bgp.identity, self.restart()),
            timers: Timers {
                idle_hold: self.bgp.error_wait.first,
                idle_hold_max: self.bgp.error_wait.most,
                ..Timers::default()
            },
            seed: self.dice.hash_one(key),
        };
        let channels = Channels {
            key,
            orders: orders_taken,
            accepted: accepted_taken,
            reports: self.reports.0.clone(),
            shared: shared.clone(),
            metrics: metrics.clone(),
        };
        let session = Session::<TcpStream>::new(settings, channels);
        let task = self.tasks.spawn_on(session.run(), self.thread.runtime());
        let address = wanted.address;
        self.keys.insert(key, address);
        let peer = Peer {
            wanted,
            key,
            orders,
            accepted,
            shared,
            metrics,
            task,
            id: None,
            terms: None,
            stale: None,
            long_lived: Vec::new(),
            long_lived_since: None,
            refreshing: None,
            awaited: Families::NONE,
            rejected_paths: 0,
            rejections: Rejections::default(),
            rejections_told: BTreeSet::new(),
            resets: 0,
            over_limit: false,
            near_limit: false,
            prefixes_received: 0,
            rates: Rates::default(),
            liveness: None,
            held_by_bfd: false,
            idle_since: Instant::now(),
            was_established: false,
            sessions: 0,
        };
        peer.shut_down_or_start();
        let peer = self.peers.entry(address).or_insert(peer);
        peer.hold_for_bfd();
        self.order(address);
        self.watch(address);
    }

    pub(super) fn remove(&mut self, address: IpAddr, notification: &Notification) {
        let Some(peer) = self.peers.remove(&address) else {
            return;
        };
        info!(peer = %peer.wanted.name, reason = %notification, "BGP peer removed");
        self.keys.remove(&peer.key);
        self.unwatch(address, &peer);
        peer.orders
            .send_modify(|orders| orders.stop = Some(notification.clone()));
        self.leaving.retain(|task| !task.is_finished());
        self.leaving.push(peer.task);
        self.metrics.remove(&peer.wanted.name);
        if let Some(terms) = &peer.terms {
            self.feed
                .down(address, terms, &crate::fsm::Ended::Sent(notification.clone()));
            self.untold_peers.insert(peer.wanted.name, false);
        }
        if let Some(id) = peer.id {
            let (first, rest) = self.rib.begin_peer_down(id, &[]);
            self.spread_all(first, rest);
            self.rib.forget(id);
            self.exports.forget(id);
        }
    }

    pub(super) fn connected(&mut self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        if !self.peers.contains_key(&address) {
            let Some(wanted) = Wanted::from_ranges(address, &self.bgp) else {
                return self.refuse(address, "unknown");
            };
            let range_peers = self
                .peers
                .values()
                .filter(|peer| peer.wanted.range.is_some())
                .count();
            if range_peers >= MAX_RANGE_PEERS && !self.make_room() {
                return self.refuse(address, "limit");
            }
            self.add(wanted);
        }
        let Some(peer) = self.peers.get(&address) else {
            return;
        };
        // Closed without a word: after a NOTIFICATION the peer would wait long before it comes again.
        let refused = if peer.held_by_bfd {
            Some("bfd")
        } else {
            peer.accepted.try_send(stream).err().map(|_| "busy")
        };
        if let Some(reason) = refused {
            self.metrics.refused.with_label_values(&[reason]).inc();
        }
    }

    /// Lets go of the peer of a range that has waited longest without ever having had a session: strangers that only
    /// knock must not keep a new node out. Returns whether there was one.
    fn make_room(&mut self) -> bool {
        let never_stood =
            |peer: &Peer| peer.wanted.range.is_some() && !peer.was_established && peer.terms.is_none();
        let longest = self
            .peers
            .iter()
            .filter(|(_, peer)| never_stood(peer))
            .min_by_key(|(_, peer)| peer.idle_since)
            .map(|(address, _)| *address);
        if let Some(address) = longest {
            self.remove(address, &Notification::cease(cease::REJECTED));
        }
        longest.is_some()
    }

    /// Closes a connection without a word.
    fn refuse(&mut self, address: IpAddr, reason: &'static str) {
        self.metrics.refused.with_label_values(&[reason]).inc();
        let now = Instant::now();
        self.strangers
            .retain(|_, logged| now.saturating_duration_since(*logged) < STRANGER_LOG);
        if self.strangers.len() < 256 && !self.strangers.contains_key(&address) {
            self.strangers.insert(address, now);
            let remedy = match reason {
                "limit" => "the ranges have as many peers as the box takes",
                _ => "add a [[bgp.peers]] or [[bgp.peer_ranges]] entry if it is meant to come",
            };
            warn!(%address, reason, remedy, "BGP connection refused");
        }
    }
}
