//! One request stream: a request from its header to the last frame of its answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::body::{Broken, Http3Request, Receiver};
use super::link::Link;
use super::send::{Respond, Sender};
use super::tunnel::StreamTunnel;
use crate::fields::Fields;
use crate::fields::names::{DATE, EXPECT, TE};
use crate::h3::Code;
use crate::h3::fields::{self, Bad, Head};
use crate::h3::frame::Piece;
use crate::http::answer::Refusal;
use crate::http::body::{ClientBody, Reply};
use crate::http::date;
use crate::http::frame::Body;
use crate::http::headers::clean_trailers;
use crate::http::http2::WebSocket;
use crate::http::http2::websocket;
use crate::http::service::{refused, serve};
use crate::http::upgrade;
use crate::message::Response;
use crate::message::request::Parts;
use crate::metrics::Cell as Metric;

/// How long the end of a request without a body is awaited.
const LATE_END: Duration = Duration::from_millis(20);

/// Answers one request.
pub(super) async fn answer(link: Rc<Link>, send: SendStream, receive: RecvStream) {
    let mut receiver = Receiver::new(receive, Rc::clone(&link));
    let respond = Respond(Rc::new(RefCell::new(Sender::new(send, Rc::clone(&link)))));
    let head = match header(&link, &mut receiver).await {
        Ok(head) => head,
        Err(No::Refused(refusal)) => {
            let parts = Parts {
                version: Version::HTTP_3,
                ..Parts::default()
            };
            let response = refused(&link.client, &parts, refusal);
            // The rest of it is not wanted.
            drop(receiver);
            return reply(response, &respond).await;
        }
        Err(No::Reset(why)) => {
            // That the client has taken it back was counted when it was read.
            if why != Code::REQUEST_CANCELLED {
                link.reset();
            }
            receiver.stop(why);
            return respond.0.borrow_mut().reset(why);
        }
    };
    let Head {
        mut parts,
        length,
        protocol,
    } = head;
    if protocol.is_some() {
        return match websocket::ask(&mut parts) {
            Some(asked) => switch(&link, parts, receiver, &respond, &asked).await,
            None => respond.0.borrow_mut().reset(Code::INTERNAL_ERROR),
        };
    }
    let is_ended = ends_here(&mut receiver, &parts, length).await;
    if is_ended && length.is_some_and(|length| length > 0) {
        link.client.worker.counters.inc(Metric::RefusedMalformed);
        return respond.0.borrow_mut().reset(Code::MESSAGE_ERROR);
    }
    let expects = parts.headers.contains_key(EXPECT);
    let body = Http3Request::new(receiver, respond.clone(), length, expects);
    let body = ClientBody::Http3(Box::new(body));
    if let Some(response) = served(&link, parts, body, &respond).await {
        reply(response, &respond).await;
    }
}

/// Whether the stream has ended with the header section. Its end may come in a datagram of its own, and of methods that have no
/// body it is awaited for a moment: to an endpoint a request of unknown length is another one than a request without a body.
async fn ends_here(receiver: &mut Receiver, parts: &Parts, length: Option<u64>) -> bool {
    let bare = matches!(
        parts.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
    );
    let wait = if bare && length.is_none() {
        LATE_END
    } else {
        Duration::ZERO
    };
    let _ = timeout(wait, poll_fn(|cx| receiver.poll_look(cx))).await;
    receiver.is_ended()
}

/// Why a stream brings no request.
enum No {
    /// The client is told so in an answer.
    Refused(Refusal),
    /// The stream is reset.
    Reset(Code),
}

/// Reads the header section.
async fn header(link: &Link, receiver: &mut Receiver) -> Result<Head, No> {
    let client = &link.client;
    let piece = poll_fn(|cx| receiver.poll_piece(cx));
    let section = match timeout(client.live.timeouts.request_header, piece).await {
        Ok(Ok(Some(Piece::Section(section)))) => section,
        // The reader lets no body come first.
        Ok(Ok(Some(Piece::Data(_)) | None)) => return Err(No::Reset(Code::REQUEST_INCOMPLETE)),
        Ok(Err(Broken::Large)) => return Err(No::Refused(Refusal::Headers)),
        Ok(Err(Broken::Gone(_) | Broken::Fault)) => return Err(No::Reset(Code::REQUEST_CANCELLED)),
        Err(_) => return Err(No::Refused(Refusal::RequestTimeout)),
    };
    let head = fields::request(&section, &link.limits()).map_err(|bad| match bad {
        Bad::Section(_) => {
            link.fail(Code::QPACK_DECOMPRESSION_FAILED);
            No::Reset(Code::REQUEST_CANCELLED)
        }
        Bad::Malformed => No::Reset(Code::MESSAGE_ERROR),
        Bad::Large => No::Refused(Refusal::Headers),
        Bad::Path => No::Refused(Refusal::Uri),
    });
    // Others than WebSocket are a CONNECT like any other.
    let head = head.and_then(|head| match head.protocol.as_deref() {
        None | Some("websocket") => Ok(head),
        Some(_) => Err(No::Refused(Refusal::Method)),
    });
    if let Err(No::Reset(Code::MESSAGE_ERROR)) = head {
        client.worker.counters.inc(Metric::RefusedMalformed);
    }
    head
}

/// Has a request answered. `None`: the client wants no answer.
async fn served(link: &Link, parts: Parts, body: ClientBody, respond: &Respond) -> Option<Response<Reply>> {
    let mut serving = pin!(serve(Rc::clone(&link.client), parts, body));
    poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => {
            let mut sender = respond.0.borrow_mut();
            // Interim answers.
            let gone = matches!(sender.poll_flush(cx), Poll::Ready(Err(_)));
            match sender.poll_stopped(cx) {
                Poll::Pending if !gone => Poll::Pending,
                _ => Poll::Ready(None),
            }
        }
    })
    .await
}

/// Joins a stream with the connection of an endpoint that has changed to WebSocket; any other answer is passed on.
async fn switch(link: &Link, parts: Parts, receiver: Receiver, respond: &Respond, asked: &WebSocket) {
    let Some(response) = served(link, parts, ClientBody::Empty, respond).await else {
        return;
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS && !response.status().is_success() {
        drop(receiver);
        return reply(response, respond).await;
    }
    let (mut parts, body) = response.into_parts();
    let accepted = asked.accepts(&mut parts.headers);
    parts.headers.or_insert(DATE, date::value);
    match body.into_switched() {
        Some(switched) if accepted => {
            respond
                .0
                .borrow_mut()
                .section(Some(StatusCode::OK), &parts.headers);
            let tunnel = StreamTunnel::new(respond.clone(), receiver);
            upgrade::join(tunnel, Bytes::new(), switched).await;
        }
        // To the client of an extended CONNECT any 2xx is the beginning of WebSocket.
        _ => {
            tracing::debug!("an endpoint does not change to WebSocket, and does not say so");
            respond
                .0
                .borrow_mut()
                .section(Some(StatusCode::BAD_GATEWAY), &Fields::new());
        }
    }
    poll_fn(|cx| {
        let mut sender = respond.0.borrow_mut();
        if ready!(sender.poll_flush(cx)).is_ok() {
            sender.finish();
        }
        sender.poll_stopped(cx)
    })
    .await;
}

/// Sends an answer to its last frame, and waits until the client has it.
async fn reply(response: Response<Reply>, respond: &Respond) {
    let (mut parts, mut body) = response.into_parts();
    parts.headers.or_insert(DATE, date::value);
    parts.headers.remove(TE);
    let mut last = body.is_end_stream();
    respond.0.borrow_mut().section(Some(parts.status), &parts.headers);
    drop(parts);
    poll_fn(|cx| {
        loop {
            // Asked while nobody holds the sender: the body of the request, which may be read meanwhile, breaks it off where it
            // is broken itself.
            let wants = !last && respond.0.borrow().is_room();
            let polled = wants.then(|| Pin::new(&mut body).poll_frame(cx));
            let mut sender = respond.0.borrow_mut();
            if let Some(polled) = polled {
                match polled {
                    Poll::Ready(None) => last = true,
                    // Half an answer must not look whole.
                    Poll::Ready(Some(Err(_))) => {
                        sender.reset(Code::INTERNAL_ERROR);
                        return Poll::Ready(());
                    }
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            sender.data(data);
                            last = body.is_end_stream();
                        }
                        Err(other) => {
                            let mut trailers = other.into_trailers().unwrap_or_default();
                            clean_trailers(&mut trailers);
                            if !trailers.is_empty() {
                                sender.section(None, &trailers);
                            }
                            last = true;
                        }
                    },
                    Poll::Pending => {
                        return match ready!(sender.poll_flush(cx)) {
                            Ok(()) => sender.poll_stopped(cx),
                            Err(_) => {
                                body.was_cut();
                                Poll::Ready(())
                            }
                        };
                    }
                }
                if !last && sender.is_room() {
                    continue;
                }
            }
            if ready!(sender.poll_flush(cx)).is_err() {
                body.was_cut();
                return Poll::Ready(());
            }
            if last {
                sender.finish();
                return Poll::Ready(());
            }
        }
    })
    .await;
    // The exchange is over; the connection must stay until the client has acknowledged the answer.
    drop(body);
    poll_fn(|cx| respond.0.borrow_mut().poll_stopped(cx)).await;
}
