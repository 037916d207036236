//! An answer.

use http::{StatusCode, Version};

use crate::fields::Fields;

/// What an answer says before its body.
#[derive(Debug, Default)]
pub struct Parts {
    /// Status.
    pub status: StatusCode,
    /// The protocol that brought it.
    pub version: Version,
    /// Header section.
    pub headers: Fields,
}

/// An answer with its body.
#[derive(Debug)]
pub(crate) struct Response<B> {
    parts: Parts,
    body: B,
}

impl<B> Response<B> {
    /// 200, with no fields.
    pub(crate) fn new(body: B) -> Self {
        Self::from_parts(Parts::default(), body)
    }

    pub(crate) fn from_parts(parts: Parts, body: B) -> Self {
        Self { parts, body }
    }

    pub(crate) fn into_parts(self) -> (Parts, B) {
        (self.parts, self.body)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.parts.status
    }

    pub(crate) fn status_mut(&mut self) -> &mut StatusCode {
        &mut self.parts.status
    }

    pub(crate) fn headers(&self) -> &Fields {
        &self.parts.headers
    }

    pub(crate) fn headers_mut(&mut self) -> &mut Fields {
        &mut self.parts.headers
    }

    pub(crate) fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    pub(crate) fn map<T>(self, change: impl FnOnce(B) -> T) -> Response<T> {
        Response::from_parts(self.parts, change(self.body))
    }
}
