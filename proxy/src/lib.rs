//! The data plane: HTTP and TCP from clients to pods.
//!
//! - In: immutable [`snapshot::Snapshot`]s, compiled by the control task and handed over with [`Handle::publish`].
//! - Out: [`Event`]s about listening sockets, metrics, the access log.
//! - Inside: one single-threaded runtime per worker, each with its own `SO_REUSEPORT` sockets and its own kept
//!   connections to endpoints. A request loads one snapshot and keeps it to its end; nothing on its way is locked.
//!
//! It does not decide what is wished or which endpoint is reachable; it speaks HTTP/1.1 and HTTP/2 to clients and
//! to endpoints, in the clear and over TLS, and HTTP/3 to clients.

mod accept;
mod access_log;
mod addresses;
mod alarm;
pub mod balance;
mod budget;
mod buffers;
mod client_auth;
mod clock;
mod compress;
mod datagrams;
mod door;
pub mod fields;
mod filter;
pub mod h1;
pub mod h2;
pub mod h3;
pub mod health;
mod http;
mod l4;
mod listen;
pub mod message;
mod metrics;
pub mod moment;
pub mod path;
pub mod proxy_protocol;
mod pulse;
pub mod route;
pub mod snapshot;
mod socket;
mod splice;
mod start;
mod stream;
mod timer;
mod tls;
mod trace;
mod transport;
mod tunnel;
mod upstream;
mod wire;
mod worker;

pub use snapshot::Snapshot;
pub use start::{Event, Handle, Inputs, Live, StartError, start, start_with_log};
