//! Objects that annotations of our Ingresses name: one watch each, so that no other Secret and no other ConfigMap comes to the
//! box, whatever else the cluster holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::watch::{Connection, KindWatch, NamedConfigMap, NamedSecret, Scope};
use super::{Change, Gathered, LONGEST_WAIT_FOR_NAMED, mpsc};
use crate::metrics::Metrics;
use crate::translate;
use crate::view::Health;
use crate::world::{Kind, Reference};

/// So many are read for the first time at once.
const TURNS: usize = 16;

/// The watches that run.
pub(super) struct References {
    watches: BTreeMap<Reference, AbortHandle>,
    turns: Arc<Semaphore>,
}

impl Default for References {
    fn default() -> Self {
        Self {
            watches: BTreeMap::new(),
            turns: Arc::new(Semaphore::new(TURNS)),
        }
    }
}

impl References {
    /// Begins and ends watches until they are of what is wished. What is not wished any more is forgotten at once.
    pub(super) fn follow(
        &mut self,
        wished: translate::References,
        gathered: &mut Gathered,
        tasks: &mut JoinSet<()>,
        shared: impl Fn() -> (Connection, mpsc::Sender<Change>, Health, Metrics),
    ) {
        self.watches.retain(|reference, watch| {
            let stays = wished.watched.contains(reference);
            if !stays {
                watch.abort();
                gathered.forget(reference);
            }
            stays
        });
        let old: Vec<Reference> = gathered.world.unheard.keys().cloned().collect();
        for reference in old {
            if !wished.watched.contains(&reference) && !wished.beyond.contains(&reference) {
                gathered.forget(&reference);
            }
        }
        for reference in wished.beyond.difference(&wished.watched) {
            gathered.unheard(reference, translate::TOO_MANY_REFERENCES);
        }
        for reference in wished.watched {
            if self.watches.contains_key(&reference) {
                continue;
            }
            gathered.expect(&reference);
            let scope = (Scope::One(reference.1.clone()), self.turns.clone());
            let watch = match reference.0 {
                Kind::ConfigMap => tasks.spawn(KindWatch::<NamedConfigMap>::new(shared(), scope).run()),
                _ => tasks.spawn(KindWatch::<NamedSecret>::new(shared(), scope).run()),
            };
            self.watches.insert(reference, watch);
        }
    }
}

impl Gathered {
    /// Whether what annotations name may differ from when this was asked last.
    pub(super) fn named_differ(&mut self) -> bool {
        std::mem::take(&mut self.named_differ)
    }

    /// The object is not named any more.
    fn forget(&mut self, reference: &Reference) {
        self.changed = true;
        self.named.remove(reference);
        self.world.contents.remove(reference);
        self.world.unheard.remove(reference);
        self.bad.remove(reference);
        self.heard(reference);
    }

    /// The object is named, and will be heard of.
    fn expect(&mut self, reference: &Reference) {
        self.named.insert(reference.clone());
        self.unheard(reference, "it has not been read yet");
        self.pending.insert(reference.clone());
        self.wait_until
            .get_or_insert_with(|| Instant::now() + LONGEST_WAIT_FOR_NAMED);
    }

    fn unheard(&mut self, reference: &Reference, why: &str) {
        if self
            .world
            .unheard
            .get(reference)
            .is_none_or(|before| **before != *why)
        {
            self.changed = true;
            self.world.unheard.insert(reference.clone(), why.into());
        }
    }

    /// Whatever is to be said of the object has been said.
    fn heard(&mut self, reference: &Reference) {
        self.pending.remove(reference);
        if self.pending.is_empty() {
            self.wait_until = None;
        }
    }

    /// Nothing waits any longer.
    pub(super) fn waited(&mut self) {
        self.pending.clear();
        self.wait_until = None;
    }

    /// A change of an object that annotations name. One that no annotation names any more may still say something.
    pub(super) fn apply_named(&mut self, change: Change) {
        match change {
            Change::Named(reference, object, unreadable) => {
                if !self.named.contains(&reference) {
                    return;
                }
                self.heard(&reference);
                match unreadable {
                    // What it said before stays, if it said something.
                    Some(unreadable) => {
                        self.unheard_first(&reference, &unreadable.why);
                        self.apply_any(Change::Bad(unreadable));
                    }
                    None => {
                        self.changed |= self.world.unheard.remove(&reference).is_some();
                        match object {
                            Some(object) => self.apply_any(Change::Apply(object)),
                            None => self.apply_any(Change::Remove(reference.0, reference.1)),
                        }
                    }
                }
            }
            Change::Unheard(reference, why) => {
                if self.named.contains(&reference) {
                    self.heard(&reference);
                    self.unheard_first(&reference, &why);
                }
            }
            Change::Apply(object) => {
                let reference = (object.kind(), object.name().clone());
                if self.named.contains(&reference) {
                    self.changed |= self.world.unheard.remove(&reference).is_some();
                    self.apply_any(Change::Apply(object));
                }
            }
            Change::Remove(kind, name) => self.apply_any(Change::Remove(kind, name)),
            Change::Bad(bad) => {
                if self.named.contains(&(bad.kind, bad.name.clone())) {
                    self.apply_any(Change::Bad(bad));
                }
            }
            Change::List(..) => {}
        }
    }

    /// Says why nothing is known of an object of which nothing has ever been known.
    fn unheard_first(&mut self, reference: &Reference, why: &str) {
        if self.world.unheard.contains_key(reference) {
            self.unheard(reference, why);
        }
    }
}
