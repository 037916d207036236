//! The routing table: what every peer said, which path is best and why the others are not, who can be reached.
//!
//! Pure: no socket, no clock. The speaker feeds it; what changed comes back as a [`Delta`] for the kernel
//! ([`crate::fib`]) and for the [`Tracker`] of addresses that control asked about. What the table says is a function
//! of what it holds: the order in which paths arrived is nowhere remembered.

mod attributes_view;
mod change;
mod decide;
mod forwarding;
mod held;
mod hops;
mod judge;
mod next_hops;
mod offer;
mod owners;
mod paths;
mod peer;
mod pieces;
mod prefix_map;
mod reach;
mod recursion;
mod sources;
mod stale;
mod track;
mod view;
mod weights;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use sekisho_config::model::{Asn, Multipath, PeerName, Prefix, RouterId};

pub use attributes_view::MoreAttributes;
pub use decide::{Candidate, DEFAULT_LOCAL_PREFERENCE, Ineligible, Lost, Place, decide};
pub use forwarding::ForwardingId;
pub use held::HeldPath;
pub use next_hops::{KernelRoute, KernelTarget, NextHops};
pub use offer::Offer;
pub use owners::Owners;
pub use peer::{Counts, PeerId, PeerInfo};
pub use pieces::Rest;
pub(crate) use prefix_map::{PrefixMap, Spot};
pub use track::Tracker;
pub use view::{Relation, RouteCount, RouteQuery, RouteView};
pub(crate) use view::{as_path_text, communities_text};

use crate::wire::{Attributes, Family, Update};
use change::Changes;
use forwarding::Ways;
use hops::Hops;
use paths::Destination;
use peer::{Peer, Peers};
use sources::Sources;

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
    /// Which equal paths share the packets of a prefix.
    pub multipath: Multipath,
}

/// The routing table.
#[derive(Debug)]
pub struct Rib {
    local: Local,
    kernel: NextHops,
    peers: Peers,
    names: BTreeMap<PeerName, PeerId>,
    table: PrefixMap<Destination>,
    sources: Sources,
    hops: Hops,
    ways: Ways,
    /// The way that was taken last: the next prefix probably goes there too.
    last_way: Option<ForwardingId>,
    attributes: HashSet<Arc<Attributes>>,
    attributes_swept: usize,
    owners: Owners,
}

/// What one call changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delta {
    /// Prefixes whose paths changed in any way that [`Rib::reach`] can see; ordered, each once.
    pub changed: Vec<Prefix>,
    /// Ways of forwarding that are new or lead elsewhere now, with where; `None`: no prefix goes that way any more. Ordered,
    /// each once.
    pub ways: Vec<(ForwardingId, Option<Gateways>)>,
    /// Prefixes that go another way, with the way; `None`: no route any more. Ordered, each once.
    pub fib: Vec<(Prefix, Option<ForwardingId>)>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.ways.is_empty() && self.fib.is_empty()
    }

    /// This, and then the other.
    fn then(mut self, later: Self) -> Self {
        let Self { changed, ways, fib } = later;
        if !ways.is_empty() {
            let mut all: BTreeMap<_, _> = self.ways.drain(..).collect();
            all.extend(ways);
            self.ways = all.into_iter().collect();
        }
        self.changed.extend(changed);
        self.fib.extend(fib);
        self.in_order()
    }

    /// The lists as they are promised, whatever the order in which they were made.
    fn in_order(mut self) -> Self {
        if !self.changed.is_sorted_by(|one, next| one < next) {
            self.changed.sort_unstable();
            self.changed.dedup();
        }
        // What came in order mostly goes in order, and to sort takes as much room again.
        if !self.fib.is_sorted_by(|(one, _), (next, _)| one < next) {
            // Stable: of several entries for one prefix the last is what holds.
            self.fib.sort_by_key(|(prefix, _)| *prefix);
            self.fib.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        self
    }
}

/// Where packets go: at least one, at most 64, ordered, each once; more than one for ECMP.
pub type Gateways = Arc<[Gateway]>;

/// One next hop as the kernel needs it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Gateway {
    /// The neighbour.
    pub via: IpAddr,
    /// Index of the outgoing interface.
    pub interface: u32,
    /// Its share of the packets, relative to the others': 1 to 256.
    pub weight: u16,
}

impl Rib {
    /// An empty table. No next hop is valid before the first [`Self::next_hops_changed`].
    pub fn new(local: Local) -> Self {
        Self {
            local,
            kernel: NextHops::default(),
            peers: Peers::default(),
            names: BTreeMap::new(),
            table: PrefixMap::default(),
            sources: Sources::default(),
            hops: Hops::default(),
            ways: Ways::default(),
            last_way: None,
            attributes: HashSet::default(),
            attributes_swept: 0,
            owners: Owners::default(),
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
        self.judge_sources(None);
        let places = self.places(|_, _| true);
        let mut changes = Changes::default();
        self.settle_all(&places, &mut changes);
        // What only the kernel's own routes reach is seen or unseen now.
        changes.changed(self.kernel.routes.keys().copied());
        changes.everything();
        self.conclude(changes)
    }

    /// A session is established. The same name gives the same id, with the stale paths that were kept.
    pub fn peer_up(&mut self, info: PeerInfo) -> (PeerId, Delta) {
        if let Some(id) = self.names.get(&info.name).copied()
            && let Some(peer) = self.peers.get_mut(id)
        {
            if peer.info == info {
                return (id, Delta::default());
            }
            peer.info = info;
            self.judge_sources(Some(id));
            let places = self.places_of(id);
            let mut changes = Changes::default();
            self.settle_all(&places, &mut changes);
            return (id, self.conclude(changes));
        }
        let name = info.name.clone();
        let id = self.peers.insert(info);
        self.names.insert(name, id);
        (id, Delta::default())
    }

    /// Takes an UPDATE of an established session. An End-of-RIB marker sweeps what is still stale of its family.
    pub fn update(&mut self, peer: PeerId, update: &Update) -> Delta {
        self.updates(peer, [update])
    }

    /// Takes several in their order.
    pub fn updates<'u>(&mut self, peer: PeerId, updates: impl IntoIterator<Item = &'u Update>) -> Delta {
        let mut changes = Changes::default();
        for update in updates {
            self.absorb(peer, update, &mut changes);
        }
        self.conclude(changes)
    }

    /// Marks the paths of one family stale while the session goes on (RFC 7313 section 4: beginning of a refresh).
    pub fn mark_stale(&mut self, peer: PeerId, family: Family) {
        for place in self.places_of(peer) {
            let Some((_, destination)) = self
                .table
                .at_mut(place)
                .filter(|(prefix, _)| family_of(prefix) == family)
            else {
                continue;
            };
            for path in destination.paths.iter_mut() {
                let of = self.sources.get(path.source).map(|source| source.peer);
                if of == Some(peer) && !path.stale {
                    path.stale = true;
                    if let Some(peer) = self.peers.get_mut(peer) {
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

    /// Forgets a peer whose paths are gone.
    pub fn forget(&mut self, peer: PeerId) {
        if let Some(gone) = self.peers.remove(peer) {
            self.names.remove(&gone.info.name);
        }
    }

    /// How many paths a peer has here.
    pub fn counts(&self, peer: PeerId) -> Counts {
        self.peers
            .get(peer)
            .map_or_else(Counts::default, |peer| peer.counts)
    }

    /// Everything that the kernel needs to know, as if it were new: after nobody told it.
    pub fn all_forwarding(&self) -> Delta {
        let mut ways: Vec<_> = self
            .ways
            .iter()
            .map(|(id, gateways)| (id, Some(Arc::clone(gateways))))
            .collect();
        ways.sort_unstable_by_key(|(id, _)| *id);
        let going = self.table.sorted();
        let fib = going
            .into_iter()
            .filter(|(_, destination)| destination.forwarding.is_some())
            .map(|(prefix, destination)| (prefix, destination.forwarding))
            .collect();
        Delta {
            changed: Vec::new(),
            ways,
            fib,
        }
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
