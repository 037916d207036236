//! HTTP: the client's connection, the request made canonical, the route, the endpoint, both bodies.

pub(crate) mod alt_svc;
mod answer;
mod body;
mod call;
mod coded;
mod coder;
pub(crate) mod connection;
mod date;
mod exchange;
mod forward;
mod frame;
mod grpc;
pub(crate) mod headers;
mod held;
mod host;
mod http2;
pub(crate) mod http3;
mod io;
mod output;
mod patience;
mod respond;
mod server;
mod service;
mod stream_body;
mod stream_call;
mod upgrade;

pub(crate) use exchange::Target;
