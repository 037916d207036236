mod exports;
mod liveness;
mod long_lived;
mod members;
mod returning;
mod sessions;
mod views;

pub(super) use self::liveness::Liveness;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use imbl::OrdSet;
use sekisho_config::model::{Bgp, PeerName, Reach, Routing};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::listen::{Listeners, Signers, listen, signers};
use super::next_hop::next_hops_on;
use super::peer::Peer;
use super::thread::Thread;
use super::{Event, Inputs, Query};
use crate::announce::Plan;
use crate::bfd;
use crate::fib;
use crate::metrics::Metrics;
use crate::policy::Floor;
use crate::rib::{Delta, Local, NextHops as Kernel, Owners, Rest, Rib, Tracker};
use crate::session::{Adverts, NextHops, Report, SessionKey, Wanted, vip_key};
use crate::wire::{Families, Notification};
use exports::Exports;
use returning::Returning;

/// How long a peer with too many paths is kept away that is not to come back by itself: longer than anybody waits.
const FOR_GOOD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Peers that ranges may let in.
pub(super) const MAX_RANGE_PEERS: usize = if cfg!(test) { 6 } else { 8192 };

/// Reports of all sessions that may wait; a session has one there at a time, and the waiting are served in turn.
const REPORTS: usize = 16;

/// Connections that a session has not looked at.
const ACCEPTED: usize = 4;

/// How long sessions may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long collectors may take to hear that this is the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between two log lines about one stranger.
const STRANGER_LOG: Duration = Duration::from_secs(60);

/// What others want of the speaker.
pub(super) struct Wishes {
    pub(super) bgp: watch::Receiver<Bgp>,
    pub(super) plan: watch::Receiver<Arc<Plan>>,
    pub(super) tracked: watch::Receiver<OrdSet<IpAddr>>,
    pub(super) owners: watch::Receiver<Owners>,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) queries: mpsc::Receiver<Query>,
}

/// What the speaker works with.
pub(super) struct Surroundings {
    pub(super) feed: crate::bmp::Feed,
    /// Ends the connections to collectors, and what then ends.
    pub(super) collectors: (CancellationToken, JoinHandle<()>),
    pub(super) kernel: fib::Handle,
    pub(super) next_hops: watch::Receiver<Kernel>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) metrics: Metrics,
    pub(super) thread: Thread,
    /// Where the kernel's routes are written.
    pub(super) writer: Thread,
}

/// The queue of all sessions, both ends.
type Reports = (
    mpsc::Sender<(SessionKey, Report)>,
    mpsc::Receiver<(SessionKey, Report)>,
);

/// The one writer of the routing table.
pub(super) struct Speaker {
    bgp: Bgp,
    routing: Routing,
    plan: Arc<Plan>,
    floor: Floor,
    rib: Rib,
    exports: Exports,
    /// Reports taken in since [`Self::exports`] changed.
    untold_rounds: u32,
    tracker: Tracker,
    kernel: fib::Handle,
    next_hops: watch::Receiver<Kernel>,
    peers: BTreeMap<IpAddr, Peer>,
    keys: HashMap<SessionKey, IpAddr>,
    next_key: SessionKey,
    /// Sessions that were told to end.
    leaving: Vec<JoinHandle<()>>,
    wishes: Wishes,
    reports: Reports,
    accepted: mpsc::Receiver<(TcpStream, SocketAddr)>,
    listeners: Listeners,
    signers: watch::Sender<Signers>,
    events: mpsc::Sender<Event>,
    untold_reach: BTreeMap<IpAddr, Option<Reach>>,
    untold_peers: BTreeMap<PeerName, bool>,
    strangers: BTreeMap<IpAddr, Instant>,
    converged: bool,
    /// Families of which an earlier process left routes in the kernel.
    preserved: Families,
    /// Until when peers hear that this process has restarted.
    returned_until: Option<std::time::Instant>,
    returning: Option<Returning>,
    bfd: bfd::Handle,
    /// Tells collectors.
    feed: crate::bmp::Feed,
    collectors: (CancellationToken, JoinHandle<()>),
    bfd_priority: Option<bfd::Priority>,
    thread: Thread,
    /// Kept until we end.
    _writer: Thread,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
    dice: RandomState,
}

impl Speaker {
    pub(super) fn new(inputs: Inputs, wishes: Wishes, around: Surroundings) -> Self {
        let Inputs {
            bgp,
            routing,
            tasks,
            stop,
        } = inputs;
        let Surroundings {
            feed,
            collectors,
            kernel,
            next_hops,
            events,
            metrics,
            thread,
            writer,
        } = around;
        let (connections, accepted) = mpsc::channel(16);
        let (signers, signers_taken) = watch::channel(signers(&bgp));
        let listeners = Listeners::default();
        for address in &bgp.listen {
            let work = listen(
                *address,
                listeners.clone(),
                signers_taken.clone(),
                connections.clone(),
                metrics.clone(),
                stop.clone(),
            );
            tasks.spawn_on(work, thread.runtime());
        }
        Self {
            rib: Rib::new(local(&bgp, routing)),
            exports: Exports::default(),
            untold_rounds: 0,
            tracker: Tracker::default(),
            plan: Arc::default(),
            floor: Floor::default(),
            peers: BTreeMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            leaving: Vec::new(),
            reports: mpsc::channel(REPORTS),
            untold_reach: BTreeMap::new(),
            untold_peers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            converged: false,
            preserved: Families::NONE,
            returned_until: None,
            returning: None,
            thread,
            bfd: bfd::Handle::new(bfd::PORTS, metrics.bfd_discarded()),
            bfd_priority: None,
            feed,
            collectors,
            _writer: writer,
            dice: RandomState::new(),
            bgp,
            routing,
            kernel,
            next_hops,
            wishes,
            accepted,
            listeners,
            signers,
            events,
            metrics,
            tasks,
            stop,
        }
    }

    pub(super) async fn run(mut self) {
        self.look_back().await;
        self.raise_floor();
        self.match_peers();
        // What was there before we came counts as news as well.
        self.next_hops.mark_changed();
        let mut housekeeping = interval(Duration::from_secs(1));
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            self.tell_exports();
            let untold = !self.untold_reach.is_empty() || !self.untold_peers.is_empty();
            tokio::select! {
                () = stop.cancelled() => return self.say_goodbye().await,
                query = self.wishes.queries.recv() => match query {
                    Some(Query::Finish(done)) => return self.finish(done).await,
                    Some(Query::Leave(done)) => {
                        self.goodbye(true).await;
                        let _ = done.send(());
                        return;
                    }
                    Some(query) => self.answer(query),
                    // Nobody holds the handle any more.
                    None => return self.say_goodbye().await,
                },
                Ok(()) = self.wishes.bgp.changed() => {
                    let bgp = self.wishes.bgp.borrow_and_update().clone();
                    self.configure(bgp);
                }
                Ok(()) = self.wishes.plan.changed() => {
                    let plan = Arc::clone(&self.wishes.plan.borrow_and_update());
                    let pools_changed = self.plan.pools != plan.pools;
                    self.plan = plan;
                    self.raise_floor();
                    self.kernel.vips(self.plan.local().collect::<BTreeSet<_>>());
                    self.kernel.unreachable(self.plan.wholes());
                    if pools_changed {
                        self.pass_on_anew();
                    } else {
                        self.order_all();
                    }
                    self.go_on_returning();
                }
                Ok(()) = self.wishes.draining.changed() => {
                    let draining = *self.wishes.draining.borrow_and_update();
                    info!(draining, "graceful shutdown of the announced VIPs (RFC 8326)");
                    self.order_all();
                }
                Ok(()) = self.wishes.tracked.changed() => {
                    let tracked = self.wishes.tracked.borrow_and_update().clone();
                    let answers = self.tracker.track(tracked, &self.rib);
                    self.untold_reach.extend(answers);
                }
                Ok(()) = self.wishes.owners.changed() => {
                    let owners = self.wishes.owners.borrow_and_update().clone();
                    let delta = self.rib.set_owners(owners);
                    self.spread(delta);
                }
                Ok(()) = self.next_hops.changed() => {
                    let next_hops = self.next_hops.borrow_and_update().clone();
                    self.raise_floor();
                    let (first, rest) = self.rib.begin_next_hops(next_hops);
                    self.spread_all(first, rest);
                    self.order_all();
                }
                // Before the reports: what a session says may have waited longer.
                () = self.bfd.news() => self.look_at_bfd(),
                Some((stream, from)) = self.accepted.recv() => self.connected(stream, from),
                Some((key, report)) = self.reports.1.recv() => self.reported(key, report),
                permit = self.events.clone().reserve_owned(), if untold => match permit {
                    Ok(permit) => drop(permit.send(self.next_event())),
                    Err(_) => {
                        self.untold_reach.clear();
                        self.untold_peers.clear();
                    }
                },
                _ = housekeeping.tick() => {
                    self.check_bfd();
                    self.keep_house();
                    self.go_on_returning();
                }
            };
        }
    }

    /// The oldest news first: which sessions stand explains which addresses are reached.
    fn next_event(&mut self) -> Event {
        match self.untold_peers.pop_first() {
            Some((name, established)) => Event::Peer { name, established },
            None => Event::Reach(std::mem::take(&mut self.untold_reach).into_iter().collect()),
        }
    }

    /// Hands a change of the table to the kernel and to control.
    fn spread(&mut self, delta: Delta) {
        if delta.is_empty() {
            return;
        }
        self.untold_reach.extend(self.tracker.changed(&delta, &self.rib));
        self.pass_on(&delta.changed);
        if self.bgp.install_routes && !self.defers() {
            self.kernel.routes(delta.ways, delta.fib);
        }
    }

    /// The kernel first: what leads elsewhere now is few, who goes that way may be many. Those in pieces, so that the kernel's task
    /// has taken the first in while the table looks at the next.
    fn spread_all(&mut self, first: Delta, mut rest: Rest) {
        self.spread(first);
        while let Some(piece) = self.rib.go_on(&mut rest) {
            self.spread(piece);
        }
    }

    /// What no node may say, after the kernel, the peers or the plan changed.
    fn raise_floor(&mut self) {
        let peers = self.bgp.peers.iter().map(|peer| peer.address.to_canonical());
        self.floor = Floor::new(&self.plan, &self.next_hops.borrow(), peers);
    }

    // Announcements.

    fn order_all(&mut self) {
        let all: Vec<_> = self.peers.keys().copied().collect();
        for address in all {
            self.order(address);
        }
    }

    /// Gives a session its wanted state, if that differs.
    fn order(&mut self, address: IpAddr) {
        let Some(peer) = self.peers.get(&address) else {
            return;
        };
        let draining = *self.wishes.draining.borrow();
        let export = peer.export(&self.bgp.identity, draining);
        let announced = self.plan.announced_to(&peer.wanted.name, peer.wanted.role);
        let mut vips = Adverts::new();
        for (prefix, set) in announced {
            if let Ok(advert) = export.vip(&prefix, set) {
                vips.insert(vip_key(prefix), Arc::new(advert));
            }
        }
        let pods = if peer.wanted.pass_on.pods && peer.established() && !self.defers() {
            self.exports
                .of(export, peer.add_path(), &self.plan, &self.rib, &self.peers)
        } else {
            Adverts::new()
        };
        let next_hops = if vips.is_empty() && !peer.wanted.pass_on.pods {
            NextHops::default()
        } else {
            let kernel = self.next_hops.borrow();
            next_hops_on(peer.interface(&kernel), &kernel, &self.plan)
        };
        let interval = peer.wanted.pass_on.interval;
        let unfinished = self.returning.is_some();
        peer.orders.send_if_modified(|orders| {
            let now = &mut orders.wanted;
            let differs = now.vips != vips
                || !now.pods.ptr_eq(&pods)
                || now.next_hops != next_hops
                || now.interval != interval
                || now.unfinished != unfinished
                || now.sessions != peer.sessions;
            *now = Wanted {
                vips,
                pods,
                next_hops,
                interval,
                sessions: peer.sessions,
                unfinished,
            };
            differs
        });
    }

    // The end.

    async fn finish(mut self, done: oneshot::Sender<()>) {
        let kernel = self.kernel.clone();
        self.goodbye(false).await;
        kernel.finish().await;
        let _ = done.send(());
    }

    async fn say_goodbye(mut self) {
        self.goodbye(false).await;
    }

    /// Sessions withdraw what they announced, send Cease and close; bounded. `back_soon`: those whose peers then keep it
    /// close without a word.
    async fn goodbye(&mut self, back_soon: bool) {
        // Peers are told that BFD ends, so that they do not take it for a failure.
        self.bfd = bfd::Handle::new(bfd::PORTS, self.metrics.bfd_discarded());
        let farewell = Notification::shutdown("Sekisho is stopping");
        let mut tasks = std::mem::take(&mut self.leaving);
        for (_, peer) in std::mem::take(&mut self.peers) {
            peer.orders.send_modify(|orders| {
                orders.stop = Some(farewell.clone());
                orders.leave = back_soon;
            });
            tasks.push(peer.task);
        }
        let all = join_all(tasks);
        tokio::pin!(all);
        let gone = timeout(GOODBYE, async {
            loop {
                tokio::select! {
                    _ = &mut all => return,
                    // A session that has something to tell must not wait for us.
                    _ = self.reports.1.recv() => {}
                }
            }
        });
        if gone.await.is_err() {
            warn!("some BGP peers did not take our goodbye in time");
        }
        // They run on the thread that ends with us.
        let (end, collectors) = &mut self.collectors;
        end.cancel();
        if timeout(LAST_WORDS, collectors).await.is_err() {
            warn!("some BMP collectors did not take our goodbye in time");
        }
    }
}

fn local(bgp: &Bgp, routing: Routing) -> Local {
    Local {
        asn: bgp.identity.asn,
        router_id: bgp.identity.router_id,
        cluster_id: bgp.identity.cluster_id,
        kernel_fallback: routing == Routing::Preferred,
        multipath: bgp.multipath,
    }
}
