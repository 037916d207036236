use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use sekisho_config::model::Prefix;

use super::Settings;
use super::objects::{Answered, Neighbour, Object, Objects};
pub(super) use super::targets::Target;
use super::targets::{TargetId, Targets, Wish};
use crate::rib::{ForwardingId, Gateways, PrefixMap};
use crate::wire::{Families, Family};

/// Kernel table `local`: addresses that the box accepts packets for.
pub(super) const LOCAL_TABLE: u32 = 255;

/// First wait after the kernel refused a route; doubled each time, up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A route that nothing replaces stays in the kernel so long after it is withdrawn: whoever sends packets by it must hear
/// of the withdrawal first, or what is on its way leaves by the default route.
pub(super) const LINGER: Duration = Duration::from_millis(200);

/// One route of ours in the kernel: there is at most one for a prefix in a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) table: u32,
    pub(super) prefix: Prefix,
}

/// One message to the kernel. Writing always replaces, so that no packet ever finds the route missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Replace(Key, Target),
    Delete(Key),
    /// A nexthop object with one gateway.
    Gateway(u32, Neighbour),
    /// A nexthop object of several, each with its weight.
    Group(u32, Vec<(u32, u16)>),
    /// Removes a nexthop object; every route that leads there goes with it.
    DeleteObject(u32),
}

/// What the kernel answered to one [`Op`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Done,
    /// Deletion of what is not there.
    NotThere,
    Refused(String),
}

/// How often the kernel has refused something, and when it is tried again.
#[derive(Debug)]
pub(super) struct Failure {
    attempts: u32,
    pub(super) retry_at: Instant,
}

impl Failure {
    /// One refusal more.
    pub(super) fn after(earlier: Option<&Self>, now: Instant) -> Self {
        let attempts = earlier.map_or(0, |failure| failure.attempts);
        let wait = RETRY_FIRST
            .saturating_mul(2u32.saturating_pow(attempts))
            .min(RETRY_MAX);
        Self {
            attempts: attempts.saturating_add(1),
            retry_at: now + wait,
        }
    }

    /// Not due again before it has been tried.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.retry_at = now + RETRY_MAX;
    }
}

/// Compares what is wanted with what is installed and says what to do next. Pure.
#[derive(Debug)]
pub(super) struct Planner {
    settings: Settings,
    /// The kernel has nexthop objects.
    objects_supported: bool,
    ways: HashMap<ForwardingId, Gateways>,
    routes: PrefixMap<Route>,
    targets: Targets,
    objects: Objects,
    /// Prefixes to compare.
    dirty: VecDeque<Prefix>,
    /// Prefixes whose way has been refused.
    waiting: Vec<Prefix>,
    /// Withdrawn prefixes that linger, with the time at which they go; entries that came back meanwhile are passed over.
    lingering: VecDeque<(Instant, u16, Vec<Prefix>)>,
    linger_round: u16,
    /// Found at the start and wanted by nobody yet.
    left_over: Vec<Prefix>,
    /// Routes of ours that are not learned ones of the table in use: service addresses, and what other tables have.
    others: Others,
    /// How many are installed: IPv4, IPv6.
    counts: [usize; 2],
    /// Refused by the kernel.
    failed: BTreeMap<Key, Failure>,
    reading: u8,
    converged: bool,
    stopping: bool,
}

/// One learned prefix.
#[derive(Debug, Default)]
struct Route {
    wanted: Option<ForwardingId>,
    installed: Option<TargetId>,
    /// Nothing is wanted, and it goes when this round of lingering is over; 0: it does not linger.
    lingers: u16,
    /// The reading of the kernel's tables that last showed it.
    seen: u8,
    dirty: bool,
    left_over: bool,
}

#[derive(Debug, Default)]
struct Others {
    vips: BTreeSet<IpAddr>,
    unreachable: BTreeSet<Prefix>,
    installed: BTreeMap<Key, Target>,
    dirty: BTreeSet<Key>,
    left_over: BTreeSet<Key>,
}

impl Planner {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            objects_supported: true,
            ways: HashMap::new(),
            routes: PrefixMap::default(),
            targets: Targets::default(),
            objects: Objects::default(),
            dirty: VecDeque::new(),
            waiting: Vec::new(),
            lingering: VecDeque::new(),
            linger_round: 0,
            left_over: Vec::new(),
            others: Others::default(),
            counts: [0; 2],
            failed: BTreeMap::new(),
            reading: 0,
            converged: false,
            stopping: false,
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    /// Whether the kernel has nexthop objects.
    pub(super) fn objects_supported(&mut self, supported: bool) {
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

    fn uses_objects(&self) -> bool {
        self.objects_supported && self.settings.nexthop_objects
    }

    /// Ways that lead somewhere else now, or are new.
    pub(super) fn way(&mut self, way: ForwardingId, gateways: Gateways) {
        let known = self.ways.insert(way, gateways).is_some();
        if self.uses_objects() {
            self.objects.changed(way);
        } else if known {
            let there: Vec<Prefix> = self
                .routes
                .iter()
                .filter(|(_, route)| route.wanted == Some(way))
                .map(|(prefix, _)| prefix)
                .collect();
            there.into_iter().for_each(|prefix| self.touch(prefix));
        }
    }

    /// A way that nobody goes any more; after the routes that did have been told.
    pub(super) fn way_gone(&mut self, way: ForwardingId) {
        self.ways.remove(&way);
        self.objects.unbind(way);
    }

    /// A route to a prefix is wanted, or another one.
    pub(super) fn route(&mut self, prefix: Prefix, way: ForwardingId) {
        self.wish(prefix, Some(way), 0);
    }

    /// Routes are wanted no more. Where another wanted one leads on they go at once, else in a moment.
    pub(super) fn withdraw(&mut self, prefixes: Vec<Prefix>, now: Instant) {
        self.linger_round = self.linger_round.checked_add(1).unwrap_or(1);
        let round = self.linger_round;
        let mut lingering = Vec::new();
        for prefix in &prefixes {
            let known = self.routes.get(prefix);
            if known.is_some_and(|route| route.wanted.is_some()) {
                self.wish(*prefix, None, round);
                lingering.push(*prefix);
            }
        }
        lingering.retain(|prefix| {
            let leads_on = self.has_way_around(prefix);
            if leads_on {
                self.wish(*prefix, None, 0);
            }
            !leads_on
        });
        if !lingering.is_empty() {
            self.lingering.push_back((now + LINGER, round, lingering));
        }
    }

    /// Lets those go whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((until, ..)) = self.lingering.front()
            && *until <= now
            && let Some((_, round, prefixes)) = self.lingering.pop_front()
        {
            for prefix in prefixes {
                // It may have come back, and gone again, since.
                if self
                    .routes
                    .get(&prefix)
                    .is_some_and(|route| route.lingers == round)
                {
                    self.wish(prefix, None, 0);
                }
            }
        }
    }

    /// Forgets all that is wanted: it is said anew.
    pub(super) fn forget(&mut self) {
        let all: Vec<Prefix> = self
            .routes
            .iter()
            .filter(|(_, route)| route.wanted.is_some() || route.lingers > 0)
            .map(|(prefix, _)| prefix)
            .collect();
        all.into_iter().for_each(|prefix| self.wish(prefix, None, 0));
        self.objects.unbind_all();
        self.ways.clear();
    }

    /// Whether another wanted route that stays holds all of `prefix`.
    fn has_way_around(&self, prefix: &Prefix) -> bool {
        self.routes
            .covering(prefix)
            .any(|(wider, route)| wider != *prefix && route.wanted.is_some())
    }

    /// Changes what is wanted of a prefix.
    fn wish(&mut self, prefix: Prefix, wanted: Option<ForwardingId>, lingers: u16) {
        let route = self.routes.entry(&prefix);
        let (stopping, settings) = (self.stopping, self.settings);
        let before = wish_of(route, stopping, settings);
        (route.wanted, route.lingers, route.left_over) = (wanted, lingers, false);
        let after = wish_of(route, stopping, settings);
        if let Some(installed) = route.installed
            && before != after
        {
            // First there, then away: the target must not be forgotten between.
            self.targets.add(installed, after);
            self.targets.take(installed, before);
        }
        self.touch(prefix);
    }

    pub(super) fn vips(&mut self, vips: BTreeSet<IpAddr>) {
        let old = std::mem::replace(&mut self.others.vips, vips);
        let differ: Vec<IpAddr> = old.symmetric_difference(&self.others.vips).copied().collect();
        for address in differ {
            self.touch_other(local_key(address));
        }
    }

    fn touch_other(&mut self, key: Key) {
        self.others.left_over.remove(&key);
        self.failed.remove(&key);
        self.others.dirty.insert(key);
    }

    pub(super) fn unreachable(&mut self, prefixes: BTreeSet<Prefix>) {
        let old = std::mem::replace(&mut self.others.unreachable, prefixes);
        let differ: Vec<Prefix> = old
            .symmetric_difference(&self.others.unreachable)
            .copied()
            .collect();
        for prefix in differ {
            self.touch_other(unreachable_key(prefix));
        }
    }

    pub(super) fn configure(&mut self, settings: Settings) {
        if self.settings == settings {
            return;
        }
        if self.settings.table != settings.table {
            self.leave_table();
        }
        let moves = self.settings.table != settings.table;
        self.recount(|planner| planner.settings = settings);
        if moves {
            self.enter_table();
        }
        self.leave_objects();
        self.touch_everything();
    }

    /// The way out: nothing is wanted any more, left-overs included.
    pub(super) fn stop(&mut self) {
        self.recount(|planner| planner.stopping = true);
        self.objects.unbind_all();
        self.converged();
        self.touch_everything();
    }

    /// What is left over goes now, unless somebody asked for it meanwhile. Without `install_routes` nothing is touched
    /// that this process has not written.
    pub(super) fn converged(&mut self) {
        self.converged = true;
        if self.settings.install_routes {
            for prefix in std::mem::take(&mut self.left_over) {
                if let Some(route) = self.routes.get(&prefix).filter(|route| route.left_over) {
                    let wanted = route.wanted;
                    self.wish(prefix, wanted, 0);
                }
            }
            self.others.dirty.append(&mut self.others.left_over);
        }
    }

    /// Families of what was found at the start and nobody has asked for yet.
    pub(super) fn left_over(&self) -> Families {
        let others = self.others.left_over.iter().map(|key| key.prefix);
        let prefixes = self.left_over.iter().copied().chain(others);
        prefixes.map(|prefix| Family::of(&prefix)).collect()
    }

    pub(super) fn has_converged(&self) -> bool {
        self.converged
    }

    /// Everything of ours in the kernel's tables is about to be read.
    pub(super) fn begin_reading(&mut self) {
        self.reading = self.reading.wrapping_add(1);
        self.others.installed.clear();
    }

    /// One route that it shows. `true`: somebody has changed a learned one.
    pub(super) fn read(&mut self, key: Key, target: Target) -> bool {
        if key.table != self.settings.table {
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
    pub(super) fn end_reading(
        &mut self,
        before: &BTreeMap<Key, Target>,
        objects: &BTreeMap<u32, Object>,
    ) -> usize {
        self.objects.resync(objects);
        let gone: Vec<Prefix> = self
            .routes
            .iter()
            .filter(|(_, route)| route.installed.is_some() && route.seen != self.reading)
            .map(|(prefix, _)| prefix)
            .collect();
        let mut lost = 0;
        for prefix in gone {
            lost += usize::from(self.seen_route(prefix, None));
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
    pub(super) fn others_installed(&self) -> BTreeMap<Key, Target> {
        self.others.installed.clone()
    }

    /// Somebody else's change of a route of ours. `true`: it is not as wanted, and will be put right.
    pub(super) fn seen(&mut self, key: Key, target: Option<Target>) -> bool {
        if key.table == self.settings.table {
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
        self.install(prefix, target);
        let keep = !self.converged || !self.settings.install_routes;
        let wanted = self.routes.get(&prefix).and_then(|route| self.wanted(route));
        if there && new && wanted.is_none() && keep && !self.stopping {
            self.leave(prefix);
            return false;
        }
        self.touch(prefix);
        let installed = self.routes.get(&prefix).and_then(|route| route.installed);
        // As it should be, by a hand that did what we would have done.
        wanted.is_some() && !installed.is_some_and(|installed| self.is_right(&prefix, installed))
    }

    /// A route of ours that this process has not written and that may still be asked for.
    fn leave(&mut self, prefix: Prefix) {
        let (stopping, settings) = (self.stopping, self.settings);
        let Some(route) = self.routes.get_mut(&prefix) else {
            return;
        };
        let before = wish_of(route, stopping, settings);
        route.left_over = true;
        let after = wish_of(route, stopping, settings);
        if let Some(installed) = route.installed {
            self.targets.add(installed, after);
            self.targets.take(installed, before);
        }
        self.left_over.push(prefix);
    }

    /// What to send next, at most about `limit` messages; all of it has to be answered before the next call.
    pub(super) fn next(&mut self, limit: usize) -> Vec<Op> {
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
            && let Some(prefix) = self.dirty.pop_front()
        {
            match self.compare(prefix) {
                Compared::Right => {}
                Compared::Op(op) => ops.push(op),
                Compared::Waits => self.wait(prefix),
                Compared::ObjectFirst if !ops.is_empty() => {
                    self.dirty.push_front(prefix);
                    return ops;
                }
                Compared::ObjectFirst => {
                    let first = self.objects.next(&self.ways, limit);
                    if first.is_empty() && matches!(self.compare(prefix), Compared::ObjectFirst) {
                        // Nothing to write, and still not there: nobody may be asked again and again.
                        self.wait(prefix);
                        continue;
                    }
                    self.touch_again(prefix);
                    self.dirty.push_front(prefix);
                    if !first.is_empty() {
                        return first;
                    }
                }
            }
        }
        while ops.len() < limit
            && let Some(key) = self.others.dirty.pop_first()
        {
            match (self.wanted_other(&key), self.others.installed.get(&key)) {
                (Some(wanted), installed) if installed != Some(&wanted) => ops.push(Op::Replace(key, wanted)),
                (None, Some(_)) => ops.push(Op::Delete(key)),
                _ => {
                    self.failed.remove(&key);
                }
            }
        }
        if ops.is_empty() {
            ops = self.objects.next_unused(limit);
        }
        ops
    }

    fn wait(&mut self, prefix: Prefix) {
        if let Some(route) = self.routes.get_mut(&prefix) {
            route.dirty = false;
        }
        self.waiting.push(prefix);
    }

    fn wake(&mut self) {
        for prefix in std::mem::take(&mut self.waiting) {
            self.touch_again(prefix);
        }
    }

    /// Looks at one prefix that was dirty.
    fn compare(&mut self, prefix: Prefix) -> Compared {
        let key = self.key(prefix);
        let Some(route) = self.routes.get(&prefix) else {
            return Compared::Right;
        };
        if route.installed.is_some_and(|id| self.targets.is_dead(id)) {
            self.install(prefix, None);
        }
        let Some(route) = self.routes.get(&prefix) else {
            return Compared::Right;
        };
        let installed = route.installed;
        let way = match wish_of(route, self.stopping, self.settings) {
            Wish::Way(way) => way,
            Wish::Gone if installed.is_some() => return self.sent(prefix, Op::Delete(key)),
            Wish::Gone | Wish::Lingers | Wish::LeftOver => {
                self.settled(key);
                return Compared::Right;
            }
        };
        let Some(gateways) = self.ways.get(&way) else {
            // It is told before its routes.
            self.settled(key);
            return Compared::Right;
        };
        if installed.is_some_and(|installed| self.is_right(&prefix, installed)) {
            self.settled(key);
            return Compared::Right;
        }
        if !self.uses_objects() {
            let target = Target::Via(std::sync::Arc::clone(gateways));
            return self.sent(prefix, Op::Replace(key, target));
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
            Ok(()) if installed.is_some_and(|installed| self.is_right(&prefix, installed)) => {
                self.settled(key);
                Compared::Right
            }
            Ok(()) => self.sent(prefix, Op::Replace(key, Target::Object(group))),
            Err(true) => Compared::Waits,
            Err(false) => Compared::ObjectFirst,
        }
    }

    /// Whether an installed target is what is wanted of a prefix.
    fn is_right(&self, prefix: &Prefix, installed: TargetId) -> bool {
        let Some(way) = self.routes.get(prefix).and_then(|route| self.wanted(route)) else {
            return false;
        };
        match self.targets.get(installed) {
            Some(Target::Object(id)) => self.uses_objects() && self.objects.group(way) == Some(*id),
            Some(Target::Via(gateways)) => !self.uses_objects() && self.ways.get(&way) == Some(gateways),
            _ => false,
        }
    }

    fn sent(&mut self, prefix: Prefix, op: Op) -> Compared {
        if let Some(route) = self.routes.get_mut(&prefix) {
            route.dirty = false;
        }
        Compared::Op(op)
    }

    /// Nothing is to be done about a prefix; if there is nothing of it either, it is forgotten.
    fn settled(&mut self, key: Key) {
        if !self.failed.is_empty() {
            self.failed.remove(&key);
        }
        let Some(route) = self.routes.get_mut(&key.prefix) else {
            return;
        };
        route.dirty = false;
        if route.wanted.is_none() && route.installed.is_none() {
            self.routes.remove(&key.prefix);
        }
    }

    /// The kernel's answer.
    pub(super) fn answered(&mut self, op: Op, outcome: &Outcome, now: Instant) {
        let key = match &op {
            Op::Replace(key, _) | Op::Delete(key) => *key,
            Op::Gateway(..) | Op::Group(..) | Op::DeleteObject(_) => {
                match self.objects.answered(&op, outcome, now) {
                    Answered::Nothing => {}
                    Answered::Ready => self.wake(),
                    Answered::Removed(object) => self.object_gone(object),
                }
                return;
            }
        };
        if matches!(outcome, Outcome::Refused(_)) {
            let failure = Failure::after(self.failed.get(&key), now);
            self.failed.insert(key, failure);
            return;
        }
        let target = match op {
            Op::Replace(_, target) => Some(target),
            _ => None,
        };
        if key.table == self.settings.table {
            self.install(key.prefix, target);
            let dirty = self.routes.get(&key.prefix).is_some_and(|route| route.dirty);
            if !dirty {
                self.settled(key);
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

    /// A group was removed, and its routes with it: they are looked at one by one later, but counted now.
    fn object_gone(&mut self, object: u32) {
        let Some(id) = self.targets.find(&Target::Object(object)) else {
            return;
        };
        let there: Vec<Prefix> = self
            .routes
            .iter()
            .filter(|(_, route)| route.installed == Some(id))
            .map(|(prefix, _)| prefix)
            .collect();
        for prefix in &there {
            if let Some(count) = self.counts.get_mut(usize::from(!prefix.is_ipv4())) {
                *count = count.saturating_sub(1);
            }
        }
        self.targets.kill(object);
        there.into_iter().for_each(|prefix| self.touch(prefix));
    }

    /// The answer never came, or permission is missing: the whole batch is tried again, whenever that is.
    pub(super) fn unanswered(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            match op {
                Op::Replace(key, _) | Op::Delete(key) if key.table == self.settings.table => {
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
    pub(super) fn deadline(&self) -> Option<Instant> {
        let refused = self.failed.values().map(|failure| failure.retry_at).min();
        let lingering = self.lingering.front().map(|(until, ..)| *until);
        [refused, lingering, self.objects.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes up refused routes whose wait is over; with `all`, because links changed, every one.
    pub(super) fn retry(&mut self, now: Instant, all: bool) {
        self.objects.retry(now, all);
        let mut due = Vec::new();
        for (key, failure) in &mut self.failed {
            if all || failure.retry_at <= now {
                failure.postpone(now);
                due.push(*key);
            }
        }
        for key in due {
            if key.table == self.settings.table {
                self.touch_again(key.prefix);
            } else {
                self.others.dirty.insert(key);
            }
        }
    }

    /// Whether nothing is left to send.
    pub(super) fn is_idle(&self) -> bool {
        self.dirty.is_empty() && self.others.dirty.is_empty() && self.objects.is_idle(&self.targets)
    }

    pub(super) fn pending(&self) -> usize {
        let is_queued = |key: &Key| {
            self.others.dirty.contains(key)
                || key.table == self.settings.table
                    && self.routes.get(&key.prefix).is_some_and(|route| route.dirty)
        };
        let refused = self.failed.keys().filter(|key| !is_queued(key)).count();
        self.dirty.len() + self.waiting.len() + self.others.dirty.len() + refused
    }

    /// Installed routes: IPv4, IPv6, service addresses.
    pub(super) fn installed(&self) -> [usize; 3] {
        let [ipv4, ipv6] = self.counts;
        let mut all = [ipv4, ipv6, 0];
        for key in self.others.installed.keys() {
            let [ipv4, ipv6, vips] = &mut all;
            let count = match (key.table, key.prefix.is_ipv4()) {
                (LOCAL_TABLE, _) => vips,
                (_, true) => ipv4,
                (_, false) => ipv6,
            };
            *count += 1;
        }
        all
    }

    /// Groups of nexthop objects that are installed.
    pub(super) fn groups(&self) -> usize {
        self.objects.len()
    }

    /// The gateway of a member of groups.
    #[cfg(test)]
    fn objects_of(&self, member: u32) -> Option<IpAddr> {
        self.objects.gateway_of(member)
    }

    /// The kernel has a route so.
    fn install(&mut self, prefix: Prefix, target: Option<Target>) {
        let target = target.map(|target| self.targets.id(target));
        let route = self.routes.entry(&prefix);
        let wish = wish_of(route, self.stopping, self.settings);
        let before = std::mem::replace(&mut route.installed, target);
        if let Some(target) = target {
            self.targets.add(target, wish);
        }
        let counted = before.is_some_and(|before| !self.targets.is_dead(before));
        if let Some(before) = before {
            self.targets.take(before, wish);
        }
        if let Some(count) = self.counts.get_mut(usize::from(!prefix.is_ipv4())) {
            match (counted, target.is_some()) {
                (false, true) => *count += 1,
                (true, false) => *count -= 1,
                _ => {}
            }
        }
    }

    fn key(&self, prefix: Prefix) -> Key {
        Key {
            table: self.settings.table,
            prefix,
        }
    }

    fn wanted(&self, route: &Route) -> Option<ForwardingId> {
        match wish_of(route, self.stopping, self.settings) {
            Wish::Way(way) => Some(way),
            _ => None,
        }
    }

    fn wanted_other(&self, key: &Key) -> Option<Target> {
        if key.table != LOCAL_TABLE || self.stopping || !self.settings.install_routes {
            return None;
        }
        if key.prefix.is_host() && self.others.vips.contains(&key.prefix.address()) {
            return Some(Target::Local);
        }
        let wanted = self.others.unreachable.contains(&key.prefix);
        wanted.then_some(Target::Unreachable)
    }

    /// Somebody who knows what is wanted asks for this prefix: its failures are forgotten.
    fn touch(&mut self, prefix: Prefix) {
        if !self.failed.is_empty() {
            let key = self.key(prefix);
            self.failed.remove(&key);
        }
        self.touch_again(prefix);
    }

    fn touch_again(&mut self, prefix: Prefix) {
        let route = self.routes.entry(&prefix);
        if !std::mem::replace(&mut route.dirty, true) {
            self.dirty.push_back(prefix);
        }
    }

    fn touch_everything(&mut self) {
        let all: Vec<Prefix> = self
            .routes
            .iter()
            .filter(|(_, route)| !route.left_over || route.wanted.is_some())
            .map(|(prefix, _)| prefix)
            .collect();
        all.into_iter().for_each(|prefix| self.touch(prefix));
        let vips = self.others.vips.iter().map(|address| local_key(*address));
        let unreachable = self
            .others
            .unreachable
            .iter()
            .map(|prefix| unreachable_key(*prefix));
        let others = self.others.installed.keys().copied();
        let keys: BTreeSet<Key> = vips
            .chain(unreachable)
            .chain(others)
            .filter(|key| !self.others.left_over.contains(key))
            .collect();
        for key in &keys {
            self.failed.remove(key);
        }
        self.others.dirty.extend(keys);
    }

    /// The wishes of all routes change at once.
    fn recount(&mut self, change: impl FnOnce(&mut Self)) {
        let (stopping, settings) = (self.stopping, self.settings);
        let installed: Vec<Prefix> = self
            .routes
            .iter()
            .filter(|(_, route)| route.installed.is_some())
            .map(|(prefix, _)| prefix)
            .collect();
        change(self);
        for prefix in installed {
            let Some(route) = self.routes.get(&prefix) else {
                continue;
            };
            if let Some(id) = route.installed {
                self.targets.add(id, wish_of(route, self.stopping, self.settings));
                self.targets.take(id, wish_of(route, stopping, settings));
            }
        }
    }

    /// Learned routes go to another table: what is in this one is somebody else's from now on, and goes.
    fn leave_table(&mut self) {
        let installed: Vec<(Prefix, TargetId, bool)> = self
            .routes
            .iter()
            .filter_map(|(prefix, route)| Some((prefix, route.installed?, route.left_over)))
            .collect();
        for (prefix, id, left_over) in installed {
            let key = self.key(prefix);
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
            self.install(prefix, None);
            if let Some(route) = self.routes.get_mut(&prefix) {
                route.left_over = false;
            }
            self.touch(prefix);
        }
        self.left_over.clear();
    }

    /// What is in the table that learned routes go to from now on is theirs.
    fn enter_table(&mut self) {
        let table = self.settings.table;
        let there: Vec<Key> = self
            .others
            .installed
            .keys()
            .filter(|key| key.table == table)
            .copied()
            .collect();
        for key in there {
            let left_over = self.others.left_over.remove(&key);
            self.others.dirty.remove(&key);
            let target = self.others.installed.remove(&key);
            self.install(key.prefix, target);
            let nobody = self
                .routes
                .get(&key.prefix)
                .is_none_or(|route| route.wanted.is_none());
            if left_over && nobody {
                self.leave(key.prefix);
            } else {
                self.touch(key.prefix);
            }
        }
    }

    /// A route of ours beside the learned ones that this process has not written. Before the first convergence it may still be
    /// asked for.
    fn appeared(&mut self, key: Key) {
        if self.wanted_other(&key).is_some() || self.converged && self.settings.install_routes {
            self.others.left_over.remove(&key);
            self.others.dirty.insert(key);
        } else {
            self.others.left_over.insert(key);
        }
    }
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

fn wish_of(route: &Route, stopping: bool, settings: Settings) -> Wish {
    match route.wanted {
        Some(way) if !stopping && settings.install_routes => Wish::Way(way),
        _ if route.left_over && !stopping => Wish::LeftOver,
        _ if route.lingers > 0 && !stopping => Wish::Lingers,
        _ => Wish::Gone,
    }
}

/// In the kernel's own table, which is asked before all others.
fn unreachable_key(prefix: Prefix) -> Key {
    Key {
        table: LOCAL_TABLE,
        prefix,
    }
}

fn local_key(address: IpAddr) -> Key {
    Key {
        table: LOCAL_TABLE,
        prefix: Prefix::host(address),
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
