use std::net::IpAddr;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use sekisho_config::model::{Pool, PoolId};

/// The endpoint addresses of all pools, counted, so that one pool's change costs that pool.
#[derive(Clone, Default)]
pub(super) struct Tracked {
    counts: OrdMap<IpAddr, usize>,
    addresses: OrdSet<IpAddr>,
}

impl Tracked {
    /// Follows the pools from `before` to `after`.
    pub(super) fn follow(&mut self, before: &OrdMap<PoolId, Arc<Pool>>, after: &OrdMap<PoolId, Arc<Pool>>) {
        for item in before.diff(after) {
            let (old, new) = match item {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
                DiffItem::Update {
                    old: (_, old),
                    new: (_, new),
                } => (Some(old), Some(new)),
            };
            for endpoint in new.iter().flat_map(|pool| &pool.endpoints) {
                *self.counts.entry(endpoint.ip()).or_insert(0) += 1;
                self.addresses.insert(endpoint.ip());
            }
            for endpoint in old.iter().flat_map(|pool| &pool.endpoints) {
                let address = endpoint.ip();
                let left = self
                    .counts
                    .get(&address)
                    .map_or(0, |count| count.saturating_sub(1));
                if left > 0 {
                    self.counts.insert(address, left);
                } else {
                    self.counts.remove(&address);
                    self.addresses.remove(&address);
                }
            }
        }
    }

    /// Every address that a pool names.
    pub(super) fn addresses(&self) -> &OrdSet<IpAddr> {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use sekisho_config::model::{Balance, Condition, Endpoint, ObjectName, Upstream};

    use super::*;

    fn pools(of: &[(&str, &[&str])]) -> OrdMap<PoolId, Arc<Pool>> {
        of.iter()
            .map(|(name, addresses)| {
                let id = PoolId {
                    service: ObjectName::new("default", *name),
                    port: 80,
                };
                let endpoints = addresses
                    .iter()
                    .map(|address| Endpoint {
                        address: address.parse().unwrap(),
                        pod: None,
                        node: None,
                        condition: Condition::Ready,
                        weight: std::num::NonZeroU8::MIN,
                    })
                    .collect();
                (
                    id.clone(),
                    Arc::new(Pool {
                        id,
                        balance: Balance::default(),
                        upstream: Upstream::default(),
                        policy: Arc::default(),
                        endpoints,
                    }),
                )
            })
            .collect()
    }

    #[test]
    fn an_address_is_tracked_as_long_as_one_pool_names_it() {
        let steps = [
            pools(&[("a", &["10.0.0.1:80", "10.0.0.2:80"]), ("b", &["10.0.0.2:81"])]),
            pools(&[("a", &["10.0.0.1:80"]), ("b", &["10.0.0.2:81"])]),
            pools(&[("a", &["10.0.0.1:80"])]),
            pools(&[("a", &["10.0.0.1:80", "10.0.0.1:81"]), ("c", &["10.0.0.3:1"])]),
            pools(&[]),
        ];
        let mut tracked = Tracked::default();
        let mut before = pools(&[]);
        for after in steps {
            tracked.follow(&before, &after);
            let want: OrdSet<IpAddr> = after
                .values()
                .flat_map(|pool| &pool.endpoints)
                .map(Endpoint::ip)
                .collect();
            assert_eq!(*tracked.addresses(), want);
            before = after;
        }
    }
}
