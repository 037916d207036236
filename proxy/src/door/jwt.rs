//! Tokens that say who a client is (RFC 7519), signed by a key of a set (RFC 7517).
//!
//! A key is used with the algorithms of its own kind only, and never with a shared secret: neither `none` nor a public key
//! taken for a secret passes (RFC 8725 section 3.1). What a token says in `jku`, `jwk` or `x5u` is not looked at.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use sekisho_config::model::Jwt;
use serde_json::{Map, Value};

use crate::fields::Fields;
use crate::fields::names::AUTHORIZATION;

/// Octets of a token at most.
const LONGEST: usize = 16 * 1024;
/// Keys that are tried on a token that does not say which one it is signed by.
const MOST_KEYS: usize = 8;

/// Which tokens are believed.
#[derive(Debug)]
pub(crate) struct Compiled {
    keys: Vec<Key>,
    claims: Vec<(String, HeaderName)>,
}

struct Key {
    id: Option<String>,
    key: DecodingKey,
    /// With the algorithms of this key.
    validation: Validation,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A token is missing, or is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotBelieved;

/// The algorithms that a key may be used with.
fn algorithms(jwk: &Jwk) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let own = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => vec![RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![ES256],
            EllipticCurve::P384 => vec![ES384],
            _ => vec![],
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![EdDSA],
        _ => vec![],
    };
    match &jwk.common.key_algorithm {
        None => own,
        Some(only) => own
            .into_iter()
            .filter(|algorithm| {
                only.to_string()
                    .parse::<Algorithm>()
                    .is_ok_and(|only| only == *algorithm)
            })
            .collect(),
    }
}

impl Compiled {
    /// Keys that cannot be used are left out; without any, no token is believed.
    pub(super) fn compile(jwt: &Jwt) -> Self {
        let set: Vec<Value> = serde_json::from_str::<Map<String, Value>>(&jwt.keys)
            .ok()
            .and_then(|mut set| set.remove("keys"))
            .and_then(|keys| serde_json::from_value(keys).ok())
            .unwrap_or_default();
        let set = JwkSet {
            // One key that is of no known kind does not spoil the others.
            keys: set
                .into_iter()
                .filter_map(|key| serde_json::from_value(key).ok())
                .collect(),
        };
        let keys = set
            .keys
            .iter()
            .filter(|jwk| !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)))
            .filter_map(|jwk| {
                let algorithms = algorithms(jwk);
                let first = *algorithms.first()?;
                let mut validation = Validation::new(first);
                validation.algorithms = algorithms;
                validation.leeway = jwt.leeway.as_secs();
                validation.validate_nbf = true;
                validation.validate_aud = !jwt.audiences.is_empty();
                let mut required: HashSet<String> = ["exp".to_owned()].into();
                if let Some(issuer) = &jwt.issuer {
                    validation.set_issuer(&[issuer]);
                    required.insert("iss".to_owned());
                }
                if !jwt.audiences.is_empty() {
                    validation.set_audience(&jwt.audiences);
                    required.insert("aud".to_owned());
                }
                validation.required_spec_claims = required;
                Some(Key {
                    id: jwk.common.key_id.clone(),
                    key: DecodingKey::from_jwk(jwk).ok()?,
                    validation,
                })
            })
            .collect();
        Self {
            keys,
            claims: jwt
                .claims
                .iter()
                .filter_map(|(claim, header)| {
                    let name = HeaderName::from_bytes(header.as_bytes()).ok()?;
                    Some((claim.to_string(), name))
                })
                .collect(),
        }
    }

    /// Judges the token of a request; the fields that go on with it, and with which those of the client are replaced.
    pub(crate) fn check(&self, headers: &Fields) -> Result<Fields, NotBelieved> {
        let token = bearer(headers).ok_or(NotBelieved)?;
        let head = decode_header(token).map_err(|_| NotBelieved)?;
        // An extension that has to be understood, and is not (RFC 7515 section 4.1.11).
        if head.crit.is_some() {
            return Err(NotBelieved);
        }
        let claims = self
            .keys
            .iter()
            .filter(|key| key.validation.algorithms.contains(&head.alg))
            .filter(|key| head.kid.is_none() || key.id.is_none() || key.id == head.kid)
            .take(MOST_KEYS)
            .find_map(|key| decode::<Map<String, Value>>(token, &key.key, &key.validation).ok())
            .ok_or(NotBelieved)?
            .claims;
        let mut fields = Fields::new();
        for (claim, name) in &self.claims {
            if let Some(value) = claims.get(claim).and_then(text) {
                fields.insert(name, value);
            }
        }
        Ok(fields)
    }

    /// The fields that a client must not set by itself.
    pub(crate) fn owned(&self) -> impl Iterator<Item = &HeaderName> {
        self.claims.iter().map(|(_, name)| name)
    }
}

/// The token of exactly one `Authorization: Bearer`.
fn bearer(headers: &Fields) -> Option<&str> {
    let mut fields = headers.get_all(AUTHORIZATION);
    let field = fields.next()?.to_str().ok()?;
    if fields.next().is_some() || field.len() > LONGEST {
        return None;
    }
    let (scheme, token) = field.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A claim as the value of a header field: a text, a number, a truth value, or a list of them.
fn text(claim: &Value) -> Option<HeaderValue> {
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let text = match claim {
        Value::Array(list) => list.iter().map(plain).collect::<Option<Vec<_>>>()?.join(","),
        other => plain(other)?,
    };
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    struct Signer {
        algorithm: Algorithm,
        key: EncodingKey,
        public: Value,
    }

    fn signer(algorithm: Algorithm, key: EncodingKey, id: &str) -> Signer {
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        public["kid"] = id.into();
        Signer {
            algorithm,
            key,
            public,
        }
    }

    fn ec(id: &str) -> Signer {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        signer(Algorithm::ES256, EncodingKey::from_ec_der(der.as_ref()), id)
    }

    fn now() -> u64 {
        jsonwebtoken::get_current_timestamp()
    }

    fn good() -> Value {
        json!({"iss": "https://id.test", "aud": ["shop", "other"], "sub": "ann", "groups": ["a", "b"], "exp": now() + 60})
    }

    fn with(change: impl FnOnce(&mut Map<String, Value>)) -> Value {
        let mut claims = good();
        change(claims.as_object_mut().unwrap());
        claims
    }

    fn compiled(keys: &[&Value]) -> Compiled {
        Compiled::compile(&Jwt {
            keys: json!({ "keys": keys }).to_string().into(),
            issuer: Some("https://id.test".into()),
            audiences: vec!["shop".into()],
            leeway: Duration::from_secs(5),
            claims: vec![
                ("sub".into(), "x-user".into()),
                ("groups".into(), "x-groups".into()),
            ],
        })
    }

    fn token(signer: &Signer, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(signer.algorithm);
        header.kid = id.map(str::to_owned);
        encode(&header, claims, &signer.key).unwrap()
    }

    fn ask(compiled: &Compiled, token: &str) -> Result<Fields, NotBelieved> {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        compiled.check(&[(AUTHORIZATION, value)].into_iter().collect())
    }

    #[test]
    fn keys_of_every_kind() {
        let rsa = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa).unwrap();
        // What is inside of PKCS #8 for a key of 2048 bits.
        let pkcs1 = &rsa.as_ref()[26..];
        let pair = Ed25519KeyPair::generate().unwrap();
        let ed = Signer {
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()),
            public: json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
            }),
        };
        for signer in [
            ec("one"),
            ed,
            signer(Algorithm::RS256, EncodingKey::from_rsa_der(pkcs1), "three"),
            signer(Algorithm::PS384, EncodingKey::from_rsa_der(pkcs1), "four"),
        ] {
            let compiled = compiled(&[&signer.public]);
            let fields = ask(&compiled, &token(&signer, None, &good())).unwrap();
            assert_eq!(fields.get("x-user").unwrap(), "ann", "{:?}", signer.algorithm);
            assert_eq!(fields.get("x-groups").unwrap(), "a,b");
        }
    }

    #[test]
    fn what_is_not_believed() {
        let (signer, stranger) = (ec("one"), ec("one"));
        let compiled = compiled(&[&signer.public, &json!({"kty": "mystery"}), &ec("two").public]);
        assert!(ask(&compiled, &token(&signer, Some("one"), &good())).is_ok());
        for (why, claims) in [
            (
                "expired",
                with(|claims| drop(claims.insert("exp".into(), (now() - 60).into()))),
            ),
            ("no end", with(|claims| drop(claims.remove("exp")))),
            (
                "not yet",
                with(|claims| drop(claims.insert("nbf".into(), (now() + 60).into()))),
            ),
            (
                "issuer",
                with(|claims| drop(claims.insert("iss".into(), "https://evil.test".into()))),
            ),
            ("no issuer", with(|claims| drop(claims.remove("iss")))),
            (
                "audience",
                with(|claims| drop(claims.insert("aud".into(), "other".into()))),
            ),
            ("no audience", with(|claims| drop(claims.remove("aud")))),
        ] {
            assert!(ask(&compiled, &token(&signer, None, &claims)).is_err(), "{why}");
        }
        let late = with(|claims| drop(claims.insert("exp".into(), (now() - 2).into())));
        assert!(
            ask(&compiled, &token(&signer, None, &late)).is_ok(),
            "within the leeway"
        );
        for (why, text) in [
            ("another key", token(&stranger, Some("one"), &good())),
            ("another key's name", token(&signer, Some("two"), &good())),
            ("empty", String::new()),
            ("nonsense", "a.b.c".to_owned()),
            ("none", {
                let good = token(&signer, None, &good());
                let claims = good.split('.').nth(1).unwrap();
                // {"alg":"none"}
                format!("eyJhbGciOiJub25lIn0.{claims}.")
            }),
            ("a public key as a secret", {
                let secret = EncodingKey::from_secret(signer.public["x"].as_str().unwrap().as_bytes());
                encode(&Header::new(Algorithm::HS256), &good(), &secret).unwrap()
            }),
            ("a critical extension", {
                let mut header = Header::new(Algorithm::ES256);
                header.crit = Some(vec!["x".into()]);
                encode(&header, &good(), &signer.key).unwrap()
            }),
            ("changed", {
                let mut text = token(&signer, None, &good()).into_bytes();
                let middle = text.iter().position(|octet| *octet == b'.').unwrap() + 10;
                text[middle] ^= 1;
                String::from_utf8(text).unwrap()
            }),
        ] {
            assert!(ask(&compiled, &text).is_err(), "{why}");
        }
        let twice: Fields =
            std::iter::repeat_n(token(&signer, None, &good()), 2).fold(Fields::new(), |mut map, token| {
                map.append(
                    AUTHORIZATION,
                    HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
                );
                map
            });
        assert!(compiled.check(&twice).is_err());
        assert!(compiled.check(&Fields::new()).is_err());
    }

    #[test]
    fn a_secret_in_the_set_is_no_key() {
        let secret = EncodingKey::from_secret(b"secret");
        let public = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"});
        let text = encode(&Header::new(Algorithm::HS256), &good(), &secret).unwrap();
        assert!(ask(&compiled(&[&public]), &text).is_err());
    }
}
