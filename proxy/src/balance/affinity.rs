//! Clients that stay with a pod by a cookie.
//!
//! The cookie holds a token: HMAC-SHA-256 of the names of Service and pod, cut to 128 bits. Name and signature are one: nobody
//! learns an address from it, nobody makes one without the key, boxes with the same key understand each other, and it means
//! the same after a restart, and after a pod of that name has come back elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use sekisho_config::model::{Affinity, Endpoint, PoolId, SameSite, Secret};

/// Octets of the HMAC that are used, and of their text.
const OCTETS: usize = 16;
const LENGTH: usize = 22;

/// What stands in a cookie.
pub(crate) type Token = [u8; LENGTH];

/// The tokens of a pool's endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    by_place: Vec<Token>,
    places: HashMap<Token, u32>,
}

impl Tokens {
    /// The tokens of endpoints, in their order.
    pub(crate) fn compile(key: &Secret, pool: &PoolId, endpoints: &[Endpoint]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let by_place: Vec<Token> = endpoints
            .iter()
            .map(|endpoint| token(&key, pool, endpoint))
            .collect();
        let places = by_place.iter().copied().zip(0..).collect();
        Self { by_place, places }
    }

    /// The token of the endpoint at this place.
    pub(crate) fn of(&self, place: usize) -> Option<&Token> {
        self.by_place.get(place)
    }

    /// The place of the endpoint that a token names.
    pub(crate) fn place(&self, token: &Token) -> Option<u32> {
        self.places.get(token).copied()
    }
}

fn token(key: &hmac::Key, pool: &PoolId, endpoint: &Endpoint) -> Token {
    let mut context = hmac::Context::with_key(key);
    // Names hold no NUL, so that no two lists of names are the same octets.
    let mut add = |part: &[u8]| {
        context.update(part);
        context.update(b"\0");
    };
    add(b"sekisho affinity 1");
    add(pool.service.namespace.as_bytes());
    add(pool.service.name.as_bytes());
    match &endpoint.pod {
        Some(pod) => {
            add(b"pod");
            add(pod.namespace.as_bytes());
            add(pod.name.as_bytes());
        }
        None => {
            add(b"address");
            add(endpoint.address.to_string().as_bytes());
        }
    }
    let tag = context.sign();
    let mut token = [0; LENGTH];
    let octets = tag.as_ref().get(..OCTETS).unwrap_or_default();
    // The length is that of 16 octets without padding.
    let _ = URL_SAFE_NO_PAD.encode_slice(octets, &mut token);
    token
}

/// Reads what a cookie holds; `None`: none of ours.
pub(crate) fn read(value: &[u8]) -> Option<Token> {
    value.try_into().ok()
}

/// `Set-Cookie` for a token. `secure`: the client speaks TLS.
pub(crate) fn set_cookie(affinity: &Affinity, token: &Token, secure: bool) -> Option<HeaderValue> {
    let mut text = format!("{}={}; Path=/", affinity.name, std::str::from_utf8(token).ok()?);
    if let Some(age) = affinity.max_age {
        text.push_str(&format!(
            "; Max-Age={}",
            age.max(Duration::from_secs(1)).as_secs()
        ));
    }
    match affinity.same_site {
        Some(SameSite::None) => text.push_str("; SameSite=None"),
        Some(SameSite::Lax) => text.push_str("; SameSite=Lax"),
        Some(SameSite::Strict) => text.push_str("; SameSite=Strict"),
        None => {}
    }
    if affinity.secure.unwrap_or(secure) {
        text.push_str("; Secure");
    }
    if affinity.http_only {
        text.push_str("; HttpOnly");
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use sekisho_config::model::{Condition, ObjectName};

    use super::*;

    fn endpoint(pod: Option<&str>, address: &str) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            pod: pod.map(|pod| ObjectName::new("ns", pod)),
            node: None,
            condition: Condition::Ready,
            weight: NonZeroU8::MIN,
        }
    }

    fn tokens(key: &str, service: &str, endpoints: &[Endpoint]) -> Tokens {
        let pool = PoolId {
            service: ObjectName::new("ns", service),
            port: 80,
        };
        Tokens::compile(&Secret::new(key.as_bytes()), &pool, endpoints)
    }

    /// The same in every version and on every box: a change here sends all clients elsewhere.
    #[test]
    fn a_token_is_fixed_by_key_and_names() {
        let one = endpoint(Some("web-0"), "10.0.0.1:80");
        let moved = endpoint(Some("web-0"), "10.9.9.9:81");
        let bare = endpoint(None, "10.0.0.1:80");
        let base = tokens("key", "web", &[one.clone(), bare]);
        assert_eq!(base.of(0), tokens("key", "web", &[moved]).of(0));
        assert_eq!(base.of(0).map(|token| base.place(token)), Some(Some(0)));
        assert_eq!(base.of(1).map(|token| base.place(token)), Some(Some(1)));
        assert_eq!(base.of(2), None);
        for other in [
            tokens("yek", "web", std::slice::from_ref(&one)),
            tokens("key", "shop", &[one]),
        ] {
            assert_ne!(base.of(0), other.of(0));
            assert_eq!(base.place(other.of(0).unwrap()), None);
        }
        let text = std::str::from_utf8(base.of(0).unwrap()).unwrap();
        assert!(
            text.bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)),
            "{text}"
        );
    }

    #[test]
    fn cookies() {
        let token = *b"0123456789abcdefghijkl";
        let base = Affinity::default();
        for (affinity, secure, want) in [
            (
                base.clone(),
                false,
                "sekisho=0123456789abcdefghijkl; Path=/; HttpOnly",
            ),
            (
                base.clone(),
                true,
                "sekisho=0123456789abcdefghijkl; Path=/; Secure; HttpOnly",
            ),
            (
                Affinity {
                    name: "to".into(),
                    max_age: Some(Duration::from_mins(1)),
                    same_site: Some(SameSite::Lax),
                    secure: Some(false),
                    http_only: false,
                    change_on_failure: true,
                },
                true,
                "to=0123456789abcdefghijkl; Path=/; Max-Age=60; SameSite=Lax",
            ),
        ] {
            assert_eq!(set_cookie(&affinity, &token, secure).unwrap(), want);
        }
        assert_eq!(read(&token), Some(token));
        assert!(read(b"").is_none() && read(b"0123456789abcdefghijklm").is_none());
    }
}
