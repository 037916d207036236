use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::ListenError;
use crate::metrics::Metrics;
use crate::view::ListenerView;

/// Between two attempts to bind a socket.
const RETRY: Duration = Duration::from_secs(5);

/// Pause after the system refuses to accept (no file descriptors left): trying at once would spin.
const REFUSED: Duration = Duration::from_millis(100);

/// State of the listening sockets, by configured address.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Arc<Mutex<BTreeMap<SocketAddr, Result<SocketAddr, String>>>>);

impl Listeners {
    pub(super) fn views(&self) -> Vec<ListenerView> {
        let listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners
            .iter()
            .map(|(address, state)| ListenerView {
                address: *address,
                bound: state.as_ref().ok().copied(),
                error: state.as_ref().err().cloned(),
            })
            .collect()
    }

    fn set(&self, address: SocketAddr, state: Result<SocketAddr, String>) -> bool {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = listeners.get(&address) != Some(&state);
        listeners.insert(address, state);
        changed
    }
}

/// Accepts connections for ever: binds, and binds again when that fails.
pub(super) async fn listen(
    address: SocketAddr,
    listeners: Listeners,
    accepted: mpsc::Sender<(TcpStream, SocketAddr)>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let gauge = metrics.listening.with_label_values(&[&address.to_string()]);
    let work = async {
        loop {
            match bind(address) {
                Ok(listener) => {
                    let bound = listener.local_addr().unwrap_or(address);
                    info!(%address, %bound, "listening for BGP");
                    listeners.set(address, Ok(bound));
                    gauge.set(1);
                    accept(&listener, &accepted).await;
                    return;
                }
                Err(source) => {
                    let error = ListenError { address, source };
                    gauge.set(0);
                    if listeners.set(address, Err(error.to_string())) {
                        warn!(%error, "BGP cannot listen");
                    }
                }
            }
            sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
    gauge.set(0);
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0` must not collide with it.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// Returns when the speaker is gone.
async fn accept(listener: &TcpListener, accepted: &mpsc::Sender<(TcpStream, SocketAddr)>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let _ = stream.set_nodelay(true);
                if accepted.send((stream, from)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "a BGP connection could not be accepted");
                sleep(REFUSED).await;
            }
        }
    }
}
