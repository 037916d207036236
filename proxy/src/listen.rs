//! Opens and closes listening sockets to match the snapshot, for all workers at once, and says what became of them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imbl::OrdMap;
use sekisho_config::model::ListenerState;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::datagrams::Datagrams;
use crate::http::alt_svc::AltSvc;
use crate::snapshot::ListenerKind;
use crate::socket;
use crate::start::Event;
use crate::worker::{Command, Flavour, Shared};

/// Between two tries to bind: from, to.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Where listeners are really bound, by the address that the snapshot names.
pub(crate) type Bound = Mutex<HashMap<SocketAddr, SocketAddr>>;

enum Listener {
    Open {
        flavour: Flavour,
        close: CancellationToken,
    },
    Failed {
        flavour: Flavour,
        error: String,
        again: Instant,
        pause: Duration,
    },
}

impl Listener {
    fn flavour(&self) -> Flavour {
        match self {
            Self::Open { flavour, .. } | Self::Failed { flavour, .. } => *flavour,
        }
    }
}

pub(crate) struct Listeners {
    pub(crate) shared: Arc<Shared>,
    /// Told when a snapshot was published.
    pub(crate) changed: Arc<Notify>,
    pub(crate) bound: Arc<Bound>,
    pub(crate) workers: Vec<mpsc::Sender<Command>>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Listeners {
    /// Runs until the box stops; then closes every socket.
    pub(crate) async fn run(self) {
        let mut open: HashMap<SocketAddr, Listener> = HashMap::new();
        let mut datagrams = Datagrams::default();
        let mut followed = OrdMap::new();
        loop {
            let snapshot = self.shared.snapshot.load_full();
            let wanted = snapshot.listeners().clone();
            let due = |listener: &Listener| matches!(listener, Listener::Failed { again, .. } if *again <= Instant::now());
            // Most snapshots change no listener.
            if !wanted.ptr_eq(&followed) || open.values().any(due) {
                self.follow(&wanted, &mut open, &mut datagrams).await;
                followed = wanted;
            }
            datagrams.follow(&self, &snapshot).await;
            drop(snapshot);
            let again = open.values().filter_map(|listener| match listener {
                Listener::Failed { again, .. } => Some(*again),
                Listener::Open { .. } => None,
            });
            let again = again.chain(datagrams.again()).min();
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                () = self.changed.notified() => {}
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
        for listener in open.into_values() {
            if let Listener::Open { close, .. } = listener {
                close.cancel();
            }
        }
    }

    async fn follow(
        &self,
        wanted: &OrdMap<SocketAddr, ListenerKind>,
        open: &mut HashMap<SocketAddr, Listener>,
        datagrams: &mut Datagrams,
    ) {
        let wanted: HashMap<SocketAddr, Flavour> = wanted
            .iter()
            .map(|(address, kind)| (*address, flavour(kind)))
            .collect();
        let gone: Vec<SocketAddr> = open
            .iter()
            .filter(|(address, listener)| wanted.get(*address) != Some(&listener.flavour()))
            .map(|(address, _)| *address)
            .collect();
        for address in gone {
            if let Some(Listener::Open { close, .. }) = open.remove(&address) {
                tracing::info!(listener = %address, "listener closed");
                close.cancel();
            }
            lock(&self.bound).remove(&address);
            lock(&self.shared.metrics.listeners).retain(|(at, _), _| *at != address);
            if !wanted.contains_key(&address) {
                self.tell(address, None).await;
            }
        }
        for (address, flavour) in wanted {
            let pause = match open.get(&address) {
                None => RETRY.0,
                Some(Listener::Failed { again, pause, .. }) if *again <= Instant::now() => {
                    (*pause * 2).min(RETRY.1)
                }
                Some(_) => continue,
            };
            let alone = !open.iter().any(|(other, listener)| {
                other.port() == address.port() && matches!(listener, Listener::Open { .. })
            });
            let alt_svc = datagrams.alt_svc(address);
            let (listener, state) = match self.open(address, flavour, alt_svc, alone).await {
                Ok(close) => {
                    tracing::info!(listener = %address, kind = flavour.as_str(), "listener bound");
                    (Listener::Open { flavour, close }, ListenerState::Bound)
                }
                Err(error) => {
                    let error = said(&error);
                    let again = Instant::now() + pause;
                    (
                        Listener::Failed {
                            flavour,
                            error: error.clone(),
                            again,
                            pause,
                        },
                        ListenerState::Failed { error },
                    )
                }
            };
            let known = match (open.get(&address), &listener) {
                (Some(Listener::Failed { error: old, .. }), Listener::Failed { error, .. }) => old == error,
                _ => false,
            };
            let is_bound = state == ListenerState::Bound;
            lock(&self.shared.metrics.listeners).insert((address, flavour.as_str()), is_bound);
            open.insert(address, listener);
            if !known {
                if let ListenerState::Failed { error } = &state {
                    tracing::warn!(listener = %address, error, "a listener cannot be bound; trying again");
                }
                self.tell(address, Some(state)).await;
            }
        }
    }

    async fn open(
        &self,
        address: SocketAddr,
        flavour: Flavour,
        alt_svc: Arc<AltSvc>,
        alone: bool,
    ) -> io::Result<CancellationToken> {
        // Beside sockets of our own the question has no meaning: they are in the way themselves.
        if alone && address.port() != 0 {
            socket::probe(address)?;
        }
        let sockets = socket::listen(address, self.workers.len())?;
        if let Some(real) = sockets.first().and_then(|socket| socket.local_addr().ok()) {
            lock(&self.bound).insert(address, real);
        }
        let close = CancellationToken::new();
        for (socket, worker) in sockets.into_iter().zip(&self.workers) {
            let command = Command::Open {
                socket,
                address,
                flavour,
                alt_svc: Arc::clone(&alt_svc),
                close: close.clone(),
            };
            worker
                .send(command)
                .await
                .map_err(|_| io::Error::other("a data worker has ended"))?;
        }
        Ok(close)
    }

    /// Hands an event over; a receiver that is gone has no interest any more.
    async fn tell(&self, address: SocketAddr, state: Option<ListenerState>) {
        tokio::select! {
            _ = self.events.send(Event::Listener { address, state }) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }
}

fn flavour(kind: &ListenerKind) -> Flavour {
    match kind {
        ListenerKind::Http => Flavour::Http,
        ListenerKind::Https => Flavour::Https,
        ListenerKind::Tcp(_) => Flavour::Tcp,
    }
}

/// The error with the way out where there is one.
pub(crate) fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{error}; another process listens there (see `ss -tulnp`)"),
        io::ErrorKind::PermissionDenied => {
            format!("{error}; ports below 1024 need the capability CAP_NET_BIND_SERVICE")
        }
        _ => error.to_string(),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
