//! A request over one connection, and the beginning of its answer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use crate::clock;
use crate::http::answer::Refusal;
use crate::http::body::{BodyError, EndpointBody, Piece, RequestBody};
use crate::http::call::{Call, CallError};
use crate::http::exchange::Exchange;
use crate::http::frame::Body;
use crate::http::stream_call::{StreamCall, StreamError, Upload, head};
use crate::message::Response;
use crate::message::request::Parts;
use crate::upstream::Lease;

/// Why no answer came.
pub(super) enum Failure {
    /// It did not begin in time.
    Timeout,
    /// The request's own fault: its body broke off, did not come, or is too large.
    Request(Refusal),
    /// Nothing of it was sent.
    Unsent,
    /// The endpoint has not looked at it, although the connection is new, and says so.
    Refused,
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
    if lease.handle.is_some() {
        return send_shared(lease, parts, body, exchange).await;
    }
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
            Ok(Response::from_parts(head, EndpointBody::Http1(call)))
        }
        Some(Err(CallError::Unsent)) => Err(Failure::Unsent),
        Some(Err(CallError::Request(error))) => Err(Failure::Request(refusal(&error))),
        Some(Err(error @ (CallError::Closed(_) | CallError::Unrouted))) => Err(Failure::Broken(error)),
        Some(Err(error)) => Err(Failure::Nonsense(error)),
        None => Err(Failure::Timeout),
    }
}

/// What a client hears whose request's body is broken.
pub(super) fn refusal(error: &BodyError) -> Refusal {
    match error {
        BodyError::Timeout => Refusal::RequestTimeout,
        BodyError::TooLarge => Refusal::TooLarge,
        _ => Refusal::Malformed,
    }
}

/// As [`send`], over a stream of HTTP/2.
async fn send_shared(
    lease: &mut Lease,
    parts: &Parts,
    body: &mut RequestBody,
    exchange: &Exchange,
) -> Result<Response<EndpointBody>, Failure> {
    let Some(handle) = &mut lease.handle else {
        return Err(Failure::Unsent);
    };
    let Some(head) = head(parts, handle.scheme(), handle.address()) else {
        return Err(Failure::Request(Refusal::Malformed));
    };
    let end = body.is_end_stream();
    let (answer, stream) = match handle.sender.send_request(head, end) {
        Ok(sent) => sent,
        Err(error) => {
            tracing::debug!(%error, "a connection takes no further stream");
            handle.retire();
            return Err(if lease.reused {
                Failure::Unsent
            } else {
                Failure::Refused
            });
        }
    };
    let limit = exchange.response_read_wait();
    let wire = Rc::clone(&lease.wire);
    let begun = clock::now();
    let mut call = StreamCall::new(answer, (!end).then(|| Upload::new(stream)));
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = call.poll_head(cx, body, exchange) {
            return Poll::Ready(Ok(answered));
        }
        if wire.poll_unrouted(cx).is_ready() {
            return Poll::Ready(Err(Failure::Broken(CallError::Unrouted)));
        }
        let due = exchange.body_last.get().max(begun) + limit;
        let due = exchange.answer_due.get().map_or(due, |latest| latest.min(due));
        ready!(wire.poll_timer(cx, due));
        Poll::Ready(Err(Failure::Timeout))
    });
    match answered.await {
        Ok(Ok(response)) => {
            // Both directions go on, whatever the other one waits for.
            if let Some(mut upload) = call.into_upload() {
                let mut rest = std::mem::take(body);
                let drivers = &exchange.client.worker.upstreams.drivers;
                drivers.spawn_local(async move {
                    if let Err(error) = poll_fn(|cx| upload.poll(cx, &mut rest)).await {
                        tracing::debug!(%error, "a request broke off while it was answered");
                    }
                });
            }
            Ok(response.map(|body| EndpointBody::Http2(Box::new(body))))
        }
        Ok(Err(StreamError::Request(error))) => Err(Failure::Request(refusal(&error))),
        Ok(Err(StreamError::Refused(error))) => {
            tracing::debug!(%error, "an endpoint refuses a stream");
            handle.retire();
            if call.take_back(body) {
                Err(if lease.reused {
                    Failure::Unsent
                } else {
                    Failure::Refused
                })
            } else {
                Err(Failure::Broken(CallError::Closed(io::Error::other(error))))
            }
        }
        Ok(Err(StreamError::Broken(error))) => {
            Err(Failure::Broken(CallError::Closed(io::Error::other(error))))
        }
        Err(failure) => {
            if matches!(failure, Failure::Timeout) {
                handle.suspect();
            }
            Err(failure)
        }
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
