//! What all workers may use together of something: octets held, copies on their way. One atomic, no lock; a share comes
//! back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much is in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

/// A part of it.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    count: usize,
}

impl Budget {
    /// Takes `count` if no more than `most` are in use then.
    pub(crate) fn take(&self, count: usize, most: usize) -> Option<Share> {
        let mut share = Share {
            budget: self.clone(),
            count: 0,
        };
        share.grow(count, most).then_some(share)
    }

    /// How much is in use now.
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Takes `more` beside what it has, if no more than `most` are in use then.
    pub(crate) fn grow(&mut self, more: usize, most: usize) -> bool {
        let used = &self.budget.0;
        let before = used.fetch_add(more, Ordering::Relaxed);
        if before.checked_add(more).is_none_or(|all| all > most) {
            used.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.count += more;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::default();
        assert!(budget.take(11, 10).is_none());
        let mut first = budget.take(4, 10).unwrap();
        assert!(first.grow(3, 10));
        assert!(!first.grow(4, 10));
        assert_eq!(budget.used(), 7);
        let second = budget.take(3, 10).unwrap();
        assert!(budget.take(1, 10).is_none());
        drop(first);
        assert_eq!(budget.used(), 3);
        drop(second);
        assert_eq!(budget.used(), 0);
        assert!(budget.take(usize::MAX, usize::MAX).is_some());
        let _one = budget.take(1, 10).unwrap();
        assert!(budget.take(usize::MAX, usize::MAX).is_none());
    }
}
