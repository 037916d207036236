use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::Prefix;
use smallvec::SmallVec;

use super::PeerId;
use super::hops::HopId;
use super::trie::{Bits, Trie};
use crate::wire::Attributes;

/// Every prefix with its paths. Most prefixes have one path, so that one is kept without an allocation of its own.
#[derive(Debug)]
pub(super) struct Table {
    v4: Trie<u32>,
    v6: Trie<u128>,
    destinations: Vec<Destination>,
    free: Vec<u32>,
}

/// The paths of one prefix.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// Best first.
    pub(super) paths: SmallVec<[Path; 1]>,
    /// How many of them, from the first, carry packets.
    pub(super) used: u32,
    /// What the kernel was told.
    pub(super) gateways: Option<super::gateways::GatewaysId>,
}

/// One path: what a peer said about a prefix.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) attributes: Arc<Attributes>,
    pub(super) peer: PeerId,
    pub(super) hop: HopId,
    path_id: u32,
    has_path_id: bool,
    pub(super) stale: bool,
}

impl Path {
    pub(super) fn new(peer: PeerId, path_id: Option<u32>, attributes: Arc<Attributes>, hop: HopId) -> Self {
        Self {
            attributes,
            peer,
            hop,
            path_id: path_id.unwrap_or_default(),
            has_path_id: path_id.is_some(),
            stale: false,
        }
    }

    /// Split in two fields to keep a path at 24 octets.
    pub(super) fn path_id(&self) -> Option<u32> {
        self.has_path_id.then_some(self.path_id)
    }
}

impl Destination {
    pub(super) fn position(&self, peer: PeerId, path_id: Option<u32>) -> Option<usize> {
        self.paths
            .iter()
            .position(|path| path.peer == peer && path.path_id() == path_id)
    }

    pub(super) fn used_paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().take(self.used as usize)
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            v4: Trie::new(),
            v6: Trie::new(),
            destinations: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn get(&self, prefix: &Prefix) -> Option<&Destination> {
        self.destination(self.find(prefix)?)
    }

    pub(super) fn get_mut(&mut self, prefix: &Prefix) -> Option<&mut Destination> {
        let id = self.find(prefix)?;
        self.destinations.get_mut(id as usize)
    }

    /// The destination of a prefix, made where it is not there.
    pub(super) fn entry(&mut self, prefix: &Prefix) -> &mut Destination {
        let id = match self.find(prefix) {
            Some(id) => id,
            None => {
                let id = self.free.pop().unwrap_or_else(|| {
                    self.destinations.push(Destination::default());
                    u32::try_from(self.destinations.len() - 1)
                        .expect("fewer than 2^32 prefixes: memory ends long before")
                });
                match bits(prefix.address()) {
                    Key::V4(bits) => self.v4.insert(bits, prefix.length(), id),
                    Key::V6(bits) => self.v6.insert(bits, prefix.length(), id),
                }
                id
            }
        };
        self.destinations
            .get_mut(id as usize)
            .expect("every number in the tries is a place in the array")
    }

    /// Takes a prefix out once it has no path any more.
    pub(super) fn remove_if_empty(&mut self, prefix: &Prefix) {
        let empty = self
            .get(prefix)
            .is_some_and(|destination| destination.paths.is_empty());
        if !empty {
            return;
        }
        let removed = match bits(prefix.address()) {
            Key::V4(bits) => self.v4.remove(bits, prefix.length()),
            Key::V6(bits) => self.v6.remove(bits, prefix.length()),
        };
        if let Some(id) = removed {
            if let Some(destination) = self.destinations.get_mut(id as usize) {
                *destination = Destination::default();
            }
            self.free.push(id);
        }
    }

    /// Every prefix that holds `prefix`, itself included, longest first.
    pub(super) fn covering(&self, prefix: &Prefix) -> SmallVec<[(Prefix, &Destination); 4]> {
        let mut found = SmallVec::new();
        let address = prefix.address();
        let mut visit = |length, id| {
            if let (Some(prefix), Some(destination)) = (Prefix::new(address, length), self.destination(id)) {
                found.push((prefix, destination));
            }
        };
        match bits(address) {
            Key::V4(bits) => self.v4.covering(bits, prefix.length(), &mut visit),
            Key::V6(bits) => self.v6.covering(bits, prefix.length(), &mut visit),
        }
        found.reverse();
        found
    }

    /// Every prefix inside `prefix`, itself included, in order.
    pub(super) fn within<'a>(
        &'a self,
        prefix: &Prefix,
    ) -> Box<dyn Iterator<Item = (Prefix, &'a Destination)> + 'a> {
        let length = prefix.length();
        match bits(prefix.address()) {
            Key::V4(bits) => Box::new(self.named(self.v4.within(bits, length))),
            Key::V6(bits) => Box::new(self.named(self.v6.within(bits, length))),
        }
    }

    /// Every prefix: IPv4 first, each in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Prefix, &Destination)> {
        let v4 = self.named(self.v4.within(0, 0));
        v4.chain(self.named(self.v6.within(0, 0)))
    }

    fn named<'a, B: Bits + 'a>(
        &'a self,
        found: impl Iterator<Item = (B, u8, u32)> + 'a,
    ) -> impl Iterator<Item = (Prefix, &'a Destination)> + 'a {
        found.filter_map(|(bits, length, id)| Some((bits.prefix(length)?, self.destination(id)?)))
    }

    fn find(&self, prefix: &Prefix) -> Option<u32> {
        match bits(prefix.address()) {
            Key::V4(bits) => self.v4.get(bits, prefix.length()),
            Key::V6(bits) => self.v6.get(bits, prefix.length()),
        }
    }

    fn destination(&self, id: u32) -> Option<&Destination> {
        self.destinations.get(id as usize)
    }
}

enum Key {
    V4(u32),
    V6(u128),
}

fn bits(address: IpAddr) -> Key {
    match address {
        IpAddr::V4(address) => Key::V4(address.to_bits()),
        IpAddr::V6(address) => Key::V6(address.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_memory_depends_on() {
        assert_eq!(size_of::<Path>(), 24);
        assert_eq!(size_of::<Destination>(), 40);
    }
}
