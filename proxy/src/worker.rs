//! One data worker: a thread with a single-threaded runtime, its own sockets, its own connections to endpoints.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use http::HeaderValue;
use sekisho_config::model::{Action, Route};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

use crate::access_log::{self, Lines};
use crate::addresses::{Addresses, Counted};
use crate::alarm::{self, Alarms};
use crate::balance::Dice;
use crate::http::alt_svc::AltSvc;
use crate::http::http3::Opening;
use crate::http::{Target, http3};
use crate::metrics::{Counters, Metrics};
use crate::route::Winner;
use crate::snapshot::{Snapshot, Withdrawn};
use crate::start::Live;
use crate::trace::export;
use crate::upstream::Upstreams;
use crate::wire::{Mailbox, Wires};
use crate::{accept, metrics, pulse};

/// Ports of which a worker keeps the text.
const MOST_PORTS: usize = 16;

/// What all workers share. Nothing in it is locked.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) live: Arc<ArcSwap<Live>>,
    pub(crate) appliance: Arc<str>,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// TLS of HTTP/3.
    pub(crate) quic: http3::Tls,
    pub(crate) metrics: Arc<Metrics>,
    /// What was withdrawn, for each worker.
    pub(crate) mailboxes: Box<[Mailbox]>,
    /// Client connections of all workers.
    pub(crate) admitted: AtomicUsize,
    /// The same by address.
    pub(crate) addresses: Arc<Addresses>,
    /// What the doors of all routes count in.
    pub(crate) doors: crate::door::Tables,
    /// No further connection or request; what runs may finish.
    pub(crate) stop: CancellationToken,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept on this socket until `close`.
    Open {
        socket: TcpListener,
        address: SocketAddr,
        flavour: Flavour,
        alt_svc: Arc<AltSvc>,
        close: CancellationToken,
    },
    /// Serve HTTP/3 on this socket.
    Datagrams(Opening),
}

/// What a listener's connections speak.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Flavour {
    Http,
    Https,
    Tcp,
}

impl Flavour {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
        }
    }
}

/// Whom a worker tells what it has done.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) lines: access_log::Sender,
    pub(crate) spans: export::Sender,
}

/// A worker's own world; everything in it is used from one thread only.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) dice: RefCell<Dice>,
    /// What is known of passwords.
    pub(crate) passwords: crate::door::basic::Known,
    /// Waits of client connections.
    pub(crate) alarms: Rc<Alarms>,
    pub(crate) lines: Lines,
    pub(crate) spans: export::Sender,
    /// Client connections and streams.
    pub(crate) connections: TaskTracker,
    /// Upgraded and TCP connections.
    pub(crate) tunnels: TaskTracker,
    /// No further connection or request; what runs may finish.
    pub(crate) stop: Signal,
    /// The time for exchanges to finish is over.
    pub(crate) cut: Signal,
    /// The time for tunnels to finish is over.
    pub(crate) cut_tunnels: CancellationToken,
    /// What is ready to go on waits too long here: new requests are refused.
    pub(crate) sheds: Cell<bool>,
    current: RefCell<Current>,
    live: RefCell<(Cached<Live>, Rc<Settings>)>,
    request_ids: Cell<u64>,
    /// Ports as text.
    ports: RefCell<Vec<(u16, Rc<HeaderValue>)>>,
}

/// Something that a worker tells all its connections once. They ask for it all the time, which takes no lock.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    given: Cell<bool>,
    token: CancellationToken,
}

impl Signal {
    fn give(&self) {
        self.given.set(true);
        self.token.cancel();
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.get()
    }

    /// Ends when it is given.
    ///
    /// Cancel-safe: yes.
    pub(crate) fn given(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }
}

/// What all workers share, as one of them saw it last.
type Cached<T> = Cache<Arc<ArcSwap<T>>, Arc<T>>;

/// The snapshot in use, counted by this worker alone: taking it for a request touches no memory that others write.
#[derive(Debug)]
struct Current {
    cache: Cached<Snapshot>,
    held: Rc<World>,
}

/// The settings as one worker holds them: its connections take shares in this.
#[derive(Debug)]
pub(crate) struct Settings(Arc<Live>);

impl Settings {
    pub(crate) fn new(live: Arc<Live>) -> Rc<Self> {
        Rc::new(Self(live))
    }
}

impl std::ops::Deref for Settings {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.0
    }
}

/// A snapshot as one worker holds it. A request takes a share in this, so that the count that all workers share is
/// touched once for each snapshot and not once for each request.
#[derive(Debug)]
pub(crate) struct World {
    snapshot: Arc<Snapshot>,
    /// By the place of the route in the snapshot, and that of its action, of which one may have several.
    targets: RefCell<HashMap<(*const Route, *const Action), Rc<Target>, hashbrown::DefaultHashBuilder>>,
}

impl World {
    fn new(snapshot: &Arc<Snapshot>) -> Rc<Self> {
        Rc::new(Self {
            snapshot: Arc::clone(snapshot),
            targets: RefCell::default(),
        })
    }

    /// Where a route of this snapshot leads; the die is rolled where it leads to several places.
    pub(crate) fn target(&self, winner: &Winner<'_>, dice: &RefCell<Dice>) -> Rc<Target> {
        let route = winner.route;
        let action = match &route.action {
            split @ Action::Split(_) => split.rolled(dice.borrow_mut().roll()),
            other => other,
        };
        let mut targets = self.targets.borrow_mut();
        let place = (std::ptr::from_ref(route), std::ptr::from_ref(action));
        let target = targets.entry(place).or_insert_with(|| {
            Rc::new(Target {
                ingress: route.id.ingress.clone(),
                pool: match action {
                    Action::Forward(id) => self.snapshot.pool(id).cloned(),
                    Action::Split(_) | Action::Unavailable(_) => None,
                },
                filters: winner.filters.cloned(),
            })
        });
        Rc::clone(target)
    }
}

impl std::ops::Deref for World {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// A place among the connections that may be open at a time.
#[derive(Debug)]
pub(crate) struct Admitted {
    worker: Rc<Worker>,
    gauge: metrics::Cell,
    _counted: Option<Box<Counted>>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.worker.shared.admitted.fetch_sub(1, Ordering::Relaxed);
        self.worker.counters.dec(self.gauge);
    }
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, told: Told) -> Rc<Self> {
        let counters = shared.metrics.worker(index).unwrap_or_else(Metrics::detached);
        let mut cache = Cache::new(Arc::clone(&shared.snapshot));
        let held = World::new(cache.load());
        let mut settings = Cache::new(Arc::clone(&shared.live));
        let live = Settings::new(Arc::clone(settings.load()));
        let seed = seed(index);
        Rc::new(Self {
            index,
            upstreams: Upstreams::new(Arc::clone(&counters), Wires::new(Arc::clone(&shared.snapshot))),
            counters,
            dice: RefCell::new(Dice::new(seed)),
            passwords: crate::door::basic::Known::default(),
            alarms: Rc::default(),
            lines: Lines::new(told.lines),
            spans: told.spans,
            connections: TaskTracker::new(),
            tunnels: TaskTracker::new(),
            stop: Signal::default(),
            cut: Signal::default(),
            cut_tunnels: CancellationToken::new(),
            current: RefCell::new(Current { cache, held }),
            live: RefCell::new((settings, live)),
            request_ids: Cell::new(0),
            sheds: Cell::new(false),
            ports: RefCell::default(),
            shared,
        })
    }

    /// The snapshot of this moment. A request calls this once and keeps it to its end.
    pub(crate) fn snapshot(&self) -> Rc<World> {
        let mut current = self.current.borrow_mut();
        let Current { cache, held } = &mut *current;
        let now = cache.load();
        if !Arc::ptr_eq(now, &held.snapshot) {
            *held = World::new(now);
        }
        Rc::clone(held)
    }

    /// The settings of this moment. A connection calls this once and keeps them to its end.
    pub(crate) fn live(&self) -> Rc<Settings> {
        let mut live = self.live.borrow_mut();
        let (cache, held) = &mut *live;
        let now = cache.load();
        if !Arc::ptr_eq(now, &held.0) {
            *held = Settings::new(Arc::clone(now));
        }
        Rc::clone(held)
    }

    /// Whether as many connections are open as may be. Several listeners that look at the same moment may each let
    /// one more in.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.admitted.load(Ordering::Relaxed) >= self.shared.live.load().http.max_connections
    }

    /// Whether connections beyond the limit are closed instead of left waiting.
    pub(crate) fn closes_when_full(&self) -> bool {
        self.shared.live.load().http.close_when_full
    }

    /// Counts one more connection, until the return value is dropped. `None`: its address has too many.
    pub(crate) fn admit(self: &Rc<Self>, address: IpAddr, gauge: metrics::Cell) -> Option<Admitted> {
        let most = self.shared.live.load().http.max_connections_per_address;
        let Ok(counted) = self.shared.addresses.enter(address, most) else {
            self.counters.inc(metrics::Cell::AddressLimited);
            return None;
        };
        self.shared.admitted.fetch_add(1, Ordering::Relaxed);
        self.counters.inc(gauge);
        Some(Admitted {
            worker: Rc::clone(self),
            gauge,
            _counted: counted.map(Box::new),
        })
    }

    /// A port as text, shared by the connections that came to it.
    pub(crate) fn port_value(&self, port: u16) -> Rc<HeaderValue> {
        let mut ports = self.ports.borrow_mut();
        if let Some((_, value)) = ports.iter().find(|(known, _)| *known == port) {
            return Rc::clone(value);
        }
        let value = Rc::new(HeaderValue::from(port));
        // Ports that PROXY headers name are anybody's choice.
        if ports.len() < MOST_PORTS {
            ports.push((port, Rc::clone(&value)));
        }
        value
    }

    /// A new request id: 32 hexadecimal digits.
    pub(crate) fn request_id(&self) -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let count = self.request_ids.get().wrapping_add(1);
        self.request_ids.set(count);
        let mut dice = self.dice.borrow_mut();
        let mut digits = [0; 32];
        let bits = [dice.roll(), dice.roll() ^ count];
        for (digits, bits) in digits.chunks_exact_mut(16).zip(bits) {
            for (digit, place) in digits.iter_mut().zip((0..16).rev()) {
                *digit = HEX
                    .get((bits >> (4 * place)) as usize & 15)
                    .copied()
                    .unwrap_or(b'0');
            }
        }
        HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

/// Where the dice of a thread begin.
pub(crate) fn seed(index: usize) -> u64 {
    let mut seed = [0; 8];
    // Where the system has no randomness the index will do: the choice of an endpoint is no secret.
    let _ = rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut seed);
    u64::from_ne_bytes(seed) ^ index as u64
}

/// The whole life of a worker's thread.
pub(crate) async fn run(
    index: usize,
    shared: Arc<Shared>,
    told: Told,
    mut commands: mpsc::Receiver<Command>,
) {
    let worker = Worker::new(index, Arc::clone(&shared), told);
    let accepting = TaskTracker::new();
    accepting.spawn_local(pulse::run(Rc::clone(&worker)));
    let mut tick = tokio::time::interval(alarm::TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0u32;
    let mailbox = shared.mailboxes.get(index);
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            command = commands.recv() => match command {
                Some(Command::Open { socket, address, flavour, alt_svc, close }) => {
                    accepting.spawn_local(accept::run(Rc::clone(&worker), socket, address, flavour, alt_svc, close));
                }
                Some(Command::Datagrams(opening)) => {
                    worker.connections.spawn_local(http3::run(Rc::clone(&worker), opening));
                }
                None => break,
            },
            withdrawn = news(mailbox) => worker.upstreams.withdraw(&withdrawn),
            _ = tick.tick() => {
                worker.alarms.ring(Instant::now());
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(2) {
                    worker.lines.hand_over(&worker.counters);
                }
                if ticks.is_multiple_of(50) {
                    worker.upstreams.sweep();
                    // An idle worker must not keep what is old alive.
                    drop((worker.snapshot(), worker.live()));
                }
            }
        }
    }
    worker.stop.give();
    worker.alarms.ring_all();
    tokio::select! {
        () = drain(&worker, &accepting) => {}
        () = async { loop { tick.tick().await; worker.alarms.ring(Instant::now()); } } => {}
        // Routes are withdrawn while the box stops, too.
        () = async { loop { worker.upstreams.withdraw(&news(mailbox).await); } } => {}
    }
    worker.upstreams.clear();
    worker.lines.hand_over(&worker.counters);
}

/// What was withdrawn since the last time.
async fn news(mailbox: Option<&Mailbox>) -> Withdrawn {
    match mailbox {
        Some(mailbox) => mailbox.take().await,
        None => std::future::pending().await,
    }
}

/// Lets what runs finish: exchanges for their time, tunnels for theirs, both from now.
async fn drain(worker: &Worker, accepting: &TaskTracker) {
    let timeouts = worker.live().timeouts.clone();
    accepting.close();
    accepting.wait().await;
    worker.connections.close();
    worker.tunnels.close();
    let end = async |tasks: &TaskTracker, limit: Duration, cut: &dyn Fn(), what: &'static str| {
        if timeout(limit, tasks.wait()).await.is_err() {
            tracing::warn!(
                worker = worker.index,
                left = tasks.len(),
                what,
                "cut at the end of the drain time"
            );
        }
        cut();
        // What is cut ends at once; this lets it write its last line.
        let _ = timeout(Duration::from_secs(1), tasks.wait()).await;
    };
    // An exchange may still become a tunnel while it drains.
    let begun = Instant::now();
    let cut = || {
        worker.cut.give();
        worker.alarms.ring_all();
    };
    end(&worker.connections, timeouts.drain, &cut, "exchanges").await;
    let left = timeouts.drain_tunnels.saturating_sub(begun.elapsed());
    let cut = || worker.cut_tunnels.cancel();
    end(&worker.tunnels, left, &cut, "tunnels").await;
}
