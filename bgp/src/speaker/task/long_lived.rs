//! Long-lived graceful restart, receiving side (RFC 9494): routes of a peer that is away for longer than its restart time stay
//! as the last choice.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::Speaker;
use crate::rib::PeerId;
use crate::wire::{Attributes, Families, Family, Update};

impl Speaker {
    /// The time of these stale families is over. Those that may live on do; returns the others.
    pub(super) fn let_live(&mut self, address: IpAddr, families: Families, now: Instant) -> Families {
        let Some(peer) = self.peers.get_mut(&address) else {
            return families;
        };
        let begins = peer.long_lived_since.is_none();
        let since = peer.long_lived_since.unwrap_or(now);
        let living = peer.long_lived.iter().filter(|one| families.contains(one.family));
        let living: Vec<_> = living
            .map(|one| (one.family, since + one.time))
            .filter(|(_, until)| *until > now)
            .collect();
        let kept: Families = living.iter().map(|(family, _)| *family).collect();
        let gone = families.iter().filter(|family| !kept.contains(*family)).collect();
        let Some(next) = living.iter().map(|(_, until)| *until).min() else {
            return gone;
        };
        peer.stale = Some((kept, next));
        peer.long_lived_since = Some(since);
        if let (true, Some(id)) = (begins, peer.id) {
            warn!(peer = %peer.wanted.name, seconds = next.saturating_duration_since(now).as_secs(), "long-lived graceful restart: routes of the peer stay as the last choice");
            for family in kept.iter() {
                self.mark(id, family);
            }
        }
        gone
    }

    /// Marks what is stale LLGR_STALE; what forbids it is withdrawn.
    fn mark(&mut self, id: PeerId, family: Family) {
        let mut gone = Update::default();
        // One UPDATE has one set of attributes.
        let mut marked: BTreeMap<*const Attributes, Option<Update>> = BTreeMap::new();
        for (nlri, next_hop, attributes) in self.rib.stale_paths(id, family) {
            let update = marked.entry(Arc::as_ptr(&attributes)).or_insert_with(|| {
                let attributes = attributes.long_lived_stale()?;
                Some(Update {
                    attributes: Some(Arc::new(attributes)),
                    ..Update::default()
                })
            });
            match update {
                Some(update) => update.announced.push((nlri, next_hop)),
                None => gone.withdrawn.push(nlri),
            }
        }
        for update in marked.into_values().flatten().chain([gone]) {
            let delta = self.rib.update(id, &update);
            self.spread(delta);
        }
        // What was said again counts as fresh; it is not.
        self.rib.mark_stale(id, family);
    }
}
