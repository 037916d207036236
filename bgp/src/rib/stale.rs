use std::sync::Arc;

use super::{Family, PeerId, Rib, family_of};
use crate::wire::{Attributes, NextHop, Nlri};

impl Rib {
    /// What is kept of one family of a peer that is away, whether it leads anywhere or not.
    pub fn stale_paths(&self, peer: PeerId, family: Family) -> Vec<(Nlri, NextHop, Arc<Attributes>)> {
        let mut found = Vec::new();
        for (prefix, destination) in self
            .table
            .iter()
            .filter(|(prefix, _)| family_of(prefix) == family)
        {
            for path in destination.paths.iter().filter(|path| path.stale) {
                let source = self.sources.get(path.source).filter(|source| source.peer == peer);
                let Some((source, hop)) =
                    source.and_then(|source| Some((source, self.hops.key(source.hop)?)))
                else {
                    continue;
                };
                let next_hop = NextHop {
                    address: hop.address,
                    link_local: hop.link_local,
                };
                let nlri = Nlri {
                    path_id: path.path_id(),
                    prefix,
                };
                found.push((nlri, next_hop, Arc::clone(&source.attributes)));
            }
        }
        found
    }
}
