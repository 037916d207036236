use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::net::Ipv6Addr;

use sekisho_config::model::Prefix;

use super::decide::Ineligible;
use super::next_hops::{KernelTarget, NextHops};
use super::{Gateway, PeerInfo};
use crate::wire::NextHop;

/// Number of a next hop.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct HopId(u32);

/// A next hop as announced, with the interface where that matters: link-local addresses are on the session's link.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct HopKey {
    pub(super) address: IpAddr,
    pub(super) link_local: Option<Ipv6Addr>,
    interface: Option<u32>,
}

impl HopKey {
    pub(super) fn new(next_hop: NextHop, peer: &PeerInfo) -> Self {
        let scoped = next_hop.link_local.is_some() || is_link_local(next_hop.address);
        Self {
            address: next_hop.address,
            link_local: next_hop.link_local,
            interface: peer.interface.filter(|_| scoped),
        }
    }
}

/// Where packets for a next hop go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Resolved {
    /// 0: a neighbour; one more for every router or BGP route between.
    pub(super) cost: u32,
    pub(super) gateways: Vec<Gateway>,
}

pub(super) type Resolution = Result<Resolved, Ineligible>;

#[derive(Debug)]
struct Hop {
    key: HopKey,
    uses: usize,
    resolution: Resolution,
    /// All paths that lead here are about to go: no use to send packets any more.
    doomed: bool,
}

/// The next hops of all paths, with where they lead. Few next hops are shared by very many paths.
#[derive(Debug, Default)]
pub(super) struct Hops {
    ids: BTreeMap<HopKey, HopId>,
    hops: Vec<Option<Hop>>,
    free: Vec<HopId>,
    /// Next hops for which the kernel knows no way; BGP itself may.
    recursive: BTreeSet<(IpAddr, HopId)>,
}

impl Hops {
    /// The hop's number, counted as one more use, and whether it is new and needs [`Self::recursive`] resolution.
    pub(super) fn acquire(&mut self, key: HopKey, kernel: &NextHops) -> (HopId, bool) {
        if let Some(id) = self.ids.get(&key).copied() {
            if let Some(Some(hop)) = self.hops.get_mut(id.0 as usize) {
                hop.uses += 1;
                hop.doomed = false;
            }
            return (id, false);
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.hops.push(None);
            HopId(
                u32::try_from(self.hops.len() - 1)
                    .expect("fewer next hops than paths, and those end with memory"),
            )
        });
        let direct = ask_kernel(&key, kernel);
        let recursive = direct.is_none();
        if recursive {
            self.recursive.insert((key.address, id));
        }
        if let Some(place) = self.hops.get_mut(id.0 as usize) {
            *place = Some(Hop {
                key,
                uses: 1,
                resolution: direct.unwrap_or(Err(Ineligible::NextHopUnreachable)),
                doomed: false,
            });
        }
        self.ids.insert(key, id);
        (id, recursive)
    }

    /// One use less.
    pub(super) fn release(&mut self, id: HopId) {
        let Some(place) = self.hops.get_mut(id.0 as usize) else {
            return;
        };
        match place {
            Some(hop) if hop.uses > 1 => hop.uses -= 1,
            _ => {
                if let Some(hop) = place.take() {
                    self.ids.remove(&hop.key);
                    self.recursive.remove(&(hop.key.address, id));
                    self.free.push(id);
                }
            }
        }
    }

    pub(super) fn resolution(&self, id: HopId) -> Result<&Resolved, Ineligible> {
        match self.hop(id) {
            Some(hop) if !hop.doomed => hop.resolution.as_ref().map_err(|why| *why),
            _ => Err(Ineligible::NextHopUnreachable),
        }
    }

    /// Marks those of `hops` on which nothing else rests than this many uses; returns them.
    pub(super) fn doom(&mut self, hops: &BTreeMap<HopId, usize>) -> BTreeSet<HopId> {
        let mut doomed = BTreeSet::new();
        for (id, uses) in hops {
            if let Some(Some(hop)) = self.hops.get_mut(id.0 as usize)
                && hop.uses == *uses
            {
                hop.doomed = true;
                doomed.insert(*id);
            }
        }
        doomed
    }

    pub(super) fn key(&self, id: HopId) -> Option<&HopKey> {
        self.hop(id).map(|hop| &hop.key)
    }

    /// Asks the kernel's new view about every hop; returns those whose answer differs. The recursive ones keep theirs
    /// until [`Self::resolve`].
    pub(super) fn kernel_changed(&mut self, kernel: &NextHops) -> BTreeSet<HopId> {
        let mut changed = BTreeSet::new();
        for (key, id) in &self.ids {
            let Some(Some(hop)) = self.hops.get_mut(id.0 as usize) else {
                continue;
            };
            match ask_kernel(key, kernel) {
                Some(resolution) => {
                    self.recursive.remove(&(key.address, *id));
                    if hop.resolution != resolution {
                        hop.resolution = resolution;
                        changed.insert(*id);
                    }
                }
                None => {
                    if self.recursive.insert((key.address, *id)) {
                        // It may resolve to the same again, but then by a BGP route.
                        hop.resolution = Err(Ineligible::NextHopUnreachable);
                        changed.insert(*id);
                    }
                }
            }
        }
        changed
    }

    /// Whether there are next hops for which the kernel knows no way.
    pub(super) fn has_recursive(&self) -> bool {
        !self.recursive.is_empty()
    }

    /// Next hops for which the kernel knows no way.
    pub(super) fn recursive(&self) -> impl Iterator<Item = (IpAddr, HopId)> + '_ {
        self.recursive.iter().copied()
    }

    /// Whether a change of this prefix may change where a recursive next hop leads.
    pub(super) fn depends_on(&self, prefix: &Prefix) -> bool {
        let first = (prefix.address(), HopId(0));
        self.recursive
            .range(first..)
            .next()
            .is_some_and(|(address, _)| prefix.contains(*address))
    }

    /// Sets what a recursive next hop leads to; `true` if that is new.
    pub(super) fn resolve(&mut self, id: HopId, resolution: Resolution) -> bool {
        match self.hops.get_mut(id.0 as usize) {
            Some(Some(hop)) if hop.resolution != resolution => {
                hop.resolution = resolution;
                true
            }
            _ => false,
        }
    }

    fn hop(&self, id: HopId) -> Option<&Hop> {
        self.hops.get(id.0 as usize)?.as_ref()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// What the kernel alone says about a next hop. `None`: nothing, BGP may know more.
///
/// A default route does not count: when the link to the nodes fails it would send pod traffic to a router that knows
/// nothing of pods. Connected networks win over anything that BGP says, so no peer can bend the way to another.
fn ask_kernel(key: &HopKey, kernel: &NextHops) -> Option<Resolution> {
    let gateway = |via, interface, cost| {
        Some(Ok(Resolved {
            cost,
            gateways: vec![Gateway {
                via,
                interface,
                weight: 1,
            }],
        }))
    };
    let on_link = |address: Ipv6Addr| match key.interface {
        Some(interface) if kernel.links.contains_key(&interface) => {
            gateway(IpAddr::V6(address), interface, 0)
        }
        _ => Some(Err(Ineligible::NextHopUnreachable)),
    };
    if kernel.is_local(key.address) {
        return Some(Err(Ineligible::NextHopIsLocal));
    }
    if let IpAddr::V6(address) = key.address
        && is_link_local(key.address)
    {
        return on_link(address);
    }
    let found = kernel
        .longest(key.address)
        .filter(|(prefix, _)| prefix.length() > 0)
        .map(|(_, route)| route.target);
    match (found, key.link_local) {
        (Some(KernelTarget::Connected { interface }), _) => gateway(key.address, interface, 0),
        (
            Some(KernelTarget::Via {
                gateway: via,
                interface,
            }),
            None,
        ) => gateway(via, interface, 1),
        // A link-local address is only sent on a shared link (RFC 2545 section 3).
        (_, Some(link_local)) if key.interface.is_some() => on_link(link_local),
        (
            Some(KernelTarget::Via {
                gateway: via,
                interface,
            }),
            _,
        ) => gateway(via, interface, 1),
        (Some(KernelTarget::Reject) | None, _) => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
