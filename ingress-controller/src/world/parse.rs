//! From the API's types to facts. Nothing of an object is believed: it may come from a file that no API server has seen.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sekisho_config::model::{Certificate, NodeName, ObjectName};

use super::Content;
use super::facts::{
    AddressType, Annotations, Backend, EndpointSlice, Ingress, IngressClass, Node, PathType, Protocol, Rule,
    RulePath, SecretFault, Service, ServicePort, ServicePortRef, ServiceType, SliceEndpoint, SlicePort,
    Status, Tls, TlsSecret,
};
use crate::text::{is_object_name, printable};
use crate::{ANNOTATION_PREFIX, CLASS_ANNOTATION, FIELD_MANAGER};

/// Why an object is not taken into the world at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseError {
    /// No usable name.
    #[error("metadata.name `{0}` is not a name; write lower-case letters, digits, `-` and `.`, at most 253")]
    Name(String),
    /// No usable namespace.
    #[error("metadata.namespace `{0}` is not a name; write lower-case letters, digits and `-`, at most 63")]
    Namespace(String),
}

const DEFAULT_CLASS_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Where Calico writes the address, with its prefix length, from which a node speaks BGP.
const CALICO_ADDRESSES: [&str; 2] = ["projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address"];

/// The type of Secrets that we read.
pub(crate) const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";

fn text(value: Option<String>) -> Arc<str> {
    value.unwrap_or_default().into()
}

/// Namespace and name; a namespace that is not given is `default`, as kubectl has it.
pub(super) fn object_name(metadata: &ObjectMeta) -> Result<ObjectName, ParseError> {
    let name = metadata.name.as_deref().unwrap_or_default();
    if !is_object_name(name, 253) {
        return Err(ParseError::Name(printable(name)));
    }
    let namespace = match metadata.namespace.as_deref() {
        None | Some("") => "default",
        Some(namespace) if is_object_name(namespace, 63) => namespace,
        Some(namespace) => return Err(ParseError::Namespace(printable(namespace))),
    };
    Ok(ObjectName::new(namespace, name))
}

fn annotations(metadata: &ObjectMeta) -> Annotations {
    metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX) || key.as_str() == CLASS_ANNOTATION)
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect()
}

/// Whether server-side apply remembers us as a writer of the status.
fn status_is_ours(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.subresource.as_deref() == Some("status")
    })
}

fn status(metadata: &ObjectMeta, entries: impl Iterator<Item = (Option<String>, Option<String>)>) -> Status {
    let mut status = Status {
        ours: status_is_ours(metadata),
        ..Status::default()
    };
    for (ip, hostname) in entries {
        match ip.as_deref().map(str::parse) {
            Some(Ok(address)) if hostname.as_deref().unwrap_or_default().is_empty() => {
                status.addresses.push(address);
            }
            _ => status.others = true,
        }
    }
    status
}

fn protocol(text: Option<&str>) -> Protocol {
    match text {
        None | Some("" | "TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some(_) => Protocol::Other,
    }
}

fn backend(backend: networking::IngressBackend) -> Backend {
    match (backend.service, backend.resource) {
        (Some(service), None) => Backend::Service {
            name: service.name.into(),
            port: match service.port.map(|port| (port.name, port.number)) {
                Some((Some(name), None | Some(0))) if !name.is_empty() => ServicePortRef::Name(name.into()),
                Some((None, Some(number))) => ServicePortRef::Number(number),
                Some((Some(name), Some(number))) if name.is_empty() => ServicePortRef::Number(number),
                _ => ServicePortRef::Invalid,
            },
        },
        (None, Some(resource)) => Backend::Resource {
            kind: resource.kind.into(),
            name: resource.name.into(),
        },
        _ => Backend::Invalid,
    }
}

impl TryFrom<networking::Ingress> for Ingress {
    type Error = ParseError;

    fn try_from(object: networking::Ingress) -> Result<Self, ParseError> {
        let name = object_name(&object.metadata)?;
        let spec = object.spec.unwrap_or_default();
        let rule = |rule: networking::IngressRule| Rule {
            host: text(rule.host),
            paths: rule
                .http
                .map(|http| http.paths)
                .into_iter()
                .flatten()
                .map(|path| RulePath {
                    path: text(path.path),
                    path_type: match path.path_type.as_str() {
                        "Exact" => PathType::Exact,
                        "Prefix" => PathType::Prefix,
                        "ImplementationSpecific" => PathType::ImplementationSpecific,
                        other => PathType::Other(other.into()),
                    },
                    backend: backend(path.backend),
                })
                .collect(),
        };
        let entries = object
            .status
            .and_then(|status| status.load_balancer)
            .and_then(|balancer| balancer.ingress);
        Ok(Self {
            name,
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            annotations: annotations(&object.metadata),
            class_name: spec.ingress_class_name.map(Into::into),
            default_backend: spec.default_backend.map(backend),
            rules: spec.rules.into_iter().flatten().map(rule).collect(),
            tls: spec
                .tls
                .into_iter()
                .flatten()
                .map(|tls| Tls {
                    hosts: tls.hosts.into_iter().flatten().map(Into::into).collect(),
                    secret_name: tls.secret_name.filter(|name| !name.is_empty()).map(Into::into),
                })
                .collect(),
            status: status(
                &object.metadata,
                entries
                    .into_iter()
                    .flatten()
                    .map(|entry| (entry.ip, entry.hostname)),
            ),
        })
    }
}

impl TryFrom<networking::IngressClass> for IngressClass {
    type Error = ParseError;

    fn try_from(object: networking::IngressClass) -> Result<Self, ParseError> {
        let default = object
            .metadata
            .annotations
            .iter()
            .flatten()
            .any(|(key, value)| key == DEFAULT_CLASS_ANNOTATION && value == "true");
        Ok(Self {
            name: ObjectName::new("", object_name(&object.metadata)?.name),
            controller: text(object.spec.and_then(|spec| spec.controller)),
            default,
        })
    }
}

impl TryFrom<core::Node> for Node {
    type Error = ParseError;

    /// What a node calls its own inside the cluster, and what Calico has it announce from.
    fn try_from(object: core::Node) -> Result<Self, ParseError> {
        let status = object.status.unwrap_or_default();
        let own = status
            .addresses
            .into_iter()
            .flatten()
            .filter(|address| address.type_ == "InternalIP")
            .map(|address| address.address);
        let calico = object
            .metadata
            .annotations
            .iter()
            .flatten()
            .filter(|(key, _)| CALICO_ADDRESSES.contains(&key.as_str()))
            .map(|(_, value)| value.split('/').next().unwrap_or_default().to_owned());
        let mut addresses: Vec<IpAddr> = own.chain(calico).filter_map(|text| text.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(Self {
            name: ObjectName::new("", object_name(&object.metadata)?.name),
            addresses,
        })
    }
}

impl TryFrom<core::Service> for Service {
    type Error = ParseError;

    fn try_from(object: core::Service) -> Result<Self, ParseError> {
        let name = object_name(&object.metadata)?;
        let spec = object.spec.unwrap_or_default();
        let entries = object
            .status
            .and_then(|status| status.load_balancer)
            .and_then(|balancer| balancer.ingress);
        Ok(Self {
            name,
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            annotations: annotations(&object.metadata),
            service_type: match spec.type_.as_deref() {
                Some("LoadBalancer") => ServiceType::LoadBalancer,
                Some("ExternalName") => ServiceType::ExternalName,
                _ => ServiceType::Inside,
            },
            ports: spec
                .ports
                .into_iter()
                .flatten()
                .map(|port| ServicePort {
                    name: text(port.name),
                    port: port.port,
                    protocol: protocol(port.protocol.as_deref()),
                    app_protocol: text(port.app_protocol),
                })
                .collect(),
            load_balancer_class: spec
                .load_balancer_class
                .filter(|class| !class.is_empty())
                .map(Into::into),
            load_balancer_ip: spec.load_balancer_ip.filter(|ip| !ip.is_empty()).map(Into::into),
            source_ranges: spec
                .load_balancer_source_ranges
                .is_some_and(|ranges| !ranges.is_empty()),
            ip_families: spec.ip_families.into_iter().flatten().map(Into::into).collect(),
            ip_family_policy: spec.ip_family_policy.map(Into::into),
            status: status(
                &object.metadata,
                entries
                    .into_iter()
                    .flatten()
                    .map(|entry| (entry.ip, entry.hostname)),
            ),
        })
    }
}

impl TryFrom<discovery::EndpointSlice> for EndpointSlice {
    type Error = ParseError;

    fn try_from(object: discovery::EndpointSlice) -> Result<Self, ParseError> {
        let name = object_name(&object.metadata)?;
        let service = object
            .metadata
            .labels
            .iter()
            .flatten()
            .find(|(key, _)| key.as_str() == SERVICE_NAME_LABEL)
            .map(|(_, service)| ObjectName::new(name.namespace.clone(), service.as_str()));
        let endpoint = |endpoint: discovery::Endpoint| {
            let conditions = endpoint.conditions.unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            SliceEndpoint {
                addresses: endpoint.addresses.into_iter().map(Into::into).collect(),
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                node: endpoint
                    .node_name
                    .filter(|node| is_object_name(node, 253))
                    .map(|node| NodeName(node.into())),
                pod: endpoint
                    .target_ref
                    .filter(|target| target.kind.as_deref() == Some("Pod"))
                    .and_then(|target| target.name)
                    .filter(|pod| is_object_name(pod, 253))
                    .map(|pod| ObjectName::new(name.namespace.clone(), pod)),
            }
        };
        Ok(Self {
            annotations: annotations(&object.metadata),
            service,
            address_type: match object.address_type.as_str() {
                "IPv4" => AddressType::Ipv4,
                "IPv6" => AddressType::Ipv6,
                other => AddressType::Other(other.into()),
            },
            ports: object
                .ports
                .into_iter()
                .flatten()
                .map(|port| SlicePort {
                    name: text(port.name),
                    port: port.port,
                    protocol: protocol(port.protocol.as_deref()),
                    app_protocol: text(port.app_protocol),
                })
                .collect(),
            endpoints: object.endpoints.into_iter().flatten().map(endpoint).collect(),
            name,
        })
    }
}

impl TlsSecret {
    /// `Ok(None)` for a Secret of another type.
    pub(crate) fn parse(object: &core::Secret) -> Result<Option<Self>, ParseError> {
        if object.type_.as_deref() != Some(TLS_SECRET_TYPE) {
            return Ok(None);
        }
        let name = object_name(&object.metadata)?;
        // `stringData` is written over `data` by the API server; a file has both as they are.
        let value = |key: &'static str| {
            let plain = object.string_data.iter().flatten().find(|(name, _)| *name == key);
            let coded = object.data.iter().flatten().find(|(name, _)| *name == key);
            plain
                .map(|(_, value)| value.as_bytes())
                .or_else(|| coded.map(|(_, value)| value.0.as_slice()))
                .filter(|value| !value.is_empty())
                .ok_or(SecretFault::KeyMissing(key))
        };
        let certificate = value("tls.crt").and_then(|chain| {
            let key = value("tls.key")?;
            Certificate::from_pem(chain, key)
                .map(Arc::new)
                .map_err(SecretFault::Certificate)
        });
        let roots = value("ca.crt")
            .and_then(|pem| Certificate::roots_from_pem(pem).map_err(SecretFault::Certificate));
        Ok(Some(Self {
            name,
            certificate,
            roots,
            content: Arc::new(Content::of_secret(object)?),
        }))
    }
}
