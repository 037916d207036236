//! Connections to endpoints that end when the way to their endpoint is gone.
//!
//! When a route is withdrawn, packets to its addresses go nowhere: nothing comes back, no reset either, and whoever
//! waits would wait for the whole time-out. The control side tells each worker what was withdrawn ([`Mailbox`]); the
//! worker marks its own connections there. A request pays nothing for it: only the task that drives a connection
//! listens.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::snapshot::{Snapshot, Withdrawn};
use crate::timer::LazyTimer;

/// How long an answer that has begun, or a tunnel, may stand still once its endpoint is unrouted. Routes that come back
/// within it cost nobody anything.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// What was withdrawn and one worker has not seen yet. Locked when a snapshot withdraws something, never by a request.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    waiting: Mutex<Withdrawn>,
    arrived: Notify,
}

impl Mailbox {
    pub(crate) fn put(&self, withdrawn: &Withdrawn) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(withdrawn);
        self.arrived.notify_one();
    }

    /// Cancel-safe: yes.
    pub(crate) async fn take(&self) -> Withdrawn {
        self.arrived.notified().await;
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The connections to endpoints that one worker has, in the order of their addresses.
#[derive(Debug)]
pub(crate) struct Wires {
    all: RefCell<BTreeMap<(SocketAddr, u64), Weak<Wire>>>,
    next: Cell<u64>,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

/// One connection to an endpoint, from before it is made until it is closed.
#[derive(Debug)]
pub(crate) struct Wire {
    key: (SocketAddr, u64),
    wires: Rc<Wires>,
    unrouted: Cell<bool>,
    /// Its endpoint is in no pool any more.
    retired: Cell<bool>,
    /// An answer is on its way over it.
    answering: Cell<bool>,
    /// Pieces of answers that came.
    pieces: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    timer: RefCell<LazyTimer>,
}

impl Wires {
    pub(crate) fn new(snapshot: Arc<ArcSwap<Snapshot>>) -> Rc<Self> {
        Rc::new(Self {
            all: RefCell::default(),
            next: Cell::new(0),
            snapshot,
        })
    }

    pub(crate) fn add(self: &Rc<Self>, address: SocketAddr) -> Rc<Wire> {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let wire = Rc::new(Wire {
            key: (address, number),
            wires: Rc::clone(self),
            unrouted: Cell::new(false),
            retired: Cell::new(false),
            answering: Cell::new(false),
            pieces: Cell::new(0),
            waker: RefCell::default(),
            timer: RefCell::default(),
        });
        self.all.borrow_mut().insert(wire.key, Rc::downgrade(&wire));
        wire
    }

    /// Marks what leads to addresses that are unrouted, still, and to endpoints that are gone; gives the number of the
    /// former.
    pub(crate) fn withdraw(&self, withdrawn: &Withdrawn) -> usize {
        let mut unrouted = 0;
        for ip in &withdrawn.unrouted {
            if !self.is_unrouted(*ip) {
                continue;
            }
            let (first, last) = (SocketAddr::new(*ip, 0), SocketAddr::new(*ip, u16::MAX));
            for wire in self.between(first, last) {
                unrouted += 1;
                wire.unrouted.set(true);
                if let Some(waker) = wire.waker.take() {
                    waker.wake();
                }
            }
        }
        for address in &withdrawn.gone {
            for wire in self.between(*address, *address) {
                wire.retired.set(true);
            }
        }
        unrouted
    }

    fn between(&self, first: SocketAddr, last: SocketAddr) -> Vec<Rc<Wire>> {
        self.all
            .borrow()
            .range((first, 0)..=(last, u64::MAX))
            .filter_map(|(_, wire)| wire.upgrade())
            .collect()
    }

    fn is_unrouted(&self, ip: IpAddr) -> bool {
        self.snapshot.load().is_unrouted(ip)
    }
}

impl Wire {
    pub(crate) fn is_unrouted(&self) -> bool {
        self.unrouted.get()
    }

    /// Ready at `due`: the timer of whoever uses the connection at the time.
    pub(crate) fn poll_timer(&self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        self.timer.borrow_mut().poll(cx, due)
    }

    /// Whether another request may go over it.
    pub(crate) fn is_good(&self) -> bool {
        !self.unrouted.get() && !self.retired.get()
    }

    /// An answer has begun, or the last one has ended.
    pub(crate) fn answering(&self, answering: bool) {
        self.answering.set(answering);
    }

    /// A piece of an answer came.
    pub(crate) fn moved(&self) {
        self.pieces.set(self.pieces.get().wrapping_add(1));
    }

    /// Ready when the endpoint is unrouted. One task at a time may wait.
    pub(crate) fn poll_unrouted(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unrouted.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether the endpoint is unrouted still, after a grace; if not, all is as it was before.
    pub(crate) fn is_unrouted_still(&self) -> bool {
        self.unrouted.set(self.wires.is_unrouted(self.key.0.ip()));
        self.unrouted.get()
    }

    /// Ends when the connection is to be cut: at once where nothing has come yet, else when nothing comes for a while.
    ///
    /// Cancel-safe: yes.
    pub(crate) async fn cut(&self) {
        loop {
            std::future::poll_fn(|cx| self.poll_unrouted(cx)).await;
            if !self.answering.get() {
                return;
            }
            let before = self.pieces.get();
            sleep(GRACE).await;
            if self.is_unrouted_still() && self.pieces.get() == before {
                return;
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.wires.all.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use sekisho_config::model::{Desired, Observed, Reach, Revision, Routing, Unroutable};

    use super::*;
    use crate::snapshot::compile;

    /// A snapshot that knows of one address only whether it is routed.
    fn snapshot(ip: IpAddr, routed: bool) -> Arc<Snapshot> {
        let mut observed = Observed::default();
        if !routed {
            let why = Unroutable::NoRoute;
            observed.reach.insert(ip, Reach::Unroutable { why });
        }
        let (before, desired) = (Snapshot::default(), Desired::default());
        Arc::new(compile(
            &before,
            &desired,
            &observed,
            Routing::Required,
            Revision(1),
        ))
    }

    fn wires(ip: IpAddr, routed: bool) -> Rc<Wires> {
        Wires::new(Arc::new(ArcSwap::new(snapshot(ip, routed))))
    }

    fn unrouted(ip: IpAddr) -> Withdrawn {
        Withdrawn {
            unrouted: [ip].into(),
            ..Withdrawn::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_cut_at_once_and_what_answers_after_a_grace() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let wires = wires(ip, false);
        let waiting = wires.add(SocketAddr::new(ip, 80));
        let answering = wires.add(SocketAddr::new(ip, 81));
        let elsewhere = wires.add("10.0.0.2:80".parse().unwrap());
        answering.answering(true);
        assert!(waiting.cut().now_or_never().is_none());
        assert_eq!(wires.withdraw(&unrouted(ip)), 2);
        assert!(waiting.cut().now_or_never().is_some());
        assert!(elsewhere.cut().now_or_never().is_none() && elsewhere.is_good());
        // Progress within the grace begins another one.
        let begun = tokio::time::Instant::now();
        tokio::join!(answering.cut(), async {
            sleep(GRACE / 2).await;
            answering.moved();
        });
        assert_eq!(begun.elapsed(), GRACE * 2);
        assert!(!answering.is_good());
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_that_comes_back_saves_what_answers() {
        let ip: IpAddr = "2001:db8::1".parse().unwrap();
        let wires = wires(ip, false);
        let wire = wires.add(SocketAddr::new(ip, 80));
        wire.answering(true);
        wires.withdraw(&unrouted(ip));
        wires.snapshot.store(snapshot(ip, true));
        let cut = tokio::time::timeout(GRACE * 10, wire.cut()).await;
        assert!(cut.is_err() && wire.is_good());
        // News that are no longer true cut nothing.
        assert_eq!(wires.withdraw(&unrouted(ip)), 0);
        assert!(wire.is_good());
    }

    #[test]
    fn what_is_gone_is_not_used_again_and_what_is_dropped_is_forgotten() {
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let wires = wires(address.ip(), true);
        let (wire, other) = (wires.add(address), wires.add("10.0.0.1:81".parse().unwrap()));
        let gone = Withdrawn {
            gone: [address].into(),
            ..Withdrawn::default()
        };
        wires.withdraw(&gone);
        assert!(!wire.is_good() && !wire.is_unrouted() && other.is_good());
        drop((wire, other));
        assert!(wires.all.borrow().is_empty());
    }
}
