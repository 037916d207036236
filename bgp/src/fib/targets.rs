use std::collections::BTreeMap;
use std::num::NonZeroU32;

use hashbrown::HashMap;

use crate::rib::{ForwardingId, Gateways};

/// Where a route of ours leads.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Target {
    /// To a nexthop object of ours.
    Object(u32),
    Via(Gateways),
    /// To the box itself, on `lo`.
    Local,
    /// Nowhere: whoever sends hears so.
    Unreachable,
    /// It is ours by number, but leads to something that we never write.
    Foreign,
}

/// Number of a [`Target`]: few of them are shared by very many routes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct TargetId(NonZeroU32);

/// What is wanted of a route that is installed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Wish {
    /// That it leads this way.
    Way(ForwardingId),
    /// That it goes.
    Gone,
    /// That it goes when this round of lingering is over.
    Lingers(u16),
    /// Nobody knows yet: it was there before us.
    LeftOver,
}

/// The targets of installed routes, with how many routes lead there and what is wanted of these.
#[derive(Debug, Default)]
pub(super) struct Targets {
    ids: BTreeMap<Target, TargetId>,
    slots: Vec<Option<Slot>>,
    free: Vec<TargetId>,
    wishes: HashMap<(TargetId, Wish), usize>,
}

#[derive(Debug)]
struct Slot {
    target: Target,
    /// IPv4, IPv6.
    routes: [usize; 2],
    /// The object is gone from the kernel, and its routes with it; who still refers to it will notice.
    dead: bool,
}

impl Targets {
    /// The target's number; whoever keeps it calls [`Self::add`].
    pub(super) fn id(&mut self, target: Target) -> TargetId {
        if let Some(id) = self.ids.get(&target) {
            return *id;
        }
        let slot = Slot {
            target: target.clone(),
            routes: [0; 2],
            dead: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.slots.get_mut(id.index()) {
                    *place = Some(slot);
                }
                id
            }
            None => {
                self.slots.push(Some(slot));
                let number = u32::try_from(self.slots.len()).ok().and_then(NonZeroU32::new);
                TargetId(number.expect("fewer targets than routes, and those end with memory"))
            }
        };
        self.ids.insert(target, id);
        id
    }

    pub(super) fn find(&self, target: &Target) -> Option<TargetId> {
        self.ids.get(target).copied()
    }

    pub(super) fn get(&self, id: TargetId) -> Option<&Target> {
        self.slots.get(id.index())?.as_ref().map(|slot| &slot.target)
    }

    pub(super) fn is_dead(&self, id: TargetId) -> bool {
        self.slots
            .get(id.index())
            .and_then(Option::as_ref)
            .is_none_or(|slot| slot.dead)
    }

    /// A route of a family leads there, and this is wanted of it.
    pub(super) fn add(&mut self, id: TargetId, wish: Wish, family: usize) {
        if let Some(Some(slot)) = self.slots.get_mut(id.index())
            && let Some(routes) = slot.routes.get_mut(family)
        {
            *routes += 1;
        }
        *self.wishes.entry((id, wish)).or_default() += 1;
    }

    /// It leads there no more.
    pub(super) fn take(&mut self, id: TargetId, wish: Wish, family: usize) {
        self.forget_wish(id, wish);
        let Some(place) = self.slots.get_mut(id.index()) else {
            return;
        };
        if let Some(slot) = place {
            if let Some(routes) = slot.routes.get_mut(family) {
                *routes -= 1;
            }
            if slot.routes == [0; 2] {
                if !slot.dead {
                    self.ids.remove(&slot.target);
                }
                *place = None;
                self.free.push(id);
            }
        }
    }

    /// Something else is wanted of a route that leads there.
    pub(super) fn rewish(&mut self, id: TargetId, before: Wish, after: Wish) {
        if before != after {
            self.forget_wish(id, before);
            *self.wishes.entry((id, after)).or_default() += 1;
        }
    }

    fn forget_wish(&mut self, id: TargetId, wish: Wish) {
        if let hashbrown::hash_map::Entry::Occupied(mut entry) = self.wishes.entry((id, wish)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    /// A round of lingering is over: what lingered in it is to go.
    pub(super) fn expire(&mut self, round: u16) {
        let over: Vec<_> = self
            .wishes
            .extract_if(|(_, wish), _| *wish == Wish::Lingers(round))
            .collect();
        for ((id, _), routes) in over {
            *self.wishes.entry((id, Wish::Gone)).or_default() += routes;
        }
    }

    /// The kernel removed the object, and with it every route that led there; how many of each family.
    pub(super) fn kill(&mut self, object: u32) -> [usize; 2] {
        if let Some(id) = self.ids.remove(&Target::Object(object))
            && let Some(Some(slot)) = self.slots.get_mut(id.index())
        {
            slot.dead = true;
            return slot.routes;
        }
        [0; 2]
    }

    /// How many routes lead to an object.
    pub(super) fn routes(&self, object: u32) -> usize {
        let slot = self
            .find(&Target::Object(object))
            .and_then(|id| self.slots.get(id.index())?.as_ref());
        slot.map_or(0, |slot| slot.routes.iter().sum())
    }

    /// Whether this is wanted of every route that leads to an object, and there is one.
    pub(super) fn all_wish(&self, object: u32, wish: Wish) -> bool {
        let routes = self.routes(object);
        self.find(&Target::Object(object))
            .and_then(|id| self.wishes.get(&(id, wish)))
            .is_some_and(|wishes| *wishes == routes)
    }
}

impl TargetId {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}
