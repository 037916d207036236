//! Opens and closes the sockets of HTTP/3 beside HTTPS listeners, for all workers at once.
//!
//! Sockets of one address share a group, in which the place of a socket says whose it is. So all of them are opened together,
//! and none is opened while a worker still serves connections on the ones before.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::alt_svc::AltSvc;
use crate::http::http3::{Keys, Opening};
use crate::listen::{Listeners, RETRY, lock, said};
use crate::snapshot::Snapshot;
use crate::socket;
use crate::worker::Command;

/// How listeners for datagrams are called where kinds of listeners are listed.
const KIND: &str = "http3";

enum State {
    Open {
        close: CancellationToken,
        /// Held by the workers that serve connections on it.
        held: Weak<()>,
    },
    /// Closed, and connections are still served on it.
    Draining(Weak<()>),
    Failed {
        error: String,
        again: Instant,
        pause: Duration,
    },
}

/// The sockets of HTTP/3, by the address that the snapshot names.
#[derive(Default)]
pub(crate) struct Datagrams {
    sockets: HashMap<SocketAddr, State>,
    alt_svc: HashMap<SocketAddr, Arc<AltSvc>>,
    /// When to look again for those that wait for others to be closed.
    again: Option<Instant>,
}

impl Datagrams {
    /// What is to be said of HTTP/3 on a listener.
    pub(crate) fn alt_svc(&mut self, address: SocketAddr) -> Arc<AltSvc> {
        Arc::clone(self.alt_svc.entry(address).or_default())
    }

    /// When [`Datagrams::follow`] has something to do even if nothing changes.
    pub(crate) fn again(&self) -> Option<Instant> {
        let failed = self.sockets.values().filter_map(|state| match state {
            State::Failed { again, .. } => Some(*again),
            State::Open { .. } | State::Draining(_) => None,
        });
        // Open ones are looked after now and then: they may have failed.
        let look = (!self.sockets.is_empty()).then(|| Instant::now() + RETRY.1);
        failed.chain(self.again).chain(look).min()
    }

    /// Opens and closes sockets to match the snapshot. Listeners of TCP come first: one on port 0 says which port it is.
    pub(crate) async fn follow(&mut self, listeners: &Listeners, snapshot: &Snapshot) {
        self.again = None;
        let wanted = snapshot.http3();
        if wanted.is_empty() && self.sockets.is_empty() {
            return;
        }
        let gone: Vec<SocketAddr> = self
            .sockets
            .keys()
            .filter(|address| !wanted.contains(address) || bound(listeners, **address).is_none())
            .copied()
            .collect();
        for address in gone {
            self.close(listeners, address);
        }
        let failed = |state: &State| matches!(state, State::Open { close, .. } if close.is_cancelled());
        let failed: Vec<SocketAddr> = self
            .sockets
            .iter()
            .filter(|(_, state)| failed(state))
            .map(|(address, _)| *address)
            .collect();
        for address in failed {
            self.close(listeners, address);
        }
        for address in wanted {
            let Some(real) = bound(listeners, *address) else {
                continue;
            };
            let pause = match self.sockets.get(address) {
                None => RETRY.0,
                Some(State::Open { .. }) => continue,
                Some(State::Draining(held)) if held.strong_count() > 0 => {
                    self.again = Some(Instant::now() + RETRY.0);
                    continue;
                }
                Some(State::Draining(_)) => RETRY.0,
                Some(State::Failed { again, .. }) if *again > Instant::now() => continue,
                Some(State::Failed { pause, .. }) => (*pause * 2).min(RETRY.1),
            };
            let before = self.sockets.remove(address);
            let is_alone = !self.sockets.keys().any(|other| other.port() == address.port());
            let state = match open(listeners, snapshot, *address, real, is_alone).await {
                Ok(state) => {
                    tracing::info!(listener = %real, kind = KIND, "listener bound");
                    self.alt_svc(*address).on(real.port());
                    state
                }
                Err(error) => {
                    let error = said(&error);
                    if !matches!(&before, Some(State::Failed { error: known, .. }) if *known == error) {
                        tracing::warn!(listener = %real, kind = KIND, error, "a listener cannot be bound; trying again");
                    }
                    State::Failed {
                        error,
                        again: Instant::now() + pause,
                        pause,
                    }
                }
            };
            let is_open = matches!(state, State::Open { .. });
            lock(&listeners.shared.metrics.listeners).insert((*address, KIND), is_open);
            self.sockets.insert(*address, state);
        }
    }

    fn close(&mut self, listeners: &Listeners, address: SocketAddr) {
        match self.sockets.remove(&address) {
            Some(State::Open { close, held }) => {
                tracing::info!(listener = %address, kind = KIND, "listener closed");
                close.cancel();
                self.alt_svc(address).off();
                self.sockets.insert(address, State::Draining(held));
            }
            Some(State::Draining(held)) if held.strong_count() > 0 => {
                self.sockets.insert(address, State::Draining(held));
            }
            Some(State::Draining(_) | State::Failed { .. }) | None => {}
        }
        lock(&listeners.shared.metrics.listeners).remove(&(address, KIND));
    }
}

/// Where a listener of TCP is really bound.
fn bound(listeners: &Listeners, address: SocketAddr) -> Option<SocketAddr> {
    lock(&listeners.bound).get(&address).copied()
}

async fn open(
    listeners: &Listeners,
    snapshot: &Snapshot,
    address: SocketAddr,
    real: SocketAddr,
    is_alone: bool,
) -> io::Result<State> {
    // Beside sockets of our own the question has no meaning: they are in the way themselves.
    if is_alone {
        socket::probe_datagrams(real)?;
    }
    let workers = listeners.workers.len();
    let sockets = socket::datagrams(real, workers)?;
    let keys = Arc::new(Keys::new(snapshot, &listeners.shared.appliance));
    let close = CancellationToken::new();
    let held = Arc::new(());
    for (socket, worker) in sockets.into_iter().zip(&listeners.workers) {
        let opening = Opening {
            socket,
            address,
            workers: u16::try_from(workers).unwrap_or(u16::MAX),
            keys: Arc::clone(&keys),
            close: close.clone(),
            held: Arc::clone(&held),
        };
        worker
            .send(Command::Datagrams(opening))
            .await
            .map_err(|_| io::Error::other("a data worker has ended"))?;
    }
    Ok(State::Open {
        close,
        held: Arc::downgrade(&held),
    })
}
