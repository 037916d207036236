//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT becomes the upgrade of HTTP/1.1 that pods understand (RFC 6455).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};

use crate::fields::Fields;
use crate::fields::names::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use crate::message::request::Parts;

/// In a request's extensions: it was an extended CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct WebSocket {
    /// What the endpoint has to answer.
    accept: String,
}

/// Makes an extended CONNECT for WebSocket a GET that asks to change the protocol; `None`: it is none.
pub(super) fn translate(parts: &mut Parts, protocol: Option<&[u8]>) -> Option<WebSocket> {
    if parts.method != Method::CONNECT || protocol != Some(b"websocket") {
        return None;
    }
    ask(parts)
}

/// Makes a request that is to become a WebSocket one that pods understand.
pub(in crate::http) fn ask(parts: &mut Parts) -> Option<WebSocket> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).ok()?;
    let key = STANDARD.encode(nonce);
    let asked = WebSocket { accept: accept(&key) };
    let fields = &mut parts.headers;
    // What follows is no content (RFC 9110 section 9.3.6); to a pod it would be that of a GET, and if need be the next request.
    fields.remove(CONTENT_LENGTH);
    fields.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).ok()?);
    fields.or_insert(SEC_WEBSOCKET_VERSION, || HeaderValue::from_static("13"));
    parts.method = Method::GET;
    parts.extensions.insert(asked.clone());
    Some(asked)
}

/// The answer to a key (RFC 6455 section 4.2.2).
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

impl WebSocket {
    /// Takes what is HTTP/1.1's own out of an endpoint's 101; `false`: it is not the answer to our question.
    pub(in crate::http) fn accepts(&self, fields: &mut Fields) -> bool {
        let answered = fields.get(SEC_WEBSOCKET_ACCEPT);
        let accepts = answered.is_some_and(|answered| answered.as_bytes() == self.accept.as_bytes());
        for name in [SEC_WEBSOCKET_ACCEPT, UPGRADE, CONNECTION] {
            fields.remove(name);
        }
        accepts
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_is_that_of_the_rfc() {
        assert_eq!(
            super::accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
