//! A request without its body.

use http::{Extensions, Method, Uri, Version};

use crate::fields::Fields;

/// What a request says before its body.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Method.
    pub method: Method,
    /// Request target.
    pub uri: Uri,
    /// The protocol that brought it.
    pub version: Version,
    /// Header section.
    pub headers: Fields,
    /// What its connection knows of it besides.
    pub extensions: Extensions,
}
