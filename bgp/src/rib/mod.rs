//! The routing table: what every peer said, which path is best and why the others are not, who can be reached.
//!
//! Pure: no socket, no clock. The speaker feeds it; what changed comes back as a [`Delta`] for the kernel
//! ([`crate::fib`]) and for the [`Tracker`] of addresses that control asked about. What the table says is a function
//! of what it holds: the order in which paths arrived is nowhere remembered.

mod attributes_view;
mod change;
mod decide;
mod gateways;
mod hops;
mod next_hops;
mod offer;
mod peer;
mod reach;
mod recursion;
mod table;
mod track;
mod trie;
mod view;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{Asn, PeerName, Prefix, RouterId};

pub use attributes_view::MoreAttributes;
pub use decide::{Candidate, DEFAULT_LOCAL_PREFERENCE, Ineligible, Lost, Place, decide};
pub use next_hops::{KernelRoute, KernelTarget, NextHops};
pub use offer::Offer;
pub use peer::{Counts, PeerId, PeerInfo};
pub use track::Tracker;
pub use view::{Relation, RouteCount, RouteQuery, RouteView};

use crate::wire::{Attributes, Family, Update};
use change::Changes;
use gateways::GatewaySets;
use hops::Hops;
use table::Table;

/// Who decides: our side of the comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Local {
    /// Our AS: a peer of the same AS is internal; a path that holds it is a loop.
    pub asn: Asn,
    /// Our identifier: a path that we originated is a loop.
    pub router_id: RouterId,
    /// Our CLUSTER_ID: a path that we have reflected is a loop.
    pub cluster_id: RouterId,
    /// `routing = "preferred"`: an address without a BGP route may use the kernel's own.
    pub kernel_fallback: bool,
}

/// The routing table.
#[derive(Debug)]
pub struct Rib {
    local: Local,
    kernel: NextHops,
    peers: BTreeMap<PeerId, Peer>,
    names: BTreeMap<PeerName, PeerId>,
    next_peer: u32,
    table: Table,
    hops: Hops,
    gateways: GatewaySets,
    attributes: HashSet<Arc<Attributes>>,
    attributes_swept: usize,
}

#[derive(Debug)]
struct Peer {
    info: PeerInfo,
    counts: Counts,
}

/// What one call changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delta {
    /// Prefixes whose paths changed in any way that [`Rib::reach`] can see; ordered, each once.
    pub changed: Vec<Prefix>,
    /// Prefixes whose forwarding changed, with the new gateways; `None`: no route any more. Ordered, each once.
    pub fib: Vec<(Prefix, Option<Gateways>)>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.fib.is_empty()
    }
}

/// Where packets of a prefix go: at least one, at most 64, ordered, each once; more than one for ECMP.
pub type Gateways = Arc<[Gateway]>;

/// One next hop as the kernel needs it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Gateway {
    /// The neighbour.
    pub via: IpAddr,
    /// Index of the outgoing interface.
    pub interface: u32,
}

impl Rib {
    /// An empty table. No next hop is valid before the first [`Self::next_hops_changed`].
    pub fn new(local: Local) -> Self {
        Self {
            local,
            kernel: NextHops::default(),
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            next_peer: 0,
            table: Table::new(),
            hops: Hops::default(),
            gateways: GatewaySets::default(),
            attributes: HashSet::new(),
            attributes_swept: 0,
        }
    }

    /// Our side.
    pub fn local(&self) -> Local {
        self.local
    }

    /// Changes our side; everything is decided anew.
    pub fn configure(&mut self, local: Local) -> Delta {
        if self.local == local {
            return Delta::default();
        }
        self.local = local;
        let prefixes = self.prefixes(|_| true);
        let mut changes = Changes::default();
        self.settle_all(&prefixes, &mut changes);
        // What only the kernel's own routes reach is seen or unseen now.
        changes.changed(self.kernel.routes.keys().copied());
        changes.everything();
        self.conclude(changes)
    }

    /// A session is established. The same name gives the same id, with the stale paths that were kept.
    pub fn peer_up(&mut self, info: PeerInfo) -> (PeerId, Delta) {
        if let Some(id) = self.names.get(&info.name).copied()
            && let Some(peer) = self.peers.get_mut(&id)
        {
            if peer.info == info {
                return (id, Delta::default());
            }
            peer.info = info;
            let prefixes = self.prefixes_of(id);
            let mut changes = Changes::default();
            self.settle_all(&prefixes, &mut changes);
            return (id, self.conclude(changes));
        }
        let id = PeerId(self.next_peer);
        self.next_peer = self.next_peer.wrapping_add(1);
        self.names.insert(info.name.clone(), id);
        let counts = Counts::default();
        self.peers.insert(id, Peer { info, counts });
        (id, Delta::default())
    }

    /// Takes an UPDATE of an established session. An End-of-RIB marker sweeps what is still stale of its family.
    pub fn update(&mut self, peer: PeerId, update: &Update) -> Delta {
        let mut changes = Changes::default();
        for nlri in &update.withdrawn {
            self.withdraw(peer, *nlri, &mut changes);
        }
        match &update.attributes {
            Some(attributes) if !update.announced.is_empty() => {
                let attributes = self.intern(attributes);
                for (nlri, next_hop) in &update.announced {
                    self.announce(peer, *nlri, *next_hop, &attributes, &mut changes);
                }
            }
            Some(_) => {}
            // Cannot be decoded so; if it ever is, the safe reading is that of RFC 7606.
            None => {
                for (nlri, _) in &update.announced {
                    self.withdraw(peer, *nlri, &mut changes);
                }
            }
        }
        if let Some(family) = update.end_of_rib {
            self.remove_where(peer, &mut changes, |path_family, stale| {
                stale && path_family == family
            });
        }
        self.conclude(changes)
    }

    /// The session is gone. Paths of the families in `keep` become stale (RFC 4724 section 4.2), all others are
    /// withdrawn; so are those of `keep` that were already stale.
    pub fn peer_down(&mut self, peer: PeerId, keep: &[Family]) -> Delta {
        let mut changes = Changes::default();
        self.remove_where(peer, &mut changes, |family, stale| {
            stale || !keep.contains(&family)
        });
        for family in keep {
            self.mark_stale(peer, *family);
        }
        self.sweep_attributes();
        self.conclude(changes)
    }

    /// Marks the paths of one family stale while the session goes on (RFC 7313 section 4: beginning of a refresh).
    pub fn mark_stale(&mut self, peer: PeerId, family: Family) {
        for prefix in self.prefixes_of(peer) {
            if family_of(&prefix) != family {
                continue;
            }
            let Some(destination) = self.table.get_mut(&prefix) else {
                continue;
            };
            for path in &mut destination.paths {
                if path.peer == peer && !path.stale {
                    path.stale = true;
                    if let Some(peer) = self.peers.get_mut(&peer) {
                        peer.counts.stale += 1;
                    }
                }
            }
        }
    }

    /// Withdraws what is still stale: at End-of-RIB, at the end of a refresh, when the restart time is over.
    pub fn sweep_stale(&mut self, peer: PeerId, family: Family) -> Delta {
        let mut changes = Changes::default();
        self.remove_where(peer, &mut changes, |path_family, stale| {
            stale && path_family == family
        });
        self.conclude(changes)
    }

    /// Withdraws everything of a peer and forgets it: it is no longer configured.
    pub fn forget(&mut self, peer: PeerId) -> Delta {
        let delta = self.peer_down(peer, &[]);
        if let Some(gone) = self.peers.remove(&peer) {
            self.names.remove(&gone.info.name);
        }
        delta
    }

    /// How many paths a peer has here.
    pub fn counts(&self, peer: PeerId) -> Counts {
        self.peers
            .get(&peer)
            .map_or_else(Counts::default, |peer| peer.counts)
    }
}

fn family_of(prefix: &Prefix) -> Family {
    if prefix.is_ipv4() {
        Family::Ipv4Unicast
    } else {
        Family::Ipv6Unicast
    }
}

#[cfg(test)]
mod tests;
