//! HTTP/2 (RFC 9113) as a server speaks it, as a pure machine: octets in, requests out, octets out. No socket, no clock.
//!
//! - [`connection`]: frames in, what becomes of them, frames out; all that is known of a connection.
//! - `stream`: the streams that are open, and what flow control lets each of them send.
//! - `hpack`: header sections as octets (RFC 7541).
//! - `section`: what the fields of a section are together: a request, trailers, or malformed.
//! - `guard`: frames that cost a client nothing and a server something are counted, and bounded.

pub mod connection;
mod frame;
mod guard;
pub(crate) mod hpack;
mod section;
mod stream;
#[cfg(test)]
mod tests;

pub use self::connection::{Asked, Connection, Gone, Piece, Settings};
pub use self::frame::Reason;
pub use self::guard::{Fault, Limits, Offence};
pub use self::stream::Key;
