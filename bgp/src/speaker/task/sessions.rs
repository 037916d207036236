//! Sessions: what they say, and what is due by the clock.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::Role;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::super::peer::Peer;
use super::{FOR_GOOD, Speaker};
use crate::error::cease;
use crate::fsm::{Ended, Terms};
use crate::policy::Import;
use crate::rib::{Counts, PeerInfo};
use crate::session::{Report, SessionKey};
use crate::wire::{Families, Family, Notification, RouteRefreshKind, Update};

/// How long a peer may take to repeat everything.
const REFRESH: Duration = Duration::from_secs(300);

impl Speaker {
    pub(super) fn reported(&mut self, key: SessionKey, report: Report) {
        let Some(address) = self.keys.get(&key).copied() else {
            return;
        };
        match report {
            Report::Up(terms) => self.up(address, terms),
            Report::Updates(updates) => self.updates(address, &updates),
            Report::Refresh(family, kind) => self.refreshed(address, family, kind),
            Report::Down(ended) => self.down(address, &ended),
        }
    }

    fn up(&mut self, address: IpAddr, terms: Arc<Terms>) {
        let next_hops = self.next_hops.borrow().clone();
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let info = PeerInfo {
            name: peer.wanted.name.clone(),
            address,
            asn: terms.asn,
            router_id: terms.router_id,
            role: peer.wanted.role,
            interface: peer.interface(&next_hops),
        };
        let (id, delta) = self.rib.peer_up(info);
        peer.id = Some(id);
        peer.awaited = terms.wire.families;
        peer.was_established = true;
        peer.sessions = peer.sessions.saturating_add(1);
        let mut deltas = vec![delta];
        // RFC 4724 section 4.2: what the peer did not keep forwarding for is over now; the rest must be said again
        // before its restart time is over once more.
        if let Some((stale, _)) = peer.stale.take() {
            let kept = kept(&terms, stale, peer.long_lived_since.is_some());
            let lost = stale.iter().filter(|family| !kept.contains(*family));
            deltas.extend(lost.map(|family| self.rib.sweep_stale(id, family)));
            if !kept.is_empty() {
                peer.stale = Some((kept, Instant::now() + restart_time(&terms)));
            }
        }
        peer.long_lived.clear();
        peer.long_lived_since = None;
        peer.terms = Some(terms);
        (peer.over_limit, peer.near_limit) = (false, false);
        self.untold_peers.insert(peer.wanted.name.clone(), true);
        for delta in deltas {
            self.spread(delta);
        }
        if let Some(peer) = self.peers.get(&address) {
            self.feed.up(self.monitor(peer).as_ref());
        }
        self.returning_heard();
        self.order(address);
        self.watch(address);
    }

    fn updates(&mut self, address: IpAddr, updates: &[Update]) {
        // Of a session that BFD has ended some may be on its way still.
        let established = self.peers.get(&address).filter(|peer| peer.established());
        let Some(id) = established.and_then(|peer| peer.id) else {
            return;
        };
        let mut all_let_in = Vec::with_capacity(updates.len());
        for update in updates {
            let Some(peer) = self.peers.get_mut(&address) else {
                return;
            };
            let heard = update.announced.len().saturating_add(update.withdrawn.len());
            let heard = u64::try_from(heard).unwrap_or(u64::MAX);
            peer.prefixes_received = peer.prefixes_received.saturating_add(heard);
            let (name, metrics) = (&peer.wanted.name, &self.metrics);
            let (rejected_paths, rejections) = (&mut peer.rejected_paths, &mut peer.rejections);
            let told = &mut peer.rejections_told;
            let external = peer.terms.as_ref().filter(|terms| !terms.wire.internal);
            let import = Import {
                role: peer.wanted.role,
                first_as: external
                    .filter(|_| peer.wanted.enforce_first_as)
                    .map(|terms| terms.asn),
                pod_prefixes: &self.bgp.pod_prefixes,
                floor: &self.floor,
                rules: &peer.wanted.import,
                external: external.map(|terms| terms.asn),
            };
            let announced = update.announced.iter().map(|(nlri, _)| nlri);
            announced
                .chain(&update.withdrawn)
                .for_each(|nlri| rejections.forget(nlri));
            let let_in = import.filter(update, |nlri, next_hop, why, rule| {
                *rejected_paths = rejected_paths.saturating_add(1);
                if told.insert(why) {
                    warn!(peer = %name, prefix = %nlri.prefix, %why, "a route is not let in; further ones for this reason are only counted");
                }
                rejections.note(nlri, next_hop, why, rule);
                metrics
                    .rejected_paths
                    .with_label_values(&[name.as_str(), why.as_str()])
                    .inc();
            });
            if let Some(family) = update.end_of_rib {
                peer.awaited = without(peer.awaited, family);
                peer.stale = peer
                    .stale
                    .map(|(families, until)| (without(families, family), until))
                    .filter(|(families, _)| !families.is_empty());
                info!(peer = %peer.wanted.name, %family, "End-of-RIB: the peer has told everything");
            }
            all_let_in.extend(let_in);
        }
        if let Some(terms) = self.peers.get(&address).and_then(|peer| peer.terms.as_ref()) {
            let let_in = all_let_in.iter().map(std::ops::Deref::deref);
            self.feed.updates(address, terms, let_in);
        }
        let delta = self
            .rib
            .updates(id, all_let_in.iter().map(std::ops::Deref::deref));
        self.spread(delta);
        if updates.iter().any(|update| update.end_of_rib.is_some()) {
            self.converge();
        }
        let counts = self.rib.counts(id);
        if let Some(peer) = self.peers.get_mut(&address) {
            show_counts(peer, counts);
            limit(peer, counts);
        }
    }

    /// RFC 7313 section 4: what the peer does not repeat between beginning and end of a refresh is gone.
    fn refreshed(&mut self, address: IpAddr, family: Family, kind: RouteRefreshKind) {
        let Some(peer) = self.peers.get_mut(&address).filter(|peer| peer.established()) else {
            return;
        };
        let Some(id) = peer.id else {
            return;
        };
        let running = peer.refreshing.map_or(Families::NONE, |(families, _)| families);
        match kind {
            RouteRefreshKind::Begin => {
                peer.refreshing = Some((running.with(family), Instant::now() + REFRESH));
                self.rib.mark_stale(id, family);
            }
            RouteRefreshKind::End if running.contains(family) => {
                peer.refreshing = peer
                    .refreshing
                    .map(|(families, until)| (without(families, family), until))
                    .filter(|(families, _)| !families.is_empty());
                let delta = self.rib.sweep_stale(id, family);
                // What was not repeated is gone without a word.
                if !delta.is_empty() {
                    self.feed.anew();
                }
                self.spread(delta);
            }
            // An end without a beginning says nothing.
            _ => {}
        }
        if let Some(peer) = self.peers.get_mut(&address) {
            show_counts(peer, self.rib.counts(id));
        }
    }

    pub(super) fn down(&mut self, address: IpAddr, ended: &Ended) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let Some(terms) = peer.terms.take() else {
            return;
        };
        self.feed.down(address, &terms, ended);
        peer.idle_since = Instant::now();
        peer.awaited = Families::NONE;
        peer.refreshing = None;
        peer.rejected_paths = 0;
        peer.rejections.clear();
        peer.rejections_told.clear();
        self.untold_peers.insert(peer.wanted.name.clone(), false);
        let Some(id) = peer.id else {
            return;
        };
        let keep: Vec<_> = if terms.outlives(ended) {
            restartable(&terms).iter().collect()
        } else {
            vec![]
        };
        peer.stale = (!keep.is_empty()).then(|| {
            let time = restart_time(&terms);
            info!(peer = %peer.wanted.name, seconds = time.as_secs(), "graceful restart: routes are kept while the peer is away");
            (keep.iter().copied().collect(), Instant::now() + time)
        });
        peer.long_lived.clone_from(&terms.long_lived);
        peer.long_lived_since = None;
        let (first, rest) = self.rib.begin_peer_down(id, &keep);
        self.spread_all(first, rest);
        if let Some(peer) = self.peers.get(&address) {
            show_counts(peer, self.rib.counts(id));
        }
    }

    /// What is due by the clock.
    pub(super) fn keep_house(&mut self) {
        let now = Instant::now();
        self.peers.values_mut().for_each(|peer| peer.sample(now));
        if !self.exports.is_empty() {
            self.tidy_exports();
        }
        self.end_refreshes(now);
        let overdue = |peer: &Peer| peer.stale.is_some_and(|(_, until)| until <= now);
        let expired: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| overdue(peer))
            .map(|(address, _)| *address)
            .collect();
        for address in expired {
            let Some(peer) = self.peers.get_mut(&address) else {
                continue;
            };
            let (Some((families, _)), Some(id)) = (peer.stale.take(), peer.id) else {
                continue;
            };
            let gone = self.let_live(address, families, now);
            if let (Some(peer), false) = (self.peers.get(&address), gone.is_empty()) {
                warn!(peer = %peer.wanted.name, "graceful restart: the peer did not come back or repeat its routes in time; they are withdrawn");
            }
            for family in gone.iter() {
                let delta = self.rib.sweep_stale(id, family);
                self.spread(delta);
            }
            if let Some(peer) = self.peers.get_mut(&address) {
                show_counts(peer, self.rib.counts(id));
            }
        }
        let forgotten: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.forgotten(now))
            .map(|(address, _)| *address)
            .collect();
        for address in forgotten {
            self.remove(address, &Notification::cease(cease::DECONFIGURED));
        }
        let dead: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.task.is_finished())
            .map(|(address, _)| *address)
            .collect();
        for address in dead {
            error!(%address, "the task of a BGP peer died and is started anew; please report this");
            self.remove(address, &Notification::cease(cease::CONFIGURATION));
            self.match_peers();
        }
    }

    /// Ends refreshes that the peer has begun and not ended.
    fn end_refreshes(&mut self, now: Instant) {
        let overdue: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(address, peer)| Some((*address, peer.refreshing?)))
            .filter(|(_, (_, until))| *until <= now)
            .map(|(address, (families, _))| (address, families))
            .collect();
        for (address, families) in overdue {
            warn!(%address, "the peer began to repeat its routes and did not come to an end; what it did not repeat is withdrawn");
            for family in families.iter() {
                self.refreshed(address, family, RouteRefreshKind::End);
            }
        }
    }

    /// Tells the kernel once that every configured node has said everything. With ranges nobody knows who is still to
    /// come; the kernel's own time limit decides then.
    fn converge(&mut self) {
        if self.returning.is_some() {
            return self.go_on_returning();
        }
        let all = self.bgp.peer_ranges.is_empty()
            && self
                .peers
                .values()
                .filter(|peer| peer.wanted.role == Role::Cluster)
                .all(Peer::has_told_all);
        if all && !self.converged {
            self.converged = true;
            self.kernel.converged();
        }
    }
}

/// Holds a peer to its number of paths.
pub(super) fn limit(peer: &mut Peer, counts: Counts) {
    let held = counts.ipv4.saturating_add(counts.ipv6);
    let most = peer.wanted.max_prefixes;
    let over = |limit: u32| held > usize::try_from(limit).unwrap_or(usize::MAX);
    if !peer.established() || peer.over_limit {
        return;
    }
    if over(most.limit) {
        warn!(peer = %peer.wanted.name, held, limit = most.limit, restart = ?most.restart, "too many paths, ending the session");
        peer.over_limit = true;
        peer.resets = peer.resets.saturating_add(1);
        let number = peer.resets;
        peer.orders.send_modify(|orders| {
            let notification = Notification::cease(cease::PREFIX_LIMIT);
            orders.reset = Some((number, notification, most.restart.unwrap_or(FOR_GOOD)));
        });
    } else if over(most.warning().saturating_sub(1)) {
        if !peer.near_limit {
            warn!(peer = %peer.wanted.name, held, limit = most.limit, "the peer comes near its max_prefixes");
        }
        peer.near_limit = true;
    } else {
        peer.near_limit = false;
    }
}

/// Families in which the peer can restart.
fn restartable(terms: &Terms) -> Families {
    let restart = terms.graceful_restart.iter();
    restart
        .flat_map(|restart| &restart.families)
        .map(|(family, _)| *family)
        .collect()
}

/// Of the families whose routes are kept, those for which the returning peer says that it went on forwarding.
fn kept(terms: &Terms, stale: Families, long_lived: bool) -> Families {
    // After the restart time the other capability tells (RFC 9494 section 4.2).
    if long_lived {
        let forwarding = terms.long_lived.iter().filter(|one| one.forwarding);
        let families: Families = forwarding.map(|one| one.family).collect();
        return families.common(stale);
    }
    let restart = terms.graceful_restart.iter();
    let forwarding: Families = restart
        .flat_map(|restart| &restart.families)
        .filter(|(_, forwarding)| *forwarding)
        .map(|(family, _)| *family)
        .collect();
    forwarding.common(stale)
}

fn restart_time(terms: &Terms) -> Duration {
    terms
        .graceful_restart
        .as_ref()
        .map(|restart| restart.time)
        .unwrap_or_default()
}

fn without(families: Families, gone: Family) -> Families {
    families.iter().filter(|family| *family != gone).collect()
}

fn show_counts(peer: &Peer, counts: Counts) {
    peer.metrics
        .ipv4
        .set(i64::try_from(counts.ipv4).unwrap_or(i64::MAX));
    peer.metrics
        .ipv6
        .set(i64::try_from(counts.ipv6).unwrap_or(i64::MAX));
}
