//! One request and its answer: what the log and the metrics say of it when it has ended.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Version};
use sekisho_config::model::{ObjectName, Revision};
use tokio::time::Instant;

use super::connection::Client;
use crate::metrics;
use crate::snapshot::{CompiledEndpoint, CompiledPool, Finished};

/// Who ended an exchange before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Client,
    Upstream,
    Proxy,
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
}

/// The endpoint in use, which counts the request as its own until this is dropped.
#[derive(Debug)]
pub(crate) struct At {
    target: Rc<Target>,
    index: usize,
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
        };
        at.endpoint()?.state.enter();
        Some(at)
    }

    fn endpoint(&self) -> Option<&CompiledEndpoint> {
        self.target.pool.as_ref()?.endpoints().get(self.index)
    }
}

impl Drop for At {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint() {
            endpoint.state.leave();
        }
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
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) request_id: HeaderValue,
    pub(crate) target: RefCell<Option<Rc<Target>>>,
    pub(crate) endpoint: RefCell<Option<At>>,
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
    pub(crate) chosen: Cell<Option<Instant>>,
    pub(crate) connected: Cell<Option<Instant>>,
    pub(crate) first_byte: Cell<Option<Instant>>,
}

impl Exchange {
    /// The request is now at this endpoint of the target.
    pub(crate) fn at(&self, target: &Rc<Target>, address: SocketAddr) {
        *self.endpoint.borrow_mut() = At::enter(target, address);
    }

    /// Notes whose fault the end is; the first one counts.
    pub(crate) fn blame(&self, fault: Fault) {
        if self.fault.get().is_none() {
            self.fault.set(Some(fault));
        }
    }

    /// Counts a failure of the endpoint in use.
    pub(crate) fn endpoint_failed(&self) {
        if let Some(endpoint) = self.endpoint.borrow().as_ref().and_then(At::endpoint) {
            endpoint.state.failed();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
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
        if self.client.live.http.access_log {
            self.log(total, fault, target.as_deref());
        }
    }
}

impl Exchange {
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
            if let Some(agent) = &self.user_agent {
                line.text("user_agent", agent.as_bytes());
            }
            line.text("request_id", self.request_id.as_bytes());
            if let Some(fault) = fault {
                line.plain(
                    "ended_by",
                    match fault {
                        Fault::Client => "client",
                        Fault::Upstream => "upstream",
                        Fault::Proxy => "proxy",
                    },
                );
                line.plain("ended_in", self.phase.get().as_str());
            }
        });
    }
}
