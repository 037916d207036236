//! The speaker: one task that owns the peers and the routing table, and the handle that others hold.

#[cfg(test)]
mod conformance;
mod listen;
mod next_hop;
mod peer;
mod rates;
mod task;
#[cfg(test)]
mod tests;
mod thread;

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdSet;
use prometheus::Registry;
use sekisho_config::model::{Bgp, PeerName, Prefix, Reach, Routing};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announce::Plan;
use crate::bmp;
use crate::error::StartError;
use crate::fib;
use crate::metrics::Metrics;
use crate::mrt;
use crate::policy::RejectedView;
use crate::rib::{HeldPath, Owners, RouteCount, RouteQuery, RouteView};
use crate::view::{ListenerView, PeerView, VipView};

/// What the speaker needs.
#[derive(Debug)]
pub struct Inputs {
    /// Who we are and whom we speak with.
    pub bgp: Bgp,
    /// Whether the kernel's own routes count for reachability.
    pub routing: Routing,
    /// Where its tasks are counted.
    pub tasks: TaskTracker,
    /// Ends it: sessions are told, kernel routes stay. For the orderly end call [`Handle::finish`] first.
    pub stop: CancellationToken,
}

/// What the speaker tells control. The queue is bounded; what waits is folded, so only the latest of each is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Answers about tracked addresses that are new or differ; `None`: no longer tracked.
    Reach(Vec<(IpAddr, Option<Reach>)>),
    /// A session came up or went down.
    Peer {
        /// Whose.
        name: PeerName,
        /// Whether it stands now.
        established: bool,
    },
}

/// Events that may wait for control.
const EVENTS: usize = 64;

/// Starts the speaker, on three threads of its own: the table; the sessions and listening sockets, so that work on the table
/// cannot cost a hold time; the kernel's routes, since the kernel takes its time. Nothing of it runs on the caller's runtime.
///
/// A socket that cannot be bound is no error: it is reported and tried again.
///
/// # Errors
/// [`StartError`] when the metrics are registered already, or the system gives no thread.
pub async fn start(
    inputs: Inputs,
    registry: &Registry,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let metrics = Metrics::register(registry)?;
    let thread = thread::Thread::start("bgp-sessions").map_err(StartError::Thread)?;
    let table = thread::Thread::start("bgp-table").map_err(StartError::Thread)?;
    let settings = fib::Settings {
        install_routes: inputs.bgp.install_routes,
        table: inputs.bgp.table,
        nexthop_objects: inputs.bgp.nexthop_objects,
    };
    let writer = thread::Thread::start("bgp-kernel").map_err(StartError::Thread)?;
    let kernel = fib::Inputs {
        settings,
        tasks: inputs.tasks.clone(),
        runtime: writer.runtime().clone(),
        stop: inputs.stop.clone(),
    };
    let (kernel, next_hops) = fib::start(kernel, fib::Metrics::register(registry)?);
    let (bgp, bgp_wanted) = watch::channel(inputs.bgp.clone());
    let (plan, plan_wanted) = watch::channel(Arc::new(Plan::default()));
    let (tracked, tracked_wanted) = watch::channel(OrdSet::new());
    let (owners, owners_known) = watch::channel(Owners::new());
    let (draining, draining_wanted) = watch::channel(false);
    let (queries, queries_asked) = mpsc::channel(16);
    let (events, told) = mpsc::channel(EVENTS);
    let wishes = task::Wishes {
        bgp: bgp_wanted,
        plan: plan_wanted,
        tracked: tracked_wanted,
        owners: owners_known,
        draining: draining_wanted,
        queries: queries_asked,
    };
    let feed = bmp::Feed::new();
    let monitoring = bmp::Shared {
        feed: feed.clone(),
        speaker: queries.downgrade(),
        connected: metrics.bmp_connected.clone(),
        resyncs: metrics.bmp_resyncs.clone(),
    };
    let tasks = inputs.tasks.clone();
    let told_the_end = inputs.stop.child_token();
    let collectors = bmp::manage(monitoring, bgp.subscribe(), told_the_end.clone());
    let collectors = tasks.spawn_on(collectors, thread.runtime());
    let around = task::Surroundings {
        feed,
        collectors: (told_the_end, collectors),
        kernel: kernel.clone(),
        next_hops,
        events,
        metrics,
        thread,
        writer,
    };
    let runtime = table.runtime().clone();
    let speaker = task::Speaker::new(inputs, wishes, around);
    let work = async move {
        speaker.run().await;
        // The thread that this runs on ends with it.
        drop(table);
    };
    tasks.spawn_on(work, &runtime);
    let handle = Handle {
        bgp,
        plan,
        tracked,
        owners,
        draining,
        queries,
        kernel,
    };
    Ok((handle, told))
}

/// Speaks to the speaker. Nothing here waits except the views and [`Self::finish`].
#[derive(Clone, Debug)]
pub struct Handle {
    bgp: watch::Sender<Bgp>,
    plan: watch::Sender<Arc<Plan>>,
    tracked: watch::Sender<OrdSet<IpAddr>>,
    owners: watch::Sender<Owners>,
    draining: watch::Sender<bool>,
    queries: mpsc::Sender<Query>,
    kernel: fib::Handle,
}

/// A question to the speaker, with the place for the answer.
#[derive(Debug)]
pub(crate) enum Query {
    Monitored(oneshot::Sender<Vec<bmp::Monitored>>),
    Peers(oneshot::Sender<Vec<PeerView>>),
    Routes(RouteQuery, oneshot::Sender<Vec<RouteView>>),
    Prefixes(oneshot::Sender<Vec<Prefix>>),
    Held(Vec<Prefix>, oneshot::Sender<Vec<HeldPath>>),
    Count(RouteQuery, oneshot::Sender<RouteCount>),
    Rejected(RouteQuery, oneshot::Sender<Vec<RejectedView>>),
    Vips(oneshot::Sender<Vec<VipView>>),
    Listeners(oneshot::Sender<Vec<ListenerView>>),
    Finish(oneshot::Sender<()>),
    Leave(oneshot::Sender<()>),
}

impl Handle {
    /// New settings. Only the peers that differ are touched; `listen` needs a restart.
    pub fn configure(&self, bgp: Bgp) {
        self.bgp.send_if_modified(|now| replace(now, bgp));
    }

    /// The whole set of service addresses.
    pub fn announce(&self, plan: Arc<Plan>) {
        self.plan.send_if_modified(|now| replace(now, plan));
    }

    /// Graceful shutdown (RFC 8326): announces every VIP with the community GRACEFUL_SHUTDOWN, and inside our AS with LOCAL_PREF
    /// 0, so that routers that have another way turn to it while this one still works. `false` takes it back. Wait the
    /// time that routers take to turn away, then withdraw ([`Self::finish`], or a plan that withholds).
    pub fn drain(&self, draining: bool) {
        self.draining.send_if_modified(|now| replace(now, draining));
    }

    /// The whole set of addresses whose reachability is wanted.
    pub fn track(&self, addresses: OrdSet<IpAddr>) {
        self.tracked.send_if_modified(|now| replace(now, addresses));
    }

    /// The whole set of pods whose node is known, each with the node's addresses: of several paths to a prefix the one whose
    /// next hop is the node that runs the prefix's pods is the best, the others are there for when it is gone.
    pub fn owners(&self, owners: Owners) {
        self.owners.send_if_modified(|now| replace(now, owners));
    }

    /// Every peer. Empty when the speaker has ended.
    ///
    /// Cancel-safe: yes.
    pub async fn peers(&self) -> Vec<PeerView> {
        self.ask(Query::Peers).await
    }

    /// Paths in the routing table. Empty when the speaker has ended.
    ///
    /// Cancel-safe: yes.
    pub async fn routes(&self, query: RouteQuery) -> Vec<RouteView> {
        self.ask(|answer| Query::Routes(query, answer)).await
    }

    /// Every prefix of the table, in no order.
    ///
    /// Cancel-safe: yes.
    pub async fn prefixes(&self) -> Vec<Prefix> {
        self.ask(Query::Prefixes).await
    }

    /// Paths of these prefixes as they are held, for whoever writes the table down. Ask for some thousand at a time.
    ///
    /// Cancel-safe: yes.
    pub async fn held(&self, prefixes: Vec<Prefix>) -> Vec<HeldPath> {
        self.ask(|answer| Query::Held(prefixes, answer)).await
    }

    /// Begins an MRT file of the table: its first record.
    ///
    /// Cancel-safe: yes.
    pub async fn dump(&self) -> (mrt::Dump, bytes::Bytes) {
        let collector = self.bgp.borrow().identity.router_id;
        mrt::Dump::begin(jiff::Timestamp::now(), collector, &self.peers().await)
    }

    /// How many paths answer a query, whatever its limit.
    ///
    /// Cancel-safe: yes.
    pub async fn count(&self, query: RouteQuery) -> RouteCount {
        self.ask(|answer| Query::Count(query, answer)).await
    }

    /// Paths that peers say now and that are not let in, with the reason; of one peer at most 500 are listed. Empty when the
    /// speaker has ended.
    ///
    /// Cancel-safe: yes.
    pub async fn rejected(&self, query: RouteQuery) -> Vec<RejectedView> {
        self.ask(|answer| Query::Rejected(query, answer)).await
    }

    /// Every service address, where it is announced, and why not. Empty when the speaker has ended.
    ///
    /// Cancel-safe: yes.
    pub async fn vips(&self) -> Vec<VipView> {
        self.ask(Query::Vips).await
    }

    /// The listening sockets. Empty when the speaker has ended.
    ///
    /// Cancel-safe: yes.
    pub async fn listeners(&self) -> Vec<ListenerView> {
        self.ask(Query::Listeners).await
    }

    /// What of ours is in the kernel, and what stands in the way.
    pub fn kernel(&self) -> fib::State {
        self.kernel.state()
    }

    /// The orderly end: withdraws the VIPs, sends every peer a Cease (administrative shutdown), waits until that is
    /// written, removes the kernel's routes, ends the speaker. Bounded: about 10 s.
    ///
    /// Cancel-safe: yes; the end goes on.
    pub async fn finish(&self) {
        self.ask(Query::Finish).await;
    }

    /// The end of a process that is to be followed by another one at once: with `graceful_restart`, sessions close without a
    /// word where the peer then keeps what it has from us (RFC 4724), elsewhere as in [`Self::finish`]. The kernel's routes and
    /// service addresses stay. Bounded: about 5 s.
    ///
    /// Cancel-safe: yes; the end goes on.
    pub async fn leave(&self) {
        self.ask(Query::Leave).await;
    }

    async fn ask<T: Default>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> T {
        let (answer, answered) = oneshot::channel();
        if self.queries.send(query(answer)).await.is_err() {
            return T::default();
        }
        answered.await.unwrap_or_default()
    }
}

fn replace<T: PartialEq>(now: &mut T, new: T) -> bool {
    let differs = *now != new;
    *now = new;
    differs
}
