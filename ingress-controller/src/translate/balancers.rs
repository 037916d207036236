//! Services of type LoadBalancer, and the addresses of the Ingresses: VIPs and TCP listeners.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use imbl::OrdMap;
use sekisho_config::model::{FindingKind, ObjectName, PoolId, TcpRoute, Vip, VipPurpose};

use super::findings::Findings;
use super::{Context, pools};
use crate::LOAD_BALANCER_CLASS;
use crate::addresses::{self, Family, Refused, Request, pool_of};
use crate::text::printable;
use crate::world::{Kind, Protocol, Service, ServiceType, World};

/// Most listeners of one Service: each costs every worker a socket.
const MOST_PORTS: usize = 250;

/// What comes out.
pub(super) struct Balancers {
    pub(super) tcp: OrdMap<SocketAddr, Arc<TcpRoute>>,
    pub(super) vips: OrdMap<IpAddr, Arc<Vip>>,
    pub(super) allocations: OrdMap<ObjectName, Vec<IpAddr>>,
    pub(super) ingress_addresses: Vec<IpAddr>,
}

/// Gives addresses; notes the pools that the listeners need.
pub(super) fn balancers(
    world: &World,
    context: &Context,
    wanted: &mut pools::Wanted<'_>,
    findings: &mut Findings,
) -> Balancers {
    let ingress_addresses = addresses::of_ingresses(&context.listen, &context.vips);
    let mut vips: OrdMap<IpAddr, Arc<Vip>> = OrdMap::new();
    for address in &ingress_addresses {
        // An address of the box that is in no pool stands in the status, but is nothing to announce.
        if let Some(vip) = vip(context, *address, VipPurpose::Ingress) {
            vips.insert(*address, vip);
        }
    }
    let mut reserved: BTreeSet<IpAddr> = ingress_addresses.iter().copied().collect();
    reserved.extend(
        context
            .listen
            .http
            .iter()
            .chain(&context.listen.https)
            .map(|listener| listener.ip()),
    );
    let services: Vec<(&Service, Vec<u16>)> = world
        .services
        .values()
        .filter(|service| is_ours(service, context))
        .map(|service| (&**service, tcp_ports(service, findings)))
        .filter(|(_, ports)| !ports.is_empty())
        .collect();
    let requests: Vec<Request> = services
        .iter()
        .map(|(service, _)| request(world, context, service, findings))
        .collect();
    let mut given = addresses::allocate(&context.vips, &reserved, &requests);
    let mut tcp = OrdMap::new();
    let mut allocations = OrdMap::new();
    for (service, ports) in services {
        let given = given.remove(&service.name).unwrap_or_default();
        for refused in &given.refused {
            let kind = match refused {
                Refused::InUse(..) | Refused::OfIngresses(_) => FindingKind::Conflict,
                Refused::NotInPool(_) | Refused::Exhausted(_) | Refused::NoPool(_) => {
                    FindingKind::AddressUnavailable
                }
            };
            findings.add(
                kind,
                (Kind::Service, &service.name),
                "spec.loadBalancerIP",
                refused.to_string(),
            );
        }
        let pool_ids: Vec<PoolId> = ports
            .iter()
            .map(|port| PoolId {
                service: service.name.clone(),
                port: *port,
            })
            .collect();
        for address in &given.addresses {
            let purpose = VipPurpose::Service {
                service: service.name.clone(),
                pools: pool_ids.clone(),
            };
            if let Some(vip) = vip(context, *address, purpose) {
                vips.insert(*address, vip);
            }
            for pool in &pool_ids {
                let listen = SocketAddr::new(*address, pool.port);
                tcp.insert(
                    listen,
                    Arc::new(TcpRoute {
                        listen,
                        service: service.name.clone(),
                        pool: pool.clone(),
                    }),
                );
            }
        }
        if !given.addresses.is_empty() {
            for pool in pool_ids {
                wanted.add(pool, None);
            }
            allocations.insert(service.name.clone(), given.addresses);
        }
    }
    Balancers {
        tcp,
        vips,
        allocations,
        ingress_addresses,
    }
}

/// Of type LoadBalancer, and of our class; or of none, if there are addresses to give: a box without `[[vips]]` leaves
/// them to whoever else gives addresses in this cluster.
fn is_ours(service: &Service, context: &Context) -> bool {
    service.service_type == ServiceType::LoadBalancer
        && match service.load_balancer_class.as_deref() {
            Some(class) => class == LOAD_BALANCER_CLASS,
            None => !context.vips.is_empty(),
        }
}

fn vip(context: &Context, address: IpAddr, purpose: VipPurpose) -> Option<Arc<Vip>> {
    let pool = pool_of(&context.vips, address)?;
    Some(Arc::new(Vip {
        address,
        pool: pool.name.clone(),
        announce_to: pool.announce_to.clone(),
        purpose,
    }))
}

/// The TCP ports; others are findings.
fn tcp_ports(service: &Service, findings: &mut Findings) -> Vec<u16> {
    let mut ports = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, port) in service.ports.iter().enumerate() {
        let mut report = |kind, field: &str, message: String| {
            findings.add(
                kind,
                (Kind::Service, &service.name),
                format!("spec.ports[{index}].{field}"),
                message,
            );
        };
        if port.protocol != Protocol::Tcp {
            let message = "only TCP ports of a Service of type LoadBalancer are served; this one is left out";
            report(FindingKind::Unsupported, "protocol", message.to_owned());
            continue;
        }
        match u16::try_from(port.port) {
            Ok(number) if number != 0 => {
                if seen.len() == MOST_PORTS {
                    let message = format!(
                        "a Service has at most {MOST_PORTS} listeners: the rest is left out; split it"
                    );
                    report(FindingKind::Unsupported, "port", message);
                    break;
                }
                if seen.insert(number) {
                    ports.push(number);
                }
            }
            _ => report(
                FindingKind::InvalidValue,
                "port",
                format!(
                    "{} is no port number from 1 to 65535: the port is left out",
                    port.port
                ),
            ),
        }
    }
    ports
}

fn request(world: &World, context: &Context, service: &Service, findings: &mut Findings) -> Request {
    if service.source_ranges {
        findings.add(
            FindingKind::Unsupported,
            (Kind::Service, &service.name),
            "spec.loadBalancerSourceRanges",
            "is not supported: every client may connect; filter on the routers in front",
        );
    }
    let mut report = |field: &str, message: String| {
        findings.add(
            FindingKind::InvalidValue,
            (Kind::Service, &service.name),
            format!("spec.{field}"),
            message,
        );
    };
    let wished = service.load_balancer_ip.as_ref().and_then(|text| {
        text.parse()
            .map_err(|_| {
                report(
                    "loadBalancerIP",
                    format!("`{}` is no IP address and has no effect", printable(text)),
                )
            })
            .ok()
    });
    let mut families: Vec<Family> = Vec::new();
    for text in &service.ip_families {
        let family = match &**text {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            other => {
                report(
                    "ipFamilies",
                    format!(
                        "`{}` is neither IPv4 nor IPv6 and has no effect",
                        printable(other)
                    ),
                );
                continue;
            }
        };
        if !families.contains(&family) {
            families.push(family);
        }
    }
    if families.is_empty() {
        let offered = |family| {
            context
                .vips
                .iter()
                .flat_map(|pool| &pool.addresses)
                .any(|prefix| prefix.is_ipv4() == (family == Family::V4))
        };
        families = match service.ip_family_policy.as_deref() {
            Some("RequireDualStack") => vec![Family::V4, Family::V6],
            Some("PreferDualStack") => [Family::V4, Family::V6]
                .into_iter()
                .filter(|family| offered(*family))
                .collect(),
            _ => Vec::new(),
        };
        if families.is_empty() {
            families.push(match wished {
                Some(wish) => Family::of(wish),
                None if !offered(Family::V4) && offered(Family::V6) => Family::V6,
                None => Family::V4,
            });
        }
    }
    if let Some(wish) = wished
        && !families.contains(&Family::of(wish))
    {
        families.push(Family::of(wish));
    }
    let remembered = world.allocations.get(&service.name).into_iter().flatten();
    Request {
        service: service.name.clone(),
        created: service.created,
        wished,
        kept: service
            .status
            .addresses
            .iter()
            .chain(remembered)
            .copied()
            .collect(),
        families,
    }
}
