//! Which endpoint takes a request, and over which connection.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::http::answer::Refusal;
use crate::http::exchange::{Exchange, Phase, Target};
use crate::upstream::{ConnectError, Dial, Lease};
use crate::{balance, clock};

/// Endpoints that are tried for one request at most.
const MAX_ENDPOINTS: usize = 3;

/// Chooses an endpoint and a connection to it; goes on to another endpoint when a connection cannot be made.
pub(super) async fn connect(
    target: &mut Rc<Target>,
    exchange: &Rc<Exchange>,
    tried: &mut Vec<SocketAddr>,
    fresh: bool,
) -> Result<(SocketAddr, Lease), Refusal> {
    let worker = &exchange.client.worker;
    let limit = exchange.client.live.timeouts.connect;
    // Where one was asked already, that there is no other is not the whole truth.
    let mut last = if tried.is_empty() {
        Refusal::NoEndpoint
    } else {
        Refusal::UpstreamFailed
    };
    while tried.len() < MAX_ENDPOINTS {
        let Some(pool) = &target.pool else { break };
        let Some(endpoint) = balance::pick(pool, &mut worker.dice.borrow_mut(), tried) else {
            break;
        };
        let address = endpoint.endpoint.address;
        exchange.phase.set(Phase::Connect);
        exchange.at(target, address);
        exchange.chosen.set(Some(clock::now()));
        let dial = Dial {
            address,
            transport: pool.transport(),
            guest: &exchange.client.guest,
        };
        if !fresh && let Some(lease) = worker.upstreams.kept(&dial) {
            return Ok((address, lease));
        }
        match worker.upstreams.open(&dial, limit).await {
            Ok(lease) => return Ok((address, lease)),
            Err(error) => {
                tracing::debug!(endpoint = %address, %error, "an endpoint cannot be connected to");
                last = match error {
                    ConnectError::Exhausted(_) => return Err(Refusal::Overloaded),
                    ConnectError::Timeout => Refusal::UpstreamTimeout,
                    ConnectError::Failed(_) | ConnectError::Unrouted => Refusal::UpstreamFailed,
                };
                endpoint.state.connect_failed();
                if matches!(error, ConnectError::Unrouted) {
                    renew(target, exchange);
                }
                tried.push(address);
                exchange.retries.set(exchange.retries.get() + 1);
            }
        }
    }
    // The count is of further attempts; the last failure was followed by none.
    exchange.retries.set(exchange.retries.get().saturating_sub(1));
    Err(last)
}

/// Takes the pool as it is now: the one in hand holds endpoints that cannot be reached any more.
pub(super) fn renew(target: &mut Rc<Target>, exchange: &Exchange) {
    let now = exchange.client.worker.snapshot();
    let Some(pool) = target.pool.as_ref().and_then(|pool| now.pool(pool.id())) else {
        return;
    };
    *target = Rc::new(Target {
        ingress: target.ingress.clone(),
        pool: Some(Arc::clone(pool)),
    });
}
