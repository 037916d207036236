//! The kernel: best paths and service addresses as routes of our own protocol number, and what the kernel itself
//! knows of links and routes, for the validity of next hops.

mod kernel_view;
mod message;
mod metrics;
mod netlink;
mod nexthop;
mod objects;
mod planner;
mod targets;
mod task;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sekisho_config::model::Prefix;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use metrics::Metrics;

use crate::rib::{ForwardingId, Gateways, NextHops};
use crate::wire::Families;
use task::Task;

/// Protocol number of every route that we write (`ip route show proto 94`). Not in iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 94;

/// Metric of every route that we write: routes of the kernel, of DHCP, of router advertisements and of the operator
/// for the same prefix stay preferred, and nothing else is replaced by ours.
pub const METRIC: u32 = 2048;

/// So many changes may wait beyond what was there after the last folding.
const FOLD: usize = 1 << 16;

/// Longest wait of [`Handle::left_over`].
const FIRST_READING: Duration = Duration::from_secs(2);

/// Longest wait of [`Handle::finish`].
const FINISH_TIMEOUT: Duration = Duration::from_secs(6);

/// What the kernel room needs.
#[derive(Debug)]
pub struct Inputs {
    /// What is written, and where.
    pub settings: Settings,
    /// Where its task is counted.
    pub tasks: TaskTracker,
    /// Where it runs: writing many routes takes the thread for long.
    pub runtime: tokio::runtime::Handle,
    /// Ends the task and leaves the routes; [`Handle::finish`] removes them.
    pub stop: CancellationToken,
}

/// Changeable while running.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// `install_routes`: whether anything is written. Next hops are read in any case.
    pub install_routes: bool,
    /// `table`: where best paths go.
    pub table: u32,
    /// `nexthop_objects`: whether routes share nexthop objects, where the kernel has them.
    pub nexthop_objects: bool,
}

/// Starts the kernel's task. The receiver holds what the kernel knows; it is empty until the first dump.
///
/// Never fails: without netlink, or without CAP_NET_ADMIN, [`State::error`] says so and the task keeps trying.
pub fn start(inputs: Inputs, metrics: Metrics) -> (Handle, watch::Receiver<NextHops>) {
    let Inputs {
        settings,
        tasks,
        runtime,
        stop,
    } = inputs;
    let shared = Arc::new(Shared::default());
    let (sender, receiver) = watch::channel(NextHops::default());
    let task = Task::new(settings, Arc::clone(&shared), metrics, sender, stop);
    tasks.spawn_on(task.run(), &runtime);
    (Handle { shared }, receiver)
}

/// Speaks to the kernel's task. Nothing here waits, except [`Self::finish`].
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// Between handle and task. The locks are held for moments, never across an await; of several changes to one prefix
/// the last counts, so nothing queues up.
#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    state: Mutex<State>,
    wake: Notify,
    /// Of which families an earlier process left routes; `None` before the first reading.
    left_over: watch::Sender<Option<Families>>,
    finishing: CancellationToken,
    finished: CancellationToken,
}

#[derive(Debug, Default)]
struct Inbox {
    /// What is wanted is said anew from here on.
    anew: bool,
    ways: BTreeMap<ForwardingId, Option<Gateways>>,
    /// In the order of arrival.
    routes: Vec<(Prefix, Option<ForwardingId>)>,
    /// So many of them were there after the last folding.
    folded: usize,
    vips: Option<BTreeSet<IpAddr>>,
    unreachable: Option<BTreeSet<Prefix>>,
    settings: Option<Settings>,
    converged: bool,
    finish: bool,
}

impl Inbox {
    fn take(
        &mut self,
        ways: Vec<(ForwardingId, Option<Gateways>)>,
        routes: Vec<(Prefix, Option<ForwardingId>)>,
    ) {
        self.ways.extend(ways);
        if self.routes.is_empty() {
            // Each prefix stands in it once: there is nothing to fold.
            self.folded = routes.len();
            self.routes = routes;
            return;
        }
        self.routes.extend(routes);
        // While the kernel is slow, many changes to few prefixes must not pile up.
        if self.routes.len() > 2 * self.folded + FOLD {
            let latest: HashMap<_, _> = self.routes.drain(..).collect();
            self.routes.extend(latest);
            self.folded = self.routes.len();
        }
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Wanted routes that changed, and the ways that they go: the two lists of a [`crate::rib::Delta`].
    pub fn routes(
        &self,
        ways: Vec<(ForwardingId, Option<Gateways>)>,
        routes: Vec<(Prefix, Option<ForwardingId>)>,
    ) {
        if ways.is_empty() && routes.is_empty() {
            return;
        }
        self.shared.inbox().take(ways, routes);
        self.shared.wake.notify_one();
    }

    /// The same, and nothing beside it is wanted any more.
    pub fn routes_anew(
        &self,
        ways: Vec<(ForwardingId, Option<Gateways>)>,
        routes: Vec<(Prefix, Option<ForwardingId>)>,
    ) {
        {
            let mut inbox = self.shared.inbox();
            inbox.anew = true;
            inbox.ways.clear();
            inbox.routes.clear();
            inbox.folded = 0;
            inbox.take(ways, routes);
        }
        self.shared.wake.notify_one();
    }

    /// The whole wanted set of local service addresses.
    pub fn vips(&self, addresses: BTreeSet<IpAddr>) {
        self.shared.inbox().vips = Some(addresses);
        self.shared.wake.notify_one();
    }

    /// The whole wanted set of prefixes whose addresses lead nowhere, unless they are service addresses of ours: a router that
    /// sends us all of them must not get packets back.
    pub fn unreachable(&self, prefixes: BTreeSet<Prefix>) {
        self.shared.inbox().unreachable = Some(prefixes);
        self.shared.wake.notify_one();
    }

    /// The first convergence is over (every configured peer sent End-of-RIB, or waiting longer is pointless): what
    /// an earlier process left in the kernel and nobody wants may go. Happens by itself after 60 s.
    pub fn converged(&self) {
        self.shared.inbox().converged = true;
        self.shared.wake.notify_one();
    }

    /// New settings: routes move to another table, or all go.
    pub fn configure(&self, settings: Settings) {
        self.shared.inbox().settings = Some(settings);
        self.shared.wake.notify_one();
    }

    /// Families of which an earlier process left routes or service addresses in the kernel; none where it cannot be read.
    /// Bounded: 2 s.
    ///
    /// Cancel-safe: yes.
    pub async fn left_over(&self) -> Families {
        let mut left_over = self.shared.left_over.subscribe();
        let known = timeout(FIRST_READING, left_over.wait_for(Option::is_some)).await;
        known
            .ok()
            .and_then(Result::ok)
            .and_then(|families| *families)
            .unwrap_or_default()
    }

    /// What is in the kernel and what stands in the way.
    pub fn state(&self) -> State {
        self.shared.state().clone()
    }

    /// Removes every route of ours and ends the task. Bounded: 6 s.
    ///
    /// Cancel-safe: yes; the removal goes on.
    pub async fn finish(&self) {
        self.shared.inbox().finish = true;
        self.shared.wake.notify_one();
        self.shared.finishing.cancel();
        // The task keeps its own time; this one is for a task that is not there.
        let _ = timeout(FINISH_TIMEOUT, self.shared.finished.cancelled()).await;
    }
}

/// What is in the kernel and what stands in the way.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct State {
    /// IPv4 routes of ours in the kernel.
    pub ipv4: usize,
    /// IPv6 routes of ours in the kernel.
    pub ipv6: usize,
    /// Local service addresses of ours in the kernel.
    pub vips: usize,
    /// Groups of nexthop objects that routes share; 0 where they have gateways of their own.
    pub nexthop_groups: usize,
    /// Wanted, but not there yet.
    pub pending: usize,
    /// The last thing that went wrong and has not been put right, with its remedy.
    pub error: Option<String>,
}

#[cfg(test)]
mod netns_tests;
