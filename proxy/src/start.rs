use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use sekisho_config::model::{Http, ListenerState, Prefix, Timeouts};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::listen::{Bound, Listeners};
use crate::metrics::{Collected, Metrics};
use crate::snapshot::Snapshot;
use crate::wire::Mailbox;
use crate::worker::{self, Shared};
use crate::{access_log, tls};

/// How long the stop waits for the last lines of the access log to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What the data plane needs to start.
#[derive(Debug)]
pub struct Inputs {
    /// Workers; 0 is one per core.
    pub workers: usize,
    /// Name of the box, for the access log.
    pub appliance: Arc<str>,
    /// Limits.
    pub http: Http,
    /// Every wait.
    pub timeouts: Timeouts,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<Prefix>,
    /// Networks whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<Prefix>,
    /// What to begin with.
    pub snapshot: Arc<Snapshot>,
}

/// Settings that change without a restart: what names no socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Live {
    /// Limits.
    pub http: Http,
    /// Every wait.
    pub timeouts: Timeouts,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<Prefix>,
    /// Networks whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<Prefix>,
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
    bound: Arc<Bound>,
    ended: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
    log: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
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
        http,
        timeouts,
        trusted_proxies,
        proxy_protocol_from,
        snapshot,
    } = inputs;
    let count = match workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        count => count,
    };
    let snapshot = Arc::new(ArcSwap::new(snapshot));
    let metrics = Metrics::new(count, Arc::clone(&snapshot));
    let tls = tls::server_config(Arc::clone(&snapshot)).map_err(StartError::Tls)?;
    let shared = Arc::new(Shared {
        snapshot,
        live: ArcSwap::from_pointee(Live {
            http,
            timeouts,
            trusted_proxies,
            proxy_protocol_from,
        }),
        appliance,
        tls,
        metrics: Arc::clone(&metrics),
        mailboxes: (0..count).map(|_| Mailbox::default()).collect(),
        admitted: AtomicUsize::new(0),
        addresses: Arc::default(),
        stop: CancellationToken::new(),
    });
    registry.register(Box::new(Collected::new(metrics)?))?;
    let (lines, log) = access_log::writer(log).map_err(StartError::Worker)?;
    // Closed when the last thread has ended.
    let (alive, ended) = mpsc::channel::<Infallible>(1);
    // Whatever fails below, the threads that already run must not stay.
    let guard = shared.stop.clone().drop_guard();
    let mut commands = Vec::with_capacity(count);
    for index in 0..count {
        let (sender, receiver) = mpsc::channel(16);
        commands.push(sender);
        let (shared, lines) = (Arc::clone(&shared), lines.clone());
        let work = move || worker::run(index, shared, lines, receiver);
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
        events,
    };
    spawn("listeners".into(), alive, move || listeners.run()).map_err(StartError::Worker)?;
    guard.disarm();
    Ok((
        Handle {
            shared,
            changed,
            bound,
            ended: tokio::sync::Mutex::new(ended),
            log: std::sync::Mutex::new(Some(log)),
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, work());
        drop(local);
        drop(alive);
    })?;
    Ok(())
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
        let log = self
            .log
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        // The writer has nothing left to do but its last pieces. A reader of the log that hangs must not hold the stop.
        let end = Instant::now() + LAST_LINES;
        while log.as_ref().is_some_and(|log| !log.is_finished()) && Instant::now() < end {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
