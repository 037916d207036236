//! The addresses in `status.loadBalancer` of Ingresses and Services.

pub(crate) mod writer;

use std::net::IpAddr;

use imbl::OrdMap;
use jiff::Timestamp;
use sekisho_config::model::ObjectName;

use crate::world::{Kind, Status, World};

/// The addresses that are to stand in the objects' status. Objects that are not named are none of our business.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Our Ingresses.
    pub ingresses: OrdMap<ObjectName, Vec<IpAddr>>,
    /// Our Services of type LoadBalancer that have addresses.
    pub services: OrdMap<ObjectName, Vec<IpAddr>>,
}

/// One status to write.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Write {
    /// Ingress or Service.
    pub kind: Kind,
    /// The object.
    pub name: ObjectName,
    /// When the object was created: another one of the same name is another object.
    pub created: Option<Timestamp>,
    /// What it is to say; empty to take our entries away.
    pub addresses: Vec<IpAddr>,
}

/// What differs: the statuses to write so that `world` says what is `wanted`.
///
/// Of an object that is not ours (any more), only what we wrote ourselves is taken away.
pub fn plan(world: &World, wanted: &Wanted) -> Vec<Write> {
    let ingresses = world.ingresses.iter().filter_map(|(name, ingress)| {
        write(
            (Kind::Ingress, name, ingress.created),
            &ingress.status,
            wanted.ingresses.get(name),
        )
    });
    let services = world.services.iter().filter_map(|(name, service)| {
        write(
            (Kind::Service, name, service.created),
            &service.status,
            wanted.services.get(name),
        )
    });
    ingresses.chain(services).collect()
}

fn write(
    (kind, name, created): (Kind, &ObjectName, Option<Timestamp>),
    now: &Status,
    wanted: Option<&Vec<IpAddr>>,
) -> Option<Write> {
    let write = |addresses: Vec<IpAddr>| {
        Some(Write {
            kind,
            name: name.clone(),
            created,
            addresses,
        })
    };
    match wanted {
        Some(addresses) if !addresses.is_empty() => {
            if now.addresses == *addresses && !now.others {
                None
            } else {
                write(addresses.clone())
            }
        }
        _ if now.ours && (!now.addresses.is_empty() || now.others) => write(Vec::new()),
        _ => None,
    }
}
