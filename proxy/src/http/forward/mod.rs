//! A request to an endpoint and back: tries, and what to do when one fails. Which endpoint and which connection is in
//! [`choose`], how a request goes over a connection in [`send`], which answers pass in [`accept`].

mod accept;
mod choose;
mod send;

use std::net::SocketAddr;
use std::rc::Rc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE};
use http::{HeaderValue, Method, Response, Version};
use http_body::Body;

use self::accept::accept;
use self::choose::{connect, renew};
use self::send::{Failure, first_piece, send};
use super::answer::{Refusal, refuse};
use super::body::{ClientBody, Reply, RequestBody};
use super::exchange::{Exchange, Phase, Target};
use crate::clock;

/// A request that may pass, made fit for an endpoint.
pub(crate) struct Forward {
    pub(crate) parts: http::request::Parts,
    pub(crate) target: Rc<Target>,
    /// Protocol that the client asks to change to.
    pub(crate) upgrade: Option<HeaderValue>,
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
    } = forward;
    let live = &exchange.client.live;
    let mut body = RequestBody::new(body, exchange, live.timeouts.request_body);
    parts.version = Version::HTTP_11;
    // An upgrade with a body would leave open whose the octets after it are.
    let upgrade = upgrade.filter(|_| body.is_empty());
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
            .entry(CONTENT_LENGTH)
            .or_insert(HeaderValue::from_static("0"));
    }
    // HTTP/1.1 has a Host in any case, an empty one where the client named none (RFC 9112 section 3.2).
    parts.headers.entry(HOST).or_insert(HeaderValue::from_static(""));
    // Extensions are the client connection's own; nothing of them is the endpoint's business.
    parts.extensions.clear();
    let repeatable = body.is_empty() && is_idempotent(&parts.method) && upgrade.is_none();
    let most = live.http.max_body_bytes;
    if most != 0 && body.size_hint().lower() > most {
        return Err(Refusal::TooLarge);
    }
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut repeated = false;
    loop {
        let (endpoint, mut lease) = match connect(&mut target, exchange, &mut tried, repeated).await {
            Ok(connected) => connected,
            Err(refusal) => return Err(refusal),
        };
        exchange.connected.set(Some(clock::now()));
        exchange.phase.set(Phase::Wait);
        let reused = lease.reused;
        let sent = send(&mut lease, &parts, &mut body, exchange, !repeatable).await;
        let unrouted = lease.wire.is_unrouted();
        if sent.is_err() && unrouted {
            tracing::debug!(%endpoint, "the route of an endpoint was withdrawn before its answer");
            tried.push(endpoint);
            renew(&mut target, exchange);
        }
        match sent {
            Ok(mut response) => {
                lease.wire.answering(true);
                exchange.first_byte.set(Some(clock::now()));
                exchange.phase.set(Phase::Response);
                // Over HTTP/1.1 the writer looks for it itself.
                let first = match exchange.version {
                    Version::HTTP_2 => first_piece(response.body_mut()).await,
                    _ => None,
                };
                return accept(response, first, lease, exchange, upgrade);
            }
            Err(Failure::Timeout) => {
                exchange.endpoint_failed();
                return Err(Refusal::UpstreamTimeout);
            }
            // The request's own fault: its body broke off or did not come.
            Err(Failure::Request(refusal)) => return Err(refusal),
            // Never sent: as good as new. Only on a kept connection, or a broken endpoint would be asked for ever.
            Err(Failure::Unsent) if reused || unrouted => {
                tracing::debug!(%endpoint, "a connection was closed before the request was sent");
            }
            Err(Failure::Broken(error)) => {
                tracing::debug!(%endpoint, %error, reused, "an endpoint broke off before its answer");
                if !repeatable || repeated || !(reused || unrouted) {
                    exchange.endpoint_failed();
                    return Err(Refusal::UpstreamFailed);
                }
                repeated = true;
            }
            Err(Failure::Nonsense(error)) => {
                tracing::debug!(%endpoint, %error, "what an endpoint sent is no answer");
                exchange.endpoint_failed();
                return Err(Refusal::UpstreamFailed);
            }
            Err(Failure::Unsent) => {
                exchange.endpoint_failed();
                return Err(Refusal::UpstreamFailed);
            }
        }
        exchange.retries.set(exchange.retries.get() + 1);
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
