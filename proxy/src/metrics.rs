//! Counters without contention: each worker writes its own cells, a scrape adds them up. Series of pools come from the
//! snapshot and go with it. Labels are names of configured objects or values of an enum, never anything a client sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use crate::budget::Budget;
use crate::health::{Standing, passive};
use crate::moment::Moment;
use crate::snapshot::{BUCKETS, PoolTotals, Snapshot};

/// Declares the cells: variant, family, label and value, kind, help. One table for code, scrape and documentation.
macro_rules! cells {
    ($($variant:ident $family:literal $label:literal $value:literal $kind:ident $help:literal;)*) => {
        /// One number that a worker keeps.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[allow(missing_docs, reason = "the help text of the table says it")]
        pub(crate) enum Cell { $($variant,)* }

        const CELLS: &[(Cell, &str, &str, &str, MetricType, &str)] = &[
            $((Cell::$variant, $family, $label, $value, MetricType::$kind, $help),)*
        ];
    };
}

cells! {
    Connections "sekisho_http_connections" "" "" GAUGE "Client connections open on HTTP and HTTPS listeners.";
    InFlight "sekisho_http_requests_in_flight" "" "" GAUGE "Requests being answered.";
    Tunnels "sekisho_http_tunnels" "" "" GAUGE "Upgraded connections (WebSocket and others) open.";
    Http10 "sekisho_http_requests_by_protocol_total" "protocol" "http/1.0" COUNTER "Requests by protocol of the client.";
    Http11 "sekisho_http_requests_by_protocol_total" "protocol" "http/1.1" COUNTER "Requests by protocol of the client.";
    Http2 "sekisho_http_requests_by_protocol_total" "protocol" "http/2" COUNTER "Requests by protocol of the client.";
    Http3 "sekisho_http_requests_by_protocol_total" "protocol" "http/3" COUNTER "Requests by protocol of the client.";
    RefusedMalformed "sekisho_http_refused_total" "reason" "malformed" COUNTER "Requests answered by the box itself, by reason.";
    RefusedHost "sekisho_http_refused_total" "reason" "host" COUNTER "Requests answered by the box itself, by reason.";
    RefusedPath "sekisho_http_refused_total" "reason" "path" COUNTER "Requests answered by the box itself, by reason.";
    RefusedFraming "sekisho_http_refused_total" "reason" "framing" COUNTER "Requests answered by the box itself, by reason.";
    RefusedMethod "sekisho_http_refused_total" "reason" "method" COUNTER "Requests answered by the box itself, by reason.";
    RefusedHeaders "sekisho_http_refused_total" "reason" "header_limit" COUNTER "Requests answered by the box itself, by reason.";
    RefusedUri "sekisho_http_refused_total" "reason" "uri_limit" COUNTER "Requests answered by the box itself, by reason.";
    RefusedNotTls "sekisho_http_refused_total" "reason" "not_tls" COUNTER "Requests answered by the box itself, by reason.";
    RefusedVersion "sekisho_http_refused_total" "reason" "version" COUNTER "Requests answered by the box itself, by reason.";
    RefusedTooLarge "sekisho_http_refused_total" "reason" "body_limit" COUNTER "Requests answered by the box itself, by reason.";
    RefusedExpectation "sekisho_http_refused_total" "reason" "expectation" COUNTER "Requests answered by the box itself, by reason.";
    Misdirected "sekisho_http_refused_total" "reason" "misdirected" COUNTER "Requests answered by the box itself, by reason.";
    NoRoute "sekisho_http_refused_total" "reason" "no_route" COUNTER "Requests answered by the box itself, by reason.";
    NoEndpoint "sekisho_http_refused_total" "reason" "no_endpoint" COUNTER "Requests answered by the box itself, by reason.";
    Unavailable "sekisho_http_refused_total" "reason" "unavailable" COUNTER "Requests answered by the box itself, by reason.";
    Overloaded "sekisho_http_refused_total" "reason" "overloaded" COUNTER "Requests answered by the box itself, by reason.";
    PoolFull "sekisho_http_refused_total" "reason" "pool_full" COUNTER "Requests answered by the box itself, by reason.";
    UpstreamFailed "sekisho_http_refused_total" "reason" "upstream_failed" COUNTER "Requests answered by the box itself, by reason.";
    UpstreamTimeout "sekisho_http_refused_total" "reason" "upstream_timeout" COUNTER "Requests answered by the box itself, by reason.";
    RefusedForbidden "sekisho_http_refused_total" "reason" "forbidden" COUNTER "Requests answered by the box itself, by reason.";
    RefusedRate "sekisho_http_refused_total" "reason" "rate_limit" COUNTER "Requests answered by the box itself, by reason.";
    RefusedConcurrency "sekisho_http_refused_total" "reason" "concurrency_limit" COUNTER "Requests answered by the box itself, by reason.";
    RefusedUnauthorized "sekisho_http_refused_total" "reason" "unauthorized" COUNTER "Requests answered by the box itself, by reason.";
    RefusedNoCertificate "sekisho_http_refused_total" "reason" "certificate_missing" COUNTER "Requests answered by the box itself, by reason.";
    RefusedCertificate "sekisho_http_refused_total" "reason" "certificate_refused" COUNTER "Requests answered by the box itself, by reason.";
    RefusedCredentials "sekisho_http_refused_total" "reason" "credentials" COUNTER "Requests answered by the box itself, by reason.";
    RefusedBusyCredentials "sekisho_http_refused_total" "reason" "credentials_busy" COUNTER "Requests answered by the box itself, by reason.";
    RefusedAuth "sekisho_http_refused_total" "reason" "auth_failed" COUNTER "Requests answered by the box itself, by reason.";
    RequestTimeout "sekisho_http_refused_total" "reason" "request_timeout" COUNTER "Requests answered by the box itself, by reason.";
    PasswordRight "sekisho_http_passwords_total" "result" "accepted" COUNTER "Names and passwords of basic authentication by what they were found to be.";
    PasswordKnown "sekisho_http_passwords_total" "result" "known" COUNTER "Names and passwords of basic authentication by what they were found to be.";
    PasswordWrong "sekisho_http_passwords_total" "result" "rejected" COUNTER "Names and passwords of basic authentication by what they were found to be.";
    PasswordShed "sekisho_http_passwords_total" "result" "shed" COUNTER "Names and passwords of basic authentication by what they were found to be.";
    ChallengeAnswered "sekisho_http_challenges_total" "" "" COUNTER "ACME HTTP-01 challenges answered.";
    UpstreamConnected "sekisho_http_upstream_connects_total" "result" "ok" COUNTER "Connections to endpoints by result.";
    UpstreamConnectFailed "sekisho_http_upstream_connects_total" "result" "failed" COUNTER "Connections to endpoints by result.";
    UpstreamConnectTimeout "sekisho_http_upstream_connects_total" "result" "timeout" COUNTER "Connections to endpoints by result.";
    UpstreamExhausted "sekisho_http_upstream_connects_total" "result" "exhausted" COUNTER "Connections to endpoints by result.";
    UpstreamConnectUnrouted "sekisho_http_upstream_connects_total" "result" "unrouted" COUNTER "Connections to endpoints by result.";
    UpstreamTlsFailed "sekisho_http_upstream_tls_failed_total" "" "" COUNTER "TLS handshakes with endpoints that failed: certificate not believed, other name, no common version.";
    Http2ControlFlood "sekisho_http2_closed_total" "reason" "control_flood" COUNTER "HTTP/2 connections of clients that the box closed because of what the client sent.";
    Http2ResetFlood "sekisho_http2_closed_total" "reason" "reset_flood" COUNTER "HTTP/2 connections of clients that the box closed because of what the client sent.";
    Http2Calm "sekisho_http2_closed_total" "reason" "calm" COUNTER "HTTP/2 connections of clients that the box closed because of what the client sent.";
    Http2Protocol "sekisho_http2_closed_total" "reason" "protocol" COUNTER "HTTP/2 connections of clients that the box closed because of what the client sent.";
    Http3Connections "sekisho_http3_connections" "" "" GAUGE "HTTP/3 connections of clients open.";
    Http3HandshakeDone "sekisho_http3_handshakes_total" "result" "ok" COUNTER "QUIC handshakes by result.";
    Http3HandshakeFailed "sekisho_http3_handshakes_total" "result" "failed" COUNTER "QUIC handshakes by result.";
    Http3HandshakeTimeout "sekisho_http3_handshakes_total" "result" "timeout" COUNTER "QUIC handshakes by result.";
    Http3Retried "sekisho_http3_handshakes_total" "result" "retry" COUNTER "QUIC handshakes by result.";
    Http3Refused "sekisho_http3_handshakes_total" "result" "refused" COUNTER "QUIC handshakes by result.";
    Http3ControlFlood "sekisho_http3_closed_total" "reason" "control_flood" COUNTER "HTTP/3 connections of clients that the box closed because of what the client sent.";
    Http3ResetFlood "sekisho_http3_closed_total" "reason" "reset_flood" COUNTER "HTTP/3 connections of clients that the box closed because of what the client sent.";
    Http3Protocol "sekisho_http3_closed_total" "reason" "protocol" COUNTER "HTTP/3 connections of clients that the box closed because of what the client sent.";
    DatagramsDropped "sekisho_http3_datagrams_dropped_total" "" "" COUNTER "Datagrams that the kernel dropped because a worker did not take them in time.";
    UpstreamUnrouted "sekisho_http_upstream_unrouted_total" "" "" COUNTER "Connections to endpoints that were open, or being made, when the route was withdrawn.";
    UpstreamReused "sekisho_http_upstream_reused_total" "" "" COUNTER "Requests sent on a kept connection.";
    UpstreamHttp2Connections "sekisho_http_upstream_http2_connections" "" "" GAUGE "HTTP/2 connections to endpoints.";
    UpstreamIdle "sekisho_http_upstream_idle_connections" "" "" GAUGE "Kept connections to endpoints.";
    RetriedConnect "sekisho_http_retried_total" "reason" "connect" COUNTER "Tries beyond the first, by what was before them.";
    RetriedStale "sekisho_http_retried_total" "reason" "stale" COUNTER "Tries beyond the first, by what was before them.";
    RetriedReset "sekisho_http_retried_total" "reason" "reset" COUNTER "Tries beyond the first, by what was before them.";
    RetriedUnrouted "sekisho_http_retried_total" "reason" "unrouted" COUNTER "Tries beyond the first, by what was before them.";
    RetriedTimeout "sekisho_http_retried_total" "reason" "timeout" COUNTER "Tries beyond the first, by what was before them.";
    RetriedStatus "sekisho_http_retried_total" "reason" "status" COUNTER "Tries beyond the first, by what was before them.";
    RetryOverBudget "sekisho_http_retry_denied_total" "reason" "budget" COUNTER "Tries that were not made although they might have helped.";
    RetryLate "sekisho_http_retry_denied_total" "reason" "time" COUNTER "Tries that were not made although they might have helped.";
    EndedByClient "sekisho_http_ended_early_total" "by" "client" COUNTER "Exchanges that did not come to their end, by who ended them.";
    EndedByUpstream "sekisho_http_ended_early_total" "by" "upstream" COUNTER "Exchanges that did not come to their end, by who ended them.";
    EndedByProxy "sekisho_http_ended_early_total" "by" "proxy" COUNTER "Exchanges that did not come to their end, by who ended them.";
    CompressedGzip "sekisho_http_compressed_total" "encoding" "gzip" COUNTER "Answers that were compressed, by coding.";
    CompressedBrotli "sekisho_http_compressed_total" "encoding" "br" COUNTER "Answers that were compressed, by coding.";
    CompressedZstd "sekisho_http_compressed_total" "encoding" "zstd" COUNTER "Answers that were compressed, by coding.";
    CompressionIn "sekisho_http_compression_bytes_total" "side" "in" COUNTER "Octets of answers that were compressed, before (in) and after (out).";
    CompressionOut "sekisho_http_compression_bytes_total" "side" "out" COUNTER "Octets of answers that were compressed, before (in) and after (out).";
    CompressionNoRoom "sekisho_http_compression_skipped_total" "" "" COUNTER "Answers that were not compressed because http.compression_memory was in use.";
    MirrorAnswered "sekisho_http_mirrored_total" "result" "answered" COUNTER "Copies of requests for another Service, by what became of them.";
    MirrorFailed "sekisho_http_mirrored_total" "result" "failed" COUNTER "Copies of requests for another Service, by what became of them.";
    MirrorTooLarge "sekisho_http_mirrored_total" "result" "too_large" COUNTER "Copies of requests for another Service, by what became of them.";
    MirrorBusy "sekisho_http_mirrored_total" "result" "busy" COUNTER "Copies of requests for another Service, by what became of them.";
    MirrorUnfinished "sekisho_http_mirrored_total" "result" "unfinished" COUNTER "Copies of requests for another Service, by what became of them.";
    Buffered "sekisho_http_gathered_total" "result" "whole" COUNTER "Request bodies that were gathered before an endpoint was asked, and those for which there was no memory.";
    BufferFull "sekisho_http_gathered_total" "result" "no_memory" COUNTER "Request bodies that were gathered before an endpoint was asked, and those for which there was no memory.";
    AnswerWhole "sekisho_http_gathered_answers_total" "result" "whole" COUNTER "Answers that were to be gathered before they went on: whole, or in part, for lack of room.";
    AnswerPart "sekisho_http_gathered_answers_total" "result" "part" COUNTER "Answers that were to be gathered before they went on: whole, or in part, for lack of room.";
    HealthChecked "sekisho_health_checked_endpoints" "" "" GAUGE "Endpoints whose health is asked for, once for each different check.";
    HealthUnhealthy "sekisho_health_unhealthy_endpoints" "" "" GAUGE "Endpoints whose health check fails.";
    HealthProbeGood "sekisho_health_probes_total" "result" "good" COUNTER "Health probes by result.";
    HealthProbeBad "sekisho_health_probes_total" "result" "bad" COUNTER "Health probes by result.";
    HealthProbeLate "sekisho_health_probes_total" "result" "late" COUNTER "Health probes by result.";
    TlsDone "sekisho_tls_handshakes_total" "result" "ok" COUNTER "TLS handshakes by result.";
    TlsFailed "sekisho_tls_handshakes_total" "result" "failed" COUNTER "TLS handshakes by result.";
    TlsTimeout "sekisho_tls_handshakes_total" "result" "timeout" COUNTER "TLS handshakes by result.";
    TlsResumed "sekisho_tls_resumed_total" "" "" COUNTER "TLS handshakes that resumed a session.";
    TlsPlaceholder "sekisho_tls_placeholder_total" "" "" COUNTER "Handshakes that got the placeholder certificate.";
    TcpConnections "sekisho_tcp_connections" "" "" GAUGE "Client connections open on TCP listeners.";
    TcpNoEndpoint "sekisho_tcp_refused_total" "reason" "no_endpoint" COUNTER "TCP connections reset by the box, by reason.";
    TcpPoolFull "sekisho_tcp_refused_total" "reason" "pool_full" COUNTER "TCP connections reset by the box, by reason.";
    TcpUpstreamFailed "sekisho_tcp_refused_total" "reason" "upstream_failed" COUNTER "TCP connections reset by the box, by reason.";
    Shedding "sekisho_workers_shedding" "" "" GAUGE "Data workers that are over http.shed_after.";
    RateForgotten "sekisho_http_limits_lost_total" "limit" "rate" COUNTER "Clients that a full table of limits had to forget (rate), or could not count (concurrency).";
    ConcurrencyUncounted "sekisho_http_limits_lost_total" "limit" "concurrency" COUNTER "Clients that a full table of limits had to forget (rate), or could not count (concurrency).";
    Accepted "sekisho_listener_accepted_total" "" "" COUNTER "Connections accepted.";
    AcceptErrors "sekisho_listener_accept_errors_total" "kind" "other" COUNTER "Errors of accept(2).";
    AcceptOutOfFiles "sekisho_listener_accept_errors_total" "kind" "out_of_files" COUNTER "Errors of accept(2).";
    ProxyProtocolOk "sekisho_listener_proxy_protocol_total" "result" "ok" COUNTER "Connections from networks that send a PROXY header, by what it was.";
    ProxyProtocolLocal "sekisho_listener_proxy_protocol_total" "result" "local" COUNTER "Connections from networks that send a PROXY header, by what it was.";
    ProxyProtocolMalformed "sekisho_listener_proxy_protocol_total" "result" "malformed" COUNTER "Connections from networks that send a PROXY header, by what it was.";
    ProxyProtocolTimeout "sekisho_listener_proxy_protocol_total" "result" "timeout" COUNTER "Connections from networks that send a PROXY header, by what it was.";
    AcceptLimited "sekisho_listener_limited_total" "" "" COUNTER "Times a worker stopped accepting, or connections closed at once, because of http.max_connections or http.shed_after.";
    AddressLimited "sekisho_listener_address_limited_total" "" "" COUNTER "Connections closed at once because of http.max_connections_per_address.";
    LogLines "sekisho_http_access_log_lines_total" "result" "written" COUNTER "Lines of the access log.";
    LogDropped "sekisho_http_access_log_lines_total" "result" "dropped" COUNTER "Lines of the access log.";
}

/// The cells of one worker. Only that worker writes, so that a plain load and store will do.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Counters([AtomicU64; CELLS.len()]);

impl Counters {
    pub(crate) fn add(&self, cell: Cell, n: u64) {
        if let Some(counter) = self.0.get(cell as usize) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        }
    }

    pub(crate) fn inc(&self, cell: Cell) {
        self.add(cell, 1);
    }

    pub(crate) fn dec(&self, cell: Cell) {
        self.add(cell, u64::MAX);
    }

    fn value(&self, cell: Cell) -> u64 {
        self.0
            .get(cell as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// What became of spans. The exporter and any worker count here, seldom.
#[derive(Debug)]
pub(crate) struct SpanCounters(prometheus::IntCounterVec);

impl SpanCounters {
    pub(crate) fn register(registry: &prometheus::Registry) -> prometheus::Result<Arc<Self>> {
        let opts = prometheus::Opts::new(
            "sekisho_http_spans_total",
            "Spans for the collector, by what became of them.",
        );
        let counters = prometheus::IntCounterVec::new(opts, &["result"])?;
        for result in ["sent", "failed", "dropped"] {
            counters.with_label_values(&[result]);
        }
        registry.register(Box::new(counters.clone()))?;
        Ok(Arc::new(Self(counters)))
    }

    /// The collector took them.
    pub(crate) fn sent(&self, count: u64) {
        self.0.with_label_values(&["sent"]).inc_by(count);
    }

    /// The collector did not take them.
    pub(crate) fn failed(&self, count: u64) {
        self.0.with_label_values(&["failed"]).inc_by(count);
    }

    /// The exporter does not keep up.
    pub(crate) fn dropped(&self, count: u64) {
        self.0.with_label_values(&["dropped"]).inc_by(count);
    }
}

/// All numbers of the data plane.
#[derive(Debug)]
pub(crate) struct Metrics {
    workers: Vec<Arc<Counters>>,
    /// By listener address and kind: bound or not.
    pub(crate) listeners: Mutex<HashMap<(std::net::SocketAddr, &'static str), bool>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Octets that answers which are being compressed need.
    pub(crate) compressing: Budget,
    /// Octets of bodies that are gathered or copied.
    pub(crate) held: Budget,
    /// Copies of requests.
    pub(crate) mirroring: Budget,
}

/// What is set aside now, by what for.
const HELD: (&str, &str) = (
    "sekisho_http_held_bytes",
    "Memory that is set aside: for answers being compressed, for bodies of requests gathered or copied.",
);

impl Metrics {
    /// Cells that no scrape reads.
    pub(crate) fn detached() -> Arc<Counters> {
        Arc::new(Counters(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    pub(crate) fn new(workers: usize, snapshot: Arc<ArcSwap<Snapshot>>) -> Arc<Self> {
        Arc::new(Self {
            workers: (0..workers).map(|_| Self::detached()).collect(),
            listeners: Mutex::default(),
            snapshot,
            compressing: Budget::default(),
            held: Budget::default(),
            mirroring: Budget::default(),
        })
    }

    /// The cells of worker `index`.
    pub(crate) fn worker(&self, index: usize) -> Option<Arc<Counters>> {
        self.workers.get(index).cloned()
    }

    /// The sum over all workers; gauges may wrap on the way, not in the sum.
    pub(crate) fn sum(&self, cell: Cell) -> u64 {
        self.workers
            .iter()
            .fold(0, |sum, worker| sum.wrapping_add(worker.value(cell)))
    }
}

/// What the registry holds.
pub(crate) struct Collected {
    metrics: Arc<Metrics>,
    descriptions: Vec<Desc>,
}

const POOL_LABELS: [&str; 3] = ["namespace", "service", "port"];

/// Families with one series for each pool.
const POOL_FAMILIES: [(&str, &str); 10] = [
    (
        "sekisho_http_requests_total",
        "HTTP requests by Service port and class of the response; none: the client left before it.",
    ),
    (
        "sekisho_http_request_duration_seconds",
        "Time from the request's header to the end of the response.",
    ),
    ("sekisho_http_retries_total", "Attempts beyond the first."),
    (
        "sekisho_pool_received_bytes_total",
        "Octets received from clients for a Service port.",
    ),
    (
        "sekisho_pool_sent_bytes_total",
        "Octets sent to clients for a Service port.",
    ),
    (
        "sekisho_tcp_connections_total",
        "TCP connections that ended, by Service port.",
    ),
    (
        "sekisho_pool_endpoints",
        "Endpoints of a Service port by whether they get requests.",
    ),
    (
        "sekisho_pool_ejected_endpoints",
        "Eligible endpoints that traffic has shown to be out, or whose node it has.",
    ),
    (
        "sekisho_pool_ejections_total",
        "Ejections of endpoints and nodes by what requests met.",
    ),
    (
        "sekisho_pool_requests_waiting",
        "Requests that wait for a place under a limit.",
    ),
];

impl Collected {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Result<Self, prometheus::Error> {
        let mut descriptions: Vec<Desc> = Vec::new();
        let mut last = "";
        for (_, family, label, _, _, help) in CELLS {
            if *family != last {
                let labels = if label.is_empty() {
                    vec![]
                } else {
                    vec![(*label).to_owned()]
                };
                descriptions.push(Desc::new(
                    (*family).into(),
                    (*help).into(),
                    labels,
                    HashMap::new(),
                )?);
                last = family;
            }
        }
        for (family, help) in POOL_FAMILIES {
            let labels = POOL_LABELS.iter().map(|label| (*label).to_owned()).collect();
            descriptions.push(Desc::new(family.into(), help.into(), labels, HashMap::new())?);
        }
        let labels = vec!["use".to_owned()];
        descriptions.push(Desc::new(HELD.0.into(), HELD.1.into(), labels, HashMap::new())?);
        let labels = vec!["address".to_owned(), "kind".to_owned()];
        descriptions.push(Desc::new(
            "sekisho_listener_bound".into(),
            "Whether a listener is bound on every worker.".into(),
            labels,
            HashMap::new(),
        )?);
        Ok(Self {
            metrics,
            descriptions,
        })
    }
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    pairs
        .iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).into());
            pair.set_value((*value).into());
            pair
        })
        .collect()
}

fn number(kind: MetricType, value: f64, pairs: &[(&str, &str)]) -> proto::Metric {
    let mut metric = proto::Metric::from_label(labels(pairs));
    if kind == MetricType::GAUGE {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    } else {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    }
    metric
}

fn histogram(totals: &PoolTotals, pairs: &[(&str, &str)]) -> proto::Metric {
    let mut count = 0;
    let mut buckets = Vec::with_capacity(BUCKETS.len() + 1);
    for (bound, hits) in BUCKETS.iter().copied().chain([f64::INFINITY]).zip(totals.buckets) {
        count += hits;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        buckets.push(bucket);
    }
    let mut histogram = proto::Histogram::default();
    histogram.set_sample_count(count);
    histogram.set_sample_sum(totals.sum_micros as f64 / 1e6);
    histogram.set_bucket(buckets);
    let mut metric = proto::Metric::from_label(labels(pairs));
    metric.set_histogram(histogram);
    metric
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families: Vec<MetricFamily> = Vec::new();
        for (cell, name, label, value, kind, help) in CELLS {
            let sum = self.metrics.sum(*cell);
            // A gauge that is read between the two halves of a move may be seen as just below zero.
            let sum = if *kind == MetricType::GAUGE {
                (sum as i64).max(0) as f64
            } else {
                sum as f64
            };
            let pairs = [(*label, *value)];
            let metric = number(*kind, sum, if label.is_empty() { &[] } else { &pairs });
            match families.last_mut() {
                Some(last) if last.name() == *name => last.mut_metric().push(metric),
                _ => families.push(family(name, help, *kind, vec![metric])),
            }
        }
        let held = [
            ("compression", &self.metrics.compressing),
            ("requests", &self.metrics.held),
        ]
        .map(|(name, budget)| number(MetricType::GAUGE, budget.used() as f64, &[("use", name)]));
        families.push(family(HELD.0, HELD.1, MetricType::GAUGE, held.into()));
        let snapshot = self.metrics.snapshot.load_full();
        let mut pools: [Vec<proto::Metric>; 10] = Default::default();
        let [
            requests,
            durations,
            retries,
            received,
            sent,
            tcp,
            endpoints,
            ejected,
            ejections,
            waiting,
        ] = &mut pools;
        let now = Moment::now();
        for pool in snapshot.pools() {
            let id = pool.id();
            let port = id.port.to_string();
            let base = [
                ("namespace", id.service.namespace.as_ref()),
                ("service", id.service.name.as_ref()),
                ("port", port.as_str()),
            ];
            let with = |name, value| base.iter().copied().chain([(name, value)]).collect::<Vec<_>>();
            let totals = pool.state().totals();
            for (class, count) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"]
                .iter()
                .zip(totals.responses)
            {
                requests.push(number(MetricType::COUNTER, count as f64, &with("code", class)));
            }
            durations.push(histogram(&totals, &base));
            for (list, value) in [
                (&mut *retries, totals.retries),
                (&mut *received, totals.bytes_in),
                (&mut *sent, totals.bytes_out),
                (&mut *tcp, totals.tcp_connections),
            ] {
                list.push(number(MetricType::COUNTER, value as f64, &base));
            }
            let eligible = pool.eligible();
            for (state, count) in [
                ("eligible", eligible),
                ("ineligible", pool.endpoints().len().saturating_sub(eligible)),
            ] {
                endpoints.push(number(MetricType::GAUGE, count as f64, &with("state", state)));
            }
            let out = pool
                .eligible_endpoints()
                .filter(|endpoint| passive::standing(endpoint, now) != Standing::In)
                .count();
            ejected.push(number(MetricType::GAUGE, out as f64, &base));
            let state = pool.state();
            ejections.push(number(MetricType::COUNTER, state.ejections() as f64, &base));
            waiting.push(number(MetricType::GAUGE, f64::from(state.waiting()), &base));
        }
        for ((name, help), metrics) in POOL_FAMILIES.iter().zip(pools) {
            let kind = match *name {
                "sekisho_http_request_duration_seconds" => MetricType::HISTOGRAM,
                "sekisho_pool_endpoints"
                | "sekisho_pool_ejected_endpoints"
                | "sekisho_pool_requests_waiting" => MetricType::GAUGE,
                _ => MetricType::COUNTER,
            };
            if !metrics.is_empty() {
                families.push(family(name, help, kind, metrics));
            }
        }
        let listeners = self
            .metrics
            .listeners
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let bound: Vec<proto::Metric> = listeners
            .iter()
            .map(|((address, kind), bound)| {
                let address = address.to_string();
                number(
                    MetricType::GAUGE,
                    f64::from(*bound),
                    &[("address", &address), ("kind", kind)],
                )
            })
            .collect();
        if !bound.is_empty() {
            families.push(family(
                "sekisho_listener_bound",
                "Whether a listener is bound on every worker.",
                MetricType::GAUGE,
                bound,
            ));
        }
        families
    }
}
