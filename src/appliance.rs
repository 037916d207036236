//! Wiring: starts the rooms in order, joins them to control, stops them in order.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use sekisho_config::model::{Prefix, Role, Settings};
use sekisho_ingress_controller::Context;
use sekisho_proxy::Live;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::control::{self, Change, Outputs};

/// Changes that wait for control at most; a room that is faster than control is held back.
const QUEUE: usize = 4096;
/// From the warning to the withdrawal of the VIPs, and from there until listeners close: routers above need a moment to
/// turn away.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// From the last closed connection until its address leaves the kernel: a FIN that is lost needs the address once more.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// For requests under way when the process restarts in place: every moment of it is one in which nobody answers.
const RESTART_DRAIN: Duration = Duration::from_secs(1);
/// For what is left after draining.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// Runs the appliance until SIGTERM or SIGINT, or SIGUSR2: the same with `bgp.graceful_restart`, but routers keep the VIPs for
/// the process that follows.
///
/// # Errors
/// When something that it cannot live without cannot be had: its directories, the admin address, a thread.
pub(crate) fn run(config: &Path, settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sekisho-control")
        .enable_all()
        .build()
        .context("cannot start the control threads")?;
    let outcome = runtime.block_on(live_and_die(config.to_owned(), settings));
    // Whatever still runs here was waited for already, or is not worth waiting for.
    runtime.shutdown_background();
    outcome
}

/// The parts of the file that the data plane takes live.
pub(crate) fn live(settings: &Settings) -> Live {
    Live {
        http: settings.http.clone(),
        timeouts: settings.timeouts.clone(),
        trusted_proxies: settings.listen.trusted_proxies.clone(),
        access_log: settings.access_log.clone(),
        tracing: settings.tracing.clone(),
        proxy_protocol_from: settings.listen.proxy_protocol_from.clone(),
    }
}

async fn live_and_die(config: PathBuf, settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let state_dir = settings.appliance.state_dir.clone();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state_dir)
        .with_context(|| {
            format!(
                "appliance.state_dir: cannot make {}; name a directory that this user may write",
                state_dir.display()
            )
        })?;
    let sticky_key = crate::sticky_key::kept(&state_dir).with_context(|| {
        format!(
            "appliance.state_dir: cannot keep a key in {}; name a directory that this user may read and write",
            state_dir.display()
        )
    })?;
    let admin_listeners =
        admin::Listeners::bind(settings.appliance.admin, &settings.appliance.run_dir).await?;
    let registry = prometheus::Registry::new();
    let metrics = control::Metrics::register(&registry)?;
    register_process(&registry)?;

    let own_addresses = crate::own_addresses::now().context("cannot read the addresses of the interfaces")?;

    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    tasks.spawn(crate::memory::give_back(stop.clone()));
    let (changes, received) = mpsc::channel(QUEUE);
    let (lost, mut lost_rooms) = mpsc::channel(1);
    let joints = Joints {
        tasks: tasks.clone(),
        changes: changes.clone(),
        stop: stop.clone(),
        lost,
    };

    let (proxy, proxy_events) = sekisho_proxy::start(
        sekisho_proxy::Inputs {
            workers: settings.appliance.workers,
            appliance: Arc::clone(&settings.appliance.name),
            live: live(&settings),
            snapshot: Arc::default(),
        },
        &registry,
    )
    .context("cannot start the data workers")?;
    let proxy = Arc::new(proxy);
    joints.forward("proxy", proxy_events, from_proxy);

    let bgp = match &settings.bgp {
        Some(bgp) => {
            let inputs = sekisho_bgp::Inputs {
                bgp: bgp.clone(),
                routing: settings.source.routing,
                tasks: tasks.clone(),
                stop: stop.clone(),
            };
            let (handle, events) = sekisho_bgp::start(inputs, &registry)
                .await
                .context("cannot start the BGP speaker")?;
            joints.forward("bgp", events, from_bgp);
            Some(handle)
        }
        None => None,
    };

    let acme = match &settings.acme {
        Some(acme) => {
            let inputs = sekisho_acme::Inputs {
                acme: acme.clone(),
                state_dir: state_dir.clone(),
                tasks: tasks.clone(),
                stop: stop.clone(),
            };
            let (handle, events) = sekisho_acme::start(inputs, &registry).context("cannot start ACME")?;
            joints.forward("acme", events, from_acme);
            Some(handle)
        }
        None => None,
    };

    let (source, source_events) = sekisho_ingress_controller::start(
        sekisho_ingress_controller::Inputs {
            source: settings.source.clone(),
            context: Context {
                own_addresses: Arc::clone(&own_addresses),
                ..Context::from(&settings)
            },
            state_dir,
            tasks: tasks.clone(),
            stop: stop.clone(),
        },
        &registry,
    )
    .context("cannot start the source of objects")?;
    joints.forward("source", source_events, from_source);
    joints.guard(
        "pod networks",
        pod_networks(source.pod_networks(), changes.clone(), stop.clone()),
    );

    let (picture, pictures) = watch::channel(control::first_picture(&settings));
    let outputs = Outputs {
        proxy: Arc::clone(&proxy),
        bgp: bgp.clone(),
        acme: acme.clone(),
        source: source.clone(),
        picture,
        metrics: Arc::clone(&metrics),
    };
    joints.guard(
        "control",
        control::run(
            settings.clone(),
            Arc::clone(&own_addresses),
            Some(sticky_key),
            received,
            outputs,
        ),
    );
    tasks.spawn(crate::own_addresses::watch(
        own_addresses,
        changes.clone(),
        stop.clone(),
    ));
    tasks.spawn(tick(changes.clone(), stop.clone()));
    tasks.spawn({
        let (changes, stop, settings) = (changes.clone(), stop.clone(), settings.clone());
        async move { crate::reload::watch(&config, settings, changes, stop).await }
    });
    let admin = Arc::new(Admin {
        picture: pictures.clone(),
        bgp: bgp.clone(),
        acme,
        source,
        registry,
        metrics,
        started: Timestamp::now(),
    });
    tasks.spawn(admin::serve(admin_listeners, admin, stop.clone()));
    tasks.close();
    info!(version = env!("CARGO_PKG_VERSION"), name = %settings.appliance.name, "running");
    notify(sd_notify::NotifyState::Ready);

    tokio::select! {
        restart = signals.stop() => if restart && let Some(bgp) = bgp.as_ref().filter(|_| returns(&settings)) {
            restart_soon(bgp, &proxy, &stop, &tasks).await;
            return Ok(());
        },
        // Serving on with half a head would hide the fault and help nobody; kernel routes stay for the next start.
        Some(room) = lost_rooms.recv() => anyhow::bail!("{room} ended by itself, which is a bug; see the log above"),
    }
    info!("stopping: VIPs are withdrawn, then connections drain; a second signal ends at once");
    notify(sd_notify::NotifyState::Stopping);
    let orderly = async {
        let upstream = bgp.as_ref().filter(|_| announces(&settings));
        if let Some(bgp) = upstream {
            // Routers that know RFC 8326 and have another way take it while this one still works.
            bgp.drain(true);
            tokio::time::sleep(TURN_AWAY).await;
        }
        let _ = changes.send(Change::Stopping).await; // control gone: nothing to withdraw
        if upstream.is_some() {
            tokio::time::sleep(TURN_AWAY).await;
        }
        proxy.finish().await;
        if let Some(bgp) = &bgp {
            tokio::time::sleep(LAST_WORDS).await;
            bgp.finish().await;
        }
        stop.cancel();
        drop((changes, joints));
        if tokio::time::timeout(LAST_GRACE, tasks.wait()).await.is_err() {
            warn!("some tasks did not end in time");
        }
    };
    tokio::select! {
        () = orderly => info!("stopped"),
        _ = signals.stop() => warn!("second signal: ending at once"),
    }
    Ok(())
}

/// Whether routers are asked to keep the VIPs over a restart.
fn returns(settings: &Settings) -> bool {
    let bgp = settings.bgp.as_ref();
    bgp.is_some_and(|bgp| bgp.identity.restart.enabled)
}

/// Ends so that the next process can go on: routers keep the VIPs, the kernel keeps the routes. What is under way has a moment
/// to end, since nobody else answers meanwhile.
async fn restart_soon(
    bgp: &sekisho_bgp::Handle,
    proxy: &sekisho_proxy::Handle,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    info!("restarting: VIPs and routes stay for the next process; connections have a moment to end");
    notify(sd_notify::NotifyState::Stopping);
    if tokio::time::timeout(RESTART_DRAIN, proxy.finish()).await.is_err() {
        warn!("connections that did not end in time are cut off");
    }
    bgp.leave().await;
    stop.cancel();
    if tokio::time::timeout(LAST_GRACE, tasks.wait()).await.is_err() {
        warn!("some tasks did not end in time");
    }
    info!("stopped for a restart");
}

fn announces(settings: &Settings) -> bool {
    settings.bgp.as_ref().is_some_and(|bgp| {
        bgp.peers.iter().any(|peer| peer.role == Role::Upstream)
            || bgp.peer_ranges.iter().any(|range| range.role == Role::Upstream)
    })
}

/// What joins the rooms to control. A room that ends before it is asked to is reported.
struct Joints {
    tasks: TaskTracker,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
    lost: mpsc::Sender<&'static str>,
}

impl Joints {
    /// Passes a room's events on to control as long as both live.
    fn forward<E: Send + 'static>(
        &self,
        room: &'static str,
        mut events: mpsc::Receiver<E>,
        change: fn(E) -> Option<Change>,
    ) {
        let changes = self.changes.clone();
        self.guard(room, async move {
            while let Some(event) = events.recv().await {
                if let Some(change) = change(event)
                    && changes.send(change).await.is_err()
                {
                    return;
                }
            }
        });
    }

    /// Runs `work`, and reports it when it ends, or panics, before `stop`.
    fn guard(&self, room: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (stop, lost) = (self.stop.clone(), self.lost.clone());
        let work = self.tasks.spawn(work);
        self.tasks.spawn(async move {
            let _ = work.await; // a panic has been printed by its hook
            if !stop.is_cancelled() {
                let _ = lost.try_send(room);
            }
        });
    }
}

fn from_proxy(event: sekisho_proxy::Event) -> Option<Change> {
    Some(match event {
        sekisho_proxy::Event::Listener { address, state } => Change::Listener { address, state },
        sekisho_proxy::Event::Health {
            address,
            check,
            health,
        } => Change::Health {
            of: (address, check),
            health,
        },
    })
}

fn from_bgp(event: sekisho_bgp::Event) -> Option<Change> {
    match event {
        sekisho_bgp::Event::Reach(reach) => Some(Change::Reach(reach)),
        // The speaker logs and counts it; what follows for the data plane comes as reachability.
        sekisho_bgp::Event::Peer { .. } => None,
    }
}

fn from_acme(event: sekisho_acme::Event) -> Option<Change> {
    Some(match event {
        sekisho_acme::Event::Certificate { names, certificate } => Change::Certificate { names, certificate },
        sekisho_acme::Event::Answer {
            token,
            answer,
            published,
        } => Change::Answer {
            token,
            answer,
            published,
        },
        sekisho_acme::Event::AnswerDone { token } => Change::AnswerDone { token },
    })
}

fn from_source(event: sekisho_ingress_controller::Event) -> Option<Change> {
    let sekisho_ingress_controller::Event::Translated {
        generation,
        part,
        findings,
    } = event;
    Some(Change::Translated {
        generation,
        part,
        findings,
    })
}

/// Tells control of the networks of pods that the cluster names.
async fn pod_networks(
    mut known: watch::Receiver<Vec<Prefix>>,
    changes: mpsc::Sender<Change>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = known.changed() => if changed.is_err() {
                // A directory names none.
                return stop.cancelled().await;
            }
        }
        let networks = known.borrow_and_update().clone();
        if changes.send(Change::PodNetworks(networks)).await.is_err() {
            return;
        }
    }
}

/// Keeps control's heartbeat going when nothing else happens.
async fn tick(changes: mpsc::Sender<Change>, stop: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        let _ = changes.try_send(Change::Tick); // full: control has enough to turn for
    }
}

fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "the service manager cannot be told");
    }
}

fn register_process(registry: &prometheus::Registry) -> prometheus::Result<()> {
    let build = prometheus::IntGaugeVec::new(
        prometheus::Opts::new("sekisho_build_info", "Version of the running program; always 1"),
        &["version"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))?;
    let start = prometheus::Gauge::new(
        "sekisho_start_timestamp_seconds",
        "When the process started, seconds since 1970-01-01 UTC",
    )?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 fit 52 bits for 140,000 years"
    )]
    start.set(Timestamp::now().as_millisecond() as f64 / 1000.0);
    registry.register(Box::new(start))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    restart: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot receive SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot receive SIGINT")?,
            restart: signal(SignalKind::user_defined2()).context("cannot receive SIGUSR2")?,
        })
    }

    /// Waits until the process is to end; `true`: another one is to follow at once.
    ///
    /// Cancel-safe: yes.
    async fn stop(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = self.restart.recv() => true,
        }
    }
}
