//! HTTP/3 towards clients: QUIC by quinn, the octets of HTTP/3 by [`crate::h3`], requests by the same service as all others.
//!
//! Each worker has a socket of its own for each listener, and with it the connections whose IDs name it.

mod body;
mod connection;
mod endpoint;
mod link;
mod send;
mod settings;
mod stream;
mod tunnel;

pub(crate) use self::body::Http3Request;
pub(crate) use self::endpoint::{Opening, run};
pub(crate) use self::send::Respond;
pub(crate) use self::settings::{Keys, Tls};
