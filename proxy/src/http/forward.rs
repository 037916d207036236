//! A request to an endpoint and back: which one, over which connection, and what to do when that fails.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};

use super::answer::{Refusal, refuse};
use super::body::{Piece, Reply, RequestBody};
use super::exchange::{Exchange, Phase, Target};
use super::{headers, upgrade};
use crate::upstream::{ConnectError, Lease};
use crate::{balance, clock};

/// Endpoints that are tried for one request at most.
const MAX_ENDPOINTS: usize = 3;

/// A request that may pass, made fit for an endpoint.
pub(crate) struct Forward {
    pub(crate) parts: http::request::Parts,
    pub(crate) target: Rc<Target>,
    /// Protocol that the client asks to change to.
    pub(crate) upgrade: Option<HeaderValue>,
}

/// Sends a request to an endpoint of its pool and gives back the answer, whoever wrote it.
pub(crate) async fn forward(forward: Forward, body: Incoming, exchange: &Rc<Exchange>) -> Response<Reply> {
    match attempt(forward, body, exchange).await {
        Ok(response) => response,
        Err(refusal) => refuse(refusal, Rc::clone(exchange)),
    }
}

async fn attempt(
    forward: Forward,
    body: Incoming,
    exchange: &Rc<Exchange>,
) -> Result<Response<Reply>, Refusal> {
    let Forward {
        mut parts,
        mut target,
        upgrade,
    } = forward;
    let live = &exchange.client.live;
    let body = RequestBody::new(body, exchange, live.timeouts.request_body);
    parts.version = Version::HTTP_11;
    // An upgrade with a body would leave open whose the octets after it are.
    let upgrade = upgrade.filter(|_| body.is_empty());
    let client_upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
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
    let mut request = Request::from_parts(parts, body);
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut repeated = false;
    loop {
        let (endpoint, lease) = match connect(&mut target, exchange, &mut tried, repeated).await {
            Ok(connected) => connected,
            Err(refusal) => return Err(refusal),
        };
        exchange.connected.set(Some(clock::now()));
        exchange.phase.set(Phase::Wait);
        let reused = lease.reused;
        let copy = (repeatable && !repeated).then(|| copy_of(&request));
        let mut lease = lease;
        let sent = send(&mut lease, request, exchange).await;
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
                let first = first_piece(response.body_mut()).await;
                return accept(response, first, lease, exchange, upgrade, client_upgrade);
            }
            Err(Failure::Timeout) => {
                exchange.endpoint_failed();
                return Err(Refusal::UpstreamTimeout);
            }
            // The request's own fault: its body broke off or did not come.
            Err(Failure::Request(refusal)) => return Err(refusal),
            // Never sent: as good as new. Only on a kept connection, or a broken endpoint would be asked for ever.
            Err(Failure::Unsent(unsent)) if reused || unrouted => {
                tracing::debug!(%endpoint, "a connection was closed before the request was sent");
                request = *unsent;
            }
            Err(Failure::Broken(error)) => {
                tracing::debug!(%endpoint, %error, reused, "an endpoint broke off before its answer");
                let Some(copy) = copy.filter(|_| reused || unrouted) else {
                    exchange.endpoint_failed();
                    return Err(Refusal::UpstreamFailed);
                };
                request = copy;
                repeated = true;
            }
            Err(Failure::Unsent(_)) => {
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

fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Chooses an endpoint and a connection to it; goes on to another endpoint when a connection cannot be made.
async fn connect(
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
        if !fresh && let Some(lease) = worker.upstreams.kept(address) {
            return Ok((address, lease));
        }
        match worker.upstreams.open(address, limit).await {
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
fn renew(target: &mut Rc<Target>, exchange: &Exchange) {
    let now = exchange.client.worker.snapshot();
    let Some(pool) = target.pool.as_ref().and_then(|pool| now.pool(pool.id())) else {
        return;
    };
    *target = Rc::new(Target {
        ingress: target.ingress.clone(),
        pool: Some(Arc::clone(pool)),
    });
}

enum Failure {
    Timeout,
    Request(Refusal),
    Unsent(Box<Request<RequestBody>>),
    Broken(hyper::Error),
}

/// Sends a request and waits for the header of its answer. The wait begins anew with every piece of the body.
async fn send(
    lease: &mut Lease,
    request: Request<RequestBody>,
    exchange: &Exchange,
) -> Result<Response<Incoming>, Failure> {
    let limit = exchange.client.live.timeouts.response_read;
    let wire = Rc::clone(&lease.wire);
    let mut sent = std::pin::pin!(lease.sender.try_send_request(request));
    let begun = clock::now();
    let sent = poll_fn(|cx| match sent.as_mut().poll(cx) {
        Poll::Ready(sent) => Poll::Ready(Some(sent)),
        Poll::Pending => {
            let from = exchange.body_last.get().max(begun);
            ready!(wire.poll_timer(cx, from + limit));
            Poll::Ready(None)
        }
    });
    match sent.await {
        Some(Ok(response)) => Ok(response),
        Some(Err(mut error)) => {
            if let Some(request) = error.take_message() {
                return Err(Failure::Unsent(Box::new(request)));
            }
            let error = error.into_error();
            // To hyper the end of our driver is a mistake of ours.
            if wire.is_unrouted() {
                return Err(Failure::Broken(error));
            }
            if error.is_user() || exchange.fault.get().is_some() {
                let timeout = matches!(
                    std::error::Error::source(&error).and_then(|source| source.downcast_ref()),
                    Some(super::body::BodyError::Timeout)
                );
                return Err(Failure::Request(if timeout {
                    Refusal::RequestTimeout
                } else {
                    Refusal::Malformed
                }));
            }
            Err(Failure::Broken(error))
        }
        None => Err(Failure::Timeout),
    }
}

/// The first piece of a body if it came together with the header, so that both go on to the client in one write.
async fn first_piece(body: &mut Incoming) -> Option<Piece> {
    if body.is_end_stream() {
        return None;
    }
    let mut asked = false;
    poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(piece) => Poll::Ready(Some(piece)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            // Having been asked, the task that drives the connection runs first, and then this one again.
            asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Takes an endpoint's answer, or refuses it.
fn accept(
    mut response: Response<Incoming>,
    first: Option<Piece>,
    lease: Lease,
    exchange: &Rc<Exchange>,
    upgrade: Option<HeaderValue>,
    client_upgrade: Option<hyper::upgrade::OnUpgrade>,
) -> Result<Response<Reply>, Refusal> {
    let refused = |why: &'static str| {
        tracing::debug!(why, "the answer of an endpoint is refused");
        exchange.endpoint_failed();
        Err(Refusal::UpstreamFailed)
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(_), Some(client)) = (upgrade, client_upgrade) else {
            return refused("it changes the protocol without being asked");
        };
        return Ok(upgrade::switch(response, client, &lease.wire, exchange));
    }
    let fields = response.headers();
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter().peekable();
    if codings.peek().is_some() {
        if fields.contains_key(CONTENT_LENGTH) {
            return refused("it has both Content-Length and Transfer-Encoding");
        }
        if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return refused("its transfer coding is not chunked");
        }
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && lengths.any(|other| other != length)
    {
        return refused("it has two lengths");
    }
    headers::strip_hop_by_hop(response.headers_mut());
    exchange.status.set(response.status().as_u16());
    let (mut parts, body) = response.into_parts();
    parts.extensions.clear();
    parts.version = exchange.version;
    Ok(Response::from_parts(
        parts,
        Reply::stream(body, first, lease, Rc::clone(exchange)),
    ))
}
