//! Adjacency-out: routes that are passed on, once for all peers that hear the same.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use sekisho_config::model::Prefix;

use super::super::peer::Peer;
use super::Speaker;
use crate::announce::Plan;
use crate::policy::export::{Advert, Export, Heard};
use crate::rib::{Offer, PeerId, Rib};
use crate::session::{Adverts, FIRST_PATH_ID, OutKey};
use crate::wire::{Attributes, Families, Family};

/// What is passed on, by who hears it.
#[derive(Debug, Default)]
pub(super) struct Exports {
    groups: Vec<Group>,
    path_ids: PathIds,
    /// What groups hear has changed, and sessions have not been told.
    untold: bool,
}

/// Peers that hear the same.
#[derive(Debug)]
struct Group {
    export: Export,
    /// Families in which they take all paths of a prefix, not only the best.
    add_path: Families,
    adverts: Adverts,
    /// The last set of attributes and what became of it: prefixes of one UPDATE come one after the other.
    last: Option<Made>,
}

#[derive(Debug)]
struct Made {
    from: Arc<Attributes>,
    peer: PeerId,
    into: Arc<Advert>,
}

/// Path identifiers that are sent (RFC 7911): one for each peer and identifier that it sent, for as long as the peer is known.
#[derive(Debug, Default)]
struct PathIds {
    given: HashMap<(PeerId, Option<u32>), u32>,
    last: u32,
}

impl PathIds {
    fn of(&mut self, offer: &Offer<'_>) -> u32 {
        *self.given.entry((offer.peer, offer.path_id)).or_insert_with(|| {
            self.last = self.last.max(FIRST_PATH_ID - 1).wrapping_add(1);
            self.last
        })
    }
}

/// Reports that are taken in before sessions hear of what has changed, while more are waiting.
const ROUNDS: u32 = 64;

type Peers = BTreeMap<IpAddr, Peer>;

impl Exports {
    /// What peers of this kind hear; the first of its kind makes everything be looked at once.
    pub(super) fn of(
        &mut self,
        export: Export,
        add_path: Families,
        plan: &Plan,
        rib: &Rib,
        peers: &Peers,
    ) -> Adverts {
        let known = |group: &&Group| group.export == export && group.add_path == add_path;
        if let Some(group) = self.groups.iter().find(known) {
            return group.adverts.clone();
        }
        let mut group = Group {
            export,
            add_path,
            adverts: Adverts::new(),
            last: None,
        };
        for prefix in rib.known_prefixes() {
            group.refresh(&prefix, &mut self.path_ids, plan, rib, peers);
        }
        let adverts = group.adverts.clone();
        self.groups.push(group);
        adverts
    }

    /// Whether nothing is passed on to anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Looks at prefixes again.
    fn refresh(&mut self, prefixes: &[Prefix], plan: &Plan, rib: &Rib, peers: &Peers) {
        self.untold = true;
        for group in &mut self.groups {
            for prefix in prefixes {
                group.refresh(prefix, &mut self.path_ids, plan, rib, peers);
            }
        }
    }

    /// Forgets groups of which nobody is any more.
    fn keep(&mut self, used: impl Fn(&Export, Families) -> bool) {
        self.groups.retain(|group| used(&group.export, group.add_path));
        if self.groups.is_empty() {
            self.path_ids = PathIds::default();
        }
    }

    /// A peer is gone for good.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.path_ids.given.retain(|(owner, _), _| *owner != peer);
    }
}

impl Group {
    fn refresh(&mut self, prefix: &Prefix, path_ids: &mut PathIds, plan: &Plan, rib: &Rib, peers: &Peers) {
        let all = self.add_path.contains(Family::of(prefix));
        let mut now: BTreeMap<OutKey, Arc<Advert>> = BTreeMap::new();
        // Service addresses are ours to announce, whatever was heard of them before they became ours.
        if !plan.pools.iter().any(|pool| pool.covers(prefix)) {
            let offers = rib.offers(prefix);
            for offer in offers.iter().take(if all { usize::MAX } else { 1 }) {
                let path_id = if all { path_ids.of(offer) } else { 0 };
                if let Some(advert) = self.advert(prefix, offer, peers) {
                    now.insert((*prefix, path_id), advert);
                }
            }
        }
        let old: Vec<OutKey> = self
            .adverts
            .range((*prefix, 0)..=(*prefix, u32::MAX))
            .map(|(key, _)| *key)
            .collect();
        for key in old.iter().filter(|key| !now.contains_key(key)) {
            self.adverts.remove(key);
        }
        for (key, advert) in now {
            if self.adverts.get(&key) != Some(&advert) {
                self.adverts.insert(key, advert);
            }
        }
    }

    fn advert(&mut self, prefix: &Prefix, offer: &Offer<'_>, peers: &Peers) -> Option<Arc<Advert>> {
        let client = peers
            .get(&offer.from)
            .is_some_and(|peer| peer.wanted.pass_on.reflector_client);
        let heard = Heard {
            attributes: offer.attributes,
            next_hop: offer.next_hop,
            from: offer.from,
            router_id: offer.router_id,
            external: offer.external,
            client,
            local_preference: offer.local_preference,
        };
        let advert = self.export.pod(prefix, &heard).ok()?;
        if let Some(made) = &self.last
            && made.peer == offer.peer
            && Arc::ptr_eq(&made.from, offer.attributes)
            && *made.into == advert
        {
            return Some(Arc::clone(&made.into));
        }
        let into = Arc::new(advert);
        self.last = Some(Made {
            from: Arc::clone(offer.attributes),
            peer: offer.peer,
            into: Arc::clone(&into),
        });
        Some(into)
    }
}

impl Speaker {
    /// Takes note of what changed of what is passed on.
    pub(super) fn pass_on(&mut self, changed: &[Prefix]) {
        if self.exports.is_empty() {
            return;
        }
        self.exports.refresh(changed, &self.plan, &self.rib, &self.peers);
    }

    /// Hands what has changed to the sessions that pass it on: once for all that came together, at the latest after a number
    /// of reports.
    pub(super) fn tell_exports(&mut self) {
        if self.defers() {
            return;
        }
        let busy = !self.reports.1.is_empty() && self.untold_rounds < ROUNDS;
        if !self.exports.untold || busy {
            self.untold_rounds = if self.exports.untold {
                self.untold_rounds.saturating_add(1)
            } else {
                0
            };
            return;
        }
        (self.exports.untold, self.untold_rounds) = (false, 0);
        let draining = *self.wishes.draining.borrow();
        for peer in self.peers.values() {
            if !peer.wanted.pass_on.pods || !peer.established() {
                continue;
            }
            let export = peer.export(&self.bgp.identity, draining);
            let pods = self
                .exports
                .of(export, peer.add_path(), &self.plan, &self.rib, &self.peers);
            peer.orders.send_if_modified(|orders| {
                let differs = !orders.wanted.pods.ptr_eq(&pods);
                orders.wanted.pods = pods;
                differs
            });
        }
    }

    /// Looks at everything again: who is a client, or which prefixes are ours, has changed.
    pub(super) fn pass_on_anew(&mut self) {
        self.exports.keep(|_, _| false);
        self.order_all();
    }

    /// Lets go of what nobody hears any more.
    pub(super) fn tidy_exports(&mut self) {
        let draining = *self.wishes.draining.borrow();
        let used: Vec<_> = self
            .peers
            .values()
            .filter(|peer| peer.wanted.pass_on.pods && peer.established())
            .map(|peer| (peer.export(&self.bgp.identity, draining), peer.add_path()))
            .collect();
        self.exports
            .keep(|export, add_path| used.iter().any(|(of, paths)| of == export && *paths == add_path));
    }
}
