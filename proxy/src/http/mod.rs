//! HTTP: the client's connection, the request made canonical, the route, the endpoint, both bodies.

mod answer;
mod body;
pub(crate) mod connection;
mod exchange;
mod forward;
mod headers;
mod host;
mod io;
mod service;
mod upgrade;

pub(crate) use body::RequestBody;
pub(crate) use exchange::Target;
