//! How many requests of somebody run at a time, in a table of fixed size.
//!
//! A place holds who has it and how many run; it is anybody's again when none does. When all places of a set are taken by
//! others, a request is not counted and passes: with as many running at a time the limits of connections come first.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

const WAYS: usize = 8;
const SETS: usize = 1 << 13;
/// The lower bits of a place are the count, the upper ones say whose it is.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The table, made when it is first used.
#[derive(Debug)]
pub(crate) struct Slots {
    sets: OnceLock<Box<[Set]>>,
    hasher: RandomState,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            sets: OnceLock::new(),
            hasher: RandomState::new(),
        }
    }
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    slots: Arc<Slots>,
    set: usize,
    way: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(place) = self.slots.place(self.set, self.way) {
            place.fetch_sub(1, Relaxed);
        }
    }
}

impl Slots {
    pub(super) fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    fn place(&self, set: usize, way: usize) -> Option<&AtomicU64> {
        self.sets.get()?.get(set)?.0.get(way)
    }

    /// Takes a place of `key`, of which there are `most`. `Ok(None)`: it could not be counted.
    pub(super) fn enter(self: &Arc<Self>, key: u64, most: u32) -> Result<Option<Ticket>, ()> {
        let sets = self
            .sets
            .get_or_init(|| (0..SETS).map(|_| Set::default()).collect());
        let index = key as usize % SETS;
        let Some(set) = sets.get(index) else {
            return Ok(None);
        };
        let tag = key >> COUNT_BITS;
        let most = u64::from(most).min(COUNT - 1);
        // Somebody else may take the place that was found free: look again, a few times.
        for _ in 0..4 {
            let mine = |word: u64| word & COUNT > 0 && word >> COUNT_BITS == tag;
            let found = set
                .0
                .iter()
                .position(|place| mine(place.load(Relaxed)))
                .or_else(|| set.0.iter().position(|place| place.load(Relaxed) & COUNT == 0));
            let Some(way) = found else { return Ok(None) };
            let Some(place) = set.0.get(way) else {
                return Ok(None);
            };
            let mut full = false;
            let taken = place.fetch_update(Relaxed, Relaxed, |word| {
                full = false;
                if word & COUNT == 0 {
                    return Some(tag << COUNT_BITS | 1);
                }
                if !mine(word) {
                    return None;
                }
                full = word & COUNT >= most;
                (!full).then_some(word + 1)
            });
            if taken.is_ok() {
                return Ok(Some(Ticket {
                    slots: Arc::clone(self),
                    set: index,
                    way,
                }));
            }
            if full {
                return Err(());
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_together_get_no_more_than_there_are() {
        let slots = Arc::new(Slots::default());
        let kept: Vec<Vec<Ticket>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let slots = &slots;
                    scope.spawn(move || {
                        for _ in 0..1000 {
                            drop(slots.enter(1 << 30, 1000).unwrap());
                        }
                        (0..100)
                            .filter_map(|_| slots.enter(1 << 30, 50).ok().flatten())
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let count: usize = kept.iter().map(Vec::len).sum();
        assert_eq!(count, 50);
        drop(kept);
        let again: Vec<_> = (0..60)
            .filter_map(|_| slots.enter(1 << 30, 50).ok().flatten())
            .collect();
        assert_eq!(again.len(), 50);
    }

    #[test]
    fn others_have_places_of_their_own() {
        let slots = Arc::new(Slots::default());
        // All in one set: the ninth cannot be counted, and passes.
        let same_set = |who: u64| who << COUNT_BITS;
        let taken: Vec<_> = (1..=8)
            .map(|who| slots.enter(same_set(who), 1).unwrap().unwrap())
            .collect();
        assert!(slots.enter(same_set(3), 1).is_err());
        assert!(slots.enter(same_set(9), 1).unwrap().is_none());
        drop(taken);
        assert!(slots.enter(same_set(9), 1).unwrap().is_some());
    }
}
