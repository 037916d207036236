//! Next hops that only a BGP route leads to (RFC 4271 section 9.1.2.1).

use std::collections::{BTreeMap, BTreeSet};

use sekisho_config::model::Prefix;

use super::change::Changes;
use super::decide::{Candidate, Ineligible, decide};
use super::hops::{HopId, Resolved};
use super::next_hops::KernelTarget;
use super::{Delta, NextHops, Rib, Unfinished};

/// How many BGP routes may stand between a next hop and a neighbour.
const MAX_RECURSION: usize = 4;

impl Rib {
    /// The kernel's links or routes changed: both parts of it in one.
    pub fn next_hops_changed(&mut self, next_hops: NextHops) -> Delta {
        let first = self.begin_next_hops(next_hops);
        first.then(self.finish())
    }

    /// The kernel's links or routes changed. What comes back is what the kernel needs to know at once, and costs nothing
    /// however many prefixes there are; [`Self::finish`] must follow.
    pub fn begin_next_hops(&mut self, next_hops: NextHops) -> Delta {
        let old = std::mem::replace(&mut self.kernel, next_hops);
        let mut changes = Changes::default();
        let links = changed_links(&old, &self.kernel);
        if self.local.kernel_fallback {
            changes.changed(changed_routes(&old, &self.kernel, &links));
        }
        if !links.is_empty() {
            // Forwarding is as before unless a next hop moved, but the interface may have another name.
            changes.changed(self.prefixes_on(&links));
        }
        let moved = self.hops.kernel_changed(&self.kernel);
        if !moved.is_empty() {
            self.ways.moved(&moved, &self.hops);
            self.unfinished.moved.extend(moved);
        }
        self.unfinished.changes = changes;
        Delta {
            ways: self.ways.tell(),
            ..Delta::default()
        }
    }

    /// The second part of what [`Self::begin_next_hops`] or [`Self::begin_peer_down`] began: all prefixes that it is about.
    pub fn finish(&mut self) -> Delta {
        let Unfinished {
            moved,
            mut changes,
            down,
        } = std::mem::take(&mut self.unfinished);
        if !moved.is_empty() {
            let places = self.places_by(&moved);
            self.settle_all(&places, &mut changes);
            changes.everything();
        }
        if let Some((peer, keep)) = down {
            self.take_down(peer, &keep, &mut changes);
        }
        self.conclude(changes)
    }

    /// Finds out anew where recursive next hops lead; returns those that lead elsewhere now.
    ///
    /// Round by round: first through paths whose own next hop the kernel knows, then through paths whose next hop was
    /// found in an earlier round. What is found stays, and rests on earlier rounds only, so there can be no loop, and
    /// the result does not depend on what the table believed before. Default routes do not count.
    pub(super) fn resolve_recursive(&mut self) -> BTreeSet<HopId> {
        let pending: Vec<_> = self.hops.recursive().collect();
        let mut found: BTreeMap<HopId, Resolved> = BTreeMap::new();
        for _ in 0..MAX_RECURSION {
            let round: Vec<_> = pending
                .iter()
                .filter(|(_, id)| !found.contains_key(id))
                .filter_map(|(address, id)| Some((*id, self.lookup(&Prefix::host(*address), &found)?)))
                .collect();
            if round.is_empty() {
                break;
            }
            found.extend(round);
        }
        let mut moved = BTreeSet::new();
        for (_, id) in pending {
            let resolution = found.remove(&id).ok_or(Ineligible::NextHopUnreachable);
            if self.hops.resolve(id, resolution) {
                moved.insert(id);
            }
        }
        moved
    }

    /// Where the longest usable BGP route leads, as far as is known.
    fn lookup(&self, host: &Prefix, found: &BTreeMap<HopId, Resolved>) -> Option<Resolved> {
        let recursive: BTreeSet<HopId> = self.hops.recursive().map(|(_, id)| id).collect();
        let resolution = |id: HopId| {
            if recursive.contains(&id) {
                found.get(&id)
            } else {
                self.hops.resolution(id).ok()
            }
        };
        let judge = self.judge();
        for (prefix, destination) in self.table.covering(host) {
            if prefix.length() == 0 {
                continue;
            }
            let owner = judge.owner(&prefix, destination);
            let paths: Vec<(Candidate<'_>, &Resolved)> = destination
                .paths
                .iter()
                .filter_map(|path| {
                    let resolved = resolution(self.sources.get(path.source)?.hop)?;
                    Some((
                        judge.candidate_with(&prefix, path, owner, Ok(resolved.cost))?,
                        resolved,
                    ))
                })
                .collect();
            let candidates: Vec<_> = paths.iter().map(|(candidate, _)| *candidate).collect();
            let places = decide(&candidates, self.local.multipath);
            let used: Vec<&Resolved> = places
                .iter()
                .filter(|place| place.used)
                .filter_map(|place| paths.get(place.index).map(|(_, resolved)| *resolved))
                .collect();
            let Some(cost) = used.iter().map(|resolved| resolved.cost).min() else {
                continue;
            };
            let mut gateways: Vec<_> = used
                .iter()
                .flat_map(|resolved| resolved.gateways.iter().copied())
                .collect();
            super::forwarding::fold(&mut gateways);
            return Some(Resolved {
                cost: cost.saturating_add(1),
                gateways,
            });
        }
        None
    }
}

fn changed_links(old: &NextHops, new: &NextHops) -> BTreeSet<u32> {
    use imbl::ordmap::DiffItem::{Add, Remove, Update};
    let index = |item| match item {
        Add(index, _) | Remove(index, _) => *index,
        Update { new: (index, _), .. } => *index,
    };
    old.links.diff(&new.links).map(index).collect()
}

/// Prefixes for which the kernel's own routes say something else now.
fn changed_routes(old: &NextHops, new: &NextHops, links: &BTreeSet<u32>) -> Vec<Prefix> {
    use imbl::ordmap::DiffItem::{Add, Remove, Update};
    let mut prefixes: Vec<Prefix> = Vec::new();
    prefixes.extend(old.routes.diff(&new.routes).map(|item| match item {
        Add(prefix, _) | Remove(prefix, _) => *prefix,
        Update { new: (prefix, _), .. } => *prefix,
    }));
    prefixes.extend(old.local.diff(&new.local).map(|item| match item {
        imbl::ordset::DiffItem::Add(address) | imbl::ordset::DiffItem::Remove(address) => {
            Prefix::host(*address)
        }
    }));
    if !links.is_empty() {
        let on_link = new.routes.iter().filter(|(_, route)| match &route.target {
            KernelTarget::Connected { interface } | KernelTarget::Via { interface, .. } => {
                links.contains(interface)
            }
            KernelTarget::Reject => false,
        });
        prefixes.extend(on_link.map(|(prefix, _)| *prefix));
    }
    prefixes
}
