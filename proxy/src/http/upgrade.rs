//! WebSocket and other upgrades (RFC 9110 section 7.8): after 101 both sides talk through a tunnel.

use std::rc::Rc;

use bytes::Bytes;
use http::HeaderValue;

use super::body::{EndpointBody, Reply};
use super::exchange::{Exchange, Fault, Phase};
use super::headers;
use crate::fields::names::{CONNECTION, UPGRADE};
use crate::message::Response;
use crate::metrics::Cell;
use crate::stream::EndpointStream;
use crate::tunnel::{self, Abort, End};
use crate::wire::Wire;

/// An endpoint's connection that speaks another protocol now.
#[derive(Debug)]
pub(crate) struct Switched {
    stream: EndpointStream,
    /// What came behind the header.
    first: Bytes,
    wire: Rc<Wire>,
    exchange: Rc<Exchange>,
}

/// Passes on a 101; the connection to the endpoint is in the body of the response.
pub(crate) fn switch(
    response: Response<EndpointBody>,
    wire: &Rc<Wire>,
    exchange: &Rc<Exchange>,
) -> Option<Response<Reply>> {
    let (mut parts, body) = response.into_parts();
    let EndpointBody::Http1(call) = body else {
        return None;
    };
    let (stream, first) = call.into_tunnel()?;
    let protocol = parts.headers.get(UPGRADE).map(HeaderValue::from);
    headers::strip_hop_by_hop(&mut parts.headers);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    exchange.status.set(parts.status.as_u16());
    exchange.phase.set(Phase::Tunnel);
    let switched = Switched {
        stream,
        first,
        wire: Rc::clone(wire),
        exchange: Rc::clone(exchange),
    };
    Some(Response::from_parts(parts, Reply::switched(switched)))
}

/// Joins the two connections. `first` came from the client already.
pub(crate) async fn join(client: impl Abort, first: Bytes, switched: Switched) {
    let Switched {
        stream,
        first: from_upstream,
        wire,
        exchange,
    } = switched;
    let worker = Rc::clone(&exchange.client.worker);
    worker.counters.inc(Cell::Tunnels);
    let idle = exchange.client.live.timeouts.tunnel_idle;
    let carried = tunnel::run(
        client,
        stream,
        (first, from_upstream),
        idle,
        worker.cut_tunnels.cancelled(),
        &wire,
    )
    .await;
    worker.counters.dec(Cell::Tunnels);
    exchange.bytes_in.set(carried.to_upstream);
    exchange.bytes_out.set(carried.to_client);
    match carried.end {
        End::Closed => exchange.complete.set(true),
        End::Client => exchange.blame(Fault::Client),
        End::Upstream => exchange.blame(Fault::Upstream),
        End::Idle | End::Stopped => exchange.blame(Fault::Proxy),
    }
}
