//! Where interim answers go, by the protocol of the client, if a stream carries its request.

use http::StatusCode;

use super::{http2, http3};
use crate::fields::Fields;

#[derive(Clone, Debug)]
pub(crate) enum Respond {
    Http2(http2::Respond),
    Http3(http3::Respond),
}

impl Respond {
    /// Sends an interim answer. A client that has left gets nothing.
    pub(crate) fn interim(&self, status: StatusCode, fields: &Fields) {
        match self {
            Self::Http2(respond) => respond.interim(status, fields),
            Self::Http3(respond) => respond.interim(status, fields),
        }
    }
}
