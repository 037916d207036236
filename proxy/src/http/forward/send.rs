//! A request over one connection, and the beginning of its answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use http::Response;
use http::request::Parts;
use http_body::Body;

use crate::clock;
use crate::http::answer::Refusal;
use crate::http::body::{BodyError, EndpointBody, Piece, RequestBody};
use crate::http::call::{Call, CallError};
use crate::http::exchange::Exchange;
use crate::upstream::Lease;

/// Why no answer came.
pub(super) enum Failure {
    /// It did not begin in time.
    Timeout,
    /// The request's own fault: its body broke off, did not come, or is too large.
    Request(Refusal),
    /// Nothing of it was sent.
    Unsent,
    /// The connection broke off before an octet of the answer, or the way to the endpoint was withdrawn.
    Broken(CallError),
    /// What came is no answer.
    Nonsense(CallError),
}

/// Sends a request and waits for the header of its answer. The wait begins anew with every piece of the body. `careful`:
/// the request may not be sent twice, so that a kept connection is looked at closely before.
///
/// After [`Failure::Unsent`] the body is as it was before.
pub(super) async fn send(
    lease: &mut Lease,
    parts: &Parts,
    body: &mut RequestBody,
    exchange: &Exchange,
    careful: bool,
) -> Result<Response<EndpointBody>, Failure> {
    let Some(mut stream) = lease.stream.take() else {
        return Err(Failure::Unsent);
    };
    if careful && lease.reused && !stream.is_open() {
        return Err(Failure::Unsent);
    }
    let limit = exchange.response_read_wait();
    let wire = Rc::clone(&lease.wire);
    let begun = clock::now();
    let mut call = Box::new(Call::new(stream));
    let head = poll_fn(|cx| {
        if let Poll::Ready(head) = call.poll_head(cx, parts, body, exchange) {
            return Poll::Ready(Some(head));
        }
        if wire.poll_unrouted(cx).is_ready() {
            return Poll::Ready(Some(Err(CallError::Unrouted)));
        }
        let due = exchange.body_last.get().max(begun) + limit;
        let due = exchange.answer_due.get().map_or(due, |latest| latest.min(due));
        ready!(wire.poll_timer(cx, due));
        Poll::Ready(None)
    });
    match head.await {
        Some(Ok(head)) => {
            call.go_on(std::mem::take(body));
            let mut response = Response::new(EndpointBody::Http1(call));
            *response.status_mut() = head.status;
            *response.version_mut() = head.version;
            *response.headers_mut() = head.headers;
            Ok(response)
        }
        Some(Err(CallError::Unsent)) => Err(Failure::Unsent),
        Some(Err(CallError::Request(error))) => Err(Failure::Request(match error {
            BodyError::Timeout => Refusal::RequestTimeout,
            BodyError::TooLarge => Refusal::TooLarge,
            _ => Refusal::Malformed,
        })),
        Some(Err(error @ (CallError::Closed(_) | CallError::Unrouted))) => Err(Failure::Broken(error)),
        Some(Err(error)) => Err(Failure::Nonsense(error)),
        None => Err(Failure::Timeout),
    }
}

/// The first piece of a body if it came together with the header, so that both go on to the client in one write.
pub(super) async fn first_piece(body: &mut EndpointBody) -> Option<Piece> {
    if body.is_end_stream() {
        return None;
    }
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(piece) => Some(piece),
            Poll::Pending => None,
        })
    })
    .await
}
