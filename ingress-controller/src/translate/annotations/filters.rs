//! The rows that say what is done with requests and answers on their way.

use std::sync::Arc;
use std::time::Duration;

use sekisho_config::model::{FixedAnswer, HostName, Origin, PathTemplate, Prefix};

use super::named::{Named, config_map};
use super::read::{boolean, duration, lines, list, methods, number, one_of, size};
use super::{Annotation, Row, door};
use crate::text::{is_object_name, printable};
use crate::world::Kind;

const INGRESS: &[Kind] = &[Kind::Ingress];

/// Those of this file, for the table.
pub(super) static ROWS: &[&dyn Row] = &[
    &SSL_REDIRECT,
    &REDIRECT_SCHEME,
    &REDIRECT_HOST,
    &REDIRECT_PORT,
    &REDIRECT_PATH,
    &REDIRECT_STATUS,
    &MAINTENANCE,
    &MAINTENANCE_RETRY_AFTER,
    &MAINTENANCE_EXCEPT,
    &ERROR_PAGES,
    &REWRITE_PATH,
    &REWRITE_HOST,
    &REQUEST_HEADER_SET,
    &REQUEST_HEADER_ADD,
    &REQUEST_HEADER_REMOVE,
    &RESPONSE_HEADER_SET,
    &RESPONSE_HEADER_ADD,
    &RESPONSE_HEADER_REMOVE,
    &CORS_ORIGINS,
    &CORS_METHODS,
    &CORS_HEADERS,
    &CORS_EXPOSE_HEADERS,
    &CORS_CREDENTIALS,
    &CORS_MAX_AGE,
    &SPLIT,
    &CONNECT_TIMEOUT,
    &RESPONSE_TIMEOUT,
    &MAX_BODY_BYTES,
    &ALLOW_ENCODED_SLASH,
];

/// Most entries of one list.
const MOST: usize = 64;
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Name and value of a header field.
type Field = (Arc<str>, Arc<str>);

fn host(value: &str) -> Result<HostName, String> {
    value
        .parse()
        .map_err(|why: sekisho_config::model::Invalid| printable(&why.to_string()))
}

fn template(value: &str) -> Result<PathTemplate, String> {
    value
        .parse()
        .map_err(|why: sekisho_config::model::Invalid| printable(&why.to_string()))
}

fn wait(value: &str) -> Result<Duration, String> {
    duration(value, Duration::from_millis(1), LONGEST_WAIT)
}

/// The name of a header field that may be changed.
pub(super) fn field_name(name: &str) -> Result<Arc<str>, String> {
    const FRAMING: [&str; 15] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-encoding",
        "content-range",
    ];
    let lower = name.to_ascii_lowercase();
    if lower.is_empty()
        || lower.len() > 128
        || !lower
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
    {
        return Err(format!(
            "`{}` is not the name of a header field; write letters, digits and `-`",
            printable(name)
        ));
    }
    if FRAMING.contains(&lower.as_str()) {
        return Err(format!(
            "`{lower}` belongs to the connection or to the body and cannot be changed; leave it out"
        ));
    }
    Ok(lower.into())
}

fn bounded<T>(entries: Vec<T>) -> Result<Vec<T>, String> {
    if entries.is_empty() || entries.len() > MOST {
        return Err(format!(
            "it holds {} entries; write from 1 to {MOST}",
            entries.len()
        ));
    }
    Ok(entries)
}

fn names(value: &str) -> Result<Vec<Arc<str>>, String> {
    bounded(list(value).map(field_name).collect::<Result<_, _>>()?)
}

fn fields(value: &str) -> Result<Vec<Field>, String> {
    let field = |line: &str| {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!(
                "`{}` is not a header field; write `Name: value`, one a line",
                printable(line)
            ));
        };
        let name = field_name(name.trim())?;
        let value = value.trim();
        if value.len() > 4096 || !value.bytes().all(|octet| (b' '..=b'~').contains(&octet)) {
            return Err(format!(
                "the value of `{name}` is too long or not printable ASCII; write at most 4096 such characters"
            ));
        }
        Ok((name, value.into()))
    };
    bounded(lines(value).map(field).collect::<Result<_, _>>()?)
}

/// Names for a CORS answer; `*` alone is all.
fn cors_names(value: &str) -> Result<Vec<Arc<str>>, String> {
    if value.trim() == "*" {
        return Ok(vec!["*".into()]);
    }
    let name = |name: &str| {
        let good = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        if !name.is_empty() && name.len() <= 128 && name.bytes().all(good) {
            Ok(name.into())
        } else {
            Err(format!(
                "`{}` is not the name of a header field; write letters, digits and `-`",
                printable(name)
            ))
        }
    };
    bounded(list(value).map(name).collect::<Result<_, _>>()?)
}

/// `status text`, for a final status.
fn fixed(value: &str) -> Result<FixedAnswer, String> {
    let (status, text) = value
        .trim()
        .split_once(char::is_whitespace)
        .unwrap_or_else(|| (value.trim(), ""));
    let status = number(status, 200, 599)?;
    if text.len() > 4096 || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(
            "the text is longer than 4096 octets or holds control characters; write plain text".to_owned(),
        );
    }
    Ok(FixedAnswer {
        status: u16::try_from(status).unwrap_or(503),
        text: text.trim().into(),
        retry_after: None,
        except: Vec::new(),
    })
}

/// `service=percent`, by commas.
fn shares(value: &str) -> Result<Vec<(Arc<str>, u16)>, String> {
    let mut seen: Vec<(Arc<str>, u16)> = Vec::new();
    let mut sum = 0;
    for entry in list(value) {
        let (name, percent) = entry.split_once('=').unwrap_or((entry, ""));
        let name = name.trim();
        if !is_object_name(name, 253) {
            return Err(format!(
                "`{}` is not the name of a Service; write service=percent, by commas",
                printable(name)
            ));
        }
        let percent = u16::try_from(number(percent.trim().trim_end_matches('%'), 0, 100)?).unwrap_or(0);
        sum += percent;
        if seen.iter().any(|(other, _)| **other == *name) {
            return Err(format!("`{name}` stands there twice; write each Service once"));
        }
        seen.push((name.into(), percent));
        if seen.len() > 16 || sum > 100 {
            return Err("it names more than 16 Services or more than 100 percent; write less".to_owned());
        }
    }
    bounded(seen)
}

pub(in crate::translate) static SSL_REDIRECT: Annotation<bool> = Annotation {
    name: "sekisho.io/ssl-redirect",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"` (default)",
    does: "requests in the clear are sent to `https://` (308)",
    read: boolean,
};

pub(in crate::translate) static REDIRECT_SCHEME: Annotation<&'static str> = Annotation {
    name: "sekisho.io/redirect-scheme",
    on: INGRESS,
    values: "`http`, `https`",
    does: "requests are redirected, see [redirects](routing.md#redirects)",
    read: |value| one_of(value, &[("http", "http"), ("https", "https")]),
};

pub(in crate::translate) static REDIRECT_HOST: Annotation<HostName> = Annotation {
    name: "sekisho.io/redirect-host",
    on: INGRESS,
    values: "a host name",
    does: "the same",
    read: host,
};

pub(in crate::translate) static REDIRECT_PORT: Annotation<u16> = Annotation {
    name: "sekisho.io/redirect-port",
    on: INGRESS,
    values: "a port",
    does: "the same",
    read: |value| number(value, 1, 65535).map(|port| u16::try_from(port).unwrap_or(u16::MAX)),
};

pub(in crate::translate) static REDIRECT_PATH: Annotation<PathTemplate> = Annotation {
    name: "sekisho.io/redirect-path",
    on: INGRESS,
    values: "a path, as `rewrite-path`",
    does: "the same",
    read: template,
};

pub(in crate::translate) static REDIRECT_STATUS: Annotation<u16> = Annotation {
    name: "sekisho.io/redirect-status",
    on: INGRESS,
    values: "`301`, `302` (default), `303`, `307`, `308`",
    does: "status of the redirect",
    read: |value| {
        one_of(
            value,
            &[
                ("301", 301),
                ("302", 302),
                ("303", 303),
                ("307", 307),
                ("308", 308),
            ],
        )
    },
};

pub(in crate::translate) static MAINTENANCE: Annotation<FixedAnswer> = Annotation {
    name: "sekisho.io/maintenance",
    on: INGRESS,
    values: "a status from 200 to 599 and a text: `503 Back at noon`",
    does: "the box answers so itself, see [maintenance](routing.md#maintenance)",
    read: fixed,
};

pub(in crate::translate) static MAINTENANCE_RETRY_AFTER: Annotation<Duration> = Annotation {
    name: "sekisho.io/maintenance-retry-after",
    on: INGRESS,
    values: "a time from `1s`: `10m`",
    does: "`Retry-After` of that answer",
    read: |value| duration(value, Duration::from_secs(1), LONGEST_WAIT),
};

pub(in crate::translate) static MAINTENANCE_EXCEPT: Annotation<Vec<Prefix>> = Annotation {
    name: "sekisho.io/maintenance-except",
    on: INGRESS,
    values: "networks, by commas: `10.0.0.0/8`",
    does: "clients from there are served as ever",
    read: door::networks,
};

pub(in crate::translate) static ERROR_PAGES: Annotation<Named> = Annotation {
    name: "sekisho.io/error-pages",
    on: INGRESS,
    values: "name of a ConfigMap in the namespace of the Ingress",
    does: "[pages](routing.md#error-pages) for errors that the box itself answers",
    read: config_map,
};

pub(in crate::translate) static REWRITE_PATH: Annotation<PathTemplate> = Annotation {
    name: "sekisho.io/rewrite-path",
    on: INGRESS,
    values: "a path: `/`, `/v2`, `/$1`",
    does: "the path that the Service sees, see [rewriting](routing.md#rewriting)",
    read: template,
};

pub(in crate::translate) static REWRITE_HOST: Annotation<HostName> = Annotation {
    name: "sekisho.io/rewrite-host",
    on: INGRESS,
    values: "a host name",
    does: "the `Host` that the Service sees",
    read: host,
};

pub(in crate::translate) static REQUEST_HEADER_SET: Annotation<Vec<Field>> = Annotation {
    name: "sekisho.io/request-header-set",
    on: INGRESS,
    values: "`Name: value`, one a line",
    does: "header fields of requests, in the place of those that are there",
    read: fields,
};

pub(in crate::translate) static REQUEST_HEADER_ADD: Annotation<Vec<Field>> = Annotation {
    name: "sekisho.io/request-header-add",
    on: INGRESS,
    values: "the same",
    does: "the same, beside those that are there",
    read: fields,
};

pub(in crate::translate) static REQUEST_HEADER_REMOVE: Annotation<Vec<Arc<str>>> = Annotation {
    name: "sekisho.io/request-header-remove",
    on: INGRESS,
    values: "names, by commas",
    does: "header fields that are taken out of requests",
    read: names,
};

pub(in crate::translate) static RESPONSE_HEADER_SET: Annotation<Vec<Field>> = Annotation {
    name: "sekisho.io/response-header-set",
    on: INGRESS,
    values: "`Name: value`, one a line",
    does: "the same for answers, also for those of the box itself",
    read: fields,
};

pub(in crate::translate) static RESPONSE_HEADER_ADD: Annotation<Vec<Field>> = Annotation {
    name: "sekisho.io/response-header-add",
    on: INGRESS,
    values: "the same",
    does: "the same",
    read: fields,
};

pub(in crate::translate) static RESPONSE_HEADER_REMOVE: Annotation<Vec<Arc<str>>> = Annotation {
    name: "sekisho.io/response-header-remove",
    on: INGRESS,
    values: "names, by commas",
    does: "the same",
    read: names,
};

pub(in crate::translate) static CORS_ORIGINS: Annotation<Vec<Origin>> = Annotation {
    name: "sekisho.io/cors-origins",
    on: INGRESS,
    values: "origins, by commas: `https://shop.example.com`, `https://*.example.com`, `*`",
    does: "[cross-origin requests](routing.md#cross-origin-requests) are answered by the box",
    read: |value| {
        let origin = |text: &str| {
            text.parse()
                .map_err(|why: sekisho_config::model::Invalid| printable(&why.to_string()))
        };
        bounded(list(value).map(origin).collect::<Result<_, _>>()?)
    },
};

pub(in crate::translate) static CORS_METHODS: Annotation<Vec<Arc<str>>> = Annotation {
    name: "sekisho.io/cors-methods",
    on: INGRESS,
    values: "methods, by commas",
    does: "methods beside GET, HEAD and POST; by default PUT, PATCH and DELETE",
    read: |value| methods(value).map(|methods| methods.into_iter().collect()),
};

pub(in crate::translate) static CORS_HEADERS: Annotation<Vec<Arc<str>>> = Annotation {
    name: "sekisho.io/cors-headers",
    on: INGRESS,
    values: "names, by commas, or `*`",
    does: "request headers that scripts may send; by default those that browsers allow anyway",
    read: cors_names,
};

pub(in crate::translate) static CORS_EXPOSE_HEADERS: Annotation<Vec<Arc<str>>> = Annotation {
    name: "sekisho.io/cors-expose-headers",
    on: INGRESS,
    values: "the same",
    does: "headers of answers that scripts may read",
    read: cors_names,
};

pub(in crate::translate) static CORS_CREDENTIALS: Annotation<bool> = Annotation {
    name: "sekisho.io/cors-credentials",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"` (default)",
    does: "whether cookies may be sent along; never with the origin `*`",
    read: boolean,
};

pub(in crate::translate) static CORS_MAX_AGE: Annotation<Duration> = Annotation {
    name: "sekisho.io/cors-max-age",
    on: INGRESS,
    values: "a time: `10m`",
    does: "how long a browser may remember the answer to a preflight",
    read: |value| duration(value, Duration::ZERO, LONGEST_WAIT),
};

pub(in crate::translate) static SPLIT: Annotation<Vec<(Arc<str>, u16)>> = Annotation {
    name: "sekisho.io/split",
    on: INGRESS,
    values: "`service=percent`, by commas: `web-v2=20`",
    does: "so much of the requests goes to other Services of the namespace, at the port that the path names; the rest to that of the path",
    read: shares,
};

pub(in crate::translate) static CONNECT_TIMEOUT: Annotation<Duration> = Annotation {
    name: "sekisho.io/connect-timeout",
    on: INGRESS,
    values: "a time",
    does: "for one connection to a pod, instead of `timeouts.connect`",
    read: wait,
};

pub(in crate::translate) static RESPONSE_TIMEOUT: Annotation<Duration> = Annotation {
    name: "sekisho.io/response-timeout",
    on: INGRESS,
    values: "a time",
    does: "for the first octet of an answer, and between two reads of it, instead of `timeouts.response_read`",
    read: wait,
};

pub(in crate::translate) static MAX_BODY_BYTES: Annotation<u64> = Annotation {
    name: "sekisho.io/max-body-bytes",
    on: INGRESS,
    values: "a size: `8m`",
    does: "the largest body of a request, instead of `http.max_body_bytes`; a larger one is refused (413); `0` for any size",
    read: size,
};

pub(in crate::translate) static ALLOW_ENCODED_SLASH: Annotation<bool> = Annotation {
    name: "sekisho.io/allow-encoded-slash",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"` (default)",
    does: "paths with `%2F` are let through as they are, see [encoded slashes](routing.md#encoded-slashes)",
    read: boolean,
};
