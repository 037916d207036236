use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use sekisho_config::model::{
    ClusterPart, Desired, HostPattern, Observed, Pool, PoolId, Revision, Routing, Secret, VirtualHost,
};

use super::{ListenerKind, Snapshot, pools};
use crate::route::CompiledHost;

/// Compiles the next snapshot. Pure; the cost follows what differs from `previous`.
pub fn compile(
    previous: &Snapshot,
    desired: &Desired,
    observed: &Observed,
    routing: Routing,
    revision: Revision,
) -> Snapshot {
    let wished = desired.cluster.clone().unwrap_or_default();
    let mut next = previous.clone();
    next.revision = revision;
    next.source_ready = desired.cluster.is_some();
    next.routing = routing;
    next.answers = observed.answers.clone();
    next.update_pools(
        previous,
        &wished,
        observed,
        (routing, desired.sticky_key.as_ref()),
    );
    next.update_hosts(previous, &wished);
    next.certificates.update(
        (&previous.wished.certificates, &wished.certificates),
        (&previous.obtained, &observed.certificates),
    );
    next.obtained = observed.certificates.clone();
    next.update_listeners(desired, &wished);
    next.reach = observed.reach.clone();
    next.health = observed.health.clone();
    next.sticky_key.clone_from(&desired.sticky_key);
    next.wished = wished;
    next
}

impl Snapshot {
    fn update_pools(
        &mut self,
        previous: &Self,
        wished: &ClusterPart,
        observed: &Observed,
        with: (Routing, Option<&Secret>),
    ) {
        let (routing, sticky_key) = with;
        // Pools to compile again: those that differ, and those with an endpoint whose reachability differs.
        let mut stale: BTreeSet<PoolId> = BTreeSet::new();
        for item in previous.wished.pools.diff(&wished.pools) {
            match item {
                DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } | DiffItem::Remove(id, _) => {
                    stale.insert(id.clone());
                }
            }
        }
        if previous.routing != routing || previous.sticky_key.as_ref() != sticky_key {
            stale.extend(wished.pools.keys().cloned());
        } else if routing != Routing::Off {
            for item in previous.reach.diff(&observed.reach) {
                let address = match item {
                    DiffItem::Add(address, _) | DiffItem::Remove(address, _) => address,
                    // Another way over the same next hop changes nothing here.
                    DiffItem::Update {
                        old: (_, old),
                        new: (address, new),
                    } => {
                        use sekisho_config::model::Reach::Routed;
                        if let (Routed(old), Routed(new)) = (old, new)
                            && old.next_hops == new.next_hops
                        {
                            continue;
                        }
                        address
                    }
                };
                if let Some(pools) = previous.by_address.get(address) {
                    stale.extend(pools.iter().filter(|id| wished.pools.contains_key(*id)).cloned());
                }
            }
        }
        for item in previous.health.diff(&observed.health) {
            let ((address, _), old, new) = match item {
                DiffItem::Add(key, new) => (key, None, Some(new)),
                DiffItem::Remove(key, old) => (key, Some(old), None),
                DiffItem::Update {
                    old: (_, old),
                    new: (key, new),
                } => (key, Some(old), Some(new)),
            };
            if old.map(|health| health.well) == new.map(|health| health.well) {
                continue;
            }
            if let Some(pools) = previous.by_address.get(&address.ip()) {
                stale.extend(pools.iter().filter(|id| wished.pools.contains_key(*id)).cloned());
            }
        }
        for id in stale {
            let before = self.eligible_of(&id);
            let old = self.pools.get(&id).cloned();
            let new = wished.pools.get(&id);
            self.index_addresses(&id, old.as_ref().map(|pool| pool.wished()), new);
            match new {
                Some(pool) => {
                    let compiled = self.compile_pool(old.as_deref(), pool, observed, with);
                    self.pools.insert(id.clone(), Arc::new(compiled));
                }
                None => {
                    self.pools.remove(&id);
                }
            }
            self.recount(&id, before);
        }
    }

    fn compile_pool(
        &mut self,
        old: Option<&pools::CompiledPool>,
        wished: &Arc<Pool>,
        observed: &Observed,
        (routing, sticky_key): (Routing, Option<&Secret>),
    ) -> pools::CompiledPool {
        let Self {
            pools,
            by_address,
            nodes,
            ..
        } = self;
        let elsewhere = |address: SocketAddr| {
            by_address.get(&address.ip())?.iter().find_map(|id| {
                let endpoints = pools.get(id)?.endpoints();
                let index = endpoints
                    .binary_search_by_key(&address, |endpoint| endpoint.endpoint.address)
                    .ok()?;
                endpoints.get(index).map(|endpoint| Arc::clone(&endpoint.state))
            })
        };
        pools::compile(
            old,
            wished,
            &mut pools::Around {
                reach: &observed.reach,
                health: &observed.health,
                routing,
                sticky_key,
                elsewhere: &elsewhere,
                node: &mut |behind| nodes.of(behind),
            },
        )
    }

    /// Eligible endpoints of a pool that HTTP routes lead to.
    fn eligible_of(&self, id: &PoolId) -> usize {
        match self.routes_to.get(id) {
            Some(_) => self.pools.get(id).map_or(0, |pool| pool.eligible()),
            None => 0,
        }
    }

    fn recount(&mut self, id: &PoolId, before: usize) {
        let now = self.eligible_of(id);
        self.eligible_http = self.eligible_http.saturating_sub(before).saturating_add(now);
    }

    fn index_addresses(&mut self, id: &PoolId, old: Option<&Arc<Pool>>, new: Option<&Arc<Pool>>) {
        let addresses = |pool: Option<&Arc<Pool>>| -> BTreeSet<_> {
            pool.map(|pool| pool.endpoints.iter().map(|endpoint| endpoint.ip()).collect())
                .unwrap_or_default()
        };
        let (old, new) = (addresses(old), addresses(new));
        for gone in old.difference(&new) {
            let empty = self.by_address.get_mut(gone).is_some_and(|pools| {
                pools.remove(id);
                pools.is_empty()
            });
            if empty {
                self.by_address.remove(gone);
            }
        }
        for come in new.difference(&old) {
            self.by_address.entry(*come).or_default().insert(id.clone());
        }
    }

    fn update_hosts(&mut self, previous: &Self, wished: &ClusterPart) {
        for item in previous.wished.hosts.diff(&wished.hosts) {
            let (old, new) = match item {
                DiffItem::Add(pattern, host) => (None, Some((pattern, host))),
                DiffItem::Update { old: (_, old), new } => (Some(old), Some(new)),
                DiffItem::Remove(pattern, host) => {
                    self.set_host(pattern, None);
                    self.count_routes(Some(host), None);
                    continue;
                }
            };
            if let Some((pattern, host)) = new {
                self.set_host(pattern, Some(Arc::new(CompiledHost::compile(host))));
                self.count_routes(old, Some(host));
            }
        }
    }

    fn set_host(&mut self, pattern: &HostPattern, host: Option<Arc<CompiledHost>>) {
        let asks = |host: &Option<Arc<CompiledHost>>| {
            usize::from(host.as_ref().is_some_and(|host| host.client_auth().is_some()))
        };
        let now = asks(&host);
        let (table, name) = match pattern {
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Wildcard(suffix) => (&mut self.wildcard, suffix),
            HostPattern::Any => {
                let before = asks(&std::mem::replace(&mut self.any, host));
                self.asking = self.asking.saturating_sub(before) + now;
                return;
            }
        };
        let before = match host {
            Some(host) => table.insert(name, host),
            None => table.remove(name),
        };
        self.asking = self.asking.saturating_sub(asks(&before)) + now;
    }

    fn count_routes(&mut self, old: Option<&Arc<VirtualHost>>, new: Option<&Arc<VirtualHost>>) {
        let targets = |host: Option<&Arc<VirtualHost>>| -> Vec<PoolId> {
            host.map(|host| {
                host.routes
                    .iter()
                    .chain(&host.fallback)
                    .flat_map(|route| route.action.pools().cloned())
                    .collect()
            })
            .unwrap_or_default()
        };
        for id in targets(new) {
            let before = self.eligible_of(&id);
            let count = self.routes_to.entry(id.clone()).or_insert(0);
            *count = count.saturating_add(1);
            self.recount(&id, before);
        }
        for id in targets(old) {
            let before = self.eligible_of(&id);
            let left = self.routes_to.get(&id).map_or(0, |count| count.saturating_sub(1));
            if left == 0 {
                self.routes_to.remove(&id);
            } else {
                self.routes_to.insert(id.clone(), left);
            }
            self.recount(&id, before);
        }
    }

    /// The listeners of the file are few; those of Services follow the difference. A listener of the file wins.
    fn update_listeners(&mut self, desired: &Desired, wished: &ClusterPart) {
        let from_file = |address: &SocketAddr| {
            if desired.https.contains(address) {
                Some(ListenerKind::Https)
            } else if desired.http.contains(address) {
                Some(ListenerKind::Http)
            } else {
                None
            }
        };
        let gone: Vec<SocketAddr> = self
            .from_file
            .iter()
            .filter(|address| from_file(address).is_none())
            .copied()
            .collect();
        for address in &gone {
            self.listeners.remove(address);
        }
        self.from_file = desired.http.iter().chain(&desired.https).copied().collect();
        let https = |address: &&SocketAddr| desired.https.contains(address);
        self.http3 = desired.http3.iter().filter(https).copied().collect();
        for address in desired.http.iter().chain(&desired.https) {
            if let Some(kind) = from_file(address)
                && self.listeners.get(address) != Some(&kind)
            {
                self.listeners.insert(*address, kind);
            }
        }
        let mut set = |address: &SocketAddr| {
            if from_file(address).is_some() {
                return;
            }
            match wished.tcp.get(address) {
                Some(route) => self
                    .listeners
                    .insert(*address, ListenerKind::Tcp(Arc::clone(route))),
                None => self.listeners.remove(address),
            };
        };
        for item in self.wished.tcp.diff(&wished.tcp) {
            match item {
                DiffItem::Add(address, _)
                | DiffItem::Update {
                    new: (address, _), ..
                }
                | DiffItem::Remove(address, _) => set(address),
            }
        }
        // A Service may have waited behind a listener of the file.
        for address in &gone {
            set(address);
        }
    }
}
