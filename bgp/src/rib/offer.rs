//! What of the table could be passed on.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use sekisho_config::model::Prefix;

use super::{PeerId, Rib};
use crate::wire::Attributes;

/// A usable path, with what has to be known of it to pass it on.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Whose.
    pub peer: PeerId,
    /// Address of that peer.
    pub from: IpAddr,
    /// Identifier of that peer.
    pub router_id: Ipv4Addr,
    /// Whether that peer is of another AS.
    pub external: bool,
    /// Path identifier as it came.
    pub path_id: Option<u32>,
    /// Next hop as it came.
    pub next_hop: IpAddr,
    /// LOCAL_PREF as compared.
    pub local_preference: u32,
    /// The rest.
    pub attributes: &'a Arc<Attributes>,
}

impl Rib {
    /// The usable paths of a prefix, best first.
    pub fn offers(&self, prefix: &Prefix) -> Vec<Offer<'_>> {
        let Some(destination) = self.table.get(prefix) else {
            return Vec::new();
        };
        let judge = self.judge();
        let owner = judge.owner(prefix, destination);
        destination
            .paths
            .iter()
            .filter_map(|path| {
                let source = self.sources.get(path.source)?;
                let cost = self.hops.resolution(source.hop).map(|resolved| resolved.cost);
                let candidate = judge.candidate_with(prefix, path, owner, cost)?;
                candidate.cost.ok()?;
                Some(Offer {
                    peer: source.peer,
                    from: candidate.peer_address,
                    router_id: candidate.router_id.address(),
                    external: candidate.external,
                    path_id: candidate.path_id,
                    next_hop: self.hops.key(source.hop)?.address,
                    local_preference: candidate.local_preference(),
                    attributes: &source.attributes,
                })
            })
            .collect()
    }

    /// Every prefix that has a path.
    pub fn known_prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.table.iter().map(|(prefix, _)| prefix)
    }
}
