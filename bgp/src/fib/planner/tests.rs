use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::others::{local_key, unreachable_key};
use super::*;
use crate::fib::objects::Object;
use crate::rib::Gateway;

const MAIN: u32 = 254;

fn settings(nexthop_objects: bool) -> Settings {
    Settings {
        install_routes: true,
        table: MAIN,
        nexthop_objects,
    }
}

fn gateways(last: u8) -> Gateways {
    Arc::from([Gateway {
        via: IpAddr::from([10, 0, 0, last]),
        interface: 2,
        weight: 1,
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

fn way(number: u32) -> ForwardingId {
    ForwardingId::numbered(number)
}

fn replace(text: &str, last: u8) -> Op {
    Op::Replace(key(text), Target::Via(gateways(last)))
}

fn refused() -> Outcome {
    Outcome::Refused("Network is unreachable".into())
}

fn epoch() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// With gateways in each route, and ways 1 to 9 that lead to the gateways with these numbers.
fn inline() -> Planner {
    let mut planner = Planner::new(settings(false));
    (1..=9).for_each(|last| planner.way(way(u32::from(last)), gateways(last)));
    planner
}

fn carry_out(planner: &mut Planner, now: Instant) -> Vec<Op> {
    let mut all = Vec::new();
    loop {
        let ops = planner.next(100);
        if ops.is_empty() {
            return all;
        }
        for op in ops {
            planner.answered(op.clone(), &Outcome::Done, now);
            all.push(op);
        }
    }
}

/// A complete reading without objects.
fn resync(planner: &mut Planner, seen: &[(Key, Target)]) -> usize {
    let before = planner.others_installed();
    planner.begin_reading();
    let mut lost = 0;
    for (key, target) in seen {
        lost += usize::from(planner.read(*key, target.clone()));
    }
    lost + planner.end_reading(&before, &BTreeMap::new())
}

#[test]
fn only_differences_are_sent() {
    let now = epoch();
    let mut planner = inline();
    planner.route(prefix("10.244.0.0/26"), way(1));
    assert_eq!(planner.pending(), 1);
    assert_eq!(carry_out(&mut planner, now), [replace("10.244.0.0/26", 1)]);
    assert!(planner.is_idle() && planner.pending() == 0);
    planner.route(prefix("10.244.0.0/26"), way(1));
    assert_eq!(carry_out(&mut planner, now), [], "the same");
    planner.withdraw(vec![prefix("10.244.0.0/26")], now);
    planner.route(prefix("10.244.0.0/26"), way(2));
    assert_eq!(
        carry_out(&mut planner, now),
        [replace("10.244.0.0/26", 2)],
        "gone and back: replaced"
    );
    planner.way(way(2), gateways(7));
    assert_eq!(carry_out(&mut planner, now), [replace("10.244.0.0/26", 7)]);
    planner.withdraw(vec![prefix("10.244.0.0/26")], now);
    assert_eq!(carry_out(&mut planner, now), [], "it lingers");
    assert_eq!(planner.deadline(), Some(now + LINGER));
    planner.expire(now + LINGER);
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

/// A table that comes in order is written all over the addresses from the start, and each route once.
#[test]
fn a_large_table_is_not_written_in_order() {
    const COUNT: u32 = 40_000;
    let prefix_at = |at: u32| Prefix::new(IpAddr::from((0x1000_0000 + (at << 8)).to_be_bytes()), 24).unwrap();
    let mut planner = inline();
    (0..COUNT).for_each(|at| planner.route(prefix_at(at), way(1)));
    let written: Vec<_> = carry_out(&mut planner, epoch())
        .into_iter()
        .map(|op| match op {
            Op::Replace(key, _) => key.prefix,
            op => panic!("{op:?}"),
        })
        .collect();
    let all: BTreeSet<_> = written.iter().copied().collect();
    assert_eq!(all, (0..COUNT).map(prefix_at).collect());
    assert_eq!(written.len(), all.len());
    // A fifth of them leave no sixteenth of the addresses out.
    let early: BTreeSet<_> = written[..written.len() / 5].iter().copied().collect();
    for part in 0..16 {
        let (from, to) = (COUNT / 16 * part, COUNT / 16 * (part + 1));
        assert!((from..to).any(|at| early.contains(&prefix_at(at))), "{part}");
    }
}

#[test]
fn nobody_lingers_where_another_leads_on() {
    let now = epoch();
    let mut planner = inline();
    for text in ["10.244.0.0/26", "10.244.0.7/32", "10.244.1.0/26"] {
        planner.route(prefix(text), way(1));
    }
    carry_out(&mut planner, now);
    planner.withdraw(vec![prefix("10.244.0.7/32"), prefix("10.244.1.0/26")], now);
    assert_eq!(carry_out(&mut planner, now), [Op::Delete(key("10.244.0.7/32"))]);
    // Gone, back, gone: the first round must not end the second.
    planner.route(prefix("10.244.1.0/26"), way(1));
    planner.withdraw(vec![prefix("10.244.1.0/26")], now + LINGER / 2);
    planner.expire(now + LINGER);
    assert_eq!(carry_out(&mut planner, now), []);
    planner.expire(now + LINGER * 2);
    assert_eq!(carry_out(&mut planner, now), [Op::Delete(key("10.244.1.0/26"))]);
    // Both go at once: neither leads on.
    planner.route(prefix("10.244.0.7/32"), way(1));
    carry_out(&mut planner, now);
    planner.withdraw(vec![prefix("10.244.0.7/32"), prefix("10.244.0.0/26")], now);
    assert_eq!(carry_out(&mut planner, now), []);
}

/// What goes piece by piece goes as one, or the first piece is deleted route by route while the last lingers.
#[test]
fn many_that_follow_each_other_linger_together() {
    let now = epoch();
    let mut planner = Planner::new(settings(true));
    planner.converged();
    planner.way(way(1), gateways(1));
    // Wider ones come last: they would lead on.
    let mut prefixes: Vec<Prefix> = (0..8)
        .map(|third| Prefix::new(IpAddr::from([10, 1, third, 0]), 24).unwrap())
        .collect();
    prefixes.push(prefix("10.1.0.0/16"));
    prefixes.iter().for_each(|prefix| planner.route(*prefix, way(1)));
    carry_out(&mut planner, now);
    let mut at = now;
    for (piece, late) in prefixes.chunks(4).zip([false, false, true]) {
        at += if late { LINGER * 2 } else { LINGER * 3 / 4 };
        if !late {
            planner.expire(at);
        }
        assert_eq!(carry_out(&mut planner, at), []);
        planner.withdraw(piece.to_vec(), at);
    }
    planner.way_gone(way(1));
    planner.expire(at + LINGER / 2);
    assert_eq!(carry_out(&mut planner, at), []);
    assert_eq!(planner.deadline(), Some(at + LINGER));
    planner.expire(at + LINGER);
    let ops = carry_out(&mut planner, at);
    assert!(
        matches!(ops[..], [Op::DeleteObject(_), Op::DeleteObject(_)]),
        "group, gateway: {ops:?}"
    );
    assert_eq!(planner.installed(), [0, 0, 0]);

    // Nobody lingers for ever because others keep coming.
    let (first, others) = prefixes.split_at(3);
    let mut planner = inline();
    prefixes.iter().for_each(|prefix| planner.route(*prefix, way(1)));
    carry_out(&mut planner, now);
    planner.withdraw(first.to_vec(), now);
    let mut at = now;
    while at < now + JOINING + LINGER {
        planner.withdraw(others.to_vec(), at);
        others.iter().for_each(|prefix| planner.route(*prefix, way(1)));
        planner.expire(at);
        carry_out(&mut planner, at);
        at += LINGER / 2;
    }
    assert_eq!(planner.installed(), [others.len(), 0, 0]);
}

#[test]
fn refusals_wait_longer_and_longer() {
    let mut now = epoch();
    let mut planner = inline();
    planner.route(prefix("10.244.0.0/26"), way(1));
    for want in [1, 2, 4, 8, 16, 32, 60, 60] {
        let [op] = planner.next(9).try_into().unwrap();
        planner.answered(op, &refused(), now);
        assert_eq!(planner.next(9), [], "it waits");
        assert_eq!(planner.pending(), 1);
        assert_eq!(planner.deadline(), Some(now + Duration::from_secs(want)));
        now += Duration::from_secs(want);
        planner.retry(now, false);
    }
    planner.route(prefix("10.244.0.0/26"), way(2));
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
fn a_refused_object_holds_up_its_own_routes_only() {
    let mut now = epoch();
    let mut planner = Planner::new(settings(true));
    planner.way(way(1), gateways(1));
    planner.way(way(2), gateways(2));
    planner.route(prefix("10.244.1.0/26"), way(1));
    planner.route(prefix("10.244.2.0/26"), way(2));
    let mut written = Vec::new();
    for _ in 0..10 {
        for op in planner.next(100) {
            // Nobody gets gateway 1, nor a group of it.
            let refuse = match &op {
                Op::Gateway(_, (via, _)) => *via == IpAddr::from([10, 0, 0, 1]),
                Op::Group(_, members) => {
                    let [(member, _)] = members[..] else {
                        panic!("{members:?}")
                    };
                    planner.objects_of(member) == Some(IpAddr::from([10, 0, 0, 1]))
                }
                _ => false,
            };
            let outcome = if refuse { refused() } else { Outcome::Done };
            if let Op::Replace(key, _) = &op {
                written.push(key.prefix.to_string());
            }
            planner.answered(op, &outcome, now);
        }
    }
    assert_eq!(written, ["10.244.2.0/26"]);
    assert_eq!(planner.pending(), 1);
    assert_eq!(planner.deadline(), Some(now + Duration::from_secs(1)));
    now += Duration::from_secs(1);
    planner.retry(now, false);
    let ops = carry_out(&mut planner, now);
    assert!(
        matches!(ops.last(), Some(Op::Replace(key, _)) if key.prefix == prefix("10.244.1.0/26")),
        "{ops:?}"
    );
    assert_eq!((planner.pending(), planner.deadline()), (0, None));
}

#[test]
fn left_overs_wait_for_convergence() {
    let now = epoch();
    let seen = [
        (key("10.244.0.0/26"), Target::Via(gateways(1))),
        (key("10.244.1.0/26"), Target::Via(gateways(1))),
        (key("10.244.2.0/26"), Target::Via(gateways(1))),
    ];
    let mut planner = inline();
    assert_eq!(resync(&mut planner, &seen), 0);
    assert_eq!(carry_out(&mut planner, now), []);
    planner.route(prefix("10.244.0.0/26"), way(1));
    planner.route(prefix("10.244.1.0/26"), way(9));
    assert_eq!(
        carry_out(&mut planner, now),
        [replace("10.244.1.0/26", 9)],
        "what is right stays"
    );
    planner.converged();
    assert_eq!(carry_out(&mut planner, now), [Op::Delete(key("10.244.2.0/26"))]);
    assert_eq!(resync(&mut planner, &[]), 2, "all gone");
    assert_eq!(
        carry_out(&mut planner, now),
        [replace("10.244.0.0/26", 1), replace("10.244.1.0/26", 9)]
    );

    let mut off = inline();
    off.configure(Settings {
        install_routes: false,
        ..settings(false)
    });
    resync(&mut off, &seen);
    off.route(prefix("10.244.0.0/26"), way(1));
    off.converged();
    let touched: Vec<_> = off.next(9);
    assert_eq!(touched, [Op::Delete(key("10.244.0.0/26"))]);
}

#[test]
fn the_way_out_takes_everything() {
    let now = epoch();
    let mut planner = inline();
    resync(&mut planner, &[(key("10.244.9.0/26"), Target::Foreign)]);
    planner.route(prefix("10.244.0.0/26"), way(1));
    carry_out(&mut planner, now);
    planner.stop();
    let mut ops = carry_out(&mut planner, now);
    ops.sort_by_key(|op| format!("{op:?}"));
    assert_eq!(
        ops,
        [Op::Delete(key("10.244.0.0/26")), Op::Delete(key("10.244.9.0/26"))]
    );
    assert_eq!(planner.installed(), [0, 0, 0]);
}

#[test]
fn what_many_routes_lead_to_changes_not_the_routes() {
    let now = epoch();
    let mut planner = Planner::new(settings(true));
    planner.converged();
    let prefixes: Vec<Prefix> = (0..200)
        .map(|third| Prefix::new(IpAddr::from([10, 1, third, 0]), 24).unwrap())
        .collect();
    planner.way(way(1), gateways(1));
    prefixes.iter().for_each(|prefix| planner.route(*prefix, way(1)));
    let ops = carry_out(&mut planner, now);
    assert_eq!(ops.len(), 202, "gateway, group, routes");
    assert_eq!((planner.installed(), planner.groups()), ([200, 0, 0], 1));

    planner.way(way(1), gateways(2));
    let ops = carry_out(&mut planner, now);
    assert!(
        matches!(ops[..], [Op::Gateway(..), Op::Group(..), Op::DeleteObject(_)]),
        "{ops:?}"
    );

    // The table has decided anew; everybody goes another way, to where the object leads already.
    planner.way(way(2), gateways(2));
    prefixes.iter().for_each(|prefix| planner.route(*prefix, way(2)));
    planner.way_gone(way(1));
    assert_eq!(carry_out(&mut planner, now), []);
    planner.way(way(3), gateways(3));
    prefixes.iter().for_each(|prefix| planner.route(*prefix, way(3)));
    planner.way_gone(way(2));
    let ops = carry_out(&mut planner, now);
    assert!(
        matches!(ops[..], [Op::Gateway(..), Op::Group(..), Op::DeleteObject(_)]),
        "{ops:?}"
    );

    planner.withdraw(prefixes.clone(), now);
    planner.way_gone(way(3));
    assert_eq!(carry_out(&mut planner, now), []);
    planner.expire(now + LINGER);
    let ops = carry_out(&mut planner, now);
    assert!(
        matches!(ops[..], [Op::DeleteObject(_), Op::DeleteObject(_)]),
        "{ops:?}"
    );
    assert_eq!((planner.installed(), planner.groups()), ([0, 0, 0], 0));
    assert!(planner.is_idle());
}

/// A kernel that may refuse, lose answers, and is meddled with.
#[derive(Clone, Debug)]
enum Step {
    Want(usize, Option<u8>),
    /// A way leads elsewhere.
    Move(u8, u8),
    /// All that go this way are withdrawn at once.
    Leave(u8),
    /// Everybody goes another way at once.
    Shift(u8),
    Vips(Vec<u8>),
    Unreachable(bool),
    Table(u32),
    Install(bool),
    Objects(bool),
    Time,
    Carry {
        limit: usize,
        refuse: bool,
    },
    Lose {
        limit: usize,
    },
    Meddle(usize, Option<u8>),
    Silently(usize),
    ObjectVanishes(usize),
    Resync,
    Converged,
    Anew,
}

const PREFIXES: [&str; 5] = [
    "10.244.0.0/16",
    "10.244.0.0/26",
    "10.244.1.0/26",
    "10.244.1.7/32",
    "fd00::/122",
];

fn step() -> impl Strategy<Value = Step> {
    let at = 0..PREFIXES.len();
    let last = prop::option::of(1u8..4);
    prop_oneof![
        6 => (at.clone(), last.clone()).prop_map(|(at, last)| Step::Want(at, last)),
        2 => (1u8..4, 1u8..5).prop_map(|(way, last)| Step::Move(way, last)),
        1 => (1u8..5).prop_map(Step::Shift),
        1 => (1u8..5).prop_map(Step::Leave),
        1 => prop::collection::vec(1u8..4, 0..3).prop_map(Step::Vips),
        1 => any::<bool>().prop_map(Step::Unreachable),
        1 => (253u32..255).prop_map(Step::Table),
        1 => any::<bool>().prop_map(Step::Install),
        1 => any::<bool>().prop_map(Step::Objects),
        2 => Just(Step::Time),
        6 => (1usize..4, any::<bool>()).prop_map(|(limit, refuse)| Step::Carry { limit, refuse }),
        1 => (1usize..4).prop_map(|limit| Step::Lose { limit }),
        1 => (at.clone(), last).prop_map(|(at, last)| Step::Meddle(at, last)),
        1 => at.clone().prop_map(Step::Silently),
        1 => at.prop_map(Step::ObjectVanishes),
        1 => Just(Step::Resync),
        1 => Just(Step::Converged),
        1 => Just(Step::Anew),
    ]
}

#[derive(Clone, Debug, Default)]
struct Kernel {
    routes: BTreeMap<Key, Target>,
    objects: BTreeMap<u32, Object>,
}

impl Kernel {
    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Replace(_, Target::Object(id)) if !matches!(self.objects.get(id), Some(Object::Group(_))) => {
                return Outcome::Refused("Nexthop id does not exist".into());
            }
            Op::Replace(key, target) => drop(self.routes.insert(*key, target.clone())),
            Op::Delete(key) => {
                if self.routes.remove(key).is_none() {
                    return Outcome::NotThere;
                }
            }
            Op::Gateway(id, neighbour) => {
                if matches!(self.objects.get(id), Some(Object::Group(_))) {
                    return Outcome::Refused("Can not replace a nexthop group with a nexthop".into());
                }
                self.objects.insert(*id, Object::Gateway(*neighbour));
            }
            Op::Group(id, members) => {
                let there = |(id, _): &(u32, u16)| matches!(self.objects.get(id), Some(Object::Gateway(_)));
                if members.is_empty()
                    || !members.iter().all(there)
                    || matches!(self.objects.get(id), Some(Object::Gateway(_)))
                {
                    return Outcome::Refused("Invalid nexthop id".into());
                }
                self.objects.insert(*id, Object::Group(members.clone()));
            }
            Op::DeleteObject(id) => {
                if self.objects.remove(id).is_none() {
                    return Outcome::NotThere;
                }
                // Members leave their groups; empty groups go; routes go with their groups.
                for object in self.objects.values_mut() {
                    if let Object::Group(members) = object {
                        members.retain(|(member, _)| member != id);
                    }
                }
                self.objects
                    .retain(|_, object| !matches!(object, Object::Group(members) if members.is_empty()));
                let objects = &self.objects;
                self.routes
                    .retain(|_, target| !matches!(target, Target::Object(id) if !objects.contains_key(id)));
            }
        }
        Outcome::Done
    }

    /// Where routes lead in the end.
    fn shown(&self) -> BTreeMap<Key, Target> {
        let through = |target: &Target| match target {
            Target::Object(id) => {
                let Some(Object::Group(members)) = self.objects.get(id) else {
                    panic!("{id} is no group")
                };
                let gateway = |(id, weight): &(u32, u16)| match self.objects.get(id) {
                    Some(Object::Gateway((via, interface))) => Gateway {
                        via: *via,
                        interface: *interface,
                        weight: *weight,
                    },
                    other => panic!("{other:?} is no member"),
                };
                Target::Via(members.iter().map(gateway).collect())
            }
            other => other.clone(),
        };
        self.routes
            .iter()
            .map(|(key, target)| (*key, through(target)))
            .collect()
    }

    fn read(&self, planner: &mut Planner) {
        let before = planner.others_installed();
        planner.begin_reading();
        for (key, target) in &self.routes {
            planner.read(*key, target.clone());
        }
        planner.end_reading(&before, &self.objects);
    }
}

/// Takes note that a prefix was withdrawn, unless another one leads on.
fn leave(left: &mut BTreeMap<Prefix, Instant>, routes: &BTreeMap<Prefix, u32>, prefix: Prefix, now: Instant) {
    if routes.keys().any(|wider| wider.covers(&prefix)) {
        left.remove(&prefix);
    } else {
        left.insert(prefix, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_ends_as_wanted(steps in prop::collection::vec(step(), 0..60), objects: bool) {
        let mut now = epoch();
        let mut set = settings(objects);
        let mut planner = Planner::new(set);
        let mut kernel = Kernel::default();
        let mut routes: BTreeMap<Prefix, u32> = BTreeMap::new();
        // Ways as the table makes them: a number is never given twice.
        let mut ways: BTreeMap<u32, (u8, Gateways)> = BTreeMap::new();
        let mut next_way = 1;
        // When they were withdrawn. What is said anew does not linger.
        let mut left: BTreeMap<Prefix, Instant> = BTreeMap::new();
        let mut anew = false;
        let mut vips: BTreeSet<IpAddr> = BTreeSet::new();
        let mut unreachable: BTreeSet<Prefix> = BTreeSet::new();
        let sweep = |planner: &mut Planner, ways: &mut BTreeMap<u32, (u8, Gateways)>, routes: &BTreeMap<Prefix, u32>| {
            let unused: Vec<u32> = ways.keys().filter(|number| !routes.values().any(|used| used == *number)).copied().collect();
            for number in unused {
                ways.remove(&number);
                planner.way_gone(way(number));
            }
        };
        for step in steps {
            match step {
                Step::Want(at, Some(last)) => {
                    let found = ways.iter().find(|(_, (label, _))| *label == last).map(|(number, _)| *number);
                    let number = found.unwrap_or_else(|| {
                        next_way += 1;
                        ways.insert(next_way, (last, gateways(last)));
                        planner.way(way(next_way), gateways(last));
                        next_way
                    });
                    routes.insert(prefix(PREFIXES[at]), number);
                    planner.route(prefix(PREFIXES[at]), way(number));
                    sweep(&mut planner, &mut ways, &routes);
                }
                Step::Want(at, None) => {
                    let leaving = prefix(PREFIXES[at]);
                    if routes.remove(&leaving).is_some() {
                        leave(&mut left, &routes, leaving, now);
                    }
                    planner.withdraw(vec![leaving], now);
                    sweep(&mut planner, &mut ways, &routes);
                }
                Step::Move(label, last) => {
                    let found = ways.iter_mut().find(|(_, (of, _))| *of == label);
                    if let Some((number, (_, at))) = found {
                        *at = gateways(last);
                        planner.way(way(*number), gateways(last));
                    }
                }
                Step::Shift(last) => {
                    next_way += 1;
                    ways.insert(next_way, (last, gateways(last)));
                    planner.way(way(next_way), gateways(last));
                    for (prefix, number) in &mut routes {
                        *number = next_way;
                        planner.route(*prefix, way(next_way));
                    }
                    sweep(&mut planner, &mut ways, &routes);
                }
                Step::Leave(label) => {
                    let leaving: Vec<Prefix> = routes.iter().filter(|(_, number)| ways[number].0 == label).map(|(prefix, _)| *prefix).collect();
                    routes.retain(|prefix, _| !leaving.contains(prefix));
                    planner.withdraw(leaving.clone(), now);
                    leaving.into_iter().for_each(|prefix| leave(&mut left, &routes, prefix, now));
                    sweep(&mut planner, &mut ways, &routes);
                }
                Step::Vips(lasts) => {
                    vips = lasts.into_iter().map(|last| IpAddr::from([203, 0, 113, last])).collect();
                    planner.vips(vips.clone());
                }
                Step::Unreachable(wanted) => {
                    unreachable = wanted.then(|| prefix("203.0.113.0/28")).into_iter().collect();
                    planner.unreachable(unreachable.clone());
                }
                Step::Table(table) => { set.table = table; planner.configure(set); }
                Step::Install(install_routes) => { set.install_routes = install_routes; planner.configure(set); }
                Step::Objects(objects) => { set.nexthop_objects = objects; planner.configure(set); }
                Step::Time => { now += LINGER; planner.expire(now); }
                Step::Carry { limit, refuse } => {
                    // As the task does: while one batch is on its way, the one before is answered and the next one planned.
                    let mut flying: Vec<(Op, Outcome)> = vec![];
                    let mut ops = planner.next(limit);
                    for number in 0..3 {
                        let ahead = Planner::may_plan_ahead(&ops);
                        let mut answers = vec![];
                        for (count, op) in ops.drain(..).enumerate() {
                            if let (Op::DeleteObject(id), true) = (&op, set.install_routes && set.nexthop_objects) {
                                let with_it = kernel.routes.iter().filter(|(key, target)| key.table == set.table && **target == Target::Object(*id));
                                for (key, _) in with_it {
                                    prop_assert!(!routes.contains_key(&key.prefix), "{} is wanted and would go with {id}", key.prefix);
                                    let lingered = left.get(&key.prefix).is_none_or(|since| *since + LINGER <= now);
                                    prop_assert!(lingered || anew, "{} has not lingered", key.prefix);
                                }
                            }
                            let outcome = if refuse && number == 0 && count == 0 { refused() } else { kernel.apply(&op) };
                            answers.push((op, outcome));
                        }
                        flying.drain(..).for_each(|(op, outcome)| planner.answered(op, &outcome, now));
                        flying = answers;
                        if !ahead {
                            break;
                        }
                        if number < 2 {
                            ops = planner.next(limit);
                        }
                    }
                    flying.into_iter().for_each(|(op, outcome)| planner.answered(op, &outcome, now));
                }
                Step::Lose { limit } => {
                    let mut ops = planner.next(limit);
                    if Planner::may_plan_ahead(&ops) {
                        ops.append(&mut planner.next(limit));
                    }
                    for op in &ops { kernel.apply(op); }
                    planner.unanswered(ops);
                    // Whoever gets no answer reads everything again.
                    kernel.read(&mut planner);
                }
                Step::Meddle(at, last) => {
                    let key = Key { table: set.table, prefix: prefix(PREFIXES[at]) };
                    let target = last.map(|last| Target::Via(gateways(last)));
                    match target.clone() {
                        Some(target) => kernel.routes.insert(key, target),
                        None => kernel.routes.remove(&key),
                    };
                    planner.seen(key, target);
                }
                Step::Silently(at) => {
                    // A link went down: a read of everything follows.
                    kernel.routes.remove(&Key { table: set.table, prefix: prefix(PREFIXES[at]) });
                    kernel.read(&mut planner);
                }
                Step::ObjectVanishes(at) => {
                    let id = kernel.objects.keys().nth(at).copied();
                    if let Some(id) = id {
                        kernel.apply(&Op::DeleteObject(id));
                        kernel.read(&mut planner);
                    }
                }
                Step::Resync => kernel.read(&mut planner),
                Step::Converged => planner.converged(),
                Step::Anew => {
                    anew = true;
                    planner.forget();
                    for (number, (_, gateways)) in &ways {
                        planner.way(way(*number), Arc::clone(gateways));
                    }
                    for (prefix, number) in &routes {
                        planner.route(*prefix, way(*number));
                    }
                }
            }
        }
        set.install_routes = true;
        planner.configure(set);
        planner.converged();
        now += Duration::from_secs(120);
        planner.expire(now);
        kernel.read(&mut planner);
        for _ in 0..4 {
            planner.retry(now, true);
            for _ in 0..100 {
                for op in planner.next(1000) {
                    let outcome = kernel.apply(&op);
                    planner.answered(op, &outcome, now);
                }
            }
        }
        let want: BTreeMap<Key, Target> = routes.iter().map(|(prefix, number)| {
            (Key { table: set.table, prefix: *prefix }, Target::Via(Arc::clone(&ways[number].1)))
        }).chain(vips.iter().map(|vip| (local_key(*vip), Target::Local)))
            .chain(unreachable.iter().map(|prefix| (unreachable_key(*prefix), Target::Unreachable)))
            .collect();
        prop_assert_eq!(&kernel.shown(), &want);
        prop_assert!(planner.is_idle() && planner.deadline().is_none() && planner.pending() == 0);
        let groups = kernel.objects.values().filter(|object| matches!(object, Object::Group(_))).count();
        prop_assert_eq!(planner.groups(), groups);
        if set.nexthop_objects {
            prop_assert!(kernel.objects.len() <= 2 * ways.len(), "nothing is left over: {:?}", kernel.objects);
        } else {
            prop_assert!(kernel.objects.is_empty(), "{:?}", kernel.objects);
        }
        let counted = planner.installed();
        prop_assert_eq!(counted.iter().sum::<usize>(), want.len());
        prop_assert_eq!(counted[2], vips.len() + unreachable.len());
        planner.stop();
        for _ in 0..100 {
            for op in planner.next(1000) {
                let outcome = kernel.apply(&op);
                planner.answered(op, &outcome, now);
            }
        }
        prop_assert!(kernel.routes.is_empty() && kernel.objects.is_empty(), "{:?}", kernel);
        prop_assert!(planner.is_idle());
    }
}
