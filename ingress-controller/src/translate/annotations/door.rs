//! The rows that say who may come in, and how often. One that cannot be read closes the paths of its Ingress.

use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{LimitBy, Prefix, is_https_url};

use super::filters::field_name;
use super::named::{Named, config_map, secret};
use super::read::{boolean, duration, list, number, one_of};
use super::{Annotation, Row};
use crate::text::{is_object_name, printable};
use crate::world::Kind;

const INGRESS: &[Kind] = &[Kind::Ingress];

/// Those of this file, for the table.
pub(super) static ROWS: &[&dyn Row] = &[
    &ALLOW_NETWORKS,
    &DENY_NETWORKS,
    &RATE_LIMIT,
    &RATE_LIMIT_BURST,
    &CONCURRENT_REQUESTS,
    &LIMIT_BY,
    &CLIENT_CA_SECRET,
    &CLIENT_VERIFY,
    &CLIENT_VERIFY_DEPTH,
    &CLIENT_CERT_FORWARD,
    &AUTH_BASIC_SECRET,
    &AUTH_BASIC_REALM,
    &AUTH_BASIC_STRIP,
    &AUTH_BASIC_USER_HEADER,
    &JWT_JWKS,
    &JWT_JWKS_SECRET,
    &JWT_JWKS_CONFIG_MAP,
    &JWT_JWKS_URL,
    &JWT_ISSUER,
    &JWT_AUDIENCES,
    &JWT_LEEWAY,
    &JWT_CLAIM_HEADERS,
    &AUTH_URL,
    &AUTH_TIMEOUT,
    &AUTH_RESPONSE_HEADERS,
];

/// Most networks of one list.
const MOST: usize = 1000;

pub(super) fn networks(value: &str) -> Result<Vec<Prefix>, String> {
    let network = |text: &str| {
        let host = text.parse().map(Prefix::host);
        host.or_else(|_| text.parse::<Prefix>()).map_err(|_| {
            format!(
                "`{}` is not a network; write addresses or networks without host bits, for example 10.0.0.0/8",
                printable(text)
            )
        })
    };
    let networks: Vec<Prefix> = list(value).map(network).collect::<Result<_, _>>()?;
    if networks.is_empty() || networks.len() > MOST {
        return Err(format!(
            "it holds {} networks; write from 1 to {MOST}",
            networks.len()
        ));
    }
    Ok(networks)
}

/// `10/s`, `600/m`, `1000/h`.
fn rate(value: &str) -> Result<(u32, Duration), String> {
    let (requests, unit) = value.split_once('/').unwrap_or((value, ""));
    let per = match unit {
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => {
            return Err(format!(
                "`{}` is not a rate; write a number of requests and s, m or h, for example 10/s",
                printable(value)
            ));
        }
    };
    Ok((small(requests)?, per))
}

fn small(value: &str) -> Result<u32, String> {
    number(value, 1, 1_000_000).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn by(value: &str) -> Result<LimitBy, String> {
    match value.split_once(' ') {
        None if value == "address" => Ok(LimitBy::Address),
        None if value == "ingress" => Ok(LimitBy::Ingress),
        Some(("header", name)) => field_name(name.trim()).map(LimitBy::Header),
        _ => Err(format!(
            "`{}` is not known; write address, ingress or `header NAME`",
            printable(value)
        )),
    }
}

/// A Service of the namespace, its port, and what is asked for there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::translate) struct AuthUrl {
    pub(in crate::translate) service: Arc<str>,
    pub(in crate::translate) port: u16,
    pub(in crate::translate) host: Arc<str>,
    pub(in crate::translate) path: Arc<str>,
}

fn auth_url(value: &str) -> Result<AuthUrl, String> {
    let bad = || {
        format!(
            "`{}` is not such a URL; write http://SERVICE:PORT/PATH with a Service of this namespace",
            printable(value)
        )
    };
    let rest = value.strip_prefix("http://").ok_or_else(bad)?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (service, port) = match authority.split_once(':') {
        Some((service, port)) => (
            service,
            port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?,
        ),
        None => (authority, 80),
    };
    let plain = path.len() <= 2048
        && path
            .bytes()
            .all(|octet| (b'!'..=b'~').contains(&octet) && octet != b'#');
    if !is_object_name(service, 63) || service.contains('.') || !plain {
        return Err(bad());
    }
    Ok(AuthUrl {
        service: service.into(),
        port,
        host: authority.into(),
        path: path.into(),
    })
}

pub(in crate::translate) static ALLOW_NETWORKS: Annotation<Vec<Prefix>> = Annotation {
    name: "sekisho.io/allow-networks",
    on: INGRESS,
    values: "networks, by commas: `10.0.0.0/8, 2001:db8::/32`",
    does: "only clients from there come in; others get 403, see [access-control.md](access-control.md)",
    read: networks,
};

pub(in crate::translate) static DENY_NETWORKS: Annotation<Vec<Prefix>> = Annotation {
    name: "sekisho.io/deny-networks",
    on: INGRESS,
    values: "the same",
    does: "clients from there get 403; of `allow-networks` and this the longest network decides",
    read: networks,
};

pub(in crate::translate) static RATE_LIMIT: Annotation<(u32, Duration)> = Annotation {
    name: "sekisho.io/rate-limit",
    on: INGRESS,
    values: "`10/s`, `600/m`, `1000/h`",
    does: "so many requests of each client; more get 429",
    read: rate,
};

pub(in crate::translate) static RATE_LIMIT_BURST: Annotation<u32> = Annotation {
    name: "sekisho.io/rate-limit-burst",
    on: INGRESS,
    values: "a number; by default that of the rate",
    does: "so many may come at once after a pause",
    read: small,
};

pub(in crate::translate) static CONCURRENT_REQUESTS: Annotation<u32> = Annotation {
    name: "sekisho.io/concurrent-requests",
    on: INGRESS,
    values: "a number",
    does: "so many requests of each client at a time; more get 429",
    read: small,
};

pub(in crate::translate) static LIMIT_BY: Annotation<LimitBy> = Annotation {
    name: "sekisho.io/limit-by",
    on: INGRESS,
    values: "`address` (default), `header NAME`, `ingress`",
    does: "who counts as one client",
    read: by,
};

pub(in crate::translate) static CLIENT_CA_SECRET: Annotation<Named> = Annotation {
    name: "sekisho.io/client-ca-secret",
    on: INGRESS,
    values: "name of a Secret of the namespace, with the key `ca.crt` and perhaps `ca.crl`",
    does: "clients of the hosts of the Ingress show a [certificate](access-control.md#certificates-of-clients) of these CAs",
    read: secret,
};

pub(in crate::translate) static CLIENT_VERIFY: Annotation<bool> = Annotation {
    name: "sekisho.io/client-verify",
    on: INGRESS,
    values: "`required` (default), `optional`",
    does: "`optional`: clients without one come in, too, and the pod is told",
    read: |value| one_of(value, &[("required", true), ("optional", false)]),
};

pub(in crate::translate) static CLIENT_VERIFY_DEPTH: Annotation<u8> = Annotation {
    name: "sekisho.io/client-verify-depth",
    on: INGRESS,
    values: "1 to 8; 3",
    does: "how many CAs may stand above a certificate, the one of the Secret included",
    read: |value| number(value, 1, 8).map(|depth| u8::try_from(depth).unwrap_or(1)),
};

pub(in crate::translate) static CLIENT_CERT_FORWARD: Annotation<bool> = Annotation {
    name: "sekisho.io/client-cert-forward",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"` (default)",
    does: "whether the certificate itself goes on, in `Client-Cert` and `Client-Cert-Chain` (RFC 9440)",
    read: boolean,
};

/// What may stand between the quotation marks of `realm`.
fn realm(value: &str) -> Result<Arc<str>, String> {
    let good = |octet: u8| (b' '..=b'~').contains(&octet) && octet != b'"' && octet != b'\\';
    if value.is_empty() || value.len() > 128 || !value.bytes().all(good) {
        return Err("it is empty, longer than 128, or holds something else than printable ASCII without \" and \\; write a short text".to_owned());
    }
    Ok(value.into())
}

pub(in crate::translate) static AUTH_BASIC_SECRET: Annotation<Named> = Annotation {
    name: "sekisho.io/auth-basic-secret",
    on: INGRESS,
    values: "name of a Secret of the namespace, with the key `auth`",
    does: "only requests with a [name and password](access-control.md#names-and-passwords) of this file of `htpasswd` come in; others get 401",
    read: secret,
};

pub(in crate::translate) static AUTH_BASIC_REALM: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/auth-basic-realm",
    on: INGRESS,
    values: "a text; by default `Restricted`",
    does: "what browsers show when they ask",
    read: realm,
};

pub(in crate::translate) static AUTH_BASIC_STRIP: Annotation<bool> = Annotation {
    name: "sekisho.io/auth-basic-strip",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"` (default)",
    does: "whether `Authorization` is taken out before the request goes on",
    read: boolean,
};

pub(in crate::translate) static AUTH_BASIC_USER_HEADER: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/auth-basic-user-header",
    on: INGRESS,
    values: "the name of a header field",
    does: "in which the name of the user goes on; what the client sends in it is taken out",
    read: field_name,
};

/// A JSON Web Key Set with public keys of the kinds that are known.
pub(in crate::translate) fn key_set(value: &str) -> Result<Arc<str>, String> {
    let keys = keys_of(value)?;
    match keys.iter().find_map(unusable) {
        Some(why) => Err(bad_key_set(why)),
        None => Ok(value.into()),
    }
}

/// The same of one that others have made: of its keys those that are known (RFC 7517 section 5).
pub(crate) fn usable_key_set(value: &str) -> Result<Arc<str>, String> {
    let (good, bad): (Vec<_>, Vec<_>) = keys_of(value)?
        .into_iter()
        .partition(|key| unusable(key).is_none());
    match bad.iter().find_map(unusable) {
        Some(why) if good.is_empty() => Err(bad_key_set(why)),
        _ => Ok(serde_json::json!({ "keys": good }).to_string().into()),
    }
}

fn bad_key_set(why: &str) -> String {
    format!("it {why}; write a JSON Web Key Set: {{\"keys\": [...]}}")
}

fn keys_of(value: &str) -> Result<Vec<serde_json::Value>, String> {
    let set: serde_json::Value = serde_json::from_str(value).map_err(|_| bad_key_set("is not JSON"))?;
    let keys = set.get("keys").and_then(serde_json::Value::as_array);
    let keys = keys.filter(|keys| (1..=64).contains(&keys.len()));
    keys.cloned()
        .ok_or_else(|| bad_key_set("holds no list of 1 to 64 keys"))
}

/// Why a key cannot be used.
fn unusable(key: &serde_json::Value) -> Option<&'static str> {
    let has = |field: &str| key.get(field).is_some_and(serde_json::Value::is_string);
    if key.get("d").is_some() || key.get("k").is_some() {
        return Some(
            "holds a private key or a secret, which everybody who may read Ingresses can see: replace that key",
        );
    }
    let whole = match key.get("kty").and_then(serde_json::Value::as_str) {
        Some("RSA") => has("n") && has("e"),
        Some("EC") => has("crv") && has("x") && has("y"),
        Some("OKP") => has("crv") && has("x"),
        _ => return Some("holds a key that is neither RSA, EC nor OKP"),
    };
    (!whole).then_some("holds a key that lacks a part")
}

/// A claim, and the field in which it goes on.
type Pair = (Arc<str>, Arc<str>);

/// `claim=Header-Name`, by commas.
fn claim_headers(value: &str) -> Result<Vec<Pair>, String> {
    let pairs: Vec<Pair> = list(value)
        .map(|pair| {
            let (claim, name) = pair.split_once('=').ok_or_else(|| {
                format!(
                    "`{}` is not such a pair; write claim=Header-Name, by commas",
                    printable(pair)
                )
            })?;
            Ok((claim.trim().into(), field_name(name.trim())?))
        })
        .collect::<Result<_, String>>()?;
    if pairs.is_empty() || pairs.len() > 32 {
        return Err("it holds none or more than 32 pairs; write claim=Header-Name, by commas".to_owned());
    }
    Ok(pairs)
}

fn plain(value: &str) -> Result<Arc<str>, String> {
    if value.is_empty() || value.len() > 1024 || value.chars().any(char::is_control) {
        return Err("it is empty, too long or holds control characters; write a text".to_owned());
    }
    Ok(value.into())
}

pub(in crate::translate) static JWT_JWKS: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/jwt-jwks",
    on: INGRESS,
    values: "a JSON Web Key Set with public keys",
    does: "only requests with a [token](access-control.md#tokens) signed by one of them come in; others get 401",
    read: key_set,
};

pub(in crate::translate) static JWT_JWKS_SECRET: Annotation<Named> = Annotation {
    name: "sekisho.io/jwt-jwks-secret",
    on: INGRESS,
    values: "name of a Secret of the namespace, with the key `jwks`",
    does: "the same, with the key set from there",
    read: secret,
};

pub(in crate::translate) static JWT_JWKS_CONFIG_MAP: Annotation<Named> = Annotation {
    name: "sekisho.io/jwt-jwks-config-map",
    on: INGRESS,
    values: "name of a ConfigMap of the namespace, with the key `jwks`",
    does: "the same",
    read: config_map,
};

pub(in crate::translate) static JWT_JWKS_URL: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/jwt-jwks-url",
    on: INGRESS,
    values: "an https URL that `key_sets.from` of the box's file allows",
    does: "the same, with the key set [fetched](access-control.md#key-sets) from there again and again",
    read: |value| {
        if is_https_url(value) {
            return Ok(value.into());
        }
        Err(format!(
            "`{}` is not an https URL; write one, for example https://id.example.com/keys",
            printable(value)
        ))
    },
};

pub(in crate::translate) static JWT_ISSUER: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/jwt-issuer",
    on: INGRESS,
    values: "a text",
    does: "what `iss` of the token has to be",
    read: plain,
};

pub(in crate::translate) static JWT_AUDIENCES: Annotation<Vec<Arc<str>>> = Annotation {
    name: "sekisho.io/jwt-audiences",
    on: INGRESS,
    values: "texts, by commas",
    does: "`aud` of the token has to hold one of them",
    read: |value| {
        let texts: Vec<Arc<str>> = list(value).map(plain).collect::<Result<_, _>>()?;
        if texts.is_empty() || texts.len() > 64 {
            return Err("it names none or more than 64; write texts, by commas".to_owned());
        }
        Ok(texts)
    },
};

pub(in crate::translate) static JWT_LEEWAY: Annotation<Duration> = Annotation {
    name: "sekisho.io/jwt-leeway",
    on: INGRESS,
    values: "a time; by default `30s`",
    does: "how far the clocks may be apart",
    read: |value| duration(value, Duration::ZERO, Duration::from_mins(10)),
};

pub(in crate::translate) static JWT_CLAIM_HEADERS: Annotation<Vec<Pair>> = Annotation {
    name: "sekisho.io/jwt-claim-headers",
    on: INGRESS,
    values: "`claim=Header-Name`, by commas",
    does: "claims that go on with the request; what the client sends in these fields is taken out",
    read: claim_headers,
};

pub(in crate::translate) static AUTH_URL: Annotation<AuthUrl> = Annotation {
    name: "sekisho.io/auth-url",
    on: INGRESS,
    values: "`http://SERVICE:PORT/PATH`",
    does: "this Service of the namespace is [asked about every request](access-control.md#asking-a-service); without a 2xx of it nothing passes",
    read: auth_url,
};

pub(in crate::translate) static AUTH_TIMEOUT: Annotation<Duration> = Annotation {
    name: "sekisho.io/auth-timeout",
    on: INGRESS,
    values: "a time; by default `5s`",
    does: "for its answer; then 503",
    read: |value| duration(value, Duration::from_millis(1), Duration::from_mins(1)),
};

pub(in crate::translate) static AUTH_RESPONSE_HEADERS: Annotation<Vec<Arc<str>>> = Annotation {
    name: "sekisho.io/auth-response-headers",
    on: INGRESS,
    values: "names, by commas",
    does: "fields of its answer that go on with the request; what the client sends in them is taken out",
    read: |value| {
        let names: Vec<Arc<str>> = list(value).map(field_name).collect::<Result<_, _>>()?;
        if names.is_empty() || names.len() > 64 {
            return Err("it names none or more than 64; write names, by commas".to_owned());
        }
        Ok(names)
    },
};
