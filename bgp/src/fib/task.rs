use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sekisho_config::model::Prefix;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::kernel_view::KernelView;
use super::message::{Heard, Said};
use super::netlink::{Events, RequestError, Requests};
use super::planner::{Key, Op, Outcome, Planner, Target};
use super::{Inbox, Metrics, Settings, Shared, State};
use crate::rib::{ForwardingId, NextHops};

/// Left-overs of an earlier process are swept so long after the start at the latest.
const CONVERGENCE: Duration = Duration::from_secs(60);
/// After a link changed the kernel may have dropped routes without a word; this long after, all are read.
const RESYNC_DELAY: Duration = Duration::from_millis(200);
/// Wait after an error of the sockets, or without permission.
const RETRY_SOCKETS: Duration = Duration::from_secs(5);
const RETRY_PERMISSION: Duration = Duration::from_secs(30);
/// Operations that the kernel is given together.
const BATCH: usize = 1024;
/// So many times between two looks at the inbox.
const BATCHES: usize = 8;
/// Where the kernel says whether a change of a nexthop object is told to listeners route by route.
const COMPAT_MODE: &str = "/proc/sys/net/ipv4/nexthop_compat_mode";
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
    /// The kernel has nexthop objects.
    objects: bool,
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
            objects: false,
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
        self.objects = requests.has_objects()?;
        self.planner.objects_supported(self.objects);
        self.tell_kernel();
        self.resync(&mut requests)?;
        let left_over = self.planner.left_over();
        self.shared.left_over.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(left_over);
            first
        });
        let shared = Arc::clone(&self.shared);
        let stop = self.stop.clone();
        loop {
            self.take_inbox();
            if self.resync_at.is_some_and(|at| at <= Instant::now()) {
                self.resync(&mut requests)?;
            }
            requests = self.write(requests).await?;
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
            anew,
            ways,
            routes,
            folded: _,
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
            self.tell_kernel();
        }
        if anew {
            self.planner.forget();
        }
        // First what routes lead to, then the routes, then what none leads to any more.
        let mut gone = Vec::new();
        for (way, gateways) in ways {
            match gateways {
                Some(gateways) => self.planner.way(way, gateways),
                None => gone.push(way),
            }
        }
        self.route(routes);
        gone.into_iter().for_each(|way| self.planner.way_gone(way));
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
    fn route(&mut self, routes: Vec<(Prefix, Option<ForwardingId>)>) {
        let mut withdrawn = Vec::new();
        // Of several changes to one prefix the last counts; a way that came after a withdrawal is not withdrawn.
        let mut mixed = false;
        for (prefix, way) in &routes {
            match way {
                Some(way) => {
                    mixed |= !withdrawn.is_empty();
                    self.planner.route(*prefix, *way);
                }
                None => withdrawn.push(*prefix),
            }
        }
        if mixed {
            let last: HashMap<_, _> = routes.into_iter().collect();
            withdrawn.retain(|prefix| last.get(prefix) == Some(&None));
        }
        if !withdrawn.is_empty() {
            self.planner.withdraw(withdrawn, Instant::now().into_std());
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        self.planner.expire(now.into_std());
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
        [converge, retry, self.paused_until, self.resync_at, self.finish_by]
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

    /// Writes some batches. The kernel works on one in a thread of its own; meanwhile what it said to the one before is taken in,
    /// and the next one is planned. Nothing else is taken in.
    async fn write(&mut self, mut requests: Requests) -> Result<Requests, RequestError> {
        if !self.may_write() {
            return Ok(requests);
        }
        let mut ops = self.planner.next(BATCH);
        let mut answered = Vec::new();
        let mut batches_left = BATCHES;
        while !ops.is_empty() {
            batches_left -= 1;
            let ahead = batches_left > 0 && Planner::may_plan_ahead(&ops);
            let loopback = self.view.loopback();
            let flight = spawn_blocking(move || {
                let answers = requests.apply(ops, loopback);
                (requests, answers)
            });
            self.answered(answered);
            ops = if ahead {
                self.planner.next(BATCH)
            } else {
                Vec::new()
            };
            let (back, (answers, mut unanswered, error)) = flight.await.map_err(io::Error::other)?;
            requests = back;
            answered = answers;
            if let Some(error) = error {
                self.answered(answered);
                unanswered.append(&mut ops);
                self.planner.unanswered(unanswered);
                return self.gave_up(error).map(|()| requests);
            }
            if ops.is_empty() && batches_left > 0 {
                self.answered(std::mem::take(&mut answered));
                ops = self.planner.next(BATCH);
            }
        }
        self.answered(answered);
        if self.planner.pending() == 0 {
            self.error = None;
        }
        Ok(requests)
    }

    fn answered(&mut self, answered: Vec<(Op, Outcome)>) {
        let now = Instant::now().into_std();
        let mut refused = None;
        for (op, outcome) in answered {
            if let Outcome::Refused(why) = &outcome {
                self.metrics.errors.inc();
                refused = Some(format!("{}: {why}; tried again", subject(&op)));
            }
            debug!(?op, ?outcome, "route");
            self.planner.answered(op, &outcome, now);
        }
        if let Some(error) = refused {
            self.fail(error);
        }
    }

    /// A batch was not dealt with as a whole: without permission nothing is written for a while, whatever else opens the
    /// sockets anew.
    fn gave_up(&mut self, error: RequestError) -> Result<(), RequestError> {
        if !matches!(error, RequestError::NotPermitted) {
            return Err(error);
        }
        self.metrics.errors.inc();
        self.paused_until = Some(Instant::now() + RETRY_PERMISSION);
        self.fail(error.to_string());
        Ok(())
    }

    fn resync(&mut self, requests: &mut Requests) -> Result<(), RequestError> {
        let before = self.planner.others_installed();
        let planner = &mut self.planner;
        let (mut links, mut others) = (Vec::new(), Vec::new());
        let (mut objects, mut other_objects) = (BTreeMap::new(), BTreeMap::new());
        let mut lost = 0;
        let mut each = |said: Option<Said>| match said {
            None => {
                links.clear();
                others.clear();
                objects.clear();
                other_objects.clear();
                planner.begin_reading();
            }
            Some(Said::Link(link)) => links.push(link),
            Some(Said::Object(id, object, true)) => drop(objects.insert(id, object)),
            Some(Said::Object(id, object, false)) => drop(other_objects.insert(id, object)),
            Some(Said::Route(route)) if route.is_ours() => {
                lost += usize::from(planner.read(route.key(), route.target()));
            }
            Some(Said::Route(route)) => others.push(route),
            Some(_) => {}
        };
        requests.dump(self.objects, &mut each)?;
        self.resync_at = None;
        self.view.reset(links, other_objects, others.into_iter());
        self.publish();
        lost += self.planner.end_reading(&before, &objects);
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
            // Somebody else's hand, or the kernel itself where a link goes away: read everything rather than guess what that did to routes.
            Some(Said::Object(..) | Said::ObjectGone(_)) => {
                if heard.port != own_port {
                    self.resync_soon();
                }
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
        self.resync_soon();
    }

    fn resync_soon(&mut self) {
        self.resync_at = Some(self.resync_at.unwrap_or_else(|| Instant::now() + RESYNC_DELAY));
    }

    /// A change of a nexthop object is one message then, not one for each route that leads there.
    fn tell_kernel(&self) {
        let settings = self.planner.settings();
        if !self.objects || !settings.nexthop_objects || !settings.install_routes {
            return;
        }
        match std::fs::read_to_string(COMPAT_MODE) {
            Ok(text) if text.trim() == "0" => {}
            _ => match std::fs::write(COMPAT_MODE, "0") {
                Ok(()) => info!(
                    "net.ipv4.nexthop_compat_mode is now 0: the kernel tells of a changed nexthop object once"
                ),
                Err(error) => warn!(
                    %error,
                    "net.ipv4.nexthop_compat_mode cannot be set to 0; with 1 a dead next hop below very many routes takes about a second: set it with sysctl"
                ),
            },
        }
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
        let groups = self.planner.groups();
        self.metrics.groups.set(i64::try_from(groups).unwrap_or(i64::MAX));
        self.metrics
            .pending
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
        *self.shared.state() = State {
            ipv4,
            ipv6,
            vips,
            nexthop_groups: groups,
            pending,
            error: self.error.clone(),
        };
    }
}

/// What an operation is about.
fn subject(op: &Op) -> String {
    match op {
        Op::Replace(key, _) | Op::Delete(key) => format!("route {}", key.prefix),
        Op::Gateway(_, (via, _)) => format!("next hop {via}"),
        Op::Group(id, _) => format!("group of next hops {id}"),
        Op::DeleteObject(id) => format!("nexthop object {id}"),
    }
}

/// ENOBUFS: the socket's queue was full.
fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(105)
}
