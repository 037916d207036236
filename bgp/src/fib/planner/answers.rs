//! What the kernel answered, and when what it refused is tried again.

use std::time::Instant;

use super::{Failure, Op, Outcome, Planner};
use crate::fib::objects::Answered;
use crate::rib::Spot;

impl Planner {
    /// The kernel's answer.
    pub(in crate::fib) fn answered(&mut self, op: Op, outcome: &Outcome, now: Instant) {
        let (key, target) = match op {
            Op::Replace(key, target) => (key, Some(target)),
            Op::Delete(key) => (key, None),
            Op::Gateway(..) | Op::Group(..) | Op::DeleteObject(_) => {
                match self.objects.answered(&op, outcome, now) {
                    Answered::Nothing => {}
                    Answered::Ready => self.wake(),
                    Answered::Removed(object) => self.object_gone(object),
                }
                return;
            }
        };
        let learned = key.table == self.stance.settings.table;
        let place = if learned { self.sent.pop_front() } else { None };
        if matches!(outcome, Outcome::Refused(_)) {
            let failure = Failure::after(self.failed.get(&key), now);
            self.failed.insert(key, failure);
            return;
        }
        if learned {
            let here = |place: &Spot| self.routes.at(*place).is_some_and(|(at, _)| at == key.prefix);
            let place = match place.filter(here) {
                Some(place) => {
                    let target = target.map(|target| self.targets.id(target));
                    self.install_at(place, target);
                    place
                }
                None => self.install(key.prefix, target),
            };
            if self.routes.at(place).is_some_and(|(_, route)| !route.dirty) {
                self.settled(place, key);
            }
        } else {
            match target {
                Some(target) => self.others.installed.insert(key, target),
                None => self.others.installed.remove(&key),
            };
        }
        if !self.failed.is_empty() {
            self.failed.remove(&key);
        }
    }

    /// A group was removed, and its routes with it. All of them were to go, so each is going to be looked at and found gone.
    fn object_gone(&mut self, object: u32) {
        let gone = self.targets.kill(object);
        for (count, gone) in self.counts.iter_mut().zip(gone) {
            *count = count.saturating_sub(gone);
        }
    }

    /// The answer never came, or permission is missing: the whole batch is tried again, whenever that is.
    pub(in crate::fib) fn unanswered(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.sent.clear();
        for op in ops {
            match op {
                Op::Replace(key, _) | Op::Delete(key) if key.table == self.stance.settings.table => {
                    self.touch_again(key.prefix);
                }
                Op::Replace(key, _) | Op::Delete(key) => {
                    self.others.dirty.insert(key);
                }
                Op::Gateway(..) | Op::Group(..) | Op::DeleteObject(_) => self.objects.unanswered(&op),
            }
        }
    }

    /// When something is due: the next refused route, or the next that has lingered.
    pub(in crate::fib) fn deadline(&self) -> Option<Instant> {
        let refused = self.failed.values().map(|failure| failure.retry_at).min();
        let lingering = self.lingering.front().map(|round| round.until);
        [refused, lingering, self.objects.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes up refused routes whose wait is over; with `all`, because links changed, every one.
    pub(in crate::fib) fn retry(&mut self, now: Instant, all: bool) {
        self.objects.retry(now, all);
        let mut due = Vec::new();
        for (key, failure) in &mut self.failed {
            if all || failure.retry_at <= now {
                failure.postpone(now);
                due.push(*key);
            }
        }
        for key in due {
            if key.table == self.stance.settings.table {
                self.touch_again(key.prefix);
            } else {
                self.others.dirty.insert(key);
            }
        }
    }
}
