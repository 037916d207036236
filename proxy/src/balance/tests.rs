use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sekisho_config::model::{
    ClusterPart, Condition, Desired, Endpoint, Limits, NodeName, ObjectName, Observed, Pool, PoolId,
    PoolPolicy, Revision, Routing,
};

use super::*;
use crate::health::Sign;
use crate::snapshot::{InFlight, Snapshot, compile};

/// Endpoints by number, two on a node, each with a weight.
pub(crate) fn endpoints(weights: &[u8]) -> Vec<Endpoint> {
    weights
        .iter()
        .zip(0u16..)
        .map(|(weight, number)| Endpoint {
            address: SocketAddr::from(([10, 0, (number / 200) as u8, (number % 200) as u8], 80)),
            pod: None,
            node: Some(NodeName(format!("node-{}", number / 2).as_str().into())),
            condition: Condition::Ready,
            weight: NonZeroU8::new(*weight).unwrap(),
        })
        .collect()
}

pub(crate) fn step(
    previous: &Snapshot,
    balance: Balance,
    policy: PoolPolicy,
    endpoints: Vec<Endpoint>,
) -> (Snapshot, Arc<CompiledPool>) {
    let id = PoolId {
        service: ObjectName::new("ns", "s"),
        port: 80,
    };
    let pool = Pool {
        id: id.clone(),
        balance,
        policy: Arc::new(policy),
        upstream: Default::default(),
        endpoints,
    };
    let cluster = ClusterPart {
        pools: [(id.clone(), Arc::new(pool))].into_iter().collect(),
        ..ClusterPart::default()
    };
    let desired = Desired {
        cluster: Some(cluster),
        ..Desired::default()
    };
    let snapshot = compile(
        previous,
        &desired,
        &Observed::default(),
        Routing::Off,
        Revision(previous.revision().0 + 1),
    );
    let pool = Arc::clone(snapshot.pool(&id).unwrap());
    (snapshot, pool)
}

pub(crate) fn pool(balance: Balance, policy: PoolPolicy, weights: &[u8]) -> Arc<CompiledPool> {
    step(&Snapshot::default(), balance, policy, endpoints(weights)).1
}

fn plain(balance: Balance, count: usize) -> Arc<CompiledPool> {
    pool(balance, PoolPolicy::default(), &vec![1; count])
}

pub(crate) fn ask(tried: &Tried, now: Moment) -> Ask<'_> {
    Ask {
        now,
        hash: None,
        sticky: None,
        tried,
    }
}

pub(crate) const START: Moment = Moment::at(1_000_000);

/// Where `count` requests go, none of which lasts.
fn spread(pool: &CompiledPool, count: usize, now: Moment, dice: &mut Dice) -> BTreeMap<SocketAddr, usize> {
    let tried = Tried::default();
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        let endpoint = pick(pool, &ask(&tried, now), dice).endpoint().unwrap();
        *counts.entry(endpoint.endpoint.address).or_insert(0) += 1;
    }
    counts
}

#[test]
fn an_idle_pool_is_served_in_turn() {
    for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::PeakEwma] {
        let pool = plain(balance, 7);
        let counts = spread(&pool, 21, START, &mut Dice::new(1));
        assert!(
            counts.len() == 7 && counts.values().all(|count| *count == 3),
            "{balance:?}: {counts:?}"
        );
    }
}

/// The conformance suite of Ingress asks for it: a hundred requests meet each of ten pods, whatever worker takes them.
#[test]
fn workers_share_the_turns() {
    let pool = plain(Balance::RoundRobin, 10);
    let counts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|seed| {
                let pool = &pool;
                scope.spawn(move || spread(pool, 25, START, &mut Dice::new(seed)))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut sum: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for (address, count) in counts.into_iter().flatten() {
        *sum.entry(address).or_default() += count;
    }
    assert!(
        sum.len() == 10 && sum.values().all(|count| *count == 10),
        "{sum:?}"
    );
}

/// Of two endpoints, the one with less to do is always taken.
#[test]
fn the_less_loaded_of_two_wins() {
    let pool = plain(Balance::LeastRequest, 2);
    let _busy = InFlight::enter(pool.state(), &pool.endpoints()[0].state);
    let tried = Tried::default();
    let mut dice = Dice::new(2);
    for _ in 0..20 {
        let got = pick(&pool, &ask(&tried, START), &mut dice).endpoint().unwrap();
        assert_eq!(got.endpoint.address, pool.endpoints()[1].endpoint.address);
    }
}

#[test]
fn peak_ewma_avoids_the_slow_one() {
    let pool = plain(Balance::PeakEwma, 2);
    for (endpoint, micros) in pool.endpoints().iter().zip([50_000, 1_000]) {
        endpoint.state.cost.observe(micros, START);
    }
    let counts = spread(&pool, 100, START, &mut Dice::new(3));
    assert_eq!(
        counts.get(&pool.endpoints()[1].endpoint.address),
        Some(&100),
        "{counts:?}"
    );
    // Ten requests at the fast one are still better than one at the slow one; sixty are not.
    let busy: Vec<_> = (0..60)
        .map(|_| InFlight::enter(pool.state(), &pool.endpoints()[1].state))
        .collect();
    let counts = spread(&pool, 10, START, &mut Dice::new(3));
    assert_eq!(
        counts.get(&pool.endpoints()[0].endpoint.address),
        Some(&10),
        "{counts:?}"
    );
    drop(busy);
}

#[test]
fn what_was_tried_is_not_tried_again_and_other_nodes_come_first() {
    for balance in [
        Balance::LeastRequest,
        Balance::RoundRobin,
        Balance::PeakEwma,
        Balance::ConsistentHash,
    ] {
        for seed in 0..20 {
            let pool = plain(balance, 6);
            let mut dice = Dice::new(seed);
            let mut tried = Tried::default();
            let mut nodes = Vec::new();
            loop {
                let ask = Ask {
                    hash: Some(hash::seeded(seed, b"client")),
                    ..ask(&tried, START)
                };
                let Some(endpoint) = pick(&pool, &ask, &mut dice).endpoint() else {
                    break;
                };
                assert!(!tried.has(endpoint));
                nodes.push(endpoint.node_id());
                tried.add(endpoint);
            }
            assert_eq!(tried.len(), 6, "{balance:?}");
            // Three nodes of two endpoints each: the first three tries meet each node once.
            let first: std::collections::BTreeSet<_> = nodes[..3].iter().collect();
            assert_eq!(first.len(), 3, "{balance:?} {seed}");
        }
    }
    let none = plain(Balance::LeastRequest, 0);
    assert!(matches!(
        pick(&none, &ask(&Tried::default(), START), &mut Dice::new(1)),
        Choice::None
    ));
}

#[test]
fn an_ejected_endpoint_gets_nothing_until_its_trial() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::PeakEwma] {
        let pool = plain(balance, 4);
        let out = &pool.endpoints()[1];
        for _ in 0..5 {
            passive::failed(&pool, out, Sign::Broken, START);
        }
        let mut dice = Dice::new(4);
        let counts = spread(&pool, 300, START, &mut dice);
        assert_eq!(counts.get(&out.endpoint.address), None, "{balance:?}");
        // The others have equal shares of what it does not get.
        assert!(
            counts.values().all(|count| (80..120).contains(count)),
            "{balance:?}: {counts:?}"
        );
        // One trial a second, and no more, until it succeeds.
        let over = START + Duration::from_secs(30);
        let trials = spread(&pool, 100, over, &mut dice);
        assert_eq!(trials.get(&out.endpoint.address), Some(&1), "{balance:?}");
        passive::succeeded(&pool, out, over);
        let back = spread(&pool, 100, over, &mut dice);
        assert!(back[&out.endpoint.address] >= 15, "{balance:?}: {back:?}");
    }
}

/// A limit is for one endpoint; when all have reached it, the answer is "full", not "none".
#[test]
fn an_endpoint_is_given_no_more_than_it_may_have() {
    let policy = PoolPolicy {
        limits: Limits {
            per_endpoint: NonZeroU32::new(2),
            ..Limits::default()
        },
        ..PoolPolicy::default()
    };
    for balance in [
        Balance::LeastRequest,
        Balance::RoundRobin,
        Balance::ConsistentHash,
    ] {
        let pool = pool(balance, policy.clone(), &[1; 5]);
        let (mut dice, tried) = (Dice::new(5), Tried::default());
        let ask = Ask {
            hash: Some(7),
            ..ask(&tried, START)
        };
        let mut running = Vec::new();
        for _ in 0..10 {
            let endpoint = pick(&pool, &ask, &mut dice).endpoint().unwrap();
            running.push(InFlight::enter(pool.state(), &endpoint.state));
        }
        assert!(
            pool.endpoints()
                .iter()
                .all(|endpoint| endpoint.state.in_flight() == 2),
            "{balance:?}"
        );
        assert!(matches!(pick(&pool, &ask, &mut dice), Choice::Full));
        running.pop();
        assert!(pick(&pool, &ask, &mut dice).endpoint().is_some());
    }
}

#[test]
fn a_newcomer_starts_slowly() {
    let policy = PoolPolicy {
        slow_start: Duration::from_secs(30),
        ..PoolPolicy::default()
    };
    for balance in [Balance::LeastRequest, Balance::RoundRobin] {
        let (first, before) = step(&Snapshot::default(), balance, policy.clone(), endpoints(&[1; 4]));
        let counts = spread(&before, 400, START, &mut Dice::new(6));
        assert!(
            counts.values().all(|count| (90..110).contains(count)),
            "all are new: none is spared: {counts:?}"
        );
        let (_, after) = step(&first, balance, policy.clone(), endpoints(&[1; 5]));
        let newcomer = after.endpoints()[4].endpoint.address;
        let share = |now: Moment| {
            let counts = spread(&after, 2_000, now, &mut Dice::new(7));
            counts.get(&newcomer).copied().unwrap_or(0)
        };
        // A fifth, 400, is its full share. It begins with a twentieth of that.
        let (at_once, half, full) = (
            share(START),
            share(START + Duration::from_secs(15)),
            share(START + Duration::from_secs(31)),
        );
        assert!(at_once < 60, "{balance:?}: {at_once}");
        assert!((130..300).contains(&half), "{balance:?}: {half}");
        assert!((370..430).contains(&full), "{balance:?}: {full}");
    }
}

#[test]
fn the_same_client_has_the_same_endpoint_until_that_is_overloaded() {
    let pool = plain(Balance::ConsistentHash, 10);
    let (mut dice, tried) = (Dice::new(8), Tried::default());
    let ask = Ask {
        hash: Some(hash::of(b"client")),
        ..ask(&tried, START)
    };
    let home = pick(&pool, &ask, &mut dice).endpoint().unwrap().endpoint.address;
    let mut running = Vec::new();
    let mut counts: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for _ in 0..1_000 {
        let endpoint = pick(&pool, &ask, &mut dice).endpoint().unwrap();
        *counts.entry(endpoint.endpoint.address).or_default() += 1;
        running.push((
            InFlight::enter(pool.state(), &endpoint.state),
            crate::snapshot::Place::take(pool.state(), u32::MAX).unwrap(),
        ));
    }
    // One client that asks for everything at once does not get one endpoint down.
    assert!(counts.values().all(|count| *count <= 126), "{counts:?}");
    assert_eq!(counts.values().max(), counts.get(&home));
    drop(running);
    assert_eq!(
        pick(&pool, &ask, &mut dice).endpoint().unwrap().endpoint.address,
        home
    );
    // Without what is hashed, requests are spread.
    let plain = spread(&pool, 100, START, &mut dice);
    assert_eq!(plain.len(), 10);
}

#[test]
fn a_cookie_names_its_endpoint_as_long_as_that_can_be_used() {
    let pool = plain(Balance::LeastRequest, 5);
    let (mut dice, tried) = (Dice::new(9), Tried::default());
    let sticky = |number, tried| Ask {
        sticky: Some(number),
        ..ask(tried, START)
    };
    for number in 0..5 {
        let got = pick(&pool, &sticky(number, &tried), &mut dice)
            .endpoint()
            .unwrap();
        assert_eq!(
            got.endpoint.address,
            pool.endpoints()[number as usize].endpoint.address
        );
    }
    for _ in 0..5 {
        passive::failed(&pool, &pool.endpoints()[3], Sign::Refused, START);
    }
    let mut failed = Tried::default();
    failed.add(&pool.endpoints()[2]);
    for (number, tried) in [(3, &tried), (2, &failed), (77, &tried)] {
        let got = pick(&pool, &sticky(number, tried), &mut dice).endpoint().unwrap();
        assert_ne!(
            Some(got.endpoint.address),
            pool.endpoints().get(number as usize).map(|e| e.endpoint.address)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Shares follow weights, exactly over one round of turns.
    #[test]
    fn weights_are_shares(weights in prop::collection::vec(1u8..=20, 1..12), seed in any::<u64>()) {
        for balance in [Balance::RoundRobin, Balance::LeastRequest] {
            let pool = pool(balance, PoolPolicy::default(), &weights);
            let round = pool.turns();
            let counts = spread(&pool, round, START, &mut Dice::new(seed));
            let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            for (endpoint, weight) in pool.endpoints().iter().zip(&weights) {
                let got = counts.get(&endpoint.endpoint.address).copied().unwrap_or(0);
                prop_assert_eq!(got * total, usize::from(*weight) * round, "{:?} {:?}", weights, counts);
            }
        }
    }

    /// As long as one endpoint is neither tried nor full, there is an answer, whatever is ejected; and it is a good one
    /// as long as there is a good one.
    #[test]
    fn there_is_always_an_answer(
        count in 1usize..40,
        ejected in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        tried in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        hash in prop::option::of(any::<u64>()),
        seed in any::<u64>(),
    ) {
        for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::PeakEwma, Balance::ConsistentHash] {
            let pool = plain(balance, count);
            for index in &ejected {
                let _ = pool.endpoints()[index.index(count)].state.bench.eject(Duration::from_secs(30), START);
            }
            let mut asked = Tried::default();
            for index in &tried {
                asked.add(&pool.endpoints()[index.index(count)]);
            }
            let ask = Ask { hash, ..ask(&asked, START) };
            let left = pool.endpoints().iter().filter(|endpoint| !asked.has(endpoint)).count();
            let good = pool.endpoints().iter().any(|endpoint| !asked.has(endpoint) && endpoint.state.bench.is_in());
            match pick(&pool, &ask, &mut Dice::new(seed)) {
                Choice::At(endpoint) => {
                    prop_assert!(!asked.has(endpoint));
                    prop_assert!(
                        endpoint.state.bench.is_in() || !good || passive::panics(&pool, START),
                        "an ejected one although there is a better"
                    );
                }
                Choice::None => prop_assert_eq!(left, 0),
                Choice::Full => prop_assert!(false, "nothing is full"),
            }
        }
    }
}
