//! HTTP/1.1 messages (RFC 9112) as pure functions over octets: no socket, no clock.
//!
//! - [`head`]: a header section, line by line, resumable, strict: whatever two parsers could read differently is a
//!   [`head::Fault`].
//! - [`request`], [`response`]: start lines and where a body ends (RFC 9112 section 6.3).
//! - [`body`], [`chunked`]: bodies out of a buffer.
//! - [`encode`]: header sections and chunks into a buffer.

pub mod body;
pub mod chunked;
pub(crate) mod encode;
pub mod head;
pub mod request;
pub mod response;

pub use body::{Decoded, Decoder};
pub use head::{Fault, Limits};
