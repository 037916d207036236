use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

/// Metrics of the kernel's routes.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) routes: IntGaugeVec,
    pub(super) groups: IntGauge,
    pub(super) pending: IntGauge,
    pub(super) errors: IntCounter,
    pub(super) reasserted: IntCounter,
    pub(super) last_resync: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When one of the names is already registered.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            routes: IntGaugeVec::new(
                Opts::new("sekisho_fib_routes", "Routes of ours in the kernel"),
                &["kind"],
            )?,
            groups: IntGauge::new(
                "sekisho_fib_nexthop_groups",
                "Groups of nexthop objects of ours in the kernel, shared by routes",
            )?,
            pending: IntGauge::new(
                "sekisho_fib_pending_routes",
                "Routes wanted, but not in the kernel yet",
            )?,
            errors: IntCounter::new(
                "sekisho_fib_errors_total",
                "Route changes that the kernel refused",
            )?,
            reasserted: IntCounter::new(
                "sekisho_fib_reasserted_routes_total",
                "Routes of ours that somebody else changed or removed, and that were written again",
            )?,
            last_resync: IntGauge::new(
                "sekisho_fib_last_resync_timestamp_seconds",
                "When the kernel's routes were last read as a whole",
            )?,
        };
        registry.register(Box::new(metrics.routes.clone()))?;
        registry.register(Box::new(metrics.groups.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.reasserted.clone()))?;
        registry.register(Box::new(metrics.last_resync.clone()))?;
        for kind in ["ipv4", "ipv6", "vip"] {
            metrics.routes.with_label_values(&[kind]).set(0);
        }
        Ok(metrics)
    }
}
