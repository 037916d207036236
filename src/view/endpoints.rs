use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::{
    Condition, Ineligible, NodeName, ObjectName, PeerName, PoolId, Prefix, Reach, Routing,
};
use sekisho_proxy::health::Ejected;
use sekisho_proxy::moment::Moment;
use sekisho_proxy::snapshot::CompiledPool;
use serde::Serialize;

use crate::control::Picture;

/// One backend.
#[derive(Serialize)]
pub(crate) struct EndpointView {
    namespace: Arc<str>,
    service: Arc<str>,
    port: u16,
    pod: Option<ObjectName>,
    address: std::net::SocketAddr,
    node: Option<NodeName>,
    condition: Condition,
    prefix: Option<Prefix>,
    next_hops: Vec<IpAddr>,
    interface: Option<Arc<str>>,
    peers: Vec<PeerName>,
    /// `bgp`, `kernel`, `off`, or why there is none.
    route: String,
    requests_in_flight: u32,
    /// Requests and connections so far, and those of them that failed.
    requests: u64,
    failures: u64,
    /// Peak EWMA of the time to the first octet, where the pool measures it.
    first_octet_seconds: Option<f64>,
    /// `well`, or what traffic has shown.
    health: String,
    pub(super) in_use: bool,
    /// Why it is not in use; empty when it is.
    why: String,
}

/// Every backend, or those of one Service (`name` or `namespace/name`).
pub(crate) fn view(picture: &Picture, service: Option<&str>) -> Vec<EndpointView> {
    let wanted = |id: &PoolId| match service {
        None => true,
        Some(text) => match text.split_once('/') {
            Some((namespace, name)) => *id.service.namespace == *namespace && *id.service.name == *name,
            None => *id.service.name == *text,
        },
    };
    let Some(cluster) = &picture.desired.cluster else {
        return Vec::new();
    };
    cluster
        .pools
        .keys()
        .filter(|id| wanted(id))
        .filter_map(|id| picture.snapshot.pool(id))
        .flat_map(|pool| of_pool(picture, pool))
        .collect()
}

/// The backends of one pool.
pub(crate) fn of_pool(picture: &Picture, pool: &CompiledPool) -> Vec<EndpointView> {
    let id = pool.id();
    let now = Moment::now();
    pool.endpoints()
        .iter()
        .map(|compiled| {
            let endpoint = &compiled.endpoint;
            let reach = picture.observed.reach.get(&endpoint.ip());
            let via = match reach {
                Some(Reach::Routed(via)) => Some(via),
                _ => None,
            };
            let route = match (picture.settings.source.routing, reach) {
                (Routing::Off, _) => "off".into(),
                (_, Some(Reach::Routed(via))) if via.kernel => "kernel".into(),
                (_, Some(Reach::Routed(_))) => "bgp".into(),
                (_, Some(Reach::Unroutable { why })) => why.to_string(),
                (_, None) => sekisho_config::model::Unroutable::NotAsked.to_string(),
            };
            let ejected = Ejected::of(pool, compiled, now);
            let out = ejected.as_ref().is_some_and(|ejected| !ejected.used);
            let check = pool.policy().health_check.as_ref();
            let checked = check.and_then(|check| {
                let key = (endpoint.address, Arc::clone(check));
                picture.observed.health.get(&key)
            });
            let health = match (ejected, checked) {
                (Some(ejected), _) => ejected.to_string(),
                (None, Some(checked)) if !checked.well => {
                    format!("its health check fails: {}", checked.detail)
                }
                (None, None) if check.is_some() => "not checked yet".to_owned(),
                _ => "well".to_owned(),
            };
            EndpointView {
                namespace: Arc::clone(&id.service.namespace),
                service: Arc::clone(&id.service.name),
                port: id.port,
                pod: endpoint.pod.clone(),
                address: endpoint.address,
                node: endpoint.node.clone(),
                condition: endpoint.condition,
                prefix: via.map(|via| via.prefix),
                next_hops: via.map(|via| via.next_hops.clone()).unwrap_or_default(),
                interface: via.and_then(|via| via.interface.clone()),
                peers: via.map(|via| via.peers.clone()).unwrap_or_default(),
                route,
                requests_in_flight: compiled.state.in_flight(),
                requests: compiled.state.requests(),
                failures: compiled
                    .state
                    .failures()
                    .saturating_add(compiled.state.connect_failures()),
                first_octet_seconds: compiled.state.first_octet().map(|time| time.as_secs_f64()),
                in_use: compiled.eligibility.is_ok() && !out,
                why: match compiled.eligibility {
                    Err(Ineligible::Unhealthy) => health.clone(),
                    Err(why) => why.to_string(),
                    Ok(()) if out => health.clone(),
                    Ok(()) => String::new(),
                },
                health,
            }
        })
        .collect()
}
