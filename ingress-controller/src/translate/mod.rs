//! What the objects ask for: a pure function of the facts and of a few parts of the box's file.
//!
//! Every part of the result is made from the facts that it names and from nothing else (a host from its Ingresses, a pool
//! from its Service and slices), so that it can later be made again alone when one of them changes.

mod annotations;
mod backends;
mod balancers;
mod certificates;
mod class;
mod door;
mod filters;
mod findings;
mod hosts;
mod named;
mod pools;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::{
    AddressPool, ClusterPart, Finding, KeySets, Listen, NodeAddresses, NodeName, ObjectName, Settings,
    SourceKind,
};

pub use annotations::reference as annotation_reference;
pub(crate) use annotations::usable_key_set;
pub(crate) use named::{References, TOO_MANY as TOO_MANY_REFERENCES, key_set_urls, references};

use crate::status::Wanted;
use crate::world::World;
use findings::Findings;

/// The parts of the box's file that [`translate`] needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Context {
    /// `[source] ingress_class`
    pub ingress_class: Arc<str>,
    /// Whether an Ingress that names our class belongs to us although no IngressClass object of that name exists: so in a
    /// directory, where the file of the box says it all; never in a cluster.
    pub class_by_name: bool,
    /// `[source] allow_loopback_endpoints`
    pub allow_loopback_endpoints: bool,
    /// Addresses of the box's interfaces, as the system says now; the file does not know them.
    pub own_addresses: Arc<BTreeSet<IpAddr>>,
    /// `[[vips]]`
    pub vips: Vec<AddressPool>,
    /// `[listen]`
    pub listen: Listen,
    /// Whether there is an `[acme]` section.
    pub acme: bool,
    /// `[key_sets]`
    pub key_sets: Option<Arc<KeySets>>,
    /// Whether routes are learned by BGP, so that it matters which node runs a pod. Counts at the start.
    pub nodes: bool,
}

impl From<&Settings> for Context {
    fn from(settings: &Settings) -> Self {
        Self {
            ingress_class: settings.source.ingress_class.clone(),
            class_by_name: matches!(settings.source.kind, SourceKind::Manifests(_)),
            allow_loopback_endpoints: settings.source.allow_loopback_endpoints,
            own_addresses: Arc::default(),
            vips: settings.vips.clone(),
            listen: settings.listen.clone(),
            acme: settings.acme.is_some(),
            key_sets: settings.key_sets.clone(),
            nodes: settings.bgp.is_some(),
        }
    }
}

/// What the objects ask for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Translation {
    /// For the control task.
    pub part: ClusterPart,
    /// The addresses that are to stand in the objects' status.
    pub status: Wanted,
    /// The addresses given to Services of type LoadBalancer: to be remembered and put into [`World::allocations`].
    pub allocations: OrdMap<ObjectName, Vec<IpAddr>>,
}

/// Translates the whole world. Never panics, whatever the objects hold; one object never disturbs another.
///
/// The findings are ordered, each once, at most [`MAX_FINDINGS`].
pub fn translate(world: &World, context: &Context) -> (Translation, Vec<Finding>) {
    let mut findings = Findings::default();
    let ingresses = class::ours(world, context, &mut findings);
    let mut wanted = pools::Wanted::default();
    let hosts = hosts::hosts(world, &ingresses, &mut wanted, &mut findings);
    let certificates = certificates::certificates(world, context, &ingresses, &mut findings);
    let balancers = balancers::balancers(world, context, &mut wanted, &mut findings);
    let pools = wanted.build(world, context, &mut findings);
    let ingress_status = balancers.ingress_addresses;
    let status = Wanted {
        ingresses: ingresses
            .iter()
            .map(|ingress| (ingress.name.clone(), ingress_status.clone()))
            .collect(),
        services: balancers.allocations.clone(),
    };
    let part = ClusterPart {
        hosts,
        pools,
        certificates,
        tcp: balancers.tcp,
        vips: balancers.vips,
        nodes: nodes(world),
    };
    let allocations = balancers.allocations;
    (
        Translation {
            part,
            status,
            allocations,
        },
        findings.into_vec(),
    )
}

fn nodes(world: &World) -> OrdMap<NodeName, Arc<NodeAddresses>> {
    let nodes = world.nodes.values();
    nodes
        .map(|node| {
            let addresses = NodeAddresses(node.addresses.clone());
            (NodeName(node.name.name.clone()), Arc::new(addresses))
        })
        .collect()
}

/// The most findings that one translation gives; what is beyond is counted in the last one.
pub const MAX_FINDINGS: usize = 10_000;

/// `next`, with the memory of `previous` wherever both say the same: comparing the two then costs what changed.
pub fn retain_shared(previous: &ClusterPart, next: ClusterPart) -> ClusterPart {
    ClusterPart {
        hosts: share(&previous.hosts, next.hosts),
        pools: share(&previous.pools, next.pools),
        certificates: share(&previous.certificates, next.certificates),
        tcp: share(&previous.tcp, next.tcp),
        vips: share(&previous.vips, next.vips),
        nodes: share(&previous.nodes, next.nodes),
    }
}

fn share<K: Clone + Ord, V: PartialEq>(
    previous: &OrdMap<K, Arc<V>>,
    next: OrdMap<K, Arc<V>>,
) -> OrdMap<K, Arc<V>> {
    let mut shared = previous.clone();
    for key in previous.keys() {
        if !next.contains_key(key) {
            shared.remove(key);
        }
    }
    for (key, value) in next {
        if shared.get(&key) != Some(&value) {
            shared.insert(key, value);
        }
    }
    shared
}
