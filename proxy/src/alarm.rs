//! Coarse alarms: one slot for each connection in a table that the worker looks over now and then. Nearly every wait of a
//! connection ends long before its time; setting an alarm for it costs a store, and nothing when it is not needed.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// How often the worker looks: how late an alarm may be.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// The alarms of one worker.
#[derive(Debug, Default)]
pub(crate) struct Alarms(RefCell<Table>);

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Slot {
    due: Option<Instant>,
    waker: Option<Waker>,
}

/// One task's place in the table, for the one task that polls it.
#[derive(Debug)]
pub(crate) struct Alarm {
    alarms: Rc<Alarms>,
    place: usize,
}

impl Alarms {
    pub(crate) fn add(self: &Rc<Self>) -> Alarm {
        let mut table = self.0.borrow_mut();
        let place = table.free.pop().unwrap_or_else(|| {
            table.slots.push(Slot::default());
            table.slots.len() - 1
        });
        Alarm {
            alarms: Rc::clone(self),
            place,
        }
    }

    /// Wakes the tasks whose time has come.
    pub(crate) fn ring(&self, now: Instant) {
        for slot in &mut self.0.borrow_mut().slots {
            if slot.due.is_some_and(|due| due <= now) {
                slot.due = None;
                if let Some(waker) = &slot.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Wakes all tasks: something has changed for all of them.
    pub(crate) fn ring_all(&self) {
        for slot in &self.0.borrow().slots {
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }
}

impl Alarm {
    /// Ready when `due` has passed. The task may be woken for nothing.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        if due <= clock::now() {
            return Poll::Ready(());
        }
        if let Some(slot) = self.alarms.0.borrow_mut().slots.get_mut(self.place) {
            if slot.due.is_none_or(|other| due < other) {
                slot.due = Some(due);
            }
            slot.wake_with(cx.waker());
        }
        Poll::Pending
    }

    /// Wakes nobody any more.
    pub(crate) fn quiet(&self) {
        let mut table = self.alarms.0.borrow_mut();
        if let Some(slot) = table.slots.get_mut(self.place) {
            // Dropped outside of the borrow: a waker may hold the last share of a task.
            let old = std::mem::take(slot);
            drop(table);
            drop(old);
        }
    }

    /// Has the task woken by [`Alarms::ring_all`] from now on.
    pub(crate) fn register(&self, waker: &Waker) {
        if let Some(slot) = self.alarms.0.borrow_mut().slots.get_mut(self.place) {
            slot.wake_with(waker);
        }
    }
}

impl Slot {
    fn wake_with(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut table = self.alarms.0.borrow_mut();
        if let Some(slot) = table.slots.get_mut(self.place) {
            // Dropped outside of the borrow: a waker may hold the last share of a task.
            let old = std::mem::take(slot);
            table.free.push(self.place);
            drop(table);
            drop(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_earliest_wish_counts() {
        let alarms = Rc::new(Alarms::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let now = clock::turn();
        let after = |seconds| now + Duration::from_secs(seconds);
        let rung = || count.0.swap(0, Ordering::Relaxed);
        let (one, two) = (alarms.add(), alarms.add());
        assert!(one.poll(&mut cx, now).is_ready());
        assert!(one.poll(&mut cx, after(5)).is_pending());
        assert!(one.poll(&mut cx, after(3)).is_pending());
        assert!(one.poll(&mut cx, after(9)).is_pending());
        assert!(two.poll(&mut cx, after(4)).is_pending());
        alarms.ring(after(2));
        assert_eq!(rung(), 0);
        alarms.ring(after(3));
        assert_eq!(rung(), 1);
        alarms.ring(after(10));
        assert_eq!(rung(), 1, "a wish is fulfilled once");
        alarms.ring_all();
        assert_eq!(rung(), 2);
        drop(one);
        alarms.ring_all();
        assert_eq!(rung(), 1);
        let three = alarms.add();
        assert!(two.poll(&mut cx, after(4)).is_pending());
        two.quiet();
        alarms.ring(after(5));
        alarms.ring_all();
        assert_eq!(rung(), 0);
        assert_eq!(three.place, 0);
    }
}
