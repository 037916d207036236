//! What is about very many prefixes: first what the kernel has to know at once, then all of them, piece by piece.

use std::collections::BTreeSet;

use sekisho_config::model::Prefix;

use super::change::Changes;
use super::hops::HopId;
use super::next_hops::KernelTarget;
use super::peer::PeerId;
use super::prefix_map::Spot;
use super::{Delta, Family, NextHops, Rib};

/// Prefixes of one piece: enough that a piece is cheap to hand over, few enough that whoever takes them works beside the table.
/// The tables of tests are small.
const PIECE: usize = if cfg!(test) { 2 } else { 1 << 16 };

/// What is left to do of a change: [`Rib::go_on`] until it says that there is no more, before the table is told anything else.
#[must_use = "the prefixes are as they were until it is done"]
#[derive(Debug)]
pub struct Rest {
    what: What,
    changes: Changes,
    /// Prefixes that it is about and that have not been looked at; `None`: nobody has searched for them.
    places: Option<std::vec::IntoIter<Spot>>,
    done: bool,
}

#[derive(Debug)]
enum What {
    /// These next hops lead elsewhere, or nowhere.
    Moved(BTreeSet<HopId>),
    /// A peer is gone; paths of these families are kept.
    Down(PeerId, Vec<Family>),
}

impl Rest {
    fn of(what: What, changes: Changes) -> Self {
        Self {
            what,
            changes,
            places: None,
            done: false,
        }
    }
}

impl Rib {
    /// The kernel's links or routes changed: all of it in one.
    pub fn next_hops_changed(&mut self, next_hops: NextHops) -> Delta {
        let (first, rest) = self.begin_next_hops(next_hops);
        self.all(first, rest)
    }

    /// The kernel's links or routes changed. What comes back is what the kernel needs to know at once, and costs nothing
    /// however many prefixes there are.
    pub fn begin_next_hops(&mut self, next_hops: NextHops) -> (Delta, Rest) {
        let old = std::mem::replace(&mut self.kernel, next_hops);
        let mut changes = Changes::default();
        let links = changed_links(&old, &self.kernel);
        if self.local.kernel_fallback {
            changes.changed(changed_routes(&old, &self.kernel, &links));
        }
        if !links.is_empty() {
            // Forwarding is as before unless a next hop moved, but the interface may have another name.
            changes.changed(self.prefixes_on(&links));
        }
        let moved = self.hops.kernel_changed(&self.kernel);
        if !moved.is_empty() {
            self.ways.moved(&moved, &self.hops);
            changes.everything();
        }
        (self.ways_only(), Rest::of(What::Moved(moved), changes))
    }

    /// The session is gone. Paths of the families in `keep` become stale (RFC 4724 section 4.2), all others are
    /// withdrawn; so are those of `keep` that were already stale.
    pub fn peer_down(&mut self, peer: PeerId, keep: &[Family]) -> Delta {
        let (first, rest) = self.begin_peer_down(peer, keep);
        self.all(first, rest)
    }

    /// The same; what comes back is what the kernel needs to know at once, and costs nothing however many prefixes there are.
    pub fn begin_peer_down(&mut self, peer: PeerId, keep: &[Family]) -> (Delta, Rest) {
        if keep.is_empty() {
            let doomed = self.hops.doom(&self.hops_of(peer));
            self.ways.moved(&doomed, &self.hops);
        }
        let rest = Rest::of(What::Down(peer, keep.to_vec()), Changes::default());
        (self.ways_only(), rest)
    }

    /// Does the next piece. `None`: all is done.
    pub fn go_on(&mut self, rest: &mut Rest) -> Option<Delta> {
        if rest.done {
            return None;
        }
        let places = rest.places.get_or_insert_with(|| {
            let places = match &rest.what {
                What::Moved(hops) if hops.is_empty() => Vec::new(),
                What::Moved(hops) => self.places_by(hops),
                What::Down(peer, _) => self.places_of(*peer),
            };
            places.into_iter()
        });
        let piece: Vec<Spot> = places.by_ref().take(PIECE).collect();
        rest.done = places.len() == 0;
        let mut changes = std::mem::take(&mut rest.changes);
        match &rest.what {
            What::Moved(_) => self.settle_all(&piece, &mut changes),
            What::Down(peer, keep) => {
                let gone = |family, stale| stale || !keep.contains(&family);
                self.remove_at(&piece, *peer, &mut changes, gone);
                if rest.done {
                    for family in keep {
                        self.mark_stale(*peer, *family);
                    }
                    self.sweep_attributes();
                }
            }
        }
        Some(self.conclude(changes))
    }

    fn all(&mut self, first: Delta, mut rest: Rest) -> Delta {
        let mut delta = first;
        while let Some(piece) = self.go_on(&mut rest) {
            delta = delta.then(piece);
        }
        delta
    }

    fn ways_only(&mut self) -> Delta {
        Delta {
            ways: self.ways.tell(),
            ..Delta::default()
        }
    }
}

fn changed_links(old: &NextHops, new: &NextHops) -> BTreeSet<u32> {
    use imbl::ordmap::DiffItem::{Add, Remove, Update};
    let index = |item| match item {
        Add(index, _) | Remove(index, _) => *index,
        Update { new: (index, _), .. } => *index,
    };
    old.links.diff(&new.links).map(index).collect()
}

/// Prefixes for which the kernel's own routes say something else now.
fn changed_routes(old: &NextHops, new: &NextHops, links: &BTreeSet<u32>) -> Vec<Prefix> {
    use imbl::ordmap::DiffItem::{Add, Remove, Update};
    let mut prefixes: Vec<Prefix> = Vec::new();
    prefixes.extend(old.routes.diff(&new.routes).map(|item| match item {
        Add(prefix, _) | Remove(prefix, _) => *prefix,
        Update { new: (prefix, _), .. } => *prefix,
    }));
    prefixes.extend(old.local.diff(&new.local).map(|item| match item {
        imbl::ordset::DiffItem::Add(address) | imbl::ordset::DiffItem::Remove(address) => {
            Prefix::host(*address)
        }
    }));
    if !links.is_empty() {
        let on_link = new.routes.iter().filter(|(_, route)| match &route.target {
            KernelTarget::Connected { interface } | KernelTarget::Via { interface, .. } => {
                links.contains(interface)
            }
            KernelTarget::Reject => false,
        });
        prefixes.extend(on_link.map(|(prefix, _)| *prefix));
    }
    prefixes
}
