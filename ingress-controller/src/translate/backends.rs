//! From a backend of an Ingress to a pool, or to the reason why there is none.

use std::sync::Arc;

use sekisho_config::model::{Action, FindingKind, ObjectName, PoolId, Unavailable};

use super::findings::Findings;
use crate::text::{is_object_name, printable};
use crate::world::{Backend, Ingress, Kind, Protocol, Service, ServicePortRef, ServiceType, World};

/// Never falls through: a backend that cannot be resolved is an action of its own (503), with a finding.
pub(super) fn resolve(
    world: &World,
    ingress: &Ingress,
    backend: &Backend,
    place: &str,
    findings: &mut Findings,
) -> Action {
    let mut report =
        |kind, message: String| findings.add(kind, (Kind::Ingress, &ingress.name), place, message);
    let (name, port) = match backend {
        Backend::Service { name, port } => (name, port),
        Backend::Resource { kind, name } => {
            report(
                FindingKind::Unsupported,
                format!(
                    "backend is the resource {} {}, which is not supported: the path answers 503; name a Service instead",
                    printable(kind),
                    printable(name)
                ),
            );
            return Action::Unavailable(Unavailable::UnsupportedBackend);
        }
        Backend::Invalid => {
            report(
                FindingKind::InvalidValue,
                "backend names neither a Service nor a resource, or both: the path answers 503; name one Service".to_owned(),
            );
            return Action::Unavailable(Unavailable::UnsupportedBackend);
        }
    };
    let service = if is_object_name(name, 253) {
        ObjectName::new(ingress.name.namespace.clone(), name.clone())
    } else {
        ObjectName::new(ingress.name.namespace.clone(), printable(name))
    };
    let Some(found) = world.services.get(&service) else {
        report(
            FindingKind::BackendMissing,
            format!("Service {service} does not exist: the path answers 503; create it or correct the name"),
        );
        return Action::Unavailable(Unavailable::ServiceMissing { service });
    };
    if found.service_type == ServiceType::ExternalName {
        report(
            FindingKind::Unsupported,
            format!(
                "Service {service} is of type ExternalName, which is not supported: the path answers 503; \
                 use a Service with EndpointSlices"
            ),
        );
        return Action::Unavailable(Unavailable::UnsupportedService { service });
    }
    match find_port(found, port) {
        Ok(port) => Action::Forward(PoolId { service, port }),
        Err(wished) => {
            report(
                FindingKind::BackendMissing,
                format!(
                    "Service {service} has no TCP port {wished}, it has {}: the path answers 503; correct the port",
                    list_ports(found)
                ),
            );
            Action::Unavailable(Unavailable::PortMissing {
                service,
                port: wished,
            })
        }
    }
}

/// The number of the wished port, or how it was written.
fn find_port(service: &Service, wished: &ServicePortRef) -> Result<u16, Arc<str>> {
    let mut tcp = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    let (found, written) = match wished {
        ServicePortRef::Number(number) => (tcp.find(|port| port.port == *number), number.to_string()),
        ServicePortRef::Name(name) => (tcp.find(|port| port.name == *name), printable(name)),
        ServicePortRef::Invalid => (None, "(neither a number nor a name)".to_owned()),
    };
    found
        .and_then(|port| u16::try_from(port.port).ok())
        .filter(|port| *port != 0)
        .ok_or_else(|| written.into())
}

fn list_ports(service: &Service) -> String {
    let ports: Vec<String> = service
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp)
        .take(8)
        .map(|port| match &*port.name {
            "" => port.port.to_string(),
            name => format!("{} ({})", port.port, printable(name)),
        })
        .collect();
    if ports.is_empty() {
        "none".to_owned()
    } else {
        ports.join(", ")
    }
}
