//! Requests and answers on their way through, whatever protocol brought them and whatever protocol takes them on.

pub mod request;
pub mod response;

pub(crate) use response::Response;
