use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::rib::Gateway;

const MAIN: u32 = 254;

fn settings() -> Settings {
    Settings {
        install_routes: true,
        table: MAIN,
    }
}

fn gateways(last: u8) -> Gateways {
    Arc::from([Gateway {
        via: IpAddr::from([10, 0, 0, last]),
        interface: 2,
    }])
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn key(text: &str) -> Key {
    Key {
        table: MAIN,
        prefix: prefix(text),
    }
}

fn replace(text: &str, last: u8) -> Op {
    Op::Replace(key(text), Target::Via(gateways(last)))
}

fn refused() -> Outcome {
    Outcome::Refused("Network is unreachable".into())
}

fn carry_out(planner: &mut Planner, now: Instant) -> Vec<Op> {
    let ops = planner.next(100);
    for op in ops.clone() {
        planner.answered(op, &Outcome::Done, now);
    }
    ops
}

fn epoch() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[test]
fn only_differences_are_sent() {
    let now = epoch();
    let mut planner = Planner::new(settings());
    planner.route(prefix("10.244.0.0/26"), Some(gateways(1)));
    assert_eq!(planner.pending(), 1);
    assert_eq!(carry_out(&mut planner, now), [replace("10.244.0.0/26", 1)]);
    assert!(planner.is_idle() && planner.pending() == 0);
    planner.route(prefix("10.244.0.0/26"), Some(gateways(1)));
    assert_eq!(carry_out(&mut planner, now), [], "the same");
    planner.route(prefix("10.244.0.0/26"), None);
    planner.route(prefix("10.244.0.0/26"), Some(gateways(2)));
    assert_eq!(
        carry_out(&mut planner, now),
        [replace("10.244.0.0/26", 2)],
        "gone and back: replaced"
    );
    planner.route(prefix("10.244.0.0/26"), None);
    assert_eq!(carry_out(&mut planner, now), [Op::Delete(key("10.244.0.0/26"))]);
    planner.vips([IpAddr::from([203, 0, 113, 1])].into());
    assert_eq!(
        planner.next(9),
        [Op::Replace(
            local_key(IpAddr::from([203, 0, 113, 1])),
            Target::Local
        )]
    );
}

#[test]
fn refusals_wait_longer_and_longer() {
    let mut now = epoch();
    let mut planner = Planner::new(settings());
    planner.route(prefix("10.244.0.0/26"), Some(gateways(1)));
    for want in [1, 2, 4, 8, 16, 32, 60, 60] {
        let [op] = planner.next(9).try_into().unwrap();
        planner.answered(op, &refused(), now);
        assert_eq!(planner.next(9), [], "it waits");
        assert_eq!(planner.pending(), 1);
        assert_eq!(planner.deadline(), Some(now + Duration::from_secs(want)));
        now += Duration::from_secs(want);
        planner.retry(now, false);
    }
    planner.route(prefix("10.244.0.0/26"), Some(gateways(2)));
    let [op] = planner.next(9).try_into().unwrap();
    planner.answered(op.clone(), &refused(), now);
    assert_eq!(
        planner.deadline(),
        Some(now + Duration::from_secs(1)),
        "a new wish starts anew"
    );
    planner.retry(now, true);
    assert_eq!(planner.next(9), [op], "at once when links changed");
}

#[test]
fn left_overs_wait_for_convergence() {
    let now = epoch();
    let seen = || {
        [
            (key("10.244.0.0/26"), Target::Via(gateways(1))),
            (key("10.244.1.0/26"), Target::Via(gateways(1))),
            (key("10.244.2.0/26"), Target::Via(gateways(1))),
        ]
    };
    let mut planner = Planner::new(settings());
    assert_eq!(planner.resync(seen().into()), 0);
    assert_eq!(carry_out(&mut planner, now), []);
    planner.route(prefix("10.244.0.0/26"), Some(gateways(1)));
    planner.route(prefix("10.244.1.0/26"), Some(gateways(9)));
    assert_eq!(
        carry_out(&mut planner, now),
        [replace("10.244.1.0/26", 9)],
        "what is right stays"
    );
    planner.converged();
    assert_eq!(carry_out(&mut planner, now), [Op::Delete(key("10.244.2.0/26"))]);
    assert_eq!(planner.resync(BTreeMap::new()), 2, "all gone");
    assert_eq!(
        carry_out(&mut planner, now),
        [replace("10.244.0.0/26", 1), replace("10.244.1.0/26", 9)]
    );

    let mut off = Planner::new(Settings {
        install_routes: false,
        ..settings()
    });
    off.resync(seen().into());
    off.route(prefix("10.244.0.0/26"), Some(gateways(1)));
    off.converged();
    let touched: Vec<_> = off.next(9);
    assert_eq!(touched, [Op::Delete(key("10.244.0.0/26"))]);
}

#[test]
fn the_way_out_takes_everything() {
    let now = epoch();
    let mut planner = Planner::new(settings());
    planner.resync([(key("10.244.9.0/26"), Target::Foreign)].into());
    planner.route(prefix("10.244.0.0/26"), Some(gateways(1)));
    carry_out(&mut planner, now);
    planner.stop();
    assert_eq!(
        carry_out(&mut planner, now),
        [Op::Delete(key("10.244.0.0/26")), Op::Delete(key("10.244.9.0/26"))]
    );
    assert_eq!(planner.installed(), [0, 0, 0]);
}

/// A kernel that may refuse, lose answers, and is meddled with.
#[derive(Clone, Debug)]
enum Step {
    Want(usize, Option<u8>),
    Vips(Vec<u8>),
    Table(u32),
    Install(bool),
    Carry { limit: usize, refuse: bool },
    Lose { limit: usize },
    Meddle(usize, Option<u8>),
    Silently(usize),
    Resync,
    Converged,
}

const PREFIXES: [&str; 4] = ["10.244.0.0/26", "10.244.1.0/26", "10.244.1.7/32", "fd00::/122"];

fn step() -> impl Strategy<Value = Step> {
    let at = 0..PREFIXES.len();
    let last = prop::option::of(1u8..4);
    prop_oneof![
        4 => (at.clone(), last.clone()).prop_map(|(at, last)| Step::Want(at, last)),
        1 => prop::collection::vec(1u8..4, 0..3).prop_map(Step::Vips),
        1 => (253u32..255).prop_map(Step::Table),
        1 => any::<bool>().prop_map(Step::Install),
        3 => (1usize..4, any::<bool>()).prop_map(|(limit, refuse)| Step::Carry { limit, refuse }),
        1 => (1usize..4).prop_map(|limit| Step::Lose { limit }),
        1 => (at.clone(), last).prop_map(|(at, last)| Step::Meddle(at, last)),
        1 => at.prop_map(Step::Silently),
        1 => Just(Step::Resync),
        1 => Just(Step::Converged),
    ]
}

proptest! {
    #[test]
    fn the_kernel_ends_as_wanted(steps in prop::collection::vec(step(), 0..60)) {
        let mut now = epoch();
        let mut planner = Planner::new(settings());
        let mut kernel: BTreeMap<Key, Target> = BTreeMap::new();
        let mut routes: BTreeMap<Prefix, Gateways> = BTreeMap::new();
        let mut vips: BTreeSet<IpAddr> = BTreeSet::new();
        let mut set = settings();
        let apply = |kernel: &mut BTreeMap<Key, Target>, op: &Op| match op {
            Op::Replace(key, target) => { kernel.insert(*key, target.clone()); Outcome::Done }
            Op::Delete(key) => match kernel.remove(key) { Some(_) => Outcome::Done, None => Outcome::NotThere },
        };
        for step in steps {
            match step {
                Step::Want(at, last) => {
                    let prefix = prefix(PREFIXES[at]);
                    let wanted = last.map(gateways);
                    match wanted.clone() {
                        Some(wanted) => routes.insert(prefix, wanted),
                        None => routes.remove(&prefix),
                    };
                    planner.route(prefix, wanted);
                }
                Step::Vips(lasts) => {
                    vips = lasts.into_iter().map(|last| IpAddr::from([203, 0, 113, last])).collect();
                    planner.vips(vips.clone());
                }
                Step::Table(table) => { set.table = table; planner.configure(set); }
                Step::Install(install_routes) => { set.install_routes = install_routes; planner.configure(set); }
                Step::Carry { limit, refuse } => for (count, op) in planner.next(limit).into_iter().enumerate() {
                    let outcome = if refuse && count == 0 { refused() } else { apply(&mut kernel, &op) };
                    planner.answered(op, &outcome, now);
                },
                Step::Lose { limit } => {
                    let ops = planner.next(limit);
                    for op in &ops { apply(&mut kernel, op); }
                    planner.unanswered(ops);
                    // Whoever gets no answer reads everything again.
                    planner.resync(kernel.clone());
                }
                Step::Meddle(at, last) => {
                    let key = Key { table: set.table, prefix: prefix(PREFIXES[at]) };
                    let target = last.map(|last| Target::Via(gateways(last)));
                    match target.clone() {
                        Some(target) => kernel.insert(key, target),
                        None => kernel.remove(&key),
                    };
                    planner.seen(key, target);
                }
                Step::Silently(at) => {
                    // A link went down: a read of everything follows.
                    kernel.remove(&Key { table: set.table, prefix: prefix(PREFIXES[at]) });
                    planner.resync(kernel.clone());
                }
                Step::Resync => { planner.resync(kernel.clone()); }
                Step::Converged => planner.converged(),
            }
            for key in kernel.keys() {
                let known = planner.installed.contains_key(key);
                prop_assert!(known, "{key:?} is known");
            }
        }
        set.install_routes = true;
        planner.configure(set);
        planner.converged();
        now += Duration::from_secs(120);
        for _ in 0..3 {
            planner.retry(now, true);
            for op in planner.next(1000) {
                let outcome = apply(&mut kernel, &op);
                planner.answered(op, &outcome, now);
            }
        }
        let want: BTreeMap<Key, Target> = routes.iter().map(|(prefix, gateways)| {
            (Key { table: set.table, prefix: *prefix }, Target::Via(gateways.clone()))
        }).chain(vips.iter().map(|vip| (local_key(*vip), Target::Local))).collect();
        prop_assert_eq!(&kernel, &want);
        prop_assert!(planner.is_idle() && planner.deadline().is_none());
        let counted = planner.installed();
        prop_assert_eq!(counted.iter().sum::<usize>(), want.len());
        prop_assert_eq!(counted[2], vips.len());
        planner.stop();
        for op in planner.next(1000) { apply(&mut kernel, &op); }
        prop_assert!(kernel.is_empty());
    }
}
