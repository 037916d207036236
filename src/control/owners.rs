use std::net::IpAddr;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use sekisho_bgp::rib::Owners;
use sekisho_config::model::{ClusterPart, Endpoint, NodeAddresses, NodeName};

/// Which node runs each endpoint, by the addresses of both: so that of several routes the one to that node is taken. A change of
/// one pool costs that pool; one of the nodes costs all pods, and is rare.
#[derive(Clone, Default)]
pub(super) struct NodesOfPods {
    owners: Owners,
}

impl NodesOfPods {
    /// Follows the cluster from `before` to `after`, of which `known` are the pods' addresses.
    pub(super) fn follow(&mut self, before: &ClusterPart, after: &ClusterPart, known: &OrdSet<IpAddr>) {
        if !before.nodes.ptr_eq(&after.nodes) && before.nodes != after.nodes {
            let pods = after.pools.values().flat_map(|pool| &pool.endpoints);
            let next: Owners = pods.filter_map(|pod| owner(pod, &after.nodes)).collect();
            if next != self.owners {
                self.owners = next;
            }
            return;
        }
        for item in before.pools.diff(&after.pools) {
            let (old, new) = match item {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
                DiffItem::Update {
                    old: (_, old),
                    new: (_, new),
                } => (Some(old), Some(new)),
            };
            let new: OrdMap<IpAddr, Arc<[IpAddr]>> = new
                .into_iter()
                .flat_map(|pool| &pool.endpoints)
                .filter_map(|pod| owner(pod, &after.nodes))
                .collect();
            // Another pool may still name it.
            for pod in old.into_iter().flat_map(|pool| &pool.endpoints) {
                if !new.contains_key(&pod.ip()) && !known.contains(&pod.ip()) {
                    self.owners.remove(&pod.ip());
                }
            }
            for (pod, node) in new {
                if self.owners.get(&pod) != Some(&node) {
                    self.owners.insert(pod, node);
                }
            }
        }
    }

    pub(super) fn owners(&self) -> &Owners {
        &self.owners
    }
}

fn owner(pod: &Endpoint, nodes: &OrdMap<NodeName, Arc<NodeAddresses>>) -> Option<(IpAddr, Arc<[IpAddr]>)> {
    let node = nodes.get(pod.node.as_ref()?)?;
    Some((pod.ip(), node.0.as_slice().into()))
}

#[cfg(test)]
mod tests {
    use sekisho_config::model::{Balance, Condition, ObjectName, Pool, PoolId, Upstream};

    use super::*;

    fn part(nodes: &[(&str, &str)], pods: &[(&str, &str, &str)]) -> ClusterPart {
        let node = |(name, address): &(&str, &str)| {
            let addresses = NodeAddresses(vec![address.parse().unwrap()]);
            (NodeName((*name).into()), Arc::new(addresses))
        };
        let mut part = ClusterPart {
            nodes: nodes.iter().map(node).collect(),
            ..ClusterPart::default()
        };
        for (pool, address, node) in pods {
            let id = PoolId {
                service: ObjectName::new("default", *pool),
                port: 80,
            };
            let mut endpoints = part
                .pools
                .get(&id)
                .map(|pool| pool.endpoints.clone())
                .unwrap_or_default();
            endpoints.push(Endpoint {
                address: address.parse().unwrap(),
                pod: None,
                node: Some(NodeName((*node).into())),
                condition: Condition::Ready,
                weight: std::num::NonZeroU8::MIN,
            });
            let pool = Pool {
                id: id.clone(),
                balance: Balance::default(),
                upstream: Upstream::default(),
                policy: Arc::default(),
                endpoints,
            };
            part.pools.insert(id, Arc::new(pool));
        }
        part
    }

    #[test]
    fn pods_are_where_their_node_is() {
        let mut nodes = NodesOfPods::default();
        let mut before = ClusterPart::default();
        for (after, want) in [
            (part(&[], &[("a", "10.244.0.1:80", "n1")]), vec![]),
            (
                part(&[("n1", "10.0.0.1")], &[("a", "10.244.0.1:80", "n1")]),
                vec![("10.244.0.1", "10.0.0.1")],
            ),
            (
                part(
                    &[("n1", "10.0.0.1")],
                    &[("a", "10.244.0.1:80", "n1"), ("b", "10.244.1.1:80", "n2")],
                ),
                vec![("10.244.0.1", "10.0.0.1")],
            ),
            (
                part(
                    &[("n1", "10.0.0.9"), ("n2", "10.0.0.2")],
                    &[("a", "10.244.0.1:80", "n1"), ("b", "10.244.1.1:80", "n2")],
                ),
                vec![("10.244.0.1", "10.0.0.9"), ("10.244.1.1", "10.0.0.2")],
            ),
            (
                part(
                    &[("n1", "10.0.0.9"), ("n2", "10.0.0.2")],
                    &[("a", "10.244.0.1:80", "n2")],
                ),
                vec![("10.244.0.1", "10.0.0.2")],
            ),
            (part(&[("n1", "10.0.0.9"), ("n2", "10.0.0.2")], &[]), vec![]),
        ] {
            let pods = after.pools.values().flat_map(|pool| &pool.endpoints);
            nodes.follow(&before, &after, &pods.map(Endpoint::ip).collect());
            let got: Vec<_> = nodes
                .owners()
                .iter()
                .map(|(pod, node)| (pod.to_string(), node[0].to_string()))
                .collect();
            let want: Vec<_> = want
                .iter()
                .map(|(pod, node)| (pod.to_string(), node.to_string()))
                .collect();
            assert_eq!(got, want);
            before = after;
        }
    }
}
