use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::{
    Balance, Condition, Endpoint, Health, HealthCheck, Ineligible, Pool, PoolId, PoolPolicy, Reach, Routing,
    Secret, Unroutable,
};

use super::state::{EndpointState, PoolState};
use crate::balance::Table;
use crate::balance::affinity::Tokens;
use crate::health::{Behind, NodeState};
use crate::transport::Transport;

/// Turns of a pool with weights: at most this many for each endpoint on average.
const TURNS_EACH: usize = 16;

/// A pool as the request path sees it: every endpoint with its verdict, and the eligible ones picked out.
#[derive(Clone, Debug)]
pub struct CompiledPool {
    wished: Arc<Pool>,
    endpoints: Vec<CompiledEndpoint>,
    /// Indexes into `endpoints`, ascending.
    eligible: Vec<u32>,
    transport: Arc<Transport>,
    /// Indexes into `endpoints`, the eligible ones as often as their weights say; empty where all weigh the same.
    turns: Vec<u32>,
    /// For consistent hashing; numbers are places in `eligible`.
    table: Option<Table>,
    /// What stands in cookies, where clients stay with a pod by one.
    tokens: Option<Tokens>,
    state: Arc<PoolState>,
}

/// One endpoint of a pool.
#[derive(Clone, Debug)]
pub struct CompiledEndpoint {
    /// What the cluster says.
    pub endpoint: Endpoint,
    /// Whether it may get requests, and why not.
    pub eligibility: Result<(), Ineligible>,
    /// What changes per request; the same object for the life of the endpoint.
    pub state: Arc<EndpointState>,
    /// The node behind it, or the next hop, where one is known.
    pub node: Option<Arc<NodeState>>,
}

impl CompiledEndpoint {
    /// Tells nodes apart; 0: not known.
    pub(crate) fn node_id(&self) -> usize {
        self.node.as_ref().map_or(0, |node| Arc::as_ptr(node) as usize)
    }
}

impl CompiledPool {
    /// Which pool.
    pub fn id(&self) -> &PoolId {
        &self.wished.id
    }

    /// How requests are spread.
    pub fn balance(&self) -> Balance {
        self.wished.balance
    }

    /// Every endpoint, eligible or not, in the order of the wished pool (by address).
    pub fn endpoints(&self) -> &[CompiledEndpoint] {
        &self.endpoints
    }

    /// Number of eligible endpoints; costs nothing.
    pub fn eligible(&self) -> usize {
        self.eligible.len()
    }

    /// The `nth` eligible endpoint.
    pub fn eligible_at(&self, nth: usize) -> Option<&CompiledEndpoint> {
        self.eligible
            .get(nth)
            .and_then(|index| self.endpoints.get(*index as usize))
    }

    /// How its endpoints are spoken to; the same object as long as the wish is the same.
    pub(crate) fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    /// Every eligible endpoint once.
    pub fn eligible_endpoints(&self) -> impl Iterator<Item = &CompiledEndpoint> {
        self.eligible
            .iter()
            .filter_map(|index| self.endpoints.get(*index as usize))
    }

    /// Number of turns until all have had theirs; 0 when there is no eligible endpoint.
    pub(crate) fn turns(&self) -> usize {
        if self.turns.is_empty() {
            self.eligible.len()
        } else {
            self.turns.len()
        }
    }

    /// Whose turn the `nth` is.
    pub(crate) fn turn_of(&self, nth: usize) -> Option<&CompiledEndpoint> {
        let turns = if self.turns.is_empty() {
            &self.eligible
        } else {
            &self.turns
        };
        turns
            .get(nth)
            .and_then(|index| self.endpoints.get(*index as usize))
    }

    /// For consistent hashing.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// What stands in cookies.
    pub(crate) fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// What else is wished of the pool.
    pub fn policy(&self) -> &PoolPolicy {
        &self.wished.policy
    }

    /// Whether requests in flight are counted for the pool as a whole.
    pub(crate) fn counts(&self) -> bool {
        self.table.is_some() || self.wished.policy.limits.in_flight.is_some()
    }

    /// Counters of the pool; the same object for the life of the pool.
    pub fn state(&self) -> &Arc<PoolState> {
        &self.state
    }

    /// The wished pool that this was compiled from.
    pub fn wished(&self) -> &Arc<Pool> {
        &self.wished
    }
}

/// What one pool is compiled with besides its wish.
pub(super) struct Around<'a> {
    pub(super) reach: &'a OrdMap<IpAddr, Reach>,
    pub(super) health: &'a OrdMap<(SocketAddr, Arc<HealthCheck>), Health>,
    pub(super) routing: Routing,
    pub(super) sticky_key: Option<&'a Secret>,
    /// The live state of an endpoint that another pool has, too.
    pub(super) elsewhere: &'a dyn Fn(SocketAddr) -> Option<Arc<EndpointState>>,
    pub(super) node: &'a mut dyn FnMut(Behind) -> Arc<NodeState>,
}

/// Compiles one pool; live state comes from `previous` by address.
pub(super) fn compile(
    previous: Option<&CompiledPool>,
    wished: &Arc<Pool>,
    around: &mut Around<'_>,
) -> CompiledPool {
    let before: HashMap<SocketAddr, &CompiledEndpoint> = previous
        .map(|pool| pool.endpoints.iter().map(|e| (e.endpoint.address, e)).collect())
        .unwrap_or_default();
    let verdicts = verdicts(wished, around);
    // When everything is new, nothing is spared by a slow start.
    let slowly = !wished.policy.slow_start.is_zero() && previous.is_some_and(|pool| pool.eligible() > 0);
    let endpoints: Vec<CompiledEndpoint> = wished
        .endpoints
        .iter()
        .zip(verdicts)
        .map(|(endpoint, eligibility)| {
            let known = before.get(&endpoint.address);
            let state = known
                .map(|known| Arc::clone(&known.state))
                .or_else(|| (around.elsewhere)(endpoint.address))
                .unwrap_or_default();
            if slowly && eligibility.is_ok() && known.is_none_or(|known| known.eligibility.is_err()) {
                state.begin_slowly_when_seen();
            }
            CompiledEndpoint {
                eligibility,
                state,
                node: behind(endpoint, around.reach).map(|behind| (around.node)(behind)),
                endpoint: endpoint.clone(),
            }
        })
        .collect();
    let eligible: Vec<u32> = endpoints
        .iter()
        .zip(0u32..)
        .filter(|(endpoint, _)| endpoint.eligibility.is_ok())
        .map(|(_, index)| index)
        .collect();
    let chosen = || eligible.iter().filter_map(|index| endpoints.get(*index as usize));
    let table = (wished.balance == Balance::ConsistentHash).then(|| {
        let names: Vec<(String, u8)> = chosen()
            .map(|e| (e.endpoint.address.to_string(), e.endpoint.weight.get()))
            .collect();
        Table::build(names.iter().map(|(name, weight)| (name.as_bytes(), *weight)))
    });
    CompiledPool {
        wished: Arc::clone(wished),
        turns: turns(&eligible, &endpoints),
        table: table.flatten(),
        tokens: around
            .sticky_key
            .filter(|_| wished.policy.affinity.is_some())
            .map(|key| Tokens::compile(key, &wished.id, &wished.endpoints)),
        endpoints,
        eligible,
        transport: previous
            .filter(|pool| pool.wished.upstream == wished.upstream)
            .map_or_else(
                || Transport::compile(&wished.upstream),
                |pool| Arc::clone(&pool.transport),
            ),
        state: previous.map_or_else(|| Arc::new(PoolState::default()), |pool| Arc::clone(&pool.state)),
    }
}

/// What stands between the box and an endpoint; several next hops are no one thing.
fn behind(endpoint: &Endpoint, reach: &OrdMap<IpAddr, Reach>) -> Option<Behind> {
    if let Some(node) = &endpoint.node {
        return Some(Behind::Node(node.clone()));
    }
    match reach.get(&endpoint.ip()) {
        Some(Reach::Routed(via)) => match *via.next_hops.as_slice() {
            [hop] if hop != endpoint.ip() => Some(Behind::NextHop(hop)),
            _ => None,
        },
        _ => None,
    }
}

/// Which endpoints may get requests, and why not.
fn verdicts(wished: &Pool, around: &Around<'_>) -> Vec<Result<(), Ineligible>> {
    let routed = |endpoint: &Endpoint| match around.routing {
        Routing::Off => Ok(()),
        Routing::Required | Routing::Preferred => match around.reach.get(&endpoint.ip()) {
            Some(Reach::Routed(_)) => Ok(()),
            Some(Reach::Unroutable { why }) => Err(Ineligible::Unrouted(*why)),
            None => Err(Ineligible::Unrouted(Unroutable::NotAsked)),
        },
    };
    // A pod that is terminating but still serves is better than a 503, and worse than any ready one that can be
    // reached: it counts only when no ready endpoint is usable.
    let mut verdicts: Vec<Result<(), Ineligible>> = wished
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.condition {
            Condition::Ready => routed(endpoint),
            Condition::ServingTerminating => Err(Ineligible::Terminating),
            Condition::NotReady => Err(Ineligible::NotReady),
        })
        .collect();
    if verdicts.iter().all(Result::is_err) {
        for (endpoint, verdict) in wished.endpoints.iter().zip(&mut verdicts) {
            if endpoint.condition == Condition::ServingTerminating {
                *verdict = routed(endpoint);
            }
        }
    }
    check_health(wished, around.health, &mut verdicts);
    verdicts
}

/// Takes out what health checks speak against, unless so little would be left that they are not believed.
fn check_health(
    wished: &Pool,
    health: &OrdMap<(SocketAddr, Arc<HealthCheck>), Health>,
    verdicts: &mut [Result<(), Ineligible>],
) {
    let Some(check) = &wished.policy.health_check else {
        return;
    };
    let of = |endpoint: &Endpoint| {
        let key = (endpoint.address, Arc::clone(check));
        health.get(&key).map(|health| health.well)
    };
    let mut unhealthy = Vec::new();
    let mut well = 0usize;
    for ((endpoint, verdict), index) in wished.endpoints.iter().zip(&mut *verdicts).zip(0usize..) {
        if verdict.is_err() {
            continue;
        }
        match of(endpoint) {
            None if check.strict => *verdict = Err(Ineligible::Unchecked),
            Some(false) => unhealthy.push(index),
            None | Some(true) => well += 1,
        }
    }
    if well * 100 < (well + unhealthy.len()) * usize::from(wished.policy.panic_percent) {
        return;
    }
    for index in unhealthy {
        if let Some(verdict) = verdicts.get_mut(index) {
            *verdict = Err(Ineligible::Unhealthy);
        }
    }
}

/// The eligible endpoints as often as their weights say, spread out; empty where all weigh the same.
fn turns(eligible: &[u32], endpoints: &[CompiledEndpoint]) -> Vec<u32> {
    let weight = |index: &u32| {
        endpoints
            .get(*index as usize)
            .map_or(1, |e| usize::from(e.endpoint.weight.get()))
    };
    let weights: Vec<usize> = eligible.iter().map(weight).collect();
    let Some((first, rest)) = weights.split_first() else {
        return Vec::new();
    };
    if rest.iter().all(|weight| weight == first) {
        return Vec::new();
    }
    let divisor = rest.iter().fold(*first, |a, b| gcd(a, *b));
    let total: usize = weights.iter().sum::<usize>() / divisor;
    let most = weights.len().saturating_mul(TURNS_EACH).max(512);
    // Very uneven weights of many endpoints are rounded: everybody has at least one turn.
    let share = |weight: usize| {
        let share = weight / divisor;
        if total > most {
            (share * most / total).max(1)
        } else {
            share
        }
    };
    // Each endpoint's turns lie evenly on a line from 0 to 1; merged, that is the order.
    let mut order: Vec<(u64, u32)> = Vec::new();
    for (index, weight) in eligible.iter().zip(&weights) {
        let share = share(*weight) as u64;
        order.extend((0..share).map(|n| (((2 * n + 1) << 32) / (2 * share), *index)));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
