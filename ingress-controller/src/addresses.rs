//! Which address a Service of type LoadBalancer gets, and which ones the Ingresses have.
//!
//! Pure and deterministic: the same Services, pools and earlier addresses give the same answer on every box. An address in
//! use stays where it is; nobody's wish takes it away.

mod pool;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use sekisho_config::model::{AddressPool, Listen, ObjectName};

pub use pool::{first_usable, pool_of};
pub(crate) use store::{load, save};

/// A Service that wants addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The Service.
    pub service: ObjectName,
    /// When it was created: the older one wins.
    pub created: Option<Timestamp>,
    /// `spec.loadBalancerIP`
    pub wished: Option<IpAddr>,
    /// Addresses it has now, or had before.
    pub kept: Vec<IpAddr>,
    /// Families it wants, in order.
    pub families: Vec<Family>,
}

/// An address family.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As `spec.ipFamilies` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Why a Service does not get an address that it wants.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The wished address is in no pool.
    #[error("{0} is in no [[vips]] pool of the box; wish for one of a pool, or leave it out")]
    NotInPool(IpAddr),
    /// The wished address is the Ingresses'.
    #[error("{0} is the address of the Ingresses; wish for another, or leave it out")]
    OfIngresses(IpAddr),
    /// Another Service has it.
    #[error("{0} is in use by Service {1}; wish for another, or leave it out")]
    InUse(IpAddr, ObjectName),
    /// Every pool of the family is used up.
    #[error("no {} address is free in the [[vips]] pools of the box; add a pool or remove a Service", .0.as_str())]
    Exhausted(Family),
    /// No pool has the family.
    #[error("the box has no [[vips]] pool with {} addresses; add one", .0.as_str())]
    NoPool(Family),
}

/// What one Service gets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Given {
    /// Its addresses, in the order of its families.
    pub addresses: Vec<IpAddr>,
    /// What it does not get.
    pub refused: Vec<Refused>,
}

/// Gives addresses of `pools` to `requests`: first everybody keeps what he has, then wishes are granted, then the first free
/// addresses are handed out; in each round the oldest Service first. `reserved` are never given.
pub fn allocate(
    pools: &[AddressPool],
    reserved: &BTreeSet<IpAddr>,
    requests: &[Request],
) -> BTreeMap<ObjectName, Given> {
    let mut order: Vec<&Request> = requests.iter().collect();
    order.sort_by_key(|request| (request.created.is_none(), request.created, &request.service));
    let mut used: BTreeMap<IpAddr, &ObjectName> = BTreeMap::new();
    let mut has: BTreeMap<(&ObjectName, Family), IpAddr> = BTreeMap::new();
    for request in &order {
        for address in &request.kept {
            let family = Family::of(*address);
            let other_wish = request
                .wished
                .is_some_and(|wish| Family::of(wish) == family && wish != *address);
            if request.families.contains(&family)
                && !other_wish
                && pool_of(pools, *address).is_some()
                && !reserved.contains(address)
                && !used.contains_key(address)
                && !has.contains_key(&(&request.service, family))
            {
                used.insert(*address, &request.service);
                has.insert((&request.service, family), *address);
            }
        }
    }
    let mut given: BTreeMap<ObjectName, Given> = BTreeMap::new();
    for request in &order {
        let Some(wish) = request.wished else { continue };
        let key = (&request.service, Family::of(wish));
        if has.contains_key(&key) {
            continue;
        }
        let refused = if pool_of(pools, wish).is_none() {
            Refused::NotInPool(wish)
        } else if reserved.contains(&wish) {
            Refused::OfIngresses(wish)
        } else if let Some(holder) = used.get(&wish) {
            Refused::InUse(wish, (*holder).clone())
        } else {
            used.insert(wish, &request.service);
            has.insert(key, wish);
            continue;
        };
        given
            .entry(request.service.clone())
            .or_default()
            .refused
            .push(refused);
    }
    let mut free = pool::Free::new(pools);
    for request in &order {
        let entry = given.entry(request.service.clone()).or_default();
        // A wish says all: whoever wishes for one address gets that one or none.
        let families: Vec<Family> = match request.wished {
            Some(wish) => vec![Family::of(wish)],
            None => request.families.clone(),
        };
        for family in families {
            if let Some(address) = has.get(&(&request.service, family)) {
                entry.addresses.push(*address);
            } else if request.wished.is_none() {
                match free.next(family, |address| {
                    reserved.contains(&address) || used.contains_key(&address)
                }) {
                    Ok(address) => {
                        used.insert(address, &request.service);
                        entry.addresses.push(address);
                    }
                    Err(refused) => entry.refused.push(refused),
                }
            }
        }
    }
    given
}

/// The addresses of the Ingresses: `ingress_addresses` of the file; else the addresses of the listeners that lie in a pool, and
/// for a listener on every address the first of a pool of its family; else the listeners' own addresses.
pub fn of_ingresses(listen: &Listen, pools: &[AddressPool]) -> Vec<IpAddr> {
    if !listen.ingress_addresses.is_empty() {
        return unique(listen.ingress_addresses.iter().copied());
    }
    let listeners: Vec<IpAddr> = listen
        .http
        .iter()
        .chain(&listen.https)
        .map(|listener| listener.ip())
        .collect();
    let own = || {
        listeners
            .iter()
            .copied()
            .filter(|address| !address.is_unspecified())
    };
    let mut addresses: Vec<IpAddr> = own()
        .filter(|address| pool_of(pools, *address).is_some())
        .collect();
    for family in [Family::V4, Family::V6] {
        let everywhere = listeners
            .iter()
            .any(|address| address.is_unspecified() && Family::of(*address) == family);
        if everywhere && !addresses.iter().any(|address| Family::of(*address) == family) {
            addresses.extend(first_usable(pools, family));
        }
    }
    if addresses.is_empty() {
        addresses.extend(own());
    }
    unique(addresses.into_iter())
}

fn unique(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    addresses.filter(|address| seen.insert(*address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(texts: &[&str]) -> Vec<AddressPool> {
        vec![AddressPool {
            name: "public".into(),
            addresses: texts.iter().map(|text| text.parse().unwrap()).collect(),
            announce_to: Vec::new(),
            announcement: Default::default(),
        }]
    }

    fn request(name: &str, wished: Option<&str>, kept: &[&str]) -> Request {
        Request {
            service: ObjectName::new("ns", name),
            created: None,
            wished: wished.map(|text| text.parse().unwrap()),
            kept: kept.iter().map(|text| text.parse().unwrap()).collect(),
            families: vec![Family::V4],
        }
    }

    fn show(given: &BTreeMap<ObjectName, Given>) -> Vec<String> {
        given
            .iter()
            .map(|(name, given)| {
                let list = |items: Vec<String>| items.join(" ");
                format!(
                    "{} {} {}",
                    name.name,
                    list(given.addresses.iter().map(ToString::to_string).collect()),
                    list(given.refused.iter().map(ToString::to_string).collect())
                )
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
            })
            .collect()
    }

    #[test]
    fn gives_by_keeping_then_wishing_then_taking_the_first() {
        let none = BTreeSet::new();
        let reserved: BTreeSet<IpAddr> = ["192.0.2.1".parse().unwrap()].into();
        for (what, reserved, requests, want) in [
            (
                "the first free ones",
                &none,
                vec![request("a", None, &[]), request("b", None, &[])],
                vec!["a 192.0.2.1", "b 192.0.2.2"],
            ),
            (
                "not the reserved",
                &reserved,
                vec![request("a", None, &[])],
                vec!["a 192.0.2.2"],
            ),
            (
                "keeps",
                &none,
                vec![request("a", None, &[]), request("b", None, &["192.0.2.1"])],
                vec!["a 192.0.2.2", "b 192.0.2.1"],
            ),
            (
                "what is kept is not taken by a wish",
                &none,
                vec![
                    request("a", Some("192.0.2.1"), &[]),
                    request("b", None, &["192.0.2.1"]),
                ],
                vec![
                    "a 192.0.2.1 is in use by Service ns/b; wish for another, or leave it out",
                    "b 192.0.2.1",
                ],
            ),
            (
                "a new wish gives the old one up",
                &none,
                vec![
                    request("a", Some("192.0.2.5"), &["192.0.2.1"]),
                    request("b", None, &[]),
                ],
                vec!["a 192.0.2.5", "b 192.0.2.1"],
            ),
            (
                "kept from elsewhere",
                &none,
                vec![request("a", None, &["198.51.100.1"])],
                vec!["a 192.0.2.1"],
            ),
            (
                "not in a pool",
                &none,
                vec![request("a", Some("198.51.100.1"), &[])],
                vec![
                    "a 198.51.100.1 is in no [[vips]] pool of the box; wish for one of a pool, or leave it out",
                ],
            ),
            (
                "used up",
                &none,
                (0..7).map(|n| request(&n.to_string(), None, &[])).collect(),
                vec![
                    "0 192.0.2.1",
                    "1 192.0.2.2",
                    "2 192.0.2.3",
                    "3 192.0.2.4",
                    "4 192.0.2.5",
                    "5 192.0.2.6",
                    "6 no IPv4 address is free in the [[vips]] pools of the box; add a pool or remove a Service",
                ],
            ),
        ] {
            assert_eq!(
                show(&allocate(&pools(&["192.0.2.0/29"]), reserved, &requests)),
                want,
                "{what}"
            );
        }
    }

    #[test]
    fn both_families() {
        let mut both = request("a", None, &[]);
        both.families = vec![Family::V6, Family::V4];
        let given = allocate(
            &pools(&["192.0.2.0/29", "2001:db8::/112"]),
            &BTreeSet::new(),
            &[both.clone()],
        );
        assert_eq!(show(&given), ["a 2001:db8::1 192.0.2.1"]);
        let given = allocate(&pools(&["192.0.2.0/29"]), &BTreeSet::new(), &[both]);
        assert_eq!(
            show(&given),
            ["a 192.0.2.1 the box has no [[vips]] pool with IPv6 addresses; add one"]
        );
    }

    #[test]
    fn ingresses() {
        let listen = |listeners: &[&str], addresses: &[&str]| Listen {
            http: listeners.iter().map(|text| text.parse().unwrap()).collect(),
            https: Vec::new(),
            http3: Vec::new(),
            ingress_addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            trusted_proxies: Vec::new(),
            proxy_protocol_from: Vec::new(),
        };
        let pool = ["192.0.2.0/29", "2001:db8::/112"];
        for (listeners, addresses, prefixes, want) in [
            (
                vec!["0.0.0.0:80", "[::]:80"],
                vec![],
                &pool[..],
                "[192.0.2.1, 2001:db8::1]",
            ),
            (vec!["0.0.0.0:80"], vec![], &pool[..], "[192.0.2.1]"),
            (vec!["192.0.2.4:80"], vec![], &pool[..], "[192.0.2.4]"),
            (vec!["10.0.0.1:80"], vec![], &pool[..], "[10.0.0.1]"),
            (vec!["10.0.0.1:80", "10.0.0.1:81"], vec![], &[][..], "[10.0.0.1]"),
            (vec!["0.0.0.0:80"], vec![], &[][..], "[]"),
            (vec!["0.0.0.0:80"], vec!["192.0.2.9"], &pool[..], "[192.0.2.9]"),
        ] {
            let given = of_ingresses(&listen(&listeners, &addresses), &pools(prefixes));
            assert_eq!(
                format!("{given:?}"),
                want,
                "{listeners:?} {addresses:?} {prefixes:?}"
            );
        }
    }

    proptest::proptest! {
        /// Whatever is asked: no address twice, none outside the pools, none that is reserved; and asking again with the
        /// result as what is kept changes nothing.
        #[test]
        fn never_twice_and_never_moving(
            wishes in proptest::collection::vec((proptest::option::of(0u8..12), proptest::collection::vec(0u8..12, 0..3)), 0..12),
            reserved in 0u8..10,
        ) {
            let pools = pools(&["192.0.2.0/29"]);
            let address = |last: u8| IpAddr::from([192, 0, 2, last]);
            let reserved: BTreeSet<IpAddr> = [address(reserved)].into();
            let mut requests: Vec<Request> = wishes
                .iter()
                .enumerate()
                .map(|(index, (wish, kept))| Request {
                    service: ObjectName::new("ns", index.to_string()),
                    created: None,
                    wished: wish.map(address),
                    kept: kept.iter().copied().map(address).collect(),
                    families: vec![Family::V4],
                })
                .collect();
            let given = allocate(&pools, &reserved, &requests);
            let all: Vec<IpAddr> = given.values().flat_map(|given| given.addresses.clone()).collect();
            let set: BTreeSet<IpAddr> = all.iter().copied().collect();
            proptest::prop_assert_eq!(set.len(), all.len());
            proptest::prop_assert!(all.iter().all(|address| pool_of(&pools, *address).is_some() && !reserved.contains(address)));
            for request in &mut requests {
                request.kept = given[&request.service].addresses.clone();
            }
            let again = allocate(&pools, &reserved, &requests);
            for (name, given) in &given {
                proptest::prop_assert_eq!(&again[name].addresses, &given.addresses);
            }
        }
    }
}
