//! What is wanted of learned routes, and when.

use std::time::Instant;

use sekisho_config::model::Prefix;

use super::{LINGER, MANY, Planner, Round, Route, Stance};
use crate::fib::targets::Wish;
use crate::rib::{ForwardingId, Gateways, Spot};
use crate::wire::{Families, Family};

impl Stance {
    /// What is wanted of a route.
    pub(super) fn wish(self, route: &Route) -> Wish {
        match route.wanted {
            Some(way) if !self.stopping && self.settings.install_routes => Wish::Way(way),
            _ if route.left_over && !self.stopping => Wish::LeftOver,
            _ if route.lingers > 0 && !self.stopping && !self.is_over(route.lingers) => {
                Wish::Lingers(route.lingers)
            }
            _ => Wish::Gone,
        }
    }

    /// Rounds are numbered around; of those that anybody asks about the last ones are far fewer than half of all numbers.
    fn is_over(self, round: u16) -> bool {
        self.over.wrapping_sub(round) < 1 << 15
    }
}

/// How many routes of each length are wanted: where there is none that is shorter, nothing leads on.
#[derive(Debug)]
pub(super) struct Wanted {
    v4: [u32; 33],
    v6: [u32; 129],
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            v4: [0; 33],
            v6: [0; 129],
        }
    }
}

impl Wanted {
    /// Whether any of this length is, of the family that stands at this place.
    fn has(&self, place: Spot, length: u8) -> bool {
        let counts = self.of(matches!(place, Spot::V4(_)));
        counts.get(usize::from(length)).is_some_and(|count| *count > 0)
    }

    fn of(&self, ipv4: bool) -> &[u32] {
        if ipv4 { &self.v4 } else { &self.v6 }
    }

    fn changes(&mut self, prefix: &Prefix, was: bool, is: bool) {
        let counts = match prefix.is_ipv4() {
            true => &mut self.v4[..],
            false => &mut self.v6,
        };
        if let Some(count) = counts.get_mut(usize::from(prefix.length())) {
            *count = *count + u32::from(is) - u32::from(was);
        }
    }
}

impl Planner {
    /// Ways that lead somewhere else now, or are new.
    pub(in crate::fib) fn way(&mut self, way: ForwardingId, gateways: Gateways) {
        let known = self.ways.insert(way, gateways).is_some();
        if self.uses_objects() {
            self.objects.changed(way);
        } else if known {
            for place in self.routes.places(|route| route.wanted == Some(way)) {
                self.touch(place);
            }
        }
    }

    /// A way that nobody goes any more; after the routes that did have been told.
    pub(in crate::fib) fn way_gone(&mut self, way: ForwardingId) {
        self.ways.remove(&way);
        self.objects.unbind(way);
    }

    /// A route to a prefix is wanted, or another one.
    pub(in crate::fib) fn route(&mut self, prefix: Prefix, way: ForwardingId) {
        let (place, _) = self.routes.entry_at(&prefix);
        self.wish(place, Some(way), 0);
    }

    /// Routes are wanted no more. Where another wanted one leads on they go at once, unless they are very many; else in a moment.
    pub(in crate::fib) fn withdraw(&mut self, prefixes: Vec<Prefix>, now: Instant) {
        let joined = self.lingering.back().filter(|round| round.takes_more(now));
        let number = match joined {
            Some(round) => round.number,
            None => self.linger_round.checked_add(1).unwrap_or(1),
        };
        let joins = joined.is_some();
        let mut places = Vec::with_capacity(prefixes.len());
        for prefix in &prefixes {
            if let Some(place) = self.routes.find_next(prefix)
                && self
                    .routes
                    .value_mut(place)
                    .is_some_and(|route| route.wanted.is_some())
            {
                self.wish(place, None, number);
                places.push(place);
            }
        }
        drop(prefixes);
        if !joins && places.len() < MANY {
            self.part_from_led_on(&mut places);
        }
        if let Some(round) = self.lingering.back_mut().filter(|_| joins) {
            round.until = now + LINGER;
            round.places.append(&mut places);
        } else if !places.is_empty() {
            // A number that is given is over some time: none is far from the last that was.
            self.linger_round = number;
            self.lingering.push_back(Round {
                number,
                began: now,
                until: now + LINGER,
                places,
            });
        }
    }

    /// Those of which a wider route leads on do not linger.
    fn part_from_led_on(&mut self, places: &mut Vec<Spot>) {
        places.retain(|place| {
            let may = |length| self.wanted.has(*place, length);
            let leads_on = self
                .routes
                .any_around(*place, may, |wider| wider.wanted.is_some());
            if leads_on {
                self.wish(*place, None, 0);
            }
            !leads_on
        });
    }

    /// Lets those go whose time is over. They are looked at one by one later: when all routes that lead to an object go, it goes
    /// first, and they with it.
    pub(in crate::fib) fn expire(&mut self, now: Instant) {
        while let Some(round) = self.lingering.pop_front_if(|round| round.until <= now) {
            self.stance.over = round.number;
            self.targets.expire(round.number);
            self.expired.push_back((round.number, round.places.into_iter()));
        }
    }

    /// The next one whose time is over, unless it came back meanwhile, or is about to be looked at anyway.
    pub(super) fn next_expired(&mut self) -> Option<Spot> {
        while let Some((round, places)) = self.expired.front_mut() {
            for place in places {
                if let Some(route) = self.routes.value_mut(place)
                    && route.lingers == *round
                {
                    route.lingers = 0;
                    if !std::mem::replace(&mut route.dirty, true) {
                        return Some(place);
                    }
                }
            }
            self.expired.pop_front();
        }
        None
    }

    /// Forgets all that is wanted: it is said anew.
    pub(in crate::fib) fn forget(&mut self) {
        for place in self
            .routes
            .places(|route| route.wanted.is_some() || route.lingers > 0)
        {
            self.wish(place, None, 0);
        }
        self.objects.unbind_all();
        self.ways.clear();
    }

    /// Changes what is wanted of a prefix. Its failures are forgotten.
    pub(super) fn wish(&mut self, place: Spot, wanted: Option<ForwardingId>, lingers: u16) {
        let Some((prefix, route)) = self.routes.at_mut(place) else {
            return;
        };
        self.wanted
            .changes(&prefix, route.wanted.is_some(), wanted.is_some());
        let before = self.stance.wish(route);
        (route.wanted, route.lingers, route.left_over) = (wanted, lingers, false);
        let after = self.stance.wish(route);
        if let Some(installed) = route.installed
            && before != after
        {
            self.targets.rewish(installed, before, after);
        }
        // There is nothing to do about one that lingers.
        if lingers == 0 && !std::mem::replace(&mut route.dirty, true) {
            self.dirty.push_back(place);
        }
        self.forgive(place);
    }

    /// A route of ours that this process has not written and that may still be asked for.
    pub(super) fn leave(&mut self, place: Spot) {
        let Some((prefix, route)) = self.routes.at_mut(place) else {
            return;
        };
        let before = self.stance.wish(route);
        route.left_over = true;
        let after = self.stance.wish(route);
        if let Some(installed) = route.installed {
            self.targets.rewish(installed, before, after);
        }
        self.left_over.push(prefix);
    }

    /// What is left over goes now, unless somebody asked for it meanwhile. Without `install_routes` nothing is touched
    /// that this process has not written.
    pub(in crate::fib) fn converged(&mut self) {
        self.converged = true;
        if self.stance.settings.install_routes {
            for prefix in std::mem::take(&mut self.left_over) {
                let left = self.routes.find(&prefix).and_then(|place| {
                    let (_, route) = self.routes.at(place)?;
                    route.left_over.then_some((place, route.wanted))
                });
                if let Some((place, wanted)) = left {
                    self.wish(place, wanted, 0);
                }
            }
            self.others.dirty.append(&mut self.others.left_over);
        }
    }

    /// Families of what was found at the start and nobody has asked for yet.
    pub(in crate::fib) fn left_over(&self) -> Families {
        let others = self.others.left_over.iter().map(|key| key.prefix);
        let prefixes = self.left_over.iter().copied().chain(others);
        prefixes.map(|prefix| Family::of(&prefix)).collect()
    }

    pub(in crate::fib) fn has_converged(&self) -> bool {
        self.converged
    }

    /// The way out: nothing is wanted any more, left-overs included.
    pub(in crate::fib) fn stop(&mut self) {
        self.recount(|stance| stance.stopping = true);
        self.objects.unbind_all();
        self.converged();
        self.touch_everything();
    }
}
