use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::decide::Ineligible;
use super::hops::HopId;
use super::peer::PeerId;
use crate::wire::Attributes;

/// Number of a [`Source`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct SourceId(u32);

/// What paths of one peer with the same attributes and next hop have in common: all that a path is, but for its prefix.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) attributes: Arc<Attributes>,
    pub(super) peer: PeerId,
    pub(super) hop: HopId,
    /// Why its paths take no part, as far as that does not depend on prefix and next hop.
    pub(super) verdict: Result<(), Ineligible>,
    uses: u32,
}

/// All sources in use.
#[derive(Debug, Default)]
pub(super) struct Sources {
    index: HashTable<u32>,
    slots: Vec<Option<Source>>,
    free: Vec<u32>,
    hasher: DefaultHashBuilder,
}

/// Attributes are compared by place: equal ones have been made one before.
type Key = (PeerId, HopId, *const Attributes);

impl Source {
    fn key(&self) -> Key {
        (self.peer, self.hop, Arc::as_ptr(&self.attributes))
    }
}

impl Sources {
    /// The source's number if it is known.
    pub(super) fn find(&self, peer: PeerId, hop: HopId, attributes: &Arc<Attributes>) -> Option<SourceId> {
        let key = (peer, hop, Arc::as_ptr(attributes));
        let same = |at: &u32| self.slot(*at).is_some_and(|source| source.key() == key);
        self.index
            .find(self.hasher.hash_one(key), same)
            .copied()
            .map(SourceId)
    }

    /// A new one without a use; it holds one use of `hop`.
    pub(super) fn insert(
        &mut self,
        peer: PeerId,
        hop: HopId,
        attributes: Arc<Attributes>,
        verdict: Result<(), Ineligible>,
    ) -> SourceId {
        let source = Source {
            attributes,
            peer,
            hop,
            verdict,
            uses: 0,
        };
        let hash = self.hasher.hash_one(source.key());
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.slots.get_mut(at as usize) {
                    *place = Some(source);
                }
                at
            }
            None => {
                self.slots.push(Some(source));
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 sources: memory ends long before")
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, at, |at| {
            let source = slots.get(*at as usize).and_then(Option::as_ref);
            source.map_or(0, |source| hasher.hash_one(source.key()))
        });
        SourceId(at)
    }

    pub(super) fn get(&self, id: SourceId) -> Option<&Source> {
        self.slot(id.0)
    }

    /// One use more.
    pub(super) fn take(&mut self, id: SourceId) {
        if let Some(Some(source)) = self.slots.get_mut(id.0 as usize) {
            source.uses += 1;
        }
    }

    /// One use less; after the last one the source is gone, and so is a use of the hop that is returned.
    pub(super) fn release(&mut self, id: SourceId) -> Option<HopId> {
        let source = self.slots.get_mut(id.0 as usize)?.as_mut()?;
        source.uses = source.uses.saturating_sub(1);
        self.remove_unused(id)
    }

    /// Forgets a source that nothing uses; a use of the hop that is returned goes with it.
    pub(super) fn remove_unused(&mut self, id: SourceId) -> Option<HopId> {
        let place = self.slots.get_mut(id.0 as usize)?;
        if place.as_ref()?.uses > 0 {
            return None;
        }
        let source = place.take()?;
        let hash = self.hasher.hash_one(source.key());
        if let Ok(entry) = self.index.find_entry(hash, |at| *at == id.0) {
            entry.remove();
        }
        self.free.push(id.0);
        if self.free.len() == self.slots.len() {
            *self = Self::default();
        }
        Some(source.hop)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.slots.iter_mut().flatten()
    }

    fn slot(&self, at: u32) -> Option<&Source> {
        self.slots.get(at as usize)?.as_ref()
    }
}
