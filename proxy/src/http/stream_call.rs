//! One exchange with an endpoint over a stream of HTTP/2.
//!
//! Whoever waits for the answer drives the request's body, too; what of it is left when the answer begins is a task of its
//! own, so that both directions go on without waiting for each other (gRPC streams).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri, Version};

use super::body::{BodyError, RequestBody};
use super::exchange::Exchange;
use super::headers;
use super::http2::send::{poll_send, send_trailers};
use super::stream_body::StreamBody;
use crate::fields::Fields;
use crate::fields::names::{CONTENT_LENGTH, HOST};
use crate::http::frame::Body;
use crate::message::request::Parts;
use crate::message::{Response, response};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The endpoint has not looked at the request, and says so: it may be sent elsewhere.
    #[error("the endpoint refused the stream: {0}")]
    Refused(h2::Error),
    /// The stream or the connection broke off.
    #[error("{0}")]
    Broken(#[from] h2::Error),
    /// The body of the request is broken.
    #[error("{0}")]
    Request(BodyError),
}

impl StreamError {
    fn of(error: h2::Error) -> Self {
        // RFC 9113 sections 6.8 and 8.7: streams beyond the last one of a GOAWAY, and refused ones, were not processed.
        let refused = error.is_remote()
            && (error.is_go_away() || (error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)));
        if refused {
            Self::Refused(error)
        } else {
            Self::Broken(error)
        }
    }
}

/// The header section of a request on HTTP/2. `address` stands for the host where the client names none.
pub(crate) fn head(parts: &Parts, scheme: Scheme, address: std::net::SocketAddr) -> Option<Request<()>> {
    let mut target = http::uri::Parts::default();
    let named = parts.headers.get(HOST).map(|host| host.as_bytes());
    target.scheme = Some(scheme);
    target.authority = match named {
        Some(host) if !host.is_empty() => Some(Authority::try_from(host).ok()?),
        _ => Some(Authority::try_from(address.to_string()).ok()?),
    };
    let path = parts.uri.path_and_query();
    target.path_and_query = Some(path.map_or(PathAndQuery::from_static("/"), Clone::clone));
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = Uri::from_parts(target).ok()?;
    *request.version_mut() = Version::HTTP_2;
    let mut fields = parts.headers.clone();
    fields.remove(HOST);
    headers::strip_hop_by_hop(&mut fields);
    *request.headers_mut() = HeaderMap::from(&fields);
    Some(request)
}

/// What of a body is remembered, so that a refused stream can be sent elsewhere.
const REMEMBERED: usize = 64 * 1024;

/// A request's body on its way out.
#[derive(Debug)]
pub(crate) struct Upload {
    stream: SendStream<Bytes>,
    /// A piece that was not sent whole.
    rest: Bytes,
    last: bool,
    /// What was taken of the body so far; `None`: it was too much.
    taken: Option<Vec<Bytes>>,
    taken_bytes: usize,
}

impl Upload {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self {
            stream,
            rest: Bytes::new(),
            last: false,
            taken: Some(Vec::new()),
            taken_bytes: 0,
        }
    }

    fn remember(&mut self, data: &Bytes) {
        self.taken_bytes = self.taken_bytes.saturating_add(data.len());
        if self.taken_bytes > REMEMBERED {
            self.taken = None;
        }
        if let Some(taken) = &mut self.taken {
            taken.push(data.clone());
        }
    }

    /// Sends what can be sent; ready when all is sent, or when the endpoint takes no more (it may still answer).
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
    ) -> Poll<Result<(), BodyError>> {
        loop {
            let sent = ready!(poll_send(&mut self.stream, cx, &mut self.rest, self.last));
            if sent.is_err() || self.last {
                self.rest = Bytes::new();
                return Poll::Ready(Ok(()));
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.stream.poll_reset(cx).map(|_| Ok(())),
            };
            match frame {
                None => {
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => {
                    // Half a request must not look whole.
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(error));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.remember(&data);
                        self.last = body.is_end_stream();
                        if self.last && data.is_empty() {
                            let _ = self.stream.send_data(data, true);
                            return Poll::Ready(Ok(()));
                        }
                        self.rest = data;
                    }
                    Err(other) => {
                        self.taken = None;
                        send_trailers(&mut self.stream, other.into_trailers().unwrap_or_default());
                        return Poll::Ready(Ok(()));
                    }
                },
            }
        }
    }
}

/// Interim answers before the answer.
const MAX_INTERIM: u8 = 32;

/// An exchange of which the header of the answer is awaited.
#[derive(Debug)]
pub(crate) struct StreamCall {
    answer: h2::client::ResponseFuture,
    upload: Option<Upload>,
    sent: bool,
    interim: u8,
}

impl StreamCall {
    /// Begins with a request of which the header was sent; `upload`: a body follows.
    pub(crate) fn new(answer: h2::client::ResponseFuture, upload: Option<Upload>) -> Self {
        Self {
            answer,
            sent: upload.is_none(),
            upload,
            interim: 0,
        }
    }

    /// Sends the body and reads the header of the answer.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        exchange: &Exchange,
    ) -> Poll<Result<Response<StreamBody>, StreamError>> {
        if let Some(upload) = &mut self.upload
            && !self.sent
            && let Poll::Ready(sent) = upload.poll(cx, body)
        {
            self.sent = true;
            sent.map_err(StreamError::Request)?;
        }
        while self.interim < MAX_INTERIM
            && let Poll::Ready(Some(Ok(interim))) = self.answer.poll_informational(cx)
        {
            self.interim += 1;
            let (interim, ()) = interim.into_parts();
            let mut fields = Fields::from(interim.headers);
            headers::strip_hop_by_hop(&mut fields);
            // It has no body (RFC 9110 section 15.2); who believed in one would wait for it.
            fields.remove(CONTENT_LENGTH);
            exchange.interim(cx, interim.status, &fields);
        }
        let answer = ready!(Pin::new(&mut self.answer).poll(cx)).map_err(StreamError::of)?;
        let (head, stream) = answer.into_parts();
        let parts = response::Parts {
            status: head.status,
            version: head.version,
            headers: Fields::from(head.headers),
        };
        let body = StreamBody::new(stream, &parts.headers);
        Poll::Ready(Ok(Response::from_parts(parts, body)))
    }

    /// Gives the body back as it was before anything was sent of it, if all of that is remembered.
    pub(crate) fn take_back(self, body: &mut RequestBody) -> bool {
        let Some(upload) = self.upload else { return true };
        let Some(taken) = upload.taken else { return false };
        if !taken.is_empty() {
            body.unread(Bytes::from(taken.concat()));
        }
        true
    }

    /// The body that is still on its way.
    pub(crate) fn into_upload(self) -> Option<Upload> {
        self.upload.filter(|_| !self.sent)
    }
}
