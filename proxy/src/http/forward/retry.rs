//! Which failures are followed by another try.

use std::time::Duration;

use sekisho_config::model::PoolPolicy;
use tokio::time::Instant;

use super::choose::{self, Wish};
use crate::balance::Tried;
use crate::clock;
use crate::health::Sign;
use crate::http::answer::Refusal;
use crate::http::exchange::{Exchange, Target};
use crate::metrics::Cell;
use crate::moment::Moment;
use crate::snapshot::CompiledPool;

/// What went before a further try.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Why {
    /// No connection could be made.
    Connect,
    /// A kept connection turned out to be closed, and nothing was sent.
    Stale,
    /// A kept connection broke off.
    Reset,
    /// The route was withdrawn.
    Unrouted,
    /// The try took too long.
    Timeout,
    /// The endpoint answered 502, 503 or 504.
    Status,
}

impl Why {
    fn cell(self) -> Cell {
        match self {
            Self::Connect => Cell::RetriedConnect,
            Self::Stale => Cell::RetriedStale,
            Self::Reset => Cell::RetriedReset,
            Self::Unrouted => Cell::RetriedUnrouted,
            Self::Timeout => Cell::RetriedTimeout,
            Self::Status => Cell::RetriedStatus,
        }
    }

    /// Whether the endpoint may well be in order, so that it is asked again where there is no other.
    pub(super) fn is_harmless(self) -> bool {
        matches!(self, Self::Stale | Self::Reset)
    }
}

/// The tries of one request.
pub(super) struct Tries {
    pub(super) tried: Tried,
    /// What the last one ended with, until the next one begins.
    pub(super) last: Option<(Why, Refusal)>,
    left: u32,
    per_try: Option<Duration>,
    /// When all tries have to be over.
    deadline: Option<Instant>,
}

impl Tries {
    pub(super) fn new(policy: Option<&PoolPolicy>, exchange: &Exchange) -> Self {
        Self {
            tried: Tried::default(),
            last: None,
            left: policy.map_or(0, |policy| policy.retry.tries),
            per_try: policy.and_then(|policy| policy.per_try_timeout),
            deadline: policy
                .and_then(|policy| policy.total_timeout)
                .map(|total| exchange.started + total),
        }
    }

    /// When the try that begins now has to be over; `None`: no limit of its own.
    pub(super) fn due(&self) -> Option<Instant> {
        let own = self.per_try.map(|limit| clock::now() + limit);
        match (own, self.deadline) {
            (Some(own), Some(deadline)) => Some(own.min(deadline)),
            (own, deadline) => own.or(deadline),
        }
    }

    /// Whether an answer that asks for it is followed by another try, at an endpoint that was not asked yet. The answer is
    /// the best there is until then, so that this is settled before it is dropped.
    pub(super) fn begin_after_answer(&mut self, target: &Target, exchange: &Exchange, wish: Wish) -> bool {
        let Some(pool) = target.pool.as_deref() else {
            return false;
        };
        let mut tried = self.tried.clone();
        exchange.tried(&mut tried);
        if !choose::is_another(pool, exchange, wish, &tried) {
            return false;
        }
        self.last = Some((Why::Status, Refusal::UpstreamFailed));
        self.begin(pool, exchange).is_ok()
    }

    /// Whether the try that `last` asks for may be made: there is one left, time for it, and budget. Counts it if so.
    pub(super) fn begin(&mut self, pool: &CompiledPool, exchange: &Exchange) -> Result<(), Refusal> {
        let Some((why, refusal)) = self.last.take() else {
            return Ok(());
        };
        let counters = &exchange.client.worker.counters;
        let now = clock::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            counters.inc(Cell::RetryLate);
            return Err(Refusal::UpstreamTimeout);
        }
        // A connection that was closed while nobody used it is no failure and adds no load.
        if why != Why::Stale {
            if self.left == 0 {
                return Err(refusal);
            }
            let retry = &pool.policy().retry;
            let state = pool.state();
            if why != Why::Unrouted
                && !state.budget.charge(
                    retry.budget_percent,
                    retry.budget_floor,
                    state.requests(),
                    Moment::of(now),
                )
            {
                counters.inc(Cell::RetryOverBudget);
                return Err(refusal);
            }
            self.left -= 1;
        }
        counters.inc(why.cell());
        exchange.retries.set(exchange.retries.get() + 1);
        Ok(())
    }
}

/// The sign that a failed connection gives of its endpoint; `None`: it is none of its endpoint's doing.
pub(super) fn sign(error: &crate::upstream::ConnectError) -> Option<Sign> {
    use crate::upstream::ConnectError::{Exhausted, Failed, Timeout, Unrouted};
    match error {
        Failed(error) => Some(Sign::of_connect(error)),
        Timeout => Some(Sign::Unreachable),
        Exhausted(_) | Unrouted => None,
    }
}
