use sekisho_config::model::{Prefix, Role};

use super::Local;
use super::decide::{Candidate, Ineligible};
use super::hops::Hops;
use super::owners::{Owners, owner};
use super::paths::{Destination, Path};
use super::peer::{PeerId, PeerInfo, Peers};
use super::sources::Sources;
use crate::wire::Attributes;

/// Everything that an opinion about paths rests on.
pub(super) struct Judge<'a> {
    pub(super) local: &'a Local,
    pub(super) peers: &'a Peers,
    pub(super) hops: &'a Hops,
    pub(super) sources: &'a Sources,
    pub(super) owners: &'a Owners,
}

impl<'a> Judge<'a> {
    /// Why no path of this peer with these attributes takes part, whatever its prefix and next hop are.
    pub(super) fn verdict(local: &Local, info: &PeerInfo, attributes: &Attributes) -> Result<(), Ineligible> {
        if info.role != Role::Cluster {
            return Err(Ineligible::Upstream);
        }
        if attributes.as_path.contains(local.asn) {
            return Err(Ineligible::AsLoop);
        }
        if attributes.originator_id == Some(local.router_id.address()) {
            return Err(Ineligible::OriginatorLoop);
        }
        if attributes.cluster_list.contains(&local.cluster_id.address()) {
            return Err(Ineligible::ClusterLoop);
        }
        Ok(())
    }

    /// The node that runs the pods of a prefix, where there is something to choose.
    pub(super) fn owner(&self, prefix: &Prefix, destination: &Destination) -> Option<&'a [std::net::IpAddr]> {
        let several = destination.paths.len() > 1;
        several.then(|| owner(self.owners, prefix)).flatten()
    }

    /// The path as the decision sees it, with an opinion about its next hop. `None` only for a peer that is not there, which
    /// cannot be.
    pub(super) fn candidate_with(
        &self,
        prefix: &Prefix,
        path: &Path,
        owner: Option<&[std::net::IpAddr]>,
        cost: Result<u32, Ineligible>,
    ) -> Option<Candidate<'a>> {
        let source = self.sources.get(path.source)?;
        let info = &self.peers.get(source.peer)?.info;
        let own = owner.zip(self.hops.key(source.hop));
        Some(Candidate {
            attributes: &source.attributes,
            external: info.asn != self.local.asn,
            router_id: info.router_id,
            peer_address: info.address,
            peer: &info.name,
            path_id: path.path_id(),
            cost: eligible(prefix, source.verdict).and(cost),
            owner: own.is_some_and(|(node, hop)| node.contains(&hop.address)),
        })
    }

    pub(super) fn candidates(&self, prefix: &Prefix, destination: &Destination) -> Vec<Candidate<'a>> {
        let owner = self.owner(prefix, destination);
        destination
            .paths
            .iter()
            .filter_map(|path| {
                let hop = self.sources.get(path.source)?.hop;
                let cost = self.hops.resolution(hop).map(|resolved| resolved.cost);
                self.candidate_with(prefix, path, owner, cost)
            })
            .collect()
    }

    /// Peers of the paths in use; one that has several stands there several times.
    pub(super) fn used_peers(&self, destination: &Destination) -> impl Iterator<Item = PeerId> {
        destination
            .used_paths()
            .filter_map(|path| self.sources.get(path.source).map(|source| source.peer))
    }
}

/// In the order in which reasons are told.
fn eligible(prefix: &Prefix, verdict: Result<(), Ineligible>) -> Result<(), Ineligible> {
    match verdict {
        Err(Ineligible::Upstream) => verdict,
        _ if is_martian(prefix) => Err(Ineligible::Martian),
        _ => verdict,
    }
}

/// Prefixes inside ranges that mean something only on a host or a link, or nothing (RFC 6890). Larger ones around
/// them, a default route among them, are fine.
pub(super) fn is_martian(prefix: &Prefix) -> bool {
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
