//! Which sets of names are due now, in which order, and when to look again (pure).
//!
//! The rules, all of them functions of what is wanted, held and remembered:
//!
//! - without a certificate, or with one of another CA: at once;
//! - with one: when a third of its validity is left, spread over a thirtieth of it;
//! - when a twentieth is left: before everything else, and with short waits between attempts;
//! - after failures: not before [`History::not_before`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sekisho_config::model::{HostPattern, NameSet};

use crate::history::{History, later};

/// Names in one certificate; the main public CA takes no more.
pub const MOST_NAMES: usize = 100;

/// No set is ordered more often than this, even if what the CA issues is due at once (a clock that is wrong, say).
const BETWEEN_ORDERS: SignedDuration = SignedDuration::from_hours(1);

/// The certificate held for a set, as far as time goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// When it was obtained.
    pub obtained: Timestamp,
    /// Whether the CA that is configured now issued it.
    pub of_this_ca: bool,
}

impl Validity {
    fn share(&self, divisor: i32) -> SignedDuration {
        let life = self.not_after.duration_since(self.not_before);
        life.max(SignedDuration::ZERO)
            .checked_div(divisor)
            .unwrap_or_default()
    }

    /// When a third of the validity is left; later by up to a thirtieth, by `jitter` in `0.0..1.0`.
    pub fn renew_at(&self, jitter: f64) -> Timestamp {
        let spread = self.share(30).as_secs_f64() * jitter.clamp(0.0, 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "a float turned integer saturates")]
        let spread = SignedDuration::from_secs(spread as i64);
        let at = later(self.not_after, -self.share(3));
        let between = self
            .share(3)
            .min(BETWEEN_ORDERS)
            .max(SignedDuration::from_mins(1));
        later(at, spread).max(later(self.obtained, between))
    }

    /// When a twentieth of the validity is left.
    pub fn emergency_at(&self) -> Timestamp {
        later(self.not_after, -self.share(20))
    }
}

/// What is known when the question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Sets that must be held.
    pub wanted: &'a BTreeSet<Arc<NameSet>>,
    /// Sets that are held, wanted or not.
    pub held: &'a BTreeMap<Arc<NameSet>, Validity>,
    /// Sets whose order runs.
    pub running: &'a BTreeSet<Arc<NameSet>>,
    /// Failures with the CA that is configured now.
    pub history: &'a History,
}

/// The answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Due {
    /// Orders to start now, the most urgent first, at most as many as there were slots. No two of them, and none that
    /// runs, share a name: a failed authorization counts by name, and a valid one serves the next order.
    pub now: Vec<Arc<NameSet>>,
    /// Sets that are due, running or not.
    pub due: usize,
    /// When something becomes due that is not due yet. Always after the `now` that was asked for.
    pub next: Option<Timestamp>,
}

/// How urgent an order is; the smallest goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Urgency {
    /// A certificate that has expired or is about to.
    Expiring,
    /// There is none.
    New,
    /// Renewal in good time.
    Renewal,
}

/// Why no order is made for a set at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// HTTP-01 cannot prove a wildcard (RFC 8555 section 8.3).
    #[error("{0} cannot be had by HTTP-01; list the hosts one by one, or give the certificate in a Secret")]
    Wildcard(HostPattern),
    /// More names than a CA takes.
    #[error(
        "{have} names in one certificate, {MOST_NAMES} is the most; split the TLS hosts over several entries"
    )]
    TooManyNames {
        /// Names in the set.
        have: usize,
    },
    /// Nothing to order.
    #[error("no name to order a certificate for")]
    NoName,
}

/// What is to happen with one set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Plan {
    /// Nothing.
    Refused(Refusal),
    /// An order, not before this time.
    Order(Timestamp),
}

/// When the next order for `names` may start. Does not depend on the time of asking.
pub fn plan(names: &NameSet, held: Option<&Validity>, history: &History) -> Plan {
    if names.is_empty() {
        return Plan::Refused(Refusal::NoName);
    }
    if names.len() > MOST_NAMES {
        return Plan::Refused(Refusal::TooManyNames { have: names.len() });
    }
    if let Some(name) = names.iter().find(|name| !matches!(name, HostPattern::Exact(_))) {
        return Plan::Refused(Refusal::Wildcard(name.clone()));
    }
    let jitter = jitter(history.seed, names);
    let base = match held {
        Some(validity) if validity.of_this_ca => validity.renew_at(jitter),
        _ => Timestamp::MIN,
    };
    Plan::Order(base.max(history.not_before(names, held.map(Validity::emergency_at), jitter)))
}

/// How urgent an order for a set with this certificate is at `now`.
pub fn urgency(held: Option<&Validity>, now: Timestamp) -> Urgency {
    match held {
        None => Urgency::New,
        Some(validity) if validity.emergency_at() <= now => Urgency::Expiring,
        Some(_) => Urgency::Renewal,
    }
}

/// What to start at `now` with `slots` orders free, and when to ask again.
pub fn due(facts: Facts<'_>, now: Timestamp, slots: usize) -> Due {
    let mut answer = Due::default();
    let mut candidates = Vec::new();
    for names in facts.wanted {
        let held = facts.held.get(names);
        let Plan::Order(at) = plan(names, held, facts.history) else {
            continue;
        };
        if at > now {
            answer.next = Some(answer.next.map_or(at, |next| next.min(at)));
            continue;
        }
        answer.due = answer.due.saturating_add(1);
        if !facts.running.contains(names) {
            // Within one urgency: who failed least, then what ends first.
            let failures = facts.history.of(names).map_or(0, |failures| failures.count);
            let end = held.map_or(Timestamp::MIN, |validity| validity.not_after);
            candidates.push((urgency(held, now), failures, end, Reverse(names.len()), names));
        }
    }
    candidates.sort_unstable();
    let mut busy: BTreeSet<&HostPattern> = facts.running.iter().flat_map(|names| names.iter()).collect();
    for (.., names) in candidates {
        if answer.now.len() >= slots {
            break;
        }
        if names.iter().all(|name| !busy.contains(name)) {
            busy.extend(names.iter());
            answer.now.push(Arc::clone(names));
        }
    }
    answer
}

/// A number in `0.0..1.0` that is the same for the same seed and names (FNV-1a and a final mix).
pub fn jitter(seed: u64, names: &NameSet) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
    for name in names {
        for byte in name.to_string().bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::{Failure, FailureKind};

    const DAY: i64 = 86_400;

    fn names(text: &str) -> Arc<NameSet> {
        Arc::new(
            text.split_whitespace()
                .map(|name| name.parse().unwrap())
                .collect(),
        )
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn validity(from: i64, to: i64) -> Validity {
        Validity {
            not_before: at(from),
            not_after: at(to),
            obtained: at(from),
            of_this_ca: true,
        }
    }

    fn ask(
        wanted: &[&str],
        held: &[(&str, Validity)],
        running: &[&str],
        now: i64,
        slots: usize,
    ) -> (Vec<String>, Option<i64>) {
        let wanted = wanted.iter().map(|set| names(set)).collect();
        let held = held
            .iter()
            .map(|(set, validity)| (names(set), *validity))
            .collect();
        let running = running.iter().map(|set| names(set)).collect();
        let history = History::default();
        let due = due(
            Facts {
                wanted: &wanted,
                held: &held,
                running: &running,
                history: &history,
            },
            at(now),
            slots,
        );
        let text = |set: &Arc<NameSet>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (
            due.now.iter().map(text).collect(),
            due.next.map(|next| next.as_second() - 1_800_000_000),
        )
    }

    #[test]
    fn the_last_third_of_any_validity() {
        for (days, first, last) in [
            (90.0, 60.0, 63.0),
            (45.0, 30.0, 31.5),
            (6.0, 4.0, 4.2),
            (0.1, 0.0666, 0.07),
        ] {
            #[expect(clippy::cast_possible_truncation)]
            let seconds = |days: f64| (days * DAY as f64) as i64;
            let validity = validity(0, seconds(days));
            for (jitter, want) in [(0.0, first), (1.0, last), (f64::NAN, first)] {
                let got = validity.renew_at(jitter).as_second() - at(0).as_second();
                assert!(
                    (got - seconds(want)).abs() < 90,
                    "{days} d, jitter {jitter}: {got}"
                );
            }
        }
    }

    #[test]
    fn what_is_due_and_when_next() {
        let fresh = validity(0, 90 * DAY);
        let other = Validity {
            of_this_ca: false,
            ..fresh
        };
        for (why, wanted, held, now, want) in [
            ("nothing wanted", "", None, 0, (false, false)),
            ("none held", "a.example", None, 0, (true, false)),
            ("fresh", "a.example", Some(fresh), 10 * DAY, (false, true)),
            (
                "just before the last third",
                "a.example",
                Some(fresh),
                60 * DAY - 1,
                (false, true),
            ),
            (
                "surely in the last third",
                "a.example",
                Some(fresh),
                63 * DAY,
                (true, false),
            ),
            ("expired", "a.example", Some(fresh), 100 * DAY, (true, false)),
            ("of another CA", "a.example", Some(other), 0, (true, false)),
            ("a wildcard", "*.example", None, 0, (false, false)),
        ] {
            let wanted: Vec<&str> = if wanted.is_empty() { vec![] } else { vec![wanted] };
            let held: Vec<_> = held.map(|validity| ("a.example", validity)).into_iter().collect();
            let (now, next) = ask(&wanted, &held, &[], now, 10);
            assert_eq!((!now.is_empty(), next.is_some()), want, "{why}");
        }
    }

    #[test]
    fn expiring_first_new_next_then_renewals() {
        let held = [
            ("renew.example", validity(-70 * DAY, 20 * DAY)),
            ("soon.example", validity(-89 * DAY, DAY)),
            ("gone.example", validity(-91 * DAY, -DAY)),
        ];
        let wanted = ["renew.example", "new.example", "soon.example", "gone.example"];
        let (now, _) = ask(&wanted, &held, &[], 0, 3);
        assert_eq!(now, ["gone.example", "soon.example", "new.example"]);
    }

    #[test]
    fn orders_at_a_time_share_no_name() {
        let wanted = [
            "a.example b.example",
            "b.example c.example",
            "c.example",
            "d.example",
        ];
        let (now, next) = ask(&wanted, &[], &["d.example"], 0, 9);
        assert_eq!(
            (now, next),
            (vec!["a.example b.example".into(), "c.example".into()], None)
        );
    }

    #[test]
    fn a_set_that_fails_does_not_stand_before_one_that_does_not() {
        let wanted = [names("a.example"), names("b.example")].into();
        let mut history = History::default();
        history.failed(
            &names("a.example"),
            &Failure::new(FailureKind::Refused, "no"),
            at(0),
            at(0),
        );
        let facts = Facts {
            wanted: &wanted,
            held: &BTreeMap::new(),
            running: &BTreeSet::new(),
            history: &history,
        };
        let due = due(facts, at(600), 1);
        assert_eq!(
            due,
            Due {
                now: vec![names("b.example")],
                due: 2,
                next: None
            }
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        let many = (0..101)
            .map(|i| format!("h{i}.example"))
            .collect::<Vec<_>>()
            .join(" ");
        for (set, want) in [
            ("*.a.example", "list the hosts one by one"),
            (many.as_str(), "101 names"),
            ("", "no name"),
        ] {
            let Plan::Refused(refusal) = plan(&names(set), None, &History::default()) else {
                panic!("{set} is ordered");
            };
            assert!(refusal.to_string().contains(want), "{refusal}");
        }
    }

    #[test]
    fn a_certificate_that_is_due_when_it_comes_is_not_ordered_in_a_loop() {
        let stale = Validity {
            not_before: at(-90 * DAY),
            not_after: at(-DAY),
            obtained: at(0),
            of_this_ca: true,
        };
        assert_eq!(stale.renew_at(0.0), at(3600));
    }

    proptest! {
        /// Whatever happened, asking again at `next` finds something due, and never before.
        #[test]
        fn next_is_later_and_then_something_is_due(
            sets in proptest::collection::btree_map("[a-e]\\.example", (proptest::option::of((-100_i64..1, 0_i64..100)), 0_u8..6), 0..5),
            seed: u64,
            start in -50_i64..50,
        ) {
            let mut history = History::new(seed);
            let (mut wanted, mut held) = (BTreeSet::new(), BTreeMap::new());
            for (set, (certificate, failures)) in &sets {
                let set = names(set);
                wanted.insert(Arc::clone(&set));
                if let Some((from, to)) = certificate {
                    held.insert(Arc::clone(&set), validity(from * DAY, to * DAY));
                }
                for _ in 0..*failures {
                    let mut failure = Failure::new(FailureKind::Validation, "no");
                    failure.authorizations = set.iter().cloned().collect();
                    history.failed(&set, &failure, at(start * DAY), at(start * DAY));
                }
            }
            let running = BTreeSet::new();
            let facts = Facts { wanted: &wanted, held: &held, running: &running, history: &history };
            let mut now = at(start * DAY);
            let mut before = 0;
            for _ in 0..20 {
                let answer = due(facts, now, usize::MAX);
                prop_assert!(answer.due >= before, "what is due stays due until it is ordered");
                prop_assert_eq!(answer.due, answer.now.len());
                let Some(next) = answer.next else {
                    prop_assert_eq!(answer.due, wanted.len());
                    break;
                };
                prop_assert!(next > now, "{} is not after {}", next, now);
                let just_before = Timestamp::from_nanosecond(next.as_nanosecond() - 1).unwrap();
                prop_assert_eq!(due(facts, just_before, 9).due, answer.due);
                prop_assert!(due(facts, next, 9).due > answer.due);
                before = answer.due;
                now = next;
            }
        }

        #[test]
        fn jitter_is_a_stable_share(seed: u64, set in "[a-z]{1,9}\\.example") {
            let share = jitter(seed, &names(&set));
            prop_assert!((0.0..1.0).contains(&share));
            prop_assert!(share == jitter(seed, &names(&set)));
        }

        /// More failures never bring the next attempt forward.
        #[test]
        fn a_failure_never_brings_the_next_attempt_forward(seed: u64, times in proptest::collection::vec(0_i64..90_000, 1..40)) {
            let mut history = History::new(seed);
            let set = names("a.example");
            let (mut now, mut last) = (0, Timestamp::MIN);
            for wait in times {
                now += wait;
                history.failed(&set, &Failure::new(FailureKind::Refused, "no"), at(now), at(now));
                let Plan::Order(next) = plan(&set, None, &history) else { panic!("refused") };
                prop_assert!(next > at(now) && next >= last);
                last = next;
            }
        }
    }
}
