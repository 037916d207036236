//! A request over one connection, and the beginning of its answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use http::{Request, Response};
use http_body::Body;

use crate::clock;
use crate::http::answer::Refusal;
use crate::http::body::{BodyError, EndpointBody, Piece, RequestBody};
use crate::http::exchange::Exchange;
use crate::upstream::Lease;

/// Why no answer came.
pub(super) enum Failure {
    /// It did not begin in time.
    Timeout,
    /// The request's own fault: its body broke off, did not come, or is too large.
    Request(Refusal),
    /// Nothing of it was sent.
    Unsent(Box<Request<RequestBody>>),
    /// The connection broke off before the answer.
    Broken(hyper::Error),
}

/// Sends a request and waits for the header of its answer. The wait begins anew with every piece of the body.
pub(super) async fn send(
    lease: &mut Lease,
    request: Request<RequestBody>,
    exchange: &Exchange,
) -> Result<Response<EndpointBody>, Failure> {
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
        Some(Ok(response)) => Ok(response.map(EndpointBody::Hyper)),
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
                    Some(BodyError::Timeout)
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
pub(super) async fn first_piece(body: &mut EndpointBody) -> Option<Piece> {
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
