//! The rows that say who may come in, and how often. One that cannot be read closes the paths of its Ingress.

use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{LimitBy, Prefix};

use super::filters::field_name;
use super::read::{duration, list, number};
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
    &AUTH_URL,
    &AUTH_TIMEOUT,
    &AUTH_RESPONSE_HEADERS,
];

/// Most networks of one list.
const MOST: usize = 1000;

fn networks(value: &str) -> Result<Vec<Prefix>, String> {
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
