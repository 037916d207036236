//! One worker's socket: who may begin a connection, who has to prove the address first, and the end.

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, Incoming, ServerConfig, TokioRuntime, VarInt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::settings::Keys;
use crate::h3::Code;
use crate::metrics::Cell as Metric;
use crate::proxy_protocol::Ends;
use crate::socket;
use crate::start::Live;
use crate::worker::Worker;

/// How often it is looked for datagrams that were dropped.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last datagrams of the last connections may take.
const FAREWELL: Duration = Duration::from_millis(300);

/// A socket to serve HTTP/3 on.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) socket: UdpSocket,
    /// As the snapshot names it.
    pub(crate) address: SocketAddr,
    /// How many workers share the address.
    pub(crate) workers: u16,
    pub(crate) keys: Arc<Keys>,
    /// No further connection or request; what runs may finish.
    pub(crate) close: CancellationToken,
    /// Says as long as it lives that the socket is open.
    pub(crate) held: Arc<()>,
}

/// What the connections of a socket share.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) worker: Rc<Worker>,
    /// Where the socket is bound.
    pub(super) local: SocketAddr,
    pub(super) close: CancellationToken,
    /// Handshakes that have begun and not ended.
    handshakes: Cell<u32>,
}

/// One handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake(Rc<Place>);

impl Handshake {
    fn begin(place: &Rc<Place>) -> Self {
        place.handshakes.set(place.handshakes.get() + 1);
        Self(Rc::clone(place))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get().saturating_sub(1));
    }
}

/// Serves HTTP/3 on a socket until it is closed and its connections have ended.
pub(crate) async fn run(worker: Rc<Worker>, opening: Opening) {
    let Opening {
        socket,
        address,
        workers,
        keys,
        close,
        held: _held,
    } = opening;
    let watch = socket.try_clone();
    let index = u16::try_from(worker.index).unwrap_or_default();
    let config = keys.endpoint(index, workers);
    let mut told = Told::new(&keys, &worker);
    let endpoint = socket.local_addr().and_then(|local| {
        let server = ServerConfig::clone(&told.config);
        Ok((
            local,
            Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))?,
        ))
    });
    let (local, endpoint) = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(listener = %address, %error, "a socket for datagrams cannot be watched");
            return;
        }
    };
    let place = Rc::new(Place {
        worker: Rc::clone(&worker),
        local,
        close,
        handshakes: Cell::new(0),
    });
    let connections = TaskTracker::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut dropped = 0;
    let mut ends: Option<Instant> = None;
    let mut stop = pin!(async {
        tokio::select! {
            () = place.close.cancelled() => {}
            () = worker.stop.given() => {}
        }
    });
    loop {
        tokio::select! {
            biased;
            () = &mut stop, if ends.is_none() => {
                connections.close();
                ends = Some(Instant::now() + worker.shared.live.load().timeouts.drain);
            }
            () = connections.wait(), if ends.is_some() => break,
            () = sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => break,
            () = worker.cut.given(), if ends.is_some() => break,
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else {
                    // The socket has failed. All workers let go of theirs, and new ones are opened.
                    tracing::error!(listener = %address, "a socket for datagrams has failed");
                    place.close.cancel();
                    break;
                };
                if ends.is_some() {
                    // The client hears at once that it has to go elsewhere.
                    incoming.refuse();
                    continue;
                }
                told.follow(&keys, &worker);
                if let Some(serving) = begin(&place, incoming, &told) {
                    worker.connections.spawn_local(connections.track_future(serving));
                }
            }
            _ = look.tick() => {
                if let Ok(socket) = &watch
                    && let Ok(now) = socket::dropped(socket)
                {
                    worker.counters.add(Metric::DatagramsDropped, u64::from(now.wrapping_sub(dropped)));
                    dropped = now;
                }
            }
        }
    }
    endpoint.close(code(Code::NO_ERROR), b"");
    let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
}

/// A code as QUIC carries it.
pub(super) fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.0).unwrap_or(VarInt::MAX)
}

/// The settings of this moment, and what QUIC makes of them.
struct Told {
    live: Arc<Live>,
    config: Arc<ServerConfig>,
}

impl Told {
    fn new(keys: &Keys, worker: &Worker) -> Self {
        let live = worker.shared.live.load_full();
        let config = Arc::new(keys.server(&worker.shared.quic, &live));
        Self { live, config }
    }

    fn follow(&mut self, keys: &Keys, worker: &Worker) {
        if !Arc::ptr_eq(&self.live, &worker.shared.live.load()) {
            *self = Self::new(keys, worker);
        }
    }
}

/// Decides on a client that wants to begin a connection.
fn begin(place: &Rc<Place>, incoming: Incoming, told: &Told) -> Option<impl Future<Output = ()> + use<>> {
    let (worker, live) = (&place.worker, &told.live);
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let client = plain(incoming.remote_address());
    // Nobody says on a datagram for whom it comes, and from there everything comes for somebody else.
    let is_behind = live
        .proxy_protocol_from
        .iter()
        .any(|prefix| prefix.contains(client.ip()));
    if is_behind || worker.is_full() {
        worker.counters.inc(Metric::Http3Refused);
        incoming.refuse();
        return None;
    }
    let is_proved = incoming.remote_address_validated();
    if !is_proved && place.handshakes.get() >= live.http.http3_retry_above {
        worker.counters.inc(Metric::Http3Retried);
        let _ = incoming.retry();
        return None;
    }
    // An address that is not proved may be anybody's; it counts when the handshake has proved it.
    let admitted = if is_proved {
        match worker.admit(client.ip(), Metric::Http3Connections) {
            Some(admitted) => Some(admitted),
            None => {
                worker.counters.inc(Metric::Http3Refused);
                incoming.refuse();
                return None;
            }
        }
    } else {
        None
    };
    let server = incoming.local_ip().unwrap_or_else(|| place.local.ip());
    let ends = Ends {
        client,
        server: plain(SocketAddr::new(server, place.local.port())),
    };
    worker.counters.inc(Metric::Accepted);
    match incoming.accept_with(Arc::clone(&told.config)) {
        Ok(connecting) => Some(connection::run(
            Rc::clone(place),
            Arc::clone(live),
            connecting,
            ends,
            admitted,
            Handshake::begin(place),
        )),
        Err(error) => {
            tracing::debug!(%error, %client, "a QUIC handshake failed");
            worker.counters.inc(Metric::Http3HandshakeFailed);
            None
        }
    }
}
