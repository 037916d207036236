//! TCP connections of Services of type LoadBalancer: from the VIP's port to an endpoint, octets as they are.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::balance;
use crate::metrics::Cell;
use crate::proxy_protocol;
use crate::snapshot::{CompiledEndpoint, InFlight, ListenerKind};
use crate::tunnel::{self, Abort, End};
use crate::upstream::{self, ConnectError};
use crate::wire::Wire;
use crate::worker::{Admitted, Worker};

/// Endpoints that are tried for one connection at most.
const MAX_ENDPOINTS: usize = 3;

/// Serves one TCP connection that came to `listener`.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut client: TcpStream,
    peer: SocketAddr,
    listener: SocketAddr,
    _admitted: Admitted,
) {
    let live = worker.shared.live.load_full();
    let Some(ends) = proxy_protocol::receive(&mut client, peer, &live, &worker.counters).await else {
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
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut connected: Option<(&CompiledEndpoint, InFlight, TcpStream, Rc<Wire>)> = None;
    while tried.len() < MAX_ENDPOINTS {
        let Some(endpoint) = balance::pick(&pool, &mut worker.dice.borrow_mut(), &tried) else {
            break;
        };
        let address = endpoint.endpoint.address;
        let in_flight = InFlight::enter(&endpoint.state);
        let wire = worker.upstreams.wires.add(address);
        match upstream::connect(address, &greeting, live.timeouts.connect, &wire).await {
            Ok(stream) => {
                connected = Some((endpoint, in_flight, stream, wire));
                break;
            }
            Err(error) => {
                tracing::debug!(endpoint = %address, %error, "an endpoint cannot be connected to");
                tried.push(address);
                if matches!(error, ConnectError::Exhausted(_)) {
                    break;
                }
                endpoint.state.connect_failed();
            }
        }
    }
    let at = Instant::now();
    let (carried, endpoint) = match connected {
        None => {
            worker.counters.inc(if tried.is_empty() {
                Cell::TcpNoEndpoint
            } else {
                Cell::TcpUpstreamFailed
            });
            client.abort();
            (None, None)
        }
        Some((endpoint, in_flight, stream, wire)) => {
            let none = (Bytes::new(), Bytes::new());
            let stop = worker.cut_tunnels.cancelled();
            let carried = tunnel::run(client, stream, none, live.timeouts.tcp_idle, stop, &wire).await;
            if carried.end == End::Upstream {
                in_flight.state().failed();
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
