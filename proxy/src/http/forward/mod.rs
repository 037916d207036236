//! A request to an endpoint and back: tries, and what to do when one fails. Which endpoint and which connection is in
//! [`choose`], how a request goes over a connection in [`send`], which answers pass in [`accept`].

mod accept;
mod ask;
mod choose;
mod gather;
mod mirror;
mod retry;
mod send;

use std::rc::Rc;

use http::{HeaderValue, Method, Version};
use sekisho_config::model::RetryOn;

use self::accept::accept;
pub(crate) use self::ask::{Verdict, ask};
use self::choose::{Wish, connect, renew};
use self::gather::{announce, gather};
pub(crate) use self::mirror::Mirror;
use self::retry::{Tries, Why};
use self::send::{Failure, first_piece, send};
use super::answer::{Refusal, refuse};
use super::body::{ClientBody, Reply, RequestBody};
use super::exchange::{Exchange, Phase, Target};
use crate::clock;
use crate::fields::names::{CONNECTION, CONTENT_LENGTH, HOST, SET_COOKIE, UPGRADE};
use crate::health::Sign;
use crate::http::frame::Body;
use crate::message::Response;
use crate::snapshot::CompiledPool;

/// A request that may pass, made fit for an endpoint.
pub(crate) struct Forward {
    pub(crate) parts: crate::message::request::Parts,
    pub(crate) target: Rc<Target>,
    /// Protocol that the client asks to change to.
    pub(crate) upgrade: Option<HeaderValue>,
    /// A copy of it, for another Service.
    pub(crate) mirror: Option<Box<Mirror>>,
}

/// Sends a request to an endpoint of its pool and gives back the answer, whoever wrote it.
pub(crate) async fn forward(forward: Forward, body: ClientBody, exchange: &Rc<Exchange>) -> Response<Reply> {
    match attempt(forward, body, exchange).await {
        Ok(response) => response,
        Err(refusal) => refuse(refusal, Rc::clone(exchange)),
    }
}

async fn attempt(
    forward: Forward,
    body: ClientBody,
    exchange: &Rc<Exchange>,
) -> Result<Response<Reply>, Refusal> {
    let Forward {
        mut parts,
        mut target,
        upgrade,
        mirror,
    } = forward;
    let live = &exchange.client.live;
    let mut body = RequestBody::new(body, exchange, live.timeouts.request_body);
    parts.version = Version::HTTP_11;
    // An upgrade with a body would leave open whose the octets after it are.
    let shared = target
        .pool
        .as_ref()
        .is_some_and(|pool| pool.transport().is_multiplexed());
    // A connection that others use, too, cannot change its protocol.
    let upgrade = upgrade.filter(|_| body.is_empty() && !shared);
    if let Some(protocol) = &upgrade {
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol.clone());
    }
    // Without a length some servers wait for one (411).
    if body.is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method) {
        parts
            .headers
            .or_insert(CONTENT_LENGTH, || HeaderValue::from_static("0"));
    }
    // HTTP/1.1 has a Host in any case, an empty one where the client named none (RFC 9112 section 3.2).
    parts.headers.or_insert(HOST, || HeaderValue::from_static(""));
    // Extensions are the client connection's own; nothing of them is the endpoint's business.
    parts.extensions.clear();
    let most = exchange.max_body_bytes();
    if most != 0 && body.size_hint().lower() > most {
        return Err(Refusal::TooLarge);
    }
    if let Some(mirror) = mirror {
        body.mirror(mirror);
    }
    let mut whole = None;
    if let Some(most) = exchange.buffer_requests()
        && !body.is_empty()
    {
        let gathered = gather(&mut body, most, exchange).await?;
        announce(&mut parts.headers, &gathered);
        whole = Some(gathered);
    }
    let repeatable =
        (body.is_empty() || whole.is_some()) && is_idempotent(&parts.method) && upgrade.is_none();
    let pool = target.pool.as_deref();
    let wish = pool.map_or_else(Wish::default, |pool| Wish::of(pool, &parts, exchange));
    let on = pool.map_or(RetryOn::NEVER, |pool| pool.policy().retry.on);
    let mut tries = Tries::new(pool.map(CompiledPool::policy), exchange);
    let mut fresh = false;
    loop {
        let mut lease = connect(&mut target, exchange, wish, &mut tries, fresh).await?;
        exchange.connected.set(Some(clock::now()));
        exchange.phase.set(Phase::Wait);
        let reused = lease.reused;
        if let Some(whole) = &whole {
            // Each try has all of it.
            let again = ClientBody::Whole(Some(whole.clone()).filter(|whole| !whole.is_empty()));
            body = RequestBody::new(again, exchange, live.timeouts.request_body);
        }
        let sent = send(&mut lease, &parts, &mut body, exchange, !repeatable).await;
        let unrouted = lease.wire.is_unrouted();
        let failure = match sent {
            Ok(mut response) => {
                let status = response.status().as_u16();
                if repeatable && on.status(status) && tries.begin_after_answer(&target, exchange, wish) {
                    exchange.endpoint_answered(status);
                    exchange.tried(&mut tries.tried);
                    continue;
                }
                lease.wire.answering(true);
                exchange.first_byte.set(Some(clock::now()));
                exchange.answer_last.set(Some(clock::now()));
                exchange.phase.set(Phase::Response);
                // Over HTTP/1.1 the writer looks for it itself.
                let first = match exchange.version {
                    Version::HTTP_2 | Version::HTTP_3 => first_piece(response.body_mut()).await,
                    _ => None,
                };
                let mut response = accept(response, first, lease, exchange, upgrade)?;
                if let Some(cookie) = wish.cookie(exchange) {
                    response.headers_mut().append(SET_COOKIE, cookie);
                }
                return Ok(response);
            }
            Err(failure) => failure,
        };
        tries.last = Some(match failure {
            // The request's own fault: its body broke off or did not come.
            Failure::Request(refusal) => return Err(refusal),
            // Never sent: as good as new.
            Failure::Unsent if unrouted => (Why::Unrouted, Refusal::UpstreamFailed),
            // Only on a kept connection, or a broken endpoint would be asked for ever.
            Failure::Unsent if reused => (Why::Stale, Refusal::UpstreamFailed),
            Failure::Refused if on.connect => (Why::Connect, Refusal::UpstreamFailed),
            Failure::Broken(_) if unrouted && repeatable => (Why::Unrouted, Refusal::UpstreamFailed),
            // A kept connection may have been closed in order while the request was on its way, and that once.
            Failure::Broken(error) if reused && repeatable && on.reset && !fresh => {
                tracing::debug!(%error, "an endpoint closed a kept connection before its answer");
                fresh = true;
                (Why::Reset, Refusal::UpstreamFailed)
            }
            Failure::Timeout if exchange.is_late() => return Err(Refusal::UpstreamTimeout),
            Failure::Timeout => {
                exchange.endpoint_failed(Sign::Late);
                if !(repeatable && on.timeout) {
                    return Err(Refusal::UpstreamTimeout);
                }
                (Why::Timeout, Refusal::UpstreamTimeout)
            }
            Failure::Unsent | Failure::Refused => {
                exchange.endpoint_failed(Sign::Broken);
                return Err(Refusal::UpstreamFailed);
            }
            Failure::Broken(error) | Failure::Nonsense(error) => {
                tracing::debug!(%error, reused, "an endpoint broke off before its answer, or what it sent is none");
                if !unrouted {
                    exchange.endpoint_failed(Sign::Broken);
                }
                return Err(Refusal::UpstreamFailed);
            }
        });
        if !matches!(tries.last, Some((Why::Stale, _))) {
            exchange.tried(&mut tries.tried);
        }
        if unrouted {
            tracing::debug!("the route of an endpoint was withdrawn before its answer");
            renew(&mut target, exchange);
        }
    }
}

/// Methods that may be sent twice (RFC 9110 section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
}
