use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Gateway, Gateways};

/// Most gateways of one route; equal paths beyond carry nothing. The kernel looks at every one for each new flow.
pub(super) const MAX_GATEWAYS: usize = 64;

/// Number of a set of gateways: few sets are shared by very many prefixes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GatewaysId(NonZeroU32);

/// The sets of gateways in use.
#[derive(Debug, Default)]
pub(super) struct GatewaySets {
    ids: BTreeMap<Gateways, GatewaysId>,
    sets: Vec<Option<(Gateways, usize)>>,
    free: Vec<GatewaysId>,
}

impl GatewaySets {
    /// The set's number, counted as one more use. `None` for no gateway at all.
    pub(super) fn acquire(&mut self, mut gateways: Vec<Gateway>) -> Option<GatewaysId> {
        gateways.sort_unstable();
        gateways.dedup();
        gateways.truncate(MAX_GATEWAYS);
        if gateways.is_empty() {
            return None;
        }
        if let Some(id) = self.ids.get(gateways.as_slice()).copied() {
            if let Some(Some((_, uses))) = self.sets.get_mut(id.index()) {
                *uses += 1;
            }
            return Some(id);
        }
        let gateways: Gateways = Arc::from(gateways);
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.sets.push(None);
                GatewaysId(u32::try_from(self.sets.len()).ok().and_then(NonZeroU32::new)?)
            }
        };
        if let Some(place) = self.sets.get_mut(id.index()) {
            *place = Some((Arc::clone(&gateways), 1));
        }
        self.ids.insert(gateways, id);
        Some(id)
    }

    /// One use less.
    pub(super) fn release(&mut self, id: GatewaysId) {
        let Some(place) = self.sets.get_mut(id.index()) else {
            return;
        };
        match place {
            Some((_, uses)) if *uses > 1 => *uses -= 1,
            _ => {
                if let Some((gateways, _)) = place.take() {
                    self.ids.remove(&gateways);
                    self.free.push(id);
                }
            }
        }
    }

    pub(super) fn get(&self, id: GatewaysId) -> Option<&Gateways> {
        self.sets.get(id.index())?.as_ref().map(|(gateways, _)| gateways)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

impl GatewaysId {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}
