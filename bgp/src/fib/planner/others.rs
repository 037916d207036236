//! Routes of ours that are not learned ones of the table in use: service addresses, prefixes that lead nowhere, and what
//! other tables still have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sekisho_config::model::Prefix;

use super::{Key, LOCAL_TABLE, Op, Planner, Target};

#[derive(Debug, Default)]
pub(super) struct Others {
    pub(super) vips: BTreeSet<IpAddr>,
    pub(super) unreachable: BTreeSet<Prefix>,
    pub(super) installed: BTreeMap<Key, Target>,
    pub(super) dirty: BTreeSet<Key>,
    pub(super) left_over: BTreeSet<Key>,
}

impl Planner {
    pub(in crate::fib) fn vips(&mut self, vips: BTreeSet<IpAddr>) {
        let old = std::mem::replace(&mut self.others.vips, vips);
        let differ: Vec<IpAddr> = old.symmetric_difference(&self.others.vips).copied().collect();
        for address in differ {
            self.touch_other(local_key(address));
        }
    }

    pub(in crate::fib) fn unreachable(&mut self, prefixes: BTreeSet<Prefix>) {
        let old = std::mem::replace(&mut self.others.unreachable, prefixes);
        let differ: Vec<Prefix> = old
            .symmetric_difference(&self.others.unreachable)
            .copied()
            .collect();
        for prefix in differ {
            self.touch_other(unreachable_key(prefix));
        }
    }

    fn touch_other(&mut self, key: Key) {
        self.others.left_over.remove(&key);
        self.failed.remove(&key);
        self.others.dirty.insert(key);
    }

    pub(super) fn touch_others(&mut self) {
        let vips = self.others.vips.iter().map(|address| local_key(*address));
        let unreachable = self
            .others
            .unreachable
            .iter()
            .map(|prefix| unreachable_key(*prefix));
        let others = self.others.installed.keys().copied();
        let keys: BTreeSet<Key> = vips
            .chain(unreachable)
            .chain(others)
            .filter(|key| !self.others.left_over.contains(key))
            .collect();
        for key in &keys {
            self.failed.remove(key);
        }
        self.others.dirty.extend(keys);
    }

    pub(super) fn wanted_other(&self, key: &Key) -> Option<Target> {
        if key.table != LOCAL_TABLE || self.stance.stopping || !self.stance.settings.install_routes {
            return None;
        }
        if key.prefix.is_host() && self.others.vips.contains(&key.prefix.address()) {
            return Some(Target::Local);
        }
        let wanted = self.others.unreachable.contains(&key.prefix);
        wanted.then_some(Target::Unreachable)
    }

    /// What to send about them, behind `ops`.
    pub(super) fn next_others(&mut self, limit: usize, ops: &mut Vec<Op>) {
        while ops.len() < limit
            && let Some(key) = self.others.dirty.pop_first()
        {
            match (self.wanted_other(&key), self.others.installed.get(&key)) {
                (Some(wanted), installed) if installed != Some(&wanted) => ops.push(Op::Replace(key, wanted)),
                (None, Some(_)) => ops.push(Op::Delete(key)),
                _ => {
                    self.failed.remove(&key);
                }
            }
        }
    }

    /// One that this process has not written. Before the first convergence it may still be asked for.
    pub(super) fn appeared(&mut self, key: Key) {
        if self.wanted_other(&key).is_some() || self.converged && self.stance.settings.install_routes {
            self.others.left_over.remove(&key);
            self.others.dirty.insert(key);
        } else {
            self.others.left_over.insert(key);
        }
    }
}

/// In the kernel's own table, which is asked before all others.
pub(super) fn unreachable_key(prefix: Prefix) -> Key {
    Key {
        table: LOCAL_TABLE,
        prefix,
    }
}

pub(super) fn local_key(address: IpAddr) -> Key {
    Key {
        table: LOCAL_TABLE,
        prefix: Prefix::host(address),
    }
}
