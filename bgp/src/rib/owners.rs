use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::Prefix;
use smallvec::SmallVec;

use super::Rib;
use super::change::Changes;
use super::{Delta, track::last_address};

/// Addresses of a node.
type Node = Arc<[IpAddr]>;

/// Addresses of the node that runs each pod, by the pod's address.
pub type Owners = OrdMap<IpAddr, Node>;

/// A prefix with more pods than this belongs to no node: blocks are small, and this is asked at each decision.
const MOST_PODS: usize = 1024;

/// The node that runs most of the known pods inside a prefix, if it runs more than half of them.
pub(super) fn owner<'a>(owners: &'a Owners, prefix: &Prefix) -> Option<&'a [IpAddr]> {
    if owners.is_empty() {
        return None;
    }
    let mut nodes: SmallVec<[(&'a Node, usize); 4]> = SmallVec::new();
    let mut all = 0;
    for (_, node) in owners.range(prefix.address()..=last_address(prefix)) {
        all += 1;
        if all > MOST_PODS {
            return None;
        }
        match nodes.iter_mut().find(|(known, _)| *known == node) {
            Some((_, pods)) => *pods += 1,
            None => nodes.push((node, 1)),
        }
    }
    let (node, pods) = nodes.into_iter().max_by_key(|(_, pods)| *pods)?;
    (pods * 2 > all).then_some(node)
}

impl Rib {
    /// Takes the whole set of pods whose node is known. Of several paths to a prefix the one whose next hop is the node that
    /// runs its pods is the best; the others are there for when it is gone.
    pub fn set_owners(&mut self, owners: Owners) -> Delta {
        use imbl::ordmap::DiffItem::{Add, Remove, Update};
        let old = std::mem::replace(&mut self.owners, owners);
        let mut prefixes: Vec<Prefix> = Vec::new();
        for item in old.diff(&self.owners) {
            let address = match item {
                Add(address, _) | Remove(address, _) => *address,
                Update {
                    new: (address, _), ..
                } => *address,
            };
            let around = self.table.covering(&Prefix::host(address));
            prefixes.extend(
                around
                    .filter(|(_, destination)| destination.paths.len() > 1)
                    .map(|(prefix, _)| prefix),
            );
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        let places: Vec<_> = prefixes
            .iter()
            .filter_map(|prefix| self.table.find(prefix))
            .collect();
        let mut changes = Changes::default();
        self.settle_all(&places, &mut changes);
        self.conclude(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_belongs_to_the_node_that_runs_most_of_its_pods() {
        let node = |last: u8| -> Arc<[IpAddr]> { Arc::from([IpAddr::from([10, 0, 0, last])]) };
        let pods = |list: &[(&str, u8)]| -> Owners {
            let pair = |(pod, last): &(&str, u8)| (pod.parse::<IpAddr>().unwrap(), node(*last));
            list.iter().map(pair).collect()
        };
        for (list, want) in [
            (&[][..], None),
            (&[("10.244.1.1", 1)], None),
            (&[("10.244.0.1", 1), ("10.244.1.1", 2)], Some(1)),
            (&[("10.244.0.1", 1), ("10.244.0.2", 2)], None),
            (
                &[("10.244.0.1", 1), ("10.244.0.2", 2), ("10.244.0.63", 2)],
                Some(2),
            ),
        ] {
            let owners = pods(list);
            let got = owner(&owners, &"10.244.0.0/26".parse().unwrap());
            assert_eq!(got, want.map(node).as_deref(), "{list:?}");
        }
        let many: Owners = (0..=1024u32)
            .map(|low| (IpAddr::V4((0x0af4_0000 + low).into()), node(1)))
            .collect();
        assert_eq!(
            owner(&many, &"10.244.0.0/16".parse().unwrap()),
            None,
            "too many to ask"
        );
        assert!(owner(&many, &"10.244.1.0/24".parse().unwrap()).is_some());
    }
}
