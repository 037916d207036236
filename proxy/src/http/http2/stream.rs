//! One stream: a request from its header to the last frame of its answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::shared::Respond;
use super::tunnel::StreamTunnel;
use super::websocket::{self, WebSocket};
use crate::fields::Fields;
use crate::fields::names::EXPECT;
use crate::h2::{Asked, Gone, Piece as Received, Reason};
use crate::http::answer::Refusal;
use crate::http::body::{ClientBody, Piece, Reply};
use crate::http::connection::Client;
use crate::http::frame::{Body, Frame, SizeHint};
use crate::http::headers::clean_request_trailers;
use crate::http::patience::Patience;
use crate::http::service::{refused, serve};
use crate::http::upgrade;
use crate::message::{Response, request, response};

/// The body of a request.
#[derive(Debug)]
pub(crate) struct StreamRequest {
    respond: Respond,
    /// Octets to come, where they were announced.
    length: Option<u64>,
    /// The client waits for 100 (Continue).
    expects: bool,
}

impl StreamRequest {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        if std::mem::take(&mut self.expects) {
            self.respond.interim(StatusCode::CONTINUE, &Fields::new());
        }
        Poll::Ready(match ready!(self.respond.poll_piece(cx)) {
            Ok(Received::Data(data)) => {
                if let Some(length) = &mut self.length {
                    *length = length.saturating_sub(data.len() as u64);
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Received::Trailers(mut trailers)) => {
                clean_request_trailers(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(Received::End) => None,
            Err(gone) => Some(Err(gone.into())),
        })
    }

    /// Where interim answers go.
    pub(crate) fn respond(&self) -> Respond {
        self.respond.clone()
    }

    /// Whether the client may not send, for what others of its connection have sent.
    pub(crate) fn is_shut(&self) -> bool {
        self.respond.is_shut()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.respond.is_read()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// Answers one request.
pub(super) async fn answer(client: Rc<Client>, respond: Respond, asked: Asked) {
    let Asked {
        mut parts,
        protocol,
        length,
        end,
        too_large,
        ..
    } = asked;
    let wait = client.live.timeouts.response_write;
    if too_large {
        return reply(refused(&client, &parts, Refusal::Headers), &respond, wait).await;
    }
    if let Some(asked) = websocket::translate(&mut parts, protocol.as_deref()) {
        return switch(client, parts, &respond, &asked).await;
    }
    let expects = !end && parts.headers.contains_key(EXPECT);
    let body = ClientBody::Http2(StreamRequest {
        respond: respond.clone(),
        length,
        expects,
    });
    if let Some(response) = served(client, parts, body, &respond).await {
        reply(response, &respond, wait).await;
    }
}

/// Has a request answered. `None`: the client has reset the stream and wants no answer.
async fn served(
    client: Rc<Client>,
    parts: request::Parts,
    body: ClientBody,
    respond: &Respond,
) -> Option<Response<Reply>> {
    let mut serving = pin!(serve(client, parts, body));
    poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => respond.poll_reset(cx).map(|()| None),
    })
    .await
}

/// Sends an answer to its last frame.
async fn reply(response: Response<Reply>, respond: &Respond, wait: Duration) {
    let (parts, mut body) = response.into_parts();
    let end = body.is_end_stream();
    if respond.begin(&parts, end).is_ok() && !end {
        pass(respond, &mut body, wait).await;
    }
}

/// Joins a stream with the connection of an endpoint that has changed to WebSocket; any other answer is passed on.
async fn switch(client: Rc<Client>, parts: request::Parts, respond: &Respond, asked: &WebSocket) {
    let wait = client.live.timeouts.response_write;
    let Some(response) = served(client, parts, ClientBody::Empty, respond).await else {
        return;
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && !response.status().is_success() {
        return reply(response, respond, wait).await;
    }
    let (mut parts, body) = response.into_parts();
    let accepted = asked.accepts(&mut parts.headers);
    match body.into_switched() {
        Some(switched) if accepted => {
            parts.status = StatusCode::OK;
            if respond.begin(&parts, false).is_ok() {
                upgrade::join(StreamTunnel::new(respond.clone()), Bytes::new(), switched).await;
            }
        }
        // To the client of an extended CONNECT any 2xx is the beginning of WebSocket.
        _ => {
            tracing::debug!("an endpoint does not change to WebSocket, and does not say so");
            let parts = response::Parts {
                status: StatusCode::BAD_GATEWAY,
                ..response::Parts::default()
            };
            let _ = respond.begin(&parts, true);
        }
    }
}

/// Passes a body on, piece by piece, while the client takes something within `wait`. When the stream is gone nobody is left who
/// could be told.
async fn pass(respond: &Respond, body: &mut Reply, wait: Duration) {
    let mut patience = Patience::new(wait);
    let mut rest = Bytes::new();
    let mut last = false;
    poll_fn(|cx| {
        loop {
            while !rest.is_empty() {
                let capacity = match respond.poll_capacity(cx) {
                    Poll::Ready(capacity) => capacity,
                    Poll::Pending => {
                        ready!(patience.poll(cx, None, || None));
                        respond.reset(Reason::CANCEL);
                        Err(Gone)
                    }
                };
                patience.calm();
                let sent = capacity.and_then(|capacity| {
                    let piece = rest.split_to(capacity.min(rest.len()));
                    respond.data(&piece, last && rest.is_empty())
                });
                if sent.is_err() {
                    body.was_cut();
                    return Poll::Ready(());
                }
            }
            if last {
                return Poll::Ready(());
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return respond.poll_reset(cx),
            };
            match frame {
                None => {
                    let _ = respond.data(b"", true);
                    return Poll::Ready(());
                }
                // Half an answer must not look whole.
                Some(Err(_)) => {
                    respond.reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        last = body.is_end_stream();
                        if last && data.is_empty() {
                            let _ = respond.data(b"", true);
                            return Poll::Ready(());
                        }
                        rest = data;
                    }
                    Err(other) => {
                        respond.trailers(other.into_trailers().unwrap_or_default());
                        return Poll::Ready(());
                    }
                },
            }
        }
    })
    .await;
}
