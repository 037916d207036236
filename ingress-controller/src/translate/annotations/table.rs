//! The rows, in the order of the page.

use sekisho_config::model::{Balance, HostName, ProxyProtocol, UpstreamProtocol};

use super::policy::{
    AFFINITY, AFFINITY_CHANGE_ON_FAILURE, AFFINITY_COOKIE, AFFINITY_HTTP_ONLY, AFFINITY_MAX_AGE,
    AFFINITY_SAME_SITE, AFFINITY_SECURE, HASH_BY, HEALTH_CHECK, HEALTH_CHECK_FALL, HEALTH_CHECK_HOST,
    HEALTH_CHECK_INTERVAL, HEALTH_CHECK_PATH, HEALTH_CHECK_PORT, HEALTH_CHECK_RISE, HEALTH_CHECK_SERVICE,
    HEALTH_CHECK_STATUS, HEALTH_CHECK_STRICT, HEALTH_CHECK_TIMEOUT, MAX_PENDING, MAX_REQUESTS,
    MAX_REQUESTS_PER_ENDPOINT, OUTLIER_EJECTION, OUTLIER_ERRORS, OUTLIER_MAX_PERCENT, PANIC_THRESHOLD,
    PENDING_TIMEOUT, PER_TRY_TIMEOUT, RETRIES, RETRY_BUDGET, RETRY_BUDGET_MIN, RETRY_ON, SLOW_START,
    TOTAL_TIMEOUT, WEIGHT,
};
use super::read::{boolean, one_of};
use super::{Annotation, Row};
use crate::text::{is_object_name, printable};
use crate::translate::upstream::{Spoken, Verify};
use crate::world::Kind;

const INGRESS: &[Kind] = &[Kind::Ingress];
const SERVICE: &[Kind] = &[Kind::Service];
const BOTH: &[Kind] = &[Kind::Service, Kind::Ingress];

/// Every row; a row that is not listed here has no effect and no line on the page.
pub(in crate::translate) static TABLE: &[&dyn Row] = &[
    &ACME,
    &BACKEND_CA,
    &BACKEND_PROTOCOL,
    &BACKEND_SERVER_NAME,
    &BACKEND_VERIFY,
    &BALANCE,
    &PROXY_PROTOCOL,
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
    &WEIGHT,
    &CLASS,
];

pub(in crate::translate) static ACME: Annotation<bool> = Annotation {
    name: "sekisho.io/acme",
    on: INGRESS,
    values: "`\"true\"`, `\"false\"`",
    does: "certificates for the hosts of `spec.tls` by ACME: one order for each entry, at most 100 names",
    read: boolean,
};

pub(in crate::translate) static BACKEND_CA: Annotation<String> = Annotation {
    name: "sekisho.io/backend-ca",
    on: SERVICE,
    values: "name of a Secret of type `kubernetes.io/tls` in the Service's namespace",
    does: "its `ca.crt` says which certificates of endpoints are believed; without it the CAs of the box's system do",
    read: |value| {
        if is_object_name(value, 253) {
            Ok(value.to_owned())
        } else {
            Err(format!(
                "`{}` is not the name of a Secret; write one",
                printable(value)
            ))
        }
    },
};

pub(in crate::translate) static BACKEND_PROTOCOL: Annotation<Spoken> = Annotation {
    name: "sekisho.io/backend-protocol",
    on: SERVICE,
    values: "`http` (default), `https`, `h2c`, `grpc`, `grpcs`",
    does: "what the endpoints speak, before `appProtocol`; see [protocols](http.md#protocols-to-the-backend)",
    read: |value| {
        use UpstreamProtocol::{Http1, Http2};
        let words = [
            ("http", (Http1, false)),
            ("https", (Http1, true)),
            ("h2c", (Http2, false)),
            ("grpc", (Http2, false)),
            ("grpcs", (Http2, true)),
        ];
        one_of(value, &words)
    },
};

pub(in crate::translate) static BACKEND_SERVER_NAME: Annotation<HostName> = Annotation {
    name: "sekisho.io/backend-server-name",
    on: SERVICE,
    values: "host name; default `<service>.<namespace>.svc`",
    does: "the name that is asked for in TLS with endpoints, and that their certificate must carry",
    read: |value| {
        value.parse().map_err(|_| {
            format!(
                "`{}` is not a host name; write the DNS name in the endpoints' certificate",
                printable(value)
            )
        })
    },
};

pub(in crate::translate) static BACKEND_VERIFY: Annotation<Verify> = Annotation {
    name: "sekisho.io/backend-verify",
    on: SERVICE,
    values: "`\"on\"` (default), `\"off\"`",
    does: "`off` believes any certificate of an endpoint: whoever is in between can read and write",
    read: |value| one_of(value, &[("on", Verify::On), ("off", Verify::Off)]),
};

pub(in crate::translate) static BALANCE: Annotation<Balance> = Annotation {
    name: "sekisho.io/balance",
    on: BOTH,
    values: "`least_request` (default), `round_robin`, `peak_ewma`, `consistent_hash`",
    does: "[how requests are spread](balancing.md#balancers); on an Ingress for all its Services",
    read: |value| {
        one_of(
            value,
            &[
                ("round_robin", Balance::RoundRobin),
                ("least_request", Balance::LeastRequest),
                ("peak_ewma", Balance::PeakEwma),
                ("consistent_hash", Balance::ConsistentHash),
            ],
        )
    },
};

pub(in crate::translate) static PROXY_PROTOCOL: Annotation<ProxyProtocol> = Annotation {
    name: "sekisho.io/proxy-protocol",
    on: SERVICE,
    values: "`v1`, `v2`",
    does: "every connection to an endpoint begins with a PROXY header that names the client",
    read: |value| one_of(value, &[("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)]),
};

pub(in crate::translate) static CLASS: Annotation<()> = Annotation {
    name: crate::CLASS_ANNOTATION,
    on: INGRESS,
    values: "our class",
    does: "see [above](#which-ingresses-are-ours)",
    read: |_| Ok(()),
};
