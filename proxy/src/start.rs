use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use sekisho_config::model::{AccessLog, Health, HealthCheck, Http, ListenerState, Prefix, Timeouts, Tracing};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::health::prober;
use crate::http::http3;
use crate::listen::{Bound, Listeners};
use crate::metrics::SpanCounters;
use crate::metrics::{Collected, Metrics};
use crate::snapshot::Snapshot;
use crate::trace::export;
use crate::wire::Mailbox;
use crate::worker::Told;
use crate::worker::{self, Shared};
use crate::{access_log, tls};

/// How long the stop waits for the last lines of the access log to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How long the stop waits for the last spans to be sent.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// What the data plane needs to start.
#[derive(Debug)]
pub struct Inputs {
    /// Workers; 0 is one per core.
    pub workers: usize,
    /// Name of the box, for the access log.
    pub appliance: Arc<str>,
    /// Settings to begin with.
    pub live: Live,
    /// What to begin with.
    pub snapshot: Arc<Snapshot>,
}

/// Settings that change without a restart: what names no socket.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Live {
    /// Limits.
    pub http: Http,
    /// Every wait.
    pub timeouts: Timeouts,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<Prefix>,
    /// Networks whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<Prefix>,
    /// How exchanges are written down.
    pub access_log: AccessLog,
    /// Where spans go; `None`: none are made.
    pub tracing: Option<Arc<Tracing>>,
}

/// Something the data plane has seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A listening socket of the snapshot was bound on every worker, was refused, or (`None`) was closed.
    Listener {
        /// Its address as the snapshot names it.
        address: SocketAddr,
        /// What became of it.
        state: Option<ListenerState>,
    },
    /// The health of an endpoint by a check is now this; `None`: it is not asked for any more.
    Health {
        /// The endpoint.
        address: SocketAddr,
        /// By which check.
        check: Arc<HealthCheck>,
        /// What came of it.
        health: Option<Health>,
    },
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread or its runtime cannot be made.
    #[error("a data worker cannot be started: {0}; check the limits on threads and open files")]
    Worker(#[source] std::io::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// The registry refuses the metrics.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The running data plane.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    changed: Arc<Notify>,
    /// As `changed`, for the prober.
    to_probe: Arc<Notify>,
    bound: Arc<Bound>,
    ended: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
    /// The threads that write the access log and send spans, and how long the stop waits for each.
    writers: std::sync::Mutex<Vec<(std::thread::JoinHandle<()>, Duration)>>,
}

/// Starts workers and listeners; the access log goes to standard output.
///
/// # Errors
/// [`StartError`] when threads, TLS or metrics cannot be set up. A listener that cannot be bound is an [`Event`].
pub fn start(
    inputs: Inputs,
    registry: &prometheus::Registry,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    start_with_log(inputs, registry, Box::new(std::io::stdout()))
}

/// As [`start`], with the access log going to `log`.
///
/// # Errors
/// As [`start`].
pub fn start_with_log(
    inputs: Inputs,
    registry: &prometheus::Registry,
    log: Box<dyn std::io::Write + Send>,
) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let Inputs {
        workers,
        appliance,
        live,
        snapshot,
    } = inputs;
    let count = match workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        count => count,
    };
    let snapshot = Arc::new(ArcSwap::new(snapshot));
    // One more than there are workers, for the prober.
    let metrics = Metrics::new(count + 1, Arc::clone(&snapshot));
    let tls = tls::server_config(Arc::clone(&snapshot)).map_err(StartError::Tls)?;
    let quic = http3::Tls::new(tls::quic_config(Arc::clone(&snapshot)).map_err(StartError::Tls)?)?;
    let shared = Arc::new(Shared {
        snapshot,
        live: Arc::new(ArcSwap::from_pointee(live)),
        appliance: Arc::clone(&appliance),
        tls,
        quic,
        metrics: Arc::clone(&metrics),
        mailboxes: (0..count).map(|_| Mailbox::default()).collect(),
        admitted: AtomicUsize::new(0),
        addresses: Arc::default(),
        doors: crate::door::Tables::new(count),
        stop: CancellationToken::new(),
    });
    let probing = metrics.worker(count).unwrap_or_else(Metrics::detached);
    registry.register(Box::new(Collected::new(metrics)?))?;
    let file = {
        let shared = Arc::clone(&shared);
        move || shared.live.load().access_log.file.clone()
    };
    let (lines, log) = access_log::writer(log, file).map_err(StartError::Worker)?;
    let counters = SpanCounters::register(registry)?;
    let (spans, exporter) = export::exporter(appliance, counters).map_err(StartError::Worker)?;
    // Closed when the last thread has ended.
    let (alive, ended) = mpsc::channel::<Infallible>(1);
    // Whatever fails below, the threads that already run must not stay.
    let guard = shared.stop.clone().drop_guard();
    let mut commands = Vec::with_capacity(count);
    for index in 0..count {
        let (sender, receiver) = mpsc::channel(16);
        commands.push(sender);
        let told = Told {
            lines: lines.clone(),
            spans: spans.clone(),
        };
        let shared = Arc::clone(&shared);
        let work = move || worker::run(index, shared, told, receiver);
        spawn(format!("data-{index}"), alive.clone(), work).map_err(StartError::Worker)?;
    }
    let (events, receiver) = mpsc::channel(256);
    let changed = Arc::new(Notify::new());
    let bound = Arc::new(Bound::default());
    let listeners = Listeners {
        shared: Arc::clone(&shared),
        changed: Arc::clone(&changed),
        bound: Arc::clone(&bound),
        workers: commands,
        events: events.clone(),
    };
    let to_probe = Arc::new(Notify::new());
    let prober = {
        let (shared, changed) = (Arc::clone(&shared), Arc::clone(&to_probe));
        let seed = worker::seed(count);
        move || prober::run(shared, probing, changed, events, seed)
    };
    spawn("health".into(), alive.clone(), prober).map_err(StartError::Worker)?;
    spawn("listeners".into(), alive, move || listeners.run()).map_err(StartError::Worker)?;
    guard.disarm();
    Ok((
        Handle {
            shared,
            changed,
            to_probe,
            bound,
            ended: tokio::sync::Mutex::new(ended),
            writers: std::sync::Mutex::new(vec![(log, LAST_LINES), (exporter, LAST_SPANS)]),
        },
        receiver,
    ))
}

/// A thread with a single-threaded runtime that runs `work` and what it spawns locally. `alive` lives as long as it.
fn spawn<F: Future<Output = ()>>(
    name: String,
    alive: mpsc::Sender<Infallible>,
    work: impl FnOnce() -> F + Send + 'static,
) -> std::io::Result<()> {
    let (told, tell) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name(name).spawn(move || {
        // Its tasks never leave this thread, so that no task is woken through a second queue as in a `LocalSet`.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let _ = told.send(Ok(()));
                runtime.block_on(work());
                drop(runtime);
            }
            Err(error) => {
                let _ = told.send(Err(error));
            }
        }
        drop(alive);
    })?;
    tell.recv()
        .unwrap_or_else(|_| Err(std::io::Error::other("a thread ended as it began")))
}

impl Handle {
    /// Makes `snapshot` the one that new requests and connections use, opens and closes sockets to match, and ends
    /// what leads to endpoints whose route it withdraws. To be called from one task.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let previous = self.shared.snapshot.swap(Arc::clone(&snapshot));
        let withdrawn = previous.withdrawn_by(&snapshot);
        if !withdrawn.is_empty() {
            for mailbox in &self.shared.mailboxes {
                mailbox.put(&withdrawn);
            }
        }
        self.changed.notify_one();
        self.to_probe.notify_one();
    }

    /// The snapshot in use.
    pub fn current(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Applies settings to the connections that begin from now on.
    pub fn configure(&self, live: Live) {
        self.shared.live.store(Arc::new(live));
    }

    /// Where a listener that the snapshot names is really bound: for port 0, the port that the system gave.
    pub fn bound(&self, address: SocketAddr) -> Option<SocketAddr> {
        self.bound
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&address)
            .copied()
    }

    /// Stops accepting, lets exchanges finish, bounded by the drain times, and writes the last lines of the log.
    ///
    /// Cancel-safe: no; but the stop goes on without it.
    pub async fn finish(&self) {
        self.shared.stop.cancel();
        // Nothing is ever sent: `None` comes when every thread has ended.
        let _ = self.ended.lock().await.recv().await;
        let writers = std::mem::take(
            &mut *self
                .writers
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        // They have nothing left to do but their last pieces. A reader of the log that hangs must not hold the stop.
        let begun = Instant::now();
        for (writer, limit) in writers {
            while !writer.is_finished() && begun.elapsed() < limit {
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
