use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::Control;

/// Metrics of control.
pub(crate) struct Metrics {
    revision: prometheus::IntGauge,
    published: prometheus::Gauge,
    fold_seconds: prometheus::Histogram,
    withheld: prometheus::IntGauge,
    announced: prometheus::IntGauge,
    earliest_expiry: prometheus::IntGauge,
    heartbeat: AtomicU64,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn register(registry: &prometheus::Registry) -> prometheus::Result<Arc<Self>> {
        let revision = prometheus::IntGauge::new("sekisho_revision", "Revision that is published")?;
        let published = prometheus::Gauge::new(
            "sekisho_revision_timestamp_seconds",
            "When the revision was published, seconds since 1970-01-01 UTC",
        )?;
        let fold_seconds = prometheus::Histogram::with_opts(
            prometheus::HistogramOpts::new(
                "sekisho_control_publish_seconds",
                "From the first change of a batch to its publication",
            )
            .buckets(prometheus::exponential_buckets(0.00005, 4.0, 10)?),
        )?;
        let earliest_expiry = prometheus::IntGauge::new(
            "sekisho_certificate_earliest_expiry_timestamp_seconds",
            "When the first certificate that is served expires, from Secrets and ACME, seconds since 1970-01-01 UTC; 0: none is served",
        )?;
        registry.register(Box::new(earliest_expiry.clone()))?;
        let announced = prometheus::IntGauge::new("sekisho_vips_announced", "VIPs that may be announced")?;
        let withheld = prometheus::IntGauge::new("sekisho_vips_withheld", "VIPs that are withheld")?;
        registry.register(Box::new(revision.clone()))?;
        registry.register(Box::new(published.clone()))?;
        registry.register(Box::new(fold_seconds.clone()))?;
        registry.register(Box::new(announced.clone()))?;
        registry.register(Box::new(withheld.clone()))?;
        let metrics = Self {
            revision,
            published,
            fold_seconds,
            withheld,
            announced,
            earliest_expiry,
            heartbeat: AtomicU64::new(0),
        };
        metrics.beat();
        Ok(Arc::new(metrics))
    }

    /// The loop has turned.
    pub(super) fn beat(&self) {
        self.heartbeat.store(
            u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
            Ordering::Relaxed,
        );
    }

    /// Seconds since the loop last turned.
    pub(crate) fn seconds_since_beat(&self) -> u64 {
        u64::try_from(Timestamp::now().as_second())
            .unwrap_or(0)
            .saturating_sub(self.heartbeat.load(Ordering::Relaxed))
    }

    /// A batch of changes was published so long after its first change.
    pub(super) fn published_in(&self, time: std::time::Duration) {
        self.fold_seconds.observe(time.as_secs_f64());
    }

    pub(super) fn record(&self, control: &Control) {
        self.revision
            .set(i64::try_from(control.revision.0).unwrap_or(i64::MAX));
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 fit 52 bits for 140,000 years"
        )]
        self.published
            .set(Timestamp::now().as_millisecond() as f64 / 1000.0);
        self.earliest_expiry
            .set(control.earliest_expiry.map_or(0, Timestamp::as_second));
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let announced = control
            .plan
            .vips
            .values()
            .filter(|planned| planned.announce.is_ok())
            .count();
        self.announced.set(gauge(announced));
        self.withheld
            .set(gauge(control.plan.vips.len().saturating_sub(announced)));
    }
}
