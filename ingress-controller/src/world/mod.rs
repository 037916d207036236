//! The facts: every object of the kinds we read, as both sources fill them.

mod content;
mod facts;
mod parse;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use sekisho_config::model::ObjectName;
use serde::Serialize;

use crate::key_sets::Known;

pub use content::{Content, SECRET_KEYS};
pub use facts::{
    AddressType, Annotations, Backend, EndpointSlice, Ingress, IngressClass, Node, PathType, Protocol, Rule,
    RulePath, SecretFault, Service, ServicePort, ServicePortRef, ServiceType, SliceEndpoint, SlicePort,
    Status, Tls, TlsSecret,
};
pub use parse::ParseError;

/// The kinds of objects that we read.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `networking.k8s.io/v1` Ingress
    Ingress,
    /// `networking.k8s.io/v1` IngressClass
    IngressClass,
    /// `v1` Service
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice
    EndpointSlice,
    /// `v1` Secret of type `kubernetes.io/tls`
    Secret,
    /// `v1` Node
    Node,
    /// `v1` Secret of any type, where an annotation names it
    NamedSecret,
    /// `v1` ConfigMap, where an annotation names it
    ConfigMap,
}

/// A Secret ([`Kind::NamedSecret`]) or [`Kind::ConfigMap`] that an annotation names.
pub type Reference = (Kind, ObjectName);

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Ingress,
        Self::IngressClass,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::Node,
        Self::NamedSecret,
        Self::ConfigMap,
    ];

    /// Without which no view of a cluster is complete. Nodes only make a choice between routes better.
    pub const NEEDED: [Self; 5] = [
        Self::Ingress,
        Self::IngressClass,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
    ];

    /// Whether it is one of [`Self::NEEDED`].
    pub fn is_needed(self) -> bool {
        Self::NEEDED.contains(&self)
    }

    /// `kind` as manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret | Self::NamedSecret => "Secret",
            Self::Node => "Node",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// `apiVersion` as manifests write it.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Ingress | Self::IngressClass => "networking.k8s.io/v1",
            Self::Service | Self::Secret | Self::Node | Self::NamedSecret | Self::ConfigMap => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
        }
    }

    /// API group, empty for the core, and the plural name: what an RBAC rule names.
    pub fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::Ingress => ("networking.k8s.io", "ingresses"),
            Self::IngressClass => ("networking.k8s.io", "ingressclasses"),
            Self::Service => ("", "services"),
            Self::EndpointSlice => ("discovery.k8s.io", "endpointslices"),
            Self::Secret | Self::NamedSecret => ("", "secrets"),
            Self::Node => ("", "nodes"),
            Self::ConfigMap => ("", "configmaps"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object of a kind that we read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Object {
    /// An Ingress.
    Ingress(Arc<Ingress>),
    /// An IngressClass.
    IngressClass(Arc<IngressClass>),
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Secret of type `kubernetes.io/tls`.
    Secret(Arc<TlsSecret>),
    /// A Node.
    Node(Arc<Node>),
    /// A Secret or ConfigMap that an annotation may name.
    Content(Arc<Content>),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Ingress(_) => Kind::Ingress,
            Self::IngressClass(_) => Kind::IngressClass,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Secret(_) => Kind::Secret,
            Self::Node(_) => Kind::Node,
            Self::Content(content) => content.kind,
        }
    }

    /// Its name.
    pub fn name(&self) -> &ObjectName {
        match self {
            Self::Ingress(object) => &object.name,
            Self::IngressClass(object) => &object.name,
            Self::Service(object) => &object.name,
            Self::EndpointSlice(object) => &object.name,
            Self::Secret(object) => &object.name,
            Self::Node(object) => &object.name,
            Self::Content(object) => &object.name,
        }
    }
}

/// Everything a source says. Persistent: a clone costs a few pointers and shares what does not change.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct World {
    /// Ingresses.
    pub ingresses: OrdMap<ObjectName, Arc<Ingress>>,
    /// IngressClasses; the namespace is empty.
    pub ingress_classes: OrdMap<ObjectName, Arc<IngressClass>>,
    /// Services.
    pub services: OrdMap<ObjectName, Arc<Service>>,
    /// Nodes.
    pub nodes: OrdMap<ObjectName, Arc<Node>>,
    /// EndpointSlices.
    pub slices: OrdMap<ObjectName, Arc<EndpointSlice>>,
    /// TLS Secrets.
    pub secrets: OrdMap<ObjectName, Arc<TlsSecret>>,
    /// Secrets and ConfigMaps that annotations name.
    pub contents: OrdMap<Reference, Arc<Content>>,
    /// Those of which a cluster has not said yet whether they exist, and why.
    pub unheard: OrdMap<Reference, Arc<str>>,
    /// What is known of the key sets that annotations name by URL.
    pub key_sets: Known,
    /// Addresses that were given to Services before, by us: kept as long as they are possible.
    pub allocations: OrdMap<ObjectName, Vec<IpAddr>>,
    /// Names of the slices of each Service.
    slices_of: OrdMap<ObjectName, OrdSet<ObjectName>>,
}

impl World {
    /// Adds `object`, in the place of the one of the same kind and name.
    pub fn insert(&mut self, object: Object) {
        match object {
            Object::Ingress(object) => {
                self.ingresses.insert(object.name.clone(), object);
            }
            Object::IngressClass(object) => {
                self.ingress_classes.insert(object.name.clone(), object);
            }
            Object::Service(object) => {
                self.services.insert(object.name.clone(), object);
            }
            Object::EndpointSlice(object) => {
                if let Some(old) = self.slices.insert(object.name.clone(), object.clone()) {
                    self.unlist(&old);
                }
                if let Some(service) = &object.service {
                    let mut names = self.slices_of.get(service).cloned().unwrap_or_default();
                    names.insert(object.name.clone());
                    self.slices_of.insert(service.clone(), names);
                }
            }
            Object::Secret(object) => {
                self.secrets.insert(object.name.clone(), object);
            }
            Object::Node(object) => {
                self.nodes.insert(object.name.clone(), object);
            }
            Object::Content(object) => {
                self.contents.insert((object.kind, object.name.clone()), object);
            }
        }
    }

    /// Forgets the object.
    pub fn remove(&mut self, kind: Kind, name: &ObjectName) {
        match kind {
            Kind::Ingress => drop(self.ingresses.remove(name)),
            Kind::IngressClass => drop(self.ingress_classes.remove(name)),
            Kind::Service => drop(self.services.remove(name)),
            Kind::EndpointSlice => {
                if let Some(old) = self.slices.remove(name) {
                    self.unlist(&old);
                }
            }
            Kind::Secret => drop(self.secrets.remove(name)),
            Kind::Node => drop(self.nodes.remove(name)),
            Kind::NamedSecret | Kind::ConfigMap => drop(self.contents.remove(&(kind, name.clone()))),
        }
    }

    /// Puts `objects` in the place of everything of `kind`; what is the same keeps its memory.
    pub fn replace(&mut self, kind: Kind, objects: Vec<Object>) {
        let fresh: OrdSet<ObjectName> = objects.iter().map(|object| object.name().clone()).collect();
        for name in self.names(kind) {
            if !fresh.contains(&name) {
                self.remove(kind, &name);
            }
        }
        for object in objects {
            if self.get(kind, object.name()).as_ref() != Some(&object) {
                self.insert(object);
            }
        }
    }

    /// The object, if there is one.
    pub fn get(&self, kind: Kind, name: &ObjectName) -> Option<Object> {
        match kind {
            Kind::Ingress => self.ingresses.get(name).cloned().map(Object::Ingress),
            Kind::IngressClass => self.ingress_classes.get(name).cloned().map(Object::IngressClass),
            Kind::Service => self.services.get(name).cloned().map(Object::Service),
            Kind::EndpointSlice => self.slices.get(name).cloned().map(Object::EndpointSlice),
            Kind::Secret => self.secrets.get(name).cloned().map(Object::Secret),
            Kind::Node => self.nodes.get(name).cloned().map(Object::Node),
            Kind::NamedSecret | Kind::ConfigMap => {
                let content = self.contents.get(&(kind, name.clone()));
                content.cloned().map(Object::Content)
            }
        }
    }

    /// How many objects of `kind` there are.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Ingress => self.ingresses.len(),
            Kind::IngressClass => self.ingress_classes.len(),
            Kind::Service => self.services.len(),
            Kind::EndpointSlice => self.slices.len(),
            Kind::Secret => self.secrets.len(),
            Kind::Node => self.nodes.len(),
            Kind::NamedSecret | Kind::ConfigMap => self.named(kind).count(),
        }
    }

    /// The slices of a Service, by name.
    pub fn slices_of<'a>(&'a self, service: &ObjectName) -> impl Iterator<Item = &'a Arc<EndpointSlice>> {
        self.slices_of
            .get(service)
            .into_iter()
            .flat_map(|names| names.iter())
            .filter_map(|name| self.slices.get(name))
    }

    fn names(&self, kind: Kind) -> Vec<ObjectName> {
        match kind {
            Kind::Ingress => self.ingresses.keys().cloned().collect(),
            Kind::IngressClass => self.ingress_classes.keys().cloned().collect(),
            Kind::Service => self.services.keys().cloned().collect(),
            Kind::EndpointSlice => self.slices.keys().cloned().collect(),
            Kind::Secret => self.secrets.keys().cloned().collect(),
            Kind::Node => self.nodes.keys().cloned().collect(),
            Kind::NamedSecret | Kind::ConfigMap => self.named(kind).cloned().collect(),
        }
    }

    /// What an annotation's Secret or ConfigMap holds; else why not, with what to do.
    ///
    /// # Errors
    /// When it does not exist, or when that is not known.
    pub fn content(&self, reference: &Reference) -> Result<&Arc<Content>, String> {
        let (kind, name) = reference;
        let found = self.contents.get(reference).or_else(|| {
            // A directory has a Secret of this type as that alone.
            let secret = self.secrets.get(name).filter(|_| *kind == Kind::NamedSecret)?;
            Some(&secret.content)
        });
        found.ok_or_else(|| match self.unheard.get(reference) {
            None => format!("there is no {kind} {name}; create it"),
            Some(why) => format!("{kind} {name} is not known: {why}"),
        })
    }

    fn named(&self, kind: Kind) -> impl Iterator<Item = &ObjectName> {
        let of_kind = self.contents.keys().filter(move |(of, _)| *of == kind);
        of_kind.map(|(_, name)| name)
    }

    /// Takes `slice` out of the index by Service.
    fn unlist(&mut self, slice: &EndpointSlice) {
        let Some(service) = &slice.service else { return };
        let Some(names) = self.slices_of.get(service) else {
            return;
        };
        let names = names.without(&slice.name);
        if names.is_empty() {
            self.slices_of.remove(service);
        } else {
            self.slices_of.insert(service.clone(), names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, service: &str) -> Object {
        Object::EndpointSlice(Arc::new(EndpointSlice {
            annotations: Annotations::new(),
            name: ObjectName::new("ns", name),
            service: Some(ObjectName::new("ns", service)),
            address_type: AddressType::Ipv4,
            ports: Vec::new(),
            endpoints: Vec::new(),
        }))
    }

    fn slices(world: &World, service: &str) -> Vec<String> {
        world
            .slices_of(&ObjectName::new("ns", service))
            .map(|slice| slice.name.name.to_string())
            .collect()
    }

    #[test]
    fn slices_are_found_by_service_whatever_happens_to_them() {
        let mut world = World::default();
        world.insert(slice("one", "a"));
        world.insert(slice("two", "a"));
        assert_eq!(slices(&world, "a"), ["one", "two"]);
        world.insert(slice("one", "b"));
        assert_eq!(
            (slices(&world, "a"), slices(&world, "b")),
            (vec!["two".to_owned()], vec!["one".to_owned()])
        );
        world.remove(Kind::EndpointSlice, &ObjectName::new("ns", "two"));
        assert!(slices(&world, "a").is_empty());
        world.replace(Kind::EndpointSlice, vec![slice("three", "b")]);
        assert_eq!(slices(&world, "b"), ["three"]);
        assert_eq!(world.count(Kind::EndpointSlice), 1);
    }

    #[test]
    fn a_replaced_list_keeps_the_memory_of_what_is_the_same() {
        let mut world = World::default();
        world.replace(Kind::EndpointSlice, vec![slice("one", "a")]);
        let before = world.slices.get(&ObjectName::new("ns", "one")).cloned().unwrap();
        world.replace(Kind::EndpointSlice, vec![slice("one", "a"), slice("two", "a")]);
        let after = world.slices.get(&ObjectName::new("ns", "one")).unwrap();
        assert!(Arc::ptr_eq(&before, after));
    }
}
