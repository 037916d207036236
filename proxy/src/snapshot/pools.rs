use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::{
    Balance, Condition, Endpoint, Ineligible, Pool, PoolId, Reach, Routing, Unroutable,
};

use crate::transport::Transport;

use super::state::{EndpointState, PoolState};

/// A pool as the request path sees it: every endpoint with its verdict, and the eligible ones picked out.
#[derive(Clone, Debug)]
pub struct CompiledPool {
    wished: Arc<Pool>,
    endpoints: Vec<CompiledEndpoint>,
    /// Indexes into `endpoints`, ascending.
    eligible: Vec<u32>,
    transport: Arc<Transport>,
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

    /// Counters of the pool; the same object for the life of the pool.
    pub fn state(&self) -> &Arc<PoolState> {
        &self.state
    }

    /// The wished pool that this was compiled from.
    pub fn wished(&self) -> &Arc<Pool> {
        &self.wished
    }
}

/// Compiles one pool; live state comes from `previous` by address.
pub(super) fn compile(
    previous: Option<&CompiledPool>,
    wished: &Arc<Pool>,
    reach: &OrdMap<std::net::IpAddr, Reach>,
    routing: Routing,
) -> CompiledPool {
    let states: HashMap<SocketAddr, &Arc<EndpointState>> = previous
        .map(|pool| {
            pool.endpoints
                .iter()
                .map(|e| (e.endpoint.address, &e.state))
                .collect()
        })
        .unwrap_or_default();
    let routed = |endpoint: &Endpoint| match routing {
        Routing::Off => Ok(()),
        Routing::Required | Routing::Preferred => match reach.get(&endpoint.ip()) {
            Some(Reach::Routed(_)) => Ok(()),
            Some(Reach::Unroutable { why }) => Err(Ineligible::Unrouted(*why)),
            None => Err(Ineligible::Unrouted(Unroutable::NotAsked)),
        },
    };
    // A pod that is terminating but still serves is better than a 503, and worse than any ready one that can be
    // reached: it counts only when no ready endpoint is usable.
    let verdicts: Vec<Result<(), Ineligible>> = wished
        .endpoints
        .iter()
        .map(|endpoint| match endpoint.condition {
            Condition::Ready => routed(endpoint),
            Condition::ServingTerminating => Err(Ineligible::Terminating),
            Condition::NotReady => Err(Ineligible::NotReady),
        })
        .collect();
    let any_usable = verdicts.iter().any(Result::is_ok);
    let endpoints: Vec<CompiledEndpoint> = wished
        .endpoints
        .iter()
        .zip(verdicts)
        .map(|(endpoint, verdict)| CompiledEndpoint {
            eligibility: match endpoint.condition {
                Condition::ServingTerminating if !any_usable => routed(endpoint),
                _ => verdict,
            },
            state: states
                .get(&endpoint.address)
                .map_or_else(|| Arc::new(EndpointState::default()), |state| Arc::clone(state)),
            endpoint: endpoint.clone(),
        })
        .collect();
    let eligible = endpoints
        .iter()
        .zip(0u32..)
        .filter(|(endpoint, _)| endpoint.eligibility.is_ok())
        .map(|(_, index)| index)
        .collect();
    CompiledPool {
        wished: Arc::clone(wished),
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
