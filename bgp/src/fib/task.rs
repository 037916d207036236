use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sekisho_config::model::Prefix;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::kernel_view::KernelView;
use super::message::{Heard, Route, Said};
use super::netlink::{Events, RequestError, Requests};
use super::planner::{Key, Outcome, Planner, Target};
use super::{Inbox, Metrics, Settings, Shared, State};
use crate::rib::{Gateways, NextHops};

/// Left-overs of an earlier process are swept so long after the start at the latest.
const CONVERGENCE: Duration = Duration::from_secs(60);
/// After a link changed the kernel may have dropped routes without a word; this long after, all are read.
const RESYNC_DELAY: Duration = Duration::from_millis(200);
/// Wait after an error of the sockets, or without permission.
const RETRY_SOCKETS: Duration = Duration::from_secs(5);
const RETRY_PERMISSION: Duration = Duration::from_secs(30);
/// Operations between two looks at the inbox.
const BATCH: usize = 512;
/// A route that nothing replaces stays in the kernel so long after it is withdrawn: whoever sends packets by it must hear
/// of the withdrawal first, or what is on its way leaves by the default route.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// How long the way out may take.
const FINISH: Duration = Duration::from_secs(5);

pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Metrics,
    pub(super) next_hops: watch::Sender<NextHops>,
    pub(super) stop: CancellationToken,
    pub(super) planner: Planner,
    view: KernelView,
    /// When left-overs are swept without being told.
    converge_at: Instant,
    /// Until when nothing is written: permission is missing.
    paused_until: Option<Instant>,
    resync_at: Option<Instant>,
    /// Withdrawn routes that linger, with the time at which they go.
    lingering: BTreeMap<Prefix, Instant>,
    /// The same in the order of time; entries that came back meanwhile are passed over.
    linger_order: VecDeque<(Instant, Prefix)>,
    error: Option<String>,
    finish_by: Option<Instant>,
}

impl Task {
    pub(super) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        metrics: Metrics,
        next_hops: watch::Sender<NextHops>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared,
            metrics,
            next_hops,
            stop,
            planner: Planner::new(settings),
            view: KernelView::new(settings.table),
            converge_at: Instant::now() + CONVERGENCE,
            paused_until: None,
            resync_at: None,
            lingering: BTreeMap::new(),
            linger_order: VecDeque::new(),
            error: None,
            finish_by: None,
        }
    }

    /// Opens the sockets again and again until told to stop.
    pub(super) async fn run(mut self) {
        loop {
            match self.serve().await {
                Ok(()) => break,
                Err(error) => {
                    self.fail(format!(
                        "{error}; tried again every {} s",
                        RETRY_SOCKETS.as_secs()
                    ));
                    self.report();
                }
            }
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = sleep(RETRY_SOCKETS) => {}
                () = shared.finishing.cancelled() => break,
            }
        }
        self.shared.finished.cancel();
    }

    async fn serve(&mut self) -> Result<(), RequestError> {
        // First listen, then read: nothing can slip between.
        let mut requests = Requests::open()?;
        let mut events = Events::open(requests.port)?;
        self.resync(&mut requests).await?;
        let shared = Arc::clone(&self.shared);
        let stop = self.stop.clone();
        loop {
            self.take_inbox();
            if self.resync_at.is_some_and(|at| at <= Instant::now()) {
                self.resync(&mut requests).await?;
            }
            self.write(&mut requests).await?;
            self.report();
            if self.is_finished() {
                return Ok(());
            }
            let busy = self.may_write() && !self.planner.is_idle();
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.finish_by.is_none() => return Ok(()),
                heard = events.next() => match heard {
                    Ok(heard) => heard.into_iter().for_each(|heard| self.heard(heard, requests.port)),
                    Err(error) if is_overrun(&error) => {
                        warn!("the kernel's events came too fast; reading everything again");
                        self.resync_at = Some(Instant::now());
                    }
                    Err(error) => return Err(error.into()),
                },
                () = shared.wake.notified() => {}
                () = std::future::ready(()), if busy => {}
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => self.timers(),
            }
        }
    }

    fn take_inbox(&mut self) {
        let inbox = std::mem::take(&mut *self.shared.inbox());
        let Inbox {
            routes,
            vips,
            unreachable,
            settings,
            converged,
            finish,
        } = inbox;
        if let Some(settings) = settings {
            if settings.table != self.planner.settings().table {
                self.view = KernelView::new(settings.table);
                self.resync_at = Some(Instant::now());
            }
            self.planner.configure(settings);
        }
        self.route(routes);
        if let Some(vips) = vips {
            self.planner.vips(vips);
        }
        if let Some(prefixes) = unreachable {
            self.planner.unreachable(prefixes);
        }
        if converged && !self.planner.has_converged() {
            self.planner.converged();
        }
        if finish && self.finish_by.is_none() {
            self.finish_by = Some(Instant::now() + FINISH);
            self.planner.stop();
        }
    }

    /// Takes routes in: new ways first, so that what they cover need not linger.
    fn route(&mut self, routes: BTreeMap<Prefix, Option<Gateways>>) {
        let mut withdrawn = Vec::new();
        for (prefix, gateways) in routes {
            match gateways {
                Some(gateways) => {
                    self.lingering.remove(&prefix);
                    self.planner.route(prefix, Some(gateways));
                }
                None => withdrawn.push(prefix),
            }
        }
        let until = Instant::now() + LINGER;
        for prefix in &withdrawn {
            self.lingering.entry(*prefix).or_insert_with(|| {
                self.linger_order.push_back((until, *prefix));
                until
            });
        }
        for prefix in withdrawn {
            if self
                .planner
                .has_way_around(&prefix, |wider| !self.lingering.contains_key(wider))
            {
                self.lingering.remove(&prefix);
                self.planner.route(prefix, None);
            }
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        while let Some((until, prefix)) = self.linger_order.front().copied()
            && until <= now
        {
            self.linger_order.pop_front();
            // It may have come back, and gone again, since.
            if self.lingering.get(&prefix) == Some(&until) {
                self.lingering.remove(&prefix);
                self.planner.route(prefix, None);
            }
        }
        if now >= self.converge_at && !self.planner.has_converged() {
            self.planner.converged();
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        self.planner.retry(now.into_std(), false);
    }

    fn wake_at(&self) -> Option<Instant> {
        let converge = (!self.planner.has_converged()).then_some(self.converge_at);
        let retry = self.planner.deadline().map(Instant::from_std);
        let linger = self.linger_order.front().map(|(until, _)| *until);
        [
            converge,
            retry,
            linger,
            self.paused_until,
            self.resync_at,
            self.finish_by,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn may_write(&self) -> bool {
        self.paused_until.is_none()
    }

    fn is_finished(&self) -> bool {
        match self.finish_by {
            Some(by) => self.planner.is_idle() || !self.may_write() || by <= Instant::now(),
            None => false,
        }
    }

    async fn write(&mut self, requests: &mut Requests) -> Result<(), RequestError> {
        if !self.may_write() {
            return Ok(());
        }
        let ops = self.planner.next(BATCH);
        if ops.is_empty() {
            if self.planner.pending() == 0 {
                self.error = None;
            }
            return Ok(());
        }
        let (answered, unanswered, error) = requests.apply(ops, self.view.loopback()).await;
        let now = Instant::now().into_std();
        let mut refused = None;
        for (op, outcome) in answered {
            if let Outcome::Refused(why) = &outcome {
                self.metrics.errors.inc();
                refused = Some(format!("route {}: {why}; tried again", op.key().prefix));
            }
            debug!(?op, ?outcome, "route");
            self.planner.answered(op, &outcome, now);
        }
        if let Some(error) = refused {
            self.fail(error);
        }
        self.planner.unanswered(unanswered);
        match error {
            None => Ok(()),
            Some(error @ RequestError::NotPermitted) => {
                self.metrics.errors.inc();
                self.paused_until = Some(Instant::now() + RETRY_PERMISSION);
                self.fail(error.to_string());
                Ok(())
            }
            Some(error) => Err(error),
        }
    }

    async fn resync(&mut self, requests: &mut Requests) -> Result<(), RequestError> {
        let dump = requests.dump().await?;
        self.resync_at = None;
        let (ours, others): (Vec<Route>, Vec<Route>) = dump.routes.into_iter().partition(Route::is_ours);
        self.view.reset(dump.links, others.into_iter());
        self.publish();
        let mut seen: BTreeMap<Key, Target> = BTreeMap::new();
        for route in ours {
            seen.insert(route.key(), route.target());
        }
        let lost = self.planner.resync(seen);
        self.planner.retry(Instant::now().into_std(), true);
        self.metrics
            .reasserted
            .inc_by(u64::try_from(lost).unwrap_or(u64::MAX));
        self.metrics.last_resync.set(Timestamp::now().as_second());
        Ok(())
    }

    fn heard(&mut self, heard: Heard, own_port: u32) {
        match heard.said {
            Some(Said::Link(link)) => {
                if self.view.link(link) {
                    self.links_changed();
                }
            }
            Some(Said::LinkGone(index)) => {
                if self.view.link_gone(index) {
                    self.links_changed();
                }
            }
            Some(Said::Route(route)) if route.is_ours() => {
                if heard.port != own_port {
                    self.meddled(route.key(), Some(route.target()));
                }
            }
            Some(Said::RouteGone(route)) if route.is_ours() => {
                if heard.port != own_port {
                    self.meddled(route.key(), None);
                }
            }
            Some(Said::Route(route)) => {
                self.view.route(route);
                self.publish();
            }
            Some(Said::RouteGone(route)) => {
                self.view.route_gone(&route);
                self.publish();
            }
            Some(Said::DumpDone | Said::Answer { .. }) | None => {}
        }
    }

    fn meddled(&mut self, key: Key, target: Option<Target>) {
        if self.planner.seen(key, target) {
            self.metrics.reasserted.inc();
            info!(prefix = %key.prefix, table = key.table, "somebody else changed a route of ours; writing it again");
        }
    }

    /// IPv4 routes of a link that goes down vanish without an event: everything is read again, but next hops follow
    /// at once.
    fn links_changed(&mut self) {
        self.publish();
        self.resync_at = Some(self.resync_at.unwrap_or_else(|| Instant::now() + RESYNC_DELAY));
    }

    fn publish(&self) {
        let next_hops = self.view.next_hops();
        self.next_hops.send_if_modified(|published| {
            let differs = published != next_hops;
            if differs {
                published.clone_from(next_hops);
            }
            differs
        });
    }

    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            warn!(error, "the kernel's routes are not as wanted");
            self.error = Some(error);
        }
    }

    fn report(&self) {
        let [ipv4, ipv6, vips] = self.planner.installed();
        let pending = self.planner.pending();
        for (kind, count) in [("ipv4", ipv4), ("ipv6", ipv6), ("vip", vips)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.routes.with_label_values(&[kind]).set(count);
        }
        self.metrics
            .pending
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
        *self.shared.state() = State {
            ipv4,
            ipv6,
            vips,
            pending,
            error: self.error.clone(),
        };
    }
}

/// ENOBUFS: the socket's queue was full.
fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(105)
}
