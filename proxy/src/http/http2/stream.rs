//! One stream: a request from its header to the last frame of its answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{DATE, EXPECT, TE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, SizeHint};

use super::send::{poll_send, send_trailers};
use super::tunnel::StreamTunnel;
use super::websocket::{self, WebSocket};
use crate::http::body::{ClientBody, Piece, Reply};
use crate::http::connection::Client;
use crate::http::date;
use crate::http::headers::clean_request_trailers;
use crate::http::service::serve;
use crate::http::stream_body::StreamBody;
use crate::http::upgrade;

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

    /// Sends the header of the answer; gives what its body goes to.
    fn begin(&self, mut parts: http::response::Parts, end: bool) -> Option<SendStream<Bytes>> {
        parts.headers.entry(DATE).or_insert_with(date::value);
        // The parser sends no answer that has it.
        parts.headers.remove(TE);
        let mut respond = self.0.borrow_mut();
        match respond.send_response(Response::from_parts(parts, ()), end) {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%error, "an answer cannot be sent");
                respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
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
        Pin::new(&mut self.body).poll_frame(cx).map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                clean_request_trailers(trailers);
            }
            frame
        })
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
    let (mut parts, received) = request.into_parts();
    let respond = Respond(Rc::new(RefCell::new(respond)));
    if let Some(asked) = websocket::translate(&mut parts) {
        return switch(client, parts, received, &respond, &asked).await;
    }
    let expects = parts.headers.contains_key(EXPECT) && !received.is_end_stream();
    let body = ClientBody::Http2(Box::new(StreamRequest {
        body: StreamBody::new(received, &parts.headers),
        respond: respond.clone(),
        expects,
    }));
    if let Some(response) = served(client, Request::from_parts(parts, body), &respond).await {
        reply(response, &respond).await;
    }
}

/// Has a request answered. `None`: the client has reset the stream and wants no answer.
async fn served(
    client: Rc<Client>,
    request: Request<ClientBody>,
    respond: &Respond,
) -> Option<Response<Reply>> {
    let mut serving = pin!(serve(client, request));
    poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(Ok(response)) => Poll::Ready(Some(response)),
        Poll::Pending => respond.0.borrow_mut().poll_reset(cx).map(|_| None),
    })
    .await
}

/// Sends an answer to its last frame.
async fn reply(response: Response<Reply>, respond: &Respond) {
    let (parts, mut body) = response.into_parts();
    let end = body.is_end_stream();
    if let Some(stream) = respond.begin(parts, end)
        && !end
    {
        pass(stream, &mut body).await;
    }
}

/// Joins a stream with the connection of an endpoint that has changed to WebSocket; any other answer is passed on.
async fn switch(
    client: Rc<Client>,
    parts: http::request::Parts,
    received: RecvStream,
    respond: &Respond,
    asked: &WebSocket,
) {
    let request = Request::from_parts(parts, ClientBody::Empty);
    let Some(response) = served(client, request, respond).await else {
        return;
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && !response.status().is_success() {
        return reply(response, respond).await;
    }
    let (mut parts, body) = response.into_parts();
    let accepted = asked.accepts(&mut parts.headers);
    match body.into_switched() {
        Some(switched) if accepted => {
            parts.status = StatusCode::OK;
            if let Some(stream) = respond.begin(parts, false) {
                let tunnel = StreamTunnel::new(stream, received);
                upgrade::join(tunnel, Bytes::new(), switched).await;
            }
        }
        // To the client of an extended CONNECT any 2xx is the beginning of WebSocket.
        _ => {
            tracing::debug!("an endpoint does not change to WebSocket, and does not say so");
            let mut parts = Response::new(()).into_parts().0;
            parts.status = StatusCode::BAD_GATEWAY;
            respond.begin(parts, true);
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
                        send_trailers(&mut stream, other.into_trailers().unwrap_or_default());
                        return Poll::Ready(());
                    }
                },
            }
        }
    })
    .await;
}
