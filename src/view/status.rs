use std::sync::Arc;

use jiff::Timestamp;
use sekisho_acme::OrderView;
use sekisho_bgp::PeerView;
use sekisho_config::model::{Finding, PoolId, Revision};
use sekisho_ingress_controller::SourceView;
use serde::Serialize;

use super::certificates::{self, CertificateView};
use super::vips::{self, VipRow};
use crate::control::Picture;

/// The one screen.
#[derive(Serialize)]
pub(crate) struct Status<'a> {
    name: Arc<str>,
    version: &'static str,
    revision: Revision,
    published_at: Timestamp,
    uptime_seconds: i64,
    ready: bool,
    not_ready: Vec<String>,
    source: &'a SourceView,
    bgp: Option<BgpRow<'a>>,
    peers: &'a [PeerView],
    vips: Vec<VipRow>,
    services: Vec<ServiceRow>,
    certificates: Vec<CertificateView>,
    findings: &'a [Finding],
}

/// What of BGP is not a peer's.
#[derive(Serialize)]
pub(crate) struct BgpRow<'a> {
    pub(crate) kernel: sekisho_bgp::fib::State,
    pub(crate) listeners: &'a [sekisho_bgp::ListenerView],
}

#[derive(Serialize)]
struct ServiceRow {
    pool: PoolId,
    /// Endpoints that get requests.
    eligible: usize,
    /// Endpoints that the cluster knows.
    known: usize,
}

/// The state of the box.
pub(crate) fn view<'a>(
    picture: &'a Picture,
    bgp: Option<BgpRow<'a>>,
    peers: &'a [PeerView],
    announced: &[sekisho_bgp::VipView],
    orders: &[OrderView],
    source: &'a SourceView,
    started: Timestamp,
) -> Status<'a> {
    let not_ready = crate::admin::not_ready(picture);
    Status {
        name: Arc::clone(&picture.settings.appliance.name),
        version: env!("CARGO_PKG_VERSION"),
        revision: picture.revision,
        published_at: picture.published_at,
        uptime_seconds: Timestamp::now().as_second().saturating_sub(started.as_second()),
        ready: not_ready.is_empty(),
        not_ready,
        source,
        bgp,
        peers,
        vips: vips::view(picture, announced),
        services: picture
            .desired
            .cluster
            .iter()
            .flat_map(|cluster| cluster.pools.keys())
            .filter_map(|id| picture.snapshot.pool(id))
            .map(|pool| ServiceRow {
                pool: pool.id().clone(),
                eligible: pool.eligible(),
                known: pool.endpoints().len(),
            })
            .collect(),
        certificates: certificates::view(picture, orders),
        findings: &picture.findings,
    }
}
