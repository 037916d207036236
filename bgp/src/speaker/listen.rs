use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sekisho_config::model::{Bgp, Prefix};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::ListenError;
use crate::metrics::Metrics;
use crate::session::socket::Signature;
use crate::view::ListenerView;

/// Between two attempts to bind a socket.
const RETRY: Duration = Duration::from_secs(5);

/// Pause after the system refuses to accept (no file descriptors left): trying at once would spin.
const REFUSED: Duration = Duration::from_millis(100);

/// State of the listening sockets, by configured address.
#[derive(Clone, Debug, Default)]
pub(super) struct Listeners(Arc<Mutex<BTreeMap<SocketAddr, State>>>);

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct State {
    bound: Option<SocketAddr>,
    error: Option<String>,
}

/// Who has to sign, and with which keys (RFC 2385, RFC 5925).
pub(super) type Signers = BTreeMap<Prefix, Signature>;

/// The keys of peers and ranges. Of several that fit an address the kernel takes the longest prefix, as we do.
pub(super) fn signers(bgp: &Bgp) -> Signers {
    let ranges = bgp
        .peer_ranges
        .iter()
        .map(|range| (range.prefix, &range.transport));
    let peers = bgp
        .peers
        .iter()
        .map(|peer| (Prefix::host(peer.address.to_canonical()), &peer.transport));
    ranges
        .chain(peers)
        .filter_map(|(prefix, transport)| {
            let password = transport.password.clone().map(Signature::Md5);
            let ao = (!transport.ao_keys.is_empty()).then(|| Signature::Ao(transport.ao_keys.clone()));
            Some((prefix, password.or(ao)?))
        })
        .collect()
}

impl Listeners {
    pub(super) fn views(&self) -> Vec<ListenerView> {
        let listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners
            .iter()
            .map(|(address, state)| ListenerView {
                address: *address,
                bound: state.bound,
                error: state.error.clone(),
            })
            .collect()
    }

    fn set(&self, address: SocketAddr, state: State) -> bool {
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
    mut wanted: watch::Receiver<Signers>,
    accepted: mpsc::Sender<(TcpStream, SocketAddr)>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let gauge = metrics.listening.with_label_values(&[&address.to_string()]);
    let work = async {
        loop {
            let mut signers = Signers::new();
            let bound = bind(address).and_then(|socket| {
                let error = keep_signers(&socket, &mut signers, &wanted.borrow_and_update());
                socket.listen(128)?;
                Ok((TcpListener::from_std(socket.into())?, error))
            });
            match bound {
                Ok((listener, mut error)) => {
                    let bound = listener.local_addr().unwrap_or(address);
                    info!(%address, %bound, "listening for BGP");
                    gauge.set(1);
                    loop {
                        let state = State {
                            bound: Some(bound),
                            error: error.clone(),
                        };
                        if listeners.set(address, state)
                            && let Some(error) = error
                        {
                            warn!(%address, %error, "BGP peers that have to sign cannot connect here");
                        }
                        tokio::select! {
                            () = accept(&listener, &accepted) => return,
                            changed = wanted.changed() => match changed {
                                Ok(()) => error = keep_signers(&listener, &mut signers, &wanted.borrow_and_update()),
                                Err(_) => return,
                            },
                        }
                    }
                }
                Err(source) => {
                    let error = ListenError { address, source };
                    gauge.set(0);
                    let state = State {
                        bound: None,
                        error: Some(error.to_string()),
                    };
                    if listeners.set(address, state) {
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

/// Makes the keys of a socket those that are wanted; the first thing that stands in the way. What could not be set is
/// tried again at the next change, and no connection of that peer is let in meanwhile.
fn keep_signers(socket: &impl AsFd, have: &mut Signers, wanted: &Signers) -> Option<String> {
    let mut failed = None;
    let ipv4 = SockRef::from(socket)
        .domain()
        .is_ok_and(|domain| domain == Domain::IPV4);
    // An MD5 key is replaced by setting another one; every other change takes the old ones away first.
    let replaced = |old: &Signature, new: Option<&Signature>| match (old, new) {
        (Signature::Md5(_), Some(Signature::Md5(_))) => false,
        (old, new) => new != Some(old),
    };
    let gone: Vec<_> = have
        .iter()
        .filter(|(prefix, old)| replaced(old, wanted.get(prefix)))
        .map(|(prefix, old)| (*prefix, old.clone()))
        .collect();
    for (prefix, old) in gone {
        if let Err(error) = old.waive(socket, prefix) {
            failed.get_or_insert_with(|| format!("{prefix}: {error}"));
        }
        have.remove(&prefix);
    }
    for (prefix, key) in wanted.iter().filter(|(prefix, _)| prefix.is_ipv4() == ipv4) {
        if have.get(prefix) == Some(key) {
            continue;
        }
        match key.ask(socket, *prefix) {
            Ok(()) => drop(have.insert(*prefix, key.clone())),
            Err(error) => drop(failed.get_or_insert_with(|| format!("{prefix}: {error}"))),
        }
    }
    failed
}

/// A socket that does not listen yet.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0` must not collide with it.
        socket.set_only_v6(true)?;
    }
    // Peers with GTSM take the answer to their SYN only so; each connection is then given the TTL of its peer.
    if address.is_ipv4() {
        socket.set_ttl_v4(u32::from(u8::MAX))?;
    } else {
        socket.set_unicast_hops_v6(u32::from(u8::MAX))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
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
