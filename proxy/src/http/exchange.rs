//! One request and its answer: what the log and the metrics say of it when it has ended.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version};
use sekisho_config::model::{Balance, ErrorPages, LogFormat, ObjectName, Revision};
use tokio::time::Instant;

use super::connection::Client;
use super::respond::Respond;
use crate::access_log::Combined;
use crate::balance::Tried;
use crate::budget::Share;
use crate::client_auth::Peer;
use crate::compress::Coding;
use crate::door::Ticket;
use crate::fields::Fields;
use crate::health::{Sign, passive};
use crate::moment::Moment;
use crate::snapshot::{CompiledEndpoint, CompiledPool, Finished, Place};
use crate::trace::context::Context;
use crate::trace::{self, Span};
use crate::{clock, filter, metrics};

/// Who ended an exchange before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Client,
    Upstream,
    Proxy,
}

impl Fault {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
        }
    }
}

/// How far an exchange had come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The request was read and judged.
    Request,
    /// A connection to an endpoint was being made.
    Connect,
    /// The request was sent, the response was awaited.
    Wait,
    /// The response was on its way.
    Response,
    /// The connection was upgraded.
    Tunnel,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Connect => "connect",
            Self::Wait => "wait",
            Self::Response => "response",
            Self::Tunnel => "tunnel",
        }
    }
}

/// Where a route leads. Exchanges of one worker share it, so that they touch no count that other workers touch too.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) ingress: ObjectName,
    pub(crate) pool: Option<Arc<CompiledPool>>,
    pub(crate) filters: Option<Arc<filter::Compiled>>,
}

/// The endpoint in use, which counts the request as its own until this is dropped.
#[derive(Debug)]
pub(crate) struct At {
    target: Rc<Target>,
    index: usize,
    counted: Cell<bool>,
}

impl At {
    fn enter(target: &Rc<Target>, address: SocketAddr) -> Option<Self> {
        let endpoints = target.pool.as_ref()?.endpoints();
        let index = endpoints
            .binary_search_by_key(&address, |endpoint| endpoint.endpoint.address)
            .ok()?;
        let at = Self {
            target: Rc::clone(target),
            index,
            counted: Cell::new(true),
        };
        at.endpoint()?.state.enter();
        Some(at)
    }

    fn parts(&self) -> Option<(&CompiledPool, &CompiledEndpoint)> {
        Some((self.target.pool.as_deref()?, self.endpoint()?))
    }

    fn endpoint(&self) -> Option<&CompiledEndpoint> {
        self.target.pool.as_ref()?.endpoints().get(self.index)
    }
}

impl At {
    /// The request is there no longer; what is known of the endpoint stays.
    fn release(&self) {
        if !self.counted.replace(false) {
            return;
        }
        if let Some((pool, endpoint)) = self.parts() {
            endpoint.state.leave();
            pool.state().made_room();
        }
    }
}

impl Drop for At {
    fn drop(&mut self) {
        self.release();
    }
}

/// One exchange. The last of its parts that is dropped writes the log.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) client: Rc<Client>,
    pub(crate) address: IpAddr,
    pub(crate) started: Instant,
    pub(crate) revision: Revision,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) host: RefCell<Option<HeaderValue>>,
    pub(crate) path: RefCell<String>,
    /// Who it is, by a certificate that is believed.
    pub(crate) certified: RefCell<Option<Rc<Peer>>>,
    /// Who it is, by name and password.
    pub(crate) user: RefCell<Option<String>>,
    /// Kept for the log and for traces only.
    pub(crate) user_agent: Option<HeaderValue>,
    /// Kept for the combined format only.
    pub(crate) referer: Option<HeaderValue>,
    /// Its place in a trace, where it is recorded.
    pub(crate) trace: Option<Context>,
    pub(crate) request_id: HeaderValue,
    /// Content type of a gRPC call: what the box answers itself is a status of gRPC.
    pub(crate) grpc: Option<HeaderValue>,
    /// When a gRPC call has to be over.
    pub(crate) deadline: Option<Instant>,
    /// Where interim answers go on HTTP/2 and HTTP/3.
    pub(crate) respond: Option<Respond>,
    /// Its place among those that may run at a time.
    pub(crate) ticket: RefCell<Option<Ticket>>,
    /// That of a request for which it matters.
    pub(crate) origin: RefCell<Option<HeaderValue>>,
    /// What is set aside for its body.
    pub(crate) held: RefCell<Option<Share>>,
    /// It is a copy of another one, of which nobody hears.
    pub(crate) shadow: bool,
    /// Whether its answer may be compressed.
    pub(crate) coding: Cell<Coding>,
    pub(crate) target: RefCell<Option<Rc<Target>>>,
    pub(crate) endpoint: RefCell<Option<At>>,
    /// Its place in the pool, where places are counted.
    pub(crate) place: RefCell<Option<Place>>,
    /// When the header of the answer must be there at the latest.
    pub(crate) answer_due: Cell<Option<Instant>>,
    pub(crate) status: Cell<u16>,
    pub(crate) bytes_in: Cell<u64>,
    pub(crate) bytes_out: Cell<u64>,
    pub(crate) retries: Cell<u32>,
    pub(crate) phase: Cell<Phase>,
    pub(crate) fault: Cell<Option<Fault>>,
    /// The response was handed over whole (or the tunnel closed in order).
    pub(crate) complete: Cell<bool>,
    /// The request body was read to its end.
    pub(crate) body_read: Cell<bool>,
    pub(crate) body_last: Cell<Instant>,
    /// When something of the answer was read last.
    pub(crate) answer_last: Cell<Option<Instant>>,
    pub(crate) chosen: Cell<Option<Instant>>,
    pub(crate) connected: Cell<Option<Instant>>,
    pub(crate) first_byte: Cell<Option<Instant>>,
}

impl Exchange {
    /// That of a copy: it is counted at its endpoint and nowhere else.
    pub(crate) fn shadow(
        client: Rc<Client>,
        parts: &crate::message::request::Parts,
        revision: Revision,
    ) -> Rc<Self> {
        let now = clock::now();
        Rc::new(Self {
            address: client.peer().ip(),
            started: now,
            revision,
            method: parts.method.clone(),
            version: Version::HTTP_11,
            host: RefCell::default(),
            path: RefCell::default(),
            certified: RefCell::default(),
            user: RefCell::default(),
            user_agent: None,
            referer: None,
            trace: None,
            request_id: HeaderValue::from_static("-"),
            grpc: None,
            deadline: None,
            respond: None,
            ticket: RefCell::default(),
            origin: RefCell::default(),
            held: RefCell::default(),
            shadow: true,
            coding: Cell::default(),
            target: RefCell::default(),
            endpoint: RefCell::default(),
            place: RefCell::default(),
            answer_due: Cell::new(None),
            status: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            retries: Cell::new(0),
            phase: Cell::new(Phase::Request),
            fault: Cell::new(None),
            complete: Cell::new(false),
            body_read: Cell::new(true),
            body_last: Cell::new(now),
            answer_last: Cell::new(None),
            chosen: Cell::new(None),
            connected: Cell::new(None),
            first_byte: Cell::new(None),
            client,
        })
    }

    /// What the filters of the route say, where there are any.
    fn of_filters<T>(&self, ask: impl Fn(&filter::Compiled) -> Option<T>) -> Option<T> {
        self.target.borrow().as_ref()?.filters.as_deref().and_then(ask)
    }

    /// What stands instead of the box's own words for an error, with its media type: of the route, or else of the box.
    pub(crate) fn error_page(&self, status: StatusCode) -> Option<(HeaderValue, Bytes)> {
        let of = |pages: Option<&ErrorPages>| pages?.of(status.as_u16()).cloned();
        let page = self
            .of_filters(|filters| of(filters.error_pages()))
            .or_else(|| of(self.client.live.http.error_pages.as_deref()))?;
        Some((
            HeaderValue::from_static(page.content_type),
            Bytes::from_owner(page.body),
        ))
    }

    /// How the client is asked for a name and a password.
    pub(crate) fn basic_challenge(&self) -> Option<HeaderValue> {
        self.of_filters(|filters| Some(filters.door()?.basic()?.challenge.clone()))
    }

    /// How long the client's body may be waited for in all, beyond the limit of one wait, for what has come of it.
    pub(crate) fn earned_wait(&self) -> Option<Duration> {
        let rate = self.client.live.http.min_body_rate;
        // A call of gRPC may have something to say now and then, and so may whoever is being answered.
        if rate == 0 || self.grpc.is_some() || self.answer_last.get().is_some() {
            return None;
        }
        Some(Duration::from_millis(
            self.bytes_in.get().saturating_mul(1000) / rate,
        ))
    }

    /// How long a connection to an endpoint may take.
    pub(crate) fn connect_wait(&self) -> Duration {
        self.of_filters(filter::Compiled::connect_wait)
            .unwrap_or(self.client.live.timeouts.connect)
    }

    /// How long an answer may take to begin, and between two reads of it.
    pub(crate) fn response_read_wait(&self) -> Duration {
        self.of_filters(filter::Compiled::response_read_wait)
            .unwrap_or(self.client.live.timeouts.response_read)
    }

    /// Octets of the request's body at most; 0 for any number.
    pub(crate) fn max_body_bytes(&self) -> u64 {
        self.of_filters(filter::Compiled::max_body_bytes)
            .unwrap_or(self.client.live.http.max_body_bytes)
    }

    /// Takes out of a request's trailers what its route says itself.
    pub(crate) fn clean_trailers(&self, trailers: &mut Fields) {
        if let Some(filters) = self
            .target
            .borrow()
            .as_ref()
            .and_then(|target| target.filters.as_deref())
        {
            filters.request_trailers(trailers);
        }
    }

    /// Up to how many octets the request's body is gathered first, where that is wanted.
    pub(crate) fn buffer_requests(&self) -> Option<u64> {
        self.of_filters(filter::Compiled::buffer_requests)
    }

    /// Up to how many octets an answer is gathered before it goes on, where that is wanted.
    pub(crate) fn buffer_responses(&self) -> Option<u64> {
        self.of_filters(filter::Compiled::buffer_responses)
    }

    /// The request is now at this endpoint of the target.
    pub(crate) fn at(&self, target: &Rc<Target>, address: SocketAddr) {
        *self.endpoint.borrow_mut() = At::enter(target, address);
    }

    /// The try at the endpoint in use is over, and another one is to begin: its place there is free.
    pub(crate) fn release(&self) {
        if let Some(at) = &*self.endpoint.borrow() {
            at.release();
        }
    }

    /// What `look` makes of the endpoint in use, by its pool and its place there.
    pub(crate) fn with_place<T>(&self, look: impl FnOnce(&CompiledPool, usize) -> Option<T>) -> Option<T> {
        let at = self.endpoint.borrow();
        let at = at.as_ref()?;
        look(at.target.pool.as_deref()?, at.index)
    }

    /// Adds the endpoint in use to those that were tried.
    pub(crate) fn tried(&self, tried: &mut Tried) {
        if let Some(endpoint) = self.endpoint.borrow().as_ref().and_then(At::endpoint) {
            tried.add(endpoint);
        }
    }

    /// Passes an interim answer of an endpoint on, if the client takes it. What a Service says that is only asked about the
    /// request is not for the client.
    pub(crate) fn interim(&self, cx: &mut std::task::Context<'_>, status: StatusCode, fields: &Fields) {
        if self.phase.get() != Phase::Wait {
            return;
        }
        match &self.respond {
            // 100 was said, or not asked for; 101 is none of HTTP/2 and HTTP/3.
            Some(_) if status.as_u16() < 102 => {}
            Some(respond) => respond.interim(status, fields),
            None => self.client.interim(cx, status, fields),
        }
    }

    /// Whether the client's own time for the call is over: no endpoint's fault.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Notes whose fault the end is; the first one counts.
    pub(crate) fn blame(&self, fault: Fault) {
        if self.fault.get().is_none() {
            self.fault.set(Some(fault));
        }
    }

    /// Counts a failure of the endpoint in use, which may be one too many.
    pub(crate) fn endpoint_failed(&self, sign: Sign) {
        let at = self.endpoint.borrow();
        let Some((pool, endpoint)) = at.as_ref().and_then(At::parts) else {
            return;
        };
        // Connections that could not be made are counted apart.
        if !matches!(sign, Sign::Refused | Sign::Unreachable) {
            endpoint.state.failed();
        }
        let now = clock::now();
        if pool.balance() == Balance::PeakEwma {
            // Failing fast is not being fast.
            let took = self.chosen.get().map(|from| now.saturating_duration_since(from));
            self.observe(endpoint, took.unwrap_or_default().max(FAILED_IS_AT_LEAST), now);
        }
        passive::failed(pool, endpoint, sign, Moment::of(now));
    }

    /// The endpoint in use has begun to answer.
    pub(crate) fn endpoint_answered(&self, status: u16) {
        let at = self.endpoint.borrow();
        let Some((pool, endpoint)) = at.as_ref().and_then(At::parts) else {
            return;
        };
        let now = clock::now();
        if is_gateway_error(status) {
            passive::failed(pool, endpoint, Sign::Status, Moment::of(now));
            return;
        }
        if pool.balance() == Balance::PeakEwma
            && let Some(from) = self.connected.get()
        {
            self.observe(endpoint, now.saturating_duration_since(from), now);
        }
        passive::succeeded(pool, endpoint, Moment::of(now));
    }

    fn observe(&self, endpoint: &CompiledEndpoint, took: Duration, now: Instant) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        endpoint.state.cost.observe(micros, Moment::of(now));
    }
}

/// What an answer that did not come counts as, at least.
const FAILED_IS_AT_LEAST: Duration = Duration::from_secs(1);

/// Statuses by which a server says that it, or what is behind it, is out of order (RFC 9110 sections 15.6.3 to 15.6.5).
fn is_gateway_error(status: u16) -> bool {
    (502..=504).contains(&status)
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.shadow {
            return;
        }
        self.client.activity.request_ended();
        let worker = &self.client.worker;
        worker.counters.dec(metrics::Cell::InFlight);
        let total = self.started.elapsed();
        let fault = match (self.complete.get(), self.fault.get()) {
            (_, Some(fault)) => Some(fault),
            (true, None) => None,
            // Nobody of ours gave up and the end was not reached: the client has gone.
            (false, None) => Some(Fault::Client),
        };
        if let Some(fault) = fault {
            worker.counters.inc(match fault {
                Fault::Client => metrics::Cell::EndedByClient,
                Fault::Upstream => metrics::Cell::EndedByUpstream,
                Fault::Proxy => metrics::Cell::EndedByProxy,
            });
        }
        // An answer that was passed on whole, and is none of those that count against it.
        if fault.is_none()
            && !is_gateway_error(self.status.get())
            && let Some(endpoint) = self.endpoint.borrow().as_ref().and_then(At::endpoint)
        {
            endpoint.state.well();
        }
        let target = self.target.borrow();
        if let Some(pool) = target.as_ref().and_then(|target| target.pool.as_ref()) {
            pool.state().finished(
                worker.index,
                &Finished {
                    status: self.status.get(),
                    retries: self.retries.get(),
                    bytes_in: self.bytes_in.get(),
                    bytes_out: self.bytes_out.get(),
                    seconds: total.as_secs_f64(),
                },
            );
        }
        let live = &self.client.live;
        if live.http.access_log && (fault.is_some() || self.is_sampled(live.access_log.sample_one_in)) {
            match live.access_log.format {
                LogFormat::Json => self.log(total, fault, target.as_deref()),
                LogFormat::Combined => self.log_combined(),
            }
        }
        if let (Some(context), Some(tracing)) = (self.trace, &live.tracing) {
            worker
                .spans
                .send(tracing, self.span(context, fault, target.as_deref()));
        }
    }
}

impl Exchange {
    /// Whether an exchange that came to its end is written down. What the box answered, and errors, always are.
    fn is_sampled(&self, one_in: u64) -> bool {
        let went_well = self.endpoint.borrow().is_some() && self.status.get() < 400;
        !went_well || one_in <= 1 || self.client.worker.dice.borrow_mut().roll().is_multiple_of(one_in)
    }

    fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2.0",
            Version::HTTP_3 => "HTTP/3.0",
            _ => "HTTP/1.1",
        }
    }

    fn log_combined(&self) {
        let worker = &self.client.worker;
        let path = self.path.borrow();
        let user = self.user.borrow();
        worker.lines.combined(
            &worker.counters,
            &Combined {
                client: self.address,
                user: user.as_deref().map(str::as_bytes),
                request: [
                    self.method.as_str().as_bytes(),
                    path.as_bytes(),
                    self.protocol().as_bytes(),
                ],
                status: self.status.get(),
                bytes_out: self.bytes_out.get(),
                referer: self.referer.as_ref().map(HeaderValue::as_bytes),
                user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            },
        );
    }

    fn span(&self, context: Context, fault: Option<Fault>, target: Option<&Target>) -> Span {
        let now = Instant::now();
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let at = |instant: Instant| wall.saturating_sub(now.saturating_duration_since(instant).as_nanos());
        let field = |value: &Option<HeaderValue>| value.as_ref().map(|value| trace::text(value.as_bytes()));
        let mut span = Span {
            start: at(self.started),
            end: wall,
            chosen: self.chosen.get().map(at),
            connected: self.connected.get().map(at),
            first_byte: self.first_byte.get().map(at),
            method: trace::text(self.method.as_str().as_bytes()),
            path: trace::text(self.path.borrow().as_bytes()),
            scheme: self.client.scheme(),
            protocol: self.protocol().trim_start_matches("HTTP/"),
            client: self.address.to_string(),
            request_id: String::from_utf8_lossy(self.request_id.as_bytes()).into_owned(),
            status: self.status.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            retries: self.retries.get(),
            revision: self.revision.0,
            host: field(&self.host.borrow()),
            user_agent: field(&self.user_agent),
            ended: fault.map(|fault| (fault.as_str(), self.phase.get().as_str())),
            ..Span::new(context)
        };
        if let Some(target) = target {
            span.namespace = Some(target.ingress.namespace.to_string());
            span.ingress = Some(target.ingress.name.to_string());
            span.service = target
                .pool
                .as_ref()
                .map(|pool| pool.id().service.name.to_string());
        }
        if let Some(endpoint) = self.endpoint.borrow().as_ref().and_then(At::endpoint) {
            let endpoint = &endpoint.endpoint;
            span.endpoint = Some(endpoint.address.to_string());
            span.pod = endpoint.pod.as_ref().map(|pod| pod.name.to_string());
            span.node = endpoint.node.as_ref().map(|node| node.0.to_string());
        }
        span
    }

    fn log(&self, total: Duration, fault: Option<Fault>, target: Option<&Target>) {
        let worker = &self.client.worker;
        worker.lines.line(&worker.counters, |line| {
            line.plain("client", self.address);
            line.text("method", self.method.as_str().as_bytes());
            if let Some(host) = &*self.host.borrow() {
                line.text("host", host.as_bytes());
            }
            line.text("path", self.path.borrow().as_bytes());
            line.plain(
                "protocol",
                match self.version {
                    Version::HTTP_10 => "http/1.0",
                    Version::HTTP_2 => "http/2",
                    Version::HTTP_3 => "http/3",
                    _ => "http/1.1",
                },
            );
            line.number("status", self.status.get());
            line.number("bytes_in", self.bytes_in.get());
            line.number("bytes_out", self.bytes_out.get());
            if let Some(target) = target {
                line.text("namespace", target.ingress.namespace.as_bytes());
                line.text("ingress", target.ingress.name.as_bytes());
                if let Some(pool) = &target.pool {
                    line.text("service", pool.id().service.name.as_bytes());
                    line.number("service_port", pool.id().port);
                }
            }
            if let Some(endpoint) = self.endpoint.borrow().as_ref().and_then(At::endpoint) {
                let sekisho_config::model::Endpoint {
                    address, pod, node, ..
                } = &endpoint.endpoint;
                line.plain("endpoint", address);
                if let Some(pod) = pod {
                    line.text("pod", pod.name.as_bytes());
                }
                if let Some(node) = node {
                    line.text("node", node.0.as_bytes());
                }
            }
            line.number("revision", self.revision);
            line.text("appliance", worker.shared.appliance.as_bytes());
            let since = |at: Option<Instant>, from: Instant| at.map(|at| at.saturating_duration_since(from));
            if let Some(wait) = since(self.chosen.get(), self.started) {
                line.seconds("wait_seconds", wait);
            }
            if let Some(connect) = self
                .chosen
                .get()
                .and_then(|from| since(self.connected.get(), from))
            {
                line.seconds("connect_seconds", connect);
            }
            if let Some(first_byte) = self
                .connected
                .get()
                .and_then(|from| since(self.first_byte.get(), from))
            {
                line.seconds("first_byte_seconds", first_byte);
            }
            line.seconds("total_seconds", total);
            line.number("retries", self.retries.get());
            if let Some(tls) = &self.client.tls {
                line.plain("tls_version", tls.version);
                if let Some(sni) = &tls.sni {
                    line.text("sni", sni.as_bytes());
                }
            }
            if let Some(peer) = &*self.certified.borrow() {
                line.text("client_subject", peer.subject.as_bytes());
                line.text("client_fingerprint", peer.fingerprint.as_bytes());
            }
            if let Some(user) = &*self.user.borrow() {
                line.text("user", user.as_bytes());
            }
            if let Some(agent) = &self.user_agent {
                line.text("user_agent", agent.as_bytes());
            }
            line.text("request_id", self.request_id.as_bytes());
            if let Some(fault) = fault {
                line.plain("ended_by", fault.as_str());
                line.plain("ended_in", self.phase.get().as_str());
            }
        });
    }
}
