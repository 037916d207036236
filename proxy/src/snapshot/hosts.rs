//! Virtual hosts by name. Every request asks for one among any number of them, so what counts is how many pieces of memory
//! are looked at, one after the other: the table's place for the name, the name, the host.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use sekisho_config::model::HostName;

use crate::route::CompiledHost;

/// Parts of the table; a change copies one of them.
const SHARDS: usize = 256;

/// Hosts by name. Copies share what is the same in both.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    shards: Arc<Vec<Arc<Shard>>>,
    hashes: DefaultHashBuilder,
    len: usize,
}

type Shard = HashTable<(HostName, Arc<CompiledHost>)>;

impl Default for Hosts {
    fn default() -> Self {
        Self {
            shards: Arc::new(vec![Arc::default(); SHARDS]),
            hashes: DefaultHashBuilder::default(),
            len: 0,
        }
    }
}

impl Hosts {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<CompiledHost>> {
        let hash = self.hashes.hash_one(name);
        let shard = self.shards.get(place(hash))?;
        let (_, host) = shard.find(hash, |(other, _)| other.as_str() == name)?;
        Some(host)
    }

    /// Gives what was there before.
    pub(super) fn insert(&mut self, name: &HostName, host: Arc<CompiledHost>) -> Option<Arc<CompiledHost>> {
        let before = self.remove(name);
        let hashes = self.hashes.clone();
        let hash = hashes.hash_one(name.as_str());
        if let Some(shard) = self.shard(hash) {
            let again = |(name, _): &(HostName, _)| hashes.hash_one(name.as_str());
            shard.insert_unique(hash, (name.clone(), host), again);
            self.len += 1;
        }
        before
    }

    /// Gives what was there.
    pub(super) fn remove(&mut self, name: &HostName) -> Option<Arc<CompiledHost>> {
        // What is not there changes nothing, and copies nothing.
        self.get(name.as_str())?;
        let hash = self.hashes.hash_one(name.as_str());
        let entry = self
            .shard(hash)?
            .find_entry(hash, |(other, _)| other == name)
            .ok()?;
        let ((_, host), _) = entry.remove();
        self.len -= 1;
        Some(host)
    }

    fn shard(&mut self, hash: u64) -> Option<&mut Shard> {
        Arc::make_mut(&mut self.shards)
            .get_mut(place(hash))
            .map(Arc::make_mut)
    }
}

/// The shard of a hash, by other bits than those that find the place within it.
fn place(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use sekisho_config::model::{HostPattern, VirtualHost};

    use super::*;

    fn host(name: &HostName) -> Arc<CompiledHost> {
        Arc::new(CompiledHost::compile(&Arc::new(VirtualHost {
            host: HostPattern::Exact(name.clone()),
            routes: Vec::new(),
            fallback: None,
        })))
    }

    proptest! {
        /// It holds what a map holds, and a copy keeps what it held.
        #[test]
        fn is_the_same_as_a_map(changes in proptest::collection::vec((any::<bool>(), 0..100u32), 0..150)) {
            let (mut hosts, mut map) = (Hosts::default(), HashMap::new());
            let mut copies = Vec::new();
            for (number, (insert, of)) in changes.into_iter().enumerate() {
                let name: HostName = format!("h{of}.example.com").parse().unwrap();
                let (before, want) = if insert {
                    let host = host(&name);
                    (hosts.insert(&name, Arc::clone(&host)), map.insert(name, host))
                } else {
                    (hosts.remove(&name), map.remove(&name))
                };
                prop_assert_eq!(before.as_ref().map(Arc::as_ptr), want.as_ref().map(Arc::as_ptr));
                prop_assert_eq!((hosts.len, hosts.is_empty()), (map.len(), map.is_empty()));
                if number.is_multiple_of(40) {
                    copies.push((hosts.clone(), map.clone()));
                }
            }
            copies.push((hosts, map));
            for (hosts, map) in copies {
                for of in 0..100 {
                    let name = format!("h{of}.example.com");
                    prop_assert_eq!(hosts.get(&name).map(Arc::as_ptr), map.get(name.as_str()).map(Arc::as_ptr));
                }
            }
        }
    }
}
