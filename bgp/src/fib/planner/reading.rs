//! What the kernel shows of our routes: all of them, or somebody else's change of one.

use std::collections::BTreeMap;

use sekisho_config::model::Prefix;

use super::{Key, Planner, Target};
use crate::fib::objects::Object;
use crate::fib::targets::Wish;

impl Planner {
    /// Everything of ours in the kernel's tables is about to be read.
    pub(in crate::fib) fn begin_reading(&mut self) {
        self.reading = self.reading.wrapping_add(1);
        self.others.installed.clear();
    }

    /// One route that it shows. `true`: somebody has changed a learned one.
    pub(in crate::fib) fn read(&mut self, key: Key, target: Target) -> bool {
        if key.table != self.stance.settings.table {
            self.others.installed.insert(key, target);
            return false;
        }
        let meddled = self.seen_route(key.prefix, Some(target));
        if let Some(route) = self.routes.get_mut(&key.prefix) {
            route.seen = self.reading;
        }
        meddled
    }

    /// It is over. `before`: routes that were not learned ones, from before. Returns how many routes somebody else had taken away.
    pub(in crate::fib) fn end_reading(
        &mut self,
        before: &BTreeMap<Key, Target>,
        objects: &BTreeMap<u32, Object>,
    ) -> usize {
        self.objects.resync(objects);
        let reading = self.reading;
        let gone = self
            .routes
            .places(|route| route.installed.is_some() && route.seen != reading);
        let mut lost = 0;
        for place in gone {
            if let Some((prefix, _)) = self.routes.at(place) {
                lost += usize::from(self.seen_route(prefix, None));
            }
        }
        for (key, target) in before {
            if self.others.installed.get(key) != Some(target) {
                lost += usize::from(self.wanted_other(key).is_some());
                self.others.dirty.insert(*key);
            }
        }
        let unknown: Vec<Key> = self
            .others
            .installed
            .keys()
            .filter(|key| !before.contains_key(key))
            .copied()
            .collect();
        for key in unknown {
            self.appeared(key);
        }
        // What waits may lead somewhere now.
        self.wake();
        lost
    }

    /// Routes that are not learned ones, for [`Self::end_reading`].
    pub(in crate::fib) fn others_installed(&self) -> BTreeMap<Key, Target> {
        self.others.installed.clone()
    }

    /// Somebody else's change of a route of ours. `true`: it is not as wanted, and will be put right.
    pub(in crate::fib) fn seen(&mut self, key: Key, target: Option<Target>) -> bool {
        if key.table == self.stance.settings.table {
            return self.seen_route(key.prefix, target);
        }
        let known = self.others.installed.get(&key) == target.as_ref();
        match target {
            Some(target) => {
                self.others.installed.insert(key, target);
                self.appeared(key);
            }
            None => {
                self.others.installed.remove(&key);
                self.others.left_over.remove(&key);
                self.others.dirty.insert(key);
            }
        }
        !known && self.wanted_other(&key).as_ref() != self.others.installed.get(&key)
    }

    /// The kernel shows a learned route so. `true`: that is news, and not as wanted.
    fn seen_route(&mut self, prefix: Prefix, target: Option<Target>) -> bool {
        let known = self
            .routes
            .get(&prefix)
            .and_then(|route| route.installed)
            .filter(|id| !self.targets.is_dead(*id))
            .and_then(|id| self.targets.get(id));
        if known == target.as_ref() {
            return false;
        }
        let new = known.is_none();
        let there = target.is_some();
        let place = self.install(prefix, target);
        let keep = !self.converged || !self.stance.settings.install_routes;
        let Some((_, route)) = self.routes.at(place) else {
            return false;
        };
        let (wish, installed) = (self.stance.wish(route), route.installed);
        let wanted = match wish {
            Wish::Way(way) => Some(way),
            _ => None,
        };
        if there && new && wanted.is_none() && keep && !self.stance.stopping {
            self.leave(place);
            return false;
        }
        self.touch(place);
        // As it should be, by a hand that did what we would have done.
        wanted.is_some_and(|way| !installed.is_some_and(|installed| self.leads(installed, way)))
    }
}
