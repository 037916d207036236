//! Which endpoint takes a request, and over which connection.

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use sekisho_config::model::Balance;
use tokio::time::timeout;

use super::retry::{self, Tries, Why};
use crate::balance::affinity::{self, Token};
use crate::balance::{self, Ask, Choice, Tried, hash};
use crate::clock;
use crate::http::answer::Refusal;
use crate::http::exchange::{Exchange, Phase, Target};
use crate::moment::Moment;
use crate::snapshot::{CompiledEndpoint, CompiledPool, Place};
use crate::upstream::{ConnectError, Dial, Lease};

/// What a request says of where it wants to go, read once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    hash: Option<u64>,
    /// What the client's cookie holds.
    token: Option<Token>,
}

impl Wish {
    pub(super) fn of(
        pool: &CompiledPool,
        parts: &crate::message::request::Parts,
        exchange: &Exchange,
    ) -> Self {
        let hash = (pool.balance() == Balance::ConsistentHash)
            .then(|| {
                hash::of_request(
                    &pool.policy().hash_by,
                    exchange.address,
                    &parts.headers,
                    &parts.uri,
                )
            })
            .flatten();
        let affinity = pool
            .policy()
            .affinity
            .as_ref()
            .filter(|_| pool.tokens().is_some());
        let token = affinity
            .and_then(|affinity| hash::cookie(&parts.headers, &affinity.name))
            .and_then(affinity::read);
        Self { hash, token }
    }

    /// The cookie that the client is to have from now on, where it has another one or none.
    pub(super) fn cookie(&self, exchange: &Exchange) -> Option<HeaderValue> {
        exchange.with_place(|pool, place| {
            let affinity = pool.policy().affinity.as_ref()?;
            let tokens = pool.tokens()?;
            let own = tokens.of(place)?;
            if let Some(token) = &self.token {
                let named = tokens
                    .place(token)
                    .and_then(|place| pool.endpoints().get(place as usize));
                // Its own endpoint may be back soon, and what it keeps of the client with it.
                let stays =
                    !affinity.change_on_failure && named.is_some_and(|endpoint| endpoint.eligibility.is_ok());
                if token == own || stays {
                    return None;
                }
            }
            affinity::set_cookie(affinity, own, exchange.client.tls.is_some())
        })
    }

    fn pick<'a>(&self, pool: &'a CompiledPool, tried: &Tried, exchange: &Exchange) -> Choice<'a> {
        let ask = Ask {
            now: Moment::of(clock::now()),
            hash: self.hash,
            sticky: self
                .token
                .and_then(|token| pool.tokens().and_then(|tokens| tokens.place(&token))),
            tried,
        };
        balance::pick(pool, &ask, &mut exchange.client.worker.dice.borrow_mut())
    }
}

/// Chooses an endpoint and a connection to it; goes on to another endpoint when a connection cannot be made.
pub(super) async fn connect(
    target: &mut Rc<Target>,
    exchange: &Rc<Exchange>,
    wish: Wish,
    tries: &mut Tries,
    fresh: bool,
) -> Result<Lease, Refusal> {
    let worker = &exchange.client.worker;
    loop {
        // Not the pool itself: its count is one that all workers write.
        let held = Rc::clone(target);
        let pool = held.pool.as_deref().ok_or(Refusal::NoEndpoint)?;
        exchange.release();
        let endpoint = choose(pool, exchange, wish, tries).await?;
        tries.begin(pool, exchange)?;
        let address = endpoint.endpoint.address;
        exchange.phase.set(Phase::Connect);
        exchange.at(target, address);
        exchange.chosen.set(Some(clock::now()));
        let due = [tries.due(), exchange.deadline].into_iter().flatten().min();
        exchange.answer_due.set(due);
        let dial = Dial {
            address,
            transport: pool.transport(),
            guest: exchange.client.guest(pool.transport()),
            live: &exchange.client.live,
        };
        if !fresh && let Some(lease) = worker.upstreams.kept(&dial) {
            return Ok(lease);
        }
        let limit = exchange.connect_wait();
        let limit = due.map_or(limit, |due| {
            limit.min(due.saturating_duration_since(clock::now()))
        });
        // In a box of its own, so that a request that finds a connection has no room for the making of one.
        let error = match Box::pin(worker.upstreams.open(&dial, limit)).await {
            Ok(lease) => return Ok(lease),
            Err(error) => error,
        };
        tracing::debug!(endpoint = %address, %error, "an endpoint cannot be connected to");
        if exchange.is_late() {
            return Err(Refusal::UpstreamTimeout);
        }
        if let Some(sign) = retry::sign(&error) {
            exchange.endpoint_failed(sign);
        }
        endpoint.state.connect_failed();
        tries.tried.add(endpoint);
        let (why, refusal) = match error {
            ConnectError::Exhausted(_) => return Err(Refusal::Overloaded),
            ConnectError::Timeout => (Why::Connect, Refusal::UpstreamTimeout),
            ConnectError::Failed(_) => (Why::Connect, Refusal::UpstreamFailed),
            ConnectError::Unrouted => (Why::Unrouted, Refusal::UpstreamFailed),
        };
        if why == Why::Connect && !pool.policy().retry.on.connect {
            return Err(refusal);
        }
        tries.last = Some((why, refusal));
        if why == Why::Unrouted {
            renew(target, exchange);
        }
    }
}

/// Chooses an endpoint, and waits for one where the pool lets requests wait.
async fn choose<'a>(
    pool: &'a CompiledPool,
    exchange: &Exchange,
    wish: Wish,
    tries: &Tries,
) -> Result<&'a CompiledEndpoint, Refusal> {
    match attempt(pool, exchange, wish, tries) {
        Some(result) => result,
        None => {
            let limits = &pool.policy().limits;
            let waiting = pool.state().wait(limits.waiting).ok_or(Refusal::PoolFull)?;
            let room = waiting.until(|| attempt(pool, exchange, wish, tries));
            Box::pin(timeout(limits.wait, room))
                .await
                .unwrap_or(Err(Refusal::PoolFull))
        }
    }
}

/// One attempt to choose; `None` when pool or endpoints are full.
fn attempt<'a>(
    pool: &'a CompiledPool,
    exchange: &Exchange,
    wish: Wish,
    tries: &Tries,
) -> Option<Result<&'a CompiledEndpoint, Refusal>> {
    // What was asked once is not asked again, unless there is no other and it may well be in order.
    let harmless = tries.last.is_some_and(|(why, _)| why.is_harmless());
    let chosen = match wish.pick(pool, &tries.tried, exchange) {
        Choice::None if harmless => wish.pick(pool, &Tried::default(), exchange),
        chosen => chosen,
    };
    match chosen {
        Choice::At(endpoint) => {
            let mut place = exchange.place.borrow_mut();
            if pool.counts() && place.is_none() {
                let most = pool.policy().limits.in_flight.map_or(u32::MAX, |most| most.get());
                *place = Some(Place::take(pool.state(), most)?);
            }
            Some(Ok(endpoint))
        }
        Choice::None => Some(Err(match tries.last {
            // Where one was asked already, that there is no other is not the whole truth.
            Some((_, refusal)) => refusal,
            None => Refusal::NoEndpoint,
        })),
        Choice::Full => None,
    }
}

/// Whether there is an endpoint that was not asked yet.
pub(super) fn is_another(pool: &CompiledPool, exchange: &Exchange, wish: Wish, tried: &Tried) -> bool {
    wish.pick(pool, tried, exchange).endpoint().is_some()
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
        filters: target.filters.clone(),
    });
}
