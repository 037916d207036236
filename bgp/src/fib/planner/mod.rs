//! Compares what is wanted with what is installed and says what to do next. Pure.

mod answers;
mod failure;
mod next;
mod others;
mod reading;
mod settings;
#[cfg(test)]
mod tests;
mod wishes;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use sekisho_config::model::Prefix;

use super::Settings;
use super::objects::{Neighbour, Objects};
pub(super) use super::targets::Target;
use super::targets::{TargetId, Targets};
use crate::rib::{ForwardingId, Gateways, PrefixMap, Spot};
pub(super) use failure::Failure;
use next::Draw;
use others::Others;
use wishes::Wanted;

/// Kernel table `local`: addresses that the box accepts packets for.
pub(super) const LOCAL_TABLE: u32 = 255;

/// A route that nothing replaces stays in the kernel so long after it is withdrawn: whoever sends packets by it must hear
/// of the withdrawal first, or what is on its way leaves by the default route.
pub(super) const LINGER: Duration = Duration::from_millis(100);

/// Of so many routes that are withdrawn at once it costs more to look at each than to let all of them linger; and more that follow in
/// time linger with them, so that what leads to an object goes with it, and not one by one while the rest lingers.
const MANY: usize = if cfg!(test) { 3 } else { 1 << 14 };
/// The longest that others are let join them.
const JOINING: Duration = Duration::from_secs(1);

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

/// The planner: see above.
#[derive(Debug)]
pub(super) struct Planner {
    stance: Stance,
    /// The kernel has nexthop objects.
    objects_supported: bool,
    ways: HashMap<ForwardingId, Gateways>,
    routes: PrefixMap<Route>,
    wanted: Wanted,
    targets: Targets,
    objects: Objects,
    /// Prefixes to compare.
    dirty: VecDeque<Spot>,
    draw: Draw,
    /// Places of what [`Self::next`] returned and nobody has answered yet, in its order, which is that of the answers.
    sent: VecDeque<Spot>,
    /// Prefixes whose way has been refused.
    waiting: Vec<Prefix>,
    /// Withdrawn prefixes that linger, in the order in which they go.
    lingering: VecDeque<Round>,
    /// The round that was given last.
    linger_round: u16,
    /// Rounds that are over, with those of them that have not been looked at.
    expired: VecDeque<(u16, std::vec::IntoIter<Spot>)>,
    /// Found at the start and wanted by nobody yet.
    left_over: Vec<Prefix>,
    others: Others,
    /// How many are installed: IPv4, IPv6.
    counts: [usize; 2],
    /// Refused by the kernel.
    failed: BTreeMap<Key, Failure>,
    reading: u8,
    converged: bool,
}

/// What the wishes of all routes depend on beside themselves.
#[derive(Clone, Copy, Debug)]
struct Stance {
    settings: Settings,
    stopping: bool,
    /// The last round of lingering that is over.
    over: u16,
}

/// Withdrawn prefixes that linger together.
#[derive(Debug)]
struct Round {
    number: u16,
    began: Instant,
    until: Instant,
    places: Vec<Spot>,
}

impl Round {
    /// Even when its time is over, as long as nobody has looked: whoever withdraws much is late himself.
    fn takes_more(&self, now: Instant) -> bool {
        self.places.len() >= MANY && now < self.began + JOINING
    }
}

/// One learned prefix.
#[derive(Clone, Copy, Debug, Default)]
struct Route {
    wanted: Option<ForwardingId>,
    installed: Option<TargetId>,
    /// Nothing is wanted, and it goes when this round of lingering is over; 0: it does not linger.
    lingers: u16,
    /// The reading of the kernel's tables that last showed it.
    seen: u8,
    /// It is going to be looked at.
    dirty: bool,
    left_over: bool,
}

impl Planner {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            stance: Stance {
                settings,
                stopping: false,
                over: 0,
            },
            objects_supported: true,
            ways: HashMap::new(),
            routes: PrefixMap::default(),
            wanted: Wanted::default(),
            targets: Targets::default(),
            objects: Objects::default(),
            dirty: VecDeque::new(),
            draw: Draw::default(),
            sent: VecDeque::new(),
            waiting: Vec::new(),
            lingering: VecDeque::new(),
            linger_round: 0,
            expired: VecDeque::new(),
            left_over: Vec::new(),
            others: Others::default(),
            counts: [0; 2],
            failed: BTreeMap::new(),
            reading: 0,
            converged: false,
        }
    }

    /// Whether nothing is left to send.
    pub(super) fn is_idle(&self) -> bool {
        self.dirty.is_empty()
            && self.expired() == 0
            && self.others.dirty.is_empty()
            && self.objects.is_idle(&self.targets)
    }

    /// Those that are to go and have not been looked at.
    fn expired(&self) -> usize {
        self.expired.iter().map(|(_, places)| places.len()).sum()
    }

    pub(super) fn pending(&self) -> usize {
        let is_queued = |key: &Key| {
            self.others.dirty.contains(key)
                || key.table == self.stance.settings.table
                    && self.routes.get(&key.prefix).is_some_and(|route| route.dirty)
        };
        let refused = self.failed.keys().filter(|key| !is_queued(key)).count();
        self.dirty.len() + self.expired() + self.waiting.len() + self.others.dirty.len() + refused
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
    fn objects_of(&self, member: u32) -> Option<std::net::IpAddr> {
        self.objects.gateway_of(member)
    }

    /// The kernel has a route so.
    fn install(&mut self, prefix: Prefix, target: Option<Target>) -> Spot {
        let target = target.map(|target| self.targets.id(target));
        let (place, _) = self.routes.entry_at(&prefix);
        self.install_at(place, target);
        place
    }

    fn install_at(&mut self, place: Spot, target: Option<TargetId>) {
        let family = usize::from(matches!(place, Spot::V6(_)));
        let Some(route) = self.routes.value_mut(place) else {
            return;
        };
        let wish = self.stance.wish(route);
        let before = std::mem::replace(&mut route.installed, target);
        if let Some(target) = target {
            self.targets.add(target, wish, family);
        }
        let counted = before.is_some_and(|before| !self.targets.is_dead(before));
        if let Some(before) = before {
            self.targets.take(before, wish, family);
        }
        if let Some(count) = self.counts.get_mut(family) {
            match (counted, target.is_some()) {
                (false, true) => *count += 1,
                (true, false) => *count -= 1,
                _ => {}
            }
        }
    }

    fn key(&self, prefix: Prefix) -> Key {
        Key {
            table: self.stance.settings.table,
            prefix,
        }
    }

    /// A prefix is to be looked at, whatever the kernel refused before.
    fn touch(&mut self, place: Spot) {
        let Some(route) = self.routes.value_mut(place) else {
            return;
        };
        if !std::mem::replace(&mut route.dirty, true) {
            self.dirty.push_back(place);
        }
        self.forgive(place);
    }

    /// What the kernel refused is forgotten.
    fn forgive(&mut self, place: Spot) {
        if !self.failed.is_empty()
            && let Some((prefix, _)) = self.routes.at(place)
        {
            let key = self.key(prefix);
            self.failed.remove(&key);
        }
    }

    /// A prefix is to be looked at again.
    fn touch_again(&mut self, prefix: Prefix) {
        let (place, route) = self.routes.entry_at(&prefix);
        if !std::mem::replace(&mut route.dirty, true) {
            self.dirty.push_back(place);
        }
    }
}
