//! Graceful restart, restarting side (RFC 4724 section 4.1): this process follows one that left its routes in the kernel,
//! and peers may be waiting for it.
//!
//! What was there stays as it is until the nodes have told everything, or have had time enough; then the kernel gets what is
//! chosen, and pods are passed on. VIPs are announced as soon as they can serve. The peers' End-of-RIB, at which they let go of
//! what they have not heard again, comes once every VIP has been announced, or has had time enough for that.

use std::time::Duration;

use sekisho_config::model::Role;
use tokio::time::Instant;
use tracing::{info, warn};

use super::super::peer::Peer;
use super::Speaker;
use crate::fsm::Restart;
use crate::wire::Families;

/// The longest that selection waits for the nodes: Selection_Deferral_Timer of RFC 4724. The kernel's left-overs go then as well.
const DEFERRAL: Duration = Duration::from_secs(60);

/// Nobody knows which nodes a range lets in: they have come when for so long none has come any more. A Calico node dials every
/// five seconds.
const QUIET: Duration = Duration::from_secs(10);

/// Once the nodes have told everything and the source has named the VIPs, those that cannot serve for so long do not serve.
const SETTLING: Duration = Duration::from_secs(10);

/// A restart that is not over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returning {
    /// The longest that it lasts.
    until: Instant,
    /// Nothing is chosen yet.
    defers: bool,
    /// When a peer came up last, or we began.
    last_up: Instant,
    /// Since when it is known what there is to serve, and with what.
    known_since: Option<Instant>,
}

impl Speaker {
    /// Looks whether an earlier process has left something, before anybody is spoken with.
    pub(super) async fn look_back(&mut self) {
        let restart = self.bgp.identity.restart;
        if !restart.enabled || !self.bgp.install_routes {
            return;
        }
        let preserved = self.kernel.left_over().await;
        if preserved.is_empty() {
            return info!(
                "graceful restart: nothing of an earlier process is in the kernel; this is a fresh start"
            );
        }
        let now = Instant::now();
        self.preserved = preserved;
        self.returned_until = Some((now + restart.time).into_std());
        self.returning = Some(Returning {
            until: now + restart.time.min(DEFERRAL),
            defers: true,
            last_up: now,
            known_since: None,
        });
        self.metrics.restarting.set(1);
        let families: Vec<_> = preserved.iter().map(|family| family.to_string()).collect();
        info!(
            ?families,
            "graceful restart: routes of an earlier process stay until the peers have told theirs"
        );
    }

    /// What peers hear of it.
    pub(super) fn restart(&self) -> Restart {
        let wanted = self.bgp.identity.restart;
        Restart {
            families: if wanted.enabled {
                Families::ALL
            } else {
                Families::NONE
            },
            returned_until: self.returned_until,
            preserved: self.preserved,
            ..Restart::receiver(u16::try_from(wanted.time.as_secs()).unwrap_or(u16::MAX))
        }
    }

    /// Whether neither the kernel nor peers are told of learned routes yet.
    pub(super) fn defers(&self) -> bool {
        self.returning.is_some_and(|returning| returning.defers)
    }

    /// A peer came up.
    pub(super) fn returning_heard(&mut self) {
        if let Some(returning) = &mut self.returning {
            returning.last_up = Instant::now();
        }
    }

    /// Goes on as far as it is known what peers are to hear.
    pub(super) fn go_on_returning(&mut self) {
        let Some(returning) = self.returning else {
            return;
        };
        let now = Instant::now();
        let over = returning.until <= now;
        if returning.defers && (over || self.has_heard_nodes(returning.last_up, now)) {
            self.returning = Some(Returning {
                defers: false,
                ..returning
            });
            if over {
                warn!(
                    "graceful restart: not every node has told its routes in time; those that came are used"
                );
            } else {
                info!("graceful restart: the nodes have told everything");
            }
            if self.bgp.install_routes {
                let all = self.rib.all_forwarding();
                self.kernel.routes_anew(all.ways, all.fib);
            }
            self.pass_on_anew();
        }
        // Of a source that has told nothing yet there is no VIP at all.
        let known = !self.defers() && !self.plan.vips.is_empty();
        let since = returning.known_since.filter(|_| known).unwrap_or(now);
        if let Some(returning) = &mut self.returning {
            returning.known_since = known.then_some(since);
        }
        let settled = known
            && (self.plan.vips.values().all(|vip| vip.announce.is_ok())
                || now.saturating_duration_since(since) >= SETTLING);
        if !self.defers() && (over || settled) {
            info!("graceful restart: over");
            self.returning = None;
            self.converged = true;
            self.metrics.restarting.set(0);
            self.kernel.converged();
            self.order_all();
        }
    }

    fn has_heard_nodes(&self, last_up: Instant, now: Instant) -> bool {
        let nodes = || {
            let peers = self.peers.values();
            peers.filter(|peer| peer.wanted.role == Role::Cluster)
        };
        let ranges = self.bgp.peer_ranges.iter();
        let strangers = ranges.filter(|range| range.role == Role::Cluster).count() > 0;
        let quiet = now.saturating_duration_since(last_up) >= QUIET;
        let known = |peer: &Peer| peer.wanted.range.is_none() || peer.established();
        nodes().filter(|peer| known(peer)).all(has_told)
            && (!strangers || quiet && nodes().any(Peer::established))
    }
}

/// RFC 4724 section 4.1: nobody waits for a peer that has restarted as well, or knows no End-of-RIB.
fn has_told(peer: &Peer) -> bool {
    let excused = |terms: &crate::fsm::Terms| {
        let restart = terms.graceful_restart.as_ref();
        restart.is_none_or(|restart| restart.restarted)
    };
    peer.has_told_all() || peer.terms.as_deref().is_some_and(excused)
}
