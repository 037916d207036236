//! Next hops that only a BGP route leads to (RFC 4271 section 9.1.2.1).

use std::collections::{BTreeMap, BTreeSet};

use sekisho_config::model::Prefix;

use super::Rib;
use super::decide::{Candidate, Ineligible, decide};
use super::hops::{HopId, Resolved};

/// How many BGP routes may stand between a next hop and a neighbour.
const MAX_RECURSION: usize = 4;

impl Rib {
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
