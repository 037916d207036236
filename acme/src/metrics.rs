//! `sekisho_acme_*`. Labels are enums: no name, no text of a CA.

use jiff::SignedDuration;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::failure::FailureKind;

/// Result of an order that brought a certificate.
const ISSUED: &str = "issued";

/// The metrics of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    certificates: IntGaugeVec,
    orders: IntCounterVec,
    order_duration: Histogram,
    pub(crate) orders_running: IntGauge,
    earliest_expiry: Gauge,
    pub(crate) ca_failures: IntGauge,
}

/// Counts for the gauges.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) wanted: usize,
    pub(crate) held: usize,
    pub(crate) due: usize,
    pub(crate) failed: usize,
    pub(crate) refused: usize,
    pub(crate) earliest_expiry: Option<i64>,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            certificates: IntGaugeVec::new(
                Opts::new(
                    "sekisho_acme_certificates",
                    "Sets of names: wanted; of these held and not expired, due for an order, failed since their last success, refused without an order.",
                ),
                &["state"],
            )?,
            orders: IntCounterVec::new(
                Opts::new(
                    "sekisho_acme_orders_total",
                    "Orders that ended, by result: issued, or why not.",
                ),
                &["result"],
            )?,
            order_duration: Histogram::with_opts(
                HistogramOpts::new(
                    "sekisho_acme_order_duration_seconds",
                    "Time from the start of an order to its end, whatever its result.",
                )
                .buckets(vec![0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0]),
            )?,
            orders_running: IntGauge::new("sekisho_acme_orders_running", "Orders that run now.")?,
            earliest_expiry: Gauge::new(
                "sekisho_acme_earliest_expiry_timestamp_seconds",
                "When the first of the wanted certificates expires or expired; 0 while none is held.",
            )?,
            ca_failures: IntGauge::new(
                "sekisho_acme_ca_failures",
                "Failures in a row that are the CA's or the way's to it; 0 while it answers.",
            )?,
        };
        registry.register(Box::new(metrics.certificates.clone()))?;
        registry.register(Box::new(metrics.orders.clone()))?;
        registry.register(Box::new(metrics.order_duration.clone()))?;
        registry.register(Box::new(metrics.orders_running.clone()))?;
        registry.register(Box::new(metrics.earliest_expiry.clone()))?;
        registry.register(Box::new(metrics.ca_failures.clone()))?;
        // Every series exists from the start, so that a rate over it sees the first event.
        for result in FailureKind::ALL
            .map(FailureKind::as_str)
            .into_iter()
            .chain([ISSUED])
        {
            metrics.orders.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// One order has ended.
    pub(crate) fn order(&self, result: Result<(), FailureKind>, took: SignedDuration) {
        let result = result.map_or_else(FailureKind::as_str, |()| ISSUED);
        self.orders.with_label_values(&[result]).inc();
        self.order_duration.observe(took.as_secs_f64());
    }

    /// Sets the gauges.
    pub(crate) fn set(&self, counts: Counts) {
        for (state, count) in [
            ("wanted", counts.wanted),
            ("held", counts.held),
            ("due", counts.due),
            ("failed", counts.failed),
            ("refused", counts.refused),
        ] {
            self.certificates
                .with_label_values(&[state])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit in a float")]
        self.earliest_expiry
            .set(counts.earliest_expiry.unwrap_or(0) as f64);
    }
}
