//! How the box is to speak to the endpoints behind a port of a Service: annotations of the Service, else `appProtocol` of
//! its port or of the slices.

use std::sync::Arc;

use sekisho_config::model::{
    FindingKind, HostName, ObjectName, Trust, Upstream, UpstreamProtocol, UpstreamTls,
};

use super::annotations;
use super::findings::Findings;
use crate::world::{EndpointSlice, Kind, Protocol, Service, World};

/// What `sekisho.io/backend-protocol` says: the version of HTTP, and whether over TLS.
pub(super) type Spoken = (UpstreamProtocol, bool);

/// Whom `sekisho.io/backend-verify` lets the box believe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verify {
    On,
    Off,
}

pub(super) fn upstream<'a>(
    world: &World,
    service: &Service,
    port: i32,
    slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
    findings: &mut Findings,
) -> Upstream {
    let given = &service.annotations;
    let (protocol, tls) = annotations::BACKEND_PROTOCOL
        .of(given)
        .or_else(|| app_protocol(service, port, slices))
        .unwrap_or_default();
    let tls = if tls {
        tls_of(world, service, findings)
    } else {
        None
    };
    if tls.is_none() {
        for name in [
            annotations::BACKEND_CA.name,
            annotations::BACKEND_SERVER_NAME.name,
            annotations::BACKEND_VERIFY.name,
        ] {
            // A Service may have other ports that speak TLS by their appProtocol.
            if given.contains_key(name) && !speaks_tls_somewhere(service) {
                findings.add(
                    FindingKind::Unsupported,
                    (Kind::Service, &service.name),
                    annotations::place(name),
                    "has no effect without TLS; write sekisho.io/backend-protocol: https or grpcs, or take it out",
                );
            }
        }
    }
    Upstream {
        protocol,
        tls,
        proxy_protocol: annotations::PROXY_PROTOCOL.of(given),
    }
}

fn speaks_tls_somewhere(service: &Service) -> bool {
    annotations::BACKEND_PROTOCOL
        .of(&service.annotations)
        .is_some_and(|(_, tls)| tls)
        || service
            .ports
            .iter()
            .any(|port| read_app_protocol(&port.app_protocol).is_some_and(|(_, tls)| tls))
}

/// What the port says, on the Service or, where that says nothing, on the slices.
fn app_protocol<'a>(
    service: &Service,
    number: i32,
    slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
) -> Option<Spoken> {
    let port = service
        .ports
        .iter()
        .find(|port| port.protocol == Protocol::Tcp && port.port == number)?;
    read_app_protocol(&port.app_protocol).or_else(|| {
        slices
            .flat_map(|slice| &slice.ports)
            .filter(|of_slice| of_slice.protocol == Protocol::Tcp && of_slice.name == port.name)
            .find_map(|of_slice| read_app_protocol(&of_slice.app_protocol))
    })
}

/// The names that Kubernetes defines, and the IANA names in use. Others are somebody else's business and say nothing here.
fn read_app_protocol(text: &str) -> Option<Spoken> {
    use UpstreamProtocol::{Http1, Http2};
    match text {
        "http" | "kubernetes.io/ws" => Some((Http1, false)),
        "https" | "kubernetes.io/wss" => Some((Http1, true)),
        "kubernetes.io/h2c" | "h2c" | "grpc" => Some((Http2, false)),
        "grpcs" => Some((Http2, true)),
        _ => None,
    }
}

fn tls_of(world: &World, service: &Service, findings: &mut Findings) -> Option<UpstreamTls> {
    let given = &service.annotations;
    let object = (Kind::Service, &service.name);
    let verify = annotations::BACKEND_VERIFY.of(given).unwrap_or(Verify::On);
    let trust = match (verify, given.get(annotations::BACKEND_CA.name)) {
        (Verify::Off, _) => Trust::Anybody,
        (Verify::On, None) => Trust::System,
        (Verify::On, Some(_)) => {
            // A CA that cannot be used believes nobody: anything else would be less than what was asked for.
            let roots = annotations::BACKEND_CA.of(given).and_then(|secret| {
                let name = ObjectName::new(service.name.namespace.clone(), secret);
                let why = match world.secrets.get(&name).map(|secret| &secret.roots) {
                    Some(Ok(roots)) => return Some(roots.clone()),
                    Some(Err(fault)) => fault.to_string(),
                    None => {
                        "it does not exist, or is not of type kubernetes.io/tls; put the CA there as ca.crt"
                            .to_owned()
                    }
                };
                findings.add(
                    FindingKind::CertificateUnusable,
                    object,
                    annotations::BACKEND_CA.place(),
                    format!("Secret {name}: {why}: no endpoint is believed, requests get 502"),
                );
                None
            });
            Trust::Roots(roots.unwrap_or_default())
        }
    };
    let default = || -> Option<HostName> {
        format!("{}.{}.svc", service.name.name, service.name.namespace)
            .parse()
            .ok()
    };
    if let Some(server_name) = annotations::BACKEND_SERVER_NAME.of(given).or_else(default) {
        return Some(UpstreamTls { server_name, trust });
    }
    findings.add(
        FindingKind::InvalidValue,
        object,
        annotations::BACKEND_SERVER_NAME.place(),
        "is needed, for the name of the Service makes no host name: requests get 502; write the name in the endpoints' certificate",
    );
    // Not in the clear: nobody has asked for that.
    Some(UpstreamTls {
        server_name: "name.invalid".parse().ok()?,
        trust: Trust::Roots(Arc::default()),
    })
}
