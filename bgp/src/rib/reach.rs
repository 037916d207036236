use std::net::IpAddr;

use sekisho_config::model::{Prefix, Reach, RoutedVia, Unroutable};
use smallvec::SmallVec;

use super::next_hops::KernelTarget;
use super::paths::{Destination, Path};
use super::{Ineligible, Rib};

impl Rib {
    /// Whether and how an address is reached, by longest match. Only paths from `cluster` peers count; with
    /// [`super::Local::kernel_fallback`] the kernel's own routes as well, and of two of one length the kernel's.
    pub fn reach(&self, address: IpAddr) -> Reach {
        let covering: SmallVec<[(Prefix, &Destination); 4]> =
            self.table.covering(&Prefix::host(address)).collect();
        let usable = covering.iter().find(|(_, destination)| destination.used > 0);
        if self.local.kernel_fallback {
            let length = usable.map(|(prefix, _)| prefix.length());
            if let Some(reach) = self.kernel_reach(address, length) {
                return reach;
            }
        }
        match usable {
            Some((prefix, destination)) => Reach::Routed(self.routed(*prefix, destination)),
            None => {
                let judge = self.judge();
                let only_the_next_hop_fails = covering
                    .iter()
                    .flat_map(|(prefix, destination)| judge.candidates(prefix, destination))
                    .any(|path| path.cost == Err(Ineligible::NextHopUnreachable));
                Reach::Unroutable {
                    why: if only_the_next_hop_fails {
                        Unroutable::NextHopUnreachable
                    } else {
                        Unroutable::NoRoute
                    },
                }
            }
        }
    }

    fn routed(&self, prefix: Prefix, destination: &Destination) -> RoutedVia {
        let mut next_hops: Vec<IpAddr> = destination
            .used_paths()
            .filter_map(|path| Some(self.hops.key(self.sources.get(path.source)?.hop)?.address))
            .collect();
        next_hops.sort_unstable();
        next_hops.dedup();
        let mut peers: Vec<_> = destination
            .used_paths()
            .filter_map(|path| self.peer_of(path).map(|peer| peer.info.name.clone()))
            .collect();
        peers.sort_unstable();
        peers.dedup();
        RoutedVia {
            prefix,
            next_hops,
            peers,
            interface: self.interface_of(destination),
            kernel: false,
        }
    }

    fn peer_of(&self, path: &Path) -> Option<&super::Peer> {
        self.peers.get(self.sources.get(path.source)?.peer)
    }

    /// Name of the outgoing interface, where all gateways share one.
    fn interface_of(&self, destination: &Destination) -> Option<std::sync::Arc<str>> {
        let gateways = self.ways.gateways(destination.forwarding?)?;
        let first = gateways.first()?.interface;
        let shared = gateways.iter().all(|gateway| gateway.interface == first);
        self.kernel.links.get(&first).filter(|_| shared).cloned()
    }

    /// What the kernel's own routes say, unless a longer BGP route exists.
    fn kernel_reach(&self, address: IpAddr, bgp: Option<u8>) -> Option<Reach> {
        let routed = |prefix, next_hops, interface: Option<&u32>| {
            Some(Reach::Routed(RoutedVia {
                prefix,
                next_hops,
                peers: Vec::new(),
                interface: interface.and_then(|index| self.kernel.links.get(index)).cloned(),
                kernel: true,
            }))
        };
        if self.kernel.is_local(address) {
            return routed(Prefix::host(address), Vec::new(), None);
        }
        let (prefix, route) = self.kernel.longest(address)?;
        if bgp.is_some_and(|length| length > prefix.length()) {
            return None;
        }
        match &route.target {
            KernelTarget::Connected { interface } => routed(prefix, Vec::new(), Some(interface)),
            KernelTarget::Via { gateway, interface } => routed(prefix, vec![*gateway], Some(interface)),
            KernelTarget::Reject => Some(Reach::Unroutable {
                why: Unroutable::NoRoute,
            }),
        }
    }
}
