use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;

use smallvec::SmallVec;

use super::hops::{HopId, Hops};
use super::{Gateway, Gateways};

/// Most gateways of one route; equal paths beyond carry nothing. The kernel looks at every one for each new flow.
pub(super) const MAX_GATEWAYS: usize = 64;

/// Most that one gateway may weigh: the kernel's limit.
pub(super) const MAX_WEIGHT: u16 = 256;

/// Number of a way of forwarding that prefixes share. Never given twice, so that whoever holds an old one cannot take it for another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ForwardingId(NonZeroU32);

#[cfg(test)]
impl ForwardingId {
    pub(crate) fn numbered(number: u32) -> Self {
        Self(NonZeroU32::new(number).unwrap())
    }
}

/// Where packets go: by next hops, not by what these lead to at the moment, so that a change below a million prefixes is
/// one change.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Way {
    /// Next hops of the paths in use, with their weights; ordered, each once.
    pub(super) primary: SmallVec<[(HopId, u16); 1]>,
    /// Next hop of the first path behind them, which takes over at once when none of them can be reached any more.
    pub(super) backup: Option<HopId>,
}

impl Way {
    pub(super) fn new(mut primary: SmallVec<[(HopId, u16); 1]>, backup: Option<HopId>) -> Self {
        primary.sort_unstable_by_key(|(hop, weight)| (*hop, std::cmp::Reverse(*weight)));
        primary.dedup_by_key(|(hop, _)| *hop);
        let backup = backup.filter(|backup| primary.iter().all(|(hop, _)| hop != backup));
        Self { primary, backup }
    }

    fn holds(&self, moved: &BTreeSet<HopId>) -> bool {
        self.primary.iter().any(|(hop, _)| moved.contains(hop))
            || self.backup.is_some_and(|backup| moved.contains(&backup))
    }

    /// The gateways as the next hops stand now. `None`: none leads anywhere.
    fn gateways(&self, hops: &Hops) -> Option<Gateways> {
        let mut found: Vec<Gateway> = Vec::new();
        for (hop, weight) in &self.primary {
            let resolved = hops.resolution(*hop).ok();
            let gateways = resolved.into_iter().flat_map(|resolved| &resolved.gateways);
            found.extend(gateways.map(|gateway| Gateway {
                weight: *weight,
                ..*gateway
            }));
        }
        if found.is_empty() {
            let resolved = self.backup.and_then(|backup| hops.resolution(backup).ok());
            found.extend(resolved.into_iter().flat_map(|resolved| &resolved.gateways));
        }
        fold(&mut found);
        (!found.is_empty()).then(|| found.into())
    }
}

/// Brings gateways into order. One that several next hops lead to stands once, with the highest of their weights; a single one weighs
/// 1.
pub(super) fn fold(gateways: &mut Vec<Gateway>) {
    gateways
        .sort_unstable_by_key(|gateway| (gateway.via, gateway.interface, std::cmp::Reverse(gateway.weight)));
    gateways.dedup_by_key(|gateway| (gateway.via, gateway.interface));
    gateways.truncate(MAX_GATEWAYS);
    if let [only] = gateways.as_mut_slice() {
        only.weight = 1;
    }
}

#[derive(Debug)]
struct Entry {
    way: Way,
    uses: usize,
    /// What was last told; `None` before the first time.
    told: Option<Gateways>,
    gateways: Option<Gateways>,
}

/// The ways of forwarding in use.
#[derive(Debug, Default)]
pub(super) struct Ways {
    ids: HashMap<Way, ForwardingId>,
    entries: HashMap<ForwardingId, Entry>,
    last_id: u32,
    /// Those that may have something to tell.
    news: BTreeSet<ForwardingId>,
    /// Gone after they were told.
    gone: Vec<ForwardingId>,
}

impl Ways {
    /// The way's number, counted as one more use.
    pub(super) fn acquire(&mut self, way: Way, hops: &Hops) -> ForwardingId {
        if let Some(id) = self.ids.get(&way).copied() {
            self.take(id);
            return id;
        }
        self.last_id = self
            .last_id
            .checked_add(1)
            .expect("fewer than 2^32 ways in a life");
        let id = ForwardingId(NonZeroU32::new(self.last_id).unwrap_or(NonZeroU32::MIN));
        let entry = Entry {
            gateways: way.gateways(hops),
            way: way.clone(),
            uses: 1,
            told: None,
        };
        self.ids.insert(way, id);
        self.entries.insert(id, entry);
        self.news.insert(id);
        id
    }

    /// One use more of a known one.
    pub(super) fn take(&mut self, id: ForwardingId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.uses += 1;
        }
    }

    /// Whether the way of this number is this.
    pub(super) fn is(&self, id: ForwardingId, way: &Way) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.way == *way)
    }

    /// One use less.
    pub(super) fn release(&mut self, id: ForwardingId) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.uses -= 1;
        if entry.uses == 0
            && let Some(entry) = self.entries.remove(&id)
        {
            self.ids.remove(&entry.way);
            self.news.remove(&id);
            if entry.told.is_some() {
                self.gone.push(id);
            }
        }
    }

    /// Next hops lead elsewhere now. A way that leads nowhere keeps its gateways: its prefixes are about to be decided anew.
    pub(super) fn moved(&mut self, moved: &BTreeSet<HopId>, hops: &Hops) {
        for (id, entry) in &mut self.entries {
            if entry.way.holds(moved)
                && let Some(gateways) = entry.way.gateways(hops)
            {
                entry.gateways = Some(gateways);
                self.news.insert(*id);
            }
        }
    }

    /// What is new, changed or gone since the last time; ordered.
    pub(super) fn tell(&mut self) -> Vec<(ForwardingId, Option<Gateways>)> {
        let mut told: Vec<_> = self.gone.drain(..).map(|id| (id, None)).collect();
        for id in std::mem::take(&mut self.news) {
            if let Some(entry) = self.entries.get_mut(&id)
                && entry.told != entry.gateways
            {
                entry.told.clone_from(&entry.gateways);
                told.push((id, entry.gateways.clone()));
            }
        }
        told.sort_unstable_by_key(|(id, _)| *id);
        told
    }

    pub(super) fn gateways(&self, id: ForwardingId) -> Option<&Gateways> {
        self.entries.get(&id)?.gateways.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ForwardingId, &Gateways)> {
        self.entries
            .iter()
            .filter_map(|(id, entry)| Some((*id, entry.gateways.as_ref()?)))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
