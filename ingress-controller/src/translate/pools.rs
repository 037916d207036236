//! Pools: the endpoints behind one port of one Service, from its EndpointSlices.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::{Balance, Condition, Endpoint, FindingKind, Pool, PoolId, Upstream};

use super::findings::Findings;
use super::{Context, annotations, upstream};
use crate::text::printable;
use crate::world::{
    AddressType, Annotations, EndpointSlice, Ingress, Kind, Protocol, Service, SliceEndpoint, World,
};

/// The pools that routes and listeners lead to, with the Ingresses that lead there, the oldest first.
#[derive(Default)]
pub(super) struct Wanted<'a> {
    pools: BTreeMap<PoolId, Vec<&'a Ingress>>,
}

impl<'a> Wanted<'a> {
    /// Notes that `pool` is used, by an Ingress or by a listener of its own. Ingresses come oldest first.
    pub(super) fn add(&mut self, pool: PoolId, ingress: Option<&'a Ingress>) {
        let ingresses = self.pools.entry(pool).or_default();
        if let Some(ingress) = ingress
            && ingresses.last().is_none_or(|last| last.name != ingress.name)
        {
            ingresses.push(ingress);
        }
    }

    /// Makes every noted pool.
    pub(super) fn build(
        self,
        world: &World,
        context: &Context,
        findings: &mut Findings,
    ) -> OrdMap<PoolId, Arc<Pool>> {
        self.pools
            .into_iter()
            .map(|(id, ingresses)| {
                let pool = pool(world, context, id.clone(), &ingresses, findings);
                (id, Arc::new(pool))
            })
            .collect()
    }
}

/// The annotations that say how a pool is used: the Service's own, then those of its Ingresses, the oldest first. Whoever
/// comes too late with another value hears of it.
fn merged(id: &PoolId, service: &Service, ingresses: &[&Ingress], findings: &mut Findings) -> Annotations {
    let mut merged = Annotations::new();
    for row in annotations::POLICY {
        let value = |annotations: &Annotations| {
            let (name, value) = annotations.get_key_value(row.name())?;
            row.check(value).ok()?;
            Some((Arc::clone(name), Arc::clone(value)))
        };
        let mut winner: Option<&Ingress> = None;
        if let Some((name, value)) = value(&service.annotations) {
            merged.insert(name, value);
            continue;
        }
        for ingress in ingresses {
            let Some((name, value)) = value(&ingress.annotations) else {
                continue;
            };
            match winner {
                None => {
                    merged.insert(name, value);
                    winner = Some(ingress);
                }
                Some(_) if merged.get(&name) == Some(&value) => {}
                Some(winner) => findings.add(
                    FindingKind::Conflict,
                    (Kind::Ingress, &ingress.name),
                    annotations::place(row.name()),
                    format!(
                        "the older Ingress {} wishes another value for {id}, and that is used; annotate the Service instead",
                        winner.name
                    ),
                ),
            }
        }
    }
    merged
}

fn pool(
    world: &World,
    context: &Context,
    id: PoolId,
    ingresses: &[&Ingress],
    findings: &mut Findings,
) -> Pool {
    let Some(service) = world.services.get(&id.service) else {
        return Pool {
            id,
            balance: Balance::default(),
            upstream: Upstream::default(),
            policy: Arc::default(),
            endpoints: Vec::new(),
        };
    };
    annotations::check(Kind::Service, &service.name, &service.annotations, findings);
    let slices = world.slices_of(&id.service);
    let upstream = upstream::upstream(world, service, i32::from(id.port), slices, findings);
    let (balance, policy) = annotations::policy(&merged(&id, service, ingresses, findings));
    let port_name = service
        .ports
        .iter()
        .find(|port| port.protocol == Protocol::Tcp && port.port == i32::from(id.port))
        .map(|port| port.name.clone())
        .unwrap_or_default();
    let mut endpoints: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for slice in world.slices_of(&id.service) {
        annotations::check(Kind::EndpointSlice, &slice.name, &slice.annotations, findings);
        for endpoint in slice_endpoints(context, slice, &port_name, findings) {
            match endpoints.entry(endpoint.address) {
                Entry::Vacant(entry) => {
                    entry.insert(endpoint);
                }
                // The same address in two slices, while one replaces the other: the better word counts.
                Entry::Occupied(mut entry) => {
                    if endpoint.condition < entry.get().condition {
                        entry.insert(endpoint);
                    }
                }
            }
        }
    }
    let endpoints: Vec<Endpoint> = endpoints.into_values().collect();
    if endpoints
        .iter()
        .all(|endpoint| endpoint.condition == Condition::NotReady)
    {
        let message = if endpoints.is_empty() {
            "no EndpointSlice names an endpoint for it, so nothing can be served; check the selector and the port name"
        } else {
            "none of its endpoints is ready, so nothing can be served; look at the pods"
        };
        findings.add(
            FindingKind::BackendMissing,
            (Kind::Service, &id.service),
            format!("port {}", id.port),
            message,
        );
    }
    Pool {
        id,
        balance,
        upstream,
        policy: Arc::new(policy),
        endpoints,
    }
}

/// The endpoints of one slice for the port of this name.
fn slice_endpoints(
    context: &Context,
    slice: &EndpointSlice,
    port_name: &str,
    findings: &mut Findings,
) -> Vec<Endpoint> {
    let mut report = |kind, place: String, message: String| {
        findings.add(kind, (Kind::EndpointSlice, &slice.name), place, message);
    };
    if let AddressType::Other(other) = &slice.address_type {
        report(
            FindingKind::Unsupported,
            "addressType".to_owned(),
            format!(
                "`{}` is not supported: the slice is left out; write IPv4 or IPv6",
                printable(other)
            ),
        );
        return Vec::new();
    }
    let mut ports = slice.ports.iter().enumerate();
    let Some((port_index, port)) =
        ports.find(|(_, port)| port.protocol == Protocol::Tcp && *port.name == *port_name)
    else {
        return Vec::new();
    };
    let Some(port) = port
        .port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
    else {
        report(
            FindingKind::InvalidValue,
            format!("ports[{port_index}].port"),
            "is no port number from 1 to 65535: the slice is left out for this port; write the container's port".to_owned(),
        );
        return Vec::new();
    };
    let weight = annotations::WEIGHT
        .of(&slice.annotations)
        .unwrap_or(std::num::NonZeroU8::MIN);
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let place = || format!("endpoints[{index}].addresses");
        let Some(first) = endpoint.addresses.first() else {
            report(
                FindingKind::InvalidValue,
                place(),
                "is empty; write one address".to_owned(),
            );
            continue;
        };
        if endpoint.addresses.len() > 1 {
            report(
                FindingKind::Unsupported,
                place(),
                "only the first address is used, as Kubernetes defines it; write one endpoint for each"
                    .to_owned(),
            );
        }
        match usable(context, &slice.address_type, first) {
            Ok(address) => endpoints.push(Endpoint {
                address: SocketAddr::new(address, port),
                pod: endpoint.pod.clone(),
                node: endpoint.node.clone(),
                condition: condition(endpoint),
                weight,
            }),
            Err(why) => report(
                FindingKind::InvalidValue,
                place(),
                format!("`{}` {why}: the endpoint is left out", printable(first)),
            ),
        }
    }
    endpoints
}

/// `conditions` folded. A terminating endpoint that says `ready` comes from `publishNotReadyAddresses` and is meant so.
fn condition(endpoint: &SliceEndpoint) -> Condition {
    if endpoint.ready {
        Condition::Ready
    } else if endpoint.serving && endpoint.terminating {
        Condition::ServingTerminating
    } else {
        Condition::NotReady
    }
}

/// An address that may be an endpoint, or why it must not be one. Who may write a slice must not reach the box itself,
/// its links, or groups of hosts (compare CVE-2021-25740).
fn usable(context: &Context, family: &AddressType, text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.parse().map_err(|_| "is no IP address")?;
    if address.is_ipv4() != (*family == AddressType::Ipv4) {
        return Err("is not of the slice's addressType");
    }
    if let IpAddr::V6(v6) = address
        && (v6.to_ipv4_mapped().is_some()
            || matches!(v6.segments(), [0, 0, 0, 0, 0, 0, _, _]) && !v6.is_loopback() && !v6.is_unspecified())
    {
        return Err("is an IPv4 address in IPv6 clothing; write it in an IPv4 slice");
    }
    if address.is_unspecified() || address.is_multicast() {
        return Err("is the unspecified or a multicast address");
    }
    if let IpAddr::V4(v4) = address
        && (v4.octets().first() == Some(&0) || v4.is_broadcast() || v4.octets().first() >= Some(&240))
    {
        return Err("is in a reserved network");
    }
    if context.allow_loopback_endpoints {
        return Ok(address);
    }
    if address.is_loopback() {
        return Err(
            "is a loopback address, and so the box itself; `allow_loopback_endpoints` in [source] permits it for trials",
        );
    }
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local {
        return Err(
            "is a link-local address, where metadata services live; `allow_loopback_endpoints` in [source] permits it for trials",
        );
    }
    let listens = context
        .listen
        .http
        .iter()
        .chain(&context.listen.https)
        .any(|listener| listener.ip() == address);
    let vip = context
        .vips
        .iter()
        .flat_map(|pool| &pool.addresses)
        .any(|prefix| prefix.contains(address));
    if listens || vip || context.listen.ingress_addresses.contains(&address) {
        return Err("is an address of the box itself ([listen] or [[vips]])");
    }
    if context.own_addresses.contains(&address) {
        return Err("is an address of the box itself (on one of its interfaces)");
    }
    Ok(address)
}
