use std::sync::Arc;

use sekisho_config::model::{Prefix, Role};
use smallvec::SmallVec;

use super::decide::{Candidate, Ineligible, decide};
use super::hops::{HopKey, Hops};
use super::peer::PeerId;
use super::table::{Destination, Path};
use super::{Delta, Family, Gateway, Gateways, Local, Peer, PeerInfo, Rib, family_of};
use crate::wire::{Attributes, NextHop, Nlri};

/// Attribute sets that are let pile up before the unused are looked for.
const ATTRIBUTES_SLACK: usize = 1024;

/// What is going to be a [`Delta`].
#[derive(Debug, Default)]
pub(super) struct Changes {
    changed: Vec<Prefix>,
    fib: Vec<(Prefix, Option<Gateways>)>,
    /// A next hop came that only BGP routes can lead to, or everything is new.
    resolve: bool,
}

impl Changes {
    pub(super) fn changed(&mut self, prefixes: impl IntoIterator<Item = Prefix>) {
        self.changed.extend(prefixes);
    }

    /// Recursive next hops have to be looked at, whatever the prefixes are.
    pub(super) fn everything(&mut self) {
        self.resolve = true;
    }
}

impl Rib {
    pub(super) fn announce(
        &mut self,
        id: PeerId,
        nlri: Nlri,
        next_hop: NextHop,
        attributes: &Arc<Attributes>,
        changes: &mut Changes,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (hop, recursive) = self.hops.acquire(HopKey::new(next_hop, &peer.info), &self.kernel);
        changes.resolve |= recursive;
        let destination = self.table.entry(&nlri.prefix);
        let path = Path::new(id, nlri.path_id, Arc::clone(attributes), hop);
        if let Some(known) = destination
            .position(id, nlri.path_id)
            .and_then(|position| destination.paths.get_mut(position))
        {
            self.hops.release(known.hop);
            if known.stale {
                peer.counts.stale -= 1;
            }
            let same = known.hop == hop && Arc::ptr_eq(&known.attributes, attributes);
            *known = path;
            if same {
                return;
            }
        } else {
            destination.paths.push(path);
            *family_count(peer, &nlri.prefix) += 1;
        }
        self.settle(&nlri.prefix, changes);
    }

    pub(super) fn withdraw(&mut self, peer: PeerId, nlri: Nlri, changes: &mut Changes) {
        self.remove_paths(&nlri.prefix, changes, |path| {
            path.peer == peer && path.path_id() == nlri.path_id
        });
    }

    /// Removes the paths of one peer that `gone` picks by family and staleness.
    pub(super) fn remove_where(
        &mut self,
        peer: PeerId,
        changes: &mut Changes,
        gone: impl Fn(Family, bool) -> bool,
    ) {
        for prefix in self.prefixes_of(peer) {
            let family = family_of(&prefix);
            self.remove_paths(&prefix, changes, |path| {
                path.peer == peer && gone(family, path.stale)
            });
        }
    }

    fn remove_paths(&mut self, prefix: &Prefix, changes: &mut Changes, gone: impl Fn(&Path) -> bool) {
        let Some(destination) = self.table.get_mut(prefix) else {
            return;
        };
        if !destination.paths.iter().any(&gone) {
            return;
        }
        let mut used = destination.used;
        for (place, path) in destination.paths.iter().enumerate() {
            if !gone(path) {
                continue;
            }
            self.hops.release(path.hop);
            let was_used = place < destination.used as usize;
            used -= u32::from(was_used);
            if let Some(peer) = self.peers.get_mut(&path.peer) {
                *family_count(peer, prefix) -= 1;
                peer.counts.stale -= usize::from(path.stale);
                peer.counts.used -= usize::from(was_used);
            }
        }
        destination.used = used;
        destination.paths.retain(|path| !gone(path));
        self.settle(prefix, changes);
        self.table.remove_if_empty(prefix);
    }

    pub(super) fn settle_all(&mut self, prefixes: &[Prefix], changes: &mut Changes) {
        for prefix in prefixes {
            self.settle(prefix, changes);
        }
    }

    /// Decides about one prefix and notes what is different.
    fn settle(&mut self, prefix: &Prefix, changes: &mut Changes) {
        let Some(destination) = self.table.get_mut(prefix) else {
            return;
        };
        for path in destination.paths.iter().take(destination.used as usize) {
            if let Some(peer) = self.peers.get_mut(&path.peer) {
                peer.counts.used -= 1;
            }
        }
        let judge = Judge {
            local: &self.local,
            peers: &self.peers,
            hops: &self.hops,
        };
        judge.order(prefix, destination);
        for path in destination.paths.iter().take(destination.used as usize) {
            if let Some(peer) = self.peers.get_mut(&path.peer) {
                peer.counts.used += 1;
            }
        }
        let gateways = self.gateways.acquire(gateways_of(destination, &self.hops));
        if gateways != destination.gateways {
            let set = gateways.and_then(|id| self.gateways.get(id)).cloned();
            changes.fib.push((*prefix, set));
        }
        if let Some(old) = std::mem::replace(&mut destination.gateways, gateways) {
            self.gateways.release(old);
        }
        changes.changed.push(*prefix);
    }

    /// Prefixes with a path that `wanted` picks.
    pub(super) fn prefixes(&self, wanted: impl Fn(&Path) -> bool) -> Vec<Prefix> {
        self.table
            .iter()
            .filter(|(_, destination)| destination.paths.iter().any(&wanted))
            .map(|(prefix, _)| prefix)
            .collect()
    }

    /// Prefixes that use one of these interfaces.
    pub(super) fn prefixes_on(&self, links: &std::collections::BTreeSet<u32>) -> Vec<Prefix> {
        let on_link = |destination: &Destination| {
            let gateways = destination.gateways.and_then(|id| self.gateways.get(id));
            gateways.is_some_and(|gateways| gateways.iter().any(|gateway| links.contains(&gateway.interface)))
        };
        self.table
            .iter()
            .filter(|(_, destination)| on_link(destination))
            .map(|(prefix, _)| prefix)
            .collect()
    }

    /// Prefixes of one peer. Looks at the whole table, unless the peer has nothing in it.
    pub(super) fn prefixes_of(&self, peer: PeerId) -> Vec<Prefix> {
        let counts = self.counts(peer);
        if counts.ipv4 + counts.ipv6 == 0 {
            return Vec::new();
        }
        self.prefixes(|path| path.peer == peer)
    }

    /// Follows up on recursive next hops, then hands out what changed.
    pub(super) fn conclude(&mut self, mut changes: Changes) -> Delta {
        if changes.resolve || changes.changed.iter().any(|prefix| self.hops.depends_on(prefix)) {
            let moved = self.resolve_recursive();
            if !moved.is_empty() {
                let prefixes = self.prefixes(|path| moved.contains(&path.hop));
                self.settle_all(&prefixes, &mut changes);
            }
        }
        let Changes {
            mut changed, mut fib, ..
        } = changes;
        changed.sort_unstable();
        changed.dedup();
        // Stable: of several entries for one prefix the last is what holds.
        fib.sort_by_key(|(prefix, _)| *prefix);
        fib.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Delta { changed, fib }
    }

    pub(super) fn intern(&mut self, attributes: &Arc<Attributes>) -> Arc<Attributes> {
        if let Some(known) = self.attributes.get(attributes) {
            return Arc::clone(known);
        }
        if self.attributes.len() > 2 * self.attributes_swept + ATTRIBUTES_SLACK {
            self.sweep_attributes();
        }
        self.attributes.insert(Arc::clone(attributes));
        Arc::clone(attributes)
    }

    /// Forgets the attribute sets that no path has any more.
    pub(super) fn sweep_attributes(&mut self) {
        self.attributes
            .retain(|attributes| Arc::strong_count(attributes) > 1);
        self.attributes_swept = self.attributes.len();
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            local: &self.local,
            peers: &self.peers,
            hops: &self.hops,
        }
    }
}

/// Everything that an opinion about paths rests on.
pub(super) struct Judge<'a> {
    pub(super) local: &'a Local,
    pub(super) peers: &'a std::collections::BTreeMap<PeerId, Peer>,
    pub(super) hops: &'a Hops,
}

impl<'a> Judge<'a> {
    /// The path as the decision sees it. `None` only for a peer that is not there, which cannot be.
    pub(super) fn candidate(&self, prefix: &Prefix, path: &'a Path) -> Option<Candidate<'a>> {
        let cost = self.hops.resolution(path.hop).map(|resolved| resolved.cost);
        self.candidate_with(prefix, path, cost)
    }

    /// The same with another opinion about the next hop.
    pub(super) fn candidate_with(
        &self,
        prefix: &Prefix,
        path: &'a Path,
        cost: Result<u32, Ineligible>,
    ) -> Option<Candidate<'a>> {
        let info = &self.peers.get(&path.peer)?.info;
        Some(Candidate {
            attributes: &path.attributes,
            external: info.asn != self.local.asn,
            router_id: info.router_id,
            peer_address: info.address,
            peer: &info.name,
            path_id: path.path_id(),
            cost: self.eligible(prefix, path, info).and(cost),
        })
    }

    pub(super) fn candidates(&self, prefix: &Prefix, destination: &'a Destination) -> Vec<Candidate<'a>> {
        destination
            .paths
            .iter()
            .filter_map(|path| self.candidate(prefix, path))
            .collect()
    }

    fn eligible(&self, prefix: &Prefix, path: &Path, info: &PeerInfo) -> Result<(), Ineligible> {
        if info.role != Role::Cluster {
            return Err(Ineligible::Upstream);
        }
        if is_martian(prefix) {
            return Err(Ineligible::Martian);
        }
        if path.attributes.as_path.contains(self.local.asn) {
            return Err(Ineligible::AsLoop);
        }
        if path.attributes.originator_id == Some(self.local.router_id.address()) {
            return Err(Ineligible::OriginatorLoop);
        }
        if path
            .attributes
            .cluster_list
            .contains(&self.local.cluster_id.address())
        {
            return Err(Ineligible::ClusterLoop);
        }
        Ok(())
    }

    /// Puts the paths in order, best first, and counts the used.
    fn order(&self, prefix: &Prefix, destination: &mut Destination) {
        if let [only] = destination.paths.as_slice() {
            let eligible = self.candidate(prefix, only).is_some_and(|path| path.cost.is_ok());
            destination.used = u32::from(eligible);
            return;
        }
        let paths = std::mem::take(&mut destination.paths);
        let candidates: Vec<_> = paths
            .iter()
            .filter_map(|path| self.candidate(prefix, path))
            .collect();
        let places = decide(&candidates);
        let used = places.iter().filter(|place| place.is_used()).count();
        drop(candidates);
        let mut paths: SmallVec<[Option<Path>; 1]> = paths.into_iter().map(Some).collect();
        destination.paths = places
            .iter()
            .filter_map(|place| paths.get_mut(place.index)?.take())
            .collect();
        destination.used = u32::try_from(used).unwrap_or(u32::MAX);
    }
}

fn gateways_of(destination: &Destination, hops: &Hops) -> Vec<Gateway> {
    destination
        .used_paths()
        .filter_map(|path| hops.resolution(path.hop).ok())
        .flat_map(|resolved| resolved.gateways.iter().copied())
        .collect()
}

fn family_count<'a>(peer: &'a mut Peer, prefix: &Prefix) -> &'a mut usize {
    match family_of(prefix) {
        Family::Ipv4Unicast => &mut peer.counts.ipv4,
        Family::Ipv6Unicast => &mut peer.counts.ipv6,
    }
}

/// Prefixes inside ranges that mean something only on a host or a link, or nothing (RFC 6890). Larger ones around
/// them, a default route among them, are fine.
fn is_martian(prefix: &Prefix) -> bool {
    use std::net::IpAddr::{V4, V6};
    let length = prefix.length();
    match prefix.address() {
        V4(address) => {
            let [first, second, ..] = address.octets();
            match first {
                0 | 127 => length >= 8,
                169 => second == 254 && length >= 16,
                224.. => length >= 3,
                _ => false,
            }
        }
        V6(address) => {
            let bits = address.to_bits();
            (bits >> 118 == 0xfe80 >> 6 && length >= 10)
                || (bits >> 120 == 0xff && length >= 8)
                || (bits >> 32 == 0xffff && length >= 96)
                || (bits <= 1 && length >= 127)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn martians() {
        for (prefix, want) in [
            ("127.0.0.1", true),
            ("0.0.0.0/8", true),
            ("0.0.0.0/0", false),
            ("0.0.0.0/1", false),
            ("169.254.1.0/24", true),
            ("169.253.0.0/16", false),
            ("224.0.0.0/4", true),
            ("224.0.0.0/3", true),
            ("192.0.0.0/2", false),
            ("10.0.0.0/8", false),
            ("::/0", false),
            ("::1", true),
            ("::/128", true),
            ("fe80::/64", true),
            ("ff02::1", true),
            ("::ffff:0:0/96", true),
            ("2001:db8::/32", false),
            ("fd00::/8", false),
        ] {
            assert_eq!(is_martian(&prefix.parse().unwrap()), want, "{prefix}");
        }
    }
}
