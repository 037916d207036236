use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sekisho_config::model::Prefix;
use smallvec::SmallVec;

use super::decide::decide;
use super::forwarding::{ForwardingId, Way};
use super::hops::{HopId, HopKey};
use super::judge::{Judge, is_martian};
use super::paths::{Destination, Path, Paths};
use super::peer::PeerId;
use super::prefix_map::Spot;
use super::sources::SourceId;
use super::{Delta, Family, Peer, Rib, family_of, weights};
use crate::wire::{Attributes, NextHop, Nlri, Update};

/// Attribute sets that are let pile up before the unused are looked for.
const ATTRIBUTES_SLACK: usize = 1024;

/// What is going to be a [`Delta`].
#[derive(Debug, Default)]
pub(super) struct Changes {
    changed: Vec<Prefix>,
    fib: Vec<(Prefix, Option<ForwardingId>)>,
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
    /// Takes an UPDATE in.
    pub(super) fn absorb(&mut self, peer: PeerId, update: &Update, changes: &mut Changes) {
        for nlri in &update.withdrawn {
            self.withdraw(peer, *nlri, changes);
        }
        match &update.attributes {
            Some(attributes) if !update.announced.is_empty() => {
                let attributes = self.intern(attributes);
                for run in update.announced.chunk_by(|(_, a), (_, b)| a == b) {
                    if let Some((_, next_hop)) = run.first() {
                        self.announce(peer, run, *next_hop, &attributes, changes);
                    }
                }
            }
            Some(_) => {}
            // Cannot be decoded so; if it ever is, the safe reading is that of RFC 7606.
            None => {
                for (nlri, _) in &update.announced {
                    self.withdraw(peer, *nlri, changes);
                }
            }
        }
        if let Some(family) = update.end_of_rib {
            self.remove_where(peer, changes, |path_family, stale| stale && path_family == family);
        }
    }

    /// Prefixes that share everything.
    fn announce(
        &mut self,
        id: PeerId,
        run: &[(Nlri, NextHop)],
        next_hop: NextHop,
        attributes: &Arc<Attributes>,
        changes: &mut Changes,
    ) {
        let Some(source) = self.source(id, next_hop, attributes, changes) else {
            return;
        };
        for (nlri, _) in run {
            let (place, destination) = self.table.entry_at(&nlri.prefix);
            let path = Path::new(source, nlri.path_id);
            let known = destination.paths.iter_mut().find(|known| {
                known.path_id() == nlri.path_id
                    && self.sources.get(known.source).is_some_and(|of| of.peer == id)
            });
            let (replaced, was_stale) = match known {
                Some(known) => {
                    let old = std::mem::replace(known, path);
                    (Some(old.source), old.stale)
                }
                None => {
                    destination.paths.push(path);
                    (None, false)
                }
            };
            if let Some(peer) = self.peers.get_mut(id) {
                peer.counts.stale -= usize::from(was_stale);
                if replaced.is_none() {
                    *family_count(peer, &nlri.prefix) += 1;
                }
            }
            if replaced == Some(source) {
                continue;
            }
            self.sources.take(source);
            if let Some(replaced) = replaced {
                // Counted as used by the old source's peer, which is this one.
                self.release(replaced);
            }
            self.settle(place, changes);
        }
        // Where all prefixes had it already nothing has changed; where the peer said nothing nobody has it.
        if let Some(hop) = self.sources.remove_unused(source) {
            self.hops.release(hop);
        }
    }

    /// What the paths of an UPDATE have in common, with its verdict.
    fn source(
        &mut self,
        id: PeerId,
        next_hop: NextHop,
        attributes: &Arc<Attributes>,
        changes: &mut Changes,
    ) -> Option<SourceId> {
        let peer = self.peers.get(id)?;
        let key = HopKey::new(next_hop, &peer.info);
        let (hop, recursive) = self.hops.acquire(key, &self.kernel);
        changes.resolve |= recursive;
        if let Some(known) = self.sources.find(id, hop, attributes) {
            self.hops.release(hop);
            return Some(known);
        }
        let verdict = Judge::verdict(&self.local, &peer.info, attributes);
        Some(self.sources.insert(id, hop, Arc::clone(attributes), verdict))
    }

    fn release(&mut self, source: SourceId) {
        if let Some(hop) = self.sources.release(source) {
            self.hops.release(hop);
        }
    }

    fn withdraw(&mut self, peer: PeerId, nlri: Nlri, changes: &mut Changes) {
        if let Some(place) = self.table.find(&nlri.prefix) {
            self.remove_paths(place, peer, changes, |path| path.path_id() == nlri.path_id);
        }
    }

    /// Removes the paths of one peer that `gone` picks by family and staleness.
    pub(super) fn remove_where(
        &mut self,
        peer: PeerId,
        changes: &mut Changes,
        gone: impl Fn(Family, bool) -> bool,
    ) {
        let places = self.places_of(peer);
        self.remove_at(&places, peer, changes, gone);
    }

    /// The same, of these places only.
    pub(super) fn remove_at(
        &mut self,
        places: &[Spot],
        peer: PeerId,
        changes: &mut Changes,
        gone: impl Fn(Family, bool) -> bool,
    ) {
        // There may be very many of them: the lists are made as long as they get.
        changes.changed.reserve(places.len());
        changes.fib.reserve(places.len());
        for place in places {
            let family = match place {
                Spot::V4(_) => Family::Ipv4Unicast,
                Spot::V6(_) => Family::Ipv6Unicast,
            };
            self.remove_paths(*place, peer, changes, |path| gone(family, path.stale));
        }
    }

    /// Removes those paths of a peer to a prefix that `gone` picks.
    fn remove_paths(&mut self, place: Spot, id: PeerId, changes: &mut Changes, gone: impl Fn(&Path) -> bool) {
        let Some((prefix, destination)) = self.table.at_mut(place) else {
            return;
        };
        let sources = &self.sources;
        let gone =
            |path: &Path| sources.get(path.source).is_some_and(|source| source.peer == id) && gone(path);
        let mut released: SmallVec<[SourceId; 2]> = SmallVec::new();
        let mut used = destination.used;
        for (number, path) in destination.paths.iter().enumerate() {
            if !gone(path) {
                continue;
            }
            released.push(path.source);
            let was_used = number < usize::from(destination.used);
            used -= u16::from(was_used);
            if let Some(peer) = self.peers.get_mut(id) {
                *family_count(peer, &prefix) -= 1;
                peer.counts.stale -= usize::from(path.stale);
                peer.counts.used -= usize::from(was_used);
            }
        }
        if released.is_empty() {
            return;
        }
        destination.used = used;
        destination.paths.retain(|path| !gone(path));
        let empty = destination.paths.is_empty();
        for source in released {
            self.release(source);
        }
        self.settle(place, changes);
        if empty {
            self.table.remove_at(place);
        }
    }

    pub(super) fn settle_all(&mut self, places: &[Spot], changes: &mut Changes) {
        for place in places {
            self.settle(*place, changes);
        }
    }

    /// Decides about one prefix and notes what is different.
    fn settle(&mut self, place: Spot, changes: &mut Changes) {
        let Some((prefix, destination)) = self.table.at_mut(place) else {
            return;
        };
        let judge = Judge {
            local: &self.local,
            peers: &self.peers,
            hops: &self.hops,
            sources: &self.sources,
            owners: &self.owners,
        };
        let before: SmallVec<[PeerId; 2]> = judge.used_peers(destination).collect();
        let way = order(&judge, &prefix, destination);
        let after: SmallVec<[PeerId; 2]> = judge.used_peers(destination).collect();
        if before != after {
            for id in before {
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.counts.used -= 1;
                }
            }
            for id in after {
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.counts.used += 1;
                }
            }
        }
        let now = destination.forwarding;
        let same = match (&way, now) {
            (Some(way), Some(now)) => self.ways.is(now, way),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let next = way.map(|way| match self.last_way {
                // Neighbours in an UPDATE mostly go the same way.
                Some(last) if self.ways.is(last, &way) => {
                    self.ways.take(last);
                    last
                }
                _ => self.ways.acquire(way, &self.hops),
            });
            self.last_way = next;
            destination.forwarding = next;
            if let Some(now) = now {
                self.ways.release(now);
            }
            changes.fib.push((prefix, next));
        }
        changes.changed.push(prefix);
    }

    /// Prefixes with a path from a source that `wanted` picks.
    pub(super) fn places(&self, wanted: impl Fn(PeerId, HopId) -> bool) -> Vec<Spot> {
        let picks = |path: &Path| {
            let source = self.sources.get(path.source);
            source.is_some_and(|source| wanted(source.peer, source.hop))
        };
        self.table
            .places(|destination| destination.paths.iter().any(picks))
    }

    /// Prefixes with a path by one of these next hops.
    pub(super) fn places_by(&self, hops: &BTreeSet<HopId>) -> Vec<Spot> {
        self.places(|_, hop| hops.contains(&hop))
    }

    /// Prefixes that use one of these interfaces.
    pub(super) fn prefixes_on(&self, links: &BTreeSet<u32>) -> Vec<Prefix> {
        let on_links: BTreeSet<ForwardingId> = self
            .ways
            .iter()
            .filter(|(_, gateways)| gateways.iter().any(|gateway| links.contains(&gateway.interface)))
            .map(|(id, _)| id)
            .collect();
        if on_links.is_empty() {
            return Vec::new();
        }
        self.table
            .iter()
            .filter(|(_, destination)| destination.forwarding.is_some_and(|id| on_links.contains(&id)))
            .map(|(prefix, _)| prefix)
            .collect()
    }

    /// Prefixes of one peer. Looks at the whole table, unless the peer has nothing in it.
    pub(super) fn places_of(&self, peer: PeerId) -> Vec<Spot> {
        let counts = self.counts(peer);
        if counts.ipv4 + counts.ipv6 == 0 {
            return Vec::new();
        }
        self.places(|of, _| of == peer)
    }

    /// How many sources of a peer use each next hop.
    pub(super) fn hops_of(&self, peer: PeerId) -> BTreeMap<HopId, usize> {
        let mut hops = BTreeMap::new();
        for source in self.sources.iter().filter(|source| source.peer == peer) {
            *hops.entry(source.hop).or_default() += 1;
        }
        hops
    }

    /// Asks anew what the sources of a peer (of all with `None`) are worth by themselves.
    pub(super) fn judge_sources(&mut self, of: Option<PeerId>) {
        for source in self.sources.iter_mut() {
            if of.is_none_or(|of| of == source.peer)
                && let Some(peer) = self.peers.get(source.peer)
            {
                source.verdict = Judge::verdict(&self.local, &peer.info, &source.attributes);
            }
        }
    }

    /// Follows up on recursive next hops, then hands out what changed.
    pub(super) fn conclude(&mut self, mut changes: Changes) -> Delta {
        let depends = |prefix: &Prefix| self.hops.depends_on(prefix);
        if self.hops.has_recursive() && (changes.resolve || changes.changed.iter().any(depends)) {
            let moved = self.resolve_recursive();
            if !moved.is_empty() {
                self.ways.moved(&moved, &self.hops);
                let places = self.places_by(&moved);
                self.settle_all(&places, &mut changes);
            }
        }
        let Changes { changed, fib, .. } = changes;
        let ways = self.ways.tell();
        Delta { changed, ways, fib }.in_order()
    }

    fn intern(&mut self, attributes: &Arc<Attributes>) -> Arc<Attributes> {
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
        if self.attributes.is_empty() {
            self.attributes = hashbrown::HashSet::default();
        }
        self.attributes_swept = self.attributes.len();
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            local: &self.local,
            peers: &self.peers,
            hops: &self.hops,
            sources: &self.sources,
            owners: &self.owners,
        }
    }
}

/// Puts the paths in order, best first, counts the used, and says where they lead.
fn order(judge: &Judge<'_>, prefix: &Prefix, destination: &mut Destination) -> Option<Way> {
    let hop = |path: &Path| judge.sources.get(path.source).map(|source| source.hop);
    if destination.paths.is_empty() {
        destination.used = 0;
        return None;
    }
    if let Paths::One(only) = &destination.paths {
        let source = judge.sources.get(only.source)?;
        let eligible =
            source.verdict.is_ok() && judge.hops.resolution(source.hop).is_ok() && !is_martian(prefix);
        destination.used = u16::from(eligible);
        return eligible.then(|| Way::new(SmallVec::from_buf([(source.hop, 1)]), None));
    }
    let candidates = judge.candidates(prefix, destination);
    let places = decide(&candidates, judge.local.multipath);
    let paths: Vec<Path> = places
        .iter()
        .filter_map(|place| destination.paths.get(place.index).copied())
        .collect();
    let used = places.iter().filter(|place| place.used).count();
    let shares: Vec<&Attributes> = places
        .iter()
        .take(used)
        .filter_map(|place| candidates.get(place.index).map(|candidate| candidate.attributes))
        .collect();
    let weights = weights::of(&shares, judge.local.multipath);
    // Behind the used: the first that would be used without them.
    let backup = places
        .iter()
        .zip(&paths)
        .skip(used)
        .find(|(place, _)| !matches!(place.lost, Some(super::Lost::Ineligible { .. })))
        .and_then(|(_, path)| hop(path));
    for (place, path) in destination.paths.iter_mut().zip(&paths) {
        *place = *path;
    }
    destination.used = u16::try_from(used).unwrap_or(u16::MAX);
    let primary: SmallVec<[_; 1]> = paths.iter().take(used).filter_map(hop).zip(weights).collect();
    (!primary.is_empty()).then(|| Way::new(primary, backup))
}

fn family_count<'a>(peer: &'a mut Peer, prefix: &Prefix) -> &'a mut usize {
    match family_of(prefix) {
        Family::Ipv4Unicast => &mut peer.counts.ipv4,
        Family::Ipv6Unicast => &mut peer.counts.ipv6,
    }
}
