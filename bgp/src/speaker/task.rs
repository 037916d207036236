use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use imbl::OrdSet;
use sekisho_config::model::{Bgp, PeerName, Prefix, Reach, Role, Routing};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::import::import;
use super::listen::{Listeners, listen};
use super::next_hop::{interface_to, other_next_hop};
use super::peer::{Peer, Wanted};
use super::thread::SessionThread;
use super::{Event, Inputs, Query};
use crate::announce::Plan;
use crate::error::cease;
use crate::fib;
use crate::fsm::{Ended, Terms, Timers};
use crate::metrics::Metrics;
use crate::rib::{Counts, Delta, Local, NextHops, PeerInfo, Rib, Tracker};
use crate::session::{Channels, Orders, Report, Session, SessionKey, Settings, Shared};
use crate::view::{Missing, MissingView, PeerView, VipView};
use crate::wire::{Families, Notification, Update};

/// How long a peer with too many paths is kept away.
const TOO_MANY_HOLD_OFF: Duration = Duration::from_secs(300);

/// Peers that ranges may let in.
const MAX_RANGE_PEERS: usize = 1024;

/// Reports of all sessions that may wait; a session has one there at a time, and the waiting are served in turn.
const REPORTS: usize = 64;

/// Connections that a session has not looked at.
const ACCEPTED: usize = 4;

/// How long sessions may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Between two log lines about one stranger.
const STRANGER_LOG: Duration = Duration::from_secs(60);

/// What others want of the speaker.
pub(super) struct Wishes {
    pub(super) bgp: watch::Receiver<Bgp>,
    pub(super) plan: watch::Receiver<Arc<Plan>>,
    pub(super) tracked: watch::Receiver<OrdSet<IpAddr>>,
    pub(super) queries: mpsc::Receiver<Query>,
}

/// What the speaker works with.
pub(super) struct Surroundings {
    pub(super) kernel: fib::Handle,
    pub(super) next_hops: watch::Receiver<NextHops>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) metrics: Metrics,
    pub(super) thread: SessionThread,
    /// Paths that one peer may hold here.
    pub(super) max_paths: usize,
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
    rib: Rib,
    tracker: Tracker,
    kernel: fib::Handle,
    next_hops: watch::Receiver<NextHops>,
    peers: BTreeMap<IpAddr, Peer>,
    keys: HashMap<SessionKey, IpAddr>,
    next_key: SessionKey,
    /// Sessions that were told to end.
    leaving: Vec<JoinHandle<()>>,
    wishes: Wishes,
    reports: Reports,
    accepted: mpsc::Receiver<(TcpStream, SocketAddr)>,
    listeners: Listeners,
    events: mpsc::Sender<Event>,
    untold_reach: BTreeMap<IpAddr, Option<Reach>>,
    untold_peers: BTreeMap<PeerName, bool>,
    strangers: BTreeMap<IpAddr, Instant>,
    converged: bool,
    max_paths: usize,
    thread: SessionThread,
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
            kernel,
            next_hops,
            events,
            metrics,
            thread,
            max_paths,
        } = around;
        let (connections, accepted) = mpsc::channel(16);
        let listeners = Listeners::default();
        for address in &bgp.listen {
            let work = listen(
                *address,
                listeners.clone(),
                connections.clone(),
                metrics.clone(),
                stop.clone(),
            );
            tasks.spawn_on(work, thread.runtime());
        }
        Self {
            rib: Rib::new(local(&bgp, routing)),
            tracker: Tracker::default(),
            plan: Arc::default(),
            peers: BTreeMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            leaving: Vec::new(),
            reports: mpsc::channel(REPORTS),
            untold_reach: BTreeMap::new(),
            untold_peers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            converged: false,
            max_paths,
            thread,
            dice: RandomState::new(),
            bgp,
            routing,
            kernel,
            next_hops,
            wishes,
            accepted,
            listeners,
            events,
            metrics,
            tasks,
            stop,
        }
    }

    pub(super) async fn run(mut self) {
        self.match_peers();
        // What was there before we came counts as news as well.
        self.next_hops.mark_changed();
        let mut housekeeping = interval(Duration::from_secs(1));
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            let untold = !self.untold_reach.is_empty() || !self.untold_peers.is_empty();
            tokio::select! {
                () = stop.cancelled() => return self.say_goodbye().await,
                query = self.wishes.queries.recv() => match query {
                    Some(Query::Finish(done)) => return self.finish(done).await,
                    Some(query) => self.answer(query),
                    // Nobody holds the handle any more.
                    None => return self.say_goodbye().await,
                },
                Ok(()) = self.wishes.bgp.changed() => {
                    let bgp = self.wishes.bgp.borrow_and_update().clone();
                    self.configure(bgp);
                }
                Ok(()) = self.wishes.plan.changed() => {
                    self.plan = Arc::clone(&self.wishes.plan.borrow_and_update());
                    self.kernel.vips(self.plan.local().collect::<BTreeSet<_>>());
                    self.order_all();
                }
                Ok(()) = self.wishes.tracked.changed() => {
                    let tracked = self.wishes.tracked.borrow_and_update().clone();
                    let answers = self.tracker.track(tracked, &self.rib);
                    self.untold_reach.extend(answers);
                }
                Ok(()) = self.next_hops.changed() => {
                    let next_hops = self.next_hops.borrow_and_update().clone();
                    let delta = self.rib.next_hops_changed(next_hops);
                    self.spread(delta);
                    self.order_all();
                }
                Some((stream, from)) = self.accepted.recv() => self.connected(stream, from),
                Some((key, report)) = self.reports.1.recv() => self.reported(key, report),
                permit = self.events.clone().reserve_owned(), if untold => match permit {
                    Ok(permit) => drop(permit.send(self.next_event())),
                    Err(_) => {
                        self.untold_reach.clear();
                        self.untold_peers.clear();
                    }
                },
                _ = housekeeping.tick() => self.keep_house(),
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
        if !delta.fib.is_empty() {
            self.kernel.routes(delta.fib);
        }
    }

    // Peers: who is there.

    fn configure(&mut self, bgp: Bgp) {
        if bgp.listen != self.bgp.listen {
            warn!("bgp.listen has changed; it names sockets and takes effect after a restart");
        }
        let settings = fib::Settings {
            install_routes: bgp.install_routes,
            table: bgp.table,
        };
        self.kernel.configure(settings);
        let identity_changed = bgp.identity != self.bgp.identity;
        self.bgp = bgp;
        if identity_changed {
            info!("AS, router id or hold time changed; every session is opened anew");
            let all: Vec<_> = self.peers.keys().copied().collect();
            for address in all {
                self.remove(address, &Notification::cease(cease::CONFIGURATION));
            }
            let delta = self.rib.configure(local(&self.bgp, self.routing));
            self.spread(delta);
        }
        self.match_peers();
    }

    /// Makes the peers match the configuration; leaves alone those that do.
    fn match_peers(&mut self) {
        let mut wanted: BTreeMap<IpAddr, Wanted> = BTreeMap::new();
        for peer in &self.bgp.peers {
            let peer = Wanted::from(peer);
            wanted.entry(peer.address).or_insert(peer);
        }
        let gone: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(address, peer)| {
                let now = wanted.get(address).cloned();
                let now = now.or_else(|| Wanted::from_ranges(*address, &self.bgp));
                match now {
                    Some(now) if now == peer.wanted => None,
                    Some(_) => Some((*address, cease::CONFIGURATION)),
                    None => Some((*address, cease::DECONFIGURED)),
                }
            })
            .collect();
        for (address, subcode) in gone {
            self.remove(address, &Notification::cease(subcode));
        }
        for (address, peer) in wanted {
            if !self.peers.contains_key(&address) {
                self.add(peer);
            }
        }
    }

    fn add(&mut self, wanted: Wanted) {
        let key = self.next_key;
        self.next_key = self.next_key.saturating_add(1);
        info!(peer = %wanted.name, address = %wanted.address, asn = %wanted.asn, role = %wanted.role, "BGP peer added");
        let (orders, orders_taken) = watch::channel(Orders::default());
        let (accepted, accepted_taken) = mpsc::channel(ACCEPTED);
        let shared = Shared::new();
        let metrics = self.metrics.peer(&wanted.name);
        let settings = Settings {
            name: wanted.name.clone(),
            address: wanted.socket_address(),
            passive: wanted.passive,
            identity: wanted.identity(&self.bgp.identity),
            timers: Timers::default(),
            seed: self.dice.hash_one(key),
        };
        let channels = Channels {
            key,
            orders: orders_taken,
            accepted: accepted_taken,
            reports: self.reports.0.clone(),
            shared: shared.clone(),
            metrics: metrics.clone(),
        };
        let session = Session::<TcpStream>::new(settings, channels);
        let task = self.tasks.spawn_on(session.run(), self.thread.runtime());
        let address = wanted.address;
        self.keys.insert(key, address);
        let peer = Peer {
            wanted,
            key,
            orders,
            accepted,
            shared,
            metrics,
            task,
            id: None,
            terms: None,
            stale: None,
            awaited: Families::NONE,
            rejected_paths: 0,
            resets: 0,
            idle_since: Instant::now(),
            was_established: false,
        };
        self.peers.insert(address, peer);
        self.order(address);
    }

    fn remove(&mut self, address: IpAddr, notification: &Notification) {
        let Some(peer) = self.peers.remove(&address) else {
            return;
        };
        info!(peer = %peer.wanted.name, reason = %notification, "BGP peer removed");
        self.keys.remove(&peer.key);
        peer.orders
            .send_modify(|orders| orders.stop = Some(notification.clone()));
        self.leaving.retain(|task| !task.is_finished());
        self.leaving.push(peer.task);
        self.metrics.remove(&peer.wanted.name);
        if peer.terms.is_some() {
            self.untold_peers.insert(peer.wanted.name, false);
        }
        if let Some(id) = peer.id {
            let delta = self.rib.forget(id);
            self.spread(delta);
        }
    }

    fn connected(&mut self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        if !self.peers.contains_key(&address) {
            let Some(wanted) = Wanted::from_ranges(address, &self.bgp) else {
                return self.refuse(address, "unknown");
            };
            let range_peers = self
                .peers
                .values()
                .filter(|peer| peer.wanted.range.is_some())
                .count();
            if range_peers >= MAX_RANGE_PEERS {
                return self.refuse(address, "limit");
            }
            self.add(wanted);
        }
        if let Some(peer) = self.peers.get(&address)
            && peer.accepted.try_send(stream).is_err()
        {
            self.metrics.refused.with_label_values(&["busy"]).inc();
        }
    }

    /// Closes a connection without a word.
    fn refuse(&mut self, address: IpAddr, reason: &'static str) {
        self.metrics.refused.with_label_values(&[reason]).inc();
        let now = Instant::now();
        self.strangers
            .retain(|_, logged| now.saturating_duration_since(*logged) < STRANGER_LOG);
        if self.strangers.len() < 256 && !self.strangers.contains_key(&address) {
            self.strangers.insert(address, now);
            warn!(%address, reason, "BGP connection refused: add a [[bgp.peers]] or [[bgp.peer_ranges]] entry if it is meant to come");
        }
    }

    // Sessions: what they say.

    fn reported(&mut self, key: SessionKey, report: Report) {
        let Some(address) = self.keys.get(&key).copied() else {
            return;
        };
        match report {
            Report::Up(terms) => self.up(address, terms),
            Report::Updates(updates) => self.updates(address, &updates),
            Report::Down(ended) => self.down(address, &ended),
        }
    }

    fn up(&mut self, address: IpAddr, terms: Arc<Terms>) {
        let next_hops = self.next_hops.borrow().clone();
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let info = PeerInfo {
            name: peer.wanted.name.clone(),
            address,
            asn: peer.wanted.asn,
            router_id: terms.router_id,
            role: peer.wanted.role,
            interface: interface_to(address, &next_hops),
        };
        let (id, delta) = self.rib.peer_up(info);
        peer.id = Some(id);
        peer.awaited = terms.wire.families;
        peer.was_established = true;
        let mut deltas = vec![delta];
        // RFC 4724 section 4.2: what the peer did not keep forwarding for is over now; the rest must be said again
        // before its restart time is over once more.
        if let Some((stale, _)) = peer.stale.take() {
            let kept = kept(&terms, stale);
            let lost = stale.iter().filter(|family| !kept.contains(*family));
            deltas.extend(lost.map(|family| self.rib.sweep_stale(id, family)));
            if !kept.is_empty() {
                peer.stale = Some((kept, Instant::now() + restart_time(&terms)));
            }
        }
        peer.terms = Some(terms);
        self.untold_peers.insert(peer.wanted.name.clone(), true);
        for delta in deltas {
            self.spread(delta);
        }
        self.order(address);
    }

    fn updates(&mut self, address: IpAddr, updates: &[Update]) {
        let Some(id) = self.peers.get(&address).and_then(|peer| peer.id) else {
            return;
        };
        for update in updates {
            let Some(peer) = self.peers.get_mut(&address) else {
                return;
            };
            let (name, metrics) = (&peer.wanted.name, &self.metrics);
            let rejected_paths = &mut peer.rejected_paths;
            let let_in = import(update, peer.wanted.role, &self.plan, |why| {
                *rejected_paths = rejected_paths.saturating_add(1);
                metrics
                    .rejected_paths
                    .with_label_values(&[name.as_str(), why.as_str()])
                    .inc();
            });
            if let Some(family) = update.end_of_rib {
                peer.awaited = without(peer.awaited, family);
                peer.stale = peer
                    .stale
                    .map(|(families, until)| (without(families, family), until))
                    .filter(|(families, _)| !families.is_empty());
                info!(peer = %peer.wanted.name, %family, "End-of-RIB: the peer has told everything");
            }
            let delta = self.rib.update(id, &let_in);
            self.spread(delta);
        }
        if updates.iter().any(|update| update.end_of_rib.is_some()) {
            self.converge();
        }
        let counts = self.rib.counts(id);
        if let Some(peer) = self.peers.get_mut(&address) {
            show_counts(peer, counts);
            let held = counts.ipv4.saturating_add(counts.ipv6);
            if held > self.max_paths && peer.established() {
                warn!(peer = %peer.wanted.name, held, limit = self.max_paths, "too many paths, ending the session");
                peer.resets = peer.resets.saturating_add(1);
                let number = peer.resets;
                peer.orders.send_modify(|orders| {
                    let notification = Notification::cease(cease::PREFIX_LIMIT);
                    orders.reset = Some((number, notification, TOO_MANY_HOLD_OFF));
                });
            }
        }
    }

    fn down(&mut self, address: IpAddr, ended: &Ended) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let Some(terms) = peer.terms.take() else {
            return;
        };
        peer.idle_since = Instant::now();
        peer.awaited = Families::NONE;
        peer.rejected_paths = 0;
        self.untold_peers.insert(peer.wanted.name.clone(), false);
        let Some(id) = peer.id else {
            return;
        };
        // Only a connection that breaks without a word is a restart (RFC 4724 section 4.2).
        let silent = matches!(ended, Ended::Lost(_) | Ended::Restarted);
        let keep: Vec<_> = if silent && terms.can_restart() {
            restartable(&terms).iter().collect()
        } else {
            vec![]
        };
        peer.stale = (!keep.is_empty()).then(|| {
            let time = restart_time(&terms);
            info!(peer = %peer.wanted.name, seconds = time.as_secs(), "graceful restart: routes are kept while the peer is away");
            (keep.iter().copied().collect(), Instant::now() + time)
        });
        let delta = self.rib.peer_down(id, &keep);
        show_counts(peer, self.rib.counts(id));
        self.spread(delta);
    }

    /// What is due by the clock.
    fn keep_house(&mut self) {
        let now = Instant::now();
        let overdue = |peer: &Peer| peer.stale.is_some_and(|(_, until)| until <= now);
        let expired: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| overdue(peer))
            .map(|(address, _)| *address)
            .collect();
        for address in expired {
            let Some(peer) = self.peers.get_mut(&address) else {
                continue;
            };
            let (Some((families, _)), Some(id)) = (peer.stale.take(), peer.id) else {
                continue;
            };
            warn!(peer = %peer.wanted.name, "graceful restart: the peer did not come back or repeat its routes in time; they are withdrawn");
            for family in families.iter() {
                let delta = self.rib.sweep_stale(id, family);
                self.spread(delta);
            }
            if let Some(peer) = self.peers.get_mut(&address) {
                show_counts(peer, self.rib.counts(id));
            }
        }
        let forgotten: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.forgotten(now))
            .map(|(address, _)| *address)
            .collect();
        for address in forgotten {
            self.remove(address, &Notification::cease(cease::DECONFIGURED));
        }
        let dead: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.task.is_finished())
            .map(|(address, _)| *address)
            .collect();
        for address in dead {
            error!(%address, "the task of a BGP peer died and is started anew; please report this");
            self.remove(address, &Notification::cease(cease::CONFIGURATION));
            self.match_peers();
        }
    }

    /// Tells the kernel once that every configured node has said everything. With ranges nobody knows who is still to
    /// come; the kernel's own time limit decides then.
    fn converge(&mut self) {
        let all = self.bgp.peer_ranges.is_empty()
            && self
                .peers
                .values()
                .filter(|peer| peer.wanted.role == Role::Cluster)
                .all(Peer::has_told_all);
        if all && !self.converged {
            self.converged = true;
            self.kernel.converged();
        }
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
        let announced = self.plan.announced_to(&peer.wanted.name, peer.wanted.role);
        let announce: OrdSet<Prefix> = announced.map(Prefix::host).collect();
        let other = (!announce.is_empty())
            .then(|| other_next_hop(address, &self.next_hops.borrow(), &self.plan))
            .flatten();
        peer.orders.send_if_modified(|orders| {
            let differs = orders.announce != announce || orders.other_next_hop != other;
            orders.announce = announce;
            orders.other_next_hop = other;
            differs
        });
    }

    // Views.

    fn answer(&self, query: Query) {
        // Whoever asked may have gone.
        match query {
            Query::Peers(answer) => drop(answer.send(self.peer_views())),
            Query::Routes(query, answer) => drop(answer.send(self.rib.routes(&query))),
            Query::Vips(answer) => drop(answer.send(self.vip_views())),
            Query::Listeners(answer) => drop(answer.send(self.listeners.views())),
            Query::Finish(_) => {}
        }
    }

    fn peer_views(&self) -> Vec<PeerView> {
        let now = Instant::now();
        let view = |peer: &Peer| peer.view(peer.id.map(|id| self.rib.counts(id)).unwrap_or_default(), now);
        let mut views: Vec<_> = self.peers.values().map(view).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    fn vip_views(&self) -> Vec<VipView> {
        let view = |(address, planned): (&IpAddr, &crate::announce::PlannedVip)| {
            let prefix = Prefix::host(*address);
            let mut announced_to = Vec::new();
            let mut missing = Vec::new();
            for peer in self
                .peers
                .values()
                .filter(|peer| planned.goes_to(&peer.wanted.name, peer.wanted.role))
            {
                let status = peer.shared.lock();
                if status.announced.contains_key(&prefix) {
                    announced_to.push(peer.wanted.name.clone());
                    continue;
                }
                let family = if prefix.is_ipv4() {
                    crate::wire::Family::Ipv4Unicast
                } else {
                    crate::wire::Family::Ipv6Unicast
                };
                let why = match (status.terms.is_some(), status.withheld.get(&family)) {
                    (false, _) => Missing::NotEstablished { state: status.state },
                    (true, Some(why)) => Missing::CannotAnnounce { why: *why },
                    (true, None) => Missing::Queued,
                };
                missing.push(MissingView {
                    peer: peer.wanted.name.clone(),
                    why,
                    text: why.to_string(),
                });
            }
            let withheld = planned.announce.as_ref().err().cloned();
            VipView {
                prefix,
                pool: planned.vip.pool.to_string(),
                withheld_text: withheld.as_ref().map(ToString::to_string),
                withheld,
                announced_to,
                missing,
            }
        };
        self.plan.vips.iter().map(view).collect()
    }

    // The end.

    async fn finish(mut self, done: oneshot::Sender<()>) {
        let kernel = self.kernel.clone();
        self.goodbye().await;
        kernel.finish().await;
        let _ = done.send(());
    }

    async fn say_goodbye(mut self) {
        self.goodbye().await;
    }

    /// Sessions withdraw what they announced, send Cease and close; bounded.
    async fn goodbye(&mut self) {
        let farewell = Notification::shutdown("Sekisho is stopping");
        let mut tasks = std::mem::take(&mut self.leaving);
        for (_, peer) in std::mem::take(&mut self.peers) {
            peer.orders
                .send_modify(|orders| orders.stop = Some(farewell.clone()));
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
    }
}

fn local(bgp: &Bgp, routing: Routing) -> Local {
    Local {
        asn: bgp.identity.asn,
        router_id: bgp.identity.router_id,
        kernel_fallback: routing == Routing::Preferred,
    }
}

/// Families in which the peer can restart.
fn restartable(terms: &Terms) -> Families {
    let restart = terms.graceful_restart.iter();
    restart
        .flat_map(|restart| &restart.families)
        .map(|(family, _)| *family)
        .collect()
}

/// Of the families whose routes are kept, those for which the returning peer says that it went on forwarding.
fn kept(terms: &Terms, stale: Families) -> Families {
    let restart = terms.graceful_restart.iter();
    let forwarding: Families = restart
        .flat_map(|restart| &restart.families)
        .filter(|(_, forwarding)| *forwarding)
        .map(|(family, _)| *family)
        .collect();
    forwarding.common(stale)
}

fn restart_time(terms: &Terms) -> Duration {
    terms
        .graceful_restart
        .as_ref()
        .map(|restart| restart.time)
        .unwrap_or_default()
}

fn without(families: Families, gone: crate::wire::Family) -> Families {
    families.iter().filter(|family| *family != gone).collect()
}

fn show_counts(peer: &Peer, counts: Counts) {
    peer.metrics
        .ipv4
        .set(i64::try_from(counts.ipv4).unwrap_or(i64::MAX));
    peer.metrics
        .ipv6
        .set(i64::try_from(counts.ipv6).unwrap_or(i64::MAX));
}
