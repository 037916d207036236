//! The data plane on loopback: octets in, octets out, at raw clients and raw backends.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod access_log;
mod backend_http2;
mod backend_tls;
mod backends;
mod balancing;
mod client_certificates;
mod compression;
mod door;
mod exhaustion;
mod filters;
mod frames;
mod framing;
mod health;
mod hostile;
mod http2;
mod http3;
mod kit;
mod lifecycle;
mod mirror;
mod passwords;
mod proxy_protocol;
mod proxying;
mod routes;
mod support;
mod tcp;
mod timeouts;
mod tls;
mod upgrade;
