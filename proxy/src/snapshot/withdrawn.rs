//! What a snapshot takes away from the one before it, for connections that exist already.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use imbl::ordmap::DiffItem;
use sekisho_config::model::{Pool, Reach, Routing, Unroutable};

use super::Snapshot;

/// Addresses and endpoints that were usable and are not any more.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Withdrawn {
    /// No packet finds its way there.
    pub(crate) unrouted: BTreeSet<IpAddr>,
    /// In no pool any more.
    pub(crate) gone: BTreeSet<SocketAddr>,
}

impl Withdrawn {
    pub(crate) fn is_empty(&self) -> bool {
        self.unrouted.is_empty() && self.gone.is_empty()
    }

    pub(crate) fn add(&mut self, later: &Self) {
        self.unrouted.extend(&later.unrouted);
        self.gone.extend(&later.gone);
    }
}

/// An address of which the routing table has not spoken yet may well be reached.
fn is_lost(reach: &Reach) -> bool {
    matches!(reach, Reach::Unroutable { why } if *why != Unroutable::NotAsked)
}

impl Snapshot {
    /// Whether the routing table says that no packet finds its way to this address.
    pub(crate) fn is_unrouted(&self, address: IpAddr) -> bool {
        self.routing != Routing::Off && self.reach.get(&address).is_some_and(is_lost)
    }

    /// What `next` takes away from this; the cost follows the difference.
    pub(crate) fn withdrawn_by(&self, next: &Self) -> Withdrawn {
        let mut withdrawn = Withdrawn::default();
        if next.routing != Routing::Off {
            let lost = |(address, reach): (&IpAddr, &Reach)| is_lost(reach).then_some(*address);
            if self.routing == Routing::Off {
                withdrawn.unrouted = next.reach.iter().filter_map(lost).collect();
            } else {
                let news = self.reach.diff(&next.reach).filter_map(|item| match item {
                    DiffItem::Add(address, reach)
                    | DiffItem::Update {
                        new: (address, reach),
                        ..
                    } => lost((address, reach)),
                    DiffItem::Remove(..) => None,
                });
                withdrawn.unrouted = news.collect();
            }
        }
        let mut old = |pool: &Pool, new: Option<&Pool>| {
            for endpoint in &pool.endpoints {
                let address = endpoint.address;
                let stays = new.is_some_and(|new| has(new, address));
                if !stays && !next.has_endpoint(address) {
                    withdrawn.gone.insert(address);
                }
            }
        };
        for item in self.wished.pools.diff(&next.wished.pools) {
            match item {
                DiffItem::Add(..) => {}
                DiffItem::Update {
                    old: (_, pool),
                    new: (_, new),
                } => old(pool, Some(new)),
                DiffItem::Remove(_, pool) => old(pool, None),
            }
        }
        withdrawn
    }

    fn has_endpoint(&self, address: SocketAddr) -> bool {
        self.by_address.get(&address.ip()).is_some_and(|pools| {
            pools
                .iter()
                .any(|id| self.wished.pools.get(id).is_some_and(|pool| has(pool, address)))
        })
    }
}

/// Endpoints are ordered by address.
fn has(pool: &Pool, address: SocketAddr) -> bool {
    pool.endpoints
        .binary_search_by_key(&address, |endpoint| endpoint.address)
        .is_ok()
}
