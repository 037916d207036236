//! A question to another Service about a request, before it goes on (forward authentication).

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, Uri, Version};

use super::choose::{Wish, connect};
use super::retry::{Tries, Why};
use super::send::{Failure, send};
use crate::door::Auth;
use crate::fields::names::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TE, TRAILER,
};
use crate::fields::{Fields, Name};
use crate::filter::Answer;
use crate::health::Sign;
use crate::http::answer::Refusal;
use crate::http::body::{EndpointBody, RequestBody};
use crate::http::exchange::{Exchange, Phase, Target};
use crate::http::frame::Body;
use crate::http::headers;
use crate::message::request::Parts;
use crate::snapshot::CompiledPool;
use crate::upstream::Lease;

const X_ORIGINAL_METHOD: Name<'static> = Name::from_static("x-original-method");
const X_ORIGINAL_URL: Name<'static> = Name::from_static("x-original-url");
const X_FORWARDED_METHOD: Name<'static> = Name::from_static("x-forwarded-method");
const X_FORWARDED_URI: Name<'static> = Name::from_static("x-forwarded-uri");

/// Octets of an answer's body at most; of a longer one the client gets the status alone.
const LARGEST: usize = 64 * 1024;

/// What the Service says.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The request may go on, with these fields.
    Passes(Fields),
    /// It may not, and the client is told so.
    Denied(Answer),
}

/// Asks about the request whose header section, fit for an endpoint, is `parts`; `uri` is the path and query that the
/// client asks for. No answer is an error: nothing passes.
pub(crate) async fn ask(
    auth: &Auth,
    target: Rc<Target>,
    parts: &Parts,
    uri: &str,
    exchange: &Rc<Exchange>,
) -> Result<Verdict, Refusal> {
    let question = question(auth, parts, uri, exchange)?;
    let asked = tokio::time::timeout(auth.wished.timeout, exchange_with(target, &question, exchange)).await;
    // What follows is not about the pod that was asked.
    exchange.endpoint.borrow_mut().take();
    exchange.place.borrow_mut().take();
    exchange.answer_due.set(None);
    exchange.chosen.set(None);
    exchange.connected.set(None);
    exchange.phase.set(Phase::Request);
    let (status, fields, text) = match asked {
        Ok(answer) => answer?,
        Err(_) => return Err(Refusal::AuthFailed),
    };
    if status.is_success() {
        let mut copied = Fields::new();
        for name in &auth.copy {
            for value in fields.get_all(name) {
                copied.append(name, value);
            }
        }
        return Ok(Verdict::Passes(copied));
    }
    // A redirect to a login page, a refusal: as the Service says it. Its own faults are not the client's business.
    if status.is_server_error() || status.is_informational() {
        return Err(Refusal::AuthFailed);
    }
    let mut answer = Answer::new(status);
    for (name, value) in &fields {
        if name != CONTENT_LENGTH && name != TRAILER {
            answer.headers.append(name, value);
        }
    }
    match text {
        Some(text) => answer.text = text,
        None => answer
            .headers
            .retain(|name, _| name != CONTENT_TYPE && name != CONTENT_ENCODING),
    }
    Ok(Verdict::Denied(answer))
}

/// The question: `GET`, without a body, with the fields of the request.
fn question(auth: &Auth, parts: &Parts, uri: &str, exchange: &Exchange) -> Result<Parts, Refusal> {
    let target: Uri = auth.wished.path.parse().map_err(|_| Refusal::AuthFailed)?;
    let mut question = Parts {
        method: Method::GET,
        uri: target,
        version: Version::HTTP_11,
        headers: parts.headers.clone(),
        ..Parts::default()
    };
    let fields = &mut question.headers;
    for name in [
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        ACCEPT_ENCODING,
        RANGE,
        IF_RANGE,
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        TE,
        TRAILER,
    ] {
        fields.remove(name);
    }
    for name in &auth.copy {
        fields.remove(name);
    }
    let text = |text: &str| HeaderValue::from_str(text).map_err(|_| Refusal::AuthFailed);
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let url = format!("{}://{}{uri}", exchange.client.scheme(), host.unwrap_or_default());
    fields.insert(X_ORIGINAL_URL, text(&url)?);
    fields.insert(X_FORWARDED_URI, text(uri)?);
    for name in [X_ORIGINAL_METHOD, X_FORWARDED_METHOD] {
        fields.insert(name, text(exchange.method.as_str())?);
    }
    fields.insert(HOST, auth.host.clone());
    Ok(question)
}

type Told = (StatusCode, Fields, Option<Bytes>);

async fn exchange_with(
    mut target: Rc<Target>,
    question: &Parts,
    exchange: &Rc<Exchange>,
) -> Result<Told, Refusal> {
    let mut tries = Tries::new(target.pool.as_deref().map(CompiledPool::policy), exchange);
    let mut fresh = false;
    for _ in 0..3 {
        let mut lease = connect(&mut target, exchange, Wish::default(), &mut tries, fresh)
            .await
            .map_err(|_| Refusal::AuthFailed)?;
        let reused = lease.reused;
        match send(&mut lease, question, &mut RequestBody::Empty, exchange, false).await {
            Ok(response) => {
                let (mut head, body) = response.into_parts();
                exchange.endpoint_answered(head.status.as_u16());
                headers::strip_hop_by_hop(&mut head.headers);
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(Refusal::AuthFailed);
                }
                let text = whole(body, lease, exchange).await;
                return Ok((head.status, head.headers, text));
            }
            // It was closed while it was kept.
            Err(Failure::Unsent) if reused => tries.last = Some((Why::Stale, Refusal::AuthFailed)),
            Err(Failure::Broken(_)) if reused && !fresh => {
                fresh = true;
                tries.last = Some((Why::Reset, Refusal::AuthFailed));
            }
            Err(_) => {
                exchange.endpoint_failed(Sign::Broken);
                break;
            }
        }
    }
    Err(Refusal::AuthFailed)
}

/// A whole body, and the connection kept; `None` when it is too long or breaks off.
async fn whole(mut body: EndpointBody, lease: Lease, exchange: &Exchange) -> Option<Bytes> {
    let mut text = BytesMut::new();
    while !body.is_end_stream() {
        let piece = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        match piece {
            None => break,
            Some(Err(_)) => return None,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    if text.len() + data.len() > LARGEST {
                        return None;
                    }
                    text.extend_from_slice(&data);
                }
            }
        }
    }
    if let Some(stream) = body.reclaim() {
        let live = &exchange.client.live;
        lease.keep(
            stream,
            live.timeouts.upstream_idle,
            live.http.max_idle_per_endpoint,
        );
    }
    Some(text.freeze())
}
