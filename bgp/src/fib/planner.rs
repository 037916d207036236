use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sekisho_config::model::Prefix;

use super::Settings;
use crate::rib::Gateways;

/// Kernel table `local`: addresses that the box accepts packets for.
pub(super) const LOCAL_TABLE: u32 = 255;

/// First wait after the kernel refused a route; doubled each time, up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// One route of ours in the kernel: there is at most one for a prefix in a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) table: u32,
    pub(super) prefix: Prefix,
}

/// Where a route of ours leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Via(Gateways),
    /// To the box itself, on `lo`.
    Local,
    /// Nowhere: whoever sends hears so.
    Unreachable,
    /// It is ours by number, but leads to something that we never write.
    Foreign,
}

/// One message to the kernel. Writing always replaces, so that no packet ever finds the route missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Replace(Key, Target),
    Delete(Key),
}

impl Op {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Replace(key, _) | Self::Delete(key) => *key,
        }
    }
}

/// What the kernel answered to one [`Op`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Done,
    /// Deletion of what is not there.
    NotThere,
    Refused(String),
}

/// Compares what is wanted with what is installed and says what to do next. Pure.
#[derive(Debug)]
pub(super) struct Planner {
    settings: Settings,
    routes: BTreeMap<Prefix, Gateways>,
    vips: BTreeSet<IpAddr>,
    unreachable: BTreeSet<Prefix>,
    /// As the kernel last said, by answers, events and dumps.
    installed: BTreeMap<Key, Target>,
    /// Keys to compare.
    dirty: BTreeSet<Key>,
    /// How many are installed: IPv4, IPv6, service addresses.
    counts: [usize; 3],
    /// Refused by the kernel.
    failed: BTreeMap<Key, Failure>,
    /// Found at the start and wanted by nobody yet.
    left_over: BTreeSet<Key>,
    converged: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Failure {
    attempts: u32,
    retry_at: Instant,
}

impl Planner {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            routes: BTreeMap::new(),
            vips: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            installed: BTreeMap::new(),
            dirty: BTreeSet::new(),
            counts: [0; 3],
            failed: BTreeMap::new(),
            left_over: BTreeSet::new(),
            converged: false,
            stopping: false,
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    pub(super) fn route(&mut self, prefix: Prefix, gateways: Option<Gateways>) {
        match gateways {
            Some(gateways) => self.routes.insert(prefix, gateways),
            None => self.routes.remove(&prefix),
        };
        let table = self.settings.table;
        self.touch(Key { table, prefix });
    }

    /// Whether another wanted route that `counts` holds all of `prefix`: what leads its packets when its own route goes.
    pub(super) fn has_way_around(&self, prefix: &Prefix, counts: impl Fn(&Prefix) -> bool) -> bool {
        (0..prefix.length())
            .filter_map(|length| Prefix::new(prefix.address(), length))
            .any(|wider| self.routes.contains_key(&wider) && counts(&wider))
    }

    pub(super) fn vips(&mut self, vips: BTreeSet<IpAddr>) {
        let old = std::mem::replace(&mut self.vips, vips);
        let differ: Vec<IpAddr> = old.symmetric_difference(&self.vips).copied().collect();
        for address in differ {
            self.touch(local_key(address));
        }
    }

    pub(super) fn unreachable(&mut self, prefixes: BTreeSet<Prefix>) {
        let old = std::mem::replace(&mut self.unreachable, prefixes);
        let differ: Vec<Prefix> = old.symmetric_difference(&self.unreachable).copied().collect();
        for prefix in differ {
            self.touch(unreachable_key(prefix));
        }
    }

    pub(super) fn configure(&mut self, settings: Settings) {
        if self.settings == settings {
            return;
        }
        self.touch_everything();
        self.settings = settings;
        self.touch_everything();
    }

    /// The way out: nothing is wanted any more, left-overs included.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.converged();
        self.touch_everything();
    }

    /// What is left over goes now, unless somebody asked for it meanwhile. Without `install_routes` nothing is touched
    /// that this process has not written.
    pub(super) fn converged(&mut self) {
        self.converged = true;
        if self.settings.install_routes {
            self.dirty.append(&mut self.left_over);
        }
    }

    pub(super) fn has_converged(&self) -> bool {
        self.converged
    }

    /// Everything of ours that a dump of the kernel's tables showed. Returns how many routes somebody else had taken
    /// away or changed.
    pub(super) fn resync(&mut self, seen: BTreeMap<Key, Target>) -> usize {
        self.counts = [0; 3];
        for key in seen.keys() {
            self.count(key, true);
        }
        let old = std::mem::replace(&mut self.installed, seen);
        let mut lost = 0;
        for (key, target) in &old {
            if self.installed.get(key) != Some(target) {
                lost += usize::from(self.wanted(key).is_some());
                self.dirty.insert(*key);
            }
        }
        let unknown: Vec<Key> = self
            .installed
            .keys()
            .filter(|key| !old.contains_key(key))
            .copied()
            .collect();
        for key in unknown {
            self.appeared(key);
        }
        lost
    }

    /// Somebody else's change of a route of ours. `true`: it is not as wanted, and will be put right.
    pub(super) fn seen(&mut self, key: Key, target: Option<Target>) -> bool {
        let known = self.installed.get(&key) == target.as_ref();
        let gone = target.is_none();
        self.install(key, target);
        if gone {
            self.left_over.remove(&key);
            self.dirty.insert(key);
        } else {
            self.appeared(key);
        }
        !known && self.wanted(&key) != self.installed.get(&key).cloned()
    }

    /// What to send next, at most `limit` messages.
    pub(super) fn next(&mut self, limit: usize) -> Vec<Op> {
        let mut ops = Vec::new();
        while ops.len() < limit
            && let Some(key) = self.dirty.pop_first()
        {
            let wanted = self.wanted(&key);
            match (wanted, self.installed.get(&key)) {
                (Some(wanted), installed) if installed != Some(&wanted) => ops.push(Op::Replace(key, wanted)),
                (None, Some(_)) => ops.push(Op::Delete(key)),
                _ => {
                    self.failed.remove(&key);
                }
            }
        }
        ops
    }

    /// The kernel's answer.
    pub(super) fn answered(&mut self, op: Op, outcome: &Outcome, now: Instant) {
        let key = op.key();
        match (op, outcome) {
            (_, Outcome::Refused(_)) => {
                let attempts = self.failed.get(&key).map_or(0, |failure| failure.attempts);
                let wait = RETRY_FIRST
                    .saturating_mul(2u32.saturating_pow(attempts))
                    .min(RETRY_MAX);
                let failure = Failure {
                    attempts: attempts.saturating_add(1),
                    retry_at: now + wait,
                };
                self.failed.insert(key, failure);
                return;
            }
            (Op::Replace(key, target), _) => self.install(key, Some(target)),
            (Op::Delete(key), _) => self.install(key, None),
        }
        self.failed.remove(&key);
    }

    /// The answer never came, or permission is missing: the whole batch is tried again, whenever that is.
    pub(super) fn unanswered(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.dirty.extend(ops.into_iter().map(|op| op.key()));
    }

    /// When the next refused route is due again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.failed.values().map(|failure| failure.retry_at).min()
    }

    /// Takes up refused routes whose wait is over; with `all`, because links changed, every one.
    pub(super) fn retry(&mut self, now: Instant, all: bool) {
        let due = self
            .failed
            .iter()
            .filter(|(_, failure)| all || failure.retry_at <= now)
            .map(|(key, _)| *key);
        self.dirty.extend(due);
        for key in &self.dirty {
            if let Some(failure) = self.failed.get_mut(key) {
                // Not due again before it has been tried.
                failure.retry_at = now + RETRY_MAX;
            }
        }
    }

    /// Whether nothing is left to send or to wait for.
    pub(super) fn is_idle(&self) -> bool {
        self.dirty.is_empty()
    }

    pub(super) fn pending(&self) -> usize {
        let refused = self.failed.keys().filter(|key| !self.dirty.contains(key)).count();
        self.dirty.len() + refused
    }

    /// Installed routes: IPv4, IPv6, service addresses.
    pub(super) fn installed(&self) -> [usize; 3] {
        self.counts
    }

    fn install(&mut self, key: Key, target: Option<Target>) {
        let now = target.is_some();
        let before = match target {
            Some(target) => self.installed.insert(key, target),
            None => self.installed.remove(&key),
        };
        if before.is_some() != now {
            self.count(&key, now);
        }
    }

    fn count(&mut self, key: &Key, more: bool) {
        let [ipv4, ipv6, vips] = &mut self.counts;
        let count = match (key.table, key.prefix.is_ipv4()) {
            (LOCAL_TABLE, _) => vips,
            (_, true) => ipv4,
            (_, false) => ipv6,
        };
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }

    fn wanted(&self, key: &Key) -> Option<Target> {
        if self.stopping || !self.settings.install_routes {
            return None;
        }
        if key.table == LOCAL_TABLE {
            if key.prefix.is_host() && self.vips.contains(&key.prefix.address()) {
                return Some(Target::Local);
            }
            let wanted = self.unreachable.contains(&key.prefix);
            return wanted.then_some(Target::Unreachable);
        }
        if key.table != self.settings.table {
            return None;
        }
        self.routes.get(&key.prefix).cloned().map(Target::Via)
    }

    /// Somebody who knows what is wanted asks for this key: it is no left-over, and its failures are forgotten.
    fn touch(&mut self, key: Key) {
        self.left_over.remove(&key);
        self.failed.remove(&key);
        self.dirty.insert(key);
    }

    fn touch_everything(&mut self) {
        let table = self.settings.table;
        let mut keys: Vec<Key> = self
            .routes
            .keys()
            .map(|prefix| Key {
                table,
                prefix: *prefix,
            })
            .collect();
        keys.extend(self.vips.iter().map(|address| local_key(*address)));
        keys.extend(self.unreachable.iter().map(|prefix| unreachable_key(*prefix)));
        keys.extend(self.installed.keys().filter(|key| !self.left_over.contains(key)));
        for key in keys {
            self.touch(key);
        }
    }

    /// A route of ours that this process has not written. Before the first convergence it may still be asked for.
    fn appeared(&mut self, key: Key) {
        if self.wanted(&key).is_some() || self.converged && self.settings.install_routes {
            self.left_over.remove(&key);
            self.dirty.insert(key);
        } else {
            self.left_over.insert(key);
        }
    }
}

/// In the kernel's own table, which is asked before all others.
fn unreachable_key(prefix: Prefix) -> Key {
    Key {
        table: LOCAL_TABLE,
        prefix,
    }
}

fn local_key(address: IpAddr) -> Key {
    Key {
        table: LOCAL_TABLE,
        prefix: Prefix::host(address),
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
