//! A cluster, through its API server.

use sekisho_config::model::SourceKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Published;
use crate::metrics::Metrics;
use crate::view::Health;

/// The source.
pub(crate) struct Cluster {
    pub(crate) kind: SourceKind,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) publish: watch::Sender<Option<Published>>,
    pub(crate) stop: CancellationToken,
}

impl Cluster {
    pub(crate) async fn run(self) {
        self.stop.cancelled().await;
    }
}
