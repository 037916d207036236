//! One stream: a request from its header to the last frame of its answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{DATE, EXPECT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, SizeHint};

use super::send::poll_send;
use crate::http::body::{ClientBody, Piece, Reply};
use crate::http::connection::Client;
use crate::http::date;
use crate::http::service::serve;
use crate::http::stream_body::StreamBody;

/// Where the answer goes; shared with the request's body, which asks the client to go on, and with whoever has interim
/// answers to pass on.
#[derive(Clone)]
pub(crate) struct Respond(Rc<RefCell<SendResponse<Bytes>>>);

impl Respond {
    /// Sends an interim answer. A client that has left gets nothing.
    pub(crate) fn interim(&self, status: StatusCode, fields: &HeaderMap) {
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        interim.headers_mut().clone_from(fields);
        let _ = self.0.borrow_mut().send_informational(interim);
    }
}

impl std::fmt::Debug for Respond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Respond")
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    body: StreamBody,
    respond: Respond,
    /// The client waits for 100 (Continue).
    expects: bool,
}

impl StreamRequest {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if std::mem::take(&mut self.expects) {
            self.respond.interim(StatusCode::CONTINUE, &HeaderMap::new());
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// Where interim answers go.
    pub(crate) fn respond(&self) -> Respond {
        self.respond.clone()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers one request.
pub(super) async fn answer(client: Rc<Client>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (parts, received) = request.into_parts();
    let expects = parts.headers.contains_key(EXPECT) && !received.is_end_stream();
    let respond = Respond(Rc::new(RefCell::new(respond)));
    let body = ClientBody::Http2(Box::new(StreamRequest {
        body: StreamBody::new(received, &parts.headers),
        respond: respond.clone(),
        expects,
    }));
    let respond = respond.0;
    let mut serving = pin!(serve(client, Request::from_parts(parts, body)));
    let response = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
        // A client that resets the stream wants no answer.
        Poll::Pending => respond.borrow_mut().poll_reset(cx).map(|_| None),
    });
    let Some(response) = response.await else { return };
    let (mut parts, mut body) = response.into_parts();
    parts.headers.entry(DATE).or_insert_with(date::value);
    let end = body.is_end_stream();
    let sent = respond
        .borrow_mut()
        .send_response(Response::from_parts(parts, ()), end);
    match sent {
        Ok(stream) if !end => pass(stream, &mut body).await,
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "an answer cannot be sent");
            respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// Passes a body on, piece by piece. When the stream is gone nobody is left who could be told.
async fn pass(mut stream: SendStream<Bytes>, body: &mut Reply) {
    let mut rest = Bytes::new();
    let mut last = false;
    poll_fn(|cx| {
        loop {
            if ready!(poll_send(&mut stream, cx, &mut rest, last)).is_err() || last {
                return Poll::Ready(());
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return stream.poll_reset(cx).map(drop),
            };
            match frame {
                None => {
                    let _ = stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
                // Half an answer must not look whole.
                Some(Err(_)) => {
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        last = body.is_end_stream();
                        if last && data.is_empty() {
                            let _ = stream.send_data(data, true);
                            return Poll::Ready(());
                        }
                        rest = data;
                    }
                    Err(other) => {
                        if let Ok(trailers) = other.into_trailers() {
                            let _ = stream.send_trailers(trailers);
                        }
                        return Poll::Ready(());
                    }
                },
            }
        }
    })
    .await;
}
