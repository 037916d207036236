//! TCP connections of Services of type LoadBalancer: from the VIP's port to an endpoint, octets as they are.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use sekisho_config::model::Balance;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::balance::{self, Ask, Choice, Tried, hash};
use crate::health::{Sign, passive};
use crate::metrics::Cell;
use crate::moment::Moment;
use crate::proxy_protocol;
use crate::snapshot::{CompiledEndpoint, CompiledPool, InFlight, ListenerKind, Place};
use crate::stream::Stream;
use crate::tunnel::{self, Abort, End};
use crate::upstream::{self, ConnectError};
use crate::wire::Wire;
use crate::worker::{Admitted, Worker};

/// Serves one TCP connection that came to `listener`.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut client: Stream,
    peer: SocketAddr,
    listener: SocketAddr,
    _admitted: Admitted,
) {
    let live = worker.live();
    let Some(ends) = proxy_protocol::receive(&mut client, peer, None, &live, &worker.counters).await else {
        return client.abort();
    };
    let started = Instant::now();
    let snapshot = worker.snapshot();
    let revision = snapshot.revision();
    let route = match snapshot.listeners().get(&listener) {
        Some(ListenerKind::Tcp(route)) => route.clone(),
        // The listener is being closed.
        _ => return client.abort(),
    };
    let Some(pool) = snapshot.pool(&route.pool).cloned() else {
        worker.counters.inc(Cell::TcpNoEndpoint);
        return client.abort();
    };
    drop(snapshot);
    let greeting = match pool.wished().upstream.proxy_protocol {
        Some(version) => proxy_protocol::write(version, ends.client, ends.server),
        None => Vec::new(),
    };
    let limits = &pool.policy().limits;
    let most = limits.in_flight.map_or(u32::MAX, |most| most.get());
    let _place = match pool.counts().then(|| Place::take(pool.state(), most)) {
        Some(None) => {
            worker.counters.inc(Cell::TcpPoolFull);
            return client.abort();
        }
        place => place,
    };
    let mut tried = Tried::default();
    let (connected, refused) = connect(
        &worker,
        &pool,
        (ends.client, &greeting),
        live.timeouts.connect,
        &mut tried,
    )
    .await;
    let at = Instant::now();
    let (carried, endpoint) = match connected {
        None => {
            worker.counters.inc(refused);
            client.abort();
            (None, None)
        }
        Some((endpoint, _in_flight, stream, wire)) => {
            let none = (Bytes::new(), Bytes::new());
            let stop = worker.cut_tunnels.cancelled();
            let carried = tunnel::run(client, stream, none, live.timeouts.tcp_idle, stop, &wire).await;
            let now = Moment::now();
            if carried.end == End::Upstream {
                endpoint.state.failed();
            }
            if carried.to_client > 0 || carried.end == End::Closed {
                passive::succeeded(&pool, endpoint, now);
                endpoint.state.well();
            } else if carried.end == End::Upstream {
                passive::failed(&pool, endpoint, Sign::Broken, now);
            }
            pool.state()
                .tcp_finished(worker.index, carried.to_upstream, carried.to_client);
            (Some(carried), Some(&endpoint.endpoint))
        }
    };
    if !live.http.access_log {
        return;
    }
    worker.lines.line(&worker.counters, |line| {
        line.plain("client", ends.client.ip());
        line.plain("protocol", "tcp");
        line.plain("listener", listener);
        line.number("bytes_in", carried.map_or(0, |carried| carried.to_upstream));
        line.number("bytes_out", carried.map_or(0, |carried| carried.to_client));
        line.text("namespace", route.service.namespace.as_bytes());
        line.text("service", route.service.name.as_bytes());
        line.number("service_port", route.pool.port);
        if let Some(endpoint) = endpoint {
            line.plain("endpoint", endpoint.address);
            if let Some(pod) = &endpoint.pod {
                line.text("pod", pod.name.as_bytes());
            }
            if let Some(node) = &endpoint.node {
                line.text("node", node.0.as_bytes());
            }
        }
        line.number("revision", revision);
        line.text("appliance", worker.shared.appliance.as_bytes());
        line.seconds("connect_seconds", at.saturating_duration_since(started));
        line.seconds("total_seconds", started.elapsed());
        line.number(
            "retries",
            if endpoint.is_some() {
                tried.len()
            } else {
                tried.len().saturating_sub(1)
            },
        );
        let (by, phase) = match carried.map(|carried| carried.end) {
            Some(End::Closed) => return,
            Some(End::Client) => ("client", "tunnel"),
            Some(End::Upstream) => ("upstream", "tunnel"),
            Some(End::Idle | End::Stopped) => ("proxy", "tunnel"),
            None if tried.is_empty() => ("proxy", "request"),
            None => ("upstream", "connect"),
        };
        line.plain("ended_by", by);
        line.plain("ended_in", phase);
    });
}

type Connected<'a> = (&'a CompiledEndpoint, InFlight, TcpStream, Rc<Wire>);

/// A connection to an endpoint, or what is counted when there is none. Nothing of the client's was sent to the endpoints
/// that were tried, so that any failure may be followed by another try.
async fn connect<'a>(
    worker: &Worker,
    pool: &'a CompiledPool,
    (peer, greeting): (SocketAddr, &[u8]),
    limit: Duration,
    tried: &mut Tried,
) -> (Option<Connected<'a>>, Cell) {
    let retry = &pool.policy().retry;
    let mut refused = Cell::TcpNoEndpoint;
    loop {
        let ask = Ask {
            now: Moment::now(),
            hash: (pool.balance() == Balance::ConsistentHash).then(|| hash::of_address(peer.ip())),
            sticky: None,
            tried,
        };
        let endpoint = match balance::pick(pool, &ask, &mut worker.dice.borrow_mut()) {
            Choice::At(endpoint) => endpoint,
            Choice::Full if tried.is_empty() => return (None, Cell::TcpPoolFull),
            Choice::Full | Choice::None => return (None, refused),
        };
        if !tried.is_empty() {
            let state = pool.state();
            let requests = state.requests();
            let budget = (retry.budget_percent, retry.budget_floor);
            if !state.budget.charge(budget.0, budget.1, requests, Moment::now()) {
                worker.counters.inc(Cell::RetryOverBudget);
                return (None, refused);
            }
            worker.counters.inc(Cell::RetriedConnect);
        }
        let address = endpoint.endpoint.address;
        let in_flight = InFlight::enter(pool.state(), &endpoint.state);
        let wire = worker.upstreams.wires.add(address);
        let error = match upstream::connect(address, greeting, limit, &wire).await {
            Ok(stream) => return (Some((endpoint, in_flight, stream, wire)), refused),
            Err(error) => error,
        };
        tracing::debug!(endpoint = %address, %error, "an endpoint cannot be connected to");
        refused = Cell::TcpUpstreamFailed;
        tried.add(endpoint);
        let sign = match &error {
            ConnectError::Exhausted(_) => return (None, refused),
            ConnectError::Failed(error) => Some(Sign::of_connect(error)),
            ConnectError::Timeout => Some(Sign::Unreachable),
            ConnectError::Unrouted => None,
        };
        endpoint.state.connect_failed();
        if let Some(sign) = sign {
            passive::failed(pool, endpoint, sign, Moment::now());
        }
        if tried.len() > retry.tries as usize || !retry.on.connect {
            return (None, refused);
        }
    }
}
