//! Metrics of the source and of translation.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use sekisho_config::model::{Finding, FindingKind};

use crate::view::Health;
use crate::world::Kind;

/// Registered once for the crate.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) errors: IntCounterVec,
    pub(crate) lists: IntCounterVec,
    pub(crate) generation: IntGauge,
    pub(crate) translated_at: Gauge,
    pub(crate) translate_seconds: Histogram,
    pub(crate) findings: IntGaugeVec,
    pub(crate) status_writes: IntCounterVec,
    pub(crate) status_pending: IntGauge,
    key_set_fetches: IntCounterVec,
    pub(crate) changes: IntCounter,
}

impl Metrics {
    /// # Errors
    /// When a name is registered already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            errors: IntCounterVec::new(
                Opts::new(
                    "sekisho_source_errors_total",
                    "Failed reads, lists and watches; kind is `all` for a directory",
                ),
                &["kind"],
            )?,
            lists: IntCounterVec::new(
                Opts::new(
                    "sekisho_source_lists_total",
                    "Complete lists, or reads of the whole directory",
                ),
                &["kind"],
            )?,
            generation: IntGauge::new("sekisho_source_generation", "Number of the last translation")?,
            translated_at: Gauge::new(
                "sekisho_source_translated_timestamp_seconds",
                "Unix time of the last translation",
            )?,
            translate_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "sekisho_source_translate_seconds",
                    "Time that one translation takes",
                )
                .buckets(vec![0.000_1, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0]),
            )?,
            findings: IntGaugeVec::new(
                Opts::new("sekisho_findings", "Findings about objects and files"),
                &["kind"],
            )?,
            status_writes: IntCounterVec::new(
                Opts::new(
                    "sekisho_source_status_writes_total",
                    "Statuses written, by result",
                ),
                &["kind", "result"],
            )?,
            status_pending: IntGauge::new(
                "sekisho_source_status_pending",
                "Statuses that are to be written",
            )?,
            key_set_fetches: IntCounterVec::new(
                Opts::new(
                    "sekisho_key_set_fetches_total",
                    "Key sets for tokens that were asked for, by result",
                ),
                &["result"],
            )?,
            changes: IntCounter::new("sekisho_source_changes_total", "Changes of objects that arrived")?,
        };
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.lists.clone()))?;
        registry.register(Box::new(metrics.generation.clone()))?;
        registry.register(Box::new(metrics.translated_at.clone()))?;
        registry.register(Box::new(metrics.translate_seconds.clone()))?;
        registry.register(Box::new(metrics.findings.clone()))?;
        registry.register(Box::new(metrics.status_writes.clone()))?;
        registry.register(Box::new(metrics.status_pending.clone()))?;
        registry.register(Box::new(metrics.key_set_fetches.clone()))?;
        for result in ["done", "failed"] {
            metrics.key_set_fetches.with_label_values(&[result]).reset();
        }
        registry.register(Box::new(metrics.changes.clone()))?;
        for kind in FindingKind::ALL {
            metrics.findings.with_label_values(&[kind.as_str()]).set(0);
        }
        Ok(metrics)
    }

    pub(crate) fn key_set_fetched(&self, done: bool) {
        let result = if done { "done" } else { "failed" };
        self.key_set_fetches.with_label_values(&[result]).inc();
    }

    pub(crate) fn found(&self, findings: &[Finding]) {
        for kind in FindingKind::ALL {
            let count = findings.iter().filter(|finding| finding.kind == kind).count();
            self.findings
                .with_label_values(&[kind.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// What the view of the source says, as it is at the moment of asking.
struct ViewCollector {
    health: Health,
    synced: IntGauge,
    objects: IntGaugeVec,
    age: GaugeVec,
}

/// Registers the view of the source.
///
/// # Errors
/// When a name is registered already.
pub(crate) fn register_view(registry: &Registry, health: Health) -> Result<(), prometheus::Error> {
    let collector = ViewCollector {
        health,
        synced: IntGauge::new(
            "sekisho_source_synced",
            "Whether the first complete view of the source is there",
        )?,
        objects: IntGaugeVec::new(
            Opts::new("sekisho_source_objects", "Objects of the source"),
            &["kind"],
        )?,
        age: GaugeVec::new(
            Opts::new(
                "sekisho_source_age_seconds",
                "Since the source was last heard; kind is `all` for a directory",
            ),
            &["kind"],
        )?,
    };
    registry.register(Box::new(collector))
}

impl Collector for ViewCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.synced.desc(), self.objects.desc(), self.age.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let view = self.health.view();
        self.synced.set(i64::from(view.synced));
        for kind in Kind::ALL {
            let count = view.objects.get(kind.as_str()).copied().unwrap_or(0);
            self.objects
                .with_label_values(&[kind.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let age = |kind: &str, seconds: Option<u64>| {
            if let Some(seconds) = seconds {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "an age in seconds; a few digits suffice"
                )]
                self.age.with_label_values(&[kind]).set(seconds as f64);
            }
        };
        if view.kinds.is_empty() {
            age("all", view.age_seconds);
        }
        for kind in &view.kinds {
            age(kind.kind, kind.age_seconds);
        }
        [self.synced.collect(), self.objects.collect(), self.age.collect()].concat()
    }
}
