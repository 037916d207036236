//! WebSocket and other upgrades (RFC 9110 section 7.8): after 101 both sides talk through a tunnel.

use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::body::{EndpointBody, Reply};
use super::exchange::{Exchange, Fault, Phase};
use super::headers;
use super::io::ClientIo;
use crate::metrics::Cell;
use crate::stream::EndpointStream;
use crate::tunnel::{self, Abort, End};
use crate::wire::Wire;

/// Passes on a 101 and joins the two connections once both have let go of HTTP.
pub(crate) fn switch(
    mut response: Response<EndpointBody>,
    client: OnUpgrade,
    wire: &Rc<Wire>,
    exchange: &Rc<Exchange>,
) -> Response<Reply> {
    let protocol = response.headers().get(UPGRADE).cloned();
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    parts.extensions.clear();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    exchange.status.set(parts.status.as_u16());
    exchange.phase.set(Phase::Tunnel);
    let kept = Rc::clone(exchange);
    let worker = &exchange.client.worker;
    worker
        .tunnels
        .spawn_local(join(client, upstream, Rc::clone(wire), kept));
    Response::from_parts(parts, Reply::none())
}

async fn join(client: OnUpgrade, upstream: OnUpgrade, wire: Rc<Wire>, exchange: Rc<Exchange>) {
    let worker = Rc::clone(&exchange.client.worker);
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            exchange.blame(Fault::Client);
            return;
        }
    };
    let (Some((client, from_client)), Some((upstream, from_upstream))) =
        (parts_of::<ClientIo>(client), parts_of::<EndpointStream>(upstream))
    else {
        tracing::error!("an upgraded connection is of an unexpected type");
        exchange.blame(Fault::Proxy);
        return;
    };
    worker.counters.inc(Cell::Tunnels);
    let idle = exchange.client.live.timeouts.tunnel_idle;
    let carried = tunnel::run(
        client,
        upstream,
        (from_client, from_upstream),
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

fn parts_of<T: Abort + Send + 'static>(upgraded: Upgraded) -> Option<(T, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<T>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}
