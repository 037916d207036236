//! Other settings: routes move to another table, lead to objects or to gateways, or all go.

use super::{Key, Planner, Stance};
use crate::fib::Settings;
use crate::fib::targets::TargetId;
use crate::rib::Spot;

impl Planner {
    pub(in crate::fib) fn settings(&self) -> Settings {
        self.stance.settings
    }

    /// Whether the kernel has nexthop objects.
    pub(in crate::fib) fn objects_supported(&mut self, supported: bool) {
        if self.objects_supported != supported {
            self.objects_supported = supported;
            self.leave_objects();
            self.touch_everything();
        }
    }

    fn leave_objects(&mut self) {
        if !self.uses_objects() {
            self.objects.unbind_all();
        }
    }

    pub(super) fn uses_objects(&self) -> bool {
        self.objects_supported && self.stance.settings.nexthop_objects
    }

    pub(in crate::fib) fn configure(&mut self, settings: Settings) {
        if self.stance.settings == settings {
            return;
        }
        let moves = self.stance.settings.table != settings.table;
        if moves {
            self.leave_table();
        }
        self.recount(|stance| stance.settings = settings);
        if moves {
            self.enter_table();
        }
        self.leave_objects();
        self.touch_everything();
    }

    /// The wishes of all routes change at once.
    pub(super) fn recount(&mut self, change: impl FnOnce(&mut Stance)) {
        let before = self.stance;
        change(&mut self.stance);
        for place in self.routes.places(|route| route.installed.is_some()) {
            if let Some((_, route)) = self.routes.at(place)
                && let Some(id) = route.installed
            {
                self.targets
                    .rewish(id, before.wish(route), self.stance.wish(route));
            }
        }
    }

    pub(super) fn touch_everything(&mut self) {
        for place in self
            .routes
            .places(|route| !route.left_over || route.wanted.is_some())
        {
            self.touch(place);
        }
        self.touch_others();
    }

    /// Learned routes go to another table: what is in this one is somebody else's from now on, and goes.
    fn leave_table(&mut self) {
        let installed: Vec<(Spot, Key, TargetId, bool)> = self
            .routes
            .places(|route| route.installed.is_some())
            .into_iter()
            .filter_map(|place| {
                let (prefix, route) = self.routes.at(place)?;
                Some((place, self.key(prefix), route.installed?, route.left_over))
            })
            .collect();
        for (place, key, id, left_over) in installed {
            if let Some(target) = self.targets.get(id).cloned()
                && !self.targets.is_dead(id)
            {
                self.others.installed.insert(key, target);
                if left_over {
                    self.others.left_over.insert(key);
                } else {
                    self.others.dirty.insert(key);
                }
            }
            self.install_at(place, None);
            if let Some((_, route)) = self.routes.at_mut(place) {
                route.left_over = false;
            }
            self.touch(place);
        }
        self.left_over.clear();
    }

    /// What is in the table that learned routes go to from now on is theirs.
    fn enter_table(&mut self) {
        let table = self.stance.settings.table;
        let there: Vec<Key> = self
            .others
            .installed
            .keys()
            .filter(|key| key.table == table)
            .copied()
            .collect();
        for key in there {
            let left_over = self.others.left_over.contains(&key);
            let target = self.others.installed.remove(&key);
            let place = self.install(key.prefix, target);
            let nobody = self
                .routes
                .at(place)
                .is_none_or(|(_, route)| route.wanted.is_none());
            if left_over && nobody {
                self.leave(place);
            } else {
                self.touch(place);
            }
        }
        self.others.left_over.retain(|key| key.table != table);
        self.others.dirty.retain(|key| key.table != table);
    }
}
