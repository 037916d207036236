//! Pools under traffic that fails in one way or another, step by step, from a seed.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sekisho_config::model::{Balance, NodeName, Outlier, PoolPolicy};

use super::*;
use crate::balance::tests::{START, ask, endpoints, pool, step};
use crate::balance::{Dice, Tried, pick};
use crate::moment::Moment;
use crate::snapshot::{CompiledPool, Snapshot};

fn out(pool: &CompiledPool, now: Moment) -> usize {
    pool.endpoints()
        .iter()
        .filter(|endpoint| passive::standing(endpoint, now) != Standing::In)
        .count()
}

/// Requests with up to two more tries, each at what `well` says; gives how many failed altogether.
fn traffic(
    pool: &CompiledPool,
    count: usize,
    now: &mut Moment,
    dice: &mut Dice,
    well: &dyn Fn(usize) -> Result<(), Sign>,
) -> usize {
    let mut failed = 0;
    for _ in 0..count {
        *now = *now + Duration::from_millis(10);
        let mut tried = Tried::default();
        let done = (0..3).any(|_| {
            let Some(endpoint) = pick(pool, &ask(&tried, *now), dice).endpoint() else {
                return false;
            };
            let address = endpoint.endpoint.address;
            let number = pool
                .endpoints()
                .iter()
                .position(|e| e.endpoint.address == address);
            match well(number.unwrap()) {
                Ok(()) => {
                    passive::succeeded(pool, endpoint, *now);
                    true
                }
                Err(sign) => {
                    passive::failed(pool, endpoint, sign, *now);
                    tried.add(endpoint);
                    false
                }
            }
        });
        failed += usize::from(!done);
    }
    failed
}

#[test]
fn five_in_a_row_are_one_too_many_and_a_success_is_between() {
    let pool = pool(Balance::LeastRequest, PoolPolicy::default(), &[1; 4]);
    let endpoint = &pool.endpoints()[0];
    for _ in 0..4 {
        passive::failed(&pool, endpoint, Sign::Status, START);
    }
    passive::succeeded(&pool, endpoint, START);
    for n in 1..=5 {
        assert_eq!(out(&pool, START), 0, "after {n}");
        passive::failed(&pool, endpoint, Sign::Late, START);
    }
    assert_eq!(
        passive::standing(endpoint, START),
        Standing::Out(START + Duration::from_secs(30))
    );
    assert_eq!(pool.state().ejections(), 1);
}

#[test]
fn the_last_one_stays_and_so_does_half_of_them() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (9, 4), (10, 5)] {
        let pool = pool(Balance::LeastRequest, PoolPolicy::default(), &vec![1; count]);
        for endpoint in pool.endpoints() {
            for _ in 0..20 {
                // The pods are ill, the nodes are not.
                passive::failed(&pool, endpoint, Sign::Refused, START);
            }
        }
        assert_eq!(out(&pool, START), most, "of {count}");
    }
}

#[test]
fn it_can_be_switched_off() {
    let policy = PoolPolicy {
        outlier: Outlier {
            consecutive: 0,
            ..Outlier::default()
        },
        ..PoolPolicy::default()
    };
    let pool = pool(Balance::LeastRequest, policy, &[1; 4]);
    for endpoint in pool.endpoints() {
        for _ in 0..20 {
            passive::failed(&pool, endpoint, Sign::Unreachable, START);
        }
    }
    assert_eq!(out(&pool, START), 0);
}

/// Two of four endpoints on one node that is gone: a third failure, and both are out before either has had five.
#[test]
fn a_node_goes_as_a_whole() {
    let mut all = endpoints(&[1; 8]);
    for (endpoint, number) in all.iter_mut().zip(0..) {
        endpoint.node = Some(NodeName(if number < 4 { "gone" } else { "there" }.into()));
    }
    let (_, pool) = step(
        &Snapshot::default(),
        Balance::LeastRequest,
        PoolPolicy::default(),
        all,
    );
    let (gone, there) = pool.endpoints().split_at(4);
    for endpoint in gone.iter().take(3) {
        passive::succeeded(&pool, &there[0], START);
        passive::failed(&pool, endpoint, Sign::Unreachable, START);
    }
    assert!(gone.iter().all(|e| passive::standing(e, START) != Standing::In));
    assert!(there.iter().all(|e| passive::standing(e, START) == Standing::In));
    let (mut now, mut dice) = (START, Dice::new(1));
    let well = |number: usize| {
        if number < 4 {
            Err(Sign::Unreachable)
        } else {
            Ok(())
        }
    };
    assert_eq!(traffic(&pool, 500, &mut now, &mut dice, &well), 0);
    // It comes back with the first answer after its time.
    now = now + Duration::from_secs(40);
    let asked: u64 = gone.iter().map(|e| e.state.failures()).sum();
    assert_eq!(asked, 0);
    assert_eq!(traffic(&pool, 3_000, &mut now, &mut dice, &|_| Ok(())), 0);
    assert_eq!(out(&pool, now), 0);
}

/// One state for an endpoint: a second Service with the same pods does not learn it anew.
#[test]
fn pools_share_what_they_know_of_an_endpoint() {
    use sekisho_config::model::{
        ClusterPart, Desired, ObjectName, Observed, Pool, PoolId, Revision, Routing,
    };
    let id = |name: &str| PoolId {
        service: ObjectName::new("ns", name),
        port: 80,
    };
    let wish = |names: &[&str]| {
        let one = |name: &&str| {
            let pool = Pool {
                id: id(name),
                balance: Balance::LeastRequest,
                policy: Arc::default(),
                upstream: Default::default(),
                endpoints: endpoints(&[1; 4]),
            };
            (id(name), Arc::new(pool))
        };
        Desired {
            cluster: Some(ClusterPart {
                pools: names.iter().map(one).collect(),
                ..ClusterPart::default()
            }),
            ..Desired::default()
        }
    };
    let compile = |before: &Snapshot, names: &[&str]| {
        crate::snapshot::compile(
            before,
            &wish(names),
            &Observed::default(),
            Routing::Off,
            Revision(1),
        )
    };
    let first = compile(&Snapshot::default(), &["a"]);
    let a = first.pool(&id("a")).unwrap();
    for _ in 0..5 {
        passive::failed(a, &a.endpoints()[0], Sign::Refused, START);
    }
    let second = compile(&first, &["a", "b"]);
    let b = second.pool(&id("b")).unwrap();
    assert_ne!(passive::standing(&b.endpoints()[0], START), Standing::In);
    assert!(Arc::ptr_eq(&a.endpoints()[1].state, &b.endpoints()[1].state));
    // And it outlives the pool that it came from.
    let third = compile(&second, &["b"]);
    let b = third.pool(&id("b")).unwrap();
    assert_ne!(passive::standing(&b.endpoints()[0], START), Standing::In);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever part of a pool fails, and however: as long as a quarter is well, requests soon stop failing; when all is
    /// well again, nothing stays out.
    #[test]
    fn a_pool_settles(
        count in 2usize..20,
        ill in prop::collection::vec(any::<bool>(), 20),
        sign in prop::sample::select(vec![Sign::Refused, Sign::Unreachable, Sign::Broken, Sign::Late, Sign::Status]),
        seed in any::<u64>(),
    ) {
        let pool = pool(Balance::LeastRequest, PoolPolicy::default(), &vec![1; count]);
        let (mut now, mut dice) = (START, Dice::new(seed));
        let well = |number: usize| if ill[number] { Err(sign) } else { Ok(()) };
        let ill_ones = ill[..count].iter().filter(|ill| **ill).count();
        traffic(&pool, 400, &mut now, &mut dice, &well);
        if ill_ones * 2 <= count {
            let failed = traffic(&pool, 200, &mut now, &mut dice, &well);
            prop_assert!(failed <= 2, "{} of 200 failed with {} of {} ill", failed, ill_ones, count);
        }
        // Never all of them.
        prop_assert!(pool.endpoints().iter().filter(|e| !e.state.bench.is_in()).count() < count);
        for _ in 0..40 {
            now = now + Duration::from_secs(10);
            traffic(&pool, 10 * count, &mut now, &mut dice, &|_| Ok(()));
        }
        prop_assert_eq!(out(&pool, now), 0);
    }
}
