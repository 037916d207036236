//! Which answers of endpoints pass.

use std::rc::Rc;

use http::{HeaderValue, StatusCode};

use crate::fields::Fields;
use crate::fields::names::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use crate::health::Sign;
use crate::http::answer::Refusal;
use crate::http::body::{EndpointBody, Piece, Reply};
use crate::http::exchange::Exchange;
use crate::http::{headers, upgrade};
use crate::message::Response;
use crate::upstream::Lease;

/// Takes an endpoint's answer, or refuses it.
pub(super) fn accept(
    mut response: Response<EndpointBody>,
    first: Option<Piece>,
    lease: Lease,
    exchange: &Rc<Exchange>,
    upgrade: Option<HeaderValue>,
) -> Result<Response<Reply>, Refusal> {
    let refused = |why: &'static str| {
        tracing::debug!(why, "the answer of an endpoint is refused");
        exchange.endpoint_failed(Sign::Broken);
        Err(Refusal::UpstreamFailed)
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !changes_as_asked(upgrade.as_ref(), response.headers()) {
            return refused("it changes the protocol without being asked, or to another one");
        }
        let Some(response) = upgrade::switch(response, &lease.wire, exchange) else {
            return refused("its connection cannot become a tunnel");
        };
        exchange.endpoint_answered(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        return Ok(response);
    }
    if let Some(why) = ambiguous(response.headers()) {
        return refused(why);
    }
    exchange.endpoint_answered(response.status().as_u16());
    headers::strip_hop_by_hop(response.headers_mut());
    exchange.status.set(response.status().as_u16());
    let (mut parts, body) = response.into_parts();
    parts.version = exchange.version;
    Ok(Response::from_parts(
        parts,
        Reply::stream(body, first, lease, Rc::clone(exchange)),
    ))
}

/// Why it could be read in two ways where the body ends, if it could.
fn ambiguous(fields: &Fields) -> Option<&'static str> {
    let mut codings = fields.get_all(TRANSFER_ENCODING).peekable();
    if codings.peek().is_some() {
        if fields.contains_key(CONTENT_LENGTH) {
            return Some("it has both Content-Length and Transfer-Encoding");
        }
        if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Some("its transfer coding is not chunked");
        }
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH);
    let length = lengths.next()?;
    lengths
        .any(|other| other != length)
        .then_some("it has two lengths")
}

/// Whether an answer changes to a protocol that was asked for, and says so (RFC 9110 section 7.8).
fn changes_as_asked(asked: Option<&HeaderValue>, fields: &Fields) -> bool {
    let mut changed = fields.get_all(UPGRADE).flat_map(headers::tokens).peekable();
    let is_asked = |protocol: &[u8]| {
        asked.is_some_and(|asked| {
            headers::tokens(asked.into()).any(|token| token.eq_ignore_ascii_case(protocol))
        })
    };
    changed.peek().is_some() && changed.all(is_asked)
}
