//! What traffic shows of endpoints: failures in a row eject one, a success brings it back. Decided by the worker that sees
//! it, in atomics that all workers read, so that the next request of any of them goes elsewhere.

use std::time::Duration;

use super::Standing;
use crate::moment::Moment;
use crate::snapshot::{CompiledEndpoint, CompiledPool};

/// What went wrong at an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// It refused the connection: the pod is ill, its node is there.
    Refused,
    /// No way there, or nothing answered the SYN.
    Unreachable,
    /// It broke off before or in its answer, or answered nonsense.
    Broken,
    /// No answer in time.
    Late,
    /// 502, 503 or 504.
    Status,
}

impl Sign {
    fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "it refuses connections",
            Self::Unreachable => "it cannot be reached",
            Self::Broken => "it breaks off its answers",
            Self::Late => "it does not answer in time",
            Self::Status => "it answers 502, 503 or 504",
        }
    }

    /// The sign that a connection gives by failing with this error.
    pub(crate) fn of_connect(error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
        };
        match error.kind() {
            ConnectionRefused | ConnectionReset => Self::Refused,
            HostUnreachable | NetworkUnreachable | TimedOut => Self::Unreachable,
            // TLS that does not come about, and the like.
            _ => Self::Broken,
        }
    }
}

/// How an endpoint stands, with its node: the worse of the two.
pub(crate) fn standing(endpoint: &CompiledEndpoint, now: Moment) -> Standing {
    match endpoint.state.bench.standing(now) {
        Standing::In => match &endpoint.node {
            Some(node) => node.bench.standing(now),
            None => Standing::In,
        },
        Standing::Trial => match &endpoint.node {
            Some(node) => match node.bench.standing(now) {
                Standing::Out(until) => Standing::Out(until),
                _ => Standing::Trial,
            },
            None => Standing::Trial,
        },
        out @ Standing::Out(_) => out,
    }
}

/// Whether so few of a pool are in that ejections are not looked at. Looked up ten times a second at most.
pub(crate) fn panics(pool: &CompiledPool, now: Moment) -> bool {
    pool.state().panics(now, || {
        let (mut all, mut well) = (0usize, 0usize);
        for endpoint in pool.eligible_endpoints() {
            all += 1;
            well += usize::from(standing(endpoint, now) == Standing::In);
        }
        well * 100 < all * usize::from(pool.policy().panic_percent)
    })
}

/// A failure at an endpoint: counts it and ejects endpoint or node when it is one too many.
pub(crate) fn failed(pool: &CompiledPool, endpoint: &CompiledEndpoint, sign: Sign, now: Moment) {
    let outlier = &pool.policy().outlier;
    if outlier.consecutive == 0 {
        return;
    }
    if let Some(node) = &endpoint.node {
        match sign {
            Sign::Unreachable => {
                if let Some((lasts, times)) = node.unreachable(endpoint.endpoint.address, outlier.base, now) {
                    pool.state().ejected();
                    tracing::info!(
                        node = %node.behind(), seconds = lasts.as_secs(), times,
                        "a node is ejected: several endpoints on it cannot be reached and none answers"
                    );
                }
            }
            // Whoever refuses is there.
            Sign::Refused => node_answered(endpoint, now),
            Sign::Broken | Sign::Late | Sign::Status => {}
        }
    }
    let state = &endpoint.state;
    let count = state.failed_again();
    if (count >= outlier.consecutive || !state.bench.is_in())
        && may_go(pool, endpoint)
        && let Some((lasts, times)) = state.bench.eject(outlier.base, now)
    {
        pool.state().ejected();
        log_ejection(pool, endpoint, sign, lasts, times);
    }
}

/// Whether one more of the pool may be out for itself: the share that is allowed, and never the last.
fn may_go(pool: &CompiledPool, endpoint: &CompiledEndpoint) -> bool {
    let (mut all, mut out) = (0usize, 1usize);
    for other in pool.eligible_endpoints() {
        all += 1;
        let own = other.endpoint.address == endpoint.endpoint.address;
        out += usize::from(!own && !other.state.bench.is_in());
    }
    out < all && out * 100 <= all * usize::from(pool.policy().outlier.max_percent)
}

/// An endpoint has answered, and well.
pub(crate) fn succeeded(pool: &CompiledPool, endpoint: &CompiledEndpoint, now: Moment) {
    node_answered(endpoint, now);
    let state = &endpoint.state;
    state.well();
    if !state.bench.is_in() && state.bench.restore(false, now) {
        state.begin_slowly(now);
        log_return(pool, endpoint, "a request was answered");
    }
}

fn node_answered(endpoint: &CompiledEndpoint, now: Moment) {
    if let Some(node) = &endpoint.node
        && node.answered(now)
    {
        tracing::info!(node = %node.behind(), "a node is back: an endpoint on it answers");
    }
}

fn log_ejection(pool: &CompiledPool, endpoint: &CompiledEndpoint, sign: Sign, lasts: Duration, times: u32) {
    tracing::info!(
        pool = %pool.id(), endpoint = %endpoint.endpoint.address,
        pod = endpoint.endpoint.pod.as_ref().map(tracing::field::display),
        seconds = lasts.as_secs(), times, why = sign.as_str(),
        "an endpoint is ejected"
    );
}

fn log_return(pool: &CompiledPool, endpoint: &CompiledEndpoint, why: &'static str) {
    tracing::info!(
        pool = %pool.id(), endpoint = %endpoint.endpoint.address,
        pod = endpoint.endpoint.pod.as_ref().map(tracing::field::display), why,
        "an endpoint is back"
    );
}
