use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use sekisho_config::model::{
    Action, Balance, Certificate, CertificateSource, ClusterPart, Condition, Conditions, Desired, Endpoint,
    Health, HealthCheck, HostPattern, Ineligible, NameSet, ObjectName, Observed, PathMatch, Pool, PoolId,
    PoolPolicy, Prefix, Reach, Revision, Route, RouteId, RoutedVia, Routing, TcpRoute, Unavailable,
    Unroutable, Upstream, VirtualHost,
};

use super::{Snapshot, compile};
use crate::balance::Dice;
use crate::route::Asked;

fn certificates() -> &'static [Arc<Certificate>] {
    static MADE: OnceLock<Vec<Arc<Certificate>>> = OnceLock::new();
    MADE.get_or_init(|| {
        [&["a.test"][..], &["*.test"], &["a.test", "b.test"]]
            .iter()
            .map(|names| {
                let key = rcgen::KeyPair::generate().unwrap();
                let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
                let leaf = rcgen::CertificateParams::new(names)
                    .unwrap()
                    .self_signed(&key)
                    .unwrap();
                let pem = key.serialize_pem();
                Arc::new(Certificate::from_pem(leaf.pem().as_bytes(), pem.as_bytes()).unwrap())
            })
            .collect()
    })
}

fn pool_id(index: usize) -> PoolId {
    PoolId {
        service: ObjectName::new("ns", format!("s{index}")),
        port: 80,
    }
}

fn address(index: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(index).unwrap()])
}

const HOSTS: [&str; 5] = ["a.test", "b.test", "*.test", "*.b.test", ""];

fn check() -> Arc<HealthCheck> {
    Arc::new(HealthCheck::default())
}

fn health(well: bool) -> Health {
    Health {
        well,
        detail: "".into(),
    }
}

/// A small world: whatever can be wished and seen, in few names, so that states differ in part.
fn world(seed: u64) -> (Desired, Observed, Routing) {
    let dice = &mut Dice::new(seed);
    let mut cluster = ClusterPart::default();
    for index in 0..4 {
        if dice.below(4) == 0 {
            continue;
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for _ in 0..dice.below(5) {
            let address = SocketAddr::new(address(dice.below(5)), 8080);
            if endpoints.iter().any(|endpoint| endpoint.address == address) {
                continue;
            }
            let condition = [
                Condition::Ready,
                Condition::ServingTerminating,
                Condition::NotReady,
            ][dice.below(3)];
            endpoints.push(Endpoint {
                address,
                pod: None,
                node: None,
                condition,
                weight: std::num::NonZeroU8::MIN,
            });
        }
        endpoints.sort_by_key(|endpoint| endpoint.address);
        let pool = Pool {
            id: pool_id(index),
            balance: Balance::LeastRequest,
            upstream: Upstream::default(),
            policy: Arc::new(PoolPolicy {
                health_check: (dice.below(2) == 0).then(check),
                ..PoolPolicy::default()
            }),
            endpoints,
        };
        cluster.pools.insert(pool_id(index), Arc::new(pool));
    }
    let route = |dice: &mut Dice, index: u32| Route {
        id: RouteId {
            ingress: ObjectName::new("ns", "web"),
            place: Some((0, index)),
        },
        path: PathMatch::Prefix(["/", "/a", "/a/b", "x", ""][dice.below(5)].into()),
        conditions: Conditions::default(),
        filters: None,
        action: match dice.below(5) {
            0 => Action::Unavailable(Unavailable::UnsupportedBackend),
            index => Action::Forward(pool_id(index)),
        },
    };
    for text in HOSTS {
        let host: HostPattern = text.parse().unwrap();
        if dice.below(3) > 0 {
            let routes = (0..u32::try_from(dice.below(4)).unwrap())
                .map(|index| route(dice, index))
                .collect();
            let fallback = (dice.below(2) == 0).then(|| route(dice, 9));
            cluster.hosts.insert(
                host.clone(),
                Arc::new(VirtualHost {
                    host: host.clone(),
                    routes,
                    fallback,
                }),
            );
        }
        let source = match dice.below(5) {
            0 => CertificateSource::Placeholder {
                ingress: ObjectName::new("ns", "web"),
            },
            1 => CertificateSource::Acme {
                ingress: ObjectName::new("ns", "web"),
                names: Arc::new(NameSet::from([HOSTS[dice.below(2)].parse().unwrap()])),
            },
            2 => continue,
            _ => CertificateSource::Secret {
                secret: ObjectName::new("ns", "tls"),
                certificate: Arc::clone(&certificates()[dice.below(3)]),
            },
        };
        cluster.certificates.insert(host, Arc::new(source));
    }
    let listener = |index: usize| SocketAddr::new(address(100 + index), 80);
    for index in 0..3 {
        if dice.below(2) == 0 {
            let pool = pool_id(dice.below(4));
            let route = TcpRoute {
                listen: listener(index),
                service: pool.service.clone(),
                pool,
            };
            cluster.tcp.insert(listener(index), Arc::new(route));
        }
    }
    let mut observed = Observed::default();
    for index in 0..5 {
        let reach = match dice.below(4) {
            0 => continue,
            1 => Reach::Unroutable {
                why: Unroutable::NoRoute,
            },
            _ => Reach::Routed(RoutedVia {
                prefix: Prefix::host(address(index)),
                next_hops: vec![address(200 + dice.below(2))],
                peers: vec![],
                interface: None,
                kernel: false,
            }),
        };
        observed.reach.insert(address(index), reach);
    }
    for index in 0..5 {
        if dice.below(3) > 0 {
            let key = (SocketAddr::new(address(index), 8080), check());
            observed.health.insert(key, health(dice.below(2) == 0));
        }
    }
    for name in HOSTS.iter().take(2) {
        if dice.below(2) == 0 {
            let names = Arc::new(NameSet::from([name.parse().unwrap()]));
            observed
                .certificates
                .insert(names, Arc::clone(&certificates()[dice.below(3)]));
        }
    }
    let pick = |dice: &mut Dice| (0..3).filter(|_| dice.below(3) == 0).map(listener).collect();
    let desired = Desired {
        cluster: (dice.below(8) > 0).then_some(cluster),
        http: pick(dice),
        https: pick(dice),
        http3: pick(dice),
        sticky_key: (dice.below(2) == 0).then(|| sekisho_config::model::Secret::new(*b"key")),
    };
    (
        desired,
        observed,
        [
            Routing::Off,
            Routing::Preferred,
            Routing::Required,
            Routing::Required,
        ][dice.below(4)],
    )
}

/// Everything that a snapshot answers, in a form that can be compared.
fn answers(snapshot: &Snapshot) -> String {
    let pools: BTreeMap<_, _> = snapshot
        .pools()
        .map(|pool| {
            let endpoints: Vec<_> = pool
                .endpoints()
                .iter()
                .map(|endpoint| (endpoint.endpoint.clone(), endpoint.eligibility))
                .collect();
            (pool.id().clone(), (endpoints, pool.eligible()))
        })
        .collect();
    let by_address: BTreeMap<_, BTreeSet<_>> = snapshot
        .by_address
        .iter()
        .map(|(address, pools)| (*address, pools.iter().cloned().collect()))
        .collect();
    let routes_to: BTreeMap<_, _> = snapshot.routes_to.iter().collect();
    let hosts: Vec<_> = ["a.test", "b.test", "c.test", "a.b.test", "other"]
        .iter()
        .flat_map(|host| ["/", "/a", "/a/b/c", "/x"].map(|path| (host.parse().unwrap(), path)))
        .map(|(host, path)| {
            let winner = snapshot
                .find(Some(&host), Asked::get(path))
                .winner
                .map(|winner| (winner.host.clone(), winner.route.clone()));
            (winner, format!("{:?}", snapshot.certificate(&host)))
        })
        .collect();
    let listeners: Vec<_> = snapshot.listeners().iter().collect();
    format!(
        "{:?} {pools:#?} {by_address:?} {routes_to:?} {} {hosts:?} {listeners:?}",
        snapshot.source_ready(),
        snapshot.eligible_http()
    )
}

proptest! {
    /// Following the difference comes to the same as compiling from nothing.
    #[test]
    fn step_by_step_is_at_once(seeds in proptest::collection::vec(any::<u64>(), 1..6)) {
        let mut snapshot = Snapshot::default();
        for (seed, revision) in seeds.into_iter().zip(1..) {
            let (desired, observed, routing) = world(seed);
            snapshot = compile(&snapshot, &desired, &observed, routing, Revision(revision));
            let scratch = compile(&Snapshot::default(), &desired, &observed, routing, Revision(revision));
            prop_assert_eq!(answers(&snapshot), answers(&scratch));
        }
    }
}

fn pool(endpoints: &[(usize, Condition)]) -> Desired {
    let endpoints = endpoints
        .iter()
        .map(|(index, condition)| Endpoint {
            address: SocketAddr::new(address(*index), 8080),
            pod: None,
            node: None,
            condition: *condition,
            weight: std::num::NonZeroU8::MIN,
        })
        .collect();
    let pool = Pool {
        id: pool_id(0),
        balance: Balance::LeastRequest,
        upstream: Upstream::default(),
        policy: Arc::default(),
        endpoints,
    };
    let cluster = ClusterPart {
        pools: [(pool_id(0), Arc::new(pool))].into_iter().collect(),
        ..ClusterPart::default()
    };
    Desired {
        cluster: Some(cluster),
        ..Desired::default()
    }
}

#[test]
fn eligibility() {
    use Condition::{NotReady, Ready, ServingTerminating};
    let routed = |indexes: &[usize]| {
        let mut observed = Observed::default();
        for index in indexes {
            let via = RoutedVia {
                prefix: Prefix::host(address(*index)),
                next_hops: vec![],
                peers: vec![],
                interface: None,
                kernel: false,
            };
            observed.reach.insert(address(*index), Reach::Routed(via));
        }
        observed.reach.insert(
            address(9),
            Reach::Unroutable {
                why: Unroutable::NextHopUnreachable,
            },
        );
        observed
    };
    let not_asked = Err(Ineligible::Unrouted(Unroutable::NotAsked));
    let unreachable = Err(Ineligible::Unrouted(Unroutable::NextHopUnreachable));
    for (endpoints, seen, routing, want) in [
        (
            &[(1, Ready), (2, NotReady), (3, ServingTerminating)][..],
            &[1, 2, 3][..],
            Routing::Required,
            vec![Ok(()), Err(Ineligible::NotReady), Err(Ineligible::Terminating)],
        ),
        (
            &[(2, NotReady), (3, ServingTerminating)],
            &[2, 3],
            Routing::Required,
            vec![Err(Ineligible::NotReady), Ok(())],
        ),
        (
            &[(1, Ready), (9, Ready)],
            &[],
            Routing::Required,
            vec![not_asked, unreachable],
        ),
        (
            &[(1, Ready), (9, Ready)],
            &[],
            Routing::Preferred,
            vec![not_asked, unreachable],
        ),
        (&[(1, Ready), (9, Ready)], &[], Routing::Off, vec![Ok(()), Ok(())]),
        // Better one that is going away than a 503.
        (
            &[(1, ServingTerminating), (9, Ready)],
            &[1],
            Routing::Required,
            vec![Ok(()), unreachable],
        ),
    ] {
        let snapshot = compile(
            &Snapshot::default(),
            &pool(endpoints),
            &routed(seen),
            routing,
            Revision(1),
        );
        let pool = snapshot.pool(&pool_id(0)).unwrap();
        let got: Vec<_> = pool
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.eligibility)
            .collect();
        assert_eq!(got, want, "{endpoints:?} {seen:?} {routing:?}");
        assert_eq!(
            pool.eligible(),
            want.iter().filter(|verdict| verdict.is_ok()).count()
        );
    }
}

#[test]
fn health_checks_take_endpoints_out_but_not_too_many() {
    for (strict, results, want) in [
        (false, &[None, None, None, None][..], 4),
        (true, &[None, None, None, None], 0),
        (true, &[Some(true), None, None, None], 1),
        (false, &[Some(false), Some(true), None, None], 3),
        (false, &[Some(false), Some(false), Some(false), Some(true)], 1),
        // Less than a quarter is left: they are not believed.
        (false, &[Some(false); 4], 4),
        (true, &[Some(false), Some(false), Some(false), None], 3),
    ] {
        let check = Arc::new(HealthCheck {
            strict,
            ..HealthCheck::default()
        });
        let mut desired = pool(&[0, 1, 2, 3].map(|index| (index, Condition::Ready)));
        let pools = &mut desired.cluster.as_mut().unwrap().pools;
        let pool = Arc::make_mut(pools.get_mut(&pool_id(0)).unwrap());
        Arc::make_mut(&mut pool.policy).health_check = Some(Arc::clone(&check));
        let mut observed = Observed::default();
        for (index, well) in results.iter().enumerate() {
            if let Some(well) = well {
                let key = (SocketAddr::new(address(index), 8080), Arc::clone(&check));
                observed.health.insert(key, health(*well));
            }
        }
        let snapshot = compile(
            &Snapshot::default(),
            &desired,
            &observed,
            Routing::Off,
            Revision(1),
        );
        assert_eq!(
            snapshot.pool(&pool_id(0)).unwrap().eligible(),
            want,
            "{strict} {results:?}"
        );
    }
}

/// What counts requests stays with the endpoint for as long as it is there; what did not change is not made anew.
#[test]
fn state_is_carried_and_the_rest_is_shared() {
    use Condition::Ready;
    let observed = Observed::default();
    let first = compile(
        &Snapshot::default(),
        &pool(&[(1, Ready), (2, Ready)]),
        &observed,
        Routing::Off,
        Revision(1),
    );
    let second = compile(
        &first,
        &pool(&[(2, Ready), (3, Ready)]),
        &observed,
        Routing::Off,
        Revision(2),
    );
    let state = |snapshot: &Snapshot, index: usize| {
        let pool = snapshot.pool(&pool_id(0)).unwrap();
        let wanted = pool
            .endpoints()
            .iter()
            .find(|endpoint| endpoint.endpoint.ip() == address(index))
            .unwrap();
        Arc::as_ptr(&wanted.state)
    };
    assert_eq!(state(&first, 2), state(&second, 2));
    let (a, b) = (
        first.pool(&pool_id(0)).unwrap(),
        second.pool(&pool_id(0)).unwrap(),
    );
    assert!(Arc::ptr_eq(a.state(), b.state()));
    let (desired, observed, routing) = world(7);
    let one = compile(&second, &desired, &observed, routing, Revision(3));
    let two = compile(&one, &desired, &observed, routing, Revision(4));
    for pool in one.pools() {
        assert!(Arc::ptr_eq(pool, two.pool(pool.id()).unwrap()));
    }
}
