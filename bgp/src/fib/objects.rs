use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use hashbrown::HashMap;

use super::planner::{Failure, Op, Outcome};
use super::targets::{Targets, Wish};
use crate::rib::{ForwardingId, Gateway, Gateways};

/// Numbers of our nexthop objects; no others are touched. Chosen far from where people and daemons begin.
pub(super) const IDS: std::ops::RangeInclusive<u32> = 0x5e00_0000..=0x5eff_ffff;

/// From so many routes on, an object whose routes all go is removed instead of these one by one. The kernel tells nobody about
/// routes that go so, which matters to those who watch few.
const TOGETHER: usize = if cfg!(test) { 3 } else { 64 };

/// A nexthop object as the kernel shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Object {
    /// One gateway, member of groups.
    Gateway(Neighbour),
    /// What routes lead to: members with their weights.
    Group(Vec<(u32, u16)>),
    /// Whoever is on an interface. We write none.
    Link(u32),
    /// Something else that we never write.
    Other,
}

/// A gateway without its weight.
pub(super) type Neighbour = (IpAddr, u32);

/// The nexthop objects: every way of forwarding in use has a group, also where it has one gateway only, since the kernel does not
/// let a group and a single gateway take each other's place.
#[derive(Debug, Default)]
pub(super) struct Objects {
    groups: BTreeMap<u32, Group>,
    members: BTreeMap<Neighbour, Member>,
    by_way: HashMap<ForwardingId, u32>,
    /// Groups to compare with what is wanted of them.
    dirty: BTreeSet<u32>,
    /// Groups that no way has.
    orphans: BTreeSet<u32>,
    /// Objects of ours that mean nothing.
    strays: BTreeSet<u32>,
    /// A group has lost members, so some may be needed by nobody.
    unused: bool,
    last_id: u32,
}

#[derive(Debug, Default)]
struct Group {
    way: Option<ForwardingId>,
    /// Members as the kernel has them; `None`: not there.
    shown: Option<Vec<(u32, u16)>>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Member {
    id: u32,
    present: bool,
}

impl Objects {
    /// The group of a way.
    pub(super) fn group(&self, way: ForwardingId) -> Option<u32> {
        self.by_way.get(&way).copied()
    }

    /// Whether routes may lead to the group of a way; if not, whether that has been refused.
    pub(super) fn ready(&self, group: u32) -> Result<(), bool> {
        let dirty = self.dirty.contains(&group);
        match self.groups.get(&group) {
            Some(group) if !dirty && group.shown.is_some() && group.failure.is_none() => Ok(()),
            Some(group) => Err(!dirty && group.failure.is_some()),
            None => Err(false),
        }
    }

    /// Gives a way a group. The one that the asking route leads to already, if nobody else has it and either it leads to the same
    /// gateways or all of its routes want to go this way now: then what stands below a million routes changes, not the routes.
    pub(super) fn bind(
        &mut self,
        way: ForwardingId,
        gateways: &Gateways,
        at: Option<u32>,
        targets: &Targets,
    ) -> u32 {
        let fits = |id: u32| self.gateways(id).is_some_and(|shown| shown == gateways[..]);
        let taken_over =
            at.filter(|id| self.orphans.contains(id) && (fits(*id) || targets.all_wish(*id, Wish::Way(way))));
        let found = taken_over.or_else(|| self.orphans.iter().copied().find(|id| fits(*id)));
        let id = found.unwrap_or_else(|| self.next_id());
        self.orphans.remove(&id);
        self.groups.entry(id).or_default().way = Some(way);
        self.by_way.insert(way, id);
        self.dirty.insert(id);
        id
    }

    /// The gateways of a way changed.
    pub(super) fn changed(&mut self, way: ForwardingId) {
        if let Some(id) = self.group(way) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.failure = None;
            }
            self.dirty.insert(id);
        }
    }

    /// No route is to go this way any more.
    pub(super) fn unbind(&mut self, way: ForwardingId) {
        if let Some(id) = self.by_way.remove(&way) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.way = None;
                group.failure = None;
            }
            self.dirty.remove(&id);
            self.orphans.insert(id);
        }
    }

    /// Nothing is wanted any more.
    pub(super) fn unbind_all(&mut self) {
        let all: Vec<_> = self.by_way.keys().copied().collect();
        for way in all {
            self.unbind(way);
        }
    }

    /// What has to be written before routes can follow, at most about `limit` messages.
    pub(super) fn next(&mut self, ways: &HashMap<ForwardingId, Gateways>, limit: usize) -> Vec<Op> {
        let mut ops = Vec::new();
        while ops.len() < limit
            && let Some(id) = self.dirty.pop_first()
        {
            let Some(group) = self.groups.get(&id) else {
                continue;
            };
            let Some(gateways) = group.way.and_then(|way| ways.get(&way)) else {
                continue;
            };
            if group.failure.is_none() && self.gateways(id).is_some_and(|shown| shown == gateways[..]) {
                continue;
            }
            let mut members = Vec::with_capacity(gateways.len());
            for gateway in gateways.iter() {
                let neighbour = (gateway.via, gateway.interface);
                let known = self
                    .members
                    .get(&neighbour)
                    .map(|member| (member.id, member.present));
                let (member, present) = known.unwrap_or_else(|| {
                    let id = self.next_id();
                    self.members.insert(neighbour, Member { id, present: false });
                    (id, false)
                });
                if !present {
                    ops.push(Op::Gateway(member, neighbour));
                }
                members.push((member, gateway.weight));
            }
            ops.push(Op::Group(id, members));
        }
        ops
    }

    /// Groups that can go, those with very many routes one at a time; then members and strays that nothing needs.
    pub(super) fn next_removal(&mut self, targets: &Targets, limit: usize) -> Vec<Op> {
        let mut ops = Vec::new();
        for id in &self.orphans {
            let routes = targets.routes(*id);
            if routes >= TOGETHER && targets.all_wish(*id, Wish::Gone) {
                ops.push(Op::DeleteObject(*id));
                break;
            }
            if routes == 0 {
                ops.push(Op::DeleteObject(*id));
            }
            if ops.len() >= limit {
                break;
            }
        }
        ops
    }

    /// Members that no group has, and what was never ours to begin with.
    pub(super) fn next_unused(&mut self, limit: usize) -> Vec<Op> {
        if !std::mem::take(&mut self.unused) {
            return Vec::new();
        }
        let needed: BTreeSet<u32> = self
            .groups
            .values()
            .flat_map(|group| group.shown.iter().flatten())
            .map(|(member, _)| *member)
            .collect();
        let unused = self
            .members
            .values()
            .filter(|member| member.present && !needed.contains(&member.id))
            .map(|member| member.id);
        let ops: Vec<Op> = unused
            .chain(self.strays.iter().copied())
            .take(limit)
            .map(Op::DeleteObject)
            .collect();
        self.unused = ops.len() == limit;
        ops
    }

    /// The kernel's answer. Returns the group to which routes may be written now, or a group that was removed.
    pub(super) fn answered(&mut self, op: &Op, outcome: &Outcome, now: Instant) -> Answered {
        let refused = matches!(outcome, Outcome::Refused(_));
        match op {
            Op::Gateway(_, neighbour) => {
                if let Some(member) = self.members.get_mut(neighbour) {
                    member.present = !refused;
                }
            }
            Op::Group(id, members) => {
                let Some(group) = self.groups.get_mut(id) else {
                    return Answered::Nothing;
                };
                if refused {
                    group.failure = Some(Failure::after(group.failure.as_ref(), now));
                    return Answered::Nothing;
                }
                group.failure = None;
                self.unused |= group.shown.is_some();
                group.shown = Some(members.clone());
                return Answered::Ready;
            }
            Op::DeleteObject(id) => {
                if refused {
                    // Somebody else leads routes there; nothing of ours depends on it.
                    self.forget(*id);
                    return Answered::Nothing;
                }
                let group = self.groups.contains_key(id);
                self.forget(*id);
                if group {
                    return Answered::Removed(*id);
                }
            }
            Op::Replace(..) | Op::Delete(_) => {}
        }
        Answered::Nothing
    }

    fn forget(&mut self, id: u32) {
        self.unused |= self.groups.remove(&id).is_some();
        self.orphans.remove(&id);
        self.strays.remove(&id);
        self.members.retain(|_, member| member.id != id);
    }

    /// The answer never came: what the kernel has is not known before it has been read again.
    pub(super) fn unanswered(&mut self, op: &Op) {
        match op {
            Op::Group(id, _) => {
                if self.groups.get(id).is_some_and(|group| group.way.is_some()) {
                    self.dirty.insert(*id);
                }
            }
            Op::Gateway(..) | Op::DeleteObject(_) | Op::Replace(..) | Op::Delete(_) => {}
        }
    }

    /// Everything of ours that a dump showed.
    pub(super) fn resync(&mut self, seen: &BTreeMap<u32, Object>) {
        self.members.clear();
        self.strays.clear();
        self.unused = true;
        for (id, object) in seen {
            match object {
                Object::Gateway(neighbour) => {
                    let member = Member {
                        id: *id,
                        present: true,
                    };
                    if let Some(twice) = self.members.insert(*neighbour, member) {
                        self.strays.insert(twice.id);
                    }
                }
                Object::Link(_) | Object::Other => {
                    self.strays.insert(*id);
                }
                Object::Group(_) => {}
            }
            self.last_id = self.last_id.max(*id);
        }
        for (id, group) in &mut self.groups {
            group.shown = None;
            if group.way.is_some() {
                self.dirty.insert(*id);
            }
        }
        for (id, object) in seen {
            if let Object::Group(members) = object {
                let group = self.groups.entry(*id).or_default();
                group.shown = Some(members.clone());
                if group.way.is_none() {
                    self.orphans.insert(*id);
                }
            }
        }
        // An orphan that is gone is nothing.
        let gone: Vec<u32> = self
            .orphans
            .iter()
            .filter(|id| self.groups.get(id).is_none_or(|group| group.shown.is_none()))
            .copied()
            .collect();
        for id in gone {
            self.groups.remove(&id);
            self.orphans.remove(&id);
        }
    }

    /// When the next refused group is due again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let refused = self.groups.values().filter_map(|group| group.failure.as_ref());
        refused.map(|failure| failure.retry_at).min()
    }

    /// Takes up refused groups whose wait is over, or all; `true` if there were any.
    pub(super) fn retry(&mut self, now: Instant, all: bool) -> bool {
        let due: Vec<u32> = self
            .groups
            .iter()
            .filter(|(_, group)| {
                group
                    .failure
                    .as_ref()
                    .is_some_and(|failure| all || failure.retry_at <= now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &due {
            if let Some(failure) = self.groups.get_mut(id).and_then(|group| group.failure.as_mut()) {
                failure.postpone(now);
            }
        }
        self.dirty.extend(&due);
        !due.is_empty()
    }

    /// Whether nothing is left to write.
    pub(super) fn is_idle(&self, targets: &Targets) -> bool {
        self.dirty.is_empty() && !self.unused && !self.has_removal(targets)
    }

    fn has_removal(&self, targets: &Targets) -> bool {
        self.orphans.iter().any(|id| {
            let routes = targets.routes(*id);
            routes == 0 || routes >= TOGETHER && targets.all_wish(*id, Wish::Gone)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.groups.values().filter(|group| group.shown.is_some()).count()
    }

    /// The gateways of a group as the kernel has it.
    fn gateways(&self, id: u32) -> Option<Vec<Gateway>> {
        let shown = self.groups.get(&id)?.shown.as_ref()?;
        let mut gateways = shown
            .iter()
            .map(|(id, weight)| {
                let (neighbour, _) = self.members.iter().find(|(_, member)| member.id == *id)?;
                Some(Gateway {
                    via: neighbour.0,
                    interface: neighbour.1,
                    weight: *weight,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        gateways.sort_unstable();
        Some(gateways)
    }

    #[cfg(test)]
    pub(super) fn gateway_of(&self, id: u32) -> Option<IpAddr> {
        let found = self.members.iter().find(|(_, member)| member.id == id);
        found.map(|((via, _), _)| *via)
    }

    fn next_id(&mut self) -> u32 {
        loop {
            let next = self.last_id.saturating_add(1);
            self.last_id = if IDS.contains(&next) { next } else { *IDS.start() };
            let id = self.last_id;
            let used = self.groups.contains_key(&id)
                || self.strays.contains(&id)
                || self.members.values().any(|member| member.id == id);
            if !used {
                return id;
            }
        }
    }
}

/// What follows from the kernel's answer about an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answered {
    Nothing,
    /// Routes that wait may be written.
    Ready,
    /// The group is gone, and all routes that led there.
    Removed(u32),
}
