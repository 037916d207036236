//! The rows that say how a pool is used, and what they come to together.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use sekisho_config::model::{
    Affinity, Balance, HashBy, HealthCheck, Limits, Outlier, PoolPolicy, Probe, Retry, RetryOn, SameSite,
};

use super::read::{boolean, duration, list, number, one_of};
use super::table::BALANCE;
use super::{Annotation, Row};
use crate::text::printable;
use crate::world::{Annotations, Kind};

const BOTH: &[Kind] = &[Kind::Service, Kind::Ingress];
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// The rows that make up the policy of a pool. Those of the Service count; then those of its Ingresses, the oldest first.
pub(in crate::translate) static POLICY: &[&dyn Row] = &[
    &BALANCE,
    &HASH_BY,
    &AFFINITY,
    &AFFINITY_COOKIE,
    &AFFINITY_MAX_AGE,
    &AFFINITY_SAME_SITE,
    &AFFINITY_SECURE,
    &AFFINITY_HTTP_ONLY,
    &AFFINITY_CHANGE_ON_FAILURE,
    &SLOW_START,
    &MAX_REQUESTS_PER_ENDPOINT,
    &MAX_REQUESTS,
    &MAX_PENDING,
    &PENDING_TIMEOUT,
    &HEALTH_CHECK,
    &HEALTH_CHECK_PATH,
    &HEALTH_CHECK_HOST,
    &HEALTH_CHECK_STATUS,
    &HEALTH_CHECK_SERVICE,
    &HEALTH_CHECK_PORT,
    &HEALTH_CHECK_INTERVAL,
    &HEALTH_CHECK_TIMEOUT,
    &HEALTH_CHECK_RISE,
    &HEALTH_CHECK_FALL,
    &HEALTH_CHECK_STRICT,
    &OUTLIER_ERRORS,
    &OUTLIER_EJECTION,
    &OUTLIER_MAX_PERCENT,
    &PANIC_THRESHOLD,
    &RETRIES,
    &RETRY_ON,
    &RETRY_BUDGET,
    &RETRY_BUDGET_MIN,
    &PER_TRY_TIMEOUT,
    &TOTAL_TIMEOUT,
];

/// What the annotations of a Service and its Ingresses, merged, ask of its pools.
pub(in crate::translate) fn policy(annotations: &Annotations) -> (Balance, PoolPolicy) {
    let default = PoolPolicy::default();
    let limits = Limits {
        per_endpoint: MAX_REQUESTS_PER_ENDPOINT.of(annotations),
        in_flight: MAX_REQUESTS.of(annotations),
        waiting: MAX_PENDING.of(annotations).unwrap_or(default.limits.waiting),
        wait: PENDING_TIMEOUT.of(annotations).unwrap_or(default.limits.wait),
    };
    let outlier = Outlier {
        consecutive: OUTLIER_ERRORS
            .of(annotations)
            .unwrap_or(default.outlier.consecutive),
        base: OUTLIER_EJECTION.of(annotations).unwrap_or(default.outlier.base),
        max_percent: OUTLIER_MAX_PERCENT
            .of(annotations)
            .unwrap_or(default.outlier.max_percent),
    };
    let retry = Retry {
        tries: RETRIES.of(annotations).unwrap_or(default.retry.tries),
        on: RETRY_ON.of(annotations).unwrap_or(default.retry.on),
        budget_percent: RETRY_BUDGET
            .of(annotations)
            .unwrap_or(default.retry.budget_percent),
        budget_floor: RETRY_BUDGET_MIN
            .of(annotations)
            .unwrap_or(default.retry.budget_floor),
    };
    let policy = PoolPolicy {
        affinity: affinity(annotations),
        hash_by: HASH_BY.of(annotations).unwrap_or_default(),
        slow_start: SLOW_START.of(annotations).unwrap_or_default(),
        limits,
        health_check: health_check(annotations).map(Arc::new),
        outlier,
        panic_percent: PANIC_THRESHOLD.of(annotations).unwrap_or(default.panic_percent),
        retry,
        per_try_timeout: PER_TRY_TIMEOUT.of(annotations),
        total_timeout: TOTAL_TIMEOUT.of(annotations),
    };
    (BALANCE.of(annotations).unwrap_or_default(), policy)
}

/// Stickiness by cookie, where it is asked for.
fn affinity(annotations: &Annotations) -> Option<Affinity> {
    if !AFFINITY.of(annotations)? {
        return None;
    }
    let default = Affinity::default();
    Some(Affinity {
        name: AFFINITY_COOKIE.of(annotations).unwrap_or(default.name),
        max_age: AFFINITY_MAX_AGE.of(annotations),
        same_site: AFFINITY_SAME_SITE.of(annotations),
        secure: AFFINITY_SECURE.of(annotations),
        http_only: AFFINITY_HTTP_ONLY.of(annotations).unwrap_or(default.http_only),
        change_on_failure: AFFINITY_CHANGE_ON_FAILURE
            .of(annotations)
            .unwrap_or(default.change_on_failure),
    })
}

/// The health check, where one is asked for.
fn health_check(annotations: &Annotations) -> Option<HealthCheck> {
    let default = HealthCheck::default();
    let probe = match HEALTH_CHECK.of(annotations)? {
        Asked::None => return None,
        Asked::Tcp => Probe::Tcp,
        Asked::Http => Probe::Http {
            path: HEALTH_CHECK_PATH.of(annotations).unwrap_or_else(|| "/".into()),
            host: HEALTH_CHECK_HOST.of(annotations),
            expect: HEALTH_CHECK_STATUS
                .of(annotations)
                .unwrap_or_else(|| vec![(200, 399)]),
        },
        Asked::Grpc => Probe::Grpc {
            service: HEALTH_CHECK_SERVICE.of(annotations).unwrap_or_default(),
        },
    };
    let interval = HEALTH_CHECK_INTERVAL.of(annotations).unwrap_or(default.interval);
    Some(HealthCheck {
        probe,
        port: HEALTH_CHECK_PORT.of(annotations),
        interval,
        timeout: HEALTH_CHECK_TIMEOUT.of(annotations).unwrap_or(default.timeout),
        rise: HEALTH_CHECK_RISE.of(annotations).unwrap_or(default.rise),
        fall: HEALTH_CHECK_FALL.of(annotations).unwrap_or(default.fall),
        strict: HEALTH_CHECK_STRICT.of(annotations).unwrap_or(default.strict),
    })
}

/// What `sekisho.io/health-check` asks for.
#[derive(Clone, Copy)]
pub(in crate::translate) enum Asked {
    None,
    Tcp,
    Http,
    Grpc,
}

/// Printable ASCII without spaces, at most `most` octets.
fn visible(value: &str, most: usize) -> Option<&str> {
    (!value.is_empty() && value.len() <= most && value.bytes().all(|octet| octet.is_ascii_graphic()))
        .then_some(value)
}

/// Statuses and ranges of them.
fn statuses(value: &str) -> Result<Vec<(u16, u16)>, String> {
    let status = |text: &str| text.parse().ok().filter(|status| (100..600).contains(status));
    let ranges: Option<Vec<(u16, u16)>> = list(value)
        .map(|entry| match entry.split_once('-') {
            Some((first, last)) => {
                Some((status(first)?, status(last)?)).filter(|(first, last)| first <= last)
            }
            None => status(entry).map(|status| (status, status)),
        })
        .collect();
    ranges.filter(|ranges| !ranges.is_empty()).ok_or_else(|| {
        format!(
            "`{}` is no list of statuses; write for example 200-299,401",
            printable(value)
        )
    })
}

/// A number within bounds that fits the type.
fn small<T: TryFrom<u64>>(value: &str, least: u64, most: u64) -> Result<T, String> {
    T::try_from(number(value, least, most)?).map_err(|_| format!("is too large; write at most {most}"))
}

fn hash_by(value: &str) -> Result<HashBy, String> {
    let (kind, name) = match value.split_once(':') {
        Some((kind, name)) => (kind, Some(name)),
        None => (value, None),
    };
    let token = |name: &str| HeaderName::try_from(name).is_ok();
    match (kind, name) {
        ("address", None) => Ok(HashBy::Address),
        ("path", None) => Ok(HashBy::Path),
        ("header", Some(name)) if token(name) => Ok(HashBy::Header(name.to_ascii_lowercase().into())),
        ("cookie", Some(name)) if token(name) => Ok(HashBy::Cookie(name.into())),
        ("query", Some(name)) if !name.is_empty() && !name.contains(['&', '=', '#']) => {
            Ok(HashBy::Query(name.into()))
        }
        _ => Err(format!(
            "`{}` is not known; write address, path, header:NAME, cookie:NAME or query:NAME",
            printable(value)
        )),
    }
}

fn retry_on(value: &str) -> Result<RetryOn, String> {
    let mut on = RetryOn::NEVER;
    let mut words = 0;
    for word in list(value) {
        words += 1;
        match word {
            "never" => {}
            "connect" => on.connect = true,
            "reset" => on.reset = true,
            "timeout" => on.timeout = true,
            "502" => on.bad_gateway = true,
            "503" => on.unavailable = true,
            "504" => on.gateway_timeout = true,
            "5xx" => {
                on.bad_gateway = true;
                on.unavailable = true;
                on.gateway_timeout = true;
            }
            other => {
                return Err(format!(
                    "`{}` is not known; write a list of connect, reset, timeout, 502, 503, 504 and 5xx, or never",
                    printable(other)
                ));
            }
        }
    }
    if words == 0 {
        return Err(
            "is empty; write a list of connect, reset, timeout, 502, 503, 504 and 5xx, or never".into(),
        );
    }
    Ok(on)
}

pub(in crate::translate) static HASH_BY: Annotation<HashBy> = Annotation {
    name: "sekisho.io/hash-by",
    on: BOTH,
    values: "`address` (default), `path`, `header:NAME`, `cookie:NAME`, `query:NAME`",
    does: "what stands for a client with `balance: consistent_hash`; a request without it goes by least request",
    read: hash_by,
};

pub(in crate::translate) static AFFINITY: Annotation<bool> = Annotation {
    name: "sekisho.io/affinity",
    on: BOTH,
    values: "`none` (default), `cookie`",
    does: "whether a client [stays with a pod](balancing.md#clients-that-stay-with-a-pod)",
    read: |value| one_of(value, &[("none", false), ("cookie", true)]),
};

pub(in crate::translate) static AFFINITY_COOKIE: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/affinity-cookie",
    on: BOTH,
    values: "name; `sekisho`",
    does: "name of the cookie",
    read: |value| {
        // A cookie's name is a token, as a field's name is (RFC 6265 section 4.1.1).
        if value.len() <= 64 && HeaderName::try_from(value).is_ok() {
            Ok(value.into())
        } else {
            Err(format!(
                "`{}` is no name of a cookie; write letters, digits, `-` and `_`",
                printable(value)
            ))
        }
    },
};

pub(in crate::translate) static AFFINITY_MAX_AGE: Annotation<Duration> = Annotation {
    name: "sekisho.io/affinity-max-age",
    on: BOTH,
    values: "`1s` to `9600h`; until the browser is closed",
    does: "how long the client keeps the cookie",
    read: |value| duration(value, SECOND, Duration::from_hours(9_600)),
};

pub(in crate::translate) static AFFINITY_SAME_SITE: Annotation<SameSite> = Annotation {
    name: "sekisho.io/affinity-same-site",
    on: BOTH,
    values: "`none`, `lax`, `strict`; not written",
    does: "`SameSite` of the cookie",
    read: |value| {
        one_of(
            value,
            &[
                ("none", SameSite::None),
                ("lax", SameSite::Lax),
                ("strict", SameSite::Strict),
            ],
        )
    },
};

pub(in crate::translate) static AFFINITY_SECURE: Annotation<bool> = Annotation {
    name: "sekisho.io/affinity-secure",
    on: BOTH,
    values: "`\"true\"`, `\"false\"`; on TLS",
    does: "`Secure` of the cookie",
    read: boolean,
};

pub(in crate::translate) static AFFINITY_HTTP_ONLY: Annotation<bool> = Annotation {
    name: "sekisho.io/affinity-http-only",
    on: BOTH,
    values: "`\"true\"` (default), `\"false\"`",
    does: "`HttpOnly` of the cookie",
    read: boolean,
};

pub(in crate::translate) static AFFINITY_CHANGE_ON_FAILURE: Annotation<bool> = Annotation {
    name: "sekisho.io/affinity-change-on-failure",
    on: BOTH,
    values: "`\"true\"`, `\"false\"` (default)",
    does: "whether a client whose pod fails gets the cookie of the one that helps out",
    read: boolean,
};

pub(in crate::translate) static SLOW_START: Annotation<Duration> = Annotation {
    name: "sekisho.io/slow-start",
    on: BOTH,
    values: "`1s` to `1h`; none",
    does: "for so long the share of a new or returned endpoint grows from a twentieth to the whole",
    read: |value| duration(value, SECOND, HOUR),
};

pub(in crate::translate) static MAX_REQUESTS_PER_ENDPOINT: Annotation<NonZeroU32> = Annotation {
    name: "sekisho.io/max-requests-per-endpoint",
    on: BOTH,
    values: "1 to 1000000; none",
    does: "requests and TCP connections that an endpoint has at a time; when all have as many: 503",
    read: |value| {
        small(value, 1, 1_000_000).and_then(|most: u32| NonZeroU32::new(most).ok_or_else(String::new))
    },
};

pub(in crate::translate) static MAX_REQUESTS: Annotation<NonZeroU32> = Annotation {
    name: "sekisho.io/max-requests",
    on: BOTH,
    values: "1 to 1000000; none",
    does: "requests and TCP connections that a Service port has at a time, of each box; beyond it: 503",
    read: |value| {
        small(value, 1, 1_000_000).and_then(|most: u32| NonZeroU32::new(most).ok_or_else(String::new))
    },
};

pub(in crate::translate) static MAX_PENDING: Annotation<u32> = Annotation {
    name: "sekisho.io/max-pending",
    on: BOTH,
    values: "0 (default) to 100000",
    does: "requests that wait for a place under the two limits above instead of getting 503 at once",
    read: |value| small(value, 0, 100_000),
};

pub(in crate::translate) static PENDING_TIMEOUT: Annotation<Duration> = Annotation {
    name: "sekisho.io/pending-timeout",
    on: BOTH,
    values: "`1ms` to `1m`; `1s`",
    does: "how long they wait",
    read: |value| duration(value, MILLISECOND, Duration::from_mins(1)),
};

pub(in crate::translate) static HEALTH_CHECK: Annotation<Asked> = Annotation {
    name: "sekisho.io/health-check",
    on: BOTH,
    values: "`none` (default), `http`, `tcp`, `grpc`",
    does: "whether and how endpoints are [asked for their health](balancing.md#health-checks)",
    read: |value| {
        one_of(
            value,
            &[
                ("none", Asked::None),
                ("http", Asked::Http),
                ("tcp", Asked::Tcp),
                ("grpc", Asked::Grpc),
            ],
        )
    },
};

pub(in crate::translate) static HEALTH_CHECK_PATH: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/health-check-path",
    on: BOTH,
    values: "path with query; `/`",
    does: "what `http` asks for with GET",
    read: |value| {
        visible(value, 2_048)
            .filter(|path| path.starts_with('/'))
            .map(Into::into)
            .ok_or_else(|| {
                format!(
                    "`{}` is no path; write one that begins with `/`",
                    printable(value)
                )
            })
    },
};

pub(in crate::translate) static HEALTH_CHECK_HOST: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/health-check-host",
    on: BOTH,
    values: "host; the endpoint's address",
    does: "`Host` of `http`",
    read: |value| {
        visible(value, 255)
            .filter(|host| !host.contains(['/', '@', '?', '#']))
            .map(Into::into)
            .ok_or_else(|| {
                format!(
                    "`{}` is no host; write a host name, with a port if need be",
                    printable(value)
                )
            })
    },
};

pub(in crate::translate) static HEALTH_CHECK_STATUS: Annotation<Vec<(u16, u16)>> = Annotation {
    name: "sekisho.io/health-check-status",
    on: BOTH,
    values: "list of statuses and ranges; `200-399`",
    does: "answers of `http` that are good",
    read: statuses,
};

pub(in crate::translate) static HEALTH_CHECK_SERVICE: Annotation<Arc<str>> = Annotation {
    name: "sekisho.io/health-check-service",
    on: BOTH,
    values: "name; empty: the server as a whole",
    does: "the service that `grpc` asks for",
    read: |value| {
        if value.is_empty() {
            return Ok("".into());
        }
        visible(value, 127).map(Into::into).ok_or_else(|| {
            format!(
                "`{}` is no service name; write at most 127 visible characters",
                printable(value)
            )
        })
    },
};

pub(in crate::translate) static HEALTH_CHECK_PORT: Annotation<u16> = Annotation {
    name: "sekisho.io/health-check-port",
    on: BOTH,
    values: "1 to 65535; the endpoint's",
    does: "another port of the pod that is asked, in the clear",
    read: |value| small(value, 1, 65_535),
};

pub(in crate::translate) static HEALTH_CHECK_INTERVAL: Annotation<Duration> = Annotation {
    name: "sekisho.io/health-check-interval",
    on: BOTH,
    values: "`100ms` to `1h`; `5s`",
    does: "time between two probes, a tenth more or less",
    read: |value| duration(value, Duration::from_millis(100), HOUR),
};

pub(in crate::translate) static HEALTH_CHECK_TIMEOUT: Annotation<Duration> = Annotation {
    name: "sekisho.io/health-check-timeout",
    on: BOTH,
    values: "`10ms` to `1m`; `2s`",
    does: "until a probe has failed",
    read: |value| duration(value, Duration::from_millis(10), Duration::from_mins(1)),
};

pub(in crate::translate) static HEALTH_CHECK_RISE: Annotation<u32> = Annotation {
    name: "sekisho.io/health-check-rise",
    on: BOTH,
    values: "1 to 100; 2",
    does: "good probes in a row until an unhealthy endpoint is used again",
    read: |value| small(value, 1, 100),
};

pub(in crate::translate) static HEALTH_CHECK_FALL: Annotation<u32> = Annotation {
    name: "sekisho.io/health-check-fall",
    on: BOTH,
    values: "1 to 100; 3",
    does: "bad probes in a row until an endpoint is not used",
    read: |value| small(value, 1, 100),
};

pub(in crate::translate) static HEALTH_CHECK_STRICT: Annotation<bool> = Annotation {
    name: "sekisho.io/health-check-strict",
    on: BOTH,
    values: "`\"true\"`, `\"false\"` (default)",
    does: "whether an endpoint gets requests only after its first good probe",
    read: boolean,
};

pub(in crate::translate) static OUTLIER_ERRORS: Annotation<u32> = Annotation {
    name: "sekisho.io/outlier-errors",
    on: BOTH,
    values: "0 (never) to 1000; 5",
    does: "failures in a row after which an endpoint is ejected",
    read: |value| small(value, 0, 1_000),
};

pub(in crate::translate) static OUTLIER_EJECTION: Annotation<Duration> = Annotation {
    name: "sekisho.io/outlier-ejection",
    on: BOTH,
    values: "`1s` to `1h`; `30s`",
    does: "how long the first ejection lasts; the nth in a row lasts n times as long, at most ten times",
    read: |value| duration(value, SECOND, HOUR),
};

pub(in crate::translate) static OUTLIER_MAX_PERCENT: Annotation<u8> = Annotation {
    name: "sekisho.io/outlier-max-percent",
    on: BOTH,
    values: "0 to 100; 50",
    does: "share of a Service port's endpoints that may be ejected at a time; never the last one",
    read: |value| small(value, 0, 100),
};

pub(in crate::translate) static PANIC_THRESHOLD: Annotation<u8> = Annotation {
    name: "sekisho.io/panic-threshold",
    on: BOTH,
    values: "0 to 100; 25",
    does: "when less than this share of the endpoints, in percent, is healthy, all are used",
    read: |value| small(value, 0, 100),
};

pub(in crate::translate) static RETRIES: Annotation<u32> = Annotation {
    name: "sekisho.io/retries",
    on: BOTH,
    values: "0 to 10; 2",
    does: "tries beyond the first",
    read: |value| small(value, 0, 10),
};

pub(in crate::translate) static RETRY_ON: Annotation<RetryOn> = Annotation {
    name: "sekisho.io/retry-on",
    on: BOTH,
    values: "list of `connect`, `reset`, `timeout`, `502`, `503`, `504`, `5xx` (all three), or `never`; `connect,reset`",
    does: "what is followed by [another try](balancing.md#retries)",
    read: retry_on,
};

pub(in crate::translate) static RETRY_BUDGET: Annotation<u32> = Annotation {
    name: "sekisho.io/retry-budget",
    on: BOTH,
    values: "0 to 100; 20",
    does: "retries in percent of the requests of the last seconds",
    read: |value| small(value, 0, 100),
};

pub(in crate::translate) static RETRY_BUDGET_MIN: Annotation<u32> = Annotation {
    name: "sekisho.io/retry-budget-min",
    on: BOTH,
    values: "0 to 10000; 10",
    does: "retries a second that are allowed in any case",
    read: |value| small(value, 0, 10_000),
};

pub(in crate::translate) static PER_TRY_TIMEOUT: Annotation<Duration> = Annotation {
    name: "sekisho.io/per-try-timeout",
    on: BOTH,
    values: "`1ms` to `1h`; none",
    does: "how long one try may take, from the choice of an endpoint to the header of its answer",
    read: |value| duration(value, MILLISECOND, HOUR),
};

pub(in crate::translate) static TOTAL_TIMEOUT: Annotation<Duration> = Annotation {
    name: "sekisho.io/total-timeout",
    on: BOTH,
    values: "`1ms` to `1h`; none",
    does: "how long all tries together may take, from the header of the request to the header of the answer; then 504",
    read: |value| duration(value, MILLISECOND, HOUR),
};

pub(in crate::translate) static WEIGHT: Annotation<NonZeroU8> = Annotation {
    name: "sekisho.io/weight",
    on: &[Kind::EndpointSlice],
    values: "1 (default) to 100",
    does: "share of each endpoint of the slice, in proportion to the other endpoints' weights",
    read: |value| small(value, 1, 100).and_then(|weight: u8| NonZeroU8::new(weight).ok_or_else(String::new)),
};
