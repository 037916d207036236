//! The routing table: what every peer said, which path is best and why the others are not, who can be reached.
//!
//! Pure: no socket, no clock. The speaker feeds it; what changed comes back as a [`Delta`] for the kernel
//! ([`crate::fib`]) and for the [`Tracker`] of addresses that control asked about.

mod next_hops;
mod peer;
mod track;
mod view;

use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{Asn, Prefix, Reach, RouterId};

pub use next_hops::{KernelRoute, KernelTarget, NextHops};
pub use peer::{Counts, PeerId, PeerInfo};
pub use track::Tracker;
pub use view::{Relation, RouteQuery, RouteView};

use crate::wire::{Family, Update};

/// Who decides: our side of the comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Local {
    /// Our AS: a peer of the same AS is internal; a path that holds it is a loop.
    pub asn: Asn,
    /// Our identifier: a path that we originated is a loop.
    pub router_id: RouterId,
    /// `routing = "preferred"`: an address without a BGP route may use the kernel's own.
    pub kernel_fallback: bool,
}

/// The routing table.
#[derive(Debug)]
pub struct Rib {
    local: Local,
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

/// Where packets of a prefix go: at least one, ordered, each once; more than one for ECMP.
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
        Self { local }
    }

    /// Our side.
    pub fn local(&self) -> Local {
        self.local
    }

    /// Changes our side; everything is decided anew.
    pub fn configure(&mut self, local: Local) -> Delta {
        self.local = local;
        todo!()
    }

    /// A session is established. The same name gives the same id, with the stale paths that were kept.
    pub fn peer_up(&mut self, peer: PeerInfo) -> (PeerId, Delta) {
        let _ = peer;
        todo!()
    }

    /// Takes an UPDATE of an established session. An End-of-RIB marker sweeps what is still stale of its family.
    pub fn update(&mut self, peer: PeerId, update: &Update) -> Delta {
        let _ = (peer, update);
        todo!()
    }

    /// The session is gone. Paths of the families in `keep` become stale (RFC 4724 section 4.2), all others are
    /// withdrawn; so are those of `keep` that were already stale.
    pub fn peer_down(&mut self, peer: PeerId, keep: &[Family]) -> Delta {
        let _ = (peer, keep);
        todo!()
    }

    /// Marks the paths of one family stale while the session goes on (RFC 7313 section 4: beginning of a refresh).
    pub fn mark_stale(&mut self, peer: PeerId, family: Family) {
        let _ = (peer, family);
        todo!()
    }

    /// Withdraws what is still stale: at End-of-RIB, at the end of a refresh, when the restart time is over.
    pub fn sweep_stale(&mut self, peer: PeerId, family: Family) -> Delta {
        let _ = (peer, family);
        todo!()
    }

    /// Withdraws everything of a peer and forgets it: it is no longer configured.
    pub fn forget(&mut self, peer: PeerId) -> Delta {
        let _ = peer;
        todo!()
    }

    /// The kernel's links or routes changed.
    pub fn next_hops_changed(&mut self, next_hops: NextHops) -> Delta {
        let _ = next_hops;
        todo!()
    }

    /// Whether and how an address is reached, by longest match. Only paths from `cluster` peers count.
    pub fn reach(&self, address: IpAddr) -> Reach {
        let _ = address;
        todo!()
    }

    /// Paths that answer a query: prefixes in order, best path first. At most [`RouteQuery::limit`] rows.
    pub fn routes(&self, query: &RouteQuery) -> Vec<RouteView> {
        let _ = query;
        todo!()
    }

    /// How many paths a peer has here.
    pub fn counts(&self, peer: PeerId) -> Counts {
        let _ = peer;
        todo!()
    }
}
