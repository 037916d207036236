//! The one task that owns what is held and remembered, starts orders, and answers for them.

mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sekisho_config::model::{Acme, Certificate, NameSet};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};

use crate::answers::Answers;
use crate::due::{Due, Facts, Plan, Urgency, Validity, due, plan, urgency};
use crate::failure::{Failure, FailureKind};
use crate::history::{History, later};
use crate::issuer::{Issuer, blocking};
use crate::metrics::{Counts, Metrics};
use crate::order::Issued;
use crate::store::{Held, Store};
use crate::{Event, OrderView};

/// Orders at a time, once the CA has answered; one before that.
const ORDERS: usize = 8;

/// A whole order, beyond the bounds of its parts.
const ORDER: Duration = Duration::from_secs(15 * 60);

/// At the stop, for orders to withdraw what they have out.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The longest sleep: the wall clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// How often files that nobody needs are looked for, and how long they stay after expiry.
const CLEANUP: Duration = Duration::from_secs(24 * 3600);
const KEEP_EXPIRED: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A certificate that starts later than this from now tells of a wrong clock; CAs date them back, not forward.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// The wall clock; a test's runs with the paused time.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What comes in from the handle.
pub(crate) struct Inlets {
    pub(crate) wanted: watch::Receiver<Option<BTreeSet<Arc<NameSet>>>>,
    pub(crate) acme: watch::Receiver<Acme>,
    pub(crate) views: mpsc::Receiver<oneshot::Sender<Vec<OrderView>>>,
    pub(crate) stop: CancellationToken,
}

/// The task's state.
pub(crate) struct Worker<I, M> {
    make_issuer: M,
    issuer: Arc<I>,
    directory: Arc<str>,
    store: Store,
    clock: Clock,
    metrics: Metrics,
    events: mpsc::Sender<Event>,
    /// Certificates that control has not taken yet: the newest of each set.
    outbox: BTreeMap<Arc<NameSet>, Arc<Certificate>>,
    wanted: Option<BTreeSet<Arc<NameSet>>>,
    held: BTreeMap<Arc<NameSet>, Held>,
    validity: BTreeMap<Arc<NameSet>, Validity>,
    history: History,
    running: BTreeMap<Id, Running>,
    running_names: BTreeSet<Arc<NameSet>>,
    orders: JoinSet<Result<Issued, Failure>>,
    took: BTreeMap<Arc<NameSet>, f64>,
    /// Obtained, but not on disk.
    unsaved: BTreeSet<Arc<NameSet>>,
    /// Whether the CA has taken an order since it last failed.
    ca_proven: bool,
    cleaned: Option<Instant>,
}

struct Running {
    names: Arc<NameSet>,
    directory: Arc<str>,
    started: Timestamp,
    since: Instant,
    cancel: CancellationToken,
    answers: Answers,
}

impl<I: Issuer, M: Fn(&Acme) -> I + Send + 'static> Worker<I, M> {
    pub(crate) fn new(
        acme: &Acme,
        make_issuer: M,
        store: Store,
        events: mpsc::Sender<Event>,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self {
            issuer: Arc::new(make_issuer(acme)),
            make_issuer,
            directory: Arc::clone(&acme.directory),
            store,
            clock,
            metrics,
            events,
            outbox: BTreeMap::new(),
            wanted: None,
            held: BTreeMap::new(),
            validity: BTreeMap::new(),
            history: History::default(),
            running: BTreeMap::new(),
            running_names: BTreeSet::new(),
            orders: JoinSet::new(),
            took: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            ca_proven: false,
            cleaned: None,
        }
    }

    /// Runs until `stop`; then orders are given up and their answers withdrawn.
    pub(crate) async fn run(mut self, mut inlets: Inlets) {
        self.load().await;
        let (mut wanted_open, mut acme_open) = (true, true);
        let events = self.events.clone();
        let mut look_at = Instant::now();
        loop {
            if look_at <= Instant::now() {
                look_at = Instant::now() + self.turn(&inlets.stop).await;
            }
            // What changes nothing (a view, an event taken) leaves `look_at`: a look costs every wanted set.
            tokio::select! {
                biased;
                () = inlets.stop.cancelled() => break,
                Some(ended) = self.orders.join_next_with_id() => {
                    self.ended(ended).await;
                    look_at = Instant::now();
                }
                changed = inlets.wanted.changed(), if wanted_open => match changed {
                    Ok(()) => {
                        let wanted = inlets.wanted.borrow_and_update().clone();
                        self.want(wanted);
                        look_at = Instant::now();
                    }
                    Err(_) => wanted_open = false,
                },
                changed = inlets.acme.changed(), if acme_open => match changed {
                    Ok(()) => {
                        let acme = inlets.acme.borrow_and_update().clone();
                        self.configure(&acme).await;
                        look_at = Instant::now();
                    }
                    Err(_) => acme_open = false,
                },
                Some(reply) = inlets.views.recv() => {
                    let _ = reply.send(self.view());
                }
                // Control may wait for a view while the queue of events is full: never wait for it here.
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { break };
                    if let Some((names, certificate)) = self.outbox.pop_first() {
                        permit.send(Event::Certificate { names, certificate });
                    }
                }
                () = sleep_until(look_at) => {}
            }
        }
        self.give_up().await;
    }

    /// Ends every order. One that does not end by itself, because the CA does not answer, is dropped.
    async fn give_up(&mut self) {
        for order in self.running.values() {
            order.cancel.cancel();
        }
        let until = Instant::now() + LAST_WORDS;
        while let Ok(Some(ended)) = timeout_at(until, self.orders.join_next_with_id()).await {
            self.ended(ended).await;
        }
        self.orders.abort_all();
        for order in std::mem::take(&mut self.running).into_values() {
            order.answers.withdraw().await;
        }
    }

    async fn load(&mut self) {
        let (store, directory) = (self.store.clone(), Arc::clone(&self.directory));
        let loaded = blocking(move || (store.certificates(), store.history(&directory))).await;
        let Ok((certificates, history)) = loaded else {
            return;
        };
        self.history = history;
        for held in certificates {
            self.outbox
                .insert(Arc::clone(&held.names), Arc::clone(&held.certificate));
            self.held.insert(Arc::clone(&held.names), held);
        }
        self.revalidate();
        info!(directory = %self.directory, certificates = self.held.len(), "ACME state read");
    }

    /// One look at everything: starts what is due; how long to sleep if nothing happens.
    async fn turn(&mut self, stop: &CancellationToken) -> Duration {
        let now = (self.clock)();
        self.history.settle(self.wanted.as_ref(), now);
        if self.wanted.is_some() && self.cleaned.is_none_or(|at| at.elapsed() >= CLEANUP) {
            self.cleaned = Some(Instant::now());
            self.clean(now).await;
        }
        self.save_unsaved().await;
        let mut answer = self.due(now);
        if !answer.now.is_empty() && !stop.is_cancelled() {
            // Before the CA is asked for anything: what it gives must find a place.
            match self.save_history().await {
                Ok(()) => {
                    for names in std::mem::take(&mut answer.now) {
                        self.order(names, now, stop);
                    }
                }
                Err(failure) => {
                    warn!(error = %failure, "no order is made");
                    let nobody = Arc::new(NameSet::new());
                    self.history.failed(&nobody, &failure, now, now);
                    answer = self.due(now);
                }
            }
        }
        self.count(&answer, now);
        let next = answer
            .next
            .map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        // Never zero: a due time within this very tick must not spin.
        next.map_or(LONGEST_SLEEP, |next| {
            next.clamp(Duration::from_millis(10), LONGEST_SLEEP)
        })
    }

    fn due(&self, now: Timestamp) -> Due {
        let Some(wanted) = &self.wanted else {
            return Due::default();
        };
        let slots = if self.ca_proven { ORDERS } else { 1 };
        let facts = Facts {
            wanted,
            held: &self.validity,
            running: &self.running_names,
            history: &self.history,
        };
        due(facts, now, slots.saturating_sub(self.running.len()))
    }

    fn order(&mut self, names: Arc<NameSet>, now: Timestamp, stop: &CancellationToken) {
        let span = info_span!("order", names = %text(&names));
        let urgency = urgency(self.validity.get(&names), now);
        span.in_scope(|| info!(?urgency, directory = %self.directory, "order started"));
        let cancel = stop.child_token();
        let answers = Answers::new(self.events.clone());
        let task = {
            let (issuer, names, answers, cancel) = (
                Arc::clone(&self.issuer),
                Arc::clone(&names),
                answers.clone(),
                cancel.clone(),
            );
            async move {
                let result = timeout(ORDER, issuer.issue(names, answers.clone(), cancel)).await;
                answers.withdraw().await;
                result.unwrap_or_else(|_| {
                    Err(Failure::new(
                        FailureKind::Slow,
                        format!(
                            "the order took longer than {} s and was given up",
                            ORDER.as_secs()
                        ),
                    ))
                })
            }
        };
        let id = self.orders.spawn(task.instrument(span)).id();
        self.running_names.insert(Arc::clone(&names));
        let directory = Arc::clone(&self.directory);
        self.running.insert(
            id,
            Running {
                names,
                directory,
                started: now,
                since: Instant::now(),
                cancel,
                answers,
            },
        );
    }

    async fn ended(&mut self, ended: Result<(Id, Result<Issued, Failure>), JoinError>) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let failure = Failure::new(
                    FailureKind::Internal,
                    "the order ended by a fault of this program; please report it with the log",
                );
                (error.id(), Err(failure))
            }
        };
        let Some(order) = self.running.remove(&id) else {
            return;
        };
        self.running_names.remove(&order.names);
        // Empty already, unless the task panicked.
        order.answers.withdraw().await;
        let now = (self.clock)();
        let took = SignedDuration::try_from(order.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.metrics
            .order(result.as_ref().map(|_| ()).map_err(|failure| failure.kind), took);
        let same_ca = order.directory == self.directory;
        match result {
            Ok(issued) => {
                self.took.insert(Arc::clone(&order.names), took.as_secs_f64());
                self.obtained(&order, issued, now, took).await;
                if same_ca {
                    self.ca_proven = true;
                }
            }
            Err(failure) if failure.kind == FailureKind::Cancelled => {
                info!(names = %text(&order.names), "order given up");
            }
            Err(failure) => {
                self.took.insert(Arc::clone(&order.names), took.as_secs_f64());
                if same_ca {
                    self.failed(&order, &failure, now);
                }
            }
        }
        if let Err(failure) = self.save_history().await {
            warn!(error = %failure, "failures are remembered until the restart only");
        }
    }

    async fn obtained(&mut self, order: &Running, issued: Issued, now: Timestamp, took: SignedDuration) {
        let names = Arc::clone(&order.names);
        let held = Held {
            names: Arc::clone(&names),
            certificate: Arc::new(issued.certificate),
            chain_pem: issued.chain_pem.into(),
            directory: Arc::clone(&order.directory),
            obtained: now,
        };
        self.history.succeeded(&names);
        let certificate = &held.certificate;
        info!(
            names = %text(&names), issuer = %certificate.issuer, serial = %certificate.serial,
            not_after = %certificate.not_after, seconds = took.as_secs_f64(), "certificate obtained"
        );
        if certificate.not_after <= now || certificate.not_before > later(now, CLOCK_TOLERANCE) {
            let failure = Failure::new(
                FailureKind::BadCertificate,
                format!(
                    "the certificate is valid from {} to {}, and here it is {now}; set the clock of this box",
                    certificate.not_before, certificate.not_after
                ),
            );
            error!(names = %text(&names), error = %failure, "clock and certificate disagree");
            self.history.failed(&names, &failure, order.started, now);
        }
        self.outbox.insert(Arc::clone(&names), Arc::clone(certificate));
        self.validity
            .insert(Arc::clone(&names), held.validity(&self.directory, now));
        self.held.insert(Arc::clone(&names), held);
        self.unsaved.insert(names);
        self.save_unsaved().await;
    }

    fn failed(&mut self, order: &Running, failure: &Failure, now: Timestamp) {
        let blame = failure.kind.blame();
        if blame.ca() {
            self.ca_proven = false;
        } else if !matches!(failure.kind, FailureKind::Internal | FailureKind::NotPublished) {
            self.ca_proven = true;
            self.history.answered();
        }
        self.history.failed(&order.names, failure, order.started, now);
        let held = self.validity.get(&order.names);
        let next = match plan(&order.names, held, &self.history) {
            Plan::Order(at) => Some(at),
            Plan::Refused(_) => None,
        };
        let next = next.map(|at| at.max(now).to_string()).unwrap_or_default();
        let (names, kind) = (text(&order.names), failure.kind.as_str());
        if held.is_some() && urgency(held, now) == Urgency::Expiring {
            error!(%names, kind, error = %failure, next, "order failed, and the certificate is about to expire");
        } else {
            warn!(%names, kind, error = %failure, next, "order failed");
        }
    }

    fn want(&mut self, wanted: Option<BTreeSet<Arc<NameSet>>>) {
        if let Some(wanted) = &wanted {
            for order in self
                .running
                .values()
                .filter(|order| !wanted.contains(&order.names))
            {
                order.cancel.cancel();
            }
            self.took.retain(|names, _| wanted.contains(names));
        }
        self.wanted = wanted;
    }

    async fn configure(&mut self, acme: &Acme) {
        self.issuer = Arc::new((self.make_issuer)(acme));
        self.ca_proven = false;
        if acme.directory == self.directory {
            // What kept us from the CA may just have been mended.
            self.history.answered();
            return;
        }
        info!(from = %self.directory, to = %acme.directory, "another CA: every certificate is ordered anew");
        for order in self.running.values() {
            order.cancel.cancel();
        }
        self.directory = Arc::clone(&acme.directory);
        let (store, directory) = (self.store.clone(), Arc::clone(&self.directory));
        self.history = blocking(move || store.history(&directory))
            .await
            .unwrap_or_default();
        self.took.clear();
        self.revalidate();
    }

    fn revalidate(&mut self) {
        let now = (self.clock)();
        self.validity = self
            .held
            .iter()
            .map(|(names, held)| (Arc::clone(names), held.validity(&self.directory, now)))
            .collect();
    }

    async fn save_history(&self) -> Result<(), Failure> {
        let (store, directory, history) = (
            self.store.clone(),
            Arc::clone(&self.directory),
            self.history.clone(),
        );
        blocking(move || store.save_history(&directory, &history))
            .await?
            .map_err(|error| {
                Failure::new(
                    FailureKind::Store,
                    format!("state_dir cannot be written: {error}; free space or mend the permissions"),
                )
            })
    }

    async fn save_unsaved(&mut self) {
        for names in self.unsaved.clone() {
            let Some(held) = self.held.get(&names).cloned() else {
                continue;
            };
            let store = self.store.clone();
            match blocking(move || store.save_certificate(&held)).await {
                Ok(Ok(())) => {
                    self.unsaved.remove(&names);
                }
                Ok(Err(error)) => {
                    error!(names = %text(&names), %error, "certificate is served but cannot be written; it would be lost at a restart");
                }
                Err(failure) => {
                    error!(names = %text(&names), error = %failure, "certificate cannot be written")
                }
            }
        }
    }

    /// Removes what nobody wants and nobody could use.
    async fn clean(&mut self, now: Timestamp) {
        let old: Vec<Arc<NameSet>> = self
            .held
            .values()
            .filter(|held| {
                !self
                    .wanted
                    .as_ref()
                    .is_none_or(|wanted| wanted.contains(&held.names))
            })
            .filter(|held| later(held.certificate.not_after, KEEP_EXPIRED) < now)
            .map(|held| Arc::clone(&held.names))
            .collect();
        for names in old {
            info!(names = %text(&names), "certificate nobody wants has expired; its file is removed");
            self.held.remove(&names);
            self.validity.remove(&names);
            self.unsaved.remove(&names);
            let store = self.store.clone();
            match blocking(move || store.remove_certificate(&names)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "file cannot be removed"),
                Err(failure) => warn!(error = %failure, "file cannot be removed"),
            }
        }
    }

    fn count(&self, due: &Due, now: Timestamp) {
        let mut counts = Counts {
            due: due.due,
            ..Counts::default()
        };
        for names in self.wanted.iter().flatten() {
            counts.wanted += 1;
            if let Some(validity) = self.validity.get(names) {
                counts.held += usize::from(validity.not_after > now);
                let end = validity.not_after.as_second();
                counts.earliest_expiry = Some(counts.earliest_expiry.map_or(end, |first| first.min(end)));
            }
            counts.failed += usize::from(self.history.of(names).is_some());
            counts.refused += usize::from(matches!(plan(names, None, &self.history), Plan::Refused(_)));
        }
        self.metrics.set(counts);
        self.metrics
            .orders_running
            .set(i64::try_from(self.running.len()).unwrap_or(i64::MAX));
        self.metrics.ca_failures.set(
            self.history
                .of_ca()
                .map_or(0, |failures| i64::from(failures.count)),
        );
    }
}

/// The names for a log line: a few of them.
fn text(names: &NameSet) -> String {
    let mut text = names
        .iter()
        .take(3)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    if names.len() > 3 {
        text.push_str(&format!(",+{}", names.len() - 3));
    }
    text
}
