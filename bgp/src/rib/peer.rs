use std::net::IpAddr;

use sekisho_config::model::{Asn, PeerName, Role, RouterId};
use serde::Serialize;

/// A peer inside one [`super::Rib`]. Valid until [`super::Rib::forget`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerId(pub(super) u32);

/// What the table needs to know of a peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerInfo {
    /// Its name.
    pub name: PeerName,
    /// Its address: the last tie-break.
    pub address: IpAddr,
    /// Its AS: external when it is not ours.
    pub asn: Asn,
    /// Its identifier, from its OPEN.
    pub router_id: RouterId,
    /// What it is for: only paths of `cluster` peers reach pods and go to the kernel.
    pub role: Role,
    /// Index of the interface of its session, where known: link-local next hops are on it.
    pub interface: Option<u32>,
}

/// Paths of one peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// IPv4 paths that it announced and has not withdrawn.
    pub ipv4: usize,
    /// IPv6 paths that it announced and has not withdrawn.
    pub ipv6: usize,
    /// Of all these, how many carry packets: best or equal to the best.
    pub used: usize,
    /// Of all these, how many are kept from before a restart.
    pub stale: usize,
}

/// One peer with its counts.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: PeerInfo,
    pub(super) counts: Counts,
}

/// All peers, by number.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<u32>,
}

impl Peers {
    pub(super) fn insert(&mut self, info: PeerInfo) -> PeerId {
        let peer = Peer {
            info,
            counts: Counts::default(),
        };
        if let Some(at) = self.free.pop()
            && let Some(place) = self.slots.get_mut(at as usize)
        {
            *place = Some(peer);
            return PeerId(at);
        }
        self.slots.push(Some(peer));
        PeerId(u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 peers: memory ends long before"))
    }

    pub(super) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let gone = self.slots.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        Some(gone)
    }
}
