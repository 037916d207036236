//! Asks endpoints for their health, on a thread of its own: never in the way of a request.
//!
//! An endpoint is probed once for each check, however many pools have it, as long as a pool would use it: ready, and with
//! a route to it. Results are for the control task; only what they say of a node counts at once.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{Health, HealthCheck, Ineligible, PoolId};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::probe::{Bad, probe};
use super::tally::Tally;
use super::{NodeState, Standing};
use crate::balance::Dice;
use crate::metrics::{Cell, Counters};
use crate::moment::Moment;
use crate::snapshot::{CompiledPool, Snapshot};
use crate::start::Event;
use crate::transport::Transport;
use crate::worker::Shared;

/// Probes at a time.
const AT_ONCE: usize = 256;
/// The first probe of an endpoint comes within this time.
const FIRST: Duration = Duration::from_secs(1);
/// Snapshots that follow each other faster than this are looked at together.
const LOOK: Duration = Duration::from_millis(20);

type Key = (SocketAddr, Arc<HealthCheck>);

/// One endpoint with one check.
struct Checked {
    pools: u32,
    transport: Arc<Transport>,
    node: Option<(Arc<NodeState>, Duration)>,
    tally: Tally,
    due: Instant,
    /// Tells a result apart that was asked for before the endpoint went and came again.
    number: u64,
    running: bool,
}

/// The whole life of the thread.
pub(crate) async fn run(
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    changed: Arc<Notify>,
    events: mpsc::Sender<Event>,
    seed: u64,
) {
    let mut prober = Prober {
        counters,
        dice: Dice::new(seed),
        pools: HashMap::new(),
        checked: HashMap::new(),
        timers: BTreeSet::new(),
        number: 0,
    };
    let mut probes = JoinSet::new();
    let stop = shared.stop.clone();
    loop {
        let next = prober.timers.first().map(|(due, ..)| *due);
        let full = probes.len() >= AT_ONCE;
        let news = tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {
                tokio::time::sleep(LOOK).await;
                prober.follow(&shared.snapshot.load_full())
            }
            Some(done) = probes.join_next(), if !probes.is_empty() => match done {
                Ok((key, number, result)) => prober.take(&key, number, result).into_iter().collect(),
                Err(error) => {
                    tracing::error!(%error, "a health probe has ended by itself");
                    Vec::new()
                }
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && !full => {
                if let Some((key, number, transport)) = prober.begin(Instant::now()) {
                    probes.spawn_local(async move {
                        let result = probe(key.0, &key.1, &transport).await;
                        (key, number, result)
                    });
                }
                Vec::new()
            }
        };
        for event in news {
            tokio::select! {
                () = stop.cancelled() => return,
                sent = events.send(event) => if sent.is_err() { return },
            }
        }
    }
}

struct Prober {
    counters: Arc<Counters>,
    dice: Dice,
    /// What is probed for a pool, as it was when it was looked at last.
    pools: HashMap<PoolId, (Arc<CompiledPool>, Vec<Key>)>,
    checked: HashMap<Key, Checked>,
    timers: BTreeSet<(Instant, u64, Key)>,
    number: u64,
}

/// What a pool wants probed: endpoints that it would use if they are well.
fn wanted(pool: &CompiledPool) -> Vec<Key> {
    let Some(check) = &pool.policy().health_check else {
        return Vec::new();
    };
    pool.endpoints()
        .iter()
        .filter(|endpoint| {
            matches!(
                endpoint.eligibility,
                Ok(()) | Err(Ineligible::Unhealthy | Ineligible::Unchecked)
            )
        })
        .map(|endpoint| (endpoint.endpoint.address, Arc::clone(check)))
        .collect()
}

impl Prober {
    /// Follows a snapshot. What is said of endpoints that are probed no more.
    fn follow(&mut self, snapshot: &Snapshot) -> Vec<Event> {
        let mut gone: Vec<Key> = Vec::new();
        let left: Vec<PoolId> = self
            .pools
            .keys()
            .filter(|id| snapshot.pool(id).is_none())
            .cloned()
            .collect();
        for id in left {
            gone.extend(self.pools.remove(&id).map(|(_, keys)| keys).unwrap_or_default());
        }
        for pool in snapshot.pools() {
            match self.pools.get(pool.id()) {
                Some((known, _)) if Arc::ptr_eq(known, pool) => continue,
                None if pool.policy().health_check.is_none() => continue,
                _ => {}
            }
            let keys = wanted(pool);
            for key in &keys {
                self.add(key, pool);
            }
            let before = self.pools.insert(pool.id().clone(), (Arc::clone(pool), keys));
            gone.extend(before.map(|(_, keys)| keys).unwrap_or_default());
        }
        gone.into_iter().filter_map(|key| self.remove(&key)).collect()
    }

    fn add(&mut self, key: &Key, pool: &Arc<CompiledPool>) {
        let node = pool
            .endpoints()
            .iter()
            .find(|endpoint| endpoint.endpoint.address == key.0)
            .and_then(|endpoint| endpoint.node.clone())
            .filter(|_| pool.policy().outlier.consecutive > 0)
            .map(|node| (node, pool.policy().outlier.base));
        if let Some(checked) = self.checked.get_mut(key) {
            checked.pools += 1;
            checked.node = node;
            checked.transport = Arc::clone(pool.transport());
            return;
        }
        self.number += 1;
        let within = key.1.interval.min(FIRST);
        let due = Instant::now() + self.part_of(within);
        self.timers.insert((due, self.number, key.clone()));
        self.counters.inc(Cell::HealthChecked);
        let checked = Checked {
            pools: 1,
            transport: Arc::clone(pool.transport()),
            node,
            tally: Tally::default(),
            due,
            number: self.number,
            running: false,
        };
        self.checked.insert(key.clone(), checked);
    }

    /// A random part of a time.
    fn part_of(&mut self, time: Duration) -> Duration {
        let millis = usize::try_from(time.as_millis()).unwrap_or(usize::MAX);
        Duration::from_millis(self.dice.below(millis) as u64)
    }

    fn remove(&mut self, key: &Key) -> Option<Event> {
        let checked = self.checked.get_mut(key)?;
        checked.pools = checked.pools.saturating_sub(1);
        if checked.pools > 0 {
            return None;
        }
        let checked = self.checked.remove(key)?;
        self.timers.remove(&(checked.due, checked.number, key.clone()));
        self.counters.dec(Cell::HealthChecked);
        if checked.tally.well() == Some(false) {
            self.counters.dec(Cell::HealthUnhealthy);
        }
        checked.tally.well().map(|_| Event::Health {
            address: key.0,
            check: Arc::clone(&key.1),
            health: None,
        })
    }

    /// The probe whose turn it is.
    fn begin(&mut self, now: Instant) -> Option<(Key, u64, Arc<Transport>)> {
        let (due, _, _) = self.timers.first()?;
        if *due > now {
            return None;
        }
        let (_, number, key) = self.timers.pop_first()?;
        // A tenth more or less, so that what began together does not stay together.
        let interval = key.1.interval;
        let jitter = self.part_of(interval / 5);
        let checked = self.checked.get_mut(&key)?;
        checked.due = now + interval - interval / 10 + jitter;
        self.timers.insert((checked.due, number, key.clone()));
        if checked.running {
            return None;
        }
        checked.running = true;
        Some((key, number, Arc::clone(&checked.transport)))
    }

    /// Takes a result. What is said of it, if it changes anything.
    fn take(&mut self, key: &Key, number: u64, result: Result<(), Bad>) -> Option<Event> {
        self.counters.inc(match &result {
            Ok(()) => Cell::HealthProbeGood,
            Err(Bad::Late { .. }) => Cell::HealthProbeLate,
            Err(_) => Cell::HealthProbeBad,
        });
        let checked = self
            .checked
            .get_mut(key)
            .filter(|checked| checked.number == number)?;
        checked.running = false;
        if let Some((node, base)) = &checked.node {
            of_node(node, *base, key.0, &result);
        }
        let before = checked.tally.well();
        if !checked.tally.take(result.is_ok(), &key.1) {
            return None;
        }
        let detail: Arc<str> = match &result {
            Ok(()) => "its health check passes".into(),
            Err(bad) => bad.to_string().into(),
        };
        if result.is_err() {
            self.counters.inc(Cell::HealthUnhealthy);
            tracing::info!(endpoint = %key.0, why = %detail, "the health check of an endpoint fails");
        } else if before == Some(false) {
            self.counters.dec(Cell::HealthUnhealthy);
            tracing::info!(endpoint = %key.0, "the health check of an endpoint passes again");
        }
        Some(Event::Health {
            address: key.0,
            check: Arc::clone(&key.1),
            health: Some(Health {
                well: result.is_ok(),
                detail,
            }),
        })
    }
}

/// What a probe says of the node behind its endpoint: whoever answers in any way is there.
fn of_node(node: &NodeState, base: Duration, endpoint: SocketAddr, result: &Result<(), Bad>) {
    let now = Moment::now();
    match result {
        Err(Bad::Unreachable(_) | Bad::Late { connected: false }) => {
            if let Some((lasts, times)) = node.unreachable(endpoint, base, now) {
                tracing::info!(
                    node = %node.behind(), seconds = lasts.as_secs(), times,
                    "a node is ejected: several endpoints on it cannot be reached and none answers"
                );
            }
        }
        _ => {
            let out = node.standing(now) != Standing::In;
            if node.answered(now) && out {
                tracing::info!(node = %node.behind(), "a node is back: an endpoint on it answers");
            }
        }
    }
}
