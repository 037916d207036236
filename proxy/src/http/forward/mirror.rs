//! Copies of requests for another Service. A copy is sent when the request has come whole, by a task of its own; whatever
//! becomes of it, the request does not wait for it and does not hear of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::fields::Name;
use crate::fields::names::{CONTENT_LENGTH, HOST, TE, TRAILER};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Version};
use sekisho_config::model::Revision;
use tokio::time::timeout;

use super::Forward;
use super::choose::{Wish, connect};
use super::retry::{Tries, Why};
use super::send::{Failure, send};
use crate::budget::Share;
use crate::health::Sign;
use crate::http::answer::Refusal;
use crate::http::body::{ClientBody, EndpointBody, RequestBody};
use crate::http::connection::Client;
use crate::http::exchange::{Exchange, Target};
use crate::http::frame::Body;
use crate::message::request::Parts;
use crate::metrics::Cell;
use crate::snapshot::CompiledPool;
use crate::upstream::Lease;
use crate::worker::World;

/// By which an endpoint knows a copy.
const X_MIRRORED: Name<'static> = Name::from_static("x-mirrored");

/// Octets of an answer that are read so that its connection can be kept.
const LARGEST: usize = 1024 * 1024;

/// A copy that is being made.
#[derive(Debug)]
pub(crate) struct Mirror {
    parts: Parts,
    target: Rc<Target>,
    client: Rc<Client>,
    revision: Revision,
    body: BytesMut,
    most: u64,
    /// What it counts as when it is dropped.
    ends: Cell,
    /// Octets of its body, among those that are held.
    held: Share,
    /// Its place among the copies.
    _place: Share,
}

impl Mirror {
    /// Begins a copy of a request that is about to be forwarded, where its route wants one of it.
    pub(crate) fn begin(forward: &Forward, snapshot: &World, exchange: &Exchange) -> Option<Box<Self>> {
        let wished = forward.target.filters.as_ref()?.wished().mirror.as_ref()?;
        let client = &exchange.client;
        let worker = &client.worker;
        if worker.dice.borrow_mut().roll() % 100 >= u64::from(wished.percent) || forward.upgrade.is_some() {
            return None;
        }
        let live = &client.live.http;
        let shared = &worker.shared;
        let Some(place) = shared.metrics.mirroring.take(1, live.max_mirrored_requests) else {
            worker.counters.inc(Cell::MirrorBusy);
            return None;
        };
        let mut parts = Parts {
            method: forward.parts.method.clone(),
            uri: forward.parts.uri.clone(),
            version: Version::HTTP_11,
            headers: forward.parts.headers.clone(),
            ..Parts::default()
        };
        let fields = &mut parts.headers;
        for name in [CONTENT_LENGTH, TE, TRAILER] {
            fields.remove(name);
        }
        fields.or_insert(HOST, || HeaderValue::from_static(""));
        fields.insert(X_MIRRORED, HeaderValue::from_static("1"));
        Some(Box::new(Self {
            parts,
            target: Rc::new(Target {
                ingress: forward.target.ingress.clone(),
                pool: Some(Arc::clone(snapshot.pool(&wished.pool)?)),
                filters: None,
            }),
            client: client.shadow(),
            revision: exchange.revision,
            body: BytesMut::new(),
            most: wished.max_body_bytes,
            ends: Cell::MirrorUnfinished,
            held: shared.metrics.held.take(0, usize::MAX)?,
            _place: place,
        }))
    }

    /// Copies a piece of the body; `false`: it is too much, and there is no copy any more.
    pub(crate) fn take(&mut self, data: &Bytes) -> bool {
        let most = self.client.live.http.buffer_memory;
        if (self.body.len() + data.len()) as u64 > self.most {
            self.ends = Cell::MirrorTooLarge;
            return false;
        }
        if !self.held.grow(data.len(), most) {
            self.ends = Cell::MirrorBusy;
            return false;
        }
        self.body.extend_from_slice(data);
        true
    }

    /// The request has come whole: sends the copy.
    pub(crate) fn send(self: Box<Self>) {
        let worker = Rc::clone(&self.client.worker);
        worker.upstreams.drivers.spawn_local(async move {
            let mut mirror = self;
            mirror.ends = Cell::MirrorFailed;
            let limit = mirror.client.live.timeouts.response_read;
            if let Ok(Ok(())) = timeout(limit, mirror.exchange()).await {
                mirror.ends = Cell::MirrorAnswered;
            }
        });
    }

    async fn exchange(&mut self) -> Result<(), Refusal> {
        let body = self.body.split().freeze();
        if body.is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(&self.parts.method) {
            self.parts
                .headers
                .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let client = Rc::clone(&self.client);
        let exchange = Exchange::shadow(client, &self.parts, self.revision);
        let mut target = Rc::clone(&self.target);
        let mut tries = Tries::new(target.pool.as_deref().map(CompiledPool::policy), &exchange);
        for _ in 0..3 {
            let mut lease = connect(&mut target, &exchange, Wish::default(), &mut tries, false).await?;
            let whole = ClientBody::Whole(Some(body.clone()).filter(|body| !body.is_empty()));
            let mut whole = RequestBody::new(whole, &exchange, self.client.live.timeouts.request_body);
            let reused = lease.reused;
            match send(&mut lease, &self.parts, &mut whole, &exchange, true).await {
                Ok(answer) => {
                    exchange.endpoint_answered(answer.status().as_u16());
                    return discard(answer.into_parts().1, lease, &exchange).await;
                }
                // It was closed while it was kept.
                Err(Failure::Unsent) if reused => tries.last = Some((Why::Stale, Refusal::UpstreamFailed)),
                Err(_) => {
                    exchange.endpoint_failed(Sign::Broken);
                    break;
                }
            }
        }
        Err(Refusal::UpstreamFailed)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.client.worker.counters.inc(self.ends);
    }
}

/// Reads an answer that nobody wants, and keeps the connection.
async fn discard(mut body: EndpointBody, lease: Lease, exchange: &Exchange) -> Result<(), Refusal> {
    let mut read = 0;
    while !body.is_end_stream() && read <= LARGEST {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            None => break,
            Some(Err(_)) => return Err(Refusal::UpstreamFailed),
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
        }
    }
    if let Some(stream) = body.reclaim() {
        let live = &exchange.client.live;
        lease.keep(
            stream,
            live.timeouts.upstream_idle,
            live.http.max_idle_per_endpoint,
        );
    }
    Ok(())
}
