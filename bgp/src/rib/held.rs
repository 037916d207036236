use std::sync::Arc;

use sekisho_config::model::{PeerName, Prefix};

use super::Rib;
use crate::wire::{Attributes, NextHop};

/// A path as it is held: what a peer said, after the rules of import.
#[derive(Clone, Debug)]
pub struct HeldPath {
    /// The prefix.
    pub prefix: Prefix,
    /// Path identifier (RFC 7911).
    pub path_id: Option<u32>,
    /// Who said so.
    pub peer: PeerName,
    /// The peer is of our AS.
    pub internal: bool,
    /// Kept from before a restart of the peer, or not repeated yet in a refresh.
    pub stale: bool,
    /// Where to.
    pub next_hop: NextHop,
    /// Everything else.
    pub attributes: Arc<Attributes>,
}

impl Rib {
    /// Every prefix, in no order.
    pub fn all_prefixes(&self) -> Vec<Prefix> {
        self.table.iter().map(|(prefix, _)| prefix).collect()
    }

    /// The paths of these prefixes, for whoever writes the table down. Costs no decision.
    pub fn held(&self, prefixes: &[Prefix]) -> Vec<HeldPath> {
        let mut held = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            let paths = self
                .table
                .get(prefix)
                .into_iter()
                .flat_map(|found| found.paths.iter());
            for path in paths {
                let Some(source) = self.sources.get(path.source) else {
                    continue;
                };
                let (Some(peer), Some(hop)) = (self.peers.get(source.peer), self.hops.key(source.hop)) else {
                    continue;
                };
                held.push(HeldPath {
                    prefix: *prefix,
                    path_id: path.path_id(),
                    peer: peer.info.name.clone(),
                    internal: peer.info.asn == self.local.asn,
                    stale: path.stale,
                    next_hop: NextHop {
                        address: hop.address,
                        link_local: hop.link_local,
                    },
                    attributes: Arc::clone(&source.attributes),
                });
            }
        }
        held
    }
}
