//! What to send next.

use sekisho_config::model::Prefix;

use super::{Key, Op, Planner, Target};
use crate::fib::targets::{TargetId, Wish};
use crate::rib::{ForwardingId, Spot};

/// A queue of more places than so is not looked at in order.
const LONG: usize = 8192;
/// So many neighbours are taken together (the tables of tests are small): they stand together in the kernel's memory then, and it
/// removes them sooner than those that came in short runs (docs/performance.md).
const RUN: usize = if cfg!(test) { 64 } else { 8192 };

/// Where the next places of a long queue are taken from.
#[derive(Debug, Default)]
pub(super) struct Draw {
    state: u64,
    at: usize,
    left: usize,
}

/// What a look at a prefix says.
enum Compared {
    Right,
    Op(Op),
    /// Its way has been refused.
    Waits,
    /// The object that it leads to has to be written first.
    ObjectFirst,
}

impl Planner {
    /// What to send next, at most about `limit` messages; all of it has to be answered before the next call, unless
    /// [`Self::may_plan_ahead`].
    pub(in crate::fib) fn next(&mut self, limit: usize) -> Vec<Op> {
        let ops = self.objects.next(&self.ways, limit);
        if !ops.is_empty() {
            return ops;
        }
        let ops = self.objects.next_removal(&self.targets, limit);
        if !ops.is_empty() {
            return ops;
        }
        let mut ops = Vec::new();
        while ops.len() < limit
            && let Some(place) = self.next_dirty().or_else(|| self.next_expired())
        {
            match self.compare(place) {
                Compared::Right => {}
                Compared::Op(op) => ops.push(op),
                Compared::Waits => self.wait(place),
                Compared::ObjectFirst if !ops.is_empty() => {
                    self.dirty.push_front(place);
                    return ops;
                }
                Compared::ObjectFirst => {
                    let first = self.objects.next(&self.ways, limit);
                    if first.is_empty() && matches!(self.compare(place), Compared::ObjectFirst) {
                        // Nothing to write, and still not there: nobody may be asked again and again.
                        self.wait(place);
                        continue;
                    }
                    if let Some((_, route)) = self.routes.at_mut(place) {
                        route.dirty = true;
                        self.dirty.push_front(place);
                    }
                    if !first.is_empty() {
                        return first;
                    }
                }
            }
        }
        self.next_others(limit, &mut ops);
        if ops.is_empty() {
            ops = self.objects.next_unused(limit);
        }
        ops
    }

    /// Whether [`Self::next`] may be called once before these are answered, if nothing else is told meanwhile: each of them is about a
    /// route of its own, and no other route waits for it. Answers come in order.
    pub(in crate::fib) fn may_plan_ahead(flying: &[Op]) -> bool {
        flying
            .iter()
            .all(|op| matches!(op, Op::Replace(..) | Op::Delete(_)))
    }

    /// Out of a long queue come runs from anywhere: the kernel's trie grows level by level under a table that is written in order,
    /// and copies what it has each time. Spread over the addresses it has its shape early; neighbours in a run share cache lines, here
    /// and there.
    fn next_dirty(&mut self) -> Option<Spot> {
        let count = self.dirty.len();
        if count <= LONG {
            return self.dirty.pop_front();
        }
        let draw = &mut self.draw;
        if draw.left == 0 || draw.at >= count {
            // Knuth's MMIX generator; its upper half is the better one.
            draw.state = draw
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            draw.at = usize::try_from(draw.state >> 32).unwrap_or_default() % count;
            draw.left = RUN;
        }
        draw.left -= 1;
        // What was behind it is in its place then.
        self.dirty.swap_remove_front(draw.at)
    }

    fn wait(&mut self, place: Spot) {
        if let Some((prefix, route)) = self.routes.at_mut(place) {
            route.dirty = false;
            self.waiting.push(prefix);
        }
    }

    pub(super) fn wake(&mut self) {
        for prefix in std::mem::take(&mut self.waiting) {
            self.touch_again(prefix);
        }
    }

    /// Looks at one prefix that was dirty.
    fn compare(&mut self, place: Spot) -> Compared {
        let Some((prefix, route)) = self.routes.at(place).map(|(prefix, route)| (prefix, *route)) else {
            return Compared::Right;
        };
        let mut installed = route.installed;
        if installed.is_some_and(|id| self.targets.is_dead(id)) {
            self.install_at(place, None);
            installed = None;
        }
        let way = match self.stance.wish(&route) {
            Wish::Way(way) => way,
            Wish::Gone if installed.is_some() => return self.sent(place, Op::Delete(self.key(prefix))),
            Wish::Gone | Wish::Lingers(_) | Wish::LeftOver => return self.right(place, prefix),
        };
        let Some(gateways) = self.ways.get(&way) else {
            // It is told before its routes.
            return self.right(place, prefix);
        };
        if installed.is_some_and(|installed| self.leads(installed, way)) {
            return self.right(place, prefix);
        }
        let key = self.key(prefix);
        if !self.uses_objects() {
            let target = Target::Via(std::sync::Arc::clone(gateways));
            return self.sent(place, Op::Replace(key, target));
        }
        let group = self.objects.group(way).unwrap_or_else(|| {
            let at = installed
                .and_then(|installed| self.targets.get(installed))
                .and_then(|target| match target {
                    Target::Object(id) => Some(*id),
                    _ => None,
                });
            self.objects.bind(way, gateways, at, &self.targets)
        });
        match self.objects.ready(group) {
            // It has just been given the object that it leads to.
            Ok(()) if installed.is_some_and(|installed| self.leads(installed, way)) => {
                self.right(place, prefix)
            }
            Ok(()) => self.sent(place, Op::Replace(key, Target::Object(group))),
            Err(true) => Compared::Waits,
            Err(false) => Compared::ObjectFirst,
        }
    }

    /// Whether a target leads a way.
    pub(super) fn leads(&self, target: TargetId, way: ForwardingId) -> bool {
        match self.targets.get(target) {
            Some(Target::Object(id)) => self.uses_objects() && self.objects.group(way) == Some(*id),
            Some(Target::Via(gateways)) => !self.uses_objects() && self.ways.get(&way) == Some(gateways),
            _ => false,
        }
    }

    fn sent(&mut self, place: Spot, op: Op) -> Compared {
        if let Some(route) = self.routes.value_mut(place) {
            route.dirty = false;
        }
        self.sent.push_back(place);
        Compared::Op(op)
    }

    fn right(&mut self, place: Spot, prefix: Prefix) -> Compared {
        let key = self.key(prefix);
        self.settled(place, key);
        Compared::Right
    }

    /// Nothing is to be done about a prefix; if there is nothing of it either, it is forgotten.
    pub(super) fn settled(&mut self, place: Spot, key: Key) {
        if !self.failed.is_empty() {
            self.failed.remove(&key);
        }
        let Some(route) = self.routes.value_mut(place) else {
            return;
        };
        route.dirty = false;
        if route.wanted.is_none() && route.installed.is_none() {
            self.routes.remove_at(place);
        }
    }
}
