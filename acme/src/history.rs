//! What went wrong lately with one CA, and how long that keeps us from asking again (pure).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sekisho_config::model::{HostPattern, NameSet};
use serde::{Deserialize, Serialize};

use crate::failure::{Blame, Failure};

/// Minutes to wait after the first, second, … failure of a set; [`LAST_STEP`] after these. The ladder of certmagic.
const LADDER: [i64; 25] = [
    1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 120, 120, 180, 180, 180,
];
const LAST_STEP: SignedDuration = SignedDuration::from_hours(6);

/// The longest step while less than a twentieth of the validity is left.
const EMERGENCY_STEP: SignedDuration = SignedDuration::from_hours(1);

/// Seconds to wait after failures that are the CA's or the way's: asking for the directory costs nobody a limit.
const CA_LADDER: [i64; 7] = [5, 10, 20, 40, 60, 120, 300];
const CA_LAST_STEP: SignedDuration = SignedDuration::from_mins(10);

/// A CA counts failed authorizations by identifier and hour; the main public CA refuses after 5. One stays in hand.
const AUTHORIZATIONS_AN_HOUR: usize = 4;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A Retry-After beyond these is not believed.
const LONGEST_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);
const LONGEST_CA_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Failures of sets that nobody wants any more are forgotten after this.
const FORGET: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Failures with one CA. Kept on disk, so that a restart does not start a burst of orders.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct History {
    /// Spreads renewals and retries; made once per state directory, so that times do not move at a restart.
    pub seed: u64,
    sets: BTreeMap<Arc<NameSet>, Failures>,
    identifiers: BTreeMap<HostPattern, Vec<Timestamp>>,
    ca: Option<Failures>,
}

/// Failures in a row.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failures {
    /// How many, at least 1.
    pub count: u32,
    /// When the last one happened.
    pub last: Timestamp,
    /// What the CA asked for by Retry-After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The last one in words.
    pub error: String,
}

impl Failures {
    fn add(previous: Option<&Self>, failure: &Failure, now: Timestamp, longest: SignedDuration) -> Self {
        let latest = later(now, longest);
        Self {
            count: previous.map_or(0, |failures| failures.count).saturating_add(1),
            last: now,
            not_before: failure.retry_after.map(|at| at.clamp(now, latest)),
            error: failure.message.clone(),
        }
    }

    fn at_least(&self, step: SignedDuration) -> Timestamp {
        let at = later(self.last, step);
        self.not_before.map_or(at, |asked| asked.max(at))
    }
}

impl History {
    /// Without failures.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Failures of a set since its last success.
    pub fn of(&self, names: &NameSet) -> Option<&Failures> {
        self.sets.get(names)
    }

    /// Failures of the CA itself since it last answered.
    pub fn of_ca(&self) -> Option<&Failures> {
        self.ca.as_ref()
    }

    /// The earliest time at which an order for `names` may be started, as far as failures go.
    ///
    /// `emergency` is when less than a twentieth of the held certificate's validity is left: from then on the wait is
    /// never longer than an hour. `jitter` is in `0.0..1.0` and adds up to a tenth to the wait.
    pub fn not_before(&self, names: &NameSet, emergency: Option<Timestamp>, jitter: f64) -> Timestamp {
        let mut at = self.ca.as_ref().map_or(Timestamp::MIN, |failures| {
            failures.at_least(ca_step(failures.count))
        });
        if let Some(failures) = self.sets.get(names) {
            let spread = |step: SignedDuration| stretch(step, jitter / 10.0);
            let step = spread(step(failures.count));
            let patient = later(failures.last, step);
            let hurried = match emergency {
                Some(from) => from.max(later(failures.last, step.min(spread(EMERGENCY_STEP)))),
                None => patient,
            };
            at = at
                .max(patient.min(hurried))
                .max(failures.not_before.unwrap_or(Timestamp::MIN));
        }
        for name in names {
            if let Some(times) = self.identifiers.get(name)
                && let Some(oldest) = times.len().checked_sub(AUTHORIZATIONS_AN_HOUR)
                && let Some(oldest) = times.get(oldest)
            {
                at = at.max(later(*oldest, HOUR));
            }
        }
        at
    }

    /// Notes the failure of an order that was started at `started`.
    ///
    /// Orders that run at the same time and fail for one reason of the CA count once for the CA.
    pub fn failed(&mut self, names: &Arc<NameSet>, failure: &Failure, started: Timestamp, now: Timestamp) {
        for name in &failure.authorizations {
            let times = self.identifiers.entry(name.clone()).or_default();
            times.push(now);
            times.sort_unstable();
            let surplus = times.len().saturating_sub(AUTHORIZATIONS_AN_HOUR);
            times.drain(..surplus);
        }
        let blame = failure.kind.blame();
        if blame.names() {
            let failures = Failures::add(self.sets.get(names), failure, now, LONGEST_RETRY_AFTER);
            self.sets.insert(Arc::clone(names), failures);
        }
        if blame.ca() && self.ca.as_ref().is_none_or(|failures| failures.last <= started) {
            let mut failures = Failures::add(self.ca.as_ref(), failure, now, LONGEST_CA_RETRY_AFTER);
            if blame == Blame::Both {
                // The Retry-After of a limit is about these names; the others only slow down.
                failures.not_before = None;
            }
            self.ca = Some(failures);
        }
    }

    /// Notes that the CA took an order.
    pub fn answered(&mut self) {
        self.ca = None;
    }

    /// Notes that a set was obtained.
    pub fn succeeded(&mut self, names: &NameSet) {
        self.sets.remove(names);
        self.ca = None;
    }

    /// Drops what has no effect any more, and pulls times of a clock that was ahead back to `now`.
    ///
    /// Without the latter a wrong clock at boot would stop renewal for as long as it was wrong by.
    pub fn settle(&mut self, wanted: Option<&BTreeSet<Arc<NameSet>>>, now: Timestamp) {
        for failures in self.sets.values_mut().chain(self.ca.as_mut()) {
            if failures.last > now {
                failures.last = now;
                failures.not_before = None;
            }
        }
        self.identifiers.retain(|_, times| {
            for time in times.iter_mut() {
                *time = (*time).min(now);
            }
            times.retain(|time| later(*time, HOUR) > now);
            !times.is_empty()
        });
        if let Some(wanted) = wanted {
            self.sets
                .retain(|names, failures| wanted.contains(names) || later(failures.last, FORGET) > now);
        }
    }

    /// For the store: JSON, names as text.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let text = |names: &NameSet| names.iter().map(ToString::to_string).collect();
        serde_json::to_vec_pretty(&File {
            seed: self.seed,
            sets: self
                .sets
                .iter()
                .map(|(names, failures)| SetEntry {
                    names: text(names),
                    failures: failures.clone(),
                })
                .collect(),
            identifiers: self
                .identifiers
                .iter()
                .map(|(name, failed)| IdentifierEntry {
                    name: name.to_string(),
                    failed: failed.clone(),
                })
                .collect(),
            ca: self.ca.clone(),
        })
    }

    /// From the store. Entries whose names are not names are dropped.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let file: File = serde_json::from_slice(json)?;
        let names = |names: &[String]| {
            names
                .iter()
                .map(|name| name.parse().ok())
                .collect::<Option<NameSet>>()
        };
        Ok(Self {
            seed: file.seed,
            sets: file
                .sets
                .into_iter()
                .filter_map(|entry| Some((Arc::new(names(&entry.names)?), entry.failures)))
                .collect(),
            identifiers: file
                .identifiers
                .into_iter()
                .filter_map(|entry| {
                    let mut failed = entry.failed;
                    failed.sort_unstable();
                    let surplus = failed.len().saturating_sub(AUTHORIZATIONS_AN_HOUR);
                    failed.drain(..surplus);
                    Some((entry.name.parse().ok()?, failed))
                })
                .collect(),
            ca: file.ca,
        })
    }
}

#[derive(Deserialize, Serialize)]
struct File {
    seed: u64,
    sets: Vec<SetEntry>,
    identifiers: Vec<IdentifierEntry>,
    ca: Option<Failures>,
}

#[derive(Deserialize, Serialize)]
struct SetEntry {
    names: Vec<String>,
    #[serde(flatten)]
    failures: Failures,
}

#[derive(Deserialize, Serialize)]
struct IdentifierEntry {
    name: String,
    failed: Vec<Timestamp>,
}

fn step(count: u32) -> SignedDuration {
    let index = usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
    LADDER
        .get(index)
        .map_or(LAST_STEP, |minutes| SignedDuration::from_mins(*minutes))
}

fn ca_step(count: u32) -> SignedDuration {
    let index = usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
    CA_LADDER
        .get(index)
        .map_or(CA_LAST_STEP, |seconds| SignedDuration::from_secs(*seconds))
}

/// `at + by`, at the end of time where that overflows.
pub(crate) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// `step` and `share` of it more, in whole seconds.
pub(crate) fn stretch(step: SignedDuration, share: f64) -> SignedDuration {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float turned integer saturates, and steps are days at most"
    )]
    let extra = (step.as_secs_f64() * share) as i64;
    step.saturating_add(SignedDuration::from_secs(extra))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::failure::FailureKind;

    fn names(text: &str) -> Arc<NameSet> {
        Arc::new(text.split(' ').map(|name| name.parse().unwrap()).collect())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure::new(kind, "it failed")
    }

    #[test]
    fn the_ladder_is_climbed_failure_by_failure() {
        let set = names("a.example");
        let mut history = History::default();
        let mut waits = Vec::new();
        let mut now = at(0);
        for _ in 0..27 {
            history.failed(&set, &failure(FailureKind::Refused), now, now);
            let next = history.not_before(&set, None, 0.0);
            waits.push((next.as_second() - now.as_second()) / 60);
            now = next;
        }
        assert_eq!(
            waits,
            [
                1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 120, 120, 180,
                180, 180, 360, 360
            ]
        );
        history.succeeded(&set);
        assert_eq!(history.not_before(&set, None, 0.0), Timestamp::MIN);
    }

    #[test]
    fn in_an_emergency_no_wait_is_longer_than_an_hour() {
        let set = names("a.example");
        let mut history = History::default();
        for _ in 0..30 {
            history.failed(&set, &failure(FailureKind::Refused), at(0), at(0));
        }
        for (emergency, want) in [
            (None, 6 * 3600),
            (Some(at(-100)), 3600),
            (Some(at(2 * 3600)), 2 * 3600),
            (Some(at(9 * 3600)), 6 * 3600),
        ] {
            assert_eq!(
                history.not_before(&set, emergency, 0.0),
                at(want),
                "{emergency:?}"
            );
        }
    }

    #[test]
    fn four_failed_authorizations_an_hour_and_identifier() {
        let mut history = History::default();
        let set = names("a.example b.example");
        let other = names("b.example c.example");
        let mut failure = failure(FailureKind::Validation);
        failure.authorizations = vec!["b.example".parse().unwrap()];
        for minute in [0, 10, 20, 30] {
            assert!(
                history.not_before(&other, None, 0.0) < at(minute * 60),
                "{minute}"
            );
            history.failed(&set, &failure, at(minute * 60), at(minute * 60));
        }
        assert_eq!(history.not_before(&other, None, 0.0), at(3600));
        assert_eq!(history.not_before(&names("a.example"), None, 0.0), Timestamp::MIN);
        history.failed(&set, &failure, at(40 * 60), at(40 * 60));
        assert_eq!(history.not_before(&other, None, 0.0), at(3600 + 600));
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let set = names("a.example");
        for (asked, want) in [(30, 60), (7200, 7200), (400 * 86400, 7 * 86400), (-5, 60)] {
            let mut history = History::default();
            let mut failure = failure(FailureKind::Refused);
            failure.retry_after = Some(at(asked));
            history.failed(&set, &failure, at(0), at(0));
            assert_eq!(history.not_before(&set, None, 0.0), at(want), "{asked}");
        }
    }

    #[test]
    fn a_silent_ca_holds_every_set_and_counts_once_for_orders_that_ran_together() {
        let mut history = History::default();
        let (a, b) = (names("a.example"), names("b.example"));
        history.failed(&a, &failure(FailureKind::Unreachable), at(0), at(3));
        history.failed(&b, &failure(FailureKind::Unreachable), at(1), at(4));
        assert_eq!(history.of_ca().map(|failures| failures.count), Some(1));
        assert_eq!(history.of(&a), None);
        assert_eq!(history.not_before(&names("c.example"), None, 0.9), at(8));
        history.failed(&b, &failure(FailureKind::Unreachable), at(8), at(9));
        assert_eq!(history.not_before(&a, None, 0.0), at(19));
        history.answered();
        assert_eq!(history.not_before(&a, None, 0.0), Timestamp::MIN);
    }

    #[test]
    fn a_rate_limit_holds_its_set_and_slows_the_others() {
        let mut history = History::default();
        let mut failure = failure(FailureKind::RateLimited);
        failure.retry_after = Some(at(86400));
        history.failed(&names("a.example"), &failure, at(0), at(0));
        assert_eq!(history.not_before(&names("a.example"), None, 0.0), at(86400));
        assert_eq!(history.not_before(&names("b.example"), None, 0.0), at(5));
    }

    #[test]
    fn a_clock_that_was_ahead_stops_nothing() {
        let mut history = History::default();
        let set = names("a.example");
        let ahead = at(20 * 365 * 86400);
        let mut failure = failure(FailureKind::Validation);
        failure.authorizations = vec!["a.example".parse().unwrap(); 4];
        failure.retry_after = Some(later(ahead, HOUR));
        history.failed(&set, &failure, ahead, ahead);
        history.settle(None, at(0));
        assert!(history.not_before(&set, None, 1.0) <= at(3600));
    }

    #[test]
    fn failures_of_what_nobody_wants_are_forgotten_in_the_end() {
        let mut history = History::default();
        let set = names("a.example");
        history.failed(&set, &failure(FailureKind::Refused), at(0), at(0));
        let nothing = BTreeSet::new();
        history.settle(Some(&nothing), at(86400));
        assert!(
            history.of(&set).is_some(),
            "an Ingress deleted and made again must not reset the ladder"
        );
        history.settle(Some(&nothing), at(15 * 86400));
        assert!(history.of(&set).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = History::from_json(&bytes);
        }

        #[test]
        fn written_and_read_is_the_same(
            seed: u64,
            events in proptest::collection::vec((0_u8..4, 0_u8..4, 0_i64..9000, proptest::option::of(-10_i64..900_000)), 0..20),
        ) {
            let mut history = History::new(seed);
            for (set, kind, second, retry) in events {
                let kind = [FailureKind::Refused, FailureKind::Unreachable, FailureKind::RateLimited, FailureKind::Validation]
                    [usize::from(kind)];
                let set = names(["a.example", "a.example b.example", "*.c.example", "d.example"][usize::from(set)]);
                let mut failure = failure(kind);
                failure.retry_after = retry.map(at);
                failure.authorizations = set.iter().cloned().collect();
                history.failed(&set, &failure, at(second), at(second));
            }
            prop_assert_eq!(History::from_json(&history.to_json().unwrap()).unwrap(), history);
        }
    }
}
